/* sandbox.c - the verifier's side of a slot; see sandbox.h. */
#include "verifier/slot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

const char *const tier_names[TIERS] = {
#define X(value, name, help) [value] = name,
    TIER_TABLE(X)
#undef X
};

struct sandbox {
    int socket;
};

/* Whether a program starts at all: the commands of the other tiers say only then what they lack. */
static int try_out(struct sandbox *sandbox, struct sandbox_facts *told)
{
    static const char *const argv[] = {"python3", "-I", "-S", "-c", "open('/tmp/x', 'w')", NULL};
    const struct sandbox_job job = {.argv = argv, .cpu_s = 10, .wall_ms = 20000, .memory_mib = 512};
    struct sandbox_pipes pipes;
    struct sandbox_end end;
    struct error error;
    int code = sandbox_start(sandbox, &job, &pipes, &error);
    if (code == 0)
        code = sandbox_end(sandbox, END_WAIT, &end, &error);
    if (code == 0 && (end.ending != ENDING_EXIT || end.code != 0)) {
        ssize_t got = read(pipes.err, told->error, sizeof told->error - 1);
        told->error[got > 0 ? got : 0] = '\0';
        told->error[strcspn(told->error, "\n")] = '\0';
        code = error_set(&error, ERR_SYSTEM, "%s", end.text[0] != '\0' ? end.text : "python3 does not start in it");
    }
    if (code < 0 && told->error[0] == '\0')
        snprintf(told->error, sizeof told->error, "%.255s", error.text);
    if (code == 0) {
        close(pipes.in);
        close(pipes.out);
        close(pipes.err);
    }
    return code;
}

int sandbox_open(enum tier tier, struct sandbox **sandbox, struct sandbox_facts *facts, struct error *error)
{
    int pair[2];
    struct sandbox_facts told = {0};
    *sandbox = NULL;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return error_set(error, ERR_SYSTEM, "cannot make a socket for a sandbox: %s", strerror(errno));
    int code = sandbox_launcher_ask(tier, pair[1], error);
    close(pair[1]);
    struct sandbox made = {.socket = pair[0]};
    if (code == 0 && recv(pair[0], &told, sizeof told, 0) != (ssize_t)sizeof told)
        code = error_set(error, ERR_SYSTEM, "the sandbox launcher gave no slot: it has too many, or the slot died");
    if (code == 0 && told.error[0] == '\0' && tier != TIER_NATIVE)
        try_out(&made, &told);
    if (code == 0 && told.error[0] != '\0')
        code = error_set(error, ERR_SYSTEM, "this node has no %s sandbox: %s (see `drover verifier --probe`)",
                         tier_names[tier], told.error);
    if (facts != NULL)
        *facts = told;
    if (code < 0) {
        close(pair[0]);
        return code;
    }
    *sandbox = xalloc(sizeof **sandbox);
    **sandbox = made;
    return 0;
}

void sandbox_close(struct sandbox **sandbox)
{
    if (*sandbox == NULL)
        return;
    close((*sandbox)->socket);
    free(*sandbox);
    *sandbox = NULL;
}

/* Descriptors of one start: ours, and the program's. */
struct ends {
    int ours[3], theirs[SLOT_FDS];
    size_t len;
};

static void close_all(const int *fds, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static int make_pipe(struct ends *ends, bool input)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return -1;
    ends->ours[ends->len] = fds[input ? 1 : 0];
    ends->theirs[ends->len++] = fds[input ? 0 : 1];
    return fcntl(fds[input ? 1 : 0], F_SETFL, O_NONBLOCK);
}

static int make_quiet(struct ends *ends)
{
    ends->theirs[ends->len++] = open("/dev/null", O_WRONLY | O_CLOEXEC);
    return ends->theirs[ends->len - 1] < 0 ? -1 : 0;
}

static int make_program(struct ends *ends, struct slice program)
{
    int fd = memfd_create("program", MFD_CLOEXEC);
    ends->theirs[ends->len++] = fd;
    for (size_t at = 0; at < program.len;) {
        ssize_t written = fd < 0 ? -1 : write(fd, program.data + at, program.len - at);
        if (written < 0)
            return -1;
        at += (size_t)written;
    }
    return 0;
}

static int make_ends(struct ends *ends, const struct sandbox_job *job)
{
    if (make_pipe(ends, true) != 0 || make_pipe(ends, false) != 0)
        return -1;
    if (job->quiet ? make_quiet(ends) != 0 : make_pipe(ends, false) != 0)
        return -1;
    return job->program.len > 0 ? make_program(ends, job->program) : 0;
}

static bool pack(const struct sandbox_job *job, struct slot_start *start)
{
    size_t len = 0, args = 0;
    for (; job->argv[args] != NULL; args++) {
        size_t more = strlen(job->argv[args]) + 1;
        if (args == SLOT_ARGS || more > SLOT_ARGV_BYTES - len)
            return false;
        memcpy(start->argv + len, job->argv[args], more);
        len += more;
    }
    start->cpu_s = job->cpu_s;
    start->wall_ms = job->wall_ms;
    start->memory_mib = job->memory_mib;
    start->argv_len = (uint32_t)len;
    return args > 0;
}

int sandbox_start(struct sandbox *sandbox, const struct sandbox_job *job, struct sandbox_pipes *pipes,
                  struct error *error)
{
    struct ends ends = {.ours = {-1, -1, -1}, .theirs = {-1, -1, -1, -1}};
    struct slot_start *start = xalloc(sizeof *start);
    int code = 0;
    if (!pack(job, start))
        code = error_set(error, ERR_LIMIT, "a sandboxed command has at most %d words and %d bytes", SLOT_ARGS,
                         SLOT_ARGV_BYTES);
    else if (make_ends(&ends, job) != 0)
        code = error_set(error, ERR_SYSTEM, "cannot make pipes for a sandboxed program: %s", strerror(errno));
    else if (fds_send(sandbox->socket, start, offsetof(struct slot_start, argv) + start->argv_len, ends.theirs,
                      ends.len) < 0)
        code = error_set(error, ERR_SYSTEM, "a sandbox is gone: %s", strerror(errno));
    close_all(ends.theirs, SLOT_FDS);
    free(start);
    if (code < 0) {
        close_all(ends.ours, 3);
        return code;
    }
    *pipes = (struct sandbox_pipes){ends.ours[0], ends.ours[1], ends.ours[2]};
    return 0;
}

int sandbox_fd(const struct sandbox *sandbox)
{
    return sandbox->socket;
}

int sandbox_end(struct sandbox *sandbox, enum ending_how how, struct sandbox_end *end, struct error *error)
{
    ssize_t got;
    const char byte = (char)how;
    if (how != END_WAIT)
        fds_send(sandbox->socket, &byte, 1, NULL, 0);
    do
        got = recv(sandbox->socket, end, sizeof *end, 0);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof *end ? 0 : error_set(error, ERR_SYSTEM, "a sandbox is gone: its slot died");
}
