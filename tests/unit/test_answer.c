/* Answer extraction, canonical forms, classes. */
#include "common/answer.h"
#include "common/hash.h"
#include "common/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static void expect(struct extractor extractor, const char *text, const char *answer)
{
    struct buf out = {0};
    buf_puts(&out, "left over");
    assert_int_equal(answer_extract(&extractor, slice_of(text), false, &out), 0);
    assert_string_equal(out.data, answer);
    buf_clear(&out);
}

static void test_kinds(void **state)
{
    (void)state;
    enum extractor_kind kind;
    assert_true(extractor_kind_of(slice_of("after-marker"), &kind));
    assert_int_equal(kind, EXTRACTOR_AFTER_MARKER);
    assert_true(extractor_kind_of(slice_of("none"), &kind));
    assert_int_equal(kind, EXTRACTOR_NONE);
    assert_false(extractor_kind_of(slice_of("last-lin"), &kind));
    assert_false(extractor_kind_of((struct slice){0}, &kind));
    expect((struct extractor){.kind = EXTRACTOR_NONE}, "42", "");
}

static void test_last_line(void **state)
{
    (void)state;
    const struct extractor line = {.kind = EXTRACTOR_LAST_LINE};
    expect(line, "7*8=56\n56+35=91\n#91\n", "#91");
    expect(line, "one\n  two \t words \r\n\n \n", "two words");
    expect(line, "single", "single");
    expect(line, "", "");
    expect(line, "\n\n", "");
    struct buf out = {0};
    assert_int_equal(answer_extract(&line, (struct slice){0}, false, &out), 0);
    assert_int_equal(out.len, 0);
    buf_clear(&out);
}

static void test_final(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"the answer is 3, so \\boxed{\\frac{1}{2}} it is: answer: 7", "\\frac{1}{2}"},
        {"\\boxed{1} and \\boxed{2}", "2"},
        {"16-3-4=9\n9*2=18\n#### 18", "18"},
        {"#### 18\nthe answer is 4", "18"},
        {"The answer is 18 dollars. That is all.", "18 dollars"},
        {"Therefore, the final answer is: $x = 5$.", "$x = 5$"},
        {"**Answer:** 42", "42"},
        {"ANSWER:\n\n 3.5\nbye", "3.5"},
        {"The answers are 1, 2 and 3", "1, 2 and 3"},
        {"The answer is 1. No, the answer is 2.", "2"},
        {"The answer follows from 7 and 8", "8"},
        {"A: 3 bolts", "3"},
        {"so it is 1,234.50 then", "1234.5"},
        {"the answer is\n", ""},
        {"the answer is . 12", "12"},
        {"nothing here", ""},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect((struct extractor){.kind = EXTRACTOR_FINAL}, cases[i][0], cases[i][1]);
}

static void test_last_number(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"the answer is 42.", "42"},
        {"1,234,567 people", "1234567"},
        {"1234,567", "567"},
        {"3,5,7,9", "9"},
        {"1,2345", "2345"},
        {"x = -7", "-7"},
        {"7-3", "3"},
        {"(7)-3", "3"},
        {"a --3", "3"},
        {"minus: \xE2\x88\x92"
         "5",
         "-5"},
        {"+5", "5"},
        {"007", "7"},
        {"3.500", "3.5"},
        {"10.0", "10"},
        {".5", "0.5"},
        {"-0", "0"},
        {"-0.00", "0"},
        {"0/5", "0"},
        {"3/4 cup", "3/4"},
        {"03/04", "3/4"},
        {"5/0", "0"},
        {"50%", "50"},
        {"$1,000.50", "1000.5"},
        {"no digits", ""},
        {"", ""},
        {"1/", "1"},
        {"2.", "2"},
        {"12\n", "12"},
        {"9 and 8 and", "8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect((struct extractor){.kind = EXTRACTOR_LAST_NUMBER}, cases[i][0], cases[i][1]);
}

static void test_boxed(void **state)
{
    (void)state;
    const struct extractor boxed = {.kind = EXTRACTOR_BOXED};
    expect(boxed, "so \\boxed{42}.", "42");
    expect(boxed, "\\boxed{1} then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}");
    expect(boxed, "\\boxed{1} and \\boxed{2", "1");
    expect(boxed, "\\boxed{2 \\boxed{3}", "3");
    expect(boxed, "\\boxed{\\boxed{3}}", "3");
    expect(boxed, "\\boxed{\\{1, 2\\}}", "\\{1, 2\\}");
    expect(boxed, "} } { \\boxed{ a\n b }", "a b");
    expect(boxed, "\\boxed{}", "");
    expect(boxed, "\\boxed 5", "");
    expect(boxed, "\\boxed", "");
    expect(boxed, "\\", "");
}

static void test_after_marker(void **state)
{
    (void)state;
    const struct extractor marker = {.kind = EXTRACTOR_AFTER_MARKER, .marker = "#### "};
    expect(marker, "#### 1\nmore\n####  72 \r\nrest", "72");
    expect(marker, "#### ", "");
    expect(marker, "###", "");
    expect(marker, "", "");
    struct extractor empty = {.kind = EXTRACTOR_AFTER_MARKER, .marker = ""};
    struct buf out = {0};
    struct error error;
    assert_int_equal(answer_extract(&empty, slice_of("x"), false, &out), ERR_RANGE);
    assert_int_equal(extractor_check(&empty, &error), ERR_RANGE);
    assert_int_equal(extractor_check(&marker, &error), 0);
    buf_clear(&out);
}

static struct extractor regex(const char *pattern)
{
    return (struct extractor){.kind = EXTRACTOR_REGEX, .pattern = pattern};
}

static void test_regex(void **state)
{
    (void)state;
    expect(regex("answer: ([A-D])"), "answer: A\nanswer: B and answer: C\nend", "C");
    expect(regex("[0-9]+"), "12 and 34", "34");
    expect(regex("^x(.*)$"), "x one\nyx two\nx  three  \nz", "three");
    expect(regex("a(b)?"), "ab a", "");
    expect(regex("q"), "nothing", "");
    expect(regex("x*"), "", "");
    expect(regex("()*"), "abc", "");
    expect(regex("#([0-9]+)"), "7*8=56\n#56\n", "56");
}

static void test_regex_bounds(void **state)
{
    (void)state;
    char long_pattern[600];
    memset(long_pattern, 'a', sizeof long_pattern - 1);
    long_pattern[sizeof long_pattern - 1] = '\0';
    const struct {
        const char *pattern;
        int code;
    } cases[] = {
        {"(a", ERR_SYNTAX},
        {"(a)\\1", ERR_SYNTAX},
        {"[[:nope:]]", ERR_SYNTAX},
        {"", ERR_RANGE},
        {NULL, ERR_RANGE},
        {"((((a{255}){255}){255}){255})", ERR_LIMIT},
        {"((((((((((((((((((((a+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+", ERR_LIMIT},
        {"a{2000}", ERR_LIMIT},
        {long_pattern, ERR_LIMIT},
        {"((((((((((((((((((((((((((((((((((((a))))))))))))))))))))))))))))))))))))", ERR_LIMIT},
        {"[]\\1(+]+\\\\1", 0},
        {"([0-9]{1,3}(,[0-9]{3})*(\\.[0-9]+)?)", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct extractor extractor = regex(cases[i].pattern);
        struct error error;
        struct buf out = {0};
        assert_int_equal(extractor_check(&extractor, &error), cases[i].code);
        assert_int_equal(answer_extract(&extractor, slice_of("aaa"), false, &out), cases[i].code);
        assert_int_equal(out.len, 0);
        buf_clear(&out);
    }
}

static void test_truncated(void **state)
{
    (void)state;
    struct extractor number = {.kind = EXTRACTOR_LAST_NUMBER};
    struct buf out = {0};
    assert_int_equal(answer_extract(&number, slice_of("so 12"), true, &out), 0);
    assert_int_equal(out.len, 0);
    number.partial = true;
    assert_int_equal(answer_extract(&number, slice_of("so 12"), true, &out), 0);
    assert_string_equal(out.data, "12");
    buf_clear(&out);
}

/* An answer of LIMIT_ANSWER bytes counts, a longer one is none. */
static void test_length(void **state)
{
    (void)state;
    char text[LIMIT_ANSWER + 2];
    memset(text, '7', sizeof text);
    struct buf out = {0};
    for (size_t len = LIMIT_ANSWER; len <= LIMIT_ANSWER + 1; len++)
        for (int kind = EXTRACTOR_LAST_LINE; kind <= EXTRACTOR_LAST_NUMBER; kind++) {
            struct extractor extractor = {.kind = (enum extractor_kind)kind};
            assert_int_equal(answer_extract(&extractor, (struct slice){text, len}, false, &out), 0);
            assert_int_equal(out.len, len <= LIMIT_ANSWER ? len : 0);
        }
    buf_clear(&out);
}

/* Each extractor is linear: 4 MiB of what it likes least are done at once. */
static void test_hostile(void **state)
{
    (void)state;
    static const char *const units[] = {"\\boxed{", "}{", "1,", "a", "\n", "1/", "\\boxed{}", " "};
    struct buf text = {0}, out = {0};
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        buf_reset(&text);
        while (text.len < LIMIT_TEXT)
            buf_puts(&text, units[u]);
        for (int kind = EXTRACTOR_NONE; kind <= EXTRACTOR_REGEX; kind++) {
            struct extractor extractor = {.kind = (enum extractor_kind)kind,
                                          .pattern = "(a*)*b|(a|aa)+$",
                                          .marker = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaab"};
            assert_int_equal(answer_extract(&extractor, buf_slice(&text), false, &out), 0);
        }
    }
    buf_clear(&text);
    buf_clear(&out);
}

static void test_canonical(void **state)
{
    (void)state;
    struct buf out = {0};
    answer_canonical(slice_of(" \t a \n\n b\v\fc "), &out);
    assert_string_equal(out.data, "a b c");
    answer_canonical(slice_of("   "), &out);
    assert_int_equal(out.len, 0);
    answer_canonical((struct slice){"a\0 b", 4}, &out);
    assert_int_equal(out.len, 4);
    buf_clear(&out);
}

static void test_class(void **state)
{
    (void)state;
    assert_int_equal(answer_class((struct slice){0}), 0);
    assert_int_equal(answer_class(slice_of("")), 0);
    assert_true(answer_class(slice_of("42")) != 0);
    assert_true(answer_class(slice_of("42")) == answer_class(slice_of("42")));
    assert_true(answer_class(slice_of("42")) != answer_class(slice_of("43")));
    /* Stored in journals: this value may never change. */
    assert_true(answer_class(slice_of("42")) == UINT64_C(0x1217cb28c0ef2191));
    assert_true(hash_more(1, "a", 1) != hash_more(2, "a", 1));
    assert_true(hash_more(0, "a", 1) == hash_bytes("a", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),       cmocka_unit_test(test_last_line),    cmocka_unit_test(test_final),
        cmocka_unit_test(test_last_number), cmocka_unit_test(test_boxed),        cmocka_unit_test(test_after_marker),
        cmocka_unit_test(test_regex),       cmocka_unit_test(test_regex_bounds), cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_length),      cmocka_unit_test(test_hostile),      cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_class),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
