/* agent.c - worker and verifier: see agent.h.
 *
 * The socket thread owns the connection and the table of held leases. Compute threads own engines; they take jobs from the
 * inbox and put them into the outbox, both behind one lock; an eventfd wakes the socket thread. A finished job stays held,
 * with its encoded message, until the broker acknowledges it: that is the outbox, and credits bound it. */
#include "common/io/agent.h"
#include "common/answer.h"
#include "common/io/clock.h"
#include "common/io/join_file.h"
#include "common/io/kept.h"
#include "common/io/log.h"
#include "common/io/net.h"
#include "common/limits.h"
#include "common/msg.h"
#include "common/text.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <uthash.h>
#include <utlist.h>

enum {
    RESEND_MS = 10000,
    DRAIN_MS = 1500,
    STOP_S = 1,
    LOOK_MS = 1000,
    ROOM_MS = 250,
    PATIENCE_MS = 3000,
    SPECS_MAX = 512,
    FRAME_BYTES = 1 << 20
};

struct spec {
    bool verify;
    uint32_t id;
    struct buf json;
    const struct engine *engine; /* NULL: not served here */
    bool reads;                  /* what is attached to prompts */
};

/* Texts and answers of all rollouts of a prompt. The tasks that came with them in one frame share them. */
struct texts {
    uint32_t users, len;
    struct buf *at, *answers;
    struct slice *slices;
};

enum held_state { HELD_WAITING, HELD_RUNNING, HELD_DONE };

struct held {
    struct job job;
    struct spec *spec;
    struct buf record, text, answer, cue, message; /* message: what the broker is told, once done */
    struct texts *texts;                           /* of the group, or the earlier attempts; NULL: there are none */
    struct kept **kept;                            /* what the record names, as many as `attached` has */
    struct attachments attached;
    size_t lacks;          /* under the lock: of these, those that have not come; it waits for them */
    bool asked;            /* whether its outcome is known */
    bool verify, returned; /* returned: given back, not finished */
    enum held_state state; /* under the lock */
    bool cancel;           /* under the lock: stop it, give it back */
    bool dropped;          /* of its compute thread: it has seen `cancel` */
    int64_t sent_ms;
    struct held *prev, *next; /* inbox or outbox */
    UT_hash_handle hh;
};

struct agent {
    struct agent_options options;
    struct port *port;
    uint64_t id, epoch, tokens;
    uint32_t busy_ms, idle_ms;
    int64_t beat_ms, announced_ms,
        drain_ms;                    /* next heartbeat; what it announced; when draining ends, 0: not draining */
    int64_t look_ms;                 /* when the join file is read next */
    int64_t room_ms;                 /* when the room is looked at next */
    uint32_t credits;                /* as told last */
    char trouble[LIMIT_TROUBLE + 1]; /* as told last */
    bool welcomed;                   /* by any broker; or it was said that there is none */
    int64_t start_ms;
    char endpoint[256];
    bool fenced;         /* has told that it ignores a broker of a lower epoch */
    struct held *held;   /* by lease; socket thread only */
    struct texts *texts; /* of the group that came last in the frame that is read; texts_code < 0: they are not whole */
    int texts_code;
    struct spec *specs[SPECS_MAX];
    size_t specs_len;
    struct kept_table *kept;    /* socket thread only */
    struct attachment_id asked; /* for this, at asked_ms; 0: for none */
    int64_t asked_ms;
    int wake; /* eventfd */
    pthread_mutex_t lock;
    struct held *inbox, *outbox; /* under the lock, as all below */
    struct compute **computes;
    uint64_t cancels; /* jobs that were to be stopped, ever */
    bool stop;
};

/* -- compute threads ---------------------------------------------------------------------------------------------- */

/* One spec as one thread has opened it, and the jobs of it that run there. */
struct opened {
    struct spec *spec;
    void *state;
    struct error error; /* set when it could not be opened */
    struct job **jobs;
    struct held **held;
    size_t len;
};

struct compute {
    struct agent *agent;
    struct opened opened[SPECS_MAX];
    size_t opened_len, running;
    int wake;         /* eventfd: there may be something for it */
    bool waiting;     /* under the lock: it waits, or is about to */
    uint64_t cancels; /* of agent->cancels, those that it has looked at */
};

/* Wakes every compute thread that waits. Called under the lock. */
static void wake_computes(struct agent *agent)
{
    const uint64_t one = 1;
    for (uint32_t i = 0; i < agent->options.threads; i++) {
        if (!agent->computes[i]->waiting)
            continue;
        agent->computes[i]->waiting = false;
        ssize_t done = write(agent->computes[i]->wake, &one, sizeof one);
        (void)done;
    }
}

static struct opened *opened_for(struct compute *compute, struct spec *spec)
{
    for (size_t i = 0; i < compute->opened_len; i++)
        if (compute->opened[i].spec == spec)
            return &compute->opened[i];
    struct opened *opened = &compute->opened[compute->opened_len++];
    *opened = (struct opened){.spec = spec};
    if (spec->engine != NULL) {
        opened->jobs = xalloc(spec->engine->batch * sizeof *opened->jobs);
        opened->held = xalloc(spec->engine->batch * sizeof *opened->held);
    }
    return opened;
}

static void put_error(struct held *held, enum msg_type type, const char *reason)
{
    struct msg msg = {.type = type};
    const struct result *used = &held->job.result;
    if (type == MSG_refused)
        msg.refused = (struct msg_refused){held->job.lease, slice_of(reason)};
    else if (type == MSG_failed)
        msg.failed = (struct msg_failed){held->job.lease,  used->tokens_in,  used->tokens_out,
                                         used->latency_ms, slice_of(reason), held->job.final};
    else
        msg.returned = (struct msg_returned){held->job.lease, used->tokens_in, used->tokens_out, used->latency_ms};
    held->returned = type == MSG_returned;
    msg_put(&held->message, &msg);
}

static void put_result(struct held *held)
{
    const struct job *job = &held->job;
    const struct result *r = &job->result;
    double features[FEATURES];
    size_t len = 0;
    for (int i = 0; i < FEATURES; i++)
        if (r->features.have & 1u << i)
            features[len++] = r->features.v[i];
    struct buf frame = {0};
    text_pack(buf_slice(&job->out), &frame);
    msg_put(&held->message, &(struct msg){.type = MSG_result,
                                          .result = {.lease = job->lease,
                                                     .finish = (uint8_t)r->finish,
                                                     .tokens_in = r->tokens_in,
                                                     .tokens_out = r->tokens_out,
                                                     .tokens_reread = r->tokens_reread,
                                                     .latency_ms = r->latency_ms,
                                                     .have = r->features.have,
                                                     .features = {(const char *)features, len * 8},
                                                     .answer = buf_slice(&job->found),
                                                     .frame = buf_slice(&frame),
                                                     .tokens_cached = r->tokens_cached,
                                                     .logprob_mode = (uint8_t)r->logprob_mode,
                                                     .by_ids = r->by_ids}});
    buf_clear(&frame);
}

/* Details that are too long are left out: the verdict is what counts. */
static void put_verdict(struct held *held)
{
    const struct job *job = &held->job;
    struct buf detail = {0};
    if (job->detail.len > 0 && job->detail.len <= LIMIT_DETAIL)
        text_pack(buf_slice(&job->detail), &detail);
    msg_put(&held->message, &(struct msg){.type = MSG_verdict,
                                          .verdict = {.lease = job->lease,
                                                      .outcome = (uint8_t)job->verdict.outcome,
                                                      .score = job->verdict.score,
                                                      .latency_ms = job->result.latency_ms,
                                                      .detail = buf_slice(&detail)}});
    buf_clear(&detail);
}

/* Encodes what became of a job and hands it to the socket thread. */
static void hand_over(struct agent *agent, struct held *held, enum msg_type trouble, const char *reason)
{
    struct job *job = &held->job;
    if (job->result.latency_ms == 0)
        job->result.latency_ms = (uint32_t)(clock_ms() - job->began_ms);
    if (trouble != 0)
        put_error(held, trouble, reason);
    else if (job->out.len > LIMIT_TEXT)
        put_error(held, MSG_failed, "the generated text is longer than the limit (see `drover help limits`)");
    else if (held->verify)
        put_verdict(held);
    else
        put_result(held);
    buf_clear(&job->detail);
    buf_clear(&job->out);
    buf_clear(&job->found);
    pthread_mutex_lock(&agent->lock);
    held->state = HELD_DONE;
    DL_APPEND(agent->outbox, held);
    pthread_mutex_unlock(&agent->lock);
    uint64_t one = 1;
    ssize_t done = write(agent->wake, &one, sizeof one);
    (void)done;
}

static void remove_job(struct opened *opened, size_t i)
{
    opened->len--;
    opened->jobs[i] = opened->jobs[opened->len];
    opened->held[i] = opened->held[opened->len];
}

/* Takes waiting jobs that this thread has room for; whether there were any. Called under the lock. */
static bool take_jobs(struct compute *compute)
{
    bool any = false;
    struct held *held, *next;
    DL_FOREACH_SAFE (compute->agent->inbox, held, next) {
        if (held->lacks > 0)
            continue;
        struct opened *opened = opened_for(compute, held->spec);
        if (opened->spec->engine != NULL && opened->len == opened->spec->engine->batch)
            continue;
        DL_DELETE(compute->agent->inbox, held);
        held->state = HELD_RUNNING;
        held->job.began_ms = clock_ms();
        compute->running++;
        if (opened->spec->engine == NULL) { /* refused below, outside the lock */
            opened->jobs = xrealloc(opened->jobs, (opened->len + 1) * sizeof *opened->jobs);
            opened->held = xrealloc(opened->held, (opened->len + 1) * sizeof *opened->held);
        }
        opened->jobs[opened->len] = &held->job;
        opened->held[opened->len++] = held;
        any = true;
    }
    return any;
}

static bool ensure_open(struct opened *opened)
{
    if (opened->state != NULL)
        return true;
    if (opened->spec->engine == NULL)
        return error_set(&opened->error, ERR_NOT_FOUND, "this agent has no engine for it") == 0;
    return opened->spec->engine->open(buf_slice(&opened->spec->json), &opened->state, &opened->error) == 0;
}

static void refuse_all(struct compute *compute, struct opened *opened)
{
    while (opened->len > 0) {
        struct held *held = opened->held[opened->len - 1];
        remove_job(opened, opened->len - 1);
        compute->running--;
        hand_over(compute->agent, held, MSG_refused, opened->error.text);
    }
}

static void drop_cancelled(struct compute *compute, struct opened *opened)
{
    for (size_t i = opened->len; i-- > 0;) {
        struct held *held = opened->held[i];
        if (!held->dropped)
            continue;
        if (opened->spec->engine->cancel != NULL)
            opened->spec->engine->cancel(opened->state, &held->job);
        remove_job(opened, i);
        compute->running--;
        hand_over(compute->agent, held, MSG_returned, "");
    }
}

/* Those that no engine needs to see. */
static void hand_over_known(struct compute *compute, struct opened *opened)
{
    for (size_t i = opened->len; compute->agent->options.known != NULL && i-- > 0;) {
        struct held *held = opened->held[i];
        if (held->asked)
            continue;
        held->asked = true;
        if (!compute->agent->options.known(&held->job))
            continue;
        held->job.state = JOB_DONE;
        remove_job(opened, i);
        compute->running--;
        hand_over(compute->agent, held, 0, "");
    }
}

/* Has jobs, or something to end behind the last of them. */
static bool is_busy(const struct opened *opened)
{
    return opened->len > 0 ||
           (opened->state != NULL && opened->spec->engine->busy != NULL && opened->spec->engine->busy(opened->state));
}

static bool any_busy(const struct compute *compute)
{
    for (size_t i = 0; i < compute->opened_len; i++)
        if (is_busy(&compute->opened[i]))
            return true;
    return false;
}

/* Moves one spec's jobs forward; in how many ms it wants to be called again. */
static int64_t advance(struct compute *compute, struct opened *opened)
{
    if (!ensure_open(opened)) {
        refuse_all(compute, opened);
        return INT64_MAX;
    }
    drop_cancelled(compute, opened);
    hand_over_known(compute, opened);
    if (!is_busy(opened))
        return INT64_MAX;
    int64_t wait = opened->spec->engine->advance(opened->state, opened->jobs, opened->len, clock_ms());
    for (size_t i = opened->len; i-- > 0;) {
        struct held *held = opened->held[i];
        if (held->job.state == JOB_RUNNING)
            continue;
        remove_job(opened, i);
        compute->running--;
        bool failed = held->job.state == JOB_FAILED;
        if (!failed && compute->agent->options.finish != NULL)
            compute->agent->options.finish(&held->job, buf_slice(&opened->spec->json));
        hand_over(compute->agent, held, failed ? MSG_failed : 0, held->job.error.text);
        wait = 0;
    }
    return wait;
}

/* Looks at the marks that the socket thread has set, if it set any since. Called under the lock. */
static bool see_cancels(struct compute *compute)
{
    if (compute->cancels == compute->agent->cancels)
        return false;
    compute->cancels = compute->agent->cancels;
    for (size_t i = 0; i < compute->opened_len; i++)
        for (size_t j = 0; j < compute->opened[i].len; j++)
            compute->opened[i].held[j]->dropped = compute->opened[i].held[j]->cancel;
    return true;
}

/* Waits for the socket thread, for what the engines wait for, and at most wait_ms (-1: no limit). */
static void wait_for_work(struct compute *compute, int64_t wait_ms)
{
    struct pollfd fds[1 + SPECS_MAX];
    nfds_t len = 0;
    fds[len++] = (struct pollfd){.fd = compute->wake, .events = POLLIN};
    for (size_t i = 0; i < compute->opened_len; i++) {
        const struct opened *opened = &compute->opened[i];
        if (opened->state != NULL && opened->spec->engine->fd != NULL && is_busy(opened))
            fds[len++] = (struct pollfd){.fd = opened->spec->engine->fd(opened->state), .events = POLLIN};
    }
    poll(fds, len, wait_ms < 0 ? -1 : wait_ms < 60000 ? (int)wait_ms : 60000);
    uint64_t count;
    ssize_t got = read(compute->wake, &count, sizeof count);
    (void)got;
}

/* Waits until there is something to do, when nothing is to be done at once; false: stop. */
static bool next_work(struct compute *compute, int64_t wait_ms)
{
    struct agent *agent = compute->agent;
    pthread_mutex_lock(&agent->lock);
    bool any = take_jobs(compute);
    any = see_cancels(compute) || any;
    bool idle = !any_busy(compute);
    if (!any && !agent->stop && (idle || wait_ms > 0)) {
        compute->waiting = true;
        pthread_mutex_unlock(&agent->lock);
        wait_for_work(compute, idle ? -1 : wait_ms);
        pthread_mutex_lock(&agent->lock);
        compute->waiting = false;
        take_jobs(compute);
        see_cancels(compute);
    }
    bool stop = agent->stop;
    pthread_mutex_unlock(&agent->lock);
    return !stop;
}

static void *compute_main(void *arg)
{
    struct compute *compute = arg;
    int64_t wait = 0;
    while (next_work(compute, wait)) {
        wait = INT64_MAX;
        for (size_t i = 0; i < compute->opened_len; i++) {
            if (!is_busy(&compute->opened[i]))
                continue;
            int64_t wants = advance(compute, &compute->opened[i]);
            wait = wants < wait ? wants : wait;
        }
    }
    for (size_t i = 0; i < compute->opened_len; i++) {
        struct opened *opened = &compute->opened[i];
        for (size_t j = 0; opened->state != NULL && opened->spec->engine->cancel != NULL && j < opened->len; j++)
            opened->spec->engine->cancel(opened->state, opened->jobs[j]);
        if (opened->state != NULL)
            opened->spec->engine->close(&opened->state);
        free(opened->jobs);
        free(opened->held);
    }
    return NULL;
}

/* -- socket thread: sending ---------------------------------------------------------------------------------------- */

static void send_buf(struct agent *agent, struct buf *out)
{
    if (out->len > 0)
        port_send(agent->port, (struct slice){0}, buf_slice(out)); /* what is lost is sent again after the next HELLO */
    buf_clear(out);
}

static void send_msg(struct agent *agent, const struct msg *msg)
{
    struct buf out = {0};
    msg_put(&out, msg);
    send_buf(agent, &out);
}

/* How many tasks it would hold now. */
static uint32_t credits_now(const struct agent *agent)
{
    uint32_t most = agent->options.credits, room = agent->options.room != NULL ? agent->options.room() : most;
    return room < 1 ? 1 : room < most ? room : most;
}

static void send_heartbeat(struct agent *agent)
{
    int64_t now = clock_ms();
    agent->announced_ms = agent->held != NULL ? agent->busy_ms : agent->idle_ms;
    agent->beat_ms = now + agent->announced_ms;
    agent->credits = credits_now(agent);
    if (agent->options.trouble != NULL)
        agent->options.trouble(agent->trouble, sizeof agent->trouble);
    send_msg(agent, &(struct msg){.type = MSG_heartbeat,
                                  .heartbeat = {(uint32_t)agent->announced_ms, agent->tokens, agent->credits,
                                                slice_of(agent->trouble)}});
}

static void send_done(struct agent *agent, struct held *held, struct buf *out, int64_t now)
{
    held->sent_ms = now;
    buf_put(out, held->message.data, held->message.len);
    if (out->len > FRAME_BYTES)
        send_buf(agent, out);
}

/* Who we are, what we hold, and again whatever was not acknowledged. */
static void send_hello(struct agent *agent)
{
    struct buf out = {0};
    int64_t now = clock_ms();
    agent->asked_ms = 0; /* what was asked on another connection may not have come through */
    agent->announced_ms = agent->held != NULL ? agent->busy_ms : agent->idle_ms;
    agent->beat_ms = now + agent->announced_ms;
    msg_put(&out, &(struct msg){
                      .type = MSG_hello,
                      .hello = {.version = PROTOCOL_VERSION,
                                .shares = true,
                                .agent = agent->id,
                                .name = slice_of(agent->options.name),
                                .verifier = agent->options.verifier,
                                .kinds = slice_of(agent->options.kinds),
                                .credits = agent->credits = credits_now(agent),
                                .next_ms = (uint32_t)agent->announced_ms,
                                .pid = (uint64_t)getpid(),
                                .devices = slice_of(agent->options.devices == NULL ? "" : agent->options.devices)}});
    for (size_t i = 0; i < agent->options.offers_len && i < LIMIT_OFFERS; i++) {
        const struct offer *offer = &agent->options.offers[i];
        msg_put(&out, &(struct msg){
                          .type = MSG_offer,
                          .offer = {slice_of(offer->model), offer->context, offer->features, slice_of(offer->server)}});
    }
    struct held *held, *next;
    HASH_ITER (hh, agent->held, held, next)
        msg_put(&out, &(struct msg){.type = MSG_running, .running = {held->job.lease}});
    send_buf(agent, &out);
    if (agent->drain_ms != 0)
        msg_put(&out, &(struct msg){.type = MSG_drain});
    HASH_ITER (hh, agent->held, held, next)
        if (held->message.len > 0 && held->sent_ms > 0)
            send_done(agent, held, &out, now);
    send_buf(agent, &out);
}

/* -- socket thread: receiving --------------------------------------------------------------------------------------- */

static struct spec *spec_find(struct agent *agent, bool verify, uint32_t id)
{
    for (size_t i = 0; i < agent->specs_len; i++)
        if (agent->specs[i]->verify == verify && agent->specs[i]->id == id)
            return agent->specs[i];
    return NULL;
}

/* Ids belong to one journal: another broker behind the same address may use them for something else. */
static void on_spec(struct agent *agent, const struct msg_spec *msg)
{
    struct spec *spec = spec_find(agent, msg->verify != 0, msg->id);
    if (spec != NULL && spec->json.len == msg->json.len && memcmp(spec->json.data, msg->json.data, msg->json.len) == 0)
        return;
    if (spec != NULL)
        spec->id = UINT32_MAX; /* jobs of it may still run */
    if (agent->specs_len == SPECS_MAX || msg->json.len > LIMIT_SPEC)
        return;
    spec = xalloc(sizeof *spec);
    spec->verify = msg->verify != 0;
    spec->id = msg->id;
    buf_put(&spec->json, msg->json.data, msg->json.len);
    spec->engine = agent->options.pick(buf_slice(&spec->json));
    spec->reads = agent->options.reads(buf_slice(&spec->json));
    agent->specs[agent->specs_len++] = spec;
}

/* The last user frees them. */
static void texts_leave(struct texts **leaves)
{
    struct texts *texts = *leaves;
    *leaves = NULL;
    if (texts == NULL || --texts->users > 0)
        return;
    for (uint32_t i = 0; i < texts->len; i++) {
        buf_clear(&texts->at[i]);
        buf_clear(&texts->answers[i]);
    }
    free(texts->at);
    free(texts->answers);
    free(texts->slices);
    free(texts);
}

static void held_free(struct agent *agent, struct held *held)
{
    HASH_DEL(agent->held, held);
    texts_leave(&held->texts);
    for (size_t i = 0; i < held->attached.len; i++)
        kept_release(agent->kept, held->kept[i]);
    free(held->kept);
    free(held->attached.at);
    buf_clear(&held->record);
    buf_clear(&held->text);
    buf_clear(&held->answer);
    buf_clear(&held->cue);
    buf_clear(&held->message);
    buf_clear(&held->job.out);
    buf_clear(&held->job.found);
    buf_clear(&held->job.detail);
    free(held);
}

/* The text that a path of blobs spells, and the answer of its last. */
static int read_path(struct slice path, struct buf *text, struct buf *answer)
{
    size_t offset = 0;
    struct slice blob, found, frame;
    int rc;
    while ((rc = path_next(path, &offset, &blob)) == 0) {
        rc = blob_get(blob, &found, &frame);
        if (rc == 0 && text->len <= LIMIT_TEXT)
            rc = text_unpack(frame, LIMIT_TEXT - text->len, text);
        if (rc != 0)
            return rc;
        buf_reset(answer);
        buf_put(answer, found.data, found.len);
    }
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* The texts of a group, or of earlier attempts, each by itself. */
static int read_texts(struct slice path, struct texts *texts)
{
    size_t offset = 0, bytes = 0;
    struct slice blob, found, frame;
    int rc;
    while ((rc = path_next(path, &offset, &blob)) == 0) {
        if (texts->len == LIMIT_N)
            return ERR_LIMIT;
        texts->at = xrealloc(texts->at, (texts->len + 1) * sizeof *texts->at);
        texts->answers = xrealloc(texts->answers, (texts->len + 1) * sizeof *texts->answers);
        struct buf *text = &texts->at[texts->len], *answer = &texts->answers[texts->len++];
        *text = *answer = (struct buf){0};
        if (blob.len == 0)
            continue; /* of a rollout that failed */
        rc = blob_get(blob, &found, &frame);
        if (rc == 0)
            rc = text_unpack(frame, LIMIT_TEXT, text);
        bytes += text->len;
        if (rc == 0 && bytes > LIMIT_MESSAGE)
            rc = ERR_LIMIT;
        if (rc != 0)
            return rc;
        buf_put(answer, found.data, found.len);
    }
    texts->slices = xalloc((texts->len + 1) * sizeof *texts->slices);
    for (uint32_t i = 0; i < texts->len; i++)
        texts->slices[i] = buf_slice(&texts->at[i]);
    return rc == ERR_NOT_FOUND ? 0 : ERR_CORRUPT;
}

/* The group of a task: its own texts, or those that came before in this frame. */
static int find_texts(struct agent *agent, const struct msg_task *task)
{
    if (task->group == GROUP_NONE)
        return 0;
    if (task->group != GROUP_BEFORE) {
        texts_leave(&agent->texts);
        agent->texts = xalloc(sizeof *agent->texts);
        agent->texts->users = 1;
        agent->texts_code = read_texts(task->path, agent->texts);
    }
    if (agent->texts_code < 0)
        return agent->texts_code;
    return task->item < agent->texts->len ? 0 : ERR_CORRUPT;
}

static void join_texts(struct held *held, struct texts *texts)
{
    held->texts = texts;
    texts->users++;
    held->job.group = texts->slices;
    held->job.group_len = texts->len;
    held->job.text = texts->slices[held->job.ordinal];
    held->job.answer = buf_slice(&texts->answers[held->job.ordinal]);
}

static int join_turns(struct held *held, const struct msg_task *task)
{
    held->texts = xalloc(sizeof *held->texts);
    held->texts->users = 1;
    int rc = read_texts(task->path, held->texts);
    held->job.turns = held->texts->slices;
    held->job.turns_len = rc == 0 ? held->texts->len : 0;
    return rc;
}

/* The path of a task that has a cue, with its text: at the end of the path if it is inline, else for between attempts. */
static int join_cue(struct agent *agent, struct held *held, const struct msg_task *task)
{
    struct job *job = &held->job;
    if (held->verify || agent->options.cue == NULL)
        return ERR_CORRUPT;
    if (task->cue >= CUES)
        return ERR_VERSION;
    job->cue = (enum cue)task->cue;
    bool turn = job->cue == CUE_REVISE;
    int rc = turn ? join_turns(held, task) : read_path(task->path, &held->text, &held->answer);
    struct buf *to = turn ? &held->cue : &held->text;
    size_t before = to->len;
    if (rc == 0)
        rc = agent->options.cue(buf_slice(&held->spec->json), job->cue, to);
    if (rc != 0)
        return rc;
    job->text = buf_slice(&held->text);
    job->cue_text = (struct slice){to->data + before, to->len - before};
    return 0;
}

/* Asks for the next attachment that a task waits for; again when no answer came. */
static void ask_next(struct agent *agent)
{
    struct attachment_id id;
    int64_t now = clock_ms();
    if (!kept_wanted(agent->kept, &id))
        return;
    bool same = id.high == agent->asked.high && id.low == agent->asked.low;
    if (same && agent->asked_ms != 0 && now - agent->asked_ms < RESEND_MS)
        return;
    agent->asked = id;
    agent->asked_ms = now;
    send_msg(agent, &(struct msg){.type = MSG_want, .want = {id.high, id.low}});
}

/* The task holds what its record names; it waits for what is not here. */
static void hold_attached(struct agent *agent, struct held *held)
{
    struct attachment_id id;
    struct slice name;
    for (size_t at = 0; attachment_next(buf_slice(&held->record), &at, &id, &name);) {
        size_t len = held->attached.len++;
        held->kept = xrealloc(held->kept, (len + 1) * sizeof(struct kept *));
        held->attached.at = xrealloc(held->attached.at, (len + 1) * sizeof *held->attached.at);
        held->kept[len] = kept_hold(agent->kept, id);
        held->attached.at[len].id = id;
        held->lacks += !kept_data(held->kept[len], &held->attached.at[len].data);
    }
    held->job.attached = &held->attached;
}

static void arrived(struct agent *agent, const struct kept *kept)
{
    struct held *held, *next;
    pthread_mutex_lock(&agent->lock);
    HASH_ITER (hh, agent->held, held, next)
        for (size_t i = 0; held->lacks > 0 && i < held->attached.len; i++)
            if (held->kept[i] == kept) {
                kept_data(kept, &held->attached.at[i].data);
                held->lacks--;
            }
    pthread_mutex_unlock(&agent->lock);
}

static bool lacks(const struct held *held, const struct kept *kept)
{
    for (size_t i = 0; held->lacks > 0 && i < held->attached.len; i++)
        if (held->kept[i] == kept)
            return true;
    return false;
}

/* The journal of this broker does not have it: another attempt may meet one that has. */
static void fail_without(struct agent *agent, const struct kept *kept)
{
    struct held *held, *next;
    HASH_ITER (hh, agent->held, held, next) {
        if (held->state != HELD_WAITING || !lacks(held, kept))
            continue;
        pthread_mutex_lock(&agent->lock);
        DL_DELETE(agent->inbox, held);
        pthread_mutex_unlock(&agent->lock);
        held->lacks = 0;
        hand_over(agent, held, MSG_failed,
                  "data that is attached to its prompt is not in the broker's journal, or damaged there: run `drover "
                  "audit` on it");
    }
}

static void on_attachment(struct agent *agent, const struct msg_attachment *msg)
{
    struct attachment_id id = {msg->high, msg->low};
    const struct kept *waiting = kept_waiting(agent->kept, id), *kept = kept_arrived(agent->kept, id, msg->data);
    if (kept != NULL) {
        agent->asked_ms = 0;
        arrived(agent, kept);
    } else if (waiting != NULL) {
        fail_without(agent, waiting);
    }
}

/* Why a task cannot even begin. */
static const char *why_not(int rc)
{
    switch (rc) {
    case ERR_LIMIT:
        return "the texts that belong to it are longer than the limit (see `drover help limits`)";
    case ERR_VERSION:
        return "it has a cue or an end that this agent does not know: run the broker's release of drover";
    default:
        return "the text that the broker sent is damaged";
    }
}

static void on_task(struct agent *agent, const struct msg_task *task)
{
    struct held *held;
    int rc = find_texts(agent, task);
    HASH_FIND(hh, agent->held, &task->lease, sizeof task->lease, held);
    if (held != NULL)
        return; /* told twice */
    held = xalloc(sizeof *held);
    held->verify = task->verify != 0;
    held->spec = spec_find(agent, held->verify, task->spec);
    buf_put(&held->record, task->record.data, task->record.len);
    if (task->group == GROUP_NONE && task->cue == CUE_NONE)
        rc = read_path(task->path, &held->text, &held->answer);
    if (task->step >= EXTENTS)
        rc = ERR_VERSION;
    held->job = (struct job){
        .lease = task->lease,
        .seed = task->seed,
        .prompt = task->prompt,
        .ordinal = task->item,
        .tokens_max = task->tokens_max,
        .timeout_ms = task->timeout_ms,
        .kill_window = task->kill_window,
        .kill_below = task->kill_below,
        .step = task->step == EXTENT_STEP,
        .think = task->step == EXTENT_THINK,
        .finished = task->finished != 0,
        .record = buf_slice(&held->record),
        .text = buf_slice(&held->text),
        .answer = buf_slice(&held->answer),
        .state = JOB_RUNNING,
    };
    if (task->group != GROUP_NONE && rc == 0)
        join_texts(held, agent->texts);
    else if (task->cue != CUE_NONE && held->spec != NULL && rc == 0)
        rc = join_cue(agent, held, task);
    HASH_ADD(hh, agent->held, job.lease, sizeof held->job.lease, held);
    held->job.began_ms = clock_ms();
    if (held->spec == NULL || rc != 0) {
        hand_over(agent, held, held->spec == NULL ? MSG_refused : MSG_failed,
                  held->spec == NULL ? "its model or verifier is unknown to this agent" : why_not(rc));
        return;
    }
    held->job.spec = buf_slice(&held->spec->json);
    if (held->spec->reads)
        hold_attached(agent, held);
    pthread_mutex_lock(&agent->lock);
    DL_APPEND(agent->inbox, held);
    pthread_mutex_unlock(&agent->lock);
}

/* Stops a job if it is not finished; it comes back through the outbox as returned. */
static void stop_job(struct agent *agent, struct held *held)
{
    pthread_mutex_lock(&agent->lock);
    enum held_state state = held->state;
    held->cancel = true;
    agent->cancels++;
    if (state == HELD_WAITING)
        DL_DELETE(agent->inbox, held);
    wake_computes(agent);
    pthread_mutex_unlock(&agent->lock);
    if (state != HELD_WAITING)
        return;
    held->job.began_ms = clock_ms();
    hand_over(agent, held, MSG_returned, "");
}

static void on_ack(struct agent *agent, const struct msg_ack *ack)
{
    struct held *held;
    HASH_FIND(hh, agent->held, &ack->lease, sizeof ack->lease, held);
    if (held != NULL && held->sent_ms > 0)
        held_free(agent, held);
}

static void on_cancel(struct agent *agent, const struct msg_cancel *cancel)
{
    struct held *held;
    HASH_FIND(hh, agent->held, &cancel->lease, sizeof cancel->lease, held);
    if (held != NULL)
        stop_job(agent, held);
}

static void begin_drain(struct agent *agent)
{
    if (agent->drain_ms != 0)
        return;
    agent->drain_ms = clock_ms() + DRAIN_MS;
    send_msg(agent, &(struct msg){.type = MSG_drain});
    struct held *held, *next;
    HASH_ITER (hh, agent->held, held, next)
        stop_job(agent, held);
}

static void on_welcome(struct agent *agent, const struct msg_welcome *welcome)
{
    agent->welcomed = true;
    agent->busy_ms = welcome->busy_ms < 20 ? 20 : welcome->busy_ms;
    agent->idle_ms = welcome->idle_ms < 20 ? 20 : welcome->idle_ms;
    send_heartbeat(agent);
}

static int on_msg(struct agent *agent, const struct msg *msg)
{
    switch ((int)msg->type) {
    case MSG_welcome:
        on_welcome(agent, &msg->welcome);
        return 0;
    case MSG_spec:
        on_spec(agent, &msg->spec);
        return 0;
    case MSG_task:
        on_task(agent, &msg->task);
        return 0;
    case MSG_attachment:
        on_attachment(agent, &msg->attachment);
        return 0;
    case MSG_ack:
        on_ack(agent, &msg->ack);
        return 0;
    case MSG_cancel:
        on_cancel(agent, &msg->cancel);
        return 0;
    case MSG_drain:
        begin_drain(agent);
        return 0;
    case MSG_who:
        send_hello(agent);
        return 0;
    case MSG_refuse:
        log_line(0, "the broker refuses this agent: %.*s", (int)msg->refuse.reason.len, msg->refuse.reason.data);
        return ERR_REFUSED;
    }
    return 0; /* of a newer broker, or of no concern here */
}

/* A replaced broker falls silent by itself. One that goes on has another state folder, and would wait for us for ever. */
static void tell_fenced(struct agent *agent, uint64_t epoch)
{
    if (!agent->fenced)
        log_line(0,
                 "the broker at %s has epoch %llu, but this agent has served epoch %llu: it ignores a broker that was "
                 "replaced; if that one began anew with an empty state folder, start this agent again",
                 agent->endpoint, (unsigned long long)epoch, (unsigned long long)agent->epoch);
    agent->fenced = true;
}

/* Frames of a lower epoch come from a broker that was replaced: nothing in them counts. */
static int on_frame(struct agent *agent, struct slice frame)
{
    struct msg msg;
    size_t offset = 0;
    bool had_work = agent->held != NULL;
    if (!record_frame_valid(frame) || msg_get(frame, &offset, &msg) != 0 || msg.type != MSG_epoch)
        return 0;
    if (msg.epoch.number < agent->epoch) {
        tell_fenced(agent, msg.epoch.number);
        return 0;
    }
    agent->epoch = msg.epoch.number;
    agent->texts_code = ERR_CORRUPT; /* no texts have come yet */
    int rc = 0;
    while (rc == 0 && offset < frame.len && msg_get(frame, &offset, &msg) == 0)
        rc = on_msg(agent, &msg);
    texts_leave(&agent->texts);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&agent->lock);
    if (agent->inbox != NULL)
        wake_computes(agent);
    pthread_mutex_unlock(&agent->lock);
    if (!had_work && agent->held != NULL && agent->announced_ms > agent->busy_ms)
        send_heartbeat(agent); /* the last one promised the next too late for a busy agent */
    return 0;
}

/* -- the loop ------------------------------------------------------------------------------------------------------- */

static void flush_outbox(struct agent *agent)
{
    uint64_t count;
    ssize_t got = read(agent->wake, &count, sizeof count);
    (void)got;
    pthread_mutex_lock(&agent->lock);
    struct held *done = agent->outbox, *held, *next;
    agent->outbox = NULL;
    pthread_mutex_unlock(&agent->lock);
    struct buf out = {0};
    int64_t now = clock_ms();
    DL_FOREACH_SAFE (done, held, next) {
        held->prev = held->next = NULL;
        agent->tokens += held->job.result.tokens_out;
        send_done(agent, held, &out, now);
    }
    send_buf(agent, &out);
}

static void resend_old(struct agent *agent, int64_t now)
{
    struct buf out = {0};
    struct held *held, *next;
    HASH_ITER (hh, agent->held, held, next)
        if (held->sent_ms > 0 && now - held->sent_ms > RESEND_MS)
            send_done(agent, held, &out, now);
    send_buf(agent, &out);
}

/* Told again while it drains, it is done soon anyway: to leave at once would not say what its tasks have used, and they would
 * be booked at all that they might have. */
static void on_signal(struct agent *agent, int fd)
{
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    if (info.ssi_signo == SIGINT && agent->options.parent != 0)
        return; /* from the terminal: the parent decides */
    begin_drain(agent);
}

static int connect_to(struct agent *agent, const char *endpoint, struct error *error)
{
    struct port *port;
    int rc = port_dealer(endpoint, (int)agent->options.credits + 64, &port, error);
    if (rc != 0)
        return rc;
    port_close(&agent->port, 0); /* what was on its way is sent again after the next HELLO */
    agent->port = port;
    snprintf(agent->endpoint, sizeof agent->endpoint, "%s", endpoint);
    return 0;
}

/* No connection: has the broker started again elsewhere? */
static int look_elsewhere(struct agent *agent, int64_t now, struct error *error)
{
    struct join join;
    agent->look_ms = now + LOOK_MS;
    if (join_file_read(agent->options.join, &join, NULL) != 0 || strcmp(join.agents, agent->endpoint) == 0)
        return 0;
    log_line(0, "the broker is at %s now", join.agents);
    if (connect_to(agent, join.agents, error) != 0)
        log_line(0, "%s", error->text); /* the file may be right the next time */
    return 0;
}

/* Tells the broker of room that has changed by an eighth or more; less can wait for the next heartbeat. */
static void follow_room(struct agent *agent, int64_t now)
{
    if (agent->options.room == NULL || now < agent->room_ms || !port_reached(agent->port))
        return;
    agent->room_ms = now + ROOM_MS;
    uint32_t credits = credits_now(agent), told = agent->credits;
    uint32_t change = credits > told ? credits - told : told - credits;
    if (change * 8 > told)
        send_heartbeat(agent);
}

/* The next time that something is due whatever comes in. */
static int64_t next_due(const struct agent *agent, int64_t now)
{
    int64_t due = agent->drain_ms != 0 ? now + 20 : agent->beat_ms;
    if (agent->options.room != NULL && agent->room_ms < due)
        due = agent->room_ms > now ? agent->room_ms : now + ROOM_MS;
    return agent->options.join != NULL && !port_reached(agent->port) && agent->look_ms < due ? agent->look_ms : due;
}

/* Said once: whoever started it would wait for work that never comes. */
static void say_missing(struct agent *agent, int64_t now)
{
    if (agent->welcomed || agent->options.parent != 0 || now < agent->start_ms + PATIENCE_MS)
        return;
    agent->welcomed = true;
    if (port_reached(agent->port))
        log_line(0,
                 "what answers at %s welcomes no agents: this must be `listen` of the broker's cluster.conf, not "
                 "`clients`; trying on",
                 agent->endpoint);
    else
        log_line(
            0,
            "no broker answers at %s: start `drover broker` there, or name its address with --connect or `listen` of "
            "cluster.conf; trying on",
            agent->endpoint);
}

static int agent_loop(struct agent *agent, int signals)
{
    struct error error;
    int fds[2] = {agent->wake, signals};
    for (;;) {
        int64_t now = clock_ms();
        int64_t until = next_due(agent, now);
        port_wait(&agent->port, 1, fds, 2, until > now ? until - now : 0);
        on_signal(agent, signals);
        if (port_connected(agent->port))
            send_hello(agent);
        struct slice peer, frame;
        int got;
        while ((got = port_recv(agent->port, &peer, &frame)) != ERR_NOT_FOUND)
            if (got == 0 && on_frame(agent, frame) != 0)
                return 1;
        flush_outbox(agent);
        ask_next(agent);
        now = clock_ms();
        if (agent->options.join != NULL && !port_reached(agent->port) && now >= agent->look_ms &&
            look_elsewhere(agent, now, &error) != 0) {
            log_line(0, "%s", error.text);
            return 2;
        }
        follow_room(agent, now);
        say_missing(agent, now);
        if (now >= agent->beat_ms) {
            resend_old(agent, now);
            send_heartbeat(agent);
        }
        if (agent->options.parent != 0 && getppid() != agent->options.parent)
            return 0;
        if (agent->drain_ms != 0 && (agent->held == NULL || now >= agent->drain_ms))
            return 0;
    }
}

static pthread_t *threads_start(struct agent *agent)
{
    uint32_t len = agent->options.threads;
    pthread_t *threads = xalloc(len * sizeof *threads);
    agent->computes = xalloc(len * sizeof(struct compute *));
    for (uint32_t i = 0; i < len; i++) {
        agent->computes[i] = xalloc(sizeof **agent->computes);
        agent->computes[i]->agent = agent;
        agent->computes[i]->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    }
    for (uint32_t i = 0; i < len; i++)
        pthread_create(&threads[i], NULL, compute_main, agent->computes[i]);
    return threads;
}

/* False: one waits for somebody else (a judge, a program) and has not come back in time. */
static bool threads_stop(struct agent *agent, pthread_t *threads)
{
    pthread_mutex_lock(&agent->lock);
    agent->stop = true;
    wake_computes(agent);
    pthread_mutex_unlock(&agent->lock);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += STOP_S;
    for (uint32_t i = 0; i < agent->options.threads; i++)
        if (pthread_timedjoin_np(threads[i], NULL, &until) != 0)
            return false;
    for (uint32_t i = 0; i < agent->options.threads; i++) {
        close(agent->computes[i]->wake);
        free(agent->computes[i]);
    }
    free(agent->computes);
    return true;
}

static void agent_clear(struct agent *agent)
{
    struct held *held, *next;
    HASH_ITER (hh, agent->held, held, next)
        held_free(agent, held);
    for (size_t i = 0; i < agent->specs_len; i++) {
        buf_clear(&agent->specs[i]->json);
        free(agent->specs[i]);
    }
    kept_table_free(&agent->kept);
    close(agent->wake);
}

static void die_with_parent(int parent)
{
    if (parent == 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0); /* it died before the line above */
}

int agent_run(const struct agent_options *options)
{
    struct agent agent = {.options = *options,
                          .id = options->id,
                          .busy_ms = 2000,
                          .idle_ms = 2000,
                          .kept = kept_table_new(LIMIT_KEPT),
                          .wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    die_with_parent(options->parent);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    int signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    while (agent.id == 0)
        if (getrandom(&agent.id, sizeof agent.id, 0) != (ssize_t)sizeof agent.id)
            agent.id = 0;
    struct error error;
    if (connect_to(&agent, options->endpoint, &error) != 0) {
        log_line(0, "%s", error.text);
        return 2;
    }
    pthread_mutex_init(&agent.lock, NULL);
    pthread_t *threads = threads_start(&agent);
    agent.start_ms = clock_ms();
    agent.beat_ms = agent.start_ms + agent.busy_ms;
    int rc = agent_loop(&agent, signal_fd);
    send_msg(&agent, &(struct msg){.type = MSG_bye});
    port_close(&agent.port, 200);
    if (!threads_stop(&agent, threads)) {
        fflush(NULL);
        _exit(rc); /* its state is still in use; what it waits for dies with the process, or does not care */
    }
    agent_clear(&agent);
    free(threads);
    close(signal_fd);
    return rc;
}
