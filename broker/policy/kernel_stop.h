/* kernel_stop.h - the arithmetic of the stopping rules; see kernel.h. */
#ifndef DROVER_KERNEL_STOP_H
#define DROVER_KERNEL_STOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The smallest a > b with half_density(a, b) <= limit; limit in (0, 1). */
uint32_t half_density_least(uint32_t b, double limit);

/* A normal law cut to [0, 1]: mean and deviation are those before the cut. */
struct cut_normal {
    double mean, sd;
};
#define CUT_NORMAL_SD_MIN 0.02

/* Its distribution function at x in [0, 1]. */
double cut_normal_cdf(struct cut_normal law, double x);

/* How many draws reach x with probability 1 - miss: a whole number >= 1, or INFINITY. miss in (0, 1). */
double cut_normal_draws(struct cut_normal law, double x, double miss);

/* The law with mean in [0, 1] and sd in [CUT_NORMAL_SD_MIN, 1] that fits n >= 1 draws best, given their sum and sum of
 * squares. With a prior: the most probable one, when mean and sd are normal around the prior's with deviation .1. A
 * compass search: the same on every build up to rounding. */
struct draws {
    double n, sum, sumsq;
};
struct cut_normal cut_normal_fit(struct draws draws, const struct cut_normal *prior);

/* A prompt whose rate of right rollouts is from Beta(a, b), and a verifier that accepts a right one with chance tpr and
 * a wrong one with chance fpr: what the next rollout is after n that were not accepted. 64 points of quadrature. */
struct accepting {
    double a, b, tpr, fpr;
};
struct outlook {
    double right, wrong; /* chances that it is accepted and right, accepted and wrong */
};
struct outlook accept_outlook(struct accepting prompt, uint32_t n);

/* Of rollouts that pass with chance p, on prompts of which a share of `ceiling` can be solved, the n + 1st adds
 * ceiling * p * (1 - p)^n to the chance that one passes: the fewest n >= 1 for which that is below eps. p in (0, 1). */
double saturation_point(double p, double eps, double ceiling);

/* What one more vote is worth where the two leading answers have a >= b votes, d = a - b (the FLIP index, ours): the
 * chance that the next d + 1 votes all go to the second under Beta(a + 1, b + 1), times the edge that it then has in
 * being right, per vote. As a product of factorials, C(a + b + 1, b) / 4^(a + 1) / (d + 1), and half of it for d = 0. */
double flip_index(uint32_t a, uint32_t b);

/* Expected excess of Student's t over u >= 0, E[max(0, T - u)]; dof > 1. */
double student_excess(double u, double dof);

#endif
