/* test_kernel.c - golden values of the numeric kernel, and its identities. */
#include "broker/policy/kernel.h"
#include "common/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define assert_near(a, b, eps) assert_true(fabs((a) - (b)) <= (eps))
#define LEN(a)                 (sizeof(a) / sizeof((a)[0]))

static void half_tail_golden(void **state)
{
    (void)state;
    assert_near(half_tail(0, 0), 0.5, 0);
    assert_near(half_tail(3, 0), 0.9375, 0);
    assert_near(half_tail(4, 0), 0.96875, 0);
    assert_near(half_tail(5, 1), 0.9375, 0);
    assert_near(half_tail(6, 1), 0.96484, 5e-6);
    assert_near(half_tail(8, 2), 0.96729, 5e-6);
    assert_near(half_tail(1, 5) + half_tail(5, 1), 1, 0);
    assert_near(half_tail(30000, 30000), 0.5, 1e-12); /* scaled: C(n, n/2) has 18,000 digits */
    assert_near(half_tail(60000, 10), 1, 0);
}

static void half_tail_table(void **state)
{
    (void)state;
    static const uint32_t least[] = {4, 6, 8, 9, 11, 12, 14, 15, 17, 18, 19, 21, 22, 23, 25, 26, 27, 29, 30, 31, 32};
    for (uint32_t b = 0; b < LEN(least); b++) {
        assert_int_equal(half_tail_least(b, 0.95), least[b]);
        assert_false(half_tail_reached(least[b] - 1, b, 0.95));
        assert_true(half_tail_reached(least[b], b, 0.95));
    }
    for (uint32_t b = 0; b < 200; b++) { /* constants, and what follows them, agree with the sums */
        uint32_t a = half_tail_least(b, 0.95);
        assert_true(half_tail(a, b) >= 0.95);
        assert_true(half_tail(a - 1, b) < 0.95);
    }
}

static void half_tail_other_thresholds(void **state)
{
    (void)state;
    static const double thresholds[] = {0.501, 0.6, 0.8, 0.9, 0.9375, 0.9500001, 0.99, 0.999999};
    for (size_t t = 0; t < LEN(thresholds); t++) {
        for (uint32_t b = 0; b < 100; b += 7) {
            uint32_t a = half_tail_least(b, thresholds[t]);
            assert_true(a > b);
            assert_true(half_tail_reached(a, b, thresholds[t]));
            assert_false(half_tail_reached(a - 1, b, thresholds[t]));
        }
    }
    assert_int_equal(half_tail_least(0, 0.9375), 3); /* exactly reached */
    assert_int_equal(half_tail_least(1, 0.9375), 5);
    assert_false(half_tail_reached(3, 9, 0.6)); /* the order of the counts matters */
}

static void half_density_golden(void **state)
{
    (void)state;
    static const uint32_t two[] = {8, 11, 14, 16, 18, 20}, five[] = {10, 14, 16, 19, 21, 23};
    assert_near(half_density(5, 0), 0.1875, 0);
    assert_near(half_density(0, 5), 0.1875, 0);
    for (uint32_t b = 0; b < LEN(two); b++) {
        assert_true(half_density(two[b], b) <= 0.05);
        assert_true(half_density(two[b] - 1, b) > 0.05);
        assert_true(half_density(five[b], b) <= 0.05 / 4);
        assert_true(half_density(five[b] - 1, b) > 0.05 / 4);
    }
    assert_true(isfinite(half_density(40000, 20000)));
}

static void survival_golden(void **state)
{
    (void)state;
    static const struct {
        uint32_t n;
        double found;
    } rows[] = {{0, 0}, {1, .09091}, {5, .28906}, {10, .40708}, {100, .73612}, {1000, .89357}};
    for (size_t i = 0; i < LEN(rows); i++)
        assert_near(1 - beta_survival(.4, 4, rows[i].n), rows[i].found, 5e-6);
    double gamma = exp(lgamma(4 + 50) + lgamma(4.4) - lgamma(4.4 + 50) - lgamma(4));
    assert_near(beta_survival(.4, 4, 50), gamma, 1e-12);
}

static void pass_at_k_golden(void **state)
{
    (void)state;
    assert_near(pass_at_k(10, 3, 1), .3, 1e-15);
    assert_near(pass_at_k(10, 3, 2), .53333, 5e-6);
    assert_near(pass_at_k(10, 3, 5), .91667, 5e-6);
    assert_near(pass_at_k(10, 3, 8), 1, 0);
    assert_near(pass_at_k(10, 0, 10), 0, 0);
    assert_near(pass_at_k(1, 1, 1), 1, 0);
    assert_near(pass_at_k(65536, 1, 32768), .5, 1e-9);
}

static void best_of_k_golden(void **state)
{
    (void)state;
    struct scored_rollout r[] = {{.1, 0}, {.9, 0}, {.7, 1}, {.5, 1}}; /* by score: 0, 1, 1, 0 */
    assert_near(best_of_k(r, 4, 1), .5, 1e-15);
    assert_near(best_of_k(r, 4, 2), .5, 1e-15);
    assert_near(best_of_k(r, 4, 3), .25, 1e-15);
    assert_near(best_of_k(r, 4, 4), 0, 0);
    struct scored_rollout perfect[10] = {{0}}; /* a perfect scorer gives pass@k */
    for (size_t i = 0; i < 10; i++)
        perfect[i].score = perfect[i].right = i < 3;
    for (uint32_t k = 1; k <= 10; k++)
        assert_near(best_of_k(perfect, 10, k), pass_at_k(10, 3, k), 1e-12);
}

/* Two of three tie at the top: the mean over both orders. All tied: the mean, whatever k. */
static void best_of_k_ties(void **state)
{
    (void)state;
    struct scored_rollout r[] = {{.3, 0}, {.8, 1}, {.8, 0}};
    struct scored_rollout x[] = {{.3, 0}, {.8, 1}, {.7, 0}}, y[] = {{.3, 0}, {.7, 1}, {.8, 0}};
    for (size_t k = 1; k <= 3; k++)
        assert_near(best_of_k(r, 3, k), (best_of_k(x, 3, k) + best_of_k(y, 3, k)) / 2, 1e-15);
    struct scored_rollout same[8];
    for (size_t i = 0; i < 8; i++)
        same[i] = (struct scored_rollout){.score = 1, .right = i % 4 == 0};
    for (size_t k = 1; k <= 8; k++)
        assert_near(best_of_k(same, 8, k), .25, 1e-12);
}

static void best_of_n_divergence_golden(void **state)
{
    (void)state;
    static const struct {
        uint32_t n;
        double nats;
    } rows[] = {{1, 0}, {2, .1931}, {4, .6363}, {16, 1.8351}, {64, 3.1745}};
    for (size_t i = 0; i < LEN(rows); i++)
        assert_near(best_of_n_divergence(rows[i].n), rows[i].nats, 5e-5);
}

static void log_weights(void **state)
{
    (void)state;
    double x[] = {log(1), log(2), log(5)};
    assert_near(log_sum_exp(x, 3), log(8), 1e-15);
    assert_true(isinf(log_sum_exp(x, 0)));
    double far[] = {-5000, -5000}, equal[] = {3, 3, 3, 3};
    assert_near(log_sum_exp(far, 2), -5000 + log(2), 1e-12);
    assert_near(effective_size(equal, 4), 4, 0);
    assert_near(effective_size(x, 3), 64.0 / 30, 1e-12);
    assert_near(weights_normalise(x, 3), log(8), 1e-15);
    assert_near(x[0], .125, 1e-15);
    assert_near(x[2], .625, 1e-15);
}

static void systematic_counts(void **state)
{
    (void)state;
    for (uint64_t trial = 0; trial < 2000; trial++) {
        enum { N = 13 };
        double w[N], mean[N] = {0};
        uint32_t counts[N], sum = 0;
        for (size_t i = 0; i < N; i++)
            w[i] = -5 * rng_unit(rng_u64(trial, RNG_TEST, 1, i));
        weights_normalise(w, N);
        resample_systematic(w, N, rng_unit(rng_u64(trial, RNG_TEST, 2, 0)), counts);
        for (size_t i = 0; i < N; i++) {
            sum += counts[i];
            assert_true(counts[i] >= floor(N * w[i] - 1e-9));
            assert_true(counts[i] <= ceil(N * w[i] + 1e-9));
        }
        assert_int_equal(sum, N);
        if (trial > 0)
            continue;
        for (size_t j = 0; j < 1000; j++) { /* over a grid of u the mean is n * weight */
            resample_systematic(w, N, ((double)j + .5) / 1000, counts);
            for (size_t i = 0; i < N; i++)
                mean[i] += counts[i] / 1000.0;
        }
        for (size_t i = 0; i < N; i++)
            assert_near(mean[i], N * w[i], 2e-3);
    }
}

static void systematic_edges(void **state)
{
    (void)state;
    double one[] = {0, 1, 0}, equal[] = {.25, .25, .25, .25};
    uint32_t counts[4];
    resample_systematic(one, 3, 0.999999, counts);
    assert_int_equal(counts[1], 3);
    resample_systematic(equal, 4, 0, counts);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(counts[i], 1);
}

static void multinomial_pick(void **state)
{
    (void)state;
    double w[] = {0, .5, 0, .25, .25, 0};
    uint32_t hits[6] = {0};
    weights_cumulate(w, 6);
    for (size_t j = 0; j < 1000; j++)
        hits[resample_pick(w, 6, (double)j / 1000)]++;
    const uint32_t expected[] = {0, 500, 0, 250, 250, 0};
    assert_memory_equal(hits, expected, sizeof(hits));
}

/* Golden values are sums of binomial terms: P(Beta(a, b) <= x) = P(Bin(a + b - 1, x) >= a) for whole a and b. */
static void beta_golden(void **state)
{
    (void)state;
    assert_near(beta_cdf(1, 1, 0.3), 0.3, 1e-14);
    assert_near(beta_cdf(2, 3, 0.4), 0.5248, 1e-14);
    assert_near(beta_cdf(0.5, 0.5, 0.25), 1.0 / 3, 1e-13);
    assert_near(beta_cdf(2000, 3000, 0.4), 0.500767788, 1e-8);
    assert_near(beta_cdf(4, 7, 0), 0, 0);
    assert_near(beta_cdf(4, 7, 1), 1, 0);
    for (uint32_t a = 0; a < 12; a++)
        for (uint32_t b = 0; b < 12; b++)
            assert_near(1 - beta_cdf(a + 1, b + 1, 0.5), half_tail(a, b), 1e-12);
}

static void interval_golden(void **state)
{
    static const struct {
        uint64_t hits, n;
        double low, high;
    } rows[] = {{5, 10, 0.1870860, 0.8129140},
                {0, 10, 0, 0.3084971},
                {10, 10, 0.6915029, 1},
                {1, 1, 0.025, 1},
                {300, 1000, 0.2717211, 0.3294617}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double low, high;
        binomial_interval(rows[i].hits, rows[i].n, 0.95, &low, &high);
        assert_near(low, rows[i].low, 2e-6);
        assert_near(high, rows[i].high, 2e-6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_tail_golden),
        cmocka_unit_test(half_tail_table),
        cmocka_unit_test(half_tail_other_thresholds),
        cmocka_unit_test(half_density_golden),
        cmocka_unit_test(survival_golden),
        cmocka_unit_test(pass_at_k_golden),
        cmocka_unit_test(best_of_k_golden),
        cmocka_unit_test(best_of_k_ties),
        cmocka_unit_test(best_of_n_divergence_golden),
        cmocka_unit_test(log_weights),
        cmocka_unit_test(systematic_counts),
        cmocka_unit_test(systematic_edges),
        cmocka_unit_test(multinomial_pick),
        cmocka_unit_test(beta_golden),
        cmocka_unit_test(interval_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
