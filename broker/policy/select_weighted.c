/* select_weighted.c - the answer with the largest sum of scores.
 *
 * Best-of-N weighted: Li et al. 2023, "Making language models better reasoners with step-aware
 * verifier", section 3.2; Snell et al. 2024, section 5.1. Without any score it is the majority
 * vote. */
#include "broker/policy/policy.h"

static const struct option_row options[] = {{.name = NULL}};

/* Share among the positive weights: reward models may also give negative scores. */
static double weight_share(const struct stats *stats, double weight)
{
    double sum = 0;
    for (uint32_t i = 0; i < stats->classes_len; i++)
        if (stats->classes[i].weight > 0)
            sum += stats->classes[i].weight;
    return weight > 0 ? weight / sum : 0;
}

static void weighted_select(const struct prompt_view *view, struct ranking *out)
{
    const struct stats *stats = view->stats;
    if (stats->scored == 0 || stats->classes_len == 0) {
        select_majority.select(view, out);
        return;
    }
    const struct class_stat *top = &stats->classes[stats->top_weight];
    out->winner = top->first;
    out->confidence = weight_share(stats, top->weight);
}

const struct selector select_weighted = {
    .name = "weighted",
    .help = "the answer with the largest sum of its rollouts' scores",
    .version = 1,
    .needs = NEED_ANSWER | NEED_VERIFIER,
    .min_n = 1,
    .options = options,
    .select = weighted_select,
};
