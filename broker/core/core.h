/* core.h - the broker's state machine: events in; facts, sends and a time to wake out.
 *
 * No I/O, clock, threads, globals. core_apply is the only thing that changes remembered state; core_step applies the
 * facts that it emits at once, so memory runs ahead of disk by one batch. The shell commits an update's facts and only
 * then makes its sends. Replay = core_apply over every fact, then core_start. Delivered prefixes, statistics, heaps,
 * queues and the fleet are derived or volatile: no fact speaks of them. */
#ifndef DROVER_CORE_H
#define DROVER_CORE_H

#include "broker/core/fact.h"
#include "common/err.h"
#include "common/rollout.h"

#include <stdbool.h>
#include <stdint.h>

#define NO_ID UINT32_MAX

/* Beliefs that one fact `prior` holds at most: pairs of floats a, b, each in this range. */
enum { PRIOR_CHUNK = 4096 };
#define BELIEF_MIN 1e-4f
#define BELIEF_MAX 1e9f

struct core;

/* Where a text stands in the journal, as the shell assigned it. */
struct ref {
    uint64_t commit;
    uint32_t offset, len;
};

enum task_kind { TASK_GENERATE = 0, TASK_VERIFY = 1 };

/* What a task is about. A rollout: owner = pool, tree = NO_ID, item = ordinal. A search node: owner = arm, item = node.
 * A verdict on one of these also names its verifier (else NO_ID). */
struct key {
    uint8_t kind; /* enum task_kind */
    uint32_t owner, prompt, tree, item, verifier;
};

enum sweep_state {
    SWEEP_RUNNING,
    SWEEP_PAUSED,
    SWEEP_CANCELLED,
    SWEEP_DONE,
    SWEEP_FAULT,
    SWEEP_REPLACED, /* nothing of it was kept, and its name was submitted with other contents */
};

/* Why a prompt was decided. Stored. */
/* clang-format off */
#define DECIDED_TABLE(X)                                                                           \
    X(DECIDED_NOT, 0, "undecided")                                                                 \
    X(DECIDED_CAP, 1, "n")            /* all n rollouts are there */                               \
    X(DECIDED_STOPPER, 2, "stopper")                                                               \
    X(DECIDED_SOLVED, 3, "solved")    /* the allocator needs no more of it */                      \
    X(DECIDED_BUDGET, 4, "budget")    /* the arm's own budget is spent */                          \
    X(DECIDED_EXHAUSTED, 5, "exhausted") /* a recorded pool has no more rollouts */            \
    X(DECIDED_ELSEWHERE, 6, "elsewhere") /* it is of another bin than the arm's */
/* clang-format on */

enum decided {
#define X(name, value, text) name = (value),
    DECIDED_TABLE(X)
#undef X
};

/* Why a lease was lost. Stored. Only SILENT counts against the task. After SILENT and GRACE a result may still come and
 * counts if no other came first; the others are over. */
/* clang-format off */
#define LOST_TABLE(X)                                                                              \
    X(LOST_SILENT, 0, "silent")       /* its agent missed its announced heartbeats, or died */     \
    X(LOST_ORPHAN, 1, "orphan")       /* granted before a restart, and nobody holds it now */      \
    X(LOST_RETURNED, 2, "returned")   /* given back by a draining agent */                         \
    X(LOST_REFUSED, 3, "refused")     /* the agent cannot serve this model or verifier: nothing was spent */ \
    X(LOST_GRACE, 4, "grace")         /* granted before a restart, its agent stayed silent */
/* clang-format on */

enum lost {
#define X(name, value, text) name = (value),
    LOST_TABLE(X)
#undef X
};

/* What was burned and not kept, apart. */
#define WASTE_TABLE(X)                                                                             \
    X(WASTE_LOST, "lost")           /* attempts whose agent died, was silent, or gave them back */ \
    X(WASTE_CANCELLED, "cancelled") /* attempts that ran when their key was closed or voided */    \
    X(WASTE_FAILED, "failed")       /* attempts that failed */                                     \
    X(WASTE_VOIDED, "voided")       /* results behind a stop that no other arm held */

enum waste {
#define X(name, text) name,
    WASTE_TABLE(X)
#undef X
        WASTES
};

/* A model that a server of a worker offers. */
struct server_offer {
    struct slice model, server; /* its name there; what serves it, for people */
    uint32_t context, features; /* most tokens of prompt and rollout, 0: unknown; bits 1 << enum feature */
};

enum event_type {
    EVENT_TICK,      /* time passed: deadlines */
    EVENT_DISPATCH,  /* end of a batch of events: hand out work */
    EVENT_SUBMIT,    /* definitions of a sweep */
    EVENT_CONTROL,   /* pause, resume, cancel a sweep */
    EVENT_HELLO,     /* an agent (re)appears */
    EVENT_HEARTBEAT, /* an agent announces its next one */
    EVENT_RESULT,    /* a generate task is finished */
    EVENT_VERDICT,   /* a verify task is finished */
    EVENT_FAIL,      /* a task failed on an agent */
    EVENT_RETURN,    /* an agent gives a lease back, with what it used of it */
    EVENT_REFUSE,    /* an agent cannot serve the lease's model or verifier */
    EVENT_DRAIN,     /* give this agent no more work */
    EVENT_GONE,      /* an agent said goodbye, or its connection is known dead */
};

struct event {
    enum event_type type;
    int64_t now_ms; /* monotonic */
    int64_t unix_s; /* wall clock: only budgets with a deadline read it */
    uint64_t agent; /* HELLO..GONE */
    uint64_t lease; /* RESULT..REFUSE */
    union {
        struct {
            struct slice definitions; /* facts with ids local to the submission; see broker/compile.c */
            bool examine;             /* only say what would be wrong with it */
        } submit;
        struct {
            uint32_t sweep;
            enum sweep_state state;
        } control;
        struct {
            struct slice name;
            bool verifier;           /* serves verify tasks; else generate tasks */
            uint64_t kinds;          /* bit i: serves core_kind(i) */
            uint32_t credits;        /* most leases at a time */
            int64_t next_ms;         /* its next heartbeat comes within so many ms */
            const uint64_t *running; /* leases that it holds, finished but unacknowledged ones included */
            size_t running_len;
            struct slice devices;
            const struct server_offer *offers;
            size_t offers_len;
        } hello;
        struct {
            int64_t next_ms;
            uint64_t tokens;      /* generated since the last heartbeat */
            uint32_t credits;     /* most leases at a time from now on; 0: as before */
            struct slice trouble; /* what its work waits for, "": nothing */
        } heartbeat;
        struct {
            struct result result;
            uint64_t class; /* hash of the canonical answer, 0: none */
            struct ref ref; /* where the shell put the text */
        } result;
        struct {
            struct verdict verdict;
            uint32_t latency_ms;
            struct ref ref; /* where the shell put its details; commit 0: none */
        } verdict;
        struct {
            uint32_t tokens_in, tokens_out, latency_ms; /* used so far */
            struct slice reason;
            bool final; /* FAIL: no other attempt can succeed */
        } fail;         /* FAIL, RETURN, REFUSE */
    };
};

enum send_type { SEND_TASK, SEND_ACK, SEND_CANCEL };

/* One thing to tell an agent, after the commit. */
struct send {
    enum send_type type;
    uint64_t agent;
    uint64_t lease;
    /* SEND_ACK */
    bool duplicate; /* another result came first, or nobody wants it any more */
    /* SEND_TASK */
    struct key key;
    uint32_t spec;         /* model id (generate) or verifier id (verify) */
    uint32_t set;          /* of the prompt */
    struct ref prompt_ref; /* the prompt's record */
    size_t refs, refs_len; /* texts of the path, root first, in update->refs */
    uint64_t seed;
    uint32_t tokens_max, timeout_ms;
    uint32_t kill_window; /* tokens of the windows of confidence; 0: as the generator has them, and none is ended */
    double kill_below;    /* ends a rollout with a window below it; 0: none is */
    uint8_t step;         /* enum extent */
    uint8_t cue;          /* enum cue */
    bool finished;
    bool group; /* the refs are the texts of all rollouts of the prompt, by ordinal; commit 0: it has none */
};

struct update {
    struct buf facts; /* to commit, in order */
    struct send *sends;
    size_t sends_len, sends_cap;
    struct ref *refs;
    size_t refs_len, refs_cap;
    int64_t wake_ms;    /* tick at this time at the latest; INT64_MAX: no need */
    int code;           /* SUBMIT, CONTROL: 0 or an error code ... */
    struct error error; /* ... and its sentence */
    uint32_t sweep;     /* SUBMIT: its id */
    bool lost;          /* an agent is no longer known */
    bool used;          /* RESULT, VERDICT, SUBMIT: a fact refers to the texts that came with it */
};

void update_reset(struct update *update); /* keeps memory */
void update_clear(struct update *update);

struct core_options {
    uint64_t lease_ms; /* grace for a missed heartbeat: an agent is lost so long after its announced one */
    bool keep_nodes;   /* never forget the nodes of settled trees: reports and exports want them */
};

struct core *core_new(const struct core_options *options);
void core_free(struct core **core);

/* Changes remembered state. ERR_CORRUPT when the fact cannot follow what was applied before (a damaged or foreign
 * journal, or a bug): the core must then be freed. */
int core_apply(struct core *core, const struct fact *fact);

/* After the last applied fact: derives what facts do not say, begins an epoch. fleet_died: no agent of an earlier epoch
 * can be alive (`drover run`), so their leases reopen at once; else they are adopted or wait for a grace of two leases. */
void core_start(struct core *core, int64_t now_ms, bool fleet_died, struct update *update);

void core_step(struct core *core, const struct event *event, struct update *update);

/* Agents get tasks of this sweep first; others in turn what is left. They are not left out: this sweep may wait for a
 * rollout that another one has asked for. */
void core_prefer(struct core *core, uint32_t sweep);

/* Derives what facts do not say, without an epoch: for reports on a journal that nobody runs. */
void core_settle(struct core *core);

/* Appends the shortest list of facts that rebuilds the state. */
void core_dump(const struct core *core, struct buf *out);

/* Replays facts one by one and re-runs every decision: 0, or ERR_CORRUPT with the first difference. */
int core_audit_begin(struct core *core);
int core_audit_fact(struct core *core, const struct fact *fact, struct error *error);
int core_audit_end(struct core *core, struct error *error);

/* Invariants I2, I3, I4 (one result per key, budgets kept, tasks conserved): 0 or ERR_CORRUPT with a sentence.
 * Touches everything: for audit, tests, the simulator's sweeps. */
int core_check(const struct core *core, struct error *error);

/* I3: no sweep has spent and reserved more than its caps. Cheap: for every commit of tests. */
bool core_budget_ok(const struct core *core);

/* Bit of a backend ("tinylm") or verifier kind in an agent's `kinds`; assigned on first use, at most 64. -1: full. */
int core_kind(struct core *core, bool verifier, struct slice name);

/* Hash of everything that was decided and delivered: equal for equal sweeps on any fleet, whatever crashed,
 * if the backend is deterministic and no cap was reached. Texts are covered by their answers' classes and tokens.
 * Needs keep_nodes to cover the rollouts of trees. */
uint64_t core_digest(const struct core *core, uint32_t sweep);

#endif
