/* spend.c - drover fit-bins: how many rollouts a prompt is worth by how hard it is, and of which arm, from earlier ones. */
#include "broker/fit_bins.h"
#include "broker/fit_strategies.h"
#include "broker/server.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "common/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

enum {
    OPTION_BUDGET = 1000,
    OPTION_BY,
    OPTION_PILOT,
    OPTION_FOLDS,
    OPTION_STRENGTH,
    OPTION_VERIFIER,
    OPTION_MODEL,
    OPTION_STRATEGIES,
};
enum { PILOT_MOST = 1024, FOLDS_MOST = 100 };

struct fit_args {
    const char *from, *verifier, *model;
    struct reading reading;
    struct fit_bins_request request;
    bool by_prior, strategies;
};

static const struct argp_option fit_options[] = {
    {"budget", OPTION_BUDGET, "MEAN", 0,
     "rollouts of a prompt on average (with --strategies: tokens), the pilot among them", 0},
    {"by", OPTION_BY, "WHAT", 0, "passes: of a pilot that every prompt has (default); prior: of the counts themselves",
     0},
    {"pilot", OPTION_PILOT, "N", 0, "rollouts of the pilot (default: 4)", 0},
    {"folds", OPTION_FOLDS, "K", 0, "parts of the prompts that are held out in turn (default: 2; 0: none)", 0},
    {"strength", OPTION_STRENGTH, "S", 0, "what a counted rollout is worth, if it is of another model (default: 1)", 0},
    {"verifier", OPTION_VERIFIER, "NAME", 0, "whose passes are counted (default: the sweep's truth)", 0},
    {"model", OPTION_MODEL, "NAME", 0, "whose rollouts are counted, of a sweep with several", 0},
    {"strategies", OPTION_STRATEGIES, NULL, 0, "choose among the arms of the sweep for each bin, instead of rollouts",
     0},
    {0},
};

static double number_between(const char *arg, const char *option, double low, double high, struct argp_state *state)
{
    char *end;
    double value = strtod(arg, &end);
    if (end == arg || *end != '\0' || !(value >= low && value <= high))
        argp_error(state, "--%s takes a number from %g to %g, not '%s'", option, low, high, arg);
    return value;
}

static uint32_t whole_between(const char *arg, const char *option, double low, double high, struct argp_state *state)
{
    double value = number_between(arg, option, low, high, state);
    if (value != floor(value))
        argp_error(state, "--%s takes a whole number, not '%s'", option, arg);
    return (uint32_t)value;
}

static void check_args(struct fit_args *args, struct argp_state *state)
{
    if (args->from == NULL || !(args->request.budget > 0))
        argp_error(state, "which rollouts, and how many may be spent? SWEEP|FILE --budget MEAN");
    if (args->by_prior)
        args->request.pilot = 0;
    if (args->strategies && (args->by_prior || prior_is_file(args->from)))
        argp_error(state,
                   "--strategies compares the arms of a sweep by its pilot: it takes neither a file nor --by prior");
    if (args->request.budget < args->request.pilot)
        argp_error(state, "--budget %g is less than the pilot of %u", args->request.budget, args->request.pilot);
    if (args->request.folds == 1)
        argp_error(state, "--folds takes 2 or more, or 0");
}

static error_t fit_parse(int key, char *arg, struct argp_state *state)
{
    struct fit_args *args = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &args->reading;
        return 0;
    case OPTION_VERIFIER:
        args->verifier = arg;
        return 0;
    case OPTION_MODEL:
        args->model = arg;
        return 0;
    case OPTION_BUDGET:
        args->request.budget = number_between(arg, "budget", 1, 1e12, state);
        return 0;
    case OPTION_PILOT:
        args->request.pilot = whole_between(arg, "pilot", 1, PILOT_MOST, state);
        return 0;
    case OPTION_FOLDS:
        args->request.folds = whole_between(arg, "folds", 0, FOLDS_MOST, state);
        return 0;
    case OPTION_STRENGTH:
        args->request.strength = number_between(arg, "strength", 0.001, 1, state);
        return 0;
    case OPTION_STRATEGIES:
        args->strategies = true;
        return 0;
    case OPTION_BY:
        args->by_prior = strcmp(arg, "prior") == 0;
        if (!args->by_prior && strcmp(arg, "passes") != 0)
            argp_error(state, "--by takes passes or prior, not '%s'", arg);
        return 0;
    case ARGP_KEY_ARG:
        if (args->from != NULL)
            surplus(state, arg);
        args->from = arg;
        return 0;
    case ARGP_KEY_END:
        check_args(args, state);
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

/* ---- counts ---- */

/* Prompts are numbered as they come: those without a count are none. */
struct counting {
    struct buf tallies; /* struct prior_tally each */
    uint32_t prompts;
};

static void count_put(struct counting *counting, struct prior_tally tally)
{
    tally.own = 0;
    if (tally.n > 0)
        buf_put(&counting->tallies, &tally, sizeof tally);
}

struct known_id {
    uint32_t number;
    UT_hash_handle hh;
};

static void count_file(const struct prior_file *file, struct counting *counting)
{
    struct known_id *ids = NULL, *id, *next;
    for (uint32_t i = 0; i < file->len; i++) {
        const struct prior_count *count = &file->counts[i];
        HASH_FIND(hh, ids, count->prompt, strlen(count->prompt), id);
        if (id == NULL) {
            id = xalloc(sizeof *id);
            id->number = counting->prompts++;
            HASH_ADD_KEYPTR(hh, ids, count->prompt, strlen(count->prompt), id);
        }
        count_put(counting, (struct prior_tally){.prompt = id->number, .passes = count->passes, .n = count->n});
    }
    HASH_ITER (hh, ids, id, next) {
        HASH_DEL(ids, id);
        free(id);
    }
}

static int read_file(const struct fit_args *args, struct counting *counting, struct error *error)
{
    struct prior_file file;
    char *text;
    size_t len;
    int rc = file_read(args->from, LIMIT_SUBMISSION, &text, &len, error);
    if (rc != 0)
        return rc;
    rc = prior_file_read((struct slice){text, len}, args->from, args->from,
                         args->verifier != NULL ? args->verifier : "", &file, error);
    free(text);
    if (rc != 0)
        return rc;
    count_file(&file, counting);
    prior_file_clear(&file);
    return 0;
}

/* The pool of the model that is meant; one with a kill rule is none, since not all of its rollouts are whole. */
static int find_pool(const struct fit_args *args, const struct core *core, uint32_t sweep, uint32_t *pool,
                     struct error *error)
{
    struct buf names = {0};
    uint32_t found = 0;
    *pool = NO_ID;
    for (uint32_t i = 0; i < core_pools(core); i++) {
        struct pool_info info = core_pool(core, i);
        const char *name = core_model(core, info.model).name;
        if (info.kill.window > 0 || !prior_samples(core, sweep, i) ||
            (args->model != NULL && strcmp(name, args->model) != 0))
            continue;
        buf_printf(&names, "%s%s", found > 0 ? ", " : "", name);
        *pool = i;
        found++;
    }
    int rc = 0;
    if (found == 0)
        rc = error_set(error, ERR_NOT_FOUND,
                       "sweep '%s' has no sampled rollouts%s%s (those of arms with a kill rule do not count)",
                       core_sweep(core, sweep).name, args->model != NULL ? " of model " : "",
                       args->model != NULL ? args->model : "");
    else if (found > 1)
        rc = error_set(error, ERR_CONFLICT, "sweep '%s' has rollouts of several models (%s): choose one, --model NAME",
                       core_sweep(core, sweep).name, names.data);
    buf_clear(&names);
    return rc;
}

static int find_judge(const struct fit_args *args, const struct core *core, uint32_t sweep, uint32_t *verifier,
                      struct error *error)
{
    *verifier = args->verifier == NULL ? core_sweep(core, sweep).truth : NO_ID;
    for (uint32_t v = core_verifiers(core); args->verifier != NULL && *verifier == NO_ID && v-- > 0;)
        if (strcmp(core_verifier(core, v).name, args->verifier) == 0)
            *verifier = v;
    if (*verifier != NO_ID)
        return 0;
    if (args->verifier == NULL)
        return error_set(error, ERR_NOT_FOUND, "sweep '%s' has no truth: say whose passes count, --verifier NAME",
                         args->from);
    return error_set(error, ERR_NOT_FOUND, "the journal knows no verifier '%.64s'", args->verifier);
}

static int count_sweep(const struct fit_args *args, const struct core *core, struct counting *counting,
                       struct error *error)
{
    uint32_t sweep, pool, verifier;
    int rc = find_sweep(core, args->from, &sweep, error);
    if (rc == 0)
        rc = find_pool(args, core, sweep, &pool, error);
    if (rc == 0)
        rc = find_judge(args, core, sweep, &verifier, error);
    for (uint32_t p = 0; rc == 0 && p < core_sweep(core, sweep).prompts; p++) {
        struct prior_tally tally = prior_count(core, sweep, pool, p, verifier);
        tally.prompt = counting->prompts;
        counting->prompts += tally.n > 0;
        count_put(counting, tally);
    }
    return rc;
}

/* ---- strategies ---- */

static int fit_arms(const struct fit_args *args, const struct core *core, struct error *error)
{
    struct fit_strategies_request request = {
        .pilot = args->request.pilot, .budget = args->request.budget, .folds = args->request.folds};
    struct fit_strategies fit;
    int rc = find_sweep(core, args->from, &request.sweep, error);
    if (rc == 0)
        rc = find_pool(args, core, request.sweep, &request.pool, error);
    if (rc == 0)
        rc = find_judge(args, core, request.sweep, &request.verifier, error);
    if (rc != 0)
        return rc;
    request.truth = core_sweep(core, request.sweep).truth;
    if (request.truth == NO_ID)
        return error_set(error, ERR_NOT_FOUND, "sweep '%s' has no truth, which says what arms were right", args->from);
    if (!fit_strategies(core, &request, &fit))
        return error_set(
            error, ERR_NOT_FOUND,
            "of %u prompts of sweep '%s' both the pilot and every arm's outcome are known, which is too few",
            fit.prompts, args->from);
    if (fit.seen.tokens > request.budget)
        return error_set(
            error, ERR_REFUSED,
            "with %g tokens a prompt no arm of sweep '%s' can follow a pilot of %u: the cheapest take %.0f "
            "with it, so --budget %.0f or more",
            request.budget, args->from, request.pilot, fit.seen.tokens, ceil(fit.seen.tokens));
    struct buf out = {0};
    (args->reading.json ? fit_strategies_json : fit_strategies_text)(core, &fit, &request, &out);
    rc = put_stdout(buf_slice(&out), error);
    buf_clear(&out);
    return rc;
}

/* ---- the command ---- */

static int read_sweep(const struct fit_args *args, struct counting *counting, struct error *error)
{
    struct source source;
    struct core *core;
    int rc = source_open(&args->reading, &source, error);
    if (rc != 0)
        return rc;
    rc = journal_core(source.journal, &core, error);
    if (rc == 0) {
        rc = args->strategies ? fit_arms(args, core, error) : count_sweep(args, core, counting, error);
        core_free(&core);
    }
    source_close(&source);
    return rc;
}

static int fit(struct fit_args *args, const struct counting *counting, struct error *error)
{
    struct fit_bins_request *request = &args->request;
    request->tallies = (const struct prior_tally *)(const void *)counting->tallies.data;
    request->len = counting->tallies.len / sizeof(struct prior_tally);
    request->prompts = counting->prompts;
    if (request->prompts == 0 || request->prompts < request->folds)
        return error_set(error, ERR_NOT_FOUND, "'%s' has judged rollouts of %u prompts, which is too few to fit bins",
                         args->from, request->prompts);
    struct fit_bins fitted = fit_bins(request);
    struct buf out = {0};
    (args->reading.json ? fit_bins_json : fit_bins_text)(&fitted, request, args->from, &out);
    int rc = put_stdout(buf_slice(&out), error);
    buf_clear(&out);
    return rc;
}

/* Whoever meant a file is told how one is named. */
static void hint_at_files(const char *from, struct error *error)
{
    struct error said = *error;
    error_set(error, ERR_NOT_FOUND,
              "%.300s (a file of counts or results is named with a '/' in it, as in ./%.60s, or ends in .jsonl)",
              said.text, from);
}

int cmd_fit_bins(int argc, char **argv)
{
    const struct argp argp = {
        fit_options,
        fit_parse,
        "SWEEP|FILE",
        "Fit the edges and rollouts of allocator `bins` to earlier rollouts of prompts like those "
        "to come, print them as keys of an arm, and foretell what they cover, for the prompts seen "
        "and held out. A FILE holds counts, {\"prompt\": ID, \"passes\": K, \"n\": N} on a line, or "
        "what `drover results` prints.",
        reading_children,
        0,
        0};
    struct fit_args args = {.request = {.pilot = 4, .folds = 2, .strength = 1}};
    struct counting counting = {0};
    struct error error = {""};
    parse_args("fit-bins", &argp, argc, argv, &args);
    int rc = prior_is_file(args.from) ? read_file(&args, &counting, &error) : read_sweep(&args, &counting, &error);
    if (rc == ERR_NOT_FOUND && !args.strategies)
        hint_at_files(args.from, &error);
    if (rc == 0 && !args.strategies)
        rc = fit(&args, &counting, &error);
    buf_clear(&counting.tallies);
    if (rc == ERR_CLOSED)
        return EXIT_OK;
    return rc == 0 ? EXIT_OK : complain("fit-bins", rc, &error);
}
