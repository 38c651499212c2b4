/* decisions.c - see decisions.h. */
#include "broker/decisions.h"

#include "broker/report_curve.h"
#include "common/json.h"

#include <math.h>
#include <stdlib.h>

static void begin(struct decisions *decisions, const struct core *core, uint32_t prompt)
{
    decisions->core = core;
    decisions->prompt = prompt;
    decisions->len = 0;
}

static void add(struct decisions *decisions, uint32_t arm)
{
    if (decisions->len == decisions->cap) {
        decisions->cap = decisions->cap == 0 ? 8 : 2 * decisions->cap;
        decisions->at = xrealloc(decisions->at, decisions->cap * sizeof *decisions->at);
    }
    struct decision *decision = &decisions->at[decisions->len++];
    decision->arm = core_arm(decisions->core, arm);
    decision->cell = core_cell(decisions->core, arm, decisions->prompt);
    decision->len = 0;
    if (decision->cell.decided != DECIDED_NOT)
        decision->len =
            arm_submitted(decisions->core, &decision->arm, decisions->prompt, decision->arm.n, decision->winners);
}

void decisions_of_pool(struct decisions *decisions, const struct core *core, uint32_t sweep, uint32_t pool,
                       uint32_t prompt)
{
    begin(decisions, core, prompt);
    for (uint32_t i = 0; i < core_sweep(core, sweep).arms; i++) {
        uint32_t arm = core_sweep_arm(core, sweep, i);
        if (core_arm_draws(core, arm, pool))
            add(decisions, arm);
    }
}

void decisions_of_tree(struct decisions *decisions, const struct core *core, uint32_t arm, uint32_t prompt)
{
    begin(decisions, core, prompt);
    add(decisions, arm);
}

void decisions_clear(struct decisions *decisions)
{
    free(decisions->at);
    *decisions = (struct decisions){0};
}

/* Position of a rollout among those of the arm; of a node: where it first is an end of a path. NO_POSITION: nowhere. */
static uint32_t position_of(const struct decisions *decisions, const struct decision *decision, const struct key *key)
{
    const struct arm_info *arm = &decision->arm;
    struct key final;
    if (arm->trees == 0)
        for (uint32_t leg = 0; leg < arm->schedule->legs; leg++)
            if (arm->pools[leg] == key->owner)
                return schedule_position(arm->schedule, leg, key->item);
    for (uint32_t k = 0; arm->trees > 0 && core_delivered(decisions->core, arm->id, decisions->prompt, k, &final); k++)
        if (final.tree == key->tree && final.item == key->item)
            return k;
    return NO_POSITION;
}

/* Of a tree arm the paths of several rollouts may end in one node. */
static bool is_at(const struct decisions *decisions, const struct decision *decision, uint32_t position,
                  const struct key *key)
{
    struct key found;
    return core_delivered(decisions->core, decision->arm.id, decisions->prompt, position, &found) &&
           found.owner == key->owner && found.tree == key->tree && found.item == key->item;
}

static bool selects(const struct decisions *decisions, const struct decision *decision, const struct key *key)
{
    for (uint32_t i = 0; i < decision->len; i++)
        if (is_at(decisions, decision, decision->winners[i], key))
            return true;
    return false;
}

static void put_position(struct buf *json, const char *key, uint32_t position)
{
    json_key(json, key);
    if (position == NO_POSITION)
        json_none(json);
    else
        json_u64(json, position);
}

static void put_decision(const struct decisions *decisions, const struct decision *decision, const struct key *key,
                         struct buf *json)
{
    bool decided = decision->cell.decided != DECIDED_NOT;
    uint32_t position = position_of(decisions, decision, key);
    json_begin(json, '{');
    json_key(json, "arm");
    json_str(json, decision->arm.name);
    json_key(json, "n");
    json_u64(json, decision->arm.n);
    put_position(json, "position", position);
    json_key(json, "used"); /* an arm that has not decided yet may still use it */
    if (decided || position == NO_POSITION)
        json_bool(json, position != NO_POSITION && position < decision->cell.stop);
    else
        json_none(json);
    json_key(json, "decided");
    json_str(json, decided_text(decision->cell.decided));
    put_position(json, "stop", decided ? decision->cell.stop : NO_POSITION);
    put_position(json, "winner", decision->len > 0 ? decision->winners[0] : NO_POSITION);
    json_key(json, "confidence");
    json_f64(json, decided ? (double)decision->cell.confidence : NAN);
    json_end(json, '}');
}

void decisions_put(const struct decisions *decisions, const struct key *key, struct buf *json)
{
    json_key(json, "selected");
    json_begin(json, '[');
    for (uint32_t i = 0; i < decisions->len; i++)
        if (selects(decisions, &decisions->at[i], key))
            json_str(json, decisions->at[i].arm.name);
    json_end(json, ']');
    json_key(json, "decisions");
    json_begin(json, '[');
    for (uint32_t i = 0; i < decisions->len; i++)
        put_decision(decisions, &decisions->at[i], key, json);
    json_end(json, ']');
}
