/* recording.h - recorded rollouts from CSV or JSONL, found by (model, prompt id, ordinal).
 *
 * A line of JSONL is what `drover results` prints, a line of an OpenAI batch output (custom_id and response.body, each
 * choice a rollout), or any object with the keys that columns name. Per prompt the rollouts are numbered 0, 1, ... in
 * the order of the ordinal column, or of the rows when there is none. Nodes of trees are left out. A recording does not
 * change once loaded, so threads may share it. */
#ifndef DROVER_RECORDING_H
#define DROVER_RECORDING_H

#include "common/buf.h"
#include "common/err.h"
#include "common/rollout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a column may hold; the name is also where it is looked for unless options.columns says otherwise. Every feature
 * has a column of its name behind these. */
#define COLUMN_TABLE(X)                                                                   \
    X(COLUMN_PROMPT, "prompt", "id of the prompt")                                        \
    X(COLUMN_ORDINAL, "ordinal", "place of the rollout among those of its prompt")        \
    X(COLUMN_TEXT, "text", "the text; without it, the answer is the text")                \
    X(COLUMN_ANSWER, "answer", "the answer; empty: none")                                 \
    X(COLUMN_TOKENS_IN, "tokens_in", "tokens of the prompt")                              \
    X(COLUMN_TOKENS_OUT, "tokens_out", "tokens generated; without it, words of the text") \
    X(COLUMN_LATENCY, "latency_ms", "how long it took, in ms")                            \
    X(COLUMN_LATENCY_S, "latency_s", "the same in seconds")                               \
    X(COLUMN_MODEL, "model", "what generated it")                                         \
    X(COLUMN_FINISH, "finish", "stop, length, timeout, failed or exhausted; empty: stop")

enum column {
#define X(name, text, help) name,
    COLUMN_TABLE(X)
#undef X
        COLUMN_FEATURE, /* + enum feature; `correct` is 1, 0, true, false or empty, all others are numbers */
    COLUMNS = COLUMN_FEATURE + FEATURES
};

const char *column_name(enum column column); /* its default */
bool column_of(struct slice name, enum column *column);

enum recording_format { RECORDING_AUTO, RECORDING_CSV, RECORDING_JSONL };

/* Rows count only if the column `column` holds `value`. */
struct recording_filter {
    const char *column, *value;
};

struct recording_options {
    enum recording_format format; /* auto: CSV when the name ends in .csv, else JSONL */
    const char *columns[COLUMNS]; /* NULL: the default name, and it may be absent (prompt excepted) */
    const struct recording_filter *filters;
    size_t filters_len;
    bool models;      /* rollouts of different models are told apart; else the column is not looked at */
    const char *hint; /* where a person says which columns to read, for messages; NULL: "options.columns" */
};

struct recorded_verdict {
    uint32_t verifier; /* see recording_verifier */
    struct verdict verdict;
};

struct recorded {
    struct slice model, prompt, text, answer;
    int64_t ordinal; /* as recorded */
    uint64_t line;
    uint32_t tokens_in, tokens_out, latency_ms;
    enum finish finish; /* STOP, LENGTH or TIMEOUT; FAILED: keeps its place, and has no text */
    enum logprob_mode logprobs;
    struct features features;
    const struct recorded_verdict *verdicts;
    uint32_t verdicts_len;
};

struct recording;

/* ERR_NOT_FOUND (file, column), ERR_SYNTAX, ERR_RANGE, ERR_LIMIT, ERR_CONFLICT (one ordinal twice, two CSV columns
 * of a name that is read): the error names file, line and column. */
int recording_load(const char *path, const struct recording_options *options, struct recording **recording,
                   struct error *error);
/* The same of text; name stands for the file, for messages and format. */
int recording_parse(struct slice text, const char *name, const struct recording_options *options,
                    struct recording **recording, struct error *error);
void recording_free(struct recording **recording);

/* The rollouts of a prompt in order, and how many; 0 for a prompt that was not recorded. model: "" unless
 * options.models. */
size_t recording_find(const struct recording *recording, struct slice model, struct slice prompt,
                      const struct recorded **first);

/* All rollouts, by model, prompt and ordinal. */
size_t recording_len(const struct recording *recording);
const struct recorded *recording_at(const struct recording *recording, size_t i);

/* Names of the verifiers that verdicts are of, and how many. */
size_t recording_verifiers(const struct recording *recording);
const char *recording_verifier(const struct recording *recording, size_t i);

struct slice recording_sweep(const struct recording *recording); /* whose results they are; "": none says so */
bool recording_has_answers(const struct recording *recording);
/* Lines with rollouts of pools in which some are ended while they are generated (`kill`): left out, too. */
uint64_t recording_ended(const struct recording *recording);
uint64_t recording_nodes(const struct recording *recording); /* lines with nodes of trees, which were left out */

#endif
