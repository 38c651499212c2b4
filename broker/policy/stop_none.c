/* stop_none.c - never stop early: every prompt uses what the allocator gives it. */
#include "broker/policy/policy.h"

static const struct option_row options[] = {{.name = NULL}};

static bool none_stop(const struct prompt_view *view)
{
    (void)view;
    return false;
}

const struct stopper stop_none = {
    .name = "none",
    .help = "never stop before the cap",
    .version = 1,
    .needs = 0,
    .min_n = 1,
    .options = options,
    .stop = none_stop,
    .room = NULL,
};
