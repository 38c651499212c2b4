/* check_code.c - programs against unit tests, in a sandbox.
 *
 * A program that judges itself can forge the verdict: print PASS, exit with 0, change `==` or the test module. So the
 * tests never enter its sandbox. For the styles of functions (humaneval, mbpp, functional) they run in a process of
 * their own, in another sandbox, which only asks the program's process to call its functions: arguments go there,
 * values come back as data. Whatever the program does to its own process, it can do no more than give values, and right
 * values are what a solution gives. For stdio the expected output stays here.
 *
 * One interpreter is started per program, whatever the number of tests; the tests' process serves many programs. */
#include "common/json.h"
#include "common/limits.h"
#include "verifier/code.h"
#include "verifier/inner.h"

#include <stdlib.h>
#include <string.h>

enum style { STYLE_HUMANEVAL, STYLE_MBPP, STYLE_STDIO, STYLE_FUNCTIONAL, STYLE_PRINT };

/* What a style's records look like: keys of the record, or of its meta. */
static const struct {
    const char *name, *tests, *setup;
    bool completes; /* the text continues the prompt */
} styles[] = {
    [STYLE_HUMANEVAL] = {"humaneval", "test", "prompt", true},
    [STYLE_MBPP] = {"mbpp", "test_list", "test_setup_code", false},
    [STYLE_STDIO] = {"stdio", "tests", "", false},
    [STYLE_FUNCTIONAL] = {"functional", "tests", "", false},
    [STYLE_PRINT] = {"print", "", "", false}, /* no tests: what the program prints is for another verifier */
};

struct code {
    enum style style;
    char tests[65], setup[65], entry_point[65]; /* keys */
    struct code_runner runner;
    char *words[CODE_ARGS];
};

static void code_close(void **state)
{
    struct code *code = *state;
    if (code == NULL)
        return;
    code_calls_end(&code->runner);
    sandbox_close(&code->runner.program);
    sandbox_close(&code->runner.grader);
    for (size_t i = 0; i < CODE_ARGS; i++)
        free(code->words[i]);
    free(code);
    *state = NULL;
}

/* -- options -------------------------------------------------------------------------------------------------------- */

/* Index of the option's word among names; *value stays when it is absent. */
static int read_word(const struct json_t *options, const char *option, const char *const *names, size_t len,
                     size_t *value, struct error *error)
{
    struct slice word;
    if (!doc_text(options, option, &word))
        return 0;
    for (size_t i = 0; i < len; i++)
        if (strlen(names[i]) == word.len && memcmp(names[i], word.data, word.len) == 0) {
            *value = i;
            return 0;
        }
    return error_set(error, ERR_RANGE, "option `%s` cannot be `%.40s`", option, word.data);
}

static int read_key(const struct json_t *options, const char *option, const char *fallback, char key[65],
                    struct error *error)
{
    struct slice word = slice_of(fallback);
    if (doc_text(options, option, &word) && word.len == 0)
        word = slice_of(fallback);
    if (word.len > 64)
        return error_set(error, ERR_LIMIT, "option `%s` is longer than 64 bytes", option);
    memcpy(key, word.data, word.len);
    return 0;
}

static int read_command(struct code *code, const struct json_t *options, struct error *error)
{
    static const char *const python[] = {"python3", "-I", "-S"};
    size_t len = doc_list_len(options, "command");
    if (len > CODE_ARGS)
        return error_set(error, ERR_LIMIT, "option `command` has more than %d words", CODE_ARGS);
    for (size_t i = 0; i < (len == 0 ? 3 : len); i++) {
        const char *word = len == 0 ? python[i] : NULL;
        if (len > 0 && !doc_list_text(options, "command", i, &word))
            return error_set(error, ERR_SYNTAX, "option `command` must hold texts only");
        code->words[i] = xstrdup(word);
        code->runner.argv[code->runner.argv_len++] = code->words[i];
    }
    return 0;
}

static int read_options(struct code *code, const struct json_t *spec, enum tier *tier, struct error *error)
{
    const struct json_t *options = doc_object(spec, "options");
    const char *names[] = {styles[0].name, styles[1].name, styles[2].name, styles[3].name, styles[4].name};
    size_t style = STYLE_HUMANEVAL, wanted = TIER_NATIVE;
    double cpu = 10, memory = 512;
    int rc = read_word(options, "style", names, 5, &style, error);
    if (rc == 0)
        rc = read_word(options, "tier", tier_names, TIERS, &wanted, error);
    if (rc == 0)
        rc = doc_option_real(spec, "cpu", (struct doc_range){1, 86400}, &cpu, error);
    if (rc == 0)
        rc = doc_option_real(spec, "memory", (struct doc_range){16, 1048576}, &memory, error);
    if (rc == 0)
        rc = read_key(options, "tests", styles[style].tests, code->tests, error);
    if (rc == 0)
        rc = read_key(options, "setup", styles[style].setup, code->setup, error);
    if (rc == 0)
        rc = read_key(options, "entry_point", "entry_point", code->entry_point, error);
    code->style = (enum style)style;
    *tier = (enum tier)wanted;
    code->runner.cpu_s = (uint32_t)cpu;
    code->runner.memory_mib = (uint32_t)memory;
    return rc < 0 ? rc : read_command(code, options, error);
}

static int code_open(struct slice spec, void **state, struct error *error)
{
    struct json_t *doc;
    enum tier tier = TIER_NATIVE;
    int rc = doc_parse(spec, &doc, error);
    if (rc < 0)
        return rc;
    struct code *code = xalloc(sizeof *code);
    void *opened = code;
    rc = read_options(code, doc, &tier, error);
    doc_free(&doc);
    if (rc == 0)
        rc = sandbox_open(tier, &code->runner.program, NULL, error);
    if (rc == 0 && code->style != STYLE_STDIO && code->style != STYLE_PRINT)
        rc = sandbox_open(tier, &code->runner.grader, NULL, error);
    if (rc < 0)
        code_close(&opened);
    *state = opened;
    return rc;
}

/* -- a record and a text -------------------------------------------------------------------------------------------- */

/* Lines of three backticks hold blocks of code in what chat models write; the last whole one is the answer. */
struct slice code_block(struct slice text)
{
    struct slice found = text, open = {0};
    for (size_t at = 0; at < text.len;) {
        const char *line = text.data + at, *end = memchr(line, '\n', text.len - at);
        size_t len = end == NULL ? text.len - at : (size_t)(end - line);
        at += len + (end != NULL);
        if (len < 3 || memcmp(line, "```", 3) != 0)
            continue;
        if (open.data == NULL) {
            open.data = text.data + at;
        } else {
            found = (struct slice){open.data, (size_t)(line - open.data)};
            open.data = NULL;
        }
    }
    return found;
}

/* Whether a line of the text begins the definition of the function. */
static bool defines(struct slice text, struct slice name)
{
    for (size_t at = 0; at < text.len;) {
        const char *line = text.data + at, *end = memchr(line, '\n', text.len - at);
        size_t len = end == NULL ? text.len - at : (size_t)(end - line);
        at += len + (end != NULL);
        if (len > 4 + name.len && memcmp(line, "def ", 4) == 0 && memcmp(line + 4, name.data, name.len) == 0 &&
            strchr(" (", line[4 + name.len]) != NULL)
            return true;
    }
    return false;
}

/* The program of a text. One that continues its prompt gets it in front, but a whole function behind it counts on its
 * own: the prompt's imports and helpers stay, the text's definition is the later one. */
static void make_program(const struct code *code, struct slice prompt, struct slice entry, struct slice text,
                         struct buf *out)
{
    struct slice block = code_block(text);
    if (styles[code->style].completes) {
        bool whole = defines(block, entry);
        buf_put(out, prompt.data, prompt.len);
        if (whole && prompt.len > 0 && prompt.data[prompt.len - 1] != '\n')
            buf_puts(out, "\n");
    }
    buf_put(out, block.data, block.len);
}

/* Tests as the grader gets them. */
static void make_job(const struct code *code, const struct json_t *where, struct slice setup, struct slice entry,
                     struct buf *out)
{
    struct buf tests = {0};
    doc_value(where, code->tests, &tests);
    json_begin(out, '{');
    json_key(out, "style");
    json_str(out, styles[code->style].name);
    json_key(out, "setup");
    json_text(out, setup);
    json_key(out, "entry_point");
    json_text(out, entry);
    json_key(out, "tests");
    json_raw(out, buf_slice(&tests));
    json_end(out, '}');
    buf_clear(&tests);
}

static int run_calls(struct code *code, const struct json_t *record, const struct json_t *where, struct slice text,
                     struct code_verdict *verdict, struct error *error)
{
    struct slice setup = {"", 0}, entry = {"", 0};
    struct buf program = {0}, job = {0};
    if (!doc_text(where, code->setup, &setup))
        doc_text(record, code->setup, &setup);
    doc_text(where, code->entry_point, &entry);
    make_program(code, setup, entry, text, &program);
    make_job(code, where, setup, entry, &job);
    int rc = code_calls(&code->runner, buf_slice(&program), buf_slice(&job), verdict, error);
    buf_clear(&program);
    buf_clear(&job);
    return rc;
}

/* The first test that fails ends it. */
static int run_stdio(struct code *code, const struct json_t *where, struct slice text, struct code_verdict *verdict,
                     struct error *error)
{
    struct slice program = code_block(text);
    size_t len = doc_list_len(where, code->tests);
    verdict->outcome = OUTCOME_ERROR;
    verdict->why = "test";
    for (size_t i = 0; i < len; i++) {
        struct slice input = {"", 0}, output = {"", 0};
        const struct json_t *test = doc_item(doc_get(where, code->tests), i);
        if (!doc_text(test, "input", &input) || !doc_text(test, "output", &output)) {
            verdict->outcome = OUTCOME_ERROR;
            verdict->why = "test";
            buf_puts(&verdict->text, "a test needs the texts `input` and `output`");
            return 0;
        }
        verdict->test = (uint32_t)i;
        uint32_t cpu_ms = verdict->cpu_ms, wall_ms = verdict->wall_ms;
        int rc = code_stdio(&code->runner, program, input, output, verdict, error);
        verdict->cpu_ms += cpu_ms;
        verdict->wall_ms += wall_ms;
        if (rc < 0 || verdict->outcome != OUTCOME_PASS)
            return rc;
    }
    return 0;
}

/* -- the verdict ---------------------------------------------------------------------------------------------------- */

/* What people read later: {"why": "memory", "test": 3, "text": "more than 512 MiB", "cpu_ms": 120}. */
static void put_detail(const struct code_verdict *verdict, struct buf *out)
{
    json_begin(out, '{');
    if (verdict->outcome != OUTCOME_PASS) {
        json_key(out, "why");
        json_str(out, verdict->why);
        json_key(out, "test");
        json_u64(out, verdict->test);
    }
    if (verdict->line.len > 0) {
        json_key(out, "line");
        json_text(out, buf_slice(&verdict->line));
    }
    if (verdict->text.len > 0) {
        json_key(out, "text");
        json_text(out, buf_slice(&verdict->text));
    }
    if (verdict->output.len > 0) {
        json_key(out, "output");
        json_text(out, buf_slice(&verdict->output));
    }
    json_key(out, "cpu_ms");
    json_u64(out, verdict->cpu_ms);
    json_end(out, '}');
}

/* Where the tests are: in the record or in its meta; NULL: nowhere, and some are needed. */
static const struct json_t *tests_in(const struct code *code, const struct json_t *record)
{
    if (code->style == STYLE_PRINT || doc_has(record, code->tests))
        return record;
    const struct json_t *meta = doc_object(record, "meta");
    return doc_has(meta, code->tests) ? meta : NULL;
}

static int code_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    struct code *code = state;
    struct json_t *record;
    struct slice prompt;
    struct code_verdict judged = {.outcome = OUTCOME_UNKNOWN, .why = ""};
    int rc = check_prompt(input->record, &record, &prompt, error);
    if (rc < 0)
        return rc;
    code->runner.wall_ms = input->timeout_ms;
    const struct json_t *where = tests_in(code, record);
    if (code->style == STYLE_PRINT)
        rc = code_print(&code->runner, code_block(input->text), &judged, error);
    else if (where != NULL && code->style == STYLE_STDIO)
        rc = run_stdio(code, where, input->text, &judged, error);
    else if (where != NULL)
        rc = run_calls(code, record, where, input->text, &judged, error);
    if (rc == 0) {
        *verdict = (struct verdict){.outcome = judged.outcome, .score = judged.outcome == OUTCOME_PASS};
        if (where != NULL)
            put_detail(&judged, input->detail);
    }
    buf_clear(&judged.text);
    buf_clear(&judged.line);
    buf_clear(&judged.output);
    doc_free(&record);
    return rc;
}

const struct check check_code = {
    .name = "code",
    .help = "a program against unit tests, in a sandbox",
    .open = code_open,
    .run = code_run,
    .close = code_close,
    .engine = &engine_check_slow,
    .cached = CACHED_HERE, /* another machine may have another interpreter */
};
