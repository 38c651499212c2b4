/* join.h - the join file: how agents and clients find a broker whose address nobody knew before it started.
 *
 * The broker writes it once it listens, on a folder that the machines share; `--join FILE` reads it. A small YAML file,
 * so that a person can read and write one too. */
#ifndef DROVER_JOIN_H
#define DROVER_JOIN_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

struct join {
    char agents[256];  /* where workers and verifiers connect */
    char clients[256]; /* where submit, status, ... connect */
    uint64_t epoch;    /* of the broker that wrote it; tells people which start this was */
};

/* Fills error as "FILE:LINE:COLUMN: sentence". */
int join_parse(struct slice text, const char *file, struct join *join, struct error *error);
void join_print(const struct join *join, struct buf *out);

/* An endpoint as other machines reach it: its host is replaced by host. ipc:// stays as it is; so does tcp:// when host is
 * NULL. ERR_LIMIT: too long. */
int join_endpoint(const char *endpoint, const char *host, char out[static 256], struct error *error);

/* tcp:// on every address of the machine (0.0.0.0, [::], *): not one that another can connect to. */
bool join_wildcard(const char *endpoint);

#endif
