/* place.h - what of a spec says only where a server is and how it lets one in.
 *
 * A server that moves to another host, or a key file that is renamed, changes nothing of what is generated or how it is
 * judged. So this is no part of what makes two models, verifiers or pools the same. */
#ifndef DROVER_PLACE_H
#define DROVER_PLACE_H

#include "common/buf.h"

/* Appends a spec of a model or verifier, the JSON that agents get, with null for all such values, also those of the
 * verifiers inside. A spec without any is appended as it is, and so are bytes that are no spec. */
void place_blank(struct slice spec, struct buf *out);

#endif
