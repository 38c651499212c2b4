/* help.c - drover help: the command list, and pages printed from the tables that the code itself reads. */
#include "cli/cli.h"
#include "common/conf.h"
#include "common/limits.h"

#include <stdio.h>
#include <string.h>

static void print_commands(struct buf *out)
{
    buf_puts(
        out,
        "drover runs inference-time-scaling sweeps over language models.\n\nUsage: drover COMMAND [OPTION...]\n\n");
    for (const struct command *command = commands; command->name != NULL; command++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", command->name, command->args);
        buf_printf(out, "  %-34s %s\n", left, command->help);
    }
    buf_puts(out, "\nEvery command has --help. Standard output is data, standard error is talk.\n");
}

static void print_limits(struct buf *out)
{
#define X(name, value, help) buf_printf(out, "  %-12llu %s\n", (unsigned long long)(value), help);
    LIMIT_TABLE(X)
#undef X
}

static void print_exit_codes(struct buf *out)
{
    buf_printf(out,
               "  %-4d success\n  %-4d failure: damaged journal, no answer, lost connection, full disk\n"
               "  %-4d wrong input: sweep file, prompts, options; nothing was started\n"
               "  %-4d the state folder or address is in use\n"
               "  %-4d the sweep is paused, cancelled, or stopped by a named fault\n"
               "  %-4d interrupted; the same command goes on\n",
               EXIT_OK, EXIT_FAILED, EXIT_INPUT, EXIT_LOCKED, EXIT_FAULT, EXIT_INTERRUPTED);
}

#define PRINT_POLICY(word, policy)                                          \
    buf_printf(out, "%s %s: %s\n", (word), (policy)->name, (policy)->help); \
    conf_print_options((policy)->options, out);

#define PRINT_TABLE(word, table)                  \
    for (size_t i = 0; (table)[i] != NULL; i++) { \
        PRINT_POLICY(word, (table)[i])            \
    }

static void print_confidence(const struct selector *selector, struct buf *out)
{
    static const double plain[POLICY_OPTIONS_MAX];
    const char *what;
    if (selector->covers) /* `abstain` is refused */
        return;
    policies_confidence_most(selector, plain, &what);
    buf_printf(out, "  (confidence)     %s%s\n", what, selector->may_vote ? "; with `vote` a share, from 0 to 1" : "");
}

static void print_policies(struct buf *out)
{
    PRINT_TABLE("strategy", strategies)
    PRINT_TABLE("allocate", allocators)
    PRINT_TABLE("stop", stoppers)
    for (size_t i = 0; selectors[i] != NULL; i++) {
        PRINT_POLICY("select", selectors[i])
        print_confidence(selectors[i], out);
    }
}

static void print_kinds(struct buf *out, const char *word, const struct kind *kind)
{
    for (; kind->name != NULL; kind++) {
        buf_printf(out, "%s %s: %s\n", word, kind->name, kind->help);
        if (kind->options != NULL)
            conf_print_options(kind->options, out);
    }
}

static void print_backends(struct buf *out)
{
    print_kinds(out, "backend", backend_kinds);
}

static void print_verifiers(struct buf *out)
{
    print_kinds(out, "verifier", verifier_kinds);
}

static const struct {
    const char *name;
    void (*print)(struct buf *out);
} topics[] = {
    {"limits", print_limits},
    {"exit-codes", print_exit_codes},
    {"policies", print_policies},
    {"backends", print_backends},
    {"verifiers", print_verifiers},
    {"sweep", sweep_file_help},
    {"cluster.conf", cluster_conf_help},
};

int cmd_help(int argc, char **argv)
{
    struct buf out = {0};
    struct error error;
    if (argc < 2) {
        print_commands(&out);
    } else {
        for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++)
            if (strcmp(argv[1], topics[i].name) == 0)
                topics[i].print(&out);
        for (const struct command *command = commands; out.len == 0 && command->name != NULL; command++)
            if (strcmp(command->name, argv[1]) == 0 && command->main != cmd_help)
                return command->main(2, (char *[]){argv[1], "--help", NULL});
        if (out.len == 0 && strcmp(argv[1], "--help") == 0)
            print_commands(&out);
        if (out.len == 0) {
            fprintf(stderr, "drover help: no topic '%s': see drover help\n", argv[1]);
            return EXIT_INPUT;
        }
    }
    int rc = put_stdout(buf_slice(&out), &error);
    buf_clear(&out);
    return rc == 0 ? EXIT_OK : complain("help", rc, &error);
}
