/* test_ledger.c - amounts, reservations and caps: spent + reserved <= budget, whatever happens. */
#include "tests/unit/stage.h"

#define VOTE(name_, n_)                               \
    {                                                 \
        .name = (name_), .n = (n_), .verifier = NO_ID \
    }

static struct sweep_info books(const struct stage *s)
{
    return core_sweep(s->core, 0);
}

static void rollout_cap(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 3, NO_ID, .rollouts = 2, .arms = {VOTE("vote", 2)}});
    joins(&s, WORKER, 8);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; lease 2 0/1; open 0:1 +2; task 1 to 11; task 2 to 11");
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 1));
    DISPATCHES(&s, "");
    DOES(&s, "result 2; decide 0:0 at 2 by n; ack 2 to 11", RESULT(WORKER, 2, 1));
    DISPATCHES(&s, "done budget");
    assert_int_equal(books(&s).burned.rollouts, 2);
    stage_clear(&s);
}

/* Room for one reservation of BYTES + MAX_TOKENS at a time: the second lease waits for what the first one did not use. */
static void token_cap_counts_reservations(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .tokens = 45, .arms = {VOTE("vote", 3)}});
    joins(&s, WORKER, 8);
    DISPATCHES(&s, "open 0:0 +3; lease 1 0/0; task 1 to 11");
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 1));
    DISPATCHES(&s, "lease 2 0/1; task 2 to 11"); /* 10 used + 30 */
    DOES(&s, "result 2; ack 2 to 11", RESULT(WORKER, 2, 1));
    DISPATCHES(&s, "done budget"); /* 20 used + 30 would be more */
    assert_int_equal(books(&s).burned.tokens, 20);
    assert_int_equal(books(&s).reserved.tokens, 0);
    stage_clear(&s);
}

static void slot_cap(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .slot_ms = 1150, .arms = {VOTE("vote", 3)}});
    joins(&s, WORKER, 8);
    DISPATCHES(&s, "open 0:0 +3; lease 1 0/0; task 1 to 11");
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 1)); /* 100 ms of 1000 reserved */
    DISPATCHES(&s, "lease 2 0/1; task 2 to 11");
    DOES(&s, "result 2; ack 2 to 11", RESULT(WORKER, 2, 1));
    DISPATCHES(&s, "done budget");
    stage_clear(&s);
}

/* A generation is granted only if its verdict can be paid too. */
static void cost_cap_reserves_verdicts(void **state)
{
    (void)state;
    struct stage s =
        stage_new(&(struct stage_sweep){"s", 1, NO_ID, .cost = 7, .arms = {{.name = "best", .n = 3, .verifier = 1}}});
    joins(&s, WORKER, 8);
    joins(&s, JUDGE, 8);
    DISPATCHES(&s, "open 0:0 +3; lease 1 0/0; lease 2 0/1; task 1 to 11; task 2 to 11");
    assert_int_equal(books(&s).reserved.cost, 6);
    stage_step(&s, (struct event){RESULT(WORKER, 1, 1)});
    stage_step(&s, (struct event){RESULT(WORKER, 2, 1)});
    DISPATCHES(&s, "lease 3 0/0?1; lease 4 0/1?1; task 3 to 22; task 4 to 22");
    stage_step(&s, (struct event){VERDICT(JUDGE, 3, OUTCOME_FAIL, 0)});
    stage_step(&s, (struct event){VERDICT(JUDGE, 4, OUTCOME_FAIL, 0)});
    DISPATCHES(&s, "done budget");
    assert_int_equal(books(&s).burned.cost, 6);
    stage_clear(&s);
}

/* Under `accepted` a lost attempt costs nothing, and its late result counts only while there is room. */
static void late_without_room(void **state)
{
    (void)state;
    struct stage s =
        stage_new(&(struct stage_sweep){"s", 1, NO_ID, .rollouts = 1, .accepted = true, .arms = {VOTE("vote", 1)}});
    joins(&s, WORKER, 1);
    DISPATCHES(&s, "open 0:0 +1; lease 1 0/0; task 1 to 11");
    s.now_ms += BEAT + LEASE + 1;
    DOES(&s, "lost 1 silent", .type = EVENT_TICK);
    joins(&s, OTHER, 1);
    DISPATCHES(&s, "lease 2 0/0; task 2 to 12"); /* it has the room now */
    DOES(&s, "correct 1; dup ack 1 to 11", RESULT(WORKER, 1, 1));
    assert_int_equal(books(&s).burned.tokens, 10);
    DOES(&s, "result 2; decide 0:0 at 1 by n; ack 2 to 12", RESULT(OTHER, 2, 1));
    DISPATCHES(&s, "done");
    stage_clear(&s);
}

static void own_budget_of_an_arm(void **state)
{
    (void)state;
    struct stage_sweep sweep = {"s", 2, NO_ID, .arms = {{.name = "vote", .n = 2, .verifier = NO_ID, .rollouts = 3}}};
    struct stage s = stage_new(&sweep);
    joins(&s, WORKER, 8);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    for (uint64_t lease = 1; lease <= 3; lease++)
        stage_step(&s, (struct event){RESULT(WORKER, lease, 1)});
    expect_said(&s, "result 3; decide 0:1 at 1 by budget; ack 3 to 11", __LINE__);
    DISPATCHES(&s, "done");
    sweep.arms[0].rollouts = 9; /* what only the budget ended goes on */
    assert_int_equal(stage_submit(&s, &sweep), 0);
    DISPATCHES(&s, "open 0:1 +1; lease 4 1/1; task 4 to 11");
    DOES(&s, "result 4; decide 0:1 at 2 by n; ack 4 to 11", RESULT(WORKER, 4, 1));
    stage_clear(&s);
}

/* A tree arm whose own budget affords no whole prompt decides what is left, with nothing. */
static void own_budget_of_a_tree(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){
        "s", 1, NO_ID,
        .arms = {
            {.name = "search", .strategy = "particles", .selector = "best", .n = 4, .verifier = 1, .rollouts = 3}}});
    expect_said(&s, "decide 0:0 at 0 by budget", __LINE__);
    DISPATCHES(&s, "done");
    stage_clear(&s);
}

/* Charged: each arm as if it ran alone. Spent: once. */
static void charged_and_spent(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("a", 1), VOTE("b", 1)}});
    joins(&s, WORKER, 8);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    stage_step(&s, (struct event){RESULT(WORKER, 1, 1)});
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    assert_int_equal(core_arm(s.core, 0).charged.tokens, 10);
    assert_int_equal(core_arm(s.core, 1).charged.tokens, 10);
    assert_int_equal(books(&s).burned.tokens, 10);
    stage_clear(&s);
}

static void overrun_is_a_fault(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .tokens = 60, .arms = {VOTE("vote", 2)}});
    joins(&s, WORKER, 2);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; lease 2 0/1; task 1 to 11; task 2 to 11");
    DOES(&s, "fault; result 1; ack 1 to 11", .type = EVENT_RESULT, .agent = WORKER, .lease = 1,
         .result = {.result = {.tokens_in = 50, .tokens_out = 20}});
    assert_non_null(strstr(books(&s).reason, "70 tokens of 30"));
    DISPATCHES(&s, "");
    DOES(&s, "result 2; decide 0:0 at 2 by n; ack 2 to 11", RESULT(WORKER, 2, 1));
    DOES(&s, "running", CONTROL(SWEEP_RUNNING));
    DISPATCHES(&s, "done");
    assert_int_equal(books(&s).burned.tokens, 80); /* honest, though more than the cap: by that one overrun */
    stage_clear(&s);
}

static void missing_feature_is_a_fault(void **state)
{
    (void)state;
    const struct stage_arm best = {.name = "best", .n = 2, .verifier = NO_ID, .selector = "best-logprob"};
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {best}});
    joins(&s, WORKER, 2);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; lease 2 0/1; task 1 to 11; task 2 to 11");
    DOES(&s, "result 1; ack 1 to 11", .type = EVENT_RESULT, .agent = WORKER, .lease = 1,
         .result = {.result = {.tokens_in = 4, .tokens_out = 6, .features = {1u << FEATURE_LP_MEAN, {0}}}});
    DOES(&s, "fault; result 2; decide 0:0 at 2 by n; ack 2 to 11", RESULT(WORKER, 2, 1));
    assert_non_null(strstr(books(&s).reason, "lp_mean"));
    stage_clear(&s);
}

static void deadline(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .deadline_s = 5, .arms = {VOTE("vote", 2)}});
    joins(&s, WORKER, 1);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; task 1 to 11");
    DOES(&s, "", .type = EVENT_HEARTBEAT, .agent = WORKER, .heartbeat = {.next_ms = 60000});
    s.now_ms += 6000;
    DISPATCHES(&s, ""); /* what runs may end */
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 1));
    DISPATCHES(&s, "done deadline");
    stage_clear(&s);
}

/* Voided rollouts were burned, but are not kept. */
static void voided_is_not_accepted(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){
        "s", 1, NO_ID, .arms = {{.name = "drop", .allocator = "elimination", .n = 3, .verifier = 1}}});
    joins(&s, WORKER, 3);
    joins(&s, JUDGE, 1);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    for (uint64_t lease = 3; lease >= 1; lease--)
        stage_step(&s, (struct event){RESULT(WORKER, lease, 1)});
    assert_int_equal(books(&s).accepted.rollouts, 3);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    const uint64_t judged = core_sweep(s.core, 0).leased;
    assert_int_equal(judged, 1);
    for (uint64_t lease = 4; books(&s).decided == 0 && lease < 9; lease++) {
        stage_step(&s, (struct event){VERDICT(JUDGE, lease, OUTCOME_PASS, 1)});
        stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    }
    assert_int_equal(books(&s).accepted.rollouts, 1);
    assert_int_equal(books(&s).burned.rollouts, 3);
    assert_int_equal(books(&s).waste[WASTE_VOIDED].rollouts, 2);
    assert_int_equal(books(&s).reserved.cost, 0); /* the verdicts that were promised are free again */
    stage_clear(&s);
}

/* A facts file that takes away more than there is is damaged, and nothing worse. */
static void damaged_books(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = {VOTE("vote", 2)}});
    joins(&s, WORKER, 2);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    struct core *core = stage_core(&s);
    struct fact none = {.type = FACT_ledger, .ledger = {.kind = 2}}; /* reserved: nothing */
    struct fact lost = {.type = FACT_lost, .lost = {.lease = 1}};
    assert_int_equal(core_apply(core, &none), 0);
    assert_int_equal(core_apply(core, &lost), ERR_CORRUPT);
    core_free(&core);
    stage_clear(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rollout_cap),
        cmocka_unit_test(token_cap_counts_reservations),
        cmocka_unit_test(slot_cap),
        cmocka_unit_test(cost_cap_reserves_verdicts),
        cmocka_unit_test(late_without_room),
        cmocka_unit_test(own_budget_of_an_arm),
        cmocka_unit_test(own_budget_of_a_tree),
        cmocka_unit_test(charged_and_spent),
        cmocka_unit_test(overrun_is_a_fault),
        cmocka_unit_test(missing_feature_is_a_fault),
        cmocka_unit_test(deadline),
        cmocka_unit_test(voided_is_not_accepted),
        cmocka_unit_test(damaged_books),
    };
    return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
