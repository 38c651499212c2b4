/* compose.h - checks that ask other checks, one after the other.
 *
 * A composite only says whom to ask next and what follows from the findings; it asks nobody itself. The engine that does
 * has hundreds of questions open with others that wait for servers. */
#ifndef DROVER_COMPOSE_H
#define DROVER_COMPOSE_H

#include "verifier/check.h"
#include "verifier/doc.h"

#define COMPOSE_MAX  2 /* others that one composite asks */
#define COMPOSE_DONE -1

struct finding {
    bool asked;
    struct verdict verdict;
    struct buf detail;
};

struct composite {
    const char *name;                 /* of the check */
    const char *options[COMPOSE_MAX]; /* which name the others; NULL: no more */
    bool required[COMPOSE_MAX];
    size_t size; /* of what `open` fills */
    int (*open)(void *own, const struct json_t *spec, struct error *error);
    /* The index of the one to ask next, or COMPOSE_DONE. `there`: which ones the sweep file names. */
    int (*next)(const void *own, const struct check_input *input, const bool *there, const struct finding *findings);
    /* Fills verdict, and detail with the members of an object. */
    void (*decide)(const void *own, const struct check_input *input, const struct finding *findings,
                   struct verdict *verdict, struct buf *detail);
};

extern const struct composite composite_cascade, composite_hybrid;
extern const struct engine engine_compose;

/* `open` of a check that is a composite; alone_run and alone_close are the rest. */
int compose_open(struct slice spec, void **state, struct error *error);

/* Writes {"outcome": ..., "score": ..., "detail": {...}} below key. */
void compose_finding_json(const char *key, const struct finding *finding, struct buf *out);

#endif
