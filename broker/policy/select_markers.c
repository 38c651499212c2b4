/* select_markers.c - a vote in which long rollouts, and those that waver, count less.
 *
 * A study of test-time scaling of reasoning models found that right rollouts tend to be shorter and to hold fewer words
 * of doubt, and that the plain majority is hard to beat (rule from its abstract; the formula is our reconstruction):
 * weight exp(-length * z(tokens) - hedges * z(markers)), z standardised within the prompt. Both coefficients belong to a
 * model, by a logistic regression on labelled rollouts. Words that structure a text have no feature here. */
#include "broker/policy/ballot.h"

#include <math.h>

enum { OPT_LENGTH, OPT_HEDGES };

static const struct option_row options[] = {
    [OPT_LENGTH] = {.name = "length",
                    .type = OPTION_REAL,
                    .min = -100,
                    .max = 100,
                    .fallback = 0.5,
                    .help = "how much a standard deviation of more tokens lowers the logarithm of a weight"},
    [OPT_HEDGES] = {.name = "hedges",
                    .type = OPTION_REAL,
                    .min = -100,
                    .max = 100,
                    .help = "the same for words that tell of doubt; not 0: needs the feature markers"},
    {.name = NULL},
};

static uint32_t markers_wants(const double *values)
{
    return fabs(values[OPT_HEDGES]) > 0 ? 1u << FEATURE_MARKERS : 0;
}

static void markers_select(const struct prompt_view *view, struct ranking *out)
{
    uint32_t need = markers_wants(view->options);
    struct ballots ballots = ballots_new(view->stats, BALLOT_TOKENS, need, true);
    struct ballots hedges = ballots_new(view->stats, FEATURE_MARKERS, need, true); /* the same ones, if needed */
    ballots_standardise(&ballots);
    ballots_standardise(&hedges);
    for (uint32_t i = 0; i < ballots.len; i++) {
        double doubt = need != 0 ? view->options[OPT_HEDGES] * hedges.at[i].weight : 0;
        ballots.at[i].weight = exp(-view->options[OPT_LENGTH] * ballots.at[i].weight - doubt);
    }
    ballots_count(&ballots, out);
    ballots_clear(&hedges);
    ballots_clear(&ballots);
}

const struct selector select_markers = {
    .name = "markers",
    .help = "a vote in which long and doubting rollouts count less",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .items = true,
    .wants = markers_wants,
    .select = markers_select,
};
