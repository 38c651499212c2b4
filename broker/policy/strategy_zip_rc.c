/* strategy_zip_rc.c - keeps, kills, forks and starts paths by the reward and the length that the generator foresees.
 *
 * ZIP-RC (2025): a generator that predicts, while it writes, how its text will end. The utility of a set X of running
 * paths, of which each ends right independently, is
 *
 *     U(X) = 1 - prod (1 - r_i) - alpha * sum l_i - beta * max l_i
 *
 * with r the foreseen chance of a right end and l the foreseen tokens up to it. The reward term is monotone and submodular,
 * so adding greedily is within 1 - 1/e of the best set. After every step the set is chosen anew among the paths, further
 * copies of them (forks) and fresh starts; what is not chosen is killed. From the abstract and the released code; means in
 * place of their joint grid, fresh starts at the mean of the first steps, and steps as the moments of decision are ours. */
#include "broker/policy/policy.h"
#include "common/limits.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { OPT_ALPHA, OPT_BETA, OPT_START, OPT_FORK, OPT_MAX_STEPS };

static const struct option_row options[] = {
    [OPT_ALPHA] = {.name = "alpha",
                   .type = OPTION_REAL,
                   .max = 1,
                   .fallback = 0.0005,
                   .help = "price of a token, in right answers"},
    [OPT_BETA] = {.name = "beta",
                  .type = OPTION_REAL,
                  .max = 1,
                  .fallback = 0,
                  .help = "price of a token of the longest path, which is waited for"},
    [OPT_START] = {.name = "start",
                   .type = OPTION_INT,
                   .min = 1,
                   .max = LIMIT_TREE_N,
                   .fallback = 4,
                   .help = "paths that are begun, n at most"},
    [OPT_FORK] =
        {.name = "fork", .type = OPTION_BOOL, .max = 1, .fallback = 1, .help = "whether a path may be continued twice"},
    [OPT_MAX_STEPS] = {.name = "max_steps",
                       .type = OPTION_INT,
                       .min = 1,
                       .max = LIMIT_TREE_DEPTH,
                       .fallback = 40,
                       .help = "most steps of a path"},
    {.name = NULL},
};

struct record {
    uint32_t last; /* nodes that were begun by the last plan: the newest */
};

/* What may be added to the set. */
struct path {
    uint32_t node; /* NO_ORDINAL: a fresh start */
    double right, tokens;
    bool chosen;
};

/* What is chosen so far. */
struct set {
    double all_wrong, longest;
    uint32_t len;
};

static uint32_t zip_rc_trees(uint32_t n, const double *values)
{
    (void)values;
    return n > 0 ? 1 : 0;
}

static size_t zip_rc_record_size(uint32_t n, const double *values)
{
    (void)n;
    (void)values;
    return sizeof(struct record);
}

static double foreseen(const struct node_view *node, enum feature feature, double otherwise)
{
    double value = otherwise;
    item_feature(&(struct item){.have = node->have, .features = node->features}, feature, &value);
    return value;
}

static double chance(const struct node_view *node)
{
    return fmin(fmax(foreseen(node, FEATURE_FORESEEN_REWARD, 0), 0), 1);
}

static double tokens_left(const struct node_view *node)
{
    return fmax(foreseen(node, FEATURE_FORESEEN_TOKENS, 0), 0);
}

static bool ended(const struct node_view *node, const double *values)
{
    return node->finish != FINISH_FAILED &&
           (node->finish != FINISH_STEP || node->depth >= (uint32_t)values[OPT_MAX_STEPS]);
}

/* A start is worth what the first steps were on average. False: there are none. */
static bool fresh_start(const struct tree_view *view, struct path *path)
{
    uint32_t count = 0;
    *path = (struct path){.node = NO_ORDINAL};
    for (uint32_t i = 0; i < view->nodes_len; i++) {
        if (view->nodes[i].depth != 1 || view->nodes[i].finish == FINISH_FAILED)
            continue;
        path->right += chance(&view->nodes[i]);
        path->tokens += view->nodes[i].tokens + tokens_left(&view->nodes[i]);
        count++;
    }
    if (count == 0)
        return false;
    path->right /= count;
    path->tokens /= count;
    return true;
}

/* Paths that go on, then a fresh start. */
static uint32_t candidates(const struct tree_view *view, uint32_t last, struct path *paths)
{
    uint32_t len = 0;
    last = last < view->n ? last : view->n; /* a record of a damaged journal may say anything */
    last = last < view->nodes_len ? last : view->nodes_len;
    for (uint32_t i = view->nodes_len - last; i < view->nodes_len; i++)
        if (view->nodes[i].finish == FINISH_STEP && !ended(&view->nodes[i], view->options))
            paths[len++] = (struct path){i, chance(&view->nodes[i]), tokens_left(&view->nodes[i]), false};
    return len + fresh_start(view, &paths[len]);
}

static double gain(const struct set *set, const struct path *path, const double *values)
{
    return set->all_wrong * path->right - values[OPT_ALPHA] * path->tokens -
           values[OPT_BETA] * fmax(0, path->tokens - set->longest);
}

/* Index of the path that adds most; len: none may be added. */
static uint32_t best_of(const struct set *set, const struct path *paths, uint32_t len, const double *values)
{
    uint32_t best = len;
    for (uint32_t i = 0; i < len; i++) {
        bool again = paths[i].chosen && paths[i].node != NO_ORDINAL;
        if (again && values[OPT_FORK] == 0)
            continue;
        if (best == len || gain(set, &paths[i], values) > gain(set, &paths[best], values))
            best = i;
    }
    return best;
}

static void choose(const struct tree_view *view, struct set *set, struct path *paths, uint32_t len, struct plan *plan)
{
    uint32_t done = plan->finals_len, most = view->n * (uint32_t)view->options[OPT_MAX_STEPS];
    while (set->len + done < view->n && view->nodes_len + set->len < most) {
        uint32_t best = best_of(set, paths, len, view->options);
        bool worth = best < len && gain(set, &paths[best], view->options) > 0;
        bool needed = best < len && set->len + done == 0; /* the last path is never killed */
        if (!worth && !needed)
            return;
        paths[best].chosen = true;
        plan->parents[plan->parents_len++] = paths[best].node;
        set->all_wrong *= 1 - paths[best].right;
        set->longest = fmax(set->longest, paths[best].tokens);
        set->len++;
    }
}

static void zip_rc_plan(const struct tree_view *view, struct plan *plan)
{
    struct record *record = plan->record, before;
    struct path paths[LIMIT_TREE_N + 1];
    struct set set = {.all_wrong = 1};
    memcpy(&before, view->record, sizeof before);
    plan->parents_len = plan->finals_len = 0;
    if (view->nodes_len == 0) {
        uint32_t start = (uint32_t)view->options[OPT_START];
        while (plan->parents_len < (start < view->n ? start : view->n))
            plan->parents[plan->parents_len++] = NO_ORDINAL;
    }
    for (uint32_t i = 0; i < view->nodes_len && plan->finals_len < view->n; i++) {
        if (!ended(&view->nodes[i], view->options))
            continue;
        plan->finals[plan->finals_len++] = i;
        set.all_wrong *= 1 - chance(&view->nodes[i]);
    }
    if (view->nodes_len > 0)
        choose(view, &set, paths, candidates(view, before.last, paths), plan);
    *record = (struct record){plan->parents_len};
    if (plan->parents_len > 0)
        plan->finals_len = 0;
}

const struct strategy strategy_zip_rc = {
    .name = "zip-rc",
    .help = "paths are kept, killed, forked and begun by the reward and length that the generator foresees",
    .version = 1,
    .needs = NEED_STEPS,
    .min_n = 1,
    .options = options,
    .features = 1u << FEATURE_FORESEEN_REWARD | 1u << FEATURE_FORESEEN_TOKENS,
    .trees = zip_rc_trees,
    .record_size = zip_rc_record_size,
    .plan = zip_rc_plan,
};
