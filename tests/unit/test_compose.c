/* Checks that ask others: whom they ask, when, and what follows. */
#include "verifier/check.h"
#include "verifier/compose.h"

#include "common/limits.h"
#include "common/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 20000

struct answer {
    struct verdict verdict;
    int code;
    char detail[4000];
    struct error error;
};

/* What a spec says about a text and an answer. */
static struct answer ask(const char *spec, const char *answer, const char *text, uint32_t timeout_ms)
{
    const struct check *check;
    void *state;
    struct answer out = {.code = 0};
    struct buf detail = {0};
    const struct check_input input = {.record = slice_of("{\"id\":1,\"prompt\":\"p\",\"answer\":\"7\"}"),
                                      .answer = slice_of(answer),
                                      .text = slice_of(text),
                                      .finished = true,
                                      .timeout_ms = timeout_ms,
                                      .detail = &detail};
    if (check_open(slice_of(spec), &check, &state, &out.error) != 0)
        fail_msg("%s", out.error.text);
    out.code = check->run(state, &input, &out.verdict, &out.error);
    snprintf(out.detail, sizeof out.detail, "%s", detail.len > 0 ? detail.data : "");
    check->close(&state);
    assert_null(state);
    buf_clear(&detail);
    return out;
}

/* A spec whose inner verifiers are programs that always reply the same. */
static void spec_of(struct buf *out, const char *kind, const char *options, const char *const inner[][2])
{
    buf_reset(out);
    buf_printf(out, "{\"kind\":\"%s\",\"options\":{%s},\"inner\":{", kind, options);
    for (size_t i = 0; inner[i][0] != NULL; i++) {
        buf_printf(out,
                   "%s\"%s\":{\"kind\":\"exec\",\"options\":{\"command\":[\"sh\",\"-c\",\"while read -r x; do echo '",
                   i > 0 ? "," : "", inner[i][0]);
        for (const char *p = inner[i][1]; *p != '\0'; p++)
            buf_printf(out, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
        buf_puts(out, "'; done\"]}}");
    }
    buf_puts(out, "}}");
}

static const char text[] = "Let me think.\n16 - 7 = 9, and 9 times 2 is 18.\n```python\nprint(9*2+1000)\n```\n"
                           "The answer is \\frac{36}{2}.\n";

/* What the first of the others says, and what follows; whether the second is asked, whose finding then is in the detail. */
struct row {
    const char *first, *options, *answer;
    enum outcome outcome;
    double score;
    bool second;
};

static void expect(const char *kind, const char *named, const char *second, const char *found, const struct row *rows,
                   size_t len)
{
    struct buf spec = {0};
    for (size_t i = 0; i < len; i++) {
        char options[200];
        snprintf(options, sizeof options, "%s%s", named, rows[i].options);
        spec_of(&spec, kind, options, (const char *const[][2]){{"a", rows[i].first}, {"b", second}, {NULL, NULL}});
        struct answer answer = ask(spec.data, rows[i].answer, text, PATIENCE_MS);
        if (answer.code != 0)
            fail_msg("%s", answer.error.text);
        if (answer.verdict.outcome != rows[i].outcome || fabs(answer.verdict.score - rows[i].score) > 1e-9)
            fail_msg("%s, %s: %d %g", kind, rows[i].first, (int)answer.verdict.outcome, answer.verdict.score);
        if ((strstr(answer.detail, found) != NULL) != rows[i].second)
            fail_msg("%s, %s: %s", kind, rows[i].first, answer.detail);
    }
    buf_clear(&spec);
}

static void test_cascade(void **state)
{
    static const struct row rows[] = {
        {"{\"outcome\":\"score\",\"score\":0.9}", "", "7", OUTCOME_PASS, 0.9, false},
        {"{\"outcome\":\"score\",\"score\":0.1}", "", "7", OUTCOME_FAIL, 0.1, false},
        {"{\"outcome\":\"score\",\"score\":0.5}", "", "7", OUTCOME_PASS, 0.7, true},
        {"{\"outcome\":\"score\",\"score\":0.2}", "", "7", OUTCOME_PASS, 0.7, true}, /* the ends belong to the window */
        {"{\"outcome\":\"score\",\"score\":0.8}", "", "7", OUTCOME_PASS, 0.7, true},
        {"{\"outcome\":\"score\",\"score\":0.5}", ",\"mean\":true", "7", OUTCOME_PASS, 0.6, true},
        {"{\"outcome\":\"fail\",\"score\":0.5}", ",\"mean\":true", "7", OUTCOME_PASS, 0.6, true},
        {"{\"outcome\":\"fail\",\"score\":0.9}", "", "7", OUTCOME_FAIL, 0.9, false}, /* its own opinion stands */
        {"{\"outcome\":\"unknown\"}", "", "7", OUTCOME_PASS, 0.7, true},
        {"{\"outcome\":\"unknown\"}", ",\"mean\":true", "7", OUTCOME_PASS, 0.7, true},
        {"{\"outcome\":\"error\"}", "", "7", OUTCOME_PASS, 0.7, true},
        {"{\"outcome\":\"timeout\"}", "", "7", OUTCOME_TIMEOUT, 0, false},
        {"{\"outcome\":\"score\",\"score\":-3}", ",\"low\":-5,\"high\":-1", "7", OUTCOME_PASS, 0.7, true},
        {"{\"outcome\":\"score\",\"score\":-6}", ",\"low\":-5,\"high\":-1", "7", OUTCOME_FAIL, -6, false},
    };
    (void)state;
    expect("cascade", "\"cheap\":\"a\",\"costly\":\"b\"",
           "{\"outcome\":\"pass\",\"score\":0.7,\"detail\":{\"why\":\"b\"}}",
           "\"costly\":{\"outcome\":\"pass\",\"score\":0.7,\"detail\":{\"why\":\"b\"}}", rows,
           sizeof rows / sizeof rows[0]);
}

/* The costly one is not even started a question when the cheap one is sure; when it breaks, the task fails. */
static void test_cascade_failure(void **state)
{
    (void)state;
    struct buf spec = {0};
    const char *const sure[][2] = {{"a", "{\"outcome\":\"pass\"}"}, {"b", "broken"}, {NULL, NULL}};
    spec_of(&spec, "cascade", "\"cheap\":\"a\",\"costly\":\"b\"", sure);
    assert_int_equal(ask(spec.data, "7", "", PATIENCE_MS).code, 0);
    const char *const unsure[][2] = {{"a", "{\"outcome\":\"unknown\"}"}, {"b", "broken"}, {NULL, NULL}};
    spec_of(&spec, "cascade", "\"cheap\":\"a\",\"costly\":\"b\"", unsure);
    struct answer answer = ask(spec.data, "7", "", PATIENCE_MS);
    assert_true(answer.code < 0);
    assert_non_null(strstr(answer.error.text, "broken"));
    buf_clear(&spec);
}

/* A noisy verifier in front of an exact one. Scores are uniform in the half of their outcome, so the window holds half of
 * them: what is right passes with 0.9 / 2 + 1 / 2, what is wrong with 0.2 / 2. */
static void test_cascade_rates(void **state)
{
    (void)state;
    const char *spec =
        "{\"kind\":\"cascade\",\"options\":{\"cheap\":\"n\",\"costly\":\"e\",\"low\":0.25,\"high\":0.75},"
        "\"inner\":{\"e\":{\"kind\":\"exact\"},\"n\":{\"kind\":\"noisy\",\"name\":\"n\",\"options\":"
        "{\"verifier\":\"e\",\"tpr\":0.9,\"fpr\":0.2},\"inner\":{\"e\":{\"kind\":\"exact\"}}}}}";
    enum { DRAWS = 10000 };
    const double expected[] = {0.1, 0.95};
    const struct check *check;
    void *opened;
    struct error error;
    struct buf detail = {0};
    assert_int_equal(check_open(slice_of(spec), &check, &opened, &error), 0);
    for (int right = 0; right < 2; right++) {
        unsigned passes = 0, costly = 0;
        for (uint64_t i = 0; i < DRAWS; i++) {
            const struct check_input input = {.record = slice_of("{\"answer\":\"7\"}"),
                                              .answer = slice_of(right ? "7" : "8"),
                                              .seed = rng_u64(1, RNG_TEST, i, (uint64_t)right),
                                              .timeout_ms = PATIENCE_MS,
                                              .detail = &detail};
            struct verdict verdict;
            buf_reset(&detail);
            assert_int_equal(check->run(opened, &input, &verdict, &error), 0);
            passes += verdict.outcome == OUTCOME_PASS;
            costly += strstr(detail.data, "\"decided\":\"costly\"") != NULL;
        }
        double p = expected[right];
        assert_true(fabs(passes - DRAWS * p) < 5 * sqrt(DRAWS * p * (1 - p)));
        assert_true(fabs(costly - DRAWS * 0.5) < 5 * sqrt(DRAWS * 0.25));
    }
    check->close(&opened);
    buf_clear(&detail);
}

static void test_hybrid(void **state)
{
    static const struct row rows[] = {
        {"{\"outcome\":\"pass\",\"detail\":{\"output\":\"18.0\"}}", "", "18", OUTCOME_PASS, 1, false},
        {"{\"outcome\":\"unknown\",\"detail\":{\"output\":\"x\\\\n18\\\\n\\\\n\"}}", "", "18", OUTCOME_PASS, 1, false},
        {"{\"outcome\":\"pass\",\"detail\":{\"output\":\"19\"}}", "", "18", OUTCOME_FAIL, 0, false},
        {"{\"outcome\":\"pass\",\"detail\":{\"output\":\"18\"}}", "", "", OUTCOME_PASS, 1, false}, /* from the prose */
        {"{\"outcome\":\"pass\",\"detail\":{\"output\":\"18\"}}", ",\"extract\":true", "5", OUTCOME_PASS, 1, false},
        {"{\"outcome\":\"pass\",\"detail\":{\"output\":\"18\"}}", "", "5", OUTCOME_FAIL, 0, false},
        {"{\"outcome\":\"fail\",\"detail\":{\"output\":\"\"}}", "", "18", OUTCOME_UNKNOWN, 0, false},
        {"{\"outcome\":\"fail\",\"detail\":{}}", "", "18", OUTCOME_UNKNOWN, 0, false},
        {"{\"outcome\":\"timeout\"}", "", "18", OUTCOME_UNKNOWN, 0, false},
        {"{\"outcome\":\"pass\",\"detail\":{\"output\":\"18\"}}", ",\"reasoning\":\"b\"", "18", OUTCOME_PASS, 0.4,
         true},
        {"{\"outcome\":\"pass\",\"detail\":{\"output\":\"9\"}}", ",\"reasoning\":\"b\"", "18", OUTCOME_FAIL, 0, false},
        {"{\"outcome\":\"pass\",\"detail\":{\"output\":\"9\"}}", ",\"reasoning\":\"b\",\"penalty\":0.5", "18",
         OUTCOME_FAIL, 0.2, true},
        {"{\"outcome\":\"pass\",\"detail\":{\"output\":\"9\"}}", ",\"penalty\":0.5", "18", OUTCOME_FAIL, 0.5, false},
        {"{\"outcome\":\"pass\",\"detail\":{\"output\":\"18.5\"}}", ",\"tolerance\":0.1", "18", OUTCOME_PASS, 1, false},
    };
    (void)state;
    expect("hybrid", "\"program\":\"a\"", "{\"outcome\":\"score\",\"score\":0.4}",
           "\"reasoning\":{\"outcome\":\"score\"", rows, sizeof rows / sizeof rows[0]);
}

static void test_bad_specs(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        int code;
    } cases[] = {
        {"{\"kind\":\"cascade\"}", ERR_SYNTAX},
        {"{\"kind\":\"cascade\",\"options\":{\"cheap\":\"a\"},\"inner\":{\"a\":{\"kind\":\"exact\"}}}", ERR_SYNTAX},
        {"{\"kind\":\"cascade\",\"options\":{\"cheap\":\"a\",\"costly\":\"b\"},\"inner\":{\"a\":{\"kind\":\"exact\"}}}",
         ERR_NOT_FOUND},
        {"{\"kind\":\"cascade\",\"options\":{\"cheap\":\"a\",\"costly\":\"a\",\"low\":2,\"high\":1},\"inner\":"
         "{\"a\":{\"kind\":\"exact\"}}}",
         ERR_RANGE},
        {"{\"kind\":\"hybrid\"}", ERR_SYNTAX},
        {"{\"kind\":\"hybrid\",\"options\":{\"program\":\"a\",\"penalty\":2},\"inner\":{\"a\":{\"kind\":\"exact\"}}}",
         ERR_RANGE},
        {"{\"kind\":\"hybrid\",\"options\":{\"program\":\"a\",\"reasoning\":\"b\"},\"inner\":{\"a\":{\"kind\":\"exact\"}}}",
         ERR_NOT_FOUND},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct check *check;
        void *opened;
        struct error error = {{0}};
        if (check_open(slice_of(cases[i].spec), &check, &opened, &error) != cases[i].code)
            fail_msg("%s", cases[i].spec);
        assert_null(opened);
        assert_true(error.text[0] != '\0');
    }
}

/* The second one gets what time the first one left. */
static void test_time(void **state)
{
    (void)state;
    const char *spec = "{\"kind\":\"cascade\",\"options\":{\"cheap\":\"a\",\"costly\":\"b\"},\"inner\":{"
                       "\"a\":{\"kind\":\"exec\",\"options\":{\"command\":[\"sh\",\"-c\","
                       "\"read -r x; sleep 0.2; echo '{\\\"outcome\\\":\\\"unknown\\\"}'\"]}},"
                       "\"b\":{\"kind\":\"exec\",\"options\":{\"command\":[\"sh\",\"-c\",\"read -r x; read -r y\"]}}}}";
    struct answer answer = ask(spec, "7", "", 2000);
    assert_true(answer.code < 0);
    unsigned ms = 0;
    const char *number = strpbrk(answer.error.text, "0123456789");
    assert_non_null(number);
    assert_int_equal(sscanf(number, "%u ms", &ms), 1);
    assert_in_range(ms, 1, 1800);
}

/* Long details of the others do not make the whole too long. */
static void test_long_detail(void **state)
{
    (void)state;
    const char *spec =
        "{\"kind\":\"cascade\",\"options\":{\"cheap\":\"a\",\"costly\":\"a\"},\"inner\":{\"a\":{\"kind\":"
        "\"exec\",\"options\":{\"command\":[\"python3\",\"-c\",\"import sys,json\\nfor l in sys.stdin: "
        "print(json.dumps({'outcome':'unknown','detail':{'x':'y'*60000}}),flush=True)\"]}}}}";
    struct answer answer = ask(spec, "7", "", PATIENCE_MS);
    assert_int_equal(answer.code, 0);
    assert_string_equal(answer.detail, "{\"decided\":\"costly\",\"cheap\":{\"outcome\":\"unknown\",\"score\":0},"
                                       "\"costly\":{\"outcome\":\"unknown\",\"score\":0}}");
}

enum { MANY = 200 };

static const char staged[] = "{\"kind\":\"cascade\",\"options\":{\"cheap\":\"n\",\"costly\":\"e\"},\"inner\":{"
                             "\"e\":{\"kind\":\"exact\"},\"n\":{\"kind\":\"noisy\",\"name\":\"n\",\"options\":"
                             "{\"verifier\":\"e\"},\"inner\":{\"e\":{\"kind\":\"exact\"}}}}}";

static struct job job_of(const char *spec, uint64_t i)
{
    return (struct job){.spec = slice_of(spec),
                        .record = slice_of("{\"answer\":\"7\"}"),
                        .answer = slice_of(i % 2 == 0 ? "7" : "8"),
                        .seed = rng_u64(2, RNG_TEST, i, 0),
                        .timeout_ms = PATIENCE_MS,
                        .state = JOB_RUNNING};
}

/* Many at once, more than the inner engine takes at a time, give what each gives alone. */
static void test_many(void **state)
{
    (void)state;
    static struct job jobs[MANY], *running[MANY];
    void *engine, *alone;
    const struct check *check;
    struct error error;
    struct buf detail = {0};
    assert_int_equal(engine_compose.open(slice_of(staged), &engine, &error), 0);
    assert_int_equal(check_open(slice_of(staged), &check, &alone, &error), 0);
    assert_ptr_equal(check->engine, &engine_compose);
    size_t len = MANY;
    for (size_t i = 0; i < MANY; i++) {
        jobs[i] = job_of(staged, i);
        running[i] = &jobs[i];
    }
    for (int turns = 0; len > 0; turns++) {
        assert_true(turns < 10000);
        engine_compose.advance(engine, running, len, 0);
        size_t kept = 0;
        for (size_t i = 0; i < len; i++)
            if (running[i]->state == JOB_RUNNING)
                running[kept++] = running[i];
        len = kept;
    }
    for (size_t i = 0; i < MANY; i++) {
        const struct check_input input = {.record = jobs[i].record,
                                          .answer = jobs[i].answer,
                                          .seed = jobs[i].seed,
                                          .timeout_ms = PATIENCE_MS,
                                          .detail = &detail};
        struct verdict verdict;
        assert_int_equal(check->run(alone, &input, &verdict, &error), 0);
        assert_int_equal(jobs[i].state, JOB_DONE);
        assert_null(jobs[i].engine_data);
        assert_int_equal(jobs[i].verdict.outcome, verdict.outcome);
        assert_true(jobs[i].verdict.score == verdict.score);
        assert_string_equal(jobs[i].detail.data, detail.data);
        buf_clear(&jobs[i].detail);
    }
    check->close(&alone);
    engine_compose.close(&engine);
    assert_null(engine);
    buf_clear(&detail);
}

/* Whatever turn a job is cancelled in, the others end as they would, and nothing of it is left. */
static void test_cancel(void **state)
{
    (void)state;
    for (int turn = 0; turn < 4; turn++) {
        static struct job jobs[40], *running[40];
        void *engine;
        struct error error;
        assert_int_equal(engine_compose.open(slice_of(staged), &engine, &error), 0);
        for (size_t i = 0; i < 40; i++) {
            jobs[i] = job_of(staged, i);
            running[i] = &jobs[i];
        }
        for (int i = 0; i < turn; i++)
            engine_compose.advance(engine, running, 40, 0);
        bool ended = jobs[39].state != JOB_RUNNING;
        if (!ended)
            engine_compose.cancel(engine, &jobs[39]);
        assert_null(jobs[39].engine_data);
        for (int i = 0; i < 100; i++)
            engine_compose.advance(engine, running, 39, 0);
        for (size_t i = 0; i < 39; i++)
            assert_int_equal(jobs[i].state, JOB_DONE);
        assert_true(ended || jobs[39].state == JOB_RUNNING);
        for (size_t i = 0; i < 40; i++)
            buf_clear(&jobs[i].detail);
        engine_compose.close(&engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cascade),       cmocka_unit_test(test_cascade_failure),
        cmocka_unit_test(test_cascade_rates), cmocka_unit_test(test_hybrid),
        cmocka_unit_test(test_bad_specs),     cmocka_unit_test(test_time),
        cmocka_unit_test(test_long_detail),   cmocka_unit_test(test_many),
        cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
