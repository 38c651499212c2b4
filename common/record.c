/* record.c - flat records as msgpack arrays; see record.h. */
#include "common/record.h"
#include "common/json.h"

#include <assert.h>
#include <msgpack.h>
#include <string.h>

enum { ELEMENTS_MAX = 64, DEPTH_MAX = 8 };

static int put_bytes(void *out, const char *data, size_t len)
{
    buf_put(out, data, len);
    return 0;
}

static void put_field(msgpack_packer *to, enum field_type type, const void *at)
{
    const struct slice *slice = at;
    switch (type) {
    case FIELD_U8:
        msgpack_pack_uint8(to, *(const uint8_t *)at);
        return;
    case FIELD_U32:
        msgpack_pack_uint32(to, *(const uint32_t *)at);
        return;
    case FIELD_U64:
        msgpack_pack_uint64(to, *(const uint64_t *)at);
        return;
    case FIELD_I64:
        msgpack_pack_int64(to, *(const int64_t *)at);
        return;
    case FIELD_F64:
        msgpack_pack_double(to, *(const double *)at);
        return;
    case FIELD_TEXT:
        msgpack_pack_str(to, slice->len);
        msgpack_pack_str_body(to, slice->data, slice->len);
        return;
    case FIELD_BYTES:
        msgpack_pack_bin(to, slice->len);
        msgpack_pack_bin_body(to, slice->data, slice->len);
        return;
    }
}

void record_put(struct buf *out, const struct record_type *type, const void *value)
{
    assert(type->fields_len < ELEMENTS_MAX);
    msgpack_packer to;
    msgpack_packer_init(&to, out, put_bytes);
    msgpack_pack_array(&to, type->fields_len + 1);
    msgpack_pack_uint32(&to, type->number);
    for (size_t i = 0; i < type->fields_len; i++)
        put_field(&to, type->fields[i].type, (const char *)value + type->fields[i].offset);
}

/* One msgpack token: its class, a number or the length of what follows. */
struct token {
    enum { TOKEN_UINT, TOKEN_INT, TOKEN_REAL, TOKEN_TEXT, TOKEN_BYTES, TOKEN_ARRAY, TOKEN_OTHER } kind;
    uint64_t number; /* value, length, or number of elements */
    double real;
    const char *data;
};

static uint64_t big_endian(const unsigned char *p, size_t len)
{
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++)
        value = value << 8 | p[i];
    return value;
}

/* Wide forms 0xc0..0xdf: what kind, how many bytes of head follow. -1: nothing that drover ever writes. */
static const struct {
    unsigned char kind, head;
} wide_forms[32] = {
    [0x04] = {TOKEN_BYTES, 1}, [0x05] = {TOKEN_BYTES, 2}, [0x06] = {TOKEN_BYTES, 4}, [0x0a] = {TOKEN_REAL, 4},
    [0x0b] = {TOKEN_REAL, 8},  [0x0c] = {TOKEN_UINT, 1},  [0x0d] = {TOKEN_UINT, 2},  [0x0e] = {TOKEN_UINT, 4},
    [0x0f] = {TOKEN_UINT, 8},  [0x10] = {TOKEN_INT, 1},   [0x11] = {TOKEN_INT, 2},   [0x12] = {TOKEN_INT, 4},
    [0x13] = {TOKEN_INT, 8},   [0x19] = {TOKEN_TEXT, 1},  [0x1a] = {TOKEN_TEXT, 2},  [0x1b] = {TOKEN_TEXT, 4},
    [0x1c] = {TOKEN_ARRAY, 2}, [0x1d] = {TOKEN_ARRAY, 4}, [0x02] = {TOKEN_OTHER, 0}, [0x03] = {TOKEN_OTHER, 0},
    [0x00] = {TOKEN_OTHER, 0},
};

static bool next_wide(struct slice bytes, size_t *offset, unsigned char first, struct token *token)
{
    const unsigned char *p = (const unsigned char *)bytes.data + *offset;
    int head = wide_forms[first - 0xc0].head;
    token->kind = wide_forms[first - 0xc0].kind;
    if (head == 0)
        return first == 0xc0 || first == 0xc2 || first == 0xc3; /* nil, false, true */
    if (bytes.len - *offset < (size_t)head)
        return false;
    token->number = big_endian(p, (size_t)head);
    *offset += (size_t)head;
    if (token->kind == TOKEN_INT) { /* sign-extend */
        int shift = 64 - 8 * head;
        token->number = (uint64_t)((int64_t)(token->number << shift) >> shift);
    } else if (token->kind == TOKEN_REAL && head == 8) {
        memcpy(&token->real, &token->number, 8);
    } else if (token->kind == TOKEN_REAL) {
        uint32_t bits = (uint32_t)token->number;
        float narrow;
        memcpy(&narrow, &bits, 4);
        token->real = (double)narrow;
    }
    return true;
}

static bool next_token(struct slice bytes, size_t *offset, struct token *token)
{
    if (*offset >= bytes.len)
        return false;
    unsigned char first = (unsigned char)bytes.data[(*offset)++];
    token->number = 0;
    if (first < 0x80) {
        token->kind = TOKEN_UINT;
        token->number = first;
    } else if (first >= 0xe0) {
        token->kind = TOKEN_INT;
        token->number = (uint64_t)(int64_t)(signed char)first;
    } else if (first >= 0xc0) {
        if (!next_wide(bytes, offset, first, token))
            return false;
    } else if (first >= 0xa0) {
        token->kind = TOKEN_TEXT;
        token->number = first & 0x1f;
    } else if (first >= 0x90) {
        token->kind = TOKEN_ARRAY;
        token->number = first & 0x0f;
    } else {
        return false; /* maps are never written */
    }
    if (token->kind == TOKEN_TEXT || token->kind == TOKEN_BYTES) {
        if (token->number > bytes.len - *offset)
            return false;
        token->data = bytes.data + *offset;
        *offset += token->number;
    }
    return token->kind != TOKEN_ARRAY || token->number <= ELEMENTS_MAX;
}

/* Moves past one value of any shape. */
static bool skip(struct slice bytes, size_t *offset, int depth)
{
    struct token token;
    if (!next_token(bytes, offset, &token))
        return false;
    if (token.kind != TOKEN_ARRAY)
        return true;
    if (depth == DEPTH_MAX)
        return false;
    for (uint64_t i = 0; i < token.number; i++)
        if (!skip(bytes, offset, depth + 1))
            return false;
    return true;
}

bool record_frame_valid(struct slice bytes)
{
    size_t offset = 0;
    while (offset < bytes.len) {
        struct token token;
        size_t at = offset;
        if (!next_token(bytes, &at, &token) || token.kind != TOKEN_ARRAY || token.number == 0)
            return false;
        if (!skip(bytes, &offset, 0))
            return false;
    }
    return bytes.len > 0;
}

static bool get_field(const struct token *token, enum field_type type, void *at)
{
    static const uint64_t most[] = {[FIELD_U8] = UINT8_MAX, [FIELD_U32] = UINT32_MAX, [FIELD_U64] = UINT64_MAX};
    switch (type) {
    case FIELD_U8:
    case FIELD_U32:
    case FIELD_U64:
        if (token->kind != TOKEN_UINT || token->number > most[type])
            return false;
        if (type == FIELD_U8)
            *(uint8_t *)at = (uint8_t)token->number;
        else if (type == FIELD_U32)
            *(uint32_t *)at = (uint32_t)token->number;
        else
            *(uint64_t *)at = token->number;
        return true;
    case FIELD_I64:
        *(int64_t *)at = (int64_t)token->number;
        return token->kind == TOKEN_INT || (token->kind == TOKEN_UINT && token->number <= INT64_MAX);
    case FIELD_F64:
        *(double *)at = token->real;
        return token->kind == TOKEN_REAL;
    case FIELD_TEXT:
    case FIELD_BYTES:
        *(struct slice *)at = (struct slice){token->data, (size_t)token->number};
        return token->kind == (type == FIELD_TEXT ? TOKEN_TEXT : TOKEN_BYTES);
    }
    return false;
}

static const struct record_type *find_type(const struct record_type *types, uint64_t number)
{
    for (; types->name != NULL; types++)
        if (types->number == number)
            return types;
    return NULL;
}

int record_get(struct slice bytes, size_t *offset, const struct record_type *types, void *value,
               const struct record_type **type)
{
    struct token token;
    if (!next_token(bytes, offset, &token) || token.kind != TOKEN_ARRAY || token.number == 0)
        return ERR_PROTOCOL;
    uint64_t fields = token.number - 1;
    if (!next_token(bytes, offset, &token) || token.kind != TOKEN_UINT)
        return ERR_PROTOCOL;
    *type = find_type(types, token.number);
    if (*type == NULL)
        return ERR_PROTOCOL;
    memset(value, 0, (*type)->size);
    for (uint64_t i = 0; i < fields; i++) {
        if (i >= (*type)->fields_len) {
            if (!skip(bytes, offset, 1))
                return ERR_PROTOCOL;
            continue;
        }
        const struct field *field = &(*type)->fields[i];
        if (!next_token(bytes, offset, &token) || !get_field(&token, field->type, (char *)value + field->offset))
            return ERR_PROTOCOL;
    }
    return 0;
}

static void print_text(struct buf *out, struct slice text)
{
    size_t len = text.len < 60 ? text.len : 60;
    buf_puts(out, "\"");
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        buf_put(out, c >= 0x20 && c < 0x7f && c != '"' ? &text.data[i] : ".", 1);
    }
    buf_puts(out, len < text.len ? "...\"" : "\"");
}

static void print_field(struct buf *out, enum field_type type, const void *at)
{
    const struct slice *slice = at;
    switch (type) {
    case FIELD_U8:
        buf_printf(out, "%u", *(const uint8_t *)at);
        return;
    case FIELD_U32:
        if (*(const uint32_t *)at == UINT32_MAX)
            buf_puts(out, "-");
        else
            buf_printf(out, "%u", *(const uint32_t *)at);
        return;
    case FIELD_U64:
        buf_printf(out, "%llu", (unsigned long long)*(const uint64_t *)at);
        return;
    case FIELD_I64:
        buf_printf(out, "%lld", (long long)*(const int64_t *)at);
        return;
    case FIELD_F64:
        buf_printf(out, "%.17g", *(const double *)at);
        return;
    case FIELD_TEXT:
        print_text(out, *slice);
        return;
    case FIELD_BYTES:
        for (size_t i = 0; i < slice->len && i < 32; i++)
            buf_printf(out, "%02x", (unsigned char)slice->data[i]);
        if (slice->len > 32)
            buf_printf(out, "...(%zu)", slice->len);
        return;
    }
}

void record_print(struct buf *out, const struct record_type *type, const void *value)
{
    buf_puts(out, type->name);
    for (size_t i = 0; i < type->fields_len; i++) {
        buf_printf(out, " %s=", type->fields[i].name);
        print_field(out, type->fields[i].type, (const char *)value + type->fields[i].offset);
    }
}

static void json_hex(struct buf *out, struct slice bytes)
{
    struct buf text = {0};
    buf_grow(&text, 2 * bytes.len);
    for (size_t i = 0; i < bytes.len; i++)
        buf_printf(&text, "%02x", (unsigned char)bytes.data[i]);
    json_text(out, buf_slice(&text));
    buf_clear(&text);
}

static void json_field(struct buf *out, enum field_type type, const void *at)
{
    switch (type) {
    case FIELD_U8:
        json_u64(out, *(const uint8_t *)at);
        return;
    case FIELD_U32:
        if (*(const uint32_t *)at == UINT32_MAX)
            json_none(out);
        else
            json_u64(out, *(const uint32_t *)at);
        return;
    case FIELD_U64:
        json_u64(out, *(const uint64_t *)at);
        return;
    case FIELD_I64:
        json_i64(out, *(const int64_t *)at);
        return;
    case FIELD_F64:
        json_f64(out, *(const double *)at);
        return;
    case FIELD_TEXT:
        json_text(out, *(const struct slice *)at);
        return;
    case FIELD_BYTES:
        json_hex(out, *(const struct slice *)at);
        return;
    }
}

void record_json(struct buf *out, const struct record_type *type, const void *value)
{
    for (size_t i = 0; i < type->fields_len; i++) {
        json_key(out, type->fields[i].name);
        json_field(out, type->fields[i].type, (const char *)value + type->fields[i].offset);
    }
}
