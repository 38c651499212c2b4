/* The checks: verdicts, noise, nesting, hostile input, and the engine that runs them. */
#include "verifier/check.h"

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

#define PATIENCE_MS 20000 /* far more than a loaded machine needs */

struct opened {
    const struct check *check;
    void *state;
};

static struct opened open_check(const char *spec)
{
    struct opened opened;
    struct error error;
    if (check_open(slice_of(spec), &opened.check, &opened.state, &error) != 0)
        fail_msg("%s", error.text);
    return opened;
}

static struct verdict run(const struct opened *opened, const struct check_input *input)
{
    struct verdict verdict = {.outcome = OUTCOME_UNKNOWN, .score = -1};
    struct error error;
    if (opened->check->run(opened->state, input, &verdict, &error) != 0)
        fail_msg("%s", error.text);
    return verdict;
}

static struct verdict judge(const char *spec, const struct check_input *input)
{
    struct opened opened = open_check(spec);
    struct verdict verdict = run(&opened, input);
    opened.check->close(&opened.state);
    assert_null(opened.state);
    return verdict;
}

static enum outcome judge_answer(const char *spec, const char *record, const char *answer)
{
    struct check_input input = {.record = slice_of(record), .answer = slice_of(answer), .finished = true};
    struct verdict verdict = judge(spec, &input);
    assert_true(verdict.score == (verdict.outcome == OUTCOME_PASS));
    return verdict.outcome;
}

static enum outcome judge_text(const char *spec, const char *prompt, const char *text, bool finished)
{
    char record[200];
    snprintf(record, sizeof record, "{\"id\": 1, \"prompt\": \"%s\"}", prompt);
    struct check_input input = {.record = slice_of(record), .text = slice_of(text), .finished = finished};
    return judge(spec, &input).outcome;
}

static int open_fails(const char *spec)
{
    const struct check *check;
    void *state;
    struct error error = {{0}};
    int code = check_open(slice_of(spec), &check, &state, &error);
    assert_null(check);
    assert_null(state);
    assert_true(code < 0);
    assert_true(error.text[0] != '\0');
    return code;
}

static void test_exact(void **state)
{
    (void)state;
    const char *plain = "{\"kind\":\"exact\",\"name\":\"t\",\"options\":{\"case\":false}}";
    const char *lax = "{\"kind\":\"exact\",\"options\":{\"case\":true}}";
    assert_int_equal(judge_answer(plain, "{\"answer\":\"a b\"}", "a b"), OUTCOME_PASS);
    assert_int_equal(judge_answer(plain, "{\"answer\":\" a  b\"}", "a b"), OUTCOME_PASS);
    assert_int_equal(judge_answer(plain, "{\"answer\":\"a b\"}", "A b"), OUTCOME_FAIL);
    assert_int_equal(judge_answer(lax, "{\"answer\":\"a b\"}", "A B"), OUTCOME_PASS);
    assert_int_equal(judge_answer(lax, "{\"answer\":\"a b\"}", "A C"), OUTCOME_FAIL);
    assert_int_equal(judge_answer(plain, "{\"answer\":42}", "42"), OUTCOME_PASS);
    assert_int_equal(judge_answer(plain, "{\"answer\":42.0}", "42"), OUTCOME_PASS);
    assert_int_equal(judge_answer(plain, "{\"answer\":-0.1}", "-0.1"), OUTCOME_PASS);
    assert_int_equal(judge_answer(plain, "{\"answer\":42}", ""), OUTCOME_FAIL);
    assert_int_equal(judge_answer(plain, "{\"answer\":\"\"}", ""), OUTCOME_FAIL);
    assert_int_equal(judge_answer(plain, "{}", "42"), OUTCOME_UNKNOWN);
    assert_int_equal(judge_answer(plain, "{\"answer\":null}", "42"), OUTCOME_UNKNOWN);
    assert_int_equal(judge_answer(plain, "{\"answer\":[1]}", "1"), OUTCOME_UNKNOWN);
    assert_int_equal(judge_answer(plain, "{\"answer\":\"a\\u0000b\"}", "a"), OUTCOME_FAIL);
}

static void test_numeric(void **state)
{
    (void)state;
    static const struct {
        const char *truth, *answer;
        enum outcome outcome;
    } cases[] = {
        {"42", "42", OUTCOME_PASS},
        {"42", "42.0", OUTCOME_PASS},
        {"42", "+42", OUTCOME_PASS},
        {"42", "42.1", OUTCOME_FAIL},
        {"42", "", OUTCOME_FAIL},
        {"42", "forty", OUTCOME_FAIL},
        {"42", "42x", OUTCOME_FAIL},
        {"42", "0x2A", OUTCOME_FAIL},
        {"\"1,234\"", "1234", OUTCOME_PASS},
        {"1234", "1,234", OUTCOME_PASS},
        {"1234", "12,34", OUTCOME_FAIL},
        {"\"1/2\"", "0.5", OUTCOME_PASS},
        {"0.5", "2/4", OUTCOME_PASS},
        {"0.5", "1/0", OUTCOME_FAIL},
        {"0.5", "1/2/1", OUTCOME_FAIL},
        {"0.5", "50%", OUTCOME_PASS},
        {"50", "50 %", OUTCOME_PASS},
        {"\"50%\"", "0.5", OUTCOME_PASS},
        {"\"50%\"", "60%", OUTCOME_FAIL},
        {"1e3", "1000", OUTCOME_PASS},
        {"0.333333333", "1/3", OUTCOME_PASS},
        {"0", "0.0000001", OUTCOME_FAIL},
        {"-3", "-3", OUTCOME_PASS},
        {"-3", "3", OUTCOME_FAIL},
        {"123456789012345678901234567890", "123456789012345678901234567890", OUTCOME_PASS},
        {"1", "1e999", OUTCOME_FAIL},
        {"1", "inf", OUTCOME_FAIL},
        {"\"nan\"", "nan", OUTCOME_UNKNOWN},
        {"true", "1", OUTCOME_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char record[200];
        snprintf(record, sizeof record, "{\"answer\":%s}", cases[i].truth);
        assert_int_equal(judge_answer("{\"kind\":\"numeric\"}", record, cases[i].answer), cases[i].outcome);
    }
    const char *wide = "{\"kind\":\"numeric\",\"options\":{\"tolerance\":0.1,\"absolute\":2}}";
    assert_int_equal(judge_answer(wide, "{\"answer\":100}", "109"), OUTCOME_PASS);
    assert_int_equal(judge_answer(wide, "{\"answer\":100}", "111"), OUTCOME_FAIL);
    assert_int_equal(judge_answer(wide, "{\"answer\":1}", "3"), OUTCOME_PASS);
}

/* Traces of the generator that the demo's model was trained on. */
static const struct {
    const char *prompt, *text;
} countdowns[] =
    {
        {"C29:11,5,13", "13+11=24;5,24\n24+5=29\n"},
        {"C84:4,19,10,18", "19*4=76;10,18,76\n76-10=66;18,66\n66+18=84\n"},
        {"C25:20,7,16,18,14", "18-16=2;20,7,14,2\n14-7=7;20,2,7\n20+7=27;2,27\n27-2=25\n"},
},
  chains[] = {
      {"A95-38*3+67", "95-38=57\n57*3=171\n171+67=238\n#238\n"},
      {"A55+98-21-55+87+99-90", "55+98=153\n153-21=132\n132-55=77\n77+87=164\n164+99=263\n263-90=173\n#173\n"},
      {"A46*9+13-62+9-84-93-87-4-47",
       "46*9=414\n414+13=427\n427-62=365\n365+9=374\n374-84=290\n290-93=197\n197-87=110\n"
       "110-4=106\n106-47=59\n#59\n"},
};

static void test_countdown(void **state)
{
    (void)state;
    const char *spec = "{\"kind\":\"countdown\"}";
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(judge_text(spec, countdowns[i].prompt, countdowns[i].text, true), OUTCOME_PASS);
    static const struct {
        const char *text;
        enum outcome outcome;
    } cases[] = {
        {"13+11=24;5,24\n24+5=29", OUTCOME_PASS},      /* the last newline may lack */
        {"13+11=24;24,5\n5+24=29\n", OUTCOME_PASS},    /* any order */
        {"13+11=24;5,24\n24+5=29\n29", OUTCOME_FAIL},  /* something behind it */
        {"13+11=24;5,24\n24+5=30\n", OUTCOME_FAIL},    /* wrong sum */
        {"13+12=25;5,25\n25+5=30\n", OUTCOME_FAIL},    /* 12 is not there */
        {"13+13=26;5,11\n", OUTCOME_FAIL},             /* used twice */
        {"13+11=24;5\n24+5=29\n", OUTCOME_FAIL},       /* rest lacks the result */
        {"13+11=24;5,24,5\n24+5=29\n", OUTCOME_FAIL},  /* rest has one too many */
        {"13+11=24\n24+5=29\n", OUTCOME_FAIL},         /* no rest */
        {"13+11=24;5,24\n24+5=29;29\n", OUTCOME_FAIL}, /* a rest at the end */
        {"13+11=24;5,24\n24-5=19\n", OUTCOME_FAIL},    /* exact, but not the target */
        {"13+11=24;5,24\n", OUTCOME_FAIL},             /* unfinished */
        {"13/11=1;5,1\n", OUTCOME_FAIL},               /* not divisible */
        {"13+11=24;5,24\n\n24+5=29\n", OUTCOME_FAIL},  /* an empty line */
        {" 13+11=24;5,24\n24+5=29\n", OUTCOME_FAIL},
        {"", OUTCOME_FAIL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(judge_text(spec, countdowns[0].prompt, cases[i].text, true), cases[i].outcome);
}

static void test_chain(void **state)
{
    (void)state;
    const char *spec = "{\"kind\":\"chain\"}";
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(judge_text(spec, chains[i].prompt, chains[i].text, true), OUTCOME_PASS);
    const char *prompt = chains[0].prompt;
    assert_int_equal(judge_text(spec, prompt, "wrong\n#238", true), OUTCOME_PASS);
    assert_int_equal(judge_text(spec, prompt, "95-38=57\n#239\n", true), OUTCOME_FAIL);
    assert_int_equal(judge_text(spec, prompt, "#238\n#57\n", true), OUTCOME_FAIL);
    assert_int_equal(judge_text(spec, prompt, "#0238\n", true), OUTCOME_FAIL);
    assert_int_equal(judge_text(spec, prompt, "#238 \n", true), OUTCOME_FAIL);
    assert_int_equal(judge_text(spec, prompt, "238\n", true), OUTCOME_FAIL);
    assert_int_equal(judge_text(spec, prompt, "", true), OUTCOME_FAIL);
    assert_int_equal(judge_text(spec, "A5", "#5", true), OUTCOME_PASS);
}

/* A prompt of another kind, or of none, is not the text's fault. */
static void test_other_prompts(void **state)
{
    (void)state;
    static const char *const prompts[] = {
        "",
        "C",
        "A",
        "C24",
        "C24:",
        "C24:1,",
        "C24:1,2x",
        "C2444:1",
        "A5+",
        "A5/5",
        "A+5",
        "B5",
        "A9999",
        "A999*999*999*999",
        "C1:1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
        "A1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1",
        "What is 2+2?",
    };
    for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++) {
        assert_int_equal(judge_text("{\"kind\":\"countdown\"}", prompts[i], "#5", true), OUTCOME_UNKNOWN);
        assert_int_equal(judge_text("{\"kind\":\"chain\"}", prompts[i], "#5", true), OUTCOME_UNKNOWN);
        assert_int_equal(judge_text("{\"kind\":\"oracle-step\"}", prompts[i], "", false), OUTCOME_UNKNOWN);
    }
    assert_int_equal(judge_text("{\"kind\":\"countdown\"}", "A5", "#5", true), OUTCOME_UNKNOWN);
    assert_int_equal(judge_text("{\"kind\":\"chain\"}", "C5:5", "#5", true), OUTCOME_UNKNOWN);
    assert_int_equal(judge_text("{\"kind\":\"oracle-step\"}", "C9:1,1,1,1,1,1,1", "", false), OUTCOME_UNKNOWN);
}

static const char oracle[] = "{\"kind\":\"oracle-step\",\"name\":\"o\"}";

static void expect_live(const char *prompt, const char *prefix, bool live)
{
    char record[200];
    snprintf(record, sizeof record, "{\"prompt\": \"%s\\n\"}", prompt);
    struct check_input input = {.record = slice_of(record), .text = slice_of(prefix)};
    struct verdict verdict = judge(oracle, &input);
    assert_int_equal(verdict.outcome, live ? OUTCOME_PASS : OUTCOME_FAIL);
    assert_true(verdict.score == (live ? 0.98 : 0.02));
}

static void test_oracle(void **state)
{
    (void)state;
    for (size_t i = 0; i < 6; i++) { /* every prefix of a right text is live */
        const char *prompt = i < 3 ? countdowns[i].prompt : chains[i - 3].prompt;
        const char *text = i < 3 ? countdowns[i].text : chains[i - 3].text;
        char prefix[200];
        for (size_t len = 0; len <= strlen(text); len++) {
            snprintf(prefix, sizeof prefix, "%.*s", (int)len, text);
            expect_live(prompt, prefix, true);
        }
        assert_int_equal(judge_text(oracle, prompt, text, true), OUTCOME_PASS);
    }
    expect_live("C29:11,5,13", "13-11=2;5,2\n", false); /* exact, but 29 is gone */
    expect_live("C29:11,5,13", "13-11=3;5,3\n", false); /* wrong */
    expect_live("C29:11,5,13", "13-11=3;5", true);      /* not a line yet */
    expect_live("C99:1,1", "", false);                  /* never was possible */
    expect_live("C1:3,3", "", true);
    expect_live("C96:12,8", "", true);
    expect_live("C144:12,12", "", false); /* results stay below 100 */
    expect_live("C20:20", "", true);
    expect_live("A95-38*3+67", "95-38=57\n57*3=170\n", false);
    expect_live("A95-38*3+67", "95-38=57\n#57\n", false);
    expect_live("A95-38*3+67", "95-38=57\n57*3=171\n171+67=238\n#239\n", false);
    expect_live("A95-38*3+67", "95-38=57\n57*3=171\n171+67=238\n238+1=239\n", false);
    expect_live("C1:13,11", "13/11=1\n", false); /* leaves a rest */
    assert_int_equal(judge_text(oracle, "C29:11,5,13", "13+11=24;5,24\n", true), OUTCOME_FAIL);
    assert_int_equal(judge_text(oracle, "A95-38*3+67", "nothing\n#238\n", true), OUTCOME_PASS);
}

/* Six numbers that reach nothing are the longest search; what was found dead stays dead. */
static void test_oracle_search(void **state)
{
    (void)state;
    struct opened opened = open_check(oracle);
    const struct check_input input = {.record = slice_of("{\"prompt\":\"C997:19,17,13,11,7,5\"}")};
    for (int i = 0; i < 3; i++)
        assert_int_equal(run(&opened, &input).outcome, OUTCOME_FAIL);
    const struct check_input other = {.record = slice_of("{\"prompt\":\"C72:19,17,13,11,7,5\"}")};
    assert_int_equal(run(&opened, &other).outcome, OUTCOME_PASS);
    opened.check->close(&opened.state);
}

#define DRAWS 10000

/* Whether count of DRAWS lies within five standard deviations of p. */
static void expect_rate(unsigned count, double p)
{
    double sigma = sqrt(DRAWS * p * (1 - p));
    if (fabs(count - DRAWS * p) > 5 * sigma)
        fail_msg("%u of %d, expected %.0f +- %.0f", count, DRAWS, DRAWS * p, 5 * sigma);
}

struct tally {
    unsigned pass;
    double score_sum[2]; /* by outcome */
};

static struct tally tally_seeds(const char *spec, const char *answer, const char *text)
{
    struct opened opened = open_check(spec);
    struct tally tally = {0};
    for (uint64_t i = 0; i < DRAWS; i++) {
        const struct check_input input = {
            .record = slice_of("{\"prompt\":\"C29:11,5,13\",\"answer\":\"7\"}"),
            .answer = slice_of(answer),
            .text = slice_of(text),
            .seed = rng_u64(1, RNG_TEST, i, 0),
        };
        struct verdict verdict = run(&opened, &input), again = run(&opened, &input);
        assert_true(verdict.outcome == again.outcome);
        assert_true(verdict.score == again.score);
        assert_true(verdict.score >= 0);
        assert_true(verdict.score <= 1);
        assert_true((verdict.score >= 0.5) == (verdict.outcome == OUTCOME_PASS));
        tally.pass += verdict.outcome == OUTCOME_PASS;
        tally.score_sum[verdict.outcome] += verdict.score;
    }
    opened.check->close(&opened.state);
    return tally;
}

static void test_oracle_noise(void **state)
{
    (void)state;
    const char *spec = "{\"kind\":\"oracle-step\",\"name\":\"o\",\"options\":"
                       "{\"noise\":0.1,\"low\":0.2,\"high\":0.7}}";
    struct tally live = tally_seeds(spec, "", "13+11=24;5,24\n");
    struct tally dead = tally_seeds(spec, "", "13-11=2;5,2\n");
    expect_rate(live.pass, 0.9);
    expect_rate(dead.pass, 0.1);
    assert_true(fabs(live.score_sum[1] - 0.7 * live.pass) < 1e-6);
    assert_true(fabs(live.score_sum[0] - 0.2 * (DRAWS - live.pass)) < 1e-6);
}

static const char noisy[] =
    "{\"kind\":\"noisy\",\"name\":\"n1\",\"options\":{\"verifier\":\"truth\",\"tpr\":0.8,"
    "\"fpr\":0.25},\"inner\":{\"truth\":{\"kind\":\"exact\",\"name\":\"truth\",\"options\":{}}}}";

static void test_noisy(void **state)
{
    (void)state;
    struct tally right = tally_seeds(noisy, "7", ""), wrong = tally_seeds(noisy, "8", "");
    expect_rate(right.pass, 0.8);
    expect_rate(wrong.pass, 0.25);
    /* Uniform in its half: the mean is 3/4 of passes and 1/4 of fails. */
    assert_true(fabs(right.score_sum[1] / right.pass - 0.75) < 0.01);
    assert_true(fabs(wrong.score_sum[0] / (DRAWS - wrong.pass) - 0.25) < 0.01);
    struct check_input input = {.record = slice_of("{}"), .answer = slice_of("7")};
    assert_int_equal(judge(noisy, &input).outcome, OUTCOME_UNKNOWN);
    const char *sure = "{\"kind\":\"noisy\",\"options\":{\"verifier\":\"t\",\"tpr\":1,\"fpr\":0},"
                       "\"inner\":{\"t\":{\"kind\":\"exact\"}}}";
    assert_int_equal(tally_seeds(sure, "7", "").pass, DRAWS);
    assert_int_equal(tally_seeds(sure, "8", "").pass, 0);
}

/* Noise around noise draws anew: 0.8 * 0.8 + 0.2 * 0.25 pass. With the same draws it would be 0.8.
 */
static void test_noisy_twice(void **state)
{
    (void)state;
    char spec[600];
    snprintf(spec, sizeof spec,
             "{\"kind\":\"noisy\",\"name\":\"n2\",\"options\":{\"verifier\":\"n1\",\"tpr\":0.8,"
             "\"fpr\":0.25},\"inner\":{\"n1\":%s}}",
             noisy);
    expect_rate(tally_seeds(spec, "7", "").pass, 0.69);
}

static void test_switch(void **state)
{
    (void)state;
    const char *spec = "{\"kind\":\"switch\",\"name\":\"s\",\"options\":{\"key\":\"task\",\"cases\":"
                       "{\"math\":\"n\",\"text\":\"e\",\"3\":\"n\"}},\"inner\":{\"n\":{\"kind\":\"numeric\"},"
                       "\"e\":{\"kind\":\"exact\"},\"unused\":17}}";
    const char *other = "{\"kind\":\"switch\",\"options\":{\"key\":\"task\",\"cases\":{},\"other\":\"n\"},"
                        "\"inner\":{\"n\":{\"kind\":\"numeric\"}}}";
    assert_int_equal(judge_answer(spec, "{\"answer\":7,\"meta\":{\"task\":\"math\"}}", "7.0"), OUTCOME_PASS);
    assert_int_equal(judge_answer(spec, "{\"answer\":7,\"meta\":{\"task\":\"text\"}}", "7.0"), OUTCOME_FAIL);
    assert_int_equal(judge_answer(spec, "{\"answer\":7,\"meta\":{\"task\":3}}", "7.0"), OUTCOME_PASS);
    assert_int_equal(judge_answer(spec, "{\"answer\":7,\"meta\":{\"task\":\"code\"}}", "7"), OUTCOME_UNKNOWN);
    assert_int_equal(judge_answer(spec, "{\"answer\":7,\"meta\":{}}", "7"), OUTCOME_UNKNOWN);
    assert_int_equal(judge_answer(spec, "{\"answer\":7,\"meta\":\"math\"}", "7"), OUTCOME_UNKNOWN);
    assert_int_equal(judge_answer(spec, "{\"answer\":7}", "7"), OUTCOME_UNKNOWN);
    assert_int_equal(judge_answer(other, "{\"answer\":7}", "7.0"), OUTCOME_PASS);
}

/* A spec with `levels` noisy checks around one exact. */
static void nested_spec(int levels, struct buf *out)
{
    buf_reset(out);
    for (int i = 0; i < levels; i++)
        buf_puts(out, "{\"kind\":\"noisy\",\"options\":{\"verifier\":\"x\"},\"inner\":{\"x\":");
    buf_puts(out, "{\"kind\":\"exact\"}");
    for (int i = 0; i < levels; i++)
        buf_puts(out, "}}");
}

static void test_nesting(void **state)
{
    (void)state;
    struct buf spec = {0};
    nested_spec(3, &spec);
    struct opened opened = open_check(spec.data);
    opened.check->close(&opened.state);
    nested_spec(4, &spec);
    assert_int_equal(open_fails(spec.data), ERR_LIMIT);
    nested_spec(600, &spec);
    assert_int_equal(open_fails(spec.data), ERR_LIMIT);
    nested_spec(1100, &spec); /* deeper than the JSON reader goes */
    assert_true(spec.len > LIMIT_SPEC || open_fails(spec.data) == ERR_SYNTAX);
    buf_clear(&spec);
}

static void test_bad_specs(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        int code;
    } cases[] = {
        {"", ERR_SYNTAX},
        {"null", ERR_SYNTAX},
        {"[]", ERR_SYNTAX},
        {"{", ERR_SYNTAX},
        {"{}", ERR_SYNTAX},
        {"{\"kind\":7}", ERR_SYNTAX},
        {"{\"kind\":\"exac\"}", ERR_NOT_FOUND},
        {"{\"kind\":\"exact\\u0000\"}", ERR_NOT_FOUND},
        {"{\"kind\":\"\xFF\"}", ERR_SYNTAX},
        {"{\"kind\":\"exact\",\"options\":{\"case\":\"yes\"}}", ERR_SYNTAX},
        {"{\"kind\":\"exact\",\"options\":{\"case\":2}}", ERR_SYNTAX},
        {"{\"kind\":\"numeric\",\"options\":{\"tolerance\":\"1\"}}", ERR_SYNTAX},
        {"{\"kind\":\"numeric\",\"options\":{\"tolerance\":-1}}", ERR_RANGE},
        {"{\"kind\":\"numeric\",\"options\":{\"tolerance\":1e999}}", ERR_SYNTAX},
        {"{\"kind\":\"oracle-step\",\"options\":{\"noise\":2}}", ERR_RANGE},
        {"{\"kind\":\"oracle-step\",\"options\":{\"high\":123456789012345678901}}", ERR_RANGE},
        {"{\"kind\":\"noisy\"}", ERR_SYNTAX},
        {"{\"kind\":\"noisy\",\"options\":{\"verifier\":\"x\"}}", ERR_NOT_FOUND},
        {"{\"kind\":\"noisy\",\"options\":{\"verifier\":\"x\"},\"inner\":{\"x\":3}}", ERR_NOT_FOUND},
        {"{\"kind\":\"noisy\",\"options\":{\"verifier\":\"x\"},\"inner\":{\"x\":{}}}", ERR_SYNTAX},
        {"{\"kind\":\"noisy\",\"options\":{\"verifier\":\"x\",\"tpr\":1.5},\"inner\":{\"x\":"
         "{\"kind\":\"exact\"}}}",
         ERR_RANGE},
        {"{\"kind\":\"switch\",\"options\":{\"key\":\"k\"}}", ERR_SYNTAX},
        {"{\"kind\":\"switch\",\"options\":{\"cases\":{}}}", ERR_SYNTAX},
        {"{\"kind\":\"switch\",\"options\":{\"key\":\"k\",\"cases\":{\"a\":1}}}", ERR_SYNTAX},
        {"{\"kind\":\"switch\",\"options\":{\"key\":\"k\",\"cases\":{\"a\":\"x\"}}}", ERR_NOT_FOUND},
        {"{\"kind\":\"exec\"}", ERR_SYNTAX},
        {"{\"kind\":\"exec\",\"options\":{\"command\":[]}}", ERR_SYNTAX},
        {"{\"kind\":\"exec\",\"options\":{\"command\":\"cat\"}}", ERR_SYNTAX},
        {"{\"kind\":\"exec\",\"options\":{\"command\":[\"cat\",7]}}", ERR_SYNTAX},
        {"{\"kind\":\"exec\",\"options\":{\"command\":[\"c\\u0000t\"]}}", ERR_SYNTAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (open_fails(cases[i].spec) != cases[i].code)
            fail_msg("%s", cases[i].spec);
    struct buf large = {0};
    buf_puts(&large, "{\"kind\":\"exact\"}");
    while (large.len <= LIMIT_SPEC)
        buf_puts(&large, " ");
    assert_int_equal(open_fails(large.data), ERR_LIMIT);
    buf_clear(&large);
}

/* A record that is no object is a failure, one that lacks what is needed is unknown, for every
 * kind. */
static void test_bad_records(void **state)
{
    (void)state;
    static const char *const specs[] = {
        "{\"kind\":\"exact\"}",
        "{\"kind\":\"numeric\"}",
        "{\"kind\":\"math\"}",
        "{\"kind\":\"countdown\"}",
        "{\"kind\":\"chain\"}",
        oracle,
        noisy,
        "{\"kind\":\"switch\",\"options\":{\"key\":\"k\",\"cases\":{}}}",
    };
    static const char *const lacking[] = {
        "{}",
        "{\"prompt\":7,\"answer\":{},\"meta\":[]}",
        "{\"prompt\":\"\\u0000C\"}",
        "{\"prompt\":null,\"huge\":99999999999999999999999}",
    };
    static const char *const broken[] = {"", "[]", "7", "{\"prompt\":", "\xFF", "{}{}"};
    for (size_t s = 0; s < sizeof specs / sizeof specs[0]; s++) {
        struct opened opened = open_check(specs[s]);
        for (size_t i = 0; i < sizeof lacking / sizeof lacking[0]; i++) {
            struct check_input input = {.record = slice_of(lacking[i]), .answer = slice_of("1")};
            struct verdict verdict = run(&opened, &input);
            assert_int_equal(verdict.outcome, OUTCOME_UNKNOWN);
            assert_true(verdict.score == 0);
        }
        for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
            struct check_input input = {.record = slice_of(broken[i]), .answer = slice_of("1")};
            struct verdict verdict;
            struct error error;
            assert_int_equal(opened.check->run(opened.state, &input, &verdict, &error), ERR_SYNTAX);
        }
        opened.check->close(&opened.state);
    }
}

/* An exec check around a shell script that answers every line. */
static struct opened open_script(const char *script)
{
    struct buf spec = {0};
    buf_puts(&spec, "{\"kind\":\"exec\",\"options\":{\"command\":[\"sh\",\"-c\",\"");
    for (const char *p = script; *p != '\0'; p++)
        buf_printf(&spec, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
    buf_puts(&spec, "\"]}}");
    struct opened opened = open_check(spec.data);
    buf_clear(&spec);
    return opened;
}

static struct buf detail; /* of the last verdict */

static int ask(const struct opened *opened, struct verdict *verdict, struct error *error)
{
    buf_reset(&detail);
    const struct check_input input = {
        .record = slice_of("{\"id\":1,\n\"prompt\":\"p\"}"),
        .text = slice_of("two\nlines \"quoted\""),
        .answer = slice_of("7"),
        .finished = true,
        .seed = UINT64_MAX,
        .timeout_ms = PATIENCE_MS,
        .detail = &detail,
    };
    return opened->check->run(opened->state, &input, verdict, error);
}

static void test_exec(void **state)
{
    (void)state;
    struct opened opened =
        open_check("{\"kind\":\"exec\",\"options\":{\"command\":[\"python3\",\"-c\","
                   "\"import sys,json\\nn=0\\nfor l in sys.stdin:\\n q=json.loads(l); n+=1\\n"
                   " ok=q=={'prompt':{'id':1,'prompt':'p'},'text':'two\\\\nlines \\\"quoted\\\"',"
                   "'answer':'7','finished':True,'seed':2**64-1}\\n"
                   " print(json.dumps({'outcome':['fail','pass'][ok],'score':n/4}),flush=True)\\n\"]}}");
    for (int i = 1; i <= 3; i++) { /* one program answers them all */
        struct verdict verdict;
        struct error error;
        if (ask(&opened, &verdict, &error) != 0)
            fail_msg("%s", error.text);
        assert_int_equal(verdict.outcome, OUTCOME_PASS);
        assert_true(verdict.score == i / 4.0);
    }
    opened.check->close(&opened.state);
}

static void test_exec_replies(void **state)
{
    (void)state;
    static const struct {
        const char *reply;
        int code;
        enum outcome outcome;
        double score;
        const char *detail; /* NULL: none */
    } cases[] = {
        {"{\"outcome\":\"pass\"}", 0, OUTCOME_PASS, 1, NULL},
        {"{\"outcome\":\"fail\"}", 0, OUTCOME_FAIL, 0, NULL},
        {"{\"outcome\":\"fail\",\"score\":-3}", 0, OUTCOME_FAIL, -3, NULL},
        {"{\"outcome\":\"unknown\",\"score\":1}", 0, OUTCOME_UNKNOWN, 0, NULL},
        {"{\"outcome\":\"score\",\"score\":2.5}", 0, OUTCOME_SCORE, 2.5, NULL},
        {"{\"outcome\":\"timeout\"}", 0, OUTCOME_TIMEOUT, 0, NULL},
        {"{\"outcome\":\"error\",\"score\":1}", 0, OUTCOME_ERROR, 0, NULL},
        {"{\"outcome\":\"pass\",\"detail\":{\"a\": [1, {}]}}", 0, OUTCOME_PASS, 1, "{\"a\":[1,{}]}"},
        {"{\"outcome\":\"pass\",\"detail\":{}}", 0, OUTCOME_PASS, 1, "{}"},
        {"{\"outcome\":\"pass\",\"detail\":\"text\"}", ERR_PROTOCOL, 0, 0, NULL},
        {"{\"outcome\":\"score\"}", ERR_PROTOCOL, 0, 0, NULL},
        {"{\"outcome\":\"maybe\"}", ERR_PROTOCOL, 0, 0, NULL},
        {"{\"outcome\":\"pass\",\"score\":\"1\"}", ERR_PROTOCOL, 0, 0, NULL},
        {"{\"outcome\":\"pass\",\"score\":1e999}", ERR_PROTOCOL, 0, 0, NULL},
        {"{\"score\":1}", ERR_PROTOCOL, 0, 0, NULL},
        {"pass", ERR_PROTOCOL, 0, 0, NULL},
        {"", ERR_PROTOCOL, 0, 0, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char script[200];
        snprintf(script, sizeof script, "while read -r x; do echo '%s'; done", cases[i].reply);
        struct opened opened = open_script(script);
        struct verdict verdict;
        struct error error;
        assert_int_equal(ask(&opened, &verdict, &error), cases[i].code);
        if (cases[i].code == 0) {
            assert_int_equal(verdict.outcome, cases[i].outcome);
            assert_true(verdict.score == cases[i].score);
            const char *said = cases[i].detail == NULL ? "" : cases[i].detail;
            assert_string_equal(detail.len == 0 ? "" : detail.data, said);
        }
        opened.check->close(&opened.state);
    }
}

/* Details may be longer than what is kept; the verdict still counts. */
static void test_exec_long_detail(void **state)
{
    (void)state;
    struct opened opened =
        open_script("while read -r x; do printf '{\"outcome\":\"pass\",\"detail\":{\"a\":\"%0100000d\"}}\\n' 7; done");
    struct verdict verdict;
    struct error error;
    assert_int_equal(ask(&opened, &verdict, &error), 0);
    assert_int_equal(verdict.outcome, OUTCOME_PASS);
    assert_true(detail.len > LIMIT_DETAIL);
    opened.check->close(&opened.state);
}

static void test_exec_garbage(void **state)
{
    (void)state;
    struct opened opened = open_script("while read -r x; do printf '\\033[31mred\\a%0200d\\n' 7; done");
    struct verdict verdict;
    struct error error;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ask(&opened, &verdict, &error), ERR_PROTOCOL);
        assert_non_null(strstr(error.text, "[31mred0000"));
        assert_null(strchr(error.text, '\033'));
        assert_null(strchr(error.text, '\a'));
        assert_true(strlen(error.text) < 160);
    }
    opened.check->close(&opened.state);
}

/* A program that ends after each answer is started again without a failure; one that dies of the
 * question is not. */
static void test_exec_crash(void **state)
{
    (void)state;
    struct verdict verdict;
    struct error error;
    struct opened once = open_script("read -r x; echo '{\"outcome\":\"pass\"}'");
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(&once, &verdict, &error), 0);
    once.check->close(&once.state);
    struct opened crash = open_script("read -r x; exit 5");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ask(&crash, &verdict, &error), ERR_CLOSED);
        assert_non_null(strstr(error.text, "status 5"));
    }
    crash.check->close(&crash.state);
    struct opened flood = open_script("read -r x; exec cat /dev/zero");
    assert_int_equal(ask(&flood, &verdict, &error), ERR_LIMIT);
    flood.check->close(&flood.state);
}

static void test_exec_missing(void **state)
{
    (void)state;
    struct error error;
    void *opened;
    const struct check *check;
    struct slice spec = slice_of("{\"kind\":\"exec\",\"options\":{\"command\":[\"/nonexistent/x\"]}}");
    assert_int_equal(check_open(spec, &check, &opened, &error), ERR_NOT_FOUND);
    assert_non_null(strstr(error.text, "/nonexistent/x"));
    assert_int_equal(engine_check.open(spec, &opened, &error), ERR_NOT_FOUND);
    assert_null(opened);
}

static void test_exec_hang(void **state)
{
    (void)state;
    struct opened opened = open_script("read -r x; read -r y");
    const struct check_input input = {.record = slice_of("{}"), .timeout_ms = 30};
    struct verdict verdict;
    struct error error;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(opened.check->run(opened.state, &input, &verdict, &error), ERR_TIMEOUT);
        assert_non_null(strstr(error.text, "30 ms"));
    }
    opened.check->close(&opened.state);
}

static struct job job_of(const char *spec, const char *answer)
{
    return (struct job){.spec = slice_of(spec),
                        .record = slice_of("{\"answer\":\"7\"}"),
                        .answer = slice_of(answer),
                        .timeout_ms = PATIENCE_MS,
                        .state = JOB_RUNNING};
}

/* Advances until all jobs are finished. */
static void finish(void *engine, struct job **jobs, size_t len)
{
    for (size_t left = len; left > 0;) {
        assert_true(engine_check.advance(engine, jobs, len, 0) == 0);
        left = 0;
        for (size_t i = 0; i < len; i++)
            left += jobs[i]->state == JOB_RUNNING;
    }
}

static void test_engine(void **state)
{
    (void)state;
    void *engine;
    struct error error;
    assert_int_equal(engine_check.open((struct slice){0}, &engine, &error), 0);
    struct job jobs[] = {job_of("{\"kind\":\"exact\"}", "7"), job_of("{\"kind\":\"nope\"}", "7"),
                         job_of("{\"kind\":\"exact\"}", "8"),
                         job_of("{\"kind\":\"exec\",\"options\":{\"command\":[\"false\"]}}", "7"),
                         job_of("{\"kind\":\"numeric\"}", "7.0")};
    struct job *all[] = {&jobs[0], &jobs[1], &jobs[2], &jobs[3], &jobs[4]};
    finish(engine, all, 5);
    assert_int_equal(jobs[0].state, JOB_DONE);
    assert_int_equal(jobs[0].verdict.outcome, OUTCOME_PASS);
    assert_int_equal(jobs[1].state, JOB_FAILED);
    assert_non_null(strstr(jobs[1].error.text, "nope"));
    assert_int_equal(jobs[2].verdict.outcome, OUTCOME_FAIL);
    assert_int_equal(jobs[3].state, JOB_FAILED);
    assert_non_null(strstr(jobs[3].error.text, "status 1"));
    assert_int_equal(jobs[4].verdict.outcome, OUTCOME_PASS);
    engine_check.close(&engine);
    assert_null(engine);
}

/* What waits behind a slow check has its own time. */
static void test_engine_clock(void **state)
{
    (void)state;
    void *engine;
    struct error error;
    assert_int_equal(engine_check.open((struct slice){0}, &engine, &error), 0);
    struct job jobs[] = {
        job_of("{\"kind\":\"exec\",\"options\":{\"command\":[\"sh\",\"-c\",\"read -r x; read -r y\"]}}", "7"),
        job_of("{\"kind\":\"exact\"}", "7")};
    struct job *all[] = {&jobs[0], &jobs[1]};
    jobs[0].timeout_ms = 60;
    finish(engine, all, 2);
    assert_int_equal(jobs[0].state, JOB_FAILED);
    assert_int_equal(jobs[1].state, JOB_DONE);
    assert_true(jobs[1].began_ms - jobs[0].began_ms >= 60);
    engine_check.close(&engine);
}

/* More specs than the engine keeps open, twice over. */
static void test_engine_cache(void **state)
{
    (void)state;
    void *engine;
    struct error error;
    assert_int_equal(engine_check.open((struct slice){0}, &engine, &error), 0);
    for (int i = 0; i < 400; i++) {
        char spec[100];
        snprintf(spec, sizeof spec, "{\"kind\":\"exact\",\"name\":\"v%d\"}", i % 200);
        struct job job = job_of(spec, i % 3 == 0 ? "7" : "8"), *one = &job;
        finish(engine, &one, 1);
        assert_int_equal(job.state, JOB_DONE);
        assert_int_equal(job.verdict.outcome, i % 3 == 0 ? OUTCOME_PASS : OUTCOME_FAIL);
    }
    engine_check.close(&engine);
}

#define assert_near(a, b, eps) assert_true(fabs((a) - (b)) <= (eps))

static double mbr_score(const char *spec, const struct slice *group, uint32_t len, uint32_t ordinal)
{
    struct check_input input = {.record = slice_of("{\"id\": 1, \"prompt\": \"p\"}"),
                                .text = group[ordinal],
                                .group = group,
                                .group_len = len,
                                .ordinal = ordinal,
                                .finished = true};
    struct verdict verdict = judge(spec, &input);
    assert_int_equal(verdict.outcome, OUTCOME_SCORE);
    return verdict.score;
}

/* chrF as it is defined, by looking for each n-gram of one text among those of the other that are not yet taken. */
static double chrf_slowly(struct slice text, struct slice right)
{
    double precision = 0, recall = 0;
    size_t orders = 0;
    for (size_t n = 1; n <= 6 && n <= text.len && n <= right.len; n++, orders++) {
        bool taken[64] = {false};
        size_t mine = text.len - n + 1, its = right.len - n + 1, common = 0;
        for (size_t i = 0; i < mine; i++)
            for (size_t j = 0; j < its; j++)
                if (!taken[j] && memcmp(text.data + i, right.data + j, n) == 0) {
                    taken[j] = true;
                    common++;
                    break;
                }
        precision += (double)common / (double)mine;
        recall += (double)common / (double)its;
    }
    if (orders == 0 || precision + recall == 0)
        return 0;
    return 5 * precision * recall / (4 * precision + recall) / (double)orders;
}

/* Few different bytes, zeros among them, so that n-grams repeat and ends look like zeros. */
static void mbr_counts_every_gram(void **state)
{
    (void)state;
    static const char letters[] = {'a', 'b', '\0', '\xff'};
    const char chrf[] = "{\"name\": \"m\", \"kind\": \"mbr\", \"options\": {}}";
    for (uint64_t round = 0; round < 500; round++) {
        char bytes[2][64];
        struct slice pair[2];
        for (uint64_t t = 0; t < 2; t++) {
            pair[t] = (struct slice){bytes[t], 1 + rng_u64(round, RNG_TEST, t, 64) % (round % 2 == 0 ? 8 : 64)};
            for (size_t i = 0; i < pair[t].len; i++)
                bytes[t][i] = letters[(rng_u64(round, RNG_TEST, t, i) >> 8) % (1 + round % 4)];
        }
        assert_true(mbr_score(chrf, pair, 2, 0) == chrf_slowly(pair[0], pair[1]));
    }
}

static void mbr_refuses_too_much_text(void **state)
{
    (void)state;
    char *text = xalloc(LIMIT_TEXT);
    memset(text, 'a', LIMIT_TEXT);
    struct slice group[LIMIT_GROUP];
    for (uint32_t i = 0; i < LIMIT_GROUP; i++)
        group[i] = (struct slice){text, LIMIT_TEXT};
    struct buf why = {0};
    struct check_input input = {.record = slice_of("{\"id\": 1, \"prompt\": \"p\"}"),
                                .text = group[0],
                                .group = group,
                                .group_len = LIMIT_GROUP,
                                .finished = true,
                                .detail = &why};
    struct opened opened = open_check("{\"name\": \"m\", \"kind\": \"mbr\", \"options\": {}}");
    struct verdict verdict;
    struct error error;
    assert_int_equal(opened.check->run(opened.state, &input, &verdict, &error), 0);
    assert_int_equal(verdict.outcome, OUTCOME_ERROR);
    assert_non_null(strstr(why.data, "268435456 bytes, and mbr compares 33554432 at most"));
    opened.check->close(&opened.state);
    buf_clear(&why);
    free(text);
}

/* Utilities of words: 2 of 10 shared by the first two, 6 by first and last, 5 by the others. Of characters: as an
 * implementation with sets of texts has it. A rollout that failed is no evidence. */
static void mbr_takes_the_middle(void **state)
{
    (void)state;
    const char words[] = "{\"name\": \"m\", \"kind\": \"mbr\", \"options\": {\"utility\": \"words\"}}";
    const char chrf[] = "{\"name\": \"m\", \"kind\": \"mbr\", \"options\": {}}";
    const struct slice ten[] = {slice_of("x1 x2 x3 x4 x5 x6 y1 y2 y3 y4"), slice_of(" z1 z2 z3\nz4 x1 y1 w1 w2 w3 w4"),
                                slice_of(""), slice_of("x1 x2 x3 x4 x5 x6 z1 z2 z3 z4\n")};
    assert_near(mbr_score(words, ten, 4, 0), .4, 1e-12);
    assert_near(mbr_score(words, ten, 4, 1), .35, 1e-12);
    assert_near(mbr_score(words, ten, 4, 3), .55, 1e-12);
    const struct slice few[] = {slice_of("the cat sat"), slice_of("the cat sits down"), slice_of("a dog")};
    const double wanted[] = {0.238081992345, 0.385517048463, 0.058261138614};
    for (uint32_t i = 0; i < 3; i++)
        assert_near(mbr_score(chrf, few, 3, i), wanted[i], 1e-9);
    assert_near(mbr_score(chrf, few, 1, 0), .5, 0); /* alone */
    struct opened opened = open_check(chrf);
    struct check_input alone = {.record = slice_of("{\"id\": 1, \"prompt\": \"p\"}"), .text = few[0], .finished = true};
    struct verdict verdict;
    struct error error;
    assert_int_equal(opened.check->run(opened.state, &alone, &verdict, &error), ERR_REFUSED);
    assert_non_null(strstr(error.text, "inside another"));
    opened.check->close(&opened.state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_numeric),
        cmocka_unit_test(test_countdown),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_other_prompts),
        cmocka_unit_test(test_oracle),
        cmocka_unit_test(test_oracle_search),
        cmocka_unit_test(test_oracle_noise),
        cmocka_unit_test(test_noisy),
        cmocka_unit_test(test_noisy_twice),
        cmocka_unit_test(test_switch),
        cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_bad_specs),
        cmocka_unit_test(test_bad_records),
        cmocka_unit_test(test_exec),
        cmocka_unit_test(test_exec_replies),
        cmocka_unit_test(test_exec_garbage),
        cmocka_unit_test(test_exec_crash),
        cmocka_unit_test(test_exec_missing),
        cmocka_unit_test(test_exec_hang),
        cmocka_unit_test(test_engine),
        cmocka_unit_test(test_engine_cache),
        cmocka_unit_test(test_engine_clock),
        cmocka_unit_test(test_exec_long_detail),
        cmocka_unit_test(mbr_takes_the_middle),
        cmocka_unit_test(mbr_counts_every_gram),
        cmocka_unit_test(mbr_refuses_too_much_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
