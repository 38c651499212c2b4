/* strategy_budget_forcing.c - chains that are made to think on: s1 and m1.
 *
 * Muennighoff et al. 2025, "s1: Simple test-time scaling"; Huang et al. 2025, "m1" (the released code's form). A chain
 * thinks up to a budget of tokens. Where the model ends its thinking early, the end is dropped, "Wait" is put there, and
 * it goes on with what is left. Then it answers: behind the end of thinking, or, where the budget cut it, behind the
 * final cue too. Chains share nothing, so a tree is one chain, and its barrier is one node. */
#include "broker/policy/policy.h"
#include "common/limits.h"

#include <assert.h>

enum { OPT_THINK, OPT_WAITS, OPT_ANSWER };

static const struct option_row options[] = {
    [OPT_THINK] = {.name = "think",
                   .type = OPTION_INT,
                   .max = LIMIT_MAX_TOKENS,
                   .help = "most tokens of a chain's thinking; 0: the model's max_tokens, which is the most"},
    [OPT_WAITS] = {.name = "waits",
                   .type = OPTION_INT,
                   .max = LIMIT_TREE_DEPTH - 2,
                   .fallback = 1,
                   .help = "how often a chain that ends its thinking early is made to go on"},
    [OPT_ANSWER] = {.name = "answer",
                    .type = OPTION_INT,
                    .min = 1,
                    .max = LIMIT_MAX_TOKENS,
                    .fallback = 1024,
                    .help = "most tokens of its answer; the model's max_tokens at most"},
    {.name = NULL},
};

/* What a chain has thought. Every node but the answer is thinking, each but the first behind a wait. */
struct thought {
    uint32_t tokens, waits;
};

static uint32_t budget_forcing_trees(uint32_t n, const double *values)
{
    (void)values;
    return n;
}

/* Everything that matters is in the nodes: a chain has no choices. */
static size_t budget_forcing_record_size(uint32_t n, const double *values)
{
    (void)n;
    (void)values;
    return 0;
}

static uint32_t budget_forcing_most(const double *values)
{
    return (uint32_t)values[OPT_THINK];
}

static uint32_t at_most(double wanted, uint32_t most)
{
    return wanted > 0 && wanted < most ? (uint32_t)wanted : most;
}

static struct extremes budget_forcing_extremes(const double *values, uint32_t max_tokens)
{
    return (struct extremes){
        .tokens = at_most(values[OPT_THINK], max_tokens) + at_most(values[OPT_ANSWER], max_tokens),
        .tasks = (uint32_t)values[OPT_WAITS] + 2,
    };
}

static struct thought thought_of(const struct tree_view *view)
{
    struct thought thought = {.waits = view->nodes_len - 1};
    for (uint32_t i = 0; i < view->nodes_len; i++)
        thought.tokens += view->nodes[i].tokens;
    return thought;
}

static void go_on(struct plan *plan, uint32_t parent, enum cue cue, enum extent extent, uint32_t cap)
{
    assert(plan->cap >= 1);
    plan->parents[0] = parent;
    plan->parents_len = 1;
    plan->cues[0] = (uint8_t)cue;
    plan->extents[0] = (uint8_t)extent;
    plan->caps[0] = cap;
}

static void budget_forcing_plan(const struct tree_view *view, struct plan *plan)
{
    uint32_t budget = at_most(view->options[OPT_THINK], view->max_tokens);
    plan->parents_len = plan->finals_len = 0;
    if (view->nodes_len == 0) {
        go_on(plan, NO_ORDINAL, CUE_NONE, EXTENT_THINK, budget);
        return;
    }
    uint32_t last = view->nodes_len - 1;
    const struct node_view *node = &view->nodes[last];
    if (node->extent != EXTENT_THINK || node->finish == FINISH_FAILED) {
        plan->finals[0] = last; /* it has answered, or never will */
        plan->finals_len = 1;
        return;
    }
    struct thought thought = thought_of(view);
    /* An end token ends thinking as think_end does; the token cap and the clock cut it. */
    bool early = node->finish == FINISH_STEP || node->finish == FINISH_STOP;
    if (early && thought.tokens < budget && thought.waits < (uint32_t)view->options[OPT_WAITS])
        go_on(plan, last, CUE_WAIT, EXTENT_THINK, budget - thought.tokens);
    else
        go_on(plan, last, early ? CUE_ANSWER : CUE_FINAL, EXTENT_WHOLE,
              at_most(view->options[OPT_ANSWER], view->max_tokens));
}

const struct strategy strategy_budget_forcing = {
    .name = "budget-forcing",
    .help = "n chains that think up to a budget, are made to go on where they stop early, and then answer",
    .version = 1,
    .needs = NEED_THINKS,
    .min_n = 1,
    .options = options,
    .trees = budget_forcing_trees,
    .record_size = budget_forcing_record_size,
    .plan = budget_forcing_plan,
    .extremes = budget_forcing_extremes,
    .most = budget_forcing_most,
};
