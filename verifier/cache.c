/* cache.c - see cache.h. The digests are libsodium's: texts come from models, and one that is made to collide with
 * another must not get its verdict. */
#include "verifier/cache.h"

#include "common/hash.h"
#include "common/io/clock.h"
#include "common/io/redis.h"
#include "common/place.h"
#include "verifier/check.h"
#include "verifier/doc.h"

#include <math.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    VERSION = 1, /* raise it when a check judges differently */
    SETS = 2048,
    WAYS = 4,
    DETAIL_MAX = 4096, /* a verdict with more beside it is not kept */
    KEY_LEN = 32,
    RULES = 64,
    KEEP_S = 7 * 24 * 3600,
    AWAY_MS = 10000, /* a Redis that failed is not asked for so long */
};

struct key {
    unsigned char bytes[KEY_LEN];
};

struct entry {
    struct key key;
    uint64_t used; /* 0: empty */
    struct verdict verdict;
    struct buf detail;
};

/* Whether verdicts of a spec may be kept. Reading specs again for each job would cost more than a cheap check. */
struct rule {
    uint64_t spec;
    enum cached cached;
};

static struct {
    pthread_mutex_t lock;
    struct rule rules[RULES];
    size_t rules_len;
    struct entry *entries; /* SETS x WAYS, made when the first is kept */
    uint64_t clock;
    struct cache_counts counts;
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct {
    pthread_mutex_t lock;
    char address[256], prefix[65]; /* "": not shared */
    struct redis *redis;
    int64_t away_until_ms;
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* -- what is kept, and under what ------------------------------------------------------------------------------------ */

static enum cached rule_of_spec(struct slice spec)
{
    struct json_t *doc;
    struct error error;
    const struct check *check = check_of(spec);
    bool wanted = true;
    if (check == NULL || check->cached == CACHED_NOT || doc_parse(spec, &doc, &error) != 0)
        return CACHED_NOT;
    doc_flag(doc, "cache", &wanted);
    doc_free(&doc);
    return wanted ? check->cached : CACHED_NOT;
}

static enum cached cached_of(struct slice spec)
{
    uint64_t hash = hash_bytes(spec.data, spec.len);
    for (size_t i = 0; i < RULES && i < cache.rules_len; i++)
        if (cache.rules[i].spec == hash)
            return cache.rules[i].cached;
    struct rule *rule = &cache.rules[cache.rules_len++ % RULES];
    *rule = (struct rule){hash, rule_of_spec(spec)};
    return rule->cached;
}

static void digest_part(crypto_generichash_state *state, struct slice part)
{
    uint64_t len = part.len; /* before it, so that no two lists of parts are the same bytes */
    crypto_generichash_update(state, (const unsigned char *)&len, sizeof len);
    crypto_generichash_update(state, (const unsigned char *)part.data, part.len);
}

static struct key key_of(const struct job *job)
{
    struct key key;
    const char kind[2] = {VERSION, (char)job->finished};
    const uint32_t time = job->timeout_ms;
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, KEY_LEN);
    digest_part(&state, (struct slice){kind, sizeof kind});
    digest_part(&state, (struct slice){(const char *)&time, sizeof time}); /* with less it might be a timeout */
    struct buf blank = {0};                                                /* a server that moved would say the same */
    place_blank(job->spec, &blank);
    digest_part(&state, buf_slice(&blank));
    buf_clear(&blank);
    digest_part(&state, job->record);
    digest_part(&state, job->text);
    digest_part(&state, job->answer);
    crypto_generichash_final(&state, key.bytes, KEY_LEN);
    return key;
}

static bool worth_keeping(const struct job *job)
{
    enum outcome outcome = job->verdict.outcome;
    return job->state == JOB_DONE && job->detail.len <= DETAIL_MAX &&
           (outcome == OUTCOME_PASS || outcome == OUTCOME_FAIL || outcome == OUTCOME_SCORE);
}

/* -- this process ------------------------------------------------------------------------------------------------------ */

static struct entry *set_of(const struct key *key)
{
    uint32_t hash;
    memcpy(&hash, key->bytes, sizeof hash);
    return cache.entries + (size_t)(hash % SETS) * WAYS;
}

static bool find(const struct key *key, struct job *job)
{
    struct entry *set = cache.entries == NULL ? NULL : set_of(key);
    for (size_t i = 0; set != NULL && i < WAYS; i++) {
        if (set[i].used == 0 || memcmp(&set[i].key, key, sizeof *key) != 0)
            continue;
        set[i].used = ++cache.clock;
        job->verdict = set[i].verdict;
        buf_reset(&job->detail);
        buf_put(&job->detail, set[i].detail.data, set[i].detail.len);
        return true;
    }
    return false;
}

static void keep(const struct key *key, const struct job *job)
{
    if (cache.entries == NULL)
        cache.entries = xalloc((size_t)SETS * WAYS * sizeof *cache.entries);
    struct entry *set = set_of(key), *oldest = set;
    for (size_t i = 1; i < WAYS; i++)
        if (set[i].used < oldest->used)
            oldest = &set[i];
    oldest->key = *key;
    oldest->used = ++cache.clock;
    oldest->verdict = job->verdict;
    buf_reset(&oldest->detail);
    buf_put(&oldest->detail, job->detail.data, job->detail.len);
}

/* -- other processes --------------------------------------------------------------------------------------------------- */

/* "OUTCOME SCORE DIGEST", a line break, the detail; the digest is of key, outcome, score and detail. */
static void put_value(const struct key *key, unsigned outcome, double score, struct slice detail, struct buf *out)
{
    unsigned char digest[16];
    char hex[33], head[64];
    snprintf(head, sizeof head, "%u %a", outcome, score);
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, sizeof digest);
    digest_part(&state, (struct slice){(const char *)key->bytes, KEY_LEN});
    digest_part(&state, slice_of(head));
    digest_part(&state, detail);
    crypto_generichash_final(&state, digest, sizeof digest);
    buf_printf(out, "%s %s\n", head, sodium_bin2hex(hex, sizeof hex, digest, sizeof digest));
    buf_put(out, detail.data, detail.len);
}

static bool read_value(const struct key *key, struct slice value, struct job *job)
{
    struct buf text = {0}, again = {0};
    unsigned outcome;
    double score;
    int head = 0;
    buf_put(&text, value.data, value.len);
    bool good = text.data != NULL && sscanf(text.data, "%1u %la %*32[0-9a-f]%n", &outcome, &score, &head) == 2 &&
                head > 0 && text.data[head] == '\n' && text.len - (size_t)head - 1 <= DETAIL_MAX && isfinite(score);
    if (good) {
        struct slice detail = {text.data + head + 1, text.len - (size_t)head - 1};
        put_value(key, outcome, score, detail, &again);
        good = again.len == text.len && memcmp(again.data, text.data, text.len) == 0;
        buf_reset(&job->detail);
        buf_put(&job->detail, detail.data, good ? detail.len : 0);
        job->verdict = (struct verdict){(enum outcome)outcome, score};
        job->state = JOB_DONE;
        good = good && worth_keeping(job);
        job->state = JOB_RUNNING;
    }
    buf_clear(&text);
    buf_clear(&again);
    return good;
}

static void name_key(const struct key *key, struct buf *out)
{
    char hex[2 * KEY_LEN + 1];
    buf_printf(out, "%s:verdict:%s", shared.prefix, sodium_bin2hex(hex, sizeof hex, key->bytes, KEY_LEN));
}

/* One command. One that fails ends the connection, and Redis is left alone for a while. */
static bool ask(const struct slice *args, size_t len, struct redis_reply *reply)
{
    struct error error;
    if (clock_ms() < shared.away_until_ms)
        return false;
    int rc = shared.redis != NULL ? 0 : redis_open(shared.address, &shared.redis, &error);
    if (rc == 0)
        rc = redis_ask(shared.redis, args, len, reply, &error);
    if (rc == 0)
        return true;
    redis_close(&shared.redis);
    shared.away_until_ms = clock_ms() + AWAY_MS;
    return false;
}

static bool find_shared(const struct key *key, struct job *job)
{
    struct redis_reply reply;
    struct buf name = {0};
    pthread_mutex_lock(&shared.lock);
    bool found = false;
    if (shared.address[0] != '\0') {
        name_key(key, &name);
        found = ask((struct slice[]){slice_of("GET"), buf_slice(&name)}, 2, &reply) && reply.type == REDIS_TEXT &&
                read_value(key, reply.text, job);
    }
    pthread_mutex_unlock(&shared.lock);
    buf_clear(&name);
    return found;
}

static void keep_shared(const struct key *key, const struct job *job)
{
    struct redis_reply reply;
    struct buf name = {0}, value = {0};
    char seconds[16];
    pthread_mutex_lock(&shared.lock);
    if (shared.address[0] != '\0') {
        name_key(key, &name);
        put_value(key, job->verdict.outcome, job->verdict.score, buf_slice(&job->detail), &value);
        snprintf(seconds, sizeof seconds, "%d", KEEP_S);
        ask((struct slice[]){slice_of("SET"), buf_slice(&name), buf_slice(&value), slice_of("EX"), slice_of(seconds)},
            5, &reply);
    }
    pthread_mutex_unlock(&shared.lock);
    buf_clear(&name);
    buf_clear(&value);
}

/* -- both -------------------------------------------------------------------------------------------------------------- */

bool cache_known(struct job *job)
{
    pthread_mutex_lock(&cache.lock);
    enum cached cached = cached_of(job->spec);
    cache.counts.asked += cached != CACHED_NOT;
    pthread_mutex_unlock(&cache.lock);
    if (cached == CACHED_NOT)
        return false;
    struct key key = key_of(job);
    pthread_mutex_lock(&cache.lock);
    bool here = find(&key, job);
    pthread_mutex_unlock(&cache.lock);
    bool there = !here && cached == CACHED_ANYWHERE && find_shared(&key, job);
    pthread_mutex_lock(&cache.lock);
    if (there)
        keep(&key, job);
    cache.counts.known += here || there;
    cache.counts.shared += there;
    pthread_mutex_unlock(&cache.lock);
    return here || there;
}

void cache_keep(const struct job *job)
{
    pthread_mutex_lock(&cache.lock);
    enum cached cached = worth_keeping(job) ? cached_of(job->spec) : CACHED_NOT;
    pthread_mutex_unlock(&cache.lock);
    if (cached == CACHED_NOT)
        return;
    struct key key = key_of(job);
    pthread_mutex_lock(&cache.lock);
    keep(&key, job);
    pthread_mutex_unlock(&cache.lock);
    if (cached == CACHED_ANYWHERE)
        keep_shared(&key, job);
}

void cache_share(const char *redis, const char *prefix)
{
    pthread_mutex_lock(&shared.lock);
    snprintf(shared.address, sizeof shared.address, "%s", redis);
    snprintf(shared.prefix, sizeof shared.prefix, "%s", prefix);
    pthread_mutex_unlock(&shared.lock);
}

struct cache_counts cache_counts(void)
{
    pthread_mutex_lock(&cache.lock);
    struct cache_counts counts = cache.counts;
    pthread_mutex_unlock(&cache.lock);
    return counts;
}

void cache_clear(void)
{
    pthread_mutex_lock(&cache.lock);
    for (size_t i = 0; cache.entries != NULL && i < (size_t)SETS * WAYS; i++)
        buf_clear(&cache.entries[i].detail);
    free(cache.entries);
    cache.entries = NULL;
    cache.rules_len = 0;
    cache.counts = (struct cache_counts){0};
    pthread_mutex_unlock(&cache.lock);
    pthread_mutex_lock(&shared.lock);
    redis_close(&shared.redis);
    shared.address[0] = '\0';
    shared.away_until_ms = 0;
    pthread_mutex_unlock(&shared.lock);
}
