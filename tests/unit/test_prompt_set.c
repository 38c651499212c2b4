/* test_prompt_set.c - prompts as JSONL, and reading whole files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broker/sweep_file.h"
#include "common/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int parse_bytes(const char *bytes, size_t len, const char *group_by, struct prompt_set *set, struct error *error)
{
    char *text = xalloc(len + 1);
    memcpy(text, bytes, len);
    int rc = prompt_set_parse(&text, len, "p.jsonl", group_by, set, error);
    assert_null(text);
    return rc;
}

static int parse(const char *text, const char *group_by, struct prompt_set *set, struct error *error)
{
    return parse_bytes(text, strlen(text), group_by, set, error);
}

static void records(void **state)
{
    (void)state;
    static const char text[] = "\xEF\xBB\xBF{\"prompt\": \"2+2\", \"answer\": \"4\", \"meta\": {\"task\": \"sum\"}}\r\n"
                               "\n  \t\n"
                               "{\"id\": 7, \"prompt\": \"\xC3\xA4\", \"meta\": {\"task\": 3}, \"extra\": [1]}\n"
                               "{\"id\": \"x\", \"messages\": [{\"role\": \"user\", \"content\": \"abc\"},"
                               " {\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"de\"}, {\"a\": "
                               "1}]}]}";
    struct prompt_set set;
    struct error error = {""};
    assert_int_equal(parse(text, "task", &set, &error), 0);
    assert_int_equal(set.len, 3);
    assert_string_equal(set.prompts[0].id, "1");
    assert_string_equal(set.prompts[0].group, "sum");
    assert_int_equal(set.prompts[0].bytes, 3);
    assert_int_equal(set.prompts[0].record.data[0], '{');
    assert_int_equal(set.prompts[0].record.data[set.prompts[0].record.len - 1], '}');
    assert_string_equal(set.prompts[1].id, "7");
    assert_string_equal(set.prompts[1].group, "3");
    assert_int_equal(set.prompts[1].bytes, 2);
    assert_string_equal(set.prompts[2].id, "x");
    assert_null(set.prompts[2].group);
    assert_int_equal(set.prompts[2].bytes, 3 + 2 + 7);
    prompt_set_clear(&set);
    assert_int_equal(set.len, 0);
}

static void digest_is_of_the_records(void **state)
{
    (void)state;
    struct prompt_set a, b, c;
    assert_int_equal(parse("{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n", NULL, &a, NULL), 0);
    assert_int_equal(parse("{\"prompt\":\"a\"}\r\n\n{\"prompt\":\"b\"}", NULL, &b, NULL), 0);
    assert_int_equal(parse("{\"prompt\":\"b\"}\n{\"prompt\":\"a\"}\n", NULL, &c, NULL), 0);
    assert_true(a.digest == b.digest);
    assert_true(a.digest != c.digest);
    prompt_set_clear(&a);
    prompt_set_clear(&b);
    prompt_set_clear(&c);
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
        int code;
    } rows[] = {
        {"", "p.jsonl:1: there are no prompts in it", ERR_SYNTAX},
        {"\n\n \r\n", "p.jsonl:1: there are no prompts in it", ERR_SYNTAX},
        {"{\"prompt\": \"a\"}\n[1]\n", "p.jsonl:2: a record must be a JSON object", ERR_SYNTAX},
        {"\n{\"prompt\": }", "p.jsonl:2: not valid JSON at byte 12: unexpected token near '}'", ERR_SYNTAX},
        {"{\"prompt\": \"a\"} {}", "p.jsonl:1: not valid JSON at byte 17: end of file expected near '{'", ERR_SYNTAX},
        {"{\"prompt\": \"a\", \"prompt\": \"b\"}",
         "p.jsonl:1: not valid JSON at byte 24: duplicate object key near '\"prompt\"'", ERR_SYNTAX},
        {"{\"prompt\": \"\xC3\"}", "p.jsonl:1: not valid JSON at byte 12: unable to decode byte 0xc3 near '\"'",
         ERR_SYNTAX},
        {"{\"prompt\": \"a\\u0000b\"}", "p.jsonl:1: a text with a NUL character; remove it", ERR_SYNTAX},
        {"{\"id\": \"a\"}", "p.jsonl:1: a record needs 'prompt' (text) or 'messages' (list)", ERR_SYNTAX},
        {"{\"prompt\": \"a\", \"messages\": []}", "p.jsonl:1: a record has either 'prompt' or 'messages', not both",
         ERR_SYNTAX},
        {"{\"prompt\": 5}", "p.jsonl:1: 'prompt' must be a text", ERR_SYNTAX},
        {"{\"messages\": []}", "p.jsonl:1: 'messages' must be a list of at least one message", ERR_SYNTAX},
        {"{\"messages\": {}}", "p.jsonl:1: 'messages' must be a list of at least one message", ERR_SYNTAX},
        {"{\"messages\": [{\"content\": \"a\"}]}", "p.jsonl:1: each of 'messages' must be an object with a text 'role'",
         ERR_SYNTAX},
        {"{\"messages\": [3]}", "p.jsonl:1: each of 'messages' must be an object with a text 'role'", ERR_SYNTAX},
        {"{\"messages\": [{\"role\": \"user\"}]}",
         "p.jsonl:1: 'content' of a message must be a text or a list of parts", ERR_SYNTAX},
        {"{\"messages\": [{\"role\": \"user\", \"content\": [\"a\"]}]}",
         "p.jsonl:1: each part of a message's 'content' must be an object", ERR_SYNTAX},
        {"{\"id\": 1.5, \"prompt\": \"a\"}", "p.jsonl:1: 'id' must be a text or a whole number", ERR_SYNTAX},
        {"{\"id\": \"\", \"prompt\": \"a\"}", "p.jsonl:1: 'id' is empty; leave it out to take the line's number",
         ERR_SYNTAX},
        {"{\"prompt\": \"a\", \"meta\": []}", "p.jsonl:1: 'meta' must be an object", ERR_SYNTAX},
        {"{\"prompt\": \"a\", \"meta\": {\"task\": []}}",
         "p.jsonl:1: the value in 'meta' to group by must be a text, number or boolean", ERR_SYNTAX},
        {"{\"id\": \"a\", \"prompt\": \"\"}\n\n{\"id\": \"b\", \"prompt\": \"\"}\n"
         "{\"id\": \"b\", \"prompt\": \"\"}\n{\"id\": \"a\", \"prompt\": \"\"}\n",
         "p.jsonl:4: id 'b' was used on line 3; ids must differ", ERR_CONFLICT},
        {"{\"id\": 2, \"prompt\": \"\"}\n{\"prompt\": \"\"}\n", "p.jsonl:2: id '2' was used on line 1; ids must differ",
         ERR_CONFLICT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct prompt_set set;
        struct error error = {""};
        int rc = parse(rows[i].text, "task", &set, &error);
        assert_string_equal(error.text, rows[i].message);
        assert_int_equal(rc, rows[i].code);
        assert_null(set.prompts);
    }
}

static void limits(void **state)
{
    (void)state;
    struct buf text = {0};
    struct prompt_set set;
    struct error error = {""};
    buf_puts(&text, "{\"prompt\": \"");
    memset(buf_grow(&text, LIMIT_PROMPT), 'a', LIMIT_PROMPT);
    text.len += LIMIT_PROMPT;
    buf_puts(&text, "\"}");
    assert_int_equal(parse_bytes(text.data, text.len, NULL, &set, &error), ERR_LIMIT);
    assert_string_equal(error.text, "p.jsonl:1: a record of 1048590 bytes; at most 1048576 are allowed");
    buf_clear(&text);
    buf_printf(&text, "{\"id\": \"%01100d\", \"prompt\": \"\"}", 0);
    assert_int_equal(parse_bytes(text.data, text.len, NULL, &set, &error), ERR_LIMIT);
    assert_string_equal(error.text, "p.jsonl:1: 'id' is longer than 1024 bytes; shorten it");
    buf_clear(&text);
    static const char nul[] = "{\"prompt\": \"a\0b\"}";
    assert_int_equal(parse_bytes(nul, sizeof nul - 1, NULL, &set, &error), ERR_SYNTAX);
    assert_string_equal(error.text, "p.jsonl:1: a NUL byte in the record; remove it");
    for (int i = 0; i < 100000; i++)
        buf_puts(&text, "[");
    assert_int_equal(parse_bytes(text.data, text.len, NULL, &set, &error), ERR_SYNTAX);
    buf_clear(&text);
}

static void many_prompts(void **state)
{
    (void)state;
    enum { MANY = 50000 };
    struct buf text = {0};
    struct prompt_set set;
    struct error error = {""};
    for (int i = 0; i < MANY; i++)
        buf_printf(&text, "{\"id\":\"q%d\",\"prompt\":\"what is %d + %d?\"}\n", i, i, i);
    assert_int_equal(parse_bytes(text.data, text.len, NULL, &set, &error), 0);
    assert_int_equal(set.len, MANY);
    assert_string_equal(set.prompts[MANY - 1].id, "q49999");
    prompt_set_clear(&set);
    buf_clear(&text);
}

static void files(void **state)
{
    (void)state;
    char folder[] = "/tmp/drover-test-XXXXXX", path[64], expect[160];
    char *text;
    size_t len;
    struct error error = {""};
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("hello", file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(file_read(path, 5, &text, &len, &error), 0);
    assert_int_equal(len, 5);
    assert_string_equal(text, "hello");
    free(text);
    assert_int_equal(file_read(path, 4, &text, &len, &error), ERR_LIMIT);
    snprintf(expect, sizeof expect, "%s: more than 4 bytes", path);
    assert_string_equal(error.text, expect);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(file_read(path, 4, &text, &len, &error), ERR_NOT_FOUND);
    snprintf(expect, sizeof expect, "%s: cannot be opened: No such file or directory", path);
    assert_string_equal(error.text, expect);
    assert_int_equal(file_read(folder, 4, &text, &len, &error), ERR_REFUSED);
    snprintf(expect, sizeof expect, "%s: is a folder; name a regular file", folder);
    assert_string_equal(error.text, expect);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(file_read(path, 4, &text, &len, &error), ERR_REFUSED);
    snprintf(expect, sizeof expect, "%s: is a FIFO; name a regular file", path);
    assert_string_equal(error.text, expect);
    assert_int_equal(file_read("/dev/zero", 4, &text, &len, &error), ERR_REFUSED);
    assert_null(text);
    unlink(path);
    rmdir(folder);
}

/* Lines ahead of the records hand over what these name; nothing else of the set depends on that. */
static void attachments(void **state)
{
    (void)state;
    char data[6001];
    memset(data, 'A', 6000);
    data[6000] = '\0';
    struct attachment one = {attachment_id_of(slice_of(data)), slice_of(data)};
    struct buf name = {0}, whole = {0}, apart = {0};
    attachment_name_put(&name, one.id);
    static const char record[] = "{\"messages\":[{\"role\":\"user\",\"content\":[{\"url\":\"data:x;base64,%s\"}]}]}\n";
    buf_printf(&whole, record, data);
    attachment_line_put(&apart, &one);
    attachment_line_put(&apart, &one);
    buf_printf(&apart, record, name.data);
    struct prompt_set a, b;
    struct error error = {""};
    assert_int_equal(parse(whole.data, NULL, &a, &error), 0);
    assert_int_equal(parse(apart.data, NULL, &b, &error), 0);
    assert_true(a.digest == b.digest);
    assert_string_equal(a.prompts[0].id, b.prompts[0].id); /* the number of its line */
    assert_int_equal(a.prompts[0].attached, 0);
    assert_int_equal(b.prompts[0].attached, 6000);
    assert_true(b.prompts[0].bytes >= a.prompts[0].bytes);
    assert_int_equal(HASH_COUNT(b.attachments), 1);
    prompt_set_clear(&a);
    prompt_set_clear(&b);
    buf_reset(&whole);
    buf_printf(&whole, record, name.data);
    assert_int_equal(parse(whole.data, NULL, &a, &error), ERR_REFUSED);
    assert_non_null(strstr(error.text, "p.jsonl:1: a text ends with 'attachment:"));
    apart.data[60] = 'B';
    assert_int_equal(parse(apart.data, NULL, &a, &error), ERR_SYNTAX);
    assert_string_equal(error.text, "p.jsonl:1: an attachment that is damaged: submit again");
    buf_clear(&name);
    buf_clear(&whole);
    buf_clear(&apart);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records),      cmocka_unit_test(digest_is_of_the_records),
        cmocka_unit_test(refused),      cmocka_unit_test(limits),
        cmocka_unit_test(many_prompts), cmocka_unit_test(files),
        cmocka_unit_test(attachments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
