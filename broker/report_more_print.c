/* report_more_print.c - the mix of prompts, extrapolated coverage and savings, as text and JSON. */
#include "broker/calibration.h"
#include "broker/core/text_table.h"
#include "broker/policy/oracle.h"
#include "broker/policy/predict.h"
#include "broker/report_parts.h"

#include <math.h>

static const double factors[] = {2, 4, 10}; /* beyond one decade no law fitted to counts can be trusted */
enum { FACTORS = sizeof factors / sizeof factors[0] };

static const double z95 = 1.959964;

static uint32_t mixed(const struct report_mix *mix)
{
    return mix->prompts - mix->all_right - mix->none_right;
}

/* -- text ----------------------------------------------------------------------------------------------------------- */

static void heads(struct text_table *table, const char *align, const char *const *names)
{
    text_table_init(table, align);
    for (; *names != NULL; names++)
        text_cell(table, *names);
}

static void finish(struct text_table *table, struct buf *out)
{
    text_table_print(table, 2, out);
    text_table_clear(table);
}

static void mixes_text(const struct report *report, struct buf *out)
{
    static const char *const names[] = {"model", "group", "prompts", "rollouts", "all right", "some", "none", NULL};
    struct text_table table;
    heads(&table, "llrrrrr", names);
    for (uint32_t i = 0; i < report->pools_len; i++)
        for (uint32_t g = 0; g < report->groups_len; g++) {
            const struct report_mix *mix = &report->pools[i].mixes[g];
            if (mix->prompts == 0)
                continue;
            text_cell(&table, g == 0 ? report->pools[i].model : "");
            text_cell(&table, report->groups[g].name);
            text_cellf(&table, "%u", mix->prompts);
            text_cellf(&table, "%llu", (unsigned long long)mix->rollouts);
            text_cellf(&table, "%.1f%%", 100 * share(mix->all_right, mix->prompts));
            text_cellf(&table, "%.1f%%", 100 * share(mixed(mix), mix->prompts));
            text_cellf(&table, "%.1f%%", 100 * share(mix->none_right, mix->prompts));
        }
    buf_puts(out, "\nprompts by their judged rollouts: all, some or none of them right\n");
    finish(&table, out);
}

/* Rollouts that a prompt takes if sampling stops at the first right one, or at n. */
static double stops_at(const struct report_reach *reach, double n)
{
    return elimination_at(&reach->law, (uint32_t)n).cost;
}

static void row_of_reach(struct text_table *table, const char *model, double n, double coverage, struct bounds bounds,
                         double stops, const char *source)
{
    text_cell(table, model);
    text_cellf(table, "%.0f", n);
    text_cellf(table, "%.3f", coverage);
    text_cellf(table, "%.3f-%.3f", bounds.low, bounds.high);
    text_cellf(table, "%.2f", stops);
    text_cell(table, source);
}

static void reach_rows(const struct report_pool *pool, struct text_table *table)
{
    const struct report_reach *reach = &pool->reach;
    struct anchor anchor = reach->anchor;
    row_of_reach(table, pool->model, anchor.n, anchor.seen, coverage_bounds(&reach->law, anchor, anchor.n, z95),
                 stops_at(reach, anchor.n), reach->measured ? "rollouts" : "fit");
    for (int f = 0; f < FACTORS; f++) {
        double n = factors[f] * anchor.n;
        row_of_reach(table, "", n, coverage_anchored(&pool->reach.law, anchor, n),
                     coverage_bounds(&pool->reach.law, anchor, n, z95), stops_at(reach, n), "law");
    }
}

static void budget_number(double n, struct buf *out)
{
    if (n < 1e9)
        buf_printf(out, "%.0f", ceil(n));
    else
        buf_puts(out, "no end");
}

static void budget_line(const struct report_pool *pool, double target, struct buf *out)
{
    double n = budget_anchored(&pool->reach.law, pool->reach.anchor, target);
    struct bounds bounds = budget_bounds(&pool->reach.law, pool->reach.anchor, target, z95);
    buf_puts(out, "  ");
    text_plain(slice_of(pool->model), out);
    buf_printf(out, ": coverage %g ", target);
    if (target <= pool->reach.anchor.seen) {
        buf_printf(out, "is reached by N=%.0f or less\n", pool->reach.anchor.n);
        return;
    }
    if (isinf(n)) {
        buf_puts(out, "is out of reach\n");
        return;
    }
    buf_puts(out, "needs N=");
    budget_number(n, out);
    buf_puts(out, " (95%: ");
    budget_number(bounds.low, out);
    buf_puts(out, " to ");
    budget_number(bounds.high, out);
    buf_printf(out, ")%s\n", n > factors[FACTORS - 1] * pool->reach.anchor.n ? ", more than tenfold: a guess" : "");
}

static void reach_notes(const struct report *report, const struct report_pool *pool, struct buf *out)
{
    if (pool->half.known) {
        struct bounds bounds = coverage_bounds(&pool->half.law, pool->half.anchor, pool->reach.anchor.n, z95);
        buf_puts(out, "  ");
        text_plain(slice_of(pool->model), out);
        buf_printf(out, ": N=%.0f alone had foretold %.3f (%.3f-%.3f) for N=%.0f\n", pool->half.anchor.n,
                   coverage_anchored(&pool->half.law, pool->half.anchor, pool->reach.anchor.n), bounds.low, bounds.high,
                   pool->reach.anchor.n);
    }
    if (pool->unsolved > 0) {
        buf_puts(out, "  ");
        text_plain(slice_of(pool->model), out);
        buf_printf(out, ": of %u prompts without a right rollout, %.0f more of each would solve %.1f\n", pool->unsolved,
                   pool->reach.anchor.n, pool->solves);
    }
    if (pool->unsolvable > 0) {
        buf_puts(out, "  ");
        text_plain(slice_of(pool->model), out);
        buf_printf(out, ": fits better if %.1f%% are never solved; then it stays below %.3f\n", 100 * pool->unsolvable,
                   1 - pool->unsolvable);
    }
    if (!isnan(report->target))
        budget_line(pool, report->target, out);
}

static void reaches_text(const struct report *report, struct buf *out)
{
    static const char *const names[] = {"model", "N", "covered", "95%", "stops at", "from", NULL};
    struct text_table table;
    bool any = false;
    heads(&table, "lrrrrl", names);
    for (uint32_t i = 0; i < report->pools_len; i++) {
        any = any || report->pools[i].reach.known;
        if (report->pools[i].reach.known)
            reach_rows(&report->pools[i], &table);
    }
    if (any) {
        buf_puts(out, "\ncoverage if more were sampled, as far as success rates follow a Beta law\n");
        finish(&table, out);
    } else {
        text_table_clear(&table);
        if (!isnan(report->target))
            buf_puts(out, "\nno budget for the target: it takes 10 judged prompts, some right and some wrong\n");
    }
    for (uint32_t i = 0; i < report->pools_len; i++)
        if (report->pools[i].reach.known)
            reach_notes(report, &report->pools[i], out);
}

static const char *const place_signs[] = {[SAVING_BETWEEN] = "", [SAVING_BELOW] = "<", [SAVING_BEYOND] = ">"};

/* Without tokens in a recording there is nothing to divide by. */
static void saved_cells(struct text_table *table, const char *sign, double saved, struct bounds bounds)
{
    text_cellf(table, isfinite(saved) ? "%s%.2fx" : "-", sign, saved);
    text_cellf(table, isfinite(saved) ? "%.2f-%.2f" : "-", bounds.low, bounds.high);
}

static void savings_text(const struct report *report, struct buf *out)
{
    static const char *const names[] = {"", "", "right", "points", "95%", "rollouts", "95%", "tokens", "95%", NULL};
    static const char *const with_costs[] = {"",    "",       "right", "points", "95%", "rollouts",
                                             "95%", "tokens", "95%",   "cost",   "95%", NULL};
    struct text_table table;
    bool costs = false;
    for (uint32_t i = 0; i < report->savings_len; i++)
        costs = costs || isfinite(report->savings[i].saving.cost);
    if (report->savings_len == 0)
        return;
    heads(&table, costs ? "llrrrrrrrrr" : "llrrrrrrr", costs ? with_costs : names);
    for (uint32_t i = 0; i < report->savings_len; i++) {
        const struct report_saving *one = &report->savings[i];
        const struct saving *saving = &one->saving;
        text_cellf(&table, "%c", report_letter(one->curve));
        text_cellf(&table, "vs %c", report_letter(one->base));
        text_cellf(&table, "%.3f", saving->accuracy);
        text_cellf(&table, "%+.1f", 100 * saving->difference);
        text_cellf(&table, "%+.1f to %+.1f", 100 * saving->difference_95.low, 100 * saving->difference_95.high);
        saved_cells(&table, place_signs[saving->place], saving->rollouts, saving->rollouts_95);
        saved_cells(&table, place_signs[saving->place], saving->tokens, saving->tokens_95);
        if (costs)
            saved_cells(&table, place_signs[saving->place], saving->cost, saving->cost_95);
    }
    buf_puts(out, "\nagainst taking all N of every prompt: points more right, saved at equal accuracy\n");
    finish(&table, out);
}

/* -- repeats -------------------------------------------------------------------------------------------------------- */

/* Taking the first of N rollouts that a verifier accepts: which N, if a false one costs so many right ones. */
static const double costs[] = {0, 1, 4};
enum { COSTS = sizeof costs / sizeof costs[0], REPEATS_MAX = 1000 };

static bool has_rates(const struct calibration *verifier)
{
    return isfinite(verifier->groups[0].tpr.mean) && isfinite(verifier->groups[0].fpr.mean);
}

static uint32_t repeats_of(const struct report_pool *pool, const struct calibration *verifier, double cost,
                           double *worth)
{
    struct error_rates rates = {verifier->groups[0].tpr.mean, verifier->groups[0].fpr.mean};
    return repeats_worthwhile(&pool->reach.law, rates, cost, REPEATS_MAX, worth);
}

static void repeats_row(const struct report_pool *pool, const struct calibration *verifier, struct text_table *table)
{
    text_cell(table, verifier->verifier);
    text_cell(table, pool->model);
    for (int c = 0; c < COSTS; c++) {
        double worth;
        uint32_t n = repeats_of(pool, verifier, costs[c], &worth);
        text_cellf(table, "%.3f", worth);
        text_cellf(table, n == UINT32_MAX ? "no end" : "N=%u", n);
    }
}

static void repeats_text(const struct report *report, struct buf *out)
{
    static const char *const names[] = {"verifier", "model", "", "costs 0", "", "costs 1", "", "costs 4", NULL};
    struct text_table table;
    bool any = false;
    heads(&table, "llrrrrrr", names);
    for (uint32_t v = 0; v < report->verifiers_len; v++)
        for (uint32_t i = 0; i < report->pools_len; i++) {
            if (!report->pools[i].reach.known || !has_rates(report->verifiers[v]))
                continue;
            repeats_row(&report->pools[i], report->verifiers[v], &table);
            any = true;
        }
    if (any) {
        buf_puts(out, "\nworth of taking the first of N that is accepted, if a false one costs 0, 1, 4\n");
        finish(&table, out);
    } else {
        text_table_clear(&table);
    }
}

void report_more_text(const struct report *report, struct buf *out)
{
    uint32_t judged = 0;
    for (uint32_t i = 0; i < report->pools_len; i++)
        judged += report->pools[i].mixes[0].prompts;
    if (judged > 0)
        mixes_text(report, out);
    if (report->pools_len > 0)
        reaches_text(report, out);
    savings_text(report, out);
    repeats_text(report, out);
    for (uint32_t i = 0; i < report->tables_len; i++)
        report_table_print(&report->tables[i], out);
}

/* -- JSON ----------------------------------------------------------------------------------------------------------- */

static void put_mix(struct buf *json, const char *model, const char *group, const struct report_mix *mix)
{
    json_begin(json, '{');
    put_str(json, "model", model);
    put_str(json, "group", group);
    put_u64(json, "prompts", mix->prompts);
    put_u64(json, "unjudged", mix->unjudged);
    put_u64(json, "rollouts", mix->rollouts);
    put_f64(json, "all_right", share(mix->all_right, mix->prompts));
    put_f64(json, "some_right", share(mixed(mix), mix->prompts));
    put_f64(json, "none_right", share(mix->none_right, mix->prompts));
    json_end(json, '}');
}

static void put_reach_point(struct buf *json, const struct report_reach *reach, double n, double coverage,
                            struct bounds bounds)
{
    json_begin(json, '{');
    put_f64(json, "n", n);
    put_f64(json, "coverage", coverage);
    put_f64(json, "low", bounds.low);
    put_f64(json, "high", bounds.high);
    put_f64(json, "stops", stops_at(reach, n));
    json_end(json, '}');
}

static void put_reach(struct buf *json, const struct report_pool *pool, double target)
{
    struct anchor anchor = pool->reach.anchor;
    json_begin(json, '{');
    put_str(json, "model", pool->model);
    put_f64(json, "alpha", pool->reach.law.alpha);
    put_f64(json, "alpha_se", pool->reach.law.alpha_se);
    put_f64(json, "beta", pool->reach.law.beta);
    put_f64(json, "unsolvable", pool->unsolvable);
    put_u64(json, "unsolved", pool->unsolved);
    put_f64(json, "solves", pool->solves);
    put_str(json, "anchor", pool->reach.measured ? "rollouts" : "fit");
    json_key(json, "points");
    json_begin(json, '[');
    put_reach_point(json, &pool->reach, anchor.n, anchor.seen,
                    coverage_bounds(&pool->reach.law, anchor, anchor.n, z95));
    for (int f = 0; f < FACTORS; f++)
        put_reach_point(json, &pool->reach, factors[f] * anchor.n,
                        coverage_anchored(&pool->reach.law, anchor, factors[f] * anchor.n),
                        coverage_bounds(&pool->reach.law, anchor, factors[f] * anchor.n, z95));
    json_end(json, ']');
    if (pool->half.known) {
        json_key(json, "hindsight"); /* of the first point, from half of its rollouts */
        put_reach_point(json, &pool->half, pool->half.anchor.n,
                        coverage_anchored(&pool->half.law, pool->half.anchor, anchor.n),
                        coverage_bounds(&pool->half.law, pool->half.anchor, anchor.n, z95));
    }
    if (!isnan(target)) {
        struct bounds bounds = budget_bounds(&pool->reach.law, anchor, target, z95);
        put_f64(json, "target", target);
        put_f64(json, "budget", budget_anchored(&pool->reach.law, anchor, target));
        put_f64(json, "budget_low", bounds.low);
        put_f64(json, "budget_high", bounds.high);
    }
    json_end(json, '}');
}

static void put_saving(struct buf *json, const struct report *report, const struct report_saving *one)
{
    static const char *const places[] = {
        [SAVING_BETWEEN] = "between", [SAVING_BELOW] = "below", [SAVING_BEYOND] = "beyond"};
    const struct saving *saving = &one->saving;
    json_begin(json, '{');
    put_str(json, "arm", report->groups[0].curves[one->curve].arm.name);
    put_str(json, "against", report->groups[0].curves[one->base].arm.name);
    put_u64(json, "prompts", one->prompts);
    put_f64(json, "accuracy", saving->accuracy);
    put_f64(json, "difference", saving->difference);
    put_f64(json, "difference_low", saving->difference_95.low);
    put_f64(json, "difference_high", saving->difference_95.high);
    put_f64(json, "rollouts", saving->rollouts);
    put_f64(json, "rollouts_low", saving->rollouts_95.low);
    put_f64(json, "rollouts_high", saving->rollouts_95.high);
    put_f64(json, "tokens", saving->tokens);
    put_f64(json, "tokens_low", saving->tokens_95.low);
    put_f64(json, "tokens_high", saving->tokens_95.high);
    put_f64(json, "cost", saving->cost);
    put_f64(json, "cost_low", saving->cost_95.low);
    put_f64(json, "cost_high", saving->cost_95.high);
    put_str(json, "place", places[saving->place]);
    json_end(json, '}');
}

static void put_repeats(struct buf *json, const struct report_pool *pool, const struct calibration *verifier)
{
    for (int c = 0; c < COSTS; c++) {
        double worth;
        uint32_t n = repeats_of(pool, verifier, costs[c], &worth);
        json_begin(json, '{');
        put_str(json, "verifier", verifier->verifier);
        put_str(json, "model", pool->model);
        put_f64(json, "cost", costs[c]);
        put_f64(json, "n", n == UINT32_MAX ? INFINITY : n);
        put_f64(json, "worth", worth);
        json_end(json, '}');
    }
}

void report_more_json(const struct report *report, struct buf *json)
{
    json_key(json, "prompt_mix");
    json_begin(json, '[');
    for (uint32_t i = 0; i < report->pools_len; i++)
        for (uint32_t g = 0; g < report->groups_len; g++)
            put_mix(json, report->pools[i].model, report->groups[g].name, &report->pools[i].mixes[g]);
    json_end(json, ']');
    json_key(json, "extrapolation");
    json_begin(json, '[');
    for (uint32_t i = 0; i < report->pools_len; i++)
        if (report->pools[i].reach.known)
            put_reach(json, &report->pools[i], report->target);
    json_end(json, ']');
    json_key(json, "savings");
    json_begin(json, '[');
    for (uint32_t i = 0; i < report->savings_len; i++)
        put_saving(json, report, &report->savings[i]);
    json_end(json, ']');
    json_key(json, "repeats");
    json_begin(json, '[');
    for (uint32_t v = 0; v < report->verifiers_len; v++)
        for (uint32_t i = 0; i < report->pools_len; i++)
            if (report->pools[i].reach.known && has_rates(report->verifiers[v]))
                put_repeats(json, &report->pools[i], report->verifiers[v]);
    json_end(json, ']');
    for (uint32_t i = 0; i < report->tables_len; i++)
        report_table_json(&report->tables[i], json);
}
