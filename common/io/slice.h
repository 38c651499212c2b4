/* slice.h - asks the kernel for short time slices, so that a broker beside busy workers is woken at once.
 *
 * With CPU-bound neighbours every wake-up may wait for a whole tick; kernels from 6.12 on take sched_runtime of an ordinary
 * process as its slice. */
#ifndef DROVER_SLICE_H
#define DROVER_SLICE_H

#include <stdbool.h>

/* For the calling thread and those it starts later. False: the kernel does not know it, and nothing changed. */
bool short_slice(void);

#endif
