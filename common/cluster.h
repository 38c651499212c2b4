/* cluster.h - cluster.conf: what broker, workers, verifiers and clients of one cluster agree on.
 *
 * Every key has a default, so a laptop needs no file. The file at the top of the repository says
 * every default. */
#ifndef DROVER_CLUSTER_H
#define DROVER_CLUSTER_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

struct cluster_conf {
    char listen[256];  /* where workers and verifiers connect, a ZeroMQ endpoint */
    char clients[256]; /* where submit, status, ... connect */
    char state[1024];  /* folder of the journal */
    bool insecure;     /* allows endpoints that other machines reach, without keys */
    uint32_t heartbeat_busy_ms, heartbeat_idle_ms;
    uint32_t lease_heartbeats; /* announced heartbeats that may be missed before an agent counts as
                                  lost */
    uint64_t map_max_gib;      /* most GiB that the journal may grow to */
    uint32_t batch;            /* messages that one commit covers at most */
    bool short_slice;          /* ask the kernel for short time slices */
    char redis[256];           /* a Redis that is told what is committed, "": none */
    char redis_prefix[65];     /* of its keys */
    uint64_t redis_stream_max; /* entries that its stream keeps */
    bool redis_texts;          /* rollouts come with their text */
    bool redis_verdicts;       /* verifiers share verdicts through it */
};

/* Text may be empty: all defaults. Fills error as "FILE:LINE:COLUMN: sentence". */
int cluster_conf_parse(struct slice text, const char *file, struct cluster_conf *conf, struct error *error);

/* tcp://ADDRESS:PORT (PORT may be `*`) or ipc://PATH. */
bool endpoint_valid(const char *text);

/* Every key with its type, range, default and help. */
void cluster_conf_help(struct buf *out);

/* Every key with its default, as an annotated file. */
void cluster_conf_example(struct buf *out);

#endif
