/* slot.h - one slot of the launcher and what it says to the process that owns it. Inside verifier/ only.
 *
 * A slot and its owner share a SOCK_SEQPACKET pair: first struct sandbox_facts to the owner; then, per program, struct
 * slot_start with descriptors to the slot (standard input, output, error, and the program's file if there is one), and
 * struct sandbox_end back. A message of one byte, enum ending_how, stops the program; a closed socket ends the slot. */
#ifndef DROVER_SLOT_H
#define DROVER_SLOT_H

#include "verifier/jail.h"

enum { SLOT_ARGV_BYTES = 96 << 10, SLOT_ARGS = 64, SLOT_FDS = 4 };

struct slot_start {
    uint32_t cpu_s, wall_ms, memory_mib, argv_len;
    char argv[SLOT_ARGV_BYTES]; /* argv_len bytes: texts, a NUL behind each */
};

/* Serves until the owner is gone. In a process of its own, whose other descriptors are closed. */
_Noreturn void slot_main(int socket, enum tier tier, uid_t uid, struct slot_cgroup *cgroup);

/* sandbox_launcher.c: asks for a slot that owns the other end of `socket`. */
int sandbox_launcher_ask(enum tier tier, int socket, struct error *error);

/* jail_wrap.c: becomes the command of another sandbox around the job's. Returns on failure only, as jail_enter. */
const char *jail_wrap(const struct jail *jail, const struct jail_job *job);

/* sandbox_fds.c: one message with descriptors. Both return the length, or -1. */
ssize_t fds_send(int socket, const void *data, size_t len, const int *fds, size_t fds_len);
ssize_t fds_recv(int socket, void *data, size_t len, int *fds, size_t fds_max, size_t *fds_len);

#endif
