/* http.h - an HTTP client for hundreds of requests at a time on one thread, behind one descriptor.
 *
 * libcurl's multi interface on an epoll set of its own: poll http_fd with whatever else a thread waits for and call
 * http_turn when it is readable. HTTP/1.1 with keep-alive, one connection per request in flight; certificates are
 * checked; redirects are not followed, so a key goes where it was meant for and nowhere else. Proxies of the
 * environment are used for https only: inference servers of a cluster are reached directly. http.c is the only file
 * that includes curl's header. */
#ifndef DROVER_HTTP_H
#define DROVER_HTTP_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

struct http;          /* a client; used by one thread */
struct http_transfer; /* one request in flight */

/* Whether the same request may be sent again. */
enum http_retry {
    HTTP_NEVER,   /* it would fail again: a wrong request, a wrong key, a wrong certificate, too large an answer */
    HTTP_AT_ONCE, /* an idle connection had been closed by the server: nothing was wrong */
    HTTP_LATER,   /* overload or trouble in transit: after retry_after_ms, or a back-off of the caller's */
};

/* What a hosted service says that it still takes, and in how many ms that is all it takes again. */
struct http_quota {
    bool told;
    int64_t left, reset_ms;
};

/* What came of a request; valid during `done` only. */
struct http_reply {
    int rc;                 /* 0: an answer came whole, whatever its status; ERR_TIMEOUT, ERR_CLOSED, ERR_LIMIT, ... */
    uint32_t status;        /* of HTTP, 0 before there was one */
    struct slice body;      /* what `data` did not get */
    enum http_retry retry;  /* meaningful unless rc is 0 and status is 2xx */
    int64_t retry_after_ms; /* asked for by the server; -1: it did not say */
    struct http_quota requests, tokens;
    int64_t first_ms; /* from the start to the first byte of the answer; 0: none came */
    int64_t total_ms;
    bool new_connection; /* false: a kept one was used again */
    struct error error;  /* rc != 0: where and why; never holds a key */
};

struct http_request {
    const char *url;            /* http:// or https://, without user and password: see http_url_check */
    const char *method;         /* NULL: POST when there is a body, else GET */
    struct slice body;          /* copied; sent as application/json unless `headers` say otherwise */
    const char *bearer;         /* key for the Authorization header, or NULL; copied */
    const char *const *headers; /* "Name: value", NULL at the end; copied; may be NULL */
    const char *ca_file;        /* certificates to trust instead of the system's; NULL: the system's */
    int64_t connect_ms;         /* 0: 5 s */
    int64_t first_ms;           /* to the first byte of the answer; 0: 10 minutes */
    int64_t idle_ms;            /* between bytes of the answer; 0: 2 minutes */
    int64_t total_ms;           /* 0: no limit */
    size_t body_max;            /* bytes of the answer, `data` included; 0: 64 MiB */

    /* Bytes of a 2xx answer as they arrive. False ends the request: its connection is closed and `done` is called with
     * rc 0 and what is there. May not call http_start or http_cancel. NULL: the whole body comes with `done`. */
    bool (*data)(void *user, struct slice bytes);
    /* Called once by http_turn, never by http_start or after http_cancel; may start and cancel others. */
    void (*done)(void *user, const struct http_reply *reply);
    void *user;
};

struct http *http_new(void);
void http_free(struct http **http); /* cancels what is in flight */

/* Always succeeds; errors come with `done`. The transfer is gone when that has been called. */
struct http_transfer *http_start(struct http *http, const struct http_request *request);

/* Closes the connection at once and forgets the request: servers take that as an abort. Sets *transfer to NULL. */
void http_cancel(struct http *http, struct http_transfer **transfer);

/* Moves every request forward without waiting. */
void http_turn(struct http *http);

/* Readable when http_turn has something to do; stays the same. */
int http_fd(const struct http *http);

/* For callers with nothing else to wait for: at most timeout_ms, then http_turn. */
void http_wait(struct http *http, int64_t timeout_ms);

size_t http_len(const struct http *http); /* requests in flight */

/* ERR_SYNTAX, with a sentence, for anything but http://HOST[:PORT][/PATH] and https://... A user or password in the
 * address is refused: it would end up in logs and process lists. */
int http_url_check(const char *url, struct error *error);

#endif
