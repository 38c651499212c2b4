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
        event->result.result = (struct result){.finish = FINISH_STOP,
                                               .tokens_in = 5,
                                               .tokens_out = 5,
                                               .latency_ms = 5,
                                               .features = {1u << FEATURE_LP_MEAN, {0}}};
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

static void expect_truth(const struct core *core, const char *line, const char *member)
{
    struct buf text = {0};
    status_text(core, NULL, &text);
    core_status(core, NULL, &text);
    if (strstr(text.data, line) == NULL || strstr(text.data, member) == NULL)
        fail_msg("'%s' or '%s' is not in '%s'", line, member, text.data);
    buf_clear(&text);
}

/* What the truth said is no verdict that an arm paid for, so it is counted apart; each arm that shows a rollout counts it. */
static void the_truth_is_counted(void **state)
{
    (void)state;
    struct play play = play_sweep("s", true, 0);
    play_hello(&play, PLAY_WORKER, "w", false, "sim", 2);
    play_tasks(&play);
    expect_truth(play.core, "  truth truth: 0 of 12 rollouts of arms judged\n",
                 "\"truth\":{\"verifier\":\"truth\",\"judged\":0,\"missing\":12}");
    play_hello(&play, PLAY_VERIFIER, "v", true, "check", 4);
    play.left = 5;
    play_tasks(&play);
    expect_truth(play.core, "  truth truth: 5 of 12 rollouts of arms judged\n", "\"judged\":5,\"missing\":7}");
    struct core *again = play_replay(&play);
    expect_truth(again, "  truth truth: 5 of 12 rollouts of arms judged\n", "\"judged\":5,\"missing\":7}");
    core_free(&again);
    play_clear(&play);

    play = play_sweep("s", true, 0);
    play_hello(&play, PLAY_WORKER, "w", false, "sim", 2);
    play_hello(&play, PLAY_VERIFIER, "v", true, "check", 4);
    play_tasks(&play);
    expect_truth(play.core, "  truth truth: 12 of 12 rollouts of arms judged\n", "\"judged\":12,\"missing\":0}");
    play_clear(&play);

    play = play_sweep("s", false, 0);
    expect_truth(play.core, "sweep s", "\"truth\":null");
    play_clear(&play);
}

#define LP (1u << FEATURE_LP_MEAN)

/* Submits an arm that votes and one that needs log-probabilities, of a model that servers must offer as "big"; what the
 * broker says when it refuses. */
static int submit_offered(struct play *play, const char *offer, bool logprobs)
{
    put_prompts(play, 3, 0);
    put_model_offered(play, "m", offer);
    put_sweep(play, "s", NO_ID, 0);
    put_arm(play, 0, (struct arm_text){"vote", "sample", "uniform", "none", "majority", 4, NO_ID, NULL, 0});
    if (logprobs)
        put_arm(play, 1, (struct arm_text){"likely", "sample", "uniform", "none", "best-logprob", 2, NO_ID, NULL, 0});
    play_submit(play);
    return play->update.code;
}

static struct server_offer offer_of(const char *model, uint32_t context, uint32_t features)
{
    return (struct server_offer){slice_of(model), slice_of("vllm at http://gpu1"), context, features};
}

static void waits_for_an_offer(void **state)
{
    (void)state;
    struct play play = play_new(NULL);
    play.answer = answer;
    assert_int_equal(submit_offered(&play, "big", true), 0); /* nobody is there yet who could say no */
    struct server_offer small[] = {offer_of("small", 4096, LP), offer_of("tiny\n", 0, 0)};
    play_hello_offering(&play, 1, "sim", "", small, 2);
    assert_false(play_tasks(&play));
    expect_waits(play.core, "no connected worker offers model 'big'; they offer small, tiny");
    struct server_offer brief = offer_of("big", 100, LP);
    play_hello_offering(&play, 2, "sim", "", &brief, 1);
    assert_false(play_tasks(&play));
    expect_waits(play.core, "need a context of 101 tokens at the least, and the longest that a connected worker "
                            "offers for model 'big' has 100 (vllm at http://gpu1)");
    struct server_offer mute = offer_of("big", 0, 0);
    play_hello_offering(&play, 3, "sim", "", &mute, 1);
    assert_false(play_tasks(&play));
    expect_waits(play.core,
                 "arm 'likely': lp_mean is needed, which no connected worker gives for model 'big' (vllm at");
    struct server_offer good = offer_of("big", 101, LP | 1u << FEATURE_LP_MIN);
    play_hello_offering(&play, 4, "sim", "2 x H200", &good, 1);
    play_tasks(&play);
    assert_int_equal(core_sweep(play.core, 0).state, SWEEP_DONE);
    struct agent_info info;
    assert_true(core_agent(play.core, 4, &info));
    assert_int_equal(info.done, 12); /* all of it */
    play_clear(&play);
}

/* What a selector's options make it need counts too: ranking by self-certainty, here. */
static void waits_for_what_options_need(void **state)
{
    (void)state;
    struct play play = play_new(NULL);
    struct server_offer offer = offer_of("big", 0, LP);
    put_prompts(&play, 3, 0);
    put_model_offered(&play, "m", "big");
    put_sweep(&play, "s", NO_ID, 0);
    put_arm(&play, 0, (struct arm_text){"sure", "sample", "uniform", "none", "borda", 4, NO_ID, NULL, 0});
    play_submit(&play);
    assert_int_equal(play.update.code, 0);
    play_hello_offering(&play, 1, "sim", "", &offer, 1);
    assert_false(play_tasks(&play));
    expect_waits(play.core, "arm 'sure': self_cert is needed");
    play_clear(&play);
}

/* A worker that asks no server, or that a model's own url sends elsewhere, has no offers that count. */
static void offers_count_where_they_are_asked(void **state)
{
    (void)state;
    static const struct {
        const char *offer;
        size_t offers;
        bool done;
    } rows[] = {{"", 1, true}, {"*", 1, true}, {"big", 1, false}, {"big", 0, true}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct play play = play_new(NULL);
        struct server_offer other = offer_of("other", 0, LP);
        play.answer = answer;
        play_hello_offering(&play, 1, "sim", "", &other, rows[i].offers);
        assert_int_equal(submit_offered(&play, rows[i].offer, true), 0);
        play_tasks(&play);
        assert_int_equal(core_sweep(play.core, 0).state == SWEEP_DONE, rows[i].done);
        play_clear(&play);
    }
}

static void submit_refuses_what_nobody_gives(void **state)
{
    (void)state;
    struct play play = play_new(NULL);
    struct server_offer offers[] = {offer_of("big", 4096, 0), offer_of("brief", 64, LP)};
    play.answer = answer;
    play_hello_offering(&play, 1, "sim", "", offers, 2);
    assert_int_equal(submit_offered(&play, "big", true), ERR_REFUSED);
    assert_string_equal(play.update.error.text, "arm 'likely': lp_mean is needed, which no connected worker gives for "
                                                "model 'big' (vllm at http://gpu1)");
    assert_int_equal(core_sweeps(play.core), 0);
    update_reset(&play.update);
    assert_int_equal(submit_offered(&play, "brief", false), ERR_REFUSED);
    assert_non_null(strstr(play.update.error.text,
                           "arm 'vote': prompt and max_tokens need a context of 101 tokens at "
                           "the least, and the longest that a connected worker offers for model "
                           "'brief' has 64"));
    update_reset(&play.update);
    assert_int_equal(submit_offered(&play, "big", false), 0);
    play_tasks(&play);
    assert_int_equal(core_sweep(play.core, 0).state, SWEEP_DONE);
    play_clear(&play);
}

static void workers_show_what_they_offer(void **state)
{
    (void)state;
    struct play play = play_sweep("s", false, 0);
    struct server_offer offers[] = {offer_of("a/b", 4096, LP), offer_of("c\033[31m", 0, 0)};
    struct buf text = {0};
    play_hello_offering(&play, 1, "sim", "2 x H200", offers, 2);
    workers_text(play.core, &text);
    assert_non_null(strstr(text.data, "sim: a/b c?[31m  2 x H200\n"));
    buf_reset(&text);
    core_workers(play.core, &text);
    assert_non_null(strstr(text.data, "\"devices\":\"2 x H200\",\"offers\":[{\"model\":\"a/b\",\"server\":\"vllm at "
                                      "http://gpu1\",\"context\":4096,\"features\":[\"lp_mean\"]},"));
    play_hello_offering(&play, 1, "sim", "", offers, 1); /* a HELLO replaces all of it */
    struct agent_info info;
    assert_true(core_agent(play.core, 1, &info));
    assert_int_equal(info.offers_len, 1);
    assert_string_equal(info.devices, "");
    buf_clear(&text);
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
        cmocka_unit_test(the_truth_is_counted),
        cmocka_unit_test(waits_for_an_offer),
        cmocka_unit_test(waits_for_what_options_need),
        cmocka_unit_test(offers_count_where_they_are_asked),
        cmocka_unit_test(submit_refuses_what_nobody_gives),
        cmocka_unit_test(workers_show_what_they_offer),
        cmocka_unit_test(cached_tokens_are_shown),
        cmocka_unit_test(an_empty_broker_says_what_to_do),
        cmocka_unit_test(names_cannot_steer_a_terminal),
        cmocka_unit_test(plain_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
