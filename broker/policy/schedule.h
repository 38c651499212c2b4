/* schedule.h - in which order an arm over several pools draws from them.
 *
 * An arm has legs, one for each pool. Position k of its rollouts is one ordinal of one leg, a function of the schedule
 * alone: so what an arm was delivered is a prefix of a fixed sequence, whatever arrives first. With one leg positions
 * are ordinals. */
#ifndef DROVER_SCHEDULE_H
#define DROVER_SCHEDULE_H

#include "common/limits.h"

#include <stdbool.h>
#include <stdint.h>

#define NO_POSITION UINT32_MAX

struct schedule {
    bool rounds;              /* so many of each leg, again and again; else in blocks: all of one leg, then the next */
    uint32_t legs;            /* 1..LIMIT_LEGS */
    uint32_t len[LIMIT_LEGS]; /* of each leg: its block, of which the last goes on to n; or its share of a round */
};

struct drawn {
    uint32_t leg, ordinal;
};

/* Has it legs, each with a length, and is every leg reached within n? */
bool schedule_valid(const struct schedule *schedule, uint32_t n);

bool schedule_equal(const struct schedule *a, const struct schedule *b);

struct drawn schedule_draw(const struct schedule *schedule, uint32_t position);
/* The position that draws this ordinal of this leg; NO_POSITION: none does. */
uint32_t schedule_position(const struct schedule *schedule, uint32_t leg, uint32_t ordinal);
/* How many of the first `positions` are of this leg: its ordinals below that. */
uint32_t schedule_reach(const struct schedule *schedule, uint32_t leg, uint32_t positions);
/* First position behind the block or round that `position` is in; NO_POSITION: the last block, which has no end. */
uint32_t schedule_end(const struct schedule *schedule, uint32_t position);

#endif
