/* attachment.h - data of content parts (images, recordings) that is kept apart from the records of prompts.
 *
 * Where a record has base64 of some length, `submit` puts attachment:DIGEST in its place, so that the same data is stored
 * once, and tasks stay small however often a prompt is sampled. The name stands at the end of a JSON text, at its
 * beginning or behind `;base64,`; what goes to an engine has the data there again, to the byte. */
#ifndef DROVER_ATTACHMENT_H
#define DROVER_ATTACHMENT_H

#include "common/buf.h"

#include <stdbool.h>

enum {
    ATTACHMENT_FROM = 4096,     /* bytes of base64 from which on it is worth a name */
    ATTACHMENT_TOKENS = 1 << 15 /* that a model makes of an image or a recording at most */
};

/* Of the data: xxh3, 128 bits. */
struct attachment_id {
    uint64_t high, low;
};

struct attachment {
    struct attachment_id id;
    struct slice data; /* base64 */
};

struct attachments {
    struct attachment *at;
    size_t len;
};

struct attachment_id attachment_id_of(struct slice data);
void attachment_name_put(struct buf *out, struct attachment_id id);

/* The first name at or behind *at, which moves behind it; false: there is none. `name`: where it stands in text. */
bool attachment_next(struct slice text, size_t *at, struct attachment_id *id, struct slice *name);

/* A line that hands one over, ahead of the records: attachment:DIGEST:DATA. False: it is something else, or its data is
 * no base64 or another's. */
void attachment_line_put(struct buf *out, const struct attachment *attachment);
bool attachment_line_is(struct slice line);
bool attachment_line_read(struct slice line, struct attachment *attachment);

/* Whether it may be one: of the alphabet of base64 only. */
bool attachment_plain(struct slice data);

/* Appends to `parts`, an array of struct slice, what text becomes with the data in place of the names; returns how many
 * bytes that is. Names that are not among the attachments stay. */
size_t attachments_parts(const struct attachments *attachments, struct slice text, struct buf *parts);

/* Does that to text. NULL: there are none. */
void attachments_fill(const struct attachments *attachments, struct buf *text);

#endif
