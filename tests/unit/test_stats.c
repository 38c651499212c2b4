/* test_stats.c - statistics kept up to date one rollout at a time equal those computed from
 * scratch. */
#include "broker/policy/policy.h"
#include "common/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define ITEMS_MAX 40

/* Few classes and coarse scores, so that ties are common; negative scores, so that weights shrink.
 */
static struct item random_item(uint64_t seed, uint32_t ordinal)
{
    uint64_t bits = rng_u64(seed, RNG_TEST, 1, ordinal);
    uint32_t classes = 1 + (uint32_t)(seed % 7);
    return (struct item){
        .ordinal = ordinal + (uint32_t)(seed % 3), /* ordinals need not start at 0 */
        .failed = bits % 9 == 0,
        .class = (bits >> 4) % 6 == 0 ? 0 : 1000 - ((bits >> 8) % classes),
        .scored = (bits >> 16) % 4 != 0,
        .passed = (bits >> 20) % 5 == 0,
        .score = (double)((bits >> 24) % 5) * 0.5 - (seed % 2 ? 1 : 0),
        .tokens = (bits >> 40) % 100,
    };
}

static bool votes(const struct item *item)
{
    return !item->failed && item->class != 0;
}

static bool has_score(const struct item *item)
{
    return !item->failed && item->scored;
}

/* The classes in the order of their first members. */
static uint32_t brute_classes(const struct item *items, uint32_t n, struct class_stat *out)
{
    uint32_t len = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool seen = false;
        for (uint32_t j = 0; j < i; j++)
            seen |= votes(&items[j]) && items[j].class == items[i].class;
        if (!votes(&items[i]) || seen)
            continue;
        struct class_stat c = {items[i].class, items[i].ordinal, 0, 0, 0, -INFINITY};
        for (uint32_t j = i; j < n; j++) {
            if (!votes(&items[j]) || items[j].class != c.class)
                continue;
            c.count++;
            if (!items[j].scored)
                continue;
            c.scored++;
            c.weight += items[j].score;
            c.score_best = fmax(c.score_best, items[j].score);
        }
        out[len++] = c;
    }
    return len;
}

static uint32_t brute_top(const struct class_stat *c, uint32_t len, uint32_t without, bool weight)
{
    uint32_t best = NO_ORDINAL;
    for (uint32_t i = 0; i < len; i++) {
        if (i == without)
            continue;
        if (best == NO_ORDINAL || (weight ? c[i].weight > c[best].weight : c[i].count > c[best].count))
            best = i;
    }
    return best;
}

static void check_classes(const struct stats *s, const struct item *items, uint32_t n)
{
    struct class_stat classes[ITEMS_MAX];
    uint32_t len = brute_classes(items, n, classes);
    assert_int_equal(s->classes_len, len);
    for (uint32_t i = 0; i < len; i++) {
        assert_int_equal(s->classes[i].class, classes[i].class);
        assert_int_equal(s->classes[i].first, classes[i].first);
        assert_int_equal(s->classes[i].count, classes[i].count);
        assert_int_equal(s->classes[i].scored, classes[i].scored);
        assert_true(s->classes[i].weight == classes[i].weight);
        assert_true(s->classes[i].score_best == classes[i].score_best);
    }
    uint32_t top = brute_top(classes, len, NO_ORDINAL, false);
    assert_int_equal(s->top, top);
    assert_int_equal(s->second, brute_top(classes, len, top, false));
    assert_int_equal(s->top_weight, brute_top(classes, len, NO_ORDINAL, true));
}

struct sums {
    uint32_t failed, voters, scored, passes, first_pass, best, first_answer;
    double score_best, score_sum, score_sumsq;
    uint64_t tokens;
};

static void brute_score(struct sums *s, const struct item *item)
{
    s->scored++;
    s->score_sum += item->score;
    s->score_sumsq += item->score * item->score;
    s->passes += item->passed;
    if (item->passed && s->first_pass == NO_ORDINAL)
        s->first_pass = item->ordinal;
    if (item->score > s->score_best) {
        s->score_best = item->score;
        s->best = item->ordinal;
    }
}

static struct sums brute_sums(const struct item *items, uint32_t n)
{
    struct sums s = {.first_pass = NO_ORDINAL, .best = NO_ORDINAL, .first_answer = NO_ORDINAL, .score_best = -INFINITY};
    for (uint32_t i = 0; i < n; i++) {
        s.failed += items[i].failed;
        s.voters += votes(&items[i]);
        s.tokens += items[i].failed ? 0 : items[i].tokens;
        if (votes(&items[i]) && s.first_answer == NO_ORDINAL)
            s.first_answer = items[i].ordinal;
        if (has_score(&items[i]))
            brute_score(&s, &items[i]);
    }
    return s;
}

static void check_sums(const struct stats *s, const struct item *items, uint32_t n)
{
    struct sums b = brute_sums(items, n);
    assert_int_equal(s->delivered, n);
    assert_int_equal(s->failed, b.failed);
    assert_int_equal(s->voters, b.voters);
    assert_int_equal(s->scored, b.scored);
    assert_int_equal(s->passes, b.passes);
    assert_int_equal(s->first_pass, b.first_pass);
    assert_int_equal(s->best, b.best);
    assert_int_equal(s->first_answer, b.first_answer);
    assert_int_equal(s->tokens, b.tokens);
    assert_true(s->score_sum == b.score_sum);
    assert_true(s->score_sumsq == b.score_sumsq);
    assert_true(b.best == NO_ORDINAL || s->score_best == b.score_best);
    for (uint32_t i = 0; s->keeps && i < n; i++)
        assert_memory_equal(&s->items[i], &items[i], sizeof items[i]);
}

static void incremental_equals_brute_force(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10000; seed++) {
        struct item items[ITEMS_MAX];
        uint32_t len = (uint32_t)(rng_u64(seed, RNG_TEST, 0, 0) % (ITEMS_MAX + 1));
        struct stats s;
        stats_init(&s, seed % 2);
        for (uint32_t i = 0; i < len; i++) {
            items[i] = random_item(seed, i);
            stats_fold(&s, &items[i]);
            if (seed % 10 == 0) { /* after every fold */
                check_classes(&s, items, i + 1);
                check_sums(&s, items, i + 1);
            }
        }
        check_classes(&s, items, len);
        check_sums(&s, items, len);
        stats_clear(&s);
    }
}

static void empty(void **state)
{
    (void)state;
    struct stats s;
    stats_init(&s, true);
    check_classes(&s, NULL, 0);
    check_sums(&s, NULL, 0);
    stats_clear(&s);
    stats_clear(&s); /* twice does no harm */
}

/* A failed rollout keeps its place and nothing else, whatever else its record says. */
static void failed_counts_only(void **state)
{
    (void)state;
    struct stats s;
    stats_init(&s, true);
    stats_fold(&s, &(struct item){.ordinal = 0,
                                  .class = 7,
                                  .failed = true,
                                  .scored = true,
                                  .passed = true,
                                  .score = 1,
                                  .have = 1u << FEATURE_LP_MEAN,
                                  .features = (float[]){-1},
                                  .tokens = 9});
    assert_int_equal(s.delivered, 1);
    assert_int_equal(s.failed, 1);
    assert_int_equal(s.voters + s.scored + s.passes + s.classes_len, 0);
    assert_int_equal(s.best, NO_ORDINAL);
    assert_int_equal(s.tokens, 0);
    double value;
    assert_false(item_feature(&s.items[0], FEATURE_LP_MEAN, &value));
    stats_clear(&s);
}

static void copy_is_independent(void **state)
{
    (void)state;
    struct stats a, b;
    stats_init(&a, true);
    stats_copy(&b, &a);
    stats_clear(&b);
    struct item items[20];
    for (uint32_t i = 0; i < 10; i++) {
        items[i] = random_item(13, i);
        stats_fold(&a, &items[i]);
    }
    stats_copy(&b, &a);
    for (uint32_t i = 10; i < 20; i++) {
        items[i] = random_item(13, i);
        stats_fold(&b, &items[i]);
    }
    check_classes(&a, items, 10);
    check_sums(&a, items, 10);
    stats_clear(&a);
    check_classes(&b, items, 20);
    check_sums(&b, items, 20);
    stats_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty),
        cmocka_unit_test(incremental_equals_brute_force),
        cmocka_unit_test(failed_counts_only),
        cmocka_unit_test(copy_is_independent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
