/* fit_strategies.c - see fit_strategies.h. */
#include "broker/fit_strategies.h"
#include "broker/arm_text.h"
#include "common/json.h"
#include "common/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- what is known ---- */

/* Of one prompt: how easy it looks, and of each arm whether it is right and what it took. */
struct known {
    uint32_t prompt, arms;
    double value;
    struct strategies_outlook *at; /* of each arm; tokens: the pilot among them */
};

struct table {
    struct known *rows;
    uint32_t len;
    uint32_t ids[LIMIT_ARMS], arms; /* candidates */
    double pilot_tokens;
};

/* As reports and budgets count: what a node below the prompt read again is charged to nobody. */
static double tokens_of(const struct core *core, const struct key *key)
{
    struct rollout_info rollout;
    if (!core_rollout(core, key, &rollout) || rollout.state != ROLLOUT_DONE)
        return 0;
    return (rollout.parent == NO_ORDINAL ? (double)rollout.tokens_in : 0) + rollout.tokens_out;
}

/* How easy the pilot finds a prompt: the share that passes; negative: nothing of it is judged. */
static double pilot_value(const struct core *core, uint32_t sweep, uint32_t pool, uint32_t verifier, uint32_t pilot,
                          uint32_t prompt)
{
    uint32_t reach = 0, passes = 0, judged = 0;
    for (uint32_t i = 0; i < core_sweep(core, sweep).arms; i++) {
        uint32_t one = core_arm_reach(core, core_sweep_arm(core, sweep, i), pool, prompt);
        reach = one > reach ? one : reach;
    }
    for (uint32_t k = 0; k < reach && k < pilot; k++) {
        struct verdict verdict;
        if (!core_verdict(core, &(struct key){TASK_GENERATE, pool, prompt, NO_ID, k, NO_ID}, verifier, &verdict) ||
            !outcome_decides(verdict.outcome))
            continue;
        judged++;
        passes += verdict.outcome == OUTCOME_PASS;
    }
    return judged > 0 ? (double)passes / judged : -1;
}

static double pilot_tokens(const struct core *core, const struct fit_strategies_request *request, uint32_t prompt)
{
    double sum = 0;
    for (uint32_t k = 0; k < request->pilot; k++)
        sum += tokens_of(core, &(struct key){TASK_GENERATE, request->pool, prompt, NO_ID, k, NO_ID});
    return sum;
}

static bool is_right(const struct core *core, const struct key *key, uint32_t truth, bool *known)
{
    struct verdict verdict;
    *known = core_verdict(core, key, truth, &verdict) && outcome_decides(verdict.outcome);
    return *known && verdict.outcome == OUTCOME_PASS;
}

/* Right is the winner, or for a selector of coverage any rollout. An arm that abstains is wrong. */
static bool outcome_of(const struct core *core, const struct arm_info *arm, uint32_t prompt, uint32_t truth,
                       bool *right)
{
    struct cell_info cell = core_cell(core, arm->id, prompt);
    struct key key;
    bool known = true;
    *right = false;
    if (cell.decided == DECIDED_NOT)
        return false;
    if (!arm->selector->covers)
        return cell.winner == NO_ORDINAL || (core_delivered(core, arm->id, prompt, cell.winner, &key) &&
                                             (*right = is_right(core, &key, truth, &known), known));
    for (uint32_t k = 0; k < cell.stop && !*right; k++)
        *right = core_delivered(core, arm->id, prompt, k, &key) && is_right(core, &key, truth, &known);
    return true;
}

/* An arm on the pilot's pool has the pilot for nothing; any other pays it too. */
static double cost_of(const struct core *core, const struct arm_info *arm, uint32_t prompt, uint32_t pool, double pilot)
{
    double sum = 0, shared = 0;
    struct key key;
    for (uint32_t k = 0; arm->trees == 0 && k < core_cell(core, arm->id, prompt).stop; k++)
        if (core_delivered(core, arm->id, prompt, k, &key)) {
            sum += tokens_of(core, &key);
            shared += key.owner == pool ? tokens_of(core, &key) : 0;
        }
    for (uint32_t t = 0; t < arm->trees; t++)
        for (uint32_t n = 0; n < core_tree_nodes(core, arm->id, prompt, t); n++)
            sum += tokens_of(core, &(struct key){TASK_GENERATE, arm->id, prompt, t, n, NO_ID});
    return sum + pilot - fmin(pilot, shared);
}

/* What a bin may have, and how many there are: no parts of an arm of bins, which know some prompts only, and no arms whose
 * decisions hang on a budget or a prior of their own. */
static uint32_t candidates_of(const struct core *core, uint32_t sweep, uint32_t ids[LIMIT_ARMS])
{
    uint32_t len = 0;
    for (uint32_t i = 0; i < core_sweep(core, sweep).arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, sweep, i));
        if (arm.of[0] == '\0' && arm_text_can(core, arm.id))
            ids[len++] = arm.id;
    }
    return len;
}

static bool know(const struct core *core, const struct fit_strategies_request *request, struct known *row,
                 const uint32_t *ids, double *pilot)
{
    row->value = pilot_value(core, request->sweep, request->pool, request->verifier, request->pilot, row->prompt);
    *pilot = pilot_tokens(core, request, row->prompt);
    for (uint32_t i = 0; i < row->arms; i++) {
        struct arm_info arm = core_arm(core, ids[i]);
        bool right;
        if (!outcome_of(core, &arm, row->prompt, request->truth, &right))
            return false;
        row->at[i] = (struct strategies_outlook){right, cost_of(core, &arm, row->prompt, request->pool, *pilot)};
    }
    return row->value >= 0;
}

static struct table table_new(const struct core *core, const struct fit_strategies_request *request)
{
    struct sweep_info sweep = core_sweep(core, request->sweep);
    struct table table = {.rows = xalloc(sweep.prompts * sizeof *table.rows)};
    table.arms = candidates_of(core, request->sweep, table.ids);
    for (uint32_t p = 0; p < sweep.prompts; p++) {
        struct known row = {p, table.arms, 0, xalloc((table.arms + (size_t)1) * sizeof *row.at)};
        double pilot;
        if (table.arms == 0 || !know(core, request, &row, table.ids, &pilot)) {
            free(row.at);
            continue;
        }
        table.rows[table.len++] = row;
        table.pilot_tokens += pilot;
    }
    table.pilot_tokens /= table.len > 0 ? table.len : 1;
    return table;
}

static void table_clear(struct table *table)
{
    for (uint32_t i = 0; i < table->len; i++)
        free(table->rows[i].at);
    free(table->rows);
}

/* ---- choice ---- */

/* Rows of one fold (held), or of all others; folds 0: all. */
struct rows {
    const struct table *table;
    uint32_t fold, folds;
    bool held;
};

static bool within(const struct rows *rows, uint32_t i)
{
    return rows->folds == 0 || (i % rows->folds == rows->fold) == rows->held;
}

static void edges_of(const struct rows *rows, double edges[BINS - 1])
{
    struct bin_case *cases = xalloc(rows->table->len * sizeof *cases);
    size_t len = 0;
    for (uint32_t i = 0; i < rows->table->len; i++)
        if (within(rows, i))
            cases[len++] = (struct bin_case){.weight = 1, .value = rows->table->rows[i].value};
    bins_edges(cases, len, edges);
    free(cases);
}

/* Sums over the rows of each bin: prompts, and of each arm. */
struct sums {
    uint32_t prompts[BINS], all, arms;
    struct strategies_outlook *at; /* BINS x arms */
};

static struct sums sums_new(const struct rows *rows, const double edges[BINS - 1])
{
    struct sums sums = {.arms = rows->table->rows[0].arms};
    sums.at = xalloc(BINS * sums.arms * sizeof *sums.at);
    for (uint32_t i = 0; i < rows->table->len; i++) {
        const struct known *row = &rows->table->rows[i];
        int bin = bins_of(edges, row->value);
        if (!within(rows, i))
            continue;
        sums.prompts[bin]++;
        sums.all++;
        for (uint32_t a = 0; a < sums.arms; a++) {
            sums.at[(uint32_t)bin * sums.arms + a].right += row->at[a].right;
            sums.at[(uint32_t)bin * sums.arms + a].tokens += row->at[a].tokens;
        }
    }
    return sums;
}

/* The arm of each bin that is worth most at this price of a token; ties go to the cheaper one. A bin that nothing fell
 * into is as the next harder one. */
static void choose(const struct sums *sums, double price, uint32_t arms[BINS])
{
    for (int q = 0; q < BINS; q++) {
        const struct strategies_outlook *at = &sums->at[(uint32_t)q * sums->arms];
        arms[q] = sums->prompts[q] == 0 && q > 0 ? arms[q - 1] : 0;
        for (uint32_t a = 1; sums->prompts[q] > 0 && a < sums->arms; a++) {
            double more = at[a].right - at[arms[q]].right - price * (at[a].tokens - at[arms[q]].tokens);
            if (more > 0 || (!(more < 0) && at[a].tokens < at[arms[q]].tokens))
                arms[q] = a;
        }
    }
}

static struct strategies_outlook outlook_of(const struct sums *sums, const uint32_t arms[BINS])
{
    struct strategies_outlook sum = {0, 0};
    for (int q = 0; q < BINS; q++) {
        sum.right += sums->at[(uint32_t)q * sums->arms + arms[q]].right / sums->all;
        sum.tokens += sums->at[(uint32_t)q * sums->arms + arms[q]].tokens / sums->all;
    }
    return sum;
}

/* The lowest price at which the mean stays within the budget; where even the cheapest arms do not, those. */
static void choose_within(const struct sums *sums, double budget, uint32_t arms[BINS])
{
    double low = 0, high = 1; /* right answers a token */
    choose(sums, 0, arms);
    if (outlook_of(sums, arms).tokens <= budget)
        return;
    for (int i = 0; i < 100; i++) {
        double middle = i == 0 ? high : (low + high) / 2;
        choose(sums, middle, arms);
        if (outlook_of(sums, arms).tokens <= budget)
            high = middle;
        else
            low = middle;
    }
    choose(sums, high, arms);
}

static struct strategies_outlook single_outlook(const struct sums *sums, uint32_t arm)
{
    const uint32_t arms[BINS] = {arm, arm, arm, arm, arm};
    return outlook_of(sums, arms);
}

static uint32_t best_single(const struct sums *sums, double budget)
{
    uint32_t best = NO_ID;
    for (uint32_t a = 0; a < sums->arms; a++) {
        struct strategies_outlook one = single_outlook(sums, a);
        if (one.tokens <= budget && (best == NO_ID || one.right > single_outlook(sums, best).right))
            best = a;
    }
    return best;
}

/* ---- fit ---- */

static void add(struct strategies_outlook *to, const struct strategies_outlook *one, double weight)
{
    to->right += weight * one->right;
    to->tokens += weight * one->tokens;
}

static void hold_out(const struct table *table, const struct fit_strategies_request *request, uint32_t fold,
                     struct fit_strategies *fit)
{
    const struct rows others = {table, fold, request->folds, false}, held = {table, fold, request->folds, true};
    double edges[BINS - 1];
    uint32_t arms[BINS];
    edges_of(&others, edges);
    struct sums seen = sums_new(&others, edges), unseen = sums_new(&held, edges);
    choose_within(&seen, request->budget, arms);
    uint32_t single = best_single(&seen, request->budget);
    double weight = (double)unseen.all / table->len;
    struct strategies_outlook all = outlook_of(&unseen, arms);
    add(&fit->held, &all, weight);
    if (single != NO_ID) {
        all = single_outlook(&unseen, single);
        add(&fit->single_held, &all, weight);
    }
    free(seen.at);
    free(unseen.at);
}

static void fit_all(const struct table *table, const struct fit_strategies_request *request, struct fit_strategies *fit)
{
    const struct rows all = {.table = table};
    edges_of(&all, fit->edges);
    struct sums sums = sums_new(&all, fit->edges);
    choose_within(&sums, request->budget, fit->arms);
    fit->seen = outlook_of(&sums, fit->arms);
    fit->single = best_single(&sums, request->budget);
    if (fit->single != NO_ID)
        fit->single_seen = single_outlook(&sums, fit->single);
    for (int q = 0; q < BINS; q++) {
        double len = sums.prompts[q] > 0 ? sums.prompts[q] : 1;
        const struct strategies_outlook *at = &sums.at[(uint32_t)q * sums.arms + fit->arms[q]];
        fit->bins[q] = (struct strategies_outlook){at->right / len, at->tokens / len};
        fit->shares[q] = (double)sums.prompts[q] / sums.all;
        fit->arms[q] = table->ids[fit->arms[q]];
    }
    fit->single = fit->single != NO_ID ? table->ids[fit->single] : NO_ID;
    free(sums.at);
}

bool fit_strategies(const struct core *core, const struct fit_strategies_request *request, struct fit_strategies *fit)
{
    struct table table = table_new(core, request);
    *fit = (struct fit_strategies){.prompts = table.len, .pilot_tokens = table.pilot_tokens};
    bool enough = table.len >= BINS && table.len >= 2 * request->folds;
    if (enough) {
        fit_all(&table, request, fit);
        for (uint32_t fold = 0; fold < request->folds; fold++)
            hold_out(&table, request, fold, fit);
    }
    table_clear(&table);
    return enough;
}

/* ---- output ---- */

static void put_arm(const struct core *core, uint32_t id, struct buf *out)
{
    struct arm_info arm = core_arm(core, id);
    buf_printf(out, "%s n=%u", arm.name, arm.n);
}

static void put_outlook(const char *name, const struct strategies_outlook *all, const struct strategies_outlook *single,
                        bool any, struct buf *out)
{
    buf_printf(out, "%-9s %.4f right with %.0f tokens a prompt", name, all->right, all->tokens);
    if (any)
        buf_printf(out, "; the best arm for all: %.4f with %.0f\n", single->right, single->tokens);
    else
        buf_puts(out, "; no arm for all prompts is within the budget\n");
}

/* The arm to paste; bins behind each other that have one arm are one. Nothing when they all have. */
static void put_section(const struct core *core, const struct fit_strategies *fit,
                        const struct fit_strategies_request *request, struct buf *out)
{
    const struct arm_context context = {request->pool, request->verifier};
    struct buf table = {0};
    uint32_t bins = 0;
    for (int q = 0; q < BINS; q++) {
        bool last = q == BINS - 1;
        if (!last && fit->arms[q] == fit->arms[q + 1])
            continue; /* so is an empty bin, as it is like the harder one: what is left rises */
        buf_puts(&table, "          - {");
        if (!last)
            buf_printf(&table, "up_to: %.6g, ", fit->edges[q]);
        arm_text(core, fit->arms[q], &context, &table);
        buf_puts(&table, "}\n");
        bins++;
    }
    if (bins > 1)
        buf_printf(out,
                   "arms:\n  - name: adaptive\n    model: %s\n    verifier: %s\n    strategy:\n      bins:\n"
                   "        pilot: %u\n        table:\n%s",
                   core_model(core, core_pool(core, request->pool).model).name,
                   core_verifier(core, request->verifier).name, request->pilot, table.data);
    buf_clear(&table);
}

void fit_strategies_text(const struct core *core, const struct fit_strategies *fit,
                         const struct fit_strategies_request *request, struct buf *out)
{
    buf_printf(out, "%s: %u prompts, a pilot of %u rollouts, %.0f tokens a prompt\n\n",
               core_sweep(core, request->sweep).name, fit->prompts, request->pilot, fit->pilot_tokens);
    buf_puts(out, "bin  pilot that passes  prompts   right   tokens  arm\n");
    for (int q = 0; q < BINS; q++) {
        char edge[32] = "above";
        if (q < BINS - 1)
            snprintf(edge, sizeof edge, "up to %.4g", fit->edges[q]);
        buf_printf(out, "%-4d %-18s %5.1f %%", q + 1, edge, 100 * fit->shares[q]);
        buf_printf(out, "  %6.4f %8.0f  ", fit->bins[q].right, fit->bins[q].tokens);
        put_arm(core, fit->arms[q], out);
        buf_puts(out, "\n");
    }
    buf_puts(out, "\n");
    put_outlook("foretold", &fit->seen, &fit->single_seen, fit->single != NO_ID, out);
    if (request->folds > 0)
        put_outlook("held out", &fit->held, &fit->single_held, fit->single != NO_ID, out);
    if (fit->single != NO_ID) {
        buf_puts(out, "the best arm for all is ");
        put_arm(core, fit->single, out);
        buf_puts(out, "\n");
    }
    struct buf section = {0};
    put_section(core, fit, request, &section);
    if (section.len > 0)
        buf_printf(out, "\n# to paste:\n%s", section.data);
    else
        buf_puts(out, "\nall bins have one arm: there is nothing to choose by difficulty\n");
    buf_clear(&section);
}

static void json_outlook(const char *key, const struct strategies_outlook *outlook, struct buf *out)
{
    json_key(out, key);
    json_begin(out, '{');
    json_key(out, "right");
    json_f64(out, outlook->right);
    json_key(out, "tokens_per_prompt");
    json_f64(out, outlook->tokens);
    json_end(out, '}');
}

static void json_arm(const struct core *core, uint32_t id, struct buf *out)
{
    struct buf name = {0};
    put_arm(core, id, &name);
    json_key(out, "arm");
    json_text(out, buf_slice(&name));
    buf_clear(&name);
}

void fit_strategies_json(const struct core *core, const struct fit_strategies *fit,
                         const struct fit_strategies_request *request, struct buf *out)
{
    json_begin(out, '{');
    json_key(out, "prompts");
    json_u64(out, fit->prompts);
    json_key(out, "pilot");
    json_u64(out, request->pilot);
    json_key(out, "bins");
    json_begin(out, '[');
    for (int q = 0; q < BINS; q++) {
        json_begin(out, '{');
        json_key(out, "up_to");
        json_f64(out, q < BINS - 1 ? fit->edges[q] : NAN);
        json_key(out, "share");
        json_f64(out, fit->shares[q]);
        json_arm(core, fit->arms[q], out);
        json_outlook("outlook", &fit->bins[q], out);
        json_end(out, '}');
    }
    json_end(out, ']');
    json_outlook("foretold", &fit->seen, out);
    if (request->folds > 0)
        json_outlook("held_out", &fit->held, out);
    if (fit->single != NO_ID) {
        json_key(out, "single");
        json_begin(out, '{');
        json_arm(core, fit->single, out);
        json_outlook("foretold", &fit->single_seen, out);
        if (request->folds > 0)
            json_outlook("held_out", &fit->single_held, out);
        json_end(out, '}');
    }
    struct buf section = {0};
    put_section(core, fit, request, &section);
    json_key(out, "section"); /* null: all bins have one arm */
    if (section.len > 0)
        json_text(out, buf_slice(&section));
    else
        json_none(out);
    buf_clear(&section);
    json_end(out, '}');
    buf_puts(out, "\n");
}
