/* code_stdio.c - a program as a filter: what it is given, what it must print; see check_code.c.
 *
 * What it must print stays here. Each test is a run of its own, in an empty /tmp, so that no test sees another. */
#include "verifier/code.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define SAID_MAX    300  /* of standard error, in the detail */
#define PRINTED_MAX 4096 /* of what it printed, for whoever compares that */

struct flow {
    struct slice left; /* of the input */
    struct sandbox_pipes pipes;
    struct buf out, err;
    bool flooded;
};

static void shut(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void feed(struct flow *flow)
{
    ssize_t written = write(flow->pipes.in, flow->left.data, flow->left.len);
    if (written >= 0) {
        flow->left.data += written;
        flow->left.len -= (size_t)written;
    }
    if (flow->left.len == 0 || (written < 0 && errno != EAGAIN && errno != EINTR))
        shut(&flow->pipes.in); /* all of it, or nobody reads it any more */
}

static void drain(struct flow *flow, int *fd, struct buf *into)
{
    char *to = buf_grow(into, 65536);
    ssize_t got = read(*fd, to, 65536);
    if (got > 0)
        into->len += (size_t)got;
    else if (got == 0 || (errno != EAGAIN && errno != EINTR))
        shut(fd);
    flow->flooded = flow->out.len + flow->err.len > CODE_OUTPUT_MAX;
}

/* Until both outputs are closed, or the program is over while something that it started holds them. */
static void flow_all(struct flow *flow, int over)
{
    while (!flow->flooded && (flow->pipes.out >= 0 || flow->pipes.err >= 0)) {
        struct pollfd fds[4] = {{.fd = flow->pipes.in, .events = POLLOUT},
                                {.fd = flow->pipes.out, .events = POLLIN},
                                {.fd = flow->pipes.err, .events = POLLIN},
                                {.fd = over, .events = POLLIN}};
        poll(fds, 4, -1);
        if (fds[0].revents != 0)
            feed(flow);
        if (fds[1].revents != 0)
            drain(flow, &flow->pipes.out, &flow->out);
        if (fds[2].revents != 0)
            drain(flow, &flow->pipes.err, &flow->err);
        if (fds[3].revents != 0 && fds[1].revents == 0 && fds[2].revents == 0)
            return;
    }
}

/* The line, and where the next one begins, without the spaces at its end. */
static struct slice next_line(struct slice *rest)
{
    const char *end = rest->len > 0 ? memchr(rest->data, '\n', rest->len) : NULL;
    struct slice line = {rest->data, end == NULL ? rest->len : (size_t)(end - rest->data)};
    size_t used = line.len + (end != NULL);
    rest->data += used;
    rest->len -= used;
    while (line.len > 0 && strchr(" \t\r", line.data[line.len - 1]) != NULL && line.data[line.len - 1] != '\0')
        line.len--;
    return line;
}

bool code_output_equal(struct slice a, struct slice b)
{
    while (a.len > 0 || b.len > 0) {
        struct slice x = next_line(&a), y = next_line(&b);
        if (x.len != y.len || (x.len > 0 && memcmp(x.data, y.data, x.len) != 0))
            return false;
    }
    return true;
}

/* What is to be said of a program that did not do what was expected of it. */
static void explain(const struct flow *flow, const struct sandbox_end *end, struct code_verdict *verdict)
{
    bool ended = end->ending == ENDING_EXIT && end->code == 0;
    size_t skip = flow->err.len > SAID_MAX ? flow->err.len - SAID_MAX : 0; /* the end of a traceback says most */
    verdict->outcome = OUTCOME_FAIL;
    verdict->why = flow->flooded ? "output" : ended ? "assert" : "exit";
    if (flow->flooded)
        buf_puts(&verdict->text, "it wrote more than 1 MiB");
    else if (flow->err.len > 0)
        buf_put(&verdict->text, flow->err.data + skip, flow->err.len - skip);
    else if (!ended)
        buf_printf(&verdict->text, "%s %d", end->ending == ENDING_EXIT ? "status" : "signal", (int)end->code);
}

/* A program that crashed behind its right output has failed too. */
static void judge(const struct flow *flow, const struct slice *expected, const struct sandbox_end *end,
                  struct code_verdict *verdict)
{
    bool ended = end->ending == ENDING_EXIT && end->code == 0 && !flow->flooded;
    if (!ended || (expected != NULL && !code_output_equal(buf_slice(&flow->out), *expected))) {
        explain(flow, end, verdict);
        return;
    }
    verdict->outcome = OUTCOME_PASS;
    verdict->why = "";
    size_t skip = flow->out.len > PRINTED_MAX ? flow->out.len - PRINTED_MAX : 0;
    if (expected == NULL)
        buf_put(&verdict->output, flow->out.data + skip, flow->out.len - skip);
}

/* expected NULL: it may print anything. */
static int run_program(struct code_runner *runner, struct slice program, struct slice input,
                       const struct slice *expected, struct code_verdict *verdict, struct error *error)
{
    struct flow flow = {.left = input};
    struct sandbox_end end;
    bool settled;
    runner->argv[runner->argv_len] = "/tmp/program";
    runner->argv[runner->argv_len + 1] = NULL;
    const struct sandbox_job job = {.argv = runner->argv,
                                    .program = program,
                                    .cpu_s = runner->cpu_s,
                                    .wall_ms = runner->wall_ms,
                                    .memory_mib = runner->memory_mib};
    int code = sandbox_start(runner->program, &job, &flow.pipes, error);
    if (code < 0)
        return code;
    flow_all(&flow, sandbox_fd(runner->program));
    code = code_end(runner, flow.flooded ? END_STOP : END_WAIT, verdict, &end, &settled, error);
    if (code == 0 && !settled)
        judge(&flow, expected, &end, verdict);
    shut(&flow.pipes.in);
    shut(&flow.pipes.out);
    shut(&flow.pipes.err);
    buf_clear(&flow.out);
    buf_clear(&flow.err);
    return code;
}

int code_stdio(struct code_runner *runner, struct slice program, struct slice input, struct slice output,
               struct code_verdict *verdict, struct error *error)
{
    return run_program(runner, program, input, &output, verdict, error);
}

int code_print(struct code_runner *runner, struct slice program, struct code_verdict *verdict, struct error *error)
{
    return run_program(runner, program, (struct slice){"", 0}, NULL, verdict, error);
}
