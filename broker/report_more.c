/* report_more.c - what a report says beyond its curves: the mix of prompts, what more rollouts would cover, and what
 * adaptive arms saved. Printed by report_more_print.c. */
#include "broker/policy/kernel.h"
#include "broker/report_curve.h"
#include "broker/report_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -- the pools ------------------------------------------------------------------------------------------------------ */

/* Right and judged rollouts of one prompt. One that failed for good has no truth, and is certainly not right. */
static struct estimate_count count_prompt(const struct core *core, uint32_t pool, uint32_t truth, uint32_t prompt,
                                          uint32_t delivered)
{
    struct estimate_count count = {0};
    for (uint32_t k = 0; k < delivered; k++) {
        struct key key = {TASK_GENERATE, pool, prompt, NO_ID, k, NO_ID};
        struct rollout_info rollout;
        struct verdict verdict;
        bool failed = core_rollout(core, &key, &rollout) && rollout.state == ROLLOUT_FAILED;
        bool known = core_verdict(core, &key, truth, &verdict) && outcome_decides(verdict.outcome);
        count.n += failed || known;
        count.right += !failed && known && verdict.outcome == OUTCOME_PASS;
    }
    return count;
}

uint32_t report_delivered(const struct core *core, uint32_t sweep, uint32_t pool, uint32_t prompt)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < core_sweep(core, sweep).arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, sweep, i));
        uint32_t delivered = core_arm_reach(core, arm.id, pool, prompt);
        most = delivered > most ? delivered : most;
    }
    return most;
}

static void mix_add(struct report_mix *mix, const struct estimate_count *count)
{
    mix->prompts += count->n > 0;
    mix->unjudged += count->n == 0;
    mix->all_right += count->n > 0 && count->right == count->n;
    mix->none_right += count->n > 0 && count->right == 0;
    mix->rollouts += count->n;
}

/* Coverage of n of each prompt's rollouts, none of which has fewer: pass@n, unbiased. */
static struct anchor anchor_measured(const struct estimate_count *counts, uint32_t len, uint32_t n)
{
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < len; i++) {
        double covered = pass_at_k(counts[i].n, counts[i].right, n);
        sum += covered;
        squares += covered * covered;
    }
    double mean = sum / len;
    return (struct anchor){n, mean, sqrt(fmax(0, squares / len - mean * mean) / len)};
}

enum { REACH_PROMPTS_MIN = 10 };

/* Extrapolates from the largest n that (nearly) all prompts have. Where they have different numbers, as after an
 * adaptive arm alone, the law says what the largest would have covered. Counts: judged prompts only. */
static struct report_reach reach_of(const struct estimate_count *counts, uint32_t len)
{
    struct report_reach reach = {0};
    uint32_t least = UINT32_MAX, most = 0;
    uint64_t right = 0, all = 0;
    for (uint32_t i = 0; i < len; i++) {
        least = counts[i].n < least ? counts[i].n : least;
        most = counts[i].n > most ? counts[i].n : most;
        right += counts[i].right;
        all += counts[i].n;
    }
    if (len < REACH_PROMPTS_MIN || most < 2 || right == 0 || right == all)
        return reach;
    reach.known = true;
    reach.law = fit_rates(counts, len);
    reach.measured = (uint64_t)least * 10 >= (uint64_t)most * 9;
    if (reach.measured) {
        reach.anchor = anchor_measured(counts, len, least);
    } else {
        double seen = coverage_exact(&reach.law, most);
        reach.anchor = (struct anchor){most, seen, sqrt(seen * (1 - seen) / len)};
    }
    return reach;
}

/* Counts of the judged prompts, from the first `most` rollouts of each; how many. Also adds to mixes, if there are any. */
static uint32_t count_prompts(const struct core *core, const struct report *report, const struct report_pool *pool,
                              uint32_t most, struct report_mix *mixes, struct estimate_count *counts)
{
    uint32_t judged = 0;
    for (uint32_t p = 0; p < report->sweep.prompts; p++) {
        uint32_t delivered = report_delivered(core, report->sweep.id, pool->pool, p);
        uint32_t len = delivered < most ? delivered : most;
        struct estimate_count count = count_prompt(core, pool->pool, report->sweep.truth, p, len);
        if (mixes != NULL)
            mix_add(&mixes[0], &count);
        if (mixes != NULL && report->groups_len > 1)
            mix_add(&mixes[1 + core_prompt(core, report->sweep.set, p).group], &count);
        if (count.n > 0)
            counts[judged++] = count;
    }
    return judged;
}

/* What is still to be solved; the counts are not whole afterwards. */
static void unsolved_fill(struct report_pool *pool, struct estimate_count *counts, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        if (counts[i].right == 0)
            counts[pool->unsolved++] = counts[i];
    if (pool->unsolved > 0)
        pool->solves =
            pool->unsolved * coverage_posterior(&pool->reach.law, counts, pool->unsolved, pool->reach.anchor.n);
}

static void pool_fill(const struct core *core, const struct report *report, struct report_pool *pool)
{
    struct estimate_count *counts = xalloc((report->sweep.prompts + 1) * sizeof *counts);
    pool->mixes = xalloc(report->groups_len * sizeof *pool->mixes);
    uint32_t judged = count_prompts(core, report, pool, UINT32_MAX, pool->mixes, counts);
    pool->reach = reach_of(counts, judged);
    if (pool->reach.known) {
        pool->unsolvable = fit_rates_best(counts, judged).zero;
        unsolved_fill(pool, counts, judged);
    }
    if (pool->reach.measured) {
        judged = count_prompts(core, report, pool, (uint32_t)pool->reach.anchor.n / 2, NULL, counts);
        pool->half = reach_of(counts, judged);
    }
    free(counts);
}

static void pool_add(const struct core *core, struct report *report, uint32_t id)
{
    for (uint32_t j = 0; j < report->pools_len; j++)
        if (report->pools[j].pool == id)
            return;
    if (core_pool(core, id).kill.window > 0)
        return; /* not all of its rollouts are whole */
    struct report_pool *pool = &report->pools[report->pools_len++];
    pool->pool = id;
    pool->model = core_model(core, core_pool(core, id).model).name;
    pool_fill(core, report, pool);
}

static void pools_add(const struct core *core, struct report *report)
{
    report->pools = xalloc(core_pools(core) * sizeof *report->pools);
    for (uint32_t i = 0; i < report->sweep.arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, report->sweep.id, i));
        for (uint32_t leg = 0; arm.trees == 0 && leg < arm.schedule->legs; leg++)
            pool_add(core, report, arm.pools[leg]);
    }
}

/* -- savings -------------------------------------------------------------------------------------------------------- */

static bool plain(const struct arm_info *arm)
{
    return arm->trees == 0 && !arm->whole && arm->stopper == &stop_none &&
           (arm->allocator == &allocate_uniform || arm->allocator == &allocate_existing);
}

/* The pool, or that of the same model whose rollouts are whole where a kill rule ends some. */
static bool whole_of(const struct core *core, uint32_t whole, uint32_t id)
{
    struct pool_info a = core_pool(core, whole), b = core_pool(core, id);
    return whole == id || (a.kill.window == 0 && a.model == b.model && a.set == b.set && a.seed == b.seed);
}

static bool same_sequence(const struct core *core, const struct arm_info *whole, const struct arm_info *arm)
{
    bool same = schedule_equal(whole->schedule, arm->schedule);
    for (uint32_t leg = 0; same && leg < arm->schedule->legs; leg++)
        same = whole_of(core, whole->pools[leg], arm->pools[leg]);
    return same;
}

/* Curves of the arms that take all N of each prompt, of the same rollouts, winner and verifier: the one that goes furthest;
 * curves_len: there is none. */
static uint32_t uniform_of(const struct core *core, const struct report *report, const struct arm_info *arm)
{
    uint32_t found = report->curves_len, most = 0;
    for (uint32_t c = 0; c < report->curves_len; c++) {
        const struct arm_info *other = &report->groups[0].curves[c].arm;
        if (!plain(other) || !same_sequence(core, other, arm) || other->selector != arm->selector ||
            other->verifier != arm->verifier || other->n <= most)
            continue;
        most = other->n;
        found = c;
    }
    return found;
}

static bool cell_fill(struct saving_cell *cell, const struct sample *sample)
{
    *cell = (struct saving_cell){sample->right, sample->rollouts, (double)sample->tokens, (double)sample->cost / 1e6};
    return sample->judgement == JUDGED;
}

/* Both arms on the prompts that both have decided, with known truths. */
static void saving_add(const struct core *core, struct report *report, uint32_t adaptive, uint32_t base)
{
    const struct arm_info *arm = &report->groups[0].curves[adaptive].arm;
    const struct arm_info *uniform = &report->groups[0].curves[base].arm;
    uint32_t steps[SAVING_STEPS_MAX], len = saving_steps(uniform->n, steps), prompts = 0;
    struct saving_cell *cells = xalloc(((size_t)arm->prompts + 1) * (len + 1) * sizeof *cells);
    struct saving_cell *ends = cells + (size_t)arm->prompts * len;
    for (uint32_t p = 0; p < arm->prompts; p++) {
        struct sample sample = sample_at(core, arm, p, arm->n);
        bool judged = cell_fill(&ends[prompts], &sample);
        for (uint32_t s = 0; judged && s < len; s++) {
            sample = sample_at(core, uniform, p, steps[s]);
            judged = cell_fill(&cells[(size_t)prompts * len + s], &sample);
        }
        prompts += judged;
    }
    if (prompts > 0) {
        struct saving_input input = {.uniform = cells, .adaptive = ends, .prompts = prompts, .steps = len};
        report->savings[report->savings_len++] =
            (struct report_saving){adaptive, base, prompts, saving_of(&input, report->sweep.seed)};
    }
    free(cells);
}

/* The arm that takes all N of one pool alone and goes furthest, whichever way it selects, but that it measures coverage or
 * does not; curves_len: there is none. */
static uint32_t alone_of(const struct report *report, uint32_t pool, bool covers)
{
    uint32_t found = report->curves_len, most = 0;
    for (uint32_t c = 0; c < report->curves_len; c++) {
        const struct arm_info *other = &report->groups[0].curves[c].arm;
        if (!plain(other) || other->selector->covers != covers || other->schedule->legs > 1 ||
            other->pools[0] != pool || other->n <= most)
            continue;
        most = other->n;
        found = c;
    }
    return found;
}

static void savings_add(const struct core *core, struct report *report)
{
    report->savings = xalloc(report->curves_len * (LIMIT_LEGS + (size_t)1) * sizeof *report->savings + 1);
    for (uint32_t c = 0; c < report->curves_len; c++) {
        const struct arm_info *arm = &report->groups[0].curves[c].arm;
        uint32_t base = arm->whole                     ? alone_of(report, arm->pools[0], arm->selector->covers)
                        : arm->trees > 0 || plain(arm) ? report->curves_len
                                                       : uniform_of(core, report, arm);
        if (base < report->curves_len)
            saving_add(core, report, c, base);
        for (uint32_t leg = 0; arm->schedule->legs > 1 && leg < arm->schedule->legs; leg++)
            if ((base = alone_of(report, arm->pools[leg], false)) < report->curves_len)
                saving_add(core, report, c, base);
    }
}

void report_more_fill(const struct core *core, struct report *report)
{
    if (report->sweep.truth == NO_ID)
        return;
    pools_add(core, report);
    savings_add(core, report);
}

void report_more_clear(struct report *report)
{
    for (uint32_t i = 0; i < report->pools_len; i++)
        free(report->pools[i].mixes);
    free(report->pools);
    free(report->savings);
}
