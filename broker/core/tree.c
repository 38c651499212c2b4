/* tree.c - search arms: trees of nodes, planned by a strategy whenever all nodes of one tree are settled.
 *
 * Barriers are per tree, never global, and a plan sees its tree only when nothing of it is open, so node numbers, seeds
 * and decisions do not depend on the order in which siblings arrive. */
#include "broker/core/core_int.h"
#include "common/limits.h"
#include "common/rng.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void trees_free(const struct arm *arm, struct cell *cell)
{
    if (cell->trees == NULL)
        return;
    for (uint32_t t = 0; t < arm->trees; t++) {
        struct tree *tree = &cell->trees[t];
        for (uint32_t n = 0; n < tree->nodes_len; n++)
            row_clear(&tree->nodes[n]);
        free(tree->nodes);
        free(tree->views);
        free(tree->scores);
        free(tree->homes);
        free(tree->record);
        free(tree->finals);
    }
    free(cell->trees);
    cell->trees = NULL;
}

static struct tree *tree_of(const struct core *core, uint32_t arm_id, uint32_t prompt, uint32_t tree)
{
    if (arm_id >= core->arms_len)
        return NULL;
    const struct arm *arm = &core->arms[arm_id];
    if (prompt >= arm->prompts || tree >= arm->trees || arm->cells[prompt].trees == NULL ||
        arm->cells[prompt].decided != DECIDED_NOT)
        return NULL;
    return &arm->cells[prompt].trees[tree];
}

static void tree_grow(struct tree *tree, uint32_t len)
{
    if (len <= tree->nodes_cap)
        return;
    uint32_t cap = tree->nodes_cap < 8 ? 8 : tree->nodes_cap;
    while (cap < len)
        cap *= 2;
    tree->nodes = xrealloc(tree->nodes, cap * sizeof *tree->nodes);
    tree->views = xrealloc(tree->views, cap * sizeof *tree->views);
    tree->scores = xrealloc(tree->scores, 2 * cap * sizeof *tree->scores);
    tree->homes = xrealloc(tree->homes, cap * sizeof *tree->homes);
    tree->nodes_cap = cap;
}

static bool is_judged(const struct arm *arm, const struct node_view *node)
{
    return arm->verifier != NO_ID && node->extent != EXTENT_THINK;
}

enum charge node_charge(const struct arm *arm, const struct node_view *node)
{
    if (node->parent == NO_ORDINAL)
        return CHARGE_PROMPT;
    return arm->strategy->memory != NULL ? CHARGE_ATTEMPT : CHARGE_STEP;
}

bool node_judged(const struct core *core, const struct key *key)
{
    const struct arm *arm = &core->arms[key->owner];
    return is_judged(arm, &arm->cells[key->prompt].trees[key->tree].views[key->item]);
}

/* What the arm reserves for one node: its generation and its verdict. */
static struct amounts node_unit(const struct core *core, const struct arm *arm, uint32_t prompt,
                                const struct node_view *node)
{
    struct amounts unit = reserve_generate(core, arm->pools[0], prompt, node_charge(arm, node), node->cap);
    if (is_judged(arm, node)) {
        struct amounts verdict = reserve_verify(core, arm->verifier);
        amounts_add(&unit, &verdict);
    }
    return unit;
}

/* What the arm is charged for a node that is settled. */
static struct amounts node_spent(const struct core *core, const struct arm *arm, const struct tree *tree, uint32_t node)
{
    const struct node_view *view = &tree->views[node];
    uint32_t model = core->pools[arm->pools[0]].model;
    struct amounts spent = cost_row(core, model, node_charge(arm, view), &tree->nodes[node]);
    if (is_judged(arm, view) && tree->scores[2 * node].state == SCORE_DONE) {
        struct amounts verdict = cost_verify(core, arm->verifier, 0);
        amounts_add(&spent, &verdict);
    }
    return spent;
}

void tree_spend(const struct core *core, const struct arm *arm, struct tree *tree, uint32_t node)
{
    struct amounts spent = node_spent(core, arm, tree, node);
    amounts_add(&tree->spent, &spent);
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* All that the tree's rollouts may take, less what they took: with what is charged it is the same until the decision. */
static struct amounts tree_holds(const struct core *core, const struct arm *arm, uint32_t prompt,
                                 const struct tree *tree)
{
    struct amounts all = {0};
    const struct amounts *spent = &tree->spent;
    if (arm->strategy->extremes == NULL)
        return all;
    all = arm_unit(core, arm, prompt, arm->pools[0]);
    amounts_times(&all, arm->n / arm->trees);
    return (struct amounts){less(all.rollouts, spent->rollouts), less(all.tokens, spent->tokens),
                            less(all.slot_ms, spent->slot_ms), less(all.cost, spent->cost)};
}

struct amounts trees_hold(const struct core *core, const struct arm *arm, uint32_t prompt)
{
    struct amounts sum = {0};
    for (uint32_t t = 0; arm->cells[prompt].trees != NULL && t < arm->trees; t++) {
        struct amounts holds = tree_holds(core, arm, prompt, &arm->cells[prompt].trees[t]);
        amounts_add(&sum, &holds);
    }
    return sum;
}

bool node_valid(const struct core *core, const struct arm *arm, const struct tree *tree, const struct node_view *node)
{
    bool root = node->parent == NO_ORDINAL, turn = arm->strategy->memory != NULL && !root;
    return (root || node->parent < tree->nodes_len) && node->cap > 0 && node->cap <= pool_most(core, arm->pools[0]) &&
           (unsigned)node->cue < CUES && (unsigned)node->extent < EXTENTS && (node->cue == CUE_REVISE) == turn;
}

void tree_add(struct core *core, struct arm *arm, uint32_t prompt, struct tree *tree, const struct node_view *how)
{
    uint32_t node = tree->nodes_len++, parent = how->parent;
    tree_grow(tree, tree->nodes_len);
    memset(&tree->nodes[node], 0, sizeof tree->nodes[node]);
    memset(&tree->scores[2 * node], 0, 2 * sizeof tree->scores[0]);
    tree->views[node] = (struct node_view){
        .parent = parent,
        .depth = parent == NO_ORDINAL ? 1 : tree->views[parent].depth + 1,
        .cue = how->cue,
        .extent = how->extent,
        .cap = how->cap,
    };
    tree->homes[node] = 0;
    tree->unsettled++;
    if (arm->strategy->extremes != NULL)
        return; /* reserved when the prompt was opened */
    struct amounts unit = node_unit(core, arm, prompt, how);
    amounts_add(&arm->reserved, &unit);
}

/* How child i is asked for. Lists that are empty say what earlier releases meant: steps of max_tokens, without a cue. */
static struct node_view spawned(const struct core *core, const struct arm *arm, const struct fact_spawn *f, size_t i)
{
    struct node_view node = {.cap = pool_most(core, arm->pools[0]), .extent = EXTENT_STEP};
    memcpy(&node.parent, f->parents.data + 4 * i, 4);
    if (f->caps.len > 0)
        memcpy(&node.cap, f->caps.data + 4 * i, 4);
    if (f->cues.len > 0)
        node.cue = (enum cue)(uint8_t)f->cues.data[i];
    if (f->extents.len > 0)
        node.extent = (enum extent)(uint8_t)f->extents.data[i];
    return node;
}

static bool one_of_each(size_t bytes, size_t size, size_t children)
{
    return bytes == 0 || bytes == size * children;
}

int spawn_apply(struct core *core, const struct fact_spawn *f)
{
    struct tree *tree = tree_of(core, f->arm, f->prompt, f->tree);
    size_t children = f->parents.len / 4;
    if (tree == NULL || tree->finished || tree->unsettled > 0 || f->parents.len % 4 != 0 ||
        children > core->arms[f->arm].n || tree->nodes_len + children > NODES_MAX ||
        !one_of_each(f->caps.len, 4, children) || !one_of_each(f->cues.len, 1, children) ||
        !one_of_each(f->extents.len, 1, children))
        return ERR_CORRUPT;
    struct arm *arm = &core->arms[f->arm];
    uint32_t before = tree->nodes_len;
    for (size_t i = 0; i < children; i++) {
        struct node_view node = spawned(core, arm, f, i);
        if (!node_valid(core, arm, tree, &node) || (node.parent != NO_ORDINAL && node.parent >= before))
            return ERR_CORRUPT;
        tree_add(core, arm, f->prompt, tree, &node);
    }
    return 0;
}

int note_apply(struct core *core, const struct fact_note *f)
{
    struct tree *tree = tree_of(core, f->arm, f->prompt, f->tree);
    if (tree == NULL || f->record.len != core->arms[f->arm].record_size)
        return ERR_CORRUPT;
    memcpy(tree->record, f->record.data, f->record.len);
    return 0;
}

int finish_apply(struct core *core, const struct fact_finish *f)
{
    struct tree *tree = tree_of(core, f->arm, f->prompt, f->tree);
    if (tree == NULL || tree->finished || tree->unsettled > 0 || f->finals.len % 4 != 0 ||
        f->finals.len / 4 > LIMIT_TREE_N)
        return ERR_CORRUPT;
    uint32_t *finals = xalloc(f->finals.len);
    if (f->finals.len > 0)
        memcpy(finals, f->finals.data, f->finals.len);
    for (uint32_t i = 0; i < f->finals.len / 4; i++) {
        if (finals[i] >= tree->nodes_len) {
            free(finals);
            return ERR_CORRUPT;
        }
    }
    tree->finals = finals;
    tree->finals_len = (uint32_t)(f->finals.len / 4);
    tree->finished = true;
    return 0;
}

/* In apply: a node has its result and, if the arm wants one, its verdict. The arm is charged for it. */
void tree_settle(struct core *core, struct arm *arm, uint32_t prompt, uint32_t tree_id, uint32_t node)
{
    struct tree *tree = &arm->cells[prompt].trees[tree_id];
    const struct row *row = &tree->nodes[node];
    struct node_view *view = &tree->views[node];
    const struct score *score = &tree->scores[2 * node];
    view->finish = (enum finish)row->finish;
    view->scored = score->state == SCORE_DONE && outcome_known(score->outcome);
    view->score = score->score;
    view->class = row->class;
    view->tokens = row->tokens_out;
    struct amounts spent = node_spent(core, arm, tree, node), unit = node_unit(core, arm, prompt, view),
                   held = tree_holds(core, arm, prompt, tree);
    tree_spend(core, arm, tree, node);
    struct amounts holds = tree_holds(core, arm, prompt, tree);
    amounts_sub(core, &arm->reserved, arm->strategy->extremes == NULL ? &unit : &held);
    amounts_add(&arm->reserved, &holds);
    amounts_add(&arm->charged, &spent);
    arm->verdicts += score->state == SCORE_DONE;
    core->damaged = core->damaged || tree->unsettled == 0;
    tree->unsettled--;
}

/* -- reactions ---------------------------------------------------------------------------------------------------- */

static void tree_tasks(struct core *core, struct arm *arm, uint32_t prompt, uint32_t tree_id)
{
    struct tree *tree = &arm->cells[prompt].trees[tree_id];
    for (uint32_t n = 0; n < tree->nodes_len; n++) {
        struct key key = {TASK_GENERATE, arm->id, prompt, tree_id, n, NO_ID};
        if (tree->nodes[n].state == ROW_NONE) {
            struct task *task = task_want(core, &key, arm->id);
            uint32_t parent = tree->views[n].parent;
            task->home = parent == NO_ORDINAL ? 0 : tree->homes[parent];
        } else if (tree->nodes[n].state == ROW_DONE && is_judged(arm, &tree->views[n]) &&
                   tree->scores[2 * n].state != SCORE_DONE) {
            key.kind = TASK_VERIFY;
            key.verifier = arm->verifier;
            tree->scores[2 * n].state = SCORE_WANTED;
            task_want(core, &key, arm->id);
        }
    }
}

/* Whether no earlier end node of the tree is the same: particles that were drawn twice end in one node. */
static bool first_of(const struct tree *tree, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++)
        if (tree->finals[k] == tree->finals[i])
            return false;
    return true;
}

static void want_final_truth(struct core *core, struct arm *arm, uint32_t prompt)
{
    struct sweep *sweep = &core->sweeps[arm->sweep];
    struct cell *cell = &arm->cells[prompt];
    if (sweep->truth == NO_ID)
        return;
    for (uint32_t t = 0; t < arm->trees; t++) {
        const struct tree *tree = &cell->trees[t];
        for (uint32_t i = 0; i < tree->finals_len; i++) {
            struct key key = {TASK_VERIFY, arm->id, prompt, t, tree->finals[i], sweep->truth};
            struct score *score = key_score(core, &key);
            bool done = tree->nodes[key.item].state == ROW_DONE;
            sweep->judged += done && score->state == SCORE_DONE && first_of(tree, i);
            if (!done || score->state != SCORE_NONE)
                continue; /* failed, known, or wanted by an earlier repeat */
            score->state = SCORE_WANTED;
            cell->truths++;
            sweep->truths++;
            task_want(core, &key, arm->id);
        }
    }
}

static void trees_decide(struct core *core, struct arm *arm, uint32_t prompt)
{
    struct cell *cell = &arm->cells[prompt];
    struct stats stats;
    stats_init(&stats, policies_read_items(arm->allocator, arm->stopper, arm->selector));
    for (uint32_t t = 0; t < arm->trees; t++) {
        for (uint32_t i = 0; i < cell->trees[t].finals_len; i++) {
            const struct tree *tree = &cell->trees[t];
            uint32_t node = tree->finals[i];
            struct item item = row_item(&tree->nodes[node], &tree->scores[2 * node], stats.delivered, 0);
            stats_fold(&stats, &item);
        }
    }
    struct prompt_view view = {.prompt = prompt,
                               .cap = arm->n,
                               .opened = arm->n,
                               .seed = core->sweeps[arm->sweep].seed,
                               .schedule = &arm->schedule,
                               .stats = &stats,
                               .cost = 1,
                               .options = arm->options[3]};
    struct ranking ranking;
    policies_select(arm->selector, &arm->answering, &view, &ranking);
    emit(core, &(struct fact){.type = FACT_decide,
                              .decide = {.arm = arm->id,
                                         .prompt = prompt,
                                         .stop = arm->n,
                                         .winner = ranking.winner,
                                         .confidence = ranking.confidence,
                                         .why = DECIDED_CAP}});
    stats_clear(&stats);
    want_final_truth(core, arm, prompt);
    cell_settle(core, arm, prompt);
    arm_advance(core, arm); /* its own budget may have ended */
}

static struct slice words(const uint32_t *at, uint32_t len)
{
    return (struct slice){(const char *)at, len * sizeof *at};
}

/* A plan that nobody has filled; every child that it will have is a step of max_tokens. */
struct draft {
    uint32_t parents[LIMIT_TREE_N], finals[LIMIT_TREE_N], caps[LIMIT_TREE_N];
    uint8_t cues[LIMIT_TREE_N], extents[LIMIT_TREE_N];
    struct plan plan;
};

static void draft_init(struct draft *draft, const struct arm *arm)
{
    memset(draft->caps, 0, sizeof draft->caps);
    memset(draft->cues, CUE_NONE, sizeof draft->cues);
    memset(draft->extents, EXTENT_STEP, sizeof draft->extents);
    draft->plan = (struct plan){.parents = draft->parents,
                                .caps = draft->caps,
                                .cues = draft->cues,
                                .extents = draft->extents,
                                .finals = draft->finals,
                                .cap = LIMIT_TREE_N,
                                .record = xalloc(arm->record_size)};
}

/* What is the same for steps of earlier releases is left out, so that their journals are what they were. */
static void emit_spawn(struct core *core, const struct arm *arm, struct fact_spawn f, struct draft *draft)
{
    const struct plan *plan = &draft->plan;
    uint32_t most = pool_most(core, arm->pools[0]), len = plan->parents_len;
    bool capped = false, cued = false, stepped = true;
    for (uint32_t i = 0; i < len; i++) {
        draft->caps[i] = draft->caps[i] == 0 || draft->caps[i] > most ? most : draft->caps[i];
        capped = capped || draft->caps[i] != most;
        cued = cued || draft->cues[i] != CUE_NONE;
        stepped = stepped && draft->extents[i] == EXTENT_STEP;
    }
    f.parents = words(draft->parents, len);
    if (capped)
        f.caps = words(draft->caps, len);
    if (cued)
        f.cues = (struct slice){(const char *)draft->cues, len};
    if (!stepped)
        f.extents = (struct slice){(const char *)draft->extents, len};
    emit(core, &(struct fact){.type = FACT_spawn, .spawn = f});
}

/* Asks the strategy what should exist next, and makes it so. */
void tree_plan(struct core *core, struct arm *arm, uint32_t prompt, uint32_t tree_id)
{
    struct tree *tree = &arm->cells[prompt].trees[tree_id];
    struct tree_view view = {
        .prompt = prompt,
        .tree = tree_id,
        .trees = arm->trees,
        .n = arm->n,
        .max_tokens = pool_most(core, arm->pools[0]),
        .nodes_len = tree->nodes_len,
        .nodes = tree->views,
        .record = tree->record,
        .seed = rng_u64(arm->seed, RNG_NODE, prompt, tree_id),
        .options = arm->options[0],
    };
    for (uint32_t i = 0; arm->strategy->features != 0 && i < tree->nodes_len; i++) {
        tree->views[i].have = tree->nodes[i].have;
        tree->views[i].features = tree->nodes[i].features;
    }
    struct draft draft;
    struct plan *plan = &draft.plan;
    draft_init(&draft, arm);
    arm->strategy->plan(&view, plan);
    if (arm->record_size > 0 && memcmp(plan->record, tree->record, arm->record_size) != 0)
        emit(core, &(struct fact){.type = FACT_note,
                                  .note = {.arm = arm->id,
                                           .prompt = prompt,
                                           .tree = tree_id,
                                           .record = {plan->record, arm->record_size}}});
    if (plan->parents_len > 0)
        emit_spawn(core, arm, (struct fact_spawn){.arm = arm->id, .prompt = prompt, .tree = tree_id}, &draft);
    else
        emit(core, &(struct fact){.type = FACT_finish,
                                  .finish = {.arm = arm->id,
                                             .prompt = prompt,
                                             .tree = tree_id,
                                             .finals = words(draft.finals, plan->finals_len)}});
    free(plan->record);
    tree_tasks(core, arm, prompt, tree_id);
    for (uint32_t t = 0; t < arm->trees; t++)
        if (!arm->cells[prompt].trees[t].finished)
            return;
    trees_decide(core, arm, prompt);
}

/* After a start: what waits, what is to be planned, which truths are missing. */
void tree_resume(struct core *core, struct arm *arm, uint32_t prompt)
{
    struct cell *cell = &arm->cells[prompt];
    if (cell->trees == NULL)
        return;
    if (cell->decided != DECIDED_NOT) {
        want_final_truth(core, arm, prompt);
        cell_settle(core, arm, prompt);
        return;
    }
    for (uint32_t t = 0; t < arm->trees && cell->decided == DECIDED_NOT; t++) {
        if (!cell->trees[t].finished && cell->trees[t].unsettled == 0)
            tree_plan(core, arm, prompt, t); /* the last of them decides, and may free all */
        else if (!cell->trees[t].finished)
            tree_tasks(core, arm, prompt, t);
    }
}

void tree_open(struct core *core, struct arm *arm, uint32_t prompt)
{
    for (uint32_t t = 0; t < arm->trees; t++)
        tree_plan(core, arm, prompt, t);
}
