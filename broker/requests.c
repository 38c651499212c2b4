/* requests.c - the clients of a broker: submit, status, control, fetch; see server_int.h. */
#include "broker/compile.h"
#include "broker/prior.h"
#include "broker/reselect.h"
#include "broker/reverify.h"
#include "broker/server_int.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/io/clock.h"
#include "common/io/log.h"

#include <stdlib.h>
#include <string.h>

enum { FETCH_PAGE = 8 << 20, UPLOAD_IDLE_MS = 60000 };

static void reply_note(struct server *server, struct slice route, int64_t code, struct slice text, struct slice note)
{
    server->replies = xrealloc(server->replies, (server->replies_len + 1) * sizeof *server->replies);
    struct reply *reply = &server->replies[server->replies_len++];
    *reply = (struct reply){.route_len = route.len};
    memcpy(reply->route, route.data, route.len);
    msg_put(&reply->frame, &(struct msg){.type = MSG_reply, .reply = {code, text, note}});
}

void reply(struct server *server, struct slice route, int64_t code, struct slice text)
{
    reply_note(server, route, code, text, (struct slice){0});
}

/* Hands the definitions to the core. */
static int step_submit(struct server *server, bool examine, uint32_t *sweep, struct error *error)
{
    struct event event = event_of(EVENT_SUBMIT, 0, 0);
    event.submit.definitions = buf_slice(&server->definitions);
    event.submit.examine = examine;
    server->update.used = false;
    server_step(server, &event);
    *error = server->update.error;
    *sweep = server->update.sweep;
    if (server->update.code == 0 && !examine)
        peers_retell(server);
    return server->update.code;
}

/* What the journal has is not stored again, whichever set it came with. */
static void mark_known(const struct server *server, struct prompt_set *set)
{
    struct ref ref;
    for (struct set_attachment *a = set->attachments; a != NULL; a = a->hh.next)
        a->known = core_attachment(server->core, a->attachment.id, &ref);
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
        mark_known(server, &set);
        rc = priors_find(&spec, &set, server->core, server->journal, error);
        if (rc == 0)
            rc = compile(&spec, &set, server->core, submission->yaml, journal_next(server->journal), before,
                         definitions, error);
        if (rc == 0)
            rc = step_submit(server, submission->examine, sweep, error);
        if (rc == 0 && server->update.used)
            compile_texts(&set, &server->texts);
        prompt_set_clear(&set);
    }
    sweep_spec_clear(&spec);
    return rc;
}

int no_such_sweep(const struct core *core, const char *name, struct error *error)
{
    struct buf names = {0};
    uint32_t last, count = core_sweep_names(core, &names, &last);
    int rc = error_set(error, ERR_NOT_FOUND, "there is no sweep '%.64s'; the journal holds: %.300s", name,
                       count > 0 ? names.data : "none");
    buf_clear(&names);
    return rc;
}

int server_reverify(struct server *server, const struct reverification *what, uint32_t *sweep, struct buf *note,
                    struct error *error)
{
    struct sweep_spec spec;
    bool filed = what->yaml.len > 0;
    int rc = filed ? sweep_spec_parse(what->yaml, what->file, NULL, 0, &spec, error) : 0;
    if (rc != 0)
        return rc;
    struct reverify_request request = {.sweep = core_sweep_find(server->core, slice_of(what->sweep)),
                                       .verifier = what->verifier,
                                       .truth = what->truth,
                                       .name = what->name,
                                       .file = filed ? &spec : NULL};
    buf_reset(&server->definitions);
    if (request.sweep == NO_ID)
        rc = no_such_sweep(server->core, what->sweep, error);
    if (rc == 0)
        rc = reverify_definitions(server->core, &request, &server->definitions, error);
    if (rc == 0)
        reverify_note(server->core, request.sweep, note);
    if (rc == 0)
        rc = step_submit(server, false, sweep, error);
    if (rc == ERR_CONFLICT && server->update.code == rc)
        error_set(
            error, rc,
            "there is a sweep of that name with verdicts of another verifier '%.64s', or with other prompts: give "
            "the new one a name of its own (--name)",
            what->verifier);
    if (filed)
        sweep_spec_clear(&spec);
    return rc;
}

int server_reselect(struct server *server, const struct reselection *what, uint32_t *sweep, struct buf *note,
                    struct error *error)
{
    struct reselect_request request = {.sweep = core_sweep_find(server->core, slice_of(what->sweep)),
                                       .name = what->name,
                                       .yaml = what->yaml,
                                       .file = what->file};
    buf_reset(&server->definitions);
    if (request.sweep == NO_ID)
        return no_such_sweep(server->core, what->sweep, error);
    int rc = reselect_definitions(server->core, &request, &server->definitions, note, error);
    return rc == 0 ? step_submit(server, false, sweep, error) : rc;
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
        reply(server, route, ERR_LIMIT,
              slice_of("the prompt file is too large for this broker, or others are being "
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

static void on_submit(struct server *server, struct slice route, const struct msg_submit *msg, bool examine)
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
    struct submission submission = {.yaml = msg->yaml,
                                    .file = file.data,
                                    .prompts = upload->text,
                                    .prompts_len = upload->len,
                                    .prompts_file = prompts_file.data,
                                    .examine = examine};
    submission.overrides = split_lines(overrides.data, &submission.overrides_len);
    upload->text = NULL; /* taken */
    upload_free(server, upload);
    struct error error = {""};
    uint32_t sweep;
    int rc = server_submit(server, &submission, &sweep, &error);
    const char *text = rc != 0 ? error.text : examine ? "" : core_sweep(server->core, sweep).name;
    reply(server, route, rc, slice_of(text));
    free((void *)submission.overrides);
    buf_clear(&file);
    buf_clear(&prompts_file);
    buf_clear(&overrides);
}

/* Text of a message, terminated; NULL when it is empty. */
static const char *given(struct slice text, struct buf *copy)
{
    buf_put(copy, text.data, text.len);
    return text.len > 0 ? copy->data : NULL;
}

static void on_reverify(struct server *server, struct slice route, const struct msg_reverify *msg)
{
    struct buf texts[5] = {{0}}, note = {0};
    struct error error = {""};
    uint32_t sweep;
    const char *verifier = given(msg->verifier, &texts[0]), *name = given(msg->sweep, &texts[1]);
    struct reverification what = {.sweep = name != NULL ? name : "",
                                  .verifier = verifier != NULL ? verifier : "",
                                  .truth = given(msg->truth, &texts[2]),
                                  .name = given(msg->name, &texts[3]),
                                  .file = given(msg->file, &texts[4]),
                                  .yaml = msg->yaml};
    int rc = server_reverify(server, &what, &sweep, &note, &error);
    reply_note(server, route, rc, slice_of(rc == 0 ? core_sweep(server->core, sweep).name : error.text),
               buf_slice(&note));
    buf_clear(&note);
    for (size_t i = 0; i < 5; i++)
        buf_clear(&texts[i]);
}

static void on_reselect(struct server *server, struct slice route, const struct msg_reselect *msg)
{
    struct buf texts[3] = {{0}}, note = {0};
    struct error error = {""};
    uint32_t sweep;
    const char *name = given(msg->sweep, &texts[0]), *file = given(msg->file, &texts[2]);
    struct reselection what = {.sweep = name != NULL ? name : "",
                               .name = given(msg->name, &texts[1]),
                               .file = file != NULL ? file : "arms",
                               .yaml = msg->yaml};
    int rc = server_reselect(server, &what, &sweep, &note, &error);
    reply_note(server, route, rc, slice_of(rc == 0 ? core_sweep(server->core, sweep).name : error.text),
               buf_slice(&note));
    buf_clear(&note);
    for (size_t i = 0; i < 3; i++)
        buf_clear(&texts[i]);
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

/* Behind what the core says, as a member of its object or as a line. */
static void say_more(bool json, struct buf *text, const struct buf *member, const struct buf *line)
{
    trim(text);
    if (json && text->len > 0 && text->data[text->len - 1] == '}') {
        text->len--;
        buf_printf(text, ",%s}", member->data);
    } else if (line->len > 0) {
        buf_printf(text, "\n%s", line->data);
    }
}

/* A cluster without keys says so wherever its state is shown. */
static void say_insecure(const struct server *server, bool json, struct buf *text)
{
    struct buf member = {0}, line = {0};
    buf_printf(&member, "\"insecure\":%s", server->conf.insecure ? "true" : "false");
    if (server->conf.insecure)
        buf_puts(&line, "INSECURE: no keys; whoever reaches this broker's ports can submit work");
    say_more(json, text, &member, &line);
    buf_clear(&member);
    buf_clear(&line);
}

static void say_mirror(const struct server *server, bool json, struct buf *text)
{
    if (server->mirror == NULL)
        return;
    struct mirror_status status = mirror_status(server->mirror);
    struct buf member = {0}, line = {0};
    buf_puts(&member, "\"redis\":{");
    json_key(&member, "connected");
    json_bool(&member, status.connected);
    json_key(&member, "behind");
    json_u64(&member, status.behind);
    json_key(&member, "skipped");
    json_u64(&member, status.skipped);
    json_key(&member, "entries");
    json_u64(&member, status.entries);
    json_key(&member, "why");
    json_str(&member, status.why);
    json_end(&member, '}');
    buf_printf(&line, "redis %s: %s, %llu commits behind, %llu skipped%s%s", server->conf.redis,
               status.connected ? "connected" : "away", (unsigned long long)status.behind,
               (unsigned long long)status.skipped, status.connected ? "" : "; ", status.connected ? "" : status.why);
    say_more(json, text, &member, &line);
    buf_clear(&member);
    buf_clear(&line);
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
        say_mirror(server, msg->json != 0, &json);
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
    bool good = server->update.code == 0;
    reply(server, route, server->update.code,
          slice_of(good ? sweep_state_text((enum sweep_state)msg->state) : server->update.error.text));
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
    server_step(server, &event);
    peer_put(server, peer, &(struct msg){.type = MSG_drain});
    reply(server, route, 0, slice_of("draining"));
}

/* A commit as the journal has it, in pages: how `results` and `report` read a broker that is elsewhere. Its facts and, right
 * behind them, its texts; the page from `offset` on. */
static void on_fetch(struct server *server, struct slice route, const struct msg_fetch *msg)
{
    struct error error;
    int rc = ERR_NOT_FOUND;
    if (msg->commit < journal_next(server->journal) && msg->commit > 0)
        rc = msg->commit == server->fetched
                 ? 0
                 : journal_commit(server->journal, msg->commit, &server->facts_page, &server->texts_page, &error);
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

void on_client_frame(struct server *server, struct slice route, struct slice frame)
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
        on_submit(server, route, &msg.submit, false);
        return;
    case MSG_examine: {
        const struct msg_examine *from = &msg.examine;
        const struct msg_submit same = {from->digest, from->file, from->yaml, from->overrides, from->prompts_file};
        on_submit(server, route, &same, true);
        return;
    }
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
    case MSG_reverify:
        on_reverify(server, route, &msg.reverify);
        return;
    case MSG_reselect:
        on_reselect(server, route, &msg.reselect);
        return;
    }
    reply(server, route, ERR_PROTOCOL, slice_of("the broker does not know this request: use the same drover version"));
}

void uploads_free(struct server *server)
{
    while (server->uploads != NULL)
        upload_free(server, server->uploads);
}
