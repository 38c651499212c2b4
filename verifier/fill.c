/* fill.c - see fill.h. */
#include "verifier/fill.h"
#include "common/limits.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
#define X(name, text) [name] = text,
    FILL_TABLE(X)
#undef X
};

/* The name that stands at `at`, which holds '{'; FILL_NAMES: none. */
static enum fill_name name_at(struct slice template, size_t at)
{
    for (int i = 0; i < FILL_NAMES; i++) {
        size_t len = strlen(names[i]);
        if (template.len - at >= len + 2 && memcmp(template.data + at + 1, names[i], len) == 0 &&
            template.data[at + 1 + len] == '}')
            return (enum fill_name)i;
    }
    return FILL_NAMES;
}

void fill_put(struct slice template, const struct fill *fill, struct buf *out)
{
    size_t from = 0;
    for (size_t at = 0; at < template.len; at++) {
        if (template.data[at] != '{')
            continue;
        enum fill_name name = name_at(template, at);
        if (name == FILL_NAMES)
            continue;
        buf_put(out, template.data + from, at - from);
        if (fill->put != NULL)
            fill->put(out, fill->of[name]);
        else
            buf_put(out, fill->of[name].data, fill->of[name].len);
        at += strlen(names[name]) + 1;
        from = at + 1;
    }
    buf_put(out, template.data + from, template.len - from);
}

bool fill_has(struct slice template, enum fill_name name)
{
    for (size_t at = 0; at < template.len; at++)
        if (template.data[at] == '{' && name_at(template, at) == name)
            return true;
    return false;
}

static int read_file(const char *path, struct buf *out, struct error *error)
{
    char block[4096];
    size_t got;
    FILE *file = fopen(path, "rbe");
    if (file == NULL)
        return error_set(error, ERR_NOT_FOUND, "template %.200s: %s", path, strerror(errno));
    while ((got = fread(block, 1, sizeof block, file)) > 0 && out->len <= LIMIT_SPEC)
        buf_put(out, block, got);
    bool bad = ferror(file) != 0;
    fclose(file);
    if (bad)
        return error_set(error, ERR_IO, "template %.200s cannot be read", path);
    if (out->len > LIMIT_SPEC)
        return error_set(error, ERR_LIMIT, "template %.200s is longer than %d bytes", path, (int)LIMIT_SPEC);
    return 0;
}

int fill_load(const char *option, enum fill_name must, struct buf *out, struct error *error)
{
    struct slice text = slice_of(option);
    bool inline_text = fill_has(text, FILL_TEXT) || fill_has(text, FILL_CANDIDATES);
    if (inline_text)
        buf_put(out, text.data, text.len);
    int code = inline_text ? 0 : read_file(option, out, error);
    if (code == 0 && !fill_has(buf_slice(out), must))
        code = error_set(error, ERR_SYNTAX, "the template %.100s does not say where {%s} goes",
                         inline_text ? "of the sweep file" : option, names[must]);
    return code;
}
