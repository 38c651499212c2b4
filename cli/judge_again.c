/* judge_again.c - drover reverify: new verdicts over the rollouts that a sweep has, in its state folder or on its broker. */
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

enum { OPTION_VERIFIER = 1000, OPTION_TRUTH, OPTION_NAME };

struct reverify_args {
    struct reverification what;
    struct local_run local;
    const char *broker;
};

static const struct argp_option options[] = {
    {"verifier", OPTION_VERIFIER, "NAME", 0, "who judges: a verifier of the sweep, or of --file", 0},
    {"truth", OPTION_TRUTH, "NAME", 0, "who says what is right (default: the sweep's truth)", 0},
    {"file", 'f', "SWEEP.yaml", 0, "sweep file in whose section `verifiers` both are looked for first", 0},
    {"name", OPTION_NAME, "NAME", 0, "of the sweep that holds the new verdicts (default: SWEEP@VERIFIER)", 0},
    {"broker", 'b', "ENDPOINT", 0, "have the broker with this client address do it", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct reverify_args *args = state->input;
    switch (key) {
    case OPTION_VERIFIER:
        args->what.verifier = arg;
        return 0;
    case OPTION_TRUTH:
        args->what.truth = arg;
        return 0;
    case OPTION_NAME:
        args->what.name = arg;
        return 0;
    case 'f':
        args->what.file = arg;
        return 0;
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &args->local;
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
        if (args->what.sweep == NULL || args->what.verifier == NULL)
            argp_error(state, "which sweep, and by which verifier? SWEEP --verifier NAME");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static int begin(struct server *server, void *arg, uint32_t *sweep, struct error *error)
{
    struct buf note = {0};
    int rc = server_reverify(server, arg, sweep, &note, error);
    if (rc == 0 && note.len > 0)
        log_line(0, "%s", note.data);
    buf_clear(&note);
    return rc;
}

static int ask_broker(const struct reverify_args *args, struct error *error)
{
    const struct reverification *what = &args->what;
    struct client *client;
    struct slice name;
    int rc = client_open(args->broker, &client, error);
    if (rc != 0)
        return rc;
    rc = client_ask(client,
                    &(struct msg){.type = MSG_reverify,
                                  .reverify = {slice_of(what->sweep), slice_of(what->verifier),
                                               slice_of(what->truth == NULL ? "" : what->truth),
                                               slice_of(what->name == NULL ? "" : what->name),
                                               slice_of(what->file == NULL ? "" : what->file), what->yaml}},
                    &name, error);
    if (rc == 0)
        printf(args->local.json ? "{\"sweep\":\"%.*s\"}\n" : "%.*s\n", (int)name.len, name.data);
    client_close(&client);
    return rc;
}

int cmd_reverify(int argc, char **argv)
{
    const struct argp argp = {
        options,
        parse,
        "SWEEP --verifier NAME",
        "Judge the sampled rollouts that a sweep has once more. Nothing is generated; the new verdicts stand "
        "beside the old ones, in a sweep of their own. Rollouts that came since are judged by the "
        "same command.",
        local_children,
        0,
        0};
    struct reverify_args args = {.local = {.command = "reverify", .verifiers = 1, .threads = 1, .begin = begin}};
    struct error error = {""};
    char *yaml = NULL;
    size_t len = 0;
    parse_args("reverify", &argp, argc, argv, &args);
    args.local.arg = &args.what;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    args.local.verifier_threads = cores < 1 ? 1 : (uint32_t)cores + 1; /* it may be programs that are run */
    int rc = one_place(args.local.state, &(struct broker_choice){.broker = args.broker}, &error);
    if (args.local.state == NULL)
        args.local.state = "drover-state";
    if (rc == 0 && args.what.file != NULL)
        rc = file_read(args.what.file, LIMIT_SWEEP_FILE, &yaml, &len, &error);
    args.what.yaml = (struct slice){yaml, len};
    int code;
    if (rc != 0) {
        complain("reverify", rc, &error);
        code = EXIT_INPUT;
    } else if (args.broker != NULL) {
        rc = ask_broker(&args, &error);
        code = rc == 0 ? EXIT_OK : complain("reverify", rc, &error);
    } else {
        code = run_local(&args.local);
    }
    free(yaml);
    return code;
}
