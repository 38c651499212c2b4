/* strategy_dvts.c - diverse verifier tree search: N/M independent trees, each greedy.
 *
 * Beeching et al. 2024, "Scaling test-time compute with open models" (the released code's form).
 * One level of one tree is M candidates; the best by score is continued. Trees share nothing, so
 * the only barrier is M wide, and the result cannot depend on the order in which trees make
 * progress. */
#include "broker/policy/policy.h"
#include "common/limits.h"

#include <assert.h>

enum { OPT_WIDTH, OPT_MAX_STEPS };

static const struct option_row options[] = {
    [OPT_WIDTH] = {.name = "width",
                   .type = OPTION_INT,
                   .min = 1,
                   .max = LIMIT_TREE_N,
                   .fallback = 4,
                   .help = "candidates for each step of a tree; n must be a multiple of it"},
    [OPT_MAX_STEPS] = {.name = "max_steps",
                       .type = OPTION_INT,
                       .min = 1,
                       .max = LIMIT_TREE_DEPTH,
                       .fallback = 40,
                       .help = "most steps of a path"},
    {.name = NULL},
};

static uint32_t dvts_trees(uint32_t n, const double *values)
{
    uint32_t width = (uint32_t)values[OPT_WIDTH];
    return n % width == 0 ? n / width : 0;
}

/* Everything that matters is in the nodes: the last M are the current level. */
static size_t dvts_record_size(uint32_t n, const double *values)
{
    (void)n;
    (void)values;
    return 0;
}

/* A scored node comes before one without a score, and that before one that failed. */
static int node_class(const struct node_view *node)
{
    if (node->finish == FINISH_FAILED)
        return 0;
    return node->scored ? 2 : 1;
}

static bool node_better(const struct node_view *a, const struct node_view *b)
{
    if (node_class(a) != node_class(b))
        return node_class(a) > node_class(b);
    return node_class(a) == 2 && a->score > b->score;
}

/* Largest score of the level; the lowest node wins a tie. */
static uint32_t level_best(const struct tree_view *view, uint32_t first)
{
    uint32_t best = first;
    for (uint32_t i = first + 1; i < view->nodes_len; i++)
        if (node_better(&view->nodes[i], &view->nodes[best]))
            best = i;
    return best;
}

static void spawn(struct plan *plan, uint32_t parent, uint32_t width)
{
    assert(width <= plan->cap);
    for (uint32_t i = 0; i < width; i++)
        plan->parents[i] = parent;
    plan->parents_len = width;
}

static void dvts_plan(const struct tree_view *view, struct plan *plan)
{
    uint32_t width = (uint32_t)view->options[OPT_WIDTH];
    plan->parents_len = plan->finals_len = 0;
    if (view->nodes_len < width) { /* none, if the journal is not damaged */
        spawn(plan, NO_ORDINAL, width);
        return;
    }
    uint32_t first = view->nodes_len - width;
    uint32_t best = level_best(view, first);
    const struct node_view *node = &view->nodes[best];
    if (node->finish == FINISH_STEP && node->depth < (uint32_t)view->options[OPT_MAX_STEPS]) {
        spawn(plan, best, width);
        return;
    }
    /* All M candidates of the last level are the tree's rollouts, so N answers enter the vote. */
    assert(width <= plan->cap);
    for (uint32_t i = 0; i < width; i++)
        plan->finals[i] = first + i;
    plan->finals_len = width;
}

const struct strategy strategy_dvts = {
    .name = "dvts",
    .help = "n/width independent trees; each continues its best-scored candidate step by step",
    .version = 1,
    .needs = NEED_VERIFIER | NEED_STEPS,
    .min_n = 1,
    .options = options,
    .trees = dvts_trees,
    .record_size = dvts_record_size,
    .plan = dvts_plan,
};
