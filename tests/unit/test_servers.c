/* test_servers.c - the registry of inference servers against one of our own, where the moment matters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/io/clock.h"
#include "worker/servers.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DEADLINE_MS = 10000 };

static atomic_int model;      /* number in the name of what is served */
static sem_t asked, answered; /* a completion was asked for; and may be answered */

static void reply(int fd, const char *body)
{
    char head[200];
    int len = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
                       strlen(body));
    if (write(fd, head, (size_t)len) == len && write(fd, body, strlen(body)) < 0)
        return; /* who asked is gone */
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char request[4096] = "", body[200];
    size_t len = 0;
    for (ssize_t got = 1; got > 0 && strstr(request, "\r\n\r\n") == NULL && len < sizeof request - 1;
         len += (size_t)got) {
        got = read(fd, request + len, sizeof request - 1 - len);
        got = got < 0 ? 0 : got;
    }
    if (strstr(request, "/completions ") != NULL) {
        sem_post(&asked);
        sem_wait(&answered);
        reply(fd, "{\"choices\":[{\"index\":0,\"text\":\"1\",\"finish_reason\":\"stop\"}],"
                  "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}");
    } else {
        snprintf(body, sizeof body, "{\"data\":[{\"id\":\"model-%d\",\"owned_by\":\"x\"}]}", atomic_load(&model));
        reply(fd, body);
    }
    shutdown(fd, SHUT_WR);
    while (read(fd, request, sizeof request) > 0)
        continue;
    close(fd);
    return NULL;
}

static void *listen_on(void *arg)
{
    for (int fd; (fd = accept((int)(intptr_t)arg, NULL, NULL)) >= 0;) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0)
            pthread_detach(thread);
    }
    return NULL;
}

static bool offers(const char *name)
{
    struct offer found[4];
    size_t len = servers_offers(found, 4);
    return len == 1 && strcmp(found[0].model, name) == 0;
}

/* It was started anew with another model while it was asked what the old one can do. */
static void a_server_that_is_added_while_it_is_probed_is_probed_again(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 64), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    char url[40];
    snprintf(url, sizeof url, "http://127.0.0.1:%d", ntohs(address.sin_port));
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, listen_on, (void *)(intptr_t)listener), 0);

    struct error error;
    const struct servers_options options = {.url = url, .dialect = "generic"};
    atomic_store(&model, 1);
    assert_int_equal(servers_add(&options, &error), 0);
    assert_int_equal(sem_wait(&asked), 0);
    atomic_store(&model, 2);
    assert_int_equal(servers_add(&options, &error), 0);
    for (int i = 0; i < 100; i++)
        sem_post(&answered);
    int64_t until = clock_ms() + DEADLINE_MS;
    while (!offers("model-2") && clock_ms() < until)
        poll(NULL, 0, 10); /* nothing tells of an offer that changes */
    assert_true(offers("model-2"));
    servers_stop();
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_that_is_added_while_it_is_probed_is_probed_again),
    };
    sem_init(&asked, 0, 0);
    sem_init(&answered, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
