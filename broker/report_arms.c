/* report_arms.c - arms and models beside each other: which prompts one gets right and the other wrong, what effort
 * gives, what money buys, which configuration of a grid is best. */
#include "broker/policy/kernel.h"
#include "broker/policy/predict.h"
#include "broker/report_curve.h"
#include "broker/report_parts.h"
#include "broker/sweep_grid.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct report_curve *curve_at(const struct report *report, uint32_t c)
{
    return &report->groups[0].curves[c];
}

static const struct report_point *last_point(const struct report_curve *curve)
{
    return &curve->points[curve->points_len - 1];
}

static double per_prompt(double sum, const struct report_point *point)
{
    return point->prompts > 0 ? sum / point->prompts : NAN;
}

/* -- flips ------------------------------------------------------------------------------------------------------------ */

static const struct report_column flip_columns[] = {
    {"of", "of", CELL_TEXT},
    {"from", "from", CELL_TEXT},
    {"to", "to", CELL_TEXT},
    {"pairs", "pairs", CELL_COUNT},
    {"right_right", "right, right", CELL_COUNT},
    {"right_wrong", "right, wrong", CELL_COUNT},
    {"wrong_right", "wrong, right", CELL_COUNT},
    {"wrong_wrong", "wrong, wrong", CELL_COUNT},
    {"p", "p", CELL_NUMBER},
    {0},
};

struct flips {
    uint64_t counts[2][2]; /* [was right][is right] */
};

/* Two-sided sign test: how likely flips that go either way with equal chance are as uneven as these. */
static double sign_test(uint64_t lost, uint64_t won)
{
    uint64_t fewer = lost < won ? lost : won, flips = lost + won;
    if (flips == 0 || lost == won)
        return 1;
    return 2 * half_tail((uint32_t)fewer, (uint32_t)(flips - 1 - fewer));
}

static void flips_row(struct report_table *table, const char *of, const char *from, const char *to,
                      const struct flips *flips)
{
    uint64_t pairs = 0;
    for (int was = 0; was < 2; was++)
        pairs += flips->counts[was][0] + flips->counts[was][1];
    if (pairs == 0)
        return;
    report_table_text(table, of);
    report_table_text(table, from);
    report_table_text(table, to);
    report_table_number(table, (double)pairs);
    for (int was = 1; was >= 0; was--)
        for (int is = 1; is >= 0; is--)
            report_table_number(table, (double)flips->counts[was][is]);
    report_table_number(table, sign_test(flips->counts[1][0], flips->counts[0][1]));
}

/* What both arms answered with all that they may use. Coverage in parts cannot flip: it counts from one half on. */
static void flips_of_arms(const struct core *core, const struct report *report, uint32_t to, struct report_table *table)
{
    const struct arm_info *a = &curve_at(report, 0)->arm, *b = &curve_at(report, to)->arm;
    struct flips flips = {{{0}}};
    for (uint32_t p = 0; p < report->sweep.prompts; p++) {
        struct sample was = sample_at(core, a, p, a->n), is = sample_at(core, b, p, b->n);
        if (was.judgement == JUDGED && is.judgement == JUDGED)
            flips.counts[was.right >= 0.5][is.right >= 0.5]++;
    }
    flips_row(table, "arms", a->name, b->name, &flips);
}

/* Whether the truth knows this rollout of a pool; *right: what it says. */
static bool judged(const struct core *core, const struct report *report, const struct key *key, bool *right)
{
    struct verdict verdict;
    if (!core_verdict(core, key, report->sweep.truth, &verdict) || !outcome_decides(verdict.outcome))
        return false;
    *right = verdict.outcome == OUTCOME_PASS;
    return true;
}

/* Rollouts of the same prompts and ordinals. */
static void flips_of_pools(const struct core *core, const struct report *report, uint32_t to,
                           struct report_table *table)
{
    const struct report_pool *a = &report->pools[0], *b = &report->pools[to];
    struct flips flips = {{{0}}};
    for (uint32_t p = 0; p < report->sweep.prompts; p++) {
        uint32_t len = report_delivered(core, report->sweep.id, a->pool, p);
        uint32_t other = report_delivered(core, report->sweep.id, b->pool, p);
        for (uint32_t k = 0; k < len && k < other; k++) {
            bool was, is;
            if (judged(core, report, &(struct key){TASK_GENERATE, a->pool, p, NO_ID, k, NO_ID}, &was) &&
                judged(core, report, &(struct key){TASK_GENERATE, b->pool, p, NO_ID, k, NO_ID}, &is))
                flips.counts[was][is]++;
        }
    }
    flips_row(table, "rollouts", a->model, b->model, &flips);
}

/* From each attempt to those that revise it. */
static void flips_of_turns(const struct core *core, const struct report *report, const struct arm_info *arm,
                           struct report_table *table)
{
    struct flips flips = {{{0}}};
    struct key key = {TASK_GENERATE, arm->id, 0, 0, 0, NO_ID};
    for (key.prompt = 0; key.prompt < arm->prompts; key.prompt++) {
        for (key.tree = 0; key.tree < arm->trees; key.tree++) {
            for (key.item = 0; key.item < core_tree_nodes(core, arm->id, key.prompt, key.tree); key.item++) {
                struct rollout_info node;
                struct key before = key;
                bool was, is;
                if (!core_rollout(core, &key, &node) || node.parent == NO_ORDINAL)
                    continue;
                before.item = node.parent;
                if (judged(core, report, &before, &was) && judged(core, report, &key, &is))
                    flips.counts[was][is]++;
            }
        }
    }
    flips_row(table, "turns", arm->name, "revised", &flips);
}

static void flips_add(const struct core *core, struct report *report)
{
    struct report_table *table = report_table_add(
        report, "flips", "what was right and is right, from the first arm or model to each other one", flip_columns);
    for (uint32_t c = 1; c < report->curves_len; c++)
        flips_of_arms(core, report, c, table);
    for (uint32_t i = 1; i < report->pools_len; i++)
        flips_of_pools(core, report, i, table);
    for (uint32_t i = 0; i < report->sweep.arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, report->sweep.id, i));
        if (arm.strategy->memory != NULL)
            flips_of_turns(core, report, &arm, table);
    }
}

/* -- effort ----------------------------------------------------------------------------------------------------------- */

static const struct report_column effort_columns[] = {
    {"levels", "levels", CELL_TEXT},  {"prompts", "prompts", CELL_COUNT}, {"tokens_from", "tokens from", CELL_NUMBER},
    {"tokens_to", "to", CELL_NUMBER}, {"arise", "ARISE", CELL_SHARE},     {0},
};

/* An arm at one of its N. */
struct level {
    const struct arm_info *arm;
    uint32_t n;
    double tokens; /* of a prompt, in the mean */
};

static int by_tokens(const void *a, const void *b)
{
    const struct level *x = a, *y = b;
    return (x->tokens > y->tokens) - (x->tokens < y->tokens);
}

/* Mean over the prompts whose truth is known at all levels; levels by rising tokens. */
static void effort_row(const struct core *core, const struct report *report, const struct level *levels, uint32_t len,
                       const char *name, struct report_table *table)
{
    struct effort *efforts = xalloc(len * sizeof *efforts);
    double sum = 0, prompts = 0;
    for (uint32_t p = 0; p < report->sweep.prompts; p++) {
        uint32_t known = 0;
        for (uint32_t l = 0; l < len; l++) {
            struct sample sample = sample_at(core, levels[l].arm, p, levels[l].n);
            efforts[l] = (struct effort){sample.right, (double)sample.tokens};
            known += sample.judgement == JUDGED && sample.tokens > 0;
        }
        if (known < len)
            continue;
        sum += arise(efforts, len);
        prompts++;
    }
    free(efforts);
    if (!(prompts > 0))
        return;
    report_table_text(table, name);
    report_table_number(table, prompts);
    report_table_number(table, levels[0].tokens);
    report_table_number(table, levels[len - 1].tokens);
    report_table_number(table, sum / prompts);
}

/* The N of one arm. */
static void effort_of_curve(const struct core *core, const struct report *report, const struct report_curve *curve,
                            struct report_table *table)
{
    struct level *levels = xalloc(curve->points_len * sizeof *levels);
    struct buf name = {0};
    for (uint32_t i = 0; i < curve->points_len; i++)
        levels[i] = (struct level){&curve->arm, curve->points[i].n,
                                   per_prompt((double)curve->points[i].tokens, &curve->points[i])};
    buf_printf(&name, "%s: N=%u to %u", curve->arm.name, levels[0].n, levels[curve->points_len - 1].n);
    if (curve->points_len > 1 && curve->arm.trees == 0)
        effort_row(core, report, levels, curve->points_len, name.data, table);
    buf_clear(&name);
    free(levels);
}

static bool alike(const struct arm_info *a, const struct arm_info *b)
{
    return !a->whole && !b->whole && a->strategy == b->strategy && a->allocator == b->allocator &&
           a->stopper == b->stopper && a->selector == b->selector && a->verifier == b->verifier &&
           a->trees == b->trees && a->n == b->n &&
           memcmp(a->options[0], b->options[0], POLICY_OPTIONS_MAX * sizeof(double)) == 0;
}

/* Arms that differ in their models alone, such as in how long those may think. */
static void effort_of_models(const struct core *core, const struct report *report, uint32_t first,
                             struct report_table *table)
{
    struct level *levels = xalloc(report->curves_len * sizeof *levels);
    struct buf name = {0};
    uint32_t len = 0;
    for (uint32_t c = 0; c < report->curves_len; c++) {
        const struct report_curve *curve = curve_at(report, c);
        if (!alike(&curve->arm, &curve_at(report, first)->arm))
            continue;
        if (c < first || (len > 0 && curve->arm.model == levels[0].arm->model)) {
            len = 0; /* told of before, or the same model twice */
            break;
        }
        const struct report_point *point = last_point(curve);
        levels[len++] = (struct level){&curve->arm, curve->arm.n, per_prompt((double)point->tokens, point)};
    }
    if (len > 1) {
        qsort(levels, len, sizeof *levels, by_tokens);
        for (uint32_t l = 0; l < len; l++)
            buf_printf(&name, "%s%s", l > 0 ? " < " : "", levels[l].arm->name);
        effort_row(core, report, levels, len, name.data, table);
    }
    buf_clear(&name);
    free(levels);
}

static void effort_add(const struct core *core, struct report *report)
{
    struct report_table *table = report_table_add(
        report, "effort", "what more tokens give: gains count by tokens before over after, losses the other way",
        effort_columns);
    for (uint32_t c = 0; c < report->curves_len; c++) {
        effort_of_curve(core, report, curve_at(report, c), table);
        effort_of_models(core, report, c, table);
    }
}

/* -- money ------------------------------------------------------------------------------------------------------------ */

static const struct report_column money_columns[] = {
    {"arm", "arm", CELL_TEXT},
    {"model", "model", CELL_TEXT},
    {"cost", "whole cost", CELL_NUMBER},
    {"equal_cost", "at", CELL_NUMBER},
    {"n", "N", CELL_NUMBER},
    {"accuracy", "right", CELL_SHARE},
    {0},
};

static double cost_of(const struct report_point *point)
{
    return per_prompt((double)point->cost / 1e6, point);
}

/* Accuracy and N of a curve at this cost, on straight lines between its points; below the first there is none. */
static void at_cost(const struct report_curve *curve, double cost, double *n, double *accuracy)
{
    uint32_t i = 0;
    while (i < curve->points_len && cost_of(&curve->points[i]) < cost)
        i++;
    *n = *accuracy = NAN;
    if (i == curve->points_len || (i == 0 && cost_of(&curve->points[0]) > cost))
        return;
    const struct report_point *to = &curve->points[i], *from = i > 0 ? to - 1 : to;
    double width = cost_of(to) - cost_of(from), part = width > 0 ? (cost - cost_of(from)) / width : 1;
    *n = from->n + part * (to->n - from->n);
    *accuracy = from->accuracy + part * (to->accuracy - from->accuracy);
}

/* At the most money that all arms spend on a prompt; where models differ and have prices. */
static void money_add(struct report *report)
{
    struct report_table *table =
        report_table_add(report, "equal_cost", "at equal cost of a prompt, between the measured N", money_columns);
    double least = INFINITY;
    bool models = false;
    for (uint32_t c = 0; c < report->curves_len; c++) {
        models = models || strcmp(curve_at(report, c)->model, curve_at(report, 0)->model) != 0;
        double cost = cost_of(last_point(curve_at(report, c)));
        least = cost > 0 && cost < least ? cost : least;
    }
    for (uint32_t c = 0; models && isfinite(least) && c < report->curves_len; c++) {
        const struct report_curve *curve = curve_at(report, c);
        double n, accuracy, cost = cost_of(last_point(curve));
        if (!(cost > 0))
            continue;
        at_cost(curve, least, &n, &accuracy);
        report_table_text(table, curve->arm.name);
        report_table_text(table, curve->model);
        report_table_number(table, cost);
        report_table_number(table, least);
        report_table_number(table, n);
        report_table_number(table, accuracy);
    }
}

/* -- grids ------------------------------------------------------------------------------------------------------------ */

static const struct report_column grid_columns[] = {
    {"arm", "arm", CELL_TEXT},
    {"parameters", NULL, CELL_TEXT},
    {"tokens", "tokens", CELL_NUMBER},
    {"accuracy", "right", CELL_SHARE},
    {"fitted", "fitted", CELL_SHARE},
    {"best", "best within", CELL_TEXT},
    {0},
};

static const struct report_column slope_columns[] = {
    {"parameter", "parameter", CELL_TEXT},
    {"slope", "slope", CELL_NUMBER},
    {0},
};

enum { CELLS_MAX = 1024 };

/* One configuration of a grid. */
struct cell {
    uint32_t curve;
    double tokens; /* of a prompt */
    struct grid_row row;
    char *parameters; /* owned: "docs=4 shots=8" */
};

/* Arms of one grid. Parameters are the keys whose values are numbers in all of them, and differ. */
struct cells {
    const struct report *report;
    uint32_t grid, len, keys;
    struct cell *at;
    double values[CELLS_MAX][GRID_AXES_MAX]; /* NaN: no number */
    char *names[GRID_AXES_MAX];              /* owned */
};

static double number_of(const char *text)
{
    char *end;
    double value = text == NULL ? NAN : strtod(text, &end);
    return text == NULL || end == text || *end != '\0' || value < 0 ? NAN : value;
}

static void cell_take(void *arg, const struct grid_arm *made)
{
    struct cells *cells = arg;
    uint32_t c = 0;
    if (made->grid != cells->grid || cells->len == CELLS_MAX)
        return;
    while (c < cells->report->curves_len &&
           (curve_at(cells->report, c)->sweep != NULL || strcmp(curve_at(cells->report, c)->arm.name, made->name) != 0))
        c++;
    if (c == cells->report->curves_len)
        return;
    const struct report_point *point = last_point(curve_at(cells->report, c));
    struct buf parameters = {0};
    for (uint32_t i = 0; i < made->len; i++) {
        cells->values[cells->len][i] = number_of(made->values[i]);
        if (cells->len == 0)
            cells->names[i] = xstrdup(made->keys[i]);
        buf_printf(&parameters, "%s%s=%s", i > 0 ? " " : "", made->keys[i],
                   made->values[i] == NULL ? "..." : made->values[i]);
    }
    cells->keys = made->len;
    cells->at[cells->len++] = (struct cell){.curve = c,
                                            .tokens = per_prompt((double)point->tokens, point),
                                            .row.accuracy = point->accuracy,
                                            .parameters = parameters.data};
}

/* Fills the rows with the keys that are parameters; how many of them. */
static uint32_t parameters_of(struct cells *cells, uint32_t keys[GRID_FACTORS_MAX])
{
    uint32_t factors = 0;
    for (uint32_t k = 0; k < cells->keys && factors < GRID_FACTORS_MAX; k++) {
        bool numbers = true, differ = false;
        for (uint32_t i = 0; i < cells->len; i++) {
            numbers = numbers && !isnan(cells->values[i][k]);
            differ = differ || cells->values[i][k] < cells->values[0][k] || cells->values[i][k] > cells->values[0][k];
        }
        if (!numbers || !differ)
            continue;
        for (uint32_t i = 0; i < cells->len; i++)
            cells->at[i].row.parameters[factors] = cells->values[i][k];
        keys[factors++] = k;
    }
    return factors;
}

static int by_cost(const void *a, const void *b)
{
    const struct cell *x = a, *y = b;
    return x->tokens < y->tokens ? -1 : x->tokens > y->tokens ? 1 : (x->curve > y->curve) - (x->curve < y->curve);
}

/* By rising cost. One that is fitted to be better than all cheaper ones is the best within a budget from its cost on. */
static void cells_rows(struct cells *cells, const struct grid_law *law, struct report_table *table)
{
    double best = -1;
    qsort(cells->at, cells->len, sizeof *cells->at, by_cost);
    for (uint32_t i = 0; i < cells->len; i++) {
        const struct cell *cell = &cells->at[i];
        double fitted = grid_at(law, cell->row.parameters);
        report_table_text(table, curve_at(cells->report, cell->curve)->arm.name);
        report_table_text(table, cell->parameters);
        report_table_number(table, cell->tokens);
        report_table_number(table, cell->row.accuracy);
        report_table_number(table, fitted);
        report_table_text(table, fitted > best ? "from here on" : "");
        best = fmax(best, fitted);
    }
}

static void grid_add(struct report *report, uint32_t grid, struct report_table *table, struct report_table *slopes)
{
    struct cells *cells = xalloc(sizeof *cells);
    uint32_t keys[GRID_FACTORS_MAX], judged_len = 0;
    struct grid_law law;
    *cells = (struct cells){.report = report, .grid = grid, .at = xalloc(CELLS_MAX * sizeof *cells->at)};
    (void)sweep_grid_visit(report->sweep.source, cell_take, cells); /* a file that is no longer read has no grid */
    uint32_t factors = parameters_of(cells, keys);
    struct grid_row *rows = xalloc((cells->len + (size_t)1) * sizeof *rows);
    for (uint32_t i = 0; i < cells->len; i++)
        if (!isnan(cells->at[i].row.accuracy))
            rows[judged_len++] = cells->at[i].row;
    if (factors > 0 && fit_grid(rows, judged_len, factors, &law)) {
        cells_rows(cells, &law, table);
        for (uint32_t f = 0; f < factors; f++) {
            report_table_text(slopes, cells->names[keys[f]]);
            report_table_number(slopes, law.slope[f]);
        }
    }
    for (uint32_t i = 0; i < cells->len; i++)
        free(cells->at[i].parameters);
    for (uint32_t k = 0; k < cells->keys; k++)
        free(cells->names[k]);
    free(rows);
    free(cells->at);
    free(cells);
}

static void count_grids(void *arg, const struct grid_arm *made)
{
    uint32_t *grids = arg;
    *grids = made->grid + 1;
}

static void grids_add(struct report *report)
{
    uint32_t grids = 0;
    struct report_table *table = report_table_add(
        report, "grid", "arms of the grid by cost, and the best within a budget as the fit has it", grid_columns);
    struct report_table *slopes =
        report_table_add(report, "grid_slopes", "logit(right) rises with ln(parameter) by", slope_columns);
    (void)sweep_grid_visit(report->sweep.source, count_grids, &grids);
    for (uint32_t g = 0; g < grids; g++)
        grid_add(report, g, table, slopes);
}

void report_arms_fill(const struct core *core, struct report *report)
{
    flips_add(core, report);
    effort_add(core, report);
    money_add(report);
    grids_add(report);
}
