/* strategy_revise.c - turns of self-refinement: attempts that revise earlier ones.
 *
 * Madaan et al. 2023, "Self-Refine"; sequential revisions of Snell et al. 2024; with `width` the context x batch x turn
 * grid of seed 92. A turn is `width` attempts; each of the next turn is shown one attempt of the turns so far, with those
 * that it revised, and an instruction. With one attempt a turn that is a plain chain. With more, it is the best so far by
 * the verifier, so the best never gets worse; without a verifier, the first attempt of the turn's most frequent answer.
 * All attempts are the tree's rollouts, since a right one may be revised to a wrong one: keep the best, not the last. */
#include "broker/policy/policy.h"
#include "common/limits.h"

#include <assert.h>

enum { OPT_TURNS, OPT_WIDTH, OPT_LAST, OPT_MEMORY, OPT_SETTLE };

static const struct option_row options[] = {
    [OPT_TURNS] = {.name = "turns",
                   .type = OPTION_INT,
                   .min = 1,
                   .max = LIMIT_TREE_DEPTH,
                   .fallback = 4,
                   .help = "turns of a tree, the first attempts included; n must be a multiple of turns times width"},
    [OPT_WIDTH] = {.name = "width",
                   .type = OPTION_INT,
                   .min = 1,
                   .max = LIMIT_TREE_N,
                   .fallback = 1,
                   .help = "attempts of a turn"},
    [OPT_LAST] = {.name = "last",
                  .type = OPTION_BOOL,
                  .max = 1,
                  .help = "whether only the attempts of the last turn are rollouts, not all"},
    [OPT_MEMORY] = {.name = "memory",
                    .type = OPTION_INT,
                    .min = 1,
                    .max = LIMIT_TREE_DEPTH,
                    .fallback = 4,
                    .help = "earlier attempts that a revision is shown, at most"},
    [OPT_SETTLE] = {.name = "settle",
                    .type = OPTION_INT,
                    .max = LIMIT_TREE_DEPTH,
                    .help = "a tree ends when its answer did not change for so many turns; 0: never"},
    {.name = NULL},
};

static uint32_t revise_trees(uint32_t n, const double *values)
{
    uint32_t attempts = (uint32_t)values[OPT_TURNS] * (uint32_t)values[OPT_WIDTH];
    return n % attempts == 0 ? n / attempts : 0;
}

/* Everything that matters is in the nodes: the newest are the turn, and their parent is the best before it. */
static size_t revise_record_size(uint32_t n, const double *values)
{
    (void)n;
    (void)values;
    return 0;
}

/* An attempt without an answer never settles. */
static uint32_t revise_needs(const double *values)
{
    return values[OPT_SETTLE] > 0 ? NEED_ANSWER : 0;
}

static uint32_t revise_memory(const double *values)
{
    return (uint32_t)values[OPT_MEMORY];
}

static struct extremes revise_extremes(const double *values, uint32_t max_tokens)
{
    (void)values;
    return (struct extremes){max_tokens, 1};
}

static uint32_t revise_width(const double *values)
{
    return (uint32_t)values[OPT_WIDTH];
}

/* A scored attempt comes before one without a score, and that before one that failed. */
static int rank_of(const struct node_view *node)
{
    if (node->finish == FINISH_FAILED)
        return 0;
    return node->scored ? 2 : 1;
}

static bool is_better(const struct node_view *a, const struct node_view *b)
{
    if (rank_of(a) != rank_of(b))
        return rank_of(a) > rank_of(b);
    return rank_of(a) == 2 && a->score > b->score;
}

static uint32_t votes_for(const struct tree_view *view, uint32_t first, uint64_t class)
{
    uint32_t votes = 0;
    for (uint32_t i = first; class != 0 && i < view->nodes_len; i++)
        votes += view->nodes[i].class == class;
    return votes;
}

/* Of the turn that begins at node `first`: the best by score, else by votes; the lowest node wins a tie. */
static uint32_t turn_best(const struct tree_view *view, uint32_t first)
{
    uint32_t best = first;
    for (uint32_t i = first + 1; i < view->nodes_len; i++) {
        const struct node_view *node = &view->nodes[i], *champion = &view->nodes[best];
        bool voted = rank_of(node) == 1 && rank_of(champion) == 1 &&
                     votes_for(view, first, node->class) > votes_for(view, first, champion->class);
        if (voted || is_better(node, champion))
            best = i;
    }
    return best;
}

/* The attempt that the next turn revises. One of this turn that is as good as the best before it takes its place. */
static uint32_t to_revise(const struct tree_view *view, uint32_t width)
{
    uint32_t first = view->nodes_len - width, best = turn_best(view, first), before = view->nodes[first].parent;
    bool keeps = width > 1 && before != NO_ORDINAL && is_better(&view->nodes[before], &view->nodes[best]);
    return keeps ? before : best;
}

/* Whether the answer of the best attempt stayed the same for so many turns, be it revised or kept. */
static bool settled(const struct tree_view *view, uint32_t best, uint32_t width, uint32_t turns)
{
    uint64_t class = view->nodes[best].class;
    uint32_t same = 0;
    for (uint32_t first = view->nodes_len - width; first >= width && same < turns; first -= width) {
        uint32_t before = view->nodes[first].parent; /* the best when that turn began */
        if (class == 0 || before == NO_ORDINAL || view->nodes[before].class != class)
            return false;
        same++;
    }
    return turns > 0 && same == turns;
}

static void begin_turn(struct plan *plan, uint32_t parent, uint32_t width)
{
    assert(width <= plan->cap);
    for (uint32_t i = 0; i < width; i++) {
        plan->parents[i] = parent;
        plan->cues[i] = parent == NO_ORDINAL ? CUE_NONE : CUE_REVISE;
        plan->extents[i] = EXTENT_WHOLE;
    }
    plan->parents_len = width;
}

static void revise_plan(const struct tree_view *view, struct plan *plan)
{
    uint32_t width = (uint32_t)view->options[OPT_WIDTH], turns = view->nodes_len / width;
    plan->parents_len = plan->finals_len = 0;
    if (turns == 0) {
        begin_turn(plan, NO_ORDINAL, width);
        return;
    }
    uint32_t best = to_revise(view, width);
    bool goes_on = turns < (uint32_t)view->options[OPT_TURNS] && view->nodes[best].finish != FINISH_FAILED;
    if (goes_on && !settled(view, best, width, (uint32_t)view->options[OPT_SETTLE])) {
        begin_turn(plan, best, width);
        return;
    }
    uint32_t from = view->options[OPT_LAST] != 0 ? view->nodes_len - width : 0;
    for (uint32_t i = from; i < view->nodes_len && plan->finals_len < plan->cap; i++)
        plan->finals[plan->finals_len++] = i;
}

const struct strategy strategy_revise = {
    .name = "revise",
    .help = "n attempts in turns: each turn revises one of before",
    .version = 1,
    .needs = NEED_TURNS,
    .needs_by = revise_needs,
    .min_n = 1,
    .options = options,
    .trees = revise_trees,
    .record_size = revise_record_size,
    .plan = revise_plan,
    .memory = revise_memory,
    .width = revise_width,
    .extremes = revise_extremes,
};
