/* estimate.c - fits by grid and compass search, and the coverage that they foretell; see estimate.h. */
#include "broker/policy/estimate.h"

#include "common/buf.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* -- likelihood ------------------------------------------------------------------------------------------------- */

/* Prompts with equal counts, which are equally likely: a set of 500 with 100 rollouts each has at most 101 of them. */
struct alike {
    struct estimate_count count;
    double prompts;
};

struct seen {
    struct alike *at;
    size_t len;
};

static int by_count(const void *a, const void *b)
{
    const struct estimate_count *x = a, *y = b;
    return x->n != y->n ? (x->n > y->n) - (x->n < y->n) : (x->right > y->right) - (x->right < y->right);
}

static struct seen seen_new(const struct estimate_count *counts, size_t len)
{
    struct estimate_count *sorted = xalloc(len * sizeof *sorted);
    struct seen seen = {.at = xalloc(len * sizeof *seen.at)};
    for (size_t i = 0; i < len; i++)
        sorted[i] = counts[i];
    qsort(sorted, len, sizeof *sorted, by_count);
    for (size_t i = 0; i < len; i++) {
        assert(sorted[i].right <= sorted[i].n);
        if (sorted[i].n == 0)
            continue;
        if (seen.len == 0 || by_count(&seen.at[seen.len - 1].count, &sorted[i]) != 0)
            seen.at[seen.len++].count = sorted[i];
        seen.at[seen.len - 1].prompts++;
    }
    free(sorted);
    return seen;
}

static double log_beta(double a, double b)
{
    return lgamma(a) + lgamma(b) - lgamma(a + b);
}

enum { DIMENSIONS = 3 }; /* ln alpha, ln beta, zero */

/* Of the order of the successes too, which no parameter changes. A prompt without any may be one that has none. */
static double likelihood(const struct seen *seen, const double x[DIMENSIONS])
{
    double a = exp(x[0]), b = exp(x[1]), zero = x[2], whole = log_beta(a, b), sum = 0;
    for (size_t i = 0; i < seen->len; i++) {
        const struct estimate_count *count = &seen->at[i].count;
        double one = log_beta(a + count->right, b + count->n - count->right) - whole;
        one = count->right == 0 ? log((1 - zero) * exp(one) + zero) : log1p(-zero) + one;
        sum += seen->at[i].prompts * one;
    }
    return sum;
}

/* -- search ----------------------------------------------------------------------------------------------------- */

/* A geometric grid, because a weak optimiser ruins the estimate: the likelihood is a long, bent ridge. Values beyond
 * the grid are found by the steps that follow; its spacing is the first of them. */
enum { GRID = 16 };

static const struct range {
    double grid_low, grid_high, low, high; /* searched; allowed */
} ranges[DIMENSIONS] = {
    {-3.506558, 1.609438, -6.907755, 6.907755}, /* .03 .. 5, .001 .. 1000 */
    {-2.302585, 5.703782, -6.907755, 11.51293}, /* .1 .. 300, .001 .. 100000 */
    {0, 0.9, 0, 0.99},
};

static double spacing(int d)
{
    return (ranges[d].grid_high - ranges[d].grid_low) / (GRID - 1);
}

struct peak {
    double x[DIMENSIONS], value;
};

static void peak_try(const struct seen *seen, const double x[DIMENSIONS], struct peak *best)
{
    for (int d = 0; d < DIMENSIONS; d++)
        if (x[d] < ranges[d].low || x[d] > ranges[d].high)
            return;
    double value = likelihood(seen, x);
    if (value > best->value)
        *best = (struct peak){{x[0], x[1], x[2]}, value};
}

static struct peak grid_search(const struct seen *seen, bool with_zero)
{
    struct peak best = {.value = -INFINITY};
    for (int i = 0; i < GRID; i++)
        for (int j = 0; j < GRID; j++)
            for (int k = 0; k < (with_zero ? GRID : 1); k++)
                peak_try(seen,
                         (const double[]){ranges[0].grid_low + i * spacing(0), ranges[1].grid_low + j * spacing(1),
                                          k * spacing(2)},
                         &best);
    return best;
}

/* Along each axis, and across alpha and beta together, where the ridge runs. */
static const int directions[][DIMENSIONS] = {
    {1, 0, 0}, {-1, 0, 0}, {0, 1, 0}, {0, -1, 0}, {1, 1, 0}, {-1, -1, 0}, {1, -1, 0}, {-1, 1, 0}, {0, 0, 1}, {0, 0, -1},
};

static void compass_search(const struct seen *seen, bool with_zero, struct peak *best)
{
    size_t ways = sizeof directions / sizeof directions[0] - (with_zero ? 0 : 2);
    for (double step = 1; step * spacing(0) > 1e-4;) {
        struct peak from = *best;
        for (size_t w = 0; w < ways; w++) {
            double x[DIMENSIONS];
            for (int d = 0; d < DIMENSIONS; d++)
                x[d] = from.x[d] + step * spacing(d) * directions[w][d];
            peak_try(seen, x, best);
        }
        if (!(best->value > from.value + 1e-9)) /* less is rounding */
            step /= 2;
    }
}

/* -- standard error --------------------------------------------------------------------------------------------- */

/* Minus the second derivative of the likelihood in directions i and j. */
static double curvature(const struct seen *seen, const struct peak *peak, int i, int j)
{
    const double h = 0.01;
    double value[4];
    for (int corner = 0; corner < 4; corner++) {
        double x[DIMENSIONS] = {peak->x[0], peak->x[1], peak->x[2]};
        x[i] += (corner & 1) != 0 ? h : -h;
        x[j] += (corner & 2) != 0 ? h : -h;
        value[corner] = likelihood(seen, x);
    }
    return -(value[3] - value[1] - value[2] + value[0]) / (4 * h * h);
}

/* From the observed information; `zero` counts as known where it is too near its ends to be moved. */
static double alpha_error(const struct seen *seen, const struct peak *peak)
{
    bool free_zero = peak->x[2] > 0.02 && peak->x[2] < 0.97;
    double aa = curvature(seen, peak, 0, 0), ab = curvature(seen, peak, 0, 1), bb = curvature(seen, peak, 1, 1);
    double az = 0, bz = 0, zz = 1;
    if (free_zero) {
        az = curvature(seen, peak, 0, 2);
        bz = curvature(seen, peak, 1, 2);
        zz = curvature(seen, peak, 2, 2);
    }
    double minor = bb * zz - bz * bz;
    double determinant = aa * minor - ab * (ab * zz - az * bz) + az * (ab * bz - az * bb);
    if (!(minor > 0) || !(determinant > 0))
        return INFINITY;
    return exp(peak->x[0]) * sqrt(minor / determinant);
}

static struct rate_law fit(const struct estimate_count *counts, size_t len, bool with_zero)
{
    assert(len > 0);
    struct seen seen = seen_new(counts, len);
    struct peak peak = grid_search(&seen, with_zero);
    compass_search(&seen, with_zero, &peak);
    struct rate_law law = {exp(peak.x[0]), exp(peak.x[1]), peak.x[2], alpha_error(&seen, &peak), peak.value};
    free(seen.at);
    return law;
}

struct rate_law fit_rates(const struct estimate_count *counts, size_t len)
{
    return fit(counts, len, false);
}

struct rate_law fit_rates_zero(const struct estimate_count *counts, size_t len)
{
    return fit(counts, len, true);
}

struct rate_law fit_rates_best(const struct estimate_count *counts, size_t len)
{
    struct rate_law plain = fit_rates(counts, len), zero = fit_rates_zero(counts, len);
    return zero.likelihood - plain.likelihood > 1.92 ? zero : plain; /* half of the .95 quantile of chi-square */
}

/* -- coverage --------------------------------------------------------------------------------------------------- */

/* ln P(n more rollouts of a prompt of this law all fail). */
static double log_survival(double a, double b, double n)
{
    return lgamma(b + n) - lgamma(b) + lgamma(a + b) - lgamma(a + b + n);
}

static double reach(const struct rate_law *law)
{
    return 1 - law->zero;
}

double coverage_exact(const struct rate_law *law, double n)
{
    return reach(law) * (1 - exp(log_survival(law->alpha, law->beta, n)));
}

double coverage_anchored(const struct rate_law *law, struct anchor anchor, double n)
{
    double top = reach(law);
    return anchor.seen >= top ? anchor.seen : top - (top - anchor.seen) * pow(anchor.n / n, law->alpha);
}

double budget_anchored(const struct rate_law *law, struct anchor anchor, double target)
{
    double top = reach(law);
    if (target <= anchor.seen)
        return anchor.n;
    if (target >= top || law->alpha <= 0)
        return INFINITY;
    return anchor.n * pow((top - anchor.seen) / (top - target), 1 / law->alpha);
}

/* Coverage at n with z errors less not covered than expected. */
static double coverage_moved(const struct rate_law *law, struct anchor anchor, double n, double z)
{
    double gap = reach(law) - anchor.seen, growth = log(n / anchor.n);
    if (!(gap > 0))
        return anchor.seen;
    double error = sqrt(pow(anchor.se / gap, 2) + pow(growth * law->alpha_se, 2));
    return reach(law) - fmin(reach(law), gap * exp(-law->alpha * growth - z * error));
}

struct bounds coverage_bounds(const struct rate_law *law, struct anchor anchor, double n, double z)
{
    return (struct bounds){coverage_moved(law, anchor, n, -z), coverage_moved(law, anchor, n, z)};
}

/* First n from the anchor on at which coverage_moved reaches the target. */
static double budget_moved(const struct rate_law *law, struct anchor anchor, double target, double z)
{
    double low = 0, high = 50; /* ln(n / anchor.n); nobody buys e^50 rollouts */
    if (coverage_moved(law, anchor, anchor.n * exp(high), z) < target)
        return INFINITY;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (coverage_moved(law, anchor, anchor.n * exp(middle), z) < target)
            low = middle;
        else
            high = middle;
    }
    return anchor.n * exp(high);
}

struct bounds budget_bounds(const struct rate_law *law, struct anchor anchor, double target, double z)
{
    return (struct bounds){budget_moved(law, anchor, target, z), budget_moved(law, anchor, target, -z)};
}

/* Of a prompt without a success: that it is one of those that have none. */
static double never(const struct rate_law *law, uint32_t n)
{
    double unlucky = reach(law) * exp(log_survival(law->alpha, law->beta, n));
    return law->zero > 0 ? law->zero / (law->zero + unlucky) : 0;
}

double coverage_posterior(const struct rate_law *law, const struct estimate_count *counts, size_t len, double n)
{
    double sum = 0;
    for (size_t i = 0; i < len; i++) {
        uint32_t right = counts[i].right, wrong = counts[i].n - right;
        double solves = 1 - exp(log_survival(law->alpha + right, law->beta + wrong, n));
        sum += right > 0 ? solves : (1 - never(law, wrong)) * solves;
    }
    return sum / (double)len;
}

double coverage_inverse(const struct rate_law *law, double coverage)
{
    double low = 0, high = 1;
    if (coverage >= reach(law))
        return INFINITY;
    while (coverage_exact(law, high) < coverage)
        high *= 2;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (coverage_exact(law, middle) < coverage)
            low = middle;
        else
            high = middle;
    }
    return high;
}

/* -- power law -------------------------------------------------------------------------------------------------- */

static bool usable(const struct curve_point *point)
{
    return point->coverage > 0 && point->coverage < 1;
}

/* One over the variance of ln(-ln c), by the delta method. */
static double weight_of(const struct curve_point *point)
{
    double slope = point->coverage * log(point->coverage);
    return point->variance > 0 ? slope * slope / point->variance : 1;
}

bool fit_power(const struct curve_point *points, size_t len, struct power_law *law)
{
    double w = 0, wx = 0, wy = 0, wxx = 0, wxy = 0;
    for (size_t i = 0; i < len; i++) {
        if (!usable(&points[i]))
            continue;
        double x = log(points[i].k), y = log(-log(points[i].coverage)), weight = weight_of(&points[i]);
        w += weight;
        wx += weight * x;
        wy += weight * y;
        wxx += weight * x * x;
        wxy += weight * x * y;
    }
    double spread = w * wxx - wx * wx;
    if (!(spread > 1e-12 * w * wxx)) /* one point, or all at one k */
        return false;
    double slope = (w * wxy - wx * wy) / spread;
    *law = (struct power_law){exp((wy - slope * wx) / w), -slope};
    return true;
}

double power_at(const struct power_law *law, double k)
{
    return exp(-law->a * pow(k, -law->b));
}

double power_held_out(const struct curve_point *points, size_t len, double k_max)
{
    struct curve_point *known = xalloc((len + 1) * sizeof *known);
    struct power_law law;
    size_t known_len = 0, held = 0;
    double sum = 0;
    for (size_t i = 0; i < len; i++)
        if (points[i].k <= k_max)
            known[known_len++] = points[i];
    bool fitted = fit_power(known, known_len, &law);
    for (size_t i = 0; fitted && i < len; i++) {
        if (points[i].k <= k_max || points[i].coverage <= 0)
            continue;
        sum += fabs(power_at(&law, points[i].k) - points[i].coverage) / points[i].coverage;
        held++;
    }
    free(known);
    return held > 0 ? sum / (double)held : NAN;
}
