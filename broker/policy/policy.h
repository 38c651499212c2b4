/* policy.h - the four tables of policies and what they see.
 *
 * A policy is stateless: it reads a view of one (arm, prompt) and says what it wants; the core checks that against the
 * ledger and turns it into facts and tasks. Views carry statistics of the *delivered prefix*: rollouts in order of
 * their ordinals, each with the verdict that the arm needs. So a decision is the same on any number of workers.
 * Policies may use libm (their decisions are remembered as facts), never a clock, an address or global state. */
#ifndef DROVER_POLICY_H
#define DROVER_POLICY_H

#include "broker/policy/schedule.h"
#include "common/buf.h"
#include "common/options.h"
#include "common/rollout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NO_ORDINAL  UINT32_MAX
#define SPENT_STEPS 64

/* What a policy may need from generator or verifier; an arm that lacks one is refused at submit. */
enum policy_needs {
    NEED_ANSWER = 1,   /* the model has an answer extractor        */
    NEED_VERIFIER = 2, /* the arm names a verifier                 */
    NEED_STEPS = 8,    /* the backend can continue a path stepwise */
    NEED_LEGS = 16,    /* the arm draws from several models        */
    NEED_BLOCKS = 32,  /* one after the other                      */
    NEED_PRIOR = 64,   /* the arm has a prior                      */
    NEED_THINKS = 128, /* backend and model can be made to think on */
    NEED_TURNS = 256,  /* the backend can be shown earlier attempts */
    NEED_BUDGET = 512, /* the arm has a budget of its own          */
};

/* One delivered rollout, as folded into the statistics. */
struct item {
    uint32_t ordinal;      /* position in the delivered order */
    uint64_t class;        /* hash of the canonical answer; 0: no answer, no vote */
    bool failed;           /* failed for good: keeps its place, nothing else */
    bool scored;           /* the arm's verdict is known (not UNKNOWN) */
    bool passed;           /* outcome of that verdict */
    double score;          /* its score, if scored */
    bool truncated;        /* ended by a limit: its answer, if any, is of a part */
    uint8_t leg;           /* of the arm, that it was drawn from */
    uint32_t tokens;       /* generated tokens */
    uint32_t have;         /* bitmap of enum feature */
    const float *features; /* those that it has, lowest first; lives as long as the rollout's arm is undecided */
};

/* Whether the rollout has this feature; *value is set if so. Failed rollouts have none. */
bool item_feature(const struct item *item, enum feature feature, double *value);

struct class_stat {
    uint64_t class;
    uint32_t first; /* ordinal that was the first of this class */
    uint32_t count, scored;
    double weight; /* sum of scores of its scored members */
    double score_best;
};

/* Statistics of a delivered prefix, kept up to date by stats_fold. All sums run in ordinal order. */
struct stats {
    uint32_t delivered, failed, voters; /* voters: delivered items with an answer */
    uint32_t classes_len, classes_cap;
    struct class_stat *classes; /* by first ordinal */
    uint32_t top, second;       /* index of the two largest counts; ties: lowest first ordinal */
    uint32_t top_weight;        /* index of the largest weight; ties: lowest first ordinal */
    uint32_t scored, passes;
    uint32_t first_pass;   /* ordinal, or NO_ORDINAL */
    uint32_t best;         /* ordinal of the best score, lowest on ties, or NO_ORDINAL */
    uint32_t first_answer; /* lowest ordinal that has an answer, or NO_ORDINAL */
    double score_best;
    double score_sum, score_sumsq;
    uint64_t tokens;
    bool keeps;         /* the folded items are kept, for policies that say `items` */
    struct item *items; /* if kept: `delivered` of them */
    uint32_t items_cap;
};

void stats_init(struct stats *stats, bool keeps);
void stats_clear(struct stats *stats);
void stats_fold(struct stats *stats, const struct item *item);
const struct item *stats_item(const struct stats *stats, uint32_t ordinal); /* if kept; NULL: none of the folded */
void stats_copy(struct stats *to, const struct stats *from);                /* to: fresh or cleared */

/* Beta(a, b): what is believed of a prompt's rate of passes. */
struct belief {
    double a, b;
};

/* What an allocator, stopper or selector sees of one (arm, prompt). */
struct prompt_view {
    uint32_t prompt;
    uint32_t cap;    /* most rollouts the arm may use here: its n */
    uint32_t opened; /* rollouts asked for; opened - stats->delivered are in flight: virtual samples */
    const struct stats *stats;
    const struct schedule *schedule; /* which leg has which position */
    double spent;          /* only for allocators that say so: share of the arm's budget, in steps of 1 / SPENT_STEPS */
    double price;          /* of the arm, where that follows its budget; 0: it does not, or has not moved yet */
    uint64_t seed;         /* of the sweep: draw with rng_u64(seed, RNG_SELECT, prompt, ordinal) */
    double cost;           /* expected cost of one more rollout, in the unit of the arm's budget; > 0 */
    const double *options; /* values of this policy's own options, in the order of its rows */
    struct belief prior;   /* of the arm, about this prompt; a = 0: the arm has none */
};

/* What the arm's prior believes of this prompt; without one, options a and b of the policy, which are these rows. */
struct belief view_belief(const struct prompt_view *view, int a, int b);

struct allocator {
    const char *name, *help;
    uint32_t version, needs, min_n;
    const struct option_row *options;
    uint32_t features; /* bitmap of enum feature that every rollout must have, or the arm is refused */
    bool items;        /* reads stats->items */
    bool spent;        /* reads view->spent: all its gains change at each step of it */
    bool existing;     /* its arms have nothing generated, as if they said `rollouts: existing` */
    bool prior;        /* reads view->prior */
    uint32_t (*needs_by)(const double *options);    /* more needs, by the options' values; NULL: none */
    double (*gain)(const struct prompt_view *view); /* value of one more rollout; <= 0: none wanted */
    bool (*solved)(const struct prompt_view *view); /* this prompt needs nothing more; NULL: never */
};

/* Which rollouts of a prompt are ended while they are generated: those of which the mean confidence of some window falls
 * below a threshold that the first rollouts set. It is part of what makes a pool, see kill.h. */
struct kill_rule {
    uint32_t window; /* tokens; 0: none are ended */
    uint32_t warmup; /* rollouts that set the threshold, and are whole themselves */
    double keep;     /* percent of these that reach it */
};

enum { WARMUP_MAX = 512 };

struct stopper {
    const char *name, *help;
    uint32_t version, needs, min_n;
    const struct option_row *options;
    uint32_t features; /* bitmap of enum feature that every rollout must have, or the arm is refused */
    bool items;        /* reads stats->items */
    bool prior;        /* reads view->prior */
    uint32_t (*needs_by)(const double *options);      /* more needs, by the options' values; NULL: none */
    bool (*stop)(const struct prompt_view *view);     /* asked after every delivered rollout */
    uint32_t (*room)(const struct prompt_view *view); /* most further rollouts it may still use; NULL: up to cap */
    /* The arm's next price, after a period in which it spent `rate` times what would have lasted to the end; price 0: it
     * has none yet. For options that bring NEED_BUDGET; NULL: it has none. See core/price.c. */
    double (*reprice)(const double *options, double price, double rate);
    /* The rule of arms with these options; NULL: none. Then room keeps to the warm-up until that is delivered. */
    struct kill_rule (*kill)(const double *options);
};

/* Whether with these options the price of a rollout follows the arm's budget. */
bool stopper_reprices(const struct stopper *stopper, const double *options);

struct ranking {
    uint32_t winner;   /* ordinal, or NO_ORDINAL: abstains */
    double confidence; /* of the winner, see enum confidence; 0 when it abstains */
};

/* What a selector's confidence may be, so that nobody asks for one that it never reaches. */
enum confidence {
    CONFIDENCE_SHARE,  /* of the votes or chances: 0 to 1                     */
    CONFIDENCE_BELOW0, /* a log-probability, or minus an entropy: at most 0 */
    CONFIDENCE_SCORE,  /* any number                                          */
};

struct selector {
    const char *name, *help;
    uint32_t version, needs, min_n;
    const struct option_row *options;
    uint32_t features; /* bitmap of enum feature that every rollout must have, or the arm is refused */
    bool items;        /* reads stats->items */
    uint32_t (*wants)(const double *options); /* more such features, by the options' values; NULL: none */
    bool covers;                              /* measures coverage: right when any rollout is, whatever the winner */
    bool may_vote;                            /* its first option is `vote`, under which the confidence is a share */
    enum confidence confidence;
    void (*select)(const struct prompt_view *view, struct ranking *out);
};

/* A node of a tree as a strategy sees it. Nodes are numbered densely in the order in which they were planned. */
struct node_view {
    uint32_t parent;    /* node, or NO_ORDINAL: the prompt itself */
    uint32_t depth;     /* 1 for a child of the prompt */
    enum finish finish; /* FINISH_STEP: may be continued; FINISH_FAILED: failed for good */
    enum cue cue;       /* how it was asked for, as the plan said */
    enum extent extent;
    uint32_t cap; /* most tokens that it may generate; never 0 */
    bool scored;  /* EXTENT_THINK is never judged */
    /* Of the arm's verifier, of the path up to and including this node; of an arm with turns, of its text. */
    double score;
    uint64_t class;        /* hash of its canonical answer, 0: none */
    uint32_t tokens;       /* generated in this node */
    uint32_t have;         /* bitmap of enum feature */
    const float *features; /* those that it has, lowest first; only while the strategy plans */
};

/* What a strategy sees when every planned node of one tree is settled (that is its only barrier). */
struct tree_view {
    uint32_t prompt, tree, trees; /* tree = 0..trees-1 */
    uint32_t n;                   /* the arm's N, all trees together */
    uint32_t max_tokens;          /* of the model: most of one node */
    uint32_t nodes_len;
    const struct node_view *nodes;
    const void *record; /* record_size bytes; zeroed before the first plan */
    uint64_t seed;      /* of this (arm, prompt, tree): draw with rng_u64(seed, RNG_RESAMPLE, ...) */
    const double *options;
};

/* What a strategy wants next. Exactly one of spawn (then it is asked again when these are settled) and finish. */
struct plan {
    uint32_t *parents;
    uint32_t parents_len; /* spawn one child of each (NO_ORDINAL: of the prompt) */
    /* How each of these is generated. Before plan is asked they say what most strategies want: a step of max_tokens. */
    uint32_t *caps;   /* most tokens; 0: max_tokens */
    uint8_t *cues;    /* enum cue */
    uint8_t *extents; /* enum extent */
    uint32_t *finals;
    uint32_t finals_len; /* finish: the tree's rollouts, as end nodes, repeats allowed */
    void *record;        /* new record (record_size bytes), always filled by plan */
    uint32_t cap;        /* room in parents, with all that tells how, and in finals */
};

struct extremes {
    uint32_t tokens, tasks; /* generated in all tasks of the rollout; these follow each other */
};

struct strategy {
    const char *name, *help;
    uint32_t version, needs, min_n;
    const struct option_row *options;
    uint32_t (*needs_by)(const double *options); /* more needs, by the options' values; NULL: none */
    uint32_t features; /* bitmap of enum feature that every node must have, or the arm is refused */
    /* NULL for independent sampling: rollouts come from the shared pool. */
    uint32_t (*trees)(uint32_t n, const double *options);     /* independent trees for this n; 0: n unusable */
    size_t (*record_size)(uint32_t n, const double *options); /* bytes per tree */
    void (*plan)(const struct tree_view *view, struct plan *plan);
    /* For strategies whose nodes are whole attempts (CUE_REVISE): how many earlier ones a revision is shown; NULL: paths
     * are continued. */
    uint32_t (*memory)(const double *options);
    /* With memory: attempts of a turn. Nodes 0..width-1 of a tree are its first turn, the next so many the second. */
    uint32_t (*width)(const double *options);
    /* What one of the n rollouts takes at most, where that is known before it is planned: so much is reserved of an arm's
     * own budget. NULL: nobody knows how many steps a path will have. */
    struct extremes (*extremes)(const double *options, uint32_t max_tokens);
    /* Tokens that one node may be asked for by these options: more than the model's max_tokens is refused. NULL: none. */
    uint32_t (*most)(const double *options);
};

extern const struct strategy strategy_sample, strategy_particles, strategy_dvts, strategy_zip_rc;
extern const struct strategy strategy_budget_forcing, strategy_revise;
extern const struct allocator allocate_uniform, allocate_elimination, allocate_existing, allocate_bins;
extern const struct allocator allocate_flip, allocate_blend, allocate_marginal_gain, allocate_expected_improvement;
extern const struct stopper stop_none, stop_beta;
extern const struct stopper stop_curtail, stop_esc, stop_ppr, stop_dirichlet;
extern const struct stopper stop_optscale, stop_saturation, stop_flaws, stop_deepconf, stop_value;
extern const struct stopper stop_cascade, stop_route, stop_agree;
extern const struct selector select_two_stage, select_last_model, select_free_energy, select_standard_score;
extern const struct selector select_majority, select_weighted, select_best, select_best_logprob, select_first_pass;
extern const struct selector select_window;
extern const struct selector select_best_of_majority, select_borda, select_deepconf, select_intrinsic, select_laser;
extern const struct selector select_implicit_prm, select_soft_best, select_pessimistic, select_shortest_correct;
extern const struct selector select_markers, select_rpc, select_latent, select_log_odds, select_foreseen;

/* The tables, NULL at the end (policies.c). Positions are not stored; names and versions are. */
extern const struct strategy *const strategies[];
extern const struct allocator *const allocators[];
extern const struct stopper *const stoppers[];
extern const struct selector *const selectors[];

/* How an arm answers beside its selector's choice. */
struct answering {
    bool abstains; /* answers nothing where the selector's confidence is below `abstain` */
    double abstain;
    uint32_t top; /* answers that it submits, 1 to LIMIT_TOP: it is right when any of them is */
};

/* The highest confidence that the selector has with these options, and what it is in words; INFINITY: there is none. */
double policies_confidence_most(const struct selector *selector, const double *options, const char **what);

/* The selector's choice, or none by `answering`; the confidence stays. */
void policies_select(const struct selector *selector, const struct answering *answering, const struct prompt_view *view,
                     struct ranking *out);

/* The answers submitted: the selector's choice, then its choice among the rollouts with other answers, and so on; without
 * an answer a rollout counts for itself. For top > 1 the view's stats must keep their items. Returns how many. */
uint32_t policies_select_top(const struct selector *selector, const struct answering *answering,
                             const struct prompt_view *view, uint32_t *winners);

/* Whether one of an arm's policies reads stats->items. */
bool policies_read_items(const struct allocator *allocator, const struct stopper *stopper,
                         const struct selector *selector);

const struct strategy *strategy_find(const char *name);
const struct allocator *allocator_find(const char *name);
const struct stopper *stopper_find(const char *name);
const struct selector *selector_find(const char *name);

#endif
