/* remote.h - the inference servers that one verifier asks: which one, how many requests at once, and again when that
 * makes sense.
 *
 * A request goes to the server with the least in flight. Overload (429, 503) halves what that server gets and waits as
 * long as it asks for; trouble in transit is tried again elsewhere after a random wait that doubles, as long as the
 * request's deadline allows; five failures of transport in a row close a server for a while, then one request tries it.
 * What a server refuses for good comes back with its own words. Used by one thread. */
#ifndef DROVER_REMOTE_H
#define DROVER_REMOTE_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

struct json_t; /* jansson's */
struct remote;
struct call; /* one request, with all its attempts */

struct remote_reply {
    const struct json_t *doc; /* the answer; NULL: there is none, error says why */
    uint32_t status;          /* of HTTP, 0: none came */
    bool refused;             /* the server refused this very request, and would again: 400, 404, 405, 413, 422, 501 */
    struct error error;       /* never holds a key */
};

struct remote_request {
    const char *route;   /* path behind the server's address, "/pooling"; copied */
    struct buf *body;    /* JSON; taken, left empty */
    int64_t deadline_ms; /* by clock_ms; nothing is tried again past it */
    void (*done)(void *user, const struct remote_reply *reply); /* once, from remote_turn; may ask and drop */
    void *user;
};

/* Reads `urls`, `key_env`, `key_file`, `ca_file` from the spec's options and `concurrency` beside them. ERR_SYNTAX,
 * ERR_NOT_FOUND (the key). */
int remote_open(const struct json_t *spec, struct remote **remote, struct error *error);
void remote_free(struct remote **remote); /* drops what is in flight */

struct call *remote_ask(struct remote *remote, const struct remote_request *request);

/* Forgets a request; its connection is closed, which servers take as an abort. Sets *call to NULL. */
void remote_drop(struct remote *remote, struct call **call);

/* Moves everything without waiting; returns in how many ms it wants to be called again at the latest. */
int64_t remote_turn(struct remote *remote);

int remote_fd(const struct remote *remote);      /* readable when remote_turn has something to do */
size_t remote_room(const struct remote *remote); /* how many more requests would start at once */
/* The last thing that went wrong, as a sentence; "nothing else went wrong" before that. */
const char *remote_trouble(const struct remote *remote);

const char *remote_where(const struct remote *remote); /* the first of its addresses */

uint32_t remote_width(const struct remote *remote); /* `concurrency` */
size_t remote_len(const struct remote *remote);     /* asked, and not answered yet */

#endif
