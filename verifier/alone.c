/* alone.c - see alone.h. */
#include "verifier/alone.h"
#include "common/io/clock.h"

#include <poll.h>
#include <stdlib.h>

struct alone {
    const struct engine *engine;
    void *state;
};

int alone_open(const struct engine *engine, struct slice spec, void **state, struct error *error)
{
    struct alone *alone = xalloc(sizeof *alone);
    alone->engine = engine;
    int code = engine->open(spec, &alone->state, error);
    *state = alone;
    if (code < 0)
        alone_close(state);
    return code;
}

/* The engine ends the job itself when its time is up. */
int alone_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    struct alone *alone = state;
    struct job job = {.record = input->record,
                      .attached = input->attached,
                      .text = input->text,
                      .answer = input->answer,
                      .finished = input->finished,
                      .seed = input->seed,
                      .timeout_ms = input->timeout_ms},
               *one = &job;
    for (;;) {
        int64_t wait = alone->engine->advance(alone->state, &one, 1, clock_ms());
        if (job.state != JOB_RUNNING)
            break;
        struct pollfd item = {.fd = alone->engine->fd(alone->state), .events = POLLIN};
        poll(&item, 1, wait < 60000 ? (int)wait : 60000);
    }
    if (input->detail != NULL && job.detail.len > 0) {
        buf_reset(input->detail);
        buf_put(input->detail, job.detail.data, job.detail.len);
    }
    buf_clear(&job.detail);
    *verdict = job.verdict;
    if (job.state == JOB_FAILED && error != NULL)
        *error = job.error;
    return job.state == JOB_FAILED ? ERR_CLOSED : 0;
}

void alone_close(void **state)
{
    struct alone *alone = *state;
    if (alone == NULL)
        return;
    if (alone->state != NULL)
        alone->engine->close(&alone->state);
    free(alone);
    *state = NULL;
}
