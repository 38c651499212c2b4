/* rng.h - counter-based randomness: a pure function of (seed, purpose, a, b).
 *
 * Nothing in drover draws from a stream whose position depends on timing: equal keys give equal numbers on any
 * machine and in any order. SplitMix64's finaliser (Steele et al. 2014) mixes each word in turn. */
#ifndef DROVER_RNG_H
#define DROVER_RNG_H

#include <stdint.h>

/* What a number is drawn for. Numbers are never reused: a recorded sweep must replay. */
enum rng_purpose {
    RNG_ROLLOUT = 1,   /* sampling seed of a rollout: a = prompt, b = ordinal           */
    RNG_NODE = 2,      /* sampling seed of a tree node: a = prompt, b = tree << 32 | node */
    RNG_RESAMPLE = 3,  /* particle resampling: a = prompt << 32 | tree, b = step         */
    RNG_VERIFIER = 4,  /* verifier noise: a, b = key of what is judged                   */
    RNG_SYNTHETIC = 5, /* laws of the synthetic backend                                  */
    RNG_TOKEN = 6,     /* token choice: a = position                                     */
    RNG_BOOTSTRAP = 7, /* report intervals                                               */
    RNG_TEST = 8,
    RNG_SELECT = 9, /* selectors that draw: a = prompt, b = ordinal */
    RNG_WORLD = 10, /* laws of simulated prompts */
};

static inline uint64_t rng_mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static inline uint64_t rng_u64(uint64_t seed, enum rng_purpose purpose, uint64_t a, uint64_t b)
{
    return rng_mix(rng_mix(rng_mix(seed ^ ((uint64_t)purpose << 56)) ^ a) ^ b);
}

/* Uniform in [0, 1), 53 bits. */
static inline double rng_unit(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1p-53;
}

#endif
