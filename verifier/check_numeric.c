/* check_numeric.c - the answer is the record's number, however it is written. */
#include "common/limits.h"
#include "verifier/inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct numeric {
    double tolerance, absolute; /* |a - b| <= max(absolute, tolerance * |b|), b the record's */
};

static int numeric_open(struct slice spec, void **state, struct error *error)
{
    struct json_t *doc;
    int code = doc_parse(spec, &doc, error);
    if (code < 0)
        return code;
    struct numeric numeric = {.tolerance = 1e-6};
    code = doc_option_real(doc, "tolerance", (struct doc_range){0, 1}, &numeric.tolerance, error);
    if (code == 0)
        code = doc_option_real(doc, "absolute", (struct doc_range){0, 1e300}, &numeric.absolute, error);
    doc_free(&doc);
    if (code == 0)
        *state = memcpy(xalloc(sizeof numeric), &numeric, sizeof numeric);
    return code;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Copies a decimal without the commas of its thousands; false when it is not one. Only what is
 * checked here reaches strtod, which would also take "inf", "0x1p3" and words that start with a
 * number. */
static bool copy_decimal(const char *from, char *to)
{
    const char *start = from;
    size_t group = 0, digits = 0; /* digits since the last comma, and in all */
    bool commas = false;
    if (*from == '+' || *from == '-')
        *to++ = *from++;
    for (; is_digit(*from) || *from == ','; from++) {
        if (*from == ',') {
            if (group == 0 || group > 3 || (commas && group != 3))
                return false;
            commas = true;
            group = 0;
        } else {
            *to++ = *from;
            group++;
            digits++;
        }
    }
    if (commas && group != 3)
        return false;
    if (*from == '.') {
        *to++ = *from++;
        for (; is_digit(*from); digits++)
            *to++ = *from++;
    }
    if (digits == 0)
        return false;
    if (*from == 'e' || *from == 'E') {
        *to++ = *from++;
        if (*from == '+' || *from == '-')
            *to++ = *from++;
        if (!is_digit(*from))
            return false;
        while (is_digit(*from))
            *to++ = *from++;
    }
    *to = '\0';
    return *from == '\0' && from > start;
}

static bool read_decimal(const char *text, double *value)
{
    char copy[512]; /* longer "numbers" are none */
    if (strlen(text) >= sizeof copy || !copy_decimal(text, copy))
        return false;
    *value = strtod(copy, NULL);
    return isfinite(*value);
}

struct number {
    double value;
    bool percent;
};

/* Reads a decimal, or a fraction of two, perhaps with a percent sign. text is changed. */
static bool read_number(char *text, struct number *number)
{
    size_t len = strlen(text);
    number->percent = len > 0 && text[len - 1] == '%';
    if (number->percent)
        len--;
    while (len > 0 && text[len - 1] == ' ')
        len--;
    text[len] = '\0';
    char *slash = strchr(text, '/');
    if (slash == NULL)
        return read_decimal(text, &number->value);
    *slash = '\0';
    double over, under;
    if (!read_decimal(text, &over) || !read_decimal(slash + 1, &under) || under == 0)
        return false;
    number->value = over / under;
    return isfinite(number->value);
}

static bool number_of(struct slice text, struct number *number)
{
    char copy[1024];
    while (text.len > 0 && strchr(" \t\r\n", text.data[text.len - 1]) != NULL)
        text.len--;
    while (text.len > 0 && strchr(" \t\r\n", text.data[0]) != NULL) {
        text.data++;
        text.len--;
    }
    if (text.len == 0 || text.len >= sizeof copy || memchr(text.data, '\0', text.len) != NULL)
        return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return read_number(copy, number);
}

static bool close_to(const struct numeric *numeric, double a, double b)
{
    return fabs(a - b) <= fmax(numeric->absolute, numeric->tolerance * fabs(b));
}

/* Where one side only has a percent sign, people mean either: 50% is written for 0.5 and for 50. */
static bool equal(const struct numeric *numeric, struct number given, struct number truth)
{
    if (close_to(numeric, given.value, truth.value))
        return true;
    if (given.percent == truth.percent)
        return false;
    return given.percent ? close_to(numeric, given.value / 100, truth.value)
                         : close_to(numeric, given.value, truth.value / 100);
}

static int numeric_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    struct json_t *doc;
    struct slice prompt;
    int code = check_prompt(input->record, &doc, &prompt, error);
    if (code < 0)
        return code;
    struct buf text = {0};
    struct number truth, given;
    if (doc_scalar(doc, "answer", &text) && number_of(buf_slice(&text), &truth))
        *verdict = verdict_of(number_of(input->answer, &given) && equal(state, given, truth));
    else
        *verdict = verdict_unknown;
    buf_clear(&text);
    doc_free(&doc);
    return 0;
}

static void numeric_close(void **state)
{
    free(*state);
    *state = NULL;
}

const struct check check_numeric = {
    .name = "numeric",
    .help = "the answer is the same number as the record's answer",
    .open = numeric_open,
    .run = numeric_run,
    .close = numeric_close,
};
