/* sweep_verifier.c - section `verifiers` of a sweep file, and the specs that verifiers get; see
 * sweep_file.h.
 *
 * A verifier may name others (noisy, switch, cascade, hybrid). Their specs stand inside its own, so whoever runs it
 * needs nothing else; that needs an order without cycles, found by depth-first search. */
#include "broker/sweep_parts.h"
#include "common/json.h"
#include "common/limits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 32
#define DEPTH_MAX   4  /* verifiers inside each other, the outermost counted; as verifier/check.h */
#define REFS_MAX    17 /* 16 cases and `other` */

enum {
    VERIFIER_NAME,
    VERIFIER_KIND,
    VERIFIER_TIMEOUT,
    VERIFIER_PRICE,
    VERIFIER_BATCH,
    VERIFIER_CONCURRENCY,
    VERIFIER_CACHE,
    VERIFIER_VERSION,
    VERIFIER_KEYS
};

const struct conf_key sweep_verifier_keys[] = {
    {.name = "name", .type = CONF_TEXT, .help = "what arms call it"},
    {.name = "kind",
     .type = CONF_TEXT,
     .help = "what it does: see `drover help verifiers`; options of the kind stand beside it"},
    {.name = "timeout",
     .type = CONF_REAL,
     .min = 0.001,
     .max = 604800,
     .fallback = "60",
     .unit = "seconds",
     .help = "time that one verdict may take, from the start of its execution"},
    {.name = "price",
     .type = CONF_REAL,
     .max = 1e6,
     .fallback = "0",
     .unit = "per verdict",
     .help = "price of a verdict"},
    {.name = "batch",
     .type = CONF_INT,
     .max = 256,
     .fallback = "0",
     .unit = "items",
     .help = "items of one request at most, for verifiers that ask a server; 0: the kind's default"},
    {.name = "concurrency",
     .type = CONF_INT,
     .max = 1024,
     .fallback = "0",
     .unit = "requests",
     .help = "requests of one process in flight at most; 0: the kind's default"},
    {.name = "cache",
     .type = CONF_BOOL,
     .fallback = "true",
     .help = "whether a verdict on the same prompt and text may be taken from a cache"},
    {.name = "version",
     .type = CONF_TEXT,
     .max = 64,
     .fallback = "",
     .help = "any text; a new one makes a new verifier, for when what stands behind it changed"},
    {0},
};

enum visit { VISIT_NOT_YET, VISIT_NOW, VISIT_DONE };

/* One verifier while the section is read. */
struct draft {
    const struct conf_node *node;
    const struct kind *kind;
    struct conf_value keys[VERIFIER_KEYS], options[OPTIONS_MAX];
    enum visit visit;
    uint32_t depth;
};

struct section {
    struct sweep_reader *reader;
    struct draft *drafts; /* one per verifier of the spec */
};

/* Other verifiers that one names. */
struct refs {
    const struct conf_node *nodes[REFS_MAX];
    uint32_t index[REFS_MAX];
    size_t len;
};

/* Kinds that compare all rollouts of a prompt, always or by the value of an option. */
static bool compares(const struct draft *draft)
{
    static const struct {
        const char *kind, *option, *value;
    } rows[] = {{"judge", "mode", "pairwise"}, {"judge", "mode", "set"}};
    const struct option_row *row = draft->kind->options;
    if (strcmp(draft->kind->name, "mbr") == 0)
        return true;
    for (size_t i = 0; row != NULL && row[i].name != NULL; i++)
        for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++)
            if (strcmp(draft->kind->name, rows[k].kind) == 0 && strcmp(row[i].name, rows[k].option) == 0 &&
                draft->options[i].node != NULL && strcmp(draft->options[i].node->text, rows[k].value) == 0)
                return true;
    return false;
}

/* Options that hold names of verifiers: a text, or the values of a map. */
static bool is_reference(const char *kind, const char *option)
{
    static const struct {
        const char *kind, *option;
    } rows[] = {{"noisy", "verifier"}, {"switch", "cases"},   {"switch", "other"},   {"judge", "meta"},
                {"cascade", "cheap"},  {"cascade", "costly"}, {"hybrid", "program"}, {"hybrid", "reasoning"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].kind, kind) == 0 && strcmp(rows[i].option, option) == 0)
            return true;
    return false;
}

int sweep_verifier_index(struct sweep_reader *reader, const struct conf_node *node, uint32_t *index)
{
    struct conf_near near;
    conf_near_init(&near, node->text);
    for (uint32_t i = 0; i < reader->spec->verifiers_len; i++) {
        *index = i;
        if (strcmp(reader->spec->verifiers[i].name, node->text) == 0)
            return 0;
        conf_near_try(&near, reader->spec->verifiers[i].name);
    }
    return conf_error(&reader->conf, node->mark, reader->error, ERR_NOT_FOUND, "there is no verifier '%.64s'%s",
                      node->text, conf_near_text(&near));
}

static int refs_add(struct section *section, struct refs *refs, const struct conf_node *node)
{
    uint32_t index;
    int rc = sweep_verifier_index(section->reader, node, &index);
    for (size_t i = 0; rc == 0 && i < refs->len; i++)
        if (refs->index[i] == index)
            return 0;
    if (rc < 0)
        return rc;
    refs->nodes[refs->len] = node;
    refs->index[refs->len++] = index;
    return 0;
}

static int refs_collect(struct section *section, const struct draft *draft, struct refs *refs)
{
    const struct option_row *row = draft->kind->options;
    for (size_t i = 0; row != NULL && row[i].name != NULL; i++) {
        const struct conf_value *value = &draft->options[i];
        if (!is_reference(draft->kind->name, row[i].name) || value->node == NULL)
            continue;
        const struct conf_node *item = row[i].type == OPTION_TEXT ? value->node : value->items;
        uint32_t len = row[i].type == OPTION_TEXT ? 1 : value->items_len;
        for (uint32_t k = 0; k < len; k++, item = item->next) {
            int rc = refs_add(section, refs, item);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

/* By name, so that the spec's keys are sorted. */
static void refs_sort(const struct sweep_verifier *verifiers, struct refs *refs)
{
    for (size_t i = 1; i < refs->len; i++) {
        uint32_t index = refs->index[i];
        size_t at = i;
        for (; at > 0 && strcmp(verifiers[refs->index[at - 1]].name, verifiers[index].name) > 0; at--)
            refs->index[at] = refs->index[at - 1];
        refs->index[at] = index;
    }
}

/* Keys of every kind that whoever runs it reads. Those that say nothing are left out, so that a spec stays equal when a
 * release adds one. */
static void number_json(const struct draft *draft, int key, struct buf *out)
{
    if (draft->keys[key].whole == 0)
        return;
    json_key(out, sweep_verifier_keys[key].name);
    json_u64(out, draft->keys[key].whole);
}

static void spec_json(const struct sweep_verifier *verifiers, const struct draft *draft, uint32_t index,
                      const struct refs *refs, struct buf *out)
{
    const char *version = draft->keys[VERIFIER_VERSION].text;
    json_begin(out, '{');
    number_json(draft, VERIFIER_BATCH, out);
    if (draft->keys[VERIFIER_CACHE].whole == 0) {
        json_key(out, "cache");
        json_bool(out, false);
    }
    number_json(draft, VERIFIER_CONCURRENCY, out);
    json_key(out, "inner");
    json_begin(out, '{');
    for (size_t i = 0; i < refs->len; i++) {
        json_key(out, verifiers[refs->index[i]].name);
        json_raw(out, slice_of(verifiers[refs->index[i]].spec));
    }
    json_end(out, '}');
    json_key(out, "kind");
    json_str(out, draft->kind->name);
    json_key(out, "name");
    json_str(out, verifiers[index].name);
    json_key(out, "options");
    sweep_options_json(draft->kind->options, draft->options, out);
    if (version != NULL && version[0] != '\0') {
        json_key(out, "version");
        json_str(out, version);
    }
    json_end(out, '}');
}

static int make_spec(struct section *section, uint32_t index, struct refs *refs)
{
    struct sweep_reader *reader = section->reader;
    const struct sweep_verifier *verifiers = reader->spec->verifiers;
    const struct draft *draft = &section->drafts[index];
    struct buf out = {0};
    refs_sort(verifiers, refs);
    spec_json(verifiers, draft, index, refs, &out);
    reader->spec->verifiers[index].spec = out.data;
    if (out.len > LIMIT_SPEC)
        return conf_error(&reader->conf, draft->node->mark, reader->error, ERR_LIMIT,
                          "verifier '%s' is %zu bytes as JSON; at most %d are allowed", verifiers[index].name, out.len,
                          LIMIT_SPEC);
    return 0;
}

static int resolve(struct section *section, uint32_t index)
{
    struct draft *draft = &section->drafts[index];
    struct sweep_reader *reader = section->reader;
    struct refs refs = {.len = 0};
    if (draft->visit == VISIT_DONE)
        return 0;
    draft->visit = VISIT_NOW;
    draft->depth = 1;
    int rc = refs_collect(section, draft, &refs);
    for (size_t i = 0; rc == 0 && i < refs.len; i++) {
        const struct draft *inner = &section->drafts[refs.index[i]];
        if (inner->visit == VISIT_NOW)
            return conf_error(&reader->conf, refs.nodes[i]->mark, reader->error, ERR_CONFLICT,
                              "verifier '%s' would contain itself; name another one here", refs.nodes[i]->text);
        rc = resolve(section, refs.index[i]);
        if (rc == 0 && inner->depth >= DEPTH_MAX)
            return conf_error(&reader->conf, refs.nodes[i]->mark, reader->error, ERR_LIMIT,
                              "more than %d verifiers inside each other", DEPTH_MAX);
        if (draft->depth <= inner->depth)
            draft->depth = inner->depth + 1;
    }
    draft->visit = VISIT_DONE;
    return rc < 0 ? rc : make_spec(section, index, &refs);
}

static int find_kind(struct sweep_reader *reader, const struct conf_node *map, const struct kind **found)
{
    const struct conf_node *node = conf_get(map, "kind");
    *found = NULL;
    if (node == NULL || node->kind != CONF_KIND_SCALAR)
        return 0; /* conf_read says so */
    struct conf_near near;
    conf_near_init(&near, node->text);
    for (const struct kind *kind = verifier_kinds; kind->name != NULL; kind++) {
        if (strcmp(kind->name, node->text) == 0) {
            *found = kind;
            return 0;
        }
        conf_near_try(&near, kind->name);
    }
    return conf_error(&reader->conf, node->mark, reader->error, ERR_NOT_FOUND, "'kind' cannot be '%.60s'%s", node->text,
                      conf_near_text(&near));
}

static int read_verifier(struct section *section, const struct conf_node *node)
{
    struct sweep_reader *reader = section->reader;
    struct sweep_spec *spec = reader->spec;
    struct sweep_verifier *verifier = &spec->verifiers[spec->verifiers_len];
    struct draft *draft = &section->drafts[spec->verifiers_len];
    int rc = find_kind(reader, node, &draft->kind);
    if (rc < 0)
        return rc;
    draft->node = node;
    const struct conf_value *v = draft->keys;
    const struct conf_form form = {.what = "verifier",
                                   .keys = sweep_verifier_keys,
                                   .values = draft->keys,
                                   .options = draft->kind == NULL ? NULL : draft->kind->options,
                                   .option_values = draft->options};
    rc = conf_read(&reader->conf, node, &form, reader->error);
    if (rc == 0)
        rc = sweep_name(reader, v[VERIFIER_NAME].node, "verifier", verifier->name);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < spec->verifiers_len; i++)
        if (strcmp(spec->verifiers[i].name, verifier->name) == 0)
            return conf_error(&reader->conf, v[VERIFIER_NAME].node->mark, reader->error, ERR_CONFLICT,
                              "two verifiers are named '%s'; names must differ", verifier->name);
    verifier->kind = xstrdup(draft->kind->name);
    verifier->timeout_ms = (uint32_t)llround(v[VERIFIER_TIMEOUT].number * 1e3);
    verifier->price_micro = sweep_micro(v[VERIFIER_PRICE].number);
    verifier->group = compares(draft);
    spec->verifiers_len++;
    return 0;
}

int sweep_verifiers(struct sweep_reader *reader, const struct conf_node *list)
{
    if (list == NULL)
        return 0;
    if (list->kind != CONF_KIND_LIST)
        return conf_error(&reader->conf, list->mark, reader->error, ERR_SYNTAX,
                          "'verifiers' must be a list of verifiers");
    if (list->len > LIMIT_VERIFIERS)
        return conf_error(&reader->conf, list->mark, reader->error, ERR_LIMIT, "%u verifiers; at most %d are allowed",
                          list->len, LIMIT_VERIFIERS);
    struct section section = {reader, xalloc(list->len * sizeof *section.drafts)};
    reader->spec->verifiers = xalloc(list->len * sizeof *reader->spec->verifiers);
    int rc = 0;
    for (const struct conf_node *node = list->first; rc == 0 && node != NULL; node = node->next)
        rc = read_verifier(&section, node);
    for (uint32_t i = 0; rc == 0 && i < reader->spec->verifiers_len; i++)
        rc = resolve(&section, i);
    free(section.drafts);
    return rc;
}
