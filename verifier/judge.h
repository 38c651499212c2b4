/* judge.h - a model that judges texts by writing: for whoever has several candidates at once. */
#ifndef DROVER_JUDGE_H
#define DROVER_JUDGE_H

#include "common/buf.h"
#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

#define JUDGE_TEXTS 64 /* candidates of one group at most */

/* Candidates for one prompt. */
struct judge_group {
    struct slice record; /* of the prompt */
    const struct slice *texts;
    size_t len; /* 2..JUDGE_TEXTS */
    uint64_t seed;
    uint32_t timeout_ms;
};

/* Scores the candidates with the state of an opened engine_judge whose mode is pairwise (all against all, or `rounds`
 * each, in both orders) or set (all in one question). Waits for the answers. A candidate that got no valid judgement has
 * NAN. detail gets what the judge said. ERR_RANGE (mode or number of candidates), or why the server did not answer. */
int judge_group(void *engine_state, const struct judge_group *group, double *scores, struct buf *detail,
                struct error *error);

#endif
