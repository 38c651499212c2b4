/* dump.c - the shortest list of facts that rebuilds the state (a snapshot is facts), and how those apply.
 *
 * What is derived is left out: waiting tasks that were never leased, delivered prefixes under order: arrival, the charges
 * of sampling arms (they follow from what was delivered). */
#include "broker/core/core_int.h"
#include "common/limits.h"

#include <string.h>

#define PUT(name, ...) fact_put(out, &(struct fact){.type = FACT_##name, .name = {__VA_ARGS__}})

/* Of an arm: CHARGED, ARM_RESERVED. Of a model: MODEL. FAILED counts tasks. WASTE + w: one kind for each enum waste. */
enum ledger_kind {
    LEDGER_ACCEPTED,
    LEDGER_RESERVED = 2,
    LEDGER_CHARGED,
    LEDGER_ARM_RESERVED,
    LEDGER_FAILED,
    LEDGER_OVERRUN,
    LEDGER_MODEL,
    LEDGER_WASTE = 10
};

static struct slice text(const char *s)
{
    return s == NULL ? (struct slice){0} : slice_of(s);
}

static void dump_sets(const struct core *core, struct buf *out)
{
    for (uint32_t i = 0; i < core->sets_len; i++) {
        const struct set *set = &core->sets[i];
        PUT(set, .id = i, .digest = set->digest, .len = set->len, .group_by = text(set->group_by));
        for (uint32_t p = 0; p < set->filled; p++) {
            const struct prompt_row *row = &set->prompts[p];
            PUT(prompt, .set = i, .ref_commit = row->ref.commit, .ref_offset = row->ref.offset, .ref_len = row->ref.len,
                .bytes = row->bytes, .group = text(set->groups[row->group]), .attached = row->attached);
        }
    }
}

static void dump_attachments(const struct core *core, struct buf *out)
{
    for (const struct attachment_row *row = core->attachments; row != NULL; row = row->hh.next)
        PUT(attachment, .high = row->id.high, .low = row->id.low, .ref_commit = row->ref.commit,
            .ref_offset = row->ref.offset, .ref_len = row->ref.len);
}

static void put_fact(struct buf *out, struct fact fact)
{
    fact_put(out, &fact);
}

struct fact sweep_fact(const struct core *core, uint32_t id)
{
    const struct sweep *s = &core->sweeps[id];
    return (struct fact){
        .type = FACT_sweep,
        .sweep = {.id = id,
                  .name = text(s->name),
                  .seed = s->seed,
                  .set = s->set,
                  .truth = s->truth,
                  .rollouts = s->caps.rollouts,
                  .tokens = s->caps.tokens,
                  .slot_ms = s->caps.slot_ms,
                  .cost = s->caps.cost,
                  .deadline_s = s->deadline_s,
                  .started_s = s->started_s,
                  .accepted = s->count_accepted,
                  .source = s->source},
    };
}

struct fact model_fact(const struct core *core, uint32_t id)
{
    const struct model *m = &core->models[id];
    return (struct fact){
        .type = FACT_model,
        .model = {.id = id,
                  .fingerprint = m->fingerprint,
                  .name = text(m->name),
                  .backend = text(m->backend),
                  .spec = m->spec,
                  .max_tokens = m->max_tokens,
                  .template_tokens = m->template_tokens,
                  .timeout_ms = m->timeout_ms,
                  .slots = m->slots,
                  .price_in = m->price_in,
                  .price_out = m->price_out,
                  .offer = text(m->offer)},
    };
}

struct fact verifier_fact(const struct core *core, uint32_t id)
{
    const struct verifier *v = &core->verifiers[id];
    return (struct fact){
        .type = FACT_verifier,
        .verifier = {.id = id,
                     .fingerprint = v->fingerprint,
                     .name = text(v->name),
                     .kind = text(v->check),
                     .spec = v->spec,
                     .timeout_ms = v->timeout_ms,
                     .price = v->price,
                     .group = v->group},
    };
}

static void dump_definitions(const struct core *core, struct buf *out)
{
    dump_sets(core, out);
    dump_attachments(core, out);
    for (uint32_t i = 0; i < core->models_len; i++)
        put_fact(out, model_fact(core, i));
    for (uint32_t i = 0; i < core->verifiers_len; i++)
        put_fact(out, verifier_fact(core, i));
    for (uint32_t i = 0; i < core->pools_len; i++) {
        const struct pool *pool = &core->pools[i];
        PUT(pool, .id = i, .fingerprint = pool->fingerprint, .set = pool->set, .model = pool->model, .seed = pool->seed,
            .kill_window = pool->kill.window, .kill_warmup = pool->kill.warmup, .kill_keep = pool->kill.keep);
    }
    for (uint32_t i = 0; i < core->sweeps_len; i++)
        put_fact(out, sweep_fact(core, i));
}

struct fact arm_fact(const struct core *core, uint32_t id)
{
    const struct arm *a = &core->arms[id];
    uint32_t several = a->schedule.legs > 1 ? a->schedule.legs : 0;
    return (struct fact){
        .type = FACT_arm,
        .arm = {.id = id,
                .sweep = a->sweep,
                .name = text(a->name),
                .pool = a->pools[0],
                .verifier = a->verifier,
                .n = a->n,
                .strategy = text(a->strategy->name),
                .strategy_version = a->versions[0],
                .allocator = text(a->allocator->name),
                .allocator_version = a->versions[1],
                .stopper = text(a->stopper->name),
                .stopper_version = a->versions[2],
                .selector = text(a->selector->name),
                .selector_version = a->versions[3],
                .options = {(const char *)a->options, sizeof a->options},
                .strict = a->strict,
                .existing = a->existing,
                .prior = text(a->prior),
                .of = text(a->bin.of),
                .bin = (uint8_t)a->bin.number,
                .by = (uint8_t)a->bin.by,
                .above = a->bin.above,
                .up_to = a->bin.up_to,
                .abstains = a->answering.abstains,
                .abstain = a->answering.abstain,
                .top = a->answering.top,
                .lookahead = a->lookahead,
                .rollouts = a->caps.rollouts,
                .tokens = a->caps.tokens,
                .slot_ms = a->caps.slot_ms,
                .cost = a->caps.cost,
                .report_at = {(const char *)a->report_at, a->report_at_len * 4},
                .rounds = a->schedule.rounds,
                .pools = {(const char *)a->pools, several * sizeof *a->pools},
                .lens = {(const char *)a->schedule.len, several * sizeof *a->schedule.len}},
    };
}

static void dump_arms(const struct core *core, struct buf *out)
{
    for (uint32_t i = 0; i < core->arms_len; i++) {
        const struct arm *arm = &core->arms[i];
        put_fact(out, arm_fact(core, i));
        for (uint32_t from = 0, len; from < arm->beliefs_len; from += len) {
            len = arm->beliefs_len - from < PRIOR_CHUNK ? arm->beliefs_len - from : PRIOR_CHUNK;
            PUT(prior, .arm = i, .from = from,
                .beliefs = {(const char *)arm->beliefs[from], len * sizeof *arm->beliefs});
        }
    }
}

static struct slice features_of(const struct row *row)
{
    return (struct slice){(const char *)row->features, (size_t)__builtin_popcount(row->have) * sizeof(float)};
}

static void dump_row(struct buf *out, uint32_t pool, uint32_t prompt, uint32_t k, const struct row *row)
{
    PUT(row, .pool = pool, .prompt = prompt, .ordinal = k, .state = row->state, .finish = row->finish,
        .flags = row->flags, .payer = row->payer, .tokens_in = row->tokens_in, .tokens_out = row->tokens_out,
        .latency_ms = row->latency_ms, .class = row->class, .ref_commit = row->ref.commit,
        .ref_offset = row->ref.offset, .ref_len = row->ref.len, .have = row->have, .features = features_of(row));
}

static void dump_score(struct buf *out, const struct key *key, const struct score *score)
{
    if (score->state == SCORE_DONE)
        PUT(score, .kind = key->kind, .owner = key->owner, .prompt = key->prompt, .tree = key->tree, .item = key->item,
            .verifier = key->verifier, .state = score->state, .outcome = score->outcome, .score = score->score);
}

static void dump_pool(const struct core *core, uint32_t id, struct buf *out)
{
    const struct pool *pool = &core->pools[id];
    for (uint32_t p = 0; p < core->sets[pool->set].len; p++) {
        const struct stock *stock = &pool->stocks[p];
        for (uint32_t k = 0; k < stock->issued; k++) {
            dump_row(out, id, p, k, &stock->rows[k]);
            for (uint32_t i = 0; i < pool->planes_len; i++)
                dump_score(out, &(struct key){TASK_VERIFY, id, p, NO_ID, k, pool->planes[i]},
                           &stock->scores[k * pool->planes_len + i]);
        }
    }
}

static void dump_tree(const struct core *core, const struct arm *arm, uint32_t p, uint32_t t, struct buf *out)
{
    const struct tree *tree = &arm->cells[p].trees[t];
    for (uint32_t n = 0; n < tree->nodes_len; n++) {
        const struct row *row = &tree->nodes[n];
        PUT(node, .arm = arm->id, .prompt = p, .tree = t, .parent = tree->views[n].parent, .state = row->state,
            .finish = row->finish, .flags = row->flags, .payer = row->payer, .latency_ms = row->latency_ms,
            .tokens_in = row->tokens_in, .tokens_out = row->tokens_out, .class = row->class,
            .ref_commit = row->ref.commit, .ref_offset = row->ref.offset, .ref_len = row->ref.len, .have = row->have,
            .features = features_of(row), .cap = tree->views[n].cap, .cue = (uint8_t)tree->views[n].cue,
            .extent = (uint8_t)tree->views[n].extent);
        struct key key = {TASK_VERIFY, arm->id, p, t, n, arm->verifier};
        if (arm->verifier != NO_ID)
            dump_score(out, &key, &tree->scores[2 * n]);
        key.verifier = core->sweeps[arm->sweep].truth;
        if (key.verifier != NO_ID && key.verifier != arm->verifier)
            dump_score(out, &key, &tree->scores[2 * n + 1]);
    }
    if (arm->record_size > 0)
        PUT(note, .arm = arm->id, .prompt = p, .tree = t, .record = {tree->record, arm->record_size});
    if (tree->finished)
        PUT(finish, .arm = arm->id, .prompt = p, .tree = t,
            .finals = {(const char *)tree->finals, tree->finals_len * 4});
}

static void dump_cells(const struct core *core, const struct arm *arm, struct buf *out)
{
    for (uint32_t p = 0; p < arm->prompts; p++) {
        const struct cell *cell = &arm->cells[p];
        if (cell->opened == 0 && cell->decided == DECIDED_NOT)
            continue;
        bool window = arm->strict && arm->trees == 0; /* trees follow their own order, whatever the arm says */
        PUT(opened, .arm = arm->id, .prompt = p, .count = cell->opened, .delivered = window ? cell->delivered : 0,
            .freed = cell->trees == NULL);
        for (uint32_t t = 0; cell->trees != NULL && t < arm->trees; t++)
            dump_tree(core, arm, p, t, out);
        if (cell->decided != DECIDED_NOT)
            PUT(decide, .arm = arm->id, .prompt = p, .stop = cell->stop, .winner = cell->winner,
                .confidence = (double)cell->confidence, .why = cell->decided);
    }
    if (arm->pricing.price > 0)
        PUT(price, .arm = arm->id, .price = arm->pricing.price, .spent = arm->pricing.spent,
            .decided = arm->pricing.decided);
    for (uint32_t i = 0; i < arm->fifo.len; i++)
        PUT(fifo, .arm = arm->id, .prompt = arm->fifo.at[(arm->fifo.head + i) % arm->fifo.cap]);
}

static void dump_amounts(struct buf *out, enum ledger_kind kind, uint32_t id, const struct amounts *amounts,
                         uint64_t verdicts)
{
    PUT(ledger, .kind = (uint8_t)kind, .id = id, .rollouts = amounts->rollouts, .tokens = amounts->tokens,
        .slot_ms = amounts->slot_ms, .cost = amounts->cost, .verdicts = verdicts);
}

static void dump_accepted(struct buf *out, const struct sweep *s)
{
    PUT(ledger, .kind = LEDGER_ACCEPTED, .id = s->id, .rollouts = s->accepted.rollouts, .tokens = s->accepted.tokens,
        .slot_ms = s->accepted.slot_ms, .cost = s->accepted.cost, .verdicts = s->verdicts, .read = s->read.tokens,
        .cached = s->read.cached);
}

/* In key order, so that equal states give equal dumps whatever history led to them. */
static int by_key(const struct task *a, const struct task *b)
{
    return memcmp(&a->key, &b->key, sizeof a->key);
}

static int by_id(const struct lease *a, const struct lease *b)
{
    return a->id < b->id ? -1 : a->id > b->id;
}

static void dump_tasks(struct core *core, struct buf *out)
{
    struct task *task, *next_task;
    struct lease *lease, *next_lease;
    HASH_SORT(core->tasks, by_key);
    HASH_ITER (hh, core->tasks, task, next_task)
        if (task->attempts > 0)
            PUT(task, .kind = task->key.kind, .owner = task->key.owner, .prompt = task->key.prompt,
                .tree = task->key.tree, .item = task->key.item, .verifier = task->key.verifier, .payer = task->payer,
                .attempts = task->attempts, .failures = task->failures, .deaths = task->deaths);
    HASH_SORT(core->leases, by_id);
    HASH_ITER (hh, core->leases, lease, next_lease) {
        struct key none = {.tree = NO_ID}, *key = lease->task == NULL ? &none : &lease->task->key;
        PUT(leased, .lease = lease->id, .state = lease->state, .agent = lease->agent, .kind = lease->kind,
            .owner = key->owner, .prompt = key->prompt, .tree = key->tree, .item = key->item, .verifier = key->verifier,
            .payer = lease->payer, .rollouts = lease->reserved.rollouts, .tokens = lease->reserved.tokens,
            .slot_ms = lease->reserved.slot_ms, .cost = lease->reserved.cost);
    }
}

static void dump_ledgers(const struct core *core, struct buf *out)
{
    for (uint32_t i = 0; i < core->arms_len; i++) {
        const struct arm *arm = &core->arms[i];
        if (arm->trees == 0)
            continue;
        dump_amounts(out, LEDGER_CHARGED, i, &arm->charged, arm->verdicts);
        dump_amounts(out, LEDGER_ARM_RESERVED, i, &arm->reserved, 0);
    }
    for (uint32_t i = 0; i < core->models_len; i++)
        if (core->models[i].read.tokens > 0)
            PUT(ledger, .kind = LEDGER_MODEL, .id = i, .read = core->models[i].read.tokens,
                .cached = core->models[i].read.cached);
    for (uint32_t i = 0; i < core->sweeps_len; i++) {
        const struct sweep *s = &core->sweeps[i];
        dump_accepted(out, s);
        for (int w = 0; w < WASTES; w++)
            dump_amounts(out, (enum ledger_kind)(LEDGER_WASTE + w), i, &s->waste[w], 0);
        dump_amounts(out, LEDGER_RESERVED, i, &s->reserved, 0);
        dump_amounts(out, LEDGER_OVERRUN, i, &s->overrun, 0);
        dump_amounts(out, LEDGER_FAILED, i, &(struct amounts){.rollouts = s->failed}, 0);
    }
}

void core_dump(const struct core *core, struct buf *out)
{
    dump_definitions(core, out);
    dump_arms(core, out);
    for (uint32_t i = 0; i < core->pools_len; i++)
        dump_pool(core, i, out);
    for (uint32_t i = 0; i < core->arms_len; i++)
        dump_cells(core, &core->arms[i], out);
    dump_tasks((struct core *)core, out); /* sorts, which no decision depends on */
    for (uint32_t i = 0; i < core->sweeps_len; i++)
        PUT(state, .sweep = i, .state = core->sweeps[i].state, .reason = text(core->sweeps[i].reason));
    dump_ledgers(core, out);
    PUT(counters, .next_lease = core->next_lease, .epoch = core->epoch);
}

/* -- applying ----------------------------------------------------------------------------------------------------- */

static bool row_valid(const struct core *core, uint8_t state, uint8_t finish, uint8_t flags, uint32_t payer)
{
    return state <= ROW_FAILED && finish < FINISHES && payer < core->arms_len && flags <= (ROW_RACED | ROW_PROMISED) &&
           ((flags & ROW_PROMISED) == 0 || core->arms[payer].verifier != NO_ID);
}

/* The row that a row fact or a node fact tells: both have these fields. */
#define ROW_OF(f)                                                                                                  \
    (struct row)                                                                                                   \
    {                                                                                                              \
        .class = (f)->class, .ref = {(f)->ref_commit, (f)->ref_offset, (f)->ref_len}, .tokens_in = (f)->tokens_in, \
        .tokens_out = (f)->tokens_out, .payer = (f)->payer, .latency_ms = (f)->latency_ms, .state = (f)->state,    \
        .finish = (f)->finish, .flags = (f)->flags,                                                                \
    }

static int row_apply(struct core *core, const struct fact_row *f)
{
    if (f->pool >= core->pools_len || f->prompt >= core->sets[core->pools[f->pool].set].len)
        return ERR_CORRUPT;
    struct pool *pool = &core->pools[f->pool];
    struct stock *stock = &pool->stocks[f->prompt];
    if (f->ordinal != stock->issued || f->ordinal >= LIMIT_N || f->state == ROW_NONE ||
        !row_valid(core, f->state, f->finish, f->flags, f->payer))
        return ERR_CORRUPT;
    stock_reserve(pool, stock, stock->issued + 1);
    struct row *row = &stock->rows[stock->issued++];
    *row = ROW_OF(f);
    return row_features(row, f->have, f->features, sizeof(float)) ? 0 : ERR_CORRUPT;
}

static struct arm *arm_at(struct core *core, uint32_t arm, uint32_t prompt)
{
    return arm < core->arms_len && prompt < core->arms[arm].prompts ? &core->arms[arm] : NULL;
}

static int score_apply(struct core *core, const struct fact_score *f)
{
    struct key key = {TASK_VERIFY, f->owner, f->prompt, f->tree, f->item, f->verifier};
    struct score *score = key_score(core, &key);
    if (score == NULL || score->state == SCORE_DONE || f->state != SCORE_DONE || f->outcome >= OUTCOMES)
        return ERR_CORRUPT;
    *score = (struct score){f->score, f->state, f->outcome};
    if (f->tree != NO_ID && core->arms[f->owner].verifier == f->verifier && node_judged(core, &key)) {
        struct tree *tree = &core->arms[f->owner].cells[f->prompt].trees[f->tree];
        struct node_view *view = &tree->views[f->item];
        view->scored = outcome_known(f->outcome);
        view->score = f->score;
        if (tree->nodes[f->item].state != ROW_DONE)
            return ERR_CORRUPT;
        tree_spend(core, &core->arms[f->owner], tree, f->item);
        tree->unsettled--;
    }
    return 0;
}

static int node_apply(struct core *core, const struct fact_node *f)
{
    struct arm *arm = arm_at(core, f->arm, f->prompt);
    if (arm == NULL || f->tree >= arm->trees || arm->cells[f->prompt].trees == NULL)
        return ERR_CORRUPT;
    struct tree *tree = &arm->cells[f->prompt].trees[f->tree];
    bool fresh = f->state == ROW_NONE && f->payer == 0 && f->finish == 0 && f->flags == 0;
    struct node_view how = {
        .parent = f->parent, .cap = f->cap, .cue = (enum cue)f->cue, .extent = (enum extent)f->extent};
    if (tree->nodes_len >= NODES_MAX || !node_valid(core, arm, tree, &how) ||
        (!fresh && !row_valid(core, f->state, f->finish, f->flags, f->payer)))
        return ERR_CORRUPT;
    tree_add(core, arm, f->prompt, tree, &how);
    struct row *row = &tree->nodes[tree->nodes_len - 1];
    *row = ROW_OF(f);
    if (!row_features(row, f->have, f->features, sizeof(float)))
        return ERR_CORRUPT;
    struct node_view *view = &tree->views[tree->nodes_len - 1];
    view->finish = (enum finish)f->finish;
    view->class = row->class;
    view->tokens = row->tokens_out;
    struct key key = {TASK_GENERATE, f->arm, f->prompt, f->tree, tree->nodes_len - 1, NO_ID};
    if (row->state == ROW_FAILED || (row->state == ROW_DONE && !node_judged(core, &key))) {
        tree_spend(core, arm, tree, tree->nodes_len - 1);
        tree->unsettled--;
    }
    return 0;
}

static int opened_apply(struct core *core, const struct fact_opened *f)
{
    struct arm *arm = arm_at(core, f->arm, f->prompt);
    if (arm == NULL)
        return ERR_CORRUPT;
    struct cell *cell = &arm->cells[f->prompt];
    int rc = 0;
    if (cell->opened > 0 || cell->decided != DECIDED_NOT)
        return ERR_CORRUPT;
    if (f->count > 0)
        rc = open_apply(core, &(struct fact_open){f->arm, f->prompt, f->count});
    if (rc != 0)
        return rc;
    if (f->freed)
        trees_free(arm, cell);
    arm->fifo.len = 0; /* fifo facts follow */
    return arm->strict && arm->trees == 0 && f->delivered > 0 ? cell_restore(core, arm, f->prompt, f->delivered) : 0;
}

static int task_apply(struct core *core, const struct fact_task *f)
{
    struct key key = {f->kind, f->owner, f->prompt, f->tree, f->item, f->verifier};
    if (!key_open(core, &key, f->payer) || task_find(core, &key) != NULL)
        return ERR_CORRUPT;
    struct task *task = task_want(core, &key, f->payer);
    task->attempts = f->attempts;
    task->failures = f->failures;
    task->deaths = f->deaths;
    return 0;
}

static int leased_apply(struct core *core, const struct fact_leased *f)
{
    struct key key = {f->kind, f->owner, f->prompt, f->tree, f->item, f->verifier};
    struct task *task = f->state == LEASE_GHOST ? NULL : task_find(core, &key);
    struct lease *lease;
    HASH_FIND(hh, core->leases, &f->lease, sizeof f->lease, lease);
    if (lease != NULL || (task == NULL) != (f->state == LEASE_GHOST) || f->state > LEASE_GHOST ||
        (task == NULL ? f->payer >= core->arms_len || f->kind > TASK_VERIFY : !key_open(core, &key, f->payer)))
        return ERR_CORRUPT;
    lease = xalloc(sizeof *lease);
    lease->id = f->lease;
    lease->agent = f->agent;
    lease->task = task;
    lease->payer = f->payer;
    lease->state = f->state;
    lease->kind = f->kind;
    lease->reserved = (struct amounts){f->rollouts, f->tokens, f->slot_ms, f->cost};
    HASH_ADD(hh, core->leases, id, sizeof lease->id, lease);
    if (task != NULL)
        DL_APPEND2(task->leases, lease, task_prev, task_next);
    if (f->state == LEASE_LIVE) {
        task->state = TASK_LEASED;
        core->sweeps[core->arms[f->payer].sweep].leased++;
    }
    return 0;
}

static int ledger_apply(struct core *core, const struct fact_ledger *f)
{
    struct amounts amounts = {f->rollouts, f->tokens, f->slot_ms, f->cost};
    if (f->kind == LEDGER_MODEL) {
        if (f->id >= core->models_len)
            return ERR_CORRUPT;
        core->models[f->id].read = (struct reading){f->read, f->cached};
        return 0;
    }
    bool of_arm = f->kind == LEDGER_CHARGED || f->kind == LEDGER_ARM_RESERVED;
    if (f->id >= (of_arm ? core->arms_len : core->sweeps_len))
        return ERR_CORRUPT;
    struct arm *arm = of_arm ? &core->arms[f->id] : NULL;
    struct sweep *sweep = of_arm ? NULL : &core->sweeps[f->id];
    if (f->kind >= LEDGER_WASTE && f->kind < LEDGER_WASTE + WASTES) {
        sweep->waste[f->kind - LEDGER_WASTE] = amounts;
        return 0;
    }
    switch (f->kind) {
    case LEDGER_ACCEPTED:
        sweep->accepted = amounts;
        sweep->verdicts = f->verdicts;
        sweep->read = (struct reading){f->read, f->cached};
        return 0;
    case LEDGER_RESERVED:
        sweep->reserved = amounts;
        return 0;
    case LEDGER_CHARGED:
        arm->charged = amounts;
        arm->verdicts = f->verdicts;
        return 0;
    case LEDGER_ARM_RESERVED:
        arm->reserved = amounts;
        return 0;
    case LEDGER_FAILED:
        sweep->failed = f->rollouts;
        return 0;
    case LEDGER_OVERRUN:
        sweep->overrun = amounts;
        return 0;
    }
    return ERR_CORRUPT;
}

static int fifo_apply(struct core *core, const struct fact_fifo *f)
{
    struct arm *arm = arm_at(core, f->arm, f->prompt);
    if (arm == NULL)
        return ERR_CORRUPT;
    ring_push(&arm->fifo, f->prompt);
    return 0;
}

int snapshot_apply(struct core *core, const struct fact *fact)
{
    switch ((int)fact->type) {
    case FACT_row:
        return row_apply(core, &fact->row);
    case FACT_score:
        return score_apply(core, &fact->score);
    case FACT_ledger:
        return ledger_apply(core, &fact->ledger);
    case FACT_node:
        return node_apply(core, &fact->node);
    case FACT_opened:
        return opened_apply(core, &fact->opened);
    case FACT_fifo:
        return fifo_apply(core, &fact->fifo);
    case FACT_task:
        return task_apply(core, &fact->task);
    case FACT_leased:
        return leased_apply(core, &fact->leased);
    case FACT_counters:
        core->next_lease = fact->counters.next_lease;
        core->epoch = fact->counters.epoch;
        return 0;
    }
    return ERR_CORRUPT;
}
