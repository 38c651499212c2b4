/* outage.h - servers that do not answer, over all threads of this process: said once when it begins, once when it is over.
 *
 * A verdict waits for its server as long as its timeout lasts. That is right, and must not be silent. */
#ifndef DROVER_OUTAGE_H
#define DROVER_OUTAGE_H

#include <stdbool.h>
#include <stddef.h>

/* why: a sentence that names the address. Does nothing while the server is known to be away. */
void outage_begin(const char *url, const char *why);
void outage_end(const char *url, bool answered); /* answered: else nobody asks it any more */

/* The first server that is away; false, and "": none is. As `trouble` of agent_options. */
bool outage_text(char *text, size_t size);

#endif
