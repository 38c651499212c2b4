/* backends.c - the table of generators; see backend.h. */
#include "worker/backend.h"

#include <stddef.h>

const struct engine *const backends[] = {
    &engine_tinylm, &engine_replay, &engine_synthetic, &engine_exec, &engine_openai, &engine_candidates, NULL,
};
