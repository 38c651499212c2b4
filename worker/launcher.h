/* launcher.h - inference servers that a worker starts itself: one per group of GPUs, started again when they die, and
 * ended with the worker whatever becomes of it.
 *
 * Between the worker and each server stands a guard, a process that does nothing but hold the end of a line: when the line
 * is closed, by launcher_stop or because the worker is gone, kill -9 included, it ends the server and all that the server
 * started in its process group. Whether a server is healthy is for servers.h to find out. */
#ifndef DROVER_LAUNCHER_H
#define DROVER_LAUNCHER_H

#include "common/err.h"
#include "worker/gpus.h"

#include <stdint.h>

struct launcher;

enum launcher_event {
    LAUNCHER_STARTED, /* for the first time or again; it will take a while to be ready */
    LAUNCHER_DIED,    /* it is going to be started again */
    LAUNCHER_GONE,    /* never again at this address */
};

struct launcher_options {
    const char *command; /* read by /bin/sh; {port}, {gpus}, {index} are replaced */
    const char *url;     /* of a server, with {port} */
    const struct gpu_plan *plan;
    const char *log_dir, *name; /* each writes to LOG_DIR/NAME-INDEX.log */
    int64_t pause_ms;           /* before a server that died is started again; doubled each time, up to a minute */
    /* Called by launcher_start and by the launcher's thread. */
    void (*changed)(void *arg, const char *url, enum launcher_event event);
    /* No server is left, each has died too often: told once. */
    void (*hopeless)(void *arg);
    void *arg;
};

/* ERR_SYSTEM: no port, no log file, no thread. */
int launcher_start(const struct launcher_options *options, struct launcher **launcher, struct error *error);

/* Ends the servers: SIGTERM, and SIGKILL after 5 s. Sets *launcher to NULL, and does nothing for NULL. */
void launcher_stop(struct launcher **launcher);

#endif
