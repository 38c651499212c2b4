/* test_dispatch.c - which work goes out first, and what is not opened yet. */
#include "common/rng.h"
#include "tests/unit/play.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { PROMPTS = 200, PARTICLES = 32, WORKERS = 4, CREDITS = 32 };

/* One particle of each prompt is good: the next step's 32 all continue it, and their prefix is with its agent. */
static bool step_answer(const struct send *task, struct event *event, struct buf *text)
{
    (void)text;
    if (task->key.kind == TASK_VERIFY) {
        bool good = task->key.item % PARTICLES == 0;
        event->verdict.verdict = (struct verdict){good ? OUTCOME_PASS : OUTCOME_FAIL, good ? 0.999 : 0.001};
    } else {
        event->result.result = (struct result){.finish = FINISH_STEP, .tokens_in = 5, .tokens_out = 5, .latency_ms = 5};
        event->result.class = 1;
    }
    return true;
}

static uint32_t opened(const struct core *core)
{
    uint32_t count = 0;
    for (uint32_t p = 0; p < PROMPTS; p++)
        count += core_cell(core, 0, p).opened > 0;
    return count;
}

static void dispatch_and_answer(struct play *play)
{
    update_reset(&play->update);
    play_event(play, (struct event){.type = EVENT_DISPATCH});
    play_commit(play);
    size_t len = play->update.sends_len;
    struct send *sends = xalloc(len * sizeof *sends + 1);
    memcpy(sends, play->update.sends, len * sizeof *sends);
    update_reset(&play->update);
    for (size_t i = 0; i < len; i++)
        if (sends[i].type == SEND_TASK)
            play_answer(play, &sends[i]);
    play_commit(play);
    free(sends);
}

/* Work that waits for the agent with its prefix is no reason to open every prompt that there is for the others. */
static void opens_no_more_than_agents_take(void **state)
{
    (void)state;
    struct play play = play_new(NULL);
    char name[8];
    play.answer = step_answer;
    put_prompts(&play, PROMPTS, 0);
    put_model(&play, "m");
    put_sweep(&play, "s", NO_ID, 0);
    put_arm(&play, 0, (struct arm_text){"search", "particles", "uniform", "none", "best", PARTICLES, 1, NULL, 0});
    play_submit(&play);
    for (uint32_t i = 0; i < WORKERS; i++) {
        snprintf(name, sizeof name, "w%u", i);
        play_hello(&play, PLAY_WORKER + 100 + i, name, false, "sim", CREDITS);
    }
    play_hello(&play, PLAY_VERIFIER, "v", true, "check", 4096);
    for (uint32_t round = 0; round < 6; round++) {
        uint32_t before = opened(play.core);
        dispatch_and_answer(&play);
        assert_in_range(opened(play.core) - before, 0, WORKERS * CREDITS / PARTICLES);
    }
    play_clear(&play);
}

/* -- prefix caches ------------------------------------------------------------------------------------------------- */

enum { SLOTS = 8, CACHED = 4, OUT_MAX = WORKERS * SLOTS, N = 16 };

/* A fleet whose workers keep the prompts that they read last, and answer in any order. */
struct fleet {
    struct play play;
    struct send out[OUT_MAX];
    size_t out_len;
    uint32_t recent[WORKERS][CACHED]; /* prompt + 1, the latest first */
    uint32_t running[WORKERS];
    uint32_t grants, first_grants; /* of all prompts, of prompt 0 */
    uint64_t draws;
};

static struct fleet fleet_new(const char *backend, uint32_t prompts, uint32_t n)
{
    struct fleet fleet = {.play = play_new(NULL)};
    struct play *play = &fleet.play;
    put_prompts(play, prompts, 0);
    put_model_on(play, "m", backend, "");
    put_sweep(play, "s", NO_ID, 0);
    put_arm(play, 0, (struct arm_text){"vote", "sample", "uniform", "none", "majority", n, NO_ID, NULL, 0});
    play_submit(play);
    for (uint64_t i = 0; i < WORKERS; i++)
        play_hello(play, i + 1, "w", false, backend, SLOTS);
    return fleet;
}

/* Does the worker have this prompt in its cache? From now on it does. */
static bool reads_warm(uint32_t *recent, uint32_t prompt)
{
    uint32_t at = 0;
    while (at < CACHED - 1 && recent[at] != prompt + 1)
        at++;
    bool warm = recent[at] == prompt + 1;
    memmove(recent + 1, recent, at * sizeof *recent);
    recent[0] = prompt + 1;
    return warm;
}

static void fleet_dispatch(struct fleet *fleet)
{
    struct play *play = &fleet->play;
    update_reset(&play->update);
    play_event(play, (struct event){.type = EVENT_DISPATCH});
    for (size_t i = 0; i < play->update.sends_len; i++) {
        const struct send *send = &play->update.sends[i];
        if (send->type != SEND_TASK)
            continue;
        assert_true(fleet->out_len < OUT_MAX);
        fleet->out[fleet->out_len++] = *send;
        fleet->running[send->agent - 1]++;
        fleet->grants++;
        fleet->first_grants += send->key.prompt == 0;
    }
    play_commit(play);
}

/* One task that runs, drawn, ends; never one of a worker that hangs. */
static void fleet_answer(struct fleet *fleet, uint64_t hangs)
{
    size_t i;
    do
        i = rng_u64(4, RNG_TEST, 0, fleet->draws++) % fleet->out_len;
    while (fleet->out[i].agent == hangs);
    struct send task = fleet->out[i];
    fleet->out[i] = fleet->out[--fleet->out_len];
    fleet->running[task.agent - 1]--;
    bool warm = reads_warm(fleet->recent[task.agent - 1], task.key.prompt);
    play_event(
        &fleet->play,
        (struct event){
            .type = EVENT_RESULT,
            .agent = task.agent,
            .lease = task.lease,
            .result = {.class = 1,
                       .result = {.tokens_in = 10, .tokens_out = 5, .tokens_cached = warm ? 10 : 0, .latency_ms = 5}}});
    play_commit(&fleet->play);
}

/* Share of prompt tokens that were read from a cache, when all is done. */
static double cached_share(const char *backend)
{
    struct fleet fleet = fleet_new(backend, PROMPTS, N);
    for (fleet_dispatch(&fleet); fleet.out_len > 0; fleet_dispatch(&fleet)) {
        for (int w = 0; w < WORKERS && fleet.grants < PROMPTS * N; w++)
            assert_int_equal(fleet.running[w], SLOTS); /* none stands idle while there is work */
        fleet_answer(&fleet, 0);
    }
    struct sweep_info info = core_sweep(fleet.play.core, 0);
    assert_int_equal(info.state, SWEEP_DONE);
    assert_int_equal(info.accepted.rollouts, PROMPTS * N);
    play_clear(&fleet.play);
    return (double)info.cached / (double)info.read;
}

/* A prompt's rollouts go where it was read: once for 16 rollouts, not once for each of 4 workers. */
static void prompts_are_read_where_they_are_warm(void **state)
{
    (void)state;
    double with = cached_share("openai"), without = cached_share("sim");
    printf("cached share of 200 prompts x 16 rollouts on 4 workers: %.3f with affinity, %.3f without\n", with, without);
    assert_true(with > 0.92); /* 15 of 16 is all there is */
    assert_true(without < 0.65);
}

/* A worker that hangs is not waited for: the rollouts of its prompt go to others, long before all else is done. */
static void a_home_that_hangs_starves_no_prompt(void **state)
{
    (void)state;
    enum { MANY = 64 };
    struct fleet fleet = fleet_new("openai", 8 * PROMPTS, MANY);
    fleet_dispatch(&fleet);
    assert_int_equal(fleet.first_grants, SLOTS); /* prompt 0 is at home with worker 1 */
    while (fleet.first_grants < MANY) {
        fleet_answer(&fleet, 1);
        fleet_dispatch(&fleet);
        assert_true(fleet.grants < 66 * MANY);
    }
    play_clear(&fleet.play);
}

/* The few prompts that are left at the end are read again by whoever is idle. */
static void the_last_prompt_is_shared(void **state)
{
    (void)state;
    struct fleet fleet = fleet_new("openai", 1, WORKERS * SLOTS);
    fleet_dispatch(&fleet);
    for (int w = 0; w < WORKERS; w++)
        assert_int_equal(fleet.running[w], SLOTS);
    play_clear(&fleet.play);
}

enum { KILL_WARMUP = 3, KILL_N = 8 };

static double told[KILL_N]; /* the last task of each ordinal */
static int play_tries;      /* of the last ordinal */

/* Confidences 1, 2, 3 of the warm-up, of which the second reaches 2; behind it every other rollout falls below. */
static bool confident_answer(const struct send *task, struct event *event, struct buf *text)
{
    const uint32_t k = task->key.item;
    const double lowest = k < KILL_WARMUP ? 1 + k : k % 2 ? 1.5 : 2.5;
    (void)text;
    assert_int_equal(task->kill_window, 16);
    told[k] = task->kill_below;
    event->result.result = (struct result){.finish = lowest < task->kill_below ? FINISH_KILLED : FINISH_STOP,
                                           .tokens_in = 5,
                                           .tokens_out = 5,
                                           .latency_ms = 5,
                                           .features = {.have = 1u << FEATURE_CONF_MIN, .v[FEATURE_CONF_MIN] = lowest}};
    event->result.class = lowest < task->kill_below ? 0 : 1 + k; /* all answers differ */
    return k != KILL_N - 1 || play_tries++ > 0;                  /* the last fails at first */
}

static void put_kill_arm(struct play *play)
{
    double options[4][POLICY_OPTIONS_MAX] = {{0}};
    memcpy(options[2], (const double[]){KILL_WARMUP, 50, 1, 16}, 4 * sizeof(double)); /* warmup, keep, share, kill */
    fact_put(&play->definitions, &(struct fact){.type = FACT_pool,
                                                .pool = {.id = 1,
                                                         .fingerprint = 32,
                                                         .seed = 5,
                                                         .kill_window = 16,
                                                         .kill_warmup = KILL_WARMUP,
                                                         .kill_keep = 50}});
    put_sweep(play, "s", NO_ID, 0);
    fact_put(&play->definitions, &(struct fact){.type = FACT_arm,
                                                .arm = {.pool = 1,
                                                        .name = slice_of("a"),
                                                        .strategy = slice_of("sample"),
                                                        .allocator = slice_of("uniform"),
                                                        .stopper = slice_of("deepconf"),
                                                        .selector = slice_of("majority"),
                                                        .n = KILL_N,
                                                        .verifier = NO_ID,
                                                        .lookahead = 5,
                                                        .options = {(const char *)options, sizeof options}}});
}

/* Tasks of the warm-up are to be whole; nothing behind it goes out before it is there, and all of it under one threshold,
 * also what is tried again. */
static void thresholds_follow_the_warmup(void **state)
{
    (void)state;
    struct play play = play_new(NULL);
    struct buf dump = {0};
    play.answer = confident_answer;
    play_tries = 0;
    put_prompts(&play, 1, 0);
    put_model(&play, "m");
    put_kill_arm(&play);
    play_submit(&play);
    play_hello(&play, PLAY_WORKER, "w", false, "sim", KILL_N);
    play_event(&play, (struct event){.type = EVENT_DISPATCH});
    play_commit(&play);
    assert_int_equal(play.update.sends_len, KILL_WARMUP);
    struct send sends[KILL_WARMUP];
    memcpy(sends, play.update.sends, sizeof sends);
    update_reset(&play.update);
    for (size_t i = KILL_WARMUP; i-- > 0;) { /* the last first */
        play_event(&play, (struct event){.type = EVENT_DISPATCH});
        assert_int_equal(core_issued(play.core, 1, 0), KILL_WARMUP);
        play_answer(&play, &sends[i]);
    }
    play_commit(&play);
    play_tasks(&play);
    for (uint32_t k = 0; k < KILL_N; k++)
        assert_true(told[k] == (k < KILL_WARMUP ? 0 : 2));
    assert_int_equal(play_tries, 2);
    struct killed killed = core_killed(play.core, 0);
    assert_int_equal(killed.rollouts, 3);
    assert_int_equal(killed.tokens, 15);
    struct buf page = {0};
    status_text(play.core, NULL, &page);
    assert_non_null(
        strstr(page.data, "ended early 3 rollouts of arms with `kill`, after 15 tokens: about 0 tokens saved"));
    buf_reset(&page);
    core_status(play.core, NULL, &page);
    assert_non_null(strstr(page.data, "\"killed\":{\"rollouts\":3,\"tokens\":15,\"saved\":0}"));
    buf_clear(&page);
    struct core *again = play_replay(&play);
    core_dump(again, &dump);
    struct fact fact;
    bool pool = false;
    for (size_t at = 0; at < dump.len && fact_get(buf_slice(&dump), &at, &fact) == 0;)
        pool = pool || (fact.type == FACT_pool && fact.pool.kill_window == 16 && fact.pool.kill_warmup == KILL_WARMUP &&
                        fact.pool.kill_keep == 50);
    assert_true(pool);
    core_free(&again);
    buf_clear(&dump);
    play_clear(&play);
}

/* Nobody may end rollouts of a pool that has them whole. */
static bool killed_answer(const struct send *task, struct event *event, struct buf *text)
{
    (void)text;
    assert_int_equal(task->kill_window, 0);
    event->result.result = (struct result){.finish = FINISH_KILLED, .tokens_in = 5, .tokens_out = 5, .latency_ms = 5};
    return true;
}

static void a_kill_that_nobody_asked_for_is_malformed(void **state)
{
    (void)state;
    struct play play = play_new(NULL);
    play.answer = killed_answer;
    play.left = 1;
    put_prompts(&play, 1, 0);
    put_model(&play, "m");
    put_sweep(&play, "s", NO_ID, 0);
    put_arm(&play, 0,
            (struct arm_text){.name = "a",
                              .strategy = "sample",
                              .allocate = "uniform",
                              .stop = "none",
                              .select = "majority",
                              .n = 1,
                              .verifier = NO_ID});
    play_submit(&play);
    play_hello(&play, PLAY_WORKER, "w", false, "sim", 1);
    play_tasks(&play);
    assert_int_equal(core_cell(play.core, 0, 0).delivered, 0);
    play_clear(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_no_more_than_agents_take),
        cmocka_unit_test(prompts_are_read_where_they_are_warm),
        cmocka_unit_test(a_home_that_hangs_starves_no_prompt),
        cmocka_unit_test(the_last_prompt_is_shared),
        cmocka_unit_test(thresholds_follow_the_warmup),
        cmocka_unit_test(a_kill_that_nobody_asked_for_is_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
