/* detail.c - see detail.h. */
#include "broker/detail.h"
#include "broker/prompt_id.h"
#include "common/json.h"
#include "common/limits.h"
#include "common/text.h"

void detail_put(struct slice frame, struct buf *json)
{
    struct buf text = {0}, object = {0};
    if (text_unpack(frame, LIMIT_DETAIL, &text) == 0) {
        json_key(json, "detail");
        if (plain_object(buf_slice(&text), &object))
            json_raw(json, buf_slice(&object));
        else
            json_text(json, buf_slice(&text));
    }
    buf_clear(&text);
    buf_clear(&object);
}
