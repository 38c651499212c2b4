/* policies.c - what the policies of the tables save, in worlds of prompts with known laws.
 *
 * usage: policies [PROMPTS [WORLDS [RESAMPLES [DECISIONS]]]]. For each mix of prompts and each allocator: the share of
 * prompts that are right at mean budgets of 4, 8, 16 and 32, and how many times more rollouts an even vote needs for the
 * same share, with its 90 % interval. Stoppers and selectors stand below. Last, the time of one decision with DECISIONS
 * prompts. Ends with status 1 when a policy covers more than the oracle of its kind, which only a fault could do. */
#include "broker/policy/bins.h"
#include "tests/unit/policy_curve.h"

#include <stdio.h>
#include <time.h>

static const struct law laws[] = {
    {.name = "60 % easy (.95), 40 % Dirichlet(.3)", .votes = true, .easy_share = .6, .dirichlet = .3},
    {.name = "Dirichlet(.1)", .votes = true, .dirichlet = .1},
    {.name = "Dirichlet(.3)", .votes = true, .dirichlet = .3},
    {.name = "Beta(.5, .5), as Snell et al.", .a = .5, .b = .5},
    {.name = "Beta(.27, .41), as MATH", .a = .2720, .b = .4080},
    {.name = "Beta(.12, .65), as SWE-bench", .a = .1220, .b = .6454},
};

static const uint32_t means[] = {4, 8, 16, 32};
enum { MEANS = sizeof means / sizeof *means, SPREAD = 16, STOPPER_CAP = 128, SELECTOR_N = 16 };

enum { BINS_BY, BINS_PILOT, BINS_SOLVED, BINS_EDGES, BINS_N = BINS_EDGES + BINS - 1 }; /* options of `bins` */
enum { PILOT = 4 };

/* Allocators with other options than their defaults. A plan is made before any result; who knows, knows every rate, and
 * is only of interest where coverage counts; for fitted bins the mean budget says the rest of the options. */
static const struct variant {
    const char *name;
    const struct allocator *allocator;
    double options[POLICY_OPTIONS_MAX];
    bool plan, knows;
} variants[] = {
    {"elimination/ucb", &allocate_elimination, {.5, 1, 1, 1}, false, false},
    {"elimination/gap", &allocate_elimination, {.5, 2, 1, 1}, false, false},
    {"elimination/entropy", &allocate_elimination, {.5, 3, 1, 1}, false, false},
    {"marginal-gain/plan", &allocate_marginal_gain, {1, 1, 0}, true, false},
    {"marginal-gain/plan+", &allocate_marginal_gain, {1, 1, 0}, true, true},
    {"marginal-gain/known", &allocate_marginal_gain, {1, 1, 1}, false, true},
    {"bins/pilot", &allocate_bins, {BY_PASSES, PILOT}, false, false},
    {"bins/known", &allocate_bins, {BY_PRIOR, PILOT}, true, true},
};

static uint32_t prompts = 300, worlds = 14, resamples = 200, decisions = 1000000;
static int status;

/* ---- the mix ---- */

static void print_mix(const struct study *s, const struct law *law)
{
    double bins[5] = {0}, aligned = 0, all = (double)s->worlds_len * s->prompts;
    for (uint32_t j = 0; j < s->worlds_len * s->prompts; j++) {
        const struct world *w = &s->worlds[j / s->prompts];
        uint32_t i = j % s->prompts, mode = w->mode[i];
        double top = law->votes ? w->reach[i][mode] - (mode > 0 ? w->reach[i][mode - 1] : 0) : world_theta(w, i);
        bins[top < 1 ? (int)(5 * top) : 4] += 1 / all;
        aligned += (mode == 0) / all;
    }
    printf("\n== %s: %u worlds of %u prompts; right is %s\n", law->name, s->worlds_len, s->prompts,
           law->votes ? "the vote that finds the most likely answer" : "any rollout that passes");
    printf("   share of prompts by the probability of %s, in fifths:", law->votes ? "that answer" : "a pass");
    for (int b = 0; b < 5; b++)
        printf(" %.2f", bins[b]);
    printf("; the right answer is the most likely one of %.2f\n", aligned);
}

/* ---- allocators ---- */

static struct plan_of_run plan_of(const struct allocator *allocator, uint32_t mean)
{
    bool even = allocator == &allocate_uniform || allocator->existing;
    return (struct plan_of_run){.allocator = allocator,
                                .stopper = &stop_none,
                                .selector = &select_majority,
                                .cap = even ? mean : SPREAD * mean,
                                .budget = (uint64_t)mean * prompts};
}

static void print_saving(const struct saving *saving)
{
    printf("  %.4f %s%5.2f (%.2f-%.2f)", saving->right, saving->beyond ? ">" : " ", saving->ratio, saving->low,
           saving->high);
}

/* No policy covers more than the oracle of its kind, up to three standard errors. */
static void hold_below(const char *name, double right, double oracle)
{
    if (right <= oracle + 3 * sqrt(oracle * (1 - oracle) / prompts / worlds))
        return;
    printf("  ABOVE ITS ORACLE: %s covers %.4f, the oracle %.4f", name, right, oracle);
    status = 1;
}

/* Bins for a mean budget, as `drover fit-bins` would find them with the law of the worlds. */
static void fit_options(const struct study *s, const struct law *law, const struct variant *variant, uint32_t mean,
                        double options[POLICY_OPTIONS_MAX])
{
    uint32_t pilot = variant->knows ? 0 : PILOT;
    struct bin_case *cases = xalloc(s->worlds_len * s->prompts * (pilot + 1) * sizeof *cases);
    size_t len = 0;
    for (uint32_t i = 0; i < s->worlds_len; i++) {
        struct belief *known = world_beliefs(&s->worlds[i]);
        for (uint32_t p = 0; p < s->prompts; p++)
            len += bins_cases(variant->knows ? known[p] : (struct belief){law->a, law->b}, pilot, cases + len);
        free(known);
    }
    struct bins bins = bins_fit(cases, len, pilot, mean, SPREAD * mean);
    for (int e = 0; e < BINS - 1; e++)
        options[BINS_EDGES + e] = bins.edges[e];
    for (int q = 0; q < BINS; q++)
        options[BINS_N + q] = bins.n[q];
    free(cases);
}

/* planned, feedback: what the oracles cover. */
struct rails {
    double planned[MEANS], feedback[MEANS];
};

static void allocator_row(const struct study *s, const struct law *law, const struct variant *variant, bool defaults,
                          const struct rails *rails)
{
    printf("%-20s", variant->name);
    for (int m = 0; m < MEANS; m++) {
        double options[POLICY_OPTIONS_MAX];
        struct plan_of_run plan = plan_of(variant->allocator, means[m]);
        memcpy(options, variant->options, sizeof options);
        if (!defaults && variant->allocator == &allocate_bins)
            fit_options(s, law, variant, means[m], options);
        plan.options[0] = defaults ? NULL : options;
        plan.knows = variant->knows;
        struct saving saving = study_saving(s, &plan, resamples);
        print_saving(&saving);
        if (!s->worlds[0].votes)
            hold_below(variant->name, saving.right, variant->plan ? rails->planned[m] : rails->feedback[m]);
    }
    printf("\n");
}

/* Both oracles, and what they reach at each mean budget. */
static void oracle_rows(const struct study *s, struct rails *rails)
{
    for (int m = 0; m < MEANS; m++) {
        uint64_t budget = (uint64_t)means[m] * prompts;
        for (uint32_t i = 0; i < worlds; i++) {
            struct run run = rail_feedback(&s->worlds[i], budget);
            for (uint32_t p = 0; p < prompts; p++)
                rails->feedback[m] += (double)run.right[p] / prompts / worlds;
            rails->planned[m] += rail_static(&s->worlds[i], (double)budget) / worlds;
            run_clear(&run);
        }
    }
    printf("%-20s", "oracle, plan");
    for (int m = 0; m < MEANS; m++)
        printf("  %.4f%20s", rails->planned[m], "");
    printf("\n%-20s", "oracle");
    for (int m = 0; m < MEANS; m++)
        printf("  %.4f%20s", rails->feedback[m], "");
    printf("\n");
}

static void allocator_table(const struct study *s, const struct law *law)
{
    struct rails rails = {{0}, {0}};
    printf("%-20s", "allocate");
    for (int m = 0; m < MEANS; m++)
        printf("  mean %-2u, saves%12s", means[m], "");
    printf("\n");
    if (!s->worlds[0].votes)
        oracle_rows(s, &rails);
    for (size_t i = 0; allocators[i]; i++)
        allocator_row(
            s, law,
            &(struct variant){allocators[i]->name, allocators[i], {0}, allocators[i] == &allocate_uniform, false}, true,
            &rails);
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        if (!s->worlds[0].votes || !(variants[i].knows || variants[i].allocator == &allocate_bins))
            allocator_row(s, law, &variants[i], false, &rails);
}

/* ---- stoppers and selectors, for votes ---- */

static bool several(uint32_t needs)
{
    return (needs & (NEED_LEGS | NEED_BLOCKS)) != 0;
}

static void stopper_table(const struct study *s)
{
    printf("%-20s  at most %d of every prompt\n", "stop", STOPPER_CAP);
    for (size_t i = 0; stoppers[i]; i++) {
        struct plan_of_run plan = plan_of(&allocate_uniform, STOPPER_CAP);
        plan.stopper = stoppers[i];
        printf("%-20s", stoppers[i]->name);
        if (stoppers[i]->features != 0 || several(stoppers[i]->needs)) {
            printf("  needs features of rollouts or several models, which these worlds do not have\n");
            continue;
        }
        struct saving saving = study_saving(s, &plan, resamples);
        print_saving(&saving);
        printf("  %.1f used\n", saving.used);
    }
}

static void selector_table(const struct study *s)
{
    printf("%-20s  %d of every prompt\n", "select", SELECTOR_N);
    for (size_t i = 0; selectors[i]; i++) {
        struct plan_of_run plan = plan_of(&allocate_uniform, SELECTOR_N);
        plan.selector = selectors[i];
        printf("%-20s", selectors[i]->name);
        if (selectors[i]->features != 0 || several(selectors[i]->needs))
            printf("  needs features of rollouts or several models, which these worlds do not have\n");
        else
            printf("  %.4f\n", study_saving(s, &plan, 0).right);
    }
}

/* ---- the time of a decision ---- */

static double cpu_us(void)
{
    return (double)clock() * (1e6 / CLOCKS_PER_SEC);
}

/* A decision: the prompt on top of the heap is opened, its rollout folded, its new gain moved into place. */
static void decision_row(const struct world *w, const struct allocator *allocator)
{
    enum { WARM = 3, PER = 2 };
    struct plan_of_run plan = plan_of(allocator, 64);
    struct play play;
    uint32_t prompt;
    uint64_t left = (uint64_t)WARM * decisions;
    play_start(&play, &plan, decisions);
    for (; left > 0 && play_open(&play, &prompt); left--)
        play_deliver(&play, w, prompt);
    double start = cpu_us();
    for (left = (uint64_t)PER * decisions; left > 0 && play_open(&play, &prompt); left--)
        play_deliver(&play, w, prompt);
    double made = (double)PER * decisions - (double)left;
    printf("%-20s  %.2f us\n", allocator->name, (cpu_us() - start) / fmax(made, 1));
    for (uint32_t i = 0; i < decisions; i++)
        stats_clear(&play.cells[i].stats);
    free(play.cells);
    free(play.heap);
}

static void decision_table(void)
{
    struct world w = world_new(&laws[0], decisions, 1);
    printf("\n== one decision with %u prompts: open, fold, gain, heap; target: 5 us\n", decisions);
    for (size_t i = 0; allocators[i]; i++)
        decision_row(&w, allocators[i]);
    world_clear(&w);
}

int main(int argc, char **argv)
{
    uint32_t *const numbers[] = {&prompts, &worlds, &resamples, &decisions};
    for (int i = 1; i < argc && i <= 4; i++)
        *numbers[i - 1] = (uint32_t)strtoul(argv[i], NULL, 10);
    for (size_t l = 0; l < sizeof laws / sizeof *laws; l++) {
        struct study study;
        study_init(&study, &laws[l], prompts, worlds);
        print_mix(&study, &laws[l]);
        allocator_table(&study, &laws[l]);
        if (laws[l].votes) {
            stopper_table(&study);
            selector_table(&study);
        }
        fflush(stdout);
        study_clear(&study);
    }
    if (decisions > 0)
        decision_table();
    return status;
}
