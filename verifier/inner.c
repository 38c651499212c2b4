/* inner.c - what checks share; see inner.h. */
#include "verifier/inner.h"

const struct verdict verdict_unknown = {.outcome = OUTCOME_UNKNOWN};

struct verdict verdict_of(bool pass)
{
    return (struct verdict){.outcome = pass ? OUTCOME_PASS : OUTCOME_FAIL, .score = pass};
}

int inner_open(const struct json_t *spec, const char *name, struct inner *inner, struct error *error)
{
    *inner = (struct inner){0};
    const struct json_t *doc = doc_object(doc_object(spec, "inner"), name);
    if (doc == NULL)
        return error_set(error, ERR_NOT_FOUND, "no verifier `%.64s` in the spec", name);
    struct buf json = {0};
    doc_write(doc, &json);
    int code = check_open(buf_slice(&json), &inner->check, &inner->state, error);
    buf_clear(&json);
    return code;
}

int inner_run(const struct inner *inner, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    return inner->check->run(inner->state, input, verdict, error);
}

void inner_close(struct inner *inner)
{
    if (inner->check != NULL)
        inner->check->close(&inner->state);
    inner->check = NULL;
}

int check_prompt(struct slice record, struct json_t **doc, struct slice *prompt, struct error *error)
{
    *prompt = (struct slice){0};
    struct error why;
    int code = doc_parse(record, doc, &why);
    if (code < 0)
        return error_set(error, code, "the prompt record is %s", why.text);
    doc_text(*doc, "prompt", prompt);
    return 0;
}
