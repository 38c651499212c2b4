/* stop_ppr.c - stop when the leader is the most probable answer, with a certificate that holds at any stopping time.
 *
 * Jain et al. 2022, "PAC mode estimation using PPR martingale confidence sequences", the one-versus-one rule as applied
 * to votes in a third-party implementation, which also waits for 4 answers: against every rival, the density of
 * Beta(a + 1, b + 1) at 1/2 must be at most delta / (K - 1); the runner-up suffices, for the density grows with b.
 * When the number K of possible answers is not known, the spending is ours: a leader that was the j-th answer seen must
 * reach 6 delta / (pi j)^2. A false leader is right against the true mode with at most that probability, from the
 * rollout on which it is first seen; over all j they sum to delta. */
#include "broker/policy/kernel.h"
#include "broker/policy/kernel_stop.h"
#include "broker/policy/lead.h"
#include "common/limits.h"

enum { OPT_DELTA, OPT_CLASSES, OPT_MIN };

static const struct option_row options[] = {
    [OPT_DELTA] = {.name = "delta",
                   .type = OPTION_REAL,
                   .min = 0.000001,
                   .max = 0.5,
                   .fallback = 0.05,
                   .help = "probability that the leader is not the most probable answer"},
    [OPT_CLASSES] = {.name = "classes",
                     .type = OPTION_INT,
                     .min = 0,
                     .max = 1000000,
                     .fallback = 0,
                     .help = "different answers that are possible; 0 or 1: not known"},
    [OPT_MIN] = {.name = "min",
                 .type = OPTION_INT,
                 .min = 0,
                 .max = LIMIT_N,
                 .fallback = 4,
                 .help = "fewest answers before it may stop"},
    {.name = NULL},
};

/* What a leader may spend that was the j-th answer seen, j = 1, 2, ... */
static double allowance(const struct prompt_view *view, uint32_t j)
{
    const double pi = 3.14159265358979323846;
    double delta = view->options[OPT_DELTA], classes = view->options[OPT_CLASSES];
    return classes >= 2 ? delta / (classes - 1) : 6 * delta / (pi * pi * j * j);
}

static bool ppr_stop(const struct prompt_view *view)
{
    const struct stats *stats = view->stats;
    struct lead lead = lead_of(stats);
    return stats->voters >= view->options[OPT_MIN] && lead.a > lead.b &&
           half_density(lead.a, lead.b) <= allowance(view, stats->top + 1);
}

/* As if the leader may spend what the first answer may: the first answer might take the lead. */
static uint32_t ppr_room(const struct prompt_view *view)
{
    struct lead lead = lead_of(view->stats);
    uint32_t least = half_density_least(lead.b, allowance(view, 1));
    return room_until(view, least > lead.a ? least - lead.a : 1, (uint32_t)view->options[OPT_MIN]);
}

const struct stopper stop_ppr = {
    .name = "ppr",
    .help = "stop when the leading answer is the most probable one, valid whenever it stops",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .stop = ppr_stop,
    .room = ppr_room,
};
