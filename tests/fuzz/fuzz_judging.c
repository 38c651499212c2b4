/* fuzz_judging.c - what a judge or a reward model answers. Input: a line with the nonce, a line with a path, the reply. */
#include "verifier/doc.h"
#include "verifier/ruling.h"
#include "verifier/scorer.h"

#include <assert.h>
#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice take_line(struct slice *rest)
{
    const char *newline = rest->len > 0 ? memchr(rest->data, '\n', rest->len) : NULL;
    struct slice line = *rest;
    if (newline != NULL)
        line.len = (size_t)(newline - rest->data);
    size_t used = line.len + (newline != NULL);
    *rest = (struct slice){rest->data + used, rest->len - used};
    return line;
}

/* A verdict is part of the reply, and stands behind the last nonce. */
static void judge(struct slice reply, struct slice nonce)
{
    struct slice verdict;
    bool yes;
    int choice;
    double points, scores[3];
    if (ruling_find(reply, nonce, &verdict)) {
        assert(verdict.data >= reply.data);
        assert(verdict.data + verdict.len <= reply.data + reply.len);
        assert(verdict.len < reply.len);
        if (nonce.len > 0)
            assert(memmem(verdict.data, (size_t)(reply.data + reply.len - verdict.data), nonce.data, nonce.len) ==
                   NULL);
        if (ruling_yes(verdict, &yes))
            assert(verdict.len == 2u + yes);
        ruling_choice(verdict, "A|B|tie", &choice);
        if (ruling_points(verdict, 1, 10, &points))
            assert(points >= 1 && points <= 10);
    }
    if (ruling_scores(reply, nonce, 1, 10, scores, 3))
        for (int i = 0; i < 3; i++)
            assert(scores[i] >= 1 && scores[i] <= 10);
}

static void score(struct slice reply, struct slice path)
{
    struct json_t *doc;
    char text[DOC_PATH_MAX];
    double number = 0;
    if (doc_parse_any(reply, &doc, NULL) < 0)
        return;
    for (size_t len = 1; len < 4; len++)
        for (size_t i = 0; i < len; i++)
            if (scorer_number(scorer_value(scorer_row(doc, i, len)), -1, &number))
                assert(isfinite(number));
    if (path.len < sizeof text && memchr(path.data, '\0', path.len) == NULL) {
        memcpy(text, path.data, path.len);
        text[path.len] = '\0';
        if (doc_path_check(text, NULL) == 0 && doc_is_number(doc_at(doc, text), &number))
            assert(isfinite(number));
    }
    doc_free(&doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = {(const char *)data, size};
    struct slice nonce = take_line(&rest), path = take_line(&rest);
    if (size == 0)
        return 0;
    judge(rest, nonce);
    score(rest, path);
    return 0;
}
