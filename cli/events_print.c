/* events_print.c - drover events: what is committed, one JSON object a line; the stream that Redis gets, without Redis. */
#include "broker/events.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "common/conf.h"
#include "common/io/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { OPTION_FROM = 1000, OPTION_TEXTS, LOOK_MS = 50 };

struct events_args {
    const char *sweep;
    struct reading reading;
    struct seq from;
    bool follow, texts;
};

static const struct argp_option options[] = {
    {"follow", 'f', NULL, 0, "wait for more, until Ctrl-C", 0},
    {"from", OPTION_FROM, "SEQ", 0, "begin with the first event that is not before this sequence number", 0},
    {"texts", OPTION_TEXTS, NULL, 0, "rollouts with their text", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct events_args *args = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &args->reading;
        return 0;
    case 'f':
        args->follow = true;
        return 0;
    case OPTION_FROM:
        if (!seq_parse((struct slice){arg, strlen(arg)}, &args->from))
            argp_error(state, "--from takes a sequence number like 12-3, or a commit's number, not '%s'", arg);
        return 0;
    case OPTION_TEXTS:
        args->texts = true;
        return 0;
    case ARGP_KEY_ARG:
        if (args->sweep != NULL)
            surplus(state, arg);
        args->sweep = arg;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static int put(void *arg, struct seq seq, struct slice line)
{
    (void)seq;
    int rc = put_stdout(line, arg);
    return rc == 0 ? put_stdout(slice_of("\n"), arg) : rc;
}

/* All commits that the journal has now. */
static int print_new(struct events *events, struct journal *journal, struct seq from, struct error *error)
{
    struct buf facts = {0}, texts = {0};
    int rc = events_skip(events, from.commit < journal_next(journal) ? from.commit : journal_next(journal), error);
    while (rc == 0) {
        rc = journal_commit(journal, events_next(events), &facts, &texts, error);
        if (rc == 0)
            rc = events_commit(events, buf_slice(&facts), buf_slice(&texts), from, put, error, error);
    }
    buf_clear(&facts);
    buf_clear(&texts);
    if (rc == ERR_NOT_FOUND)
        rc = fflush(stdout) == 0 ? 0 : stdout_failed(error);
    return rc;
}

static volatile sig_atomic_t stopping;

static void on_stop(int signal)
{
    (void)signal;
    stopping = 1;
}

static int follow(struct events *events, struct source *source, struct seq from, struct error *error)
{
    struct sigaction action = {.sa_handler = on_stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    int rc = 0;
    while (rc == 0 && !stopping) {
        struct pollfd reader = {.fd = 1}; /* POLLERR: whoever reads is gone */
        if (poll(&reader, 1, LOOK_MS) > 0 && (reader.revents & POLLERR) != 0)
            break;
        rc = source_more(source, error);
        if (rc == ERR_TIMEOUT) /* the broker is away: it may come back */
            rc = 0;
        if (rc == 0)
            rc = print_new(events, source->journal, from, error);
    }
    return rc;
}

static void try_name(void *near, const char *name)
{
    conf_near_try(near, name);
}

static int no_such_sweep(const struct events *events, const char *name, struct error *error)
{
    struct conf_near near;
    conf_near_init(&near, name);
    events_sweeps(events, try_name, &near);
    return error_set(error, ERR_NOT_FOUND, "there is no sweep '%.64s'%s%s", name,
                     near.best == NULL ? " and no other" : "", conf_near_text(&near));
}

static int print_events(const struct events_args *args, struct source *source, struct error *error)
{
    struct events *events =
        events_new(&(struct events_options){.journal = source->journal, .sweep = args->sweep, .texts = args->texts});
    int rc = print_new(events, source->journal, args->from, error);
    bool missing = rc == 0 && args->sweep != NULL && !events_found(events);
    if (missing)
        no_such_sweep(events, args->sweep, error);
    if (missing && args->follow) /* it may be submitted later: who follows may be there first */
        log_line(0, "%s (this waits until one of that name is submitted)", error->text);
    if (rc == 0 && args->follow)
        rc = follow(events, source, args->from, error);
    else if (missing)
        rc = ERR_NOT_FOUND;
    events_free(&events);
    return rc;
}

int cmd_events(int argc, char **argv)
{
    const struct argp argp = {
        options,
        parse,
        "[SWEEP]",
        "Print what is committed, rollouts, verdicts, decisions and states of sweeps, as one line "
        "of JSON each, in the order of their sequence numbers.",
        reading_children,
        0,
        0};
    struct events_args args = {0};
    struct source source;
    struct error error = {""};
    parse_args("events", &argp, argc, argv, &args);
    int rc = source_open(&args.reading, &source, &error);
    if (rc == 0) {
        rc = print_events(&args, &source, &error);
        source_close(&source);
    }
    return rc != 0 ? complain("events", rc, &error) : stopping ? EXIT_INTERRUPTED : EXIT_OK;
}
