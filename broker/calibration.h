/* calibration.h - how far a verifier agrees with the truth, on rollouts that both have judged.
 *
 * A right rollout that is accepted is a true positive; the rates by group of prompts are what planning with an imperfect
 * verifier needs (precision, the ceiling of best-of-N). What a score is worth for selection is how it ranks the rollouts of
 * ONE prompt: over all prompts together it is mostly measured how hard they are, so both are given. */
#ifndef DROVER_CALIBRATION_H
#define DROVER_CALIBRATION_H

#include "broker/core/read.h"
#include "broker/report_curve.h"

struct calibration_group {
    const char *name;                        /* of the prompts; "all" for the first */
    uint64_t right, wrong;                   /* rollouts that the truth knows and the verifier judged */
    uint64_t right_accepted, wrong_accepted; /* of these */
    uint64_t silent;                         /* rollouts that the truth knows and the verifier cannot tell */
    struct interval tpr, fpr; /* accepted share of right, of wrong; Clopper-Pearson 95%; NaN: there are none */
    struct interval rank;     /* P(a right one scores above a wrong one of its prompt), ties one half */
    uint32_t ranked;          /* prompts with both kinds: rank is the mean over them */
    double auc;               /* the same over all prompts together; NaN: only one kind */
    struct interval best;     /* share of prompts whose best-scored rollout is right; ties count in part */
    double chance;            /* the same if the scores were all equal */
};

#define CALIBRATION_WINDOW 0.2 /* share of the rollouts that a cascade's window holds, unless somebody says otherwise */

/* Where a cascade should ask a costlier verifier: scores around the threshold, between two quantiles. */
struct calibration_window {
    double wanted;    /* share of the scores that it should hold */
    double low, high; /* both belong to it; NaN: there are no scores */
    double share;     /* that it holds: less at the ends, more where scores are equal */
    double outside; /* share of the rollouts outside that low and high decide as the truth does; NaN: there are none */
};

struct calibration {
    const char *verifier, *truth;
    double threshold; /* scores from here on are accepted; NaN: the verifier's own pass and fail */
    bool chosen;      /* the threshold was chosen: the one with the largest tpr - fpr */
    struct calibration_window window;
    struct calibration_group *groups; /* as in a report: "all", and one per group when there are several */
    uint32_t groups_len;
};

/* threshold NaN: its own pass and fail, or, if it only scores, the one that is chosen. window: wanted share. NULL when no rollout of the sweep has
 * a verdict of both. Names are borrowed from the core. */
struct calibration *calibration_new(const struct core *core, uint32_t sweep, uint32_t verifier, uint32_t truth,
                                    double threshold, double window);
void calibration_free(struct calibration **calibration);

void calibration_text(const struct calibration *calibration, struct buf *out);
void calibration_line(const struct calibration *calibration, struct buf *out); /* of all prompts, for reports */
void calibration_json(const struct calibration *calibration, struct buf *json);

#endif
