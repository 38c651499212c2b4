/* conf_read.c - rows of keys and options against a tree: types, ranges, defaults, suggestions,
 * help; see conf.h. */
#include "common/conf.h"
#include "common/limits.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXTS_MAX 16

/* ---- suggestions ---- */

#define WORD_MAX 64

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Edit distance in which a swap of neighbours is one edit (Damerau 1964, restricted). */
static size_t distance(const char *a, const char *b)
{
    size_t rows[3][WORD_MAX + 1], a_len = strlen(a), b_len = strlen(b);
    if (a_len > WORD_MAX || b_len > WORD_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t *row = rows[i % 3], *above = rows[(i - 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], rows[(i - 2) % 3][j - 2] + 1);
        }
    }
    return rows[a_len % 3][b_len];
}

void conf_near_init(struct conf_near *near, const char *word)
{
    *near = (struct conf_near){.word = word, .distance = SIZE_MAX};
}

void conf_near_try(struct conf_near *near, const char *candidate)
{
    size_t edits = distance(near->word, candidate);
    if (edits < near->distance) {
        near->distance = edits;
        near->best = candidate;
    }
    size_t room = sizeof near->text - near->len;
    int len = snprintf(near->text + near->len, room, "%s%s", near->len == 0 ? "; known are " : ", ", candidate);
    if ((size_t)len < room)
        near->len += (size_t)len;
    else
        snprintf(near->text + near->len, room, "%s", room > 4 ? " ..." : "");
}

const char *conf_near_text(struct conf_near *near)
{
    if (near->best != NULL && near->distance <= (strlen(near->word) + 2) / 3)
        snprintf(near->text, sizeof near->text, "; did you mean '%s'?", near->best);
    return near->text;
}

/* ---- numbers ---- */

struct decimal {
    bool negative, point, power;
    const char *digits; /* before the point */
    size_t whole_len, fraction_len;
    int exponent;
};

static size_t digits_len(const char *text)
{
    return strspn(text, "0123456789");
}

/* [+-] digits [. digits] [e [+-] digits], no leading zeros. */
static bool decimal_scan(const char *text, struct decimal *number)
{
    *number = (struct decimal){.negative = *text == '-'};
    text += *text == '-' || *text == '+';
    number->digits = text;
    number->whole_len = digits_len(text);
    if (number->whole_len > 1 && *text == '0')
        return false;
    text += number->whole_len;
    if (*text == '.') {
        number->point = true;
        number->fraction_len = digits_len(++text);
        text += number->fraction_len;
    }
    if (number->whole_len + number->fraction_len == 0)
        return false;
    if (*text == 'e' || *text == 'E') {
        number->power = true;
        bool negative = *++text == '-';
        text += *text == '-' || *text == '+';
        size_t len = digits_len(text);
        if (len == 0 || len > 5)
            return false;
        number->exponent = negative ? -atoi(text) : atoi(text);
        text += len;
    }
    return *text == '\0';
}

/* Exact: 1.5e3 is 1500, while 1.5, 1.0 and what 64 bits cannot hold are refused. */
static bool decimal_whole(const struct decimal *number, uint64_t *out)
{
    if (number->point && !number->power)
        return false;
    uint64_t value = 0;
    size_t len = number->whole_len + number->point + number->fraction_len;
    for (size_t i = 0; i < len; i++) {
        if (number->digits[i] == '.')
            continue;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(number->digits[i] - '0'), &value))
            return false;
    }
    long shift = number->exponent - (long)number->fraction_len;
    for (; shift > 0 && value > 0; shift--)
        if (__builtin_mul_overflow(value, 10, &value))
            return false;
    for (; shift < 0 && value > 0; shift++, value /= 10)
        if (value % 10 != 0)
            return false;
    *out = value;
    return true;
}

static bool scan_int(const char *text, struct conf_value *value)
{
    struct decimal number;
    if (!decimal_scan(text, &number) || !decimal_whole(&number, &value->whole))
        return false;
    value->number = number.negative ? -(double)value->whole : (double)value->whole;
    return true;
}

static bool scan_real(const char *text, struct conf_value *value)
{
    struct decimal number;
    if (!decimal_scan(text, &number))
        return false;
    value->number = strtod(text, NULL);
    return isfinite(value->number);
}

static bool scan_bool(const char *text, struct conf_value *value)
{
    value->whole = strcmp(text, "true") == 0;
    value->number = (double)value->whole;
    return value->whole == 1 || strcmp(text, "false") == 0;
}

/* Position of text in "a|b|c". */
static bool choice_index(const char *choices, const char *text, uint64_t *index)
{
    size_t len = strlen(text);
    *index = 0;
    for (const char *word = choices; word != NULL; (*index)++) {
        size_t word_len = strcspn(word, "|");
        if (word_len == len && memcmp(word, text, len) == 0)
            return true;
        word = word[word_len] == '|' ? word + word_len + 1 : NULL;
    }
    return false;
}

static const char *choice_near(struct conf_near *near, const char *word, const char *choices, char *copy,
                               size_t copy_size)
{
    conf_near_init(near, word);
    snprintf(copy, copy_size, "%s", choices);
    for (char *save = NULL, *choice = strtok_r(copy, "|", &save); choice != NULL; choice = strtok_r(NULL, "|", &save))
        conf_near_try(near, choice);
    return conf_near_text(near);
}

/* ---- what a row wants ---- */

static void print_number(struct buf *out, double value)
{
    if (value == 18446744073709551616.0) /* the double nearest to the largest uint64_t */
        buf_puts(out, "18446744073709551615");
    else if (fabs(value) < 1e7 && floor(value) == value)
        buf_printf(out, "%.0f", value);
    else
        buf_printf(out, "%g", value);
}

static void print_choices(struct buf *out, const char *choices)
{
    for (; *choices != '\0'; choices++)
        if (*choices == '|')
            buf_puts(out, ", ");
        else
            buf_put(out, choices, 1);
}

/* "a whole number from 1 to 8 (seconds)" */
static void print_wanted(struct buf *out, const struct conf_key *key)
{
    static const char *const nouns[] = {
        [CONF_INT] = "a whole number",
        [CONF_REAL] = "a number",
        [CONF_BOOL] = "true or false",
        [CONF_CHOICE] = "one of ",
        [CONF_TEXT] = "text",
        [CONF_TEXTS] = "text or a list of at most 16 texts",
        [CONF_MAP] = "a map of at most 16 texts",
        [CONF_NODE] = "as described",
    };
    buf_puts(out, nouns[key->type]);
    if (key->type == CONF_INT || key->type == CONF_REAL) {
        buf_puts(out, " from ");
        print_number(out, key->min);
        buf_puts(out, " to ");
        print_number(out, key->max);
    }
    if (key->type == CONF_CHOICE)
        print_choices(out, key->choices);
    if (key->unit != NULL)
        buf_printf(out, " (%s)", key->unit);
}

static void print_got(struct buf *out, const struct conf_node *node, enum conf_type type)
{
    static const char *const kinds[] = {
        [CONF_KIND_NULL] = "nothing", [CONF_KIND_LIST] = "a list", [CONF_KIND_MAP] = "a map"};
    bool scalar_wanted = type == CONF_INT || type == CONF_REAL || type == CONF_BOOL;
    if (node->kind != CONF_KIND_SCALAR)
        buf_puts(out, kinds[node->kind]);
    else if (!node->plain && scalar_wanted)
        buf_printf(out, "the text '%.40s' (leave out the quotes)", node->text);
    else
        buf_printf(out, "'%.40s'%s", node->text, strlen(node->text) > 40 ? "..." : "");
}

static int wrong_value(const struct conf *conf, const struct conf_node *node, const struct conf_key *key, int code,
                       struct error *error)
{
    struct buf wanted = {0}, got = {0};
    print_wanted(&wanted, key);
    print_got(&got, node, key->type);
    conf_error(conf, node->mark, error, code, "'%s' must be %s, not %s", key->name, wanted.data, got.data);
    buf_clear(&wanted);
    buf_clear(&got);
    return code;
}

/* ---- one value ---- */

static int read_number(const struct conf *conf, const struct conf_node *node, const struct conf_key *key,
                       struct conf_value *value, struct error *error)
{
    bool scanned = node->kind == CONF_KIND_SCALAR && node->plain &&
                   (key->type == CONF_INT    ? scan_int(node->text, value)
                    : key->type == CONF_REAL ? scan_real(node->text, value)
                                             : scan_bool(node->text, value));
    if (!scanned)
        return wrong_value(conf, node, key, ERR_SYNTAX, error);
    if (key->type != CONF_BOOL && (value->number < key->min || value->number > key->max))
        return wrong_value(conf, node, key, ERR_RANGE, error);
    return 0;
}

static int read_choice(const struct conf *conf, const struct conf_node *node, const struct conf_key *key,
                       struct conf_value *value, struct error *error)
{
    if (node->kind != CONF_KIND_SCALAR)
        return wrong_value(conf, node, key, ERR_SYNTAX, error);
    value->text = node->text;
    if (choice_index(key->choices, node->text, &value->whole))
        return 0;
    struct conf_near near;
    char copy[256];
    return conf_error(conf, node->mark, error, ERR_NOT_FOUND, "'%s' cannot be '%.40s'%s", key->name, node->text,
                      choice_near(&near, node->text, key->choices, copy, sizeof copy));
}

static int read_text(const struct conf *conf, const struct conf_node *node, const struct conf_key *key,
                     struct conf_value *value, struct error *error)
{
    if (node->kind != CONF_KIND_SCALAR)
        return wrong_value(conf, node, key, ERR_SYNTAX, error);
    size_t max = key->max > 0 ? (size_t)key->max : LIMIT_CONF_SCALAR;
    if (strlen(node->text) > max)
        return conf_error(conf, node->mark, error, ERR_LIMIT, "'%s' has %zu bytes; at most %zu are allowed", key->name,
                          strlen(node->text), max);
    value->text = node->text;
    return 0;
}

static int read_map_key(const struct conf *conf, const struct conf_node *item, const struct conf_key *key,
                        struct error *error)
{
    uint64_t index;
    if (item->key == NULL || key->choices == NULL || *key->choices == '\0' ||
        choice_index(key->choices, item->key, &index))
        return 0;
    struct conf_near near;
    char copy[256];
    return conf_error(conf, item->key_mark, error, ERR_NOT_FOUND, "unknown key '%s' in '%s'%s", item->key, key->name,
                      choice_near(&near, item->key, key->choices, copy, sizeof copy));
}

/* Lists and maps of texts. */
static int read_items(const struct conf *conf, const struct conf_node *node, const struct conf_key *key,
                      struct conf_value *value, struct error *error)
{
    bool one = key->type == CONF_TEXTS && node->kind == CONF_KIND_SCALAR;
    enum conf_kind wanted = key->type == CONF_TEXTS ? CONF_KIND_LIST : CONF_KIND_MAP;
    if (!one && node->kind != wanted)
        return wrong_value(conf, node, key, ERR_SYNTAX, error);
    value->items = one ? node : node->first;
    value->items_len = one ? 1 : node->len;
    if (value->items_len > TEXTS_MAX)
        return conf_error(conf, node->mark, error, ERR_LIMIT, "'%s' has %u entries; at most %d are allowed", key->name,
                          value->items_len, TEXTS_MAX);
    const struct conf_node *item = value->items;
    for (uint32_t i = 0; i < value->items_len; i++, item = item->next) {
        struct conf_value ignored = {0};
        const struct conf_key text = {.name = item->key == NULL || one ? key->name : item->key, .type = CONF_TEXT};
        int rc = one ? 0 : read_map_key(conf, item, key, error);
        if (rc == 0)
            rc = read_text(conf, item, &text, &ignored, error);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int conf_read_value(const struct conf *conf, const struct conf_node *node, const struct conf_key *key,
                    struct conf_value *value, struct error *error)
{
    *value = (struct conf_value){.given = true, .node = node};
    switch (key->type) {
    case CONF_INT:
    case CONF_REAL:
    case CONF_BOOL:
        return read_number(conf, node, key, value, error);
    case CONF_CHOICE:
        return read_choice(conf, node, key, value, error);
    case CONF_TEXT:
        return read_text(conf, node, key, value, error);
    case CONF_TEXTS:
    case CONF_MAP:
        return read_items(conf, node, key, value, error);
    case CONF_NODE:
        return 0;
    }
    return 0;
}

/* ---- one map ---- */

/* Defaults stand in our own tables: a wrong one is our fault, so it is asserted. */
static void value_default(const struct conf_key *key, struct conf_value *value)
{
    *value = (struct conf_value){0};
    assert(key->fallback != NULL);
    if (*key->fallback == '\0')
        return;
    value->text = key->fallback;
    bool valid = true;
    if (key->type == CONF_INT)
        valid = scan_int(key->fallback, value);
    else if (key->type == CONF_REAL)
        valid = scan_real(key->fallback, value);
    else if (key->type == CONF_BOOL)
        valid = scan_bool(key->fallback, value);
    else if (key->type == CONF_CHOICE)
        valid = choice_index(key->choices, key->fallback, &value->whole);
    assert(valid);
}

/* An option's row as a key's row. Its default is a number, or stands in choices (see
 * common/kinds.c). */
static struct conf_key key_of_option(const struct option_row *option)
{
    static const enum conf_type types[] = {
        [OPTION_INT] = CONF_INT,   [OPTION_REAL] = CONF_REAL,  [OPTION_BOOL] = CONF_BOOL, [OPTION_CHOICE] = CONF_CHOICE,
        [OPTION_TEXT] = CONF_TEXT, [OPTION_LIST] = CONF_TEXTS, [OPTION_MAP] = CONF_MAP,
    };
    bool texts = option->type == OPTION_TEXT || option->type == OPTION_LIST;
    return (struct conf_key){
        .name = option->name,
        .type = types[option->type],
        .min = option->min,
        .max = option->max,
        .fallback = texts                                                   ? option->choices
                    : option->type == OPTION_MAP && option->choices == NULL ? NULL
                                                                            : "",
        .choices = texts ? NULL : option->choices,
        .help = option->help,
    };
}

static void option_default(const struct option_row *option, struct conf_value *value)
{
    *value = (struct conf_value){.number = option->fallback};
    if (option->type == OPTION_TEXT && option->choices != NULL && *option->choices != '\0')
        value->text = option->choices;
    if (option->type == OPTION_INT || option->type == OPTION_BOOL || option->type == OPTION_CHOICE)
        value->whole = option->fallback > 0 ? (uint64_t)option->fallback : 0;
}

static bool form_knows(const struct conf_form *form, const char *name, struct conf_near *near)
{
    for (const struct conf_key *key = form->keys; key != NULL && key->name != NULL; key++) {
        if (strcmp(key->name, name) == 0)
            return true;
        conf_near_try(near, key->name);
    }
    for (const struct option_row *row = form->options; row != NULL && row->name != NULL; row++) {
        if (strcmp(row->name, name) == 0)
            return true;
        conf_near_try(near, row->name);
    }
    return false;
}

static int check_keys(const struct conf *conf, const struct conf_node *map, const struct conf_form *form,
                      struct error *error)
{
    if (map->kind != CONF_KIND_MAP)
        return conf_error(conf, map->mark, error, ERR_SYNTAX, "the %s must be a map of keys and values%s", form->what,
                          map->kind == CONF_KIND_LIST ? ", not a list" : "");
    for (const struct conf_node *child = map->first; child != NULL; child = child->next) {
        struct conf_near near;
        conf_near_init(&near, child->key);
        if (!form_knows(form, child->key, &near))
            return conf_error(conf, child->key_mark, error, ERR_NOT_FOUND, "unknown key '%.60s' in the %s%s",
                              child->key, form->what, near.len == 0 ? "; it takes none" : conf_near_text(&near));
    }
    return 0;
}

static int missing_key(const struct conf *conf, const struct conf_node *map, const struct conf_form *form,
                       const struct conf_key *key, struct error *error)
{
    struct conf_mark mark = map != NULL ? map->mark : form->at.line > 0 ? form->at : conf->root->mark;
    return conf_error(conf, mark, error, ERR_NOT_FOUND, "the %s needs '%s': %s", form->what, key->name, key->help);
}

static int read_option(const struct conf *conf, const struct conf_node *map, const struct conf_form *form, size_t i,
                       struct error *error)
{
    const struct conf_key key = key_of_option(&form->options[i]);
    struct conf_value *value = &form->option_values[i];
    const struct conf_node *node = conf_get(map, key.name);
    int rc = 0;
    if (node != NULL)
        rc = conf_read_value(conf, node, &key, value, error);
    else if (key.fallback == NULL)
        rc = missing_key(conf, map, form, &key, error);
    else
        option_default(&form->options[i], value);
    if (key.type == CONF_CHOICE)
        value->number = (double)value->whole;
    return rc;
}

/* The choice that a row counts under. */
static const struct conf_key *choice_above(const struct conf_key *key)
{
    while (key->type != CONF_CHOICE)
        key--;
    return key;
}

static bool counts(const struct conf_form *form, const struct conf_key *key)
{
    uint64_t index;
    return key->of == NULL || choice_index(key->of, form->values[choice_above(key) - form->keys].text, &index);
}

/* What is given and would count for nothing. */
static int check_counts(const struct conf *conf, const struct conf_form *form, struct error *error)
{
    const struct conf_key *key = form->keys;
    while (key != NULL && key->name != NULL && (counts(form, key) || !form->values[key - form->keys].given))
        key++;
    if (key == NULL || key->name == NULL)
        return 0;
    const struct conf_key *choice = choice_above(key);
    struct buf others = {0};
    for (const struct conf_key *other = form->keys; other->name != NULL; other++)
        if (counts(form, other))
            buf_printf(&others, "%s%s", others.len > 0 ? ", " : "", other->name);
    int rc = conf_error(conf, form->values[key - form->keys].node->key_mark, error, ERR_CONFLICT,
                        "'%s' counts for nothing where '%s' is '%s'; then the %s takes %s", key->name, choice->name,
                        form->values[choice - form->keys].text, form->what, others.data);
    buf_clear(&others);
    return rc;
}

int conf_read(const struct conf *conf, const struct conf_node *map, const struct conf_form *form, struct error *error)
{
    bool empty = map == NULL || map->kind == CONF_KIND_NULL;
    int rc = empty ? 0 : check_keys(conf, map, form, error);
    for (size_t i = 0; rc == 0 && form->keys != NULL && form->keys[i].name != NULL; i++) {
        const struct conf_key *key = &form->keys[i];
        const struct conf_node *node = conf_get(map, key->name);
        if (node != NULL)
            rc = conf_read_value(conf, node, key, &form->values[i], error);
        else if (key->fallback == NULL)
            rc = missing_key(conf, map, form, key, error);
        else
            value_default(key, &form->values[i]);
    }
    if (rc == 0)
        rc = check_counts(conf, form, error);
    for (size_t i = 0; rc == 0 && form->options != NULL && form->options[i].name != NULL; i++)
        rc = read_option(conf, map, form, i, error);
    return rc;
}

/* ---- help ---- */

static void print_row(struct buf *out, const struct conf_key *key)
{
    buf_printf(out, "  %-16s ", key->name);
    if (key->type != CONF_NODE) { /* of which the help says all */
        print_wanted(out, key);
        buf_printf(out, "\n  %-16s ", "");
    }
    if (key->of != NULL)
        buf_printf(out, "%s: ", key->of);
    buf_printf(out, "%s\n", key->help);
}

static void print_default(struct buf *out, const char *text)
{
    if (text == NULL) {
        buf_printf(out, "  %-16s required\n", "");
    } else if (*text != '\0') {
        buf_printf(out, "  %-16s default ", "");
        for (; *text != '\0'; text++)
            if (*text == '\n')
                buf_puts(out, "\\n");
            else
                buf_put(out, text, 1);
        buf_puts(out, "\n");
    }
}

void conf_print_keys(const struct conf_key *keys, struct buf *out)
{
    for (const struct conf_key *key = keys; key->name != NULL; key++) {
        print_row(out, key);
        print_default(out, key->fallback);
    }
}

static void option_default_text(const struct option_row *option, struct buf *text)
{
    const char *choice = option->choices;
    if (option->type == OPTION_BOOL) {
        buf_puts(text, option->fallback > 0 ? "true" : "false");
    } else if (option->type == OPTION_CHOICE) {
        for (double i = 0; i < option->fallback && strchr(choice, '|') != NULL; i++)
            choice = strchr(choice, '|') + 1;
        buf_put(text, choice, strcspn(choice, "|"));
    } else if (!isnan(option->fallback)) { /* NAN: there is none */
        print_number(text, option->fallback);
    }
}

void conf_print_options(const struct option_row *options, struct buf *out)
{
    for (const struct option_row *row = options; row != NULL && row->name != NULL; row++) {
        struct conf_key key = key_of_option(row);
        print_row(out, &key);
        struct buf text = {0};
        bool texts = row->type >= OPTION_TEXT;
        if (!texts)
            option_default_text(row, &text);
        print_default(out, texts ? key.fallback : text.len > 0 ? text.data : "");
        buf_clear(&text);
    }
}
