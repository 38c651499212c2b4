/* report_curve.h - one point of a curve: one arm, one N, some prompts. Used by report.c and tests. */
#ifndef DROVER_REPORT_CURVE_H
#define DROVER_REPORT_CURVE_H

#include "broker/report.h"
#include "common/limits.h"

enum judgement { JUDGED, JUDGED_UNKNOWN, JUDGED_PENDING, JUDGED_UNDECIDED };

/* One prompt at one N. */
struct sample {
    enum judgement judgement; /* of a sweep without truth: PENDING */
    double right;             /* 0..1, if JUDGED */
    uint32_t rollouts, truncated, raced;
    bool exhausted; /* its recorded pool ended before n */
    bool answered;  /* something was selected */
    uint64_t tokens, slot_ms, cost;
};

/* What the arm would have done with prompt under a cap of n <= arm->n (a tree arm: n = arm->n). */
struct sample sample_at(const struct core *core, const struct arm_info *arm, uint32_t prompt, uint32_t n);

/* The arm of bins that an arm is a part of, as one: its name, the n and the selector of the bin with the largest n, and of
 * its first part (the pilot, if it has one) the rest. sample_at gives what the bin of a prompt gives, its pilot's costs
 * included. */
struct arm_info arm_whole(const struct core *core, uint32_t part);
bool arm_is_part(const struct core *core, const struct arm_info *whole, uint32_t arm);

/* Positions of what the arm submits under a cap of n for a decided prompt, best first; how many: 0 if it abstains. */
uint32_t arm_submitted(const struct core *core, const struct arm_info *arm, uint32_t prompt, uint32_t n,
                       uint32_t winners[LIMIT_TOP]);

/* True when N < n is estimated from all delivered rollouts: pass@k of Chen et al. 2021. */
bool sample_unbiased(const struct arm_info *arm);

struct interval {
    double mean, low, high;
};

/* Mean and its 95% interval: bootstrap over these values (1,000 resamples, percentiles), a pure function
 * of them and the seed; above 2,000 values the normal interval, which it has become by then. NaN when
 * there are none. */
struct interval interval_of(const double *values, uint32_t len, uint64_t seed);

#endif
