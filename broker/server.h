/* server.h - the broker's shell: sockets and journal around the core.
 *
 * One turn = take a batch of messages, step the core with each, one durable commit of all facts and texts, and only then
 * send. A full disk keeps the batch and tries again; any other failed commit ends the process. */
#ifndef DROVER_SERVER_H
#define DROVER_SERVER_H

#include "broker/core/core.h"
#include "broker/sweep_file.h"
#include "common/cluster.h"

struct server;

struct server_options {
    const struct cluster_conf *conf; /* endpoints, state folder, heartbeats, batch */
    bool own_fleet;                  /* `drover run`: all agents are children of this process; no client socket */
};

/* Opens the state folder, replays it, listens. The errors of journal_open and port_router; ERR_CORRUPT. */
int server_new(const struct server_options *options, struct server **server, struct error *error);
void server_free(struct server **server);

/* From now on tells the Redis of cluster.conf what is committed, and `join`, by which agents and clients find it. */
void server_mirror(struct server *server, struct slice join);

/* A sweep given as text; takes prompts (malloc'ed). Sets *sweep to its id once it is accepted. Nothing is durable before
 * the next turn. */
struct submission {
    struct slice yaml;
    const char *file; /* its name, for messages */
    const char *const *overrides;
    size_t overrides_len;
    char *prompts; /* taken */
    size_t prompts_len;
    const char *prompts_file;
    bool examine; /* nothing is submitted, *sweep not set: only what would be wrong is told */
};
int server_submit(struct server *server, struct submission *submission, uint32_t *sweep, struct error *error);

/* A sweep that judges the rollouts of another one again; see reverify.h. Texts may be NULL where that says so. */
struct reverification {
    const char *sweep, *verifier, *truth, *name;
    struct slice yaml; /* a sweep file with the verifiers; empty: those that the journal knows */
    const char *file;  /* its name, for messages */
};
/* ERR_NOT_FOUND, and which there are. */
int no_such_sweep(const struct core *core, const char *name, struct error *error);

/* note: a sentence on what of the sweep is not judged; empty: all is. */
int server_reverify(struct server *server, const struct reverification *what, uint32_t *sweep, struct buf *note,
                    struct error *error);

/* A sweep that decides over the rollouts of another one again; see reselect.h. name may be NULL. */
struct reselection {
    const char *sweep, *name;
    struct slice yaml; /* arms */
    const char *file;  /* its name, for messages */
};
/* note: a sentence on what is left out; empty: nothing. */
int server_reselect(struct server *server, const struct reselection *what, uint32_t *sweep, struct buf *note,
                    struct error *error);

/* Waits at most wait_ms for messages or for one of fds, then does one turn. A negative return is fatal: the process must
 * end (and a restart replays). */
int server_turn(struct server *server, const int *fds, size_t fds_len, int64_t wait_ms, struct error *error);

void server_control(struct server *server, uint32_t sweep, enum sweep_state state);
void server_agent_gone(struct server *server, uint64_t agent); /* it is known dead: a child that was reaped */
void server_drain_agents(struct server *server);

const struct core *server_core(const struct server *server);
/* From now on agents get tasks of this sweep first: see core_prefer. */
void server_prefer(struct server *server, uint32_t sweep);
struct journal *server_journal(struct server *server);
const char *server_address(const struct server *server); /* where agents connect */
const char *server_clients(const struct server *server); /* where clients connect; not with own_fleet */
bool server_disk_full(const struct server *server);      /* waits for space */

/* Core of a journal that this process only reads: replayed and settled, trees kept. */
int journal_core(struct journal *journal, struct core **core, struct error *error);

#endif
