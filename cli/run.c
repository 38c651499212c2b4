/* run.c - drover run: a whole sweep on this machine, one command, the same one after any interruption.
 *
 * This process is the broker. Its children are one worker per core and a verifier, over a Unix socket; they die with it
 * (PR_SET_PDEATHSIG and a check of the parent's pid), so after kill -9 of everything nobody holds a lease. */
#include "broker/server.h"
#include "cli/cli.h"
#include "cli/run.h"
#include "common/io/clock.h"
#include "common/io/log.h"
#include "common/io/program.h"
#include "common/io/slice.h"
#include "common/limits.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { CHILDREN_MAX = 256, DRAIN_MS = 2000, STALL_MS = 3000, OPTION_DRY_RUN = 1000 };

struct run_args {
    const char *file;
    struct local_run local;
    const char *overrides[256];
    size_t overrides_len;
    bool dry_run;
};

static const struct argp_option options[] = {
    {"workers", 'w', "N", 0, "worker processes (default: one per core)", 0},
    {"dry-run", OPTION_DRY_RUN, NULL, 0, "print what the sweep may cost at most and what is there already", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct run_args *args = state->input;
    char *end;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &args->local;
        return 0;
    case 'w':
        args->local.workers = (uint32_t)strtoul(arg, &end, 10);
        if (*arg < '0' || *arg > '9' || *end != '\0' || args->local.workers == 0 ||
            args->local.workers > CHILDREN_MAX / 2)
            argp_error(state, "--workers takes a whole number from 1 to %d, not '%s'", CHILDREN_MAX / 2, arg);
        return 0;
    case OPTION_DRY_RUN:
        args->dry_run = true;
        return 0;
    case ARGP_KEY_ARG:
        if (args->file == NULL)
            args->file = arg;
        else if (strchr(arg, '=') == NULL || args->overrides_len == 256)
            argp_error(state, "'%s' is neither the sweep file nor key=value", arg);
        else
            args->overrides[args->overrides_len++] = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which sweep? give its file");
    }
    return ARGP_ERR_UNKNOWN;
}

/* What commands that serve a sweep themselves have in common. */

enum { OPTION_JSON = 2000, OPTION_QUIET };

static const struct argp_option local_options[] = {
    {"state", 's', "DIR", 0, "state folder (default drover-state)", 0},
    {"json", OPTION_JSON, NULL, 0, "print the report as JSON", 0},
    {"quiet", OPTION_QUIET, NULL, 0, "no progress on stderr", 0},
    {0},
};

static error_t local_parse(int key, char *arg, struct argp_state *state)
{
    struct local_run *local = state->input;
    switch (key) {
    case 's':
        local->state = arg;
        return 0;
    case OPTION_JSON:
        local->json = true;
        return 0;
    case OPTION_QUIET:
        local->quiet = true;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

const struct argp_child local_children[] = {
    {&(const struct argp){local_options, local_parse, NULL, NULL, NULL, NULL, NULL}, 0, NULL, 0}, {0}};

/* -- children ------------------------------------------------------------------------------------------------------- */

struct child_process {
    pid_t pid; /* 0: not running */
    uint64_t agent;
    bool verifier;
    uint32_t number, deaths;
    int64_t restart_ms;
};

struct run {
    struct local_run args;
    struct cluster_conf conf;
    struct server *server;
    struct child_process children[CHILDREN_MAX];
    size_t children_len;
    uint32_t sweep;
    int signals;
    bool interrupted, stop_now;
    uint32_t interrupts;
    int64_t started_ms, returned_ms, shown_ms, moved_ms;
    uint64_t decided_at_start, tokens_shown, verdicts_shown, moved;
    double tokens_rate, verdicts_rate;
    bool line_open; /* a progress line without its newline is on the terminal */
    char socket_dir[64];
};

static int spawn(struct run *run, struct child_process *child)
{
    char parent[24], id[32], name[32], threads[16];
    child->agent = 0;
    while (child->agent == 0)
        if (getrandom(&child->agent, sizeof child->agent, 0) != (ssize_t)sizeof child->agent)
            return ERR_SYSTEM;
    snprintf(parent, sizeof parent, "%d", (int)getpid());
    snprintf(id, sizeof id, "%llu", (unsigned long long)child->agent);
    snprintf(name, sizeof name, "%s-%u", child->verifier ? "verifier" : "worker", child->number);
    snprintf(threads, sizeof threads, "%u", child->verifier ? run->args.verifier_threads : run->args.threads);
    char *argv[] = {"drover",    child->verifier ? "verifier" : "worker",
                    "--connect", run->conf.listen,
                    "--parent",  parent,
                    "--id",      id,
                    "--name",    name,
                    "--threads", threads,
                    NULL};
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int rc = posix_spawn(&child->pid, program_path(), NULL, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    if (rc != 0)
        child->pid = 0;
    return rc == 0 ? 0 : ERR_SYSTEM;
}

static void add_children(struct run *run, bool verifier, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        run->children[run->children_len++] = (struct child_process){.verifier = verifier, .number = i + 1};
}

static void close_line(struct run *run)
{
    if (run->line_open)
        fputs("\n", stderr);
    run->line_open = false;
}

/* A child that died by itself comes back, more slowly each time. */
static void reap(struct run *run)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < run->children_len; i++) {
            struct child_process *child = &run->children[i];
            if (child->pid != pid)
                continue;
            child->pid = 0;
            server_agent_gone(run->server, child->agent);
            if (run->interrupted)
                break;
            child->deaths++;
            child->restart_ms = clock_ms() + (child->deaths < 10 ? 100 * child->deaths : 5000);
            close_line(run);
            log_line(0, "%s %u died (%s %d), starting another", child->verifier ? "verifier" : "worker", child->number,
                     WIFSIGNALED(status) ? "signal" : "exit code",
                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        }
    }
}

static int start_children(struct run *run, struct error *error)
{
    int64_t now = clock_ms();
    for (size_t i = 0; i < run->children_len; i++) {
        struct child_process *child = &run->children[i];
        if (child->pid == 0 && child->restart_ms <= now && spawn(run, child) != 0)
            return error_set(error, ERR_SYSTEM, "cannot start a worker process: %s", strerror(errno));
    }
    return 0;
}

static bool children_left(const struct run *run)
{
    for (size_t i = 0; i < run->children_len; i++)
        if (run->children[i].pid != 0)
            return true;
    return false;
}

static void signal_children(const struct run *run, int signal)
{
    for (size_t i = 0; i < run->children_len; i++)
        if (run->children[i].pid != 0)
            kill(run->children[i].pid, signal);
}

/* -- progress ------------------------------------------------------------------------------------------------------- */

static void count_agents(void *arg, const struct agent_info *agent)
{
    uint32_t *count = arg;
    count[agent->verifier]++;
}

static void print_time(struct buf *out, double s)
{
    if (s < 100)
        buf_printf(out, "%.0f s", s);
    else if (s < 6000)
        buf_printf(out, "%.0f min", s / 60);
    else
        buf_printf(out, "%.1f h", s / 3600);
}

static void print_budget(struct buf *out, const struct sweep_info *info)
{
    const struct spending *used = info->count_accepted ? &info->accepted : &info->burned;
    if (info->caps.tokens > 0)
        buf_printf(out, " | budget %llu+%llu of %llu tokens", (unsigned long long)used->tokens,
                   (unsigned long long)info->reserved.tokens, (unsigned long long)info->caps.tokens);
    else if (info->caps.rollouts > 0)
        buf_printf(out, " | budget %llu+%llu of %llu rollouts", (unsigned long long)used->rollouts,
                   (unsigned long long)info->reserved.rollouts, (unsigned long long)info->caps.rollouts);
    else
        buf_printf(out, " | spent %llu+%llu tokens", (unsigned long long)used->tokens,
                   (unsigned long long)info->reserved.tokens);
}

static void progress_line(struct run *run, const struct sweep_info *info, struct buf *out)
{
    uint32_t agents[2] = {0, 0};
    double elapsed = (double)(clock_ms() - run->started_ms) / 1000;
    core_agents(server_core(run->server), count_agents, agents);
    buf_printf(out, "%s: %llu/%llu decided | %llu rollouts | %.0f tokens/s | %.0f verdicts/s", info->name,
               (unsigned long long)info->decided, (unsigned long long)info->cells,
               (unsigned long long)info->accepted.rollouts, run->tokens_rate, run->verdicts_rate);
    print_budget(out, info);
    buf_printf(out, " | %u+%u workers", agents[0], agents[1]);
    if (info->decided == info->cells && info->truths > 0)
        buf_printf(out, " | %llu verdicts of the truth to come", (unsigned long long)info->truths);
    if (server_disk_full(run->server))
        buf_puts(out, " | PAUSED: the disk is full");
    else if (run->interrupted)
        buf_printf(out, " | draining: %u tasks in flight", info->leased);
    uint64_t done = info->decided - run->decided_at_start;
    if (done > 0 && info->decided < info->cells) {
        buf_puts(out, " | ETA ");
        print_time(out, elapsed * (double)(info->cells - info->decided) / (double)done);
    }
}

static void show_progress(struct run *run, bool last)
{
    bool terminal = isatty(STDERR_FILENO);
    int64_t now = clock_ms(), every = terminal ? 200 : 10000;
    if (run->args.quiet || (!last && now - run->shown_ms < every))
        return;
    struct sweep_info info = core_sweep(server_core(run->server), run->sweep);
    double s = (double)(now - run->shown_ms) / 1000;
    if (s > 0 && run->shown_ms > 0) {
        double weight = terminal ? 0.2 : 1; /* smooth what is updated often */
        run->tokens_rate += weight * ((double)(info.burned.tokens - run->tokens_shown) / s - run->tokens_rate);
        run->verdicts_rate += weight * ((double)(info.verdicts - run->verdicts_shown) / s - run->verdicts_rate);
    }
    run->shown_ms = now;
    run->tokens_shown = info.burned.tokens;
    run->verdicts_shown = info.verdicts;
    struct buf line = {0};
    progress_line(run, &info, &line);
    if (terminal) {
        struct winsize size = {0};
        int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 10000;
        fprintf(stderr, "\r\033[K%.*s", columns, line.data);
        run->line_open = true;
    } else {
        fprintf(stderr, "%s\n", line.data);
    }
    buf_clear(&line);
}

/* -- the loop ------------------------------------------------------------------------------------------------------- */

/* Once: nothing new is handed out, and what runs may finish. Twice: it is given back, with what it used. Thrice: kill. */
static void on_interrupt(struct run *run)
{
    close_line(run);
    run->interrupts++;
    run->interrupted = true;
    if (run->interrupts == 1) {
        log_line(0, "draining: %u tasks in flight may finish (again: they are given back)",
                 core_sweep(server_core(run->server), run->sweep).leased);
        server_drain_agents(run->server);
    } else if (run->interrupts == 2) {
        log_line(0, "giving back what is in flight");
        run->returned_ms = clock_ms();
        signal_children(run, SIGTERM);
    } else {
        run->stop_now = true;
    }
}

static void on_signals(struct run *run)
{
    struct signalfd_siginfo info;
    while (read(run->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            reap(run);
        else
            on_interrupt(run);
    }
}

static bool drained(const struct run *run, const struct sweep_info *info)
{
    if (run->stop_now || !children_left(run) || server_disk_full(run->server)) /* on a full disk nothing can finish */
        return true;
    return run->interrupts == 1 ? info->leased == 0 : run->interrupts > 1 && clock_ms() - run->returned_ms > DRAIN_MS;
}

/* Agents of one role that are connected, and those that fail at everything they are given. */
struct census {
    uint32_t agents, hopeless;
    const char *failure;
};

static void take_census(void *arg, const struct agent_info *agent)
{
    struct census *census = (struct census *)arg + agent->verifier;
    census->agents++;
    if (agent->benched_ms > 0 && agent->done == 0) {
        census->hopeless++;
        census->failure = agent->failure;
    }
}

/* Every worker (or verifier) was benched before it did one task right: waiting does not mend that. */
static bool hopeless(const struct run *run, struct error *error)
{
    struct census census[2] = {{0}};
    core_agents(server_core(run->server), take_census, census);
    for (int role = 0; role < 2; role++) {
        if (census[role].agents == 0 || census[role].hopeless < census[role].agents)
            continue;
        error_set(error, ERR_SYSTEM, "every %s fails at every task: %s (mend it, and the same command goes on)",
                  role == 1 ? "verifier" : "worker", census[role].failure);
        return true;
    }
    return false;
}

/* What keeps connected workers from serving the sweep, as one of them said or as their servers lack it. */
static bool unserved(const struct run *run, const struct sweep_info *info, struct buf *why)
{
    if (info->leased > 0 || core_unoffered(server_core(run->server), run->sweep, why))
        return info->leased == 0;
    bool file = strstr(info->refusal, "No such file") != NULL;
    buf_printf(why, "%s%s", info->refusal,
               file ? " (the `path` of a model counts from the folder where drover is started)" : "");
    return info->refusal[0] != '\0';
}

/* Nothing moves although there are workers, and it is known why: no use in waiting. */
static bool stalled(struct run *run, struct error *error)
{
    struct sweep_info info = core_sweep(server_core(run->server), run->sweep);
    uint64_t moved = info.accepted.rollouts + info.verdicts + info.decided + info.truths;
    int64_t now = clock_ms();
    struct buf why = {0};
    bool known = unserved(run, &info, &why);
    if (moved != run->moved || !known)
        run->moved_ms = now;
    run->moved = moved;
    bool over = now - run->moved_ms >= STALL_MS;
    if (over)
        error_set(error, ERR_SYSTEM, "no worker can serve it: %s", why.data);
    buf_clear(&why);
    return over;
}

static int run_loop(struct run *run, struct error *error)
{
    for (;;) {
        int rc = run->interrupted ? 0 : start_children(run, error);
        if (rc == 0)
            rc = server_turn(run->server, &run->signals, 1, 100, error);
        if (rc != 0)
            return rc;
        on_signals(run);
        struct sweep_info info = core_sweep(server_core(run->server), run->sweep);
        bool over =
            (info.state != SWEEP_RUNNING || (run->args.settles && info.leased == 0)) && !server_disk_full(run->server);
        if (run->interrupted ? drained(run, &info) : over)
            return 0;
        if (!run->interrupted && (stalled(run, error) || hopeless(run, error)))
            return ERR_SYSTEM;
        show_progress(run, false);
    }
}

static int block_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* Where the children connect: beside the journal if that fits a socket's name, else a private folder. */
static int choose_socket(struct run *run, struct error *error)
{
    int len = snprintf(run->conf.listen, sizeof run->conf.listen, "ipc://%s/agents.sock", run->conf.state);
    if (len < 100)
        return 0;
    snprintf(run->socket_dir, sizeof run->socket_dir, "/tmp/drover-XXXXXX");
    if (mkdtemp(run->socket_dir) == NULL)
        return error_set(error, ERR_SYSTEM, "cannot make a folder for the workers' socket in /tmp: %s",
                         strerror(errno));
    snprintf(run->conf.listen, sizeof run->conf.listen, "ipc://%s/agents.sock", run->socket_dir);
    return 0;
}

static int open_run(struct run *run, struct error *error)
{
    int rc = cluster_conf_parse((struct slice){"", 0}, "defaults", &run->conf, error);
    if (rc != 0)
        return rc;
    snprintf(run->conf.state, sizeof run->conf.state, "%s", run->args.state);
    run->conf.heartbeat_busy_ms = 500;
    run->conf.heartbeat_idle_ms = 1000;
    rc = choose_socket(run, error);
    if (rc == 0 && run->conf.short_slice)
        short_slice(); /* the workers beside it are busy on every core */
    if (rc == 0)
        rc = server_new(&(struct server_options){.conf = &run->conf, .own_fleet = true}, &run->server, error);
    if (rc == 0)
        rc = run->args.begin(run->server, run->args.arg, &run->sweep, error);
    if (rc == 0) /* an unfinished sweep of the folder, whose server is gone, say, does not hold this one up */
        server_prefer(run->server, run->sweep);
    return rc;
}

static void close_run(struct run *run)
{
    signal_children(run, run->stop_now ? SIGKILL : SIGTERM);
    int64_t until = clock_ms() + DRAIN_MS;
    struct error error;
    while (run->server != NULL && children_left(run) && clock_ms() < until && !run->stop_now) {
        run->interrupted = true;
        if (server_turn(run->server, &run->signals, 1, 50, &error) != 0)
            break;
        reap(run);
    }
    signal_children(run, SIGKILL);
    server_free(&run->server);
    if (run->socket_dir[0] != '\0') {
        char path[100];
        snprintf(path, sizeof path, "%s/agents.sock", run->socket_dir);
        unlink(path);
        rmdir(run->socket_dir);
    }
}

static int print_end(struct run *run, const char *name, double wall_s)
{
    struct journal *journal;
    struct error error = {""};
    int rc = journal_open(run->conf.state, &(struct journal_options){.read_only = true}, &journal, &error);
    if (rc == 0) {
        struct report_style style = {run->args.json ? REPORT_JSON : REPORT_TEXT, wall_s, NAN, run->args.beside, false};
        rc = print_report(journal, name, &style, &error);
        journal_close(&journal);
    }
    if (rc != 0)
        return complain(run->args.command, rc, &error);
    if (!run->args.quiet)
        fprintf(stderr, "state folder %s: drover results %s --state %s prints every rollout\n", run->conf.state, name,
                run->conf.state);
    return EXIT_OK;
}

static int finish_run(struct run *run, int rc, struct error *error)
{
    struct sweep_info info = core_sweep(server_core(run->server), run->sweep);
    char name[80], reason[300];
    snprintf(name, sizeof name, "%s", info.name);
    snprintf(reason, sizeof reason, "%s", info.reason == NULL ? "" : info.reason);
    enum sweep_state state = info.state;
    struct waiting waiting = core_waiting(server_core(run->server), run->sweep);
    uint64_t missing = waiting.verify + waiting.truth;
    double wall_s = (double)(clock_ms() - run->started_ms) / 1000;
    bool interrupted = run->interrupted;
    if (rc == 0)
        show_progress(run, true);
    close_line(run);
    close_run(run);
    if (rc != 0)
        return complain(run->args.command, rc, error);
    if (interrupted) {
        fprintf(stderr, "drover %s: interrupted; nothing is lost, the same command goes on where it was\n",
                run->args.command);
        return EXIT_INTERRUPTED;
    }
    if (state == SWEEP_FAULT || state == SWEEP_PAUSED || state == SWEEP_CANCELLED) {
        fprintf(stderr, "drover %s: sweep '%s' is %s%s%s\n", run->args.command, name, sweep_state_text(state),
                reason[0] != '\0' ? ": " : "", reason);
        return EXIT_FAULT;
    }
    int code = print_end(run, name, wall_s);
    if (code != EXIT_OK || state == SWEEP_DONE)
        return code;
    fprintf(stderr,
            "drover %s: %llu of %llu prompts of arms are undecided: %llu verdicts that they need are missing; the same "
            "command without --no-verify has them made\n",
            run->args.command, (unsigned long long)(info.cells - info.decided), (unsigned long long)info.cells,
            (unsigned long long)missing);
    return EXIT_FAILED;
}

int run_local(const struct local_run *what)
{
    struct run *run = xalloc(sizeof *run);
    struct error error = {""};
    int code;
    run->args = *what;
    run->signals = block_signals();
    int rc = open_run(run, &error);
    if (rc != 0) {
        close_run(run);
        code = complain(what->command, rc, &error);
    } else {
        if (!what->quiet)
            fprintf(stderr, "state folder %s\n", run->conf.state);
        add_children(run, false, what->workers);
        add_children(run, true, what->verifiers);
        run->started_ms = run->moved_ms = clock_ms();
        run->decided_at_start = core_sweep(server_core(run->server), run->sweep).decided;
        rc = run_loop(run, &error);
        code = finish_run(run, rc, &error);
    }
    free(run);
    return code;
}

/* -- the command ---------------------------------------------------------------------------------------------------- */

struct submit_input {
    const struct run_args *args;
    struct sweep_input *input;
};

static int submit_file(struct server *server, void *arg, uint32_t *sweep, struct error *error)
{
    const struct submit_input *from = arg;
    struct submission submission = {
        .yaml = {from->input->yaml, from->input->yaml_len},
        .file = from->args->file,
        .overrides = from->args->overrides,
        .overrides_len = from->args->overrides_len,
        .prompts = from->input->prompts,
        .prompts_len = from->input->prompts_len,
        .prompts_file = from->input->prompts_path,
    };
    from->input->prompts = NULL; /* taken */
    return server_submit(server, &submission, sweep, error);
}

static void plan_children(struct local_run *local, const struct sweep_spec *spec)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (local->workers == 0)
        local->workers = cores < 1 ? 1 : cores < CHILDREN_MAX / 2 ? (uint32_t)cores : CHILDREN_MAX / 2;
    local->threads = local->verifier_threads = 1;
    for (uint32_t i = 0; i < spec->models_len; i++)
        if (spec->models[i].slots > local->threads && strcmp(spec->models[i].backend, "exec") == 0)
            local->threads = spec->models[i].slots;
    for (uint32_t i = 0; i < spec->verifiers_len; i++)
        if (strcmp(spec->verifiers[i].kind, "code") == 0) /* programs keep a core busy each */
            local->verifier_threads = cores < 1 ? 1 : (uint32_t)cores + 1;
    local->verifiers = spec->verifiers_len > 0;
}

int cmd_run(int argc, char **argv)
{
    const struct argp argp = {
        options,
        parse,
        "SWEEP.yaml [key=value ...]",
        "Run a sweep on this machine. The same command continues it after any interruption; a "
        "larger n, new arms or a larger budget extend it. Ctrl-C once drains: what runs may finish; "
        "twice gives it back.",
        local_children,
        0,
        0};
    struct run_args args = {.local = {.command = "run", .state = "drover-state", .begin = submit_file}};
    struct sweep_input input;
    struct submit_input from = {&args, &input};
    struct error error = {""};
    parse_args("run", &argp, argc, argv, &args);
    int rc = sweep_input_read(args.file, args.overrides, args.overrides_len, &input, &error);
    if (rc != 0) {
        complain("run", rc, &error);
        return EXIT_INPUT;
    }
    int code;
    if (args.dry_run) {
        rc = print_dry_run(&input, args.local.state, args.local.json, &error);
        if (rc == 0)
            fputs("drover run: whether the workers of this machine can serve it was not checked\n", stderr);
        code = rc == 0 ? EXIT_OK : complain("run", rc, &error);
    } else {
        args.local.arg = &from;
        plan_children(&args.local, &input.spec);
        code = run_local(&args.local);
    }
    sweep_input_clear(&input);
    return code;
}
