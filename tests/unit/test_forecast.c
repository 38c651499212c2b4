/* test_forecast.c - pilots of worlds whose laws are known: what is fitted, what is foretold of them, what is advised. */
#include "broker/forecast.h"
#include "broker/policy/predict.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define assert_near(a, b, eps) assert_true(fabs((a) - (b)) <= (eps))

/* A world of tests: success rates Beta(.6, .5), three wrong answers by Zipf, a tenth of the wrong rollouts without one. */
static const struct world_kind kind = {.share = 1, .rates = RATES_BETA, .alpha = .6, .beta = .5};
static const struct world_verifier judge = {
    .name = "judge", .verdicts = VERDICTS_NOISY, .tpr = .8, .fpr = .4, .icc = .5, .votes = 1};
static const struct world_law law = {
    .kinds = &kind,
    .kinds_len = 1,
    .answers = {.law = WRONG_ZIPF, .classes = 3, .blank = .1},
    .lengths = {.median = 200, .between = .4, .within = .3, .right = .7, .most = 100000, .prompt = 50},
    .auroc = .5,
    .verifiers = &judge,
    .verifiers_len = 1,
};

static struct pilot *pilot_of(const struct world *world, uint32_t rollouts, bool judged)
{
    struct pilot *pilot = pilot_new();
    int verifier = judged ? pilot_verifier(pilot, slice_of("judge")) : -1;
    for (uint32_t p = 0; p < world->prompts_len; p++)
        for (uint32_t k = 0; k < rollouts; k++) {
            struct world_rollout rollout = world_rollout(world, p, k);
            int verdicts[PILOT_VERIFIERS] = {-1, -1, -1, -1};
            struct buf id = {0}, answer = {0};
            buf_printf(&id, "%u", p);
            if (rollout.class != 0)
                buf_printf(&answer, "%llx", (unsigned long long)rollout.class);
            if (verifier >= 0)
                verdicts[verifier] = world_verdict(world, 0, p, k).outcome == OUTCOME_PASS;
            pilot_add(pilot,
                      &(struct pilot_rollout){.prompt = buf_slice(&id),
                                              .answer = buf_slice(&answer),
                                              .right = rollout.right,
                                              .tokens_in = 50,
                                              .tokens_out = rollout.tokens},
                      verdicts);
            buf_clear(&id);
            buf_clear(&answer);
        }
    return pilot;
}

static void laws_are_found_again(void **state)
{
    (void)state;
    struct world *world = world_new(&law, 1500, 7);
    struct pilot *pilot = pilot_of(world, 16, true);
    struct pilot_fit fit = pilot_fit(pilot, NULL, pilot->len);
    struct error_rates rates;
    double icc;
    assert_int_equal(pilot->len, 1500);
    assert_near(fit.law.alpha, .6, .08);
    assert_near(fit.law.beta, .5, .08);
    assert_near(fit.law.zero, 0, 1e-12);
    assert_near(fit.blank, .1, .01);
    assert_near(fit.shorter, .7, .01);
    assert_near(fit.within, .3, .01);
    assert_near(fit.between, .4, .02);
    assert_near(exp(fit.length), 200, 6);
    assert_near(fit.tokens_in, 50, 1e-9);
    assert_near(fit.mean, 16, 1e-9);
    assert_true(pilot_rates(pilot, 0, &rates, &icc));
    assert_near(rates.true_pass, .8, .02);
    assert_near(rates.false_pass, .4, .02);
    assert_near(icc, .5, .06);
    pilot_free(&pilot);
    world_free(&world);
}

/* What each prompt has of its own stays: of a prompt that was always right, nearly all is. */
static void draws_follow_the_posterior(void **state)
{
    (void)state;
    enum { DRAWS = 4000 };
    struct pilot *pilot = pilot_new();
    const int none[PILOT_VERIFIERS] = {-1, -1, -1, -1};
    for (int k = 0; k < 8; k++)
        for (int p = 0; p < 3; p++) { /* always right; 2 of 8, wrong ones agree; never, wrong ones all differ */
            char id[2] = {(char)('a' + p), 0}, answer[2] = {(char)(p == 2 ? '0' + k : 'x'), 0};
            bool right = p == 0 || (p == 1 && k < 2);
            pilot_add(pilot,
                      &(struct pilot_rollout){
                          .prompt = slice_of(id), .answer = slice_of(answer), .right = right, .tokens_out = 10},
                      none);
        }
    struct pilot_fit fit = {
        .law = {.alpha = 1, .beta = 1}, .wrong = {4, .25}, .within = .1, .shorter = 1, .length = log(10)};
    struct pilot_source source = {pilot, &fit, NULL, pilot->len, false};
    double right[3] = {0}, wrong[3] = {0}, tokens = 0;
    for (uint32_t d = 0; d < DRAWS; d++)
        for (uint32_t p = 0; p < 3; p++) {
            struct dice dice = {.seed = d, .purpose = RNG_TEST, .stream = p};
            struct world_prompt prompt = {0};
            pilot_draw(&source, p, &dice, &prompt);
            right[p] += prompt.right / DRAWS;
            wrong[p] += (prompt.reach[1] - prompt.reach[0]) / DRAWS; /* of the first wrong class */
            tokens += log(prompt.median) / DRAWS / 3;
            assert_true(prompt.reach[prompt.classes - 1] <= 1 + 1e-9);
            free(prompt.reach);
        }
    assert_near(right[0], 9.0 / 10, .01);
    assert_near(right[1], 3.0 / 10, .01);
    assert_near(right[2], 1.0 / 10, .01);
    assert_near(wrong[1], 7.0 / 10 * 6.25 / 7, .02); /* seen 6 times of 6, .25 for each of 4 */
    assert_near(wrong[2], 9.0 / 10 * 1 / 8, .01);    /* 8 of them, more than the law has */
    assert_near(tokens, log(10), .01);
    pilot_free(&pilot);
}

static struct forecast_options wishes(double target, double budget)
{
    return (struct forecast_options){.right_by = "truth",
                                     .target = target,
                                     .budget = budget,
                                     .worlds = 12,
                                     .seed = 3,
                                     .judgement = 1,
                                     .price_in = 1,
                                     .price_out = 2};
}

static const struct forecast_candidate *candidate(const struct forecast *forecast, const char *name)
{
    for (uint32_t c = 0; c < forecast->len; c++)
        if (strcmp(forecast->candidates[c].arm->name, name) == 0)
            return &forecast->candidates[c];
    fail_msg("there is no candidate %s", name);
    return NULL;
}

/* The same arm on the pilot's prompts, in the world that the pilot came from, with rollouts that it did not see. */
static struct saving_cell truth_of(const struct world *world, uint32_t seen, uint32_t n, const struct stopper *stopper)
{
    struct saving_cell sum = {0};
    double options[POLICY_OPTIONS_MAX] = {0};
    for (int i = 0; stopper->options != NULL && stopper->options[i].name != NULL; i++)
        options[i] = stopper->options[i].fallback;
    for (uint32_t p = 0; p < world->prompts_len; p++) {
        struct stats stats;
        struct ranking ranking;
        float features[2];
        struct prompt_view view = {.prompt = p, .cap = n, .opened = n, .stats = &stats, .options = options, .cost = 1};
        stats_init(&stats, false);
        while (stats.delivered < n && (stats.delivered == 0 || !stopper->stop(&view))) {
            struct item item = world_item(world, NO_VERIFIER, p, seen + stats.delivered, features);
            item.ordinal = stats.delivered;
            sum.tokens += item.tokens + 50.0;
            stats_fold(&stats, &item);
        }
        select_majority.select(&view, &ranking);
        sum.right += ranking.winner != NO_ORDINAL && world_right(world, p, seen + ranking.winner);
        sum.rollouts += stats.delivered;
        stats_clear(&stats);
    }
    return sum;
}

/* Of 4 pilots of 120 prompts, 4 rollouts each: accuracy and cost of N = 32 with and without a stop, each inside its
 * interval, which one in twenty may miss. */
static void what_is_foretold_comes(void **state)
{
    (void)state;
    enum { PILOTS = 4, PROMPTS = 120, SEEN = 4 };
    int inside = 0, all = 0;
    for (uint64_t seed = 0; seed < PILOTS; seed++) {
        struct world *world = world_new(&law, PROMPTS, 100 + seed);
        struct pilot *pilot = pilot_of(world, SEEN, false);
        struct forecast_options options = wishes(.5, NAN);
        struct error error;
        options.seed = seed;
        struct forecast *forecast = forecast_new(pilot, &options, &error);
        assert_non_null(forecast);
        assert_int_equal(forecast->n_most, 10 * SEEN);
        struct saving_cell plain = truth_of(world, SEEN, 32, &stop_none),
                           stopped = truth_of(world, SEEN, 32, &stop_beta);
        const struct forecast_candidate *vote = candidate(forecast, "vote-32"), *beta = candidate(forecast, "beta-32");
        const struct {
            double came;
            const struct interval *foretold;
        } rows[] = {{plain.right / PROMPTS, &vote->accuracy},
                    {plain.tokens / PROMPTS, &vote->cost[UNIT_TOKENS]},
                    {stopped.right / PROMPTS, &beta->accuracy},
                    {stopped.rollouts / PROMPTS, &beta->cost[UNIT_ROLLOUTS]}};
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            print_message("%.4f in %.4f-%.4f%s", rows[i].came, rows[i].foretold->low, rows[i].foretold->high,
                          i == 3 ? "\n" : ", ");
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++, all++)
            inside += rows[i].foretold->low <= rows[i].came && rows[i].came <= rows[i].foretold->high;
        assert_true(vote->accuracy.high - vote->accuracy.low < .2);
        forecast_free(&forecast);
        pilot_free(&pilot);
        world_free(&world);
    }
    print_message("%d of %d inside\n", inside, all);
    assert_true(inside >= all - 2);
}

/* The cheapest that reaches a target; the most accurate within a budget; nothing beyond a decade. */
static void the_choice_is_the_cheapest_or_the_best(void **state)
{
    (void)state;
    struct world *world = world_new(&law, 120, 5);
    struct pilot *pilot = pilot_of(world, 4, false);
    struct forecast_options options = wishes(.6, NAN);
    struct error error;
    struct forecast *f = forecast_new(pilot, &options, &error);
    assert_non_null(f);
    assert_true(f->best != NO_CANDIDATE);
    double cost = f->candidates[f->best].cost[UNIT_ROLLOUTS].mean;
    assert_true(f->candidates[f->best].accuracy.mean >= .6);
    for (uint32_t c = 0; c < f->len; c++)
        assert_true(f->candidates[c].accuracy.mean < .6 || f->candidates[c].cost[UNIT_ROLLOUTS].mean >= cost);
    assert_true(f->chance > 0 && f->chance <= 1);
    double worlds = 0;
    for (uint32_t c = 0; c < f->len; c++)
        worlds += f->candidates[c].chosen;
    assert_true(worlds <= options.worlds);
    assert_true(f->halves[1] != NO_CANDIDATE);
    forecast_free(&f);

    options = wishes(NAN, 120 * 6.0);
    f = forecast_new(pilot, &options, &error);
    assert_non_null(f);
    assert_non_null(candidate(f, "flip-6"));
    assert_true(f->candidates[f->best].cost[UNIT_ROLLOUTS].mean <= 6 + 1e-9);
    assert_true(f->candidates[f->best].accuracy.mean >= candidate(f, "vote-6")->accuracy.mean - .02);
    forecast_free(&f);

    options = wishes(.99, NAN);
    f = forecast_new(pilot, &options, &error);
    assert_non_null(f);
    assert_int_equal(f->best, NO_CANDIDATE);
    for (uint32_t c = 0; c < f->len; c++)
        assert_true(f->candidates[c].arm->n <= 40);
    forecast_free(&f);
    pilot_free(&pilot);
    world_free(&world);
}

/* The truth, where it may be asked, and a judge: their arms are there, and cost what judging costs. */
static void verifiers_enter_the_plan(void **state)
{
    (void)state;
    struct world *world = world_new(&law, 100, 6);
    struct pilot *pilot = pilot_of(world, 4, true);
    struct forecast_options options = wishes(.6, NAN);
    struct forecast_verifier verifier = {.name = "judge"};
    struct error error;
    assert_true(pilot_rates(pilot, 0, &verifier.rates, &verifier.icc));
    options.verifiers = &verifier;
    options.verifiers_len = 1;
    options.truth = "right";
    struct forecast *f = forecast_new(pilot, &options, &error);
    assert_non_null(f);
    const struct forecast_candidate *checked = candidate(f, "checked-16"), *once = candidate(f, "judge-weighted-8");
    assert_non_null(strstr(checked->text, "verifier: right"));
    assert_near(checked->cost[UNIT_ROLLOUTS].mean, checked->rollouts.mean, 1e-9); /* the truth costs nothing */
    assert_near(once->cost[UNIT_ROLLOUTS].mean, 16, 1e-9);
    assert_near(candidate(f, "judge-x4-weighted-8")->cost[UNIT_ROLLOUTS].mean, 40, 1e-9);
    assert_true(checked->accuracy.mean > candidate(f, "vote-16")->accuracy.mean);
    assert_true(candidate(f, "judge-flaws-16")->rollouts.mean < 16);
    double worth;
    repeats_worthwhile(&f->fit.law, verifier.rates, 0, 100000, &worth);
    assert_near(f->splits[0].ceiling, worth, 1e-12);
    assert_true(f->splits[0].known);
    assert_true(f->splits[0].repeats < 100);
    struct buf text = {0}; /* a section that names a verifier of its own says what to write for it */
    f->best = (uint32_t)(candidate(f, "judge-x4-weighted-8") - f->candidates);
    forecast_text(f, &text);
    assert_non_null(strstr(text.data, "the entry of judge once more, as judge-x4, with k: 4"));
    buf_reset(&text);
    f->best = (uint32_t)(once - f->candidates);
    forecast_text(f, &text);
    assert_null(strstr(text.data, "once more"));
    assert_non_null(strstr(text.data, "of these 800 are generated, and judgements cost as much as 800\n"));
    buf_reset(&text);
    f->best = (uint32_t)(candidate(f, "vote-8") - f->candidates);
    forecast_text(f, &text);
    assert_null(strstr(text.data, "are generated"));
    buf_clear(&text);
    forecast_free(&f);
    pilot_free(&pilot);
    world_free(&world);
}

static void small_pilots_are_refused(void **state)
{
    (void)state;
    struct world *world = world_new(&law, 9, 6);
    struct pilot *pilot = pilot_of(world, 8, false);
    struct forecast_options options = wishes(.6, NAN);
    struct error error;
    assert_null(forecast_new(pilot, &options, &error));
    assert_non_null(strstr(error.text, "of 9 prompts: a forecast needs 10"));
    pilot_free(&pilot);
    world_free(&world);
    pilot = pilot_new();
    const int none[PILOT_VERIFIERS] = {-1, -1, -1, -1};
    for (char p = 'a'; p < 'm'; p++)
        for (int k = 0; k < 3; k++)
            pilot_add(pilot, &(struct pilot_rollout){.prompt = {&p, 1}, .answer = slice_of("1"), .right = true}, none);
    assert_null(forecast_new(pilot, &options, &error));
    assert_non_null(strstr(error.text, "every one of the pilot's 36 judged rollouts is right"));
    pilot_free(&pilot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(laws_are_found_again),     cmocka_unit_test(draws_follow_the_posterior),
        cmocka_unit_test(what_is_foretold_comes),   cmocka_unit_test(the_choice_is_the_cheapest_or_the_best),
        cmocka_unit_test(verifiers_enter_the_plan), cmocka_unit_test(small_pilots_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
