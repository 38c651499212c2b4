/* buf.h - a growing byte buffer, borrowed slices of bytes, and allocation that cannot fail.
 *
 * Lengths that come from outside are checked against a limit before they reach this module. */
#ifndef DROVER_BUF_H
#define DROVER_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* Abort with a message when memory is gone: state would be half changed otherwise. */
void *xalloc(size_t size);              /* zeroed */
void *xrealloc(void *old, size_t size); /* grown part undefined */
char *xstrdup(const char *text);

/* Borrowed bytes. data may be NULL when len is 0. */
struct slice {
    const char *data;
    size_t len;
};

struct buf {
    char *data; /* NUL follows data[len - 1] after any buf_ call that adds, so text can be printed */
    size_t len, cap;
};

void buf_clear(struct buf *buf);             /* frees */
void buf_reset(struct buf *buf);             /* empties, keeps the memory */
char *buf_grow(struct buf *buf, size_t len); /* room for len more; where they go */
void buf_put(struct buf *buf, const void *data, size_t len);
void buf_puts(struct buf *buf, const char *text);
void buf_put_u64(struct buf *buf, uint64_t value); /* in decimal */
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *buf, const char *format, va_list args);
struct slice buf_slice(const struct buf *buf);
struct slice slice_of(const char *text);

#endif
