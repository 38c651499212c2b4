/* select_log_odds.c - a vote weighted by the logarithm of the odds of each score.
 *
 * For independent voters whose scores are the chance that they are right, ln(p / (1 - p)) is the best weight (known from
 * the literature, not re-checked). A score below one half speaks against its answer. */
#include "broker/policy/ballot.h"

#include <math.h>

enum { OPT_CLIP };

static const struct option_row options[] = {
    [OPT_CLIP] = {.name = "clip",
                  .type = OPTION_REAL,
                  .min = 0.000001,
                  .max = 0.49,
                  .fallback = 0.01,
                  .help = "scores are moved into [clip, 1 - clip], so that no single one decides"},
    {.name = NULL},
};

static void log_odds_select(const struct prompt_view *view, struct ranking *out)
{
    double clip = view->options[OPT_CLIP];
    struct ballots ballots = ballots_new(view->stats, BALLOT_SCORE, 0, true);
    for (uint32_t i = 0; i < ballots.len; i++) {
        double p = fmin(fmax(ballots.at[i].weight, clip), 1 - clip);
        ballots.at[i].weight = log(p / (1 - p));
    }
    ballots_count(&ballots, out);
    ballots_clear(&ballots);
    fall_back_to_majority(view, out);
}

const struct selector select_log_odds = {
    .name = "log-odds",
    .help = "the answer with the largest sum of the log-odds of its scores, which must be chances",
    .version = 1,
    .needs = NEED_ANSWER | NEED_VERIFIER,
    .min_n = 1,
    .options = options,
    .items = true,
    .select = log_odds_select,
};
