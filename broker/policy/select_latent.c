/* select_latent.c - how a model's hidden state moved while it reasoned.
 *
 * "Latent trajectory" signals (rule from the abstract): over the states of a reasoning path, right ones move further in
 * all, wander less, and keep more to their direction; a calibrated logistic of the three ranks the rollouts. The
 * coefficients belong to a model; those here only have the signs, over signals standardised within the prompt, and are
 * our reconstruction, as is the vote, which weighs by the logistic. */
#include "broker/policy/ballot.h"

#include <math.h>

enum { OPT_VOTE, OPT_NET, OPT_SUM, OPT_ALIGN };

static const struct option_row options[] = {
    [OPT_VOTE] = {.name = "vote",
                  .type = OPTION_BOOL,
                  .max = 1,
                  .help = "whether answers are counted, weighted by the logistic, instead of taking the largest"},
    [OPT_NET] = {.name = "net",
                 .type = OPTION_REAL,
                 .min = -100,
                 .max = 100,
                 .fallback = 1,
                 .help = "coefficient of latent_net, for a standard deviation"},
    [OPT_SUM] = {.name = "sum",
                 .type = OPTION_REAL,
                 .min = -100,
                 .max = 100,
                 .fallback = -1,
                 .help = "coefficient of latent_sum, for a standard deviation"},
    [OPT_ALIGN] = {.name = "align",
                   .type = OPTION_REAL,
                   .min = -100,
                   .max = 100,
                   .fallback = 1,
                   .help = "coefficient of latent_align, for a standard deviation"},
    {.name = NULL},
};

static const uint32_t signals = 1u << FEATURE_LATENT_NET | 1u << FEATURE_LATENT_SUM | 1u << FEATURE_LATENT_ALIGN;

static void add_signal(struct ballots *total, const struct stats *stats, enum feature feature, double coefficient,
                       bool voters)
{
    struct ballots one = ballots_new(stats, (int)feature, signals, voters);
    ballots_standardise(&one);
    for (uint32_t i = 0; i < one.len; i++)
        total->at[i].weight += coefficient * one.at[i].weight;
    ballots_clear(&one);
}

static void latent_select(const struct prompt_view *view, struct ranking *out)
{
    bool votes = view->options[OPT_VOTE] > 0 && view->stats->voters > 0;
    struct ballots ballots = ballots_new(view->stats, FEATURE_LATENT_NET, signals, votes);
    for (uint32_t i = 0; i < ballots.len; i++)
        ballots.at[i].weight = 0;
    add_signal(&ballots, view->stats, FEATURE_LATENT_NET, view->options[OPT_NET], votes);
    add_signal(&ballots, view->stats, FEATURE_LATENT_SUM, view->options[OPT_SUM], votes);
    add_signal(&ballots, view->stats, FEATURE_LATENT_ALIGN, view->options[OPT_ALIGN], votes);
    for (uint32_t i = 0; i < ballots.len; i++)
        ballots.at[i].weight = 1 / (1 + exp(-ballots.at[i].weight));
    ballots_choose(&ballots, votes, out);
    ballots_clear(&ballots);
}

const struct selector select_latent = {
    .name = "latent",
    .help = "the rollout whose hidden states moved most like those of right ones",
    .version = 1,
    .min_n = 1,
    .options = options,
    .features = 1u << FEATURE_LATENT_NET | 1u << FEATURE_LATENT_SUM | 1u << FEATURE_LATENT_ALIGN,
    .items = true,
    .may_vote = true,
    .select = latent_select,
};
