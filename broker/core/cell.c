/* cell.c - one (arm, prompt) of a sampling arm: opening, ordinal delivery, decisions.
 *
 * A decision reads the delivered prefix only: ordinal k counts once all lower ones do and the arm's verdict on it is
 * there. order: arrival folds as soon as possible, so its prefix is derived; order: strict folds the oldest
 * grant of its window, waiting for it, and every fold is a fact. */
#include "broker/core/core_int.h"

#include <assert.h>
#include <stdlib.h>

void ring_push(struct ring *ring, uint32_t value)
{
    if (ring->len == ring->cap) {
        uint32_t cap = ring->cap < 16 ? 16 : 2 * ring->cap;
        uint32_t *at = xalloc(cap * sizeof *at);
        for (uint32_t i = 0; i < ring->len; i++)
            at[i] = ring->at[(ring->head + i) % ring->cap];
        free(ring->at);
        *ring = (struct ring){at, 0, ring->len, cap};
    }
    ring->at[(ring->head + ring->len++) % ring->cap] = value;
}

uint32_t ring_pop(struct ring *ring)
{
    assert(ring->len > 0);
    uint32_t value = ring->at[ring->head];
    ring->head = (ring->head + 1) % ring->cap;
    ring->len--;
    return value;
}

static const struct score *row_score(const struct core *core, const struct arm *arm, uint32_t prompt, uint32_t k)
{
    static const struct score none;
    if (arm->verifier == NO_ID)
        return &none;
    struct key key = arm_key(arm, prompt, k);
    key.kind = TASK_VERIFY;
    key.verifier = arm->verifier;
    return key_score(core, &key);
}

/* -- statistics --------------------------------------------------------------------------------------------------- */

struct item cell_item(const struct core *core, const struct arm *arm, uint32_t prompt, uint32_t k)
{
    uint32_t leg = schedule_draw(&arm->schedule, k).leg;
    return row_item(arm_row(core, arm, prompt, k), row_score(core, arm, prompt, k), k, leg);
}

/* Statistics of the delivered prefix; built anew after a restart or when a decided prompt was opened again. */
static struct stats *cell_stats(const struct core *core, const struct arm *arm, uint32_t prompt)
{
    struct cell *cell = &arm->cells[prompt];
    if (cell->stats != NULL)
        return cell->stats;
    cell->stats = xalloc(sizeof *cell->stats);
    stats_init(cell->stats, policies_read_items(arm->allocator, arm->stopper, arm->selector));
    for (uint32_t k = 0; k < cell->delivered; k++) {
        struct item item = cell_item(core, arm, prompt, k);
        stats_fold(cell->stats, &item);
    }
    return cell->stats;
}

/* Rollouts that are finished, from position 0 without a gap: those beyond what this arm has opened count. */
static uint32_t existing_of(const struct core *core, const struct arm *arm, uint32_t prompt)
{
    uint32_t k = arm->cells[prompt].opened;
    for (; k < arm->n; k++) {
        const struct row *row = arm_row(core, arm, prompt, k);
        if (row == NULL || (row->state != ROW_DONE && row->state != ROW_FAILED))
            break;
    }
    return k;
}

/* Charges only grow. */
static uint32_t spent_steps(const struct arm *arm)
{
    double share = arm_spent(arm);
    return share < 1 ? (uint32_t)(share * SPENT_STEPS) : SPENT_STEPS;
}

/* Of one more rollout, in the unit of the arm's budget. It must not drift, or the heap's order would: prompt bytes and
 * half of max_tokens. Legs differ in price, so with several of them a budget of money is one of tokens at their prices. */
static double cost_of(const struct core *core, const struct arm *arm, uint32_t prompt)
{
    const struct pool *pool = &core->pools[arm_key(arm, prompt, arm->cells[prompt].opened).owner];
    const struct model *model = &core->models[pool->model];
    double in = core->sets[pool->set].prompts[prompt].bytes, out = 0.5 * model->max_tokens;
    double money = in * (double)model->price_in + out * (double)model->price_out;
    if (arm->caps.rollouts > 0)
        return 1;
    if (arm->schedule.legs > 1 && arm->caps.cost > 0 && money > 0)
        return money;
    return arm->caps.tokens == 0 ? 1 : in + out;
}

static struct prompt_view view_of(const struct core *core, const struct arm *arm, uint32_t prompt, int policy)
{
    static const struct stats empty = {.top = NO_ORDINAL,
                                       .second = NO_ORDINAL,
                                       .top_weight = NO_ORDINAL,
                                       .first_pass = NO_ORDINAL,
                                       .best = NO_ORDINAL,
                                       .first_answer = NO_ORDINAL};
    const struct cell *cell = &arm->cells[prompt];
    return (struct prompt_view){
        .prompt = prompt,
        .cap = arm->n,
        .opened = cell->opened,
        .seed = core->sweeps[arm->sweep].seed,
        .stats = cell->delivered > 0 ? cell_stats(core, arm, prompt) : &empty,
        .schedule = &arm->schedule,
        .spent = (double)arm->spent / SPENT_STEPS,
        .price = arm->pricing.price,
        .cost = cost_of(core, arm, prompt),
        .options = arm->options[policy],
        .prior = arm_belief(arm, prompt),
    };
}

struct amounts arm_unit(const struct core *core, const struct arm *arm, uint32_t prompt, uint32_t pool)
{
    struct extremes most = {pool_most(core, pool), 1};
    if (arm->strategy->extremes != NULL)
        most = arm->strategy->extremes(arm->options[0], most.tokens);
    struct amounts unit = reserve_generate(core, pool, prompt, CHARGE_PROMPT, most.tokens);
    unit.slot_ms *= most.tasks;
    if (arm->verifier != NO_ID) {
        struct amounts verdict = reserve_verify(core, arm->verifier);
        amounts_add(&unit, &verdict);
    }
    return unit;
}

/* The same for the positions from..to. */
static struct amounts units_of(const struct core *core, const struct arm *arm, uint32_t prompt, uint32_t from,
                               uint32_t to)
{
    struct amounts sum = {0};
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++) {
        struct amounts unit = arm_unit(core, arm, prompt, arm->pools[leg]);
        amounts_times(&unit, schedule_reach(&arm->schedule, leg, to) - schedule_reach(&arm->schedule, leg, from));
        amounts_add(&sum, &unit);
    }
    return sum;
}

/* -- facts -------------------------------------------------------------------------------------------------------- */

int open_apply(struct core *core, const struct fact_open *f)
{
    if (f->arm >= core->arms_len || f->prompt >= core->arms[f->arm].prompts)
        return ERR_CORRUPT;
    struct arm *arm = &core->arms[f->arm];
    struct cell *cell = &arm->cells[f->prompt];
    if (cell->decided != DECIDED_NOT || f->count == 0 || cell->opened > arm->n || f->count > arm->n - cell->opened ||
        (arm->trees > 0 && f->count != arm->n) || bin_waits(core, arm, f->prompt))
        return ERR_CORRUPT;
    cell->opened += f->count;
    arm->unfolded += f->count;
    if (arm->trees > 0) {
        cell->trees = xalloc(arm->trees * sizeof *cell->trees);
        for (uint32_t t = 0; t < arm->trees; t++)
            cell->trees[t].record = xalloc(arm->record_size);
        struct amounts holds = trees_hold(core, arm, f->prompt);
        amounts_add(&arm->reserved, &holds);
        return 0;
    }
    struct amounts units = units_of(core, arm, f->prompt, cell->opened - f->count, cell->opened);
    amounts_add(&arm->reserved, &units);
    for (uint32_t i = 0; arm->strict && i < f->count; i++)
        ring_push(&arm->fifo, f->prompt);
    return 0;
}

/* What the next delivered rollout costs the arm. */
static struct amounts charge_of(const struct core *core, struct arm *arm, const struct key *key)
{
    const struct row *row = key_row(core, key);
    struct amounts spent = {0};
    bool judged, paid = bin_paid(core, arm, key, &judged);
    if (!paid)
        spent = cost_row(core, core->pools[key->owner].model, CHARGE_PROMPT, row);
    if (arm->verifier != NO_ID && !judged && (row->state == ROW_FAILED || row_judged(core, arm, row))) {
        struct amounts verdict = cost_verify(core, arm->verifier, 0);
        amounts_add(&spent, &verdict);
        arm->verdicts++;
    }
    return spent;
}

/* Adds the next delivered rollout to the prefix and settles what the arm reserved for it. */
static void fold_one(struct core *core, struct arm *arm, uint32_t prompt)
{
    struct cell *cell = &arm->cells[prompt];
    struct key key = arm_key(arm, prompt, cell->delivered);
    struct stats *stats = cell_stats(core, arm, prompt);
    struct item item = cell_item(core, arm, prompt, cell->delivered);
    stats_fold(stats, &item);
    struct amounts unit = arm_unit(core, arm, prompt, key.owner);
    amounts_sub(core, &arm->reserved, &unit);
    struct amounts spent = charge_of(core, arm, &key);
    amounts_add(&arm->charged, &spent);
    cell->delivered++;
    arm->unfolded--;
}

static bool next_ready(const struct core *core, const struct arm *arm, uint32_t prompt)
{
    const struct cell *cell = &arm->cells[prompt];
    const struct row *row = cell->delivered < cell->opened ? arm_row(core, arm, prompt, cell->delivered) : NULL;
    if (row == NULL)
        return false;
    if (row->state != ROW_DONE && row->state != ROW_FAILED)
        return false;
    return !row_judged(core, arm, row) || row_score(core, arm, prompt, cell->delivered)->state == SCORE_DONE;
}

static bool next_exhausted(const struct core *core, const struct arm *arm, uint32_t prompt)
{
    const struct row *row = arm_row(core, arm, prompt, arm->cells[prompt].delivered);
    return row != NULL && row->state == ROW_DONE && row->finish == FINISH_EXHAUSTED;
}

int fold_apply(struct core *core, const struct fact_fold *f)
{
    if (f->arm >= core->arms_len || core->arms[f->arm].fifo.len == 0)
        return ERR_CORRUPT;
    struct arm *arm = &core->arms[f->arm];
    uint32_t prompt = ring_pop(&arm->fifo);
    if (arm->cells[prompt].decided != DECIDED_NOT)
        return 0; /* its stop came first: this grant was voided */
    if (!next_ready(core, arm, prompt))
        return ERR_CORRUPT;
    if (!next_exhausted(core, arm, prompt))
        fold_one(core, arm, prompt);
    return 0;
}

/* Verdicts that were promised for rollouts behind the stop, and that no arm of the sweep will ask for. */
static void release_from(struct core *core, const struct arm *arm, uint32_t prompt, uint32_t from)
{
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++) {
        const struct stock *stock = &core->pools[arm->pools[leg]].stocks[prompt];
        for (uint32_t k = schedule_reach(&arm->schedule, leg, from); k < stock->issued; k++) {
            struct row *row = &stock->rows[k];
            if ((row->flags & ROW_PROMISED) != 0 &&
                !promise_useful(core, &core->arms[row->payer], arm->pools[leg], prompt))
                promise_release(core, row);
        }
    }
}

int decide_apply(struct core *core, const struct fact_decide *f)
{
    if (f->arm >= core->arms_len || f->prompt >= core->arms[f->arm].prompts)
        return ERR_CORRUPT;
    struct arm *arm = &core->arms[f->arm];
    struct cell *cell = &arm->cells[f->prompt];
    if (cell->decided != DECIDED_NOT || f->why == DECIDED_NOT || f->why > DECIDED_ELSEWHERE || f->stop > cell->opened ||
        f->stop < (arm->trees > 0 ? 0 : cell->delivered) || bin_waits(core, arm, f->prompt) ||
        (f->why == DECIDED_ELSEWHERE && (arm->bin.number == 0 || cell->opened > 0)))
        return ERR_CORRUPT;
    while (arm->trees == 0 && cell->delivered < f->stop) { /* replay: the prefix is derived */
        if (!next_ready(core, arm, f->prompt))
            return ERR_CORRUPT;
        fold_one(core, arm, f->prompt);
    }
    arm->unfolded -= cell->opened - cell->delivered;
    if (arm->trees > 0) {
        struct amounts holds = trees_hold(core, arm, f->prompt);
        amounts_sub(core, &arm->reserved, &holds);
    } else {
        struct amounts units = units_of(core, arm, f->prompt, f->stop, cell->opened);
        amounts_sub(core, &arm->reserved, &units);
    }
    cell->opened = cell->delivered = cell->stop = f->stop;
    cell->winner = f->winner;
    cell->confidence = (float)f->confidence;
    cell->decided = f->why;
    if (arm->trees == 0)
        release_from(core, arm, f->prompt, f->stop);
    if (cell->stats != NULL)
        stats_clear(cell->stats);
    free(cell->stats);
    cell->stats = NULL;
    arm->decided++;
    arm->bin.elsewhere += f->why == DECIDED_ELSEWHERE;
    core->sweeps[arm->sweep].undecided--;
    return 0;
}

/* -- heap of prompts by gain per cost; ties to the lower prompt ----------------------------------------------------- */

static bool before(const struct arm *arm, uint32_t a, uint32_t b)
{
    return arm->gains[a] != arm->gains[b] ? arm->gains[a] > arm->gains[b] : a < b;
}

static void heap_set(struct arm *arm, uint32_t at, uint32_t prompt)
{
    arm->heap[at] = prompt;
    arm->cells[prompt].heap_at = at;
}

static void heap_up(struct arm *arm, uint32_t at, uint32_t prompt)
{
    for (; at > 0 && before(arm, prompt, arm->heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap_set(arm, at, arm->heap[(at - 1) / 2]);
    heap_set(arm, at, prompt);
}

static void heap_down(struct arm *arm, uint32_t at, uint32_t prompt)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= arm->heap_len)
            break;
        if (child + 1 < arm->heap_len && before(arm, arm->heap[child + 1], arm->heap[child]))
            child++;
        if (!before(arm, arm->heap[child], prompt))
            break;
        heap_set(arm, at, arm->heap[child]);
        at = child;
    }
    heap_set(arm, at, prompt);
}

static void heap_remove(struct arm *arm, uint32_t prompt)
{
    uint32_t at = arm->cells[prompt].heap_at;
    if (at == NO_ID)
        return;
    arm->cells[prompt].heap_at = NO_ID;
    uint32_t last = arm->heap[--arm->heap_len];
    if (last == prompt)
        return;
    if (at > 0 && before(arm, last, arm->heap[(at - 1) / 2]))
        heap_up(arm, at, last);
    else
        heap_down(arm, at, last);
}

/* Rollouts that may be opened now: never more in flight than the stopper can still use. */
static uint32_t cell_room(const struct core *core, const struct arm *arm, uint32_t prompt)
{
    const struct cell *cell = &arm->cells[prompt];
    if (cell->decided != DECIDED_NOT || cell->opened >= arm->n || bin_waits(core, arm, prompt))
        return 0;
    if (arm->trees > 0)
        return arm->n;
    uint32_t room = (arm->existing ? existing_of(core, arm, prompt) : arm->n) - cell->opened;
    if (arm->stopper->room != NULL) {
        struct prompt_view view = view_of(core, arm, prompt, 2);
        uint32_t usable = arm->stopper->room(&view), flying = cell->opened - cell->delivered;
        uint32_t left = usable > flying ? usable - flying : 0;
        room = left < room ? left : room;
    }
    return room;
}

static double cell_gain(const struct core *core, const struct arm *arm, uint32_t prompt)
{
    if (cell_room(core, arm, prompt) == 0)
        return 0;
    struct prompt_view view = view_of(core, arm, prompt, 1);
    return arm->allocator->gain(&view) / view.cost;
}

void cell_touch(struct core *core, struct arm *arm, uint32_t prompt)
{
    double gain = cell_gain(core, arm, prompt);
    if (!(gain > 0)) {
        heap_remove(arm, prompt);
        return;
    }
    heap_remove(arm, prompt);
    arm->gains[prompt] = gain;
    heap_up(arm, arm->heap_len++, prompt);
}

void heap_build(struct core *core, struct arm *arm)
{
    if (arm->heap == NULL) {
        arm->heap = xalloc(arm->prompts * sizeof *arm->heap);
        arm->gains = xalloc(arm->prompts * sizeof *arm->gains);
    }
    arm->heap_len = 0;
    arm->spent = spent_steps(arm);
    for (uint32_t p = 0; p < arm->prompts; p++)
        arm->cells[p].heap_at = NO_ID;
    for (uint32_t p = 0; p < arm->prompts; p++)
        cell_touch(core, arm, p);
}

/* The arm was charged: where gains depend on how much is spent, a step of that changes all of them. So the heap follows
 * from the state at any time, and is built anew SPENT_STEPS times at most. */
static void heap_follow(struct core *core, struct arm *arm)
{
    if (arm->allocator->spent && spent_steps(arm) != arm->spent)
        heap_build(core, arm);
}

/* -- reactions ---------------------------------------------------------------------------------------------------- */

void cell_settle(struct core *core, struct arm *arm, uint32_t prompt)
{
    struct cell *cell = &arm->cells[prompt];
    if (cell->decided == DECIDED_NOT || cell->truths > 0)
        return;
    cell->settled = 1;
    if (!core->options.keep_nodes)
        trees_free(arm, cell);
}

void cell_want_truth(struct core *core, struct arm *arm, uint32_t prompt, uint32_t from, uint32_t to)
{
    struct sweep *sweep = &core->sweeps[arm->sweep];
    if (sweep->truth == NO_ID)
        return;
    for (uint32_t k = from; k < to; k++) {
        struct key key = arm_key(arm, prompt, k);
        key.kind = TASK_VERIFY;
        key.verifier = sweep->truth;
        const struct row *row = key_row(core, &key);
        struct score *score = key_score(core, &key);
        sweep->judged += row->state == ROW_DONE && score->state == SCORE_DONE;
        if (row->state != ROW_DONE || score->state == SCORE_DONE)
            continue;
        arm->cells[prompt].truths++;
        sweep->truths++;
        score->state = SCORE_WANTED;
        task_want(core, &key, arm->id);
    }
}

void cell_truth_done(struct core *core, struct arm *arm, uint32_t prompt)
{
    struct cell *cell = &arm->cells[prompt];
    if (cell->truths == 0) /* a wrong journal had one judged that nobody asked for */
        return;
    cell->truths--;
    core->sweeps[arm->sweep].truths--;
    core->sweeps[arm->sweep].judged++;
    cell_settle(core, arm, prompt);
}

/* An arm is through: those of its sweep that only take what its pools hold may have waited for it. */
static void tell_existing(struct core *core, const struct arm *arm)
{
    const struct sweep *sweep = &core->sweeps[arm->sweep];
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        struct arm *other = &core->arms[sweep->arms[i]];
        if (other->existing && arms_share(other, arm) && other != arm)
            arm_advance(core, other);
    }
}

void cell_decide(struct core *core, struct arm *arm, uint32_t prompt, enum decided why)
{
    struct cell *cell = &arm->cells[prompt];
    struct ranking ranking;
    struct prompt_view view = view_of(core, arm, prompt, 3);
    policies_select(arm->selector, &arm->answering, &view, &ranking);
    emit(core, &(struct fact){.type = FACT_decide,
                              .decide = {.arm = arm->id,
                                         .prompt = prompt,
                                         .stop = cell->delivered,
                                         .winner = ranking.winner,
                                         .confidence = ranking.confidence,
                                         .why = (uint8_t)why}});
    heap_remove(arm, prompt);
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++)
        stock_bound(core, arm->pools[leg], prompt, schedule_reach(&arm->schedule, leg, cell->stop));
    cell_settle(core, arm, prompt);
    bin_tell(core, arm, prompt);
    if (arm->decided == arm->prompts && !arm->existing)
        tell_existing(core, arm);
}

/* Asked after every fold: is this prompt decided? */
static bool cell_check(struct core *core, struct arm *arm, uint32_t prompt)
{
    const struct cell *cell = &arm->cells[prompt];
    /* The end of n comes last: a prompt that is decided by evidence stays so when n grows. */
    enum decided why = cell->delivered == arm->n ? DECIDED_CAP : DECIDED_NOT;
    struct prompt_view view = view_of(core, arm, prompt, 2);
    if (cell->delivered > 0 && arm->stopper->stop(&view))
        why = DECIDED_STOPPER;
    view.options = arm->options[1];
    if (cell->delivered > 0 && arm->allocator->solved != NULL && arm->allocator->solved(&view))
        why = DECIDED_SOLVED;
    if (why != DECIDED_NOT)
        cell_decide(core, arm, prompt, why);
    return why != DECIDED_NOT;
}

/* Takes what is delivered as soon as it is there. */
static bool folds_at_once(const struct core *core, const struct arm *arm)
{
    return !arm->strict && arm->trees == 0 && core->sweeps[arm->sweep].state != SWEEP_REPLACED;
}

void cell_advance(struct core *core, struct arm *arm, uint32_t prompt)
{
    struct cell *cell = &arm->cells[prompt];
    if (!folds_at_once(core, arm) || cell->decided != DECIDED_NOT)
        return;
    uint32_t from = cell->delivered;
    bool decided = false;
    while (!decided && next_ready(core, arm, prompt)) {
        if (next_exhausted(core, arm, prompt)) {
            cell_decide(core, arm, prompt, DECIDED_EXHAUSTED);
            decided = true;
        } else {
            fold_one(core, arm, prompt);
            decided = cell_check(core, arm, prompt);
        }
    }
    cell_want_truth(core, arm, prompt, from, cell->delivered);
    if (!decided && cell->delivered > from)
        cell_touch(core, arm, prompt);
    heap_follow(core, arm);
    price_follow(core, arm);
    if (decided)
        cell_settle(core, arm, prompt);
}

/* Where a price moves, what was delivered was judged by the one of its time: the stopper is not asked about it again. */
void cell_refold(struct core *core, struct arm *arm, uint32_t prompt)
{
    if (!folds_at_once(core, arm) || !stopper_reprices(arm->stopper, arm->options[2]))
        return;
    const struct cell *cell = &arm->cells[prompt];
    uint32_t from = cell->delivered;
    while (next_ready(core, arm, prompt) && !next_exhausted(core, arm, prompt))
        fold_one(core, arm, prompt);
    cell_want_truth(core, arm, prompt, from, cell->delivered);
    cell_touch(core, arm, prompt);
}

static uint32_t open_count(const struct core *core, struct arm *arm, uint32_t prompt)
{
    if (arm->trees > 0)
        return arm->n;
    /* One at a time wherever the next decision may depend on it; else all that can be used. */
    const struct amounts none = {0};
    bool capped =
        arm->caps.rollouts != none.rollouts || arm->caps.tokens != 0 || arm->caps.slot_ms != 0 || arm->caps.cost != 0;
    uint32_t room = cell_room(core, arm, prompt);
    return arm->strict || capped || arm->allocator != &allocate_uniform ? 1 : room;
}

/* A tree arm opens a prompt when its own budget affords all its rollouts, or, where what further steps cost is not known
 * before they are planned, the first step of all. */
static bool affords_top(const struct core *core, const struct arm *arm)
{
    struct key next = arm_key(arm, arm->heap[0], arm->cells[arm->heap[0]].opened);
    struct amounts unit = arm_unit(core, arm, arm->heap[0], next.owner);
    if (arm->trees > 0)
        amounts_times(&unit, arm->n);
    return arm_affords(arm, &unit);
}

static bool open_top(struct core *core, struct arm *arm)
{
    if (arm->heap_len == 0 || !affords_top(core, arm))
        return false;
    uint32_t prompt = arm->heap[0];
    emit(core, &(struct fact){.type = FACT_open,
                              .open = {.arm = arm->id, .prompt = prompt, .count = open_count(core, arm, prompt)}});
    return true;
}

bool arm_fed(const struct core *core, const struct arm *arm, bool ended)
{
    const struct sweep *sweep = &core->sweeps[arm->sweep];
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        const struct arm *other = &core->arms[sweep->arms[i]];
        if (!other->existing && other->trees == 0 && arms_share(other, arm) &&
            (ended || other->decided < other->prompts))
            return true;
    }
    return false;
}

/* Nothing of the arm is in flight, and its own budget affords nothing more or all that exists is used: every prompt is
 * decided with what it has. */
static void arm_end(struct core *core, struct arm *arm)
{
    if (arm->unfolded > 0 || arm->decided == arm->prompts)
        return;
    if (arm->bin.pilot != NO_ID && core->arms[arm->bin.pilot].decided < arm->prompts)
        return;
    if (arm->heap_len > 0 && affords_top(core, arm))
        return;
    if (arm->existing && arm->heap_len == 0 && arm_fed(core, arm, false))
        return;
    enum decided why = arm->existing && arm->heap_len == 0 ? DECIDED_EXHAUSTED : DECIDED_BUDGET;
    for (uint32_t p = 0; p < arm->prompts; p++)
        if (arm->cells[p].decided == DECIDED_NOT)
            cell_decide(core, arm, p, why);
}

/* One step of the window: true when something moved. */
static bool strict_step(struct core *core, struct arm *arm)
{
    if (arm->fifo.len < arm->lookahead && open_top(core, arm))
        return true;
    if (arm->fifo.len == 0)
        return false;
    uint32_t prompt = arm->fifo.at[arm->fifo.head];
    struct cell *cell = &arm->cells[prompt];
    bool over = cell->decided != DECIDED_NOT;
    if (!over && !next_ready(core, arm, prompt))
        return false;
    bool exhausted = !over && next_exhausted(core, arm, prompt);
    uint32_t from = cell->delivered;
    emit(core, &(struct fact){.type = FACT_fold, .fold = {.arm = arm->id}});
    if (over)
        return true;
    cell_want_truth(core, arm, prompt, from, cell->delivered);
    if (exhausted)
        cell_decide(core, arm, prompt, DECIDED_EXHAUSTED);
    else if (!cell_check(core, arm, prompt))
        cell_touch(core, arm, prompt);
    heap_follow(core, arm);
    price_follow(core, arm);
    return true;
}

void arm_advance(struct core *core, struct arm *arm)
{
    if (core->sweeps[arm->sweep].state != SWEEP_RUNNING)
        return;
    while (arm->strict && arm->trees == 0 && strict_step(core, arm))
        continue;
    arm_end(core, arm);
}

bool arm_open_next(struct core *core, struct arm *arm)
{
    return (!arm->strict || arm->trees > 0) && open_top(core, arm);
}

bool arm_may_open(const struct core *core, const struct arm *arm)
{
    return (!arm->strict || arm->trees > 0) && arm->heap_len > 0 && affords_top(core, arm);
}

/* Snapshot of a strict arm: its prefix is remembered, not derived. */
int cell_restore(struct core *core, struct arm *arm, uint32_t prompt, uint32_t delivered)
{
    while (arm->cells[prompt].delivered < delivered) {
        if (!next_ready(core, arm, prompt))
            return ERR_CORRUPT;
        fold_one(core, arm, prompt);
    }
    return 0;
}
