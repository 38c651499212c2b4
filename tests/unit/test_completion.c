/* Answers of inference servers in every dialect's shape, the events that they may come in, and their gauges. */
#include "common/io/secret.h"
#include "common/sse.h"
#include "worker/completion.h"
#include "worker/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct completion completion;

static int read_with(size_t choices, uint32_t top, const char *json, struct error *error)
{
    completion_clear(&completion);
    completion_init(&completion, choices, top);
    return completion_read(&completion, slice_of(json), error);
}

static const struct choice *read_one(const char *json)
{
    struct error error = {""};
    if (read_with(1, 2, json, &error) != 0)
        fail_msg("%s", error.text);
    return &completion.choices[0];
}

static void usage_is(uint64_t in, uint64_t out, uint64_t cached)
{
    assert_true(completion.has_in);
    assert_true(completion.has_out);
    assert_int_equal(completion.tokens_in, in);
    assert_int_equal(completion.tokens_out, out);
    assert_int_equal(completion.tokens_cached, cached);
}

static void test_completions(void **state)
{
    (void)state;
    const struct choice *choice = read_one(
        "{\"id\":\"x\",\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"ab\",\"logprobs\":"
        "{\"text_offset\":[0,1],\"token_logprobs\":[-0.5,-1.5],\"tokens\":[\"a\",\"b\"],\"top_logprobs\":"
        "[{\"a\":-0.5,\"c\":-2},{\"b\":-1.5,\"d\":-1,\"e\":-1.25}]},\"finish_reason\":\"stop\",\"stop_reason\":"
        "\"\\n\",\"token_ids\":[1,2]}],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9,"
        "\"prompt_tokens_details\":{\"cached_tokens\":4}}}");
    assert_string_equal(choice->text.data, "ab");
    assert_string_equal(choice->finish, "stop");
    assert_int_equal(choice->matched, MATCHED_TEXT);
    assert_string_equal(choice->stop, "\n");
    assert_int_equal(choice->logprobs.len, 2);
    assert_true(choice->logprobs.sum == -2);
    assert_int_equal(choice->logprobs.positions, 2);
    assert_true(fabs(choice->logprobs.confidence[0] - 1.25) < 1e-6);
    assert_true(fabs(choice->logprobs.confidence[1] - 1.125) < 1e-6); /* without the sampled token, which was third */
    usage_is(7, 2, 4);
}

static void test_chat(void **state)
{
    (void)state;
    const struct choice *choice = read_one(
        "{\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
        "\"\\u00e9!\",\"reasoning_content\":\"hm\"},\"logprobs\":{\"content\":[{\"token\":\"\\u00e9\",\"logprob\":-1,"
        "\"bytes\":[195,169],\"top_logprobs\":[{\"token\":\"x\",\"logprob\":-0.5,\"bytes\":null},{\"token\":\"y\","
        "\"logprob\":-1}]},{\"token\":\"!\",\"logprob\":-2,\"top_logprobs\":[]}]},\"finish_reason\":\"length\","
        "\"stop_reason\":null}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,"
        "\"prompt_tokens_details\":null}}");
    assert_string_equal(choice->text.data, "\xc3\xa9!");
    assert_string_equal(choice->reasoning.data, "hm");
    assert_string_equal(choice->finish, "length");
    assert_int_equal(choice->logprobs.len, 2);
    assert_true(choice->logprobs.sum == -3);
    assert_int_equal(choice->logprobs.positions, 1);
    usage_is(1, 2, 0);
    assert_false(completion.has_cached);
    choice = read_one("{\"choices\":[{\"message\":{\"content\":null},\"finish_reason\":\"stop\"}]}");
    assert_int_equal(choice->text.len, 0);
    assert_int_equal(choice->matched, MATCHED_UNKNOWN);
    assert_false(completion.has_out);
}

static void test_sglang(void **state)
{
    (void)state;
    const char *first = "{\"text\":\"a\",\"output_ids\":[5],\"meta_info\":{\"id\":\"r\",\"finish_reason\":null,"
                        "\"prompt_tokens\":3,\"completion_tokens\":1,\"cached_tokens\":2,\"output_token_logprobs\":"
                        "[[-0.25,5,null]],\"output_top_logprobs\":[[[-0.25,5,null],[-3,6,null]]]}}";
    const char *second =
        "{\"text\":\"ab\",\"output_ids\":[5,6],\"meta_info\":{\"id\":\"r\",\"finish_reason\":{\"type\":"
        "\"stop\",\"matched\":\"b\"},\"prompt_tokens\":3,\"completion_tokens\":2,\"cached_tokens\":2,"
        "\"output_token_logprobs\":[[-0.25,5,null],[-0.5,6,\"b\"]],\"output_top_logprobs\":"
        "[[[-0.25,5,null],[-3,6,null]],[[-0.5,6,null],[-1,7,null]]]}}";
    completion_clear(&completion);
    completion_init(&completion, 1, 2);
    completion.cumulative = true; /* each chunk says everything again */
    assert_int_equal(completion_read(&completion, slice_of(first), NULL), 0);
    assert_string_equal(completion.choices[0].finish, "");
    assert_int_equal(completion_read(&completion, slice_of(second), NULL), 0);
    const struct choice *choice = &completion.choices[0];
    assert_string_equal(choice->text.data, "ab");
    assert_string_equal(choice->finish, "stop");
    assert_string_equal(choice->stop, "b");
    assert_int_equal(choice->logprobs.len, 2);
    assert_true(choice->logprobs.sum == -0.75);
    assert_int_equal(choice->logprobs.positions, 2);
    usage_is(3, 2, 2);
    choice = read_one("{\"text\":\"x\",\"meta_info\":{\"finish_reason\":{\"type\":\"stop\",\"matched\":2}}}");
    assert_int_equal(choice->matched, MATCHED_NONE);
}

static void test_llamacpp(void **state)
{
    (void)state;
    const struct choice *choice = read_one(
        "{\"index\":0,\"content\":\"hi\",\"tokens\":[1],\"id_slot\":0,\"stop\":true,\"model\":\"m\","
        "\"tokens_predicted\":2,\"tokens_evaluated\":9,\"tokens_cached\":10,\"stop_type\":\"word\",\"stopping_word\":"
        "\"\\n\",\"truncated\":false,\"generation_settings\":{\"seed\":1,\"stop\":[\"\\n\"]},"
        "\"completion_probabilities\":[{\"id\":1,\"token\":\"hi\",\"bytes\":[1],\"logprob\":-0.125,\"top_logprobs\":"
        "[{\"id\":1,\"token\":\"hi\",\"logprob\":-0.125}]}]}");
    assert_string_equal(choice->text.data, "hi");
    assert_string_equal(choice->finish, "word");
    assert_string_equal(choice->stop, "\n");
    assert_true(choice->logprobs.sum == -0.125);
    usage_is(9, 2, 0);
    choice = read_one("{\"content\":\"x\",\"stop_type\":\"eos\",\"stopping_word\":\"\"}");
    assert_int_equal(choice->matched, MATCHED_NONE);
    choice = read_one("{\"content\":\"x\",\"stop_type\":\"none\",\"stopping_word\":\"\"}");
    assert_string_equal(choice->finish, "");
}

static const struct choice *read_ids(const char *json)
{
    struct error error = {""};
    completion_clear(&completion);
    completion_init(&completion, 1, 0);
    completion.wants_ids = true;
    if (completion_read(&completion, slice_of(json), &error) != 0)
        fail_msg("%s", error.text);
    return &completion.choices[0];
}

static void ids_are(const struct choice *choice, const char *prompt, const char *ids, size_t len, const char *spelt)
{
    assert_string_equal(completion.prompt_ids.len > 0 ? completion.prompt_ids.data : "", prompt);
    assert_string_equal(choice->ids.data, ids);
    assert_int_equal(choice->ids_len, len);
    assert_string_equal(choice->spelt.data, spelt);
}

static void test_token_ids(void **state)
{
    (void)state;
    struct error error = {""};
    ids_are(read_ids("{\"choices\":[{\"text\":\"ab\",\"prompt_token_ids\":[1,2],\"token_ids\":[3,40],\"logprobs\":"
                     "{\"tokens\":[\"a\",\"b\"],\"token_logprobs\":[-1,-2]}}]}"),
            "1,2", "3,40", 2, "ab");
    assert_int_equal(completion_read(&completion,
                                     slice_of("{\"choices\":[{\"text\":\"c\",\"token_ids\":[5],"
                                              "\"logprobs\":{\"tokens\":[\"c\"]}}]}"),
                                     &error),
                     0); /* the next chunk of a stream */
    ids_are(&completion.choices[0], "1,2", "3,40,5", 3, "abc");
    ids_are(read_ids("{\"text\":\"ab\",\"output_ids\":[1,2,3],\"meta_info\":{\"prompt_token_ids\":[1,2],"
                     "\"output_token_logprobs\":[[-0.5,3,\"ab\"]]}}"),
            "1,2", "3", 1, "ab");
    ids_are(read_ids("{\"content\":\"ab\",\"tokens\":[3,4],\"completion_probabilities\":[{\"id\":3,\"token\":\"ab\","
                     "\"logprob\":-1,\"top_logprobs\":[{\"id\":9,\"token\":\"x\",\"logprob\":-2}]}]}"),
            "", "3", 1, "ab");
    completion_clear(&completion);
    completion_init(&completion, 1, 0);
    completion.wants_ids = true;
    assert_int_equal(completion_read(&completion, slice_of("{\"choices\":[{\"token_ids\":[1.5]}]}"), &error),
                     ERR_PROTOCOL);
}

/* Each answer's texts go where its index says, also when that comes last. */
static void test_several_choices(void **state)
{
    (void)state;
    struct error error = {""};
    const char *json = "{\"choices\":[{\"text\":\"two\",\"index\":2},{\"index\":0,\"text\":\"zero\"},{\"text\":\"one\","
                       "\"index\":1,\"logprobs\":{\"token_logprobs\":[-1]}}]}";
    assert_int_equal(read_with(3, 0, json, &error), 0);
    assert_string_equal(completion.choices[0].text.data, "zero");
    assert_string_equal(completion.choices[1].text.data, "one");
    assert_string_equal(completion.choices[2].text.data, "two");
    assert_int_equal(completion.choices[1].logprobs.len, 1);
    assert_int_equal(read_with(2, 0, json, &error), ERR_PROTOCOL);
}

static void test_complaints(void **state)
{
    (void)state;
    static const struct {
        const char *json, *says;
        double code;
    } rows[] = {
        {"{\"error\":{\"message\":\"too long\",\"type\":\"BadRequestError\",\"code\":400}}", "too long", 400},
        {"{\"error\":{\"message\":\"no\",\"code\":\"invalid_api_key\"}}", "no", 0},
        {"{\"object\":\"error\",\"message\":\"old\",\"code\":404}", "old", 404},
        {"{\"error\":\"plain\"}", "plain", 0},
        {"{\"detail\":\"Not Found\"}", "Not Found", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        read_one(rows[i].json);
        assert_true(completion.complained);
        assert_string_equal(completion.complaint, rows[i].says);
        assert_true(completion.complaint_code == rows[i].code);
    }
    read_one("{\"message\":\"no complaint\",\"error\":null,\"choices\":[]}");
    assert_false(completion.complained);
}

static void test_nonsense(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int rc;
    } rows[] = {
        {"", ERR_SYNTAX},
        {"{", ERR_SYNTAX},
        {"{\"choices\":[{\"text\":\"a\"}]} x", ERR_SYNTAX},
        {"{\"usage\":{\"prompt_tokens\":-1}}", ERR_PROTOCOL},
        {"{\"usage\":{\"prompt_tokens\":1.5}}", ERR_PROTOCOL},
        {"{\"usage\":{\"prompt_tokens\":\"7\"}}", ERR_PROTOCOL},
        {"{\"choices\":[{\"logprobs\":{\"token_logprobs\":[\"x\"]}}]}", ERR_PROTOCOL},
        {"{\"choices\":[{\"logprobs\":{\"token_logprobs\":[1e999]}}]}", ERR_PROTOCOL},
        {"{\"choices\":[{\"index\":1,\"text\":\"a\"}]}", ERR_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error error = {""};
        assert_int_equal(read_with(1, 2, rows[i].json, &error), rows[i].rc);
        assert_true(strlen(error.text) > 0);
    }
    char deep[300];
    memset(deep, '[', sizeof deep);
    deep[sizeof deep - 1] = '\0';
    assert_int_equal(read_with(1, 0, deep, NULL), ERR_LIMIT);
    read_one("{\"unknown\":{\"choices\":[{\"text\":\"no\"}]},\"choices\":[{\"text\":\"yes\",\"new\":{\"text\":1}}]}");
    assert_string_equal(completion.choices[0].text.data, "yes");
}

/* -- events ----------------------------------------------------------------------------------------------------------- */

static int note(void *user, struct slice data)
{
    struct buf *out = user;
    buf_printf(out, "[%.*s]", (int)data.len, data.data);
    return data.len == 4 && memcmp(data.data, "stop", 4) == 0 ? 7 : 0;
}

/* Whatever pieces the bytes come in. */
static void test_events(void **state)
{
    (void)state;
    const char *text = ": hello\n\ndata: a\n\ndata:b\r\n\r\nevent: x\ndata: c\ndata: d\n\nid: 1\n\ndata\n\ndata: e\r\r"
                       "datax: no\n\ndata: cut";
    const char *wanted = "[a][b][c\nd][][e]";
    for (size_t piece = 1; piece < strlen(text); piece++) {
        struct sse sse = {0};
        struct buf out = {0};
        for (size_t at = 0; at < strlen(text); at += piece) {
            size_t len = strlen(text) - at < piece ? strlen(text) - at : piece;
            assert_int_equal(sse_feed(&sse, (struct slice){text + at, len}, note, &out), 0);
        }
        assert_string_equal(out.data, wanted);
        assert_false(sse_between(&sse));
        sse_clear(&sse);
        assert_true(sse_between(&sse));
        buf_clear(&out);
    }
    struct sse sse = {0};
    struct buf out = {0};
    assert_int_equal(sse_feed(&sse, slice_of("data: stop\n\ndata: x\n\n"), note, &out), 7);
    assert_string_equal(out.data, "[stop]");
    sse_clear(&sse);
    buf_clear(&out);
}

/* -- gauges ----------------------------------------------------------------------------------------------------------- */

static void test_metrics(void **state)
{
    (void)state;
    const char *page = "# HELP vllm:waiting x\n# TYPE vllm:waiting gauge\n"
                       "vllm:waiting{engine=\"0\",model_name=\"a}b\"} 3.0\nvllm:waiting{engine=\"1\"} 4 1700000000\n"
                       "vllm:waiting_total 99\nold:kv 0.5\nbroken{a=\"b\" 7\nnan:x NaN\nbare 12";
    const char *const waiting[] = {"vllm:waiting", NULL, NULL};
    struct gauge_value value = metrics_find(slice_of(page), waiting, 3);
    assert_true(value.known);
    assert_true(value.sum == 7);
    assert_true(value.max == 4);
    const char *const alias[] = {"new:kv", "old:kv", NULL};
    assert_true(metrics_find(slice_of(page), alias, 3).max == 0.5);
    const char *const bare[] = {"bare", NULL};
    assert_true(metrics_find(slice_of(page), bare, 2).sum == 12);
    const char *const none[] = {"missing", "broken", "nan:x"};
    assert_false(metrics_find(slice_of(page), none, 3).known);
    assert_false(metrics_find((struct slice){0}, waiting, 3).known);
}

/* -- keys ------------------------------------------------------------------------------------------------------------- */

static void test_secrets(void **state)
{
    (void)state;
    char path[] = "/tmp/drover-key-XXXXXX", text[100] = "key sk-12345 and sk-12345!";
    struct buf key = {0};
    struct error error = {""};
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "sk-12345\n", 9), 9);
    assert_int_equal(secret_read(path, "DROVER_TEST_KEY", &key, &error), 0);
    assert_string_equal(key.data, "sk-12345");
    secret_hide(text, key.data);
    assert_string_equal(text, "key *** and ***!");
    strcpy(text, "cut sk-1234");
    secret_hide(text, key.data);
    assert_string_equal(text, "cut ***");
    strcpy(text, "sk-"); /* too little to be told from other words */
    secret_hide(text, key.data);
    assert_string_equal(text, "sk-");
    assert_int_equal(write(fd, "second\n", 7), 7);
    assert_int_equal(secret_read(path, NULL, &key, &error), ERR_SYNTAX);
    assert_null(strstr(error.text, "sk-12345"));
    close(fd);
    unlink(path);
    assert_int_equal(secret_read(path, NULL, &key, &error), ERR_NOT_FOUND);
    unsetenv("DROVER_TEST_KEY");
    assert_int_equal(secret_read(NULL, "DROVER_TEST_KEY", &key, &error), ERR_NOT_FOUND);
    setenv("DROVER_TEST_KEY", "sk-env", 1);
    assert_int_equal(secret_read("", "DROVER_TEST_KEY", &key, &error), 0);
    assert_string_equal(key.data, "sk-env");
    setenv("DROVER_TEST_KEY", "", 1);
    assert_int_equal(secret_read("", "DROVER_TEST_KEY", &key, &error), ERR_SYNTAX);
    assert_int_equal(secret_read("", "", &key, &error), 0);
    assert_int_equal(key.len, 0);
    secret_hide(text, NULL);
    secret_clear(&key);
}

static int done(void **state)
{
    (void)state;
    completion_clear(&completion);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_completions),     cmocka_unit_test(test_chat),
        cmocka_unit_test(test_sglang),          cmocka_unit_test(test_llamacpp),
        cmocka_unit_test(test_several_choices), cmocka_unit_test(test_complaints),
        cmocka_unit_test(test_nonsense),        cmocka_unit_test(test_events),
        cmocka_unit_test(test_metrics),         cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_token_ids),
    };
    return cmocka_run_group_tests(tests, NULL, done);
}
