/* backends.c - the table of generators; see backend.h. */
#include "worker/backend.h"

#include <stddef.h>

/* One a line, so that two that are added at once do not meet. */
/* clang-format off */
const struct engine *const backends[] = {
    &engine_tinylm,
    &engine_replay,
    &engine_synthetic,
    &engine_exec,
    &engine_openai,
    &engine_candidates,
    NULL,
};
/* clang-format on */
