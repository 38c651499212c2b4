/* launcher.c - inference servers as children; see launcher.h.
 *
 * One thread starts servers and waits for their guards. fork and exec rather than posix_spawn, because the guard is this
 * program without an exec: after the fork it makes async-signal-safe calls only, for other threads may hold locks. */
#include "worker/launcher.h"
#include "common/io/clock.h"
#include "common/io/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    GRACE_MS = 5000,           /* between SIGTERM and SIGKILL */
    PAUSE_MS_MAX = 60000,      /* between two starts */
    STEADY_MS = 5 * 60 * 1000, /* who lived so long died of something new */
    DEATHS_MAX = 8,            /* in a row: it is not started again */
};

extern char **environ;

/* -- the guard, after the fork: async-signal-safe calls only ---------------------------------------------------------- */

/* Made before the fork. */
struct start {
    const char *command;
    char **environment;
    int line, log; /* line: to the launcher */
};

static void on_child(int signal)
{
    (void)signal; /* it interrupts ppoll, that is all */
}

static void close_from(int first)
{
    if (close_range((unsigned)first, ~0u, 0) != 0) /* an old kernel */
        for (int fd = first; fd < 4096; fd++)
            close(fd);
}

static _Noreturn void become_server(const struct start *start, pid_t guard)
{
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigset_t none;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* should somebody kill the guard */
    if (getppid() != guard)
        _exit(127);
    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &plain, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    close_from(3);
    execve("/bin/sh", (char *[]){"sh", "-c", (char *)start->command, NULL}, start->environment);
    _exit(127);
}

/* Whether the server has ended; not reaped yet, so its number still names its group. */
static bool ended(pid_t server)
{
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, (id_t)server, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

/* Until the server ends, the line is closed (when it is watched), or the time is over. */
static void wait_for(pid_t server, int line, int64_t wait_ms)
{
    sigset_t none;
    sigemptyset(&none);
    int64_t end = clock_ms() + wait_ms;
    while (!ended(server)) {
        int64_t left = wait_ms < 0 ? 3600000 : end - clock_ms();
        struct pollfd fd = {.fd = line, .events = POLLIN};
        if (left <= 0)
            return;
        if (ppoll(&fd, 1, &(struct timespec){left / 1000, left % 1000 * 1000000}, &none) > 0)
            return;
    }
}

static _Noreturn void guard(const struct start *start)
{
    struct sigaction wake = {.sa_handler = on_child}, ignore = {.sa_handler = SIG_IGN};
    sigset_t all;
    setpgid(0, 0);
    prctl(PR_SET_NAME, "drover-guard");
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigaction(SIGTERM, &ignore, NULL);
    sigaction(SIGINT, &ignore, NULL);
    sigaction(SIGHUP, &ignore, NULL);
    sigaction(SIGCHLD, &wake, NULL);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (dup2(null, 0) < 0 || dup2(start->log, 1) < 0 || dup2(start->log, 2) < 0 || dup2(start->line, 3) < 0)
        _exit(126);
    close_from(4);
    pid_t self = getpid(), server = fork();
    if (server == 0)
        become_server(start, self);
    if (server < 0)
        _exit(126);
    setpgid(server, server);
    wait_for(server, 3, -1);
    if (!ended(server)) {
        kill(-server, SIGTERM);
        wait_for(server, -1, GRACE_MS);
    }
    kill(-server, SIGKILL); /* what it left behind, and itself */
    int status = 0;
    while (waitpid(server, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* -- servers -------------------------------------------------------------------------------------------------------- */

struct server {
    pid_t guard; /* 0: none */
    int line;    /* -1: none */
    uint16_t port;
    char url[300];
    char log[1200];
    uint32_t deaths; /* in a row */
    int64_t started_ms, next_ms;
};

struct launcher {
    struct launcher_options options;
    struct gpu_plan plan;
    struct server servers[GPUS_MAX];
    pthread_t thread;
    bool watched; /* the thread runs */
    int stop[2];  /* closed at the other end: the thread ends */
    bool hopeless;
};

/* Every {NAME} of the text is replaced by its value. */
static void fill(const char *text, const char *const pairs[][2], struct buf *out)
{
    while (*text != '\0') {
        size_t i = 0;
        while (pairs[i][0] != NULL && strncmp(text, pairs[i][0], strlen(pairs[i][0])) != 0)
            i++;
        buf_put(out, pairs[i][0] != NULL ? pairs[i][1] : text, pairs[i][0] != NULL ? strlen(pairs[i][1]) : 1);
        text += pairs[i][0] != NULL ? strlen(pairs[i][0]) : 1;
    }
}

static void fill_for(const struct launcher *launcher, size_t index, const char *text, struct buf *out)
{
    char port[8], number[24];
    snprintf(port, sizeof port, "%u", launcher->servers[index].port);
    snprintf(number, sizeof number, "%zu", index);
    const char *const pairs[][2] = {
        {"{port}", port}, {"{gpus}", launcher->plan.group[index]}, {"{index}", number}, {NULL, NULL}};
    fill(text, pairs, out);
}

/* The environment with what the server may see; pointers borrow from it and from `own`. */
static char **environment(const char *gpus, char own[2][GPU_GROUP + 32])
{
    size_t len = 0, kept = 0;
    while (environ[len] != NULL)
        len++;
    char **copy = xalloc((len + 3) * sizeof *copy);
    for (size_t i = 0; i < len; i++)
        if (strncmp(environ[i], "CUDA_VISIBLE_DEVICES=", 21) != 0 && strncmp(environ[i], "CUDA_DEVICE_ORDER=", 18) != 0)
            copy[kept++] = environ[i];
    snprintf(own[0], sizeof own[0], "CUDA_VISIBLE_DEVICES=%s", gpus);
    snprintf(own[1], sizeof own[1], "CUDA_DEVICE_ORDER=PCI_BUS_ID"); /* as nvidia-smi counts */
    copy[kept++] = own[0];
    copy[kept] = own[1];
    return copy;
}

/* Keeps *port if it is free, else chooses one. Somebody may take it before the server does; then that dies, and the next
 * start chooses again. */
static int choose_port(uint16_t *port, struct error *error)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(*port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    int rc = bind(fd, (struct sockaddr *)&at, sizeof at);
    if (rc != 0) {
        at.sin_port = 0;
        rc = bind(fd, (struct sockaddr *)&at, sizeof at);
    }
    if (rc == 0)
        rc = getsockname(fd, (struct sockaddr *)&at, &len);
    int cause = errno;
    if (fd >= 0)
        close(fd);
    *port = ntohs(at.sin_port);
    return rc == 0 ? 0 : error_set(error, ERR_SYSTEM, "no port for an inference server: %s", strerror(cause));
}

static int spawn(struct launcher *launcher, size_t index, struct error *error)
{
    struct server *server = &launcher->servers[index];
    struct buf command = {0};
    char own[2][GPU_GROUP + 32];
    int line[2] = {-1, -1};
    fill_for(launcher, index, launcher->options.command, &command);
    struct start start = {.command = command.data, .environment = environment(launcher->plan.group[index], own)};
    start.log = open(server->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (start.log >= 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line) == 0) {
        start.line = line[1];
        server->guard = fork();
        if (server->guard == 0)
            guard(&start);
    }
    int cause = errno;
    bool failed = start.log < 0 || line[0] < 0 || server->guard < 0;
    for (size_t i = 0; i < 2; i++)
        if ((failed || i == 1) && line[i] >= 0)
            close(line[i]);
    if (start.log >= 0)
        close(start.log);
    free(start.environment);
    buf_clear(&command);
    server->line = failed ? -1 : line[0];
    server->guard = failed ? 0 : server->guard;
    return !failed ? 0
                   : error_set(error, ERR_SYSTEM, "an inference server cannot be started (log %s): %s", server->log,
                               strerror(cause));
}

static int start_server(struct launcher *launcher, size_t index, struct error *error)
{
    struct server *server = &launcher->servers[index];
    struct buf url = {0};
    uint16_t before = server->port;
    int rc = choose_port(&server->port, error);
    if (before != 0 && server->port != before)
        launcher->options.changed(launcher->options.arg, server->url, LAUNCHER_GONE);
    if (rc == 0)
        rc = spawn(launcher, index, error);
    if (rc != 0)
        return rc;
    server->started_ms = clock_ms();
    fill_for(launcher, index, launcher->options.url, &url);
    snprintf(server->url, sizeof server->url, "%s", url.data);
    buf_clear(&url);
    log_line(0, "engine %zu started: url=%s gpus=%s log=%s", index, server->url, launcher->plan.group[index],
             server->log);
    launcher->options.changed(launcher->options.arg, server->url, LAUNCHER_STARTED);
    return 0;
}

static bool any_left(const struct launcher *launcher)
{
    for (size_t i = 0; i < launcher->plan.len; i++)
        if (launcher->servers[i].deaths < DEATHS_MAX)
            return true;
    return false;
}

/* When it is started again, if ever. */
static void plan_restart(struct launcher *launcher, size_t index, const char *how)
{
    struct server *server = &launcher->servers[index];
    int64_t lived = clock_ms() - server->started_ms, pause = launcher->options.pause_ms;
    server->deaths = lived < STEADY_MS ? server->deaths + 1 : 1;
    for (uint32_t i = 1; i < server->deaths && pause < PAUSE_MS_MAX; i++)
        pause *= 2;
    pause = pause < PAUSE_MS_MAX ? pause : PAUSE_MS_MAX;
    server->next_ms = clock_ms() + pause;
    if (server->deaths < DEATHS_MAX)
        log_line(0, "engine %zu %s after %.1f s, see %s; again in %.1f s", index, how, (double)lived / 1000,
                 server->log, (double)pause / 1000);
    else
        log_line(0, "engine %zu %s after %.1f s, see %s; %d times in a row: it is not started again", index, how,
                 (double)lived / 1000, server->log, DEATHS_MAX);
    if (any_left(launcher) || launcher->hopeless)
        return;
    launcher->hopeless = true;
    launcher->options.hopeless(launcher->options.arg);
}

static void reap(struct launcher *launcher, size_t index)
{
    struct server *server = &launcher->servers[index];
    char how[64];
    int status = 0;
    close(server->line);
    server->line = -1;
    while (waitpid(server->guard, &status, 0) < 0 && errno == EINTR)
        ;
    server->guard = 0;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (code > 128)
        snprintf(how, sizeof how, "was ended by signal %d", code - 128);
    else
        snprintf(how, sizeof how, "ended with code %d", code);
    launcher->options.changed(launcher->options.arg, server->url,
                              server->deaths + 1 < DEATHS_MAX ? LAUNCHER_DIED : LAUNCHER_GONE);
    plan_restart(launcher, index, how);
}

static bool may_start(const struct server *server)
{
    return server->guard == 0 && server->deaths < DEATHS_MAX;
}

/* Starts what is due; in how many ms the next one is, -1: none waits. */
static int start_due(struct launcher *launcher)
{
    struct error error;
    int64_t wait = -1, now = clock_ms();
    for (size_t i = 0; i < launcher->plan.len; i++) {
        struct server *server = &launcher->servers[i];
        if (!may_start(server))
            continue;
        if (server->next_ms <= now && start_server(launcher, i, &error) != 0) {
            server->started_ms = now;
            plan_restart(launcher, i, error.text);
        }
        int64_t left = may_start(server) ? server->next_ms - now : -1;
        wait = left >= 0 && (wait < 0 || left < wait) ? left : wait;
    }
    return (int)wait;
}

static void *launcher_main(void *arg)
{
    struct launcher *launcher = arg;
    for (;;) {
        struct pollfd fds[GPUS_MAX + 1] = {{.fd = launcher->stop[0], .events = POLLIN}};
        int wait = start_due(launcher);
        for (size_t i = 0; i < launcher->plan.len; i++)
            fds[i + 1] = (struct pollfd){.fd = launcher->servers[i].line, .events = POLLIN};
        poll(fds, launcher->plan.len + 1, wait);
        if (fds[0].revents != 0)
            return NULL;
        for (size_t i = 0; i < launcher->plan.len; i++)
            if (fds[i + 1].fd >= 0 && fds[i + 1].revents != 0)
                reap(launcher, i);
    }
}

/* Signals are for other threads. */
static int start_thread(struct launcher *launcher)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&launcher->thread, NULL, launcher_main, launcher);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

int launcher_start(const struct launcher_options *options, struct launcher **launcher_ptr, struct error *error)
{
    struct launcher *launcher = xalloc(sizeof *launcher);
    int rc = 0;
    launcher->options = *options;
    launcher->plan = *options->plan;
    for (size_t i = 0; i < GPUS_MAX; i++)
        launcher->servers[i].line = -1;
    for (size_t i = 0; i < launcher->plan.len && rc == 0; i++) {
        snprintf(launcher->servers[i].log, sizeof launcher->servers[i].log, "%s/%s-%zu.log", options->log_dir,
                 options->name, i);
        rc = start_server(launcher, i, error);
    }
    if (rc == 0 && pipe2(launcher->stop, O_CLOEXEC) == 0)
        launcher->watched = start_thread(launcher) == 0;
    if (rc == 0 && !launcher->watched)
        rc = error_set(error, ERR_SYSTEM, "no thread to watch the inference servers: %s", strerror(errno));
    *launcher_ptr = launcher;
    if (rc != 0)
        launcher_stop(launcher_ptr);
    return rc;
}

void launcher_stop(struct launcher **launcher_ptr)
{
    struct launcher *launcher = *launcher_ptr;
    if (launcher == NULL)
        return;
    *launcher_ptr = NULL;
    if (launcher->watched) {
        close(launcher->stop[1]);
        pthread_join(launcher->thread, NULL);
        close(launcher->stop[0]);
    }
    for (size_t i = 0; i < launcher->plan.len; i++)
        if (launcher->servers[i].line >= 0)
            shutdown(launcher->servers[i].line, SHUT_RDWR); /* all at once: their graces run side by side */
    for (size_t i = 0; i < launcher->plan.len; i++) {
        if (launcher->servers[i].guard == 0)
            continue;
        while (waitpid(launcher->servers[i].guard, NULL, 0) < 0 && errno == EINTR)
            ;
        close(launcher->servers[i].line);
    }
    free(launcher);
}
