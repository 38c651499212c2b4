/* select_majority.c - the answer that most rollouts gave.
 *
 * Wang et al. 2023, "Self-consistency improves chain of thought reasoning", section 2. The class
 * seen first wins a tie; a rollout without an answer has no vote, and when nobody answered the
 * selector abstains. */
#include "broker/policy/policy.h"

static const struct option_row options[] = {{.name = NULL}};

static void majority_select(const struct prompt_view *view, struct ranking *out)
{
    const struct stats *stats = view->stats;
    *out = (struct ranking){.winner = NO_ORDINAL, .confidence = 0};
    if (stats->classes_len == 0)
        return;
    const struct class_stat *top = &stats->classes[stats->top];
    out->winner = top->first;
    out->confidence = (double)top->count / stats->voters;
}

const struct selector select_majority = {
    .name = "majority",
    .help = "the answer that most rollouts gave",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .select = majority_select,
};
