/* virtual.h - a fleet in virtual time: the production core driven by completions instead of sockets.
 *
 * Every task takes as long as `answer` says and then comes back; what happens at one moment is stepped in the order in
 * which it was sent, followed by one dispatch, as in a turn of the broker. So one core and one `answer` mean one
 * history. Without faults nothing is lost, doubled or late. */
#ifndef DROVER_VIRTUAL_H
#define DROVER_VIRTUAL_H

#include "broker/core/core.h"

#include <stdbool.h>
#include <stdint.h>

/* Grace for heartbeats that nobody sends: give it to core_new as lease_ms. */
#define VIRTUAL_LEASE_MS UINT64_C(1000000000000000)

/* What goes wrong, as a function of the seed. An agent that dies takes its tasks with it; that is noticed later, and
 * another one comes in its place. All 0: nothing goes wrong. */
struct virtual_faults {
    uint64_t seed;
    double deaths_per_hour;      /* of each agent */
    int64_t noticed_ms, back_ms; /* after a death; noticed_ms <= back_ms */
    double late;                 /* share of its tasks that come back all the same, once its death was noticed */
    double twice;                /* share of answers that come once more */
};

struct virtual_options {
    uint32_t workers, slots;            /* agents that generate, and tasks of each at a time, 1 to LIMIT_CREDITS */
    uint32_t verifiers, verifier_slots; /* the same of those that verify; 0 verifiers: none */
    /* Makes *event the answer to a task: its type is RESULT or VERDICT, and may be changed to FAIL; fills what belongs
     * to that. agent: from 0 on, workers before verifiers. Returns how long the task takes, in ms, from 0 on. */
    int64_t (*answer)(void *arg, const struct send *task, const struct ref *refs, uint32_t agent, struct event *event);
    /* Gets the facts of each moment before anything is sent; non-zero ends the run. May be NULL. */
    int (*commit)(void *arg, struct slice facts);
    void *arg;
    struct virtual_faults faults;
};

/* What a role did with its time. */
struct virtual_usage {
    uint64_t tasks;     /* given out */
    uint64_t cancelled; /* of these, stopped because nobody wanted them any more */
    uint64_t deaths;    /* of its agents */
    int64_t busy_ms;    /* slots that were occupied, each counted by itself */
    int64_t saved_ms;   /* that cancelled tasks would have gone on */
    uint64_t saved_tokens;
};

struct virtual;

/* Starts the core, which has its definitions or none yet, and connects the fleet. The core stays the caller's. */
struct virtual *virtual_new(struct core *core, const struct virtual_options *options);
void virtual_free(struct virtual **fleet);

/* Steps one event at the present moment, say a submission (then sweep and error tell of it; they may be NULL). Returns
 * the code of a submission or control, else 0. */
int virtual_event(struct virtual *fleet, struct event event, uint32_t *sweep, struct error *error);

/* Goes on until nothing is in flight and nothing more is handed out. 0, or what `commit` returned. */
int virtual_run(struct virtual *fleet);

int64_t virtual_now_ms(const struct virtual *fleet); /* from 0 on; after a run: the moment of the last completion */
struct virtual_usage virtual_usage(const struct virtual *fleet, bool verifiers);

#endif
