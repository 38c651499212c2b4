/* leg_vote.h - the votes of each leg alone, for policies that compare models or temperatures with each other. */
#ifndef DROVER_LEG_VOTE_H
#define DROVER_LEG_VOTE_H

#include "broker/policy/policy.h"

struct leg_vote {
    uint32_t rollouts; /* delivered of this leg */
    uint64_t class;    /* the leg's most frequent answer, 0: it has none; ties: the one that it gave first */
    uint32_t count;    /* rollouts of the leg that gave it */
};

/* The votes of a prefix whose items are kept; how many legs have rollouts. O(n log n). */
uint32_t leg_votes(const struct stats *stats, struct leg_vote votes[LIMIT_LEGS]);

/* The answer that leads in most legs, and in how many; ties: the one with more rollouts in all, then the one seen first.
 * Index of a class, NO_ORDINAL: no leg has an answer. */
uint32_t leg_votes_top(const struct stats *stats, const struct leg_vote votes[LIMIT_LEGS], uint32_t *legs);

#endif
