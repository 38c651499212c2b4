/* select_standard_score.c - the score that stands out most among those of its own model.
 *
 * Where a reward model likes the style of one model, its scores say more about the model than about the rollout. Counted
 * in standard deviations from the mean of the same model's rollouts of the prompt, they compare across models. It cannot
 * see that one model is better: `best` can. Ours. */
#include "broker/policy/ballot.h"

enum { OPT_VOTE };

static const struct option_row options[] = {
    [OPT_VOTE] = {.name = "vote",
                  .type = OPTION_BOOL,
                  .min = 0,
                  .max = 1,
                  .fallback = 0,
                  .help = "sum the standard scores by answer, in place of taking the largest"},
    {.name = NULL},
};

static void standard_score_select(const struct prompt_view *view, struct ranking *out)
{
    bool votes = view->options[OPT_VOTE] > 0 && view->stats->voters > 0;
    struct ballots ballots = ballots_new(view->stats, BALLOT_SCORE, 0, votes);
    ballots_standardise_legs(&ballots);
    ballots_choose(&ballots, votes, out);
    ballots_clear(&ballots);
}

const struct selector select_standard_score = {
    .name = "standard-score",
    .help = "the highest score, in standard deviations among the rollouts of the same model",
    .version = 1,
    .needs = NEED_VERIFIER,
    .min_n = 1,
    .options = options,
    .items = true,
    .may_vote = true,
    .confidence = CONFIDENCE_SCORE,
    .select = standard_score_select,
};
