/* mirror.h - what is committed, told to a Redis stream, by a thread of its own.
 *
 * The journal is the queue: the thread follows it from the last entry that the stream has, so nothing is kept for a Redis
 * that is away, and what was missed is sent when it is back. Entries have the sequence numbers of events as ids, so
 * Redis itself refuses one twice. Nothing comes back from Redis but where to go on. The broker's loop only says how far
 * the journal is; it never waits. doc/EVENTS.md tells of the keys. */
#ifndef DROVER_MIRROR_H
#define DROVER_MIRROR_H

#include "broker/journal.h"
#include "common/cluster.h"

#include <stdbool.h>

struct mirror;

struct mirror_options {
    const struct cluster_conf *conf; /* redis: address, prefix, length of the stream, texts */
    struct journal *journal;         /* read by the thread; closed after mirror_free */
    uint64_t committed;              /* its last commit */
    struct slice join;               /* what others join the broker by, told as long as it runs; may be empty */
};

struct mirror *mirror_new(const struct mirror_options *options);

/* Gives the thread a second to send what is left, if Redis is there. */
void mirror_free(struct mirror **mirror);

/* The journal's last commit. */
void mirror_committed(struct mirror *mirror, uint64_t commit);

struct mirror_status {
    bool connected;
    uint64_t behind;  /* commits that the stream has not */
    uint64_t skipped; /* commits that were older than the stream keeps when Redis came back */
    uint64_t entries; /* sent since the start */
    char why[512];    /* of the last failure, "": none */
};
struct mirror_status mirror_status(struct mirror *mirror);

#endif
