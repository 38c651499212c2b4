/* split.h - how much of a budget goes into solutions, and how much into judging them.
 *
 * A solution costs 1; a judgement of it costs `price`. S solutions with V judgements each cost S (1 + price V). Singhi et
 * al. 2025 ("When to solve, when to verify", arXiv 2504.01005) find that under a fixed budget C the best S grows as about
 * C^0.57, V more slowly, and that judging pays only beyond a budget several times that at which a plain vote is as good.
 * The exponent is theirs; scale and crossover are fitted to rows that were measured or simulated. Pure functions. */
#ifndef DROVER_SPLIT_H
#define DROVER_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct split {
    uint32_t solutions, votes; /* votes of each solution; 0: a plain vote */
};

double split_cost(struct split split, double price);

/* S = round(scale C^exponent), at least 1; what is left of the budget goes into votes, rounded, never below 0. */
struct split_law {
    double scale, exponent, price; /* price > 0 */
};
struct split split_at(const struct split_law *law, double budget);

/* What a split reaches. */
struct split_row {
    struct split split;
    double accuracy;
};

/* The most accurate row that costs no more than the budget, with votes or without; of equal ones the cheapest, then the
 * first. NULL: none is so cheap. */
const struct split_row *split_best(const struct split_row *rows, size_t len, double price, double budget, bool votes);

#define SPLIT_EXPONENT 0.57

/* The law through the best rows with votes at these budgets: scale is the mean of ln S - exponent ln C. False: none of
 * the budgets has a row. */
bool split_fit(const struct split_row *rows, size_t len, double price, const double *budgets, size_t budgets_len,
               struct split_law *law);

/* The least budget of these, which rise, from which on judging is no worse than a plain vote of the same budget;
 * INFINITY: not within them. */
double split_crossover(const struct split_row *rows, size_t len, double price, const double *budgets,
                       size_t budgets_len);

#endif
