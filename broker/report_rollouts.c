/* report_rollouts.c - what the rollouts of each pool tell beyond their counts: between which bounds selection works,
 * whether coverage follows a power law, how long right and wrong ones are, and what a weaker verifier lets pass. */
#include "broker/calibration.h"
#include "broker/policy/kernel.h"
#include "broker/policy/kernel_select.h"
#include "broker/policy/oracle.h"
#include "broker/policy/predict.h"
#include "broker/report_curve.h"
#include "broker/report_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -- the rollouts of one prompt ----------------------------------------------------------------------------------- */

/* One rollout that the truth knows, or that failed for good: then it has no answer, no tokens, and is wrong. */
struct seen {
    uint64_t class;
    uint32_t tokens;
    bool failed, right, cut, marked;
    double markers;
    bool told, passed; /* by the weaker verifier that is looked at, if there is one */
};

struct sight {
    const struct core *core;
    const struct report *report;
    uint32_t pool, arm; /* arm: one that draws from the pool */
    uint32_t weaker;    /* verifier, NO_ID: none */
    struct seen *at;
    uint32_t len, cap;
};

static bool look_at(const struct sight *sight, const struct key *key, struct seen *seen)
{
    struct rollout_info rollout;
    struct verdict truth, verdict;
    struct item item;
    *seen = (struct seen){0};
    if (!core_rollout(sight->core, key, &rollout) || rollout.state == ROLLOUT_OPEN)
        return false;
    seen->failed = rollout.state == ROLLOUT_FAILED;
    if (seen->failed)
        return true;
    if (!core_verdict(sight->core, key, sight->report->sweep.truth, &truth) || !outcome_decides(truth.outcome))
        return false;
    seen->class = rollout.class;
    seen->tokens = rollout.tokens_out;
    seen->right = truth.outcome == OUTCOME_PASS;
    seen->cut = rollout.finish == FINISH_LENGTH;
    seen->marked = core_item(sight->core, sight->arm, key, key->item, &item) &&
                   item_feature(&item, FEATURE_MARKERS, &seen->markers);
    seen->told = sight->weaker != NO_ID && core_verdict(sight->core, key, sight->weaker, &verdict) &&
                 outcome_decides(verdict.outcome);
    seen->passed = seen->told && verdict.outcome == OUTCOME_PASS;
    return true;
}

/* The judged rollouts of one prompt, by ordinal. */
static void look(struct sight *sight, uint32_t prompt)
{
    struct key key = {TASK_GENERATE, sight->pool, prompt, NO_ID, 0, NO_ID};
    uint32_t delivered = report_delivered(sight->core, sight->report->sweep.id, sight->pool, prompt);
    if (delivered > sight->cap) {
        sight->cap = delivered;
        sight->at = xrealloc(sight->at, sight->cap * sizeof *sight->at);
    }
    sight->len = 0;
    for (; key.item < delivered; key.item++)
        sight->len += look_at(sight, &key, &sight->at[sight->len]);
}

static struct sight sight_of(const struct core *core, const struct report *report, const struct report_pool *pool)
{
    struct sight sight = {.core = core, .report = report, .pool = pool->pool, .weaker = NO_ID};
    for (uint32_t i = 0; i < report->sweep.arms; i++) {
        uint32_t arm = core_sweep_arm(core, report->sweep.id, i);
        if (core_arm_draws(core, arm, pool->pool))
            sight.arm = arm;
    }
    return sight;
}

static uint32_t rights(const struct sight *sight)
{
    uint32_t right = 0;
    for (uint32_t i = 0; i < sight->len; i++)
        right += sight->at[i].right;
    return right;
}

/* -- votes ---------------------------------------------------------------------------------------------------------- */

/* A rollout that votes. */
struct vote {
    uint64_t class;
    uint32_t at; /* of the prompt's rollouts */
};

/* The answers of one prompt: an answer is right if its first rollout is, as the vote's winner is judged by that. */
struct votes {
    struct vote *votes;
    uint32_t *counts;
    bool *right;
    uint32_t len, blank, cap;
};

static int by_class(const void *a, const void *b)
{
    const struct vote *x = a, *y = b;
    return x->class != y->class ? (x->class > y->class) - (x->class < y->class) : (x->at > y->at) - (x->at < y->at);
}

static void votes_count(struct votes *votes, const struct sight *sight)
{
    uint32_t voters = 0;
    if (sight->len > votes->cap) {
        votes->cap = sight->len;
        votes->votes = xrealloc(votes->votes, votes->cap * sizeof *votes->votes);
        votes->counts = xrealloc(votes->counts, votes->cap * sizeof *votes->counts);
        votes->right = xrealloc(votes->right, votes->cap * sizeof *votes->right);
    }
    for (uint32_t i = 0; i < sight->len; i++)
        if (sight->at[i].class != 0)
            votes->votes[voters++] = (struct vote){sight->at[i].class, i};
    votes->blank = sight->len - voters;
    votes->len = 0;
    if (voters > 0)
        qsort(votes->votes, voters, sizeof *votes->votes, by_class);
    for (uint32_t i = 0; i < voters; i++) {
        if (i == 0 || votes->votes[i].class != votes->votes[i - 1].class) {
            votes->right[votes->len] = sight->at[votes->votes[i].at].right;
            votes->counts[votes->len++] = 0;
        }
        votes->counts[votes->len - 1]++;
    }
}

static void votes_clear(struct votes *votes)
{
    free(votes->votes);
    free(votes->counts);
    free(votes->right);
}

/* Chance that the vote of n of them is right. */
static double votes_right(const struct votes *votes, uint32_t n)
{
    double sum = 0;
    for (uint32_t c = 0; c < votes->len; c++)
        if (votes->right[c])
            sum += majority_at(&(struct ballot){votes->counts, votes->len, c, votes->blank}, n);
    return sum;
}

/* -- bounds, and the power law of coverage -------------------------------------------------------------------------- */

static const struct report_column bound_columns[] = {
    {"model", "model", CELL_TEXT},
    {"n", "N", CELL_COUNT},
    {"one", "one", CELL_SHARE},
    {"majority", "majority", CELL_SHARE},
    {"any", "any right", CELL_SHARE},
    {"stops", "stops at", CELL_NUMBER},
    {"most", "at most", CELL_SHARE},
    {"most_saves", "saves", CELL_NUMBER},
    {0},
};

static const struct report_column power_columns[] = {
    {"model", "model", CELL_TEXT},
    {"a", "a", CELL_NUMBER},
    {"b", "b", CELL_NUMBER},
    {"n", "N", CELL_COUNT},
    {"from", "fitted up to", CELL_COUNT},
    {"error", "misses the rest by", CELL_PERCENT},
    {0},
};

/* Means over prompts at one N. */
struct bound {
    uint32_t n;
    double any, squares, majority, stops;
};

/* Steps that the exact votes of all prompts may take at one N: about n * n * len each, but for the vote of all. */
static const double votes_steps_max = 1e8;

static bool votable(const struct sight *sight, uint32_t prompts, uint32_t n)
{
    return sight->len <= VOTES_MAX && (n == sight->len || (double)prompts * n * n * sight->len <= votes_steps_max);
}

static void bound_add(struct bound *bound, const struct sight *sight, const struct votes *votes, uint32_t prompts)
{
    uint32_t right = rights(sight);
    double covered = pass_at_k(sight->len, right, bound->n), open = 1;
    bound->any += covered / prompts;
    bound->squares += covered * covered / prompts;
    bound->majority += votable(sight, prompts, bound->n) ? votes_right(votes, bound->n) / prompts : NAN;
    for (uint32_t j = 0; j < bound->n; j++) { /* open after j: none of them was right */
        bound->stops += open / prompts;
        open *= fmax(0, (double)sight->len - right - j) / (sight->len - j);
    }
}

/* What nobody can beat who has as many rollouts for all prompts together, if success rates follow the law. */
static double most_of(const struct report_pool *pool, uint32_t n)
{
    double rates[LAW_SHARES];
    if (!pool->reach.known)
        return NAN;
    law_shares(&pool->reach.law, rates);
    return oracle_feedback(rates, LAW_SHARES, (double)n * LAW_SHARES);
}

static void power_row(struct report_table *table, const struct report_pool *pool, const struct bound *bounds,
                      uint32_t len, uint32_t prompts)
{
    struct curve_point points[SAVING_STEPS_MAX];
    struct power_law law;
    for (uint32_t i = 0; i < len; i++)
        points[i] = (struct curve_point){bounds[i].n, bounds[i].any,
                                         fmax(bounds[i].squares - bounds[i].any * bounds[i].any, 1e-12) / prompts};
    if (!fit_power(points, len, &law))
        return;
    uint32_t half = bounds[len - 1].n / 2;
    report_table_text(table, pool->model);
    report_table_number(table, law.a);
    report_table_number(table, law.b);
    report_table_number(table, bounds[len - 1].n);
    report_table_number(table, half);
    report_table_number(table, power_held_out(points, len, half));
}

/* Judged rollouts that every prompt with any of them has, and how many prompts that are. */
static uint32_t common_of(struct sight *sight, uint32_t *prompts)
{
    uint32_t least = UINT32_MAX;
    *prompts = 0;
    for (uint32_t p = 0; p < sight->report->sweep.prompts; p++) {
        look(sight, p);
        *prompts += sight->len > 0;
        least = sight->len > 0 && sight->len < least ? sight->len : least;
    }
    return *prompts > 0 ? least : 0;
}

static void bounds_add(struct sight *sight, const struct report_pool *pool, struct report_table *table,
                       struct report_table *powers)
{
    struct bound bounds[SAVING_STEPS_MAX] = {0};
    struct votes votes = {0};
    uint32_t steps[SAVING_STEPS_MAX], prompts, voters = 0, common = common_of(sight, &prompts);
    uint32_t len = common > 0 ? saving_steps(common, steps) : 0;
    for (uint32_t i = 0; i < len; i++)
        bounds[i].n = steps[i];
    for (uint32_t p = 0; p < sight->report->sweep.prompts; p++) {
        look(sight, p);
        votes_count(&votes, sight);
        voters += sight->len - votes.blank;
        for (uint32_t i = 0; sight->len > 0 && i < len; i++)
            bound_add(&bounds[i], sight, &votes, prompts);
    }
    for (uint32_t i = 0; i < len; i++) {
        if (i > 0 && i + 1 < len && (bounds[i].n & (bounds[i].n - 1)) != 0)
            continue; /* powers of two are enough to look at */
        report_table_text(table, pool->model);
        report_table_number(table, bounds[i].n);
        report_table_number(table, bounds[0].any);
        report_table_number(table, voters > 0 ? bounds[i].majority : NAN);
        report_table_number(table, bounds[i].any);
        report_table_number(table, bounds[i].stops);
        report_table_number(table, most_of(pool, bounds[i].n));
        report_table_number(table, coverage_inverse(&pool->reach.law, most_of(pool, bounds[i].n)) / bounds[i].n);
    }
    power_row(powers, pool, bounds, len, prompts);
    votes_clear(&votes);
}

/* -- lengths -------------------------------------------------------------------------------------------------------- */

static const struct report_column length_columns[] = {
    {"model", "model", CELL_TEXT},        {"truth", "", CELL_TEXT},
    {"rollouts", "rollouts", CELL_COUNT}, {"tokens", "tokens", CELL_NUMBER},
    {"tokens_p10", "10%", CELL_NUMBER},   {"tokens_p50", "50%", CELL_NUMBER},
    {"tokens_p90", "90%", CELL_NUMBER},   {"cut", "cut", CELL_PERCENT},
    {"markers", "markers", CELL_NUMBER},  {0},
};

static const struct report_column pair_columns[] = {
    {"model", "model", CELL_TEXT},
    {"prompts", "prompts", CELL_COUNT},
    {"shorter", "shorter", CELL_SHARE},
    {"low", "95%", CELL_LOW},
    {"high", NULL, CELL_HIGH},
    {"difference", "tokens", CELL_NUMBER},
    {0},
};

/* Of the right or of the wrong rollouts. */
struct lengths {
    double *tokens, sum, markers;
    size_t len, cap, cut, marked;
};

static void length_add(struct lengths *lengths, const struct seen *seen)
{
    if (lengths->len == lengths->cap) {
        lengths->cap = lengths->cap == 0 ? 1024 : 2 * lengths->cap;
        lengths->tokens = xrealloc(lengths->tokens, lengths->cap * sizeof *lengths->tokens);
    }
    lengths->tokens[lengths->len++] = seen->tokens;
    lengths->sum += seen->tokens;
    lengths->cut += seen->cut;
    lengths->marked += seen->marked;
    lengths->markers += seen->markers;
}

static void length_row(struct report_table *table, const char *model, bool right, struct lengths *lengths)
{
    double len = (double)lengths->len;
    report_table_text(table, model);
    report_table_text(table, right ? "right" : "wrong");
    report_table_number(table, len);
    report_table_number(table, lengths->sum / len);
    for (int q = 1; q <= 9; q += 4)
        report_table_number(table, quantile_linear(lengths->tokens, lengths->len, q / 10.0));
    report_table_number(table, (double)lengths->cut / len);
    report_table_number(table, lengths->marked > 0 ? lengths->markers / (double)lengths->marked : NAN);
}

static int by_tokens(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;
    return (x->tokens > y->tokens) - (x->tokens < y->tokens);
}

/* Share of the pairs of a right and a wrong rollout of one prompt in which the right one is shorter, ties one half, and
 * the difference of their means. False: it has not both. Sorts the rollouts by length. */
static bool pair_of(struct sight *sight, double *shorter, double *difference)
{
    double counts[2] = {0}, sums[2] = {0}, wins = 0; /* wrong, right */
    if (sight->len > 0)
        qsort(sight->at, sight->len, sizeof *sight->at, by_tokens);
    for (uint32_t i = 0; i < sight->len;) {
        double tied[2] = {0};
        uint32_t end = i;
        for (; end < sight->len && sight->at[end].tokens == sight->at[i].tokens; end++)
            if (!sight->at[end].failed)
                tied[sight->at[end].right]++;
        wins += counts[1] * tied[0] + tied[1] * tied[0] / 2;
        for (int right = 0; right < 2; right++) {
            counts[right] += tied[right];
            sums[right] += tied[right] * sight->at[i].tokens;
        }
        i = end;
    }
    if (!(counts[0] > 0) || !(counts[1] > 0))
        return false;
    *shorter = wins / counts[0] / counts[1];
    *difference = sums[1] / counts[1] - sums[0] / counts[0];
    return true;
}

static void lengths_add(struct sight *sight, const struct report_pool *pool, struct report_table *table,
                        struct report_table *pairs)
{
    struct lengths lengths[2] = {{0}}; /* wrong, right */
    double *shorter = xalloc((sight->report->sweep.prompts + 1) * sizeof *shorter), difference, sum = 0;
    uint32_t both = 0;
    for (uint32_t p = 0; p < sight->report->sweep.prompts; p++) {
        look(sight, p);
        for (uint32_t i = 0; i < sight->len; i++)
            if (!sight->at[i].failed)
                length_add(&lengths[sight->at[i].right], &sight->at[i]);
        if (pair_of(sight, &shorter[both], &difference)) {
            sum += difference;
            both++;
        }
    }
    for (int right = 1; right >= 0; right--)
        if (lengths[right].len > 0)
            length_row(table, pool->model, right == 1, &lengths[right]);
    if (both > 0) {
        struct interval interval = interval_of(shorter, both, sight->report->sweep.seed);
        report_table_text(pairs, pool->model);
        report_table_number(pairs, both);
        report_table_number(pairs, interval.mean);
        report_table_number(pairs, interval.low);
        report_table_number(pairs, interval.high);
        report_table_number(pairs, sum / both);
    }
    free(lengths[0].tokens);
    free(lengths[1].tokens);
    free(shorter);
}

/* -- a weaker verifier ---------------------------------------------------------------------------------------------- */

static const struct report_column weaker_columns[] = {
    {"verifier", "verifier", CELL_TEXT},
    {"model", "model", CELL_TEXT},
    {"n", "N", CELL_COUNT},
    {"passes", "passes", CELL_SHARE},
    {"right_too", "right too", CELL_SHARE},
    {"false", "false", CELL_PERCENT},
    {"false_low", "95%", CELL_LOW},
    {"false_high", NULL, CELL_HIGH},
    {"before", "right before", CELL_SHARE},
    {"accepted", "accepted", CELL_SHARE},
    {"rejected", "rejected", CELL_SHARE},
    {0},
};

/* Of one prompt: rollouts that both have judged, that the weaker one passed, that are right besides. */
struct judged {
    uint32_t n, passed, both;
};

struct judgings {
    struct judged *at;
    uint32_t len, common;            /* prompts; rollouts that each of them has */
    uint64_t n, right, passed, both; /* of all prompts */
};

static struct judgings judgings_of(struct sight *sight)
{
    struct judgings all = {.at = xalloc((sight->report->sweep.prompts + 1) * sizeof *all.at), .common = UINT32_MAX};
    for (uint32_t p = 0; p < sight->report->sweep.prompts; p++) {
        struct judged one = {0};
        look(sight, p);
        for (uint32_t i = 0; i < sight->len; i++) {
            const struct seen *seen = &sight->at[i];
            one.n += seen->told;
            one.passed += seen->passed;
            one.both += seen->passed && seen->right;
            all.right += seen->told && seen->right;
        }
        all.n += one.n;
        all.passed += one.passed;
        all.both += one.both;
        if (one.n > 0) {
            all.common = one.n < all.common ? one.n : all.common;
            all.at[all.len++] = one;
        }
    }
    return all;
}

static double odds_share(double odds)
{
    return isinf(odds) ? 1 : odds / (1 + odds);
}

static void weaker_row(struct report_table *table, const struct judgings *all, uint32_t n, const char *verifier,
                       const char *model)
{
    double passes = 0, both = 0, low = NAN, high = NAN, right = (double)all->right,
           wrong = (double)(all->n - all->right);
    struct error_rates rates = {(double)all->both / right, (double)(all->passed - all->both) / wrong};
    for (uint32_t i = 0; i < all->len; i++) {
        passes += pass_at_k(all->at[i].n, all->at[i].passed, n) / all->len;
        both += pass_at_k(all->at[i].n, all->at[i].both, n) / all->len;
    }
    if (all->passed > 0)
        binomial_interval(all->passed - all->both, all->passed, 0.95, &low, &high);
    report_table_text(table, verifier);
    report_table_text(table, model);
    report_table_number(table, n);
    report_table_number(table, passes);
    report_table_number(table, both);
    report_table_number(table, all->passed > 0 ? (double)(all->passed - all->both) / (double)all->passed : NAN);
    report_table_number(table, low);
    report_table_number(table, high);
    report_table_number(table, right / (right + wrong));
    report_table_number(table, odds_share(odds_after(right / wrong, rates, 1, 0)));
    report_table_number(table, odds_share(odds_after(right / wrong, rates, 0, 1)));
}

/* Verifiers whose word is a pass or a fail, beside the truth. */
static void weaker_add(struct sight *sight, const struct report_pool *pool, struct report_table *table)
{
    for (uint32_t v = 0; v < core_verifiers(sight->core); v++) {
        sight->weaker = v;
        if (v == sight->report->sweep.truth)
            continue;
        struct judgings all = judgings_of(sight);
        for (uint32_t n = 1; all.len > 0 && n <= all.common; n = n < all.common ? all.common : n + 1)
            weaker_row(table, &all, n, core_verifier(sight->core, v).name, pool->model);
        free(all.at);
    }
    sight->weaker = NO_ID;
}

/* -- the gain of votes, foretold ------------------------------------------------------------------------------------ */

static const struct report_column gain_columns[] = {
    {"model", "model", CELL_TEXT},
    {"n", "N", CELL_COUNT},
    {"measured", "measured", CELL_SHARE},
    {"foretold", "foretold", CELL_SHARE},
    {"rank", "rank correlation", CELL_SHARE},
    {0},
};

static struct gain_prompt gain_prompt_of(const struct sight *sight, const struct votes *votes)
{
    struct gain_prompt prompt = {.first_right = sight->len + 1.0};
    double mean = 0, squares = 0, counted = 0, voters = sight->len - votes->blank;
    for (uint32_t i = sight->len; i-- > 0;)
        prompt.first_right = sight->at[i].right ? i + 1.0 : prompt.first_right;
    for (uint32_t i = 0; i < sight->len; i++) {
        double tokens = sight->at[i].failed ? NAN : log(sight->at[i].tokens + 1.0);
        counted += !isnan(tokens);
        mean += isnan(tokens) ? 0 : tokens;
        squares += isnan(tokens) ? 0 : tokens * tokens;
    }
    if (counted > 0)
        prompt.length_variance = fmax(0, squares / counted - mean / counted * mean / counted);
    for (uint32_t c = 0; c < votes->len; c++) {
        double share = votes->counts[c] / voters;
        prompt.top_share = fmax(prompt.top_share, share);
        prompt.class_entropy -= share * log(share);
    }
    return prompt;
}

/* False: the vote cannot be told exactly. */
static bool gain_row_of(struct sight *sight, struct gain_row *row, uint32_t *n)
{
    struct votes votes = {0};
    uint32_t prompts, common = common_of(sight, &prompts);
    struct gain_prompt *of = xalloc((prompts + (size_t)1) * sizeof *of);
    row->gain = 0;
    *n = common;
    prompts = 0;
    for (uint32_t p = 0; common > 0 && p < sight->report->sweep.prompts; p++) {
        look(sight, p);
        if (sight->len == 0)
            continue;
        votes_count(&votes, sight);
        of[prompts++] = gain_prompt_of(sight, &votes);
        double voted = votable(sight, sight->report->sweep.prompts, common) ? votes_right(&votes, common) : NAN;
        row->gain += voted - (double)rights(sight) / sight->len;
    }
    if (prompts > 0) {
        gain_features(of, prompts, row->x);
        row->gain /= prompts;
    }
    votes_clear(&votes);
    free(of);
    return prompts > 0 && !isnan(row->gain);
}

/* Each configuration foretold by all the others: for that there must be one more than a fit needs. */
static void gains_add(const struct core *core, struct report *report)
{
    struct report_table *table = report_table_add(
        report, "gain", "what the vote of N gained over one rollout, and what the other configurations foretell",
        gain_columns);
    if (report->pools_len <= GAIN_ROWS_MIN)
        return;
    struct gain_row *rows = xalloc(report->pools_len * sizeof *rows),
                    *others = xalloc(report->pools_len * sizeof *others);
    double *measured = xalloc(2 * report->pools_len * sizeof *measured), *foretold = measured + report->pools_len;
    uint32_t len = 0, *n = xalloc(report->pools_len * sizeof *n), *pools = xalloc(report->pools_len * sizeof *pools);
    for (uint32_t i = 0; i < report->pools_len; i++) {
        struct sight sight = sight_of(core, report, &report->pools[i]);
        pools[len] = i;
        len += gain_row_of(&sight, &rows[len], &n[len]);
        free(sight.at);
    }
    for (uint32_t i = 0; i < len; i++) {
        struct gain_law law;
        uint32_t others_len = 0;
        for (uint32_t j = 0; j < len; j++)
            if (j != i)
                others[others_len++] = rows[j];
        measured[i] = rows[i].gain;
        foretold[i] = fit_gain(others, others_len, &law) ? gain_at(&law, rows[i].x) : NAN;
    }
    for (uint32_t i = 0; len > GAIN_ROWS_MIN && i < len; i++) {
        report_table_text(table, report->pools[pools[i]].model);
        report_table_number(table, n[i]);
        report_table_number(table, measured[i]);
        report_table_number(table, foretold[i]);
        report_table_number(table, rank_correlation(measured, foretold, len));
    }
    free(rows);
    free(others);
    free(measured);
    free(n);
    free(pools);
}

void report_rollouts_fill(const struct core *core, struct report *report)
{
    struct report_table *bounds = report_table_add(
        report, "bounds",
        "between one rollout and a perfect verifier: right; rollouts if sampling stops at the first right one; the most "
        "that\nany allocation of as many could cover",
        bound_columns);
    struct report_table *powers = report_table_add(report, "power_law", "coverage as ln c(N) = -a N^-b", power_columns);
    struct report_table *lengths = report_table_add(
        report, "lengths", "tokens of right and wrong rollouts: mean, quantiles, cut off", length_columns);
    struct report_table *pairs = report_table_add(
        report, "shorter",
        "of prompts with both: how often a right rollout is shorter than a wrong one, and by how much", pair_columns);
    struct report_table *weaker = report_table_add(
        report, "weaker_verifiers",
        "what a verifier passes, and what the truth passes too: one of N; false passes; how often a rollout is right\n"
        "before and after its word",
        weaker_columns);
    for (uint32_t i = 0; i < report->pools_len; i++) {
        struct sight sight = sight_of(core, report, &report->pools[i]);
        bounds_add(&sight, &report->pools[i], bounds, powers);
        lengths_add(&sight, &report->pools[i], lengths, pairs);
        weaker_add(&sight, &report->pools[i], weaker);
        free(sight.at);
    }
    gains_add(core, report);
}
