/* fit_bins.c - see fit_bins.h. */
#include "broker/fit_bins.h"
#include "common/json.h"
#include "common/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- fit ---- */

/* Prompts of one fold, or all others of it. */
struct part {
    uint32_t fold, folds; /* folds 0: all prompts, whichever side */
    bool others;
};

static bool within(const struct part *part, uint32_t prompt)
{
    return part->folds == 0 || (prompt % part->folds == part->fold) != part->others;
}

static struct rate_law law_of(const struct fit_bins_request *request, const struct part *part)
{
    struct prior_tally *tallies = xalloc(request->len * sizeof *tallies);
    size_t len = 0;
    for (size_t i = 0; i < request->len; i++)
        if (within(part, request->tallies[i].prompt))
            tallies[len++] = request->tallies[i];
    struct rate_law law = prior_law(tallies, len);
    free(tallies);
    return law;
}

/* A list of cases that grows. */
struct cases {
    struct bin_case *at;
    size_t len;
};

static void cases_add(struct cases *cases, const float (*beliefs)[2], uint32_t prompts, const struct part *part,
                      uint32_t pilot)
{
    for (uint32_t p = 0; p < prompts; p++)
        if (within(part, p))
            cases->len += bins_cases((struct belief){(double)beliefs[p][0], (double)beliefs[p][1]}, pilot,
                                     cases->at + cases->len);
}

static struct cases cases_new(const struct fit_bins_request *request, uint32_t pilot)
{
    return (struct cases){xalloc(request->prompts * ((size_t)pilot + 1) * sizeof(struct bin_case)), 0};
}

/* even: prompts without a pilot, for equal shares. */
static void compare(struct fit_bins_prediction *prediction, const struct cases *even)
{
    prediction->even = bins_even_coverage(even->at, even->len, prediction->outlook.cost);
    prediction->same = bins_even(even->at, even->len, prediction->outlook.coverage, 1e6);
}

static const struct part all = {0};

static void fit_all(const struct fit_bins_request *request, float (*beliefs)[2], struct fit_bins *fit)
{
    struct cases cases = cases_new(request, request->pilot), even = cases_new(request, 0);
    fit->law = law_of(request, &all);
    prior_beliefs(&fit->law, request->tallies, request->len, request->strength, request->prompts, beliefs);
    cases_add(&cases, (const float(*)[2])beliefs, request->prompts, &all, request->pilot);
    cases_add(&even, (const float(*)[2])beliefs, request->prompts, &all, 0);
    fit->bins = bins_fit(cases.at, cases.len, request->pilot, request->budget, LIMIT_N);
    fit->seen.outlook = bins_outlook(&fit->bins, cases.at, cases.len, request->pilot);
    compare(&fit->seen, &even);
    free(cases.at);
    free(even.at);
}

/* Fits on all folds but one; what that gives on it is added to the sums, by its number of prompts. */
static void hold_out(const struct fit_bins_request *request, uint32_t fold, float (*beliefs)[2], struct cases *even,
                     struct bins_outlook *sums)
{
    const struct part others = {fold, request->folds, true}, held = {fold, request->folds, false};
    struct cases cases = cases_new(request, request->pilot);
    struct rate_law law = law_of(request, &others);
    size_t before = even->len;
    prior_beliefs(&law, request->tallies, request->len, request->strength, request->prompts, beliefs);
    cases_add(&cases, (const float(*)[2])beliefs, request->prompts, &others, request->pilot);
    struct bins bins = bins_fit(cases.at, cases.len, request->pilot, request->budget, LIMIT_N);
    cases.len = 0;
    cases_add(&cases, (const float(*)[2])beliefs, request->prompts, &held, request->pilot);
    cases_add(even, (const float(*)[2])beliefs, request->prompts, &held, 0);
    struct bins_outlook outlook = bins_outlook(&bins, cases.at, cases.len, request->pilot);
    double weight = (double)(even->len - before) / request->prompts;
    sums->coverage += weight * outlook.coverage;
    sums->cost += weight * outlook.cost;
    free(cases.at);
}

struct fit_bins fit_bins(const struct fit_bins_request *request)
{
    struct fit_bins fit = {0};
    float(*beliefs)[2] = xalloc(request->prompts * sizeof *beliefs);
    fit_all(request, beliefs, &fit);
    struct cases even = cases_new(request, 0);
    for (uint32_t fold = 0; fold < request->folds; fold++)
        hold_out(request, fold, beliefs, &even, &fit.held.outlook);
    if (request->folds > 0)
        compare(&fit.held, &even);
    free(even.at);
    free(beliefs);
    return fit;
}

/* ---- output ---- */

static uint32_t most_of(const struct bins *bins)
{
    uint32_t most = 0;
    for (int q = 0; q < BINS; q++)
        most = bins->n[q] > most ? bins->n[q] : most;
    return most;
}

/* The keys of the arm, as a sweep file has them. */
static void put_section(const struct fit_bins *fit, const struct fit_bins_request *request, const char *from,
                        struct buf *out)
{
    buf_printf(out, "    n: %u\n    allocate: {bins: {", most_of(&fit->bins));
    if (request->pilot > 0)
        buf_printf(out, "by: passes, pilot: %u", request->pilot);
    else
        buf_puts(out, "by: prior");
    for (int e = 0; e < BINS - 1; e++)
        buf_printf(out, ", edge%d: %.6g", e + 1, fit->bins.edges[e]);
    for (int q = 0; q < BINS; q++)
        buf_printf(out, ", n%d: %u", q + 1, fit->bins.n[q]);
    buf_puts(out, "}}\n");
    if (request->pilot == 0)
        buf_printf(out, "    prior: {from: %s, strength: %g}\n", from, request->strength);
}

static void put_prediction(const char *name, const struct fit_bins_prediction *prediction, struct buf *out)
{
    const struct bins_outlook *outlook = &prediction->outlook;
    buf_printf(out, "%-10s coverage %.4f with %.2f rollouts a prompt; equal shares cover %.4f, ", name,
               outlook->coverage, outlook->cost, prediction->even);
    if (isfinite(prediction->same))
        buf_printf(out, "and need %.1f for as many: %.2f times\n", prediction->same, prediction->same / outlook->cost);
    else
        buf_puts(out, "and never as many\n");
}

static double rollouts_each(const struct fit_bins_request *request)
{
    double sum = 0;
    for (size_t i = 0; i < request->len; i++)
        sum += request->tallies[i].n;
    return sum / request->prompts;
}

void fit_bins_text(const struct fit_bins *fit, const struct fit_bins_request *request, const char *from,
                   struct buf *out)
{
    buf_printf(out, "%s: %u prompts, %.1f judged rollouts each; their rates are as from Beta(%.3g, %.3g)\n\n", from,
               request->prompts, rollouts_each(request), fit->law.alpha, fit->law.beta);
    buf_printf(out, "bin  %-18s prompts       n\n", request->pilot > 0 ? "pilot that passes" : "mean of the prior");
    struct buf none = {0};
    for (int q = 0; q < BINS; q++) {
        char edge[32] = "above";
        if (fit->seen.outlook.share[q] <= 0) {
            buf_printf(&none, "%s%d", none.len > 0 ? ", " : "", q + 1);
            continue;
        }
        if (q < BINS - 1)
            snprintf(edge, sizeof edge, "up to %.4g", fit->bins.edges[q]);
        buf_printf(out, "%-4d %-18s %5.1f %% %7u\n", q + 1, edge, 100 * fit->seen.outlook.share[q], fit->bins.n[q]);
    }
    if (none.len > 0)
        buf_printf(out, "Without any prompt: bin %s. %s tells fewer than five kinds of prompts apart%s.\n", none.data,
                   request->pilot > 0 ? "The pilot" : "The prior",
                   request->pilot > 0 ? "; a larger one may tell more" : "");
    buf_clear(&none);
    buf_puts(out, "\n");
    put_prediction("foretold", &fit->seen, out);
    if (request->folds > 0)
        put_prediction("held out", &fit->held, out);
    buf_puts(out, "\n# keys of the arm:\n");
    put_section(fit, request, from, out);
}

static void json_prediction(const char *key, const struct fit_bins_prediction *prediction, struct buf *out)
{
    json_key(out, key);
    json_begin(out, '{');
    json_key(out, "coverage");
    json_f64(out, prediction->outlook.coverage);
    json_key(out, "rollouts_per_prompt");
    json_f64(out, prediction->outlook.cost);
    json_key(out, "equal_coverage");
    json_f64(out, prediction->even);
    json_key(out, "equal_rollouts");
    json_f64(out, prediction->same);
    json_key(out, "ratio");
    json_f64(out, prediction->same / prediction->outlook.cost);
    json_end(out, '}');
}

void fit_bins_json(const struct fit_bins *fit, const struct fit_bins_request *request, const char *from,
                   struct buf *out)
{
    struct buf section = {0};
    put_section(fit, request, from, &section);
    json_begin(out, '{');
    json_key(out, "prompts");
    json_u64(out, request->prompts);
    json_key(out, "rollouts_each");
    json_f64(out, rollouts_each(request));
    json_key(out, "alpha");
    json_f64(out, fit->law.alpha);
    json_key(out, "beta");
    json_f64(out, fit->law.beta);
    json_key(out, "edges");
    json_begin(out, '[');
    for (int e = 0; e < BINS - 1; e++)
        json_f64(out, fit->bins.edges[e]);
    json_end(out, ']');
    json_key(out, "n");
    json_begin(out, '[');
    for (int q = 0; q < BINS; q++)
        json_u64(out, fit->bins.n[q]);
    json_end(out, ']');
    json_key(out, "shares");
    json_begin(out, '[');
    for (int q = 0; q < BINS; q++)
        json_f64(out, fit->seen.outlook.share[q]);
    json_end(out, ']');
    json_prediction("foretold", &fit->seen, out);
    if (request->folds > 0)
        json_prediction("held_out", &fit->held, out);
    json_key(out, "arm");
    json_text(out, buf_slice(&section));
    json_end(out, '}');
    buf_puts(out, "\n");
    buf_clear(&section);
}
