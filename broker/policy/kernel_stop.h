/* kernel_stop.h - the arithmetic of the stopping rules; see kernel.h. */
#ifndef DROVER_KERNEL_STOP_H
#define DROVER_KERNEL_STOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The smallest a > b with half_density(a, b) <= limit; limit in (0, 1). */
uint32_t half_density_least(uint32_t b, double limit);

#endif
