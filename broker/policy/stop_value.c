/* stop_value.c - stop when one more rollout is expected to add less than its price.
 *
 * The value of information at a fixed price: gain / cost < price, cost in the unit of the arm's budget. What a rollout
 * adds depends on how the arm selects:
 *   votes   the chance that the leading answer changes, times what that is worth, per rollout that it takes (the index
 *           called FLIP; ours);
 *   passes  the chance that it passes, when none has: the mean of Beta(a + passes, b + others), as the marginal gain of
 *           Damani et al. 2024 with feedback;
 *   scores  by how much it is expected to exceed the best score: the predictive law of a normal with unknown mean and
 *           deviation is Student's, as in BEACON (2025), here with a flat prior.
 * One price for all prompts is what a common budget would set. It is given; or, with `adapt`, found: after each period
 * price *= exp(adapt * (rate - 1)), with the rate of spending relative to one that lasts for all prompts, at most 2. */
#include "broker/policy/kernel_stop.h"
#include "broker/policy/lead.h"
#include "common/limits.h"

#include <math.h>

enum { OPT_PRICE, OPT_GAIN, OPT_MIN, OPT_A, OPT_B, OPT_ADAPT };
enum { GAIN_VOTES, GAIN_PASSES, GAIN_SCORES };
#define PRICE_MIN 1e-15 /* where the budget is more than any gain needs */
#define PRICE_MAX 1e6

static const struct option_row options[] = {
    [OPT_PRICE] = {.name = "price",
                   .type = OPTION_REAL,
                   .min = 0.000000001,
                   .max = 1000000,
                   .fallback = 0.001,
                   .help = "gain that one rollout must add (one token, in an arm whose only cap is on tokens)"},
    [OPT_GAIN] = {.name = "gain",
                  .type = OPTION_CHOICE,
                  .max = 2,
                  .choices = "votes|passes|scores",
                  .help = "what a rollout adds: a better majority, a first pass, or a better best score"},
    [OPT_MIN] = {.name = "min",
                 .type = OPTION_INT,
                 .min = 3,
                 .max = LIMIT_N,
                 .fallback = 3,
                 .help = "fewest judged rollouts before it may stop, for `gain: scores`"},
    [OPT_A] = {.name = "a",
               .type = OPTION_REAL,
               .min = 0.01,
               .max = 1000,
               .fallback = 0.5,
               .help = "rollouts that pass, believed in before the first, for `gain: passes`"},
    [OPT_B] = {.name = "b",
               .type = OPTION_REAL,
               .min = 0.01,
               .max = 1000,
               .fallback = 0.5,
               .help = "rollouts that do not pass, believed in before the first, for `gain: passes`"},
    [OPT_ADAPT] = {.name = "adapt",
                   .type = OPTION_REAL,
                   .min = 0,
                   .max = 8,
                   .help =
                       "how fast the price follows the arm's budget, so that it lasts for all prompts; 0: it stays"},
    {.name = NULL},
};

static double votes_gain(const struct prompt_view *view)
{
    struct lead lead = lead_of(view->stats);
    return flip_index(lead.a, lead.b);
}

static double passes_gain(const struct prompt_view *view)
{
    struct belief belief = view_belief(view, OPT_A, OPT_B);
    if (view->stats->passes > 0)
        return 0;
    return belief.a / (belief.a + belief.b + view->stats->scored);
}

static double scores_gain(const struct prompt_view *view)
{
    const struct stats *stats = view->stats;
    if (stats->scored < view->options[OPT_MIN])
        return INFINITY;
    double n = stats->scored, mean = stats->score_sum / n;
    double variance = fmax(stats->score_sumsq - n * mean * mean, 0) / (n - 1);
    double scale = sqrt(variance * (1 + 1 / n));
    return scale > 0 ? scale * student_excess((stats->score_best - mean) / scale, n - 1) : 0;
}

static double (*const gains[])(const struct prompt_view *view) = {
    [GAIN_VOTES] = votes_gain,
    [GAIN_PASSES] = passes_gain,
    [GAIN_SCORES] = scores_gain,
};

/* What the chosen gain reads: votes read answers, the others verdicts. */
static uint32_t value_needs(const double *values)
{
    uint32_t budget = values[OPT_ADAPT] > 0 ? NEED_BUDGET : 0;
    return budget | ((int)values[OPT_GAIN] == GAIN_VOTES ? NEED_ANSWER : NEED_VERIFIER);
}

static double price_of(const double *values, double price)
{
    return price > 0 ? price : values[OPT_PRICE];
}

static bool pays(const struct prompt_view *view, double gain)
{
    return gain >= price_of(view->options, view->price) * view->cost;
}

/* A period that decides nothing has no rate, so what is too fast counts as twice as fast; nothing is slower than no
 * spending at all. So no period moves the price by more than the factor exp(adapt). */
static double value_reprice(const double *values, double price, double rate)
{
    double next = price_of(values, price) * exp(values[OPT_ADAPT] * (fmin(rate, 2) - 1));
    return fmin(fmax(next, PRICE_MIN), PRICE_MAX);
}

static bool value_stop(const struct prompt_view *view)
{
    return !pays(view, gains[(int)view->options[OPT_GAIN]](view));
}

/* The fewest further votes for the leader that make another one worth too little. */
static uint32_t votes_lacking(const struct prompt_view *view)
{
    struct lead lead = lead_of(view->stats);
    uint32_t more = 1, left = rollouts_left(view);
    while (more < left && pays(view, flip_index(lead.a + more, lead.b)))
        more++;
    return more;
}

/* Passes and scores: the next one may pass, or be so good that no better one is expected. */
static uint32_t value_room(const struct prompt_view *view)
{
    uint32_t scored = view->stats->scored, least = (uint32_t)view->options[OPT_MIN], need = 1;
    if ((int)view->options[OPT_GAIN] == GAIN_VOTES)
        need = votes_lacking(view);
    else if ((int)view->options[OPT_GAIN] == GAIN_SCORES && scored < least)
        need = least - scored;
    return room_until(view, need, 0);
}

const struct stopper stop_value = {
    .name = "value",
    .help = "stop when one more rollout is expected to add less than its price",
    .version = 1,
    .min_n = 1,
    .options = options,
    .prior = true,
    .needs_by = value_needs,
    .stop = value_stop,
    .room = value_room,
    .reprice = value_reprice,
};
