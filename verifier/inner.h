/* inner.h - a check that another check consults. */
#ifndef DROVER_INNER_H
#define DROVER_INNER_H

#include "verifier/check.h"
#include "verifier/doc.h"

struct inner {
    const struct check *check; /* NULL: none */
    void *state;
};

/* Opens the check that spec holds under inner.NAME. Errors as check_open, ERR_NOT_FOUND for an
 * unknown name. */
int inner_open(const struct json_t *spec, const char *name, struct inner *inner, struct error *error);
int inner_run(const struct inner *inner, const struct check_input *input, struct verdict *verdict, struct error *error);
void inner_close(struct inner *inner);

/* Verdicts of checks that only know right from wrong. */
struct verdict verdict_of(bool pass);
extern const struct verdict verdict_unknown;

/* The prompt text of a record as *prompt, borrowed from *doc, which the caller frees. NULL data
 * when there is none. ERR_SYNTAX when the record is not a JSON object. */
int check_prompt(struct slice record, struct json_t **doc, struct slice *prompt, struct error *error);

#endif
