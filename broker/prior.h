/* prior.h - what an arm believes of each prompt before its first rollout: Beta(a, b) from counts of earlier ones.
 *
 * Empirical Bayes: the Beta-binomial law of estimate.h is fitted to all counts, and a prompt with k of n passes has the
 * posterior Beta(alpha + w k, beta + w (n - k)). The weight w is 1 for rollouts of the arm's own model, and the prior's
 * `strength` for those of others (a power prior: Ibrahim and Chen 2000). A prompt without counts has the fit itself. */
#ifndef DROVER_PRIOR_H
#define DROVER_PRIOR_H

#include "broker/core/read.h"
#include "broker/journal.h"
#include "broker/policy/estimate.h"
#include "broker/sweep_file.h"

/* Counts of one prompt by one model. */
struct prior_tally {
    uint32_t prompt, passes, n;
    uint32_t own; /* 1: of the arm's own model */
};

/* The law of rates of len > 0 tallies. */
struct rate_law prior_law(const struct prior_tally *tallies, size_t len);

/* Sets beliefs of `prompts` prompts: the law, and what the tallies say of each. */
void prior_beliefs(const struct rate_law *law, const struct prior_tally *tallies, size_t len, double strength,
                   uint32_t prompts, float (*beliefs)[2]);

/* Whether a prior of this name is a file: it holds a '/' or ends in .jsonl. */
bool prior_is_file(const char *from);

/* Whether an arm of the sweep samples this pool. */
bool prior_samples(const struct core *core, uint32_t sweep, uint32_t pool);

/* How many rollouts of the prompt the sweep's sampling arms were delivered, at most, and what the verifier decided of
 * them. */
struct prior_tally prior_count(const struct core *core, uint32_t sweep, uint32_t pool, uint32_t prompt,
                               uint32_t verifier);

/* Finds the beliefs of every arm that has a prior. Of a sweep the delivered rollouts of its sampling arms count, by the
 * verdicts of the verifier that has the name of the arm's; those of the arm's own pool do not, for it is about to draw
 * them again. Prompts are the same when their ids are. ERR_NOT_FOUND: no such sweep, or no count of these prompts. */
int priors_find(struct sweep_spec *spec, const struct prompt_set *set, const struct core *core, struct journal *journal,
                struct error *error);

#endif
