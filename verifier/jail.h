/* jail.h - what a slot of the launcher is made of; see jail.c. Inside verifier/ only. */
#ifndef DROVER_JAIL_H
#define DROVER_JAIL_H

#include "verifier/sandbox.h"

#include <linux/filter.h>
#include <sys/types.h>

/* The cgroups of one slot, one per controller under v1, one in all under v2. Made and removed by the launcher, entered
 * once by the slot: moving a process costs the kernel a grace period, inheriting costs nothing. */
struct slot_cgroup {
    int version; /* 0: none, why says why */
    char pids[320], memory[320];
    char why[160];
    int limit, events; /* descriptors of the slot: where the memory limit is set, where kills are counted */
    uint32_t limit_mib;
};

void slot_cgroup_make(struct slot_cgroup *cgroup, int launcher, unsigned slot, unsigned pids_max);
bool slot_cgroup_enter(struct slot_cgroup *cgroup);
bool slot_cgroup_limit(struct slot_cgroup *cgroup, uint32_t memory_mib);
uint64_t slot_cgroup_kills(const struct slot_cgroup *cgroup); /* by lack of memory, since it was made */
void slot_cgroup_remove(struct slot_cgroup *cgroup);

/* Limits that are not a matter of taste. */
enum { JAIL_PIDS = 64, JAIL_FILES = 64, JAIL_TMP_MIB = 64, JAIL_TMP_INODES = 4096, JAIL_NICE = 10 };

struct jail {
    enum tier tier;
    uid_t uid;
    bool user_namespace; /* uid is ours, seen as another inside */
    struct sock_fprog filter;
    int filter_fd; /* the same bytes, for bubblewrap */
    int landlock;
    char step[64]; /* of jail_prepare: what it did last, for its error */
};

/* Once per slot, in the slot's own process: namespaces, a root of its own, filter. */
int jail_prepare(struct jail *jail, struct error *error);

/* Flags of clone for one program. */
int jail_clone_flags(const struct jail *jail);

/* What the slot hands its child. Streams are its standard input, output and error; program is -1 or a file. */
struct jail_job {
    const char *const *argv;
    int streams[3], program;
    uint32_t cpu_s, memory_mib;
};

/* In the child. Returns only on failure, errno set: the step that failed. */
const char *jail_enter(const struct jail *jail, const struct jail_job *job);

/* Its parts that other tiers share: session, niceness, signals and streams; /proc, /tmp and the program's file; uid and
 * capabilities; rlimits (fewer for a command that is a kernel itself). -1: errno. */
int jail_take(const struct jail_job *job);
int jail_furnish(const struct jail *jail, int program);
int jail_drop(const struct jail *jail);
int jail_limit(const struct jail_job *job, bool kernel);

/* jail_filter.c: the calls that no program needs and most escapes do, as BPF in a memory file. -1: errno. */
int jail_filter_make(struct sock_fprog *filter);

/* jail_landlock.c: the ABI of this kernel, 0: none; and giving up everything but reading and /tmp. */
int jail_landlock_abi(void);
int jail_landlock_restrict(int abi);

/* The folders of the host that a program sees, read-only. NULL at the end. */
extern const char *const jail_folders[];

#endif
