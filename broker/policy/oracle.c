/* oracle.c - water-filling over known success rates; see oracle.h. */
#include "broker/policy/oracle.h"

#include "common/buf.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

double oracle_static_count(double rate, double lambda)
{
    if (rate <= lambda)
        return 0;
    return rate < 1 ? log(lambda / rate) / log1p(-rate) : 1;
}

static double total(const double *rates, size_t len, double lambda)
{
    double sum = 0;
    for (size_t i = 0; i < len; i++)
        sum += oracle_static_count(rates[i], lambda);
    return sum;
}

double oracle_static(const double *rates, size_t len, double budget, double *counts)
{
    double low = -700, high = 0; /* ln lambda: the gain of the last rollout falls as the budget grows */
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        if (total(rates, len, exp(middle)) > budget)
            low = middle;
        else
            high = middle;
    }
    double covered = 0;
    for (size_t i = 0; i < len; i++) {
        double n = oracle_static_count(rates[i], exp(high));
        covered += rates[i] < 1 ? 1 - pow(1 - rates[i], n) : n;
        if (counts != NULL)
            counts[i] = n;
    }
    return covered / (double)len;
}

static int falling(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

double oracle_feedback(const double *rates, size_t len, double budget)
{
    double *sorted = xalloc((len + 1) * sizeof *sorted), covered = 0;
    for (size_t i = 0; i < len; i++)
        sorted[i] = rates[i];
    qsort(sorted, len, sizeof *sorted, falling);
    for (size_t i = 0; i < len && sorted[i] > 0 && budget > 0; i++) {
        double spent = fmin(budget, 1 / sorted[i]);
        covered += spent * sorted[i];
        budget -= spent;
    }
    free(sorted);
    return covered / (double)len;
}

struct elimination elimination_at(const struct rate_law *law, uint32_t depth)
{
    struct elimination at = {0};
    double survives = 1;
    for (uint32_t j = 0; j < depth; j++) {
        at.cost += law->zero + (1 - law->zero) * survives;
        survives *= (law->beta + j) / (law->alpha + law->beta + j);
    }
    at.coverage = (1 - law->zero) * (1 - survives);
    return at;
}
