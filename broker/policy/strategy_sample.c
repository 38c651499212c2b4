/* strategy_sample.c - independent rollouts of one prompt, taken from the shared pool.
 *
 * There is no tree: allocator and stopper alone say how many rollouts exist. */
#include "broker/policy/policy.h"

static const struct option_row options[] = {{.name = NULL}};

const struct strategy strategy_sample = {
    .name = "sample",
    .help = "independent rollouts of one prompt",
    .version = 1,
    .needs = 0,
    .min_n = 1,
    .options = options,
    .trees = NULL,
    .record_size = NULL,
    .plan = NULL,
};
