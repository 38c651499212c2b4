/* ruling.c - see ruling.h. */
#include "verifier/ruling.h"
#include "verifier/doc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define VERDICT_MAX 64

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static struct slice trim(struct slice text)
{
    while (text.len > 0 && blank(text.data[0]))
        text = (struct slice){text.data + 1, text.len - 1};
    while (text.len > 0 && blank(text.data[text.len - 1]))
        text.len--;
    return text;
}

/* Without what people put around a verdict: **: [[yes]].** */
static struct slice strip(struct slice text)
{
    text = trim(text);
    while (text.len > 0 && strchr(":*_`\"' \t\r\n", text.data[0]) != NULL && text.data[0] != '\0')
        text = (struct slice){text.data + 1, text.len - 1};
    while (text.len > 0 && strchr(".*_`\"' \t\r\n", text.data[text.len - 1]) != NULL && text.data[text.len - 1] != '\0')
        text.len--;
    return text;
}

/* What the judge says in the end: behind the last nonce, or its last line. */
static bool last_words(struct slice reply, struct slice nonce, struct slice *words)
{
    if (nonce.len == 0) {
        reply = trim(reply);
        const char *newline = reply.len > 0 ? memrchr(reply.data, '\n', reply.len) : NULL;
        size_t skip = newline != NULL ? (size_t)(newline - reply.data) + 1 : 0;
        *words = (struct slice){reply.len > 0 ? reply.data + skip : "", reply.len - skip};
        return reply.len > 0;
    }
    if (reply.len < nonce.len)
        return false;
    for (size_t at = reply.len - nonce.len + 1; at-- > 0;)
        if (memcmp(reply.data + at, nonce.data, nonce.len) == 0) {
            *words = (struct slice){reply.data + at + nonce.len, reply.len - at - nonce.len};
            return true;
        }
    return false;
}

static bool inside(struct slice text, const char *open, const char *close, struct slice *between)
{
    size_t head = strlen(open), tail = strlen(close);
    if (text.len < head + tail || memcmp(text.data, open, head) != 0 ||
        memcmp(text.data + text.len - tail, close, tail) != 0)
        return false;
    *between = trim((struct slice){text.data + head, text.len - head - tail});
    return between->len <= VERDICT_MAX && memmem(between->data, between->len, "[[", 2) == NULL &&
           memmem(between->data, between->len, "]]", 2) == NULL && memchr(between->data, '{', between->len) == NULL &&
           memchr(between->data, '}', between->len) == NULL;
}

/* {"verdict": X} or {"score": X}: the raw X without its quotes. Parsed for its form, read in place. */
static bool of_json(struct slice text, struct slice *verdict)
{
    struct json_t *doc;
    const struct json_t *value;
    const char *key;
    struct slice body, word;
    double number;
    if (text.len < 2 || text.data[0] != '{' || doc_parse(text, &doc, NULL) < 0)
        return false;
    bool good = doc_single(doc, &key, &value) && (strcmp(key, "verdict") == 0 || strcmp(key, "score") == 0) &&
                (doc_is_text(value, &word) || doc_is_number(value, &number)) && inside(text, "{", "}", &body);
    doc_free(&doc);
    const char *colon = good ? memchr(body.data, ':', body.len) : NULL;
    if (colon == NULL)
        return false;
    *verdict = strip((struct slice){colon + 1, body.len - (size_t)(colon + 1 - body.data)});
    return true;
}

static bool of_any(struct slice text, struct slice *verdict)
{
    return inside(text, "[[", "]]", verdict) || inside(text, "\\boxed{", "}", verdict) || of_json(text, verdict);
}

static size_t count(struct slice text, const char *what)
{
    size_t found = 0, len = strlen(what);
    for (size_t i = 0; i + len <= text.len; i++)
        found += memcmp(text.data + i, what, len) == 0;
    return found;
}

/* A last line may say something before its verdict, if it holds only one. */
static bool end_of_line(struct slice line, struct slice *verdict)
{
    static const char *const opens[] = {"[[", "\\boxed{", "{"};
    if (count(line, "[[") + count(line, "\\boxed{") > 1 || count(line, "{") > 1)
        return false;
    for (size_t i = 0; i < sizeof opens / sizeof opens[0]; i++) {
        const char *at = memmem(line.data, line.len, opens[i], strlen(opens[i]));
        if (at != NULL)
            return of_any((struct slice){at, line.len - (size_t)(at - line.data)}, verdict);
    }
    return false;
}

bool ruling_find(struct slice reply, struct slice nonce, struct slice *verdict)
{
    struct slice words;
    if (!last_words(reply, nonce, &words))
        return false;
    words = strip(words);
    return of_any(words, verdict) || (nonce.len == 0 && end_of_line(words, verdict));
}

bool ruling_yes(struct slice verdict, bool *yes)
{
    int choice;
    if (!ruling_choice(verdict, "no|yes", &choice))
        return false;
    *yes = choice == 1;
    return true;
}

bool ruling_choice(struct slice verdict, const char *choices, int *choice)
{
    for (*choice = 0;; (*choice)++) {
        size_t len = strcspn(choices, "|");
        if (len == verdict.len && strncasecmp(choices, verdict.data, len) == 0)
            return true;
        if (choices[len] == '\0')
            return false;
        choices += len + 1;
    }
}

bool ruling_points(struct slice verdict, double min, double max, double *points)
{
    char text[VERDICT_MAX + 1], *end;
    if (verdict.len == 0 || verdict.len > 16)
        return false;
    memcpy(text, verdict.data, verdict.len);
    text[verdict.len] = '\0';
    if (strspn(text, "0123456789.-") != verdict.len)
        return false;
    *points = strtod(text, &end);
    return *end == '\0' && *points >= min && *points <= max;
}

bool ruling_scores(struct slice reply, struct slice nonce, double min, double max, double *points, size_t n)
{
    struct slice words;
    struct json_t *doc;
    if (!last_words(reply, nonce, &words) || doc_parse(strip(words), &doc, NULL) < 0)
        return false;
    bool good = doc_size(doc) == n;
    for (size_t i = 0; good && i < n; i++) {
        char key[24];
        snprintf(key, sizeof key, "%zu", i + 1);
        good = doc_is_number(doc_get(doc, key), &points[i]) && points[i] >= min && points[i] <= max;
    }
    doc_free(&doc);
    return good;
}
