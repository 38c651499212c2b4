/* server_probe.h - finds out what an inference server is and can do, by asking it. */
#ifndef DROVER_SERVER_PROBE_H
#define DROVER_SERVER_PROBE_H

#include "common/io/http.h"
#include "worker/dialect.h"
#include "worker/servers.h"

#include <stdatomic.h>
#include <stdbool.h>

enum known { KNOWN_NOT, KNOWN_NO, KNOWN_YES };

struct server_model {
    char name[128];
    uint32_t context; /* most tokens of prompt and rollout; 0: unknown */
};

struct server_facts {
    const struct dialect *dialect;
    struct server_model models[SERVER_MODELS_MAX];
    size_t models_len;
    bool logprobs, alternatives; /* of sampled tokens; of the likeliest */
    bool chat_only;              /* has no route for texts */
    enum known seed;             /* equal seeds gave equal texts, and another one another */
    enum known cached;           /* tells how much of a prompt its cache held */
    bool ids;                    /* gives token ids */
    int64_t cancel_ms;           /* until a dropped request had ended; -1: could not be seen, -2: it went on */
    struct server_facts *older;  /* of the owner */
};

/* How to talk to one server; http belongs to the calling thread, which waits. */
struct server_access {
    struct http *http;
    const char *url, *key, *ca_file;
    const char *key_from;    /* file or variable of the key; NULL: there is none */
    const atomic_bool *stop; /* give up */
};

/* One request and its whole answer in `body`; the status of HTTP, or 0 with the error set. */
uint32_t server_fetch(const struct server_access *access, const char *route, struct slice json, int64_t timeout_ms,
                      struct buf *body, struct error *error);

/* Whether it is there and has loaded its model. */
bool server_healthy(const struct server_access *access, struct error *error);

/* forced: the dialect when it is known, else NULL. ERR_REFUSED, ERR_PROTOCOL, ...: it cannot be used, and why. */
int server_probe(const struct server_access *access, const struct dialect *forced, struct server_facts *facts,
                 struct error *error);

/* The facts as one line: dialect, models, what it gives. */
void server_facts_print(const struct server_facts *facts, struct buf *out);

#endif
