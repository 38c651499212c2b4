/* pilot_read.h - a pilot from where `drover plan` and `drover simulate` take it: a sweep, or a file of results. */
#ifndef DROVER_PILOT_READ_H
#define DROVER_PILOT_READ_H

#include "broker/pilot.h"
#include "cli/client.h"

#include <argp.h>

struct pilot_request {
    const char *pilot; /* path of a file, else name of a sweep */
    const char *truth, *model;
    struct reading reading;
    uint32_t rollouts; /* of each prompt, the first so many; 0: all */
};

struct pilot_read {
    struct pilot *pilot;        /* the caller frees it, after failure too */
    char truth[65];             /* verifier that was taken for the truth; "": the lines' `correct` */
    double price_in, price_out; /* of the sweep's model, a million tokens; NAN: not known */
    uint64_t skipped;           /* rollouts whose truth is not known */
};

/* A line of a file holds prompt, answer, tokens_in, tokens_out, ordinal, and verdicts or `correct`, as `drover results`
 * prints them. Nodes of trees and rollouts under a kill rule are left out. The error names file and line. */
int pilot_read(const struct pilot_request *request, struct pilot_read *read, struct error *error);

enum { PILOT_KEYS = 2000, PILOT_TRUTH, PILOT_MODEL, PILOT_ROLLOUTS };

#define PILOT_OPTIONS                                                                                 \
    {                                                                                                 \
        "truth",                                                                                      \
        PILOT_TRUTH,                                                                                  \
        "NAME",                                                                                       \
        0,                                                                                            \
        "verifier that says what is right (default: the sweep's truth, or the only one)",             \
        0},                                                                                           \
        {"model", PILOT_MODEL, "NAME", 0, "whose rollouts count, where there are several models", 0}, \
    {                                                                                                 \
        "rollouts", PILOT_ROLLOUTS, "K", 0, "look at the first K rollouts of each prompt only", 0     \
    }

/* Takes one of these options, and readies reading_children; false: it is another one. */
bool pilot_option(int key, char *arg, struct pilot_request *request, struct argp_state *state);

#endif
