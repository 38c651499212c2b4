/* judge.c - the engine behind kind `judge`: a language model that writes judgements; see judging.h and judge_mode.c.
 *
 * All judgements of a text are asked for at once, each with a seed of its own. After `wait` further turns, in which the
 * judge is made to look again, the last turn is what counts. A reward model may read the judgements and keep the better
 * ones (`meta`). */
#include "common/hash.h"
#include "common/io/clock.h"
#include "common/json.h"
#include "common/limits.h"
#include "common/rng.h"
#include "verifier/alone.h"
#include "verifier/check.h"
#include "verifier/doc.h"
#include "verifier/fill.h"
#include "verifier/judging.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <utlist.h>

enum { HELD = 512, ABORTS_MAX = 2, REPLIES_BYTES = 32768, REPLY_BYTES = 8192, CANDIDATES_MAX = 15, TOPS = 20 };

/* vLLM and SGLang take the model repository's defaults for what is not said; llama.cpp truncates by default. */
static const struct dialect dialects[] = {
    {"generic", "", "", false},
    {"vllm", ",\"top_k\":-1,\"min_p\":0,\"repetition_penalty\":1",
     ",\"structured_outputs\":{\"choice\":[\"Yes\",\"No\"]}", true},
    {"sglang", ",\"top_k\":-1,\"min_p\":0,\"repetition_penalty\":1", ",\"regex\":\"(Yes|No)\"", true},
    {"llamacpp", ",\"top_k\":0,\"min_p\":0,\"repeat_penalty\":1", ",\"grammar\":\"root ::= \\\"Yes\\\" | \\\"No\\\"\"",
     true},
};

/* -- opening ---------------------------------------------------------------------------------------------------------- */

static void trial_free(struct trial *trial);

static void judge_close(void **state)
{
    struct judge *judge = *state;
    if (judge == NULL)
        return;
    *state = NULL;
    while (judge->trials != NULL)
        trial_free(judge->trials);
    remote_free(&judge->remote);
    if (judge->meta != NULL)
        engine_scorer.close(&judge->meta);
    if (judge->epoll >= 0)
        close(judge->epoll);
    buf_clear(&judge->template);
    buf_clear(&judge->token_ids);
    free(judge->model);
    free(judge);
}

static int find_mode(struct judge *judge, const char *name, struct error *error)
{
    for (judge->mode = judge_modes; judge->mode->name != NULL; judge->mode++)
        if (strcmp(judge->mode->name, name) == 0)
            return 0;
    return error_set(error, ERR_SYNTAX, "option `mode` cannot be '%.32s'", name);
}

static int find_dialect(struct judge *judge, const char *name, struct error *error)
{
    for (size_t i = 0; i < sizeof dialects / sizeof dialects[0]; i++)
        if (strcmp(dialects[i].name, name) == 0)
            judge->dialect = &dialects[i];
    return judge->dialect != NULL ? 0 : error_set(error, ERR_SYNTAX, "option `dialect` cannot be '%.32s'", name);
}

static int read_texts(struct judge *judge, const struct json_t *spec, const char **meta, struct error *error)
{
    const char *mode = "votes", *dialect = "generic", *model = "", *template = NULL, *reduce = "mean", *rank = "rate";
    const struct {
        const char *name, **text;
    } texts[] = {{"mode", &mode},     {"dialect", &dialect}, {"model", &model}, {"template", &template},
                 {"reduce", &reduce}, {"rank", &rank},       {"meta", meta}};
    int code = 0;
    for (size_t i = 0; code == 0 && i < sizeof texts / sizeof texts[0]; i++)
        code = doc_option_text(spec, texts[i].name, texts[i].text, error);
    if (code == 0)
        code = find_mode(judge, mode, error);
    if (code == 0)
        code = find_dialect(judge, dialect, error);
    if (code < 0)
        return code;
    judge->model = xstrdup(model);
    judge->sum = strcmp(reduce, "sum") == 0;
    judge->bradley_terry = strcmp(rank, "bradley-terry") == 0;
    if (template == NULL)
        buf_puts(&judge->template, judge->mode->template);
    else
        code = fill_load(template, judge->mode->needs == TEMPLATE_CANDIDATES ? FILL_CANDIDATES : FILL_TEXT,
                         &judge->template, error);
    if (code == 0 && judge->mode->needs == TEMPLATE_OTHER && !fill_has(buf_slice(&judge->template), FILL_OTHER))
        code = error_set(error, ERR_SYNTAX, "a template that compares must say where {other} goes, beside {text}");
    return code;
}

static int read_numbers(struct judge *judge, const struct json_t *spec, struct error *error)
{
    judge->k = 1;
    judge->max_tokens = 2048;
    judge->temperature = 0.6;
    judge->threshold = NAN;
    judge->keep = 0.5;
    int code = doc_option_count(spec, "k", (struct doc_range){1, 64}, &judge->k, error);
    if (code == 0)
        code = doc_option_count(spec, "max_tokens", (struct doc_range){1, LIMIT_MAX_TOKENS}, &judge->max_tokens, error);
    if (code == 0)
        code = doc_option_count(spec, "wait", (struct doc_range){0, 8}, &judge->wait, error);
    if (code == 0)
        code = doc_option_count(spec, "rounds", (struct doc_range){0, JUDGE_TEXTS}, &judge->rounds, error);
    if (code == 0)
        code = doc_option_real(spec, "temperature", (struct doc_range){0, 10}, &judge->temperature, error);
    if (code == 0)
        code = doc_option_real(spec, "threshold", (struct doc_range){-1e300, 1e300}, &judge->threshold, error);
    if (code == 0)
        code = doc_option_real(spec, "keep", (struct doc_range){0, 1}, &judge->keep, error);
    return code;
}

/* vLLM gives the log-probabilities of tokens that are named instead of the likeliest ones. */
static int read_token_ids(struct judge *judge, const struct json_t *spec, struct error *error)
{
    const struct json_t *options = doc_object(spec, "options");
    size_t len = doc_list_len(options, "token_ids");
    if (len > 0 && (!judge->mode->one_token || strcmp(judge->dialect->name, "vllm") != 0))
        return error_set(error, ERR_SYNTAX, "option `token_ids` needs mode yes and dialect vllm");
    for (size_t i = 0; i < len; i++) {
        const char *id = "";
        if (!doc_list_text(options, "token_ids", i, &id) || id[0] == '\0' || id[strspn(id, "0123456789")] != '\0' ||
            strlen(id) > 9)
            return error_set(error, ERR_SYNTAX, "option `token_ids` must hold whole numbers, not '%.20s'", id);
        buf_printf(&judge->token_ids, "%s%lu", i > 0 ? "," : "", strtoul(id, NULL, 10));
    }
    return 0;
}

static void watch(struct judge *judge, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    int rc = epoll_ctl(judge->epoll, EPOLL_CTL_ADD, fd, &event);
    assert(rc == 0);
    (void)rc;
}

static int open_meta(struct judge *judge, const struct json_t *spec, const char *name, struct error *error)
{
    const struct json_t *inner = doc_object(doc_object(spec, "inner"), name);
    struct slice kind = {"", 0};
    if (inner == NULL || !doc_text(inner, "kind", &kind) || strcmp(kind.data, "reward") != 0)
        return error_set(error, ERR_NOT_FOUND, "option `meta` must name a verifier of kind reward");
    struct buf json = {0};
    doc_write(inner, &json);
    int code = engine_scorer.open(buf_slice(&json), &judge->meta, error);
    buf_clear(&json);
    if (code == 0)
        watch(judge, engine_scorer.fd(judge->meta));
    return code;
}

static int judge_fill(struct judge *judge, const struct json_t *spec, struct error *error)
{
    const char *meta = NULL;
    judge->epoll = epoll_create1(EPOLL_CLOEXEC);
    assert(judge->epoll >= 0);
    int code = read_texts(judge, spec, &meta, error);
    if (code == 0)
        code = read_numbers(judge, spec, error);
    if (code == 0)
        code = read_token_ids(judge, spec, error);
    if (code == 0)
        code = remote_open(spec, &judge->remote, error);
    if (code == 0)
        watch(judge, remote_fd(judge->remote));
    if (code == 0 && meta != NULL)
        code = open_meta(judge, spec, meta, error);
    return code;
}

static int judge_open(struct slice spec, void **state, struct error *error)
{
    struct json_t *doc;
    *state = NULL;
    int code = doc_parse(spec, &doc, error);
    if (code < 0)
        return code;
    struct judge *judge = xalloc(sizeof *judge);
    judge->epoll = -1;
    *state = judge;
    code = judge_fill(judge, doc, error);
    doc_free(&doc);
    if (code < 0)
        judge_close(state);
    return code;
}

/* -- trials ----------------------------------------------------------------------------------------------------------- */

static void ask_clear(struct ask *ask)
{
    struct judge *judge = ask->trial->judge;
    remote_drop(judge->remote, &ask->call);
    if (ask->meta_job != NULL) {
        engine_scorer.cancel(judge->meta, ask->meta_job);
        buf_clear(&ask->meta_job->detail);
        free(ask->meta_job);
        ask->meta_job = NULL;
    }
    buf_clear(&ask->meta_record);
    buf_clear(&ask->prompt);
    buf_clear(&ask->reply);
    free(ask->order);
    free(ask->values);
}

static void trial_free(struct trial *trial)
{
    DL_DELETE(trial->judge->trials, trial);
    for (size_t i = 0; i < trial->asks_len; i++)
        ask_clear(&trial->asks[i]);
    if (trial->job != NULL)
        trial->job->engine_data = NULL;
    question_clear(&trial->question);
    buf_clear(&trial->detail);
    free(trial->asks);
    free(trial->pairs);
    free(trial->texts);
    free(trial->scores);
    free(trial);
}

/* Hands over what became of it. Whoever has a group judged looks for itself. */
static void trial_end(struct trial *trial)
{
    struct job *job = trial->job;
    trial->over = true;
    if (job == NULL)
        return;
    job->verdict = trial->verdict;
    job->error = trial->error;
    buf_reset(&job->detail);
    if (!trial->failed)
        buf_put(&job->detail, trial->detail.data, trial->detail.len);
    job->state = trial->failed ? JOB_FAILED : JOB_DONE;
    trial_free(trial);
}

static void trial_fail(struct trial *trial, const struct error *error)
{
    if (trial->over)
        return;
    trial->failed = true;
    trial->error = *error;
    trial_end(trial);
}

/* The server will not judge this text: too long, most likely. */
static void trial_unjudged(struct trial *trial, const char *why)
{
    trial->verdict = (struct verdict){.outcome = OUTCOME_ERROR};
    buf_reset(&trial->detail);
    json_begin(&trial->detail, '{');
    json_key(&trial->detail, "error");
    json_str(&trial->detail, why);
    json_end(&trial->detail, '}');
    if (trial->job == NULL)
        error_set(&trial->error, ERR_REFUSED, "%s", why);
    trial->failed = trial->job == NULL;
    trial_end(trial);
}

/* The most of text that fits and ends with a whole character. */
static struct slice shorten(struct slice text, size_t max)
{
    if (text.len <= max)
        return text;
    while (max > 0 && ((unsigned char)text.data[max] & 0xC0) == 0x80)
        max--;
    return (struct slice){text.data, max};
}

static void put_replies(struct trial *trial)
{
    struct buf *out = &trial->detail;
    size_t max = REPLIES_BYTES / trial->asks_len < REPLY_BYTES ? REPLIES_BYTES / trial->asks_len : REPLY_BYTES;
    json_key(out, "replies");
    json_begin(out, '[');
    for (size_t i = 0; i < trial->asks_len; i++)
        json_text(out, shorten(buf_slice(&trial->asks[i].reply), max));
    json_end(out, ']');
}

static void put_meta(struct trial *trial)
{
    struct buf *out = &trial->detail;
    json_key(out, "meta");
    json_begin(out, '[');
    for (size_t i = 0; i < trial->asks_len; i++)
        json_f64(out, trial->asks[i].meta);
    json_end(out, ']');
    json_key(out, "kept");
    json_begin(out, '[');
    for (size_t i = 0; i < trial->asks_len; i++)
        json_bool(out, trial->asks[i].kept);
    json_end(out, ']');
}

/* Keeps the share of valid judgements with the best meta scores, at least one; ties go to the earlier one. */
static void filter(struct trial *trial)
{
    size_t valid = 0;
    for (size_t i = 0; i < trial->asks_len; i++)
        valid += trial->asks[i].valid;
    size_t keep = (size_t)ceil(trial->judge->keep * (double)valid);
    keep = keep == 0 ? 1 : keep;
    for (size_t i = 0; i < trial->asks_len; i++) {
        size_t better = 0;
        struct ask *ask = &trial->asks[i];
        for (size_t j = 0; j < trial->asks_len; j++) {
            const struct ask *other = &trial->asks[j];
            better +=
                other->valid && (other->meta > ask->meta || (isnan(ask->meta) && !isnan(other->meta)) ||
                                 (j < i && (other->meta == ask->meta || (isnan(ask->meta) && isnan(other->meta)))));
        }
        ask->kept = ask->valid && better < keep;
    }
}

/* Votes and probabilities decide above one half unless told otherwise; points only when told. */
static void trial_rule(struct trial *trial)
{
    const struct judge *judge = trial->judge;
    double score = trial->scores[0], threshold = judge->threshold;
    if (isnan(threshold) && judge->mode->decides)
        threshold = 0.5;
    if (isnan(score))
        trial->verdict = (struct verdict){.outcome = OUTCOME_UNKNOWN};
    else if (isnan(threshold))
        trial->verdict = (struct verdict){OUTCOME_SCORE, score};
    else
        trial->verdict = (struct verdict){score > threshold ? OUTCOME_PASS : OUTCOME_FAIL, score};
}

static void put_detail(struct trial *trial, bool replies)
{
    struct buf *out = &trial->detail;
    buf_reset(out);
    json_begin(out, '{');
    trial->judge->mode->sum_up(trial);
    if (trial->judge->meta != NULL)
        put_meta(trial);
    json_key(out, "tokens_in");
    json_u64(out, trial->tokens_in);
    json_key(out, "tokens_out");
    json_u64(out, trial->tokens_out);
    if (replies)
        put_replies(trial);
    json_end(out, '}');
}

static void trial_settle(struct trial *trial)
{
    if (trial->judge->meta != NULL)
        filter(trial);
    put_detail(trial, true);
    if (trial->detail.len > LIMIT_DETAIL) /* control characters grow six-fold */
        put_detail(trial, false);
    trial_rule(trial);
    trial_end(trial);
}

/* -- asking ----------------------------------------------------------------------------------------------------------- */

static void ask_finished(struct ask *ask)
{
    struct trial *trial = ask->trial;
    if (--trial->left == 0)
        trial_settle(trial);
}

static void put_message(struct buf *out, const char *role, struct slice text, const char *more)
{
    struct buf content = {0};
    buf_put(&content, text.data, text.len);
    buf_puts(&content, more);
    json_begin(out, '{');
    json_key(out, "role");
    json_str(out, role);
    json_key(out, "content");
    json_text(out, buf_slice(&content));
    json_end(out, '}');
    buf_clear(&content);
}

/* The judge's own words so far, and a nudge to look again: as a beginning to go on from, or as our next message. */
static void put_messages(const struct ask *ask, struct buf *body)
{
    const struct dialect *dialect = ask->trial->judge->dialect;
    json_key(body, "messages");
    json_begin(body, '[');
    put_message(body, "user", buf_slice(&ask->prompt), "");
    if (ask->turn > 0)
        put_message(body, "assistant", buf_slice(&ask->reply), "");
    if (ask->turn > 0 && !dialect->continues)
        put_message(body, "user", (struct slice){"", 0},
                    "Wait. Look at it once more from the start, and end with a verdict line as you were told.");
    json_end(body, ']');
    if (ask->turn > 0 && dialect->continues) {
        json_key(body, "add_generation_prompt");
        json_bool(body, false);
        json_key(body, "continue_final_message");
        json_bool(body, true);
    }
}

static void put_sampling(const struct ask *ask, struct buf *body)
{
    const struct judge *judge = ask->trial->judge;
    bool one = judge->mode->one_token;
    json_key(body, "max_tokens");
    json_u64(body, one ? 1 : judge->max_tokens);
    json_key(body, "temperature");
    json_f64(body, one ? 0 : judge->temperature);
    json_key(body, "top_p");
    json_u64(body, 1);
    json_key(body, "seed");
    json_u64(body, rng_u64(ask->trial->seed, RNG_VERIFIER, ask->number, ask->turn + 1) & 0x7FFFFFFF);
    json_key(body, "stream");
    json_bool(body, false);
    if (one) {
        json_key(body, "logprobs");
        json_bool(body, true);
        json_key(body, "top_logprobs");
        json_u64(body, TOPS);
    }
    if (judge->token_ids.len > 0)
        buf_printf(body, ",\"logprob_token_ids\":[%s]", judge->token_ids.data);
    buf_puts(body, judge->dialect->sampling);
    buf_puts(body, one ? judge->dialect->choice : "");
}

static void on_reply(void *user, const struct remote_reply *reply);

static void ask_send(struct ask *ask)
{
    struct trial *trial = ask->trial;
    struct judge *judge = trial->judge;
    struct buf body = {0};
    json_begin(&body, '{');
    if (judge->model[0] != '\0') {
        json_key(&body, "model");
        json_str(&body, judge->model);
    }
    put_messages(ask, &body);
    put_sampling(ask, &body);
    json_end(&body, '}');
    ask->call = remote_ask(judge->remote, &(struct remote_request){.route = "/v1/chat/completions",
                                                                   .body = &body,
                                                                   .deadline_ms = trial->deadline_ms,
                                                                   .done = on_reply,
                                                                   .user = ask});
}

static void count_tokens(struct trial *trial, const struct json_t *answer)
{
    double in = 0, out = 0;
    if (doc_is_number(doc_at(answer, "usage.prompt_tokens"), &in) && in >= 0)
        trial->tokens_in += (uint64_t)in;
    if (doc_is_number(doc_at(answer, "usage.completion_tokens"), &out) && out >= 0)
        trial->tokens_out += (uint64_t)out;
}

/* A judge that thinks apart may say nothing in the content: then there is no verdict in it. */
static void take_turn(struct ask *ask, const struct json_t *answer)
{
    struct slice text = {"", 0};
    doc_is_text(doc_at(answer, "choices.0.message.content"), &text);
    ask->turn_at = ask->reply.len;
    if (ask->reply.len + text.len <= LIMIT_TEXT)
        buf_put(&ask->reply, text.data, text.len);
    if (ask->reply.data == NULL)
        buf_puts(&ask->reply, "");
}

static void ask_meta(struct ask *ask)
{
    struct trial *trial = ask->trial;
    json_begin(&ask->meta_record, '{');
    json_key(&ask->meta_record, "prompt");
    json_text(&ask->meta_record, buf_slice(&ask->prompt));
    json_end(&ask->meta_record, '}');
    int64_t left = trial->deadline_ms - clock_ms();
    ask->meta_job = xalloc(sizeof *ask->meta_job);
    *ask->meta_job = (struct job){.record = buf_slice(&ask->meta_record),
                                  .text = buf_slice(&ask->reply),
                                  .finished = true,
                                  .timeout_ms = left > 1 ? (uint32_t)left : 1};
}

static void on_reply(void *user, const struct remote_reply *reply)
{
    struct ask *ask = user;
    struct trial *trial = ask->trial;
    struct judge *judge = trial->judge;
    struct error error = reply->error;
    struct slice finish = {"", 0};
    ask->call = NULL;
    if (reply->doc == NULL && (reply->status == 400 || reply->status == 413 || reply->status == 422)) {
        trial_unjudged(trial, error.text);
        return;
    }
    if (reply->doc != NULL && doc_len(doc_get(reply->doc, "choices")) != 1)
        error_set(&error, ERR_PROTOCOL, "the server's answer does not have one choice: is it a chat server?");
    else if (reply->doc != NULL)
        error.text[0] = '\0';
    if (error.text[0] != '\0') {
        trial_fail(trial, &error);
        return;
    }
    count_tokens(trial, reply->doc);
    doc_is_text(doc_at(reply->doc, "choices.0.finish_reason"), &finish);
    if (finish.len == 5 && memcmp(finish.data, "abort", 5) == 0 && ask->aborts++ < ABORTS_MAX) {
        ask_send(ask);
        return;
    }
    take_turn(ask, reply->doc);
    if (!judge->mode->one_token && ask->turn < judge->wait) {
        ask->turn++;
        if (judge->dialect->continues)
            buf_puts(&ask->reply, "\n\nWait");
        ask_send(ask);
        return;
    }
    if (judge->mode->read(ask, reply->doc, &error) < 0)
        trial_fail(trial, &error);
    else if (ask->valid && judge->meta != NULL)
        ask_meta(ask);
    else
        ask_finished(ask);
}

/* -- starting --------------------------------------------------------------------------------------------------------- */

/* A word that the text cannot know: it depends on the whole text. */
static void make_nonce(struct trial *trial)
{
    uint64_t hash = rng_mix(trial->seed);
    for (size_t i = 0; i < trial->len; i++)
        hash = hash_more(hash, trial->texts[i].data, trial->texts[i].len);
    snprintf(trial->nonce, sizeof trial->nonce, "%08x", (unsigned)(rng_mix(hash) >> 32));
}

/* Of a job in a mode that compares: its text, and those that the record's meta gives to compare it with. */
static int take_candidates(struct trial *trial, struct slice own, struct error *error)
{
    const struct json_t *list = doc_get(doc_object(trial->question.doc, "meta"), "candidates");
    size_t len = trial->judge->mode->groups ? doc_len(list) : 0;
    if (trial->judge->mode->groups && (len == 0 || len > CANDIDATES_MAX))
        return error_set(
            error, ERR_SYNTAX,
            "mode %s compares a text with the 1 to %d texts of `candidates` in the prompt's meta; this one "
            "has %zu",
            trial->judge->mode->name, CANDIDATES_MAX, len);
    trial->len = 1 + len;
    trial->texts = xalloc(trial->len * sizeof *trial->texts);
    trial->texts[0] = own;
    for (size_t i = 0; i < len; i++)
        if (!doc_is_text(doc_item(list, i), &trial->texts[i + 1]))
            return error_set(error, ERR_SYNTAX, "`candidates` in the prompt's meta must hold texts only");
    return 0;
}

static void trial_start(struct trial *trial)
{
    const struct judge *judge = trial->judge;
    make_nonce(trial);
    trial->scores = xalloc(trial->len * sizeof *trial->scores);
    judge->mode->plan(trial);
    for (size_t i = 0; i < trial->asks_len; i++) {
        ask_fill(&trial->asks[i]);
        ask_send(&trial->asks[i]);
    }
}

static struct trial *trial_new(struct judge *judge, uint64_t seed, uint32_t timeout_ms)
{
    struct trial *trial = xalloc(sizeof *trial);
    trial->judge = judge;
    trial->seed = seed;
    trial->deadline_ms = clock_ms() + timeout_ms;
    DL_APPEND(judge->trials, trial);
    return trial;
}

static void job_start(struct judge *judge, struct job *job)
{
    struct error error;
    struct trial *trial = trial_new(judge, job->seed, job->timeout_ms);
    trial->job = job;
    trial->answer = job->answer;
    job->engine_data = trial;
    int code = question_open(job->record, &trial->question, &error);
    if (code == 0)
        code = take_candidates(trial, job->text, &error);
    if (code < 0)
        trial_fail(trial, &error);
    else
        trial_start(trial);
}

/* -- meta scores ------------------------------------------------------------------------------------------------------ */

static void meta_done(struct ask *ask)
{
    struct job *job = ask->meta_job;
    struct trial *trial = ask->trial;
    ask->meta_job = NULL;
    ask->meta = outcome_known(job->verdict.outcome) ? job->verdict.score : NAN;
    bool failed = job->state == JOB_FAILED;
    struct error error = job->error;
    buf_clear(&job->detail);
    free(job);
    if (failed)
        trial_fail(trial, &error);
    else
        ask_finished(ask);
}

/* One ask whose meta score is there; NULL: none. Searched anew each time, for settling a trial frees its asks. */
static struct ask *meta_ready(const struct judge *judge)
{
    struct trial *trial;
    DL_FOREACH (judge->trials, trial)
        for (size_t i = 0; i < trial->asks_len; i++)
            if (trial->asks[i].meta_job != NULL && trial->asks[i].meta_job->state != JOB_RUNNING)
                return &trial->asks[i];
    return NULL;
}

static int64_t meta_turn(struct judge *judge)
{
    struct trial *trial;
    struct ask *ask;
    size_t len = 0, cap = 0;
    if (judge->meta == NULL)
        return INT64_MAX;
    DL_FOREACH (judge->trials, trial)
        cap += trial->asks_len;
    struct job **jobs = xalloc((cap + 1) * sizeof(struct job *));
    DL_FOREACH (judge->trials, trial)
        for (size_t i = 0; i < trial->asks_len; i++)
            if (trial->asks[i].meta_job != NULL)
                jobs[len++] = trial->asks[i].meta_job;
    int64_t wait = engine_scorer.advance(judge->meta, jobs, len, 0);
    free(jobs);
    while ((ask = meta_ready(judge)) != NULL)
        meta_done(ask);
    return wait;
}

/* -- the engine ------------------------------------------------------------------------------------------------------- */

static int64_t expire(struct judge *judge, int64_t now)
{
    struct trial *trial, *next;
    int64_t first = INT64_MAX;
    DL_FOREACH_SAFE (judge->trials, trial, next) {
        if (trial->over)
            continue;
        if (now < trial->deadline_ms) {
            first = trial->deadline_ms < first ? trial->deadline_ms : first;
            continue;
        }
        struct error error;
        error_set(&error, ERR_TIMEOUT,
                  "the judge at %.150s did not answer in time: %zu of %zu judgements are missing; %.200s",
                  remote_where(judge->remote), trial->left, trial->asks_len, remote_trouble(judge->remote));
        trial_fail(trial, &error);
    }
    return first;
}

/* Turns until nothing new was asked: what an answer asks for has to be started too. */
static int64_t turn(struct judge *judge)
{
    int64_t wait, meta, now;
    size_t before;
    do {
        before = remote_len(judge->remote);
        wait = remote_turn(judge->remote);
        meta = meta_turn(judge);
    } while (remote_len(judge->remote) != before);
    wait = meta < wait ? meta : wait;
    now = clock_ms();
    int64_t first = expire(judge, now);
    return first != INT64_MAX && first - now < wait ? first - now : wait;
}

static int64_t judge_advance(void *state, struct job **jobs, size_t len, int64_t now_ms)
{
    struct judge *judge = state;
    (void)now_ms; /* may be fake; sockets are not */
    for (size_t i = 0; i < len; i++)
        if (jobs[i]->state == JOB_RUNNING && jobs[i]->engine_data == NULL)
            job_start(judge, jobs[i]);
    int64_t wait = turn(judge);
    return wait > 0 ? wait : 0;
}

static void judge_cancel(void *state, struct job *job)
{
    (void)state;
    if (job->engine_data != NULL)
        trial_free(job->engine_data);
}

static int judge_fd(void *state)
{
    return ((struct judge *)state)->epoll;
}

const struct engine engine_judge = {
    .name = "judge",
    .help = "asks models to judge over HTTP",
    .batch = HELD,
    .open = judge_open,
    .advance = judge_advance,
    .cancel = judge_cancel,
    .fd = judge_fd,
    .close = judge_close,
};

static int64_t judge_tasks(const struct judge *judge)
{
    int64_t tasks = remote_width(judge->remote) / judge->k;
    return tasks < 1 ? 1 : tasks < HELD ? tasks : HELD;
}

static int judge_open_wide(struct slice spec, void **state, struct error *error)
{
    int code = judge_open(spec, state, error);
    if (code == 0)
        check_room_add(judge_tasks(*state));
    return code;
}

static void judge_close_wide(void **state)
{
    if (*state != NULL)
        check_room_add(-judge_tasks(*state));
    judge_close(state);
}

const struct engine engine_judge_wide = {
    .name = "judge",
    .help = "asks models to judge over HTTP",
    .batch = HELD,
    .open = judge_open_wide,
    .advance = judge_advance,
    .cancel = judge_cancel,
    .fd = judge_fd,
    .close = judge_close_wide,
};

static int open_alone(struct slice spec, void **state, struct error *error)
{
    return alone_open(&engine_judge, spec, state, error);
}

const struct check check_judge = {
    .name = "judge",
    .help = "a language model that judges over HTTP",
    .open = open_alone,
    .run = alone_run,
    .close = alone_close,
    .engine = &engine_judge_wide,
};

/* -- groups ----------------------------------------------------------------------------------------------------------- */

int judge_group(void *engine_state, const struct judge_group *group, struct trial **out, struct error *error)
{
    struct judge *judge = engine_state;
    if (!judge->mode->groups)
        return error_set(error, ERR_RANGE, "mode %s judges one text at a time", judge->mode->name);
    if (group->len < 2 || group->len > JUDGE_TEXTS)
        return error_set(error, ERR_RANGE, "a group has 2 to %d candidates, not %zu", JUDGE_TEXTS, group->len);
    struct trial *trial = trial_new(judge, group->seed, group->timeout_ms);
    int code = question_open(group->record, &trial->question, error);
    if (code < 0) {
        trial_free(trial);
        return code;
    }
    trial->len = group->len;
    trial->texts = xalloc(group->len * sizeof *trial->texts);
    memcpy(trial->texts, group->texts, group->len * sizeof *trial->texts);
    trial_start(trial);
    *out = trial;
    return 0;
}

size_t judge_group_asks(const struct trial *trial)
{
    return trial->asks_len;
}

bool judge_group_over(const struct trial *trial)
{
    return trial->over;
}

int judge_group_end(struct trial **trial, double *scores, struct buf *detail, struct error *error)
{
    const struct trial *ended = *trial;
    assert(ended->over);
    int code = ended->failed ? error_set(error, ERR_CLOSED, "%s", ended->error.text) : 0;
    if (code == 0) {
        memcpy(scores, ended->scores, ended->len * sizeof *scores);
        buf_put(detail, ended->detail.data, ended->detail.len);
    }
    judge_group_drop(trial);
    return code;
}

void judge_group_drop(struct trial **trial)
{
    trial_free(*trial);
    *trial = NULL;
}

uint32_t judge_width(void *engine_state)
{
    return remote_width(((struct judge *)engine_state)->remote);
}

size_t judge_room(void *engine_state)
{
    return remote_room(((struct judge *)engine_state)->remote);
}
