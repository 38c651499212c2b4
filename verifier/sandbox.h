/* sandbox.h - runs programs that nobody trusts, with limits, out of reach of this host.
 *
 * A sandbox is a process of its own (a slot of the launcher) with its own uid, cgroup and namespaces; it runs one
 * program at a time. The launcher is forked before this process has threads or sockets of ZeroMQ: a fork of those is
 * what must never happen. doc/SANDBOX.md says what each tier keeps out and what it does not. */
#ifndef DROVER_SANDBOX_H
#define DROVER_SANDBOX_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Weakest first. A sweep states the least it accepts; nothing ever falls back to a weaker one. */
/* clang-format off */
#define TIER_TABLE(X)                                                                              \
    X(TIER_NATIVE, "native", "namespaces, own uid, rlimits, seccomp, Landlock, cgroup")            \
    X(TIER_BWRAP, "bwrap", "the same limits around bubblewrap")                                    \
    X(TIER_GVISOR, "gvisor", "gVisor: a kernel of its own in user space")
/* clang-format on */

enum tier {
#define X(name, text, help) name,
    TIER_TABLE(X)
#undef X
        TIERS
};

extern const char *const tier_names[TIERS];

/* Forks the launcher. Call it early in main, once; it ends with this process, whatever ends that. Until the first
 * sandbox is opened it only waits. From here on this process ignores SIGPIPE. ERR_SYSTEM. */
int sandbox_launcher_start(struct error *error);

/* Ends the launcher with every sandbox, and waits for both. Does nothing when there is none. */
void sandbox_launcher_stop(void);

struct sandbox;

/* What this node could do for a sandbox, for `verifier --probe`: filled also when opening failed. */
struct sandbox_facts {
    uint32_t uid;           /* that programs run under                                     */
    uint32_t landlock;      /* ABI, 0: none                                                */
    uint32_t cgroup;        /* version that limits memory and processes, 0: none           */
    uint8_t user_namespace; /* made because we are not root                                */
    char cgroup_why[160];   /* why none                                                    */
    char error[256];        /* why it cannot be opened at all; "": it was                  */
};

/* Thread-safe. ERR_SYSTEM: this node cannot give the tier; the error says what is missing. facts may be NULL. */
int sandbox_open(enum tier tier, struct sandbox **sandbox, struct sandbox_facts *facts, struct error *error);
void sandbox_close(struct sandbox **sandbox); /* kills what runs; NULL: nothing */

struct sandbox_job {
    const char *const *argv; /* NULL at the end; argv[0] is looked up in the sandbox's PATH   */
    struct slice program;    /* becomes /tmp/program, the working folder being /tmp; len 0: none */
    uint32_t cpu_s;          /* of one process; 0: no limit                                   */
    uint32_t wall_ms;        /* from the start of execution; 0: no limit                      */
    uint32_t memory_mib;     /* of each process, and of all together where there is a cgroup  */
    bool quiet;              /* standard error is nobody's: /dev/null                         */
};

/* Our ends of its standard streams, not blocking; err is -1 for a quiet one. The caller closes them. */
struct sandbox_pipes {
    int in, out, err;
};

/* Starts a program; the sandbox must not be running one. ERR_SYSTEM: the sandbox is of no more use. */
int sandbox_start(struct sandbox *sandbox, const struct sandbox_job *job, struct sandbox_pipes *pipes,
                  struct error *error);

/* Readable once the program has ended. */
int sandbox_fd(const struct sandbox *sandbox);

/* How a program ended. */
enum ending {
    ENDING_EXIT,    /* by itself: code                       */
    ENDING_SIGNAL,  /* by a signal that was not ours: code   */
    ENDING_CPU,     /* its CPU time was used up              */
    ENDING_WALL,    /* its time was up                       */
    ENDING_MEMORY,  /* its cgroup's memory was used up       */
    ENDING_STOPPED, /* because sandbox_end was told to       */
    ENDING_BROKEN,  /* it never began: text says why         */
};

struct sandbox_end {
    enum ending ending;
    int32_t code;
    uint32_t cpu_ms, wall_ms;
    char text[200];
};

/* How to come to the end. */
enum ending_how {
    END_WAIT = 0,   /* for the program's own end, or its limits           */
    END_STOP = 's', /* kill it                                            */
    END_LATE = 'l', /* it seems to be ending: kill it unless it just died */
};

/* Afterwards no process and no file of the program is left. ERR_SYSTEM: the sandbox itself is gone. */
int sandbox_end(struct sandbox *sandbox, enum ending_how how, struct sandbox_end *end, struct error *error);

/* Prints what this node can do, one row per feature and tier, yes or no and why. */
void sandbox_probe(struct buf *out);

#endif
