/* reverify.h - a sweep that judges the rollouts of another one again: new verdicts beside the old, nothing generated. */
#ifndef DROVER_REVERIFY_H
#define DROVER_REVERIFY_H

#include "broker/core/read.h"
#include "broker/sweep_file.h"
#include "common/buf.h"
#include "common/err.h"

struct reverify_request {
    uint32_t sweep;                /* whose rollouts are judged */
    const char *verifier, *truth;  /* names; truth NULL: that of the sweep, if it has one */
    const char *name;              /* of the new sweep; NULL: SWEEP@VERIFIER */
    const struct sweep_spec *file; /* where verifiers are looked for first; NULL: only those that the journal knows */
};

/* Definitions of a sweep over the same pools, as EVENT_SUBMIT takes them: one arm per pool, of `allocate: existing`, which
 * selects by the verifier's score. Arms that grow trees are left out: their nodes keep only the verdicts that they were
 * grown with. ERR_NOT_FOUND: no verifier of that name; ERR_CONFLICT: no rollouts; ERR_LIMIT: a name that is too long. */
int reverify_definitions(const struct core *core, const struct reverify_request *request, struct buf *to,
                         struct error *error);

/* A sentence on what of the sweep is left out; nothing when all is judged. */
void reverify_note(const struct core *core, uint32_t sweep, struct buf *note);

#endif
