/* dialect_vllm.c - vLLM's OpenAI routes with its own fields.
 *
 * max_tokens has a default of 16 there, and generation_config.json of a model may change any sampling default: so all of
 * them are written. Aborting is closing the connection. */
#include "common/json.h"
#include "worker/dialect.h"

static void vllm_write(const struct ask *ask, struct buf *body)
{
    ask_begin(ask, body);
    ask_common(ask, body);
    json_key(body, "top_k");
    json_i64(body, ask->top_k == 0 ? -1 : (int64_t)ask->top_k);
    json_key(body, "min_p");
    json_f64(body, ask->min_p);
    json_key(body, "repetition_penalty");
    json_f64(body, ask->repetition_penalty);
    json_key(body, "include_stop_str_in_output");
    json_bool(body, ask->keep_stop);
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
    json_key(body, "request_id");
    json_str(body, ask->id);
    ask_end(ask, body);
}

const struct dialect dialect_vllm = {
    .name = "vllm",
    .help = "vLLM",
    .owner = "vllm",
    .route = "/v1/completions",
    .chat_route = "/v1/chat/completions",
    .write = vllm_write,
    .gauges = {{"vllm:num_requests_waiting"},
               {"vllm:num_requests_running"},
               {"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"}},
    .truncation = true,
    .partial_turn = true,
    .says_stop = true,
    .chat_says_stop = true,
    .logprobs = LOGPROB_RAW,
};
