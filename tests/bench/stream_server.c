/* stream_server.c - an inference server that only streams, at an exact rate and at next to no cost: the other end of
 * tests/bench/streams. Answers are endless rows of events that were rendered before, of `chunk` tokens each with as many
 * alternatives as the request asks for; a client has enough of them by closing the connection.
 *
 * stream_server CHUNK TOKEN_MS: prints its port; tells what it sent under /stats. */
#include "common/buf.h"
#include "common/json.h"
#include "common/rng.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, VARIANTS = 32, TOP_MAX = 20, FDS = 4096, TICK_MS = 4 };

struct client {
    struct buf in;
    bool streams;
    int top;
    uint32_t sent;  /* events of this stream */
    double due_ms;  /* of the next event */
    struct buf out; /* what the socket did not take */
};

static struct client clients[FDS];
static struct buf rendered[TOP_MAX + 1][VARIANTS];
static int chunk, epoll_fd, running;
static double event_ms;
static uint64_t tokens, late;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* -- what it says ------------------------------------------------------------------------------------------------------ */

static double logprob(uint64_t a, uint64_t b)
{
    double u = rng_unit(rng_u64(1, RNG_TEST, a, b));
    return -(double)(int)(3e5 * u * u) / 1e5;
}

static void render_tops(struct buf *out, uint64_t variant, int top)
{
    json_begin(out, '[');
    for (int i = 0; i < chunk; i++) {
        json_begin(out, '{');
        for (int j = 0; j < top; j++) {
            char token[24];
            snprintf(token, sizeof token, " tok%d", i * 31 + j);
            json_key(out, token);
            json_f64(out, logprob(variant, (uint64_t)i) - j * 0.4375);
        }
        json_end(out, '}');
    }
    json_end(out, ']');
}

/* An event as vLLM writes it, in one chunk of HTTP. */
static void render(struct buf *out, uint64_t variant, int top)
{
    struct buf json = {0};
    buf_puts(&json, "{\"id\":\"cmpl-0123456789abcdef0123456789abcdef\",\"object\":\"text_completion\","
                    "\"created\":1764490000,\"model\":\"stream\",\"choices\":[{\"index\":0,\"text\":\"");
    for (int i = 0; i < chunk; i++)
        buf_printf(&json, " tok%d", i * 31);
    buf_puts(&json, "\",\"logprobs\":{\"text_offset\":");
    json_begin(&json, '[');
    for (int i = 0; i < chunk; i++)
        json_u64(&json, (uint64_t)i * 5);
    json_end(&json, ']');
    json_key(&json, "token_logprobs");
    json_begin(&json, '[');
    for (int i = 0; i < chunk; i++)
        json_f64(&json, logprob(variant, (uint64_t)i));
    json_end(&json, ']');
    json_key(&json, "tokens");
    json_begin(&json, '[');
    for (int i = 0; i < chunk; i++)
        json_str(&json, " tok");
    json_end(&json, ']');
    json_key(&json, "top_logprobs");
    if (top == 0)
        json_none(&json);
    else
        render_tops(&json, variant, top);
    buf_puts(&json, "},\"finish_reason\":null,\"stop_reason\":null}]}");
    buf_printf(out, "%zx\r\ndata: %s\n\n\r\n", json.len + 8, json.data);
    buf_clear(&json);
}

static const struct buf *event_of(int top, uint32_t number)
{
    struct buf *event = &rendered[top][number % VARIANTS];
    if (event->len == 0)
        render(event, number % VARIANTS, top);
    return event;
}

/* -- sockets ----------------------------------------------------------------------------------------------------------- */

static void drop(int fd)
{
    struct client *client = &clients[fd];
    running -= client->streams;
    buf_clear(&client->in);
    buf_clear(&client->out);
    *client = (struct client){0};
    close(fd);
}

static void put(int fd, const char *data, size_t len)
{
    struct client *client = &clients[fd];
    if (client->out.len == 0) {
        ssize_t sent = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN)
            return; /* epoll tells that it is gone */
        data += sent < 0 ? 0 : sent;
        len -= sent < 0 ? 0 : (size_t)sent;
    }
    buf_put(&client->out, data, len);
}

static void put_rest(int fd)
{
    struct client *client = &clients[fd];
    ssize_t sent = client->out.len == 0 ? 0 : send(fd, client->out.data, client->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent <= 0)
        return;
    client->out.len -= (size_t)sent;
    memmove(client->out.data, client->out.data + sent, client->out.len);
}

static void answer(int fd, const char *type, const char *body)
{
    struct buf out = {0};
    buf_printf(&out, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s", type, strlen(body), body);
    put(fd, out.data, out.len);
    buf_clear(&out);
}

static int number_in(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    return at != NULL ? atoi(at + strlen(key)) : 0;
}

static void serve(int fd, const char *request)
{
    char body[1000];
    struct client *client = &clients[fd];
    if (strstr(request, "\"stream\":true") != NULL) {
        const char *head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        client->streams = true;
        client->top = number_in(request, "\"logprobs\":");
        client->top = client->top < 0 || client->top > TOP_MAX ? 0 : client->top;
        client->due_ms = now_ms() + event_ms * rng_unit(rng_u64(2, RNG_TEST, (uint64_t)fd, 0));
        running++;
        put(fd, head, strlen(head));
        return;
    }
    if (strstr(request, "POST ") == request)
        snprintf(body, sizeof body,
                 "{\"choices\":[{\"index\":0,\"text\":\"%d\",\"logprobs\":{\"token_logprobs\":[-1],\"top_logprobs\":"
                 "[{\"a\":-1,\"b\":-2}]},\"finish_reason\":\"stop\",\"stop_reason\":null}],\"usage\":"
                 "{\"prompt_tokens\":1,\"completion_tokens\":1}}",
                 number_in(request, "\"seed\":"));
    else if (strstr(request, "GET /v1/models") == request)
        snprintf(body, sizeof body, "{\"data\":[{\"id\":\"stream\",\"owned_by\":\"vllm\",\"max_model_len\":1048576}]}");
    else if (strstr(request, "GET /metrics") == request)
        snprintf(body, sizeof body, "vllm:num_requests_running{} %d\nvllm:num_requests_waiting{} 0\n", running);
    else
        snprintf(body, sizeof body, "{\"running\":%d,\"tokens\":%llu,\"late\":%llu}", running,
                 (unsigned long long)tokens, (unsigned long long)late);
    answer(fd, "application/json", body);
}

static void take(int fd)
{
    struct client *client = &clients[fd];
    char *to = buf_grow(&client->in, 65536);
    ssize_t got = recv(fd, to, 65536, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        drop(fd);
        return;
    }
    if (got < 0)
        return;
    client->in.len += (size_t)got;
    client->in.data[client->in.len] = '\0';
    const char *end = strstr(client->in.data, "\r\n\r\n");
    if (end == NULL ||
        client->in.len < (size_t)(end + 4 - client->in.data) + (size_t)number_in(client->in.data, "Content-Length: "))
        return;
    serve(fd, client->in.data);
    buf_reset(&client->in);
}

static void watch(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    int rc = epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    assert(rc == 0);
    (void)rc;
}

static void send_due(double now)
{
    for (int fd = 0; fd < FDS; fd++) {
        struct client *client = &clients[fd];
        if (!client->streams)
            continue;
        put_rest(fd);
        while (client->due_ms <= now) {
            const struct buf *event = event_of(client->top, client->sent++);
            late += client->out.len > 0;
            put(fd, event->data, event->len);
            client->due_ms += event_ms;
            tokens += (uint64_t)chunk;
        }
    }
}

static int listen_any(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int rc = bind(fd, (struct sockaddr *)&address, sizeof address);
    assert(rc == 0);
    rc = listen(fd, 1024);
    assert(rc == 0);
    rc = getsockname(fd, (struct sockaddr *)&address, &len);
    assert(rc == 0);
    (void)rc;
    printf("port=%u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    assert(argc == 3);
    chunk = atoi(argv[1]);
    event_ms = atof(argv[2]) * chunk;
    assert(chunk > 0);
    assert(event_ms > 0);
    epoll_fd = epoll_create1(0);
    int listener = listen_any();
    watch(listener);
    for (;;) {
        int len = epoll_wait(epoll_fd, events, EVENTS, TICK_MS);
        for (int i = 0; i < len; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                take(fd);
                continue;
            }
            while ((fd = accept(listener, NULL, NULL)) >= 0) {
                assert(fd < FDS);
                watch(fd);
            }
        }
        send_due(now_ms());
    }
}
