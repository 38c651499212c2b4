/* common.c - what the subcommands share; see cli.h. */
#include "cli/cli.h"
#include "common/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int complain(const char *command, int code, const struct error *error)
{
    fprintf(stderr, "drover %s: %s\n", command, error->text);
    if (code == ERR_LOCKED)
        return EXIT_LOCKED;
    return code <= ERR_CORRUPT || code == ERR_TIMEOUT || code == ERR_CLOSED ? EXIT_FAILED : EXIT_INPUT;
}

void parse_args(const char *command, const struct argp *argp, int argc, char **argv, void *input)
{
    static char name[64];
    snprintf(name, sizeof name, "drover %s", command);
    argv[0] = name;
    argp_err_exit_status = EXIT_INPUT;
    argp_parse(argp, argc, argv, 0, NULL, input);
}

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
