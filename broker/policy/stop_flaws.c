/* stop_flaws.c - stop when the verifier would more likely accept a wrong rollout than is worth it.
 *
 * Stroebl et al. 2024, "Inference scaling fLaws": with an imperfect verifier, more rollouts find more false positives,
 * and the best number of them is finite, often below 10. The rule is ours: the utility is 1 for an accepted right
 * answer, -cost for an accepted wrong one, 0 for none, -price per rollout. Nothing accepted so far speaks for a low
 * rate of right ones, so that what is accepted next is ever more likely wrong: stop when the expected utility of the
 * next rollout is not above its price. It also stops at the first that is accepted. */
#include "broker/policy/kernel_stop.h"
#include "broker/policy/lead.h"

enum { OPT_TPR, OPT_FPR, OPT_COST, OPT_PRICE, OPT_A, OPT_B };

static const struct option_row options[] = {
    [OPT_TPR] = {.name = "tpr",
                 .type = OPTION_REAL,
                 .min = 0.001,
                 .max = 1,
                 .fallback = 1,
                 .help = "chance that the verifier accepts a right rollout"},
    [OPT_FPR] = {.name = "fpr",
                 .type = OPTION_REAL,
                 .min = 0,
                 .max = 0.999999,
                 .fallback = 0.05,
                 .help = "chance that the verifier accepts a wrong rollout"},
    [OPT_COST] = {.name = "cost",
                  .type = OPTION_REAL,
                  .min = 0,
                  .max = 1000000,
                  .fallback = 1,
                  .help = "harm of an accepted wrong answer, in right answers"},
    [OPT_PRICE] = {.name = "price",
                   .type = OPTION_REAL,
                   .min = 0,
                   .max = 1,
                   .fallback = 0,
                   .help = "price of a rollout, in right answers"},
    [OPT_A] = {.name = "a",
               .type = OPTION_REAL,
               .min = 0.01,
               .max = 1000,
               .fallback = 0.5,
               .help = "first parameter of the Beta law of a prompt's rate of right rollouts"},
    [OPT_B] = {.name = "b",
               .type = OPTION_REAL,
               .min = 0.01,
               .max = 1000,
               .fallback = 0.5,
               .help = "second parameter of the Beta law of a prompt's rate of right rollouts"},
    {.name = NULL},
};

static bool flaws_stop(const struct prompt_view *view)
{
    const double *values = view->options;
    struct belief belief = view_belief(view, OPT_A, OPT_B);
    if (view->stats->passes > 0)
        return true;
    struct outlook next =
        accept_outlook((struct accepting){.a = belief.a, .b = belief.b, .tpr = values[OPT_TPR], .fpr = values[OPT_FPR]},
                       view->stats->scored);
    return next.right - values[OPT_COST] * next.wrong <= values[OPT_PRICE];
}

/* The next one may be accepted. */
static uint32_t flaws_room(const struct prompt_view *view)
{
    return room_until(view, 1, 0);
}

const struct stopper stop_flaws = {
    .name = "flaws",
    .help = "stop at the first accepted rollout, or when the next to be accepted is too likely wrong",
    .version = 1,
    .needs = NEED_VERIFIER,
    .min_n = 1,
    .options = options,
    .prior = true,
    .stop = flaws_stop,
    .room = flaws_room,
};
