/* bins.h - bins of difficulty: where their edges are, and how many rollouts each is worth.
 *
 * Snell et al. 2024 (arXiv 2408.03314, section 3) spend test-time compute by the difficulty of a prompt, in five bins. Here
 * what is spent is rollouts, and what is wanted is coverage, which grows by E[theta (1 - theta)^n] with the n + 1st of a
 * prompt: concave, so the best n of each bin come from giving one rollout after the other to the bin that gains most per
 * prompt (our derivation).
 *
 * A prompt's rate is not known but believed: a *case* is a way that a prompt may turn out, with its probability. */
#ifndef DROVER_BINS_H
#define DROVER_BINS_H

#include "broker/policy/policy.h"

enum { BINS = 5 };

/* What tells how easy a prompt is: of its first rollouts the share that passes, the mean score, the share of the leading
 * answer; or the mean of the arm's prior. Stored. */
enum bins_by { BY_PASSES, BY_SCORE, BY_AGREEMENT, BY_PRIOR };

/* Of the first rollouts. Without a verdict, or an answer, a prompt is as hard as can be. Not for BY_PRIOR. */
double bins_value(enum bins_by by, const struct item *items, uint32_t len);

struct bin_case {
    double weight;        /* prompts that turn out so; > 0 */
    double value;         /* how easy the prompt then looks: what falls into the bins */
    struct belief belief; /* of its rate, then */
    bool covered;         /* one of the rollouts taken so far passed */
};

struct bins {
    double edges[BINS - 1]; /* ascending; values up to edges[0] are of bin 0, the hardest */
    uint32_t n[BINS];       /* rollouts, those taken so far among them */
};

/* Bin of a value. */
int bins_of(const double edges[BINS - 1], double value);

/* Edges at fifths of the weight; sorts the cases by value. len > 0. Beliefs are not looked at. */
void bins_edges(struct bin_case *cases, size_t len, double edges[BINS - 1]);

/* Appends the cases of a prompt to `cases` (room for pilot + 1), sorted by nothing; returns how many. pilot > 0: as many
 * rollouts are taken, and the share that passes is the value; 0: the mean of the belief is. */
uint32_t bins_cases(struct belief belief, uint32_t pilot, struct bin_case *cases);

/* Edges at fifths of the weight, and the n that cover most with at most `budget` rollouts per prompt on average; each at
 * least 1, at least `taken` (what all cases have taken) and at most `most`. Sorts the cases by value. len > 0. */
struct bins bins_fit(struct bin_case *cases, size_t len, uint32_t taken, double budget, uint32_t most);

struct bins_outlook {
    double coverage, cost; /* share of prompts, rollouts per prompt */
    double share[BINS];    /* of the prompts */
};

struct bins_outlook bins_outlook(const struct bins *bins, const struct bin_case *cases, size_t len, uint32_t taken);

/* Rollouts of every prompt with which as many are covered; n may be broken. INFINITY: more than `most`. cases: as
 * bins_cases gives them for a pilot of 0. */
double bins_even(const struct bin_case *cases, size_t len, double coverage, double most);

/* Coverage when every prompt gets n. */
double bins_even_coverage(const struct bin_case *cases, size_t len, double n);

#endif
