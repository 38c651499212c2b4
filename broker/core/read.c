/* read.c - copies of the core's records for everybody outside; see read.h. */
#include "broker/core/read.h"
#include "broker/core/core_int.h"

#include <assert.h>
#include <string.h>

static struct spending spending_of(const struct amounts *amounts)
{
    return (struct spending){amounts->rollouts, amounts->tokens, amounts->slot_ms, amounts->cost};
}

static const char *or_empty(const char *text)
{
    return text == NULL ? "" : text;
}

/* -- definitions ---------------------------------------------------------------------------------- */

uint32_t core_sweeps(const struct core *core)
{
    return core->sweeps_len;
}

uint32_t core_sweep_find(const struct core *core, struct slice name)
{
    for (uint32_t i = 0; i < core->sweeps_len; i++)
        if (core->sweeps[i].state != SWEEP_REPLACED && strlen(core->sweeps[i].name) == name.len &&
            (name.len == 0 || memcmp(core->sweeps[i].name, name.data, name.len) == 0))
            return i;
    return NO_ID;
}

uint32_t core_sweep_names(const struct core *core, struct buf *names, uint32_t *last)
{
    uint32_t count = 0;
    *last = NO_ID;
    for (uint32_t i = 0; i < core->sweeps_len; i++) {
        if (core->sweeps[i].state == SWEEP_REPLACED)
            continue;
        buf_printf(names, "%s%s", count++ > 0 ? ", " : "", core->sweeps[i].name);
        *last = i;
    }
    return count;
}

struct sweep_info core_sweep(const struct core *core, uint32_t id)
{
    assert(id < core->sweeps_len);
    const struct sweep *sweep = &core->sweeps[id];
    struct amounts burned = sweep_burned(sweep);
    struct sweep_info info = {
        .id = id,
        .set = sweep->set,
        .truth = sweep->truth,
        .name = sweep->name,
        .reason = or_empty(sweep->reason),
        .refusal = or_empty(sweep->refusal),
        .state = (enum sweep_state)sweep->state,
        .seed = sweep->seed,
        .source = sweep->source,
        .caps = spending_of(&sweep->caps),
        .accepted = spending_of(&sweep->accepted),
        .burned = spending_of(&burned),
        .reserved = spending_of(&sweep->reserved),
        .count_accepted = sweep->count_accepted,
        .deadline_s = sweep->deadline_s,
        .started_s = sweep->started_s,
        .verdicts = sweep->verdicts,
        .read = sweep->read.tokens,
        .cached = sweep->read.cached,
        .truths = sweep->truths,
        .judged = sweep->judged,
        .failed = sweep->failed,
        .leased = sweep->leased,
        .arms = sweep->arms_len,
        .prompts = core->sets[sweep->set].len,
    };
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        info.cells += core->arms[sweep->arms[i]].prompts;
        info.decided += core->arms[sweep->arms[i]].decided;
    }
    for (int w = 0; w < WASTES; w++)
        info.waste[w] = spending_of(&sweep->waste[w]);
    return info;
}

const char *sweep_state_text(enum sweep_state state)
{
    switch (state) {
    case SWEEP_RUNNING:
        return "running";
    case SWEEP_PAUSED:
        return "paused";
    case SWEEP_CANCELLED:
        return "cancelled";
    case SWEEP_DONE:
        return "done";
    case SWEEP_FAULT:
        return "faulty";
    case SWEEP_REPLACED:
        return "replaced";
    }
    return "unknown";
}

uint32_t core_sweep_arm(const struct core *core, uint32_t sweep, uint32_t i)
{
    assert(sweep < core->sweeps_len);
    assert(i < core->sweeps[sweep].arms_len);
    return core->sweeps[sweep].arms[i];
}

struct arm_info core_arm(const struct core *core, uint32_t id)
{
    assert(id < core->arms_len);
    const struct arm *arm = &core->arms[id];
    return (struct arm_info){
        .id = id,
        .sweep = arm->sweep,
        .pools = arm->pools,
        .schedule = &arm->schedule,
        .model = core->pools[arm->pools[0]].model,
        .verifier = arm->verifier,
        .truth = core->sweeps[arm->sweep].truth,
        .name = arm->name,
        .strategy = arm->strategy,
        .allocator = arm->allocator,
        .stopper = arm->stopper,
        .selector = arm->selector,
        .options = {arm->options[0], arm->options[1], arm->options[2], arm->options[3]},
        .seed = core->sweeps[arm->sweep].seed,
        .n = arm->n,
        .trees = arm->trees,
        .strict = arm->strict,
        .existing = arm->existing,
        .answering = arm->answering,
        .oracle = arm->verifier != NO_ID && arm->verifier == core->sweeps[arm->sweep].truth,
        .caps = spending_of(&arm->caps),
        .charged = spending_of(&arm->charged),
        .reserved = spending_of(&arm->reserved),
        .verdicts = arm->verdicts,
        .prompts = arm->prompts,
        .decided = arm->decided,
        .unfolded = arm->unfolded,
        .report_at = arm->report_at,
        .report_at_len = arm->report_at_len,
        .price = arm_price(arm),
        .prior = arm->prior,
        .of = arm->bin.of,
        .bin = arm->bin.number,
        .by = arm->bin.by,
        .above = arm->bin.above,
        .up_to = arm->bin.up_to,
        .elsewhere = arm->bin.elsewhere,
    };
}

struct belief core_belief(const struct core *core, uint32_t id, uint32_t prompt)
{
    assert(id < core->arms_len);
    assert(prompt < core->arms[id].prompts);
    return arm_belief(&core->arms[id], prompt);
}

bool core_paid(const struct core *core, uint32_t id, const struct key *key, bool *verdict)
{
    assert(id < core->arms_len);
    return bin_paid(core, &core->arms[id], key, verdict);
}

void core_arm_models(const struct core *core, uint32_t id, struct buf *out)
{
    assert(id < core->arms_len);
    const struct arm *arm = &core->arms[id];
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++)
        buf_printf(out, "%s%s", leg > 0 ? "+" : "", core->models[core->pools[arm->pools[leg]].model].name);
}

bool core_arm_draws(const struct core *core, uint32_t id, uint32_t pool)
{
    assert(id < core->arms_len);
    return core->arms[id].trees == 0 && arm_leg(&core->arms[id], pool) != NO_ID;
}

/* The arm may be of another set, which has fewer prompts. */
uint32_t core_arm_reach(const struct core *core, uint32_t id, uint32_t pool, uint32_t prompt)
{
    const struct arm *arm = &core->arms[id];
    return core_arm_draws(core, id, pool) ? arm_reach(arm, pool, arm->cells[prompt].delivered) : 0;
}

uint32_t core_pools(const struct core *core)
{
    return core->pools_len;
}

struct pool_info core_pool(const struct core *core, uint32_t id)
{
    assert(id < core->pools_len);
    const struct pool *pool = &core->pools[id];
    return (struct pool_info){
        .id = id,
        .set = pool->set,
        .model = pool->model,
        .prompts = core->sets[pool->set].len,
        .seed = pool->seed,
        .fingerprint = pool->fingerprint,
        .kill = pool->kill,
        .verifiers = pool->planes,
        .verifiers_len = pool->planes_len,
    };
}

uint32_t core_models(const struct core *core)
{
    return core->models_len;
}

struct model_info core_model(const struct core *core, uint32_t id)
{
    assert(id < core->models_len);
    const struct model *model = &core->models[id];
    return (struct model_info){
        .name = model->name,
        .backend = model->backend,
        .spec = model->spec,
        .fingerprint = model->fingerprint,
        .price_in = model->price_in,
        .price_out = model->price_out,
        .read = model->read.tokens,
        .cached = model->read.cached,
        .max_tokens = model->max_tokens,
        .template_tokens = model->template_tokens,
        .timeout_ms = model->timeout_ms,
        .slots = model->slots,
    };
}

uint32_t core_verifiers(const struct core *core)
{
    return core->verifiers_len;
}

struct verifier_info core_verifier(const struct core *core, uint32_t id)
{
    assert(id < core->verifiers_len);
    const struct verifier *verifier = &core->verifiers[id];
    return (struct verifier_info){
        .name = verifier->name,
        .kind = verifier->check,
        .spec = verifier->spec,
        .fingerprint = verifier->fingerprint,
        .price = verifier->price,
        .timeout_ms = verifier->timeout_ms,
        .group = verifier->group,
    };
}

static const struct set *set_of(const struct core *core, uint32_t set)
{
    assert(set < core->sets_len);
    return &core->sets[set];
}

uint32_t core_sets(const struct core *core)
{
    return core->sets_len;
}

uint64_t core_set_digest(const struct core *core, uint32_t set)
{
    return set_of(core, set)->digest;
}

uint32_t core_set_prompts(const struct core *core, uint32_t set)
{
    return set_of(core, set)->len;
}

struct prompt_info core_prompt(const struct core *core, uint32_t set, uint32_t prompt)
{
    assert(prompt < set_of(core, set)->len);
    const struct prompt_row *row = &core->sets[set].prompts[prompt];
    return (struct prompt_info){row->ref, row->bytes, row->group, row->attached};
}

bool core_attachment(const struct core *core, struct attachment_id id, struct ref *ref)
{
    const struct attachment_row *row = attachment_of(core, id);
    if (row != NULL)
        *ref = row->ref;
    return row != NULL;
}

uint32_t core_groups(const struct core *core, uint32_t set)
{
    return set_of(core, set)->groups_len;
}

const char *core_group(const struct core *core, uint32_t set, uint32_t group)
{
    assert(group < set_of(core, set)->groups_len);
    return core->sets[set].groups[group];
}

const char *core_group_by(const struct core *core, uint32_t set)
{
    return or_empty(set_of(core, set)->group_by);
}

/* -- prompts and rollouts -------------------------------------------------------------------------- */

static const struct cell *cell_of(const struct core *core, uint32_t arm, uint32_t prompt)
{
    assert(arm < core->arms_len);
    assert(prompt < core->arms[arm].prompts);
    return &core->arms[arm].cells[prompt];
}

struct cell_info core_cell(const struct core *core, uint32_t arm, uint32_t prompt)
{
    const struct cell *cell = cell_of(core, arm, prompt);
    return (struct cell_info){
        .decided = (enum decided)cell->decided,
        .opened = cell->opened,
        .delivered = cell->delivered,
        .stop = cell->stop,
        .winner = cell->winner,
        .confidence = cell->confidence,
        .settled = cell->settled != 0,
        .trees = cell->trees != NULL,
    };
}

const char *decided_text(enum decided decided)
{
    switch (decided) {
#define X(name, value, text) \
    case name:               \
        return text;
        DECIDED_TABLE(X)
#undef X
    }
    return "unknown";
}

uint32_t core_issued(const struct core *core, uint32_t pool, uint32_t prompt)
{
    assert(pool < core->pools_len);
    assert(prompt < core->sets[core->pools[pool].set].len);
    return core->pools[pool].stocks[prompt].issued;
}

static const struct tree *tree_at(const struct core *core, uint32_t arm, uint32_t prompt, uint32_t tree)
{
    const struct cell *cell = cell_of(core, arm, prompt);
    return cell->trees == NULL || tree >= core->arms[arm].trees ? NULL : &cell->trees[tree];
}

uint32_t core_tree_nodes(const struct core *core, uint32_t arm, uint32_t prompt, uint32_t tree)
{
    const struct tree *at = tree_at(core, arm, prompt, tree);
    return at == NULL ? 0 : at->nodes_len;
}

uint32_t core_tree_finals(const struct core *core, uint32_t arm, uint32_t prompt, uint32_t tree,
                          const uint32_t **finals)
{
    const struct tree *at = tree_at(core, arm, prompt, tree);
    *finals = at == NULL ? NULL : at->finals;
    return at == NULL ? 0 : at->finals_len;
}

bool core_delivered(const struct core *core, uint32_t arm_id, uint32_t prompt, uint32_t k, struct key *key)
{
    const struct cell *cell = cell_of(core, arm_id, prompt);
    const struct arm *arm = &core->arms[arm_id];
    if (arm->trees == 0) {
        *key = arm_key(arm, prompt, k);
        return k < cell->delivered;
    }
    for (uint32_t t = 0; cell->trees != NULL && t < arm->trees; t++) {
        const struct tree *tree = &cell->trees[t];
        if (k < tree->finals_len) {
            *key = (struct key){TASK_GENERATE, arm_id, prompt, t, tree->finals[k], NO_ID};
            return true;
        }
        k -= tree->finals_len;
    }
    return false;
}

static enum rollout_state state_of(const struct row *row)
{
    return row->state == ROW_DONE ? ROLLOUT_DONE : row->state == ROW_FAILED ? ROLLOUT_FAILED : ROLLOUT_OPEN;
}

bool core_rollout(const struct core *core, const struct key *key, struct rollout_info *out)
{
    const struct row *row = key_row(core, key);
    if (row == NULL)
        return false;
    *out = (struct rollout_info){.state = state_of(row), .parent = NO_ORDINAL};
    if (key->tree != NO_ID) {
        const struct node_view *view = &core->arms[key->owner].cells[key->prompt].trees[key->tree].views[key->item];
        out->parent = view->parent;
        out->cue = view->cue;
        out->thinks = view->extent == EXTENT_THINK;
    }
    if (out->state == ROLLOUT_OPEN)
        return true;
    out->finish = (enum finish)row->finish;
    out->class = row->class;
    out->ref = row->ref;
    out->tokens_in = row->tokens_in;
    out->tokens_out = row->tokens_out;
    out->latency_ms = row->latency_ms;
    out->raced = (row->flags & ROW_RACED) != 0;
    /* What lies below the prompt was charged with its ancestors. */
    enum charge charge = out->parent == NO_ORDINAL ? CHARGE_PROMPT : CHARGE_STEP;
    out->cost = row->state == ROW_DONE ? cost_row(core, core->pools[key_pool(core, key)].model, charge, row).cost : 0;
    return true;
}

static const struct score *score_at(const struct core *core, const struct key *key, uint32_t verifier)
{
    if (verifier == NO_ID)
        return NULL;
    struct key judged = *key;
    judged.kind = TASK_VERIFY;
    judged.verifier = verifier;
    if (key->tree != NO_ID) { /* a node has room for two verdicts only */
        const struct arm *arm = &core->arms[key->owner];
        if (verifier != arm->verifier && verifier != core->sweeps[arm->sweep].truth)
            return NULL;
    }
    const struct score *score = key_score(core, &judged);
    return score != NULL && score->state == SCORE_DONE ? score : NULL;
}

bool core_verdict(const struct core *core, const struct key *key, uint32_t verifier, struct verdict *out)
{
    const struct score *score = score_at(core, key, verifier);
    if (score == NULL)
        return false;
    *out = (struct verdict){(enum outcome)score->outcome, score->score};
    return true;
}

bool core_item(const struct core *core, uint32_t arm, const struct key *key, uint32_t ordinal, struct item *out)
{
    const struct row *row = key_row(core, key);
    if (row == NULL || state_of(row) == ROLLOUT_OPEN)
        return false;
    static const struct score none;
    const struct score *score = score_at(core, key, core->arms[arm].verifier);
    uint32_t leg = key->tree == NO_ID ? arm_leg(&core->arms[arm], key->owner) : 0;
    *out = row_item(row, score != NULL ? score : &none, ordinal, leg == NO_ID ? 0 : leg);
    return true;
}

static void add_killed(const struct stock *stock, uint32_t delivered, struct killed *to)
{
    uint64_t killed = 0, ended = 0, whole = 0, len = 0;
    for (uint32_t k = 0; k < delivered; k++) {
        const struct row *row = &stock->rows[k];
        bool early = row->finish == FINISH_KILLED;
        killed += early;
        ended += early ? row->tokens_out : 0;
        len += !early && row->state == ROW_DONE;
        whole += !early && row->state == ROW_DONE ? row->tokens_out : 0;
    }
    double would = len > 0 ? (double)killed * (double)whole / (double)len : 0;
    to->rollouts += killed;
    to->tokens += ended;
    to->saved += would > (double)ended ? would - (double)ended : 0;
}

struct killed core_killed(const struct core *core, uint32_t id)
{
    assert(id < core->arms_len);
    const struct arm *arm = &core->arms[id];
    const struct pool *pool = &core->pools[arm->pools[0]]; /* several have no such rule */
    struct killed killed = {0};
    for (uint32_t p = 0; arm->trees == 0 && arm->schedule.legs == 1 && pool->kill.window > 0 && p < arm->prompts; p++)
        add_killed(&pool->stocks[p], arm->cells[p].delivered, &killed);
    return killed;
}

struct killed core_killed_all(const struct core *core, uint32_t sweep)
{
    struct killed all = {0};
    for (uint32_t i = 0; i < core->sweeps[sweep].arms_len; i++) {
        struct killed killed = core_killed(core, core->sweeps[sweep].arms[i]);
        all.rollouts += killed.rollouts;
        all.tokens += killed.tokens;
        all.saved += killed.saved;
    }
    return all;
}

uint64_t core_seed(const struct core *core, const struct key *key)
{
    return key_seed(core, key);
}

/* -- fleet and queues ------------------------------------------------------------------------------- */

static struct agent_info agent_of(const struct core *core, const struct agent *agent)
{
    int64_t benched = agent->benched_until_ms - core->now_ms;
    int64_t silent = core->now_ms - (agent->deadline_ms - (int64_t)core->options.lease_ms);
    return (struct agent_info){
        .id = agent->id,
        .name = agent->name,
        .verifier = agent->verifier,
        .draining = agent->draining,
        .alone = agent->alone,
        .kinds = agent->kinds,
        .credits = agent->credits,
        .leased = agent->leased,
        .failures = agent->failures,
        .failure = agent->failure,
        .trouble = agent->trouble,
        .devices = or_empty(agent->devices),
        .offers = agent->offers,
        .offers_len = agent->offers_len,
        .refusals = agent->refusals_len,
        .tokens = agent->tokens,
        .done = agent->done,
        .benched_ms = benched > 0 ? benched : 0,
        .silent_ms = silent > 0 ? silent : 0,
        .up_ms = core->now_ms - agent->since_ms,
    };
}

void core_agents(const struct core *core, void (*visit)(void *arg, const struct agent_info *agent), void *arg)
{
    for (const struct agent *agent = core->fleet; agent != NULL; agent = agent->next) {
        struct agent_info info = agent_of(core, agent);
        visit(arg, &info);
    }
}

bool core_agent(const struct core *core, uint64_t id, struct agent_info *out)
{
    const struct agent *agent = agent_find(core, id);
    if (agent != NULL)
        *out = agent_of(core, agent);
    return agent != NULL;
}

const char *core_kind_text(const struct core *core, bool verifier, int bit)
{
    return bit >= 0 && bit < core->kinds_len[verifier] ? core->kinds[verifier][bit] : NULL;
}

static uint64_t list_len(const struct task *list)
{
    uint64_t len = 0;
    for (; list != NULL; list = list->next)
        len++;
    return len;
}

/* An earlier arm of the sweep that waits for the same ordinals: they are counted once. */
static bool counted(const struct core *core, const struct arm *arm, uint32_t pool, uint32_t prompt)
{
    const struct sweep *sweep = &core->sweeps[arm->sweep];
    for (uint32_t i = 0; sweep->arms[i] != arm->id; i++) {
        const struct arm *other = &core->arms[sweep->arms[i]];
        uint32_t leg = other->trees > 0 ? NO_ID : arm_leg(other, pool);
        if (leg != NO_ID && (other->cells[prompt].queued >> leg & 1) != 0)
            return true;
    }
    return false;
}

/* Ordinals that were asked for and never leased. */
static uint64_t not_issued(const struct core *core, const struct arm *arm)
{
    uint64_t count = 0;
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++) {
        const struct ring *ready = &arm->legs[leg].ready;
        for (uint32_t i = 0; i < ready->len; i++) {
            uint32_t prompt = ready->at[(ready->head + i) % ready->cap];
            const struct stock *stock = &core->pools[arm->pools[leg]].stocks[prompt];
            if (stock->want > stock->issued && !counted(core, arm, arm->pools[leg], prompt))
                count += stock->want - stock->issued;
        }
    }
    return count;
}

struct waiting core_waiting(const struct core *core, uint32_t sweep)
{
    assert(sweep < core->sweeps_len);
    struct waiting waiting = {0};
    for (uint32_t i = 0; i < core->sweeps[sweep].arms_len; i++) {
        const struct arm *arm = &core->arms[core->sweeps[sweep].arms[i]];
        waiting.generate += not_issued(core, arm);
        for (uint32_t leg = 0; leg < arm->schedule.legs; leg++)
            waiting.generate += list_len(arm->legs[leg].generate);
        waiting.verify += list_len(arm->verify);
        waiting.truth += list_len(arm->truth);
    }
    return waiting;
}

uint64_t core_epoch(const struct core *core)
{
    return core->epoch;
}
