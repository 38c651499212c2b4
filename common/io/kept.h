/* kept.h - the attachments that an agent has, and those that its tasks wait for.
 *
 * One is fetched when the first task names it, once however many do, and stays until its room is needed by another: what
 * tasks hold is never dropped. They are asked for one at a time, in the order in which tasks came, so that whenever there
 * is no room left some task has all it needs, and will make room when it ends. */
#ifndef DROVER_KEPT_H
#define DROVER_KEPT_H

#include "common/attachment.h"

#include <stdbool.h>

struct kept_table;
struct kept; /* one attachment, here or not */

struct kept_table *kept_table_new(size_t bytes_max);
void kept_table_free(struct kept_table **table);

/* A task holds it, or no longer does. */
struct kept *kept_hold(struct kept_table *table, struct attachment_id id);
void kept_release(struct kept_table *table, struct kept *kept);

/* False: it has not come yet. */
bool kept_data(const struct kept *kept, struct slice *data);

/* The one to ask for now; false: none, or there is no room. Until it came, or was given up, this says no other. */
bool kept_wanted(const struct kept_table *table, struct attachment_id *id);

/* Takes data for whom it was asked. NULL: nobody waits for it, or it is other data than it should be. */
struct kept *kept_arrived(struct kept_table *table, struct attachment_id id, struct slice data);

/* The one that tasks wait for; NULL: nobody does. */
struct kept *kept_waiting(const struct kept_table *table, struct attachment_id id);

#endif
