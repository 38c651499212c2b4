/* reselect.h - a sweep that decides over the rollouts of another one again: other policies, nothing generated. */
#ifndef DROVER_RESELECT_H
#define DROVER_RESELECT_H

#include "broker/core/read.h"
#include "common/buf.h"
#include "common/err.h"

struct reselect_request {
    uint32_t sweep;    /* whose rollouts are decided over */
    const char *name;  /* of the new sweep; NULL: SWEEP@ARM, ARM the first of the new ones */
    struct slice yaml; /* arms, see sweep_arms_parse */
    const char *file;  /* its name, for messages */
};

/* Definitions of a sweep over the same pools, as EVENT_SUBMIT takes them: the arms of the file with `rollouts:
 * existing`. They may name the models of arms that sample, verifiers of the file, and those that the journal knows (of
 * several of one name the sweep's own, else the latest). note: a sentence on arms that grow trees, of the sweep or of
 * the file, which are left out. The errors of sweep_arms_parse; ERR_CONFLICT: no sampled rollouts; ERR_LIMIT: a name
 * that is too long. */
int reselect_definitions(const struct core *core, const struct reselect_request *request, struct buf *to,
                         struct buf *note, struct error *error);

#endif
