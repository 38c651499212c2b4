/* hash.h - 64-bit hashes of bytes (xxh3): for tables, answer classes and checksums, not against an
 * enemy.
 *
 * The values are stored in journals, so they never change for equal bytes. */
#ifndef DROVER_HASH_H
#define DROVER_HASH_H

#include "common/buf.h"

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *data, size_t len);

/* 128 bits, for what is found again by its content alone. */
void hash_wide(const void *data, size_t len, uint64_t *high, uint64_t *low);

/* Goes on from an earlier hash: hash_more(hash_bytes(a), b) stands for the pair (a, b), not for a
 * with b behind it. */
uint64_t hash_more(uint64_t seed, const void *data, size_t len);

/* The same as hash_more of all parts joined. */
uint64_t hash_parts(uint64_t seed, const struct slice *parts, size_t len);

#endif
