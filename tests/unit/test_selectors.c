/* test_selectors.c - selectors that read the rollouts themselves: formulas, golden numbers, simulated worlds. */
#include "broker/policy/ballot.h"
#include "broker/policy/kernel_select.h"
#include "common/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define assert_near(a, b, eps) assert_true(fabs((a) - (b)) <= (eps))

enum { ROLLOUTS_MAX = 512 };

/* One prompt under one selector. */
struct fixture {
    const struct selector *selector;
    struct stats stats;
    float features[ROLLOUTS_MAX][FEATURES];
    double values[POLICY_OPTIONS_MAX];
    struct prompt_view view;
};

static void fixture_init(struct fixture *f, const struct selector *selector)
{
    f->selector = selector;
    stats_init(&f->stats, true);
    for (size_t i = 0; selector->options[i].name; i++)
        f->values[i] = selector->options[i].fallback;
    f->view = (struct prompt_view){.cap = ROLLOUTS_MAX, .seed = 1, .stats = &f->stats, .cost = 1, .options = f->values};
}

static void fixture_clear(struct fixture *f)
{
    stats_clear(&f->stats);
}

static void set(struct fixture *f, const char *option, double value)
{
    size_t i = 0;
    for (; strcmp(f->selector->options[i].name, option) != 0; i++)
        assert_non_null(f->selector->options[i + 1].name);
    assert_true(value >= f->selector->options[i].min);
    assert_true(value <= f->selector->options[i].max);
    f->values[i] = value;
}

static void deliver(struct fixture *f, struct item item)
{
    item.ordinal = f->stats.delivered;
    assert_true(item.ordinal < ROLLOUTS_MAX);
    item.features = f->features[item.ordinal];
    stats_fold(&f->stats, &item);
}

static void scored(struct fixture *f, uint64_t class, double score)
{
    deliver(f, (struct item){.class = class, .scored = true, .score = score});
}

/* A rollout with one feature. */
static void featured(struct fixture *f, uint64_t class, enum feature feature, double value)
{
    f->features[f->stats.delivered][0] = (float)value;
    deliver(f, (struct item){.class = class, .have = 1u << feature});
}

static struct ranking choose(const struct fixture *f)
{
    struct ranking out = {.winner = 77, .confidence = 77};
    f->selector->select(&f->view, &out);
    return out;
}

#define assert_choice(f, ordinal, share, eps)       \
    do {                                            \
        struct ranking r_ = choose(f);              \
        assert_int_equal(r_.winner, (ordinal));     \
        assert_near(r_.confidence, (share), (eps)); \
    } while (0)

static double uniform(uint64_t a, uint64_t b)
{
    return fmax(rng_unit(rng_u64(5, RNG_TEST, a, b)), 0x1p-54);
}

/* Standard normal, by Box and Muller. */
static double normal(uint64_t a, uint64_t b)
{
    return sqrt(-2 * log(uniform(a, 2 * b + 1))) * cos(2 * M_PI * uniform(a, 2 * b));
}

static double normal_cdf(double x)
{
    return erfc(-x / sqrt(2)) / 2;
}

/* ---- all of them ---- */

/* Failed rollouts, and those with nothing to go by, select nothing; nothing is left of what stood in `out`. */
static void all_abstain(void **state)
{
    (void)state;
    for (size_t i = 0; selectors[i]; i++) {
        static struct fixture f;
        fixture_init(&f, selectors[i]);
        assert_choice(&f, NO_ORDINAL, 0, 0);
        deliver(&f, (struct item){.failed = true, .have = UINT32_MAX, .class = 3, .scored = true, .score = 1});
        assert_choice(&f, NO_ORDINAL, 0, 0);
        deliver(&f, (struct item){.class = 0});
        assert_choice(&f, NO_ORDINAL, 0, 0);
        fixture_clear(&f);
    }
}

/* Rollouts that agree in everything: the first is selected. */
static void all_break_ties_by_ordinal(void **state)
{
    (void)state;
    for (size_t i = 0; selectors[i]; i++) {
        static struct fixture f;
        if (selectors[i] == &select_soft_best || selectors[i] == &select_pessimistic)
            continue; /* these draw */
        fixture_init(&f, selectors[i]);
        deliver(&f, (struct item){.failed = true});
        for (uint64_t class = 9; class > 0; class --) {
            for (size_t k = 0; k < FEATURES; k++)
                f.features[f.stats.delivered][k] = -.5f;
            deliver(&f, (struct item){.class = class,
                                      .have = (1u << FEATURES) - 1,
                                      .tokens = 7,
                                      .scored = true,
                                      .passed = true,
                                      .score = .75});
        }
        assert_int_equal(choose(&f).winner, 1);
        fixture_clear(&f);
    }
}

/* ---- ballots ---- */

static void ballots_are_counted(void **state)
{
    (void)state;
    struct ballot at[] = {{9, 0, 0, .5}, {0, 1, 0, 99}, {4, 2, 0, .7}, {9, 3, 0, .6}, {4, 4, 0, .4}, {2, 5, 0, -1}};
    struct ballots ballots = {at, 6};
    struct ranking out;
    ballots_best(&ballots, &out);
    assert_int_equal(out.winner, 1); /* whatever its answer */
    ballots_count(&ballots, &out);
    assert_int_equal(out.winner, 3); /* 1.1 against 1.1: the answer that came first, by its heaviest ballot */
    assert_near(out.confidence, .5, 1e-12);
    struct ballot negative[] = {{1, 0, 0, -2}, {2, 1, 0, -1}};
    ballots = (struct ballots){negative, 2};
    ballots_count(&ballots, &out);
    assert_int_equal(out.winner, 1);
    assert_near(out.confidence, 0, 0);
}

/* ---- best of majority ---- */

static void best_of_majority(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &select_best_of_majority);
    scored(&f, 1, .9); /* a lucky single one */
    scored(&f, 2, .1);
    scored(&f, 3, .7);
    assert_choice(&f, 0, 1. / 3, 1e-12); /* nothing is frequent: the majority, whose tie goes to the first */
    scored(&f, 2, .2);
    scored(&f, 3, .3);
    deliver(&f, (struct item){.class = 3}); /* not judged: counts for its answer, not for the mean */
    assert_choice(&f, 2, .5, 1e-12);
    scored(&f, 2, .95);
    assert_choice(&f, 2, .5, 1e-12); /* mean .417 */
    set(&f, "reward", 1);
    assert_choice(&f, 1, .95, 1e-12);
    set(&f, "alpha", .1);
    assert_choice(&f, 1, .95, 1e-12); /* .1 of 7 rollouts: all of them */
    set(&f, "reward", 0);
    assert_choice(&f, 0, .9, 1e-12);
    fixture_clear(&f);
}

/* One rollout in five is right and scores 1.5, three are wrong alike and score low, half are all different and score by
 * chance. */
static void junk_world(struct fixture *f, uint64_t trial, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        double u = uniform(trial, 3 * (uint64_t)i);
        uint64_t class = u < .2 ? 1 : u < .5 ? 2 : 100 + i;
        scored(f, class, class == 1 ? 1.5 : class == 2 ? -3 : normal(trial + 1000000, i));
    }
}

static double right_share(const struct selector *selector, const char *option, double value, uint32_t n)
{
    enum { TRIALS = 2000 };
    uint32_t right = 0;
    for (uint64_t trial = 0; trial < TRIALS; trial++) {
        static struct fixture f;
        fixture_init(&f, selector);
        if (option != NULL)
            set(&f, option, value);
        f.view.prompt = (uint32_t)trial;
        junk_world(&f, trial, n);
        struct ranking out = choose(&f);
        right += out.winner != NO_ORDINAL && f.stats.items[out.winner].class == 1;
        fixture_clear(&f);
    }
    return (double)right / TRIALS;
}

/* Best of N peaks at 8 and collapses, by the closed form (1 - t)^N - (.8 - t)^N too; best of majority does not fall. */
static void best_of_majority_does_not_collapse(void **state)
{
    (void)state;
    static const struct {
        uint32_t n;
        double best;
    } golden[] = {{1, .2}, {4, .5276}, {8, .6427}, {16, .5664}, {64, .1137}, {256, .0002}};
    double t = .5 * (1 - normal_cdf(1.5));
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        double n = golden[i].n;
        assert_near(pow(1 - t, n) - pow(.8 - t, n), golden[i].best, 5e-5);
        assert_near(right_share(&select_best, NULL, 0, golden[i].n), golden[i].best, .03);
    }
    for (int choice = 0; choice < 2; choice++) {
        double before = .85;
        for (uint32_t n = 32; n <= 256; n *= 2) {
            double share = right_share(&select_best_of_majority, "alpha", choice ? .1 : 0, n);
            assert_true(share >= before);
            before = share;
        }
        assert_true(before > .999);
    }
}

/* ---- majority and best of k, by theory ---- */

/* Chance that the vote of n rollouts misses the answer of chance (1 + edge) / 2 against one other. A tie falls to
 * whichever came first: half of them. */
static double vote_misses(const bool *wins, uint32_t n, double edge)
{
    double sum = 0, right = log((1 + edge) / 2), wrong = log((1 - edge) / 2);
    for (uint32_t a = 0; a <= n; a++) {
        double chance = exp(lgamma(n + 1.0) - lgamma(a + 1.0) - lgamma(n - a + 1.0) + a * right + (n - a) * wrong);
        sum += 2 * a == n ? chance / 2 : wins[a] ? 0 : chance;
    }
    return sum;
}

/* Errors of the vote stay below exp(-n (sqrt(p) - sqrt(q))^2). Over prompts whose margin is u^2 with an even u that is
 * sqrt(pi / n) erf(sqrt(n)) / 2 on average: four times the rollouts halve the errors, no more. */
static void votes_err_by_their_margin(void **state)
{
    (void)state;
    static const struct {
        uint32_t n;
        double bound;
    } rows[] = {{64, .11078}, {256, .05539}};
    enum { PROMPTS = 400 };
    double errors[2] = {0};
    assert_near(pow(sqrt(.5) - sqrt(.3), 2), .025403, 5e-7);
    for (int r = 0; r < 2; r++) {
        bool wins[257];
        uint32_t n = rows[r].n;
        for (uint32_t a = 0; a <= n; a++) { /* the selector's word for every count */
            static struct fixture f;
            fixture_init(&f, &select_majority);
            for (uint32_t i = 0; i < n; i++)
                deliver(&f, (struct item){.class = i < a ? 1 : 2});
            wins[a] = f.stats.items[choose(&f).winner].class == 1;
            fixture_clear(&f);
        }
        for (int i = 0; i < PROMPTS; i++) {
            double u = (i + .5) / PROMPTS, edge = sqrt(1 - pow(1 - u * u, 2)), missed = vote_misses(wins, n, edge);
            assert_true(missed <= exp(-(double)n * u * u));
            errors[r] += missed / PROMPTS;
        }
        assert_near(sqrt(M_PI / n) * erf(sqrt(n)) / 2, rows[r].bound, 5e-6);
        assert_true(errors[r] < rows[r].bound);
        assert_near(errors[r], 1 / sqrt(4 * M_PI * n), 1e-4); /* by the normal law: the integral of Phi(-u sqrt(2 n)) */
    }
}

/* The best of k under a reward that is the truth itself, minus the square of an error from N(0, 1): the squared error of
 * the best falls as pi / k^2. At k = 100 it is .000305; the limit says .000314. */
static void best_of_k_errs_by_its_square(void **state)
{
    (void)state;
    enum { K = 100, TRIALS = 4000 };
    double sum = 0, exact = 0, step = 1e-5;
    for (double x = step / 2; x < .5; x += step)
        exact += 2 * x * pow(erfc(x / sqrt(2)), K) * step;
    assert_near(exact, 3.051e-4, 5e-8);
    assert_near(exact, M_PI / (K * K), .03 * exact);
    for (uint64_t trial = 0; trial < TRIALS; trial++) {
        static struct fixture f;
        double errors[K];
        fixture_init(&f, &select_best);
        for (uint32_t i = 0; i < K; i++) {
            errors[i] = normal(trial + 300000, i);
            scored(&f, 1, -errors[i] * errors[i]);
        }
        sum += pow(errors[choose(&f).winner], 2) / TRIALS;
        fixture_clear(&f);
    }
    assert_near(sum, exact, .1 * exact); /* three standard errors */
}

/* ---- rpc ---- */

static void path(struct fixture *f, uint64_t class, double probability, uint32_t tokens)
{
    uint32_t at = f->stats.delivered;
    f->features[at][0] = (float)(log(probability) * tokens);
    f->features[at][1] = (float)log(probability);
    deliver(f, (struct item){.class = class, .tokens = tokens, .have = 1u << FEATURE_LP_SUM | 1u << FEATURE_LP_MEAN});
}

static void rpc_adds_probabilities(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &select_rpc);
    path(&f, 1, .9, 10);
    path(&f, 2, .2, 10);
    path(&f, 1, .85, 10);
    assert_choice(&f, 0, .8974, 5e-5);
    fixture_clear(&f);

    fixture_init(&f, &select_rpc);
    path(&f, 1, .6, 10);
    path(&f, 2, .7, 10);
    path(&f, 1, .6, 10);
    assert_choice(&f, 1, .7 / 1.3, 1e-6); /* one text, counted once */
    path(&f, 1, .6, 11);                  /* another one */
    assert_choice(&f, 0, 1.2 / 1.9, 1e-6);
    fixture_clear(&f);
}

static void rpc_prunes(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &select_rpc);
    for (uint32_t i = 0; i < 12; i++)
        path(&f, 2, .10 + .01 * i, 10 + i); /* many improbable ones agree */
    for (uint32_t i = 0; i < 2; i++)
        path(&f, 1, .80 + .01 * i, 10 + i);
    path(&f, 3, .82, 10);
    assert_int_equal(f.stats.items[choose(&f).winner].class, 1);
    set(&f, "prune", 0);
    assert_int_equal(f.stats.items[choose(&f).winner].class, 2);
    fixture_clear(&f);

    fixture_init(&f, &select_rpc); /* all alike: no fit, plain self-consistency over distinct texts */
    for (uint32_t i = 0; i < 10; i++)
        path(&f, i < 4 ? 1 : 2, .5, 10 + i);
    assert_choice(&f, 4, .6, 1e-6);
    fixture_clear(&f);
}

static double weibull(double shape, double scale, double u)
{
    return scale * pow(-log(u), 1 / shape);
}

static void mixture_is_recovered(void **state)
{
    (void)state;
    enum { M = 200 };
    for (uint64_t seed = 0; seed < 20; seed++) {
        double x[M];
        for (uint32_t i = 0; i < M; i++)
            x[i] = i < M / 2 ? weibull(6, .8, uniform(seed, i)) : weibull(3, .3, uniform(seed, i));
        struct weibull_mixture mixture = weibull_mixture_fit(x, M);
        uint32_t wrong = 0;
        for (uint32_t i = 0; i < M; i++)
            wrong += (weibull_mixture_upper(&mixture, x[i]) >= .5) != (i < M / 2);
        assert_true(wrong < M / 10);
        assert_false(mixture.singular);
        assert_near(mixture.share[0] + mixture.share[1], 1, 1e-12);
        assert_near(mixture.scale[1], .8, .05);
    }
    double same[] = {.5, .5, .5, .5, .5, .5, .5, .5};
    assert_true(weibull_mixture_fit(same, 8).singular);
    double spike[] = {.5, .5, .5, .5, .5, .5, .5, .9}; /* a component may shrink to a point */
    struct weibull_mixture mixture = weibull_mixture_fit(spike, 8);
    for (size_t i = 0; i < 8; i++)
        assert_true(weibull_mixture_upper(&mixture, spike[i]) >= 0);
}

/* A world in which log-probabilities tell right from wrong with an AUROC of .7: share of prompts that a selector answers
 * rightly from n rollouts. Wrong answers follow Zipf's law, success rates Beta(1, 1). */
static double likely_share(const struct selector *selector, uint32_t n)
{
    enum { PROMPTS = 500, WRONG = 8 };
    const double distance = .7416, spread = .4, zipf[WRONG] = {.368, .552, .674, .766, .840, .901, .954, 1};
    uint32_t hits = 0;
    for (uint64_t prompt = 0; prompt < PROMPTS; prompt++) {
        static struct fixture f;
        fixture_init(&f, selector);
        double theta = uniform(prompt, 1000000);
        for (uint32_t i = 0; i < n; i++) {
            bool right = uniform(prompt, 3 * (uint64_t)i) < theta;
            double u = uniform(prompt + 5000, i);
            uint64_t class = 2;
            while (u > zipf[class - 2])
                class ++;
            path(&f, right ? 1 : class, exp(-1 + spread * (normal(prompt + 9000, i) + (right ? distance : 0))), 10 + i);
        }
        hits += f.stats.items[choose(&f).winner].class == 1;
        fixture_clear(&f);
    }
    return (double)hits / PROMPTS;
}

static void rpc_saves_rollouts(void **state)
{
    (void)state;
    assert_near(normal_cdf(.7416 / sqrt(2)), .7, .001);
    assert_true(likely_share(&select_rpc, 40) >= likely_share(&select_majority, 64));
}

/* ---- borda ---- */

static void borda_weighs_by_rank(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &select_borda);
    featured(&f, 1, FEATURE_SELF_CERT, .2); /* order of certainty: B A A B */
    featured(&f, 2, FEATURE_SELF_CERT, .4);
    featured(&f, 2, FEATURE_SELF_CERT, .1);
    featured(&f, 0, FEATURE_SELF_CERT, .9); /* no answer, no rank */
    featured(&f, 1, FEATURE_SELF_CERT, .3);
    double a = sqrt(3) + sqrt(2), b = sqrt(4) + sqrt(1);
    assert_near(a, 3.146, 5e-4);
    assert_choice(&f, 4, a / (a + b), 1e-12);
    set(&f, "p", 2);
    assert_choice(&f, 1, 17. / (17 + 13), 1e-12);
    set(&f, "p", 0);
    assert_choice(&f, 0, .5, 1e-12); /* the majority vote */
    assert_int_equal(select_borda.wants(f.values), 1u << FEATURE_SELF_CERT);
    set(&f, "by", 2);
    assert_int_equal(select_borda.wants(f.values), 1u << FEATURE_LP_MEAN);
    assert_choice(&f, NO_ORDINAL, 0, 0); /* not that feature */
    fixture_clear(&f);
}

/* ---- deepconf ---- */

static void quantiles_interpolate(void **state)
{
    (void)state;
    double x[] = {4, 1, 3, 2};
    assert_near(quantile_linear(x, 4, 0), 1, 0);
    assert_near(quantile_linear(x, 4, .1), 1.3, 1e-12);
    assert_near(quantile_linear(x, 4, .25), 1.75, 1e-12);
    assert_near(quantile_linear(x, 4, .5), 2.5, 1e-12);
    assert_near(quantile_linear(x, 4, 1), 4, 0);
    assert_near(quantile_linear(x, 1, .7), 1, 0);
}

static void deepconf_filters(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &select_deepconf);
    set(&f, "keep", .5);
    featured(&f, 1, FEATURE_CONF_BOTTOM10, 2);
    featured(&f, 1, FEATURE_CONF_BOTTOM10, 3);
    featured(&f, 1, FEATURE_CONF_BOTTOM10, 4);
    featured(&f, 2, FEATURE_CONF_BOTTOM10, 10);
    featured(&f, 2, FEATURE_CONF_BOTTOM10, 12);
    featured(&f, 0, FEATURE_CONF_BOTTOM10, 99);
    assert_choice(&f, 4, 22. / 26, 1e-12); /* the median, 4, is kept */
    set(&f, "keep", 1);
    assert_choice(&f, 4, 22. / 31, 1e-12);
    set(&f, "keep", .1);
    assert_choice(&f, 4, 1, 1e-12); /* threshold 11.2 */
    set(&f, "by", 1);
    assert_int_equal(select_deepconf.wants(f.values), 1u << FEATURE_CONF_MIN);
    fixture_clear(&f);
}

/* ---- intrinsic ---- */

static void intrinsic_takes_the_lowest(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &select_intrinsic);
    featured(&f, 1, FEATURE_ENT_TAIL, .5);
    featured(&f, 2, FEATURE_ENT_TAIL, .2);
    featured(&f, 1, FEATURE_ENT_TAIL, .3);
    featured(&f, 1, FEATURE_ENT_TAIL, .4);
    assert_choice(&f, 1, -.2, 1e-7);
    set(&f, "abstain", .36); /* median .35 */
    assert_int_equal(choose(&f).winner, 1);
    set(&f, "abstain", .34);
    assert_choice(&f, NO_ORDINAL, 0, 0);
    set(&f, "abstain", 0);
    set(&f, "vote", 1);
    double z = 1 / sqrt(1.25), one = exp(-3 * z / 2) + exp(z / 2) + exp(-z / 2), two = exp(3 * z / 2);
    assert_true(two > one);
    assert_choice(&f, 1, two / (one + two), 1e-6);
    fixture_clear(&f);

    fixture_init(&f, &select_intrinsic); /* a vote where nobody has an answer is no vote */
    set(&f, "vote", 1);
    featured(&f, 0, FEATURE_ENT_TAIL, .5);
    featured(&f, 0, FEATURE_ENT_TAIL, .4);
    assert_choice(&f, 1, 0, 10);
    fixture_clear(&f);
}

/* Share of prompts at which the lowest entropy is right; each of n rollouts is right with this chance, or the first
 * `right` are when it is negative. Entropies are N(0, 1) if right and N(1.14, 1) if wrong. */
static double intrinsic_share(uint32_t n, double chance, uint32_t trials)
{
    uint32_t hits = 0;
    for (uint64_t trial = 0; trial < trials; trial++) {
        static struct fixture f;
        fixture_init(&f, &select_intrinsic);
        for (uint32_t i = 0; i < n; i++) {
            bool right = chance < 0 ? i == 0 : uniform(trial + 77, i) < chance;
            featured(&f, right ? 1 : 2, FEATURE_ENT_TAIL, normal(trial, i) + (right ? 0 : 1.14));
        }
        hits += f.stats.items[choose(&f).winner].class == 1;
        fixture_clear(&f);
    }
    return (double)hits / trials;
}

/* P(the lowest of n is right) = integral of n p phi(x) (1 - p Phi(x) - (1 - p) Phi(x - 1.14))^(n - 1). */
static double lowest_is_right(uint32_t n, double p)
{
    double sum = 0, step = .001;
    for (double x = -8; x < 8; x += step)
        sum += step * n * p * exp(-x * x / 2) / sqrt(2 * M_PI) *
               pow(1 - p * normal_cdf(x) - (1 - p) * normal_cdf(x - 1.14), n - 1);
    return sum;
}

static void intrinsic_reaches_its_auroc(void **state)
{
    (void)state;
    assert_near(normal_cdf(1.14 / sqrt(2)), .79, .001);
    assert_near(intrinsic_share(2, -1, 20000), .79, .01); /* one right, one wrong: the AUROC itself */
    static const uint32_t sizes[] = {1, 4, 16, 64};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        assert_near(intrinsic_share(sizes[i], .4, 8000), lowest_is_right(sizes[i], .4), .018);
    assert_true(lowest_is_right(16, .4) > .8);
}

/* ---- rewards that models give themselves ---- */

static void laser_scales_and_votes(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &select_laser);
    featured(&f, 1, FEATURE_LAST_TOKEN_LP, -13); /* 1.0 */
    featured(&f, 2, FEATURE_LAST_TOKEN_LP, -17); /* 0.6 */
    featured(&f, 2, FEATURE_LAST_TOKEN_LP, -18); /* 0.5 */
    assert_choice(&f, 1, 1.1 / 2.1, 1e-9);
    featured(&f, 2, FEATURE_LAST_TOKEN_LP, -25); /* -0.2 speaks against it */
    assert_choice(&f, 0, 1 / 1.9, 1e-9);
    set(&f, "vote", 0);
    assert_choice(&f, 0, 1, 1e-9);
    set(&f, "reference", -25);
    assert_choice(&f, 0, 1.2, 1e-9);
    fixture_clear(&f);
}

static void implicit_prm_takes_the_largest(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &select_implicit_prm);
    featured(&f, 1, FEATURE_LP_RATIO_SUM, -20);
    featured(&f, 2, FEATURE_LP_RATIO_SUM, 10);
    featured(&f, 1, FEATURE_LP_RATIO_SUM, 40);
    featured(&f, 2, FEATURE_LP_RATIO_SUM, 15);
    assert_choice(&f, 2, 2, 1e-9);
    set(&f, "vote", 1);
    assert_choice(&f, 3, 25. / 45, 1e-9);
    fixture_clear(&f);
}

static void latent_adds_signals(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &select_latent);
    static const float signals[][3] = {{1, 9, .1f}, {3, 5, .9f}, {2, 7, .5f}};
    for (size_t i = 0; i < 3; i++) {
        memcpy(f.features[i], signals[i], sizeof signals[i]);
        deliver(&f, (struct item){.class = 1 + i % 2, .have = select_latent.features});
    }
    double z = 3 * sqrt(1.5);
    assert_choice(&f, 1, 1 / (1 + exp(-z)), 1e-6);
    set(&f, "net", 0);
    set(&f, "align", 0);
    set(&f, "sum", 1);
    assert_int_equal(choose(&f).winner, 0);
    set(&f, "vote", 1);
    assert_int_equal(choose(&f).winner, 0);
    fixture_clear(&f);
}

/* ---- drawn ---- */

static void thresholds(void **state)
{
    (void)state;
    double r[] = {0, 1, .5};
    assert_near(chi2_threshold(r, 3, 1), -.5, 1e-12);
    assert_near(chi2_threshold(r, 3, .1), .7, 1e-12);
    double ties[] = {2, 2, 2};
    assert_near(chi2_threshold(ties, 3, .5), 1.5, 1e-12);
}

/* Draws for many prompts: how often each of the three rollouts with scores 1, .5, 0 is selected. */
static void draw_shares(const struct selector *selector, const char *option, double value, double shares[3])
{
    enum { PROMPTS = 20000 };
    static struct fixture f;
    fixture_init(&f, selector);
    set(&f, option, value);
    for (uint32_t i = 0; i < 3; i++) {
        scored(&f, 1, 1 - .5 * i);
        shares[i] = 0;
    }
    for (f.view.prompt = 0; f.view.prompt < PROMPTS; f.view.prompt++)
        shares[choose(&f).winner] += 1. / PROMPTS;
    fixture_clear(&f);
}

static void drawn_by_their_chances(void **state)
{
    (void)state;
    double shares[3], sum = 1 + exp(-1) + exp(-2);
    draw_shares(&select_soft_best, "t", .5, shares);
    for (int i = 0; i < 3; i++)
        assert_near(shares[i], exp(-i) / sum, .012);
    draw_shares(&select_pessimistic, "beta", 1, shares);
    assert_near(shares[0], .5, .012);
    assert_near(shares[1], 1. / 3, .012);
    assert_near(shares[2], 1. / 6, .012);
    draw_shares(&select_pessimistic, "beta", .1, shares);
    assert_near(shares[0], 1, 1e-9);

    static struct fixture f;
    fixture_init(&f, &select_soft_best);
    set(&f, "t", .5);
    scored(&f, 1, 0);
    scored(&f, 2, .5);
    struct ranking first = choose(&f), again = choose(&f);
    assert_int_equal(first.winner, again.winner);
    assert_near(first.confidence, first.winner == 1 ? exp(1) / (1 + exp(1)) : 1 / (1 + exp(1)), 1e-12);
    scored(&f, 3, .1); /* one more: the same as before, or the new one */
    uint32_t winner = choose(&f).winner;
    assert_true(winner == first.winner || winner == 2);
    fixture_clear(&f);
}

/* The seed of the sweep decides, too. */
static void drawn_by_the_seed(void **state)
{
    (void)state;
    static struct fixture f;
    uint32_t first = 0;
    fixture_init(&f, &select_soft_best);
    scored(&f, 1, .5);
    scored(&f, 2, .5);
    for (f.view.seed = 0; f.view.seed < 1000; f.view.seed++)
        first += choose(&f).winner == 0;
    assert_true(first > 440);
    assert_true(first < 560);
    fixture_clear(&f);
}

/* Where best of N collapses, the penalty holds it: the share that is right at 256 is far above that of best of N. */
static void pessimism_holds(void **state)
{
    (void)state;
    double few = right_share(&select_pessimistic, "beta", 1, 16),
           many = right_share(&select_pessimistic, "beta", 1, 256);
    assert_true(many > few - .05);
    assert_true(many > right_share(&select_best, NULL, 0, 256) + .2);
}

/* ---- the others ---- */

static void shortest_correct(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &select_shortest_correct);
    deliver(&f, (struct item){.class = 1, .scored = true, .score = .9, .tokens = 2});
    deliver(&f, (struct item){.class = 1, .tokens = 3});
    assert_choice(&f, NO_ORDINAL, 0, 0);
    set(&f, "fallback", 1);
    assert_choice(&f, 0, 1, 0);
    deliver(&f, (struct item){.class = 2, .scored = true, .passed = true, .tokens = 9});
    deliver(&f, (struct item){.class = 3, .scored = true, .passed = true, .tokens = 5});
    deliver(&f, (struct item){.class = 2, .scored = true, .passed = true, .tokens = 5});
    deliver(&f, (struct item){.failed = true, .scored = true, .passed = true});
    assert_choice(&f, 3, 1, 0);
    fixture_clear(&f);
}

static void marked(struct fixture *f, uint64_t class, uint32_t tokens, double markers)
{
    f->features[f->stats.delivered][0] = (float)markers;
    deliver(f, (struct item){.class = class, .tokens = tokens, .have = 1u << FEATURE_MARKERS});
}

static void markers_weigh(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &select_markers);
    assert_int_equal(select_markers.wants(f.values), 0);
    marked(&f, 1, 100, 0);
    marked(&f, 2, 900, 0);
    marked(&f, 2, 800, 0);
    marked(&f, 1, 120, 4);
    marked(&f, 2, 700, 4);
    assert_int_equal(choose(&f).winner, 0); /* two short ones beat three long ones */
    set(&f, "length", 0);
    assert_choice(&f, 1, .6, 1e-12); /* the majority vote */
    set(&f, "length", -1);
    assert_int_equal(choose(&f).winner, 1);
    set(&f, "length", 0);
    set(&f, "hedges", 1);
    assert_int_equal(select_markers.wants(f.values), 1u << FEATURE_MARKERS);
    double sure = exp(sqrt(2. / 3)), unsure = exp(-sqrt(1.5));
    assert_choice(&f, 1, (2 * sure + unsure) / (3 * sure + 2 * unsure), 1e-6);
    deliver(&f, (struct item){.class = 7, .tokens = 1}); /* without the feature: cannot occur, and does no harm */
    assert_int_equal(choose(&f).winner, 1);
    fixture_clear(&f);
}

static void log_odds_adds_up(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &select_log_odds);
    scored(&f, 1, .6);
    scored(&f, 1, .6);
    scored(&f, 2, .9); /* ln 9 > 2 ln 1.5, but .9 < 1.2 */
    assert_choice(&f, 2, log(9) / (log(9) + 2 * log(1.5)), 1e-12);
    scored(&f, 2, 0); /* clipped at .01 */
    assert_choice(&f, 0, 1, 1e-12);
    set(&f, "clip", .2);
    assert_choice(&f, 0, 1, 1e-12);
    fixture_clear(&f);

    fixture_init(&f, &select_log_odds);
    deliver(&f, (struct item){.class = 5});
    assert_choice(&f, 0, 1, 0); /* no score: the majority vote */
    fixture_clear(&f);
}

/* The choice, then the choice among other answers; texts without an answer count for themselves. */
static void several_are_submitted(void **state)
{
    (void)state;
    static struct fixture f;
    uint32_t winners[4];
    struct answering answering = {.top = 4};
    fixture_init(&f, &select_majority);
    const uint64_t classes[] = {5, 7, 7, 9, 9, 7, 0};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        deliver(&f, (struct item){.class = classes[i]});
    assert_int_equal(policies_select_top(&select_majority, &answering, &f.view, winners), 3);
    assert_int_equal(winners[0], 1); /* 7, then 9, then 5 */
    assert_int_equal(winners[1], 3);
    assert_int_equal(winners[2], 0);
    answering.top = 2;
    assert_int_equal(policies_select_top(&select_majority, &answering, &f.view, winners), 2);
    answering = (struct answering){.abstains = true, .abstain = .5, .top = 2};
    assert_int_equal(policies_select_top(&select_majority, &answering, &f.view, winners), 2); /* 3 of 6 votes */
    answering.abstain = .51;
    assert_int_equal(policies_select_top(&select_majority, &answering, &f.view, winners), 0);
    struct ranking ranking;
    policies_select(&select_majority, &answering, &f.view, &ranking);
    assert_int_equal(ranking.winner, NO_ORDINAL);
    assert_true(ranking.confidence == .5); /* it says how sure it was */
    fixture_clear(&f);

    fixture_init(&f, &select_best);
    scored(&f, 0, .2);
    scored(&f, 0, .9);
    scored(&f, 3, .5);
    scored(&f, 3, .4);
    answering = (struct answering){.top = 3};
    assert_int_equal(policies_select_top(&select_best, &answering, &f.view, winners), 3);
    assert_int_equal(winners[0], 1);
    assert_int_equal(winners[1], 2); /* class 3 once */
    assert_int_equal(winners[2], 0);
    fixture_clear(&f);
}

/* What the selector takes of the rollouts without these winners, numbered anew; draws go by ordinals. */
static uint32_t among_others(const struct fixture *f, const struct selector *selector, uint32_t winner)
{
    struct stats others;
    uint32_t kept[ROLLOUTS_MAX], len = 0;
    stats_init(&others, true);
    for (uint32_t k = 0; k < f->stats.delivered; k++) {
        struct item item = f->stats.items[k];
        if (item.class == f->stats.items[winner].class)
            continue;
        kept[len] = k;
        item.ordinal = len++;
        stats_fold(&others, &item);
    }
    struct prompt_view view = f->view;
    struct ranking out;
    view.stats = &others;
    selector->select(&view, &out);
    stats_clear(&others);
    return kept[out.winner];
}

/* What a sweep file is held to: none is surer than it says, and shares are shares. */
static void all_keep_to_their_confidence(void **state)
{
    (void)state;
    for (size_t i = 0; selectors[i] != NULL; i++)
        for (uint32_t vote = 0; vote <= selectors[i]->may_vote; vote++) {
            static struct fixture f;
            const char *what;
            fixture_init(&f, selectors[i]);
            if (selectors[i]->may_vote)
                set(&f, "vote", vote);
            double most = policies_confidence_most(selectors[i], f.values, &what);
            for (uint32_t k = 0; k < 12; k++) {
                for (int feature = 0; feature < FEATURES; feature++)
                    f.features[k][feature] = (float)(30 * uniform(k, (uint64_t)feature));
                f.features[k][FEATURE_LP_MEAN] *= -1;
                f.features[k][FEATURE_LP_SUM] *= -1;
                f.features[k][FEATURE_LAST_TOKEN_LP] *= -1;
                deliver(&f, (struct item){.class = 1 + k % 4,
                                          .have = (1u << FEATURES) - 1,
                                          .tokens = 10 + k,
                                          .scored = true,
                                          .passed = k % 3 == 0,
                                          .score = 8 * uniform(k, 99)});
                double confidence = choose(&f).confidence;
                assert_true(confidence <= most && (most != 1 || confidence >= 0));
            }
            fixture_clear(&f);
        }
}

/* None takes a place in the delivered order for a place among those that are left. */
static void all_submit_others(void **state)
{
    (void)state;
    for (size_t i = 0; selectors[i] != NULL; i++) {
        static struct fixture f;
        uint32_t winners[3];
        fixture_init(&f, selectors[i]);
        for (uint32_t k = 0; k < 12; k++) {
            for (int feature = 0; feature < FEATURES; feature++)
                f.features[k][feature] = (float)-(.1 + .05 * ((k + 3) % 7));
            deliver(&f, (struct item){.class = 1 + k % 4,
                                      .have = (1u << FEATURES) - 1,
                                      .tokens = 10 + k,
                                      .scored = true,
                                      .passed = true,
                                      .score = .3 + .05 * (k % 5)});
        }
        struct answering answering = {.top = 3};
        assert_int_equal(policies_select_top(selectors[i], &answering, &f.view, winners), 3);
        for (int w = 0; w < 3; w++)
            assert_true(winners[w] < 12);
        if (selectors[i] != &select_soft_best && selectors[i] != &select_pessimistic)
            assert_int_equal(winners[1], among_others(&f, selectors[i], winners[0]));
        assert_true(winners[0] % 4 != winners[1] % 4 && winners[1] % 4 != winners[2] % 4);
        assert_true(winners[0] % 4 != winners[2] % 4);
        fixture_clear(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_abstain),
        cmocka_unit_test(all_break_ties_by_ordinal),
        cmocka_unit_test(ballots_are_counted),
        cmocka_unit_test(best_of_majority),
        cmocka_unit_test(best_of_majority_does_not_collapse),
        cmocka_unit_test(votes_err_by_their_margin),
        cmocka_unit_test(best_of_k_errs_by_its_square),
        cmocka_unit_test(rpc_adds_probabilities),
        cmocka_unit_test(rpc_prunes),
        cmocka_unit_test(rpc_saves_rollouts),
        cmocka_unit_test(mixture_is_recovered),
        cmocka_unit_test(borda_weighs_by_rank),
        cmocka_unit_test(quantiles_interpolate),
        cmocka_unit_test(deepconf_filters),
        cmocka_unit_test(intrinsic_takes_the_lowest),
        cmocka_unit_test(intrinsic_reaches_its_auroc),
        cmocka_unit_test(laser_scales_and_votes),
        cmocka_unit_test(implicit_prm_takes_the_largest),
        cmocka_unit_test(latent_adds_signals),
        cmocka_unit_test(thresholds),
        cmocka_unit_test(drawn_by_their_chances),
        cmocka_unit_test(drawn_by_the_seed),
        cmocka_unit_test(pessimism_holds),
        cmocka_unit_test(shortest_correct),
        cmocka_unit_test(markers_weigh),
        cmocka_unit_test(log_odds_adds_up),
        cmocka_unit_test(several_are_submitted),
        cmocka_unit_test(all_submit_others),
        cmocka_unit_test(all_keep_to_their_confidence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
