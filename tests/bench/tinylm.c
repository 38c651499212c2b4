/* tinylm.c - tokens per second of the embedded model: tinylm [model file] [rollouts]. One thread,
 * batch 1, 8, 16.
 *
 * Eight rollouts of each prompt, as a sweep asks for them; a finished row is replaced at once.
 * Generated tokens count, those of prompts do not. */
#include "worker/tinylm.h"

#include "common/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char *const prompts[] = {
    "C24:3,5,7,9\n", "A7*8+35-16\n",   "C36:4,8,12\n",       "C50:2,6,11,13,18\n",
    "A12+40-9*3\n",  "C17:1,4,9,20\n", "A88-13+25*2+7-60\n", "C91:7,13,5,2\n",
};
enum { PROMPTS = sizeof prompts / sizeof prompts[0], EACH = 8 };

static const struct tinylm_sampling plain = {.temperature = 1, .top_p = 1, .min_p = 0};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void rollout_start(struct tinylm *lm, uint32_t rollout, struct tinylm_draw *draw)
{
    uint16_t tokens[64] = {TINYLM_BOS};
    uint32_t warm;
    struct slice prompt = slice_of(prompts[rollout / EACH % PROMPTS]);
    if (tinylm_encode(lm, prompt, tokens + 1, NULL) != 0)
        abort();
    *draw = (struct tinylm_draw){.sampling = &plain, .seed = rng_u64(1, RNG_TEST, rollout, 0)};
    draw->row = tinylm_row_new(lm, tokens, (uint32_t)prompt.len + 1, &warm);
}

static void measure(struct tinylm *lm, size_t batch, uint32_t rollouts)
{
    struct tinylm_draw draws[TINYLM_BATCH_MAX];
    uint32_t next = 0;
    uint64_t generated = 0;
    size_t len = 0;
    double start = seconds();
    for (;;) {
        while (len < batch && next < rollouts)
            rollout_start(lm, next++, draws + len++);
        if (len == 0)
            break;
        tinylm_step(lm, draws, len);
        generated += len;
        for (size_t i = 0; i < len;) {
            draws[i].position++;
            if (draws[i].token != TINYLM_EOS && tinylm_row_len(draws[i].row) <= tinylm_context(lm)) {
                i++;
                continue;
            }
            tinylm_row_free(lm, &draws[i].row);
            draws[i] = draws[--len];
        }
    }
    double took = seconds() - start;
    printf("tinylm batch=%zu rollouts=%u tokens=%llu seconds=%.3f tokens_per_s=%.0f\n", batch, rollouts,
           (unsigned long long)generated, took, (double)generated / took);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "models/tiny.tlm";
    uint32_t rollouts = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 512;
    struct tinylm *lm;
    struct error error;
    if (!tinylm_supported() || tinylm_open(path, 64 << 20, &lm, &error) != 0) {
        fprintf(stderr, "tinylm: %s\n", tinylm_supported() ? error.text : "no AVX2 here");
        return 1;
    }
    measure(lm, 1, rollouts / 4);
    measure(lm, 8, rollouts);
    measure(lm, 16, rollouts);
    tinylm_close(&lm);
    return 0;
}
