/* stop_beta.c - stop when the leading answer class very likely stays ahead of the second.
 *
 * Aggarwal et al. 2023, "Let's sample step by step: adaptive-consistency", the Beta criterion: with
 * a >= b the two largest counts, stop when P(Beta(a + 1, b + 1) > 1/2) >= threshold. */
#include "broker/policy/kernel.h"
#include "broker/policy/lead.h"
#include "broker/policy/policy.h"
#include "common/limits.h"

enum { OPT_THRESHOLD, OPT_MIN };

static const struct option_row options[] = {
    [OPT_THRESHOLD] = {.name = "threshold",
                       .type = OPTION_REAL,
                       .min = 0.501,
                       .max = 0.999999,
                       .fallback = 0.95,
                       .help = "probability that the leader stays ahead, at which sampling stops"},
    [OPT_MIN] = {.name = "min",
                 .type = OPTION_INT,
                 .min = 0,
                 .max = LIMIT_N,
                 .fallback = 0,
                 .help = "fewest answers before it may stop"},
    {.name = NULL},
};

static bool beta_stop(const struct prompt_view *view)
{
    struct lead lead = lead_of(view->stats);
    if (view->stats->voters < view->options[OPT_MIN])
        return false;
    return half_tail_reached(lead.a, lead.b, view->options[OPT_THRESHOLD]);
}

/* The fewest further rollouts after which a stop is possible: all of them join the leader. */
static uint32_t beta_room(const struct prompt_view *view)
{
    struct lead lead = lead_of(view->stats);
    uint32_t least = half_tail_least(lead.b, view->options[OPT_THRESHOLD]);
    return room_until(view, least > lead.a ? least - lead.a : 1, (uint32_t)view->options[OPT_MIN]);
}

const struct stopper stop_beta = {
    .name = "beta",
    .help = "stop when the leading answer very likely stays ahead of the second",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .stop = beta_stop,
    .room = beta_room,
};
