/* answer.h - the answer of a text, as the canonical string that votes, classes and checks compare.
 *
 * Canonical: trimmed, each run of white space one space. An empty answer means that there is none:
 * it casts no vote. */
#ifndef DROVER_ANSWER_H
#define DROVER_ANSWER_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

#define EXTRACTOR_TABLE(X)                                                                      \
    X(EXTRACTOR_NONE, "none", "no answer is looked for")                                        \
    X(EXTRACTOR_LAST_LINE, "last-line", "the last line that is not empty")                      \
    X(EXTRACTOR_LAST_NUMBER, "last-number", "the last whole number, decimal or fraction")       \
    X(EXTRACTOR_BOXED, "boxed", "the last \\boxed{...} with balanced braces")                   \
    X(EXTRACTOR_AFTER_MARKER, "after-marker", "from the last marker to the end of its line")    \
    X(EXTRACTOR_REGEX, "regex", "first group of the last match of a POSIX extended expression") \
    X(EXTRACTOR_FINAL, "final",                                                                 \
      "the last \\boxed{...}, else after ####, else after \"answer is\", else the last number")

enum extractor_kind {
#define X(name, text, help) name,
    EXTRACTOR_TABLE(X)
#undef X
};

/* How answers are found; the caller fills it in from the model's spec and keeps the texts. */
struct extractor {
    enum extractor_kind kind;
    const char *pattern; /* regex: at most 512 bytes, no back references; a match lies within one line */
    const char *marker;  /* after-marker: not empty */
    bool partial;        /* truncated texts have answers too */
};

/* False when no kind has this name. */
bool extractor_kind_of(struct slice name, enum extractor_kind *kind);

/* Whether an extractor can be used at all: ERR_SYNTAX (the pattern), ERR_LIMIT (pattern too big
 * once its repetitions are written out), ERR_RANGE (marker or pattern missing). */
int extractor_check(const struct extractor *extractor, struct error *error);

/* Sets out to the answer of a text, empty when there is none or it is longer than LIMIT_ANSWER. A
 * regex looks at the last 64 KiB of a text and the first 4 KiB of each line. Errors as
 * extractor_check; out is then empty. */
int answer_extract(const struct extractor *extractor, struct slice text, bool truncated, struct buf *out);

/* Sets out to the canonical form of any text; not limited in length. */
void answer_canonical(struct slice text, struct buf *out);

/* The class of a canonical answer; 0 for the empty one only. */
uint64_t answer_class(struct slice answer);

#endif
