/* Features of a rollout from the log-probabilities of its tokens: golden values, worked out by hand or by brute force. */
#include "worker/logprobs.h"
#include "common/buf.h"
#include "common/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void near(double got, double wanted)
{
    if (fabs(got - wanted) > 1e-6 * (1 + fabs(wanted)))
        fail_msg("got %.9g, wanted %.9g", got, wanted);
}

static void test_nothing(void **state)
{
    (void)state;
    struct logprobs logprobs = {.top = 5};
    struct features features = {0};
    logprobs_features(&logprobs, &features);
    assert_int_equal(features.have, 0);
}

static void test_sampled(void **state)
{
    (void)state;
    struct logprobs logprobs = {0};
    struct features features = {.have = 1u << FEATURE_REWARD, .v[FEATURE_REWARD] = 7};
    const double values[] = {-1, -3, -2};
    for (size_t i = 0; i < 3; i++)
        logprobs_sampled(&logprobs, values[i]);
    logprobs_features(&logprobs, &features);
    assert_int_equal(features.have, 1u << FEATURE_LP_SUM | 1u << FEATURE_LP_MEAN | 1u << FEATURE_NLL_VAR |
                                        1u << FEATURE_LP_MIN | 1u << FEATURE_REWARD);
    near(features.v[FEATURE_LP_SUM], -6);
    near(features.v[FEATURE_LP_MEAN], -2);
    near(features.v[FEATURE_NLL_VAR], 2.0 / 3);
    near(features.v[FEATURE_LP_MIN], -3);
    near(features.v[FEATURE_REWARD], 7);
}

static void position(struct logprobs *logprobs, const double *values, size_t len)
{
    for (size_t i = 0; i < len; i++)
        logprobs_alternative(logprobs, values[i]);
    logprobs_position_end(logprobs);
}

/* Two alternatives of 1/2 and 1/4; the rest, 1/4, counts as one more: 1.0397 nats. */
static void test_alternatives(void **state)
{
    (void)state;
    struct logprobs logprobs = {.top = 2};
    struct features features = {0};
    const double values[] = {log(0.5), log(0.25)};
    position(&logprobs, values, 2);
    logprobs_features(&logprobs, &features);
    near(features.v[FEATURE_ENT_MEAN], 0.5 * log(2) + 0.5 * log(4));
    near(features.v[FEATURE_ENT_TAIL], features.v[FEATURE_ENT_MEAN]);
    near(features.v[FEATURE_CONF_MEAN], (log(2) + log(4)) / 2);
    near(features.v[FEATURE_CONF_MIN], features.v[FEATURE_CONF_MEAN]);
    near(features.v[FEATURE_CONF_TAIL], features.v[FEATURE_CONF_MEAN]);
    near(features.v[FEATURE_CONF_BOTTOM10], features.v[FEATURE_CONF_MEAN]);
    assert_int_equal(features.have & 1u << FEATURE_LP_SUM, 0);
    logprobs_clear(&logprobs);
}

/* A sampled token that is not among the k likeliest comes as number k + 1: no part of the confidence. */
static void test_sampled_among_alternatives(void **state)
{
    (void)state;
    struct logprobs logprobs = {.top = 2};
    struct features features = {0};
    const double values[] = {log(0.001), log(0.5), log(0.25)};
    position(&logprobs, values, 3);
    logprobs_features(&logprobs, &features);
    near(features.v[FEATURE_CONF_MEAN], (log(2) + log(4)) / 2);
    logprobs_clear(&logprobs);
}

/* None were asked for: vLLM still sends the sampled one, which says nothing of the distribution. */
static void test_not_asked_for(void **state)
{
    (void)state;
    struct logprobs logprobs = {.top = 0};
    struct features features = {0};
    position(&logprobs, (const double[]){-1}, 1);
    position(&logprobs, NULL, 0);
    logprobs_features(&logprobs, &features);
    assert_int_equal(features.have, 0);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Windows of 2048 against the definition, over 5,000 tokens with a dip. */
static void test_windows(void **state)
{
    (void)state;
    enum { LEN = 5000, GROUPS = LEN - LOGPROBS_WINDOW + 1 };
    static double confidence[LEN], groups[GROUPS];
    struct logprobs logprobs = {.top = 1};
    struct features features = {0};
    double mean = 0, low = 0, tail = 0;
    for (int i = 0; i < LEN; i++) {
        double value = 1 + rng_unit(rng_u64(1, RNG_TEST, (uint64_t)i, 0)) - (i > 3000 && i < 3100 ? 0.9 : 0);
        confidence[i] = (float)value;
        mean += confidence[i] / LEN;
        position(&logprobs, &(double){-value}, 1);
    }
    for (int i = 0; i < GROUPS; i++) {
        for (int j = 0; j < LOGPROBS_WINDOW; j++)
            groups[i] += confidence[i + j];
        groups[i] /= LOGPROBS_WINDOW;
    }
    tail = groups[GROUPS - 1];
    qsort(groups, GROUPS, sizeof *groups, compare);
    for (int i = 0; i < GROUPS / 10; i++)
        low += groups[i] / (GROUPS / 10);
    logprobs_features(&logprobs, &features);
    near(features.v[FEATURE_CONF_MEAN], mean);
    near(features.v[FEATURE_CONF_TAIL], tail);
    near(features.v[FEATURE_CONF_MIN], groups[0]);
    near(features.v[FEATURE_CONF_BOTTOM10], low);
    logprobs_clear(&logprobs);
}

/* A rollout falls below a threshold with the first whole window of which the mean does, and its features agree. */
static void test_below(void **state)
{
    (void)state;
    enum { LEN = 200, WINDOW = 16 };
    static double confidence[LEN];
    for (int at = 0; at < 100; at++) {
        const double threshold = 0.9 + 0.01 * at;
        struct logprobs logprobs = {.top = 1, .window = WINDOW};
        struct features features = {0};
        bool below = false;
        for (int i = 0; i < LEN; i++) {
            double value = 1 + rng_unit(rng_u64(9, RNG_TEST, (uint64_t)i, (uint64_t)at)), sum = 0;
            confidence[i] = (float)value;
            position(&logprobs, &(double){-value}, 1);
            for (int j = i - WINDOW + 1; i + 1 >= WINDOW && j <= i; j++)
                sum += confidence[j];
            below = below || (i + 1 >= WINDOW && (double)(float)(sum / WINDOW) < threshold);
            if (fabs(sum / WINDOW - threshold) > 1e-6)
                assert_int_equal(logprobs_below(&logprobs, threshold), below);
        }
        logprobs_features(&logprobs, &features);
        assert_int_equal(logprobs_below(&logprobs, threshold), (double)(float)features.v[FEATURE_CONF_MIN] < threshold);
        assert_false(logprobs_below(&logprobs, 0));
        logprobs_clear(&logprobs);
    }
}

/* Less than a window is never below, and a dip that is shorter than the window may not be. */
static void test_not_below(void **state)
{
    (void)state;
    struct logprobs logprobs = {.top = 1, .window = 4};
    assert_false(logprobs_below(&logprobs, 1e9));
    for (int i = 0; i < 3; i++)
        position(&logprobs, &(double){0}, 1);
    assert_false(logprobs_below(&logprobs, 1e9));
    logprobs_reset(&logprobs);
    for (int i = 0; i < 12; i++)
        position(&logprobs, &(double){i == 6 ? -0.5 : -2}, 1);
    assert_false(logprobs_below(&logprobs, 1.5)); /* its windows with the dip have 1.625 */
    assert_true(logprobs_below(&logprobs, 1.7));
    logprobs_clear(&logprobs);
}

/* Only the last 16 positions are the tail. */
static void test_entropy_tail(void **state)
{
    (void)state;
    struct logprobs logprobs = {.top = 1};
    struct features features = {0};
    for (int i = 0; i < 40; i++)
        position(&logprobs, &(double){i < 24 ? log(0.5) : 0}, 1);
    logprobs_features(&logprobs, &features);
    near(features.v[FEATURE_ENT_TAIL], 0);
    near(features.v[FEATURE_ENT_MEAN], 24 * log(2) / 40);
    logprobs_reset(&logprobs);
    assert_int_equal(logprobs.top, 1);
    features.have = 0;
    logprobs_features(&logprobs, &features);
    assert_int_equal(features.have, 0);
    logprobs_clear(&logprobs);
}

/* Who knows the whole distribution says what follows from it. */
static void test_distributions(void **state)
{
    (void)state;
    struct logprobs logprobs = {0};
    struct features features = {0};
    logprobs_distribution(&logprobs, &(struct distribution){.confidence = 1, .entropy = 0.5, .certainty = 0.25});
    logprobs_distribution(&logprobs, &(struct distribution){.confidence = 3, .entropy = 1.5, .certainty = 0.5});
    logprobs_features(&logprobs, &features);
    near(features.v[FEATURE_CONF_MEAN], 2);
    near(features.v[FEATURE_ENT_MEAN], 1);
    near(features.v[FEATURE_SELF_CERT], 0.375);
    logprobs.top = 1;
    position(&logprobs, (const double[]){0}, 1); /* of this one only the likeliest are known */
    features.have = 0;
    logprobs_features(&logprobs, &features);
    assert_int_equal(features.have & 1u << FEATURE_SELF_CERT, 0);
    assert_int_equal(features.have & 1u << FEATURE_CONF_MIN, 1u << FEATURE_CONF_MIN);
    logprobs_clear(&logprobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),       cmocka_unit_test(test_sampled),
        cmocka_unit_test(test_alternatives),  cmocka_unit_test(test_sampled_among_alternatives),
        cmocka_unit_test(test_not_asked_for), cmocka_unit_test(test_windows),
        cmocka_unit_test(test_entropy_tail),  cmocka_unit_test(test_distributions),
        cmocka_unit_test(test_below),         cmocka_unit_test(test_not_below),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
