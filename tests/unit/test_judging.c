/* What verifiers that ask models rest on: paths, templates, verdicts read strictly, comparisons. */
#include "common/limits.h"
#include "verifier/doc.h"
#include "verifier/fill.h"
#include "verifier/pairs.h"
#include "verifier/question.h"
#include "verifier/ruling.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_paths(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        double number; /* NAN: nothing there */
    } cases[] = {
        {"data.0.score", 1},
        {"data.1.score", 2},
        {"data.2.score", NAN},
        {"data.00.score", NAN},
        {"data.-1.score", NAN},
        {"a", 3},
        {"b.c.0.1", 5},
        {"b.c", NAN},
        {"b.c.0.1.2", NAN},
        {"nope.0", NAN},
        {"0", 6},
        {"data.0x", NAN},
        {"data.", NAN},
    };
    struct json_t *doc;
    const char *json = "{\"data\":[{\"score\":1},{\"score\":2}],\"a\":3,\"b\":{\"c\":[[4,5]]},\"0\":6}";
    assert_int_equal(doc_parse_any(slice_of(json), &doc, NULL), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double number = NAN;
        bool found = doc_is_number(doc_at(doc, cases[i].path), &number);
        assert_int_equal(found, !isnan(cases[i].number));
        if (found)
            assert_true(number == cases[i].number);
    }
    doc_free(&doc);
    static const char *const wrong[] = {"", ".", "a.", ".a", "a..b"};
    struct error error;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(doc_path_check(wrong[i], &error), ERR_SYNTAX);
    assert_int_equal(doc_path_check("data.0.score", &error), 0);
}

/* Braces of the template's own stay, and what is put in is not looked at again. */
static void test_fill(void **state)
{
    (void)state;
    const struct fill fill = {.of = {[FILL_PROMPT] = {"{text}", 6}, [FILL_TEXT] = {"{prompt}{answer}", 16}}};
    static const struct {
        const char *template, *filled;
    } cases[] = {
        {"{prompt}", "{text}"},
        {"a{text}b{answer}c", "a{prompt}{answer}bc"},
        {"\\frac{1}{2} {unknown} {text", "\\frac{1}{2} {unknown} {text"},
        {"{{text}}", "{{prompt}{answer}}"},
        {"", ""},
        {"{", "{"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf out = {0};
        fill_put(slice_of(cases[i].template), &fill, &out);
        assert_string_equal(out.data == NULL ? "" : out.data, cases[i].filled);
        buf_clear(&out);
    }
}

static void test_fill_load(void **state)
{
    (void)state;
    struct buf out = {0};
    struct error error;
    char path[] = "/tmp/drover-template-XXXXXX";
    assert_int_equal(fill_load("Q {prompt} A {text}", FILL_TEXT, &out, &error), 0);
    assert_string_equal(out.data, "Q {prompt} A {text}");
    buf_clear(&out);
    assert_int_equal(fill_load("no/such/file", FILL_TEXT, &out, &error), ERR_NOT_FOUND);
    assert_non_null(strstr(error.text, "no/such/file"));
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(write(fd, "only {prompt}", 13) == 13);
    assert_int_equal(fill_load(path, FILL_TEXT, &out, &error), ERR_SYNTAX);
    assert_non_null(strstr(error.text, "{text}"));
    buf_clear(&out);
    assert_int_equal(ftruncate(fd, LIMIT_SPEC + 1), 0);
    assert_int_equal(fill_load(path, FILL_TEXT, &out, &error), ERR_LIMIT);
    buf_clear(&out);
    close(fd);
    unlink(path);
}

static void test_question(void **state)
{
    (void)state;
    struct question question;
    struct error error;
    struct buf out = {0};
    assert_int_equal(question_open(slice_of("{\"prompt\":\"p\",\"answer\":7}"), &question, &error), 0);
    assert_string_equal(question.prompt.data, "p");
    assert_string_equal(question.reference.data, "7");
    question_messages(&question, slice_of("t\"x"), &out);
    assert_string_equal(out.data,
                        "[{\"role\":\"user\",\"content\":\"p\"},{\"role\":\"assistant\",\"content\":\"t\\\"x\"}]");
    question_clear(&question);
    buf_clear(&out);
    const char *chat =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"u\"},{\"type\":\"image_url\"}]}]}";
    assert_int_equal(question_open(slice_of(chat), &question, &error), 0);
    assert_string_equal(question.prompt.data, "system: s\n\nuser: u");
    question_messages(&question, slice_of("t"), &out);
    assert_non_null(strstr(out.data, "image_url"));
    assert_non_null(strstr(out.data, ",{\"role\":\"assistant\",\"content\":\"t\"}]"));
    question_clear(&question);
    buf_clear(&out);
    assert_int_equal(question_open(slice_of("{}"), &question, &error), ERR_SYNTAX);
    assert_int_equal(question_open(slice_of("["), &question, &error), ERR_SYNTAX);
}

/* verdict NULL: there is none, and it is not guessed. */
static void test_ruling(void **state)
{
    (void)state;
    static const struct {
        const char *reply, *nonce, *verdict;
    } cases[] = {
        {"So. Verdict k7: [[yes]]", "k7", "yes"},
        {"k7: [[no]]\nk7: [[yes]]", "k7", "yes"},
        {"Verdict k7: **[[yes]]**.\n", "k7", "yes"},
        {"k7 \\boxed{No}", "k7", "No"},
        {"k7: {\"verdict\": \"yes\"}", "k7", "yes"},
        {"k7: {\"score\": 7}", "k7", "7"},
        {"k7: [[ 7.5 ]]", "k7", "7.5"},
        {"The candidate says [[yes]].", "k7", NULL},               /* not the judge's own */
        {"k7: [[no]]\nThe text ends with [[yes]]", "k7", NULL},    /* something stands behind the verdict */
        {"k7: [[yes]] or k7: [[no]]? I am not sure.", "k7", NULL}, /* what it was told to write, quoted */
        {"k7: [[yes]][[no]]", "k7", NULL},
        {"k7: yes", "k7", NULL},
        {"k7: [[yes", "k7", NULL},
        {"k7:", "k7", NULL},
        {"k8: [[yes]]", "k7", NULL},
        {"", "k7", NULL},
        {"k7: {\"verdict\": \"yes\", \"x\": 1}", "k7", NULL},
        {"k7: {\"other\": \"yes\"}", "k7", NULL},
        {"Good work.\nVerdict: [[yes]]", "", "yes"},
        {"[[yes]]\nor rather\n[[no]]", "", "no"},
        {"[[yes]]\nI am sure.", "", NULL}, /* not in the last line */
        {"it says [[no]] but [[yes]]", "", NULL},
        {"final: \\boxed{yes}\n\n", "", "yes"},
        {"result {\"verdict\": \"no\"}", "", "no"},
        {"[[yes]] it is", "", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slice verdict;
        bool found = ruling_find(slice_of(cases[i].reply), slice_of(cases[i].nonce), &verdict);
        if (found != (cases[i].verdict != NULL))
            fail_msg("'%s': %s", cases[i].reply, found ? "a verdict" : "no verdict");
        if (found && (verdict.len != strlen(cases[i].verdict) || memcmp(verdict.data, cases[i].verdict, verdict.len)))
            fail_msg("'%s': %.*s", cases[i].reply, (int)verdict.len, verdict.data);
    }
}

static void test_ruling_values(void **state)
{
    (void)state;
    bool yes;
    int choice;
    double points;
    assert_true(ruling_yes(slice_of("YES"), &yes) && yes);
    assert_true(ruling_yes(slice_of("No"), &yes) && !yes);
    assert_false(ruling_yes(slice_of("yes!"), &yes));
    assert_false(ruling_yes(slice_of(""), &yes));
    assert_true(ruling_choice(slice_of("tie"), "A|B|tie", &choice) && choice == 2);
    assert_true(ruling_choice(slice_of("b"), "A|B|tie", &choice) && choice == 1);
    assert_false(ruling_choice(slice_of("AB"), "A|B|tie", &choice));
    assert_true(ruling_points(slice_of("7"), 1, 10, &points) && points == 7);
    assert_true(ruling_points(slice_of("7.5"), 1, 10, &points) && points == 7.5);
    static const char *const wrong[] = {"", "0", "11", "7/10", "seven", "1e1", "0x7", "nan", "7 ", "-", "1.2.3"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(ruling_points(slice_of(wrong[i]), 1, 10, &points));
}

static void test_ruling_scores(void **state)
{
    (void)state;
    double points[2];
    const struct slice nonce = {"k7", 2};
    assert_true(ruling_scores(slice_of("why\nk7: {\"2\": 3, \"1\": 8.5}"), nonce, 1, 10, points, 2));
    assert_true(points[0] == 8.5 && points[1] == 3);
    static const char *const wrong[] = {
        "k7: {\"1\": 8}",           "k7: {\"1\": 8, \"2\": 11}",          "k7: {\"1\": 8, \"2\": \"3\"}",
        "k7: {\"1\": 8, \"3\": 3}", "k7: {\"1\": 8, \"2\": 3, \"3\": 4}", "k7: {\"1\": 8, \"1\": 3}",
        "{\"1\": 8, \"2\": 3}",     "k7: {\"1\": 8, \"2\": 3} and more",  "k7: [8, 3]"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (ruling_scores(slice_of(wrong[i]), nonce, 1, 10, points, 2))
            fail_msg("%s", wrong[i]);
}

/* Everyone meets equally often, nobody themselves, and no two twice. */
static void test_pairs_plan(void **state)
{
    (void)state;
    struct pair pairs[16 * 15 / 2];
    for (size_t n = 1; n <= 16; n++)
        for (size_t rounds = 0; rounds <= n; rounds++) {
            size_t len = pairs_plan(n, rounds, pairs), met[16] = {0};
            bool all = rounds == 0 || rounds >= n / 2;
            assert_int_equal(len, all ? n * (n - 1) / 2 : n * rounds);
            for (size_t i = 0; i < len; i++) {
                assert_true(pairs[i].a != pairs[i].b);
                assert_true(pairs[i].a < n && pairs[i].b < n);
                met[pairs[i].a]++;
                met[pairs[i].b]++;
                for (size_t k = 0; k < i; k++)
                    assert_false((pairs[i].a == pairs[k].a && pairs[i].b == pairs[k].b) ||
                                 (pairs[i].a == pairs[k].b && pairs[i].b == pairs[k].a));
            }
            for (size_t i = 1; i < n; i++)
                assert_int_equal(met[i], met[0]);
        }
}

static void test_pairs_scores(void **state)
{
    (void)state;
    /* 0 beats 1 beats 2, nobody else met */
    const struct pair chain[] = {{0, 1, 1}, {1, 2, 1}};
    double rate[5], bt[5];
    pairs_rate(chain, 2, 4, rate);
    assert_true(rate[0] == 1 && rate[1] == 0.5 && rate[2] == 0 && rate[3] == 0.5);
    pairs_bradley_terry(chain, 2, 3, bt);
    assert_true(bt[0] > bt[1] && bt[1] > bt[2] && bt[0] < 1 && bt[2] > 0);
    assert_true(fabs(bt[1] - 0.5) < 1e-6 && fabs(bt[0] + bt[2] - 1) < 1e-6);
    /* of two with one win in two games each, the one that beat the strong one is better */
    const struct pair upset[] = {{0, 1, 1}, {0, 2, 1}, {3, 0, 1}, {3, 1, 0}, {2, 1, 0}, {4, 2, 1}, {4, 0, 0}};
    pairs_bradley_terry(upset, 7, 5, bt);
    pairs_rate(upset, 7, 5, rate);
    assert_true(rate[3] == rate[4]);
    assert_true(bt[3] > bt[4]);
    for (size_t i = 0; i < 5; i++)
        assert_true(bt[i] > 0 && bt[i] < 1);
    pairs_bradley_terry(NULL, 0, 2, bt);
    assert_true(bt[0] == 0.5 && bt[1] == 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),         cmocka_unit_test(test_fill),       cmocka_unit_test(test_fill_load),
        cmocka_unit_test(test_question),      cmocka_unit_test(test_ruling),     cmocka_unit_test(test_ruling_values),
        cmocka_unit_test(test_ruling_scores), cmocka_unit_test(test_pairs_plan), cmocka_unit_test(test_pairs_scores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
