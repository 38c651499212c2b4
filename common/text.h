/* text.h - texts as frames: a codec byte, then the text, compressed when that pays.
 *
 * Workers pack, the broker stores and forwards frames unopened, readers unpack. */
#ifndef DROVER_TEXT_H
#define DROVER_TEXT_H

#include "common/buf.h"

#include <stdbool.h>

/* First byte of a frame. Numbers are stored: never reuse one. */
enum text_codec { TEXT_RAW = 0, TEXT_ZSTD = 1 };

/* Appends one frame. The empty text is a frame of one byte. */
void text_pack(struct slice text, struct buf *out);

/* Appends the text of a frame, of at most max bytes. ERR_CORRUPT, ERR_LIMIT; out is then as before.
 */
int text_unpack(struct slice frame, size_t max, struct buf *out);

/* Takes apart what the journal keeps of one result: u32 length of the answer, the answer, a frame. False: it is not that.
 */
bool text_blob(struct slice blob, struct slice *answer, struct slice *frame);

#endif
