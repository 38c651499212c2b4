/* http.c - libcurl's multi handle behind one epoll descriptor; see http.h.
 *
 * curl tells which sockets it watches (on_socket) and when it wants to be woken (on_timer, a timerfd); both are in the
 * epoll set. A second timerfd ticks once a second while requests are in flight: curl has no limits of its own for the
 * first byte and for silence between bytes that could differ, and a queue in front of a model makes them differ a lot. */
#include "common/io/http.h"
#include "common/io/clock.h"

#include <assert.h>
#include <curl/curl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <utlist.h>

enum {
    CONNECT_MS = 5000,
    FIRST_MS = 600000,
    IDLE_MS = 120000,
    BODY_MAX = 64 << 20,
    EVENTS = 64,
    POOL_MAX = 64,   /* easy handles kept for later */
    KEPT_MAX = 8192, /* connections kept open */
    URL_SHOWN = 200,
};

struct http_transfer {
    struct http_request request; /* slices and texts of the caller are not used after http_start */
    CURL *easy;
    struct curl_slist *headers;
    struct buf body, reply;
    char shown[URL_SHOWN]; /* the address for messages: without query, which may hold a key */
    char why[CURL_ERROR_SIZE];
    int64_t start_ms, byte_ms, retry_after_ms;
    size_t received;
    uint32_t status; /* once the body has begun */
    bool stopped;    /* `data` said so */
    bool over;       /* body_max exceeded */
    struct http_transfer *prev, *next;
};

struct http {
    CURLM *multi;
    int epoll, timer, tick;
    bool ticking, inside; /* inside: curl is running, so it must not be called */
    struct http_transfer *running;
    size_t len;
    CURL *pool[POOL_MAX];
    size_t pool_len;
};

static void arm(int fd, int64_t first_ms, int64_t interval_ms)
{
    struct itimerspec spec = {.it_value = {first_ms / 1000, first_ms % 1000 * 1000000},
                              .it_interval = {interval_ms / 1000, interval_ms % 1000 * 1000000}};
    int rc = timerfd_settime(fd, 0, &spec, NULL);
    assert(rc == 0);
    (void)rc;
}

/* -- what curl calls -------------------------------------------------------------------------------------------------- */

static int on_socket(CURL *easy, curl_socket_t socket, int what, void *opaque, void *known)
{
    struct http *http = opaque;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(http->epoll, EPOLL_CTL_DEL, socket, NULL); /* may be closed already */
        return 0;
    }
    struct epoll_event event = {.data.fd = socket};
    if (what & CURL_POLL_IN)
        event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT)
        event.events |= EPOLLOUT;
    if (known != NULL && epoll_ctl(http->epoll, EPOLL_CTL_MOD, socket, &event) == 0)
        return 0;
    int rc = epoll_ctl(http->epoll, EPOLL_CTL_ADD, socket, &event);
    if (rc != 0) /* a number that was closed and opened again behind our back */
        rc = epoll_ctl(http->epoll, EPOLL_CTL_MOD, socket, &event);
    assert(rc == 0);
    curl_multi_assign(http->multi, socket, http);
    return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *opaque)
{
    struct http *http = opaque;
    (void)multi;
    if (timeout_ms < 0)
        arm(http->timer, 0, 0);
    else if (timeout_ms == 0) {
        struct itimerspec now = {.it_value.tv_nsec = 1}; /* 0 would disarm it */
        timerfd_settime(http->timer, 0, &now, NULL);
    } else
        arm(http->timer, timeout_ms, 0);
    return 0;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *opaque)
{
    struct http_transfer *transfer = opaque;
    size_t len = size * count;
    if (transfer->status == 0) {
        long status = 0;
        curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
        transfer->status = (uint32_t)status;
    }
    transfer->byte_ms = clock_ms();
    transfer->received += len;
    transfer->over = transfer->received > transfer->request.body_max;
    if (transfer->over)
        return 0;
    if (transfer->request.data == NULL || transfer->status / 100 != 2) {
        buf_put(&transfer->reply, bytes, len);
        return len;
    }
    transfer->stopped = !transfer->request.data(transfer->request.user, (struct slice){bytes, len});
    return transfer->stopped ? 0 : len;
}

static size_t on_header(char *line, size_t size, size_t count, void *opaque)
{
    struct http_transfer *transfer = opaque;
    (void)line;
    transfer->byte_ms = clock_ms();
    return size * count;
}

/* -- starting --------------------------------------------------------------------------------------------------------- */

static void global_init(void)
{
    CURLcode rc = curl_global_init(CURL_GLOBAL_DEFAULT);
    assert(rc == CURLE_OK);
    (void)rc;
}

static int watched_timer(int epoll)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    assert(fd >= 0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    int rc = epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    assert(rc == 0);
    (void)rc;
    return fd;
}

struct http *http_new(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, global_init);
    struct http *http = xalloc(sizeof *http);
    http->multi = curl_multi_init();
    http->epoll = epoll_create1(EPOLL_CLOEXEC);
    assert(http->multi != NULL);
    assert(http->epoll >= 0);
    http->timer = watched_timer(http->epoll);
    http->tick = watched_timer(http->epoll);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)KEPT_MAX);
    curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    return http;
}

static int64_t or_default(int64_t value, int64_t fallback)
{
    return value > 0 ? value : fallback;
}

static void headers_make(struct http_transfer *transfer, const struct http_request *request)
{
    struct curl_slist *list = NULL;
    struct buf line = {0};
    bool typed = false;
    for (size_t i = 0; request->headers != NULL && request->headers[i] != NULL; i++) {
        typed = typed || strncasecmp(request->headers[i], "content-type:", 13) == 0;
        list = curl_slist_append(list, request->headers[i]);
    }
    if (request->body.len > 0 && !typed)
        list = curl_slist_append(list, "Content-Type: application/json");
    list = curl_slist_append(list, "Expect:"); /* else large bodies wait for a permission that few servers give */
    if (request->bearer != NULL) {
        buf_printf(&line, "Authorization: Bearer %s", request->bearer);
        list = curl_slist_append(list, line.data);
    }
    buf_clear(&line);
    transfer->headers = list;
}

static void show_url(const char *url, char *shown)
{
    size_t len = strcspn(url, "?#");
    if (len >= URL_SHOWN)
        len = URL_SHOWN - 1;
    memcpy(shown, url, len);
    shown[len] = '\0';
}

static void set_options(struct http_transfer *transfer, const struct http_request *request)
{
    CURL *easy = transfer->easy;
    const char *method = request->method != NULL ? request->method : request->body.len > 0 ? "POST" : "GET";
    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)or_default(request->connect_ms, CONNECT_MS));
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->total_ms);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (request->ca_file != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, request->ca_file);
    if (strncasecmp(request->url, "https:", 6) != 0)
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
    if (request->body.len > 0 || strcmp(method, "POST") == 0) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, transfer->body.data != NULL ? transfer->body.data : "");
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)transfer->body.len);
    }
    if (strcmp(method, "GET") != 0 && strcmp(method, "POST") != 0)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->why);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
}

struct http_transfer *http_start(struct http *http, const struct http_request *request)
{
    assert(!http->inside);
    struct http_transfer *transfer = xalloc(sizeof *transfer);
    transfer->request = *request;
    transfer->request.first_ms = or_default(request->first_ms, FIRST_MS);
    transfer->request.idle_ms = or_default(request->idle_ms, IDLE_MS);
    if (request->body_max == 0)
        transfer->request.body_max = BODY_MAX;
    transfer->start_ms = clock_ms();
    show_url(request->url, transfer->shown);
    buf_put(&transfer->body, request->body.data, request->body.len);
    headers_make(transfer, request);
    transfer->easy = http->pool_len > 0 ? http->pool[--http->pool_len] : curl_easy_init();
    assert(transfer->easy != NULL);
    set_options(transfer, request);
    DL_APPEND(http->running, transfer);
    http->len++;
    CURLMcode rc = curl_multi_add_handle(http->multi, transfer->easy);
    assert(rc == CURLM_OK);
    (void)rc;
    if (!http->ticking)
        arm(http->tick, 1000, 1000);
    http->ticking = true;
    return transfer;
}

/* -- ending ----------------------------------------------------------------------------------------------------------- */

/* Takes the transfer from curl. One that was not finished has its connection closed by that. */
static void detach(struct http *http, struct http_transfer *transfer)
{
    curl_multi_remove_handle(http->multi, transfer->easy);
    DL_DELETE(http->running, transfer);
    http->len--;
    if (http->len == 0) {
        arm(http->tick, 0, 0);
        http->ticking = false;
    }
}

static void transfer_free(struct http *http, struct http_transfer *transfer)
{
    if (http->pool_len < POOL_MAX) {
        curl_easy_reset(transfer->easy);
        http->pool[http->pool_len++] = transfer->easy;
    } else {
        curl_easy_cleanup(transfer->easy);
    }
    curl_slist_free_all(transfer->headers);
    buf_clear(&transfer->body);
    buf_clear(&transfer->reply);
    free(transfer);
}

void http_cancel(struct http *http, struct http_transfer **transfer)
{
    assert(!http->inside);
    if (*transfer == NULL)
        return;
    detach(http, *transfer);
    transfer_free(http, *transfer);
    *transfer = NULL;
}

/* Errors of transport: our code, and whether another try makes sense. Others are HTTP_LATER and ERR_CLOSED. */
static const struct {
    CURLcode code;
    int rc;
    enum http_retry retry;
} causes[] = {
    {CURLE_OPERATION_TIMEDOUT, ERR_TIMEOUT, HTTP_LATER},   {CURLE_URL_MALFORMAT, ERR_SYNTAX, HTTP_NEVER},
    {CURLE_UNSUPPORTED_PROTOCOL, ERR_SYNTAX, HTTP_NEVER},  {CURLE_PEER_FAILED_VERIFICATION, ERR_REFUSED, HTTP_NEVER},
    {CURLE_SSL_CACERT_BADFILE, ERR_NOT_FOUND, HTTP_NEVER}, {CURLE_OUT_OF_MEMORY, ERR_SYSTEM, HTTP_LATER},
};

static enum http_retry retry_of_status(uint32_t status)
{
    static const uint16_t later[] = {408, 409, 424, 425, 429};
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++)
        if (status == later[i])
            return HTTP_LATER;
    return status >= 500 && status != 501 && status != 505 ? HTTP_LATER : HTTP_NEVER;
}

static int64_t retry_after(CURL *easy)
{
    struct curl_header *header;
    curl_off_t seconds = 0;
    if (curl_easy_header(easy, "retry-after-ms", 0, CURLH_HEADER, -1, &header) == CURLHE_OK) {
        double ms = strtod(header->value, NULL);
        if (ms >= 0 && ms <= 86400e3)
            return (int64_t)ms;
    }
    if (curl_easy_header(easy, "retry-after", 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return -1;
    curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &seconds); /* reads seconds and dates */
    return (int64_t)seconds * 1000;
}

/* "6m0s", "1.5s", "20ms"; a bare number is seconds. -1: it is none. */
static double duration_ms(const char *text)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60e3}, {"h", 3600e3}, {"d", 86400e3}, {"", 1000}};
    double sum = 0;
    do {
        char *end;
        double value = strtod(text, &end);
        size_t len = strspn(end, "dhms"), i = 0;
        while (i < sizeof units / sizeof units[0] &&
               (strlen(units[i].unit) != len || memcmp(units[i].unit, end, len) != 0))
            i++;
        if (end == text || i == sizeof units / sizeof units[0] || !(value >= 0 && value < 1e9))
            return -1;
        sum += value * units[i].ms;
        text = end + len;
    } while (*text != '\0');
    return sum;
}

/* Some write -1 or leave the reset out where they do not know: that tells nothing. */
static struct http_quota quota(CURL *easy, const char *left_name, const char *reset_name)
{
    struct curl_header *header;
    struct http_quota quota = {.told = false};
    char *end;
    if (curl_easy_header(easy, left_name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return quota;
    double left = strtod(header->value, &end);
    if (end == header->value || !(left >= 0 && left < 1e15) ||
        curl_easy_header(easy, reset_name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return quota;
    double reset_ms = duration_ms(header->value);
    return (struct http_quota){.told = reset_ms > 0, .left = (int64_t)left, .reset_ms = (int64_t)reset_ms};
}

static void explain(const struct http_transfer *transfer, CURLcode code, struct http_reply *reply)
{
    reply->rc = ERR_CLOSED;
    reply->retry = HTTP_LATER;
    for (size_t i = 0; i < sizeof causes / sizeof causes[0]; i++) {
        if (causes[i].code == code) {
            reply->rc = causes[i].rc;
            reply->retry = causes[i].retry;
        }
    }
    bool nothing = reply->status == 0 && transfer->received == 0;
    if (nothing && !reply->new_connection &&
        (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING))
        reply->retry = HTTP_AT_ONCE;
    if (transfer->over) {
        reply->retry = HTTP_NEVER;
        reply->rc = error_set(&reply->error, ERR_LIMIT, "%s: the answer has more than %zu bytes", transfer->shown,
                              transfer->request.body_max);
        return;
    }
    error_set(&reply->error, reply->rc, "%s: %s", transfer->shown,
              transfer->why[0] != '\0' ? transfer->why : curl_easy_strerror(code));
}

/* Tells the caller how it ended; code is curl's word, or our sweep's for one that was silent for too long. */
static void finish(struct http *http, struct http_transfer *transfer, CURLcode code)
{
    struct http_reply reply = {.body = buf_slice(&transfer->reply)};
    long status = 0, connects = 0;
    curl_off_t first = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(transfer->easy, CURLINFO_NUM_CONNECTS, &connects);
    curl_easy_getinfo(transfer->easy, CURLINFO_STARTTRANSFER_TIME_T, &first);
    reply.status = (uint32_t)status;
    reply.new_connection = connects > 0;
    reply.first_ms = first / 1000;
    reply.total_ms = clock_ms() - transfer->start_ms;
    reply.retry_after_ms = retry_after(transfer->easy);
    reply.requests = quota(transfer->easy, "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests");
    reply.tokens = quota(transfer->easy, "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens");
    if (code == CURLE_OK || transfer->stopped)
        reply.retry = retry_of_status(reply.status);
    else
        explain(transfer, code, &reply);
    detach(http, transfer);
    transfer->request.done(transfer->request.user, &reply);
    transfer_free(http, transfer);
}

/* -- moving ----------------------------------------------------------------------------------------------------------- */

/* `done` may cancel any other transfer, so look from the start again after each. */
static void sweep_silent(struct http *http, int64_t now)
{
    struct http_transfer *transfer;
    for (;;) {
        bool found = false;
        DL_FOREACH (http->running, transfer) {
            int64_t since = transfer->byte_ms != 0 ? transfer->byte_ms : transfer->start_ms;
            int64_t limit = transfer->byte_ms != 0 ? transfer->request.idle_ms : transfer->request.first_ms;
            found = now - since >= limit;
            if (found)
                break;
        }
        if (!found)
            break;
        bool begun = transfer->byte_ms != 0;
        snprintf(transfer->why, sizeof transfer->why, "no %s within %lld s", begun ? "further byte" : "answer",
                 (long long)((begun ? transfer->request.idle_ms : transfer->request.first_ms) / 1000));
        finish(http, transfer, CURLE_OPERATION_TIMEDOUT);
    }
}

static void on_event(struct http *http, const struct epoll_event *event)
{
    uint64_t count;
    int flags = 0, running;
    curl_socket_t socket = event->data.fd;
    if (socket == http->timer || socket == http->tick) {
        ssize_t got = read(socket, &count, sizeof count);
        (void)got;
        if (socket == http->tick) {
            sweep_silent(http, clock_ms());
            return;
        }
        socket = CURL_SOCKET_TIMEOUT;
    }
    if (event->events & (EPOLLIN | EPOLLHUP))
        flags |= CURL_CSELECT_IN;
    if (event->events & EPOLLOUT)
        flags |= CURL_CSELECT_OUT;
    if (event->events & EPOLLERR)
        flags |= CURL_CSELECT_ERR;
    http->inside = true;
    curl_multi_socket_action(http->multi, socket, socket == CURL_SOCKET_TIMEOUT ? 0 : flags, &running);
    http->inside = false;
}

void http_turn(struct http *http)
{
    struct epoll_event events[EVENTS];
    int left;
    int len = epoll_wait(http->epoll, events, EVENTS, 0);
    for (int i = 0; i < len; i++)
        on_event(http, &events[i]);
    CURLMsg *msg;
    while ((msg = curl_multi_info_read(http->multi, &left)) != NULL) {
        char *transfer;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &transfer);
        finish(http, (struct http_transfer *)(void *)transfer, msg->data.result);
    }
}

int http_fd(const struct http *http)
{
    return http->epoll;
}

void http_wait(struct http *http, int64_t timeout_ms)
{
    struct pollfd item = {.fd = http->epoll, .events = POLLIN};
    poll(&item, 1, timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms);
    http_turn(http);
}

size_t http_len(const struct http *http)
{
    return http->len;
}

void http_free(struct http **http_ptr)
{
    struct http *http = *http_ptr;
    struct http_transfer *transfer, *next;
    *http_ptr = NULL;
    if (http == NULL)
        return;
    DL_FOREACH_SAFE (http->running, transfer, next) {
        detach(http, transfer);
        transfer_free(http, transfer);
    }
    for (size_t i = 0; i < http->pool_len; i++)
        curl_easy_cleanup(http->pool[i]);
    curl_multi_cleanup(http->multi);
    close(http->timer);
    close(http->tick);
    close(http->epoll);
    free(http);
}

/* -- addresses -------------------------------------------------------------------------------------------------------- */

static bool url_has(CURLU *parts, CURLUPart part)
{
    char *text = NULL;
    bool has = curl_url_get(parts, part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return has;
}

int http_url_check(const char *url, struct error *error)
{
    int rc = 0;
    CURLU *parts = curl_url();
    assert(parts != NULL);
    bool known = strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0;
    if (curl_url_set(parts, CURLUPART_URL, url, 0) != CURLUE_OK || !known)
        rc = error_set(error, ERR_SYNTAX, "'%.*s' is not an address such as http://HOST:PORT",
                       (int)strcspn(strchr(url, '@') != NULL ? "" : url, "?#"), url);
    else if (url_has(parts, CURLUPART_USER) || url_has(parts, CURLUPART_PASSWORD))
        rc = error_set(error, ERR_SYNTAX,
                       "an address must not hold a user or password: give the key by file or "
                       "environment variable");
    else if (url_has(parts, CURLUPART_QUERY) || url_has(parts, CURLUPART_FRAGMENT))
        rc = error_set(error, ERR_SYNTAX,
                       "an address must end before '?' and '#': what stands behind may be a key, and is shown in logs");
    curl_url_cleanup(parts);
    return rc;
}
