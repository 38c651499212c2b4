/* code_calls.c - a rollout's program answers calls, its tests make them; see check_code.c.
 *
 * Messages on all four pipes are a length of 4 bytes, most significant first, and so many bytes. The program's side is
 * hostile: it may say anything, at any time, or nothing. It is read to at most one message for each that it was sent. */
#include "verifier/code.h"
#include "verifier/doc.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define GRACE_MS 2000 /* beyond the program's own time: for the tests, and for the slot to end it */

/* The two Python files are part of this program. */
#define EMBED(name, file)                                                                     \
    __asm__(".pushsection .rodata\n" #name ": .incbin \"" file "\"\n.byte 0\n.popsection\n"); \
    extern const char name[] __attribute__((visibility("hidden")))

EMBED(candidate_py, "verifier/code_candidate.py");
EMBED(grader_py, "verifier/code_grader.py");

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A pair of pipes to one process. */
struct line {
    int in, out;
    int64_t until_ms;
};

static int wait_for(int fd, short events, const struct line *line)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    int64_t left = line->until_ms - now_ms();
    if (left <= 0)
        return ERR_TIMEOUT;
    poll(&poll_fd, 1, left > INT32_MAX ? INT32_MAX : (int)left);
    return 0;
}

/* A program that stops reading blocks us no longer than its time. sandbox_launcher_start has seen to SIGPIPE. */
static int tell(const struct line *line, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t written = write(line->in, data, len);
        if (written > 0) {
            data += written;
            len -= (size_t)written;
        } else if (errno == EAGAIN) {
            int code = wait_for(line->in, POLLOUT, line);
            if (code < 0)
                return code;
        } else if (errno != EINTR) {
            return ERR_CLOSED;
        }
    }
    return 0;
}

static int hear(const struct line *line, char *data, size_t len)
{
    while (len > 0) {
        ssize_t got = read(line->out, data, len);
        if (got == 0)
            return ERR_CLOSED;
        if (got > 0) {
            data += got;
            len -= (size_t)got;
        } else if (errno == EAGAIN) {
            int code = wait_for(line->out, POLLIN, line);
            if (code < 0)
                return code;
        } else if (errno != EINTR) {
            return ERR_CLOSED;
        }
    }
    return 0;
}

/* In one write where it fits: the reader wakes once. */
static int send_message(const struct line *line, struct slice head, struct slice body)
{
    size_t len = head.len + body.len;
    struct buf message = {0};
    buf_put(&message, (const char[4]){(char)(len >> 24), (char)(len >> 16), (char)(len >> 8), (char)len}, 4);
    buf_put(&message, head.data, head.len);
    buf_put(&message, body.data, body.len);
    int code = tell(line, message.data, message.len);
    buf_clear(&message);
    return code;
}

static int take_message(const struct line *line, struct buf *message)
{
    unsigned char size[4];
    int code = hear(line, (char *)size, sizeof size);
    if (code < 0)
        return code;
    size_t len = (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3];
    if (len == 0 || len > CODE_MESSAGE_MAX)
        return ERR_LIMIT;
    buf_reset(message);
    char *to = buf_grow(message, len);
    code = hear(line, to, len);
    message->len = code == 0 ? len : 0;
    return code;
}

/* -- the grader ----------------------------------------------------------------------------------------------------- */

static int start(struct code_runner *runner, struct sandbox *sandbox, const char *source,
                 const struct sandbox_job *limits, struct sandbox_pipes *pipes, struct error *error)
{
    struct sandbox_job job = *limits;
    runner->argv[runner->argv_len] = "-c";
    runner->argv[runner->argv_len + 1] = source;
    runner->argv[runner->argv_len + 2] = NULL;
    job.argv = runner->argv;
    job.memory_mib = runner->memory_mib;
    job.quiet = true;
    return sandbox_start(sandbox, &job, pipes, error);
}

static void close_pipes(struct sandbox_pipes *pipes)
{
    close(pipes->in);
    close(pipes->out);
    *pipes = (struct sandbox_pipes){-1, -1, -1};
}

static void end_grader(struct code_runner *runner)
{
    struct sandbox_end end;
    if (!runner->grading)
        return;
    runner->grading = false;
    close_pipes(&runner->asked);
    sandbox_end(runner->grader, END_STOP, &end, NULL);
}

void code_calls_end(struct code_runner *runner)
{
    end_grader(runner);
    buf_clear(&runner->candidate);
}

/* Compiling it would be a twentieth of every program's start. The grader does it before it has met any program. */
static int compile_candidate(struct code_runner *runner)
{
    const struct line line = {runner->asked.in, runner->asked.out, now_ms() + runner->wall_ms + GRACE_MS};
    struct buf message = {0};
    int code = send_message(&line, slice_of("P"), slice_of(candidate_py));
    if (code == 0)
        code = take_message(&line, &message);
    if (code == 0 && message.data[0] != 'P')
        code = ERR_PROTOCOL;
    if (code == 0)
        buf_put(&runner->candidate, message.data + 1, message.len - 1);
    buf_clear(&message);
    return code;
}

static int want_grader(struct code_runner *runner, struct error *error)
{
    int code = 0;
    if (!runner->grading)
        code = start(runner, runner->grader, grader_py, &(struct sandbox_job){0}, &runner->asked, error);
    if (code < 0)
        return code;
    runner->grading = true;
    if (runner->candidate.len == 0)
        code = compile_candidate(runner);
    if (code == 0)
        return 0;
    end_grader(runner);
    return error_set(error, code, "the tests' own process failed before it had a program: %s", err_text(code));
}

/* The first thing that a program's interpreter runs: reads its real code and becomes that. */
static int start_candidate(struct code_runner *runner, struct sandbox_pipes *pipes, struct error *error)
{
    static const char loader[] = "import marshal, posix\n"
                                 "c = b''\n"
                                 "while len(c) < %zu:\n"
                                 "    c += posix.read(0, %zu - len(c)) or posix._exit(0)\n"
                                 "exec(marshal.loads(c))\n";
    const struct sandbox_job limits = {.cpu_s = runner->cpu_s, .wall_ms = runner->wall_ms};
    struct buf source = {0};
    buf_printf(&source, loader, runner->candidate.len, runner->candidate.len);
    int code = start(runner, runner->program, source.data, &limits, pipes, error);
    buf_clear(&source);
    return code;
}

/* -- one program ---------------------------------------------------------------------------------------------------- */

struct session {
    struct code_runner *runner;
    struct line program, grader;
    struct buf message;
    bool called; /* the tests have called the program */
};

/* A program that failed before its tests: "E", name, NUL, text. */
static void failed_start(const struct session *session, struct code_verdict *verdict)
{
    const struct buf *m = &session->message;
    size_t name = m->len > 0 ? strnlen(m->data + 1, m->len - 1) : 0;
    verdict->outcome = OUTCOME_FAIL;
    verdict->why = name == 11 && memcmp(m->data + 1, "SyntaxError", 11) == 0   ? "syntax"
                   : name == 11 && memcmp(m->data + 1, "MemoryError", 11) == 0 ? "memory"
                                                                               : "exception";
    if (m->len > 1)
        buf_put(&verdict->text, m->data + 1, name);
    if (name + 2 < m->len) {
        buf_puts(&verdict->text, ": ");
        buf_put(&verdict->text, m->data + name + 2, m->len - name - 2);
    }
}

static void ended(struct code_verdict *verdict, int code)
{
    verdict->outcome = OUTCOME_FAIL;
    verdict->why = code == ERR_LIMIT ? "output" : "ended";
    buf_reset(&verdict->text);
    buf_puts(&verdict->text, code == ERR_LIMIT ? "it answered more than 1 MiB" : "it ended before its tests");
}

/* What the grader decided: its last message, a JSON object behind "V". */
static int read_verdict(const struct session *session, struct code_verdict *verdict)
{
    static const struct {
        const char *name;
        enum outcome outcome;
    } outcomes[] = {{"pass", OUTCOME_PASS}, {"fail", OUTCOME_FAIL}, {"error", OUTCOME_ERROR}};
    static const char *const whys[] = {"assert", "exception", "ended", "memory", "test"};
    struct json_t *doc;
    struct slice text;
    double number = 0;
    if (doc_parse((struct slice){session->message.data + 1, session->message.len - 1}, &doc, NULL) < 0)
        return ERR_PROTOCOL;
    int code = ERR_PROTOCOL;
    for (size_t i = 0; doc_text(doc, "outcome", &text) && i < 3; i++)
        if (strcmp(text.data, outcomes[i].name) == 0) {
            verdict->outcome = outcomes[i].outcome;
            code = 0;
        }
    for (size_t i = 0; doc_text(doc, "why", &text) && i < sizeof whys / sizeof whys[0]; i++)
        if (strcmp(text.data, whys[i]) == 0)
            verdict->why = whys[i];
    if (doc_text(doc, "text", &text))
        buf_put(&verdict->text, text.data, text.len);
    if (doc_text(doc, "line", &text))
        buf_put(&verdict->line, text.data, text.len);
    if (doc_real(doc, "test", &number))
        verdict->test = (uint32_t)number;
    doc_free(&doc);
    return code;
}

/* Passes one call on and its answer back. *lost: the program gave none, and why; the grader is told. */
static int pass_call(struct session *session, int *lost)
{
    session->called = true;
    if (*lost == 0)
        *lost = send_message(&session->program, (struct slice){"", 0},
                             (struct slice){session->message.data + 1, session->message.len - 1});
    if (*lost == 0)
        *lost = take_message(&session->program, &session->message);
    if (*lost != 0)
        return send_message(&session->grader, slice_of("X"), (struct slice){"", 0});
    return send_message(&session->grader, (struct slice){"", 0}, buf_slice(&session->message));
}

/* The tests, from the question to the verdict. A negative return: the grader failed. */
static int grade(struct session *session, struct slice job, struct code_verdict *verdict, int *lost)
{
    int code = send_message(&session->grader, slice_of("J"), job);
    while (code == 0) {
        code = take_message(&session->grader, &session->message);
        if (code == 0 && session->message.data[0] != 'C')
            break;
        if (code == 0)
            code = pass_call(session, lost);
    }
    if (code == 0)
        code = session->message.data[0] == 'V' ? read_verdict(session, verdict) : ERR_PROTOCOL;
    return code;
}

/* A grader that fails on what a program answered is the program's doing, else it is ours. */
static int grader_failed(struct session *session, int code, struct code_verdict *verdict, struct error *error)
{
    end_grader(session->runner);
    if (!session->called)
        return error_set(error, code, "the tests' own process failed before it called the program: %s", err_text(code));
    verdict->outcome = code == ERR_TIMEOUT ? OUTCOME_TIMEOUT : OUTCOME_FAIL;
    verdict->why = code == ERR_TIMEOUT ? "timeout" : "ended";
    buf_reset(&verdict->text);
    buf_puts(&verdict->text, "the tests failed on what it answered");
    return 0;
}

int code_end(struct code_runner *runner, enum ending_how how, struct code_verdict *verdict, struct sandbox_end *end,
             bool *settles, struct error *error)
{
    int code = sandbox_end(runner->program, how, end, error);
    if (code < 0)
        return code;
    if (end->ending == ENDING_BROKEN)
        return error_set(error, ERR_SYSTEM, "a sandbox: %s", end->text);
    verdict->cpu_ms = end->cpu_ms;
    verdict->wall_ms = end->wall_ms;
    if (settles != NULL)
        *settles = end->ending == ENDING_CPU || end->ending == ENDING_WALL || end->ending == ENDING_MEMORY;
    if (settles == NULL || !*settles)
        return 0;
    bool memory = end->ending == ENDING_MEMORY;
    verdict->outcome = memory ? OUTCOME_FAIL : OUTCOME_TIMEOUT;
    verdict->why = memory ? "memory" : "timeout";
    buf_reset(&verdict->text);
    if (memory)
        buf_printf(&verdict->text, "more than %u MiB", runner->memory_mib);
    else if (end->ending == ENDING_CPU)
        buf_printf(&verdict->text, "more than %u s of CPU", runner->cpu_s);
    else
        buf_printf(&verdict->text, "more than %u ms", runner->wall_ms);
    return 0;
}

/* Runs the program up to its first word, then the tests. *lost: how its side of the talk broke, 0: it did not. */
static int converse(struct session *session, struct slice program, struct slice job, struct code_verdict *verdict,
                    int *lost, struct error *error)
{
    int code = 0;
    *lost = tell(&session->program, session->runner->candidate.data, session->runner->candidate.len);
    if (*lost == 0)
        *lost = send_message(&session->program, (struct slice){"", 0}, program);
    if (*lost == 0)
        *lost = take_message(&session->program, &session->message);
    if (*lost == 0 && session->message.data[0] != 'R')
        failed_start(session, verdict);
    else if (*lost == 0)
        code = grade(session, job, verdict, lost);
    if (code < 0)
        return grader_failed(session, code, verdict, error);
    if (*lost != 0)
        ended(verdict, *lost);
    return 0;
}

int code_calls(struct code_runner *runner, struct slice program, struct slice job, struct code_verdict *verdict,
               struct error *error)
{
    struct sandbox_pipes pipes;
    struct session session = {.runner = runner};
    struct sandbox_end end;
    bool settled;
    int code = want_grader(runner, error);
    if (code == 0)
        code = start_candidate(runner, &pipes, error);
    if (code < 0)
        return code;
    int64_t until = now_ms() + runner->wall_ms + GRACE_MS;
    session.program = (struct line){pipes.in, pipes.out, until};
    session.grader = (struct line){runner->asked.in, runner->asked.out, until};
    int lost;
    code = converse(&session, program, job, verdict, &lost, error);
    close_pipes(&pipes);
    int ending = code_end(runner, lost != 0 ? END_LATE : END_STOP, verdict, &end, lost != 0 ? &settled : NULL,
                          code < 0 ? NULL : error);
    buf_clear(&session.message);
    return code < 0 ? code : ending;
}
