/* cues.h - the texts behind cues (common/rollout.h), as a model's spec says them. */
#ifndef DROVER_CUES_H
#define DROVER_CUES_H

#include "common/io/agent.h"

/* Appends the text of the cue: the model's, or its default. ERR_SYNTAX: the spec is no JSON object. */
int cue_text(struct slice spec, enum cue cue, struct buf *out);

/* Appends the text that ends thinking; nothing where the model does not say it. */
int cue_think_end(struct slice spec, struct buf *out);

/* Appends what stands behind the prompt as one text: the path, or earlier attempts with the instruction behind each. */
void cue_path(const struct job *job, struct buf *out);

#endif
