/* select_best_logprob.c - the rollout with the highest mean log-probability of a token.
 *
 * Chen et al. 2021, "Evaluating large language models trained on code", section 3.3: ranking by the
 * mean, not the sum, does not favour short rollouts. Abstains when no rollout carries it. */
#include "broker/policy/policy.h"

static const struct option_row options[] = {{.name = NULL}};

static void best_logprob_select(const struct prompt_view *view, struct ranking *out)
{
    const struct stats *stats = view->stats;
    out->winner = stats->best_lp;
    out->confidence = stats->best_lp == NO_ORDINAL ? 0 : stats->lp_best;
}

const struct selector select_best_logprob = {
    .name = "best-logprob",
    .help = "the rollout with the highest mean log-probability of a token",
    .version = 1,
    .needs = NEED_LOGPROB,
    .min_n = 1,
    .options = options,
    .covers = false,
    .select = best_logprob_select,
};
