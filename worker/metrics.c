/* metrics.c - the text format of Prometheus, as far as a gauge needs it: `name{labels} value [time]`. */
#include "worker/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What stands behind the name and its labels; empty when the line is of another metric. A label's value may hold a brace, so
 * the last one counts. */
static struct slice value_text(struct slice line, const char *name)
{
    size_t len = strlen(name);
    if (line.len <= len || memcmp(line.data, name, len) != 0 || strchr("{ \t", line.data[len]) == NULL)
        return (struct slice){0};
    if (line.data[len] == '{') {
        const char *end = memrchr(line.data, '}', line.len);
        if (end == NULL)
            return (struct slice){0};
        len = (size_t)(end - line.data) + 1;
    }
    return (struct slice){line.data + len, line.len - len};
}

static bool number(struct slice text, double *value)
{
    char copy[64], *end;
    while (text.len > 0 && (*text.data == ' ' || *text.data == '\t'))
        text = (struct slice){text.data + 1, text.len - 1};
    size_t len = text.len < sizeof copy - 1 ? text.len : sizeof copy - 1;
    memcpy(copy, text.len > 0 ? text.data : "", len);
    copy[len] = '\0';
    *value = strtod(copy, &end);
    return end != copy && isfinite(*value);
}

static struct gauge_value find_one(struct slice page, const char *name)
{
    struct gauge_value found = {0};
    while (page.len > 0) {
        const char *end = memchr(page.data, '\n', page.len);
        size_t len = end != NULL ? (size_t)(end - page.data) : page.len;
        double value;
        if (number(value_text((struct slice){page.data, len}, name), &value)) {
            found.max = !found.known || value > found.max ? value : found.max;
            found.sum += value;
            found.known = true;
        }
        size_t step = end != NULL ? len + 1 : len;
        page = (struct slice){page.data + step, page.len - step};
    }
    return found;
}

struct gauge_value metrics_find(struct slice page, const char *const *names, size_t len)
{
    struct gauge_value found = {0};
    for (size_t i = 0; i < len && names[i] != NULL && !found.known; i++)
        found = find_one(page, names[i]);
    return found;
}
