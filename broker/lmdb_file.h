/* lmdb_file.h - is this file safe to hand to LMDB?
 *
 * LMDB 0.9 trusts its file: a truncated one opens and then kills the process with SIGBUS, a damaged
 * page leads it to read or write anywhere, and it has no page checksums. So the file is read with
 * pread, never mapped, and every page that LMDB could follow is checked first. Knows the 64-bit
 * little-endian layout of data version 1 (LMDB 0.9). */
#ifndef DROVER_LMDB_FILE_H
#define DROVER_LMDB_FILE_H

#include "common/err.h"

#include <stdint.h>

/* Sizes and magic: ERR_CORRUPT with a sentence about `path`. Fills txnid (may be NULL) with the
 * newest transaction. */
int lmdb_file_check_head(int fd, const char *path, uint64_t *txnid, struct error *error);

/* Every page of the trees as of transaction txnid: linked once, in order, inside the file, and
 * disjoint from the free list. ERR_NOT_FOUND when no meta page is of that transaction (a writer
 * went on: begin a new one). */
int lmdb_file_check_pages(int fd, const char *path, uint64_t txnid, struct error *error);

/* Name of the network filesystem that statfs gives this f_type to; NULL for all others. */
const char *network_filesystem(long type);

#endif
