/* dice.c - laws by transformation and rejection; see dice.h. */
#include "broker/dice.h"

#include <math.h>

double dice_unit(struct dice *dice)
{
    return rng_unit(rng_u64(dice->seed, dice->purpose, dice->stream, dice->at++)) + 0x1p-54;
}

double dice_normal(struct dice *dice)
{
    double radius = sqrt(-2 * log(dice_unit(dice)));
    return radius * cos(6.283185307179586 * dice_unit(dice));
}

/* Marsaglia and Tsang 2000; below 1 by a power of a uniform. */
double dice_gamma(struct dice *dice, double shape)
{
    if (shape < 1)
        return dice_gamma(dice, shape + 1) * pow(dice_unit(dice), 1 / shape);
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = dice_normal(dice), v = 1 + c * x;
        v = v * v * v;
        if (v > 0 && log(dice_unit(dice)) < 0.5 * x * x + d - d * v + d * log(v))
            return d * v;
    }
}

double dice_beta(struct dice *dice, double a, double b)
{
    double x = dice_gamma(dice, a), y = dice_gamma(dice, b);
    return x / (x + y + 1e-300);
}
