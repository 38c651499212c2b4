/* server.c - the broker's loop; see server.h. */
#include "broker/server.h"
#include "broker/compile.h"
#include "broker/core/read.h"
#include "broker/journal.h"
#include "common/answer.h"
#include "common/hash.h"
#include "common/io/clock.h"
#include "common/io/log.h"
#include "common/io/net.h"
#include "common/limits.h"
#include "common/msg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

enum { ROUTE_MAX = 32, TEXTS_MAX = 64 << 20, RETRY_MS = 1000, FETCH_PAGE = 8 << 20, UPLOAD_IDLE_MS = 60000, RUNNING_MAX = 2 * LIMIT_CREDITS };

/* An agent's connection. */
struct peer {
    uint64_t agent;
    char route[ROUTE_MAX];
    size_t route_len;
    struct buf out;       /* frame being put together in this turn */
    struct buf specs[2];  /* byte per model / verifier id: sent already */
    UT_hash_handle hh, hh_route;
};

/* What a client is told once the turn is committed. */
struct reply {
    char route[ROUTE_MAX];
    size_t route_len;
    struct buf frame;
};

/* A prompt file on its way, in chunks. One at a time and client. */
struct upload {
    char route[ROUTE_MAX];
    size_t route_len;
    uint64_t digest;
    char *text;
    size_t len, size;
    int64_t heard_ms; /* of the last chunk */
    struct upload *next;
};

struct server {
    struct cluster_conf conf;
    bool own_fleet;
    struct core *core;
    struct journal *journal;
    struct port *agents, *clients;
    struct update update;
    struct buf texts;       /* of the commit in preparation */
    struct peer *peers, *routes;
    struct reply *replies;
    size_t replies_len;
    struct upload *uploads;
    uint64_t malformed;        /* messages ignored */
    int64_t malformed_ms;      /* when the log told last */
    int64_t wake_ms, retry_ms; /* retry_ms: of a commit that found the disk full; 0: none waits */
    struct ref record_ref;     /* of the prompt record in `record`, the one asked for last */
    struct buf record, path, blob, definitions;
    struct buf facts_page, texts_page; /* of commit `fetched`, the one that a client reads */
    uint64_t fetched;
};

/* -- commit, then send ---------------------------------------------------------------------------------------------- */

static struct peer *peer_of(const struct server *server, uint64_t agent)
{
    struct peer *peer;
    HASH_FIND(hh, server->peers, &agent, sizeof agent, peer);
    return peer;
}

static void peer_put(struct server *server, struct peer *peer, const struct msg *msg)
{
    if (peer->out.len == 0)
        msg_put(&peer->out, &(struct msg){.type = MSG_epoch, .epoch = {core_epoch(server->core)}});
    msg_put(&peer->out, msg);
}

/* A frame that does not arrive is no loss: the agent's next HELLO shows what it did not get. */
static void peer_flush(struct server *server, struct peer *peer)
{
    if (peer->out.len == 0)
        return;
    int rc = port_send(server->agents, (struct slice){peer->route, peer->route_len}, buf_slice(&peer->out));
    if (rc != 0)
        log_line(1, "frame to agent %016llx not sent: %s", (unsigned long long)peer->agent, err_text(rc));
    buf_reset(&peer->out);
}

/* Models and verifiers are told once per connection, before the first task that needs them. */
static void put_spec(struct server *server, struct peer *peer, bool verify, uint32_t id)
{
    struct buf *sent = &peer->specs[verify];
    while (sent->len <= id)
        buf_put(sent, "", 1);
    if (sent->data[id])
        return;
    sent->data[id] = 1;
    struct slice json = verify ? core_verifier(server->core, id).spec : core_model(server->core, id).spec;
    peer_put(server, peer, &(struct msg){.type = MSG_spec, .spec = {verify, id, json}});
}

static int read_text(struct server *server, struct ref ref, struct buf *out)
{
    struct error error;
    int rc = journal_text(server->journal, (struct text_ref){ref.commit, ref.offset, ref.len}, false, out, &error);
    if (rc != 0)
        log_line(0, "%s", error.text);
    return rc;
}

static int put_task(struct server *server, struct peer *peer, const struct send *send)
{
    bool verify = send->key.kind == TASK_VERIFY;
    if (memcmp(&send->prompt_ref, &server->record_ref, sizeof send->prompt_ref) != 0) {
        buf_reset(&server->record);
        int rc = read_text(server, send->prompt_ref, &server->record);
        if (rc != 0)
            return rc;
        server->record_ref = send->prompt_ref;
    }
    buf_reset(&server->path);
    for (size_t i = 0; i < send->refs_len; i++) {
        buf_reset(&server->blob);
        int rc = read_text(server, server->update.refs[send->refs + i], &server->blob);
        if (rc != 0)
            return rc;
        path_put(&server->path, buf_slice(&server->blob));
    }
    put_spec(server, peer, verify, send->spec);
    peer_put(server, peer,
             &(struct msg){.type = MSG_task,
                           .task = {.lease = send->lease, .verify = verify, .spec = send->spec,
                                    .prompt = send->key.prompt, .item = send->key.item, .seed = send->seed,
                                    .tokens_max = send->tokens_max, .timeout_ms = send->timeout_ms,
                                    .step = send->step, .finished = send->finished,
                                    .record = buf_slice(&server->record), .path = buf_slice(&server->path)}});
    return 0;
}

static int put_send(struct server *server, const struct send *send)
{
    struct peer *peer = peer_of(server, send->agent);
    if (peer == NULL)
        return 0;
    switch (send->type) {
    case SEND_TASK:
        return put_task(server, peer, send);
    case SEND_ACK:
        peer_put(server, peer, &(struct msg){.type = MSG_ack, .ack = {send->lease, send->duplicate}});
        return 0;
    case SEND_CANCEL:
        peer_put(server, peer, &(struct msg){.type = MSG_cancel, .cancel = {send->lease}});
        return 0;
    }
    return 0;
}

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
    return 0;
}

/* -- agents --------------------------------------------------------------------------------------------------------- */

static struct event event_of(enum event_type type, uint64_t agent, uint64_t lease)
{
    return (struct event){.type = type, .now_ms = clock_ms(), .unix_s = clock_unix_s(), .agent = agent, .lease = lease};
}

static void step(struct server *server, const struct event *event)
{
    core_step(server->core, event, &server->update);
}

static struct peer *peer_by_route(const struct server *server, struct slice route)
{
    struct peer *peer;
    HASH_FIND(hh_route, server->routes, route.data, route.len, peer);
    return peer;
}

static void peer_free(struct server *server, struct peer *peer)
{
    HASH_DELETE(hh, server->peers, peer);
    HASH_DELETE(hh_route, server->routes, peer);
    buf_clear(&peer->out);
    buf_clear(&peer->specs[0]);
    buf_clear(&peer->specs[1]);
    free(peer);
}

/* The agent is behind this route now; what it was told on another connection it may not have got. */
static struct peer *peer_connect(struct server *server, struct slice route, uint64_t agent)
{
    struct peer *old = peer_of(server, agent);
    if (old != NULL)
        peer_free(server, old);
    old = peer_by_route(server, route);
    if (old != NULL)
        peer_free(server, old);
    struct peer *peer = xalloc(sizeof *peer);
    peer->agent = agent;
    peer->route_len = route.len;
    memcpy(peer->route, route.data, route.len);
    HASH_ADD(hh, server->peers, agent, sizeof peer->agent, peer);
    HASH_ADD_KEYPTR(hh_route, server->routes, peer->route, peer->route_len, peer);
    return peer;
}

static void answer_unknown(struct server *server, struct slice route, const struct msg *msg)
{
    struct buf frame = {0};
    msg_put(&frame, &(struct msg){.type = MSG_epoch, .epoch = {core_epoch(server->core)}});
    msg_put(&frame, msg);
    port_send(server->agents, route, buf_slice(&frame));
    buf_clear(&frame);
}

static uint64_t kinds_of(struct server *server, bool verifier, struct slice list)
{
    uint64_t kinds = 0;
    for (size_t at = 0; at < list.len;) {
        size_t end = at;
        while (end < list.len && list.data[end] != ',')
            end++;
        int bit = end - at <= LIMIT_NAME ? core_kind(server->core, verifier, (struct slice){list.data + at, end - at})
                                         : -1;
        if (bit >= 0)
            kinds |= (uint64_t)1 << bit;
        at = end + 1;
    }
    return kinds;
}

/* HELLO and the running leases behind it. */
static int on_hello(struct server *server, struct slice route, const struct msg_hello *hello, struct slice frame,
                    size_t offset)
{
    if (hello->version != PROTOCOL_VERSION) {
        answer_unknown(server, route,
                       &(struct msg){.type = MSG_refuse,
                                     .refuse = {slice_of("it speaks another protocol version: install the same drover "
                                                         "on every node")}});
        return 0;
    }
    if (hello->agent == 0 || hello->credits == 0 || hello->credits > LIMIT_CREDITS || hello->name.len > LIMIT_NAME)
        return ERR_PROTOCOL;
    uint64_t *running = xalloc(RUNNING_MAX * sizeof *running);
    size_t len = 0;
    struct msg msg;
    while (offset < frame.len && len < RUNNING_MAX) {
        if (msg_get(frame, &offset, &msg) != 0 || msg.type != MSG_running)
            break;
        running[len++] = msg.running.lease;
    }
    struct peer *peer = peer_connect(server, route, hello->agent);
    peer_put(server, peer,
             &(struct msg){.type = MSG_welcome,
                           .welcome = {PROTOCOL_VERSION, server->conf.heartbeat_busy_ms,
                                       server->conf.heartbeat_idle_ms}});
    struct event event = event_of(EVENT_HELLO, hello->agent, 0);
    event.hello.name = hello->name;
    event.hello.verifier = hello->verifier != 0;
    event.hello.kinds = kinds_of(server, event.hello.verifier, hello->kinds);
    event.hello.credits = hello->credits;
    event.hello.next_ms = hello->next_ms < 600000 ? hello->next_ms : 600000;
    event.hello.running = running;
    event.hello.running_len = len;
    step(server, &event);
    free(running);
    return 0;
}

static int on_result(struct server *server, struct event *event, const struct msg_result *msg)
{
    uint32_t count = (uint32_t)__builtin_popcount(msg->have & ((1u << FEATURES) - 1));
    if (msg->finish > FINISH_EXHAUSTED || msg->answer.len > LIMIT_ANSWER || msg->features.len != 8 * count ||
        msg->have >= 1u << FEATURES || msg->frame.len > LIMIT_TEXT + 64)
        return ERR_PROTOCOL;
    struct result *result = &event->result.result;
    *result = (struct result){
        .finish = (enum finish)msg->finish, .tokens_in = msg->tokens_in, .tokens_out = msg->tokens_out,
        .tokens_reread = msg->tokens_reread, .latency_ms = msg->latency_ms, .features.have = msg->have,
    };
    size_t at = 0;
    for (int i = 0; i < FEATURES; i++) {
        if ((msg->have & 1u << i) == 0)
            continue;
        memcpy(&result->features.v[i], msg->features.data + 8 * at++, 8);
        if (!__builtin_isfinite(result->features.v[i]))
            return ERR_PROTOCOL;
    }
    size_t before = server->texts.len;
    blob_put(&server->texts, msg->answer, msg->frame);
    event->result.class = answer_class(msg->answer);
    event->result.ref = (struct ref){journal_next(server->journal), (uint32_t)before,
                                     (uint32_t)(server->texts.len - before)};
    server->update.used = false;
    step(server, event);
    if (!server->update.used)
        server->texts.len = before; /* a duplicate: nothing refers to it */
    return 0;
}

static int on_verdict(struct server *server, struct event *event, const struct msg_verdict *msg)
{
    if (msg->outcome > OUTCOME_UNKNOWN || !__builtin_isfinite(msg->score))
        return ERR_PROTOCOL;
    event->verdict.verdict = (struct verdict){(enum outcome)msg->outcome, msg->score};
    event->verdict.latency_ms = msg->latency_ms;
    step(server, event);
    return 0;
}

static void on_trouble(struct server *server, struct event *event, const struct msg_failed *used)
{
    event->fail.tokens_in = used->tokens_in;
    event->fail.tokens_out = used->tokens_out;
    event->fail.latency_ms = used->latency_ms;
    event->fail.reason = (struct slice){used->reason.data, used->reason.len < 400 ? used->reason.len : 400};
    if (used->reason.len > 0)
        log_line(1, "agent %016llx, lease %llu: %.*s", (unsigned long long)event->agent,
                 (unsigned long long)event->lease, (int)event->fail.reason.len, event->fail.reason.data);
    step(server, event);
}

/* Everything that it held is given back, and that is not held against any task. */
static void on_bye(struct server *server, struct peer *peer)
{
    struct agent_info info;
    struct event event = event_of(EVENT_HELLO, peer->agent, 0);
    if (core_agent(server->core, peer->agent, &info)) {
        event.hello.name = slice_of(info.name);
        event.hello.verifier = info.verifier;
        step(server, &event);
    }
    event = event_of(EVENT_GONE, peer->agent, 0);
    step(server, &event);
    peer_free(server, peer);
}

static int on_agent_msg(struct server *server, struct peer *peer, const struct msg *msg)
{
    struct event event = event_of(EVENT_TICK, peer->agent, 0);
    struct agent_info known;
    switch ((int)msg->type) {
    case MSG_heartbeat:
        if (!core_agent(server->core, peer->agent, &known)) { /* given up as lost, and alive after all */
            peer_put(server, peer, &(struct msg){.type = MSG_who});
            return 0;
        }
        event.type = EVENT_HEARTBEAT;
        event.heartbeat.next_ms = msg->heartbeat.next_ms < 600000 ? msg->heartbeat.next_ms : 600000;
        event.heartbeat.tokens = msg->heartbeat.tokens;
        step(server, &event);
        return 0;
    case MSG_result:
        event.type = EVENT_RESULT;
        event.lease = msg->result.lease;
        return on_result(server, &event, &msg->result);
    case MSG_verdict:
        event.type = EVENT_VERDICT;
        event.lease = msg->verdict.lease;
        return on_verdict(server, &event, &msg->verdict);
    case MSG_failed:
        event.type = EVENT_FAIL;
        event.lease = msg->failed.lease;
        on_trouble(server, &event, &msg->failed);
        return 0;
    case MSG_returned:
        event.type = EVENT_RETURN;
        event.lease = msg->returned.lease;
        on_trouble(server, &event,
                   &(struct msg_failed){.tokens_in = msg->returned.tokens_in, .tokens_out = msg->returned.tokens_out,
                                        .latency_ms = msg->returned.latency_ms});
        return 0;
    case MSG_refused:
        event.type = EVENT_REFUSE;
        event.lease = msg->refused.lease;
        on_trouble(server, &event, &(struct msg_failed){.reason = msg->refused.reason});
        return 0;
    case MSG_drain:
        event.type = EVENT_DRAIN;
        step(server, &event);
        return 0;
    }
    return ERR_PROTOCOL;
}

/* One line a second at most: who floods the broker shall not flood its log too. */
static void malformed(struct server *server, const char *from, size_t len)
{
    int64_t now = clock_ms();
    server->malformed++;
    if (server->malformed > 1 && now - server->malformed_ms < 1000)
        return;
    server->malformed_ms = now;
    log_line(0, "a malformed message of %zu bytes from %s is ignored; %llu since the start", len, from,
             (unsigned long long)server->malformed);
}

/* A malformed frame costs its sender the connection's standing: it must say HELLO again. Nothing of the frame before the
 * fault is taken back: each record stands for itself. */
static void on_agent_frame(struct server *server, struct slice route, struct slice frame)
{
    struct msg msg;
    size_t offset = 0;
    int rc = record_frame_valid(frame) && route.len <= ROUTE_MAX ? 0 : ERR_PROTOCOL;
    while (rc == 0 && offset < frame.len) {
        rc = msg_get(frame, &offset, &msg);
        if (rc != 0)
            break;
        struct peer *peer = peer_by_route(server, route);
        if (msg.type == MSG_hello) {
            rc = on_hello(server, route, &msg.hello, frame, offset);
            offset = frame.len;
        } else if (peer == NULL) {
            answer_unknown(server, route, &(struct msg){.type = MSG_who});
            return;
        } else if (msg.type == MSG_bye) {
            on_bye(server, peer);
            return;
        } else {
            rc = on_agent_msg(server, peer, &msg);
        }
    }
    if (rc == 0)
        return;
    malformed(server, "an agent", frame.len);
    struct peer *peer = peer_by_route(server, route);
    if (peer != NULL)
        peer_free(server, peer);
}

/* -- clients -------------------------------------------------------------------------------------------------------- */

static void reply(struct server *server, struct slice route, int64_t code, struct slice text)
{
    server->replies = xrealloc(server->replies, (server->replies_len + 1) * sizeof *server->replies);
    struct reply *reply = &server->replies[server->replies_len++];
    *reply = (struct reply){.route_len = route.len};
    memcpy(reply->route, route.data, route.len);
    msg_put(&reply->frame, &(struct msg){.type = MSG_reply, .reply = {code, text}});
}

int server_submit(struct server *server, struct submission *submission, uint32_t *sweep, struct error *error)
{
    struct sweep_spec spec;
    struct prompt_set set;
    int rc = sweep_spec_parse(submission->yaml, submission->file, submission->overrides, submission->overrides_len,
                              &spec, error);
    if (rc != 0) {
        free(submission->prompts);
        return rc;
    }
    rc = prompt_set_parse(&submission->prompts, submission->prompts_len, submission->prompts_file, spec.group_by, &set,
                          error);
    if (rc == 0) {
        size_t before = server->texts.len;
        struct buf *definitions = &server->definitions;
        buf_reset(definitions);
        rc = compile(&spec, &set, submission->yaml, journal_next(server->journal), before, definitions, error);
        if (rc == 0) {
            struct event event = event_of(EVENT_SUBMIT, 0, 0);
            event.submit.definitions = buf_slice(definitions);
            server->update.used = false;
            step(server, &event);
            rc = server->update.code;
            *error = server->update.error;
            *sweep = server->update.sweep;
            if (server->update.used)
                compile_texts(&set, &server->texts);
        }
        prompt_set_clear(&set);
    }
    sweep_spec_clear(&spec);
    return rc;
}

static struct upload *upload_of(struct server *server, struct slice route)
{
    struct upload *upload = server->uploads;
    while (upload != NULL && (upload->route_len != route.len || memcmp(upload->route, route.data, route.len) != 0))
        upload = upload->next;
    return upload;
}

static void upload_free(struct server *server, struct upload *upload)
{
    struct upload **at = &server->uploads;
    while (*at != upload)
        at = &(*at)->next;
    *at = upload->next;
    free(upload->text);
    free(upload);
}

/* Of clients that died in the middle: their room is for others. */
static void drop_abandoned(struct server *server)
{
    struct upload *next;
    for (struct upload *upload = server->uploads; upload != NULL; upload = next) {
        next = upload->next;
        if (clock_ms() - upload->heard_ms > UPLOAD_IDLE_MS)
            upload_free(server, upload);
    }
}

static void on_chunk(struct server *server, struct slice route, const struct msg_chunk *chunk)
{
    struct upload *upload = upload_of(server, route);
    if (upload != NULL && chunk->offset == 0) {
        upload_free(server, upload);
        upload = NULL;
    }
    drop_abandoned(server);
    size_t others = 0;
    for (const struct upload *u = server->uploads; u != NULL; u = u->next)
        others += u->size;
    if (upload == NULL && (chunk->offset != 0 || chunk->size > LIMIT_SUBMISSION - others)) {
        reply(server, route, ERR_LIMIT, slice_of("the prompt file is too large for this broker, or others are being "
                                                 "submitted: try again later (see `drover help limits`)"));
        return;
    }
    if (upload == NULL) {
        upload = xalloc(sizeof *upload);
        memcpy(upload->route, route.data, route.len);
        upload->route_len = route.len;
        upload->digest = chunk->digest;
        upload->size = chunk->size;
        upload->text = xalloc(chunk->size + 1);
        upload->heard_ms = clock_ms();
        upload->next = server->uploads;
        server->uploads = upload;
    }
    if (chunk->offset != upload->len || chunk->data.len > upload->size - upload->len) {
        reply(server, route, ERR_PROTOCOL, slice_of("chunks of the prompt file came out of order: submit again"));
        return;
    }
    memcpy(upload->text + upload->len, chunk->data.data, chunk->data.len);
    upload->len += chunk->data.len;
    upload->heard_ms = clock_ms();
    reply(server, route, 0, (struct slice){0});
}

static const char **split_lines(char *text, size_t *len)
{
    const char **lines = NULL;
    *len = 0;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        lines = xrealloc(lines, (*len + 1) * sizeof *lines);
        lines[(*len)++] = line;
    }
    return lines;
}

static void on_submit(struct server *server, struct slice route, const struct msg_submit *msg)
{
    struct upload *upload = upload_of(server, route);
    if (upload == NULL || upload->len != upload->size || upload->digest != msg->digest ||
        hash_bytes(upload->text, upload->len) != msg->digest) {
        reply(server, route, ERR_PROTOCOL, slice_of("the prompt file did not arrive whole: submit again"));
        return;
    }
    struct buf file = {0}, prompts_file = {0}, overrides = {0};
    buf_put(&file, msg->file.data, msg->file.len);
    buf_put(&prompts_file, msg->prompts_file.data, msg->prompts_file.len);
    buf_put(&overrides, msg->overrides.data, msg->overrides.len);
    struct submission submission = {.yaml = msg->yaml, .file = file.data, .prompts = upload->text,
                                    .prompts_len = upload->len, .prompts_file = prompts_file.data};
    submission.overrides = split_lines(overrides.data, &submission.overrides_len);
    upload->text = NULL; /* taken */
    upload_free(server, upload);
    struct error error = {""};
    uint32_t sweep;
    int rc = server_submit(server, &submission, &sweep, &error);
    reply(server, route, rc, rc == 0 ? slice_of(core_sweep(server->core, sweep).name) : slice_of(error.text));
    free((void *)submission.overrides);
    buf_clear(&file);
    buf_clear(&prompts_file);
    buf_clear(&overrides);
}

static void reply_error(struct server *server, struct slice route, int code, const char *what, struct slice name)
{
    struct error error;
    error_set(&error, code, "%s '%.*s'", what, (int)(name.len < 64 ? name.len : 64), name.data);
    reply(server, route, code, slice_of(error.text));
}

static void trim(struct buf *text)
{
    while (text->len > 0 && text->data[text->len - 1] == '\n')
        text->len--;
}

/* A cluster without keys says so wherever its state is shown. */
static void say_insecure(const struct server *server, bool json, struct buf *text)
{
    trim(text);
    if (json && text->len > 0 && text->data[text->len - 1] == '}') {
        text->len--;
        buf_printf(text, ",\"insecure\":%s}", server->conf.insecure ? "true" : "false");
    } else if (server->conf.insecure) {
        buf_puts(text, "\nINSECURE: no keys; whoever reaches this broker's ports can submit work");
    }
}

static void on_status(struct server *server, struct slice route, const struct msg_status *msg)
{
    struct buf json = {0}, name = {0};
    buf_put(&name, msg->sweep.data, msg->sweep.len);
    if (msg->sweep.len > 0 && core_sweep_find(server->core, msg->sweep) == NO_ID)
        reply_error(server, route, ERR_NOT_FOUND, "there is no sweep", msg->sweep);
    else {
        (msg->json ? core_status : status_text)(server->core, msg->sweep.len > 0 ? name.data : NULL, &json);
        say_insecure(server, msg->json != 0, &json);
        reply(server, route, 0, buf_slice(&json));
    }
    buf_clear(&json);
    buf_clear(&name);
}

static void on_workers(struct server *server, struct slice route, const struct msg_workers *msg)
{
    struct buf json = {0};
    (msg->json ? core_workers : workers_text)(server->core, &json);
    trim(&json);
    reply(server, route, 0, buf_slice(&json));
    buf_clear(&json);
}

static void on_control(struct server *server, struct slice route, const struct msg_control *msg)
{
    uint32_t sweep = core_sweep_find(server->core, msg->sweep);
    if (sweep == NO_ID || msg->state > SWEEP_CANCELLED) {
        reply_error(server, route, ERR_NOT_FOUND, "there is no sweep", msg->sweep);
        return;
    }
    server->update.code = 0;
    server_control(server, sweep, (enum sweep_state)msg->state);
    reply(server, route, server->update.code, slice_of(server->update.code == 0 ? "" : server->update.error.text));
}

struct find_agent {
    struct slice name;
    uint64_t id;
};

static void match_agent(void *arg, const struct agent_info *agent)
{
    struct find_agent *find = arg;
    if (strlen(agent->name) == find->name.len && memcmp(agent->name, find->name.data, find->name.len) == 0)
        find->id = agent->id;
}

static void on_drain_agent(struct server *server, struct slice route, const struct msg_drain_agent *msg)
{
    struct find_agent find = {.name = msg->name};
    core_agents(server->core, match_agent, &find);
    struct peer *peer = find.id != 0 ? peer_of(server, find.id) : NULL;
    if (peer == NULL) {
        reply_error(server, route, ERR_NOT_FOUND, "no worker or verifier is called", msg->name);
        return;
    }
    struct event event = event_of(EVENT_DRAIN, find.id, 0);
    step(server, &event);
    peer_put(server, peer, &(struct msg){.type = MSG_drain});
    reply(server, route, 0, (struct slice){0});
}

/* A commit as the journal has it, in pages: how `results` and `report` read a broker that is elsewhere. Its facts and, right
 * behind them, its texts; the page from `offset` on. */
static void on_fetch(struct server *server, struct slice route, const struct msg_fetch *msg)
{
    struct error error;
    int rc = ERR_NOT_FOUND;
    if (msg->commit < journal_next(server->journal) && msg->commit > 0)
        rc = msg->commit == server->fetched ? 0
                                            : journal_commit(server->journal, msg->commit, &server->facts_page,
                                                             &server->texts_page, &error);
    uint64_t facts_len = server->facts_page.len, size = facts_len + server->texts_page.len;
    if (rc == 0)
        server->fetched = msg->commit; /* the next page is likely of the same */
    if (rc == 0 && msg->offset > size)
        rc = ERR_NOT_FOUND;
    if (rc != 0) {
        reply(server, route, rc, slice_of(rc == ERR_NOT_FOUND ? "no such commit yet" : error.text));
        return;
    }
    const struct buf *from = msg->offset < facts_len ? &server->facts_page : &server->texts_page;
    uint64_t at = msg->offset < facts_len ? msg->offset : msg->offset - facts_len;
    size_t len = from->len - at < FETCH_PAGE ? from->len - at : FETCH_PAGE;
    reply(server, route, 0, (struct slice){0});
    struct buf *frame = &server->replies[server->replies_len - 1].frame;
    buf_reset(frame);
    msg_put(frame, &(struct msg){.type = MSG_commit,
                                 .commit = {msg->commit, facts_len, size, msg->offset, {from->data + at, len}}});
}

static void on_client_frame(struct server *server, struct slice route, struct slice frame)
{
    struct msg msg;
    size_t offset = 0;
    if (route.len > ROUTE_MAX || !record_frame_valid(frame) || msg_get(frame, &offset, &msg) != 0) {
        malformed(server, "a client", frame.len);
        return;
    }
    switch ((int)msg.type) {
    case MSG_chunk:
        on_chunk(server, route, &msg.chunk);
        return;
    case MSG_submit:
        on_submit(server, route, &msg.submit);
        return;
    case MSG_status:
        on_status(server, route, &msg.status);
        return;
    case MSG_workers:
        on_workers(server, route, &msg.workers);
        return;
    case MSG_control:
        on_control(server, route, &msg.control);
        return;
    case MSG_drain_agent:
        on_drain_agent(server, route, &msg.drain_agent);
        return;
    case MSG_fetch:
        on_fetch(server, route, &msg.fetch);
        return;
    }
    reply(server, route, ERR_PROTOCOL, slice_of("the broker does not know this request: use the same drover version"));
}

/* -- the turn ------------------------------------------------------------------------------------------------------- */

static void drain_port(struct server *server, struct port *port, uint32_t batch,
                       void (*handle)(struct server *, struct slice, struct slice))
{
    struct slice route, frame;
    for (uint32_t i = 0; i < batch && server->texts.len < TEXTS_MAX; i++) {
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
    error_set(&error, ERR_DISK_FULL, "the disk of state folder '%s' is full: the broker is paused, nothing is lost; free "
              "some space and it goes on by itself", server->conf.state);
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
    step(server, &event);
    return commit_and_send(server, error);
}

void server_control(struct server *server, uint32_t sweep, enum sweep_state state)
{
    struct event event = event_of(EVENT_CONTROL, 0, 0);
    event.control.sweep = sweep;
    event.control.state = state;
    step(server, &event);
}

void server_agent_gone(struct server *server, uint64_t agent)
{
    struct peer *peer = peer_of(server, agent);
    struct event event = event_of(EVENT_GONE, agent, 0);
    step(server, &event);
    if (peer != NULL)
        peer_free(server, peer);
}

void server_drain_agents(struct server *server)
{
    struct peer *peer, *next;
    HASH_ITER (hh, server->peers, peer, next) {
        struct event event = event_of(EVENT_DRAIN, peer->agent, 0);
        step(server, &event);
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
            return error_set(replay->error, ERR_CORRUPT,
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
    while (server->uploads != NULL)
        upload_free(server, server->uploads);
    for (size_t i = 0; i < server->replies_len; i++)
        buf_clear(&server->replies[i].frame);
    free(server->replies);
    port_close(&server->agents, 100);
    port_close(&server->clients, 500);
    core_free(&server->core);
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

struct journal *server_journal(struct server *server)
{
    return server->journal;
}

const char *server_address(const struct server *server)
{
    return port_address(server->agents);
}

bool server_disk_full(const struct server *server)
{
    return server->retry_ms != 0;
}
