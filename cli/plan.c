/* plan.c - drover plan: which arm to run, from a pilot: a sweep of a journal, or a file of results. */
#include "broker/forecast.h"
#include "broker/results.h"
#include "broker/server.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "common/limits.h"
#include "worker/fields.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OPTION_JSON = 1000,
    OPTION_TARGET,
    OPTION_BUDGET,
    OPTION_UNIT,
    OPTION_PROMPTS,
    OPTION_ROLLOUTS,
    OPTION_SEEDS,
    OPTION_SEED,
    OPTION_TRUTH,
    OPTION_MODEL,
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
    {"rollouts", OPTION_ROLLOUTS, "K", 0, "look at the first K rollouts of each prompt only", 0},
    {"truth", OPTION_TRUTH, "NAME", 0, "verifier that says what is right (default: the sweep's truth, or the only one)",
     0},
    {"model", OPTION_MODEL, "NAME", 0, "whose rollouts count, where there are several models'", 0},
    {"checkable", OPTION_CHECKABLE, NULL, 0, "arms may ask the truth, as where tests can tell", 0},
    {"verifier", OPTION_VERIFIER, "FILE", 0, "a judge that arms may ask, as `drover calibrate --json` measured it", 0},
    {"icc", OPTION_ICC, "X", 0, "how alike that judge takes equal wrong answers (default: 0.5)", 0},
    {"judgement", OPTION_JUDGEMENT, "X", 0, "price of a judgement, in rollouts (default: 1)", 0},
    {"price-in", OPTION_PRICE_IN, "P", 0, "of a million tokens read (default: the sweep's)", 0},
    {"price-out", OPTION_PRICE_OUT, "P", 0, "of a million tokens generated (default: the sweep's)", 0},
    {"seeds", OPTION_SEEDS, "N", 0, "worlds that are drawn from the pilot (default: 40)", 0},
    {"seed", OPTION_SEED, "N", 0, "all random numbers follow from it (default: 1)", 0},
    {"state", 's', "DIR", 0, "state folder of the sweep (default: `state` of cluster.conf, drover-state)", 0},
    {"broker", 'b', "ENDPOINT", 0, "read the sweep from the broker with this client address instead", 0},
    {"join", 'j', "FILE", 0, "read it from the broker that this join file names", 0},
    {"conf", 'c', "FILE", 0, "read it from the broker that this cluster.conf names", 0},
    {"json", OPTION_JSON, NULL, 0, "print JSON", 0},
    {0},
};

struct plan_args {
    const char *pilot, *state, *truth, *model, *calibration;
    struct broker_choice choice;
    struct forecast_options options;
    uint32_t rollouts;
    double icc;
    bool checkable, json;
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
        o->prompts = (uint32_t)number_of(arg, "prompts", 10, 1e6, state);
        return true;
    case OPTION_ROLLOUTS:
        args->rollouts = (uint32_t)number_of(arg, "rollouts", 2, LIMIT_N, state);
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
    if (parse_number(key, arg, args, state))
        return 0;
    switch (key) {
    case 's':
        args->state = arg;
        return 0;
    case 'b':
        args->choice.broker = arg;
        return 0;
    case 'j':
        args->choice.join = arg;
        return 0;
    case 'c':
        args->choice.conf = arg;
        return 0;
    case OPTION_UNIT:
        args->options.unit = unit_of(arg, state);
        return 0;
    case OPTION_TRUTH:
        args->truth = arg;
        return 0;
    case OPTION_MODEL:
        args->model = arg;
        return 0;
    case OPTION_VERIFIER:
        args->calibration = arg;
        return 0;
    case OPTION_CHECKABLE:
        args->checkable = true;
        return 0;
    case OPTION_JSON:
        args->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (args->pilot != NULL)
            argp_usage(state);
        args->pilot = arg;
        return 0;
    case ARGP_KEY_END:
        if (args->pilot == NULL || (isnan(args->options.target) && isnan(args->options.budget)))
            argp_error(state, "which pilot, and for what? PILOT --target ACC, or PILOT --budget B");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

/* -- lines of results ----------------------------------------------------------------------------------------------- */

struct lines {
    const struct plan_args *args;
    const char *file; /* for messages */
    const char *truth;
    char only[65]; /* the truth where nobody named one: the sweep's, or the only one in the lines; "": none yet */
    char model[65];
    struct pilot *pilot;
    struct buf prompt, answer;
    uint64_t line, skipped; /* skipped: their truth is not known */
    struct error *error;
};

static int bad_line(const struct lines *lines, int code, const char *why)
{
    return error_set(lines->error, code, "pilot '%s', line %llu: %s", lines->file, (unsigned long long)lines->line,
                     why);
}

/* 1: passed, 0: failed, -1: neither. */
static int outcome_of(const struct fields *verdict)
{
    struct slice text = {0};
    struct error ignored;
    if (verdict == NULL || fields_string(verdict, "outcome", &text, &ignored) != 0 || text.data == NULL)
        return -1;
    if (text.len == 4 && memcmp(text.data, "pass", 4) == 0)
        return 1;
    bool wrong =
        (text.len == 4 && memcmp(text.data, "fail", 4) == 0) || (text.len == 7 && memcmp(text.data, "timeout", 7) == 0);
    return wrong ? 0 : -1;
}

/* A line of another model is an error: their laws differ. */
static int check_model(struct lines *lines, const struct fields *fields, bool *other)
{
    struct buf name = {0};
    int rc = 0;
    *other = false;
    if (!fields_text(fields, "model", &name))
        return 0;
    if (lines->args->model != NULL)
        *other = strcmp(lines->args->model, name.data) != 0;
    else if (lines->model[0] == '\0')
        snprintf(lines->model, sizeof lines->model, "%s", name.data);
    else if (strcmp(lines->model, name.data) != 0)
        rc = bad_line(lines, ERR_CONFLICT, "rollouts of two models stand here: name one of them with --model");
    buf_clear(&name);
    return rc;
}

/* Of the truth; looks for it where nobody named one: `correct`, or the only verifier that there is. */
static int right_of(struct lines *lines, const struct fields *fields, const struct fields *verdicts, int *right)
{
    struct buf text = {0};
    int rc = 0;
    *right = -1;
    if (lines->truth == NULL && fields_text(fields, "correct", &text)) {
        bool yes = strcmp(text.data, "1") == 0 || strcmp(text.data, "true") == 0;
        bool no = strcmp(text.data, "0") == 0 || strcmp(text.data, "false") == 0;
        *right = yes ? 1 : no ? 0 : -1;
    } else if (lines->truth != NULL || lines->only[0] != '\0') {
        *right = outcome_of(fields_object(verdicts, lines->truth != NULL ? lines->truth : lines->only));
    } else if (verdicts != NULL) {
        fields_keys(verdicts, &text);
        if (text.len > 0 && (text.len > LIMIT_NAME || memchr(text.data, ',', text.len) != NULL))
            rc = bad_line(lines, ERR_NOT_FOUND, "there are several verifiers: which is the truth? --truth NAME");
        else if (text.len > 0)
            snprintf(lines->only, sizeof lines->only, "%s", text.data);
        *right = rc == 0 && text.len > 0 ? outcome_of(fields_object(verdicts, lines->only)) : -1;
    }
    buf_clear(&text);
    return rc;
}

/* Verdicts of all that are not the truth. */
static void read_verdicts(struct lines *lines, const struct fields *verdicts, int found[PILOT_VERIFIERS])
{
    struct buf names = {0};
    char *rest;
    for (int v = 0; v < PILOT_VERIFIERS; v++)
        found[v] = -1;
    if (verdicts == NULL)
        return;
    buf_puts(&names, "");
    fields_keys(verdicts, &names);
    for (char *name = strtok_r(names.data, ", ", &rest); name != NULL; name = strtok_r(NULL, ", ", &rest)) {
        if (strcmp(name, lines->truth != NULL ? lines->truth : lines->only) == 0)
            continue;
        int v = pilot_verifier(lines->pilot, slice_of(name));
        if (v >= 0)
            found[v] = outcome_of(fields_object(verdicts, name));
    }
    buf_clear(&names);
}

static int read_counts(const struct lines *lines, const struct fields *fields, struct pilot_rollout *rollout,
                       double *ordinal)
{
    struct error why;
    double in = 0, out = 0;
    int rc = fields_real(fields, "tokens_in", 0, UINT32_MAX, &in, &why);
    if (rc == 0)
        rc = fields_real(fields, "tokens_out", 0, UINT32_MAX, &out, &why);
    if (rc == 0)
        rc = fields_real(fields, "ordinal", 0, UINT32_MAX, ordinal, &why);
    rollout->tokens_in = (uint32_t)in;
    rollout->tokens_out = (uint32_t)out;
    return rc == 0 ? 0 : bad_line(lines, rc, why.text);
}

static int read_rollout(struct lines *lines, const struct fields *fields)
{
    const struct fields *verdicts = fields_object(fields, "verdicts");
    struct pilot_rollout rollout = {0};
    double ordinal = 0;
    bool other;
    int right, found[PILOT_VERIFIERS];
    int rc = check_model(lines, fields, &other);
    if (rc != 0 || other || fields_have(fields, "node")) /* nodes of trees are no independent rollouts */
        return rc;
    rc = read_counts(lines, fields, &rollout, &ordinal);
    if (rc != 0 || (lines->args->rollouts > 0 && ordinal >= lines->args->rollouts))
        return rc;
    rc = right_of(lines, fields, verdicts, &right);
    if (rc != 0)
        return rc;
    buf_reset(&lines->prompt);
    buf_reset(&lines->answer);
    if (!fields_text(fields, "prompt", &lines->prompt))
        return bad_line(lines, ERR_NOT_FOUND, "there is no 'prompt'");
    if (right < 0) {
        lines->skipped++;
        return 0;
    }
    if (fields_text(fields, "answer", &lines->answer))
        rollout.answer = buf_slice(&lines->answer);
    rollout.prompt = buf_slice(&lines->prompt);
    rollout.right = right == 1;
    read_verdicts(lines, verdicts, found);
    pilot_add(lines->pilot, &rollout, found);
    return 0;
}

static int read_line(void *arg, struct slice line)
{
    struct lines *lines = arg;
    struct fields *fields;
    struct error why;
    lines->line++;
    if (line.len > 0 && line.data[line.len - 1] == '\n')
        line.len--;
    if (line.len == 0)
        return 0;
    int rc = fields_parse(line, &fields, &why);
    if (rc != 0)
        return bad_line(lines, rc, why.text);
    rc = read_rollout(lines, fields);
    fields_free(&fields);
    return rc;
}

/* -- where lines come from ------------------------------------------------------------------------------------------ */

static int read_file(struct lines *lines)
{
    char *text;
    size_t len;
    int rc = file_read(lines->file, LIMIT_SUBMISSION, &text, &len, lines->error);
    if (rc != 0)
        return rc;
    for (size_t at = 0; rc == 0 && at < len;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t size = end == NULL ? len - at : (size_t)(end - text) - at + 1;
        rc = read_line(lines, (struct slice){text + at, size});
        at += size;
    }
    free(text);
    return rc;
}

/* The truth and the prices are the sweep's, where the command line does not say otherwise. */
static void take_sweep(const struct core *core, uint32_t sweep, struct lines *lines, struct plan_args *args)
{
    struct sweep_info info = core_sweep(core, sweep);
    if (lines->truth == NULL && info.truth != NO_ID)
        snprintf(lines->only, sizeof lines->only, "%s", core_verifier(core, info.truth).name);
    for (uint32_t i = 0; i < info.arms; i++) {
        struct model_info model = core_model(core, core_arm(core, core_sweep_arm(core, sweep, i)).model);
        if (args->model != NULL && strcmp(args->model, model.name) != 0)
            continue;
        if (isnan(args->options.price_in))
            args->options.price_in = (double)model.price_in / 1e6;
        if (isnan(args->options.price_out))
            args->options.price_out = (double)model.price_out / 1e6;
    }
}

static int read_sweep(struct lines *lines, struct plan_args *args)
{
    struct source source;
    struct core *core;
    uint32_t sweep;
    int rc = source_open(args->state, &args->choice, &source, lines->error);
    if (rc != 0)
        return rc;
    rc = journal_core(source.journal, &core, lines->error);
    if (rc != 0) {
        source_close(&source);
        return rc;
    }
    rc = find_sweep(core, args->pilot, &sweep, lines->error);
    if (rc == 0) {
        take_sweep(core, sweep, lines, args);
        rc = results_write(core, source.journal, sweep, false, read_line, lines, lines->error);
    }
    core_free(&core);
    source_close(&source);
    return rc;
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

static int print_forecast(const struct forecast *forecast, bool json, struct error *error)
{
    struct buf out = {0};
    (json ? forecast_json : forecast_text)(forecast, &out);
    if (json)
        buf_puts(&out, "\n");
    fputs(out.data, stdout);
    buf_clear(&out);
    if (forecast->best != NO_CANDIDATE)
        return 0;
    return error_set(error, ERR_NOT_FOUND,
                     "no arm with at most %u rollouts of a prompt is forecast to do that; farther than %d times the "
                     "pilot's rollouts nothing is said: ask for less, or extend the pilot",
                     forecast->n_most, FORECAST_DECADE);
}

static int plan(struct plan_args *args, struct lines *lines, struct error *error)
{
    struct forecast_verifier verifiers[PILOT_VERIFIERS + 1];
    int rc = access(args->pilot, F_OK) == 0 ? read_file(lines) : read_sweep(lines, args);
    if (rc == 0)
        rc = collect_verifiers(args, lines->pilot, verifiers, &args->options.verifiers_len, error);
    if (rc != 0)
        return rc;
    if (lines->skipped > 0)
        fprintf(stderr, "drover plan: %llu rollouts are left out: nobody says whether they are right\n",
                (unsigned long long)lines->skipped);
    args->options.verifiers = verifiers;
    if (args->checkable)
        args->options.truth = lines->truth != NULL ? lines->truth : lines->only[0] != '\0' ? lines->only : "truth";
    if (isnan(args->options.price_in))
        args->options.price_in = 0;
    if (isnan(args->options.price_out))
        args->options.price_out = 0;
    if (args->options.unit == UNIT_COST && !(args->options.price_in + args->options.price_out > 0))
        return error_set(error, ERR_NOT_FOUND, "what do tokens cost? --price-in and --price-out, of a million");
    struct forecast *forecast = forecast_new(lines->pilot, &args->options, error);
    if (forecast == NULL)
        return ERR_REFUSED;
    rc = print_forecast(forecast, args->json, error);
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
        0,
        0,
        0};
    struct error error = {""};
    struct plan_args args = {
        .icc = NAN,
        .options = {
            .target = NAN, .budget = NAN, .worlds = 40, .seed = 1, .judgement = 1, .price_in = NAN, .price_out = NAN}};
    parse_args("plan", &argp, argc, argv, &args);
    struct lines lines = {
        .args = &args, .file = args.pilot, .truth = args.truth, .pilot = pilot_new(), .error = &error};
    int rc = plan(&args, &lines, &error);
    pilot_free(&lines.pilot);
    buf_clear(&lines.prompt);
    buf_clear(&lines.answer);
    if (rc == 0 && fflush(stdout) != 0)
        rc = stdout_failed(&error);
    return rc == 0 ? EXIT_OK : complain("plan", rc, &error);
}
