/* core.c - the production core with a million prompts, in virtual time: what one rollout costs it, from the allocator's
 * choice to the next gain in the heap, and what an idle (arm, prompt) keeps in memory.
 *
 * core [PROMPTS [ROLLOUTS]]: no sockets, journal or texts; 64 workers with 16 slots, so the heap moves at every step. */
#include "broker/policy/policy.h"
#include "broker/virtual.h"
#include "common/rng.h"
#include "tests/unit/play.h"

#include <malloc.h>
#include <stdio.h>
#include <time.h>

enum { ARMS = 4, N = 64, TARGET_BYTES = 300 };

static uint32_t prompts = 1000000, rollouts = 300000;

static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static double held_bytes(void)
{
    struct mallinfo2 info = mallinfo2();
    return (double)info.uordblks + (double)info.hblkhd;
}

/* Arms that draw from one pool, and may use `rollouts` each. */
static void put_arms(struct play *play, const char *allocator, uint32_t arms)
{
    put_prompts(play, prompts, 0);
    put_model(play, "m");
    put_sweep(play, "s", NO_ID, 0);
    for (uint32_t i = 0; i < arms; i++) {
        char name[16];
        double options[4][POLICY_OPTIONS_MAX] = {{0}};
        const struct option_row *rows = allocator_find(allocator)->options;
        for (int o = 0; rows != NULL && rows[o].name != NULL; o++)
            options[1][o] = rows[o].fallback;
        snprintf(name, sizeof name, "arm%u", i);
        fact_put(&play->definitions, &(struct fact){.type = FACT_arm,
                                                    .arm = {.id = i,
                                                            .name = slice_of(name),
                                                            .strategy = slice_of("sample"),
                                                            .allocator = slice_of(allocator),
                                                            .stopper = slice_of("none"),
                                                            .selector = slice_of("majority"),
                                                            .n = N,
                                                            .verifier = NO_ID,
                                                            .rollouts = rollouts,
                                                            .options = {(const char *)options, sizeof options}}});
    }
}

/* Bytes that a core holds once a sweep with so many arms is submitted and nothing has run. */
static double idle_bytes(const char *allocator, uint32_t arms)
{
    double before = held_bytes();
    struct play play = play_new(NULL);
    put_arms(&play, allocator, arms);
    play_submit(&play);
    buf_clear(&play.definitions);
    buf_clear(&play.facts);
    buf_clear(&play.texts);
    update_clear(&play.update);
    double held = held_bytes() - before;
    play_clear(&play);
    return held;
}

/* Answers of few kinds, which come after times that differ. */
static int64_t answer(void *arg, const struct send *task, const struct ref *refs, uint32_t agent, struct event *event)
{
    (void)arg, (void)refs, (void)agent;
    uint64_t draw = rng_u64(1, RNG_NODE, task->key.prompt, task->key.item);
    event->result.class = 1 + draw % 3;
    event->result.result = (struct result){.tokens_in = 10, .tokens_out = 50, .finish = FINISH_STOP};
    return 100 + (int64_t)(draw >> 8) % 100;
}

/* Nanoseconds of CPU per rollout: choose, open, lease, take the result, deliver, and the new gain into the heap. */
static double step_ns(const char *allocator)
{
    struct play play = play_new(NULL);
    put_arms(&play, allocator, 1);
    struct core *core = core_new(&(struct core_options){.lease_ms = VIRTUAL_LEASE_MS});
    struct virtual *fleet = virtual_new(core, &(struct virtual_options){.workers = 64, .slots = 16, .answer = answer});
    virtual_event(fleet, (struct event){.type = EVENT_SUBMIT, .submit.definitions = buf_slice(&play.definitions)}, NULL,
                  NULL);
    double before = cpu_ns();
    virtual_run(fleet);
    double spent = cpu_ns() - before;
    uint64_t done = virtual_usage(fleet, false).tasks;
    virtual_free(&fleet);
    core_free(&core);
    play_clear(&play);
    if (done != rollouts) {
        fprintf(stderr, "core: %s handed out %llu rollouts, not %u\n", allocator, (unsigned long long)done, rollouts);
        exit(1);
    }
    return spent / (double)done;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        prompts = (uint32_t)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        rollouts = (uint32_t)strtoul(argv[2], NULL, 10);
    double one = idle_bytes("flip", 1), more = idle_bytes("flip", ARMS);
    double each = (more - one) / (ARMS - 1) / prompts;
    printf("%u prompts: %.0f bytes per prompt with one arm, %.0f more for each other arm; target: %d\n", prompts,
           one / prompts, each, TARGET_BYTES);
    for (size_t i = 0; allocators[i] != NULL; i++) {
        if (allocators[i]->existing)
            continue;
        printf("%-20s %.2f us of the core's CPU per rollout, its decision included%s\n", allocators[i]->name,
               step_ns(allocators[i]->name) / 1000,
               allocators[i]->spent ? "; all gains are computed anew at each 64th of the budget" : "");
    }
    return one / prompts > TARGET_BYTES;
}
