/* test_bins.c - bins of difficulty: their fit against closed forms, and the allocator that spends by them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "broker/policy/bins.h"
#include "tests/unit/policy_curve.h"

#define assert_near(a, b, eps) assert_true(fabs((a) - (b)) <= (eps))

enum { PROMPTS = 20000, SURE = 1000000000 };

/* The p-quantile of Beta(a, b). */
static double quantile(double a, double b, double p)
{
    double low = 0, high = 1;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (beta_cdf(a, b, middle) < p)
            low = middle;
        else
            high = middle;
    }
    return high;
}

/* Beliefs that know the rate: prompts at the quantiles of Beta(a, b). */
static void sure_beliefs(double a, double b, struct belief beliefs[PROMPTS], double rates[PROMPTS])
{
    for (uint32_t i = 0; i < PROMPTS; i++) {
        double theta = fmin(fmax(quantile(a, b, (i + .5) / PROMPTS), 1e-12), 1 - 1e-12);
        if (rates != NULL)
            rates[i] = theta;
        beliefs[i] = (struct belief){SURE * theta, SURE * (1 - theta)};
    }
}

static size_t cases_of(const struct belief *beliefs, uint32_t prompts, uint32_t pilot, struct bin_case *cases)
{
    size_t len = 0;
    for (uint32_t i = 0; i < prompts; i++)
        len += bins_cases(beliefs[i], pilot, cases + len);
    return len;
}

static void edges_and_bins(void **state)
{
    (void)state;
    const double edges[BINS - 1] = {.2, .4, .4, .8};
    const double values[] = {-1, .2, .21, .4, .41, .8, .81, 9};
    const int wanted[] = {0, 0, 1, 1, 3, 3, 4, 4};
    for (int i = 0; i < 8; i++)
        assert_int_equal(bins_of(edges, values[i]), wanted[i]);
}

/* A pilot turns a belief into cases that add up to it: to the chance of a pass, and of one more. */
static void cases_add_up(void **state)
{
    (void)state;
    const struct belief belief = {.7, 1.9};
    struct bin_case cases[9];
    for (uint32_t pilot = 0; pilot <= 8; pilot += 4) {
        double weight = 0, next = 0, missed = 0;
        uint32_t len = bins_cases(belief, pilot, cases);
        assert_int_equal(len, pilot + 1);
        for (uint32_t i = 0; i < len; i++) {
            weight += cases[i].weight;
            next += cases[i].weight * cases[i].belief.a / (cases[i].belief.a + cases[i].belief.b);
            missed += cases[i].covered ? 0 : cases[i].weight;
        }
        assert_near(weight, 1, 1e-12);
        assert_near(next, .7 / 2.6, 1e-12);
        assert_near(missed, beta_survival(.7, 1.9, pilot), 1e-12);
    }
}

/* Snell's fourfold in closed form: known rates from Beta(.5, .5), a mean of 64, and others. Equal shares are whole.
 * Without the one rollout that everybody gets, the last were 1.75. */
static void oracle_fifths(void **state)
{
    (void)state;
    static const struct {
        double a, b, budget, ratio;
    } rows[] = {{.5, .5, 64, 3.95}, {.5, .5, 16, 2.44}, {.5, .5, 4, 1.50},
                {.3, .7, 64, 1.98}, {.3, .7, 16, 2.06}, {.3, .7, 4, 1.50}};
    static struct belief beliefs[PROMPTS];
    static struct bin_case cases[PROMPTS];
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        sure_beliefs(rows[r].a, rows[r].b, beliefs, NULL);
        size_t len = cases_of(beliefs, PROMPTS, 0, cases);
        struct bins bins = bins_fit(cases, len, 0, rows[r].budget, 65536);
        struct bins_outlook out = bins_outlook(&bins, cases, len, 0);
        double even = ceil(bins_even(cases, len, out.coverage, 1e6)), ratio = even / rows[r].budget;
        print_message("Beta(%g, %g), mean %g: n %u %u %u %u %u, coverage %.4f, %.4f with equal shares, saves %.2f\n",
                      rows[r].a, rows[r].b, rows[r].budget, bins.n[0], bins.n[1], bins.n[2], bins.n[3], bins.n[4],
                      out.coverage, bins_even_coverage(cases, len, rows[r].budget), ratio);
        assert_near(ratio / rows[r].ratio, 1, .02);
        assert_true(out.cost <= rows[r].budget + 1e-9);
        assert_true(out.cost > rows[r].budget - .25); /* one rollout of a fifth of the prompts is more than is left */
        if (r > 0)
            continue;
        const uint32_t n[BINS] = {260, 38, 13, 6, 3};
        for (int q = 0; q < BINS; q++)
            assert_true(abs((int)bins.n[q] - (int)n[q]) <= 1);
        assert_near(out.coverage, .9654, .0015);
        assert_near(bins_even_coverage(cases, len, 64), .9309, .0015);
    }
}

/* No other n of the same cost covers more: moving a rollout from one bin to another loses. */
static void the_fit_is_best(void **state)
{
    (void)state;
    enum { SOME = 500 };
    struct belief beliefs[SOME];
    static struct bin_case cases[SOME];
    for (uint32_t i = 0; i < SOME; i++) {
        double theta = rng_unit(rng_u64(4, RNG_TEST, i, 0));
        beliefs[i] = (struct belief){.4 + 8 * theta * theta, .6 + 8 * (1 - theta * theta)};
    }
    size_t len = cases_of(beliefs, SOME, 0, cases);
    struct bins bins = bins_fit(cases, len, 0, 12, 1000);
    double best = bins_outlook(&bins, cases, len, 0).coverage;
    for (int from = 0; from < BINS; from++)
        for (int to = 0; to < BINS; to++) {
            struct bins other = bins;
            if (from == to || bins.n[from] == 1)
                continue;
            other.n[from]--;
            other.n[to]++;
            assert_true(bins_outlook(&other, cases, len, 0).coverage <= best + 1e-12);
        }
}

static void limits_of_the_fit(void **state)
{
    (void)state;
    struct bin_case one[1], two[5];
    bins_cases((struct belief){1, 1}, 0, one);
    struct bins bins = bins_fit(one, 1, 0, 7, 5);
    assert_int_equal(bins.n[0], 5);    /* at most */
    assert_int_equal(bins.n[4], 5);    /* nothing falls into it */
    bins = bins_fit(one, 1, 0, .5, 5); /* nobody gets nothing */
    assert_int_equal(bins.n[0], 1);
    size_t len = bins_cases((struct belief){1, 1}, 4, two);
    bins =
        bins_fit(two, len, 4, 8, 1000); /* a fifth each; only those without a pass need more: 4 of their own, and 20 */
    assert_int_equal(bins.n[0], 24);
    for (int q = 1; q < BINS; q++)
        assert_int_equal(bins.n[q], 4);
    assert_near(bins_outlook(&bins, two, len, 4).cost, 8, 1e-9);
    bins = bins_fit(two, len, 4, 3, 1000); /* the pilot alone is more */
    assert_near(bins_outlook(&bins, two, len, 4).cost, 4, 1e-9);
}

/* ---- the allocator ---- */

enum { BY, PILOT, SOLVED, EDGES, NS = EDGES + BINS - 1 };

static void bins_to_options(const struct bins *bins, double options[POLICY_OPTIONS_MAX])
{
    for (int e = 0; e < BINS - 1; e++)
        options[EDGES + e] = bins->edges[e];
    for (int q = 0; q < BINS; q++)
        options[NS + q] = bins->n[q];
}

/* One prompt: what it looks like after some rollouts. */
struct fixture {
    struct stats stats;
    double values[POLICY_OPTIONS_MAX];
    struct prompt_view view;
};

static void fixture_init(struct fixture *f, int by)
{
    stats_init(&f->stats, true);
    defaults(f->values, allocate_bins.options, NULL);
    f->values[BY] = by;
    f->view = (struct prompt_view){.cap = 100, .stats = &f->stats, .cost = 1, .options = f->values};
}

static void deliver(struct fixture *f, struct item item)
{
    item.ordinal = f->stats.delivered;
    stats_fold(&f->stats, &item);
    if (f->view.opened < f->stats.delivered)
        f->view.opened = f->stats.delivered;
}

static void judged(struct fixture *f, double score)
{
    deliver(f, (struct item){.scored = true, .score = score, .passed = score >= .5, .class = 7});
}

/* Rollouts that the prompt gets: taken one after the other, all with this score. */
static uint32_t takes(struct fixture *f, double score)
{
    while (f->stats.delivered < f->view.cap && (!allocate_bins.solved(&f->view) || f->stats.delivered == 0)) {
        assert_true(allocate_bins.gain(&f->view) > 0);
        judged(f, score);
    }
    assert_true(allocate_bins.gain(&f->view) == 0);
    uint32_t n = f->stats.delivered;
    stats_clear(&f->stats);
    return n;
}

static void a_pilot_tells_the_bin(void **state)
{
    (void)state;
    const uint32_t n[BINS] = {64, 32, 16, 8, 4}; /* the defaults; edges at .2, .4, .6, .8, a pilot of 4 */
    struct fixture f;
    for (uint32_t passes = 0; passes <= 4; passes++) {
        fixture_init(&f, BY_PASSES);
        for (uint32_t i = 0; i < 4; i++)
            judged(&f, i < passes);
        assert_int_equal(takes(&f, 1), n[passes]); /* what comes later does not change it */
    }
    const double scores[] = {.1, .3, .5, .7, .9};
    for (int q = 0; q < BINS; q++) {
        fixture_init(&f, BY_SCORE);
        assert_int_equal(takes(&f, scores[q]), n[q]);
    }
    fixture_init(&f, BY_PASSES); /* solved at the first pass, if that is wanted */
    f.values[SOLVED] = 1;
    judged(&f, 0);
    assert_int_equal(takes(&f, 1), 2);
}

static void agreement_of_a_pilot(void **state)
{
    (void)state;
    static const struct {
        uint64_t answers[4];
        uint32_t n;
    } rows[] = {{{7, 7, 7, 7}, 4},  {{7, 8, 7, 7}, 8},  {{8, 7, 7, 9}, 16},
                {{6, 7, 8, 9}, 32}, {{0, 0, 0, 0}, 64}, {{0, 7, 0, 7}, 4}};
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        struct fixture f;
        fixture_init(&f, BY_AGREEMENT);
        for (int i = 0; i < 4; i++)
            deliver(&f, (struct item){.class = rows[r].answers[i]});
        assert_int_equal(takes(&f, 0), rows[r].n);
    }
}

static void prior_needs_no_pilot(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, BY_PRIOR);
    f.view.prior = (struct belief){7, 3};
    assert_int_equal(takes(&f, 0), 8);
    fixture_init(&f, BY_PRIOR);
    f.view.prior = (struct belief){1, 9};
    f.view.cap = 50;
    assert_int_equal(takes(&f, 0), 50); /* of 64 */
}

/* A prompt that ended only because its arm's n did is not solved, so a larger n goes on with it. */
static void a_cap_may_grow(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, BY_PASSES);
    f.view.cap = 6; /* hard prompts get 64 */
    for (int i = 0; i < 6; i++)
        judged(&f, 0);
    assert_false(allocate_bins.solved(&f.view));
    f.view.cap = 100;
    assert_true(allocate_bins.gain(&f.view) > 0);
    stats_clear(&f.stats);
    fixture_init(&f, BY_PASSES);
    f.view.cap = 3; /* less than the pilot */
    for (int i = 0; i < 3; i++)
        judged(&f, 1);
    assert_false(allocate_bins.solved(&f.view));
    stats_clear(&f.stats);
}

/* Pilots come first, and wait for their verdicts; what is in flight counts. */
static void the_order(void **state)
{
    (void)state;
    struct fixture f, g;
    fixture_init(&f, BY_PASSES);
    fixture_init(&g, BY_PASSES);
    f.view.opened = 3;
    for (int i = 0; i < 4; i++)
        judged(&g, 0);
    assert_true(allocate_bins.gain(&f.view) > allocate_bins.gain(&g.view));
    f.view.opened = 4;
    assert_true(allocate_bins.gain(&f.view) == 0);
    assert_true(allocate_bins.gain(&g.view) > 0);
    g.view.opened = 64;
    assert_true(allocate_bins.gain(&g.view) == 0);
    assert_false(allocate_bins.solved(&g.view));
    stats_clear(&f.stats);
    stats_clear(&g.stats);
}

/* ---- worlds ---- */

static double covered(const struct run *run)
{
    uint32_t right = 0;
    for (uint32_t i = 0; i < PROMPTS; i++)
        right += run->right[i];
    return (double)right / PROMPTS;
}

/* Beta(.5, .5), a mean of 64, by what earlier rollouts tell: the coverage that was foretold comes. By a pilot of 4 that is
 * paid for: less, as it only tells which prompts need no more. Neither is above its oracle. */
static void fourfold_in_a_world(void **state)
{
    (void)state;
    enum { MEAN = 64, EARLIER = 4 };
    static struct belief fitted[PROMPTS];
    static struct bin_case cases[PROMPTS * (EARLIER + 1)];
    struct world w = world_new(&(struct law){.a = .5, .b = .5}, PROMPTS, 16);
    struct belief *sure = world_beliefs(&w);
    for (uint32_t i = 0; i < PROMPTS; i++)
        fitted[i] = (struct belief){.5, .5};
    const struct {
        const char *name;
        const struct belief *beliefs;
        uint32_t pilot;
        double low, high;
    } rows[] = {{"known rates", sure, 0, 3.7, 4.2}, {"a pilot of 4", fitted, EARLIER, 3.0, 3.7}};
    double oracle = rail_static(&w, MEAN * (double)PROMPTS), margin = 3 * sqrt(oracle * (1 - oracle) / PROMPTS);
    struct run feedback = rail_feedback(&w, MEAN * (uint64_t)PROMPTS);
    for (int r = 0; r < 2; r++) {
        double options[POLICY_OPTIONS_MAX] = {[BY] = r == 0 ? BY_PRIOR : BY_PASSES, [PILOT] = EARLIER};
        size_t len = cases_of(rows[r].beliefs, PROMPTS, rows[r].pilot, cases);
        struct bins bins = bins_fit(cases, len, rows[r].pilot, MEAN, 65536);
        struct bins_outlook out = bins_outlook(&bins, cases, len, rows[r].pilot);
        bins_to_options(&bins, options);
        struct plan_of_run plan = {.allocator = &allocate_bins,
                                   .stopper = &stop_none,
                                   .selector = &select_majority,
                                   .options = {options},
                                   .cap = 65536,
                                   .budget = MEAN * (uint64_t)PROMPTS + PROMPTS,
                                   .priors = sure};
        struct run run = world_run(&w, &plan);
        double coverage = covered(&run), used = (double)run.used / PROMPTS;
        len = cases_of(sure, PROMPTS, 0, cases);
        double ratio = bins_even(cases, len, coverage, 1e6) / used;
        print_message("%s: %.4f covered with %.1f (%.4f foretold), %.4f with equal shares, saves %.2f; the oracle of "
                      "plans %.4f\n",
                      rows[r].name, coverage, used, out.coverage, bins_even_coverage(cases, len, MEAN), ratio, oracle);
        assert_near(coverage, out.coverage, .004);
        assert_near(used, MEAN, 1);
        assert_true(ratio > rows[r].low);
        assert_true(ratio < rows[r].high);
        assert_true(coverage <= (r == 0 ? oracle : covered(&feedback)) + margin);
        run_clear(&run);
    }
    run_clear(&feedback);
    free(sure);
    world_clear(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edges_and_bins),       cmocka_unit_test(cases_add_up),
        cmocka_unit_test(oracle_fifths),        cmocka_unit_test(the_fit_is_best),
        cmocka_unit_test(limits_of_the_fit),    cmocka_unit_test(a_pilot_tells_the_bin),
        cmocka_unit_test(agreement_of_a_pilot), cmocka_unit_test(prior_needs_no_pilot),
        cmocka_unit_test(a_cap_may_grow),       cmocka_unit_test(the_order),
        cmocka_unit_test(fourfold_in_a_world),
    };
    return cmocka_run_group_tests_name("bins", tests, NULL, NULL);
}
