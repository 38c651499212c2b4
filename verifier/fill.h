/* fill.h - templates: how a prompt and a text are put to a model that judges.
 *
 * Only the names below, in braces, are replaced; every other brace stays as it is, for problems and JSON are full of
 * them. What is put in is never looked at again, so a candidate that writes {reference} gets nothing. */
#ifndef DROVER_FILL_H
#define DROVER_FILL_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>

#define FILL_TABLE(X)                \
    X(FILL_PROMPT, "prompt")         \
    X(FILL_TEXT, "text")             \
    X(FILL_ANSWER, "answer")         \
    X(FILL_REFERENCE, "reference")   \
    X(FILL_NONCE, "nonce")           \
    X(FILL_OTHER, "other")           \
    X(FILL_CANDIDATES, "candidates") \
    X(FILL_COUNT, "count")

enum fill_name {
#define X(name, text) name,
    FILL_TABLE(X)
#undef X
        FILL_NAMES
};

struct fill {
    struct slice of[FILL_NAMES];
    void (*put)(struct buf *out, struct slice text); /* how a value is written; NULL: as it is */
};

/* Appends the template with its names replaced. */
void fill_put(struct slice template, const struct fill *fill, struct buf *out);

/* Whether a template says where this goes. */
bool fill_has(struct slice template, enum fill_name name);

/* A template option: a text that holds {text} or {candidates} is the template itself, anything else names a file as the
 * verifier finds it. ERR_NOT_FOUND, ERR_LIMIT, ERR_SYNTAX (it does not say where `must` goes). */
int fill_load(const char *option, enum fill_name must, struct buf *out, struct error *error);

#endif
