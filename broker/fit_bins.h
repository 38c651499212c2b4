/* fit_bins.h - the options of allocator `bins` from earlier rollouts, and what they would cover.
 *
 * What a prompt's rate may be is believed as for a prior: a law fitted to all counts, and the counts of the prompt. With
 * a pilot, what is foretold is over all that a new pilot of each prompt may find. Held out: the prompts are cut into folds,
 * law and bins are fitted on the others, and what they give is foretold for the fold. */
#ifndef DROVER_FIT_BINS_H
#define DROVER_FIT_BINS_H

#include "broker/policy/bins.h"
#include "broker/prior.h"

struct fit_bins_request {
    const struct prior_tally *tallies; /* of prompts that all have one */
    size_t len;
    uint32_t prompts; /* at least `folds` */
    uint32_t pilot;   /* 0: the arm goes by its prior */
    double strength;  /* of rollouts of other models */
    double budget;    /* rollouts of a prompt on average; at least 1, at least the pilot */
    uint32_t folds;   /* 0: nothing is held out, else at least 2 */
};

struct fit_bins_prediction {
    struct bins_outlook outlook;
    double even,
        same; /* coverage of equal shares of the same cost; equal shares for the same coverage, INFINITY: none */
};

struct fit_bins {
    struct rate_law law;
    struct bins bins;
    struct fit_bins_prediction seen, held; /* held: over all folds; share[] is of `seen` only */
};

struct fit_bins fit_bins(const struct fit_bins_request *request);

/* from: as the sweep file would name the prior. */
void fit_bins_text(const struct fit_bins *fit, const struct fit_bins_request *request, const char *from,
                   struct buf *out);
void fit_bins_json(const struct fit_bins *fit, const struct fit_bins_request *request, const char *from,
                   struct buf *out);

#endif
