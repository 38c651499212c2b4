/* math_lex.c - answers to tokens: LaTeX, Unicode and plain text become one alphabet; see math_parts.h. */
#include "verifier/math_parts.h"

#include <stdlib.h>
#include <string.h>

#define SCALE_MAX    5000
#define TOKENS_AHEAD 4 /* end tokens, as far as the parser looks ahead */

/* Characters beyond ASCII, and what LaTeX or plain text would write. */
static const char *const unicode[][2] = {
    {"−", "-"},
    {"–", "-"},
    {"—", "-"},
    {"×", "\\times "},
    {"·", "\\cdot "},
    {"⋅", "\\cdot "},
    {"∙", "\\cdot "},
    {"÷", "/"},
    {"⁄", "/"},
    {"±", "\\pm "},
    {"∓", "\\mp "},
    {"≤", "\\le "},
    {"≥", "\\ge "},
    {"≠", "\\ne "},
    {"≈", "="},
    {"∈", "\\in "},
    {"∪", "\\cup "},
    {"∩", "\\cap "},
    {"∅", "\\emptyset "},
    {"ℝ", "\\mathbb{R}"},
    {"∞", "\\infty "},
    {"π", "\\pi "},
    {"√", "\\sqrt "},
    {"°", "^\\circ "},
    {"θ", "\\theta "},
    {"α", "\\alpha "},
    {"β", "\\beta "},
    {"γ", "\\gamma "},
    {"λ", "\\lambda "},
    {"φ", "\\phi "},
    {"²", "^2"},
    {"³", "^3"},
    {"⁴", "^4"},
    {"⁵", "^5"},
    {"⁶", "^6"},
    {"½", "\\frac{1}{2}"},
    {"¼", "\\frac{1}{4}"},
    {"¾", "\\frac{3}{4}"},
    {"⅓", "\\frac{1}{3}"},
    {"⅔", "\\frac{2}{3}"},
    {"₀", "_0"},
    {"₁", "_1"},
    {"₂", "_2"},
    {"₃", "_3"},
    {"₄", "_4"},
    {"₅", "_5"},
    {"₆", "_6"},
    {"₇", "_7"},
    {"₈", "_8"},
    {"₉", "_9"},
    {"⟨", "\\langle "},
    {"⟩", "\\rangle "},
    {"\xC2\xA0", " "},
    {"’", "'"},
    {"⌊", "\\lfloor "},
    {"⌋", "\\rfloor "},
    {"⌈", "\\lceil "},
    {"⌉", "\\rceil "},
    {"\xE2\x80\x89", " "},
    {"\xE2\x80\xAF", " "},
};

enum command_kind {
    COMMAND_SKIP,
    COMMAND_ACCENT,
    COMMAND_CODE,
    COMMAND_CONSTANT,
    COMMAND_FUNCTION,
    COMMAND_SYMBOL,
    COMMAND_TEXT
};

struct command {
    const char *name;
    enum command_kind kind;
    int code;
};

static const struct command commands[] = {
    {"left", COMMAND_SKIP, 0},
    {"right", COMMAND_SKIP, 0},
    {"big", COMMAND_SKIP, 0},
    {"Big", COMMAND_SKIP, 0},
    {"bigl", COMMAND_SKIP, 0},
    {"underline", COMMAND_SKIP, 0},
    {"bigr", COMMAND_SKIP, 0},
    {"Bigl", COMMAND_SKIP, 0},
    {"Bigr", COMMAND_SKIP, 0},
    {"bigg", COMMAND_SKIP, 0},
    {"Bigg", COMMAND_SKIP, 0},
    {"displaystyle", COMMAND_SKIP, 0},
    {"textstyle", COMMAND_SKIP, 0},
    {"quad", COMMAND_SKIP, 0},
    {"qquad", COMMAND_SKIP, 0},
    {"boxed", COMMAND_SKIP, 0},
    {"fbox", COMMAND_SKIP, 0},
    {"limits", COMMAND_SKIP, 0},
    {"overline", COMMAND_ACCENT, 0},
    {"vec", COMMAND_ACCENT, 0},
    {"hat", COMMAND_ACCENT, 0},
    {"bar", COMMAND_ACCENT, 0},
    {"angle", COMMAND_ACCENT, 0},
    {"mathit", COMMAND_SKIP, 0},
    {"boldsymbol", COMMAND_SKIP, 0},
    {"ensuremath", COMMAND_SKIP, 0},
    {"thinspace", COMMAND_SKIP, 0},
    {"frac", COMMAND_CODE, CODE_FRAC},
    {"dfrac", COMMAND_CODE, CODE_FRAC},
    {"tfrac", COMMAND_CODE, CODE_FRAC},
    {"cfrac", COMMAND_CODE, CODE_FRAC},
    {"sqrt", COMMAND_CODE, CODE_SQRT},
    {"binom", COMMAND_CODE, CODE_BINOM},
    {"dbinom", COMMAND_CODE, CODE_BINOM},
    {"tbinom", COMMAND_CODE, CODE_BINOM},
    {"cdot", COMMAND_CODE, '*'},
    {"times", COMMAND_CODE, '*'},
    {"ast", COMMAND_CODE, '*'},
    {"div", COMMAND_CODE, '/'},
    {"pm", COMMAND_CODE, CODE_PM},
    {"mp", COMMAND_CODE, CODE_MP},
    {"le", COMMAND_CODE, CODE_LE},
    {"leq", COMMAND_CODE, CODE_LE},
    {"leqslant", COMMAND_CODE, CODE_LE},
    {"ge", COMMAND_CODE, CODE_GE},
    {"geq", COMMAND_CODE, CODE_GE},
    {"geqslant", COMMAND_CODE, CODE_GE},
    {"lt", COMMAND_CODE, '<'},
    {"gt", COMMAND_CODE, '>'},
    {"ne", COMMAND_CODE, CODE_NE},
    {"neq", COMMAND_CODE, CODE_NE},
    {"approx", COMMAND_CODE, '='},
    {"in", COMMAND_CODE, CODE_IN},
    {"cup", COMMAND_CODE, CODE_CUP},
    {"cap", COMMAND_CODE, CODE_CAP},
    {"setminus", COMMAND_CODE, CODE_MINUS_SET},
    {"backslash", COMMAND_CODE, CODE_MINUS_SET},
    {"lfloor", COMMAND_CODE, CODE_FLOOR_OPEN},
    {"rfloor", COMMAND_CODE, CODE_FLOOR_CLOSE},
    {"lceil", COMMAND_CODE, CODE_CEIL_OPEN},
    {"rceil", COMMAND_CODE, CODE_CEIL_CLOSE},
    {"langle", COMMAND_CODE, CODE_ANGLE_OPEN},
    {"rangle", COMMAND_CODE, CODE_ANGLE_CLOSE},
    {"lbrace", COMMAND_CODE, CODE_SET_OPEN},
    {"rbrace", COMMAND_CODE, CODE_SET_CLOSE},
    {"lvert", COMMAND_CODE, '|'},
    {"rvert", COMMAND_CODE, '|'},
    {"vert", COMMAND_CODE, '|'},
    {"mid", COMMAND_CODE, '|'},
    {"colon", COMMAND_CODE, ':'},
    {"begin", COMMAND_CODE, CODE_BEGIN},
    {"end", COMMAND_CODE, CODE_END},
    {"circ", COMMAND_CODE, CODE_DEGREE},
    {"degree", COMMAND_CODE, CODE_DEGREE},
    {"emptyset", COMMAND_CODE, CODE_EMPTY_SET},
    {"varnothing", COMMAND_CODE, CODE_EMPTY_SET},
    {"pi", COMMAND_CONSTANT, CONSTANT_PI},
    {"infty", COMMAND_CONSTANT, CONSTANT_INFINITY},
    {"sin", COMMAND_FUNCTION, FUNCTION_SIN},
    {"cos", COMMAND_FUNCTION, FUNCTION_COS},
    {"tan", COMMAND_FUNCTION, FUNCTION_TAN},
    {"cot", COMMAND_FUNCTION, FUNCTION_COT},
    {"sec", COMMAND_FUNCTION, FUNCTION_SEC},
    {"csc", COMMAND_FUNCTION, FUNCTION_CSC},
    {"arcsin", COMMAND_FUNCTION, FUNCTION_ASIN},
    {"arccos", COMMAND_FUNCTION, FUNCTION_ACOS},
    {"arctan", COMMAND_FUNCTION, FUNCTION_ATAN},
    {"sinh", COMMAND_FUNCTION, FUNCTION_SINH},
    {"cosh", COMMAND_FUNCTION, FUNCTION_COSH},
    {"tanh", COMMAND_FUNCTION, FUNCTION_TANH},
    {"ln", COMMAND_FUNCTION, FUNCTION_LN},
    {"log", COMMAND_FUNCTION, FUNCTION_LOG},
    {"exp", COMMAND_FUNCTION, FUNCTION_EXP},
    {"text", COMMAND_TEXT, 0},
    {"textbf", COMMAND_TEXT, 0},
    {"textit", COMMAND_TEXT, 0},
    {"textrm", COMMAND_TEXT, 0},
    {"mbox", COMMAND_TEXT, 0},
    {"hbox", COMMAND_TEXT, 0},
    {"mathrm", COMMAND_TEXT, 1},
    {"mathbf", COMMAND_TEXT, 1},
    {"mathsf", COMMAND_TEXT, 1},
    {"operatorname", COMMAND_TEXT, 1},
};

static const char greek[] =
    " alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi "
    "rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi "
    "Omega ell ";

/* Plain words that are more than words. */
static const struct command names[] = {
    {"pi", COMMAND_CONSTANT, CONSTANT_PI},
    {"inf", COMMAND_CONSTANT, CONSTANT_INFINITY},
    {"infty", COMMAND_CONSTANT, CONSTANT_INFINITY},
    {"infinity", COMMAND_CONSTANT, CONSTANT_INFINITY},
    {"oo", COMMAND_CONSTANT, CONSTANT_INFINITY},
    {"sqrt", COMMAND_CODE, CODE_SQRT},
    {"and", COMMAND_CODE, CODE_AND},
    {"or", COMMAND_CODE, CODE_OR},
    {"union", COMMAND_CODE, CODE_CUP},
    {"abs", COMMAND_FUNCTION, FUNCTION_ABS},
    {"asin", COMMAND_FUNCTION, FUNCTION_ASIN},
    {"acos", COMMAND_FUNCTION, FUNCTION_ACOS},
    {"atan", COMMAND_FUNCTION, FUNCTION_ATAN},
    {"floor", COMMAND_FUNCTION, FUNCTION_FLOOR},
    {"ceil", COMMAND_FUNCTION, FUNCTION_CEIL},
};

struct lexer {
    const char *at, *end;
    struct tokens *tokens;
    int brackets;          /* open ones: a comma inside separates */
    bool lists;            /* some comma has a space behind it: those without may group digits */
    bool dollars;          /* dollars come in pairs: they delimit mathematics */
    bool words;            /* inside \text */
    bool spaced;           /* white space before what comes */
    const char *ungrouped; /* the run of digits and commas up to here is a list */
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80) != 0;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool names_it(struct slice text, const char *name)
{
    return strlen(name) == text.len && memcmp(name, text.data, text.len) == 0;
}

static const struct command *find(const struct command *rows, size_t len, struct slice name)
{
    for (size_t i = 0; i < len; i++)
        if (names_it(name, rows[i].name))
            return &rows[i];
    return NULL;
}

static bool starts(const struct lexer *lexer, const char *text)
{
    size_t len = strlen(text);
    return (size_t)(lexer->end - lexer->at) >= len && memcmp(lexer->at, text, len) == 0;
}

static struct token *push(struct lexer *lexer, enum token_kind kind, int code)
{
    struct tokens *tokens = lexer->tokens;
    struct token *token = &tokens->at[tokens->len];
    tokens->len += tokens->len < tokens->cap; /* full is an error later */
    *token = (struct token){.kind = kind, .code = code, .spaced = lexer->spaced};
    lexer->spaced = false;
    if (kind == TOKEN_CODE)
        lexer->brackets += (code == '(' || code == '[' || code == CODE_SET_OPEN) -
                           (code == ')' || code == ']' || code == CODE_SET_CLOSE);
    return token;
}

/* The separator of digit groups at `at`, three digits behind it: 10,000 10{,}000 10,\!000 10\,000 10 000. *plain: one
 * that could also separate the items of a list. Returns where the digits begin, or NULL. */
static const char *group_next(const struct lexer *lexer, const char *at, bool *plain)
{
    static const char *const marks[] = {"{,}", ",\\!", "\\,", "\\ ", ",", " "};
    size_t left = (size_t)(lexer->end - at), i = 0;
    while (i < 6 && (left < strlen(marks[i]) || memcmp(at, marks[i], strlen(marks[i])) != 0))
        i++;
    if (i == 6 || (i == 5 && lexer->brackets > 0))
        return NULL;
    *plain |= i == 4;
    at += strlen(marks[i]);
    while (i == 1 && at < lexer->end && is_space(*at))
        at++;
    return lexer->end - at >= 3 && is_digit(at[0]) && is_digit(at[1]) && is_digit(at[2]) &&
                   (lexer->end - at == 3 || !is_digit(at[3]))
               ? at
               : NULL;
}

/* How far the digit groups go that begin with [at, end): to `end` when there is one only. A run of digits and commas is
 * either a number as a whole or a list. */
static const char *groups_end(struct lexer *lexer, const char *at, const char *end)
{
    bool plain = false;
    const char *last = end, *next;
    while (end - at <= 3 && (next = group_next(lexer, last, &plain)) != NULL)
        last = next + 3;
    bool more = last + 1 < lexer->end && last[0] == ',' && is_digit(last[1]);
    if (!more && !(plain && lexer->brackets > 0 && !lexer->lists))
        return last;
    while (last < lexer->end && (is_digit(*last) || *last == ','))
        last++;
    lexer->ungrouped = last;
    return end;
}

static const char *digits_copy(struct lexer *lexer, const char *at, const char *end)
{
    for (; at < end; at++)
        if (is_digit(*at))
            buf_put(&lexer->tokens->digits, at, 1);
    return end;
}

static const char *digits_end(const struct lexer *lexer, const char *at)
{
    while (at < lexer->end && is_digit(*at))
        at++;
    return at;
}

/* ".25", ".\overline{3}", ".1\overline{6}" behind the whole part. */
static void read_decimals(struct lexer *lexer, struct math_number *number)
{
    static const char bar[] = "\\overline{";
    const char *end = digits_end(lexer, lexer->at + 1), *open = end + sizeof bar - 1;
    bool repeats = lexer->end - end > (ptrdiff_t)sizeof bar && memcmp(end, bar, sizeof bar - 1) == 0;
    const char *close = repeats ? digits_end(lexer, open) : NULL;
    repeats = repeats && close > open && close < lexer->end && *close == '}';
    if (end == lexer->at + 1 && !repeats)
        return;
    number->scale = (int32_t)(end - lexer->at - 1);
    number->decimal = !repeats;
    lexer->at = digits_copy(lexer, lexer->at, end);
    if (!repeats)
        return;
    number->repeat = (uint32_t)(close - open);
    number->scale += (int32_t)number->repeat;
    digits_copy(lexer, open, close);
    lexer->at = close + 1;
}

/* "e-5" behind a number. */
static void read_exponent(struct lexer *lexer, struct math_number *number)
{
    const char *at = lexer->at;
    if (at >= lexer->end || (*at != 'e' && *at != 'E') || number->repeat > 0)
        return;
    bool negative = ++at < lexer->end && *at == '-';
    at += at < lexer->end && (*at == '-' || *at == '+');
    const char *end = digits_end(lexer, at);
    if (end == at)
        return;
    int32_t value = 0;
    for (; at < end; at++)
        value = value > SCALE_MAX ? value : value * 10 + (*at - '0');
    number->scale += negative ? value : -value;
    number->decimal = true;
    lexer->at = end;
}

static bool read_number(struct lexer *lexer, bool one_digit)
{
    struct math_number number = {.scale = 0};
    size_t start = lexer->tokens->digits.len;
    const char *end = one_digit ? lexer->at + 1 : digits_end(lexer, lexer->at);
    if (!one_digit && end > lexer->at && lexer->at >= lexer->ungrouped)
        end = groups_end(lexer, lexer->at, end);
    lexer->at = digits_copy(lexer, lexer->at, end);
    if (!one_digit && lexer->at < lexer->end && *lexer->at == '.')
        read_decimals(lexer, &number);
    if (!one_digit)
        read_exponent(lexer, &number);
    if (abs(number.scale) > SCALE_MAX)
        return false;
    number.digits = (struct slice){lexer->tokens->digits.data + start, lexer->tokens->digits.len - start};
    while (number.digits.len > 1 && number.digits.data[0] == '0' && number.repeat == 0) {
        number.digits.data++;
        number.digits.len--;
    }
    push(lexer, TOKEN_NUMBER, 0)->number = number;
    return true;
}

/* \frac12 and \frac 1{2}: a digit is an argument by itself. */
static bool read_single_digits(struct lexer *lexer)
{
    for (int i = 0; i < 2; i++) {
        while (lexer->at < lexer->end && is_space(*lexer->at))
            lexer->at++;
        if (lexer->at == lexer->end || !is_digit(*lexer->at))
            return true;
        if (!read_number(lexer, true))
            return false;
    }
    return true;
}

static void push_command(struct lexer *lexer, const struct command *command)
{
    static const enum token_kind kinds[] = {
        [COMMAND_CODE] = TOKEN_CODE, [COMMAND_CONSTANT] = TOKEN_CONSTANT, [COMMAND_FUNCTION] = TOKEN_FUNCTION};
    push(lexer, kinds[command->kind], command->code);
}

static void push_letter(struct lexer *lexer, const char *at, size_t len)
{
    if (len == 1 && (*at == 'e' || *at == 'i'))
        push(lexer, TOKEN_CONSTANT, *at == 'e' ? CONSTANT_E : CONSTANT_I);
    else
        push(lexer, TOKEN_SYMBOL, 0)->text = (struct slice){at, len};
}

static bool after_quantity(const struct lexer *lexer)
{
    if (lexer->tokens->len == 0)
        return false;
    const struct token *last = &lexer->tokens->at[lexer->tokens->len - 1];
    return last->kind == TOKEN_NUMBER || last->kind == TOKEN_CONSTANT ||
           (last->kind == TOKEN_CODE && (last->code == '}' || last->code == ')'));
}

/* A run of letters outside of \text: a name, a word of four or more, or variables side by side. */
static void push_letters(struct lexer *lexer, struct slice run, bool ascii)
{
    const struct command *command = find(names, sizeof names / sizeof names[0], run);
    if (command == NULL)
        command = find(commands, sizeof commands / sizeof commands[0], run);
    bool function = command != NULL && command->kind == COMMAND_FUNCTION;
    bool name = command >= names && command < names + sizeof names / sizeof names[0];
    struct slice head = {run.data, run.len - 1};
    const struct command *prefix = find(commands, sizeof commands / sizeof commands[0], head);
    if (name || function) {
        push_command(lexer, command);
    } else if (!ascii || run.len > 3 || (after_quantity(lexer) && unit_word(run))) {
        if (ascii && run.len <= 5 && prefix != NULL && prefix->kind == COMMAND_FUNCTION && !unit_word(run)) {
            push_command(lexer, prefix); /* sinx */
            push_letter(lexer, run.data + run.len - 1, 1);
        } else {
            push(lexer, TOKEN_WORD, 0)->text = run;
        }
    } else if (run.len == 3 && prefix != NULL && prefix->kind == COMMAND_FUNCTION) {
        push_command(lexer, prefix); /* lnx */
        push_letter(lexer, run.data + 2, 1);
    } else {
        for (size_t i = 0; i < run.len; i++)
            push_letter(lexer, run.data + i, 1);
    }
}

static void read_letters(struct lexer *lexer)
{
    struct slice run = {lexer->at, 0};
    bool ascii = true;
    for (; lexer->at < lexer->end && is_letter(*lexer->at); lexer->at++)
        ascii &= (*lexer->at & 0x80) == 0;
    if (lexer->at < lexer->end && *lexer->at == '\'' && lexer->at == run.data + 1) {
        lexer->at++; /* f' is another symbol than f */
        push(lexer, TOKEN_SYMBOL, 0)->text = (struct slice){run.data, 2};
        return;
    }
    run.len = (size_t)(lexer->at - run.data);
    if (!lexer->words)
        push_letters(lexer, run, ascii);
    else if (names_it(run, "and") || names_it(run, "or"))
        push(lexer, TOKEN_CODE, names_it(run, "or") ? CODE_OR : CODE_AND);
    else
        push(lexer, TOKEN_WORD, 0)->text = run;
}

static bool read_all(struct lexer *lexer);

/* The group behind \text, of words; behind \mathrm and the like a single letter is a variable. */
static bool read_words(struct lexer *lexer, bool mathematics)
{
    while (lexer->at < lexer->end && is_space(*lexer->at))
        lexer->at++;
    if (lexer->at == lexer->end || *lexer->at != '{' || lexer->words)
        return false;
    const char *close = lexer->at + 1;
    for (int depth = 1; close < lexer->end; close++) {
        depth += (*close == '{') - (*close == '}');
        if (depth == 0)
            break;
    }
    if (close == lexer->end)
        return false;
    struct lexer inner = *lexer;
    inner.at++;
    inner.end = close;
    inner.words = !mathematics;
    lexer->at = close + 1;
    bool good;
    struct slice name = {inner.at, (size_t)(close - inner.at)};
    if (mathematics && name.len > 1 && find(commands, sizeof commands / sizeof commands[0], name) == NULL &&
        find(names, sizeof names / sizeof names[0], name) == NULL)
        inner.words = true;
    good = read_all(&inner);
    lexer->brackets = inner.brackets;
    lexer->spaced = false;
    return good;
}

/* \mathbb{R} is the only set with a name here. */
static bool read_blackboard(struct lexer *lexer)
{
    if (!starts(lexer, "{R}") && !starts(lexer, "R"))
        return false;
    lexer->at += *lexer->at == '{' ? 3 : 1;
    push(lexer, TOKEN_CODE, CODE_REALS);
    return true;
}

static bool read_named(struct lexer *lexer, struct slice name)
{
    char padded[24];
    if (names_it(name, "mathbb"))
        return read_blackboard(lexer);
    const struct command *command = find(commands, sizeof commands / sizeof commands[0], name);
    if (command == NULL) {
        if (name.len + 2 >= sizeof padded)
            return false;
        padded[0] = ' ';
        memcpy(padded + 1, name.data, name.len);
        memcpy(padded + 1 + name.len, " ", 2);
        if (strstr(greek, padded) == NULL)
            return false;
        push_letter(lexer, name.data, name.len);
        return true;
    }
    if (command->kind == COMMAND_SKIP || command->kind == COMMAND_ACCENT)
        return true;
    if (command->kind == COMMAND_TEXT)
        return read_words(lexer, command->code == 1);
    push_command(lexer, command);
    return command->code != CODE_FRAC || command->kind != COMMAND_CODE || read_single_digits(lexer);
}

/* The name of an environment: all of them are matrices here. */
static bool read_environment(struct lexer *lexer)
{
    const char *close = lexer->at < lexer->end ? memchr(lexer->at, '}', (size_t)(lexer->end - lexer->at)) : NULL;
    if (close == NULL || *lexer->at != '{')
        return false;
    struct slice name = {lexer->at + 1, (size_t)(close - lexer->at) - 1};
    lexer->at = close + 1;
    if (names_it(name, "array") && starts(lexer, "{")) {
        close = memchr(lexer->at, '}', (size_t)(lexer->end - lexer->at));
        lexer->at = close == NULL ? lexer->end : close + 1;
    }
    return names_it(name, "array") || (name.len >= 6 && memcmp(name.data + name.len - 6, "matrix", 6) == 0);
}

static bool read_command(struct lexer *lexer)
{
    static const struct {
        char c;
        int code; /* 0: space */
    } signs[] = {{'{', CODE_SET_OPEN},
                 {'}', CODE_SET_CLOSE},
                 {'$', CODE_DOLLAR},
                 {'%', '%'},
                 {'\\', CODE_ROW},
                 {'|', '|'},
                 {',', 0},
                 {'!', 0},
                 {';', 0},
                 {':', 0},
                 {' ', 0},
                 {'(', 0},
                 {')', 0},
                 {'[', 0},
                 {']', 0},
                 {'&', '&'},
                 {'\n', 0},
                 {'>', 0}};
    struct slice name = {++lexer->at, 0};
    while (lexer->at < lexer->end && is_letter(*lexer->at) && (*lexer->at & 0x80) == 0)
        lexer->at++;
    name.len = (size_t)(lexer->at - name.data);
    if (name.len > 0) {
        bool good = read_named(lexer, name);
        bool environment = names_it(name, "begin") || names_it(name, "end");
        return good && (!environment || read_environment(lexer));
    }
    if (lexer->at == lexer->end)
        return false;
    char c = *lexer->at++;
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (signs[i].c == c) {
            if (signs[i].code != 0)
                push(lexer, TOKEN_CODE, signs[i].code);
            else
                lexer->spaced = true;
            return true;
        }
    return false;
}

static bool read_sign(struct lexer *lexer)
{
    static const struct {
        const char *text;
        int code;
    } signs[] = {{"**", '^'}, {"<=", CODE_LE}, {">=", CODE_GE}, {"!=", CODE_NE}, {"==", '='}, {"+/-", CODE_PM}};
    static const char single[] = "+-*/^_()[]{}|,;:=<>!&%";
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (starts(lexer, signs[i].text)) {
            lexer->at += strlen(signs[i].text);
            push(lexer, TOKEN_CODE, signs[i].code);
            return true;
        }
    char c = *lexer->at++;
    if (c == '$') {
        if (!lexer->dollars)
            push(lexer, TOKEN_CODE, CODE_DOLLAR);
        return true;
    }
    if (c == '~' || is_space(c) || (lexer->words && (c == '.' || c == '\''))) {
        lexer->spaced = true;
        return true;
    }
    if (strchr(single, c) == NULL || c == '\0')
        return false;
    push(lexer, TOKEN_CODE, c);
    return true;
}

static bool read_all(struct lexer *lexer)
{
    bool good = true;
    while (good && lexer->at < lexer->end && lexer->tokens->len < lexer->tokens->cap) {
        bool point = *lexer->at == '.' && lexer->end - lexer->at > 1 && is_digit(lexer->at[1]);
        if (is_digit(*lexer->at) || (point && !lexer->words))
            good = read_number(lexer, false);
        else if (is_letter(*lexer->at))
            read_letters(lexer);
        else if (*lexer->at == '\\')
            good = read_command(lexer);
        else
            good = read_sign(lexer);
    }
    return good && lexer->at == lexer->end;
}

static void to_ascii(struct slice text, struct buf *out)
{
    for (size_t at = 0; at < text.len;) {
        size_t i = 0, rows = sizeof unicode / sizeof unicode[0], len = 0;
        for (; (text.data[at] & 0x80) != 0 && i < rows; i++) {
            len = strlen(unicode[i][0]);
            if (text.len - at >= len && memcmp(text.data + at, unicode[i][0], len) == 0)
                break;
        }
        if ((text.data[at] & 0x80) != 0 && i < rows) {
            buf_puts(out, unicode[i][1]);
            at += len;
        } else {
            buf_put(out, text.data + at++, 1);
        }
    }
}

static bool is_stop(char c)
{
    return c == '.' || c == ',' || c == ';';
}

static struct slice without_ends(struct slice text)
{
    while (text.len > 0 && (is_space(text.data[text.len - 1]) || is_stop(text.data[text.len - 1])))
        text.len--;
    while (text.len > 0 && is_space(text.data[0])) {
        text.data++;
        text.len--;
    }
    return text;
}

bool tokens_read(struct slice text, struct tokens *tokens)
{
    *tokens = (struct tokens){.len = 0};
    if (text.len == 0 || text.len > MATH_BYTES_MAX || memchr(text.data, '\0', text.len) != NULL)
        return false;
    to_ascii(text, &tokens->text);
    struct slice ascii = without_ends(buf_slice(&tokens->text));
    tokens->cap = ascii.len < MATH_TOKENS_MAX ? (uint32_t)ascii.len + 1 : MATH_TOKENS_MAX; /* no byte makes two */
    tokens->at = xalloc((tokens->cap + TOKENS_AHEAD) * sizeof *tokens->at);
    buf_grow(&tokens->digits, ascii.len + 1);
    struct lexer lexer = {.at = ascii.data, .end = ascii.data + ascii.len, .tokens = tokens, .ungrouped = ascii.data};
    size_t dollars = 0;
    for (size_t i = 0; i < ascii.len; i++) {
        dollars += ascii.data[i] == '$' && (i == 0 || ascii.data[i - 1] != '\\');
        lexer.lists |= ascii.data[i] == ',' && i + 1 < ascii.len && is_space(ascii.data[i + 1]);
    }
    lexer.dollars = dollars % 2 == 0;
    bool good = ascii.len > 0 && read_all(&lexer) && tokens->len < tokens->cap;
    tokens->at[tokens->len] = (struct token){.kind = TOKEN_END};
    return good && tokens->len > 0;
}

void tokens_clear(struct tokens *tokens)
{
    free(tokens->at);
    buf_clear(&tokens->text);
    buf_clear(&tokens->digits);
    *tokens = (struct tokens){.len = 0};
}

static bool is_word(char c)
{
    return is_letter(c) || is_digit(c);
}

/* Writes the text of an answer with as little of its typesetting as can be without changing what it says. */
struct plain {
    struct slice text;
    size_t at;
    struct buf *out;
    int depth;
    uint64_t dropped; /* bit per depth: the braces were of a command that is left out */
    bool space;       /* some was there before what comes */
};

/* Between words, and behind a comma, where it tells a list from digit groups; nowhere else. */
static void plain_put(struct plain *plain, const char *data, size_t len)
{
    char before = plain->out->len > 0 ? plain->out->data[plain->out->len - 1] : '\0';
    if (plain->space && ((is_word(before) && is_word(*data)) || before == ','))
        buf_puts(plain->out, " ");
    plain->space = false;
    buf_put(plain->out, data, len);
}

static void plain_open(struct plain *plain, bool drop)
{
    plain->depth++;
    if (plain->depth < 64)
        plain->dropped = (plain->dropped & ~(UINT64_C(1) << plain->depth)) | (uint64_t)drop << plain->depth;
    if (!drop || plain->depth >= 64)
        plain_put(plain, "{", 1);
}

static void plain_close(struct plain *plain)
{
    bool dropped = plain->depth > 0 && plain->depth < 64 && (plain->dropped >> plain->depth & 1) != 0;
    if (!dropped)
        plain_put(plain, "}", 1);
    plain->depth -= plain->depth > 0;
}

/* At a backslash. Names are kept, commands that only set type are not. */
static void plain_command(struct plain *plain)
{
    struct slice text = plain->text, name = {text.data + plain->at + 1, 0};
    while (plain->at + 1 + name.len < text.len && is_letter(name.data[name.len]))
        name.len++;
    char sign = plain->at + 1 < text.len ? *name.data : '\0';
    const struct command *command = find(commands, sizeof commands / sizeof commands[0], name);
    bool drop = command != NULL && (command->kind == COMMAND_TEXT || command->kind == COMMAND_SKIP);
    if (name.len > 0) {
        plain->space |= drop && command->kind == COMMAND_TEXT && plain->at > 0 && is_space(text.data[plain->at - 1]);
        if (!drop)
            plain_put(plain, name.data - 1, name.len + 1);
        plain->at += 1 + name.len;
        if (drop && plain->at < text.len && text.data[plain->at] == '{') {
            plain_open(plain, true);
            plain->at++;
        }
        return;
    }
    bool spacing = sign != '\0' && strchr(",!;: ()[]", sign) != NULL;
    if (!spacing && sign != '\0')
        plain_put(plain, name.data - 1, 2);
    plain->space |= spacing && sign != '!';
    plain->at += sign == '\0' ? 1 : 2;
}

/* ^{n} is ^n. */
static bool plain_single(struct plain *plain)
{
    struct slice rest = {plain->text.data + plain->at, plain->text.len - plain->at};
    const struct buf *out = plain->out;
    bool raised = out->len > 0 && (out->data[out->len - 1] == '^' || out->data[out->len - 1] == '_');
    if (!raised || rest.len < 3 || rest.data[2] != '}' || !is_word(rest.data[1]))
        return false;
    plain_put(plain, rest.data + 1, 1);
    plain->at += 3;
    return true;
}

void math_plain(struct slice text, struct buf *out)
{
    buf_reset(out);
    struct plain plain = {.text = without_ends(text), .out = out};
    if (plain.text.len == 0)
        return;
    while (plain.at < plain.text.len) {
        const char *c = plain.text.data + plain.at;
        if (*c == '\\') {
            plain_command(&plain);
            continue;
        }
        if (*c == '{' && plain_single(&plain))
            continue;
        plain.at++;
        if (is_space(*c) || *c == '~')
            plain.space = true;
        else if (*c == '{')
            plain_open(&plain, false);
        else if (*c == '}')
            plain_close(&plain);
        else if (*c != '$')
            plain_put(&plain, c, 1);
    }
    while (out->len > 0 && is_stop(out->data[out->len - 1]))
        out->len--;
}
