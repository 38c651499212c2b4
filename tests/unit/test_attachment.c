/* Names and lines of attachments, what becomes of a text that has some, and the table that an agent keeps. */
#include "common/attachment.h"
#include "common/hash.h"
#include "common/io/kept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct attachment attachment(const char *data)
{
    return (struct attachment){attachment_id_of(slice_of(data)), slice_of(data)};
}

static void names_are_found_where_data_may_stand(void **state)
{
    (void)state;
    struct attachment a = attachment("QUJD");
    struct buf name = {0}, text = {0};
    attachment_name_put(&name, a.id);
    buf_printf(&text, "{\"a\":\"say %s\",\"b\":\"%s\",\"c\":\"data:image/png;base64,%s\",\"d\":\"%s.\",\"e\":\"%.20s\"",
               name.data, name.data, name.data, name.data, name.data);
    struct attachments all = {&a, 1};
    attachments_fill(&all, &text);
    assert_non_null(strstr(text.data, "\"b\":\"QUJD\",\"c\":\"data:image/png;base64,QUJD\",\"d\":\"attachment:"));
    assert_non_null(strstr(text.data, "\"a\":\"say attachment:"));
    buf_clear(&name);
    buf_clear(&text);
}

static void unknown_names_stay(void **state)
{
    (void)state;
    struct attachment a = attachment("QUJD"), other = attachment("QUJE");
    struct buf text = {0}, before = {0};
    buf_puts(&text, "\"");
    attachment_name_put(&text, a.id);
    buf_puts(&text, "\"");
    buf_put(&before, text.data, text.len);
    struct attachments all = {&other, 1};
    attachments_fill(&all, &text);
    attachments_fill(NULL, &text);
    assert_string_equal(text.data, before.data);
    buf_clear(&text);
    buf_clear(&before);
}

static void the_digest_is_that_of_the_whole(void **state)
{
    (void)state;
    struct slice parts[] = {slice_of("one"), slice_of(""), slice_of("two")};
    assert_true(hash_parts(7, parts, 3) == hash_more(7, "onetwo", 6));
    assert_true(hash_parts(7, parts, 1) == hash_more(7, "one", 3));
}

static void lines_are_checked(void **state)
{
    (void)state;
    struct attachment good = attachment("QUJD"), odd = attachment("no base64!"), read;
    struct buf line = {0};
    attachment_line_put(&line, &good);
    struct slice text = {line.data, line.len - 1};
    assert_true(attachment_line_is(text));
    assert_true(attachment_line_read(text, &read));
    assert_memory_equal(&read.id, &good.id, sizeof good.id);
    for (size_t len = 0; len < text.len; len++)
        assert_false(attachment_line_read((struct slice){text.data, len}, &read));
    line.data[line.len - 2] = 'E';
    assert_false(attachment_line_read(text, &read)); /* another's data */
    buf_reset(&line);
    attachment_line_put(&line, &odd);
    assert_false(attachment_line_read((struct slice){line.data, line.len - 1}, &read));
    buf_clear(&line);
}

static struct attachment_id wanted(const struct kept_table *table)
{
    struct attachment_id id = {0};
    kept_wanted(table, &id);
    return id;
}

static bool is(struct attachment_id a, struct attachment_id b)
{
    return a.high == b.high && a.low == b.low;
}

static void one_is_asked_for_once_and_kept(void **state)
{
    (void)state;
    struct kept_table *table = kept_table_new(100);
    struct attachment a = attachment("AAAA"), b = attachment("BBBB");
    struct slice data;
    struct kept *first = kept_hold(table, a.id), *again = kept_hold(table, a.id), *other = kept_hold(table, b.id);
    assert_ptr_equal(first, again);
    assert_true(is(wanted(table), a.id));
    assert_null(kept_arrived(table, a.id, b.data)); /* not what it should be */
    assert_false(kept_data(first, &data));
    assert_ptr_equal(kept_arrived(table, a.id, a.data), first);
    assert_null(kept_arrived(table, a.id, a.data)); /* told twice */
    assert_true(kept_data(again, &data));
    assert_memory_equal(data.data, "AAAA", 4);
    assert_true(is(wanted(table), b.id));
    kept_release(table, other); /* its task was cancelled */
    assert_false(kept_wanted(table, &b.id));
    kept_release(table, first);
    kept_release(table, again);
    assert_ptr_equal(kept_hold(table, a.id), first); /* still here */
    assert_true(kept_data(first, &data));
    kept_table_free(&table);
}

static void room_is_made_of_what_nobody_holds(void **state)
{
    (void)state;
    struct kept_table *table = kept_table_new(8);
    struct attachment a = attachment("AAAA"), b = attachment("BBBBBBBB"), c = attachment("CCCC");
    struct attachment_id id;
    struct slice data;
    struct kept *ka = kept_hold(table, a.id), *kb = kept_hold(table, b.id), *kc = kept_hold(table, c.id);
    kept_arrived(table, a.id, a.data);
    assert_ptr_equal(kept_arrived(table, b.id, b.data), kb); /* over the bound: held ones are not dropped */
    assert_true(kept_data(ka, &data));
    assert_false(kept_wanted(table, &id)); /* no room */
    kept_release(table, ka);
    kept_release(table, kb); /* is kept: it fits alone */
    assert_true(kept_wanted(table, &id));
    assert_true(is(id, c.id));
    kept_arrived(table, c.id, c.data); /* b goes */
    assert_null(kept_waiting(table, a.id));
    kb = kept_hold(table, b.id);
    assert_false(kept_data(kb, &data));
    assert_true(kept_data(kc, &data));
    kept_table_free(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_found_where_data_may_stand), cmocka_unit_test(unknown_names_stay),
        cmocka_unit_test(the_digest_is_that_of_the_whole),      cmocka_unit_test(lines_are_checked),
        cmocka_unit_test(one_is_asked_for_once_and_kept),       cmocka_unit_test(room_is_made_of_what_nobody_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
