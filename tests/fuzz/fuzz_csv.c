/* fuzz_csv.c - any bytes as CSV: every cell is read, and records written back read the same. */
#include "worker/csv.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Everything quoted, so that any cell survives. */
static void put_record(struct buf *out, const struct csv_record *record)
{
    for (size_t i = 0; i < record->len; i++) {
        buf_puts(out, i > 0 ? ",\"" : "\"");
        for (size_t b = 0; b < record->cells[i].len; b++) {
            char c = record->cells[i].data[b];
            buf_put(out, "\"\"", c == '"');
            buf_put(out, &c, 1);
        }
        buf_puts(out, "\"");
    }
    buf_puts(out, "\r\n");
}

/* Rewrites all records that can be read; true when that was all of the text. */
static int rewrite(struct slice text, size_t record_max, struct buf *out)
{
    struct csv csv;
    struct csv_record *record = xalloc(sizeof(*record));
    struct error error = {0};
    int rc;
    csv_init(&csv, text, record_max);
    while ((rc = csv_next(&csv, record, &error)) == 1)
        put_record(out, record);
    if (rc < 0 && (error.text[0] == '\0' || csv_next(&csv, record, NULL) != rc))
        abort(); /* an error says why, and stays */
    csv_record_clear(record);
    free(record);
    return rc == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf once = {0}, twice = {0};
    struct slice text = {(const char *)data, size};
    rewrite(text, 64, &once);
    buf_reset(&once);
    rewrite(text, 1 << 20, &once);
    buf_puts(&once, "");
    if (!rewrite(buf_slice(&once), 1 << 22, &twice) || once.len != twice.len ||
        (once.len > 0 && memcmp(once.data, twice.data, once.len) != 0))
        abort();
    buf_clear(&once);
    buf_clear(&twice);
    return 0;
}
