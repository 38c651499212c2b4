/* fit_strategies.h - which arm is best for prompts of which difficulty: the arms of an earlier sweep, compared by bins.
 *
 * Snell et al. 2024, section 3: the best way to spend test-time compute depends on the difficulty of a prompt, which a
 * pilot tells. Here the ways are the arms of a sweep, the pilot is the first rollouts of one pool of it, and each bin gets
 * the arm that is right most often while all bins together stay within a mean cost. Held out: edges and arms of one part of
 * the prompts are used on the other. */
#ifndef DROVER_FIT_STRATEGIES_H
#define DROVER_FIT_STRATEGIES_H

#include "broker/core/read.h"
#include "broker/policy/bins.h"
#include "common/buf.h"

struct fit_strategies_request {
    uint32_t sweep, pool;     /* pool: of the pilot */
    uint32_t verifier, truth; /* who judges the pilot; who knows what is right */
    uint32_t pilot;           /* rollouts, at least 1 */
    double budget;            /* tokens of a prompt on average, read and generated */
    uint32_t folds;           /* as of fit_bins */
};

struct strategies_outlook {
    double right, tokens; /* share of prompts; per prompt */
};

struct fit_strategies {
    double edges[BINS - 1];
    double shares[BINS];
    uint32_t arms[BINS];                  /* ids */
    struct strategies_outlook bins[BINS]; /* of that arm in that bin */
    struct strategies_outlook seen, held; /* of all bins; without folds held is 0 */
    uint32_t single;                      /* best arm for all prompts, NO_ID: none is cheap enough */
    struct strategies_outlook single_seen, single_held;
    uint32_t prompts; /* of which everything is known */
    double pilot_tokens;
};

/* False: of fewer prompts than BINS, or folds, the pilot and what every arm made of it is known. */
bool fit_strategies(const struct core *core, const struct fit_strategies_request *request, struct fit_strategies *fit);

void fit_strategies_text(const struct core *core, const struct fit_strategies *fit,
                         const struct fit_strategies_request *request, struct buf *out);
void fit_strategies_json(const struct core *core, const struct fit_strategies *fit,
                         const struct fit_strategies_request *request, struct buf *out);

#endif
