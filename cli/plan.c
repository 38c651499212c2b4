/* plan.c - drover plan: which arm to run, from a pilot: a sweep of a journal, or a file of results. */
#include "broker/forecast.h"
#include "cli/cli.h"
#include "cli/pilot_read.h"
#include "common/limits.h"
#include "worker/fields.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OPTION_TARGET = 1000,
    OPTION_BUDGET,
    OPTION_UNIT,
    OPTION_PROMPTS,
    OPTION_SEEDS,
    OPTION_SEED,
    OPTION_VERIFIER,
    OPTION_ICC,
    OPTION_JUDGEMENT,
    OPTION_CHECKABLE,
    OPTION_PRICE_IN,
    OPTION_PRICE_OUT,
};

static const struct argp_option options[] = {
    {"target", OPTION_TARGET, "ACC", 0, "the cheapest arm that is right so often, 0 to 1", 0},
    {"budget", OPTION_BUDGET, "B", 0, "the most accurate arm for so much, all prompts together", 0},
    {"unit", OPTION_UNIT, "UNIT", 0, "of costs: rollouts (default), tokens, or cost", 0},
    {"prompts", OPTION_PROMPTS, "N", 0, "for so many new prompts of the pilot's kind (default: for the pilot's own)",
     0},
    {"checkable", OPTION_CHECKABLE, NULL, 0, "arms may ask the truth, as where tests can tell", 0},
    {"verifier", OPTION_VERIFIER, "FILE", 0, "a judge that arms may ask, as `drover calibrate --json` measured it", 0},
    {"icc", OPTION_ICC, "X", 0, "how alike that judge takes equal wrong answers (default: 0.5)", 0},
    {"judgement", OPTION_JUDGEMENT, "X", 0, "price of a judgement, in rollouts (default: 1)", 0},
    {"price-in", OPTION_PRICE_IN, "P", 0, "of a million tokens read (default: the sweep's)", 0},
    {"price-out", OPTION_PRICE_OUT, "P", 0, "of a million tokens generated (default: the sweep's)", 0},
    {"seeds", OPTION_SEEDS, "N", 0, "worlds that are drawn from the pilot (default: 40)", 0},
    {"seed", OPTION_SEED, "N", 0, "all random numbers follow from it (default: 1)", 0},
    PILOT_OPTIONS,
    {0},
};

struct plan_args {
    struct pilot_request request;
    const char *calibration;
    struct forecast_options options;
    double icc;
    bool checkable;
};

static double number_of(const char *arg, const char *name, double low, double high, struct argp_state *state)
{
    char *end;
    double value = strtod(arg, &end);
    if (end == arg || *end != '\0' || !(value >= low) || !(value <= high))
        argp_error(state, "--%s takes a number from %.6g to %.6g, not '%s'", name, low, high, arg);
    return value;
}

/* Options that are numbers. */
static bool parse_number(int key, const char *arg, struct plan_args *args, struct argp_state *state)
{
    struct forecast_options *o = &args->options;
    switch (key) {
    case OPTION_TARGET:
        o->target = number_of(arg, "target", 1e-6, 1, state);
        return true;
    case OPTION_BUDGET:
        o->budget = number_of(arg, "budget", 1e-9, 1e18, state);
        return true;
    case OPTION_PROMPTS:
        o->prompts = (uint32_t)number_of(arg, "prompts", 10, 1e5, state);
        return true;
    case OPTION_SEEDS:
        o->worlds = (uint32_t)number_of(arg, "seeds", 2, SIMULATE_WORLDS_MAX, state);
        return true;
    case OPTION_SEED:
        o->seed = (uint64_t)number_of(arg, "seed", 0, 1e15, state);
        return true;
    case OPTION_ICC:
        args->icc = number_of(arg, "icc", 0, 1, state);
        return true;
    case OPTION_JUDGEMENT:
        o->judgement = number_of(arg, "judgement", 0, 1e6, state);
        return true;
    case OPTION_PRICE_IN:
        o->price_in = number_of(arg, "price-in", 0, 1e9, state);
        return true;
    case OPTION_PRICE_OUT:
        o->price_out = number_of(arg, "price-out", 0, 1e9, state);
        return true;
    }
    return false;
}

static enum forecast_unit unit_of(const char *arg, struct argp_state *state)
{
    static const char *const names[] = {[UNIT_ROLLOUTS] = "rollouts", [UNIT_TOKENS] = "tokens", [UNIT_COST] = "cost"};
    for (int unit = 0; unit < UNITS; unit++)
        if (strcmp(arg, names[unit]) == 0)
            return (enum forecast_unit)unit;
    argp_error(state, "--unit takes rollouts, tokens or cost, not '%s'", arg);
    return UNIT_ROLLOUTS;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct plan_args *args = state->input;
    if (parse_number(key, arg, args, state) || pilot_option(key, arg, &args->request, state))
        return 0;
    switch (key) {
    case OPTION_UNIT:
        args->options.unit = unit_of(arg, state);
        return 0;
    case OPTION_VERIFIER:
        args->calibration = arg;
        return 0;
    case OPTION_CHECKABLE:
        args->checkable = true;
        return 0;
    case ARGP_KEY_ARG:
        if (args->request.pilot != NULL)
            surplus(state, arg);
        args->request.pilot = arg;
        return 0;
    case ARGP_KEY_END:
        if (args->request.pilot == NULL || (isnan(args->options.target) && isnan(args->options.budget)))
            argp_error(state, "which pilot, and for what? PILOT --target ACC, or PILOT --budget B");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

/* -- verifiers ------------------------------------------------------------------------------------------------------ */

/* The first group is that of all prompts. */
static int read_calibration(const struct plan_args *args, struct forecast_verifier *verifier, struct error *error)
{
    struct fields *fields;
    struct error why;
    char *text;
    size_t len;
    struct buf name = {0};
    double tpr = NAN, fpr = NAN;
    int rc = file_read(args->calibration, LIMIT_SWEEP_FILE, &text, &len, error);
    if (rc != 0)
        return rc;
    rc = fields_parse((struct slice){text, len}, &fields, &why);
    if (rc == 0) {
        const struct fields *all = fields_item(fields, "groups", 0);
        rc = fields_real(fields_object(all, "tpr"), "mean", 0, 1, &tpr, &why);
        if (rc == 0)
            rc = fields_real(fields_object(all, "fpr"), "mean", 0, 1, &fpr, &why);
        if (rc == 0 && (isnan(tpr) || isnan(fpr) || !fields_text(fields, "verifier", &name)))
            rc = error_set(&why, ERR_NOT_FOUND, "it holds no rates of a verifier");
        fields_free(&fields);
    }
    free(text);
    if (rc == 0) {
        snprintf(verifier->name, sizeof verifier->name, "%.50s", name.data);
        verifier->rates = (struct error_rates){tpr, fpr};
        verifier->icc = isnan(args->icc) ? 0.5 : args->icc;
    } else {
        rc =
            error_set(error, rc, "'%s' is no output of `drover calibrate --json`: %.300s", args->calibration, why.text);
    }
    buf_clear(&name);
    return rc;
}

/* Those of the pilot whose verdicts pass or fail, and the one of a file, which counts for the pilot's of its name. */
static int collect_verifiers(const struct plan_args *args, const struct pilot *pilot,
                             struct forecast_verifier found[PILOT_VERIFIERS + 1], uint32_t *len, struct error *error)
{
    *len = 0;
    if (args->calibration != NULL) {
        int rc = read_calibration(args, &found[0], error);
        if (rc != 0)
            return rc;
        *len = 1;
    }
    for (uint32_t v = 0; v < pilot->verifiers_len; v++) {
        struct forecast_verifier *verifier = &found[*len];
        double icc;
        if ((args->calibration != NULL && strcmp(found[0].name, pilot->verifiers[v].name) == 0) ||
            !pilot_rates(pilot, v, &verifier->rates, &icc))
            continue;
        snprintf(verifier->name, sizeof verifier->name, "%.50s", pilot->verifiers[v].name);
        verifier->icc = !isnan(args->icc) ? args->icc : isnan(icc) ? 0.5 : icc;
        ++*len;
    }
    return 0;
}

/* -- the command ---------------------------------------------------------------------------------------------------- */

/* Of all prompts, in the unit of the budget. */
static double cheapest(const struct forecast *forecast)
{
    double least = INFINITY;
    for (uint32_t c = 0; c < forecast->len; c++)
        least = fmin(least, forecast->candidates[c].cost[forecast->options.unit].mean);
    return least * forecast->prompts;
}

static int print_forecast(const struct forecast *forecast, bool json, struct error *error)
{
    struct buf out = {0};
    (json ? forecast_json : forecast_text)(forecast, &out);
    if (json)
        buf_puts(&out, "\n");
    int rc = put_stdout(buf_slice(&out), error);
    buf_clear(&out);
    if (rc != 0 || forecast->best != NO_CANDIDATE)
        return rc;
    double least = cheapest(forecast);
    if (least > forecast->options.budget)
        return error_set(error, ERR_NOT_FOUND,
                         "even the cheapest arm is forecast to cost %.6g of all %u prompts, more than the budget of "
                         "%.6g: raise it, or run fewer prompts",
                         least, forecast->prompts, forecast->options.budget);
    return error_set(error, ERR_NOT_FOUND,
                     "no arm with at most %u rollouts of a prompt is forecast to do that; farther than %d times the "
                     "pilot's rollouts nothing is said: ask for less, or extend the pilot",
                     forecast->n_most, FORECAST_DECADE);
}

/* What the command line does not say is the sweep's. */
static int complete(struct plan_args *args, const struct pilot_read *read, struct error *error)
{
    struct forecast_options *o = &args->options;
    o->right_by = read->truth;
    if (args->checkable)
        o->truth = read->truth[0] != '\0' ? read->truth : "truth";
    o->price_in = isnan(o->price_in) ? read->price_in : o->price_in;
    o->price_out = isnan(o->price_out) ? read->price_out : o->price_out;
    o->price_in = isnan(o->price_in) ? 0 : o->price_in;
    o->price_out = isnan(o->price_out) ? 0 : o->price_out;
    if (o->unit == UNIT_COST && !(o->price_in + o->price_out > 0))
        return error_set(error, ERR_NOT_FOUND, "what do tokens cost? --price-in and --price-out, of a million");
    return 0;
}

/* A large pilot takes a minute: a terminal is told how far it is. */
static void show_progress(uint32_t done, uint32_t worlds)
{
    fprintf(stderr, "\rdrover plan: %u of %u worlds%s", done, worlds, done == worlds ? "\r\033[K" : " ");
    fflush(stderr);
}

static int plan(struct plan_args *args, const struct pilot_read *read, struct error *error)
{
    struct forecast_verifier verifiers[PILOT_VERIFIERS + 1];
    int rc = collect_verifiers(args, read->pilot, verifiers, &args->options.verifiers_len, error);
    if (rc == 0)
        rc = complete(args, read, error);
    if (rc != 0)
        return rc;
    if (read->skipped > 0)
        fprintf(stderr, "drover plan: %llu rollouts are left out: nobody says whether they are right\n",
                (unsigned long long)read->skipped);
    args->options.verifiers = verifiers;
    args->options.progress = isatty(STDERR_FILENO) ? show_progress : NULL;
    struct forecast *forecast = forecast_new(read->pilot, &args->options, error);
    if (forecast == NULL)
        return ERR_REFUSED;
    rc = print_forecast(forecast, args->request.reading.json, error);
    forecast_free(&forecast);
    return rc;
}

int cmd_plan(int argc, char **argv)
{
    const struct argp argp = {
        options,
        parse,
        "PILOT",
        "Say which arm to run, what it will give and cost, and what that hangs on, from a pilot: a sweep, or a file of "
        "`drover results`. Nothing is generated.",
        reading_children,
        0,
        0};
    struct error error = {""};
    struct plan_args args = {
        .icc = NAN,
        .options = {
            .target = NAN, .budget = NAN, .worlds = 40, .seed = 1, .judgement = 1, .price_in = NAN, .price_out = NAN}};
    struct pilot_read read;
    parse_args("plan", &argp, argc, argv, &args);
    int rc = pilot_read(&args.request, &read, &error);
    if (rc == 0)
        rc = plan(&args, &read, &error);
    pilot_free(&read.pilot);
    return rc == 0 ? EXIT_OK : complain("plan", rc, &error);
}
