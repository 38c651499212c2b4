/* test_stoppers.c - when the stopping rules stop, and how many rollouts they can still use. */
#include "broker/policy/kernel_stop.h"
#include "broker/policy/policy.h"
#include "common/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define assert_near(a, b, eps) assert_true(fabs((a) - (b)) <= (eps))
#define LEN(a)                 (sizeof(a) / sizeof((a)[0]))

struct fixture {
    const struct stopper *stopper;
    struct stats stats;
    double values[POLICY_OPTIONS_MAX];
    struct prompt_view view;
};

static void fixture_init(struct fixture *f, const struct stopper *stopper, uint32_t cap)
{
    f->stopper = stopper;
    stats_init(&f->stats, true);
    for (size_t i = 0; stopper->options[i].name; i++)
        f->values[i] = stopper->options[i].fallback;
    f->view = (struct prompt_view){.cap = cap, .stats = &f->stats, .cost = 1, .options = f->values};
}

static void set(struct fixture *f, const char *name, double value)
{
    size_t i = 0;
    while (strcmp(f->stopper->options[i].name, name) != 0)
        i++;
    f->values[i] = value;
}

static void deliver(struct fixture *f, struct item item)
{
    item.ordinal = f->stats.delivered;
    stats_fold(&f->stats, &item);
    f->view.opened = f->stats.delivered;
}

/* 'A'..'Z': answers; '.': no answer; '!': failed. */
static void vote(struct fixture *f, char c)
{
    deliver(f, (struct item){.class = c >= 'A' ? (uint64_t)c : 0, .failed = c == '!'});
}

static void votes(struct fixture *f, const char *text)
{
    for (; *text != '\0'; text++)
        vote(f, *text);
}

static bool stops(const struct fixture *f)
{
    return f->stopper->stop(&f->view);
}

static uint32_t room(const struct fixture *f)
{
    return f->stopper->room(&f->view);
}

static void copy(struct fixture *to, const struct fixture *from)
{
    *to = *from;
    stats_copy(&to->stats, &from->stats);
    to->view.stats = &to->stats;
    to->view.options = to->values;
}

/* After how many of these it stops; 0: never. */
static uint32_t stop_at(const struct stopper *stopper, uint32_t cap, const char *text)
{
    struct fixture f;
    uint32_t at = 0;
    fixture_init(&f, stopper, cap);
    for (; at == 0 && *text != '\0'; text++) {
        vote(&f, *text);
        at = stops(&f) ? f.stats.delivered : 0;
    }
    stats_clear(&f.stats);
    return at;
}

/* ---- what holds for all of them ---- */

/* A rollout by the seed: votes of few classes, scores, verdicts, features; some fail. */
static struct item random_item(uint64_t seed, uint64_t a, uint64_t b)
{
    static float features[FEATURES];
    double u = rng_unit(rng_u64(seed, RNG_TEST, a, b)), v = rng_unit(rng_u64(seed, RNG_TEST, a, b + 1000));
    struct item item = {.class = u < .1 ? 0 : (uint64_t)(u * (2 + seed % 5)) + 1, .failed = v < .05};
    item.scored = !item.failed && v < .95;
    item.passed = item.scored && u * v < .1 * (double)(seed % 7);
    item.score = item.scored ? u * v : 0;
    item.have = item.failed ? 0 : (1u << FEATURES) - 1;
    for (int i = 0; i < FEATURES; i++)
        features[i] = 1 + (float)v;
    item.features = features;
    return item;
}

/* From this state on, no rollouts fewer than `room` let it stop. */
static void check_room(const struct fixture *f, uint64_t seed)
{
    uint32_t usable = room(f), left = f->view.cap - f->stats.delivered;
    assert_true(usable <= left);
    assert_true(usable >= 1 || left == 0);
    for (uint64_t way = 0; way < 4; way++) {
        struct fixture ahead;
        copy(&ahead, f);
        struct item same = random_item(seed, way + 1, 0);
        for (uint32_t i = 0; i < usable; i++) {
            assert_false(i > 0 && stops(&ahead));
            deliver(&ahead, way < 2 ? same : random_item(seed, way + 1, i));
        }
        stats_clear(&ahead.stats);
    }
}

static void rooms(void **state)
{
    (void)state;
    for (size_t s = 0; stoppers[s]; s++) {
        for (uint64_t seed = 0; stoppers[s]->room != NULL && seed < 60; seed++) {
            struct fixture f;
            fixture_init(&f, stoppers[s], 4 + (uint32_t)seed % 40);
            while (f.stats.delivered < f.view.cap && !(f.stats.delivered > 0 && stops(&f))) {
                check_room(&f, seed);
                deliver(&f, random_item(seed, 0, f.stats.delivered));
            }
            stats_clear(&f.stats);
        }
    }
}

/* ---- curtail ---- */

static void curtail_examples(void **state)
{
    (void)state;
    assert_int_equal(stop_at(&stop_curtail, 8, "AAAA"), 4); /* a tie of 4 to 4 is A's: it came first */
    assert_int_equal(stop_at(&stop_curtail, 8, "ABAAA"), 5);
    assert_int_equal(stop_at(&stop_curtail, 8, "BAAAAA"), 6); /* 4 to 1 and 3 left: B would win the tie */
    assert_int_equal(stop_at(&stop_curtail, 8, "....AA"), 6);
    assert_int_equal(stop_at(&stop_curtail, 8, "!!!!!!!A"), 0); /* at the cap nothing is curtailed */
    assert_int_equal(stop_at(&stop_curtail, 8, "!!!!!!A"), 7);
    assert_int_equal(stop_at(&stop_curtail, 8, "........"), 0);
}

/* The answer of the majority, or 0. */
static uint64_t winner_of(const struct fixture *f)
{
    struct ranking ranking;
    select_majority.select(&f->view, &ranking);
    return ranking.winner == NO_ORDINAL ? 0 : f->stats.items[ranking.winner].class;
}

/* Whether all that is left, given to one class, lets another one win. */
static bool may_change(const struct fixture *f)
{
    bool changes = false;
    for (uint64_t class = 'A'; class <= 'F'; class ++) {
        struct fixture ahead;
        copy(&ahead, f);
        while (ahead.stats.delivered < ahead.view.cap)
            vote(&ahead, (char)class);
        changes = changes || winner_of(&ahead) != winner_of(f);
        stats_clear(&ahead.stats);
    }
    return changes;
}

/* It stops exactly where no rest can change the answer. */
static void curtail_loses_nothing(void **state)
{
    (void)state;
    uint32_t stopped = 0;
    for (uint64_t seed = 0; seed < 3000; seed++) {
        struct fixture f;
        fixture_init(&f, &stop_curtail, 1 + (uint32_t)(seed % 12));
        for (uint32_t i = 0; i + 1 < f.view.cap; i++) {
            uint64_t r = rng_u64(seed, RNG_TEST, 1, i);
            vote(&f, r % 16 == 0 ? '!' : r % 16 == 1 ? '.' : (char)('A' + r / 16 % (1 + seed % 5)));
            assert_int_equal(stops(&f), !may_change(&f));
            stopped += stops(&f);
        }
        stats_clear(&f.stats);
    }
    assert_true(stopped > 1000);
}

static void curtail_beats_beta_on_pools_of_8(void **state)
{
    (void)state;
    uint32_t curtailed = 0, beta = 0;
    for (uint64_t seed = 0; seed < 1000; seed++) {
        char text[9] = "";
        for (uint32_t i = 0; i < 8; i++)
            text[i] = (char)('A' + (rng_u64(seed, RNG_TEST, 2, i) % 10 < 7 ? 0 : 1 + i % 2));
        uint32_t at = stop_at(&stop_curtail, 8, text), beta_at = stop_at(&stop_beta, 8, text);
        curtailed += at > 0 ? at : 8;
        beta += beta_at > 0 ? beta_at : 8;
    }
    assert_true(curtailed < beta);
}

/* ---- esc ---- */

static void esc_examples(void **state)
{
    (void)state;
    assert_int_equal(stop_at(&stop_esc, 40, "AAAAA"), 5);
    assert_int_equal(stop_at(&stop_esc, 40, "BAAAAAAAAA"), 10); /* a run of 5 across windows does not count */
    assert_int_equal(stop_at(&stop_esc, 40, "AAAA.AAAA!....."), 0);
    struct fixture f;
    fixture_init(&f, &stop_esc, 12);
    assert_int_equal(room(&f), 5);
    votes(&f, "AA");
    assert_int_equal(room(&f), 3);
    votes(&f, "B");
    assert_int_equal(room(&f), 7);
    votes(&f, "BBBB");
    assert_int_equal(room(&f), 3);
    votes(&f, ".");
    assert_int_equal(room(&f), 4); /* what the cap leaves */
    stats_clear(&f.stats);
}

/* Chance that a window of 5 with answers of these chances stops: the rule asked about every one. */
static double window_chance(const double *chances, uint32_t classes)
{
    double total = 0;
    for (uint32_t code = 0; code < (uint32_t)pow(classes, 5); code++) {
        struct fixture f;
        double chance = 1;
        fixture_init(&f, &stop_esc, 40);
        votes(&f, "AABAA");
        for (uint32_t i = 0, rest = code; i < 5; i++, rest /= classes) {
            vote(&f, (char)('A' + rest % classes));
            chance *= chances[rest % classes];
        }
        total += stops(&f) ? chance : 0;
        stats_clear(&f.stats);
    }
    return total;
}

static double esc_expected(double q)
{
    double expected = 0, reach = 1;
    for (uint32_t window = 1; window <= 8; window++) {
        expected += 5 * reach;
        reach *= 1 - q;
    }
    return expected;
}

static void esc_expects(void **state)
{
    (void)state;
    double q = window_chance((const double[]){.8, .2}, 2);
    assert_near(q, .328, 1e-12);
    assert_near(esc_expected(q), 14.61, .005);
    assert_near(esc_expected(window_chance((const double[]){.5, .3, .2}, 3)), 35.55, .005);
}

static void window_selects(void **state)
{
    (void)state;
    struct fixture f;
    double five = 5;
    struct ranking ranking;
    fixture_init(&f, &stop_esc, 40);
    f.view.options = &five;
    votes(&f, "AAAABAAAAB");
    select_window.select(&f.view, &ranking);
    assert_int_equal(ranking.winner, 0); /* no window agrees: the majority */
    votes(&f, "BBBBB");
    select_window.select(&f.view, &ranking);
    assert_int_equal(ranking.winner, 4); /* against 8 votes of 15 */
    assert_near(ranking.confidence, 7.0 / 15, 1e-12);
    votes(&f, "CCCCC");
    select_window.select(&f.view, &ranking);
    assert_int_equal(ranking.winner, 4); /* the first window that agrees */
    stats_clear(&f.stats);
}

/* ---- ppr ---- */

static void density_least(void **state)
{
    (void)state;
    static const uint32_t two[] = {8, 11, 14, 16, 18, 20}, five[] = {10, 14, 16, 19, 21, 23};
    for (uint32_t b = 0; b < LEN(two); b++) {
        assert_int_equal(half_density_least(b, .05), two[b]);
        assert_int_equal(half_density_least(b, .05 / 4), five[b]);
    }
}

/* Votes of A until it stops, after these. */
static uint32_t straight(struct fixture *f, const char *before)
{
    votes(f, before);
    uint32_t count = 0;
    for (; !stops(f); count++)
        vote(f, 'A');
    stats_clear(&f->stats);
    return count;
}

static void ppr_stops(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &stop_ppr, 64);
    set(&f, "classes", 2);
    assert_int_equal(straight(&f, "BB"), 14);
    fixture_init(&f, &stop_ppr, 64);
    set(&f, "classes", 5);
    assert_int_equal(straight(&f, "B"), 14);
    fixture_init(&f, &stop_ppr,
                 64); /* unknown: the first answer spends 6/pi^2 of delta, the second a quarter of that */
    assert_int_equal(straight(&f, ""), half_density_least(0, .05 * 6 / (M_PI * M_PI)));
    fixture_init(&f, &stop_ppr, 64);
    assert_int_equal(straight(&f, "B"), half_density_least(1, .05 * 6 / (M_PI * M_PI) / 4));
    fixture_init(&f, &stop_ppr, 64);
    set(&f, "delta", .5);
    set(&f, "classes", 2);
    set(&f, "min", 20);
    assert_int_equal(straight(&f, ".A"), 19);
}

/* Asked after every vote, it names the less probable answer with probability delta at most. */
static void ppr_is_valid(void **state)
{
    (void)state;
    uint32_t wrong = 0;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        struct fixture f;
        fixture_init(&f, &stop_ppr, 200);
        while (f.stats.delivered < 200 && (f.stats.delivered == 0 || !stops(&f)))
            vote(&f, rng_unit(rng_u64(seed, RNG_TEST, 3, f.stats.delivered)) < .51 ? 'A' : 'B');
        wrong += stops(&f) && winner_of(&f) == 'B';
        stats_clear(&f.stats);
    }
    assert_true(wrong <= 2000 * .05);
}

/* ---- dirichlet ---- */

static void dirichlet_bounds(void **state)
{
    (void)state;
    static const uint32_t least[] = {4, 6, 8, 9, 11};
    for (uint32_t b = 0; b < LEN(least); b++) { /* with one rival it is beta */
        struct fixture f;
        fixture_init(&f, &stop_dirichlet, 64);
        for (uint32_t i = 0; i < b; i++)
            votes(&f, "AB");
        assert_int_equal(room(&f), least[b] - b);
        assert_int_equal(straight(&f, ""), least[b] - b);
    }
    struct fixture f; /* 1 - 3 * P(Beta(2, a + 1) > 1/2): .9414 at 7, .9678 at 8 */
    fixture_init(&f, &stop_dirichlet, 64);
    votes(&f, "ABCD");
    assert_int_equal(room(&f), 7);
    assert_int_equal(straight(&f, ""), 7);
    fixture_init(&f, &stop_dirichlet, 64); /* only the two largest rivals count */
    set(&f, "classes", 3);
    assert_int_equal(straight(&f, "BCD"), 7);
    fixture_init(&f, &stop_dirichlet, 64);
    set(&f, "min", 30);
    votes(&f, "BCD");
    assert_int_equal(room(&f), 27);
    assert_int_equal(straight(&f, ""), 27);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rooms),
        cmocka_unit_test(curtail_examples),
        cmocka_unit_test(curtail_loses_nothing),
        cmocka_unit_test(curtail_beats_beta_on_pools_of_8),
        cmocka_unit_test(esc_examples),
        cmocka_unit_test(esc_expects),
        cmocka_unit_test(window_selects),
        cmocka_unit_test(density_least),
        cmocka_unit_test(ppr_stops),
        cmocka_unit_test(ppr_is_valid),
        cmocka_unit_test(dirichlet_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
