/* rules.h - what must hold of committed facts and messages, computed from these alone, apart from the core.
 *
 * A lease is granted once and in turn; a key is closed once; nothing is acknowledged that is not in the journal; what all
 * leases used, or may still use, stays within the caps; a late result counts if no other came first; a restarted broker
 * adopts what agents hold; rollouts that no arm can use are voided; a suspect task runs alone; a prompt is of one bin, which
 * its pilot has told. */
#ifndef DROVER_TESTS_SIM_RULES_H
#define DROVER_TESTS_SIM_RULES_H

#include "broker/core/core.h"
#include "tests/sim/sweeps.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LEASES = 16384, ARMS_MAX = 24 };

enum lease_mark { MARK_OVER, MARK_LIVE, MARK_WON, MARK_LOST };

struct lease_model {
    struct key key;
    uint8_t mark; /* enum lease_mark */
    uint32_t sweep;
    uint64_t agent, rollouts, tokens; /* used, or may be used */
    bool kept;                        /* its use counts as accepted */
    bool died, suspect;               /* its agent fell silent; two agents did before */
};

struct arm_model {
    uint32_t sweep, n;
    bool trees, existing; /* existing: may ask for nothing that is not there */
    bool joined;          /* over several pools: which of its rollouts an ordinal is, is not followed here */
    bool believes, began; /* goes by beliefs about its prompts; has opened one */
    bool part;            /* of an arm of bins */
    uint32_t bin;         /* which; 0: its pilot */
    struct {
        bool opened;
        uint8_t decided;
        uint32_t stop;
    } cells[PROMPTS];
};

enum { TREES = 4, TREE_NODES = 256 };

/* The token caps of the nodes of one tree, as its plans said. */
struct tree_model {
    uint32_t len, caps[TREE_NODES];
};

struct sweep_model {
    uint64_t rollouts, tokens; /* caps */
    uint64_t rollouts_used, tokens_used;
    uint64_t read, cached; /* prompt tokens of results */
    bool accepted, known;
    uint8_t state;
};

struct rules {
    struct lease_model leases[LEASES];
    uint64_t leases_len;
    struct arm_model arms[ARMS_MAX];
    uint32_t arms_len;
    struct tree_model trees[ARMS_MAX][PROMPTS][TREES];
    struct sweep_model sweeps[SWEEPS];
    uint64_t seed;
    bool gave_up, bounded; /* bounded: a decision was made, so something may have to be voided */
    char broken[600];
};

static void broke(struct rules *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void broke(struct rules *r, const char *format, ...)
{
    va_list args;
    if (r->broken[0] != '\0')
        return;
    va_start(args, format);
    vsnprintf(r->broken, sizeof r->broken, format, args);
    va_end(args);
}

static bool same_key(const struct key *a, const struct key *b)
{
    return a->kind == b->kind && a->owner == b->owner && a->prompt == b->prompt && a->tree == b->tree &&
           a->item == b->item && a->verifier == b->verifier;
}

static struct lease_model *model_lease(struct rules *r, uint64_t id)
{
    return id >= 1 && id <= r->leases_len ? &r->leases[id] : NULL;
}

/* What a lease adds to its sweep's use: under `count: accepted` only live leases and kept results do. */
static void use(struct rules *r, struct lease_model *lease, int sign)
{
    struct sweep_model *sweep = &r->sweeps[lease->sweep];
    if (sweep->accepted && lease->mark != MARK_LIVE && !lease->kept)
        return;
    sweep->rollouts_used += (uint64_t)((int64_t)lease->rollouts * sign);
    sweep->tokens_used += (uint64_t)((int64_t)lease->tokens * sign);
}

static void move(struct rules *r, struct lease_model *lease, enum lease_mark mark, bool kept)
{
    use(r, lease, -1);
    lease->mark = (uint8_t)mark;
    lease->kept = kept;
    use(r, lease, 1);
}

static void recount(struct rules *r, struct lease_model *lease, uint64_t rollouts, uint64_t tokens)
{
    use(r, lease, -1);
    lease->rollouts = rollouts;
    lease->tokens = tokens < lease->tokens ? tokens : lease->tokens;
    use(r, lease, 1);
}

/* Two agents fell silent over this key: it runs alone. */
static void rule_alone(struct rules *r, const struct lease_model *lease)
{
    for (uint64_t i = 1; i < r->leases_len; i++) {
        const struct lease_model *other = &r->leases[i];
        if (other->mark == MARK_LIVE && other->agent == lease->agent && (lease->suspect || other->suspect))
            broke(r, "leases %llu and %llu run on one agent, and one of them is of a suspect task",
                  (unsigned long long)i, (unsigned long long)r->leases_len);
    }
}

/* A panel is asked when every rollout that it compares is there, or is given up. */
static void rule_panel(struct rules *r, const struct fact_lease *f)
{
    for (uint32_t k = 0; k < PANEL_N && !r->gave_up; k++) {
        const struct key wanted = {TASK_GENERATE, f->owner, f->prompt, NO_ID, k, NO_ID};
        bool there = false;
        for (uint64_t i = 1; i < f->lease; i++)
            there = there || (r->leases[i].mark == MARK_WON && same_key(&r->leases[i].key, &wanted));
        if (!there)
            broke(r, "the panel is asked about prompt %u, of which rollout %u is missing", f->prompt, k);
    }
}

/* Nobody pays for what stands behind its stop. */
static void rule_payer(struct rules *r, const struct fact_lease *f)
{
    const struct arm_model *arm = &r->arms[f->payer];
    if (!arm->trees && !arm->joined && arm->cells[f->prompt].decided != DECIDED_NOT &&
        f->item >= arm->cells[f->prompt].stop)
        broke(r, "lease %llu, of rollout %u of prompt %u, is paid by arm %u, which stopped at %u",
              (unsigned long long)f->lease, f->item, f->prompt, f->payer, arm->cells[f->prompt].stop);
}

static void rule_lease(struct rules *r, const struct fact_lease *f)
{
    if (f->lease != r->leases_len + 1 || f->lease >= LEASES) {
        broke(r, "lease %llu is granted out of turn", (unsigned long long)f->lease);
        return;
    }
    r->leases_len = f->lease;
    struct lease_model *lease = &r->leases[f->lease];
    bool generate = f->kind == TASK_GENERATE, tree = f->tree != NO_ID;
    *lease = (struct lease_model){
        .key = {f->kind, f->owner, f->prompt, f->tree, f->item, f->verifier},
        .mark = MARK_LIVE,
        .sweep = r->arms[f->payer].sweep,
        .agent = f->agent,
        .rollouts = generate && !tree, /* of trees a lower bound: which nodes are roots is not followed here */
        .tokens = !generate ? 0
                  : tree
                      ? r->trees[f->owner][f->prompt][f->tree].caps[f->item]
                      : BYTES_FIRST + f->prompt + TEMPLATE_TOKENS + (f->owner == DEAR_POOL ? DEAR_TOKENS : MAX_TOKENS),
    };
    if (!generate && f->verifier == PANEL)
        rule_panel(r, f);
    rule_payer(r, f);
    if (generate && r->arms[f->payer].existing)
        broke(r, "arm %u only judges what exists, and has rollout %u generated", f->payer, f->item);
    use(r, lease, 1);
    uint32_t deaths = 0;
    for (uint64_t i = 1; i < f->lease; i++) {
        if (!same_key(&r->leases[i].key, &lease->key))
            continue;
        deaths += r->leases[i].died;
        if (r->leases[i].mark == MARK_WON && r->leases[i].kept)
            broke(r, "lease %llu is granted on a key that lease %llu closed", (unsigned long long)f->lease,
                  (unsigned long long)i);
    }
    lease->suspect = deaths >= 2;
    rule_alone(r, lease);
}

/* A key is closed: what other attempts use is settled and no result of them may count. */
static void close_key(struct rules *r, const struct key *key, uint64_t winner)
{
    for (uint64_t i = 1; i <= r->leases_len; i++) {
        struct lease_model *lease = &r->leases[i];
        if (i == winner || !same_key(&lease->key, key))
            continue;
        if (lease->mark == MARK_WON && lease->kept)
            broke(r, "two results for one key (leases %llu and %llu)", (unsigned long long)i,
                  (unsigned long long)winner);
        if (lease->mark != MARK_OVER)
            move(r, lease, MARK_OVER, false);
    }
}

static void rule_result(struct rules *r, uint64_t id, uint64_t tokens, bool exhausted)
{
    struct lease_model *lease = model_lease(r, id);
    if (lease == NULL || (lease->mark != MARK_LIVE && lease->mark != MARK_LOST)) {
        broke(r, "a result for lease %llu, which is not open", (unsigned long long)id);
        return;
    }
    close_key(r, &lease->key, id);
    move(r, lease, MARK_WON, true);
    recount(r, lease, exhausted ? 0 : lease->rollouts, exhausted ? 0 : tokens);
}

/* More cached tokens than there are is an engine's mistake, and counts as all. */
static void rule_read(struct rules *r, const struct fact_result *f)
{
    const struct lease_model *lease = model_lease(r, f->lease);
    struct sweep_model *sweep = &r->sweeps[lease == NULL ? 0 : lease->sweep];
    sweep->read += f->tokens_in;
    sweep->cached += f->tokens_cached > f->tokens_in ? f->tokens_in : f->tokens_cached;
}

static void rule_voided(struct rules *r, const struct fact_voided *f)
{
    for (uint64_t i = 1; i <= r->leases_len; i++) {
        struct lease_model *lease = &r->leases[i];
        const struct key *key = &lease->key;
        if (key->tree == NO_ID && key->owner == f->pool && key->prompt == f->prompt && key->item >= f->from &&
            (lease->mark != MARK_OVER || lease->kept))
            move(r, lease, MARK_OVER, false);
        if (key->tree == NO_ID && key->owner == f->pool && key->prompt == f->prompt && key->item >= f->from)
            lease->died = false; /* drawn anew, it is a new task */
    }
}

static void rule_lost(struct rules *r, const struct fact_lost *f)
{
    struct lease_model *lease = model_lease(r, f->lease);
    if (lease == NULL || lease->mark != MARK_LIVE) {
        broke(r, "lease %llu is lost, but was not out", (unsigned long long)f->lease);
        return;
    }
    lease->died = f->why == LOST_SILENT;
    bool late = f->why == LOST_SILENT || f->why == LOST_GRACE;
    move(r, lease, late ? MARK_LOST : MARK_OVER, false);
    if (f->why == LOST_REFUSED)
        recount(r, lease, 0, 0);
}

static void rule_ended(struct rules *r, uint64_t id)
{
    struct lease_model *lease = model_lease(r, id);
    if (lease != NULL && lease->mark != MARK_WON)
        move(r, lease, MARK_OVER, false);
}

/* Does what it learns later lower what a lease used? */
static void rule_correct(struct rules *r, uint64_t id, uint32_t tokens_in, uint32_t tokens_out, uint32_t latency_ms)
{
    struct lease_model *lease = model_lease(r, id);
    rule_ended(r, id);
    if (lease != NULL && tokens_out != UINT32_MAX)
        recount(r, lease, tokens_in + tokens_out + latency_ms == 0 ? 0 : lease->rollouts,
                (uint64_t)tokens_in + tokens_out);
}

static void rule_arm(struct rules *r, const struct fact_arm *f)
{
    if (f->id >= ARMS_MAX || f->sweep >= SWEEPS) {
        broke(r, "an arm that nobody submitted");
        return;
    }
    struct arm_model *arm = &r->arms[f->id];
    if (f->id == r->arms_len)
        r->arms_len++;
    for (uint32_t p = 0; p < PROMPTS; p++) {
        uint8_t *why = &arm->cells[p].decided;
        if (*why == DECIDED_BUDGET || (*why == DECIDED_CAP && f->n > arm->n) ||
            (*why == DECIDED_EXHAUSTED && arm->existing)) /* more may exist: what it holds is not followed here */
            *why = DECIDED_NOT;
    }
    arm->existing = f->existing != 0 || f->allocator.len == strlen("existing");
    arm->sweep = f->sweep;
    arm->n = f->n;
    arm->trees = f->strategy.len != strlen("sample");
    arm->joined = f->pools.len > sizeof(uint32_t);
    arm->part = f->of.len > 0;
    arm->bin = f->bin;
    arm->believes = f->prior.len > 0 && f->existing == 0 && (f->strict || sim_backend(r->seed)[0] == 's');
}

static void rule_bin(struct rules *r, const struct fact_open *f)
{
    const struct arm_model *arm = &r->arms[f->arm];
    for (uint32_t a = 0; arm->bin > 0 && a < r->arms_len; a++) {
        const struct arm_model *other = &r->arms[a];
        if (!other->part || other->sweep != arm->sweep || a == f->arm)
            continue;
        if (other->bin == 0 && other->cells[f->prompt].decided == DECIDED_NOT)
            broke(r, "bin %u opens prompt %u, of which its pilot has not told yet", arm->bin, f->prompt);
        if (other->bin > 0 && other->cells[f->prompt].opened)
            broke(r, "bins %u and %u both open prompt %u", other->bin, arm->bin, f->prompt);
    }
}

/* Who goes by beliefs begins with the prompt that it believes easiest (without a window, and beside a cache, an agent may
 * be kept for another one). */
static void rule_open(struct rules *r, const struct fact_open *f)
{
    struct arm_model *arm = &r->arms[f->arm];
    uint32_t easiest = 0;
    for (uint32_t p = 1; p < PROMPTS; p++)
        if (belief_against(r->seed, p) < belief_against(r->seed, easiest))
            easiest = p;
    if (arm->believes && !arm->began && f->prompt != easiest)
        broke(r, "arm %u begins with prompt %u, but believes prompt %u to be the easiest", f->arm, f->prompt, easiest);
    arm->began = true;
    arm->cells[f->prompt].opened = true;
    rule_bin(r, f);
}

static void rule_spawn(struct rules *r, const struct fact_spawn *f)
{
    struct tree_model *tree = &r->trees[f->arm][f->prompt][f->tree];
    for (size_t i = 0; i < f->parents.len / 4 && tree->len < TREE_NODES; i++) {
        uint32_t cap = MAX_TOKENS;
        if (f->caps.len > 0)
            memcpy(&cap, f->caps.data + 4 * i, 4);
        if (cap == 0 || cap > MAX_TOKENS)
            broke(r, "node %u of arm %u may have %u tokens, its model at most %d", tree->len, f->arm, cap, MAX_TOKENS);
        tree->caps[tree->len++] = cap;
    }
}

static void rule_decide(struct rules *r, const struct fact_decide *f)
{
    struct arm_model *arm = &r->arms[f->arm];
    if (arm->cells[f->prompt].decided != DECIDED_NOT)
        broke(r, "arm %u decides prompt %u twice", f->arm, f->prompt);
    arm->cells[f->prompt].decided = f->why;
    arm->cells[f->prompt].stop = f->stop;
    r->bounded = true;
}

/* Rollouts that no arm may use any more, arrived or not, are voided in the commit that decided it. */
static void rule_bounds(struct rules *r)
{
    uint32_t keep[PROMPTS] = {0};
    for (uint32_t a = 0; a < r->arms_len; a++) {
        const struct arm_model *arm = &r->arms[a];
        for (uint32_t p = 0; !arm->trees && p < PROMPTS; p++) {
            uint32_t keeps = arm->cells[p].decided != DECIDED_NOT ? arm->cells[p].stop : arm->n;
            keep[p] = keeps > keep[p] ? keeps : keep[p];
        }
    }
    for (uint64_t i = 1; i <= r->leases_len; i++) {
        const struct lease_model *lease = &r->leases[i];
        if (lease->key.tree == NO_ID && lease->mark != MARK_OVER && lease->key.item >= keep[lease->key.prompt])
            broke(r, "rollout %u of prompt %u is held, but every arm stopped at %u", lease->key.item, lease->key.prompt,
                  keep[lease->key.prompt]);
    }
}

static void rule_fact(struct rules *r, const struct fact *f)
{
    switch ((int)f->type) {
    case FACT_sweep:
        r->sweeps[f->sweep.id].rollouts = f->sweep.rollouts;
        r->sweeps[f->sweep.id].tokens = f->sweep.tokens;
        r->sweeps[f->sweep.id].accepted = f->sweep.accepted;
        r->sweeps[f->sweep.id].known = true;
        return;
    case FACT_state:
        r->sweeps[f->state.sweep].state = f->state.state;
        return;
    case FACT_arm:
        rule_arm(r, &f->arm);
        return;
    case FACT_open:
        rule_open(r, &f->open);
        return;
    case FACT_spawn:
        rule_spawn(r, &f->spawn);
        return;
    case FACT_decide:
        rule_decide(r, &f->decide);
        return;
    case FACT_lease:
        rule_lease(r, &f->lease);
        return;
    case FACT_result:
        rule_result(r, f->result.lease, f->result.tokens_out, f->result.finish == FINISH_EXHAUSTED);
        rule_read(r, &f->result);
        return;
    case FACT_verdict:
        rule_result(r, f->verdict.lease, 0, false);
        return;
    case FACT_voided:
        rule_voided(r, &f->voided);
        return;
    case FACT_lost:
        rule_lost(r, &f->lost);
        return;
    case FACT_fail:
        rule_correct(r, f->fail.lease, 0, f->fail.tokens, 1);
        return;
    case FACT_correct:
        rule_correct(r, f->correct.lease, f->correct.tokens_in, f->correct.tokens_out, f->correct.latency_ms);
        return;
    case FACT_forget:
        rule_ended(r, f->forget.lease);
        return;
    case FACT_give_up:
        close_key(r,
                  &(struct key){f->give_up.kind, f->give_up.owner, f->give_up.prompt, f->give_up.tree, f->give_up.item,
                                f->give_up.verifier},
                  0);
        r->gave_up = true;
        return;
    }
}

/* After the facts of one commit. */
static void rule_commit(struct rules *r)
{
    for (uint32_t i = 0; i < SWEEPS; i++) {
        const struct sweep_model *s = &r->sweeps[i];
        if ((s->rollouts > 0 && s->rollouts_used > s->rollouts) || (s->tokens > 0 && s->tokens_used > s->tokens))
            broke(r, "sweep %u used or may use %llu rollouts of %llu, %llu tokens of %llu", i,
                  (unsigned long long)s->rollouts_used, (unsigned long long)s->rollouts,
                  (unsigned long long)s->tokens_used, (unsigned long long)s->tokens);
    }
    if (r->bounded)
        rule_bounds(r);
    r->bounded = false;
}

/* Must a result of this lease be accepted now? */
static bool rule_counts(struct rules *r, uint64_t id)
{
    const struct lease_model *lease = model_lease(r, id);
    return lease != NULL &&
           (lease->mark == MARK_LIVE || (lease->mark == MARK_LOST && !r->sweeps[lease->sweep].accepted));
}

#endif
