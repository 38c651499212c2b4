/* server_probe.c - questions whose answers say what a server can do; see server_probe.h.
 *
 * Names of versions are not trusted: what a server does with a request is looked at. The prompt is a row of numbers, which
 * every tokenizer can read and no model continues in one way only. */
#include "worker/server_probe.h"
#include "common/io/clock.h"
#include "common/io/secret.h"
#include "worker/completion.h"
#include "worker/fields.h"
#include "worker/metrics.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEALTH_MS = 5000,
    ANSWER_MS = 120000, /* a server that compiles its kernels first */
    PROBE_TOKENS = 12,
    LONG_TOKENS = 256,
    CANCEL_MS = 3000,
    BODY_MAX = 4 << 20,
};

static const char probe_text[] = "1,2,3,5,8,";
static const char probe_messages[] = "[{\"role\":\"user\",\"content\":\"1,2,3,5,8,\"}]";

/* -- asking ----------------------------------------------------------------------------------------------------------- */

struct fetch {
    struct buf *body;
    struct error *error;
    uint32_t status;
    bool done;
};

static void on_done(void *user, const struct http_reply *reply)
{
    struct fetch *fetch = user;
    fetch->done = true;
    fetch->status = reply->rc == 0 ? reply->status : 0;
    if (reply->rc != 0)
        error_set(fetch->error, reply->rc, "%s", reply->error.text);
    buf_put(fetch->body, reply->body.data, reply->body.len);
}

static struct http_transfer *start(const struct server_access *access, const char *route, struct slice json,
                                   int64_t timeout_ms, struct http_request request)
{
    char url[600];
    snprintf(url, sizeof url, "%s%s", access->url, route);
    request.url = url;
    request.body = json;
    request.bearer = access->key;
    request.ca_file = access->ca_file;
    request.total_ms = timeout_ms;
    request.body_max = BODY_MAX;
    return http_start(access->http, &request);
}

uint32_t server_fetch(const struct server_access *access, const char *route, struct slice json, int64_t timeout_ms,
                      struct buf *body, struct error *error)
{
    struct fetch fetch = {.body = body, .error = error};
    buf_reset(body);
    struct http_transfer *transfer =
        start(access, route, json, timeout_ms, (struct http_request){.done = on_done, .user = &fetch});
    while (!fetch.done && !atomic_load(access->stop))
        http_wait(access->http, 100);
    if (!fetch.done) {
        http_cancel(access->http, &transfer);
        error_set(error, ERR_CLOSED, "told to stop");
    }
    return fetch.status;
}

/* What is likely wrong when a server does not let us in. */
static void suspect_key(const struct server_access *access, uint32_t status, struct buf *out)
{
    if (status != 401 && status != 403)
        return;
    if (access->key != NULL)
        buf_printf(out, "; the key in %.200s is not the one that it takes", access->key_from);
    else
        buf_puts(out,
                 "; it wants a key: --server-key-file or --server-key-env, or key_file of a model with its own url");
}

/* The server's own words for a status that is not 200. */
static int complain(const struct server_access *access, uint32_t status, struct slice body, struct error *error)
{
    struct completion completion;
    if (status == 0)
        return ERR_CLOSED; /* the error is set */
    completion_init(&completion, 1, 0);
    if (completion_read(&completion, body, NULL) != 0 || !completion.complained)
        completion.complaint[0] = '\0';
    secret_hide(completion.complaint, access->key);
    struct buf key = {0};
    suspect_key(access, status, &key);
    int rc = error_set(error, ERR_REFUSED, "HTTP %u%s%.*s%s", status, completion.complaint[0] != '\0' ? ": " : "",
                       key.len > 0 ? 120 : 300, completion.complaint, key.len > 0 ? key.data : "");
    buf_clear(&key);
    completion_clear(&completion);
    return rc;
}

bool server_healthy(const struct server_access *access, struct error *error)
{
    static const char *const routes[] = {"/health", "/v1/models"}; /* hosted servers have only the second */
    struct buf body = {0};
    uint32_t status = 0;
    for (size_t i = 0; i < 2; i++) {
        status = server_fetch(access, routes[i], (struct slice){0}, HEALTH_MS, &body, error);
        if (status != 404 && status != 405)
            break;
    }
    bool healthy = status / 100 == 2;
    if (!healthy)
        complain(access, status, buf_slice(&body), error);
    buf_clear(&body);
    return healthy;
}

/* -- models ----------------------------------------------------------------------------------------------------------- */

static uint32_t context_of(const struct fields *model)
{
    uint64_t context = 0;
    const struct fields *meta = fields_object(model, "meta");
    fields_count(model, "max_model_len", UINT32_MAX, &context, NULL);
    if (context == 0)
        fields_count(meta, "n_ctx", UINT32_MAX, &context, NULL);
    if (context == 0)
        fields_count(meta, "n_ctx_train", UINT32_MAX, &context, NULL);
    return (uint32_t)context;
}

static void take_model(const struct fields *model, struct server_facts *facts)
{
    struct slice id = {0}, owner = {0};
    fields_string(model, "id", &id, NULL);
    fields_string(model, "owned_by", &owner, NULL);
    if (id.len == 0 || id.len >= sizeof facts->models[0].name || facts->models_len == SERVER_MODELS_MAX)
        return;
    struct server_model *to = &facts->models[facts->models_len++];
    memcpy(to->name, id.data, id.len);
    to->name[id.len] = '\0';
    to->context = context_of(model);
    for (size_t i = 0; dialects[i] != NULL && facts->dialect == NULL; i++)
        if (dialects[i]->owner != NULL && strlen(dialects[i]->owner) == owner.len &&
            memcmp(dialects[i]->owner, owner.data, owner.len) == 0)
            facts->dialect = dialects[i];
}

static int probe_models(const struct server_access *access, struct server_facts *facts, struct error *error)
{
    struct buf body = {0};
    struct fields *fields = NULL;
    struct error why = {""};
    uint32_t status = server_fetch(access, "/v1/models", (struct slice){0}, HEALTH_MS, &body, &why);
    int rc = status == 200 ? fields_parse(buf_slice(&body), &fields, &why)
                           : complain(access, status, buf_slice(&body), &why);
    if (rc == 0) {
        for (size_t i = 0; i < fields_len(fields, "data"); i++)
            take_model(fields_item(fields, "data", i), facts);
        if (facts->models_len == 0)
            rc = error_set(&why, ERR_PROTOCOL, "it lists no models");
        fields_free(&fields);
    }
    buf_clear(&body);
    return rc == 0 ? 0 : error_set(error, rc, "/v1/models: %.400s", why.text);
}

/* Servers that hide behind another name in the list of models. */
static void probe_dialect(const struct server_access *access, struct server_facts *facts)
{
    static const struct {
        const char *route;
        const struct dialect *dialect;
    } signs[] = {{"/props", &dialect_llamacpp}, {"/get_server_info", &dialect_sglang}, {"/version", &dialect_vllm}};
    struct buf body = {0};
    for (size_t i = 0; i < 3 && facts->dialect == NULL; i++)
        if (server_fetch(access, signs[i].route, (struct slice){0}, HEALTH_MS, &body, NULL) == 200)
            facts->dialect = signs[i].dialect;
    if (facts->dialect == NULL)
        facts->dialect = &dialect_generic;
    buf_clear(&body);
}

/* -- completions ------------------------------------------------------------------------------------------------------ */

static void write_ask(const struct server_facts *facts, struct ask *ask, struct buf *body)
{
    ask->model = slice_of(facts->models[0].name);
    ask->text = slice_of(probe_text);
    ask->messages = slice_of(probe_messages);
    ask->temperature = ask->top_p = ask->repetition_penalty = 1;
    ask->n = 1;
    ask->id = "00000000000000000000000000000000";
    facts->dialect->write(ask, body);
}

static const char *route_of(const struct server_facts *facts, bool chat)
{
    return chat ? facts->dialect->chat_route : facts->dialect->route;
}

/* Three answers at a time: two of one seed, the third of another. The completions are to be cleared whatever comes back. */
static int probe_three(const struct server_access *access, const struct server_facts *facts, struct ask ask,
                       struct completion completions[3], struct error *error)
{
    struct fetch fetches[3] = {{0}};
    struct http_transfer *transfers[3];
    struct buf replies[3] = {{0}};
    int rc = 0;
    for (size_t i = 0; i < 3; i++) {
        struct buf body = {0};
        ask.seed = i < 2 ? 11 : 12;
        completion_init(&completions[i], 1, ask.logprobs > 0 ? (uint32_t)ask.logprobs : 0);
        completions[i].wants_ids = ask.wants_ids;
        write_ask(facts, &ask, &body);
        fetches[i] = (struct fetch){.body = &replies[i], .error = error};
        transfers[i] = start(access, route_of(facts, ask.chat), buf_slice(&body), ANSWER_MS,
                             (struct http_request){.done = on_done, .user = &fetches[i]});
        buf_clear(&body);
    }
    while (!(fetches[0].done && fetches[1].done && fetches[2].done) && !atomic_load(access->stop))
        http_wait(access->http, 100);
    for (size_t i = 0; i < 3; i++) {
        if (!fetches[i].done) {
            http_cancel(access->http, &transfers[i]);
            error_set(error, ERR_CLOSED, "told to stop");
        }
        if (rc == 0)
            rc = fetches[i].status == 200 ? completion_read(&completions[i], buf_slice(&replies[i]), error)
                                          : complain(access, fetches[i].status, buf_slice(&replies[i]), error);
        if (rc == 0 && completions[i].complained)
            rc = error_set(error, ERR_REFUSED, "it complains under HTTP 200");
        buf_clear(&replies[i]);
    }
    return rc;
}

static void completions_clear(struct completion completions[3])
{
    for (size_t i = 0; i < 3; i++)
        completion_clear(&completions[i]);
}

static const char *text_of(const struct completion *completion)
{
    const struct buf *text = &completion->choices[0].text;
    return text->data != NULL ? text->data : "";
}

/* Enough of them to continue an answer by. */
static bool gives_ids(const struct dialect *dialect, const struct completion *completion)
{
    const struct choice *choice = &completion->choices[0];
    bool prompt = dialect->tokens == TOKENS_MIXED || completion->prompt_ids.len > 0;
    return dialect->tokens != TOKENS_NOT && prompt && choice->ids_len > 0 && choice->ids_len == choice->spelt_len;
}

/* What completions show: with log-probabilities if it can, as a text if it can. */
static int probe_answers(const struct server_access *access, struct server_facts *facts, struct error *error)
{
    static const struct ask tries[] = {
        {.chat = false, .logprobs = 2, .tokens_max = PROBE_TOKENS, .wants_ids = true},
        {.chat = false, .logprobs = 2, .tokens_max = PROBE_TOKENS},
        {.chat = false, .logprobs = -1, .tokens_max = PROBE_TOKENS},
        {.chat = true, .logprobs = 2, .tokens_max = PROBE_TOKENS},
        {.chat = true, .logprobs = -1, .tokens_max = PROBE_TOKENS},
    };
    struct completion c[3] = {{0}};
    int rc = ERR_REFUSED;
    for (size_t i = 0; i < sizeof tries / sizeof tries[0] && rc != 0; i++) {
        completions_clear(c);
        rc = probe_three(access, facts, tries[i], c, error);
        facts->chat_only = tries[i].chat;
        if (rc == ERR_CLOSED)
            break;
    }
    if (rc == 0 && (!c[0].has_in || !c[0].has_out))
        rc = error_set(error, ERR_PROTOCOL, "it does not tell how many tokens it used, so nothing could be charged");
    if (rc == 0) {
        facts->logprobs = c[0].choices[0].logprobs.len > 0;
        facts->alternatives = c[0].choices[0].logprobs.positions > 0;
        facts->ids = gives_ids(facts->dialect, &c[0]);
        facts->cached = c[0].has_cached || c[1].has_cached ? KNOWN_YES : KNOWN_NO;
        bool repeats = strcmp(text_of(&c[0]), text_of(&c[1])) == 0,
             differs = strcmp(text_of(&c[0]), text_of(&c[2])) != 0;
        facts->seed = !repeats ? KNOWN_NO : differs ? KNOWN_YES : KNOWN_NOT;
    }
    completions_clear(c);
    return rc;
}

/* -- cancelling ------------------------------------------------------------------------------------------------------- */

static bool running(const struct server_access *access, const struct dialect *dialect, double *value)
{
    struct buf page = {0};
    bool known = server_fetch(access, "/metrics", (struct slice){0}, HEALTH_MS, &page, NULL) == 200;
    if (known) {
        struct gauge_value gauge = metrics_find(buf_slice(&page), dialect->gauges[GAUGE_RUNNING], GAUGE_NAMES);
        known = gauge.known;
        *value = gauge.sum;
    }
    buf_clear(&page);
    return known;
}

/* Until so many requests run; false: not in time, or *ended came first. */
static bool wait_running(const struct server_access *access, const struct dialect *dialect, double at_least,
                         double at_most, const bool *ended)
{
    for (int64_t until = clock_ms() + CANCEL_MS; clock_ms() < until && !*ended && !atomic_load(access->stop);) {
        double value;
        if (!running(access, dialect, &value))
            return false;
        if (value >= at_least && value <= at_most)
            return true;
        http_wait(access->http, 0);
        poll(NULL, 0, 10); /* a gauge can only be looked at again */
    }
    return false;
}

/* Starts a long answer, drops it, and watches the number of running requests. Says nothing when others use the server,
 * or when the answer ended by itself before it was seen. */
static void probe_cancel(const struct server_access *access, struct server_facts *facts)
{
    double before;
    struct buf body = {0}, reply = {0};
    facts->cancel_ms = -1;
    if (!running(access, facts->dialect, &before) || before != 0)
        return;
    struct ask ask = {.chat = facts->chat_only, .stream = true, .logprobs = -1, .tokens_max = LONG_TOKENS, .seed = 13};
    if (facts->dialect != &dialect_generic)
        ask.extra = slice_of("{\"ignore_eos\":true}");
    write_ask(facts, &ask, &body);
    struct fetch fetch = {.body = &reply};
    struct http_transfer *transfer = start(access, route_of(facts, ask.chat), buf_slice(&body), ANSWER_MS,
                                           (struct http_request){.done = on_done, .user = &fetch});
    bool seen = wait_running(access, facts->dialect, 1, 1e9, &fetch.done);
    if (!fetch.done) {
        int64_t start_ms = clock_ms();
        http_cancel(access->http, &transfer);
        if (seen)
            facts->cancel_ms = wait_running(access, facts->dialect, 0, 0, &fetch.done) ? clock_ms() - start_ms : -2;
    }
    buf_clear(&body);
    buf_clear(&reply);
}

/* -- the whole -------------------------------------------------------------------------------------------------------- */

int server_probe(const struct server_access *access, const struct dialect *forced, struct server_facts *facts,
                 struct error *error)
{
    *facts = (struct server_facts){.dialect = forced, .cancel_ms = -1};
    int rc = probe_models(access, facts, error);
    if (rc != 0)
        return rc;
    if (facts->dialect == NULL)
        probe_dialect(access, facts);
    rc = probe_answers(access, facts, error);
    if (rc == 0)
        probe_cancel(access, facts);
    return rc;
}

static const char *word(enum known known)
{
    return known == KNOWN_YES ? "yes" : known == KNOWN_NO ? "no" : "unknown";
}

void server_facts_print(const struct server_facts *facts, struct buf *out)
{
    buf_printf(out, "dialect=%s models=", facts->dialect->name);
    for (size_t i = 0; i < facts->models_len; i++)
        buf_printf(out, "%s%s", i > 0 ? "," : "", facts->models[i].name);
    if (facts->models[0].context > 0)
        buf_printf(out, " context=%u", facts->models[0].context);
    buf_printf(out, " texts=%s logprobs=%s ids=%s cached=%s seed=%s cancel=", facts->chat_only ? "no" : "yes",
               facts->alternatives ? "top"
               : facts->logprobs   ? "sampled"
                                   : "no",
               facts->ids ? "yes" : "no", word(facts->cached), word(facts->seed));
    if (facts->cancel_ms >= 0)
        buf_printf(out, "%lldms", (long long)facts->cancel_ms);
    else
        buf_puts(out, facts->cancel_ms == -1 ? "unknown" : "none");
}
