/* Sandboxes and the check `code`: limits, ends, verdicts, refusals. What hostile programs try is in
 * tests/integration/test_sandbox. */
#include "verifier/check.h"
#include "verifier/code.h"
#include "verifier/sandbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *no_sandbox; /* why this node has none, or NULL */

static struct sandbox *open_sandbox(enum tier tier)
{
    struct sandbox *sandbox;
    struct error error;
    if (no_sandbox != NULL || sandbox_open(tier, &sandbox, NULL, &error) != 0) {
        print_message("no sandbox here: %s\n", no_sandbox != NULL ? no_sandbox : error.text);
        skip();
    }
    return sandbox;
}

/* What it printed, in static memory. */
static const char *run(struct sandbox *sandbox, struct sandbox_job job, struct sandbox_end *end)
{
    static char out[8192];
    struct sandbox_pipes pipes;
    struct error error;
    size_t len = 0;
    job.memory_mib = job.memory_mib == 0 ? 256 : job.memory_mib;
    if (sandbox_start(sandbox, &job, &pipes, &error) != 0)
        fail_msg("%s", error.text);
    close(pipes.in);
    for (ssize_t got = 1; got > 0;) {
        struct pollfd fd = {.fd = pipes.out, .events = POLLIN};
        poll(&fd, 1, 60000);
        got = read(pipes.out, out + len, sizeof out - 1 - len);
        len += got > 0 ? (size_t)got : 0;
    }
    out[len] = '\0';
    if (sandbox_end(sandbox, END_WAIT, end, &error) != 0)
        fail_msg("%s", error.text);
    close(pipes.out);
    if (pipes.err >= 0)
        close(pipes.err);
    return out;
}

static const char *shell(struct sandbox *sandbox, const char *line, struct sandbox_job job, struct sandbox_end *end)
{
    const char *argv[] = {"/bin/sh", "-c", line, NULL};
    job.argv = argv;
    job.quiet = true;
    return run(sandbox, job, end);
}

static void try_tier(enum tier tier)
{
    struct sandbox *sandbox = open_sandbox(tier);
    struct sandbox_end end;
    struct sandbox_job job = {.program = slice_of("echo of the program")};
    assert_string_equal(shell(sandbox, "pwd; . /tmp/program; exit 7", job, &end), "/tmp\nof the program\n");
    assert_int_equal(end.ending, ENDING_EXIT);
    assert_int_equal(end.code, 7);
    /* the next one finds nothing of it */
    shell(sandbox, "touch /tmp/left; sleep 1000 & sleep 0.01", job, &end);
    job.program = (struct slice){0};
    assert_string_equal(shell(sandbox, "ls /tmp", job, &end), "");
    sandbox_close(&sandbox);
    assert_null(sandbox);
}

static void test_native(void **state)
{
    (void)state;
    try_tier(TIER_NATIVE);
}

static void test_bwrap(void **state)
{
    (void)state;
    try_tier(TIER_BWRAP);
}

/* A kernel of its own says another release than this one. Few nodes have it. */
static void test_gvisor(void **state)
{
    (void)state;
    struct sandbox *sandbox = open_sandbox(TIER_GVISOR);
    const char *argv[] = {"python3", "-I", "-S", "-c", "import os; print(os.uname().release, os.listdir('/home'))",
                          NULL};
    struct sandbox_job job = {.argv = argv, .quiet = true};
    struct sandbox_end end;
    const char *out = run(sandbox, job, &end);
    assert_int_equal(end.ending, ENDING_EXIT);
    assert_string_equal(out, "4.4.0 []\n");
    sandbox_close(&sandbox);
}

static void test_ends(void **state)
{
    (void)state;
    struct sandbox *sandbox = open_sandbox(TIER_NATIVE);
    struct sandbox_end end;
    const char *none[] = {"no-such-program", NULL};
    shell(sandbox, "while :; do :; done", (struct sandbox_job){.cpu_s = 1, .wall_ms = 60000}, &end);
    assert_int_equal(end.ending, ENDING_CPU);
    shell(sandbox, "sleep 1000", (struct sandbox_job){.wall_ms = 100}, &end);
    assert_int_equal(end.ending, ENDING_WALL);
    assert_true(end.wall_ms >= 100);
    run(sandbox, (struct sandbox_job){.argv = none}, &end);
    assert_int_equal(end.ending, ENDING_BROKEN);
    assert_non_null(strstr(end.text, "no-such-program"));
    /* and it still works */
    assert_string_equal(shell(sandbox, "echo $HOME $SECRET", (struct sandbox_job){0}, &end), "/tmp\n");
    sandbox_close(&sandbox);
}

static void test_stop(void **state)
{
    (void)state;
    struct sandbox *sandbox = open_sandbox(TIER_NATIVE);
    const char *argv[] = {"sleep", "1000", NULL};
    struct sandbox_job job = {.argv = argv, .memory_mib = 64, .quiet = true};
    struct sandbox_pipes pipes;
    struct sandbox_end end;
    struct error error;
    assert_int_equal(sandbox_start(sandbox, &job, &pipes, &error), 0);
    assert_int_equal(sandbox_end(sandbox, END_STOP, &end, &error), 0);
    assert_int_equal(end.ending, ENDING_STOPPED);
    close(pipes.in);
    close(pipes.out);
    sandbox_close(&sandbox);
}

static void test_argv_limit(void **state)
{
    (void)state;
    struct sandbox *sandbox = open_sandbox(TIER_NATIVE);
    char *word = xalloc(200000);
    memset(word, 'x', 199999);
    const char *argv[] = {"echo", word, NULL};
    struct sandbox_job job = {.argv = argv, .memory_mib = 64};
    struct sandbox_pipes pipes;
    struct error error;
    assert_int_equal(sandbox_start(sandbox, &job, &pipes, &error), ERR_LIMIT);
    free(word);
    sandbox_close(&sandbox);
}

static void test_probe(void **state)
{
    struct buf out = {0};
    (void)state;
    sandbox_probe(&out);
    assert_non_null(strstr(out.data, "native"));
    assert_non_null(strstr(out.data, "\ngvisor"));
    assert_int_equal(strstr(out.data, "native     yes") != NULL, no_sandbox == NULL);
    buf_clear(&out);
}

/* -- texts and outputs ---------------------------------------------------------------------------------------------- */

static void test_block(void **state)
{
    static const struct {
        const char *text, *block;
    } rows[] = {
        {"x = 1\n", "x = 1\n"},
        {"", ""},
        {"Look:\n```python\nx = 1\n```\n", "x = 1\n"},
        {"```\na\n```\nor\n```py\nb\n```", "b\n"},
        {"```python\ncut off", "```python\ncut off"},
        {"```", "```"},
        {"```\n```", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slice block = code_block(slice_of(rows[i].text));
        assert_int_equal(block.len, strlen(rows[i].block));
        assert_memory_equal(block.len > 0 ? block.data : "", rows[i].block, block.len);
    }
}

static void test_output_equal(void **state)
{
    static const struct {
        const char *a, *b;
        bool equal;
    } rows[] = {
        {"", "", true},          {"a", "a\n", true},        {"a \t\r\n\n\n", "a", true},
        {"a\nb", "a\nc", false}, {"a\n\nb", "a\nb", false}, {" a", "a", false},
        {"a", "", false},        {"1 2", "1  2", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(code_output_equal(slice_of(rows[i].a), slice_of(rows[i].b)), rows[i].equal);
}

/* -- the check ------------------------------------------------------------------------------------------------------ */

static int open_code(const char *options, const struct check **check, void **state, struct error *error)
{
    struct buf spec = {0};
    buf_printf(&spec, "{\"kind\":\"code\",\"name\":\"c\",\"options\":%s}", options);
    int code = check_open(buf_slice(&spec), check, state, error);
    buf_clear(&spec);
    return code;
}

static void judge(const char *options, const char *record, const char *text, enum outcome outcome, const char *detail)
{
    const struct check *check;
    void *opened;
    struct error error;
    struct buf told = {0};
    struct verdict verdict;
    const struct check_input input = {
        .record = slice_of(record), .text = slice_of(text), .finished = true, .timeout_ms = 20000, .detail = &told};
    if (no_sandbox != NULL)
        skip();
    if (open_code(options, &check, &opened, &error) != 0 || check->run(opened, &input, &verdict, &error) != 0)
        fail_msg("%s", error.text);
    if (verdict.outcome != outcome || (detail != NULL && strstr(told.data, detail) == NULL))
        fail_msg("outcome %d, detail %s", (int)verdict.outcome, told.len > 0 ? told.data : "none");
    check->close(&opened);
    buf_clear(&told);
}

#define HUMANEVAL                                                                                \
    "{\"prompt\": \"def helper(x):\\n    return x + 1\\n\\ndef f(x):\\n    '''Adds 2.'''\\n\", " \
    "\"test\": \"def check(c):\\n    assert c(helper(1)) == 4\\n    assert c(5) == 7\\n\", \"entry_point\": \"f\"}"

static void test_humaneval(void **state)
{
    (void)state;
    judge("{}", HUMANEVAL, "    return x + 2\n", OUTCOME_PASS, "cpu_ms");
    judge("{}", HUMANEVAL, "    return helper(helper(x))\n", OUTCOME_PASS, NULL);
    judge("{}", HUMANEVAL, "Sure:\n```python\ndef f(y):\n    return y + 2\n```\n", OUTCOME_PASS, NULL);
    judge("{}", HUMANEVAL, "    return 4\n", OUTCOME_FAIL, "assert c(5) == 7");
    judge("{}", HUMANEVAL, "    return x +\n", OUTCOME_FAIL, "\"why\":\"syntax\"");
    judge("{}", HUMANEVAL, "    raise ValueError('no')\n", OUTCOME_FAIL, "ValueError: no");
    judge("{}", "{\"prompt\": \"\", \"test\": \"def check(c:\", \"entry_point\": \"f\"}", "def f(): pass",
          OUTCOME_ERROR, "SyntaxError");
    judge("{}", "{\"prompt\": \"\", \"test\": \"def check(c):\\n    pass\\n\", \"entry_point\": \"f\"}",
          "def f(): pass", OUTCOME_ERROR, "call nothing");
    judge("{}", "{\"prompt\": \"\"}", "def f(): pass", OUTCOME_UNKNOWN, NULL);
}

static void test_mbpp(void **state)
{
    const char *record = "{\"prompt\": \"double it\", \"meta\": {\"test_setup_code\": \"two = 2\", "
                         "\"test_list\": [\"assert list(g(two)) == [4, 4]\", \"assert g.__class__ != 5\"]}}";
    const char *plain = "{\"prompt\": \"\", \"test_list\": [\"assert {1: (2, {3.5})} == g(1j, b'x', k=[None])\"]}";
    (void)state;
    judge("{\"style\": \"mbpp\"}", record, "def g(x):\n    yield 2 * x\n    yield x + x\n", OUTCOME_PASS, NULL);
    judge("{\"style\": \"mbpp\"}", record, "def g(x):\n    return [x]\n", OUTCOME_FAIL, "\"test\":0");
    judge("{\"style\": \"mbpp\"}", plain,
          "def g(a, b, k):\n    assert (a, b, k) == (1j, b'x', [None])\n    return {1: (2, {3.5})}\n", OUTCOME_PASS,
          NULL);
    judge("{\"style\": \"mbpp\"}", plain, "def g(a, b, k):\n    return object()\n", OUTCOME_FAIL, NULL);
}

static void test_functional(void **state)
{
    const char *record =
        "{\"prompt\": \"\", \"name\": \"add\", \"cases\": [{\"input\": [1, 2], \"output\": [3, \"x\"]}, "
        "{\"input\": {\"a\": 5, \"b\": 6}, \"output\": [11, \"x\"]}]}";
    const char *options = "{\"style\": \"functional\", \"tests\": \"cases\", \"entry_point\": \"name\"}";
    (void)state;
    judge(options, record, "def add(a, b):\n    return a + b, 'x'\n", OUTCOME_PASS, NULL);
    judge(options, record, "def add(a, b):\n    return 3, 'x'\n", OUTCOME_FAIL, "\"test\":1");
    judge(options, record, "def add(a, b):\n    return 3, True\n", OUTCOME_FAIL, "\"test\":0");
}

static void test_stdio(void **state)
{
    const char *record = "{\"prompt\": \"\", \"tests\": [{\"input\": \"2\\n\", \"output\": \"4\\n\"}, "
                         "{\"input\": \"3\\n\", \"output\": \"6\\n\"}]}";
    (void)state;
    judge("{\"style\": \"stdio\"}", record, "print(2 * int(input()))\n", OUTCOME_PASS, NULL);
    judge("{\"style\": \"stdio\"}", record, "print(4)\n", OUTCOME_FAIL, "\"test\":1");
    judge("{\"style\": \"stdio\"}", record, "print(2 * int(input()))\nraise SystemExit(3)\n", OUTCOME_FAIL, "status 3");
    judge("{\"style\": \"stdio\", \"command\": [\"/bin/sh\"]}", record, "read n; echo $((n * 2))\n", OUTCOME_PASS,
          NULL);
    judge("{\"style\": \"stdio\"}", "{\"prompt\": \"\", \"tests\": [{\"input\": 5}]}", "", OUTCOME_ERROR, "`input`");
}

static void test_print(void **state)
{
    (void)state;
    const char *options = "{\"style\": \"print\"}";
    judge(options, "{\"prompt\": \"\"}", "It is 4:\n```python\nprint(1)\nprint(2 * 2)\n```\n", OUTCOME_PASS,
          "\"output\":\"1\\n4\\n\"");
    judge(options, "{\"prompt\": \"\"}", "print(4)\nraise SystemExit(3)\n", OUTCOME_FAIL, "status 3");
    judge(options, "{\"prompt\": \"\"}", "print('x' * 100000 + 'end', end='')\n", OUTCOME_PASS, "xend\"");
    judge(options, "{\"prompt\": \"\"}", "while True: print(4)\n", OUTCOME_FAIL, "1 MiB");
    judge(options, "{\"prompt\": \"\"}", "It is 4.\n", OUTCOME_FAIL, NULL);
}

static void test_limits(void **state)
{
    (void)state;
    judge("{\"cpu\": 1}", HUMANEVAL, "    while True: pass\n", OUTCOME_TIMEOUT, "1 s of CPU");
    judge("{\"memory\": 64}", HUMANEVAL, "    return bytearray(1 << 28)\n", OUTCOME_FAIL, "\"why\":\"memory\"");
}

static void test_open(void **state)
{
    static const struct {
        const char *options;
        int code;
    } rows[] = {
        {"{\"style\": \"perl\"}", ERR_RANGE},
        {"{\"tier\": \"none\"}", ERR_RANGE},
        {"{\"cpu\": 0}", ERR_RANGE},
        {"{\"memory\": \"much\"}", ERR_SYNTAX},
        {"{\"command\": [1]}", ERR_SYNTAX},
        {"{\"tests\": \"0123456789012345678901234567890123456789012345678901234567890123456789\"}", ERR_LIMIT},
        {"{\"command\": [\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\"]}",
         ERR_LIMIT},
    };
    const struct check *check;
    void *opened;
    struct error error;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(open_code(rows[i].options, &check, &opened, &error), rows[i].code);
}

/* Without a launcher nothing runs, and the sentence says what is missing. */
static void test_no_launcher(void **state)
{
    const struct check *check;
    void *opened;
    struct error error;
    (void)state;
    sandbox_launcher_stop();
    assert_int_equal(open_code("{}", &check, &opened, &error), ERR_SYSTEM);
    assert_non_null(strstr(error.text, "launcher"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_native),    cmocka_unit_test(test_gvisor),      cmocka_unit_test(test_bwrap),
        cmocka_unit_test(test_ends),      cmocka_unit_test(test_stop),        cmocka_unit_test(test_argv_limit),
        cmocka_unit_test(test_probe),     cmocka_unit_test(test_block),       cmocka_unit_test(test_output_equal),
        cmocka_unit_test(test_humaneval), cmocka_unit_test(test_mbpp),        cmocka_unit_test(test_functional),
        cmocka_unit_test(test_stdio),     cmocka_unit_test(test_print),       cmocka_unit_test(test_limits),
        cmocka_unit_test(test_open),      cmocka_unit_test(test_no_launcher),
    };
    static struct error error;
    struct sandbox *sandbox;
    if (sandbox_launcher_start(&error) != 0 || sandbox_open(TIER_NATIVE, &sandbox, NULL, &error) != 0)
        no_sandbox = error.text;
    else
        sandbox_close(&sandbox);
    return cmocka_run_group_tests_name("code", tests, NULL, NULL);
}
