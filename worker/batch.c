/* batch.c - see batch.h. Answers are kept as text until a job asks for them: a batch is read by one process, once. */
#include "worker/batch.h"
#include "common/io/clock.h"
#include "common/limits.h"
#include "worker/backend.h"
#include "worker/openai_answer.h"
#include "worker/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

enum { LINE_MAX_BYTES = 64 << 20, IDLE_MS = 1000 };

struct entry {
    char *key;
    struct buf body; /* of the answer, or what went wrong */
    bool failed;
    UT_hash_handle hh;
};

static struct entry *entries; /* constant once the worker runs */

void batch_key(const char *model, struct slice record, uint32_t prompt, uint32_t ordinal, struct buf *out)
{
    struct fields *fields;
    buf_printf(out, "%s/", model);
    bool named = fields_parse(record, &fields, NULL) == 0 && fields_text(fields, "id", out);
    if (!named)
        buf_printf(out, "#%u", prompt);
    buf_printf(out, "/%u", ordinal);
    fields_free(&fields);
}

/* -- files ------------------------------------------------------------------------------------------------------------ */

/* What the answer of a line is, or why there is none. */
static void take_answer(const struct fields *line, struct entry *entry)
{
    const struct fields *response = fields_object(line, "response"), *error = fields_object(line, "error");
    uint64_t status = 200;
    fields_count(response, "status_code", 999, &status, NULL);
    entry->failed = fields_have(line, "error") || status != 200 || !fields_json(response, "body", &entry->body);
    if (!entry->failed)
        return;
    if (entry->body.len > 0) { /* the server's complaint: read like a live one's */
        struct completion completion;
        completion_init(&completion, 1, 0);
        completion_read(&completion, buf_slice(&entry->body), NULL);
        buf_reset(&entry->body);
        buf_printf(&entry->body, "HTTP %llu: %s", (unsigned long long)status, completion.complaint);
        completion_clear(&completion);
    } else if (!fields_text(error, "message", &entry->body)) {
        buf_puts(&entry->body, "its line holds neither an answer nor an error");
    }
}

static int take_line(struct slice text, struct error *error)
{
    struct fields *line;
    struct slice id = {0};
    int rc = fields_parse(text, &line, error);
    if (rc == 0)
        rc = fields_string(line, "custom_id", &id, error);
    const char *key = id.data != NULL ? strchr(id.data, '/') : NULL;
    if (rc == 0 && key == NULL)
        rc = error_set(error, ERR_SYNTAX, "no 'custom_id' of the form SWEEP/MODEL/PROMPT/ORDINAL");
    if (rc == 0) {
        struct entry *entry;
        HASH_FIND_STR(entries, key + 1, entry);
        if (entry == NULL) {
            entry = xalloc(sizeof *entry);
            entry->key = xstrdup(key + 1);
            entry->failed = true;
            HASH_ADD_KEYPTR(hh, entries, entry->key, strlen(entry->key), entry);
        }
        if (entry->failed) {
            buf_reset(&entry->body);
            take_answer(line, entry);
        }
    }
    fields_free(&line);
    return rc;
}

int batch_load(const char *path, struct error *error)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return error_set(error, ERR_NOT_FOUND, "cannot read %.200s: %s", path, strerror(errno));
    char *line = NULL;
    size_t cap = 0, number = 0;
    ssize_t len;
    int rc = 0;
    while (rc == 0 && (len = getline(&line, &cap, file)) >= 0) {
        struct error why = {""};
        number++;
        if (len > LINE_MAX_BYTES)
            rc = error_set(&why, ERR_LIMIT, "longer than %d bytes", LINE_MAX_BYTES);
        else if (strspn(line, " \t\r\n") < (size_t)len)
            rc = take_line((struct slice){line, (size_t)len}, &why);
        if (rc != 0)
            error_set(error, rc, "%.200s:%zu: %.250s", path, number, why.text);
    }
    if (rc == 0 && ferror(file))
        rc = error_set(error, ERR_IO, "cannot read %.200s: %s", path, strerror(errno));
    free(line);
    fclose(file);
    return rc;
}

size_t batch_len(void)
{
    return HASH_COUNT(entries);
}

void batch_clear(void)
{
    struct entry *entry, *next;
    HASH_ITER (hh, entries, entry, next) {
        HASH_DEL(entries, entry);
        buf_clear(&entry->body);
        free(entry->key);
        free(entry);
    }
}

/* -- the engine ------------------------------------------------------------------------------------------------------- */

struct state {
    struct openai_spec spec;
    struct buf model;
};

static int answer(const struct state *state, struct job *job, const struct entry *entry, struct error *error)
{
    struct completion completion;
    struct openai_ending ending = {0};
    enum finish finish;
    completion_init(&completion, 1, state->spec.logprobs > 0 ? (uint32_t)state->spec.logprobs : 0);
    int rc = completion_read(&completion, buf_slice(&entry->body), error);
    if (rc == 0)
        rc = openai_judge(&state->spec, job, &completion, &ending, &finish, error);
    if (rc == 0)
        openai_take(&completion, state->spec.dialect != NULL ? state->spec.dialect : &dialect_generic, finish, job);
    completion_clear(&completion);
    return rc;
}

static void serve(const struct state *state, struct job *job)
{
    struct buf key = {0};
    struct entry *entry;
    struct error why = {""};
    int rc;
    job->result = (struct result){.latency_ms = 1};
    batch_key(state->model.data, job->record, job->prompt, job->ordinal, &key);
    HASH_FIND_STR(entries, key.data, entry);
    if (job->step || job->think || job->cue != CUE_NONE)
        rc = error_set(&why, ERR_REFUSED, "a batch holds whole rollouts, no steps");
    else if (entry == NULL)
        rc = error_set(&why, ERR_NOT_FOUND, "no line has the custom_id .../%.300s", key.data);
    else if (entry->failed)
        rc = error_set(&why, ERR_REFUSED, "%.400s", entry->body.data);
    else
        rc = answer(state, job, entry, &why);
    if (rc != 0) {
        buf_reset(&job->out);
        error_set(&job->error, rc, "batch: %.480s", why.text);
    }
    job->final = entry != NULL && entry->failed;
    job->state = rc == 0 ? JOB_DONE : JOB_FAILED;
    buf_clear(&key);
}

static int64_t batch_advance(void *opaque, struct job **jobs, size_t len, int64_t now_ms)
{
    (void)now_ms;
    for (size_t i = 0; i < len; i++)
        if (jobs[i]->state == JOB_RUNNING)
            serve(opaque, jobs[i]);
    return IDLE_MS;
}

static void batch_close(void **opaque)
{
    struct state *state = *opaque;
    *opaque = NULL;
    if (state == NULL)
        return;
    openai_spec_clear(&state->spec);
    buf_clear(&state->model);
    free(state);
}

static int batch_open(struct slice json, void **opaque, struct error *error)
{
    struct error what = {""};
    struct state *state = xalloc(sizeof *state);
    int rc = openai_spec_read(json, &state->spec, &what);
    *opaque = state;
    if (rc == 0 && !fields_text(state->spec.json, "name", &state->model))
        rc = error_set(&what, ERR_NOT_FOUND, "the model has no name");
    if (rc != 0) {
        batch_close(opaque);
        error_set(error, rc, "batch: %.400s", what.text);
    }
    return rc;
}

static const struct engine engine_batch = {
    .name = "openai",
    .help = "answers from batch files",
    .batch = 256,
    .open = batch_open,
    .advance = batch_advance,
    .close = batch_close,
};

static const struct engine *pick(struct slice spec)
{
    struct fields *fields;
    struct slice name = {0};
    bool ours = fields_parse(spec, &fields, NULL) == 0 && fields_string(fields, "backend", &name, NULL) == 0 &&
                name.data != NULL && strcmp(name.data, engine_batch.name) == 0;
    fields_free(&fields);
    return ours ? &engine_batch : NULL;
}

void batch_options(struct agent_options *options)
{
    worker_options(options);
    options->kinds = engine_batch.name;
    options->pick = pick;
}
