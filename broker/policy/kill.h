/* kill.h - the confidence below which a rollout is ended while it is generated.
 *
 * A worker gets a number with its task, since asking for each token is not affordable. That number must not depend on
 * what happened to be finished when the task went out, or decisions would differ from run to run: it follows from the
 * warm-up alone, a fixed prefix of the pool, and what stands behind the warm-up is issued when all of it is there. */
#ifndef DROVER_KILL_H
#define DROVER_KILL_H

#include "broker/policy/policy.h"

/* The first rollouts of a pool that have a lowest confidence: their confidences, in order. */
struct warmup {
    uint32_t len;
    double weights[WARMUP_MAX];
};

/* Adds the next rollout of the pool; true: the warm-up is complete. warmup: at most WARMUP_MAX. */
bool warmup_add(struct warmup *warmup, const struct kill_rule *rule, const struct item *item);

/* Whether arms with these end the same rollouts, and may share a pool. */
bool kill_same(const struct kill_rule *a, const struct kill_rule *b);

/* The percentile that `keep` percent reach, linear between ranks, as in the code of DeepConf (Fu et al. 2025). At least
 * one weight; they are sorted by it. */
double warmup_threshold(struct warmup *warmup, const struct kill_rule *rule);

#endif
