/* attach.c - data of the content parts of messages, taken from files and out of the records when a sweep is submitted.
 *
 * A part may name an image or a recording as `file:PATH`. Workers run elsewhere and a journal outlives folders, so the
 * file travels as text: a `url` becomes a data: URL, a `data` bare base64, which is what the APIs of inference servers
 * take. Of these, and of data that was written so, what is large goes ahead of the records, once, and a name stands in its
 * place (attachment.h). All else stays byte for byte as it was written. */
#include "cli/cli.h"
#include "common/attachment.h"
#include "common/buf.h"
#include "common/limits.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <uthash.h>

struct seen {
    struct attachment_id id;
    UT_hash_handle hh;
};

struct attaching {
    const char *prompts; /* path of the prompts file: what parts name is relative to its folder */
    uint32_t line;
    struct buf ahead;  /* lines with attachments */
    struct seen *seen; /* hash: of these */
    json_t *record;    /* of this line */
    bool files;        /* a file was put into it */
    struct buf found;  /* struct slice each: base64 in the texts of the record that gets a name */
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
static int encode(const struct attaching *to, const char *path, bool url, struct buf *out)
{
    const char *mime = mime_of(path);
    if (mime == NULL || !is_below(path))
        return error_set(
            to->error, ERR_REFUSED,
            "%s:%u: 'file:%s' is not taken: name a .png .jpg .jpeg .gif .webp .wav .mp3 .mp4 or .pdf in the "
            "folder of the prompts or below it",
            to->prompts, to->line, path);
    struct error why;
    char *beside = path_beside(to->prompts, path), *data;
    size_t len;
    int rc = file_read(beside, LIMIT_ATTACHMENT / 4 * 3, &data, &len, &why);
    free(beside);
    if (rc != 0)
        return error_set(to->error, rc, "%s:%u: %s%s", to->prompts, to->line, why.text,
                         rc == ERR_LIMIT ? too_large : "");
    if (url)
        buf_printf(out, "data:%s;base64,", mime);
    put_base64(out, (const unsigned char *)data, len);
    free(data);
    return 0;
}

/* object[key] names a file: has its data from now on. */
static int take_file(struct attaching *to, json_t *object, const char *key, bool url)
{
    const char *value = json_string_value(json_object_get(object, key));
    struct buf text = {0};
    if (value == NULL || strncmp(value, scheme, sizeof scheme - 1) != 0)
        return 0;
    int rc = encode(to, value + sizeof scheme - 1, url, &text);
    if (rc == 0)
        json_object_set_new(object, key, json_stringn_nocheck(text.data, text.len));
    to->files = true;
    buf_clear(&text);
    return rc;
}

/* The base64 of object[key], if it has enough of it. */
static void take_data(struct attaching *to, const json_t *object, const char *key, bool url)
{
    static const char encoded[] = ";base64,";
    const char *value = json_string_value(json_object_get(object, key)), *data = value;
    if (value == NULL)
        return;
    if (url) {
        data = strncmp(value, "data:", 5) == 0 ? strstr(value, encoded) : NULL;
        data = data == NULL ? NULL : data + sizeof encoded - 1;
    }
    struct slice found = data == NULL ? (struct slice){0} : slice_of(data);
    if (found.len >= ATTACHMENT_FROM && attachment_plain(found))
        buf_put(&to->found, &found, sizeof found);
}

static int take(struct attaching *to, json_t *object, const char *key, bool url)
{
    int rc = take_file(to, object, key, url);
    if (rc == 0)
        take_data(to, object, key, url);
    return rc;
}

/* {"type": "image_url", "image_url": {"url": ...}}, {"type": "input_audio", "input_audio": {"data": ...}}, and whatever
 * else has the same form. */
static int take_part(struct attaching *to, json_t *part)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    json_t *what = type == NULL ? NULL : json_object_get(part, type);
    if (json_is_string(what))
        return strcmp(type, "text") == 0 ? 0 : take(to, part, type, true);
    int rc = take(to, what, "url", true);
    return rc != 0 ? rc : take(to, what, "data", false);
}

static int take_parts(struct attaching *to)
{
    size_t i, k;
    json_t *message, *part;
    json_array_foreach (json_object_get(to->record, "messages"), i, message) {
        json_array_foreach (json_object_get(message, "content"), k, part) {
            int rc = take_part(to, part);
            if (rc != 0)
                return rc;
        }
    }
    return 0;
}

static void put_ahead(struct attaching *to, const struct attachment *attachment)
{
    struct seen *seen;
    HASH_FIND(hh, to->seen, &attachment->id, sizeof attachment->id, seen);
    if (seen != NULL)
        return;
    seen = xalloc(sizeof *seen);
    seen->id = attachment->id;
    HASH_ADD(hh, to->seen, id, sizeof seen->id, seen);
    attachment_line_put(&to->ahead, attachment);
}

/* Puts names in place of what was found, which stands in the text in the same order; where JSON was written with needless
 * escapes it does not stand there, and stays. */
static void put_names(struct attaching *to, struct slice text, struct buf *out)
{
    size_t len = to->found.len / sizeof(struct slice), done = 0;
    for (size_t i = 0; i < len; i++) {
        struct attachment attachment;
        memcpy(&attachment.data, to->found.data + i * sizeof attachment.data, sizeof attachment.data);
        const char *at = memmem(text.data + done, text.len - done, attachment.data.data, attachment.data.len);
        if (at == NULL)
            continue;
        attachment.id = attachment_id_of(attachment.data);
        put_ahead(to, &attachment);
        buf_put(out, text.data + done, (size_t)(at - text.data) - done);
        attachment_name_put(out, attachment.id);
        done = (size_t)(at - text.data) + attachment.data.len;
    }
    buf_put(out, text.data + done, text.len - done);
}

/* Lines that are no JSON are left to prompt_set_parse, which says so. */
static int attach_line(struct attaching *to, struct slice line, struct buf *out)
{
    bool may = line.len >= ATTACHMENT_FROM || memmem(line.data, line.len, "\"file:", 6) != NULL;
    to->record = may ? json_loadb(line.data, line.len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (to->record == NULL) {
        buf_put(out, line.data, line.len);
        return 0;
    }
    to->files = false;
    buf_reset(&to->found);
    int rc = take_parts(to);
    char *text = rc == 0 && to->files ? json_dumps(to->record, JSON_COMPACT) : NULL;
    if (rc == 0)
        put_names(to, text != NULL ? slice_of(text) : line, out);
    free(text);
    json_decref(to->record);
    return rc;
}

static void attaching_clear(struct attaching *to)
{
    struct seen *seen, *next;
    HASH_ITER (hh, to->seen, seen, next) {
        HASH_DEL(to->seen, seen);
        free(seen);
    }
    buf_clear(&to->ahead);
    buf_clear(&to->found);
}

static int attach_lines(struct attaching *to, struct slice prompts, struct buf *out)
{
    int rc = 0;
    for (const char *at = prompts.data, *end = at + prompts.len; rc == 0 && at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline == NULL ? end : newline;
        to->line++;
        rc = attach_line(to, (struct slice){at, (size_t)(stop - at)}, out);
        if (newline != NULL)
            buf_put(out, "\n", 1);
        if (rc == 0 && out->len + to->ahead.len > LIMIT_SUBMISSION)
            rc = error_set(to->error, ERR_LIMIT, "%s: with its files it has more than %u bytes%s", to->prompts,
                           LIMIT_SUBMISSION, too_large);
        at = stop + 1;
    }
    return rc;
}

int attach_files(const char *path, char **prompts, size_t *len, struct error *error)
{
    static const char *const signs[] = {"\"file:", ";base64,", "\"data\""};
    bool any = false;
    for (size_t i = 0; *len > 0 && !any && i < sizeof signs / sizeof signs[0]; i++)
        any = memmem(*prompts, *len, signs[i], strlen(signs[i])) != NULL;
    if (!any)
        return 0;
    struct attaching to = {.prompts = path, .error = error};
    struct buf out = {0};
    int rc = attach_lines(&to, (struct slice){*prompts, *len}, &out);
    if (rc == 0) {
        free(*prompts);
        buf_put(&to.ahead, out.data, out.len);
        *len = to.ahead.len;
        *prompts = to.ahead.data;
        to.ahead = (struct buf){0};
    }
    buf_clear(&out);
    attaching_clear(&to);
    return rc;
}
