/* batch_line.h - one line of an OpenAI batch output as recorded rollouts. */
#ifndef DROVER_BATCH_LINE_H
#define DROVER_BATCH_LINE_H

#include "worker/fields.h"
#include "worker/recording.h"

/* Is it such a line? It has a custom_id beside a response or an error. */
bool batch_line(const struct fields *line);

/* Calls take with each choice of the answer, in order; slices are borrowed for the call. A custom_id of drover's own
 * form, SWEEP/MODEL/PROMPT/ORDINAL, gives model, prompt and ordinal (*ordered is then set); any other is the id of the
 * prompt. A request that failed is one rollout that failed. Usage tells only the sum of several choices: each counts an
 * equal share, unless every choice came with its log-probabilities. ERR_SYNTAX, ERR_PROTOCOL, ERR_LIMIT: the error says
 * what is wrong, without the line; what `take` returns otherwise. */
int batch_line_read(const struct fields *line, bool *ordered,
                    int (*take)(void *arg, const struct recorded *rollout, struct error *error), void *arg,
                    struct error *error);

#endif
