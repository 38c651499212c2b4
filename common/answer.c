/* answer.c - answer extraction; see answer.h.
 *
 * Texts come from models and may be hostile: each extractor is linear in the text, regex apart,
 * which is bounded. */
#include "common/answer.h"

#include "common/hash.h"
#include "common/limits.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

#define PATTERN_LEN_MAX   512
#define PATTERN_SIZE_MAX  1000 /* nodes of an expression once its repetitions are written out */
#define PATTERN_DEPTH_MAX 32
#define REGEX_TEXT_MAX    65536
#define REGEX_LINE_MAX    4096

bool extractor_kind_of(struct slice name, enum extractor_kind *kind)
{
    static const struct {
        const char *name;
        enum extractor_kind kind;
    } kinds[] = {
#define X(value, text, help) {text, value},
        EXTRACTOR_TABLE(X)
#undef X
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strlen(kinds[i].name) == name.len && memcmp(kinds[i].name, name.data, name.len) == 0) {
            *kind = kinds[i].kind;
            return true;
        }
    return false;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static struct slice trim(struct slice text)
{
    while (text.len > 0 && is_space(text.data[text.len - 1]))
        text.len--;
    while (text.len > 0 && is_space(text.data[0])) {
        text.data++;
        text.len--;
    }
    return text;
}

void answer_canonical(struct slice text, struct buf *out)
{
    buf_reset(out);
    text = trim(text);
    for (size_t i = 0; i < text.len;) {
        size_t run = i;
        while (run < text.len && !is_space(text.data[run]))
            run++;
        buf_put(out, text.data + i, run - i);
        for (i = run; i < text.len && is_space(text.data[i]);)
            i++;
        if (i < text.len)
            buf_put(out, " ", 1);
    }
}

uint64_t answer_class(struct slice answer)
{
    if (answer.len == 0)
        return 0;
    uint64_t hash = hash_bytes(answer.data, answer.len);
    return hash != 0 ? hash : 1;
}

/* Takes the last line off text. A text has at least one line, perhaps an empty one. *more: there
 * are others. */
static struct slice line_pop(struct slice *text, bool *more)
{
    size_t start = text->len;
    while (start > 0 && text->data[start - 1] != '\n')
        start--;
    struct slice line = {text->data + start, text->len - start};
    *more = start > 0;
    text->len = start > 0 ? start - 1 : 0;
    return line;
}

static struct slice last_line(struct slice text)
{
    for (bool more = text.len > 0; more;) {
        struct slice line = trim(line_pop(&text, &more));
        if (line.len > 0)
            return line;
    }
    return (struct slice){0};
}

/* A number as it stands in a text: [first, end) without its sign. */
struct number {
    size_t first, point, slash, end; /* point, slash: where, or end */
    bool negative;
};

static size_t skip_digits(struct slice text, size_t at)
{
    while (at < text.len && is_digit(text.data[at]))
        at++;
    return at;
}

/* After a first group of one to three digits, takes ",ddd" as long as no fourth digit follows. */
static size_t skip_thousands(struct slice text, size_t first, size_t at)
{
    if (at - first > 3)
        return at;
    while (at + 3 < text.len && text.data[at] == ',') {
        size_t end = skip_digits(text, at + 1);
        if (end != at + 4)
            break;
        at = end;
    }
    return at;
}

/* A minus belongs to the number unless something stands before it that it could be subtracted from:
 * 7-3 ends in 3. */
static bool sign_before(struct slice text, size_t first)
{
    static const char minus[] = "\xE2\x88\x92"; /* U+2212 */
    size_t at;
    if (first >= 1 && text.data[first - 1] == '-')
        at = first - 1;
    else if (first >= 3 && memcmp(text.data + first - 3, minus, 3) == 0)
        at = first - 3;
    else
        return false;
    if (at == 0)
        return true;
    char before = text.data[at - 1];
    return !is_digit(before) && !is_letter(before) && before != ')' && before != '-';
}

/* Reads the number whose first digit, or the point before it, is at first. */
static struct number number_read(struct slice text, size_t first)
{
    struct number number = {.first = first, .negative = sign_before(text, first)};
    size_t whole = skip_digits(text, first);
    size_t at = skip_thousands(text, first, whole);
    number.point = number.slash = SIZE_MAX;
    if (at + 1 < text.len && text.data[at] == '.' && is_digit(text.data[at + 1])) {
        number.point = at;
        at = skip_digits(text, at + 1);
    } else if (at + 1 < text.len && text.data[at] == '/' && is_digit(text.data[at + 1])) {
        size_t end = skip_digits(text, at + 1);
        size_t zeros = at + 1;
        while (zeros < end && text.data[zeros] == '0')
            zeros++;
        if (zeros < end) { /* n/0 is no number: its two halves are */
            number.slash = at;
            at = end;
        }
    }
    number.end = at;
    return number;
}

/* Digits of [at, end) without commas and leading zeros; "0" when nothing is left. */
static void put_whole(struct slice text, size_t at, size_t end, struct buf *out)
{
    size_t start = out->len;
    for (; at < end; at++) {
        bool leading = out->len == start && text.data[at] == '0';
        if (is_digit(text.data[at]) && !leading)
            buf_put(out, text.data + at, 1);
    }
    if (out->len == start)
        buf_puts(out, "0");
}

static void number_write(struct slice text, const struct number *number, struct buf *out)
{
    if (number->negative)
        buf_puts(out, "-");
    size_t start = out->len;
    if (number->slash != SIZE_MAX) {
        put_whole(text, number->first, number->slash, out);
        buf_puts(out, "/");
        put_whole(text, number->slash + 1, number->end, out);
    } else if (number->point != SIZE_MAX) {
        size_t end = number->end;
        while (text.data[end - 1] == '0')
            end--;
        put_whole(text, number->first, number->point, out);
        if (end > number->point + 1)
            buf_put(out, text.data + number->point, end - number->point);
    } else {
        put_whole(text, number->first, number->end, out);
    }
    bool zero = out->data[start] == '0' && (out->len == start + 1 || out->data[start + 1] == '/');
    if (zero) { /* there is one zero, without a sign */
        buf_reset(out);
        buf_puts(out, "0");
    }
}

static void last_number(struct slice text, struct buf *out)
{
    struct number last = {0};
    bool found = false;
    for (size_t at = 0; at < text.len;) {
        bool point = text.data[at] == '.' && at + 1 < text.len && is_digit(text.data[at + 1]);
        if (!point && !is_digit(text.data[at])) {
            at++;
            continue;
        }
        last = number_read(text, at);
        found = true;
        at = last.end;
    }
    if (found && last.end - last.first <= 2 * LIMIT_ANSWER)
        number_write(text, &last, out);
}

/* One pass: braces that open a box are remembered with their depth. Boxes nested deeper than the
 * stack are rare enough to forget the outermost ones; the last box to start, among those that
 * close, is the answer. */
static struct slice last_boxed(struct slice text)
{
    enum { BOXES = 64 };
    static const char command[] = "\\boxed{";
    struct {
        size_t start, depth;
    } open[BOXES];
    size_t opened = 0, depth = 0;
    struct slice best = {0};
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '\\' && text.len - i >= sizeof command - 1 &&
            memcmp(text.data + i, command, sizeof command - 1) == 0) {
            i += sizeof command - 2;
            if (opened == BOXES)
                memmove(open, open + 1, --opened * sizeof open[0]);
            open[opened].start = i + 1;
            open[opened++].depth = ++depth;
        } else if (text.data[i] == '\\') {
            i++; /* \{ and \} are printed, not grouping */
        } else if (text.data[i] == '{') {
            depth++;
        } else if (text.data[i] == '}' && depth > 0) {
            if (opened > 0 && open[opened - 1].depth == depth) {
                const char *start = text.data + open[--opened].start;
                if (best.data == NULL || start > best.data)
                    best = (struct slice){start, (size_t)(text.data + i - start)};
            }
            depth--;
        }
    }
    return best;
}

static struct slice after_marker(struct slice text, const char *marker)
{
    size_t len = strlen(marker);
    struct slice rest = {0}, left = text;
    const char *found;
    while (left.len > 0 && (found = memmem(left.data, left.len, marker, len)) != NULL) {
        left.len -= (size_t)(found - left.data) + len;
        left.data = found + len;
        rest = left;
    }
    const char *newline = rest.len > 0 ? memchr(rest.data, '\n', rest.len) : NULL;
    if (newline != NULL)
        rest.len = (size_t)(newline - rest.data);
    return rest;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* Whether text begins with word, in any case; then moves past it and the spaces behind it. */
static bool skip_word(struct slice *text, const char *word)
{
    size_t len = strlen(word);
    if (text->len < len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (lower(text->data[i]) != word[i])
            return false;
    text->data += len;
    text->len -= len;
    while (text->len > 0 && (*text->data == ' ' || *text->data == '*' || *text->data == '\t')) {
        text->data++;
        text->len--;
    }
    return true;
}

/* From behind "answer is", "answers are:", "**Answer:**" to the end of the sentence. */
static struct slice sentence(struct slice rest)
{
    rest = trim(rest);
    const char *newline = rest.len > 0 ? memchr(rest.data, '\n', rest.len) : NULL;
    if (newline != NULL)
        rest.len = (size_t)(newline - rest.data);
    for (size_t i = 0; i + 1 < rest.len; i++)
        if (rest.data[i] == '.' && is_space(rest.data[i + 1]))
            rest.len = i;
    while (rest.len > 0 &&
           (is_space(rest.data[rest.len - 1]) || rest.data[rest.len - 1] == '.' || rest.data[rest.len - 1] == '*'))
        rest.len--;
    return rest;
}

/* Looks from the end, and not far behind each sign, so that no text makes this slow. */
static struct slice after_answer(struct slice text)
{
    for (size_t at = text.len; at-- > 0;) {
        struct slice rest = {text.data + at, text.len - at};
        if (!skip_word(&rest, "answer"))
            continue;
        skip_word(&rest, "s ");
        bool marked = skip_word(&rest, "is") || skip_word(&rest, "are");
        marked |= skip_word(&rest, ":") || skip_word(&rest, "=");
        if (rest.len > 2 * LIMIT_ANSWER)
            rest.len = 2 * LIMIT_ANSWER;
        rest = sentence(rest);
        if (marked && rest.len > 0)
            return rest;
    }
    return (struct slice){0};
}

/* What the text itself points at, in the order of how sure the sign is. */
static void final_answer(struct slice text, struct buf *out)
{
    answer_canonical(last_boxed(text), out);
    if (out->len == 0)
        answer_canonical(after_marker(text, "####"), out);
    if (out->len == 0)
        answer_canonical(after_answer(text), out);
    if (out->len == 0)
        last_number(text, out);
}

/* Past the ']' of the bracket expression at p. */
static const char *skip_brackets(const char *p)
{
    p++;
    if (*p == '^')
        p++;
    if (*p == ']')
        p++;
    while (*p != '\0' && *p != ']') {
        if (*p == '[' && (p[1] == ':' || p[1] == '.' || p[1] == '=')) {
            char kind = p[1];
            p += 2;
            while (*p != '\0' && !(p[0] == kind && p[1] == ']'))
                p++;
            p += *p != '\0' ? 2 : 0;
        } else {
            p++;
        }
    }
    return *p != '\0' ? p + 1 : p;
}

/* The largest bound of the interval at p ("{3}", "{2,5}", "{4,}"), and where it ends. */
static uint64_t interval_max(const char **p)
{
    uint64_t most = 1, value = 0;
    const char *at = *p + 1;
    for (; *at != '\0' && (is_digit(*at) || *at == ','); at++) {
        value = is_digit(*at) && value < PATTERN_SIZE_MAX ? value * 10 + (uint64_t)(*at - '0') : 0;
        most = value > most ? value : most;
    }
    *p = *at == '}' ? at + 1 : at;
    return most + 1; /* {n,} is n copies and a loop */
}

/* regcomp writes repetitions out: a+ is aa*, and a{9} nine copies, so that nested ones grow
 * exponentially and would exhaust memory. Sums up how many nodes there would be. */
static uint64_t pattern_size(const char *p)
{
    uint64_t sum[PATTERN_DEPTH_MAX + 1] = {0}, last = 0;
    size_t depth = 0;
    while (*p != '\0') {
        if (*p == '(') {
            if (depth == PATTERN_DEPTH_MAX)
                return UINT64_MAX;
            sum[depth++] += last;
            sum[depth] = last = 0;
            p++;
        } else if (*p == ')' && depth > 0) {
            last += sum[depth--] + 1;
            p++;
        } else if (*p == '+' || *p == '*' || *p == '?') {
            last *= *p++ == '+' ? 2 : 1;
        } else if (*p == '{') {
            last *= interval_max(&p);
        } else {
            sum[depth] += last;
            last = 1;
            if (*p == '[')
                p = skip_brackets(p);
            else
                p += *p == '\\' && p[1] != '\0' ? 2 : 1;
        }
        if (last > PATTERN_SIZE_MAX || sum[depth] > PATTERN_SIZE_MAX)
            return UINT64_MAX;
    }
    for (size_t i = 0; i <= depth; i++)
        last += sum[i];
    return last;
}

static bool has_back_reference(const char *pattern)
{
    for (const char *p = pattern; *p != '\0';) {
        if (*p == '[') {
            p = skip_brackets(p);
        } else if (*p == '\\' && p[1] != '\0') {
            if (is_digit(p[1]))
                return true;
            p += 2;
        } else {
            p++;
        }
    }
    return false;
}

static int regex_open(const char *pattern, regex_t *regex, struct error *error)
{
    if (pattern == NULL || pattern[0] == '\0')
        return error_set(error, ERR_RANGE, "extractor `regex` needs a pattern");
    if (strnlen(pattern, PATTERN_LEN_MAX + 1) > PATTERN_LEN_MAX)
        return error_set(error, ERR_LIMIT, "the pattern is longer than %d bytes", PATTERN_LEN_MAX);
    if (has_back_reference(pattern))
        return error_set(error, ERR_SYNTAX, "the pattern `%.100s` has a back reference", pattern);
    if (pattern_size(pattern) > PATTERN_SIZE_MAX)
        return error_set(error, ERR_LIMIT, "the repetitions in pattern `%.100s` are too large", pattern);
    int code = regcomp(regex, pattern, REG_EXTENDED | REG_NEWLINE);
    if (code == 0)
        return 0;
    char why[128];
    regerror(code, regex, why, sizeof why);
    return error_set(error, ERR_SYNTAX, "the pattern `%.100s` is wrong: %s", pattern, why);
}

/* The first group of the last match in line, or the whole match when the pattern has no group. */
static bool match_last(const regex_t *regex, struct slice line, struct slice *found)
{
    bool any = false;
    for (size_t at = 0; at <= line.len;) {
        regmatch_t match[2] = {{.rm_so = (regoff_t)at, .rm_eo = (regoff_t)line.len}};
        int flags = REG_STARTEND | (at > 0 ? REG_NOTBOL : 0);
        if (regexec(regex, line.data, 2, match, flags) != 0)
            break;
        const regmatch_t *group = &match[regex->re_nsub > 0];
        any = true;
        *found = (struct slice){0};
        if (group->rm_so >= 0)
            *found = (struct slice){line.data + group->rm_so, (size_t)(group->rm_eo - group->rm_so)};
        size_t end = (size_t)match[0].rm_eo;
        at = end > (size_t)match[0].rm_so ? end : end + 1;
    }
    return any;
}

static int regex_extract(const char *pattern, struct slice text, struct buf *out)
{
    regex_t regex = {0};
    int code = regex_open(pattern, &regex, NULL);
    if (code != 0)
        return code;
    if (text.len > REGEX_TEXT_MAX)
        text = (struct slice){text.data + text.len - REGEX_TEXT_MAX, REGEX_TEXT_MAX};
    struct buf copy = {0}; /* sanitizers want the string terminated, REG_STARTEND or not */
    for (bool more = text.len > 0, found = false; more && !found;) {
        struct slice line = line_pop(&text, &more), answer = {0};
        if (line.len > REGEX_LINE_MAX)
            line.len = REGEX_LINE_MAX;
        buf_reset(&copy);
        buf_put(&copy, line.data, line.len);
        found = match_last(&regex, buf_slice(&copy), &answer);
        if (found)
            answer_canonical(answer, out);
    }
    buf_clear(&copy);
    regfree(&regex);
    return 0;
}

int extractor_check(const struct extractor *extractor, struct error *error)
{
    if (extractor->kind == EXTRACTOR_AFTER_MARKER && (extractor->marker == NULL || extractor->marker[0] == '\0'))
        return error_set(error, ERR_RANGE, "extractor `after-marker` needs a marker");
    if (extractor->kind != EXTRACTOR_REGEX)
        return 0;
    regex_t regex = {0};
    int code = regex_open(extractor->pattern, &regex, error);
    if (code == 0)
        regfree(&regex);
    return code;
}

static int extract(const struct extractor *extractor, struct slice text, struct buf *out)
{
    switch (extractor->kind) {
    case EXTRACTOR_NONE:
        return 0;
    case EXTRACTOR_LAST_LINE:
        answer_canonical(last_line(text), out);
        return 0;
    case EXTRACTOR_LAST_NUMBER:
        last_number(text, out);
        return 0;
    case EXTRACTOR_BOXED:
        answer_canonical(last_boxed(text), out);
        return 0;
    case EXTRACTOR_AFTER_MARKER:
        if (extractor->marker == NULL || extractor->marker[0] == '\0')
            return ERR_RANGE;
        answer_canonical(after_marker(text, extractor->marker), out);
        return 0;
    case EXTRACTOR_REGEX:
        return regex_extract(extractor->pattern, text, out);
    case EXTRACTOR_FINAL:
        final_answer(text, out);
        return 0;
    }
    return ERR_RANGE;
}

int answer_extract(const struct extractor *extractor, struct slice text, bool truncated, struct buf *out)
{
    buf_reset(out);
    if (truncated && !extractor->partial)
        return 0;
    int code = extract(extractor, text, out);
    if (out->len > LIMIT_ANSWER)
        buf_reset(out);
    return code;
}
