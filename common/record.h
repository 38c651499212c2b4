/* record.h - one codec for the journal and the wire: flat records as msgpack arrays.
 *
 * A record is [number, field, field, ...]. A message frame or a commit is a run of records, one after another: there
 * are no nested lists, so nothing is allocated while reading, and a batch is just more records. Readers ignore extra
 * trailing fields and read missing ones as zero. Records are declared once, in a .def file, with
 *     RECORD(NUMBER, NAME, FIELDS)   and in FIELDS   U64(NAME, field) U32 U8 I64 F64 TEXT BYTES
 * from which structs, codec, printer, documentation and fuzz seeds follow. */
#ifndef DROVER_RECORD_H
#define DROVER_RECORD_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum field_type { FIELD_U8, FIELD_U32, FIELD_U64, FIELD_I64, FIELD_F64, FIELD_TEXT, FIELD_BYTES };

struct field {
    const char *name;
    enum field_type type;
    size_t offset; /* in the record's struct */
};

struct record_type {
    uint32_t number;
    const char *name;
    const struct field *fields;
    size_t fields_len;
    size_t size; /* of the struct */
};

/* Helpers for the .def files: see broker/core/fact.c for their use. */
#define FIELD_ROW(record, field, kind) {#field, kind, offsetof(struct RECORD_STRUCT(record), field)},

/* Appends one record. */
void record_put(struct buf *out, const struct record_type *type, const void *value);

/* Reads the record at *offset of bytes into value (of at least the largest struct of types), moves *offset behind
 * it and sets *type. Slices in value point into bytes. types ends with a NULL name. ERR_PROTOCOL: not a record, a
 * wrong type or length, an unknown number; nothing is allocated whatever the bytes say. */
int record_get(struct slice bytes, size_t *offset, const struct record_type *types, void *value,
               const struct record_type **type);

/* Structure check of a whole frame before anything of it is acted on: at least one record, arrays of at most 64
 * elements, nesting at most 8, every length within the frame. */
bool record_frame_valid(struct slice bytes);

/* "name key=value key=value": the words of logs, traces and `drover journal`. Texts are cut at 60 bytes, control
 * characters replaced. */
void record_print(struct buf *out, const struct record_type *type, const void *value);

/* Adds "key": value for every field to a JSON object that is being written; bytes as hexadecimal text. */
void record_json(struct buf *out, const struct record_type *type, const void *value);

#endif
