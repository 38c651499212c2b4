/* dialect_vllm.c - vLLM's OpenAI routes with its own fields.
 *
 * max_tokens has a default of 16 there, and generation_config.json of a model may change any sampling default: so all of
 * them are written. Aborting is closing the connection. */
#include "common/json.h"
#include "worker/dialect.h"

static void vllm_write(const struct ask *ask, struct buf *body)
{
    ask_all(ask, "include_stop_str_in_output", "request_id", body);
    if (ask->wants_ids) {
        json_key(body, "return_token_ids");
        json_bool(body, true);
    }
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
    .many = true,
    .says_stop = true,
    .chat_says_stop = true,
    .tokens = TOKENS_WHOLE,
    .logprobs = LOGPROB_RAW,
};
