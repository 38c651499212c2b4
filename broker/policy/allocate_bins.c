/* allocate_bins.c - a prompt gets as many rollouts as its bin of difficulty is worth.
 *
 * Snell et al. 2024, "Scaling LLM test-time compute optimally can be more effective than scaling model parameters",
 * section 3: difficulty in five bins, from many earlier rollouts of each prompt (their oracle) or from a pilot (predicted
 * difficulty), and the best budget for each bin found on other prompts. `drover fit-bins` finds edges and n; see bins.h.
 * Difficulty is that of the first `pilot` rollouts for good, so a prompt never changes its bin. */
#include "broker/policy/bins.h"
#include "common/limits.h"

enum { OPT_BY, OPT_PILOT, OPT_SOLVED, OPT_EDGE, OPT_N = OPT_EDGE + BINS - 1, OPTIONS = OPT_N + BINS };

#define EDGE(number, by_default)                         \
    [OPT_EDGE + (number)-1] = {.name = "edge" #number,   \
                               .type = OPTION_REAL,      \
                               .min = -1e6,              \
                               .max = 1e6,               \
                               .fallback = (by_default), \
                               .help = "largest value of bin " #number ", the first being the hardest"}
#define ROLLOUTS(number, by_default)                  \
    [OPT_N + (number)-1] = {.name = "n" #number,      \
                            .type = OPTION_INT,       \
                            .min = 1,                 \
                            .max = LIMIT_N,           \
                            .fallback = (by_default), \
                            .help = "rollouts of a prompt of bin " #number ", the pilot among them"}

static const struct option_row options[OPTIONS + 1] = {
    [OPT_BY] = {.name = "by",
                .type = OPTION_CHOICE,
                .max = BY_PRIOR,
                .choices = "passes|score|agreement|prior",
                .help =
                    "what tells how easy a prompt is: of its pilot the share that passes, the mean score, the share "
                    "of the leading answer; or the mean of the arm's prior"},
    [OPT_PILOT] = {.name = "pilot",
                   .type = OPTION_INT,
                   .min = 1,
                   .max = LIMIT_N,
                   .fallback = 4,
                   .help = "rollouts of every prompt that tell its bin; with `by: prior` none are needed"},
    [OPT_SOLVED] = {.name = "solved",
                    .type = OPTION_BOOL,
                    .max = 1,
                    .help = "stop at the first pass, as `elimination` does"},
    EDGE(1, 0.2),
    EDGE(2, 0.4),
    EDGE(3, 0.6),
    EDGE(4, 0.8),
    ROLLOUTS(1, 64),
    ROLLOUTS(2, 32),
    ROLLOUTS(3, 16),
    ROLLOUTS(4, 8),
    ROLLOUTS(5, 4),
    {.name = NULL},
};

static uint32_t pilot_of(const struct prompt_view *view)
{
    if ((int)view->options[OPT_BY] == BY_PRIOR)
        return 0;
    return (uint32_t)view->options[OPT_PILOT];
}

static double value_of(const struct prompt_view *view, uint32_t pilot)
{
    enum bins_by by = (enum bins_by)view->options[OPT_BY];
    if (by == BY_PRIOR)
        return view->prior.a > 0 ? view->prior.a / (view->prior.a + view->prior.b) : 0;
    return bins_value(by, view->stats->items, pilot);
}

/* Rollouts that the prompt gets as far as is known; more than its cap maybe, so that it goes on when that grows. */
static uint32_t target_of(const struct prompt_view *view)
{
    uint32_t pilot = pilot_of(view);
    if (view->stats->delivered < pilot)
        return pilot;
    double n = view->options[OPT_N + bins_of(&view->options[OPT_EDGE], value_of(view, pilot))];
    return n > pilot ? (uint32_t)n : pilot;
}

static bool passed(const struct prompt_view *view)
{
    return view->options[OPT_SOLVED] != 0 && view->stats->passes > 0;
}

static bool bins_solved(const struct prompt_view *view)
{
    return passed(view) || (view->stats->delivered >= pilot_of(view) && view->stats->delivered >= target_of(view));
}

/* Pilots first; then the prompt that lacks the largest part of what it gets, so that a budget that ends too soon is
 * shared out as the bins say. */
static double bins_gain(const struct prompt_view *view)
{
    uint32_t pilot = pilot_of(view), target = target_of(view);
    target = target < view->cap ? target : view->cap;
    if (view->opened >= target || passed(view))
        return 0;
    return (view->stats->delivered < pilot ? 1 : 0) + 1 - (double)view->opened / target;
}

static uint32_t bins_needs(const double *values)
{
    static const uint32_t needs[] = {
        [BY_PASSES] = NEED_VERIFIER, [BY_SCORE] = NEED_VERIFIER, [BY_AGREEMENT] = NEED_ANSWER, [BY_PRIOR] = NEED_PRIOR};
    return needs[(int)values[OPT_BY]] | (values[OPT_SOLVED] != 0 ? NEED_VERIFIER : 0);
}

const struct allocator allocate_bins = {
    .name = "bins",
    .help = "as many rollouts as the prompt's bin of difficulty is worth, which a pilot or the prior tells",
    .version = 1,
    .min_n = 1,
    .options = options,
    .needs_by = bins_needs,
    .items = true,
    .prior = true,
    .gain = bins_gain,
    .solved = bins_solved,
};
