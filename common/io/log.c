/* log.c - see log.h. */
#include "common/io/log.h"
#include "common/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static int level_now;

void log_level(int level)
{
    level_now = level;
}

void log_line(int level, const char *format, ...)
{
    if (level > level_now)
        return;
    struct buf line = {0};
    va_list args;
    va_start(args, format);
    if (isatty(STDERR_FILENO))
        buf_puts(&line, "\r\033[K"); /* over a progress line that may stand there */
    size_t text = line.len;
    buf_puts(&line, "drover: ");
    buf_vprintf(&line, format, args);
    va_end(args);
    for (size_t i = text; i < line.len; i++)
        if ((unsigned char)line.data[i] < 0x20 || line.data[i] == 0x7f)
            line.data[i] = ' ';
    buf_puts(&line, "\n");
    ssize_t done = write(STDERR_FILENO, line.data, line.len); /* one call: lines of several processes do not mix */
    (void)done;
    buf_clear(&line);
}
