/* run.h - a sweep served by this process to children of its own: what `drover run`, `reverify` and `reselect` do. */
#ifndef DROVER_RUN_H
#define DROVER_RUN_H

#include "broker/server.h"

#include <argp.h>

struct local_run {
    const char *command;                /* for messages */
    const char *state;                  /* folder */
    uint32_t workers, verifiers;        /* processes */
    uint32_t threads, verifier_threads; /* of each worker, of each verifier */
    bool json, quiet;
    bool settles;       /* nobody is waited for: it ends once nothing is in flight */
    const char *beside; /* a sweep whose arms its report shows, too; NULL: none */
    int (*begin)(struct server *server, void *arg, uint32_t *sweep, struct error *error); /* submits the sweep */
    void *arg;
};

/* --state, --json and --quiet, whose input is a local_run. */
extern const struct argp_child local_children[];

/* Serves it to its end or until it is interrupted, then prints its report. Returns the exit code. */
int run_local(const struct local_run *what);

#endif
