/* log.h - one line per event on standard error: "drover: word key=value ...". Talk, never data. */
#ifndef DROVER_LOG_H
#define DROVER_LOG_H

/* level 0 always, 1 with -v, 2 with -vv. Control characters are replaced. */
void log_line(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_level(int level);

#endif
