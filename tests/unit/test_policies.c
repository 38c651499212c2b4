/* test_policies.c - allocators, stoppers, selectors and the tables that list them. */
#include "broker/policy/kernel.h"
#include "broker/policy/policy.h"
#include "common/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define assert_near(a, b, eps) assert_true(fabs((a) - (b)) <= (eps))

struct fixture {
    struct stats stats;
    double values[POLICY_OPTIONS_MAX];
    struct prompt_view view;
};

static void set_fallbacks(struct fixture *f, const struct option_row *options)
{
    for (size_t i = 0; options[i].name; i++)
        f->values[i] = options[i].fallback;
}

static void fixture_init(struct fixture *f, const struct option_row *options, uint32_t cap)
{
    stats_init(&f->stats, true);
    set_fallbacks(f, options);
    f->view = (struct prompt_view){.cap = cap, .stats = &f->stats, .cost = 1, .options = f->values};
}

/* Deliver a rollout; score < 0: not judged. */
static void deliver(struct fixture *f, uint64_t class, double score, bool passed)
{
    struct item item = {
        .ordinal = f->stats.delivered, .class = class, .scored = score >= 0, .passed = passed, .score = score};
    stats_fold(&f->stats, &item);
    if (f->view.opened < f->stats.delivered)
        f->view.opened = f->stats.delivered;
}

/* ---- tables ---- */

static size_t options_len(const struct option_row *options)
{
    size_t len = 0;
    for (; options[len].name; len++) {
        const struct option_row *o = &options[len];
        assert_non_null(o->help);
        assert_true(o->min <= o->fallback);
        assert_true(o->fallback <= o->max);
        for (size_t i = 0; i < len; i++)
            assert_string_not_equal(options[i].name, o->name);
    }
    assert_true(len <= POLICY_OPTIONS_MAX);
    return len;
}

#define CHECK_TABLE(table, find)                              \
    for (size_t i = 0; (table)[i]; i++) {                     \
        assert_ptr_equal(find((table)[i]->name), (table)[i]); \
        assert_non_null((table)[i]->help);                    \
        assert_true((table)[i]->version >= 1);                \
        assert_true((table)[i]->min_n >= 1);                  \
        options_len((table)[i]->options);                     \
    }

static void tables_find(void **state)
{
    (void)state;
    CHECK_TABLE(strategies, strategy_find)
    CHECK_TABLE(allocators, allocator_find)
    CHECK_TABLE(stoppers, stopper_find)
    CHECK_TABLE(selectors, selector_find)
    assert_null(strategy_find("beam-me-up"));
    assert_null(allocator_find(""));
    assert_null(stopper_find("beta "));
    assert_null(selector_find("Majority"));
    assert_ptr_equal(strategy_find("sample"), &strategy_sample);
    assert_null(strategy_sample.trees);
    assert_null(strategy_sample.plan);
}

/* ---- allocators ---- */

static void uniform_fills_to_the_cap(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, allocate_uniform.options, 3);
    for (; f.view.opened < 3; f.view.opened++)
        assert_true(allocate_uniform.gain(&f.view) == 1);
    assert_true(allocate_uniform.gain(&f.view) == 0);
    assert_null(allocate_uniform.solved);
}

enum { GAMMA, RULE, C, FLOOR };

static double gain(struct fixture *f, int rule)
{
    f->values[RULE] = rule;
    return allocate_elimination.gain(&f->view);
}

static void elimination_solves(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, allocate_elimination.options, 4);
    assert_false(allocate_elimination.solved(&f.view));
    deliver(&f, 1, .49, false);
    assert_false(allocate_elimination.solved(&f.view));
    assert_true(gain(&f, 0) > 0);
    deliver(&f, 1, .5, false); /* reaches gamma */
    assert_true(allocate_elimination.solved(&f.view));
    assert_true(gain(&f, 0) == 0);
    stats_clear(&f.stats);

    fixture_init(&f, allocate_elimination.options, 4);
    f.values[GAMMA] = 1;
    deliver(&f, 1, .7, true); /* a pass solves whatever gamma says */
    assert_true(allocate_elimination.solved(&f.view));
    stats_clear(&f.stats);

    fixture_init(&f, allocate_elimination.options, 4);
    f.values[GAMMA] = 0;
    assert_false(allocate_elimination.solved(&f.view)); /* nothing scored yet: 0 >= 0 is no proof */
    f.view.opened = 4;
    assert_true(gain(&f, 0) == 0); /* at the cap */
}

/* Every rule keeps an unsolved prompt in the running, and prefers prompts below the floor. */
static void elimination_never_gives_up(void **state)
{
    (void)state;
    for (int rule = 0; rule < 4; rule++) {
        struct fixture f, fresh;
        fixture_init(&f, allocate_elimination.options, 100);
        fixture_init(&fresh, allocate_elimination.options, 100);
        for (int i = 0; i < 20; i++)
            deliver(&f, 5, 0, false);
        assert_true(gain(&f, rule) > 0);
        assert_true(gain(&fresh, rule) > gain(&f, rule));
        stats_clear(&f.stats);
    }
    struct fixture negative; /* a reward model with negative scores */
    fixture_init(&negative, allocate_elimination.options, 100);
    stats_fold(&negative.stats, &(struct item){.scored = true, .score = -50});
    negative.view.opened = 1;
    for (int rule = 0; rule < 4; rule++)
        assert_true(gain(&negative, rule) > 0);
    stats_clear(&negative.stats);
}

static void elimination_counts_in_flight(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, allocate_elimination.options, 100);
    deliver(&f, 1, .2, false);
    deliver(&f, 2, .4, false);
    for (int rule = 0; rule < 4; rule++) {
        f.view.opened = 2;
        double before = gain(&f, rule);
        f.view.opened = 6;
        assert_true(gain(&f, rule) < before);
    }
    stats_clear(&f.stats);
}

static void elimination_rules(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, allocate_elimination.options, 99);
    deliver(&f, 1, .1, false);
    deliver(&f, 2, .4, false);
    deliver(&f, 1, .4, false);
    deliver(&f, 3, .3, false);
    assert_near(gain(&f, 0), 1.0 / 5, 1e-15);
    assert_near(gain(&f, 1), .3 + sqrt(log(100) / 4), 1e-12);
    f.values[C] = 0;
    assert_near(gain(&f, 1), .3, 1e-12);
    assert_near(gain(&f, 2), .01 / (.01 + .2), 1e-12);
    double entropy = -(.5 * log(.5) + 2 * .25 * log(.25)) / log(4);
    assert_near(gain(&f, 3), entropy, 1e-12);
    stats_clear(&f.stats);
}

/* Depth-N elimination with a perfect verifier and Beta(a, b) prompts costs sum S(j), j < N, and
 * covers 1 - S(N). */
static void elimination_closed_form(void **state)
{
    (void)state;
    enum { PROMPTS = 20000, N = 8 };
    double drawn = 0, solved = 0, cost = 0;
    for (uint32_t j = 0; j < N; j++)
        cost += beta_survival(1, 1, j);
    assert_near(cost, 2.72, .005);
    for (uint32_t prompt = 0; prompt < PROMPTS; prompt++) {
        struct fixture f;
        fixture_init(&f, allocate_elimination.options, N);
        double theta = rng_unit(rng_u64(1, RNG_TEST, prompt, 1000));
        while (allocate_elimination.gain(&f.view) > 0) {
            bool right = rng_unit(rng_u64(1, RNG_TEST, prompt, f.stats.delivered)) < theta;
            deliver(&f, 0, right, right);
        }
        drawn += f.stats.delivered;
        solved += allocate_elimination.solved(&f.view);
        stats_clear(&f.stats);
    }
    assert_near(drawn / PROMPTS, cost, .1);
    assert_near(solved / PROMPTS, 1 - beta_survival(1, 1, N), .01);
}

/* ---- stoppers ---- */

static void none_never_stops(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, stop_none.options, 8);
    assert_false(stop_none.stop(&f.view));
    assert_null(stop_none.room);
}

static void beta_stops_by_the_table(void **state)
{
    (void)state;
    static const uint32_t least[] = {4, 6, 8, 9, 11, 12, 14, 15, 17, 18, 19};
    for (uint32_t b = 0; b < 11; b++) {
        struct fixture f;
        fixture_init(&f, stop_beta.options, 64);
        assert_false(stop_beta.stop(&f.view));
        for (uint32_t i = 0; i < b; i++)
            deliver(&f, 2, -1, false);
        deliver(&f, 0, -1, false); /* no answer, no vote */
        for (uint32_t a = 0; a < least[b]; a++) {
            assert_true(b > a || !stop_beta.stop(&f.view));
            if (a >= b)
                assert_int_equal(stop_beta.room(&f.view), least[b] - a);
            deliver(&f, 1, -1, false);
        }
        assert_true(stop_beta.stop(&f.view));
        stats_clear(&f.stats);
    }
}

static void beta_options(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, stop_beta.options, 64);
    f.values[0] = .9; /* (3, 0) = .9375 */
    f.values[1] = 5;
    assert_int_equal(stop_beta.room(&f.view), 5);
    for (int i = 0; i < 4; i++) {
        deliver(&f, 1, -1, false);
        assert_false(stop_beta.stop(&f.view));
    }
    assert_int_equal(stop_beta.room(&f.view), 1);
    deliver(&f, 1, -1, false);
    assert_true(stop_beta.stop(&f.view));
    stats_clear(&f.stats);
}

/* Room is never more than what the cap leaves, and never less than the way to the nearest possible
 * stop. */
static void beta_room(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 500; seed++) {
        struct fixture f;
        fixture_init(&f, stop_beta.options, 20);
        f.values[0] = seed % 2 ? .95 : .8;
        while (f.stats.delivered < 20 && !stop_beta.stop(&f.view)) {
            uint32_t room = stop_beta.room(&f.view), left = 20 - f.stats.delivered;
            assert_true(room >= 1);
            assert_true(room <= left);
            struct fixture ahead = f;
            stats_copy(&ahead.stats, &f.stats);
            ahead.view.stats = &ahead.stats;
            ahead.view.options = ahead.values;
            uint64_t leader = f.stats.classes_len ? f.stats.classes[f.stats.top].class : 1;
            for (uint32_t i = 0; i < room; i++) {
                assert_false(stop_beta.stop(&ahead.view));
                deliver(&ahead, leader, -1, false);
            }
            assert_true(room == left || stop_beta.stop(&ahead.view));
            stats_clear(&ahead.stats);
            deliver(&f, rng_u64(seed, RNG_TEST, 0, f.stats.delivered) % 4, -1, false);
        }
        if (f.stats.delivered == 20)
            assert_int_equal(stop_beta.room(&f.view), 0);
        stats_clear(&f.stats);
    }
}

/* ---- selectors ---- */

static struct ranking choose(const struct selector *selector, const struct fixture *f)
{
    struct ranking out = {.winner = 77, .confidence = 77};
    selector->select(&f->view, &out);
    return out;
}

#define assert_choice(selector, f, ordinal, share)   \
    do {                                             \
        struct ranking r_ = choose((selector), (f)); \
        assert_int_equal(r_.winner, (ordinal));      \
        assert_near(r_.confidence, (share), 1e-12);  \
    } while (0)

static void selectors_abstain(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, select_majority.options, 8);
    for (int delivered = 0; delivered < 3; delivered++) {
        for (size_t i = 0; selectors[i]; i++) {
            set_fallbacks(&f, selectors[i]->options);
            assert_choice(selectors[i], &f, NO_ORDINAL, 0);
        }
        deliver(&f, 0, -1, false); /* neither answer nor score */
    }
    stats_clear(&f.stats);
}

static void selectors_choose(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, select_majority.options, 16);
    deliver(&f, 0, -1, false);  /* 0: no answer */
    deliver(&f, 9, .1, false);  /* 1 */
    deliver(&f, 4, .9, false);  /* 2 */
    deliver(&f, 9, .2, false);  /* 3 */
    deliver(&f, 4, .3, true);   /* 4 */
    deliver(&f, 9, .05, false); /* 5 */
    deliver(&f, 2, .9, true);   /* 6: ties with 2 */
    assert_choice(&select_majority, &f, 1, 3.0 / 6);
    assert_choice(&select_weighted, &f, 2, 1.2 / (.35 + 1.2 + .9));
    assert_choice(&select_best, &f, 2, .9);
    assert_choice(&select_first_pass, &f, 4, 1);
    assert_true(select_first_pass.covers);
    stats_clear(&f.stats);
}

static void selectors_fall_back(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, select_majority.options, 16);
    deliver(&f, 3, -1, false);
    deliver(&f, 8, -1, false);
    assert_choice(&select_majority, &f, 0, .5); /* first class wins a tie, not the lower hash */
    deliver(&f, 8, -1, false);
    assert_choice(&select_majority, &f, 1, 2.0 / 3);
    assert_choice(&select_weighted, &f, 1, 2.0 / 3);
    assert_choice(&select_best, &f, 1, 2.0 / 3);
    assert_choice(&select_first_pass, &f, 1, 0);
    assert_choice(&select_best_logprob, &f, NO_ORDINAL, 0);
    stats_clear(&f.stats);
}

static void selectors_negative_scores(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, select_majority.options, 16);
    const double scores[] = {-1, -3, -2};
    for (uint32_t i = 0; i < 3; i++)
        stats_fold(&f.stats, &(struct item){.ordinal = i, .class = i < 2 ? 1 : 2, .scored = true, .score = scores[i]});
    assert_choice(&select_weighted, &f, 2, 0);
    assert_choice(&select_best, &f, 0, -1);
    stats_clear(&f.stats);
}

static void best_logprob(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, select_best_logprob.options, 16);
    const float lp[] = {-2, -.5f, -.5f, -1};
    for (uint32_t i = 0; i < 4; i++)
        stats_fold(&f.stats, &(struct item){.ordinal = i, .have = 1u << FEATURE_LP_MEAN, .features = &lp[i]});
    assert_choice(&select_best_logprob, &f, 1, -.5);
    stats_clear(&f.stats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_find),
        cmocka_unit_test(uniform_fills_to_the_cap),
        cmocka_unit_test(elimination_solves),
        cmocka_unit_test(elimination_never_gives_up),
        cmocka_unit_test(elimination_counts_in_flight),
        cmocka_unit_test(elimination_rules),
        cmocka_unit_test(elimination_closed_form),
        cmocka_unit_test(none_never_stops),
        cmocka_unit_test(beta_stops_by_the_table),
        cmocka_unit_test(beta_options),
        cmocka_unit_test(beta_room),
        cmocka_unit_test(selectors_abstain),
        cmocka_unit_test(selectors_choose),
        cmocka_unit_test(selectors_fall_back),
        cmocka_unit_test(selectors_negative_scores),
        cmocka_unit_test(best_logprob),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
