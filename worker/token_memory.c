/* token_memory.c - see token_memory.h. */
#include "worker/token_memory.h"
#include "common/hash.h"
#include "common/limits.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct digest {
    uint64_t high, low;
};

struct entry {
    struct digest digest;
    struct buf ids;
    UT_hash_handle hh; /* the table keeps the order in which entries were added: the first is the oldest */
};

static struct {
    pthread_mutex_t lock;
    struct entry *all;
    struct token_counts counts;
} memory = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct digest digest_of(const struct token_text *text)
{
    struct digest digest;
    struct buf all = {0};
    buf_put(&all, text->dialect, strlen(text->dialect) + 1);
    buf_put(&all, text->model, strlen(text->model) + 1);
    buf_put(&all, text->prompt.data, text->prompt.len);
    buf_put(&all, text->path.data, text->path.len);
    hash_wide(all.data, all.len, &digest.high, &digest.low);
    buf_clear(&all);
    return digest;
}

static size_t size_of(const struct entry *entry)
{
    return entry->ids.len + sizeof *entry;
}

static struct entry *find(const struct digest *digest)
{
    struct entry *entry;
    HASH_FIND(hh, memory.all, digest, sizeof *digest, entry);
    return entry;
}

static void drop(struct entry *entry)
{
    HASH_DEL(memory.all, entry);
    memory.counts.bytes -= size_of(entry);
    buf_clear(&entry->ids);
    free(entry);
}

bool token_memory_find(const struct token_text *text, struct buf *ids)
{
    struct digest digest = digest_of(text);
    pthread_mutex_lock(&memory.lock);
    struct entry *entry = find(&digest);
    memory.counts.asked++;
    if (entry != NULL) {
        memory.counts.known++;
        HASH_DEL(memory.all, entry); /* it is the newest now */
        HASH_ADD(hh, memory.all, digest, sizeof entry->digest, entry);
        buf_put(ids, entry->ids.data, entry->ids.len);
    }
    pthread_mutex_unlock(&memory.lock);
    return entry != NULL;
}

void token_memory_keep(const struct token_text *text, struct slice ids)
{
    if (ids.len > LIMIT_TOKENS_KEPT / 4)
        return;
    struct entry *entry = xalloc(sizeof *entry);
    entry->digest = digest_of(text);
    buf_put(&entry->ids, ids.data, ids.len);
    pthread_mutex_lock(&memory.lock);
    struct entry *known = find(&entry->digest);
    if (known != NULL)
        drop(known);
    HASH_ADD(hh, memory.all, digest, sizeof entry->digest, entry);
    memory.counts.bytes += size_of(entry);
    while (memory.counts.bytes > LIMIT_TOKENS_KEPT)
        drop(memory.all);
    pthread_mutex_unlock(&memory.lock);
}

struct token_counts token_memory_counts(void)
{
    pthread_mutex_lock(&memory.lock);
    struct token_counts counts = memory.counts;
    pthread_mutex_unlock(&memory.lock);
    return counts;
}

void token_memory_clear(void)
{
    pthread_mutex_lock(&memory.lock);
    while (memory.all != NULL)
        drop(memory.all);
    memory.counts = (struct token_counts){0};
    pthread_mutex_unlock(&memory.lock);
}
