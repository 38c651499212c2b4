/* math_value.c - the value of a tree at a point; see math_parts.h.
 *
 * Residues decide identities of rational functions exactly and at once, however large the numbers: two different ones
 * agree at a random point modulo a 61-bit prime with a chance of about degree / 2^61 (Schwartz, Zippel). Everything
 * else is compared in floating point. */
#include "common/rng.h"
#include "verifier/math_parts.h"

#include <math.h>
#include <string.h>

static const uint64_t primes[MATH_PRIMES] = {2305843009213693951u /* 2^61 - 1 */, 2305843009213693921u /* 2^61 - 31 */};

#define PI            3.14159265358979323846264338327950288L
#define EULER         2.71828182845904523536028747135266250L
#define INT_MAX_EXACT 9007199254740992.0L

static uint64_t mul(uint64_t a, uint64_t b, uint64_t p)
{
    return (uint64_t)((unsigned __int128)a * b % p);
}

static uint64_t add(uint64_t a, uint64_t b, uint64_t p)
{
    return (a + b) % p; /* both below 2^61 */
}

static uint64_t power(uint64_t a, uint64_t n, uint64_t p)
{
    uint64_t result = 1;
    for (; n > 0; n >>= 1, a = mul(a, a, p))
        if (n & 1)
            result = mul(result, a, p);
    return result;
}

static uint64_t inverse(uint64_t a, uint64_t p)
{
    return power(a, p - 2, p);
}

static bool is_finite(long double complex z)
{
    return isfinite(creall(z)) && isfinite(cimagl(z));
}

static bool is_real(long double complex z)
{
    return cimagl(z) == 0;
}

/* A number that is known to be this whole number, not only close to it. */
static bool is_whole(const struct value *value, long double *whole)
{
    *whole = creall(value->z);
    if (!value->exact || value->free || !is_real(value->z) || fabsl(*whole) > INT_MAX_EXACT || rintl(*whole) != *whole)
        return false;
    uint64_t size = (uint64_t)fabsl(*whole);
    for (int i = 0; i < MATH_PRIMES; i++)
        if (value->residue[i] != (*whole < 0 ? (primes[i] - size % primes[i]) % primes[i] : size % primes[i]))
            return false;
    return true;
}

static void set_whole(struct value *value, long double whole)
{
    uint64_t size = (uint64_t)fabsl(whole);
    value->z = whole;
    for (int i = 0; i < MATH_PRIMES; i++)
        value->residue[i] = whole < 0 ? (primes[i] - size % primes[i]) % primes[i] : size % primes[i];
}

static void set_inexact(struct value *value, long double complex z)
{
    value->z = z;
    value->exact = false;
}

static uint64_t digits_residue(struct slice digits, uint64_t p)
{
    uint64_t result = 0;
    for (size_t i = 0; i < digits.len; i++)
        result = add(mul(result, 10, p), (uint64_t)(digits.data[i] - '0'), p);
    return result;
}

static long double digits_value(struct slice digits)
{
    long double result = 0;
    for (size_t i = 0; i < digits.len; i++)
        result = result * 10 + (digits.data[i] - '0');
    return result;
}

static uint64_t ten_power(int32_t n, uint64_t p)
{
    return n >= 0 ? power(10, (uint64_t)n, p) : inverse(power(10, (uint64_t)-n, p), p);
}

/* With repeating digits: (all - those before) / (10^(scale - repeat) * (10^repeat - 1)). */
static bool number_value(const struct math_number *number, struct point *point, struct value *value)
{
    struct slice before = {number->digits.data, number->digits.len - number->repeat};
    int32_t shift = number->scale - (int32_t)number->repeat;
    point->decimal |= number->decimal;
    value->exact = true;
    for (int i = 0; i < MATH_PRIMES; i++) {
        uint64_t p = primes[i], over = digits_residue(number->digits, p), under = ten_power(shift, p);
        if (number->repeat > 0) {
            over = add(over, p - digits_residue(before, p), p);
            under = mul(under, add(power(10, number->repeat, p), p - 1, p), p);
        }
        value->residue[i] = mul(over, inverse(under, p), p);
    }
    long double over = digits_value(number->digits);
    if (number->repeat > 0)
        over = (over - digits_value(before)) / (powl(10, number->repeat) - 1);
    value->z = shift >= 0 ? over / powl(10, shift) : over * powl(10, -shift);
    return true;
}

static bool based_value(const struct node *node, struct value *value)
{
    value->exact = true;
    for (int i = 0; i < MATH_PRIMES; i++)
        value->residue[i] = 0;
    long double whole = 0;
    for (size_t k = 0; k < node->number.digits.len; k++) {
        uint64_t digit = (uint64_t)(node->number.digits.data[k] - '0');
        whole = whole * node->code + digit;
        for (int i = 0; i < MATH_PRIMES; i++)
            value->residue[i] = add(mul(value->residue[i], (uint64_t)node->code, primes[i]), digit, primes[i]);
    }
    value->z = whole;
    return true;
}

/* A residue for a symbol, pi or e. */
static void set_symbol(struct value *value, uint64_t seed, uint64_t id)
{
    value->exact = true;
    for (int i = 0; i < MATH_PRIMES; i++)
        value->residue[i] = rng_u64(seed, RNG_VERIFIER, id, (uint64_t)i) % primes[i];
}

/* Real, of either sign, neither small nor large, so that neither sums nor powers lose digits. */
static bool symbol_value(const struct node *node, const struct point *point, struct value *value)
{
    uint64_t bits = rng_u64(point->seed, RNG_VERIFIER, node->id, 17);
    double size = 0.3 + 2.4 * rng_unit(bits);
    value->z = point->side > 0 || (point->side == 0 && (bits & 1) != 0) ? size : -size;
    value->free = true;
    set_symbol(value, point->seed, node->id);
    return true;
}

static bool constant_value(const struct node *node, const struct point *point, struct value *value)
{
    if (node->code == CONSTANT_INFINITY)
        return false;
    set_symbol(value, point->seed, 1000003u + (uint64_t)node->code);
    if (node->code == CONSTANT_I)
        set_inexact(value, I); /* no square root of -1 modulo these primes */
    else
        value->z = node->code == CONSTANT_PI ? PI : EULER;
    return true;
}

static bool grow_scale(struct point *point, long double size)
{
    if (size > point->scale)
        point->scale = size;
    return true;
}

static bool sum_value(const struct value *a, const struct value *b, int sign, struct point *point, struct value *value)
{
    for (int i = 0; i < MATH_PRIMES; i++)
        value->residue[i] = add(a->residue[i], sign > 0 ? b->residue[i] : primes[i] - b->residue[i], primes[i]);
    value->z = sign > 0 ? a->z + b->z : a->z - b->z;
    return grow_scale(point, fmaxl(cabsl(a->z), cabsl(b->z)));
}

static bool quotient_value(const struct value *a, const struct value *b, struct value *value)
{
    for (int i = 0; i < MATH_PRIMES; i++) {
        if (b->residue[i] == 0 && b->exact)
            return false;
        value->residue[i] = mul(a->residue[i], inverse(b->residue[i], primes[i]), primes[i]);
    }
    value->z = a->z / b->z;
    return b->z != 0;
}

static bool power_value(const struct value *a, const struct value *b, struct value *value)
{
    long double n;
    if (is_whole(b, &n)) {
        if (a->z == 0 && n < 0)
            return false;
        for (int i = 0; i < MATH_PRIMES; i++) {
            uint64_t positive = power(a->residue[i], (uint64_t)fabsl(n), primes[i]);
            value->residue[i] = n < 0 ? inverse(positive, primes[i]) : positive;
        }
        value->z = is_real(a->z) ? (long double complex)powl(creall(a->z), n) : cpowl(a->z, n);
        return true;
    }
    bool real = is_real(a->z) && is_real(b->z) && creall(a->z) >= 0;
    set_inexact(value, real ? (long double complex)powl(creall(a->z), creall(b->z)) : cpowl(a->z, b->z));
    return true;
}

/* Odd roots of negative numbers are negative. */
static bool root_value(const struct value *a, const struct value *index, struct value *value)
{
    long double n = index == NULL ? 2 : creall(index->z);
    if (n == 0 || (index != NULL && !is_real(index->z)))
        return false;
    bool odd = rintl(n) == n && fabsl(fmodl(n, 2)) == 1;
    if (is_real(a->z) && n == 2)
        set_inexact(value, csqrtl(a->z));
    else if (is_real(a->z) && creall(a->z) < 0 && odd)
        set_inexact(value, -powl(-creall(a->z), 1 / n));
    else if (is_real(a->z) && creall(a->z) >= 0)
        set_inexact(value, powl(creall(a->z), 1 / n));
    else
        set_inexact(value, cpowl(a->z, 1 / n));
    return true;
}

static bool factorial_value(const struct value *a, struct value *value)
{
    long double n;
    if (!is_whole(a, &n)) {
        set_inexact(value, tgammal(creall(a->z) + 1));
        return is_real(a->z) && creall(a->z) > -1;
    }
    if (n < 0 || n > MATH_FACTORIAL_MAX)
        return false;
    for (int i = 0; i < MATH_PRIMES; i++) {
        value->residue[i] = 1;
        for (uint64_t k = 2; k <= (uint64_t)n; k++)
            value->residue[i] = mul(value->residue[i], k, primes[i]);
    }
    value->z = roundl(tgammal(n + 1));
    return true;
}

static bool binomial_value(const struct value *a, const struct value *b, struct value *value)
{
    long double n, k;
    if (!is_whole(a, &n) || !is_whole(b, &k) || n < 0 || n > MATH_FACTORIAL_MAX || k < 0 || k > n)
        return false;
    for (int i = 0; i < MATH_PRIMES; i++) {
        uint64_t over = 1, under = 1;
        for (uint64_t j = 0; j < (uint64_t)k; j++) {
            over = mul(over, (uint64_t)n - j, primes[i]);
            under = mul(under, j + 1, primes[i]);
        }
        value->residue[i] = mul(over, inverse(under, primes[i]), primes[i]);
    }
    value->z = roundl(expl(lgammal(n + 1) - lgammal(k + 1) - lgammal(n - k + 1)));
    return true;
}

/* The absolute value of an exact number is exact; its sign is that of its approximation. */
static bool abs_value(const struct value *a, struct value *value)
{
    value->exact = a->exact && !a->free && is_real(a->z) && is_finite(a->z);
    for (int i = 0; i < MATH_PRIMES; i++)
        value->residue[i] = creall(a->z) < 0 ? (primes[i] - a->residue[i]) % primes[i] : a->residue[i];
    value->z = cabsl(a->z);
    return true;
}

static bool rounded_value(const struct value *a, enum math_function function, struct value *value)
{
    long double whole = function == FUNCTION_FLOOR ? floorl(creall(a->z)) : ceill(creall(a->z));
    value->exact = !a->free && is_real(a->z) && fabsl(whole) < INT_MAX_EXACT;
    value->z = whole;
    if (value->exact)
        set_whole(value, whole);
    return is_real(a->z);
}

static long double complex apply(enum math_function function, long double complex z)
{
    bool real = is_real(z);
    long double x = creall(z);
    switch (function) {
    case FUNCTION_SIN:
        return csinl(z);
    case FUNCTION_COS:
        return ccosl(z);
    case FUNCTION_TAN:
        return ctanl(z);
    case FUNCTION_COT:
        return 1 / ctanl(z);
    case FUNCTION_SEC:
        return 1 / ccosl(z);
    case FUNCTION_CSC:
        return 1 / csinl(z);
    case FUNCTION_ASIN:
        return real && fabsl(x) <= 1 ? (long double complex)asinl(x) : casinl(z);
    case FUNCTION_ACOS:
        return real && fabsl(x) <= 1 ? (long double complex)acosl(x) : cacosl(z);
    case FUNCTION_ATAN:
        return real ? (long double complex)atanl(x) : catanl(z);
    case FUNCTION_SINH:
        return csinhl(z);
    case FUNCTION_COSH:
        return ccoshl(z);
    case FUNCTION_TANH:
        return ctanhl(z);
    case FUNCTION_LN:
        return real && x > 0 ? (long double complex)logl(x) : clogl(z);
    case FUNCTION_LOG:
        return (real && x > 0 ? (long double complex)logl(x) : clogl(z)) / logl(10);
    case FUNCTION_EXP:
        return real ? (long double complex)expl(x) : cexpl(z);
    case FUNCTION_ABS:
    case FUNCTION_FLOOR:
    case FUNCTION_CEIL:
        break;
    }
    return NAN;
}

static bool function_value(const struct node *node, const struct value *a, const struct value *base,
                           struct point *point, struct value *value)
{
    enum math_function function = (enum math_function)node->code;
    if (function == FUNCTION_ABS)
        return abs_value(a, value);
    if (function == FUNCTION_FLOOR || function == FUNCTION_CEIL)
        return rounded_value(a, function, value);
    grow_scale(point, 1);
    set_inexact(value, apply(function, a->z));
    if (base != NULL)
        value->z = apply(FUNCTION_LN, a->z) / apply(FUNCTION_LN, base->z);
    return true;
}

/* Degrees as a multiple of pi, percent of a hundred. */
static bool suffix_value(const struct node *node, const struct value *a, const struct point *point, struct value *value)
{
    const struct node pi = {.kind = NODE_CONSTANT, .code = CONSTANT_PI};
    struct value factor = {.exact = true}, share = {.exact = true};
    set_whole(&factor, 1);
    if (node->kind == NODE_DEGREE)
        constant_value(&pi, point, &factor);
    set_whole(&share, node->kind == NODE_DEGREE ? 180 : 100);
    struct value product = value_product(a, &factor);
    bool free = value->free;
    *value = product;
    value->free = free;
    return quotient_value(&product, &share, value);
}

static bool operation_value(const struct node *node, const struct value *a, const struct value *b, struct point *point,
                            struct value *value)
{
    switch (node->kind) {
    case NODE_ADD:
        return sum_value(a, b, 1, point, value);
    case NODE_SUB:
        return sum_value(a, b, -1, point, value);
    case NODE_PM:
        return sum_value(a, b, node->code * point->sign, point, value);
    case NODE_NEG:
        return sum_value(&(struct value){.exact = true}, a, -1, point, value);
    case NODE_MUL:
        *value = value_product(a, b);
        return true;
    case NODE_DIV:
        return quotient_value(a, b, value);
    case NODE_POW:
        return power_value(a, b, value);
    case NODE_ROOT:
        return root_value(a, b, value);
    case NODE_BINOM:
        return binomial_value(a, b, value);
    case NODE_FACTORIAL:
        return factorial_value(a, value);
    case NODE_FUNCTION:
        return function_value(node, a, b, point, value);
    case NODE_DEGREE:
    case NODE_PERCENT:
        return suffix_value(node, a, point, value);
    case NODE_UNIT:
        *value = *a;
        return true;
    case NODE_NUMBER:
    case NODE_BASED:
    case NODE_SYMBOL:
    case NODE_CONSTANT:
    case NODE_TEXT:
    case NODE_TUPLE:
    case NODE_SET:
    case NODE_LIST:
    case NODE_UNION:
    case NODE_MATRIX:
    case NODE_RELATION:
        return false;
    }
    return false;
}

static bool leaf_value(const struct node *node, struct point *point, struct value *value)
{
    if (node->kind == NODE_NUMBER)
        return number_value(&node->number, point, value);
    if (node->kind == NODE_BASED)
        return based_value(node, value);
    if (node->kind == NODE_SYMBOL)
        return symbol_value(node, point, value);
    return node->kind == NODE_CONSTANT && constant_value(node, point, value);
}

static int64_t cost(const struct node *node)
{
    if (node->kind == NODE_FACTORIAL || node->kind == NODE_BINOM)
        return MATH_FACTORIAL_MAX;
    return node->kind <= NODE_BASED ? 10 + (int64_t)node->number.digits.len : 50;
}

bool value_of(const struct node *node, struct point *point, struct value *value)
{
    struct value a = {.exact = true}, b = {.exact = true};
    *value = (struct value){.exact = false};
    if ((*point->budget -= cost(node)) < 0)
        return false;
    if (node->kind <= NODE_CONSTANT)
        return leaf_value(node, point, value) && (!value->exact || is_finite(value->z) || node->kind <= NODE_BASED);
    if (node->kind >= NODE_TEXT || (node->first != NULL && !value_of(node->first, point, &a)) ||
        (node->second != NULL && !value_of(node->second, point, &b)))
        return false;
    value->exact = a.exact && b.exact;
    value->free = a.free || b.free;
    bool has_second = node->second != NULL || node->kind == NODE_PM;
    bool good = operation_value(node, &a, has_second ? &b : NULL, point, value);
    /* An overflow is no value, unless the residues know it. */
    return good && (value->exact || is_finite(value->z));
}

bool value_equal(const struct value *a, const struct value *b)
{
    return memcmp(a->residue, b->residue, sizeof a->residue) == 0;
}

struct value value_product(const struct value *a, const struct value *b)
{
    struct value product = {.z = a->z * b->z, .exact = a->exact && b->exact, .free = a->free || b->free};
    for (int i = 0; i < MATH_PRIMES; i++)
        product.residue[i] = mul(a->residue[i], b->residue[i], primes[i]);
    return product;
}

struct value value_difference(const struct value *a, const struct value *b)
{
    struct value difference = {.z = a->z - b->z, .exact = a->exact && b->exact, .free = a->free || b->free};
    for (int i = 0; i < MATH_PRIMES; i++)
        difference.residue[i] = add(a->residue[i], primes[i] - b->residue[i], primes[i]);
    return difference;
}
