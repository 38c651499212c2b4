/* check.c - the invariants of the core, by brute force: used by audit, tests and the simulator. */
#include "broker/core/core_int.h"

#include <stdlib.h>
#include <string.h>

#define BROKEN(...) return error_set(error, ERR_CORRUPT, __VA_ARGS__)

static bool equal(const struct amounts *a, const struct amounts *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* I3: nothing is reserved that no lease or promise accounts for, and caps hold. */
static int check_ledgers(const struct core *core, struct error *error)
{
    struct amounts *reserved = xalloc((core->sweeps_len + 1) * sizeof *reserved);
    uint32_t *leased = xalloc((core->sweeps_len + 1) * sizeof *leased);
    struct lease *lease, *next;
    HASH_ITER (hh, core->leases, lease, next) {
        uint32_t sweep = core->arms[lease->payer].sweep;
        if (lease->state != LEASE_LIVE)
            continue;
        amounts_add(&reserved[sweep], &lease->reserved);
        leased[sweep]++;
    }
    for (uint32_t i = 0; i < core->arms_len; i++) {
        const struct arm *arm = &core->arms[i];
        for (uint32_t p = 0; arm->verifier != NO_ID && p < arm->prompts; p++) {
            struct amounts verdict = reserve_verify(core, arm->verifier);
            for (uint32_t leg = 0; leg < arm->schedule.legs; leg++) {
                const struct stock *stock = &core->pools[arm->pools[leg]].stocks[p];
                for (uint32_t k = 0; k < stock->issued; k++)
                    if (stock->rows[k].payer == i && stock->rows[k].flags & ROW_PROMISED)
                        amounts_add(&reserved[arm->sweep], &verdict);
            }
            for (uint32_t t = 0; arm->cells[p].trees != NULL && t < arm->trees; t++)
                for (uint32_t n = 0; n < arm->cells[p].trees[t].nodes_len; n++)
                    if (arm->cells[p].trees[t].nodes[n].flags & ROW_PROMISED)
                        amounts_add(&reserved[arm->sweep], &verdict);
        }
    }
    int rc = 0;
    for (uint32_t i = 0; i < core->sweeps_len && rc == 0; i++) {
        const struct sweep *s = &core->sweeps[i];
        if (!equal(&s->reserved, &reserved[i]) || s->leased != leased[i])
            rc = error_set(error, ERR_CORRUPT,
                           "sweep '%s' reserves %llu tokens in %u leases, but its leases say %llu in %u", s->name,
                           (unsigned long long)s->reserved.tokens, s->leased, (unsigned long long)reserved[i].tokens,
                           leased[i]);
        const struct amounts nothing = {0};
        if (rc == 0 && s->state == SWEEP_DONE && s->leased == 0 && !equal(&s->reserved, &nothing))
            rc = error_set(error, ERR_CORRUPT, "sweep '%s' is done, but reserves %llu ms", s->name,
                           (unsigned long long)s->reserved.slot_ms);
    }
    free(reserved);
    free(leased);
    if (rc == 0 && !core_budget_ok(core))
        rc = error_set(error, ERR_CORRUPT, "a sweep has spent and reserved more than its budget");
    return rc;
}

static int check_arm(const struct core *core, const struct arm *arm, struct error *error)
{
    uint32_t decided = 0;
    uint64_t unfolded = 0;
    if (arm->beliefs_len != (arm->beliefs != NULL ? arm->prompts : 0))
        BROKEN("arm '%s' has beliefs about %u of %u prompts", arm->name, arm->beliefs_len, arm->prompts);
    for (uint32_t p = 0; p < arm->prompts; p++) {
        const struct cell *cell = &arm->cells[p];
        decided += cell->decided != DECIDED_NOT;
        if (cell->decided == DECIDED_NOT && cell->opened > arm->n)
            BROKEN("arm '%s' opened %u rollouts of prompt %u, but its n is %u", arm->name, cell->opened, p, arm->n);
        if (cell->delivered > cell->opened)
            BROKEN("arm '%s' folded more of prompt %u than it opened", arm->name, p);
        unfolded += cell->opened - cell->delivered;
        if (bin_waits(core, arm, p) && (cell->opened > 0 || cell->decided != DECIDED_NOT))
            BROKEN("arm '%s' did not wait for its pilot of prompt %u", arm->name, p);
        if (cell->decided == DECIDED_ELSEWHERE && (cell->stop > 0 || cell->winner != NO_ORDINAL))
            BROKEN("arm '%s' used prompt %u, which is of another bin", arm->name, p);
        for (uint32_t k = 0; arm->trees == 0 && k < cell->delivered; k++) {
            const struct row *row = arm_row(core, arm, p, k);
            if (row == NULL || row->state < ROW_DONE)
                BROKEN("arm '%s' counts rollout %u of prompt %u, which is not there", arm->name, k, p);
        }
    }
    if (decided != arm->decided)
        BROKEN("arm '%s' counts %u decided prompts, but %u are", arm->name, arm->decided, decided);
    if (core->live && unfolded != arm->unfolded)
        BROKEN("arm '%s' counts %llu rollouts in flight, but %llu are", arm->name, (unsigned long long)arm->unfolded,
               (unsigned long long)unfolded);
    struct amounts used = arm->charged;
    amounts_add(&used, &arm->reserved);
    if ((arm->caps.rollouts > 0 && used.rollouts > arm->caps.rollouts) ||
        (arm->caps.tokens > 0 && used.tokens > arm->caps.tokens &&
         (arm->trees == 0 || arm->strategy->extremes != NULL)))
        BROKEN("arm '%s' was charged and has reserved more than its budget", arm->name);
    return 0;
}

/* I2 and I4: a key is open or closed, never both; whatever is open is waiting, leased, or a counter. */
static int check_rows(const struct core *core, uint32_t id, struct error *error)
{
    const struct pool *pool = &core->pools[id];
    for (uint32_t p = 0; p < core->sets[pool->set].len; p++)
        for (uint32_t k = 0; k < pool->stocks[p].issued; k++)
            if (pool->stocks[p].rows[k].state == ROW_LEASED &&
                task_find(core, &(struct key){TASK_GENERATE, id, p, NO_ID, k, NO_ID}) == NULL)
                BROKEN("rollout %u of prompt %u in pool %u is open, but no task", k, p, id);
    return 0;
}

/* The other half of it, from the side of the tasks: there are far fewer of them than of rows. */
static int check_open(const struct core *core, const struct key *key, struct error *error)
{
    const struct row *row = key->kind == TASK_GENERATE && key->tree == NO_ID ? key_row(core, key) : NULL;
    if (row != NULL && row->state != ROW_LEASED)
        BROKEN("rollout %u of prompt %u in pool %u is closed, but still a task", key->item, key->prompt, key->owner);
    return 0;
}

static int check_tasks(const struct core *core, struct error *error)
{
    struct task *task, *next;
    HASH_ITER (hh, core->tasks, task, next) {
        uint32_t live = 0;
        for (const struct lease *lease = task->leases; lease != NULL; lease = lease->task_next)
            live += lease->state == LEASE_LIVE;
        if ((task->state == TASK_LEASED) != (live > 0))
            BROKEN("task on prompt %u item %u has %u live leases in state %u", task->key.prompt, task->key.item, live,
                   task->state);
        int rc = check_open(core, &task->key, error);
        if (rc != 0)
            return rc;
    }
    for (uint32_t i = 0; i < core->sweeps_len; i++) {
        const struct sweep *sweep = &core->sweeps[i];
        uint32_t undecided = 0;
        for (uint32_t a = 0; a < sweep->arms_len; a++)
            undecided += core->arms[sweep->arms[a]].prompts - core->arms[sweep->arms[a]].decided;
        if (undecided != sweep->undecided)
            BROKEN("sweep '%s' counts %u undecided prompts, but %u are", sweep->name, sweep->undecided, undecided);
    }
    return 0;
}

int core_check(const struct core *core, struct error *error)
{
    int rc = check_ledgers(core, error);
    for (uint32_t i = 0; rc == 0 && i < core->arms_len; i++)
        rc = check_arm(core, &core->arms[i], error);
    for (uint32_t i = 0; rc == 0 && i < core->pools_len; i++)
        rc = check_rows(core, i, error);
    return rc != 0 ? rc : check_tasks(core, error);
}
