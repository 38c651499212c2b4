/* check_math.c - the answer is the record's answer as mathematics, however either is written. */
#include "common/answer.h"
#include "verifier/inner.h"
#include "verifier/math.h"

#include <stdlib.h>
#include <string.h>

struct math {
    double tolerance;
    bool extract; /* from the text, although the rollout has an answer */
};

static int math_open(struct slice spec, void **state, struct error *error)
{
    struct json_t *doc;
    int code = doc_parse(spec, &doc, error);
    if (code < 0)
        return code;
    struct math math = {.tolerance = 1e-6};
    code = doc_option_real(doc, "tolerance", (struct doc_range){0, 1}, &math.tolerance, error);
    if (code == 0)
        code = doc_option_bool(doc, "extract", &math.extract, error);
    doc_free(&doc);
    if (code == 0)
        *state = memcpy(xalloc(sizeof math), &math, sizeof math);
    return code;
}

/* The rollout's answer, or the one that its text points at. */
static void find_answer(const struct math *math, const struct check_input *input, struct buf *out)
{
    const struct extractor final = {.kind = EXTRACTOR_FINAL};
    if (input->answer.len > 0 && !math->extract)
        answer_canonical(input->answer, out);
    else
        answer_extract(&final, input->text, false, out);
}

static int math_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    const struct math *math = state;
    struct json_t *doc;
    struct slice prompt;
    int code = check_prompt(input->record, &doc, &prompt, error);
    if (code < 0)
        return code;
    struct buf truth = {0}, given = {0};
    enum math_relation relation = MATH_UNKNOWN;
    if (doc_scalar(doc, "answer", &truth)) {
        find_answer(math, input, &given);
        relation = math_compare(buf_slice(&truth), buf_slice(&given), (struct math_rule){math->tolerance, input->seed});
    }
    *verdict = relation == MATH_UNKNOWN ? verdict_unknown : verdict_of(relation == MATH_EQUAL);
    buf_clear(&truth);
    buf_clear(&given);
    doc_free(&doc);
    return 0;
}

static void math_close(void **state)
{
    free(*state);
    *state = NULL;
}

const struct check check_math = {
    .name = "math",
    .help = "the answer equals the record's answer as mathematics",
    .open = math_open,
    .run = math_run,
    .close = math_close,
};
