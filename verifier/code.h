/* code.h - how a rollout's program is run against tests; see check_code.c. Inside verifier/ only. */
#ifndef DROVER_CODE_H
#define DROVER_CODE_H

#include "verifier/check.h"
#include "verifier/sandbox.h"

enum { CODE_ARGS = 16, CODE_MESSAGE_MAX = 1 << 20, CODE_OUTPUT_MAX = 1 << 20 };

/* One program at a time, one thread at a time. code_calls_end frees what it holds. */
struct code_runner {
    const char *argv[CODE_ARGS + 3]; /* the interpreter; two words behind it are filled per start */
    size_t argv_len;
    uint32_t cpu_s, wall_ms, memory_mib;
    struct sandbox *program;    /* where programs run                                       */
    struct sandbox *grader;     /* where tests run; NULL for styles that compare outputs    */
    struct buf candidate;       /* code_candidate.py as the interpreter's own code; empty: not made yet */
    struct sandbox_pipes asked; /* of the grader's process while it runs (grading)          */
    bool grading;
};

/* What became of one program; texts are for people. */
struct code_verdict {
    enum outcome outcome;
    const char *why;       /* "", assert, exception, ended, exit, syntax, memory, timeout, output, test */
    struct buf text, line; /* what it said; the test that failed                                  */
    struct buf output;     /* what it printed, of style print: the last bytes of it               */
    uint32_t test;         /* that was reached, from 0                                            */
    uint32_t cpu_ms, wall_ms;
};

/* Tests that call functions of the program. job is the grader's JSON. Negative: the sandbox failed. */
int code_calls(struct code_runner *runner, struct slice program, struct slice job, struct code_verdict *verdict,
               struct error *error);
void code_calls_end(struct code_runner *runner);

/* One run of the program: standard input against expected output. verdict->outcome says how it went. */
int code_stdio(struct code_runner *runner, struct slice program, struct slice input, struct slice output,
               struct code_verdict *verdict, struct error *error);

/* One run of the program without input; passes when it ends well, and says what it printed. */
int code_print(struct code_runner *runner, struct slice program, struct code_verdict *verdict, struct error *error);

/* Whether two outputs are equal but for spaces at ends of lines and empty lines at the end. */
bool code_output_equal(struct slice a, struct slice b);

/* What a generated text holds: the fenced block if there is one (the last, of any language), else all of it. */
struct slice code_block(struct slice text);

/* Ends the program. If its time or memory was used up, and settles is not NULL, that is the verdict, and *settles is
 * set. Negative: the sandbox failed. */
int code_end(struct code_runner *runner, enum ending_how how, struct code_verdict *verdict, struct sandbox_end *end,
             bool *settles, struct error *error);

#endif
