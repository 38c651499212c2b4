/* kernel_stop.c - see kernel_stop.h. */
#include "broker/policy/kernel_stop.h"

#include "broker/policy/kernel.h"

#include <assert.h>

uint32_t half_density_least(uint32_t b, double limit)
{
    assert(limit > 0);
    assert(limit < 1);
    uint32_t step = 1;
    while (half_density(b + step, b) > limit)
        step *= 2;
    uint32_t low = b + step / 2, high = b + step; /* the density falls as a grows beyond b; it is above 1 at a = b */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (half_density(middle, b) <= limit)
            high = middle;
        else
            low = middle;
    }
    return high;
}
