/* conf.c - libyaml events into a bounded tree, and overrides into that tree; see conf.h.
 *
 * libyaml's own loader builds the whole document before anybody can refuse it (100,000 `[` take it
 * half a minute) and expands nothing safely; events let every limit be checked as it is reached. */
#include "common/conf.h"
#include "common/limits.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define MAP_KEYS_MAX 1024 /* of any map; also bounds the search for duplicates */

/* ---- nodes ---- */

static char *text_copy(const char *data, size_t len)
{
    char *text = xalloc(len + 1);
    memcpy(text, data, len);
    return text;
}

static struct conf_node *node_new(struct conf *conf, enum conf_kind kind, struct conf_mark mark)
{
    struct conf_node *node = xalloc(sizeof *node);
    node->kind = kind;
    node->mark = mark;
    node->owned = conf->owned;
    conf->owned = node;
    return node;
}

struct conf_node *conf_node_like(struct conf *conf, const struct conf_node *like)
{
    struct conf_node *node = node_new(conf, like->kind, like->mark);
    node->plain = like->plain;
    node->key_mark = like->key_mark;
    node->key = like->key == NULL ? NULL : xstrdup(like->key);
    node->text = like->text == NULL ? NULL : xstrdup(like->text);
    return node;
}

void conf_append(struct conf_node *parent, struct conf_node *child)
{
    if (parent->last == NULL)
        parent->first = child;
    else
        parent->last->next = child;
    parent->last = child;
    parent->len++;
}

void conf_clear(struct conf *conf)
{
    for (struct conf_node *node = conf->owned, *after; node != NULL; node = after) {
        after = node->owned;
        free((char *)node->key);
        free((char *)node->text);
        free(node);
    }
    *conf = (struct conf){0};
}

/* As conf_get, but finds null values too. */
static struct conf_node *child_find(const struct conf_node *map, const char *key, size_t len)
{
    for (struct conf_node *child = map->first; child != NULL; child = child->next)
        if (strncmp(child->key, key, len) == 0 && child->key[len] == '\0')
            return child;
    return NULL;
}

const struct conf_node *conf_get(const struct conf_node *map, const char *key)
{
    if (map == NULL || map->kind != CONF_KIND_MAP)
        return NULL;
    const struct conf_node *child = child_find(map, key, strlen(key));
    return child == NULL || child->kind == CONF_KIND_NULL ? NULL : child;
}

int conf_error(const struct conf *conf, struct conf_mark mark, struct error *error, int code, const char *format, ...)
{
    struct buf sentence = {0};
    va_list args;
    va_start(args, format);
    buf_vprintf(&sentence, format, args);
    va_end(args);
    for (size_t i = 0; i < sentence.len; i++) /* quoted scalars may hold escape codes */
        if ((unsigned char)sentence.data[i] < ' ' || sentence.data[i] == 0x7F)
            sentence.data[i] = '?';
    if (mark.override != NULL)
        error_set(error, code, "override '%.200s': %s", mark.override, sentence.data);
    else
        error_set(error, code, "%s:%u:%u: %s", conf->file, mark.line, mark.column, sentence.data);
    buf_clear(&sentence);
    return code;
}

/* ---- bytes ---- */

/* Length of the UTF-8 sequence at p if YAML allows that character, else 0. */
static size_t char_len(const unsigned char *p, size_t left)
{
    if (p[0] < 0x80)
        return (p[0] >= ' ' && p[0] != 0x7F) || p[0] == '\t' || p[0] == '\n' || p[0] == '\r';
    size_t len = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || len > left)
        return 0;
    uint32_t code = p[0] & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3F);
    }
    static const uint32_t low[] = {0, 0, 0x80, 0x800, 0x10000};
    bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    bool control = (code < 0xA0 && code != 0x85) || code == 0xFEFF || (code & 0xFFFE) == 0xFFFE;
    return code < low[len] || code > 0x10FFFF || surrogate || control ? 0 : len;
}

/* Checked here and not by libyaml, whose reader reports an offset into what it had buffered and
 * ends at a NUL. */
static int check_bytes(const struct conf *conf, struct slice text, struct conf_mark mark, struct error *error)
{
    const unsigned char *bytes = (const unsigned char *)text.data;
    for (size_t i = 0; i < text.len;) {
        size_t len = char_len(bytes + i, text.len - i);
        if (len == 0 && bytes[i] < 0x80)
            return conf_error(conf, mark, error, ERR_SYNTAX,
                              "control character 0x%02X; remove it or write it as an escape", bytes[i]);
        if (len == 0)
            return conf_error(conf, mark, error, ERR_SYNTAX,
                              "byte 0x%02X starts no character that YAML allows; save the file as UTF-8", bytes[i]);
        if (bytes[i] == '%' && mark.column == 1) /* libyaml needs quadratic time for many of them */
            return conf_error(conf, mark, error, ERR_SYNTAX,
                              "a line must not start with '%%': directives are not allowed");
        bool line_end = bytes[i] == '\n' || (bytes[i] == '\r' && i + 1 < text.len && bytes[i + 1] != '\n');
        mark.column = line_end ? 1 : mark.column + 1;
        mark.line += line_end;
        i += len;
    }
    return 0;
}

/* ---- events ---- */

struct reader {
    struct conf *conf;
    struct error *error;
    const char *override; /* what the text is part of, or NULL */
    struct conf_node *stack[LIMIT_CONF_DEPTH];
    size_t depth;
    struct conf_node *root;
    char *key; /* read, its value comes next */
    struct conf_mark key_mark;
    size_t documents;
};

static struct conf_mark mark_of(const struct reader *reader, yaml_mark_t mark)
{
    return (struct conf_mark){(uint32_t)mark.line + 1, (uint32_t)mark.column + 1, reader->override};
}

static int yaml_failed(const struct reader *reader, const yaml_parser_t *parser)
{
    struct conf_mark mark = mark_of(reader, parser->problem_mark);
    if (parser->error == YAML_MEMORY_ERROR)
        return conf_error(reader->conf, mark, reader->error, ERR_SYSTEM, "out of memory");
    const char *problem = parser->problem == NULL ? "unknown problem" : parser->problem;
    if (strstr(problem, "cannot start any token") != NULL)
        return conf_error(reader->conf, mark, reader->error, ERR_SYNTAX,
                          "not valid YAML: a value cannot start here; indent with spaces, not "
                          "tabs, and put quotes around special characters");
    return conf_error(reader->conf, mark, reader->error, ERR_SYNTAX, "not valid YAML: %s%s%s", problem,
                      parser->context == NULL ? "" : " ", parser->context == NULL ? "" : parser->context);
}

static int refuse_properties(const struct reader *reader, struct conf_mark mark, const unsigned char *anchor,
                             const unsigned char *tag)
{
    if (anchor != NULL)
        return conf_error(reader->conf, mark, reader->error, ERR_SYNTAX,
                          "anchors (&%s) are not allowed; write the value out", anchor);
    if (tag != NULL)
        return conf_error(reader->conf, mark, reader->error, ERR_SYNTAX, "tags (%s) are not allowed; leave it out",
                          tag);
    return 0;
}

static int take_key(struct reader *reader, const struct conf_node *map, const yaml_event_t *event,
                    struct conf_mark mark)
{
    if (event->type != YAML_SCALAR_EVENT || event->data.scalar.length == 0)
        return conf_error(reader->conf, mark, reader->error, ERR_SYNTAX, "a key must be a word");
    const char *key = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    if (len > 256 || memchr(key, '\0', len) != NULL)
        return conf_error(reader->conf, mark, reader->error, ERR_LIMIT, "a key may have at most 256 bytes and no NUL");
    const struct conf_node *twin = child_find(map, key, len);
    if (twin != NULL)
        return conf_error(reader->conf, mark, reader->error, ERR_CONFLICT,
                          "key '%s' is given twice; it was first on line %u", key, twin->key_mark.line);
    if (map->len >= MAP_KEYS_MAX)
        return conf_error(reader->conf, mark, reader->error, ERR_LIMIT, "more than %d keys in one map", MAP_KEYS_MAX);
    reader->key = text_copy(key, len);
    reader->key_mark = mark;
    return 0;
}

static void attach(struct reader *reader, struct conf_node *node)
{
    if (reader->depth == 0) {
        reader->root = node;
        return;
    }
    node->key = reader->key;
    node->key_mark = reader->key_mark;
    reader->key = NULL;
    conf_append(reader->stack[reader->depth - 1], node);
}

static bool is_null(const char *text)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(text, words[i]) == 0)
            return true;
    return false;
}

static int take_scalar(struct reader *reader, const yaml_event_t *event, struct conf_mark mark)
{
    size_t len = event->data.scalar.length;
    const char *text = (const char *)event->data.scalar.value;
    if (len > LIMIT_CONF_SCALAR)
        return conf_error(reader->conf, mark, reader->error, ERR_LIMIT, "a text of %zu bytes; at most %d are allowed",
                          len, LIMIT_CONF_SCALAR);
    if (memchr(text, '\0', len) != NULL)
        return conf_error(reader->conf, mark, reader->error, ERR_SYNTAX, "a text with a NUL character; remove it");
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    bool null = plain && is_null(text);
    struct conf_node *node = node_new(reader->conf, null ? CONF_KIND_NULL : CONF_KIND_SCALAR, mark);
    node->plain = plain;
    node->text = text_copy(text, len);
    attach(reader, node);
    return 0;
}

static int take_container(struct reader *reader, enum conf_kind kind, struct conf_mark mark)
{
    if (reader->depth == LIMIT_CONF_DEPTH)
        return conf_error(reader->conf, mark, reader->error, ERR_LIMIT, "nested more than %d deep", LIMIT_CONF_DEPTH);
    struct conf_node *node = node_new(reader->conf, kind, mark);
    attach(reader, node);
    reader->stack[reader->depth++] = node;
    return 0;
}

/* A scalar, list or map begins: a key, an element, or a value. */
static int take_node(struct reader *reader, const yaml_event_t *event, struct conf_mark mark)
{
    bool scalar = event->type == YAML_SCALAR_EVENT, list = event->type == YAML_SEQUENCE_START_EVENT;
    int rc = refuse_properties(reader, mark,
                               scalar ? event->data.scalar.anchor
                               : list ? event->data.sequence_start.anchor
                                      : event->data.mapping_start.anchor,
                               scalar ? event->data.scalar.tag
                               : list ? event->data.sequence_start.tag
                                      : event->data.mapping_start.tag);
    if (rc < 0)
        return rc;
    const struct conf_node *parent = reader->depth == 0 ? NULL : reader->stack[reader->depth - 1];
    if (parent != NULL && parent->kind == CONF_KIND_MAP && reader->key == NULL)
        return take_key(reader, parent, event, mark);
    if (scalar)
        return take_scalar(reader, event, mark);
    return take_container(reader, list ? CONF_KIND_LIST : CONF_KIND_MAP, mark);
}

static int take_document(struct reader *reader, struct conf_mark mark)
{
    if (reader->documents++ > 0)
        return conf_error(reader->conf, mark, reader->error, ERR_SYNTAX,
                          "a second document starts here; only one is allowed");
    return 0;
}

static int take_event(struct reader *reader, const yaml_event_t *event)
{
    struct conf_mark mark = mark_of(reader, event->start_mark);
    switch (event->type) {
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return 0;
    case YAML_DOCUMENT_START_EVENT:
        return take_document(reader, mark);
    case YAML_ALIAS_EVENT:
        return conf_error(reader->conf, mark, reader->error, ERR_SYNTAX,
                          "aliases (*%s) are not allowed; write the value out", event->data.alias.anchor);
    case YAML_SCALAR_EVENT:
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        return take_node(reader, event, mark);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        reader->depth--;
        return 0;
    }
    return 0;
}

static int take_events(struct reader *reader, yaml_parser_t *parser)
{
    for (bool end = false; !end;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event))
            return yaml_failed(reader, parser);
        end = event.type == YAML_STREAM_END_EVENT;
        int rc = take_event(reader, &event);
        yaml_event_delete(&event);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Sets *root to the tree of text, owned by conf. */
static int tree_read(struct conf *conf, struct slice text, const char *override, struct conf_node **root,
                     struct error *error)
{
    struct conf_mark start = {1, 1, override};
    if (text.len > LIMIT_SWEEP_FILE)
        return conf_error(conf, start, error, ERR_LIMIT, "%zu bytes; at most %d are allowed", text.len,
                          (int)LIMIT_SWEEP_FILE);
    if (text.len >= 3 && memcmp(text.data, "\xEF\xBB\xBF", 3) == 0)
        text = (struct slice){text.data + 3, text.len - 3};
    int rc = check_bytes(conf, text, start, error);
    if (rc < 0)
        return rc;
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return error_set(error, ERR_SYSTEM, "libyaml could not start: out of memory");
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)(text.len > 0 ? text.data : ""), text.len);
    struct reader reader = {.conf = conf, .error = error, .override = override};
    rc = take_events(&reader, &parser);
    yaml_parser_delete(&parser);
    free(reader.key);
    *root = reader.root;
    if (rc == 0 && reader.root == NULL) {
        *root = node_new(conf, CONF_KIND_NULL, start);
        (*root)->text = xstrdup("");
    }
    return rc;
}

int conf_parse(struct conf *conf, struct slice text, const char *file, struct error *error)
{
    *conf = (struct conf){.file = file};
    return tree_read(conf, text, NULL, &conf->root, error);
}

/* ---- overrides ---- */

struct path {
    struct conf *conf;
    const char *override;
    const char *rest, *end; /* of the dotted path */
    struct error *error;
};

static struct conf_mark path_mark(const struct path *path)
{
    return (struct conf_mark){1, 1, path->override};
}

static void become_map(struct conf_node *node)
{
    if (node->kind == CONF_KIND_NULL)
        node->kind = CONF_KIND_MAP;
}

/* Takes the next word off the path. */
static struct slice path_word(struct path *path)
{
    const char *dot = memchr(path->rest, '.', (size_t)(path->end - path->rest));
    const char *stop = dot == NULL ? path->end : dot;
    struct slice word = {path->rest, (size_t)(stop - path->rest)};
    path->rest = dot == NULL ? path->end : dot + 1;
    return word;
}

static struct conf_node *child_make(const struct path *path, struct conf_node *map, struct slice word)
{
    struct conf_node *child = child_find(map, word.data, word.len);
    if (child != NULL)
        return child;
    child = node_new(path->conf, CONF_KIND_NULL, path_mark(path));
    child->key = text_copy(word.data, word.len);
    child->key_mark = path_mark(path);
    child->text = xstrdup("");
    conf_append(map, child);
    return child;
}

/* Names may hold dots, so the element with the longest name that the path starts with is meant. */
static int path_element(struct path *path, struct conf_node **node)
{
    size_t left = (size_t)(path->end - path->rest), best = 0;
    struct conf_node *found = NULL;
    struct conf_near near;
    char *word = text_copy(path->rest, left);
    word[strcspn(word, ".")] = '\0';
    conf_near_init(&near, word);
    for (struct conf_node *item = (*node)->first; item != NULL; item = item->next) {
        const struct conf_node *name = conf_get(item, "name");
        if (name == NULL || name->kind != CONF_KIND_SCALAR)
            continue;
        conf_near_try(&near, name->text);
        size_t len = strlen(name->text);
        if (len > best && len < left && strncmp(path->rest, name->text, len) == 0 && path->rest[len] == '.') {
            best = len;
            found = item;
        }
    }
    int rc = 0;
    if (found == NULL && near.distance == 0)
        rc = conf_error(path->conf, path_mark(path), path->error, ERR_SYNTAX,
                        "'%s' is a map; write which of its keys is set, like arms.NAME.n=8", word);
    else if (found == NULL)
        rc = conf_error(path->conf, path_mark(path), path->error, ERR_NOT_FOUND, "nothing in the list is named '%s'%s",
                        word, conf_near_text(&near));
    free(word);
    path->rest += found == NULL ? 0 : best + 1;
    *node = found;
    return rc;
}

/* Walks down to the map that the last word of the path is a key of. */
static int path_walk(struct path *path, struct conf_node **node)
{
    for (size_t depth = 0; depth < LIMIT_CONF_DEPTH; depth++) {
        become_map(*node);
        if ((*node)->kind == CONF_KIND_LIST) {
            int rc = path_element(path, node);
            if (rc < 0)
                return rc;
        }
        if ((*node)->kind != CONF_KIND_MAP)
            return conf_error(path->conf, path_mark(path), path->error, ERR_SYNTAX,
                              "'%s' is not a map, so '%.*s' cannot be set in it",
                              (*node)->key == NULL ? "the file" : (*node)->key, (int)(path->end - path->rest),
                              path->rest);
        if (memchr(path->rest, '.', (size_t)(path->end - path->rest)) == NULL)
            return 0;
        struct slice word = path_word(path);
        if (word.len == 0)
            break;
        *node = child_make(path, *node, word);
    }
    return conf_error(path->conf, path_mark(path), path->error, ERR_SYNTAX,
                      "the key has an empty or too many parts; write it like arms.NAME.n=8");
}

int conf_override(struct conf *conf, const char *override, const char *under, struct error *error)
{
    const char *equals = strchr(override, '=');
    struct path path = {conf, override, override, equals, error};
    if (equals == NULL || equals == override || equals[-1] == '.' || equals - override > 1024)
        return conf_error(conf, path_mark(&path), error, ERR_SYNTAX, "write it as KEY=VALUE, like arms.NAME.n=8");
    struct conf_node *value;
    int rc = tree_read(conf, slice_of(equals + 1), override, &value, error);
    if (rc < 0)
        return rc;
    struct conf_node *node = conf->root;
    if (under != NULL && (node->kind == CONF_KIND_MAP || node->kind == CONF_KIND_NULL)) {
        become_map(node);
        node = child_make(&path, node, slice_of(under));
    }
    rc = path_walk(&path, &node);
    if (rc < 0)
        return rc;
    /* The value's node takes the place of the old one, which keeps its key and its siblings. */
    struct conf_node *old = child_make(&path, node, path_word(&path));
    old->kind = value->kind;
    old->plain = value->plain;
    old->mark = value->mark;
    old->key_mark = path_mark(&path);
    free((char *)old->text);
    old->text = value->text == NULL ? NULL : xstrdup(value->text);
    old->first = value->first;
    old->last = value->last;
    old->len = value->len;
    return 0;
}
