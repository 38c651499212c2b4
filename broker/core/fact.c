/* fact.c - codec of the facts; see fact.h. */
#include "broker/core/fact.h"
#include "common/json.h"

#include <assert.h>

#define RECORD_STRUCT(name)  fact_##name
#define U8(record, field)    FIELD_ROW(record, field, FIELD_U8)
#define U32(record, field)   FIELD_ROW(record, field, FIELD_U32)
#define U64(record, field)   FIELD_ROW(record, field, FIELD_U64)
#define F64(record, field)   FIELD_ROW(record, field, FIELD_F64)
#define TEXT(record, field)  FIELD_ROW(record, field, FIELD_TEXT)
#define BYTES(record, field) FIELD_ROW(record, field, FIELD_BYTES)

#define RECORD(number, name, fields) static const struct field fields_##name[] = {fields};
#include "broker/core/fact.def"
#undef RECORD

const struct record_type fact_types[] = {
#define RECORD(number, name, fields) \
    {number, #name, fields_##name, sizeof fields_##name / sizeof fields_##name[0], sizeof(struct fact_##name)},
#include "broker/core/fact.def"
#undef RECORD
    {0, NULL, NULL, 0, 0},
};

static const struct record_type *type_of(enum fact_type type)
{
    switch (type) {
#define RECORD(number, name, fields)                                                                                   \
    case FACT_##name: {                                                                                                \
        static const struct record_type row = {                                                                        \
            number, #name, fields_##name, sizeof fields_##name / sizeof fields_##name[0], sizeof(struct fact_##name)}; \
        return &row;                                                                                                   \
    }
#include "broker/core/fact.def"
#undef RECORD
    }
    return NULL;
}

void fact_put(struct buf *out, const struct fact *fact)
{
    const struct record_type *type = type_of(fact->type);
    assert(type != NULL);
    record_put(out, type, &fact->epoch);
}

int fact_get(struct slice bytes, size_t *offset, struct fact *fact)
{
    const struct record_type *type;
    int rc = record_get(bytes, offset, fact_types, &fact->epoch, &type);
    if (rc == 0)
        fact->type = (enum fact_type)type->number;
    return rc;
}

void fact_print(struct buf *out, const struct fact *fact)
{
    const struct record_type *type = type_of(fact->type);
    assert(type != NULL);
    record_print(out, type, &fact->epoch);
}

void fact_json(struct buf *out, const struct fact *fact)
{
    const struct record_type *type = type_of(fact->type);
    assert(type != NULL);
    json_key(out, "fact");
    json_str(out, type->name);
    record_json(out, type, &fact->epoch);
}
