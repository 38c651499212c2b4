/* select_shortest_correct.c - of the rollouts that the verifier passed, the one with the fewest tokens.
 *
 * Yang et al. 2025, "Towards thinking-optimal scaling of test-time compute": training data for short reasoning is the
 * shortest right rollout of each prompt. Without one there is none to train on, so the selector abstains by default. */
#include "broker/policy/ballot.h"

enum { OPT_FALLBACK };

static const struct option_row options[] = {
    [OPT_FALLBACK] = {.name = "fallback",
                      .type = OPTION_CHOICE,
                      .max = 1,
                      .choices = "abstain|majority",
                      .help = "what is selected when no rollout passed: nothing, or the most frequent answer"},
    {.name = NULL},
};

static void shortest_correct_select(const struct prompt_view *view, struct ranking *out)
{
    const struct item *shortest = NULL;
    for (uint32_t i = 0; i < view->stats->delivered; i++) {
        const struct item *item = &view->stats->items[i];
        if (!item->failed && item->passed && (shortest == NULL || item->tokens < shortest->tokens))
            shortest = item;
    }
    *out = (struct ranking){.winner = NO_ORDINAL};
    if (shortest != NULL)
        *out = (struct ranking){shortest->ordinal, 1};
    else if (view->options[OPT_FALLBACK] > 0)
        fall_back_to_majority(view, out);
}

const struct selector select_shortest_correct = {
    .name = "shortest-correct",
    .help = "the rollout with the fewest tokens of those that the verifier passed",
    .version = 1,
    .needs = NEED_VERIFIER,
    .min_n = 1,
    .options = options,
    .items = true,
    .select = shortest_correct_select,
};
