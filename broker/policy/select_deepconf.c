/* select_deepconf.c - a vote of the rollouts that were confident throughout, weighted by that confidence.
 *
 * Fu et al. 2025, "Deep think with confidence", offline form, rule from the released code: a trace's score is its lowest
 * window's confidence, or that of its lowest tenth of windows, its tail or its mean; the traces at or above the
 * percentile 1 - keep (linear interpolation) vote with their score. The paper keeps 10 % or 90 %; the default is the
 * cautious one, since a tenth of a few rollouts is one. */
#include "broker/policy/ballot.h"
#include "broker/policy/kernel_select.h"

#include <stdlib.h>

enum { OPT_BY, OPT_KEEP };

static const struct option_row options[] = {
    [OPT_BY] = {.name = "by",
                .type = OPTION_CHOICE,
                .max = 3,
                .choices = "conf_bottom10|conf_min|conf_tail|conf_mean",
                .help = "feature that is a rollout's confidence"},
    [OPT_KEEP] = {.name = "keep",
                  .type = OPTION_REAL,
                  .min = 0.01,
                  .max = 1,
                  .fallback = 0.9,
                  .help = "share of the rollouts that vote: the most confident"},
    {.name = NULL},
};

static enum feature confidence(const double *values)
{
    static const enum feature by[] = {FEATURE_CONF_BOTTOM10, FEATURE_CONF_MIN, FEATURE_CONF_TAIL, FEATURE_CONF_MEAN};
    return by[(int)values[OPT_BY]];
}

static uint32_t deepconf_wants(const double *values)
{
    return 1u << confidence(values);
}

static double cut(const struct ballots *ballots, double keep)
{
    double *scores = xalloc(ballots->len * sizeof *scores);
    for (uint32_t i = 0; i < ballots->len; i++)
        scores[i] = ballots->at[i].weight;
    double threshold = quantile_linear(scores, ballots->len, 1 - keep);
    free(scores);
    return threshold;
}

static void deepconf_select(const struct prompt_view *view, struct ranking *out)
{
    struct ballots ballots = ballots_new(view->stats, (int)confidence(view->options), 0, true);
    double threshold = ballots.len > 0 ? cut(&ballots, view->options[OPT_KEEP]) : 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < ballots.len; i++)
        if (ballots.at[i].weight >= threshold)
            ballots.at[kept++] = ballots.at[i];
    ballots.len = kept;
    ballots_count(&ballots, out);
    ballots_clear(&ballots);
}

const struct selector select_deepconf = {
    .name = "deepconf",
    .help = "a vote of the most confident rollouts, weighted by their confidence",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .items = true,
    .wants = deepconf_wants,
    .select = deepconf_select,
};
