/* dispatch.c - which waiting work goes to which free agent.
 *
 * Generation: what was given back and continuations of trees first (they are closest to a decision), then ordinals that an
 * arm opened, then a new opening by the arm with the smallest decided share, so that arms advance in step and stay
 * paired when a budget ends. Verification: what an arm waits for, then the truth. Sweeps take turns. */
#include "broker/core/core_int.h"
#include "common/limits.h"
#include "common/rng.h"

#include <assert.h>

enum { LOOK = 16, VERIFY_BACKLOG = 4096, PASS_MAX = 64, AHEAD = 64 };

/* Did the sweep that would pay this verdict reserve it with the generation? */
static bool row_promised(const struct core *core, const struct key *key, uint32_t payer)
{
    const struct row *row = key_row(core, key);
    return (row->flags & ROW_PROMISED) != 0 && core->arms[row->payer].verifier == key->verifier &&
           core->arms[row->payer].sweep == core->arms[payer].sweep;
}

static bool affordable(const struct core *core, struct sweep *sweep, const struct key *key, uint32_t payer)
{
    if (key->kind == TASK_VERIFY && row_promised(core, key, payer))
        return true;
    struct amounts needs = lease_needs(core, key, payer);
    bool affords = sweep_affords(sweep, &needs);
    if (!affords)
        sweep->broke = true;
    return affords;
}

static void ref_add(struct update *update, struct ref ref)
{
    if (update->refs_len == update->refs_cap) {
        update->refs_cap = update->refs_cap < 64 ? 64 : 2 * update->refs_cap;
        update->refs = xrealloc(update->refs, update->refs_cap * sizeof *update->refs);
    }
    update->refs[update->refs_len++] = ref;
}

/* The node and those above it, `most` of them at most: from the one above all to the node. */
static void path_add(struct update *update, const struct tree *tree, uint32_t node, uint32_t most)
{
    size_t first = update->refs_len;
    for (; node != NO_ORDINAL && most > 0; node = tree->views[node].parent, most--)
        ref_add(update, tree->nodes[node].ref);
    for (size_t i = first, k = update->refs_len; i + 1 < k; i++) {
        struct ref above = update->refs[--k];
        update->refs[k] = update->refs[i];
        update->refs[i] = above;
    }
}

/* Identity of what is generated or judged, the same in every run of the sweep. */
uint64_t key_seed(const struct core *core, const struct key *key)
{
    uint64_t seed = key->tree == NO_ID ? rng_u64(core->pools[key->owner].seed, RNG_ROLLOUT, key->prompt, key->item)
                                       : rng_u64(core->arms[key->owner].seed, RNG_NODE, key->prompt,
                                                 (uint64_t)key->tree << 32 | key->item);
    return key->kind == TASK_GENERATE ? seed
                                      : rng_u64(core->verifiers[key->verifier].fingerprint, RNG_VERIFIER, seed, 0);
}

/* Texts of all rollouts that are compared. */
static void group_add(struct core *core, const struct key *key, uint32_t payer)
{
    const struct stock *stock = &core->pools[key->owner].stocks[key->prompt];
    uint32_t len = group_len(core, &core->arms[payer], key->prompt);
    for (uint32_t k = 0; k < len; k++)
        ref_add(core->update, stock->rows[k].ref);
}

/* A path, or of attempts as many as a revision is shown; an attempt is judged by itself. */
static void send_node(struct core *core, const struct key *key, struct send *send)
{
    const struct arm *arm = &core->arms[key->owner];
    const struct tree *tree = &arm->cells[key->prompt].trees[key->tree];
    const struct node_view *view = &tree->views[key->item];
    bool turns = arm->strategy->memory != NULL;
    send->refs = core->update->refs_len;
    if (key->kind == TASK_VERIFY) {
        path_add(core->update, tree, key->item, turns ? 1 : UINT32_MAX);
        send->finished = tree->nodes[key->item].finish != FINISH_STEP;
    } else {
        path_add(core->update, tree, view->parent, turns ? arm->strategy->memory(arm->options[0]) : UINT32_MAX);
        send->tokens_max = view->cap;
        send->cue = (uint8_t)view->cue;
        send->step = (uint8_t)view->extent;
    }
    send->refs_len = core->update->refs_len - send->refs;
}

static void send_task(struct core *core, const struct agent *agent, const struct key *key, uint32_t payer,
                      uint64_t lease)
{
    struct update *update = core->update;
    const struct pool *pool = &core->pools[key_pool(core, key)];
    bool verify = key->kind == TASK_VERIFY;
    size_t refs = update->refs_len;
    if (verify && key->tree == NO_ID && core->verifiers[key->verifier].group) {
        group_add(core, key, payer);
    } else if (verify && key->tree == NO_ID) {
        ref_add(update, key_row(core, key)->ref);
    }
    struct send *send = send_add(core, SEND_TASK, agent->id, lease);
    send->key = *key;
    send->spec = verify ? key->verifier : pool->model;
    send->set = pool->set;
    send->prompt_ref = core->sets[pool->set].prompts[key->prompt].ref;
    send->refs = refs;
    send->refs_len = update->refs_len - refs;
    send->seed = key_seed(core, key);
    send->tokens_max = pool_most(core, key_pool(core, key));
    send->timeout_ms = verify ? core->verifiers[key->verifier].timeout_ms : core->models[pool->model].timeout_ms;
    if (!verify && key->tree == NO_ID) {
        send->kill_window = pool->kill.window;
        send->kill_below = stock_kill(pool, key->prompt, key->item);
    }
    send->finished = true;
    send->group = verify && core->verifiers[key->verifier].group;
    if (key->tree != NO_ID)
        send_node(core, key, send);
}

static void grant(struct core *core, struct agent *agent, const struct key *key, uint32_t payer, bool suspect)
{
    uint64_t id = core->next_lease;
    emit(core, &(struct fact){.type = FACT_lease,
                              .lease = {.lease = id,
                                        .kind = key->kind,
                                        .owner = key->owner,
                                        .prompt = key->prompt,
                                        .tree = key->tree,
                                        .item = key->item,
                                        .verifier = key->verifier,
                                        .payer = payer,
                                        .agent = agent->id}});
    struct lease *lease;
    HASH_FIND(hh, core->leases, &id, sizeof id, lease);
    lease->held = true;
    DL_APPEND2(agent->leases, lease, agent_prev, agent_next);
    agent->leased++;
    agent->alone = suspect;
    if (key->kind == TASK_GENERATE)
        warm_note(core, key_pool(core, key), key->prompt, agent);
    send_task(core, agent, key, payer, id);
}

/* Agents that may take a task now. The reserved one is left to run empty for a suspect task. */
static bool takes(const struct core *core, const struct agent *agent, const struct agent *reserved)
{
    return agent->leased < agent->credits && !agent->draining && !agent->alone &&
           agent->benched_until_ms <= core->now_ms && (agent != reserved || agent->leased == 0);
}

static bool serves(const struct core *core, const struct agent *agent, bool verify, uint32_t spec)
{
    int kind = verify ? core->verifiers[spec].kind : core->models[spec].kind;
    return kind >= 0 && (agent->kinds >> kind & 1) != 0 && !agent_refuses(agent, verify, spec);
}

/* Generates for this pool: has the model, and servers that offer what the pool's work needs. */
static bool generates(const struct core *core, const struct agent *agent, uint32_t pool)
{
    return serves(core, agent, false, core->pools[pool].model) && agent_offers(core, agent, pool);
}

/* Can it take work of this pool now? */
static bool could_take(const struct core *core, const struct agent *agent, uint32_t pool)
{
    return takes(core, agent, core->reserved) && generates(core, agent, pool);
}

/* The agent that holds the task's prefix: its parent's, or the prompt's; never one on which it failed. */
static uint64_t task_home(const struct core *core, const struct task *task)
{
    if (task->home != 0 || task->key.kind != TASK_GENERATE)
        return task->home;
    const struct agent *home = warm_home(core, key_pool(core, &task->key), task->key.prompt);
    return home == NULL || home->id == task->failed_by ? 0 : home->id;
}

/* The agent that holds the task's prefix and could take it now: better waited for. */
static bool better_off(const struct core *core, const struct task *task, uint64_t home_id)
{
    const struct agent *home = home_id == 0 ? NULL : agent_find(core, home_id);
    return home != NULL && could_take(core, home, key_pool(core, &task->key));
}

/* A task that failed on this agent goes to another of its like, if there is one: a sick machine shall not give it up. */
static bool failed_here(const struct core *core, const struct task *task, const struct agent *agent)
{
    if (task->failed_by != agent->id)
        return false;
    for (const struct agent *other = core->fleet; other != NULL; other = other->next)
        if (other != agent && other->verifier == agent->verifier && other->alike == agent->alike && !other->draining &&
            other->benched_until_ms <= core->now_ms && other->refusals_len == 0)
            return true;
    return false;
}

/* A waiting task that suits this agent: one whose prefix it holds, else the first that is not better off elsewhere. */
static struct task *suited(struct core *core, struct sweep *sweep, struct task *list, const struct agent *agent)
{
    struct task *first = NULL;
    int looked = 0;
    for (struct task *task = list, *next; task != NULL && looked < LOOK; task = next) {
        next = task->next;
        bool suspect = task->deaths > 1;
        if (suspect ? agent->leased > 0 : agent->runner)
            continue;
        if (failed_here(core, task, agent)) {
            core->spared = true;
            continue;
        }
        if (!affordable(core, sweep, &task->key, task->lister)) {
            task_pass(core, task);
            continue; /* one behind it may be paid for already */
        }
        looked++;
        uint64_t home = task_home(core, task);
        if (home == agent->id || suspect)
            return task;
        bool waits_well = better_off(core, task, home);
        if (first == NULL && !waits_well)
            first = task;
        core->spared = core->spared || waits_well;
    }
    return first;
}

static bool grant_task(struct core *core, struct agent *agent, struct task *task)
{
    if (task == NULL)
        return false;
    struct key key = task->key;
    grant(core, agent, &key, task->lister, task->deaths > 1);
    return true;
}

/* Of this leg the arm has opened more than its pool has issued. */
static bool is_ready(const struct core *core, const struct arm *arm, uint32_t leg, uint32_t prompt)
{
    return core->pools[arm->pools[leg]].stocks[prompt].issued <
           schedule_reach(&arm->schedule, leg, cell_wants(&arm->cells[prompt]));
}

/* Prompts that are used up leave the front of the leg's ring; false: nothing is left. */
static bool ready_front(const struct core *core, struct arm *arm, uint32_t i)
{
    struct leg *leg = &arm->legs[i];
    while (leg->ready.len > 0) {
        uint32_t prompt = leg->ready.at[leg->ready.head];
        if (is_ready(core, arm, i, prompt))
            return true;
        arm->cells[prompt].queued &= (uint16_t) ~(1u << i);
        leg->passed = 0;
        ring_pop(&leg->ready);
    }
    return false;
}

/* Is the prompt at home with another agent that works? */
static bool at_home(const struct core *core, uint32_t pool, uint32_t prompt, const struct agent *asks)
{
    const struct agent *home = warm_home(core, pool, prompt);
    return home != NULL && home != asks && !home->draining && !home->alone && home->benched_until_ms <= core->now_ms &&
           generates(core, home, pool);
}

/* A ready prompt that is nobody's: of the oldest few, or the newest, which may have been opened just now. */
static bool cold_next(const struct core *core, const struct arm *arm, uint32_t leg, const struct agent *agent,
                      uint32_t *prompt)
{
    const struct ring *ring = &arm->legs[leg].ready;
    for (uint32_t i = 0; i < ring->len && i <= LOOK; i++) {
        uint32_t at = i < LOOK ? i : ring->len - 1;
        *prompt = ring->at[(ring->head + at) % ring->cap];
        if (is_ready(core, arm, leg, *prompt) && !at_home(core, arm->pools[leg], *prompt, agent))
            return true;
    }
    return false;
}

/* One of the leg's ready prompts, of which ready_front says that there are some: the agent's own, one that is nobody's, else
 * the oldest. choosy: the oldest is left to its home, false. It is not passed over for ever; and under order: strict, where
 * all waits for the oldest, never. */
static bool ready_next(struct core *core, struct arm *arm, uint32_t i, const struct agent *agent, bool choosy,
                       uint32_t *prompt)
{
    struct leg *leg = &arm->legs[i];
    uint32_t oldest = leg->ready.at[leg->ready.head];
    *prompt = oldest;
    if (arm->strict || core->pools[arm->pools[i]].homes == NULL || leg->passed >= PASS_MAX)
        return true;
    if (warm_next(core, arm, i, agent, prompt) || cold_next(core, arm, i, agent, prompt)) {
        leg->passed += *prompt != oldest;
        return true;
    }
    *prompt = oldest;
    leg->passed += choosy;
    core->left = core->left || choosy;
    return !choosy;
}

/* Next ordinal that an arm opened and nobody has. Each arm issues, and its sweep pays, what it opened itself. */
static bool next_issue(struct core *core, struct arm *arm, uint32_t i, const struct agent *agent, bool choosy,
                       struct key *key)
{
    struct leg *leg = &arm->legs[i];
    uint32_t pool = arm->pools[i], prompt;
    if (!ready_front(core, arm, i) || !ready_next(core, arm, i, agent, choosy, &prompt))
        return false;
    if (prompt == leg->ready.at[leg->ready.head])
        leg->passed = 0;
    *key = (struct key){TASK_GENERATE, pool, prompt, NO_ID, core->pools[pool].stocks[prompt].issued, NO_ID};
    return true;
}

/* Who gets a rollout that this agent asked for: the prompt's home, if it can take it and is no busier. */
static struct agent *receiver(const struct core *core, uint32_t pool, uint32_t prompt, struct agent *asks)
{
    struct agent *home = warm_home(core, pool, prompt);
    bool better = home != NULL && home->leased <= asks->leased && could_take(core, home, pool);
    return better ? home : asks;
}

static bool leg_generate(struct core *core, struct sweep *sweep, struct arm *arm, uint32_t leg, struct agent *agent,
                         bool choosy)
{
    if (!generates(core, agent, arm->pools[leg]))
        return false;
    if (grant_task(core, agent, suited(core, sweep, arm->legs[leg].generate, agent)))
        return true;
    struct key key;
    if (agent->runner || sweep->broke || !next_issue(core, arm, leg, agent, choosy, &key) ||
        !affordable(core, sweep, &key, arm->id))
        return false;
    grant(core, receiver(core, key.owner, key.prompt, agent), &key, arm->id, false);
    return true;
}

/* Later legs first: where they have work in blocks, earlier ones have done theirs, and the prompt is nearer its end. */
static bool arm_generate(struct core *core, struct sweep *sweep, struct arm *arm, struct agent *agent, bool choosy)
{
    for (uint32_t leg = arm->schedule.legs; leg-- > 0;)
        if (leg_generate(core, sweep, arm, leg, agent, choosy))
            return true;
    return false;
}

/* Rollouts of this leg that are opened and that nobody has; AHEAD stands for any more. */
static uint32_t not_issued(const struct core *core, const struct arm *arm, uint32_t leg)
{
    const struct ring *ring = &arm->legs[leg].ready;
    uint32_t count = 0;
    for (uint32_t i = 0; i < ring->len && count < AHEAD; i++) {
        uint32_t prompt = ring->at[(ring->head + i) % ring->cap];
        if (is_ready(core, arm, leg, prompt))
            count += schedule_reach(&arm->schedule, leg, cell_wants(&arm->cells[prompt])) -
                     core->pools[arm->pools[leg]].stocks[prompt].issued;
    }
    return count < AHEAD ? count : AHEAD;
}

/* May this agent have the arm's next position opened? If that is of a model that it does not serve, only a few of them:
 * if the arm waited with opening, one model's agents would stand idle behind another's; if it did not, they would open
 * all that there is. In blocks never for a model behind it: that is asked when those before it have had their turn. */
static bool opens_for(const struct core *core, const struct agent *agent, const struct arm *arm)
{
    uint32_t next = schedule_draw(&arm->schedule, arm->cells[arm->heap[0]].opened).leg;
    if (generates(core, agent, arm->pools[next]))
        return true;
    uint32_t legs = arm->schedule.rounds ? arm->schedule.legs : next;
    for (uint32_t leg = 0; leg < legs; leg++)
        if (generates(core, agent, arm->pools[leg]))
            return not_issued(core, arm, next) < AHEAD;
    return false;
}

static bool more_behind(const struct arm *a, const struct arm *b)
{
    const uint64_t a_has = a->prompts - a->bin.elsewhere, b_has = b->prompts - b->bin.elsewhere;
    uint64_t left = (a->decided - a->bin.elsewhere) * b_has, right = (b->decided - b->bin.elsewhere) * a_has;
    return left != right ? left < right : a->unfolded < b->unfolded;
}

/* The arm that opened something, or NULL. */
static struct arm *open_something(struct core *core, struct sweep *sweep, const struct agent *agent)
{
    struct arm *behind = NULL;
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        struct arm *arm = &core->arms[sweep->arms[i]];
        if (!arm_may_open(core, arm) || arm->verify_len > VERIFY_BACKLOG || !opens_for(core, agent, arm))
            continue;
        if (behind == NULL || more_behind(arm, behind))
            behind = arm;
    }
    return behind != NULL && arm_open_next(core, behind) ? behind : NULL;
}

static bool arm_waits(const struct arm *arm)
{
    bool waits = false;
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++)
        waits = waits || arm->legs[leg].generate != NULL || arm->legs[leg].ready.len > 0;
    return waits;
}

/* The arm with the smallest decided share that has work which nobody runs. */
static struct arm *waiting_arm(const struct core *core, const struct sweep *sweep, const bool *tried)
{
    struct arm *behind = NULL;
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        struct arm *arm = &core->arms[sweep->arms[i]];
        if (!tried[i] && arm_waits(arm) && (behind == NULL || more_behind(arm, behind)))
            behind = arm;
    }
    return behind;
}

static bool waiting_generate(struct core *core, struct sweep *sweep, struct agent *agent, bool choosy)
{
    bool tried[LIMIT_ARMS] = {false};
    struct arm *arm;
    while ((arm = waiting_arm(core, sweep, tried)) != NULL) {
        if (arm_generate(core, sweep, arm, agent, choosy))
            return true;
        for (uint32_t i = 0; i < sweep->arms_len; i++) /* its work does not suit this agent */
            tried[i] = tried[i] || sweep->arms[i] == arm->id;
    }
    return false;
}

/* Work that is spared is taken by its agent in this very dispatch, and then this one is asked again: opening more instead
 * would end with every prompt open, since what is opened stands behind what is spared. */
static bool sweep_generate(struct core *core, struct sweep *sweep, struct agent *agent)
{
    struct arm *arm;
    core->left = false;
    if (waiting_generate(core, sweep, agent, true))
        return true;
    while (!agent->runner && !sweep->broke && !core->spared && (arm = open_something(core, sweep, agent)) != NULL)
        if (arm_generate(core, sweep, arm, agent, false))
            return true;
    return core->left && waiting_generate(core, sweep, agent, false);
}

static bool sweep_verify(struct core *core, struct sweep *sweep, struct agent *agent)
{
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        struct arm *arm = &core->arms[sweep->arms[i]];
        if (arm->verify != NULL && serves(core, agent, true, arm->verifier) &&
            grant_task(core, agent, suited(core, sweep, arm->verify, agent)))
            return true;
    }
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        struct arm *arm = &core->arms[sweep->arms[i]];
        if (arm->truth != NULL && serves(core, agent, true, sweep->truth) &&
            grant_task(core, agent, suited(core, sweep, arm->truth, agent)))
            return true;
    }
    return false;
}

static bool past_deadline(const struct core *core, const struct sweep *sweep)
{
    return sweep->deadline_s > 0 && (uint64_t)core->unix_s >= sweep->started_s + sweep->deadline_s;
}

static bool serve_sweep(struct core *core, struct sweep *sweep, struct agent *agent)
{
    if (sweep->state != SWEEP_RUNNING || (past_deadline(core, sweep) && !agent->verifier))
        return false;
    return agent->verifier ? sweep_verify(core, sweep, agent) : sweep_generate(core, sweep, agent);
}

/* One task for this agent. */
static bool serve(struct core *core, struct agent *agent)
{
    if (core->preferring && serve_sweep(core, &core->sweeps[core->preferred], agent))
        return true;
    for (uint32_t i = 0; i < core->sweeps_len; i++) {
        struct sweep *sweep = &core->sweeps[(core->turn + i) % core->sweeps_len];
        if (serve_sweep(core, sweep, agent)) {
            core->turn = (sweep->id + 1) % core->sweeps_len;
            return true;
        }
    }
    return false;
}

void core_prefer(struct core *core, uint32_t sweep)
{
    core->preferring = true;
    core->preferred = sweep;
}

/* What an arm wants and the pool has already needs no agent. */
static void open_existing(struct core *core, struct sweep *sweep)
{
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        struct arm *arm = &core->arms[sweep->arms[i]];
        while (arm->trees == 0 && arm->verify_len <= VERIFY_BACKLOG && arm_may_open(core, arm) &&
               arm_row(core, arm, arm->heap[0], arm->cells[arm->heap[0]].opened) != NULL)
            arm_open_next(core, arm);
    }
}

/* A verdict that waits for a verifier and can be paid. */
static bool verdict_due(const struct core *core, struct sweep *sweep)
{
    for (uint32_t i = 0; i < sweep->arms_len; i++)
        for (const struct task *task = core->arms[sweep->arms[i]].verify; task != NULL; task = task->next)
            if (affordable(core, sweep, &task->key, task->lister))
                return true;
    return false;
}

static void sweep_finish(struct core *core, struct sweep *sweep)
{
    const char *reason = NULL;
    if (sweep->truths > 0)
        return;
    if (sweep->undecided == 0)
        reason = "";
    else if (sweep->leased == 0 && past_deadline(core, sweep))
        reason = "deadline";
    else if (sweep->leased == 0 && sweep->broke && !verdict_due(core, sweep))
        reason = "budget";
    if (reason == NULL)
        return;
    emit(core, &(struct fact){.type = FACT_state,
                              .state = {.sweep = sweep->id, .state = SWEEP_DONE, .reason = slice_of(reason)}});
}

/* A suspect task needs an agent that runs nothing else: the first of the fleet that could run it. */
static struct agent *runner_of(const struct core *core, const struct task *list)
{
    if (list == NULL || list->deaths < 2)
        return NULL; /* suspects stand in front */
    bool verify = list->key.kind == TASK_VERIFY;
    for (struct agent *agent = core->fleet; agent != NULL; agent = agent->next)
        if (agent->verifier == verify && !agent->draining && agent->benched_until_ms <= core->now_ms &&
            (verify ? serves(core, agent, true, list->key.verifier)
                    : generates(core, agent, key_pool(core, &list->key))))
            return agent;
    return NULL;
}

static struct agent *suspect_runner(const struct core *core, bool verifier)
{
    for (uint32_t i = 0; core->suspects > 0 && i < core->arms_len; i++) {
        const struct arm *arm = &core->arms[i];
        if (core->sweeps[arm->sweep].state != SWEEP_RUNNING)
            continue;
        struct agent *agent = verifier ? runner_of(core, arm->verify) : NULL;
        if (agent == NULL && verifier)
            agent = runner_of(core, arm->truth);
        for (uint32_t leg = 0; agent == NULL && !verifier && leg < arm->schedule.legs; leg++)
            agent = runner_of(core, arm->legs[leg].generate);
        if (agent != NULL)
            return agent;
    }
    return NULL;
}

static void serve_role(struct core *core, bool verifier)
{
    struct agent *reserved = suspect_runner(core, verifier);
    core->reserved = reserved;
    bool any = true;
    while (any) {
        any = false;
        uint64_t idle_alike = 0; /* one like this, without refusals, found nothing */
        bool idle = false;
        for (struct agent *agent = core->fleet; agent != NULL; agent = agent->next) {
            if (agent->verifier != verifier || !takes(core, agent, reserved))
                continue;
            bool plain = agent->refusals_len == 0 && agent != reserved;
            if (plain && idle && agent->alike == idle_alike)
                continue;
            agent->runner = agent == reserved;
            core->spared = false;
            bool served = serve(core, agent);
            agent->runner = false;
            if (served || (agent == reserved && serve(core, agent))) {
                any = true;
            } else if (plain && !core->spared) {
                idle = true;
                idle_alike = agent->alike;
            }
        }
    }
}

void dispatch(struct core *core)
{
    for (uint32_t i = 0; i < core->sweeps_len; i++)
        if (core->sweeps[i].state == SWEEP_RUNNING)
            open_existing(core, &core->sweeps[i]);
    serve_role(core, false);
    serve_role(core, true);
    for (uint32_t i = 0; i < core->sweeps_len; i++)
        if (core->sweeps[i].state == SWEEP_RUNNING)
            sweep_finish(core, &core->sweeps[i]);
}

static void cancel_leases(struct core *core, uint32_t sweep)
{
    struct lease *lease, *next;
    HASH_ITER (hh, core->leases, lease, next)
        if (lease->held && lease->state == LEASE_LIVE && core->arms[lease->payer].sweep == sweep)
            send_add(core, SEND_CANCEL, lease->agent, lease->id);
}

void event_control(struct core *core, const struct event *event)
{
    static const char *const words[] = {"running", "paused", "cancelled", "done", "faulty"};
    struct update *update = core->update;
    enum sweep_state to = event->control.state;
    if (event->control.sweep >= core->sweeps_len || (unsigned)to > SWEEP_CANCELLED) {
        update->code = error_set(&update->error, ERR_NOT_FOUND, "no such sweep, or nothing that can be asked of it");
        return;
    }
    struct sweep *sweep = &core->sweeps[event->control.sweep];
    if (sweep->state == SWEEP_DONE && sweep->undecided == 0) {
        update->code = error_set(&update->error, ERR_CONFLICT, "sweep '%s' is finished", sweep->name);
        return;
    }
    if (sweep->state == to) {
        update->code = error_set(&update->error, ERR_CONFLICT, "sweep '%s' is already %s", sweep->name, words[to]);
        return;
    }
    sweep->broke = false;
    emit(core, &(struct fact){.type = FACT_state, .state = {.sweep = sweep->id, .state = (uint8_t)to}});
    if (to == SWEEP_CANCELLED)
        cancel_leases(core, sweep->id);
}
