/* doc.c - JSON reading; see doc.h. */
#include "verifier/doc.h"

/* Not common/json.h: both it and jansson name a function json_null. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int doc_parse_any(struct slice json, struct json_t **doc, struct error *error)
{
    const char *data = json.len > 0 ? json.data : "";
    const size_t flags = JSON_ALLOW_NUL | JSON_DECODE_ANY;
    json_error_t why;
    *doc = json_loadb(data, json.len, flags, &why);
    if (*doc == NULL && json_error_code(&why) == json_error_numeric_overflow)
        *doc = json_loadb(data, json.len, flags | JSON_DECODE_INT_AS_REAL, &why);
    if (*doc == NULL)
        return error_set(error, ERR_SYNTAX, "not JSON: %s", why.text);
    return 0;
}

int doc_parse(struct slice json, struct json_t **doc, struct error *error)
{
    int code = doc_parse_any(json, doc, error);
    if (code < 0)
        return code;
    if (!json_is_object(*doc)) {
        doc_free(doc);
        return error_set(error, ERR_SYNTAX, "not a JSON object");
    }
    return 0;
}

void doc_free(struct json_t **doc)
{
    json_decref(*doc);
    *doc = NULL;
}

const struct json_t *doc_object(const struct json_t *doc, const char *key)
{
    const json_t *value = json_object_get(doc, key);
    return json_is_object(value) ? value : NULL;
}

bool doc_text(const struct json_t *doc, const char *key, struct slice *text)
{
    const json_t *value = json_object_get(doc, key);
    if (!json_is_string(value))
        return false;
    *text = (struct slice){json_string_value(value), json_string_length(value)};
    return true;
}

bool doc_real(const struct json_t *doc, const char *key, double *value)
{
    const json_t *found = json_object_get(doc, key);
    if (!json_is_number(found))
        return false;
    *value = json_number_value(found);
    return true;
}

bool doc_flag(const struct json_t *doc, const char *key, bool *value)
{
    const json_t *found = json_object_get(doc, key);
    if (!json_is_boolean(found))
        return false;
    *value = json_is_true(found);
    return true;
}

bool doc_has(const struct json_t *doc, const char *key)
{
    return json_object_get(doc, key) != NULL;
}

/* Shortest that reads back equal; without ".0", as people and extractors write whole numbers. */
static void put_real(struct buf *out, double value)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    buf_puts(out, text);
}

bool doc_scalar(const struct json_t *doc, const char *key, struct buf *out)
{
    const json_t *value = json_object_get(doc, key);
    if (json_is_string(value))
        buf_put(out, json_string_value(value), json_string_length(value));
    else if (json_is_integer(value))
        buf_printf(out, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        put_real(out, json_real_value(value));
    else
        return false;
    return true;
}

int doc_each_text(const struct json_t *doc, int (*each)(void *, const char *key, struct slice text), void *data,
                  struct error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)doc, key, value) {
        if (!json_is_string(value))
            return error_set(error, ERR_SYNTAX, "`%.64s` must be a text", key);
        struct slice text = {json_string_value(value), json_string_length(value)};
        int code = each(data, key, text);
        if (code < 0)
            return code;
    }
    return 0;
}

bool doc_list_text(const struct json_t *doc, const char *key, size_t i, const char **text)
{
    const json_t *value = json_array_get(json_object_get(doc, key), i);
    *text = json_string_value(value);
    return *text != NULL && strlen(*text) == json_string_length(value);
}

size_t doc_list_len(const struct json_t *doc, const char *key)
{
    return json_array_size(json_object_get(doc, key));
}

const struct json_t *doc_get(const struct json_t *doc, const char *key)
{
    return json_object_get(doc, key);
}

size_t doc_len(const struct json_t *list)
{
    return json_array_size(list);
}

const struct json_t *doc_item(const struct json_t *list, size_t i)
{
    return json_array_get(list, i);
}

bool doc_is_list(const struct json_t *value)
{
    return json_is_array(value);
}

bool doc_is_text(const struct json_t *value, struct slice *text)
{
    if (!json_is_string(value))
        return false;
    *text = (struct slice){json_string_value(value), json_string_length(value)};
    return true;
}

bool doc_is_number(const struct json_t *value, double *number)
{
    if (!json_is_number(value))
        return false;
    *number = json_number_value(value);
    return isfinite(*number);
}

size_t doc_size(const struct json_t *doc)
{
    return json_object_size(doc);
}

bool doc_single(const struct json_t *doc, const char **key, const struct json_t **value)
{
    if (json_object_size(doc) != 1)
        return false;
    void *at = json_object_iter((json_t *)doc);
    *key = json_object_iter_key(at);
    *value = json_object_iter_value(at);
    return true;
}

/* A place in a list as people write it: digits, without needless zeros. */
static bool place_of(const char *part, size_t len, size_t *place)
{
    *place = 0;
    for (size_t i = 0; i < len; i++) {
        if (part[i] < '0' || part[i] > '9' || i == 9)
            return false;
        *place = *place * 10 + (size_t)(part[i] - '0');
    }
    return len > 0 && (len == 1 || part[0] != '0');
}

const struct json_t *doc_at(const struct json_t *doc, const char *path)
{
    char key[DOC_PATH_MAX];
    for (size_t len; doc != NULL; path += len + 1) {
        size_t place;
        len = strcspn(path, ".");
        if (len >= sizeof key)
            return NULL;
        memcpy(key, path, len);
        key[len] = '\0';
        if (json_is_array(doc))
            doc = place_of(path, len, &place) ? json_array_get(doc, place) : NULL;
        else
            doc = json_object_get(doc, key);
        if (path[len] == '\0')
            return doc;
    }
    return NULL;
}

int doc_path_check(const char *path, struct error *error)
{
    size_t len = strlen(path);
    if (len == 0 || len >= DOC_PATH_MAX || path[0] == '.' || path[len - 1] == '.' || strstr(path, "..") != NULL)
        return error_set(error, ERR_SYNTAX, "`%.64s` is no path such as data.0.score", path);
    return 0;
}

size_t doc_items(const struct json_t *doc, const char *key)
{
    const json_t *value = json_object_get(doc, key);
    return json_is_string(value) ? 1 : json_array_size(value);
}

bool doc_item_bool(const struct json_t *doc, const char *key, size_t i, const char *name, bool *value)
{
    const json_t *given = json_object_get(json_array_get(json_object_get(doc, key), i), name);
    if (json_is_number(given)) {
        double number = json_number_value(given);
        *value = number == 1;
        return number == 0 || number == 1;
    }
    *value = json_is_true(given);
    return json_is_boolean(given);
}

static int append(const char *data, size_t len, void *out)
{
    buf_put(out, data, len);
    return 0;
}

void doc_write(const struct json_t *doc, struct buf *out)
{
    /* Fails only when it is out of memory or the document is deeper than what the parser lets in.
     */
    if (json_dump_callback(doc, append, out, JSON_COMPACT | JSON_REAL_PRECISION(17)) != 0)
        abort();
}

void doc_value(const struct json_t *doc, const char *key, struct buf *out)
{
    const json_t *value = json_object_get(doc, key);
    if (value == NULL)
        buf_puts(out, "null");
    else if (json_dump_callback(value, append, out, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)) != 0)
        abort();
}

int doc_spec_depth(const struct json_t *doc, int max)
{
    int deepest = 0;
    const char *key;
    json_t *value;
    if (max > 0)
        json_object_foreach ((json_t *)doc_object(doc, "inner"), key, value) {
            int depth = doc_spec_depth(value, max - 1);
            deepest = depth > deepest ? depth : deepest;
        }
    return deepest + 1;
}

/* NULL when absent or null. */
static const json_t *option(const struct json_t *spec, const char *name)
{
    const json_t *value = json_object_get(doc_object(spec, "options"), name);
    return json_is_null(value) ? NULL : value;
}

int doc_option_real(const struct json_t *spec, const char *name, struct doc_range range, double *value,
                    struct error *error)
{
    const json_t *found = option(spec, name);
    if (found == NULL)
        return 0;
    if (!json_is_number(found))
        return error_set(error, ERR_SYNTAX, "option `%s` must be a number", name);
    double number = json_number_value(found);
    if (!(number >= range.min && number <= range.max))
        return error_set(error, ERR_RANGE, "option `%s` is %g; it must lie between %g and %g", name, number, range.min,
                         range.max);
    *value = number;
    return 0;
}

int doc_option_count(const struct json_t *spec, const char *name, struct doc_range range, uint32_t *value,
                     struct error *error)
{
    double number = *value;
    int code = doc_option_real(spec, name, range, &number, error);
    if (code == 0 && number != floor(number))
        code = error_set(error, ERR_RANGE, "option `%s` must be a whole number", name);
    if (code == 0)
        *value = (uint32_t)number;
    return code;
}

int doc_option_text(const struct json_t *spec, const char *name, const char **text, struct error *error)
{
    const json_t *found = option(spec, name);
    if (found == NULL)
        return 0;
    if (!json_is_string(found) || strlen(json_string_value(found)) != json_string_length(found))
        return error_set(error, ERR_SYNTAX, "option `%s` must be a text", name);
    if (json_string_length(found) > 0)
        *text = json_string_value(found);
    return 0;
}

int doc_option_bool(const struct json_t *spec, const char *name, bool *value, struct error *error)
{
    const json_t *found = option(spec, name);
    if (found == NULL)
        return 0;
    /* 1 and 0 too: that is how option tables hold a bool. */
    double number = json_is_boolean(found) ? json_is_true(found) : json_number_value(found);
    if (!json_is_boolean(found) && (!json_is_number(found) || (number != 0 && number != 1)))
        return error_set(error, ERR_SYNTAX, "option `%s` must be true or false", name);
    *value = number != 0;
    return 0;
}
