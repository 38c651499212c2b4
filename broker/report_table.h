/* report_table.h - a table of a report: its rows are filled in once, and printed as text and as JSON. */
#ifndef DROVER_REPORT_TABLE_H
#define DROVER_REPORT_TABLE_H

#include "common/buf.h"

#include <stddef.h>

enum cell_style {
    CELL_TEXT,
    CELL_COUNT,   /* a whole number */
    CELL_SHARE,   /* of 3 decimals */
    CELL_PERCENT, /* a share, shown as so many percent */
    CELL_NUMBER,  /* of 4 digits */
    CELL_LOW,     /* share: the lower end of an interval whose upper end is the next column, shown together */
    CELL_HIGH,
};

struct report_column {
    const char *key;  /* in JSON; NULL: the end of the columns */
    const char *head; /* in text; NULL: only in JSON */
    enum cell_style style;
};

struct report_cell {
    char *text; /* owned */
    double number;
};

struct report_table {
    const char *key, *title; /* in JSON; the line above in text */
    const struct report_column *columns;
    struct report_cell *cells; /* row by row */
    size_t len, cap;
};

void report_table_init(struct report_table *table, const char *key, const char *title,
                       const struct report_column *columns);
void report_table_clear(struct report_table *table);

/* The next cell, row by row, as its column's style wants it. NaN: there is no such number. */
void report_table_text(struct report_table *table, const char *text);
void report_table_number(struct report_table *table, double number);

/* As text: nothing without rows. */
void report_table_print(const struct report_table *table, struct buf *out);
/* As a key and a list of objects. */
void report_table_json(const struct report_table *table, struct buf *json);

#endif
