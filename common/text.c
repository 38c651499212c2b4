/* text.c - frames of texts; the one file that includes zstd; see text.h. */
#include "common/text.h"

#include "common/err.h"

#include <zstd.h>

/* Shorter texts gain less than a journal record's own overhead. */
#define PACK_MIN 512

static void put_raw(struct slice text, struct buf *out)
{
    buf_put(out, (const char[]){TEXT_RAW}, 1);
    buf_put(out, text.data, text.len);
}

void text_pack(struct slice text, struct buf *out)
{
    if (text.len < PACK_MIN) {
        put_raw(text, out);
        return;
    }
    /* With room for one byte less than the text, zstd fails exactly when it would not get smaller.
     */
    char *to = buf_grow(out, text.len);
    size_t packed = ZSTD_compress(to + 1, text.len - 1, text.data, text.len, 1);
    if (ZSTD_isError(packed)) {
        put_raw(text, out);
        return;
    }
    to[0] = TEXT_ZSTD;
    out->len += packed + 1;
    out->data[out->len] = '\0';
}

static int unpack_zstd(struct slice body, size_t max, struct buf *out)
{
    unsigned long long claimed = ZSTD_getFrameContentSize(body.data, body.len);
    if (claimed == ZSTD_CONTENTSIZE_ERROR || claimed == ZSTD_CONTENTSIZE_UNKNOWN)
        return ERR_CORRUPT;
    if (claimed > max)
        return ERR_LIMIT;
    /* A second zstd frame behind the first one would be unpacked too. */
    if (ZSTD_findFrameCompressedSize(body.data, body.len) != body.len)
        return ERR_CORRUPT;
    char *to = buf_grow(out, (size_t)claimed);
    size_t len = ZSTD_decompress(to, (size_t)claimed, body.data, body.len);
    if (ZSTD_isError(len) || len != claimed) {
        to[0] = '\0';
        return ERR_CORRUPT;
    }
    out->len += len;
    out->data[out->len] = '\0';
    return 0;
}

int text_unpack(struct slice frame, size_t max, struct buf *out)
{
    if (frame.len == 0)
        return ERR_CORRUPT;
    struct slice body = {frame.data + 1, frame.len - 1};
    switch (frame.data[0]) {
    case TEXT_RAW:
        if (body.len > max)
            return ERR_LIMIT;
        buf_put(out, body.data, body.len);
        return 0;
    case TEXT_ZSTD:
        return unpack_zstd(body, max, out);
    }
    return ERR_CORRUPT;
}

bool text_blob(struct slice blob, struct slice *answer, struct slice *frame)
{
    const unsigned char *p = (const unsigned char *)blob.data;
    if (blob.len < 4)
        return false;
    size_t len = p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
    if (len > blob.len - 4)
        return false;
    *answer = (struct slice){blob.data + 4, len};
    *frame = (struct slice){blob.data + 4 + len, blob.len - 4 - len};
    return true;
}
