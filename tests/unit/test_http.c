/* The HTTP client against a server of this process that does what servers do on bad days. */
#include "common/io/clock.h"
#include "common/io/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000 }; /* far more than a loaded machine needs */

/* -- the server ------------------------------------------------------------------------------------------------------- */

static int listener;
static uint16_t port;
static atomic_int accepted, gone;  /* connections that came, and that the client closed while it waited */
static char last_request[1 << 17]; /* of the last request that was read whole */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void say(int fd, const char *text)
{
    size_t len = strlen(text);
    while (len > 0) {
        ssize_t sent = send(fd, text, len, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        text += sent;
        len -= (size_t)sent;
    }
}

/* One request, body included. False: the client has gone. */
static bool read_request(int fd, char *text, size_t size)
{
    size_t len = 0, wanted = 0;
    while (len + 1 < size) {
        ssize_t got = recv(fd, text + len, size - 1 - len, 0);
        if (got <= 0)
            return false;
        len += (size_t)got;
        text[len] = '\0';
        const char *end = strstr(text, "\r\n\r\n"), *said = strstr(text, "Content-Length: ");
        if (end == NULL)
            continue;
        wanted = (size_t)(end - text) + 4 + (said != NULL ? (size_t)atol(said + 16) : 0);
        if (len >= wanted)
            return true;
    }
    return false;
}

static void wait_gone(int fd)
{
    struct pollfd item = {.fd = fd, .events = POLLRDHUP};
    if (poll(&item, 1, PATIENCE_MS) == 1)
        gone++;
}

/* What each path does; false: close the connection. */
static bool serve(int fd, const char *request)
{
    const char *path = strchr(request, ' ') + 1;
    if (strncmp(path, "/ok", 3) == 0) {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        return true;
    }
    if (strncmp(path, "/busy-ms", 8) == 0)
        say(fd, "HTTP/1.1 429 Too Many\r\nRetry-After: 9\r\nretry-after-ms: 250\r\nContent-Length: 4\r\n\r\nwait");
    else if (strncmp(path, "/busy", 5) == 0)
        say(fd, "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n");
    else if (strncmp(path, "/quota", 6) == 0)
        say(fd, "HTTP/1.1 200 OK\r\nx-ratelimit-remaining-requests: 59\r\nx-ratelimit-reset-requests: 6m0.5s\r\n"
                "x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 20ms\r\nContent-Length: 0\r\n\r\n");
    else if (strncmp(path, "/unsure", 7) == 0)
        say(fd, "HTTP/1.1 200 OK\r\nx-ratelimit-remaining-requests: -1\r\nx-ratelimit-reset-requests: 1s\r\n"
                "x-ratelimit-remaining-tokens: 5\r\nx-ratelimit-reset-tokens: soon\r\nContent-Length: 0\r\n\r\n");
    else if (strncmp(path, "/wrong", 6) == 0)
        say(fd, "HTTP/1.1 422 No\r\nContent-Length: 3\r\n\r\nbad");
    else if (strncmp(path, "/moved", 6) == 0)
        say(fd, "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n");
    else if (strncmp(path, "/half", 5) == 0) {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf");
        return false;
    } else if (strncmp(path, "/reset", 6) == 0) {
        struct linger hard = {1, 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        return false;
    } else if (strncmp(path, "/once", 5) == 0) { /* closes the connection behind the client's back */
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        return false;
    } else if (strncmp(path, "/silent", 7) == 0) {
        wait_gone(fd);
        return false;
    } else if (strncmp(path, "/stall", 6) == 0) {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nbegun");
        wait_gone(fd);
        return false;
    } else if (strncmp(path, "/chunks", 7) == 0) {
        say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none,\r\n");
        say(fd, "4\r\ntwo,\r\n5\r\nthree\r\n0\r\n\r\n");
    } else {
        say(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }
    return true;
}

static void *connection_main(void *arg)
{
    int fd = *(int *)arg;
    free(arg);
    char *request = malloc(sizeof last_request);
    while (read_request(fd, request, sizeof last_request)) {
        pthread_mutex_lock(&lock);
        strcpy(last_request, request);
        pthread_mutex_unlock(&lock);
        if (!serve(fd, request))
            break;
    }
    free(request);
    close(fd);
    return NULL;
}

static void *server_main(void *arg)
{
    (void)arg;
    for (;;) {
        int *fd = malloc(sizeof *fd);
        *fd = accept(listener, NULL, NULL);
        if (*fd < 0)
            return NULL;
        accepted++;
        pthread_t thread;
        pthread_create(&thread, NULL, connection_main, fd);
        pthread_detach(thread);
    }
}

static int server_start(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1024) != 0)
        return -1;
    getsockname(listener, (struct sockaddr *)&address, &len);
    port = ntohs(address.sin_port);
    pthread_t thread;
    pthread_create(&thread, NULL, server_main, NULL);
    pthread_detach(thread);
    return 0;
}

static const char *address_of(const char *path)
{
    static char text[200];
    snprintf(text, sizeof text, "http://127.0.0.1:%u%s", port, path);
    return text;
}

/* -- asking ----------------------------------------------------------------------------------------------------------- */

struct outcome {
    bool done;
    struct http_reply reply;
    char body[1000], data[1000];
    size_t stop_after; /* bytes of data; 0: never */
};

static void on_done(void *user, const struct http_reply *reply)
{
    struct outcome *outcome = user;
    assert_false(outcome->done);
    outcome->done = true;
    outcome->reply = *reply;
    snprintf(outcome->body, sizeof outcome->body, "%.*s", (int)reply->body.len, reply->body.data);
}

static bool on_data(void *user, struct slice bytes)
{
    struct outcome *outcome = user;
    strncat(outcome->data, bytes.data, bytes.len);
    return outcome->stop_after == 0 || strlen(outcome->data) < outcome->stop_after;
}

static void wait_done(struct http *http, const bool *done)
{
    int64_t until = clock_ms() + PATIENCE_MS;
    while (!*done && clock_ms() < until)
        http_wait(http, until - clock_ms());
    assert_true(*done);
}

static struct outcome ask(const char *path, struct http_request request)
{
    struct outcome outcome = {0};
    struct http *http = http_new();
    request.url = address_of(path);
    request.done = on_done;
    request.user = &outcome;
    http_start(http, &request);
    assert_int_equal(http_len(http), 1);
    wait_done(http, &outcome.done);
    assert_int_equal(http_len(http), 0);
    http_free(&http);
    assert_null(http);
    return outcome;
}

/* -- tests ------------------------------------------------------------------------------------------------------------ */

static void test_whole_answer(void **state)
{
    (void)state;
    const char *const headers[] = {"X-Request-Id: 77", NULL};
    struct outcome outcome =
        ask("/ok", (struct http_request){.body = slice_of("{\"n\":1}"), .bearer = "sk-secret", .headers = headers});
    assert_int_equal(outcome.reply.rc, 0);
    assert_int_equal(outcome.reply.status, 200);
    assert_string_equal(outcome.body, "hello");
    assert_int_equal(outcome.reply.retry_after_ms, -1);
    assert_true(outcome.reply.new_connection);
    assert_non_null(strstr(last_request, "POST /ok HTTP/1.1\r\n"));
    assert_non_null(strstr(last_request, "Content-Type: application/json\r\n"));
    assert_non_null(strstr(last_request, "Authorization: Bearer sk-secret\r\n"));
    assert_non_null(strstr(last_request, "X-Request-Id: 77\r\n"));
    assert_non_null(strstr(last_request, "\r\n\r\n{\"n\":1}"));
    assert_null(strstr(last_request, "Expect"));
    ask("/ok", (struct http_request){0});
    assert_non_null(strstr(last_request, "GET /ok HTTP/1.1\r\n"));
    assert_null(strstr(last_request, "Authorization"));
}

static void test_status(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        uint32_t status;
        enum http_retry retry;
        int64_t after_ms;
        const char *body;
    } rows[] = {
        {"/busy-ms", 429, HTTP_LATER, 250, "wait"}, {"/busy", 503, HTTP_LATER, 7000, ""},
        {"/wrong", 422, HTTP_NEVER, -1, "bad"},     {"/missing", 404, HTTP_NEVER, -1, ""},
        {"/moved", 302, HTTP_NEVER, -1, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        /* with `data`, the body of an error still comes whole */
        struct outcome outcome = ask(rows[i].path, (struct http_request){.data = on_data});
        assert_int_equal(outcome.reply.rc, 0);
        assert_int_equal(outcome.reply.status, rows[i].status);
        assert_int_equal(outcome.reply.retry, rows[i].retry);
        assert_int_equal(outcome.reply.retry_after_ms, rows[i].after_ms);
        assert_string_equal(outcome.body, rows[i].body);
        assert_string_equal(outcome.data, "");
    }
}

static void test_quotas(void **state)
{
    (void)state;
    struct outcome told = ask("/quota", (struct http_request){0}), unsure = ask("/unsure", (struct http_request){0});
    assert_true(told.reply.requests.told);
    assert_int_equal(told.reply.requests.left, 59);
    assert_int_equal(told.reply.requests.reset_ms, 360500);
    assert_true(told.reply.tokens.told);
    assert_int_equal(told.reply.tokens.left, 0);
    assert_int_equal(told.reply.tokens.reset_ms, 20);
    assert_false(unsure.reply.requests.told);
    assert_false(unsure.reply.tokens.told);
    assert_false(ask("/ok", (struct http_request){0}).reply.requests.told);
}

static void test_transport_errors(void **state)
{
    (void)state;
    struct outcome outcome = ask("/half?key=sk-secret", (struct http_request){0});
    assert_int_equal(outcome.reply.rc, ERR_CLOSED);
    assert_int_equal(outcome.reply.retry, HTTP_LATER);
    assert_null(strstr(outcome.reply.error.text, "sk-secret"));
    assert_non_null(strstr(outcome.reply.error.text, "/half: "));
    outcome = ask("/reset", (struct http_request){0});
    assert_int_equal(outcome.reply.rc, ERR_CLOSED);
    assert_int_equal(outcome.reply.retry, HTTP_LATER);
    outcome = ask("/ok", (struct http_request){.body_max = 4});
    assert_int_equal(outcome.reply.rc, ERR_LIMIT);
    assert_int_equal(outcome.reply.retry, HTTP_NEVER);
}

static void test_nobody_listens(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* bound and not listening: nobody else gets the port meanwhile */
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    getsockname(fd, (struct sockaddr *)&address, &len);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", ntohs(address.sin_port));
    struct outcome outcome = {0};
    struct http *http = http_new();
    http_start(http, &(struct http_request){.url = url, .done = on_done, .user = &outcome});
    wait_done(http, &outcome.done);
    assert_int_equal(outcome.reply.rc, ERR_CLOSED);
    assert_int_equal(outcome.reply.retry, HTTP_LATER);
    assert_non_null(strstr(outcome.reply.error.text, url));
    http_free(&http);
    close(fd);
}

static void test_time_limits(void **state)
{
    (void)state;
    int before = gone;
    struct outcome outcome = ask("/silent", (struct http_request){.first_ms = 1});
    assert_int_equal(outcome.reply.rc, ERR_TIMEOUT);
    assert_int_equal(outcome.reply.retry, HTTP_LATER);
    assert_non_null(strstr(outcome.reply.error.text, "no answer"));
    outcome = ask("/stall", (struct http_request){.idle_ms = 1});
    assert_int_equal(outcome.reply.rc, ERR_TIMEOUT);
    assert_non_null(strstr(outcome.reply.error.text, "no further byte"));
    outcome = ask("/stall", (struct http_request){.total_ms = 50});
    assert_int_equal(outcome.reply.rc, ERR_TIMEOUT);
    for (int64_t until = clock_ms() + PATIENCE_MS; gone < before + 3 && clock_ms() < until;)
        poll(NULL, 0, 1);
    assert_int_equal(gone, before + 3); /* and the server was told each time */
}

static void test_streaming(void **state)
{
    (void)state;
    struct outcome outcome = ask("/chunks", (struct http_request){.data = on_data});
    assert_int_equal(outcome.reply.rc, 0);
    assert_string_equal(outcome.data, "one,two,three");
    assert_string_equal(outcome.body, "");
}

static void test_stop_in_data(void **state)
{
    (void)state;
    struct outcome outcome = {.stop_after = 3};
    struct http *http = http_new();
    int before = gone;
    http_start(http,
               &(struct http_request){.url = address_of("/stall"), .data = on_data, .done = on_done, .user = &outcome});
    wait_done(http, &outcome.done);
    assert_int_equal(outcome.reply.rc, 0);
    assert_int_equal(outcome.reply.status, 200);
    assert_string_equal(outcome.data, "begun");
    for (int64_t until = clock_ms() + PATIENCE_MS; gone == before && clock_ms() < until;)
        poll(NULL, 0, 1);
    assert_int_equal(gone, before + 1);
    http_free(&http);
}

/* The server sees the connection close at once, and nothing is called any more. */
static void test_cancel(void **state)
{
    (void)state;
    struct outcome outcome = {0};
    struct http *http = http_new();
    int came = accepted, before = gone;
    struct http_transfer *transfer =
        http_start(http, &(struct http_request){.url = address_of("/silent"), .done = on_done, .user = &outcome});
    pthread_mutex_lock(&lock);
    last_request[0] = '\0';
    pthread_mutex_unlock(&lock);
    bool arrived = false;
    for (int64_t until = clock_ms() + PATIENCE_MS; !arrived && clock_ms() < until;) {
        http_wait(http, 5);
        pthread_mutex_lock(&lock);
        arrived = strstr(last_request, "/silent") != NULL;
        pthread_mutex_unlock(&lock);
    }
    assert_int_equal(accepted, came + 1);
    http_cancel(http, &transfer);
    assert_null(transfer);
    http_cancel(http, &transfer);
    for (int64_t until = clock_ms() + PATIENCE_MS; gone == before && clock_ms() < until;)
        poll(NULL, 0, 1);
    assert_int_equal(gone, before + 1);
    assert_false(outcome.done);
    assert_int_equal(http_len(http), 0);
    http_free(&http);
}

/* Keep-alive, and a kept connection that the server had closed: asked again on a new one, without a word. */
static void test_connections_are_kept(void **state)
{
    (void)state;
    struct http *http = http_new();
    int came = accepted;
    for (int i = 0; i < 5; i++) {
        struct outcome outcome = {0};
        http_start(http, &(struct http_request){.url = address_of("/ok"), .done = on_done, .user = &outcome});
        wait_done(http, &outcome.done);
        assert_int_equal(outcome.reply.new_connection, i == 0);
    }
    assert_int_equal(accepted, came + 1);
    for (int i = 0; i < 3; i++) {
        struct outcome outcome = {0};
        http_start(http, &(struct http_request){.url = address_of("/once"), .done = on_done, .user = &outcome});
        wait_done(http, &outcome.done);
        assert_int_equal(outcome.reply.rc, 0);
        assert_string_equal(outcome.body, "hello");
    }
    http_free(&http);
}

static void count_done(void *user, const struct http_reply *reply)
{
    assert_int_equal(reply->rc, 0);
    ++*(int *)user;
}

static void test_hundreds(void **state)
{
    (void)state;
    enum { MANY = 300 };
    int count = 0;
    struct http *http = http_new();
    for (int i = 0; i < MANY; i++)
        http_start(http, &(struct http_request){.url = address_of("/ok"), .done = count_done, .user = &count});
    assert_int_equal(http_len(http), MANY);
    for (int64_t until = clock_ms() + PATIENCE_MS; count < MANY && clock_ms() < until;) {
        struct pollfd item = {.fd = http_fd(http), .events = POLLIN};
        poll(&item, 1, 1000);
        http_turn(http);
    }
    assert_int_equal(count, MANY);
    http_free(&http);
}

struct pair {
    struct http *http;
    struct http_transfer *other;
    struct outcome next;
    bool done;
};

static void cancel_other(void *user, const struct http_reply *reply)
{
    struct pair *pair = user;
    assert_int_equal(reply->rc, 0);
    http_cancel(pair->http, &pair->other);
    http_start(pair->http, &(struct http_request){.url = address_of("/ok"), .done = on_done, .user = &pair->next});
    pair->done = true;
}

static void test_done_may_cancel_and_start(void **state)
{
    (void)state;
    struct pair pair = {.http = http_new()};
    struct outcome never = {0};
    pair.other =
        http_start(pair.http, &(struct http_request){.url = address_of("/silent"), .done = on_done, .user = &never});
    http_start(pair.http, &(struct http_request){.url = address_of("/ok"), .done = cancel_other, .user = &pair});
    wait_done(pair.http, &pair.next.done);
    assert_true(pair.done);
    assert_false(never.done);
    assert_string_equal(pair.next.body, "hello");
    http_free(&pair.http);
}

static void test_free_in_flight(void **state)
{
    (void)state;
    struct outcome outcome = {0};
    struct http *http = http_new();
    for (int i = 0; i < 3; i++)
        http_start(http, &(struct http_request){.url = address_of("/silent"), .done = on_done, .user = &outcome});
    http_turn(http);
    http_free(&http);
    http_free(&http);
    assert_false(outcome.done);
}

static void test_url_check(void **state)
{
    (void)state;
    static const char *const good[] = {"http://127.0.0.1:8000", "https://host/v1", "http://[::1]:80/", "HTTP://h"};
    static const char *const bad[] = {"http://host/v1?api-key=secret",
                                      "http://host/v1#part",
                                      "127.0.0.1:8000",
                                      "ftp://h/",
                                      "file:///etc/passwd",
                                      "http://",
                                      "http://h:x/",
                                      "",
                                      "http://sk-secret@h/",
                                      "https://u:sk-secret@h/"};
    struct error error = {""};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(http_url_check(good[i], &error), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(http_url_check(bad[i], &error), ERR_SYNTAX);
        assert_null(strstr(error.text, "sk-secret"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_answer),   cmocka_unit_test(test_status),
        cmocka_unit_test(test_quotas),         cmocka_unit_test(test_transport_errors),
        cmocka_unit_test(test_nobody_listens), cmocka_unit_test(test_time_limits),
        cmocka_unit_test(test_streaming),      cmocka_unit_test(test_stop_in_data),
        cmocka_unit_test(test_cancel),         cmocka_unit_test(test_connections_are_kept),
        cmocka_unit_test(test_hundreds),       cmocka_unit_test(test_done_may_cancel_and_start),
        cmocka_unit_test(test_free_in_flight), cmocka_unit_test(test_url_check),
    };
    return cmocka_run_group_tests(tests, server_start, NULL);
}
