/* text_table.c - see text_table.h. */
#include "broker/core/text_table.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Length of the UTF-8 sequence at p and its code point; 0: malformed. */
static size_t decode(const unsigned char *p, size_t left, uint32_t *code)
{
    size_t len = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (len == 0 || len > left)
        return 0;
    *code = len == 1 ? p[0] : p[0] & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        *code = *code << 6 | (p[i] & 0x3F);
    }
    bool surrogate = *code >= 0xD800 && *code < 0xE000;
    return *code < least[len] || *code > 0x10FFFF || surrogate ? 0 : len;
}

/* Controls, and marks that change direction or end lines. */
static bool steers(uint32_t code)
{
    return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x61C || code == 0x200E || code == 0x200F ||
           (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069) || code == 0xFEFF;
}

void text_plain(struct slice text, struct buf *out)
{
    for (size_t i = 0; i < text.len;) {
        uint32_t code = 0;
        size_t len = decode((const unsigned char *)text.data + i, text.len - i, &code);
        if (len == 0 || steers(code))
            buf_puts(out, "?");
        else
            buf_put(out, text.data + i, len);
        i += len == 0 ? 1 : len;
    }
}

uint32_t text_width(struct slice text)
{
    uint32_t width = 0;
    for (size_t i = 0; i < text.len; i++)
        width += ((unsigned char)text.data[i] & 0xC0) != 0x80;
    return width;
}

void text_table_init(struct text_table *table, const char *align)
{
    *table = (struct text_table){.align = align};
}

void text_table_clear(struct text_table *table)
{
    buf_clear(&table->text);
    free(table->cells);
    *table = (struct text_table){0};
}

void text_cell(struct text_table *table, const char *text)
{
    if (table->len == table->cap) {
        table->cap = table->cap == 0 ? 32 : 2 * table->cap;
        table->cells = xrealloc(table->cells, table->cap * sizeof *table->cells);
    }
    text_plain(slice_of(text), &table->text);
    table->cells[table->len++] = (uint32_t)table->text.len;
}

void text_heads(struct text_table *table, const char *heads)
{
    for (size_t len; *heads != '\0'; heads += len + (heads[len] == '|')) {
        len = strcspn(heads, "|");
        text_cellf(table, "%.*s", (int)len, heads);
    }
}

void text_cellf(struct text_table *table, const char *format, ...)
{
    struct buf text = {0};
    va_list args;
    va_start(args, format);
    buf_vprintf(&text, format, args);
    va_end(args);
    text_cell(table, text.data == NULL ? "" : text.data);
    buf_clear(&text);
}

static struct slice cell_at(const struct text_table *table, uint32_t i)
{
    uint32_t from = i == 0 ? 0 : table->cells[i - 1];
    return (struct slice){table->text.data + from, table->cells[i] - from};
}

static void blanks(struct buf *out, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        buf_put(out, " ", 1);
}

static void cell_print(const struct text_table *table, uint32_t i, uint32_t width, struct buf *out)
{
    uint32_t columns = (uint32_t)strlen(table->align), column = i % columns;
    struct slice text = cell_at(table, i);
    uint32_t pad = width - text_width(text);
    if (column > 0)
        blanks(out, 2);
    if (table->align[column] == 'r')
        blanks(out, pad);
    buf_put(out, text.data, text.len);
    if (table->align[column] == 'l' && column + 1 < columns)
        blanks(out, pad);
}

void text_table_print(const struct text_table *table, uint32_t indent, struct buf *out)
{
    uint32_t columns = (uint32_t)strlen(table->align);
    assert(table->len % columns == 0);
    uint32_t *widths = xalloc(columns * sizeof *widths);
    for (uint32_t i = 0; i < table->len; i++) {
        uint32_t width = text_width(cell_at(table, i));
        if (width > widths[i % columns])
            widths[i % columns] = width;
    }
    for (uint32_t i = 0; i < table->len; i++) {
        if (i % columns == 0)
            blanks(out, indent);
        cell_print(table, i, widths[i % columns], out);
        if (i % columns == columns - 1)
            buf_puts(out, "\n");
    }
    free(widths);
}
