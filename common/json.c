/* json.c - JSON writer; see json.h. */
#include "common/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_char(struct buf *out, char c)
{
    buf_put(out, &c, 1);
}

static bool needs_comma(char last)
{
    return last != '{' && last != '[' && last != ':' && last != ',' && last != '\n' && last != '\0';
}

static void separate(struct buf *out)
{
    if (out->len > 0 && needs_comma(out->data[out->len - 1]))
        put_char(out, ',');
}

void json_begin(struct buf *out, char open)
{
    separate(out);
    buf_put(out, &open, 1);
}

void json_end(struct buf *out, char close)
{
    buf_put(out, &close, 1);
}

/* Length of the valid UTF-8 sequence at p, 0 if there is none. Overlong forms and surrogates are not valid. */
static size_t utf8_len(const unsigned char *p, size_t left)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t low;
        size_t len;
    } forms[] = {{0x80, 0x00, 0, 1}, {0xE0, 0xC0, 0x80, 2}, {0xF0, 0xE0, 0x800, 3}, {0xF8, 0xF0, 0x10000, 4}};
    for (size_t f = 0; f < 4; f++) {
        if ((p[0] & forms[f].mask) != forms[f].lead)
            continue;
        if (forms[f].len > left)
            return 0;
        uint32_t code = p[0] & (unsigned char)~forms[f].mask;
        for (size_t i = 1; i < forms[f].len; i++) {
            if ((p[i] & 0xC0) != 0x80)
                return 0;
            code = code << 6 | (p[i] & 0x3F);
        }
        bool valid = code >= forms[f].low && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
        return valid ? forms[f].len : 0;
    }
    return 0;
}

static void escape(struct buf *out, const unsigned char *p, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t run = 0; /* plain bytes are copied in one go */
        while (i + run < len && p[i + run] >= 0x20 && p[i + run] < 0x7F && p[i + run] != '"' && p[i + run] != '\\')
            run++;
        buf_put(out, p + i, run);
        i += run;
        if (i == len)
            break;
        size_t wide = utf8_len(p + i, len - i);
        if (p[i] == '"' || p[i] == '\\')
            buf_printf(out, "\\%c", p[i]);
        else if (p[i] == '\n')
            buf_puts(out, "\\n");
        else if (p[i] == '\t')
            buf_puts(out, "\\t");
        else if (wide == 1)
            buf_printf(out, "\\u%04x", p[i]);
        else if (wide > 1)
            buf_put(out, p + i, wide);
        else
            buf_puts(out, "\\ufffd");
        i += wide > 0 ? wide : 1;
    }
}

void json_text(struct buf *out, struct slice text)
{
    separate(out);
    put_char(out, '"');
    escape(out, (const unsigned char *)text.data, text.len);
    put_char(out, '"');
}

void json_key(struct buf *out, const char *key)
{
    json_text(out, slice_of(key));
    put_char(out, ':');
}

void json_str(struct buf *out, const char *text)
{
    if (text == NULL)
        json_none(out);
    else
        json_text(out, slice_of(text));
}

void json_u64(struct buf *out, uint64_t value)
{
    separate(out);
    buf_put_u64(out, value);
}

void json_i64(struct buf *out, int64_t value)
{
    separate(out);
    if (value < 0)
        put_char(out, '-');
    buf_put_u64(out, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void json_f64(struct buf *out, double value)
{
    if (!isfinite(value)) {
        json_none(out);
        return;
    }
    if (value >= 0 && !signbit(value) && value < 1e15 && value == (double)(uint64_t)value) { /* as below, and fast */
        json_u64(out, (uint64_t)value);
        return;
    }
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    separate(out);
    buf_puts(out, text);
}

void json_bool(struct buf *out, bool value)
{
    json_raw(out, slice_of(value ? "true" : "false"));
}

void json_none(struct buf *out)
{
    json_raw(out, slice_of("null"));
}

void json_raw(struct buf *out, struct slice json)
{
    separate(out);
    buf_put(out, json.data, json.len);
}
