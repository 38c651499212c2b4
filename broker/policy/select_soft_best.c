/* select_soft_best.c - a rollout drawn with chances that rise with its score: best of N that a wrong score fools less.
 *
 * Soft best-of-N (known from the literature, not re-checked): rollout i with chance proportional to exp(score / T). The
 * draw follows from the sweep's seed, the prompt and the ordinal; see ballots_draw. */
#include "broker/policy/ballot.h"

enum { OPT_T };

static const struct option_row options[] = {
    [OPT_T] = {.name = "t",
               .type = OPTION_REAL,
               .min = 0.0001,
               .max = 1000000,
               .fallback = 0.1,
               .help = "temperature, in units of the score: small is best of N, large draws alike"},
    {.name = NULL},
};

static void soft_best_select(const struct prompt_view *view, struct ranking *out)
{
    struct ballots ballots = ballots_new(view->stats, BALLOT_SCORE, 0, false);
    for (uint32_t i = 0; i < ballots.len; i++)
        ballots.at[i].weight /= view->options[OPT_T];
    ballots_draw(&ballots, view, out);
    ballots_clear(&ballots);
    fall_back_to_majority(view, out);
}

const struct selector select_soft_best = {
    .name = "soft-best",
    .help = "a rollout drawn with chances that rise with its score",
    .version = 1,
    .needs = NEED_VERIFIER,
    .min_n = 1,
    .options = options,
    .items = true,
    .select = soft_best_select,
};
