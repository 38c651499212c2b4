/* math.h - whether two final answers of mathematics are the same: 1/2, \frac{1}{2}, 0.5, 50\%.
 *
 * Answers are what people and models write: LaTeX, plain text, or both. Any bytes are answered in bounded time. */
#ifndef DROVER_MATH_H
#define DROVER_MATH_H

#include "common/buf.h"

#include <stdint.h>

enum math_relation {
    MATH_DIFFERENT,
    MATH_EQUAL,
    MATH_UNKNOWN, /* the truth cannot be read, and is not the same text */
};

struct math_rule {
    double tolerance; /* relative, where a side is written with a decimal point; whole numbers must match exactly */
    uint64_t seed;    /* of the points at which algebra is evaluated */
};

/* What the truth leaves out (a unit, `x =`, the brackets of a list) the given answer may add, and it may leave out what
 * the truth has of these. An order counts in tuples, not in sets and lists; the kind of bracket counts in pairs. */
enum math_relation math_compare(struct slice truth, struct slice given, struct math_rule rule);

#endif
