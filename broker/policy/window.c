/* window.c - see window.h. */
#include "broker/policy/window.h"

bool window_agrees(const struct stats *stats, uint32_t from, uint32_t size)
{
    const struct item *items = &stats->items[from];
    for (uint32_t i = 0; i < size; i++)
        if (items[i].failed || items[i].class == 0 || items[i].class != items[0].class)
            return false;
    return true;
}
