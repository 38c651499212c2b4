/* dialect_llamacpp.c - llama.cpp's llama-server: its own /completion for texts, OpenAI's route for messages.
 *
 * Its defaults truncate the distribution (top_k 40, min_p 0.05), its order of samplers divides by the temperature last,
 * and n_predict has no limit: the chain is spelt out, temperature first, as other servers do. The stop text is never part
 * of the answer, but it is told. Ids stand beside the log-probabilities, without those of the stop text. */
#include "common/json.h"
#include "worker/dialect.h"

static void samplers_write(const struct ask *ask, struct buf *body)
{
    json_key(body, "samplers");
    json_begin(body, '[');
    if (ask->repetition_penalty != 1)
        json_str(body, "penalties");
    json_str(body, "temperature");
    if (ask->top_k > 0)
        json_str(body, "top_k");
    if (ask->top_p < 1)
        json_str(body, "top_p");
    if (ask->min_p > 0)
        json_str(body, "min_p");
    json_end(body, ']');
    json_key(body, "top_k");
    json_u64(body, ask->top_k);
    json_key(body, "min_p");
    json_f64(body, ask->min_p);
    json_key(body, "repeat_penalty");
    json_f64(body, ask->repetition_penalty);
    json_key(body, "cache_prompt");
    json_bool(body, true);
}

static void completion_write(const struct ask *ask, struct buf *body)
{
    json_begin(body, '{');
    json_key(body, "prompt");
    ask_prompt(ask, body);
    json_key(body, "n_predict");
    json_u64(body, ask->tokens_max);
    json_key(body, "temperature");
    json_f64(body, ask->temperature);
    json_key(body, "top_p");
    json_f64(body, ask->top_p);
    samplers_write(ask, body);
    json_key(body, "seed");
    json_u64(body, ask->seed);
    ask_stops(ask, body);
    if (ask->shown.len > 0) { /* its route for messages would put the chat template's own list in place of this one */
        json_key(body, "preserved_tokens");
        json_begin(body, '[');
        json_text(body, ask->shown);
        json_end(body, ']');
    }
    json_key(body, "stream");
    json_bool(body, ask->stream);
    if (ask->logprobs >= 0) {
        json_key(body, "n_probs"); /* 0 would turn them off */
        json_i64(body, ask->logprobs > 0 ? ask->logprobs : 1);
        json_key(body, "post_sampling_probs");
        json_bool(body, false);
    }
    ask_end(ask, body);
}

static void llamacpp_write(const struct ask *ask, struct buf *body)
{
    if (!ask->chat) {
        completion_write(ask, body);
        return;
    }
    ask_begin(ask, body); /* a last message of the assistant is continued without being told */
    ask_common(ask, body);
    samplers_write(ask, body);
    ask_logprobs(ask, body);
    ask_end(ask, body);
}

const struct dialect dialect_llamacpp = {
    .name = "llamacpp",
    .help = "llama.cpp's llama-server",
    .owner = "llamacpp",
    .route = "/completion",
    .chat_route = "/v1/chat/completions",
    .write = llamacpp_write,
    .gauges = {{"llamacpp:requests_deferred"}, {"llamacpp:requests_processing"}, {NULL}},
    .truncation = true,
    .partial_turn = true,
    .says_stop = true,
    .tokens = TOKENS_MIXED,
    .logprobs = LOGPROB_RAW,
};
