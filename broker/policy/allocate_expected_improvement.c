/* allocate_expected_improvement.c - for best-of-N by a reward: a pilot of every prompt, then the prompt whose best score
 * is expected to grow most.
 *
 * After AdaBoN ("AdaBoN: adaptive best-of-N alignment", 2025) and BEACON (2510.15945), both known to us from notes. A
 * pilot tells each prompt's law of rewards; the rest of the budget goes greedily to the largest expected growth of the
 * maximum. With rewards taken as normal, of mean m and deviation s so far, and z the best of them, one more adds
 *     s (phi(u) - u (1 - Phi(u))), u = (z - m) / s,
 * the expected improvement of Bayesian search. Every score that comes in refines m, s and z, so the pilot can be small.
 * AdaBoN plans once, from the pilot alone; its order statistics were tried and save less, since a pilot of 4 says little
 * of the best of 16. */
#include "broker/policy/policy.h"

#include <math.h>

enum { OPT_PILOT };

#define GAIN_PILOT 1e12 /* pilots come first */
#define GAIN_LEAST 1e-9 /* keeps a prompt whose scores are all the same in the running */

static const struct option_row options[] = {
    [OPT_PILOT] = {.name = "pilot",
                   .type = OPTION_INT,
                   .min = 2,
                   .max = 64,
                   .fallback = 4,
                   .help = "rollouts that every prompt gets first, to learn its law of scores"},
    {.name = NULL},
};

static double improvement(double mean, double deviation, double best)
{
    double u = (best - mean) / deviation;
    double density = exp(-u * u / 2) / sqrt(2 * 3.14159265358979323846), tail = erfc(u / sqrt(2)) / 2;
    return deviation * (density - u * tail);
}

/* What is in flight will take its share of the growth. */
static double expected_improvement_gain(const struct prompt_view *view)
{
    const struct stats *stats = view->stats;
    if (view->opened >= view->cap)
        return 0;
    if (view->opened < view->options[OPT_PILOT])
        return GAIN_PILOT / (1.0 + view->opened);
    double least = GAIN_LEAST / (1.0 + view->opened);
    if (stats->scored < 2)
        return least;
    double mean = stats->score_sum / stats->scored;
    double variance = (stats->score_sumsq - stats->score_sum * mean) / (stats->scored - 1.0);
    if (!(variance > 0))
        return least;
    return fmax(improvement(mean, sqrt(variance), stats->score_best) / (1.0 + view->opened - stats->delivered), least);
}

const struct allocator allocate_expected_improvement = {
    .name = "expected-improvement",
    .help = "a pilot of every prompt, then where the best score is expected to grow most",
    .version = 1,
    .needs = NEED_VERIFIER,
    .min_n = 2,
    .options = options,
    .gain = expected_improvement_gain,
    .solved = NULL,
};
