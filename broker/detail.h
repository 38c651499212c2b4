/* detail.h - what a verifier told beside its verdict, as exports show it. */
#ifndef DROVER_DETAIL_H
#define DROVER_DETAIL_H

#include "common/buf.h"

/* Appends the member "detail" of a JSON object, from the text frame that the verifier sent. It was stored unread, and a
 * verifier is not trusted to have told an object that any reader can take (see plain_object): anything else is shown as a
 * text. A frame that cannot be unpacked is left out. */
void detail_put(struct slice frame, struct buf *json);

#endif
