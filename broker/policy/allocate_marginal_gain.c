/* allocate_marginal_gain.c - sample the prompt where one more rollout most likely brings the first success.
 *
 * After Damani et al., "Learning how hard to think: input-adaptive allocation of LM computation" (2024): a predictor says
 * how much the j-th rollout of a prompt adds, and the largest value per cost is served first. There the predictor is
 * learned. Here it is a belief Beta(a, b) about a prompt's success rate (our derivation): that of the arm's prior, which
 * earlier counts of the prompt gave, or the same for all prompts:
 * without feedback the j-th rollout adds E[theta (1 - theta)^(j - 1)]; with feedback a prompt is solved by its first pass,
 * and until then the next rollout passes with a / (a + b + n) after n that did not. */
#include "broker/policy/kernel.h"
#include "broker/policy/policy.h"

enum { OPT_A, OPT_B, OPT_FEEDBACK };

static const struct option_row options[] = {
    [OPT_A] = {.name = "a",
               .type = OPTION_REAL,
               .min = 1e-3,
               .max = 1e6,
               .fallback = 1,
               .help = "first parameter of the Beta belief: successes expected, in rollouts"},
    [OPT_B] = {.name = "b",
               .type = OPTION_REAL,
               .min = 1e-3,
               .max = 1e6,
               .fallback = 1,
               .help = "second parameter of the Beta belief: failures expected, in rollouts"},
    [OPT_FEEDBACK] = {.name = "feedback",
                      .type = OPTION_BOOL,
                      .min = 0,
                      .max = 1,
                      .fallback = 1,
                      .help = "learn from verdicts; false: a plan made before any result"},
    {.name = NULL},
};

static bool marginal_solved(const struct prompt_view *view)
{
    return view->options[OPT_FEEDBACK] != 0 && view->stats->passes > 0;
}

/* What is in flight, failed or could not be judged counts as a failure. */
static double marginal_gain(const struct prompt_view *view)
{
    if (view->opened >= view->cap || marginal_solved(view))
        return 0;
    struct belief belief = view_belief(view, OPT_A, OPT_B);
    if (view->options[OPT_FEEDBACK] != 0)
        return belief.a / (belief.a + belief.b + view->opened);
    return belief.a / (belief.a + belief.b) * beta_survival(belief.a + 1, belief.b, view->opened);
}

const struct allocator allocate_marginal_gain = {
    .name = "marginal-gain",
    .help = "the prompt where one more rollout most likely is the first to pass, under a Beta belief",
    .version = 1,
    .needs = NEED_VERIFIER,
    .min_n = 1,
    .options = options,
    .prior = true,
    .gain = marginal_gain,
    .solved = marginal_solved,
};
