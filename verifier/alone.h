/* alone.h - a check made of an engine: one job at a time, waited for. What lets a verifier that asks servers stand inside
 * another one. */
#ifndef DROVER_ALONE_H
#define DROVER_ALONE_H

#include "verifier/check.h"

int alone_open(const struct engine *engine, struct slice spec, void **state, struct error *error);
int alone_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error);
void alone_close(void **state);

#endif
