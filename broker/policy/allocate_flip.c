/* allocate_flip.c - for votes under one budget: sample the prompt whose leading answer is most likely to change, per
 * rollout that the change would take.
 *
 * FLIP is our own index, not from a paper. Of the two leading answers with a >= b votes, d = a - b, the lead can change
 * no sooner than by d + 1 votes in a row for the second. Under Beta(a + 1, b + 1) that run has the chance
 *     P = product of (b + 1 + j) / (a + b + 2 + j) over j = 0..d,
 * and behind it, at a against a + 1 votes, the new leader is right more often than wrong by
 *     g = C(2a + 2, a + 1) / 4^(a + 1), half of it when d = 0 (the old leader was no better than chance).
 * The gain of a rollout is P g / (d + 1). As a product of factorials P g shrinks to C(a + b + 1, b) / 4^(a + 1), which is
 * O(1). The gain of a tie falls as its votes grow, so that prompts without a clear answer do not take everything, as
 * they do when the least certain prompt is sampled. */
#include "broker/policy/kernel_stop.h"
#include "broker/policy/lead.h"

#include <float.h>
#include <math.h>

static const struct option_row options[] = {{.name = NULL}};

/* A rollout in flight counts as a vote for the leader, which it most likely is. */
static double flip_gain(const struct prompt_view *view)
{
    if (view->opened >= view->cap)
        return 0;
    const struct stats *stats = view->stats;
    struct lead lead = lead_of(stats);
    double index = flip_index(lead.a + (view->opened - stats->delivered), lead.b);
    /* Only an answer is a vote: failures and rollouts without one make a vote dearer. */
    double answers = (stats->voters + 1.0) / (stats->delivered + 1.0);
    return fmax(index * answers, DBL_MIN);
}

const struct allocator allocate_flip = {
    .name = "flip",
    .help = "the prompt whose vote is most likely to change, per rollout that this would take",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .gain = flip_gain,
    .solved = NULL,
};
