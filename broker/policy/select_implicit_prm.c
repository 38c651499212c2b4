/* select_implicit_prm.c - the ratio of two models' probabilities as an outcome reward.
 *
 * Yuan et al. 2024, "Free process rewards without process labels", and PRIME's released code: a step's reward is
 * beta * ln(p / p_ref), a rollout's is their sum. lp_ratio_sum is that sum without beta, which changes no choice and only
 * scales the confidence of the best. */
#include "broker/policy/ballot.h"

enum { OPT_VOTE, OPT_BETA };

static const struct option_row options[] = {
    [OPT_VOTE] = {.name = "vote",
                  .type = OPTION_BOOL,
                  .max = 1,
                  .help = "whether answers are counted, weighted by the reward, instead of taking the largest"},
    [OPT_BETA] =
        {.name = "beta", .type = OPTION_REAL, .min = 0.0001, .max = 10, .fallback = 0.05, .help = "reward of one nat"},
    {.name = NULL},
};

static void implicit_prm_select(const struct prompt_view *view, struct ranking *out)
{
    bool votes = view->options[OPT_VOTE] > 0 && view->stats->voters > 0;
    struct ballots ballots = ballots_new(view->stats, FEATURE_LP_RATIO_SUM, 0, votes);
    for (uint32_t i = 0; i < ballots.len; i++)
        ballots.at[i].weight *= view->options[OPT_BETA];
    ballots_choose(&ballots, votes, out);
    ballots_clear(&ballots);
}

const struct selector select_implicit_prm = {
    .name = "implicit-prm",
    .help = "the rollout that one model prefers most over a reference model",
    .version = 1,
    .min_n = 1,
    .options = options,
    .features = 1u << FEATURE_LP_RATIO_SUM,
    .items = true,
    .may_vote = true,
    .confidence = CONFIDENCE_SCORE,
    .select = implicit_prm_select,
};
