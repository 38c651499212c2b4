/* child.c - child processes that speak lines; see child.h.
 *
 * fork and exec rather than posix_spawn, which can set neither the death signal nor close foreign
 * descriptors. Between the two only async-signal-safe calls are made, because other threads may
 * hold locks. The child is not reaped before its group is killed: until then its number cannot
 * belong to another group. */
#include "common/io/child.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4u
#endif

#define READ_CHUNK  65536
#define EXIT_MS_MAX 1000 /* how long an ended output waits for the exit status */

struct child {
    pid_t pid;
    int in, out;     /* our ends: its standard input and output */
    char name[64];   /* argv[0], for sentences */
    struct buf read; /* bytes of an unfinished line */
    uint64_t answers;
    bool broken; /* an ask failed: the two sides may disagree about what is asked */
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* A pipe whose ends are above 2, even when our own standard streams are closed: dup2 onto itself
 * would keep close-on-exec set. */
static int pipe_above_2(int fds[2])
{
    int made[2];
    fds[0] = fds[1] = -1;
    if (pipe2(made, O_CLOEXEC) != 0)
        return ERR_SYSTEM;
    for (int i = 0; i < 2; i++) {
        fds[i] = fcntl(made[i], F_DUPFD_CLOEXEC, 3);
        close(made[i]);
    }
    if (fds[0] >= 0 && fds[1] >= 0)
        return 0;
    close_fd(&fds[0]);
    close_fd(&fds[1]);
    return ERR_SYSTEM;
}

/* Everything a start needs to undo or pass on. */
struct start {
    int in[2], out[2], why[2]; /* why: carries errno when exec fails, closed by exec when it works */
    pid_t parent;
};

/* In the child: async-signal-safe calls only. */
static _Noreturn void become(const char *const argv[], const struct start *start)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != start->parent)
        _exit(127); /* the parent died before the signal was armed */
    struct sigaction plain = {.sa_handler = SIG_DFL};
    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &plain, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(start->in[0], 0) >= 0 && dup2(start->out[1], 1) >= 0) {
        close_range(3, ~0u, CLOSE_RANGE_CLOEXEC); /* other libraries' descriptors; old kernels refuse */
        execvp(argv[0], (char *const *)argv);
    }
    int why = errno;
    ssize_t written = write(start->why[1], &why, sizeof why);
    _exit(written == sizeof why ? 127 : 126);
}

/* 0, or the errno of a failed exec. */
static int exec_result(int fd)
{
    int why = 0;
    ssize_t got;
    do
        got = read(fd, &why, sizeof why);
    while (got < 0 && errno == EINTR);
    return got == sizeof why ? why : 0;
}

static void start_close(struct start *start)
{
    for (int i = 0; i < 2; i++) {
        close_fd(&start->in[i]);
        close_fd(&start->out[i]);
        close_fd(&start->why[i]);
    }
}

static int start_fork(const char *const argv[], struct start *start, pid_t *pid)
{
    if (pipe_above_2(start->in) != 0 || pipe_above_2(start->out) != 0 || pipe_above_2(start->why) != 0)
        return errno;
    /* Signals wait until the child has dropped our handlers: they must not run in a copy of this
     * process. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    start->parent = getpid();
    *pid = fork();
    int why = errno;
    if (*pid == 0)
        become(argv, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (*pid < 0)
        return why;
    setpgid(*pid, *pid); /* both sides, so that neither can be too late; fails harmlessly after exec */
    close_fd(&start->why[1]);
    why = exec_result(start->why[0]);
    if (why != 0)
        waitpid(*pid, NULL, 0);
    return why;
}

int child_start(const char *const argv[], struct child **child, struct error *error)
{
    *child = NULL;
    if (argv[0] == NULL || argv[0][0] == '\0')
        return error_set(error, ERR_NOT_FOUND, "the command is empty");
    struct start start = {{-1, -1}, {-1, -1}, {-1, -1}, 0};
    pid_t pid = -1;
    int why = start_fork(argv, &start, &pid);
    if (why != 0) {
        start_close(&start);
        return error_set(error, why == ENOENT || why == EACCES ? ERR_NOT_FOUND : ERR_SYSTEM,
                         "cannot start `%.100s`: %s", argv[0], strerror(why));
    }
    struct child *made = xalloc(sizeof *made);
    made->pid = pid;
    made->in = start.in[1];
    made->out = start.out[0];
    start.in[1] = start.out[0] = -1;
    start_close(&start);
    fcntl(made->in, F_SETFL, O_NONBLOCK);
    fcntl(made->out, F_SETFL, O_NONBLOCK);
    strncpy(made->name, argv[0], sizeof made->name - 1);
    *child = made;
    return 0;
}

/* Says how the child ended; it stays unreaped, see the top. */
static int fail_ended(struct child *child, struct error *error)
{
    close_fd(&child->in); /* lets a child that only closed its output go */
    siginfo_t info = {0};
    for (int64_t end = now_ms() + EXIT_MS_MAX; now_ms() < end && info.si_pid == 0;) {
        if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
            break;
        if (info.si_pid == 0)
            poll(NULL, 0, 1);
    }
    if (info.si_pid == 0)
        return error_set(error, ERR_CLOSED, "`%s` closed its output without an answer", child->name);
    if (info.si_code == CLD_EXITED)
        return error_set(error, ERR_CLOSED, "`%s` ended with status %d without an answer", child->name, info.si_status);
    return error_set(error, ERR_CLOSED, "`%s` was killed by signal %d (%s)", child->name, info.si_status,
                     strsignal(info.si_status));
}

/* Writes without SIGPIPE: one that this write raises is taken back before anyone sees it. */
static ssize_t write_quietly(int fd, const char *data, size_t len)
{
    sigset_t pipe, before, pending;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    ssize_t written = write(fd, data, len);
    int why = errno;
    if (written < 0 && why == EPIPE && !sigismember(&pending, SIGPIPE))
        while (sigtimedwait(&pipe, NULL, &(struct timespec){0}) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = why;
    return written;
}

/* Sends what the pipe takes. A child that stopped reading may still have answered, so EPIPE only
 * ends the sending. */
static int send_some(struct child *child, struct slice *left, struct error *error)
{
    ssize_t written = write_quietly(child->in, left->data, left->len);
    if (written >= 0) {
        left->data += written;
        left->len -= (size_t)written;
    } else if (errno == EPIPE) {
        left->len = 0;
    } else if (errno != EAGAIN && errno != EINTR) {
        return error_set(error, ERR_SYSTEM, "cannot write to `%s`: %s", child->name, strerror(errno));
    }
    return 0;
}

/* Reads what is there. *ended: the output is closed. */
static int receive_some(struct child *child, bool *ended, struct error *error)
{
    char *to = buf_grow(&child->read, READ_CHUNK);
    ssize_t got = read(child->out, to, READ_CHUNK);
    if (got < 0 && errno != EAGAIN && errno != EINTR)
        return error_set(error, ERR_SYSTEM, "cannot read from `%s`: %s", child->name, strerror(errno));
    *ended = got == 0;
    child->read.len += got > 0 ? (size_t)got : 0;
    return 0;
}

static void wait_ready(const struct child *child, bool sending, int64_t left_ms)
{
    struct pollfd fds[2] = {{.fd = child->out, .events = POLLIN}, {.fd = sending ? child->in : -1, .events = POLLOUT}};
    poll(fds, 2, left_ms > 60000 ? 60000 : (int)left_ms);
}

/* Moves the line out of the buffer once it is whole. *whole: it was. */
static int take_line(struct child *child, size_t *searched, size_t max, struct buf *answer, bool *whole,
                     struct error *error)
{
    const struct buf *read = &child->read;
    const char *end = NULL;
    if (read->len > *searched)
        end = memchr(read->data + *searched, '\n', read->len - *searched);
    *searched = read->len;
    *whole = end != NULL;
    size_t len = end != NULL ? (size_t)(end - read->data) : read->len;
    if (len > max)
        return error_set(error, ERR_LIMIT, "`%s` wrote a line of more than %zu bytes", child->name, max);
    if (end == NULL)
        return 0;
    if (len + 1 < read->len)
        return error_set(error, ERR_PROTOCOL, "`%s` wrote more than one line for one request", child->name);
    buf_put(answer, read->data, len > 0 && read->data[len - 1] == '\r' ? len - 1 : len);
    buf_reset(&child->read);
    return 0;
}

static int exchange(struct child *child, struct slice left, struct buf *answer, size_t max, int64_t timeout_ms,
                    struct error *error)
{
    int64_t end = now_ms() + timeout_ms;
    size_t searched = 0;
    bool ended = false, whole = false;
    int code = receive_some(child, &ended, error);
    if (code == 0 && child->read.len > 0)
        return error_set(error, ERR_PROTOCOL, "`%s` wrote something before it was asked", child->name);
    while (code == 0 && !whole && !ended) {
        if (left.len > 0)
            code = send_some(child, &left, error);
        if (code == 0)
            code = receive_some(child, &ended, error);
        if (code == 0)
            code = take_line(child, &searched, max, answer, &whole, error);
        if (code != 0 || whole || ended)
            break;
        int64_t left_ms = end - now_ms();
        if (left_ms <= 0)
            return error_set(error, ERR_TIMEOUT, "`%s` gave no answer within %lld ms", child->name,
                             (long long)timeout_ms);
        wait_ready(child, left.len > 0, left_ms);
    }
    return code == 0 && !whole ? fail_ended(child, error) : code;
}

int child_ask(struct child *child, struct slice line, struct buf *answer, size_t max, int64_t timeout_ms,
              struct error *error)
{
    assert(line.len == 0 || memchr(line.data, '\n', line.len) == NULL);
    buf_reset(answer);
    if (child->broken)
        return error_set(error, ERR_CLOSED, "`%s` failed before", child->name);
    if (timeout_ms < 0)
        timeout_ms = 0;
    if (timeout_ms > INT32_MAX)
        timeout_ms = INT32_MAX;
    struct buf whole = {0};
    buf_put(&whole, line.data, line.len);
    buf_put(&whole, "\n", 1);
    int code = exchange(child, buf_slice(&whole), answer, max, timeout_ms, error);
    buf_clear(&whole);
    child->broken = code != 0;
    child->answers += code == 0;
    return code;
}

uint64_t child_answers(const struct child *child)
{
    return child->answers;
}

void child_free(struct child **child)
{
    struct child *gone = *child;
    if (gone == NULL)
        return;
    *child = NULL;
    kill(-gone->pid, SIGKILL);
    close_fd(&gone->in);
    close_fd(&gone->out);
    while (waitpid(gone->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    buf_clear(&gone->read);
    free(gone);
}
