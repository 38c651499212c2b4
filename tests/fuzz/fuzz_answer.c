/* fuzz_answer.c - any extractor on any text. Input: kind, flags, pattern or marker up to a newline,
 * text. */
#include "common/answer.h"
#include "common/limits.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const struct extractor *extractor, struct slice text, bool truncated)
{
    struct buf answer = {0}, again = {0};
    struct error error;
    int code = answer_extract(extractor, text, truncated, &answer);
    assert(code == extractor_check(extractor, &error) || (truncated && !extractor->partial));
    assert(answer.len <= LIMIT_ANSWER);
    assert(code == 0 || answer.len == 0);
    answer_canonical(buf_slice(&answer), &again); /* already canonical */
    assert(again.len == answer.len);
    assert(answer.len == 0 || memcmp(again.data, answer.data, answer.len) == 0);
    assert((answer_class(buf_slice(&answer)) == 0) == (answer.len == 0));
    buf_clear(&answer);
    buf_clear(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    const uint8_t *newline = memchr(data + 2, '\n', size - 2);
    size_t len = newline != NULL ? (size_t)(newline - data) - 2 : 0;
    char *pattern = xalloc(len + 1);
    memcpy(pattern, data + 2, len);
    struct extractor extractor = {
        .kind = (enum extractor_kind)((data[0] - '0') & 0xFF) % (EXTRACTOR_FINAL + 1),
        .pattern = pattern,
        .marker = pattern,
        .partial = data[1] & 1,
    };
    size_t start = newline != NULL ? len + 3 : 2;
    /* A copy of its own, so that a read behind its end is seen. */
    char *text = malloc(size - start + (size == start));
    assert(text != NULL);
    memcpy(text, data + start, size - start);
    check_text(&extractor, (struct slice){text, size - start}, data[1] & 2);
    free(text);
    free(pattern);
    return 0;
}
