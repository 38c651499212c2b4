/* judge.h - a model that judges texts by writing: for whoever has several candidates at once. */
#ifndef DROVER_JUDGE_H
#define DROVER_JUDGE_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
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

struct trial;

/* Asks for judgements of the candidates, with the state of an opened engine_judge whose mode is pairwise (all against all,
 * or `rounds` each, in both orders) or set (all in one question); that engine's `advance` goes on with it. The group is
 * read before this returns. ERR_RANGE (mode or number of candidates), ERR_SYNTAX (record). */
int judge_group(void *engine_state, const struct judge_group *group, struct trial **trial, struct error *error);
size_t judge_group_asks(const struct trial *trial); /* how many judgements */
bool judge_group_over(const struct trial *trial);

/* Of a group that is over: scores by candidate, NAN for one that got no valid judgement, and in detail what the judge
 * said. Or why the server did not answer. */
int judge_group_end(struct trial **trial, double *scores, struct buf *detail, struct error *error);
void judge_group_drop(struct trial **trial); /* nobody waits for it any more */

/* Judgements in flight at most; and how many more there may be now. */
uint32_t judge_width(void *engine_state);
size_t judge_room(void *engine_state);

#endif
