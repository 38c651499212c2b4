/* kept.c - see kept.h. */
#include "common/io/kept.h"

#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>

struct kept {
    struct attachment_id id;
    struct buf data; /* empty: it is not here */
    size_t holders;
    struct kept *prev, *next; /* in `waiting` while it is not here, else in `idle` while nobody holds it */
    UT_hash_handle hh;
};

struct kept_table {
    struct kept *all;            /* hash by id */
    struct kept *waiting, *idle; /* oldest first */
    size_t bytes, bytes_max;
};

struct kept_table *kept_table_new(size_t bytes_max)
{
    struct kept_table *table = xalloc(sizeof *table);
    table->bytes_max = bytes_max;
    return table;
}

static void drop(struct kept_table *table, struct kept *kept)
{
    HASH_DEL(table->all, kept);
    table->bytes -= kept->data.len;
    buf_clear(&kept->data);
    free(kept);
}

void kept_table_free(struct kept_table **table)
{
    struct kept *kept, *next;
    HASH_ITER (hh, (*table)->all, kept, next)
        drop(*table, kept);
    free(*table);
    *table = NULL;
}

static struct kept *find(const struct kept_table *table, struct attachment_id id)
{
    struct kept *kept;
    HASH_FIND(hh, table->all, &id, sizeof id, kept);
    return kept;
}

struct kept *kept_hold(struct kept_table *table, struct attachment_id id)
{
    struct kept *kept = find(table, id);
    if (kept == NULL) {
        kept = xalloc(sizeof *kept);
        kept->id = id;
        HASH_ADD(hh, table->all, id, sizeof kept->id, kept);
        DL_APPEND(table->waiting, kept);
    } else if (kept->holders == 0) {
        DL_DELETE(table->idle, kept);
    }
    kept->holders++;
    return kept;
}

static void make_room(struct kept_table *table)
{
    while (table->bytes > table->bytes_max && table->idle != NULL) {
        struct kept *oldest = table->idle;
        DL_DELETE(table->idle, oldest);
        drop(table, oldest);
    }
}

void kept_release(struct kept_table *table, struct kept *kept)
{
    if (--kept->holders > 0)
        return;
    if (kept->data.len == 0) {
        DL_DELETE(table->waiting, kept);
        drop(table, kept);
        return;
    }
    DL_APPEND(table->idle, kept);
    make_room(table);
}

bool kept_data(const struct kept *kept, struct slice *data)
{
    *data = buf_slice(&kept->data);
    return kept->data.len > 0;
}

bool kept_wanted(const struct kept_table *table, struct attachment_id *id)
{
    if (table->waiting == NULL || (table->bytes >= table->bytes_max && table->idle == NULL))
        return false;
    *id = table->waiting->id;
    return true;
}

struct kept *kept_waiting(const struct kept_table *table, struct attachment_id id)
{
    struct kept *kept = find(table, id);
    return kept != NULL && kept->data.len == 0 ? kept : NULL;
}

struct kept *kept_arrived(struct kept_table *table, struct attachment_id id, struct slice data)
{
    struct kept *kept = kept_waiting(table, id);
    struct attachment_id is = attachment_id_of(data);
    if (kept == NULL || is.high != id.high || is.low != id.low)
        return NULL;
    buf_put(&kept->data, data.data, data.len);
    table->bytes += data.len;
    DL_DELETE(table->waiting, kept);
    make_room(table);
    return kept;
}
