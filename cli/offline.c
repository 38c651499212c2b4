/* offline.c - drover results, report, journal, audit: a journal read by this process, beside a running broker or offline.
 *
 * With --state the folder is read where it is. Without, the broker's commits are fetched into a temporary folder, so the
 * same code reads a journal on another machine. */
#include "broker/calibration.h"
#include "broker/report.h"
#include "broker/results.h"
#include "broker/server.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "common/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct read_args {
    const char *command, *sweep, *verifier, *truth;
    const char *beside;       /* of report */
    double threshold, window; /* of calibrate; threshold NaN: none given */
    double target;            /* of report; NaN: none given */
    struct reading reading;
    bool takes_sweep, csv, digest, full, features;
};

enum { FOLLOW_MS = 1000 };
enum {
    OPTION_CSV = 1000,
    OPTION_DIGEST,
    OPTION_VERIFIER,
    OPTION_TRUTH,
    OPTION_THRESHOLD,
    OPTION_WINDOW,
    OPTION_TARGET,
    OPTION_BESIDE,
    OPTION_FULL,
    OPTION_FEATURES,
};

static const struct argp_option report_options[] = {
    {"csv", OPTION_CSV, NULL, 0, "print CSV, of the curves alone", 0},
    {"full", OPTION_FULL, NULL, 0, "show all tables: bounds, lengths, flips, effort, equal cost, grids", 0},
    {"beside", OPTION_BESIDE, "SWEEP", 0, "show the arms of another sweep over the same prompts, too", 0},
    {"target", OPTION_TARGET, "ACC", 0, "foretell how many rollouts a prompt needs for this coverage, 0 to 1", 0},
    {0},
};

static const struct argp_option results_options[] = {
    {"features", OPTION_FEATURES, NULL, 0, "for training: also the class of the answer, and every arm's decision", 0},
    {"digest", OPTION_DIGEST, NULL, 0, "print two hashes instead: of all lines without `timing`, of all decisions", 0},
    {0},
};

static const struct argp_option calibrate_options[] = {
    {"verifier", OPTION_VERIFIER, "NAME", 0, "who is measured", 0},
    {"truth", OPTION_TRUTH, "NAME", 0, "against whom (default: the sweep's truth)", 0},
    {"threshold", OPTION_THRESHOLD, "SCORE", 0, "accept scores from here on (default: its own pass and fail)", 0},
    {"window", OPTION_WINDOW, "SHARE", 0, "share of the rollouts that a cascade's window shall hold (default: 0.2)", 0},
    {0},
};

static double number_of(const char *arg, const char *option, struct argp_state *state)
{
    char *end;
    double value = strtod(arg, &end);
    if (end == arg || *end != '\0' || !isfinite(value))
        argp_error(state, "--%s takes a number, not '%s'", option, arg);
    return value;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct read_args *args = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &args->reading;
        return 0;
    case OPTION_CSV:
        args->csv = true;
        return 0;
    case OPTION_DIGEST:
        args->digest = true;
        return 0;
    case OPTION_VERIFIER:
        args->verifier = arg;
        return 0;
    case OPTION_TRUTH:
        args->truth = arg;
        return 0;
    case OPTION_THRESHOLD:
        args->threshold = number_of(arg, "threshold", state);
        return 0;
    case OPTION_TARGET:
        args->target = number_of(arg, "target", state);
        if (args->target <= 0 || args->target >= 1)
            argp_error(state, "--target takes a coverage between 0 and 1, not %s", arg);
        return 0;
    case OPTION_FEATURES:
        args->features = true;
        return 0;
    case OPTION_FULL:
        args->full = true;
        return 0;
    case OPTION_BESIDE:
        args->beside = arg;
        return 0;
    case OPTION_WINDOW:
        args->window = number_of(arg, "window", state);
        if (!(args->window > 0 && args->window <= 1))
            argp_error(state, "--window takes a share above 0 and up to 1, not '%s'", arg);
        return 0;
    case ARGP_KEY_END:
        if (args->csv && args->reading.json)
            argp_error(state, "--csv and --json: give one");
        return 0;
    case ARGP_KEY_ARG:
        if (!args->takes_sweep || args->sweep != NULL)
            surplus(state, arg);
        args->sweep = arg;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

/* -- where the journal comes from ----------------------------------------------------------------------------------- */

static void remove_temporary(const char *dir)
{
    static const char *const files[] = {"data.mdb", "lock.mdb", "drover.lock"};
    char path[128];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
}

void source_close(struct source *source)
{
    client_close(&source->client);
    journal_close(&source->journal);
    if (source->temporary[0] != '\0')
        remove_temporary(source->temporary);
}

/* The client's connection is made anew after a failure: a late answer would be taken for the next one. */
int source_more(struct source *source, struct error *error)
{
    struct buf facts = {0}, texts = {0};
    int rc = 0;
    if (source->temporary[0] == '\0')
        return 0;
    if (source->client == NULL)
        rc = client_open(source->endpoint, &source->client, error);
    if (rc == 0 && journal_next(source->journal) > 1)
        client_patience(source->client,
                        FOLLOW_MS); /* it was there: a request that a dying broker took is asked again */
    while (rc == 0) {
        rc = client_fetch(source->client, journal_next(source->journal), &facts, &texts, error);
        if (rc == 0)
            rc = journal_append(source->journal, buf_slice(&facts), buf_slice(&texts), error);
    }
    buf_clear(&facts);
    buf_clear(&texts);
    if (rc != ERR_NOT_FOUND)
        client_close(&source->client);
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int fetch(struct source *source, const char *endpoint, struct error *error)
{
    snprintf(source->endpoint, sizeof source->endpoint, "%s", endpoint);
    snprintf(source->temporary, sizeof source->temporary, "/tmp/drover-read-XXXXXX");
    if (mkdtemp(source->temporary) == NULL) {
        source->temporary[0] = '\0';
        return error_set(error, ERR_IO, "cannot make a folder in /tmp: %s", strerror(errno));
    }
    int rc = journal_open(source->temporary, &(struct journal_options){0}, &source->journal, error);
    return rc == 0 ? source_more(source, error) : rc;
}

int source_open(const struct reading *from, struct source *source, struct error *error)
{
    const char *state = from->state;
    const struct broker_choice *choice = &from->choice;
    *source = (struct source){0};
    struct cluster_conf conf;
    char endpoint[256];
    int rc = one_place(state, choice, error);
    if (rc == 0)
        rc = read_cluster_conf(choice->conf, &conf, error);
    if (rc != 0)
        return rc;
    bool configured = choice->conf != NULL || choice->broker != NULL || choice->join != NULL;
    if (state == NULL && !configured) /* on the broker's own machine its folder is nearer than its socket */
        state = conf.state;
    if (state != NULL)
        return journal_open(state, &(struct journal_options){.read_only = true}, &source->journal, error);
    rc = client_find(choice, endpoint, error);
    if (rc == 0)
        rc = fetch(source, endpoint, error);
    if (rc != 0)
        source_close(source);
    return rc;
}

/* -- output --------------------------------------------------------------------------------------------------------- */

static int put_line(void *error, struct slice line)
{
    return put_stdout(line, error);
}

int find_sweep(const struct core *core, const char *name, uint32_t *sweep, struct error *error)
{
    struct buf names = {0};
    uint32_t last, count = core_sweep_names(core, &names, &last);
    *sweep = name != NULL ? core_sweep_find(core, slice_of(name)) : count == 1 ? last : NO_ID;
    int rc = *sweep != NO_ID ? 0 : ERR_NOT_FOUND;
    if (rc != 0 && name != NULL)
        no_such_sweep(core, name, error);
    else if (rc != 0)
        error_set(error, rc, count == 0 ? "the journal holds no sweep" : "which sweep? The journal holds: %s",
                  names.data);
    buf_clear(&names);
    return rc;
}

static bool utf8_terminal(void)
{
    const char *names[] = {getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")};
    for (int i = 0; i < 3; i++)
        if (names[i] != NULL && names[i][0] != '\0')
            return strstr(names[i], "UTF-8") != NULL || strstr(names[i], "utf8") != NULL;
    return false;
}

/* 0: standard output is no terminal, or does not tell. */
static uint32_t terminal_columns(void)
{
    struct winsize size = {0};
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

struct report_page report_page_here(void)
{
    return (struct report_page){utf8_terminal(), terminal_columns()};
}

/* Another sweep over the same prompts; the groups that it makes of them may be others. */
static int find_beside(const struct core *core, uint32_t sweep, const char *name, uint32_t *beside, struct error *error)
{
    int rc = find_sweep(core, name, beside, error);
    uint32_t set = core_sweep(core, sweep).set, other = rc == 0 ? core_sweep(core, *beside).set : set;
    if (core_set_digest(core, other) != core_set_digest(core, set) ||
        core_set_prompts(core, other) != core_set_prompts(core, set))
        rc = error_set(error, ERR_CONFLICT, "sweeps '%s' and '%s' are of different prompts", name,
                       core_sweep(core, sweep).name);
    if (rc == 0 && *beside == sweep)
        *beside = NO_ID;
    return rc;
}

int print_report(struct journal *journal, const char *name, const struct report_style *style, struct error *error)
{
    struct core *core;
    uint32_t sweep;
    int rc = journal_core(journal, &core, error);
    if (rc != 0)
        return rc;
    uint32_t beside = NO_ID;
    rc = find_sweep(core, name, &sweep, error);
    if (rc == 0 && style->beside != NULL)
        rc = find_beside(core, sweep, style->beside, &beside, error);
    if (rc == 0) {
        struct report *report = report_beside(core, sweep, beside, style->wall_s);
        struct buf out = {0};
        report->target = style->target;
        if (style->full || style->format == REPORT_JSON)
            report_tables_fill(core, report);
        if (style->format == REPORT_JSON)
            report_json(report, &out);
        else if (style->format == REPORT_CSV)
            report_csv(report, &out);
        else
            report_text(report, report_page_here(), &out);
        rc = put_stdout(buf_slice(&out), error);
        buf_clear(&out);
        report_free(&report);
    }
    core_free(&core);
    return rc;
}

static int do_report(const struct read_args *args, struct journal *journal, struct error *error)
{
    struct report_style style = {.format = args->reading.json ? REPORT_JSON
                                           : args->csv        ? REPORT_CSV
                                                              : REPORT_TEXT,
                                 .wall_s = -1,
                                 .target = args->target,
                                 .full = args->full,
                                 .beside = args->beside};
    return print_report(journal, args->sweep, &style, error);
}

static int do_results(const struct read_args *args, struct journal *journal, struct error *error)
{
    struct core *core;
    uint32_t sweep;
    int rc = journal_core(journal, &core, error);
    if (rc != 0)
        return rc;
    rc = find_sweep(core, args->sweep, &sweep, error);
    if (rc == 0 && args->digest) {
        uint64_t digest;
        rc = results_digest(core, journal, sweep, &digest, error);
        if (rc == 0)
            printf("%016llx %016llx\n", (unsigned long long)digest, (unsigned long long)core_digest(core, sweep));
    } else if (rc == 0) {
        enum results_detail detail = args->features ? RESULTS_DECISIONS : RESULTS_FEATURES;
        rc = results_write(core, journal, sweep, detail, put_line, error, error);
        struct sweep_info info = core_sweep(core, sweep);
        if (rc == 0 && info.decided < info.cells)
            fprintf(stderr,
                    "drover results: partial: %llu of %llu prompts of arms are undecided; rollouts behind a "
                    "missing one are not delivered yet\n",
                    (unsigned long long)(info.cells - info.decided), (unsigned long long)info.cells);
    }
    core_free(&core);
    return rc;
}

/* The verifier of this name: of several, the one that the journal learned last. */
static int find_verifier(const struct core *core, const char *name, uint32_t *verifier, struct error *error)
{
    for (uint32_t v = core_verifiers(core); v-- > 0;)
        if (strcmp(core_verifier(core, v).name, name) == 0) {
            *verifier = v;
            return 0;
        }
    return error_set(error, ERR_NOT_FOUND, "the journal knows no verifier '%.64s'", name);
}

static int calibrate(const struct read_args *args, const struct core *core, uint32_t sweep, struct error *error)
{
    uint32_t verifier = NO_ID, truth = core_sweep(core, sweep).truth;
    if (args->verifier == NULL || (args->truth == NULL && truth == NO_ID))
        return error_set(error, ERR_SYNTAX, "%s",
                         args->verifier == NULL ? "which verifier? --verifier NAME"
                                                : "the sweep has no truth: name one, --truth NAME");
    int rc = find_verifier(core, args->verifier, &verifier, error);
    if (rc == 0 && args->truth != NULL)
        rc = find_verifier(core, args->truth, &truth, error);
    if (rc != 0)
        return rc;
    struct calibration *calibration = calibration_new(core, sweep, verifier, truth, args->threshold, args->window);
    if (calibration == NULL)
        return error_set(error, ERR_NOT_FOUND,
                         "no rollout of sweep '%s' has a verdict of both '%s' and '%s': have it judged first "
                         "(`drover reverify`)",
                         core_sweep(core, sweep).name, args->verifier, core_verifier(core, truth).name);
    struct buf out = {0};
    (args->reading.json ? calibration_json : calibration_text)(calibration, &out);
    rc = put_stdout(buf_slice(&out), error);
    buf_clear(&out);
    calibration_free(&calibration);
    return rc;
}

static int do_calibrate(const struct read_args *args, struct journal *journal, struct error *error)
{
    struct core *core;
    uint32_t sweep;
    int rc = journal_core(journal, &core, error);
    if (rc != 0)
        return rc;
    rc = find_sweep(core, args->sweep, &sweep, error);
    if (rc == 0)
        rc = calibrate(args, core, sweep, error);
    core_free(&core);
    return rc;
}

/* -- journal, audit ------------------------------------------------------------------------------------------------- */

struct printer {
    struct error *error;
    bool json;
};

static void put_fact(struct buf *line, uint64_t commit, const struct fact *fact, bool json)
{
    buf_reset(line);
    if (json) {
        json_begin(line, '{');
        json_key(line, "commit");
        json_u64(line, commit);
        fact_json(line, fact);
        json_end(line, '}');
    } else {
        buf_printf(line, "%llu ", (unsigned long long)commit);
        fact_print(line, fact);
    }
    buf_puts(line, "\n");
}

static int print_commit(void *arg, uint64_t commit, struct slice facts)
{
    struct printer *printer = arg;
    struct error *error = printer->error;
    struct fact fact;
    struct buf line = {0};
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < facts.len;) {
        if (fact_get(facts, &at, &fact) != 0) {
            rc = error_set(error, ERR_CORRUPT, "commit %llu holds something that is no fact of this version",
                           (unsigned long long)commit);
            break;
        }
        put_fact(&line, commit, &fact, printer->json);
        rc = put_stdout(buf_slice(&line), error);
    }
    buf_clear(&line);
    return rc;
}

static int do_journal(const struct read_args *args, struct journal *journal, struct error *error)
{
    struct printer printer = {error, args->reading.json};
    return journal_scan(journal, 1, print_commit, &printer, error);
}

struct audit {
    struct core *core;
    struct error *error;
    uint64_t facts, commits;
    uint64_t next_check, checked; /* commit of the next look at everything, facts at the last */
};

static uint64_t cells_of(const struct core *core)
{
    uint64_t cells = 0;
    for (uint32_t i = 0; i < core_sweeps(core); i++)
        cells += core_sweep(core, i).cells;
    return cells;
}

static int audit_commit(void *arg, uint64_t commit, struct slice facts)
{
    struct audit *audit = arg;
    struct fact fact;
    struct error error = {""};
    for (size_t at = 0; at < facts.len;) {
        int rc = fact_get(facts, &at, &fact);
        if (rc == 0)
            rc = core_audit_fact(audit->core, &fact, &error);
        if (rc != 0)
            return error_set(audit->error, ERR_CORRUPT, "commit %llu: %s", (unsigned long long)commit, error.text);
        audit->facts++;
    }
    audit->commits++;
    if (!core_budget_ok(audit->core))
        return error_set(audit->error, ERR_CORRUPT, "commit %llu: more is spent and reserved than a budget allows",
                         (unsigned long long)commit);
    /* Looks at everything, so less and less often: each time the journal has grown by 1 %, and by so many facts that all
     * prompts of arms are looked at 16 times a fact at most. */
    if (audit->commits < audit->next_check || audit->facts - audit->checked < cells_of(audit->core) / 16)
        return 0;
    audit->next_check = audit->commits + 1 + audit->commits / 100;
    audit->checked = audit->facts;
    return core_check(audit->core, audit->error);
}

static int check_texts(struct journal *journal, uint64_t commits, struct error *error)
{
    struct buf facts = {0}, texts = {0};
    int rc = 0;
    for (uint64_t c = 1; rc == 0 && c <= commits; c++)
        rc = journal_commit(journal, c, &facts, &texts, error);
    buf_clear(&facts);
    buf_clear(&texts);
    return rc;
}

static int compare_dumps(const struct core *a, const struct core *b, struct error *error)
{
    struct buf left = {0}, right = {0};
    core_dump(a, &left);
    core_dump(b, &right);
    int rc = left.len == right.len && memcmp(left.data, right.data, left.len) == 0
                 ? 0
                 : error_set(error, ERR_CORRUPT, "the state that replay builds is not the state that its dump builds");
    buf_clear(&left);
    buf_clear(&right);
    return rc;
}

/* A core built from the dump of another. */
static int reload(const struct core *core, struct core **copy, struct error *error)
{
    struct buf dump = {0};
    struct fact fact;
    core_dump(core, &dump);
    *copy = core_new(&(struct core_options){.lease_ms = 1000, .keep_nodes = true});
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < dump.len;) {
        rc = fact_get(buf_slice(&dump), &at, &fact);
        if (rc == 0)
            rc = core_apply(*copy, &fact);
    }
    buf_clear(&dump);
    if (rc == 0)
        core_settle(*copy);
    return rc == 0 ? 0 : error_set(error, ERR_CORRUPT, "the dump of the replayed state does not load");
}

static int do_audit(const struct read_args *args, struct journal *journal, struct error *error)
{
    struct audit audit = {.core = core_new(&(struct core_options){.lease_ms = 1000, .keep_nodes = true}),
                          .error = error};
    struct core *replayed = NULL, *reloaded = NULL;
    core_audit_begin(audit.core);
    int rc = journal_scan(journal, 1, audit_commit, &audit, error);
    if (rc == 0)
        rc = core_check(audit.core, error);
    if (rc == 0)
        rc = core_audit_end(audit.core, error);
    if (rc == 0)
        rc = check_texts(journal, audit.commits, error);
    if (rc == 0)
        rc = journal_core(journal, &replayed, error);
    if (rc == 0)
        rc = reload(replayed, &reloaded, error);
    if (rc == 0)
        rc = compare_dumps(replayed, reloaded, error);
    if (rc == 0 && args->reading.json)
        printf("{\"audit\":\"clean\",\"commits\":%llu,\"facts\":%llu}\n", (unsigned long long)audit.commits,
               (unsigned long long)audit.facts);
    else if (rc == 0)
        printf("clean: %llu facts in %llu commits; invariants hold, every decision was made again and is the same, "
               "dump = replay, all checksums match\n",
               (unsigned long long)audit.facts, (unsigned long long)audit.commits);
    core_free(&audit.core);
    core_free(&replayed);
    core_free(&reloaded);
    return rc;
}

/* -- commands ------------------------------------------------------------------------------------------------------- */

static int read_command(const char *name, const struct argp_option *options, const char *doc, bool takes_sweep,
                        int argc, char **argv, int (*run)(const struct read_args *, struct journal *, struct error *))
{
    const struct argp argp = {options, parse, takes_sweep ? "[SWEEP]" : "", doc, reading_children, 0, 0};
    struct read_args args = {
        .command = name, .takes_sweep = takes_sweep, .threshold = NAN, .window = CALIBRATION_WINDOW, .target = NAN};
    struct source source;
    struct error error = {""};
    parse_args(name, &argp, argc, argv, &args);
    int rc = source_open(&args.reading, &source, &error);
    if (rc == 0) {
        rc = run(&args, source.journal, &error);
        source_close(&source);
    }
    return rc == 0 ? EXIT_OK : complain(name, rc, &error);
}

int cmd_results(int argc, char **argv)
{
    return read_command("results", results_options, "Print every delivered rollout or node as one line of JSON.", true,
                        argc, argv, do_results);
}

int cmd_report(int argc, char **argv)
{
    return read_command("report", report_options, "Print accuracy against compute of every arm.", true, argc, argv,
                        do_report);
}

int cmd_calibrate(int argc, char **argv)
{
    return read_command(
        "calibrate", calibrate_options,
        "Measure a verifier against the truth, on the rollouts of a sweep that both have judged: true and "
        "false passes by group of prompts, and how its scores rank.",
        true, argc, argv, do_calibrate);
}

int cmd_journal(int argc, char **argv)
{
    return read_command("journal", NULL, "Print the facts of a journal, one a line, each behind its commit's number.",
                        false, argc, argv, do_journal);
}

int cmd_audit(int argc, char **argv)
{
    return read_command("audit", NULL,
                        "Check a journal: budgets after every commit, every invariant now and then and at the end, "
                        "dump = replay, checksums, and every decision re-run and compared.",
                        false, argc, argv, do_audit);
}
