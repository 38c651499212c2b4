/* decide_again.c - drover reselect: new decisions over the rollouts that a sweep has, in its state folder or on its
 * broker. */
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/run.h"
#include "common/io/log.h"
#include "common/limits.h"
#include "common/msg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPTION_NAME = 1000, OPTION_NO_VERIFY };

struct reselect_args {
    struct reselection what;
    struct local_run local;
    const char *broker;
    bool no_verify;
};

static const struct argp_option options[] = {
    {"arm", 'a', "FILE", 0, "the new arms: a sweep file, its section `arms`, or the keys of one arm", 0},
    {"name", OPTION_NAME, "NAME", 0, "of the sweep that holds the new decisions (default: SWEEP@ARM)", 0},
    {"as", 0, NULL, OPTION_ALIAS, NULL, 0},
    {"no-verify", OPTION_NO_VERIFY, NULL, 0, "have no verdicts made: what needs one that is missing stays undecided",
     0},
    {"broker", 'b', "ENDPOINT", 0, "have the broker with this client address do it", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct reselect_args *args = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &args->local;
        return 0;
    case 'a':
        args->what.file = arg;
        return 0;
    case OPTION_NAME:
        args->what.name = arg;
        return 0;
    case OPTION_NO_VERIFY:
        args->no_verify = true;
        return 0;
    case 'b':
        args->broker = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (args->what.sweep != NULL)
            argp_usage(state);
        args->what.sweep = arg;
        return 0;
    case ARGP_KEY_END:
        if (args->what.sweep == NULL || args->what.file == NULL)
            argp_error(state, "which sweep, and which arms? SWEEP --arm FILE");
        if (args->broker != NULL && args->no_verify)
            argp_error(state, "--no-verify is for a state folder: the verifiers of a broker serve all that it has");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static int begin(struct server *server, void *arg, uint32_t *sweep, struct error *error)
{
    struct buf note = {0};
    int rc = server_reselect(server, arg, sweep, &note, error);
    if (rc == 0 && note.len > 0)
        log_line(0, "%s", note.data);
    buf_clear(&note);
    return rc;
}

static int ask_broker(const struct reselect_args *args, struct error *error)
{
    const struct reselection *what = &args->what;
    struct client *client;
    struct slice name;
    int rc = client_open(args->broker, &client, error);
    if (rc != 0)
        return rc;
    rc = client_ask(client,
                    &(struct msg){.type = MSG_reselect,
                                  .reselect = {slice_of(what->sweep), slice_of(what->name == NULL ? "" : what->name),
                                               slice_of(what->file), what->yaml}},
                    &name, error);
    if (rc == 0)
        printf(args->local.json ? "{\"sweep\":\"%.*s\"}\n" : "%.*s\n", (int)name.len, name.data);
    client_close(&client);
    return rc;
}

int cmd_reselect(int argc, char **argv)
{
    const struct argp argp = {
        options,
        parse,
        "SWEEP --arm FILE",
        "Decide over the sampled rollouts that a sweep has once more, with other policies. Nothing is generated; the "
        "new decisions stand beside the old ones, in a sweep of their own, and the report shows both. Rollouts that "
        "came since are taken up by the same command.",
        local_children,
        0,
        0};
    struct reselect_args args = {.local = {.command = "reselect", .threads = 1, .begin = begin}};
    struct error error = {""};
    char *yaml = NULL;
    size_t len = 0;
    parse_args("reselect", &argp, argc, argv, &args);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    args.local.arg = &args.what;
    args.local.beside = args.what.sweep;
    args.local.settles = args.no_verify;
    args.local.verifiers = args.no_verify ? 0 : 1;
    args.local.verifier_threads = cores < 1 ? 1 : (uint32_t)cores + 1; /* it may be programs that are run */
    int rc = one_place(args.local.state, &(struct broker_choice){.broker = args.broker}, &error);
    if (args.local.state == NULL)
        args.local.state = "drover-state";
    if (rc == 0)
        rc = file_read(args.what.file, LIMIT_SWEEP_FILE, &yaml, &len, &error);
    args.what.yaml = (struct slice){yaml, len};
    int code;
    if (rc != 0) {
        complain("reselect", rc, &error);
        code = EXIT_INPUT;
    } else if (args.broker != NULL) {
        rc = ask_broker(&args, &error);
        code = rc == 0 ? EXIT_OK : complain("reselect", rc, &error);
    } else {
        code = run_local(&args.local);
    }
    free(yaml);
    return code;
}
