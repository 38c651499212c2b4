/* lead.h - what the stoppers of votes share: the two largest counts, and the way to a stop. */
#ifndef DROVER_LEAD_H
#define DROVER_LEAD_H

#include "broker/policy/policy.h"

/* a >= b: the two largest counts of answers, 0 where there is none. */
struct lead {
    uint32_t a, b;
};
struct lead lead_of(const struct stats *stats);

/* Rollouts that the cap leaves, beyond the delivered ones. */
uint32_t rollouts_left(const struct prompt_view *view);

/* The room of a stopper that needs this many further votes, and answers_min answers in all: at least one rollout, and
 * never more than the cap leaves. */
uint32_t room_until(const struct prompt_view *view, uint32_t votes, uint32_t answers_min);

#endif
