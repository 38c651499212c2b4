/* server_int.h - what the three files of the broker's shell share: server.c (the turn, commit and send), peers.c (agents),
 * requests.c (clients). */
#ifndef DROVER_SERVER_INT_H
#define DROVER_SERVER_INT_H

#include "broker/core/read.h"
#include "broker/journal.h"
#include "broker/mirror.h"
#include "broker/server.h"
#include "common/io/net.h"
#include "common/limits.h"
#include "common/msg.h"

#include <uthash.h>

enum { ROUTE_MAX = 32 };

/* An agent's connection. */
struct peer {
    uint64_t agent;
    char route[ROUTE_MAX];
    size_t route_len;
    struct buf out;          /* frame being put together in this turn */
    struct buf specs[2];     /* byte per model / verifier id: sent already */
    bool shares;             /* knows GROUP_BEFORE */
    size_t group, group_len; /* refs of the group whose texts the frame holds last; len 0: it holds none */
    char *joined;            /* as people were told that it is here: "worker 'NAME'"; NULL: they were not */
    UT_hash_handle hh, hh_route;
};

/* What a client is told once the turn is committed. */
struct reply {
    char route[ROUTE_MAX];
    size_t route_len;
    struct buf frame;
};

/* A prompt file on its way, in chunks. One at a time and client. */
struct upload {
    char route[ROUTE_MAX];
    size_t route_len;
    uint64_t digest;
    char *text;
    size_t len, size;
    int64_t heard_ms; /* of the last chunk */
    struct upload *next;
};

struct server {
    struct cluster_conf conf;
    bool own_fleet;
    struct core *core;
    struct journal *journal;
    struct mirror *mirror; /* NULL: no Redis */
    struct port *agents, *clients;
    struct update update;
    struct buf texts; /* of the commit in preparation */
    struct peer *peers, *routes;
    struct reply *replies;
    size_t replies_len;
    struct upload *uploads;
    size_t attached;           /* bytes of attachments handed out in this turn */
    uint64_t malformed;        /* messages ignored */
    int64_t malformed_ms;      /* when the log told last */
    int64_t fleet_s;           /* second in which the log told of agents last ... */
    uint32_t fleet_told;       /* ... how often in it ... */
    uint64_t fleet_untold;     /* ... and what it has kept to itself since */
    int64_t wake_ms, retry_ms; /* retry_ms: of a commit that found the disk full; 0: none waits */
    struct ref record_ref;     /* of the prompt record in `record`, the one asked for last */
    struct buf record, path, blob, definitions;
    struct buf facts_page, texts_page; /* of commit `fetched`, the one that a client reads */
    uint64_t fetched;
};

/* server.c */
struct event event_of(enum event_type type, uint64_t agent, uint64_t lease);
void server_step(struct server *server, const struct event *event);
void malformed(struct server *server, const char *from, size_t len); /* counted, told now and then */

/* peers.c */
struct peer *peer_of(const struct server *server, uint64_t agent); /* NULL: not connected */
void peer_put(struct server *server, struct peer *peer, const struct msg *msg);
void peer_flush(struct server *server, struct peer *peer);
void peer_free(struct server *server, struct peer *peer);
void peers_retell(struct server *server); /* specs may be others: they are told again before the next task */
void peers_watch(struct server *server);  /* tells of agents that the core gave up */
int put_send(struct server *server, const struct send *send); /* a send of the core, into its agent's frame */
void on_agent_frame(struct server *server, struct slice route, struct slice frame);

/* requests.c */
void on_client_frame(struct server *server, struct slice route, struct slice frame);
void reply(struct server *server, struct slice route, int64_t code, struct slice text); /* sent after the commit */
void uploads_free(struct server *server);

#endif
