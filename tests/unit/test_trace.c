/* test_trace.c - journals of earlier releases must still replay: stored facts, the state they build, decisions again.
 *
 * tests/trace/NAME.facts holds the facts of a small history, NAME.digest what it decided. A change of a fact's form, of
 * the core's arithmetic or of a policy's decisions shows here. After a change that is meant (a new policy version, say),
 * TRACE_WRITE=1 build/tests/test_trace writes new ones; old ones stay, under a name that tells their release. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "common/rng.h"
#include "tests/unit/play.h"

#include <stdio.h>

static bool answer(const struct send *task, struct event *event, struct buf *text)
{
    uint64_t bits = rng_mix(task->seed);
    buf_puts(text, "t");
    if (task->key.kind == TASK_VERIFY) {
        double score = rng_unit(bits);
        event->verdict.verdict = (struct verdict){score < .1   ? OUTCOME_UNKNOWN
                                                  : score > .6 ? OUTCOME_PASS
                                                               : OUTCOME_FAIL,
                                                  score};
        event->verdict.latency_ms = 3;
        return true;
    }
    event->result.class = bits % 4;
    event->result.result = (struct result){
        .finish = task->step && bits % 10 < 6 ? FINISH_STEP : FINISH_STOP,
        .tokens_in = 7,
        .tokens_out = 1 + (uint32_t)(bits >> 8) % 50,
        .latency_ms = 10,
        .features = {1u << FEATURE_LP_MEAN, {[FEATURE_LP_MEAN] = -rng_unit(bits)}},
    };
    return bits % 97 != 0; /* now and then a task fails for good */
}

static void sampling(struct play *play)
{
    put_sweep(play, "s", 0, 0);
    put_arm(play, 0, (struct arm_text){"vote", "sample", "uniform", "none", "majority", 8, NO_ID, NULL, 0});
    put_arm(play, 1, (struct arm_text){"beta", "sample", "uniform", "beta", "majority", 16, NO_ID, NULL, 0});
    put_arm(play, 2, (struct arm_text){"drop", "sample", "elimination", "none", "first-pass", 12, 1, NULL, 0});
}

static void searching(struct play *play)
{
    put_sweep(play, "s", 0, 0);
    put_arm(play, 0, (struct arm_text){"particles", "particles", "uniform", "none", "best", 4, 1, NULL, 0});
    put_arm(play, 1, (struct arm_text){"dvts", "dvts", "uniform", "none", "best", 8, 1, NULL, 0});
}

static void budgeted(struct play *play)
{
    put_sweep(play, "s", NO_ID, 30);
    put_arm(play, 0, (struct arm_text){"best", "sample", "uniform", "none", "best", 8, 1, NULL, 0});
    put_arm(play, 1, (struct arm_text){"beta", "sample", "uniform", "beta", "weighted", 8, 1, NULL, 0});
}

/* Runs a history in two epochs, so that it holds orphans and adoptions' facts as well. */
static void history(void (*define)(struct play *), struct buf *facts)
{
    struct play play = play_new(NULL);
    play.answer = answer;
    put_prompts(&play, 6, 2);
    put_model(&play, "m");
    define(&play);
    play_submit(&play);
    play.left = 25;
    for (int epoch = 0; epoch < 2; epoch++) {
        play_hello(&play, PLAY_WORKER, "w", false, "sim", 8);
        play_hello(&play, PLAY_VERIFIER, "v", true, "check", 8);
        play_tasks(&play);
        core_free(&play.core);
        play.core = play_replay(&play);
        core_free(&play.core);
        play.core = core_new(&(struct core_options){.lease_ms = 1000});
        struct fact fact;
        for (size_t at = 0; at < play.facts.len && fact_get(buf_slice(&play.facts), &at, &fact) == 0;)
            assert_int_equal(core_apply(play.core, &fact), 0);
        update_reset(&play.update);
        core_start(play.core, play.now_ms, true, &play.update);
        play_commit(&play);
        play.left = UINT32_MAX;
    }
    buf_put(facts, play.facts.data, play.facts.len);
    play_clear(&play);
}

static void read_file(const char *path, struct buf *out)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("%s is missing", path);
    char block[4096];
    size_t len;
    while ((len = fread(block, 1, sizeof block, file)) > 0)
        buf_put(out, block, len);
    fclose(file);
}

static void write_file(const char *path, struct slice bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes.data, 1, bytes.len, file), bytes.len);
    fclose(file);
}

static struct core *audit(struct slice facts)
{
    struct core *core = core_new(&(struct core_options){.lease_ms = 1000, .keep_nodes = true});
    struct error error = {""};
    struct fact fact;
    core_audit_begin(core);
    for (size_t at = 0; at < facts.len;) {
        assert_int_equal(fact_get(facts, &at, &fact), 0);
        if (core_audit_fact(core, &fact, &error) != 0)
            fail_msg("%s", error.text);
    }
    assert_int_equal(core_audit_end(core, &error), 0);
    if (core_check(core, &error) != 0)
        fail_msg("%s", error.text);
    return core;
}

static void check_trace(const char *name, void (*define)(struct play *))
{
    char facts_path[200], digest_path[200], digest[32];
    struct buf facts = {0}, expected = {0};
    snprintf(facts_path, sizeof facts_path, "tests/trace/%s.facts", name);
    snprintf(digest_path, sizeof digest_path, "tests/trace/%s.digest", name);
    bool write = getenv("TRACE_WRITE") != NULL;
    if (write)
        history(define, &facts);
    else
        read_file(facts_path, &facts);
    struct core *core = audit(buf_slice(&facts));
    snprintf(digest, sizeof digest, "%016llx\n", (unsigned long long)core_digest(core, 0));
    core_free(&core);
    if (write) {
        write_file(facts_path, buf_slice(&facts));
        write_file(digest_path, slice_of(digest));
    } else {
        read_file(digest_path, &expected);
        assert_string_equal(digest, expected.data);
    }
    buf_clear(&facts);
    buf_clear(&expected);
}

static void sampling_1(void **state)
{
    (void)state;
    check_trace("sampling-1", sampling);
}

static void searching_1(void **state)
{
    (void)state;
    check_trace("searching-1", searching);
}

static void budgeted_1(void **state)
{
    (void)state;
    check_trace("budgeted-1", budgeted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampling_1),
        cmocka_unit_test(searching_1),
        cmocka_unit_test(budgeted_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
