/* allocate_existing.c - only what the pool holds already: for new verdicts over old rollouts, which generate nothing.
 *
 * What `rollouts: existing` does for any arm (broker/core/cell.c), with equal shares. */
#include "broker/policy/policy.h"

static const struct option_row options[] = {{.name = NULL}};

static double existing_gain(const struct prompt_view *view)
{
    return view->opened < view->cap ? 1 : 0;
}

const struct allocator allocate_existing = {
    .name = "existing",
    .help = "rollouts that are there already, and no other",
    .version = 1,
    .needs = 0,
    .min_n = 1,
    .options = options,
    .existing = true,
    .gain = existing_gain,
    .solved = NULL,
};
