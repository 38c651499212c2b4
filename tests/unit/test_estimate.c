/* test_estimate.c - fits, extrapolations, bounds and predictions against published and hand-computed numbers, closed
 * forms, brute force and simulation. */
#include "broker/policy/estimate.h"
#include "broker/policy/kernel.h"
#include "broker/policy/oracle.h"
#include "broker/policy/predict.h"
#include "broker/policy/saving.h"
#include "common/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define LEN(a) (sizeof(a) / sizeof((a)[0]))

static void near_at(double value, double expected, double eps, int line)
{
    if (!(fabs(value - expected) <= eps))
        fail_msg("line %d: %.8g is not %.8g +- %.3g", line, value, expected, eps);
}
#define assert_near(a, b, eps) near_at((a), (b), (eps), __LINE__)

#define LAW(a, b) ((struct rate_law){.alpha = (a), .beta = (b)})

/* -- drawing -------------------------------------------------------------------------------------------------------- */

struct dice {
    uint64_t seed, thrown;
};

static double uniform(struct dice *dice)
{
    return rng_unit(rng_u64(dice->seed, RNG_TEST, dice->thrown++, 0));
}

static double normal(struct dice *dice)
{
    return sqrt(-2 * log(1 - uniform(dice))) * cos(2 * M_PI * uniform(dice));
}

/* Marsaglia and Tsang 2000. */
static double gamma_draw(double shape, struct dice *dice)
{
    if (shape < 1)
        return gamma_draw(shape + 1, dice) * pow(1 - uniform(dice), 1 / shape);
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = normal(dice), v = (1 + c * x) * (1 + c * x) * (1 + c * x);
        if (v > 0 && log(1 - uniform(dice)) < x * x / 2 + d - d * v + d * log(v))
            return d * v;
    }
}

static double beta_draw(double a, double b, struct dice *dice)
{
    double x = gamma_draw(a, dice), y = gamma_draw(b, dice);
    return x / (x + y);
}

static uint32_t binomial_draw(uint32_t n, double rate, struct dice *dice)
{
    uint32_t right = 0;
    for (uint32_t i = 0; i < n; i++)
        right += uniform(dice) < rate;
    return right;
}

/* -- fits ----------------------------------------------------------------------------------------------------------- */

/* Counts in proportion to what the law expects give the law back. */
static void fit_finds_the_law(void **state)
{
    (void)state;
    static const struct {
        double alpha, beta, zero;
    } cases[] = {{0.5, 0.5, 0}, {0.4, 4, 0}, {2, 30, 0}, {0.6, 2, 0.3}, {1, 1, 0.15}};
    enum { N = 30, PROMPTS = 40000 };
    for (size_t c = 0; c < LEN(cases); c++) {
        struct estimate_count *counts = calloc(PROMPTS + N + 1, sizeof *counts);
        double a = cases[c].alpha, b = cases[c].beta, zero = cases[c].zero;
        size_t len = 0;
        for (uint32_t k = 0; k <= N; k++) {
            double share = exp(lgamma(N + 1) - lgamma(k + 1) - lgamma(N - k + 1) + lgamma(a + k) + lgamma(b + N - k) -
                               lgamma(a + b + N) - lgamma(a) - lgamma(b) + lgamma(a + b));
            share = (1 - zero) * share + (k == 0 ? zero : 0);
            for (long i = lround(share * PROMPTS); i > 0; i--)
                counts[len++] = (struct estimate_count){k, N};
        }
        struct rate_law law = zero > 0 ? fit_rates_zero(counts, len) : fit_rates(counts, len);
        assert_near(law.alpha, a, 0.01 * a);
        assert_near(law.beta, b, 0.01 * b);
        assert_near(law.zero, zero, 0.005);
        assert_true(law.alpha_se > 0 && law.alpha_se < 0.1 * a);
        law = fit_rates_best(counts, len);
        assert_true((law.zero > 0) == (zero > 0));
        free(counts);
    }
}

static void fit_of_odd_counts(void **state)
{
    (void)state;
    struct estimate_count none[] = {{0, 8}, {0, 8}, {0, 0}}, all[] = {{8, 8}, {8, 8}}, empty[] = {{0, 0}};
    assert_true(coverage_exact(&(struct rate_law){.alpha = 1, .beta = 1}, 1) > 0.49);
    struct rate_law law = fit_rates(none, LEN(none));
    assert_true(coverage_exact(&law, 8) < 0.01);
    law = fit_rates(all, LEN(all));
    assert_true(coverage_exact(&law, 1) > 0.99);
    law = fit_rates_best(empty, LEN(empty));
    assert_true(isfinite(law.alpha) && isfinite(law.beta));
}

/* The law with alpha moved by z standard errors: coverage_anchored between -z and z is SABER's own interval. */
static struct rate_law law_shifted(const struct rate_law *law, double z)
{
    struct rate_law shifted = *law;
    shifted.alpha = fmax(0, law->alpha + z * law->alpha_se);
    return shifted;
}

/* -- SABER ---------------------------------------------------------------------------------------------------------- */

static void coverage_golden(void **state)
{
    (void)state;
    struct rate_law law = LAW(0.4, 4);
    static const double at[][2] = {{1, .09091}, {5, .28906}, {10, .40708}, {100, .73612}, {1000, .89357}};
    for (size_t i = 0; i < LEN(at); i++) {
        assert_near(coverage_exact(&law, at[i][0]), at[i][1], 5e-6);
        assert_near(coverage_exact(&law, at[i][0]), 1 - beta_survival(0.4, 4, (uint32_t)at[i][0]), 1e-12);
    }
    struct anchor anchor = {100, 0.73612, 0};
    assert_near(coverage_anchored(&law, anchor, 1000), 0.89495, 5e-6);
    assert_near(budget_anchored(&law, anchor, 0.95), 6399, 1);
    assert_near(budget_anchored(&law, anchor, 0.7), 100, 0); /* already there */
    law.alpha_se = 0.05;
    struct rate_law low = law_shifted(&law, -1.96), high = law_shifted(&law, 1.96);
    assert_near(coverage_anchored(&low, anchor, 1000), 1 - 0.26388 * pow(10, -0.302), 1e-9);
    assert_near(coverage_anchored(&high, anchor, 1000), 1 - 0.26388 * pow(10, -0.498), 1e-9);
    struct bounds bounds = coverage_bounds(&law, anchor, 1000, 1.96); /* a certain anchor: the same */
    assert_near(bounds.low, coverage_anchored(&low, anchor, 1000), 1e-12);
    assert_near(bounds.high, coverage_anchored(&high, anchor, 1000), 1e-12);
    bounds = budget_bounds(&law, anchor, 0.95, 1.96);
    assert_near(bounds.low, budget_anchored(&high, anchor, 0.95), 1e-6 * bounds.low);
    assert_near(bounds.high, budget_anchored(&low, anchor, 0.95), 1e-6 * bounds.high);
    anchor.se = 0.02; /* at the anchor itself only its own error is left */
    bounds = coverage_bounds(&law, anchor, 100, 1);
    assert_near(bounds.low, 1 - 0.26388 * exp(0.02 / 0.26388), 1e-9);
    assert_near(bounds.high, 1 - 0.26388 * exp(-0.02 / 0.26388), 1e-9);
    anchor.se = 0;
    low = law_shifted(&law, -9);
    assert_near(coverage_anchored(&low, anchor, 1000), anchor.seen, 1e-12);
    assert_true(isinf(budget_anchored(&low, anchor, 0.95)));
    for (double c = 0.1; c < 0.95; c += 0.2)
        assert_near(coverage_exact(&law, coverage_inverse(&law, c)), c, 1e-9);
}

/* With prompts that nothing solves, nothing reaches beyond the others. */
static void coverage_has_a_ceiling(void **state)
{
    (void)state;
    struct rate_law law = {.alpha = 1, .beta = 1, .zero = 0.25};
    struct anchor anchor = {10, 0.5, 0};
    assert_near(coverage_exact(&law, 1), 0.375, 1e-12);
    assert_near(coverage_anchored(&law, anchor, 20), 0.625, 1e-12); /* half of the way to .75 */
    assert_near(budget_anchored(&law, anchor, 0.7), 50, 1e-9);
    assert_true(isinf(budget_anchored(&law, anchor, 0.75)));
    assert_true(isinf(coverage_inverse(&law, 0.75)));
    /* One prompt without success in 3: zero with odds .25 / (.75 / 4), else right next with 1 / (1 + 4). */
    struct estimate_count count = {0, 3};
    assert_near(coverage_posterior(&law, &count, 1, 1), 0.1875 / 0.4375 * 0.2, 1e-12);
    count.right = 1;
    assert_near(coverage_posterior(&law, &count, 1, 1), 0.4, 1e-12);
}

static void known_laws(void **state)
{
    (void)state;
    static const struct {
        double alpha, beta, k[5], coverage[5];
    } laws[] = {
        {.1220, .6454, {1, 5, 10, 100, 250}, {.159, .294, .350, .508, .560}}, /* SWE-bench Lite, Brown et al. 2024 */
        {.2665, .0888, {1, 10000, 1, 1, 1}, {.75, .98, .75, .75, .75}},
        {.2720, .4080, {1, 10000, 1, 1, 1}, {.40, .95, .40, .40, .40}},
    };
    for (size_t l = 0; l < LEN(laws); l++)
        for (int i = 0; i < 5; i++)
            assert_near(coverage_exact(&LAW(laws[l].alpha, laws[l].beta), laws[l].k[i]), laws[l].coverage[i], 5e-4);
}

static void power_law_golden(void **state)
{
    (void)state;
    struct curve_point points[] = {{1, .159, 0}, {10, 0, 0}, {250, 0, 0}, {40, 0, 0}, {50, 1, 0}};
    struct power_law law;
    for (int i = 1; i < 3; i++)
        points[i].coverage = coverage_exact(&LAW(.1220, .6454), points[i].k); /* .350, .560 */
    assert_true(fit_power(points + 1, 4, &law)); /* the last two are not strictly between 0 and 1 */
    assert_near(law.a, 1.606, 5e-4);
    assert_near(law.b, 0.1845, 5e-5);
    assert_near(power_at(&law, 1), 0.2007, 5e-5);
    assert_near(power_at(&law, 250), points[2].coverage, 1e-9);
    assert_false(fit_power(points, 1, &law));
    struct power_law truth = {2, 0.3};
    for (int i = 0; i < 5; i++) {
        points[i] = (struct curve_point){1 << i, 0, 0};
        points[i].coverage = power_at(&truth, points[i].k);
    }
    assert_near(power_held_out(points, 5, 4), 0, 1e-9);
    points[4].coverage /= 1.1;
    assert_near(power_held_out(points, 5, 4), 0.05, 1e-9); /* two points beyond 4: 0 and 10% */
    assert_true(isnan(power_held_out(points, 5, 16)));
    assert_true(isnan(power_held_out(points, 5, 1)));
    points[4].variance = 1e9; /* a point that is known badly does not count */
    for (int i = 0; i < 4; i++)
        points[i].variance = 1e-6;
    assert_true(fit_power(points, 5, &law));
    assert_near(law.a, 2, 1e-6);
}

/* 159 prompts, 100 rollouts each, extrapolated to 1000: mean absolute error in points, over many data sets. */
static void saber_simulated(void **state)
{
    (void)state;
    static const struct {
        double alpha, beta, naive[2], anchored[2], exact[2]; /* bands */
    } worlds[] = {
        {.2, .8, {11, 15}, {.8, 2}, {.8, 2.4}},     {.4, 4, {14, 19}, {1.3, 2.3}, {1.3, 2.4}},
        {.3, 10, {23, 27}, {2.1, 3.5}, {2.1, 3.5}}, {.15, 3, {15, 20}, {1.6, 2.9}, {1.6, 2.9}},
        {.6, 2, {4.5, 7.5}, {.4, 1}, {.4, 1}},
    };
    enum { PROMPTS = 159, N = 100, FAR = 1000, SETS = 150 };
    for (size_t w = 0; w < LEN(worlds); w++) {
        struct dice dice = {7 + w, 0};
        double naive = 0, anchored = 0, exact = 0, inside = 0, narrow = 0;
        for (int set = 0; set < SETS; set++) {
            struct estimate_count counts[PROMPTS];
            double truth = 0, guess = 0, seen = 0;
            for (int p = 0; p < PROMPTS; p++) {
                double rate = beta_draw(worlds[w].alpha, worlds[w].beta, &dice);
                counts[p] = (struct estimate_count){binomial_draw(N, rate, &dice), N};
                truth += (1 - pow(1 - rate, FAR)) / PROMPTS;
                guess += (1 - pow(1 - (double)counts[p].right / N, FAR)) / PROMPTS;
                seen += (counts[p].right > 0) / (double)PROMPTS;
            }
            struct rate_law law = fit_rates(counts, PROMPTS), low = law_shifted(&law, -1.96),
                            high = law_shifted(&law, 1.96);
            struct anchor anchor = {N, seen, sqrt(seen * (1 - seen) / PROMPTS)};
            naive += 100 * fabs(guess - truth) / SETS;
            anchored += 100 * fabs(coverage_anchored(&law, anchor, FAR) - truth) / SETS;
            exact += 100 * fabs(coverage_exact(&law, FAR) - truth) / SETS;
            struct bounds bounds = coverage_bounds(&law, anchor, FAR, 1.96);
            inside += bounds.low <= truth && truth <= bounds.high;
            narrow += coverage_anchored(&low, anchor, FAR) <= truth && truth <= coverage_anchored(&high, anchor, FAR);
        }
        print_message("Beta(%g, %g): naive %.2f anchored %.2f exact %.2f; of %d intervals %.0f hold the truth, %.0f "
                      "with a certain anchor\n",
                      worlds[w].alpha, worlds[w].beta, naive, anchored, exact, SETS, inside, narrow);
        assert_true(inside >= 0.82 * SETS);
        assert_in_range((long)(1000 * naive), (long)(1000 * worlds[w].naive[0]), (long)(1000 * worlds[w].naive[1]));
        assert_in_range((long)(1000 * anchored), (long)(1000 * worlds[w].anchored[0]),
                        (long)(1000 * worlds[w].anchored[1]));
        assert_in_range((long)(1000 * exact), (long)(1000 * worlds[w].exact[0]), (long)(1000 * worlds[w].exact[1]));
    }
}

/* -- oracles -------------------------------------------------------------------------------------------------------- */

enum { QUANTILES = 20000 };

static double *quantiles_of(double a, double b)
{
    double *rates = calloc(QUANTILES, sizeof *rates), low = 0;
    for (int i = 0; i < QUANTILES; i++) {
        double high = 1, share = (i + 0.5) / QUANTILES;
        if (a == 0.5 && b == 0.5)
            low = pow(sin(M_PI * share / 2), 2);
        else
            for (int step = 0; step < 50; step++) {
                double middle = (low + high) / 2;
                if (beta_cdf(a, b, middle) < share)
                    low = middle;
                else
                    high = middle;
            }
        rates[i] = low;
    }
    return rates;
}

static void static_oracle(void **state)
{
    (void)state;
    assert_near(oracle_static_count(0.5, 0.05), 3.32, 5e-3);
    assert_near(oracle_static_count(0.1, 0.05), 6.58, 5e-3);
    assert_near(oracle_static_count(0.04, 0.05), 0, 0);
    double rates[] = {0.5, 0.1, 0.01}, counts[3];
    oracle_static(rates, 3, 3.3219281 + 6.5788134, counts); /* what lambda = .05 asks for */
    assert_near(counts[0], 3.3219, 1e-3);
    assert_near(counts[1], 6.5788, 1e-3);
    assert_near(counts[2], 0, 0);
    static const struct {
        double a, b, ratio;
    } laws[] = {{0.5, 0.5, 9.285}, {0.3, 0.7, 3.434}}; /* of the whole law */
    for (size_t i = 0; i < LEN(laws); i++) {
        double *of = quantiles_of(laws[i].a, laws[i].b);
        double covered = oracle_static(of, QUANTILES, 64.0 * QUANTILES, NULL);
        assert_near(coverage_inverse(&LAW(laws[i].a, laws[i].b), covered) / 64, laws[i].ratio, 0.005);
        free(of);
    }
}

/* Depth of elimination whose cost is this budget, and what it covers; steps between two depths are straight. */
static double elimination_coverage(const struct rate_law *law, double budget)
{
    struct elimination was = {0}, at = {0};
    for (uint32_t depth = 1; at.cost < budget; depth++) {
        was = at;
        at = elimination_at(law, depth);
    }
    return was.coverage + (at.coverage - was.coverage) * (budget - was.cost) / (at.cost - was.cost);
}

static void feedback_oracle(void **state)
{
    (void)state;
    static const struct {
        double budget, oracle, times, elimination, elimination_times, uniform;
    } rows[] = {
        {4, .8995, 8.0, .8450, 3.2, .7266}, {8, .9494, 15.6, .9212, 6.4, .8036}, {64, .9937, 0, .9901, 50, .9296}};
    struct rate_law law = LAW(0.5, 0.5);
    double *rates = quantiles_of(0.5, 0.5);
    for (size_t i = 0; i < LEN(rows); i++) {
        double budget = rows[i].budget, covered = oracle_feedback(rates, QUANTILES, budget * QUANTILES);
        double lambda = 1 / (1 + pow(M_PI * budget / 2, 2));
        assert_near(covered, 1 - 2 / M_PI * asin(sqrt(lambda)), 2e-4);
        assert_near(covered, rows[i].oracle, 2e-4);
        assert_near(coverage_exact(&law, budget), rows[i].uniform, 5e-5);
        double eliminated = elimination_coverage(&law, budget);
        assert_near(eliminated, rows[i].elimination, 1.2e-3);
        assert_near(coverage_inverse(&law, eliminated) / budget, rows[i].elimination_times,
                    0.02 * rows[i].elimination_times);
        if (rows[i].times > 0)
            assert_near(coverage_inverse(&law, covered) / budget, rows[i].times, 0.03 * rows[i].times);
        assert_true(oracle_static(rates, QUANTILES, budget * QUANTILES, NULL) < covered);
        assert_true(eliminated < covered);
    }
    free(rates);
    double one[] = {0.5, 0.25};
    assert_near(oracle_feedback(one, 2, 4), (1 + 0.25 * 2) / 2, 1e-12); /* 2 solve the first, 2 of 4 the second */
    assert_near(oracle_feedback(one, 2, 100), 1, 1e-12);
}

static void elimination_golden(void **state)
{
    (void)state;
    static const struct {
        double a, b;
        uint32_t depth;
        double cost, gain, eps;
    } rows[] = {
        {1, 1, 8, 2.72, 2.94, 5e-3}, {1, 1, 32, 4.06, 7.88, 5e-3},       {.5, .5, 8, 0, 2.55, 5e-3},
        {.5, .5, 32, 0, 5.03, 5e-3}, {.5, .5, 128, 0, 10.0, 5e-2},       {.3, .7, 8, 0, 1.72, 5e-3},
        {.3, .7, 32, 0, 2.58, 5e-3}, {.1220, .6454, 250, 0, 1.99, 5e-3}, {.2720, .4080, 10000, 0, 14.6, 5e-2},
    };
    for (size_t i = 0; i < LEN(rows); i++) {
        struct elimination at = elimination_at(&LAW(rows[i].a, rows[i].b), rows[i].depth);
        if (rows[i].cost > 0)
            assert_near(at.cost, rows[i].cost, 5e-3);
        assert_near(rows[i].depth / at.cost, rows[i].gain, rows[i].eps);
        assert_near(at.coverage, coverage_exact(&LAW(rows[i].a, rows[i].b), rows[i].depth), 1e-9);
    }
    struct rate_law half = {.alpha = 1, .beta = 1, .zero = 0.5};
    assert_near(elimination_at(&half, 2).cost, 0.5 * 2 + 0.5 * 1.5, 1e-12);
}

/* -- verifiers ------------------------------------------------------------------------------------------------------ */

static void verifier_ceiling(void **state)
{
    (void)state;
    struct error_rates weak = {1, 0.1};
    static const double at[][2] = {{1, .3}, {2, .489}, {5, .7303}, {10, .8028}};
    for (size_t i = 0; i < LEN(at); i++)
        assert_near(accuracy_until_accepted(0.3, weak, at[i][0]), at[i][1], 5e-5);
    assert_near(accepted_right(0.3, weak), 0.8108, 5e-5);
    assert_near(accepted_right(0, (struct error_rates){1, 0}), 0, 0);
    assert_near(odds_after(3.0 / 7, weak, 1, 0), 0.810811 / (1 - 0.810811), 1e-4);
    assert_near(odds_after(2, (struct error_rates){0.8, 0.4}, 2, 1), 2 * 4.0 / 3, 1e-9);
    assert_near(odds_after(2, weak, 0, 1), 0, 0);
}

static void repeats_table(void **state)
{
    (void)state;
    static const struct {
        double false_pass, cost;
        uint32_t best;
        double utility;
    } rows[] = {{.02, 1, 25, .773}, {.02, 4, 6, .615}, {.1, 1, 5, .564}, {.1, 4, 1, 0}, {.3, 1, 2, 0}};
    struct rate_law law = LAW(0.5, 0.5);
    double utility;
    for (size_t i = 0; i < LEN(rows); i++) {
        struct error_rates verifier = {1, rows[i].false_pass};
        assert_int_equal(repeats_worthwhile(&law, verifier, rows[i].cost, 1000, &utility), rows[i].best);
        if (rows[i].utility > 0)
            assert_near(utility, rows[i].utility, 1e-3);
    }
    assert_int_equal(repeats_worthwhile(&law, (struct error_rates){1, .1}, 0, 1000, &utility), UINT32_MAX);
    law.zero = 0.9; /* an accept is then mostly false */
    assert_int_equal(repeats_worthwhile(&law, (struct error_rates){1, .1}, 4, 1000, &utility), 0);
}

/* -- votes ---------------------------------------------------------------------------------------------------------- */

/* All draws of n of these by their bits; a tie gives each class its part. */
static double majority_brute(const struct ballot *ballot, uint32_t n)
{
    uint32_t class_of[16], all = 0, draws = 0;
    double sum = 0;
    for (uint32_t c = 0; c < ballot->len; c++)
        for (uint32_t i = 0; i < ballot->counts[c]; i++)
            class_of[all++] = c;
    for (uint32_t i = 0; i < ballot->blank; i++)
        class_of[all++] = 15;
    for (uint32_t set = 0; set < 1u << all; set++) {
        if ((uint32_t)__builtin_popcount(set) != n)
            continue;
        uint32_t votes[16] = {0}, top = 0, tied = 0;
        for (uint32_t i = 0; i < all; i++)
            votes[class_of[i]] += set >> i & 1;
        for (uint32_t c = 0; c < ballot->len; c++)
            top = votes[c] > top ? votes[c] : top;
        for (uint32_t c = 0; c < ballot->len; c++)
            tied += votes[c] == top;
        draws++;
        if (top > 0 && votes[ballot->right] == top)
            sum += 1.0 / tied;
    }
    return sum / draws;
}

static void majority_exact(void **state)
{
    (void)state;
    static const uint32_t counts[][4] = {{3, 3, 3, 3}, {5, 2, 2, 1}, {1, 6, 2, 1}, {2, 4, 4, 0}, {9, 0, 0, 0}};
    for (size_t i = 0; i < LEN(counts); i++)
        for (size_t right = 0; right < 2; right++)
            for (uint32_t blank = 0; blank < 3; blank++)
                for (uint32_t n = 1; n <= 9; n++) {
                    struct ballot ballot = {counts[i], 4, right, blank};
                    assert_near(majority_at(&ballot, n), majority_brute(&ballot, n), 1e-12);
                }
    struct ballot ballot = {counts[3], 4, 1, 0};
    assert_near(majority_at(&ballot, 10), 0.5, 1e-12);
    assert_near(majority_at(&ballot, 0), 0, 0);
    ballot.right = 4;
    assert_near(majority_at(&ballot, 5), 0, 0);
    uint32_t many[2] = {2100, 1900};
    ballot = (struct ballot){many, 2, 0, 96};
    double at = majority_at(&ballot, 21); /* close to drawing with replacement */
    assert_near(at, 0.59, 0.01);
}

/* -- effort and gain ------------------------------------------------------------------------------------------------ */

static void arise_golden(void **state)
{
    (void)state;
    assert_near(arise((struct effort[]){{0, 1000}, {1, 2000}}, 2), 0.5, 1e-12);
    assert_near(arise((struct effort[]){{1, 1000}, {0, 2000}}, 2), -2, 1e-12);
    assert_near(arise((struct effort[]){{0, 1}, {1, 2}, {0, 4}, {1, 8}}, 4), -1, 1e-12);
    assert_near(arise((struct effort[]){{0.5, 100}, {0.75, 400}, {0.25, 800}}, 3), 0.25 / 4 - 0.5 * 2, 1e-12);
    assert_near(arise((struct effort[]){{1, 1}}, 1), 0, 0);
}

/* Documents, shots and iterations of a configuration; what it reads grows with all three. From noisy accuracies of all
 * of them the fit picks the configuration that is truly best within a budget. */
static void grid_finds_the_best_configuration(void **state)
{
    (void)state;
    enum { TRIALS = 200, DOCS = 6, SHOTS = 4, STEPS = 4, ROWS = DOCS * SHOTS * STEPS };
    static const double docs[DOCS] = {0, 1, 2, 5, 10, 20}, shots[SHOTS] = {1, 2, 4, 8}, steps[STEPS] = {1, 2, 4, 8};
    const double budget = 20000;
    const struct grid_law truth = {.factors = 3, .plus_one = {true}, .slope = {.6, .15, .35}, .base = -2};
    uint32_t found = 0;
    struct dice dice = {11, 0};
    for (int trial = 0; trial < TRIALS; trial++) {
        struct grid_row rows[ROWS];
        double cost[ROWS];
        struct grid_law law;
        for (int i = 0; i < ROWS; i++) {
            double *at = rows[i].parameters;
            at[0] = docs[i % DOCS];
            at[1] = shots[i / DOCS % SHOTS];
            at[2] = steps[i / DOCS / SHOTS];
            cost[i] = at[2] * (500 * at[0] + 300 * at[1] + 100);
            double accuracy = grid_at(&truth, at), noisy = log(accuracy / (1 - accuracy)) + .1 * normal(&dice);
            rows[i].accuracy = 1 / (1 + exp(-noisy));
        }
        assert_true(fit_grid(rows, ROWS, 3, &law));
        int best = -1, picked = -1;
        for (int i = 0; i < ROWS; i++) {
            if (cost[i] > budget)
                continue;
            if (best < 0 || grid_at(&truth, rows[i].parameters) > grid_at(&truth, rows[best].parameters))
                best = i;
            if (picked < 0 || grid_at(&law, rows[i].parameters) > grid_at(&law, rows[picked].parameters))
                picked = i;
        }
        found += best == picked;
        for (int f = 0; f < 3; f++)
            assert_near(law.slope[f], truth.slope[f], .1);
        assert_true(law.plus_one[0] && !law.plus_one[1]);
    }
    print_message("%u of %d times\n", found, TRIALS);
    assert_true(found > TRIALS * 95 / 100);

    struct grid_row two[] = {{{1, 1}, .2}, {{2, 2}, .3}, {{4, 4}, .4}, {{8, 8}, .5}};
    struct grid_law law;
    assert_false(fit_grid(two, 4, 2, &law)); /* each parameter follows from the other */
    assert_false(fit_grid(two, 2, 1, &law)); /* two points are no evidence of a line */
    assert_true(fit_grid(two, 4, 1, &law));
    assert_near(grid_at(&law, (const double[]){2}), .3, .02);
}

static void gain_predicted(void **state)
{
    (void)state;
    enum { ROWS = 24 };
    static const double slopes[GAIN_FEATURES] = {0.4, -0.05, 0.1, 0.2};
    struct gain_row rows[2 * ROWS];
    struct gain_law law = {.penalty = 0};
    struct dice dice = {3, 0};
    double predicted[ROWS], measured[ROWS];
    for (int i = 0; i < 2 * ROWS; i++) {
        rows[i].gain = 0.1 + 0.02 * normal(&dice);
        for (int f = 0; f < GAIN_FEATURES; f++) {
            rows[i].x[f] = uniform(&dice) * (f == 1 ? 8 : 1);
            rows[i].gain += slopes[f] * rows[i].x[f];
        }
    }
    assert_false(fit_gain(rows, GAIN_ROWS_MIN - 1, &law));
    assert_true(fit_gain(rows, ROWS, &law));
    for (int i = 0; i < ROWS; i++) { /* configurations that it has not seen */
        predicted[i] = gain_at(&law, rows[ROWS + i].x);
        measured[i] = rows[ROWS + i].gain;
    }
    assert_true(rank_correlation(predicted, measured, ROWS) > 0.85);
    for (int f = 0; f < GAIN_FEATURES; f++)
        assert_near(law.slope[f] / law.scale[f], slopes[f], 0.25 * fabs(slopes[f]) + 0.02);
    struct gain_prompt prompts[] = {{0.5, 1, 4, 1}, {1, 3, 2, 0}};
    double x[GAIN_FEATURES];
    gain_features(prompts, 2, x);
    assert_near(x[0], 0.25, 1e-12);
    assert_near(x[1], 2, 1e-12);
    assert_near(x[2], 3, 1e-12);
    assert_near(x[3], 0.5, 1e-12);
    assert_near(rank_correlation((double[]){1, 2, 2, 4}, (double[]){10, 30, 20, 40}, 4), 0.948683, 1e-6);
    assert_true(isnan(rank_correlation((double[]){1, 1}, (double[]){1, 2}, 2)));
}

/* -- savings -------------------------------------------------------------------------------------------------------- */

static void isotonic_pools_violators(void **state)
{
    (void)state;
    double values[] = {1, 3, 2, 4, 3, 2, 6}, wanted[] = {1, 2.5, 2.5, 3, 3, 3, 6};
    isotonic(values, LEN(values));
    for (size_t i = 0; i < LEN(values); i++)
        assert_near(values[i], wanted[i], 1e-12);
    double falling[] = {3, 2, 1}, one[] = {5};
    isotonic(falling, 3);
    assert_near(falling[0], 2, 1e-12);
    assert_near(falling[2], 2, 1e-12);
    isotonic(one, 1);
    assert_near(one[0], 5, 0);
    isotonic(one, 0);
}

/* Two prompts, caps 1, 2, 4: the sums right are .5, 1, 2; the adaptive arm takes 3 rollouts of 5 tokens each. */
static void saving_by_hand(void **state)
{
    (void)state;
    struct saving_cell uniform[] = {{.5, 1, 10, 1}, {1, 2, 20, 2}, {1, 4, 40, 4},
                                    {0, 1, 10, 1},  {0, 2, 20, 2}, {1, 4, 40, 4}};
    struct saving_cell adaptive[] = {{.75, 1, 5, .25}, {.75, 2, 10, .5}};
    struct saving_input input = {uniform, adaptive, 2, 3};
    struct saving saving = saving_of(&input, 1), again = saving_of(&input, 1);
    assert_near(saving.accuracy, 0.75, 1e-12);
    assert_near(saving.difference, 0.75 - 1, 1e-12);
    assert_near(saving.difference_95.low, -0.25, 1e-12); /* both prompts have the same */
    assert_near(saving.difference_95.high, -0.25, 1e-12);
    assert_near(saving.rollouts, 6.0 / 3, 1e-12); /* 1.5 right: half way from 4 rollouts to 8 */
    assert_near(saving.tokens, 60.0 / 15, 1e-12);
    assert_near(saving.cost, 6.0 / .75, 1e-12);
    assert_true(saving.cost_95.low <= saving.cost && saving.cost <= saving.cost_95.high);
    assert_int_equal(saving.place, SAVING_BETWEEN);
    assert_memory_equal(&saving, &again, sizeof saving);
    assert_true(saving.rollouts_95.low <= saving.rollouts && saving.rollouts <= saving.rollouts_95.high);
    struct saving_cell wiggle[] = {
        {0, 1, 1, 0}, {1, 2, 2, 0}, {.5, 4, 4, 0}, {1, 8, 8, 0}}; /* smoothed: 0, .75, .75, 1 */
    struct saving_cell quick[] = {{.75, 1, 1, 0}};
    struct saving_input smooth = {wiggle, quick, 1, 4};
    assert_near(saving_of(&smooth, 1).rollouts, 2, 1e-12);
    assert_false(isfinite(saving_of(&smooth, 1).cost)); /* nothing has a price */
    quick[0].right = .875;
    assert_near(saving_of(&smooth, 1).rollouts, 6, 1e-12);
    adaptive[0].right = adaptive[1].right = 0.1;
    saving = saving_of(&input, 1);
    assert_int_equal(saving.place, SAVING_BELOW);
    assert_near(saving.rollouts, 2.0 / 3, 1e-12);
    uniform[5].right = 0.5;
    adaptive[0].right = adaptive[1].right = 1;
    saving = saving_of(&input, 1);
    assert_int_equal(saving.place, SAVING_BEYOND);
    assert_near(saving.rollouts, 8.0 / 3, 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fit_finds_the_law),
        cmocka_unit_test(fit_of_odd_counts),
        cmocka_unit_test(coverage_golden),
        cmocka_unit_test(coverage_has_a_ceiling),
        cmocka_unit_test(known_laws),
        cmocka_unit_test(power_law_golden),
        cmocka_unit_test(saber_simulated),
        cmocka_unit_test(static_oracle),
        cmocka_unit_test(feedback_oracle),
        cmocka_unit_test(elimination_golden),
        cmocka_unit_test(verifier_ceiling),
        cmocka_unit_test(repeats_table),
        cmocka_unit_test(majority_exact),
        cmocka_unit_test(isotonic_pools_violators),
        cmocka_unit_test(saving_by_hand),
        cmocka_unit_test(arise_golden),
        cmocka_unit_test(grid_finds_the_best_configuration),
        cmocka_unit_test(gain_predicted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
