/* leg.c - the legs of a sampling arm: which rollout of which pool stands at which of its positions. */
#include "broker/core/core_int.h"

uint32_t arm_leg(const struct arm *arm, uint32_t pool)
{
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++)
        if (arm->pools[leg] == pool)
            return leg;
    return NO_ID;
}

uint32_t arm_position(const struct arm *arm, uint32_t pool, uint32_t ordinal)
{
    uint32_t leg = arm_leg(arm, pool);
    return leg == NO_ID ? NO_POSITION : schedule_position(&arm->schedule, leg, ordinal);
}

uint32_t arm_reach(const struct arm *arm, uint32_t pool, uint32_t positions)
{
    uint32_t leg = arm_leg(arm, pool);
    return leg == NO_ID ? 0 : schedule_reach(&arm->schedule, leg, positions);
}

struct key arm_key(const struct arm *arm, uint32_t prompt, uint32_t position)
{
    struct drawn draw = schedule_draw(&arm->schedule, position);
    return (struct key){TASK_GENERATE, arm->pools[draw.leg], prompt, NO_ID, draw.ordinal, NO_ID};
}

const struct row *arm_row(const struct core *core, const struct arm *arm, uint32_t prompt, uint32_t position)
{
    struct key key = arm_key(arm, prompt, position);
    return key_row(core, &key);
}

bool arms_share(const struct arm *a, const struct arm *b)
{
    for (uint32_t leg = 0; leg < a->schedule.legs; leg++)
        if (arm_leg(b, a->pools[leg]) != NO_ID)
            return true;
    return false;
}

uint32_t key_pool(const struct core *core, const struct key *key)
{
    return key->tree == NO_ID ? key->owner : core->arms[key->owner].pools[0];
}
