/* test_record.c - the codec of facts: every type there and back, readers of other releases, hostile bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "broker/core/fact.h"
#include "common/rng.h"

#include <stdlib.h>
#include <string.h>

/* Texts and values of all lengths that msgpack writes differently. */
static const size_t lengths[] = {0, 1, 31, 32, 255, 256, 65535, 65536};
static char letters[65536];

static uint64_t random_number(uint64_t bits)
{
    return rng_mix(bits) >> bits % 64;
}

static void random_field(enum field_type type, void *at, uint64_t bits)
{
    double real = (double)(int64_t)rng_mix(bits) / 3;
    uint64_t number = random_number(bits);
    switch (type) {
    case FIELD_U8:
        *(uint8_t *)at = (uint8_t)number;
        return;
    case FIELD_U32:
        *(uint32_t *)at = (uint32_t)number;
        return;
    case FIELD_U64:
        *(uint64_t *)at = number;
        return;
    case FIELD_I64:
        *(int64_t *)at = (int64_t)(bits % 2 ? number : -(number >> 1));
        return;
    case FIELD_F64:
        memcpy(at, &real, sizeof real);
        return;
    case FIELD_TEXT:
    case FIELD_BYTES:
        *(struct slice *)at = (struct slice){letters, lengths[bits % 8]};
        return;
    }
}

static void random_fact(const struct record_type *type, struct fact *fact, uint64_t seed)
{
    memset(fact, 0, sizeof *fact);
    fact->type = (enum fact_type)type->number;
    for (size_t i = 0; i < type->fields_len; i++)
        random_field(type->fields[i].type, (char *)&fact->epoch + type->fields[i].offset,
                     rng_u64(seed, RNG_TEST, type->number, i));
}

static size_t width(enum field_type type)
{
    return type == FIELD_U8 ? 1 : type == FIELD_U32 ? 4 : 8;
}

static bool same_field(const struct field *field, const struct fact *a, const struct fact *b)
{
    const char *x = (const char *)&a->epoch + field->offset, *y = (const char *)&b->epoch + field->offset;
    if (field->type != FIELD_TEXT && field->type != FIELD_BYTES)
        return memcmp(x, y, width(field->type)) == 0;
    const struct slice *s = (const struct slice *)x, *t = (const struct slice *)y;
    return s->len == t->len && (s->len == 0 || memcmp(s->data, t->data, s->len) == 0);
}

static void round_trip(void **state)
{
    (void)state;
    for (const struct record_type *type = fact_types; type->name != NULL; type++) {
        for (uint64_t seed = 0; seed < 40; seed++) {
            struct fact fact, back;
            struct buf bytes = {0};
            size_t at = 0;
            random_fact(type, &fact, seed);
            fact_put(&bytes, &fact);
            assert_int_equal(fact_get(buf_slice(&bytes), &at, &back), 0);
            assert_int_equal(at, bytes.len);
            assert_int_equal(back.type, fact.type);
            for (size_t i = 0; i < type->fields_len; i++)
                if (!same_field(&type->fields[i], &fact, &back))
                    fail_msg("%s.%s differs, seed %u", type->name, type->fields[i].name, (unsigned)seed);
            assert_true(record_frame_valid(buf_slice(&bytes)));
            buf_clear(&bytes);
        }
    }
}

/* Numbers of fact.def are unique: they are stored for ever. */
static void numbers(void **state)
{
    (void)state;
    for (const struct record_type *a = fact_types; a->name != NULL; a++)
        for (const struct record_type *b = a + 1; b->name != NULL; b++)
            assert_int_not_equal(a->number, b->number);
}

/* An older release wrote fewer fields: the rest reads as zero. */
static void missing_fields(void **state)
{
    (void)state;
    for (const struct record_type *type = fact_types; type->name != NULL; type++) {
        struct fact fact, back, zero = {0};
        random_fact(type, &fact, 3);
        for (size_t known = 0; known <= type->fields_len; known++) {
            struct record_type old = *type;
            struct buf bytes = {0};
            size_t at = 0;
            old.fields_len = known;
            record_put(&bytes, &old, &fact.epoch);
            assert_int_equal(fact_get(buf_slice(&bytes), &at, &back), 0);
            for (size_t i = 0; i < type->fields_len; i++)
                assert_true(same_field(&type->fields[i], i < known ? &fact : &zero, &back));
            buf_clear(&bytes);
        }
    }
}

/* A newer release wrote more, of any shape: it is skipped. */
static void unknown_fields(void **state)
{
    (void)state;
    static const char more[] = "\xc0\xc2\xa3"
                               "abc"
                               "\xc4\x02"
                               "xy"
                               "\x93\x01\x92\x02\x90\x03\xcb\x3f\xf0\0\0\0\0\0\0\xff";
    enum { MORE = 7 };
    for (const struct record_type *type = fact_types; type->name != NULL; type++) {
        struct fact fact, back;
        struct buf bytes = {0}, longer = {0};
        size_t at = 0;
        random_fact(type, &fact, 5);
        fact_put(&bytes, &fact);
        size_t head = (unsigned char)bytes.data[0] == 0xdc ? 3 : 1;
        const char count[3] = {(char)0xdc, 0, (char)(type->fields_len + 1 + MORE)};
        buf_put(&longer, count, 3);
        buf_put(&longer, bytes.data + head, bytes.len - head);
        buf_put(&longer, more, sizeof more - 1);
        assert_int_equal(fact_get(buf_slice(&longer), &at, &back), 0);
        assert_int_equal(at, longer.len);
        for (size_t i = 0; i < type->fields_len; i++)
            assert_true(same_field(&type->fields[i], &fact, &back));
        buf_clear(&bytes);
        buf_clear(&longer);
    }
}

/* Torn at every byte: refused, and nothing behind the end is read (the copy is exact, for sanitizers). */
static void torn(void **state)
{
    (void)state;
    for (const struct record_type *type = fact_types; type->name != NULL; type++) {
        struct fact fact, back;
        struct buf bytes = {0};
        random_fact(type, &fact, 16);
        fact_put(&bytes, &fact);
        for (size_t len = 0; len < bytes.len; len = len < 600 ? len + 1 : len + 997) {
            char *exact = xalloc(len + (len == 0));
            size_t at = 0;
            memcpy(exact, bytes.data, len);
            assert_int_equal(fact_get((struct slice){exact, len}, &at, &back), ERR_PROTOCOL);
            assert_false(record_frame_valid((struct slice){exact, len}));
            free(exact);
        }
        buf_clear(&bytes);
    }
}

struct bytes_case {
    const char *name, *bytes;
    size_t len;
};

#define CASE(name, text)            \
    {                               \
        name, text, sizeof text - 1 \
    }

/* fold is [11, U32]; verdict is [22, U64, U8, F64, U32]; state is [9, U32, U8, TEXT]. */
static void hostile(void **state)
{
    (void)state;
    static const struct bytes_case cases[] = {
        CASE("no array", "\x0b"),
        CASE("an empty array", "\x90"),
        CASE("a number that is none", "\x92\xa1x\x01"),
        CASE("an unknown number", "\x92\x63\x01"),
        CASE("a huge unknown number", "\x92\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        CASE("a text for a number", "\x92\x0b\xa1x"),
        CASE("a negative number", "\x92\x0b\xff"),
        CASE("a wide negative number", "\x92\x0b\xd3\x80\0\0\0\0\0\0\0"),
        CASE("a real for a number", "\x92\x0b\xcb\x3f\xf0\0\0\0\0\0\0"),
        CASE("nil for a number", "\x92\x0b\xc0"),
        CASE("a list for a number", "\x92\x0b\x91\x01"),
        CASE("more than 32 bits", "\x92\x0b\xcf\0\0\0\x01\0\0\0\0"),
        CASE("more than 8 bits", "\x93\x16\x01\xcd\x01\0"),
        CASE("a number for a real", "\x94\x16\x01\x01\x01"),
        CASE("bytes for a text", "\x94\x09\x01\x01\xc4\x01x"),
        CASE("a number for a text", "\x94\x09\x01\x01\x05"),
        CASE("a text of 4 GiB", "\x94\x09\x01\x01\xdb\xff\xff\xff\xffx"),
        CASE("bytes of 4 GiB", "\x94\x09\x01\x01\xc6\xff\xff\xff\xffx"),
        CASE("an array of 4 G elements", "\xdd\xff\xff\xff\xff\x0b\x01"),
        CASE("an array of 65 elements", "\xdc\0\x41\x0b\x01"),
        CASE("a map", "\x81\x0b\x01"),
        CASE("an extension", "\x92\x0b\xc7\x01\x01x"),
        CASE("a fixed extension", "\x92\x0b\xd4\x01x"),
        CASE("a byte that msgpack never uses", "\x92\x0b\xc1"),
        CASE("lists in lists without an end", "\x93\x0b\x01\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x01"),
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fact fact;
        size_t at = 0;
        if (fact_get((struct slice){cases[i].bytes, cases[i].len}, &at, &fact) != ERR_PROTOCOL)
            fail_msg("%s is read", cases[i].name);
    }
}

static void frames(void **state)
{
    (void)state;
    static const struct bytes_case bad[] = {
        CASE("nothing", ""),
        CASE("no array", "\x01"),
        CASE("an empty array", "\x90"),
        CASE("a good one, then half of one", "\x92\x0b\x01\x92\x0b"),
        CASE("too deep", "\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x01"),
        CASE("a map", "\x81\x0b\x01"),
        CASE("a long text", "\x91\xdb\xff\xff\xff\xff"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (record_frame_valid((struct slice){bad[i].bytes, bad[i].len}))
            fail_msg("%s is valid", bad[i].name);
    assert_true(record_frame_valid((struct slice){"\x92\x0b\x01\x92\x63\xa1x", 7})); /* unknown numbers are */
}

/* Small floats are what another library may write for reals. */
static void narrow_reals(void **state)
{
    (void)state;
    static const char bytes[] = "\x95\x16\x01\x01\xca\x3f\x40\0\0\x02";
    struct fact fact;
    size_t at = 0;
    assert_int_equal(fact_get((struct slice){bytes, sizeof bytes - 1}, &at, &fact), 0);
    assert_true(fact.verdict.score == 0.75);
    assert_int_equal(fact.verdict.latency_ms, 2);
}

static void printed(void **state)
{
    (void)state;
    struct buf out = {0};
    struct fact fact = {.type = FACT_state, .state = {.sweep = 3, .state = 1, .reason = {"a\nb\"c", 5}}};
    fact_print(&out, &fact);
    assert_string_equal(out.data, "state sweep=3 state=1 reason=\"a.b.c\"");
    buf_reset(&out);
    fact = (struct fact){.type = FACT_note, .note = {.tree = UINT32_MAX, .record = {letters, 40}}};
    fact_print(&out, &fact);
    assert_non_null(strstr(out.data, "tree=- record=6161"));
    assert_non_null(strstr(out.data, "...(40)"));
    buf_reset(&out);
    fact = (struct fact){.type = FACT_state, .state = {.reason = {letters, 61}}};
    fact_print(&out, &fact);
    assert_non_null(strstr(out.data, "aaaa...\""));
    buf_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),     cmocka_unit_test(numbers),      cmocka_unit_test(missing_fields),
        cmocka_unit_test(unknown_fields), cmocka_unit_test(torn),         cmocka_unit_test(hostile),
        cmocka_unit_test(frames),         cmocka_unit_test(narrow_reals), cmocka_unit_test(printed),
    };
    memset(letters, 'a', sizeof letters);
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
