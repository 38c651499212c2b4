/* stop_route.c - how much of the slow model a prompt gets follows from how hard it is.
 *
 * ODAR, difficulty-aware routing: below `easy` the fast model alone; up to `hard` one of the slow one; beyond it a best of
 * five. There a trained model tells the difficulty; here it is what the arm's prior says of the prompt, or, without one,
 * what the first block's answers say: one minus the leader's share, with one vote against it. */
#include "broker/policy/lead.h"
#include "broker/policy/leg_vote.h"

enum { OPT_EASY, OPT_HARD, OPT_MEDIUM };

static const struct option_row options[] = {
    [OPT_EASY] = {.name = "easy",
                  .type = OPTION_REAL,
                  .min = 0,
                  .max = 1,
                  .fallback = 0.3,
                  .help = "below this difficulty the first model alone answers"},
    [OPT_HARD] = {.name = "hard",
                  .type = OPTION_REAL,
                  .min = 0,
                  .max = 1,
                  .fallback = 0.7,
                  .help = "from this difficulty on every rollout is used"},
    [OPT_MEDIUM] = {.name = "medium",
                    .type = OPTION_INT,
                    .min = 1,
                    .max = LIMIT_N,
                    .fallback = 1,
                    .help = "rollouts behind the first block for what is between"},
    {.name = NULL},
};

static double difficulty_of(const struct prompt_view *view, uint32_t first)
{
    if (view->prior.a > 0)
        return view->prior.b / (view->prior.a + view->prior.b);
    struct leg_vote votes[LIMIT_LEGS];
    leg_votes(view->stats, votes);
    return 1 - (double)votes[0].count / (first + 1);
}

/* Rollouts that the prompt gets, more than its cap maybe, so that it goes on when that grows: once its first block is there, or is not needed to tell. */
static uint32_t wanted(const struct prompt_view *view)
{
    uint32_t first = schedule_end(view->schedule, 0);
    if (first == NO_POSITION)
        return UINT32_MAX;
    if (view->stats->delivered < first && view->prior.a <= 0)
        return first;
    double difficulty = difficulty_of(view, first);
    return difficulty < view->options[OPT_EASY]   ? first
           : difficulty < view->options[OPT_HARD] ? first + (uint32_t)view->options[OPT_MEDIUM]
                                                  : UINT32_MAX;
}

static bool route_stop(const struct prompt_view *view)
{
    uint32_t delivered = view->stats->delivered;
    return delivered >= schedule_end(view->schedule, 0) && delivered >= wanted(view);
}

static uint32_t route_room(const struct prompt_view *view)
{
    uint32_t delivered = view->stats->delivered, to = wanted(view);
    return room_until(view, to > delivered ? to - delivered : 1, 0);
}

const struct stopper stop_route = {
    .name = "route",
    .help = "easy prompts end with the first model, hard ones use all of the others",
    .version = 1,
    .needs = NEED_ANSWER | NEED_LEGS | NEED_BLOCKS,
    .min_n = 2,
    .options = options,
    .items = true,
    .prior = true,
    .stop = route_stop,
    .room = route_room,
};
