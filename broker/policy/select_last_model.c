/* select_last_model.c - the majority of the last model that was asked.
 *
 * A cascade that went on did so because the cheap answers were doubtful, so they are left out (Chen et al. 2023,
 * "FrugalGPT": the answer is that of the model at which the cascade stops). Where that one gave none, the majority. */
#include "broker/policy/leg_vote.h"

static const struct option_row options[] = {{.name = NULL}};

static uint32_t first_of(const struct stats *stats, uint8_t leg, uint64_t class)
{
    uint32_t i = 0;
    while (stats->items[i].leg != leg || stats->items[i].class != class)
        i++;
    return stats->items[i].ordinal;
}

static void last_model_select(const struct prompt_view *view, struct ranking *out)
{
    const struct stats *stats = view->stats;
    struct leg_vote votes[LIMIT_LEGS];
    leg_votes(stats, votes);
    uint8_t last = 0;
    for (uint32_t i = 0; i < stats->delivered; i++)
        last = stats->items[i].leg > last ? stats->items[i].leg : last;
    if (votes[last].class == 0) {
        select_majority.select(view, out);
        return;
    }
    out->winner = first_of(stats, last, votes[last].class);
    out->confidence = (double)votes[last].count / votes[last].rollouts;
}

const struct selector select_last_model = {
    .name = "last-model",
    .help = "the majority of the last model of `models` that has rollouts: with cascade and route",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .items = true,
    .select = last_model_select,
};
