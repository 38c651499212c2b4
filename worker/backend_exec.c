/* backend_exec.c - a program of the user's as a generator: one JSON line with the job, one back
 * with the rollout.
 *
 * Question: {"prompt": RECORD, "text": PATH, "seed": N, "ordinal": K, "max_tokens": M, "step":
 * BOOL, "temperature": T}; max_tokens 0 is no cap. Besides, where a strategy asks for it: "cue" TEXT and "turns"
 * [TEXT, ...], "think_end" TEXT (doc/SWEEP.md tells of them). Answer:   {"text": ..., "tokens_in": ...,
 * "tokens_out": ...} and, if it likes, "answer", "finish" (stop, length, step), "tokens_reread",
 * "features" {"lp_mean": ...}; or {"error": "why"}, which fails this job and no more. Usage that is
 * not reported is unknown, not zero, so it fails the job: a budget that counts nothing holds
 * nothing. A crash, a hang or a line that is none of this costs the program its life, as nobody
 * knows any more which question its next line would answer; the next job starts it anew. */
#include "worker/backend.h"

#include "common/io/child.h"
#include "common/json.h"
#include "common/limits.h"
#include "worker/cues.h"
#include "worker/fields.h"

#include <assert.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    TIMEOUT_MS = 600000,                /* of a job that has none */
    REPLY_MAX = 6 * LIMIT_TEXT + 65536, /* each byte of a text may be escaped */
    IDLE_MS = 1000,
};

struct state {
    struct fields *spec; /* owns the texts of argv */
    const char **argv;
    double temperature;
    struct child *child; /* NULL after a failure */
    struct buf question, reply;
};

static void exec_close(void **opaque)
{
    struct state *state = *opaque;
    if (state == NULL)
        return;
    child_free(&state->child);
    buf_clear(&state->question);
    buf_clear(&state->reply);
    free(state->argv);
    fields_free(&state->spec);
    free(state);
    *opaque = NULL;
}

static int exec_open(struct slice json, void **opaque, struct error *error)
{
    struct error what;
    struct state *state = xalloc(sizeof(*state));
    void *opened = state;
    state->temperature = 1;
    int rc = fields_parse(json, &state->spec, &what);
    if (rc == 0)
        rc = fields_list(fields_object(state->spec, "options"), "command", &state->argv, &what);
    if (rc == 0 && state->argv == NULL)
        rc = error_set(&what, ERR_NOT_FOUND, "option 'command' is missing: a list, program first");
    if (rc == 0)
        rc = fields_real(state->spec, "temperature", 0, 100, &state->temperature, &what);
    if (rc == 0) /* one that cannot start is no failure of a task */
        rc = child_start(state->argv, &state->child, &what);
    if (rc != 0) {
        exec_close(&opened);
        error_set(error, rc, "exec: %.300s", what.text);
    }
    *opaque = opened;
    return rc;
}

/* --- the question --- */

/* What stands between earlier texts and the new one, and where thinking ends; other jobs have no such keys. */
static int cue_write(const struct job *job, struct buf *out, struct error *error)
{
    struct buf end = {0};
    if (job->cue != CUE_NONE) {
        json_key(out, "cue");
        json_text(out, job->cue_text);
    }
    if (job->cue == CUE_REVISE) {
        json_key(out, "turns");
        json_begin(out, '[');
        for (uint32_t i = 0; i < job->turns_len; i++)
            json_text(out, job->turns[i]);
        json_end(out, ']');
    }
    if (!job->think)
        return 0;
    int rc = cue_think_end(job->spec, &end);
    if (rc == 0 && end.len == 0)
        rc = ERR_NOT_FOUND;
    if (rc == 0) {
        json_key(out, "think_end");
        json_text(out, buf_slice(&end));
    } else {
        error_set(error, rc, "thinking is asked for, and the model does not say its `think_end`");
    }
    buf_clear(&end);
    return rc;
}

static int question_write(struct state *state, const struct job *job, struct error *error)
{
    struct fields *record;
    struct buf line = {0}, *out = &state->question;
    int rc = fields_parse(job->record, &record, error);
    if (rc != 0)
        return rc;
    fields_write(record, &line); /* written anew: on one line whatever the record looked like */
    fields_free(&record);
    buf_reset(out);
    json_begin(out, '{');
    json_key(out, "prompt");
    json_raw(out, buf_slice(&line));
    json_key(out, "text");
    json_text(out, job->text);
    json_key(out, "seed");
    json_u64(out, job->seed >> 1); /* 63 bits: many JSON readers know no larger integer */
    json_key(out, "ordinal");
    json_u64(out, job->ordinal);
    json_key(out, "max_tokens");
    json_u64(out, job->tokens_max);
    json_key(out, "step");
    json_bool(out, job->step);
    json_key(out, "temperature");
    json_f64(out, state->temperature);
    rc = cue_write(job, out, error);
    json_end(out, '}');
    attachments_fill(job->attached, out);
    buf_clear(&line);
    return rc;
}

/* --- the answer --- */

static int read_usage(const struct fields *reply, struct job *job, struct error *error)
{
    uint64_t in = 0, out = 0, reread = 0;
    if (!fields_have(reply, "tokens_in") || !fields_have(reply, "tokens_out"))
        return error_set(error, ERR_PROTOCOL,
                         "it did not say 'tokens_in' and 'tokens_out': what is unknown cannot be charged");
    int rc = fields_count(reply, "tokens_in", UINT32_MAX, &in, error);
    if (rc == 0)
        rc = fields_count(reply, "tokens_out", UINT32_MAX, &out, error);
    if (rc == 0)
        rc = fields_count(reply, "tokens_reread", UINT32_MAX, &reread, error);
    if (rc == 0 && job->tokens_max > 0 && out > job->tokens_max)
        rc = error_set(error, ERR_PROTOCOL, "it generated %llu tokens and was allowed %u", (unsigned long long)out,
                       job->tokens_max);
    job->result.tokens_in = (uint32_t)in;
    job->result.tokens_out = (uint32_t)out;
    job->result.tokens_reread = (uint32_t)reread;
    return rc;
}

static int read_finish(const struct fields *reply, struct job *job, struct error *error)
{
    static const enum finish allowed[] = {FINISH_STOP, FINISH_LENGTH, FINISH_STEP};
    static const char *const names[] = {"stop", "length", "step"};
    struct slice name = slice_of("stop");
    int rc = fields_string(reply, "finish", &name, error);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < 3; i++) {
        if (name.len != strlen(names[i]) || memcmp(name.data, names[i], name.len) != 0)
            continue;
        if (allowed[i] == FINISH_STEP && !job->step && !job->think)
            break;
        job->result.finish = job->think && allowed[i] == FINISH_STOP ? FINISH_STEP : allowed[i];
        return 0;
    }
    return error_set(error, ERR_PROTOCOL, "its 'finish' is '%.*s'; it may be stop, length%s",
                     (int)(name.len < 40 ? name.len : 40), name.data, job->step || job->think ? " or step" : "");
}

static int read_features(const struct fields *reply, struct features *features, struct error *error)
{
    static const char *const names[FEATURES] = {
#define X(name, value, text, help) [value] = (text),
        FEATURE_TABLE(X)
#undef X
    };
    const struct fields *given = fields_object(reply, "features");
    for (unsigned i = 0; i < FEATURES; i++) {
        if (!fields_have(given, names[i]))
            continue;
        int rc = fields_real(given, names[i], -DBL_MAX, DBL_MAX, &features->v[i], error);
        if (rc != 0)
            return rc;
        features->have |= 1u << i;
    }
    return 0;
}

static int read_text(const struct fields *reply, const char *key, size_t max, struct buf *out, struct error *error)
{
    struct slice text = {0};
    int rc = fields_string(reply, key, &text, error);
    if (rc == 0 && text.len > max)
        rc = error_set(error, ERR_LIMIT, "its '%s' has more than %zu bytes", key, max);
    if (rc == 0)
        buf_put(out, text.data, text.len);
    return rc;
}

static int reply_read(const struct fields *reply, struct job *job, struct error *error)
{
    struct slice why = {0};
    int rc = fields_string(reply, "error", &why, error);
    if (rc != 0)
        return rc;
    if (why.data != NULL)
        return error_set(error, ERR_REFUSED, "it says: %.*s", (int)(why.len < 300 ? why.len : 300), why.data);
    if (!fields_have(reply, "text"))
        return error_set(error, ERR_PROTOCOL, "its answer has no 'text'");
    rc = read_text(reply, "text", LIMIT_TEXT, &job->out, error);
    if (rc == 0)
        rc = read_text(reply, "answer", LIMIT_ANSWER, &job->found, error);
    if (rc == 0)
        rc = read_usage(reply, job, error);
    if (rc == 0)
        rc = read_finish(reply, job, error);
    if (rc == 0)
        rc = read_features(reply, &job->result.features, error);
    return rc;
}

static int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- jobs --- */

/* Asks, and asks a second program when the first one had worked before and was gone: it may have
 * worn out between jobs. */
static int ask(struct state *state, const struct job *job, struct error *error)
{
    int64_t timeout_ms = job->timeout_ms > 0 ? (int64_t)job->timeout_ms : TIMEOUT_MS;
    for (;;) {
        int rc = 0;
        if (state->child == NULL)
            rc = child_start(state->argv, &state->child, error);
        if (rc != 0)
            return rc;
        rc = child_ask(state->child, buf_slice(&state->question), &state->reply, REPLY_MAX, timeout_ms, error);
        if (rc == 0)
            return 0;
        bool again = rc == ERR_CLOSED && child_answers(state->child) > 0;
        child_free(&state->child);
        if (!again)
            return rc;
    }
}

static int exec_job(struct state *state, struct job *job, struct error *error)
{
    struct fields *reply;
    int rc = question_write(state, job, error);
    if (rc == 0)
        rc = ask(state, job, error);
    if (rc != 0)
        return rc;
    rc = fields_parse(buf_slice(&state->reply), &reply, error);
    if (rc != 0) {
        child_free(&state->child);
        return rc;
    }
    rc = reply_read(reply, job, error);
    fields_free(&reply);
    return rc;
}

static int64_t exec_advance(void *opaque, struct job **jobs, size_t len, int64_t now_ms)
{
    struct state *state = opaque;
    struct error what;
    (void)now_ms;
    assert(len <= 1);
    if (len == 0 || jobs[0]->state != JOB_RUNNING)
        return IDLE_MS;
    struct job *job = jobs[0];
    buf_reset(&job->out);
    buf_reset(&job->found);
    job->result = (struct result){0};
    int64_t start_ms = clock_ms();
    int rc = exec_job(state, job, &what);
    job->result.latency_ms = (uint32_t)(clock_ms() - start_ms);
    job->state = rc == 0 ? JOB_DONE : JOB_FAILED;
    if (rc != 0) {
        buf_reset(&job->out);
        error_set(&job->error, rc, "exec: %.60s: %.380s", state->argv[0], what.text);
    }
    return IDLE_MS;
}

const struct engine engine_exec = {
    .name = "exec",
    .help = "any program that speaks JSON lines",
    .batch = 1,
    .open = exec_open,
    .advance = exec_advance,
    .close = exec_close,
};
