/* sim.c - the core under a seeded simulated cluster: loss, delay, duplication, reordering, and kills of agents and of the
 * broker before and between commit and send. One process, virtual time, one seed = one history.
 *
 *   sim --check             2,000 seeds, as `make check` runs it (TAP)
 *   sim --seeds A B         seeds A..B-1; stops at the first broken rule, prints its seed, exit 1
 *   sim --seed S --verbose  one seed, with every fact and message
 *
 * Checked after every commit: a lease is granted once, a key is closed once, what was acknowledged is in the journal,
 * spent + reserved <= budget. Now and then and at the end: every invariant of core_check, dump = replay. At the end: the
 * sweep is finished (once faults stop), nothing is reserved, the audit re-runs every decision, and the digest equals that
 * of a calm run with one worker. */
#include "broker/core/core.h"
#include "broker/policy/policy.h"
#include "common/hash.h"
#include "common/rng.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    PROMPTS = 4, AGENTS = 6, RUNNING = 8, EVENTS_FAULTY = 300, EVENTS_MAX = 6000,
    HEARTBEAT_MS = 40, LEASE_MS = 100, QUEUE = 4096, LEASES = 16384,
};

/* -- a message in flight, or an alarm ------------------------------------------------------------------------------- */

enum what { TO_BROKER, TO_AGENT, AGENT_ALARM, BROKER_TICK };

struct packet {
    int64_t at;
    uint64_t order; /* ties */
    enum what what;
    int agent;           /* index of the agent */
    uint64_t incarnation;
    struct event event;  /* TO_BROKER; running list below */
    uint64_t running[RUNNING * 2];
    struct send send;    /* TO_AGENT */
    bool welcome;        /* TO_AGENT: answer to HELLO; also "who are you" */
};

struct job {
    uint64_t lease, seed;
    struct key key;
    bool verify, step, done, failed;
    uint32_t tokens_max;
    int64_t due;
};

struct agent {
    uint64_t incarnation;
    bool verifier, up, draining;
    uint32_t credits;
    int64_t next_beat, heard;
    struct job jobs[RUNNING * 2];
    int len;
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
    struct buf journal;      /* committed facts */
    int64_t tick_at;
    uint32_t commits;
    /* model of the rules, independent of the core */
    struct {
        struct key key;
        uint8_t state; /* 1 granted, 2 gave the result */
    } leases[LEASES];
    uint64_t leases_len;
    uint64_t *acked;
    uint32_t acked_len, acked_cap;
    struct buf definitions;
    bool capped;             /* a budget may bind: digests are not promised */
    bool gave_up, submitted;
    uint64_t cap_rollouts;
    char broken[600];
};

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

static void broke(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void broke(struct world *w, const char *format, ...)
{
    va_list args;
    if (w->broken[0] != '\0')
        return;
    va_start(args, format);
    vsnprintf(w->broken, sizeof w->broken, format, args);
    va_end(args);
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

/* -- the sweep ------------------------------------------------------------------------------------------------------- */

static void default_options(double *to, const struct option *options)
{
    for (int i = 0; options != NULL && options[i].name != NULL; i++)
        to[i] = options[i].fallback;
}

static void put_arm(struct world *w, uint32_t id, const char *name, const char *strategy, const char *allocator,
                    const char *stopper, const char *selector, uint32_t n, uint32_t verifier, bool strict,
                    uint64_t rollouts)
{
    double options[4][POLICY_OPTIONS_MAX] = {0};
    default_options(options[0], strategy_find(strategy)->options);
    default_options(options[1], allocator_find(allocator)->options);
    default_options(options[2], stopper_find(stopper)->options);
    default_options(options[3], selector_find(selector)->options);
    fact_put(&w->definitions,
             &(struct fact){.type = FACT_arm,
                            .arm = {.id = id, .name = slice_of(name), .strategy = slice_of(strategy),
                                    .allocator = slice_of(allocator), .stopper = slice_of(stopper),
                                    .selector = slice_of(selector), .n = n, .verifier = verifier,
                                    .strict = strict, .lookahead = 5, .rollouts = rollouts,
                                    .options = {(const char *)options, sizeof options}}});
}

static void put_world(struct world *w)
{
    struct buf *to = &w->definitions;
    fact_put(to, &(struct fact){.type = FACT_set, .set = {.digest = 7, .len = PROMPTS}});
    for (uint32_t p = 0; p < PROMPTS; p++)
        fact_put(to, &(struct fact){.type = FACT_prompt,
                                    .prompt = {.ref_commit = 1, .ref_offset = p, .ref_len = 1, .bytes = 10 + p}});
    fact_put(to, &(struct fact){.type = FACT_model,
                                .model = {.fingerprint = 11, .name = slice_of("m"), .backend = slice_of("sim"),
                                          .max_tokens = 20, .template_tokens = 2, .timeout_ms = 1000}});
    for (uint32_t v = 0; v < 2; v++)
        fact_put(to, &(struct fact){.type = FACT_verifier,
                                    .verifier = {.id = v, .fingerprint = 21 + v,
                                                 .name = slice_of(v == 0 ? "truth" : "judge"),
                                                 .kind = slice_of("sim"), .timeout_ms = 500, .price = 3}});
    fact_put(to, &(struct fact){.type = FACT_pool, .pool = {.fingerprint = 31, .seed = w->seed}});
}

/* Three arms over one pool and a tree; which ones, and how tight the budget, depends on the seed. */
static void define(struct world *w)
{
    uint64_t bits = rng_u64(w->seed, RNG_TEST, 2, 0);
    bool strict = bits & 1, truth = bits >> 1 & 3, accepted = bits >> 9 & 1;
    int middle = (int)(bits >> 3 & 3), tree = (int)(bits >> 5 & 1), cap = (int)(bits >> 6 & 7);
    uint64_t rollouts = cap == 1 ? 20 + (bits >> 20) % 40 : 0, tokens = cap == 2 ? 400 + (bits >> 20) % 900 : 0;
    uint64_t cost = cap == 3 ? 60 + (bits >> 20) % 100 : 0;
    uint64_t own = cap == 4 ? 9 + (bits >> 30) % 12 : 0;
    w->capped = rollouts + tokens + cost > 0 || (own > 0 && !strict) || (middle == 1 && !strict);
    w->cap_rollouts = accepted ? 0 : rollouts;
    put_world(w);
    fact_put(&w->definitions,
             &(struct fact){.type = FACT_sweep,
                            .sweep = {.name = slice_of("sim"), .seed = w->seed, .truth = truth ? 0 : NO_ID,
                                      .rollouts = rollouts, .tokens = tokens, .cost = cost, .accepted = accepted}});
    static const struct {
        const char *allocator, *stopper, *selector;
        uint32_t verifier;
    } middles[4] = {{"uniform", "beta", "majority", NO_ID},
                    {"elimination", "none", "first-pass", 1},
                    {"uniform", "none", "best", 1},
                    {"uniform", "beta", "weighted", 1}};
    put_arm(w, 0, "middle", "sample", middles[middle].allocator, middles[middle].stopper, middles[middle].selector,
            6 + (uint32_t)(bits >> 40) % 3, middles[middle].verifier, strict, own);
    if (bits >> 50 & 1)
        put_arm(w, 1, "plain", "sample", "uniform", "none", "majority", 3 + (uint32_t)(bits >> 51) % 6, NO_ID, false, 0);
    else
        put_arm(w, 1, "plain", "sample", "uniform", "beta", "majority", 7, NO_ID, true, 0);
    put_arm(w, 2, "search", tree ? "particles" : "dvts", "uniform", "none", tree ? "best" : "majority", 4, 1, false, 0);
}

/* -- the broker's shell ------------------------------------------------------------------------------------------------ */

static bool same_key(const struct key *a, const struct key *b)
{
    return a->kind == b->kind && a->owner == b->owner && a->prompt == b->prompt && a->tree == b->tree &&
           a->item == b->item && a->verifier == b->verifier;
}

static void rule_lease(struct world *w, const struct fact_lease *f)
{
    if (f->lease != w->leases_len + 1)
        broke(w, "lease %llu granted out of turn", (unsigned long long)f->lease);
    assert(f->lease < LEASES);
    w->leases_len = f->lease;
    w->leases[f->lease].key = (struct key){f->kind, f->owner, f->prompt, f->tree, f->item, f->verifier};
    w->leases[f->lease].state = 1;
}

static void rule_result(struct world *w, uint64_t lease)
{
    if (lease > w->leases_len || w->leases[lease].state != 1) {
        broke(w, "a result for lease %llu, which was not open", (unsigned long long)lease);
        return;
    }
    for (uint64_t i = 1; i <= w->leases_len; i++)
        if (w->leases[i].state == 2 && same_key(&w->leases[i].key, &w->leases[lease].key))
            broke(w, "two results for one key (leases %llu and %llu)", (unsigned long long)i,
                  (unsigned long long)lease);
    w->leases[lease].state = 2;
}

static void rule_voided(struct world *w, const struct fact_voided *f)
{
    for (uint64_t i = 1; i <= w->leases_len; i++) {
        const struct key *key = &w->leases[i].key;
        if (key->tree == NO_ID && key->owner == f->pool && key->prompt == f->prompt && key->item >= f->from)
            w->leases[i].state = 0;
    }
}

/* The rules that can be read off the committed facts alone. */
static void check_facts(struct world *w, struct slice facts)
{
    struct fact fact;
    for (size_t at = 0; at < facts.len;) {
        if (fact_get(facts, &at, &fact) != 0) {
            broke(w, "a committed fact cannot be read");
            return;
        }
        if (w->verbose) {
            struct buf text = {0};
            fact_print(&text, &fact);
            printf("%6lld   fact %s\n", (long long)w->now, text.data);
            buf_clear(&text);
        }
        if (fact.type == FACT_lease)
            rule_lease(w, &fact.lease);
        else if (fact.type == FACT_result)
            rule_result(w, fact.result.lease);
        else if (fact.type == FACT_verdict)
            rule_result(w, fact.verdict.lease);
        else if (fact.type == FACT_voided)
            rule_voided(w, &fact.voided);
        else if (fact.type == FACT_give_up)
            w->gave_up = true;
    }
}

static struct core *replay(struct world *w, bool keep_nodes)
{
    struct core *core = core_new(&(struct core_options){.lease_ms = LEASE_MS, .keep_nodes = keep_nodes});
    core_kind(core, false, slice_of("sim"));
    core_kind(core, true, slice_of("sim"));
    struct fact fact;
    for (size_t at = 0; at < w->journal.len;) {
        int rc = fact_get(buf_slice(&w->journal), &at, &fact);
        if (rc == 0)
            rc = core_apply(core, &fact);
        if (rc != 0) {
            broke(w, "the journal does not replay");
            break;
        }
    }
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
    check_facts(w, buf_slice(&w->update.facts));
    buf_put(&w->journal, w->update.facts.data, w->update.facts.len);
    w->commits++;
}

static void commit_and_send(struct world *w)
{
    commit(w);
    deliver_sends(w);
    if (w->update.wake_ms < w->tick_at) {
        w->tick_at = w->update.wake_ms;
        post(w, BROKER_TICK, -1, w->tick_at < w->now ? w->now : w->tick_at);
    }
    update_reset(&w->update);
}

static void start(struct world *w)
{
    w->core = replay(w, false);
    w->tick_at = INT64_MAX;
    update_reset(&w->update);
    core_start(w->core, w->now, false, &w->update);
    commit_and_send(w);
    if (w->submitted)
        return;
    core_step(w->core,
              &(struct event){.type = EVENT_SUBMIT, .now_ms = w->now,
                              .submit = {.definitions = buf_slice(&w->definitions)}},
              &w->update);
    if (w->update.code != 0)
        broke(w, "the sweep is refused: %s", w->update.error.text);
    commit_and_send(w);
    w->submitted = true;
}

static void crash(struct world *w)
{
    if (w->verbose)
        printf("%6lld   broker dies\n", (long long)w->now);
    core_free(&w->core);
    start(w);
}

static void dispatch_and_commit(struct world *w)
{
    core_step(w->core, &(struct event){.type = EVENT_DISPATCH, .now_ms = w->now}, &w->update);
    if (w->faults && chance(w, .01)) { /* before the commit: all of this never happened */
        crash(w);
    } else if (w->faults && chance(w, .02)) { /* committed, and nobody was told */
        commit(w);
        crash(w);
    } else {
        commit_and_send(w);
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
    uint64_t running[RUNNING * 2];
    for (int i = 0; i < agent->len; i++)
        running[i] = agent->jobs[i].lease;
    say(w, a,
        &(struct event){.type = EVENT_HELLO,
                        .hello = {.name = slice_of("agent"), .verifier = agent->verifier, .kinds = 1,
                                  .credits = agent->credits, .next_ms = HEARTBEAT_MS,
                                  .running_len = (size_t)agent->len}},
        running);
}

static void say_result(struct world *w, int a, struct job *job)
{
    struct event event = {.lease = job->lease};
    if (job->failed) {
        event.type = EVENT_FAIL;
        event.fail.tokens_out = (uint32_t)(job->seed % job->tokens_max);
        event.fail.reason = slice_of("made up");
    } else if (job->verify) {
        double score = rng_unit(rng_mix(job->seed));
        event.type = EVENT_VERDICT;
        event.verdict.verdict = (struct verdict){score < .1   ? OUTCOME_UNKNOWN
                                                 : score > .6 ? OUTCOME_PASS
                                                              : OUTCOME_FAIL, score};
        event.verdict.latency_ms = 3;
    } else {
        uint64_t bits = rng_mix(job->seed);
        event.type = EVENT_RESULT;
        event.result.class = bits % 4;
        event.result.ref = (struct ref){1, (uint32_t)job->lease, 1};
        event.result.result = (struct result){
            .finish = job->step && bits % 10 < 6 ? FINISH_STEP : FINISH_STOP,
            .tokens_in = 8, .tokens_out = 1 + (uint32_t)(bits >> 8) % job->tokens_max, .latency_ms = 5,
            .features = {1u << FEATURE_LP_MEAN, {[FEATURE_LP_MEAN] = -rng_unit(bits)}},
        };
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
    agent->len = 0;
    agent->next_beat = w->now + HEARTBEAT_MS;
    agent->heard = w->now;
    hello(w, a);
    post(w, AGENT_ALARM, a, w->now + 2);
}

static void on_task(struct world *w, struct agent *agent, const struct send *send)
{
    if (job_find(agent, send->lease) != NULL || agent->len == RUNNING * 2)
        return; /* a doubled message; or one that broke its credits, which is noticed as a lost lease */
    bool verify = send->key.kind == TASK_VERIFY;
    agent->jobs[agent->len++] = (struct job){
        .lease = send->lease, .seed = send->seed, .key = send->key, .verify = verify, .step = send->step,
        .tokens_max = send->tokens_max, .due = w->now + (w->calm ? 1 : between(w, 1, 60)),
        .failed = w->faults && chance(w, .02),
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

/* The agent looks at its jobs and its clock: results that are due, results that nobody acknowledged, heartbeats. */
static void agent_alarm(struct world *w, int a)
{
    struct agent *agent = &w->agents[a];
    if (!agent->up)
        return;
    if (w->faults && chance(w, .004)) { /* kill -9; another one comes up in its place */
        agent->up = false;
        if (w->verbose)
            printf("%6lld   agent %d dies\n", (long long)w->now, a);
        post(w, AGENT_ALARM, a, w->now + between(w, 10, 300))->welcome = true;
        return;
    }
    int64_t next = agent->next_beat;
    for (int i = 0; i < agent->len; i++) {
        struct job *job = &agent->jobs[i];
        if (job->due <= w->now) {
            job->done = true;
            say_result(w, a, job);
            job->due = w->now + 90; /* again, until it is acknowledged */
        }
        next = job->due < next ? job->due : next;
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

/* -- the loop -------------------------------------------------------------------------------------------------------- */

static void broker_receive(struct world *w, struct packet *packet)
{
    struct event event = packet->event;
    event.now_ms = w->now;
    if (event.type == EVENT_HELLO)
        event.hello.running = packet->running;
    core_step(w->core, &event, &w->update);
    if (w->calm || chance(w, .7))
        dispatch_and_commit(w);
}

static void step(struct world *w)
{
    struct packet *packet = take(w);
    w->now = packet->at > w->now ? packet->at : w->now;
    switch (packet->what) {
    case TO_BROKER:
        if (w->verbose)
            printf("%6lld agent %d says %d about lease %llu\n", (long long)w->now, packet->agent,
                   packet->event.type, (unsigned long long)packet->event.lease);
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
        if (packet->at >= w->tick_at || w->tick_at == INT64_MAX) {
            w->tick_at = INT64_MAX;
            core_step(w->core, &(struct event){.type = EVENT_TICK, .now_ms = w->now}, &w->update);
            dispatch_and_commit(w);
        }
        break;
    }
    free(packet);
}

static void core_rules(struct world *w, const struct core *core)
{
    struct error error;
    if (core_check(core, &error) != 0)
        broke(w, "%s", error.text);
}

/* I1: what an agent saw acknowledged is in the journal. */
static void check_acked(struct world *w)
{
    uint8_t *found = xalloc(w->leases_len + 2);
    struct fact fact;
    for (size_t at = 0; at < w->journal.len && fact_get(buf_slice(&w->journal), &at, &fact) == 0;) {
        uint64_t lease = fact.type == FACT_result ? fact.result.lease : fact.type == FACT_verdict ? fact.verdict.lease : 0;
        if (lease <= w->leases_len)
            found[lease] = 1;
    }
    for (uint32_t i = 0; i < w->acked_len; i++)
        if (w->acked[i] > w->leases_len || !found[w->acked[i]])
            broke(w, "lease %llu was acknowledged, but its result is not in the journal",
                  (unsigned long long)w->acked[i]);
    free(found);
}

static void dump_of(struct core *core, struct buf *out)
{
    buf_reset(out);
    core_dump(core, out);
}

/* dump = replay, and a core built from its own dump is the same core. */
static void check_dumps(struct world *w)
{
    struct buf live = {0}, replayed = {0};
    struct core *core = replay(w, false);
    core_settle(core);
    dump_of(w->core, &live);
    dump_of(core, &replayed);
    if (live.len != replayed.len || memcmp(live.data, replayed.data, live.len) != 0)
        broke(w, "replaying the journal gives another state");
    core_free(&core);
    core = core_new(&(struct core_options){.lease_ms = LEASE_MS});
    struct fact fact;
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < live.len;) {
        rc = fact_get(buf_slice(&live), &at, &fact);
        if (rc == 0)
            rc = core_apply(core, &fact);
    }
    if (rc != 0) {
        broke(w, "a dump does not load");
    } else {
        core_settle(core);
        dump_of(core, &replayed);
        if (live.len != replayed.len || memcmp(live.data, replayed.data, live.len) != 0)
            broke(w, "a core built from a dump is another core");
    }
    core_free(&core);
    buf_clear(&live);
    buf_clear(&replayed);
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
        broke(w, "audit: %s", error.text);
    core_free(&core);
}

static bool finished(const struct world *w)
{
    struct fact fact;
    /* The last fact of a finished sweep is its state; cheaper than asking the core for a status. */
    bool done = false;
    for (size_t at = 0; at < w->journal.len && fact_get(buf_slice(&w->journal), &at, &fact) == 0;)
        if (fact.type == FACT_state)
            done = fact.state.state == SWEEP_DONE;
    return done;
}

static void world_free(struct world *w)
{
    core_free(&w->core);
    update_clear(&w->update);
    buf_clear(&w->journal);
    buf_clear(&w->definitions);
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
    define(w);
    start(w);
    w->agents_len = calm ? 2 : 2 + (int)(draw(w) % (AGENTS - 1));
    for (int a = 0; a < w->agents_len; a++) {
        w->agents[a].verifier = a % 2 == 1;
        w->agents[a].credits = calm ? 1 : 1 + (uint32_t)(draw(w) % RUNNING);
        agent_birth(w, a);
    }
    return w;
}

/* Runs one history to its end; the digest of what it decided. */
static uint64_t run(struct world *w, uint64_t *events)
{
    int n = 0;
    bool done = false;
    size_t seen = 0;
    for (; n < EVENTS_MAX && w->queue_len > 0 && w->broken[0] == '\0' && !done; n++) {
        if (n == EVENTS_FAULTY)
            w->faults = false;
        step(w);
        if (n % 128 == 127)
            core_rules(w, w->core);
        if (n % 16 == 15 && w->journal.len != seen) {
            done = finished(w);
            seen = w->journal.len;
        }
    }
    *events += (uint64_t)n;
    commit(w); /* what waited for the end of a batch */
    update_reset(&w->update);
    if (w->broken[0] == '\0' && !done)
        broke(w, "not finished after %d events: something waits for ever", n);
    core_rules(w, w->core);
    check_acked(w);
    if (w->broken[0] != '\0')
        return 0;
    check_dumps(w);
    check_audit(w);
    struct core *core = replay(w, true);
    core_settle(core);
    uint64_t digest = core_digest(core, 0);
    core_free(&core);
    return digest;
}

static bool one_seed(uint64_t seed, bool verbose, uint64_t *events)
{
    struct world *w = world_new(seed, false, verbose);
    uint64_t digest = run(w, events);
    if (w->broken[0] == '\0' && !w->capped && !w->gave_up) {
        struct world *calm = world_new(seed, true, false);
        uint64_t expected = run(calm, events);
        if (calm->broken[0] != '\0')
            broke(w, "in calm: %s", calm->broken);
        else if (expected != digest)
            broke(w, "the digest differs from that of a calm run with one worker");
        world_free(calm);
    }
    bool good = w->broken[0] == '\0';
    if (!good)
        printf("seed %llu: %s\n  again: build/tests/sim/sim --seed %llu --verbose\n", (unsigned long long)seed,
               w->broken, (unsigned long long)seed);
    world_free(w);
    return good;
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

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--check") == 0) {
        int rc = run_seeds(0, 2000, false);
        printf("1..1\n%s 1 - 2000 seeds keep every rule\n", rc == 0 ? "ok" : "not ok");
        return rc;
    }
    if (argc == 4 && strcmp(argv[1], "--seeds") == 0)
        return run_seeds(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10), false);
    if (argc >= 3 && strcmp(argv[1], "--seed") == 0) {
        uint64_t seed = strtoull(argv[2], NULL, 10);
        return run_seeds(seed, seed + 1, argc == 4);
    }
    fprintf(stderr, "usage: sim --check | --seeds FROM TO | --seed S [--verbose]\n");
    return 2;
}
