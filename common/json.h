/* json.h - writes JSON into a buf. Reading is jansson's work.
 *
 * Commas are placed by looking at what was written last, so callers only say what comes next. Text that is not valid
 * UTF-8 is written with U+FFFD for each wrong byte; control characters are escaped. */
#ifndef DROVER_JSON_H
#define DROVER_JSON_H

#include "common/buf.h"

#include <stdbool.h>
#include <stdint.h>

void json_begin(struct buf *out, char open); /* '{' or '[' */
void json_end(struct buf *out, char close);  /* '}' or ']' */
void json_key(struct buf *out, const char *key);
void json_text(struct buf *out, struct slice text);
void json_str(struct buf *out, const char *text); /* NULL writes null */
void json_u64(struct buf *out, uint64_t value);
void json_i64(struct buf *out, int64_t value);
void json_f64(struct buf *out, double value); /* shortest that reads back equal; null unless finite */
void json_bool(struct buf *out, bool value);
void json_none(struct buf *out);
void json_raw(struct buf *out, struct slice json); /* already JSON */

#endif
