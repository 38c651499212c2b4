/* stop_curtail.c - stop when the majority of all n rollouts is certain, whatever the rest will be.
 *
 * Curtailed sampling (Wald's term for a plan that ends once its outcome is fixed), applied to self-consistency. The
 * rule is ours. The answer is that of n rollouts, always: a class that the rest could lift to the leader's count wins
 * only if its first rollout came before the leader's, as in majority. */
#include "broker/policy/lead.h"
#include "broker/policy/policy.h"

static const struct option_row options[] = {{.name = NULL}};

/* By how many votes the leader must be ahead of what the rest can give to the second: on a tie the earlier class wins.
 * A class that is new has no vote yet and comes last: it needs no look of its own. */
static uint32_t margin_of(const struct stats *stats)
{
    return stats->classes_len > 1 && stats->second < stats->top ? 1 : 0;
}

/* With nothing left it is the cap that ends: a prompt that used up n goes on when n grows. */
static bool curtail_stop(const struct prompt_view *view)
{
    struct lead lead = lead_of(view->stats);
    uint32_t left = rollouts_left(view);
    return left > 0 && lead.a >= lead.b + left + margin_of(view->stats);
}

/* Each vote for the leader takes one from the rest and adds one to the lead. */
static uint32_t curtail_room(const struct prompt_view *view)
{
    struct lead lead = lead_of(view->stats);
    uint32_t against = lead.b + rollouts_left(view) + margin_of(view->stats);
    return room_until(view, against > lead.a ? (against - lead.a + 1) / 2 : 1, 0);
}

const struct stopper stop_curtail = {
    .name = "curtail",
    .help = "stop when the majority of all n rollouts is certain",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .stop = curtail_stop,
    .room = curtail_room,
};
