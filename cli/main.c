/* main.c - drover: one binary, subcommands from one table. */
#include "cli/cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

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

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is a full disk, not a death */
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return cmd_help(1, argv) + (argc < 2 ? EXIT_INPUT : 0);
    for (const struct command *command = commands; command->name != NULL; command++)
        if (strcmp(command->name, argv[1]) == 0)
            return command->main(argc - 1, argv + 1);
    fprintf(stderr, "drover: there is no command '%s': see drover help\n", argv[1]);
    return EXIT_INPUT;
}
