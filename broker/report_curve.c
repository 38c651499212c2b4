/* report_curve.c - see report_curve.h. */
#include "broker/report_curve.h"

#include "broker/policy/kernel.h"
#include "common/limits.h"
#include "common/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 1000, BOOTSTRAP_MAX = 2000 };

/* -- what an arm would have done ------------------------------------------------------------------------ */

static struct prompt_view view_of(const struct core *core, const struct arm_info *arm, uint32_t prompt, uint32_t cap,
                                  const struct stats *stats, int policy)
{
    return (struct prompt_view){
        .prompt = prompt,
        .cap = cap,
        .opened = stats->delivered,
        .seed = arm->seed,
        .schedule = arm->schedule,
        .stats = stats,
        .cost = 1,
        .options = arm->options[policy],
        .prior = core_belief(core, arm->id, prompt),
    };
}

static bool stops(const struct core *core, const struct arm_info *arm, uint32_t prompt, uint32_t cap,
                  const struct stats *stats)
{
    struct prompt_view view = view_of(core, arm, prompt, cap, stats, 2);
    if (arm->stopper->stop(&view))
        return true;
    view.options = arm->options[1];
    return arm->allocator->solved != NULL && arm->allocator->solved(&view);
}

/* What an arm submitted for one prompt, or would have. */
struct submitted {
    uint32_t used; /* rollouts */
    uint32_t winners[LIMIT_TOP], len;
};

/* Folds the recorded prefix until the cap is reached or, if it decides again, the arm stops; then selects. */
static struct submitted decide(const struct core *core, const struct arm_info *arm, uint32_t prompt, uint32_t cap,
                               bool again)
{
    struct submitted submitted;
    struct stats stats;
    struct key key;
    struct item item;
    stats_init(&stats, arm->answering.top > 1 || policies_read_items(arm->allocator, arm->stopper, arm->selector));
    for (uint32_t k = 0; k < cap && core_delivered(core, arm->id, prompt, k, &key); k++) {
        if (!core_item(core, arm->id, &key, k, &item))
            break;
        stats_fold(&stats, &item);
        if (again && stops(core, arm, prompt, cap, &stats))
            break;
    }
    struct prompt_view view = view_of(core, arm, prompt, again ? cap : arm->n, &stats, 3);
    submitted.used = stats.delivered;
    submitted.len = policies_select_top(arm->selector, &arm->answering, &view, submitted.winners);
    stats_clear(&stats);
    return submitted;
}

/* By what is recorded, if n is the arm's: a fact. */
static struct submitted submitted_at(const struct core *core, const struct arm_info *arm, uint32_t prompt, uint32_t n)
{
    struct cell_info cell = core_cell(core, arm->id, prompt);
    /* Its price was another one then, and does not look at n. */
    if (arm->price > 0 && n != arm->n)
        return decide(core, arm, prompt, n < cell.stop ? n : cell.stop, false);
    if (arm->trees == 0 && n != arm->n)
        return decide(core, arm, prompt, n, true);
    if (arm->answering.top > 1)
        return decide(core, arm, prompt, cell.stop, false);
    return (struct submitted){cell.stop, {cell.winner}, cell.winner != NO_ORDINAL};
}

uint32_t arm_submitted(const struct core *core, const struct arm_info *arm, uint32_t prompt, uint32_t n,
                       uint32_t winners[LIMIT_TOP])
{
    struct submitted submitted = submitted_at(core, arm, prompt, n);
    memcpy(winners, submitted.winners, submitted.len * sizeof *winners);
    return submitted.len;
}

/* -- right or wrong --------------------------------------------------------------------------------------- */

struct tally {
    uint32_t right, wrong, unknown, pending;
};

/* A rollout that failed for good has no truth, and is certainly not right. */
static void tally_add(const struct core *core, uint32_t truth, const struct key *key, struct tally *tally)
{
    struct rollout_info rollout;
    struct verdict verdict;
    if (core_rollout(core, key, &rollout) && rollout.state == ROLLOUT_FAILED)
        tally->wrong++;
    else if (!core_verdict(core, key, truth, &verdict))
        tally->pending++;
    else if (!outcome_decides(verdict.outcome))
        tally->unknown++;
    else if (verdict.outcome == OUTCOME_PASS)
        tally->right++;
    else
        tally->wrong++;
}

/* One right answer is enough; without any, all must be judged. Nothing submitted is not right. */
static void judge_winners(const struct core *core, const struct arm_info *arm, uint32_t prompt,
                          const struct submitted *submitted, struct sample *sample)
{
    struct tally tally = {0};
    struct key key;
    for (uint32_t i = 0; i < submitted->len; i++)
        if (core_delivered(core, arm->id, prompt, submitted->winners[i], &key))
            tally_add(core, arm->truth, &key, &tally);
    sample->answered = submitted->len > 0;
    sample->right = tally.right > 0;
    sample->judgement = tally.right > 0     ? JUDGED
                        : tally.pending > 0 ? JUDGED_PENDING
                        : tally.unknown > 0 ? JUDGED_UNKNOWN
                                            : JUDGED;
}

static struct tally tally_prefix(const struct core *core, const struct arm_info *arm, uint32_t prompt, uint32_t len)
{
    struct tally tally = {0};
    struct key key;
    for (uint32_t k = 0; k < len && core_delivered(core, arm->id, prompt, k, &key); k++)
        tally_add(core, arm->truth, &key, &tally);
    return tally;
}

/* Is one of the first `used` right? If rollouts are exchangeable, the first N are one draw of N among all
 * that were delivered, and the mean over all such draws has less variance. */
static void judge_coverage(const struct core *core, const struct arm_info *arm, uint32_t prompt, uint32_t used,
                           struct sample *sample)
{
    sample->judgement = JUDGED;
    sample->answered = used > 0;
    if (sample_unbiased(arm) && used > 0) {
        struct tally all = tally_prefix(core, arm, prompt, UINT32_MAX);
        if (used <= all.right + all.wrong) {
            sample->right = pass_at_k(all.right + all.wrong, all.right, used);
            return;
        }
    }
    struct tally tally = tally_prefix(core, arm, prompt, used);
    if (tally.right > 0)
        sample->right = 1;
    else if (tally.pending > 0)
        sample->judgement = JUDGED_PENDING;
    else if (tally.unknown > 0)
        sample->judgement = JUDGED_UNKNOWN;
}

/* -- cost --------------------------------------------------------------------------------------------------- */

static void charge(const struct core *core, const struct arm_info *arm, const struct key *key, struct sample *sample)
{
    struct rollout_info rollout;
    struct verdict verdict;
    bool judged, paid = core_paid(core, arm->id, key, &judged);
    if (!core_rollout(core, key, &rollout) || rollout.state == ROLLOUT_OPEN)
        return;
    bool root = rollout.parent == NO_ORDINAL; /* what lies below was charged with its ancestors */
    sample->tokens += paid ? 0 : (root ? rollout.tokens_in : 0) + (uint64_t)rollout.tokens_out;
    sample->slot_ms += paid ? 0 : rollout.latency_ms;
    sample->cost += paid ? 0 : rollout.cost;
    if (judged || (rollout.finish == FINISH_KILLED && arm->verifier != arm->truth))
        return; /* no verdict was asked for */
    if (arm->verifier != NO_ID && (arm->trees == 0 || core_verdict(core, key, arm->verifier, &verdict)))
        sample->cost += core_verifier(core, arm->verifier).price;
}

static void count(const struct core *core, const struct arm_info *arm, const struct key *key, struct sample *sample)
{
    struct rollout_info rollout;
    bool judged;
    if (!core_rollout(core, key, &rollout) || core_paid(core, arm->id, key, &judged))
        return;
    sample->rollouts++;
    sample->truncated += rollout.finish == FINISH_LENGTH;
    sample->raced += rollout.raced;
}

static void charge_trees(const struct core *core, const struct arm_info *arm, uint32_t prompt, struct sample *sample)
{
    for (uint32_t t = 0; t < arm->trees; t++) {
        uint32_t nodes = core_tree_nodes(core, arm->id, prompt, t);
        for (uint32_t n = 0; n < nodes; n++)
            charge(core, arm, &(struct key){TASK_GENERATE, arm->id, prompt, t, n, NO_ID}, sample);
    }
}

/* -- arms of bins ------------------------------------------------------------------------------------------- */

bool arm_is_part(const struct core *core, const struct arm_info *whole, uint32_t arm)
{
    struct arm_info part = core_arm(core, arm);
    return part.sweep == whole->sweep && strcmp(part.of, whole->of) == 0;
}

struct arm_info arm_whole(const struct core *core, uint32_t part)
{
    struct arm_info whole = core_arm(core, part);
    for (uint32_t i = 0, n = 0; i < core_sweep(core, whole.sweep).arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, whole.sweep, i));
        if (!arm_is_part(core, &whole, arm.id))
            continue;
        whole.oracle = whole.oracle || arm.oracle;
        if (arm.bin == 0 || arm.n <= n)
            continue;
        whole.n = n = arm.n;
        whole.selector = arm.selector;
        whole.answering = arm.answering;
    }
    whole.name = whole.of;
    whole.whole = true;
    whole.trees = 0;
    return whole;
}

static void sample_pay(struct sample *to, const struct sample *from)
{
    to->rollouts += from->rollouts;
    to->truncated += from->truncated;
    to->raced += from->raced;
    to->tokens += from->tokens;
    to->slot_ms += from->slot_ms;
    to->cost += from->cost;
}

/* What the one bin gives that the prompt is of; of the pilot only what it costs. */
static struct sample sample_whole(const struct core *core, const struct arm_info *whole, uint32_t prompt)
{
    struct sample sample = {.judgement = JUDGED_UNDECIDED}, pilot = {0};
    for (uint32_t i = 0; i < core_sweep(core, whole->sweep).arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, whole->sweep, i));
        if (!arm_is_part(core, whole, arm.id))
            continue;
        struct cell_info cell = core_cell(core, arm.id, prompt);
        if (cell.decided == DECIDED_NOT)
            return (struct sample){.judgement = JUDGED_UNDECIDED};
        if (arm.bin == 0)
            pilot = sample_at(core, &arm, prompt, arm.n);
        else if (cell.decided != DECIDED_ELSEWHERE)
            sample = sample_at(core, &arm, prompt, arm.n);
    }
    if (sample.judgement != JUDGED_UNDECIDED)
        sample_pay(&sample, &pilot);
    return sample;
}

struct sample sample_at(const struct core *core, const struct arm_info *arm, uint32_t prompt, uint32_t n)
{
    if (arm->whole)
        return sample_whole(core, arm, prompt);
    struct sample sample = {.judgement = JUDGED_UNDECIDED};
    struct cell_info cell = core_cell(core, arm->id, prompt);
    if (cell.decided == DECIDED_NOT)
        return sample;
    struct submitted submitted = submitted_at(core, arm, prompt, n);
    struct key key;
    for (uint32_t k = 0; k < submitted.used && core_delivered(core, arm->id, prompt, k, &key); k++) {
        count(core, arm, &key, &sample);
        if (arm->trees == 0)
            charge(core, arm, &key, &sample);
    }
    charge_trees(core, arm, prompt, &sample);
    sample.exhausted = cell.decided == DECIDED_EXHAUSTED && n > cell.stop;
    if (arm->truth == NO_ID)
        sample.judgement = JUDGED_PENDING;
    else if (arm->selector->covers)
        judge_coverage(core, arm, prompt, submitted.used, &sample);
    else
        judge_winners(core, arm, prompt, &submitted, &sample);
    return sample;
}

bool sample_unbiased(const struct arm_info *arm)
{
    return arm->selector->covers && arm->trees == 0 && arm->of[0] == '\0' && arm->allocator == &allocate_uniform &&
           arm->stopper == &stop_none;
}

/* -- intervals ------------------------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double mean_of(const double *values, uint32_t len)
{
    double sum = 0;
    for (uint32_t i = 0; i < len; i++)
        sum += values[i];
    return sum / len;
}

static struct interval normal_interval(const double *values, uint32_t len)
{
    double mean = mean_of(values, len), squares = 0;
    for (uint32_t i = 0; i < len; i++)
        squares += (values[i] - mean) * (values[i] - mean);
    double half = 1.959964 * sqrt(squares / len / len);
    return (struct interval){mean, fmax(0, mean - half), fmin(1, mean + half)};
}

struct interval interval_of(const double *values, uint32_t len, uint64_t seed)
{
    if (len == 0)
        return (struct interval){NAN, NAN, NAN};
    if (len > BOOTSTRAP_MAX)
        return normal_interval(values, len);
    double means[RESAMPLES];
    for (uint32_t r = 0; r < RESAMPLES; r++) {
        double sum = 0;
        for (uint32_t i = 0; i < len; i++)
            sum += values[rng_u64(seed, RNG_BOOTSTRAP, r, i) % len];
        means[r] = sum / len;
    }
    qsort(means, RESAMPLES, sizeof means[0], by_value);
    return (struct interval){mean_of(values, len), means[RESAMPLES * 25 / 1000], means[RESAMPLES * 975 / 1000 - 1]};
}
