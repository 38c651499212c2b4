/* group.h - verifiers that compare all rollouts of a prompt: the judge's modes `pairwise` and `set`. */
#ifndef DROVER_GROUP_H
#define DROVER_GROUP_H

#include "common/io/agent.h"

#include <stdbool.h>

/* Whether the spec is of such a verifier. */
bool group_spec(struct slice spec);

extern const struct engine engine_group;

#endif
