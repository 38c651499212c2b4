/* test_cascades.c - policies of arms over several models: cascades, routing, temperatures, scores of different scale. */
#include "broker/policy/ballot.h"
#include "broker/policy/leg_vote.h"
#include "broker/policy/kernel.h"
#include "common/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define assert_near(a, b, eps) assert_true(fabs((a) - (b)) <= (eps))

enum { ROLLOUTS_MAX = 256 };

/* One prompt of an arm with this schedule. */
struct fixture {
    const struct option_row *rows;
    struct schedule schedule;
    struct stats stats;
    float features[ROLLOUTS_MAX][FEATURES];
    double values[POLICY_OPTIONS_MAX];
    struct prompt_view view;
};

static void fixture_init(struct fixture *f, const struct option_row *rows, struct schedule schedule, uint32_t cap)
{
    *f = (struct fixture){.rows = rows, .schedule = schedule};
    stats_init(&f->stats, true);
    for (size_t i = 0; rows[i].name != NULL; i++)
        f->values[i] = rows[i].fallback;
    f->view =
        (struct prompt_view){.cap = cap, .stats = &f->stats, .schedule = &f->schedule, .cost = 1, .options = f->values};
}

static void set(struct fixture *f, const char *name, double value)
{
    size_t i = 0;
    for (; strcmp(f->rows[i].name, name) != 0; i++)
        assert_non_null(f->rows[i + 1].name);
    f->values[i] = value;
}

static void deliver(struct fixture *f, struct item item)
{
    item.ordinal = f->stats.delivered;
    item.leg = (uint8_t)schedule_draw(&f->schedule, item.ordinal).leg;
    item.features = f->features[item.ordinal];
    stats_fold(&f->stats, &item);
    f->view.opened = f->stats.delivered;
}

/* 'A'..'Z': answers; '.': no answer; '!': failed. */
static void votes(struct fixture *f, const char *text)
{
    for (; *text != '\0'; text++)
        deliver(f, (struct item){.class = *text >= 'A' ? (uint64_t)*text : 0, .failed = *text == '!'});
}

static void scored(struct fixture *f, uint64_t class, double score)
{
    deliver(f, (struct item){.class = class, .scored = true, .score = score});
}

static double uniform(uint64_t a, uint64_t b)
{
    return fmax(rng_unit(rng_u64(7, RNG_TEST, a, b)), 0x1p-54);
}

static double normal(uint64_t a, uint64_t b)
{
    return sqrt(-2 * log(uniform(a, 2 * b))) * cos(6.283185307179586 * uniform(a, 2 * b + 1));
}

static const struct schedule blocks_4 = {.legs = 2, .len = {4}};

/* -- cascade --------------------------------------------------------------------------------------------------------- */

/* After how many of these it stops; 0: never. */
static uint32_t stop_at(const struct stopper *stopper, struct schedule schedule, const char *text)
{
    static struct fixture f;
    uint32_t at = 0;
    fixture_init(&f, stopper->options, schedule, ROLLOUTS_MAX);
    for (char one[2] = {0}; at == 0 && *text != '\0'; text++) {
        one[0] = *text;
        votes(&f, one);
        at = stopper->stop(&f.view) ? f.stats.delivered : 0;
    }
    stats_clear(&f.stats);
    return at;
}

static void cascade_decides_between_blocks(void **state)
{
    (void)state;
    const struct schedule three = {.legs = 3, .len = {2, 5}};
    assert_int_equal(stop_at(&stop_cascade, blocks_4, "AAAA"), 4);
    assert_int_equal(stop_at(&stop_cascade, blocks_4, "AAABAAAAAAAA"), 0); /* .75 goes on, and is not asked again */
    assert_int_equal(stop_at(&stop_cascade, blocks_4, "AAA!AAAAAAAA"), 0);
    assert_int_equal(stop_at(&stop_cascade, three, "ABAAAAA"), 7); /* 6 of 7 at the end of the second */
    assert_int_equal(stop_at(&stop_cascade, three, "ABAABAAAAAAAAA"), 0);

    static struct fixture f;
    fixture_init(&f, stop_cascade.options, blocks_4, 16);
    assert_int_equal(stop_cascade.room(&f.view), 4); /* nothing of the next model is in flight before it is due */
    votes(&f, "ABC");
    assert_int_equal(stop_cascade.room(&f.view), 1);
    votes(&f, "D");
    assert_false(stop_cascade.stop(&f.view));
    assert_int_equal(stop_cascade.room(&f.view), 12);
    set(&f, "low", .3);
    assert_true(stop_cascade.stop(&f.view)); /* hopeless */
    stats_clear(&f.stats);
}

static void cascade_reads_scores(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, stop_cascade.options, (struct schedule){.legs = 2, .len = {2}}, 8);
    assert_int_equal(stop_cascade.needs_by(f.values), NEED_ANSWER);
    set(&f, "by", 1);
    assert_int_equal(stop_cascade.needs_by(f.values), NEED_VERIFIER);
    votes(&f, "A");
    deliver(&f, (struct item){.class = 'B'});
    assert_false(stop_cascade.stop(&f.view)); /* no score says anything */
    stats_clear(&f.stats);
    fixture_init(&f, stop_cascade.options, (struct schedule){.legs = 2, .len = {2}}, 8);
    scored(&f, 1, .95);
    scored(&f, 2, .5);
    set(&f, "by", 1);
    assert_false(stop_cascade.stop(&f.view)); /* the mean is .725 */
    set(&f, "by", 2);
    assert_true(stop_cascade.stop(&f.view));
    stats_clear(&f.stats);
}

/* The window of §"changing only what is inside": prompts are accepted above the threshold tau. s1 is the truth with noise,
 * s2 less noisy; full stage 2 takes the mean of both everywhere. Only inside a window of a fifth of the prompts does the
 * cascade ask s2; its risk, wrong decisions among all, is that of the full one within half a percent. */
static void a_window_of_a_fifth_is_enough(void **state)
{
    (void)state;
    enum { PROMPTS = 20000 };
    static double sorted[PROMPTS];
    static struct fixture f;
    const double tau = .5, noise = .05;
    uint32_t wrong = 0, wrong_full = 0, wrong_cheap = 0, asked = 0;
    for (uint32_t p = 0; p < PROMPTS; p++)
        sorted[p] = uniform(1, p) + noise * normal(2, p);
    /* Scores are nearly uniform on [0, 1]: the quantiles .4 and .6 stand at .4 and .6. */
    for (uint32_t p = 0; p < PROMPTS; p++) {
        double truth = uniform(1, p), s1 = sorted[p], s2 = truth + noise / 2 * normal(3, p), mean = (s1 + s2) / 2;
        fixture_init(&f, stop_cascade.options, (struct schedule){.legs = 2, .len = {1}}, 2);
        set(&f, "by", 1);
        set(&f, "low", tau - .1);
        set(&f, "high", tau + .1);
        scored(&f, 1, s1);
        bool stopped = stop_cascade.stop(&f.view);
        if (!stopped)
            scored(&f, 1, s2);
        double decided = f.stats.score_sum / f.stats.scored;
        asked += !stopped;
        wrong += (decided > tau) != (truth > tau);
        wrong_full += (mean > tau) != (truth > tau);
        wrong_cheap += (s1 > tau) != (truth > tau);
        stats_clear(&f.stats);
    }
    assert_near((double)asked / PROMPTS, .2, .01);
    assert_near((double)wrong / PROMPTS, (double)wrong_full / PROMPTS, .005);
    assert_true(wrong_cheap - wrong_full > PROMPTS / 100); /* so that the second stage matters at all */
}

/* -- route ----------------------------------------------------------------------------------------------------------- */

static uint32_t routed(const char *text, double a, double b)
{
    static struct fixture f;
    fixture_init(&f, stop_route.options, (struct schedule){.legs = 2, .len = {(uint32_t)strcspn(text, "|")}}, 12);
    f.view.prior = (struct belief){a, b};
    while (f.stats.delivered < 12) {
        uint32_t room = stop_route.room(&f.view);
        assert_in_range(room, 1, 12 - f.stats.delivered);
        votes(&f, f.stats.delivered < strcspn(text, "|") ? (char[]){text[f.stats.delivered], 0} : "A");
        if (stop_route.stop(&f.view))
            break;
    }
    uint32_t used = f.stats.delivered;
    stats_clear(&f.stats);
    return used;
}

static void route_by_agreement(void **state)
{
    (void)state;
    assert_int_equal(routed("AAAA|", 0, 0), 4);  /* 1 - 4/5 = .2 */
    assert_int_equal(routed("AAAB|", 0, 0), 5);  /* .4: one more, of the slow model */
    assert_int_equal(routed("ABCD|", 0, 0), 12); /* .8 */
    assert_int_equal(routed("....|", 0, 0), 12);
    assert_int_equal(routed("A|", 0, 0), 2); /* one rollout tells nothing: it is between */
}

static void route_by_prior(void **state)
{
    (void)state;
    assert_int_equal(routed("A|", 8, 2), 1); /* difficulties .2, .5, .8 */
    assert_int_equal(routed("A|", 5, 5), 2);
    assert_int_equal(routed("A|", 2, 8), 12);
    assert_int_equal(routed("ABCD|", 8, 2), 4); /* the prior, not the answers */
    static struct fixture f;
    fixture_init(&f, stop_route.options, (struct schedule){.legs = 2, .len = {1}}, 6);
    f.view.prior = (struct belief){2, 8};
    assert_int_equal(stop_route.room(&f.view), 6); /* both models at once */
    f.view.prior = (struct belief){8, 2};
    assert_int_equal(stop_route.room(&f.view), 1);
    f.view.prior = (struct belief){2, 8};
    votes(&f, "ABCDEF");
    assert_false(stop_route.stop(&f.view)); /* all n, but n may grow */
    stats_clear(&f.stats);
}

/* -- votes of legs --------------------------------------------------------------------------------------------------- */

static const struct schedule rounds_5 = {.rounds = true, .legs = 5, .len = {1, 1, 1, 1, 1}};

static void legs_vote_apart(void **state)
{
    (void)state;
    static struct fixture f;
    struct leg_vote leg[LIMIT_LEGS];
    uint32_t leads;
    fixture_init(&f, stop_agree.options, (struct schedule){.rounds = true, .legs = 2, .len = {3, 1}}, 40);
    votes(&f, "BAAC!BBC");
    assert_int_equal(leg_votes(&f.stats, leg), 2);
    assert_int_equal(leg[0].rollouts, 6);
    assert_int_equal(leg[0].class, 'B'); /* 3 to 2; the failed one is no vote */
    assert_int_equal(leg[0].count, 3);
    assert_int_equal(leg[1].class, 'C');
    assert_int_equal(leg[1].count, 2);
    assert_int_equal(f.stats.classes[leg_votes_top(&f.stats, leg, &leads)].class,
                     'B'); /* one leg each; more rollouts */
    assert_int_equal(leads, 1);
    stats_clear(&f.stats);
    assert_int_equal(leg_votes(&f.stats, leg), 0);
    assert_int_equal(leg_votes_top(&f.stats, leg, &leads), NO_ORDINAL);
}

static void agree_stops(void **state)
{
    (void)state;
    assert_int_equal(stop_at(&stop_agree, rounds_5, "AAAAA"), 5);                /* half-tail of 5 to 0: .984 */
    assert_int_equal(stop_at(&stop_agree, rounds_5, "AAAABAAAAB"), 10);          /* 4 to 1: .89; 8 to 2: .967 */
    assert_int_equal(stop_at(&stop_agree, rounds_5, "AAABBAAABBAAABBAAABB"), 0); /* three of five temperatures */
    assert_int_equal(stop_at(&stop_agree, rounds_5, "AAA..AAA.."), 0); /* a model without an answer does not agree */
    assert_int_equal(stop_at(&stop_agree, (struct schedule){.rounds = true, .legs = 2, .len = {9, 1}}, "AAAAAAAAAB"),
                     0);
    static struct fixture f;
    fixture_init(&f, stop_agree.options, rounds_5, 40);
    votes(&f, "AA");
    assert_int_equal(stop_agree.room(&f.view), 3); /* asked at the end of the round */
    stats_clear(&f.stats);
}

static struct ranking selected(const struct selector *selector, struct schedule schedule, const char *text)
{
    static struct fixture f;
    struct ranking out = {.winner = 77};
    fixture_init(&f, selector->options, schedule, 40);
    votes(&f, text);
    selector->select(&f.view, &out);
    stats_clear(&f.stats);
    return out;
}

static void two_stages_weigh_models_alike(void **state)
{
    (void)state;
    const struct schedule uneven = {.rounds = true, .legs = 3, .len = {4, 1, 1}};
    struct ranking out = selected(&select_two_stage, uneven, "AAAABB");
    assert_int_equal(out.winner, 4); /* two models against one with four votes */
    assert_near(out.confidence, 2. / 3, 1e-12);
    assert_int_equal(selected(&select_majority, uneven, "AAAABB").winner, 0);
    assert_int_equal(selected(&select_two_stage, uneven, "AAAAB.").winner, 0); /* one each: more rollouts */
    assert_int_equal(selected(&select_two_stage, uneven, "......").winner, NO_ORDINAL);
}

static void the_last_model_answers(void **state)
{
    (void)state;
    struct ranking out = selected(&select_last_model, blocks_4, "AABBBAAA");
    assert_int_equal(out.winner, 5); /* the first A behind the first block */
    assert_near(out.confidence, .75, 1e-12);
    assert_int_equal(selected(&select_last_model, blocks_4, "ABBA").winner, 0);
    assert_int_equal(selected(&select_last_model, blocks_4, "ABBB..").winner, 1); /* it said nothing: the majority */
}

/* -- temperatures ---------------------------------------------------------------------------------------------------- */

enum { GRID = 13, BUMPS = 2000 };

/* Prompts prefer a temperature between 0 and 1.2, which nobody knows: away from it they are hardly ever solved. */
static double rate(uint32_t prompt, double temperature)
{
    double best = 1.2 * uniform(11, prompt), theta = uniform(12, prompt);
    double at = theta * exp(-(temperature - best) * (temperature - best) / (2 * .2 * .2));
    return at < 1e-2 ? 0 : at;
}

/* Expected share of prompts that k rollouts solve, drawn as the schedule says. */
static double covered(const struct schedule *schedule, const double *temperatures, uint32_t k)
{
    double sum = 0;
    for (uint32_t p = 0; p < BUMPS; p++) {
        double miss = 1;
        for (uint32_t leg = 0; leg < schedule->legs; leg++)
            miss *= pow(1 - rate(p, temperatures[leg]), schedule_reach(schedule, leg, k));
        sum += 1 - miss;
    }
    return sum / BUMPS;
}

/* At one temperature coverage ends at the share of prompts that it can solve at all; the grid reaches the union. */
static void one_temperature_is_a_plateau(void **state)
{
    (void)state;
    struct schedule grid = {.rounds = true, .legs = GRID}, one = {.legs = 1};
    double temperatures[GRID], best = 0, reachable = 0, solvable = 0;
    for (uint32_t i = 0; i < GRID; i++) {
        grid.len[i] = 1;
        temperatures[i] = .1 * i;
    }
    for (uint32_t p = 0; p < BUMPS; p++) {
        bool any = false;
        for (uint32_t i = 0; i < GRID; i++)
            any = any || rate(p, temperatures[i]) > 0;
        solvable += any;
        reachable += rate(p, .6) > 0;
    }
    for (uint32_t i = 0; i < GRID; i++)
        best = fmax(best, covered(&one, &temperatures[i], 13312));
    assert_near(covered(&one, &temperatures[6], 13312), reachable / BUMPS, 1e-3);
    assert_true(covered(&one, &temperatures[6], 13312) - covered(&one, &temperatures[6], 1024) < .002);
    assert_near(covered(&grid, temperatures, 13312), solvable / BUMPS, 1e-3);
    assert_true(covered(&grid, temperatures, 1024) > best + .1);
}

/* -- models of different scale --------------------------------------------------------------------------------------- */

static void energetic(struct fixture *f, double lp_sum, double lp_mean, double nll_var)
{
    float *features = f->features[f->stats.delivered];
    features[0] = (float)lp_sum;
    features[1] = (float)lp_mean;
    features[2] = (float)nll_var;
    deliver(f, (struct item){.class = 1, .have = 1u << FEATURE_LP_SUM | 1u << FEATURE_LP_MEAN | 1u << FEATURE_NLL_VAR});
}

/* Four tokens of negative log-probability [0, 0, 0, 4] and [1, 1, 1, 1] have one sum, and variances 3 and 0. */
static void an_even_rollout_has_less_energy(void **state)
{
    (void)state;
    static struct fixture f;
    struct ranking out;
    fixture_init(&f, select_free_energy.options, (struct schedule){.legs = 1}, 8);
    energetic(&f, -4, -1, 3);
    energetic(&f, -4, -1, 0);
    for (int sum = 0; sum < 2; sum++) {
        set(&f, "sum", sum);
        assert_int_equal(select_free_energy.wants(f.values), 1u << (sum ? FEATURE_LP_SUM : FEATURE_LP_MEAN));
        set(&f, "lambda", 0);
        select_free_energy.select(&f.view, &out);
        assert_int_equal(out.winner, 0); /* a tie: the first */
        set(&f, "lambda", .01);
        select_free_energy.select(&f.view, &out);
        assert_int_equal(out.winner, 1);
    }
    energetic(&f, -8, -.5, 0); /* twice as long, and likelier a token */
    select_free_energy.select(&f.view, &out);
    assert_int_equal(out.winner, 1);
    set(&f, "sum", 0);
    select_free_energy.select(&f.view, &out);
    assert_int_equal(out.winner, 2);
    stats_clear(&f.stats);
}

/* A judge that likes the second model's style: its rollouts have 10 more, and their best stands out less. */
static void scores_count_within_their_model(void **state)
{
    (void)state;
    static struct fixture f;
    struct ranking out;
    fixture_init(&f, select_standard_score.options, (struct schedule){.rounds = true, .legs = 2, .len = {1, 1}}, 8);
    const double of_one[4] = {0, 0, 0, 1}, of_two[4] = {10, 11, 10, 11};
    for (int i = 0; i < 4; i++) {
        scored(&f, 1 + (i == 3), of_one[i]);
        scored(&f, 3, of_two[i]);
    }
    select_best.select(&f.view, &out);
    assert_int_equal(out.winner, 3);
    select_standard_score.select(&f.view, &out);
    assert_int_equal(out.winner, 6);
    assert_near(out.confidence, sqrt(3), 1e-9);
    set(&f, "vote", 1);
    select_standard_score.select(&f.view, &out);
    assert_int_equal(out.winner, 6);
    struct ballots ballots = ballots_new(&f.stats, BALLOT_SCORE, 0, false);
    ballots_standardise_legs(&ballots);
    double sums[2] = {0};
    for (uint32_t i = 0; i < ballots.len; i++)
        sums[ballots.at[i].leg] += ballots.at[i].weight;
    assert_near(sums[0], 0, 1e-9);
    assert_near(sums[1], 0, 1e-9);
    ballots_clear(&ballots);
    stats_clear(&f.stats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cascade_decides_between_blocks),
        cmocka_unit_test(cascade_reads_scores),
        cmocka_unit_test(a_window_of_a_fifth_is_enough),
        cmocka_unit_test(route_by_agreement),
        cmocka_unit_test(route_by_prior),
        cmocka_unit_test(legs_vote_apart),
        cmocka_unit_test(agree_stops),
        cmocka_unit_test(two_stages_weigh_models_alike),
        cmocka_unit_test(the_last_model_answers),
        cmocka_unit_test(one_temperature_is_a_plateau),
        cmocka_unit_test(an_even_rollout_has_less_energy),
        cmocka_unit_test(scores_count_within_their_model),
    };
    return cmocka_run_group_tests_name("cascades", tests, NULL, NULL);
}
