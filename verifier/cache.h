/* cache.h - verdicts that were given before: the same verifier on the same prompt, text and answer.
 *
 * Only for checks that say that they give the same verdict whatever the seed (`cached` in check.h), and verifiers that
 * do not say `cache: false`. Of verdicts only pass, fail and score are kept: the others may be the machine's fault. A
 * process keeps some thousands. If told so, processes also share them through Redis, but for those of checks that depend on
 * a machine's software (CACHED_HERE); whoever can write there can forge
 * verdicts, which is why that is off unless it is trusted. What Redis gives has a digest of its own, so damage costs a
 * check and no verdict. May be called by any thread. */
#ifndef DROVER_CACHE_H
#define DROVER_CACHE_H

#include "common/io/agent.h"

/* Fills verdict and detail of a job that was judged before; false: judge it. */
bool cache_known(struct job *job);

/* Remembers a job that was judged. */
void cache_keep(const struct job *job);

/* From now on also through this Redis (common/io/redis.h), under PREFIX:verdict:... */
void cache_share(const char *redis, const char *prefix);

struct cache_counts {
    uint64_t asked, known, shared; /* shared: of the known ones, by another process */
};
struct cache_counts cache_counts(void);

/* Forgets everything, and Redis. */
void cache_clear(void);

#endif
