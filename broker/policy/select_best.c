/* select_best.c - best of N: the rollout with the highest score.
 *
 * Cobbe et al. 2021, "Training verifiers to solve math word problems", section 4. Without any score
 * it is the majority vote. */
#include "broker/policy/policy.h"

static const struct option_row options[] = {{.name = NULL}};

static void best_select(const struct prompt_view *view, struct ranking *out)
{
    const struct stats *stats = view->stats;
    if (stats->best == NO_ORDINAL) {
        select_majority.select(view, out);
        return;
    }
    out->winner = stats->best;
    out->confidence = stats->score_best;
}

const struct selector select_best = {
    .name = "best",
    .help = "the rollout with the highest score",
    .version = 1,
    .needs = NEED_VERIFIER,
    .min_n = 1,
    .options = options,
    .confidence = CONFIDENCE_SCORE,
    .select = best_select,
};
