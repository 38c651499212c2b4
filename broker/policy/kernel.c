/* kernel.c - half-tails, coverage estimates, resampling; see kernel.h. */
#include "broker/policy/kernel.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define HALF_TABLE_THRESHOLD 0.95
#define HALF_TABLE_LEN       64

/* Smallest a for each b with half_tail(a, b) >= .95, from exact integer sums. */
static const uint32_t half_table[HALF_TABLE_LEN] = {
    4,  6,  8,  9,  11, 12, 14, 15, 17, 18, 19, 21, 22, 23, 25, 26, 27, 29, 30, 31, 32, 34,
    35, 36, 37, 39, 40, 41, 42, 44, 45, 46, 47, 48, 50, 51, 52, 53, 54, 56, 57, 58, 59, 60,
    61, 63, 64, 65, 66, 67, 68, 70, 71, 72, 73, 74, 75, 77, 78, 79, 80, 81, 82, 83,
};

#define SCALE_STEP 512

/* 2^-n * sum of C(n, i) over i = 0..b, for b <= n / 2. Terms and sum are whole numbers until they
 * outgrow the mantissa, then both are scaled by the same power of two. */
static long double binomial_lower(uint32_t n, uint32_t b)
{
    const long double limit = ldexpl(1, SCALE_STEP);
    long double term = 1, sum = 1;
    int scaled = 0;
    for (uint32_t i = 1; i <= b; i++) {
        term = term * (n - i + 1) / i;
        sum += term;
        if (sum > limit) {
            term = ldexpl(term, -SCALE_STEP);
            sum = ldexpl(sum, -SCALE_STEP);
            scaled += SCALE_STEP;
        }
    }
    return ldexpl(sum, scaled - (int)n);
}

double half_tail(uint32_t a, uint32_t b)
{
    if (a < b)
        return (double)binomial_lower(a + b + 1, a);
    return (double)(1 - binomial_lower(a + b + 1, b));
}

static bool half_tail_summed(uint32_t a, uint32_t b, double threshold)
{
    return a > b && 1 - binomial_lower(a + b + 1, b) >= threshold;
}

static bool half_in_table(uint32_t b, double threshold)
{
    return b < HALF_TABLE_LEN && !(threshold < HALF_TABLE_THRESHOLD) && !(threshold > HALF_TABLE_THRESHOLD);
}

bool half_tail_reached(uint32_t a, uint32_t b, double threshold)
{
    if (half_in_table(b, threshold))
        return a >= half_table[b];
    return half_tail_summed(a, b, threshold);
}

uint32_t half_tail_least(uint32_t b, double threshold)
{
    assert(threshold > 0.5);
    assert(threshold < 1);
    if (half_in_table(b, threshold))
        return half_table[b];
    uint32_t step = 1;
    while (!half_tail_summed(b + step, b, threshold))
        step *= 2;
    uint32_t low = b + step / 2, high = b + step; /* low is not enough, high is */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (half_tail_summed(middle, b, threshold))
            high = middle;
        else
            low = middle;
    }
    return high;
}

double half_density(uint32_t a, uint32_t b)
{
    uint32_t few = a < b ? a : b, n = a + b;
    long double value = (long double)n + 1; /* (n + 1) * C(n, few) * 2^-n */
    int scaled = 0;
    for (uint32_t i = 1; i <= few; i++) {
        value = value * (n - i + 1) / i;
        if (value > ldexpl(1, SCALE_STEP)) {
            value = ldexpl(value, -SCALE_STEP);
            scaled += SCALE_STEP;
        }
    }
    return (double)ldexpl(value, scaled - (int)n);
}

double beta_survival(double a, double b, uint32_t n)
{
    double product = 1;
    for (uint32_t i = 0; i < n; i++)
        product *= (b + i) / (a + b + i);
    return product;
}

double pass_at_k(uint32_t n, uint32_t right, uint32_t k)
{
    assert(right <= n);
    assert(k >= 1);
    assert(k <= n);
    if (n - right < k)
        return 1;
    double fail = 1;
    for (uint32_t i = 0; i < k; i++)
        fail *= (double)(n - right - i) / (n - i);
    return 1 - fail;
}

static int by_score_falling(const void *a, const void *b)
{
    double x = ((const struct scored_rollout *)a)->score;
    double y = ((const struct scored_rollout *)b)->score;
    return (x < y) - (x > y);
}

/* Index after the last rollout that ties with `from`; mean of their `right`. */
static size_t tie_end(const struct scored_rollout *rollouts, size_t n, size_t from, double *mean)
{
    double sum = 0;
    size_t end = from;
    while (end < n && !(rollouts[end].score < rollouts[from].score))
        sum += rollouts[end++].right;
    *mean = sum / (double)(end - from);
    return end;
}

double best_of_k(struct scored_rollout *rollouts, size_t n, size_t k)
{
    assert(k >= 1);
    assert(k <= n);
    qsort(rollouts, n, sizeof(*rollouts), by_score_falling);
    double chance = (double)k / (double)n; /* that rank i is the best drawn: C(n-1-i, k-1) / C(n, k) */
    double total = 0, right = 0;
    size_t end = 0;
    for (size_t i = 0; i + k <= n; i++) {
        if (i == end)
            end = tie_end(rollouts, n, i, &right);
        total += chance * right;
        if (i + 1 < n)
            chance *= (double)(n - k - i) / (double)(n - 1 - i);
    }
    return total;
}

double best_of_n_divergence(uint32_t n)
{
    assert(n > 0);
    return log(n) - (n - 1.0) / n;
}

static double largest(const double *x, size_t n)
{
    double max = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if (x[i] > max)
            max = x[i];
    return max;
}

double log_sum_exp(const double *x, size_t n)
{
    double max = largest(x, n), sum = 0;
    if (isinf(max))
        return max;
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - max);
    return max + log(sum);
}

double effective_size(const double *log_weights, size_t n)
{
    double max = largest(log_weights, n), sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        double weight = exp(log_weights[i] - max);
        sum += weight;
        squares += weight * weight;
    }
    return sum * sum / squares;
}

double weights_normalise(double *log_weights, size_t n)
{
    double max = largest(log_weights, n), sum = 0;
    for (size_t i = 0; i < n; i++) {
        log_weights[i] = exp(log_weights[i] - max);
        sum += log_weights[i];
    }
    for (size_t i = 0; i < n; i++)
        log_weights[i] /= sum;
    return max + log(sum);
}

void resample_systematic(const double *weights, size_t n, double u, uint32_t *counts)
{
    double reached = 0;
    size_t given = 0, last = 0;
    for (size_t i = 0; i < n; i++) {
        counts[i] = 0;
        reached += weights[i] * (double)n;
        if (weights[i] > 0)
            last = i;
        for (; given < n && (double)given + u < reached; given++)
            counts[i]++;
    }
    if (n > 0)
        counts[last] += (uint32_t)(n - given); /* what rounding of the running sum left over */
}

void weights_cumulate(double *weights, size_t n)
{
    for (size_t i = 1; i < n; i++)
        weights[i] += weights[i - 1];
}

size_t resample_pick(const double *cumulated, size_t n, double u)
{
    assert(n > 0);
    double target = u * cumulated[n - 1];
    size_t low = 0, high = n - 1; /* first index whose running sum exceeds the target */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (cumulated[middle] > target)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Continued fraction of the incomplete beta function, by Lentz's method (Numerical Recipes 6.4); converges fast for
 * x < (a + 1) / (a + b + 2). */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1), h;
    d = 1 / (fabs(d) < tiny ? tiny : d);
    h = d;
    for (int m = 1; m < 10000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double was = h;
        for (int half = 0; half < 2; half++) {
            double term = half == 0 ? even : odd;
            d = 1 + term * d;
            c = 1 + term / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = fabs(c) < tiny ? tiny : c;
            h *= d * c;
        }
        if (fabs(h - was) <= 1e-15 * fabs(h))
            break;
    }
    return h;
}

double beta_cdf(double a, double b, double x)
{
    if (x <= 0 || x >= 1)
        return x <= 0 ? 0 : 1;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

/* Smallest x whose beta_cdf reaches p. */
static double beta_quantile(double a, double b, double p)
{
    double low = 0, high = 1;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (beta_cdf(a, b, middle) < p)
            low = middle;
        else
            high = middle;
    }
    return high;
}

void binomial_interval(uint64_t hits, uint64_t n, double level, double *low, double *high)
{
    double k = (double)hits, all = (double)n, tail = (1 - level) / 2;
    *low = hits == 0 ? 0 : beta_quantile(k, all - k + 1, tail);
    *high = hits == n ? 1 : beta_quantile(k + 1, all - k, 1 - tail);
}
