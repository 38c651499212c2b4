/* forecast.c - candidates, their simulation in worlds drawn from a pilot, and the choice; see forecast.h. */
#include "broker/forecast.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- candidates ----------------------------------------------------------------------------------------------------- */

/* The file of a simulation, written arm by arm. */
struct draft {
    struct forecast *forecast;
    struct buf arms;
    uint32_t len;
};

static void add_arm(struct draft *draft, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add_arm(struct draft *draft, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct forecast *f = draft->forecast;
    f->texts = xrealloc(f->texts, (draft->len + 1) * sizeof *f->texts);
    f->texts[draft->len++] = xstrdup(text);
    buf_printf(&draft->arms, "  - %s\n", text);
}

/* 4, 8, 16, ... and the largest n itself. */
static uint32_t caps_of(uint32_t n_most, uint32_t caps[SAVING_STEPS_MAX])
{
    uint32_t len = 0;
    for (uint32_t cap = 4; cap < n_most; cap *= 2)
        caps[len++] = cap;
    caps[len++] = n_most;
    return len;
}

static void add_votes(struct draft *draft)
{
    static const char *const stops[] = {"beta", "esc", "curtail", "ppr"};
    uint32_t steps[SAVING_STEPS_MAX], caps[SAVING_STEPS_MAX], n = draft->forecast->n_most;
    uint32_t steps_len = saving_steps(n, steps), caps_len = caps_of(n, caps);
    for (uint32_t i = 0; i < steps_len; i++)
        add_arm(draft, "{name: vote-%u, n: %u}", steps[i], steps[i]);
    for (size_t s = 0; s < sizeof stops / sizeof stops[0]; s++)
        for (uint32_t i = 0; i < caps_len; i++)
            add_arm(draft, "{name: %s-%u, n: %u, stop: %s}", stops[s], caps[i], caps[i], stops[s]);
}

/* Mean rollouts of a prompt that an arm with a budget of its own may have. */
static uint32_t means_of(const struct forecast *f, double means[SAVING_STEPS_MAX])
{
    uint32_t len = 0;
    double budget = f->options.budget / f->prompts;
    if (f->options.unit == UNIT_ROLLOUTS && budget >= 1 && budget <= f->n_most)
        means[len++] = budget;
    for (double mean = 2; mean <= f->n_most / 2.0; mean *= 2)
        if (len == 0 || mean != means[0])
            means[len++] = mean;
    return len;
}

enum { SPREAD = 16 }; /* rollouts of a prompt at most, in means: no prompt may take everything */

static void add_budgeted(struct draft *draft, const char *allocate, const char *name, const char *more)
{
    const struct forecast *f = draft->forecast;
    double means[SAVING_STEPS_MAX];
    uint32_t len = means_of(f, means);
    for (uint32_t i = 0; i < len; i++) {
        uint32_t n = means[i] * SPREAD < f->n_most ? (uint32_t)(means[i] * SPREAD) : f->n_most;
        add_arm(draft, "{name: %s-%.6g, n: %u, allocate: %s, budget: {rollouts: %.0f}%s}", name, means[i], n, allocate,
                floor(means[i] * f->prompts), more);
    }
}

static void add_checked(struct draft *draft)
{
    uint32_t caps[SAVING_STEPS_MAX], len = caps_of(draft->forecast->n_most, caps);
    char more[128];
    snprintf(more, sizeof more, ", select: first-pass, verifier: %.64s", draft->forecast->options.truth);
    for (uint32_t i = 0; i < len; i++)
        add_arm(draft, "{name: checked-%u, n: %u, allocate: elimination%s}", caps[i], caps[i], more);
    add_budgeted(draft, "elimination", "checked-mean", more);
    add_budgeted(draft, "marginal-gain", "checked-gain", more);
}

/* Votes of one judge: the same one, asked once, twice, four times. */
static const uint32_t votes_of[] = {1, 2, 4};
enum { VOTES = sizeof votes_of / sizeof votes_of[0] };

static void verifier_name(const struct forecast_verifier *verifier, int votes, struct buf *out)
{
    buf_reset(out);
    buf_printf(out, "%.50s", verifier->name);
    if (votes_of[votes] > 1)
        buf_printf(out, "-x%u", votes_of[votes]);
}

static void add_judged(struct draft *draft, const struct forecast_verifier *verifier)
{
    const struct forecast *f = draft->forecast;
    uint32_t steps[SAVING_STEPS_MAX], caps[SAVING_STEPS_MAX], n = f->n_most;
    uint32_t len = saving_steps(n, steps), caps_len = caps_of(n, caps);
    struct buf name = {0};
    for (int v = 0; v < VOTES; v++) {
        verifier_name(verifier, v, &name);
        for (uint32_t i = 0; i < len; i++)
            add_arm(draft, "{name: %s-weighted-%u, n: %u, select: weighted, verifier: %s}", name.data, steps[i],
                    steps[i], name.data);
    }
    verifier_name(verifier, 0, &name);
    for (uint32_t i = 0; i < caps_len; i++)
        add_arm(draft,
                "{name: %s-flaws-%u, n: %u, stop: {flaws: {tpr: %.4g, fpr: %.4g, cost: 1, a: %.4g, b: %.4g}}, "
                "select: first-pass, verifier: %s}",
                name.data, caps[i], caps[i], fmax(verifier->rates.true_pass, 0.001),
                fmin(verifier->rates.false_pass, 0.999999), fmin(fmax(f->fit.law.alpha, 0.01), 1000),
                fmin(fmax(f->fit.law.beta, 0.01), 1000), name.data);
    buf_clear(&name);
}

static void put_verifiers(const struct forecast *f, struct buf *out)
{
    struct buf name = {0};
    if (f->options.truth == NULL && f->options.verifiers_len == 0)
        return;
    buf_puts(out, "verifiers:\n");
    if (f->options.truth != NULL)
        buf_printf(out, "  - {name: %.64s, kind: exact, seconds: 0}\n", f->options.truth);
    for (uint32_t i = 0; i < f->options.verifiers_len; i++)
        for (int v = 0; v < VOTES; v++) {
            const struct forecast_verifier *verifier = &f->options.verifiers[i];
            verifier_name(verifier, v, &name);
            buf_printf(out, "  - {name: %s, kind: noisy, tpr: %.6g, fpr: %.6g, icc: %.6g, votes: %u, seconds: 0}\n",
                       name.data, verifier->rates.true_pass, verifier->rates.false_pass, verifier->icc, votes_of[v]);
        }
    buf_clear(&name);
}

/* Writes the candidates as the file of a simulation and reads it: the arms that are printed are those that ran. */
static int make_candidates(struct forecast *f, struct error *error)
{
    struct draft draft = {.forecast = f};
    struct buf text = {0};
    add_votes(&draft);
    add_budgeted(&draft, "flip", "flip", "");
    if (f->options.truth != NULL)
        add_checked(&draft);
    for (uint32_t i = 0; i < f->options.verifiers_len; i++)
        add_judged(&draft, &f->options.verifiers[i]);
    buf_printf(&text, "world: {prompts: %u, seeds: %u, seed: %llu}\nlengths: {prompt: %.0f, most: %u}\n", f->prompts,
               f->options.worlds, (unsigned long long)f->options.seed, fmax(1, f->fit.tokens_in), 1u << 20);
    put_verifiers(f, &text);
    buf_printf(&text, "arms:\n%s", draft.arms.data);
    int rc = simulation_spec_parse(buf_slice(&text), "candidates", NULL, 0, &f->spec, error);
    buf_clear(&text);
    buf_clear(&draft.arms);
    f->len = draft.len;
    f->candidates = xalloc((f->len + (size_t)1) * sizeof *f->candidates);
    for (uint32_t c = 0; rc == 0 && c < f->len; c++)
        f->candidates[c] = (struct forecast_candidate){.arm = &f->spec.sweep.arms[c], .text = f->texts[c]};
    return rc;
}

/* -- one world ------------------------------------------------------------------------------------------------------ */

/* What a candidate did in one world, of a prompt. */
struct outcome_sums {
    double right, rollouts, tokens, verdicts;
};

struct measured {
    struct outcome_sums all, half[2]; /* half: of the harder and the easier prompts */
};

static void measured_add(struct measured *to, bool easy, const struct outcome_sums *one)
{
    struct outcome_sums *const both[] = {&to->all, &to->half[easy]};
    for (int i = 0; i < 2; i++) {
        both[i]->right += one->right;
        both[i]->rollouts += one->rollouts;
        both[i]->tokens += one->tokens;
        both[i]->verdicts += one->verdicts;
    }
}

/* Judgements that a verdict of this arm's verifier takes. */
static double judgements(const struct forecast *f, const struct sweep_arm *arm)
{
    return arm->verifier == UINT32_MAX ? 0 : f->spec.verifiers[arm->verifier].votes;
}

static bool takes_all(const struct sweep_arm *arm)
{
    return arm->stop.policy == &stop_none && arm->allocate.policy == &allocate_uniform;
}

/* Candidates from `first` on that take all n, by one selector and verifier, n rising: their rollouts are each other's. */
static uint32_t family_len(const struct forecast *f, uint32_t first)
{
    uint32_t len = 1;
    const struct sweep_arm *of = f->candidates[first].arm;
    if (!takes_all(of))
        return 0;
    for (; first + len < f->len && len < SAVING_STEPS_MAX; len++) {
        const struct sweep_arm *arm = f->candidates[first + len].arm;
        if (!takes_all(arm) || arm->select.policy != of->select.policy || arm->verifier != of->verifier ||
            arm->n <= f->candidates[first + len - 1].arm->n)
            break;
    }
    return len;
}

static void measure_family(const struct forecast *f, const struct world *world, const bool *easy, uint32_t first,
                           uint32_t len, struct measured *measured)
{
    uint32_t steps[SAVING_STEPS_MAX];
    struct saving_cell cells[SAVING_STEPS_MAX];
    for (uint32_t i = 0; i < len; i++)
        steps[i] = f->candidates[first + i].arm->n;
    for (uint32_t p = 0; p < world->prompts_len; p++) {
        simulate_uniform(&f->spec, world, first, p, steps, len, cells);
        for (uint32_t i = 0; i < len; i++) {
            bool judged = f->candidates[first].arm->verifier != UINT32_MAX;
            struct outcome_sums one = {cells[i].right, cells[i].rollouts, cells[i].tokens,
                                       judged ? cells[i].rollouts : 0};
            measured_add(&measured[first + i], easy[p], &one);
        }
    }
}

static int measure_arm(const struct forecast *f, const struct world *world, const bool *easy, uint32_t c,
                       struct measured *measured, struct error *error)
{
    struct simulated_run run;
    int rc = simulate_arm(&f->spec, world, c, &run, error);
    for (uint32_t p = 0; rc == 0 && p < world->prompts_len; p++) {
        bool judged = f->candidates[c].arm->verifier != UINT32_MAX;
        const struct simulated_prompt *prompt = &run.prompts[p];
        struct outcome_sums one = {prompt->good, prompt->rollouts, (double)prompt->tokens,
                                   judged ? prompt->rollouts : 0};
        measured_add(&measured[c], easy[p], &one);
    }
    simulated_run_clear(&run);
    return rc;
}

struct rank {
    double right;
    uint32_t prompt;
};

static int by_right(const void *a, const void *b)
{
    const struct rank *x = a, *y = b;
    return x->right != y->right ? (x->right > y->right) - (x->right < y->right)
                                : (x->prompt > y->prompt) - (x->prompt < y->prompt);
}

/* The easier half of the prompts, by how likely their rollouts are right. */
static bool *easier_half(const struct world *world)
{
    bool *easy = xalloc((world->prompts_len + (size_t)1) * sizeof *easy);
    struct rank *ranks = xalloc((world->prompts_len + (size_t)1) * sizeof *ranks);
    for (uint32_t p = 0; p < world->prompts_len; p++)
        ranks[p] = (struct rank){world->prompts[p].right, p};
    qsort(ranks, world->prompts_len, sizeof *ranks, by_right);
    for (uint32_t p = world->prompts_len / 2; p < world->prompts_len; p++)
        easy[ranks[p].prompt] = true;
    free(ranks);
    return easy;
}

/* Prompts resampled, laws fitted again, every prompt's own from its posterior. */
static int measure_world(const struct forecast *f, uint32_t w, struct measured *measured, struct error *error)
{
    const struct pilot *pilot = f->pilot;
    uint32_t *pick = xalloc(pilot->len * sizeof *pick);
    for (uint32_t i = 0; i < pilot->len; i++)
        pick[i] = (uint32_t)(rng_u64(f->options.seed, RNG_BOOTSTRAP, w, i) % pilot->len);
    struct pilot_fit fit = pilot_fit(pilot, pick, pilot->len);
    struct pilot_source source = {pilot, &fit, pick, pilot->len, f->options.prompts > 0};
    struct world_law law = f->spec.law;
    uint32_t tokens_in = law.lengths.prompt; /* costs are counted with that of the whole pilot */
    pilot_law(&source, &law);
    law.lengths.prompt = tokens_in;
    struct world *world = world_new(&law, f->prompts, rng_u64(f->options.seed, RNG_WORLD, w, 1));
    bool *easy = easier_half(world);
    int rc = 0;
    for (uint32_t c = 0, len; rc == 0 && c<f->len; c += len> 0 ? len : 1) {
        len = family_len(f, c);
        if (len > 0)
            measure_family(f, world, easy, c, len, measured);
        else
            rc = measure_arm(f, world, easy, c, measured, error);
    }
    free(easy);
    world_free(&world);
    free(pick);
    return rc;
}

/* -- costs ---------------------------------------------------------------------------------------------------------- */

static double cost_in(const struct forecast *f, const struct sweep_arm *arm, const struct outcome_sums *sums,
                      enum forecast_unit unit)
{
    const struct forecast_options *o = &f->options;
    bool truth = o->truth != NULL && arm->verifier == 0; /* asking it costs nothing that is counted */
    double judged = truth ? 0 : sums->verdicts * judgements(f, arm) * o->judgement;
    double each = sums->rollouts > 0 ? sums->tokens / sums->rollouts : 0;
    double read = f->spec.law.lengths.prompt * sums->rollouts;
    double money = (read * o->price_in + (sums->tokens - read) * o->price_out) / 1e6;
    switch (unit) {
    case UNIT_ROLLOUTS:
        return sums->rollouts + judged;
    case UNIT_TOKENS:
        return sums->tokens + judged * each;
    case UNIT_COST:
        return money + (sums->rollouts > 0 ? judged * money / sums->rollouts : 0);
    }
    return 0;
}

static struct interval normal_of(const double *values, uint32_t len, double least, double most)
{
    double mean = 0, squares = 0;
    for (uint32_t i = 0; i < len; i++)
        mean += values[i] / len;
    for (uint32_t i = 0; i < len; i++)
        squares += (values[i] - mean) * (values[i] - mean);
    double half = len > 1 ? 1.959964 * sqrt(squares / (len - 1)) : INFINITY;
    return (struct interval){mean, fmax(least, mean - half), fmin(most, mean + half)};
}

/* -- choice --------------------------------------------------------------------------------------------------------- */

/* What is asked for, in accuracy and in cost of a prompt. */
struct wish {
    double target, budget; /* NAN: none */
};

static bool fulfils(struct wish wish, double accuracy, double cost)
{
    return (isnan(wish.target) || accuracy >= wish.target) && (isnan(wish.budget) || cost <= wish.budget * (1 + 1e-9));
}

/* With a target the cheapest, else the most accurate; ties: the cheaper, then the earlier. */
static bool prefers(struct wish wish, double accuracy, double cost, double best_accuracy, double best_cost)
{
    if (!isnan(wish.target))
        return cost < best_cost || (cost <= best_cost && accuracy > best_accuracy);
    return accuracy > best_accuracy || (accuracy >= best_accuracy && cost < best_cost);
}

/* accuracy and cost: one of each candidate. */
static uint32_t choose(struct wish wish, const double *accuracy, const double *cost, uint32_t len)
{
    uint32_t best = NO_CANDIDATE;
    for (uint32_t c = 0; c < len; c++)
        if (fulfils(wish, accuracy[c], cost[c]) &&
            (best == NO_CANDIDATE || prefers(wish, accuracy[c], cost[c], accuracy[best], cost[best])))
            best = c;
    return best;
}

/* Everything that was measured: [candidate][world]. */
struct table {
    double *accuracy, *rollouts, *cost[UNITS];
    uint32_t worlds;
};

/* Without a target, arms that are no worse than the best one by more than one standard error of their difference are as
 * good as it: the cheapest of these. */
static uint32_t thrifty(const struct forecast *f, const struct table *t, uint32_t best, const double *cost)
{
    uint32_t found = best;
    if (best == NO_CANDIDATE || !isnan(f->options.target))
        return best;
    for (uint32_t c = 0; c < f->len; c++) {
        double mean = 0, squares = 0, worlds = t->worlds;
        for (uint32_t w = 0; w < t->worlds; w++)
            mean += (t->accuracy[best * t->worlds + w] - t->accuracy[c * t->worlds + w]) / worlds;
        for (uint32_t w = 0; w < t->worlds; w++) {
            double apart = t->accuracy[best * t->worlds + w] - t->accuracy[c * t->worlds + w] - mean;
            squares += apart * apart;
        }
        if (cost[c] < cost[found] && mean <= sqrt(squares / worlds / fmax(1, worlds - 1)))
            found = c;
    }
    return found;
}

static void choose_all(struct forecast *f, const struct table *t)
{
    struct wish wish = {f->options.target, f->options.budget / f->prompts};
    double *accuracy = xalloc((f->len + (size_t)1) * 2 * sizeof *accuracy), *cost = accuracy + f->len;
    for (int half = 0; half < 2; half++) {
        for (uint32_t c = 0; c < f->len; c++) {
            accuracy[c] = f->candidates[c].half_accuracy[half];
            cost[c] = f->candidates[c].half_cost[half];
        }
        f->halves[half] = choose(wish, accuracy, cost, f->len);
    }
    for (uint32_t w = 0; w < t->worlds; w++) {
        for (uint32_t c = 0; c < f->len; c++) {
            accuracy[c] = t->accuracy[c * t->worlds + w];
            cost[c] = t->cost[f->options.unit][c * t->worlds + w];
        }
        uint32_t chosen = choose(wish, accuracy, cost, f->len);
        if (chosen != NO_CANDIDATE)
            f->candidates[chosen].chosen++;
    }
    for (uint32_t c = 0; c < f->len; c++) {
        accuracy[c] = f->candidates[c].accuracy.mean;
        cost[c] = f->candidates[c].cost[f->options.unit].mean;
    }
    f->highest = choose((struct wish){NAN, NAN}, accuracy, cost, f->len);
    f->best = thrifty(f, t, choose(wish, accuracy, cost, f->len), cost);
    for (uint32_t w = 0; f->best != NO_CANDIDATE && w < t->worlds; w++)
        f->chance +=
            fulfils(wish, t->accuracy[f->best * t->worlds + w], t->cost[f->options.unit][f->best * t->worlds + w]) /
            (double)t->worlds;
    free(accuracy);
}

/* -- verifiers ------------------------------------------------------------------------------------------------------ */

/* The verifiers of the candidates: the truth, if it may be asked, then each judge with its numbers of votes. */
static uint32_t sweep_verifier(const struct forecast *f, uint32_t verifier, int votes)
{
    return (f->options.truth != NULL ? 1 : 0) + verifier * VOTES + (uint32_t)votes;
}

static uint32_t split_rows(const struct forecast *f, uint32_t verifier, struct split_row *rows)
{
    uint32_t len = 0;
    for (uint32_t c = 0; c < f->len; c++) {
        const struct sweep_arm *arm = f->candidates[c].arm;
        if (!takes_all(arm))
            continue;
        if (arm->verifier == UINT32_MAX)
            rows[len++] = (struct split_row){{arm->n, 0}, f->candidates[c].accuracy.mean};
        for (int v = 0; v < VOTES; v++)
            if (arm->verifier == sweep_verifier(f, verifier, v))
                rows[len++] = (struct split_row){{arm->n, votes_of[v]}, f->candidates[c].accuracy.mean};
    }
    return len;
}

static void split_of(struct forecast *f, uint32_t verifier)
{
    double budgets[SAVING_STEPS_MAX];
    uint32_t budgets_len = 0;
    struct forecast_split *split = &f->splits[verifier];
    struct split_row *rows = xalloc((f->len + (size_t)1) * sizeof *rows);
    uint32_t len = split_rows(f, verifier, rows);
    for (double budget = 2; budget <= f->n_most; budget *= 2)
        budgets[budgets_len++] = budget;
    split->known =
        f->options.judgement > 0 && split_fit(rows, len, f->options.judgement, budgets, budgets_len, &split->law);
    split->crossover = split_crossover(rows, len, f->options.judgement, budgets, budgets_len);
    free(rows);
    const struct error_rates *rates = &f->options.verifiers[verifier].rates;
    double worth;
    repeats_worthwhile(&f->fit.law, *rates, 0, 100000, &split->ceiling);
    split->repeats = repeats_worthwhile(&f->fit.law, *rates, 1, 100000, &worth);
}

/* -- all of it ------------------------------------------------------------------------------------------------------ */

static void table_fill(const struct forecast *f, const struct measured *measured, uint32_t w, struct table *t)
{
    for (uint32_t c = 0; c < f->len; c++) {
        const struct outcome_sums *sums = &measured[c].all;
        size_t at = (size_t)c * t->worlds + w;
        t->accuracy[at] = sums->right / f->prompts;
        t->rollouts[at] = sums->rollouts / f->prompts;
        for (int unit = 0; unit < UNITS; unit++)
            t->cost[unit][at] = cost_in(f, f->candidates[c].arm, sums, (enum forecast_unit)unit) / f->prompts;
        for (int half = 0; half < 2; half++) {
            double prompts = half == 0 ? f->prompts / 2 : f->prompts - f->prompts / 2, worlds = t->worlds;
            const struct outcome_sums *part = &measured[c].half[half];
            f->candidates[c].half_accuracy[half] += part->right / prompts / worlds;
            f->candidates[c].half_cost[half] +=
                cost_in(f, f->candidates[c].arm, part, f->options.unit) / prompts / worlds;
        }
    }
}

static void summarise(struct forecast *f, const struct table *t)
{
    for (uint32_t c = 0; c < f->len; c++) {
        struct forecast_candidate *candidate = &f->candidates[c];
        size_t at = (size_t)c * t->worlds;
        candidate->accuracy = normal_of(t->accuracy + at, t->worlds, 0, 1);
        candidate->rollouts = normal_of(t->rollouts + at, t->worlds, 0, INFINITY);
        for (int unit = 0; unit < UNITS; unit++)
            candidate->cost[unit] = normal_of(t->cost[unit] + at, t->worlds, 0, INFINITY);
    }
}

static int simulate_all(struct forecast *f, struct error *error)
{
    size_t cells = (size_t)f->len * f->options.worlds;
    double *values = xalloc(cells * (2 + UNITS) * sizeof *values);
    struct table t = {.accuracy = values, .rollouts = values + cells, .worlds = f->options.worlds};
    for (int unit = 0; unit < UNITS; unit++)
        t.cost[unit] = values + (2 + (size_t)unit) * cells;
    int rc = 0;
    for (uint32_t w = 0; rc == 0 && w < f->options.worlds; w++) {
        struct measured *measured = xalloc((f->len + (size_t)1) * sizeof *measured);
        rc = measure_world(f, w, measured, error);
        if (rc == 0)
            table_fill(f, measured, w, &t);
        if (f->options.progress != NULL)
            f->options.progress(w + 1, f->options.worlds);
        free(measured);
    }
    if (rc == 0) {
        summarise(f, &t);
        choose_all(f, &t);
        for (uint32_t v = 0; v < f->options.verifiers_len; v++)
            split_of(f, v);
    }
    free(values);
    return rc;
}

static int check_pilot(const struct pilot *pilot, struct error *error)
{
    uint64_t right = 0, all = 0;
    for (uint32_t p = 0; p < pilot->len; p++) {
        right += pilot->prompts[p].right;
        all += pilot->prompts[p].n;
    }
    if (pilot->len < FORECAST_PROMPTS_MIN || all < 2 * (uint64_t)pilot->len)
        return error_set(
            error, ERR_REFUSED,
            "the pilot holds %llu judged rollouts of %u prompts: a forecast needs %d prompts, and 2 rollouts "
            "of each, better 100 and 8",
            (unsigned long long)all, pilot->len, FORECAST_PROMPTS_MIN);
    if (right == 0 || right == all)
        return error_set(error, ERR_REFUSED,
                         "%s of the pilot's %llu judged rollouts is right: that tells nothing of how prompts differ",
                         right == 0 ? "none" : "every one", (unsigned long long)all);
    return 0;
}

/* As simulate does: larger ones would go on for hours. */
static int check_size(const struct pilot *pilot, const struct forecast_options *options, struct error *error)
{
    uint32_t prompts = options->prompts > 0 ? options->prompts : pilot->len;
    if ((uint64_t)prompts * options->worlds <= SIMULATE_PROMPTS_MAX)
        return 0;
    return error_set(error, ERR_LIMIT,
                     "%u prompts in %u worlds are too many: at most %d prompts in all worlds; say --prompts N, for so "
                     "many new prompts of the pilot's kind, or draw fewer worlds (--seeds)",
                     prompts, options->worlds, SIMULATE_PROMPTS_MAX);
}

struct forecast *forecast_new(const struct pilot *pilot, const struct forecast_options *options, struct error *error)
{
    if (check_pilot(pilot, error) != 0 || check_size(pilot, options, error) != 0)
        return NULL;
    struct forecast *f = xalloc(sizeof *f);
    *f = (struct forecast){.pilot = pilot, .options = *options, .best = NO_CANDIDATE};
    f->fit = pilot_fit(pilot, NULL, pilot->len);
    f->prompts = options->prompts > 0 ? options->prompts : pilot->len;
    f->n_most = (uint32_t)fmin(FORECAST_DECADE * f->fit.mean, FORECAST_N_MAX);
    int rc = make_candidates(f, error);
    if (rc == 0)
        rc = simulate_all(f, error);
    if (rc != 0)
        forecast_free(&f);
    return f;
}

void forecast_free(struct forecast **forecast)
{
    struct forecast *f = *forecast;
    if (f == NULL)
        return;
    for (uint32_t c = 0; c < f->len; c++)
        free(f->texts[c]);
    free(f->texts);
    free(f->candidates);
    simulation_spec_clear(&f->spec);
    free(f);
    *forecast = NULL;
}
