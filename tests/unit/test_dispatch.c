/* test_dispatch.c - which work goes out first, and what is not opened yet. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_no_more_than_agents_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
