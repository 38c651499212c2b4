/* inline_files.c - files named in the content parts of messages, put into the prompts when a sweep is submitted.
 *
 * A part may name an image or a recording as `file:PATH`. Workers run elsewhere and a journal outlives folders, so the
 * file travels as text: a `url` becomes a data: URL, a `data` bare base64, which is what the APIs of inference servers
 * take. It is then part of the record like any other text: fingerprinted, stored once with the prompts, passed through
 * unread. Records that name no file stay byte for byte as they were written. */
#include "cli/cli.h"
#include "common/buf.h"
#include "common/limits.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct place {
    const char *prompts; /* path of the prompts file: what parts name is relative to its folder */
    uint32_t line;
    struct error *error;
};

static const char scheme[] = "file:";
static const char too_large[] = "; make it smaller, or give an address that the inference server can read";

static const struct {
    const char *end, *mime;
} types[] = {
    {".png", "image/png"},  {".jpg", "image/jpeg"},  {".jpeg", "image/jpeg"},
    {".gif", "image/gif"},  {".webp", "image/webp"}, {".wav", "audio/wav"},
    {".mp3", "audio/mpeg"}, {".mp4", "video/mp4"},   {".pdf", "application/pdf"},
};

static const char *mime_of(const char *path)
{
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot != NULL && i < sizeof types / sizeof types[0]; i++)
        if (strcasecmp(dot, types[i].end) == 0)
            return types[i].mime;
    return NULL;
}

static void put_base64(struct buf *out, const unsigned char *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < len; i += 3) {
        uint32_t three =
            (uint32_t)data[i] << 16 | (i + 1 < len ? (uint32_t)data[i + 1] << 8 : 0) | (i + 2 < len ? data[i + 2] : 0);
        char four[4] = {digits[three >> 18], digits[three >> 12 & 63], digits[three >> 6 & 63], digits[three & 63]};
        if (i + 1 >= len)
            four[2] = '=';
        if (i + 2 >= len)
            four[3] = '=';
        buf_put(out, four, 4);
    }
}

/* A prompts file that came from elsewhere must not be able to send what lies around on this machine. */
static bool is_below(const char *path)
{
    for (const char *at = path; at != NULL; at = strchr(at, '/'), at = at == NULL ? NULL : at + 1)
        if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == '\0'))
            return false;
    return path[0] != '/';
}

/* `out`: what stands for file:PATH. */
static int encode(const struct place *place, const char *path, bool url, struct buf *out)
{
    const char *mime = mime_of(path);
    if (mime == NULL || !is_below(path))
        return error_set(
            place->error, ERR_REFUSED,
            "%s:%u: 'file:%s' is not taken: name a .png .jpg .jpeg .gif .webp .wav .mp3 .mp4 or .pdf in the "
            "folder of the prompts or below it",
            place->prompts, place->line, path);
    struct error why;
    char *beside = path_beside(place->prompts, path), *data;
    size_t len;
    int rc = file_read(beside, LIMIT_PROMPT / 4 * 3, &data, &len, &why);
    free(beside);
    if (rc != 0)
        return error_set(place->error, rc, "%s:%u: %s%s", place->prompts, place->line, why.text,
                         rc == ERR_LIMIT ? too_large : "");
    if (url)
        buf_printf(out, "data:%s;base64,", mime);
    put_base64(out, (const unsigned char *)data, len);
    free(data);
    return 0;
}

/* Replaces object[key] when it names a file. */
static int replace(const struct place *place, json_t *object, const char *key, bool url)
{
    const char *value = json_string_value(json_object_get(object, key));
    if (value == NULL || strncmp(value, scheme, sizeof scheme - 1) != 0)
        return 0;
    struct buf text = {0};
    int rc = encode(place, value + sizeof scheme - 1, url, &text);
    if (rc == 0)
        json_object_set_new(object, key, json_stringn_nocheck(text.data, text.len));
    buf_clear(&text);
    return rc;
}

/* {"type": "image_url", "image_url": {"url": ...}}, {"type": "input_audio", "input_audio": {"data": ...}}, and whatever
 * else has the same form. */
static int inline_part(const struct place *place, json_t *part)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    json_t *what = type == NULL ? NULL : json_object_get(part, type);
    if (json_is_string(what))
        return strcmp(type, "text") == 0 ? 0 : replace(place, part, type, true);
    int rc = replace(place, what, "url", true);
    return rc != 0 ? rc : replace(place, what, "data", false);
}

static int inline_record(const struct place *place, json_t *record)
{
    size_t i, k;
    json_t *message, *part;
    json_array_foreach (json_object_get(record, "messages"), i, message) {
        json_array_foreach (json_object_get(message, "content"), k, part) {
            int rc = inline_part(place, part);
            if (rc != 0)
                return rc;
        }
    }
    return 0;
}

/* Lines that are no JSON are left to prompt_set_parse, which says so. */
static int inline_line(const struct place *place, struct slice line, struct buf *out)
{
    json_t *record = memmem(line.data, line.len, "\"file:", 6) == NULL
                         ? NULL
                         : json_loadb(line.data, line.len, JSON_REJECT_DUPLICATES, NULL);
    if (record == NULL) {
        buf_put(out, line.data, line.len);
        return 0;
    }
    int rc = inline_record(place, record);
    char *text = rc == 0 ? json_dumps(record, JSON_COMPACT) : NULL;
    if (rc == 0 && strlen(text) > LIMIT_PROMPT)
        rc = error_set(place->error, ERR_LIMIT,
                       "%s:%u: with its files the record has %zu bytes; at most %u are allowed%s", place->prompts,
                       place->line, strlen(text), LIMIT_PROMPT, too_large);
    if (rc == 0)
        buf_puts(out, text);
    free(text);
    json_decref(record);
    return rc;
}

int inline_files(const char *path, char **prompts, size_t *len, struct error *error)
{
    if (*len == 0 || memmem(*prompts, *len, "\"file:", 6) == NULL)
        return 0;
    struct place place = {.prompts = path, .line = 0, .error = error};
    struct buf out = {0};
    int rc = 0;
    for (const char *at = *prompts, *end = at + *len; rc == 0 && at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline == NULL ? end : newline;
        place.line++;
        rc = inline_line(&place, (struct slice){at, (size_t)(stop - at)}, &out);
        if (newline != NULL)
            buf_put(&out, "\n", 1);
        if (rc == 0 && out.len > LIMIT_SUBMISSION)
            rc = error_set(error, ERR_LIMIT, "%s: with its files it has more than %u bytes%s", path, LIMIT_SUBMISSION,
                           too_large);
        at = stop + 1;
    }
    if (rc != 0) {
        buf_clear(&out);
        return rc;
    }
    free(*prompts);
    *prompts = out.data;
    *len = out.len;
    return 0;
}
