/* replay.c - drover replay: policies over recorded rollouts, in virtual time and in this process.
 *
 * The production core decides, over a fleet that stands in a queue of completions (broker/virtual.h). All arms share
 * one run for the report; with --workers each arm has one more of its own, so that its time is its own. */
#include "broker/core/text_table.h"
#include "broker/report.h"
#include "broker/server.h"
#include "broker/virtual.h"
#include "cli/archive.h"
#include "cli/cli.h"
#include "common/json.h"
#include "common/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILTERS_MAX = 16, WORKERS_MAX = 100000 };
enum {
    OPTION_NAME = 1000,
    OPTION_KEEP,
    OPTION_COLUMNS,
    OPTION_WHERE,
    OPTION_FORMAT,
    OPTION_ANSWER,
    OPTION_PROMPTS,
    OPTION_GROUP_BY,
    OPTION_TRUTH,
    OPTION_SLOTS,
    OPTION_JSON,
    OPTION_CSV,
};

struct replay_args {
    const char *from, *arms, *state, *name, *keep, *truth;
    struct archive_options data;
    struct recording_filter filters[FILTERS_MAX];
    uint32_t workers, slots; /* workers 0: time does not matter */
    bool json, csv, of_data; /* of_data: an option that only a file of rollouts can have */
};

static const struct argp_option options[] = {
    {"arm", 'a', "FILE", 0, "the arms: a sweep file, its section `arms`, or the keys of one arm", 0},
    {"state", 's', "DIR", 0, "state folder that has the sweep (default drover-state); nothing is written there", 0},
    {"name", OPTION_NAME, "NAME", 0, "of the replayed sweep (default: as the data says)", 0},
    {"keep", OPTION_KEEP, "DIR", 0, "keep the replayed sweep in this new state folder", 0},
    {"truth", OPTION_TRUTH, "NAME", 0, "whose verdicts say what is right (default: as FILE or the data says)", 0},
    {"workers", 'w', "N", 0, "tell how long each arm takes on N workers with the recorded latencies", 0},
    {"slots", OPTION_SLOTS, "K", 0, "rollouts of one worker at a time (default 1)", 0},
    {"json", OPTION_JSON, NULL, 0, "print the report as JSON", 0},
    {"csv", OPTION_CSV, NULL, 0, "print the report as CSV, of the curves alone", 0},
    {NULL, 0, NULL, 0, "How to read a file of rollouts:", 1},
    {"columns", OPTION_COLUMNS, "A=B,...", 0,
     "read column or key B as A: prompt, ordinal, text, answer, tokens_out, ...", 1},
    {"where", OPTION_WHERE, "COLUMN=VALUE", 0, "only lines with this value; may be given several times", 1},
    {"format", OPTION_FORMAT, "csv|jsonl", 0, "what it is (default: csv when its name ends so)", 1},
    {"answer", OPTION_ANSWER, "KIND", 0,
     "find answers that are not recorded: last-line, last-number, boxed, final, after-marker:TEXT, regex:PATTERN", 1},
    {"prompts", OPTION_PROMPTS, "FILE", 0, "JSONL with the prompts, for their order, groups and lengths", 1},
    {"group-by", OPTION_GROUP_BY, "KEY", 0, "key of their meta that the report is split by", 1},
    {0},
};

/* --- the command line --- */

static uint32_t number(struct argp_state *state, const char *arg, const char *option, uint32_t max)
{
    char *end;
    unsigned long value = strtoul(arg, &end, 10);
    if (*arg < '0' || *arg > '9' || *end != '\0' || value == 0 || value > max)
        argp_error(state, "--%s takes a whole number from 1 to %u, not '%s'", option, max, arg);
    return (uint32_t)value;
}

static void unknown_column(struct argp_state *state, struct slice name)
{
    struct buf names = {0};
    for (enum column c = 0; c < COLUMNS; c++)
        buf_printf(&names, "%s%s", c > 0 ? ", " : "", column_name(c));
    argp_error(state, "--columns knows no '%.*s'; it has %s", (int)name.len, name.data, names.data);
    buf_clear(&names);
}

/* "prompt=task_id,text=output": cut up in place. */
static void read_columns(struct argp_state *state, char *arg, struct recording_options *recording)
{
    for (char *part = strtok(arg, ","); part != NULL; part = strtok(NULL, ",")) {
        char *value = strchr(part, '=');
        enum column column;
        if (value == NULL || value[1] == '\0')
            argp_error(state, "--columns takes NAME=COLUMN,..., not '%s'", part);
        else if (!column_of((struct slice){part, (size_t)(value - part)}, &column))
            unknown_column(state, (struct slice){part, (size_t)(value - part)});
        else
            recording->columns[column] = value + 1;
    }
}

static void read_where(struct argp_state *state, char *arg, struct replay_args *args)
{
    char *value = strchr(arg, '=');
    if (value == NULL || value == arg || args->data.recording.filters_len == FILTERS_MAX)
        argp_error(state, "--where takes COLUMN=VALUE, at most %d times, not '%s'", FILTERS_MAX, arg);
    *value = '\0';
    args->filters[args->data.recording.filters_len++] = (struct recording_filter){arg, value + 1};
}

static void read_format(struct argp_state *state, const char *arg, enum recording_format *format)
{
    if (strcmp(arg, "csv") != 0 && strcmp(arg, "jsonl") != 0)
        argp_error(state, "--format is csv or jsonl, not '%s'", arg);
    *format = strcmp(arg, "csv") == 0 ? RECORDING_CSV : RECORDING_JSONL;
}

static void unknown_answer(struct argp_state *state, struct slice kind)
{
    static const char *const kinds[] = {
#define X(value, text, help) text,
        EXTRACTOR_TABLE(X)
#undef X
    };
    struct buf names = {0};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        buf_printf(&names, "%s%s", i > 0 ? ", " : "", kinds[i]);
    argp_error(state, "--answer knows no '%.*s'; it has %s", (int)kind.len, kind.data, names.data);
    buf_clear(&names);
}

static void read_answer(struct argp_state *state, const char *arg, struct extractor *extractor)
{
    const char *more = strchr(arg, ':');
    struct slice kind = {arg, more == NULL ? strlen(arg) : (size_t)(more - arg)};
    struct error error;
    if (!extractor_kind_of(kind, &extractor->kind))
        unknown_answer(state, kind);
    extractor->marker = extractor->pattern = more == NULL ? "" : more + 1;
    if (extractor_check(extractor, &error) != 0)
        argp_error(state, "--answer %s: %s", arg, error.text);
}

static error_t parse_data(int key, char *arg, struct argp_state *state)
{
    struct replay_args *args = state->input;
    switch (key) {
    case OPTION_COLUMNS:
        read_columns(state, arg, &args->data.recording);
        break;
    case OPTION_WHERE:
        read_where(state, arg, args);
        break;
    case OPTION_FORMAT:
        read_format(state, arg, &args->data.recording.format);
        break;
    case OPTION_ANSWER:
        read_answer(state, arg, &args->data.extractor);
        break;
    case OPTION_PROMPTS:
        args->data.prompts = arg;
        break;
    case OPTION_GROUP_BY:
        args->data.group_by = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    args->of_data = true;
    return 0;
}

static void check_args(struct argp_state *state, const struct replay_args *args)
{
    if (args->from == NULL || args->arms == NULL)
        argp_error(state, "what, and with which arms? SWEEP|FILE --arm FILE");
    if (args->slots > 0 && args->workers == 0)
        argp_error(state, "--slots are those of --workers");
    if (args->data.group_by != NULL && args->data.prompts == NULL)
        argp_error(state, "--group-by is a key of the prompts: give them with --prompts");
    if (args->csv && (args->json || args->workers > 0))
        argp_error(state, "--csv is of the curves alone: without --json and --workers");
    if (args->state != NULL && args->of_data)
        argp_error(state, "--state has sweeps, which need no option on how to read a file");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct replay_args *args = state->input;
    switch (key) {
    case 'a':
        args->arms = arg;
        return 0;
    case 's':
        args->state = arg;
        return 0;
    case 'w':
        args->workers = number(state, arg, "workers", WORKERS_MAX);
        return 0;
    case OPTION_SLOTS:
        args->slots = number(state, arg, "slots", LIMIT_CREDITS);
        return 0;
    case OPTION_NAME:
        args->name = arg;
        return 0;
    case OPTION_KEEP:
        args->keep = arg;
        return 0;
    case OPTION_TRUTH:
        args->truth = arg;
        return 0;
    case OPTION_JSON:
        args->json = true;
        return 0;
    case OPTION_CSV:
        args->csv = true;
        return 0;
    case ARGP_KEY_ARG:
        if (args->from != NULL)
            surplus(state, arg);
        args->from = arg;
        return 0;
    case ARGP_KEY_END:
        check_args(state, args);
        return 0;
    }
    return parse_data(key, arg, state);
}

/* --- where rollouts come from --- */

static int sweep_archive(const struct replay_args *args, const char *state, struct archive *archive,
                         struct error *error)
{
    struct journal *journal = NULL;
    struct core *core = NULL;
    int rc = journal_open(state, &(struct journal_options){.read_only = true}, &journal, error);
    if (rc == 0)
        rc = journal_core(journal, &core, error);
    if (rc == 0) {
        uint32_t sweep = core_sweep_find(core, slice_of(args->from));
        rc = sweep != NO_ID
                 ? archive_of_sweep(core, journal, sweep, archive, error)
                 : error_set(error, ERR_NOT_FOUND, "there is %s sweep '%.64s' in the state folder '%s'",
                             args->state != NULL ? "no" : "neither a file of that name nor a", args->from, state);
    }
    core_free(&core);
    journal_close(&journal);
    return rc;
}

static int open_archive(const struct replay_args *args, struct archive *archive, struct error *error)
{
    struct stat st;
    *archive = (struct archive){0};
    if (args->state != NULL)
        return sweep_archive(args, args->state, archive, error);
    if (args->of_data || stat(args->from, &st) == 0)
        return archive_of_file(args->from, &args->data, archive, error);
    if (stat("drover-state", &st) != 0)
        return error_set(
            error, ERR_NOT_FOUND,
            "'%.200s' is neither a file nor a sweep: there is no state folder drover-state here (--state DIR)",
            args->from);
    return sweep_archive(args, "drover-state", archive, error);
}

/* --- one run --- */

struct run {
    struct archive *archive;
    struct core *core;
    struct journal *journal; /* NULL: nothing is kept */
    struct buf facts, texts; /* of the one commit */
    bool timed;              /* tasks take what was recorded */
    uint64_t missing, exhausted;
    uint32_t sweep;
    struct virtual_usage usage;
    int64_t makespan_ms;
    struct error *error;
};

static int64_t answer(void *arg, const struct send *task, const struct ref *refs, uint32_t agent, struct event *event)
{
    struct run *run = arg;
    (void)refs;
    (void)agent;
    if (!archive_answer(run->archive, task, event))
        run->missing++;
    if (event->type == EVENT_VERDICT)
        return 0;
    bool failed = event->type == EVENT_FAIL;
    run->exhausted += !failed && event->result.result.finish == FINISH_EXHAUSTED;
    uint32_t ms = failed ? event->fail.latency_ms : event->result.result.latency_ms;
    return run->timed ? ms : 0;
}

static int commit(void *arg, struct slice facts)
{
    struct run *run = arg;
    if (run->journal != NULL)
        buf_put(&run->facts, facts.data, facts.len);
    return 0;
}

/* All moments share one commit, since nobody is told of one: what is kept is whole or not there, whenever this ends. */
static int keep(struct run *run)
{
    return run->journal == NULL
               ? 0
               : journal_append(run->journal, buf_slice(&run->facts), buf_slice(&run->texts), run->error);
}

/* Arms first, first + 1, ... of the spec, len of them, on so many workers. */
static int run_arms(struct run *run, const char *name, const struct sweep_spec *spec, uint32_t first, uint32_t len,
                    const struct replay_args *fleet_of, struct error *error)
{
    struct buf definitions = {0};
    struct ref *prompts = NULL;
    run->error = error;
    run->core = core_new(&(struct core_options){.lease_ms = VIRTUAL_LEASE_MS, .keep_nodes = true});
    struct virtual *fleet = virtual_new(
        run->core, &(struct virtual_options){.workers = run->timed ? fleet_of->workers : 1,
                                             .slots = run->timed && fleet_of->slots > 0 ? fleet_of->slots : 1,
                                             .verifiers = 1,
                                             .verifier_slots = LIMIT_CREDITS,
                                             .answer = answer,
                                             .commit = commit,
                                             .arg = run});
    if (run->journal != NULL)
        archive_texts(run->archive, journal_next(run->journal), &run->texts, &prompts);
    archive_definitions(run->archive, name, spec, first, len, prompts, &definitions);
    int rc = virtual_event(fleet, (struct event){.type = EVENT_SUBMIT, .submit.definitions = buf_slice(&definitions)},
                           &run->sweep, error);
    if (rc == 0)
        rc = virtual_run(fleet);
    if (rc == 0)
        rc = keep(run);
    run->usage = virtual_usage(fleet, false);
    run->makespan_ms = virtual_now_ms(fleet);
    virtual_free(&fleet);
    buf_clear(&definitions);
    buf_clear(&run->facts);
    buf_clear(&run->texts);
    free(prompts);
    return rc;
}

static int open_kept(const char *dir, struct journal **journal, struct error *error)
{
    int rc = journal_open(dir, &(struct journal_options){0}, journal, error);
    if (rc == 0 && journal_next(*journal) > 1)
        rc = error_set(error, ERR_CONFLICT, "'%s' holds a journal already: keep what is replayed in a new folder", dir);
    return rc;
}

/* --- virtual time --- */

/* What an arm did with a fleet of its own. */
struct arm_time {
    const struct sweep_arm *arm;
    int64_t makespan_ms;
    double busy; /* share of all slots until the last rollout was there */
    uint64_t started, used;
    struct virtual_usage usage;
};

static int time_arm(struct archive *archive, const char *name, const struct sweep_spec *spec, uint32_t arm,
                    const struct replay_args *args, struct arm_time *time, struct error *error)
{
    struct run run = {.archive = archive, .timed = true};
    int rc = run_arms(&run, name, spec, arm, 1, args, error);
    double slots = (double)args->workers * (args->slots > 0 ? args->slots : 1);
    *time = (struct arm_time){
        .arm = &spec->arms[arm],
        .makespan_ms = run.makespan_ms,
        .busy = run.makespan_ms > 0 ? (double)run.usage.busy_ms / (slots * (double)run.makespan_ms) : NAN,
        .started = run.usage.tasks - run.exhausted,
        .used = rc == 0 ? core_arm(run.core, 0).charged.rollouts : 0,
        .usage = run.usage,
    };
    core_free(&run.core);
    return rc;
}

static void times_text(const struct arm_time *times, uint32_t len, const struct replay_args *args, struct buf *out)
{
    struct text_table table;
    buf_printf(out, "\nvirtual time, each arm alone on %u worker%s of %u slot%s\n", args->workers,
               args->workers == 1 ? "" : "s", args->slots > 0 ? args->slots : 1, args->slots > 1 ? "s" : "");
    text_table_init(&table, "lrrrrrrrr");
    text_heads(&table, "arm|N|makespan s|busy|started|used|cancelled|saved slot s|saved tokens");
    for (uint32_t i = 0; i < len; i++) {
        const struct arm_time *time = &times[i];
        text_cell(&table, time->arm->name);
        text_cellf(&table, "%u", time->arm->n);
        text_cellf(&table, "%.3f", (double)time->makespan_ms / 1000);
        text_cellf(&table, isnan(time->busy) ? "-" : "%.1f%%", 100 * time->busy);
        text_cellf(&table, "%llu", (unsigned long long)time->started);
        text_cellf(&table, "%llu", (unsigned long long)time->used);
        text_cellf(&table, "%llu", (unsigned long long)time->usage.cancelled);
        text_cellf(&table, "%.3f", (double)time->usage.saved_ms / 1000);
        text_cellf(&table, "%llu", (unsigned long long)time->usage.saved_tokens);
    }
    text_table_print(&table, 2, out);
    text_table_clear(&table);
    buf_puts(out,
             "\nbusy: of all slots; started: rollouts given out; used: that the arm decided over; cancelled: stopped "
             "while\nthey ran, which saved the rest of their time and tokens\n");
}

static void put_u64(struct buf *json, const char *key, uint64_t value)
{
    json_key(json, key);
    json_u64(json, value);
}

static void put_f64(struct buf *json, const char *key, double value)
{
    json_key(json, key);
    json_f64(json, value);
}

static void times_json(const struct arm_time *times, uint32_t len, const struct replay_args *args, struct buf *json)
{
    json_begin(json, '{');
    put_u64(json, "workers", args->workers);
    put_u64(json, "slots", args->slots > 0 ? args->slots : 1);
    json_key(json, "arms");
    json_begin(json, '[');
    for (uint32_t i = 0; i < len; i++) {
        const struct arm_time *time = &times[i];
        json_begin(json, '{');
        json_key(json, "arm");
        json_str(json, time->arm->name);
        put_u64(json, "n", time->arm->n);
        put_f64(json, "makespan", (double)time->makespan_ms / 1000);
        put_f64(json, "busy", time->busy);
        put_u64(json, "started", time->started);
        put_u64(json, "used", time->used);
        put_u64(json, "cancelled", time->usage.cancelled);
        put_f64(json, "saved_seconds", (double)time->usage.saved_ms / 1000);
        put_u64(json, "saved_tokens", time->usage.saved_tokens);
        json_end(json, '}');
    }
    json_end(json, ']');
    json_end(json, '}');
}

/* --- output --- */

static void put_report(const struct run *run, const struct arm_time *times, uint32_t len,
                       const struct replay_args *args, struct buf *out)
{
    struct report *report = report_new(run->core, run->sweep, -1);
    report->truth_wanted = "--truth NAME, one whose verdicts were recorded, or a column `correct`";
    if (args->csv) {
        report_csv(report, out);
    } else if (!args->json) {
        report_text(report, report_page_here(), out);
        if (len > 0)
            times_text(times, len, args, out);
    } else {
        report_json(report, out);
        while (out->len > 0 && out->data[out->len - 1] != '}')
            out->len--;
        if (len > 0) { /* one more member of its object */
            struct buf json = {0};
            times_json(times, len, args, &json);
            out->len--;
            buf_printf(out, ",\"virtual\":%s}", json.data);
            buf_clear(&json);
        }
        buf_puts(out, "\n");
    }
    report_free(&report);
}

static void say_left_out(const struct run *run, const struct buf *trees, const struct replay_args *args)
{
    uint64_t nodes = recording_nodes(run->archive->recording);
    if (nodes > 0)
        fprintf(stderr,
                "drover replay: %llu nodes of trees are left out: only the strategy that grew them can use them\n",
                (unsigned long long)nodes);
    uint64_t ended = recording_ended(run->archive->recording);
    if (ended > 0)
        fprintf(stderr, "drover replay: %llu rollouts of pools in which some were ended (`kill`) are left out\n",
                (unsigned long long)ended);
    if (trees->len > 0)
        fprintf(stderr, "drover replay: arms that grow trees are left out (%s)\n", trees->data);
    if (args->data.prompts != NULL && run->archive->strangers > 0)
        fprintf(stderr, "drover replay: %zu of %zu rollouts are left out: their prompts are not in '%s'\n",
                run->archive->strangers, recording_len(run->archive->recording), args->data.prompts);
    if (run->archive->unanswered)
        fprintf(stderr, "drover replay: no rollout has an answer, so every vote is empty: %s\n",
                args->data.extractor.kind == EXTRACTOR_NONE ? "--answer KIND looks for answers in the texts"
                                                            : "that --answer finds none in the texts");
    if (run->missing > 0)
        fprintf(stderr, "drover replay: %llu verdicts were wanted and not recorded: they count as unknown\n",
                (unsigned long long)run->missing);
}

static int finish(const struct run *run, const struct arm_time *times, uint32_t len, const struct buf *trees,
                  const struct replay_args *args, struct error *error)
{
    struct sweep_info info = core_sweep(run->core, run->sweep);
    struct buf out = {0};
    say_left_out(run, trees, args);
    if (info.state == SWEEP_FAULT)
        return error_set(error, ERR_REFUSED, "sweep '%s' is faulty: %s", info.name, info.reason);
    put_report(run, times, len, args, &out);
    int rc = put_stdout(buf_slice(&out), error);
    buf_clear(&out);
    return rc;
}

static int replay_arms(struct archive *archive, const struct sweep_spec *spec, const struct buf *trees,
                       const struct replay_args *args, struct error *error)
{
    struct run run = {.archive = archive};
    const char *name = args->name != NULL ? args->name : archive->name;
    uint32_t timed = args->workers > 0 ? spec->arms_len : 0;
    for (uint32_t i = 0; i < timed; i++)
        if (spec->arms[i].bin.of[0] != '\0')
            return error_set(error, ERR_REFUSED,
                             "--workers times each arm alone, and the bins of arm '%s' wait for its pilot: leave "
                             "--workers or that arm out",
                             spec->arms[i].bin.of);
    struct arm_time *times = xalloc(timed * sizeof *times + 1);
    int rc = args->keep != NULL ? open_kept(args->keep, &run.journal, error) : 0;
    if (rc == 0)
        rc = run_arms(&run, name, spec, 0, spec->arms_len, args, error);
    for (uint32_t i = 0; i < timed && rc == 0; i++)
        rc = time_arm(archive, name, spec, i, args, &times[i], error);
    if (rc == 0)
        rc = finish(&run, times, timed, trees, args, error);
    core_free(&run.core);
    journal_close(&run.journal);
    free(times);
    return rc;
}

static int replay(const struct replay_args *args, struct error *error)
{
    struct archive archive;
    struct sweep_spec spec;
    struct buf trees = {0};
    char *text = NULL;
    size_t len = 0;
    int rc = open_archive(args, &archive, error);
    if (rc == 0)
        rc = file_read(args->arms, LIMIT_SWEEP_FILE, &text, &len, error);
    if (rc == 0 && args->workers > 0 && !archive.timed)
        rc = error_set(error, ERR_NOT_FOUND,
                       "no rollout was recorded with its latency, so --workers has nothing to tell: name the column "
                       "(--columns latency_ms=COLUMN or latency_s=COLUMN)");
    if (rc == 0)
        rc = archive_arms(&archive, (struct slice){text, len}, args->arms, args->truth, &spec, &trees, error);
    if (rc == 0) {
        rc = replay_arms(&archive, &spec, &trees, args, error);
        sweep_spec_clear(&spec);
    }
    buf_clear(&trees);
    free(text);
    archive_clear(&archive);
    return rc;
}

int cmd_replay(int argc, char **argv)
{
    const struct argp argp = {
        options,
        parse,
        "SWEEP|FILE --arm FILE",
        "Decide over recorded rollouts: those of a sweep, or of a file that `drover results`, an OpenAI batch or "
        "anything else wrote as JSONL or CSV. Nothing is generated and nobody is asked; the state folder of a sweep is "
        "only read. With --workers it also tells how long each arm would have taken on such a fleet.",
        0,
        0,
        0};
    struct replay_args args = {
        .data = {.recording = {.models = true, .hint = "--columns"}, .extractor = {.kind = EXTRACTOR_NONE}}};
    struct error error = {""};
    args.data.recording.filters = args.filters;
    parse_args("replay", &argp, argc, argv, &args);
    int rc = replay(&args, &error);
    return rc == 0 ? EXIT_OK : complain("replay", rc, &error);
}
