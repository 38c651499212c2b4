/* prompt_id.h - how a prompt is called in exports. */
#ifndef DROVER_PROMPT_ID_H
#define DROVER_PROMPT_ID_H

#include "common/buf.h"

#include <stdint.h>

/* Appends the `id` of a prompt's record (a line of JSONL); when it has none, its number in the set, from 1. */
void prompt_id(struct slice record, uint32_t prompt, struct buf *out);

#endif
