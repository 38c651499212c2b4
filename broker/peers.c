/* peers.c - the agents of a broker: connections, what they say, what they are told; see server_int.h. */
#include "broker/server_int.h"
#include "common/answer.h"
#include "common/io/clock.h"
#include "common/io/log.h"

#include <stdlib.h>
#include <string.h>

enum { RUNNING_MAX = 2 * LIMIT_CREDITS, OFFERED = 255, DEVICES = 200 };

/* -- what they are told ----------------------------------------------------------------------------------------------- */

struct peer *peer_of(const struct server *server, uint64_t agent)
{
    struct peer *peer;
    HASH_FIND(hh, server->peers, &agent, sizeof agent, peer);
    return peer;
}

void peer_put(struct server *server, struct peer *peer, const struct msg *msg)
{
    if (peer->out.len == 0)
        msg_put(&peer->out, &(struct msg){.type = MSG_epoch, .epoch = {core_epoch(server->core)}});
    msg_put(&peer->out, msg);
}

/* A frame that does not arrive is no loss: the agent's next HELLO shows what it did not get. */
void peer_flush(struct server *server, struct peer *peer)
{
    if (peer->out.len == 0)
        return;
    int rc = port_send(server->agents, (struct slice){peer->route, peer->route_len}, buf_slice(&peer->out));
    if (rc != 0)
        log_line(1, "frame to agent %016llx not sent: %s", (unsigned long long)peer->agent, err_text(rc));
    buf_reset(&peer->out);
    peer->group_len = 0;
}

/* Models and verifiers are told before the first task that needs them, on a connection and after a submission. */
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

void peers_retell(struct server *server)
{
    struct peer *peer, *next;
    HASH_ITER (hh, server->peers, peer, next) {
        buf_reset(&peer->specs[false]);
        buf_reset(&peer->specs[true]);
    }
}

static int read_text(struct server *server, struct ref ref, struct buf *out)
{
    struct error error;
    int rc = journal_text(server->journal, (struct text_ref){ref.commit, ref.offset, ref.len}, false, out, &error);
    if (rc != 0)
        log_line(0, "%s", error.text);
    return rc;
}

/* The texts of a group go out once a frame: n tasks that each carried all n would make it quadratic. */
static uint8_t group_of(const struct server *server, struct peer *peer, const struct send *send)
{
    const struct ref *refs = server->update.refs;
    if (!send->group)
        return GROUP_NONE;
    bool there = peer->shares && peer->group_len == send->refs_len && send->refs_len > 0 &&
                 memcmp(&refs[peer->group], &refs[send->refs], send->refs_len * sizeof *refs) == 0;
    peer->group = send->refs;
    peer->group_len = send->refs_len;
    return there ? GROUP_BEFORE : GROUP_OWN;
}

static int put_task(struct server *server, struct peer *peer, const struct send *send)
{
    bool verify = send->key.kind == TASK_VERIFY;
    uint8_t group = group_of(server, peer, send);
    if (memcmp(&send->prompt_ref, &server->record_ref, sizeof send->prompt_ref) != 0) {
        buf_reset(&server->record);
        int rc = read_text(server, send->prompt_ref, &server->record);
        if (rc != 0)
            return rc;
        server->record_ref = send->prompt_ref;
    }
    buf_reset(&server->path);
    for (size_t i = 0; i < send->refs_len && group != GROUP_BEFORE; i++) {
        struct ref ref = server->update.refs[send->refs + i];
        buf_reset(&server->blob);
        int rc = ref.commit == 0 && send->group ? 0 : read_text(server, ref, &server->blob);
        if (rc != 0)
            return rc;
        path_put(&server->path, buf_slice(&server->blob)); /* empty: of a rollout that failed */
    }
    put_spec(server, peer, verify, send->spec);
    peer_put(server, peer,
             &(struct msg){.type = MSG_task,
                           .task = {.lease = send->lease,
                                    .verify = verify,
                                    .spec = send->spec,
                                    .prompt = send->key.prompt,
                                    .item = send->key.item,
                                    .seed = send->seed,
                                    .tokens_max = send->tokens_max,
                                    .timeout_ms = send->timeout_ms,
                                    .step = send->step,
                                    .finished = send->finished,
                                    .record = buf_slice(&server->record),
                                    .path = buf_slice(&server->path),
                                    .group = group,
                                    .kill_window = send->kill_window,
                                    .kill_below = send->kill_below,
                                    .cue = send->cue}});
    return 0;
}

int put_send(struct server *server, const struct send *send)
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

/* -- what they say ---------------------------------------------------------------------------------------------------- */

static struct peer *peer_by_route(const struct server *server, struct slice route)
{
    struct peer *peer;
    HASH_FIND(hh_route, server->routes, route.data, route.len, peer);
    return peer;
}

void peer_free(struct server *server, struct peer *peer)
{
    HASH_DELETE(hh, server->peers, peer);
    HASH_DELETE(hh_route, server->routes, peer);
    buf_clear(&peer->out);
    buf_clear(&peer->specs[0]);
    buf_clear(&peer->specs[1]);
    free(peer->joined);
    free(peer);
}

/* A thousand agents that come and go in one second, or one that pretends to be them, shall not fill the log. */
static bool may_tell(struct server *server)
{
    enum { A_SECOND = 20 };
    int64_t now_s = clock_ms() / 1000;
    if (server->fleet_s != now_s) {
        if (server->fleet_untold > 0)
            log_line(0, "%llu more agents joined, left or fell silent", (unsigned long long)server->fleet_untold);
        server->fleet_s = now_s;
        server->fleet_told = 0;
        server->fleet_untold = 0;
    }
    bool may = server->fleet_told++ < A_SECOND;
    server->fleet_untold += !may;
    return may;
}

/* People who watch a broker's log want to see its fleet come and go. The children of `drover run` are no news. */
static void tell_joined(struct server *server, struct peer *peer)
{
    struct agent_info info;
    struct buf name = {0};
    if (server->own_fleet || !core_agent(server->core, peer->agent, &info))
        return;
    buf_printf(&name, "%s '%s'", info.verifier ? "verifier" : "worker", info.name);
    peer->joined = name.data;
    if (!may_tell(server))
        return;
    log_line(0, "%s joined: up to %u tasks%s%s", peer->joined, info.credits, info.devices[0] == '\0' ? "" : ", on ",
             info.devices);
}

static void tell_left(struct server *server, struct peer *peer, const char *how)
{
    if (peer->joined == NULL)
        return;
    if (may_tell(server))
        log_line(0, "%s %s", peer->joined, how);
    free(peer->joined);
    peer->joined = NULL;
}

void peers_watch(struct server *server)
{
    struct agent_info info;
    struct peer *peer, *next;
    HASH_ITER (hh, server->peers, peer, next) {
        if (core_agent(server->core, peer->agent, &info))
            continue;
        tell_left(server, peer, "fell silent: its tasks go to others");
        peer_free(server, peer); /* should it live, it is asked who it is, and says HELLO */
    }
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
        int bit =
            end - at <= LIMIT_NAME ? core_kind(server->core, verifier, (struct slice){list.data + at, end - at}) : -1;
        if (bit >= 0)
            kinds |= (uint64_t)1 << bit;
        at = end + 1;
    }
    return kinds;
}

/* What stands behind a HELLO. */
struct behind {
    uint64_t *running;
    struct server_offer *offers;
    size_t running_len, offers_len;
};

/* An offer without a model, or with names that are too long, is no offer. */
static struct behind read_behind(struct slice frame, size_t offset)
{
    struct behind behind = {.running = xalloc(RUNNING_MAX * sizeof *behind.running),
                            .offers = xalloc(LIMIT_OFFERS * sizeof *behind.offers)};
    struct msg msg;
    while (offset < frame.len && behind.running_len < RUNNING_MAX && msg_get(frame, &offset, &msg) == 0) {
        const struct msg_offer *offer = &msg.offer;
        if (msg.type == MSG_running)
            behind.running[behind.running_len++] = msg.running.lease;
        else if (msg.type == MSG_offer && behind.offers_len < LIMIT_OFFERS && offer->model.len > 0 &&
                 offer->model.len <= OFFERED && offer->server.len <= OFFERED)
            behind.offers[behind.offers_len++] =
                (struct server_offer){offer->model, offer->server, offer->context, offer->features};
    }
    return behind;
}

/* HELLO, and the offers and running leases behind it. */
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
    struct behind behind = read_behind(frame, offset);
    struct peer *old = peer_of(server, hello->agent);
    char *joined = old == NULL ? NULL : old->joined;
    if (old != NULL)
        old->joined = NULL; /* it only reconnects */
    struct peer *peer = peer_connect(server, route, hello->agent);
    peer->joined = joined;
    peer->shares = hello->shares != 0;
    peer_put(
        server, peer,
        &(struct msg){.type = MSG_welcome,
                      .welcome = {PROTOCOL_VERSION, server->conf.heartbeat_busy_ms, server->conf.heartbeat_idle_ms}});
    struct event event = event_of(EVENT_HELLO, hello->agent, 0);
    event.hello.name = hello->name;
    event.hello.verifier = hello->verifier != 0;
    event.hello.kinds = kinds_of(server, event.hello.verifier, hello->kinds);
    event.hello.credits = hello->credits;
    event.hello.next_ms = hello->next_ms < 600000 ? hello->next_ms : 600000;
    event.hello.devices =
        (struct slice){hello->devices.data, hello->devices.len < DEVICES ? hello->devices.len : DEVICES};
    event.hello.running = behind.running;
    event.hello.running_len = behind.running_len;
    event.hello.offers = behind.offers;
    event.hello.offers_len = behind.offers_len;
    server_step(server, &event);
    if (peer->joined == NULL)
        tell_joined(server, peer);
    free(behind.running);
    free(behind.offers);
    return 0;
}

/* A step that came with a text: of a duplicate nothing refers to it, and it is dropped. */
static void step_with_text(struct server *server, const struct event *event, size_t before)
{
    server->update.used = false;
    server_step(server, event);
    if (!server->update.used)
        server->texts.len = before;
}

static int on_result(struct server *server, struct event *event, const struct msg_result *msg)
{
    uint32_t count = (uint32_t)__builtin_popcount(msg->have & ((1u << FEATURES) - 1));
    if (msg->finish >= FINISHES || msg->answer.len > LIMIT_ANSWER || msg->features.len != 8 * count ||
        msg->have >= 1u << FEATURES || msg->frame.len > LIMIT_TEXT + 64 || msg->logprob_mode > LOGPROB_SAMPLED)
        return ERR_PROTOCOL;
    struct result *result = &event->result.result;
    *result = (struct result){
        .finish = (enum finish)msg->finish,
        .tokens_in = msg->tokens_in,
        .tokens_out = msg->tokens_out,
        .tokens_reread = msg->tokens_reread,
        .tokens_cached = msg->tokens_cached,
        .latency_ms = msg->latency_ms,
        .by_ids = msg->by_ids != 0,
        .logprob_mode = (enum logprob_mode)msg->logprob_mode,
        .features.have = msg->have,
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
    event->result.ref =
        (struct ref){journal_next(server->journal), (uint32_t)before, (uint32_t)(server->texts.len - before)};
    step_with_text(server, event, before);
    return 0;
}

static int on_verdict(struct server *server, struct event *event, const struct msg_verdict *msg)
{
    if (msg->outcome >= OUTCOMES || !__builtin_isfinite(msg->score) || msg->detail.len > LIMIT_DETAIL + 64)
        return ERR_PROTOCOL;
    event->verdict.verdict = (struct verdict){(enum outcome)msg->outcome, msg->score};
    event->verdict.latency_ms = msg->latency_ms;
    size_t before = server->texts.len;
    buf_put(&server->texts, msg->detail.data, msg->detail.len);
    if (msg->detail.len > 0)
        event->verdict.ref = (struct ref){journal_next(server->journal), (uint32_t)before, (uint32_t)msg->detail.len};
    step_with_text(server, event, before);
    return 0;
}

/* Asked for when a task names it, so it is committed. Empty: the journal does not have it. Who asks for much at once waits
 * for its next turn, and asks again. */
static void on_want(struct server *server, struct peer *peer, const struct msg_want *want)
{
    struct ref ref;
    if (peer->out.len > LIMIT_ATTACHMENT)
        return;
    buf_reset(&server->blob);
    if (!core_attachment(server->core, (struct attachment_id){want->high, want->low}, &ref) ||
        read_text(server, ref, &server->blob) != 0)
        buf_reset(&server->blob);
    peer_put(server, peer,
             &(struct msg){.type = MSG_attachment, .attachment = {want->high, want->low, buf_slice(&server->blob)}});
    server->attached += server->blob.len;
    log_line(1, "agent %016llx fetches an attachment of %zu bytes", (unsigned long long)peer->agent, server->blob.len);
}

static void on_trouble(struct server *server, struct event *event, const struct msg_failed *used)
{
    event->fail.tokens_in = used->tokens_in;
    event->fail.tokens_out = used->tokens_out;
    event->fail.latency_ms = used->latency_ms;
    event->fail.final = used->final != 0;
    event->fail.reason = (struct slice){used->reason.data, used->reason.len < 400 ? used->reason.len : 400};
    if (used->reason.len > 0)
        log_line(1, "agent %016llx, lease %llu: %.*s", (unsigned long long)event->agent,
                 (unsigned long long)event->lease, (int)event->fail.reason.len, event->fail.reason.data);
    server_step(server, event);
}

/* Everything that it held is given back, and that is not held against any task. */
static void on_bye(struct server *server, struct peer *peer)
{
    struct agent_info info;
    struct event event = event_of(EVENT_HELLO, peer->agent, 0);
    if (core_agent(server->core, peer->agent, &info)) {
        event.hello.name = slice_of(info.name);
        event.hello.verifier = info.verifier;
        server_step(server, &event);
    }
    event = event_of(EVENT_GONE, peer->agent, 0);
    server_step(server, &event);
    tell_left(server, peer, "left");
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
        event.heartbeat.credits = msg->heartbeat.credits;
        event.heartbeat.trouble = msg->heartbeat.trouble;
        server_step(server, &event);
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
                   &(struct msg_failed){.tokens_in = msg->returned.tokens_in,
                                        .tokens_out = msg->returned.tokens_out,
                                        .latency_ms = msg->returned.latency_ms});
        return 0;
    case MSG_refused:
        event.type = EVENT_REFUSE;
        event.lease = msg->refused.lease;
        on_trouble(server, &event, &(struct msg_failed){.reason = msg->refused.reason});
        return 0;
    case MSG_want:
        on_want(server, peer, &msg->want);
        return 0;
    case MSG_drain:
        event.type = EVENT_DRAIN;
        server_step(server, &event);
        return 0;
    }
    return ERR_PROTOCOL;
}

/* A malformed frame costs its sender the connection's standing: it must say HELLO again. Nothing of the frame before the
 * fault is taken back: each record stands for itself. */
void on_agent_frame(struct server *server, struct slice route, struct slice frame)
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
