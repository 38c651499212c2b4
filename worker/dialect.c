/* dialect.c - the table of dialects, and what their requests share; see dialect.h. */
#include "worker/dialect.h"
#include "common/json.h"

#include <string.h>

const struct dialect *const dialects[] = {&dialect_vllm, &dialect_sglang, &dialect_llamacpp, &dialect_generic, NULL};

const struct dialect *dialect_find(struct slice name)
{
    for (size_t i = 0; dialects[i] != NULL; i++)
        if (strlen(dialects[i]->name) == name.len && memcmp(dialects[i]->name, name.data, name.len) == 0)
            return dialects[i];
    return NULL;
}

void ask_prompt(const struct ask *ask, struct buf *body)
{
    if (ask->tokens.len == 0) {
        json_text(body, ask->text);
        return;
    }
    json_begin(body, '[');
    json_raw(body, ask->tokens);
    json_end(body, ']');
}

void ask_begin(const struct ask *ask, struct buf *body)
{
    json_begin(body, '{');
    json_key(body, "model");
    json_text(body, ask->model);
    json_key(body, ask->chat ? "messages" : "prompt");
    if (ask->chat)
        json_raw(body, ask->messages);
    else
        ask_prompt(ask, body);
}

void ask_stops(const struct ask *ask, struct buf *body)
{
    if (ask->stops_len == 0)
        return;
    json_key(body, "stop");
    json_begin(body, '[');
    for (size_t i = 0; i < ask->stops_len; i++)
        json_text(body, ask->stops[i]);
    json_end(body, ']');
}

void ask_shown(const struct ask *ask, struct buf *body)
{
    if (ask->shown.len == 0)
        return;
    json_key(body, "skip_special_tokens");
    json_bool(body, false);
    json_key(body, "spaces_between_special_tokens");
    json_bool(body, false);
}

void ask_common(const struct ask *ask, struct buf *body)
{
    json_key(body, "max_tokens");
    json_u64(body, ask->tokens_max);
    json_key(body, "temperature");
    json_f64(body, ask->temperature);
    json_key(body, "top_p");
    json_f64(body, ask->top_p);
    json_key(body, "presence_penalty");
    json_f64(body, 0);
    json_key(body, "frequency_penalty");
    json_f64(body, 0);
    json_key(body, "n");
    json_u64(body, ask->n);
    json_key(body, "seed");
    json_u64(body, ask->seed);
    ask_stops(ask, body);
    json_key(body, "stream");
    json_bool(body, ask->stream);
    if (ask->stream) {
        json_key(body, "stream_options");
        json_raw(body, slice_of("{\"include_usage\":true}"));
    }
}

void ask_logprobs(const struct ask *ask, struct buf *body)
{
    if (ask->logprobs < 0)
        return;
    json_key(body, "logprobs");
    if (!ask->chat) {
        json_i64(body, ask->logprobs);
        return;
    }
    json_bool(body, true);
    if (ask->logprobs > 0) {
        json_key(body, "top_logprobs");
        json_i64(body, ask->logprobs);
    }
}

void ask_end(const struct ask *ask, struct buf *body)
{
    if (ask->extra.len > 2)
        json_raw(body, (struct slice){ask->extra.data + 1, ask->extra.len - 2});
    json_end(body, '}');
}

void ask_all(const struct ask *ask, const char *keep_stop, const char *id, struct buf *body)
{
    ask_begin(ask, body);
    ask_common(ask, body);
    json_key(body, "top_k");
    json_i64(body, ask->top_k == 0 ? -1 : (int64_t)ask->top_k);
    json_key(body, "min_p");
    json_f64(body, ask->min_p);
    json_key(body, "repetition_penalty");
    json_f64(body, ask->repetition_penalty);
    json_key(body, keep_stop);
    json_bool(body, ask->keep_stop);
    ask_shown(ask, body);
    ask_logprobs(ask, body);
    if (ask->continues) {
        json_key(body, "add_generation_prompt");
        json_bool(body, false);
        json_key(body, "continue_final_message");
        json_bool(body, true);
    }
    if (ask->salt.len > 0) {
        json_key(body, "cache_salt");
        json_text(body, ask->salt);
    }
    json_key(body, id);
    json_str(body, ask->id);
}
