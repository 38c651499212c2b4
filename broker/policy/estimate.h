/* estimate.h - how coverage grows with more rollouts: laws fitted to what was seen, and what they foretell.
 *
 * Prompts differ in their success rate. Where few rollouts of a prompt succeed, more of them help; where the rates of
 * a set follow Beta(alpha, beta), its failures fall as n^-alpha. SABER (arXiv 2601.22636) fits that law to
 * counts of successes and extrapolates from the coverage that was measured; the formulas of the estimators are theirs,
 * the optimiser, the standard error, the zero-inflated and the posterior-predictive forms are reconstructions.
 *
 * Pure functions without state: one build gives the same bits every time. */
#ifndef DROVER_ESTIMATE_H
#define DROVER_ESTIMATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What was seen of one prompt. */
struct estimate_count {
    uint32_t right, n;
};

/* A share `zero` of the prompts is never solved, the others' success rates are drawn from Beta(alpha, beta). */
struct rate_law {
    double alpha, beta, zero;
    double alpha_se;   /* standard error of alpha; INFINITY: the counts do not tell */
    double likelihood; /* logarithm, of the counts it was fitted to */
};

/* Maximum of the Beta-binomial likelihood; `zero` is 0. Prompts without rollouts say nothing. len > 0. */
struct rate_law fit_rates(const struct estimate_count *counts, size_t len);

/* The same with `zero` free. */
struct rate_law fit_rates_zero(const struct estimate_count *counts, size_t len);

/* The second, where the counts ask for it (likelihood-ratio test at 95%), else the first. A few rollouts do not tell
 * what is never solved from what seldom is: on 500 prompts of recorded answers, 10 rollouts each, the first law foretold
 * coverages of .901 and .918 at 20 and 40, the second .886 and .889, and .902 and .924 came. It is a caution. */
struct rate_law fit_rates_best(const struct estimate_count *counts, size_t len);

/* -- coverage: the share of prompts of which one of n rollouts is right ----------------------------------------- */

/* Under the law; n need not be whole. */
double coverage_exact(const struct rate_law *law, double n);

/* Coverage `seen`, with this standard error, was measured at n. What the law says of larger N from there, and the N
 * that reaches a target: INFINITY beyond what the law lets anything reach. */
struct anchor {
    double n, seen, se;
};
double coverage_anchored(const struct rate_law *law, struct anchor anchor, double n);
double budget_anchored(const struct rate_law *law, struct anchor anchor, double target);

/* z standard errors to either side, of alpha (not below 0) and of the anchor together: errors of ln(what is not
 * covered) add. SABER's own interval takes the anchor for certain. */
struct bounds {
    double low, high;
};
struct bounds coverage_bounds(const struct rate_law *law, struct anchor anchor, double n, double z);
struct bounds budget_bounds(const struct rate_law *law, struct anchor anchor, double target, double z);

/* Mean over these prompts of the posterior chance that one of n further rollouts, with those seen, is right. */
double coverage_posterior(const struct rate_law *law, const struct estimate_count *counts, size_t len, double n);

/* What uniform allocation needs for this coverage under the law; INFINITY when it never gets there. */
double coverage_inverse(const struct rate_law *law, double coverage);

/* -- exponentiated power law: ln coverage(k) = -a k^-b (Brown et al. 2024, section 3) ---------------------------- */

struct curve_point {
    double k, coverage, variance; /* variance of the coverage; 0: all points weigh the same */
};

struct power_law {
    double a, b;
};

/* Least squares of ln(-ln coverage) on ln k, over the points strictly between 0 and 1. False: fewer than two. */
bool fit_power(const struct curve_point *points, size_t len, struct power_law *law);
double power_at(const struct power_law *law, double k);

/* Mean relative error beyond k_max of the law that the points up to k_max give; NAN when either side lacks points. */
double power_held_out(const struct curve_point *points, size_t len, double k_max);

#endif
