/* select_pessimistic.c - best of N under a chi-square penalty for leaving the model's own distribution.
 *
 * Inference-time pessimism (Huang et al. 2025; known from the literature, not re-checked): rollout i with chance
 * proportional to max(0, score - l), where l makes the mean of max(0, score - l) / beta one. Unlike best of N it does not
 * get worse as N grows, when high scores are wrong. The draw follows from the sweep's seed; see ballots_draw. */
#include "broker/policy/ballot.h"
#include "broker/policy/kernel_select.h"

#include <math.h>
#include <stdlib.h>

enum { OPT_BETA };

static const struct option_row options[] = {
    [OPT_BETA] = {.name = "beta",
                  .type = OPTION_REAL,
                  .min = 0.0001,
                  .max = 1000000,
                  .fallback = 0.1,
                  .help = "weight of the penalty, in units of the score: small is best of N, large draws alike"},
    {.name = NULL},
};

static double threshold(const struct ballots *ballots, double beta)
{
    double *scores = xalloc(ballots->len * sizeof *scores);
    for (uint32_t i = 0; i < ballots->len; i++)
        scores[i] = ballots->at[i].weight;
    double found = chi2_threshold(scores, ballots->len, beta);
    free(scores);
    return found;
}

static void pessimistic_select(const struct prompt_view *view, struct ranking *out)
{
    struct ballots ballots = ballots_new(view->stats, BALLOT_SCORE, 0, false);
    double least = ballots.len > 0 ? threshold(&ballots, view->options[OPT_BETA]) : 0;
    for (uint32_t i = 0; i < ballots.len; i++)
        ballots.at[i].weight = log(fmax(ballots.at[i].weight - least, 0));
    ballots_draw(&ballots, view, out);
    ballots_clear(&ballots);
    fall_back_to_majority(view, out);
}

const struct selector select_pessimistic = {
    .name = "pessimistic",
    .help = "a rollout drawn by its score, with a penalty for leaving the model's distribution",
    .version = 1,
    .needs = NEED_VERIFIER,
    .min_n = 1,
    .options = options,
    .items = true,
    .select = pessimistic_select,
};
