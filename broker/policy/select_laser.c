/* select_laser.c - models that were trained to say with one token, behind the last, how right they were.
 *
 * Yang et al. 2025, "LaSeR: reinforcement learning with last-token self-rewarding", rule from the released code: the
 * reward is beta * (ln p(z) - reference), z an unused token behind the end; answers are counted with it as weight. The
 * defaults are those of their Qwen models (z = 151652); the Octothinker models have reference -25 (z = 128002). */
#include "broker/policy/ballot.h"

enum { OPT_VOTE, OPT_BETA, OPT_REFERENCE };

static const struct option_row options[] = {
    [OPT_VOTE] = {.name = "vote",
                  .type = OPTION_BOOL,
                  .max = 1,
                  .fallback = 1,
                  .help = "whether answers are counted, weighted by the reward, instead of taking the largest"},
    [OPT_BETA] = {.name = "beta",
                  .type = OPTION_REAL,
                  .min = 0.001,
                  .max = 10,
                  .fallback = 0.1,
                  .help = "reward of one nat above the reference"},
    [OPT_REFERENCE] = {.name = "reference",
                       .type = OPTION_REAL,
                       .min = -1000,
                       .max = 0,
                       .fallback = -23,
                       .help = "log-probability, in nats, that an untrained model gives the token"},
    {.name = NULL},
};

static void laser_select(const struct prompt_view *view, struct ranking *out)
{
    bool votes = view->options[OPT_VOTE] > 0 && view->stats->voters > 0;
    struct ballots ballots = ballots_new(view->stats, FEATURE_LAST_TOKEN_LP, 0, votes);
    for (uint32_t i = 0; i < ballots.len; i++)
        ballots.at[i].weight = view->options[OPT_BETA] * (ballots.at[i].weight - view->options[OPT_REFERENCE]);
    ballots_choose(&ballots, votes, out);
    ballots_clear(&ballots);
}

const struct selector select_laser = {
    .name = "laser",
    .help = "a vote weighted by the reward that the model gave itself behind its last token",
    .version = 1,
    .min_n = 1,
    .options = options,
    .features = 1u << FEATURE_LAST_TOKEN_LP,
    .items = true,
    .may_vote = true,
    .confidence = CONFIDENCE_SCORE,
    .select = laser_select,
};
