/* results.h - every delivered rollout of a sweep as a line of JSON.
 *
 * What an equal run would repeat stands at the top level; what may differ (latency, races, work that a
 * cold cache repeated) stands under `timing`, so that two runs compare by dropping that one key. */
#ifndef DROVER_RESULTS_H
#define DROVER_RESULTS_H

#include "broker/core/read.h"
#include "broker/journal.h"

/* Calls put with one line (its newline included) for each rollout of a pool that some arm of the sweep
 * was delivered, pools by id, then prompts, then ordinals; then for each finished node of a tree, arms
 * in order, then prompts, trees, nodes. A return of put other than 0 ends it and is returned.
 * The core must keep nodes (core_options) and be settled. ERR_CORRUPT when a text is damaged. */
enum results_detail {
    RESULTS_PLAIN,
    RESULTS_FEATURES,  /* and the scalars of the generator and the details of verdicts: one scan of the journal */
    RESULTS_DECISIONS, /* and the class of the answer, and what each arm made of the rollout: see decisions.h */
};
int results_write(const struct core *core, struct journal *journal, uint32_t sweep, enum results_detail detail,
                  int (*put)(void *arg, struct slice line), void *arg, struct error *error);

/* xxh3 chained over all lines with features, without `timing`: equal for equal runs. */
int results_digest(const struct core *core, struct journal *journal, uint32_t sweep, uint64_t *digest,
                   struct error *error);

#endif
