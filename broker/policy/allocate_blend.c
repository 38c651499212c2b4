/* allocate_blend.c - for votes under one budget: from doubt of the leading answer to proof of it, as the budget goes.
 *
 * A reconstruction of Blend-ASC (2511.12309), whose exact rule we have not found. What is known of it: it mixes the
 * confidence of adaptive consistency early with the statistic of PPR-1v1 late, under one budget. Here, with a >= b votes
 * for the two leading answers of K seen, and w the share of the budget that is spent,
 *     u = P(Beta(a + 1, b + 1) < 1/2),  v = min(1, (K - 1) density of Beta(a + 1, b + 1) at 1/2),
 * and the prompt with the largest u^(1 - w) v^w comes first. Both are doubts, not gains: near-tied prompts take all they
 * may, so n has to be at most 16 times the mean budget. */
#include "broker/policy/kernel.h"
#include "broker/policy/policy.h"

#include <float.h>
#include <math.h>

static const struct option_row options[] = {{.name = NULL}};

static uint32_t votes(const struct stats *stats, uint32_t class)
{
    return class == NO_ORDINAL ? 0 : stats->classes[class].count;
}

/* What is in flight counts half for each of the two. */
static double blend_gain(const struct prompt_view *view)
{
    if (view->opened >= view->cap)
        return 0;
    const struct stats *stats = view->stats;
    uint32_t flying = view->opened - stats->delivered;
    uint32_t a = votes(stats, stats->top) + (flying + 1) / 2, b = votes(stats, stats->second) + flying / 2;
    double rivals = stats->classes_len > 2 ? stats->classes_len - 1 : 1;
    double u = half_tail(b, a), v = fmin(1, rivals * half_density(a, b));
    return fmax(pow(u, 1 - view->spent) * pow(v, view->spent), DBL_MIN);
}

const struct allocator allocate_blend = {
    .name = "blend",
    .help = "the prompt whose leading answer is least sure: by its lead early, by a stricter test late",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .spent = true,
    .gain = blend_gain,
    .solved = NULL,
};
