/* server.c - the broker's loop; see server.h. */
#include "broker/server_int.h"
#include "common/io/clock.h"
#include "common/io/log.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

enum { TEXTS_MAX = 64 << 20, RETRY_MS = 1000 };

struct event event_of(enum event_type type, uint64_t agent, uint64_t lease)
{
    return (struct event){.type = type, .now_ms = clock_ms(), .unix_s = clock_unix_s(), .agent = agent, .lease = lease};
}

void server_step(struct server *server, const struct event *event)
{
    core_step(server->core, event, &server->update);
}

/* One line a second at most: who floods the broker shall not flood its log too. */
void malformed(struct server *server, const char *from, size_t len)
{
    int64_t now = clock_ms();
    server->malformed++;
    if (server->malformed > 1 && now - server->malformed_ms < 1000)
        return;
    server->malformed_ms = now;
    log_line(0, "a malformed message of %zu bytes from %s is ignored; %llu since the start", len, from,
             (unsigned long long)server->malformed);
}

/* -- commit, then send ---------------------------------------------------------------------------------------------- */

static int send_all(struct server *server)
{
    for (size_t i = 0; i < server->update.sends_len; i++) {
        int rc = put_send(server, &server->update.sends[i]);
        if (rc != 0)
            return rc;
        struct peer *peer = peer_of(server, server->update.sends[i].agent);
        if (peer != NULL && peer->out.len > LIMIT_CHUNK)
            peer_flush(server, peer);
    }
    struct peer *peer, *next;
    HASH_ITER (hh, server->peers, peer, next)
        peer_flush(server, peer);
    for (size_t i = 0; i < server->replies_len; i++) {
        struct reply *reply = &server->replies[i];
        port_send(server->clients, (struct slice){reply->route, reply->route_len}, buf_slice(&reply->frame));
        buf_clear(&reply->frame);
    }
    server->replies_len = 0;
    return 0;
}

/* The end of a turn. ERR_DISK_FULL is not fatal: the same batch is tried again, and nothing new is stepped. */
static int commit_and_send(struct server *server, struct error *error)
{
    if (server->update.facts.len > 0) {
        int rc = journal_append(server->journal, buf_slice(&server->update.facts), buf_slice(&server->texts), error);
        if (rc == ERR_DISK_FULL) {
            if (server->retry_ms == 0)
                log_line(0, "the disk is full: paused, nothing is lost; free some space and it goes on by itself");
            server->retry_ms = clock_ms() + RETRY_MS;
            return 0;
        }
        if (rc != 0)
            return rc;
        if (server->mirror != NULL)
            mirror_committed(server->mirror, journal_next(server->journal) - 1);
    }
    if (server->retry_ms != 0)
        log_line(0, "the disk has space again: going on");
    server->retry_ms = 0;
    int rc = send_all(server);
    if (rc != 0)
        return error_set(error, rc, "a text of the journal cannot be read back: run `drover audit --state %s`",
                         server->conf.state);
    server->wake_ms = server->update.wake_ms;
    update_reset(&server->update);
    buf_reset(&server->texts);
    server->attached = 0;
    return 0;
}

/* -- the turn ------------------------------------------------------------------------------------------------------- */

static void drain_port(struct server *server, struct port *port, uint32_t batch,
                       void (*handle)(struct server *, struct slice, struct slice))
{
    struct slice route, frame;
    for (uint32_t i = 0; i < batch && server->texts.len + server->attached < TEXTS_MAX; i++) {
        int rc = port_recv(port, &route, &frame);
        if (rc == ERR_NOT_FOUND)
            return;
        if (rc == 0)
            handle(server, route, frame);
    }
}

/* Memory is ahead of the disk: nothing of it may be told. */
static void answer_full(struct server *server)
{
    struct slice route, frame;
    struct buf out = {0};
    struct error error;
    int rc;
    error_set(&error, ERR_DISK_FULL,
              "the disk of state folder '%s' is full: the broker is paused, nothing is lost; free "
              "some space and it goes on by itself",
              server->conf.state);
    msg_put(&out, &(struct msg){.type = MSG_reply, .reply = {ERR_DISK_FULL, slice_of(error.text)}});
    while ((rc = port_recv(server->clients, &route, &frame)) != ERR_NOT_FOUND)
        if (rc == 0)
            port_send(server->clients, route, buf_slice(&out));
    buf_clear(&out);
}

int server_turn(struct server *server, const int *fds, size_t fds_len, int64_t wait_ms, struct error *error)
{
    struct port *ports[2] = {server->agents, server->clients};
    size_t ports_len = server->clients != NULL ? 2 : 1;
    int64_t now = clock_ms();
    int64_t until = server->retry_ms != 0 ? server->retry_ms : server->wake_ms;
    int64_t wait = until == INT64_MAX ? wait_ms : until > now ? until - now : 0;
    wait = wait < wait_ms ? wait : wait_ms;
    if (server->retry_ms != 0) { /* agents are left alone, or their messages would wake us for nothing */
        port_wait(ports + 1, ports_len - 1, fds, fds_len, wait);
        if (server->clients != NULL)
            answer_full(server);
        return clock_ms() < server->retry_ms ? 0 : commit_and_send(server, error);
    }
    port_wait(ports, ports_len, fds, fds_len, wait);
    drain_port(server, server->agents, server->conf.batch, on_agent_frame);
    if (server->clients != NULL)
        drain_port(server, server->clients, 64, on_client_frame);
    struct event event = event_of(EVENT_DISPATCH, 0, 0);
    server_step(server, &event);
    if (server->update.lost)
        peers_watch(server);
    return commit_and_send(server, error);
}

void server_control(struct server *server, uint32_t sweep, enum sweep_state state)
{
    struct event event = event_of(EVENT_CONTROL, 0, 0);
    event.control.sweep = sweep;
    event.control.state = state;
    server_step(server, &event);
}

void server_agent_gone(struct server *server, uint64_t agent)
{
    struct peer *peer = peer_of(server, agent);
    struct event event = event_of(EVENT_GONE, agent, 0);
    server_step(server, &event);
    if (peer != NULL)
        peer_free(server, peer);
}

void server_drain_agents(struct server *server)
{
    struct peer *peer, *next;
    HASH_ITER (hh, server->peers, peer, next) {
        struct event event = event_of(EVENT_DRAIN, peer->agent, 0);
        server_step(server, &event);
    }
}

/* -- opening -------------------------------------------------------------------------------------------------------- */

struct replay {
    struct core *core;
    struct error *error;
};

static int replay_commit(void *arg, uint64_t commit, struct slice facts)
{
    struct replay *replay = arg;
    struct fact fact;
    for (size_t at = 0; at < facts.len;) {
        int rc = fact_get(facts, &at, &fact);
        if (rc == 0)
            rc = core_apply(replay->core, &fact);
        if (rc != 0)
            return error_set(
                replay->error, ERR_CORRUPT,
                "commit %llu of the journal does not follow from the ones before it: the journal is damaged "
                "or of another version; keep a copy and run `drover journal` to see its facts",
                (unsigned long long)commit);
    }
    return 0;
}

static int replay_all(struct journal *journal, struct core *core, struct error *error)
{
    struct replay replay = {core, error};
    return journal_scan(journal, 1, replay_commit, &replay, error);
}

int journal_core(struct journal *journal, struct core **core, struct error *error)
{
    *core = core_new(&(struct core_options){.lease_ms = 1000, .keep_nodes = true});
    int rc = replay_all(journal, *core, error);
    if (rc == 0)
        core_settle(*core);
    else
        core_free(core);
    return rc;
}

static int open_ports(struct server *server, struct error *error)
{
    int hwm = 65536; /* a tripwire: credits bound what waits for a peer */
    int rc = port_router(server->conf.listen, hwm, &server->agents, error);
    if (rc == 0 && !server->own_fleet)
        rc = port_router(server->conf.clients, 1024, &server->clients, error);
    return rc;
}

int server_new(const struct server_options *options, struct server **server_ptr, struct error *error)
{
    struct server *server = xalloc(sizeof *server);
    server->conf = *options->conf;
    server->own_fleet = options->own_fleet;
    server->wake_ms = INT64_MAX;
    update_reset(&server->update);
    struct journal_options journal_options = {.map_max = server->conf.map_max_gib << 30};
    int rc = journal_open(server->conf.state, &journal_options, &server->journal, error);
    if (rc == 0) {
        struct core_options core_options = {.lease_ms = (uint64_t)server->conf.heartbeat_busy_ms *
                                                        server->conf.lease_heartbeats};
        server->core = core_new(&core_options);
        rc = replay_all(server->journal, server->core, error);
    }
    malloc_trim(0); /* replay built trees that were forgotten once they were decided */
    if (rc == 0)
        rc = open_ports(server, error);
    if (rc == 0) {
        core_start(server->core, clock_ms(), options->own_fleet, &server->update);
        rc = commit_and_send(server, error); /* the epoch is durable before anything is sent */
        if (rc == 0 && server->retry_ms != 0)
            rc = error_set(error, ERR_DISK_FULL, "the disk of state folder '%s' is full: free some space and try again",
                           server->conf.state);
    }
    if (rc != 0)
        server_free(&server);
    *server_ptr = server;
    return rc;
}

void server_free(struct server **server_ptr)
{
    struct server *server = *server_ptr;
    if (server == NULL)
        return;
    struct peer *peer, *next;
    HASH_ITER (hh, server->peers, peer, next)
        peer_free(server, peer);
    uploads_free(server);
    for (size_t i = 0; i < server->replies_len; i++)
        buf_clear(&server->replies[i].frame);
    free(server->replies);
    port_close(&server->agents, 100);
    port_close(&server->clients, 500);
    core_free(&server->core);
    mirror_free(&server->mirror);
    journal_close(&server->journal);
    update_clear(&server->update);
    buf_clear(&server->texts);
    buf_clear(&server->record);
    buf_clear(&server->path);
    buf_clear(&server->blob);
    buf_clear(&server->definitions);
    buf_clear(&server->facts_page);
    buf_clear(&server->texts_page);
    free(server);
    *server_ptr = NULL;
}

const struct core *server_core(const struct server *server)
{
    return server->core;
}

void server_prefer(struct server *server, uint32_t sweep)
{
    core_prefer(server->core, sweep);
}

struct journal *server_journal(struct server *server)
{
    return server->journal;
}

void server_mirror(struct server *server, struct slice join)
{
    server->mirror = mirror_new(&(struct mirror_options){.conf = &server->conf,
                                                         .journal = server->journal,
                                                         .committed = journal_next(server->journal) - 1,
                                                         .join = join});
}

const char *server_address(const struct server *server)
{
    return port_address(server->agents);
}

const char *server_clients(const struct server *server)
{
    return port_address(server->clients);
}

bool server_disk_full(const struct server *server)
{
    return server->retry_ms != 0;
}
