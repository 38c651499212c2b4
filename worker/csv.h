/* csv.h - reads CSV (RFC 4180) from memory, one record at a time, strictly.
 *
 * Records end with LF or CRLF, cells may be quoted, a quoted cell may hold line ends and doubled
 * quotes. A byte order mark at the start and empty lines are skipped. Everything else that is not
 * RFC 4180 is an error: a recording that is read wrongly is worse than one that is refused. */
#ifndef DROVER_CSV_H
#define DROVER_CSV_H

#include "common/buf.h"
#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

enum { CSV_CELLS_MAX = 1024 };

struct csv {
    struct slice text;
    size_t offset;     /* of the next record */
    uint64_t line;     /* on which that starts, from 1 */
    size_t record_max; /* bytes of one record */
    size_t cells_len;  /* cells of every record; set by the first */
};

/* One record. Cells point into the text, or into `unquoted` where quotes had to be taken out. */
struct csv_record {
    uint64_t line;
    struct slice cells[CSV_CELLS_MAX];
    size_t len;
    struct buf unquoted;
};

void csv_init(struct csv *csv, struct slice text, size_t record_max);

/* 1: a record; 0: the end; ERR_SYNTAX or ERR_LIMIT: the error says "line L, column C: ...". Cells
 * are valid until the next call. A reader that met an error stays there. */
int csv_next(struct csv *csv, struct csv_record *record, struct error *error);
void csv_record_clear(struct csv_record *record);

#endif
