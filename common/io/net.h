/* net.h - ZeroMQ sockets as drover uses them: one frame per message, nothing unbounded, nothing silently dropped.
 *
 * ROUTER_MANDATORY, so an unknown or gone peer is an error and not a loss; MAXMSGSIZE before bind; finite high-water marks
 * as tripwires behind credits; LINGER bounded; reconnect with back-off. The only file that includes zmq.h is net.c. */
#ifndef DROVER_NET_H
#define DROVER_NET_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

struct port; /* a socket; used by one thread */

/* A ROUTER bound to endpoint. hwm: messages that may wait for one peer. ERR_LOCKED: the address is in use; ERR_SYNTAX: not
 * an endpoint; ERR_SYSTEM. */
int port_router(const char *endpoint, int hwm, struct port **port, struct error *error);

/* A DEALER that connects to endpoint, now or whenever somebody listens there. Each has a fresh routing id. */
int port_dealer(const char *endpoint, int hwm, struct port **port, struct error *error);

/* Closes; what was sent has linger_ms to leave. */
void port_close(struct port **port, int linger_ms);

/* The address that it really listens on (of "tcp://127.0.0.1:*" the port that was chosen). */
const char *port_address(const struct port *port);

/* Next message, without waiting: 0, or ERR_NOT_FOUND when there is none. The slices are valid until the next call. peer is
 * empty on a DEALER. A message of more than one payload frame is ERR_PROTOCOL, its peer is set. */
int port_recv(struct port *port, struct slice *peer, struct slice *payload);

/* Sends without waiting. ERR_CLOSED: the peer is unknown or gone; ERR_LIMIT: its queue is full. */
int port_send(struct port *port, struct slice peer, struct slice payload);

/* True once after each (re)connection of a DEALER. */
bool port_connected(struct port *port);

/* Whether a DEALER has its peer now, as far as port_connected has looked. */
bool port_reached(const struct port *port);

/* Waits until one of the ports or file descriptors can be read, at most timeout_ms (-1: no limit). Wakes also for what
 * port_connected tells. */
void port_wait(struct port *const *ports, size_t ports_len, const int *fds, size_t fds_len, int64_t timeout_ms);

#endif
