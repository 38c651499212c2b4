/* calibration.c - see calibration.h. */
#include "broker/calibration.h"
#include "broker/core/text_table.h"
#include "broker/policy/kernel.h"
#include "common/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One rollout that the truth knows. */
struct seen {
    uint32_t prompt;
    bool right, known, passed, decides;
    double score;
};

struct sight {
    const struct core *core;
    uint32_t verifier, truth;
    struct seen *at;
    size_t len, cap;
};

static void look(struct sight *sight, uint32_t prompt, const struct key *key)
{
    struct verdict truth, verdict;
    if (!core_verdict(sight->core, key, sight->truth, &truth) || !outcome_decides(truth.outcome) ||
        !core_verdict(sight->core, key, sight->verifier, &verdict))
        return;
    if (sight->len == sight->cap) {
        sight->cap = sight->cap == 0 ? 256 : 2 * sight->cap;
        sight->at = xrealloc(sight->at, sight->cap * sizeof *sight->at);
    }
    sight->at[sight->len++] = (struct seen){.prompt = prompt,
                                            .right = truth.outcome == OUTCOME_PASS,
                                            .known = outcome_known(verdict.outcome),
                                            .passed = verdict.outcome == OUTCOME_PASS,
                                            .decides = outcome_decides(verdict.outcome),
                                            .score = verdict.score};
}

static void look_at_pool(struct sight *sight, uint32_t pool, uint32_t prompts)
{
    struct key key = {TASK_GENERATE, pool, 0, NO_ID, 0, NO_ID};
    for (; key.prompt < prompts; key.prompt++)
        for (key.item = 0; key.item < core_issued(sight->core, pool, key.prompt); key.item++)
            look(sight, key.prompt, &key);
}

static void look_at_trees(struct sight *sight, const struct arm_info *arm)
{
    struct key node;
    for (uint32_t p = 0; p < arm->prompts; p++)
        for (uint32_t k = 0; core_delivered(sight->core, arm->id, p, k, &node); k++)
            look(sight, p, &node);
}

/* Every rollout of a pool once, whichever arms use it; of trees their end nodes. */
static void look_everywhere(struct sight *sight, uint32_t sweep)
{
    struct sweep_info info = core_sweep(sight->core, sweep);
    bool *seen = xalloc(core_pools(sight->core) * sizeof *seen);
    for (uint32_t i = 0; i < info.arms; i++) {
        struct arm_info arm = core_arm(sight->core, core_sweep_arm(sight->core, sweep, i));
        if (arm.trees > 0)
            look_at_trees(sight, &arm);
        for (uint32_t leg = 0; arm.trees == 0 && leg < arm.schedule->legs; leg++) {
            if (!seen[arm.pools[leg]])
                look_at_pool(sight, arm.pools[leg], arm.prompts);
            seen[arm.pools[leg]] = true;
        }
    }
    free(seen);
}

/* -- ranking ---------------------------------------------------------------------------------------------------------- */

static int by_score(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;
    return (x->score > y->score) - (x->score < y->score);
}

static int by_prompt(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;
    return x->prompt != y->prompt ? (x->prompt > y->prompt) - (x->prompt < y->prompt) : by_score(a, b);
}

/* Share of (right, wrong) pairs in which the right one scores higher, ties one half; these are ordered by score. */
static double rank_share(const struct seen *at, size_t len)
{
    double below = 0, pairs = 0, right = 0, wins = 0;
    for (size_t i = 0; i < len;) {
        size_t end = i;
        double rights = 0, wrongs = 0;
        for (; end < len && at[end].score == at[i].score; end++) {
            rights += at[end].right;
            wrongs += !at[end].right;
        }
        wins += rights * (below + wrongs / 2);
        below += wrongs;
        right += rights;
        i = end;
    }
    pairs = right * below;
    return pairs > 0 ? wins / pairs : NAN;
}

/* Share of right ones among the best-scored. */
static double best_share(const struct seen *at, size_t len)
{
    double best = 0, right = 0;
    for (size_t i = len; i-- > 0 && at[i].score == at[len - 1].score; best++)
        right += at[i].right;
    return right / best;
}

static void rank_prompts(struct calibration_group *group, const struct seen *at, size_t len, uint64_t seed)
{
    double *ranks = xalloc((len + 1) * sizeof *ranks), *bests = xalloc((len + 1) * sizeof *bests);
    uint32_t prompts = 0;
    double chance = 0;
    for (size_t i = 0; i < len;) {
        size_t end = i;
        double right = 0;
        for (; end < len && at[end].prompt == at[i].prompt; end++)
            right += at[end].right;
        double share = rank_share(at + i, end - i);
        if (!isnan(share))
            ranks[group->ranked++] = share;
        bests[prompts++] = best_share(at + i, end - i);
        chance += right / (double)(end - i);
        i = end;
    }
    group->rank = interval_of(ranks, group->ranked, seed);
    group->best = interval_of(bests, prompts, seed);
    group->chance = prompts > 0 ? chance / prompts : NAN;
    free(ranks);
    free(bests);
}

/* -- acceptance ------------------------------------------------------------------------------------------------------- */

/* The threshold with the largest tpr - fpr (Youden's J), the highest of equals. These are ordered by score. */
static double choose_threshold(const struct seen *at, size_t len)
{
    double right = 0, wrong = 0, most = -1, chosen = INFINITY, rights = 0, wrongs = 0;
    for (size_t i = 0; i < len; i++) {
        right += at[i].known && at[i].right;
        wrong += at[i].known && !at[i].right;
    }
    for (size_t i = len; i-- > 0;) {
        rights += at[i].known && at[i].right;
        wrongs += at[i].known && !at[i].right;
        double j = (right > 0 ? rights / right : 0) - (wrong > 0 ? wrongs / wrong : 0);
        if ((i == 0 || at[i - 1].score != at[i].score) && j > most) {
            most = j;
            chosen = at[i].score;
        }
    }
    return chosen;
}

/* The window of a cascade around a threshold: t is the rank of the threshold among the scores, and the window goes from
 * the quantile t - share / 2 to t + share / 2. The scores are those of one sweep and not of what a verifier has seen so far:
 * a verdict shall not depend on which rollouts came before. These are ordered by score. */
static void choose_window(struct calibration_window *window, const struct seen *at, size_t len, double threshold)
{
    size_t rank = 0, inside = 0, agree = 0, half = (size_t)ceil(window->wanted * (double)len / 2);
    window->low = window->high = window->share = window->outside = NAN;
    if (len == 0 || half == 0)
        return;
    while (rank < len && at[rank].score < threshold)
        rank++;
    window->low = at[rank < half ? 0 : rank - half < len ? rank - half : len - 1].score;
    window->high = at[rank + half > len ? len - 1 : rank + half - 1].score;
    for (size_t i = 0; i < len; i++) {
        bool below = at[i].score<window->low, above = at[i].score> window->high;
        inside += !below && !above;
        agree += at[i].right ? above : below;
    }
    window->share = (double)inside / (double)len;
    window->outside = inside < len ? (double)agree / (double)(len - inside) : NAN;
}

/* Those that are known come first, and keep their order. */
static size_t known_first(struct seen *at, size_t len)
{
    size_t known = 0;
    for (size_t i = 0; i < len; i++)
        if (at[i].known)
            at[known++] = at[i];
    return known;
}

static struct interval rate_of(uint64_t accepted, uint64_t of)
{
    struct interval rate = {NAN, NAN, NAN};
    if (of > 0) {
        rate.mean = (double)accepted / (double)of;
        binomial_interval(accepted, of, 0.95, &rate.low, &rate.high);
    }
    return rate;
}

static void count(struct calibration_group *group, const struct seen *seen, double threshold)
{
    if (!seen->known) {
        group->silent++;
        return;
    }
    bool accepted = isnan(threshold) ? seen->passed : seen->score >= threshold;
    group->right += seen->right;
    group->wrong += !seen->right;
    group->right_accepted += seen->right && accepted;
    group->wrong_accepted += !seen->right && accepted;
}

/* group: NO_ID for all prompts. */
static void group_fill(struct calibration_group *to, const struct sight *sight, uint32_t sweep, uint32_t group,
                       double threshold)
{
    struct sweep_info info = core_sweep(sight->core, sweep);
    struct seen *known = xalloc((sight->len + 1) * sizeof *known);
    size_t len = 0;
    for (size_t i = 0; i < sight->len; i++) {
        if (group != NO_ID && core_prompt(sight->core, info.set, sight->at[i].prompt).group != group)
            continue;
        count(to, &sight->at[i], threshold);
        if (sight->at[i].known)
            known[len++] = sight->at[i];
    }
    to->tpr = rate_of(to->right_accepted, to->right);
    to->fpr = rate_of(to->wrong_accepted, to->wrong);
    qsort(known, len, sizeof *known, by_score);
    to->auc = rank_share(known, len);
    qsort(known, len, sizeof *known, by_prompt);
    rank_prompts(to, known, len, info.seed);
    free(known);
}

struct calibration *calibration_new(const struct core *core, uint32_t sweep, uint32_t verifier, uint32_t truth,
                                    double threshold, double window)
{
    struct sight sight = {.core = core, .verifier = verifier, .truth = truth};
    uint32_t set = core_sweep(core, sweep).set, groups = core_groups(core, set);
    look_everywhere(&sight, sweep);
    if (sight.len == 0)
        return NULL;
    struct calibration *c = xalloc(sizeof *c);
    c->verifier = core_verifier(core, verifier).name;
    c->truth = core_verifier(core, truth).name;
    bool decides = false, known = false;
    qsort(sight.at, sight.len, sizeof *sight.at, by_score);
    for (size_t i = 0; i < sight.len; i++) {
        decides = decides || sight.at[i].decides;
        known = known || sight.at[i].known;
    }
    c->chosen = isnan(threshold) && !decides && known;
    c->threshold = c->chosen ? choose_threshold(sight.at, sight.len) : threshold;
    c->groups_len = groups > 1 ? groups + 1 : 1;
    c->groups = xalloc(c->groups_len * sizeof *c->groups);
    for (uint32_t g = 0; g < c->groups_len; g++) {
        c->groups[g].name = g == 0 ? "all" : core_group(core, set, g - 1);
        group_fill(&c->groups[g], &sight, sweep, g == 0 ? NO_ID : g - 1, c->threshold);
    }
    c->window.wanted = window;
    double middle = isnan(c->threshold) ? choose_threshold(sight.at, sight.len) : c->threshold;
    choose_window(&c->window, sight.at, known_first(sight.at, sight.len), middle);
    free(sight.at);
    return c;
}

void calibration_free(struct calibration **calibration)
{
    if (*calibration == NULL)
        return;
    free((*calibration)->groups);
    free(*calibration);
    *calibration = NULL;
}

/* -- printing --------------------------------------------------------------------------------------------------------- */

static void cell_rate(struct text_table *table, double value)
{
    char text[24];
    if (isnan(value))
        snprintf(text, sizeof text, "-");
    else
        snprintf(text, sizeof text, "%.3f", value);
    text_cell(table, text);
}

static void cell_interval(struct text_table *table, const struct interval *interval)
{
    char text[48];
    cell_rate(table, interval->mean);
    if (isnan(interval->mean))
        snprintf(text, sizeof text, "-");
    else
        snprintf(text, sizeof text, "%.3f-%.3f", interval->low, interval->high);
    text_cell(table, text);
}

static void cell_count(struct text_table *table, uint64_t count)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)count);
    text_cell(table, text);
}

static void window_text(const struct calibration_window *window, struct buf *out)
{
    if (isnan(window->low))
        return;
    buf_printf(out, "in a cascade, low: %.6g, high: %.6g asks the costly verifier for %.0f %% of the rollouts",
               window->low, window->high, 100 * window->share);
    if (!isnan(window->outside))
        buf_printf(out, ";\nof the others %.1f %% are decided as the truth does", 100 * window->outside);
    buf_puts(out, "\n");
}

void calibration_text(const struct calibration *c, struct buf *out)
{
    struct text_table table;
    buf_printf(out, "verifier %s against %s", c->verifier, c->truth);
    if (!isnan(c->threshold))
        buf_printf(out, ", accepting scores from %.6g%s", c->threshold,
                   c->chosen ? " (chosen: the largest tpr - fpr)" : "");
    buf_puts(out, "\n");
    text_table_init(&table, "lrrrrrrrrrrrr");
    text_heads(&table, "group|right|wrong|silent|tpr|95%|fpr|95%|rank|95%|pooled|best-of|chance");
    for (uint32_t g = 0; g < c->groups_len; g++) {
        const struct calibration_group *group = &c->groups[g];
        text_cell(&table, group->name);
        cell_count(&table, group->right);
        cell_count(&table, group->wrong);
        cell_count(&table, group->silent);
        cell_interval(&table, &group->tpr);
        cell_interval(&table, &group->fpr);
        cell_interval(&table, &group->rank);
        cell_rate(&table, group->auc);
        cell_rate(&table, group->best.mean);
        cell_rate(&table, group->chance);
    }
    text_table_print(&table, 2, out);
    text_table_clear(&table);
    buf_puts(out, "tpr, fpr: accepted share of right and of wrong rollouts; rank: how often a right one scores\n"
                  "above a wrong one of its prompt (pooled: of any prompt); best-of: prompts whose best-scored\n"
                  "rollout is right (chance: if all scores were equal)\n");
    window_text(&c->window, out);
}

void calibration_line(const struct calibration *c, struct buf *out)
{
    const struct calibration_group *all = &c->groups[0];
    if (all->right + all->wrong == 0) {
        buf_printf(out, "verifier %s against %s: it could not tell of any of %llu rollouts\n", c->verifier, c->truth,
                   (unsigned long long)all->silent);
        return;
    }
    buf_printf(out,
               "verifier %s against %s: tpr %.3f, fpr %.3f%s; ranks right above wrong %.3f in a prompt, %.3f overall\n",
               c->verifier, c->truth, all->tpr.mean, all->fpr.mean, c->chosen ? " at the best threshold" : "",
               all->rank.mean, all->auc);
}

static void put_number(struct buf *json, const char *key, double value)
{
    json_key(json, key);
    if (isfinite(value))
        json_f64(json, value);
    else
        json_none(json);
}

static void put_interval(struct buf *json, const char *key, const struct interval *interval)
{
    json_key(json, key);
    json_begin(json, '{');
    put_number(json, "mean", interval->mean);
    put_number(json, "low", interval->low);
    put_number(json, "high", interval->high);
    json_end(json, '}');
}

static void put_count(struct buf *json, const char *key, uint64_t value)
{
    json_key(json, key);
    json_u64(json, value);
}

static void put_group(struct buf *json, const struct calibration_group *group)
{
    json_begin(json, '{');
    json_key(json, "group");
    json_str(json, group->name);
    put_count(json, "right", group->right);
    put_count(json, "wrong", group->wrong);
    put_count(json, "right_accepted", group->right_accepted);
    put_count(json, "wrong_accepted", group->wrong_accepted);
    put_count(json, "silent", group->silent);
    put_interval(json, "tpr", &group->tpr);
    put_interval(json, "fpr", &group->fpr);
    put_interval(json, "rank", &group->rank);
    put_count(json, "ranked", group->ranked);
    put_number(json, "auc", group->auc);
    put_interval(json, "best", &group->best);
    put_number(json, "chance", group->chance);
    json_end(json, '}');
}

void calibration_json(const struct calibration *c, struct buf *json)
{
    json_begin(json, '{');
    json_key(json, "verifier");
    json_str(json, c->verifier);
    json_key(json, "truth");
    json_str(json, c->truth);
    put_number(json, "threshold", c->threshold);
    json_key(json, "chosen");
    json_bool(json, c->chosen);
    json_key(json, "window");
    json_begin(json, '{');
    put_number(json, "low", c->window.low);
    put_number(json, "high", c->window.high);
    put_number(json, "share", c->window.share);
    put_number(json, "outside", c->window.outside);
    json_end(json, '}');
    json_key(json, "groups");
    json_begin(json, '[');
    for (uint32_t g = 0; g < c->groups_len; g++)
        put_group(json, &c->groups[g]);
    json_end(json, ']');
    json_end(json, '}');
}
