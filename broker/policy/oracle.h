/* oracle.h - the most that any allocation could reach, for those who would know every prompt's success rate.
 *
 * Not deployable: bounds to hold a policy against. One above its bound has a bug. Derived, not from a paper. */
#ifndef DROVER_ORACLE_H
#define DROVER_ORACLE_H

#include "broker/policy/estimate.h"

/* Counts fixed before any result: rollouts go where the next one gains most, rate (1 - rate)^n, until all gain
 * `lambda`; they need not be whole. A hopeless prompt gets none. */
double oracle_static_count(double rate, double lambda);

/* Coverage of the best such counts that sum to the budget; counts: room for len, or NULL. */
double oracle_static(const double *rates, size_t len, double budget, double *counts);

/* A prompt gets nothing more once it is solved: each rollout is worth its rate, so the easiest are served first, each
 * until it is solved. Coverage for a budget of rollouts, all prompts together. */
double oracle_feedback(const double *rates, size_t len, double budget);

/* Every prompt until it is solved, or this many rollouts, which is elimination with a perfect verifier: what it
 * covers, and the rollouts per prompt that it takes. */
struct elimination {
    double coverage, cost;
};
struct elimination elimination_at(const struct rate_law *law, uint32_t depth);

#endif
