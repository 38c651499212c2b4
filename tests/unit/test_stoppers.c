/* test_stoppers.c - when the stopping rules stop, and how many rollouts they can still use. */
#include "broker/policy/kernel_stop.h"
#include "broker/policy/kill.h"
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
    static const struct schedule blocks = {.legs = 2, .len = {3}};
    f->view =
        (struct prompt_view){.cap = cap, .stats = &f->stats, .schedule = &blocks, .cost = 1, .options = f->values};
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
    item.leg = (uint8_t)schedule_draw(f->view.schedule, item.ordinal).leg;
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
        features[i] = 1; /* the room of deepconf takes for granted that none is surer than the surest */
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
    fixture_init(&f, &stop_dirichlet, 64); /* of two rivals the larger counts, not the one that came first */
    set(&f, "classes", 2);
    assert_int_equal(straight(&f, "BCC"), 8);
    fixture_init(&f, &stop_dirichlet, 64); /* and a leader that came second is no rival of its own */
    set(&f, "classes", 2);
    votes(&f, "BCC");
    assert_int_equal(room(&f), 4);
    votes(&f, "CCC");
    assert_false(stops(&f));
    votes(&f, "C");
    assert_true(stops(&f)); /* 6 to 1 */
    stats_clear(&f.stats);
    fixture_init(&f, &stop_dirichlet, 64);
    set(&f, "min", 30);
    votes(&f, "BCD");
    assert_int_equal(room(&f), 27);
    assert_int_equal(straight(&f, ""), 27);
}

/* ---- optscale ---- */

static void cut_normal_goldens(void **state)
{
    (void)state;
    assert_near(cut_normal_cdf((struct cut_normal){.8, .2}, .95), .91921, 5e-6);
    assert_near(cut_normal_cdf((struct cut_normal){.8, .2}, .9), .82185, 5e-6);
    assert_true(cut_normal_draws((struct cut_normal){.8, .2}, .95, .05) == 36);
    assert_true(cut_normal_draws((struct cut_normal){.8, .2}, .9, .1) == 12);
    assert_true(cut_normal_draws((struct cut_normal){.5, .2}, .95, .05) == 491);
    assert_true(cut_normal_draws((struct cut_normal){.5, .2}, .9, .05) == 178);
    assert_true(isinf(cut_normal_draws((struct cut_normal){0, .02}, .95, .05)));
    assert_true(cut_normal_draws((struct cut_normal){1, .02}, .5, .05) == 1);
}

static double draw_cut_normal(struct cut_normal law, uint64_t seed, uint64_t *counter)
{
    for (;;) {
        double u = rng_unit(rng_u64(seed, RNG_TEST, 4, (*counter)++)),
               v = rng_unit(rng_u64(seed, RNG_TEST, 5, *counter));
        double x = law.mean + law.sd * sqrt(-2 * log(1 - u)) * cos(2 * M_PI * v);
        if (x >= 0 && x <= 1)
            return x;
    }
}

/* Many draws give the law back; few stay near the prior; equal ones keep the least deviation. */
static void cut_normal_fits(void **state)
{
    (void)state;
    const struct cut_normal laws[] = {{.8, .2}, {.5, .1}, {.95, .15}}, prior = {.8, .2};
    for (size_t i = 0; i < LEN(laws); i++) {
        struct draws draws = {0};
        uint64_t counter = 0;
        for (draws.n = 0; draws.n < 20000; draws.n++) {
            double x = draw_cut_normal(laws[i], i, &counter);
            draws.sum += x;
            draws.sumsq += x * x;
        }
        struct cut_normal found = cut_normal_fit(draws, NULL);
        assert_near(found.mean, laws[i].mean, .01);
        assert_near(found.sd, laws[i].sd, .01);
    }
    struct cut_normal equal = cut_normal_fit((struct draws){3, 2.4, 1.92}, NULL);
    assert_near(equal.mean, .8, 1e-9);
    assert_near(equal.sd, CUT_NORMAL_SD_MIN, 1e-12);
    struct cut_normal one = cut_normal_fit((struct draws){1, .1, .01}, &prior);
    assert_true(one.mean > .5);
    assert_true(one.sd > .2);
}

static void score(struct fixture *f, double score)
{
    deliver(f, (struct item){.scored = true, .score = score});
}

enum { SIDE = 32, CAP = 64 };

/* A world of prompts: mean from [.3, .95], deviation from [.06, .3], evenly. */
static struct cut_normal world_law(uint64_t prompt)
{
    return (struct cut_normal){.3 + .65 * ((double)(prompt % SIDE) + .5) / SIDE,
                               .06 + .24 * ((double)(prompt / SIDE) + .5) / SIDE};
}

/* Share of its prompts that reach the target with n rollouts each. */
static double world_reach(double target, double n)
{
    double sum = 0;
    for (uint64_t prompt = 0; prompt < SIDE * SIDE; prompt++)
        sum += 1 - pow(cut_normal_cdf(world_law(prompt), target), n);
    return sum / (SIDE * SIDE);
}

struct saving {
    double rollouts, missed, factor; /* missed: prompts that CAP rollouts reach, and it does not;
                                        factor: by how much an equal number for all would be more, at equal reach */
};

static struct saving optscale_world(bool map, bool online, double target, double miss)
{
    struct saving sum = {0};
    for (uint64_t prompt = 0; prompt < SIDE * SIDE; prompt++) {
        uint64_t counter = 0;
        struct cut_normal law = world_law(prompt);
        struct fixture f;
        fixture_init(&f, &stop_optscale, CAP);
        set(&f, "fit", map);
        set(&f, "online", online);
        set(&f, "target", target);
        set(&f, "miss", miss);
        do
            score(&f, draw_cut_normal(law, prompt, &counter));
        while (f.stats.delivered < CAP && !stops(&f));
        sum.rollouts += f.stats.delivered;
        bool reached = f.stats.score_best >= target;
        for (uint32_t i = f.stats.delivered; i < CAP && !reached; i++)
            if (draw_cut_normal(law, prompt, &counter) >= target)
                reached = true, sum.missed++;
        stats_clear(&f.stats);
    }
    sum.rollouts /= SIDE * SIDE;
    sum.missed /= SIDE * SIDE;
    double n = 1;
    while (world_reach(target, n) < world_reach(target, CAP) - sum.missed)
        n += 0.25;
    sum.factor = n / sum.rollouts;
    return sum;
}

/* Golden: a simulation elsewhere with 46.6, 30.0 and 32.2 rollouts, and .016, .113 and .020 of the prompts missed that
 * 64 rollouts reach. Only the online rule saves much at equal reach. */
static void optscale_saves(void **state)
{
    (void)state;
    struct saving mle = optscale_world(false, false, .9, .1), map = optscale_world(true, false, .9, .1);
    struct saving online = optscale_world(true, true, .9, .1);
    assert_near(mle.rollouts, 46.6, 2.5);
    assert_near(mle.missed, .016, .015);
    assert_near(map.rollouts, 30.0, 2.5);
    assert_near(map.missed, .113, .015);
    assert_near(online.rollouts, 32.2, 3.5);
    assert_near(online.missed, .020, .015);
    assert_near(mle.factor, 1.1, .1);
    assert_near(map.factor, 0.85, .1);
    assert_true(online.factor >= 1.4);
}

/* The other row of that simulation, and how many prompts 64 rollouts reach: .6725 and .5543 by the law itself, where
 * the sample of prompts elsewhere had .638 and .515. */
static void optscale_saves_at_a_high_target(void **state)
{
    (void)state;
    struct saving mle = optscale_world(false, false, .95, .05), map = optscale_world(true, false, .95, .05);
    struct saving online = optscale_world(true, true, .95, .05);
    print_message("mle %.2f, map %.2f, online map %.2f times\n", mle.factor, map.factor, online.factor);
    assert_near(world_reach(.9, CAP), .6725, .0005);
    assert_near(world_reach(.95, CAP), .5543, .0005);
    assert_near(mle.factor, 1.03, .1);
    assert_near(map.factor, .98, .1);
    assert_true(online.factor >= 1.4);
}

/* Give up only where n rollouts are not enough. */
static void optscale_gives_up_beyond_its_cap(void **state)
{
    (void)state;
    const double scores[] = {.5, .9, .8, .94, .7};
    struct draws draws = {0};
    struct fixture f;
    fixture_init(&f, &stop_optscale, 64);
    set(&f, "give_up", 1);
    for (size_t i = 0; i < LEN(scores); i++) {
        score(&f, scores[i]);
        draws = (struct draws){draws.n + 1, draws.sum + scores[i], draws.sumsq + scores[i] * scores[i]};
    }
    double needed = cut_normal_draws(cut_normal_fit(draws, NULL), .95, .05);
    assert_true(needed > 10);
    assert_true(needed < 60);
    assert_false(stops(&f));
    assert_int_equal(room(&f), (uint32_t)needed - 5);
    f.view.cap = (uint32_t)needed;
    assert_false(stops(&f));
    f.view.cap--;
    assert_true(stops(&f));
    set(&f, "give_up", 0);
    assert_false(stops(&f));
    stats_clear(&f.stats);
}

static void optscale_options(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &stop_optscale, 64);
    assert_int_equal(room(&f), 5);
    score(&f, .99); /* not online: the target does not end it */
    assert_false(stops(&f));
    deliver(&f, (struct item){.failed = true});
    assert_int_equal(room(&f), 4);
    for (int i = 0; i < 4; i++)
        score(&f, .01); /* an easy target by one score only: out of reach by the fit */
    assert_false(stops(&f));
    assert_true(room(&f) > 0);
    set(&f, "online", 1);
    assert_true(stops(&f));
    stats_clear(&f.stats);

    fixture_init(&f, &stop_optscale, 64);
    for (int i = 0; i < 5; i++)
        score(&f, .1);
    assert_false(stops(&f));
    assert_int_equal(room(&f), 59);
    set(&f, "give_up", 1);
    assert_true(stops(&f));
    stats_clear(&f.stats);

    fixture_init(&f, &stop_optscale, 64);
    for (int i = 0; i < 5; i++)
        score(&f, .96);
    assert_true(stops(&f)); /* N = 3 for that law, and 5 are there */
    stats_clear(&f.stats);

    fixture_init(&f, &stop_optscale, 64);
    for (int i = 0; i < 5; i++)
        score(&f, -.5); /* no law on [0, 1] */
    assert_false(stops(&f));
    assert_int_equal(room(&f), 59);
    stats_clear(&f.stats);
}

/* ---- saturation ---- */

static void saturation_points(void **state)
{
    (void)state;
    static const struct {
        double p, eps, n;
    } rows[] = {{.5, .05, 4},   {.5, .01, 6}, {.5, .001, 9}, {.3, .05, 6},   {.3, .01, 10},
                {.3, .001, 16}, {.1, .05, 7}, {.1, .01, 22}, {.1, .001, 44}, {.01, .001, 230}};
    for (size_t i = 0; i < LEN(rows); i++) {
        assert_true(saturation_point(rows[i].p, rows[i].eps, 1) == rows[i].n);
        assert_true(rows[i].p * pow(1 - rows[i].p, rows[i].n) < rows[i].eps);
        assert_true(rows[i].p * pow(1 - rows[i].p, rows[i].n - 1) >= rows[i].eps);
    }
    assert_true(saturation_point(.1, .2, 1) == 1);
    assert_true(saturation_point(.5, .05, .5) == 3);
}

/* It stops where the formula says for the rate that its verdicts show; with a strong prior that is the prior's. */
static void saturation_stops(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &stop_saturation, 64);
    set(&f, "a", 500);
    set(&f, "b", 500);
    assert_int_equal(room(&f), 6);
    for (uint32_t n = 1; n <= 6; n++) {
        assert_false(stops(&f));
        deliver(&f, (struct item){.scored = true, .passed = n % 2});
        deliver(&f, (struct item){.failed = true});
    }
    assert_true(stops(&f));
    stats_clear(&f.stats);

    fixture_init(&f, &stop_saturation, 64); /* p = 4/5: .8 * .2^3 = .0064 */
    for (uint32_t n = 0; n < 3; n++) {
        assert_false(stops(&f));
        deliver(&f, (struct item){.scored = true, .passed = true});
    }
    assert_true(stops(&f));
    stats_clear(&f.stats);
}

/* ---- flaws ---- */

/* Rollouts until it stops when none is accepted, and the expected utility of the rule. */
static uint32_t flaws_at(double fpr, double cost, double *utility)
{
    const struct accepting prompt = {.5, .5, 1, fpr};
    struct fixture f;
    double reach = 1;
    fixture_init(&f, &stop_flaws, 1000);
    set(&f, "fpr", fpr);
    set(&f, "cost", cost);
    *utility = 0;
    while (f.stats.delivered < f.view.cap && !stops(&f)) {
        struct outlook next = accept_outlook(prompt, f.stats.scored);
        *utility += reach * (next.right - cost * next.wrong);
        reach *= 1 - next.right - next.wrong;
        deliver(&f, (struct item){.scored = true});
    }
    uint32_t n = f.stats.delivered;
    stats_clear(&f.stats);
    return n;
}

static void flaws_table(void **state)
{
    (void)state;
    double utility;
    assert_int_equal(flaws_at(.02, 1, &utility), 25);
    assert_near(utility, .773, .0005);
    assert_int_equal(flaws_at(.02, 4, &utility), 6);
    assert_near(utility, .615, .0005);
    assert_int_equal(flaws_at(.1, 1, &utility), 5);
    assert_near(utility, .564, .0005);
    assert_int_equal(flaws_at(.1, 4, &utility), 1);
    assert_int_equal(flaws_at(.3, 1, &utility), 2);
    assert_int_equal(flaws_at(.1, 0, &utility), 1000); /* no harm: never */
}

static void flaws_stops(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &stop_flaws, 64);
    assert_false(stops(&f));
    assert_int_equal(room(&f), 1);
    deliver(&f, (struct item){.scored = true});
    assert_false(stops(&f));
    set(&f, "price", .5);
    assert_true(stops(&f));
    set(&f, "price", 0);
    deliver(&f, (struct item){.failed = true});
    deliver(&f, (struct item){.scored = true, .passed = true});
    assert_true(stops(&f));
    stats_clear(&f.stats);
}

/* ---- deepconf ---- */

static void confident(struct fixture *f, char c, double confidence)
{
    static float kept[64];
    uint32_t i = f->stats.delivered;
    kept[i] = (float)confidence;
    deliver(f, (struct item){.class = c >= 'A' ? (uint64_t)c : 0,
                             .failed = c == '!',
                             .have = c == '!' ? 0 : 1u << FEATURE_CONF_MIN,
                             .features = &kept[i]});
}

static void deepconf_keeps(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &stop_deepconf, 64);
    set(&f, "warmup", 5);
    set(&f, "keep", 50); /* the median of the warm-up: 3 */
    assert_int_equal(room(&f), 5);
    confident(&f, 'B', 1);
    confident(&f, 'B', 2);
    confident(&f, '!', 0);
    assert_int_equal(room(&f), 3);
    confident(&f, 'A', 5);
    confident(&f, 'A', 4);
    assert_false(stops(&f)); /* one of the warm-up lacks */
    confident(&f, 'B', 3);
    assert_false(stops(&f));        /* 9 of 12 */
    assert_int_equal(room(&f), 10); /* (9 + 5 m) / (12 + 5 m) >= .95 */
    for (int i = 0; i < 20; i++)
        confident(&f, 'C', 2.9); /* below the threshold: no votes */
    assert_false(stops(&f));
    for (int i = 0; i < 9; i++)
        confident(&f, 'A', 5);
    assert_false(stops(&f));
    confident(&f, 'A', 5);
    assert_true(stops(&f));
    stats_clear(&f.stats);
}

/* The percentile is linear between ranks: 90 % of 0, 1, 2 reach .2. */
static void deepconf_interpolates(void **state)
{
    (void)state;
    for (int above = 0; above < 2; above++) {
        struct fixture f;
        fixture_init(&f, &stop_deepconf, 64);
        set(&f, "warmup", 3);
        set(&f, "keep", 90);
        confident(&f, 'A', 1);
        confident(&f, '.', 0);
        confident(&f, 'A', 2);
        assert_true(stops(&f));
        confident(&f, 'B', above ? .21 : .19);
        assert_int_equal(stops(&f), !above);
        stats_clear(&f.stats);
    }
}

/* What stands behind the warm-up is asked for when that is there, failed rollouts and all. */
static void deepconf_kills(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &stop_deepconf, 64);
    assert_int_equal(stop_deepconf.kill(f.values).window, 0);
    set(&f, "kill", 16);
    set(&f, "warmup", 3);
    set(&f, "keep", 50);
    struct kill_rule rule = stop_deepconf.kill(f.values);
    assert_int_equal(rule.window, 16);
    struct warmup warmup = {.len = 0};
    const double weights[] = {4, 1, 2};
    for (uint32_t i = 0; i < 3; i++) {
        confident(&f, '!', 0);
        assert_int_equal(room(&f), 3 - i);
        confident(&f, 'A', weights[i]);
        assert_false(warmup_add(&warmup, &rule, &f.stats.items[2 * i])); /* it failed */
        assert_int_equal(warmup_add(&warmup, &rule, &f.stats.items[2 * i + 1]), i == 2);
    }
    assert_true(warmup_threshold(&warmup, &rule) == 2);
    stats_clear(&f.stats);
}

/* ---- value ---- */

static void gains(void **state)
{
    (void)state;
    assert_near(flip_index(0, 0), .125, 1e-12);
    assert_near(flip_index(1, 0), .03125, 1e-12);
    assert_near(flip_index(3, 0), 1.0 / 1024, 1e-12);
    for (uint32_t a = 0; a < 12; a++) { /* as the design states it */
        for (uint32_t b = 0; b <= a; b++) {
            double run = 1, edge = a == b ? .5 : 1;
            for (uint32_t j = 0; j <= a - b; j++)
                run *= (b + 1.0 + j) / (a + b + 2 + j);
            for (uint32_t i = 1; i <= a + 1; i++)
                edge *= (a + 1.0 + i) / i / 4;
            assert_near(flip_index(a, b), run * edge / (a - b + 1), 1e-12);
        }
    }
    for (double u = 0; u < 4; u += .5) /* two degrees of freedom: (sqrt(2 + u^2) - u) / 2 */
        assert_near(student_excess(u, 2), (sqrt(2 + u * u) - u) / 2, 1e-9);
    assert_near(student_excess(1, 1e7), exp(-.5) / sqrt(2 * M_PI) - erfc(1 / sqrt(2)) / 2, 1e-6); /* the normal law */
}

static void value_of_votes(void **state)
{
    (void)state;
    assert_int_equal(stop_at(&stop_value, 64, "AAAAAA"), 3); /* 1/1024 is below .001 */
    assert_int_equal(stop_at(&stop_value, 64, ".!AA.A"), 6);
    struct fixture f;
    fixture_init(&f, &stop_value, 64);
    assert_int_equal(room(&f), 3);
    votes(&f, "AAA");
    f.view.cost = .5; /* a cheaper rollout is worth it */
    assert_false(stops(&f));
    assert_int_equal(room(&f), 1);
    stats_clear(&f.stats);
}

static void value_of_passes(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &stop_value, 64);
    set(&f, "gain", 1);
    set(&f, "price", .05);
    for (int n = 0; n < 10; n++) {
        assert_false(stops(&f)); /* .5 / (1 + n) */
        assert_int_equal(room(&f), 1);
        deliver(&f, (struct item){.scored = true});
    }
    assert_true(stops(&f));
    set(&f, "price", .001);
    assert_false(stops(&f));
    deliver(&f, (struct item){.scored = true, .passed = true});
    assert_true(stops(&f));
    stats_clear(&f.stats);
}

static void value_of_scores(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &stop_value, 64);
    set(&f, "gain", 2);
    assert_int_equal(room(&f), 3);
    score(&f, 1);
    score(&f, 3);
    assert_false(stops(&f)); /* two scores tell no law */
    score(&f, 2);            /* mean 2, scale sqrt(4/3), best 3: u = sqrt(3/4) */
    double gain = sqrt(4.0 / 3) * student_excess(sqrt(.75), 2);
    set(&f, "price", gain * 1.000001);
    assert_true(stops(&f));
    set(&f, "price", gain * .999999);
    assert_false(stops(&f));
    stats_clear(&f.stats);
    fixture_init(&f, &stop_value, 64);
    set(&f, "gain", 2);
    for (int i = 0; i < 3; i++)
        score(&f, .5);
    assert_true(stops(&f)); /* nothing varies, nothing to gain */
    stats_clear(&f.stats);
}

/* price *= exp(adapt * (rate - 1)), a rate of 2 at most; the view's price stands in place of the option. */
static void value_has_a_price_that_moves(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &stop_value, 64);
    assert_false(stopper_reprices(&stop_value, f.values));
    set(&f, "adapt", .5);
    set(&f, "price", .01);
    assert_true(stopper_reprices(&stop_value, f.values));
    assert_true(stop_value.reprice(f.values, 0, 1) == .01); /* the first is the option's */
    assert_true(stop_value.reprice(f.values, .2, 1) == .2);
    assert_near(stop_value.reprice(f.values, .2, 1.5), .2 * exp(.25), 1e-12);
    assert_near(stop_value.reprice(f.values, .2, 0), .2 * exp(-.5), 1e-12);
    assert_near(stop_value.reprice(f.values, .2, 3), .2 * exp(.5), 1e-12);
    assert_near(stop_value.reprice(f.values, .2, INFINITY), .2 * exp(.5), 1e-12);
    for (double price = .2; price > 1e-15;) /* it stays a price */
        price = stop_value.reprice(f.values, price, 0);
    assert_true(stop_value.reprice(f.values, 1e-15, 0) > 0);
    assert_true(isfinite(stop_value.reprice(f.values, 1e6, INFINITY)));
    votes(&f, "AA");        /* the third is worth 1/192 */
    assert_true(stops(&f)); /* .01 */
    f.view.price = .005;
    assert_false(stops(&f));
    assert_int_equal(room(&f), 1);
    f.view.price = .006;
    assert_true(stops(&f));
    stats_clear(&f.stats);
}

/* How many rollouts that all fail it takes with these options a and b, or with this prior in their place. */
static uint32_t fails_until_stop(const struct stopper *stopper, struct belief options, struct belief prior)
{
    struct fixture f;
    fixture_init(&f, stopper, 2000);
    set(&f, "a", options.a);
    set(&f, "b", options.b);
    if (stopper == &stop_value)
        set(&f, "gain", 1);
    f.view.prior = prior;
    while (f.stats.delivered < 2000 && (f.stats.delivered == 0 || !stops(&f)))
        deliver(&f, (struct item){.scored = true});
    uint32_t taken = f.stats.delivered;
    stats_clear(&f.stats);
    return taken;
}

static bool has_option(const struct option_row *rows, const char *name)
{
    for (size_t i = 0; rows[i].name; i++)
        if (strcmp(rows[i].name, name) == 0)
            return true;
    return false;
}

/* A prior is read by every policy with a belief of its own, and stands in its place. */
static void prior_stands_for_the_options(void **state)
{
    (void)state;
    const struct belief none = {0, 0}, even = {1, 1}, hopeful = {3, 2}, hopeless = {.3, 40};
    for (size_t i = 0; stoppers[i]; i++) {
        const struct stopper *stopper = stoppers[i];
        bool routes = stopper == &stop_route; /* by the belief alone: it has no options that stand for one */
        assert_int_equal(stopper->prior, has_option(stopper->options, "a") || routes);
        if (!stopper->prior || routes)
            continue;
        uint32_t with_hope = fails_until_stop(stopper, hopeful, none),
                 without = fails_until_stop(stopper, hopeless, none);
        assert_true(without < with_hope);
        assert_int_equal(fails_until_stop(stopper, even, hopeful), with_hope);
        assert_int_equal(fails_until_stop(stopper, even, hopeless), without);
    }
    for (size_t i = 0; allocators[i]; i++)
        if (has_option(allocators[i]->options, "a"))
            assert_true(allocators[i]->prior);
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
        cmocka_unit_test(cut_normal_goldens),
        cmocka_unit_test(cut_normal_fits),
        cmocka_unit_test(optscale_saves),
        cmocka_unit_test(optscale_saves_at_a_high_target),
        cmocka_unit_test(optscale_gives_up_beyond_its_cap),
        cmocka_unit_test(optscale_options),
        cmocka_unit_test(saturation_points),
        cmocka_unit_test(saturation_stops),
        cmocka_unit_test(flaws_table),
        cmocka_unit_test(flaws_stops),
        cmocka_unit_test(deepconf_keeps),
        cmocka_unit_test(deepconf_interpolates),
        cmocka_unit_test(deepconf_kills),
        cmocka_unit_test(gains),
        cmocka_unit_test(value_of_votes),
        cmocka_unit_test(value_of_passes),
        cmocka_unit_test(value_of_scores),
        cmocka_unit_test(value_has_a_price_that_moves),
        cmocka_unit_test(prior_stands_for_the_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
