/* select_free_energy.c - the rollout that its model found likeliest, and most evenly so.
 *
 * ODAR, its choice by free energy: least F = -sum log p + lambda Var(-log p). Sums punish long answers, so the mean of a token is
 * the default; and models with other tokenizers differ in scale, so F can be counted in standard deviations from the mean
 * of its model's rollouts of the prompt. (Running means over prompts would make a decision depend on which came before.) */
#include "broker/policy/ballot.h"

enum { OPT_LAMBDA, OPT_SUM, OPT_STANDARD };

static const struct option_row options[] = {
    [OPT_LAMBDA] = {.name = "lambda",
                    .type = OPTION_REAL,
                    .min = 0,
                    .max = 1e6,
                    .fallback = 1,
                    .help = "weight of the variance of the tokens' negative log-probability"},
    [OPT_SUM] = {.name = "sum",
                 .type = OPTION_BOOL,
                 .min = 0,
                 .max = 1,
                 .fallback = 0,
                 .help = "the sum of log-probabilities in place of the mean"},
    [OPT_STANDARD] = {.name = "standard",
                      .type = OPTION_BOOL,
                      .min = 0,
                      .max = 1,
                      .fallback = 0,
                      .help = "compare in standard deviations among the rollouts of the same model"},
    {.name = NULL},
};

static int number_of(const double *values)
{
    return values[OPT_SUM] > 0 ? FEATURE_LP_SUM : FEATURE_LP_MEAN;
}

static uint32_t free_energy_wants(const double *values)
{
    return 1u << number_of(values);
}

static void free_energy_select(const struct prompt_view *view, struct ranking *out)
{
    struct ballots ballots = ballots_new(view->stats, number_of(view->options), 1u << FEATURE_NLL_VAR, false);
    for (uint32_t i = 0; i < ballots.len; i++) {
        double variance = 0;
        item_feature(stats_item(view->stats, ballots.at[i].ordinal), FEATURE_NLL_VAR, &variance);
        ballots.at[i].weight -= view->options[OPT_LAMBDA] * variance;
    }
    if (view->options[OPT_STANDARD] > 0)
        ballots_standardise_legs(&ballots);
    ballots_best(&ballots, out);
    ballots_clear(&ballots);
}

const struct selector select_free_energy = {
    .name = "free-energy",
    .help = "the most probable rollout, minus the variance of its tokens' log-probabilities",
    .version = 1,
    .min_n = 1,
    .options = options,
    .features = 1u << FEATURE_NLL_VAR,
    .items = true,
    .wants = free_energy_wants,
    .confidence = CONFIDENCE_SCORE,
    .select = free_energy_select,
};
