/* metrics.h - the few gauges of a server's /metrics page that say how busy it is. */
#ifndef DROVER_METRICS_H
#define DROVER_METRICS_H

#include "common/buf.h"

#include <stdbool.h>

struct gauge_value {
    bool known; /* a server that does not tell is not idle */
    double sum, max;
};

/* Looks for the first of names[0..len) that the page has (NULLs end the list) and takes all its series: one per model,
 * engine or rank. Lines that are no numbers are skipped. */
struct gauge_value metrics_find(struct slice page, const char *const *names, size_t len);

#endif
