/* check_label.c - the label that came with a fixed candidate: right, wrong, or not known.
 *
 * Lists as the backend `candidates` reads them: `label` of an element of `candidates` (true, false, 1, 0), else chosen
 * ones are right and rejected ones wrong. */
#include "common/candidates.h"
#include "verifier/inner.h"

static int label_open(struct slice spec, void **state, struct error *error)
{
    static int none;
    (void)spec;
    (void)error;
    *state = &none;
    return 0;
}

static void label_close(void **state)
{
    *state = NULL;
}

/* Label of the candidate: false when it has none. */
static bool label_of(const struct json_t *doc, const struct check_input *input, bool *right)
{
    if (doc_has(doc, "candidates"))
        return doc_item_bool(doc, "candidates", input->ordinal, "label", right);
    size_t chosen = doc_items(doc, "chosen"), all = chosen + doc_items(doc, "rejected");
    *right = input->ordinal < all && candidate_turned(input->record, input->ordinal, all) < chosen;
    return input->ordinal < all;
}

static int label_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    struct json_t *doc;
    struct slice prompt;
    bool right;
    (void)state;
    int code = check_prompt(input->record, &doc, &prompt, error);
    if (code < 0)
        return code;
    *verdict = label_of(doc, input, &right) ? verdict_of(right) : verdict_unknown;
    doc_free(&doc);
    return 0;
}

const struct check check_label = {
    .name = "label",
    .help = "the label that came with the candidate",
    .open = label_open,
    .run = label_run,
    .close = label_close,
};
