/* test_conf.c - YAML into trees, rows, overrides; every error with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/conf.h"
#include "common/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_N, KEY_SHARE, KEY_ON, KEY_MODE, KEY_TEXT, KEY_LIST, KEY_MAP, KEY_ANY, KEY_BIG, KEYS };

static const struct conf_key keys[] = {
    {.name = "n", .type = CONF_INT, .min = 1, .max = 65536, .fallback = "8", .help = "count"},
    {.name = "share", .type = CONF_REAL, .min = -1, .max = 1e6, .fallback = "0.5", .unit = "parts"},
    {.name = "on", .type = CONF_BOOL, .fallback = "true"},
    {.name = "mode", .type = CONF_CHOICE, .fallback = "slow", .choices = "fast|slow"},
    {.name = "text", .type = CONF_TEXT, .max = 8, .fallback = ""},
    {.name = "list", .type = CONF_TEXTS, .fallback = ""},
    {.name = "map", .type = CONF_MAP, .fallback = "", .choices = "red|green"},
    {.name = "any", .type = CONF_NODE, .fallback = ""},
    {.name = "big", .type = CONF_INT, .max = 18446744073709551615.0, .fallback = "0"},
    {0},
};

static int read_keys(const char *text, struct conf *conf, struct conf_value values[KEYS], struct error *error)
{
    const struct conf_form form = {.what = "test", .keys = keys, .values = values};
    int rc = conf_parse(conf, slice_of(text), "t.yaml", error);
    return rc < 0 ? rc : conf_read(conf, conf->root, &form, error);
}

struct wrong {
    const char *text, *message;
    int code;
};

static void refuse_all(const struct wrong *rows, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        struct conf conf;
        struct conf_value values[KEYS];
        struct error error = {""};
        int rc = read_keys(rows[i].text, &conf, values, &error);
        conf_clear(&conf);
        assert_string_equal(error.text, rows[i].message);
        assert_int_equal(rc, rows[i].code);
    }
}

static void defaults_apply(void **state)
{
    (void)state;
    static const char *const texts[] = {"",  "# only\n\n# comments\n", "---\n",
                                        "~", "\xEF\xBB\xBF",           "n:\nshare: ~\non: null\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct conf conf;
        struct conf_value v[KEYS];
        assert_int_equal(read_keys(texts[i], &conf, v, NULL), 0);
        assert_false(v[KEY_N].given);
        assert_int_equal(v[KEY_N].whole, 8);
        assert_true(v[KEY_SHARE].number == 0.5);
        assert_int_equal(v[KEY_ON].whole, 1);
        assert_int_equal(v[KEY_MODE].whole, 1);
        assert_string_equal(v[KEY_MODE].text, "slow");
        assert_null(v[KEY_TEXT].text);
        assert_int_equal(v[KEY_LIST].items_len, 0);
        conf_clear(&conf);
    }
}

static void values_are_read(void **state)
{
    (void)state;
    struct conf conf;
    struct conf_value v[KEYS];
    struct error error = {""};
    const char *text = "\xEF\xBB\xBFn: 1.5e3\r\nshare: -.5\r\non: false\r\nmode: fast\r\n"
                       "text: \"12\"\r\nlist: [a, 'b', 3]\r\nmap: {red: x}\r\nany: [[]]\r\n"
                       "big: 18446744073709551615\r\n";
    assert_int_equal(read_keys(text, &conf, v, &error), 0);
    assert_int_equal(v[KEY_N].whole, 1500);
    assert_true(v[KEY_SHARE].number == -0.5);
    assert_int_equal(v[KEY_ON].whole, 0);
    assert_int_equal(v[KEY_MODE].whole, 0);
    assert_string_equal(v[KEY_TEXT].text, "12");
    assert_int_equal(v[KEY_LIST].items_len, 3);
    assert_string_equal(v[KEY_LIST].items->next->next->text, "3");
    assert_string_equal(v[KEY_MAP].items->key, "red");
    assert_int_equal(v[KEY_ANY].node->kind, CONF_KIND_LIST);
    assert_true(v[KEY_BIG].whole == UINT64_MAX);
    conf_clear(&conf);
    assert_int_equal(read_keys("list: one", &conf, v, &error), 0);
    assert_int_equal(v[KEY_LIST].items_len, 1);
    conf_clear(&conf);
}

static void whole_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {{"1", 1},      {"+7", 7},        {"1e3", 1000}, {"1E+3", 1000}, {"1.5e1", 15},
                {"100e-2", 1}, {"65536", 65536}, {"0.5e1", 5},  {".5e1", 5}};
    static const char *const bad[] = {"12x", "1.5",  "1.0",  "1_000",    "0x10", "010",  "1e",
                                      "e3",  "1e-1", "nan",  ".inf",     "inf",  "--1",  "1 2",
                                      "+",   ".",    "1e9x", "1e400000", "'5'",  "true", "[1]"};
    for (size_t i = 0; i < sizeof good / sizeof good[0] + sizeof bad / sizeof bad[0]; i++) {
        size_t wrong = sizeof good / sizeof good[0];
        struct conf conf;
        struct conf_value v[KEYS];
        char text[64];
        snprintf(text, sizeof text, "n: %s\n", i < wrong ? good[i].text : bad[i - wrong]);
        int rc = read_keys(text, &conf, v, NULL);
        if (rc != (i < wrong ? 0 : ERR_SYNTAX))
            fail_msg("%s gives %d", text, rc);
        if (i < wrong)
            assert_int_equal(v[KEY_N].whole, good[i].value);
        conf_clear(&conf);
    }
}

static void wrong_values(void **state)
{
    (void)state;
    static const struct wrong rows[] = {
        {"n: 12x", "t.yaml:1:4: 'n' must be a whole number from 1 to 65536, not '12x'", ERR_SYNTAX},
        {"n: \"8\"",
         "t.yaml:1:4: 'n' must be a whole number from 1 to 65536, not the text '8' (leave out the "
         "quotes)",
         ERR_SYNTAX},
        {"\n\n  n: 0", "t.yaml:3:6: 'n' must be a whole number from 1 to 65536, not '0'", ERR_RANGE},
        {"n: -1", "t.yaml:1:4: 'n' must be a whole number from 1 to 65536, not '-1'", ERR_RANGE},
        {"n: [8]", "t.yaml:1:4: 'n' must be a whole number from 1 to 65536, not a list", ERR_SYNTAX},
        {"big: 18446744073709551616",
         "t.yaml:1:6: 'big' must be a whole number from 0 to 18446744073709551615, not "
         "'18446744073709551616'",
         ERR_SYNTAX},
        {"share: .nan", "t.yaml:1:8: 'share' must be a number from -1 to 1000000 (parts), not '.nan'", ERR_SYNTAX},
        {"share: 1e999", "t.yaml:1:8: 'share' must be a number from -1 to 1000000 (parts), not '1e999'", ERR_SYNTAX},
        {"on: yes", "t.yaml:1:5: 'on' must be true or false, not 'yes'", ERR_SYNTAX},
        {"mode: fats", "t.yaml:1:7: 'mode' cannot be 'fats'; did you mean 'fast'?", ERR_NOT_FOUND},
        {"mode: purple", "t.yaml:1:7: 'mode' cannot be 'purple'; known are fast, slow", ERR_NOT_FOUND},
        {"mode: {}", "t.yaml:1:7: 'mode' must be one of fast, slow, not a map", ERR_SYNTAX},
        {"text: 123456789", "t.yaml:1:7: 'text' has 9 bytes; at most 8 are allowed", ERR_LIMIT},
        {"text: {a: b}", "t.yaml:1:7: 'text' must be text, not a map", ERR_SYNTAX},
        {"list: [a, [b]]", "t.yaml:1:11: 'list' must be text, not a list", ERR_SYNTAX},
        {"list: [a, ~]", "t.yaml:1:11: 'list' must be text, not nothing", ERR_SYNTAX},
        {"list: [1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7]", "t.yaml:1:7: 'list' has 17 entries; at most 16 are allowed",
         ERR_LIMIT},
        {"map: {read: x}", "t.yaml:1:7: unknown key 'read' in 'map'; did you mean 'red'?", ERR_NOT_FOUND},
        {"map: []", "t.yaml:1:6: 'map' must be a map of at most 16 texts, not a list", ERR_SYNTAX},
        {"moed: fast", "t.yaml:1:1: unknown key 'moed' in the test; did you mean 'mode'?", ERR_NOT_FOUND},
        {"n: 1\n  \nwholly: 1\n",
         "t.yaml:3:1: unknown key 'wholly' in the test; known are n, share, on, mode, text, list, "
         "map, any, big",
         ERR_NOT_FOUND},
        {"- n: 1", "t.yaml:1:1: the test must be a map of keys and values, not a list", ERR_SYNTAX},
        {"hello", "t.yaml:1:1: the test must be a map of keys and values", ERR_SYNTAX},
    };
    refuse_all(rows, sizeof rows / sizeof rows[0]);
}

static void wrong_yaml(void **state)
{
    (void)state;
    static const struct wrong rows[] = {
        {"n: 1\nn: 2", "t.yaml:2:1: key 'n' is given twice; it was first on line 1", ERR_CONFLICT},
        {"any: &a [1]", "t.yaml:1:6: anchors (&a) are not allowed; write the value out", ERR_SYNTAX},
        {"any: *a", "t.yaml:1:6: aliases (*a) are not allowed; write the value out", ERR_SYNTAX},
        {"n: !!int 5", "t.yaml:1:4: tags (tag:yaml.org,2002:int) are not allowed; leave it out", ERR_SYNTAX},
        {"n: ! 5", "t.yaml:1:4: tags (!) are not allowed; leave it out", ERR_SYNTAX},
        {"n: 1\n---\nn: 2", "t.yaml:2:1: a second document starts here; only one is allowed", ERR_SYNTAX},
        {"? [a]\n: b", "t.yaml:1:3: a key must be a word", ERR_SYNTAX},
        {"\"\": b", "t.yaml:1:1: a key must be a word", ERR_SYNTAX},
        {"any:\n\t- 1",
         "t.yaml:2:1: not valid YAML: a value cannot start here; indent with spaces, not tabs, and "
         "put quotes around special characters",
         ERR_SYNTAX},
        {"any: [1, 2",
         "t.yaml:2:1: not valid YAML: did not find expected ',' or ']' while parsing a flow "
         "sequence",
         ERR_SYNTAX},
        {"any: \"abc",
         "t.yaml:1:10: not valid YAML: found unexpected end of stream while scanning a quoted "
         "scalar",
         ERR_SYNTAX},
        {"a: b: c", "t.yaml:1:5: not valid YAML: mapping values are not allowed in this context", ERR_SYNTAX},
        {"text: a\xC3",
         "t.yaml:1:8: byte 0xC3 starts no character that YAML allows; save the file "
         "as UTF-8",
         ERR_SYNTAX},
        {"#\xC3\xA4\n\xED\xA0\x80",
         "t.yaml:2:1: byte 0xED starts no character that YAML allows; save the file as UTF-8", ERR_SYNTAX},
        {"text: \x01", "t.yaml:1:7: control character 0x01; remove it or write it as an escape", ERR_SYNTAX},
        {"# x\n%TAG !a! b", "t.yaml:2:1: a line must not start with '%': directives are not allowed", ERR_SYNTAX},
        {"text: \"a\\0b\"", "t.yaml:1:7: a text with a NUL character; remove it", ERR_SYNTAX},
        {"mode: \"\\x1b[2J\"", "t.yaml:1:7: 'mode' cannot be '?[2J'; known are fast, slow", ERR_NOT_FOUND},
    };
    refuse_all(rows, sizeof rows / sizeof rows[0]);
}

static void refuse_long(const char *unit, size_t times, const char *message)
{
    struct buf text = {0};
    struct conf conf;
    struct error error = {""};
    for (size_t i = 0; i < times; i++)
        buf_puts(&text, unit);
    assert_true(conf_parse(&conf, buf_slice(&text), "t.yaml", &error) < 0);
    assert_string_equal(error.text, message);
    conf_clear(&conf);
    buf_clear(&text);
}

static void limits_hold(void **state)
{
    (void)state;
    refuse_long("[", 100000, "t.yaml:1:33: nested more than 32 deep");
    refuse_long("{a: ", 100000, "t.yaml:1:129: nested more than 32 deep");
    refuse_long("- ", 100000, "t.yaml:1:65: nested more than 32 deep");
    refuse_long("a", 1 << 20, "t.yaml:1:1: a text of 1048576 bytes; at most 65536 are allowed");
    refuse_long("a", (1 << 20) + 1, "t.yaml:1:1: 1048577 bytes; at most 1048576 are allowed");
    struct buf text = {0};
    struct conf conf;
    struct error error = {""};
    for (int i = 0; i < 1025; i++)
        buf_printf(&text, "k%d: 1\n", i);
    assert_int_equal(conf_parse(&conf, buf_slice(&text), "t.yaml", &error), ERR_LIMIT);
    assert_string_equal(error.text, "t.yaml:1025:1: more than 1024 keys in one map");
    conf_clear(&conf);
    buf_clear(&text);
    assert_int_equal(conf_parse(&conf, (struct slice){"n: 1\0", 5}, "t.yaml", &error), ERR_SYNTAX);
    assert_string_equal(error.text, "t.yaml:1:5: control character 0x00; remove it or write it as an escape");
    conf_clear(&conf);
}

static void required_keys(void **state)
{
    (void)state;
    static const struct conf_key needed[] = {{.name = "path", .type = CONF_TEXT, .help = "where it is"}, {0}};
    struct conf conf;
    struct conf_value value;
    struct error error = {""};
    const struct conf_form form = {.what = "test", .keys = needed, .values = &value};
    assert_int_equal(conf_parse(&conf, slice_of("\na: {}"), "t.yaml", &error), 0);
    assert_int_equal(conf_read(&conf, conf.root->first, &form, &error), ERR_NOT_FOUND);
    assert_string_equal(error.text, "t.yaml:2:4: the test needs 'path': where it is");
    assert_int_equal(conf_read(&conf, NULL, &form, &error), ERR_NOT_FOUND);
    assert_string_equal(error.text, "t.yaml:2:1: the test needs 'path': where it is");
    conf_clear(&conf);
}

static void options_are_read(void **state)
{
    (void)state;
    static const struct option_row rows[] = {{"rate", OPTION_REAL, 0, 1, 0.25, NULL, "share"},
                                             {"rule", OPTION_CHOICE, 0, 0, 1, "a|b|c", "rule"},
                                             {"on", OPTION_BOOL, 0, 1, 1, NULL, "on"},
                                             {"words", OPTION_LIST, 0, 0, 0, NULL, "words"},
                                             {0}};
    struct conf conf;
    struct conf_value v[4];
    struct error error = {""};
    const struct conf_form form = {.what = "policy 'x'", .options = rows, .option_values = v};
    assert_int_equal(conf_parse(&conf, slice_of("{rule: c, words: w}"), "t.yaml", &error), 0);
    assert_int_equal(conf_read(&conf, conf.root, &form, &error), 0);
    assert_true(v[0].number == 0.25);
    assert_true(v[1].number == 2);
    assert_true(v[2].number == 1);
    assert_int_equal(v[3].items_len, 1);
    conf_clear(&conf);
    assert_int_equal(conf_parse(&conf, slice_of("{rate: 2, words: w}"), "t.yaml", &error), 0);
    assert_int_equal(conf_read(&conf, conf.root, &form, &error), ERR_RANGE);
    assert_string_equal(error.text, "t.yaml:1:8: 'rate' must be a number from 0 to 1, not '2'");
    conf_clear(&conf);
    struct buf help = {0};
    conf_print_options(rows, &help);
    assert_non_null(strstr(help.data, "one of a, b, c"));
    assert_non_null(strstr(help.data, "default b"));
    assert_non_null(strstr(help.data, "required"));
    buf_clear(&help);
}

static const char base[] = "arms:\n- {name: a.b, n: 1}\n- {name: a, n: 2}\ntop: {x: 1}\nlist: [1]\n";

static void overrides_apply(void **state)
{
    (void)state;
    static const char *const overrides[] = {
        "arms.a.b.n=8", "arms.a.n=9",     "top.x={beta: {threshold: 0.9}}", "top.y.z=text with = in it", "new.deep=[1]",
        "arms.a.b.m=",  "budget.tokens=7"};
    struct conf conf;
    struct error error = {""};
    assert_int_equal(conf_parse(&conf, slice_of(base), "t.yaml", &error), 0);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(conf_override(&conf, overrides[i], i == 6 ? "sweep" : NULL, &error), 0);
    const struct conf_node *arms = conf_get(conf.root, "arms"), *top = conf_get(conf.root, "top");
    assert_string_equal(conf_get(arms->first, "n")->text, "8");
    assert_string_equal(conf_get(arms->last, "n")->text, "9");
    assert_null(conf_get(arms->first, "m"));
    assert_string_equal(conf_get(conf_get(conf_get(top, "x"), "beta"), "threshold")->text, "0.9");
    assert_string_equal(conf_get(conf_get(top, "y"), "z")->text, "text with = in it");
    assert_int_equal(conf_get(conf_get(conf.root, "new"), "deep")->len, 1);
    assert_string_equal(conf_get(conf_get(conf_get(conf.root, "sweep"), "budget"), "tokens")->text, "7");
    conf_clear(&conf);
}

static void overrides_refused(void **state)
{
    (void)state;
    static const struct {
        const char *override, *message;
    } rows[] = {
        {"n", "override 'n': write it as KEY=VALUE, like arms.NAME.n=8"},
        {"=1", "override '=1': write it as KEY=VALUE, like arms.NAME.n=8"},
        {"a.=1", "override 'a.=1': write it as KEY=VALUE, like arms.NAME.n=8"},
        {"a..b=1", "override 'a..b=1': the key has an empty or too many parts; write it like "
                   "arms.NAME.n=8"},
        {"arms.zz.n=1", "override 'arms.zz.n=1': nothing in the list is named 'zz'; known are a.b, a"},
        {"arms.ac.n=1", "override 'arms.ac.n=1': nothing in the list is named 'ac'; did you mean "
                        "'a'?"},
        {"arms.a=1", "override 'arms.a=1': 'a' is a map; write which of its keys is set, like "
                     "arms.NAME.n=8"},
        {"list.x=1", "override 'list.x=1': nothing in the list is named 'x'"},
        {"top.x.y=1", "override 'top.x.y=1': 'x' is not a map, so 'y' cannot be set in it"},
        {"top.x=[1", "override 'top.x=[1': not valid YAML: did not find expected ',' or ']' while "
                     "parsing a flow sequence"},
        {"top.x=*a", "override 'top.x=*a': aliases (*a) are not allowed; write the value out"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct conf conf;
        struct error error = {""};
        assert_int_equal(conf_parse(&conf, slice_of(base), "t.yaml", &error), 0);
        assert_true(conf_override(&conf, rows[i].override, NULL, &error) < 0);
        assert_string_equal(error.text, rows[i].message);
        conf_clear(&conf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_apply),    cmocka_unit_test(values_are_read),  cmocka_unit_test(whole_numbers),
        cmocka_unit_test(wrong_values),      cmocka_unit_test(wrong_yaml),       cmocka_unit_test(limits_hold),
        cmocka_unit_test(required_keys),     cmocka_unit_test(options_are_read), cmocka_unit_test(overrides_apply),
        cmocka_unit_test(overrides_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
