/* fuzz_event.c - any bytes as a sequence of events, as hostile agents and clients may send them: unknown leases, other
 * agents' leases, huge numbers, numbers that are none, wrong kinds. Every invariant holds afterwards, and the journal
 * replays to the same state. */
#include "broker/core/core.h"
#include "tests/sim/sweeps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { EVENTS_MAX = 600 };

struct reader {
    const uint8_t *data;
    size_t len;
};

/* The next len bytes as a little-endian number; zeros behind the end. */
static uint64_t number(struct reader *from, size_t len)
{
    uint64_t value = 0;
    for (size_t i = 0; i < len && from->len > 0; i++, from->data++, from->len--)
        value |= (uint64_t)*from->data << 8 * i;
    return value;
}

/* Mostly a small number, now and then anything. */
static uint64_t any(struct reader *from)
{
    uint64_t small = number(from, 1);
    return small == 0xff ? number(from, 8) : small;
}

static double real(struct reader *from)
{
    uint64_t bits = number(from, 1);
    double value = (double)bits / 100;
    if (bits == 0xff) {
        bits = number(from, 8);
        memcpy(&value, &bits, sizeof value);
    }
    return value;
}

static struct core *core_fresh(void)
{
    struct core *core = core_new(&(struct core_options){.lease_ms = 100});
    core_kind(core, false, slice_of("sim"));
    core_kind(core, true, slice_of("sim"));
    return core;
}

/* Definitions of one of the simulator's sweeps, with one byte changed if the input says so. */
static void read_submit(struct reader *from, struct event *event, struct buf *bytes)
{
    uint64_t which = number(from, 1), at = number(from, 2), change = number(from, 1);
    buf_reset(bytes);
    put_sweep(bytes, which >> 2 & 7, which & 1, which >> 1 & 1);
    if (change != 0)
        bytes->data[at % bytes->len] ^= (char)change;
    event->submit.definitions = buf_slice(bytes);
}

static void read_hello(struct reader *from, struct event *event, uint64_t *running)
{
    event->hello.verifier = number(from, 1) & 1;
    event->hello.kinds = any(from);
    event->hello.credits = (uint32_t)any(from);
    event->hello.next_ms = (int64_t)any(from);
    event->hello.running_len = number(from, 1) % 8;
    for (size_t i = 0; i < event->hello.running_len; i++)
        running[i] = any(from);
    event->hello.running = running;
}

static void read_result(struct reader *from, struct event *event)
{
    struct result *result = &event->result.result;
    result->finish = (enum finish)any(from);
    result->tokens_in = (uint32_t)any(from);
    result->tokens_out = (uint32_t)any(from);
    result->latency_ms = (uint32_t)any(from);
    result->features.have = (uint32_t)any(from);
    for (int i = 0; i < FEATURES; i++)
        if (i < 16 && result->features.have & 1u << i)
            result->features.v[i] = real(from);
    event->result.class = number(from, 1) % 4;
    event->result.ref.commit = number(from, 1) & 1;
}

static void read_fail(struct reader *from, struct event *event)
{
    event->fail.tokens_in = (uint32_t)any(from);
    event->fail.tokens_out = (uint32_t)any(from);
    event->fail.latency_ms = (uint32_t)any(from);
    event->fail.reason = slice_of("because");
}

static void read_event(struct reader *from, struct event *event, struct buf *bytes, uint64_t *running)
{
    event->type = (enum event_type)(number(from, 1) % (EVENT_GONE + 1));
    if (event->type >= EVENT_HELLO)
        event->agent = 1 + number(from, 1) % 5;
    switch (event->type) {
    case EVENT_TICK:
    case EVENT_DISPATCH:
    case EVENT_DRAIN:
    case EVENT_GONE:
        return;
    case EVENT_SUBMIT:
        read_submit(from, event, bytes);
        return;
    case EVENT_CONTROL:
        event->control.sweep = (uint32_t)any(from);
        event->control.state = (enum sweep_state)any(from);
        return;
    case EVENT_HELLO:
        read_hello(from, event, running);
        return;
    case EVENT_HEARTBEAT:
        event->heartbeat.next_ms = (int64_t)any(from);
        return;
    case EVENT_RESULT:
        event->lease = any(from);
        read_result(from, event);
        return;
    case EVENT_VERDICT:
        event->lease = any(from);
        event->verdict.verdict.outcome = (enum outcome)any(from);
        event->verdict.verdict.score = real(from);
        event->verdict.latency_ms = (uint32_t)any(from);
        return;
    case EVENT_FAIL:
    case EVENT_RETURN:
    case EVENT_REFUSE:
        event->lease = any(from);
        read_fail(from, event);
        return;
    }
}

static void must_hold(const struct core *core)
{
    struct error error;
    if (core_check(core, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        abort();
    }
}

static void must_replay(const struct core *core, struct slice journal)
{
    struct core *other = core_fresh();
    struct fact fact;
    struct buf a = {0}, b = {0};
    for (size_t at = 0; at < journal.len;)
        if (fact_get(journal, &at, &fact) != 0 || core_apply(other, &fact) != 0)
            abort();
    core_settle(other);
    core_dump(core, &a);
    core_dump(other, &b);
    if (a.len != b.len || memcmp(a.data, b.data, a.len) != 0)
        abort();
    core_free(&other);
    buf_clear(&a);
    buf_clear(&b);
}

static void take_facts(struct update *update, struct buf *journal)
{
    buf_put(journal, update->facts.data, update->facts.len);
    update_reset(update);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader from = {data, size};
    struct core *core = core_fresh();
    struct update update = {0};
    struct buf journal = {0}, bytes = {0};
    uint64_t running[8], seed = number(&from, 1) & 15;
    int64_t now = 0;
    update_reset(&update);
    core_start(core, 0, false, &update);
    take_facts(&update, &journal);
    put_sweep(&bytes, seed, 0, false);
    core_step(core, &(struct event){.type = EVENT_SUBMIT, .submit = {.definitions = buf_slice(&bytes)}}, &update);
    take_facts(&update, &journal);
    for (int i = 0; i < EVENTS_MAX && from.len > 0; i++) {
        struct event event = {0};
        read_event(&from, &event, &bytes, running);
        now += (int64_t)number(&from, 1) % 60;
        event.now_ms = now;
        event.unix_s = now / 50;
        core_step(core, &event, &update);
        take_facts(&update, &journal);
    }
    must_hold(core);
    must_replay(core, buf_slice(&journal));
    core_free(&core);
    update_clear(&update);
    buf_clear(&journal);
    buf_clear(&bytes);
    return 0;
}
