/* predict.c - ceilings, saturation, votes, effort and ridge regression; see predict.h. */
#include "broker/policy/predict.h"

#include "broker/policy/kernel.h"
#include "common/buf.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -- a verifier with errors ------------------------------------------------------------------------------------- */

static double accept_rate(double rate, struct error_rates verifier)
{
    return rate * verifier.true_pass + (1 - rate) * verifier.false_pass;
}

double accepted_right(double rate, struct error_rates verifier)
{
    double accepts = accept_rate(rate, verifier);
    return accepts > 0 ? rate * verifier.true_pass / accepts : 0;
}

static double accepted_any(double rate, struct error_rates verifier, double k)
{
    return 1 - pow(1 - accept_rate(rate, verifier), k);
}

double accuracy_until_accepted(double rate, struct error_rates verifier, double k)
{
    return accepted_right(rate, verifier) * accepted_any(rate, verifier, k);
}

double odds_after(double odds, struct error_rates verifier, uint32_t accepts, uint32_t rejects)
{
    double yes = verifier.true_pass / verifier.false_pass, no = (1 - verifier.true_pass) / (1 - verifier.false_pass);
    return odds * (accepts > 0 ? pow(yes, accepts) : 1) * (rejects > 0 ? pow(no, rejects) : 1);
}

void law_shares(const struct rate_law *law, double rates[LAW_SHARES])
{
    for (int i = 0; i < LAW_SHARES; i++) {
        double low = 0, high = 1, share = (i + 0.5) / LAW_SHARES;
        for (int step = 0; step < 60; step++) {
            double middle = (low + high) / 2;
            if (beta_cdf(law->alpha, law->beta, middle) < share)
                low = middle;
            else
                high = middle;
        }
        rates[i] = high;
    }
}

/* Of accepting the first of k: what is right counts 1, what else was accepted -cost. */
static double utility_of(double rate, struct error_rates verifier, double cost, uint32_t k)
{
    return (1 + cost) * accuracy_until_accepted(rate, verifier, k) - cost * accepted_any(rate, verifier, k);
}

static double utility_mean(const struct rate_law *law, const double rates[LAW_SHARES], struct error_rates verifier,
                           double cost, uint32_t k)
{
    double sum = 0;
    for (int i = 0; i < LAW_SHARES; i++)
        sum += utility_of(rates[i], verifier, cost, k);
    return (1 - law->zero) * sum / LAW_SHARES + law->zero * utility_of(0, verifier, cost, k);
}

uint32_t repeats_worthwhile(const struct rate_law *law, struct error_rates verifier, double cost, uint32_t most,
                            double *utility)
{
    double rates[LAW_SHARES];
    law_shares(law, rates);
    *utility = 0;
    for (uint32_t k = 0; k < most; k++) {
        double next = utility_mean(law, rates, verifier, cost, k + 1);
        if (next < *utility - 1e-12) /* less is rounding, where nothing is left to gain or lose */
            return k;
        *utility = fmax(next, *utility);
    }
    return UINT32_MAX;
}

/* -- votes ------------------------------------------------------------------------------------------------------ */

/* Ways to draw `at`, as whole numbers while they fit, and beyond that as close as long double comes: 2^VOTES_MAX does
 * not overflow it. */
struct ways {
    long double *at; /* [used][tied] */
    uint32_t n, tied;
};

static long double *cell(const struct ways *ways, uint32_t used, uint32_t tied)
{
    return &ways->at[(size_t)used * (ways->tied + 1) + tied];
}

/* Draws 0..most of a class of this size: those that reach `most` are one more that ties. Downwards, so that a class
 * is drawn from once. */
static void ways_add(const struct ways *ways, uint32_t size, uint32_t most, bool ties)
{
    for (uint32_t used = ways->n + 1; used-- > 0;)
        for (uint32_t tied = ways->tied + 1; tied-- > 0;) {
            long double had = *cell(ways, used, tied), choose = 1;
            if (!(had > 0))
                continue;
            for (uint32_t draw = 1; draw <= size && draw <= most && used + draw <= ways->n; draw++) {
                choose = choose * (size - draw + 1) / draw;
                uint32_t more = ties && draw == most ? 1 : 0;
                if (tied + more <= ways->tied)
                    *cell(ways, used + draw, tied + more) += had * choose;
            }
        }
}

static long double binomial(uint32_t n, uint32_t k)
{
    long double value = 1;
    for (uint32_t i = 1; i <= k; i++)
        value = value * (n - i + 1) / i;
    return value;
}

/* Ways in which the right class has exactly `votes` and no other more, a tie of t others counting 1 / (t + 1). */
static long double ways_to_win(const struct ballot *ballot, uint32_t n, uint32_t votes)
{
    struct ways ways = {.n = n - votes, .tied = (n - votes) / votes};
    ways.at = xalloc(((size_t)ways.n + 1) * (ways.tied + 1) * sizeof *ways.at);
    *cell(&ways, 0, 0) = 1;
    for (size_t c = 0; c < ballot->len; c++)
        if (c != ballot->right)
            ways_add(&ways, ballot->counts[c], votes, true);
    ways_add(&ways, ballot->blank, UINT32_MAX, false);
    long double sum = 0;
    for (uint32_t tied = 0; tied <= ways.tied; tied++)
        sum += *cell(&ways, ways.n, tied) / (tied + 1);
    free(ways.at);
    return sum * binomial(ballot->counts[ballot->right], votes);
}

/* The right class has won, or shares the win with those that tie. */
static double majority_of_all(const struct ballot *ballot)
{
    uint32_t most = ballot->counts[ballot->right], tied = 0;
    for (size_t c = 0; c < ballot->len; c++) {
        if (ballot->counts[c] > most)
            return 0;
        tied += ballot->counts[c] == most;
    }
    return most > 0 ? 1.0 / tied : 0;
}

double majority_at(const struct ballot *ballot, uint32_t n)
{
    uint32_t all = ballot->blank;
    for (size_t c = 0; c < ballot->len; c++)
        all += ballot->counts[c];
    assert(all <= VOTES_MAX);
    assert(n <= all);
    if (ballot->right >= ballot->len)
        return 0;
    if (n == all)
        return majority_of_all(ballot);
    long double sum = 0;
    for (uint32_t votes = 1; votes <= n && votes <= ballot->counts[ballot->right]; votes++)
        sum += ways_to_win(ballot, n, votes);
    return (double)(sum / binomial(all, n));
}

/* -- effort ----------------------------------------------------------------------------------------------------- */

double arise(const struct effort *levels, size_t len)
{
    double sum = 0;
    for (size_t j = 1; j < len; j++) {
        double ratio = levels[j - 1].tokens / levels[j].tokens, gained = levels[j].right - levels[j - 1].right;
        sum += gained >= 0 ? gained * ratio : gained / ratio;
    }
    return sum;
}

/* -- gain of best-of-N ------------------------------------------------------------------------------------------ */

void gain_features(const struct gain_prompt *prompts, size_t len, double x[GAIN_FEATURES])
{
    assert(len > 0);
    double share = 0, squares = 0;
    memset(x, 0, GAIN_FEATURES * sizeof *x);
    for (size_t i = 0; i < len; i++) {
        share += prompts[i].top_share / (double)len;
        x[1] += prompts[i].first_right / (double)len;
        x[2] += prompts[i].length_variance / (double)len;
        x[3] += prompts[i].class_entropy / (double)len;
    }
    for (size_t i = 0; i < len; i++)
        squares += (prompts[i].top_share - share) * (prompts[i].top_share - share);
    x[0] = sqrt(squares / (double)len);
}

enum { F = GAIN_FEATURES };

/* Mean and spread of all rows but `without`; a feature that never changes has slope 0, whatever its scale. */
static void standardise(const struct gain_row *rows, size_t len, size_t without, struct gain_law *law)
{
    double count = (double)len - (without < len ? 1 : 0);
    *law = (struct gain_law){.penalty = law->penalty};
    for (size_t i = 0; i < len; i++) {
        law->base += i == without ? 0 : rows[i].gain / count;
        for (int f = 0; f < F; f++)
            law->mean[f] += i == without ? 0 : rows[i].x[f] / count;
    }
    for (int f = 0; f < F; f++) {
        double squares = 0;
        for (size_t i = 0; i < len; i++)
            squares += i == without ? 0 : (rows[i].x[f] - law->mean[f]) * (rows[i].x[f] - law->mean[f]);
        law->scale[f] = squares > 0 ? sqrt(squares / count) : 1;
    }
}

/* Solves a symmetric positive definite system of `len` equations in place: elimination needs no pivots. False: it is
 * none, but for rounding. */
enum { UNKNOWNS_MAX = GRID_FACTORS_MAX + 1 };
typedef double equations[UNKNOWNS_MAX][UNKNOWNS_MAX + 1]; /* the right side in column len */

static bool solve(equations a, int len, double *x)
{
    double whole[UNKNOWNS_MAX];
    for (int i = 0; i < len; i++)
        whole[i] = a[i][i];
    for (int i = 0; i < len; i++) {
        if (!(a[i][i] > 1e-9 * whole[i]))
            return false;
        for (int j = i + 1; j < len; j++)
            for (int k = len; k >= i; k--)
                a[j][k] -= a[i][k] * a[j][i] / a[i][i];
    }
    for (int i = len - 1; i >= 0; i--) {
        x[i] = a[i][len];
        for (int j = i + 1; j < len; j++)
            x[i] -= a[i][j] * x[j];
        x[i] /= a[i][i];
    }
    return true;
}

/* (X'X + penalty I)^-1 X'y of standardised rows, all but `without`. */
static void ridge(const struct gain_row *rows, size_t len, size_t without, struct gain_law *law)
{
    equations a = {{0}};
    standardise(rows, len, without, law);
    for (size_t i = 0; i < len; i++) {
        if (i == without)
            continue;
        double z[F + 1];
        for (int f = 0; f < F; f++)
            z[f] = (rows[i].x[f] - law->mean[f]) / law->scale[f];
        z[F] = rows[i].gain - law->base;
        for (int f = 0; f < F; f++)
            for (int g = 0; g <= F; g++)
                a[f][g] += z[f] * z[g];
    }
    for (int f = 0; f < F; f++)
        a[f][f] += law->penalty;
    bool solved = solve(a, F, law->slope); /* the penalty keeps it from being singular */
    assert(solved);
}

double gain_at(const struct gain_law *law, const double x[GAIN_FEATURES])
{
    double gain = law->base;
    for (int f = 0; f < F; f++)
        gain += law->slope[f] * (x[f] - law->mean[f]) / law->scale[f];
    return gain;
}

static double left_out_error(const struct gain_row *rows, size_t len, double penalty)
{
    double squares = 0;
    for (size_t i = 0; i < len; i++) {
        struct gain_law law = {.penalty = penalty};
        ridge(rows, len, i, &law);
        double miss = gain_at(&law, rows[i].x) - rows[i].gain;
        squares += miss * miss;
    }
    return squares;
}

bool fit_gain(const struct gain_row *rows, size_t len, struct gain_law *law)
{
    static const double penalties[] = {0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100};
    if (len < GAIN_ROWS_MIN)
        return false;
    double best = INFINITY;
    for (size_t i = 0; i < sizeof penalties / sizeof penalties[0]; i++) {
        double error = left_out_error(rows, len, penalties[i]);
        if (error < best)
            law->penalty = penalties[i];
        best = fmin(best, error);
    }
    ridge(rows, len, len, law);
    return true;
}

/* -- parameters of a configuration ---------------------------------------------------------------------------------- */

static double factor_of(const struct grid_law *law, const double *parameters, uint32_t f)
{
    return law->plus_one[f] ? log1p(parameters[f]) : log(parameters[f]);
}

static double logit(double accuracy)
{
    double clipped = fmin(fmax(accuracy, 0.01), 0.99);
    return log(clipped / (1 - clipped));
}

bool fit_grid(const struct grid_row *rows, size_t len, uint32_t factors, struct grid_law *law)
{
    assert(factors <= GRID_FACTORS_MAX);
    equations a = {{0}};
    double x[UNKNOWNS_MAX], z[UNKNOWNS_MAX + 1];
    *law = (struct grid_law){.factors = factors};
    if (len < factors + 2)
        return false;
    for (size_t i = 0; i < len; i++)
        for (uint32_t f = 0; f < factors; f++)
            law->plus_one[f] = law->plus_one[f] || !(rows[i].parameters[f] > 0);
    for (size_t i = 0; i < len; i++) {
        for (uint32_t f = 0; f < factors; f++)
            z[f] = factor_of(law, rows[i].parameters, f);
        z[factors] = 1;
        z[factors + 1] = logit(rows[i].accuracy);
        for (uint32_t f = 0; f <= factors; f++)
            for (uint32_t g = 0; g <= factors + 1; g++)
                a[f][g] += z[f] * z[g];
    }
    if (!solve(a, (int)factors + 1, x))
        return false;
    memcpy(law->slope, x, factors * sizeof *x);
    law->base = x[factors];
    return true;
}

double grid_at(const struct grid_law *law, const double *parameters)
{
    double sum = law->base;
    for (uint32_t f = 0; f < law->factors; f++)
        sum += law->slope[f] * factor_of(law, parameters, f);
    return 1 / (1 + exp(-sum));
}

/* One more than the mean number of values before it, ties counted half. */
static double rank_of(const double *x, size_t len, size_t i)
{
    double below = 0, equal = 0;
    for (size_t j = 0; j < len; j++) {
        below += x[j] < x[i];
        equal += !(x[j] < x[i]) && !(x[j] > x[i]);
    }
    return below + (equal + 1) / 2;
}

double rank_correlation(const double *x, const double *y, size_t len)
{
    double middle = ((double)len + 1) / 2, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < len; i++) {
        double a = rank_of(x, len, i) - middle, b = rank_of(y, len, i) - middle;
        xx += a * a;
        yy += b * b;
        xy += a * b;
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}
