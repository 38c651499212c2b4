/* common.c - what the subcommands share; see cli.h. */
#include "cli/cli.h"
#include "cli/client.h"
#include "common/limits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int complain(const char *command, int code, const struct error *error)
{
    if (error->text[0] != '\0')
        fprintf(stderr, "drover %s: %s\n", command, error->text);
    if (code == ERR_LOCKED)
        return EXIT_LOCKED;
    return code <= ERR_CORRUPT || code == ERR_TIMEOUT || code == ERR_CLOSED ? EXIT_FAILED : EXIT_INPUT;
}

int stdout_failed(struct error *error)
{
    int why = errno;
    clearerr(stdout); /* told now, and not at the end again */
    if (why != EPIPE)
        return error_set(error, ERR_IO, "cannot write to standard output: %s",
                         why == 0 ? "something of it was refused" : strerror(why));
    error->text[0] = '\0';
    return ERR_CLOSED;
}

int put_stdout(struct slice text, struct error *error)
{
    return fwrite(text.data, 1, text.len, stdout) == text.len ? 0 : stdout_failed(error);
}

void parse_args(const char *command, const struct argp *argp, int argc, char **argv, void *input)
{
    static char name[64];
    snprintf(name, sizeof name, "drover %s", command);
    argv[0] = name;
    argp_err_exit_status = EXIT_INPUT;
    argp_parse(argp, argc, argv, 0, NULL, input);
}

void surplus(struct argp_state *state, const char *arg)
{
    argp_error(state, "'%s' is one argument too many", arg);
}

/* -- options of commands that read ---------------------------------------------------------------------------------- */

enum { OPTION_JSON = 1000 };

static error_t reading_parse(int key, char *arg, struct argp_state *state)
{
    struct reading *reading = state->input;
    switch (key) {
    case 's':
        reading->state = arg;
        return 0;
    case 'b':
        reading->choice.broker = arg;
        return 0;
    case 'j':
        reading->choice.join = arg;
        return 0;
    case 'c':
        reading->choice.conf = arg;
        return 0;
    case OPTION_JSON:
        reading->json = true;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static const struct argp_option reading_options[] = {
    {"state", 's', "DIR", 0, "state folder to read (default: `state` of cluster.conf, drover-state)", 0},
    {"broker", 'b', "ENDPOINT", 0, "read from the broker with this client address instead", 0},
    {"join", 'j', "FILE", 0, "read from the broker that this join file names", 0},
    {"conf", 'c', "FILE", 0, "read from the broker that this cluster.conf names", 0},
    {"json", OPTION_JSON, NULL, 0, "print JSON", 0},
    {0},
};

static const struct argp_option asking_options[] = {
    {"broker", 'b', "ENDPOINT", 0, "the broker's client address (default: `clients` of cluster.conf)", 0},
    {"join", 'j', "FILE", 0, "the broker, by the join file that it writes", 0},
    {"conf", 'c', "FILE", 0, "cluster.conf to read (default: ./cluster.conf, else built-in defaults)", 0},
    {"json", OPTION_JSON, NULL, 0, "print JSON", 0},
    {0},
};

static const struct argp reading_argp = {.options = reading_options, .parser = reading_parse};
static const struct argp asking_argp = {.options = asking_options, .parser = reading_parse};
const struct argp_child reading_children[] = {{&reading_argp, 0, NULL, 0}, {0}};
const struct argp_child asking_children[] = {{&asking_argp, 0, NULL, 0}, {0}};

int read_cluster_conf(const char *path, struct cluster_conf *conf, struct error *error)
{
    if (path == NULL && access("cluster.conf", R_OK) != 0)
        return cluster_conf_parse((struct slice){"", 0}, "defaults", conf, error);
    const char *file = path == NULL ? "cluster.conf" : path;
    char *text;
    size_t len;
    int rc = file_read(file, LIMIT_SWEEP_FILE, &text, &len, error);
    if (rc != 0)
        return rc;
    rc = cluster_conf_parse((struct slice){text, len}, file, conf, error);
    free(text);
    return rc;
}

char *path_beside(const char *file, const char *path)
{
    const char *slash = strrchr(file, '/');
    struct buf out = {0};
    if (path[0] != '/' && slash != NULL)
        buf_put(&out, file, (size_t)(slash - file) + 1);
    buf_puts(&out, path);
    return out.data;
}

/* Puts the counts of one arm's file ahead, unless they are there. */
static int prior_read(const char *path, const struct sweep_spec *spec, const struct sweep_arm *arm, struct buf *ahead,
                      struct prior_files *seen, struct error *error)
{
    const char *verifier = spec->verifiers[arm->verifier].name;
    if (prior_files_find(seen, arm->prior.from, verifier) != NULL)
        return 0;
    char *beside = path_beside(path, arm->prior.from), *text;
    struct prior_file file;
    size_t len;
    int rc = file_read(beside, LIMIT_SUBMISSION, &text, &len, error);
    if (rc == 0) {
        rc = prior_file_read((struct slice){text, len}, beside, arm->prior.from, verifier, &file, error);
        free(text);
    }
    free(beside);
    if (rc != 0)
        return rc;
    prior_file_put(&file, ahead);
    seen->at = xrealloc(seen->at, (seen->len + 1) * sizeof *seen->at);
    seen->at[seen->len++] = file;
    return 0;
}

/* Files that priors name travel ahead of the prompts: the broker may be on another machine. */
static int priors_read(const char *path, struct sweep_input *input, struct error *error)
{
    struct buf ahead = {0};
    struct prior_files seen = {0};
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < input->spec.arms_len; i++)
        if (input->spec.arms[i].prior.from != NULL && input->spec.arms[i].prior.file)
            rc = prior_read(path, &input->spec, &input->spec.arms[i], &ahead, &seen, error);
    prior_files_clear(&seen);
    if (rc == 0 && ahead.len + input->prompts_len > LIMIT_SUBMISSION)
        rc = error_set(error, ERR_LIMIT, "%s: with the counts of its priors it has more than %u bytes",
                       input->prompts_path, LIMIT_SUBMISSION);
    if (rc == 0 && ahead.len > 0) {
        buf_put(&ahead, input->prompts, input->prompts_len);
        free(input->prompts);
        input->prompts = ahead.data;
        input->prompts_len = ahead.len;
        return 0;
    }
    buf_clear(&ahead);
    return rc;
}

int sweep_input_read(const char *path, const char *const *overrides, size_t overrides_len, struct sweep_input *input,
                     struct error *error)
{
    memset(input, 0, sizeof *input);
    int rc = file_read(path, LIMIT_SWEEP_FILE, &input->yaml, &input->yaml_len, error);
    if (rc != 0)
        return rc;
    rc = sweep_spec_parse((struct slice){input->yaml, input->yaml_len}, path, overrides, overrides_len, &input->spec,
                          error);
    if (rc != 0) {
        free(input->yaml);
        return rc;
    }
    input->prompts_path = path_beside(path, input->spec.prompts_path);
    rc = file_read(input->prompts_path, LIMIT_SUBMISSION, &input->prompts, &input->prompts_len, error);
    if (rc == 0)
        rc = attach_files(input->prompts_path, &input->prompts, &input->prompts_len, error);
    if (rc == 0)
        rc = priors_read(path, input, error);
    if (rc != 0)
        sweep_input_clear(input);
    return rc;
}

void sweep_input_clear(struct sweep_input *input)
{
    free(input->yaml);
    free(input->prompts);
    free(input->prompts_path);
    sweep_spec_clear(&input->spec);
}
