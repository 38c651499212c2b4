/* fuzz_msg.c - whatever bytes come over the wire: structure check, message codec, blobs, paths, text frames. */
#include "common/msg.h"
#include "common/limits.h"
#include "common/text.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_path(struct slice path)
{
    struct slice blob, answer, frame;
    struct buf text = {0};
    for (size_t at = 0; path_next(path, &at, &blob) == 0;)
        if (blob_get(blob, &answer, &frame) == 0)
            text_unpack(frame, LIMIT_TEXT, &text);
    assert(text.len <= (size_t)LIMIT_TEXT * (path.len / 5 + 1));
    buf_clear(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice bytes = {(const char *)data, size};
    struct buf again = {0};
    struct msg msg;
    bool valid = record_frame_valid(bytes);
    for (size_t at = 0; valid && at < size;) {
        if (msg_get(bytes, &at, &msg) != 0)
            break;
        msg_put(&again, &msg); /* what was read can be written, and reads the same */
        if (msg.type == MSG_task)
            read_path(msg.task.path);
    }
    for (size_t at = 0; at < again.len;)
        assert(msg_get(buf_slice(&again), &at, &msg) == 0);
    read_path(bytes);
    buf_clear(&again);
    return 0;
}
