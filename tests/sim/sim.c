/* sim.c - the core under a seeded simulated cluster: loss, delay, duplication, reordering, kills of agents and of the
 * broker before and between commit and send, refusals, failures, drains; sweeps that share a pool, grow, pause and are
 * cancelled. One process, virtual time, one seed = one history.
 *
 *   sim --check             the seeds of seeds.txt, then 2,000 (TAP; as `make check` runs it)
 *   sim --seeds A B         seeds A..B-1; stops at the first broken rule, prints its seed, exit 1
 *   sim --seed S --verbose  one seed, with every fact and message
 *   sim --damage A B        journals of these seeds, with a wrong field in one fact: damage.h
 *   sim --journal S         its journal, as facts, on standard output: seeds for fuzz_fact
 *   sim --dump S            the snapshot of its last state, likewise
 *
 * Checked after every commit: rules.h. Now and then and at the end: every invariant of core_check. At the end: every sweep
 * is over (once faults stop), nothing is reserved, leased or awaited, dump = replay, the audit re-runs every decision, and
 * the digest of a sweep that promises one equals that of a calm run with one worker. */
#include "broker/core/core.h"
#include "broker/core/read.h"
#include "common/hash.h"
#include "tests/sim/damage.h"
#include "tests/sim/rules.h"
#include "tests/sim/sweeps.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    AGENTS = 6,
    RUNNING = 8,
    HELD = 64, /* what an agent may hold: beside what runs, whatever was not acknowledged yet */
    EVENTS_FAULTY = 300,
    EVENTS_MAX = 9000,
    ACTIONS = 16,
    QUIET_MS = 700,
    HEARTBEAT_MS = 40,
    LEASE_MS = 100,
    QUEUE = 4096,
};

/* -- a message in flight, or an alarm ------------------------------------------------------------------------------- */

enum what { NOTHING, TO_BROKER, TO_AGENT, AGENT_ALARM, BROKER_TICK };

struct packet {
    int64_t at;
    uint64_t order; /* ties */
    enum what what;
    int agent; /* index of the agent */
    uint64_t incarnation;
    struct event event; /* TO_BROKER; running list below */
    uint64_t running[HELD];
    struct send send; /* TO_AGENT */
    bool welcome;     /* TO_AGENT: answer to HELLO; also "who are you" */
};

struct job {
    uint64_t lease, seed;
    struct key key;
    bool verify, step, done, failed, deadly;
    uint32_t tokens_max, kill_window;
    double kill_below;
    int64_t due;
};

struct agent {
    uint64_t incarnation;
    bool verifier, up, draining;
    bool hopeless;                    /* fails whatever it is given */
    const struct server_offer *offer; /* NULL: none */
    uint32_t refuses;                 /* bit of a spec */
    uint32_t credits;
    int64_t next_beat, heard;
    struct job jobs[HELD];
    int len;
    uint64_t seen[64]; /* leases that it was given last: a doubled message starts nothing twice */
    uint32_t seen_len;
};

/* Something that a user does, at an event of the faulty phase or once everything is over. */
enum act { ACT_SUBMIT, ACT_GROW, ACT_PAUSE, ACT_RESUME, ACT_CANCEL, ACT_DRAIN, ACT_DEATH };

struct action {
    enum act act;
    int at; /* event number; EVENTS_MAX: when all else is over */
    uint32_t sweep;
    bool done;
};

struct world {
    uint64_t seed, draws, order;
    bool calm, verbose, faults;
    int64_t now;
    struct packet *queue[QUEUE];
    int queue_len;
    struct agent agents[AGENTS];
    int agents_len;
    struct core *core;
    struct update update;
    struct buf journal; /* committed facts */
    int64_t tick_at;
    struct rules rules;
    uint64_t *acked;
    uint32_t acked_len, acked_cap;
    struct buf definitions[SWEEPS][2]; /* as submitted, as grown */
    struct action actions[ACTIONS];
    int actions_len;
    uint32_t sweeps;    /* 1 or 2 */
    uint32_t pool_size; /* rollouts that a recorded pool holds of a prompt, and its number */
    double poison;      /* share of tasks that kill who runs them */
};

/* What the model wants of a server, and something else. */
static const struct server_offer offer_m = {.model = {"m", 1}, .features = 1u << FEATURE_CONF_MIN},
                                 offer_other = {.model = {"other", 5}};

static uint64_t draw(struct world *w)
{
    return rng_u64(w->seed, RNG_TEST, 1, w->draws++);
}

static bool chance(struct world *w, double p)
{
    return rng_unit(draw(w)) < p;
}

static int64_t between(struct world *w, int64_t low, int64_t high)
{
    return low + (int64_t)(draw(w) % (uint64_t)(high - low + 1));
}

/* -- queue: a binary heap by (time, order) --------------------------------------------------------------------------- */

static bool earlier(const struct packet *a, const struct packet *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static struct packet *post(struct world *w, enum what what, int agent, int64_t at)
{
    struct packet *packet = xalloc(sizeof *packet);
    packet->at = at;
    packet->order = w->order++;
    packet->what = what;
    packet->agent = agent;
    packet->incarnation = agent >= 0 ? w->agents[agent].incarnation : 0;
    assert(w->queue_len < QUEUE);
    int i = w->queue_len++;
    for (; i > 0 && earlier(packet, w->queue[(i - 1) / 2]); i = (i - 1) / 2)
        w->queue[i] = w->queue[(i - 1) / 2];
    w->queue[i] = packet;
    return packet;
}

static struct packet *take(struct world *w)
{
    struct packet *top = w->queue[0], *last = w->queue[--w->queue_len];
    int i = 0;
    for (;;) {
        int child = 2 * i + 1;
        if (child >= w->queue_len)
            break;
        if (child + 1 < w->queue_len && earlier(w->queue[child + 1], w->queue[child]))
            child++;
        if (!earlier(w->queue[child], last))
            break;
        w->queue[i] = w->queue[child];
        i = child;
    }
    if (w->queue_len > 0)
        w->queue[i] = last;
    return top;
}

/* A message takes a while; with faults it may be lost, doubled, or overtaken. */
static struct packet *send_packet(struct world *w, enum what what, int agent)
{
    bool faulty = w->faults;
    if (faulty && chance(w, .04))
        return NULL;
    int64_t delay = faulty ? (chance(w, .05) ? between(w, 1, 400) : between(w, 1, 15)) : 1;
    return post(w, what, agent, w->now + delay);
}

static void again(struct world *w, const struct packet *packet)
{
    if (packet == NULL || !w->faults || !chance(w, .04))
        return;
    struct packet *copy = post(w, packet->what, packet->agent, w->now + between(w, 1, 60));
    int64_t at = copy->at;
    uint64_t order = copy->order;
    *copy = *packet;
    copy->at = at;
    copy->order = order;
}

/* -- the broker's shell ------------------------------------------------------------------------------------------------ */

/* The facts of one commit, as the rules and a reader of --verbose see them. */
static void check_facts(struct world *w, struct slice facts)
{
    struct fact fact;
    for (size_t at = 0; at < facts.len;) {
        if (fact_get(facts, &at, &fact) != 0) {
            broke(&w->rules, "a committed fact cannot be read");
            return;
        }
        if (w->verbose) {
            struct buf text = {0};
            fact_print(&text, &fact);
            printf("%6lld   fact %s\n", (long long)w->now, text.data);
            buf_clear(&text);
        }
        rule_fact(&w->rules, &fact);
    }
    rule_commit(&w->rules);
}

static void load(struct world *w, struct core *core, struct slice facts, const char *what)
{
    struct fact fact;
    for (size_t at = 0; at < facts.len;) {
        int rc = fact_get(facts, &at, &fact);
        if (rc == 0)
            rc = core_apply(core, &fact);
        if (rc != 0) {
            broke(&w->rules, "%s does not load", what);
            return;
        }
    }
}

static struct core *replay(struct world *w, bool keep_nodes)
{
    struct core *core = core_new(&(struct core_options){.lease_ms = LEASE_MS, .keep_nodes = keep_nodes});
    core_kind(core, false, slice_of(sim_backend(w->seed)));
    core_kind(core, true, slice_of("sim"));
    load(w, core, buf_slice(&w->journal), "the journal");
    return core;
}

static void deliver_sends(struct world *w)
{
    for (size_t i = 0; i < w->update.sends_len; i++) {
        const struct send *send = &w->update.sends[i];
        for (int a = 0; a < w->agents_len; a++) {
            if (w->agents[a].incarnation != send->agent)
                continue;
            struct packet *packet = send_packet(w, TO_AGENT, a);
            if (packet != NULL)
                packet->send = *send;
            again(w, packet);
        }
    }
}

static void commit(struct world *w)
{
    if (w->update.facts.len == 0)
        return;
    check_facts(w, buf_slice(&w->update.facts));
    buf_put(&w->journal, w->update.facts.data, w->update.facts.len);
}

/* The core's books beside the rules': within the caps, and never below what leases are known to use. */
static void check_books(struct world *w)
{
    if (!core_budget_ok(w->core))
        broke(&w->rules, "a sweep spent and reserved more than its budget");
    for (uint32_t i = 0; i < w->sweeps && w->rules.sweeps[i].known; i++) {
        const struct sweep_model *model = &w->rules.sweeps[i];
        struct sweep_info sweep = core_sweep(w->core, i);
        const struct spending *used = sweep.count_accepted ? &sweep.accepted : &sweep.burned;
        if (used->rollouts + sweep.reserved.rollouts < model->rollouts_used ||
            used->tokens + sweep.reserved.tokens < model->tokens_used)
            broke(&w->rules, "sweep '%s' books less than its leases use", sweep.name);
        if (sweep.read != model->read || sweep.cached != model->cached)
            broke(&w->rules, "sweep '%s' read %llu cached tokens, and counts %llu", sweep.name,
                  (unsigned long long)model->cached, (unsigned long long)sweep.cached);
    }
}

/* A worker that has room, and nothing that keeps it from work. */
static void count_free(void *arg, const struct agent_info *agent)
{
    uint32_t *count = arg;
    bool fit = agent->offers_len == 0 || agent->offers[0].model.len == 1;
    *count += !agent->verifier && fit && agent->leased < agent->credits && !agent->draining && agent->benched_ms == 0 &&
              !agent->alone && agent->refusals == 0;
}

/* Tasks that failed or were lost may wait for another agent. What killed agents waits for one that runs empty for it, and
 * that one gets nothing else: UINT64_MAX. */
static uint64_t troubled(const struct rules *r)
{
    uint64_t count = 0;
    for (uint64_t i = 1; i <= r->leases_len; i++) {
        const struct lease_model *lease = &r->leases[i];
        if (lease->died && lease->key.kind == TASK_GENERATE)
            return UINT64_MAX;
        count += lease->mark != MARK_LIVE && !lease->kept && lease->key.kind == TASK_GENERATE;
    }
    return count;
}

/* Work is conserved: whatever is left for the agent that has read its prompt, none stands idle beside it. */
static void check_idle(struct world *w)
{
    uint32_t workers = 0;
    struct draft d = draft_sweep(w->seed, 0);
    if (w->faults || w->sweeps > 1 || w->rules.sweeps[0].state != SWEEP_RUNNING ||
        d.rollouts + d.tokens + d.cost + d.slot_ms + d.deadline_s > 0)
        return;
    core_agents(w->core, count_free, &workers);
    uint64_t waiting = core_waiting(w->core, 0).generate;
    if (workers > 0 && waiting > troubled(&w->rules))
        broke(&w->rules, "%llu rollouts wait, and %u workers have room", (unsigned long long)waiting, workers);
}

static void commit_and_send(struct world *w)
{
    commit(w);
    check_books(w);
    deliver_sends(w);
    if (w->update.wake_ms < w->tick_at) {
        w->tick_at = w->update.wake_ms;
        post(w, BROKER_TICK, -1, w->tick_at < w->now ? w->now : w->tick_at);
    }
    update_reset(&w->update);
}

static void start(struct world *w, bool fleet_died)
{
    w->core = replay(w, false);
    w->tick_at = INT64_MAX;
    update_reset(&w->update);
    core_start(w->core, w->now, fleet_died, &w->update);
    commit_and_send(w);
}

static void crash(struct world *w)
{
    if (w->verbose)
        printf("%6lld   broker dies\n", (long long)w->now);
    core_free(&w->core);
    start(w, false);
}

static struct event event_now(const struct world *w, enum event_type type)
{
    return (struct event){.type = type, .now_ms = w->now, .unix_s = 1000 + w->now / 1000};
}

static void dispatch_and_commit(struct world *w)
{
    struct event event = event_now(w, EVENT_DISPATCH);
    core_step(w->core, &event, &w->update);
    if (w->faults && chance(w, .01)) { /* before the commit: all of this never happened */
        crash(w);
    } else if (w->faults && chance(w, .02)) { /* committed, and nobody was told */
        commit(w);
        crash(w);
    } else {
        commit_and_send(w);
        check_idle(w);
    }
}

/* -- agents -------------------------------------------------------------------------------------------------------- */

static void say(struct world *w, int a, const struct event *event, const uint64_t *running)
{
    struct packet *packet = send_packet(w, TO_BROKER, a);
    if (packet == NULL)
        return;
    packet->event = *event;
    packet->event.agent = w->agents[a].incarnation;
    if (event->type == EVENT_HELLO && event->hello.running_len > 0)
        memcpy(packet->running, running, event->hello.running_len * sizeof *running);
    again(w, packet);
}

static void hello(struct world *w, int a)
{
    struct agent *agent = &w->agents[a];
    uint64_t running[HELD];
    for (int i = 0; i < agent->len; i++)
        running[i] = agent->jobs[i].lease;
    say(w, a,
        &(struct event){.type = EVENT_HELLO,
                        .hello = {.name = slice_of("agent"),
                                  .verifier = agent->verifier,
                                  .kinds = 1,
                                  .credits = agent->credits,
                                  .next_ms = HEARTBEAT_MS,
                                  .running_len = (size_t)agent->len,
                                  .offers = agent->offer,
                                  .offers_len = agent->offer != NULL}},
        running);
}

/* Every outcome is drawn, passes most often. */
static enum outcome outcome_drawn(double score)
{
    static const struct {
        double below;
        enum outcome outcome;
    } rows[] = {
        {.06, OUTCOME_UNKNOWN}, {.1, OUTCOME_ERROR}, {.16, OUTCOME_TIMEOUT}, {.26, OUTCOME_SCORE}, {.6, OUTCOME_FAIL}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (score < rows[i].below)
            return rows[i].outcome;
    return OUTCOME_PASS;
}

/* Has confidences, and is ended for them. */
static void watch(const struct job *job, struct event *event)
{
    struct result *result = &event->result.result;
    const float lowest = (float)rng_unit(rng_mix(job->seed + 2));
    result->features.have |= 1u << FEATURE_CONF_MIN;
    result->features.v[FEATURE_CONF_MIN] = (double)lowest;
    if ((double)lowest >= job->kill_below)
        return;
    event->result.class = 0;
    result->finish = FINISH_KILLED;
    result->tokens_out = 1;
}

static void say_result(struct world *w, int a, struct job *job)
{
    struct event event = {.lease = job->lease};
    if (job->failed) {
        event.type = EVENT_FAIL;
        event.fail.tokens_in = 8;
        event.fail.tokens_out = (uint32_t)(job->seed % job->tokens_max);
        event.fail.reason = slice_of("made up");
    } else if (job->verify) {
        double score = rng_unit(rng_mix(job->seed));
        event.type = EVENT_VERDICT;
        event.verdict.verdict = (struct verdict){outcome_drawn(score), score};
        event.verdict.latency_ms = 3;
        if (job->seed % 3 == 0) /* it came with details */
            event.verdict.ref = (struct ref){1, (uint32_t)job->lease, 1};
    } else {
        uint64_t bits = rng_mix(job->seed);
        event.type = EVENT_RESULT;
        event.result.class = bits % 4;
        event.result.ref = (struct ref){1, (uint32_t)job->lease, 1};
        event.result.result = (struct result){
            .finish = job->step && bits % 10 < 6 ? FINISH_STEP : FINISH_STOP,
            .tokens_in = 8,
            .tokens_cached = (uint32_t)(bits >> 16) % 10, /* now and then more than there are */
            .tokens_out = 1 + (uint32_t)(bits >> 8) % job->tokens_max,
            .latency_ms = 5,
            .features = {1u << FEATURE_LP_MEAN, {[FEATURE_LP_MEAN] = -rng_unit(bits)}},
        };
        if (job->kill_window > 0)
            watch(job, &event);
        if (job->key.tree == NO_ID && job->key.item >= w->pool_size + job->key.prompt)
            event.result.result = (struct result){.finish = FINISH_EXHAUSTED};
    }
    say(w, a, &event, NULL);
}

static void job_remove(struct agent *agent, int i)
{
    agent->jobs[i] = agent->jobs[--agent->len];
}

static struct job *job_find(struct agent *agent, uint64_t lease)
{
    for (int i = 0; i < agent->len; i++)
        if (agent->jobs[i].lease == lease)
            return &agent->jobs[i];
    return NULL;
}

static void agent_birth(struct world *w, int a)
{
    struct agent *agent = &w->agents[a];
    agent->incarnation = rng_u64(w->seed, RNG_TEST, 3, w->draws++) | 1;
    agent->up = true;
    agent->draining = false;
    agent->len = 0;
    agent->next_beat = w->now + HEARTBEAT_MS;
    agent->heard = w->now;
    hello(w, a);
    post(w, AGENT_ALARM, a, w->now + 2);
}

static bool seen(struct agent *agent, uint64_t lease)
{
    for (int i = 0; i < 64; i++)
        if (agent->seen[i] == lease)
            return true;
    agent->seen[agent->seen_len++ % 64] = lease;
    return false;
}

/* Where the rule ends a rollout follows from the first two of the prompt, whoever was asked for what, and when. */
static void rule_kill(struct world *w, const struct send *send)
{
    double confidences[2];
    if (send->kill_window == 0 || w->rules.gave_up || w->pool_size < 2)
        return;
    for (uint64_t k = 0; k < 2; k++) {
        uint64_t seed = rng_u64(w->seed, RNG_ROLLOUT, send->key.prompt, k);
        confidences[k] = (double)(float)rng_unit(rng_mix(seed + 2));
    }
    double below = send->key.item < 2 ? 0 : (confidences[0] + confidences[1]) / 2;
    if (fabs(send->kill_below - below) > 1e-6)
        broke(&w->rules, "rollout %u of prompt %u is to be ended below %g, not %g", send->key.item, send->key.prompt,
              send->kill_below, below);
}

static void on_task(struct world *w, struct agent *agent, const struct send *send)
{
    rule_kill(w, send);
    if (agent->offer == &offer_other)
        broke(&w->rules, "lease %llu went to an agent that does not offer its model", (unsigned long long)send->lease);
    if (seen(agent, send->lease)) /* a doubled message */
        return;
    if (agent->len == HELD) { /* dropping it would be a loss without a reconnect, which no agent has */
        broke(&w->rules, "an agent is to hold more than %d leases", HELD);
        return;
    }
    bool verify = send->key.kind == TASK_VERIFY;
    if (agent->refuses >> send->spec & 1) {
        say(w, (int)(agent - w->agents), &(struct event){.type = EVENT_REFUSE, .lease = send->lease}, NULL);
        return;
    }
    agent->jobs[agent->len++] = (struct job){
        .lease = send->lease,
        .seed = send->seed,
        .key = send->key,
        .verify = verify,
        .step = send->step,
        .tokens_max = send->tokens_max,
        .kill_window = send->kill_window,
        .kill_below = send->kill_below,
        .due = w->now + (w->calm ? 1 : between(w, 1, 60)),
        .failed = w->faults && (agent->hopeless || chance(w, .02)),
        .deadly = w->faults && rng_unit(rng_mix(send->seed + 1)) < w->poison,
    };
}

static void on_ack(struct world *w, struct agent *agent, const struct send *send)
{
    struct job *job = job_find(agent, send->lease);
    if (job == NULL)
        return;
    if (!send->duplicate && !job->failed && job->done) {
        if (w->acked_len == w->acked_cap) {
            w->acked_cap = w->acked_cap == 0 ? 256 : 2 * w->acked_cap;
            w->acked = xrealloc(w->acked, w->acked_cap * sizeof *w->acked);
        }
        w->acked[w->acked_len++] = send->lease;
    }
    job_remove(agent, (int)(job - agent->jobs));
}

static void on_cancel(struct world *w, int a, const struct send *send)
{
    struct agent *agent = &w->agents[a];
    struct job *job = job_find(agent, send->lease);
    if (job == NULL || job->done)
        return;
    struct event event = {.type = EVENT_RETURN, .lease = send->lease};
    event.fail.tokens_out = 1;
    event.fail.latency_ms = 1;
    job_remove(agent, (int)(job - agent->jobs));
    say(w, a, &event, NULL);
}

static void agent_receive(struct world *w, struct packet *packet)
{
    struct agent *agent = &w->agents[packet->agent];
    if (!agent->up || packet->incarnation != agent->incarnation)
        return;
    agent->heard = w->now;
    if (packet->welcome) {
        hello(w, packet->agent);
        return;
    }
    switch (packet->send.type) {
    case SEND_TASK:
        on_task(w, agent, &packet->send);
        return;
    case SEND_ACK:
        on_ack(w, agent, &packet->send);
        return;
    case SEND_CANCEL:
        on_cancel(w, packet->agent, &packet->send);
        return;
    }
}

static void agent_dies(struct world *w, int a)
{
    w->agents[a].up = false;
    if (w->verbose)
        printf("%6lld   agent %d dies\n", (long long)w->now, a);
    post(w, AGENT_ALARM, a, w->now + between(w, 10, 300))->welcome = true;
}

/* Results that are due, and those that nobody acknowledged. False: one of them killed it. */
static bool agent_works(struct world *w, int a, int64_t *next)
{
    struct agent *agent = &w->agents[a];
    for (int i = 0; i < agent->len; i++) {
        struct job *job = &agent->jobs[i];
        if (job->due <= w->now && job->deadly) {
            agent_dies(w, a);
            return false;
        }
        if (job->due <= w->now) {
            job->done = true;
            say_result(w, a, job);
            job->due = w->now + 90; /* again, until it is acknowledged */
        }
        *next = job->due < *next ? job->due : *next;
    }
    return true;
}

/* The agent looks at its jobs and its clock. One that drains gives back what it has not begun, and goes when it is done. */
static void agent_alarm(struct world *w, int a)
{
    struct agent *agent = &w->agents[a];
    if (!agent->up)
        return;
    if (w->faults && chance(w, .004)) { /* kill -9; another one comes up in its place */
        agent_dies(w, a);
        return;
    }
    if (w->faults && chance(w, .02)) { /* kill -STOP: its leases are lost, and then it goes on as if nothing was */
        post(w, AGENT_ALARM, a, w->now + between(w, 100, 400));
        return;
    }
    int64_t next = agent->next_beat;
    if (!agent_works(w, a, &next))
        return;
    if (agent->draining && agent->len == 0) {
        say(w, a, &(struct event){.type = EVENT_GONE}, NULL);
        agent_dies(w, a);
        return;
    }
    if (agent->next_beat <= w->now) {
        if (chance(w, .1)) /* as after a reconnect */
            hello(w, a);
        else
            say(w, a, &(struct event){.type = EVENT_HEARTBEAT, .heartbeat = {.next_ms = HEARTBEAT_MS}}, NULL);
        agent->next_beat = w->now + HEARTBEAT_MS;
        next = agent->next_beat < next ? agent->next_beat : next;
    }
    post(w, AGENT_ALARM, a, next < w->now + 5 ? w->now + 5 : next);
}

/* -- users ------------------------------------------------------------------------------------------------------------- */

static void submit(struct world *w, uint32_t sweep, bool grown)
{
    struct event event = event_now(w, EVENT_SUBMIT);
    event.submit.definitions = buf_slice(&w->definitions[sweep][grown]);
    core_step(w->core, &event, &w->update);
    if (w->update.code != 0)
        broke(&w->rules, "the sweep is refused: %s", w->update.error.text);
}

static void control(struct world *w, uint32_t sweep, enum sweep_state state)
{
    struct event event = event_now(w, EVENT_CONTROL);
    event.control.sweep = sweep;
    event.control.state = state;
    core_step(w->core, &event, &w->update); /* may be refused: the sweep may be finished, or in that state */
}

static void drain(struct world *w, int a)
{
    struct agent *agent = &w->agents[a];
    struct event event = event_now(w, EVENT_DRAIN);
    event.agent = agent->incarnation;
    core_step(w->core, &event, &w->update);
    agent->draining = agent->up;
    while (agent->len > 1) {
        struct job *job = &agent->jobs[agent->len - 1];
        if (!job->done)
            say(w, a, &(struct event){.type = EVENT_RETURN, .lease = job->lease}, NULL);
        agent->len--;
    }
}

/* The broker and all agents at once, as when the one machine of `drover run` loses power. */
static void all_die(struct world *w)
{
    for (int i = 0; i < w->queue_len; i++) /* no message of the dead arrives */
        if (w->queue[i]->what == TO_BROKER)
            w->queue[i]->what = NOTHING;
    core_free(&w->core);
    update_reset(&w->update);
    start(w, true);
    for (int a = 0; a < w->agents_len; a++)
        if (w->agents[a].up)
            agent_birth(w, a);
}

static void act(struct world *w, struct action *action)
{
    uint32_t s = action->sweep;
    if (w->verbose)
        printf("%6lld user does %d with sweep %u\n", (long long)w->now, (int)action->act, s);
    action->done = true;
    switch (action->act) {
    case ACT_SUBMIT:
        submit(w, s, w->calm);
        break;
    case ACT_GROW:
        submit(w, s, true);
        break;
    case ACT_PAUSE:
        control(w, s, SWEEP_PAUSED);
        break;
    case ACT_RESUME:
        control(w, s, SWEEP_RUNNING);
        break;
    case ACT_CANCEL:
        control(w, s, SWEEP_CANCELLED);
        break;
    case ACT_DRAIN:
        drain(w, (int)(draw(w) % (uint64_t)w->agents_len));
        break;
    case ACT_DEATH:
        all_die(w);
        break;
    }
    commit_and_send(w);
}

/* -- the loop -------------------------------------------------------------------------------------------------------- */

/* What this one event made the core do, when it came at the start of a batch (so that the rules know all facts before). */
static void rule_event(struct world *w, const struct event *event)
{
    struct fact fact;
    bool counted = false;
    for (size_t at = 0; at < w->update.facts.len && fact_get(buf_slice(&w->update.facts), &at, &fact) == 0;) {
        counted = counted || (fact.type == FACT_result && fact.result.lease == event->lease) ||
                  (fact.type == FACT_verdict && fact.verdict.lease == event->lease);
        for (size_t i = 0; event->type == EVENT_HELLO && fact.type == FACT_lost && i < event->hello.running_len; i++)
            if (fact.lost.lease == event->hello.running[i])
                broke(&w->rules, "lease %llu is lost, though its agent says that it runs",
                      (unsigned long long)fact.lost.lease);
    }
    bool result = event->type == EVENT_RESULT || event->type == EVENT_VERDICT;
    if (result && !counted && rule_counts(&w->rules, event->lease))
        broke(&w->rules, "the result of lease %llu is dropped", (unsigned long long)event->lease);
}

static void broker_receive(struct world *w, struct packet *packet)
{
    struct event event = packet->event;
    bool first = w->update.facts.len == 0;
    event.now_ms = w->now;
    event.unix_s = 1000 + w->now / 1000;
    if (event.type == EVENT_HELLO)
        event.hello.running = packet->running;
    core_step(w->core, &event, &w->update);
    if (first)
        rule_event(w, &event);
    if (w->calm || chance(w, .7))
        dispatch_and_commit(w);
}

static void tick(struct world *w, const struct packet *packet)
{
    if (packet->at < w->tick_at && w->tick_at != INT64_MAX)
        return;
    struct event event = event_now(w, EVENT_TICK);
    w->tick_at = INT64_MAX;
    core_step(w->core, &event, &w->update);
    dispatch_and_commit(w);
}

static void step(struct world *w)
{
    struct packet *packet = take(w);
    w->now = packet->at > w->now ? packet->at : w->now;
    switch (packet->what) {
    case NOTHING:
        break;
    case TO_BROKER:
        if (w->verbose)
            printf("%6lld agent %d says %d about lease %llu\n", (long long)w->now, packet->agent, packet->event.type,
                   (unsigned long long)packet->event.lease);
        broker_receive(w, packet);
        break;
    case TO_AGENT:
        agent_receive(w, packet);
        break;
    case AGENT_ALARM:
        if (packet->welcome && !w->agents[packet->agent].up)
            agent_birth(w, packet->agent);
        else if (packet->incarnation == w->agents[packet->agent].incarnation)
            agent_alarm(w, packet->agent);
        break;
    case BROKER_TICK:
        tick(w, packet);
        break;
    }
    free(packet);
}

static void core_rules(struct world *w)
{
    struct error error;
    if (core_check(w->core, &error) != 0)
        broke(&w->rules, "%s", error.text);
}

/* I1: what an agent saw acknowledged is in the journal. */
static void check_acked(struct world *w)
{
    uint8_t *found = xalloc(w->rules.leases_len + 2);
    struct fact fact;
    for (size_t at = 0; at < w->journal.len && fact_get(buf_slice(&w->journal), &at, &fact) == 0;) {
        uint64_t lease = fact.type == FACT_result    ? fact.result.lease
                         : fact.type == FACT_verdict ? fact.verdict.lease
                                                     : 0;
        if (lease <= w->rules.leases_len)
            found[lease] = 1;
    }
    for (uint32_t i = 0; i < w->acked_len; i++)
        if (w->acked[i] > w->rules.leases_len || !found[w->acked[i]])
            broke(&w->rules, "lease %llu was acknowledged, but its result is not in the journal",
                  (unsigned long long)w->acked[i]);
    free(found);
}

static bool equal(const struct buf *a, const struct buf *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* dump = replay, and a core built from its own dump is the same core. At the end no lease is left. */
static void check_dumps(struct world *w)
{
    struct buf live = {0}, again_dumped = {0};
    struct fact fact;
    core_dump(w->core, &live);
    struct core *core = replay(w, false);
    core_settle(core);
    core_dump(core, &again_dumped);
    if (!equal(&live, &again_dumped))
        broke(&w->rules, "replaying the journal gives another state");
    for (uint32_t i = 0; i < w->sweeps; i++) {
        struct sweep_info lived = core_sweep(w->core, i), derived = core_sweep(core, i);
        if (lived.judged != derived.judged || lived.truths != derived.truths)
            broke(&w->rules,
                  "sweep '%s' counts %llu verdicts of the truth and misses %llu, after a replay %llu and %llu",
                  lived.name, (unsigned long long)lived.judged, (unsigned long long)lived.truths,
                  (unsigned long long)derived.judged, (unsigned long long)derived.truths);
    }
    core_free(&core);
    core = core_new(&(struct core_options){.lease_ms = LEASE_MS});
    load(w, core, buf_slice(&live), "a dump");
    if (w->rules.broken[0] == '\0') {
        struct error error;
        core_settle(core);
        if (core_check(core, &error) != 0)
            broke(&w->rules, "a core built from a dump: %s", error.text);
        buf_reset(&again_dumped);
        core_dump(core, &again_dumped);
        if (!equal(&live, &again_dumped))
            broke(&w->rules, "a core built from a dump is another core");
        for (uint32_t i = 0; i < w->sweeps; i++)
            if (core_sweep(core, i).cached != w->rules.sweeps[i].cached)
                broke(&w->rules, "a dump forgets cached tokens");
        for (uint32_t i = 0; i < w->rules.arms_len; i++)
            if (core_arm(core, i).answering.top != core_arm(w->core, i).answering.top)
                broke(&w->rules, "a dump forgets how many answers arm %u submits", i);
    }
    for (size_t at = 0; at < live.len && fact_get(buf_slice(&live), &at, &fact) == 0;)
        if (fact.type == FACT_leased && fact.leased.state != 1)
            broke(&w->rules, "lease %llu is never settled nor forgotten", (unsigned long long)fact.leased.lease);
    core_free(&core);
    buf_clear(&live);
    buf_clear(&again_dumped);
}

static void check_audit(struct world *w)
{
    struct core *core = core_new(&(struct core_options){.lease_ms = LEASE_MS});
    struct error error = {""};
    struct fact fact;
    core_audit_begin(core);
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < w->journal.len;) {
        rc = fact_get(buf_slice(&w->journal), &at, &fact);
        if (rc == 0)
            rc = core_audit_fact(core, &fact, &error);
    }
    if (rc == 0)
        rc = core_audit_end(core, &error);
    if (rc != 0)
        broke(&w->rules, "audit: %s", error.text);
    core_free(&core);
}

/* A sweep that is done holds and awaits nothing. (One that ended early may still gain from another one's rollouts.) */
static void check_rest(struct world *w, uint32_t id)
{
    struct sweep_info sweep = core_sweep(w->core, id);
    const struct spending *r = &sweep.reserved;
    if (r->rollouts + r->tokens + r->slot_ms + r->cost > 0 || sweep.leased > 0)
        broke(&w->rules, "sweep '%s' is over, but reserves %llu tokens, %llu ms, %llu of cost in %u leases", sweep.name,
              (unsigned long long)r->tokens, (unsigned long long)r->slot_ms, (unsigned long long)r->cost, sweep.leased);
    if (sweep.state != SWEEP_DONE || sweep.reason[0] != '\0')
        return;
    if (sweep.decided != sweep.cells || (sweep.truths > 0 && w->sweeps == 1))
        broke(&w->rules, "sweep '%s' is done, but %llu of %llu decided and %llu truths missing", sweep.name,
              (unsigned long long)sweep.decided, (unsigned long long)sweep.cells, (unsigned long long)sweep.truths);
    for (uint32_t i = 0; i < sweep.arms; i++) {
        struct arm_info arm = core_arm(w->core, core_sweep_arm(w->core, id, i));
        const struct spending *kept = &arm.reserved;
        if (arm.unfolded > 0 || kept->rollouts + kept->tokens + kept->slot_ms + kept->cost > 0)
            broke(&w->rules, "arm '%s' is done, but %llu rollouts of it are in flight or reserved", arm.name,
                  (unsigned long long)arm.unfolded);
    }
}

static bool acted(const struct world *w, int before)
{
    for (int i = 0; i < w->actions_len; i++)
        if (w->actions[i].at <= before && !w->actions[i].done)
            return false;
    return true;
}

static bool sweeps_over(const struct world *w)
{
    for (uint32_t i = 0; i < w->sweeps; i++) {
        uint8_t state = w->rules.sweeps[i].state;
        if (!w->rules.sweeps[i].known || (state != SWEEP_DONE && state != SWEEP_CANCELLED))
            return false;
    }
    return true;
}

static void plan_action(struct world *w, enum act what, int at, uint32_t sweep)
{
    assert(w->actions_len < ACTIONS);
    w->actions[w->actions_len++] = (struct action){.act = what, .at = at, .sweep = sweep};
}

/* What users do to this history. A calm run submits everything at once, grown already. */
static void plan_actions(struct world *w)
{
    uint64_t bits = rng_u64(w->seed, RNG_TEST, 9, 0);
    w->sweeps = bits % 3 == 0 ? 2 : 1;
    w->pool_size = (bits >> 4) % 5 == 0 ? 2 + (uint32_t)(bits >> 8) % 5 : UINT32_MAX / 2;
    w->poison = !w->calm && (bits >> 12) % 8 == 0 ? .03 : 0;
    for (uint32_t s = 0; s < w->sweeps; s++) {
        bits = rng_u64(w->seed, RNG_TEST, 9, 1 + s);
        int first = w->calm || s == 0 ? 0 : (int)(bits % 250);
        plan_action(w, ACT_SUBMIT, first, s);
        if (w->calm)
            continue;
        if ((bits >> 16) % 6 == 0) {
            bool pause = (bits >> 20) % 2;
            int at = first + (int)((bits >> 24) % 100);
            plan_action(w, pause ? ACT_PAUSE : ACT_CANCEL, at, s);
            plan_action(w, ACT_RESUME, at + 1 + (int)((bits >> 32) % 100), s);
        }
        if (draft_sweep(w->seed, s).grows)
            plan_action(w, ACT_GROW, (bits >> 40) % 2 ? EVENTS_MAX : first + 1 + (int)((bits >> 44) % 200), s);
        if (s > 0 && (bits >> 56) % 8 == 0 && !draft_sweep(w->seed, s).grows)
            plan_action(w, ACT_CANCEL, 290, s);
    }
    bits = rng_u64(w->seed, RNG_TEST, 9, 8);
    if (!w->calm && bits % 5 == 0)
        plan_action(w, ACT_DRAIN, (int)((bits >> 8) % 250), 0);
    if (!w->calm && (bits >> 16) % 10 == 0)
        plan_action(w, ACT_DEATH, 1 + (int)((bits >> 24) % 250), 0);
}

static void world_free(struct world *w)
{
    core_free(&w->core);
    update_clear(&w->update);
    buf_clear(&w->journal);
    for (int i = 0; i < SWEEPS * 2; i++)
        buf_clear(&w->definitions[i / 2][i % 2]);
    while (w->queue_len > 0)
        free(w->queue[--w->queue_len]);
    free(w->acked);
    free(w);
}

static struct world *world_new(uint64_t seed, bool calm, bool verbose)
{
    struct world *w = xalloc(sizeof *w);
    w->seed = seed;
    w->calm = calm;
    w->faults = !calm;
    w->verbose = verbose;
    w->rules.seed = seed;
    plan_actions(w);
    for (uint32_t s = 0; s < w->sweeps; s++)
        for (int grown = 0; grown < 2; grown++)
            put_sweep(&w->definitions[s][grown], seed, s, grown);
    start(w, false);
    w->agents_len = calm ? 2 : 2 + (int)(draw(w) % (AGENTS - 1));
    for (int a = 0; a < w->agents_len; a++) {
        struct agent *agent = &w->agents[a];
        agent->verifier = a % 2 == 1;
        agent->credits = calm ? 1 : 1 + (uint32_t)(draw(w) % RUNNING);
        agent->hopeless = a > 1 && chance(w, .08);
        uint64_t bits = rng_u64(seed, RNG_TEST, 10, (uint64_t)a);
        agent->offer = agent->verifier || bits % 4 > 0 ? NULL : a > 1 && (bits >> 8) % 2 ? &offer_other : &offer_m;
        agent->refuses = a > 1 && chance(w, .1) ? 1 + (uint32_t)(draw(w) % 3) : 0;
        agent_birth(w, a);
    }
    return w;
}

/* From here on no message is lost; whoever lost one reconnects, which starts with a HELLO. */
static void faults_end(struct world *w)
{
    w->faults = false;
    for (int a = 0; a < w->agents_len; a++)
        if (w->agents[a].up)
            hello(w, a);
}

/* Runs the loop until all sweeps are over and every user had their say, then a while longer: what is left must go. */
static int run_events(struct world *w)
{
    int64_t quiet = 0;
    int n = 0;
    for (; n < EVENTS_MAX && w->queue_len > 0 && w->rules.broken[0] == '\0'; n++) {
        if (n == EVENTS_FAULTY)
            faults_end(w);
        for (int i = 0; i < w->actions_len; i++)
            if (!w->actions[i].done && (w->actions[i].at <= n || (quiet > 0 && w->actions[i].at == EVENTS_MAX)))
                act(w, &w->actions[i]);
        step(w);
        if (n % 128 == 127)
            core_rules(w);
        if (!sweeps_over(w) || !acted(w, EVENTS_MAX - 1))
            quiet = 0;
        else if (quiet == 0)
            quiet = w->now;
        if (quiet > 0 && acted(w, EVENTS_MAX) && !w->faults && w->now > quiet + (w->calm ? 0 : QUIET_MS))
            return n;
    }
    if (w->rules.broken[0] == '\0')
        broke(&w->rules, "not finished after %d events: something waits for ever", n);
    return n;
}

/* Runs one history to its end; the digests of what it decided. */
static void run(struct world *w, uint64_t *events, uint64_t *digests)
{
    *events += (uint64_t)run_events(w);
    commit(w); /* what waited for the end of a batch */
    update_reset(&w->update);
    core_rules(w);
    check_acked(w);
    for (uint32_t s = 0; s < w->sweeps && w->rules.broken[0] == '\0'; s++)
        check_rest(w, s);
    if (w->rules.broken[0] != '\0')
        return;
    if (!w->calm) {
        check_dumps(w);
        check_audit(w);
    }
    struct core *core = replay(w, true);
    core_settle(core);
    for (uint32_t s = 0; s < w->sweeps; s++)
        digests[s] = core_digest(core, s);
    core_free(&core);
}

static bool promised(const struct world *w, uint32_t sweep)
{
    struct draft d = draft_sweep(w->seed, sweep);
    return draft_promises(&d) && w->rules.sweeps[sweep].state == SWEEP_DONE && !w->rules.gave_up;
}

static bool any_promised(const struct world *w)
{
    return promised(w, 0) || (w->sweeps > 1 && promised(w, 1));
}

static void compare(struct world *w, const uint64_t *digests, uint64_t *events)
{
    struct world *calm = world_new(w->seed, true, false);
    uint64_t expected[SWEEPS];
    run(calm, events, expected);
    if (calm->rules.broken[0] != '\0')
        broke(&w->rules, "in calm: %s", calm->rules.broken);
    for (uint32_t s = 0; s < w->sweeps && w->rules.broken[0] == '\0'; s++)
        if (promised(w, s) && expected[s] != digests[s])
            broke(&w->rules, "the digest of sweep %u differs from that of a calm run with one worker", s);
    world_free(calm);
}

static uint64_t seed_running;
static const char *damage_running = "";

static void on_abort(int signal)
{
    char text[500];
    int len = snprintf(text, sizeof text, "seed %llu: aborted\n%s", (unsigned long long)seed_running, damage_running);
    if (len > 0 && write(STDOUT_FILENO, text, (size_t)len) < 0)
        _exit(3);
    _exit(128 + signal);
}

static bool one_seed(uint64_t seed, bool verbose, uint64_t *events)
{
    struct world *w = world_new(seed, false, verbose);
    uint64_t digests[SWEEPS];
    seed_running = seed;
    run(w, events, digests);
    if (w->rules.broken[0] == '\0' && any_promised(w))
        compare(w, digests, events);
    bool good = w->rules.broken[0] == '\0';
    if (!good)
        printf("seed %llu: %s\n  again: build/tests/sim/sim --seed %llu --verbose\n", (unsigned long long)seed,
               w->rules.broken, (unsigned long long)seed);
    world_free(w);
    return good;
}

static int write_journal(uint64_t seed, bool dump)
{
    struct world *w = world_new(seed, false, false);
    struct buf bytes = {0};
    run_events(w);
    commit(w);
    if (dump)
        core_dump(w->core, &bytes);
    else
        buf_put(&bytes, w->journal.data, w->journal.len);
    size_t written = fwrite(bytes.data, 1, bytes.len, stdout);
    int rc = written == bytes.len ? 0 : 1;
    buf_clear(&bytes);
    world_free(w);
    return rc;
}

static int run_seeds(uint64_t from, uint64_t to, bool verbose)
{
    uint64_t events = 0, seed = from;
    struct timespec a, b;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    for (; seed < to; seed++)
        if (!one_seed(seed, verbose, &events))
            return 1;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    double s = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
    printf("%llu seeds, %llu events, %.2f s of CPU: %.0f seeds/min per core\n", (unsigned long long)(to - from),
           (unsigned long long)events, s, 60 * (double)(to - from) / s);
    return 0;
}

/* False: a journal was refused as something else. */
static bool damage_seed(uint64_t seed, uint64_t *refused)
{
    struct world *w = world_new(seed, false, false);
    struct damage *d = xalloc(sizeof *d);
    bool good = true;
    run_events(w);
    commit(w);
    d->journal = buf_slice(&w->journal);
    d->seed = seed_running = seed;
    damage_running = d->text;
    damage_read(d);
    for (int i = 0; i < DAMAGES && good; i++) {
        int rc = damage_try(d, sim_backend(seed));
        *refused += rc == 1;
        good = rc >= 0;
    }
    if (!good)
        printf("seed %llu: refused without the right reason\n%s", (unsigned long long)seed, d->text);
    damage_running = "";
    free(d);
    world_free(w);
    return good;
}

static int run_damages(uint64_t from, uint64_t to)
{
    uint64_t refused = 0;
    for (uint64_t seed = from; seed < to; seed++)
        if (!damage_seed(seed, &refused))
            return 1;
    printf("%llu damaged journals, %llu of them refused\n", (unsigned long long)(DAMAGES * (to - from)),
           (unsigned long long)refused);
    return 0;
}

/* Seeds that once broke a rule, one a line, a remark behind each. */
static int run_list(const char *path, int *count)
{
    char line[400];
    uint64_t events = 0;
    int rc = 0;
    FILE *file = fopen(path, "r");
    for (*count = 0; file != NULL && rc == 0 && fgets(line, sizeof line, file) != NULL;) {
        char *end;
        uint64_t seed = strtoull(line, &end, 10);
        if (end == line)
            continue;
        rc = one_seed(seed, false, &events) ? 0 : 1;
        ++*count;
    }
    if (file == NULL || fclose(file) != 0)
        return 1;
    return rc;
}

static int check(void)
{
    int listed, rc = run_list("tests/sim/seeds.txt", &listed);
    printf("1..3\n%s 1 - %d seeds that once broke a rule\n", rc == 0 ? "ok" : "not ok", listed);
    int rc_new = run_seeds(0, 2000, false);
    printf("%s 2 - 2000 seeds keep every rule\n", rc_new == 0 ? "ok" : "not ok");
    int rc_damaged = run_damages(0, 60);
    printf("%s 3 - journals with a wrong field are refused, or do no harm\n", rc_damaged == 0 ? "ok" : "not ok");
    return rc | rc_new | rc_damaged;
}

int main(int argc, char **argv)
{
    signal(SIGABRT, on_abort);
    signal(SIGSEGV, on_abort);
    if (argc == 2 && strcmp(argv[1], "--check") == 0)
        return check();
    if (argc == 4 && strcmp(argv[1], "--seeds") == 0)
        return run_seeds(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10), false);
    if (argc == 4 && strcmp(argv[1], "--damage") == 0)
        return run_damages(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    if (argc >= 3 && strcmp(argv[1], "--seed") == 0) {
        uint64_t seed = strtoull(argv[2], NULL, 10);
        return run_seeds(seed, seed + 1, argc == 4);
    }
    if (argc == 3 && (strcmp(argv[1], "--journal") == 0 || strcmp(argv[1], "--dump") == 0))
        return write_journal(strtoull(argv[2], NULL, 10), argv[1][2] == 'd');
    fprintf(
        stderr,
        "usage: sim --check | --seeds FROM TO | --seed S [--verbose] | --damage FROM TO | --journal S | --dump S\n");
    return 2;
}
