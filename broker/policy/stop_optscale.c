/* stop_optscale.c - draw as many rollouts as a target score needs.
 *
 * OptScale (2025), as in the released code: the scores of a prompt's rollouts follow a normal law cut to [0, 1]. After
 * `peek` of them fit it, and draw N in all, so that the best reaches `target` with probability 1 - `miss`. `fit: mle`
 * is OptScale0; `fit: map` is OptScale-t with a constant prior instead of one from a predictor. Ours: N in closed form
 * instead of a grid search, the search of the fit, `online` (fit again after every rollout, and stop once one reaches
 * the target) and `give_up`. Scores outside [0, 1] do not fit the model: then it never stops. */
#include "broker/policy/kernel_stop.h"
#include "broker/policy/lead.h"
#include "common/limits.h"

#include <math.h>

enum { OPT_TARGET, OPT_MISS, OPT_PEEK, OPT_FIT, OPT_MEAN, OPT_SD, OPT_ONLINE, OPT_GIVE_UP };
enum { FIT_MLE, FIT_MAP };

static const struct option_row options[] = {
    [OPT_TARGET] = {.name = "target",
                    .type = OPTION_REAL,
                    .min = 0.001,
                    .max = 0.999999,
                    .fallback = 0.95,
                    .help = "score that the best rollout should reach"},
    [OPT_MISS] = {.name = "miss",
                  .type = OPTION_REAL,
                  .min = 0.000001,
                  .max = 0.999999,
                  .fallback = 0.05,
                  .help = "probability that it does not"},
    [OPT_PEEK] = {.name = "peek",
                  .type = OPTION_INT,
                  .min = 1,
                  .max = LIMIT_N,
                  .fallback = 5,
                  .help = "judged rollouts before the first fit"},
    [OPT_FIT] = {.name = "fit",
                 .type = OPTION_CHOICE,
                 .max = 1,
                 .choices = "mle|map",
                 .help = "law that fits the scores best, or best together with a prior"},
    [OPT_MEAN] = {.name = "mean",
                  .type = OPTION_REAL,
                  .min = 0,
                  .max = 1,
                  .fallback = 0.8,
                  .help = "score around which the prior of `fit: map` sees a prompt's mean, give or take .1"},
    [OPT_SD] = {.name = "sd",
                .type = OPTION_REAL,
                .min = 0.02,
                .max = 1,
                .fallback = 0.2,
                .help = "deviation around which the prior of `fit: map` sees a prompt's scores, give or take .1"},
    [OPT_ONLINE] = {.name = "online",
                    .type = OPTION_BOOL,
                    .max = 1,
                    .help = "fit after every rollout, and stop when one reaches the target"},
    [OPT_GIVE_UP] = {.name = "give_up",
                     .type = OPTION_BOOL,
                     .max = 1,
                     .help = "stop when the target needs more than n rollouts; changes what is answered"},
    {.name = NULL},
};

/* The first `most` scores; false: one is outside [0, 1]. */
static bool take_draws(const struct stats *stats, uint32_t most, struct draws *draws)
{
    *draws = (struct draws){0};
    for (uint32_t i = 0; i < stats->delivered && draws->n < most; i++) {
        const struct item *item = &stats->items[i];
        if (!item->scored)
            continue;
        if (!(item->score >= 0 && item->score <= 1))
            return false;
        draws->n++;
        draws->sum += item->score;
        draws->sumsq += item->score * item->score;
    }
    return true;
}

static bool online(const struct prompt_view *view)
{
    return view->options[OPT_ONLINE] > 0;
}

/* Judged rollouts that the target needs, or INFINITY; `peek` of them are there. */
static double needed(const struct prompt_view *view)
{
    const double *values = view->options;
    const struct cut_normal prior = {values[OPT_MEAN], values[OPT_SD]};
    struct draws draws;
    if (!take_draws(view->stats, online(view) ? LIMIT_N : (uint32_t)values[OPT_PEEK], &draws))
        return INFINITY;
    struct cut_normal law = cut_normal_fit(draws, (int)values[OPT_FIT] == FIT_MAP ? &prior : NULL);
    return cut_normal_draws(law, values[OPT_TARGET], values[OPT_MISS]);
}

static bool optscale_stop(const struct prompt_view *view)
{
    const struct stats *stats = view->stats;
    if (online(view) && stats->best != NO_ORDINAL && stats->score_best >= view->options[OPT_TARGET])
        return true;
    if (stats->scored < view->options[OPT_PEEK])
        return false;
    double need = needed(view);
    return stats->scored >= need || (view->options[OPT_GIVE_UP] > 0 && need > view->cap);
}

static uint32_t optscale_room(const struct prompt_view *view)
{
    uint32_t scored = view->stats->scored, peek = (uint32_t)view->options[OPT_PEEK];
    if (online(view)) /* the next one may reach the target */
        return room_until(view, 1, 0);
    if (scored < peek)
        return room_until(view, peek - scored, 0);
    double need = fmin(needed(view), view->cap);
    return room_until(view, need > scored ? (uint32_t)need - scored : 1, 0);
}

const struct stopper stop_optscale = {
    .name = "optscale",
    .help = "stop when the best score very likely reached the target, by the law of the prompt's scores",
    .version = 1,
    .needs = NEED_VERIFIER,
    .min_n = 1,
    .options = options,
    .items = true,
    .stop = optscale_stop,
    .room = optscale_room,
};
