/* select_two_stage.c - each model votes first, then the models vote.
 *
 * "On the role of temperature sampling in test-time scaling": a majority within each temperature, then agreement across
 * them. A model with many rollouts so counts no more than one with few. With one model it is the
 * majority. */
#include "broker/policy/leg_vote.h"

static const struct option_row options[] = {{.name = NULL}};

static void two_stage_select(const struct prompt_view *view, struct ranking *out)
{
    const struct stats *stats = view->stats;
    struct leg_vote votes[LIMIT_LEGS];
    uint32_t leads, legs = leg_votes(stats, votes), top = leg_votes_top(stats, votes, &leads);
    *out = (struct ranking){.winner = NO_ORDINAL};
    if (top != NO_ORDINAL)
        *out = (struct ranking){stats->classes[top].first, (double)leads / legs};
}

const struct selector select_two_stage = {
    .name = "two-stage",
    .help = "the answer that most of the arm's models, each by its own majority, vote for",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .items = true,
    .select = two_stage_select,
};
