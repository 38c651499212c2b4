/* predict.h - what verifiers with errors, larger votes and more effort can still give, from numbers alone.
 *
 * Formulas are those of the papers named; the reconstructions say so. */
#ifndef DROVER_PREDICT_H
#define DROVER_PREDICT_H

#include "broker/policy/estimate.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* -- a verifier with errors (Stroebl et al. 2024, Inference scaling flaws) --------------------------------------- */

struct error_rates {
    double true_pass, false_pass; /* share of the right, of the wrong rollouts that it accepts */
};

/* Share of its accepted rollouts that are right, if this share of all is: the ceiling of "repeat until accepted". */
double accepted_right(double rate, struct error_rates verifier);

/* Chance that the first accepted of at most k rollouts is there and right. */
double accuracy_until_accepted(double rate, struct error_rates verifier, double k);

/* Odds that a rollout is right, after these votes: odds before, times one likelihood ratio a vote. */
double odds_after(double odds, struct error_rates verifier, uint32_t accepts, uint32_t rejects);

/* Success rates that stand for equal shares of the law, each the middle of its share; zero is left out. */
enum { LAW_SHARES = 512 };
void law_shares(const struct rate_law *law, double rates[LAW_SHARES]);

/* Rollouts up to which repeating until acceptance gains: right +1, wrong -cost, nothing accepted 0, averaged over the
 * law (midpoints of equal shares; derived, not from the paper). UINT32_MAX: beyond `most`. *utility: at that count. */
uint32_t repeats_worthwhile(const struct rate_law *law, struct error_rates verifier, double cost, uint32_t most,
                            double *utility);

/* -- votes ------------------------------------------------------------------------------------------------------- */

/* Rollouts of one prompt by class of answer. Those that failed or gave no answer cast no vote. */
struct ballot {
    const uint32_t *counts;
    size_t len;   /* classes */
    size_t right; /* the class that is; len: none */
    uint32_t blank;
};

/* Chance that the plurality of n of these rollouts, drawn without replacement, is right, exactly. A tie goes to
 * whichever was seen first: to each of the tied classes with equal chance, since any order is equally likely.
 * n = 0..all of them, of which there are at most VOTES_MAX. O(all * n * n). */
enum { VOTES_MAX = 4096 };
double majority_at(const struct ballot *ballot, uint32_t n);

/* -- effort: ARISE ------------------------------------------------------------------------------------------------ */

/* One item at rising levels of effort. A gain counts the less the more tokens it took, a loss the more. */
struct effort {
    double right; /* 0..1 */
    double tokens;
};
double arise(const struct effort *levels, size_t len);

/* -- parameters of a configuration: Yue et al. 2024, Inference scaling for long-context RAG, section 5 -------------- */

/* logit(accuracy) = base + the sum of slope * ln(parameter); ln(1 + parameter) where one of them may be 0. The paper's
 * further term, how informative documents and shots are for a task, has no source here. */
enum { GRID_FACTORS_MAX = 8 };
struct grid_row {
    double parameters[GRID_FACTORS_MAX]; /* >= 0 */
    double accuracy;                     /* 0..1; taken as in [.01, .99] */
};

struct grid_law {
    uint32_t factors;
    bool plus_one[GRID_FACTORS_MAX]; /* ln(1 + parameter) */
    double slope[GRID_FACTORS_MAX], base;
};

/* Least squares on the logits. False: fewer rows than unknowns and one more, or a parameter follows from the others. */
bool fit_grid(const struct grid_row *rows, size_t len, uint32_t factors, struct grid_law *law);
double grid_at(const struct grid_law *law, const double *parameters);

/* -- predicting the gain of best-of-N (reconstruction of seed features, ridge regression) ------------------------- */

/* Of one prompt with m rollouts. */
struct gain_prompt {
    double top_share;   /* of the largest class */
    double first_right; /* place of the first right rollout from 1 on; m + 1: none */
    double length_variance;
    double class_entropy;
};

enum { GAIN_FEATURES = 4, GAIN_ROWS_MIN = 10 };

/* Of a whole configuration: spread of top shares, then the means of the other three. len > 0. */
void gain_features(const struct gain_prompt *prompts, size_t len, double x[GAIN_FEATURES]);

struct gain_row {
    double x[GAIN_FEATURES], gain;
};

struct gain_law {
    double mean[GAIN_FEATURES], scale[GAIN_FEATURES], slope[GAIN_FEATURES], base;
    double penalty; /* chosen by leaving one configuration out */
};

/* False with fewer than GAIN_ROWS_MIN rows: too few to tell four slopes from noise. */
bool fit_gain(const struct gain_row *rows, size_t len, struct gain_law *law);
double gain_at(const struct gain_law *law, const double x[GAIN_FEATURES]);

/* Spearman's rank correlation; equal values share the mean of their ranks. NAN when one of both is constant. */
double rank_correlation(const double *x, const double *y, size_t len);

#endif
