/* decide_again.c - drover reselect: new decisions over the rollouts that a sweep has, in its state folder or on its
 * broker. */
#include "cli/again.h"
#include "cli/cli.h"

enum { OPTION_NAME = 1000, OPTION_NO_VERIFY };

struct reselect_args {
    struct reselection what;
    struct again again;
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
        state->child_inputs[0] = &args->again.local;
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
        args->again.broker = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (args->what.sweep != NULL)
            surplus(state, arg);
        args->what.sweep = arg;
        return 0;
    case ARGP_KEY_END:
        if (args->what.sweep == NULL || args->what.file == NULL)
            argp_error(state, "which sweep, and which arms? SWEEP --arm FILE");
        if (args->again.broker != NULL && args->no_verify)
            argp_error(state, "--no-verify is for a state folder: the verifiers of a broker serve all that it has");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static int make(struct server *server, const void *what, uint32_t *sweep, struct buf *note, struct error *error)
{
    return server_reselect(server, what, sweep, note, error);
}

static struct msg request(const void *arg)
{
    const struct reselection *what = arg;
    return (struct msg){.type = MSG_reselect,
                        .reselect = {slice_of(what->sweep), slice_of(what->name == NULL ? "" : what->name),
                                     slice_of(what->file), what->yaml}};
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
    struct reselect_args args = {.again = {.local.command = "reselect", .make = make, .request = request}};
    parse_args("reselect", &argp, argc, argv, &args);
    args.again.what = &args.what;
    args.again.file = args.what.file;
    args.again.yaml = &args.what.yaml;
    args.again.local.beside = args.what.sweep;
    args.again.local.settles = args.no_verify;
    args.again.local.verifiers = args.no_verify ? 0 : 1;
    return again_run(&args.again);
}
