/* saving.h - how much less an adaptive arm pays for the accuracy that a uniform arm of the same pool reaches too.
 *
 * The uniform arm's accuracy against N is smoothed to rise (isotonic regression), inverted at the accuracy of the
 * adaptive arm, and what it would have cost there is divided by what the adaptive arm cost. A saving depends on the
 * prompts as much as on the method: show it beside their mix. */
#ifndef DROVER_SAVING_H
#define DROVER_SAVING_H

#include "broker/policy/estimate.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One prompt under one arm and cap. */
struct saving_cell {
    double right, rollouts, tokens, cost; /* cost: money */
};

/* Paired: the same prompts in the same order. */
struct saving_input {
    const struct saving_cell *uniform; /* [prompt][steps], the caps rising */
    const struct saving_cell *adaptive;
    size_t prompts, steps;
};

enum saving_place { SAVING_BETWEEN, SAVING_BELOW, SAVING_BEYOND };

struct saving {
    double accuracy;               /* of the adaptive arm */
    double difference;             /* of that to the uniform arm's at its last cap */
    double rollouts, tokens, cost; /* of the uniform arm over those of the adaptive one; not finite without any */
    struct bounds difference_95, rollouts_95, tokens_95, cost_95;
    enum saving_place place; /* BELOW all accuracies of the uniform arm: at most so much; BEYOND: at least */
};

/* prompts > 0, steps > 0. Intervals: bootstrap over prompts, both arms resampled alike, a pure function of the seed. */
struct saving saving_of(const struct saving_input *input, uint64_t seed);

/* 1, 2, 3, 4, 6, 8, 12, ... and n: caps enough for a smooth curve, few enough for many resamples. How many; n > 0. */
enum { SAVING_STEPS_MAX = 64 };
uint32_t saving_steps(uint32_t n, uint32_t steps[SAVING_STEPS_MAX]);

/* The nearest values that never fall: pool adjacent violators. */
void isotonic(double *values, size_t len);

#endif
