/* window.h - aligned windows of rollouts that agree, for the stopper `esc` and the selector `window`. */
#ifndef DROVER_WINDOW_H
#define DROVER_WINDOW_H

#include "broker/policy/policy.h"

/* Whether the `size` delivered rollouts from `from` on gave one and the same answer. A failed one, or one without an
 * answer, agrees with nobody. */
bool window_agrees(const struct stats *stats, uint32_t from, uint32_t size);

#endif
