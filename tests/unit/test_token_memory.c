/* What a worker remembers of token ids, and that it forgets the oldest. */
#include "common/limits.h"
#include "worker/token_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct token_text text_of(const char *prompt, const char *path)
{
    return (struct token_text){"vllm", "m", slice_of(prompt), slice_of(path)};
}

static void is(struct token_text text, const char *wanted)
{
    struct buf ids = {0};
    assert_int_equal(token_memory_find(&text, &ids), wanted != NULL);
    if (wanted != NULL)
        assert_string_equal(ids.data, wanted);
    buf_clear(&ids);
}

static void test_what_is_kept_is_found_by_its_whole_text(void **state)
{
    (void)state;
    struct token_text text = text_of("ab", "c");
    token_memory_keep(&text, slice_of("1,2"));
    is(text_of("abc", ""), "1,2");
    is(text_of("ab", ""), NULL);
    text = text_of("abc", "");
    text.model = "n";
    is(text, NULL);
    text.model = "m";
    text.dialect = "llamacpp";
    is(text, NULL);
    text = text_of("a", "bc");
    token_memory_keep(&text, slice_of("3")); /* the same text again: what came last counts */
    is(text, "3");
    assert_int_equal(token_memory_counts().asked, 5);
    assert_int_equal(token_memory_counts().known, 2);
}

enum { EACH = 1 << 20, ENTRIES = 100 };

static void test_the_least_recently_used_are_forgotten(void **state)
{
    (void)state;
    char *ids = xalloc(EACH + 1), name[20];
    memset(ids, '7', EACH);
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(name, sizeof name, "%d", i);
        struct token_text text = text_of(name, "");
        token_memory_keep(&text, slice_of(ids));
        assert_true(token_memory_counts().bytes <= LIMIT_TOKENS_KEPT);
        is(text_of("0", ""), ids); /* used again and again */
    }
    is(text_of("1", ""), NULL);
    is(text_of("99", ""), ids);
    assert_true(token_memory_counts().bytes > LIMIT_TOKENS_KEPT - 2 * EACH);
    free(ids);
}

static void test_what_is_too_long_is_not_kept(void **state)
{
    (void)state;
    struct token_text text = text_of("a", "");
    size_t len = LIMIT_TOKENS_KEPT / 4 + 1;
    char *ids = xalloc(len);
    memset(ids, '7', len);
    token_memory_keep(&text, (struct slice){ids, len});
    is(text, NULL);
    assert_int_equal(token_memory_counts().bytes, 0);
    free(ids);
}

static int clear(void **state)
{
    (void)state;
    token_memory_clear();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_what_is_kept_is_found_by_its_whole_text, clear),
        cmocka_unit_test_teardown(test_the_least_recently_used_are_forgotten, clear),
        cmocka_unit_test_teardown(test_what_is_too_long_is_not_kept, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
