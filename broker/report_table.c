/* report_table.c - see report_table.h. */
#include "broker/report_table.h"

#include "broker/core/text_table.h"
#include "common/json.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

void report_table_init(struct report_table *table, const char *key, const char *title,
                       const struct report_column *columns)
{
    *table = (struct report_table){.key = key, .title = title, .columns = columns};
}

void report_table_clear(struct report_table *table)
{
    for (size_t i = 0; i < table->len; i++)
        free(table->cells[i].text);
    free(table->cells);
    table->cells = NULL;
    table->len = table->cap = 0;
}

static size_t columns_len(const struct report_table *table)
{
    size_t len = 0;
    while (table->columns[len].key != NULL)
        len++;
    return len;
}

static void cell_add(struct report_table *table, struct report_cell cell)
{
    bool texts = table->columns[table->len % columns_len(table)].style == CELL_TEXT;
    assert(texts == (cell.text != NULL));
    if (table->len == table->cap) {
        table->cap = table->cap == 0 ? 32 : 2 * table->cap;
        table->cells = xrealloc(table->cells, table->cap * sizeof *table->cells);
    }
    table->cells[table->len++] = cell;
}

void report_table_text(struct report_table *table, const char *text)
{
    cell_add(table, (struct report_cell){.text = xstrdup(text)});
}

void report_table_number(struct report_table *table, double number)
{
    cell_add(table, (struct report_cell){.number = number});
}

static void print_number(struct text_table *text, enum cell_style style, const struct report_cell *cell)
{
    if (isnan(cell->number))
        text_cell(text, "-");
    else if (style == CELL_COUNT)
        text_cellf(text, "%.0f", cell->number);
    else if (style == CELL_SHARE)
        text_cellf(text, "%.3f", cell->number);
    else if (style == CELL_PERCENT)
        text_cellf(text, "%.1f%%", 100 * cell->number);
    else if (style == CELL_LOW)
        text_cellf(text, "%.3f-%.3f", cell->number, cell[1].number);
    else
        text_cellf(text, "%.4g", cell->number);
}

void report_table_print(const struct report_table *table, struct buf *out)
{
    size_t columns = columns_len(table);
    struct buf align = {0};
    struct text_table text;
    if (table->len == 0)
        return;
    for (size_t c = 0; c < columns; c++)
        if (table->columns[c].head != NULL)
            buf_puts(&align, table->columns[c].style == CELL_TEXT ? "l" : "r");
    text_table_init(&text, align.data);
    for (size_t c = 0; c < columns; c++)
        if (table->columns[c].head != NULL)
            text_cell(&text, table->columns[c].head);
    for (size_t i = 0; i < table->len; i++) {
        const struct report_column *column = &table->columns[i % columns];
        if (column->head != NULL && column->style == CELL_TEXT)
            text_cell(&text, table->cells[i].text);
        else if (column->head != NULL)
            print_number(&text, column->style, &table->cells[i]);
    }
    buf_printf(out, "\n%s\n", table->title);
    text_table_print(&text, 2, out);
    text_table_clear(&text);
    buf_clear(&align);
}

void report_table_json(const struct report_table *table, struct buf *json)
{
    size_t columns = columns_len(table);
    json_key(json, table->key);
    json_begin(json, '[');
    for (size_t i = 0; i < table->len; i++) {
        const struct report_column *column = &table->columns[i % columns];
        if (column == table->columns)
            json_begin(json, '{');
        json_key(json, column->key);
        if (column->style == CELL_TEXT)
            json_str(json, table->cells[i].text);
        else
            json_f64(json, table->cells[i].number);
        if (i % columns == columns - 1)
            json_end(json, '}');
    }
    json_end(json, ']');
}
