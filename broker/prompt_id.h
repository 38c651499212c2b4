/* prompt_id.h - what exports read of JSON that others wrote: how a prompt is called, and details of verdicts. */
#ifndef DROVER_PROMPT_ID_H
#define DROVER_PROMPT_ID_H

#include "common/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* Appends the `id` of a prompt's record (a line of JSONL); when it has none, its number in the set, from 1. */
void prompt_id(struct slice record, uint32_t prompt, struct buf *out);

/* Appends text on one line if it is a JSON object that any reader can take: valid, no key twice, at most 32 deep. */
bool plain_object(struct slice text, struct buf *out);

#endif
