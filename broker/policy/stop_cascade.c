/* stop_cascade.c - between one model and the next: stop when the answer so far is sure enough, or hopeless.
 *
 * Window early-exit: the cheap stage decides alone where its confidence lies outside of a window around the threshold,
 * and the costly stage is asked inside; as a cascade of models, Chen et al. 2023, "FrugalGPT", section 3. The window is
 * an option, not a quantile of live scores: a decision would depend on which prompts came before. */
#include "broker/policy/lead.h"

enum { OPT_BY, OPT_LOW, OPT_HIGH };
enum { BY_SHARE, BY_MEAN, BY_BEST };

static const struct option_row options[] = {
    [OPT_BY] = {.name = "by",
                .type = OPTION_CHOICE,
                .choices = "share|mean|best",
                .fallback = BY_SHARE,
                .help = "confidence: the leading answer's share of the rollouts, their mean score, or the best score"},
    [OPT_LOW] = {.name = "low",
                 .type = OPTION_REAL,
                 .min = -1e9,
                 .max = 1e9,
                 .fallback = 0,
                 .help = "below this confidence the prompt is given up"},
    [OPT_HIGH] = {.name = "high",
                  .type = OPTION_REAL,
                  .min = -1e9,
                  .max = 1e9,
                  .fallback = 0.8,
                  .help = "above this confidence the answer is taken"},
    {.name = NULL},
};

/* False: there is no score that tells. */
static bool confidence_of(const struct prompt_view *view, double *confidence)
{
    const struct stats *stats = view->stats;
    int by = (int)view->options[OPT_BY];
    if (by == BY_SHARE)
        *confidence = (double)lead_of(stats).a / stats->delivered;
    else if (stats->scored > 0)
        *confidence = by == BY_MEAN ? stats->score_sum / stats->scored : stats->score_best;
    return by == BY_SHARE || stats->scored > 0;
}

static bool cascade_stop(const struct prompt_view *view)
{
    uint32_t delivered = view->stats->delivered;
    double confidence;
    if (delivered == 0 || schedule_end(view->schedule, delivered - 1) != delivered || !confidence_of(view, &confidence))
        return false;
    return confidence < view->options[OPT_LOW] || confidence > view->options[OPT_HIGH];
}

/* To the end of the block: what is behind it belongs to the next model, which may not be needed. */
static uint32_t cascade_room(const struct prompt_view *view)
{
    uint32_t end = schedule_end(view->schedule, view->stats->delivered);
    return room_until(view, end == NO_POSITION ? view->cap : end - view->stats->delivered, 0);
}

static uint32_t cascade_needs(const double *values)
{
    return values[OPT_BY] == BY_SHARE ? NEED_ANSWER : NEED_VERIFIER;
}

const struct stopper stop_cascade = {
    .name = "cascade",
    .help = "go on to the next model only where the confidence lies between `low` and `high`",
    .version = 1,
    .needs = NEED_LEGS | NEED_BLOCKS,
    .needs_by = cascade_needs,
    .min_n = 2,
    .options = options,
    .stop = cascade_stop,
    .room = cascade_room,
};
