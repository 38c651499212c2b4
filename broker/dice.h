/* dice.h - a stream of random numbers of usual laws, that a key alone fixes.
 *
 * Streams of different keys are independent and may be read in any order, so whatever is drawn of a prompt or a rollout is
 * a pure function of its key. The laws use libm: bits may differ between machines. */
#ifndef DROVER_DICE_H
#define DROVER_DICE_H

#include "common/rng.h"

struct dice {
    uint64_t seed;
    enum rng_purpose purpose;
    uint64_t stream, at; /* which, and how far it is read */
};

double dice_unit(struct dice *dice); /* in (0, 1] */
double dice_normal(struct dice *dice);
double dice_gamma(struct dice *dice, double shape);      /* shape > 0 */
double dice_beta(struct dice *dice, double a, double b); /* a, b > 0 */

#endif
