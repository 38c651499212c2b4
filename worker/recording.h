/* recording.h - recorded rollouts from a CSV or JSONL file, found by (prompt id, ordinal).
 *
 * Per prompt the rollouts are numbered 0, 1, ... in the order of the ordinal column, or of the rows
 * when there is none. A recording does not change once loaded, so threads may share it. */
#ifndef DROVER_RECORDING_H
#define DROVER_RECORDING_H

#include "common/buf.h"
#include "common/err.h"
#include "common/rollout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a column may hold; the name is also where it is looked for unless options.columns says
 * otherwise. */
#define COLUMN_TABLE(X)                                                                   \
    X(COLUMN_PROMPT, "prompt", "id of the prompt")                                        \
    X(COLUMN_ORDINAL, "ordinal", "place of the rollout among those of its prompt")        \
    X(COLUMN_TEXT, "text", "the text; without it, the answer is the text")                \
    X(COLUMN_ANSWER, "answer", "the answer; empty: none")                                 \
    X(COLUMN_CORRECT, "correct", "1, 0, true or false; empty: not graded")                \
    X(COLUMN_REWARD, "reward", "a number; empty: none")                                   \
    X(COLUMN_TOKENS_IN, "tokens_in", "tokens of the prompt")                              \
    X(COLUMN_TOKENS_OUT, "tokens_out", "tokens generated; without it, words of the text") \
    X(COLUMN_LATENCY, "latency_ms", "how long it took, in ms")

enum column {
#define X(name, text, help) name,
    COLUMN_TABLE(X)
#undef X
        COLUMNS
};

enum recording_format { RECORDING_AUTO, RECORDING_CSV, RECORDING_JSONL };

struct recording_options {
    enum recording_format format; /* auto: CSV when the name ends in .csv, else JSONL */
    const char *columns[COLUMNS]; /* NULL: the default name, and it may be absent (prompt excepted) */
};

struct recorded {
    struct slice prompt, text, answer;
    int64_t ordinal; /* as recorded */
    uint64_t line;
    uint32_t tokens_in, tokens_out, latency_ms;
    struct features features;
};

struct recording;

/* ERR_NOT_FOUND (file, column), ERR_SYNTAX, ERR_RANGE, ERR_LIMIT, ERR_CONFLICT (one ordinal twice):
 * the error names file, line and column. */
int recording_load(const char *path, const struct recording_options *options, struct recording **recording,
                   struct error *error);
void recording_free(struct recording **recording);

/* The rollouts of a prompt in order, and how many; 0 for a prompt that was not recorded. */
size_t recording_find(const struct recording *recording, struct slice prompt, const struct recorded **first);

size_t recording_len(const struct recording *recording);
bool recording_has_answers(const struct recording *recording);

#endif
