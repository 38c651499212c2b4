/* prompt_set.c - prompts as JSONL: one checked record per line; see sweep_file.h.
 *
 * Records stay as they were written, in one block of text; only what the broker needs is taken out
 * of them. The same bytes go to workers and into fingerprints. */
#include "broker/sweep_file.h"
#include "common/hash.h"
#include "common/limits.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define ID_MAX 1024 /* bytes of an id or group */

struct parse {
    struct prompt_set *set;
    const char *file, *group_by;
    uint32_t line;
    uint32_t cap; /* prompts allocated */
    struct error *error;
};

static int too_long(const struct parse *parse, const char *what)
{
    return error_set(parse->error, ERR_LIMIT, "%s:%u: '%s' is longer than %d bytes; shorten it", parse->file,
                     parse->line, what, ID_MAX);
}

static int wrong(const struct parse *parse, const char *sentence)
{
    return error_set(parse->error, ERR_SYNTAX, "%s:%u: %s", parse->file, parse->line, sentence);
}

/* ---- what a record says ---- */

static int take_id(const struct parse *parse, const json_t *id, struct prompt *prompt)
{
    char number[32];
    const char *text = number;
    if (id == NULL)
        snprintf(number, sizeof number, "%u", parse->line);
    else if (json_is_string(id))
        text = json_string_value(id);
    else if (json_is_integer(id))
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(id));
    else
        return wrong(parse, "'id' must be a text or a whole number");
    if (strlen(text) > ID_MAX)
        return too_long(parse, "id");
    if (text[0] == '\0')
        return wrong(parse, "'id' is empty; leave it out to take the line's number");
    prompt->id = xstrdup(text);
    return 0;
}

/* meta[group_by] as text: texts as they are, numbers and booleans as JSON writes them. */
static int take_group(const struct parse *parse, const json_t *meta, struct prompt *prompt)
{
    if (meta != NULL && !json_is_object(meta))
        return wrong(parse, "'meta' must be an object");
    const json_t *value = parse->group_by == NULL ? NULL : json_object_get(meta, parse->group_by);
    if (value == NULL || json_is_null(value))
        return 0;
    if (json_is_object(value) || json_is_array(value))
        return wrong(parse, "the value in 'meta' to group by must be a text, number or boolean");
    prompt->group = json_is_string(value) ? xstrdup(json_string_value(value)) : json_dumps(value, JSON_ENCODE_ANY);
    return prompt->group != NULL && strlen(prompt->group) > ID_MAX ? too_long(parse, parse->group_by) : 0;
}

/* Bytes of one part of a message: its text, or as long as it is as JSON (an image's address, say).
 */
static size_t part_bytes(const json_t *part)
{
    const json_t *text = json_object_get(part, "text");
    if (json_is_string(text))
        return json_string_length(text);
    return json_dumpb(part, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
}

static int message_bytes(const struct parse *parse, const json_t *message, size_t *bytes)
{
    const json_t *content = json_object_get(message, "content");
    if (!json_is_string(json_object_get(message, "role")))
        return wrong(parse, "each of 'messages' must be an object with a text 'role'");
    if (json_is_string(content)) {
        *bytes += json_string_length(content);
        return 0;
    }
    if (!json_is_array(content) || json_array_size(content) == 0)
        return wrong(parse, "'content' of a message must be a text or a list of parts");
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i);
        if (!json_is_object(part))
            return wrong(parse, "each part of a message's 'content' must be an object");
        *bytes += part_bytes(part);
    }
    return 0;
}

/* Exactly one of `prompt` and `messages`. */
static int take_text(const struct parse *parse, const json_t *record, struct prompt *prompt)
{
    const json_t *text = json_object_get(record, "prompt");
    const json_t *messages = json_object_get(record, "messages");
    size_t bytes = 0;
    if ((text == NULL) == (messages == NULL))
        return wrong(parse, text == NULL ? "a record needs 'prompt' (text) or 'messages' (list)"
                                         : "a record has either 'prompt' or 'messages', not both");
    if (text != NULL && !json_is_string(text))
        return wrong(parse, "'prompt' must be a text");
    if (text != NULL)
        bytes = json_string_length(text);
    if (messages != NULL && (!json_is_array(messages) || json_array_size(messages) == 0))
        return wrong(parse, "'messages' must be a list of at least one message");
    for (size_t i = 0; i < json_array_size(messages); i++) {
        int rc = message_bytes(parse, json_array_get(messages, i), &bytes);
        if (rc < 0)
            return rc;
    }
    prompt->bytes = (uint32_t)bytes; /* a record is far below 4 GiB */
    return 0;
}

/* ---- attachments ---- */

static const struct set_attachment *attachment_find(const struct prompt_set *set, struct attachment_id id)
{
    struct set_attachment *found;
    HASH_FIND(hh, set->attachments, &id, sizeof id, found);
    return found;
}

static int take_attachment(const struct parse *parse, struct slice line)
{
    struct attachment attachment;
    if (!attachment_line_read(line, &attachment))
        return error_set(parse->error, ERR_SYNTAX, "%s:1: an attachment that is damaged: submit again", parse->file);
    if (attachment.data.len > LIMIT_ATTACHMENT)
        return error_set(parse->error, ERR_LIMIT, "%s:1: an attachment of %zu bytes of base64; at most %u are allowed",
                         parse->file, attachment.data.len, LIMIT_ATTACHMENT);
    if (attachment_find(parse->set, attachment.id) != NULL)
        return 0;
    struct set_attachment *new = xalloc(sizeof *new);
    new->attachment = attachment;
    HASH_ADD(hh, parse->set->attachments, attachment.id, sizeof attachment.id, new);
    return 0;
}

struct attachments prompt_attachments(const struct prompt_set *set, struct slice record)
{
    struct attachments all = {0};
    struct attachment_id id;
    struct slice name;
    for (size_t at = 0; set->attachments != NULL && attachment_next(record, &at, &id, &name);) {
        const struct set_attachment *found = attachment_find(set, id);
        if (found == NULL)
            continue;
        all.at = xrealloc(all.at, (all.len + 1) * sizeof *all.at);
        all.at[all.len++] = found->attachment;
    }
    return all;
}

/* A name that stands for nothing would reach the model as it is. */
static int check_names(const struct parse *parse, struct slice record)
{
    struct attachment_id id;
    struct slice name;
    for (size_t at = 0; attachment_next(record, &at, &id, &name);)
        if (attachment_find(parse->set, id) == NULL)
            return error_set(parse->error, ERR_REFUSED,
                             "%s:%u: a text ends with '%.*s', which is how drover names data that it keeps apart: "
                             "write something else",
                             parse->file, parse->line, (int)name.len, name.data);
    return 0;
}

/* The digest is that of the record with its data: it is the same prompt however it travels. */
static int take_attached(const struct parse *parse, struct prompt *prompt)
{
    int rc = check_names(parse, prompt->record);
    if (rc != 0)
        return rc;
    struct attachments attached = prompt_attachments(parse->set, prompt->record);
    struct buf parts = {0};
    size_t bytes = attachments_parts(&attached, prompt->record, &parts);
    parse->set->digest = hash_parts(parse->set->digest, (const struct slice *)(const void *)parts.data,
                                    parts.len / sizeof(struct slice));
    for (size_t i = 0; i < attached.len; i++) {
        size_t len = attached.at[i].data.len;
        prompt->attached += len < ATTACHMENT_TOKENS ? (uint32_t)len : ATTACHMENT_TOKENS;
    }
    prompt->bytes += prompt->attached;
    buf_clear(&parts);
    free(attached.at);
    if (bytes > LIMIT_ATTACHED)
        return error_set(
            parse->error, ERR_LIMIT,
            "%s:%u: with its files the record has %zu bytes; at most %u are allowed; make them smaller, or "
            "give addresses that the inference server can read",
            parse->file, parse->line, bytes, LIMIT_ATTACHED);
    return 0;
}

/* ---- lines ---- */

static int take_record(const struct parse *parse, struct prompt *prompt)
{
    json_error_t problem;
    struct slice record = prompt->record;
    if (memchr(record.data, '\0', record.len) != NULL)
        return wrong(parse, "a NUL byte in the record; remove it");
    json_t *json = json_loadb(record.data, record.len, JSON_REJECT_DUPLICATES, &problem);
    if (json == NULL && json_error_code(&problem) == json_error_null_character)
        return wrong(parse, "a text with a NUL character; remove it");
    if (json == NULL)
        return error_set(parse->error, ERR_SYNTAX, "%s:%u: not valid JSON at byte %d: %s", parse->file, parse->line,
                         problem.position, problem.text);
    int rc = json_is_object(json) ? 0 : wrong(parse, "a record must be a JSON object");
    if (rc == 0)
        rc = take_id(parse, json_object_get(json, "id"), prompt);
    if (rc == 0)
        rc = take_text(parse, json, prompt);
    if (rc == 0)
        rc = take_group(parse, json_object_get(json, "meta"), prompt);
    if (rc == 0)
        rc = take_attached(parse, prompt);
    json_decref(json);
    return rc;
}

static bool is_blank(struct slice line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.data[i] != ' ' && line.data[i] != '\t')
            return false;
    return true;
}

static int take_line(struct parse *parse, struct slice line)
{
    struct prompt_set *set = parse->set;
    if (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    if (is_blank(line))
        return 0;
    if (line.len > LIMIT_PROMPT)
        return error_set(parse->error, ERR_LIMIT, "%s:%u: a record of %zu bytes; at most %d are allowed", parse->file,
                         parse->line, line.len, LIMIT_PROMPT);
    if (set->len == LIMIT_PROMPTS)
        return error_set(parse->error, ERR_LIMIT, "%s:%u: more than %d prompts", parse->file, parse->line,
                         LIMIT_PROMPTS);
    if (set->len == parse->cap) {
        parse->cap = parse->cap == 0 ? 64 : 2 * parse->cap;
        set->prompts = xrealloc(set->prompts, parse->cap * sizeof *set->prompts);
    }
    struct prompt *prompt = &set->prompts[set->len++];
    *prompt = (struct prompt){.record = line};
    return take_record(parse, prompt);
}

static struct slice line_at(const char *at, const char *end)
{
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    return (struct slice){at, (size_t)((newline == NULL ? end : newline) - at)};
}

static int take_prior(const struct parse *parse, struct slice line)
{
    if (prior_line_take(&parse->set->priors, line))
        return 0;
    return error_set(parse->error, ERR_SYNTAX, "%s:1: a count of a prior that is damaged: submit again", parse->file);
}

/* Sets *at behind the lines that hand over attachments and counts. */
static int take_ahead(const struct parse *parse, const char **at, const char *end)
{
    int rc = 0;
    while (rc == 0 && *at < end) {
        struct slice line = line_at(*at, end);
        if (!attachment_line_is(line) && !prior_line_is(line))
            break;
        rc = prior_line_is(line) ? take_prior(parse, line) : take_attachment(parse, line);
        *at = line.data + line.len + 1;
    }
    return rc;
}

static int take_lines(struct parse *parse)
{
    const char *at = parse->set->text, *end = at + parse->set->text_len;
    int rc = take_ahead(parse, &at, end);
    if (rc != 0)
        return rc;
    parse->set->records = at;
    if (end - at >= 3 && memcmp(at, "\xEF\xBB\xBF", 3) == 0)
        at += 3;
    for (parse->line = 1; at < end; parse->line++) {
        struct slice line = line_at(at, end);
        rc = take_line(parse, line);
        if (rc < 0)
            return rc;
        at = line.data + line.len + 1;
    }
    if (parse->set->len == 0)
        return error_set(parse->error, ERR_SYNTAX, "%s:1: there are no prompts in it", parse->file);
    return 0;
}

/* ---- unique ids ---- */

struct id_entry {
    uint64_t hash;
    uint32_t index;
};

static int compare_entries(const void *a, const void *b)
{
    const struct id_entry *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static uint32_t line_of(const struct prompt_set *set, uint32_t index)
{
    uint32_t line = 1;
    for (const char *at = set->records; at < set->prompts[index].record.data; at++)
        line += *at == '\n';
    return line;
}

/* Sorted by hash, equal ids are neighbours: the first repetition in the file is what gets reported.
 * Hashes may collide, so a run of equal hashes is compared pair by pair; an enemy could make runs
 * long, but only to slow its own submit. */
static int check_ids(const struct parse *parse)
{
    const struct prompt_set *set = parse->set;
    uint32_t first = UINT32_MAX, again = UINT32_MAX;
    struct id_entry *entries = xalloc(set->len * sizeof *entries);
    for (uint32_t i = 0; i < set->len; i++)
        entries[i] = (struct id_entry){hash_bytes(set->prompts[i].id, strlen(set->prompts[i].id)), i};
    qsort(entries, set->len, sizeof *entries, compare_entries);
    for (uint32_t i = 1; i < set->len; i++)
        for (uint32_t k = i; k > 0 && entries[k - 1].hash == entries[i].hash; k--) {
            const struct id_entry *a = &entries[k - 1], *b = &entries[i];
            if (b->index < again && strcmp(set->prompts[a->index].id, set->prompts[b->index].id) == 0) {
                first = a->index;
                again = b->index;
            }
        }
    free(entries);
    if (again == UINT32_MAX)
        return 0;
    return error_set(parse->error, ERR_CONFLICT, "%s:%u: id '%.100s' was used on line %u; ids must differ", parse->file,
                     line_of(set, again), set->prompts[again].id, line_of(set, first));
}

static bool any_group(const struct prompt_set *set)
{
    for (uint32_t i = 0; i < set->len; i++)
        if (set->prompts[i].group != NULL)
            return true;
    return false;
}

int prompt_set_parse(char **text, size_t len, const char *file, const char *group_by, struct prompt_set *set,
                     struct error *error)
{
    struct parse parse = {.set = set, .file = file, .group_by = group_by, .error = error};
    *set = (struct prompt_set){.text = *text, .text_len = len};
    *text = NULL;
    int rc = take_lines(&parse);
    if (rc == 0)
        rc = check_ids(&parse);
    if (rc == 0 && group_by != NULL && !any_group(set))
        rc = error_set(error, ERR_NOT_FOUND, "%s: no prompt has the key '%s' in its meta, which group_by names", file,
                       group_by);
    if (rc < 0)
        prompt_set_clear(set);
    return rc;
}

void prompt_set_clear(struct prompt_set *set)
{
    for (uint32_t i = 0; i < set->len; i++) {
        free(set->prompts[i].id);
        free(set->prompts[i].group);
    }
    struct set_attachment *attachment, *next;
    HASH_ITER (hh, set->attachments, attachment, next) {
        HASH_DEL(set->attachments, attachment);
        free(attachment);
    }
    prior_files_clear(&set->priors);
    free(set->prompts);
    free(set->text);
    *set = (struct prompt_set){0};
}
