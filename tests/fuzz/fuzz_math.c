/* fuzz_math.c - any two answers. Input: the truth up to a newline, the given answer. */
#include "verifier/math.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of its own, so that a read behind its end is seen. */
static struct slice copy(const uint8_t *data, size_t len)
{
    char *text = malloc(len + (len == 0));
    assert(text != NULL);
    memcpy(text, data, len);
    return (struct slice){text, len};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *newline = size > 0 ? memchr(data, '\n', size) : NULL;
    if (newline == NULL)
        return 0;
    size_t len = (size_t)(newline - data);
    struct slice truth = copy(data, len), given = copy(newline + 1, size - len - 1);
    const struct math_rule rule = {.tolerance = 1e-6, .seed = size};
    enum math_relation first = math_compare(truth, given, rule);
    assert(math_compare(truth, given, rule) == first);
    enum math_relation same = math_compare(truth, truth, rule);
    assert(same == MATH_EQUAL || same == MATH_UNKNOWN);
    free((char *)truth.data);
    free((char *)given.data);
    return 0;
}
