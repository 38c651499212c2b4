/* check_puzzle.c - countdown, where every step counts, and chain, where the result does; see puzzle.h. */
#include "verifier/inner.h"
#include "verifier/puzzle.h"

static int puzzle_open(struct slice spec, void **state, struct error *error)
{
    (void)spec; /* no options */
    (void)error;
    *state = NULL;
    return 0;
}

static int judge(const struct check_input *input, enum puzzle_kind kind, struct verdict *verdict, struct error *error)
{
    struct json_t *doc;
    struct slice prompt;
    int code = check_prompt(input->record, &doc, &prompt, error);
    if (code < 0)
        return code;
    struct puzzle puzzle;
    bool known = puzzle_parse(prompt, &puzzle) && puzzle.kind == kind;
    *verdict = known ? verdict_of(puzzle_solved(&puzzle, input->text)) : verdict_unknown;
    doc_free(&doc);
    return 0;
}

static int countdown_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    (void)state;
    return judge(input, PUZZLE_COUNTDOWN, verdict, error);
}

static int chain_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    (void)state;
    return judge(input, PUZZLE_CHAIN, verdict, error);
}

static void puzzle_close(void **state)
{
    *state = NULL;
}

const struct check check_countdown = {
    .name = "countdown",
    .help = "every step of a countdown is exact and the last one gives the target",
    .open = puzzle_open,
    .run = countdown_run,
    .close = puzzle_close,
};

const struct check check_chain = {
    .name = "chain",
    .help = "the number after the last # is the chain's true value",
    .open = puzzle_open,
    .run = chain_run,
    .close = puzzle_close,
};
