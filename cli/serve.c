/* serve.c - drover broker, worker, verifier: the long-running roles over TCP. */
#include "broker/server.h"
#include "cli/cli.h"
#include "common/io/agent.h"
#include "common/io/join_file.h"
#include "common/io/log.h"
#include "common/io/slice.h"
#include "common/limits.h"
#include "verifier/verifier.h"
#include "worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* -- broker --------------------------------------------------------------------------------------------------------- */

struct broker_args {
    const char *conf, *state, *listen, *clients, *join_file, *advertise;
    bool insecure;
    int verbose;
};

enum { OPTION_ADVERTISE = 1000, OPTION_INSECURE, OPTION_PARENT, OPTION_ID };

static const struct argp_option broker_options[] = {
    {"conf", 'c', "FILE", 0, "cluster.conf to read (default: ./cluster.conf, else built-in defaults)", 0},
    {"state", 's', "DIR", 0, "state folder (default: from cluster.conf, drover-state)", 0},
    {"listen", 'l', "ENDPOINT", 0, "where workers and verifiers connect", 0},
    {"clients", 'C', "ENDPOINT", 0, "where submit, status, ... connect", 0},
    {"insecure", OPTION_INSECURE, NULL, 0, "as `insecure: true`: other machines may reach these addresses", 0},
    {"join-file", 'j', "FILE", 0, "write here where to connect, for --join FILE of the other commands", 0},
    {"advertise", OPTION_ADVERTISE, "HOST", 0,
     "this machine's name in the join file (default: the address it listens on, else its first one)", 0},
    {"verbose", 'v', NULL, 0, "tell more on stderr", 0},
    {0},
};

static error_t broker_parse(int key, char *arg, struct argp_state *state)
{
    struct broker_args *args = state->input;
    switch (key) {
    case 'c':
        args->conf = arg;
        return 0;
    case 's':
        args->state = arg;
        return 0;
    case 'l':
        args->listen = arg;
        return 0;
    case 'C':
        args->clients = arg;
        return 0;
    case 'j':
        args->join_file = arg;
        return 0;
    case OPTION_ADVERTISE:
        args->advertise = arg;
        return 0;
    case OPTION_INSECURE:
        args->insecure = true;
        return 0;
    case 'v':
        args->verbose++;
        return 0;
    case ARGP_KEY_ARG:
        argp_usage(state);
    }
    return ARGP_ERR_UNKNOWN;
}

static bool loopback(const char *endpoint)
{
    return strncmp(endpoint, "ipc://", 6) == 0 || strncmp(endpoint, "tcp://127.", 10) == 0 ||
           strncmp(endpoint, "tcp://localhost:", 16) == 0 || strncmp(endpoint, "tcp://[::1]:", 12) == 0;
}

static int broker_conf(const struct broker_args *args, struct cluster_conf *conf, struct error *error)
{
    int rc = read_cluster_conf(args->conf, conf, error);
    if (rc != 0)
        return rc;
    if (args->state != NULL)
        snprintf(conf->state, sizeof conf->state, "%s", args->state);
    if (args->listen != NULL)
        snprintf(conf->listen, sizeof conf->listen, "%s", args->listen);
    if (args->clients != NULL)
        snprintf(conf->clients, sizeof conf->clients, "%s", args->clients);
    conf->insecure |= args->insecure;
    if (!conf->insecure && (!loopback(conf->listen) || !loopback(conf->clients)))
        return error_set(error, ERR_REFUSED,
                         "listening on %s lets other machines in without keys: say --insecure, or `insecure: true` in "
                         "cluster.conf, if the network is trusted",
                         !loopback(conf->listen) ? conf->listen : conf->clients);
    return 0;
}

static volatile sig_atomic_t stopping;

static void on_stop(int signal)
{
    (void)signal;
    stopping = 1;
}

/* After it listens: who reads it can connect at once. */
static int tell_join(const struct broker_args *args, const struct server *server, struct error *error)
{
    struct join join = {.epoch = core_epoch(server_core(server))};
    if (args->join_file == NULL)
        return 0;
    snprintf(join.agents, sizeof join.agents, "%s", server_address(server));
    snprintf(join.clients, sizeof join.clients, "%s", server_clients(server));
    return join_file_write(args->join_file, &join, args->advertise, error);
}

int cmd_broker(int argc, char **argv)
{
    const struct argp argp = {broker_options,
                              broker_parse,
                              "",
                              "Serve sweeps to workers and verifiers. Stop it at any "
                              "instant: what was acknowledged is kept, and the next start goes on.",
                              0,
                              0,
                              0};
    struct broker_args args = {0};
    struct cluster_conf conf;
    struct error error = {""};
    parse_args("broker", &argp, argc, argv, &args);
    log_level(args.verbose);
    int rc = broker_conf(&args, &conf, &error);
    struct server *server;
    if (rc == 0 && conf.short_slice)
        short_slice();
    if (rc == 0)
        rc = server_new(&(struct server_options){.conf = &conf}, &server, &error);
    if (rc != 0)
        return complain("broker", rc, &error);
    struct sigaction action = {.sa_handler = on_stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    rc = tell_join(&args, server, &error);
    if (rc == 0)
        log_line(0, "broker epoch=%llu state=%s agents=%s clients=%s%s",
                 (unsigned long long)core_epoch(server_core(server)), conf.state, server_address(server),
                 server_clients(server), conf.insecure ? " INSECURE: no keys" : "");
    while (rc == 0 && !stopping)
        rc = server_turn(server, NULL, 0, 1000, &error);
    if (rc == 0)
        log_line(0, "broker stopped; the same command goes on where it was");
    server_free(&server);
    return rc == 0 ? EXIT_OK : complain("broker", rc, &error);
}

/* -- worker, verifier ----------------------------------------------------------------------------------------------- */

struct agent_args {
    const char *conf, *connect, *join, *name;
    uint32_t threads, credits;
    uint64_t id;
    int parent, verbose;
};

static const struct argp_option agent_opts[] = {
    {"connect", 'b', "ENDPOINT", 0, "the broker, tcp://HOST:PORT (default: `listen` of cluster.conf)", 0},
    {"join", 'j', "FILE", 0, "the broker, by the join file that it writes; waits for the file", 0},
    {"conf", 'c', "FILE", 0, "cluster.conf to read (default: ./cluster.conf, else built-in defaults)", 0},
    {"name", 'n', "NAME", 0, "shown in `drover workers` (default: HOST-PID)", 0},
    {"threads", 't', "N", 0, "compute threads (default 1); a backend that cannot batch runs one task on each", 0},
    {"credits", 'k', "N", 0, "tasks held at most, waiting ones included (default 32 per thread)", 0},
    {"verbose", 'v', NULL, 0, "tell more on stderr", 0},
    {"parent", OPTION_PARENT, "PID", OPTION_HIDDEN, "die with this process", 0},
    {"id", OPTION_ID, "N", OPTION_HIDDEN, "incarnation", 0},
    {0},
};

static uint64_t number(struct argp_state *state, const char *arg, const char *what, uint64_t max)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(arg, &end, 10);
    if (errno != 0 || *arg < '0' || *arg > '9' || *end != '\0' || value == 0 || value > max)
        argp_error(state, "--%s takes a whole number from 1 to %llu, not '%s'", what, (unsigned long long)max, arg);
    return value;
}

static error_t agent_parse(int key, char *arg, struct argp_state *state)
{
    struct agent_args *args = state->input;
    switch (key) {
    case 'b':
        args->connect = arg;
        return 0;
    case 'j':
        args->join = arg;
        return 0;
    case 'c':
        args->conf = arg;
        return 0;
    case 'n':
        if (strlen(arg) > LIMIT_NAME)
            argp_error(state, "a name has at most %d bytes", LIMIT_NAME);
        args->name = arg;
        return 0;
    case 't':
        args->threads = (uint32_t)number(state, arg, "threads", 1024);
        return 0;
    case 'k':
        args->credits = (uint32_t)number(state, arg, "credits", LIMIT_CREDITS);
        return 0;
    case 'v':
        args->verbose++;
        return 0;
    case OPTION_PARENT:
        args->parent = (int)number(state, arg, "parent", 1 << 30);
        return 0;
    case OPTION_ID:
        args->id = number(state, arg, "id", UINT64_MAX);
        return 0;
    case ARGP_KEY_END:
        if (args->join != NULL && args->connect != NULL)
            argp_error(state, "--connect and --join both say where the broker is: give one");
        return 0;
    case ARGP_KEY_ARG:
        argp_usage(state);
    }
    return ARGP_ERR_UNKNOWN;
}

static int run_agent(const char *command, const char *doc, struct agent_options *options, int argc, char **argv)
{
    const struct argp argp = {agent_opts, agent_parse, "", doc, 0, 0, 0};
    struct agent_args args = {.threads = 1};
    struct cluster_conf conf;
    struct join join;
    struct error error = {""};
    parse_args(command, &argp, argc, argv, &args);
    log_level(args.verbose);
    int rc = read_cluster_conf(args.conf, &conf, &error);
    if (rc == 0 && args.join != NULL)
        rc = join_file_wait(args.join, -1, &join, &error);
    if (rc != 0)
        return complain(command, rc, &error);
    char host[32] = "host", name[65];
    gethostname(host, sizeof host - 1);
    snprintf(name, sizeof name, "%s-%d", host, (int)getpid());
    options->endpoint = args.join != NULL ? join.agents : args.connect != NULL ? args.connect : conf.listen;
    options->join = args.join;
    options->name = args.name != NULL ? args.name : name;
    options->threads = args.threads;
    options->credits = args.credits != 0                   ? args.credits
                       : args.threads * 32 < LIMIT_CREDITS ? args.threads * 32
                                                           : LIMIT_CREDITS;
    options->id = args.id;
    options->parent = args.parent;
    if (args.parent == 0)
        log_line(0, "%s name=%s broker=%s threads=%u credits=%u", command, options->name, options->endpoint,
                 options->threads, options->credits);
    return agent_run(options);
}

int cmd_worker(int argc, char **argv)
{
    struct agent_options options = {0};
    worker_options(&options);
    return run_agent("worker",
                     "Generate for a broker. SIGTERM gives the tasks back and leaves; so does a broker's "
                     "`drain`. It waits for a broker that is not there.",
                     &options, argc, argv);
}

int cmd_verifier(int argc, char **argv)
{
    struct agent_options options = {0};
    verifier_options(&options);
    return run_agent("verifier",
                     "Verify for a broker. SIGTERM gives the tasks back and leaves; so does a broker's "
                     "`drain`. It waits for a broker that is not there.",
                     &options, argc, argv);
}
