/* join_file.h - the join file on disk: written at once or not at all, read whole; see join.h. */
#ifndef DROVER_JOIN_FILE_H
#define DROVER_JOIN_FILE_H

#include "common/join.h"

/* Addresses as others reach them: with the host `advertise`; NULL: those that listen everywhere get the first address of
 * this machine that is not its own loopback. */
int join_outside(const struct join *join, const char *advertise, struct join *told, struct error *error);

/* Replaces the file in one step. ERR_IO. */
int join_file_write(const char *path, const struct join *join, const char *advertise, struct error *error);

/* A path redis:ADDRESS or redis:ADDRESS#PREFIX is the key that a broker keeps in that Redis.
 * ERR_NOT_FOUND: not there (yet); the errors of join_parse; ERR_IO. */
int join_file_read(const char *path, struct join *join, struct error *error);

/* Reads it, waiting for it to appear at most wait_ms (-1: for ever). */
int join_file_wait(const char *path, int64_t wait_ms, struct join *join, struct error *error);

#endif
