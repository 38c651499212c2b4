/* journal.h - the one durable thing: facts and texts, one value of each per commit, in LMDB.
 *
 * append() adds one commit; when it returns 0 the commit survives kill -9 and power loss. Values carry an xxh3 of
 * their payload (LMDB 0.9 has no page checksums). Default sync flags only: others lost or corrupted acknowledged
 * commits when measured. Nothing is ever deleted. A folder has one writer; readers may come and go beside it. Of an open journal, other threads than its own may
 * call what reads (scan, commit, text, id) while that one appends. */
#ifndef DROVER_JOURNAL_H
#define DROVER_JOURNAL_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

#define JOURNAL_FORMAT 1

struct journal;

/* Where a text stands: in the text value of a commit. */
struct text_ref {
    uint64_t commit; /* 1, 2, ...; 0: no text */
    uint32_t offset, len;
};

struct journal_options {
    bool read_only;     /* for reports beside a running broker: takes no lock, fails if there is no journal */
    uint64_t map_max;   /* most bytes the file may grow to; 0: 1 TiB */
    uint64_t map_start; /* first map size, doubled when full; 0: 1 GiB. Tests use a tiny one */
};

/* Opens or creates DIR. ERR_LOCKED names the pid that holds it. ERR_CORRUPT: foreign, truncated (the file is shorter
 * than its meta pages say: LMDB itself would die of SIGBUS) or damaged file; ERR_VERSION: another format;
 * ERR_REFUSED: a network filesystem (LMDB's locks and maps are not safe there); ERR_IO. */
int journal_open(const char *dir, const struct journal_options *options, struct journal **journal, struct error *error);
void journal_close(struct journal **journal);

/* Number that the next append will get. */
uint64_t journal_next(const struct journal *journal);

/* Durably appends one commit. ERR_DISK_FULL: nothing was written, call again with the same when there is space.
 * Anything else: the process must end, the state on disk is the last good commit. Either slice may be empty, not
 * both. Grows the map as needed. */
int journal_append(struct journal *journal, struct slice facts, struct slice texts, struct error *error);

/* Calls visit(arg, commit, facts) for every commit from `from` on, in order; a non-zero return of visit ends the scan
 * and is returned. The slice is valid during the call only. ERR_CORRUPT names the commit. Returns 0 at the end. */
int journal_scan(struct journal *journal, uint64_t from, int (*visit)(void *arg, uint64_t commit, struct slice facts),
                 void *arg, struct error *error);

/* Sets facts and texts to what one commit holds, checksums verified. ERR_NOT_FOUND: no such commit. */
int journal_commit(struct journal *journal, uint64_t commit, struct buf *facts, struct buf *texts, struct error *error);

/* Appends the text at ref to out. ERR_CORRUPT when ref lies outside what was stored; the checksum of the whole text
 * value is verified when `verify` is set (exports, audit), not on the broker's hot path. */
int journal_text(struct journal *journal, struct text_ref ref, bool verify, struct buf *out, struct error *error);

/* Random number of this journal, drawn when it was made; 0 for one of a release that drew none. */
uint64_t journal_id(const struct journal *journal);

/* Bytes of the journal's file, for status. */
uint64_t journal_bytes(const struct journal *journal);

#endif
