/* report_print.c - a report as text, JSON and CSV. */
#include "broker/calibration.h"
#include "broker/core/text_table.h"
#include "broker/policy/kernel.h"
#include "broker/report_parts.h"

#include <math.h>

#include <math.h>
#include <string.h>

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* What was paid for and not kept. */
static struct spending waste_of(const struct sweep_info *sweep)
{
    return (struct spending){
        .rollouts = less(sweep->burned.rollouts, sweep->accepted.rollouts),
        .tokens = less(sweep->burned.tokens, sweep->accepted.tokens),
        .slot_ms = less(sweep->burned.slot_ms, sweep->accepted.slot_ms),
        .cost = less(sweep->burned.cost, sweep->accepted.cost),
    };
}

/* Share of the arms' rollouts that another arm, or an earlier sweep, had bought already. */
static double reused(const struct report *report)
{
    return share(less(report->charged, report->bought), report->charged);
}

/* The best of n independent rollouts: how far it strays from the model has a bound. */
static bool bounded(const struct report_curve *curve)
{
    return curve->arm.selector == &select_best && curve->arm.trees == 0 && !curve->arm.whole;
}

static const char *estimator(const struct report_curve *curve, const struct report_point *point)
{
    return curve->arm.whole              ? "what the prompt's bin gives"
           : point->unbiased             ? "pass@k, unbiased"
           : curve->arm.selector->covers ? "coverage of the prefix"
                                         : "winner of the prefix";
}

/* -- text ------------------------------------------------------------------------------------------- */

static const char *const waste_words[] = {
#define X(name, text) "- " text,
    WASTE_TABLE(X)
#undef X
};

static void print_spending(const char *word, const struct spending *spent, struct buf *out)
{
    buf_printf(out, "  %-11s %llu rollout%s, %llu tokens, %.1f slot seconds, cost %.6g\n", word,
               (unsigned long long)spent->rollouts, plural(spent->rollouts), (unsigned long long)spent->tokens,
               (double)spent->slot_ms / 1000, (double)spent->cost / 1e6);
}

static const char *const outcome_words[OUTCOMES] = {
#define X(name, value, text) [name] = text,
    OUTCOME_TABLE(X)
#undef X
};

/* Outcomes that are neither right nor wrong, and timeouts, which are wrong in a way that a larger limit may change. */
static void print_verdicts(const struct report_verdicts *verdicts, struct buf *out)
{
    static const enum outcome shown[] = {OUTCOME_UNKNOWN, OUTCOME_TIMEOUT, OUTCOME_ERROR};
    const char *comma = "";
    if (verdicts->outcomes[OUTCOME_UNKNOWN] + verdicts->outcomes[OUTCOME_TIMEOUT] + verdicts->outcomes[OUTCOME_ERROR] ==
        0)
        return;
    buf_puts(out, "  verdicts of ");
    text_plain(slice_of(verdicts->verifier), out);
    buf_puts(out, ": ");
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        uint64_t count = verdicts->outcomes[shown[i]];
        if (count == 0)
            continue;
        buf_printf(out, "%s%llu %s", comma, (unsigned long long)count, outcome_words[shown[i]]);
        comma = ", ";
    }
    buf_printf(out, " of %llu\n", (unsigned long long)verdicts->len);
}

/* Arms of one model need no column to say which. */
static bool several_models(const struct report_group *group, uint32_t curves)
{
    for (uint32_t c = 1; c < curves; c++)
        if (strcmp(group->curves[c].model, group->curves[0].model) != 0)
            return true;
    return false;
}

/* Has anything a price? */
static bool priced(const struct report *report)
{
    bool any = false;
    for (uint32_t c = 0; c < report->curves_len; c++)
        for (uint32_t i = 0; i < report->groups[0].curves[c].points_len; i++)
            any = any || report->groups[0].curves[c].points[i].cost > 0;
    return any;
}

static void print_head(const struct report *report, struct buf *out)
{
    const struct sweep_info *sweep = &report->sweep;
    struct spending waste = waste_of(sweep);
    buf_puts(out, "sweep ");
    text_plain(slice_of(sweep->name), out);
    buf_printf(out, ": %s", sweep_state_text(sweep->state));
    if (sweep->reason[0] != '\0') {
        buf_puts(out, ", ");
        text_plain(slice_of(sweep->reason), out);
    }
    buf_printf(out, "; %u prompt%s, %u arm%s", sweep->prompts, plural(sweep->prompts), report->curves_len,
               plural(report->curves_len));
    if (report->wall_s >= 0)
        buf_printf(out, "; %.1f s in this run", report->wall_s);
    if (report->curves_len > 0 && !several_models(&report->groups[0], report->curves_len)) {
        buf_puts(out, "; model ");
        text_plain(slice_of(report->groups[0].curves[0].model), out);
    }
    buf_puts(out, "\n");
    if (sweep->decided < sweep->cells && sweep->state == SWEEP_DONE && sweep->reason[0] != '\0') {
        buf_printf(out, "  %llu of %llu prompts of arms are undecided: a larger ",
                   (unsigned long long)(sweep->cells - sweep->decided), (unsigned long long)sweep->cells);
        text_plain(slice_of(sweep->reason), out);
        buf_puts(out, " and the same command go on\n");
    }
    if (sweep->decided < sweep->cells && report->truth != NULL)
        buf_puts(out, "  accuracy is biased until all are decided: easy prompts tend to be decided first\n");
    print_spending("kept", &sweep->accepted, out);
    print_spending("waste", &waste, out);
    for (int w = 0; w < WASTES; w++)
        if (sweep->waste[w].rollouts + sweep->waste[w].tokens + sweep->waste[w].slot_ms > 0)
            print_spending(waste_words[w], &sweep->waste[w], out);
    if (sweep->waste[WASTE_LOST].slot_ms > 0)
        buf_puts(out, "              (an attempt whose agent died counts as all that it had reserved)\n");
    if (sweep->failed > 0)
        buf_printf(out, "  %llu task%s given up for good: %s no answer and no vote\n",
                   (unsigned long long)sweep->failed, plural(sweep->failed),
                   sweep->failed == 1 ? "it has" : "they have");
    for (uint32_t i = 0; i < report->verdicts_len; i++)
        print_verdicts(&report->verdicts[i], out);
    cached_text(sweep->read, sweep->cached, out);
    killed_text(&report->killed, out);
    if (report->charged > 0)
        buf_printf(out, "  arms used %llu rollouts, %llu were bought: each was bought once, %.0f%% reused\n",
                   (unsigned long long)report->charged, (unsigned long long)report->bought, 100 * reused(report));
    if (report->charged > report->bought)
        buf_puts(out, "              (N=8 reused those of N=4; arms on one model share theirs)\n");
    if (report->truth == NULL)
        buf_printf(out, "  no accuracy: it needs %s; nothing is generated again for it\n",
                   report->truth_wanted != NULL ? report->truth_wanted : "'truth: VERIFIER' in the sweep file");
}

static void cell_share(struct text_table *table, double value)
{
    if (isnan(value))
        text_cell(table, "-");
    else
        text_cellf(table, "%.1f%%", 100 * value);
}

static void print_point(const struct report_curve *curve, uint32_t i, char letter, bool models, bool costs,
                        struct text_table *table)
{
    const struct report_point *point = &curve->points[i];
    text_cellf(table, "%c", letter);
    if (i == 0 && curve->sweep != NULL)
        text_cellf(table, "%s:%s", curve->sweep, curve->arm.name);
    else
        text_cell(table, i == 0 ? curve->arm.name : "");
    if (models)
        text_cell(table, i == 0 ? curve->model : "");
    text_cellf(table, "%u", point->n);
    if (isnan(point->accuracy)) {
        text_cell(table, "-");
        text_cell(table, "-");
    } else {
        text_cellf(table, "%.3f", point->accuracy);
        text_cellf(table, "%.3f-%.3f", point->low, point->high);
    }
    double used = share(point->rollouts, point->prompts);
    text_cellf(table, isnan(used) ? "-" : "%.2f", used);
    text_cellf(table, "%llu", (unsigned long long)point->tokens);
    text_cellf(table, "%.1f", (double)point->slot_ms / 1000);
    if (costs)
        text_cellf(table, "%.4g", (double)point->cost / 1e6);
    cell_share(table, share(point->truncated, point->rollouts));
}

static double right_of_answered(const struct report_point *point)
{
    return point->answered > 0 ? point->accuracy * point->judged / point->answered : NAN;
}

/* How an arm answers, at its largest N. */
static void print_answered(const struct report_curve *curve, char letter, struct buf *out)
{
    const struct report_point *last = curve->points_len > 0 ? &curve->points[curve->points_len - 1] : NULL;
    if (curve->arm.answering.top > 1)
        buf_printf(out, "  %c: submits up to %u answers, and is right when any of them is\n", letter,
                   curve->arm.answering.top);
    if (last == NULL || last->judged == 0 || (last->answered == last->judged && !curve->arm.answering.abstains))
        return;
    buf_printf(out, "  %c: abstains on %u of %u prompt%s, which count as not right", letter,
               last->judged - last->answered, last->judged, plural(last->judged));
    if (last->answered > 0)
        buf_printf(out, "; %.3f of its answers are right", right_of_answered(last));
    buf_puts(out, "\n");
}

static const char *const by_words[] = {
    [BY_PASSES] = "share of passes", [BY_SCORE] = "mean score", [BY_AGREEMENT] = "agreement", [BY_PRIOR] = "prior"};

/* An arm of bins: which prompts had which arm. */
static void print_bins(const struct report_curve *curve, char letter, struct buf *out)
{
    for (uint32_t i = 0; i < curve->bins_len; i++) {
        const struct report_bin *bin = &curve->bins[i];
        buf_printf(out, "  %c: bin %s, %s ", letter, bin->arm.name, by_words[bin->arm.by]);
        if (isfinite(bin->arm.up_to))
            buf_printf(out, "up to %.4g", bin->arm.up_to);
        else
            buf_printf(out, "above %.4g", bin->arm.above);
        buf_printf(out, ": %s, n %u; %u prompt%s", bin->arm.strategy->name, bin->arm.n, bin->prompts,
                   plural(bin->prompts));
        if (bin->prompts > 0)
            buf_printf(out, ", %.2f rollouts each", share(bin->rollouts, bin->prompts));
        if (bin->judged > 0)
            buf_printf(out, ", %.3f right", bin->right / bin->judged);
        buf_puts(out, "\n");
    }
}

/* What a reader must know before comparing this arm with another. */
static void print_notes(const struct report_curve *curve, char letter, bool truth, struct buf *out)
{
    uint32_t undecided = 0, total = 0, unknown = 0, pending = 0, exhausted = 0;
    double raced = 0; /* of the largest N */
    for (uint32_t i = 0; i < curve->points_len; i++) {
        const struct report_point *point = &curve->points[i];
        if (point->undecided >= undecided) {
            undecided = point->undecided;
            total = point->undecided + point->prompts;
        }
        unknown = point->unknown > unknown ? point->unknown : unknown;
        raced = point->raced > 0 ? share(point->raced, point->rollouts) : raced;
        pending = point->pending > pending ? point->pending : pending;
        exhausted = point->exhausted > exhausted ? point->exhausted : exhausted;
    }
    if (undecided > 0)
        buf_printf(out, "  %c: partial: %u of %u prompt%s undecided, the rest is shown\n", letter, undecided, total,
                   plural(total));
    if (truth && unknown > 0)
        buf_printf(out, "  %c: %u prompt%s left out: the truth of the winner is unknown\n", letter, unknown,
                   plural(unknown));
    if (truth && pending > 0)
        buf_printf(out, "  %c: %u prompt%s left out: the truth of the winner is not there yet\n", letter, pending,
                   plural(pending));
    if (exhausted > 0)
        buf_printf(out, "  %c: the recorded pool is exhausted: %u prompt%s had fewer than %u rollouts\n", letter,
                   exhausted, plural(exhausted), curve->arm.n);
    print_bins(curve, letter, out);
    if (truth)
        print_answered(curve, letter, out);
    if (raced > 0)
        buf_printf(out, "  %c: %.1f%% of its rollouts had two live attempts, the first result counts\n", letter,
                   100 * raced);
    if (bounded(curve))
        buf_printf(out, "  %c: the best of %u strays at most %.2f nats from the model's own distribution\n", letter,
                   curve->arm.n, best_of_n_divergence(curve->arm.n));
    if (curve->arm.price > 0)
        buf_printf(out, "  %c: the price of one more rollout, which follows its budget, was %.3g last\n", letter,
                   curve->arm.price);
    if (curve->arm.oracle)
        buf_printf(out, "  %c: oracle: it selects with the truth itself\n", letter);
    if (truth && curve->points_len > 0 && curve->points[0].unbiased)
        buf_printf(out, "  %c: pass@k, unbiased: from all delivered rollouts\n", letter);
    else if (truth && curve->arm.selector->covers)
        buf_printf(out, "  %c: coverage: right when any rollout that it used is\n", letter);
}

static void print_group(const struct report *report, const struct report_group *group, struct report_page page,
                        struct buf *out)
{
    static const char *const heads[] = {"",     "arm",    "model",  "N",    "right", "95%",
                                        "used", "tokens", "slot s", "cost", "cut"};
    bool models = several_models(group, report->curves_len), costs = priced(report);
    struct text_table table;
    static const char *const aligns[2] = {"lllrrrrrrr", "lllrrrrrrrr"}; /* without and with costs */
    buf_puts(out, "\n");
    text_plain(slice_of(group->name), out);
    buf_printf(out, " (%u prompt%s)\n", group->prompts, plural(group->prompts));
    text_table_init(&table, aligns[costs] + !models);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        if ((models || i != 2) && (costs || i != 9))
            text_cell(&table, heads[i]);
    for (uint32_t c = 0; c < report->curves_len; c++)
        for (uint32_t i = 0; i < group->curves[c].points_len; i++)
            print_point(&group->curves[c], i, report_letter(c), models, costs, &table);
    text_table_print(&table, 2, out);
    text_table_clear(&table);
    for (uint32_t c = 0; c < report->curves_len; c++)
        print_notes(&group->curves[c], report_letter(c), report->truth != NULL, out);
    report_plot(report, group, page, out);
}

void report_text(const struct report *report, struct report_page page, struct buf *out)
{
    print_head(report, out);
    if (report->curves_len == 0) {
        buf_puts(out, "  no arms\n");
        return;
    }
    for (uint32_t g = 0; g < report->groups_len; g++)
        print_group(report, &report->groups[g], page, out);
    for (uint32_t i = 0; i < report->verifiers_len; i++)
        calibration_line(report->verifiers[i], out);
    report_more_text(report, out);
    buf_puts(out, "\nright: share of prompts; used: rollouts per prompt; cut: ended by the token cap;\n"
                  "tokens, slot seconds and cost: as if the arm ran alone\n");
}

/* -- JSON ------------------------------------------------------------------------------------------- */

static void put_spending(struct buf *json, const char *key, const struct spending *spent)
{
    json_key(json, key);
    json_begin(json, '{');
    put_u64(json, "rollouts", spent->rollouts);
    put_u64(json, "tokens", spent->tokens);
    put_f64(json, "seconds", (double)spent->slot_ms / 1000);
    put_f64(json, "cost", (double)spent->cost / 1e6);
    json_end(json, '}');
}

static void put_point(struct buf *json, const struct report_curve *curve, const struct report_point *point)
{
    json_begin(json, '{');
    put_u64(json, "n", point->n);
    put_u64(json, "prompts", point->prompts);
    put_u64(json, "undecided", point->undecided);
    put_u64(json, "judged", point->judged);
    put_u64(json, "unknown", point->unknown);
    put_u64(json, "pending", point->pending);
    put_u64(json, "answered", point->answered);
    put_f64(json, "right_of_answered", right_of_answered(point));
    put_f64(json, "accuracy", point->accuracy);
    put_f64(json, "low", point->low);
    put_f64(json, "high", point->high);
    put_str(json, "estimator", estimator(curve, point));
    put_f64(json, "rollouts_per_prompt", share(point->rollouts, point->prompts));
    put_u64(json, "rollouts", point->rollouts);
    put_u64(json, "tokens", point->tokens);
    put_f64(json, "seconds", (double)point->slot_ms / 1000);
    put_f64(json, "cost", (double)point->cost / 1e6);
    if (bounded(curve))
        put_f64(json, "divergence", best_of_n_divergence(point->n));
    put_f64(json, "truncated", share(point->truncated, point->rollouts));
    put_f64(json, "raced", share(point->raced, point->rollouts));
    put_u64(json, "exhausted", point->exhausted);
    json_end(json, '}');
}

static void put_bins(struct buf *json, const struct report_curve *curve)
{
    json_key(json, "bins");
    json_begin(json, '[');
    for (uint32_t i = 0; i < curve->bins_len; i++) {
        const struct report_bin *bin = &curve->bins[i];
        json_begin(json, '{');
        put_str(json, "arm", bin->arm.name);
        put_f64(json, "up_to", isfinite(bin->arm.up_to) ? bin->arm.up_to : NAN);
        put_str(json, "strategy", bin->arm.strategy->name);
        put_u64(json, "n", bin->arm.n);
        put_u64(json, "prompts", bin->prompts);
        put_f64(json, "rollouts_per_prompt", share(bin->rollouts, bin->prompts));
        put_f64(json, "right", bin->judged > 0 ? bin->right / bin->judged : NAN);
        json_end(json, '}');
    }
    json_end(json, ']');
}

static void put_curve(struct buf *json, const struct report_curve *curve)
{
    json_begin(json, '{');
    put_str(json, "arm", curve->arm.name);
    if (curve->sweep != NULL)
        put_str(json, "sweep", curve->sweep);
    put_str(json, "model", curve->model);
    const struct arm_info *arm = curve->arm.whole ? NULL : &curve->arm;
    put_str(json, "strategy", arm == NULL ? "bins" : arm->strategy->name);
    put_str(json, "allocate", arm == NULL ? NULL : arm->allocator->name);
    put_str(json, "stop", arm == NULL ? NULL : arm->stopper->name);
    put_str(json, "select", arm == NULL ? NULL : arm->selector->name);
    if (curve->bins_len > 0)
        put_bins(json, curve);
    json_key(json, "oracle");
    json_bool(json, curve->arm.oracle);
    if (curve->arm.price > 0)
        put_f64(json, "price", curve->arm.price);
    json_key(json, "points");
    json_begin(json, '[');
    for (uint32_t i = 0; i < curve->points_len; i++)
        put_point(json, curve, &curve->points[i]);
    json_end(json, ']');
    json_end(json, '}');
}

static void put_group(struct buf *json, const struct report *report, const struct report_group *group)
{
    json_begin(json, '{');
    put_str(json, "group", group->name);
    put_u64(json, "prompts", group->prompts);
    json_key(json, "curves");
    json_begin(json, '[');
    for (uint32_t c = 0; c < report->curves_len; c++)
        put_curve(json, &group->curves[c]);
    json_end(json, ']');
    json_end(json, '}');
}

static void put_verdicts(struct buf *json, const struct report *report)
{
    json_key(json, "verdicts");
    json_begin(json, '{');
    for (uint32_t i = 0; i < report->verdicts_len; i++) {
        json_key(json, report->verdicts[i].verifier);
        json_begin(json, '{');
        for (int o = 0; o < OUTCOMES; o++)
            put_u64(json, outcome_words[o], report->verdicts[i].outcomes[o]);
        json_end(json, '}');
    }
    json_end(json, '}');
}

void report_json(const struct report *report, struct buf *json)
{
    const struct sweep_info *sweep = &report->sweep;
    struct spending waste = waste_of(sweep);
    json_begin(json, '{');
    put_str(json, "sweep", sweep->name);
    put_str(json, "state", sweep_state_text(sweep->state));
    put_str(json, "reason", sweep->reason);
    put_u64(json, "seed", sweep->seed);
    put_str(json, "truth", report->truth);
    put_u64(json, "prompts", sweep->prompts);
    put_u64(json, "decided", sweep->decided);
    put_u64(json, "cells", sweep->cells);
    put_u64(json, "failed", sweep->failed);
    put_f64(json, "wall_s", report->wall_s >= 0 ? report->wall_s : NAN);
    put_u64(json, "tokens_in", sweep->read);
    put_u64(json, "tokens_cached", sweep->cached);
    killed_json(&report->killed, json);
    put_verdicts(json, report);
    put_spending(json, "kept", &sweep->accepted);
    put_spending(json, "burned", &sweep->burned);
    put_spending(json, "waste", &waste);
    json_key(json, "waste_by");
    json_begin(json, '{');
    for (int w = 0; w < WASTES; w++)
        put_spending(json, waste_words[w] + 2, &sweep->waste[w]);
    json_end(json, '}');
    put_u64(json, "rollouts_used", report->charged);
    put_u64(json, "rollouts_bought", report->bought);
    put_f64(json, "reused", reused(report));
    json_key(json, "groups");
    json_begin(json, '[');
    for (uint32_t g = 0; g < report->groups_len; g++)
        put_group(json, report, &report->groups[g]);
    json_end(json, ']');
    json_key(json, "verifiers");
    json_begin(json, '[');
    for (uint32_t i = 0; i < report->verifiers_len; i++)
        calibration_json(report->verifiers[i], json);
    json_end(json, ']');
    report_more_json(report, json);
    json_end(json, '}');
}

/* -- CSV -------------------------------------------------------------------------------------------- */

/* Always quoted; a leading apostrophe keeps spreadsheets from running what looks like a formula. */
static void csv_text(struct buf *out, const char *text)
{
    buf_puts(out, text[0] != '\0' && strchr("=+-@\t\r", text[0]) != NULL ? "\"'" : "\"");
    for (; *text != '\0'; text++) {
        if (*text == '"')
            buf_puts(out, "\"\"");
        else
            buf_put(out, text, 1);
    }
    buf_puts(out, "\"");
}

static void csv_number(struct buf *out, double value)
{
    buf_puts(out, ",");
    if (!isnan(value))
        buf_printf(out, "%.6f", value);
}

static void csv_row(const struct report *report, const struct report_group *group, const struct report_curve *curve,
                    const struct report_point *point, struct buf *out)
{
    const char *const texts[] = {curve->sweep != NULL ? curve->sweep : report->sweep.name, group->name, curve->arm.name,
                                 curve->model, estimator(curve, point)};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        csv_text(out, texts[i]);
        buf_puts(out, ",");
    }
    buf_printf(out, "%d,%u,%u,%u,%u,%u,%u", curve->arm.oracle, point->n, point->prompts, point->undecided,
               point->judged, point->unknown, point->pending);
    csv_number(out, point->accuracy);
    csv_number(out, point->low);
    csv_number(out, point->high);
    csv_number(out, share(point->rollouts, point->prompts));
    buf_printf(out, ",%llu,%llu", (unsigned long long)point->rollouts, (unsigned long long)point->tokens);
    csv_number(out, (double)point->slot_ms / 1000);
    csv_number(out, share(point->truncated, point->rollouts));
    csv_number(out, share(point->raced, point->rollouts));
    buf_printf(out, ",%u", point->exhausted);
    csv_number(out, (double)point->cost / 1e6);
    buf_puts(out, "\n");
}

void report_csv(const struct report *report, struct buf *out)
{
    buf_puts(out, "sweep,group,arm,model,estimator,oracle,n,prompts,undecided,judged,unknown,pending,accuracy,"
                  "low,high,rollouts_per_prompt,rollouts,tokens,seconds,truncated,raced,exhausted,cost\n");
    for (uint32_t g = 0; g < report->groups_len; g++) {
        const struct report_group *group = &report->groups[g];
        for (uint32_t c = 0; c < report->curves_len; c++)
            for (uint32_t i = 0; i < group->curves[c].points_len; i++)
                csv_row(report, group, &group->curves[c], &group->curves[c].points[i], out);
    }
}
