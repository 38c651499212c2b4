/* select_foreseen.c - the rollout of which the generator itself foresees the best end.
 *
 * ZIP-RC (2025), its score of a finished sample: the expected reward that the generator predicted at the end. */
#include "broker/policy/ballot.h"

enum { OPT_VOTE };

static const struct option_row options[] = {
    [OPT_VOTE] = {.name = "vote",
                  .type = OPTION_BOOL,
                  .max = 1,
                  .help = "whether answers are counted, weighted by it, instead of taking the largest"},
    {.name = NULL},
};

static void foreseen_select(const struct prompt_view *view, struct ranking *out)
{
    bool votes = view->options[OPT_VOTE] > 0 && view->stats->voters > 0;
    struct ballots ballots = ballots_new(view->stats, FEATURE_FORESEEN_REWARD, 0, votes);
    ballots_choose(&ballots, votes, out);
    ballots_clear(&ballots);
}

const struct selector select_foreseen = {
    .name = "foreseen",
    .help = "the rollout whose generator foresees the highest reward",
    .version = 1,
    .min_n = 1,
    .options = options,
    .features = 1u << FEATURE_FORESEEN_REWARD,
    .items = true,
    .may_vote = true,
    .confidence = CONFIDENCE_SCORE,
    .select = foreseen_select,
};
