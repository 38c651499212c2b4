/* fields.c - jansson behind the few questions that the backends ask; see fields.h. */
#include "worker/fields.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const json_t *json_of(const struct fields *fields)
{
    return (const json_t *)(const void *)fields;
}

static const json_t *value_at(const struct fields *fields, const char *key)
{
    const json_t *value = json_object_get(json_of(fields), key);
    return json_is_null(value) ? NULL : value;
}

int fields_parse(struct slice json, struct fields **fields, struct error *error)
{
    json_error_t where;
    json_t *root = json_loadb(json.data, json.len, JSON_REJECT_DUPLICATES, &where);
    if (root == NULL && json_error_code(&where) == json_error_numeric_overflow) /* a seed of 64 bits, say */
        root = json_loadb(json.data, json.len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &where);
    *fields = NULL;
    if (root == NULL)
        return error_set(error, ERR_SYNTAX, "no JSON: %s (byte %d)", where.text, where.position);
    if (!json_is_object(root)) {
        json_decref(root);
        return error_set(error, ERR_SYNTAX, "JSON, but not an object");
    }
    *fields = (struct fields *)(void *)root;
    return 0;
}

void fields_free(struct fields **fields)
{
    json_decref((json_t *)(void *)*fields);
    *fields = NULL;
}

const struct fields *fields_object(const struct fields *fields, const char *key)
{
    const json_t *value = value_at(fields, key);
    return json_is_object(value) ? (const struct fields *)(const void *)value : NULL;
}

bool fields_have(const struct fields *fields, const char *key)
{
    return value_at(fields, key) != NULL;
}

bool fields_null(const struct fields *fields, const char *key)
{
    return json_is_null(json_object_get(json_of(fields), key));
}

/* The shortest that reads back equal; what is whole stays so. (common/json.h and jansson.h cannot both be included: both
 * say json_null.) */
static void print_real(double value, char *text, size_t size)
{
    if (fabs(value) < 0x1p53 && value == floor(value)) {
        snprintf(text, size, "%.0f", value);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            return;
    }
}

bool fields_text(const struct fields *fields, const char *key, struct buf *out)
{
    const json_t *value = value_at(fields, key);
    if (json_is_string(value)) {
        buf_put(out, json_string_value(value), json_string_length(value));
        return true;
    }
    if (json_is_boolean(value)) {
        buf_puts(out, json_is_true(value) ? "true" : "false");
        return true;
    }
    if (!json_is_number(value))
        return false;
    char number[40];
    if (json_is_integer(value))
        snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(value));
    else
        print_real(json_real_value(value), number, sizeof(number));
    buf_puts(out, number);
    return true;
}

int fields_string(const struct fields *fields, const char *key, struct slice *text, struct error *error)
{
    const json_t *value = value_at(fields, key);
    if (value == NULL)
        return 0;
    if (!json_is_string(value))
        return error_set(error, ERR_SYNTAX, "'%s' is not text", key);
    *text = (struct slice){json_string_value(value), json_string_length(value)};
    return 0;
}

int fields_real(const struct fields *fields, const char *key, double min, double max, double *value,
                struct error *error)
{
    const json_t *item = value_at(fields, key);
    if (item == NULL)
        return 0;
    if (!json_is_number(item))
        return error_set(error, ERR_SYNTAX, "'%s' is not a number", key);
    double number = json_number_value(item);
    if (!(number >= min && number <= max))
        return error_set(error, ERR_RANGE, "'%s' is %g; it lies between %g and %g", key, number, min, max);
    *value = number;
    return 0;
}

int fields_count(const struct fields *fields, const char *key, uint64_t max, uint64_t *value, struct error *error)
{
    const json_t *item = value_at(fields, key);
    if (item == NULL)
        return 0;
    if (!json_is_integer(item))
        return error_set(error, ERR_SYNTAX, "'%s' is not a whole number", key);
    json_int_t number = json_integer_value(item);
    if (number < 0 || (uint64_t)number > max)
        return error_set(error, ERR_RANGE, "'%s' is %lld; it lies between 0 and %llu", key, (long long)number,
                         (unsigned long long)max);
    *value = (uint64_t)number;
    return 0;
}

int fields_list(const struct fields *fields, const char *key, const char ***list, struct error *error)
{
    const json_t *value = value_at(fields, key);
    *list = NULL;
    if (value == NULL)
        return 0;
    size_t len = json_array_size(value); /* 0 for what is no list */
    const char **texts = xalloc((len + 1) * sizeof(*texts));
    for (size_t i = 0; i < len; i++) {
        texts[i] = json_string_value(json_array_get(value, i));
        if (texts[i] == NULL) {
            free(texts);
            return error_set(error, ERR_SYNTAX, "'%s' holds something that is not text", key);
        }
    }
    if (len == 0) {
        free(texts);
        return error_set(error, ERR_SYNTAX, "'%s' is not a list of texts, or is empty", key);
    }
    *list = texts;
    return 0;
}

size_t fields_len(const struct fields *fields, const char *key)
{
    return json_array_size(value_at(fields, key));
}

const struct fields *fields_item(const struct fields *fields, const char *key, size_t i)
{
    const json_t *item = json_array_get(value_at(fields, key), i);
    return json_is_object(item) ? (const struct fields *)(const void *)item : NULL;
}

static int append(const char *bytes, size_t len, void *out)
{
    buf_put(out, bytes, len);
    return 0;
}

bool fields_json(const struct fields *fields, const char *key, struct buf *out)
{
    const json_t *value = value_at(fields, key);
    return value != NULL && json_dump_callback(value, append, out, JSON_COMPACT | JSON_ENCODE_ANY) == 0;
}

size_t fields_texts(const struct fields *fields, const char *key)
{
    const json_t *value = value_at(fields, key);
    return json_is_string(value) ? 1 : json_array_size(value);
}

bool fields_text_at(const struct fields *fields, const char *key, size_t i, struct buf *out,
                    const struct fields **object)
{
    const json_t *value = value_at(fields, key);
    const json_t *item = json_is_string(value) ? value : json_array_get(value, i);
    *object = json_is_object(item) ? (const struct fields *)(const void *)item : NULL;
    const json_t *text = *object != NULL ? json_object_get(item, "text") : item;
    if (!json_is_string(text))
        return false;
    buf_put(out, json_string_value(text), json_string_length(text));
    return true;
}

void fields_write(const struct fields *fields, struct buf *out)
{
    json_dump_callback(json_of(fields), append, out, JSON_COMPACT);
}

void fields_keys(const struct fields *fields, struct buf *out)
{
    const char *separator = "";
    json_t *object = (json_t *)(void *)(uintptr_t)json_of(fields);
    for (void *it = json_object_iter(object); it != NULL; it = json_object_iter_next(object, it)) {
        buf_printf(out, "%s%s", separator, json_object_iter_key(it));
        separator = ", ";
    }
}

const char *fields_key(const struct fields *fields, size_t i)
{
    json_t *object = (json_t *)(void *)(uintptr_t)json_of(fields);
    void *it = json_object_iter(object);
    while (it != NULL && i-- > 0)
        it = json_object_iter_next(object, it);
    return it == NULL ? NULL : json_object_iter_key(it);
}

const char *fields_common_key(const struct fields *a, const struct fields *b)
{
    json_t *object = (json_t *)(void *)(uintptr_t)json_of(a);
    for (void *it = json_object_iter(object); it != NULL; it = json_object_iter_next(object, it))
        if (json_object_get(json_of(b), json_object_iter_key(it)) != NULL)
            return json_object_iter_key(it);
    return NULL;
}
