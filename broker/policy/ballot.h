/* ballot.h - weighted votes: what selectors that read the rollouts themselves share.
 *
 * A ballot is one rollout with a number: a feature, a score, its length. Selectors turn these numbers into weights and
 * then count them by answer, take the largest, or draw. Failed rollouts are never among them. */
#ifndef DROVER_BALLOT_H
#define DROVER_BALLOT_H

#include "broker/policy/policy.h"

/* Numbers of a rollout beside its features. */
enum { BALLOT_SCORE = FEATURES, BALLOT_TOKENS };

struct ballot {
    uint64_t class; /* 0: no answer */
    uint32_t ordinal;
    uint32_t leg;
    double weight;
};

struct ballots {
    struct ballot *at; /* by ordinal, until something sorts them */
    uint32_t len;
};

/* One ballot of each rollout that has this number (enum feature or one of the above) and all features of `need`, a
 * bitmap; voters: only of those with an answer. Clear it. A selector that may vote does so where anybody has an answer. */
struct ballots ballots_new(const struct stats *stats, int number, uint32_t need, bool voters);
void ballots_clear(struct ballots *ballots);

/* Replaces weights by their distance from the mean in standard deviations; zeros when all are alike. */
void ballots_standardise(struct ballots *ballots);
void ballots_standardise_legs(struct ballots *ballots); /* among the ballots of the same leg */

/* Largest weight first, ties by ordinal. */
void ballots_sort(struct ballots *ballots);

/* The answer whose weights have the largest sum, represented by its heaviest ballot; ties: the answer that came first.
 * Confidence is its share of the positive sums. Abstains when no ballot has an answer. Sorts by answer. */
void ballots_count(struct ballots *ballots, struct ranking *out);

/* The heaviest ballot, whatever its answer; ties: the first. Confidence is its weight. Abstains without any. */
void ballots_best(const struct ballots *ballots, struct ranking *out);

/* Either of these two. */
void ballots_choose(struct ballots *ballots, bool votes, struct ranking *out);

/* Draws a ballot; weights are logarithms of what chances are proportional to. The draw follows from the view's seed and
 * prompt alone: Gumbel's maxima, so that the choice among n + 1 differs from that among n only where the new one wins.
 * Confidence is the chance. */
void ballots_draw(const struct ballots *ballots, const struct prompt_view *view, struct ranking *out);

/* The majority vote, where nothing was selected. */
void fall_back_to_majority(const struct prompt_view *view, struct ranking *out);

#endif
