/* msg.h - the messages of msg.def as structs, and their codec. */
#ifndef DROVER_MSG_H
#define DROVER_MSG_H

#include "common/record.h"

#define PROTOCOL_VERSION 2 /* 2: cues, and `step` 2 of a task, which agents of 1 would not heed */

/* Field `group` of a task: whether texts of all rollouts of its prompt come with it. */
enum { GROUP_NONE, GROUP_OWN, GROUP_BEFORE /* those of the last task before it in this frame that had its own */ };

#define U8(record, field)    uint8_t field;
#define U32(record, field)   uint32_t field;
#define U64(record, field)   uint64_t field;
#define I64(record, field)   int64_t field;
#define F64(record, field)   double field;
#define TEXT(record, field)  struct slice field;
#define BYTES(record, field) struct slice field;
#define RECORD(number, name, fields) \
    struct msg_##name {              \
        fields                       \
    };
#include "common/msg.def"
#undef RECORD

enum msg_type {
#define RECORD(number, name, fields) MSG_##name = (number),
#include "common/msg.def"
#undef RECORD
};

/* Any message, as msg_get returns it. */
struct msg {
    enum msg_type type;
    union {
#define RECORD(number, name, fields) struct msg_##name name;
#include "common/msg.def"
#undef RECORD
    };
};
#undef U8
#undef U32
#undef U64
#undef I64
#undef F64
#undef TEXT
#undef BYTES

void msg_put(struct buf *out, const struct msg *msg);

/* Reads the message at *offset; slices point into bytes. ERR_PROTOCOL on anything else. Check a whole frame with
 * record_frame_valid first. */
int msg_get(struct slice bytes, size_t *offset, struct msg *msg);

/* All message types, NULL name at the end: for documentation and fuzz seeds. */
extern const struct record_type msg_types[];

/* A result's text as the journal keeps it and verify tasks carry it: u32 length of the answer, the answer, the text's
 * frame (text.h). A path is such blobs one after another, each behind its own u32 length. Little-endian. */
void blob_put(struct buf *out, struct slice answer, struct slice frame);
int blob_get(struct slice blob, struct slice *answer, struct slice *frame); /* ERR_CORRUPT */
void path_put(struct buf *out, struct slice blob);
int path_next(struct slice path, size_t *offset, struct slice *blob); /* ERR_CORRUPT; ERR_NOT_FOUND at the end */

#endif
