/* servers.h - the inference servers of this process: which are up, what each can do, and how much each may be given.
 *
 * Each server has a thread that waits until it is healthy, finds out what it can do, and then watches its metrics;
 * engines only ask which server takes the next request, and report how that went. How many requests a server holds
 * follows its own queue: more while nothing waits there, fewer once something does, or it answers 429 or 503. What
 * does not fit stays with us, where it can be moved and cancelled. All functions may be called from any thread. */
#ifndef DROVER_SERVERS_H
#define DROVER_SERVERS_H

#include "common/io/agent.h"
#include "common/io/http.h"
#include "worker/dialect.h"

#include <stdbool.h>
#include <stdint.h>

enum { SERVERS_MAX = 256, SERVER_MODELS_MAX = 64 };

struct servers_options {
    const char *url;                /* without route: http://HOST:PORT */
    const char *key_file, *key_env; /* where its key is; NULL or "": none, or not there */
    const char *ca_file;            /* NULL or "": the system's certificates */
    const char *dialect;            /* NULL, "" or "auto": found out */
    uint32_t slots_max;             /* most requests that it gets at a time; 0: 1024 */
    bool only_named;                /* for models that name this address, and no others */
};

/* From now on the server is used as soon as it is healthy. Adding an address again starts it anew: its capabilities are
 * found out again. ERR_SYNTAX (address), ERR_NOT_FOUND (key, dialect), ERR_LIMIT. */
int servers_add(const struct servers_options *options, struct error *error);

/* No new requests for it. */
void servers_remove(const char *url);

/* Waits at most timeout_ms until all servers are up; how many are. */
size_t servers_wait(int64_t timeout_ms);

/* The first server that is away and was said to be: its address and why. False, and "": none. */
bool servers_trouble(char *text, size_t size);

/* What the servers that are up offer; the texts live until servers_stop. */
size_t servers_offers(struct offer *offers, size_t max);

size_t servers_len(void); /* added and not removed */

/* Requests that the servers take altogether at the moment; 0 when there are none. */
size_t servers_room(void);

/* Ends the threads. Engines must be closed before. */
void servers_stop(void);

/* -- for engines ------------------------------------------------------------------------------------------------------ */

struct upstream; /* lives until servers_stop */

struct server_query {
    struct slice url;              /* the model names its server; empty: any of this worker */
    struct slice model;            /* empty: whatever the server serves */
    const struct dialect *dialect; /* NULL: any */
    uint64_t affinity;             /* of the prompt: equal ones go where the prefix is warm */
    bool again;                    /* it was sent before: counts against the server's budget for that */
    const struct upstream *avoid;  /* it just failed; taken only when no other is there */
};

/* What a server takes for one request of a query. */
struct server_lane {
    struct upstream *server;
    const struct dialect *dialect;
    const char *url, *model, *ca_file, *key; /* key: NULL for none */
    bool logprobs;                           /* it gives log-probabilities */
    bool ids;                                /* it tells token ids, and has not refused to be asked by them */
};

enum pick {
    PICK_TAKEN,   /* the lane is ours: call server_done */
    PICK_FULL,    /* none has room now, or none may be asked `again` now */
    PICK_DOWN,    /* none of them is up: they may come back */
    PICK_NOWHERE, /* no server that is up serves this model, and none is being waited for */
};

/* error: set for PICK_DOWN and PICK_NOWHERE. */
enum pick servers_pick(const struct server_query *query, int64_t now_ms, struct server_lane *lane, struct error *error);

/* Room for one more request of the lane's; like a pick of it. */
bool server_join(struct upstream *server);

/* It refused a request that had to do with token ids, and took the same as text: it is not asked by them again. */
void server_without_ids(struct upstream *server);

struct server_outcome {
    bool transport;         /* the connection failed, or the answer made no sense */
    bool overload;          /* 429, 503 and their kin */
    bool cancelled;         /* says nothing about the server */
    int64_t retry_after_ms; /* -1: not said */
    int64_t total_ms;
    struct http_quota requests, tokens; /* as the server told them */
    uint64_t tokens_max;                /* that such a request may use */
};

void server_done(struct upstream *server, const struct server_outcome *outcome, int64_t now_ms);

#endif
