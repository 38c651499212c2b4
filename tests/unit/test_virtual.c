/* test_virtual.c - a fleet in virtual time: who runs what when, and what a cancelled task saves. */
#include "broker/virtual.h"
#include "common/rng.h"
#include "tests/unit/play.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Answers of one test: durations by prompt and ordinal, and what all of them say. */
struct law {
    int64_t (*takes_ms)(const struct key *key);
    struct buf facts;
    uint32_t failing; /* so many of the first tasks fail */
    struct virtual_faults faults;
};

static int64_t answer(void *arg, const struct send *task, const struct ref *refs, uint32_t agent, struct event *event)
{
    struct law *law = arg;
    (void)refs;
    (void)agent;
    int64_t ms = law->takes_ms(&task->key);
    if (law->failing > 0) {
        law->failing--;
        event->type = EVENT_FAIL;
        return ms;
    }
    if (event->type == EVENT_VERDICT) {
        event->verdict.verdict = (struct verdict){OUTCOME_PASS, 1};
        return ms;
    }
    event->result.result =
        (struct result){.tokens_in = 1, .tokens_out = 100, .latency_ms = (uint32_t)ms, .finish = FINISH_STOP};
    event->result.class = 7;
    return ms;
}

static int keep(void *arg, struct slice facts)
{
    struct law *law = arg;
    buf_put(&law->facts, facts.data, facts.len);
    return 0;
}

struct scene {
    struct play play; /* only its definitions */
    struct core *core;
    struct virtual *fleet;
    uint32_t sweep;
};

/* One arm over so many prompts. */
static struct scene scene_new(struct law *law, uint32_t workers, uint32_t slots, uint32_t prompts, struct arm_text arm)
{
    struct scene scene = {.core = core_new(&(struct core_options){.lease_ms = VIRTUAL_LEASE_MS})};
    scene.fleet = virtual_new(scene.core, &(struct virtual_options){.workers = workers,
                                                                    .slots = slots,
                                                                    .verifiers = 1,
                                                                    .verifier_slots = 4096,
                                                                    .answer = answer,
                                                                    .commit = keep,
                                                                    .arg = law,
                                                                    .faults = law->faults});
    put_prompts(&scene.play, prompts, 0);
    put_model(&scene.play, "m");
    put_sweep(&scene.play, "s", NO_ID, 0);
    put_arm(&scene.play, 0, arm);
    struct event submit = {.type = EVENT_SUBMIT, .submit.definitions = buf_slice(&scene.play.definitions)};
    struct error error;
    assert_int_equal(virtual_event(scene.fleet, submit, &scene.sweep, &error), 0);
    return scene;
}

static void scene_clear(struct scene *scene)
{
    virtual_free(&scene->fleet);
    core_free(&scene->core);
    play_clear(&scene->play);
}

static void assert_done(const struct scene *scene)
{
    struct sweep_info info = core_sweep(scene->core, scene->sweep);
    struct error error;
    assert_int_equal(info.state, SWEEP_DONE);
    assert_int_equal(info.decided, info.cells);
    assert_int_equal(info.leased, 0);
    assert_int_equal(core_check(scene->core, &error), 0);
}

static int64_t by_prompt(const struct key *key)
{
    return 10 * (int64_t)(key->prompt + 1);
}

/* Two slots, tasks of 10, 20, 30, 40 ms in this order: the third begins at 10, the fourth at 20. */
static void tasks_follow_each_other_on_slots(void **state)
{
    (void)state;
    static const struct {
        uint32_t workers, slots;
    } fleets[] = {{2, 1}, {1, 2}};
    for (size_t i = 0; i < 2; i++) {
        struct law law = {.takes_ms = by_prompt};
        struct scene scene = scene_new(&law, fleets[i].workers, fleets[i].slots, 4,
                                       (struct arm_text){"a", "sample", "uniform", "none", "majority", 1, NO_ID, 0, 0});
        assert_int_equal(virtual_run(scene.fleet), 0);
        assert_done(&scene);
        assert_int_equal(virtual_now_ms(scene.fleet), 60);
        struct virtual_usage usage = virtual_usage(scene.fleet, false);
        assert_int_equal(usage.tasks, 4);
        assert_int_equal(usage.busy_ms, 100);
        assert_int_equal(usage.cancelled, 0);
        assert_int_equal(virtual_usage(scene.fleet, true).tasks, 0);
        scene_clear(&scene);
        buf_clear(&law.facts);
    }
}

static int64_t by_ordinal(const struct key *key)
{
    static const int64_t ms[] = {10, 20, 100};
    return ms[key->item];
}

/* The first of three is there at 10 ms and passes at 20: the third is stopped after a fifth of its time and tokens. */
static void cancelled_tasks_save_their_rest(void **state)
{
    (void)state;
    struct law law = {.takes_ms = by_ordinal};
    struct scene scene =
        scene_new(&law, 3, 1, 1, (struct arm_text){"a", "sample", "elimination", "none", "first-pass", 3, 1, 0, 0});
    assert_int_equal(virtual_run(scene.fleet), 0);
    assert_done(&scene);
    assert_int_equal(virtual_now_ms(scene.fleet), 20);
    struct virtual_usage usage = virtual_usage(scene.fleet, false);
    assert_int_equal(usage.tasks, 3);
    assert_int_equal(usage.cancelled, 1);
    assert_int_equal(usage.busy_ms, 10 + 20 + 20);
    assert_int_equal(usage.saved_ms, 80);
    assert_int_equal(usage.saved_tokens, 80);
    assert_int_equal(core_sweep(scene.core, scene.sweep).waste[WASTE_CANCELLED].tokens, 1 + 20);
    scene_clear(&scene);
    buf_clear(&law.facts);
}

/* Durations with many ties. */
static int64_t drawn(const struct key *key)
{
    return key->kind == TASK_VERIFY ? 3 : (int64_t)(rng_u64(1, RNG_TEST, key->prompt, key->item) % 5);
}

/* The same facts, byte by byte; and the audit decides alike. */
static void one_seed_is_one_history(void **state)
{
    (void)state;
    struct buf first = {0};
    for (int run = 0; run < 2; run++) {
        struct law law = {.takes_ms = drawn};
        struct scene scene =
            scene_new(&law, 5, 3, 40, (struct arm_text){"a", "sample", "uniform", "beta", "best", 16, 1, NULL, 0});
        assert_int_equal(virtual_run(scene.fleet), 0);
        assert_done(&scene);
        assert_true(virtual_usage(scene.fleet, true).tasks > 40);
        scene_clear(&scene);
        if (run == 0) {
            first = law.facts;
            continue;
        }
        assert_int_equal(law.facts.len, first.len);
        assert_memory_equal(law.facts.data, first.data, first.len);
        buf_clear(&law.facts);
    }
    struct core *audited = core_new(&(struct core_options){.lease_ms = VIRTUAL_LEASE_MS});
    struct fact fact;
    struct error error = {""};
    assert_int_equal(core_audit_begin(audited), 0);
    for (size_t at = 0; at < first.len;) {
        assert_int_equal(fact_get(buf_slice(&first), &at, &fact), 0);
        if (core_audit_fact(audited, &fact, &error) != 0)
            fail_msg("%s", error.text);
    }
    core_free(&audited);
    buf_clear(&first);
}

/* A worker that fails five times in a row is benched for 30 s: virtual time goes on to when it comes back. */
static void time_passes_while_all_are_benched(void **state)
{
    (void)state;
    struct law law = {.takes_ms = by_prompt, .failing = 5};
    struct scene scene =
        scene_new(&law, 1, 1, 6, (struct arm_text){"a", "sample", "uniform", "none", "majority", 1, NO_ID, 0, 0});
    assert_int_equal(virtual_run(scene.fleet), 0);
    assert_done(&scene);
    assert_in_range(virtual_now_ms(scene.fleet), 30000, 31000);
    scene_clear(&scene);
    buf_clear(&law.facts);
}

/* Minutes, so that agents of a short life meet them. */
static int64_t minutes(const struct key *key)
{
    return key->kind == TASK_VERIFY ? 1000 : 60000 * (1 + (int64_t)(rng_u64(2, RNG_TEST, key->prompt, key->item) % 5));
}

static uint64_t digest_of(struct law *law, struct virtual_usage *usage, struct spending waste[WASTES])
{
    struct scene scene =
        scene_new(law, 6, 4, 40, (struct arm_text){"a", "sample", "uniform", "beta", "majority", 8, 1, NULL, 0});
    assert_int_equal(virtual_run(scene.fleet), 0);
    assert_done(&scene);
    *usage = virtual_usage(scene.fleet, false);
    struct sweep_info info = core_sweep(scene.core, scene.sweep);
    memcpy(waste, info.waste, sizeof info.waste);
    assert_int_equal(info.failed, 0); /* no task met three deaths: that one would be given up */
    uint64_t digest = core_digest(scene.core, scene.sweep);
    scene_clear(&scene);
    return digest;
}

/* Agents die and take tasks with them, answers come when nobody waits for them, and twice: the decisions are the same,
 * what was lost was burned, and one seed is one history. */
static void faults_cost_and_change_nothing(void **state)
{
    (void)state;
    struct law calm = {.takes_ms = minutes};
    struct law stormy = {
        .takes_ms = minutes,
        .faults = {.seed = 5, .deaths_per_hour = 1.5, .noticed_ms = 20000, .back_ms = 60000, .late = .3, .twice = .2}};
    struct virtual_usage usage[3];
    struct spending waste[3][WASTES];
    uint64_t digest = digest_of(&calm, &usage[0], waste[0]);
    assert_int_equal(digest_of(&stormy, &usage[1], waste[1]), digest);
    assert_int_equal(usage[0].deaths, 0);
    assert_int_equal(waste[0][WASTE_LOST].rollouts, 0);
    assert_true(usage[1].deaths >= 3);
    assert_true(usage[1].tasks > usage[0].tasks);
    assert_true(waste[1][WASTE_LOST].rollouts > 0);
    struct buf first = stormy.facts;
    stormy.facts = (struct buf){0};
    assert_int_equal(digest_of(&stormy, &usage[2], waste[2]), digest);
    assert_int_equal(stormy.facts.len, first.len);
    assert_memory_equal(stormy.facts.data, first.data, first.len);
    buf_clear(&first);
    buf_clear(&stormy.facts);
    buf_clear(&calm.facts);
}

static int refuse(void *arg, struct slice facts)
{
    (void)arg;
    (void)facts;
    return ERR_IO;
}

/* What cannot be committed is not sent. */
static void a_failed_commit_ends_it(void **state)
{
    (void)state;
    struct core *core = core_new(&(struct core_options){.lease_ms = VIRTUAL_LEASE_MS});
    struct virtual *fleet = virtual_new(
        core, &(struct virtual_options){.workers = 1, .slots = 1, .answer = answer, .commit = refuse});
    assert_int_equal(virtual_run(fleet), ERR_IO);
    virtual_free(&fleet);
    core_free(&core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_follow_each_other_on_slots), cmocka_unit_test(cancelled_tasks_save_their_rest),
        cmocka_unit_test(one_seed_is_one_history),          cmocka_unit_test(time_passes_while_all_are_benched),
        cmocka_unit_test(faults_cost_and_change_nothing),   cmocka_unit_test(a_failed_commit_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
