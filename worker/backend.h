/* backend.h - every generator that a worker can run. Adding one: its file, and a line in
 * backends.c. */
#ifndef DROVER_BACKEND_H
#define DROVER_BACKEND_H

#include "common/io/agent.h"

extern const struct engine engine_tinylm;
extern const struct engine engine_replay;
extern const struct engine engine_synthetic;
extern const struct engine engine_exec;
extern const struct engine engine_openai;
extern const struct engine engine_candidates;

extern const struct engine *const backends[]; /* ends with NULL */

#endif
