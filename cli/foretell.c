/* foretell.c - drover simulate: arms in worlds with known laws. */
#include "broker/simulate.h"
#include "cli/cli.h"
#include "cli/pilot_read.h"
#include "common/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OVERRIDES_MAX = 256, OPTION_SEEDS = 1000, OPTION_KEYS, OPTION_PILOT };

struct simulate_args {
    const char *path, *overrides[OVERRIDES_MAX];
    size_t overrides_len;
    uint32_t seeds; /* 0: as the file says */
    bool keys;
    struct pilot_request request; /* pilot NULL: laws are those of the file */
};

static const struct argp_option simulate_options[] = {
    {"seeds", OPTION_SEEDS, "N", 0, "worlds that are drawn (default: as the file says)", 0},
    {"pilot", OPTION_PILOT, "PILOT", 0, "prompts as those of a sweep or of a file of results, in place of `laws`", 0},
    PILOT_OPTIONS,
    {"keys", OPTION_KEYS, NULL, 0, "print every key of a simulation's file", 0},
    {0},
};

static uint32_t count_of(const char *arg, const char *option, uint32_t most, struct argp_state *state)
{
    char *end;
    unsigned long long value = strtoull(arg, &end, 10);
    if (end == arg || *end != '\0' || value == 0 || value > most)
        argp_error(state, "--%s takes a whole number from 1 to %u, not '%s'", option, most, arg);
    return (uint32_t)value;
}

static error_t simulate_parse(int key, char *arg, struct argp_state *state)
{
    struct simulate_args *args = state->input;
    if (pilot_option(key, arg, &args->request, state))
        return 0;
    switch (key) {
    case OPTION_PILOT:
        args->request.pilot = arg;
        return 0;
    case OPTION_KEYS:
        args->keys = true;
        return 0;
    case OPTION_SEEDS:
        args->seeds = count_of(arg, "seeds", SIMULATE_WORLDS_MAX, state);
        return 0;
    case ARGP_KEY_ARG:
        if (args->path == NULL)
            args->path = arg;
        else if (strchr(arg, '=') != NULL && args->overrides_len < OVERRIDES_MAX)
            args->overrides[args->overrides_len++] = arg;
        else
            argp_error(state, "'%s' is no key=value", arg);
        return 0;
    case ARGP_KEY_END:
        if (args->path == NULL && !args->keys)
            argp_error(state, "which file? drover simulate SPEC.yaml");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static int print_simulation(const struct simulation_spec *spec, bool json, struct error *error)
{
    struct simulation simulation;
    int rc = simulation_run(spec, &simulation, error);
    if (rc == 0) {
        struct buf out = {0};
        (json ? simulation_json : simulation_text)(&simulation, &out);
        if (json)
            buf_puts(&out, "\n");
        rc = put_stdout(buf_slice(&out), error);
        if (rc == 0 && !simulation_sound(&simulation))
            rc = error_set(error, ERR_CORRUPT,
                           "an arm covers more than an oracle could: do not trust these numbers, and report them");
        buf_clear(&out);
    }
    simulation_clear(&simulation);
    return rc;
}

/* Prompts, answers and lengths are the pilot's; features, verifiers and fleet those of the file. */
static int simulate_pilot(const struct simulate_args *args, struct simulation_spec *spec, struct error *error)
{
    struct pilot_read read;
    int rc = pilot_read(&args->request, &read, error);
    if (rc == 0 && read.pilot->len == 0)
        rc = error_set(error, ERR_NOT_FOUND, "the pilot '%s' holds no rollout whose truth is known",
                       args->request.pilot);
    if (rc == 0) {
        struct pilot_fit fit = pilot_fit(read.pilot, NULL, read.pilot->len);
        struct pilot_source source = {.pilot = read.pilot, .fit = &fit, .len = read.pilot->len, .mixed = true};
        pilot_law(&source, &spec->law);
        rc = print_simulation(spec, args->request.reading.json, error);
    }
    pilot_free(&read.pilot);
    return rc;
}

static int simulate(const struct simulate_args *args, struct error *error)
{
    struct simulation_spec spec;
    char *text;
    size_t len;
    int rc = file_read(args->path, LIMIT_SWEEP_FILE, &text, &len, error);
    if (rc != 0)
        return rc;
    rc = simulation_spec_parse((struct slice){text, len}, args->path, args->overrides, args->overrides_len, &spec,
                               error);
    free(text);
    if (rc != 0)
        return rc;
    spec.worlds = args->seeds > 0 ? args->seeds : spec.worlds;
    if (args->request.pilot != NULL)
        rc = simulate_pilot(args, &spec, error);
    else
        rc = print_simulation(&spec, args->request.reading.json, error);
    simulation_spec_clear(&spec);
    return rc;
}

int cmd_simulate(int argc, char **argv)
{
    const struct argp argp = {
        simulate_options,
        simulate_parse,
        "SPEC.yaml [key=value ...]",
        "Run arms in worlds of prompts whose laws are known, in virtual time and with the broker's own policies: accuracy, "
        "cost, what was saved. Nothing is generated.",
        reading_children,
        0,
        0};
    struct simulate_args args = {0};
    struct error error = {""};
    parse_args("simulate", &argp, argc, argv, &args);
    if (args.keys) {
        struct buf out = {0};
        simulation_help(&out);
        int rc = put_stdout(buf_slice(&out), &error);
        buf_clear(&out);
        return rc == 0 ? EXIT_OK : complain("simulate", rc, &error);
    }
    int rc = simulate(&args, &error);
    return rc == 0 ? EXIT_OK : complain("simulate", rc, &error);
}
