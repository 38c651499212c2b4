/* test_status.c - nothing waits without saying on what; and what names from outside do to a terminal. */
#include "broker/core/text_table.h"
#include "tests/unit/play.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static bool answer(const struct send *task, struct event *event, struct buf *text)
{
    (void)text;
    if (task->key.kind == TASK_VERIFY)
        event->verdict.verdict = (struct verdict){OUTCOME_PASS, 1};
    else
        event->result.result = (struct result){.finish = FINISH_STOP, .tokens_in = 5, .tokens_out = 5, .latency_ms = 5};
    event->result.class = task->key.kind == TASK_VERIFY ? event->result.class : 1;
    return true;
}

/* One arm of 4 rollouts on 3 prompts, a truth if asked for. */
static struct play play_sweep(const char *name, bool truth, uint64_t rollouts)
{
    struct play play = play_new(NULL);
    play.answer = answer;
    put_prompts(&play, 3, 0);
    put_model(&play, "m");
    put_sweep(&play, name, truth ? 0 : NO_ID, rollouts);
    put_arm(&play, 0, (struct arm_text){"vote", "sample", "uniform", "none", "majority", 4, NO_ID, NULL, 0});
    play_submit(&play);
    return play;
}

static void expect_waits(const struct core *core, const char *expected)
{
    struct buf sentence = {0};
    core_waits_for(core, 0, &sentence);
    if (strstr(sentence.data, expected) == NULL)
        fail_msg("'%s' is not in '%s'", expected, sentence.data);
    buf_clear(&sentence);
}

static void dispatch(struct play *play)
{
    update_reset(&play->update);
    play_event(play, (struct event){.type = EVENT_DISPATCH});
    play_commit(play);
}

static void control(struct play *play, enum sweep_state state)
{
    play_event(play, (struct event){.type = EVENT_CONTROL, .control = {0, state}});
    play_commit(play);
}

static void waits_for_a_worker(void **state)
{
    (void)state;
    struct play play = play_sweep("s", false, 0);
    dispatch(&play);
    expect_waits(play.core, "a worker that serves backend 'sim' (none is connected)");
    play_hello(&play, 5, "other", false, "another", 4);
    dispatch(&play);
    expect_waits(play.core, "a worker that serves backend 'sim' (none is connected)");
    play_hello(&play, 6, "drains", false, "sim", 4);
    play_event(&play, (struct event){.type = EVENT_DRAIN, .agent = 6});
    dispatch(&play);
    expect_waits(play.core, "a worker that serves backend 'sim' (1 connected, all draining or refusing)");
    play_clear(&play);
}

static void waits_for_what_is_in_flight(void **state)
{
    (void)state;
    struct play play = play_sweep("s", true, 0);
    play_hello(&play, PLAY_WORKER, "w", false, "sim", 2);
    play_hello(&play, PLAY_WORKER + 1, "x", false, "sim", 1);
    dispatch(&play);
    expect_waits(play.core, "3 rollouts in flight on 2 workers");
    play_clear(&play);
}

static void waits_for_a_verifier(void **state)
{
    (void)state;
    struct play play = play_sweep("s", true, 0);
    play_hello(&play, PLAY_WORKER, "w", false, "sim", 2);
    play_tasks(&play);
    expect_waits(play.core, "a verifier for kind 'check' (12 verdicts wait, none is connected)");
    play_hello(&play, PLAY_VERIFIER, "v", true, "check", 12);
    dispatch(&play);
    expect_waits(play.core, "12 verdicts in flight on 1 verifier");
    play_clear(&play);
}

static void says_who_refused(void **state)
{
    (void)state;
    struct play play = play_sweep("s", false, 0);
    play_hello(&play, PLAY_WORKER, "w", false, "sim", 1);
    dispatch(&play);
    assert_int_equal(play.update.sends_len, 1);
    struct event refuse = {.type = EVENT_REFUSE, .agent = PLAY_WORKER, .lease = play.update.sends[0].lease};
    refuse.fail.reason = slice_of("no such file");
    play_event(&play, refuse);
    dispatch(&play);
    expect_waits(play.core, "the model 'm' cannot be opened: no such file");
    play_clear(&play);
}

static bool answer_fails(const struct send *task, struct event *event, struct buf *text)
{
    (void)task;
    (void)event;
    (void)text;
    return false;
}

static void says_who_is_benched(void **state)
{
    (void)state;
    struct play play = play_sweep("s", false, 0);
    play.answer = answer_fails;
    play_hello(&play, PLAY_WORKER, "w", false, "sim", 1);
    play_tasks(&play);
    expect_waits(play.core, "benched after failures, back in 30 s");
    struct buf text = {0};
    workers_text(play.core, &text);
    assert_non_null(strstr(text.data, "benched"));
    buf_clear(&text);
    play_clear(&play);
}

static void budgets_and_states(void **state)
{
    (void)state;
    struct play play = play_sweep("s", false, 5);
    play_hello(&play, PLAY_WORKER, "w", false, "sim", 8);
    dispatch(&play);
    expect_waits(play.core, "5 rollouts in flight on 1 worker; room in the budget of rollouts (0 used and 5 "
                            "reserved of 5)");
    control(&play, SWEEP_PAUSED);
    expect_waits(play.core, "paused: goes on after 'drover resume s'");
    control(&play, SWEEP_CANCELLED);
    expect_waits(play.core, "nothing: cancelled");
    play_clear(&play);

    play = play_sweep("s", false, 5);
    play_hello(&play, PLAY_WORKER, "w", false, "sim", 2);
    play_tasks(&play);
    expect_waits(play.core, "nothing: the budget ended it with 2 prompts undecided");
    play_clear(&play);

    play = play_sweep("s", false, 0);
    play_hello(&play, PLAY_WORKER, "w", false, "sim", 2);
    play_tasks(&play);
    expect_waits(play.core, "nothing: finished");
    play_clear(&play);
}

static void json_counts(void **state)
{
    (void)state;
    struct play play = play_sweep("s", false, 0);
    struct buf json = {0};
    play_hello(&play, PLAY_WORKER, "w", false, "sim", 2);
    play.left = 5;
    play_tasks(&play);
    core_status(play.core, "s", &json);
    assert_non_null(strstr(json.data, "\"rollouts\":{\"accepted\":5,\"burned\":5,\"reserved\":2,\"cap\":null}"));
    assert_non_null(strstr(json.data, "\"decided\":1,\"cells\":3"));
    assert_non_null(strstr(json.data, "\"leased\":2"));
    assert_non_null(strstr(json.data, "\"waits_for\":\"2 rollouts in flight on 1 worker\""));
    struct waiting waiting = core_waiting(play.core, 0);
    assert_int_equal(waiting.verify + waiting.truth, 0);
    buf_reset(&json);
    core_status(play.core, "nobody", &json);
    assert_string_equal(json.data, "{\"epoch\":1,\"sweeps\":[]}");
    buf_reset(&json);
    core_workers(play.core, &json);
    assert_non_null(strstr(json.data, "\"serves\":[\"sim\"],\"slots\":2,\"leased\":2"));
    buf_clear(&json);
    play_clear(&play);
}

static bool answer_cached(const struct send *task, struct event *event, struct buf *text)
{
    answer(task, event, text);
    event->result.result.tokens_cached = task->key.item == 0 ? 0 : 4;
    return true;
}

/* Tokens of a prefix cache are summed in the core, so a replay knows them too. */
static void cached_tokens_are_shown(void **state)
{
    (void)state;
    struct play play = play_sweep("s", false, 0);
    struct buf text = {0};
    status_text(play.core, NULL, &text);
    assert_null(strstr(text.data, "cached"));
    play.answer = answer_cached;
    play_hello(&play, PLAY_WORKER, "w", false, "sim", 4);
    play_tasks(&play);
    struct core *again = play_replay(&play);
    buf_reset(&text);
    status_text(again, NULL, &text);
    assert_non_null(strstr(text.data, "  60 % of prompt tokens were cached (36 of 60)\n"));
    buf_reset(&text);
    core_status(again, NULL, &text);
    assert_non_null(strstr(text.data, "\"tokens_in\":60,\"tokens_cached\":36,"));
    assert_int_equal(core_model(again, 0).cached, 36);
    core_free(&again);
    buf_clear(&text);
    play_clear(&play);
}

static void an_empty_broker_says_what_to_do(void **state)
{
    (void)state;
    struct play play = play_new(NULL);
    struct buf text = {0};
    status_text(play.core, NULL, &text);
    workers_text(play.core, &text);
    assert_non_null(strstr(text.data, "drover submit FILE"));
    assert_non_null(strstr(text.data, "drover worker"));
    buf_reset(&text);
    status_text(play.core, "x\x1b[2J", &text);
    assert_string_equal(text.data, "no sweep 'x?[2J': 'drover status' lists those that are here\n");
    buf_clear(&text);
    play_clear(&play);
}

static void names_cannot_steer_a_terminal(void **state)
{
    (void)state;
    struct play play = play_sweep("s\x1b[31m\r\n", false, 0);
    struct buf text = {0};
    play_hello(&play, PLAY_WORKER,
               "w\x1b]0;owned\x07\xc2\x9b"
               "31m\xff",
               false, "sim", 1);
    dispatch(&play);
    status_text(play.core, NULL, &text);
    workers_text(play.core, &text);
    assert_null(memchr(text.data, '\x1b', text.len));
    assert_null(memchr(text.data, '\x07', text.len));
    assert_null(memchr(text.data, '\r', text.len));
    assert_null(memchr(text.data, 0xff, text.len));
    assert_null(strstr(text.data, "\xc2\x9b"));
    buf_clear(&text);
    play_clear(&play);
}

static void plain_text(void **state)
{
    (void)state;
    struct buf out = {0};
    text_plain(slice_of("a\tb\x7f \xc3\xa9 \xed\xa0\x80 \xc0\x80 \xe2\x80\xae \xf0\x9f\x90\x82 \xe2\x82"), &out);
    assert_string_equal(out.data, "a?b? \xc3\xa9 ??? ?? ? \xf0\x9f\x90\x82 ??");
    assert_int_equal(text_width(slice_of("\xc3\xa9"
                                         "a\xf0\x9f\x90\x82")),
                     3);
    buf_reset(&out);
    struct text_table table;
    text_table_init(&table, "lr");
    text_cell(&table, "\xc3\xa9");
    text_cellf(&table, "%d", 7);
    text_cell(&table, "long");
    text_cell(&table, "123");
    text_table_print(&table, 1, &out);
    assert_string_equal(out.data, " \xc3\xa9       7\n long  123\n");
    text_table_clear(&table);
    buf_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_for_a_worker),
        cmocka_unit_test(waits_for_what_is_in_flight),
        cmocka_unit_test(waits_for_a_verifier),
        cmocka_unit_test(says_who_refused),
        cmocka_unit_test(says_who_is_benched),
        cmocka_unit_test(budgets_and_states),
        cmocka_unit_test(json_counts),
        cmocka_unit_test(cached_tokens_are_shown),
        cmocka_unit_test(an_empty_broker_says_what_to_do),
        cmocka_unit_test(names_cannot_steer_a_terminal),
        cmocka_unit_test(plain_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
