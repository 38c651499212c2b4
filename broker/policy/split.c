/* split.c - see split.h. */
#include "broker/policy/split.h"

#include <math.h>

double split_cost(struct split split, double price)
{
    return split.solutions * (1 + price * split.votes);
}

struct split split_at(const struct split_law *law, double budget)
{
    struct split split = {.solutions = 1};
    double solutions = floor(law->scale * pow(budget, law->exponent) + 0.5);
    if (solutions > budget)
        solutions = floor(budget);
    if (solutions > 1)
        split.solutions = (uint32_t)solutions;
    double votes = floor((budget / split.solutions - 1) / law->price + 0.5);
    split.votes = votes > 0 ? (uint32_t)fmin(votes, UINT32_MAX) : 0;
    return split;
}

const struct split_row *split_best(const struct split_row *rows, size_t len, double price, double budget, bool votes)
{
    const struct split_row *best = NULL;
    for (size_t i = 0; i < len; i++) {
        double cost = split_cost(rows[i].split, price);
        if ((rows[i].split.votes > 0) != votes || cost > budget * (1 + 1e-9))
            continue;
        if (best == NULL || rows[i].accuracy > best->accuracy ||
            (rows[i].accuracy >= best->accuracy && cost < split_cost(best->split, price)))
            best = &rows[i];
    }
    return best;
}

bool split_fit(const struct split_row *rows, size_t len, double price, const double *budgets, size_t budgets_len,
               struct split_law *law)
{
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < budgets_len; i++) {
        const struct split_row *best = split_best(rows, len, price, budgets[i], true);
        if (best == NULL)
            continue;
        sum += log(best->split.solutions) - SPLIT_EXPONENT * log(budgets[i]);
        count++;
    }
    if (count == 0)
        return false;
    *law = (struct split_law){.scale = exp(sum / (double)count), .exponent = SPLIT_EXPONENT, .price = price};
    return true;
}

double split_crossover(const struct split_row *rows, size_t len, double price, const double *budgets,
                       size_t budgets_len)
{
    double from = INFINITY;
    for (size_t i = budgets_len; i-- > 0;) {
        const struct split_row *judged = split_best(rows, len, price, budgets[i], true);
        const struct split_row *plain = split_best(rows, len, price, budgets[i], false);
        if (judged == NULL || plain == NULL || judged->accuracy < plain->accuracy)
            break;
        from = budgets[i];
    }
    return from;
}
