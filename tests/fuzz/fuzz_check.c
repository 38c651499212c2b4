/* fuzz_check.c - any spec, record and text. Input: a line of spec, a line of record, the text.
 *
 * Specs that could start a program or ask a server are left out; escapes too, for these words could be written with
 * them. */
#include "common/answer.h"
#include "verifier/check.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice take_line(struct slice *rest)
{
    const char *newline = rest->len > 0 ? memchr(rest->data, '\n', rest->len) : NULL;
    struct slice line = *rest;
    if (newline == NULL) {
        rest->len = 0;
    } else {
        line.len = (size_t)(newline - rest->data);
        rest->data += line.len + 1;
        rest->len -= line.len + 1;
    }
    return line;
}

static void run_both(const struct check *check, void *state, struct slice record, struct slice text)
{
    const struct extractor extractor = {.kind = EXTRACTOR_LAST_LINE};
    struct buf answer = {0}, detail = {0};
    struct error error;
    assert(answer_extract(&extractor, text, false, &answer) == 0);
    for (int finished = 0; finished < 2; finished++) {
        const struct check_input input = {.record = record,
                                          .text = text,
                                          .answer = buf_slice(&answer),
                                          .finished = finished,
                                          .seed = text.len,
                                          .timeout_ms = 1,
                                          .detail = &detail};
        struct verdict verdict = {.score = NAN}, again = {.score = NAN};
        int code = check->run(state, &input, &verdict, &error);
        buf_reset(&detail);
        assert(check->run(state, &input, &again, &error) == code);
        buf_reset(&detail);
        if (code < 0)
            continue;
        assert(verdict.outcome < OUTCOMES);
        assert(verdict.score >= 0);
        assert(verdict.score <= 1);
        assert(verdict.outcome == again.outcome);
        assert(verdict.score == again.score);
    }
    buf_clear(&answer);
    buf_clear(&detail);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = {(const char *)data, size};
    struct slice spec = take_line(&rest);
    struct slice record = take_line(&rest);
    if (spec.len == 0 || memchr(spec.data, '\\', spec.len) != NULL || memmem(spec.data, spec.len, "exec", 4) != NULL ||
        memmem(spec.data, spec.len, "urls", 4) != NULL)
        return 0;
    const struct check *check;
    void *state;
    struct error error;
    if (check_open(spec, &check, &state, &error) < 0)
        return 0;
    run_both(check, state, record, rest);
    check->close(&state);
    return 0;
}
