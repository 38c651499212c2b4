/* hash.c - the one file that includes xxhash; see hash.h. */
#include "common/hash.h"

#include <xxhash.h>

uint64_t hash_bytes(const void *data, size_t len)
{
    return XXH3_64bits(data, len);
}

uint64_t hash_more(uint64_t seed, const void *data, size_t len)
{
    return XXH3_64bits_withSeed(data, len, seed);
}

void hash_wide(const void *data, size_t len, uint64_t *high, uint64_t *low)
{
    XXH128_hash_t hash = XXH3_128bits(data, len);
    *high = hash.high64;
    *low = hash.low64;
}

uint64_t hash_parts(uint64_t seed, const struct slice *parts, size_t len)
{
    if (len == 1)
        return hash_more(seed, parts[0].data, parts[0].len);
    XXH3_state_t *state = XXH3_createState();
    XXH3_64bits_reset_withSeed(state, seed);
    for (size_t i = 0; i < len; i++)
        XXH3_64bits_update(state, parts[i].data, parts[i].len);
    uint64_t hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return hash;
}
