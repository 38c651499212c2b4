/* openai_spec.c - see openai_spec.h. */
#include "worker/openai_spec.h"
#include "common/json.h"
#include "common/limits.h"
#include "worker/cues.h"

#include <stdlib.h>
#include <string.h>

static const char default_template[] = "{prompt}";
static const char system_template[] = "{system}\n\n{prompt}";
static const char prompt_place[] = "{prompt}";
static const char system_place[] = "{system}";

/* -- reading ---------------------------------------------------------------------------------------------------------- */

static int choice_read(const struct fields *fields, const char *key, const char *const *words, int *index,
                       struct error *error)
{
    struct slice text = {0};
    int rc = fields_string(fields, key, &text, error);
    if (rc != 0 || text.data == NULL)
        return rc;
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text.data) == 0) {
            *index = i;
            return 0;
        }
    }
    return error_set(error, ERR_RANGE, "option '%s' cannot be '%.40s'", key, text.data);
}

static int texts_read(struct openai_spec *spec, const struct fields *options, struct error *error)
{
    struct slice template = {0}, system = {0};
    const struct {
        const struct fields *in;
        const char *key;
        struct slice *to;
    } texts[] = {
        {spec->json, "url", &spec->url},
        {spec->json, "step", &spec->step},
        {spec->json, "template", &template},
        {spec->json, "system", &system},
        {spec->json, "think_end", &spec->think_end},
        {options, "model", &spec->model},
        {options, "salt", &spec->salt},
        {options, "key_file", &spec->key_file},
        {options, "key_env", &spec->key_env},
        {options, "ca_file", &spec->ca_file},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        int rc = fields_string(texts[i].in, texts[i].key, texts[i].to, error);
        if (rc != 0)
            return rc;
    }
    if (spec->step.len == 0)
        spec->step = slice_of("\n");
    spec->system = system.len > 0 ? system.data : NULL;
    spec->template = template.data != NULL ? template.data : default_template;
    if (template.data == NULL && spec->system != NULL && !spec->chat)
        spec->template = system_template;
    if (!spec->chat && spec->system != NULL && strstr(spec->template, system_place) == NULL)
        return error_set(error, ERR_NOT_FOUND, "'system' is given, but 'template' has no place for it: write {system}");
    return 0;
}

static int stops_read(struct openai_spec *spec, struct error *error)
{
    const char **list;
    if (!fields_have(spec->json, "stop") || fields_len(spec->json, "stop") == 0)
        return 0;
    int rc = fields_list(spec->json, "stop", &list, error);
    if (rc != 0)
        return rc;
    for (size_t i = 0; list[i] != NULL && rc == 0; i++) {
        if (spec->stops_len == STOPS_MAX - 1)
            rc = error_set(error, ERR_LIMIT, "'stop' has more than %d texts", STOPS_MAX - 1);
        else
            spec->stops[spec->stops_len++] = slice_of(list[i]);
    }
    free(list);
    return rc;
}

static int numbers_read(struct openai_spec *spec, const struct fields *options, struct error *error)
{
    uint64_t tokens_max = 0, top_k = 0, per_request = 1;
    double logprobs = 0;
    spec->temperature = spec->top_p = spec->repetition_penalty = 1;
    int rc = fields_real(spec->json, "temperature", 0, 100, &spec->temperature, error);
    if (rc == 0)
        rc = fields_real(spec->json, "top_p", 0, 1, &spec->top_p, error);
    if (rc == 0)
        rc = fields_real(spec->json, "min_p", 0, 1, &spec->min_p, error);
    if (rc == 0)
        rc = fields_count(spec->json, "max_tokens", LIMIT_MAX_TOKENS, &tokens_max, error);
    if (rc == 0)
        rc = fields_count(options, "top_k", UINT32_MAX, &top_k, error);
    if (rc == 0)
        rc = fields_real(options, "repetition_penalty", 0.01, 10, &spec->repetition_penalty, error);
    if (rc == 0)
        rc = fields_real(options, "logprobs", -1, 20, &logprobs, error);
    if (rc == 0)
        rc = fields_count(options, "per_request", 64, &per_request, error);
    if (rc == 0 && per_request > 1 && (logprobs < 0 || spec->stream == 1))
        rc =
            error_set(error, ERR_CONFLICT,
                      "option 'per_request' needs log-probabilities, which tell the tokens of each choice, and answers "
                      "that come whole: leave out `%s`",
                      logprobs < 0 ? "logprobs: -1" : "stream: always");
    spec->per_request = (uint32_t)per_request;
    spec->tokens_max = (uint32_t)tokens_max;
    spec->top_k = (uint32_t)top_k;
    spec->logprobs = (int32_t)logprobs;
    return rc;
}

/* `extra` adds fields, it does not change ours: those are part of the spec, under their own names. */
static int extra_read(struct openai_spec *spec, const struct fields *options, struct error *error)
{
    struct slice text = {0};
    int rc = fields_string(options, "extra", &text, error);
    if (rc != 0 || text.len == 0)
        return rc;
    struct error why;
    rc = fields_parse(text, &spec->extra, &why);
    if (rc != 0)
        return error_set(error, rc, "option 'extra': %.300s", why.text);
    for (size_t i = 0; dialects[i] != NULL && rc == 0; i++) {
        if (spec->dialect != NULL && spec->dialect != dialects[i])
            continue;
        struct buf body = {0};
        struct fields *ours;
        struct slice stop = slice_of("x");
        dialects[i]->write(&(struct ask){.chat = spec->chat,
                                         .stream = true,
                                         .messages = slice_of("[]"),
                                         .continues = true,
                                         .wants_ids = true,
                                         .stops = &stop,
                                         .stops_len = 1,
                                         .logprobs = 1,
                                         .shown = spec->think_end,
                                         .salt = slice_of("x"),
                                         .id = "x"},
                           &body);
        rc = fields_parse(buf_slice(&body), &ours, error);
        const char *key = rc == 0 ? fields_common_key(spec->extra, ours) : NULL;
        if (key != NULL)
            rc = error_set(error, ERR_CONFLICT, "option 'extra' must not set '%.60s': drover does", key);
        fields_free(&ours);
        buf_clear(&body);
    }
    fields_write(spec->extra, &spec->extra_json);
    return rc;
}

int openai_spec_read(struct slice json, struct openai_spec *spec, struct error *error)
{
    static const char *const apis[] = {"completions", "chat", NULL};
    static const char *const streams[] = {"auto", "always", "never", NULL};
    static const char *const continues[] = {"auto", "text", NULL};
    static const char *const names[] = {"auto", "vllm", "sglang", "llamacpp", "generic", NULL};
    int api = 0, name = 0, how = 0;
    *spec = (struct openai_spec){0};
    int rc = fields_parse(json, &spec->json, error);
    const struct fields *options = fields_object(spec->json, "options");
    if (rc == 0)
        rc = choice_read(options, "api", apis, &api, error);
    if (rc == 0)
        rc = choice_read(options, "stream", streams, &spec->stream, error);
    if (rc == 0)
        rc = choice_read(options, "dialect", names, &name, error);
    if (rc == 0)
        rc = choice_read(options, "continue", continues, &how, error);
    spec->chat = api == 1;
    spec->continue_text = how == 1;
    spec->dialect = name == 0 ? NULL : dialect_find(slice_of(names[name]));
    if (rc == 0)
        rc = texts_read(spec, options, error);
    if (rc == 0)
        rc = stops_read(spec, error);
    if (rc == 0)
        rc = numbers_read(spec, options, error);
    if (rc == 0)
        rc = extra_read(spec, options, error);
    return rc;
}

void openai_spec_clear(struct openai_spec *spec)
{
    fields_free(&spec->json);
    fields_free(&spec->extra);
    buf_clear(&spec->extra_json);
}

/* -- prompts ---------------------------------------------------------------------------------------------------------- */

static void template_apply(const struct openai_spec *spec, struct slice prompt, struct buf *out)
{
    const char *at = spec->template;
    while (*at != '\0') {
        if (strncmp(at, prompt_place, strlen(prompt_place)) == 0) {
            buf_put(out, prompt.data, prompt.len);
            at += strlen(prompt_place);
        } else if (strncmp(at, system_place, strlen(system_place)) == 0) {
            buf_puts(out, spec->system != NULL ? spec->system : "");
            at += strlen(system_place);
        } else {
            buf_put(out, at++, 1);
        }
    }
}

static void message_write(struct buf *out, const char *role, struct slice content)
{
    json_begin(out, '{');
    json_key(out, "role");
    json_str(out, role);
    json_key(out, "content");
    json_text(out, content);
    json_end(out, '}');
}

static struct slice trim(struct slice text)
{
    static const char white[] = " \t\r\n";
    while (text.len > 0 && memchr(white, text.data[0], sizeof white - 1) != NULL)
        text = (struct slice){text.data + 1, text.len - 1};
    while (text.len > 0 && memchr(white, text.data[text.len - 1], sizeof white - 1) != NULL)
        text.len--;
    return text;
}

/* What stands behind the prompt: earlier attempts with the instruction behind each, or a turn that is to go on. */
static void path_write(const struct job *job, struct buf *out)
{
    for (uint32_t i = 0; i < job->turns_len; i++) {
        message_write(out, "assistant", job->turns[i]);
        message_write(out, "user", trim(job->cue_text)); /* what sets it off in a text is no part of a message */
    }
    if (job->text.len > 0)
        message_write(out, "assistant", job->text);
}

/* Messages of the record as they are, whatever their content is made of; or its prompt as the user's. */
static void messages_write(const struct openai_spec *spec, const struct fields *record, struct slice prompt,
                           const struct job *job, struct buf *out)
{
    struct slice role = {0};
    fields_string(fields_item(record, "messages", 0), "role", &role, NULL);
    bool has_system = role.data != NULL && strcmp(role.data, "system") == 0;
    json_begin(out, '[');
    if (spec->system != NULL && !has_system)
        message_write(out, "system", slice_of(spec->system));
    if (prompt.data != NULL) {
        struct buf text = {0};
        template_apply(spec, prompt, &text);
        message_write(out, "user", buf_slice(&text));
        buf_clear(&text);
    } else {
        struct buf list = {0};
        fields_json(record, "messages", &list);
        json_raw(out, (struct slice){list.data + 1, list.len - 2});
        buf_clear(&list);
    }
    path_write(job, out);
    json_end(out, ']');
}

int openai_prompt(const struct openai_spec *spec, const struct job *job, struct buf *out, struct error *error)
{
    struct fields *record;
    struct slice prompt = {0};
    int rc = fields_parse(job->record, &record, error);
    if (rc == 0)
        rc = fields_string(record, "prompt", &prompt, error);
    bool messages = fields_len(record, "messages") > 0;
    if (rc == 0 && prompt.data == NULL && !messages)
        rc = error_set(error, ERR_SYNTAX, "the record has neither 'prompt' nor 'messages'");
    if (rc == 0 && prompt.data == NULL && !spec->chat)
        rc = error_set(error, ERR_SYNTAX, "the record has 'messages' and no 'prompt': that needs option `api: chat`");
    if (rc == 0 && spec->chat)
        messages_write(spec, record, prompt, job, out);
    if (rc == 0 && !spec->chat) {
        template_apply(spec, prompt, out);
        cue_path(job, out);
    }
    fields_free(&record);
    return rc;
}

/* -- requests --------------------------------------------------------------------------------------------------------- */

int openai_possible(const struct openai_spec *spec, const struct job *job, const struct dialect *dialect,
                    struct error *error)
{
    if (!dialect->truncation && (spec->top_k != 0 || spec->min_p != 0 || spec->repetition_penalty != 1))
        return error_set(error, ERR_REFUSED,
                         "the dialect %s has no min_p, top_k or repetition_penalty: leave them out, or name another "
                         "dialect",
                         dialect->name);
    if (job->think && spec->think_end.len == 0)
        return error_set(error, ERR_REFUSED, "thinking is asked for, and the model does not say its `think_end`");
    if (spec->chat && (job->text.len > 0 || job->think) && !dialect->partial_turn)
        return error_set(error, ERR_REFUSED,
                         "the dialect %s cannot continue an answer in chat: use option `api: completions`",
                         dialect->name);
    return 0;
}

bool openai_wants_ids(const struct openai_spec *spec, const struct job *job, const struct dialect *dialect)
{
    bool goes_on = dialect->tokens == TOKENS_MIXED ? job->step || job->think || cue_inline(job->cue)
                                                   : job->step && dialect->tokens != TOKENS_NOT;
    return goes_on && !spec->chat && !spec->continue_text && spec->logprobs >= 0;
}

uint32_t openai_tokens_max(const struct openai_spec *spec, const struct job *job)
{
    uint32_t most = spec->tokens_max > 0 ? spec->tokens_max : LIMIT_MAX_TOKENS;
    return job->tokens_max > 0 && job->tokens_max < most ? job->tokens_max : most;
}

void openai_ask(const struct openai_spec *spec, const struct job *job, struct slice prompt, bool stream,
                struct slice *stops, struct ask *ask)
{
    memcpy(stops, spec->stops, spec->stops_len * sizeof *stops);
    *ask = (struct ask){
        .chat = spec->chat,
        .stream = stream,
        .text = prompt,
        .messages = prompt,
        .continues = job->text.len > 0,
        .n = 1,
        .tokens_max = openai_tokens_max(spec, job),
        .seed = job->seed >> 33,
        .temperature = spec->temperature,
        .top_p = spec->top_p,
        .min_p = spec->min_p,
        .repetition_penalty = spec->repetition_penalty,
        .top_k = spec->top_k,
        .stops = stops,
        .stops_len = spec->stops_len,
        .keep_stop = job->step,
        .logprobs = spec->logprobs,
        .salt = spec->salt,
        .extra = buf_slice(&spec->extra_json),
    };
    if (job->step)
        stops[ask->stops_len++] = spec->step;
    if (job->think)
        stops[ask->stops_len++] = ask->shown = spec->think_end;
}
