/* stop_esc.c - stop when a whole window of rollouts agrees.
 *
 * Li et al. 2024, "Escape sky-high cost: early-stopping self-consistency for multi-step reasoning", section 3, as in the
 * released code: windows are aligned (rollouts 0..w-1, w..2w-1, ...); a run of w that crosses their borders does not
 * count. There the answer is that of the window: `select: window`; majority over all may differ. That a rollout
 * without an answer spoils its window follows the recorded results. */
#include "broker/policy/lead.h"
#include "broker/policy/window.h"
#include "common/limits.h"

enum { OPT_SIZE };

static const struct option_row options[] = {
    [OPT_SIZE] = {.name = "size",
                  .type = OPTION_INT,
                  .min = 2,
                  .max = LIMIT_N,
                  .fallback = 5,
                  .help = "rollouts in a window, all of which must agree"},
    {.name = NULL},
};

static bool esc_stop(const struct prompt_view *view)
{
    const struct stats *stats = view->stats;
    uint32_t size = (uint32_t)view->options[OPT_SIZE];
    return stats->delivered >= size && stats->delivered % size == 0 &&
           window_agrees(stats, stats->delivered - size, size);
}

/* To the end of this window, or of the next when this one is spoilt. */
static uint32_t esc_room(const struct prompt_view *view)
{
    const struct stats *stats = view->stats;
    uint32_t size = (uint32_t)view->options[OPT_SIZE], begun = stats->delivered % size;
    bool open = window_agrees(stats, stats->delivered - begun, begun);
    return room_until(view, size - begun + (open ? 0 : size), 0);
}

const struct stopper stop_esc = {
    .name = "esc",
    .help = "stop when a whole window of rollouts gives one answer",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .items = true,
    .stop = esc_stop,
    .room = esc_room,
};
