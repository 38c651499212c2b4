/* report.h - accuracy against compute, for every arm and group of prompts, with what it cost.
 *
 * Built from a core that keeps nodes (core_options.keep_nodes) and is settled; names are borrowed from
 * it, so it must outlive the report.
 *
 * An arm that samples is decided again on its recorded prefix for each N of its curve: fold N rollouts,
 * stop where stopper or allocator would, select. (An allocator that moves a common budget between
 * prompts would have moved it differently under a smaller cap; the last point of a curve is what
 * really happened.) Tree arms of one name are the points of one curve. Only decided prompts count;
 * those whose winner has no known truth are left out of the accuracy and counted apart. */
#ifndef DROVER_REPORT_H
#define DROVER_REPORT_H

#include "broker/core/read.h"
#include "broker/policy/estimate.h"
#include "broker/policy/saving.h"
#include "broker/report_table.h"

struct calibration;

struct report_point {
    uint32_t n;
    uint32_t prompts; /* decided */
    uint32_t undecided;
    uint32_t judged;            /* of the decided: their winner's truth is known, or nothing was selected */
    uint32_t unknown, pending;  /* truth is UNKNOWN; not there yet */
    uint32_t answered;          /* of the judged: something was selected */
    double accuracy, low, high; /* share of the judged, 95% interval; NaN when nothing was judged */
    bool unbiased;              /* pass@k over all delivered rollouts, not the first N alone */
    uint64_t rollouts;          /* used, all prompts together */
    uint64_t tokens, slot_ms;   /* charged for them, as if the arm ran alone */
    uint64_t cost;              /* the same in money, millionths; 0 where nothing has a price */
    uint64_t truncated, raced;  /* rollouts among them */
    uint32_t exhausted;         /* prompts whose recorded pool ended before n */
};

/* One bin of an arm of bins: the prompts that fell into it. */
struct report_bin {
    struct arm_info arm;
    uint32_t prompts, judged; /* decided; with a known truth */
    double right;             /* of the judged */
    uint64_t rollouts;        /* used, with the pilot's */
};

struct report_curve {
    struct arm_info arm;     /* the one of the largest n; of an arm of bins as arm_whole has it */
    struct report_bin *bins; /* of such an arm, in the group of all prompts; bins_len of them */
    uint32_t bins_len;
    char *model;                 /* owned: of several as "small+large" */
    const char *sweep;           /* of the arm, when it is another one that stands beside; else NULL */
    struct report_point *points; /* by n */
    uint32_t points_len;
};

struct report_group {
    const char *name; /* of the prompts; "all" for the first */
    uint32_t prompts;
    struct report_curve *curves; /* report->curves_len of them, in the order of the arms */
};

/* What one verifier said of the rollouts that the arms were delivered. */
struct report_verdicts {
    const char *verifier;
    uint64_t outcomes[OUTCOMES], len;
};

/* Prompts by their judged rollouts. */
struct report_mix {
    uint32_t prompts, unjudged; /* with such rollouts, without */
    uint32_t all_right, none_right;
    uint64_t rollouts;
};

/* A law of success rates, and the coverage from which it goes on. */
struct report_reach {
    bool known;          /* there was enough to fit */
    bool measured;       /* the coverage of the anchor; else it comes from the law */
    struct rate_law law; /* with zero = 0 */
    struct anchor anchor;
};

/* Rollouts that arms of one model share. */
struct report_pool {
    uint32_t pool;
    const char *model;
    struct report_mix *mixes;  /* by group, report->groups_len of them */
    struct report_reach reach; /* from all judged rollouts */
    struct report_reach half;  /* from the first half of them alone, to see what it would have foretold */
    double unsolvable; /* share of prompts that is never solved, if the counts fit much better with one; else 0 */
    uint32_t unsolved; /* judged prompts without a right rollout */
    double solves;     /* how many of these as many rollouts as the anchor's are expected to solve, each */
};

/* What an adaptive arm saved. Both are curves. */
struct report_saving {
    uint32_t curve, base, prompts;
    struct saving saving;
};

enum { REPORT_TABLES_MAX = 16 };

struct report {
    struct sweep_info sweep;
    const char *truth;                /* name of its verifier, NULL: none */
    const char *truth_wanted;         /* what a person gives when there is none, NULL: a key of the sweep file */
    double wall_s;                    /* negative: unknown */
    uint64_t charged;                 /* rollouts that the arms used, each arm as if it ran alone */
    struct killed killed;             /* rollouts of its arms that were ended early */
    uint64_t bought;                  /* rollouts that the sweep paid for and kept, or gave up */
    struct report_verdicts *verdicts; /* verdicts_len of them */
    uint32_t verdicts_len;
    struct report_group *groups;
    uint32_t groups_len, curves_len;
    struct calibration **verifiers; /* of the arms, against the truth; see calibration.h */
    uint32_t verifiers_len;
    struct report_pool *pools;     /* with a truth; pools_len of them */
    struct report_saving *savings; /* savings_len of them */
    uint32_t pools_len, savings_len;
    double target; /* coverage that a budget is wanted for, NaN: none; set by the caller */
    struct report_table tables[REPORT_TABLES_MAX]; /* tables_len of them, once report_tables_fill was called */
    uint32_t tables_len;
};

struct report *report_new(const struct core *core, uint32_t sweep, double wall_s);
/* With the curves of another sweep over the same prompts ahead of its own; all else is of the sweep alone. */
struct report *report_beside(const struct core *core, uint32_t sweep, uint32_t other, double wall_s);
void report_free(struct report **report);

/* Also fills the tables that text and JSON show if they are there: they read every rollout several times. Once, and
 * only with a truth. */
void report_tables_fill(const struct core *core, struct report *report);

/* Where a report is read. */
struct report_page {
    bool utf8;        /* more than ASCII may be used */
    uint32_t columns; /* the plot takes no more, from 40 to 80; 0: 80 */
};

/* Tables and a plot. */
void report_text(const struct report *report, struct report_page page, struct buf *out);
void report_json(const struct report *report, struct buf *out);
/* One row per group, arm and N. Text that a spreadsheet would take for a formula is made text. */
void report_csv(const struct report *report, struct buf *out);

/* report_more.c, report_more_print.c: the mix of prompts, extrapolated coverage, savings. */
void report_more_fill(const struct core *core, struct report *report);
void report_more_clear(struct report *report);
void report_more_text(const struct report *report, struct buf *out);
void report_more_json(const struct report *report, struct buf *json);

/* report_plot.c: accuracy against N of one group, one letter per arm. Nothing when no point has any. */
void report_plot(const struct report *report, const struct report_group *group, struct report_page page,
                 struct buf *out);
char report_letter(uint32_t curve);

#endif
