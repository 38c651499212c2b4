/* fact.h - the facts of fact.def as structs, and their codec. */
#ifndef DROVER_FACT_H
#define DROVER_FACT_H

#include "common/record.h"

#define U8(record, field)    uint8_t field;
#define U32(record, field)   uint32_t field;
#define U64(record, field)   uint64_t field;
#define F64(record, field)   double field;
#define TEXT(record, field)  struct slice field;
#define BYTES(record, field) struct slice field;
#define RECORD(number, name, fields) \
    struct fact_##name {             \
        fields                       \
    };
#include "broker/core/fact.def"
#undef RECORD

enum fact_type {
#define RECORD(number, name, fields) FACT_##name = (number),
#include "broker/core/fact.def"
#undef RECORD
};

/* Any fact, as fact_get returns it. */
struct fact {
    enum fact_type type;
    union {
#define RECORD(number, name, fields) struct fact_##name name;
#include "broker/core/fact.def"
#undef RECORD
    };
};
#undef U8
#undef U32
#undef U64
#undef F64
#undef TEXT
#undef BYTES

void fact_put(struct buf *out, const struct fact *fact);

/* Reads the fact at *offset; slices point into bytes. ERR_PROTOCOL on anything else. */
int fact_get(struct slice bytes, size_t *offset, struct fact *fact);

void fact_print(struct buf *out, const struct fact *fact);

/* Adds "fact": its name, and its fields to a JSON object that is being written. */
void fact_json(struct buf *out, const struct fact *fact);

/* All fact types, NULL name at the end: for documentation and fuzz seeds. */
extern const struct record_type fact_types[];

#endif
