/* puzzle.c - countdown and chain; see puzzle.h.
 *
 * The rules are those of the generator that the demo's model was trained on, to the letter: leading
 * zeros are allowed in a step's numbers but not in the list of what is left, and that list may have
 * empty places. */
#include "verifier/puzzle.h"

#include <string.h>

bool puzzle_apply(char op, int64_t a, int64_t b, int64_t *result)
{
    switch (op) {
    case '+':
        *result = a + b;
        return true;
    case '-':
        *result = a - b;
        return true;
    case '*':
        *result = a * b;
        return true;
    case '/':
        *result = b != 0 ? a / b : 0;
        return b != 0 && a % b == 0;
    }
    return false;
}

/* Takes a number of one to digits_max digits off text. */
static bool take_number(struct slice *text, size_t digits_max, int64_t *value)
{
    size_t len = 0;
    *value = 0;
    while (len < text->len && text->data[len] >= '0' && text->data[len] <= '9') {
        if (len == digits_max)
            return false;
        *value = *value * 10 + (text->data[len++] - '0');
    }
    text->data += len;
    text->len -= len;
    return len > 0;
}

static bool take_char(struct slice *text, const char *set, char *taken)
{
    if (text->len == 0 || text->data[0] == '\0' || strchr(set, text->data[0]) == NULL)
        return false;
    *taken = text->data[0];
    text->data++;
    text->len--;
    return true;
}

static bool parse_countdown(struct slice prompt, struct puzzle *puzzle)
{
    char taken;
    if (!take_number(&prompt, 3, &puzzle->target) || !take_char(&prompt, ":", &taken))
        return false;
    do {
        if (puzzle->len == PUZZLE_NUMBERS || !take_number(&prompt, 3, &puzzle->numbers[puzzle->len++]))
            return false;
    } while (take_char(&prompt, ",", &taken));
    return prompt.len == 0;
}

/* Values stay far below 2^63: at most 15 factors of three digits, cut off at a million. */
static bool parse_chain(struct slice prompt, struct puzzle *puzzle)
{
    const int64_t value_max = 1000000;
    if (!take_number(&prompt, 3, &puzzle->numbers[0]))
        return false;
    puzzle->target = puzzle->numbers[0];
    for (puzzle->len = 1; prompt.len > 0; puzzle->len++) {
        uint32_t i = puzzle->len;
        if (i == PUZZLE_NUMBERS || !take_char(&prompt, "+-*", &puzzle->ops[i]) ||
            !take_number(&prompt, 3, &puzzle->numbers[i]))
            return false;
        puzzle_apply(puzzle->ops[i], puzzle->target, puzzle->numbers[i], &puzzle->target);
        if (puzzle->target > value_max || puzzle->target < -value_max)
            return false;
    }
    return true;
}

static struct slice without_newlines(struct slice text)
{
    while (text.len > 0 && text.data[text.len - 1] == '\n')
        text.len--;
    return text;
}

bool puzzle_parse(struct slice prompt, struct puzzle *puzzle)
{
    char kind;
    *puzzle = (struct puzzle){0};
    prompt = without_newlines(prompt);
    if (!take_char(&prompt, "CA", &kind))
        return false;
    puzzle->kind = kind == 'C' ? PUZZLE_COUNTDOWN : PUZZLE_CHAIN;
    return kind == 'C' ? parse_countdown(prompt, puzzle) : parse_chain(prompt, puzzle);
}

/* One step as it is written. */
struct step {
    int64_t a, b, result;
    char op;
    bool has_rest;
    struct slice rest; /* digits and commas, not empty */
};

static bool step_parse(struct slice line, struct step *step)
{
    char taken;
    if (!take_number(&line, 3, &step->a) || !take_char(&line, "-+*/", &step->op) || !take_number(&line, 3, &step->b) ||
        !take_char(&line, "=", &taken) || !take_number(&line, 3, &step->result))
        return false;
    step->has_rest = take_char(&line, ";", &taken);
    step->rest = line;
    for (size_t i = 0; i < line.len; i++)
        if (line.data[i] != ',' && (line.data[i] < '0' || line.data[i] > '9'))
            return false;
    return step->has_rest == (line.len > 0);
}

static bool step_exact(const struct step *step)
{
    int64_t result;
    return puzzle_apply(step->op, step->a, step->b, &result) && result == step->result;
}

/* Takes one occurrence of value out; the others keep their order. */
static bool left_take(struct puzzle_left *left, int64_t value)
{
    for (uint32_t i = 0; i < left->len; i++)
        if (left->numbers[i] == value) {
            left->len--;
            memmove(&left->numbers[i], &left->numbers[i + 1], (left->len - i) * sizeof left->numbers[0]);
            return true;
        }
    return false;
}

/* Whether rest lists exactly the numbers of left. */
static bool rest_matches(struct slice rest, struct puzzle_left left)
{
    while (rest.len > 0) {
        char taken;
        int64_t value;
        if (take_char(&rest, ",", &taken))
            continue;
        bool padded = rest.len > 1 && rest.data[0] == '0' && rest.data[1] != ',';
        if (padded || !take_number(&rest, 7, &value) || !left_take(&left, value))
            return false;
    }
    return left.len == 0;
}

static bool countdown_step(struct slice line, struct puzzle_left *left)
{
    struct step step;
    if (!step_parse(line, &step) || !left_take(left, step.a) || !left_take(left, step.b) || !step_exact(&step))
        return false;
    left->numbers[left->len++] = step.result;
    if (step.has_rest != (left->len > 1))
        return false;
    return !step.has_rest || rest_matches(step.rest, *left);
}

/* Takes the next line off text; complete: only when it has a newline. */
static bool take_line(struct slice *text, bool complete, struct slice *line)
{
    const char *newline = text->len > 0 ? memchr(text->data, '\n', text->len) : NULL;
    if (newline == NULL && (complete || text->len == 0))
        return false;
    *line = (struct slice){text->data, text->len};
    if (newline != NULL)
        line->len = (size_t)(newline - text->data);
    size_t used = line->len + (newline != NULL);
    text->data += used;
    text->len -= used;
    return true;
}

static bool countdown_lines(const struct puzzle *puzzle, struct slice text, bool complete, struct puzzle_left *left)
{
    struct slice line;
    left->len = puzzle->len;
    memcpy(left->numbers, puzzle->numbers, sizeof left->numbers);
    while (take_line(&text, complete, &line))
        if (!countdown_step(line, left))
            return false;
    return true;
}

static bool value_matches(struct slice digits, int64_t value)
{
    int64_t read;
    bool padded = digits.len > 1 && digits.data[0] == '0';
    return !padded && take_number(&digits, 7, &read) && digits.len == 0 && read == value;
}

/* Nothing behind the line with '#' is looked at. */
static bool chain_lines(const struct puzzle *puzzle, struct slice text)
{
    int64_t value = puzzle->numbers[0];
    uint32_t next = 1;
    for (struct slice line; take_line(&text, true, &line); next++) {
        if (line.len > 0 && line.data[0] == '#')
            return next == puzzle->len && value_matches((struct slice){line.data + 1, line.len - 1}, value);
        struct step step;
        if (next == puzzle->len || !step_parse(line, &step) || !step_exact(&step) || step.a != value ||
            step.op != puzzle->ops[next] || step.b != puzzle->numbers[next])
            return false;
        value = step.result;
    }
    return true;
}

bool puzzle_prefix(const struct puzzle *puzzle, struct slice text, struct puzzle_left *left)
{
    left->len = 0;
    return puzzle->kind == PUZZLE_COUNTDOWN ? countdown_lines(puzzle, text, true, left) : chain_lines(puzzle, text);
}

static bool chain_solved(const struct puzzle *puzzle, struct slice text)
{
    text = without_newlines(text);
    const char *mark = text.len > 0 ? memrchr(text.data, '#', text.len) : NULL;
    if (mark == NULL)
        return false;
    return value_matches((struct slice){mark + 1, text.len - (size_t)(mark + 1 - text.data)}, puzzle->target);
}

bool puzzle_solved(const struct puzzle *puzzle, struct slice text)
{
    if (puzzle->kind == PUZZLE_CHAIN)
        return chain_solved(puzzle, text);
    struct puzzle_left left;
    return countdown_lines(puzzle, text, false, &left) && left.len == 1 && left.numbers[0] == puzzle->target;
}
