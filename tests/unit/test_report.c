/* test_report.c - curves against brute force over known answers, intervals, and what hostile or empty
 * sweeps print. */
#include "broker/policy/kernel.h"
#include "broker/report_curve.h"
#include "common/rng.h"
#include "tests/unit/play.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { PROMPTS = 24, N = 8 };

/* -- a world whose answers are known --------------------------------------------------------------------- */

static uint64_t bits_of(uint32_t prompt, uint32_t ordinal)
{
    return rng_u64(99, RNG_TEST, prompt, ordinal);
}

/* Class 1 is right; prompts differ in how often it is drawn. */
static uint64_t class_of(uint32_t prompt, uint32_t ordinal)
{
    uint64_t bits = bits_of(prompt, ordinal);
    return bits % 12 < prompt % 9 ? 1 : 2 + bits % 3;
}

static bool right(uint32_t prompt, uint32_t ordinal)
{
    return class_of(prompt, ordinal) == 1;
}

static uint32_t tokens_of(uint32_t prompt, uint32_t ordinal)
{
    return 1 + (uint32_t)(bits_of(prompt, ordinal) >> 20) % 50;
}

static uint32_t ordinal_of(const struct key *key)
{
    return key->tree == NO_ID ? key->item : 1000 * (key->tree + 1) + key->item;
}

static bool answer(const struct send *task, struct event *event, struct buf *text)
{
    uint32_t prompt = task->key.prompt, k = ordinal_of(&task->key);
    (void)text;
    if (task->key.kind == TASK_VERIFY) {
        bool pass = right(prompt, k);
        event->verdict.verdict = (struct verdict){pass ? OUTCOME_PASS : OUTCOME_FAIL, pass};
        event->verdict.latency_ms = 3;
        return true;
    }
    event->result.class = class_of(prompt, k);
    event->result.result = (struct result){
        .finish = task->step && k % 1000 < 8 ? FINISH_STEP
                  : k % 4 == 3               ? FINISH_LENGTH
                                             : FINISH_STOP,
        .tokens_in = 7,
        .tokens_out = tokens_of(prompt, k),
        .latency_ms = 10,
    };
    return true;
}

static bool answer_unknown(const struct send *task, struct event *event, struct buf *text)
{
    answer(task, event, text);
    if (task->key.kind == TASK_VERIFY)
        event->verdict.verdict = (struct verdict){OUTCOME_UNKNOWN, 0};
    return true;
}

/* A sweep over these prompts, with truth and judge, still without arms. */
static struct play world(uint32_t prompts, uint32_t groups)
{
    struct play play = play_new(NULL);
    put_prompts(&play, prompts, groups);
    put_model(&play, "m");
    put_sweep(&play, "s", 0, 0);
    return play;
}

static void end(struct report **report, struct core **core, struct play *play)
{
    report_free(report);
    core_free(core);
    play_clear(play);
}

static void play_fleet(struct play *play)
{
    play_hello(play, PLAY_WORKER, "w", false, "sim", 8);
    play_hello(play, PLAY_VERIFIER, "v", true, "check", 8);
}

/* Runs what was defined; the core to report on. */
static struct core *play_all(struct play *play)
{
    if (play->answer == NULL)
        play->answer = answer;
    play_submit(play);
    play_fleet(play);
    play_tasks(play);
    return play_replay(play);
}

static const struct report_curve *curve_of(const struct report *report, uint32_t group, const char *name)
{
    for (uint32_t c = 0; c < report->curves_len; c++)
        if (strcmp(report->groups[group].curves[c].arm.name, name) == 0)
            return &report->groups[group].curves[c];
    fail_msg("no curve '%s'", name);
    return NULL;
}

static const struct report_point *point_of(const struct report *report, uint32_t group, const char *name, uint32_t n)
{
    const struct report_curve *curve = curve_of(report, group, name);
    for (uint32_t i = 0; i < curve->points_len; i++)
        if (curve->points[i].n == n)
            return &curve->points[i];
    fail_msg("curve '%s' has no point %u", name, n);
    return NULL;
}

/* -- brute force ------------------------------------------------------------------------------------------ */

/* Class that most of the first n have; ties to the one seen first. */
static bool majority_right(uint32_t prompt, uint32_t n)
{
    uint32_t best = 0, best_count = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t count = 0;
        bool first = true;
        for (uint32_t j = 0; j < n; j++) {
            count += class_of(prompt, j) == class_of(prompt, i);
            first = first && (j >= i || class_of(prompt, j) != class_of(prompt, i));
        }
        if (first && count > best_count) {
            best = i;
            best_count = count;
        }
    }
    return right(prompt, best);
}

/* Share of the k-subsets of the first N that hold a right one, by counting subsets. */
static double pass_brute(uint32_t prompt, uint32_t k)
{
    uint32_t good = 0, all = 0;
    for (uint32_t set = 0; set < 1u << N; set++) {
        if ((uint32_t)__builtin_popcount(set) != k)
            continue;
        bool any = false;
        for (uint32_t i = 0; i < N; i++)
            any = any || ((set >> i & 1) != 0 && right(prompt, i));
        good += any;
        all++;
    }
    return (double)good / all;
}

static uint32_t stop_at_first_right(uint32_t prompt, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++)
        if (right(prompt, k))
            return k + 1;
    return n;
}

static void put_four(struct play *play)
{
    put_arm(play, 0, (struct arm_text){"vote", "sample", "uniform", "none", "majority", N, NO_ID, NULL, 0});
    put_arm(play, 1, (struct arm_text){"any", "sample", "uniform", "none", "first-pass", N, 0, NULL, 0});
    put_arm(play, 2, (struct arm_text){"beta", "sample", "uniform", "beta", "majority", N, NO_ID, NULL, 0});
    put_arm(play, 3, (struct arm_text){"drop", "sample", "elimination", "none", "first-pass", N, 0, NULL, 0});
}

/* -- tests -------------------------------------------------------------------------------------------------- */

static void curves_equal_brute_force(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 0);
    put_four(&play);
    struct core *core = play_all(&play);
    struct report *report = report_new(core, 0, 12.5);
    assert_int_equal(report->sweep.state, SWEEP_DONE);
    assert_int_equal(report->curves_len, 4);
    assert_int_equal(report->groups_len, 1);
    for (uint32_t n = 1; n <= N; n *= 2) {
        double vote = 0, any = 0, drop = 0;
        uint64_t tokens = 0, used = 0;
        for (uint32_t p = 0; p < PROMPTS; p++) {
            uint32_t stop = stop_at_first_right(p, n);
            vote += majority_right(p, n);
            any += pass_brute(p, n);
            drop += right(p, stop - 1);
            used += stop;
            for (uint32_t k = 0; k < n; k++)
                tokens += 7 + tokens_of(p, k);
        }
        const struct report_point *point = point_of(report, 0, "vote", n);
        assert_int_equal(point->judged, PROMPTS);
        assert_true(fabs(point->accuracy - vote / PROMPTS) < 1e-12);
        assert_int_equal(point->tokens, tokens);
        assert_int_equal(point->rollouts, (uint64_t)n * PROMPTS);
        assert_int_equal(point->slot_ms, 10ull * n * PROMPTS);
        assert_int_equal(point->truncated, (uint64_t)(n / 4) * PROMPTS);
        assert_false(point->unbiased);
        assert_true(point->low <= point->accuracy && point->accuracy <= point->high);
        point = point_of(report, 0, "any", n);
        assert_true(point->unbiased);
        assert_true(fabs(point->accuracy - any / PROMPTS) < 1e-12);
        point = point_of(report, 0, "drop", n);
        assert_true(fabs(point->accuracy - drop / PROMPTS) < 1e-12);
        assert_int_equal(point->rollouts, used);
        assert_true(point_of(report, 0, "beta", n)->rollouts <= (uint64_t)n * PROMPTS);
    }
    assert_true(curve_of(report, 0, "any")->arm.oracle);
    assert_false(curve_of(report, 0, "vote")->arm.oracle);
    assert_int_equal(report->bought, PROMPTS * N);
    assert_true(report->charged > report->bought);
    end(&report, &core, &play);
}

/* Deciding again at the arm's own n gives what the core had decided. */
static void redecision_equals_decision(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 0);
    put_four(&play);
    struct core *core = play_all(&play);
    for (uint32_t a = 0; a < 4; a++) {
        struct arm_info arm = core_arm(core, a), again = arm;
        again.n = arm.n + 1; /* so that it is no recorded decision */
        for (uint32_t p = 0; p < PROMPTS; p++) {
            struct sample x = sample_at(core, &arm, p, arm.n), y = sample_at(core, &again, p, arm.n);
            assert_int_equal(x.rollouts, y.rollouts);
            assert_int_equal(x.tokens, y.tokens);
            assert_true(x.right == y.right);
        }
    }
    core_free(&core);
    play_clear(&play);
}

static void groups_add_up(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 3);
    const uint32_t at[] = {3, 6};
    put_arm(&play, 0, (struct arm_text){"vote", "sample", "uniform", "none", "majority", N, NO_ID, at, 2});
    struct core *core = play_all(&play);
    struct report *report = report_new(core, 0, -1);
    assert_int_equal(report->groups_len, 4);
    assert_string_equal(report->groups[1].name, "g0");
    assert_int_equal(curve_of(report, 0, "vote")->points_len, 2);
    double sum = 0;
    uint64_t tokens = 0;
    for (uint32_t g = 1; g < 4; g++) {
        const struct report_point *point = point_of(report, g, "vote", 6);
        double expected = 0;
        for (uint32_t p = g - 1; p < PROMPTS; p += 3)
            expected += majority_right(p, 6);
        assert_int_equal(report->groups[g].prompts, PROMPTS / 3);
        assert_true(fabs(point->accuracy - expected / (PROMPTS / 3)) < 1e-12);
        sum += point->accuracy * point->judged;
        tokens += point->tokens;
    }
    assert_true(fabs(sum / PROMPTS - point_of(report, 0, "vote", 6)->accuracy) < 1e-12);
    assert_int_equal(tokens, point_of(report, 0, "vote", 6)->tokens);
    end(&report, &core, &play);
}

static void trees_of_one_name_are_one_curve(void **state)
{
    (void)state;
    struct play play = world(6, 0);
    put_arm(&play, 0, (struct arm_text){"search", "particles", "uniform", "none", "best", 8, 1, NULL, 0});
    put_arm(&play, 1, (struct arm_text){"vote", "sample", "uniform", "none", "majority", 4, NO_ID, NULL, 0});
    put_arm(&play, 2, (struct arm_text){"search", "particles", "uniform", "none", "best", 4, 1, NULL, 0});
    struct core *core = play_all(&play);
    struct report *report = report_new(core, 0, -1);
    assert_int_equal(report->sweep.state, SWEEP_DONE);
    assert_int_equal(report->curves_len, 2);
    const struct report_curve *curve = curve_of(report, 0, "search");
    assert_int_equal(curve->points_len, 2);
    assert_int_equal(curve->points[0].n, 4);
    assert_int_equal(curve->points[1].n, 8);
    assert_int_equal(curve->points[0].judged, 6);
    /* Whole ledgers: every settled node is charged to its arm. */
    assert_int_equal(curve->points[1].tokens, core_arm(core, 0).charged.tokens);
    assert_int_equal(curve->points[0].tokens, core_arm(core, 2).charged.tokens);
    assert_int_equal(point_of(report, 0, "vote", 4)->tokens, core_arm(core, 1).charged.tokens);
    double expected = 0;
    for (uint32_t p = 0; p < 6; p++) {
        struct key key;
        struct verdict verdict;
        assert_true(core_delivered(core, 0, p, core_cell(core, 0, p).winner, &key));
        assert_true(core_verdict(core, &key, 0, &verdict));
        expected += verdict.outcome == OUTCOME_PASS;
    }
    assert_true(fabs(curve->points[1].accuracy - expected / 6) < 1e-12);
    end(&report, &core, &play);
}

/* The k-th rollout of a tree arm is the k-th final, tree by tree. */
static void finals_follow_one_another(void **state)
{
    (void)state;
    struct play play = world(3, 0);
    put_arm(&play, 0, (struct arm_text){"search", "dvts", "uniform", "none", "best", 8, 1, NULL, 0});
    struct core *core = play_all(&play);
    uint32_t trees = core_arm(core, 0).trees;
    assert_true(trees > 1);
    for (uint32_t p = 0; p < 3; p++) {
        struct key key;
        uint32_t k = 0;
        for (uint32_t t = 0; t < trees; t++) {
            const uint32_t *finals;
            uint32_t len = core_tree_finals(core, 0, p, t, &finals);
            for (uint32_t i = 0; i < len; i++) {
                assert_true(core_delivered(core, 0, p, k++, &key));
                assert_int_equal(key.tree, t);
                assert_int_equal(key.item, finals[i]);
            }
        }
        assert_true(k > 0);
        assert_false(core_delivered(core, 0, p, k, &key));
    }
    core_free(&core);
    play_clear(&play);
}

/* A sweep that has run, and what is said of it. */
struct told {
    struct core *core;
    struct report *report;
    struct buf text;
};

static struct told tell(struct core *core, bool utf8)
{
    struct told told = {.core = core, .report = report_new(core, 0, -1)};
    report_text(told.report, (struct report_page){.utf8 = utf8}, &told.text);
    return told;
}

static void assert_says(const struct told *told, const char *sentence)
{
    if (strstr(told->text.data, sentence) == NULL)
        fail_msg("'%s' is not in:\n%s", sentence, told->text.data);
}

static void forget(struct told *told, struct play *play)
{
    buf_clear(&told->text);
    end(&told->report, &told->core, play);
}

static void partial_sweeps_say_so(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 0);
    put_arm(&play, 0, (struct arm_text){"vote", "sample", "uniform", "none", "majority", N, NO_ID, NULL, 0});
    play.left = 150;
    struct told told = tell(play_all(&play), false);
    const struct report_point *point = point_of(told.report, 0, "vote", N);
    uint32_t undecided = 0;
    for (uint32_t p = 0; p < PROMPTS; p++)
        undecided += core_cell(told.core, 0, p).decided == DECIDED_NOT;
    assert_true(undecided > 0);
    assert_true(undecided < PROMPTS);
    assert_int_equal(point->undecided, undecided);
    assert_int_equal(point->prompts, PROMPTS - undecided);
    char expected[80];
    snprintf(expected, sizeof expected, "partial: %u of %u prompts undecided", undecided, (unsigned)PROMPTS);
    assert_says(&told, expected);
    assert_says(&told, "accuracy is biased until all are decided");
    forget(&told, &play);
}

static void unknown_is_never_wrong(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 0);
    play.answer = answer_unknown;
    put_four(&play);
    struct told told = tell(play_all(&play), false);
    const struct report_point *point = point_of(told.report, 0, "vote", N);
    assert_int_equal(point->judged, 0);
    assert_int_equal(point->unknown, PROMPTS);
    assert_true(isnan(point->accuracy));
    assert_int_equal(point_of(told.report, 0, "any", 2)->unknown, PROMPTS);
    assert_says(&told, "24 prompts left out: the truth of the winner is unknown");
    forget(&told, &play);
}

/* Verdicts of every outcome, in turn by prompt. */
static bool answer_all_outcomes(const struct send *task, struct event *event, struct buf *text)
{
    answer(task, event, text);
    if (task->key.kind == TASK_VERIFY)
        event->verdict.verdict = (struct verdict){(enum outcome)(task->key.prompt % OUTCOMES), .5};
    else
        event->result.result.tokens_cached = 3;
    return true;
}

static void outcomes_are_shown_apart(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 0);
    play.answer = answer_all_outcomes;
    put_arm(&play, 0, (struct arm_text){"vote", "sample", "uniform", "none", "majority", 4, NO_ID, NULL, 0});
    put_arm(&play, 1, (struct arm_text){"best", "sample", "uniform", "none", "best", 2, 1, NULL, 0});
    struct told told = tell(play_all(&play), false);
    const struct report_point *point = point_of(told.report, 0, "vote", 4);
    assert_int_equal(point->judged, PROMPTS / 2); /* fail, pass, timeout */
    assert_int_equal(point->unknown, PROMPTS / 2);
    assert_true(point->accuracy == 1. / 3);
    assert_int_equal(told.report->verdicts_len, 2);
    for (int o = 0; o < OUTCOMES; o++) { /* of the truth on 4 rollouts each, of the judge on 2 */
        assert_int_equal(told.report->verdicts[0].outcomes[o], 4 * PROMPTS / OUTCOMES);
        assert_int_equal(told.report->verdicts[1].outcomes[o], 2 * PROMPTS / OUTCOMES);
    }
    struct item item;
    for (uint32_t p = 0; p < OUTCOMES; p++) { /* what policies see: a score counts, an error does not */
        struct key key = {TASK_GENERATE, 0, p, NO_ID, 0, NO_ID};
        assert_true(core_item(told.core, 1, &key, 0, &item));
        assert_int_equal(item.scored, p != OUTCOME_UNKNOWN && p != OUTCOME_ERROR);
        assert_int_equal(item.passed, p == OUTCOME_PASS);
        assert_true(item.score == (item.scored ? .5 : 0));
    }
    assert_says(&told, "  verdicts of truth: 16 unknown, 16 timeout, 16 error of 96\n");
    assert_says(&told, "  verdicts of judge: 8 unknown, 8 timeout, 8 error of 48\n");
    assert_says(&told, "  43 % of prompt tokens were cached (288 of 672)\n");
    forget(&told, &play);
}

/* A recording that holds six rollouts of every prompt. */
static bool answer_recorded(const struct send *task, struct event *event, struct buf *text)
{
    answer(task, event, text);
    if (task->key.kind == TASK_GENERATE && task->key.item >= 6)
        event->result.result = (struct result){.finish = FINISH_EXHAUSTED};
    return true;
}

static void exhausted_pools_are_reported(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 0);
    play.answer = answer_recorded;
    put_arm(&play, 0, (struct arm_text){"vote", "sample", "uniform", "none", "majority", N, NO_ID, NULL, 0});
    struct told told = tell(play_all(&play), false);
    const struct report_point *point = point_of(told.report, 0, "vote", N);
    assert_int_equal(point->prompts, PROMPTS);
    assert_int_equal(point->exhausted, PROMPTS);
    assert_int_equal(point->rollouts, 6 * PROMPTS);
    assert_int_equal(point_of(told.report, 0, "vote", 4)->exhausted, 0);
    assert_says(&told, "the recorded pool is exhausted: 24 prompts had fewer than");
    forget(&told, &play);
}

/* Decided, but nobody has said yet what is right. */
static void pending_truth_is_never_wrong(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 0);
    play.answer = answer;
    put_arm(&play, 0, (struct arm_text){"vote", "sample", "uniform", "none", "majority", N, NO_ID, NULL, 0});
    play_submit(&play);
    play_hello(&play, PLAY_WORKER, "w", false, "sim", 8);
    play_tasks(&play);
    struct told told = tell(play_replay(&play), false);
    assert_int_equal(point_of(told.report, 0, "vote", N)->prompts, PROMPTS);
    assert_int_equal(point_of(told.report, 0, "vote", N)->pending, PROMPTS);
    assert_int_equal(point_of(told.report, 0, "vote", N)->judged, 0);
    assert_says(&told, "24 prompts left out: the truth of the winner is not there yet");
    forget(&told, &play);
}

static void without_truth_there_are_costs(void **state)
{
    (void)state;
    struct play play = play_new(NULL);
    put_prompts(&play, PROMPTS, 0);
    put_model(&play, "m");
    put_sweep(&play, "s", NO_ID, 0);
    put_arm(&play, 0, (struct arm_text){"vote", "sample", "uniform", "none", "majority", N, NO_ID, NULL, 0});
    struct told told = tell(play_all(&play), true);
    assert_int_equal(point_of(told.report, 0, "vote", 4)->rollouts, 4 * PROMPTS);
    assert_true(isnan(point_of(told.report, 0, "vote", 4)->accuracy));
    assert_says(&told, "it needs 'truth: VERIFIER'");
    assert_null(strstr(told.text.data, "left out"));
    forget(&told, &play);
}

static void empty_sweeps_print(void **state)
{
    (void)state;
    for (int arms = 0; arms < 2; arms++) {
        struct play play = play_new(NULL);
        struct buf text = {0};
        put_prompts(&play, 0, 0);
        put_model(&play, "m");
        put_sweep(&play, "s", 0, 0);
        if (arms > 0)
            put_four(&play);
        struct core *core = play_all(&play);
        struct report *report = report_new(core, 0, -1);
        report_tables_fill(core, report);
        report_text(report, (struct report_page){.utf8 = true}, &text);
        report_json(report, &text);
        report_csv(report, &text);
        assert_true(text.len > 0);
        report_free(&report);
        core_free(&core);
        buf_clear(&text);
        play_clear(&play);
    }
}

static void hostile_names_are_harmless(void **state)
{
    (void)state;
    struct play play = play_new(NULL);
    struct buf text = {0};
    put_prompts(&play, 2, 0);
    put_model(&play, "m\x1b]0;x\x07\xff");
    put_sweep(&play, "s\n\"\x1b[2J", 0, 0);
    put_arm(&play, 0, (struct arm_text){"=1+\"x\"", "sample", "uniform", "none", "majority", 2, NO_ID, NULL, 0});
    put_arm(&play, 1, (struct arm_text){"\xe2\x80\xaeups", "sample", "uniform", "none", "majority", 2, NO_ID, NULL, 0});
    struct core *core = play_all(&play);
    struct report *report = report_new(core, 0, -1);
    report_tables_fill(core, report);
    report_text(report, (struct report_page){0}, &text);
    assert_null(memchr(text.data, '\x1b', text.len));
    assert_null(memchr(text.data, '\x07', text.len));
    assert_null(memchr(text.data, 0xff, text.len));
    assert_null(strstr(text.data, "\xe2\x80\xae"));
    buf_reset(&text);
    report_json(report, &text);
    assert_null(memchr(text.data, '\x1b', text.len));
    assert_null(memchr(text.data, 0xff, text.len));
    buf_reset(&text);
    report_csv(report, &text);
    assert_non_null(strstr(text.data, "\"'=1+\"\"x\"\"\""));
    report_free(&report);
    core_free(&core);
    buf_clear(&text);
    play_clear(&play);
}

/* Of `of` prompts from `first` on, `step` apart, N rollouts each: all, none right. */
static void mix_brute(uint32_t first, uint32_t step, uint32_t *all, uint32_t *none, double *covered)
{
    *all = *none = 0;
    *covered = 0;
    for (uint32_t p = first; p < PROMPTS; p += step) {
        uint32_t count = 0;
        for (uint32_t k = 0; k < N; k++)
            count += right(p, k);
        *all += count == N;
        *none += count == 0;
        *covered += count > 0;
    }
}

static void mixes_equal_brute_force(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 3);
    struct buf json = {0};
    put_four(&play);
    struct core *core = play_all(&play);
    struct report *report = report_new(core, 0, -1);
    assert_int_equal(report->pools_len, 1); /* four arms share it */
    const struct report_pool *pool = &report->pools[0];
    for (uint32_t g = 0; g < 4; g++) {
        uint32_t all, none, step = g == 0 ? 1 : 3;
        double covered;
        mix_brute(g == 0 ? 0 : g - 1, step, &all, &none, &covered);
        assert_int_equal(pool->mixes[g].all_right, all);
        assert_int_equal(pool->mixes[g].none_right, none);
        assert_int_equal(pool->mixes[g].prompts, PROMPTS / step);
        assert_int_equal(pool->mixes[g].rollouts, PROMPTS / step * N);
        if (g == 0) {
            assert_true(pool->reach.known && pool->reach.measured);
            assert_true(fabs(pool->reach.anchor.seen - covered / PROMPTS) < 1e-12);
            assert_true(fabs(pool->reach.anchor.n - N) < 1e-12);
        }
    }
    report->target = 0.99;
    report_json(report, &json);
    assert_non_null(strstr(json.data, "\"budget_low\":"));
    report_free(&report);
    core_free(&core);
    buf_clear(&json);
    play_clear(&play);
}

/* Both adaptive arms, against the uniform arm that selects as they do, by the samples of each prompt. */
static void savings_are_paired(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 0);
    put_four(&play);
    struct core *core = play_all(&play);
    struct report *report = report_new(core, 0, -1);
    assert_int_equal(report->savings_len, 2);
    const char *const names[][2] = {{"beta", "vote"}, {"drop", "any"}};
    for (uint32_t i = 0; i < 2; i++) {
        const struct report_saving *one = &report->savings[i];
        const struct report_point *adaptive = point_of(report, 0, names[i][0], N);
        const struct report_point *whole = point_of(report, 0, names[i][1], N);
        assert_string_equal(report->groups[0].curves[one->curve].arm.name, names[i][0]);
        assert_string_equal(report->groups[0].curves[one->base].arm.name, names[i][1]);
        assert_int_equal(one->prompts, PROMPTS);
        assert_true(fabs(one->saving.accuracy - adaptive->accuracy) < 1e-12);
        assert_true(one->saving.rollouts <= (double)whole->rollouts / (double)adaptive->rollouts + 1e-9);
        assert_true(one->saving.rollouts_95.low <= one->saving.rollouts);
        assert_true(one->saving.rollouts <= one->saving.rollouts_95.high);
    }
    /* Stopping at the first right one reaches what all N reach, and no less does: everything is saved. */
    assert_true(fabs(report->savings[1].saving.rollouts - (double)point_of(report, 0, "any", N)->rollouts /
                                                              (double)point_of(report, 0, "drop", N)->rollouts) < 1e-9);
    assert_true(fabs(report->savings[1].saving.tokens - (double)point_of(report, 0, "any", N)->tokens /
                                                            (double)point_of(report, 0, "drop", N)->tokens) < 1e-9);
    end(&report, &core, &play);
}

/* -- tables ----------------------------------------------------------------------------------------------- */

static const struct report_table *table_of(const struct report *report, const char *key)
{
    for (uint32_t i = 0; i < report->tables_len; i++)
        if (strcmp(report->tables[i].key, key) == 0)
            return &report->tables[i];
    fail_msg("no table '%s'", key);
    return NULL;
}

static uint32_t rows_of(const struct report_table *table)
{
    uint32_t columns = 0;
    while (table->columns[columns].key != NULL)
        columns++;
    return (uint32_t)table->len / columns;
}

/* A cell by its row and the key of its column. */
static const struct report_cell *cell_of(const struct report_table *table, uint32_t row, const char *key)
{
    uint32_t columns = 0, at = 0;
    for (; table->columns[columns].key != NULL; columns++)
        at = strcmp(table->columns[columns].key, key) == 0 ? columns : at;
    assert_string_equal(table->columns[at].key, key);
    assert_true(row * columns + at < table->len);
    return &table->cells[row * columns + at];
}

static void number_is(const struct report_table *table, uint32_t row, const char *key, double wanted)
{
    double got = cell_of(table, row, key)->number;
    if (!(fabs(got - wanted) < 1e-9))
        fail_msg("%s of row %u of %s: %.12g is not %.12g", key, row, table->key, got, wanted);
}

/* The judge also passes every third rollout. */
static bool lenient(uint32_t prompt, uint32_t ordinal)
{
    return right(prompt, ordinal) || ordinal % 3 == 0;
}

static bool answer_lenient(const struct send *task, struct event *event, struct buf *text)
{
    answer(task, event, text);
    if (task->key.kind == TASK_VERIFY && task->key.verifier == 1)
        event->verdict.verdict.outcome = lenient(task->key.prompt, task->key.item) ? OUTCOME_PASS : OUTCOME_FAIL;
    return true;
}

/* The vote of all N, a tie of t counting 1 / t. */
static double vote_brute(uint32_t prompt)
{
    uint32_t counts[5] = {0}, most = 0, tied = 0;
    for (uint32_t k = 0; k < N; k++)
        counts[class_of(prompt, k)]++;
    for (int c = 1; c < 5; c++)
        most = counts[c] > most ? counts[c] : most;
    for (int c = 1; c < 5; c++)
        tied += counts[c] == most;
    return counts[1] == most ? 1.0 / tied : 0;
}

static void bounds_equal_brute_force(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 0);
    put_four(&play);
    struct core *core = play_all(&play);
    struct report *report = report_new(core, 0, -1);
    report_tables_fill(core, report);
    const struct report_table *table = table_of(report, "bounds");
    assert_int_equal(rows_of(table), 4); /* N = 1, 2, 4, 8 */
    double one = 0, any = 0, vote = 0, stops = 0;
    for (uint32_t p = 0; p < PROMPTS; p++) {
        uint32_t count = 0;
        for (uint32_t k = 0; k < N; k++)
            count += right(p, k);
        one += (double)count / N / PROMPTS;
        any += (double)(count > 0) / PROMPTS;
        vote += vote_brute(p) / PROMPTS;
        stops += (count > 0 ? (N + 1.0) / (count + 1) : N) / PROMPTS; /* place of the first of `count`, on average */
    }
    number_is(table, 3, "n", N);
    number_is(table, 3, "one", one);
    number_is(table, 0, "any", one);
    number_is(table, 3, "any", any);
    number_is(table, 3, "majority", vote);
    number_is(table, 3, "stops", stops);
    for (uint32_t row = 0; row < 4; row++) {
        assert_true(cell_of(table, row, "most")->number <= 1);
        assert_true(cell_of(table, row, "most_saves")->number >= 1);
        assert_true(cell_of(table, row, "most")->number >=
                    coverage_exact(&report->pools[0].reach.law, cell_of(table, row, "n")->number));
    }
    table = table_of(report, "power_law");
    assert_int_equal(rows_of(table), 1);
    number_is(table, 0, "from", N / 2);
    assert_true(cell_of(table, 0, "error")->number < .1);
    uint32_t unsolved = 0;
    for (uint32_t p = 0; p < PROMPTS; p++)
        unsolved += stop_at_first_right(p, N) == N && !right(p, N - 1);
    assert_int_equal(report->pools[0].unsolved, unsolved);
    assert_true(report->pools[0].solves > 0 && report->pools[0].solves < unsolved);
    end(&report, &core, &play);
}

static void lengths_tell_right_from_wrong(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 0);
    put_four(&play);
    struct core *core = play_all(&play);
    struct report *report = report_new(core, 0, -1);
    report_tables_fill(core, report);
    double count[2] = {0}, tokens[2] = {0}, cut[2] = {0}, shorter = 0, pairs = 0;
    for (uint32_t p = 0; p < PROMPTS; p++) {
        double wins = 0, both = 0;
        for (uint32_t k = 0; k < N; k++) {
            count[right(p, k)]++;
            tokens[right(p, k)] += tokens_of(p, k);
            cut[right(p, k)] += k % 4 == 3;
            for (uint32_t j = 0; right(p, k) && j < N; j++) {
                both += !right(p, j);
                wins +=
                    right(p, j) ? 0 : (tokens_of(p, k) < tokens_of(p, j)) + .5 * (tokens_of(p, k) == tokens_of(p, j));
            }
        }
        pairs += both > 0;
        shorter += both > 0 ? wins / both : 0;
    }
    const struct report_table *table = table_of(report, "lengths");
    assert_int_equal(rows_of(table), 2);
    assert_string_equal(cell_of(table, 0, "truth")->text, "right");
    for (uint32_t row = 0; row < 2; row++) {
        number_is(table, row, "rollouts", count[1 - row]);
        number_is(table, row, "tokens", tokens[1 - row] / count[1 - row]);
        number_is(table, row, "cut", cut[1 - row] / count[1 - row]);
        assert_true(isnan(cell_of(table, row, "markers")->number));
        assert_true(cell_of(table, row, "tokens_p10")->number < cell_of(table, row, "tokens_p90")->number);
    }
    table = table_of(report, "shorter");
    number_is(table, 0, "prompts", pairs);
    number_is(table, 0, "shorter", shorter / pairs);
    end(&report, &core, &play);
}

static void weaker_verifiers_let_false_ones_pass(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 0);
    play.answer = answer_lenient;
    put_arm(&play, 0, (struct arm_text){"best", "sample", "uniform", "none", "best", N, 1, NULL, 0});
    struct core *core = play_all(&play);
    struct report *report = report_new(core, 0, -1);
    report_tables_fill(core, report);
    double passed = 0, both = 0, any_passed = 0, any_both = 0, low, high;
    for (uint32_t p = 0; p < PROMPTS; p++) {
        bool lets = false, rights = false;
        for (uint32_t k = 0; k < N; k++) {
            passed += lenient(p, k);
            both += right(p, k);
            lets = lets || lenient(p, k);
            rights = rights || right(p, k);
        }
        any_passed += (double)lets / PROMPTS;
        any_both += (double)rights / PROMPTS;
    }
    const struct report_table *table = table_of(report, "weaker_verifiers");
    assert_int_equal(rows_of(table), 2); /* one of 1, one of N */
    assert_string_equal(cell_of(table, 0, "verifier")->text, "judge");
    number_is(table, 0, "passes", passed / N / PROMPTS);
    number_is(table, 0, "right_too", both / N / PROMPTS);
    number_is(table, 1, "passes", any_passed);
    number_is(table, 1, "right_too", any_both);
    binomial_interval((uint64_t)(passed - both), (uint64_t)passed, .95, &low, &high);
    number_is(table, 1, "false", (passed - both) / passed);
    number_is(table, 1, "false_low", low);
    number_is(table, 1, "false_high", high);
    number_is(table, 1, "before", both / N / PROMPTS);
    number_is(table, 1, "accepted", both / passed);
    number_is(table, 1, "rejected", 0);
    end(&report, &core, &play);
}

static void flips_are_counted_and_tested(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 0);
    put_four(&play);
    struct core *core = play_all(&play);
    struct report *report = report_new(core, 0, -1);
    report_tables_fill(core, report);
    const struct report_table *table = table_of(report, "flips");
    assert_int_equal(rows_of(table), 3); /* vote against any, beta, drop */
    double counts[2][2] = {{0}}, chance = 0;
    for (uint32_t p = 0; p < PROMPTS; p++)
        counts[majority_right(p, N)][pass_brute(p, N) > .5]++;
    assert_string_equal(cell_of(table, 0, "from")->text, "vote");
    assert_string_equal(cell_of(table, 0, "to")->text, "any");
    number_is(table, 0, "pairs", PROMPTS);
    number_is(table, 0, "right_right", counts[1][1]);
    number_is(table, 0, "right_wrong", 0);
    number_is(table, 0, "wrong_right", counts[0][1]);
    number_is(table, 0, "wrong_wrong", counts[0][0]);
    chance = pow(.5, counts[0][1] - 1); /* all flips one way, and twice that */
    number_is(table, 0, "p", chance);
    end(&report, &core, &play);
}

/* By the levels of each prompt: a gain counts by the tokens before over those after. */
static void effort_equals_brute_force(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 0);
    put_four(&play);
    struct core *core = play_all(&play);
    struct report *report = report_new(core, 0, -1);
    report_tables_fill(core, report);
    double sum = 0;
    for (uint32_t p = 0; p < PROMPTS; p++) {
        double before_tokens = 0, before = 0;
        for (uint32_t n = 1; n <= N; n *= 2) {
            double tokens = 0, now = majority_right(p, n), gained = now - before;
            for (uint32_t k = 0; k < n; k++)
                tokens += 7 + tokens_of(p, k);
            if (n > 1)
                sum += gained > 0 ? before_tokens / tokens : gained < 0 ? -tokens / before_tokens : 0;
            before = now;
            before_tokens = tokens;
        }
    }
    const struct report_table *table = table_of(report, "effort");
    assert_int_equal(rows_of(table), 4);
    assert_string_equal(cell_of(table, 0, "levels")->text, "vote: N=1 to 8");
    number_is(table, 0, "arise", sum / PROMPTS);
    end(&report, &core, &play);
}

/* Bytes of the longest line of ASCII. */
static size_t widest(const struct buf *text)
{
    size_t widest = 0;
    for (const char *line = text->data; *line != '\0'; line += strcspn(line, "\n") + 1)
        widest = strcspn(line, "\n") > widest ? strcspn(line, "\n") : widest;
    return widest;
}

/* Nothing is wider than a terminal, and ASCII means ASCII. */
static void plot_fits_a_terminal(void **state)
{
    (void)state;
    struct play play = world(PROMPTS, 0);
    struct buf text = {0};
    put_four(&play);
    struct core *core = play_all(&play);
    struct report *report = report_new(core, 0, -1);
    for (int utf8 = 0; utf8 < 2; utf8++) {
        buf_reset(&text);
        report_text(report, (struct report_page){.utf8 = utf8 != 0}, &text);
        uint32_t width = 0;
        for (size_t i = 0; i < text.len; i++) {
            unsigned char byte = (unsigned char)text.data[i];
            assert_true(utf8 || byte < 0x80);
            width = byte == '\n' ? 0 : width + ((byte & 0xC0) != 0x80);
            assert_true(width <= 80);
        }
    }
    buf_reset(&text);
    report_plot(report, &report->groups[0], (struct report_page){0}, &text);
    for (char letter = 'a'; letter <= 'd'; letter++)
        assert_true(memchr(text.data, letter, text.len) != NULL);
    static const uint32_t pages[][2] = {
        {20, 40}, {40, 40}, {57, 57}, {80, 80}, {300, 80}}; /* columns, and what it takes */
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        buf_reset(&text);
        report_plot(report, &report->groups[0], (struct report_page){.columns = pages[i][0]}, &text);
        assert_int_equal(widest(&text), pages[i][1] - 2);
    }
    report_free(&report);
    core_free(&core);
    buf_clear(&text);
    play_clear(&play);
}

/* Numbers at the right edge stay whole. */
static void ticks_stay_whole(void **state)
{
    (void)state;
    struct report_point points[3] = {
        {.n = 1, .accuracy = .2}, {.n = 60000, .accuracy = NAN}, {.n = 65536, .accuracy = 1}};
    struct report_curve curve = {.points = points, .points_len = 3};
    struct report_group group = {.name = "all", .curves = &curve};
    struct report report = {.groups = &group, .groups_len = 1, .curves_len = 1};
    struct buf text = {0};
    report_plot(&report, &group, (struct report_page){0}, &text);
    assert_non_null(strstr(text.data, " 65536\n"));
    assert_null(strstr(text.data, "60000"));
    buf_reset(&text);
    report_plot(&report, &group, (struct report_page){.columns = 45}, &text);
    assert_non_null(strstr(text.data, " 65536\n"));
    assert_int_equal(widest(&text), 45);
    buf_clear(&text);
}

static void intervals_repeat_and_cover(void **state)
{
    (void)state;
    enum { LEN = 60, TRIALS = 400 };
    int covered = 0;
    for (uint32_t t = 0; t < TRIALS; t++) {
        double values[LEN];
        for (uint32_t i = 0; i < LEN; i++)
            values[i] = rng_unit(rng_u64(t, RNG_TEST, 7, i)) < .3;
        struct interval one = interval_of(values, LEN, t), two = interval_of(values, LEN, t);
        assert_memory_equal(&one, &two, sizeof one);
        assert_true(one.low <= one.mean && one.mean <= one.high);
        covered += one.low <= .3 && .3 <= one.high;
    }
    assert_in_range(covered, TRIALS * 90 / 100, TRIALS * 98 / 100);
    assert_true(isnan(interval_of(NULL, 0, 1).mean));
    const double single = 1;
    assert_true(interval_of(&single, 1, 1).low == 1);
}

/* The two ways to an interval meet where one takes over. */
static void large_samples_have_normal_intervals(void **state)
{
    (void)state;
    double values[2001];
    for (uint32_t i = 0; i < 2001; i++)
        values[i] = rng_unit(rng_u64(3, RNG_TEST, 8, i)) < .6;
    struct interval boot = interval_of(values, 2000, 1), normal = interval_of(values, 2001, 1);
    assert_true(fabs(boot.low - normal.low) < .004);
    assert_true(fabs(boot.high - normal.high) < .004);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curves_equal_brute_force),
        cmocka_unit_test(redecision_equals_decision),
        cmocka_unit_test(groups_add_up),
        cmocka_unit_test(trees_of_one_name_are_one_curve),
        cmocka_unit_test(partial_sweeps_say_so),
        cmocka_unit_test(unknown_is_never_wrong),
        cmocka_unit_test(outcomes_are_shown_apart),
        cmocka_unit_test(exhausted_pools_are_reported),
        cmocka_unit_test(pending_truth_is_never_wrong),
        cmocka_unit_test(finals_follow_one_another),
        cmocka_unit_test(without_truth_there_are_costs),
        cmocka_unit_test(empty_sweeps_print),
        cmocka_unit_test(hostile_names_are_harmless),
        cmocka_unit_test(mixes_equal_brute_force),
        cmocka_unit_test(savings_are_paired),
        cmocka_unit_test(bounds_equal_brute_force),
        cmocka_unit_test(lengths_tell_right_from_wrong),
        cmocka_unit_test(weaker_verifiers_let_false_ones_pass),
        cmocka_unit_test(flips_are_counted_and_tested),
        cmocka_unit_test(effort_equals_brute_force),
        cmocka_unit_test(plot_fits_a_terminal),
        cmocka_unit_test(ticks_stay_whole),
        cmocka_unit_test(intervals_repeat_and_cover),
        cmocka_unit_test(large_samples_have_normal_intervals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
