/* cli.h - what the subcommands share. */
#ifndef DROVER_CLI_H
#define DROVER_CLI_H

#include "broker/core/read.h"
#include "broker/journal.h"
#include "broker/sweep_file.h"
#include "common/cluster.h"
#include "common/err.h"

#include <argp.h>
#include <stdbool.h>

/* Exit codes, documented in `drover help exit-codes`. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_INPUT = 2, EXIT_LOCKED = 3, EXIT_FAULT = 4, EXIT_INTERRUPTED = 130 };

struct command {
    const char *name, *args, *help;
    int (*main)(int argc, char **argv);
};

extern const struct command commands[]; /* NULL name at the end */

int cmd_run(int argc, char **argv);
int cmd_broker(int argc, char **argv);
int cmd_worker(int argc, char **argv);
int cmd_verifier(int argc, char **argv);
int cmd_submit(int argc, char **argv);
int cmd_export_batch(int argc, char **argv);
int cmd_import_batch(int argc, char **argv);
int cmd_reverify(int argc, char **argv);
int cmd_reselect(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_workers(int argc, char **argv);
int cmd_pause(int argc, char **argv);
int cmd_resume(int argc, char **argv);
int cmd_cancel(int argc, char **argv);
int cmd_drain(int argc, char **argv);
int cmd_results(int argc, char **argv);
int cmd_events(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_calibrate(int argc, char **argv);
int cmd_fit_bins(int argc, char **argv);
int cmd_simulate(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_journal(int argc, char **argv);
int cmd_audit(int argc, char **argv);
int cmd_help(int argc, char **argv);

/* Prints the error as "drover COMMAND: sentence" on stderr, an empty one not at all; the exit code that goes with it. */
int complain(const char *command, int code, const struct error *error);

/* argp_parse with the command's name in messages, and EXIT_INPUT for wrong usage. */
void parse_args(const char *command, const struct argp *argp, int argc, char **argv, void *input);

/* For an argument that a command does not take: says so, and ends it. */
void surplus(struct argp_state *state, const char *arg);

/* cluster.conf: the file given, else ./cluster.conf if there is one, else the defaults. */
int read_cluster_conf(const char *path, struct cluster_conf *conf, struct error *error);

/* A sweep file and its prompts, checked. yaml and prompts are malloc'ed. */
struct sweep_input {
    char *yaml, *prompts, *prompts_path;
    size_t yaml_len, prompts_len;
    struct sweep_spec spec;
};
int sweep_input_read(const char *path, const char *const *overrides, size_t overrides_len, struct sweep_input *input,
                     struct error *error);
void sweep_input_clear(struct sweep_input *input);

/* `path` as it is written in `file`: relative to the folder of that. The caller frees it. */
char *path_beside(const char *file, const char *path);
/* Puts the files that prompts name as `file:PATH` into them; what is large goes ahead of them, once (attachment.h).
 * *prompts is replaced when there is any. */
int attach_files(const char *path, char **prompts, size_t *len, struct error *error);
/* A journal to read: a state folder beside its broker or without one, or a copy of the commits of a broker elsewhere. */
struct source {
    struct journal *journal;
    struct client *client; /* of a broker elsewhere */
    char endpoint[256];
    char temporary[64]; /* folder of the copy, removed in the end; "": none */
};

/* The state folder, or, when that is NULL, what the choice says. */
struct reading;
int source_open(const struct reading *from, struct source *source, struct error *error);
void source_close(struct source *source);

/* Fetches the commits that a broker elsewhere has made since. */
int source_more(struct source *source, struct error *error);

/* The sweep of this name; NULL: the only one. ERR_NOT_FOUND: the sentence tells which there are. */
int find_sweep(const struct core *core, const char *name, uint32_t *sweep, struct error *error);

/* Prints; what a buffer still holds is written, and a failure told, when the command ends. */
int put_stdout(struct slice text, struct error *error);
/* The error of a failed write to stdout. ERR_CLOSED: whoever reads (head, less) has seen enough; an empty sentence. */
int stdout_failed(struct error *error);

/* What each arm may cost at most, and what a journal (NULL: none) has already. */
int print_dry_run(const struct sweep_input *input, const char *state, bool json, struct error *error);

/* What standard output is, if it is a terminal. */
struct report_page;
struct report_page report_page_here(void);

/* Prints the report of a sweep of an open journal on stdout. */
enum report_format { REPORT_TEXT, REPORT_JSON, REPORT_CSV };
struct report_style {
    enum report_format format;
    double wall_s;      /* negative: unknown */
    double target;      /* coverage to foretell a budget for; NaN: none */
    const char *beside; /* another sweep whose arms are shown, too; NULL: none */
    bool full;          /* text with all tables, as JSON always has them */
};
int print_report(struct journal *journal, const char *sweep, const struct report_style *style, struct error *error);

#endif
