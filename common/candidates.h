/* candidates.h - the order of fixed candidates, on which worker (backend candidates) and verifier (label) must agree.
 *
 * A record has `candidates`, in their own order, or `chosen` and `rejected`. The latter are turned by the record's hash:
 * else the right one would always come first, and win every tie. */
#ifndef DROVER_CANDIDATES_H
#define DROVER_CANDIDATES_H

#include "common/buf.h"
#include "common/hash.h"

#include <stddef.h>
#include <stdint.h>

/* Place of candidate `ordinal` (below len) in the chosen ones followed by the rejected ones. */
static inline size_t candidate_turned(struct slice record, uint32_t ordinal, size_t len)
{
    return (ordinal + hash_bytes(record.data, record.len) % len) % len;
}

#endif
