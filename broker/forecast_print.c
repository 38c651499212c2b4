/* forecast_print.c - a forecast as text and as JSON; see forecast.h. */
#include "broker/forecast.h"

#include "broker/core/text_table.h"
#include "common/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const unit_names[] = {[UNIT_ROLLOUTS] = "rollouts", [UNIT_TOKENS] = "tokens", [UNIT_COST] = "cost"};

static double cost_of(const struct forecast *f, uint32_t c)
{
    return f->candidates[c].cost[f->options.unit].mean;
}

/* -- which candidates are worth a line ------------------------------------------------------------------------------ */

/* Candidates that no cheaper one beats, by rising cost; how many. */
static uint32_t frontier(const struct forecast *f, uint32_t *order)
{
    uint32_t len = 0;
    double reached = -1;
    for (;;) {
        uint32_t next = NO_CANDIDATE;
        for (uint32_t c = 0; c < f->len; c++) {
            double accuracy = f->candidates[c].accuracy.mean;
            if (accuracy > reached &&
                (next == NO_CANDIDATE || cost_of(f, c) < cost_of(f, next) ||
                 (cost_of(f, c) <= cost_of(f, next) && accuracy > f->candidates[next].accuracy.mean)))
                next = c;
        }
        if (next == NO_CANDIDATE)
            return len;
        order[len++] = next;
        reached = f->candidates[next].accuracy.mean;
    }
}

/* Candidates by how often a world chose them, without the best; how many were chosen at all. */
static uint32_t others(const struct forecast *f, uint32_t *order)
{
    uint32_t len = 0;
    for (uint32_t c = 0; c < f->len; c++) {
        if (c == f->best || f->candidates[c].chosen == 0)
            continue;
        uint32_t i = len++;
        for (; i > 0 && f->candidates[order[i - 1]].chosen < f->candidates[c].chosen; i--)
            order[i] = order[i - 1];
        order[i] = c;
    }
    return len;
}

/* -- text ----------------------------------------------------------------------------------------------------------- */

static void pilot_text(const struct forecast *f, struct buf *out)
{
    uint64_t all = 0, none = 0, rollouts = 0;
    for (uint32_t p = 0; p < f->pilot->len; p++) {
        const struct pilot_prompt *prompt = &f->pilot->prompts[p];
        all += prompt->n > 0 && prompt->right == prompt->n;
        none += prompt->right == 0;
        rollouts += prompt->n;
    }
    double prompts = f->pilot->len;
    const char *by = f->options.right_by;
    buf_printf(out, "pilot: %llu rollouts of %u prompts; ", (unsigned long long)rollouts, f->pilot->len);
    if (by[0] != '\0')
        buf_printf(out, "by '%s', ", by);
    buf_printf(out, "all right %.3f, some %.3f, none %.3f\n", (double)all / prompts, 1 - (double)(all + none) / prompts,
               (double)none / prompts);
    buf_printf(out, "laws: success rates Beta(%.3f, %.3f)", f->fit.law.alpha, f->fit.law.beta);
    if (f->fit.law.zero > 0)
        buf_printf(out, ", %.3f of the prompts never right", f->fit.law.zero);
    buf_printf(out, "; wrong answers Dirichlet(%.3f) over %u; %.3f of the wrong rollouts give none\n",
               f->fit.wrong.concentration, f->fit.wrong.classes, f->fit.blank);
    buf_printf(out, "forecast: %u %s prompts, %u worlds, at most %u rollouts of a prompt (%d times the pilot's)\n\n",
               f->prompts, f->options.prompts > 0 ? "new" : "of the pilot's", f->options.worlds, f->n_most,
               FORECAST_DECADE);
}

/* Head of a column of costs that no other column shows; NULL: none. */
static const char *more_costs(const struct forecast *f)
{
    if (f->options.unit == UNIT_COST)
        return "cost";
    return f->options.unit == UNIT_ROLLOUTS && f->options.verifiers_len > 0 ? "with judging" : NULL;
}

static void row_text(const struct forecast *f, uint32_t c, struct text_table *table)
{
    const struct forecast_candidate *candidate = &f->candidates[c];
    text_cellf(table, "%s%s", candidate->arm->name, c == f->best ? " <-" : "");
    text_cellf(table, "%.4f", candidate->accuracy.mean);
    text_cellf(table, "%.4f-%.4f", candidate->accuracy.low, candidate->accuracy.high);
    text_cellf(table, "%.2f", candidate->rollouts.mean);
    text_cellf(table, "%.2f-%.2f", candidate->rollouts.low, candidate->rollouts.high);
    text_cellf(table, "%.0f", candidate->cost[UNIT_TOKENS].mean);
    if (more_costs(f) != NULL)
        text_cellf(table, "%.6g", candidate->cost[f->options.unit].mean);
}

static void table_text(const struct forecast *f, struct buf *out)
{
    struct text_table table;
    uint32_t *order = xalloc((f->len + (size_t)2) * sizeof *order), len = frontier(f, order);
    bool shown = f->best == NO_CANDIDATE;
    text_table_init(&table, more_costs(f) == NULL ? "lrrrrr" : "lrrrrrr");
    text_heads(&table, "arm|right|95%|rollouts|95%|tokens");
    if (more_costs(f) != NULL)
        text_cell(&table, more_costs(f));
    for (uint32_t i = 0; i < len; i++) {
        row_text(f, order[i], &table);
        shown = shown || order[i] == f->best;
    }
    if (!shown)
        row_text(f, f->best, &table);
    text_table_print(&table, 2, out);
    text_table_clear(&table);
    free(order);
    buf_puts(out, "arms that no cheaper one beats, of a prompt\n\n");
}

static void wish_text(const struct forecast *f, struct buf *out)
{
    if (!isnan(f->options.target))
        buf_printf(out, "%.4g right", f->options.target);
    if (!isnan(f->options.target) && !isnan(f->options.budget))
        buf_puts(out, " and ");
    if (!isnan(f->options.budget))
        buf_printf(out, "a budget of %.6g %s", f->options.budget, unit_names[f->options.unit]);
}

/* The section asks for a verifier that the pilot's sweep does not have: the judge with several judgements. */
static void judgements_text(const char *arm, struct buf *out)
{
    const char *name = strstr(arm, "verifier: "), *end = name == NULL ? NULL : strpbrk(name += 10, ",}");
    const char *votes = end == NULL ? NULL : memrchr(name, 'x', (size_t)(end - name));
    if (votes == NULL || votes - name < 2 || votes[-1] != '-' || votes + 2 != end || strchr("24", votes[1]) == NULL)
        return;
    buf_printf(out,
               "# below `verifiers`: the entry of %.*s once more, as %.*s, with k: %c (judgements of each rollout)\n",
               (int)(votes - 1 - name), name, (int)(end - name), name, votes[1]);
}

/* A budget in rollouts pays for judgements, too; what these take of it. */
static void judging_text(const struct forecast *f, const struct forecast_candidate *candidate, struct buf *out)
{
    double judged = candidate->cost[UNIT_ROLLOUTS].mean - candidate->rollouts.mean;
    if (f->options.unit == UNIT_ROLLOUTS && judged > 1e-9)
        buf_printf(out, "  of these %.6g are generated, and judgements cost as much as %.6g\n",
                   candidate->rollouts.mean * f->prompts, judged * f->prompts);
}

static void advice_text(const struct forecast *f, struct buf *out)
{
    if (f->best == NO_CANDIDATE) {
        const struct forecast_candidate *high = &f->candidates[f->highest];
        buf_puts(out, "advice: none. No arm meets ");
        wish_text(f, out);
        buf_printf(out, "; the most accurate is %s: %.4f (%.4f-%.4f) for %.6g %s of a prompt\n", high->arm->name,
                   high->accuracy.mean, high->accuracy.low, high->accuracy.high, high->cost[f->options.unit].mean,
                   unit_names[f->options.unit]);
        return;
    }
    const struct forecast_candidate *best = &f->candidates[f->best];
    const struct interval *cost = &best->cost[f->options.unit];
    buf_puts(out, "advice, for ");
    wish_text(f, out);
    buf_printf(out, ": %s\n  right: %.4f (%.4f-%.4f); %s of all prompts: %.6g (%.6g-%.6g)\n", best->arm->name,
               best->accuracy.mean, best->accuracy.low, best->accuracy.high, unit_names[f->options.unit],
               cost->mean * f->prompts, cost->low * f->prompts, cost->high * f->prompts);
    judging_text(f, best, out);
    buf_printf(out, "  kept in %.0f%% of the worlds\n\n", 100 * f->chance);
    judgements_text(best->text, out);
    buf_printf(out, "arms:\n  - %s\n\n", best->text);
}

static void half_text(const struct forecast *f, int half, const char *name, struct buf *out)
{
    if (f->halves[half] == NO_CANDIDATE)
        buf_printf(out, "  the %s half of the prompts alone: no arm meets it\n", name);
    else
        buf_printf(out, "  the %s half of the prompts alone: %s\n", name, f->candidates[f->halves[half]].arm->name);
}

/* How firm the advice is, and what it hangs on. */
static void doubts_text(const struct forecast *f, struct buf *out)
{
    enum { SHOWN = 3 };
    uint32_t *order = xalloc((f->len + (size_t)1) * sizeof *order), len = others(f, order);
    buf_puts(out, "what would change it:\n");
    if (f->best != NO_CANDIDATE)
        buf_printf(out, "  %u of %u worlds alone would choose the same", f->candidates[f->best].chosen,
                   f->options.worlds);
    else if (len > 0)
        buf_printf(out, "  of %u worlds some alone would choose", f->options.worlds);
    const char *first = f->best != NO_CANDIDATE ? "; else" : "";
    for (uint32_t i = 0; i < len && i < SHOWN; i++)
        buf_printf(out, "%s %s %u", i == 0 ? first : ",", f->candidates[order[i]].arm->name,
                   f->candidates[order[i]].chosen);
    if (f->best != NO_CANDIDATE || len > 0)
        buf_puts(out, "\n");
    half_text(f, 0, "harder", out);
    half_text(f, 1, "easier", out);
    free(order);
}

static void split_text(const struct forecast *f, uint32_t v, struct buf *out)
{
    const struct forecast_verifier *verifier = &f->options.verifiers[v];
    const struct forecast_split *split = &f->splits[v];
    buf_printf(
        out,
        "\nverifier %s: accepts %.3f of the right and %.3f of the wrong rollouts, equal wrong ones alike by %.2f\n"
        "  repeating until it accepts: never more than %.4f right; if a false answer costs as much as a right one "
        "gains, ",
        verifier->name, verifier->rates.true_pass, verifier->rates.false_pass, verifier->icc, split->ceiling);
    if (split->repeats == UINT32_MAX)
        buf_puts(out, "no number of repeats is too large\n");
    else
        buf_printf(out, "at most %u repeats\n", split->repeats);
    if (!split->known)
        return;
    if (isinf(split->crossover))
        buf_printf(out, "  solve or judge: up to a budget of %u rollouts of a prompt a plain vote is better\n",
                   f->n_most);
    else
        buf_printf(out, "  solve or judge: judging is no worse than a plain vote from a budget of %.0f on\n",
                   split->crossover);
    buf_printf(out, "  of a budget C, S = %.2f C^%.2f solutions, the rest judgements:", split->law.scale,
               split->law.exponent);
    for (double budget = 8; budget <= 64; budget *= 2) {
        struct split at = split_at(&split->law, budget);
        buf_printf(out, " C=%.0f: %u with %u%s", budget, at.solutions, at.votes, budget < 64 ? "," : "\n");
    }
    if (!isinf(split->crossover))
        buf_printf(
            out,
            "  arms: [{name: split, verifier: %s, allocate: {solve-verify: {budget: [8, 16, 32, 64], lambda: %.4g, "
            "scale: %.4g, crossover: %.0f}}}]  # for a verifier of kind judge\n",
            verifier->name, split->law.price, split->law.scale, split->crossover);
}

void forecast_text(const struct forecast *f, struct buf *out)
{
    pilot_text(f, out);
    table_text(f, out);
    advice_text(f, out);
    doubts_text(f, out);
    for (uint32_t v = 0; v < f->options.verifiers_len; v++)
        split_text(f, v, out);
}

/* -- JSON ----------------------------------------------------------------------------------------------------------- */

static void put_f64(struct buf *json, const char *key, double value)
{
    json_key(json, key);
    json_f64(json, value);
}

static void put_u64(struct buf *json, const char *key, uint64_t value)
{
    json_key(json, key);
    json_u64(json, value);
}

static void put_str(struct buf *json, const char *key, const char *value)
{
    json_key(json, key);
    json_str(json, value);
}

static void put_interval(struct buf *json, const char *key, const struct interval *interval)
{
    json_key(json, key);
    json_begin(json, '{');
    put_f64(json, "mean", interval->mean);
    put_f64(json, "low", interval->low);
    put_f64(json, "high", interval->high);
    json_end(json, '}');
}

static void put_candidate(const struct forecast *f, uint32_t c, struct buf *json)
{
    const struct forecast_candidate *candidate = &f->candidates[c];
    json_begin(json, '{');
    put_str(json, "arm", candidate->arm->name);
    put_str(json, "text", candidate->text);
    put_interval(json, "accuracy", &candidate->accuracy);
    put_interval(json, "rollouts", &candidate->rollouts);
    for (int unit = 0; unit < UNITS; unit++) {
        char key[32] = "cost_";
        strcat(key, unit == UNIT_COST ? "money" : unit_names[unit]);
        put_interval(json, key, &candidate->cost[unit]);
    }
    put_u64(json, "chosen", candidate->chosen);
    json_end(json, '}');
}

static void put_name(const struct forecast *f, const char *key, uint32_t c, struct buf *json)
{
    put_str(json, key, c == NO_CANDIDATE ? NULL : f->candidates[c].arm->name);
}

static void put_pilot(const struct forecast *f, struct buf *json)
{
    json_key(json, "pilot");
    json_begin(json, '{');
    put_str(json, "right_by", f->options.right_by[0] != '\0' ? f->options.right_by : NULL);
    put_u64(json, "prompts", f->pilot->len);
    put_f64(json, "rollouts_per_prompt", f->fit.mean);
    put_f64(json, "alpha", f->fit.law.alpha);
    put_f64(json, "beta", f->fit.law.beta);
    put_f64(json, "never", f->fit.law.zero);
    put_u64(json, "wrong_classes", f->fit.wrong.classes);
    put_f64(json, "wrong_concentration", f->fit.wrong.concentration);
    put_f64(json, "blank", f->fit.blank);
    put_f64(json, "tokens_in", f->fit.tokens_in);
    json_end(json, '}');
}

static void put_verifier(const struct forecast *f, uint32_t v, struct buf *json)
{
    const struct forecast_verifier *verifier = &f->options.verifiers[v];
    const struct forecast_split *split = &f->splits[v];
    json_begin(json, '{');
    put_str(json, "verifier", verifier->name);
    put_f64(json, "tpr", verifier->rates.true_pass);
    put_f64(json, "fpr", verifier->rates.false_pass);
    put_f64(json, "icc", verifier->icc);
    put_f64(json, "ceiling", split->ceiling);
    json_key(json, "repeats");
    if (split->repeats == UINT32_MAX)
        json_none(json);
    else
        json_u64(json, split->repeats);
    put_f64(json, "crossover", split->crossover);
    put_f64(json, "split_scale", split->known ? split->law.scale : NAN);
    put_f64(json, "split_exponent", split->known ? split->law.exponent : NAN);
    json_end(json, '}');
}

void forecast_json(const struct forecast *f, struct buf *json)
{
    json_begin(json, '{');
    put_pilot(f, json);
    put_u64(json, "prompts", f->prompts);
    put_u64(json, "worlds", f->options.worlds);
    put_u64(json, "n_most", f->n_most);
    put_f64(json, "target", f->options.target);
    put_f64(json, "budget", f->options.budget);
    put_str(json, "unit", unit_names[f->options.unit]);
    put_name(f, "advice", f->best, json);
    put_f64(json, "chance", f->chance);
    put_name(f, "most_accurate", f->highest, json);
    put_name(f, "harder_half", f->halves[0], json);
    put_name(f, "easier_half", f->halves[1], json);
    json_key(json, "candidates");
    json_begin(json, '[');
    for (uint32_t c = 0; c < f->len; c++)
        put_candidate(f, c, json);
    json_end(json, ']');
    json_key(json, "verifiers");
    json_begin(json, '[');
    for (uint32_t v = 0; v < f->options.verifiers_len; v++)
        put_verifier(f, v, json);
    json_end(json, ']');
    json_end(json, '}');
}
