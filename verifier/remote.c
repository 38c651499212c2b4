/* remote.c - see remote.h. */
#include "verifier/remote.h"
#include "common/io/clock.h"
#include "common/io/http.h"
#include "common/rng.h"
#include "verifier/doc.h"
#include "verifier/outage.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <utlist.h>

enum {
    URLS_MAX = 16,
    URL_MAX = 1024,
    KEY_MAX = 4096,
    BACKOFF_MS = 500,       /* doubles */
    BACKOFF_MAX_MS = 30000, /* also what a server may ask for at most */
    BREAK_AFTER = 5,        /* failures of transport in a row */
    BREAK_MS = 5000,
    AWAY_AFTER = 2,  /* such failures in a row, and it is said; or */
    AWAY_MS = 5000,  /* so long without an answer to anything, ever */
    GARBAGE_MAX = 2, /* answers that are no JSON before a request is given up */
    ANSWER_MAX = 16 << 20,
    CONCURRENCY = 64,
};

struct place {
    char *url;
    uint32_t running, failures;
    double limit;      /* in flight at most */
    int64_t closed_ms; /* gets nothing before that */
    int64_t asked_ms;  /* of a server that has answered nothing yet: since when it is asked; 0: not */
    bool answered;     /* anything, ever */
    bool away;         /* and that was said */
};

enum call_state { CALL_QUEUED, CALL_RUNNING };

struct call {
    struct remote *remote;
    struct remote_request request;
    char *route;
    struct buf body;
    enum call_state state;
    uint32_t attempts, garbage;
    int64_t start_ms; /* queued: not before that */
    struct place *place, *avoid;
    struct http_transfer *transfer;
    struct error trouble; /* why the last attempt failed */
    struct call *prev, *next;
};

struct remote {
    struct http *http;
    struct place places[URLS_MAX];
    size_t places_len;
    char *key, *ca_file;
    char key_from[256]; /* as messages name it, "": there is no key */
    uint32_t concurrency, running;
    uint64_t draws, seed;
    struct call *queued, *current; /* lists */
    size_t len;
    struct error trouble; /* of the last attempt that failed */
};

/* -- opening ---------------------------------------------------------------------------------------------------------- */

static int key_fill(struct remote *remote, const char *text, const char *from, struct error *error)
{
    snprintf(remote->key_from, sizeof remote->key_from, "%s", from);
    size_t len = strcspn(text, "\r\n");
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] <= ' ' || text[i] == 0x7F)
            return error_set(error, ERR_SYNTAX, "the key in %s has a blank or control character in it", from);
    if (len == 0 || text[len + strspn(text + len, "\r\n")] != '\0')
        return error_set(error, ERR_SYNTAX, "the key in %s must be one line that is not empty", from);
    remote->key = xalloc(len + 1);
    memcpy(remote->key, text, len);
    return 0;
}

static int key_from_file(struct remote *remote, const char *path, struct error *error)
{
    char text[KEY_MAX + 1] = "", from[256];
    FILE *file = fopen(path, "rbe");
    if (file == NULL)
        return error_set(error, ERR_NOT_FOUND, "key_file %.200s: %s", path, strerror(errno));
    size_t len = fread(text, 1, KEY_MAX, file);
    fclose(file);
    text[len] = '\0';
    snprintf(from, sizeof from, "key_file %.200s", path);
    int code = key_fill(remote, text, from, error);
    explicit_bzero(text, sizeof text);
    return code;
}

static int key_read(struct remote *remote, const struct json_t *spec, struct error *error)
{
    const char *name = NULL, *path = NULL;
    char from[256];
    int code = doc_option_text(spec, "key_env", &name, error);
    if (code == 0)
        code = doc_option_text(spec, "key_file", &path, error);
    if (code < 0)
        return code;
    if (name != NULL && path != NULL)
        return error_set(error, ERR_CONFLICT, "options `key_env` and `key_file` exclude each other");
    if (path != NULL)
        return key_from_file(remote, path, error);
    if (name == NULL)
        return 0;
    const char *value = getenv(name);
    if (value == NULL)
        return error_set(error, ERR_NOT_FOUND, "key_env: this verifier has no environment variable %.64s", name);
    snprintf(from, sizeof from, "environment variable %.64s", name);
    return key_fill(remote, value, from, error);
}

static int urls_read(struct remote *remote, const struct json_t *spec, struct error *error)
{
    const struct json_t *options = doc_object(spec, "options");
    size_t len = doc_list_len(options, "urls");
    if (len == 0 || len > URLS_MAX)
        return error_set(error, ERR_SYNTAX, "option `urls` must be a list of 1 to %d addresses", URLS_MAX);
    for (size_t i = 0; i < len; i++) {
        const char *url;
        if (!doc_list_text(options, "urls", i, &url) || strlen(url) > URL_MAX)
            return error_set(error, ERR_SYNTAX, "option `urls` must hold addresses only");
        int code = http_url_check(url, error);
        if (code < 0)
            return code;
        struct place *place = &remote->places[remote->places_len++];
        *place = (struct place){.url = xstrdup(url), .limit = remote->concurrency};
        size_t end = strlen(place->url);
        while (end > 0 && place->url[end - 1] == '/')
            place->url[--end] = '\0';
    }
    return 0;
}

int remote_open(const struct json_t *spec, struct remote **out, struct error *error)
{
    struct remote *remote = xalloc(sizeof *remote);
    const char *ca_file = NULL;
    double concurrency = 0;
    doc_real(spec, "concurrency", &concurrency); /* checked where the sweep file is read */
    remote->concurrency = concurrency >= 1 && concurrency <= 65536 ? (uint32_t)concurrency : CONCURRENCY;
    remote->http = http_new();
    if (getrandom(&remote->seed, sizeof remote->seed, 0) != (ssize_t)sizeof remote->seed)
        remote->seed = (uint64_t)clock_ms();
    int code = urls_read(remote, spec, error);
    if (code == 0)
        code = key_read(remote, spec, error);
    if (code == 0)
        code = doc_option_text(spec, "ca_file", &ca_file, error);
    if (ca_file != NULL)
        remote->ca_file = xstrdup(ca_file);
    if (code < 0)
        remote_free(&remote);
    *out = remote;
    return code;
}

static void call_free(struct call *call)
{
    buf_clear(&call->body);
    free(call->route);
    free(call);
}

void remote_free(struct remote **remote_ptr)
{
    struct remote *remote = *remote_ptr;
    *remote_ptr = NULL;
    if (remote == NULL)
        return;
    struct call *call, *next;
    http_free(&remote->http);
    DL_FOREACH_SAFE (remote->queued, call, next) {
        call_free(call);
    }
    DL_FOREACH_SAFE (remote->current, call, next) {
        call_free(call);
    }
    for (size_t i = 0; i < remote->places_len; i++) {
        if (remote->places[i].away)
            outage_end(remote->places[i].url, false);
        free(remote->places[i].url);
    }
    if (remote->key != NULL)
        explicit_bzero(remote->key, strlen(remote->key));
    free(remote->key);
    free(remote->ca_file);
    free(remote);
}

/* -- answers ---------------------------------------------------------------------------------------------------------- */

/* What a server says about itself ends up in logs and journals: on one line, and without the key if it repeats it. */
static void put_words(const struct remote *remote, struct slice text, struct buf *out)
{
    size_t key_len = remote->key != NULL ? strlen(remote->key) : 0;
    for (size_t i = 0; i < text.len && i < 300; i++) {
        if (key_len > 0 && text.len - i >= key_len && memcmp(text.data + i, remote->key, key_len) == 0) {
            buf_puts(out, "***");
            i += key_len - 1;
            continue;
        }
        char c = (unsigned char)text.data[i] < ' ' || text.data[i] == 0x7F ? ' ' : text.data[i];
        buf_put(out, &c, 1);
    }
}

/* The sentence within a body that reports an error, however the server words it; else the body. */
static void put_reason(const struct remote *remote, struct slice body, struct buf *out)
{
    static const char *const paths[] = {"error.message", "message", "error", "detail", "detail.0.msg"};
    struct json_t *doc = NULL;
    struct slice text = body;
    if (doc_parse_any(body, &doc, NULL) == 0)
        for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
            if (doc_is_text(doc_at(doc, paths[i]), &text))
                break;
    put_words(remote, text, out);
    doc_free(&doc);
}

static void finish(struct call *call, struct remote_reply *reply)
{
    struct remote *remote = call->remote;
    if (call->state == CALL_QUEUED)
        DL_DELETE(remote->queued, call);
    else
        DL_DELETE(remote->current, call);
    remote->len--;
    call->request.done(call->request.user, reply);
    call_free(call);
}

static void give_up(struct call *call)
{
    struct remote_reply reply = {.doc = NULL};
    error_set(&reply.error, ERR_TIMEOUT, "no answer in time after %u attempts; the last: %s", call->attempts,
              call->trouble.text[0] != '\0' ? call->trouble.text : "no server was free");
    finish(call, &reply);
}

/* Puts it back into the queue, unless its time would be up. */
static void again(struct call *call, int64_t now, int64_t wait)
{
    struct remote *remote = call->remote;
    DL_DELETE(remote->current, call);
    call->state = CALL_QUEUED;
    call->start_ms = now + wait;
    call->avoid = call->place;
    DL_APPEND(remote->queued, call);
    if (call->start_ms >= call->request.deadline_ms)
        give_up(call);
}

/* Full jitter: uniform below a bound that doubles. */
static int64_t backoff(struct call *call)
{
    struct remote *remote = call->remote;
    int64_t bound = BACKOFF_MS;
    for (uint32_t i = 1; i < call->attempts && bound < BACKOFF_MAX_MS; i++)
        bound *= 2;
    bound = bound < BACKOFF_MAX_MS ? bound : BACKOFF_MAX_MS;
    return 1 + (int64_t)((double)bound * rng_unit(rng_mix(remote->seed + remote->draws++)));
}

static bool overloaded(uint32_t status)
{
    return status == 429 || status == 503;
}

static void say_away(struct place *place, const char *why)
{
    place->away = true;
    outage_begin(place->url, why);
}

/* The key is wrong, or there is none. */
static bool keeps_out(uint32_t status)
{
    return status == 401 || status == 403;
}

/* Whether the server is there at all. */
static void learn_away(struct place *place, const struct http_reply *reply)
{
    if (place->failures >= AWAY_AFTER)
        say_away(place, reply->error.text);
    place->answered = place->answered || reply->status != 0;
    if (reply->status == 0 || keeps_out(reply->status))
        return;
    if (place->away)
        outage_end(place->url, true);
    place->away = false;
}

/* Says of servers that were asked a while ago and have answered nothing yet; in how many ms the next one is to be named. */
static int64_t say_mute(struct remote *remote, int64_t now)
{
    int64_t wait = INT64_MAX;
    for (size_t i = 0; i < remote->places_len; i++) {
        struct place *place = &remote->places[i];
        if (place->answered || place->away || place->running == 0)
            continue;
        int64_t left = place->asked_ms + AWAY_MS - now;
        struct error error;
        error_set(&error, ERR_TIMEOUT, "%.200s has not answered a request for %d s", place->url, AWAY_MS / 1000);
        if (left <= 0)
            say_away(place, error.text);
        else if (left < wait)
            wait = left;
    }
    return wait;
}

/* What an attempt teaches about its server. */
static void learn(struct remote *remote, struct place *place, const struct http_reply *reply, int64_t now)
{
    bool transport = reply->rc != 0 && reply->retry != HTTP_AT_ONCE;
    place->failures = transport ? place->failures + 1 : 0;
    learn_away(place, reply);
    if (place->failures >= BREAK_AFTER)
        place->closed_ms = now + BREAK_MS;
    if (!overloaded(reply->status)) {
        if (reply->rc == 0 && place->limit < remote->concurrency)
            place->limit += 1 / place->limit;
        return;
    }
    double half = place->running / 2.0;
    place->limit = half > 1 ? half : 1;
    int64_t wait = reply->retry_after_ms >= 0 ? reply->retry_after_ms : BACKOFF_MS / 2;
    wait = wait < BACKOFF_MAX_MS ? wait : BACKOFF_MAX_MS;
    if (place->closed_ms < now + wait)
        place->closed_ms = now + wait;
}

static bool refused_for_good(uint32_t status)
{
    static const uint16_t list[] = {400, 404, 405, 413, 422, 501};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        if (list[i] == status)
            return true;
    return false;
}

static void tell_trouble(struct call *call, const struct http_reply *http)
{
    struct buf reason = {0};
    if (http->rc != 0) {
        call->trouble = http->error;
        return;
    }
    put_reason(call->remote, http->body, &reason);
    bool key = keeps_out(http->status);
    const char *from = call->remote->key_from;
    error_set(&call->trouble, ERR_REFUSED, "%.150s%.60s answered %u: %.*s%s%s%s", call->place->url, call->route,
              http->status, key ? 100 : 300, reason.len > 0 ? reason.data : "nothing else",
              !key              ? ""
              : from[0] == '\0' ? "; it wants a key: option key_file or key_env"
                                : "; the key in ",
              key ? from : "", key && from[0] != '\0' ? " is not the one that it takes" : "");
    buf_clear(&reason);
}

/* A whole answer under 2xx. False: it is no JSON, or an error in disguise; trouble says so. */
static bool take_answer(struct call *call, const struct http_reply *http)
{
    struct json_t *doc;
    struct error why;
    struct remote_reply reply = {.status = http->status};
    if (doc_parse_any(http->body, &doc, &why) < 0) {
        error_set(&call->trouble, ERR_PROTOCOL, "%.150s%.60s: the answer is %.200s", call->place->url, call->route,
                  why.text);
        return false;
    }
    if (doc_has(doc, "error") && doc_size(doc_get(doc, "error")) > 0) {
        tell_trouble(call, http);
        doc_free(&doc);
        return false;
    }
    reply.doc = doc;
    finish(call, &reply);
    doc_free(&doc);
    return true;
}

static void on_done(void *user, const struct http_reply *http)
{
    struct call *call = user;
    struct remote *remote = call->remote;
    int64_t now = clock_ms();
    bool whole = http->rc == 0 && http->status / 100 == 2;
    call->transfer = NULL;
    remote->running--;
    learn(remote, call->place, http, now);
    call->place->running--;
    if (whole && take_answer(call, http))
        return;
    if (whole && ++call->garbage <= GARBAGE_MAX) {
        again(call, now, 0);
        return;
    }
    if (!whole)
        tell_trouble(call, http);
    if (keeps_out(http->status))
        say_away(call->place, call->trouble.text);
    remote->trouble = call->trouble;
    if (whole || http->retry == HTTP_NEVER) {
        struct remote_reply reply = {
            .status = http->status, .refused = http->rc == 0 && refused_for_good(http->status), .error = call->trouble};
        finish(call, &reply);
        return;
    }
    if (http->retry == HTTP_AT_ONCE)
        again(call, now, 0);
    else
        again(call, now, overloaded(http->status) && http->retry_after_ms >= 0 ? http->retry_after_ms : backoff(call));
}

/* -- sending ---------------------------------------------------------------------------------------------------------- */

/* The least busy server that takes one more; another than the one that has just failed, if there is one. */
static struct place *place_find(struct remote *remote, const struct call *call, int64_t now)
{
    struct place *best = NULL;
    double best_load = 0;
    for (size_t i = 0; i < remote->places_len; i++) {
        struct place *place = &remote->places[i];
        double limit = place->failures >= BREAK_AFTER ? 1 : place->limit;
        if (now < place->closed_ms || place->running + 1 > limit)
            continue;
        double load = place->running / limit + (place == call->avoid);
        if (best == NULL || load < best_load) {
            best = place;
            best_load = load;
        }
    }
    return best;
}

static void start(struct call *call, struct place *place, int64_t now)
{
    struct remote *remote = call->remote;
    struct buf url = {0};
    buf_printf(&url, "%s%s", place->url, call->route);
    DL_DELETE(remote->queued, call);
    DL_APPEND(remote->current, call);
    call->state = CALL_RUNNING;
    call->place = place;
    call->attempts++;
    if (place->running++ == 0)
        place->asked_ms = now;
    remote->running++;
    call->transfer = http_start(remote->http, &(struct http_request){.url = url.data,
                                                                     .body = buf_slice(&call->body),
                                                                     .bearer = remote->key,
                                                                     .ca_file = remote->ca_file,
                                                                     .total_ms = call->request.deadline_ms - now,
                                                                     .body_max = ANSWER_MAX,
                                                                     .done = on_done,
                                                                     .user = call});
    buf_clear(&url);
}

/* Starts what may start; in how many ms more could. */
static int64_t start_all(struct remote *remote, int64_t now)
{
    struct call *call, *next;
    int64_t wait = INT64_MAX;
    for (size_t i = 0; i < remote->places_len; i++)
        if (remote->queued != NULL && remote->places[i].closed_ms > now && remote->places[i].closed_ms - now < wait)
            wait = remote->places[i].closed_ms - now;
    DL_FOREACH_SAFE (remote->queued, call, next) {
        int64_t left = call->request.deadline_ms - now;
        if (left <= 0) {
            give_up(call);
            return 0; /* the list may be another one now */
        }
        wait = left < wait ? left : wait;
        if (call->start_ms > now) {
            wait = call->start_ms - now < wait ? call->start_ms - now : wait;
            continue;
        }
        struct place *place = remote->running < remote->concurrency ? place_find(remote, call, now) : NULL;
        if (place != NULL)
            start(call, place, now);
    }
    return wait;
}

int64_t remote_turn(struct remote *remote)
{
    start_all(remote, clock_ms());
    http_turn(remote->http);
    int64_t wait = start_all(remote, clock_ms()), mute = say_mute(remote, clock_ms());
    return mute < wait ? mute : wait;
}

struct call *remote_ask(struct remote *remote, const struct remote_request *request)
{
    struct call *call = xalloc(sizeof *call);
    call->remote = remote;
    call->request = *request;
    call->route = xstrdup(request->route);
    call->body = *request->body;
    *request->body = (struct buf){0};
    call->request.body = NULL;
    call->request.route = NULL;
    DL_APPEND(remote->queued, call);
    remote->len++;
    return call;
}

void remote_drop(struct remote *remote, struct call **call_ptr)
{
    struct call *call = *call_ptr;
    *call_ptr = NULL;
    if (call == NULL)
        return;
    if (call->state == CALL_RUNNING) {
        http_cancel(remote->http, &call->transfer);
        DL_DELETE(remote->current, call);
        call->place->running--;
        remote->running--;
    } else {
        DL_DELETE(remote->queued, call);
    }
    remote->len--;
    call_free(call);
}

int remote_fd(const struct remote *remote)
{
    return http_fd(remote->http);
}

size_t remote_room(const struct remote *remote)
{
    return remote->len < remote->concurrency ? remote->concurrency - remote->len : 0;
}

const char *remote_trouble(const struct remote *remote)
{
    return remote->trouble.text[0] != '\0' ? remote->trouble.text : "nothing else went wrong";
}

const char *remote_where(const struct remote *remote)
{
    return remote->places[0].url;
}

uint32_t remote_width(const struct remote *remote)
{
    return remote->concurrency;
}

size_t remote_len(const struct remote *remote)
{
    return remote->len;
}
