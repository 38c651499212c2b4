/* attachment.c - see attachment.h. */
#include "common/attachment.h"
#include "common/hash.h"

#include <stdio.h>
#include <string.h>

static const char scheme[] = "attachment:", encoded[] = ";base64,";
enum { SCHEME = sizeof scheme - 1, DIGEST = 32, NAME = SCHEME + DIGEST, ENCODED = sizeof encoded - 1 };

struct attachment_id attachment_id_of(struct slice data)
{
    struct attachment_id id;
    hash_wide(data.data, data.len, &id.high, &id.low);
    return id;
}

void attachment_name_put(struct buf *out, struct attachment_id id)
{
    buf_printf(out, "%s%016llx%016llx", scheme, (unsigned long long)id.high, (unsigned long long)id.low);
}

static bool digits(const char *text, uint64_t *value)
{
    *value = 0;
    for (int i = 0; i < DIGEST / 2; i++) {
        char c = text[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f'))
            return false;
        *value = *value << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return true;
}

/* A name that begins at text, which has len more bytes. */
static bool is_name(const char *text, size_t len, struct attachment_id *id)
{
    return len >= NAME && memcmp(text, scheme, SCHEME) == 0 && digits(text + SCHEME, &id->high) &&
           digits(text + SCHEME + DIGEST / 2, &id->low);
}

/* Whether a JSON text may have base64 alone from here on. */
static bool begins_data(struct slice text, size_t at)
{
    return at > 0 &&
           (text.data[at - 1] == '"' || (at >= ENCODED && memcmp(text.data + at - ENCODED, encoded, ENCODED) == 0));
}

bool attachment_next(struct slice text, size_t *at, struct attachment_id *id, struct slice *name)
{
    while (*at < text.len) {
        const char *found = memmem(text.data + *at, text.len - *at, scheme, SCHEME);
        if (found == NULL)
            return false;
        size_t begin = (size_t)(found - text.data), end = begin + NAME;
        *at = begin + SCHEME;
        if (!is_name(found, text.len - begin, id) || end == text.len || text.data[end] != '"' ||
            !begins_data(text, begin))
            continue;
        *at = end;
        *name = (struct slice){found, NAME};
        return true;
    }
    return false;
}

void attachment_line_put(struct buf *out, const struct attachment *attachment)
{
    attachment_name_put(out, attachment->id);
    buf_puts(out, ":");
    buf_put(out, attachment->data.data, attachment->data.len);
    buf_puts(out, "\n");
}

bool attachment_line_is(struct slice line)
{
    return line.len >= SCHEME && memcmp(line.data, scheme, SCHEME) == 0;
}

bool attachment_line_read(struct slice line, struct attachment *attachment)
{
    if (!is_name(line.data, line.len, &attachment->id) || line.len < NAME + 2 || line.data[NAME] != ':')
        return false;
    attachment->data = (struct slice){line.data + NAME + 1, line.len - NAME - 1};
    struct attachment_id id = attachment_id_of(attachment->data);
    return id.high == attachment->id.high && id.low == attachment->id.low && attachment_plain(attachment->data);
}

bool attachment_plain(struct slice data)
{
    for (size_t i = 0; i < data.len; i++) {
        char c = data.data[i];
        if (!(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') && !(c >= '/' && c <= '9') && c != '+' && c != '=')
            return false;
    }
    return true;
}

static const struct attachment *find(const struct attachments *attachments, struct attachment_id id)
{
    for (size_t i = 0; i < attachments->len; i++)
        if (attachments->at[i].id.high == id.high && attachments->at[i].id.low == id.low)
            return &attachments->at[i];
    return NULL;
}

size_t attachments_parts(const struct attachments *attachments, struct slice text, struct buf *parts)
{
    struct attachment_id id;
    struct slice name;
    size_t at = 0, done = 0, bytes = text.len;
    while (attachment_next(text, &at, &id, &name)) {
        const struct attachment *attachment = find(attachments, id);
        if (attachment == NULL)
            continue;
        struct slice before = {text.data + done, (size_t)(name.data - text.data) - done};
        buf_put(parts, &before, sizeof before);
        buf_put(parts, &attachment->data, sizeof attachment->data);
        bytes += attachment->data.len - NAME;
        done = at;
    }
    struct slice rest = {text.data + done, text.len - done};
    buf_put(parts, &rest, sizeof rest);
    return bytes;
}

void attachments_fill(const struct attachments *attachments, struct buf *text)
{
    if (attachments == NULL || attachments->len == 0)
        return;
    struct buf parts = {0}, full = {0};
    size_t bytes = attachments_parts(attachments, buf_slice(text), &parts);
    buf_grow(&full, bytes);
    for (size_t i = 0; i < parts.len / sizeof(struct slice); i++) {
        struct slice part;
        memcpy(&part, parts.data + i * sizeof part, sizeof part);
        buf_put(&full, part.data, part.len);
    }
    buf_clear(&parts);
    buf_clear(text);
    *text = full;
}
