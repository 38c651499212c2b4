/* math_parts.h - what the files of math.h share: tokens, nodes, units, values.
 *
 * A text becomes tokens (math_lex.c), these a tree in one arena (math_parse.c), and a tree can be evaluated at a point
 * (math_value.c). Everything is bounded: bytes, tokens, nodes, depth, items, and each number that costs time. */
#ifndef DROVER_MATH_PARTS_H
#define DROVER_MATH_PARTS_H

#include "common/buf.h"

#include <complex.h>
#include <stdbool.h>
#include <stdint.h>

#define MATH_BYTES_MAX     4096 /* of an answer */
#define MATH_TOKENS_MAX    2048
#define MATH_NODES_MAX     1024
#define MATH_DEPTH_MAX     48
#define MATH_ITEMS_MAX     64   /* of a list, set, tuple or matrix */
#define MATH_FACTORIAL_MAX 1000 /* beyond it nothing is computed */

/* Punctuation is its own character; these are the rest. */
enum math_code {
    CODE_SET_OPEN = 256, /* \{ */
    CODE_SET_CLOSE,
    CODE_PM,
    CODE_MP,
    CODE_LE,
    CODE_GE,
    CODE_NE,
    CODE_IN,
    CODE_CUP,
    CODE_CAP,
    CODE_MINUS_SET,
    CODE_FRAC,
    CODE_SQRT,
    CODE_BINOM,
    CODE_ROW, /* \\ */
    CODE_BEGIN,
    CODE_END,
    CODE_DEGREE,
    CODE_DOLLAR,
    CODE_FLOOR_OPEN,
    CODE_FLOOR_CLOSE,
    CODE_CEIL_OPEN,
    CODE_CEIL_CLOSE,
    CODE_ANGLE_OPEN,
    CODE_ANGLE_CLOSE,
    CODE_EMPTY_SET,
    CODE_REALS,
    CODE_AND, /* separates like a comma */
    CODE_OR,
};

enum math_constant { CONSTANT_PI, CONSTANT_E, CONSTANT_I, CONSTANT_INFINITY };

enum math_function {
    FUNCTION_SIN,
    FUNCTION_COS,
    FUNCTION_TAN,
    FUNCTION_COT,
    FUNCTION_SEC,
    FUNCTION_CSC,
    FUNCTION_ASIN,
    FUNCTION_ACOS,
    FUNCTION_ATAN,
    FUNCTION_SINH,
    FUNCTION_COSH,
    FUNCTION_TANH,
    FUNCTION_LN,
    FUNCTION_LOG,
    FUNCTION_EXP,
    FUNCTION_ABS,
    FUNCTION_FLOOR,
    FUNCTION_CEIL,
};

/* Digits with their point taken out: value = digits / 10^scale. The last `repeat` of them repeat for ever. */
struct math_number {
    struct slice digits;
    int32_t scale;
    uint32_t repeat;
    bool decimal; /* written with a point or an exponent: perhaps rounded */
};

enum token_kind { TOKEN_END, TOKEN_CODE, TOKEN_NUMBER, TOKEN_SYMBOL, TOKEN_CONSTANT, TOKEN_FUNCTION, TOKEN_WORD };

struct token {
    enum token_kind kind;
    int code;          /* character or math_code; constant; function */
    bool spaced;       /* white space stands before it */
    struct slice text; /* of a symbol or word */
    struct math_number number;
};

struct tokens {
    struct token *at; /* TOKEN_END behind the last */
    uint32_t len, cap;
    struct buf text;   /* of the ASCII form that tokens borrow from */
    struct buf digits; /* of numbers; reserved at once, so that slices stay */
};

/* False when there is something that is no mathematics. Clear in either case. */
bool tokens_read(struct slice text, struct tokens *tokens);
void tokens_clear(struct tokens *tokens);

/* The text itself, without what only sets type: \text{}, \left, $, spaces that mean nothing, stops at the end. */
void math_plain(struct slice text, struct buf *out);

enum node_kind {
    NODE_NUMBER,
    NODE_BASED,    /* number with a base in `code`: 12_3 */
    NODE_SYMBOL,   /* id: hash of its name and subscript */
    NODE_CONSTANT, /* code: math_constant */
    NODE_ADD,      /* these two to four have operands */
    NODE_SUB,
    NODE_MUL,
    NODE_DIV,
    NODE_POW,
    NODE_NEG,
    NODE_PM, /* second operand added or, with `code` -1, subtracted where the sign of the item is + */
    NODE_ROOT,
    NODE_BINOM,
    NODE_FUNCTION, /* second operand: base of a logarithm */
    NODE_FACTORIAL,
    NODE_DEGREE,
    NODE_PERCENT,
    NODE_UNIT, /* of the tokens [from, to) */
    NODE_TEXT,
    NODE_TUPLE, /* code: open << 8 | close */
    NODE_SET,
    NODE_LIST,
    NODE_UNION,
    NODE_MATRIX,   /* code: columns */
    NODE_RELATION, /* code: = < > or of math_code; two operands */
};

struct node {
    enum node_kind kind;
    int code;
    uint64_t id;
    uint32_t from, to;
    struct math_number number;
    const struct node *first, *second; /* first: of items too, which go on with next */
    const struct node *next;
    uint32_t len; /* items */
};

struct tree {
    struct tokens tokens;
    struct node *nodes;
    uint32_t len, cap;
    const struct node *root;
};

bool tree_read(struct slice text, struct tree *tree);
void tree_clear(struct tree *tree);

/* A dimension per kind of quantity, and how many of the base unit. */
enum dimension { DIMENSION_LENGTH, DIMENSION_MASS, DIMENSION_TIME, DIMENSION_MONEY, DIMENSIONS };

struct unit {
    int exponent[DIMENSIONS];
    double factor;
    uint64_t words[8]; /* hashes of words that are no unit of the table: 5 apples */
    uint32_t words_len;
};

bool unit_word(struct slice word); /* may follow a number without being taken for variables */
void unit_read(const struct token *tokens, uint32_t len, struct unit *unit);
bool unit_known(const struct unit *unit);

#define MATH_PRIMES 2

/* A value twice: as a complex number, and, if exact, as a rational function of symbols, pi and e modulo two primes,
 * where equality means identity whatever the size of the numbers. */
struct value {
    long double complex z;
    uint64_t residue[MATH_PRIMES];
    bool exact;
    bool free; /* depends on a symbol */
};

struct point {
    uint64_t seed;   /* of this point: gives each symbol its value */
    int sign;        /* of plus-minus */
    int side;        /* of zero on which symbols lie: +1, -1, or 0, each where the seed says */
    int64_t *budget; /* of the whole comparison, in steps of some ten ns: nothing has a value once it is used up */

    long double scale; /* out: largest number that was added up, for what cancels */
    bool decimal;      /* out: some number was written with a point */
};

/* False where it has no value: a division by zero, a number too large, the budget used up. */
bool value_of(const struct node *node, struct point *point, struct value *value);
bool value_equal(const struct value *a, const struct value *b); /* residues */
struct value value_product(const struct value *a, const struct value *b);
struct value value_difference(const struct value *a, const struct value *b);

#endif
