/* test_core.c - the state machine with fake time: each event, and all the facts and sends that it causes. */
#include "tests/unit/stage.h"

#include <malloc.h>
#include <math.h>

#define VOTE(name_, n_)                               \
    {                                                 \
        .name = (name_), .n = (n_), .verifier = NO_ID \
    }

static void submit_to_done(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 2)}});
    joins(&s, WORKER, 1);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; task 1 to 11");
    assert_int_equal(core_sweep(s.core, 0).reserved.tokens, BYTES + MAX_TOKENS);
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 5));
    assert_int_equal(core_sweep(s.core, 0).burned.tokens, 10);
    assert_int_equal(core_sweep(s.core, 0).reserved.tokens, 0);
    DISPATCHES(&s, "lease 2 0/1; task 2 to 11");
    DOES(&s, "result 2; decide 0:0 at 2 by n; ack 2 to 11", RESULT(WORKER, 2, 5));
    DISPATCHES(&s, "done");
    assert_int_equal(core_sweep(s.core, 0).accepted.rollouts, 2);
    stage_clear(&s);
}

/* A rollout that comes early is there, but counts in the order of the ordinals. */
static void ordinal_order(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 3)}});
    joins(&s, WORKER, 3);
    DISPATCHES(&s, "open 0:0 +3; lease 1 0/0; lease 2 0/1; lease 3 0/2; task 1 to 11; task 2 to 11; task 3 to 11");
    DOES(&s, "result 3; ack 3 to 11", RESULT(WORKER, 3, 5));
    assert_int_equal(core_arm(s.core, 0).charged.rollouts, 0);
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 5));
    assert_int_equal(core_arm(s.core, 0).charged.rollouts, 1);
    DOES(&s, "result 2; decide 0:0 at 3 by n; ack 2 to 11", RESULT(WORKER, 2, 5));
    stage_clear(&s);
}

static void late_result(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 2)}});
    joins(&s, WORKER, 1);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; task 1 to 11");
    s.now_ms += BEAT + LEASE + 1;
    DOES(&s, "lost 1 silent", .type = EVENT_TICK);
    assert_int_equal(core_sweep(s.core, 0).burned.tokens, BYTES + MAX_TOKENS); /* settled in full */
    joins(&s, OTHER, 1);
    DISPATCHES(&s, "lease 2 0/0; task 2 to 12");
    /* The first result counts; the lost lease is corrected, the other attempt cancelled and settled in full. */
    DOES(&s, "result 1; ack 1 to 11; cancel 2 to 12", RESULT(WORKER, 1, 5));
    assert_int_equal(core_sweep(s.core, 0).burned.tokens, 10 + BYTES + MAX_TOKENS);
    DOES(&s, "dup ack 1 to 11", RESULT(WORKER, 1, 5));
    DOES(&s, "correct 2; dup ack 2 to 12", RETURNS(OTHER, 2, 3));
    assert_int_equal(core_sweep(s.core, 0).burned.tokens, 10 + 3);
    stage_clear(&s);
}

static void duplicate_result(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 2)}});
    joins(&s, WORKER, 1);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; task 1 to 11");
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 5));
    DOES(&s, "dup ack 1 to 11", RESULT(WORKER, 1, 6));
    DOES(&s, "dup ack 99 to 11", RESULT(WORKER, 99, 6));
    assert_int_equal(core_sweep(s.core, 0).burned.rollouts, 1);
    stage_clear(&s);
}

static void failure_and_giving_up(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 1)}});
    joins(&s, WORKER, 1);
    DISPATCHES(&s, "open 0:0 +1; lease 1 0/0; task 1 to 11");
    DOES(&s, "dup ack 1 to 12", FAILS(OTHER, 1)); /* only who was given a lease can fail it */
    DOES(&s, "fail 1; ack 1 to 11", FAILS(WORKER, 1));
    assert_int_equal(core_sweep(s.core, 0).burned.tokens, 2);
    DISPATCHES(&s, "lease 2 0/0; task 2 to 11");
    DOES(&s, "fail 2; ack 2 to 11", FAILS(WORKER, 2));
    DISPATCHES(&s, "lease 3 0/0; task 3 to 11");
    DOES(&s, "fail 3; give up 0/0; decide 0:0 at 1 by n; ack 3 to 11", FAILS(WORKER, 3));
    DISPATCHES(&s, "done");
    assert_int_equal(core_sweep(s.core, 0).failed, 1);
    stage_clear(&s);
}

static void nonsense_is_a_failure(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {{.name = "best", .n = 2, .verifier = 1}}});
    joins(&s, WORKER, 2);
    joins(&s, JUDGE, 2);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; lease 2 0/1; task 1 to 11; task 2 to 11");
    DOES(&s, "fail 1; ack 1 to 11", .type = EVENT_RESULT, .agent = WORKER, .lease = 1,
         .result = {.result = {.finish = (enum finish)77}});
    DOES(&s, "fail 2; ack 2 to 11", VERDICT(WORKER, 2, OUTCOME_PASS, 1)); /* a verdict on a rollout that is not there */
    DISPATCHES(&s, "lease 3 0/0; lease 4 0/1; task 3 to 11; task 4 to 11");
    DOES(&s, "result 3; ack 3 to 11", RESULT(WORKER, 3, 5));
    DISPATCHES(&s, "lease 5 0/0?1; task 5 to 22");
    DOES(&s, "verdict 5; ack 5 to 22", VERDICT(JUDGE, 5, (enum outcome)9, (double)NAN)); /* unknown */
    stage_clear(&s);
}

static void verdict_is_awaited(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {{.name = "best", .n = 1, .verifier = 1}}});
    joins(&s, WORKER, 1);
    joins(&s, JUDGE, 1);
    DISPATCHES(&s, "open 0:0 +1; lease 1 0/0; task 1 to 11");
    assert_int_equal(core_sweep(s.core, 0).reserved.cost, 3); /* its verdict is reserved with it */
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 5));
    assert_int_equal(core_sweep(s.core, 0).reserved.cost, 3);
    DISPATCHES(&s, "lease 2 0/0?1; task 2 to 22");
    assert_int_equal(core_sweep(s.core, 0).reserved.cost, 3);
    DOES(&s, "verdict 2; decide 0:0 at 1 by n; ack 2 to 22", VERDICT(JUDGE, 2, OUTCOME_PASS, 1));
    assert_int_equal(core_sweep(s.core, 0).reserved.cost, 0);
    assert_int_equal(core_sweep(s.core, 0).burned.cost, 3);
    DISPATCHES(&s, "done");
    stage_clear(&s);
}

static void truth_is_free_and_last(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, 0, .arms = {VOTE("vote", 1)}});
    joins(&s, WORKER, 1);
    DISPATCHES(&s, "open 0:0 +1; lease 1 0/0; task 1 to 11");
    DOES(&s, "result 1; decide 0:0 at 1 by n; ack 1 to 11", RESULT(WORKER, 1, 5));
    DISPATCHES(&s, ""); /* the truth is missing */
    joins(&s, JUDGE, 1);
    DISPATCHES(&s, "lease 2 0/0?0; task 2 to 22");
    assert_int_equal(core_sweep(s.core, 0).reserved.cost, 0);
    DOES(&s, "verdict 2; ack 2 to 22", VERDICT(JUDGE, 2, OUTCOME_FAIL, 0));
    assert_int_equal(core_sweep(s.core, 0).burned.cost, 0);
    DISPATCHES(&s, "done");
    stage_clear(&s);
}

static void restart_adopts(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 2, NO_ID, .arms = {VOTE("vote", 2)}});
    joins(&s, WORKER, 2);
    joins(&s, OTHER, 1);
    DISPATCHES(
        &s,
        "open 0:0 +2; lease 1 0/0; lease 2 0/1; open 0:1 +2; lease 3 1/0; task 1 to 11; task 2 to 12; task 3 to 11");
    stage_start(&s, false);
    expect_said(&s, "epoch 2", __LINE__);
    /* The worker still runs one of its two; nobody asks for the other's end. */
    const uint64_t running[] = {3, 77};
    DOES(&s, "lost 1 orphan; cancel 77 to 11", .type = EVENT_HELLO, .agent = WORKER,
         .hello = {.kinds = 1, .credits = 2, .next_ms = 10 * BEAT, .running = running, .running_len = 2});
    DISPATCHES(&s, "lease 4 0/0; task 4 to 11");
    DOES(&s, "result 3; ack 3 to 11", RESULT(WORKER, 3, 5));
    s.now_ms += 2 * LEASE; /* the other one stays silent */
    DISPATCHES(&s, "lease 5 1/1; lost 2 grace; task 5 to 11");
    DOES(&s, "result 4; ack 4 to 11", RESULT(WORKER, 4, 5));
    DOES(&s, "result 2; decide 0:0 at 2 by n; ack 2 to 12", RESULT(OTHER, 2, 5)); /* still counts */
    stage_clear(&s);
}

static void restart_without_a_fleet(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 2)}});
    joins(&s, WORKER, 2);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; lease 2 0/1; task 1 to 11; task 2 to 11");
    stage_start(&s, true);
    expect_said(&s, "epoch 2; lost 1 orphan; lost 2 orphan", __LINE__);
    joins(&s, OTHER, 2);
    DISPATCHES(&s, "lease 3 0/0; lease 4 0/1; task 3 to 12; task 4 to 12");
    stage_clear(&s);
}

static void drain_and_return(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 3)}});
    joins(&s, WORKER, 2);
    DISPATCHES(&s, "open 0:0 +3; lease 1 0/0; lease 2 0/1; task 1 to 11; task 2 to 11");
    DOES(&s, "", .type = EVENT_DRAIN, .agent = WORKER);
    DOES(&s, "lost 2 returned; correct 2; dup ack 2 to 11", RETURNS(WORKER, 2, 0));
    assert_int_equal(core_sweep(s.core, 0).burned.tokens, 0);
    const uint64_t running[] = {1};
    DOES(&s, "", .type = EVENT_HELLO, .agent = WORKER, /* it reconnects, and goes on draining */
         .hello = {.kinds = 1, .credits = 2, .next_ms = BEAT, .running = running, .running_len = 1});
    DISPATCHES(&s, "");
    DOES(&s, "lost 1 orphan", .type = EVENT_GONE, .agent = WORKER); /* no mark against the task */
    joins(&s, OTHER, 1);
    DISPATCHES(&s, "lease 3 0/1; task 3 to 12");
    stage_clear(&s);
}

static void refusal(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 1)}});
    joins(&s, WORKER, 1);
    DISPATCHES(&s, "open 0:0 +1; lease 1 0/0; task 1 to 11");
    DOES(&s, "lost 1 refused; dup ack 1 to 11", .type = EVENT_REFUSE, .agent = WORKER, .lease = 1,
         .fail = {.reason = slice_of("no such model")});
    assert_int_equal(core_sweep(s.core, 0).burned.rollouts, 0);
    assert_string_equal(core_sweep(s.core, 0).refusal, "no such model");
    DISPATCHES(&s, "");
    joins(&s, OTHER, 1);
    DISPATCHES(&s, "lease 2 0/0; task 2 to 12");
    stage_clear(&s);
}

/* Its task was closed while the refusal was under way: nothing was used, and the agent has the credit again. */
static void refusal_of_what_was_cancelled(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 2)}});
    joins(&s, WORKER, 1);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; task 1 to 11");
    s.now_ms += BEAT + LEASE + 1;
    DOES(&s, "lost 1 silent", .type = EVENT_TICK);
    joins(&s, OTHER, 1);
    DISPATCHES(&s, "lease 2 0/0; task 2 to 12");
    DOES(&s, "result 1; ack 1 to 11; cancel 2 to 12", RESULT(WORKER, 1, 5));
    DOES(&s, "correct 2; dup ack 2 to 12", .type = EVENT_REFUSE, .agent = OTHER, .lease = 2);
    assert_int_equal(core_sweep(s.core, 0).burned.tokens, 10);
    DISPATCHES(&s, "lease 3 0/1; task 3 to 12");
    stage_clear(&s);
}

static void suspect_and_quarantine(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 3)}});
    joins(&s, WORKER, 1);
    DISPATCHES(&s, "open 0:0 +3; lease 1 0/0; task 1 to 11");
    DOES(&s, "lost 1 silent", .type = EVENT_GONE, .agent = WORKER);
    joins(&s, OTHER, 2);
    DISPATCHES(&s, "lease 2 0/0; lease 3 0/1; task 2 to 12; task 3 to 12");
    DOES(&s, "lost 2 silent; lost 3 silent", .type = EVENT_GONE, .agent = OTHER);
    joins(&s, THIRD, 3);
    DISPATCHES(&s, "lease 4 0/0; task 4 to 13"); /* two deaths: it runs alone */
    joins(&s, FOURTH, 1);
    DISPATCHES(&s, "lease 5 0/1; task 5 to 14");
    DOES(&s, "lost 4 silent; give up 0/0", .type = EVENT_GONE, .agent = THIRD);
    DISPATCHES(&s, "");
    DOES(&s, "result 5; ack 5 to 14", RESULT(FOURTH, 5, 1));
    DISPATCHES(&s, "lease 6 0/2; task 6 to 14");
    DOES(&s, "result 6; decide 0:0 at 3 by n; ack 6 to 14", RESULT(FOURTH, 6, 1));
    stage_clear(&s);
}

static void bench(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 5, NO_ID, .arms = {VOTE("vote", 1)}});
    joins(&s, WORKER, 5);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    for (uint64_t lease = 1; lease <= 5; lease++)
        stage_step(&s, (struct event){FAILS(WORKER, lease)});
    DISPATCHES(&s, ""); /* five in a row: it is the agent */
    DOES(&s, "", .type = EVENT_HEARTBEAT, .agent = WORKER, .heartbeat = {.next_ms = 60000});
    s.now_ms += 30001;
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    assert_non_null(strstr(s.said.data, "task 10 to 11"));
    stage_clear(&s);
}

/* What can never succeed is given up at once, and is no reason to bench the agent. */
static void final_failure(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 8)}});
    struct agent_info info;
    joins(&s, WORKER, 8);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    for (uint64_t lease = 1; lease <= 6; lease++) {
        struct event fails = {FAILS(WORKER, lease)};
        fails.fail.final = true;
        stage_step(&s, fails);
        assert_non_null(strstr(s.said.data, "give up"));
    }
    assert_true(core_agent(s.core, WORKER, &info));
    assert_int_equal(info.failures, 0);
    stage_clear(&s);
}

/* Credits follow what an agent has room for; fewer than it holds take nothing away. */
static void heartbeat_changes_credits(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 5, NO_ID, .arms = {VOTE("vote", 8)}});
    struct agent_info info;
    joins(&s, WORKER, 2);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    DOES(&s, "", .type = EVENT_HEARTBEAT, .agent = WORKER, .heartbeat = {.next_ms = 60000});
    assert_true(core_agent(s.core, WORKER, &info));
    assert_int_equal(info.credits, 2);
    DOES(&s, "", .type = EVENT_HEARTBEAT, .agent = WORKER, .heartbeat = {.next_ms = 60000, .credits = 1});
    DISPATCHES(&s, "");
    DOES(&s, "", .type = EVENT_HEARTBEAT, .agent = WORKER, .heartbeat = {.next_ms = 60000, .credits = 3});
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    assert_non_null(strstr(s.said.data, "to 11"));
    assert_true(core_agent(s.core, WORKER, &info));
    assert_int_equal(info.leased, 3);
    DOES(&s, "", .type = EVENT_HEARTBEAT, .agent = WORKER, .heartbeat = {.next_ms = 60000, .credits = 1u << 30});
    assert_true(core_agent(s.core, WORKER, &info));
    assert_int_equal(info.credits, 4096);
    stage_clear(&s);
}

/* What one arm's stop leaves is kept for the other one, and voided when nobody holds it. */
static void void_and_redraw(void **state)
{
    (void)state;
    struct stage_sweep sweep = {"s", 1, NO_ID,
                                .arms = {{.name = "drop", .allocator = "elimination", .n = 4, .verifier = 1}}};
    struct stage s = stage_new(&sweep);
    joins(&s, WORKER, 4);
    joins(&s, JUDGE, 4);
    DISPATCHES(
        &s, "open 0:0 +1; lease 1 0/0; open 0:0 +1; lease 2 0/1; open 0:0 +1; lease 3 0/2; open 0:0 +1; lease 4 0/3; "
            "task 1 to 11; task 2 to 11; task 3 to 11; task 4 to 11");
    uint64_t seed = s.seed_last;
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 5));
    DOES(&s, "result 2; ack 2 to 11", RESULT(WORKER, 2, 5));
    DISPATCHES(&s, "lease 5 0/0?1; lease 6 0/1?1; task 5 to 22; task 6 to 22");
    DOES(
        &s,
        "verdict 5; decide 0:0 at 1 by solved; void 0 from 1; ack 5 to 22; cancel 6 to 22; cancel 3 to 11; cancel 4 to 11",
        VERDICT(JUDGE, 5, OUTCOME_PASS, 1));
    DOES(&s, "correct 4; dup ack 4 to 11", RETURNS(WORKER, 4, 1));
    DISPATCHES(&s, "done");
    /* A second sweep over the same pool wants them: drawn anew, with the same seed. */
    sweep = (struct stage_sweep){"t", 1, NO_ID, .arms = {VOTE("vote", 4)}};
    assert_int_equal(stage_submit(&s, &sweep), 0);
    DISPATCHES(&s, "open 1:0 +4; lease 7 0/1; lease 8 0/2; lease 9 0/3; task 7 to 11; task 8 to 11; task 9 to 11");
    assert_true(s.seed_last == seed);
    stage_clear(&s);
}

static void kept_by_the_other_arm(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){
        "s", 1, NO_ID, .arms = {{.name = "drop", .allocator = "elimination", .n = 2, .verifier = 1}, VOTE("vote", 2)}});
    joins(&s, WORKER, 4);
    joins(&s, JUDGE, 4);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
    DISPATCHES(&s, "lease 3 0/0?1; task 3 to 22");
    DOES(&s, "verdict 3; decide 0:0 at 1 by solved; ack 3 to 22", VERDICT(JUDGE, 3, OUTCOME_PASS, 1));
    DOES(&s, "result 2; decide 1:0 at 2 by n; ack 2 to 11", RESULT(WORKER, 2, 5));
    DISPATCHES(&s, "done");
    stage_clear(&s);
}

/* A paused sweep will want the second verdict; the one that stopped before it does not pay for it. */
static void nobody_pays_behind_its_stop(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {{.name = "best", .n = 2, .verifier = 1}}});
    struct stage_sweep other = {"t", 1, NO_ID,
                                .arms = {{.name = "drop", .allocator = "elimination", .n = 2, .verifier = 1}}};
    joins(&s, WORKER, 2);
    joins(&s, JUDGE, 1);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; lease 2 0/1; task 1 to 11; task 2 to 11");
    DOES(&s, "paused", CONTROL(SWEEP_PAUSED));
    assert_int_equal(stage_submit(&s, &other), 0);
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 5));
    DOES(&s, "result 2; ack 2 to 11", RESULT(WORKER, 2, 5));
    DISPATCHES(&s, "open 1:0 +1; open 1:0 +1; lease 3 0/0?1; task 3 to 22");
    DOES(&s, "verdict 3; decide 1:0 at 1 by solved; ack 3 to 22", VERDICT(JUDGE, 3, OUTCOME_PASS, 1));
    DISPATCHES(&s, "done");
    DOES(&s, "running", CONTROL(SWEEP_RUNNING));
    DISPATCHES(&s, "lease 4 0/1?1; task 4 to 22");
    stage_clear(&s);
}

static void strict_window(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){
        "s", 2, NO_ID, .arms = {{.name = "vote", .n = 2, .verifier = NO_ID, .strict = true, .lookahead = 2}}});
    expect_said(&s, "open 0:0 +1; open 0:0 +1", __LINE__);
    joins(&s, WORKER, 4);
    DISPATCHES(&s, "lease 1 0/0; lease 2 0/1; task 1 to 11; task 2 to 11"); /* two ahead, whatever the credits */
    DOES(&s, "result 2; ack 2 to 11", RESULT(WORKER, 2, 5));                /* not the oldest: the window waits */
    DOES(&s, "result 1; fold 0; open 0:1 +1; fold 0; decide 0:0 at 2 by n; open 0:1 +1; ack 1 to 11",
         RESULT(WORKER, 1, 5));
    DISPATCHES(&s, "lease 3 1/0; lease 4 1/1; task 3 to 11; task 4 to 11");
    stage_step(&s, (struct event){RESULT(WORKER, 3, 5)});
    DOES(&s, "result 4; fold 0; decide 0:1 at 2 by n; ack 4 to 11", RESULT(WORKER, 4, 5));
    DISPATCHES(&s, "done");
    stage_clear(&s);
}

static void exhausted_pool(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .rollouts = 3, .arms = {VOTE("vote", 3)}});
    joins(&s, WORKER, 3);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
    DOES(&s, "result 2; decide 0:0 at 1 by exhausted; void 0 from 1; ack 2 to 11; cancel 3 to 11", .type = EVENT_RESULT,
         .agent = WORKER, .lease = 2, .result = {.result = {.finish = FINISH_EXHAUSTED}});
    DOES(&s, "correct 3; dup ack 3 to 11", RETURNS(WORKER, 3, 0));
    assert_int_equal(core_sweep(s.core, 0).burned.rollouts, 1); /* what is not there was not generated */
    DISPATCHES(&s, "done");
    stage_clear(&s);
}

#define KILLED(by, of)                                  \
    .type = EVENT_RESULT, .agent = (by), .lease = (of), \
    .result = {.ref = {1, 0, 1},                        \
               .result = {.finish = FINISH_KILLED, .tokens_in = 4, .tokens_out = 3, .latency_ms = 50}}

/* What was ended for its confidence has no answer whatever a verifier says: the arm waits and pays for no verdict. */
static void killed_is_not_verified(void **state)
{
    (void)state;
    struct stage_sweep sweep = {
        "s", 1, NO_ID, .cost = 100, .kills = true, .arms = {{.name = "best", .n = 2, .verifier = 1}}};
    struct stage s = stage_new(&sweep);
    joins(&s, WORKER, 2);
    joins(&s, JUDGE, 2);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; lease 2 0/1; task 1 to 11; task 2 to 11");
    assert_int_equal(core_sweep(s.core, 0).reserved.cost, 6);
    DOES(&s, "result 1; ack 1 to 11", KILLED(WORKER, 1));
    assert_int_equal(core_cell(s.core, 0, 0).delivered, 1);
    assert_int_equal(core_sweep(s.core, 0).reserved.cost, 3); /* the other one's */
    assert_int_equal(core_arm(s.core, 0).charged.cost, 0);
    DISPATCHES(&s, "");
    DOES(&s, "result 2; ack 2 to 11", RESULT(WORKER, 2, 5));
    DISPATCHES(&s, "lease 3 0/1?1; task 3 to 22");
    DOES(&s, "verdict 3; decide 0:0 at 2 by n; ack 3 to 22", VERDICT(JUDGE, 3, OUTCOME_PASS, 1));
    DISPATCHES(&s, "done");
    assert_int_equal(core_sweep(s.core, 0).burned.cost, 3);
    assert_int_equal(core_arm(s.core, 0).charged.cost, 3);
    stage_clear(&s);
}

/* The report counts it as the truth says; so where that is the arm's verifier too, it is asked. */
static void the_truth_judges_what_was_killed(void **state)
{
    (void)state;
    struct stage_sweep sweep = {"s", 1, 0, .kills = true, .arms = {{.name = "best", .n = 1, .verifier = 1}}};
    for (uint32_t truth = 0; truth < 2; truth++) {
        sweep.truth = truth;
        struct stage s = stage_new(&sweep);
        joins(&s, WORKER, 1);
        joins(&s, JUDGE, 1);
        stage_step(&s, (struct event){.type = EVENT_DISPATCH});
        stage_step(&s, (struct event){KILLED(WORKER, 1)});
        assert_int_equal(core_cell(s.core, 0, 0).delivered, truth == 0);
        DISPATCHES(&s, truth == 0 ? "lease 2 0/0?0; task 2 to 22" : "lease 2 0/0?1; task 2 to 22");
        stage_step(&s, (struct event){VERDICT(JUDGE, 2, OUTCOME_FAIL, 0)});
        assert_int_equal(core_cell(s.core, 0, 0).delivered, 1);
        DISPATCHES(&s, "done");
        stage_clear(&s);
    }
}

static void extension(void **state)
{
    (void)state;
    struct stage_sweep sweep = {"s", 1, NO_ID, .arms = {VOTE("vote", 1)}};
    struct stage s = stage_new(&sweep);
    joins(&s, WORKER, 1);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
    DISPATCHES(&s, "done");
    sweep.arms[0].n = 2;
    sweep.arms[1] = (struct stage_arm)VOTE("more", 1);
    assert_int_equal(stage_submit(&s, &sweep), 0);
    expect_said(&s, "running", __LINE__);
    /* The new arm needs nothing but what is there; the old one gets one more. */
    DISPATCHES(&s, "open 1:0 +1; decide 1:0 at 1 by n; open 0:0 +1; lease 2 0/1; task 2 to 11");
    DOES(&s, "result 2; decide 0:0 at 2 by n; ack 2 to 11", RESULT(WORKER, 2, 5));
    DISPATCHES(&s, "done");
    stage_clear(&s);
}

/* A stopper that stops at n stops there for any larger n too. */
static void extension_keeps_evidence(void **state)
{
    (void)state;
    struct stage_sweep sweep = {"s", 1, NO_ID,
                                .arms = {{.name = "beta", .stopper = "beta", .n = 5, .verifier = NO_ID}}};
    struct stage s = stage_new(&sweep);
    joins(&s, WORKER, 5);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    for (uint64_t lease = 1; lease <= 4; lease++)
        stage_step(&s, (struct event){RESULT(WORKER, lease, 5)});
    if (strstr(s.said.data, "decide") == NULL) {
        stage_step(&s, (struct event){.type = EVENT_DISPATCH});
        stage_step(&s, (struct event){RESULT(WORKER, 5, 5)});
    }
    assert_non_null(strstr(s.said.data, "by stopper"));
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    sweep.arms[0].n = 9;
    assert_int_equal(stage_submit(&s, &sweep), 0);
    DISPATCHES(&s, "done");
    stage_clear(&s);
}

static void refused(struct stage *s, const struct stage_sweep *sweep, const char *sentence)
{
    size_t before = s->journal.len;
    if (stage_submit(s, sweep) == 0 || strstr(s->update.error.text, sentence) == NULL)
        fail_msg("'%s' is not refused with '%s', but '%s'", sweep->name, sentence, s->update.error.text);
    assert_int_equal(s->journal.len, before);
}

static void conflicts(void **state)
{
    (void)state;
    const struct stage_sweep sweep = {"s", 2, NO_ID, .rollouts = 9,
                                      .arms = {{.name = "vote", .n = 4, .verifier = NO_ID}}};
    struct stage s = stage_new(&sweep);
    struct stage_sweep other = sweep;
    joins(&s, WORKER, 1);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)}); /* from now on there is something to keep */
    other.seed = 99;
    refused(&s, &other, "another seed");
    other = sweep;
    other.prompts = 3;
    refused(&s, &other, "another prompts");
    other = sweep;
    other.truth = 1;
    refused(&s, &other, "another truth");
    other = sweep;
    other.arms[0].stopper = "beta";
    refused(&s, &other, "another stop");
    other = sweep;
    other.arms[0].verifier = 1;
    refused(&s, &other, "another verifier");
    other = sweep;
    other.arms[1] = other.arms[0];
    refused(&s, &other, "two arms of one name");
    other = sweep;
    other.arms[0].strict = true; /* and no lookahead */
    refused(&s, &other, "cannot be");
    joins(&s, WORKER, 4);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    /* A smaller n, or a budget below what is spent, asks for nothing that is not there. */
    other = sweep;
    other.arms[0].n = 3;
    other.rollouts = 2;
    assert_int_equal(stage_submit(&s, &other), 0);
    assert_int_equal(core_arm(s.core, 0).n, 4);
    assert_int_equal(core_sweep(s.core, 0).caps.rollouts, 5);
    stage_clear(&s);
}

/* A first try of which nothing was kept does not bind its name. */
static void first_try_is_replaced(void **state)
{
    (void)state;
    struct stage_sweep sweep = {"s", 2, NO_ID, .arms = {{.name = "vote", .n = 2, .verifier = NO_ID}}};
    struct stage s = stage_new(&sweep);
    joins(&s, WORKER, 1);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    sweep.seed = 99;
    assert_int_equal(stage_submit(&s, &sweep), 0);
    assert_int_equal(core_sweep_find(s.core, slice_of("s")), 1);
    assert_int_equal(core_sweep(s.core, 0).state, SWEEP_REPLACED);
    assert_int_equal(core_sweep(s.core, 1).state, SWEEP_RUNNING);
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)}); /* of the first try: kept in its pool, and no more */
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    assert_int_equal(core_sweep(s.core, 1).leased, 1);
    assert_int_equal(stage_submit(&s, &sweep), 0);
    assert_int_equal(core_sweeps(s.core), 2);
    stage_clear(&s);
}

/* Decisions over what another sweep bought are worth keeping, though nothing was bought for them. */
static void decisions_over_existing_rollouts_bind_their_name(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 1)}});
    joins(&s, WORKER, 1);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
    struct stage_sweep again = {"again", 1, NO_ID,
                                .arms = {{.name = "vote", .n = 1, .allocator = "existing", .verifier = NO_ID}}};
    assert_int_equal(stage_submit(&s, &again), 0);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    assert_int_equal(core_sweep(s.core, 1).decided, 1);
    again.arms[0].selector = "best-logprob";
    assert_int_equal(stage_submit(&s, &again), ERR_CONFLICT);
    stage_clear(&s);
}

static void malformed_submissions(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 1)}});
    struct buf whole = {0};
    define_sweep(&whole,
                 &(struct stage_sweep){"u", 3, 1, .arms = {VOTE("a", 4), {.name = "b", .n = 2, .verifier = 1}}});
    for (size_t len = 0; len < whole.len; len++) { /* torn anywhere: whole facts only, or refused */
        struct stage t = {.now_ms = 1};
        stage_start(&t, false);
        stage_step(&t, (struct event){.type = EVENT_SUBMIT, .submit = {.definitions = {whole.data, len}}});
        if (t.update.code != 0)
            expect_said(&t, "", __LINE__);
        stage_clear(&t);
    }
    struct buf alone = {0};
    define_arm(&alone, 0, &(struct stage_arm)VOTE("a", 1));
    stage_step(&s, (struct event){.type = EVENT_SUBMIT, .submit = {.definitions = buf_slice(&alone)}});
    assert_int_equal(s.update.code, ERR_PROTOCOL);
    buf_clear(&whole);
    buf_clear(&alone);
    stage_clear(&s);
}

static const float hopes[3][2] = {{1, 9}, {8, 2}, {5, 5}};

static const struct stage_sweep believing = {.name = "s",
                                             .prompts = 3,
                                             .truth = NO_ID,
                                             .arms = {{.name = "gain",
                                                       .allocator = "marginal-gain",
                                                       .selector = "first-pass",
                                                       .n = 2,
                                                       .verifier = 0,
                                                       .prior = "sweep early strength 1",
                                                       .beliefs = hopes}}};

/* The surest prompt first, whatever its number; after a restart too. */
static void prior_orders_prompts(void **state)
{
    (void)state;
    struct stage s = stage_new(&believing);
    joins(&s, WORKER, 1);
    DISPATCHES(&s, "open 0:1 +1; lease 1 1/0; task 1 to 11");
    stage_start(&s, true);
    assert_true(core_belief(s.core, 0, 0).b == 9);
    joins(&s, WORKER, 2);
    DISPATCHES(&s, "lease 2 1/0; open 0:1 +1; lease 3 1/1; task 2 to 11; task 3 to 11"); /* 8 / 11 is above 5 / 10 */
    struct buf dump = {0};
    core_dump(s.core, &dump);
    struct core *copy = core_new(&(struct core_options){.lease_ms = LEASE});
    struct fact fact;
    for (size_t at = 0; at < dump.len;) {
        assert_int_equal(fact_get(buf_slice(&dump), &at, &fact), 0);
        assert_int_equal(core_apply(copy, &fact), 0);
    }
    struct buf again = {0};
    core_dump(copy, &again);
    assert_int_equal(again.len, dump.len);
    assert_memory_equal(again.data, dump.data, dump.len);
    buf_clear(&dump);
    buf_clear(&again);
    core_free(&copy);
    stage_clear(&s);
}

/* Under order: strict, which opens at once, it waits for the last belief. */
static void prior_comes_before_the_window(void **state)
{
    (void)state;
    struct stage_sweep sweep = believing;
    sweep.arms[0].strict = true;
    sweep.arms[0].lookahead = 1;
    struct stage s = {.now_ms = 1};
    stage_start(&s, false);
    assert_int_equal(stage_submit(&s, &sweep), 0);
    expect_said(&s, "open 0:1 +1", __LINE__);
    stage_clear(&s);
}

/* An arm keeps the beliefs that it began with; another source is another arm. */
static void prior_stays(void **state)
{
    (void)state;
    static const float others[3][2] = {{9, 1}, {1, 9}, {1, 9}};
    struct stage_sweep sweep = believing;
    struct stage s = stage_new(&sweep);
    joins(&s, WORKER, 1);
    DISPATCHES(&s, "open 0:1 +1; lease 1 1/0; task 1 to 11");
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 5));
    sweep.arms[0].beliefs = others;
    assert_int_equal(stage_submit(&s, &sweep), 0);
    assert_true(core_belief(s.core, 0, 0).a == 1);
    sweep.arms[0].prior = "sweep early strength 0.5";
    refused(&s, &sweep, "another prior");
    sweep.arms[0].prior = NULL;
    sweep.arms[0].beliefs = NULL;
    refused(&s, &sweep, "another prior");
    stage_clear(&s);
}

static void malformed_priors(void **state)
{
    (void)state;
    static const float worse[][3][2] = {
        {{1, 1}, {1, 1}, {0, 1}}, {{1, 1}, {1, 1}, {1, -1}}, {{1, 1}, {NAN, 1}, {1, 1}}, {{1, 1}, {1, 1}, {1, 2e9f}}};
    struct stage_sweep sweep = believing;
    struct stage s = {.now_ms = 1};
    stage_start(&s, false);
    for (size_t i = 0; i < sizeof worse / sizeof worse[0]; i++) {
        sweep.arms[0].beliefs = worse[i];
        refused(&s, &sweep, "malformed");
    }
    sweep.arms[0].beliefs = NULL; /* says that it has some, and tells none */
    refused(&s, &sweep, "malformed");
    sweep = believing;
    sweep.arms[1] = (struct stage_arm)VOTE("vote", 2); /* tells some, and says that it has none */
    sweep.arms[1].beliefs = hopes;
    refused(&s, &sweep, "malformed");
    struct buf more = {0};
    define_sweep(&more, &believing);
    define_prior(&more, 0, 0, hopes, 1); /* one too many */
    stage_step(&s, (struct event){.type = EVENT_SUBMIT, .submit = {.definitions = buf_slice(&more)}});
    assert_int_equal(s.update.code, ERR_PROTOCOL);
    assert_int_equal(s.facts.len, 0);
    buf_clear(&more);
    stage_clear(&s);
}

static void pause_resume_cancel(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 3)}});
    joins(&s, WORKER, 1);
    DISPATCHES(&s, "open 0:0 +3; lease 1 0/0; task 1 to 11");
    DOES(&s, "paused", CONTROL(SWEEP_PAUSED));
    DOES(&s, "", CONTROL(SWEEP_PAUSED));
    assert_int_equal(s.update.code, ERR_CONFLICT);
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 5)); /* what runs is finished */
    DISPATCHES(&s, "");
    DOES(&s, "running", CONTROL(SWEEP_RUNNING));
    DISPATCHES(&s, "lease 2 0/1; task 2 to 11");
    DOES(&s, "cancelled; cancel 2 to 11", CONTROL(SWEEP_CANCELLED));
    DOES(&s, "lost 2 returned; correct 2; dup ack 2 to 11", RETURNS(WORKER, 2, 1));
    DISPATCHES(&s, "");
    assert_int_equal(core_sweep(s.core, 0).reserved.tokens, 0);
    DOES(&s, "", .type = EVENT_CONTROL, .control = {.sweep = 7, .state = SWEEP_PAUSED});
    assert_int_equal(s.update.code, ERR_NOT_FOUND);
    stage_clear(&s);
}

/* Work that a paused sweep had begun goes to another one that shares its rollouts. */
static void shared_pool(void **state)
{
    (void)state;
    struct stage_sweep sweep = {"s", 1, NO_ID, .arms = {VOTE("vote", 2)}};
    struct stage s = stage_new(&sweep);
    joins(&s, WORKER, 2);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; lease 2 0/1; task 1 to 11; task 2 to 11");
    sweep.name = "t";
    assert_int_equal(stage_submit(&s, &sweep), 0);
    DISPATCHES(&s, "open 1:0 +2");
    DOES(&s, "paused", CONTROL(SWEEP_PAUSED));
    DOES(&s, "lost 2 orphan", .type = EVENT_HELLO, .agent = WORKER,
         .hello = {.kinds = 1, .credits = 2, .next_ms = BEAT, .running = (const uint64_t[]){1}, .running_len = 1});
    DISPATCHES(&s, "lease 3 0/1; task 3 to 11");
    assert_int_equal(core_sweep(s.core, 1).reserved.tokens, BYTES + MAX_TOKENS);
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
    DOES(&s, "result 3; decide 0:0 at 2 by n; decide 1:0 at 2 by n; ack 3 to 11", RESULT(WORKER, 3, 5));
    stage_clear(&s);
}

static void tree_to_done(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){
        "s", 1, NO_ID,
        .arms = {{.name = "search", .strategy = "particles", .selector = "best", .n = 2, .verifier = 1}}});
    joins(&s, WORKER, 2);
    joins(&s, JUDGE, 2);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    assert_non_null(strstr(s.said.data, "open 0:0 +2; "));
    assert_non_null(strstr(s.said.data, "spawn 2; lease 1 0.0/0; lease 2 0.0/1; task 1 to 11; task 2 to 11"));
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
    stage_step(&s, (struct event){RESULT(WORKER, 2, 6)});
    DISPATCHES(&s, "lease 3 0.0/0?1; lease 4 0.0/1?1; task 3 to 22; task 4 to 22");
    DOES(&s, "verdict 4; ack 4 to 22", VERDICT(JUDGE, 4, OUTCOME_PASS, .9));
    stage_step(&s, (struct event){VERDICT(JUDGE, 3, OUTCOME_PASS, .2)});
    assert_non_null(strstr(s.said.data, "decide 0:0 at 2 by n"));
    DISPATCHES(&s, "done");
    stage_clear(&s);
}

/* Each task of a chain of thought reserves what it may still generate, and thinking is not judged. */
static void thinking_reserves_its_caps(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){
        "s", 1, NO_ID,
        .arms = {{.name = "forced", .strategy = "budget-forcing", .selector = "best", .n = 1, .verifier = 1}}});
    joins(&s, WORKER, 1);
    joins(&s, JUDGE, 1);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    assert_non_null(strstr(s.said.data, "spawn 1; lease 1 0.0/0; task 1 to 11"));
    assert_int_equal(s.update.sends[0].tokens_max, MAX_TOKENS);
    assert_int_equal(s.update.sends[0].step, EXTENT_THINK);
    assert_int_equal(core_sweep(s.core, 0).reserved.slot_ms, 1000);   /* of the task: no verdict is promised */
    DOES(&s, "result 1; spawn 1; ack 1 to 11", RESULT(WORKER, 1, 0)); /* 6 tokens */
    DISPATCHES(&s, "lease 2 0.0/1; task 2 to 11");
    assert_int_equal(s.update.sends[0].tokens_max, MAX_TOKENS - 6);
    assert_int_equal(s.update.sends[0].cue, CUE_WAIT);
    assert_int_equal(core_sweep(s.core, 0).reserved.tokens, MAX_TOKENS - 6);
    DOES(&s, "result 2; spawn 1; ack 2 to 11", RESULT(WORKER, 2, 0));
    DISPATCHES(&s, "lease 3 0.0/2; task 3 to 11");
    assert_int_equal(s.update.sends[0].cue, CUE_ANSWER);
    assert_int_equal(s.update.sends[0].step, EXTENT_WHOLE);
    assert_int_equal(core_sweep(s.core, 0).reserved.slot_ms, 1500); /* and of its verdict */
    DOES(&s, "result 3; ack 3 to 11", RESULT(WORKER, 3, 5));
    DISPATCHES(&s, "lease 4 0.0/2?1; task 4 to 22");
    assert_int_equal(s.update.sends[0].refs_len, 3); /* the path is judged */
    DOES(&s, "verdict 4; decide 0:0 at 1 by n; ack 4 to 22", VERDICT(JUDGE, 4, OUTCOME_PASS, .9));
    stage_clear(&s);
}

/* An attempt is judged alone; a revision is shown those before it. */
static void attempts_are_judged_alone(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){
        "s", 1, NO_ID, .arms = {{.name = "turns", .strategy = "revise", .selector = "best", .n = 4, .verifier = 1}}});
    joins(&s, WORKER, 1);
    joins(&s, JUDGE, 1);
    for (uint64_t turn = 0; turn < 4; turn++) {
        stage_step(&s, (struct event){.type = EVENT_DISPATCH});
        assert_int_equal(s.update.sends[0].cue, turn > 0 ? CUE_REVISE : CUE_NONE);
        assert_int_equal(s.update.sends[0].refs_len, turn);
        stage_step(&s, (struct event){RESULT(WORKER, 2 * turn + 1, 5)});
        stage_step(&s, (struct event){.type = EVENT_DISPATCH});
        assert_int_equal(s.update.sends[0].key.kind, TASK_VERIFY);
        assert_int_equal(s.update.sends[0].refs_len, 1);
        stage_step(&s, (struct event){VERDICT(JUDGE, 2 * turn + 2, OUTCOME_FAIL, 0)});
    }
    assert_non_null(strstr(s.said.data, "decide 0:0 at 4 by n"));
    stage_clear(&s);
}

/* Nodes that no plan asks for, in a journal that is damaged or foreign. */
static void spawns_that_cannot_be(void **state)
{
    (void)state;
    static const uint32_t root[] = {NO_ORDINAL, NO_ORDINAL}, caps[][2] = {{5, MAX_TOKENS}, {0, 5}, {5, MAX_TOKENS + 1}};
    static const char cues[] = {CUE_WAIT, CUE_REVISE, CUES, 0}, extents[] = {EXTENT_THINK, EXTENTS, 0};
    const struct slice parents = {(const char *)root, 8};
    const struct {
        struct slice caps, cues, extents;
        int rc;
    } rows[] = {
        {{(const char *)caps[0], 8}, {cues, 0}, {extents, 0}, 0},
        {{(const char *)caps[0], 4}, {cues, 0}, {extents, 0}, ERR_CORRUPT}, /* of unequal lengths */
        {{(const char *)caps[0], 7}, {cues, 0}, {extents, 0}, ERR_CORRUPT},
        {{(const char *)caps[0], 12}, {cues, 0}, {extents, 0}, ERR_CORRUPT},
        {{NULL, 0}, {cues, 1}, {extents, 0}, ERR_CORRUPT},
        {{NULL, 0}, {cues, 0}, {extents, 1}, ERR_CORRUPT},
        {{(const char *)caps[1], 8}, {cues, 0}, {extents, 0}, ERR_CORRUPT}, /* no tokens, more than the model's */
        {{(const char *)caps[2], 8}, {cues, 0}, {extents, 0}, ERR_CORRUPT},
        {{NULL, 0}, {cues, 2}, {extents, 0}, ERR_CORRUPT},     /* there is nothing to revise */
        {{NULL, 0}, {cues + 2, 2}, {extents, 0}, ERR_CORRUPT}, /* unknown */
        {{NULL, 0}, {cues, 0}, {extents, 2}, ERR_CORRUPT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct stage s = stage_new(
            &(struct stage_sweep){"s", 1, NO_ID, .arms = {{.name = "f", .strategy = "budget-forcing", .n = 2}}});
        struct fact open = {.type = FACT_open, .open = {.count = 2}};
        struct fact spawn = {
            .type = FACT_spawn,
            .spawn = {.parents = parents, .caps = rows[i].caps, .cues = rows[i].cues, .extents = rows[i].extents}};
        struct core *core = stage_core(&s);
        assert_int_equal(core_apply(core, &open), 0);
        assert_int_equal(core_apply(core, &spawn), rows[i].rc);
        core_free(&core);
        stage_clear(&s);
    }
}

/* Pending rollouts are counters: many of them cost no more than a few. */
static void pending_costs_nothing(void **state)
{
    (void)state;
    size_t used[2];
    for (int i = 0; i < 2; i++) {
        struct mallinfo2 before = mallinfo2();
        struct stage s = stage_new(&(struct stage_sweep){"s", 100000, NO_ID, .arms = {VOTE("vote", i == 0 ? 1 : 64)}});
        joins(&s, WORKER, 1);
        stage_step(&s, (struct event){.type = EVENT_DISPATCH});
        struct mallinfo2 after = mallinfo2();
        used[i] = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
        stage_clear(&s);
    }
    print_message("100,000 prompts: %zu bytes at n = 1, %zu at n = 64\n", used[0], used[1]);
    if (used[0] > 0) /* sanitizers have their own allocator, which tells nothing */
        assert_true(used[1] < used[0] + used[0] / 8);
}

/* As many groups as prompts: each prompt finds its own at once. */
static void many_groups(void **state)
{
    (void)state;
    enum { PROMPTS = 200000 };
    struct core *core = core_new(&(struct core_options){.lease_ms = LEASE});
    struct fact set = {.type = FACT_set, .set = {.len = PROMPTS}};
    assert_int_equal(core_apply(core, &set), 0);
    for (uint32_t p = 0; p < PROMPTS; p++) {
        char name[16];
        snprintf(name, sizeof name, "g%u", p / 2);
        struct fact prompt = {.type = FACT_prompt, .prompt = {.group = slice_of(name)}};
        assert_int_equal(core_apply(core, &prompt), 0);
    }
    assert_int_equal(core_prompt(core, 0, PROMPTS - 1).group, PROMPTS / 2 - 1);
    core_free(&core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(submit_to_done),
        cmocka_unit_test(thinking_reserves_its_caps),
        cmocka_unit_test(attempts_are_judged_alone),
        cmocka_unit_test(spawns_that_cannot_be),
        cmocka_unit_test(ordinal_order),
        cmocka_unit_test(late_result),
        cmocka_unit_test(duplicate_result),
        cmocka_unit_test(failure_and_giving_up),
        cmocka_unit_test(nonsense_is_a_failure),
        cmocka_unit_test(verdict_is_awaited),
        cmocka_unit_test(truth_is_free_and_last),
        cmocka_unit_test(restart_adopts),
        cmocka_unit_test(restart_without_a_fleet),
        cmocka_unit_test(drain_and_return),
        cmocka_unit_test(refusal),
        cmocka_unit_test(refusal_of_what_was_cancelled),
        cmocka_unit_test(suspect_and_quarantine),
        cmocka_unit_test(bench),
        cmocka_unit_test(final_failure),
        cmocka_unit_test(heartbeat_changes_credits),
        cmocka_unit_test(void_and_redraw),
        cmocka_unit_test(kept_by_the_other_arm),
        cmocka_unit_test(nobody_pays_behind_its_stop),
        cmocka_unit_test(strict_window),
        cmocka_unit_test(exhausted_pool),
        cmocka_unit_test(killed_is_not_verified),
        cmocka_unit_test(the_truth_judges_what_was_killed),
        cmocka_unit_test(extension),
        cmocka_unit_test(extension_keeps_evidence),
        cmocka_unit_test(conflicts),
        cmocka_unit_test(first_try_is_replaced),
        cmocka_unit_test(decisions_over_existing_rollouts_bind_their_name),
        cmocka_unit_test(malformed_submissions),
        cmocka_unit_test(prior_orders_prompts),
        cmocka_unit_test(prior_comes_before_the_window),
        cmocka_unit_test(prior_stays),
        cmocka_unit_test(malformed_priors),
        cmocka_unit_test(pause_resume_cancel),
        cmocka_unit_test(shared_pool),
        cmocka_unit_test(tree_to_done),
        cmocka_unit_test(pending_costs_nothing),
        cmocka_unit_test(many_groups),
    };
    return cmocka_run_group_tests_name("core", tests, NULL, NULL);
}
