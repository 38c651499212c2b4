/* kernel.h - the arithmetic that policies, reports and their tests share.
 *
 * Plain functions of numbers. Sums run in index order, so that one build gives the same bits every
 * time. What a stopping rule needs is exact up to rounding of + - * / and uses no libm function
 * that could differ. */
#ifndef DROVER_KERNEL_H
#define DROVER_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* P(Beta(a + 1, b + 1) > 1/2): how sure a votes against b are of their lead. O(min(a, b)). */
double half_tail(uint32_t a, uint32_t b);

/* half_tail(a, b) >= threshold, and the smallest a >= b that reaches it; threshold in (1/2, 1). For
 * .95 and b < 64 both look into a table. */
bool half_tail_reached(uint32_t a, uint32_t b, double threshold);
uint32_t half_tail_least(uint32_t b, double threshold);

/* Density of Beta(a + 1, b + 1) at 1/2, the statistic of PPR-1v1. */
double half_density(uint32_t a, uint32_t b);

/* Probability that n rollouts of a prompt all fail when its success rate is drawn from Beta(a, b).
 * O(n). */
double beta_survival(double a, double b, uint32_t n);

/* Distribution function of Beta(a, b), the regularised incomplete beta function; a, b > 0. */
double beta_cdf(double a, double b, double x);

/* Interval of a rate of which hits of n were seen, of at least this level (Clopper and Pearson 1934). n > 0. */
void binomial_interval(uint64_t hits, uint64_t n, double level, double *low, double *high);

/* Chance that one of k rollouts, drawn from n of which `right` are right, is right: Chen et al.
 * 2021, section 2.1. k = 1..n. */
double pass_at_k(uint32_t n, uint32_t right, uint32_t k);

/* Chance that the best-scored of k rollouts, drawn from these n, is right; tied scores count with
 * the mean of their `right`. Sorts the rollouts by score. k = 1..n. */
struct scored_rollout {
    double score;
    double right; /* 0 or 1 */
};
double best_of_k(struct scored_rollout *rollouts, size_t n, size_t k);

/* How far the best of n rollouts may stray from the model's own distribution: the bound ln n - (n - 1) / n on their
 * Kullback-Leibler divergence, in nats (Beirami et al. 2024). n > 0. */
double best_of_n_divergence(uint32_t n);

/* ln(sum of exp); -INFINITY for nothing. */
double log_sum_exp(const double *x, size_t n);

/* Effective sample size 1 / sum of W^2 of these log-weights, W normalised. */
double effective_size(const double *log_weights, size_t n);

/* Replace log-weights by normalised weights; returns what log_sum_exp gave. */
double weights_normalise(double *log_weights, size_t n);

/* How many children each of n weights gets, n in all: systematic resampling with one uniform u in
 * [0, 1). Each count is the floor or the ceiling of n times the weight. */
void resample_systematic(const double *weights, size_t n, double u, uint32_t *counts);

/* Multinomial resampling: turn weights into running sums once, then pick an index for each uniform.
 */
void weights_cumulate(double *weights, size_t n);
size_t resample_pick(const double *cumulated, size_t n, double u);

#endif
