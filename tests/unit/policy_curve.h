/* policy_curve.h - what a policy saves in a set of worlds: how many rollouts of every prompt an even vote needs to be
 * right as often, over what the policy took; and the oracles that no policy may beat.
 *
 * The curve of the even vote is made rising (pool adjacent violators) before it is inverted. Intervals are from a paired
 * bootstrap over prompts: policy and curve are measured on the same sample of prompts. */
#ifndef DROVER_TEST_POLICY_CURVE_H
#define DROVER_TEST_POLICY_CURVE_H

#include "tests/unit/policy_world.h"

enum { CURVE_POINTS = 37, CURVE_DENSE = 16, CURVE_MOST = 610 };

struct study {
    struct world *worlds;
    uint32_t worlds_len, prompts; /* of each world */
    uint32_t at[CURVE_POINTS];    /* rollouts of every prompt */
    bool *even[CURVE_POINTS];     /* of each prompt of all worlds: right with that many */
};

struct saving {
    double used, right;      /* rollouts of a prompt, share of prompts; means over all worlds */
    double ratio, low, high; /* of the even vote's rollouts; 90 % interval */
    bool beyond;             /* the even vote never gets there: ratio is a lower bound */
};

/* ---- the even vote ---- */

static inline void study_prompt(struct study *s, uint32_t world, uint32_t prompt)
{
    const struct world *w = &s->worlds[world];
    struct stats stats;
    stats_init(&stats, false);
    for (uint32_t point = 0; point < CURVE_POINTS; point++) {
        while (stats.delivered < s->at[point]) {
            struct item item = world_item(w, prompt, stats.delivered);
            stats_fold(&stats, &item);
        }
        struct ranking ranking;
        select_majority.select(&(struct prompt_view){.cap = CURVE_MOST, .stats = &stats}, &ranking);
        s->even[point][world * s->prompts + prompt] =
            w->votes ? world_class(w, prompt, ranking.winner) == w->mode[prompt] : stats.passes > 0;
    }
    stats_clear(&stats);
}

static inline void study_init(struct study *s, const struct law *law, uint32_t prompts, uint32_t worlds)
{
    *s = (struct study){.worlds_len = worlds, .prompts = prompts};
    s->worlds = xalloc(worlds * sizeof *s->worlds);
    for (uint32_t i = 0; i < CURVE_POINTS; i++) {
        s->at[i] = i < CURVE_DENSE ? i + 1 : (uint32_t)(s->at[i - 1] * 1.19 + 0.5);
        s->even[i] = xalloc(worlds * prompts * sizeof *s->even[i]);
    }
    for (uint32_t i = 0; i < worlds; i++) {
        s->worlds[i] = world_new(law, prompts, i + 1);
        for (uint32_t p = 0; p < prompts; p++)
            study_prompt(s, i, p);
    }
}

static inline void study_clear(struct study *s)
{
    for (uint32_t i = 0; i < s->worlds_len; i++)
        world_clear(&s->worlds[i]);
    for (uint32_t i = 0; i < CURVE_POINTS; i++)
        free(s->even[i]);
    free(s->worlds);
}

/* ---- savings ---- */

/* The least squares fit that never falls: neighbours out of order become their mean. */
static inline void make_rising(double y[CURVE_POINTS])
{
    double mean[CURVE_POINTS];
    uint32_t size[CURVE_POINTS], len = 0;
    for (uint32_t i = 0; i < CURVE_POINTS; i++) {
        mean[len] = y[i];
        size[len++] = 1;
        for (; len > 1 && mean[len - 2] > mean[len - 1]; len--) {
            uint32_t both = size[len - 2] + size[len - 1];
            mean[len - 2] = (mean[len - 2] * size[len - 2] + mean[len - 1] * size[len - 1]) / both;
            size[len - 2] = both;
        }
    }
    for (uint32_t block = 0, i = 0; block < len; block++)
        for (uint32_t k = 0; k < size[block]; k++)
            y[i++] = mean[block];
}

/* Rollouts of every prompt with which a rising curve reaches y; straight lines in log n between its points. */
static inline double curve_inverse(const struct study *s, const double curve[CURVE_POINTS], double y, bool *beyond)
{
    uint32_t i = 0;
    while (i < CURVE_POINTS && curve[i] < y)
        i++;
    *beyond = i == CURVE_POINTS;
    if (i == 0 || i == CURVE_POINTS)
        return s->at[i == 0 ? 0 : CURVE_POINTS - 1];
    double part = (y - curve[i - 1]) / (curve[i] - curve[i - 1]);
    return s->at[i - 1] * pow((double)s->at[i] / s->at[i - 1], part);
}

/* What the policy used and reached, with prompt j of all counted weights[j] times (NULL: once). */
static inline double weighted_ratio(const struct study *s, const struct run *runs, const uint16_t *weights,
                                    struct saving *out)
{
    double used = 0, right = 0, all = s->worlds_len * s->prompts, curve[CURVE_POINTS] = {0};
    for (uint32_t j = 0; j < s->worlds_len * s->prompts; j++) {
        const struct run *run = &runs[j / s->prompts];
        double weight = weights == NULL ? 1 : weights[j];
        used += weight * run->taken[j % s->prompts];
        right += weight * run->right[j % s->prompts];
        for (uint32_t i = 0; weight > 0 && i < CURVE_POINTS; i++)
            curve[i] += weight * s->even[i][j];
    }
    for (uint32_t i = 0; i < CURVE_POINTS; i++)
        curve[i] /= all;
    make_rising(curve);
    out->used = used / all;
    out->right = right / all;
    return curve_inverse(s, curve, out->right, &out->beyond) / out->used;
}

static inline int rising_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline void bootstrap(const struct study *s, const struct run *runs, uint32_t times, struct saving *out)
{
    uint32_t all = s->worlds_len * s->prompts;
    double *ratios = xalloc(times * sizeof *ratios);
    uint16_t *weights = xalloc(all * sizeof *weights);
    for (uint32_t t = 0; t < times; t++) {
        struct saving one;
        memset(weights, 0, all * sizeof *weights);
        for (uint32_t j = 0; j < all; j++)
            weights[rng_u64(1, RNG_BOOTSTRAP, t, j) % all]++;
        ratios[t] = weighted_ratio(s, runs, weights, &one);
    }
    qsort(ratios, times, sizeof *ratios, rising_doubles);
    out->low = ratios[times / 20];
    out->high = ratios[times - 1 - times / 20];
    free(ratios);
    free(weights);
}

/* Runs the policy in every world; `times` resamples for the interval, 0: none. */
static inline struct saving study_saving(const struct study *s, const struct plan_of_run *plan, uint32_t times)
{
    struct run *runs = xalloc(s->worlds_len * sizeof *runs);
    struct saving saving = {0};
    for (uint32_t i = 0; i < s->worlds_len; i++) {
        struct belief *known = plan->knows ? world_beliefs(&s->worlds[i]) : NULL;
        struct plan_of_run one = *plan;
        one.priors = known;
        runs[i] = world_run(&s->worlds[i], &one);
        free(known);
    }
    saving.ratio = weighted_ratio(s, runs, NULL, &saving);
    if (times > 0)
        bootstrap(s, runs, times, &saving);
    for (uint32_t i = 0; i < s->worlds_len; i++)
        run_clear(&runs[i]);
    free(runs);
    return saving;
}

/* ---- oracles for coverage, which know how likely each prompt is solved ---- */

/* Rollouts of a prompt whose gain theta (1 - theta)^n is above lambda; not rounded. */
static inline double rail_count(double theta, double lambda)
{
    return theta > lambda ? log(lambda / theta) / log1p(-theta) : 0;
}

static inline double rail_count_whole(double theta, double lambda)
{
    return theta > lambda ? fmax(1, ceil(rail_count(theta, lambda))) : 0;
}

/* Expected coverage of the best plan made before any result, for a budget of all rollouts together. */
static inline double rail_static(const struct world *w, double budget)
{
    double low = 0, high = 1; /* of lambda: at high the plan fits */
    for (int step = 0; step < 60; step++) {
        double lambda = (low + high) / 2, count = 0;
        for (uint32_t i = 0; i < w->prompts; i++)
            count += rail_count_whole(world_theta(w, i), lambda);
        if (count <= budget)
            high = lambda;
        else
            low = lambda;
    }
    double covered = 0, left = budget;
    for (uint32_t i = 0; i < w->prompts; i++) {
        double n = rail_count_whole(world_theta(w, i), high);
        covered += 1 - pow(1 - world_theta(w, i), n);
        left -= n;
    }
    return (covered + fmax(left, 0) * high) / w->prompts; /* the rest of the budget: gains of lambda each */
}

struct rail_prompt {
    double theta;
    uint32_t prompt;
};

static inline int by_theta_falling(const void *a, const void *b)
{
    double x = ((const struct rail_prompt *)a)->theta, y = ((const struct rail_prompt *)b)->theta;
    return (x < y) - (x > y);
}

/* The oracle that sees results: every rollout is worth theta, so prompts are served by falling theta, each until solved.
 */
static inline struct run rail_feedback(const struct world *w, uint64_t budget)
{
    struct run run = {0, xalloc(w->prompts * sizeof *run.right), xalloc(w->prompts * sizeof *run.taken)};
    struct rail_prompt *order = xalloc(w->prompts * sizeof *order);
    for (uint32_t i = 0; i < w->prompts; i++)
        order[i] = (struct rail_prompt){world_theta(w, i), i};
    qsort(order, w->prompts, sizeof *order, by_theta_falling);
    for (uint32_t i = 0; i < w->prompts; i++) {
        uint32_t prompt = order[i].prompt;
        while (!run.right[prompt] && run.used < budget) {
            run.right[prompt] = world_class(w, prompt, run.taken[prompt]++) == 0;
            run.used++;
        }
    }
    free(order);
    return run;
}

#endif
