/* puzzle.h - the two exactly checkable tasks of the demo: what their prompts say and whether a text
 * solves them.
 *
 * Countdown: "C24:3,5,7,9" asks for 24 from numbers that are used once each. A text is one line per
 * step, "9-5=4;3,7,4": an operation on two numbers that are there, its result, and after ';' all
 * numbers that are left in any order; the last step has no rest. Chain: "A7*8+35-16" is worked out
 * strictly from left to right, one line "7*8=56" per step, then "#75". */
#ifndef DROVER_PUZZLE_H
#define DROVER_PUZZLE_H

#include "common/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define PUZZLE_NUMBERS 16

enum puzzle_kind { PUZZLE_COUNTDOWN, PUZZLE_CHAIN };

struct puzzle {
    enum puzzle_kind kind;
    int64_t target;                  /* chain: its true value */
    uint32_t len;                    /* numbers */
    int64_t numbers[PUZZLE_NUMBERS]; /* of at most three digits */
    char ops[PUZZLE_NUMBERS];        /* chain: ops[i] stands before numbers[i], i >= 1 */
};

/* False when the prompt is neither task, or too large. */
bool puzzle_parse(struct slice prompt, struct puzzle *puzzle);

/* The numbers that a countdown prefix leaves. */
struct puzzle_left {
    uint32_t len;
    int64_t numbers[PUZZLE_NUMBERS];
};

/* Whether every complete line (one with a newline) of text is a legal, exact step. left: of
 * countdown only. */
bool puzzle_prefix(const struct puzzle *puzzle, struct slice text, struct puzzle_left *left);

/* Whether a finished text solves the puzzle; its last line needs no newline. Countdown: every step
 * counts; chain: only the number after the '#' at the end does. */
bool puzzle_solved(const struct puzzle *puzzle, struct slice text);

/* a op b; false when it does not exist: a division with a rest, or by zero. */
bool puzzle_apply(char op, int64_t a, int64_t b, int64_t *result);

#endif
