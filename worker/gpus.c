/* gpus.c - GPUs and their groups; see gpus.h. */
#include "worker/gpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A driver in trouble makes nvidia-smi hang. */
static const char inventory[] = "timeout 20 nvidia-smi --query-gpu=index,uuid,name --format=csv,noheader 2>/dev/null";

static struct slice trim(struct slice text)
{
    while (text.len > 0 && (text.data[0] == ' ' || text.data[0] == '\t'))
        text = (struct slice){text.data + 1, text.len - 1};
    while (text.len > 0 && strchr(" \t\r", text.data[text.len - 1]) != NULL)
        text.len--;
    return text;
}

/* Takes what stands before the next `end`, trimmed, off the text. */
static struct slice cut(struct slice *text, char end)
{
    const char *at = text->len > 0 ? memchr(text->data, end, text->len) : NULL;
    struct slice part = {text->data, at == NULL ? text->len : (size_t)(at - text->data)};
    size_t gone = at == NULL ? text->len : part.len + 1;
    *text = (struct slice){text->data + gone, text->len - gone};
    return trim(part);
}

static void set(char to[GPU_TEXT], struct slice text)
{
    snprintf(to, GPU_TEXT, "%.*s", (int)text.len, text.data);
}

static bool same(struct slice text, const char *other)
{
    return text.len == strlen(other) && memcmp(text.data, other, text.len) == 0;
}

/* A UUID may be shortened, as CUDA allows. */
static bool names(struct slice id, const struct gpu *gpu, const char *uuid)
{
    return same(id, gpu->id) || (id.len > 4 && strncmp(uuid, id.data, id.len) == 0);
}

void gpus_read(struct slice csv, const char *visible, struct gpus *gpus)
{
    struct gpus all = {0};
    char uuid[GPUS_MAX][GPU_TEXT];
    while (csv.len > 0 && all.len < GPUS_MAX) {
        struct slice line = cut(&csv, '\n'), index = cut(&line, ',');
        if (index.len == 0 || strspn(index.data, "0123456789") < index.len)
            continue; /* a message, no row */
        set(all.gpu[all.len].id, index);
        set(uuid[all.len], cut(&line, ','));
        set(all.gpu[all.len++].name, trim(line));
    }
    *gpus = all;
    gpus->known = all.len > 0;
    if (visible == NULL)
        return;
    struct slice left = slice_of(visible);
    gpus->known = true;
    gpus->len = 0;
    while (left.len > 0 && gpus->len < GPUS_MAX) {
        struct slice id = cut(&left, ',');
        struct gpu *gpu = &gpus->gpu[gpus->len];
        if (id.len == 0 || same(id, "-1") || same(id, "NoDevFiles")) /* CUDA stops at an entry that is none */
            return;
        *gpu = (struct gpu){{0}, {0}};
        set(gpu->id, id);
        for (size_t i = 0; i < all.len; i++)
            if (names(id, &all.gpu[i], uuid[i]))
                memcpy(gpu->name, all.gpu[i].name, GPU_TEXT);
        gpus->len++;
    }
}

void gpus_find(struct gpus *gpus)
{
    struct buf out = {0};
    FILE *pipe = popen(inventory, "re");
    size_t got = 0;
    do {
        char *to = buf_grow(&out, 4096);
        got = pipe != NULL && out.len < 65536 ? fread(to, 1, 4096, pipe) : 0;
        out.len += got;
    } while (got > 0);
    if (pipe != NULL)
        pclose(pipe);
    gpus_read(buf_slice(&out), getenv("CUDA_VISIBLE_DEVICES"), gpus);
    buf_clear(&out);
}

/* -- the plan ------------------------------------------------------------------------------------------------------- */

static const struct gpu *find(const struct gpus *gpus, struct slice id)
{
    for (size_t i = 0; i < gpus->len; i++)
        if (same(id, gpus->gpu[i].id))
            return &gpus->gpu[i];
    return NULL;
}

static int first_gpus(size_t count, const struct gpus *gpus, struct gpu_plan *plan, struct error *error)
{
    if (count == 0)
        return error_set(
            error, ERR_NOT_FOUND,
            "no GPU was found (nvidia-smi, CUDA_VISIBLE_DEVICES): say --gpus none for a server on the CPU, or "
            "name the GPUs, like --gpus '0,1;2,3'");
    if (count > gpus->len)
        return error_set(error, ERR_NOT_FOUND, "--gpus %zu: only %zu are there", count, gpus->len);
    for (size_t i = 0; i < count; i++)
        snprintf(plan->group[i], GPU_GROUP, "%s", gpus->gpu[i].id);
    plan->len = count;
    return 0;
}

static int add_group(struct slice text, const struct gpus *gpus, struct gpu_plan *plan, struct error *error)
{
    struct buf group = {0};
    int rc = 0;
    while (text.len > 0 && rc == 0) {
        struct slice id = cut(&text, ',');
        if (id.len == 0)
            rc = error_set(error, ERR_SYNTAX, "--gpus: a GPU without a name; write it like '0,1;2,3'");
        else if (gpus->known && find(gpus, id) == NULL)
            rc = error_set(error, ERR_NOT_FOUND, "--gpus: there is no GPU '%.*s' here", (int)id.len, id.data);
        else
            buf_printf(&group, "%s%.*s", group.len > 0 ? "," : "", (int)id.len, id.data);
    }
    if (rc == 0 && (plan->len == GPUS_MAX || group.len >= GPU_GROUP))
        rc = error_set(error, ERR_LIMIT, "--gpus: more than %d groups, or one too long", GPUS_MAX);
    if (rc == 0)
        memcpy(plan->group[plan->len++], group.data, group.len + 1);
    buf_clear(&group);
    return rc;
}

static int groups(const char *text, const struct gpus *gpus, struct gpu_plan *plan, struct error *error)
{
    struct slice left = slice_of(text);
    int rc = 0;
    while (left.len > 0 && rc == 0) {
        struct slice group = cut(&left, ';');
        rc = group.len > 0 ? add_group(group, gpus, plan, error)
                           : error_set(error, ERR_SYNTAX, "--gpus: an empty group; write it like '0,1;2,3'");
    }
    return rc;
}

/* How many of each name, in the order of the plan. */
static void describe(const struct gpus *gpus, struct gpu_plan *plan)
{
    const char *name[GPUS_MAX];
    size_t count[GPUS_MAX], len = 0, used = 0;
    for (size_t i = 0; i < plan->len; i++) {
        struct slice group = slice_of(plan->group[i]);
        do {
            const struct gpu *gpu = find(gpus, cut(&group, ','));
            const char *what = plan->group[i][0] == '\0'             ? "CPU"
                               : gpu == NULL || gpu->name[0] == '\0' ? "GPU"
                                                                     : gpu->name;
            size_t at = 0;
            while (at < len && strcmp(name[at], what) != 0)
                at++;
            if (at == len && len < GPUS_MAX) {
                name[len] = what;
                count[len++] = 0;
            }
            if (at < len)
                count[at]++;
        } while (group.len > 0);
    }
    for (size_t i = 0; i < len && used < sizeof plan->devices; i++)
        used += (size_t)snprintf(plan->devices + used, sizeof plan->devices - used, "%s%zux %s", i > 0 ? ", " : "",
                                 count[i], name[i]);
}

int gpus_plan(const char *text, const struct gpus *gpus, struct gpu_plan *plan, struct error *error)
{
    unsigned count;
    char rest;
    int rc = 0;
    *plan = (struct gpu_plan){0};
    if (strcmp(text, "auto") == 0) {
        rc = first_gpus(gpus->len, gpus, plan, error);
    } else if (strcmp(text, "none") == 0) {
        plan->len = 1;
    } else if (sscanf(text, "cpu:%3u%c", &count, &rest) == 1 && count > 0 && count <= GPUS_MAX) {
        plan->len = count;
    } else if (text[0] != '\0' && strspn(text, "0123456789") == strlen(text) && strlen(text) < 4) {
        rc = sscanf(text, "%u", &count) == 1 && count > 0
                 ? first_gpus(count, gpus, plan, error)
                 : error_set(error, ERR_RANGE, "--gpus 0: say --gpus none for a server on the CPU");
    } else if (strchr(text, ',') != NULL || strchr(text, ';') != NULL) {
        rc = groups(text, gpus, plan, error);
    } else {
        rc = error_set(error, ERR_SYNTAX,
                       "--gpus takes auto, none, cpu:N, a number, or groups like '0,1;2,3', not '%.100s'", text);
    }
    if (rc == 0)
        describe(gpus, plan);
    return rc;
}
