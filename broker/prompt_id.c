/* prompt_id.c - the one place where exports look into JSON that others wrote. */
#include "broker/prompt_id.h"

#include <jansson.h>

void prompt_id(struct slice record, uint32_t prompt, struct buf *out)
{
    json_t *json = json_loadb(record.data == NULL ? "" : record.data, record.len, 0, NULL);
    const json_t *id = json_object_get(json, "id");
    if (json_is_string(id))
        buf_put(out, json_string_value(id), json_string_length(id));
    else if (json_is_integer(id))
        buf_printf(out, "%lld", (long long)json_integer_value(id));
    else
        buf_printf(out, "%llu", (unsigned long long)prompt + 1);
    json_decref(json);
}

static bool shallow(const json_t *json, int depth)
{
    const char *key;
    json_t *value;
    size_t i;
    if (depth == 0)
        return !json_is_object(json) && !json_is_array(json);
    json_object_foreach ((json_t *)json, key, value)
        if (!shallow(value, depth - 1))
            return false;
    json_array_foreach (json, i, value)
        if (!shallow(value, depth - 1))
            return false;
    return true;
}

static int append(const char *data, size_t len, void *out)
{
    buf_put(out, data, len);
    return 0;
}

bool plain_object(struct slice text, struct buf *out)
{
    enum { DEPTH = 32 };
    json_t *json = json_loadb(text.data == NULL ? "" : text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    bool good = json_is_object(json) && shallow(json, DEPTH);
    if (good)
        good = json_dump_callback(json, append, out, JSON_COMPACT | JSON_REAL_PRECISION(17)) == 0;
    json_decref(json);
    return good;
}
