/* task.c - tasks, leases, and what their ends mean for rows, verdicts and ledgers.
 *
 * A lease id names (key, attempt) for ever: ids are never reused, and the grant is committed before it is sent. So a
 * result is judged by its lease alone, in whatever epoch: it counts if the lease is known and its key is open. */
#include "broker/core/core_int.h"
#include "common/limits.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct task *task_find(const struct core *core, const struct key *key)
{
    struct key clean; /* padding takes part in the hash */
    memset(&clean, 0, sizeof clean);
    clean.kind = key->kind;
    clean.owner = key->owner;
    clean.prompt = key->prompt;
    clean.tree = key->tree;
    clean.item = key->item;
    clean.verifier = key->verifier;
    struct task *task;
    HASH_FIND(hh, core->tasks, &clean, sizeof clean, task);
    return task;
}

static struct task *task_new(struct core *core, const struct key *key, uint32_t payer)
{
    struct task *task = xalloc(sizeof *task);
    task->key.kind = key->kind;
    task->key.owner = key->owner;
    task->key.prompt = key->prompt;
    task->key.tree = key->tree;
    task->key.item = key->item;
    task->key.verifier = key->verifier;
    task->payer = task->lister = payer;
    task->state = TASK_LEASED; /* not listed yet */
    HASH_ADD(hh, core->tasks, key, sizeof task->key, task);
    return task;
}

static bool is_truth(const struct core *core, const struct key *key, uint32_t payer)
{
    return key->kind == TASK_VERIFY && core->arms[payer].verifier != key->verifier;
}

static struct task **list_of(struct core *core, const struct task *task)
{
    struct arm *arm = &core->arms[task->lister];
    if (task->key.kind == TASK_GENERATE)
        return &arm->legs[arm->trees > 0 ? 0 : arm_leg(arm, task->key.owner)].generate;
    return is_truth(core, &task->key, task->lister) ? &arm->truth : &arm->verify;
}

/* How much an arm wants this task of its pool done. */
enum need { NEED_NONE, NEED_TRUTH, NEED_OWN };

static enum need need_of(const struct core *core, const struct arm *arm, const struct key *key)
{
    const struct cell *cell = &arm->cells[key->prompt];
    const struct sweep *sweep = &core->sweeps[arm->sweep];
    if (arm->trees > 0 || sweep->state != SWEEP_RUNNING)
        return NEED_NONE;
    uint32_t position = arm_position(arm, key->owner, key->item);
    if (key->kind == TASK_GENERATE)
        return position < cell_wants(cell) ? NEED_OWN : NEED_NONE;
    if (arm->verifier == key->verifier && cell->decided == DECIDED_NOT && position < cell->opened &&
        row_judged(core, arm, key_row(core, key)) &&
        (!core->verifiers[key->verifier].group || group_len(core, arm, key->prompt) > 0))
        return NEED_OWN;
    return sweep->truth == key->verifier && position < cell->delivered ? NEED_TRUTH : NEED_NONE;
}

/* Who pays for the next lease: its last payer if that still needs it most, else the first arm of the pool that does. So a
 * sweep that is paused or over never holds up another one that shares its rollouts. NO_ID: nobody who runs needs it, so
 * nobody shall pay; it waits until an arm opens it, or its sweep goes on. */
static uint32_t lister_of(const struct core *core, const struct task *task)
{
    if (task->key.tree != NO_ID)
        return task->key.owner;
    const struct pool *pool = &core->pools[task->key.owner];
    uint32_t best = task->lister == NO_ID ? task->payer : task->lister;
    enum need most = need_of(core, &core->arms[best], &task->key);
    for (uint32_t i = 0; i < pool->arms_len && most < NEED_OWN; i++) {
        enum need need = need_of(core, &core->arms[pool->arms[i]], &task->key);
        if (need > most) {
            best = pool->arms[i];
            most = need;
        }
    }
    /* What a paused sweep waits for stays its own: nothing is granted for it. */
    return most == NEED_NONE && core->sweeps[core->arms[best].sweep].state == SWEEP_RUNNING ? NO_ID : best;
}

static void enlist(struct core *core, struct task *task)
{
    struct task **list = list_of(core, task);
    if (task->deaths > 1)
        DL_PREPEND(*list, task); /* suspect: whoever may run it meets it first */
    else
        DL_APPEND(*list, task);
    if (list == &core->arms[task->lister].verify)
        core->arms[task->lister].verify_len++;
    if (task->deaths > 1)
        core->suspects++;
}

void task_wait(struct core *core, struct task *task)
{
    task->state = TASK_WAITING;
    if (!core->live)
        return; /* core_start lists it */
    task->lister = lister_of(core, task);
    if (task->lister != NO_ID)
        enlist(core, task);
}

/* A verdict that its lister cannot pay may be the truth that another arm of the sweep awaits, and that is free. */
bool task_pass(struct core *core, struct task *task)
{
    const struct key *key = &task->key;
    if (key->kind != TASK_VERIFY || key->tree != NO_ID)
        return false;
    const struct pool *pool = &core->pools[key->owner];
    for (uint32_t i = 0; i < pool->arms_len; i++) {
        const struct arm *arm = &core->arms[pool->arms[i]];
        if (arm->sweep != core->arms[task->lister].sweep || !is_truth(core, key, arm->id) ||
            need_of(core, arm, key) != NEED_TRUTH)
            continue;
        task_unlist(core, task);
        task->lister = arm->id;
        enlist(core, task);
        return true;
    }
    return false;
}

void task_unlist(struct core *core, struct task *task)
{
    if (!core->live || task->state != TASK_WAITING || task->lister == NO_ID)
        return;
    struct task **list = list_of(core, task);
    DL_DELETE(*list, task);
    if (list == &core->arms[task->lister].verify)
        core->arms[task->lister].verify_len--;
    if (task->deaths > 1)
        core->suspects--;
}

void task_relist(struct core *core, struct task *task)
{
    if (task->state != TASK_WAITING || lister_of(core, task) == task->lister)
        return;
    task_unlist(core, task);
    task_wait(core, task);
}

struct task *task_want(struct core *core, const struct key *key, uint32_t payer)
{
    struct task *task = task_find(core, key);
    if (task != NULL) {
        task_relist(core, task); /* what waited for the truth only may be an arm's own verdict now */
        return task;
    }
    task = task_new(core, key, payer);
    task_wait(core, task);
    return task;
}

static struct sweep *payer_sweep(const struct core *core, uint32_t payer)
{
    return &core->sweeps[core->arms[payer].sweep];
}

/* A live lease ends: what it reserved is settled at `spent`, booked under `as`. */
static void settle(struct core *core, const struct lease *lease, const struct amounts *spent, struct amounts *as)
{
    struct sweep *sweep = payer_sweep(core, lease->payer);
    assert(lease->state == LEASE_LIVE);
    amounts_sub(core, &sweep->reserved, &lease->reserved);
    amounts_add(as, spent);
    sweep->leased--;
    sweep->broke = false;
}

/* Where a lease stands that was settled in full. */
static struct amounts *waste_of(const struct core *core, const struct lease *lease)
{
    return &payer_sweep(core, lease->payer)->waste[lease->state == LEASE_GHOST ? WASTE_CANCELLED : WASTE_LOST];
}

/* It turns out to have used `spent`, or to be worth something after all. */
static void settle_again(struct core *core, const struct lease *lease, const struct amounts *spent, struct amounts *as)
{
    amounts_sub(core, waste_of(core, lease), &lease->reserved);
    amounts_add(as, spent);
    payer_sweep(core, lease->payer)->broke = false;
}

void lease_drop(struct core *core, struct lease *lease)
{
    if (lease->task != NULL)
        DL_DELETE2(lease->task->leases, lease, task_prev, task_next);
    struct agent *agent = lease->held ? agent_find(core, lease->agent) : NULL;
    if (agent != NULL) {
        DL_DELETE2(agent->leases, lease, agent_prev, agent_next);
        agent->leased--;
        if (agent->leased == 0)
            agent->alone = false;
    }
    HASH_DEL(core->leases, lease);
    free(lease);
}

static struct lease *lease_find(const struct core *core, uint64_t id)
{
    struct lease *lease;
    HASH_FIND(hh, core->leases, &id, sizeof id, lease);
    return lease;
}

void task_close(struct core *core, struct task *task, uint64_t winner)
{
    struct lease *lease, *next;
    for (lease = task->leases; lease != NULL; lease = next) {
        next = lease->task_next;
        if (lease->id == winner || lease->state == LEASE_LOST) {
            lease_drop(core, lease);
            continue;
        }
        settle(core, lease, &lease->reserved, &payer_sweep(core, lease->payer)->waste[WASTE_CANCELLED]);
        lease->state = LEASE_GHOST;
        DL_DELETE2(task->leases, lease, task_prev, task_next);
        lease->task = NULL;
        if (core->update != NULL && lease->held)
            send_add(core, SEND_CANCEL, lease->agent, lease->id);
    }
    task_unlist(core, task);
    HASH_DEL(core->tasks, task);
    free(task);
}

/* -- applying ----------------------------------------------------------------------------------------------------- */

static enum charge key_charge(const struct core *core, const struct key *key)
{
    if (key->tree == NO_ID)
        return CHARGE_PROMPT;
    const struct arm *arm = &core->arms[key->owner];
    return node_charge(arm, &arm->cells[key->prompt].trees[key->tree].views[key->item]);
}

/* Is this the key of a task that may still get a result, and may this arm pay for it? */
bool key_open(const struct core *core, const struct key *key, uint32_t payer)
{
    if (payer >= core->arms_len ||
        (key->tree == NO_ID ? arm_leg(&core->arms[payer], key->owner) == NO_ID : payer != key->owner))
        return false;
    const struct row *row = key_row(core, key);
    if (row == NULL)
        return false;
    if (key->kind == TASK_GENERATE)
        return key->verifier == NO_ID && row->state <= ROW_LEASED;
    const struct arm *arm = &core->arms[payer];
    if (key->kind != TASK_VERIFY || key->verifier >= core->verifiers_len ||
        (key->verifier != core->sweeps[arm->sweep].truth &&
         (key->verifier != arm->verifier || (key->tree != NO_ID && !node_judged(core, key)))))
        return false;
    const struct score *score = key_score(core, key);
    return score != NULL && row->state == ROW_DONE && score->state != SCORE_DONE;
}

/* Issues the next ordinal of a pool if that is what the key names. */
static void key_issue(struct core *core, const struct key *key)
{
    if (key->kind == TASK_GENERATE && key->tree == NO_ID && key->owner < core->pools_len &&
        key->prompt < core->sets[core->pools[key->owner].set].len) {
        struct pool *pool = &core->pools[key->owner];
        struct stock *stock = &pool->stocks[key->prompt];
        if (key->item == stock->issued && key->item < LIMIT_N) {
            stock_reserve(pool, stock, stock->issued + 1);
            stock->issued++;
        }
    }
}

static void take_promise(struct core *core, const struct key *key, uint32_t payer)
{
    struct row *row = key_row(core, key);
    if (!is_truth(core, key, payer) && core->arms[row->payer].verifier == key->verifier)
        promise_release(core, row);
}

static struct amounts lease_reservation(const struct core *core, const struct key *key, uint32_t payer)
{
    if (key->kind == TASK_VERIFY)
        return is_truth(core, key, payer) ? (struct amounts){0} : reserve_verify(core, key->verifier);
    uint32_t pool = key_pool(core, key), most = pool_most(core, pool);
    if (key->tree != NO_ID)
        most = core->arms[key->owner].cells[key->prompt].trees[key->tree].views[key->item].cap;
    return reserve_generate(core, pool, key->prompt, key_charge(core, key), most);
}

/* What granting this key must find room for: a generation for a verifying arm counts its first verdict too. */
struct amounts lease_needs(const struct core *core, const struct key *key, uint32_t payer)
{
    struct amounts needs = lease_reservation(core, key, payer);
    if (key->kind == TASK_GENERATE && (key->tree == NO_ID || node_judged(core, key)) &&
        promise_useful(core, &core->arms[payer], key->owner, key->prompt)) {
        struct amounts verdict = reserve_verify(core, core->arms[payer].verifier);
        amounts_add(&needs, &verdict);
    }
    return needs;
}

/* Sweeps end and go on, and arms decide, while a lease is out: what counts is what it reserved when it was granted. */
static bool reserves_verdict(const struct core *core, const struct lease *lease)
{
    struct amounts bare = lease_reservation(core, &lease->task->key, lease->payer);
    if (core->arms[lease->payer].verifier == NO_ID)
        return false;
    struct amounts verdict = reserve_verify(core, core->arms[lease->payer].verifier);
    return lease->reserved.slot_ms == bare.slot_ms + verdict.slot_ms &&
           lease->reserved.cost == bare.cost + verdict.cost;
}

int lease_apply(struct core *core, const struct fact_lease *f)
{
    struct key key = {f->kind, f->owner, f->prompt, f->tree, f->item, f->verifier};
    if (f->lease != core->next_lease || lease_find(core, f->lease) != NULL)
        return ERR_CORRUPT;
    key_issue(core, &key);
    if (!key_open(core, &key, f->payer))
        return ERR_CORRUPT;
    core->next_lease++;
    struct task *task = task_find(core, &key);
    if (task == NULL)
        task = task_new(core, &key, f->payer);
    task_unlist(core, task);
    task->state = TASK_LEASED;
    task->payer = task->lister = f->payer;
    task->attempts++;
    struct row *row = key_row(core, &key);
    if (key.kind == TASK_GENERATE) {
        row->state = ROW_LEASED;
        row->payer = f->payer;
        if (task->leases != NULL)
            row->flags |= ROW_RACED;
    } else {
        take_promise(core, &key, f->payer);
    }
    struct lease *lease = xalloc(sizeof *lease);
    lease->id = f->lease;
    lease->agent = f->agent;
    lease->task = task;
    lease->payer = f->payer;
    lease->kind = f->kind;
    lease->state = LEASE_LIVE;
    lease->reserved = lease_reservation(core, &key, f->payer);
    /* The promise of the verdict is part of the generation's reservation until its result is there. */
    if (key.kind == TASK_GENERATE)
        lease->reserved = lease_needs(core, &key, f->payer);
    DL_APPEND2(task->leases, lease, task_prev, task_next);
    HASH_ADD(hh, core->leases, id, sizeof lease->id, lease);
    struct sweep *sweep = payer_sweep(core, f->payer);
    amounts_add(&sweep->reserved, &lease->reserved);
    sweep->leased++;
    return 0;
}

static uint32_t bounded(uint32_t latency_ms, uint32_t timeout_ms)
{
    return latency_ms < timeout_ms ? latency_ms : timeout_ms;
}

static uint32_t model_of(const struct core *core, const struct key *key)
{
    return core->pools[key_pool(core, key)].model;
}

/* A result or verdict was accepted: its lease becomes `spent`, twice if it had been settled as lost. */
static void settle_winner(struct core *core, const struct lease *lease, const struct amounts *spent)
{
    struct sweep *sweep = payer_sweep(core, lease->payer);
    const struct amounts *reserved = &lease->reserved;
    if (lease->state == LEASE_LIVE)
        settle(core, lease, spent, &sweep->accepted);
    else
        settle_again(core, lease, spent, &sweep->accepted);
    struct amounts over = {.tokens = spent->tokens > reserved->tokens ? spent->tokens - reserved->tokens : 0,
                           .cost = spent->cost > reserved->cost ? spent->cost - reserved->cost : 0};
    amounts_add(&sweep->overrun, &over);
}

static void reading_add(struct reading *read, uint32_t tokens, uint32_t cached)
{
    read->tokens += tokens;
    read->cached += cached < tokens ? cached : tokens;
}

int result_apply(struct core *core, const struct fact_result *f)
{
    struct lease *lease = lease_find(core, f->lease);
    if (lease == NULL || lease->task == NULL || lease->kind != TASK_GENERATE || f->finish >= FINISHES ||
        !key_open(core, &lease->task->key, lease->payer))
        return ERR_CORRUPT;
    struct key key = lease->task->key;
    struct row *row = key_row(core, &key);
    struct model *model = &core->models[model_of(core, &key)];
    uint8_t flags = row->flags;
    *row = (struct row){
        .class = f->class,
        .ref = {f->ref_commit, f->ref_offset, f->ref_len},
        .tokens_in = f->tokens_in,
        .tokens_out = f->tokens_out,
        .latency_ms = bounded(f->latency_ms, model->timeout_ms),
        .payer = lease->payer,
        .state = ROW_DONE,
        .finish = f->finish,
        .flags = flags,
    };
    if (!row_features(row, f->have, f->features, sizeof(double)))
        return ERR_CORRUPT;
    struct amounts spent = cost_row(core, model_of(core, &key), key_charge(core, &key), row);
    uint32_t payer = lease->payer;
    reading_add(&model->read, f->tokens_in, f->tokens_cached);
    reading_add(&payer_sweep(core, payer)->read, f->tokens_in, f->tokens_cached);
    bool promised = reserves_verdict(core, lease);
    settle_winner(core, lease, &spent);
    if (promised && row_judged(core, &core->arms[payer], row) &&
        promise_useful(core, &core->arms[payer], key.owner, key.prompt)) {
        struct amounts verdict = reserve_verify(core, core->arms[payer].verifier);
        amounts_add(&payer_sweep(core, payer)->reserved, &verdict);
        row->flags |= ROW_PROMISED;
    }
    /* The winner is no longer live, so closing must not settle it again. */
    task_close(core, lease->task, f->lease);
    if (key.tree != NO_ID && !node_judged(core, &key))
        tree_settle(core, &core->arms[key.owner], key.prompt, key.tree, key.item);
    return 0;
}

/* The verdict of the truth settles no node. */
static bool settles_node(const struct core *core, const struct key *key)
{
    return core->arms[key->owner].verifier == key->verifier && node_judged(core, key);
}

int verdict_apply(struct core *core, const struct fact_verdict *f)
{
    struct lease *lease = lease_find(core, f->lease);
    if (lease == NULL || lease->task == NULL || lease->kind != TASK_VERIFY || f->outcome >= OUTCOMES ||
        !key_open(core, &lease->task->key, lease->payer))
        return ERR_CORRUPT;
    struct key key = lease->task->key;
    struct score *score = key_score(core, &key);
    *score = (struct score){f->score, SCORE_DONE, f->outcome};
    struct amounts spent = {0};
    if (!is_truth(core, &key, lease->payer)) {
        spent = cost_verify(core, key.verifier, bounded(f->latency_ms, core->verifiers[key.verifier].timeout_ms));
        payer_sweep(core, lease->payer)->verdicts++;
    }
    settle_winner(core, lease, &spent);
    task_close(core, lease->task, f->lease);
    if (key.tree != NO_ID && settles_node(core, &key))
        tree_settle(core, &core->arms[key.owner], key.prompt, key.tree, key.item);
    return 0;
}

static bool has_live(const struct task *task)
{
    for (const struct lease *lease = task->leases; lease != NULL; lease = lease->task_next)
        if (lease->state == LEASE_LIVE)
            return true;
    return false;
}

int fail_apply(struct core *core, const struct fact_fail *f)
{
    struct lease *lease = lease_find(core, f->lease);
    if (lease == NULL || lease->task == NULL)
        return ERR_CORRUPT;
    struct task *task = lease->task;
    struct amounts spent = lease->reserved; /* nobody knows what a failed attempt used, unless it says so */
    if (f->tokens != UINT32_MAX && f->tokens <= spent.tokens) {
        spent.tokens = f->tokens;
        spent.slot_ms = f->latency_ms < spent.slot_ms ? f->latency_ms : spent.slot_ms;
    }
    struct amounts *failed = &payer_sweep(core, lease->payer)->waste[WASTE_FAILED];
    if (lease->state == LEASE_LIVE)
        settle(core, lease, &spent, failed);
    else
        settle_again(core, lease, &spent, failed);
    lease_drop(core, lease);
    task->failures += f->final != 0 ? LIMIT_ATTEMPTS : 1;
    if (!has_live(task) && task->state == TASK_LEASED)
        task_wait(core, task);
    return 0;
}

int lost_apply(struct core *core, const struct fact_lost *f)
{
    struct lease *lease = lease_find(core, f->lease);
    if (lease == NULL || lease->state != LEASE_LIVE || f->why > LOST_GRACE)
        return ERR_CORRUPT;
    struct task *task = lease->task;
    const struct amounts nothing = {0};
    struct amounts *lost = &payer_sweep(core, lease->payer)->waste[WASTE_LOST];
    settle(core, lease, f->why == LOST_REFUSED ? &nothing : &lease->reserved, lost);
    lease->state = LEASE_LOST;
    if (f->why != LOST_SILENT && f->why != LOST_GRACE && f->why != LOST_RETURNED)
        lease_drop(core, lease);
    if (f->why == LOST_SILENT)
        task->deaths++;
    if (!has_live(task) && task->state == TASK_LEASED)
        task_wait(core, task);
    return 0;
}

int correct_apply(struct core *core, const struct fact_correct *f)
{
    struct lease *lease = lease_find(core, f->lease);
    if (lease == NULL || lease->state == LEASE_LIVE)
        return ERR_CORRUPT;
    struct amounts spent = lease->reserved;
    if (f->tokens_out != UINT32_MAX) { /* known usage */
        uint64_t tokens = (uint64_t)f->tokens_in + f->tokens_out;
        spent.tokens = tokens < spent.tokens ? tokens : spent.tokens;
        spent.slot_ms = f->latency_ms < spent.slot_ms ? f->latency_ms : spent.slot_ms;
        if (tokens == 0 && f->latency_ms == 0)
            spent = (struct amounts){0};
    }
    settle_again(core, lease, &spent, waste_of(core, lease));
    lease_drop(core, lease);
    return 0;
}

int forget_apply(struct core *core, const struct fact_forget *f)
{
    struct lease *lease = lease_find(core, f->lease);
    if (lease == NULL || lease->state == LEASE_LIVE)
        return ERR_CORRUPT;
    lease_drop(core, lease);
    return 0;
}

/* Failed for good: it keeps its place among the ordinals, as an answer without a vote; a verdict stays unknown. */
int give_up_apply(struct core *core, const struct fact_give_up *f)
{
    struct key key = {f->kind, f->owner, f->prompt, f->tree, f->item, f->verifier};
    struct task *task = task_find(core, &key);
    if (task == NULL || !key_open(core, &key, task->payer))
        return ERR_CORRUPT;
    payer_sweep(core, task->payer)->failed++;
    task_close(core, task, 0);
    if (key.kind == TASK_GENERATE) {
        struct row *row = key_row(core, &key);
        row->state = ROW_FAILED;
        row->finish = FINISH_FAILED;
    } else {
        *key_score(core, &key) = (struct score){0, SCORE_DONE, OUTCOME_ERROR};
    }
    if (key.tree == NO_ID)
        return 0;
    struct arm *arm = &core->arms[key.owner];
    if (key.kind == TASK_GENERATE || settles_node(core, &key))
        tree_settle(core, arm, key.prompt, key.tree, key.item);
    return 0;
}

int epoch_apply(struct core *core, const struct fact_epoch *f)
{
    if (f->number != core->epoch + 1)
        return ERR_CORRUPT;
    core->epoch = f->number;
    if (!f->fleet_died)
        return 0;
    struct lease *lease, *next; /* nobody is left who could report on ghosts and lost leases */
    HASH_ITER (hh, core->leases, lease, next)
        if (lease->state != LEASE_LIVE)
            lease_drop(core, lease);
    return 0;
}

/* -- reactions ---------------------------------------------------------------------------------------------------- */

static void verify_for(struct core *core, struct arm *arm, const struct key *generated)
{
    struct key key = *generated;
    key.kind = TASK_VERIFY;
    key.verifier = arm->verifier;
    struct score *score = key_score(core, &key);
    if (score->state == SCORE_DONE)
        return;
    score->state = SCORE_WANTED;
    task_want(core, &key, arm->id);
}

/* Rollouts that a verifier of groups compares: all that the arm, which has one leg, may have of the prompt, or that its
 * pool holds. */
uint32_t group_len(const struct core *core, const struct arm *arm, uint32_t prompt)
{
    const struct stock *stock = &core->pools[arm->pools[0]].stocks[prompt];
    for (uint32_t k = 0; k < arm->n; k++) {
        if (k == stock->issued || stock->rows[k].state < ROW_DONE)
            return arm->existing ? k : 0;
        if (stock->rows[k].finish == FINISH_EXHAUSTED)
            return k;
    }
    return arm->n;
}

void arm_verify(struct core *core, struct arm *arm, uint32_t prompt, uint32_t from, uint32_t to)
{
    if (arm->verifier != NO_ID && core->verifiers[arm->verifier].group) {
        from = 0;
        to = group_len(core, arm, prompt);
        to = to < arm->cells[prompt].opened ? to : arm->cells[prompt].opened;
    }
    for (uint32_t k = from; arm->verifier != NO_ID && k < to; k++) {
        struct key key = arm_key(arm, prompt, k);
        const struct row *row = key_row(core, &key);
        if (row != NULL && row_judged(core, arm, row))
            verify_for(core, arm, &key);
    }
}

/* Rollouts that another arm left waiting may be this one's to pay now. */
void arm_relist(struct core *core, const struct arm *arm, uint32_t prompt, uint32_t from, uint32_t to)
{
    for (uint32_t k = from; k < to; k++) {
        struct key key = arm_key(arm, prompt, k);
        const struct row *row = key_row(core, &key);
        struct task *task = row != NULL && row->state == ROW_LEASED ? task_find(core, &key) : NULL;
        if (task != NULL)
            task_relist(core, task);
    }
}

static void advance_pool_arms(struct core *core, const struct key *key)
{
    /* By index: an advance may not add arms, but it may move nothing of this list either. */
    for (uint32_t i = 0; i < core->pools[key->owner].arms_len; i++) {
        struct arm *arm = &core->arms[core->pools[key->owner].arms[i]];
        if (arm->trees > 0)
            continue;
        cell_advance(core, arm, key->prompt);
        arm_advance(core, arm);
    }
}

void react_generated(struct core *core, const struct key *key)
{
    if (key->tree != NO_ID) {
        struct arm *arm = &core->arms[key->owner];
        struct tree *tree = &arm->cells[key->prompt].trees[key->tree];
        if (tree->nodes[key->item].state == ROW_DONE && node_judged(core, key))
            verify_for(core, arm, key);
        else if (tree->unsettled == 0)
            tree_plan(core, arm, key->prompt, key->tree);
        return;
    }
    const struct pool *pool = &core->pools[key->owner];
    for (uint32_t i = 0; i < pool->arms_len; i++) {
        struct arm *arm = &core->arms[pool->arms[i]];
        if (arm->trees > 0 || arm->cells[key->prompt].decided != DECIDED_NOT)
            continue;
        if (arm->existing)
            cell_touch(core, arm, key->prompt); /* there is one more */
        uint32_t position = arm_position(arm, key->owner, key->item);
        if (position < arm->cells[key->prompt].opened)
            arm_verify(core, arm, key->prompt, position, position + 1);
    }
    advance_pool_arms(core, key);
}

void react_verified(struct core *core, const struct key *key)
{
    if (key->tree != NO_ID) {
        struct arm *arm = &core->arms[key->owner];
        struct cell *cell = &arm->cells[key->prompt];
        if (!settles_node(core, key))
            cell_truth_done(core, arm, key->prompt);
        else if (cell->trees[key->tree].unsettled == 0)
            tree_plan(core, arm, key->prompt, key->tree);
        return;
    }
    const struct pool *pool = &core->pools[key->owner];
    for (uint32_t i = 0; i < pool->arms_len; i++) {
        struct arm *arm = &core->arms[pool->arms[i]];
        if (arm->trees == 0 && core->sweeps[arm->sweep].truth == key->verifier &&
            arm_position(arm, key->owner, key->item) < arm->cells[key->prompt].delivered)
            cell_truth_done(core, arm, key->prompt);
    }
    advance_pool_arms(core, key);
}

static void give_up(struct core *core, const struct task *task, const char *reason)
{
    const struct key *key = &task->key;
    emit(core, &(struct fact){.type = FACT_give_up,
                              .give_up = {.kind = key->kind,
                                          .owner = key->owner,
                                          .prompt = key->prompt,
                                          .tree = key->tree,
                                          .item = key->item,
                                          .verifier = key->verifier,
                                          .reason = slice_of(reason)}});
}

/* After a failure or a loss: enough of it? */
void react_trouble(struct core *core, const struct task *task)
{
    if (task->failures >= LIMIT_ATTEMPTS)
        give_up(core, task, "failed too often");
    else if (task->deaths >= LIMIT_DEATHS)
        give_up(core, task, "quarantined: every worker that ran it died");
}

/* -- events ------------------------------------------------------------------------------------------------------- */

void lease_lose(struct core *core, struct lease *lease, enum lost why)
{
    emit(core, &(struct fact){.type = FACT_lost, .lost = {.lease = lease->id, .why = (uint8_t)why}});
}

static void acknowledge(struct core *core, const struct event *event, bool duplicate)
{
    send_add(core, SEND_ACK, event->agent, event->lease)->duplicate = duplicate;
}

/* Under `count: accepted` a lost lease reserves nothing, and its room may be taken: then its late result comes too late,
 * or the budget would be overspent. (Under `count: burned` it was settled in full, so there is room.) */
static bool too_late(const struct core *core, const struct lease *lease)
{
    const struct sweep *sweep = payer_sweep(core, lease->payer);
    return lease->state == LEASE_LOST && sweep->count_accepted && !sweep_affords(sweep, &lease->reserved);
}

/* A result counts whoever brings it, for its lease says what it is. What an agent says of a lease's use or failure counts
 * only when it was given that lease. */
static bool owns(const struct event *event, const struct lease *lease)
{
    return lease != NULL && lease->agent == event->agent;
}

/* A ghost, or a lease that nobody knows: say so, and book what it used. */
static void duplicate(struct core *core, const struct event *event, struct lease *lease, uint32_t tokens_in,
                      uint32_t tokens_out, uint32_t latency_ms)
{
    acknowledge(core, event, true);
    if (owns(event, lease) && lease->state != LEASE_LIVE)
        emit(core, &(struct fact){.type = FACT_correct,
                                  .correct = {.lease = lease->id,
                                              .tokens_in = tokens_in,
                                              .tokens_out = tokens_out,
                                              .latency_ms = latency_ms}});
}

static void overrun(struct core *core, const struct lease *lease, const struct result *result)
{
    struct sweep *sweep = payer_sweep(core, lease->payer);
    char reason[200];
    snprintf(reason, sizeof reason,
             "a rollout used %llu tokens of %llu reserved: raise max_tokens or template_tokens, then resume",
             (unsigned long long)result->tokens_in + result->tokens_out, (unsigned long long)lease->reserved.tokens);
    emit(core, &(struct fact){.type = FACT_state,
                              .state = {.sweep = sweep->id, .state = SWEEP_FAULT, .reason = slice_of(reason)}});
}

/* An arm that chooses by a feature would choose by nothing, and its report would not show it. */
static void lacking(struct core *core, const struct lease *lease, uint32_t pool_id, uint32_t missing)
{
    struct sweep *sweep = payer_sweep(core, lease->payer);
    char reason[300];
    if (sweep->state != SWEEP_RUNNING)
        return;
    snprintf(reason, sizeof reason,
             "an arm needs %s, and rollouts of model '%s' come without it: have the server give log-probabilities, or "
             "give that arm another select, then resume",
             feature_text(__builtin_ctz(missing)), core->models[core->pools[pool_id].model].name);
    emit(core, &(struct fact){.type = FACT_state,
                              .state = {.sweep = sweep->id, .state = SWEEP_FAULT, .reason = slice_of(reason)}});
}

/* What no honest agent says ends the attempt like any other failure of a task. */
static void malformed(struct core *core, const struct event *event)
{
    event_fail(core, &(struct event){.type = EVENT_FAIL,
                                     .now_ms = event->now_ms,
                                     .unix_s = event->unix_s,
                                     .agent = event->agent,
                                     .lease = event->lease,
                                     .fail = {.tokens_out = UINT32_MAX, .reason = slice_of("malformed result")}});
}

static void credit_agent(struct core *core, uint64_t id, uint64_t tokens)
{
    struct agent *agent = agent_find(core, id);
    if (agent == NULL)
        return;
    agent->failures = 0;
    agent->done++;
    agent->tokens += tokens;
}

/* Packs the features that are numbers; their bits. */
static uint32_t features_pack(const struct features *from, double *to, size_t *len)
{
    uint32_t have = 0;
    for (int i = 0; i < FEATURES; i++) {
        if ((from->have & 1u << i) == 0 || !isfinite(from->v[i]))
            continue;
        to[(*len)++] = from->v[i];
        have |= 1u << i;
    }
    return have;
}

static void accept_result(struct core *core, const struct event *event, const struct lease *lease)
{
    const struct result *result = &event->result.result;
    const struct key *key = &lease->task->key;
    uint64_t used = (key_charge(core, key) == CHARGE_PROMPT ? result->tokens_in : 0) + (uint64_t)result->tokens_out;
    if (used > lease->reserved.tokens)
        overrun(core, lease, result);
    double features[FEATURES];
    size_t len = 0;
    uint32_t have = features_pack(&result->features, features, &len);
    uint32_t pool_id = key_pool(core, key);
    uint32_t missing = core->pools[pool_id].features & ~have;
    if (missing != 0 && result->tokens_out > 0 && (result->finish == FINISH_STOP || result->finish == FINISH_LENGTH))
        lacking(core, lease, pool_id, missing);
    credit_agent(core, event->agent, result->tokens_out);
    if (key->tree != NO_ID)
        core->arms[key->owner].cells[key->prompt].trees[key->tree].homes[key->item] = event->agent;
    core->update->used = event->result.ref.commit != 0;
    acknowledge(core, event, false);
    emit(core, &(struct fact){.type = FACT_result,
                              .result = {.lease = event->lease,
                                         .finish = (uint8_t)result->finish,
                                         .tokens_in = result->tokens_in,
                                         .tokens_out = result->tokens_out,
                                         .tokens_reread = result->tokens_reread,
                                         .latency_ms = result->latency_ms,
                                         .class = event->result.class,
                                         .ref_commit = event->result.ref.commit,
                                         .ref_offset = event->result.ref.offset,
                                         .ref_len = event->result.ref.len,
                                         .have = have,
                                         .features = {(const char *)features, len * 8},
                                         .tokens_cached = result->tokens_cached,
                                         .logprob_mode = (uint8_t)result->logprob_mode,
                                         .by_ids = result->by_ids}});
}

/* Ended for its confidence, where nobody asked for that. */
static bool killed_unasked(const struct core *core, const struct lease *lease, enum finish finish)
{
    const struct key *key = &lease->task->key;
    return finish == FINISH_KILLED && (key->tree != NO_ID || core->pools[key->owner].kill.window == 0);
}

void event_result(struct core *core, const struct event *event)
{
    const struct result *result = &event->result.result;
    struct lease *lease = lease_find(core, event->lease);
    if (lease == NULL || lease->task == NULL || too_late(core, lease))
        duplicate(core, event, lease, result->tokens_in, result->tokens_out, result->latency_ms);
    else if (lease->kind != TASK_GENERATE || result->finish == FINISH_FAILED || (unsigned)result->finish >= FINISHES ||
             killed_unasked(core, lease, result->finish))
        malformed(core, event);
    else
        accept_result(core, event, lease);
}

void event_verdict(struct core *core, const struct event *event)
{
    struct lease *lease = lease_find(core, event->lease);
    if (lease == NULL || lease->task == NULL || too_late(core, lease)) {
        duplicate(core, event, lease, 0, 0, event->verdict.latency_ms);
        return;
    }
    if (lease->kind != TASK_VERIFY) {
        malformed(core, event);
        return;
    }
    const struct verdict *said = &event->verdict.verdict;
    bool valid = (unsigned)said->outcome < OUTCOMES && isfinite(said->score);
    enum outcome outcome = valid ? said->outcome : OUTCOME_ERROR;
    core->update->used = event->verdict.ref.commit != 0;
    credit_agent(core, event->agent, 0);
    acknowledge(core, event, false);
    emit(core, &(struct fact){.type = FACT_verdict,
                              .verdict = {.lease = event->lease,
                                          .outcome = (uint8_t)outcome,
                                          .score = outcome_known(outcome) ? said->score : 0,
                                          .latency_ms = event->verdict.latency_ms,
                                          .ref_commit = event->verdict.ref.commit,
                                          .ref_offset = event->verdict.ref.offset,
                                          .ref_len = event->verdict.ref.len}});
}

void event_fail(struct core *core, const struct event *event)
{
    struct lease *lease = lease_find(core, event->lease);
    if (!owns(event, lease) || lease->task == NULL) {
        duplicate(core, event, lease, event->fail.tokens_in, event->fail.tokens_out, event->fail.latency_ms);
        return;
    }
    struct agent *agent = agent_find(core, event->agent);
    if (agent != NULL && !event->fail.final &&
        ++agent->failures >= 5) { /* five in a row: it is the agent, not the tasks */
        agent->benched_until_ms = core->now_ms + 30000;
        agent->failures = 4;
    }
    if (agent != NULL)
        snprintf(agent->failure, sizeof agent->failure, "%.*s",
                 (int)(event->fail.reason.len < 199 ? event->fail.reason.len : 199),
                 event->fail.reason.len > 0 ? event->fail.reason.data : "");
    lease->task->failed_by = event->agent;
    if (lease->task->home == event->agent)
        lease->task->home = 0; /* or it would be left for the one agent that shall not get it */
    uint64_t used = (uint64_t)event->fail.tokens_in + event->fail.tokens_out;
    acknowledge(core, event, false);
    emit(core, &(struct fact){.type = FACT_fail,
                              .fail = {.lease = event->lease,
                                       .tokens = used < UINT32_MAX ? (uint32_t)used : UINT32_MAX,
                                       .reason = event->fail.reason,
                                       .latency_ms = event->fail.latency_ms,
                                       .final = event->fail.final}});
}

void event_return(struct core *core, const struct event *event)
{
    struct lease *lease = lease_find(core, event->lease);
    if (owns(event, lease) && lease->state == LEASE_LIVE)
        lease_lose(core, lease, LOST_RETURNED);
    if (owns(event, lease)) /* ghost, or just returned: it is settled in full, and now its use is known */
        emit(core, &(struct fact){.type = FACT_correct,
                                  .correct = {.lease = event->lease,
                                              .tokens_in = event->fail.tokens_in,
                                              .tokens_out = event->fail.tokens_out,
                                              .latency_ms = event->fail.latency_ms}});
    acknowledge(core, event, true);
}
