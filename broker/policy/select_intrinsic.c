/* select_intrinsic.c - the rollout whose end the model was least uncertain of.
 *
 * Intrinsic selection (arXiv 2606.08850; rule from notes on the paper): the lowest token entropy over the tail wins. The
 * paper takes the median over a tail of adaptive length, by a rule that we did not find; ent_tail is the mean over the
 * last 16 tokens. The vote weighs by exp(-z), z standardised within the prompt, as the paper weighs its particles. Its
 * gate on the prompt's median, above which it samples on, is here the point from which nothing is selected. */
#include "broker/policy/ballot.h"

#include <math.h>

enum { OPT_VOTE, OPT_ABSTAIN };

static const struct option_row options[] = {
    [OPT_VOTE] = {.name = "vote",
                  .type = OPTION_BOOL,
                  .max = 1,
                  .help = "whether answers are counted, weighted by low entropy, instead of taking the lowest"},
    [OPT_ABSTAIN] = {.name = "abstain",
                     .type = OPTION_REAL,
                     .max = 100,
                     .help = "median entropy of the rollouts, in nats, above which nothing is selected; 0: never"},
    {.name = NULL},
};

static double median(struct ballots *ballots)
{
    ballots_sort(ballots);
    return (ballots->at[(ballots->len - 1) / 2].weight + ballots->at[ballots->len / 2].weight) / 2;
}

static void vote(struct ballots *ballots, struct ranking *out)
{
    ballots_standardise(ballots);
    for (uint32_t i = 0; i < ballots->len; i++)
        ballots->at[i].weight = exp(-ballots->at[i].weight);
    ballots_count(ballots, out);
}

static void lowest(struct ballots *ballots, struct ranking *out)
{
    for (uint32_t i = 0; i < ballots->len; i++)
        ballots->at[i].weight *= -1;
    ballots_sort(ballots);
    ballots_best(ballots, out);
}

static void intrinsic_select(const struct prompt_view *view, struct ranking *out)
{
    bool votes = view->options[OPT_VOTE] > 0 && view->stats->voters > 0;
    double limit = view->options[OPT_ABSTAIN];
    struct ballots ballots = ballots_new(view->stats, FEATURE_ENT_TAIL, 0, votes);
    *out = (struct ranking){.winner = NO_ORDINAL};
    if (ballots.len > 0 && (limit <= 0 || median(&ballots) <= limit))
        (votes ? vote : lowest)(&ballots, out);
    ballots_clear(&ballots);
}

const struct selector select_intrinsic = {
    .name = "intrinsic",
    .help = "the rollout with the lowest entropy at its end",
    .version = 1,
    .min_n = 1,
    .options = options,
    .features = 1u << FEATURE_ENT_TAIL,
    .items = true,
    .may_vote = true,
    .confidence = CONFIDENCE_BELOW0,
    .select = intrinsic_select,
};
