/* serve.c - drover broker, worker, verifier: the long-running roles over TCP. */
#include "broker/server.h"
#include "cli/cli.h"
#include "common/io/agent.h"
#include "common/io/join_file.h"
#include "common/io/log.h"
#include "common/io/slice.h"
#include "common/limits.h"
#include "verifier/check.h"
#include "verifier/sandbox.h"
#include "verifier/verifier.h"
#include "worker/batch.h"
#include "worker/engine_command.h"
#include "worker/launcher.h"
#include "worker/servers.h"
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
        surplus(state, arg);
        return 0;
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
static int tell_join(const struct broker_args *args, struct server *server, bool redis, struct error *error)
{
    struct join join = {.epoch = core_epoch(server_core(server))}, told;
    struct buf text = {0};
    snprintf(join.agents, sizeof join.agents, "%s", server_address(server));
    snprintf(join.clients, sizeof join.clients, "%s", server_clients(server));
    int rc = args->join_file == NULL ? 0 : join_file_write(args->join_file, &join, args->advertise, error);
    if (rc == 0 && redis)
        rc = join_outside(&join, args->advertise, &told, error);
    if (rc == 0 && redis) {
        join_print(&told, &text);
        server_mirror(server, buf_slice(&text));
    }
    buf_clear(&text);
    return rc;
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
    rc = tell_join(&args, server, conf.redis[0] != '\0', &error);
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

/* -- worker and verifier ------------------------------------------------------------------------------------------- */

enum {
    CREDITS = 32,         /* tasks held per compute thread */
    SERVER_CREDITS = 512, /* at most, by a worker whose servers do the work */
    SERVERS_WAIT_MS = 2000,
};

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
    {"credits", 'k', "N", 0,
     "tasks held at most, waiting ones included (default 32 per thread; with servers what they have room for, up to 512)",
     0},
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
        surplus(state, arg);
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static const struct argp agent_argp = {agent_opts, agent_parse, "", NULL, 0, 0, 0};

static const char *agent_name(const struct agent_args *args)
{
    static char name[65];
    char host[32] = "host";
    gethostname(host, sizeof host - 1);
    snprintf(name, sizeof name, "%s-%d", host, (int)getpid());
    return args->name != NULL ? args->name : name;
}

static uint32_t credits_of(const struct agent_args *args)
{
    if (args->credits != 0)
        return args->credits;
    return args->threads * CREDITS < LIMIT_CREDITS ? args->threads * CREDITS : LIMIT_CREDITS;
}

static int run_agent(const char *command, const struct agent_args *given, struct agent_options *options)
{
    const struct agent_args args = *given;
    struct cluster_conf conf;
    struct join join;
    struct error error = {""};
    int rc = read_cluster_conf(args.conf, &conf, &error);
    if (rc == 0 && args.join != NULL)
        rc = join_file_wait(args.join, -1, &join, &error);
    if (rc != 0)
        return complain(command, rc, &error);
    options->endpoint = args.join != NULL ? join.agents : args.connect != NULL ? args.connect : conf.listen;
    options->join = args.join;
    options->name = agent_name(given);
    options->threads = args.threads;
    if (options->credits == 0)
        options->credits = credits_of(&args);
    options->id = args.id;
    options->parent = args.parent;
    if (options->verifier && conf.redis_verdicts && conf.redis[0] != '\0')
        verifier_share(conf.redis, conf.redis_prefix);
    if (args.parent == 0)
        log_line(0, "%s name=%s broker=%s threads=%u credits=%u", command, options->name, options->endpoint,
                 options->threads, credits_of(&args));
    return agent_run(options);
}

/* -- worker --------------------------------------------------------------------------------------------------------- */

enum {
    OPTION_SERVER = 2000,
    OPTION_KEY_FILE,
    OPTION_KEY_ENV,
    OPTION_CA_FILE,
    OPTION_SLOTS,
    OPTION_DIALECT,
    OPTION_ENGINE,
    OPTION_GPUS,
    OPTION_ENGINE_URL,
    OPTION_ENGINE_LOG,
    OPTION_ENGINE_PAUSE
};

struct worker_args {
    struct agent_args agent;
    const char *servers[SERVERS_MAX];
    size_t servers_len;
    struct servers_options server; /* of all of them */
    const char *engine, *gpus, *engine_url, *engine_log;
    uint32_t engine_pause_ms;
};

static const struct argp_option worker_opts[] = {
    {"server", OPTION_SERVER, "URL", 0, "an inference server for models of backend openai; may be given several times",
     1},
    {"server-key-file", OPTION_KEY_FILE, "FILE", 0, "file that holds the servers' key", 1},
    {"server-key-env", OPTION_KEY_ENV, "NAME", 0, "environment variable that holds the servers' key", 1},
    {"server-ca", OPTION_CA_FILE, "FILE", 0, "certificates to trust instead of the system's", 1},
    {"server-slots", OPTION_SLOTS, "N", 0, "most requests that one server gets at a time (default 1024)", 1},
    {"server-dialect", OPTION_DIALECT, "NAME", 0, "vllm, sglang, llamacpp or generic (default: found out)", 1},
    {"engine", OPTION_ENGINE, "CMD", 0,
     "start an inference server for each of --gpus, again when it dies, and end it with the worker; {port}, {gpus} and "
     "{index} in CMD are replaced, CUDA_VISIBLE_DEVICES is set",
     2},
    {"gpus", OPTION_GPUS, "LIST", 0,
     "for --engine: auto (one on each GPU, the default), N (on the first N), '0,1;2,3' (one for each group), none (one on "
     "the CPU), cpu:N",
     2},
    {"engine-url", OPTION_ENGINE_URL, "URL", 0, "where such a server listens (default http://127.0.0.1:{port})", 2},
    {"engine-log", OPTION_ENGINE_LOG, "DIR", 0, "folder of the servers' output, NAME-INDEX.log (default: this one)", 2},
    {"engine-pause", OPTION_ENGINE_PAUSE, "MS", OPTION_HIDDEN, "before a server that died is started again", 2},
    {0},
};

static error_t worker_parse(int key, char *arg, struct argp_state *state)
{
    struct worker_args *args = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &args->agent;
        return 0;
    case OPTION_SERVER:
        if (args->servers_len == SERVERS_MAX)
            argp_error(state, "at most %d servers", SERVERS_MAX);
        args->servers[args->servers_len++] = arg;
        return 0;
    case OPTION_KEY_FILE:
        args->server.key_file = arg;
        return 0;
    case OPTION_KEY_ENV:
        args->server.key_env = arg;
        return 0;
    case OPTION_CA_FILE:
        args->server.ca_file = arg;
        return 0;
    case OPTION_SLOTS:
        args->server.slots_max = (uint32_t)number(state, arg, "server-slots", LIMIT_CREDITS);
        return 0;
    case OPTION_DIALECT:
        args->server.dialect = arg;
        return 0;
    case OPTION_ENGINE:
        args->engine = arg;
        return 0;
    case OPTION_GPUS:
        args->gpus = arg;
        return 0;
    case OPTION_ENGINE_URL:
        args->engine_url = arg;
        return 0;
    case OPTION_ENGINE_LOG:
        args->engine_log = arg;
        return 0;
    case OPTION_ENGINE_PAUSE:
        args->engine_pause_ms = (uint32_t)number(state, arg, "engine-pause", 60000);
        return 0;
    case ARGP_KEY_END:
        if (args->engine == NULL && (args->gpus != NULL || args->engine_url != NULL || args->engine_log != NULL))
            argp_error(state, "--gpus, --engine-url and --engine-log are for the servers of --engine: give that too");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static int add_servers(struct worker_args *args, struct error *error)
{
    int rc = 0;
    for (size_t i = 0; i < args->servers_len && rc == 0; i++) {
        args->server.url = args->servers[i];
        rc = servers_add(&args->server, error);
    }
    return rc;
}

static void engine_changed(void *arg, const char *url, enum launcher_event event)
{
    struct servers_options options = *(const struct servers_options *)arg;
    struct error error;
    options.url = url;
    if (event == LAUNCHER_GONE)
        servers_remove(url);
    else if (servers_add(&options, &error) != 0) /* also when it died: it counts as down from now on */
        log_line(0, "%s", error.text);
}

static volatile sig_atomic_t engines_lost;

static void engines_hopeless(void *arg)
{
    (void)arg;
    log_line(0, "no engine is left, so this worker leaves");
    engines_lost = 1;
    kill(getpid(), SIGTERM);
}

/* *launcher stays NULL without --engine. */
static int start_engines(struct worker_args *args, struct gpu_plan *plan, struct launcher **launcher,
                         struct error *error)
{
    struct gpus gpus;
    if (args->engine == NULL)
        return 0;
    int rc = engine_command_check(args->engine, args->engine_url, error);
    if (rc != 0)
        return rc;
    gpus_find(&gpus);
    rc = gpus_plan(args->gpus != NULL ? args->gpus : "auto", &gpus, plan, error);
    if (rc != 0)
        return rc;
    const struct launcher_options options = {
        .command = args->engine,
        .url = args->engine_url != NULL ? args->engine_url : "http://127.0.0.1:{port}",
        .plan = plan,
        .log_dir = args->engine_log != NULL ? args->engine_log : ".",
        .name = agent_name(&args->agent),
        .pause_ms = args->engine_pause_ms,
        .changed = engine_changed,
        .hopeless = engines_hopeless,
        .arg = &args->server,
    };
    return launcher_start(&options, launcher, error);
}

/* What the broker is told of this worker has to be known: the first server is waited for without end, the others for
 * some seconds more. */
static size_t wait_servers(struct offer *offers, size_t max)
{
    while (servers_wait(1000) == 0)
        continue;
    servers_wait(SERVERS_WAIT_MS);
    return servers_offers(offers, max);
}

static uint32_t thread_credits; /* of this agent, for what its threads do themselves */

/* A little more than its servers take, so that there is always a next one; the rest stays where others can have it. */
static uint32_t worker_room(void)
{
    size_t room = servers_room();
    return servers_len() == 0 ? thread_credits : (uint32_t)(room + room / 4 + 4);
}

int cmd_worker(int argc, char **argv)
{
    static const struct argp_child children[] = {{&agent_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {worker_opts,
                                     worker_parse,
                                     "",
                                     "Generate for a broker. SIGTERM gives the tasks back and leaves; so does a "
                                     "broker's `drain`. It waits for a broker that is not there, and for the first of "
                                     "its inference servers.",
                                     children,
                                     0,
                                     0};
    struct worker_args args = {.agent.threads = 1, .engine_pause_ms = 1000};
    struct gpu_plan plan = {.len = 0};
    struct launcher *launcher = NULL;
    struct agent_options options = {0};
    struct offer offers[LIMIT_OFFERS];
    struct error error = {""};
    worker_options(&options);
    parse_args("worker", &argp, argc, argv, &args);
    log_level(args.agent.verbose);
    int rc = add_servers(&args, &error);
    if (rc == 0)
        rc = start_engines(&args, &plan, &launcher, &error);
    if (rc != 0)
        return complain("worker", rc, &error);
    options.devices = launcher != NULL ? plan.devices : NULL;
    if (args.servers_len > 0 || launcher != NULL) {
        options.offers_len = wait_servers(offers, LIMIT_OFFERS);
        options.offers = offers;
    }
    options.trouble = servers_trouble;
    if (args.agent.credits == 0) {
        thread_credits = credits_of(&args.agent);
        options.credits = thread_credits > SERVER_CREDITS ? thread_credits : SERVER_CREDITS;
        options.room = worker_room;
    }
    rc = run_agent("worker", &args.agent, &options);
    launcher_stop(&launcher);
    servers_stop();
    worker_say();
    return engines_lost ? EXIT_FAILED : rc;
}

/* -- import-batch --------------------------------------------------------------------------------------------------- */

struct import_args {
    struct agent_args agent;
    size_t files;
};

static error_t import_parse(int key, char *arg, struct argp_state *state)
{
    struct import_args *args = state->input;
    struct error error = {""};
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &args->agent;
        return 0;
    case ARGP_KEY_ARG:
        if (batch_load(arg, &error) != 0)
            argp_failure(state, EXIT_INPUT, 0, "%s", error.text);
        args->files++;
        return 0;
    case ARGP_KEY_END:
        if (args->files == 0)
            argp_error(state, "which answers? FILE ..., as the service wrote them");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

int cmd_import_batch(int argc, char **argv)
{
    static const struct argp_child children[] = {{&agent_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        NULL,
        import_parse,
        "FILE ...",
        "Answer for a broker from OpenAI batch files, in the place of servers: the custom_id "
        "tells whose answer a line is. Errors in the files are failures of their rollouts.",
        children,
        0,
        0};
    struct import_args args = {.agent.threads = 1};
    struct agent_options options = {0};
    parse_args("import-batch", &argp, argc, argv, &args);
    log_level(args.agent.verbose);
    batch_options(&options);
    log_line(0, "import-batch answers=%zu files=%zu", batch_len(), args.files);
    int rc = run_agent("import-batch", &args.agent, &options);
    batch_clear();
    return rc;
}

/* -- verifier ------------------------------------------------------------------------------------------------------- */

/* Verifiers that ask servers hold as many tasks as they keep in flight, beside what the threads do themselves. */
static uint32_t verifier_room(void)
{
    return thread_credits + check_room();
}

enum { OPTION_PROBE = 2000 };

struct verifier_args {
    struct agent_args agent;
    bool probe;
};

static const struct argp_option verifier_opts[] = {
    {"probe", OPTION_PROBE, NULL, 0, "print what this node can do to run untrusted programs, and leave", 1},
    {0},
};

static error_t verifier_parse(int key, char *arg, struct argp_state *state)
{
    struct verifier_args *args = state->input;
    (void)arg;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &args->agent;
        return 0;
    case OPTION_PROBE:
        args->probe = true;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static int print_probe(void)
{
    struct buf out = {0};
    struct error error;
    sandbox_probe(&out);
    int rc = put_stdout(buf_slice(&out), &error);
    buf_clear(&out);
    return rc == 0 ? EXIT_OK : complain("verifier", rc, &error);
}

int cmd_verifier(int argc, char **argv)
{
    static const struct argp_child children[] = {{&agent_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {verifier_opts,
                                     verifier_parse,
                                     "",
                                     "Verify for a broker. SIGTERM gives the tasks back and leaves; so does a "
                                     "broker's `drain`. It waits for a broker that is not there.",
                                     children,
                                     0,
                                     0};
    struct verifier_args args = {.agent.threads = 1};
    struct agent_options options = {0};
    struct error error;
    if (sandbox_launcher_start(&error) != 0) /* before anything has threads or sockets */
        return complain("verifier", ERR_SYSTEM, &error);
    verifier_options(&options);
    parse_args("verifier", &argp, argc, argv, &args);
    log_level(args.agent.verbose);
    if (args.probe)
        return print_probe();
    if (args.agent.credits == 0) {
        thread_credits = credits_of(&args.agent);
        options.credits = LIMIT_CREDITS;
        options.room = verifier_room;
    }
    int code = run_agent("verifier", &args.agent, &options);
    sandbox_launcher_stop(); /* who waits for this process finds nothing of its programs left */
    verifier_say();
    return code;
}
