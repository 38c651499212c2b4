/* select_first_pass.c - the first rollout that its verifier passed: coverage, pass@k.
 *
 * Brown et al. 2024, "Large language monkeys", section 2: a problem is covered when any sample is
 * right. When none passed, the majority's choice is named, with confidence 0. */
#include "broker/policy/policy.h"

static const struct option_row options[] = {{.name = NULL}};

static void first_pass_select(const struct prompt_view *view, struct ranking *out)
{
    const struct stats *stats = view->stats;
    if (stats->first_pass == NO_ORDINAL) {
        select_majority.select(view, out);
        out->confidence = 0;
        return;
    }
    out->winner = stats->first_pass;
    out->confidence = 1;
}

const struct selector select_first_pass = {
    .name = "first-pass",
    .help = "the first rollout that the verifier passed; counts a prompt as right when any rollout is",
    .version = 1,
    .needs = NEED_VERIFIER,
    .min_n = 1,
    .options = options,
    .covers = true,
    .select = first_pass_select,
};
