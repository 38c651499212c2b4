/* backend_synthetic.c - rollouts drawn from known laws: for tests, planning and load.
 *
 * Everything is a function of the job's seed, its prompt's record and index, and (for failures) its
 * lease, so equal sweeps give equal rollouts. Laws:
 *
 *   success of a prompt   uniform in success -/+ success_spread * min(success, 1 - success): its mean is `success`
 *   a rollout             right with that probability, else wrong-K, K uniform below `answers`
 *   tokens                lognormal of mean length_mean and sigma length_sigma, at least 1
 *   latency               lognormal of median latency_ms and sigma latency_sigma
 *   drift                 each step moves the log-odds of a right end by a normal draw of this sigma; the generator
 *                         foresees the chance of a right end and the mean tokens up to it
 *   lp_mean               normal, sigma 0.25, mean -0.6 when right and -0.9 when wrong, at most -0.01
 *
 *   a revision            with `fix` and `spoil`, right by these chances where the latest attempt was wrong and right
 *   thinking              filler, each phase with a length of its own; it ends early unless its cap is shorter
 *
 * A step job writes "step K of N\n"; the first draws N in 3..6, the N-th is the answer instead. Waiting costs no thread:
 * a job that takes time is looked at again when it is due. */
#include "worker/backend.h"

#include "common/hash.h"
#include "common/limits.h"
#include "common/rng.h"
#include "worker/fields.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = 256,
    IDLE_MS = 1000,
    PROMPTS = 4096, /* remembered; a power of two */
    STEPS_MIN = 3,
    STEPS_MAX = 6,
};

/* What a number is drawn for, below RNG_SYNTHETIC. Never renumber: seeds must give equal rollouts.
 */
enum draw {
    DRAW_PROMPT,
    DRAW_RIGHT,
    DRAW_WRONG,
    DRAW_TOKENS,
    DRAW_LATENCY,
    DRAW_LP,
    DRAW_FAIL,
    DRAW_STEPS,
    DRAW_DRIFT
};

struct laws {
    double success, success_spread, length_mean, length_sigma, latency_ms, latency_sigma, fail_rate, drift;
    double fix, spoil; /* below 0: not said */
    uint64_t answers, text_bytes;
};

/* Reading a record's JSON costs more than all else, and prompts come many times. */
struct prompt {
    uint64_t hash; /* of record and index; 0: empty */
    double success;
    struct buf right;
};

struct state {
    struct laws laws;
    struct prompt prompts[PROMPTS];
};

/* A job that is not due yet. */
struct wait {
    int64_t due_ms;
    bool timeout;
};

/* --- the spec --- */

static int read_laws(const struct fields *options, struct laws *laws, struct error *error)
{
    const struct {
        const char *key;
        double min, max, *value;
    } reals[] = {
        {"success", 0, 1, &laws->success},
        {"success_spread", 0, 1, &laws->success_spread},
        {"length_mean", 1, 1e6, &laws->length_mean},
        {"length_sigma", 0, 4, &laws->length_sigma},
        {"latency_ms", 0, 1e7, &laws->latency_ms},
        {"latency_sigma", 0, 4, &laws->latency_sigma},
        {"fail_rate", 0, 1, &laws->fail_rate},
        {"drift", 0, 10, &laws->drift},
        {"fix", -1, 1, &laws->fix},
        {"spoil", -1, 1, &laws->spoil},
    };
    for (size_t i = 0; i < sizeof(reals) / sizeof(reals[0]); i++) {
        int rc = fields_real(options, reals[i].key, reals[i].min, reals[i].max, reals[i].value, error);
        if (rc != 0)
            return rc;
    }
    int rc = fields_count(options, "answers", 65536, &laws->answers, error);
    if (rc == 0 && laws->answers == 0)
        rc = error_set(error, ERR_RANGE, "'answers' is 0; it lies between 1 and 65536");
    return rc != 0 ? rc : fields_count(options, "text_bytes", LIMIT_TEXT, &laws->text_bytes, error);
}

static int synthetic_open(struct slice json, void **opaque, struct error *error)
{
    struct fields *spec;
    struct error what;
    struct state *state = xalloc(sizeof(*state));
    state->laws =
        (struct laws){.success = 0.5, .length_mean = 64, .length_sigma = 0.5, .answers = 8, .fix = -1, .spoil = -1};
    *opaque = NULL;
    int rc = fields_parse(json, &spec, &what);
    if (rc == 0)
        rc = read_laws(fields_object(spec, "options"), &state->laws, &what);
    fields_free(&spec);
    if (rc != 0) {
        free(state);
        return error_set(error, rc, "synthetic: %.300s", what.text);
    }
    *opaque = state;
    return 0;
}

static void synthetic_close(void **opaque)
{
    struct state *state = *opaque;
    if (state == NULL)
        return;
    for (size_t i = 0; i < PROMPTS; i++)
        buf_clear(&state->prompts[i].right);
    free(state);
    *opaque = NULL;
}

/* --- draws --- */

static double uniform(uint64_t seed, enum draw what)
{
    return rng_unit(rng_u64(seed, RNG_SYNTHETIC, (uint64_t)what, 0));
}

/* Box and Muller 1958; 1 - u lies in (0, 1]. */
static double normal(uint64_t seed, enum draw what)
{
    double radius = sqrt(-2 * log(1 - uniform(seed, what)));
    return radius * cos(2 * M_PI * rng_unit(rng_u64(seed, RNG_SYNTHETIC, (uint64_t)what, 1)));
}

static double prompt_success(const struct laws *laws, uint64_t hash)
{
    double room = laws->success < 0.5 ? laws->success : 1 - laws->success;
    double shift = 2 * uniform(hash, DRAW_PROMPT) - 1;
    return laws->success + laws->success_spread * room * shift;
}

static int prompt_read(const struct laws *laws, const struct job *job, struct prompt *prompt, uint64_t hash,
                       struct error *error)
{
    struct fields *record;
    struct error what;
    prompt->hash = 0;
    int rc = fields_parse(job->record, &record, &what);
    if (rc != 0)
        return error_set(error, rc, "synthetic: the prompt's record is %.300s", what.text);
    buf_reset(&prompt->right);
    if (!fields_text(record, "answer", &prompt->right))
        buf_puts(&prompt->right, "right");
    fields_free(&record);
    if (prompt->right.len > LIMIT_ANSWER)
        return error_set(error, ERR_LIMIT, "synthetic: the prompt's answer has more than %d bytes", LIMIT_ANSWER);
    prompt->success = prompt_success(laws, hash);
    prompt->hash = hash;
    return 0;
}

static const struct prompt *prompt_of(struct state *state, struct job *job)
{
    uint64_t hash = hash_bytes(job->record.data, job->record.len);
    hash = rng_mix(hash ^ rng_mix(job->prompt)) | 1; /* never 0, which says empty */
    struct prompt *prompt = &state->prompts[(hash >> 8) % PROMPTS];
    if (prompt->hash != hash && prompt_read(&state->laws, job, prompt, hash, &job->error) != 0)
        return NULL;
    return prompt;
}

/* --- texts --- */

/* len bytes of words, never with a line end. */
static void put_filler(struct buf *out, size_t len)
{
    static const char words[] = "so we get one more and then carry it over to the next part which is ";
    size_t unit = sizeof(words) - 1;
    char *to = buf_grow(out, len);
    for (size_t i = 0; i < len; i += unit)
        memcpy(to + i, words, len - i < unit ? len - i : unit);
    out->len += len;
    out->data[out->len] = '\0';
}

/* `head`, filler and `tail`, of text_bytes in all when that is set, else of about four bytes a
 * token. */
static void put_text(const struct laws *laws, struct buf *out, uint32_t tokens, struct slice head, struct slice tail)
{
    uint64_t want = laws->text_bytes;
    if (want == 0)
        want = (uint64_t)tokens * 4 < LIMIT_TEXT ? (uint64_t)tokens * 4 : LIMIT_TEXT;
    size_t fixed = head.len + tail.len;
    buf_put(out, head.data, head.len);
    if (want > fixed)
        put_filler(out, (size_t)want - fixed);
    buf_put(out, tail.data, tail.len);
}

/* --- rollouts --- */

struct draft {
    const struct prompt *prompt;
    char wrong[32];
    struct slice answer;
    bool right;
    uint32_t tokens;
    uint32_t step, steps; /* 0 of 0: a whole rollout */
    double chance;        /* of a right end, as it stands behind this step */
};

/* Log-odds where the path stands: they are in the head of its last line, "step 2 of 4 at -0.53". */
static double odds_of_path(const struct job *job, double otherwise)
{
    size_t end = job->text.len > 0 ? job->text.len - 1 : 0, from = end;
    while (from > 0 && job->text.data[from - 1] != '\n')
        from--;
    char line[48] = "";
    size_t len = end - from < sizeof line - 1 ? end - from : sizeof line - 1;
    if (len > 0)
        memcpy(line, job->text.data + from, len);
    const char *at = strncmp(line, "step ", 5) == 0 ? strstr(line, " at ") : NULL;
    return at != NULL ? strtod(at + 4, NULL) : otherwise;
}

static unsigned steps_of(uint64_t seed)
{
    return STEPS_MIN + (unsigned)(rng_u64(seed, RNG_SYNTHETIC, DRAW_STEPS, 0) % (STEPS_MAX - STEPS_MIN + 1));
}

/* An attempt's last line is its answer. */
static bool was_right(struct slice attempt, struct slice right)
{
    size_t from = attempt.len;
    while (from > 0 && attempt.data[from - 1] != '\n')
        from--;
    return attempt.len - from == right.len &&
           (right.len == 0 || memcmp(attempt.data + from, right.data, right.len) == 0);
}

/* A revision goes by what became of the latest attempt, where the laws say so. */
static bool is_revised(const struct laws *laws, const struct job *job, struct slice right, double *chance)
{
    if (job->cue != CUE_REVISE || job->turns_len == 0)
        return false;
    bool was = was_right(job->turns[job->turns_len - 1], right);
    *chance = was ? 1 - laws->spoil : laws->fix;
    return was ? laws->spoil >= 0 : laws->fix >= 0;
}

static double draft_chance(const struct laws *laws, const struct job *job, const struct prompt *prompt)
{
    double success = prompt->success;
    if (is_revised(laws, job, buf_slice(&prompt->right), &success))
        return success;
    success = prompt->success;
    if (laws->drift <= 0 || success <= 0 || success >= 1)
        return success;
    double steps = job->step ? 1 : steps_of(job->seed); /* a whole rollout has them all */
    double odds = odds_of_path(job, log(success / (1 - success)));
    odds += laws->drift * sqrt(steps) * normal(job->seed, DRAW_DRIFT);
    return 1 / (1 + exp(-odds));
}

/* N is drawn at the root and then read from the path's first line: a node's seed says nothing about
 * its root. */
static void draft_step(const struct job *job, struct draft *draft)
{
    char line[32] = "";
    unsigned steps = 0;
    draft->step = 1;
    for (size_t i = 0; i < job->text.len; i++)
        draft->step += job->text.data[i] == '\n';
    memcpy(line, job->text.data != NULL ? job->text.data : "",
           job->text.len < sizeof(line) - 1 ? job->text.len : sizeof(line) - 1);
    const char *of = strncmp(line, "step 1 of ", 10) == 0 ? line + 10 : NULL;
    if (of != NULL && *of >= '0' + STEPS_MIN && *of <= '0' + STEPS_MAX)
        steps = (unsigned)(*of - '0');
    if (steps == 0)
        steps = steps_of(job->seed);
    draft->steps = steps;
}

static void draft_make(const struct laws *laws, const struct job *job, const struct prompt *prompt, struct draft *draft)
{
    *draft = (struct draft){.prompt = prompt};
    draft->chance = draft_chance(laws, job, prompt);
    draft->right = uniform(job->seed, DRAW_RIGHT) < draft->chance;
    draft->answer = buf_slice(&prompt->right);
    if (!draft->right) {
        memcpy(draft->wrong, "wrong-", 6);
        uint64_t which = rng_u64(job->seed, RNG_SYNTHETIC, DRAW_WRONG, 0) % laws->answers;
        char digits[24];
        size_t len = 6, count = 0;
        do
            digits[count++] = (char)('0' + which % 10);
        while ((which /= 10) > 0);
        while (count > 0)
            draft->wrong[len++] = digits[--count];
        draft->answer = (struct slice){draft->wrong, len};
    }
    if (job->step)
        draft_step(job, draft);
    double mean = laws->length_mean / (draft->steps > 0 ? draft->steps : 1);
    double sigma = laws->length_sigma;
    double tokens = mean;
    if (sigma > 0)
        tokens = exp(log(mean) - sigma * sigma / 2 + sigma * normal(job->seed, DRAW_TOKENS));
    draft->tokens = tokens < 1.5 ? 1 : tokens > LIMIT_MAX_TOKENS ? LIMIT_MAX_TOKENS : (uint32_t)(tokens + 0.5);
}

static void put_foreseen(struct features *features, const struct laws *laws, const struct draft *draft)
{
    uint32_t left = draft->steps - draft->step;
    features->have |= 1u << FEATURE_FORESEEN_REWARD | 1u << FEATURE_FORESEEN_TOKENS;
    features->v[FEATURE_FORESEEN_REWARD] = draft->chance;
    features->v[FEATURE_FORESEEN_TOKENS] = left > 0 ? laws->length_mean * left / draft->steps : 0;
}

static void put_features(struct features *features, const struct job *job, bool right, uint32_t tokens)
{
    double mean = (right ? -0.6 : -0.9) + 0.25 * normal(job->seed, DRAW_LP);
    if (mean > -0.01)
        mean = -0.01;
    features->have = 1u << FEATURE_LP_MEAN | 1u << FEATURE_LP_SUM;
    features->v[FEATURE_LP_MEAN] = mean;
    features->v[FEATURE_LP_SUM] = mean * tokens;
}

static void put_draft(const struct laws *laws, struct job *job, const struct draft *draft)
{
    char line[48];
    struct buf tail = {0};
    if (job->result.finish == FINISH_LENGTH || job->think) {
        put_text(laws, &job->out, job->result.tokens_out, (struct slice){0}, (struct slice){0});
        return;
    }
    if (job->result.finish == FINISH_STEP) {
        size_t len = (size_t)snprintf(line, sizeof(line), "step %u of %u", draft->step, draft->steps);
        if (laws->drift > 0)
            len +=
                (size_t)snprintf(line + len, sizeof(line) - len, " at %.4f", log(draft->chance / (1 - draft->chance)));
        if (laws->text_bytes == 0) {
            buf_put(&job->out, line, len);
            buf_puts(&job->out, "\n");
        } else {
            put_text(laws, &job->out, job->result.tokens_out, (struct slice){line, len}, slice_of("\n"));
        }
        return;
    }
    buf_puts(&tail, "\n");
    buf_put(&tail, draft->answer.data, draft->answer.len);
    struct slice end = buf_slice(&tail);
    if (laws->text_bytes > 0 && laws->text_bytes < end.len)
        end = draft->answer; /* no room for the line end before it */
    put_text(laws, &job->out, job->result.tokens_out, (struct slice){0}, end);
    buf_clear(&tail);
}

/* Bytes of earlier attempts, each with the instruction behind it. */
static size_t turns_len(const struct job *job)
{
    size_t len = 0;
    for (uint32_t i = 0; i < job->turns_len; i++)
        len += job->turns[i].len + job->cue_text.len;
    return len;
}

static void job_write(struct state *state, struct job *job)
{
    struct draft draft;
    const struct prompt *prompt = prompt_of(state, job);
    if (prompt == NULL) {
        job->state = JOB_FAILED;
        return;
    }
    draft_make(&state->laws, job, prompt, &draft);
    job->result.finish = draft.step < draft.steps || job->think ? FINISH_STEP : FINISH_STOP;
    job->result.tokens_in = (uint32_t)((job->record.len + job->text.len + turns_len(job)) / 4 + 1);
    job->result.tokens_out = draft.tokens;
    if (job->tokens_max > 0 && draft.tokens > job->tokens_max) {
        job->result.finish = FINISH_LENGTH;
        job->result.tokens_out = job->tokens_max;
    }
    put_features(&job->result.features, job, draft.right, job->result.tokens_out);
    if (state->laws.drift > 0)
        put_foreseen(&job->result.features, &state->laws, &draft);
    put_draft(&state->laws, job, &draft);
    job->state = JOB_DONE;
}

/* --- jobs --- */

static bool job_fails(const struct laws *laws, struct job *job)
{
    if (laws->fail_rate <= 0 || uniform(job->seed ^ rng_mix(job->lease), DRAW_FAIL) >= laws->fail_rate)
        return false;
    error_set(&job->error, ERR_CLOSED, "synthetic: failed, as fail_rate asks");
    job->state = JOB_FAILED;
    return true;
}

/* Sets when the job is due; false when that is now. */
static bool job_waits(const struct laws *laws, struct job *job, int64_t now_ms)
{
    double latency = laws->latency_ms;
    if (latency > 0 && laws->latency_sigma > 0)
        latency *= exp(laws->latency_sigma * normal(job->seed, DRAW_LATENCY));
    if (latency > 1e9)
        latency = 1e9;
    bool timeout = job->timeout_ms > 0 && latency > job->timeout_ms;
    job->result.latency_ms = timeout ? job->timeout_ms : (uint32_t)(latency + 0.5);
    if (job->result.latency_ms == 0)
        return false;
    struct wait *wait = xalloc(sizeof(*wait));
    *wait = (struct wait){now_ms + job->result.latency_ms, timeout};
    job->engine_data = wait;
    return true;
}

/* Moves one job on; returns ms until it is due, 0 when it is finished. */
static int64_t job_advance(struct state *state, struct job *job, int64_t now_ms)
{
    struct wait *wait = job->engine_data;
    bool timeout = false;
    if (wait == NULL) {
        buf_reset(&job->out);
        buf_reset(&job->found);
        job->result = (struct result){0};
        if (job_waits(&state->laws, job, now_ms))
            return job->result.latency_ms;
    } else {
        if (now_ms < wait->due_ms)
            return wait->due_ms - now_ms;
        timeout = wait->timeout;
        free(wait);
        job->engine_data = NULL;
    }
    if (job_fails(&state->laws, job))
        return 0;
    if (timeout) {
        job->result.finish = FINISH_TIMEOUT;
        job->result.tokens_out = 1;
        job->state = JOB_DONE;
        return 0;
    }
    job_write(state, job);
    return 0;
}

static int64_t synthetic_advance(void *opaque, struct job **jobs, size_t len, int64_t now_ms)
{
    int64_t wait_ms = IDLE_MS;
    for (size_t i = 0; i < len; i++) {
        if (jobs[i]->state != JOB_RUNNING)
            continue;
        int64_t due_ms = job_advance(opaque, jobs[i], now_ms);
        if (due_ms > 0 && due_ms < wait_ms)
            wait_ms = due_ms;
    }
    return wait_ms;
}

static void synthetic_cancel(void *state, struct job *job)
{
    (void)state;
    free(job->engine_data);
    job->engine_data = NULL;
}

const struct engine engine_synthetic = {
    .name = "synthetic",
    .help = "rollouts drawn from known laws, for tests, planning and load",
    .batch = BATCH,
    .open = synthetic_open,
    .advance = synthetic_advance,
    .cancel = synthetic_cancel,
    .close = synthetic_close,
};
