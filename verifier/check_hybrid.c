/* check_hybrid.c - whether what a text says agrees with what its program computes.
 *
 * Chain of thought against program of thought: a text reasons to an answer and holds a program for the same question;
 * two ways to one value are evidence that it is right. The program is run by another verifier, which puts what it printed
 * into its detail as `output`; a third one may score the reasoning. Nothing here needs a reference answer. */
#include "common/answer.h"
#include "common/json.h"
#include "verifier/alone.h"
#include "verifier/compose.h"
#include "verifier/math.h"

#include <string.h>

#define SHOWN_MAX 512 /* bytes of an answer in the detail */

enum { PROGRAM, REASONING };

struct hybrid {
    double tolerance, penalty; /* penalty: what is left of the score where the two disagree */
    bool extract;              /* the answer from the prose, although the rollout has one */
};

static int hybrid_fill(void *own, const struct json_t *spec, struct error *error)
{
    const struct doc_range unit = {0, 1};
    struct hybrid *hybrid = own;
    hybrid->tolerance = 1e-6;
    int code = doc_option_real(spec, "tolerance", unit, &hybrid->tolerance, error);
    if (code == 0)
        code = doc_option_real(spec, "penalty", unit, &hybrid->penalty, error);
    if (code == 0)
        code = doc_option_bool(spec, "extract", &hybrid->extract, error);
    return code;
}

/* The text without its blocks of code, whose numbers are no answers. */
static void put_prose(struct slice text, struct buf *out)
{
    bool code = false;
    while (text.len > 0) {
        const char *end = memchr(text.data, '\n', text.len);
        size_t len = end == NULL ? text.len : (size_t)(end - text.data) + 1;
        bool fence = len >= 3 && memcmp(text.data, "```", 3) == 0;
        if (!code && !fence)
            buf_put(out, text.data, len);
        code ^= fence;
        text.data += len;
        text.len -= len;
    }
}

static void find_answer(const struct hybrid *hybrid, const struct check_input *input, struct buf *out)
{
    const struct extractor final = {.kind = EXTRACTOR_FINAL};
    if (input->answer.len > 0 && !hybrid->extract) {
        answer_canonical(input->answer, out);
        return;
    }
    struct buf prose = {0};
    put_prose(input->text, &prose);
    answer_extract(&final, buf_slice(&prose), false, out);
    buf_clear(&prose);
}

/* The last line that the program printed. */
static void find_output(const struct finding *program, struct buf *out)
{
    const struct extractor line = {.kind = EXTRACTOR_LAST_LINE};
    struct json_t *doc;
    struct slice output;
    buf_reset(out);
    if (program->detail.len == 0 || doc_parse(buf_slice(&program->detail), &doc, NULL) < 0)
        return;
    if (doc_text(doc, "output", &output))
        answer_extract(&line, output, false, out);
    doc_free(&doc);
}

struct comparison {
    struct buf answer, output;
    enum math_relation relation;
};

/* Without an answer, or without a program that printed something, there is nothing to compare. */
static void comparison_make(const struct hybrid *hybrid, const struct check_input *input,
                            const struct finding *findings, struct comparison *out)
{
    find_answer(hybrid, input, &out->answer);
    find_output(&findings[PROGRAM], &out->output);
    if (out->answer.len > 0 && out->output.len > 0)
        out->relation = math_compare(buf_slice(&out->answer), buf_slice(&out->output),
                                     (struct math_rule){hybrid->tolerance, input->seed});
}

static void comparison_clear(struct comparison *comparison)
{
    buf_clear(&comparison->answer);
    buf_clear(&comparison->output);
}

/* Reasoning is scored only where its score counts. */
static int hybrid_next(const void *own, const struct check_input *input, const bool *there,
                       const struct finding *findings)
{
    const struct hybrid *hybrid = own;
    if (!findings[PROGRAM].asked)
        return PROGRAM;
    if (!there[REASONING] || findings[REASONING].asked)
        return COMPOSE_DONE;
    struct comparison comparison = {.relation = MATH_UNKNOWN};
    comparison_make(hybrid, input, findings, &comparison);
    bool counts = comparison.relation == MATH_EQUAL || (comparison.relation == MATH_DIFFERENT && hybrid->penalty > 0);
    comparison_clear(&comparison);
    return counts ? REASONING : COMPOSE_DONE;
}

static void put_short(const char *key, const struct buf *text, struct buf *out)
{
    struct slice start = {text->data, text->len < SHOWN_MAX ? text->len : SHOWN_MAX};
    json_key(out, key);
    json_text(out, start);
}

static void hybrid_decide(const void *own, const struct check_input *input, const struct finding *findings,
                          struct verdict *verdict, struct buf *detail)
{
    const struct hybrid *hybrid = own;
    const struct finding *reasoning = &findings[REASONING];
    struct comparison comparison = {.relation = MATH_UNKNOWN};
    comparison_make(hybrid, input, findings, &comparison);
    bool agree = comparison.relation == MATH_EQUAL;
    double score = reasoning->asked && outcome_known(reasoning->verdict.outcome) ? reasoning->verdict.score : 1;
    *verdict = comparison.relation == MATH_UNKNOWN
                   ? (struct verdict){.outcome = OUTCOME_UNKNOWN}
                   : (struct verdict){agree ? OUTCOME_PASS : OUTCOME_FAIL, agree ? score : score * hybrid->penalty};
    put_short("answer", &comparison.answer, detail);
    put_short("output", &comparison.output, detail);
    compose_finding_json("program", &findings[PROGRAM], detail);
    if (reasoning->asked)
        compose_finding_json("reasoning", reasoning, detail);
    comparison_clear(&comparison);
}

const struct composite composite_hybrid = {
    .name = "hybrid",
    .options = {[PROGRAM] = "program", [REASONING] = "reasoning"},
    .required = {true, false},
    .size = sizeof(struct hybrid),
    .open = hybrid_fill,
    .next = hybrid_next,
    .decide = hybrid_decide,
};

const struct check check_hybrid = {
    .name = "hybrid",
    .help = "whether the text's answer is what its program prints",
    .open = compose_open,
    .run = alone_run,
    .close = alone_close,
    .engine = &engine_compose,
};
