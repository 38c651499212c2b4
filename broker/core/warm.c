/* warm.c - which agent has read a prompt, so that its other rollouts can read it from that agent's cache.
 *
 * Volatile, and kept only for backends with a prefix cache. Per pool, each prompt has a home: the first agent that got a
 * rollout of it and is still there. Each agent knows the prompts it got last. An agent takes from its own prompts first,
 * then what is nobody's, then a new prompt, and only when there is nothing else a prompt of another agent: to read it again
 * costs less than to stand idle, for reading is fast beside generating. */
#include "broker/core/core_int.h"

#include <string.h>

struct agent *warm_home(const struct core *core, uint32_t pool, uint32_t prompt)
{
    const uint64_t *homes = core->pools[pool].homes;
    return homes == NULL || homes[prompt] == 0 ? NULL : agent_find(core, homes[prompt]);
}

void warm_note(struct core *core, uint32_t id, uint32_t prompt, struct agent *agent)
{
    struct pool *pool = &core->pools[id];
    if ((backend_has(core->models[pool->model].backend) & BACKEND_PREFIX) == 0)
        return;
    if (pool->homes == NULL)
        pool->homes = xalloc(core->sets[pool->set].len * sizeof *pool->homes);
    if (warm_home(core, id, prompt) == NULL)
        pool->homes[prompt] = agent->id;
    for (uint32_t i = 0; i < RECENT; i++)
        if (agent->recent[i].pool == id && agent->recent[i].prompt == prompt)
            return;
    agent->recent[agent->recent_at++ % RECENT] = (struct recent){id, prompt};
}

bool warm_next(const struct core *core, const struct arm *arm, uint32_t leg, const struct agent *agent,
               uint32_t *prompt)
{
    uint32_t pool = arm->pools[leg];
    for (uint32_t i = 0; i < RECENT && i < agent->recent_at; i++) {
        const struct recent *recent = &agent->recent[i];
        if (recent->pool != pool || core->pools[pool].stocks[recent->prompt].issued >=
                                        schedule_reach(&arm->schedule, leg, cell_wants(&arm->cells[recent->prompt])))
            continue;
        *prompt = recent->prompt;
        return true;
    }
    return false;
}
