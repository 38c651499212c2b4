/* sweep_grid.h - which values of a grid an arm stands for. */
#ifndef DROVER_SWEEP_GRID_H
#define DROVER_SWEEP_GRID_H

#include "common/buf.h"

#include <stdint.h>

enum { GRID_AXES_MAX = 16 };

/* One arm of a grid: the keys of `over` in order, with its values as they are written; NULL: a value that is no text. */
struct grid_arm {
    const char *name;
    uint32_t grid, len; /* which grid of the file; keys */
    const char *keys[GRID_AXES_MAX], *values[GRID_AXES_MAX];
};

/* Calls visit for each arm that the grids of a sweep file make; its texts live until it returns. ERR_SYNTAX, ERR_LIMIT:
 * the file does not say what it should. */
int sweep_grid_visit(struct slice source, void (*visit)(void *arg, const struct grid_arm *arm), void *arg);

#endif
