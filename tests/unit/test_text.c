/* Frames of texts. */
#include "common/text.h"

#include "common/err.h"
#include "common/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static void round_trip(struct slice text, enum text_codec codec)
{
    struct buf frame = {0}, back = {0};
    buf_puts(&frame, "!"); /* both append */
    buf_puts(&back, "?");
    text_pack(text, &frame);
    assert_int_equal(frame.data[1], codec);
    assert_true(frame.len <= text.len + 2);
    assert_int_equal(frame.data[frame.len], '\0');
    struct slice packed = {frame.data + 1, frame.len - 1};
    assert_int_equal(text_unpack(packed, text.len, &back), 0);
    assert_int_equal(back.len, text.len + 1);
    assert_int_equal(back.data[back.len], '\0');
    if (text.len > 0)
        assert_memory_equal(back.data + 1, text.data, text.len);
    if (text.len > 0)
        assert_int_equal(text_unpack(packed, text.len - 1, &back), ERR_LIMIT);
    assert_int_equal(back.len, text.len + 1);
    buf_clear(&frame);
    buf_clear(&back);
}

static void test_round_trip(void **state)
{
    (void)state;
    char text[5000];
    round_trip((struct slice){0}, TEXT_RAW);
    round_trip(slice_of("short"), TEXT_RAW);
    memset(text, 'a', sizeof text);
    round_trip((struct slice){text, 511}, TEXT_RAW);
    round_trip((struct slice){text, 512}, TEXT_ZSTD);
    round_trip((struct slice){text, sizeof text}, TEXT_ZSTD);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)rng_u64(1, RNG_TEST, i, 0);
    round_trip((struct slice){text, sizeof text}, TEXT_RAW); /* does not get smaller */
}

static struct buf packed_frame(void)
{
    struct buf frame = {0};
    char text[2000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + i % 7);
    text_pack((struct slice){text, sizeof text}, &frame);
    return frame;
}

static void expect_bad(struct slice frame)
{
    struct buf out = {0};
    buf_puts(&out, "kept");
    int code = text_unpack(frame, 4096, &out);
    assert_true(code == ERR_CORRUPT || code == ERR_LIMIT);
    assert_string_equal(out.data, "kept");
    assert_int_equal(out.len, 4);
    buf_clear(&out);
}

static void test_corrupt(void **state)
{
    (void)state;
    expect_bad((struct slice){0});
    expect_bad((struct slice){"\x02text", 5});
    expect_bad((struct slice){"\x01", 1});
    expect_bad((struct slice){"\x01garbage", 8});
    struct buf frame = packed_frame();
    for (size_t len = 1; len < frame.len; len++)
        expect_bad((struct slice){frame.data, len});
    struct buf twice = {0};
    buf_put(&twice, frame.data, frame.len);
    buf_put(&twice, frame.data + 1, frame.len - 1);
    expect_bad(buf_slice(&twice));
    buf_clear(&twice);
    /* zstd itself would skip this one. */
    buf_put(&frame, "\x50\x2A\x4D\x18\0\0\0", 8);
    expect_bad(buf_slice(&frame));
    buf_clear(&frame);
}

/* Any single wrong byte is found or gives a text within the limit; memory stays sound. */
static void test_bit_flips(void **state)
{
    (void)state;
    struct buf frame = packed_frame(), out = {0};
    for (size_t i = 0; i < frame.len; i++)
        for (int bit = 0; bit < 8; bit++) {
            frame.data[i] ^= (char)(1 << bit);
            buf_reset(&out);
            if (text_unpack(buf_slice(&frame), 4096, &out) == 0)
                assert_true(out.len <= 4096);
            frame.data[i] ^= (char)(1 << bit);
        }
    buf_clear(&out);
    buf_clear(&frame);
}

/* A frame that claims an exabyte is refused before anything is allocated. */
static void test_claim(void **state)
{
    (void)state;
    static const char huge[] = "\x01\x28\xB5\x2F\xFD\xE0\x00\x00\x00\x00\x00\x00\x00\x10\x01\x00";
    struct buf out = {0};
    assert_int_equal(text_unpack((struct slice){huge, sizeof huge - 1}, 1 << 20, &out), ERR_LIMIT);
    assert_null(out.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_corrupt),
        cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_claim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
