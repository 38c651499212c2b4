/* allocate_uniform.c - every prompt gets its cap: the baseline that every saving is measured
 * against.
 *
 * The gain is the same for all prompts that are not full; the core breaks ties by prompt number, so
 * prompts are finished one after the other. */
#include "broker/policy/policy.h"

static const struct option_row options[] = {{.name = NULL}};

static double uniform_gain(const struct prompt_view *view)
{
    return view->opened < view->cap ? 1 : 0;
}

const struct allocator allocate_uniform = {
    .name = "uniform",
    .help = "the same number of rollouts for every prompt",
    .version = 1,
    .needs = 0,
    .min_n = 1,
    .options = options,
    .gain = uniform_gain,
    .solved = NULL,
};
