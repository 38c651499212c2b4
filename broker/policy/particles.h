/* particles.h - the record that particle filtering keeps between two steps, for tests and reports.
 *
 * One flat block: this head, then n carried log-weights, n last scores, n end nodes, in slot order.
 */
#ifndef DROVER_PARTICLES_H
#define DROVER_PARTICLES_H

#include <stddef.h>
#include <stdint.h>

struct particles_head {
    uint32_t steps;     /* steps whose scores are folded in */
    uint32_t resampled; /* how many of them ended in resampling */
    double log_z;       /* log of the estimated normalising constant: product of mean weights so far */
};

struct particles {
    struct particles_head *head;
    double *log_weight; /* carried since the last resampling */
    double *score;      /* last r, clipped; 1 before the first step */
    uint32_t *node;     /* end of the path; NO_ORDINAL before the first step */
};

size_t particles_size(uint32_t n);
struct particles particles_of(void *record, uint32_t n); /* record: aligned for a double */

#endif
