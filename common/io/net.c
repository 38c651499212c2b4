/* net.c - ZeroMQ sockets; see net.h. */
#include "common/io/net.h"
#include "common/limits.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

struct port {
    void *socket, *monitor;
    bool router, reached;
    char address[300];
    zmq_msg_t peer, payload; /* of the last port_recv */
};

/* One context per process: sockets of all threads share its I/O thread. */
static void *context(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static void *shared;
    pthread_mutex_lock(&lock);
    if (shared == NULL) {
        shared = zmq_ctx_new();
        zmq_ctx_set(shared, ZMQ_MAX_SOCKETS, 8192);
        zmq_ctx_set(shared, ZMQ_BLOCKY, 0);
    }
    pthread_mutex_unlock(&lock);
    return shared;
}

static void set(void *socket, int option, int value)
{
    int rc = zmq_setsockopt(socket, option, &value, sizeof value);
    assert(rc == 0);
    (void)rc;
}

static struct port *port_new(int type, const char *endpoint, int hwm)
{
    struct port *port = xalloc(sizeof *port);
    int64_t largest = LIMIT_MESSAGE;
    port->socket = zmq_socket(context(), type);
    assert(port->socket != NULL);
    port->router = type == ZMQ_ROUTER;
    zmq_setsockopt(port->socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
    set(port->socket, ZMQ_SNDHWM, hwm);
    set(port->socket, ZMQ_RCVHWM, hwm);
    set(port->socket, ZMQ_LINGER, 0);
    set(port->socket, ZMQ_HANDSHAKE_IVL, 5000);
    set(port->socket, ZMQ_IPV6, strchr(endpoint, '[') != NULL);
    if (port->router) {
        set(port->socket, ZMQ_ROUTER_MANDATORY, 1);
    } else {
        set(port->socket, ZMQ_IMMEDIATE, 1);
        set(port->socket, ZMQ_RECONNECT_IVL, 50);
        set(port->socket, ZMQ_RECONNECT_IVL_MAX, 500);
        /* A peer whose machine is gone without a word. The lease is what decides; this only frees the connection. */
        set(port->socket, ZMQ_HEARTBEAT_IVL, 5000);
        set(port->socket, ZMQ_HEARTBEAT_TIMEOUT, 15000);
    }
    zmq_msg_init(&port->peer);
    zmq_msg_init(&port->payload);
    return port;
}

static int refuse(struct port **port, const char *what, const char *endpoint, struct error *error)
{
    int cause = errno;
    port_close(port, 0);
    if (cause == EADDRINUSE)
        return error_set(error, ERR_LOCKED,
                         "cannot listen on %s: the address is in use, perhaps by another broker: "
                         "stop it or choose another address",
                         endpoint);
    if (cause == EINVAL || cause == EPROTONOSUPPORT || cause == ENODEV)
        return error_set(error, ERR_SYNTAX,
                         "cannot %s '%s': not an address such as tcp://HOST:PORT, or not of this machine", what,
                         endpoint);
    return error_set(error, ERR_SYSTEM, "cannot %s '%s': %s", what, endpoint, zmq_strerror(cause));
}

int port_router(const char *endpoint, int hwm, struct port **port, struct error *error)
{
    *port = port_new(ZMQ_ROUTER, endpoint, hwm);
    if (zmq_bind((*port)->socket, endpoint) != 0)
        return refuse(port, "listen on", endpoint, error);
    size_t len = sizeof(*port)->address;
    zmq_getsockopt((*port)->socket, ZMQ_LAST_ENDPOINT, (*port)->address, &len);
    return 0;
}

int port_dealer(const char *endpoint, int hwm, struct port **port, struct error *error)
{
    static _Atomic unsigned ports; /* not where it is in memory: ZeroMQ may still put away what was there before */
    *port = port_new(ZMQ_DEALER, endpoint, hwm);
    char monitor[64];
    snprintf(monitor, sizeof monitor, "inproc://monitor-%u", ports++);
    int rc = zmq_socket_monitor((*port)->socket, monitor, ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED);
    assert(rc == 0);
    (void)rc;
    (*port)->monitor = zmq_socket(context(), ZMQ_PAIR);
    set((*port)->monitor, ZMQ_LINGER, 0);
    zmq_connect((*port)->monitor, monitor);
    if (zmq_connect((*port)->socket, endpoint) != 0)
        return refuse(port, "connect to", endpoint, error);
    snprintf((*port)->address, sizeof(*port)->address, "%s", endpoint);
    return 0;
}

void port_close(struct port **port_ptr, int linger_ms)
{
    struct port *port = *port_ptr;
    if (port == NULL)
        return;
    if (port->monitor != NULL) {
        zmq_socket_monitor(port->socket, NULL, 0);
        zmq_close(port->monitor);
    }
    set(port->socket, ZMQ_LINGER, linger_ms);
    zmq_msg_close(&port->peer);
    zmq_msg_close(&port->payload);
    zmq_close(port->socket);
    free(port);
    *port_ptr = NULL;
}

const char *port_address(const struct port *port)
{
    return port->address;
}

static bool more(struct port *port)
{
    int flag = 0;
    size_t len = sizeof flag;
    zmq_getsockopt(port->socket, ZMQ_RCVMORE, &flag, &len);
    return flag != 0;
}

static struct slice frame(zmq_msg_t *msg)
{
    return (struct slice){zmq_msg_data(msg), zmq_msg_size(msg)};
}

int port_recv(struct port *port, struct slice *peer, struct slice *payload)
{
    *peer = *payload = (struct slice){0};
    if (port->router) {
        if (zmq_msg_recv(&port->peer, port->socket, ZMQ_DONTWAIT) < 0)
            return ERR_NOT_FOUND;
        *peer = frame(&port->peer);
        if (!more(port))
            return ERR_PROTOCOL;
    }
    if (zmq_msg_recv(&port->payload, port->socket, ZMQ_DONTWAIT) < 0)
        return ERR_NOT_FOUND;
    int rc = 0;
    while (more(port)) { /* drover never sends these */
        rc = ERR_PROTOCOL;
        if (zmq_msg_recv(&port->payload, port->socket, ZMQ_DONTWAIT) < 0)
            break;
    }
    *payload = frame(&port->payload);
    return rc;
}

int port_send(struct port *port, struct slice peer, struct slice payload)
{
    if (port->router && zmq_send(port->socket, peer.data, peer.len, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        return errno == EAGAIN ? ERR_LIMIT : ERR_CLOSED;
    if (zmq_send(port->socket, payload.data, payload.len, ZMQ_DONTWAIT) < 0)
        return errno == EAGAIN ? ERR_LIMIT : ERR_CLOSED;
    return 0;
}

bool port_connected(struct port *port)
{
    bool connected = false;
    zmq_msg_t event;
    zmq_msg_init(&event);
    while (zmq_msg_recv(&event, port->monitor, ZMQ_DONTWAIT) >= 0) {
        if (!zmq_msg_more(&event)) /* the second frame is the address */
            continue;
        uint16_t number;
        memcpy(&number, zmq_msg_data(&event), sizeof number);
        port->reached = number == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
        connected |= port->reached;
    }
    zmq_msg_close(&event);
    return connected;
}

bool port_reached(const struct port *port)
{
    return port->reached;
}

void port_wait(struct port *const *ports, size_t ports_len, const int *fds, size_t fds_len, int64_t timeout_ms)
{
    zmq_pollitem_t items[16];
    size_t len = 0;
    assert(2 * ports_len + fds_len <= sizeof items / sizeof items[0]);
    for (size_t i = 0; i < ports_len; i++) {
        items[len++] = (zmq_pollitem_t){.socket = ports[i]->socket, .events = ZMQ_POLLIN};
        if (ports[i]->monitor != NULL)
            items[len++] = (zmq_pollitem_t){.socket = ports[i]->monitor, .events = ZMQ_POLLIN};
    }
    for (size_t i = 0; i < fds_len; i++)
        items[len++] = (zmq_pollitem_t){.fd = fds[i], .events = ZMQ_POLLIN};
    if (timeout_ms > 3600000)
        timeout_ms = 3600000;
    zmq_poll(items, (int)len, timeout_ms < 0 ? -1 : (long)timeout_ms);
}
