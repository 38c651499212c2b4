/* stop_saturation.c - stop when one more rollout hardly raises the chance that one passes.
 *
 * TTSPM (2025), the test-time scaling performance model: of rollouts that pass with chance p, the n + 1st adds
 * ceiling * p * (1 - p)^n to the chance that one of them passes; sampling saturates where that falls below `gain`. As a
 * stopping rule with p from the prompt's own verdicts (the mean of its Beta posterior) it is ours. */
#include "broker/policy/kernel_stop.h"
#include "broker/policy/lead.h"

enum { OPT_GAIN, OPT_CEILING, OPT_A, OPT_B };

static const struct option_row options[] = {
    [OPT_GAIN] = {.name = "gain",
                  .type = OPTION_REAL,
                  .min = 0.000001,
                  .max = 0.5,
                  .fallback = 0.01,
                  .help = "chance that one more rollout must add"},
    [OPT_CEILING] = {.name = "ceiling",
                     .type = OPTION_REAL,
                     .min = 0.001,
                     .max = 1,
                     .fallback = 1,
                     .help = "share of prompts that are solved with any number of rollouts"},
    [OPT_A] = {.name = "a",
               .type = OPTION_REAL,
               .min = 0.01,
               .max = 1000,
               .fallback = 1,
               .help = "rollouts that pass, believed in before the first"},
    [OPT_B] = {.name = "b",
               .type = OPTION_REAL,
               .min = 0.01,
               .max = 1000,
               .fallback = 1,
               .help = "rollouts that do not pass, believed in before the first"},
    {.name = NULL},
};

static bool saturated(const struct prompt_view *view, uint32_t passes, uint32_t n)
{
    const double *values = view->options;
    struct belief belief = view_belief(view, OPT_A, OPT_B);
    double p = (belief.a + passes) / (belief.a + belief.b + n);
    return n >= saturation_point(p, values[OPT_GAIN], values[OPT_CEILING]);
}

static bool saturation_stop(const struct prompt_view *view)
{
    return saturated(view, view->stats->passes, view->stats->scored);
}

/* The gain of one more has a single peak in p: it is least when all that come pass, or none. */
static uint32_t saturation_room(const struct prompt_view *view)
{
    const struct stats *stats = view->stats;
    uint32_t more = 1, left = rollouts_left(view);
    while (more < left && !saturated(view, stats->passes, stats->scored + more) &&
           !saturated(view, stats->passes + more, stats->scored + more))
        more++;
    return room_until(view, more, 0);
}

const struct stopper stop_saturation = {
    .name = "saturation",
    .help = "stop when one more rollout hardly raises the chance that one passes",
    .version = 1,
    .needs = NEED_VERIFIER,
    .min_n = 1,
    .options = options,
    .prior = true,
    .stop = saturation_stop,
    .room = saturation_room,
};
