/* backend_replay.c - the generator that repeats recorded rollouts: policies on real data, without a
 * model.
 *
 * A file is loaded once per process and shared by all threads that name it with the same columns.
 * The recorded latency is reported, not waited for. A cap on tokens does what it would have done:
 * the text is cut and the answer, which the model would not have reached, is gone. */
#include "worker/backend.h"

#include "worker/fields.h"
#include "worker/recording.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 256, IDLE_MS = 1000, WHERE_MAX = 16 };

struct shared {
    struct shared *next;
    char *key;
    size_t users;
    struct recording *recording;
};

static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared *shared_first; /* under shared_lock: the one cache of this process */

struct state {
    struct shared *shared;
    char *path;
};

/* --- the spec --- */

static int read_format(const struct fields *options, enum recording_format *format, struct error *error)
{
    static const char *const names[] = {"auto", "csv", "jsonl"};
    struct slice name = slice_of("auto");
    int rc = fields_string(options, "format", &name, error);
    for (size_t i = 0; rc == 0 && i < 3; i++) {
        if (name.len == strlen(names[i]) && memcmp(name.data, names[i], name.len) == 0) {
            *format = (enum recording_format)i;
            return 0;
        }
    }
    return rc != 0 ? rc : error_set(error, ERR_RANGE, "'format' is auto, csv or jsonl");
}

/* filters: room for WHERE_MAX. */
static int read_options(const struct fields *spec, struct slice *path, struct recording_options *options,
                        struct recording_filter *filters, struct error *error)
{
    const struct fields *given = fields_object(spec, "options");
    const struct fields *columns = fields_object(given, "columns"), *where = fields_object(given, "where");
    int rc = fields_string(spec, "path", path, error);
    if (rc == 0 && path->len == 0)
        rc = error_set(error, ERR_NOT_FOUND, "'path' names no recording");
    if (rc == 0)
        rc = read_format(given, &options->format, error);
    for (enum column c = 0; c < COLUMNS && rc == 0; c++) {
        struct slice name = {0};
        rc = fields_string(columns, column_name(c), &name, error);
        if (rc == 0 && name.data != NULL)
            options->columns[c] = name.data;
    }
    for (const char *key; rc == 0 && (key = fields_key(where, options->filters_len)) != NULL;) {
        struct slice value = {0};
        if (options->filters_len == WHERE_MAX)
            return error_set(error, ERR_LIMIT, "'where' has more than %d columns", WHERE_MAX);
        rc = fields_string(where, key, &value, error);
        if (rc == 0 && value.data == NULL)
            rc = error_set(error, ERR_SYNTAX, "'where.%.64s' is not text", key);
        filters[options->filters_len++] = (struct recording_filter){key, value.data};
    }
    options->filters = filters;
    return rc;
}

/* --- sharing --- */

static char *key_of(const char *path, const struct recording_options *options)
{
    struct buf key = {0};
    buf_printf(&key, "%s\n%d", path, (int)options->format);
    for (enum column c = 0; c < COLUMNS; c++)
        buf_printf(&key, "\n%s", options->columns[c] != NULL ? options->columns[c] : "");
    for (size_t i = 0; i < options->filters_len; i++)
        buf_printf(&key, "\n%s\n%s", options->filters[i].column, options->filters[i].value);
    return key.data;
}

/* Loading happens under the lock: a second thread waits for the first one's work instead of doing
 * it again. */
static int shared_take(const char *path, const struct recording_options *options, struct shared **shared,
                       struct error *error)
{
    char *key = key_of(path, options);
    int rc = 0;
    pthread_mutex_lock(&shared_lock);
    struct shared *found = shared_first;
    while (found != NULL && strcmp(found->key, key) != 0)
        found = found->next;
    if (found == NULL) {
        struct recording *recording;
        rc = recording_load(path, options, &recording, error);
        if (rc == 0) {
            found = xalloc(sizeof(*found));
            *found = (struct shared){.next = shared_first, .key = key, .recording = recording};
            shared_first = found;
            key = NULL;
        }
    }
    if (found != NULL)
        found->users++;
    pthread_mutex_unlock(&shared_lock);
    free(key);
    *shared = found;
    return rc;
}

static void shared_give(struct shared *shared)
{
    pthread_mutex_lock(&shared_lock);
    bool last = --shared->users == 0;
    for (struct shared **at = &shared_first; last && *at != NULL; at = &(*at)->next) {
        if (*at == shared) {
            *at = shared->next;
            break;
        }
    }
    pthread_mutex_unlock(&shared_lock);
    if (!last)
        return;
    recording_free(&shared->recording);
    free(shared->key);
    free(shared);
}

static int replay_open(struct slice json, void **state, struct error *error)
{
    struct fields *spec = NULL;
    struct error what;
    struct slice path = {0};
    struct recording_options options = {0};
    struct recording_filter filters[WHERE_MAX];
    struct shared *shared = NULL;
    *state = NULL;
    int rc = fields_parse(json, &spec, &what);
    if (rc == 0)
        rc = read_options(spec, &path, &options, filters, &what);
    if (rc == 0)
        rc = shared_take(path.data, &options, &shared, &what);
    if (rc == 0) {
        struct state *opened = xalloc(sizeof(*opened));
        opened->shared = shared;
        opened->path = xstrdup(path.data);
        *state = opened;
    }
    fields_free(&spec);
    return rc == 0 ? 0 : error_set(error, rc, "replay: %.480s", what.text);
}

static void replay_close(void **opaque)
{
    struct state *state = *opaque;
    if (state == NULL)
        return;
    shared_give(state->shared);
    free(state->path);
    free(state);
    *opaque = NULL;
}

/* --- jobs --- */

/* Id of the prompt; one without it is named by its place among the prompts, from 1. */
static int read_id(const struct job *job, struct buf *id, struct error *error)
{
    struct fields *record;
    int rc = fields_parse(job->record, &record, error);
    if (rc != 0)
        return rc;
    if (!fields_text(record, "id", id))
        buf_printf(id, "%u", job->prompt + 1);
    fields_free(&record);
    return 0;
}

static void give_exhausted(struct job *job)
{
    job->result = (struct result){.finish = FINISH_EXHAUSTED};
}

/* The part of a text that fits the cap, cut between characters. */
static struct slice cut(const struct recorded *rollout, uint32_t tokens_max)
{
    size_t len = (size_t)((double)rollout->text.len * tokens_max / rollout->tokens_out);
    while (len > 0 && ((unsigned char)rollout->text.data[len] & 0xC0) == 0x80)
        len--;
    return (struct slice){rollout->text.data, len};
}

static void give_rollout(struct job *job, const struct recorded *rollout)
{
    job->result = (struct result){
        .finish = rollout->finish,
        .tokens_in = rollout->tokens_in,
        .tokens_out = rollout->tokens_out,
        .latency_ms = rollout->latency_ms,
        .logprob_mode = rollout->logprobs,
    };
    if (job->tokens_max > 0 && rollout->tokens_out > job->tokens_max) {
        struct slice text = cut(rollout, job->tokens_max);
        job->result.finish = FINISH_LENGTH;
        job->result.tokens_out = job->tokens_max;
        buf_put(&job->out, text.data, text.len);
        return;
    }
    job->result.features = rollout->features;
    buf_put(&job->out, rollout->text.data, rollout->text.len);
    buf_put(&job->found, rollout->answer.data, rollout->answer.len);
}

static int replay_job(const struct state *state, struct job *job, struct buf *id)
{
    const struct recorded *first;
    struct error what;
    if (job->text.len > 0)
        return error_set(&job->error, ERR_REFUSED,
                         "replay: recorded rollouts cannot be continued: use a sampling strategy");
    int rc = read_id(job, id, &what);
    if (rc != 0)
        return error_set(&job->error, rc, "replay: the prompt's record is %.300s", what.text);
    size_t len = recording_find(state->shared->recording, (struct slice){"", 0}, buf_slice(id), &first);
    if (len == 0)
        return error_set(&job->error, ERR_NOT_FOUND, "replay: recording '%.200s' has no rollout of prompt '%.100s'",
                         state->path, id->data);
    if (job->ordinal < len && first[job->ordinal].finish == FINISH_FAILED) {
        job->final = true;
        return error_set(&job->error, ERR_REFUSED, "replay: recorded as failed");
    }
    if (job->ordinal >= len)
        give_exhausted(job);
    else
        give_rollout(job, &first[job->ordinal]);
    return 0;
}

static int64_t replay_advance(void *opaque, struct job **jobs, size_t len, int64_t now_ms)
{
    const struct state *state = opaque;
    struct buf id = {0};
    (void)now_ms;
    for (size_t i = 0; i < len; i++) {
        if (jobs[i]->state != JOB_RUNNING)
            continue;
        buf_reset(&id);
        buf_reset(&jobs[i]->out);
        buf_reset(&jobs[i]->found);
        jobs[i]->state = replay_job(state, jobs[i], &id) == 0 ? JOB_DONE : JOB_FAILED;
    }
    buf_clear(&id);
    return IDLE_MS;
}

const struct engine engine_replay = {
    .name = "replay",
    .help = "recorded rollouts from a CSV or JSONL file",
    .batch = BATCH,
    .open = replay_open,
    .advance = replay_advance,
    .close = replay_close,
};
