/* clock.h - the two clocks. Only shells read them; the core gets time inside its events. */
#ifndef DROVER_CLOCK_H
#define DROVER_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_ms(void) /* monotonic */
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline int64_t clock_unix_s(void) /* wall clock */
{
    return (int64_t)time(NULL);
}

#endif
