/* pairs.h - from comparisons of two to a score of each. */
#ifndef DROVER_PAIRS_H
#define DROVER_PAIRS_H

#include <stddef.h>

/* What one comparison said, both orders taken together: 1: a is better, 0: b is, 1/2: they tie or the judge went by
 * position. */
struct pair {
    size_t a, b;
    double win;
};

/* Which of n to compare: everyone with its next `rounds` neighbours on a ring, so that all take part equally often;
 * 0, or half of n and more: all with all. out has room for n * (n - 1) / 2; returns how many there are. */
size_t pairs_plan(size_t n, size_t rounds, struct pair *out);

/* Share of its comparisons that each won, ties by half; 1/2 without any. */
void pairs_rate(const struct pair *pairs, size_t len, size_t n, double *scores);

/* Probability of beating the average one by the Bradley-Terry model (its strengths' geometric mean is 1), with half a
 * win and half a loss against that one added to each, so that a clean record stays finite. Unlike the rate it weighs
 * whom one has beaten. */
void pairs_bradley_terry(const struct pair *pairs, size_t len, size_t n, double *scores);

#endif
