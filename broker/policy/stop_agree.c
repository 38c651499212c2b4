/* stop_agree.c - stop when the models, or temperatures, of an arm agree.
 *
 * "On the role of temperature sampling in test-time scaling" leaves a prompt as easy when its temperatures agree; the
 * threshold is ours: one answer leads in `share` of the legs, and all rollouts together make it very
 * likely that it stays ahead. Asked at the end of a round, when all legs had their turn. */
#include "broker/policy/kernel.h"
#include "broker/policy/lead.h"
#include "broker/policy/leg_vote.h"

enum { OPT_SHARE, OPT_THRESHOLD };

static const struct option_row options[] = {
    [OPT_SHARE] = {.name = "share",
                   .type = OPTION_REAL,
                   .min = 0.501,
                   .max = 1,
                   .fallback = 0.8,
                   .help = "share of the models with rollouts in which one answer must lead"},
    [OPT_THRESHOLD] = {.name = "threshold",
                       .type = OPTION_REAL,
                       .min = 0.501,
                       .max = 0.999999,
                       .fallback = 0.95,
                       .help = "probability that it stays ahead, over all rollouts"},
    {.name = NULL},
};

static bool agree_stop(const struct prompt_view *view)
{
    const struct stats *stats = view->stats;
    struct leg_vote votes[LIMIT_LEGS];
    if (stats->delivered == 0 || schedule_end(view->schedule, stats->delivered - 1) != stats->delivered)
        return false;
    uint32_t leads, legs = leg_votes(stats, votes), top = leg_votes_top(stats, votes, &leads);
    if (top == NO_ORDINAL || leads < view->options[OPT_SHARE] * legs || stats->classes[top].count < lead_of(stats).a)
        return false;
    return half_tail_reached(stats->classes[top].count, lead_of(stats).b, view->options[OPT_THRESHOLD]);
}

static uint32_t agree_room(const struct prompt_view *view)
{
    uint32_t end = schedule_end(view->schedule, view->stats->delivered);
    return room_until(view, end == NO_POSITION ? view->cap : end - view->stats->delivered, 0);
}

const struct stopper stop_agree = {
    .name = "agree",
    .help = "stop when one answer leads with most of the models and very likely stays ahead",
    .version = 1,
    .needs = NEED_ANSWER | NEED_LEGS,
    .min_n = 2,
    .options = options,
    .items = true,
    .stop = agree_stop,
    .room = agree_room,
};
