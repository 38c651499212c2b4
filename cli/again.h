/* again.h - what `reverify` and `reselect` share: a sweep over rollouts that are there, made here or by a broker. */
#ifndef DROVER_AGAIN_H
#define DROVER_AGAIN_H

#include "cli/run.h"
#include "common/msg.h"

struct again {
    struct local_run local; /* command, and what --state, --json and --quiet say */
    const char *broker;     /* that is to do it; NULL: this process */
    const char *file;       /* read into *yaml ahead; NULL: none */
    struct slice *yaml;
    const void *what; /* of the two below */
    int (*make)(struct server *server, const void *what, uint32_t *sweep, struct buf *note, struct error *error);
    struct msg (*request)(const void *what);
};

/* Makes the sweep, and serves it with this machine's verifiers. Returns the exit code. */
int again_run(struct again *again);

#endif
