/* virtual.c - see virtual.h. */
#include "broker/virtual.h"
#include "broker/core/read.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/* A task that is out with an agent, due at a moment. */
struct flight {
    int64_t at_ms, sent_ms;
    uint64_t seq;   /* ties: what was sent first comes first */
    uint64_t lease; /* key of the hash */
    bool verify, cancelled;
    struct event event;
    UT_hash_handle hh;
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
    int64_t now_ms;
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
    return top;
}

/* --- sends --- */

static void on_task(struct virtual *fleet, const struct send *send)
{
    struct flight *flight = xalloc(sizeof *flight);
    bool verify = send->key.kind == TASK_VERIFY;
    flight->event =
        (struct event){.type = verify ? EVENT_VERDICT : EVENT_RESULT, .agent = send->agent, .lease = send->lease};
    int64_t takes_ms = fleet->options.answer(fleet->options.arg, send, fleet->update.refs + send->refs,
                                             (uint32_t)send->agent - 1, &flight->event);
    assert(takes_ms >= 0);
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
    *back = (struct flight){.at_ms = fleet->now_ms,
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

static void connect(struct virtual *fleet, bool verifier, uint32_t count, uint32_t slots, uint64_t first)
{
    char name[24];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s-%u", verifier ? "verifier" : "worker", i + 1);
        step(fleet, (struct event){.type = EVENT_HELLO,
                                   .agent = first + i,
                                   .hello = {.name = slice_of(name),
                                             .verifier = verifier,
                                             .kinds = UINT64_MAX,
                                             .credits = slots,
                                             .next_ms = INT64_MAX}});
    }
}

struct virtual *virtual_new(struct core *core, const struct virtual_options *options)
{
    struct virtual *fleet = xalloc(sizeof *fleet);
    fleet->core = core;
    fleet->options = *options;
    update_reset(&fleet->update);
    core_start(core, 0, true, &fleet->update);
    connect(fleet, false, options->workers, options->slots, 1);
    connect(fleet, true, options->verifiers, options->verifier_slots, 1 + (uint64_t)options->workers);
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

/* Everything that is due at the next moment; false: nothing is in flight. */
static bool land(struct virtual *fleet)
{
    bool any = false;
    while (fleet->len > 0 && (!any || fleet->queue[0]->at_ms == fleet->now_ms || fleet->queue[0]->cancelled)) {
        struct flight *flight = pop(fleet);
        if (!flight->cancelled) {
            any = true;
            fleet->now_ms = flight->at_ms;
            fleet->usage[flight->verify].busy_ms += flight->at_ms - flight->sent_ms;
            HASH_DEL(fleet->by_lease, flight);
            step(fleet, flight->event);
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
    return fleet->now_ms;
}

struct virtual_usage virtual_usage(const struct virtual *fleet, bool verifiers)
{
    return fleet->usage[verifiers];
}
