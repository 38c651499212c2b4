/* test_bin_arms.c - arms of bins in the core: who waits for the pilot, who opens, what is charged, what is refused. */
#include "stage.h"

#include <math.h>

/* A pilot of 2, votes by agreement: up to one half 4 rollouts, above it the 2 that are there. */
#define AGREEING(hard_n, ...)                                                                                \
    {                                                                                                        \
        {.name = "b.pilot", .n = 2, .verifier = NO_ID, .of = "b", .by = BY_AGREEMENT, __VA_ARGS__},          \
            {.name = "b.1",                                                                                  \
             .n = (hard_n),                                                                                  \
             .verifier = NO_ID,                                                                              \
             .of = "b",                                                                                      \
             .bin = 1,                                                                                       \
             .by = BY_AGREEMENT,                                                                             \
             .above = -INFINITY,                                                                             \
             .up_to = 0.5,                                                                                   \
             __VA_ARGS__},                                                                                   \
        {                                                                                                    \
            .name = "b.2", .n = 2, .verifier = NO_ID, .of = "b", .bin = 2, .by = BY_AGREEMENT, .above = 0.5, \
            .up_to = INFINITY, __VA_ARGS__                                                                   \
        }                                                                                                    \
    }

static struct stage agreeing(uint32_t prompts)
{
    struct stage s = stage_new(&(struct stage_sweep){"s", prompts, NO_ID, .arms = AGREEING(4)});
    serves(&s, WORKER, 1, 8);
    return s;
}

/* Hard: the arm of its bin goes on where the pilot ended, the other is told at once. The pilot is charged once. */
static void a_hard_prompt_goes_on(void **state)
{
    (void)state;
    struct stage s = agreeing(1);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; lease 2 0/1; task 1 to 11; task 2 to 11");
    DOES(&s, "result 1; ack 1 to 11", RESULT(WORKER, 1, 5));
    DOES(&s, "result 2; decide 0:0 at 2 by n; decide 2:0 at 0 by elsewhere; ack 2 to 11", RESULT(WORKER, 2, 6));
    DISPATCHES(&s, "open 1:0 +4; lease 3 0/2; lease 4 0/3; task 3 to 11; task 4 to 11");
    stage_step(&s, (struct event){RESULT(WORKER, 3, 6)});
    DOES(&s, "result 4; decide 1:0 at 4 by n; ack 4 to 11", RESULT(WORKER, 4, 6));
    assert_int_equal(core_cell(s.core, 1, 0).winner, 1);
    assert_int_equal(core_arm(s.core, 0).charged.rollouts, 2);
    assert_int_equal(core_arm(s.core, 1).charged.rollouts, 2); /* of the 4 that it was delivered */
    assert_int_equal(core_arm(s.core, 2).charged.rollouts, 0);
    assert_int_equal(core_arm(s.core, 2).elsewhere, 1);
    assert_int_equal(core_cell(s.core, 2, 0).winner, NO_ORDINAL);
    assert_int_equal(core_sweep(s.core, 0).burned.rollouts, 4);
    DISPATCHES(&s, "done");
    stage_clear(&s);
}

/* Easy: all that its arm wants is there, so it is decided where it opens, and costs nothing more. */
static void an_easy_prompt_costs_its_pilot(void **state)
{
    (void)state;
    struct stage s = agreeing(1);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
    DOES(&s, "result 2; decide 0:0 at 2 by n; decide 1:0 at 0 by elsewhere; ack 2 to 11", RESULT(WORKER, 2, 5));
    DISPATCHES(&s, "open 2:0 +2; decide 2:0 at 2 by n; done");
    assert_int_equal(core_arm(s.core, 2).charged.rollouts + core_arm(s.core, 2).charged.tokens, 0);
    assert_int_equal(core_sweep(s.core, 0).burned.rollouts, 2);
    stage_clear(&s);
}

/* The pilot's verdict is charged once, too; that of another verifier is the bin's own. */
static void a_verdict_is_charged_once(void **state)
{
    (void)state;
    for (uint32_t own = 0; own < 2; own++) {
        struct stage_sweep sweep = {"s", 1, NO_ID, .arms = AGREEING(4)};
        for (int i = 0; i < 3; i++) {
            sweep.arms[i].verifier = i == 2 ? own : 1;
            sweep.arms[i].by = BY_PASSES;
        }
        struct stage s = stage_new(&sweep);
        serves(&s, WORKER, 1, 8);
        joins(&s, JUDGE, 8);
        stage_step(&s, (struct event){.type = EVENT_DISPATCH});
        stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
        stage_step(&s, (struct event){RESULT(WORKER, 2, 5)});
        stage_step(&s, (struct event){.type = EVENT_DISPATCH});
        stage_step(&s, (struct event){VERDICT(JUDGE, 3, OUTCOME_PASS, 1)});
        stage_step(&s, (struct event){VERDICT(JUDGE, 4, OUTCOME_PASS, 1)});
        stage_step(&s, (struct event){.type = EVENT_DISPATCH});
        for (uint64_t lease = 5; own == 0 && lease < 7; lease++)
            stage_step(&s, (struct event){VERDICT(JUDGE, lease, OUTCOME_PASS, 1)});
        assert_int_equal(core_cell(s.core, 2, 0).decided, DECIDED_CAP);
        assert_int_equal(core_arm(s.core, 0).verdicts, 2);
        assert_int_equal(core_arm(s.core, 2).verdicts, own == 1 ? 0 : 2);
        assert_int_equal(core_arm(s.core, 2).charged.rollouts, 0);
        stage_clear(&s);
    }
}

/* Nobody but the pilot opens before it decided, whatever agents are idle; each prompt by itself. */
static void bins_wait_for_their_pilot(void **state)
{
    (void)state;
    struct stage s = agreeing(2);
    DISPATCHES(&s, "open 0:0 +2; lease 1 0/0; lease 2 0/1; open 0:1 +2; lease 3 1/0; lease 4 1/1; "
                   "task 1 to 11; task 2 to 11; task 3 to 11; task 4 to 11");
    DISPATCHES(&s, "");
    stage_step(&s, (struct event){RESULT(WORKER, 4, 5)});
    DOES(&s, "result 3; decide 0:1 at 2 by n; decide 1:1 at 0 by elsewhere; ack 3 to 11", RESULT(WORKER, 3, 5));
    DISPATCHES(&s, "open 2:1 +2; decide 2:1 at 2 by n");
    stage_clear(&s);
}

/* The bin is known from the facts alone: after a restart it opens what it would have. */
static void a_restart_finds_the_bin(void **state)
{
    (void)state;
    struct stage s = agreeing(1);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
    stage_step(&s, (struct event){RESULT(WORKER, 2, 6)});
    stage_start(&s, true);
    serves(&s, WORKER, 1, 8);
    DISPATCHES(&s, "open 1:0 +4; lease 3 0/2; lease 4 0/3; task 3 to 11; task 4 to 11");
    stage_clear(&s);
}

/* A dump rebuilds waiting, elsewhere and what was charged. */
static void a_dump_rebuilds_bins(void **state)
{
    (void)state;
    struct stage s = agreeing(2);
    struct buf first = {0}, second = {0};
    struct fact fact;
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
    stage_step(&s, (struct event){RESULT(WORKER, 2, 6)});
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    stage_step(&s, (struct event){RESULT(WORKER, 5, 6)});
    core_dump(s.core, &first);
    struct core *again = core_new(&(struct core_options){.lease_ms = LEASE});
    for (size_t at = 0; at < first.len;) {
        assert_int_equal(fact_get(buf_slice(&first), &at, &fact), 0);
        assert_int_equal(core_apply(again, &fact), 0);
    }
    core_settle(again);
    core_dump(again, &second);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.data, second.data, first.len);
    assert_int_equal(core_arm(again, 2).elsewhere, 1);
    assert_int_equal(core_arm(again, 1).charged.rollouts, 1);
    core_free(&again);
    buf_clear(&first);
    buf_clear(&second);
    stage_clear(&s);
}

/* In a window the same prompts end in the same bins. */
static void strict_windows_wait_too(void **state)
{
    (void)state;
    struct stage s =
        stage_new(&(struct stage_sweep){"s", 1, NO_ID, .arms = AGREEING(3, .strict = true, .lookahead = 4)});
    expect_said(&s, "open 0:0 +1; open 0:0 +1", __LINE__);
    serves(&s, WORKER, 1, 8);
    DISPATCHES(&s, "lease 1 0/0; lease 2 0/1; task 1 to 11; task 2 to 11");
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
    DOES(&s,
         "result 2; fold 0; decide 0:0 at 2 by n; open 1:0 +1; open 1:0 +1; open 1:0 +1; fold 1; fold 1; "
         "decide 2:0 at 0 by elsewhere; ack 2 to 11",
         RESULT(WORKER, 2, 6));
    DISPATCHES(&s, "lease 3 0/2; task 3 to 11");
    DOES(&s, "result 3; fold 1; decide 1:0 at 3 by n; ack 3 to 11", RESULT(WORKER, 3, 6));
    stage_clear(&s);
}

/* Over what exists every bin ends with its pilot, not before. */
static void existing_rollouts_are_binned(void **state)
{
    (void)state;
    struct stage_sweep sweep = {"s", 1, NO_ID, .arms = {{.name = "plain", .n = 3, .verifier = NO_ID}}};
    struct stage s = stage_new(&sweep);
    serves(&s, WORKER, 1, 8);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    for (uint64_t lease = 1; lease <= 3; lease++)
        stage_step(&s, (struct event){RESULT(WORKER, lease, lease)});
    struct stage_sweep over = {"over", 1, NO_ID, .arms = AGREEING(8, .existing = true)};
    assert_int_equal(stage_submit(&s, &over), 0);
    DISPATCHES(&s, "open 1:0 +2; decide 1:0 at 2 by n; decide 3:0 at 0 by elsewhere; open 2:0 +3; "
                   "decide 2:0 at 3 by exhausted; done; done");
    stage_clear(&s);
}

/* With beliefs there is no pilot: bins are known when the arm is. */
static void a_prior_needs_no_pilot(void **state)
{
    (void)state;
    const float beliefs[2][2] = {{1, 9}, {9, 1}};
#define BELIEVING(number, from, to)                                                                     \
    {                                                                                                   \
        .name = "b." #number, .n = (number), .verifier = 1, .of = "b", .bin = (number), .by = BY_PRIOR, \
        .above = (from), .up_to = (to), .prior = "file", .beliefs = beliefs                             \
    }
    struct stage s = stage_new(
        &(struct stage_sweep){"s", 2, NO_ID, .arms = {BELIEVING(1, -INFINITY, 0.5), BELIEVING(2, 0.5, INFINITY)}});
    expect_said(&s, "decide 0:1 at 0 by elsewhere; decide 1:0 at 0 by elsewhere", __LINE__);
    serves(&s, WORKER, 1, 8);
    DISPATCHES(&s, "open 0:0 +1; lease 1 0/0; open 1:1 +2; lease 2 1/0; lease 3 1/1; "
                   "task 1 to 11; task 2 to 11; task 3 to 11");
    stage_clear(&s);
}

static void refused(struct stage *s, const struct stage_sweep *sweep, const char *sentence)
{
    if (stage_submit(s, sweep) == 0 || strstr(s->update.error.text, sentence) == NULL)
        fail_msg("not refused with '%s', but '%s'", sentence, s->update.error.text);
}

static void tables_do_not_change(void **state)
{
    (void)state;
    const struct stage_sweep sweep = {"s", 1, NO_ID, .arms = AGREEING(4)};
    struct stage s = stage_new(&sweep);
    serves(&s, WORKER, 1, 8);
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
    struct stage_sweep other = sweep;
    other.arms[1].up_to = 0.4;
    refused(&s, &other, "'b.1' is already here with another table of bins");
    other = sweep;
    other.arms[0].n = 3;
    refused(&s, &other, "'b.pilot' is already here with another table of bins");
    other = sweep;
    other.arms[1].n = 6; /* the bin may have more */
    assert_int_equal(stage_submit(&s, &other), 0);
    stage_clear(&s);
}

/* An arm and an arm of bins of one name would be one row of the report: in a sweep that has one, the other is a change. */
static void a_name_is_of_one_arm(void **state)
{
    (void)state;
    const struct stage_sweep bins = {"s", 1, NO_ID, .arms = AGREEING(4)};
    const struct stage_sweep plain = {"s", 1, NO_ID, .arms = {{.name = "b", .n = 4, .verifier = NO_ID}}};
    for (int i = 0; i < 2; i++) {
        struct stage s = stage_new(i == 0 ? &plain : &bins);
        serves(&s, WORKER, 1, 8);
        stage_step(&s, (struct event){.type = EVENT_DISPATCH});
        stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
        refused(&s, i == 0 ? &bins : &plain,
                "arm 'b' is already here with another strategy: give the changed arm a new");
        stage_clear(&s);
    }
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    const struct stage_sweep sweep = {"s", 1, NO_ID, .arms = AGREEING(4)};
    struct stage s = stage_new(&(struct stage_sweep){"t", 1, NO_ID, .arms = {{"a", .n = 1, .verifier = NO_ID}}});
    struct stage_sweep other = sweep;
    other.arms[1].up_to = -INFINITY;
    refused(&s, &other, "cannot be");
    other = sweep;
    other.arms[1].up_to = NAN;
    refused(&s, &other, "cannot be");
    other = sweep;
    other.arms[1].rollouts = 9;
    refused(&s, &other, "cannot be");
    other = sweep;
    other.arms[0].stopper = "beta";
    refused(&s, &other, "cannot be");
    other = sweep;
    other.arms[0] = (struct stage_arm){.name = "a", .n = 2, .verifier = NO_ID}; /* bins without a pilot */
    refused(&s, &other, "malformed");
    other = sweep;
    other.arms[1].bin = 0; /* two pilots */
    refused(&s, &other, "malformed");
    other = sweep;
    other.arms[2].name = "b.1";
    other.arms[2].strategy = "dvts";
    refused(&s, &other, "two arms of one name");
    stage_clear(&s);
}

/* Facts that cannot follow: a bin that did not wait, one that is elsewhere and has rollouts, an ordinary arm elsewhere. */
static void damaged_facts_are_found(void **state)
{
    (void)state;
    struct stage s = agreeing(1);
    struct fact early = {.type = FACT_open, .open = {.arm = 1, .count = 4}};
    struct fact decided = {.type = FACT_decide, .decide = {.arm = 1, .winner = NO_ORDINAL, .why = DECIDED_ELSEWHERE}};
    struct fact pilot = decided;
    pilot.decide.arm = 0;
    for (int i = 0; i < 3; i++) {
        struct core *core = stage_core(&s);
        assert_int_equal(core_apply(core, i == 0 ? &early : i == 1 ? &decided : &pilot), ERR_CORRUPT);
        core_free(&core);
    }
    stage_step(&s, (struct event){.type = EVENT_DISPATCH});
    stage_step(&s, (struct event){RESULT(WORKER, 1, 5)});
    stage_step(&s, (struct event){RESULT(WORKER, 2, 6)});
    struct core *core = stage_core(&s);
    assert_int_equal(core_apply(core, &early), 0);
    assert_int_equal(core_apply(core, &decided), ERR_CORRUPT);
    core_free(&core);
    stage_clear(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hard_prompt_goes_on),        cmocka_unit_test(an_easy_prompt_costs_its_pilot),
        cmocka_unit_test(bins_wait_for_their_pilot),    cmocka_unit_test(a_restart_finds_the_bin),
        cmocka_unit_test(a_dump_rebuilds_bins),         cmocka_unit_test(strict_windows_wait_too),
        cmocka_unit_test(existing_rollouts_are_binned), cmocka_unit_test(a_prior_needs_no_pilot),
        cmocka_unit_test(tables_do_not_change),         cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(damaged_facts_are_found),      cmocka_unit_test(a_name_is_of_one_arm),
        cmocka_unit_test(a_verdict_is_charged_once),
    };
    return cmocka_run_group_tests_name("bin_arms", tests, NULL, NULL);
}
