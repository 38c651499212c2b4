/* msg.c - codec of the messages; see msg.h. */
#include "common/msg.h"

#include <assert.h>
#include <string.h>

#define RECORD_STRUCT(name)  msg_##name
#define U8(record, field)    FIELD_ROW(record, field, FIELD_U8)
#define U32(record, field)   FIELD_ROW(record, field, FIELD_U32)
#define U64(record, field)   FIELD_ROW(record, field, FIELD_U64)
#define I64(record, field)   FIELD_ROW(record, field, FIELD_I64)
#define F64(record, field)   FIELD_ROW(record, field, FIELD_F64)
#define TEXT(record, field)  FIELD_ROW(record, field, FIELD_TEXT)
#define BYTES(record, field) FIELD_ROW(record, field, FIELD_BYTES)

#define RECORD(number, name, fields) static const struct field fields_##name[] = {fields};
#include "common/msg.def"
#undef RECORD

const struct record_type msg_types[] = {
#define RECORD(number, name, fields) \
    {number, #name, fields_##name, sizeof fields_##name / sizeof fields_##name[0], sizeof(struct msg_##name)},
#include "common/msg.def"
#undef RECORD
    {0, NULL, NULL, 0, 0},
};

void msg_put(struct buf *out, const struct msg *msg)
{
    const struct record_type *type = msg_types;
    while (type->name != NULL && type->number != (uint32_t)msg->type)
        type++;
    assert(type->name != NULL);
    record_put(out, type, &msg->hello);
}

int msg_get(struct slice bytes, size_t *offset, struct msg *msg)
{
    const struct record_type *type;
    int rc = record_get(bytes, offset, msg_types, &msg->hello, &type);
    if (rc == 0)
        msg->type = (enum msg_type)type->number;
    return rc;
}

static void put_len(struct buf *out, size_t len)
{
    uint32_t word = (uint32_t)len;
    buf_put(out, &word, sizeof word);
}

void blob_put(struct buf *out, struct slice answer, struct slice frame)
{
    put_len(out, answer.len);
    buf_put(out, answer.data, answer.len);
    buf_put(out, frame.data, frame.len);
}

int blob_get(struct slice blob, struct slice *answer, struct slice *frame)
{
    uint32_t len;
    if (blob.len < sizeof len)
        return ERR_CORRUPT;
    memcpy(&len, blob.data, sizeof len);
    if (len > blob.len - sizeof len)
        return ERR_CORRUPT;
    *answer = (struct slice){blob.data + sizeof len, len};
    *frame = (struct slice){blob.data + sizeof len + len, blob.len - sizeof len - len};
    return 0;
}

void path_put(struct buf *out, struct slice blob)
{
    put_len(out, blob.len);
    buf_put(out, blob.data, blob.len);
}

int path_next(struct slice path, size_t *offset, struct slice *blob)
{
    uint32_t len;
    if (*offset == path.len)
        return ERR_NOT_FOUND;
    if (path.len - *offset < sizeof len)
        return ERR_CORRUPT;
    memcpy(&len, path.data + *offset, sizeof len);
    if (len > path.len - *offset - sizeof len)
        return ERR_CORRUPT;
    *blob = (struct slice){path.data + *offset + sizeof len, len};
    *offset += sizeof len + len;
    return 0;
}
