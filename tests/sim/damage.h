/* damage.h - journals in which one field of one fact is wrong, as no checksum shows: written by a broken broker, or to
 * break one. Such a journal is refused, or it is accepted and whoever goes on with it does not fall. */
#ifndef DROVER_TESTS_SIM_DAMAGE_H
#define DROVER_TESTS_SIM_DAMAGE_H

#include "broker/core/core.h"
#include "common/rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DAMAGES = 50, FACTS_MAX = 65536, LATER = 20 };

/* A journal's facts, and one drawn wrong. */
struct damage {
    struct slice journal;
    size_t at[FACTS_MAX]; /* offsets of facts */
    uint32_t len;
    uint64_t seed, draws;
    char text[400]; /* what was done, to be printed should this end here */
};

static uint64_t damage_draw(struct damage *d, uint64_t below)
{
    return rng_u64(d->seed, RNG_TEST, 20, d->draws++) % below;
}

static void damage_read(struct damage *d)
{
    struct fact fact;
    d->len = 0;
    for (size_t at = 0; at < d->journal.len && d->len < FACTS_MAX;) {
        d->at[d->len++] = at;
        if (fact_get(d->journal, &at, &fact) != 0)
            return;
    }
}

/* A fact of a type that is drawn first, or the many leases would hide all others. */
static uint32_t damage_pick(struct damage *d, struct fact *fact)
{
    uint32_t types = 0, found = 0;
    while (fact_types[types].name != NULL)
        types++;
    for (uint32_t tries = 0; tries < 100; tries++) {
        enum fact_type wanted = (enum fact_type)fact_types[damage_draw(d, types)].number;
        uint32_t first = (uint32_t)damage_draw(d, d->len);
        for (uint32_t i = 0; i < d->len; i++) {
            size_t at = d->at[found = (first + i) % d->len];
            if (fact_get(d->journal, &at, fact) == 0 && fact->type == wanted)
                return found;
        }
    }
    return found;
}

static uint64_t damage_number(struct damage *d, uint64_t now, uint64_t most)
{
    uint64_t values[] = {0, 1, now + 1, now - 1, now ^ 2, 7, 100, most / 2 + 1, most - 1, most};
    return values[damage_draw(d, sizeof values / sizeof values[0])] & most;
}

static double damage_double(struct damage *d, double now)
{
    double values[] = {NAN, INFINITY, -INFINITY, -1, 0, -now, 2, 1e300};
    return values[damage_draw(d, sizeof values / sizeof values[0])];
}

static struct slice damage_bytes(struct damage *d, struct slice now, struct buf *bytes)
{
    static const float odd[] = {NAN, INFINITY, -1, 0, 1e30F};
    size_t at = now.len == 0 ? 0 : damage_draw(d, now.len), rest;
    buf_put(bytes, now.data, now.len);
    switch (damage_draw(d, 6)) {
    case 0:
        return (struct slice){now.data, 0};
    case 1:
        return (struct slice){now.data, at};
    case 2:
        buf_put(bytes, now.data, now.len);
        return buf_slice(bytes);
    case 3:
        for (int i = 0; i < 300; i++)
            buf_put(bytes, "\xff", 1);
        return buf_slice(bytes);
    case 4:
        if (now.len > 0)
            bytes->data[at] = (char)damage_draw(d, 256);
        return buf_slice(bytes);
    default: /* a number that is none, where there are numbers */
        rest = now.len - (at & ~(size_t)3);
        if (rest >= sizeof odd[0] && now.len % sizeof odd[0] == 0)
            memcpy(bytes->data + (at & ~(size_t)3), &odd[damage_draw(d, sizeof odd / sizeof odd[0])], sizeof odd[0]);
        return buf_slice(bytes);
    }
}

/* One field of it; bytes: what it may point at then. */
static void damage_field(struct damage *d, struct fact *fact, struct buf *bytes)
{
    const struct record_type *type = fact_types;
    while (type->number != (uint32_t)fact->type)
        type++;
    const struct field *field = &type->fields[damage_draw(d, type->fields_len)];
    char *value = (char *)fact + offsetof(struct fact, epoch) + field->offset;
    struct buf before = {0}, after = {0};
    fact_print(&before, fact);
    switch (field->type) {
    case FIELD_U8:
        *(uint8_t *)value = (uint8_t)damage_number(d, *(uint8_t *)value, UINT8_MAX);
        break;
    case FIELD_U32:
        *(uint32_t *)(void *)value = (uint32_t)damage_number(d, *(uint32_t *)(void *)value, UINT32_MAX);
        break;
    case FIELD_U64:
    case FIELD_I64:
        *(uint64_t *)(void *)value = damage_number(d, *(uint64_t *)(void *)value, UINT64_MAX);
        break;
    case FIELD_F64:
        *(double *)(void *)value = damage_double(d, *(double *)(void *)value);
        break;
    case FIELD_TEXT:
    case FIELD_BYTES:
        *(struct slice *)(void *)value = damage_bytes(d, *(struct slice *)(void *)value, bytes);
        break;
    }
    fact_print(&after, fact);
    snprintf(d->text, sizeof d->text, "%s of %.170s\n   became %.170s\n", field->name, before.data, after.data);
    buf_clear(&before);
    buf_clear(&after);
}

static struct core *damage_core(const char *backend)
{
    struct core *core = core_new(&(struct core_options){.lease_ms = 100});
    core_kind(core, false, slice_of(backend));
    core_kind(core, true, slice_of("sim"));
    return core;
}

/* A broker with agents that do what they are told, wrongly. */
static void damage_serve(struct core *core)
{
    struct update update = {0};
    core_start(core, 5000, false, &update);
    update_reset(&update);
    for (uint64_t agent = 1; agent <= 2; agent++)
        core_step(core,
                  &(struct event){.type = EVENT_HELLO,
                                  .now_ms = 5000,
                                  .agent = agent,
                                  .hello = {.name = slice_of("a"), .verifier = agent == 2, .kinds = 1, .credits = 4}},
                  &update);
    for (int i = 0; i < LATER; i++) {
        core_step(core, &(struct event){.type = EVENT_TICK, .now_ms = 5000 + 40 * i}, &update);
        core_step(core, &(struct event){.type = EVENT_DISPATCH, .now_ms = 5000 + 40 * i}, &update);
        size_t tasks = update.sends_len;
        for (size_t s = 0; s < tasks; s++) {
            struct event event = {
                .now_ms = 5000 + 40 * i, .agent = update.sends[s].agent, .lease = update.sends[s].lease};
            event.type = update.sends[s].key.kind == TASK_VERIFY ? EVENT_VERDICT : EVENT_RESULT;
            if (update.sends[s].type == SEND_TASK)
                core_step(core, &event, &update);
        }
        update_reset(&update);
    }
    update_clear(&update);
}

static int damage_load(struct core *core, struct slice facts, bool audited)
{
    struct fact fact;
    struct error error;
    int rc = 0;
    if (audited)
        core_audit_begin(core);
    for (size_t at = 0; rc == 0 && at < facts.len;) {
        rc = fact_get(facts, &at, &fact);
        if (rc == 0)
            rc = audited ? core_audit_fact(core, &fact, &error) : core_apply(core, &fact);
    }
    return rc == 0 && audited ? core_audit_end(core, &error) : rc;
}

/* Was it refused? -1: refused as nothing that a journal is refused for. */
static int damage_try(struct damage *d, const char *backend)
{
    struct buf facts = {0}, bytes = {0}, dump = {0};
    struct fact fact;
    struct error error;
    uint32_t which = damage_pick(d, &fact);
    size_t behind = d->at[which];
    fact_get(d->journal, &behind, &fact);
    damage_field(d, &fact, &bytes);
    if (fact.type == FACT_set && fact.set.len > 1000) /* so many prompts may be: that costs memory, and shows nothing */
        fact.set.len = 1000;
    buf_put(&facts, d->journal.data, d->at[which]);
    fact_put(&facts, &fact);
    buf_put(&facts, d->journal.data + behind, d->journal.len - behind);
    struct core *core = damage_core(backend), *audited = damage_core(backend);
    int rc = damage_load(core, buf_slice(&facts), false);
    if (rc == 0) {
        core_settle(core);
        core_check(core, &error);
        core_dump(core, &dump);
        damage_serve(core);
    }
    damage_load(audited, buf_slice(&facts), true);
    core_free(&core);
    core_free(&audited);
    buf_clear(&facts);
    buf_clear(&bytes);
    buf_clear(&dump);
    return rc == 0 ? 0 : rc == ERR_CORRUPT || rc == ERR_PROTOCOL ? 1 : -1;
}

#endif
