/* redis.h - one connection to a Redis that is trusted with nothing: every call ends in time, every reply is small.
 *
 * Redis may be down, frozen, empty or lying, and none of it may cost more than a moment of the thread that asks. So
 * connecting and asking have deadlines, a reply is one value of at most REDIS_REPLY_MAX bytes, and a list is refused
 * before hiredis reserves memory for it (0.14 reserves 8 GiB when told so). After any error the connection is of no more
 * use. The password, if there is one, is $DROVER_REDIS_PASSWORD. The only file that includes hiredis.h is redis.c. */
#ifndef DROVER_REDIS_H
#define DROVER_REDIS_H

#include "common/buf.h"
#include "common/err.h"

#include <stdint.h>

enum { REDIS_REPLY_MAX = 1 << 16, REDIS_MS = 200 };

struct redis;

/* tcp://HOST:PORT or ipc://PATH. ERR_SYNTAX, ERR_TIMEOUT, ERR_CLOSED, ERR_REFUSED: the password is not right. */
int redis_open(const char *address, struct redis **redis, struct error *error);
void redis_close(struct redis **redis);

enum redis_type { REDIS_NONE, REDIS_TEXT, REDIS_NUMBER };

struct redis_reply {
    enum redis_type type; /* NONE: there is no such value */
    struct slice text;    /* TEXT: until the next call */
    int64_t number;       /* NUMBER */
};

/* One command and its reply, within REDIS_MS and the time that its bytes take. ERR_REFUSED: an error of Redis, and the
 * connection is still good; ERR_TIMEOUT, ERR_CLOSED, ERR_PROTOCOL: it is not. */
int redis_ask(struct redis *redis, const struct slice *args, size_t len, struct redis_reply *reply,
              struct error *error);

#endif
