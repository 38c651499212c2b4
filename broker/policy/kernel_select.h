/* kernel_select.h - the arithmetic of selectors: quantiles, a mixture of lifetimes, a pessimistic distribution. */
#ifndef DROVER_KERNEL_SELECT_H
#define DROVER_KERNEL_SELECT_H

#include <stdbool.h>
#include <stddef.h>

/* Quantile with linear interpolation between the order statistics, q in [0, 1] (numpy's default). Sorts x; n > 0. */
double quantile_linear(double *x, size_t n, double q);

/* The threshold l with mean of max(0, (r - l) / beta) = 1: chances proportional to max(0, r - l) are the regularised
 * best of n under a chi-square penalty beta > 0. Sorts r, largest first; n > 0. */
double chi2_threshold(double *r, size_t n, double beta);

/* Mixture of two Weibull distributions, share[0] + share[1] = 1. */
struct weibull_mixture {
    double share[2], shape[2], scale[2];
    bool singular; /* the data are all alike: there is no such mixture */
};

/* Maximum likelihood with shares in [.2, .8], by a fixed number of EM steps; x > 0. Component 1 has the larger mean. */
struct weibull_mixture weibull_mixture_fit(const double *x, size_t n);

/* Chance that x came from component 1. */
double weibull_mixture_upper(const struct weibull_mixture *mixture, double x);

#endif
