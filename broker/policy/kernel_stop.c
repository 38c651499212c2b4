/* kernel_stop.c - see kernel_stop.h. */
#include "broker/policy/kernel_stop.h"

#include "broker/policy/kernel.h"

#include <assert.h>
#include <math.h>

uint32_t half_density_least(uint32_t b, double limit)
{
    assert(limit > 0);
    assert(limit < 1);
    uint32_t step = 1;
    while (half_density(b + step, b) > limit)
        step *= 2;
    uint32_t low = b + step / 2, high = b + step; /* the density falls as a grows beyond b; it is above 1 at a = b */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (half_density(middle, b) <= limit)
            high = middle;
        else
            low = middle;
    }
    return high;
}

static double normal_cdf(double x)
{
    return erfc(-x / sqrt(2)) / 2;
}

/* What the cut leaves of the law: at least a third, since the mean is in [0, 1] and sd at most 1. */
static double cut_mass(struct cut_normal law)
{
    return normal_cdf((1 - law.mean) / law.sd) - normal_cdf(-law.mean / law.sd);
}

double cut_normal_cdf(struct cut_normal law, double x)
{
    return (normal_cdf((x - law.mean) / law.sd) - normal_cdf(-law.mean / law.sd)) / cut_mass(law);
}

double cut_normal_draws(struct cut_normal law, double x, double miss)
{
    double below = cut_normal_cdf(law, x);
    if (below >= 1)
        return INFINITY;
    return below <= miss ? 1 : ceil(log(miss) / log(below));
}

/* Minus the logarithm of the likelihood, and of the prior's density if there is one; but for constants. */
static double misfit(struct cut_normal law, struct draws draws, const struct cut_normal *prior)
{
    const double prior_sd = 0.1;
    double square = draws.sumsq - 2 * law.mean * draws.sum + draws.n * law.mean * law.mean;
    double total = square / (2 * law.sd * law.sd) + draws.n * log(law.sd * cut_mass(law));
    if (prior != NULL)
        total += (pow(law.mean - prior->mean, 2) + pow(law.sd - prior->sd, 2)) / (2 * prior_sd * prior_sd);
    return total;
}

static struct cut_normal in_bounds(double mean, double sd)
{
    return (struct cut_normal){fmin(fmax(mean, 0), 1), fmin(fmax(sd, CUT_NORMAL_SD_MIN), 1)};
}

struct cut_normal cut_normal_fit(struct draws draws, const struct cut_normal *prior)
{
    static const double ways[4][2] = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}};
    double mean = draws.sum / draws.n;
    struct cut_normal best = in_bounds(mean, sqrt(fmax(draws.sumsq / draws.n - mean * mean, 0)));
    double least = misfit(best, draws, prior);
    for (double step = 0.125; step > 1e-4;) {
        bool moved = false;
        for (int way = 0; way < 4 && !moved; way++) {
            struct cut_normal law = in_bounds(best.mean + step * ways[way][0], best.sd + step * ways[way][1]);
            double found = misfit(law, draws, prior);
            moved = found < least;
            if (moved) {
                best = law;
                least = found;
            }
        }
        if (!moved)
            step /= 2;
    }
    return best;
}

/* Chebyshev's points, which take up the poles that the density has at 0 and 1 when a or b is 1/2. */
enum { ACCEPT_POINTS = 64 };

struct outlook accept_outlook(struct accepting prompt, uint32_t n)
{
    double total = 0, right = 0, wrong = 0, most = 0;
    double rate[ACCEPT_POINTS], rest[ACCEPT_POINTS];
    for (int i = 0; i < ACCEPT_POINTS; i++) {
        double root = sin((i + 0.5) * M_PI / (2 * ACCEPT_POINTS));
        rate[i] = root * root;
        rest[i] = 1 - rate[i] * prompt.tpr - (1 - rate[i]) * prompt.fpr;
        most = fmax(most, rest[i]);
    }
    for (int i = 0; i < ACCEPT_POINTS; i++) {
        double weight = pow(rate[i], prompt.a - 0.5) * pow(1 - rate[i], prompt.b - 0.5) * pow(rest[i] / most, n);
        total += weight;
        right += weight * rate[i] * prompt.tpr;
        wrong += weight * (1 - rate[i]) * prompt.fpr;
    }
    return (struct outlook){right / total, wrong / total};
}

double saturation_point(double p, double eps, double ceiling)
{
    return eps >= ceiling * p ? 1 : ceil(log(eps / (ceiling * p)) / log1p(-p));
}

double flip_index(uint32_t a, uint32_t b)
{
    double n = (double)a + b + 1, lead = (double)a - b;
    double choose = lgamma(n + 1) - lgamma(b + 1.0) - lgamma(n - b + 1);
    return (lead > 0 ? 1 : 0.5) * exp(choose - (a + 1.0) * log(4)) / (lead + 1);
}

double student_excess(double u, double dof)
{
    double scaled = lgamma((dof + 1) / 2) - lgamma(dof / 2) - log(dof * M_PI) / 2;
    double density = exp(scaled - (dof + 1) / 2 * log1p(u * u / dof));
    double tail = beta_cdf(dof / 2, 0.5, dof / (dof + u * u)) / 2;
    return (dof + u * u) / (dof - 1) * density - u * tail;
}
