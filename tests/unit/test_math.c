/* Equivalence of mathematical answers: the table of pairs, recorded data, hostile input, and the check around it. */
#include "verifier/math.h"

#include "common/answer.h"
#include "verifier/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINE_MAX 65536

static const struct math_rule rule = {.tolerance = 1e-6, .seed = 20261130};

static bool equal(const char *truth, const char *given)
{
    return math_compare(slice_of(truth), slice_of(given), rule) == MATH_EQUAL;
}

struct score {
    unsigned pairs, agreed;
};

/* Prints what disagrees, so that every one is listed. */
static void count(struct score *score, bool label, bool verdict, const char *truth, const char *given)
{
    score->pairs++;
    score->agreed += label == verdict;
    if (label != verdict)
        print_message("# labelled %s, found %s: %s | %s\n", label ? "equal" : "different",
                      verdict ? "equal" : "different", truth, given);
}

static void expect_agreement(const char *what, const struct score *score, double least)
{
    double share = (double)score->agreed / score->pairs;
    print_message("# %s: %u of %u agree, %.2f %%\n", what, score->agreed, score->pairs, 100 * share);
    if (share < least)
        fail_msg("%s: less than %.1f %% agree", what, 100 * least);
}

/* Next line without its newline and without comments; false at the end. */
static bool next_line(FILE *file, char *line)
{
    do {
        if (fgets(line, LINE_MAX, file) == NULL)
            return false;
        line[strcspn(line, "\n")] = '\0';
    } while (line[0] == '#');
    return true;
}

static void test_pairs(void **state)
{
    (void)state;
    FILE *file = fopen("tests/unit/math_pairs.tsv", "r");
    assert_non_null(file);
    struct score score = {0};
    static char line[LINE_MAX];
    while (next_line(file, line)) {
        char *rest = line;
        const char *label = strsep(&rest, "\t"), *truth = strsep(&rest, "\t");
        assert_non_null(rest);
        bool same = strcmp(label, "equal") == 0;
        assert_true(same || strcmp(label, "different") == 0);
        count(&score, same, equal(truth, rest), truth, rest);
    }
    fclose(file);
    assert_int_equal(score.pairs, 500);
    expect_agreement("table of pairs", &score, 0.95);
}

/* Every answer that can be read at all equals itself under other typesetting, in both directions. */
static void test_reflexive(void **state)
{
    (void)state;
    FILE *file = fopen("tests/unit/math_pairs.tsv", "r");
    assert_non_null(file);
    static char line[LINE_MAX];
    while (next_line(file, line)) {
        char *rest = line, wrapped[600];
        strsep(&rest, "\t");
        const char *truth = strsep(&rest, "\t");
        snprintf(wrapped, sizeof wrapped, " $\\displaystyle %s$.", truth);
        if (!equal(truth, wrapped) || !equal(wrapped, truth))
            fail_msg("not itself: %s", truth);
    }
    fclose(file);
}

static FILE *data_open(const char *name)
{
    const char *folder = getenv("DROVER_DATA");
    char path[4096];
    if (folder == NULL) {
        print_message("# DROVER_DATA is not set: skipped\n");
        skip();
    }
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        print_message("# no %s: skipped\n", path);
        skip();
    }
    return file;
}

/* Recorded solutions, of which the answer must be found first. */
static void test_gsm8k(void **state)
{
    (void)state;
    static const char *const models[] = {"6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"};
    FILE *file = data_open("gsm8k/example_model_solutions.jsonl");
    const struct extractor final = {.kind = EXTRACTOR_FINAL};
    struct buf truth = {0}, given = {0};
    struct score score = {0};
    static char line[LINE_MAX];
    while (next_line(file, line)) {
        json_t *row = json_loads(line, 0, NULL);
        assert_non_null(row);
        answer_extract(&final, slice_of(json_string_value(json_object_get(row, "ground_truth"))), false, &truth);
        for (size_t i = 0; i < 4; i++) {
            const json_t *model = json_object_get(row, models[i]);
            const char *solution = json_string_value(json_object_get(model, "solution"));
            answer_extract(&final, slice_of(solution), false, &given);
            bool same = math_compare(buf_slice(&truth), buf_slice(&given), rule) == MATH_EQUAL;
            count(&score, json_is_true(json_object_get(model, "is_correct")), same, truth.data, given.data);
        }
        json_decref(row);
    }
    fclose(file);
    buf_clear(&truth);
    buf_clear(&given);
    assert_int_equal(score.pairs, 5276);
    expect_agreement("gsm8k", &score, 0.99);
}

/* idx,level,gt,sample,pred,correct,rm_score,response_chars; only gt is quoted, where it has commas. */
static void test_qwen(void **state)
{
    (void)state;
    FILE *file = data_open("qwen25math-rm-maj-100x8/math_100x8.csv");
    struct score score = {0};
    static char line[LINE_MAX];
    assert_non_null(fgets(line, sizeof line, file));
    while (next_line(file, line)) {
        char *field[8], *at = line;
        for (int i = 0; i < 8; i++) {
            bool quoted = at != NULL && *at == '"';
            assert_non_null(at);
            field[i] = quoted ? ++at : at;
            char *end = quoted ? strchr(at, '"') : at + strcspn(at, ",");
            assert_non_null(end);
            at = quoted ? end + 1 : end;
            at = *at == ',' ? at + 1 : NULL;
            *end = '\0';
        }
        count(&score, field[5][0] == '1', equal(field[2], field[4]), field[2], field[4]);
    }
    fclose(file);
    assert_int_equal(score.pairs, 800);
    expect_agreement("qwen25math", &score, 0.99);
}

static void test_unknown(void **state)
{
    (void)state;
    assert_int_equal(math_compare(slice_of(""), slice_of("1"), rule), MATH_UNKNOWN);
    assert_int_equal(math_compare((struct slice){0}, (struct slice){0}, rule), MATH_UNKNOWN);
    assert_int_equal(math_compare(slice_of("\\sum_{k=1}^{n} a_k"), slice_of("5"), rule), MATH_UNKNOWN);
    assert_int_equal(math_compare(slice_of("\\sum_{k=1}^{n} a_k"), slice_of("\\sum_{k = 1}^n a_k"), rule), MATH_EQUAL);
    assert_int_equal(math_compare(slice_of("\\frac{1}{0}"), slice_of("5"), rule), MATH_UNKNOWN);
    assert_int_equal(math_compare(slice_of("5"), slice_of("\\frac{1}{0}"), rule), MATH_DIFFERENT);
    assert_int_equal(math_compare(slice_of("5"), slice_of("\\sum_{k=1}^{n} a_k"), rule), MATH_DIFFERENT);
    assert_int_equal(math_compare(slice_of("5"), slice_of("5 \\\\ 6 }"), rule), MATH_DIFFERENT);
    assert_int_equal(math_compare(slice_of("5"), slice_of("\\text{5 apples a day}"), rule), MATH_EQUAL);
    assert_int_equal(math_compare(slice_of("5"), slice_of("\\text{5 is not the answer}"), rule), MATH_DIFFERENT);
    assert_int_equal(math_compare(slice_of("5"), slice_of("5 would be wrong"), rule), MATH_DIFFERENT);
    assert_int_equal(math_compare(slice_of("5"), (struct slice){"5\0", 2}, rule), MATH_DIFFERENT);
}

/* Whatever the seed of the points, the verdict is the same. */
static void test_seeds(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        const struct math_rule r = {.tolerance = 1e-6, .seed = seed};
        assert_int_equal(math_compare(slice_of("\\sin 2x"), slice_of("2\\sin x\\cos x"), r), MATH_EQUAL);
        assert_int_equal(math_compare(slice_of("x"), slice_of("\\sqrt{x^2}"), r), MATH_DIFFERENT);
        assert_int_equal(math_compare(slice_of("\\ln x + \\ln y"), slice_of("\\ln (xy)"), r), MATH_EQUAL);
        assert_int_equal(math_compare(slice_of("(x+y)^9"), slice_of("(y+x)^9 + 10^{-9}"), r), MATH_DIFFERENT);
    }
}

/* The tolerance is for what was written with a decimal point. */
static void test_tolerance(void **state)
{
    (void)state;
    const struct math_rule wide = {.tolerance = 0.01}, none = {.tolerance = 0};
    assert_int_equal(math_compare(slice_of("3.14"), slice_of("\\pi"), wide), MATH_EQUAL);
    assert_int_equal(math_compare(slice_of("3.14"), slice_of("\\pi"), rule), MATH_DIFFERENT);
    assert_int_equal(math_compare(slice_of("1000"), slice_of("1001"), wide), MATH_DIFFERENT);
    assert_int_equal(math_compare(slice_of("1000"), slice_of("1001.0"), wide), MATH_EQUAL);
    assert_int_equal(math_compare(slice_of("0.3"), slice_of("0.30000000000000004"), rule), MATH_EQUAL);
    assert_int_equal(math_compare(slice_of("0.3"), slice_of("0.30000000000000004"), none), MATH_DIFFERENT);
    assert_int_equal(math_compare(slice_of("0.3"), slice_of("3/10"), none), MATH_EQUAL);
}

/* Equal modulo the primes by design is not equal. */
static void test_collisions(void **state)
{
    (void)state;
    assert_false(equal("0", "(2^{61}-1)(2^{61}-31)"));
    assert_false(equal("5", "5+(2^{61}-1)(2^{61}-31)"));
    assert_true(equal("(2^{61}-1)^2", "2^{122}-2^{62}+1"));
    assert_false(equal("10^{4000}", "10^{4000}+1"));
    assert_true(equal("10^{4000}+1", "1+10^{4000}"));
    assert_true(equal("2^{10^{12}}", "4^{5 \\cdot 10^{11}}"));
    assert_false(equal("2^{10^{12}}", "4^{5 \\cdot 10^{11}+1}"));
}

static void fill(struct buf *out, const char *text, int times)
{
    for (int i = 0; i < times; i++)
        buf_puts(out, text);
}

static int64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Against itself with a change at the end, so that the text does not decide. */
static void test_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *open, *middle, *close;
        int times;
    } cases[] = {
        {"(", "1", ")", 2000},
        {"{", "1", "}", 2000},
        {"\\frac{1}{", "x", "}", 400},
        {"\\sqrt{", "2", "}", 500},
        {"\\sin ", "x", "", 800},
        {"-", "1", "", 4000},
        {"x^", "2", "", 1900},
        {"1+", "1", "", 1900},
        {"", "9", "!", 4000},
        {"1000!", "", "", 600},
        {"1000!,", "2", "", 600},
        {"\\binom{1000}{500}+", "2", "", 200},
        {"(999!+x)^{77}, ", "2", "", 60},
        {"\\pm ", "1", "", 500},
        {"\\pm x,", "1", "", 300},
        {"10^{", "9", "}", 800},
        {"9", "", "", 4090},
        {"\\text{", "a", "}", 600},
        {"|", "x", "|", 1500},
        {"a,", "b", "", 1900},
        {"\\{", "1", "\\}", 900},
        {"\\log_", "2", " 3", 400},
        {"x_{", "1", "}", 900},
        {"1\\frac12 ", "", "", 300},
        {"x<", "1", "", 1500},
        {"\\begin{pmatrix}", "1", "\\end{pmatrix}", 120},
        {"1,000,", "000", "", 800},
        {"\\boxed{", "1", "}", 500},
        {"\xFF", "1", "\xC2", 1000},
        {"\\\\", "1", "", 1500},
        {"0.\\overline{3}+", "1", "", 200},
        {"5 \\text{ cm}/", "1", "", 300},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf text = {0}, other = {0};
        fill(&text, cases[i].open, cases[i].times);
        buf_puts(&text, cases[i].middle);
        fill(&text, cases[i].close, cases[i].times);
        buf_put(&other, text.data, text.len);
        buf_puts(&other, "+0");
        int64_t start = clock_ms();
        math_compare(buf_slice(&text), buf_slice(&other), rule);
        math_compare(slice_of("x^2+1"), buf_slice(&text), rule);
        math_compare(buf_slice(&text), slice_of("x^2+1"), rule);
        int64_t took = clock_ms() - start;
        if (took > 3000) /* far more than it takes: under a sanitizer some tens of ms */
            fail_msg("%s...: %d ms", cases[i].open, (int)took);
        buf_clear(&text);
        buf_clear(&other);
    }
    assert_false(equal("1", "10^{9999999999999}"));
    assert_false(equal("1", "1e9999"));
    assert_false(equal("1e9999", "1"));
    assert_false(equal("9999999999!", "1"));
    assert_false(equal("1", "9^{9^{9^{9^{9}}}}"));
    assert_false(equal("1", "((((((((((((((((((((((((((((((1"));
}

static enum outcome judge(const char *spec, const char *record, const char *answer, const char *text)
{
    const struct check *check;
    void *state;
    struct error error;
    struct buf detail = {0};
    struct verdict verdict;
    const struct check_input input = {.record = slice_of(record),
                                      .answer = slice_of(answer),
                                      .text = slice_of(text),
                                      .finished = true,
                                      .detail = &detail};
    assert_int_equal(check_open(slice_of(spec), &check, &state, &error), 0);
    assert_int_equal(check->run(state, &input, &verdict, &error), 0);
    assert_true(verdict.score == (verdict.outcome == OUTCOME_PASS));
    check->close(&state);
    assert_null(state);
    buf_clear(&detail);
    return verdict.outcome;
}

static void test_check(void **state)
{
    (void)state;
    const char *plain = "{\"kind\":\"math\"}", *half = "{\"answer\":\"\\\\frac{1}{2}\"}";
    const char *search = "{\"kind\":\"math\",\"options\":{\"extract\":true,\"tolerance\":0.1}}";
    assert_int_equal(judge(plain, half, "0.5", ""), OUTCOME_PASS);
    assert_int_equal(judge(plain, half, "0.6", ""), OUTCOME_FAIL);
    assert_int_equal(judge(plain, half, "", "so it is \\boxed{1/2}, not 3"), OUTCOME_PASS);
    assert_int_equal(judge(plain, half, "3", "so it is \\boxed{1/2}, not 3"), OUTCOME_FAIL);
    assert_int_equal(judge(search, half, "3", "so it is \\boxed{1/2}, not 3"), OUTCOME_PASS);
    assert_int_equal(judge(search, half, "", "The answer is 0.52."), OUTCOME_PASS);
    assert_int_equal(judge(plain, half, "", ""), OUTCOME_FAIL);
    assert_int_equal(judge(plain, "{\"answer\":42}", "42.0", ""), OUTCOME_PASS);
    assert_int_equal(judge(plain, "{}", "42", ""), OUTCOME_UNKNOWN);
    assert_int_equal(judge(plain, "{\"answer\":\"\\\\int x\"}", "42", ""), OUTCOME_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),     cmocka_unit_test(test_reflexive),  cmocka_unit_test(test_gsm8k),
        cmocka_unit_test(test_qwen),      cmocka_unit_test(test_unknown),    cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_tolerance), cmocka_unit_test(test_collisions), cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
