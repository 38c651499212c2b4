/* policy_world.h - a world of prompts with known laws, in which allocators, stoppers and selectors run as in the core,
 * but without it: a heap of prompts by gain per cost, rollouts that arrive at once or a window later.
 *
 * Rollout k of prompt i is a pure function of (seed, i, k), so that every policy meets the same rollouts (common random
 * numbers). Labels of classes are permuted by construction: no answer has an order. */
#ifndef DROVER_TEST_POLICY_WORLD_H
#define DROVER_TEST_POLICY_WORLD_H

#include "broker/dice.h"
#include "broker/policy/kernel.h"
#include "broker/policy/policy.h"
#include "common/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORLD_CLASSES = 8 };

/* Class 0 of a prompt is the right one. Easy prompts give it with probability `easy`, the others by their law. */
struct law {
    const char *name;
    bool votes;        /* what counts is whether the vote finds the most likely answer; else: any right rollout */
    double easy_share; /* of the prompts */
    double dirichlet;  /* > 0: answers of a prompt that is not easy are Dirichlet(this) over all classes */
    double a, b;       /* else: right with a probability from Beta(a, b), wrong answers equally likely */
    double spread; /* > 0: scores are rewards, normal, with a deviation for each prompt that is lognormal(0, this) */
};

struct world {
    uint64_t seed;
    uint32_t prompts;
    bool votes;
    double *deviation;              /* of each prompt: of its rewards; 0: scores are verdicts */
    double (*reach)[WORLD_CLASSES]; /* of each prompt: running sums of the probabilities of its classes */
    uint32_t *mode;                 /* its most likely class */
};

/* ---- laws ---- */

/* A stream of its own for each prompt, apart from those of rollouts. */
static inline struct dice prompt_dice(uint64_t seed, uint64_t stream)
{
    return (struct dice){.seed = seed, .purpose = RNG_TEST, .stream = stream | (uint64_t)1 << 40};
}

static inline void draw_answers(struct dice *dice, const struct law *law, double p[WORLD_CLASSES])
{
    double sum = 0, right = dice_unit(dice) < law->easy_share ? 0.95 : -1;
    if (right < 0 && law->dirichlet > 0) {
        for (int c = 0; c < WORLD_CLASSES; c++)
            sum += p[c] = dice_gamma(dice, law->dirichlet) + 1e-300;
        for (int c = 0; c < WORLD_CLASSES; c++)
            p[c] /= sum;
        return;
    }
    if (right < 0)
        right = dice_beta(dice, law->a, law->b);
    for (int c = 0; c < WORLD_CLASSES; c++)
        p[c] = c == 0 ? right : (1 - right) / (WORLD_CLASSES - 1);
}

static inline struct world world_new(const struct law *law, uint32_t prompts, uint64_t seed)
{
    struct world w = {.seed = seed, .prompts = prompts, .votes = law->votes};
    w.reach = xalloc(prompts * sizeof *w.reach);
    w.deviation = xalloc(prompts * sizeof *w.deviation);
    w.mode = xalloc(prompts * sizeof *w.mode);
    for (uint32_t i = 0; i < prompts; i++) {
        struct dice dice = prompt_dice(seed, i);
        draw_answers(&dice, law, w.reach[i]);
        w.deviation[i] = law->spread > 0 ? exp(law->spread * dice_normal(&dice)) : 0;
        for (uint32_t c = 0; c < WORLD_CLASSES; c++)
            w.mode[i] = w.reach[i][c] > w.reach[i][w.mode[i]] ? c : w.mode[i];
        for (uint32_t c = 1; c < WORLD_CLASSES; c++)
            w.reach[i][c] += w.reach[i][c - 1];
    }
    return w;
}

static inline void world_clear(struct world *w)
{
    free(w->deviation);
    free(w->reach);
    free(w->mode);
}

/* How likely a rollout of this prompt is right. */
static inline double world_theta(const struct world *w, uint32_t prompt)
{
    return w->reach[prompt][0];
}

static inline uint32_t world_class(const struct world *w, uint32_t prompt, uint32_t ordinal)
{
    double u = rng_unit(rng_u64(w->seed, RNG_TEST, prompt, ordinal));
    uint32_t c = 0;
    while (c + 1 < WORLD_CLASSES && u >= w->reach[prompt][c])
        c++;
    return c;
}

static inline double world_reward(const struct world *w, uint32_t prompt, uint32_t ordinal)
{
    struct dice dice = prompt_dice(w->seed, prompt | (uint64_t)1 << 41);
    dice.at = 2 * (uint64_t)ordinal;
    return w->deviation[prompt] * dice_normal(&dice);
}

/* The name of a class is a hash, as that of an answer. Verdicts are right. */
static inline struct item world_item(const struct world *w, uint32_t prompt, uint32_t ordinal)
{
    uint32_t class = world_class(w, prompt, ordinal);
    bool rewards = w->deviation[prompt] > 0;
    return (struct item){.ordinal = ordinal,
                         .class = rng_mix(w->seed ^ prompt << 8 ^ class) | 1,
                         .scored = true,
                         .passed = !rewards && class == 0,
                         .score = rewards ? world_reward(w, prompt, ordinal) : class == 0,
                         .tokens = 1};
}

/* Beliefs that know each prompt's rate: a billion rollouts. */
static inline struct belief *world_beliefs(const struct world *w)
{
    struct belief *beliefs = xalloc(w->prompts * sizeof *beliefs);
    for (uint32_t i = 0; i < w->prompts; i++) {
        double theta = fmin(fmax(world_theta(w, i), 1e-12), 1 - 1e-12);
        beliefs[i] = (struct belief){1e9 * theta, 1e9 * (1 - theta)};
    }
    return beliefs;
}

/* ---- runs ---- */

struct plan_of_run {
    const struct allocator *allocator;
    const struct stopper *stopper;
    const struct selector *selector;
    const double *options[3];    /* NULL: the defaults */
    uint32_t cap, window;        /* rollouts of a prompt at most; rollouts in flight */
    uint64_t budget;             /* all rollouts */
    const struct belief *priors; /* of each prompt; NULL: none */
    bool knows;                  /* for study_saving: priors that know each prompt's rate */
};

struct run {
    uint64_t used;
    bool *right;     /* of each prompt: the vote found its mode, or a rollout was right */
    uint32_t *taken; /* of each prompt: rollouts */
};

static inline void run_clear(struct run *run)
{
    free(run->right);
    free(run->taken);
}

/* One (arm, prompt) at work. */
struct play_cell {
    struct stats stats;
    uint32_t opened, heap_at;
    double gain;
    bool decided;
};

struct play {
    const struct plan_of_run *plan;
    double options[3][POLICY_OPTIONS_MAX];
    struct play_cell *cells;
    uint32_t *heap, heap_len;
    double spent;
};

static inline void defaults(double values[POLICY_OPTIONS_MAX], const struct option_row *rows, const double *chosen)
{
    for (uint32_t i = 0; rows[i].name != NULL; i++)
        values[i] = chosen != NULL ? chosen[i] : rows[i].fallback;
}

static inline struct prompt_view play_view(const struct play *p, uint32_t prompt, int policy)
{
    const struct play_cell *cell = &p->cells[prompt];
    return (struct prompt_view){.prompt = prompt,
                                .cap = p->plan->cap,
                                .opened = cell->opened,
                                .stats = &cell->stats,
                                .spent = p->spent,
                                .cost = 1,
                                .prior = p->plan->priors != NULL ? p->plan->priors[prompt] : (struct belief){0, 0},
                                .options = p->options[policy]};
}

static inline double play_gain(const struct play *p, uint32_t prompt)
{
    const struct play_cell *cell = &p->cells[prompt];
    struct prompt_view view = play_view(p, prompt, 1);
    if (cell->decided || cell->opened >= p->plan->cap)
        return 0;
    if (p->plan->stopper->room != NULL && p->plan->stopper->room(&view) <= cell->opened - cell->stats.delivered)
        return 0;
    view.options = p->options[0];
    return p->plan->allocator->gain(&view);
}

static inline bool play_before(const struct play *p, uint32_t a, uint32_t b)
{
    return p->cells[a].gain > p->cells[b].gain || (!(p->cells[a].gain < p->cells[b].gain) && a < b);
}

static inline void play_set(struct play *p, uint32_t at, uint32_t prompt)
{
    p->heap[at] = prompt;
    p->cells[prompt].heap_at = at;
}

/* Gives a prompt of the heap its new gain; the order is that of the core: larger gain, then lower prompt. Prompts whose
 * gain is 0 sink, so the top tells whether any is wanted. */
static inline void play_touch(struct play *p, uint32_t prompt)
{
    uint32_t at = p->cells[prompt].heap_at;
    p->cells[prompt].gain = play_gain(p, prompt);
    for (; at > 0 && play_before(p, prompt, p->heap[(at - 1) / 2]); at = (at - 1) / 2)
        play_set(p, at, p->heap[(at - 1) / 2]);
    for (uint32_t child; (child = 2 * at + 1) < p->heap_len; at = child) {
        child += child + 1 < p->heap_len && play_before(p, p->heap[child + 1], p->heap[child]);
        if (!play_before(p, p->heap[child], prompt))
            break;
        play_set(p, at, p->heap[child]);
    }
    play_set(p, at, prompt);
}

static inline void play_start(struct play *p, const struct plan_of_run *plan, uint32_t prompts)
{
    bool keeps = policies_read_items(plan->allocator, plan->stopper, plan->selector);
    *p = (struct play){.plan = plan, .heap_len = prompts};
    defaults(p->options[0], plan->allocator->options, plan->options[0]);
    defaults(p->options[1], plan->stopper->options, plan->options[1]);
    defaults(p->options[2], plan->selector->options, plan->options[2]);
    p->cells = xalloc(prompts * sizeof *p->cells);
    p->heap = xalloc(prompts * sizeof *p->heap);
    for (uint32_t i = 0; i < prompts; i++) {
        stats_init(&p->cells[i].stats, keeps);
        play_set(p, i, i);
    }
    for (uint32_t i = 0; i < prompts; i++)
        play_touch(p, i);
}

/* Asks the top of the heap for one more rollout; false: nobody wants one. */
static inline bool play_open(struct play *p, uint32_t *prompt)
{
    *prompt = p->heap[0];
    if (!(p->cells[*prompt].gain > 0))
        return false;
    p->cells[*prompt].opened++;
    play_touch(p, *prompt);
    return true;
}

static inline void play_deliver(struct play *p, const struct world *w, uint32_t prompt)
{
    struct play_cell *cell = &p->cells[prompt];
    struct item item = world_item(w, prompt, cell->stats.delivered);
    if (cell->decided)
        return; /* in flight when the prompt was decided: paid for, not counted */
    stats_fold(&cell->stats, &item);
    struct prompt_view stopper = play_view(p, prompt, 1), allocator = play_view(p, prompt, 0);
    cell->decided = cell->stats.delivered == p->plan->cap || p->plan->stopper->stop(&stopper) ||
                    (p->plan->allocator->solved != NULL && p->plan->allocator->solved(&allocator));
    play_touch(p, prompt);
}

/* All gains change with the share of the budget that is spent, in the steps of the core. */
static inline void play_spent(struct play *p, uint64_t delivered)
{
    double spent = floor((double)SPENT_STEPS * (double)delivered / (double)p->plan->budget) / SPENT_STEPS;
    if (!p->plan->allocator->spent || !(spent > p->spent))
        return;
    p->spent = spent;
    for (uint32_t i = 0; i < p->heap_len; i++)
        play_touch(p, i);
}

static inline bool play_right(const struct play *p, const struct world *w, uint32_t prompt)
{
    struct ranking ranking = {.winner = NO_ORDINAL};
    struct prompt_view view = play_view(p, prompt, 2);
    if (!w->votes)
        return view.stats->passes > 0;
    if (view.stats->delivered > 0)
        p->plan->selector->select(&view, &ranking);
    return ranking.winner != NO_ORDINAL && world_class(w, prompt, ranking.winner) == w->mode[prompt];
}

static inline struct run world_run(const struct world *w, const struct plan_of_run *plan)
{
    struct play p;
    play_start(&p, plan, w->prompts);
    struct run run = {0, xalloc(w->prompts * sizeof *run.right), xalloc(w->prompts * sizeof *run.taken)};
    uint32_t window = plan->window > 0 ? plan->window : 1, prompt;
    uint32_t *ring = xalloc(window * sizeof *ring);
    uint64_t opened = 0, delivered = 0;
    for (;;) {
        if (opened - delivered < window && opened < plan->budget && play_open(&p, &prompt))
            ring[opened++ % window] = prompt;
        else if (delivered < opened) {
            play_deliver(&p, w, ring[delivered++ % window]);
            play_spent(&p, delivered);
        } else
            break;
    }
    run.used = opened;
    for (uint32_t i = 0; i < w->prompts; i++) {
        run.right[i] = play_right(&p, w, i);
        run.taken[i] = p.cells[i].opened;
        stats_clear(&p.cells[i].stats);
    }
    free(ring);
    free(p.cells);
    free(p.heap);
    return run;
}

#endif
