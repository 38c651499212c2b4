/* main.c - drover: one binary, subcommands from one table. */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct command commands[] = {
    {"run", "SWEEP.yaml [key=value ...]", "run a sweep on this machine, or continue it where it was", cmd_run},
    {"broker", "", "serve sweeps to workers and verifiers on many machines", cmd_broker},
    {"worker", "", "generate for a broker: all that adding a worker takes", cmd_worker},
    {"verifier", "", "verify for a broker", cmd_verifier},
    {"submit", "SWEEP.yaml [key=value ...]", "hand a sweep to a broker", cmd_submit},
    {"export-batch", "SWEEP.yaml [key=value ...]", "the requests of a sweep as OpenAI batch files", cmd_export_batch},
    {"import-batch", "FILE ...", "be a worker that answers from OpenAI batch files", cmd_import_batch},
    {"reverify", "SWEEP --verifier NAME", "new verdicts over the rollouts of a sweep; nothing is generated",
     cmd_reverify},
    {"reselect", "SWEEP --arm FILE", "new decisions over the rollouts of a sweep; nothing is generated", cmd_reselect},
    {"replay", "SWEEP|FILE --arm FILE", "policies over recorded rollouts, and how long they would have taken",
     cmd_replay},
    {"status", "[SWEEP]", "what sweeps have done and what they wait for", cmd_status},
    {"workers", "", "workers and verifiers of a broker", cmd_workers},
    {"pause", "SWEEP", "grant no more tasks of a sweep", cmd_pause},
    {"resume", "SWEEP", "go on with a paused, cancelled or faulty sweep", cmd_resume},
    {"cancel", "SWEEP", "stop a sweep and what is in flight; what is done stays", cmd_cancel},
    {"drain", "NAME", "have a worker or verifier give back its tasks and leave", cmd_drain},
    {"results", "[SWEEP]", "every delivered rollout as JSONL", cmd_results},
    {"events", "[SWEEP]", "what is committed, as JSONL, from any place and while it happens", cmd_events},
    {"report", "[SWEEP]", "accuracy against compute, with intervals", cmd_report},
    {"calibrate", "[SWEEP] --verifier NAME", "a verifier against the truth: true and false passes, ranking",
     cmd_calibrate},
    {"simulate", "SPEC.yaml [key=value ...]", "arms in worlds with known laws, in virtual time; nothing is generated",
     cmd_simulate},
    {"plan", "PILOT --target ACC | --budget B", "which arm to run, what it will give and cost, from a few rollouts",
     cmd_plan},
    {"fit-bins", "SWEEP|FILE --budget MEAN", "rollouts, or an arm, by how hard a prompt is, from earlier sweeps",
     cmd_fit_bins},
    {"journal", "", "the facts of a journal as text", cmd_journal},
    {"audit", "", "check a journal: invariants, replay, every decision again", cmd_audit},
    {"help", "[TOPIC]", "this list; topics: limits, exit-codes, policies, backends, verifiers, sweep, cluster.conf",
     cmd_help},
    {0},
};

/* A file that is opened must never become standard output, or a report would be written into a journal. What stands in
 * for a closed one refuses every byte, as that would have. */
static void hold_standard_files(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            _exit(EXIT_FAILED); /* there is nobody to tell */
}

/* However a command ends (argp exits after --help): what it printed is written, or that is said and is no success. */
static void finish_output(int status, void *command)
{
    struct error error;
    bool failed = ferror(stdout) != 0;
    errno = 0;
    if (fflush(stdout) == 0 && !failed)
        return;
    int code = complain(command, stdout_failed(&error), &error);
    _exit(status == EXIT_OK ? code : status);
}

int main(int argc, char **argv)
{
    hold_standard_files();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is a full disk, not a death */
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        on_exit(finish_output, "help");
        return cmd_help(1, argv) + (argc < 2 ? EXIT_INPUT : 0);
    }
    for (const struct command *command = commands; command->name != NULL; command++)
        if (strcmp(command->name, argv[1]) == 0) {
            on_exit(finish_output, (void *)(uintptr_t)command->name);
            return command->main(argc - 1, argv + 1);
        }
    fprintf(stderr, "drover: there is no command '%s': see drover help\n", argv[1]);
    return EXIT_INPUT;
}
