/* math.c - whether two answers are the same; see math.h.
 *
 * The text decides first, then the kind of thing (number, tuple, set, relation), then values. */
#include "verifier/math.h"
#include "common/hash.h"
#include "common/rng.h"
#include "verifier/math_parts.h"

#include <math.h>
#include <string.h>

#define POINTS     8 /* at which algebra is evaluated */
#define STEPS_MAX  4000000
#define ROUNDING   1e-12L /* of values without a decimal point: what long double arithmetic may lose */
#define CANCELLING 1e-15L /* of the largest number on the way */

struct comparison {
    struct math_rule rule;
    int64_t budget;
};

/* A node, in which plus-minus has a sign (0: not chosen yet). */
struct item {
    const struct tree *tree;
    const struct node *node;
    int sign;
};

static enum math_relation compare(struct comparison *c, struct item truth, struct item given);

static enum math_relation relation_of(bool equal)
{
    return equal ? MATH_EQUAL : MATH_DIFFERENT;
}

static struct item part(struct item item, const struct node *node)
{
    return (struct item){item.tree, node, item.sign};
}

static bool has_items(const struct node *node)
{
    return node->kind == NODE_TUPLE || node->kind == NODE_SET || node->kind == NODE_LIST || node->kind == NODE_UNION ||
           node->kind == NODE_MATRIX;
}

static bool is_vector(const struct node *node)
{
    return node->kind == NODE_TUPLE || node->kind == NODE_MATRIX;
}

static bool has_kind(const struct node *node, enum node_kind kind)
{
    if (node == NULL)
        return false;
    if (node->kind == kind)
        return true;
    if (!has_items(node))
        return has_kind(node->first, kind) || has_kind(node->second, kind);
    for (const struct node *item = node->first; item != NULL; item = item->next)
        if (has_kind(item, kind))
            return true;
    return false;
}

/* Numbers and algebra. */

static bool close_to(const struct comparison *c, const struct value *a, const struct value *b, const struct point *p,
                     const struct point *q)
{
    long double difference = cabsl(a->z - b->z), size = fmaxl(cabsl(a->z), cabsl(b->z));
    long double scale = fmaxl(p->scale, q->scale);
    bool exact = a->exact && b->exact;
    if (exact && value_equal(a, b))
        return !(difference > 1e-6L * fmaxl(size, scale)); /* a number made to collide is not close */
    bool decimal = p->decimal || q->decimal;
    if (exact && !decimal)
        return false;
    long double tolerance = decimal ? (long double)c->rule.tolerance : ROUNDING;
    return difference <= tolerance * size || (!exact && difference <= CANCELLING * scale);
}

struct tally {
    unsigned points, same;           /* all of them, where both sides have a value */
    unsigned real_points, real_same; /* those where both are real: roots and logarithms may leave the real line */
    bool constant, truth;
};

static void tally_point(struct comparison *c, struct item truth, struct item given, uint64_t i, struct tally *tally)
{
    uint64_t seed = rng_u64(c->rule.seed, RNG_VERIFIER, 0x6d617468, i);
    int side =
        i == 1 ? -1 : i % 2 == 0; /* what holds for positive numbers only is found out, what leaves the reals too */
    struct point p = {.seed = seed, .sign = truth.sign, .side = side, .budget = &c->budget};
    struct point q = {.seed = seed, .sign = given.sign, .side = side, .budget = &c->budget};
    struct value a, b;
    bool there = value_of(truth.node, &p, &a);
    tally->truth |= there;
    if (!there || !value_of(given.node, &q, &b))
        return;
    bool same = close_to(c, &a, &b, &p, &q), real = cimagl(a.z) == 0 && cimagl(b.z) == 0;
    tally->points++;
    tally->same += same;
    tally->real_points += real;
    tally->real_same += real && same;
    tally->constant = !a.free && !b.free;
}

static enum math_relation compare_values(struct comparison *c, struct item truth, struct item given)
{
    struct tally tally = {0};
    for (uint64_t i = 0; i < POINTS && !tally.constant && tally.real_same == tally.real_points; i++)
        tally_point(c, truth, given, i, &tally);
    if (tally.points == 0)
        return tally.truth ? MATH_DIFFERENT : MATH_UNKNOWN;
    if (tally.real_points > 0)
        return relation_of(tally.real_same == tally.real_points);
    return relation_of(tally.same == tally.points);
}

/* +1 or -1 for an infinity. */
static int infinity_of(const struct node *node)
{
    if (node->kind == NODE_NEG)
        return -infinity_of(node->first);
    return node->kind == NODE_CONSTANT && node->code == CONSTANT_INFINITY;
}

/* Units. */

struct quantity {
    struct item item; /* without units and percent */
    struct unit unit;
    bool degree, percent;
};

static struct quantity quantity_of(struct item item)
{
    struct quantity quantity = {.item = item, .unit = {.factor = 1}};
    const struct node *node = item.node;
    for (; node->kind == NODE_UNIT || node->kind == NODE_DEGREE || node->kind == NODE_PERCENT; node = node->first) {
        quantity.degree |= node->kind == NODE_DEGREE;
        quantity.percent |= node->kind == NODE_PERCENT;
        if (node->kind == NODE_UNIT)
            unit_read(item.tree->tokens.at + node->from, node->to - node->from, &quantity.unit);
    }
    quantity.item.node = node;
    return quantity;
}

/* 5 apples are not 5 pears, but may be 5 red apples. */
static bool words_differ(const struct unit *a, const struct unit *b)
{
    for (uint32_t i = 0; i < a->words_len; i++)
        for (uint32_t k = 0; k < b->words_len; k++)
            if (a->words[i] == b->words[k])
                return false;
    return a->words_len > 0 && b->words_len > 0;
}

/* Values in the same unit: as long as factors agree nothing is multiplied, so that whole numbers stay exact. */
static enum math_relation compare_scaled(struct comparison *c, const struct quantity *truth,
                                         const struct quantity *given)
{
    struct point p = {.seed = 1, .sign = truth->item.sign, .budget = &c->budget};
    struct point q = {.seed = 1, .sign = given->item.sign, .budget = &c->budget};
    struct value a, b;
    if (!value_of(truth->item.node, &p, &a))
        return MATH_UNKNOWN;
    if (!value_of(given->item.node, &q, &b))
        return MATH_DIFFERENT;
    long double complex x = a.z * truth->unit.factor, y = b.z * given->unit.factor;
    return relation_of(cabsl(x - y) <= fmaxl((long double)c->rule.tolerance, 1e-9L) * cabsl(x));
}

static enum math_relation compare_quantities(struct comparison *c, struct item truth, struct item given)
{
    struct quantity a = quantity_of(truth), b = quantity_of(given);
    bool both = unit_known(&a.unit) && unit_known(&b.unit);
    if (both && memcmp(a.unit.exponent, b.unit.exponent, sizeof a.unit.exponent) != 0)
        return MATH_DIFFERENT;
    if (both && fabs(a.unit.factor / b.unit.factor - 1) > 1e-9)
        return compare_scaled(c, &a, &b);
    if (!unit_known(&a.unit) && !unit_known(&b.unit) && words_differ(&a.unit, &b.unit))
        return MATH_DIFFERENT;
    enum math_relation relation = compare_values(c, a.item, b.item);
    /* Where one side only has a degree or percent sign, people mean either: 50% is written for 0.5 and for 50. */
    if (relation == MATH_DIFFERENT && (a.degree != b.degree || a.percent != b.percent))
        relation = compare_values(c, truth, given);
    return relation;
}

/* Words. */

static bool is_article(struct slice word)
{
    return (word.len == 3 && memcmp(word.data, "the", 3) == 0) || (word.len == 1 && word.data[0] == 'a') ||
           (word.len == 2 && memcmp(word.data, "an", 2) == 0);
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static uint64_t text_hash(struct item item)
{
    uint64_t hash = 0;
    for (uint32_t i = item.node->from; i < item.node->to; i++) {
        struct slice word = item.tree->tokens.at[i].text;
        if (is_article(word))
            continue;
        for (size_t k = 0; k < word.len; k++) {
            char c = lower(word.data[k]);
            hash = hash_more(hash, &c, 1);
        }
        hash = hash_more(hash, " ", 1);
    }
    return hash;
}

/* Items. */

struct items {
    struct item at[4 * MATH_ITEMS_MAX];
    size_t len;
};

static bool is_collection(const struct node *node)
{
    return node->kind == NODE_SET || node->kind == NODE_LIST || node->kind == NODE_UNION;
}

static void collect(struct item item, struct items *items)
{
    if (is_collection(item.node)) {
        for (const struct node *node = item.node->first; node != NULL; node = node->next)
            collect(part(item, node), items);
        return;
    }
    bool both = item.sign == 0 && has_kind(item.node, NODE_PM);
    for (int i = 0; i < 1 + both && items->len < sizeof items->at / sizeof items->at[0]; i++) {
        items->at[items->len] = item;
        items->at[items->len++].sign = both ? 1 - 2 * i : item.sign;
    }
}

/* Whether each of a is among b. `flipped`: b is the truth. */
static enum math_relation contained(struct comparison *c, const struct items *a, const struct items *b, bool flipped)
{
    for (size_t i = 0; i < a->len; i++) {
        enum math_relation found = MATH_DIFFERENT;
        for (size_t k = 0; k < b->len && found != MATH_EQUAL; k++)
            found = flipped ? compare(c, b->at[k], a->at[i]) : compare(c, a->at[i], b->at[k]);
        if (found != MATH_EQUAL)
            return found;
    }
    return MATH_EQUAL;
}

/* Order and repetition do not count. */
static enum math_relation compare_collections(struct comparison *c, struct item truth, struct item given)
{
    struct items a = {.len = 0}, b = {.len = 0};
    collect(truth, &a);
    if (truth.node->kind == NODE_LIST && given.node->kind == NODE_TUPLE) /* a list in brackets */
        for (const struct node *node = given.node->first; node != NULL; node = node->next)
            collect(part(given, node), &b);
    else
        collect(given, &b);
    if ((a.len == 0) != (b.len == 0))
        return MATH_DIFFERENT;
    enum math_relation relation = contained(c, &a, &b, false);
    return relation != MATH_EQUAL ? relation : contained(c, &b, &a, true);
}

static enum math_relation compare_in_order(struct comparison *c, struct item truth, struct item given)
{
    if (truth.node->len != given.node->len)
        return MATH_DIFFERENT;
    const struct node *b = given.node->first;
    enum math_relation relation = MATH_EQUAL;
    for (const struct node *a = truth.node->first; a != NULL && relation == MATH_EQUAL; a = a->next, b = b->next)
        relation = compare(c, part(truth, a), part(given, b));
    return relation;
}

/* A column or row of a matrix is a vector, and so is a tuple. Of two tuples with two items the brackets count, for they
 * may be intervals. */
static enum math_relation compare_tuples(struct comparison *c, struct item truth, struct item given)
{
    const struct node *a = truth.node, *b = given.node;
    if (a->kind == NODE_MATRIX && b->kind == NODE_MATRIX && a->code != b->code)
        return MATH_DIFFERENT;
    const struct node *matrix = a->kind == NODE_MATRIX ? a : b;
    bool vector = matrix->code == 1 || (uint32_t)matrix->code == matrix->len;
    if (a->kind != b->kind && matrix->kind == NODE_MATRIX && !vector)
        return MATH_DIFFERENT;
    if (a->kind == NODE_TUPLE && b->kind == NODE_TUPLE && a->len == 2 && a->code != b->code)
        return MATH_DIFFERENT;
    return compare_in_order(c, truth, given);
}

/* Relations. */

static bool is_inequality(const struct node *node)
{
    return node->kind == NODE_RELATION &&
           (node->code == '<' || node->code == '>' || node->code == CODE_LE || node->code == CODE_GE);
}

static bool is_equation(const struct node *node)
{
    return node->kind == NODE_RELATION && node->code == '=';
}

/* x, x_1, AB, f(x), (x, y), or words: what an answer may be called. */
static bool is_name(const struct node *node)
{
    if (node->kind == NODE_MUL)
        return is_name(node->first) && (is_name(node->second) || node->second->kind == NODE_NUMBER);
    if (node->kind != NODE_TUPLE)
        return node->kind == NODE_SYMBOL || node->kind == NODE_TEXT;
    for (const struct node *item = node->first; item != NULL; item = item->next)
        if (!is_name(item))
            return false;
    return true;
}

/* What an answer says once it no longer says what it is the answer of: x = 10/2 = 5 is 5. */
static const struct node *without_name(const struct node *node)
{
    while (is_equation(node) && (is_name(node->first) || !has_kind(node->first, NODE_SYMBOL)))
        node = node->second;
    return node;
}

struct interval {
    const struct node *low, *high; /* NULL: unbounded */
    bool low_open, high_open;
};

static const struct node *bound(const struct node *node, int infinity)
{
    return infinity_of(node) == infinity ? NULL : node;
}

/* c < x, x < c, c < x < d, their likes, and a pair in brackets. */
static bool interval_of(const struct node *node, struct interval *interval)
{
    if (node->kind == NODE_TUPLE && node->len == 2) {
        *interval = (struct interval){bound(node->first, -1), bound(node->first->next, 1), node->code >> 8 == '(',
                                      (node->code & 0xFF) == ')'};
        return true;
    }
    if (!is_inequality(node))
        return false;
    const struct node *second = node->second;
    bool three = second->kind == NODE_RELATION;
    bool up = node->code == '<' || node->code == CODE_LE, open = node->code == '<' || node->code == '>';
    if (!three) {
        bool left = is_name(node->first);
        if (left == is_name(second) || has_kind(left ? second : node->first, NODE_SYMBOL))
            return false;
        const struct node *end = left ? second : node->first;
        bool below = left == up; /* the interval is below its end */
        *interval = (struct interval){below ? NULL : end, below ? end : NULL, open, open};
        return true;
    }
    bool up2 = second->code == '<' || second->code == CODE_LE, open2 = second->code == '<' || second->code == '>';
    if (!is_inequality(second) || up != up2 || !is_name(second->first) || second->second->kind == NODE_RELATION)
        return false;
    *interval = up ? (struct interval){bound(node->first, -1), bound(second->second, 1), open, open2}
                   : (struct interval){bound(second->second, -1), bound(node->first, 1), open2, open};
    return true;
}

static enum math_relation compare_ends(struct comparison *c, struct item truth, struct item given, const struct node *a,
                                       const struct node *b, bool same_bracket)
{
    if (a == NULL || b == NULL)
        return relation_of(a == b);
    return same_bracket ? compare(c, part(truth, a), part(given, b)) : MATH_DIFFERENT;
}

static enum math_relation compare_intervals(struct comparison *c, struct item truth, struct item given,
                                            const struct interval *a, const struct interval *b)
{
    enum math_relation relation = compare_ends(c, truth, given, a->low, b->low, a->low_open == b->low_open);
    return relation != MATH_EQUAL ? relation
                                  : compare_ends(c, truth, given, a->high, b->high, a->high_open == b->high_open);
}

/* left - right, or the other way round for > and >=, which become < and <=. */
static bool difference_of(struct comparison *c, struct item item, uint64_t i, struct value *out)
{
    struct point point = {
        .seed = rng_u64(c->rule.seed, RNG_VERIFIER, 0x72656c, i), .sign = item.sign, .budget = &c->budget};
    struct value left, right;
    if (!value_of(item.node->first, &point, &left) || !value_of(item.node->second, &point, &right))
        return false;
    bool turned = item.node->code == '>' || item.node->code == CODE_GE;
    *out = turned ? value_difference(&right, &left) : value_difference(&left, &right);
    return true;
}

static int direction(const struct node *node)
{
    return node->code == '>' ? '<' : node->code == CODE_GE ? CODE_LE : node->code;
}

/* Two equations say the same when the differences of their sides are proportional; inequalities by a positive factor.
 * Cross products are compared, so that nothing is divided. */
static enum math_relation compare_relations(struct comparison *c, struct item truth, struct item given)
{
    struct value a[2], b[2];
    int points = 0;
    if (direction(truth.node) != direction(given.node))
        return MATH_DIFFERENT;
    for (uint64_t i = 0; i < POINTS && c->budget > 0; i++) {
        if (!difference_of(c, truth, i, &a[points > 0]) || !difference_of(c, given, i, &b[points > 0]))
            continue;
        if (is_inequality(truth.node) && creall(a[points > 0].z * conjl(b[points > 0].z)) <= 0)
            return MATH_DIFFERENT;
        if (points++ == 0)
            continue;
        struct value x = value_product(&a[0], &b[1]), y = value_product(&a[1], &b[0]);
        bool same =
            x.exact && y.exact ? value_equal(&x, &y) : cabsl(x.z - y.z) <= 1e-9L * fmaxl(cabsl(x.z), cabsl(y.z));
        if (!same)
            return MATH_DIFFERENT;
    }
    if (points > 1)
        return relation_of((cabsl(a[0].z) == 0) == (cabsl(b[0].z) == 0));
    enum math_relation left = compare(c, part(truth, truth.node->first), part(given, given.node->first));
    return left != MATH_EQUAL ? left : compare(c, part(truth, truth.node->second), part(given, given.node->second));
}

static struct item without_membership(struct item item)
{
    if (item.node->kind == NODE_RELATION && item.node->code == CODE_IN)
        item.node = item.node->second;
    return item;
}

/* Numbers with a base. Whoever is asked for digits in some base may leave the base out. */
static enum math_relation compare_based(const struct node *truth, const struct node *given)
{
    if ((truth->kind != NODE_BASED && truth->kind != NODE_NUMBER) ||
        (given->kind != NODE_BASED && given->kind != NODE_NUMBER))
        return MATH_DIFFERENT;
    const struct math_number *a = &truth->number, *b = &given->number;
    bool digits = a->digits.len == b->digits.len && memcmp(a->digits.data, b->digits.data, a->digits.len) == 0;
    bool same = truth->code == given->code || (truth->kind == NODE_BASED && given->kind == NODE_NUMBER) ||
                (truth->kind == NODE_NUMBER && given->code == 10);
    return relation_of(digits && a->scale == b->scale && same);
}

/* Two things that are neither relations nor collections. */
static enum math_relation compare_things(struct comparison *c, struct item truth, struct item given)
{
    const struct node *a = truth.node, *b = given.node;
    if (a->kind == NODE_TEXT || b->kind == NODE_TEXT)
        return relation_of(a->kind == b->kind && text_hash(truth) == text_hash(given));
    if (is_vector(a) && is_vector(b))
        return compare_tuples(c, truth, given);
    if (is_vector(a) || is_vector(b))
        return MATH_DIFFERENT;
    if (a->kind == NODE_BASED || b->kind == NODE_BASED)
        return compare_based(a, b);
    if (infinity_of(a) != 0 || infinity_of(b) != 0)
        return relation_of(infinity_of(a) == infinity_of(b));
    return compare_quantities(c, truth, given);
}

static enum math_relation compare(struct comparison *c, struct item truth, struct item given)
{
    struct interval a, b;
    truth = without_membership(truth);
    given = without_membership(given);
    if (truth.node->kind != NODE_RELATION || given.node->kind != NODE_RELATION) {
        truth.node = without_name(truth.node);
        given.node = without_name(given.node);
    }
    if (truth.node->kind == NODE_TUPLE && given.node->kind == NODE_LIST &&
        !is_vector(given.node->first)) /* unbracketed */
        return compare_in_order(c, truth, given);
    if (is_collection(truth.node) || is_collection(given.node) || (truth.sign == 0 && has_kind(truth.node, NODE_PM)) ||
        (given.sign == 0 && has_kind(given.node, NODE_PM)))
        return compare_collections(c, truth, given);
    if ((is_inequality(truth.node) || is_inequality(given.node)) && interval_of(truth.node, &a) &&
        interval_of(given.node, &b))
        return compare_intervals(c, truth, given, &a, &b);
    if (truth.node->kind == NODE_RELATION && given.node->kind == NODE_RELATION)
        return compare_relations(c, truth, given);
    if (truth.node->kind == NODE_RELATION || given.node->kind == NODE_RELATION)
        return MATH_DIFFERENT;
    return compare_things(c, truth, given);
}

/* Texts. */

static bool is_letter(char c)
{
    return lower(c) >= 'a' && lower(c) <= 'z';
}

/* The letter of a multiple choice: C, (C), C), C. and, where more may follow, (C) 15. 0: none. */
static char choice_of(struct slice text, bool more, bool *sure)
{
    *sure = text.len > 1 && text.data[0] == '(';
    if (*sure) {
        text.data++;
        text.len--;
    }
    if (text.len == 0 || lower(text.data[0]) < 'a' || lower(text.data[0]) > 'j')
        return 0;
    bool closed = text.len > 1 && (text.data[1] == ')' || text.data[1] == '.' || text.data[1] == ':');
    if (text.len > (size_t)(1 + closed) && !(more && closed))
        return 0;
    *sure = closed;
    return text.data[0];
}

/* "an ellipse" is "ellipse". */
static struct slice without_article(struct slice text)
{
    const char *space = memchr(text.data, ' ', text.len);
    size_t len = space == NULL ? 0 : (size_t)(space - text.data);
    if (len > 0 && is_article((struct slice){text.data, len}) && is_letter(text.data[text.len - 1]))
        return (struct slice){space + 1, text.len - len - 1};
    return text;
}

/* Same bytes, or words that differ in case. "No" is "no", but AB is not ab. */
static bool same_text(struct slice a, struct slice b)
{
    if (a.len != b.len)
        return false;
    if (memcmp(a.data, b.data, a.len) == 0)
        return true;
    bool letters = a.len > 1, tail = true;
    for (size_t i = 0; i < a.len; i++) {
        if (lower(a.data[i]) != lower(b.data[i]))
            return false;
        letters &= is_letter(a.data[i]) || (i > 0 && a.data[i] == ' ');
        tail &= i == 0 || a.data[i] == b.data[i];
    }
    return letters && (tail || a.len > 2);
}

/* *decided: the texts tell without being read as mathematics. */
static enum math_relation compare_texts(struct slice truth, struct slice given, bool *decided)
{
    *decided = true;
    if (truth.len == 0)
        return MATH_UNKNOWN;
    if (given.len == 0)
        return MATH_DIFFERENT;
    if (same_text(without_article(truth), without_article(given)))
        return MATH_EQUAL;
    bool truth_sure, given_sure;
    char a = choice_of(truth, false, &truth_sure), b = choice_of(given, true, &given_sure);
    if (a != 0 && b != 0 && (a == b || ((truth_sure || given_sure) && lower(a) == lower(b))))
        return MATH_EQUAL;
    *decided = a != 0 && truth_sure;
    return MATH_DIFFERENT;
}

enum math_relation math_compare(struct slice truth, struct slice given, struct math_rule rule)
{
    struct buf truth_plain = {0}, given_plain = {0};
    bool decided;
    math_plain(truth, &truth_plain);
    math_plain(given, &given_plain);
    enum math_relation relation = compare_texts(buf_slice(&truth_plain), buf_slice(&given_plain), &decided);
    buf_clear(&truth_plain);
    buf_clear(&given_plain);
    if (decided)
        return relation;
    struct tree a, b = {.len = 0};
    struct comparison c = {.rule = rule, .budget = STEPS_MAX};
    if (!tree_read(truth, &a))
        relation = MATH_UNKNOWN;
    else if (!tree_read(given, &b))
        relation = MATH_DIFFERENT;
    else
        relation = compare(&c, (struct item){&a, a.root, 0}, (struct item){&b, b.root, 0});
    tree_clear(&a);
    tree_clear(&b);
    return relation;
}
