/* place.c - see place.h. It copies text to text: read and written again, a spec might come out as other bytes than those
 * of earlier releases, whose hashes are in journals. */
#include "common/place.h"

#include <stdbool.h>
#include <string.h>

enum { DEPTH_MAX = 32 }; /* of verifiers inside each other there are fewer */

enum part { SPEC, OPTIONS, INNER };

struct copy {
    const char *at, *end;
    struct buf *out;
};

static bool is_place(enum part part, struct slice key)
{
    static const struct {
        enum part part;
        const char *key;
    } places[] = {{SPEC, "url"}, {OPTIONS, "urls"}, {OPTIONS, "key_file"}, {OPTIONS, "key_env"}, {OPTIONS, "ca_file"}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (places[i].part == part && key.len == strlen(places[i].key) && memcmp(key.data, places[i].key, key.len) == 0)
            return true;
    return false;
}

static bool skip_text(struct copy *copy)
{
    for (copy->at++; copy->at < copy->end && *copy->at != '"'; copy->at++)
        if (*copy->at == '\\')
            copy->at++;
    return copy->at++ < copy->end;
}

/* To the end of a value, whatever is in it. */
static bool skip_value(struct copy *copy)
{
    size_t depth = 0;
    while (copy->at < copy->end) {
        char c = *copy->at;
        if (depth == 0 && (c == ',' || c == '}' || c == ']'))
            return true;
        if (c != '"')
            copy->at++;
        else if (!skip_text(copy))
            return false;
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
    }
    return false;
}

static bool copy_object(struct copy *copy, enum part part, unsigned depth);

static bool copy_value(struct copy *copy, enum part part, struct slice key, unsigned depth)
{
    if (part == INNER)
        return copy_object(copy, SPEC, depth + 1);
    if (part == SPEC && key.len == 7 && memcmp(key.data, "options", 7) == 0)
        return copy_object(copy, OPTIONS, depth + 1);
    if (part == SPEC && key.len == 5 && memcmp(key.data, "inner", 5) == 0)
        return copy_object(copy, INNER, depth + 1);
    const char *from = copy->at;
    if (!skip_value(copy))
        return false;
    if (is_place(part, key))
        buf_puts(copy->out, "null");
    else
        buf_put(copy->out, from, (size_t)(copy->at - from));
    return true;
}

/* `"key":value` */
static bool copy_member(struct copy *copy, enum part part, unsigned depth)
{
    const char *from = copy->at;
    if (copy->at == copy->end || *from != '"' || !skip_text(copy) || copy->at >= copy->end || *copy->at != ':')
        return false;
    struct slice key = {from + 1, (size_t)(copy->at - from) - 2};
    copy->at++;
    buf_put(copy->out, from, (size_t)(copy->at - from));
    return copy_value(copy, part, key, depth);
}

static bool copy_object(struct copy *copy, enum part part, unsigned depth)
{
    if (depth > DEPTH_MAX || copy->at == copy->end || *copy->at != '{')
        return false;
    bool empty = copy->at + 1 < copy->end && copy->at[1] == '}';
    do { /* at the brace, or the comma, before a member */
        buf_put(copy->out, copy->at++, 1);
        if (!empty && !copy_member(copy, part, depth))
            return false;
    } while (copy->at < copy->end && *copy->at == ',');
    if (copy->at >= copy->end || *copy->at != '}')
        return false;
    buf_put(copy->out, copy->at++, 1);
    return true;
}

void place_blank(struct slice spec, struct buf *out)
{
    size_t before = out->len;
    struct copy copy = {spec.data, spec.data + spec.len, out};
    if (spec.len > 0 && copy_object(&copy, SPEC, 0) && copy.at == copy.end)
        return;
    out->len = before;
    buf_put(out, spec.data, spec.len);
}
