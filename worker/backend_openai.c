/* backend_openai.c - inference servers as a generator: one request per rollout, hundreds at a time.
 *
 * With option `per_request` rollouts of one prompt that wait together go in one request: the first of them leads, the
 * others ride along. Riders have no request of their own and share what becomes of it. One that is cancelled leaves its
 * choice behind; the request ends with the last of them. Who tries again tries alone.
 *
 * A job waits until a server has room (servers.h), is asked for, and asked for again elsewhere or later while its trouble
 * is one that passes and its time lasts. Answers come whole; they are streamed when something here may end one early.
 * Cancelling closes the connection, which is what servers take for an abort; the one that has a call for it gets that
 * too. */
#include "common/io/clock.h"
#include "common/io/http.h"
#include "common/io/secret.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/limits.h"
#include "common/rng.h"
#include "common/sse.h"
#include "worker/backend.h"
#include "worker/completion.h"
#include "worker/cues.h"
#include "worker/openai_answer.h"
#include "worker/openai_spec.h"
#include "worker/servers.h"
#include "worker/token_memory.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <utlist.h>

enum {
    TIMEOUT_MS = 600000, /* of a job that has none */
    ROOM_MS = 50,        /* another thread's request may have made room */
    DOWN_MS = 200,
    SWEEP_MS = 250, /* how exact timeouts are */
    BACKOFF_MS = 500,
    BACKOFF_MAX_MS = 30000,
    ATTEMPTS_MAX = 8, /* failures that are not overload */
    OVER_MAX = 8,     /* tokens beyond the cap before a stream is cut: chunks are not exact */
    ABORT_MS = 10000,
    COUNT_MS = 60000,
};

struct state {
    struct openai_spec spec;
    struct http *http;
    struct work *waiting, *flying, *refused;
    size_t works, good; /* good: answers so far */
    uint64_t rng;       /* of back-offs and request ids: they decide nothing that is recorded */
    int64_t sweep_ms;
};

/* A job between its first advance and its end. */
struct work {
    struct state *state;
    struct job *job;
    struct work **list; /* that it is on; NULL: none */
    struct buf prompt;
    uint64_t affinity;
    int64_t came_ms, first_ms; /* the first request went out; 0: none yet */
    int64_t next_ms;           /* not before */
    uint32_t attempts, overloads;
    struct error trouble; /* of the last attempt */

    /* of this attempt */
    char id[REQUEST_ID + 1];
    struct work *riders; /* of one that leads */
    size_t choice;       /* of the answer */
    struct server_lane lane;
    struct upstream *avoid;
    struct http_transfer *transfer;
    struct completion completion;
    struct sse sse;
    struct server_outcome outcome; /* while the prompt is counted */
    struct error broken;           /* the stream made no sense */
    int broken_rc;
    size_t searched;                                /* of the text, for a step that we cut ourselves */
    bool stream, own_step, stepped, killed, closed; /* closed: [DONE] came */
    struct buf tokens;                              /* that the prompt was sent as; empty: text */
    bool with_ids;                                  /* tokens were sent or asked for */
    struct upstream *ids_refused; /* by it, perhaps because of them: from now on by text, everywhere */
    struct work *prev, *next;
};

/* Says nothing about a server. */
static const struct server_outcome nothing = {.cancelled = true, .retry_after_ms = -1};

static uint64_t draw(struct state *state)
{
    state->rng = rng_mix(state->rng + 0x9E3779B97F4A7C15u);
    return state->rng;
}

static void move(struct work *work, struct work **to)
{
    if (work->list != NULL)
        DL_DELETE(*work->list, work);
    work->list = to;
    if (to != NULL)
        DL_APPEND(*to, work);
}

/* -- ending a job ----------------------------------------------------------------------------------------------------- */

static void attempt_clear(struct work *work)
{
    assert(work->riders == NULL);
    completion_clear(&work->completion);
    sse_clear(&work->sse);
    work->lane.server = NULL;
    work->transfer = NULL;
    work->broken_rc = 0;
    work->searched = 0;
    work->stepped = work->killed = work->closed = false;
    buf_reset(&work->tokens);
    work->with_ids = false;
}

static void work_free(struct work *work)
{
    move(work, NULL);
    attempt_clear(work);
    buf_clear(&work->prompt);
    buf_clear(&work->tokens);
    work->job->engine_data = NULL;
    work->state->works--;
    free(work);
}

static void fail_job(struct work *work, int rc, const char *why)
{
    struct job *job = work->job;
    buf_reset(&job->out);
    error_set(&job->error, rc, "openai: %.480s", why);
    secret_hide(job->error.text, work->lane.key);
    job->state = JOB_FAILED;
    work_free(work);
}

/* The tokens behind a step, or a phase of thinking, are kept for those that continue it. */
static void keep_tokens(const struct work *work)
{
    const struct server_lane *lane = &work->lane;
    struct token_text text = {lane->dialect->name, lane->model, buf_slice(&work->prompt),
                              buf_slice(&work->completion.choices[0].text)};
    struct buf tokens = {0};
    if (openai_tokens(&work->state->spec, &work->completion, lane->dialect, buf_slice(&work->prompt),
                      buf_slice(&work->tokens), &tokens))
        token_memory_keep(&text, buf_slice(&tokens));
    buf_clear(&tokens);
}

static void finish_job(struct work *work, enum finish finish)
{
    struct job *job = work->job;
    if (work->with_ids && openai_goes_on(&work->state->spec, job, &work->completion, finish))
        keep_tokens(work);
    if (work->ids_refused == work->lane.server)
        server_without_ids(work->lane.server);
    job->result.by_ids = work->tokens.len > 0;
    openai_take(&work->completion, work->lane.dialect, finish, job);
    job->result.latency_ms = (uint32_t)(clock_ms() - work->first_ms);
    job->state = JOB_DONE;
    work->state->good++;
    work_free(work);
}

/* The servers refuse this one. Whether it is to blame, or what all have in common (a wrong option, another model), is known
 * once another gets an answer. */
static void refuse(struct work *work)
{
    move(work, &work->state->refused);
}

static void settle_refused(struct state *state)
{
    struct work *work, *next;
    if (state->good == 0 && (state->waiting != NULL || state->flying != NULL))
        return;
    DL_FOREACH_SAFE (state->refused, work, next) {
        work->job->final = state->good > 0;
        fail_job(work, ERR_REFUSED, work->trouble.text);
    }
}

static int64_t timeout_of(const struct work *work)
{
    return work->job->timeout_ms > 0 ? (int64_t)work->job->timeout_ms : TIMEOUT_MS;
}

/* -- trying again ----------------------------------------------------------------------------------------------------- */

/* Full jitter: anywhere up to the doubled step. */
static int64_t backoff(struct state *state, uint32_t tries)
{
    int64_t most = BACKOFF_MS;
    for (uint32_t i = 1; i < tries && most < BACKOFF_MAX_MS; i++)
        most *= 2;
    return (int64_t)(draw(state) % (uint64_t)(most < BACKOFF_MAX_MS ? most : BACKOFF_MAX_MS));
}

static void fail_tried(struct work *work, int rc)
{
    char why[480];
    snprintf(why, sizeof why, "%.400s (attempt %u)", work->trouble.text, work->attempts + work->overloads);
    fail_job(work, rc, why);
}

/* The last attempt failed in a way that passes. wait_ms: -1 for a back-off of ours. */
static void try_again(struct work *work, bool overload, int64_t wait_ms)
{
    struct state *state = work->state;
    int64_t now = clock_ms();
    uint32_t tries = overload ? ++work->overloads : ++work->attempts;
    if (wait_ms < 0) /* the first time at once, where there is another server: see `avoid` */
        wait_ms = tries == 1 && servers_len() > 1 ? 0 : backoff(state, tries);
    work->next_ms = now + wait_ms;
    work->avoid = work->lane.server;
    move(work, NULL);
    attempt_clear(work);
    if (work->attempts >= ATTEMPTS_MAX || work->next_ms - work->first_ms >= timeout_of(work)) {
        fail_tried(work, ERR_CLOSED);
        return;
    }
    move(work, &state->waiting);
}

/* -- reading answers -------------------------------------------------------------------------------------------------- */

/* The step's separator in what came since the last look: the rest is not wanted. */
static bool find_step(struct work *work)
{
    struct buf *text = &work->completion.choices[0].text;
    struct slice step = work->state->spec.step;
    size_t from = work->searched >= step.len ? work->searched - step.len + 1 : 0;
    work->searched = text->len;
    char *at = text->len > from ? memmem(text->data + from, text->len - from, step.data, step.len) : NULL;
    if (at == NULL)
        return false;
    text->len = (size_t)(at - text->data) + step.len;
    text->data[text->len] = '\0';
    return true;
}

enum { STREAM_ENOUGH = 1 };

static int on_event(void *user, struct slice data)
{
    struct work *work = user;
    if (data.len == 6 && memcmp(data.data, "[DONE]", 6) == 0) {
        work->closed = true;
        return 0;
    }
    int rc = completion_read(&work->completion, data, &work->broken);
    if (rc != 0)
        return rc;
    if (work->completion.complained)
        return STREAM_ENOUGH;
    work->stepped = work->own_step && find_step(work);
    const struct choice *choice = &work->completion.choices[0];
    work->killed =
        !work->stepped && choice->finish[0] == '\0' && logprobs_below(&choice->logprobs, work->job->kill_below);
    if (work->stepped || work->killed)
        return STREAM_ENOUGH;
    if (choice->logprobs.len > (uint64_t)openai_tokens_max(&work->state->spec, work->job) + OVER_MAX)
        return error_set(&work->broken, ERR_PROTOCOL, "the server goes on beyond max_tokens");
    return 0;
}

static bool on_data(void *user, struct slice bytes)
{
    struct work *work = user;
    int rc = sse_feed(&work->sse, bytes, on_event, work);
    if (rc < 0) {
        work->broken_rc = rc;
        if (rc == ERR_LIMIT && work->broken.text[0] == '\0')
            error_set(&work->broken, rc, "an event of the stream is too long");
    }
    return rc == 0;
}

/* -- one attempt's end ------------------------------------------------------------------------------------------------ */

/* How it went, in the words of servers.h and of try_again. */
struct ended {
    struct server_outcome outcome;
    enum http_retry retry;
    int rc;      /* 0: there is an answer to read */
    bool common; /* HTTP_NEVER: the server would say it to everybody */
};

static enum http_retry retry_of_code(double code)
{
    return code >= 400 && code < 500 && code != 408 && code != 409 && code != 425 && code != 429 ? HTTP_NEVER
                                                                                                 : HTTP_LATER;
}

static struct ended judge_status(struct work *work, const struct http_reply *reply)
{
    struct ended ended = {.retry = reply->retry, .rc = ERR_REFUSED};
    ended.common = reply->status == 401 || reply->status == 403 || reply->status == 404;
    ended.outcome.overload = reply->status == 429 || reply->status == 503;
    ended.outcome.transport = reply->retry == HTTP_LATER && !ended.outcome.overload && reply->status >= 500;
    if (completion_read(&work->completion, reply->body, NULL) != 0 || !work->completion.complained)
        snprintf(work->completion.complaint, sizeof work->completion.complaint, "%.*s",
                 (int)(reply->body.len < 300 ? reply->body.len : 300),
                 reply->body.data != NULL ? reply->body.data : "");
    secret_hide(work->completion.complaint, work->lane.key);
    error_set(&work->trouble, ERR_REFUSED, "%.300s (HTTP %u from %s)", work->completion.complaint, reply->status,
              work->lane.url);
    return ended;
}

/* An answer of status 200 came to an end: whether it is one. */
static struct ended judge_answer(struct work *work, const struct http_reply *reply)
{
    struct ended ended = {.retry = HTTP_LATER};
    if (!work->stream)
        work->broken_rc = completion_read(&work->completion, reply->body, &work->broken);
    secret_hide(work->completion.complaint, work->lane.key);
    if (work->completion.complained) {
        ended.retry = retry_of_code(work->completion.complaint_code);
        ended.outcome.overload = work->completion.complaint_code == 429 || work->completion.complaint_code == 503;
        ended.rc =
            error_set(&work->trouble, ERR_REFUSED, "%.300s (from %s)", work->completion.complaint, work->lane.url);
    } else if (work->broken_rc != 0) {
        ended.retry = work->broken_rc == ERR_SYNTAX ? HTTP_LATER : HTTP_NEVER;
        ended.outcome.transport = ended.retry == HTTP_LATER;
        ended.rc = error_set(&work->trouble, work->broken_rc, "its answer: %.300s (from %s)", work->broken.text,
                             work->lane.url);
    }
    return ended;
}

static struct ended judge(struct work *work, const struct http_reply *reply)
{
    struct ended ended = {.retry = reply->retry, .rc = reply->rc};
    if (reply->rc == 0 && reply->status / 100 != 2) {
        ended = judge_status(work, reply);
    } else if (reply->rc == 0) {
        ended = judge_answer(work, reply);
    } else {
        ended.outcome.transport = reply->retry != HTTP_NEVER;
        ended.common = reply->rc != ERR_LIMIT;
        error_set(&work->trouble, reply->rc, "%.400s", reply->error.text);
    }
    ended.outcome.retry_after_ms = reply->retry_after_ms;
    ended.outcome.total_ms = reply->total_ms;
    ended.outcome.requests = reply->requests;
    ended.outcome.tokens = reply->tokens;
    ended.outcome.tokens_max = openai_tokens_max(&work->state->spec, work->job) + work->prompt.len / 4;
    return ended;
}

/* The answer is there: finished, or not worth anything. */
static void take_answer(struct work *work, struct ended *ended)
{
    enum finish finish;
    struct openai_ending ending = {.own_step = work->own_step,
                                   .stepped = work->stepped,
                                   .killed = work->killed,
                                   .partial = work->stream && !work->closed};
    ended->rc = openai_judge(&work->state->spec, work->job, &work->completion, &ending, &finish, &work->trouble);
    if (ended->rc == 0) {
        finish_job(work, finish);
    } else if (ending.again) {
        try_again(work, false, -1);
    } else {
        char why[480];
        snprintf(why, sizeof why, "%.270s (%.200s)", work->trouble.text, work->lane.url);
        error_set(&work->trouble, ended->rc, "%s", why);
        refuse(work);
    }
}

/* -- counting a prompt ------------------------------------------------------------------------------------------------ */

/* A stream that was cut behind its step has told no usage. Its tokens were counted as they came; those of the prompt are
 * asked for with one more token. */
static void on_counted(void *user, const struct http_reply *reply)
{
    struct work *work = user;
    struct completion counted, *completion = &work->completion;
    uint32_t most = openai_tokens_max(&work->state->spec, work->job);
    struct ended ended = {.rc = 0};
    work->transfer = NULL;
    move(work, NULL);
    server_done(work->lane.server, &work->outcome, clock_ms());
    completion_init(&counted, 1, 0);
    if (reply->rc == 0 && reply->status == 200 && completion_read(&counted, reply->body, NULL) == 0 && counted.has_in) {
        openai_count(completion);
        completion->has_in = true;
        completion->tokens_in = counted.tokens_in;
        completion->tokens_cached = counted.tokens_cached;
        completion->tokens_out += completion->tokens_out < most ? counted.tokens_out : 0;
        take_answer(work, &ended);
    } else {
        error_set(&work->trouble, ERR_CLOSED, "%s: the prompt's tokens could not be counted (HTTP %u)", work->lane.url,
                  reply->status);
        try_again(work, false, -1);
    }
    completion_clear(&counted);
}

static struct http_transfer *post(struct work *work, const char *route, const struct buf *body,
                                  struct http_request request)
{
    char url[600], header[REQUEST_ID + 20];
    const char *const headers[] = {header, NULL};
    snprintf(header, sizeof header, "X-Request-Id: %s", work->id);
    snprintf(url, sizeof url, "%.500s%s", work->lane.url, route);
    request.url = url;
    request.body = buf_slice(body);
    request.bearer = work->lane.key;
    request.headers = headers;
    request.ca_file = work->lane.ca_file;
    return http_start(work->state->http, &request);
}

static void ignore_done(void *user, const struct http_reply *reply)
{
    (void)user;
    (void)reply;
}

/* Its request is over here: for a server that does not take the closed connection for that, or not at once. */
static void post_abort(struct work *work)
{
    struct buf body = {0};
    if (work->lane.dialect->abort_route == NULL)
        return;
    json_begin(&body, '{');
    json_key(&body, "rid");
    json_str(&body, work->id);
    json_end(&body, '}');
    post(work, work->lane.dialect->abort_route, &body,
         (struct http_request){.total_ms = ABORT_MS, .done = ignore_done});
    buf_clear(&body);
}

static const char *route_of(const struct work *work)
{
    return work->state->spec.chat ? work->lane.dialect->chat_route : work->lane.dialect->route;
}

static void count_prompt(struct work *work)
{
    struct slice stops[STOPS_MAX];
    struct ask ask;
    struct buf body = {0};
    openai_ask(&work->state->spec, work->job, buf_slice(&work->prompt), false, stops, &ask);
    ask.stops_len = 0;
    ask.tokens_max = 1;
    ask.logprobs = -1;
    ask.model = slice_of(work->lane.model);
    ask.id = work->id;
    work->lane.dialect->write(&ask, &body);
    attachments_fill(work->job->attached, &body);
    work->transfer = post(work, route_of(work), &body,
                          (struct http_request){.total_ms = COUNT_MS, .done = on_counted, .user = work});
    move(work, &work->state->flying);
    buf_clear(&body);
}

/* -- several rollouts of one request ---------------------------------------------------------------------------------- */

/* Part of a path or of turns, or watched: it has a request of its own. */
static bool goes_alone(const struct job *job)
{
    return job->step || job->think || job->cue != CUE_NONE || job->kill_window > 0;
}

static bool rides(const struct work *work)
{
    const struct state *state = work->state;
    return work->list != NULL && work->list != &state->waiting && work->list != &state->flying &&
           work->list != &state->refused;
}

/* Of those that wait, what may ride along: never tried, of the same prompt, as long. */
static void gather(struct work *work, int64_t now_ms)
{
    struct state *state = work->state;
    struct work *other, *next;
    size_t len = 1;
    if (state->spec.per_request <= 1 || !work->lane.dialect->many || !work->lane.logprobs || goes_alone(work->job) ||
        work->attempts > 0)
        return;
    DL_FOREACH_SAFE (state->waiting, other, next) {
        bool fits = other != work && !goes_alone(other->job) && other->attempts == 0 && other->next_ms <= now_ms &&
                    other->job->tokens_max == work->job->tokens_max && other->prompt.len == work->prompt.len &&
                    memcmp(other->prompt.data, work->prompt.data, work->prompt.len) == 0;
        if (!fits)
            continue;
        if (len == state->spec.per_request || !server_join(work->lane.server))
            return;
        other->lane = work->lane;
        other->choice = len++;
        if (other->first_ms == 0)
            other->first_ms = now_ms;
        move(other, &work->riders);
    }
}

/* The request is over: riders stand on their own again. How many there are, the leader among them. */
static size_t dissolve(struct work *work, struct work *members[CHOICES_MAX])
{
    size_t len = 0;
    members[len++] = work;
    for (struct work *rider; (rider = work->riders) != NULL; members[len++] = rider) {
        move(rider, NULL);
        rider->trouble = work->trouble;
        server_done(rider->lane.server, &nothing, clock_ms()); /* the leader's tells how it went */
    }
    return len;
}

/* A choice for each. Those of jobs that were cancelled meanwhile are nobody's, but what the prompt used is paid. */
static void deal(struct work *const *members, size_t len, struct ended *ended)
{
    struct completion parts[CHOICES_MAX], *whole = &members[0]->completion;
    size_t choices = whole->choices_len;
    ended->rc = openai_split(whole, parts, &members[0]->trouble);
    ended->retry = HTTP_NEVER;
    for (size_t i = 1; ended->rc != 0 && i < len; i++)
        members[i]->trouble = members[0]->trouble;
    if (ended->rc != 0)
        return;
    completion_clear(whole);
    for (size_t i = 0; i < len; i++) {
        struct completion *part = &parts[members[i]->choice];
        part->tokens_in = i == 0 ? parts[0].tokens_in : 0;
        part->tokens_cached = i == 0 ? parts[0].tokens_cached : 0;
        members[i]->completion = *part;
        *part = (struct completion){0};
    }
    for (size_t i = 0; i < choices; i++)
        completion_clear(&parts[i]);
}

/* The leader and a rider change jobs, so that the leader's can go: what rides with it now. */
static struct work *hand_lead(struct work *work)
{
    struct work *rider = work->riders;
    struct job *job = work->job;
    size_t choice = work->choice;
    work->job = rider->job;
    work->choice = rider->choice;
    rider->job = job;
    rider->choice = choice;
    work->job->engine_data = work;
    job->engine_data = rider;
    return rider;
}

/* -- one attempt's end, as it comes ----------------------------------------------------------------------------------- */

/* It may be the token ids that the server does not take: the same again as text, before anything is concluded. */
static void try_without_ids(struct work *work)
{
    work->ids_refused = work->lane.server;
    attempt_clear(work);
    move(work, &work->state->waiting);
}

static void end_attempt(struct work *work, struct ended *ended, bool overload, const struct http_reply *reply)
{
    if (ended->rc == 0)
        take_answer(work, ended);
    else if (ended->retry == HTTP_NEVER && !ended->common && work->with_ids)
        try_without_ids(work);
    else if (ended->retry == HTTP_NEVER && ended->common)
        fail_job(work, ended->rc, work->trouble.text);
    else if (ended->retry == HTTP_NEVER)
        refuse(work);
    else
        try_again(work, overload, overload || ended->retry == HTTP_AT_ONCE ? 0 : reply->retry_after_ms);
}

static void on_done(void *user, const struct http_reply *reply)
{
    struct work *work = user, *members[CHOICES_MAX];
    struct ended ended = judge(work, reply);
    work->transfer = NULL;
    move(work, NULL);
    if (ended.rc == 0 && work->killed)
        post_abort(work);
    if (ended.rc == 0 && (work->stepped || work->killed) && !work->completion.has_in) {
        work->outcome = ended.outcome;
        count_prompt(work);
        return;
    }
    bool overload = ended.outcome.overload; /* then it is the server that waits: others may have room */
    if (overload && ended.outcome.retry_after_ms < 0)
        ended.outcome.retry_after_ms = backoff(work->state, work->overloads + 1);
    server_done(work->lane.server, &ended.outcome, clock_ms());
    size_t len = dissolve(work, members);
    if (ended.rc == 0 && work->completion.choices_len > 1)
        deal(members, len, &ended);
    for (size_t i = 0; i < len; i++) {
        struct ended each = ended;
        end_attempt(members[i], &each, overload, reply);
    }
}

/* -- one attempt's start ---------------------------------------------------------------------------------------------- */

/* Whether the prompt goes as tokens, and whether those of the answer are asked for. */
static void ask_tokens(struct work *work, struct ask *ask)
{
    const struct server_lane *lane = &work->lane;
    const struct job *job = work->job;
    work->with_ids = ask->wants_ids = lane->ids && lane->logprobs && work->ids_refused == NULL &&
                                      openai_wants_ids(&work->state->spec, job, lane->dialect);
    if (!ask->wants_ids || job->text.len == 0)
        return;
    struct slice cue = cue_inline(job->cue) ? job->cue_text : slice_of(""), path = buf_slice(&work->prompt);
    path.len -= cue.len;
    struct token_text text = {lane->dialect->name, lane->model, path, slice_of("")};
    if (token_memory_find(&text, &work->tokens) && cue.len > 0)
        json_text(&work->tokens, cue); /* nobody has sampled it */
    ask->tokens = buf_slice(&work->tokens);
}

static void write_body(struct work *work, struct buf *body)
{
    struct slice stops[STOPS_MAX];
    struct ask ask;
    openai_ask(&work->state->spec, work->job, buf_slice(&work->prompt), work->stream, stops, &ask);
    for (const struct work *rider = work->riders; rider != NULL; rider = rider->next)
        ask.n++;
    if (work->own_step)
        ask.stops_len--; /* the server would cut it off and not say so */
    if (!work->lane.logprobs)
        ask.logprobs = -1;
    ask.model = slice_of(work->lane.model);
    ask.id = work->id;
    ask_tokens(work, &ask);
    work->lane.dialect->write(&ask, body);
    attachments_fill(work->job->attached, body);
    completion_init(&work->completion, ask.n, ask.logprobs > 0 ? (uint32_t)ask.logprobs : 0);
    work->completion.wants_ids = ask.wants_ids;
    for (size_t i = 0; i < work->completion.choices_len; i++)
        work->completion.choices[i].logprobs.window = work->job->kill_window;
    work->completion.cumulative = work->lane.dialect->cumulative && !ask.chat && ask.stream;
}

static void start(struct work *work, int64_t now_ms)
{
    struct state *state = work->state;
    const struct dialect *dialect = work->lane.dialect;
    struct buf body = {0};
    work->own_step = work->job->step && !(state->spec.chat ? dialect->chat_says_stop : dialect->says_stop);
    work->stream =
        state->spec.stream == 1 || (state->spec.stream == 0 && (work->own_step || work->job->kill_below > 0));
    work->own_step = work->own_step && work->stream;
    work->choice = 0;
    gather(work, now_ms);
    snprintf(work->id, sizeof work->id, "%016llx%016llx", (unsigned long long)work->job->lease,
             (unsigned long long)draw(state));
    write_body(work, &body);
    if (work->first_ms == 0)
        work->first_ms = now_ms;
    work->transfer =
        post(work, route_of(work), &body,
             (struct http_request){
                 .first_ms = timeout_of(work), .data = work->stream ? on_data : NULL, .done = on_done, .user = work});
    move(work, &state->flying);
    buf_clear(&body);
}

/* Sends what waits and may go; in how many ms to look again. */
static int64_t start_waiting(struct state *state, int64_t now_ms)
{
    int64_t wait_ms = INT64_MAX;
    struct work *work, *next;
    DL_FOREACH_SAFE (state->waiting, work, next) {
        if (work->next_ms > now_ms) {
            wait_ms = work->next_ms - now_ms < wait_ms ? work->next_ms - now_ms : wait_ms;
            continue;
        }
        struct error error = {""};
        struct server_query query = {.url = state->spec.url,
                                     .model = state->spec.model,
                                     .dialect = state->spec.dialect,
                                     .affinity = work->affinity,
                                     .again = work->attempts + work->overloads > 0,
                                     .avoid = work->avoid};
        enum pick pick = servers_pick(&query, now_ms, &work->lane, &error);
        if (pick == PICK_FULL && query.again) { /* those that were never sent may go */
            wait_ms = ROOM_MS < wait_ms ? ROOM_MS : wait_ms;
            continue;
        }
        if (pick == PICK_FULL) /* the others of this model would hear the same */
            return ROOM_MS < wait_ms ? ROOM_MS : wait_ms;
        bool late = now_ms - (work->first_ms != 0 ? work->first_ms : work->came_ms) >= timeout_of(work);
        if (pick == PICK_DOWN && !late)
            return DOWN_MS < wait_ms ? DOWN_MS : wait_ms;
        move(work, NULL);
        int rc = pick == PICK_TAKEN ? openai_possible(&state->spec, work->job, work->lane.dialect, &error) : ERR_CLOSED;
        if (rc == 0) {
            start(work, now_ms);
            if (work->riders != NULL) /* `next` may be one of them */
                next = state->waiting;
            continue;
        }
        if (pick == PICK_TAKEN)
            server_done(work->lane.server, &nothing, now_ms);
        fail_job(work, rc, error.text);
    }
    return wait_ms;
}

/* -- stopping --------------------------------------------------------------------------------------------------------- */

/* Ends a request that is in flight; its work is then on no list. */
static void abort_flight(struct work *work)
{
    http_cancel(work->state->http, &work->transfer);
    move(work, NULL);
    server_done(work->lane.server, &nothing, clock_ms());
    post_abort(work);
}

static void fail_late(struct work *work)
{
    char why[400];
    snprintf(why, sizeof why, "%.200s: no answer within %.1f s", work->lane.url, (double)timeout_of(work) / 1000);
    fail_job(work, ERR_TIMEOUT, why);
}

/* The time is up. What a stream has told until now is an answer, if it also told its cost. */
static void time_out(struct work *work)
{
    struct completion *completion = &work->completion;
    struct work *members[CHOICES_MAX];
    abort_flight(work);
    for (size_t len = dissolve(work, members); len > 1;)
        fail_late(members[--len]);
    openai_count(completion);
    if (completion->has_in && completion->has_out) {
        finish_job(work, FINISH_TIMEOUT);
        return;
    }
    fail_late(work);
}

static void sweep_late(struct state *state, int64_t now_ms)
{
    struct work *work, *next;
    if (now_ms - state->sweep_ms < SWEEP_MS)
        return;
    state->sweep_ms = now_ms;
    DL_FOREACH_SAFE (state->waiting, work, next) /* what no server had room for yet is not late: it waits here */
        if (work->first_ms != 0 && now_ms - work->first_ms >= timeout_of(work))
            fail_tried(work, ERR_TIMEOUT);
    DL_FOREACH_SAFE (state->flying, work, next)
        if (now_ms - work->first_ms >= timeout_of(work))
            time_out(work);
}

static void openai_cancel(void *opaque, struct job *job)
{
    struct work *work = job->engine_data;
    (void)opaque;
    if (work == NULL)
        return;
    if (work->riders != NULL)
        work = hand_lead(work);
    if (work->transfer != NULL)
        abort_flight(work);
    else if (rides(work)) /* the others still want the answer */
        server_done(work->lane.server, &nothing, clock_ms());
    work_free(work);
}

/* -- the engine ------------------------------------------------------------------------------------------------------- */

static void work_new(struct state *state, struct job *job, int64_t now_ms)
{
    struct work *work = xalloc(sizeof *work);
    work->state = state;
    work->job = job;
    work->came_ms = now_ms;
    work->affinity = hash_bytes(job->record.data, job->record.len);
    job->engine_data = work;
    job->result = (struct result){0};
    state->works++;
    int rc = openai_prompt(&state->spec, job, &work->prompt, &work->trouble);
    if (rc != 0)
        fail_job(work, rc, work->trouble.text);
    else
        move(work, &state->waiting);
}

static int64_t openai_advance(void *opaque, struct job **jobs, size_t len, int64_t now_ms)
{
    struct state *state = opaque;
    http_turn(state->http);
    if (len > state->works) /* jobs of this turn's answers are still among them, and new ones behind */
        for (size_t i = 0; i < len; i++)
            if (jobs[i]->engine_data == NULL && jobs[i]->state == JOB_RUNNING)
                work_new(state, jobs[i], now_ms);
    int64_t wait_ms = start_waiting(state, now_ms);
    sweep_late(state, now_ms);
    settle_refused(state);
    return wait_ms < SWEEP_MS ? wait_ms : SWEEP_MS;
}

/* Requests to abort go on when the job that they are for is long gone. */
static bool openai_busy(void *opaque)
{
    struct state *state = opaque;
    return http_len(state->http) > 0;
}

static int openai_fd(void *opaque)
{
    struct state *state = opaque;
    return http_fd(state->http);
}

static void openai_close(void **opaque)
{
    struct state *state = *opaque;
    *opaque = NULL;
    if (state == NULL)
        return;
    assert(state->works == 0);
    http_free(&state->http);
    openai_spec_clear(&state->spec);
    free(state);
}

static const char *text_of(struct slice text)
{
    return text.data != NULL ? text.data : "";
}

/* A model that names its server brings it along. */
static int add_named(const struct openai_spec *spec, struct error *error)
{
    if (spec->url.len > 0)
        return servers_add(&(struct servers_options){.url = spec->url.data,
                                                     .key_file = text_of(spec->key_file),
                                                     .key_env = text_of(spec->key_env),
                                                     .ca_file = text_of(spec->ca_file),
                                                     .dialect = spec->dialect != NULL ? spec->dialect->name : NULL,
                                                     .only_named = true},
                           error);
    if (servers_len() == 0)
        return error_set(error, ERR_NOT_FOUND,
                         "this worker has no inference server: start it with --server URL, or give the model a `url`");
    return 0;
}

static int openai_open(struct slice json, void **opaque, struct error *error)
{
    struct error what;
    struct state *state = xalloc(sizeof *state);
    int rc = openai_spec_read(json, &state->spec, &what);
    if (rc == 0)
        rc = add_named(&state->spec, &what);
    state->http = http_new();
    if (getrandom(&state->rng, sizeof state->rng, 0) != (ssize_t)sizeof state->rng)
        state->rng = (uint64_t)clock_ms();
    *opaque = state;
    if (rc != 0) {
        openai_close(opaque);
        error_set(error, rc, "openai: %.400s", what.text);
    }
    return rc;
}

const struct engine engine_openai = {
    .name = "openai",
    .help = "inference servers: vLLM, SGLang, llama.cpp, anything with OpenAI's routes",
    .batch = LIMIT_CREDITS,
    .open = openai_open,
    .advance = openai_advance,
    .cancel = openai_cancel,
    .busy = openai_busy,
    .fd = openai_fd,
    .close = openai_close,
};
