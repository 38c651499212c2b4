/* pool.c - pools: the ordered, independent rollouts of each prompt, shared by arms.
 *
 * An arm holds the ordinals below what it may still use: its n while undecided, its stop once decided. What no arm of
 * the pool holds is voided, arrived or not: keeping only what finished early would favour short answers. */
#include "broker/core/core_int.h"
#include "broker/policy/kill.h"
#include "common/limits.h"

#include <stdlib.h>
#include <string.h>

void stock_reserve(struct pool *pool, struct stock *stock, uint32_t rows)
{
    if (rows <= stock->rows_cap)
        return;
    uint32_t cap = stock->rows_cap < 4 ? 4 : stock->rows_cap;
    while (cap < rows)
        cap *= 2;
    stock->rows = xrealloc(stock->rows, cap * sizeof *stock->rows);
    memset(stock->rows + stock->rows_cap, 0, (cap - stock->rows_cap) * sizeof *stock->rows);
    if (pool->planes_len > 0) {
        size_t old = (size_t)stock->rows_cap * pool->planes_len, new = (size_t)cap * pool->planes_len;
        stock->scores = xrealloc(stock->scores, new * sizeof *stock->scores);
        memset(stock->scores + old, 0, (new - old) * sizeof *stock->scores);
    }
    stock->rows_cap = cap;
}

uint32_t pool_plane(const struct pool *pool, uint32_t verifier)
{
    for (uint32_t i = 0; i < pool->planes_len; i++)
        if (pool->planes[i] == verifier)
            return i;
    return NO_ID;
}

/* Verdicts are kept row by row, one per plane: a new plane moves them. Rare: only when a sweep is defined. */
void pool_add_plane(struct pool *pool, uint32_t verifier)
{
    if (pool_plane(pool, verifier) != NO_ID)
        return;
    pool->planes = grow_array(pool->planes, pool->planes_len, sizeof *pool->planes);
    pool->planes[pool->planes_len++] = verifier;
}

/* Called with the number of planes that the stocks still have. */
static void stock_widen(struct stock *stock, uint32_t old, uint32_t new)
{
    if (stock->rows_cap == 0)
        return;
    struct score *scores = xalloc((size_t)stock->rows_cap * new * sizeof *scores);
    for (uint32_t i = 0; i < stock->rows_cap && old > 0; i++)
        memcpy(scores + (size_t)i * new, stock->scores + (size_t)i * old, old * sizeof *scores);
    free(stock->scores);
    stock->scores = scores;
}

void pool_widen(struct core *core, uint32_t id, uint32_t planes_old)
{
    struct pool *pool = &core->pools[id];
    if (planes_old == pool->planes_len)
        return;
    for (uint32_t p = 0; p < core->sets[pool->set].len; p++)
        stock_widen(&pool->stocks[p], planes_old, pool->planes_len);
}

static struct tree *key_tree(const struct core *core, const struct key *key)
{
    if (key->owner >= core->arms_len)
        return NULL;
    const struct arm *arm = &core->arms[key->owner];
    if (key->prompt >= arm->prompts || key->tree >= arm->trees || arm->cells[key->prompt].trees == NULL)
        return NULL;
    struct tree *tree = &arm->cells[key->prompt].trees[key->tree];
    return key->item < tree->nodes_len ? tree : NULL;
}

struct row *key_row(const struct core *core, const struct key *key)
{
    if (key->tree != NO_ID) {
        struct tree *tree = key_tree(core, key);
        return tree == NULL ? NULL : &tree->nodes[key->item];
    }
    if (key->owner >= core->pools_len || key->prompt >= core->sets[core->pools[key->owner].set].len)
        return NULL;
    struct stock *stock = &core->pools[key->owner].stocks[key->prompt];
    return key->item < stock->issued ? &stock->rows[key->item] : NULL;
}

struct score *key_score(const struct core *core, const struct key *key)
{
    if (key_row(core, key) == NULL)
        return NULL;
    if (key->tree != NO_ID) {
        bool truth = core->arms[key->owner].verifier != key->verifier;
        return &key_tree(core, key)->scores[2 * key->item + truth];
    }
    const struct pool *pool = &core->pools[key->owner];
    uint32_t plane = pool_plane(pool, key->verifier);
    return plane == NO_ID ? NULL : &pool->stocks[key->prompt].scores[key->item * pool->planes_len + plane];
}

uint32_t cell_wants(const struct cell *cell)
{
    return cell->decided != DECIDED_NOT ? cell->stop : cell->opened;
}

void row_clear(struct row *row)
{
    free(row->features);
    *row = (struct row){0};
}

bool row_features(struct row *row, uint32_t have, struct slice from, size_t size)
{
    size_t len = (size_t)__builtin_popcount(have);
    if (from.len != len * size)
        return false;
    row->have = have;
    row->features = len == 0 ? NULL : xalloc(len * sizeof *row->features);
    for (size_t i = 0; i < len; i++) {
        double wide = 0;
        float narrow = 0;
        memcpy(size == sizeof wide ? (void *)&wide : &narrow, from.data + i * size, size);
        row->features[i] = size == sizeof wide ? (float)wide : narrow;
    }
    return true;
}

uint32_t pool_most(const struct core *core, uint32_t pool)
{
    return core->models[core->pools[pool].model].max_tokens;
}

float row_lp_mean(const struct row *row)
{
    double value = 0;
    item_feature(&(struct item){.have = row->have, .features = row->features}, FEATURE_LP_MEAN, &value);
    return (float)value;
}

/* What policies see of a rollout or node: score is that of the arm's verifier. */
struct item row_item(const struct row *row, const struct score *score, uint32_t position, uint32_t leg)
{
    bool failed = row->state == ROW_FAILED || row->finish == FINISH_KILLED;
    bool scored = !failed && score->state == SCORE_DONE && outcome_known(score->outcome);
    return (struct item){
        .ordinal = position,
        .leg = (uint8_t)leg,
        .class = row->class,
        .failed = failed,
        .scored = scored,
        .passed = scored && score->outcome == OUTCOME_PASS,
        .score = scored ? score->score : 0,
        .truncated = row->finish == FINISH_LENGTH || row->finish == FINISH_TIMEOUT,
        .tokens = row->tokens_out,
        .have = row->have,
        .features = row->features,
    };
}

bool row_judged(const struct core *core, const struct arm *arm, const struct row *row)
{
    if (arm->verifier == NO_ID || row->state != ROW_DONE || row->finish == FINISH_EXHAUSTED)
        return false;
    return row->finish != FINISH_KILLED || core->sweeps[arm->sweep].truth == arm->verifier;
}

double stock_kill(const struct pool *pool, uint32_t prompt, uint32_t ordinal)
{
    const struct stock *stock = &pool->stocks[prompt];
    struct warmup warmup = {.len = 0};
    for (uint32_t k = 0; pool->kill.window > 0 && k < ordinal; k++) {
        const struct item item = row_item(&stock->rows[k], &(struct score){0}, k, 0);
        if (stock->rows[k].state != ROW_DONE && stock->rows[k].state != ROW_FAILED)
            return 0; /* the warm-up itself */
        if (warmup_add(&warmup, &pool->kill, &item))
            return warmup_threshold(&warmup, &pool->kill);
    }
    return 0;
}

/* Ordinals of one prompt that its arms asked for (want), and that they may still use (keep). */
static void stock_holds(const struct core *core, uint32_t pool_id, uint32_t prompt, uint32_t *want, uint32_t *keep)
{
    const struct pool *pool = &core->pools[pool_id];
    *want = *keep = 0;
    for (uint32_t i = 0; i < pool->arms_len; i++) {
        const struct arm *arm = &core->arms[pool->arms[i]];
        if (arm->trees > 0 || core->sweeps[arm->sweep].state == SWEEP_REPLACED)
            continue;
        const struct cell *cell = &arm->cells[prompt];
        uint32_t wants = arm_reach(arm, pool_id, cell_wants(cell));
        uint32_t keeps = arm_reach(arm, pool_id, cell->decided != DECIDED_NOT ? cell->stop : arm->n);
        *want = wants > *want ? wants : *want;
        *keep = keeps > *keep ? keeps : *keep;
    }
}

static bool verdict_needed(const struct core *core, const struct pool *pool, const struct key *key)
{
    for (uint32_t i = 0; i < pool->arms_len; i++) {
        const struct arm *arm = &core->arms[pool->arms[i]];
        if (arm->trees > 0)
            continue;
        const struct cell *cell = &arm->cells[key->prompt];
        uint32_t position = arm_position(arm, key->owner, key->item);
        bool own = arm->verifier == key->verifier && cell->decided == DECIDED_NOT && cell->opened > position &&
                   row_judged(core, arm, key_row(core, key));
        bool truth = core->sweeps[arm->sweep].truth == key->verifier && cell->delivered > position;
        if (own || truth)
            return true;
    }
    return false;
}

/* A verdict that waits, that no verifier was ever asked for, and that nobody needs any more. */
static bool verdict_idle(const struct core *core, const struct pool *pool, const struct task *task)
{
    return task->state == TASK_WAITING && task->leases == NULL && task->attempts == 0 &&
           !verdict_needed(core, pool, &task->key);
}

/* An arm decided: verdicts that nobody asked a verifier for go if nobody needs them, and others pay for what stays. */
static void stock_relist(struct core *core, uint32_t pool_id, uint32_t prompt, uint32_t from)
{
    struct pool *pool = &core->pools[pool_id];
    struct stock *stock = &pool->stocks[prompt];
    for (uint32_t k = from; k < stock->issued; k++) {
        struct key rollout = {TASK_GENERATE, pool_id, prompt, NO_ID, k, NO_ID};
        struct task *open = stock->rows[k].state == ROW_LEASED ? task_find(core, &rollout) : NULL;
        if (open != NULL)
            task_relist(core, open);
        for (uint32_t i = 0; i < pool->planes_len; i++) {
            struct key key = {TASK_VERIFY, pool_id, prompt, NO_ID, k, pool->planes[i]};
            struct score *score = &stock->scores[k * pool->planes_len + i];
            struct task *task = score->state == SCORE_WANTED ? task_find(core, &key) : NULL;
            if (task == NULL)
                continue;
            if (verdict_idle(core, pool, task)) {
                score->state = SCORE_NONE;
                task_close(core, task, 0);
            } else {
                task_relist(core, task);
            }
        }
    }
}

void stock_bound(struct core *core, uint32_t pool_id, uint32_t prompt, uint32_t from)
{
    struct pool *pool = &core->pools[pool_id];
    struct stock *stock = &pool->stocks[prompt];
    uint32_t want, keep;
    stock_holds(core, pool_id, prompt, &want, &keep);
    stock->want = want;
    if (stock->issued > keep)
        emit(core, &(struct fact){.type = FACT_voided, .voided = {.pool = pool_id, .prompt = prompt, .from = keep}});
    stock_relist(core, pool_id, prompt, from);
}

static void close_key(struct core *core, const struct key *key)
{
    struct task *task = task_find(core, key);
    if (task != NULL)
        task_close(core, task, 0);
}

/* Ordinals of one prompt that arms have read: they are there for ever. */
static uint32_t stock_read(const struct core *core, uint32_t pool_id, uint32_t prompt)
{
    const struct pool *pool = &core->pools[pool_id];
    uint32_t most = 0;
    for (uint32_t i = 0; i < pool->arms_len; i++) {
        const struct arm *arm = &core->arms[pool->arms[i]];
        if (arm->trees > 0 || core->sweeps[arm->sweep].state == SWEEP_REPLACED)
            continue;
        uint32_t reach = arm_reach(arm, pool_id, arm->cells[prompt].delivered);
        most = reach > most ? reach : most;
    }
    return most;
}

int voided_apply(struct core *core, const struct fact_voided *f)
{
    if (f->pool >= core->pools_len || f->prompt >= core->sets[core->pools[f->pool].set].len)
        return ERR_CORRUPT;
    struct pool *pool = &core->pools[f->pool];
    struct stock *stock = &pool->stocks[f->prompt];
    if (f->from >= stock->issued || f->from < stock_read(core, f->pool, f->prompt))
        return ERR_CORRUPT;
    for (uint32_t k = f->from; k < stock->issued; k++) {
        struct row *row = &stock->rows[k];
        close_key(core, &(struct key){TASK_GENERATE, f->pool, f->prompt, NO_ID, k, NO_ID});
        for (uint32_t i = 0; i < pool->planes_len; i++)
            close_key(core, &(struct key){TASK_VERIFY, f->pool, f->prompt, NO_ID, k, pool->planes[i]});
        if (row->state == ROW_DONE) {
            struct sweep *sweep = &core->sweeps[core->arms[row->payer].sweep];
            struct amounts spent = cost_row(core, pool->model, CHARGE_PROMPT, row);
            amounts_sub(core, &sweep->accepted, &spent);
            amounts_add(&sweep->waste[WASTE_VOIDED], &spent);
            sweep->broke = false;
        }
        promise_release(core, row);
        row_clear(row);
        if (pool->planes_len > 0)
            memset(stock->scores + (size_t)k * pool->planes_len, 0, pool->planes_len * sizeof *stock->scores);
    }
    stock->issued = f->from;
    return 0;
}

/* Positions that this arm newly asks for: issue what nobody has. */
void arm_want(struct core *core, struct arm *arm, uint32_t prompt, uint32_t want)
{
    struct cell *cell = &arm->cells[prompt];
    for (uint32_t i = 0; i < arm->schedule.legs; i++) {
        struct leg *leg = &arm->legs[i];
        struct stock *stock = &core->pools[arm->pools[i]].stocks[prompt];
        uint32_t reach = schedule_reach(&arm->schedule, i, want);
        if (reach > stock->want)
            stock->want = reach;
        if (schedule_reach(&arm->schedule, i, cell_wants(cell)) <= stock->issued || (cell->queued >> i & 1) != 0)
            continue;
        cell->queued |= (uint16_t)(1u << i);
        ring_push(&leg->ready, prompt);
    }
}
