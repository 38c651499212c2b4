/* report_parts.h - what the files that fill a report share. */
#ifndef DROVER_REPORT_PARTS_H
#define DROVER_REPORT_PARTS_H

#include "broker/report.h"
#include "common/json.h"

#include <math.h>

/* Rollouts of a pool's prompt that some arm of the sweep was delivered: ordinals below this. */
uint32_t report_delivered(const struct core *core, uint32_t sweep, uint32_t pool, uint32_t prompt);

/* The next table of the report, empty. */
struct report_table *report_table_add(struct report *report, const char *key, const char *title,
                                      const struct report_column *columns);

/* report_rollouts.c: what the rollouts of each pool tell, one by one. */
void report_rollouts_fill(const struct core *core, struct report *report);

/* report_arms.c: arms and models beside each other. */
void report_arms_fill(const struct core *core, struct report *report);

/* report_turns.c: arms whose texts are continued. */
void report_turns_fill(const struct core *core, struct report *report);

/* Of nothing there is no share. */
static inline double share(uint64_t part, uint64_t of)
{
    return of > 0 ? (double)part / (double)of : NAN;
}

static inline void put_u64(struct buf *json, const char *key, uint64_t value)
{
    json_key(json, key);
    json_u64(json, value);
}

static inline void put_f64(struct buf *json, const char *key, double value)
{
    json_key(json, key);
    json_f64(json, value);
}

static inline void put_str(struct buf *json, const char *key, const char *value)
{
    json_key(json, key);
    json_str(json, value);
}

#endif
