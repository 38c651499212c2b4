/* fleet.c - the agents of this process's epoch. Volatile: a restarted broker learns them again from their HELLOs. */
#include "broker/core/core_int.h"
#include "common/limits.h"

#include <stdio.h>

#include <stdlib.h>
#include <string.h>

enum { REFUSED_MS = 30000, SLACK_MS = 1, NEXT_MS_MAX = 3600000 };

struct agent *agent_find(const struct core *core, uint64_t id)
{
    struct agent *agent;
    HASH_FIND(hh, core->agents, &id, sizeof id, agent);
    return agent;
}

static void agent_free(struct core *core, struct agent *agent)
{
    HASH_DEL(core->agents, agent);
    DL_DELETE(core->fleet, agent);
    offers_clear(agent);
    free(agent->refusals);
    free(agent);
}

void agents_free(struct core *core)
{
    while (core->fleet != NULL)
        agent_free(core, core->fleet);
}

static void hold(struct agent *agent, struct lease *lease)
{
    if (lease->held)
        return;
    lease->held = true;
    agent->alone = agent->alone || (lease->task != NULL && lease->task->deaths > 1);
    DL_APPEND2(agent->leases, lease, agent_prev, agent_next);
    agent->leased++;
}

static void unhold(struct agent *agent, struct lease *lease)
{
    lease->held = false;
    DL_DELETE2(agent->leases, lease, agent_prev, agent_next);
    agent->leased--;
}

/* Everything that the agent does not hold any more, though the books say so. */
static void reconcile(struct core *core, struct agent *agent)
{
    struct lease *lease, *next;
    HASH_ITER (hh, core->leases, lease, next) {
        if (lease->agent != agent->id || lease->held)
            continue;
        if (lease->state == LEASE_LIVE)
            lease_lose(core, lease, LOST_ORPHAN);
        else
            emit(core, &(struct fact){.type = FACT_forget, .forget = {.lease = lease->id}});
    }
}

static int64_t deadline(const struct core *core, int64_t next_ms)
{
    next_ms = next_ms < 0 ? 0 : next_ms;
    return core->now_ms + (next_ms < NEXT_MS_MAX ? next_ms : NEXT_MS_MAX) + (int64_t)core->options.lease_ms;
}

void event_hello(struct core *core, const struct event *event)
{
    struct agent *agent = agent_find(core, event->agent);
    if (agent == NULL) {
        agent = xalloc(sizeof *agent);
        agent->id = event->agent;
        agent->since_ms = core->now_ms;
        HASH_ADD(hh, core->agents, id, sizeof agent->id, agent);
        DL_APPEND(core->fleet, agent);
    }
    size_t len = event->hello.name.len < 64 ? event->hello.name.len : 64;
    if (len > 0)
        memcpy(agent->name, event->hello.name.data, len);
    agent->name[len] = '\0';
    agent->verifier = event->hello.verifier;
    agent->kinds = event->hello.kinds;
    agent->credits = event->hello.credits < LIMIT_CREDITS ? event->hello.credits : LIMIT_CREDITS;
    offers_take(agent, event);
    agent->failures = 0;
    agent->benched_until_ms = 0;
    agent->refusals_len = 0; /* a draining agent goes on draining: it only reconnected */
    agent->deadline_ms = deadline(core, event->hello.next_ms);
    while (agent->leases != NULL)
        unhold(agent, agent->leases);
    agent->alone = false;
    for (size_t i = 0; i < event->hello.running_len; i++) {
        struct lease *lease;
        HASH_FIND(hh, core->leases, &event->hello.running[i], sizeof event->hello.running[i], lease);
        if (lease == NULL) {
            send_add(core, SEND_CANCEL, agent->id, event->hello.running[i]);
            continue;
        }
        if (lease->agent != agent->id)
            continue;
        hold(agent, lease);
        if (lease->state == LEASE_GHOST)
            send_add(core, SEND_CANCEL, agent->id, lease->id);
    }
    reconcile(core, agent);
}

void event_heartbeat(struct core *core, const struct event *event)
{
    struct agent *agent = agent_find(core, event->agent);
    if (agent == NULL)
        return; /* it will say HELLO when nothing answers it */
    agent->deadline_ms = deadline(core, event->heartbeat.next_ms);
    if (event->heartbeat.credits > 0)
        agent->credits = event->heartbeat.credits < LIMIT_CREDITS ? event->heartbeat.credits : LIMIT_CREDITS;
    snprintf(agent->trouble, sizeof agent->trouble, "%.*s", (int)event->heartbeat.trouble.len,
             event->heartbeat.trouble.data == NULL ? "" : event->heartbeat.trouble.data);
}

/* The agent is lost: its leases go elsewhere, its ghosts will never report. */
static void agent_lose(struct core *core, struct agent *agent, enum lost why)
{
    while (agent->leases != NULL) {
        struct lease *lease = agent->leases;
        unhold(agent, lease);
        if (lease->state == LEASE_LIVE)
            lease_lose(core, lease, why);
        else if (lease->state == LEASE_GHOST)
            emit(core, &(struct fact){.type = FACT_forget, .forget = {.lease = lease->id}});
    }
    agent_free(core, agent);
    core->update->lost = true;
}

void event_gone(struct core *core, const struct event *event)
{
    struct agent *agent = agent_find(core, event->agent);
    if (agent != NULL) /* one that drains was told to go: that is no mark against its tasks */
        agent_lose(core, agent, agent->draining ? LOST_ORPHAN : LOST_SILENT);
}

void event_drain(struct core *core, const struct event *event)
{
    struct agent *agent = agent_find(core, event->agent);
    if (agent != NULL)
        agent->draining = true;
}

void event_refuse(struct core *core, const struct event *event)
{
    struct lease *lease;
    HASH_FIND(hh, core->leases, &event->lease, sizeof event->lease, lease);
    send_add(core, SEND_ACK, event->agent, event->lease)->duplicate = true;
    if (lease == NULL || lease->agent != event->agent)
        return;
    if (lease->state != LEASE_LIVE) { /* settled in full, and it used nothing; the agent says no more of it */
        emit(core, &(struct fact){.type = FACT_correct, .correct = {.lease = lease->id}});
        return;
    }
    struct agent *agent = agent_find(core, event->agent);
    const struct key *key = &lease->task->key;
    bool verify = key->kind == TASK_VERIFY;
    uint32_t spec = verify               ? key->verifier
                    : key->tree == NO_ID ? core->pools[key->owner].model
                                         : core->pools[core->arms[key->owner].pools[0]].model;
    if (agent != NULL && !agent_refuses(agent, verify, spec)) {
        agent->refusals = grow_array(agent->refusals, agent->refusals_len, sizeof *agent->refusals);
        agent->refusals[agent->refusals_len++] = (struct refusal){verify, spec};
        agent->refused_ms = core->now_ms;
    }
    struct sweep *sweep = &core->sweeps[core->arms[lease->payer].sweep];
    free(sweep->refusal);
    sweep->refusal = xalloc(event->fail.reason.len + 1);
    if (event->fail.reason.len > 0)
        memcpy(sweep->refusal, event->fail.reason.data, event->fail.reason.len);
    lease_lose(core, lease, LOST_REFUSED);
}

bool agent_refuses(const struct agent *agent, bool verify, uint32_t spec)
{
    for (uint32_t i = 0; i < agent->refusals_len; i++)
        if (agent->refusals[i].verify == verify && agent->refusals[i].spec == spec)
            return true;
    return false;
}

void agent_forgive(struct agent *agent, bool verify, uint32_t spec)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < agent->refusals_len; i++)
        if (agent->refusals[i].verify != verify || agent->refusals[i].spec != spec)
            agent->refusals[kept++] = agent->refusals[i];
    agent->refusals_len = kept;
}

/* Leases of an earlier epoch whose agents stay silent. */
static void orphans_tick(struct core *core)
{
    struct lease *lease, *next;
    HASH_ITER (hh, core->leases, lease, next) {
        if (lease->held)
            continue;
        if (lease->state == LEASE_LIVE)
            lease_lose(core, lease, LOST_GRACE);
        else if (lease->state == LEASE_GHOST && agent_find(core, lease->agent) == NULL)
            emit(core, &(struct fact){.type = FACT_forget, .forget = {.lease = lease->id}});
    }
}

void fleet_tick(struct core *core)
{
    struct agent *agent, *next;
    int64_t wake = INT64_MAX;
    DL_FOREACH_SAFE (core->fleet, agent, next) {
        if (agent->deadline_ms <= core->now_ms) {
            agent_lose(core, agent, LOST_SILENT);
            continue;
        }
        if (agent->refusals_len > 0 && agent->refused_ms + REFUSED_MS <= core->now_ms)
            agent->refusals_len = 0; /* the missing file may be there now */
        wake = agent->deadline_ms < wake ? agent->deadline_ms : wake;
        if (agent->benched_until_ms > core->now_ms && agent->benched_until_ms < wake)
            wake = agent->benched_until_ms;
    }
    int64_t grace = core->started_ms + 2 * (int64_t)core->options.lease_ms;
    if (!core->orphans_done && core->now_ms >= grace) {
        orphans_tick(core);
        core->orphans_done = true;
    }
    if (!core->orphans_done && grace < wake)
        wake = grace;
    core->update->wake_ms = wake == INT64_MAX ? wake : wake + SLACK_MS;
}
