/* csv.c - see csv.h. */
#include "worker/csv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

void csv_init(struct csv *csv, struct slice text, size_t record_max)
{
    *csv = (struct csv){.text = text, .line = 1, .record_max = record_max};
    if (text.len >= 3 && memcmp(text.data, "\xEF\xBB\xBF", 3) == 0)
        csv->offset = 3;
}

void csv_record_clear(struct csv_record *record)
{
    buf_clear(&record->unquoted);
}

/* A record being read; nothing in the csv changes before it is whole. */
struct cursor {
    const struct csv *csv;
    size_t at, end; /* end: as far as this record may reach */
    uint64_t line;
};

static int wrong(const struct cursor *cursor, size_t column, const char *what, struct error *error)
{
    return error_set(error, ERR_SYNTAX, "line %" PRIu64 ", column %zu: %s", cursor->line, column + 1, what);
}

static int too_long(const struct cursor *cursor, bool quoted, struct error *error)
{
    return error_set(error, ERR_LIMIT, "line %" PRIu64 ": the record has more than %zu bytes%s", cursor->csv->line,
                     cursor->csv->record_max, quoted ? "; is a quote not closed?" : "");
}

static bool at_line_end(const struct cursor *cursor)
{
    const struct slice *text = &cursor->csv->text;
    if (cursor->at == text->len || text->data[cursor->at] == '\n')
        return true;
    return text->data[cursor->at] == '\r' && (cursor->at + 1 == text->len || text->data[cursor->at + 1] == '\n');
}

static int read_plain(struct cursor *cursor, size_t column, struct slice *cell, struct error *error)
{
    const char *data = cursor->csv->text.data;
    size_t start = cursor->at;
    for (; cursor->at < cursor->end; cursor->at++) {
        char c = data[cursor->at];
        if (c == ',' || c == '\n' || (c == '\r' && at_line_end(cursor)))
            break;
        if (c == '"')
            return wrong(cursor, column, "a quote inside a cell that does not start with one", error);
        if (c == '\0')
            return wrong(cursor, column, "a NUL byte", error);
    }
    if (cursor->at == cursor->end && !at_line_end(cursor))
        return too_long(cursor, false, error);
    *cell = (struct slice){data + start, cursor->at - start};
    return 0;
}

/* `out` has room for the whole record, so it does not move while cells point into it. */
static int read_quoted(struct cursor *cursor, size_t column, struct buf *out, struct slice *cell, struct error *error)
{
    const char *data = cursor->csv->text.data;
    size_t start = out->len;
    uint64_t opened = cursor->line;
    for (cursor->at++;; cursor->at++) {
        if (cursor->at == cursor->csv->text.len) {
            cursor->line = opened;
            return wrong(cursor, column, "a quote is opened and never closed", error);
        }
        if (cursor->at >= cursor->end)
            return too_long(cursor, true, error);
        char c = data[cursor->at];
        if (c == '\0')
            return wrong(cursor, column, "a NUL byte", error);
        if (c == '"') {
            if (cursor->at + 1 == cursor->csv->text.len || data[cursor->at + 1] != '"')
                break;
            cursor->at++;
        }
        cursor->line += c == '\n';
        out->data[out->len++] = c;
    }
    cursor->at++;
    *cell = (struct slice){out->data + start, out->len - start};
    if (!at_line_end(cursor) && data[cursor->at] != ',')
        return wrong(cursor, column, "text behind a closing quote", error);
    return 0;
}

static void skip_line_end(struct cursor *cursor)
{
    const struct slice *text = &cursor->csv->text;
    if (cursor->at < text->len && text->data[cursor->at] == '\r')
        cursor->at++;
    if (cursor->at < text->len) {
        cursor->at++;
        cursor->line++;
    }
}

static int read_cells(struct cursor *cursor, struct csv_record *record, struct error *error)
{
    const char *data = cursor->csv->text.data;
    for (;;) {
        if (record->len == CSV_CELLS_MAX)
            return error_set(error, ERR_LIMIT, "line %" PRIu64 ": more than %d columns", cursor->line, CSV_CELLS_MAX);
        struct slice *cell = &record->cells[record->len];
        bool quoted = cursor->at < cursor->csv->text.len && data[cursor->at] == '"';
        int rc = quoted ? read_quoted(cursor, record->len, &record->unquoted, cell, error)
                        : read_plain(cursor, record->len, cell, error);
        if (rc != 0)
            return rc;
        record->len++;
        if (at_line_end(cursor))
            return 0;
        if (cursor->at >= cursor->end)
            return too_long(cursor, false, error);
        cursor->at++; /* the comma */
    }
}

int csv_next(struct csv *csv, struct csv_record *record, struct error *error)
{
    struct cursor cursor = {.csv = csv, .at = csv->offset, .line = csv->line};
    while (cursor.at < csv->text.len && at_line_end(&cursor))
        skip_line_end(&cursor);
    csv->offset = cursor.at;
    csv->line = cursor.line;
    if (cursor.at == csv->text.len)
        return 0;
    size_t left = csv->text.len - cursor.at;
    cursor.end = cursor.at + (left < csv->record_max ? left : csv->record_max);
    buf_reset(&record->unquoted);
    buf_grow(&record->unquoted, cursor.end - cursor.at);
    record->line = cursor.line;
    record->len = 0;
    int rc = read_cells(&cursor, record, error);
    if (rc != 0)
        return rc;
    if (csv->cells_len == 0)
        csv->cells_len = record->len;
    if (record->len != csv->cells_len)
        return error_set(error, ERR_SYNTAX, "line %" PRIu64 ": %zu cells, and the first record has %zu", record->line,
                         record->len, csv->cells_len);
    skip_line_end(&cursor);
    csv->offset = cursor.at;
    csv->line = cursor.line;
    assert(csv->offset <= csv->text.len);
    return 1;
}
