/* bins.c - see bins.h. */
#include "broker/policy/bins.h"

#include "common/buf.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* ---- how easy a prompt is ---- */

/* Answers of a pilot that are the same as its i-th, where that is the first of them. */
static uint32_t votes_for(const struct item *items, uint32_t len, uint32_t i)
{
    uint32_t votes = 0;
    for (uint32_t k = 0; k < len; k++) {
        bool same = items[k].class == items[i].class && !items[k].failed;
        if (same && k < i)
            return 0;
        votes += same;
    }
    return votes;
}

/* Quadratic in the pilot, which is short. */
static double agreement(const struct item *items, uint32_t len)
{
    uint32_t top = 0, voters = 0;
    for (uint32_t i = 0; i < len; i++) {
        if (items[i].class == 0 || items[i].failed)
            continue;
        uint32_t votes = votes_for(items, len, i);
        top = votes > top ? votes : top;
        voters++;
    }
    return voters > 0 ? (double)top / voters : 0;
}

static double judged(const struct item *items, uint32_t len, bool passes)
{
    double sum = 0;
    uint32_t scored = 0;
    for (uint32_t i = 0; i < len; i++) {
        if (!items[i].scored)
            continue;
        sum += passes ? items[i].passed : items[i].score;
        scored++;
    }
    return scored > 0 ? sum / scored : 0;
}

double bins_value(enum bins_by by, const struct item *items, uint32_t len)
{
    switch (by) {
    case BY_PASSES:
        return judged(items, len, true);
    case BY_SCORE:
        return judged(items, len, false);
    case BY_AGREEMENT:
        return agreement(items, len);
    case BY_PRIOR:
        break; /* no rollouts tell it */
    }
    return 0;
}

/* ---- cases ---- */

int bins_of(const double edges[BINS - 1], double value)
{
    int bin = 0;
    while (bin < BINS - 1 && value > edges[bin])
        bin++;
    return bin;
}

static double log_beta(double a, double b)
{
    return lgamma(a) + lgamma(b) - lgamma(a + b);
}

/* Chance that j of m rollouts pass. */
static double beta_binomial(struct belief belief, uint32_t m, uint32_t j)
{
    double ways = lgamma(m + 1.0) - lgamma(j + 1.0) - lgamma(m - j + 1.0);
    return exp(ways + log_beta(belief.a + j, belief.b + m - j) - log_beta(belief.a, belief.b));
}

uint32_t bins_cases(struct belief belief, uint32_t pilot, struct bin_case *cases)
{
    if (pilot == 0) {
        cases[0] = (struct bin_case){.weight = 1, .value = belief.a / (belief.a + belief.b), .belief = belief};
        return 1;
    }
    for (uint32_t j = 0; j <= pilot; j++)
        cases[j] = (struct bin_case){.weight = beta_binomial(belief, pilot, j),
                                     .value = (double)j / pilot,
                                     .belief = {belief.a + j, belief.b + pilot - j},
                                     .covered = j > 0};
    return pilot + 1;
}

/* Chance that n more rollouts all fail; n need not be whole. Beliefs that are all but certain: the power of the mean, as
 * the difference of large logarithms would be noise. */
static double survival(struct belief belief, double n)
{
    double a = belief.a, b = belief.b;
    if (a + b > 1e8)
        return exp(n * log1p(-a / (a + b)));
    return exp(lgamma(b + n) - lgamma(b) + lgamma(a + b) - lgamma(a + b + n));
}

static double covered_with(const struct bin_case *one, double more)
{
    return one->covered ? 1 : 1 - survival(one->belief, more);
}

/* ---- fit ---- */

static int by_value(const void *a, const void *b)
{
    double x = ((const struct bin_case *)a)->value, y = ((const struct bin_case *)b)->value;
    return (x > y) - (x < y);
}

/* Between the value at which the weight reaches a fifth, two ... and the next larger one. */
static void find_edges(const struct bin_case *cases, size_t len, double edges[BINS - 1])
{
    double all = 0, below = 0;
    size_t i = 0;
    for (size_t k = 0; k < len; k++)
        all += cases[k].weight;
    for (int e = 0; e < BINS - 1; e++) {
        while (i + 1 < len && below + cases[i].weight < all * (e + 1) / BINS * (1 - 1e-12))
            below += cases[i++].weight;
        size_t next = i;
        while (next < len && cases[next].value <= cases[i].value)
            next++;
        edges[e] = next < len ? (cases[i].value + cases[next].value) / 2 : cases[i].value;
    }
}

void bins_edges(struct bin_case *cases, size_t len, double edges[BINS - 1])
{
    assert(len > 0);
    qsort(cases, len, sizeof *cases, by_value);
    find_edges(cases, len, edges);
}

/* One bin while rollouts are given out. */
struct filling {
    size_t from, to; /* its cases */
    double weight, gain;
    uint32_t n;
};

/* terms[i]: what one more rollout of case i adds to coverage. */
static double gain_of(const struct filling *bin, const struct bin_case *cases, const double *terms)
{
    double sum = 0;
    for (size_t i = bin->from; i < bin->to; i++)
        sum += cases[i].weight * terms[i];
    return bin->weight > 0 ? sum / bin->weight : 0;
}

/* E[theta (1 - theta)^k] becomes that of k + 1: by (b + k) / (a + b + 1 + k). */
static void take_one(struct filling *bin, const struct bin_case *cases, uint32_t taken, double *terms)
{
    double k = (double)bin->n - taken;
    for (size_t i = bin->from; i < bin->to; i++)
        terms[i] *= (cases[i].belief.b + k) / (cases[i].belief.a + cases[i].belief.b + 1 + k);
    bin->n++;
    bin->gain = gain_of(bin, cases, terms);
}

static int best_bin(const struct filling bins[BINS], double left, uint32_t most)
{
    int best = -1;
    for (int q = 0; q < BINS; q++)
        if (bins[q].weight > 0 && bins[q].weight <= left * (1 + 1e-9) && bins[q].n < most && bins[q].gain > 0 &&
            (best < 0 || bins[q].gain > bins[best].gain))
            best = q;
    return best;
}

static void fill(struct filling bins[BINS], const struct bin_case *cases, uint32_t taken, double left, uint32_t most,
                 double *terms)
{
    for (int q; (q = best_bin(bins, left, most)) >= 0;) {
        left -= bins[q].weight;
        take_one(&bins[q], cases, taken, terms);
    }
}

struct bins bins_fit(struct bin_case *cases, size_t len, uint32_t taken, double budget, uint32_t most)
{
    struct bins fit = {{0}, {0}};
    struct filling bins[BINS] = {{0}};
    double *terms = xalloc(len * sizeof *terms), left = 0;
    bins_edges(cases, len, fit.edges);
    for (int q = 0; q < BINS; q++)
        bins[q].n = taken;
    for (size_t i = 0, bin; i < len; i++) {
        bin = (size_t)bins_of(fit.edges, cases[i].value);
        bins[bin].from = bins[bin].weight > 0 ? bins[bin].from : i;
        bins[bin].to = i + 1;
        bins[bin].weight += cases[i].weight;
        terms[i] = cases[i].covered ? 0 : cases[i].belief.a / (cases[i].belief.a + cases[i].belief.b);
        left += cases[i].weight * (budget - taken);
    }
    for (int q = 0; q < BINS; q++) {
        bins[q].gain = gain_of(&bins[q], cases, terms);
        if (taken > 0)
            continue;
        take_one(&bins[q], cases, taken, terms); /* nobody gets nothing */
        left -= bins[q].weight;
    }
    fill(bins, cases, taken, left, most, terms);
    for (int q = 0; q < BINS; q++) /* a bin that nothing fell into is as the next harder one */
        fit.n[q] = bins[q].weight > 0 || q == 0 ? bins[q].n : fit.n[q - 1];
    free(terms);
    return fit;
}

/* ---- outlook ---- */

struct bins_outlook bins_outlook(const struct bins *bins, const struct bin_case *cases, size_t len, uint32_t taken)
{
    struct bins_outlook out = {0};
    double all = 0;
    for (size_t i = 0; i < len; i++) {
        int q = bins_of(bins->edges, cases[i].value);
        uint32_t n = bins->n[q] > taken ? bins->n[q] : taken;
        out.coverage += cases[i].weight * covered_with(&cases[i], n - taken);
        out.cost += cases[i].weight * n;
        out.share[q] += cases[i].weight;
        all += cases[i].weight;
    }
    out.coverage /= all;
    out.cost /= all;
    for (int q = 0; q < BINS; q++)
        out.share[q] /= all;
    return out;
}

double bins_even_coverage(const struct bin_case *cases, size_t len, double n)
{
    double sum = 0, all = 0;
    for (size_t i = 0; i < len; i++) {
        sum += cases[i].weight * covered_with(&cases[i], n);
        all += cases[i].weight;
    }
    return sum / all;
}

double bins_even(const struct bin_case *cases, size_t len, double coverage, double most)
{
    double low = 0, high = most;
    if (bins_even_coverage(cases, len, most) < coverage)
        return INFINITY;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (bins_even_coverage(cases, len, middle) < coverage)
            low = middle;
        else
            high = middle;
    }
    return high;
}
