/* decisions.h - what each arm of a sweep made of a rollout: whether it used it, whether it selected it, and how it
 * decided the prompt. For those who train on rollouts. */
#ifndef DROVER_DECISIONS_H
#define DROVER_DECISIONS_H

#include "broker/core/read.h"
#include "common/limits.h"

/* One arm's decision on one prompt. */
struct decision {
    struct arm_info arm;
    struct cell_info cell;
    uint32_t winners[LIMIT_TOP], len; /* positions, best first; none until it is decided, or if it abstained */
};

struct decisions {
    const struct core *core;
    uint32_t prompt, len, cap;
    struct decision *at;
};

/* Takes those of the arms of the sweep that draw from the pool in place of what was there; clear in the end. */
void decisions_of_pool(struct decisions *decisions, const struct core *core, uint32_t sweep, uint32_t pool,
                       uint32_t prompt);
void decisions_of_tree(struct decisions *decisions, const struct core *core, uint32_t arm, uint32_t prompt);
void decisions_clear(struct decisions *decisions);

/* Adds the keys `selected`, names of the arms that submitted the rollout or node, and `decisions`, one for each arm. */
void decisions_put(const struct decisions *decisions, const struct key *key, struct buf *json);

#endif
