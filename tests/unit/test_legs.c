/* test_legs.c - arms over several pools: which rollout of which pool stands at which position, and what follows. */
#include "stage.h"

#include "broker/policy/policy.h"

/* -- the schedule --------------------------------------------------------------------------------------------------- */

/* Draws position after position by its definition, and compares. */
static void walk(const struct schedule *s)
{
    uint32_t drawn[LIMIT_LEGS] = {0}, leg = 0, left = s->len[0];
    for (uint32_t position = 0; position < 100; position++) {
        for (uint32_t i = 0; i < s->legs; i++)
            assert_int_equal(schedule_reach(s, i, position), drawn[i]);
        struct drawn draw = schedule_draw(s, position);
        assert_int_equal(draw.leg, leg);
        assert_int_equal(draw.ordinal, drawn[leg]);
        assert_int_equal(schedule_position(s, leg, drawn[leg]), position);
        drawn[leg]++;
        bool last = leg + 1 == s->legs;
        if ((last && !s->rounds) || --left > 0)
            continue;
        leg = last ? 0 : leg + 1;
        left = s->len[leg];
    }
}

static void every_position_is_one_ordinal(void **state)
{
    (void)state;
    walk(&(struct schedule){.legs = 1});
    walk(&(struct schedule){.legs = 2, .len = {4}});
    walk(&(struct schedule){.legs = 3, .len = {1, 7, 0}});
    walk(&(struct schedule){.legs = 2, .len = {1, 1}, .rounds = true});
    walk(&(struct schedule){.legs = 3, .len = {2, 1, 5}, .rounds = true});
    assert_int_equal(schedule_position(&(struct schedule){.legs = 2, .len = {4}}, 0, 4), NO_POSITION);
}

static void blocks_and_rounds_end(void **state)
{
    (void)state;
    const struct schedule blocks = {.legs = 3, .len = {4, 2}}, rounds = {.legs = 2, .len = {4, 2}, .rounds = true};
    assert_int_equal(schedule_end(&blocks, 0), 4);
    assert_int_equal(schedule_end(&blocks, 3), 4);
    assert_int_equal(schedule_end(&blocks, 4), 6);
    assert_int_equal(schedule_end(&blocks, 6), NO_POSITION);
    assert_int_equal(schedule_end(&rounds, 5), 6);
    assert_int_equal(schedule_end(&rounds, 6), 12);
    assert_int_equal(schedule_end(&(struct schedule){.legs = 1}, 0), NO_POSITION);
}

static void nonsense_is_no_schedule(void **state)
{
    (void)state;
    assert_true(schedule_valid(&(struct schedule){.legs = 2, .len = {4}}, 5));
    assert_false(schedule_valid(&(struct schedule){.legs = 2, .len = {4}}, 4)); /* the last never has its turn */
    assert_true(schedule_valid(&(struct schedule){.legs = 2, .len = {4, 1}, .rounds = true}, 5));
    assert_false(schedule_valid(&(struct schedule){.legs = 2, .len = {4, 1}, .rounds = true}, 4));
    assert_false(schedule_valid(&(struct schedule){.legs = 2, .len = {4, 0}, .rounds = true}, 9));
    assert_false(schedule_valid(&(struct schedule){.legs = 2, .len = {0, 4}}, 9));
    assert_false(schedule_valid(&(struct schedule){.legs = 0}, 9));
    assert_false(schedule_valid(&(struct schedule){.legs = LIMIT_LEGS + 1, .len = {1}}, 9));
}

/* -- the core ------------------------------------------------------------------------------------------------------- */

#define ROUNDS(n_, ...)                                                                             \
    {                                                                                               \
        .name = "joined", .n = (n_), .verifier = NO_ID, .lens = {1, 1}, .rounds = true, __VA_ARGS__ \
    }
#define BLOCKS(first, n_, ...)                                                       \
    {                                                                                \
        .name = "joined", .n = (n_), .verifier = NO_ID, .lens = {first}, __VA_ARGS__ \
    }

/* Each model's workers take its legs; the prefix waits for whichever is late. */
static void rounds_take_turns(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .joined = true, .arms = {ROUNDS(4)}});
    serves(&s, WORKER, 1, 4);
    serves(&s, OTHER, 2, 4);
    DISPATCHES(&s, "open 0:0 +4; lease 1 0/0; lease 2 0/0 of 1; lease 3 0/1; lease 4 0/1 of 1; "
                   "task 1 to 11; task 2 to 12; task 3 to 11; task 4 to 12");
    assert_int_equal(core_arm(s.core, 0).reserved.tokens, 4 * BYTES + 2 * MAX_TOKENS + 2 * DEAR_TOKENS);
    assert_int_equal(core_arm(s.core, 0).reserved.cost, 2 * DEAR_TOKENS);
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 5));
    DOES(&s, "result 3; ack 3 to 11", RESULT(WORKER, 3, 6));
    assert_int_equal(core_cell(s.core, 0, 0).delivered, 1);
    DOES(&s, "result 4; ack 4 to 12", RESULT(OTHER, 4, 6));
    DOES(&s, "result 2; decide 0:0 at 4 by n; ack 2 to 12", RESULT(OTHER, 2, 7));
    assert_int_equal(core_cell(s.core, 0, 0).winner, 2); /* 5 7 6 6 */
    /* 4 tokens in and 6 out each; dear's cost a millionth each. */
    assert_int_equal(core_arm(s.core, 0).charged.tokens, 40);
    assert_int_equal(core_arm(s.core, 0).charged.cost, 12);
    struct item item;
    struct key key;
    assert_true(core_delivered(s.core, 0, 0, 1, &key));
    assert_int_equal(key.owner, 1);
    assert_true(core_item(s.core, 0, &key, 1, &item));
    assert_int_equal(item.leg, 1);
    assert_int_equal(item.ordinal, 1);
    DISPATCHES(&s, "done");
    stage_clear(&s);
}

/* A stop voids in every pool what no other arm holds there. */
static void a_stop_voids_every_leg(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){
        "s", 1, NO_ID, .joined = true,
        .arms = {{.name = "drop", .allocator = "elimination", .n = 6, .verifier = 1, .lens = {1, 1}, .rounds = true},
                 BLOCKS(2, 3)}});
    serves(&s, WORKER, 3, 7);
    joins(&s, JUDGE, 4);
    DISPATCHES(
        &s,
        "open 0:0 +1; lease 1 0/0; open 1:0 +3; lease 2 0/0 of 1; lease 3 0/1; open 0:0 +1; open 0:0 +1; open 0:0 +1; lease 4 0/1 of 1; open 0:0 +1; lease 5 0/2; open 0:0 +1; lease 6 0/2 of 1; task 1 to 11; task 2 to 11; task 3 to 11; task 4 to 11; task 5 to 11; task 6 to 11");
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
    DISPATCHES(&s, "lease 7 0/0?1; task 7 to 22");
    DOES(
        &s,
        "verdict 7; decide 0:0 at 1 by solved; void 0 from 2; void 0 from 1 of 1; ack 7 to 22; cancel 5 to 11; cancel 4 to 11; cancel 6 to 11",
        VERDICT(JUDGE, 7, OUTCOME_PASS, 1));
    stage_clear(&s);
}

/* Where the pool of the next position has no more, the arm's sequence ends, whatever its other pools have. */
static void a_dry_leg_ends_it(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .joined = true, .arms = {ROUNDS(4)}});
    serves(&s, WORKER, 3, 20);
    DISPATCHES(
        &s,
        "open 0:0 +4; lease 1 0/0 of 1; lease 2 0/1 of 1; lease 3 0/0; lease 4 0/1; task 1 to 11; task 2 to 11; task 3 to 11; task 4 to 11");
    DOES(&s, "result 1; ack 1 to 11", .type = EVENT_RESULT, .agent = WORKER, .lease = 1,
         .result = {.result = {.finish = FINISH_EXHAUSTED}});
    DOES(
        &s,
        "result 3; decide 0:0 at 1 by exhausted; void 0 from 1; void 0 from 0 of 1; ack 3 to 11; cancel 4 to 11; cancel 2 to 11",
        RESULT(WORKER, 3, 5));
    stage_clear(&s);
}

static void the_last_block_grows(void **state)
{
    (void)state;
    struct stage_sweep sweep = {"s", 1, NO_ID, .joined = true, .arms = {BLOCKS(1, 2)}};
    struct stage s = stage_new(&sweep);
    serves(&s, WORKER, 3, 20);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0 of 1; lease 2 0/0; task 1 to 11; task 2 to 11");
    stage_step(&s, (struct event){RESULT(WORKER, 2, 5)});
    DOES(&s, "result 1; decide 0:0 at 2 by n; ack 1 to 11", RESULT(WORKER, 1, 6));
    sweep.arms[0].n = 4;
    assert_int_equal(stage_submit(&s, &sweep), 0);
    DISPATCHES(&s, "open 0:0 +2; lease 3 0/1 of 1; lease 4 0/2 of 1; task 3 to 11; task 4 to 11");
    stage_clear(&s);
}

/* What an arm holds of a pool is what its positions reach there: two of dear are enough for both arms. */
static void arms_share_a_leg(void **state)
{
    (void)state;
    struct stage_sweep sweep = {"s", 1, NO_ID, .joined = true, .arms = {ROUNDS(4), BLOCKS(2, 4)}};
    sweep.arms[1].name = "blocks";
    struct stage s = stage_new(&sweep);
    serves(&s, WORKER, 3, 20);
    DISPATCHES(
        &s,
        "open 0:0 +4; lease 1 0/0 of 1; lease 2 0/1 of 1; lease 3 0/0; lease 4 0/1; open 1:0 +4; task 1 to 11; task 2 to 11; task 3 to 11; task 4 to 11");
    stage_clear(&s);
}

/* An agent of one model is not idle because the first prompt waits for the other's. */
static void one_model_runs_ahead(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 2, NO_ID, .joined = true, .arms = {BLOCKS(1, 2)}});
    serves(&s, WORKER, 1, 1);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; task 1 to 11");
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 5));
    DISPATCHES(&s, "open 0:1 +2; lease 2 1/0; task 2 to 11");
    serves(&s, OTHER, 2, 1);
    DISPATCHES(&s, "lease 3 0/0 of 1; task 3 to 12");
    stage_clear(&s);
}

/* Openings of the last event. */
static unsigned opened(const struct stage *s)
{
    unsigned count = 0;
    for (const char *at = s->said.data; (at = strstr(at, "open ")) != NULL; at++)
        count++;
    return count;
}

#define DROPS(n_, ...)                                                                    \
    {                                                                                     \
        .name = "drop", .allocator = "elimination", .n = (n_), .verifier = 1, __VA_ARGS__ \
    }

/* The second model of blocks is for what the first one left: its agents open nothing on their own. */
static void later_blocks_wait(void **state)
{
    (void)state;
    struct stage s = stage_new(&(struct stage_sweep){"s", 2, NO_ID, .joined = true, .arms = {DROPS(3, .lens = {2})}});
    serves(&s, OTHER, 2, 1);
    DISPATCHES(&s, "");
    assert_int_equal(core_arm(s.core, 0).reserved.tokens, 0);
    serves(&s, WORKER, 1, 2);
    DISPATCHES(&s, "open 0:0 +1; lease 1 0/0; open 0:1 +1; lease 2 1/0; task 1 to 11; task 2 to 11");
    stage_clear(&s);
}

/* In rounds each model's agents open for the other one too, but few: or the first dispatch would open all there is. */
static void one_model_opens_little_ahead(void **state)
{
    (void)state;
    enum { AHEAD = 64 };
    struct stage s = stage_new(&(struct stage_sweep){"s", 2 * AHEAD, NO_ID, .joined = true,
                                                     .arms = {DROPS(8, .lens = {1, 1}, .rounds = true)}});
    serves(&s, OTHER, 2, 1);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    assert_int_equal(opened(&s), AHEAD);
    DISPATCHES(&s, "");
    serves(&s, WORKER, 1, 1); /* takes one of them, and so there is room for one */
    DISPATCHES(&s, "lease 1 0/0; open 0:64 +1; task 1 to 11");
    stage_clear(&s);
    /* The same for one that serves what was before: it may find a prompt behind which is at that. */
    s = stage_new(&(struct stage_sweep){"s", 1, NO_ID, .joined = true, .arms = {DROPS(4 * AHEAD, .lens = {1})}});
    serves(&s, WORKER, 1, 2);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    assert_int_equal(opened(&s), 1 + AHEAD);
    stage_clear(&s);
}

/* A window folds in the order of its grants, whichever leg they are of. */
static void the_strict_window_spans_legs(void **state)
{
    (void)state;
    struct stage s = stage_new(
        &(struct stage_sweep){"s", 1, NO_ID, .joined = true, .arms = {ROUNDS(4, .strict = true, .lookahead = 2)}});
    expect_said(&s, "open 0:0 +1; open 0:0 +1", __LINE__);
    serves(&s, WORKER, 1, 4);
    serves(&s, OTHER, 2, 4);
    DISPATCHES(&s, "lease 1 0/0; lease 2 0/0 of 1; task 1 to 11; task 2 to 12");
    DOES(&s, "result 2; ack 2 to 12", RESULT(OTHER, 2, 5));
    DOES(&s, "result 1; fold 0; open 0:0 +1; fold 0; open 0:0 +1; ack 1 to 11", RESULT(WORKER, 1, 5));
    stage_clear(&s);
}

/* An arm that takes what exists takes it in its own order, up to the first that is missing. */
static void existing_ends_at_a_gap(void **state)
{
    (void)state;
    struct stage_sweep sweep = {"s", 1, NO_ID, .joined = true, .arms = {BLOCKS(2, 3)}};
    struct stage s = stage_new(&sweep);
    serves(&s, WORKER, 3, 20);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    for (uint64_t lease = 1; lease <= 3; lease++)
        stage_step(&s, (struct event){RESULT(WORKER, lease, 5)});
    sweep.arms[1] = (struct stage_arm)ROUNDS(8, .existing = true);
    sweep.arms[1].name = "again";
    assert_int_equal(stage_submit(&s, &sweep), 0);
    DISPATCHES(&s, "open 1:0 +3; decide 1:0 at 3 by exhausted; done"); /* m, dear, m; dear has one */
    stage_clear(&s);
}

static void refused(struct stage *s, const struct stage_sweep *sweep, const char *sentence)
{
    if (stage_submit(s, sweep) == 0 || strstr(s->update.error.text, sentence) == NULL)
        fail_msg("not refused with '%s', but '%s'", sentence, s->update.error.text);
}

static void legs_do_not_change(void **state)
{
    (void)state;
    const struct stage_sweep sweep = {"s", 1, NO_ID, .joined = true, .arms = {ROUNDS(4)}};
    struct stage s = stage_new(&sweep);
    serves(&s, WORKER, 3, 20);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
    struct stage_sweep other = sweep;
    other.arms[0].lens[1] = 2;
    refused(&s, &other, "another number of models, or order in which it draws from them");
    other.arms[0].lens[0] = 0;
    other.arms[0].rounds = false;
    refused(&s, &other, "another number of models");
    other = sweep;
    other.arms[0].rounds = false;
    other.arms[0].lens[0] = 4; /* the second would never have its turn */
    refused(&s, &other, "cannot be");
    other = sweep;
    other.arms[0].strategy = "particles";
    refused(&s, &other, "cannot be");
    stage_clear(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_position_is_one_ordinal),
        cmocka_unit_test(blocks_and_rounds_end),
        cmocka_unit_test(nonsense_is_no_schedule),
        cmocka_unit_test(rounds_take_turns),
        cmocka_unit_test(a_stop_voids_every_leg),
        cmocka_unit_test(a_dry_leg_ends_it),
        cmocka_unit_test(the_last_block_grows),
        cmocka_unit_test(arms_share_a_leg),
        cmocka_unit_test(one_model_runs_ahead),
        cmocka_unit_test(the_strict_window_spans_legs),
        cmocka_unit_test(existing_ends_at_a_gap),
        cmocka_unit_test(legs_do_not_change),
        cmocka_unit_test(later_blocks_wait),
        cmocka_unit_test(one_model_opens_little_ahead),
    };
    return cmocka_run_group_tests_name("legs", tests, NULL, NULL);
}
