/* check_chain.c - a chain of operations, only its result counts; see puzzle.h. */
#include "verifier/inner.h"
#include "verifier/puzzle.h"

static int chain_open(struct slice spec, void **state, struct error *error)
{
    (void)spec; /* no options */
    (void)error;
    *state = NULL;
    return 0;
}

static int chain_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    (void)state;
    struct json_t *doc;
    struct slice prompt;
    int code = check_prompt(input->record, &doc, &prompt, error);
    if (code < 0)
        return code;
    struct puzzle puzzle;
    bool known = puzzle_parse(prompt, &puzzle) && puzzle.kind == PUZZLE_CHAIN;
    *verdict = known ? verdict_of(puzzle_solved(&puzzle, input->text)) : verdict_unknown;
    doc_free(&doc);
    return 0;
}

static void chain_close(void **state)
{
    *state = NULL;
}

const struct check check_chain = {
    .name = "chain",
    .help = "the number after the last # is the chain's true value",
    .open = chain_open,
    .run = chain_run,
    .close = chain_close,
};
