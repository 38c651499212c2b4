/* What a model of backend `openai` makes of a job, and how each dialect says it. */
#include "worker/openai_answer.h"
#include "worker/openai_spec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct openai_spec spec;

static int read_spec(const char *json, struct error *error)
{
    openai_spec_clear(&spec);
    return openai_spec_read(slice_of(json), &spec, error);
}

static void good_spec(const char *json)
{
    struct error error = {""};
    if (read_spec(json, &error) != 0)
        fail_msg("%s", error.text);
}

static struct job job_of(const char *record, const char *text)
{
    return (struct job){.record = slice_of(record), .text = slice_of(text), .seed = 5ull << 33, .tokens_max = 7};
}

static void prompt_is(const char *record, const char *text, const char *wanted)
{
    struct buf out = {0};
    struct error error = {""};
    struct job job = job_of(record, text);
    if (openai_prompt(&spec, &job, &out, &error) != 0)
        fail_msg("%s", error.text);
    assert_string_equal(out.data, wanted);
    buf_clear(&out);
}

static void test_prompts_as_texts(void **state)
{
    (void)state;
    good_spec("{}");
    prompt_is("{\"prompt\":\"2+2=\"}", "", "2+2=");
    prompt_is("{\"prompt\":\"2+2=\"}", "4\n", "2+2=4\n");
    good_spec("{\"template\":\"Q: {prompt} {{prompt}} {x}\\nA:\"}");
    prompt_is("{\"prompt\":\"{system}\"}", " b", "Q: {system} {{system}} {x}\nA: b");
    good_spec("{\"system\":\"be brief\"}");
    prompt_is("{\"prompt\":\"hi\"}", "", "be brief\n\nhi");
    good_spec("{\"system\":\"S\",\"template\":\"<{system}>{prompt}\"}");
    prompt_is("{\"prompt\":\"hi\"}", "", "<S>hi");
}

static void test_prompts_as_messages(void **state)
{
    (void)state;
    good_spec("{\"system\":\"S\",\"template\":\"Q: {prompt}\",\"options\":{\"api\":\"chat\"}}");
    prompt_is("{\"prompt\":\"hi\"}", "",
              "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"Q: hi\"}]");
    prompt_is("{\"prompt\":\"hi\"}", "so",
              "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"Q: hi\"},"
              "{\"role\":\"assistant\",\"content\":\"so\"}]");
    const char *parts = "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
                        "\"data:image/png;base64,AA==\",\"new\":[1,2.5,null]}}]}]}";
    prompt_is(parts, "",
              "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
              "\"image_url\":{\"url\":\"data:image/png;base64,AA==\",\"new\":[1,2.5,null]}}]}]");
    prompt_is("{\"messages\":[{\"role\":\"system\",\"content\":\"own\"}]}", "",
              "[{\"role\":\"system\",\"content\":\"own\"}]");
}

/* Earlier attempts with the instruction behind each, word for word in a text; in chat what sets it off goes. */
static void test_prompts_of_turns(void **state)
{
    (void)state;
    const struct slice turns[] = {slice_of("4"), slice_of("5 <no>")};
    struct job job = job_of("{\"prompt\":\"2+2=\"}", "");
    struct buf out = {0};
    struct error error = {""};
    job.cue = CUE_REVISE;
    job.cue_text = slice_of("\n\nAgain. \n");
    job.turns = turns;
    job.turns_len = 2;
    good_spec("{}");
    assert_int_equal(openai_prompt(&spec, &job, &out, &error), 0);
    assert_string_equal(out.data, "2+2=4\n\nAgain. \n5 <no>\n\nAgain. \n");
    buf_reset(&out);
    good_spec("{\"options\":{\"api\":\"chat\"}}");
    assert_int_equal(openai_prompt(&spec, &job, &out, &error), 0);
    assert_string_equal(out.data,
                        "[{\"role\":\"user\",\"content\":\"2+2=\"},"
                        "{\"role\":\"assistant\",\"content\":\"4\"},{\"role\":\"user\",\"content\":\"Again.\"},"
                        "{\"role\":\"assistant\",\"content\":\"5 <no>\"},"
                        "{\"role\":\"user\",\"content\":\"Again.\"}]");
    buf_clear(&out);
}

static void test_records_that_do_not_fit(void **state)
{
    (void)state;
    struct buf out = {0};
    struct error error = {""};
    good_spec("{}");
    struct job job = job_of("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", "");
    assert_int_equal(openai_prompt(&spec, &job, &out, &error), ERR_SYNTAX);
    assert_non_null(strstr(error.text, "api: chat"));
    job = job_of("{\"question\":\"x\"}", "");
    assert_int_equal(openai_prompt(&spec, &job, &out, &error), ERR_SYNTAX);
    buf_clear(&out);
}

static void test_wrong_specs(void **state)
{
    (void)state;
    static const struct {
        const char *json, *says;
    } rows[] = {
        {"{\"system\":\"S\",\"template\":\"{prompt}\"}", "{system}"},
        {"{\"options\":{\"extra\":\"no json\"}}", "extra"},
        {"{\"options\":{\"extra\":\"{\\\"temperature\\\":0}\"}}", "temperature"},
        {"{\"options\":{\"extra\":\"{\\\"samplers\\\":[]}\"}}", "samplers"},
        {"{\"think_end\":\"E\",\"options\":{\"extra\":\"{\\\"skip_special_tokens\\\":true}\"}}", "skip_special_tokens"},
        {"{\"options\":{\"logprobs\":21}}", "logprobs"},
        {"{\"options\":{\"dialect\":\"klingon\"}}", "dialect"},
        {"{\"stop\":[1]}", "stop"},
        {"[]", "object"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error error = {""};
        assert_int_not_equal(read_spec(rows[i].json, &error), 0);
        if (strstr(error.text, rows[i].says) == NULL)
            fail_msg("%s: %s", rows[i].json, error.text);
    }
    good_spec("{\"options\":{\"dialect\":\"vllm\",\"extra\":\"{\\\"samplers\\\":[]}\"}}"); /* none of vLLM's */
    good_spec("{\"options\":{\"extra\":\"{\\\"skip_special_tokens\\\":false}\"}}"); /* where no thinking needs it */
}

/* Whole bodies: a field that is forgotten or changes its name is a changed distribution. */
static void body_is(const struct dialect *dialect, const struct job *job, bool stream, const char *wanted)
{
    struct slice stops[STOPS_MAX];
    struct ask ask;
    struct buf body = {0};
    openai_ask(&spec, job, slice_of(spec.chat ? "[M]" : "P"), stream, stops, &ask);
    ask.model = slice_of("m");
    ask.id = "ID";
    dialect->write(&ask, &body);
    assert_string_equal(body.data, wanted);
    buf_clear(&body);
}

static void test_bodies(void **state)
{
    (void)state;
    struct job job = job_of("{\"prompt\":\"P\"}", "");
    good_spec("{\"temperature\":0.5,\"top_p\":0.9,\"min_p\":0.1,\"stop\":[\"END\"],\"max_tokens\":100,\"options\":"
              "{\"top_k\":20,\"salt\":\"S\",\"extra\":\"{\\\"x\\\": [1]}\",\"logprobs\":5}}");
    body_is(&dialect_vllm, &job, false,
            "{\"model\":\"m\",\"prompt\":\"P\",\"max_tokens\":7,\"temperature\":0.5,\"top_p\":0.9,"
            "\"presence_penalty\":0,\"frequency_penalty\":0,\"n\":1,\"seed\":5,\"stop\":[\"END\"],\"stream\":false,"
            "\"top_k\":20,\"min_p\":0.1,\"repetition_penalty\":1,\"include_stop_str_in_output\":false,\"logprobs\":5,"
            "\"cache_salt\":\"S\",\"request_id\":\"ID\",\"x\":[1]}");
    body_is(&dialect_sglang, &job, true,
            "{\"text\":\"P\",\"sampling_params\":{\"max_new_tokens\":7,\"temperature\":0.5,\"top_p\":0.9,\"top_k\":20,"
            "\"min_p\":0.1,\"presence_penalty\":0,\"frequency_penalty\":0,\"repetition_penalty\":1,"
            "\"sampling_seed\":5,\"no_stop_trim\":false,\"stop\":[\"END\"]},\"return_logprob\":true,"
            "\"top_logprobs_num\":5,\"stream\":true,\"rid\":\"ID\",\"extra_key\":\"S\",\"x\":[1]}");
    body_is(&dialect_llamacpp, &job, false,
            "{\"prompt\":\"P\",\"n_predict\":7,\"temperature\":0.5,\"top_p\":0.9,\"samplers\":[\"temperature\","
            "\"top_k\",\"top_p\",\"min_p\"],\"top_k\":20,\"min_p\":0.1,\"repeat_penalty\":1,\"cache_prompt\":true,"
            "\"seed\":5,\"stop\":[\"END\"],\"stream\":false,\"n_probs\":5,\"post_sampling_probs\":false,\"x\":[1]}");
    body_is(&dialect_generic, &job, true,
            "{\"model\":\"m\",\"prompt\":\"P\",\"max_tokens\":7,\"temperature\":0.5,\"top_p\":0.9,"
            "\"presence_penalty\":0,\"frequency_penalty\":0,\"n\":1,\"seed\":5,\"stop\":[\"END\"],\"stream\":true,"
            "\"stream_options\":{\"include_usage\":true},\"logprobs\":5,\"x\":[1]}");
}

/* Defaults do not truncate; a step's separator is one more stop, and is kept. */
static void test_bodies_of_steps(void **state)
{
    (void)state;
    struct job job = job_of("{\"prompt\":\"P\"}", "so");
    job.step = true;
    job.tokens_max = 0;
    good_spec("{\"step\":\"\\n\\n\",\"max_tokens\":9,\"options\":{\"api\":\"chat\",\"logprobs\":-1}}");
    body_is(&dialect_vllm, &job, false,
            "{\"model\":\"m\",\"messages\":[M],\"max_tokens\":9,\"temperature\":1,\"top_p\":1,\"presence_penalty\":0,"
            "\"frequency_penalty\":0,\"n\":1,\"seed\":5,\"stop\":[\"\\n\\n\"],\"stream\":false,\"top_k\":-1,"
            "\"min_p\":0,\"repetition_penalty\":1,\"include_stop_str_in_output\":true,\"add_generation_prompt\":false,"
            "\"continue_final_message\":true,\"request_id\":\"ID\"}");
    good_spec("{\"max_tokens\":9}");
    body_is(
        &dialect_llamacpp, &job, false,
        "{\"prompt\":\"P\",\"n_predict\":9,\"temperature\":1,\"top_p\":1,\"samplers\":[\"temperature\"],\"top_k\":0,"
        "\"min_p\":0,\"repeat_penalty\":1,\"cache_prompt\":true,\"seed\":5,\"stop\":[\"\\n\"],\"stream\":false,"
        "\"n_probs\":1,\"post_sampling_probs\":false}");
}

/* The end of thinking is one more stop, is not kept, and is told even if it is a special token. */
static void test_bodies_of_thinking(void **state)
{
    (void)state;
    struct job job = job_of("{\"prompt\":\"P\"}", "so");
    job.think = true;
    good_spec("{\"think_end\":\"</think>\",\"stop\":[\"END\"],\"options\":{\"logprobs\":-1}}");
    body_is(&dialect_vllm, &job, false,
            "{\"model\":\"m\",\"prompt\":\"P\",\"max_tokens\":7,\"temperature\":1,\"top_p\":1,\"presence_penalty\":0,"
            "\"frequency_penalty\":0,\"n\":1,\"seed\":5,\"stop\":[\"END\",\"</think>\"],\"stream\":false,\"top_k\":-1,"
            "\"min_p\":0,\"repetition_penalty\":1,\"include_stop_str_in_output\":false,\"skip_special_tokens\":false,"
            "\"spaces_between_special_tokens\":false,\"add_generation_prompt\":false,\"continue_final_message\":true,"
            "\"request_id\":\"ID\"}");
    body_is(&dialect_sglang, &job, false,
            "{\"text\":\"P\",\"sampling_params\":{\"max_new_tokens\":7,\"temperature\":1,\"top_p\":1,\"top_k\":-1,"
            "\"min_p\":0,\"presence_penalty\":0,\"frequency_penalty\":0,\"repetition_penalty\":1,"
            "\"sampling_seed\":5,\"no_stop_trim\":false,\"stop\":[\"END\",\"</think>\"],\"skip_special_tokens\":false,"
            "\"spaces_between_special_tokens\":false},\"return_logprob\":false,\"stream\":false,\"rid\":\"ID\"}");
    body_is(
        &dialect_llamacpp, &job, false,
        "{\"prompt\":\"P\",\"n_predict\":7,\"temperature\":1,\"top_p\":1,\"samplers\":[\"temperature\"],\"top_k\":0,"
        "\"min_p\":0,\"repeat_penalty\":1,\"cache_prompt\":true,\"seed\":5,\"stop\":[\"END\",\"</think>\"],"
        "\"preserved_tokens\":[\"</think>\"],\"stream\":false}");
    body_is(&dialect_generic, &job, false,
            "{\"model\":\"m\",\"prompt\":\"P\",\"max_tokens\":7,\"temperature\":1,\"top_p\":1,\"presence_penalty\":0,"
            "\"frequency_penalty\":0,\"n\":1,\"seed\":5,\"stop\":[\"END\",\"</think>\"],\"stream\":false}");
}

/* How thinking ended, the text that is left of it, and whether its ids may be continued; finish < 0: it is no answer. */
static void thought_is(const struct job *job, const char *json, int wanted, const char *text, bool goes_on)
{
    struct completion completion;
    struct openai_ending ending = {0};
    struct error error = {""};
    enum finish finish = FINISH_FAILED;
    completion_init(&completion, 1, 0);
    assert_int_equal(completion_read(&completion, slice_of(json), &error), 0);
    int rc = openai_judge(&spec, job, &completion, &ending, &finish, &error);
    assert_int_equal(rc < 0 ? rc : (int)finish, wanted);
    if (rc < 0 && strstr(error.text, text) == NULL)
        fail_msg("%s", error.text);
    if (rc == 0) {
        assert_string_equal(completion.choices[0].text.data, text);
        assert_int_equal(openai_goes_on(&spec, job, &completion, finish), goes_on);
    }
    completion_clear(&completion);
}

#define USAGE            ",\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":2}}"
#define SAID(text, more) "{\"choices\":[{\"text\":\"" text "\"," more "}]" USAGE

static void test_ends_of_thinking(void **state)
{
    (void)state;
    struct job job = job_of("{\"prompt\":\"P\"}", ""), last = job;
    job.think = true;
    last.cue = CUE_FINAL;
    good_spec("{\"think_end\":\"E\",\"stop\":[\"END\"]}");
    thought_is(&job, SAID("ab", "\"finish_reason\":\"stop\",\"stop_reason\":\"E\""), FINISH_STEP, "ab", true);
    thought_is(&job, SAID("abE", "\"finish_reason\":\"stop\",\"stop_reason\":\"E\""), FINISH_STEP, "ab", true);
    thought_is(&job, SAID("ab", "\"finish_reason\":\"stop\",\"stop_reason\":null"), FINISH_STEP, "ab", false);
    thought_is(&job, SAID("ab", "\"finish_reason\":\"stop\",\"stop_reason\":\"END\""), FINISH_STEP, "ab", false);
    thought_is(&job, SAID("ab", "\"finish_reason\":\"stop\""), FINISH_STEP, "ab",
               false); /* a server that says no more */
    thought_is(&job, SAID("ab", "\"finish_reason\":\"length\""), FINISH_LENGTH, "ab", true);
    thought_is(&last, SAID("abE", "\"finish_reason\":\"stop\",\"stop_reason\":null"), FINISH_STOP, "abE", false);
    const char *split = "{\"choices\":[{\"message\":{\"reasoning_content\":\"hm\",\"content\":null},\"finish_reason\":"
                        "\"stop\"}]" USAGE;
    thought_is(&job, split, ERR_PROTOCOL, "without a reasoning parser", false);
    thought_is(&last, split, ERR_PROTOCOL, "without a reasoning parser", false);
}

/* A stream that was cut has told no end and no tokens of its own: they are counted as they came. */
static void test_ended_early(void **state)
{
    (void)state;
    struct completion completion;
    struct openai_ending ending = {.killed = true, .partial = true};
    struct job job = job_of("{\"prompt\":\"P\"}", "");
    struct error error = {""};
    enum finish finish = FINISH_STOP;
    good_spec("{}");
    completion_init(&completion, 1, 1);
    assert_int_equal(completion_read(&completion,
                                     slice_of("{\"choices\":[{\"text\":\"ab\",\"logprobs\":{\"token_logprobs\":[-1,-2],"
                                              "\"top_logprobs\":[{\"a\":-1},{\"b\":-2}]}}]}"),
                                     &error),
                     0);
    assert_false(logprobs_below(&completion.choices[0].logprobs, 9)); /* its window is not whole */
    assert_int_equal(openai_judge(&spec, &job, &completion, &ending, &finish, &error), ERR_PROTOCOL);
    assert_false(ending.again); /* the prompt's tokens are to be counted first */
    completion.has_in = true;
    assert_int_equal(openai_judge(&spec, &job, &completion, &ending, &finish, &error), 0);
    assert_int_equal(finish, FINISH_KILLED);
    assert_int_equal(completion.tokens_out, 2);
    completion_clear(&completion);
}

/* Asked for behind steps, and sent in place of the text. */
static void test_bodies_of_tokens(void **state)
{
    (void)state;
    struct job job = job_of("{\"prompt\":\"P\"}", "so");
    static const struct {
        const struct dialect *dialect;
        const char *says[3];
    } rows[] = {
        {&dialect_vllm, {"\"prompt\":[1,2,3]", "\"return_token_ids\":true"}},
        {&dialect_sglang,
         {"\"input_ids\":[1,2,3]", "\"return_text_in_logprobs\":true", "\"return_prompt_token_ids\":true"}},
        {&dialect_llamacpp, {"\"prompt\":[1,2,3]"}},
    };
    good_spec("{}");
    job.step = true;
    assert_false(openai_wants_ids(&spec, &job, &dialect_generic));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slice stops[STOPS_MAX];
        struct ask ask;
        struct buf body = {0};
        assert_true(openai_wants_ids(&spec, &job, rows[i].dialect));
        openai_ask(&spec, &job, slice_of("P"), false, stops, &ask);
        ask.wants_ids = true;
        ask.tokens = slice_of("1,2,3");
        ask.id = "ID";
        rows[i].dialect->write(&ask, &body);
        for (size_t j = 0; j < 3 && rows[i].says[j] != NULL; j++)
            if (strstr(body.data, rows[i].says[j]) == NULL)
                fail_msg("%s: %s is not in %s", rows[i].dialect->name, rows[i].says[j], body.data);
        buf_clear(&body);
    }
    struct job final = {.text = slice_of("so E"), .cue = CUE_FINAL, .cue_text = slice_of(" E")},
               think = {.think = true};
    assert_true(
        openai_wants_ids(&spec, &final, &dialect_llamacpp)); /* the cue stands as text behind ids: who takes that? */
    assert_true(openai_wants_ids(&spec, &think, &dialect_llamacpp));
    assert_false(openai_wants_ids(&spec, &final, &dialect_vllm));
    assert_false(openai_wants_ids(&spec, &think, &dialect_sglang));
    good_spec("{\"options\":{\"continue\":\"text\"}}");
    assert_false(openai_wants_ids(&spec, &job, &dialect_vllm));
    assert_false(openai_wants_ids(&spec, &think, &dialect_llamacpp));
    good_spec("{\"options\":{\"logprobs\":-1}}"); /* nothing spells the ids */
    assert_false(openai_wants_ids(&spec, &job, &dialect_vllm));
}

/* What is kept of an answer to the prompt P, sent as text or as `tokens`; NULL: nothing. */
static void tokens_are(const struct dialect *dialect, const char *json, const char *tokens, const char *wanted)
{
    struct completion completion;
    struct openai_ending ending = {0};
    struct job job = job_of("{\"prompt\":\"P\"}", "");
    struct error error = {""};
    struct buf out = {0};
    enum finish finish;
    job.step = true;
    completion_init(&completion, 1, 0);
    completion.wants_ids = true;
    if (completion_read(&completion, slice_of(json), &error) != 0 ||
        openai_judge(&spec, &job, &completion, &ending, &finish, &error) != 0)
        fail_msg("%s: %s", json, error.text);
    assert_int_equal(finish, FINISH_STEP);
    assert_int_equal(openai_tokens(&spec, &completion, dialect, slice_of("P\""), slice_of(tokens), &out),
                     wanted != NULL);
    if (wanted != NULL)
        assert_string_equal(out.data, wanted);
    buf_clear(&out);
    completion_clear(&completion);
}

#define VLLM(spelt, ids)                                                                  \
    "{\"choices\":[{\"text\":\"ab\\n\",\"prompt_token_ids\":[1,2],\"token_ids\":" ids     \
    ",\"finish_reason\":\"stop\",\"stop_reason\":\"\\n\",\"logprobs\":{\"tokens\":" spelt \
    ",\"token_logprobs\":[-1,-1]}}],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":2}}"
#define LLAMA(spelt)                                                                               \
    "{\"content\":\"ab\",\"stop_type\":\"word\",\"stopping_word\":\"\\n\",\"tokens_predicted\":2," \
    "\"tokens_evaluated\":2,\"completion_probabilities\":[{\"id\":3,\"logprob\":-1,\"token\":\"" spelt "\"}]}"

/* Ids count where they spell the text: what was cut within a token is not what was sampled. */
static void test_tokens_of_a_path(void **state)
{
    (void)state;
    good_spec("{}");
    tokens_are(&dialect_vllm, VLLM("[\"a\",\"b\\n\"]", "[3,4]"), "", "1,2,3,4");
    tokens_are(&dialect_vllm, VLLM("[\"a\",\"b\\n\"]", "[3,4]"), "8,9", "8,9,3,4");
    tokens_are(&dialect_vllm, VLLM("[\"a\",\"b\\nc\"]", "[3,4]"), "", NULL);
    tokens_are(&dialect_vllm, VLLM("[\"a\",\"b\"]", "[3,4]"), "", NULL);
    tokens_are(&dialect_vllm, VLLM("[\"a\",\"b\\n\"]", "[3]"), "", NULL);
    tokens_are(&dialect_vllm, VLLM("[\"a\",\"b\\n\"]", "null"), "", NULL);
    tokens_are(&dialect_llamacpp, LLAMA("ab"), "", "\"P\\\"\",3,\"\\n\"");
    tokens_are(&dialect_llamacpp, LLAMA("ab"), "8,\"x\"", "8,\"x\",3,\"\\n\"");
    tokens_are(&dialect_llamacpp, LLAMA("a"), "", NULL);
}

static void test_what_a_dialect_cannot(void **state)
{
    (void)state;
    struct error error = {""};
    struct job job = job_of("{\"prompt\":\"P\"}", "so");
    good_spec("{\"min_p\":0.1}");
    assert_int_equal(openai_possible(&spec, &job, &dialect_generic, &error), ERR_REFUSED);
    assert_int_equal(openai_possible(&spec, &job, &dialect_vllm, &error), 0);
    good_spec("{\"options\":{\"api\":\"chat\"}}");
    assert_int_equal(openai_possible(&spec, &job, &dialect_generic, &error), ERR_REFUSED);
    job.text.len = 0;
    assert_int_equal(openai_possible(&spec, &job, &dialect_generic, &error), 0);
    job.think = true; /* what was thought will be continued */
    assert_int_equal(openai_possible(&spec, &job, &dialect_vllm, &error), ERR_REFUSED);
    assert_non_null(strstr(error.text, "think_end"));
    good_spec("{\"think_end\":\"E\",\"options\":{\"api\":\"chat\"}}");
    assert_int_equal(openai_possible(&spec, &job, &dialect_generic, &error), ERR_REFUSED);
    assert_int_equal(openai_possible(&spec, &job, &dialect_vllm, &error), 0);
}

static int done(void **state)
{
    (void)state;
    openai_spec_clear(&spec);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts_as_texts),      cmocka_unit_test(test_prompts_as_messages),
        cmocka_unit_test(test_prompts_of_turns),      cmocka_unit_test(test_records_that_do_not_fit),
        cmocka_unit_test(test_wrong_specs),           cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_bodies_of_steps),       cmocka_unit_test(test_bodies_of_thinking),
        cmocka_unit_test(test_ends_of_thinking),      cmocka_unit_test(test_ended_early),
        cmocka_unit_test(test_bodies_of_tokens),      cmocka_unit_test(test_tokens_of_a_path),
        cmocka_unit_test(test_what_a_dialect_cannot),
    };
    return cmocka_run_group_tests(tests, NULL, done);
}
