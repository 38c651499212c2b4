/* dialect_sglang.c - SGLang: its own /generate for texts, OpenAI's route for messages.
 *
 * Only /generate honours a seed per request (`sampling_seed`), and that when the server was started with
 * --enable-deterministic-inference. Its log-probabilities are those after temperature. */
#include "common/json.h"
#include "worker/dialect.h"

static void sampling_write(const struct ask *ask, struct buf *body)
{
    json_key(body, "sampling_params");
    json_begin(body, '{');
    json_key(body, "max_new_tokens");
    json_u64(body, ask->tokens_max);
    json_key(body, "temperature");
    json_f64(body, ask->temperature);
    json_key(body, "top_p");
    json_f64(body, ask->top_p);
    json_key(body, "top_k");
    json_i64(body, ask->top_k == 0 ? -1 : (int64_t)ask->top_k);
    json_key(body, "min_p");
    json_f64(body, ask->min_p);
    json_key(body, "presence_penalty");
    json_f64(body, 0);
    json_key(body, "frequency_penalty");
    json_f64(body, 0);
    json_key(body, "repetition_penalty");
    json_f64(body, ask->repetition_penalty);
    json_key(body, "sampling_seed");
    json_u64(body, ask->seed);
    json_key(body, "no_stop_trim");
    json_bool(body, ask->keep_stop);
    ask_stops(ask, body);
    ask_shown(ask, body);
    json_end(body, '}');
}

static void generate_write(const struct ask *ask, struct buf *body)
{
    json_begin(body, '{');
    json_key(body, ask->tokens.len > 0 ? "input_ids" : "text");
    ask_prompt(ask, body);
    sampling_write(ask, body);
    json_key(body, "return_logprob");
    json_bool(body, ask->logprobs >= 0);
    if (ask->logprobs > 0) {
        json_key(body, "top_logprobs_num");
        json_i64(body, ask->logprobs);
    }
    json_key(body, "stream");
    json_bool(body, ask->stream);
    json_key(body, "rid");
    json_str(body, ask->id);
    if (ask->salt.len > 0) {
        json_key(body, "extra_key");
        json_text(body, ask->salt);
    }
    if (ask->wants_ids) { /* those that were generated stand beside their log-probabilities */
        json_key(body, "return_text_in_logprobs");
        json_bool(body, true);
        json_key(body, "return_prompt_token_ids");
        json_bool(body, true);
    }
    ask_end(ask, body);
}

static void sglang_write(const struct ask *ask, struct buf *body)
{
    if (!ask->chat) {
        generate_write(ask, body);
        return;
    }
    ask_all(ask, "no_stop_trim", "rid", body);
    ask_end(ask, body);
}

const struct dialect dialect_sglang = {
    .name = "sglang",
    .help = "SGLang",
    .owner = "sglang",
    .route = "/generate",
    .chat_route = "/v1/chat/completions",
    .write = sglang_write,
    .gauges = {{"sglang:num_queue_reqs"}, {"sglang:num_running_reqs"}, {"sglang:token_usage"}},
    .abort_route = "/abort_request",
    .truncation = true,
    .partial_turn = true,
    .cumulative = true,
    .says_stop = true,
    .chat_says_stop = true,
    .tokens = TOKENS_WHOLE,
    .logprobs = LOGPROB_SAMPLED,
};
