/* kernel_select.c - see kernel_select.h. */
#include "broker/policy/kernel_select.h"

#include "common/buf.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int falling(const void *a, const void *b)
{
    return rising(b, a);
}

double quantile_linear(double *x, size_t n, double q)
{
    assert(n > 0);
    qsort(x, n, sizeof *x, rising);
    double at = q * (double)(n - 1);
    size_t below = (size_t)at;
    if (below + 1 >= n)
        return x[n - 1];
    return x[below] + (at - (double)below) * (x[below + 1] - x[below]);
}

/* With the k largest above the threshold, l = (their sum - n beta) / k; k is right when the next one is not above. */
double chi2_threshold(double *r, size_t n, double beta)
{
    assert(n > 0);
    qsort(r, n, sizeof *r, falling);
    double sum = 0, threshold = 0;
    for (size_t k = 1; k <= n; k++) {
        sum += r[k - 1];
        threshold = (sum - (double)n * beta) / (double)k;
        if (k == n || threshold >= r[k])
            break;
    }
    return threshold;
}

/* -- mixture of two Weibull distributions ------------------------------------------------------------------------- */

enum { EM_STEPS = 60, NEWTON_STEPS = 3 };
static const double shape_min = 0.1, shape_max = 100, share_min = 0.2;

static double log_density(double shape, double scale, double log_x)
{
    double log_z = log_x - log(scale);
    return log(shape / scale) + (shape - 1) * log_z - exp(shape * log_z);
}

static double upper(const struct weibull_mixture *m, double log_x)
{
    double low = log(m->share[0]) + log_density(m->shape[0], m->scale[0], log_x);
    double high = log(m->share[1]) + log_density(m->shape[1], m->scale[1], log_x);
    return 1 / (1 + exp(low - high));
}

double weibull_mixture_upper(const struct weibull_mixture *mixture, double x)
{
    return upper(mixture, log(x));
}

/* Sums over weighted data x, given as logarithms: w x^k, w x^k ln x, w x^k (ln x)^2. */
static void power_sums(const double *logs, const double *weights, size_t n, double k, double sums[3])
{
    sums[0] = sums[1] = sums[2] = 0;
    for (size_t i = 0; i < n; i++) {
        double power = weights[i] * exp(k * logs[i]);
        sums[0] += power;
        sums[1] += power * logs[i];
        sums[2] += power * logs[i] * logs[i];
    }
}

/* Shape and scale of the weighted data, by a few steps of Newton's method from *shape. The equation of the shape k,
 * sum(w x^k ln x) / sum(w x^k) - 1/k = sum(w ln x) / sum(w), has one root: its left side rises with k. */
static void fit_component(const double *logs, const double *weights, size_t n, double *shape, double *scale)
{
    double k = *shape, total = 0, mean_log = 0, sums[3];
    for (size_t i = 0; i < n; i++) {
        total += weights[i];
        mean_log += weights[i] * logs[i];
    }
    mean_log /= total;
    for (int step = 0; step < NEWTON_STEPS; step++) {
        power_sums(logs, weights, n, k, sums);
        double mean = sums[1] / sums[0], slope = sums[2] / sums[0] - mean * mean + 1 / (k * k);
        double next = k - (mean - 1 / k - mean_log) / slope;
        k = fmin(fmax(next, fmax(k / 2, shape_min)), fmin(2 * k, shape_max));
    }
    power_sums(logs, weights, n, k, sums);
    *shape = k;
    *scale = pow(sums[0] / total, 1 / k);
}

static double mean_of(const struct weibull_mixture *m, int c)
{
    return m->scale[c] * exp(lgamma(1 + 1 / m->shape[c]));
}

static void swap(double *pair)
{
    double first = pair[0];
    pair[0] = pair[1];
    pair[1] = first;
}

/* Fills weights with the chances of both components, and the shares with their means. */
static void expect(const double *logs, size_t n, struct weibull_mixture *m, double *weights)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        weights[n + i] = fmin(fmax(upper(m, logs[i]), 1e-12), 1 - 1e-12);
        weights[i] = 1 - weights[n + i];
        sum += weights[n + i];
    }
    m->share[1] = fmin(fmax(sum / (double)n, share_min), 1 - share_min);
    m->share[0] = 1 - m->share[1];
}

struct weibull_mixture weibull_mixture_fit(const double *x, size_t n)
{
    struct weibull_mixture m = {.share = {.5, .5}, .shape = {1, 1.5}, .scale = {1, 2}, .singular = true};
    for (size_t i = 1; i < n; i++)
        m.singular &= fabs(x[i] - x[0]) <= 1e-9 * fabs(x[0]);
    if (m.singular)
        return m;
    double *logs = xalloc(3 * n * sizeof *logs), *weights = logs + n;
    for (size_t i = 0; i < n; i++)
        logs[i] = log(x[i]);
    for (int step = 0; step < EM_STEPS; step++) {
        expect(logs, n, &m, weights);
        for (size_t c = 0; c < 2; c++)
            fit_component(logs, weights + c * n, n, &m.shape[c], &m.scale[c]);
    }
    free(logs);
    if (mean_of(&m, 0) > mean_of(&m, 1)) {
        swap(m.share);
        swap(m.shape);
        swap(m.scale);
    }
    return m;
}
