/* allocate_elimination.c - sample the prompts that are not solved yet; drop a prompt once its best
 * score is good.
 *
 * "Strategic scaling of test-time compute: a bandit learning approach" (elimination with
 * exploration rules). A prompt leaves when some rollout reached gamma. Rollouts in flight count as
 * samples that failed, so that a prompt is not flooded while its results travel. The gain of an
 * unsolved prompt is never 0: every rule only orders prompts, it gives none up. */
#include "broker/policy/policy.h"
#include "common/limits.h"

#include <math.h>

enum { OPT_GAMMA, OPT_RULE, OPT_C, OPT_FLOOR };
enum { RULE_UNIFORM, RULE_UCB, RULE_GAP, RULE_ENTROPY };

#define GAIN_FLOOR 1e6  /* before every prompt has its first samples, above what any rule gives */
#define GAIN_LEAST 1e-9 /* keeps an unsolved prompt in the running */
#define GAP_EPS    0.01 /* in units of the score */

static const struct option_row options[] = {
    [OPT_GAMMA] = {.name = "gamma",
                   .type = OPTION_REAL,
                   .min = 0,
                   .max = 1,
                   .fallback = 0.5,
                   .help = "score from which on a prompt is solved; a pass solves it too"},
    [OPT_RULE] = {.name = "rule",
                  .type = OPTION_CHOICE,
                  .min = 0,
                  .max = 3,
                  .fallback = RULE_UNIFORM,
                  .choices = "uniform|ucb|gap|entropy",
                  .help = "which unsolved prompt is sampled next"},
    [OPT_C] = {.name = "c",
               .type = OPTION_REAL,
               .min = 0,
               .max = 100,
               .fallback = 1,
               .help = "weight of the exploration term of rule ucb"},
    [OPT_FLOOR] = {.name = "floor",
                   .type = OPTION_INT,
                   .min = 0,
                   .max = LIMIT_N,
                   .fallback = 1,
                   .help = "rollouts that every prompt gets before the rule decides"},
    {.name = NULL},
};

static bool elimination_solved(const struct prompt_view *view)
{
    const struct stats *stats = view->stats;
    if (stats->passes > 0)
        return true;
    return stats->best != NO_ORDINAL && stats->score_best >= view->options[OPT_GAMMA];
}

/* Mean score; what is in flight, failed or could not be judged counts as 0. */
static double mean_score(const struct prompt_view *view)
{
    return view->opened ? view->stats->score_sum / view->opened : 0;
}

/* UCB: mean + sqrt(c ln t / n). The view does not hold the total t, so the prompt's own horizon
 * (its cap) stands for it, as in fixed-horizon UCB: the order of two prompts with equal caps then
 * rests on mean and n alone. */
static double ucb_gain(const struct prompt_view *view)
{
    double n = view->opened ? view->opened : 1;
    return mean_score(view) + sqrt(view->options[OPT_C] * log(1.0 + view->cap) / n);
}

/* GAP: the prompt whose mean is nearest to gamma; 1 at a gap of 0. */
static double gap_gain(const struct prompt_view *view)
{
    return GAP_EPS / (GAP_EPS + fabs(view->options[OPT_GAMMA] - mean_score(view)));
}

/* ENTROPY: entropy of the answer classes over its largest possible value, ln(voters). Hopeless
 * prompts repeat themselves. Samples without an answer, and those in flight, bring no diversity:
 * they scale it down. */
static double entropy_gain(const struct prompt_view *view)
{
    const struct stats *stats = view->stats;
    if (stats->voters < 2)
        return 0;
    double entropy = 0;
    for (uint32_t i = 0; i < stats->classes_len; i++) {
        double p = (double)stats->classes[i].count / stats->voters;
        entropy -= p * log(p);
    }
    return entropy / log(stats->voters) * stats->voters / view->opened;
}

static double rule_gain(const struct prompt_view *view)
{
    switch ((int)view->options[OPT_RULE]) {
    case RULE_UCB:
        return ucb_gain(view);
    case RULE_GAP:
        return gap_gain(view);
    case RULE_ENTROPY:
        return entropy_gain(view);
    }
    return 1.0 / (1.0 + view->opened);
}

static double elimination_gain(const struct prompt_view *view)
{
    if (view->opened >= view->cap || elimination_solved(view))
        return 0;
    if (view->opened < view->options[OPT_FLOOR])
        return GAIN_FLOOR / (1.0 + view->opened);
    return fmax(rule_gain(view), GAIN_LEAST / (1.0 + view->opened));
}

const struct allocator allocate_elimination = {
    .name = "elimination",
    .help = "sample unsolved prompts only; a prompt is solved when its best score reaches gamma",
    .version = 1,
    .needs = NEED_VERIFIER,
    .min_n = 1,
    .options = options,
    .gain = elimination_gain,
    .solved = elimination_solved,
};
