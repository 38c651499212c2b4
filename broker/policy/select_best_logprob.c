/* select_best_logprob.c - the rollout with the highest mean log-probability of a token.
 *
 * Chen et al. 2021, "Evaluating large language models trained on code", section 3.3: ranking by the
 * mean, not the sum, does not favour short rollouts. Abstains when no rollout carries it. */
#include "broker/policy/policy.h"

static const struct option_row options[] = {{.name = NULL}};

static void best_logprob_select(const struct prompt_view *view, struct ranking *out)
{
    double value;
    *out = (struct ranking){.winner = NO_ORDINAL};
    for (uint32_t i = 0; i < view->stats->delivered; i++) {
        const struct item *item = &view->stats->items[i];
        if (!item_feature(item, FEATURE_LP_MEAN, &value) || (out->winner != NO_ORDINAL && value <= out->confidence))
            continue;
        *out = (struct ranking){item->ordinal, value};
    }
}

const struct selector select_best_logprob = {
    .name = "best-logprob",
    .help = "the rollout with the highest mean log-probability of a token",
    .version = 1,
    .min_n = 1,
    .options = options,
    .features = 1u << FEATURE_LP_MEAN,
    .items = true,
    .confidence = CONFIDENCE_BELOW0,
    .select = best_logprob_select,
};
