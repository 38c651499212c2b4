/* virtual.c - see virtual.h. */
#include "broker/virtual.h"
#include "broker/core/read.h"
#include "common/rng.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/* What is due at a moment: the answer to a task, or a turn of an agent's life. */
enum due { DUE_ANSWER, DUE_DEATH, DUE_NOTICED, DUE_BACK };

struct flight {
    enum due due;
    uint32_t agent;
    int64_t at_ms, sent_ms;
    uint64_t seq;   /* ties: what was sent first comes first */
    uint64_t lease; /* key of the hash */
    bool verify, cancelled;
    bool again; /* an answer that was there before: its lease is no longer in the hash */
    struct event event;
    UT_hash_handle hh;
};

/* Each life has an id of its own. */
struct agent_life {
    uint64_t lives;
    bool dead;
};

struct virtual
{
    struct core *core;
    struct virtual_options options;
    struct update update;
    struct flight **queue; /* binary heap by (at_ms, seq) */
    size_t len, cap;
    struct flight *by_lease; /* those that were not cancelled */
    struct virtual_usage usage[2];
    struct agent_life *agents; /* workers, then verifiers */
    uint32_t agents_len;
    size_t pending; /* of the queue: answers, and dead agents that come back */
    int64_t now_ms;
    int64_t end_ms; /* of the last answer */
    uint64_t seq;
    int rc;
};

/* --- the queue --- */

static bool earlier(const struct flight *a, const struct flight *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->seq < b->seq;
}

static void push(struct virtual *fleet, struct flight *flight)
{
    if (fleet->len == fleet->cap) {
        fleet->cap = fleet->cap == 0 ? 64 : 2 * fleet->cap;
        fleet->queue = xrealloc(fleet->queue, fleet->cap * sizeof *fleet->queue);
    }
    size_t i = fleet->len++;
    for (; i > 0 && earlier(flight, fleet->queue[(i - 1) / 2]); i = (i - 1) / 2)
        fleet->queue[i] = fleet->queue[(i - 1) / 2];
    fleet->queue[i] = flight;
    fleet->pending += flight->due != DUE_DEATH;
}

static struct flight *pop(struct virtual *fleet)
{
    struct flight *top = fleet->queue[0], *last = fleet->queue[--fleet->len];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < fleet->len; i = child) {
        if (child + 1 < fleet->len && earlier(fleet->queue[child + 1], fleet->queue[child]))
            child++;
        if (!earlier(fleet->queue[child], last))
            break;
        fleet->queue[i] = fleet->queue[child];
    }
    fleet->queue[i] = last;
    fleet->pending -= top->due != DUE_DEATH;
    return top;
}

/* --- agents --- */

static uint32_t agent_of(const struct virtual *fleet, uint64_t id)
{
    return (uint32_t)((id - 1) % fleet->agents_len);
}

static uint64_t agent_id(const struct virtual *fleet, uint32_t agent)
{
    return 1 + agent + fleet->agents[agent].lives * fleet->agents_len;
}

static void push_turn(struct virtual *fleet, enum due due, uint32_t agent, int64_t after_ms)
{
    struct flight *turn = xalloc(sizeof *turn);
    *turn = (struct flight){
        .due = due, .agent = agent, .at_ms = fleet->now_ms + after_ms, .sent_ms = fleet->now_ms, .seq = fleet->seq++};
    push(fleet, turn);
}

/* Lives are exponential. */
static void push_death(struct virtual *fleet, uint32_t agent)
{
    const struct virtual_faults *faults = &fleet->options.faults;
    if (!(faults->deaths_per_hour > 0))
        return;
    uint64_t bits = rng_u64(faults->seed, RNG_WORLD, (uint64_t)1 << 62 | agent, fleet->agents[agent].lives);
    double hours = -log1p(-rng_unit(bits)) / faults->deaths_per_hour;
    push_turn(fleet, DUE_DEATH, agent, 1 + (int64_t)fmin(hours * 3.6e6, 1e14));
}

/* A share of the answers, by their leases. */
static bool befalls(const struct virtual *fleet, uint64_t what, uint64_t lease, double share)
{
    return share > 0 &&
           rng_unit(rng_u64(fleet->options.faults.seed, RNG_WORLD, (uint64_t)3 << 61 | what, lease)) < share;
}

/* --- sends --- */

static void on_task(struct virtual *fleet, const struct send *send)
{
    uint32_t agent = agent_of(fleet, send->agent);
    if (fleet->agents[agent].dead)
        return; /* nobody hears it */
    struct flight *flight = xalloc(sizeof *flight);
    bool verify = send->key.kind == TASK_VERIFY;
    flight->event =
        (struct event){.type = verify ? EVENT_VERDICT : EVENT_RESULT, .agent = send->agent, .lease = send->lease};
    int64_t takes_ms =
        fleet->options.answer(fleet->options.arg, send, fleet->update.refs + send->refs, agent, &flight->event);
    assert(takes_ms >= 0);
    flight->due = DUE_ANSWER;
    flight->agent = agent;
    flight->verify = verify;
    flight->lease = send->lease;
    flight->sent_ms = fleet->now_ms;
    flight->at_ms = fleet->now_ms + takes_ms;
    flight->seq = fleet->seq++;
    fleet->usage[verify].tasks++;
    HASH_ADD(hh, fleet->by_lease, lease, sizeof flight->lease, flight);
    push(fleet, flight);
}

static uint32_t share_of(uint32_t amount, int64_t part_ms, int64_t whole_ms)
{
    return whole_ms > 0 ? (uint32_t)((double)amount * (double)part_ms / (double)whole_ms) : amount;
}

/* It is given back at once, with what it used: tokens come evenly over the time that it would have taken. What stands
 * in the queue is then nobody's. */
static void on_cancel(struct virtual *fleet, const struct send *send)
{
    struct flight *flight;
    HASH_FIND(hh, fleet->by_lease, &send->lease, sizeof send->lease, flight);
    if (flight == NULL)
        return; /* it is finished */
    HASH_DEL(fleet->by_lease, flight);
    flight->cancelled = true;
    struct virtual_usage *usage = &fleet->usage[flight->verify];
    struct flight *back = xalloc(sizeof *back);
    const struct result *result = &flight->event.result.result;
    bool generated = flight->event.type == EVENT_RESULT;
    int64_t used_ms = fleet->now_ms - flight->sent_ms;
    *back = (struct flight){.agent = flight->agent,
                            .at_ms = fleet->now_ms,
                            .sent_ms = flight->sent_ms,
                            .seq = fleet->seq++,
                            .lease = flight->lease,
                            .verify = flight->verify,
                            .event = {.type = EVENT_RETURN, .agent = send->agent, .lease = send->lease}};
    back->event.fail.latency_ms = (uint32_t)used_ms;
    if (generated) {
        back->event.fail.tokens_in = result->tokens_in;
        back->event.fail.tokens_out = share_of(result->tokens_out, used_ms, flight->at_ms - flight->sent_ms);
        usage->saved_tokens += result->tokens_out - back->event.fail.tokens_out;
    }
    usage->cancelled++;
    usage->saved_ms += flight->at_ms - fleet->now_ms;
    HASH_ADD(hh, fleet->by_lease, lease, sizeof back->lease, back);
    push(fleet, back);
}

static void deliver(struct virtual *fleet)
{
    for (size_t i = 0; i < fleet->update.sends_len; i++) {
        const struct send *send = &fleet->update.sends[i];
        switch (send->type) {
        case SEND_TASK:
            on_task(fleet, send);
            break;
        case SEND_CANCEL:
            on_cancel(fleet, send);
            break;
        case SEND_ACK:
            break; /* nothing is kept for a repetition */
        }
    }
}

/* --- moments --- */

/* Commit, then send. */
static void commit(struct virtual *fleet)
{
    if (fleet->rc == 0 && fleet->update.facts.len > 0 && fleet->options.commit != NULL)
        fleet->rc = fleet->options.commit(fleet->options.arg, buf_slice(&fleet->update.facts));
    if (fleet->rc == 0)
        deliver(fleet);
    update_reset(&fleet->update);
}

static void step(struct virtual *fleet, struct event event)
{
    event.now_ms = fleet->now_ms;
    event.unix_s = 1 + fleet->now_ms / 1000;
    core_step(fleet->core, &event, &fleet->update);
}

static void connect(struct virtual *fleet, uint32_t agent)
{
    const struct virtual_options *options = &fleet->options;
    bool verifier = agent >= options->workers;
    char name[24];
    snprintf(name, sizeof name, "%s-%u", verifier ? "verifier" : "worker",
             1 + agent - (verifier ? options->workers : 0));
    step(fleet, (struct event){.type = EVENT_HELLO,
                               .agent = agent_id(fleet, agent),
                               .hello = {.name = slice_of(name),
                                         .verifier = verifier,
                                         .kinds = UINT64_MAX,
                                         .credits = verifier ? options->verifier_slots : options->slots,
                                         .next_ms = INT64_MAX}});
    push_death(fleet, agent);
}

struct virtual *virtual_new(struct core *core, const struct virtual_options *options)
{
    struct virtual *fleet = xalloc(sizeof *fleet);
    assert(options->faults.noticed_ms <= options->faults.back_ms);
    fleet->core = core;
    fleet->options = *options;
    update_reset(&fleet->update);
    core_start(core, 0, true, &fleet->update);
    fleet->agents_len = options->workers + options->verifiers;
    fleet->agents = xalloc((fleet->agents_len + (size_t)1) * sizeof *fleet->agents);
    for (uint32_t agent = 0; agent < fleet->agents_len; agent++)
        connect(fleet, agent);
    commit(fleet);
    return fleet;
}

void virtual_free(struct virtual **fleet_ptr)
{
    struct virtual *fleet = *fleet_ptr;
    if (fleet == NULL)
        return;
    HASH_CLEAR(hh, fleet->by_lease);
    for (size_t i = 0; i < fleet->len; i++)
        free(fleet->queue[i]);
    free(fleet->queue);
    free(fleet->agents);
    update_clear(&fleet->update);
    free(fleet);
    *fleet_ptr = NULL;
}

int virtual_event(struct virtual *fleet, struct event event, uint32_t *sweep, struct error *error)
{
    step(fleet, event);
    int rc = fleet->update.code;
    if (error != NULL)
        *error = fleet->update.error;
    if (sweep != NULL)
        *sweep = fleet->update.sweep;
    commit(fleet);
    return rc;
}

/* Its tasks are gone, or their answers wait until nobody expects them any more. */
static void die(struct virtual *fleet, uint32_t agent)
{
    const struct virtual_faults *faults = &fleet->options.faults;
    struct flight *flight, *next;
    fleet->agents[agent].dead = true;
    fleet->usage[agent >= fleet->options.workers].deaths++;
    HASH_ITER (hh, fleet->by_lease, flight, next) {
        if (flight->agent != agent)
            continue;
        HASH_DEL(fleet->by_lease, flight);
        fleet->usage[flight->verify].busy_ms += fleet->now_ms - flight->sent_ms;
        flight->cancelled = true; /* it stays in the queue, and is nobody's */
        if (!befalls(fleet, 0, flight->lease, faults->late))
            continue;
        struct flight *late = xalloc(sizeof *late);
        *late = *flight;
        late->cancelled = false;
        late->again = true;
        late->seq = fleet->seq++;
        int64_t noticed_ms = fleet->now_ms + faults->noticed_ms + 1;
        late->at_ms = flight->at_ms > noticed_ms ? flight->at_ms : noticed_ms;
        push(fleet, late);
    }
    push_turn(fleet, DUE_NOTICED, agent, faults->noticed_ms);
    push_turn(fleet, DUE_BACK, agent, faults->back_ms);
}

static void come_back(struct virtual *fleet, uint32_t agent)
{
    fleet->agents[agent].dead = false;
    fleet->agents[agent].lives++;
    connect(fleet, agent);
}

static void land_answer(struct virtual *fleet, const struct flight *flight)
{
    fleet->end_ms = fleet->now_ms;
    step(fleet, flight->event);
    if (flight->again)
        return;
    fleet->usage[flight->verify].busy_ms += flight->at_ms - flight->sent_ms;
    if (!befalls(fleet, 1, flight->lease, fleet->options.faults.twice))
        return;
    struct flight *twice = xalloc(sizeof *twice);
    *twice = *flight;
    twice->again = true;
    twice->at_ms++;
    twice->seq = fleet->seq++;
    push(fleet, twice);
}

static void land_one(struct virtual *fleet, struct flight *flight)
{
    if (flight->at_ms > fleet->now_ms) /* time may have gone on to a wake, past a death of one that was idle */
        fleet->now_ms = flight->at_ms;
    switch (flight->due) {
    case DUE_ANSWER:
        if (!flight->again)
            HASH_DEL(fleet->by_lease, flight);
        land_answer(fleet, flight);
        return;
    case DUE_DEATH:
        die(fleet, flight->agent);
        return;
    case DUE_NOTICED:
        step(fleet, (struct event){.type = EVENT_GONE, .agent = agent_id(fleet, flight->agent)});
        return;
    case DUE_BACK:
        come_back(fleet, flight->agent);
        return;
    }
}

/* Everything that is due at the next moment; false: no answer is in flight, and no agent is away. */
static bool land(struct virtual *fleet)
{
    bool any = false;
    while (fleet->pending > 0 && (!any || fleet->queue[0]->at_ms <= fleet->now_ms || fleet->queue[0]->cancelled)) {
        struct flight *flight = pop(fleet);
        if (!flight->cancelled) {
            any = true;
            land_one(fleet, flight);
        }
        free(flight);
    }
    return any;
}

int virtual_run(struct virtual *fleet)
{
    for (;;) {
        step(fleet, (struct event){.type = EVENT_DISPATCH});
        int64_t wake_ms = fleet->update.wake_ms;
        commit(fleet);
        if (fleet->rc != 0)
            return fleet->rc;
        if (land(fleet))
            continue;
        if (wake_ms >= (int64_t)VIRTUAL_LEASE_MS)
            return 0;
        fleet->now_ms = wake_ms; /* a benched agent takes tasks again */
    }
}

int64_t virtual_now_ms(const struct virtual *fleet)
{
    return fleet->end_ms;
}

struct virtual_usage virtual_usage(const struct virtual *fleet, bool verifiers)
{
    return fleet->usage[verifiers];
}
