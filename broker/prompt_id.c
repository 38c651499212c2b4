/* prompt_id.c - the one place where exports look into a prompt's record. */
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
