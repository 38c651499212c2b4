/* text_table.h - aligned columns for terminals, from cells that may hold anything.
 *
 * Names come from people and from the network: what could steer a terminal (control characters, C1
 * controls, direction marks, malformed UTF-8) is replaced by '?' on the way in. */
#ifndef DROVER_TEXT_TABLE_H
#define DROVER_TEXT_TABLE_H

#include "common/buf.h"

#include <stdint.h>

struct text_table {
    const char *align; /* 'l' or 'r' for each column */
    struct buf text;   /* cells one after the other */
    uint32_t *cells;   /* where each one ends */
    uint32_t len, cap;
};

void text_table_init(struct text_table *table, const char *align);
/* Its first row, written as "name|n|right". */
void text_heads(struct text_table *table, const char *heads);
void text_table_clear(struct text_table *table);

/* The next cell, row by row. */
void text_cell(struct text_table *table, const char *text);
void text_cellf(struct text_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends the rows, each behind `indent` blanks; columns are two blanks apart. */
void text_table_print(const struct text_table *table, uint32_t indent, struct buf *out);

void text_plain(struct slice text, struct buf *out);
uint32_t text_width(struct slice text); /* code points */

#endif
