/* check_exact.c - the answer is the one in the record, as a canonical string. */
#include "common/answer.h"
#include "verifier/inner.h"

#include <stdlib.h>
#include <string.h>

struct exact {
    bool ignore_case;
};

static int exact_open(struct slice spec, void **state, struct error *error)
{
    struct json_t *doc;
    int code = doc_parse(spec, &doc, error);
    if (code < 0)
        return code;
    struct exact exact = {false};
    code = doc_option_bool(doc, "case", &exact.ignore_case, error);
    doc_free(&doc);
    if (code == 0)
        *state = memcpy(xalloc(sizeof exact), &exact, sizeof exact);
    return code;
}

static bool equal(const struct exact *exact, struct slice a, struct slice b)
{
    if (a.len != b.len)
        return false;
    if (!exact->ignore_case || a.len == 0)
        return a.len == 0 || memcmp(a.data, b.data, a.len) == 0;
    for (size_t i = 0; i < a.len; i++) {
        char x = a.data[i], y = b.data[i];
        x = x >= 'A' && x <= 'Z' ? (char)(x + 32) : x;
        y = y >= 'A' && y <= 'Z' ? (char)(y + 32) : y;
        if (x != y)
            return false;
    }
    return true;
}

static int exact_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    struct json_t *doc;
    struct slice prompt;
    int code = check_prompt(input->record, &doc, &prompt, error);
    if (code < 0)
        return code;
    struct buf raw = {0}, truth = {0}, given = {0};
    if (doc_scalar(doc, "answer", &raw)) {
        answer_canonical(buf_slice(&raw), &truth);
        answer_canonical(input->answer, &given);
        *verdict = verdict_of(given.len > 0 && equal(state, buf_slice(&given), buf_slice(&truth)));
    } else {
        *verdict = verdict_unknown;
    }
    buf_clear(&raw);
    buf_clear(&truth);
    buf_clear(&given);
    doc_free(&doc);
    return 0;
}

static void exact_close(void **state)
{
    free(*state);
    *state = NULL;
}

const struct check check_exact = {
    .name = "exact",
    .help = "the answer equals the record's answer",
    .open = exact_open,
    .run = exact_run,
    .close = exact_close,
};
