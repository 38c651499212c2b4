/* stage.h - a core with fake time for trace-like tests: an event goes in, and what it causes comes out as one short line
 * of facts, then of sends: "lease 1 gen 0/0 to 11; task 1 to 11". A rollout is named PROMPT/ORDINAL, a node PROMPT.TREE/NODE,
 * a verdict on one of them by its verifier behind that: 0/0?1. */
#ifndef DROVER_TEST_STAGE_H
#define DROVER_TEST_STAGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "broker/core/read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WORKER = 11,
    OTHER = 12,
    THIRD = 13,
    FOURTH = 14,
    JUDGE = 22,
    BEAT = 1000,
    LEASE = 500,
    MAX_TOKENS = 20,
    DEAR_TOKENS = 40,
    BYTES = 10
};

struct stage_arm {
    const char *name, *strategy, *allocator, *stopper, *selector;
    uint32_t n, verifier;
    bool strict;
    uint32_t lookahead;
    uint64_t rollouts;
    const char *prior;         /* NULL: none */
    const float (*beliefs)[2]; /* of each prompt */
    uint32_t lens[2];          /* of an arm over the pools 0 and 1; 0 and 0: over pool 0 alone */
    bool rounds, existing;
    const char *of; /* arm of bins; NULL: none */
    uint8_t bin, by;
    double above, up_to;
};

struct stage_sweep {
    const char *name;
    uint32_t prompts, truth; /* truth: NO_ID: none */
    uint64_t rollouts, tokens, slot_ms, cost, deadline_s;
    bool accepted;
    struct stage_arm arms[4];
    uint64_t seed;
    bool joined; /* has a second model, dear, of a backend of its own, and pool 1 */
    bool kills;  /* rollouts of pool 0 may be ended for their confidence */
};

struct stage {
    struct core *core;
    struct update update;
    struct buf journal, said, facts; /* facts: of the last event */
    int64_t now_ms;
    uint64_t seed_last; /* of the last task sent */
};

static inline void say_key(struct buf *to, uint8_t kind, uint32_t prompt, uint32_t tree, uint32_t item,
                           uint32_t verifier)
{
    buf_printf(to, "%u", prompt);
    if (tree != NO_ID)
        buf_printf(to, ".%u", tree);
    buf_printf(to, "/%u", item);
    if (kind == TASK_VERIFY)
        buf_printf(to, "?%u", verifier);
}

static inline void say_decided(struct buf *to, const struct fact_decide *f)
{
    static const char *const why[] = {
#define X(name, value, text) [value] = text,
        DECIDED_TABLE(X)
#undef X
    };
    buf_printf(to, "decide %u:%u at %u by %s", f->arm, f->prompt, f->stop, why[f->why]);
}

/* The facts that the core decides, shortly; definitions are left out. */
static inline bool say_fact(struct buf *to, const struct fact *f)
{
    static const char *const lost[] = {"silent", "orphan", "returned", "refused", "grace"};
    static const char *const states[] = {"running", "paused", "cancelled", "done", "fault", "replaced"};
    switch ((int)f->type) {
    case FACT_epoch:
        buf_printf(to, "epoch %llu", (unsigned long long)f->epoch.number);
        return true;
    case FACT_state:
        buf_printf(to, "%s", states[f->state.state]);
        if (f->state.reason.len > 0 && f->state.state == SWEEP_DONE)
            buf_printf(to, " %.*s", (int)f->state.reason.len, f->state.reason.data);
        return true;
    case FACT_open:
        buf_printf(to, "open %u:%u +%u", f->open.arm, f->open.prompt, f->open.count);
        return true;
    case FACT_fold:
        buf_printf(to, "fold %u", f->fold.arm);
        return true;
    case FACT_decide:
        say_decided(to, &f->decide);
        return true;
    case FACT_spawn:
        buf_printf(to, "spawn %zu", f->spawn.parents.len / 4);
        return true;
    case FACT_voided:
        buf_printf(to, "void %u from %u", f->voided.prompt, f->voided.from);
        if (f->voided.pool > 0)
            buf_printf(to, " of %u", f->voided.pool);
        return true;
    case FACT_lease:
        buf_printf(to, "lease %llu ", (unsigned long long)f->lease.lease);
        say_key(to, f->lease.kind, f->lease.prompt, f->lease.tree, f->lease.item, f->lease.verifier);
        if (f->lease.tree == NO_ID && f->lease.owner > 0)
            buf_printf(to, " of %u", f->lease.owner);
        return true;
    case FACT_result:
        buf_printf(to, "result %llu", (unsigned long long)f->result.lease);
        return true;
    case FACT_verdict:
        buf_printf(to, "verdict %llu", (unsigned long long)f->verdict.lease);
        return true;
    case FACT_fail:
        buf_printf(to, "fail %llu", (unsigned long long)f->fail.lease);
        return true;
    case FACT_lost:
        buf_printf(to, "lost %llu %s", (unsigned long long)f->lost.lease, lost[f->lost.why]);
        return true;
    case FACT_give_up:
        buf_puts(to, "give up ");
        say_key(to, f->give_up.kind, f->give_up.prompt, f->give_up.tree, f->give_up.item, f->give_up.verifier);
        return true;
    case FACT_correct:
        buf_printf(to, "correct %llu", (unsigned long long)f->correct.lease);
        return true;
    case FACT_forget:
        buf_printf(to, "forget %llu", (unsigned long long)f->forget.lease);
        return true;
    }
    return false;
}

static inline void say_sends(struct stage *stage)
{
    static const char *const words[] = {"task", "ack", "cancel"};
    for (size_t i = 0; i < stage->update.sends_len; i++) {
        const struct send *send = &stage->update.sends[i];
        buf_printf(&stage->said, "%s%s%s %llu to %llu", stage->said.len > 0 ? "; " : "", send->duplicate ? "dup " : "",
                   words[send->type], (unsigned long long)send->lease, (unsigned long long)send->agent);
        if (send->type == SEND_TASK)
            stage->seed_last = send->seed;
    }
}

/* Commits what the last event caused, and says it. */
static inline void stage_commit(struct stage *stage)
{
    struct fact fact;
    struct error error = {""};
    struct slice facts = buf_slice(&stage->update.facts);
    buf_reset(&stage->said);
    buf_puts(&stage->said, "");
    for (size_t at = 0; at < facts.len;) {
        struct buf line = {0};
        assert_int_equal(fact_get(facts, &at, &fact), 0);
        if (say_fact(&line, &fact))
            buf_printf(&stage->said, "%s%s", stage->said.len > 0 ? "; " : "", line.data);
        buf_clear(&line);
    }
    say_sends(stage);
    buf_reset(&stage->facts);
    buf_put(&stage->facts, facts.data, facts.len);
    buf_put(&stage->journal, facts.data, facts.len);
    update_reset(&stage->update);
    if (core_check(stage->core, &error) != 0)
        fail_msg("%s", error.text);
}

static inline void stage_step(struct stage *stage, struct event event)
{
    event.now_ms = stage->now_ms;
    event.unix_s = 1000 + stage->now_ms / 1000;
    core_step(stage->core, &event, &stage->update);
    int code = stage->update.code;
    struct error error = stage->update.error;
    stage_commit(stage);
    stage->update.code = code;
    stage->update.error = error;
}

static inline void expect_said(struct stage *stage, const char *expected, int line)
{
    if (strcmp(stage->said.data, expected) != 0)
        fail_msg("line %d:\n  said     '%s'\n  expected '%s'", line, stage->said.data, expected);
}

/* Steps an event; all that it causes is expected. */
#define DOES(stage, expected, ...)                        \
    do {                                                  \
        stage_step((stage), (struct event){__VA_ARGS__}); \
        expect_said((stage), (expected), __LINE__);       \
    } while (0)

#define DISPATCHES(stage, expected) DOES(stage, expected, .type = EVENT_DISPATCH)

static inline struct core *stage_core(const struct stage *stage)
{
    struct core *core = core_new(&(struct core_options){.lease_ms = LEASE});
    struct fact fact;
    for (size_t at = 0; at < stage->journal.len;) {
        assert_int_equal(fact_get(buf_slice(&stage->journal), &at, &fact), 0);
        assert_int_equal(core_apply(core, &fact), 0);
    }
    return core;
}

static inline void stage_start(struct stage *stage, bool fleet_died)
{
    core_free(&stage->core);
    update_reset(&stage->update);
    stage->core = stage_core(stage);
    core_kind(stage->core, false, slice_of("sim"));
    core_kind(stage->core, true, slice_of("sim"));
    core_start(stage->core, stage->now_ms, fleet_died, &stage->update);
    stage_commit(stage);
}

static inline void stage_clear(struct stage *stage)
{
    core_free(&stage->core);
    update_clear(&stage->update);
    buf_clear(&stage->journal);
    buf_clear(&stage->said);
    buf_clear(&stage->facts);
}

static inline void define_prior(struct buf *to, uint32_t arm, uint32_t from, const float (*beliefs)[2], uint32_t len)
{
    fact_put(to,
             &(struct fact){
                 .type = FACT_prior,
                 .prior = {.arm = arm, .from = from, .beliefs = {(const char *)beliefs[from], len * sizeof *beliefs}}});
}

static inline void define_arm(struct buf *to, uint32_t id, const struct stage_arm *arm)
{
    double options[4][POLICY_OPTIONS_MAX] = {0};
    const struct option_row *rows[4] = {
        strategy_find(arm->strategy ? arm->strategy : "sample")->options,
        allocator_find(arm->allocator ? arm->allocator : "uniform")->options,
        stopper_find(arm->stopper ? arm->stopper : "none")->options,
        selector_find(arm->selector ? arm->selector : "majority")->options,
    };
    for (int p = 0; p < 4; p++)
        for (int i = 0; rows[p] != NULL && rows[p][i].name != NULL; i++)
            options[p][i] = rows[p][i].fallback;
    static const uint32_t pools[2] = {0, 1};
    const size_t joined = arm->lens[0] > 0 ? sizeof pools : 0;
    fact_put(to, &(struct fact){.type = FACT_arm,
                                .arm = {.id = id,
                                        .name = slice_of(arm->name),
                                        .rounds = arm->rounds,
                                        .pools = {(const char *)pools, joined},
                                        .lens = {(const char *)arm->lens, joined},
                                        .existing = arm->existing,
                                        .n = arm->n,
                                        .verifier = arm->verifier,
                                        .strategy = slice_of(arm->strategy ? arm->strategy : "sample"),
                                        .allocator = slice_of(arm->allocator ? arm->allocator : "uniform"),
                                        .stopper = slice_of(arm->stopper ? arm->stopper : "none"),
                                        .selector = slice_of(arm->selector ? arm->selector : "majority"),
                                        .options = {(const char *)options, sizeof options},
                                        .strict = arm->strict,
                                        .lookahead = arm->lookahead,
                                        .rollouts = arm->rollouts,
                                        .prior = slice_of(arm->prior ? arm->prior : ""),
                                        .of = slice_of(arm->of ? arm->of : ""),
                                        .bin = arm->bin,
                                        .by = arm->by,
                                        .above = arm->above,
                                        .up_to = arm->up_to}});
}

static inline void define_sweep(struct buf *to, const struct stage_sweep *s)
{
    fact_put(to, &(struct fact){.type = FACT_set, .set = {.digest = s->prompts, .len = s->prompts}});
    for (uint32_t p = 0; p < s->prompts; p++)
        fact_put(to, &(struct fact){.type = FACT_prompt, .prompt = {.ref_commit = 1, .ref_len = 1, .bytes = BYTES}});
    fact_put(to, &(struct fact){.type = FACT_model,
                                .model = {.fingerprint = 1,
                                          .name = slice_of("m"),
                                          .backend = slice_of("sim"),
                                          .max_tokens = MAX_TOKENS,
                                          .timeout_ms = 1000}});
    if (s->joined)
        fact_put(to, &(struct fact){.type = FACT_model,
                                    .model = {.id = 1,
                                              .fingerprint = 2,
                                              .name = slice_of("dear"),
                                              .backend = slice_of("dear"),
                                              .max_tokens = DEAR_TOKENS,
                                              .timeout_ms = 2000,
                                              .price_out = 1000000}});
    for (uint32_t v = 0; v < 2; v++)
        fact_put(to, &(struct fact){.type = FACT_verifier,
                                    .verifier = {.id = v,
                                                 .fingerprint = 1 + v,
                                                 .name = slice_of("v"),
                                                 .kind = slice_of("sim"),
                                                 .timeout_ms = 500,
                                                 .price = 3}});
    fact_put(to, &(struct fact){.type = FACT_pool,
                                .pool = {.fingerprint = s->prompts,
                                         .seed = 7,
                                         .kill_window = s->kills,
                                         .kill_warmup = s->kills,
                                         .kill_keep = s->kills ? 50 : 0}});
    if (s->joined)
        fact_put(to, &(struct fact){.type = FACT_pool,
                                    .pool = {.id = 1, .fingerprint = 100 + s->prompts, .model = 1, .seed = 8}});
    fact_put(to, &(struct fact){.type = FACT_sweep,
                                .sweep = {.name = slice_of(s->name),
                                          .truth = s->truth,
                                          .rollouts = s->rollouts,
                                          .tokens = s->tokens,
                                          .slot_ms = s->slot_ms,
                                          .cost = s->cost,
                                          .deadline_s = s->deadline_s,
                                          .accepted = s->accepted,
                                          .seed = s->seed}});
    for (uint32_t a = 0; a < 4 && s->arms[a].name != NULL; a++) {
        define_arm(to, a, &s->arms[a]);
        if (s->arms[a].beliefs != NULL) /* in two parts */
            define_prior(to, a, 0, s->arms[a].beliefs, 1);
        if (s->arms[a].beliefs != NULL)
            define_prior(to, a, 1, s->arms[a].beliefs, s->prompts - 1);
    }
}

/* Submits; 0 or the error code. */
static inline int stage_submit(struct stage *stage, const struct stage_sweep *sweep)
{
    struct buf definitions = {0};
    define_sweep(&definitions, sweep);
    stage_step(stage, (struct event){.type = EVENT_SUBMIT, .submit = {.definitions = buf_slice(&definitions)}});
    buf_clear(&definitions);
    return stage->update.code;
}

static inline struct stage stage_new(const struct stage_sweep *sweep)
{
    struct stage stage = {.now_ms = 1};
    stage_start(&stage, false);
    assert_int_equal(stage_submit(&stage, sweep), 0);
    return stage;
}

/* A worker of the models whose bits are set: 1: of m, 2: of dear. */
static inline void serves(struct stage *stage, uint64_t agent, uint64_t models, uint32_t credits)
{
    stage_step(stage,
               (struct event){.type = EVENT_HELLO,
                              .agent = agent,
                              .hello = {.name = slice_of("a"), .kinds = models, .credits = credits, .next_ms = BEAT}});
    expect_said(stage, "", __LINE__);
}

static inline void joins(struct stage *stage, uint64_t agent, uint32_t credits)
{
    stage_step(
        stage,
        (struct event){
            .type = EVENT_HELLO,
            .agent = agent,
            .hello = {
                .name = slice_of("a"), .verifier = agent == JUDGE, .kinds = 1, .credits = credits, .next_ms = BEAT}});
    expect_said(stage, "", __LINE__);
}

/* Initialisers of events. */
#define RESULT(by, of, answer)                          \
    .type = EVENT_RESULT, .agent = (by), .lease = (of), \
    .result = {.class = (answer), .ref = {1, 0, 1}, .result = {.tokens_in = 4, .tokens_out = 6, .latency_ms = 100}}
#define VERDICT(by, of, what, points) \
    .type = EVENT_VERDICT, .agent = (by), .lease = (of), .verdict = {.verdict = {(what), (points)}, .latency_ms = 30}
#define FAILS(by, of) \
    .type = EVENT_FAIL, .agent = (by), .lease = (of), .fail = {.tokens_out = 2, .reason = slice_of("broken")}
#define RETURNS(by, of, tokens) \
    .type = EVENT_RETURN, .agent = (by), .lease = (of), .fail = {.tokens_out = (tokens), .latency_ms = (tokens)}
#define CONTROL(to) .type = EVENT_CONTROL, .control = {.sweep = 0, .state = (to)}

#endif
