/* join_file.c - the join file on disk; see join_file.h. */
#include "common/io/join_file.h"
#include "common/io/clock.h"
#include "common/io/log.h"
#include "common/io/redis.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MAX = 4096, LOOK_MS = 100, TELL_MS = 1000 };

static const char redis_scheme[] = "redis:";

/* The first IPv4 address that other machines may reach, else such an IPv6 one (link-local ones need a zone: no use). */
static bool own_address(char host[static INET6_ADDRSTRLEN])
{
    struct ifaddrs *all;
    int family = 0;
    if (getifaddrs(&all) != 0)
        return false;
    for (const struct ifaddrs *at = all; at != NULL && family != AF_INET; at = at->ifa_next) {
        if (at->ifa_addr == NULL || at->ifa_flags & IFF_LOOPBACK || !(at->ifa_flags & IFF_UP))
            continue;
        const struct in6_addr *six = &((const struct sockaddr_in6 *)(const void *)at->ifa_addr)->sin6_addr;
        if (at->ifa_addr->sa_family == AF_INET)
            inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)at->ifa_addr)->sin_addr, host,
                      INET6_ADDRSTRLEN);
        else if (at->ifa_addr->sa_family == AF_INET6 && family == 0 && !IN6_IS_ADDR_LINKLOCAL(six))
            inet_ntop(AF_INET6, six, host, INET6_ADDRSTRLEN);
        else
            continue;
        family = at->ifa_addr->sa_family;
    }
    freeifaddrs(all);
    return family != 0;
}

static int outside(const char *endpoint, const char *advertise, char out[static 256], struct error *error)
{
    char host[INET6_ADDRSTRLEN] = "127.0.0.1";
    if (advertise == NULL && join_wildcard(endpoint)) {
        own_address(host); /* a machine without a network: loopback is all there is */
        advertise = host;
    }
    return join_endpoint(endpoint, advertise, out, error);
}

/* Whole, on disk, then in its place: a reader never sees half of it. */
static int replace(const char *path, struct slice text, struct error *error)
{
    struct buf temporary = {0};
    buf_printf(&temporary, "%s.%d.new", path, (int)getpid());
    int fd = open(temporary.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool done = fd >= 0 && write(fd, text.data, text.len) == (ssize_t)text.len && fsync(fd) == 0;
    int cause = errno;
    if (fd >= 0 && close(fd) != 0 && done) {
        done = false;
        cause = errno;
    }
    if (done && rename(temporary.data, path) != 0) {
        done = false;
        cause = errno;
    }
    if (!done && fd >= 0)
        unlink(temporary.data);
    buf_clear(&temporary);
    return done ? 0 : error_set(error, ERR_IO, "%s: the join file cannot be written: %s", path, strerror(cause));
}

int join_outside(const struct join *join, const char *advertise, struct join *told, struct error *error)
{
    *told = (struct join){.epoch = join->epoch};
    int rc = outside(join->agents, advertise, told->agents, error);
    return rc == 0 ? outside(join->clients, advertise, told->clients, error) : rc;
}

int join_file_write(const char *path, const struct join *join, const char *advertise, struct error *error)
{
    struct join told;
    struct buf text = {0};
    int rc = join_outside(join, advertise, &told, error);
    join_print(&told, &text);
    if (rc == 0)
        rc = replace(path, buf_slice(&text), error);
    buf_clear(&text);
    return rc;
}

/* What a broker tells a Redis: redis:ADDRESS, with the prefix of its keys behind a `#` when that is not the default. */
static int redis_read(const char *place, struct join *join, struct error *error)
{
    const char *address = place + strlen(redis_scheme), *mark = strchr(address, '#');
    struct buf name = {0}, key = {0};
    struct redis *redis = NULL;
    struct redis_reply reply;
    buf_put(&name, address, mark == NULL ? strlen(address) : (size_t)(mark - address));
    buf_printf(&key, "%s:broker", mark == NULL ? "drover" : mark + 1);
    int rc = redis_open(name.data == NULL ? "" : name.data, &redis, error);
    if (rc == 0)
        rc = redis_ask(redis, (struct slice[]){slice_of("GET"), buf_slice(&key)}, 2, &reply, error);
    if (rc == ERR_TIMEOUT || rc == ERR_CLOSED || (rc == 0 && reply.type != REDIS_TEXT))
        rc = error_set(error, ERR_NOT_FOUND,
                       "no broker tells %s where it is: is Redis there, and named in the broker's "
                       "cluster.conf?",
                       place);
    if (rc == 0)
        rc = join_parse(reply.text, place, join, error);
    redis_close(&redis);
    buf_clear(&name);
    buf_clear(&key);
    return rc;
}

int join_file_read(const char *path, struct join *join, struct error *error)
{
    if (strncmp(path, redis_scheme, strlen(redis_scheme)) == 0)
        return redis_read(path, join, error);
    char text[FILE_MAX + 1];
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text);
    int cause = errno;
    if (fd >= 0)
        close(fd);
    if (len < 0 && (cause == ENOENT || cause == ESTALE))
        return error_set(error, ERR_NOT_FOUND,
                         "%s: there is no such join file: is `drover broker --join-file %s` running?", path, path);
    if (len < 0)
        return error_set(error, ERR_IO, "%s: the join file cannot be read: %s", path, strerror(cause));
    if (len > FILE_MAX)
        return error_set(error, ERR_LIMIT, "%s: more than %d bytes: this is no join file", path, FILE_MAX);
    return join_parse((struct slice){text, (size_t)len}, path, join, error);
}

int join_file_wait(const char *path, int64_t wait_ms, struct join *join, struct error *error)
{
    int64_t begin = clock_ms();
    bool told = false;
    int rc;
    while ((rc = join_file_read(path, join, error)) == ERR_NOT_FOUND) {
        int64_t waited = clock_ms() - begin;
        if (wait_ms >= 0 && waited >= wait_ms)
            break;
        if (!told && wait_ms < 0 && waited > TELL_MS)
            log_line(0, "waiting for join file %s", path);
        told = told || waited > TELL_MS;
        poll(NULL, 0, LOOK_MS);
    }
    return rc;
}
