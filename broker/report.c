/* report.c - the curves of every group; report_curve.c computes what one prompt gives at one N. */
#include "broker/report.h"

#include "broker/calibration.h"
#include "broker/report_curve.h"
#include "broker/report_parts.h"
#include "common/limits.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Prompts ordered by group: those of group g are order[from[g]] .. order[from[g + 1] - 1]. */
struct sorted {
    uint32_t *order, *from;
};

static struct sorted sort_prompts(const struct core *core, uint32_t set)
{
    uint32_t prompts = core_set_prompts(core, set), groups = core_groups(core, set);
    struct sorted sorted = {xalloc(prompts * sizeof(uint32_t)), xalloc((groups + 1) * sizeof(uint32_t))};
    uint32_t *next = xalloc((groups + 1) * sizeof *next);
    for (uint32_t p = 0; p < prompts; p++)
        sorted.from[core_prompt(core, set, p).group + 1]++;
    for (uint32_t g = 0; g < groups; g++)
        sorted.from[g + 1] += sorted.from[g];
    memcpy(next, sorted.from, groups * sizeof *next);
    for (uint32_t p = 0; p < prompts; p++)
        sorted.order[next[core_prompt(core, set, p).group]++] = p;
    free(next);
    return sorted;
}

static void sorted_clear(struct sorted *sorted)
{
    free(sorted->order);
    free(sorted->from);
}

/* -- which points --------------------------------------------------------------------------------------- */

/* An arm and an N of it. Tree arms of one name differ in N. */
struct spot {
    uint32_t arm, n;
};

struct spots {
    struct spot *at;
    uint32_t len, cap;
};

static void spot_add(struct spots *spots, uint32_t arm, uint32_t n)
{
    if (spots->len == spots->cap) {
        spots->cap = spots->cap == 0 ? 16 : 2 * spots->cap;
        spots->at = xrealloc(spots->at, spots->cap * sizeof *spots->at);
    }
    spots->at[spots->len++] = (struct spot){arm, n};
}

static struct arm_info arm_of(const struct core *core, uint32_t id)
{
    struct arm_info arm = core_arm(core, id);
    return arm.of[0] != '\0' ? arm_whole(core, id) : arm;
}

/* A verdict that compared all n rollouts says nothing of fewer, and neither does a tree. */
static void spots_of_arm(struct spots *spots, const struct core *core, const struct arm_info *arm)
{
    if (arm->trees > 0 || (arm->verifier != NO_ID && core_verifier(core, arm->verifier).group)) {
        spot_add(spots, arm->id, arm->n);
        return;
    }
    for (uint32_t i = 0; i < arm->report_at_len; i++)
        if (arm->report_at[i] > 0 && arm->report_at[i] <= arm->n)
            spot_add(spots, arm->id, arm->report_at[i]);
    for (uint32_t n = 1; arm->report_at_len == 0 && n < arm->n; n *= 2)
        spot_add(spots, arm->id, n);
    if (arm->report_at_len == 0)
        spot_add(spots, arm->id, arm->n);
}

static int by_n(const void *a, const void *b)
{
    const struct spot *x = a, *y = b;
    return (x->n > y->n) - (x->n < y->n);
}

/* All spots of the arms that share the name of the i-th; none when an earlier arm has that name. An arm of bins has one,
 * whatever its bins have. */
static struct spots spots_of(const struct core *core, uint32_t sweep, uint32_t i)
{
    struct spots spots = {0};
    const struct arm_info first = arm_of(core, core_sweep_arm(core, sweep, i));
    for (uint32_t j = 0; j < core_sweep(core, sweep).arms; j++) {
        struct arm_info arm = arm_of(core, core_sweep_arm(core, sweep, j));
        if (strcmp(arm.name, first.name) != 0)
            continue;
        if (j < i)
            return spots;
        if (!arm.whole)
            spots_of_arm(&spots, core, &arm);
    }
    if (first.whole)
        spot_add(&spots, first.id, first.n);
    if (spots.len > 0)
        qsort(spots.at, spots.len, sizeof *spots.at, by_n);
    return spots;
}

/* -- points ----------------------------------------------------------------------------------------------- */

static void point_add(struct report_point *point, const struct sample *sample, double *values)
{
    point->prompts += sample->judgement != JUDGED_UNDECIDED;
    point->undecided += sample->judgement == JUDGED_UNDECIDED;
    point->unknown += sample->judgement == JUDGED_UNKNOWN;
    point->pending += sample->judgement == JUDGED_PENDING;
    if (sample->judgement == JUDGED) {
        values[point->judged++] = sample->right;
        point->answered += sample->answered;
    }
    point->rollouts += sample->rollouts;
    point->tokens += sample->tokens;
    point->slot_ms += sample->slot_ms;
    point->cost += sample->cost;
    point->truncated += sample->truncated;
    point->raced += sample->raced;
    point->exhausted += sample->exhausted;
}

/* Values: room for one per prompt of the group. */
static void point_fill(struct report_point *point, const struct sample *samples, const uint32_t *prompts, uint32_t len,
                       uint64_t seed, double *values)
{
    for (uint32_t i = 0; i < len; i++)
        point_add(point, &samples[prompts[i]], values);
    struct interval interval = interval_of(values, point->judged, seed);
    point->accuracy = interval.mean;
    point->low = interval.low;
    point->high = interval.high;
}

struct work {
    const struct core *core;
    struct report *report;
    struct sorted sorted;
    struct sample *samples; /* one per prompt */
    double *values;
};

static void spot_points(struct work *work, const struct spot *spot, uint32_t curve, uint32_t i)
{
    struct arm_info arm = arm_of(work->core, spot->arm);
    struct report *report = work->report;
    for (uint32_t p = 0; p < arm.prompts; p++)
        work->samples[p] = sample_at(work->core, &arm, p, spot->n);
    for (uint32_t g = 0; g < report->groups_len; g++) {
        struct report_group *group = &report->groups[g];
        struct report_point *point = &group->curves[curve].points[i];
        const uint32_t *prompts = work->sorted.order + (g == 0 ? 0 : work->sorted.from[g - 1]);
        point->n = spot->n;
        point->unbiased = sample_unbiased(&arm);
        point_fill(point, work->samples, prompts, group->prompts, report->sweep.seed, work->values);
    }
}

/* Some part ahead of the i-th draws from this model, or the i-th does on an earlier leg. */
static bool named(const struct core *core, const struct arm_info *whole, uint32_t i, uint32_t leg, uint32_t model)
{
    for (uint32_t j = 0; j <= i; j++) {
        struct arm_info part = core_arm(core, core_sweep_arm(core, whole->sweep, j));
        uint32_t legs = j < i ? part.schedule->legs : leg;
        for (uint32_t l = 0; arm_is_part(core, whole, part.id) && l < legs; l++)
            if (core_pool(core, part.pools[l]).model == model)
                return true;
    }
    return false;
}

/* Of an arm of bins those of its parts, each once. */
static char *models_of(const struct core *core, const struct arm_info *arm)
{
    struct buf names = {0};
    if (!arm->whole)
        core_arm_models(core, arm->id, &names);
    for (uint32_t i = 0; arm->whole && i < core_sweep(core, arm->sweep).arms; i++) {
        struct arm_info part = core_arm(core, core_sweep_arm(core, arm->sweep, i));
        for (uint32_t leg = 0; arm_is_part(core, arm, part.id) && leg < part.schedule->legs; leg++) {
            uint32_t model = core_pool(core, part.pools[leg]).model;
            if (!named(core, arm, i, leg, model))
                buf_printf(&names, "%s%s", names.len > 0 ? "+" : "", core_model(core, model).name);
        }
    }
    return names.data;
}

/* What each bin of an arm gave on all prompts; NULL: it has none. */
static struct report_bin *curve_bins(const struct work *work, const struct arm_info *arm, uint32_t *len)
{
    const struct core *core = work->core;
    struct report_bin *bins = arm->whole ? xalloc(LIMIT_BINS * sizeof *bins) : NULL;
    *len = 0;
    for (uint32_t i = 0; arm->whole && i < core_sweep(core, arm->sweep).arms && *len < LIMIT_BINS; i++) {
        struct report_bin bin = {.arm = core_arm(core, core_sweep_arm(core, arm->sweep, i))};
        if (!arm_is_part(core, arm, bin.arm.id) || bin.arm.bin == 0)
            continue;
        for (uint32_t p = 0; p < bin.arm.prompts; p++) {
            enum decided decided = core_cell(core, bin.arm.id, p).decided;
            struct sample sample = sample_at(core, arm, p, arm->n);
            if (decided == DECIDED_NOT || decided == DECIDED_ELSEWHERE)
                continue;
            bin.prompts++;
            bin.rollouts += sample.rollouts;
            bin.judged += sample.judgement == JUDGED;
            bin.right += sample.judgement == JUDGED ? sample.right : 0;
        }
        bins[(*len)++] = bin;
    }
    return bins;
}

static void curve_add(struct work *work, const struct spots *spots)
{
    struct report *report = work->report;
    uint32_t curve = report->curves_len++;
    struct arm_info arm = arm_of(work->core, spots->at[spots->len - 1].arm);
    for (uint32_t g = 0; g < report->groups_len; g++) {
        struct report_group *group = &report->groups[g];
        group->curves = xrealloc(group->curves, report->curves_len * sizeof *group->curves);
        group->curves[curve] = (struct report_curve){
            .arm = arm,
            .model = models_of(work->core, &arm),
            .sweep = arm.sweep == report->sweep.id ? NULL : core_sweep(work->core, arm.sweep).name,
            .points = xalloc(spots->len * sizeof(struct report_point)),
            .points_len = spots->len,
        };
    }
    struct report_curve *all = &report->groups[0].curves[curve];
    all->bins = curve_bins(work, &arm, &all->bins_len);
    for (uint32_t i = 0; i < spots->len; i++)
        spot_points(work, &spots->at[i], curve, i);
}

/* One group that holds every prompt says nothing that "all" does not. */
static void groups_new(struct work *work, uint32_t set)
{
    struct report *report = work->report;
    uint32_t groups = core_groups(work->core, set);
    report->groups_len = groups > 1 ? groups + 1 : 1;
    report->groups = xalloc(report->groups_len * sizeof *report->groups);
    report->groups[0] = (struct report_group){.name = "all", .prompts = core_set_prompts(work->core, set)};
    for (uint32_t g = 1; g < report->groups_len; g++)
        report->groups[g] = (struct report_group){
            .name = core_group(work->core, set, g - 1),
            .prompts = work->sorted.from[g] - work->sorted.from[g - 1],
        };
}

/* -- verdicts -------------------------------------------------------------------------------------------- */

static void count_verdict(const struct core *core, const struct key *key, uint32_t verifier,
                          struct report_verdicts *verdicts)
{
    struct verdict verdict;
    if (!core_verdict(core, key, verifier, &verdict))
        return;
    verdicts->outcomes[verdict.outcome]++;
    verdicts->len++;
}

static bool judges(const struct arm_info *arm, uint32_t verifier)
{
    return arm->verifier == verifier || arm->truth == verifier;
}

static void count_trees(const struct core *core, const struct arm_info *arm, uint32_t verifier,
                        struct report_verdicts *verdicts)
{
    for (uint32_t p = 0; p < arm->prompts; p++)
        for (uint32_t t = 0; t < arm->trees; t++)
            for (uint32_t n = 0; n < core_tree_nodes(core, arm->id, p, t); n++)
                count_verdict(core, &(struct key){TASK_GENERATE, arm->id, p, t, n, NO_ID}, verifier, verdicts);
}

/* Of a pool each rollout is counted once, however many arms of the sweep share it: by the first that goes so far. */
static uint32_t counted_to(const struct core *core, uint32_t sweep, uint32_t i, uint32_t pool, uint32_t verifier,
                           uint32_t prompt)
{
    uint32_t counted = 0;
    for (uint32_t j = 0; j < i; j++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, sweep, j));
        uint32_t reach = core_arm_reach(core, arm.id, pool, prompt);
        counted = judges(&arm, verifier) && reach > counted ? reach : counted;
    }
    return counted;
}

static void count_leg(const struct core *core, uint32_t sweep, uint32_t i, uint32_t pool, uint32_t verifier,
                      struct report_verdicts *verdicts)
{
    struct arm_info arm = core_arm(core, core_sweep_arm(core, sweep, i));
    struct key key = {TASK_GENERATE, pool, 0, NO_ID, 0, NO_ID};
    for (; key.prompt < arm.prompts; key.prompt++) {
        uint32_t reach = core_arm_reach(core, arm.id, pool, key.prompt);
        for (key.item = counted_to(core, sweep, i, pool, verifier, key.prompt); key.item < reach; key.item++)
            count_verdict(core, &key, verifier, verdicts);
    }
}

static struct report_verdicts verdicts_of(const struct core *core, uint32_t sweep, uint32_t verifier)
{
    struct report_verdicts verdicts = {.verifier = core_verifier(core, verifier).name};
    for (uint32_t i = 0; i < core_sweep(core, sweep).arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, sweep, i));
        if (!judges(&arm, verifier))
            continue;
        if (arm.trees > 0)
            count_trees(core, &arm, verifier, &verdicts);
        for (uint32_t leg = 0; arm.trees == 0 && leg < arm.schedule->legs; leg++)
            count_leg(core, sweep, i, arm.pools[leg], verifier, &verdicts);
    }
    return verdicts;
}

static void verdicts_add(const struct core *core, struct report *report)
{
    report->verdicts = xalloc(core_verifiers(core) * sizeof *report->verdicts);
    for (uint32_t v = 0; v < core_verifiers(core); v++) {
        struct report_verdicts verdicts = verdicts_of(core, report->sweep.id, v);
        if (verdicts.len > 0)
            report->verdicts[report->verdicts_len++] = verdicts;
    }
}

static bool calibrated(const struct report *report, const char *verifier)
{
    for (uint32_t i = 0; i < report->verifiers_len; i++)
        if (strcmp(report->verifiers[i]->verifier, verifier) == 0)
            return true;
    return false;
}

/* How far the verifier of this arm agrees with the truth, unless it is the truth or was looked at before. */
static void verifier_add(const struct core *core, struct report *report, const struct arm_info *arm)
{
    if (arm->verifier == NO_ID || report->sweep.truth == NO_ID || arm->verifier == report->sweep.truth ||
        calibrated(report, core_verifier(core, arm->verifier).name))
        return;
    struct calibration *found =
        calibration_new(core, arm->sweep, arm->verifier, report->sweep.truth, NAN, CALIBRATION_WINDOW);
    if (found == NULL)
        return;
    report->verifiers = xrealloc(report->verifiers, (report->verifiers_len + 1) * sizeof(struct calibration *));
    report->verifiers[report->verifiers_len++] = found;
}

static void curves_add(struct work *work, uint32_t sweep)
{
    for (uint32_t i = 0; i < core_sweep(work->core, sweep).arms; i++) {
        struct spots spots = spots_of(work->core, sweep, i);
        if (spots.len > 0)
            curve_add(work, &spots);
        free(spots.at);
    }
}

struct report *report_beside(const struct core *core, uint32_t sweep, uint32_t other, double wall_s)
{
    struct report *report = xalloc(sizeof *report);
    report->sweep = core_sweep(core, sweep);
    report->wall_s = wall_s;
    report->target = NAN;
    report->bought = report->sweep.accepted.rollouts + report->sweep.failed;
    report->killed = core_killed_all(core, sweep);
    if (report->sweep.truth != NO_ID)
        report->truth = core_verifier(core, report->sweep.truth).name;
    struct work work = {
        .core = core,
        .report = report,
        .sorted = sort_prompts(core, report->sweep.set),
        .samples = xalloc(report->sweep.prompts * sizeof(struct sample)),
        .values = xalloc(report->sweep.prompts * sizeof(double)),
    };
    groups_new(&work, report->sweep.set);
    verdicts_add(core, report);
    for (uint32_t i = 0; i < report->sweep.arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, sweep, i));
        report->charged += arm.charged.rollouts;
        verifier_add(core, report, &arm);
    }
    if (other != NO_ID)
        curves_add(&work, other);
    curves_add(&work, sweep);
    report_more_fill(core, report);
    sorted_clear(&work.sorted);
    free(work.samples);
    free(work.values);
    return report;
}

struct report *report_new(const struct core *core, uint32_t sweep, double wall_s)
{
    return report_beside(core, sweep, NO_ID, wall_s);
}

struct report_table *report_table_add(struct report *report, const char *key, const char *title,
                                      const struct report_column *columns)
{
    assert(report->tables_len < REPORT_TABLES_MAX);
    struct report_table *table = &report->tables[report->tables_len++];
    report_table_init(table, key, title, columns);
    return table;
}

void report_tables_fill(const struct core *core, struct report *report)
{
    if (report->sweep.truth == NO_ID || report->curves_len == 0)
        return;
    report_rollouts_fill(core, report);
    report_arms_fill(core, report);
    report_turns_fill(core, report);
}

void report_free(struct report **report_ptr)
{
    struct report *report = *report_ptr;
    if (report == NULL)
        return;
    for (uint32_t g = 0; g < report->groups_len; g++) {
        for (uint32_t c = 0; c < report->curves_len; c++) {
            free(report->groups[g].curves[c].points);
            free(report->groups[g].curves[c].model);
            free(report->groups[g].curves[c].bins);
        }
        free(report->groups[g].curves);
    }
    free(report->groups);
    free(report->verdicts);
    for (uint32_t i = 0; i < report->verifiers_len; i++)
        calibration_free(&report->verifiers[i]);
    free(report->verifiers);
    report_more_clear(report);
    for (uint32_t i = 0; i < report->tables_len; i++)
        report_table_clear(&report->tables[i]);
    free(report);
    *report_ptr = NULL;
}
