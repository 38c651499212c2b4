/* core.c - the state machine's frame: events in, facts applied and followed by what they cause. */
#include "broker/core/core_int.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *grow_array(void *array, uint32_t len, size_t size)
{
    bool full = (len & (len - 1)) == 0; /* capacity: the next power of two */
    if (full)
        array = xrealloc(array, (len == 0 ? 1 : 2 * (size_t)len) * size);
    memset((char *)array + len * size, 0, size);
    return array;
}

void update_reset(struct update *update)
{
    buf_reset(&update->facts);
    update->sends_len = update->refs_len = 0;
    update->wake_ms = INT64_MAX;
    update->code = 0;
    update->error.text[0] = '\0';
    update->used = update->lost = false;
}

void update_clear(struct update *update)
{
    buf_clear(&update->facts);
    free(update->sends);
    free(update->refs);
    *update = (struct update){0};
}

struct send *send_add(struct core *core, enum send_type type, uint64_t agent, uint64_t lease)
{
    struct update *update = core->update;
    if (update->sends_len == update->sends_cap) {
        update->sends_cap = update->sends_cap < 64 ? 64 : 2 * update->sends_cap;
        update->sends = xrealloc(update->sends, update->sends_cap * sizeof *update->sends);
    }
    struct send *send = &update->sends[update->sends_len++];
    *send = (struct send){.type = type, .agent = agent, .lease = lease};
    return send;
}

struct core *core_new(const struct core_options *options)
{
    struct core *core = xalloc(sizeof *core);
    core->options = *options;
    core->next_lease = 1;
    return core;
}

static void set_free(struct set *set)
{
    struct group *group, *next;
    HASH_ITER (hh, set->by_name, group, next) {
        HASH_DEL(set->by_name, group);
        free(group);
    }
    for (uint32_t i = 0; i < set->groups_len; i++)
        free(set->groups[i]);
    free(set->groups);
    free(set->group_by);
    free(set->prompts);
}

static void pool_free(const struct core *core, struct pool *pool)
{
    for (uint32_t p = 0; p < core->sets[pool->set].len; p++) {
        for (uint32_t k = 0; k < pool->stocks[p].issued; k++)
            row_clear(&pool->stocks[p].rows[k]);
        free(pool->stocks[p].rows);
        free(pool->stocks[p].scores);
    }
    free(pool->stocks);
    free(pool->homes);
    free(pool->arms);
    free(pool->planes);
}

static void attachments_free(struct core *core)
{
    struct attachment_row *row, *next;
    HASH_ITER (hh, core->attachments, row, next) {
        HASH_DEL(core->attachments, row);
        free(row);
    }
}

static void tasks_free(struct core *core)
{
    struct lease *lease, *next_lease;
    HASH_ITER (hh, core->leases, lease, next_lease) {
        HASH_DEL(core->leases, lease);
        free(lease);
    }
    struct task *task, *next_task;
    HASH_ITER (hh, core->tasks, task, next_task) {
        HASH_DEL(core->tasks, task);
        free(task);
    }
}

static void sweep_free(struct sweep *sweep)
{
    free(sweep->name);
    free(sweep->reason);
    free(sweep->refusal);
    free((char *)sweep->source.data);
    free(sweep->arms);
}

void core_free(struct core **core_ptr)
{
    struct core *core = *core_ptr;
    if (core == NULL)
        return;
    agents_free(core);
    tasks_free(core);
    attachments_free(core);
    for (uint32_t i = 0; i < core->arms_len; i++)
        arm_free(&core->arms[i]);
    for (uint32_t i = 0; i < core->pools_len; i++)
        pool_free(core, &core->pools[i]);
    for (uint32_t i = 0; i < core->sets_len; i++)
        set_free(&core->sets[i]);
    for (uint32_t i = 0; i < core->models_len; i++) {
        free(core->models[i].name);
        free(core->models[i].backend);
        free(core->models[i].offer);
        free((char *)core->models[i].spec.data);
    }
    for (uint32_t i = 0; i < core->verifiers_len; i++) {
        free(core->verifiers[i].name);
        free(core->verifiers[i].check);
        free((char *)core->verifiers[i].spec.data);
    }
    for (uint32_t i = 0; i < core->sweeps_len; i++)
        sweep_free(&core->sweeps[i]);
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < core->kinds_len[r]; i++)
            free(core->kinds[r][i]);
    free(core->arms);
    free(core->pools);
    free(core->sets);
    free(core->models);
    free(core->verifiers);
    free(core->sweeps);
    buf_clear(&core->expected);
    free(core);
    *core_ptr = NULL;
}

int core_kind(struct core *core, bool verifier, struct slice name)
{
    char **kinds = core->kinds[verifier];
    for (int i = 0; i < core->kinds_len[verifier]; i++)
        if (strlen(kinds[i]) == name.len && (name.len == 0 || memcmp(kinds[i], name.data, name.len) == 0))
            return i;
    if (core->kinds_len[verifier] == 64)
        return -1;
    char *own = xalloc(name.len + 1);
    if (name.len > 0)
        memcpy(own, name.data, name.len);
    kinds[core->kinds_len[verifier]] = own;
    return core->kinds_len[verifier]++;
}

/* -- facts -------------------------------------------------------------------------------------------------------- */

static int apply(struct core *core, const struct fact *fact)
{
    switch (fact->type) {
    case FACT_epoch:
        return epoch_apply(core, &fact->epoch);
    case FACT_set:
    case FACT_prompt:
    case FACT_attachment:
    case FACT_model:
    case FACT_verifier:
    case FACT_pool:
    case FACT_sweep:
    case FACT_arm:
    case FACT_prior:
    case FACT_state:
        return define_apply(core, fact);
    case FACT_open:
        return open_apply(core, &fact->open);
    case FACT_fold:
        return fold_apply(core, &fact->fold);
    case FACT_decide:
        return decide_apply(core, &fact->decide);
    case FACT_price:
        return price_apply(core, &fact->price);
    case FACT_spawn:
        return spawn_apply(core, &fact->spawn);
    case FACT_note:
        return note_apply(core, &fact->note);
    case FACT_finish:
        return finish_apply(core, &fact->finish);
    case FACT_voided:
        return voided_apply(core, &fact->voided);
    case FACT_lease:
        return lease_apply(core, &fact->lease);
    case FACT_result:
        return result_apply(core, &fact->result);
    case FACT_verdict:
        return verdict_apply(core, &fact->verdict);
    case FACT_fail:
        return fail_apply(core, &fact->fail);
    case FACT_lost:
        return lost_apply(core, &fact->lost);
    case FACT_give_up:
        return give_up_apply(core, &fact->give_up);
    case FACT_correct:
        return correct_apply(core, &fact->correct);
    case FACT_forget:
        return forget_apply(core, &fact->forget);
    case FACT_row:
    case FACT_score:
    case FACT_ledger:
    case FACT_node:
    case FACT_opened:
    case FACT_fifo:
    case FACT_task:
    case FACT_leased:
    case FACT_counters:
        return snapshot_apply(core, fact);
    }
    return ERR_CORRUPT;
}

int core_apply(struct core *core, const struct fact *fact)
{
    int rc = apply(core, fact);
    return rc == 0 && core->damaged ? ERR_CORRUPT : rc;
}

static bool lease_key(const struct core *core, uint64_t id, struct key *key)
{
    struct lease *lease;
    HASH_FIND(hh, core->leases, &id, sizeof id, lease);
    if (lease == NULL || lease->task == NULL)
        return false;
    *key = lease->task->key;
    return true;
}

/* The key that a fact about a lease or task speaks of; the lease is gone once the fact is applied. */
static bool fact_key(const struct core *core, const struct fact *fact, struct key *key)
{
    switch ((int)fact->type) {
    case FACT_result:
        return lease_key(core, fact->result.lease, key);
    case FACT_verdict:
        return lease_key(core, fact->verdict.lease, key);
    case FACT_fail:
        return lease_key(core, fact->fail.lease, key);
    case FACT_lost:
        return lease_key(core, fact->lost.lease, key);
    case FACT_give_up:
        *key = (struct key){fact->give_up.kind, fact->give_up.owner, fact->give_up.prompt,
                            fact->give_up.tree, fact->give_up.item,  fact->give_up.verifier};
        return true;
    }
    return false;
}

static void react_open(struct core *core, const struct fact_open *f)
{
    struct arm *arm = &core->arms[f->arm];
    cell_touch(core, arm, f->prompt);
    if (arm->trees > 0) {
        tree_open(core, arm, f->prompt);
        return;
    }
    uint32_t opened = arm->cells[f->prompt].opened;
    arm_want(core, arm, f->prompt, opened);
    arm_relist(core, arm, f->prompt, opened - f->count, opened);
    arm_verify(core, arm, f->prompt, opened - f->count, opened);
    cell_advance(core, arm, f->prompt);
    if (!arm->strict) /* the strict window is the one that is opening */
        arm_advance(core, arm);
}

static void react_trouble_key(struct core *core, const struct key *key)
{
    const struct task *task = task_find(core, key);
    if (task != NULL)
        react_trouble(core, task);
}

/* Windows stand still while a sweep is paused. What it would have paid for goes to other sweeps of its pools. */
static void react_state(struct core *core, const struct sweep *sweep)
{
    struct task *task, *next;
    HASH_ITER (hh, core->tasks, task, next)
        task_relist(core, task);
    for (uint32_t i = 0; i < sweep->arms_len; i++)
        arm_advance(core, &core->arms[sweep->arms[i]]);
}

/* Its order of prompts follows from all beliefs, so an arm begins when they are all there. */
static void react_arm(struct core *core, struct arm *arm)
{
    if (arm->beliefs != NULL && arm->beliefs_len < arm->prompts)
        return;
    price_again(core, arm);
    heap_build(core, arm);
    bin_place(core, arm);
    arm_advance(core, arm);
}

static void react(struct core *core, const struct fact *fact, const struct key *key)
{
    switch ((int)fact->type) {
    case FACT_arm:
        react_arm(core, &core->arms[fact->arm.id]);
        return;
    case FACT_prior:
        react_arm(core, &core->arms[fact->prior.arm]);
        return;
    case FACT_open:
        react_open(core, &fact->open);
        return;
    case FACT_price:
        react_price(core, &core->arms[fact->price.arm]);
        return;
    case FACT_result:
        react_generated(core, key);
        return;
    case FACT_verdict:
        react_verified(core, key);
        return;
    case FACT_give_up:
        if (key->kind == TASK_GENERATE)
            react_generated(core, key);
        else
            react_verified(core, key);
        return;
    case FACT_fail:
    case FACT_lost:
        react_trouble_key(core, key);
        return;
    case FACT_state:
        react_state(core, &core->sweeps[fact->state.sweep]);
        return;
    }
}

static int apply_and_react(struct core *core, const struct fact *fact)
{
    struct key key = {0};
    fact_key(core, fact, &key);
    int rc = core_apply(core, fact);
    if (rc == 0 && core->live)
        react(core, fact, &key);
    return rc;
}

void emit(struct core *core, const struct fact *fact)
{
    fact_put(core->audit ? &core->expected : &core->update->facts, fact);
    int rc = apply_and_react(core, fact);
    if (rc != 0) {
        struct buf text = {0};
        fact_print(&text, fact);
        fprintf(stderr, "drover: the core refused its own fact: %s\n", text.data);
        abort();
    }
}

/* -- start and step ----------------------------------------------------------------------------------------------- */

/* What of a sampling cell is derived: wishes, verdicts that are missing, deliveries that no fact spoke of. */
static void cell_resume(struct core *core, struct arm *arm, uint32_t prompt)
{
    struct cell *cell = &arm->cells[prompt];
    arm_want(core, arm, prompt, cell->opened);
    cell_want_truth(core, arm, prompt, 0, cell->delivered);
    if (cell->decided == DECIDED_NOT) {
        arm_verify(core, arm, prompt, 0, cell->opened);
        cell_refold(core, arm, prompt);
        cell_advance(core, arm, prompt);
    }
    cell_settle(core, arm, prompt);
}

static void arm_resume(struct core *core, struct arm *arm)
{
    heap_build(core, arm);
    for (uint32_t p = 0; p < arm->prompts; p++) {
        if (arm->trees > 0)
            tree_resume(core, arm, p);
        else if (arm->cells[p].opened > 0)
            cell_resume(core, arm, p);
    }
    bin_place(core, arm);
    arm_advance(core, arm);
}

static void derive(struct core *core)
{
    struct task *task, *next;
    core->live = true;
    HASH_ITER (hh, core->tasks, task, next)
        if (task->state == TASK_WAITING)
            task_wait(core, task);
    for (uint32_t i = 0; i < core->arms_len; i++)
        arm_resume(core, &core->arms[i]);
}

void core_settle(struct core *core)
{
    struct update update = {0};
    core->update = &update;
    derive(core);
    core->update = NULL;
    update_clear(&update);
}

static void orphans_die(struct core *core)
{
    struct lease *lease, *next;
    HASH_ITER (hh, core->leases, lease, next)
        if (lease->state == LEASE_LIVE)
            lease_lose(core, lease, LOST_ORPHAN);
}

void core_start(struct core *core, int64_t now_ms, bool fleet_died, struct update *update)
{
    core->update = update;
    core->now_ms = core->started_ms = now_ms;
    derive(core);
    emit(core, &(struct fact){.type = FACT_epoch, .epoch = {.number = core->epoch + 1, .fleet_died = fleet_died}});
    if (fleet_died)
        orphans_die(core);
    core->orphans_done = fleet_died;
    core->update = NULL;
}

void core_step(struct core *core, const struct event *event, struct update *update)
{
    assert(core->live);
    core->update = update;
    core->now_ms = event->now_ms;
    core->unix_s = event->unix_s;
    switch (event->type) {
    case EVENT_TICK:
        break;
    case EVENT_DISPATCH:
        dispatch(core);
        break;
    case EVENT_SUBMIT:
        submit(core, event);
        break;
    case EVENT_CONTROL:
        event_control(core, event);
        break;
    case EVENT_HELLO:
        event_hello(core, event);
        break;
    case EVENT_HEARTBEAT:
        event_heartbeat(core, event);
        break;
    case EVENT_RESULT:
        event_result(core, event);
        break;
    case EVENT_VERDICT:
        event_verdict(core, event);
        break;
    case EVENT_FAIL:
        event_fail(core, event);
        break;
    case EVENT_RETURN:
        event_return(core, event);
        break;
    case EVENT_REFUSE:
        event_refuse(core, event);
        break;
    case EVENT_DRAIN:
        event_drain(core, event);
        break;
    case EVENT_GONE:
        event_gone(core, event);
        break;
    }
    if (event->type == EVENT_TICK || event->type == EVENT_DISPATCH)
        fleet_tick(core);
    core->update = NULL;
}

/* -- audit -------------------------------------------------------------------------------------------------------- */

int core_audit_begin(struct core *core)
{
    assert(core->arms_len == 0); /* from the first fact on */
    core->audit = true;
    core->live = true;
    return 0;
}

/* An opening under order: arrival is taken when there is a free agent, which no fact tells; what is opened is not free. */
static bool opens_top(const struct core *core, const struct fact *fact)
{
    if (fact->open.arm >= core->arms_len)
        return false;
    const struct arm *arm = &core->arms[fact->open.arm];
    return arm_may_open(core, arm) && arm->heap[0] == fact->open.prompt;
}

static bool decides(enum fact_type type)
{
    return type == FACT_fold || type == FACT_decide || type == FACT_price || type == FACT_spawn || type == FACT_note ||
           type == FACT_finish || type == FACT_voided || type == FACT_give_up;
}

static int audit_differs(const struct core *core, const struct fact *fact, struct error *error)
{
    struct buf found = {0}, wanted = {0};
    struct fact expected;
    size_t at = core->expected_at;
    fact_print(&found, fact);
    if (fact_get(buf_slice(&core->expected), &at, &expected) == 0)
        fact_print(&wanted, &expected);
    else
        buf_puts(&wanted, "nothing");
    error_set(error, ERR_CORRUPT, "the journal says '%s' where the policies decide '%s'", found.data, wanted.data);
    buf_clear(&found);
    buf_clear(&wanted);
    return ERR_CORRUPT;
}

int core_audit_fact(struct core *core, const struct fact *fact, struct error *error)
{
    struct buf *expected = &core->expected;
    if (core->expected_at < expected->len) { /* made and applied already, by re-running the policy */
        struct buf bytes = {0};
        fact_put(&bytes, fact);
        bool same = expected->len - core->expected_at >= bytes.len &&
                    memcmp(expected->data + core->expected_at, bytes.data, bytes.len) == 0;
        core->expected_at += bytes.len;
        buf_clear(&bytes);
        if (!same) {
            core->expected_at = 0;
            return audit_differs(core, fact, error);
        }
        if (core->expected_at == expected->len) {
            buf_reset(expected);
            core->expected_at = 0;
        }
        return 0;
    }
    if (decides(fact->type) || (fact->type == FACT_open && !opens_top(core, fact)))
        return audit_differs(core, fact, error);
    struct update update = {0};
    core->update = &update;
    int rc = apply_and_react(core, fact);
    core->update = NULL;
    update_clear(&update);
    if (rc != 0)
        error_set(error, rc, "a fact does not follow from the ones before it");
    return rc;
}

int core_audit_end(struct core *core, struct error *error)
{
    if (core->expected_at < core->expected.len)
        return error_set(error, ERR_CORRUPT, "the journal ends before a decision that was due");
    return 0;
}
