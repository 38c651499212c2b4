/* redis.c - see redis.h. */
#include "common/io/redis.h"
#include "common/io/secret.h"

#include "common/io/clock.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum { ARGS_MAX = 16, BYTES_PER_MS = 1 << 14 };

struct redis {
    redisContext *context;
    redisReplyObjectFunctions functions; /* hiredis' own, without lists */
    redisReply *reply;
    char address[256];
};

/* NULL means no memory to hiredis, so the reader gives up. */
static void *refuse_list(const redisReadTask *task, int len)
{
    (void)task;
    (void)len;
    return NULL;
}

static int broken(const struct redis *redis, const char *doing, struct error *error)
{
    const redisContext *context = redis->context;
    bool late = context->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ETIMEDOUT);
    if (context->err == 0 || late)
        return error_set(error, ERR_TIMEOUT, "Redis at %s did not %s in %d ms", redis->address, doing, REDIS_MS);
    if (context->err == REDIS_ERR_PROTOCOL || context->err == REDIS_ERR_OOM)
        return error_set(error, ERR_PROTOCOL, "what answers at %s is no Redis that drover can use: %s", redis->address,
                         context->err == REDIS_ERR_OOM ? "it sends lists" : context->errstr);
    return error_set(error, ERR_CLOSED, "Redis at %s did not %s: %s", redis->address, doing,
                     context->errstr[0] != '\0' ? context->errstr : "the connection ended");
}

static redisContext *dial(const char *address, struct timeval wait)
{
    char host[256];
    int port;
    if (strncmp(address, "ipc://", 6) == 0)
        return redisConnectUnixWithTimeout(address + 6, wait);
    const char *colon = strrchr(address, ':');
    if (strncmp(address, "tcp://", 6) != 0 || colon < address + 7 || sscanf(colon, ":%5d", &port) != 1)
        return NULL;
    bool bracket = address[6] == '[' && colon[-1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(colon - address - 6 - 2 * bracket), address + 6 + bracket);
    return redisConnectWithTimeout(host, port, wait);
}

static int log_in(struct redis *redis, struct error *error)
{
    const char *password = getenv("DROVER_REDIS_PASSWORD");
    struct redis_reply reply;
    if (password == NULL)
        return 0;
    int rc = redis_ask(redis, (struct slice[]){slice_of("AUTH"), slice_of(password)}, 2, &reply, error);
    if (rc != 0 && error != NULL)
        secret_hide(error->text, password); /* a Redis that does not know AUTH repeats what it was told */
    return rc;
}

int redis_open(const char *address, struct redis **redis_ptr, struct error *error)
{
    const struct timeval wait = {.tv_usec = REDIS_MS * 1000};
    struct redis *redis = xalloc(sizeof *redis);
    snprintf(redis->address, sizeof redis->address, "%s", address);
    redis->context = dial(address, wait);
    int rc = 0;
    if (redis->context == NULL)
        rc =
            error_set(error, ERR_SYNTAX, "'%s' must be tcp://HOST:PORT or ipc://PATH, the address of a Redis", address);
    else if (redis->context->err != 0 || redisSetTimeout(redis->context, wait) != REDIS_OK)
        rc = broken(redis, "accept a connection", error);
    if (rc == 0) {
        redis->functions = *redis->context->reader->fn;
        redis->functions.createArray = refuse_list;
        redis->context->reader->fn = &redis->functions;
        rc = log_in(redis, error);
    }
    if (rc != 0)
        redis_close(&redis);
    *redis_ptr = redis;
    return rc;
}

void redis_close(struct redis **redis_ptr)
{
    struct redis *redis = *redis_ptr;
    if (redis == NULL)
        return;
    if (redis->reply != NULL)
        freeReplyObject(redis->reply);
    if (redis->context != NULL)
        redisFree(redis->context);
    free(redis);
    *redis_ptr = NULL;
}

/* Each read and write waits REDIS_MS at most; `until` ends a peer that is slow byte by byte. */
static int exchange(struct redis *redis, int64_t until)
{
    redisContext *context = redis->context;
    int done = 0;
    void *reply = NULL;
    while (!done)
        if (redisBufferWrite(context, &done) != REDIS_OK || (!done && clock_ms() > until))
            return -1;
    while (redisReaderGetReply(context->reader, &reply) == REDIS_OK && reply == NULL) {
        if (context->reader->len > 2 * REDIS_REPLY_MAX) {
            context->err = REDIS_ERR_PROTOCOL;
            snprintf(context->errstr, sizeof context->errstr, "a reply of more than %d bytes", REDIS_REPLY_MAX);
            return -1;
        }
        if (clock_ms() > until || redisBufferRead(context) != REDIS_OK)
            return -1;
    }
    if (reply == NULL) {
        context->err = context->reader->err;
        snprintf(context->errstr, sizeof context->errstr, "%s", context->reader->errstr);
        return -1;
    }
    redis->reply = reply;
    return 0;
}

int redis_ask(struct redis *redis, const struct slice *args, size_t len, struct redis_reply *reply, struct error *error)
{
    const char *texts[ARGS_MAX];
    size_t lens[ARGS_MAX], bytes = 0;
    for (size_t i = 0; i < len && i < ARGS_MAX; i++) {
        texts[i] = args[i].data == NULL ? "" : args[i].data;
        lens[i] = args[i].len;
        bytes += lens[i];
    }
    if (redis->reply != NULL)
        freeReplyObject(redis->reply);
    redis->reply = NULL;
    errno = 0;
    if (redisAppendCommandArgv(redis->context, (int)len, texts, lens) != REDIS_OK ||
        exchange(redis, clock_ms() + REDIS_MS + (int64_t)(bytes / BYTES_PER_MS)) != 0)
        return broken(redis, "answer", error);
    const redisReply *got = redis->reply;
    *reply = (struct redis_reply){.text = {got->str, got->type == REDIS_REPLY_NIL ? 0 : (size_t)got->len}};
    switch (got->type) {
    case REDIS_REPLY_ERROR:
        return error_set(error, ERR_REFUSED, "Redis at %s says: %.*s", redis->address,
                         (int)(got->len < 300 ? got->len : 300), got->str);
    case REDIS_REPLY_INTEGER:
        *reply = (struct redis_reply){.type = REDIS_NUMBER, .number = got->integer};
        return 0;
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_STRING:
        reply->type = REDIS_TEXT;
        return 0;
    }
    return 0;
}
