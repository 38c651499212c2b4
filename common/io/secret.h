/* secret.h - keys of servers: read from a file or the environment, kept out of everything else.
 *
 * Configuration names where a key is, never the key: what is in a sweep file ends up in the journal, what is in argv in
 * the process list. */
#ifndef DROVER_SECRET_H
#define DROVER_SECRET_H

#include "common/buf.h"
#include "common/err.h"

/* A process that holds a key leaves no core and cannot be read by others of its user.
 *
 * Sets key to the one line of a file, or to an environment variable; empty when both names are NULL or "". The file
 * wins. ERR_NOT_FOUND, ERR_SYNTAX (not one line of printable characters without spaces), ERR_LIMIT: the error names the
 * file or variable and never what is in it. */
int secret_read(const char *file, const char *variable, struct buf *key, struct error *error);

/* Replaces every occurrence of key (NULL: none) in text, and a part of it that a cut has left at the end: servers like to
 * repeat it in their complaints. So hide first what may have been cut, then cut again. */
void secret_hide(char *text, const char *key);

/* Overwrites and frees. */
void secret_clear(struct buf *key);

#endif
