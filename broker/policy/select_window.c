/* select_window.c - the answer of the first window of rollouts that agrees; else the majority of all.
 *
 * Li et al. 2024 (see stop_esc.c): what early-stopping self-consistency answers. It differs from the majority where
 * windows before leaned another way. */
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

static struct ranking ranking_of(const struct stats *stats, uint64_t class)
{
    uint32_t i = 0;
    while (stats->classes[i].class != class)
        i++;
    return (struct ranking){stats->classes[i].first, (double)stats->classes[i].count / stats->voters};
}

static void window_select(const struct prompt_view *view, struct ranking *out)
{
    const struct stats *stats = view->stats;
    uint32_t size = (uint32_t)view->options[OPT_SIZE];
    for (uint32_t from = 0; from + size <= stats->delivered; from += size) {
        if (!window_agrees(stats, from, size))
            continue;
        *out = ranking_of(stats, stats->items[from].class);
        return;
    }
    select_majority.select(view, out);
}

const struct selector select_window = {
    .name = "window",
    .help = "the answer of the first window of rollouts that agrees, else the most frequent one",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .items = true,
    .select = window_select,
};
