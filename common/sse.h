/* sse.h - splits a stream of server-sent events into the payloads of its `data` fields.
 *
 * Bytes come in pieces of any size. Lines end with LF, CR or CRLF, an empty line ends an event, several `data` lines of one
 * event are joined by LF; comments and other fields are skipped. An event that the stream's end cuts off is not
 * delivered. */
#ifndef DROVER_SSE_H
#define DROVER_SSE_H

#include "common/buf.h"

#include <stdbool.h>

enum { SSE_EVENT_MAX = 16 << 20 }; /* bytes of one event */

struct sse {
    struct buf line, data; /* what is known of the line and of the event that have not ended */
    bool has_data, after_cr;
};

/* Calls event for each payload; one that does not return 0 ends it with that code. ERR_LIMIT: an event is too long. */
int sse_feed(struct sse *sse, struct slice bytes, int (*event)(void *user, struct slice data), void *user);

bool sse_between(const struct sse *sse); /* nothing of an event is pending */
void sse_clear(struct sse *sse);

#endif
