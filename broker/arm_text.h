/* arm_text.h - an arm of a core in the words of a sweep file, to be pasted. */
#ifndef DROVER_ARM_TEXT_H
#define DROVER_ARM_TEXT_H

#include "broker/core/read.h"
#include "common/buf.h"

/* What stands beside the keys and holds for the arm too. */
struct arm_context {
    uint32_t pool, verifier; /* verifier: NO_ID: none */
};

/* Whether the keys can tell all of it: they name no budget and no prior, which are of their own sweep. */
bool arm_text_can(const struct core *core, uint32_t arm);

/* Appends "n: 16, stop: {beta: {threshold: 0.9}}": what differs from the defaults, and from the context. */
void arm_text(const struct core *core, uint32_t arm, const struct arm_context *context, struct buf *out);

#endif
