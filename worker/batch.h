/* batch.h - answers from OpenAI batch files in place of servers: a worker whose backend `openai` looks them up.
 *
 * A rollout's custom_id is SWEEP/MODEL/PROMPT/ORDINAL. Lines may come in any order and from several files; the sweep's name
 * is not looked at, since workers do not know it. */
#ifndef DROVER_BATCH_H
#define DROVER_BATCH_H

#include "common/io/agent.h"

/* custom_id without the sweep: prompt is the record's id, or "#INDEX" for a record without one. */
void batch_key(const char *model, struct slice record, uint32_t prompt, uint32_t ordinal, struct buf *out);

/* Adds the answers of a file; called before the worker starts. A later line of the same custom_id takes the place of a failed
 * one. ERR_NOT_FOUND, ERR_IO, ERR_SYNTAX, ERR_LIMIT: the error names file and line. */
int batch_load(const char *path, struct error *error);
size_t batch_len(void);
void batch_clear(void);

/* The worker's lines of agent_options: it serves backend openai and nothing else. */
void batch_options(struct agent_options *options);

#endif
