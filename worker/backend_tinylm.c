/* backend_tinylm.c - the generator that is built in: jobs around the embedded language model.
 *
 * Rows of all jobs advance together, one token a call, and jobs come and go between calls. A job's
 * first call evaluates its prompt and path, so that a second job with the same start finds it
 * remembered. */
#include "worker/cues.h"
#include "worker/logprobs.h"
#include "worker/tinylm.h"

#include "common/io/agent.h"
#include "common/io/program.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

extern const struct engine engine_tinylm;

enum {
    BATCH = 16,
    STOPS_MAX = 16,
    STOP_LEN_MAX = 256,
    TEMPLATE_LEN_MAX = 65536,
    CACHE_MB_MAX = 4096,
    CACHE_MB = 64, /* about 250 prefixes of 60 tokens with the model that comes with drover */
    IDLE_MS = 1000,
};

static const char default_model[] = "models/tiny.tlm";
static const char default_template[] = "{prompt}\n";
static const char placeholder[] = "{prompt}";

struct settings {
    json_t *spec; /* owns the strings below */
    const char *path, *template;
    struct slice stops[STOPS_MAX], step, think_end;
    size_t stops_len;
    struct tinylm_sampling sampling;
    uint32_t tokens_max; /* 0: no limit */
    size_t cache_bytes;
};

struct state {
    struct settings settings;
    struct tinylm *lm;
};

/* A job while its row grows. */
struct work {
    struct tinylm_row *row;
    int64_t start_ms;
    uint32_t path_tokens;
    struct logprobs logprobs;
};

/* --- the spec --- */

static int number_read(const json_t *spec, const char *key, double min, double max, double *value, struct error *error)
{
    const json_t *item = json_object_get(spec, key);
    if (item == NULL || json_is_null(item))
        return 0;
    double number = json_number_value(item);
    if (!json_is_number(item) || !(number >= min && number <= max))
        return error_set(error, ERR_RANGE, "tinylm: %s must be a number from %g to %g", key, min, max);
    *value = number;
    return 0;
}

static int count_read(const json_t *spec, const char *key, int64_t max, int64_t *value, struct error *error)
{
    const json_t *item = json_object_get(spec, key);
    if (item == NULL || json_is_null(item))
        return 0;
    if (!json_is_integer(item) || json_integer_value(item) < 0 || json_integer_value(item) > max)
        return error_set(error, ERR_RANGE, "tinylm: %s must be a whole number from 0 to %lld", key, (long long)max);
    *value = json_integer_value(item);
    return 0;
}

static int text_read(const json_t *item, const char *what, size_t max, struct slice *text, struct error *error)
{
    size_t len = json_string_length(item);
    if (!json_is_string(item) || len == 0 || len > max)
        return error_set(error, ERR_RANGE, "tinylm: %s must be a text of 1 to %zu bytes", what, max);
    *text = (struct slice){json_string_value(item), len};
    return 0;
}

static int text_key_read(const json_t *spec, const char *key, size_t max, struct slice *text, struct error *error)
{
    const json_t *item = json_object_get(spec, key);
    return item == NULL || json_is_null(item) ? 0 : text_read(item, key, max, text, error);
}

/* One text or a list of them. */
static int stops_read(const json_t *spec, struct settings *to, struct error *error)
{
    const json_t *stops = json_object_get(spec, "stop");
    if (stops == NULL || json_is_null(stops))
        return 0;
    if (!json_is_array(stops))
        return text_read(stops, "stop", STOP_LEN_MAX, to->stops + to->stops_len++, error);
    if (json_array_size(stops) > STOPS_MAX)
        return error_set(error, ERR_LIMIT, "tinylm: stop has more than %d texts", STOPS_MAX);
    int rc = 0;
    while (rc == 0 && to->stops_len < json_array_size(stops)) {
        const json_t *item = json_array_get(stops, to->stops_len);
        rc = text_read(item, "each stop", STOP_LEN_MAX, to->stops + to->stops_len++, error);
    }
    return rc;
}

static int sampling_read(const json_t *spec, struct tinylm_sampling *to, struct error *error)
{
    *to = (struct tinylm_sampling){.temperature = 1, .top_p = 1, .min_p = 0};
    int rc = number_read(spec, "temperature", 0, 100, &to->temperature, error);
    if (rc == 0)
        rc = number_read(spec, "top_p", 0, 1, &to->top_p, error);
    if (rc == 0)
        rc = number_read(spec, "min_p", 0, 1, &to->min_p, error);
    return rc;
}

static int settings_read(struct slice spec, struct settings *to, struct error *error)
{
    json_error_t where;
    struct slice path = slice_of(default_model), template = slice_of(default_template);
    int64_t tokens_max = 0, cache_mb = CACHE_MB;
    to->step = slice_of("\n");
    to->spec = json_loadb(spec.data == NULL ? "" : spec.data, spec.len, 0, &where);
    if (!json_is_object(to->spec))
        return error_set(error, ERR_SYNTAX, "tinylm: the model's specification is not an object");
    int rc = text_key_read(to->spec, "path", PATH_MAX - 1, &path, error);
    if (rc == 0)
        rc = text_key_read(to->spec, "template", TEMPLATE_LEN_MAX, &template, error);
    if (rc == 0)
        rc = text_key_read(to->spec, "step", STOP_LEN_MAX, &to->step, error);
    if (rc == 0)
        rc = text_key_read(to->spec, "think_end", STOP_LEN_MAX, &to->think_end, error);
    if (rc == 0)
        rc = stops_read(to->spec, to, error);
    if (rc == 0)
        rc = sampling_read(to->spec, &to->sampling, error);
    if (rc == 0)
        rc = count_read(to->spec, "max_tokens", UINT32_MAX, &tokens_max, error);
    if (rc == 0)
        rc = count_read(json_object_get(to->spec, "options"), "cache_mb", CACHE_MB_MAX, &cache_mb, error);
    to->path = path.data;
    to->template = template.data;
    to->tokens_max = (uint32_t)tokens_max;
    to->cache_bytes = (size_t)cache_mb << 20;
    return rc;
}

/* The folder of the running program, "." when the system does not say. */
static void program_folder(struct buf *out)
{
    char path[PATH_MAX];
    char *slash = realpath(program_path(), path) != NULL ? strrchr(path, '/') : NULL;
    if (slash != NULL)
        *slash = '\0';
    buf_puts(out, slash != NULL ? path : ".");
}

/* The path as given; then, for a relative one, beside the program's folder, as built and as
 * installed. */
static int model_open(const struct settings *settings, struct tinylm **lm, struct error *error)
{
    static const char *const folders[] = {"..", "../share/drover"};
    int rc = tinylm_open(settings->path, settings->cache_bytes, lm, error);
    struct buf path = {0};
    for (size_t i = 0; rc == ERR_NOT_FOUND && settings->path[0] != '/' && i < 2; i++) {
        buf_reset(&path);
        program_folder(&path);
        buf_printf(&path, "/%s/%s", folders[i], settings->path);
        rc = tinylm_open(path.data, settings->cache_bytes, lm, NULL);
        if (rc != 0 && rc != ERR_NOT_FOUND) /* there is one here, so say what is wrong with it */
            rc = tinylm_open(path.data, settings->cache_bytes, lm, error);
    }
    buf_clear(&path);
    return rc;
}

static void tinylm_engine_close(void **opaque)
{
    struct state *state = *opaque;
    *opaque = NULL;
    if (state == NULL)
        return;
    tinylm_close(&state->lm);
    json_decref(state->settings.spec);
    free(state);
}

static int tinylm_engine_open(struct slice spec, void **out, struct error *error)
{
    if (!tinylm_supported())
        return error_set(error, ERR_REFUSED, "tinylm: this processor has no AVX2 or no FMA");
    struct state *state = xalloc(sizeof *state);
    int rc = settings_read(spec, &state->settings, error);
    if (rc == 0)
        rc = model_open(&state->settings, &state->lm, error);
    *out = state;
    if (rc != 0)
        tinylm_engine_close(out);
    return rc;
}

/* --- starting a job --- */

/* The template with every {prompt} replaced. The default one gives a prompt that ends its line
 * itself no other. */
static void template_apply(const char *template, struct slice prompt, struct buf *out)
{
    const char *at = template, *next;
    for (; (next = strstr(at, placeholder)) != NULL; at = next + strlen(placeholder)) {
        buf_put(out, at, (size_t)(next - at));
        buf_put(out, prompt.data, prompt.len);
    }
    bool ended = prompt.len > 0 && prompt.data[prompt.len - 1] == '\n';
    if (!ended || strcmp(template, default_template) != 0)
        buf_puts(out, at);
}

static int prompt_text(const struct state *state, struct slice record, struct buf *out, struct error *error)
{
    json_error_t where;
    json_t *root = json_loadb(record.data == NULL ? "" : record.data, record.len, 0, &where);
    const json_t *prompt = json_object_get(root, "prompt");
    int rc = 0;
    if (!json_is_string(prompt))
        rc = error_set(error, ERR_SYNTAX, "tinylm: the record has no \"prompt\" that is a text");
    else
        template_apply(state->settings.template, (struct slice){json_string_value(prompt), json_string_length(prompt)},
                       out);
    json_decref(root);
    return rc;
}

/* Tokens of prompt and path; tokens has room for all of them. */
static int tokens_read(const struct state *state, struct slice prompt, struct slice path, uint16_t *tokens,
                       struct error *error)
{
    struct error why;
    tokens[0] = TINYLM_BOS;
    int rc = tinylm_encode(state->lm, prompt, tokens + 1, &why);
    if (rc != 0)
        return error_set(error, rc, "tinylm: in the prompt, %s", why.text);
    rc = tinylm_encode(state->lm, path, tokens + 1 + prompt.len, &why);
    return rc == 0 ? 0 : error_set(error, rc, "tinylm: in the text so far, %s", why.text);
}

/* The last token is no part of tokens_reread: every continuation has to evaluate it for its first
 * draw. */
static struct work *work_new(struct state *state, const uint16_t *tokens, uint32_t prompt_len, uint32_t path_len,
                             struct result *result)
{
    struct work *work = xalloc(sizeof *work);
    uint32_t warm, len = prompt_len + path_len;
    work->row = tinylm_row_new(state->lm, tokens, len, &warm);
    work->path_tokens = path_len;
    uint32_t known = warm > prompt_len ? warm : prompt_len;
    result->tokens_reread = known < len - 1 ? len - 1 - known : 0;
    result->tokens_in = prompt_len + result->tokens_reread;
    return work;
}

/* Leaves the job running with a row, done when its path fills the context already, or fails. */
static int job_start(struct state *state, struct job *job, int64_t now_ms)
{
    struct buf prompt = {0}, path = {0};
    uint16_t *tokens = NULL;
    const uint32_t context = tinylm_context(state->lm);
    job->result = (struct result){.finish = FINISH_LENGTH};
    int rc = prompt_text(state, job->record, &prompt, &job->error);
    if (rc == 0 && job->think && state->settings.think_end.len == 0)
        rc = error_set(&job->error, ERR_NOT_FOUND,
                       "tinylm: thinking is asked for, and the model does not say its `think_end`");
    if (rc == 0 && prompt.len + 1 > context)
        rc = error_set(&job->error, ERR_LIMIT, "tinylm: the prompt has %zu tokens, but the context only %u",
                       prompt.len + 1, context);
    if (rc != 0)
        goto out;
    cue_path(job, &path);
    tokens = xalloc((1 + prompt.len + path.len) * sizeof *tokens);
    rc = tokens_read(state, buf_slice(&prompt), buf_slice(&path), tokens, &job->error);
    if (rc != 0)
        goto out;
    if (1 + prompt.len + path.len > context) {
        job->state = JOB_DONE;
        goto out;
    }
    struct work *work = work_new(state, tokens, (uint32_t)prompt.len + 1, (uint32_t)path.len, &job->result);
    work->start_ms = now_ms;
    work->logprobs.window = job->kill_window;
    job->engine_data = work;
out:
    free(tokens);
    buf_clear(&prompt);
    buf_clear(&path);
    return rc;
}

/* --- ending one --- */

static void work_free(struct state *state, struct job *job)
{
    struct work *work = job->engine_data;
    if (work == NULL)
        return;
    tinylm_row_free(state->lm, &work->row);
    logprobs_clear(&work->logprobs);
    free(work);
    job->engine_data = NULL;
}

static void job_finish(struct state *state, struct job *job, enum finish finish, int64_t now_ms)
{
    const struct work *work = job->engine_data;
    job->result.finish = finish;
    job->result.latency_ms = (uint32_t)(now_ms - work->start_ms);
    logprobs_features(&work->logprobs, &job->result.features);
    if (finish == FINISH_STEP || (finish == FINISH_LENGTH && (job->step || job->think)))
        tinylm_row_keep(state->lm, work->row); /* a child of this node will ask for it */
    work_free(state, job);
    job->state = JOB_DONE;
}

static void job_fail(struct state *state, struct job *job)
{
    work_free(state, job);
    job->state = JOB_FAILED;
}

/* --- one token --- */

static bool ends_with(struct slice text, struct slice end)
{
    return end.len <= text.len && memcmp(text.data + text.len - end.len, end.data, end.len) == 0;
}

/* Whether path and new text together end with the stop. */
static bool stop_reached(const struct job *job, struct slice stop)
{
    struct slice out = buf_slice(&job->out);
    if (stop.len <= out.len)
        return ends_with(out, stop);
    struct slice rest = {stop.data, stop.len - out.len};
    struct slice last = {stop.data + rest.len, out.len};
    return ends_with(out, last) && ends_with(job->text, rest);
}

/* A stop is cut off, as servers do. What of it lies in the path stays: that text is no longer ours.
 */
static bool stop_cut(const struct settings *settings, struct job *job)
{
    for (size_t i = 0; i < settings->stops_len; i++) {
        struct slice stop = settings->stops[i];
        if (stop_reached(job, stop)) {
            job->out.len -= stop.len < job->out.len ? stop.len : job->out.len;
            job->out.data[job->out.len] = '\0';
            return true;
        }
    }
    return false;
}

/* Thinking has come to its end: the text for that is no part of it. */
static bool think_cut(const struct settings *settings, struct job *job)
{
    if (!job->think || !ends_with(buf_slice(&job->out), settings->think_end))
        return false;
    job->out.len -= settings->think_end.len;
    job->out.data[job->out.len] = '\0';
    return true;
}

static void token_count(const struct tinylm_draw *draw, struct work *work, struct result *result)
{
    logprobs_sampled(&work->logprobs, draw->logprob);
    logprobs_distribution(&work->logprobs, &(struct distribution){draw->confidence, draw->entropy, draw->certainty});
    result->tokens_out++;
}

static bool cap_reached(const struct state *state, const struct job *job)
{
    uint32_t count = job->result.tokens_out, cap = state->settings.tokens_max;
    return (job->tokens_max > 0 && count >= job->tokens_max) || (cap > 0 && count >= cap);
}

static void token_take(struct state *state, struct job *job, const struct tinylm_draw *draw, int64_t now_ms)
{
    struct work *work = job->engine_data;
    int c = tinylm_char(state->lm, draw->token);
    token_count(draw, work, &job->result);
    if (c >= 0)
        buf_put(&job->out, &(char){(char)c}, 1);
    if (draw->token == TINYLM_EOS || (c >= 0 && (stop_cut(&state->settings, job) || think_cut(&state->settings, job))))
        job_finish(state, job, job->think ? FINISH_STEP : FINISH_STOP, now_ms);
    else if (job->step && ends_with(buf_slice(&job->out), state->settings.step))
        job_finish(state, job, FINISH_STEP, now_ms);
    else if (logprobs_below(&work->logprobs, job->kill_below))
        job_finish(state, job, FINISH_KILLED, now_ms);
    else if (cap_reached(state, job) || tinylm_row_len(work->row) > tinylm_context(state->lm))
        job_finish(state, job, FINISH_LENGTH, now_ms);
    else if (job->timeout_ms > 0 && now_ms - work->start_ms >= (int64_t)job->timeout_ms)
        job_finish(state, job, FINISH_TIMEOUT, now_ms);
}

/* Adds the job to the draws unless it ends before it can draw. */
static size_t job_queue(struct state *state, struct job *job, struct tinylm_draw *draws, size_t len, int64_t now_ms)
{
    if (job->engine_data == NULL && job_start(state, job, now_ms) != 0)
        job_fail(state, job);
    if (job->state != JOB_RUNNING)
        return len;
    struct work *work = job->engine_data;
    draws[len] = (struct tinylm_draw){
        .row = work->row,
        .sampling = &state->settings.sampling,
        .seed = job->seed,
        .position = work->path_tokens + job->result.tokens_out,
    };
    return len + 1;
}

static int64_t tinylm_engine_advance(void *opaque, struct job **jobs, size_t len, int64_t now_ms)
{
    struct state *state = opaque;
    struct tinylm_draw draws[BATCH];
    struct job *drawing[BATCH];
    size_t drawn = 0;
    assert(len <= BATCH);
    for (size_t i = 0; i < len; i++) {
        if (jobs[i]->state != JOB_RUNNING)
            continue;
        drawing[drawn] = jobs[i];
        drawn = job_queue(state, jobs[i], draws, drawn, now_ms);
    }
    tinylm_step(state->lm, draws, drawn);
    int64_t wait_ms = IDLE_MS;
    for (size_t i = 0; i < drawn; i++) {
        if (draws[i].failed) {
            error_set(&drawing[i]->error, ERR_CORRUPT, "tinylm: the model's probabilities are not finite numbers");
            job_fail(state, drawing[i]);
        } else {
            token_take(state, drawing[i], draws + i, now_ms);
        }
        if (drawing[i]->state == JOB_RUNNING)
            wait_ms = 0;
    }
    return wait_ms;
}

static void tinylm_engine_cancel(void *state, struct job *job)
{
    work_free(state, job);
}

const struct engine engine_tinylm = {
    .name = "tinylm",
    .help = "the embedded tiny language model: countdown and chain arithmetic, on this processor",
    .batch = BATCH,
    .open = tinylm_engine_open,
    .advance = tinylm_engine_advance,
    .cancel = tinylm_engine_cancel,
    .close = tinylm_engine_close,
};
