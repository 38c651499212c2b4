/* status.c - what every sweep has done, what it holds, and what it waits for at this moment.
 *
 * Nothing ever waits without saying on what: the sentence is made of one clause per thing that must
 * happen next. Read from committed state alone; the shell calls this between commits. */
#include "broker/core/core_int.h"
#include "broker/core/read.h"
#include "broker/core/text_table.h"
#include "common/json.h"

#include <stdio.h>
#include <string.h>

/* -- what a sweep waits for --------------------------------------------------------------------------- */

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

/* Clauses are joined by semicolons; `from` is where the sentence begins. */
static void clause(struct buf *out, size_t from)
{
    if (out->len > from)
        buf_puts(out, "; ");
}

struct flight {
    uint32_t generate, verify, workers, verifiers, silent;
};

/* Tasks of the sweep that the agent has. */
static uint32_t leased_of(const struct core *core, const struct agent *agent, const struct sweep *sweep)
{
    uint32_t leased = 0;
    for (const struct lease *lease = agent->leases; lease != NULL; lease = lease->agent_next)
        leased += lease->state == LEASE_LIVE && core->arms[lease->payer].sweep == sweep->id;
    return leased;
}

static struct flight flight_of(const struct core *core, const struct sweep *sweep)
{
    struct flight flight = {0};
    for (const struct agent *agent = core->fleet; agent != NULL; agent = agent->next) {
        uint32_t mine = leased_of(core, agent, sweep);
        *(agent->verifier ? &flight.verify : &flight.generate) += mine;
        *(agent->verifier ? &flight.verifiers : &flight.workers) += mine > 0;
    }
    flight.silent = sweep->leased - flight.generate - flight.verify;
    return flight;
}

static void say_flight(const struct flight *flight, struct buf *out, size_t from)
{
    if (flight->generate > 0) {
        clause(out, from);
        buf_printf(out, "%u rollout%s in flight on %u worker%s", flight->generate, plural(flight->generate),
                   flight->workers, plural(flight->workers));
    }
    if (flight->verify > 0) {
        clause(out, from);
        buf_printf(out, "%u verdict%s in flight on %u verifier%s", flight->verify, plural(flight->verify),
                   flight->verifiers, plural(flight->verifiers));
    }
    if (flight->silent > 0) {
        clause(out, from);
        buf_printf(out, "%u task%s whose agents were not heard of since the broker started", flight->silent,
                   plural(flight->silent));
    }
}

/* What agents with work of the sweep, or with none, say that work waits for: the first, and how many more there are. */
static void say_trouble(const struct core *core, const struct sweep *sweep, struct buf *out, size_t from)
{
    uint32_t more = 0;
    bool said = false;
    for (const struct agent *agent = core->fleet; agent != NULL; agent = agent->next) {
        if (agent->trouble[0] == '\0' || (agent->leased > 0 && leased_of(core, agent, sweep) == 0))
            continue;
        more += said;
        if (said)
            continue;
        said = true;
        clause(out, from);
        buf_printf(out, "%s says: %s", agent->name, agent->trouble);
    }
    if (more > 0)
        buf_printf(out, " (%u more are in trouble, see 'drover workers')", more);
}

/* Agents that serve one backend or verifier kind, each counted for the first thing that keeps it from work. */
struct census {
    uint32_t connected, unfit, refused, draining, benched, full; /* unfit: no server of it offers what is needed */
    int64_t benched_ms;                                          /* until the first one is back */
    const char *failure;                                         /* of that one */
};

/* pool: whose work is waited for; of a verifier NO_ID. */
static struct census census_of(const struct core *core, bool verify, uint32_t spec, uint32_t pool)
{
    struct census census = {.benched_ms = INT64_MAX};
    int kind = verify ? core->verifiers[spec].kind : core->models[spec].kind;
    for (const struct agent *agent = core->fleet; agent != NULL; agent = agent->next) {
        if (agent->verifier != verify || kind < 0 || (agent->kinds >> kind & 1) == 0)
            continue;
        int64_t benched_ms = agent->benched_until_ms - core->now_ms;
        census.connected++;
        if (!verify && !agent_offers(core, agent, pool)) {
            census.unfit++;
        } else if (agent_refuses(agent, verify, spec)) {
            census.refused++;
        } else if (agent->draining) {
            census.draining++;
        } else if (benched_ms > 0) {
            census.benched++;
            if (benched_ms < census.benched_ms) {
                census.benched_ms = benched_ms;
                census.failure = agent->failure;
            }
        } else if (agent->leased >= agent->credits || agent->alone) {
            census.full++;
        }
    }
    return census;
}

static void say_kind(const struct core *core, bool verify, uint32_t spec, uint64_t count, struct buf *out)
{
    if (verify)
        buf_printf(out, "a verifier for kind '%s' (%llu verdict%s wait%s, ", core->verifiers[spec].check,
                   (unsigned long long)count, plural(count), count == 1 ? "s" : "");
    else
        buf_printf(out, "a worker that serves backend '%s' (", core->models[spec].backend);
}

/* Says why work for one model or verifier is not handed out; nothing when an agent could take it. */
static void say_agents(const struct core *core, const struct sweep *sweep, uint32_t pool, uint32_t verifier,
                       uint64_t count, struct buf *out, size_t from)
{
    bool verify = verifier != NO_ID;
    uint32_t spec = verify ? verifier : core->pools[pool].model;
    struct census census = census_of(core, verify, spec, pool);
    uint32_t open = census.connected - census.unfit - census.refused, awake = open - census.draining;
    if (awake > census.benched + census.full || (awake > census.benched && sweep->leased > 0))
        return;
    clause(out, from);
    if (open == 0 && census.unfit > 0 && offers_lack(core, pool, out))
        return;
    if (census.connected > 0 && open == 0) {
        buf_printf(out, "the %s '%s' cannot be opened", verify ? "verifier" : "model",
                   verify ? core->verifiers[spec].name : core->models[spec].name);
        if (sweep->refusal != NULL && sweep->refusal[0] != '\0')
            buf_printf(out, ": %s", sweep->refusal);
        return;
    }
    say_kind(core, verify, spec, count, out);
    if (census.connected == 0)
        buf_puts(out, "none is connected)");
    else if (awake == 0)
        buf_printf(out, "%u connected, all draining or refusing)", census.connected);
    else if (awake == census.benched)
        buf_printf(out, "%u connected, benched after failures, back in %lld s%s%s)", census.connected,
                   (long long)(census.benched_ms + 999) / 1000, census.failure[0] != '\0' ? ": " : "", census.failure);
    else
        buf_printf(out, "%u connected, all busy with other sweeps)", census.connected);
}

static bool arm_generates(const struct core *core, const struct arm *arm, uint32_t i)
{
    const struct leg *leg = &arm->legs[i];
    const struct stock *stocks = core->pools[arm->pools[i]].stocks;
    for (uint32_t k = 0; k < leg->ready.len; k++) {
        uint32_t prompt = leg->ready.at[(leg->ready.head + k) % leg->ready.cap];
        if (stocks[prompt].issued < schedule_reach(&arm->schedule, i, cell_wants(&arm->cells[prompt])))
            return true;
    }
    if (leg->generate != NULL)
        return true;
    return arm_may_open(core, arm) && schedule_draw(&arm->schedule, arm->cells[arm->heap[0]].opened).leg == i;
}

static bool pool_wanted(const struct core *core, const struct sweep *sweep, uint32_t pool)
{
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        const struct arm *arm = &core->arms[sweep->arms[i]];
        uint32_t leg = arm_leg(arm, pool);
        if (leg != NO_ID && arm_generates(core, arm, leg))
            return true;
    }
    return false;
}

bool core_unoffered(const struct core *core, uint32_t id, struct buf *why)
{
    for (uint32_t p = 0; p < core->pools_len; p++)
        if (pool_wanted(core, &core->sweeps[id], p) && offers_lack(core, p, why))
            return true;
    return false;
}

static uint64_t verdicts_wanted(const struct core *core, const struct sweep *sweep, uint32_t verifier)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        const struct arm *arm = &core->arms[sweep->arms[i]];
        for (const struct task *task = arm->verify; task != NULL; task = task->next)
            count += task->key.verifier == verifier;
        for (const struct task *task = arm->truth; task != NULL; task = task->next)
            count += task->key.verifier == verifier;
    }
    return count;
}

/* -- budgets ---------------------------------------------------------------------------------------- */

enum { DIMENSIONS = 4 };

static const char *const dimension_names[DIMENSIONS] = {"rollouts", "tokens", "seconds", "cost"};

static uint64_t dimension(const struct amounts *amounts, int i)
{
    const uint64_t values[DIMENSIONS] = {amounts->rollouts, amounts->tokens, amounts->slot_ms, amounts->cost};
    return values[i];
}

static void dimension_print(uint64_t value, int i, struct buf *out)
{
    if (i == 2)
        buf_printf(out, "%.1f", (double)value / 1000);
    else if (i == 3)
        buf_printf(out, "%.6g", (double)value / 1e6);
    else
        buf_printf(out, "%llu", (unsigned long long)value);
}

/* The cap that leaves no room for a rollout of the cheapest arm; the fullest one when that cannot be said. */
static int spent_dimension(const struct core *core, const struct sweep *sweep)
{
    struct amounts used = sweep->count_accepted ? sweep->accepted : sweep_burned(sweep);
    amounts_add(&used, &sweep->reserved);
    int fullest = 0;
    double share = -1;
    for (int d = 0; d < DIMENSIONS; d++) {
        uint64_t cap = dimension(&sweep->caps, d), least = UINT64_MAX;
        if (cap == 0)
            continue;
        for (uint32_t i = 0; i < sweep->arms_len; i++) {
            const struct arm *arm = &core->arms[sweep->arms[i]];
            for (uint32_t leg = 0; leg < arm->schedule.legs; leg++) {
                struct amounts unit = {0};
                if (arm->prompts > 0)
                    unit = reserve_generate(core, arm->pools[leg], 0, CHARGE_PROMPT, pool_most(core, arm->pools[leg]));
                least = dimension(&unit, d) < least ? dimension(&unit, d) : least;
            }
        }
        if (dimension(&used, d) > cap - (least < cap ? least : cap))
            return d;
        double now = (double)dimension(&used, d) / (double)cap;
        fullest = now > share ? d : fullest;
        share = now > share ? now : share;
    }
    return fullest;
}

static void say_budget(const struct core *core, const struct sweep *sweep, struct buf *out, size_t from)
{
    int d = spent_dimension(core, sweep);
    struct amounts used = sweep->count_accepted ? sweep->accepted : sweep_burned(sweep);
    clause(out, from);
    buf_printf(out, sweep->leased > 0 ? "room in the budget of %s (" : "budget of %s is spent (", dimension_names[d]);
    dimension_print(dimension(&used, d), d, out);
    buf_puts(out, " used and ");
    dimension_print(dimension(&sweep->reserved, d), d, out);
    buf_puts(out, " reserved of ");
    dimension_print(dimension(&sweep->caps, d), d, out);
    buf_puts(out, ")");
}

static bool past_deadline(const struct core *core, const struct sweep *sweep)
{
    return sweep->deadline_s > 0 && (uint64_t)core->unix_s >= sweep->started_s + sweep->deadline_s;
}

static void running_waits_for(const struct core *core, const struct sweep *sweep, struct buf *out)
{
    size_t from = out->len;
    struct flight flight = flight_of(core, sweep);
    say_flight(&flight, out, from);
    say_trouble(core, sweep, out, from);
    if (sweep->broke)
        say_budget(core, sweep, out, from);
    if (past_deadline(core, sweep)) {
        clause(out, from);
        buf_puts(out, "the deadline has passed: nothing new is generated");
    }
    for (uint32_t p = 0; !sweep->broke && !past_deadline(core, sweep) && p < core->pools_len; p++)
        if (pool_wanted(core, sweep, p))
            say_agents(core, sweep, p, NO_ID, 0, out, from);
    for (uint32_t v = 0; v < core->verifiers_len; v++) {
        uint64_t count = verdicts_wanted(core, sweep, v);
        if (count > 0)
            say_agents(core, sweep, NO_ID, v, count, out, from);
    }
    if (out->len == from)
        buf_puts(out, "the next turn of the broker");
}

void core_waits_for(const struct core *core, uint32_t id, struct buf *out)
{
    const struct sweep *sweep = &core->sweeps[id];
    const char *reason = sweep->reason == NULL ? "" : sweep->reason;
    switch ((enum sweep_state)sweep->state) {
    case SWEEP_RUNNING:
        running_waits_for(core, sweep, out);
        return;
    case SWEEP_PAUSED:
        buf_printf(out, "paused: goes on after 'drover resume %s'", sweep->name);
        return;
    case SWEEP_CANCELLED:
        buf_puts(out, "nothing: cancelled");
        return;
    case SWEEP_DONE:
        if (sweep->undecided == 0)
            buf_puts(out, "nothing: finished");
        else
            buf_printf(out, "nothing: the %s ended it with %u prompts undecided; submit it with more to go on",
                       reason[0] == '\0' ? "broker" : reason, sweep->undecided);
        return;
    case SWEEP_REPLACED:
        buf_puts(out, "nothing: replaced by another sweep of its name");
        return;
    case SWEEP_FAULT:
        buf_printf(out, "stopped by a fault: %s; goes on after 'drover resume %s'", reason, sweep->name);
        return;
    }
}

/* -- JSON ------------------------------------------------------------------------------------------- */

static void put_value(struct buf *json, uint64_t value, int d)
{
    if (d == 2)
        json_f64(json, (double)value / 1000);
    else if (d == 3)
        json_f64(json, (double)value / 1e6);
    else
        json_u64(json, value);
}

static void put_budget(const struct sweep *sweep, struct buf *json)
{
    struct amounts burned = sweep_burned(sweep);
    json_key(json, "count");
    json_str(json, sweep->count_accepted ? "accepted" : "burned");
    for (int d = 0; d < DIMENSIONS; d++) {
        json_key(json, dimension_names[d]);
        json_begin(json, '{');
        json_key(json, "accepted");
        put_value(json, dimension(&sweep->accepted, d), d);
        json_key(json, "burned");
        put_value(json, dimension(&burned, d), d);
        json_key(json, "reserved");
        put_value(json, dimension(&sweep->reserved, d), d);
        json_key(json, "cap");
        if (dimension(&sweep->caps, d) == 0)
            json_none(json);
        else
            put_value(json, dimension(&sweep->caps, d), d);
        json_end(json, '}');
    }
}

static void put_count(struct buf *json, const char *key, uint64_t value)
{
    json_key(json, key);
    json_u64(json, value);
}

static void put_str(struct buf *json, const char *key, const char *value)
{
    json_key(json, key);
    json_str(json, value);
}

void killed_json(const struct killed *killed, struct buf *json)
{
    json_key(json, "killed");
    json_begin(json, '{');
    put_count(json, "rollouts", killed->rollouts);
    put_count(json, "tokens", killed->tokens);
    json_key(json, "saved");
    json_f64(json, killed->saved);
    json_end(json, '}');
}

static void put_arm(const struct core *core, const struct arm *arm, struct buf *json)
{
    struct buf models = {0};
    core_arm_models(core, arm->id, &models);
    json_begin(json, '{');
    put_str(json, "name", arm->name);
    put_str(json, "model", models.data);
    buf_clear(&models);
    put_count(json, "n", arm->n);
    put_str(json, "strategy", arm->strategy->name);
    put_str(json, "allocate", arm->allocator->name);
    put_str(json, "stop", arm->stopper->name);
    put_str(json, "select", arm->selector->name);
    put_str(json, "verifier", arm->verifier == NO_ID ? NULL : core->verifiers[arm->verifier].name);
    put_count(json, "decided", arm->decided);
    put_count(json, "prompts", arm->prompts);
    put_count(json, "elsewhere", arm->bin.elsewhere);
    put_count(json, "unfolded", arm->unfolded);
    if (arm_price(arm) > 0) {
        json_key(json, "price");
        json_f64(json, arm_price(arm));
    }
    struct killed killed = core_killed(core, arm->id);
    killed_json(&killed, json);
    json_key(json, "charged");
    json_begin(json, '{');
    for (int d = 0; d < DIMENSIONS; d++) {
        json_key(json, dimension_names[d]);
        put_value(json, dimension(&arm->charged, d), d);
    }
    put_count(json, "verdicts", arm->verdicts);
    json_end(json, '}');
    json_end(json, '}');
}

/* Apart from the verdicts that arms pay for. */
static void put_truth(const struct core *core, const struct sweep *sweep, struct buf *json)
{
    json_key(json, "truth");
    if (sweep->truth == NO_ID) {
        json_none(json);
        return;
    }
    json_begin(json, '{');
    put_str(json, "verifier", core->verifiers[sweep->truth].name);
    put_count(json, "judged", sweep->judged);
    put_count(json, "missing", sweep->truths);
    json_end(json, '}');
}

static void put_sweep(const struct core *core, uint32_t id, struct buf *json)
{
    const struct sweep *sweep = &core->sweeps[id];
    struct sweep_info info = core_sweep(core, id);
    struct waiting waiting = core_waiting(core, id);
    struct buf sentence = {0};
    core_waits_for(core, id, &sentence);
    json_begin(json, '{');
    put_str(json, "name", sweep->name);
    put_str(json, "state", sweep_state_text(info.state));
    put_str(json, "reason", info.reason);
    json_key(json, "waits_for");
    json_text(json, buf_slice(&sentence));
    put_count(json, "decided", info.decided);
    put_count(json, "cells", info.cells);
    put_count(json, "prompts", info.prompts);
    put_budget(sweep, json);
    put_count(json, "tokens_in", info.read);
    put_count(json, "tokens_cached", info.cached);
    put_count(json, "verdicts", sweep->verdicts);
    put_truth(core, sweep, json);
    put_count(json, "failed", sweep->failed);
    put_count(json, "leased", sweep->leased);
    json_key(json, "waiting");
    json_begin(json, '{');
    put_count(json, "generate", waiting.generate);
    put_count(json, "verify", waiting.verify);
    put_count(json, "truth", waiting.truth);
    json_end(json, '}');
    put_count(json, "started_s", sweep->started_s);
    put_count(json, "deadline_s", sweep->deadline_s);
    json_key(json, "arms");
    json_begin(json, '[');
    for (uint32_t i = 0; i < sweep->arms_len; i++)
        put_arm(core, &core->arms[sweep->arms[i]], json);
    json_end(json, ']');
    json_end(json, '}');
    buf_clear(&sentence);
}

static bool asked(const struct core *core, uint32_t id, const char *name)
{
    if (core->sweeps[id].state == SWEEP_REPLACED)
        return false;
    return name == NULL || strcmp(core->sweeps[id].name, name) == 0;
}

void core_status(const struct core *core, const char *name, struct buf *json)
{
    json_begin(json, '{');
    put_count(json, "epoch", core->epoch);
    json_key(json, "sweeps");
    json_begin(json, '[');
    for (uint32_t i = 0; i < core->sweeps_len; i++)
        if (asked(core, i, name))
            put_sweep(core, i, json);
    json_end(json, ']');
    json_end(json, '}');
}

static const char *agent_state(const struct agent_info *agent)
{
    return agent->draining         ? "draining"
           : agent->benched_ms > 0 ? "benched"
           : agent->silent_ms > 0  ? "silent"
           : agent->alone          ? "suspect"
           : agent->leased > 0     ? "busy"
                                   : "idle";
}

struct fleet_print {
    const struct core *core;
    struct buf *json;
    struct text_table *table;
};

static void put_offers(const struct agent_info *agent, struct buf *json)
{
    json_key(json, "offers");
    json_begin(json, '[');
    for (uint32_t i = 0; i < agent->offers_len; i++) {
        const struct server_offer *offer = &agent->offers[i];
        json_begin(json, '{');
        json_key(json, "model");
        json_text(json, offer->model);
        json_key(json, "server");
        json_text(json, offer->server);
        put_count(json, "context", offer->context);
        json_key(json, "features");
        json_begin(json, '[');
        for (int f = 0; f < FEATURES; f++)
            if (offer->features >> f & 1)
                json_str(json, feature_text(f));
        json_end(json, ']');
        json_end(json, '}');
    }
    json_end(json, ']');
}

static void put_agent(void *arg, const struct agent_info *agent)
{
    const struct fleet_print *print = arg;
    struct buf *json = print->json;
    char id[17];
    snprintf(id, sizeof id, "%016llx", (unsigned long long)agent->id); /* JSON numbers end at 2^53 */
    json_begin(json, '{');
    put_str(json, "name", agent->name);
    put_str(json, "id", id);
    put_str(json, "role", agent->verifier ? "verifier" : "worker");
    put_str(json, "state", agent_state(agent));
    json_key(json, "serves");
    json_begin(json, '[');
    for (int i = 0; i < 64 && core_kind_text(print->core, agent->verifier, i) != NULL; i++)
        if (agent->kinds >> i & 1)
            json_str(json, core_kind_text(print->core, agent->verifier, i));
    json_end(json, ']');
    put_count(json, "slots", agent->credits);
    put_count(json, "leased", agent->leased);
    put_count(json, "done", agent->done);
    put_count(json, "tokens", agent->tokens);
    put_count(json, "failures", agent->failures);
    put_count(json, "refusals", agent->refusals);
    put_count(json, "silent_ms", (uint64_t)agent->silent_ms);
    put_count(json, "benched_ms", (uint64_t)agent->benched_ms);
    put_count(json, "up_ms", (uint64_t)agent->up_ms);
    put_str(json, "trouble", agent->trouble);
    put_str(json, "devices", agent->devices);
    put_offers(agent, json);
    json_end(json, '}');
}

void core_workers(const struct core *core, struct buf *json)
{
    struct fleet_print print = {.core = core, .json = json};
    json_begin(json, '{');
    json_key(json, "workers");
    json_begin(json, '[');
    core_agents(core, put_agent, &print);
    json_end(json, ']');
    json_end(json, '}');
}

/* -- text ------------------------------------------------------------------------------------------- */

static void cell_value(struct text_table *table, uint64_t value, int d)
{
    struct buf text = {0};
    dimension_print(value, d, &text);
    text_cell(table, text.data);
    buf_clear(&text);
}

static void print_budget(const struct sweep *sweep, struct buf *out)
{
    struct text_table table;
    text_table_init(&table, "lrrrr");
    struct amounts burned = sweep_burned(sweep);
    static const char *const heads[] = {"", "accepted", "burned", "reserved", "cap"};
    for (int i = 0; i < 5; i++)
        text_cellf(&table, "%s%s", heads[i], (i == 1) == sweep->count_accepted && (i == 1 || i == 2) ? "*" : "");
    for (int d = 0; d < DIMENSIONS; d++) {
        text_cell(&table, dimension_names[d]);
        cell_value(&table, dimension(&sweep->accepted, d), d);
        cell_value(&table, dimension(&burned, d), d);
        cell_value(&table, dimension(&sweep->reserved, d), d);
        if (dimension(&sweep->caps, d) == 0)
            text_cell(&table, "-");
        else
            cell_value(&table, dimension(&sweep->caps, d), d);
    }
    text_table_print(&table, 2, out);
    text_table_clear(&table);
}

static void print_arms(const struct core *core, const struct sweep *sweep, struct buf *out)
{
    struct text_table table;
    struct buf models = {0};
    text_table_init(&table, "llrrrr");
    text_heads(&table, "arm|model|n|decided|rollouts|tokens");
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        const struct arm *arm = &core->arms[sweep->arms[i]];
        text_cell(&table, arm->name);
        buf_reset(&models);
        core_arm_models(core, arm->id, &models);
        text_cell(&table, models.data);
        text_cellf(&table, "%u", arm->n);
        text_cellf(&table, "%u/%u", arm->decided - arm->bin.elsewhere, arm->prompts - arm->bin.elsewhere);
        text_cellf(&table, "%llu", (unsigned long long)arm->charged.rollouts);
        text_cellf(&table, "%llu", (unsigned long long)arm->charged.tokens);
    }
    text_table_print(&table, 2, out);
    text_table_clear(&table);
    buf_clear(&models);
}

/* Nothing is said where no server counts it. */
void cached_text(uint64_t read, uint64_t cached, struct buf *out)
{
    if (cached > 0)
        buf_printf(out, "  %.0f %% of prompt tokens were cached (%llu of %llu)\n", 100 * (double)cached / (double)read,
                   (unsigned long long)cached, (unsigned long long)read);
}

void killed_text(const struct killed *killed, struct buf *out)
{
    if (killed->rollouts > 0)
        buf_printf(out,
                   "  ended early %llu rollout%s of arms with `kill`, after %llu tokens: about %.0f tokens saved\n",
                   (unsigned long long)killed->rollouts, plural(killed->rollouts), (unsigned long long)killed->tokens,
                   killed->saved);
}

static void print_prices(const struct core *core, const struct sweep *sweep, struct buf *out)
{
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        const struct arm *arm = &core->arms[sweep->arms[i]];
        if (arm_price(arm) > 0)
            buf_printf(out, "  price of one more rollout %.3g in arm %s, which follows its budget\n", arm_price(arm),
                       arm->name);
    }
}

static void print_truth(const struct core *core, const struct sweep *sweep, struct buf *out)
{
    if (sweep->truth == NO_ID)
        return;
    const uint64_t all = sweep->judged + sweep->truths;
    buf_puts(out, "  truth ");
    text_plain(slice_of(core->verifiers[sweep->truth].name), out);
    buf_printf(out, ": %llu of %llu rollouts of arms judged\n", (unsigned long long)sweep->judged,
               (unsigned long long)all);
}

static void print_sweep(const struct core *core, uint32_t id, struct buf *out)
{
    const struct sweep *sweep = &core->sweeps[id];
    struct sweep_info info = core_sweep(core, id);
    struct buf sentence = {0};
    core_waits_for(core, id, &sentence);
    buf_puts(out, "sweep ");
    text_plain(slice_of(sweep->name), out);
    buf_printf(out, ": %s", sweep_state_text(info.state));
    if (info.reason[0] != '\0') {
        buf_puts(out, ", ");
        text_plain(slice_of(info.reason), out);
    }
    buf_puts(out, "\n  waits for: ");
    text_plain(buf_slice(&sentence), out);
    buf_printf(out, "\n  decided %llu of %llu (%u prompt%s x %u arm%s), %llu verdict%s, %llu task%s given up\n",
               (unsigned long long)info.decided, (unsigned long long)info.cells, info.prompts, plural(info.prompts),
               info.arms, plural(info.arms), (unsigned long long)sweep->verdicts, plural(sweep->verdicts),
               (unsigned long long)sweep->failed, plural(sweep->failed));
    print_truth(core, sweep, out);
    cached_text(info.read, info.cached, out);
    struct killed killed = core_killed_all(core, id);
    killed_text(&killed, out);
    print_prices(core, sweep, out);
    print_budget(sweep, out);
    print_arms(core, sweep, out);
    buf_clear(&sentence);
}

void status_text(const struct core *core, const char *name, struct buf *out)
{
    bool any = false;
    for (uint32_t i = 0; i < core->sweeps_len; i++) {
        if (!asked(core, i, name))
            continue;
        if (any)
            buf_puts(out, "\n");
        any = true;
        print_sweep(core, i, out);
    }
    if (!any && name == NULL)
        buf_puts(out, "no sweep: 'drover submit FILE' or 'drover run FILE' starts one\n");
    if (!any && name != NULL) {
        buf_puts(out, "no sweep '");
        text_plain(slice_of(name), out);
        buf_puts(out, "': 'drover status' lists those that are here\n");
    }
}

static void print_agent(void *arg, const struct agent_info *agent)
{
    const struct fleet_print *print = arg;
    struct text_table *table = print->table;
    struct buf kinds = {0};
    for (int i = 0; i < 64 && core_kind_text(print->core, agent->verifier, i) != NULL; i++)
        if (agent->kinds >> i & 1)
            buf_printf(&kinds, "%s%s", kinds.len > 0 ? "," : "", core_kind_text(print->core, agent->verifier, i));
    text_cell(table, agent->name);
    text_cell(table, agent->verifier ? "verifier" : "worker");
    text_cell(table, agent_state(agent));
    text_cellf(table, "%u/%u", agent->leased, agent->credits);
    text_cellf(table, "%llu", (unsigned long long)agent->done);
    text_cellf(table, "%llu", (unsigned long long)agent->tokens);
    text_cellf(table, "%.1f", (double)agent->silent_ms / 1000);
    for (uint32_t i = 0; i < agent->offers_len; i++)
        buf_printf(&kinds, "%s%.*s", i == 0 ? ": " : " ", (int)agent->offers[i].model.len, agent->offers[i].model.data);
    text_cell(table, kinds.data == NULL ? "" : kinds.data);
    text_cell(table, agent->devices);
    buf_clear(&kinds);
}

static void print_trouble(void *arg, const struct agent_info *agent)
{
    struct buf *out = arg;
    if (agent->trouble[0] == '\0')
        return;
    text_plain(slice_of(agent->name), out);
    buf_puts(out, ": ");
    text_plain(slice_of(agent->trouble), out);
    buf_puts(out, "\n");
}

void workers_text(const struct core *core, struct buf *out)
{
    if (core->fleet == NULL) {
        buf_puts(out, "no worker is connected: 'drover worker' on any machine joins one\n");
        return;
    }
    struct text_table table;
    text_table_init(&table, "lllrrrrll");
    text_heads(&table, "name|role|state|leased|done|tokens|silent s|serves|devices");
    struct fleet_print print = {.core = core, .table = &table};
    core_agents(core, print_agent, &print);
    text_table_print(&table, 0, out);
    text_table_clear(&table);
    core_agents(core, print_trouble, out);
}
