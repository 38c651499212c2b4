/* select_rpc.c - perplexity consistency with reasoning pruning.
 *
 * Zhou et al. 2025, "Bridging internal probability and self-consistency", rule from the released code: a rollout's
 * probability is exp of its mean log-probability; a mixture of two Weibull distributions is fitted to them, and what
 * more likely belongs to the lower one, and lies below the mean, is dropped; an answer's weight is the sum over its
 * distinct rollouts. Fewer than 8 rollouts, or probabilities that are all alike, allow no fit: nothing is dropped then.
 * Texts are not kept in memory: rollouts that agree in answer, tokens, and both log-probabilities count as one text. */
#include "broker/policy/ballot.h"
#include "broker/policy/kernel_select.h"

#include <math.h>
#include <stdlib.h>

enum { OPT_PRUNE };

static const struct option_row options[] = {
    [OPT_PRUNE] = {.name = "prune",
                   .type = OPTION_BOOL,
                   .max = 1,
                   .fallback = 1,
                   .help = "whether improbable rollouts are dropped before the vote"},
    {.name = NULL},
};

enum { FIT_MIN = 8 };
static const double probability_min = 1e-300; /* keeps logarithms finite */

/* One rollout; two with equal contents, ordinal apart, are one text. */
struct path {
    uint64_t class;
    uint32_t tokens, ordinal;
    double mean, sum;
};

static int compare(double x, double y)
{
    return (x > y) - (x < y);
}

static int same_text(const struct path *a, const struct path *b)
{
    if (a->class != b->class)
        return a->class < b->class ? -1 : 1;
    if (a->tokens != b->tokens)
        return a->tokens < b->tokens ? -1 : 1;
    int order = compare(a->mean, b->mean);
    return order != 0 ? order : compare(a->sum, b->sum);
}

static int by_text(const void *a, const void *b)
{
    const struct path *x = a, *y = b;
    int order = same_text(x, y);
    return order != 0 ? order : (x->ordinal > y->ordinal) - (x->ordinal < y->ordinal);
}

static double probability(double mean)
{
    return fmax(exp(mean), probability_min);
}

/* Drops what the fit gives to its lower component, if it is below the mean too. */
static void prune(struct ballots *ballots)
{
    double *x = xalloc(ballots->len * sizeof *x), sum = 0;
    for (uint32_t i = 0; i < ballots->len; i++)
        sum += x[i] = probability(ballots->at[i].weight);
    struct weibull_mixture mixture = weibull_mixture_fit(x, ballots->len);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < ballots->len; i++)
        if (mixture.singular || x[i] >= sum / ballots->len || weibull_mixture_upper(&mixture, x[i]) >= .5)
            ballots->at[kept++] = ballots->at[i];
    ballots->len = kept;
    free(x);
}

/* Leaves one of each text: the first. */
static void distinct(struct ballots *ballots, const struct stats *stats)
{
    struct path *paths = xalloc(ballots->len * sizeof *paths);
    for (uint32_t i = 0; i < ballots->len; i++) {
        const struct item *item = stats_item(stats, ballots->at[i].ordinal);
        paths[i] = (struct path){item->class, item->tokens, item->ordinal, ballots->at[i].weight, 0};
        item_feature(item, FEATURE_LP_SUM, &paths[i].sum);
    }
    qsort(paths, ballots->len, sizeof *paths, by_text);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < ballots->len; i++)
        if (i == 0 || same_text(&paths[i], &paths[i - 1]) != 0)
            ballots->at[kept++] = (struct ballot){
                .class = paths[i].class, .ordinal = paths[i].ordinal, .weight = probability(paths[i].mean)};
    ballots->len = kept;
    free(paths);
}

static void rpc_select(const struct prompt_view *view, struct ranking *out)
{
    struct ballots ballots = ballots_new(view->stats, FEATURE_LP_MEAN, select_rpc.features, true);
    if (ballots.len >= FIT_MIN && view->options[OPT_PRUNE] > 0)
        prune(&ballots);
    if (ballots.len > 0)
        distinct(&ballots, view->stats);
    ballots_count(&ballots, out);
    ballots_clear(&ballots);
}

const struct selector select_rpc = {
    .name = "rpc",
    .help = "a vote weighted by the rollouts' probabilities, without the improbable ones",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .features = 1u << FEATURE_LP_MEAN | 1u << FEATURE_LP_SUM,
    .items = true,
    .select = rpc_select,
};
