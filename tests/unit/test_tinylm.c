/* test_tinylm.c - the embedded model: same bits in any company, right log-probabilities, no file
 * crashes it. */
#include "common/io/agent.h"
#include "common/rng.h"
#include "worker/tinylm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct engine engine_tinylm;

#define MODEL "models/tiny.tlm"
#define SPEC  "{\"name\":\"m\",\"backend\":\"tinylm\",\"path\":\"" MODEL "\""

enum { BATCH = 16, JOBS = 40 };

static const char *const prompts[] = {
    "C24:3,5,7,9",  "A7*8+35-16",  "C36:4,8,12",   "C50:2,6,11,13,18", "A12+40-9*3",
    "C17:1,4,9,20", "A88-13+25*2", "C91:7,13,5,2", "C24:3,5,7",        "xyz+1",
};

/* --- jobs --- */

static void *open_spec(const char *spec)
{
    void *state = NULL;
    struct error error = {""};
    if (engine_tinylm.open(slice_of(spec), &state, &error) != 0)
        fail_msg("open: %s", error.text);
    return state;
}

static void refuse_spec(const char *spec)
{
    void *state = NULL;
    struct error error = {""};
    assert_true(engine_tinylm.open(slice_of(spec), &state, &error) < 0);
    assert_null(state);
    assert_true(strlen(error.text) > 10);
}

static char *record_of(const char *prompt)
{
    struct buf record = {0};
    buf_printf(&record, "{\"id\":\"x\",\"prompt\":\"%s\"}", prompt);
    return record.data;
}

static void job_init(struct job *job, const char *prompt, const char *path, uint64_t seed)
{
    *job = (struct job){.seed = seed, .spec = slice_of("{}")};
    job->record = slice_of(record_of(prompt));
    job->text = slice_of(path);
}

static void job_clear(struct job *job)
{
    free((char *)job->record.data);
    job->record = (struct slice){0};
    buf_clear(&job->out);
    buf_clear(&job->found);
}

static void run_alone(void *state, struct job *job)
{
    for (int64_t now = 0; job->state == JOB_RUNNING; now++) {
        assert_true(now < 1000);
        engine_tinylm.advance(state, &job, 1, now);
    }
    assert_null(job->engine_data);
}

static void run_done(void *state, struct job *job)
{
    run_alone(state, job);
    if (job->state != JOB_DONE)
        fail_msg("job failed: %s", job->error.text);
}

static const char *text_of(const struct job *job)
{
    return job->out.data == NULL ? "" : job->out.data;
}

static void assert_same(const struct job *a, const struct job *b)
{
    assert_string_equal(text_of(a), text_of(b));
    assert_int_equal(a->result.finish, b->result.finish);
    assert_int_equal(a->result.tokens_out, b->result.tokens_out);
    assert_int_equal(a->result.features.have, b->result.features.have);
    assert_memory_equal(a->result.features.v, b->result.features.v, sizeof a->result.features.v);
}

static void jobs_init(struct job *jobs)
{
    for (int i = 0; i < JOBS; i++)
        job_init(jobs + i, prompts[i % 10], i % 7 == 3 ? "1+2=3\n" : "", rng_u64(7, RNG_TEST, (uint64_t)i, 0));
}

static void jobs_clear(struct job *jobs)
{
    for (int i = 0; i < JOBS; i++)
        job_clear(jobs + i);
}

/* --- the same bits --- */

/* One job joins every other step and places are shuffled, so each row meets batches of many sizes.
 */
static void run_together(void *state, struct job *jobs)
{
    struct job *active[BATCH];
    size_t len = 0, next = 0;
    for (uint64_t now = 0; len > 0 || next < JOBS; now++) {
        if (next < JOBS && len < BATCH && now % 2 == 0)
            active[len++] = jobs + next++;
        size_t a = rng_u64(1, RNG_TEST, now, 1) % len, b = rng_u64(1, RNG_TEST, now, 2) % len;
        struct job *swap = active[a];
        active[a] = active[b];
        active[b] = swap;
        engine_tinylm.advance(state, active, len, (int64_t)now);
        for (size_t i = 0; i < len;)
            if (active[i]->state == JOB_RUNNING)
                i++;
            else
                active[i] = active[--len];
    }
}

static void batch_changes_nothing(void **unused)
{
    (void)unused;
    static struct job alone[JOBS], together[JOBS];
    void *cold = open_spec(SPEC ",\"options\":{\"cache_mb\":0}}"), *warm = open_spec(SPEC "}");
    jobs_init(alone);
    jobs_init(together);
    for (int i = 0; i < JOBS; i++)
        run_done(cold, alone + i);
    run_together(warm, together);
    for (int i = 0; i < JOBS; i++)
        assert_same(alone + i, together + i);
    jobs_clear(alone);
    jobs_clear(together);
    engine_tinylm.close(&cold);
    engine_tinylm.close(&warm);
    assert_null(cold);
}

static void cancel_leaves_others_alone(void **unused)
{
    (void)unused;
    static struct job alone[2], jobs[2];
    void *state = open_spec(SPEC "}");
    for (int i = 0; i < 2; i++) {
        job_init(alone + i, prompts[i], "", 5);
        job_init(jobs + i, prompts[i], "", 5);
    }
    run_done(state, alone + 1);
    struct job *both[] = {jobs, jobs + 1};
    for (int i = 0; i < 3; i++)
        engine_tinylm.advance(state, both, 2, 0);
    engine_tinylm.cancel(state, jobs);
    assert_null(jobs[0].engine_data);
    run_done(state, jobs + 1);
    assert_same(alone + 1, jobs + 1);
    for (int i = 0; i < 2; i++) {
        job_clear(alone + i);
        job_clear(jobs + i);
    }
    engine_tinylm.close(&state);
}

static void seed_decides(void **unused)
{
    (void)unused;
    struct job a, b, c;
    void *state = open_spec(SPEC "}");
    job_init(&a, prompts[3], "", 1);
    job_init(&b, prompts[3], "", 1);
    job_init(&c, prompts[3], "", 2);
    run_done(state, &a);
    run_done(state, &b);
    run_done(state, &c);
    assert_same(&a, &b);
    assert_string_not_equal(text_of(&a), text_of(&c));
    job_clear(&a);
    job_clear(&b);
    job_clear(&c);
    engine_tinylm.close(&state);
}

static uint64_t hash(uint64_t h, const void *data, size_t len)
{
    for (const unsigned char *p = data; len > 0; p++, len--)
        h = (h ^ *p) * 0x100000001B3u;
    return h;
}

/* Another number here means that recorded sweeps would not replay: change it only on purpose, and
 * say so. */
static void numbers_stay(void **unused)
{
    (void)unused;
    static struct job jobs[JOBS];
    void *state = open_spec(SPEC "}");
    uint64_t h = 0xCBF29CE484222325u;
    jobs_init(jobs);
    run_together(state, jobs);
    for (int i = 0; i < JOBS; i++) {
        h = hash(h, jobs[i].out.data, jobs[i].out.len);
        h = hash(h, jobs[i].result.features.v, FEATURE_CONF_MEAN * sizeof(double)); /* those that it gives */
    }
    jobs_clear(jobs);
    engine_tinylm.close(&state);
    if (h != 0x96A4CB23879BD84Eu)
        fail_msg("hash is 0x%016llX", (unsigned long long)h);
}

/* --- log-probabilities against a plain evaluation in double --- */

struct plain {
    char *file;
    const float *w; /* weights */
    int vocab, dim, layers, heads, ff;
    float theta, eps;
};

static void plain_load(struct plain *p, const char *path)
{
    int32_t head[10];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    p->file = xalloc(8 << 20);
    size_t size = fread(p->file, 1, 8 << 20, f);
    fclose(f);
    assert_true(size > 48);
    memcpy(head, p->file + 8, sizeof head);
    memcpy(&p->theta, head + 8, 4);
    memcpy(&p->eps, head + 9, 4);
    p->vocab = head[0], p->dim = head[1], p->layers = head[2], p->heads = head[3], p->ff = head[4];
    p->w = (const float *)(p->file + (48 + head[7] + 63) / 64 * 64);
}

static void plain_mul(double *y, const float *w, const double *x, int out, int in)
{
    for (int o = 0; o < out; o++) {
        y[o] = 0;
        for (int i = 0; i < in; i++)
            y[o] += (double)w[(size_t)o * (size_t)in + (size_t)i] * x[i];
    }
}

static void plain_norm(const struct plain *p, double *out, const double *x, const float *w)
{
    double squares = 0;
    for (int i = 0; i < p->dim; i++)
        squares += x[i] * x[i];
    for (int i = 0; i < p->dim; i++)
        out[i] = x[i] / sqrt(squares / p->dim + (double)p->eps) * (double)w[i];
}

static void plain_rotate(const struct plain *p, double *x, int position)
{
    int width = p->dim / p->heads;
    for (int i = 0; i < p->dim; i += 2) {
        double angle = position * pow((double)p->theta, -(double)(i % width) / width);
        double a = x[i], b = x[i + 1];
        x[i] = a * cos(angle) - b * sin(angle);
        x[i + 1] = a * sin(angle) + b * cos(angle);
    }
}

enum { PLAIN_DIM = 128, PLAIN_FF = 352, PLAIN_LEN = 161, PLAIN_LAYERS = 4 };
static double plain_k[PLAIN_LAYERS][PLAIN_LEN][PLAIN_DIM];
static double plain_v[PLAIN_LAYERS][PLAIN_LEN][PLAIN_DIM];

static void plain_attend(const struct plain *p, int layer, int position, const double *q, double *out)
{
    int width = p->dim / p->heads;
    for (int h = 0; h < p->dim; h += width) {
        double score[PLAIN_LEN], total = 0;
        for (int t = 0; t <= position; t++) {
            score[t] = 0;
            for (int i = h; i < h + width; i++)
                score[t] += q[i] * plain_k[layer][t][i] / sqrt(width);
            total += score[t] = exp(score[t]);
        }
        for (int i = h; i < h + width; i++) {
            out[i] = 0;
            for (int t = 0; t <= position; t++)
                out[i] += score[t] / total * plain_v[layer][t][i];
        }
    }
}

static const float *plain_layer(const struct plain *p, const float *w, int layer, int position, double *x)
{
    int dim = p->dim, ff = p->ff, square = dim * dim, wide = dim * ff;
    double n[PLAIN_DIM], q[PLAIN_DIM], a[PLAIN_DIM], gate[PLAIN_FF], up[PLAIN_FF];
    plain_norm(p, n, x, w);
    w += dim;
    plain_mul(q, w, n, dim, dim);
    plain_mul(plain_k[layer][position], w + square, n, dim, dim);
    plain_mul(plain_v[layer][position], w + 2 * square, n, dim, dim);
    plain_rotate(p, q, position);
    plain_rotate(p, plain_k[layer][position], position);
    plain_attend(p, layer, position, q, a);
    plain_mul(n, w + 3 * square, a, dim, dim);
    w += 4 * square;
    for (int i = 0; i < dim; i++)
        x[i] += n[i];
    plain_norm(p, n, x, w);
    w += dim;
    plain_mul(gate, w, n, ff, dim);
    plain_mul(up, w + wide, n, ff, dim);
    for (int i = 0; i < ff; i++)
        gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    plain_mul(n, w + 2 * wide, gate, dim, ff);
    for (int i = 0; i < dim; i++)
        x[i] += n[i];
    return w + 3 * wide;
}

/* Log-probabilities of all tokens at `position`, after tokens[position]. */
static void plain_step(const struct plain *p, int token, int position, double *logprobs)
{
    double x[PLAIN_DIM], n[PLAIN_DIM], total = 0;
    const float *w = p->w;
    for (int i = 0; i < p->dim; i++)
        x[i] = (double)w[token * p->dim + i];
    w += p->vocab * p->dim;
    for (int l = 0; l < p->layers; l++)
        w = plain_layer(p, w, l, position, x);
    plain_norm(p, n, x, w);
    plain_mul(logprobs, w + p->dim, n, p->vocab, p->dim);
    for (int i = 0; i < p->vocab; i++)
        total += exp(logprobs[i]);
    for (int i = 0; i < p->vocab; i++)
        logprobs[i] -= log(total);
}

static double entropy_of(const double *logprobs, int len)
{
    double sum = 0;
    for (int i = 0; i < len; i++)
        sum -= exp(logprobs[i]) * logprobs[i];
    return sum;
}

static int falling(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (y > x) - (y < x);
}

/* Minus the mean of the 20 largest, and minus the mean of all less the logarithm of how many there are. */
static void certainties_agree(const struct tinylm_draw *draw, const double *logprobs, int len)
{
    const int likeliest = len < 20 ? len : 20;
    double sorted[64], top = 0, all = 0;
    memcpy(sorted, logprobs, (size_t)len * sizeof *sorted);
    qsort(sorted, (size_t)len, sizeof *sorted, falling);
    for (int i = 0; i < len; i++) {
        top += i < likeliest ? sorted[i] / likeliest : 0;
        all += sorted[i] / len;
    }
    assert_true(fabs(draw->confidence + top) < 1e-4);
    assert_true(fabs(draw->certainty + all + log(len)) < 1e-4);
}

/* Draws from the model until the end, and asks the plain evaluation about every token. */
static void compare_with_plain(const char *path, const char *prompt, uint64_t seed, double temperature)
{
    struct plain plain;
    struct tinylm *lm = NULL;
    struct tinylm_sampling sampling = {.temperature = temperature, .top_p = 1, .min_p = 0};
    double logprobs[64], lp = 0, lp_plain = 0;
    uint16_t tokens[PLAIN_LEN + 1] = {TINYLM_BOS};
    uint32_t warm, len = 1 + (uint32_t)strlen(prompt);
    plain_load(&plain, path);
    assert_int_equal(tinylm_open(path, 0, &lm, NULL), 0);
    assert_int_equal(tinylm_encode(lm, slice_of(prompt), tokens + 1, NULL), 0);
    for (uint32_t i = 0; i + 1 < len; i++)
        plain_step(&plain, tokens[i], (int)i, logprobs);
    struct tinylm_draw draw = {.sampling = &sampling, .seed = seed};
    draw.row = tinylm_row_new(lm, tokens, len, &warm);
    while (len <= tinylm_context(lm) && tokens[len - 1] != TINYLM_EOS) {
        tinylm_step(lm, &draw, 1);
        plain_step(&plain, tokens[len - 1], (int)len - 1, logprobs);
        assert_true(fabs(draw.logprob - logprobs[draw.token]) < 1e-4);
        assert_true(fabs(draw.entropy - entropy_of(logprobs, plain.vocab)) < 1e-4);
        certainties_agree(&draw, logprobs, plain.vocab);
        lp += draw.logprob, lp_plain += logprobs[draw.token];
        tokens[len++] = draw.token;
        draw.position++;
    }
    assert_true(fabs(lp - lp_plain) < 5e-4);
    tinylm_row_free(lm, &draw.row);
    tinylm_close(&lm);
    free(plain.file);
}

static void logprobs_agree_with_double(void **unused)
{
    (void)unused;
    for (uint64_t i = 0; i < 3; i++) {
        struct buf prompt = {0};
        buf_printf(&prompt, "%s\n", prompts[i + 2]);
        compare_with_plain(MODEL, prompt.data, i, i == 2 ? 1.6 : 1.0);
        buf_clear(&prompt);
    }
}

/* Confidences of a rollout, token by token; how many. */
static uint32_t confidences_of(struct tinylm *lm, const char *prompt, uint64_t seed, float *confidences)
{
    struct tinylm_sampling sampling = {.temperature = 1, .top_p = 1, .min_p = 0};
    struct tinylm_draw draw = {.sampling = &sampling, .seed = seed};
    uint16_t tokens[64] = {TINYLM_BOS};
    uint32_t warm, len = 0;
    assert_int_equal(tinylm_encode(lm, slice_of(prompt), tokens + 1, NULL), 0);
    draw.row = tinylm_row_new(lm, tokens, 1 + (uint32_t)strlen(prompt), &warm);
    for (draw.token = TINYLM_BOS; draw.token != TINYLM_EOS; draw.position++) {
        tinylm_step(lm, &draw, 1);
        confidences[len++] = (float)draw.confidence;
        if (tinylm_row_len(draw.row) > tinylm_context(lm))
            break;
    }
    tinylm_row_free(lm, &draw.row);
    return len;
}

/* Tokens until the first whole window below; 0: there is none. */
static uint32_t falls_at(const float *confidences, uint32_t len, uint32_t window, double threshold)
{
    double sum = 0;
    for (uint32_t i = 0; i < len; i++) {
        sum += confidences[i];
        sum -= i >= window ? confidences[i - window] : 0;
        if (i + 1 >= window && (double)(float)(sum / window) < threshold)
            return i + 1;
    }
    return 0;
}

/* A rollout ends with the token that completes the first window below the threshold, unless that is its last anyway. */
static void ends_where_confidence_falls(void **unused)
{
    (void)unused;
    struct tinylm *lm = NULL;
    void *state = open_spec(SPEC "}");
    int killed = 0, whole = 0;
    assert_int_equal(tinylm_open(MODEL, 0, &lm, NULL), 0);
    for (uint64_t i = 0; i < 60; i++) {
        float confidences[512];
        struct buf prompt = {0};
        struct job job;
        buf_printf(&prompt, "%s\n", prompts[i % 9]);
        uint32_t window = 4 + (uint32_t)i % 13, len = confidences_of(lm, prompt.data, i, confidences);
        const double threshold = 9.5 + 0.3 * (double)(i % 10);
        uint32_t at = falls_at(confidences, len, window, threshold);
        job_init(&job, prompts[i % 9], "", i);
        job.kill_window = window;
        job.kill_below = threshold;
        run_done(state, &job);
        bool ended = at > 0 && at < len;
        assert_int_equal(job.result.finish == FINISH_KILLED, ended);
        assert_int_equal(job.result.tokens_out, ended ? at : len);
        assert_true((job.result.features.v[FEATURE_CONF_MIN] < threshold) == (at > 0) || len < window);
        killed += ended;
        whole += !ended;
        job_clear(&job);
        buf_clear(&prompt);
    }
    assert_true(killed > 10);
    assert_true(whole > 10);
    tinylm_close(&lm);
    engine_tinylm.close(&state);
}

/* --- how a text goes on and ends --- */

/* One text in one go and step by step: the seed and the place decide, not the way there. */
static void continue_step_by_step(const char *options, bool reread)
{
    struct buf spec = {0}, path = {0};
    buf_printf(&spec, SPEC ",\"options\":%s}", options);
    void *state = open_spec(spec.data);
    for (uint64_t seed = 0; seed < 6; seed++) {
        struct job whole, step;
        uint32_t tokens = 0, again = 0, steps = 0;
        double lp = 0;
        buf_reset(&path);
        buf_puts(&path, "");
        job_init(&whole, prompts[seed], "", seed);
        run_done(state, &whole);
        do {
            job_init(&step, prompts[seed], path.data, seed);
            step.step = true;
            run_done(state, &step);
            buf_put(&path, step.out.data, step.out.len);
            tokens += step.result.tokens_out;
            again += step.result.tokens_reread;
            lp += step.result.features.v[FEATURE_LP_SUM];
            steps++;
            if (step.result.finish == FINISH_STEP)
                assert_int_equal(path.data[path.len - 1], '\n');
            job_clear(&step);
        } while (step.result.finish == FINISH_STEP);
        assert_string_equal(path.data, text_of(&whole));
        assert_int_equal(tokens, whole.result.tokens_out);
        assert_true(fabs(lp - whole.result.features.v[FEATURE_LP_SUM]) < 1e-9);
        assert_true(steps > 1);
        assert_true((again > 0) == reread);
        job_clear(&whole);
    }
    buf_clear(&spec);
    buf_clear(&path);
    engine_tinylm.close(&state);
}

static void continued_path_is_the_same_text(void **unused)
{
    (void)unused;
    continue_step_by_step("{}", false);
    continue_step_by_step("{\"cache_mb\":0}", true);
    continue_step_by_step("{\"cache_mb\":1}", false);
}

/* Thinking ends at its text, which is cut off, at the model's end, or at the cap; with the text put back the path goes on
 * as if it had never been cut. */
static void thinking_ends_and_goes_on(void **unused)
{
    (void)unused;
    void *plain = open_spec(SPEC "}"), *state = open_spec(SPEC ",\"think_end\":\"=\"}");
    struct job whole, think, on, capped;
    struct buf path = {0};
    job_init(&whole, "C15:3,5,7", "", 3);
    run_done(plain, &whole);
    job_init(&think, "C15:3,5,7", "", 3);
    think.think = true;
    run_done(state, &think);
    size_t before = strcspn(text_of(&whole), "=");
    assert_true(before < whole.out.len);
    assert_int_equal(think.result.finish, FINISH_STEP);
    assert_int_equal(think.out.len, before);
    assert_int_equal(think.result.tokens_out, before + 1); /* what ended it was generated too */
    buf_put(&path, think.out.data, think.out.len);
    buf_puts(&path, "=");
    job_init(&on, "C15:3,5,7", path.data, 3);
    on.cue = CUE_ANSWER;
    on.cue_text = slice_of("=");
    run_done(state, &on);
    assert_string_equal(text_of(&on), text_of(&whole) + before + 1);
    assert_int_equal(on.result.finish, FINISH_STOP);
    assert_int_equal(on.result.tokens_reread, 0); /* what was evaluated for the thinking is still there */
    job_init(&capped, "C15:3,5,7", "", 3);
    capped.think = true;
    capped.tokens_max = 2;
    run_done(state, &capped);
    assert_int_equal(capped.result.finish, FINISH_LENGTH);
    job_clear(&capped);
    void *never = open_spec(SPEC ",\"think_end\":\"none\"}");
    job_init(&capped, "C15:3,5,7", "", 3);
    capped.think = true;
    run_done(never, &capped);
    assert_int_equal(capped.result.finish, FINISH_STEP); /* the model's end */
    assert_string_equal(text_of(&capped), text_of(&whole));
    job_clear(&capped);
    job_init(&capped, "C15:3,5,7", "", 3);
    capped.think = true;
    run_alone(plain, &capped);
    assert_int_equal(capped.state, JOB_FAILED);
    assert_non_null(strstr(capped.error.text, "think_end"));
    job_clear(&capped);
    job_clear(&whole);
    job_clear(&think);
    job_clear(&on);
    buf_clear(&path);
    engine_tinylm.close(&plain);
    engine_tinylm.close(&state);
    engine_tinylm.close(&never);
}

/* Attempts and instructions stand one behind the other, as one text would. */
static void turns_are_one_text(void **unused)
{
    (void)unused;
    const struct slice turns[] = {slice_of("3+5=8\n"), slice_of("3+7=10\n")};
    void *state = open_spec(SPEC "}");
    struct job turn, text;
    job_init(&text, "C15:3,5,7", "3+5=8\n\n3+7=10\n\n", 3);
    job_init(&turn, "C15:3,5,7", "", 3);
    turn.cue = CUE_REVISE;
    turn.cue_text = slice_of("\n");
    turn.turns = turns;
    turn.turns_len = 2;
    run_done(state, &text);
    run_done(state, &turn);
    assert_same(&turn, &text);
    job_clear(&turn);
    job_clear(&text);
    engine_tinylm.close(&state);
}

/* A small memory forgets, and that costs time only. */
static void forgotten_prefixes_change_nothing(void **unused)
{
    (void)unused;
    static struct job large[JOBS], small[JOBS];
    void *most = open_spec(SPEC "}"), *little = open_spec(SPEC ",\"options\":{\"cache_mb\":1}}");
    jobs_init(large);
    jobs_init(small);
    for (int i = 0; i < JOBS; i++)
        large[i].step = small[i].step = true;
    run_together(most, large);
    run_together(little, small);
    for (int i = 0; i < JOBS; i++)
        assert_same(large + i, small + i);
    jobs_clear(large);
    jobs_clear(small);
    engine_tinylm.close(&most);
    engine_tinylm.close(&little);
}

static void stop_is_cut_off(void **unused)
{
    (void)unused;
    struct job whole, cut, across;
    void *plain = open_spec(SPEC "}"), *state = open_spec(SPEC ",\"stop\":[\"none\",\"=\"]}");
    void *pair = open_spec(SPEC ",\"stop\":\"=8\"}");
    job_init(&whole, "C15:3,5,7", "", 3);
    job_init(&cut, "C15:3,5,7", "", 3);
    run_done(plain, &whole);
    run_done(state, &cut);
    size_t before = strcspn(text_of(&whole), "=");
    assert_true(before < whole.out.len);
    assert_int_equal(cut.out.len, before);
    assert_memory_equal(text_of(&cut), text_of(&whole), before);
    assert_int_equal(cut.result.finish, FINISH_STOP);
    assert_int_equal(cut.result.tokens_out, before + 1);
    job_init(&across, "C15:3,5,7", "5+3=", 3); /* the stop begins in the path */
    run_done(pair, &across);
    assert_int_equal(across.result.finish, FINISH_STOP);
    assert_int_equal(across.out.len, 0);
    job_clear(&whole);
    job_clear(&cut);
    job_clear(&across);
    engine_tinylm.close(&plain);
    engine_tinylm.close(&state);
    engine_tinylm.close(&pair);
}

static void caps_end_a_text(void **unused)
{
    (void)unused;
    struct job job;
    void *state = open_spec(SPEC ",\"max_tokens\":7}");
    job_init(&job, prompts[0], "", 1);
    job.tokens_max = 5;
    run_done(state, &job);
    assert_int_equal(job.result.finish, FINISH_LENGTH);
    assert_int_equal(job.result.tokens_out, 5);
    assert_int_equal(job.out.len, 5);
    assert_int_equal(job.result.tokens_in, 1 + strlen(prompts[0]) + 1);
    job_clear(&job);
    job_init(&job, prompts[0], "", 1);
    job.tokens_max = 50;
    run_done(state, &job);
    assert_int_equal(job.result.tokens_out, 7);
    job_clear(&job);
    job_init(&job, prompts[0], "", 1);
    job.timeout_ms = 3;
    run_done(state, &job);
    assert_int_equal(job.result.finish, FINISH_TIMEOUT);
    assert_int_equal(job.result.tokens_out, 4);
    job_clear(&job);
    engine_tinylm.close(&state);
}

static void context_ends_a_text(void **unused)
{
    (void)unused;
    char path[200];
    struct job job;
    void *state = open_spec(SPEC "}");
    for (size_t len = 150; len < 170; len++) {
        memset(path, '7', len);
        path[len] = '\0';
        job_init(&job, "A7", path, 1);
        run_done(state, &job);
        if (1 + 3 + len > 160)
            assert_int_equal(job.result.tokens_out, 0);
        assert_true(1 + 3 + len + job.result.tokens_out <= 161 || job.result.tokens_out == 0);
        assert_true(job.result.finish == FINISH_LENGTH || job.result.finish == FINISH_STOP);
        job_clear(&job);
        job_init(&job, path, "", 1);
        run_alone(state, &job);
        assert_int_equal(job.state, 1 + len + 1 > 160 ? JOB_FAILED : JOB_DONE);
        job_clear(&job);
    }
    engine_tinylm.close(&state);
}

static void refuse_job(void *state, const char *record, const char *path)
{
    struct job job = {.record = slice_of(record), .text = slice_of(path)};
    run_alone(state, &job);
    assert_int_equal(job.state, JOB_FAILED);
    assert_true(strlen(job.error.text) > 10);
    buf_clear(&job.out);
}

static void strange_text_fails_the_job(void **unused)
{
    (void)unused;
    void *state = open_spec(SPEC "}");
    refuse_job(state, "{\"prompt\":\"Zebra\"}", "");
    refuse_job(state, "{\"prompt\":\"1\xc3\xa9\"}", "");
    refuse_job(state, "{\"prompt\":\"1\"}", "\t");
    refuse_job(state, "{\"prompt\":7}", "");
    refuse_job(state, "{\"messages\":[]}", "");
    refuse_job(state, "[]", "");
    refuse_job(state, "{\"prompt\":\"", "");
    refuse_job(state, "", "");
    engine_tinylm.close(&state);
}

static void template_and_newline(void **unused)
{
    (void)unused;
    struct job a, b, c;
    void *state = open_spec(SPEC "}"), *own = open_spec(SPEC ",\"template\":\"C{prompt}\\n\"}");
    job_init(&a, "C24:3,5,7,9", "", 4);
    job_init(&b, "C24:3,5,7,9\\n", "", 4);
    job_init(&c, "24:3,5,7,9", "", 4);
    run_done(state, &a);
    run_done(state, &b);
    run_done(own, &c);
    assert_same(&a, &b);
    assert_same(&a, &c);
    job_clear(&a);
    job_clear(&b);
    job_clear(&c);
    engine_tinylm.close(&state);
    engine_tinylm.close(&own);
}

static void sampling_keys(void **unused)
{
    (void)unused;
    static const char *const greedy[] = {
        SPEC ",\"temperature\":0}",
        SPEC ",\"top_p\":0}",
        SPEC ",\"min_p\":1}",
        SPEC ",\"temperature\":0.001}",
        SPEC ",\"temperature\":3,\"top_p\":0.000001}",
    };
    struct job first;
    for (size_t i = 0; i < sizeof greedy / sizeof greedy[0]; i++) {
        void *state = open_spec(greedy[i]);
        struct job job;
        job_init(&job, "C36:4,8,12", "", i);
        run_done(state, &job);
        if (i == 0)
            first = job;
        assert_same(&first, &job);
        if (i > 0)
            job_clear(&job);
        engine_tinylm.close(&state);
    }
    job_clear(&first);
    refuse_spec("");
    refuse_spec("[]");
    refuse_spec(SPEC ",\"temperature\":-1}");
    refuse_spec(SPEC ",\"temperature\":\"1\"}");
    refuse_spec(SPEC ",\"top_p\":2}");
    refuse_spec(SPEC ",\"stop\":[\"\"]}");
    refuse_spec(SPEC ",\"stop\":[3]}");
    refuse_spec(SPEC ",\"max_tokens\":-3}");
    refuse_spec("{\"path\":\"models/absent.tlm\"}");
    refuse_spec("{\"path\":\"models\"}");
}

/* --- it can count, a little --- */

static long chain_value(const char *prompt)
{
    char *at;
    long value = strtol(prompt + 1, &at, 10);
    while (*at == '+' || *at == '-' || *at == '*') {
        char op = *at;
        long other = strtol(at + 1, &at, 10);
        value = op == '+' ? value + other : op == '-' ? value - other : value * other;
    }
    return value;
}

static int chain_right(void *state, const char *prompt, uint64_t seed)
{
    struct job job;
    char answer[32];
    job_init(&job, prompt, "", seed);
    run_done(state, &job);
    snprintf(answer, sizeof answer, "#%ld\n", chain_value(prompt));
    size_t len = strlen(answer);
    int right = job.out.len >= len && strcmp(job.out.data + job.out.len - len, answer) == 0;
    job_clear(&job);
    return right;
}

static void pass_rate_is_plausible(void **unused)
{
    (void)unused;
    char line[512], prompt[256];
    int right = 0, all = 0;
    void *state = open_spec(SPEC "}");
    FILE *f = fopen("demo/problems.jsonl", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL)
        for (uint64_t seed = 0; seed < 6; seed++)
            if (sscanf(line, "{\"id\":\"a%*[^\"]\",\"prompt\":\"%255[^\"]\"", prompt) == 1) {
                right += chain_right(state, prompt, rng_u64(seed, RNG_TEST, (uint64_t)all, 0));
                all++;
            }
    fclose(f);
    engine_tinylm.close(&state);
    assert_int_equal(all, 240);
    if (right < all / 10 || right > all * 35 / 100)
        fail_msg("%d of %d right", right, all);
}

/* --- hostile files --- */

struct image {
    int32_t head[8];
    float theta, eps;
    struct buf bytes;
};

static void put_vocabulary(struct buf *out)
{
    static const char vocabulary[] = "\5<pad>\1^\1$\1\n\0011\0012\0013\001+\001=";
    buf_put(out, vocabulary, sizeof vocabulary - 1);
}

/* A model that is valid, with random weights of the given size. */
static void image_make(struct image *image, int32_t dim, int32_t heads, float size)
{
    struct buf vocabulary = {0};
    put_vocabulary(&vocabulary);
    int32_t head[8] = {9, dim, 2, heads, 32, 40, 3, (int32_t)vocabulary.len};
    memcpy(image->head, head, sizeof head);
    image->theta = 10000, image->eps = 1e-5f;
    struct buf *b = &image->bytes;
    *b = (struct buf){0};
    buf_put(b, "TLM1\0\0\0\0", 8);
    buf_put(b, head, sizeof head);
    buf_put(b, &image->theta, 4);
    buf_put(b, &image->eps, 4);
    buf_put(b, vocabulary.data, vocabulary.len);
    while (b->len % 64 != 0)
        buf_put(b, "", 1);
    int32_t floats = 2 * 9 * dim + 2 * (2 * dim + 4 * dim * dim + 3 * dim * 32) + dim + 3 * dim + 7;
    for (int32_t i = 0; i < floats; i++) {
        float w = size * (float)(rng_unit(rng_u64(3, RNG_TEST, (uint64_t)i, 0)) - 0.5);
        buf_put(b, &w, 4);
    }
    buf_clear(&vocabulary);
}

static char scratch[] = "/tmp/test_tinylm_XXXXXX";

static void scratch_write(const void *data, size_t len)
{
    FILE *f = fopen(scratch, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* Opens the scratch file; when that works, the model must survive some steps. */
static int scratch_try(void)
{
    struct tinylm *lm = NULL;
    struct error error = {""};
    int rc = tinylm_open(scratch, 1 << 20, &lm, &error);
    if (rc != 0) {
        assert_null(lm);
        assert_non_null(strstr(error.text, scratch));
        return rc;
    }
    struct tinylm_sampling sampling = {.temperature = 1, .top_p = 0.9, .min_p = 0.01};
    uint16_t tokens[] = {TINYLM_BOS, TINYLM_EOS};
    uint32_t warm;
    struct tinylm_draw draw = {.sampling = &sampling, .seed = 1};
    draw.row = tinylm_row_new(lm, tokens, 2, &warm);
    while (tinylm_row_len(draw.row) <= tinylm_context(lm) && draw.position++ < 5 && !draw.failed)
        tinylm_step(lm, &draw, 1);
    tinylm_row_free(lm, &draw.row);
    tinylm_close(&lm);
    return 0;
}

static void other_shapes_agree_with_double(void **unused)
{
    (void)unused;
    static const int32_t shapes[][2] = {{48, 2}, {32, 4}, {128, 2}, {16, 1}, {80, 2}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct image image;
        image_make(&image, shapes[i][0], shapes[i][1], 0.5f);
        scratch_write(image.bytes.data, image.bytes.len);
        compare_with_plain(scratch, "1+2=3\n", i, 1);
        buf_clear(&image.bytes);
    }
}

static void cut_files_are_refused(void **unused)
{
    (void)unused;
    struct image image;
    image_make(&image, 16, 2, 1);
    const size_t size = image.bytes.len;
    scratch_write(image.bytes.data, size);
    assert_int_equal(scratch_try(), 0);
    for (size_t len = 0; len < size; len += len < 200 ? 1 : 97) {
        scratch_write(image.bytes.data, len);
        assert_int_equal(scratch_try(), ERR_CORRUPT);
    }
    buf_put(&image.bytes, "more", 4);
    scratch_write(image.bytes.data, size + 4);
    assert_int_equal(scratch_try(), ERR_CORRUPT);
    buf_clear(&image.bytes);
}

static void absurd_headers_are_refused(void **unused)
{
    (void)unused;
    static const int32_t absurd[] = {0,    -1,        1,          3,       7,           17,        1000,
                                     4097, 123456789, 0x7FFFFFFF, -123456, -0x7FFFFFFF, 0x10000000};
    struct image image;
    image_make(&image, 16, 2, 1);
    for (size_t field = 0; field < 8; field++)
        for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
            char *at = image.bytes.data + 8 + 4 * field;
            int32_t old;
            memcpy(&old, at, 4);
            if (old == absurd[i])
                continue;
            memcpy(at, absurd + i, 4);
            scratch_write(image.bytes.data, image.bytes.len);
            int rc = scratch_try();
            bool harmless = field == 3 && (absurd[i] == 1); /* one head instead of two */
            if (field != 5 && !harmless)                    /* a context of any sane length is fine */
                assert_true(rc == ERR_CORRUPT || rc == ERR_LIMIT);
            memcpy(at, &old, 4);
        }
    buf_clear(&image.bytes);
}

static void random_damage_never_crashes(void **unused)
{
    (void)unused;
    struct image image;
    image_make(&image, 16, 2, 1);
    for (uint64_t i = 0; i < 600; i++) {
        size_t place = rng_u64(i, RNG_TEST, 1, 0) % (i % 2 == 0 ? 128 : image.bytes.len);
        char old = image.bytes.data[place];
        image.bytes.data[place] = (char)rng_u64(i, RNG_TEST, 2, 0);
        scratch_write(image.bytes.data, image.bytes.len);
        (void)scratch_try(); /* refused or not: it must come back */
        image.bytes.data[place] = old;
    }
    buf_clear(&image.bytes);
}

static void weights_that_are_not_numbers(void **unused)
{
    (void)unused;
    struct image image;
    float bad = NAN;
    image_make(&image, 16, 2, 1);
    memcpy(image.bytes.data + image.bytes.len - 400, &bad, 4);
    scratch_write(image.bytes.data, image.bytes.len);
    assert_int_equal(scratch_try(), ERR_CORRUPT);
    buf_clear(&image.bytes);

    image_make(&image, 16, 2, 3e38f);   /* each is finite, their products are not */
    for (size_t i = 0; i < 9 * 16; i++) /* embeddings that are not normed away */
        memcpy(image.bytes.data + 128 + 4 * i, &(float){0.5f}, 4);
    scratch_write(image.bytes.data, image.bytes.len);
    struct buf spec = {0};
    buf_printf(&spec, "{\"path\":\"%s\"}", scratch);
    void *state = open_spec(spec.data);
    refuse_job(state, "{\"prompt\":\"1+2\"}", "");
    engine_tinylm.close(&state);
    buf_clear(&spec);
    buf_clear(&image.bytes);
}

static int scratch_open(void **unused)
{
    (void)unused;
    int fd = mkstemp(scratch);
    return fd < 0 ? -1 : close(fd);
}

static int scratch_close(void **unused)
{
    (void)unused;
    return unlink(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_changes_nothing),
        cmocka_unit_test(cancel_leaves_others_alone),
        cmocka_unit_test(seed_decides),
        cmocka_unit_test(numbers_stay),
        cmocka_unit_test(logprobs_agree_with_double),
        cmocka_unit_test(ends_where_confidence_falls),
        cmocka_unit_test(continued_path_is_the_same_text),
        cmocka_unit_test(thinking_ends_and_goes_on),
        cmocka_unit_test(turns_are_one_text),
        cmocka_unit_test(forgotten_prefixes_change_nothing),
        cmocka_unit_test(stop_is_cut_off),
        cmocka_unit_test(caps_end_a_text),
        cmocka_unit_test(context_ends_a_text),
        cmocka_unit_test(strange_text_fails_the_job),
        cmocka_unit_test(template_and_newline),
        cmocka_unit_test(sampling_keys),
        cmocka_unit_test(pass_rate_is_plausible),
        cmocka_unit_test(other_shapes_agree_with_double),
        cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(absurd_headers_are_refused),
        cmocka_unit_test(random_damage_never_crashes),
        cmocka_unit_test(weights_that_are_not_numbers),
    };
    return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}
