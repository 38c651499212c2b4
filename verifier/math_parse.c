/* math_parse.c - tokens to a tree; see math_parts.h.
 *
 *   answer   = relation {("," | ";" | and | or) relation}
 *   relation = union {("=" | "<" | ...) union}
 *   union    = ratio {cup ratio}
 *   ratio    = sum [":" sum]
 *   sum      = product {("+" | "-" | pm) product} [unit]
 *   product  = unary {["*" | "/"] unary}
 *   unary    = ("-" | "+" | pm) unary | primary {"!" | "%" | degree | "^" exponent}
 */
#include "common/hash.h"
#include "verifier/math_parts.h"

#include <stdlib.h>
#include <string.h>

struct parser {
    struct tree *tree;
    const struct token *at;
    int depth;
    int bars; /* open | of absolute values */
    bool failed;
};

static const struct node *parse_relation(struct parser *p);
static const struct node *parse_sum(struct parser *p);
static const struct node *parse_product(struct parser *p);
static const struct node *parse_unary(struct parser *p);
static const struct node *parse_primary(struct parser *p);

/* What stands for a node after a failure: callers need no checks in between. */
static const struct node nothing = {.kind = NODE_TEXT};

static const struct node *fail(struct parser *p)
{
    p->failed = true;
    return &nothing;
}

static struct node *make(struct parser *p, enum node_kind kind)
{
    struct tree *tree = p->tree;
    if (tree->len == tree->cap) {
        p->failed = true;
        return &tree->nodes[tree->cap]; /* one more, for what nobody will look at */
    }
    struct node *node = &tree->nodes[tree->len++];
    *node = (struct node){.kind = kind};
    return node;
}

static const struct node *make_pair(struct parser *p, enum node_kind kind, const struct node *first,
                                    const struct node *second)
{
    struct node *node = make(p, kind);
    node->first = first;
    node->second = second;
    return node;
}

static bool is(const struct parser *p, int code)
{
    return p->at->kind == TOKEN_CODE && p->at->code == code;
}

static bool accept(struct parser *p, int code)
{
    bool there = is(p, code) && !p->failed;
    p->at += there;
    return there;
}

static void expect(struct parser *p, int code)
{
    if (!accept(p, code))
        p->failed = true;
}

static void append(struct parser *p, struct node *list, struct node **last, const struct node *item);

/* A matrix times a number, item by item; anything else as it is. */
static const struct node *combine(struct parser *p, enum node_kind kind, const struct node *a, const struct node *b)
{
    bool left = a->kind == NODE_MATRIX, right = b->kind == NODE_MATRIX && kind == NODE_MUL;
    if (left == right || p->failed)
        return make_pair(p, kind, a, b);
    const struct node *old = left ? a : b;
    struct node *matrix = make(p, NODE_MATRIX), *last = NULL;
    matrix->code = old->code;
    for (const struct node *item = old->first; item != NULL && !p->failed; item = item->next)
        append(p, matrix, &last, left ? make_pair(p, kind, item, b) : make_pair(p, kind, a, item));
    return matrix;
}

/* A minus before a degree sign or percent sign is inside of it, so that the sign stays outermost. */
static const struct node *negate(struct parser *p, const struct node *node)
{
    if (node->kind == NODE_MATRIX) {
        struct node *one = make(p, NODE_NUMBER);
        one->number.digits = slice_of("1");
        return combine(p, NODE_MUL, node, make_pair(p, NODE_NEG, one, NULL));
    }
    if (node->kind != NODE_DEGREE && node->kind != NODE_PERCENT)
        return make_pair(p, NODE_NEG, node, NULL);
    return make_pair(p, node->kind, make_pair(p, NODE_NEG, node->first, NULL), NULL);
}

/* Appends to the items of a list, set, tuple or matrix. A node may be an item of one only: it is copied. */
static void append(struct parser *p, struct node *list, struct node **last, const struct node *item)
{
    struct node *copy = make(p, item->kind);
    *copy = *item;
    copy->next = NULL;
    if (*last == NULL)
        list->first = copy;
    else
        (*last)->next = copy;
    *last = copy;
    if (++list->len > MATH_ITEMS_MAX)
        p->failed = true;
}

static bool separator(struct parser *p)
{
    bool found = false;
    while (accept(p, ',') || accept(p, ';') || accept(p, CODE_AND) || accept(p, CODE_OR))
        found = true;
    return found;
}

/* Items up to what closes them, or the end. *separated: there was some separator. */
static struct node *parse_items(struct parser *p, enum node_kind kind, bool *separated)
{
    struct node *list = make(p, kind), *last = NULL;
    *separated = false;
    do {
        append(p, list, &last, parse_relation(p));
        if (!separator(p))
            break;
        *separated = true;
    } while (!p->failed);
    return list;
}

/* Behind an opening bracket. One thing in round or square brackets is a group, more are a tuple. */
static const struct node *parse_bracket(struct parser *p, int open)
{
    bool separated;
    struct node *tuple = parse_items(p, NODE_TUPLE, &separated);
    int close = p->at->kind == TOKEN_CODE ? p->at->code : 0;
    if (close != ')' && close != ']')
        return fail(p);
    p->at++;
    tuple->code = open << 8 | close;
    bool group = !separated && (open == '(') == (close == ')');
    return group ? tuple->first : tuple;
}

static const struct node *parse_angle(struct parser *p)
{
    bool separated;
    struct node *tuple = parse_items(p, NODE_TUPLE, &separated);
    expect(p, CODE_ANGLE_CLOSE);
    tuple->code = '(' << 8 | ')';
    return tuple;
}

/* Braces of LaTeX only group; with commas inside people mean a set. */
static const struct node *parse_braces(struct parser *p, int close)
{
    bool separated;
    if (accept(p, close)) {
        if (close == '}')
            return fail(p);
        return make(p, NODE_SET);
    }
    struct node *set = parse_items(p, NODE_SET, &separated);
    expect(p, close);
    return close == '}' && !separated ? set->first : set;
}

static const struct node *parse_matrix(struct parser *p)
{
    struct node *matrix = make(p, NODE_MATRIX), *last = NULL;
    int columns = 0;
    while (!p->failed && !accept(p, CODE_END)) {
        int row = 0;
        do {
            append(p, matrix, &last, parse_relation(p));
            row++;
        } while (accept(p, '&'));
        if (columns != 0 && row != columns)
            return fail(p);
        columns = row;
        if (!accept(p, CODE_ROW) && !is(p, CODE_END))
            return fail(p);
    }
    matrix->code = columns;
    return columns > 0 ? matrix : fail(p);
}

/* What \frac, \sqrt and \binom take: a group, or one thing. */
static const struct node *parse_argument(struct parser *p)
{
    if (!accept(p, '{'))
        return parse_primary(p);
    const struct node *node = parse_sum(p);
    expect(p, '}');
    return node;
}

static const struct node *parse_fraction(struct parser *p)
{
    const struct node *over = parse_argument(p);
    return make_pair(p, NODE_DIV, over, parse_argument(p));
}

static const struct node *parse_root(struct parser *p)
{
    const struct node *index = NULL;
    if (accept(p, '[')) {
        index = parse_sum(p);
        expect(p, ']');
    }
    return make_pair(p, NODE_ROOT, parse_argument(p), index);
}

static const struct node *parse_exponent(struct parser *p)
{
    if (accept(p, '{')) {
        const struct node *node = parse_sum(p);
        expect(p, '}');
        return node;
    }
    if (is(p, '-') || is(p, '+'))
        return parse_unary(p);
    const struct node *node = parse_primary(p);
    if (accept(p, '^'))
        node = make_pair(p, NODE_POW, node, parse_exponent(p));
    return node;
}

static bool starts_simple(const struct parser *p)
{
    return p->at->kind == TOKEN_NUMBER || p->at->kind == TOKEN_SYMBOL || p->at->kind == TOKEN_CONSTANT ||
           is(p, CODE_FRAC) || is(p, CODE_SQRT);
}

static const struct node *parse_postfix(struct parser *p, const struct node *node);

/* sin 2x takes both factors, sin x cos x only one, sin(x) y only the bracket. */
static const struct node *parse_function_argument(struct parser *p)
{
    if (is(p, '(') || is(p, '[') || is(p, '{') || is(p, '|'))
        return parse_primary(p);
    if (accept(p, '-'))
        return negate(p, parse_function_argument(p));
    if (p->at->kind == TOKEN_FUNCTION)
        return parse_unary(p);
    if (!starts_simple(p))
        return fail(p);
    const struct node *node = parse_postfix(p, parse_primary(p));
    while (!p->failed && (starts_simple(p) || accept(p, '*')))
        node = make_pair(p, NODE_MUL, node, parse_postfix(p, parse_primary(p)));
    return node;
}

static bool is_minus_one(const struct node *node)
{
    return node->kind == NODE_NEG && node->first->kind == NODE_NUMBER && node->first->number.scale == 0 &&
           node->first->number.digits.len == 1 && node->first->number.digits.data[0] == '1';
}

static const struct node *parse_function(struct parser *p)
{
    struct node *node = make(p, NODE_FUNCTION);
    const struct node *power = NULL;
    node->code = p->at++->code;
    if (node->code == FUNCTION_LOG && accept(p, '_'))
        node->second = parse_argument(p);
    if (accept(p, '^'))
        power = parse_exponent(p);
    if (power != NULL && is_minus_one(power) && node->code <= FUNCTION_TAN) {
        node->code += FUNCTION_ASIN - FUNCTION_SIN;
        power = NULL;
    }
    if (++p->depth > MATH_DEPTH_MAX)
        return fail(p);
    node->first = parse_function_argument(p);
    p->depth--;
    return power == NULL ? node : make_pair(p, NODE_POW, node, power);
}

/* Letters, digits and signs of a subscript make another symbol. */
static uint64_t parse_subscript(struct parser *p, uint64_t id)
{
    int depth = 0;
    do {
        if (p->at->kind == TOKEN_END || is(p, ',')) {
            p->failed = true;
            return id;
        }
        if (is(p, '{') || is(p, '}')) {
            depth += is(p, '{') ? 1 : -1;
        } else {
            const struct slice text = p->at->kind == TOKEN_NUMBER ? p->at->number.digits : p->at->text;
            id = hash_more(id, &p->at->code, sizeof p->at->code);
            id = hash_more(id, text.data, text.len);
        }
        p->at++;
    } while (depth > 0);
    return id;
}

static const struct node *parse_symbol(struct parser *p)
{
    struct node *node = make(p, NODE_SYMBOL);
    node->id = hash_bytes(p->at->text.data, p->at->text.len);
    p->at++;
    if (accept(p, '_'))
        node->id = parse_subscript(p, node->id);
    return node;
}

static bool whole(const struct node *node)
{
    return node->kind == NODE_NUMBER && !node->number.decimal && node->number.scale == 0;
}

static struct node *number_node(struct parser *p)
{
    struct node *node = make(p, NODE_NUMBER);
    node->number = p->at++->number;
    return node;
}

/* 12_3 is a number in base 3. */
static const struct node *parse_based(struct parser *p, struct node *number)
{
    const struct node *base = parse_argument(p);
    if (!whole(number) || !whole(base) || base->number.digits.len > 2)
        return fail(p);
    number->kind = NODE_BASED;
    for (size_t i = 0; i < base->number.digits.len; i++)
        number->code = number->code * 10 + (base->number.digits.data[i] - '0');
    for (size_t i = 0; i < number->number.digits.len; i++)
        if (number->number.digits.data[i] - '0' >= number->code)
            return fail(p);
    return number;
}

/* 1\frac{4}{5} and 1 4/5 are sums. */
static const struct node *parse_number(struct parser *p)
{
    struct node *number = number_node(p);
    if (accept(p, '_'))
        return parse_based(p, number);
    if (!whole(number))
        return number;
    if (accept(p, CODE_FRAC)) {
        const struct node *fraction = parse_fraction(p);
        bool mixed = whole(fraction->first) && whole(fraction->second);
        return make_pair(p, mixed ? NODE_ADD : NODE_MUL, number, fraction);
    }
    bool slash = p->at[0].kind == TOKEN_NUMBER && p->at[0].spaced && p->at[1].kind == TOKEN_CODE &&
                 p->at[1].code == '/' && p->at[2].kind == TOKEN_NUMBER;
    if (!slash)
        return number;
    const struct node *over = number_node(p);
    p->at++;
    const struct node *under = number_node(p);
    return make_pair(p, NODE_ADD, number, make_pair(p, NODE_DIV, over, under));
}

static const struct node *parse_bars(struct parser *p)
{
    p->bars++;
    struct node *node = make(p, NODE_FUNCTION);
    node->code = FUNCTION_ABS;
    node->first = parse_sum(p);
    p->bars--;
    expect(p, '|');
    return node;
}

static const struct node *parse_rounding(struct parser *p, enum math_function function, int close)
{
    struct node *node = make(p, NODE_FUNCTION);
    node->code = (int)function;
    node->first = parse_sum(p);
    expect(p, close);
    return node;
}

/* Every real number: the interval from -oo to oo. */
static const struct node *make_reals(struct parser *p)
{
    struct node *tuple = make(p, NODE_TUPLE), *last = NULL;
    struct node *infinity = make(p, NODE_CONSTANT);
    infinity->code = CONSTANT_INFINITY;
    tuple->code = '(' << 8 | ')';
    append(p, tuple, &last, make_pair(p, NODE_NEG, infinity, NULL));
    append(p, tuple, &last, infinity);
    return tuple;
}

static const struct node *parse_text(struct parser *p)
{
    struct node *node = make(p, NODE_TEXT);
    node->from = (uint32_t)(p->at - p->tree->tokens.at);
    while (p->at->kind == TOKEN_WORD)
        p->at++;
    node->to = (uint32_t)(p->at - p->tree->tokens.at);
    return node;
}

static const struct node *parse_code(struct parser *p)
{
    int code = p->at->code;
    p->at++;
    switch (code) {
    case '(':
    case '[':
        return parse_bracket(p, code);
    case '{':
        return parse_braces(p, '}');
    case '|':
        return parse_bars(p);
    case CODE_SET_OPEN:
        return parse_braces(p, CODE_SET_CLOSE);
    case CODE_ANGLE_OPEN:
        return parse_angle(p);
    case CODE_FRAC:
        return parse_fraction(p);
    case CODE_SQRT:
        return parse_root(p);
    case CODE_BINOM: {
        const struct node *over = parse_argument(p);
        return make_pair(p, NODE_BINOM, over, parse_argument(p));
    }
    case CODE_BEGIN:
        return parse_matrix(p);
    case CODE_FLOOR_OPEN:
        return parse_rounding(p, FUNCTION_FLOOR, CODE_FLOOR_CLOSE);
    case CODE_CEIL_OPEN:
        return parse_rounding(p, FUNCTION_CEIL, CODE_CEIL_CLOSE);
    case CODE_EMPTY_SET:
        return make(p, NODE_SET);
    case CODE_REALS:
        return make_reals(p);
    default:
        return fail(p);
    }
}

static const struct node *parse_atom(struct parser *p)
{
    struct node *constant;
    switch (p->at->kind) {
    case TOKEN_NUMBER:
        return parse_number(p);
    case TOKEN_SYMBOL:
        return parse_symbol(p);
    case TOKEN_CONSTANT:
        constant = make(p, NODE_CONSTANT);
        constant->code = p->at++->code;
        return constant;
    case TOKEN_FUNCTION:
        return parse_function(p);
    case TOKEN_WORD:
        return parse_text(p);
    case TOKEN_CODE:
        return parse_code(p);
    case TOKEN_END:
        return fail(p);
    }
    return fail(p);
}

static const struct node *parse_primary(struct parser *p)
{
    if (p->failed || ++p->depth > MATH_DEPTH_MAX)
        return fail(p);
    const struct node *node = parse_atom(p);
    p->depth--;
    return node;
}

static bool accept_degree(struct parser *p)
{
    if (accept(p, CODE_DEGREE))
        return true;
    if (!is(p, '^'))
        return false;
    bool braces = p->at[1].kind == TOKEN_CODE && p->at[1].code == '{';
    const struct token *sign = p->at + 1 + braces; /* there is an end token, so this exists */
    if (sign->kind != TOKEN_CODE || sign->code != CODE_DEGREE)
        return false;
    p->at = sign + 1;
    if (braces)
        expect(p, '}');
    return true;
}

static const struct node *parse_postfix(struct parser *p, const struct node *node)
{
    while (!p->failed) {
        if (accept_degree(p))
            node = make_pair(p, NODE_DEGREE, node, NULL);
        else if (accept(p, '!') && !is(p, '!'))
            node = make_pair(p, NODE_FACTORIAL, node, NULL);
        else if (accept(p, '%'))
            node = make_pair(p, NODE_PERCENT, node, NULL);
        else if (accept(p, '^'))
            node = make_pair(p, NODE_POW, node, parse_exponent(p));
        else
            break;
    }
    return node;
}

/* At a plus-minus sign; left is NULL when nothing stands before it. */
static const struct node *parse_pm(struct parser *p, const struct node *left)
{
    int sign = p->at++->code == CODE_PM ? 1 : -1;
    const struct node *right = left == NULL ? parse_unary(p) : parse_product(p);
    struct node *node = make(p, NODE_PM);
    node->code = sign;
    node->first = left;
    node->second = right;
    return node;
}

static const struct node *parse_unary(struct parser *p)
{
    if (p->failed || ++p->depth > MATH_DEPTH_MAX)
        return fail(p);
    const struct node *node;
    if (accept(p, '-')) {
        node = negate(p, parse_unary(p));
    } else if (accept(p, '+')) {
        node = parse_unary(p);
    } else if (is(p, CODE_PM) || is(p, CODE_MP)) {
        node = parse_pm(p, NULL);
    } else {
        node = parse_postfix(p, parse_primary(p));
    }
    p->depth--;
    return node;
}

/* Two things side by side are multiplied, except two numbers, and words. */
static bool starts_factor(const struct parser *p, bool after_number)
{
    if (p->at->kind == TOKEN_NUMBER)
        return !after_number;
    if (p->at->kind == TOKEN_FUNCTION)
        return true;
    return starts_simple(p) || is(p, '(') || is(p, '[') || is(p, '{') || is(p, CODE_BINOM) || is(p, CODE_FLOOR_OPEN) ||
           is(p, CODE_CEIL_OPEN) || is(p, CODE_BEGIN) || (is(p, '|') && p->bars == 0);
}

static const struct node *parse_product(struct parser *p)
{
    const struct node *node = parse_unary(p);
    while (!p->failed) {
        bool after_number = p->at > p->tree->tokens.at && p->at[-1].kind == TOKEN_NUMBER;
        if (accept(p, '*'))
            node = combine(p, NODE_MUL, node, parse_unary(p));
        else if (is(p, '/') && p->at[1].kind != TOKEN_WORD && accept(p, '/'))
            node = combine(p, NODE_DIV, node, parse_unary(p));
        else if (node->kind != NODE_TEXT && starts_factor(p, after_number))
            node = combine(p, NODE_MUL, node, parse_unary(p));
        else
            break;
    }
    return node;
}

static bool word_is(const struct token *token, const char *a, const char *b, const char *c)
{
    const char *const words[] = {a, b, c};
    for (int i = 0; i < 3 && token->kind == TOKEN_WORD; i++)
        if (strlen(words[i]) == token->text.len && memcmp(words[i], token->text.data, token->text.len) == 0)
            return true;
    return false;
}

/* The words behind a quantity, with what stands between them: m/s, cm^2, inches^{2}. */
static const struct node *parse_unit(struct parser *p, const struct node *node)
{
    struct node *unit = make(p, NODE_UNIT);
    const struct token *start = p->at;
    while (p->at->kind == TOKEN_WORD || is(p, '/')) {
        if (word_is(p->at, "not", "wrong", "incorrect"))
            return fail(p); /* 5 is not the answer */
        p->at++;
        if (!is(p, '^'))
            continue;
        bool braces = p->at[1].kind == TOKEN_CODE && p->at[1].code == '{';
        p->at += 1 + braces;
        if (p->at->kind != TOKEN_NUMBER)
            return fail(p);
        p->at++;
        if (braces)
            expect(p, '}');
    }
    unit->from = (uint32_t)(start - p->tree->tokens.at);
    unit->to = (uint32_t)(p->at - p->tree->tokens.at);
    unit->first = node;
    return unit;
}

/* Degrees and percent are what their signs are. */
static const struct node *parse_suffix(struct parser *p, const struct node *node)
{
    if (node->kind == NODE_TEXT)
        return node;
    bool last = p->at->kind == TOKEN_WORD && p->at[1].kind != TOKEN_WORD;
    if (last && (word_is(p->at, "degrees", "degree", "deg") || word_is(p->at, "percent", "percents", "pct"))) {
        bool degree = p->at->text.data[0] == 'd';
        p->at++;
        return make_pair(p, degree ? NODE_DEGREE : NODE_PERCENT, node, NULL);
    }
    bool rate = is(p, '/') && p->at[1].kind == TOKEN_WORD;
    return p->at->kind == TOKEN_WORD || rate ? parse_unit(p, node) : node;
}

static const struct node *make_dollars(struct parser *p, const struct node *node, const struct token *sign)
{
    struct node *unit = make(p, NODE_UNIT);
    unit->from = (uint32_t)(sign - p->tree->tokens.at);
    unit->to = unit->from + 1;
    unit->first = node;
    return unit;
}

static const struct node *parse_sum(struct parser *p)
{
    const struct token *dollar = is(p, CODE_DOLLAR) ? p->at++ : NULL;
    bool minus = dollar == NULL && is(p, '-') && p->at[1].kind == TOKEN_CODE && p->at[1].code == CODE_DOLLAR;
    if (minus) {
        dollar = p->at + 1;
        p->at += 2;
    }
    const struct node *node = parse_product(p);
    if (minus)
        node = negate(p, node);
    while (!p->failed) {
        if (accept(p, '+'))
            node = make_pair(p, NODE_ADD, node, parse_product(p));
        else if (accept(p, '-'))
            node = make_pair(p, NODE_SUB, node, parse_product(p));
        else if (is(p, CODE_PM) || is(p, CODE_MP))
            node = parse_pm(p, node);
        else
            break;
    }
    node = parse_suffix(p, node);
    if (dollar == NULL && is(p, CODE_DOLLAR))
        dollar = p->at++;
    return dollar == NULL ? node : make_dollars(p, node, dollar);
}

static const struct node *parse_union(struct parser *p)
{
    const struct node *first = parse_sum(p);
    if (accept(p, ':'))
        first = make_pair(p, NODE_DIV, first, parse_sum(p));
    if (!is(p, CODE_CUP))
        return first;
    struct node *list = make(p, NODE_UNION), *last = NULL;
    append(p, list, &last, first);
    while (accept(p, CODE_CUP))
        append(p, list, &last, parse_sum(p));
    return list;
}

static bool is_relation(const struct parser *p)
{
    return is(p, '=') || is(p, '<') || is(p, '>') || is(p, CODE_LE) || is(p, CODE_GE) || is(p, CODE_NE) ||
           is(p, CODE_IN);
}

/* a < b < c is a relation whose second operand is a relation. */
static const struct node *parse_relation(struct parser *p)
{
    if (p->failed || ++p->depth > MATH_DEPTH_MAX)
        return fail(p);
    const struct node *left = parse_union(p);
    if (is_relation(p)) {
        struct node *relation = make(p, NODE_RELATION);
        relation->code = p->at++->code;
        relation->first = left;
        relation->second = parse_relation(p);
        left = relation;
    }
    p->depth--;
    return left;
}

static const struct node *parse_list(struct parser *p)
{
    bool separated;
    const struct node *list = parse_items(p, NODE_LIST, &separated);
    return separated ? list : list->first;
}

bool tree_read(struct slice text, struct tree *tree)
{
    *tree = (struct tree){.len = 0};
    if (!tokens_read(text, &tree->tokens))
        return false;
    tree->cap = 8 * tree->tokens.len < MATH_NODES_MAX ? 8 * tree->tokens.len + 8 : MATH_NODES_MAX;
    tree->nodes = xalloc((tree->cap + 1) * sizeof *tree->nodes);
    struct parser parser = {.tree = tree, .at = tree->tokens.at};
    tree->root = parse_list(&parser);
    return !parser.failed && parser.at->kind == TOKEN_END;
}

void tree_clear(struct tree *tree)
{
    tokens_clear(&tree->tokens);
    free(tree->nodes);
    *tree = (struct tree){.len = 0};
}
