/* slot.c - a slot's own process: starts one program after the other and sees each of them to its end.
 *
 * It is single-threaded and holds nothing but its socket, so it may fork at any time. It stays privileged and therefore
 * never looks at what a program writes: the pipes go from the program to the verifier directly. */
#include "verifier/slot.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LATE_MS = 200, STACK_BYTES = 64 << 10 };

struct slot {
    int socket;
    struct jail jail;
    struct slot_cgroup *cgroup;
};

struct run {
    const struct slot_start *start;
    struct jail_job job;
    const char *argv[SLOT_ARGS + 1];
    pid_t pid;
    int pidfd;
    int64_t started_ms;
    uint64_t kills; /* of the cgroup, before */
    bool timeout, stopped;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* What the child shares with this process, which waits until it is the command or gone. */
struct birth {
    const struct slot *slot;
    const struct run *run;
    const char *step; /* NULL: it became the command */
    int why;
};

static int become(void *arg)
{
    struct birth *birth = arg;
    const struct jail *jail = &birth->slot->jail;
    const struct jail_job *job = &birth->run->job;
    birth->step = jail->tier == TIER_NATIVE ? jail_enter(jail, job) : jail_wrap(jail, job);
    birth->why = errno;
    _exit(127);
}

/* Starts the child; false: end says why it did not become the command. The child borrows this process's memory up to its
 * exec: copying it would cost more than all of its mounts. It only makes system calls and writes nothing that is read
 * here but its birth, and nobody else of its uid is alive who could reach into it. */
static bool begin(struct slot *slot, struct run *run, struct sandbox_end *end)
{
    static char stack[STACK_BYTES] __attribute__((aligned(16)));
    struct birth birth = {.slot = slot, .run = run};
    if (!slot_cgroup_limit(slot->cgroup, run->job.memory_mib)) {
        snprintf(end->text, sizeof end->text, "cannot set the memory limit: %s", strerror(errno));
        return false;
    }
    run->kills = slot_cgroup_kills(slot->cgroup);
    run->pid =
        clone(become, stack + sizeof stack,
              CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD | jail_clone_flags(&slot->jail), &birth, &run->pidfd);
    bool execs = birth.step != NULL && strcmp(birth.step, "start the command") == 0;
    if (run->pid < 0)
        snprintf(end->text, sizeof end->text, "cannot fork: %s", strerror(errno));
    else if (birth.step != NULL) /* it cannot be heard any more once it is the command */
        snprintf(end->text, sizeof end->text, "cannot %s%s%.60s: %s", birth.step, execs ? " " : "",
                 execs ? run->argv[0] : "", strerror(birth.why));
    return run->pid > 0 && birth.step == NULL;
}

/* Until it ends, its time is up, or the owner says stop. False: the owner is gone. */
static bool attend(const struct slot *slot, struct run *run)
{
    char byte;
    for (;;) {
        int64_t left = run->start->wall_ms == 0 ? -1 : run->started_ms + run->start->wall_ms - now_ms();
        if (run->start->wall_ms != 0 && left <= 0) {
            run->timeout = true;
            return true;
        }
        struct pollfd fds[2] = {{.fd = run->pidfd, .events = POLLIN}, {.fd = slot->socket, .events = POLLIN}};
        poll(fds, 2, left > INT32_MAX ? INT32_MAX : (int)left);
        if (fds[0].revents != 0)
            return true;
        if (fds[1].revents == 0)
            continue;
        bool owned = recv(slot->socket, &byte, 1, MSG_DONTWAIT) == 1;
        /* Its pipes close a moment before it is gone: only then is it known what ended it. */
        run->stopped = !owned || byte != END_LATE || poll(fds, 1, LATE_MS) == 0;
        return owned;
    }
}

/* Kills and waits. Process 1 of a pid namespace takes all others along, and is only waited for once they are gone;
 * around other sandboxes this process is the one that orphans come to. */
static void finish(struct run *run, struct sandbox_end *end)
{
    struct rusage used = {0};
    int status = 0;
    if (run->pid <= 0)
        return;
    syscall(SYS_pidfd_send_signal, run->pidfd, SIGKILL, NULL, 0);
    while (wait4(run->pid, &status, 0, &used) < 0 && errno == EINTR)
        ;
    close(run->pidfd);
    end->wall_ms = (uint32_t)(now_ms() - run->started_ms);
    end->cpu_ms = (uint32_t)((used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
                             (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000);
    end->ending = WIFEXITED(status) ? ENDING_EXIT : ENDING_SIGNAL;
    end->code = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
}

/* A program cannot kill process 1 of its own namespace, which it is. So what killed it, when we did not and its cgroup
 * did not, is its CPU limit; the sum that the kernel compares runs ahead of what it reports. */
static void judge(const struct slot *slot, const struct run *run, struct sandbox_end *end)
{
    bool killed = end->ending == ENDING_SIGNAL && (end->code == SIGKILL || end->code == SIGXCPU);
    if (slot_cgroup_kills(slot->cgroup) > run->kills)
        end->ending = ENDING_MEMORY;
    else if (run->timeout)
        end->ending = ENDING_WALL;
    else if (killed && run->stopped)
        end->ending = ENDING_STOPPED;
    else if (killed && run->start->cpu_s > 0 && end->cpu_ms >= run->start->cpu_s * 500)
        end->ending = ENDING_CPU;
}

static bool serve(struct slot *slot, struct run *run)
{
    struct sandbox_end end = {.ending = ENDING_BROKEN};
    run->pid = -1;
    bool owned = true, began = begin(slot, run, &end);
    for (size_t i = 0; i < SLOT_FDS; i++) { /* the program has its own copies, and must be the only one to hold them */
        int fd = i < 3 ? run->job.streams[i] : run->job.program;
        if (fd >= 0)
            close(fd);
    }
    run->started_ms = now_ms();
    if (began)
        owned = attend(slot, run);
    finish(run, &end);
    if (began)
        judge(slot, run, &end);
    else
        end.ending = ENDING_BROKEN;
    return owned && fds_send(slot->socket, &end, sizeof end, NULL, 0) == (ssize_t)sizeof end;
}

/* A message of the owner, which is our own program: what does not fit ends the slot. False at its end. */
static bool receive(const struct slot *slot, struct slot_start *start, struct run *run)
{
    int fds[SLOT_FDS];
    size_t fds_len, args = 0;
    ssize_t got;
    do
        got = fds_recv(slot->socket, start, sizeof *start, fds, SLOT_FDS, &fds_len);
    while (got == 1); /* stop: it had ended already */
    if (got < (ssize_t)offsetof(struct slot_start, argv) || fds_len < 3 || start->argv_len == 0 ||
        start->argv_len > SLOT_ARGV_BYTES || start->argv[start->argv_len - 1] != '\0')
        return false;
    *run = (struct run){.start = start};
    for (const char *at = start->argv; at < start->argv + start->argv_len && args < SLOT_ARGS; at += strlen(at) + 1)
        run->argv[args++] = at;
    run->job = (struct jail_job){.argv = run->argv,
                                 .streams = {fds[0], fds[1], fds[2]},
                                 .program = fds_len > 3 ? fds[3] : -1,
                                 .cpu_s = start->cpu_s,
                                 .memory_mib = start->memory_mib};
    return true;
}

void slot_main(int socket, enum tier tier, uid_t uid, struct slot_cgroup *cgroup)
{
    static struct slot_start start;
    struct slot slot = {.socket = socket, .jail = {.tier = tier, .uid = uid}, .cgroup = cgroup};
    struct sandbox_facts facts = {.cgroup = (uint32_t)cgroup->version, .uid = geteuid() == 0 ? uid : geteuid()};
    struct error error = {""};
    struct run run;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "drover-slot");
    if (!slot_cgroup_enter(cgroup))
        error_set(&error, ERR_SYSTEM, "cannot enter the slot's cgroup %.100s: %s", cgroup->memory, strerror(errno));
    else
        jail_prepare(&slot.jail, &error);
    facts.user_namespace = slot.jail.user_namespace;
    facts.landlock = (uint32_t)slot.jail.landlock;
    snprintf(facts.cgroup_why, sizeof facts.cgroup_why, "%s", cgroup->why);
    snprintf(facts.error, sizeof facts.error, "%.255s", error.text);
    bool going = fds_send(socket, &facts, sizeof facts, NULL, 0) > 0 && error.text[0] == '\0';
    while (going && receive(&slot, &start, &run))
        going = serve(&slot, &run);
    _exit(0);
}
