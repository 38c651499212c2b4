/* check.h - the table of verifiers: synchronous checks of one text against one prompt record.
 *
 * A verifier's spec is a JSON object {"name": S, "kind": S, "options": {...}, "inner": {NAME: SPEC, ...}}: options as
 * in the sweep file, inner the specs of the verifiers that the options refer to by name. */
#ifndef DROVER_CHECK_H
#define DROVER_CHECK_H

#include "common/buf.h"
#include "common/err.h"
#include "common/io/agent.h"
#include "common/rollout.h"

#include <stdbool.h>
#include <stdint.h>

struct check_input {
    struct slice record;                /* the prompt's JSON record */
    const struct attachments *attached; /* what it names; NULL: nothing */
    struct slice text;                  /* what was generated, from the root */
    const struct slice *group;          /* texts of all rollouts of the prompt, by ordinal, for verifiers of groups */
    uint32_t group_len;
    struct slice answer; /* extracted answer; empty when there is none */
    bool finished;       /* a whole rollout; false: a prefix of steps */
    uint32_t ordinal;    /* of the rollout in its pool, or node in its tree */
    uint64_t seed;       /* depends on (verifier seed, key) only */
    uint32_t timeout_ms;
    struct buf *detail; /* what to keep beside the verdict: a JSON object may be written here; never NULL */
};

/* Whether a verdict that was given before is given again; only where it does not depend on the seed, and costs more than
 * looking it up: see cache.h. */
enum cached {
    CACHED_NOT,
    CACHED_HERE, /* within a process: it depends on the machine's software, too */
    CACHED_ANYWHERE,
};

/* state is one per compute thread. run fills verdict; a negative return is a task failure (the verifier itself broke:
 * error says how) and not a verdict. */
struct check {
    const char *name, *help;
    int (*open)(struct slice spec, void **state, struct error *error);
    int (*run)(void *state, const struct check_input *input, struct verdict *verdict, struct error *error);
    void (*close)(void **state);
    const struct engine *engine; /* runs it when it stands alone, many jobs at a time; NULL: engine_check */
    enum cached cached;
};

extern const struct check check_exact;
extern const struct check check_numeric;
extern const struct check check_math;
extern const struct check check_countdown;
extern const struct check check_chain;
extern const struct check check_oracle_step;
extern const struct check check_noisy;
extern const struct check check_switch;
extern const struct check check_exec;
extern const struct check check_code;
extern const struct check check_label;
extern const struct check check_reward;
extern const struct check check_prm;
extern const struct check check_judge;
extern const struct check check_cascade;
extern const struct check check_hybrid;
extern const struct check check_mbr;

/* All checks, NULL at the end. */
extern const struct check *const checks[];

/* Opens the check that spec names, nested ones included (nesting at most 4 deep). On success *check and *state are
 * set. ERR_SYNTAX, ERR_NOT_FOUND (no such kind), ERR_RANGE, ERR_LIMIT. */
int check_open(struct slice spec, const struct check **check, void **state, struct error *error);

/* The check that a spec names; NULL: none. */
const struct check *check_of(struct slice spec);

/* Runs any check, many specs at once. */
extern const struct engine engine_check;

/* The same for checks that take long: a compute thread takes one job at a time, so that no thread holds what another
 * could run. */
extern const struct engine engine_check_slow;

/* Asks reward models over HTTP. */
extern const struct engine engine_scorer;

/* The same two for checks that stand alone: each opened one makes room for the tasks that it can keep in flight. */
extern const struct engine engine_scorer_wide, engine_judge_wide;

/* Tasks that the opened engines of this process can hold beside what its threads work on; add changes it. */
uint32_t check_room(void);
void check_room_add(int64_t tasks);

/* Asks models that judge over HTTP; see judge.h for groups. */
extern const struct engine engine_judge;

#endif
