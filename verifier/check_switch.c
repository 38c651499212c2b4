/* check_switch.c - hands each prompt to the verifier that its record's meta data asks for. */
#include "verifier/inner.h"

#include <stdlib.h>
#include <string.h>

#define CASES_MAX 16

struct switch_case {
    char *value;
    struct inner inner;
};

struct switch_state {
    char *key;
    struct switch_case cases[CASES_MAX];
    size_t len;
    struct inner other; /* check NULL: unknown */

    const struct json_t *doc; /* while opening */
    struct error *error;
};

static void switch_close(void **state)
{
    struct switch_state *s = *state;
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->len; i++) {
        inner_close(&s->cases[i].inner);
        free(s->cases[i].value);
    }
    inner_close(&s->other);
    free(s->key);
    free(s);
    *state = NULL;
}

static int case_open(void *data, const char *value, struct slice name)
{
    struct switch_state *s = data;
    if (s->len == CASES_MAX)
        return error_set(s->error, ERR_LIMIT, "option `cases` has more than %d cases", CASES_MAX);
    struct switch_case *c = &s->cases[s->len];
    int code = inner_open(s->doc, name.data, &c->inner, s->error);
    if (code < 0)
        return code;
    c->value = xstrdup(value);
    s->len++;
    return 0;
}

static int switch_fill(struct switch_state *s)
{
    const struct json_t *options = doc_object(s->doc, "options");
    struct slice key, other;
    if (!doc_text(options, "key", &key) || key.len == 0)
        return error_set(s->error, ERR_SYNTAX, "option `key` must name a key of meta");
    s->key = xstrdup(key.data);
    if (doc_object(options, "cases") == NULL)
        return error_set(s->error, ERR_SYNTAX, "option `cases` must map values to verifiers");
    int code = doc_each_text(doc_object(options, "cases"), case_open, s, s->error);
    if (code < 0)
        return code;
    if (!doc_text(options, "other", &other) || other.len == 0)
        return 0;
    return inner_open(s->doc, other.data, &s->other, s->error);
}

static int switch_open(struct slice spec, void **state, struct error *error)
{
    struct json_t *doc;
    int code = doc_parse(spec, &doc, error);
    if (code < 0)
        return code;
    struct switch_state *s = xalloc(sizeof *s);
    s->doc = doc;
    s->error = error;
    code = switch_fill(s);
    s->doc = NULL;
    s->error = NULL;
    doc_free(&doc);
    *state = s;
    if (code < 0)
        switch_close(state);
    return code;
}

static const struct inner *switch_find(const struct switch_state *s, const struct json_t *record)
{
    struct buf value = {0};
    const struct inner *found = &s->other;
    if (doc_scalar(doc_object(record, "meta"), s->key, &value))
        for (size_t i = 0; i < s->len && found == &s->other; i++)
            if (strlen(s->cases[i].value) == value.len && memcmp(s->cases[i].value, value.data, value.len) == 0)
                found = &s->cases[i].inner;
    buf_clear(&value);
    return found;
}

static int switch_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    struct json_t *doc;
    struct slice prompt;
    int code = check_prompt(input->record, &doc, &prompt, error);
    if (code < 0)
        return code;
    const struct inner *inner = switch_find(state, doc);
    doc_free(&doc);
    if (inner->check != NULL)
        return inner_run(inner, input, verdict, error);
    *verdict = verdict_unknown;
    return 0;
}

const struct check check_switch = {
    .name = "switch",
    .help = "the verifier that a key of the record's meta selects",
    .open = switch_open,
    .run = switch_run,
    .close = switch_close,
};
