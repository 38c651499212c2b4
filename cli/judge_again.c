/* judge_again.c - drover reverify: new verdicts over the rollouts that a sweep has, in its state folder or on its broker. */
#include "cli/again.h"
#include "cli/cli.h"

enum { OPTION_VERIFIER = 1000, OPTION_TRUTH, OPTION_NAME };

struct reverify_args {
    struct reverification what;
    struct again again;
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
        state->child_inputs[0] = &args->again.local;
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
        if (args->what.sweep == NULL || args->what.verifier == NULL)
            argp_error(state, "which sweep, and by which verifier? SWEEP --verifier NAME");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static int make(struct server *server, const void *what, uint32_t *sweep, struct buf *note, struct error *error)
{
    return server_reverify(server, what, sweep, note, error);
}

static struct slice or_none(const char *text)
{
    return slice_of(text == NULL ? "" : text);
}

static struct msg request(const void *arg)
{
    const struct reverification *what = arg;
    return (struct msg){.type = MSG_reverify,
                        .reverify = {slice_of(what->sweep), slice_of(what->verifier), or_none(what->truth),
                                     or_none(what->name), or_none(what->file), what->yaml}};
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
    struct reverify_args args = {
        .again = {.local = {.command = "reverify", .verifiers = 1}, .make = make, .request = request}};
    parse_args("reverify", &argp, argc, argv, &args);
    args.again.what = &args.what;
    args.again.file = args.what.file;
    args.again.yaml = &args.what.yaml;
    return again_run(&args.again);
}
