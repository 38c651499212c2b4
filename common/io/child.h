/* child.h - one child program that speaks lines: one line in, one line back.
 *
 * The child leads a process group of its own, so that what it starts dies with it; it also dies
 * with the thread that started it (PR_SET_PDEATHSIG): start a child on the thread that will use it.
 * Its standard error is ours. SIGPIPE is held back here while writing, so callers need no signal
 * setup. One thread uses a child at a time. */
#ifndef DROVER_CHILD_H
#define DROVER_CHILD_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct child;

/* argv ends with NULL; argv[0] is looked up in PATH. ERR_NOT_FOUND (no such program), ERR_SYSTEM.
 */
int child_start(const char *const argv[], struct child **child, struct error *error);

/* Sends line, which holds no newline, and sets answer to the line that comes back, without its end,
 * of at most max bytes. ERR_CLOSED: the child ended, the error says how. ERR_TIMEOUT: no whole line
 * in time. ERR_LIMIT: a longer line. ERR_PROTOCOL: it had written something unasked. After any of
 * these the child is of no more use: free it. */
int child_ask(struct child *child, struct slice line, struct buf *answer, size_t max, int64_t timeout_ms,
              struct error *error);

/* How many lines the child has answered: tells a child that wore out from one that never worked. */
uint64_t child_answers(const struct child *child);

/* Kills the whole group, waits for the child, sets *child to NULL. Does nothing for NULL. */
void child_free(struct child **child);

#endif
