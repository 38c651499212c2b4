/* define.c - definitions: sets, models, verifiers, pools, sweeps, arms; and what a submission may change. */
#include "broker/core/core_int.h"
#include "common/limits.h"
#include "common/rng.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *text_of(struct slice slice)
{
    char *text = xalloc(slice.len + 1);
    if (slice.len > 0)
        memcpy(text, slice.data, slice.len);
    return text;
}

static struct slice own(struct slice slice)
{
    return (struct slice){text_of(slice), slice.len};
}

static bool same(struct slice slice, const char *text)
{
    return slice.len == strlen(text) && (slice.len == 0 || memcmp(slice.data, text, slice.len) == 0);
}

static int set_apply(struct core *core, const struct fact_set *f)
{
    if (f->id != core->sets_len || f->len > LIMIT_PROMPTS)
        return ERR_CORRUPT;
    core->sets = grow_array(core->sets, core->sets_len, sizeof *core->sets);
    core->sets[core->sets_len++] = (struct set){
        .digest = f->digest,
        .len = f->len,
        .group_by = text_of(f->group_by),
        .prompts = xalloc(f->len * sizeof(struct prompt_row)),
    };
    return 0;
}

static uint32_t group_id(struct set *set, struct slice name)
{
    struct group *group;
    char *text = text_of(name);
    size_t len = strlen(text);
    HASH_FIND(hh, set->by_name, text, len, group);
    if (group != NULL) {
        free(text);
        return group->id;
    }
    group = xalloc(sizeof *group);
    group->name = text;
    group->id = set->groups_len;
    HASH_ADD_KEYPTR(hh, set->by_name, group->name, len, group);
    set->groups = grow_array(set->groups, set->groups_len, sizeof *set->groups);
    set->groups[set->groups_len] = text;
    return set->groups_len++;
}

static int prompt_apply(struct core *core, const struct fact_prompt *f)
{
    if (f->set >= core->sets_len || core->sets[f->set].filled == core->sets[f->set].len || f->attached > f->bytes)
        return ERR_CORRUPT;
    struct set *set = &core->sets[f->set];
    set->prompts[set->filled++] = (struct prompt_row){
        .ref = {f->ref_commit, f->ref_offset, f->ref_len},
        .bytes = f->bytes,
        .group = group_id(set, f->group),
        .attached = f->attached,
    };
    return 0;
}

struct attachment_row *attachment_of(const struct core *core, struct attachment_id id)
{
    struct attachment_row *row;
    HASH_FIND(hh, core->attachments, &id, sizeof id, row);
    return row;
}

static int attachment_apply(struct core *core, const struct fact_attachment *f)
{
    struct attachment_id id = {f->high, f->low};
    if (attachment_of(core, id) != NULL)
        return ERR_CORRUPT;
    struct attachment_row *row = xalloc(sizeof *row);
    row->id = id;
    row->ref = (struct ref){f->ref_commit, f->ref_offset, f->ref_len};
    HASH_ADD(hh, core->attachments, id, sizeof row->id, row);
    return 0;
}

/* The servers of a model or verifier are somewhere else now. Whoever could not use the old ones may try the new. */
static int move(struct core *core, bool verify, uint32_t id, struct slice *spec, struct slice now)
{
    free((char *)spec->data);
    *spec = own(now);
    struct agent *agent, *next;
    HASH_ITER (hh, core->agents, agent, next)
        agent_forgive(agent, verify, id);
    return 0;
}

static int model_apply(struct core *core, const struct fact_model *f)
{
    if (f->id > core->models_len || (f->id < core->models_len && core->models[f->id].fingerprint != f->fingerprint))
        return ERR_CORRUPT;
    if (f->id < core->models_len) {
        free(core->models[f->id].offer);
        core->models[f->id].offer = text_of(f->offer);
        return move(core, false, f->id, &core->models[f->id].spec, f->spec);
    }
    core->models = grow_array(core->models, core->models_len, sizeof *core->models);
    core->models[core->models_len++] = (struct model){
        .fingerprint = f->fingerprint,
        .name = text_of(f->name),
        .backend = text_of(f->backend),
        .offer = text_of(f->offer),
        .spec = own(f->spec),
        .max_tokens = f->max_tokens,
        .template_tokens = f->template_tokens,
        .timeout_ms = f->timeout_ms,
        .slots = f->slots,
        .price_in = f->price_in,
        .price_out = f->price_out,
        .kind = core_kind(core, false, f->backend),
    };
    return 0;
}

static int verifier_apply(struct core *core, const struct fact_verifier *f)
{
    if (f->id > core->verifiers_len ||
        (f->id < core->verifiers_len && core->verifiers[f->id].fingerprint != f->fingerprint))
        return ERR_CORRUPT;
    if (f->id < core->verifiers_len)
        return move(core, true, f->id, &core->verifiers[f->id].spec, f->spec);
    core->verifiers = grow_array(core->verifiers, core->verifiers_len, sizeof *core->verifiers);
    core->verifiers[core->verifiers_len++] = (struct verifier){
        .fingerprint = f->fingerprint,
        .name = text_of(f->name),
        .check = text_of(f->kind),
        .spec = own(f->spec),
        .timeout_ms = f->timeout_ms,
        .price = f->price,
        .group = f->group != 0,
        .kind = core_kind(core, true, f->kind),
    };
    return 0;
}

static int pool_apply(struct core *core, const struct fact_pool *f)
{
    if (f->id != core->pools_len || f->set >= core->sets_len || f->model >= core->models_len ||
        core->sets[f->set].filled != core->sets[f->set].len || f->kill_window > LIMIT_MAX_TOKENS ||
        (f->kill_window > 0 &&
         (f->kill_warmup == 0 || f->kill_warmup > WARMUP_MAX || !(f->kill_keep > 0) || f->kill_keep > 100)))
        return ERR_CORRUPT;
    uint32_t longest = 0;
    for (uint32_t p = 0; p < core->sets[f->set].len; p++) {
        const struct prompt_row *row = &core->sets[f->set].prompts[p];
        longest = row->bytes - row->attached > longest ? row->bytes - row->attached : longest;
    }
    core->pools = grow_array(core->pools, core->pools_len, sizeof *core->pools);
    core->pools[core->pools_len++] = (struct pool){
        .fingerprint = f->fingerprint,
        .seed = f->seed,
        .kill = {f->kill_window, f->kill_warmup, f->kill_keep},
        .set = f->set,
        .model = f->model,
        .context = context_needed(longest, core->models[f->model].max_tokens),
        .stocks = xalloc(core->sets[f->set].len * sizeof(struct stock)),
    };
    return 0;
}

static int sweep_apply(struct core *core, const struct fact_sweep *f)
{
    if (f->id > core->sweeps_len || f->set >= core->sets_len || (f->truth != NO_ID && f->truth >= core->verifiers_len))
        return ERR_CORRUPT;
    if (f->id == core->sweeps_len) {
        core->sweeps = grow_array(core->sweeps, core->sweeps_len, sizeof *core->sweeps);
        core->sweeps[core->sweeps_len++] = (struct sweep){
            .id = f->id,
            .name = text_of(f->name),
            .seed = f->seed,
            .set = f->set,
            .truth = f->truth,
            .started_s = f->started_s,
        };
    }
    struct sweep *sweep = &core->sweeps[f->id];
    sweep->caps = (struct amounts){f->rollouts, f->tokens, f->slot_ms, f->cost};
    sweep->deadline_s = f->deadline_s;
    sweep->count_accepted = f->accepted != 0;
    free((char *)sweep->source.data);
    sweep->source = own(f->source);
    sweep->broke = false;
    return 0;
}

static const void *find_policy(const struct fact_arm *f, struct arm *arm)
{
    char names[4][65];
    const struct slice given[4] = {f->strategy, f->allocator, f->stopper, f->selector};
    for (int i = 0; i < 4; i++) {
        if (given[i].len > 64)
            return NULL;
        snprintf(names[i], sizeof names[i], "%.*s", (int)given[i].len, given[i].data);
    }
    arm->strategy = strategy_find(names[0]);
    arm->allocator = allocator_find(names[1]);
    arm->stopper = stopper_find(names[2]);
    arm->selector = selector_find(names[3]);
    return arm->strategy != NULL && arm->allocator != NULL && arm->stopper != NULL ? arm->selector : NULL;
}

/* Journals of releases so far hold 8 values of each policy, without those that no policy had. */
static bool options_read(struct slice bytes, double options[4][POLICY_OPTIONS_MAX])
{
    enum { BEFORE = 8 };
    size_t each = bytes.len / (4 * sizeof **options);
    if (bytes.len % (4 * sizeof **options) != 0 || (each != BEFORE && each != POLICY_OPTIONS_MAX))
        return false;
    memset(options, 0, 4 * sizeof *options);
    for (size_t i = 0; i < 4; i++)
        memcpy(options[i], bytes.data + i * each * sizeof **options, each * sizeof **options);
    return true;
}

static bool options_valid(const struct option_row *rows, const double *values)
{
    for (int i = 0; rows != NULL && rows[i].name != NULL; i++)
        if (!(values[i] >= rows[i].min && values[i] <= rows[i].max))
            return false; /* NaN too */
    return true;
}

static bool asks_nothing(const struct fact_arm *f)
{
    return f->existing != 0 || same(f->allocator, allocate_existing.name);
}

static bool words(struct slice from, uint32_t to[LIMIT_LEGS], uint32_t len)
{
    if (from.len != len * sizeof *to)
        return false;
    memcpy(to, from.data, from.len);
    return true;
}

/* Its pools, as the fact numbers them, and in which order it draws from them. */
static bool arm_legs(const struct fact_arm *f, struct arm *arm)
{
    uint32_t legs = (uint32_t)(f->pools.len / sizeof *arm->pools);
    arm->pools[0] = f->pool;
    arm->schedule = (struct schedule){.rounds = f->rounds != 0, .legs = 1};
    if (f->pools.len == 0)
        return f->lens.len == 0 && !arm->schedule.rounds;
    arm->schedule.legs = legs;
    if (legs < 2 || legs > LIMIT_LEGS || !words(f->pools, arm->pools, legs) || !words(f->lens, arm->schedule.len, legs))
        return false;
    for (uint32_t i = 1; i < legs; i++)
        for (uint32_t j = 0; j < i; j++)
            if (arm->pools[i] == arm->pools[j])
                return false;
    return arm->pools[0] == f->pool && arm->strategy->trees == NULL && schedule_valid(&arm->schedule, f->n);
}

/* Policies, their options, legs and n, which make sense together or not at all. */
static bool arm_policies(const struct fact_arm *f, struct arm *arm)
{
    if (find_policy(f, arm) == NULL || !options_read(f->options, arm->options) || f->n == 0 || f->n > LIMIT_N ||
        (f->strict != 0 && (f->lookahead == 0 || f->lookahead > LIMIT_LOOKAHEAD)))
        return false;
    arm->answering = (struct answering){f->abstains != 0, f->abstain, f->top == 0 ? 1 : f->top};
    if (isnan(f->abstain) || arm->answering.top > LIMIT_TOP)
        return false;
    arm->versions[0] = f->strategy_version;
    arm->versions[1] = f->allocator_version;
    arm->versions[2] = f->stopper_version;
    arm->versions[3] = f->selector_version;
    if (!options_valid(arm->strategy->options, arm->options[0]) ||
        !options_valid(arm->allocator->options, arm->options[1]) ||
        !options_valid(arm->stopper->options, arm->options[2]) ||
        !options_valid(arm->selector->options, arm->options[3]) || !arm_legs(f, arm) || !bin_valid(f, arm))
        return false;
    uint32_t needs = arm->allocator->needs | arm->stopper->needs | arm->selector->needs;
    if (((needs & (NEED_LEGS | NEED_BLOCKS)) != 0 && arm->schedule.legs == 1) ||
        ((needs & NEED_BLOCKS) != 0 && arm->schedule.rounds))
        return false;
    if (arm->strategy->trees == NULL)
        return true;
    arm->trees = f->n <= LIMIT_TREE_N ? arm->strategy->trees(f->n, arm->options[0]) : 0;
    if (arm->trees == 0)
        return false;
    arm->record_size = arm->strategy->record_size(f->n, arm->options[0]);
    return true;
}

/* Fills the parts of an arm that are given by its fact alone. An arm that is there already keeps its policies. */
static int arm_read(const struct fact_arm *f, struct arm *arm)
{
    struct arm new = {0};
    if (!arm_policies(f, &new) || f->report_at.len % 4 != 0)
        return ERR_CORRUPT;
    if (arm->cells != NULL &&
        (new.strategy != arm->strategy || new.allocator != arm->allocator || new.stopper != arm->stopper ||
         new.selector != arm->selector || memcmp(new.options, arm->options, sizeof new.options) != 0 ||
         !schedule_equal(&new.schedule, &arm->schedule) || memcmp(new.pools, arm->pools, sizeof new.pools) != 0 ||
         new.answering.abstains != arm->answering.abstains || new.answering.abstain != arm->answering.abstain ||
         (arm->trees > 0 && f->n != arm->n) || !bin_same(f, arm)))
        return ERR_CORRUPT;
    arm->strategy = new.strategy;
    arm->allocator = new.allocator;
    arm->stopper = new.stopper;
    arm->selector = new.selector;
    memcpy(arm->options, new.options, sizeof arm->options);
    memcpy(arm->versions, new.versions, sizeof arm->versions);
    arm->schedule = new.schedule;
    memcpy(arm->pools, new.pools, sizeof arm->pools);
    arm->trees = new.trees;
    arm->record_size = new.record_size;
    arm->answering = new.answering;
    arm->n = f->n;
    arm->caps = (struct amounts){f->rollouts, f->tokens, f->slot_ms, f->cost};
    free(arm->report_at);
    arm->report_at_len = (uint32_t)(f->report_at.len / 4);
    arm->report_at = xalloc(f->report_at.len);
    if (f->report_at.len > 0)
        memcpy(arm->report_at, f->report_at.data, f->report_at.len);
    return 0;
}

static uint64_t name_hash(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}

static uint64_t slice_hash(struct slice name)
{
    char *text = text_of(name);
    uint64_t hash = name_hash(text);
    free(text);
    return hash;
}

/* The pools are there, of one set; what compares all rollouts of a prompt compares those of one pool; and a tree's nodes
 * have tokens. */
static bool legs_match(const struct core *core, const struct arm *arm)
{
    uint32_t set = core->sweeps[arm->sweep].set;
    for (uint32_t leg = 0; arm->schedule.legs > 1 && leg < arm->schedule.legs; leg++)
        if (arm->pools[leg] >= core->pools_len || core->pools[arm->pools[leg]].set != set)
            return false;
    if (arm->trees > 0 && pool_most(core, arm->pools[0]) == 0)
        return false;
    return arm->schedule.legs == 1 || arm->verifier == NO_ID || !core->verifiers[arm->verifier].group;
}

/* The pool knows of its new arm, and keeps the verdicts that this needs. */
static void leg_join(struct core *core, const struct arm *arm, uint32_t id)
{
    struct pool *pool = &core->pools[id];
    uint32_t truth = core->sweeps[arm->sweep].truth, planes_old = pool->planes_len;
    pool->arms = grow_array(pool->arms, pool->arms_len, sizeof *pool->arms);
    pool->arms[pool->arms_len++] = arm->id;
    pool->features |= features_needed(arm);
    if (arm->trees == 0 && arm->verifier != NO_ID)
        pool_add_plane(pool, arm->verifier);
    if (arm->trees == 0 && truth != NO_ID)
        pool_add_plane(pool, truth);
    pool_widen(core, id, planes_old);
}

static int arm_new(struct core *core, const struct fact_arm *f)
{
    struct arm arm = {.id = f->id, .sweep = f->sweep, .verifier = f->verifier};
    int rc = arm_read(f, &arm);
    if (rc != 0 || !legs_match(core, &arm) || bin_join(core, f, &arm) != 0) {
        free(arm.report_at);
        return ERR_CORRUPT;
    }
    const struct pool *pool = &core->pools[f->pool];
    struct sweep *sweep = &core->sweeps[f->sweep];
    arm.name = text_of(f->name);
    arm.prior = text_of(f->prior);
    arm.strict = f->strict != 0;
    arm.existing = asks_nothing(f);
    arm.lookahead = f->lookahead;
    arm.legs = xalloc(arm.schedule.legs * sizeof *arm.legs);
    arm.prompts = core->sets[pool->set].len;
    arm.cells = xalloc(arm.prompts * sizeof *arm.cells);
    for (uint32_t i = 0; i < arm.prompts; i++)
        arm.cells[i].heap_at = NO_ID;
    if (f->prior.len > 0)
        arm.beliefs = xalloc(arm.prompts * sizeof *arm.beliefs);
    arm.seed = rng_u64(pool->seed, RNG_NODE, name_hash(arm.name), arm.n);
    core->arms = grow_array(core->arms, core->arms_len, sizeof *core->arms);
    core->arms[core->arms_len++] = arm;
    for (uint32_t leg = 0; leg < arm.schedule.legs; leg++)
        leg_join(core, &arm, arm.pools[leg]);
    sweep->arms = grow_array(sweep->arms, sweep->arms_len, sizeof *sweep->arms);
    sweep->arms[sweep->arms_len++] = arm.id;
    sweep->undecided += arm.prompts;
    return 0;
}

/* A larger n or budget, or more rollouts that exist: prompts that were decided only because the old ones ended are open
 * again. */
static void arm_extend(struct core *core, struct arm *arm, uint32_t n_old)
{
    for (uint32_t i = arm->fifo.len; i > 0; i--) { /* entries of decided prompts would come to life */
        uint32_t prompt = ring_pop(&arm->fifo);
        if (arm->cells[prompt].decided == DECIDED_NOT)
            ring_push(&arm->fifo, prompt);
    }
    bool fed = arm_fed(core, arm, true); /* by an arm whose n may grow too */
    for (uint32_t p = 0; p < arm->prompts && !bin_is_pilot(arm); p++) {
        struct cell *cell = &arm->cells[p];
        bool more = arm->existing && (fed || arm_row(core, arm, p, cell->stop) != NULL);
        bool ended = cell->decided == DECIDED_BUDGET || (cell->decided == DECIDED_CAP && arm->n > n_old) ||
                     (cell->decided == DECIDED_EXHAUSTED && more);
        if (!ended)
            continue;
        cell->decided = DECIDED_NOT;
        cell->settled = 0;
        arm->decided--;
        core->sweeps[arm->sweep].undecided++;
    }
}

static int arm_apply(struct core *core, const struct fact_arm *f)
{
    if (f->sweep >= core->sweeps_len || f->pool >= core->pools_len || f->id > core->arms_len ||
        (f->verifier != NO_ID && f->verifier >= core->verifiers_len))
        return ERR_CORRUPT;
    if (f->id == core->arms_len)
        return arm_new(core, f);
    struct arm *arm = &core->arms[f->id];
    uint32_t n_old = arm->n;
    if (f->n < arm->n || f->sweep != arm->sweep || f->verifier != arm->verifier || (f->strict != 0) != arm->strict ||
        asks_nothing(f) != arm->existing || !same(f->prior, arm->prior))
        return ERR_CORRUPT;
    int rc = arm_read(f, arm);
    if (rc == 0)
        arm_extend(core, arm, n_old);
    return rc;
}

/* Some beliefs, all of which can be. */
static bool beliefs_valid(struct slice beliefs)
{
    float belief[2];
    if (beliefs.len == 0 || beliefs.len % sizeof belief != 0 || beliefs.len > PRIOR_CHUNK * sizeof belief)
        return false;
    for (size_t at = 0; at < beliefs.len; at += sizeof belief) {
        memcpy(belief, beliefs.data + at, sizeof belief);
        for (int i = 0; i < 2; i++)
            if (!(belief[i] >= BELIEF_MIN && belief[i] <= BELIEF_MAX))
                return false; /* NaN too */
    }
    return true;
}

/* In the order of prompts, each once. */
static int prior_apply(struct core *core, const struct fact_prior *f)
{
    if (f->arm >= core->arms_len || !beliefs_valid(f->beliefs))
        return ERR_CORRUPT;
    struct arm *arm = &core->arms[f->arm];
    uint32_t len = (uint32_t)(f->beliefs.len / sizeof *arm->beliefs);
    if (arm->beliefs == NULL || f->from != arm->beliefs_len || len > arm->prompts - arm->beliefs_len)
        return ERR_CORRUPT;
    memcpy(arm->beliefs[f->from], f->beliefs.data, f->beliefs.len);
    arm->beliefs_len += len;
    return 0;
}

static void release_stock(struct core *core, const struct arm *payer, const struct stock *stock)
{
    for (uint32_t k = 0; k < stock->issued; k++)
        if (stock->rows[k].payer == payer->id)
            promise_release(core, &stock->rows[k]);
}

/* A finished sweep verifies nothing more: verdicts that were promised and never asked for are free again. */
static void release_promises(struct core *core, const struct sweep *sweep)
{
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        const struct arm *arm = &core->arms[sweep->arms[i]];
        for (uint32_t p = 0; arm->verifier != NO_ID && p < arm->prompts; p++) {
            for (uint32_t leg = 0; arm->trees == 0 && leg < arm->schedule.legs; leg++)
                release_stock(core, arm, &core->pools[arm->pools[leg]].stocks[p]);
            const struct cell *cell = &arm->cells[p];
            for (uint32_t t = 0; cell->trees != NULL && t < arm->trees; t++)
                for (uint32_t n = 0; n < cell->trees[t].nodes_len; n++)
                    promise_release(core, &cell->trees[t].nodes[n]);
        }
    }
}

static int state_apply(struct core *core, const struct fact_state *f)
{
    if (f->sweep >= core->sweeps_len || f->state > SWEEP_REPLACED)
        return ERR_CORRUPT;
    struct sweep *sweep = &core->sweeps[f->sweep];
    sweep->state = f->state;
    free(sweep->reason);
    sweep->reason = text_of(f->reason);
    if (f->state == SWEEP_DONE || f->state == SWEEP_CANCELLED)
        release_promises(core, sweep);
    return 0;
}

int define_apply(struct core *core, const struct fact *fact)
{
    switch ((int)fact->type) {
    case FACT_set:
        return set_apply(core, &fact->set);
    case FACT_prompt:
        return prompt_apply(core, &fact->prompt);
    case FACT_attachment:
        return attachment_apply(core, &fact->attachment);
    case FACT_model:
        return model_apply(core, &fact->model);
    case FACT_verifier:
        return verifier_apply(core, &fact->verifier);
    case FACT_pool:
        return pool_apply(core, &fact->pool);
    case FACT_sweep:
        return sweep_apply(core, &fact->sweep);
    case FACT_arm:
        return arm_apply(core, &fact->arm);
    case FACT_prior:
        return prior_apply(core, &fact->prior);
    case FACT_state:
        return state_apply(core, &fact->state);
    }
    return ERR_CORRUPT;
}

struct belief arm_belief(const struct arm *arm, uint32_t prompt)
{
    if (arm->beliefs == NULL)
        return (struct belief){0, 0};
    return (struct belief){(double)arm->beliefs[prompt][0], (double)arm->beliefs[prompt][1]};
}

void arm_free(struct arm *arm)
{
    for (uint32_t p = 0; p < arm->prompts; p++) {
        struct cell *cell = &arm->cells[p];
        trees_free(arm, cell);
        if (cell->stats != NULL)
            stats_clear(cell->stats);
        free(cell->stats);
    }
    free(arm->cells);
    free(arm->heap);
    free(arm->gains);
    free(arm->fifo.at);
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++)
        free(arm->legs[leg].ready.at);
    free(arm->legs);
    free(arm->report_at);
    free(arm->name);
    free(arm->prior);
    free(arm->bin.of);
    free(arm->beliefs);
}

/* -- submission --------------------------------------------------------------------------------------------------- */

enum { POOLS_MAX = LIMIT_MODELS + LIMIT_ARMS }; /* one of each model, and one for each rule that ends rollouts */

/* Ids of a submission, which counts its definitions from 0, as ids of the core. */
struct mapping {
    uint32_t set, sweep;
    uint32_t replaced; /* sweep of the same name of which nothing was kept, NO_ID: none */
    uint32_t models[LIMIT_MODELS], verifiers[LIMIT_VERIFIERS], pools[POOLS_MAX];
    uint64_t pool_prints[POOLS_MAX], verifier_prints[LIMIT_VERIFIERS];
    uint32_t prompts, models_len, verifiers_len, pools_len, sets_len, sweeps_len, arms_len; /* seen so far */
    uint32_t prompts_due, prompt_bytes; /* prompt_bytes: of the longest, without attachments */
    struct demand models_demand[LIMIT_MODELS];
    uint64_t prices[LIMIT_MODELS][2]; /* of a token in and out */
    uint32_t pool_models[POOLS_MAX];
    bool verifier_groups[LIMIT_VERIFIERS];
    uint32_t beliefs, beliefs_due; /* of the arm that was seen last */
    uint32_t arm_new;              /* id in the core of the arm that was emitted last, if it is new there; else NO_ID */
    uint64_t names[LIMIT_ARMS];    /* hashes of the names of its arms */
    uint32_t namesakes[LIMIT_ARMS]; /* n of trees, which may share a name; 0: no other arm has it */
    uint64_t pilots[LIMIT_ARMS];    /* hashes of the arms of bins whose pilots were seen */
    uint32_t pilots_len;
};

static uint32_t find_set(const struct core *core, const struct fact_set *f)
{
    for (uint32_t i = 0; i < core->sets_len; i++)
        if (core->sets[i].digest == f->digest && core->sets[i].len == f->len &&
            same(f->group_by, core->sets[i].group_by))
            return i;
    return NO_ID;
}

static uint32_t find_sweep(const struct core *core, struct slice name)
{
    for (uint32_t i = 0; i < core->sweeps_len; i++)
        if (core->sweeps[i].state != SWEEP_REPLACED && same(name, core->sweeps[i].name))
            return i;
    return NO_ID;
}

#define FIND_BY_PRINT(what)                                                    \
    static uint32_t find_##what(const struct core *core, uint64_t fingerprint) \
    {                                                                          \
        for (uint32_t i = 0; i < core->what##s_len; i++)                       \
            if (core->what##s[i].fingerprint == fingerprint)                   \
                return i;                                                      \
        return NO_ID;                                                          \
    }
FIND_BY_PRINT(model)
FIND_BY_PRINT(verifier)
FIND_BY_PRINT(pool)

static uint32_t find_arm(const struct core *core, uint32_t sweep, const struct fact_arm *f)
{
    if (sweep == NO_ID)
        return NO_ID;
    for (uint32_t i = 0; i < core->sweeps[sweep].arms_len; i++) {
        const struct arm *arm = &core->arms[core->sweeps[sweep].arms[i]];
        if (same(f->name, arm->name) && (arm->trees == 0 || arm->bin.number > 0 || arm->n == f->n))
            return arm->id;
    }
    return NO_ID;
}

static const char *const changed_words[4] = {
    "strategy (its rules are others in this release)",
    "allocator (its rules are others in this release)",
    "stopper (its rules are others in this release)",
    "selector (its rules are others in this release)",
};

/* What of an arm may not change under its name; NULL when nothing did. n may grow; a smaller one is there already. */
static const char *arm_difference(const struct core *core, const struct arm *arm, const struct fact_arm *f,
                                  const struct mapping *map)
{
    double options[4][POLICY_OPTIONS_MAX];
    if (!options_read(f->options, options))
        return "options";
    static const char *const words[4] = {"strategy", "allocate", "stop", "select"};
    const char *old[4] = {arm->strategy->name, arm->allocator->name, arm->stopper->name, arm->selector->name};
    const struct slice new[4] = {f->strategy, f->allocator, f->stopper, f->selector};
    for (int i = 0; i < 4; i++)
        if (!same(new[i], old[i]) || memcmp(options[i], arm->options[i], sizeof options[i]) != 0)
            return words[i];
    if (!bin_same(f, arm))
        return "table of bins (its edges, what they go by, or its pilot)";
    if (arm->trees > 0 && arm->n != f->n)
        return "n (its trees are grown for it)";
    const uint32_t versions[4] = {f->strategy_version, f->allocator_version, f->stopper_version, f->selector_version};
    for (int i = 0; i < 4; i++)
        if (versions[i] != arm->versions[i])
            return changed_words[i];
    struct arm now = {.strategy = arm->strategy};
    if (!arm_legs(f, &now) || !schedule_equal(&now.schedule, &arm->schedule))
        return "number of models, or order in which it draws from them";
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++)
        if (core->pools[arm->pools[leg]].fingerprint != map->pool_prints[now.pools[leg]])
            return "pool (its prompts, model, sampling, template, answer extractor or the seed)";
    if ((arm->verifier == NO_ID) != (f->verifier == NO_ID) ||
        (arm->verifier != NO_ID && core->verifiers[arm->verifier].fingerprint != map->verifier_prints[f->verifier]))
        return "verifier";
    if (arm->verifier != NO_ID && core->verifiers[arm->verifier].group && arm->n != f->n)
        return "n (its verifier compares all n rollouts of a prompt)";
    if (arm->existing != asks_nothing(f))
        return "rollouts";
    if (arm->answering.abstains != (f->abstains != 0) || arm->answering.abstain != f->abstain)
        return "abstain";
    if (arm->strict != (f->strict != 0) || (arm->strict && arm->lookahead != f->lookahead))
        return "order";
    if (!same(f->prior, arm->prior))
        return "prior (its source, what a file says, or its strength)";
    return NULL;
}

/* The arm that stood under the name of this arm of bins, or the bins that stood under this arm's: NULL for none. */
static const struct arm *namesake(const struct core *core, uint32_t sweep, const struct fact_arm *f)
{
    for (uint32_t i = 0; sweep != NO_ID && i < core->sweeps[sweep].arms_len; i++) {
        const struct arm *arm = &core->arms[core->sweeps[sweep].arms[i]];
        bool part = arm->bin.of[0] != '\0';
        if ((f->of.len > 0 && same(f->of, arm->name)) || (part && same(f->name, arm->bin.of)))
            return arm;
    }
    return NULL;
}

static int check_sweep(const struct core *core, struct update *update, const struct fact_sweep *f,
                       const struct mapping *map)
{
    if (map->sweep == NO_ID)
        return core->sweeps_len < LIMIT_SWEEPS
                   ? 0
                   : error_set(&update->error, ERR_LIMIT,
                               "this state folder holds %u sweeps, the most there may be: use another with --state",
                               core->sweeps_len);
    const struct sweep *sweep = &core->sweeps[map->sweep];
    const char *differs = NULL;
    if (sweep->seed != f->seed)
        differs = "seed";
    else if (map->set == NO_ID || sweep->set != map->set)
        differs = "prompts or group_by";
    else if ((sweep->truth == NO_ID) != (f->truth == NO_ID) ||
             (f->truth != NO_ID && core->verifiers[sweep->truth].fingerprint != map->verifier_prints[f->truth]))
        differs = "truth";
    if (differs == NULL)
        return 0;
    return error_set(&update->error, ERR_CONFLICT,
                     "sweep '%s' is already here with another %s: give the changed sweep a new name, or use another "
                     "state folder (arms may be added, and n and budgets may grow, under the same name)",
                     sweep->name, differs);
}

/* The arm of the same pool that has a verifier of groups judge other groups: their verdicts would be mixed. */
static const struct arm *other_groups(const struct core *core, const struct fact_arm *f, const struct mapping *map)
{
    uint32_t pool_id = map->pools[f->pool], verifier = f->verifier == NO_ID ? NO_ID : map->verifiers[f->verifier];
    if (pool_id == NO_ID || verifier == NO_ID || !core->verifiers[verifier].group)
        return NULL;
    const struct pool *pool = &core->pools[pool_id];
    for (uint32_t i = 0; i < pool->arms_len; i++) {
        const struct arm *arm = &core->arms[pool->arms[i]];
        bool alike = arm->n == f->n && arm->existing == asks_nothing(f);
        if (arm->verifier == verifier && !alike && core->sweeps[arm->sweep].state != SWEEP_REPLACED)
            return arm;
    }
    return NULL;
}

/* As legs_match, of a submission: every pool another, over its prompts, and no verifier of groups. */
static bool legs_fit(const struct core *core, const struct arm *arm, const struct fact_arm *f,
                     const struct mapping *map)
{
    for (uint32_t i = 0; arm->schedule.legs > 1 && i < arm->schedule.legs; i++) {
        uint32_t known = map->pools[arm->pools[i]];
        if (known != NO_ID && core->pools[known].set != map->set)
            return false;
        for (uint32_t j = 0; j < i; j++)
            if (map->pool_prints[arm->pools[i]] == map->pool_prints[arm->pools[j]])
                return false;
    }
    return arm->schedule.legs == 1 || f->verifier == NO_ID || !map->verifier_groups[f->verifier];
}

static int check_arm(const struct core *core, struct update *update, const struct fact_arm *f,
                     const struct mapping *map)
{
    struct arm scratch = {0};
    if (!arm_policies(f, &scratch) || !legs_fit(core, &scratch, f, map))
        return error_set(&update->error, ERR_RANGE, "arm '%.*s' has a policy, an option, models or an n that cannot be",
                         (int)(f->name.len < LIMIT_NAME ? f->name.len : LIMIT_NAME), f->name.data);
    for (uint32_t leg = 0; leg < scratch.schedule.legs; leg++) {
        struct demand demand = map->models_demand[map->pool_models[scratch.pools[leg]]];
        demand.features = features_needed(&scratch);
        int rc = offers_check(core, &demand, f->name, &update->error);
        if (rc != 0)
            return rc;
    }
    uint32_t id = find_arm(core, map->sweep, f);
    const struct arm *other = id == NO_ID ? other_groups(core, f, map) : NULL;
    if (other != NULL)
        return error_set(
            &update->error, ERR_CONFLICT,
            "arm '%s' of sweep '%s' has the same verifier compare %u rollouts of each prompt, and its verdicts "
            "are kept with them: give the verifier another name or version",
            other->name, core->sweeps[other->sweep].name, other->n);
    const struct arm *old = id == NO_ID ? namesake(core, map->sweep, f) : &core->arms[id];
    if (old == NULL)
        return 0;
    const char *name = id == NO_ID && f->of.len == 0 ? old->bin.of : old->name;
    const char *differs = id == NO_ID ? "strategy" : arm_difference(core, old, f, map);
    if (differs == NULL)
        return 0;
    return error_set(&update->error, ERR_CONFLICT,
                     "arm '%s' is already here with another %s: give the changed arm a new name", name, differs);
}

static bool pools_known(const struct fact_arm *f, const struct mapping *map)
{
    if (f->pools.len % sizeof(uint32_t) != 0)
        return false;
    for (size_t at = 0; at < f->pools.len; at += sizeof(uint32_t)) {
        uint32_t pool;
        memcpy(&pool, f->pools.data + at, sizeof pool);
        if (pool >= map->pools_len)
            return false;
    }
    return f->pool < map->pools_len;
}

/* Ids of a submission count from 0, a definition comes before what names it, and there is one sweep over one set. */
static bool in_order(const struct fact *fact, struct mapping *map)
{
    bool whole = map->sets_len == 1 && map->prompts == map->prompts_due;
    switch ((int)fact->type) {
    case FACT_set:
        map->prompts_due = fact->set.len;
        return map->sets_len++ == 0 && fact->set.id == 0 && fact->set.len <= LIMIT_PROMPTS;
    case FACT_prompt:
        return map->sets_len == 1 && fact->prompt.set == 0 && map->prompts++ < map->prompts_due &&
               fact->prompt.attached <= fact->prompt.bytes;
    case FACT_attachment:
        return map->sets_len == 1;
    case FACT_model:
        return fact->model.id == map->models_len && map->models_len++ < LIMIT_MODELS;
    case FACT_verifier:
        return fact->verifier.id == map->verifiers_len && map->verifiers_len++ < LIMIT_VERIFIERS;
    case FACT_pool:
        return whole && fact->pool.id == map->pools_len && fact->pool.model < map->models_len &&
               map->pools_len++ < POOLS_MAX;
    case FACT_sweep:
        return whole && map->sweeps_len++ == 0 &&
               (fact->sweep.truth == NO_ID || fact->sweep.truth < map->verifiers_len);
    case FACT_prior:
        return map->arms_len > 0 && fact->prior.arm == map->arms_len - 1 && fact->prior.from == map->beliefs &&
               beliefs_valid(fact->prior.beliefs) &&
               (map->beliefs += (uint32_t)(fact->prior.beliefs.len / (2 * sizeof(float)))) <= map->beliefs_due;
    case FACT_arm:
        if (map->beliefs != map->beliefs_due)
            return false;
        map->beliefs = 0;
        map->beliefs_due = fact->arm.prior.len > 0 ? map->prompts : 0;
        return map->sweeps_len == 1 && pools_known(&fact->arm, map) && map->arms_len < LIMIT_ARMS &&
               (fact->arm.verifier == NO_ID || fact->arm.verifier < map->verifiers_len);
    }
    return false;
}

/* Two arms of one name would become one. */
static bool name_taken(struct mapping *map, const struct fact_arm *f)
{
    if (f->name.len > LIMIT_NAME)
        return true;
    uint64_t hash = slice_hash(f->name);
    uint32_t n = same(f->strategy, "sample") || f->bin > 0 ? 0 : f->n;
    for (uint32_t i = 0; i < map->arms_len; i++)
        if (map->names[i] == hash && (n == 0 || map->namesakes[i] == 0 || map->namesakes[i] == n))
            return true;
    map->namesakes[map->arms_len] = n;
    map->names[map->arms_len++] = hash;
    return false;
}

/* An arm of bins has one pilot, which stands ahead of its bins. */
static bool bin_in_order(struct mapping *map, const struct fact_arm *f)
{
    uint64_t hash = slice_hash(f->of);
    bool seen = false;
    for (uint32_t i = 0; i < map->pilots_len; i++)
        seen = seen || map->pilots[i] == hash;
    if (f->of.len == 0 || (f->bin > 0 && f->by == BY_PRIOR))
        return true;
    if (f->bin == 0 && !seen)
        map->pilots[map->pilots_len++] = hash;
    return (f->bin > 0) == seen;
}

/* Rollouts that are there were paid at their model's price. At another one neither a budget in money nor a report would
 * count what they say. */
static bool price_differs(struct core *core, const struct mapping *map, const struct fact_pool *f)
{
    uint32_t pool = map->pools[f->id];
    if (pool == NO_ID)
        return false;
    const struct model *model = &core->models[core->pools[pool].model];
    const uint64_t *price = map->prices[f->model];
    if (model->price_in == price[0] && model->price_out == price[1])
        return false;
    error_set(
        &core->update->error, ERR_CONFLICT,
        "rollouts of model '%s' are here already, at a price of %g in and %g out, and now it is %g and %g: say the "
        "same price, or take another state folder",
        model->name, (double)model->price_in / 1e6, (double)model->price_out / 1e6, (double)price[0] / 1e6,
        (double)price[1] / 1e6);
    return true;
}

static int submit_look(struct core *core, const struct fact *fact, struct mapping *map)
{
    switch ((int)fact->type) {
    case FACT_set:
        map->set = find_set(core, &fact->set);
        return 0;
    case FACT_prompt:
        if (fact->prompt.bytes - fact->prompt.attached > map->prompt_bytes)
            map->prompt_bytes = fact->prompt.bytes - fact->prompt.attached;
        return 0;
    case FACT_model:
        map->models[fact->model.id] = find_model(core, fact->model.fingerprint);
        map->prices[fact->model.id][0] = fact->model.price_in;
        map->prices[fact->model.id][1] = fact->model.price_out;
        map->models_demand[fact->model.id] =
            (struct demand){.kind = core_kind(core, false, fact->model.backend),
                            .model = fact->model.offer,
                            .context = context_needed(map->prompt_bytes, fact->model.max_tokens)};
        return 0;
    case FACT_verifier:
        map->verifiers[fact->verifier.id] = find_verifier(core, fact->verifier.fingerprint);
        map->verifier_prints[fact->verifier.id] = fact->verifier.fingerprint;
        map->verifier_groups[fact->verifier.id] = fact->verifier.group != 0;
        return 0;
    case FACT_pool:
        map->pools[fact->pool.id] = find_pool(core, fact->pool.fingerprint);
        if (price_differs(core, map, &fact->pool))
            return ERR_CONFLICT;
        map->pool_models[fact->pool.id] = fact->pool.model;
        map->pool_prints[fact->pool.id] = fact->pool.fingerprint;
        return 0;
    case FACT_sweep:
        map->sweep = map->replaced != NO_ID ? NO_ID : find_sweep(core, fact->sweep.name);
        return check_sweep(core, core->update, &fact->sweep, map);
    case FACT_arm:
        if (name_taken(map, &fact->arm))
            return error_set(&core->update->error, ERR_CONFLICT, "two arms of one name, or a name too long");
        if (!bin_in_order(map, &fact->arm))
            return error_set(&core->update->error, ERR_PROTOCOL, "the submission is malformed");
        return check_arm(core, core->update, &fact->arm, map);
    }
    return 0;
}

/* First pass: find what is known, refuse what may not change. Nothing is emitted yet. */
static int submit_check(struct core *core, struct slice definitions, struct mapping *map)
{
    struct fact fact;
    int rc = 0;
    for (size_t at = 0; at < definitions.len && rc == 0;) {
        rc = fact_get(definitions, &at, &fact);
        if (rc != 0 || !in_order(&fact, map))
            return error_set(&core->update->error, ERR_PROTOCOL, "the submission is malformed");
        rc = submit_look(core, &fact, map);
    }
    if (rc == 0 && map->beliefs != map->beliefs_due)
        return error_set(&core->update->error, ERR_PROTOCOL, "the submission is malformed");
    if (rc == 0 && map->sweeps_len == 0)
        rc = error_set(&core->update->error, ERR_PROTOCOL, "the submission names no sweep");
    return rc;
}

static bool moved(struct slice spec, struct slice now)
{
    return spec.len != now.len || (now.len > 0 && memcmp(spec.data, now.data, now.len) != 0);
}

/* A known model or verifier stays as it is but for where its servers are, which only its spec says. */
static bool submit_model(struct core *core, struct fact *fact, uint32_t *id)
{
    if (*id == NO_ID) {
        fact->model.id = *id = core->models_len;
        return true;
    }
    struct fact new = model_fact(core, *id);
    bool changed = moved(new.model.spec, fact->model.spec);
    new.model.spec = fact->model.spec;
    new.model.offer = fact->model.offer;
    *fact = new;
    return changed;
}

static bool submit_verifier(struct core *core, struct fact *fact, uint32_t *id)
{
    if (*id == NO_ID) {
        fact->verifier.id = *id = core->verifiers_len;
        return true;
    }
    struct fact new = verifier_fact(core, *id);
    bool changed = moved(new.verifier.spec, fact->verifier.spec);
    new.verifier.spec = fact->verifier.spec;
    *fact = new;
    return changed;
}

/* True when the fact is to be written; it has its id in the core then. */
static bool submit_number(struct core *core, struct fact *fact, struct mapping *map, bool *new_set)
{
    switch ((int)fact->type) {
    case FACT_set:
        *new_set = map->set == NO_ID;
        if (*new_set)
            map->set = core->sets_len;
        fact->set.id = map->set;
        return *new_set;
    case FACT_prompt:
        fact->prompt.set = map->set;
        return *new_set;
    case FACT_attachment:
        return *new_set &&
               attachment_of(core, (struct attachment_id){fact->attachment.high, fact->attachment.low}) == NULL;
    case FACT_model:
        return submit_model(core, fact, &map->models[fact->model.id]);
    case FACT_verifier:
        return submit_verifier(core, fact, &map->verifiers[fact->verifier.id]);
    case FACT_pool: {
        uint32_t *id = &map->pools[fact->pool.id];
        bool new = *id == NO_ID;
        fact->pool.id = *id = new ? core->pools_len : *id;
        fact->pool.set = map->set;
        fact->pool.model = map->models[fact->pool.model];
        return new;
    }
    }
    return false;
}

/* A cap below what is spent buys nothing more, and undoes nothing: it is that much. */
static uint64_t at_least(uint64_t cap, uint64_t used)
{
    return cap > 0 && cap < used ? used : cap;
}

/* Definitions that stand already are not written again. True when it was. */
static bool emit_changed(struct core *core, const struct fact *now, const struct fact *old)
{
    struct buf a = {0}, b = {0};
    fact_put(&a, now);
    fact_put(&b, old);
    bool changed = a.len != b.len || memcmp(a.data, b.data, a.len) != 0;
    buf_clear(&a);
    buf_clear(&b);
    if (changed)
        emit(core, now);
    return changed;
}

static bool submit_sweep(struct core *core, const struct event *event, struct fact *fact, struct mapping *map)
{
    bool new = map->sweep == NO_ID;
    if (new)
        map->sweep = core->sweeps_len;
    fact->sweep.id = map->sweep;
    fact->sweep.set = map->set;
    fact->sweep.started_s = new ? (uint64_t)event->unix_s : core->sweeps[map->sweep].started_s;
    if (fact->sweep.truth != NO_ID)
        fact->sweep.truth = map->verifiers[fact->sweep.truth];
    if (!new) {
        const struct sweep *sweep = &core->sweeps[map->sweep];
        struct fact old = sweep_fact(core, map->sweep);
        struct amounts used = fact->sweep.accepted ? sweep->accepted : sweep_burned(sweep);
        amounts_add(&used, &sweep->reserved);
        fact->sweep.rollouts = at_least(fact->sweep.rollouts, used.rollouts);
        fact->sweep.tokens = at_least(fact->sweep.tokens, used.tokens);
        fact->sweep.slot_ms = at_least(fact->sweep.slot_ms, used.slot_ms);
        fact->sweep.cost = at_least(fact->sweep.cost, used.cost);
        return emit_changed(core, fact, &old);
    }
    emit(core, fact);
    return true;
}

static bool submit_arm(struct core *core, struct fact *fact, struct mapping *map)
{
    uint32_t id = find_arm(core, map->sweep, &fact->arm);
    map->arm_new = id == NO_ID ? core->arms_len : NO_ID;
    fact->arm.id = id == NO_ID ? core->arms_len : id;
    fact->arm.sweep = map->sweep;
    fact->arm.pool = map->pools[fact->arm.pool];
    uint32_t pools[LIMIT_LEGS];
    for (size_t i = 0; i < fact->arm.pools.len / sizeof *pools; i++) {
        uint32_t local;
        memcpy(&local, fact->arm.pools.data + i * sizeof local, sizeof local);
        pools[i] = map->pools[local];
    }
    fact->arm.pools.data = (const char *)pools;
    if (fact->arm.verifier != NO_ID)
        fact->arm.verifier = map->verifiers[fact->arm.verifier];
    if (id != NO_ID) {
        const struct arm *arm = &core->arms[id];
        struct fact old = arm_fact(core, id);
        struct amounts used = arm->charged;
        amounts_add(&used, &arm->reserved);
        fact->arm.n = fact->arm.n < arm->n ? arm->n : fact->arm.n;
        fact->arm.rollouts = at_least(fact->arm.rollouts, used.rollouts);
        fact->arm.tokens = at_least(fact->arm.tokens, used.tokens);
        fact->arm.slot_ms = at_least(fact->arm.slot_ms, used.slot_ms);
        fact->arm.cost = at_least(fact->arm.cost, used.cost);
        if (!arm->existing)
            return emit_changed(core, fact, &old);
        uint32_t decided = arm->decided; /* what exists may be more than when it was submitted last */
        emit(core, fact);
        return core->arms[id].decided != decided;
    }
    emit(core, fact);
    return true;
}

/* An arm keeps the beliefs that it began with: where they come from may have grown since. */
static void submit_prior(struct core *core, struct fact *fact, const struct mapping *map)
{
    if (map->arm_new == NO_ID)
        return;
    fact->prior.arm = map->arm_new;
    emit(core, fact);
}

/* Nothing of it was kept, and no arm used what others had bought: a first try with a mistake in it, say. */
static bool worthless(const struct core *core, uint32_t id)
{
    const struct sweep *sweep = &core->sweeps[id];
    for (uint32_t i = 0; i < sweep->arms_len; i++)
        if (core->arms[sweep->arms[i]].charged.rollouts > 0)
            return false;
    return sweep->accepted.rollouts == 0 && sweep->accepted.tokens == 0 && sweep->verdicts == 0;
}

/* As submit_check; but a name under which nothing was kept does not bind whoever uses it again. */
static int submit_examine(struct core *core, struct slice definitions, struct mapping *map)
{
    *map = (struct mapping){.set = NO_ID, .sweep = NO_ID, .replaced = NO_ID};
    int rc = submit_check(core, definitions, map);
    if (rc != ERR_CONFLICT || map->sweep == NO_ID || !worthless(core, map->sweep))
        return rc;
    *map = (struct mapping){.set = NO_ID, .sweep = NO_ID, .replaced = map->sweep};
    return submit_check(core, definitions, map);
}

void submit(struct core *core, const struct event *event)
{
    struct mapping *map = xalloc(sizeof *map);
    bool new_set = false, changed = false;
    struct update *update = core->update;
    update->code = submit_examine(core, event->submit.definitions, map);
    if (event->submit.examine) {
        free(map);
        return;
    }
    if (update->code == 0 && map->replaced != NO_ID)
        emit(core, &(struct fact){.type = FACT_state, .state = {.sweep = map->replaced, .state = SWEEP_REPLACED}});
    struct fact fact;
    for (size_t at = 0; update->code == 0 && at < event->submit.definitions.len;) {
        int rc = fact_get(event->submit.definitions, &at, &fact);
        assert(rc == 0); /* the first pass read the same bytes */
        if (fact.type == FACT_sweep)
            changed |= submit_sweep(core, event, &fact, map);
        else if (fact.type == FACT_arm)
            changed |= submit_arm(core, &fact, map);
        else if (fact.type == FACT_prior)
            submit_prior(core, &fact, map);
        else if (submit_number(core, &fact, map, &new_set))
            emit(core, &fact);
    }
    /* Whoever submits a sweep wants it to run; a finished one has nothing to do unless it was extended. */
    if (update->code == 0) {
        uint8_t state = core->sweeps[map->sweep].state;
        if (state != SWEEP_RUNNING && (changed || state != SWEEP_DONE))
            emit(core, &(struct fact){.type = FACT_state, .state = {.sweep = map->sweep, .state = SWEEP_RUNNING}});
    }
    update->sweep = map->sweep;
    update->used = new_set;
    free(map);
}
