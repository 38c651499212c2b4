/* sse.c - see sse.h. A whole line in one piece, which is the rule, is read where it lies. */
#include "common/sse.h"
#include "common/err.h"

#include <string.h>

static int end_event(struct sse *sse, int (*event)(void *user, struct slice data), void *user)
{
    if (!sse->has_data)
        return 0;
    sse->has_data = false;
    int rc = event(user, buf_slice(&sse->data));
    buf_reset(&sse->data);
    return rc;
}

/* "data: TEXT", "data:TEXT" or "data"; everything else does not matter here. */
static void take_field(struct sse *sse, struct slice line)
{
    if (line.len < 4 || memcmp(line.data, "data", 4) != 0 || (line.len > 4 && line.data[4] != ':'))
        return;
    size_t skip = line.len == 4 ? 4 : line.len > 5 && line.data[5] == ' ' ? 6 : 5;
    if (sse->has_data)
        buf_put(&sse->data, "\n", 1);
    buf_put(&sse->data, line.data + skip, line.len - skip);
    sse->has_data = true;
}

static int end_line(struct sse *sse, struct slice line, int (*event)(void *user, struct slice data), void *user)
{
    if (line.len == 0)
        return end_event(sse, event, user);
    if (line.len + sse->data.len > SSE_EVENT_MAX)
        return ERR_LIMIT;
    take_field(sse, line);
    return 0;
}

static size_t line_length(struct slice bytes)
{
    const char *lf = memchr(bytes.data, '\n', bytes.len);
    size_t len = lf != NULL ? (size_t)(lf - bytes.data) : bytes.len;
    const char *cr = memchr(bytes.data, '\r', len);
    return cr != NULL ? (size_t)(cr - bytes.data) : len;
}

int sse_feed(struct sse *sse, struct slice bytes, int (*event)(void *user, struct slice data), void *user)
{
    while (bytes.len > 0) {
        if (sse->after_cr && bytes.data[0] == '\n') { /* the second half of a CRLF */
            bytes = (struct slice){bytes.data + 1, bytes.len - 1};
            sse->after_cr = false;
            continue;
        }
        sse->after_cr = false;
        size_t len = line_length(bytes);
        if (sse->line.len + len > SSE_EVENT_MAX)
            return ERR_LIMIT;
        if (len == bytes.len || sse->line.len > 0)
            buf_put(&sse->line, bytes.data, len);
        if (len == bytes.len)
            return 0;
        struct slice line = sse->line.len > 0 ? buf_slice(&sse->line) : (struct slice){bytes.data, len};
        sse->after_cr = bytes.data[len] == '\r';
        bytes = (struct slice){bytes.data + len + 1, bytes.len - len - 1};
        int rc = end_line(sse, line, event, user);
        buf_reset(&sse->line);
        if (rc != 0)
            return rc;
    }
    return 0;
}

bool sse_between(const struct sse *sse)
{
    return !sse->has_data && sse->line.len == 0;
}

void sse_clear(struct sse *sse)
{
    buf_clear(&sse->line);
    buf_clear(&sse->data);
    *sse = (struct sse){0};
}
