/* own_names.h - what a sweep calls the models of its pools.
 *
 * The core knows a model by the name that the sweep gave it which came first. A later sweep may call the same model
 * otherwise and share its rollouts; what it says of itself, and what is asked of it, is in its own words. */
#ifndef DROVER_OWN_NAMES_H
#define DROVER_OWN_NAMES_H

#include "broker/core/read.h"

struct own_names;

/* By the sweep's file. It borrows from core. */
struct own_names *own_names_new(const struct core *core, uint32_t sweep);
void own_names_free(struct own_names **names);

/* Lives as long as the names. Where the file does not tell (what was changed by overrides), it is the core's name. */
const char *own_name(const struct own_names *names, uint32_t pool);

#endif
