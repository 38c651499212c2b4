/* select_borda.c - a vote in which the rollouts that the model was surest of count most.
 *
 * Kang et al. 2025, "Scalable best-of-N selection via self-certainty", section 4.3 and released code: rank the N answers
 * by certainty, rank 0 the surest, weight (N - rank)^p; p = 0 is the majority vote, a large p takes the surest. Ranking
 * by something else than self-certainty is ours, for servers that do not see the whole vocabulary. */
#include "broker/policy/ballot.h"

#include <math.h>

enum { OPT_P, OPT_BY };

static const struct option_row options[] = {
    [OPT_P] = {.name = "p",
               .type = OPTION_REAL,
               .min = 0,
               .max = 10,
               .fallback = 0.5,
               .help = "power of the rank: 0 counts all alike, more trusts the surest"},
    [OPT_BY] = {.name = "by",
                .type = OPTION_CHOICE,
                .max = 2,
                .choices = "self_cert|conf_mean|lp_mean",
                .help = "feature that says how sure the model was of a rollout"},
    {.name = NULL},
};

static enum feature certainty(const double *values)
{
    static const enum feature by[] = {FEATURE_SELF_CERT, FEATURE_CONF_MEAN, FEATURE_LP_MEAN};
    return by[(int)values[OPT_BY]];
}

static uint32_t borda_wants(const double *values)
{
    return 1u << certainty(values);
}

static void borda_select(const struct prompt_view *view, struct ranking *out)
{
    struct ballots ballots = ballots_new(view->stats, (int)certainty(view->options), 0, true);
    ballots_sort(&ballots);
    for (uint32_t rank = 0; rank < ballots.len; rank++)
        ballots.at[rank].weight = pow(ballots.len - rank, view->options[OPT_P]);
    ballots_count(&ballots, out);
    ballots_clear(&ballots);
}

const struct selector select_borda = {
    .name = "borda",
    .help = "a vote weighted by the rank of the rollouts' certainty",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .items = true,
    .wants = borda_wants,
    .select = borda_select,
};
