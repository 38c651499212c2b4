/* world.h - prompts whose laws are known: what every rollout and every verdict of them will be.
 *
 * Rollout k of prompt i is a pure function of (seed, i, k), and so is a verdict on it: whatever asks, in whatever order,
 * sees the same ones (common random numbers). So methods are compared on the same luck. No answer has an order: names of
 * classes are hashes. Laws: doc/PLAN.md. */
#ifndef DROVER_WORLD_H
#define DROVER_WORLD_H

#include "broker/dice.h"
#include "broker/policy/policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* -- laws --------------------------------------------------------------------------------------------------------- */

/* How likely a rollout of a prompt is right. */
enum world_rates {
    RATES_BETA,      /* drawn from Beta(alpha, beta); a share `zero` of the prompts is never right */
    RATES_FIXED,     /* `rate` */
    RATES_DIRICHLET, /* all answers of a prompt, the right one among them, are Dirichlet(concentration) */
};

/* Some of the prompts. */
struct world_kind {
    double share; /* of all prompts, in whatever unit */
    enum world_rates rates;
    double alpha, beta, zero, rate, concentration;
};

/* How the wrong rollouts of a prompt agree with each other. */
enum world_wrong { WRONG_EVEN, WRONG_ZIPF, WRONG_DIRICHLET };

struct world_answers {
    enum world_wrong law;
    uint32_t classes;     /* of wrong answers, at most WORLD_CLASSES_MAX */
    double concentration; /* of WRONG_DIRICHLET */
    double junk, blank;   /* shares of the wrong rollouts whose answer nobody shares, that have none */
};

enum { WORLD_CLASSES_MAX = 4096 };

/* Tokens of a rollout: lognormal around a median of the prompt, which is lognormal too. */
struct world_lengths {
    double median;          /* over prompts */
    double between, within; /* sigma of ln: of prompts, of a prompt's rollouts */
    double right;           /* factor for right rollouts: they tend to be shorter */
    uint32_t most;          /* cut there: truncated */
    uint32_t prompt;        /* tokens of the prompt */
};

enum world_verdicts {
    VERDICTS_EXACT,   /* pass or fail, never wrong */
    VERDICTS_NOISY,   /* votes: yes with a probability that each class of answers of a prompt draws for itself */
    VERDICTS_REWARD,  /* normal around a mean of the prompt, cut to [0, 1]; right ones higher by `gap` */
    VERDICTS_BIMODAL, /* near 0 or near 1: Beta with mean tpr or fpr */
};

struct world_verifier {
    char name[65];
    enum world_verdicts verdicts;
    /* NOISY, BIMODAL */
    double tpr, fpr; /* mean probability of a yes for right, for wrong answers */
    double icc;      /* how alike a verifier takes rollouts of one class: 0: each by itself, 1: all the same */
    double link;     /* fpr falls as (1 - rate)^link: weak tests go with weak models */
    uint32_t votes;  /* the score is the mean of so many; passed above one half */
    /* REWARD */
    double mean_low, mean_high, deviation_low, deviation_high, gap; /* of prompts: uniform between these */
    double tail;    /* share of the wrong rollouts that it likes beyond all measure (Pareto above 1) */
    double seconds; /* that a verdict takes */
};

/* One prompt. Class 0 is the right answer. */
struct world_prompt {
    double right;     /* how likely a rollout is right */
    double *reach;    /* running sums of the probabilities of `classes` classes; owned */
    uint32_t classes; /* at least 1 */
    double blank;     /* probability of no answer; what is left is junk */
    double top;       /* probability of its likeliest class */
    uint32_t mode;    /* that class */
    double median;    /* of its tokens */
};

struct world_law {
    const struct world_kind *kinds;
    size_t kinds_len;
    struct world_answers answers;
    struct world_lengths lengths;
    double auroc; /* of lp_mean: how often that of a right rollout is above that of a wrong one; 0.5: tells nothing */
    const struct world_verifier *verifiers;
    size_t verifiers_len;
    /* Where prompts come from, if not from kinds: fills right, reach, classes, blank, median. */
    void (*draw)(const void *source, uint32_t index, struct dice *dice, struct world_prompt *prompt);
    const void *source;
};

/* -- a world ------------------------------------------------------------------------------------------------------ */

struct world {
    uint64_t seed;
    const struct world_law *law; /* borrowed */
    struct world_prompt *prompts;
    uint32_t prompts_len;
    double apart; /* how far lp_mean of right rollouts is above that of wrong ones, in deviations */
};

/* law must outlive it. */
struct world *world_new(const struct world_law *law, uint32_t prompts, uint64_t seed);
void world_free(struct world **world);

struct world_rollout {
    uint64_t class; /* 0: no answer */
    bool right, truncated;
    uint32_t tokens;
    double lp_mean;
};
struct world_rollout world_rollout(const struct world *world, uint32_t prompt, uint32_t ordinal);

/* The same, of the answer alone: right, or the likeliest of its prompt. */
bool world_right(const struct world *world, uint32_t prompt, uint32_t ordinal);
bool world_mode(const struct world *world, uint32_t prompt, uint32_t ordinal);

struct verdict world_verdict(const struct world *world, uint32_t verifier, uint32_t prompt, uint32_t ordinal);

/* The rollout as policies see it; verifier: NO_VERIFIER for none. features: room for two, which the item borrows. */
#define NO_VERIFIER UINT32_MAX
struct item world_item(const struct world *world, uint32_t verifier, uint32_t prompt, uint32_t ordinal,
                       float features[2]);

/* Features that rollouts of a world have. */
#define WORLD_FEATURES (1u << FEATURE_LP_SUM | 1u << FEATURE_LP_MEAN)

/* Running sums for wrong answers beside a right one: fills reach, classes and blank from prompt->right. */
void world_spread(const struct world_answers *answers, struct dice *dice, struct world_prompt *prompt);

#endif
