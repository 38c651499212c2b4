/* stop_dirichlet.c - stop when the leading answer very likely stays ahead of all its rivals.
 *
 * Aggarwal et al. 2023 (see stop_beta.c), the Dirichlet criterion: the leader must be the largest of the five most
 * frequent answers with probability `threshold`. The paper draws samples; this is our lower bound without randomness:
 * one minus the sum over the rivals of P(Beta(b + 1, a + 1) > 1/2), by Bonferroni. With one rival it is `beta`. */
#include "broker/policy/kernel.h"
#include "broker/policy/lead.h"
#include "common/limits.h"

enum { OPT_THRESHOLD, OPT_CLASSES, OPT_MIN };
enum { CLASSES_MAX = 16 };

static const struct option_row options[] = {
    [OPT_THRESHOLD] = {.name = "threshold",
                       .type = OPTION_REAL,
                       .min = 0.501,
                       .max = 0.999999,
                       .fallback = 0.95,
                       .help = "probability that the leader stays ahead, at which sampling stops"},
    [OPT_CLASSES] = {.name = "classes",
                     .type = OPTION_INT,
                     .min = 2,
                     .max = CLASSES_MAX,
                     .fallback = 5,
                     .help = "most frequent answers that count, the leader among them"},
    [OPT_MIN] = {.name = "min",
                 .type = OPTION_INT,
                 .min = 0,
                 .max = LIMIT_N,
                 .fallback = 0,
                 .help = "fewest answers before it may stop"},
    {.name = NULL},
};

/* The largest counts but the leader's, falling; one of 0 when there is no rival yet. How many. */
static uint32_t rivals_of(const struct prompt_view *view, uint32_t rivals[CLASSES_MAX])
{
    const struct stats *stats = view->stats;
    uint32_t most = (uint32_t)view->options[OPT_CLASSES] - 1, len = 0;
    for (uint32_t i = 0; i < stats->classes_len; i++) {
        uint32_t count = stats->classes[i].count, at = len;
        if (i == stats->top)
            continue;
        for (; at > 0 && rivals[at - 1] < count; at--)
            rivals[at] = rivals[at - 1];
        rivals[at] = count;
        len += len < most;
    }
    if (len == 0)
        rivals[len++] = 0;
    return len;
}

/* Whether a leader with a votes is sure enough against these. */
static bool leads_all(const struct prompt_view *view, uint32_t a, const uint32_t *rivals, uint32_t len)
{
    double against = 0;
    for (uint32_t i = 0; i < len; i++)
        against += half_tail(rivals[i], a);
    return 1 - against >= view->options[OPT_THRESHOLD];
}

static bool dirichlet_stop(const struct prompt_view *view)
{
    uint32_t rivals[CLASSES_MAX], len = rivals_of(view, rivals);
    return view->stats->voters >= view->options[OPT_MIN] && leads_all(view, lead_of(view->stats).a, rivals, len);
}

/* The fewest further votes for the leader that are enough, or all that the cap leaves. */
static uint32_t dirichlet_room(const struct prompt_view *view)
{
    uint32_t rivals[CLASSES_MAX], len = rivals_of(view, rivals), a = lead_of(view->stats).a;
    uint32_t low = 0, high = rollouts_left(view);
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (leads_all(view, a + middle, rivals, len))
            high = middle;
        else
            low = middle;
    }
    return room_until(view, high, (uint32_t)view->options[OPT_MIN]);
}

const struct stopper stop_dirichlet = {
    .name = "dirichlet",
    .help = "stop when the leading answer very likely stays ahead of all its rivals",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .stop = dirichlet_stop,
    .room = dirichlet_room,
};
