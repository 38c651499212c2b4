/* check_countdown.c - arithmetic to a target, every step counts; see puzzle.h. */
#include "verifier/inner.h"
#include "verifier/puzzle.h"

static int countdown_open(struct slice spec, void **state, struct error *error)
{
    (void)spec; /* no options */
    (void)error;
    *state = NULL;
    return 0;
}

static int countdown_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    (void)state;
    struct json_t *doc;
    struct slice prompt;
    int code = check_prompt(input->record, &doc, &prompt, error);
    if (code < 0)
        return code;
    struct puzzle puzzle;
    bool known = puzzle_parse(prompt, &puzzle) && puzzle.kind == PUZZLE_COUNTDOWN;
    *verdict = known ? verdict_of(puzzle_solved(&puzzle, input->text)) : verdict_unknown;
    doc_free(&doc);
    return 0;
}

static void countdown_close(void **state)
{
    *state = NULL;
}

const struct check check_countdown = {
    .name = "countdown",
    .help = "every step of a countdown is exact and the last one gives the target",
    .open = countdown_open,
    .run = countdown_run,
    .close = countdown_close,
};
