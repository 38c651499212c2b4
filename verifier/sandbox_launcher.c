/* sandbox_launcher.c - the process that makes slots, forked before the verifier has a thread or a socket.
 *
 * It sleeps in one call until it is asked for a slot. It ends when its end of the pair does, however the verifier died;
 * the slots then end the same way, each with its program, and the launcher removes their cgroups and goes. */
#include "verifier/slot.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLOTS = 256 };

/* Uids that belong to nobody: 256 for each launcher, by its pid (at most 2^22). */
#define UID_FIRST 0x60000000u

/* The verifier's side. */
static int launcher_socket = -1;
static pid_t launcher_pid;
static pthread_mutex_t launcher_lock = PTHREAD_MUTEX_INITIALIZER;

struct slot_place {
    pid_t pid; /* 0: free */
    struct slot_cgroup cgroup;
};

static void reap(struct slot_place *places, int flags)
{
    pid_t pid;
    while ((pid = waitpid(-1, NULL, flags)) > 0 || (pid < 0 && errno == EINTR))
        for (size_t i = 0; i < SLOTS; i++)
            if (pid > 0 && places[i].pid == pid) {
                slot_cgroup_remove(&places[i].cgroup);
                places[i] = (struct slot_place){0};
            }
}

static struct slot_place *free_place(struct slot_place *places)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (places[i].pid == 0)
            return &places[i];
    return NULL;
}

static void start_slot(struct slot_place *places, int socket, uint8_t tier)
{
    struct slot_place *place = free_place(places);
    const pid_t launcher = getpid();
    if (place == NULL)
        return; /* the owner sees a closed socket */
    unsigned number = (unsigned)(place - places);
    slot_cgroup_make(&place->cgroup, launcher, number, JAIL_PIDS);
    place->pid = fork();
    if (place->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != launcher || dup3(socket, 3, O_CLOEXEC) != 3)
            _exit(1);
        close_range(4, ~0u, 0);
        slot_main(3, (enum tier)tier, UID_FIRST + (uid_t)launcher * SLOTS + number, &place->cgroup);
    }
    if (place->pid < 0) {
        slot_cgroup_remove(&place->cgroup);
        *place = (struct slot_place){0};
    }
}

static _Noreturn void launcher_main(int socket)
{
    static struct slot_place places[SLOTS];
    uint8_t tier;
    int fd;
    size_t fds;
    setsid(); /* Ctrl-C is the verifier's to answer */
    prctl(PR_SET_NAME, "drover-launcher");
    while (fds_recv(socket, &tier, 1, &fd, 1, &fds) == 1) {
        reap(places, WNOHANG);
        if (fds != 1)
            continue;
        if (tier < TIERS)
            start_slot(places, fd, tier);
        close(fd);
    }
    reap(places, 0);
    _exit(0);
}

int sandbox_launcher_start(struct error *error)
{
    int pair[2];
    sigset_t all, before;
    if (launcher_socket >= 0)
        return 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return error_set(error, ERR_SYSTEM, "cannot make a socket for the sandbox launcher: %s", strerror(errno));
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* ours must not run in the copy */
    launcher_pid = fork();
    if (launcher_pid == 0) {
        for (int signal = 1; signal < NSIG; signal++)
            if (signal != SIGCHLD)
                sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (pair[1] != 3 && dup3(pair[1], 3, O_CLOEXEC) != 3)
            _exit(1);
        close_range(4, ~0u, 0); /* what the shell left open is not for programs */
        launcher_main(3);
    }
    int why = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    signal(SIGPIPE, SIG_IGN); /* programs die while they are written to */
    close(pair[1]);
    if (launcher_pid > 0) {
        launcher_socket = pair[0];
        return 0;
    }
    close(pair[0]);
    return error_set(error, ERR_SYSTEM, "cannot fork the sandbox launcher: %s", strerror(why));
}

void sandbox_launcher_stop(void)
{
    if (launcher_socket < 0)
        return;
    close(launcher_socket);
    launcher_socket = -1;
    while (waitpid(launcher_pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

int sandbox_launcher_ask(enum tier tier, int socket, struct error *error)
{
    uint8_t number = (uint8_t)tier;
    pthread_mutex_lock(&launcher_lock);
    bool there = launcher_socket >= 0;
    bool sent = there && fds_send(launcher_socket, &number, 1, &socket, 1) == 1;
    int why = errno;
    pthread_mutex_unlock(&launcher_lock);
    if (sent)
        return 0;
    return error_set(error, ERR_SYSTEM, "the sandbox launcher is gone%s%s", there ? ": " : " (or was never started)",
                     there ? strerror(why) : "");
}
