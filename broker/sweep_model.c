/* sweep_model.c - section `models` of a sweep file, and the spec that workers get; see
 * sweep_file.h. */
#include "broker/sweep_parts.h"
#include "common/answer.h"
#include "common/cue.h"
#include "common/io/http.h"
#include "common/json.h"
#include "common/limits.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 32
#define PRICE_MAX   1e9
#define TIMEOUT_MAX 604800.0 /* seconds: a week */
#define EXTRACTORS  "none|last-line|last-number|boxed|after-marker|regex|final"

enum {
    MODEL_NAME,
    MODEL_LIKE,
    MODEL_BACKEND,
    MODEL_PATH,
    MODEL_URL,
    MODEL_TEMPLATE,
    MODEL_SYSTEM,
    MODEL_TEMPERATURE,
    MODEL_TOP_P,
    MODEL_MIN_P,
    MODEL_SEED,
    MODEL_STOP,
    MODEL_STEP,
    MODEL_WAIT,
    MODEL_THINK_END,
    MODEL_FINAL,
    MODEL_REVISE,
    MODEL_MAX_TOKENS,
    MODEL_TEMPLATE_TOKENS,
    MODEL_TIMEOUT,
    MODEL_SLOTS,
    MODEL_ANSWER,
    MODEL_PRICE,
    MODEL_OPTIONS,
    MODEL_KEYS
};

const struct conf_key sweep_model_keys[] = {
    {.name = "name", .type = CONF_TEXT, .help = "what arms call it"},
    {.name = "like",
     .type = CONF_TEXT,
     .fallback = "",
     .help = "a model that stands ahead: its keys, but for those that stand here"},
    {.name = "backend", .type = CONF_TEXT, .help = "what runs it: see `drover help backends`"},
    {.name = "path",
     .type = CONF_TEXT,
     .fallback = "",
     .help = "file of weights or of recorded rollouts, as the worker finds it"},
    {.name = "url",
     .type = CONF_TEXT,
     .fallback = "",
     .help = "address of an inference server; without it, those of the worker"},
    {.name = "template",
     .type = CONF_TEXT,
     .fallback = "",
     .help = "how a prompt is put to the model; the backend's default without it"},
    {.name = "system", .type = CONF_TEXT, .fallback = "", .help = "system message"},
    {.name = "temperature",
     .type = CONF_REAL,
     .min = 0,
     .max = 10,
     .fallback = "1",
     .help = "divisor of the logits; 0 takes the likeliest token"},
    {.name = "top_p",
     .type = CONF_REAL,
     .min = 1e-6,
     .max = 1,
     .fallback = "1",
     .help = "share of probability that is sampled from"},
    {.name = "min_p",
     .type = CONF_REAL,
     .min = 0,
     .max = 1,
     .fallback = "0",
     .help = "least probability of a token, as a share of the likeliest one's"},
    {.name = "seed",
     .type = CONF_INT,
     .min = 0,
     .max = UINT32_MAX,
     .fallback = "0",
     .help = "of its own random numbers; models of one seed draw with the same ones"},
    {.name = "stop", .type = CONF_TEXTS, .fallback = "", .help = "texts that end a rollout"},
    {.name = "step", .type = CONF_TEXT, .max = 256, .fallback = "\n", .help = "text that ends one step of a tree"},
    {.name = "wait",
     .type = CONF_TEXT,
     .max = 256,
     .fallback = CUE_WAIT_TEXT,
     .help = "text that has the model think on where it ended its thinking"},
    {.name = "think_end",
     .type = CONF_TEXT,
     .max = 256,
     .fallback = "",
     .help = "text that ends thinking, such as </think>"},
    {.name = "final",
     .type = CONF_TEXT,
     .max = 256,
     .fallback = CUE_FINAL_TEXT,
     .help = "text behind think_end, where thinking was cut"},
    {.name = "revise",
     .type = CONF_TEXT,
     .max = 4096,
     .fallback = CUE_REVISE_TEXT,
     .help = "what a model that is to revise its answer is told"},
    {.name = "max_tokens",
     .type = CONF_INT,
     .min = 1,
     .max = LIMIT_MAX_TOKENS,
     .fallback = "256",
     .unit = "tokens",
     .help = "length of a rollout, or of one step of a tree, at most"},
    {.name = "template_tokens",
     .type = CONF_INT,
     .min = 0,
     .max = 65536,
     .fallback = "16",
     .unit = "tokens",
     .help = "what template and system message add to a prompt at most"},
    {.name = "timeout",
     .type = CONF_REAL,
     .min = 0.001,
     .max = TIMEOUT_MAX,
     .fallback = "600",
     .unit = "seconds",
     .help = "time that one task may take"},
    {.name = "slots",
     .type = CONF_INT,
     .min = 0,
     .max = LIMIT_CREDITS,
     .fallback = "0",
     .help = "tasks that one worker runs at a time; 0: the backend's default"},
    {.name = "answer",
     .type = CONF_NODE,
     .fallback = "",
     .help = "where a text's answer is: none, last-line (default), last-number, boxed, final, or a map "
             "{kind: after-marker, marker: TEXT}, {kind: regex, pattern: TEXT}; partial: true also "
             "takes answers of truncated texts"},
    {.name = "price",
     .type = CONF_NODE,
     .fallback = "",
     .help = "map of `input` and `output`: price of a million tokens (default 0)"},
    {.name = "options", .type = CONF_NODE, .fallback = "", .help = "options of the backend"},
    {0},
};

enum { ANSWER_KIND, ANSWER_PATTERN, ANSWER_MARKER, ANSWER_PARTIAL, ANSWER_KEYS };

static const struct conf_key answer_keys[] = {
    {.name = "kind", .type = CONF_CHOICE, .fallback = "last-line", .choices = EXTRACTORS, .help = "extractor"},
    {.name = "pattern", .type = CONF_TEXT, .fallback = "", .help = "POSIX extended expression"},
    {.name = "marker", .type = CONF_TEXT, .fallback = "", .help = "text before the answer"},
    {.name = "partial", .type = CONF_BOOL, .fallback = "false", .help = "whether truncated texts have answers"},
    {0},
};

enum { PRICE_INPUT, PRICE_OUTPUT, PRICE_KEYS };

static const struct conf_key price_keys[] = {
    {.name = "input",
     .type = CONF_REAL,
     .max = PRICE_MAX,
     .fallback = "0",
     .unit = "per million tokens",
     .help = "price of prompt tokens"},
    {.name = "output",
     .type = CONF_REAL,
     .max = PRICE_MAX,
     .fallback = "0",
     .unit = "per million tokens",
     .help = "price of generated tokens"},
    {0},
};

uint64_t sweep_micro(double amount)
{
    return (uint64_t)llround(amount * 1e6);
}

/* ---- options as JSON ---- */

static int compare_nodes(const void *a, const void *b)
{
    const struct conf_node *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

static void items_json(const struct conf_value *value, bool map, struct buf *out)
{
    const struct conf_node *items[16], *item = value->items;
    assert(value->items_len <= sizeof items / sizeof items[0]);
    for (uint32_t i = 0; i < value->items_len; i++, item = item->next)
        items[i] = item;
    if (map && value->items_len > 0)
        qsort(items, value->items_len, sizeof *items, compare_nodes);
    json_begin(out, map ? '{' : '[');
    for (uint32_t i = 0; i < value->items_len; i++) {
        if (map)
            json_key(out, items[i]->key);
        json_str(out, items[i]->text);
    }
    json_end(out, map ? '}' : ']');
}

static void choice_json(const struct option_row *option, const struct conf_value *value, struct buf *out)
{
    const char *word = option->choices;
    for (uint64_t i = 0; i < value->whole; i++)
        word += strcspn(word, "|") + 1;
    json_text(out, (struct slice){word, strcspn(word, "|")});
}

static void option_json(const struct option_row *option, const struct conf_value *value, struct buf *out)
{
    switch (option->type) {
    case OPTION_INT:
        json_i64(out, (int64_t)value->number);
        return;
    case OPTION_REAL:
        json_f64(out, value->number);
        return;
    case OPTION_BOOL:
        json_bool(out, value->whole != 0);
        return;
    case OPTION_CHOICE:
        choice_json(option, value, out);
        return;
    case OPTION_TEXT:
        json_str(out, value->text);
        return;
    case OPTION_LIST:
        items_json(value, false, out);
        return;
    case OPTION_MAP:
        items_json(value, true, out);
        return;
    }
}

/* Options of later releases say nothing at their defaults, so that specs stay equal, and with them their pools. */
static bool left_out(const struct option_row *option, const struct conf_value *value)
{
    static const char *const later[] = {"per_request", "fix", "spoil"};
    if (strcmp(option->name, "continue") == 0)
        return value->whole == 0;
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (strcmp(option->name, later[i]) == 0)
            return value->number == option->fallback;
    return false;
}

void sweep_options_json(const struct option_row *options, const struct conf_value *values, struct buf *out)
{
    size_t order[OPTIONS_MAX], len = 0;
    for (; options != NULL && options[len].name != NULL; len++) {
        assert(len < OPTIONS_MAX);
        size_t at = len; /* insertion sort: a handful of keys */
        for (; at > 0 && strcmp(options[order[at - 1]].name, options[len].name) > 0; at--)
            order[at] = order[at - 1];
        order[at] = len;
    }
    json_begin(out, '{');
    for (size_t i = 0; i < len; i++) {
        if (left_out(&options[order[i]], &values[order[i]]))
            continue;
        json_key(out, options[order[i]].name);
        option_json(&options[order[i]], &values[order[i]], out);
    }
    json_end(out, '}');
}

/* ---- one model ---- */

static int read_answer(struct sweep_reader *reader, const struct conf_node *node, struct conf_value values[ANSWER_KEYS])
{
    const struct conf_form form = {.what = "answer", .keys = answer_keys, .values = values};
    bool scalar = node != NULL && node->kind == CONF_KIND_SCALAR;
    int rc = conf_read(&reader->conf, scalar ? NULL : node, &form, reader->error);
    if (rc == 0 && scalar) {
        struct conf_key kind = answer_keys[ANSWER_KIND];
        kind.name = "answer";
        rc = conf_read_value(&reader->conf, node, &kind, &values[ANSWER_KIND], reader->error);
    }
    if (rc < 0)
        return rc;
    struct extractor extractor = {.pattern = values[ANSWER_PATTERN].text,
                                  .marker = values[ANSWER_MARKER].text,
                                  .partial = values[ANSWER_PARTIAL].whole != 0};
    bool known = extractor_kind_of(slice_of(values[ANSWER_KIND].text), &extractor.kind);
    assert(known); /* EXTRACTORS lists what common/answer.h has */
    struct error error = {""};
    rc = extractor_check(&extractor, &error);
    if (rc < 0) /* the default is valid, so there is a node */
        return conf_error(&reader->conf, node->mark, reader->error, rc, "'answer': %s", error.text);
    return 0;
}

static void answer_json(const struct conf_value values[ANSWER_KEYS], struct buf *out)
{
    json_begin(out, '{');
    json_key(out, "kind");
    json_str(out, values[ANSWER_KIND].text);
    json_key(out, "marker");
    json_str(out, values[ANSWER_MARKER].text);
    json_key(out, "partial");
    json_bool(out, values[ANSWER_PARTIAL].whole != 0);
    json_key(out, "pattern");
    json_str(out, values[ANSWER_PATTERN].text);
    json_end(out, '}');
}

/* Keys of later releases, which pools of earlier ones know not: left out unless the file says them. */
static bool key_left_out(int key, const struct conf_value *value)
{
    switch (key) {
    case MODEL_SEED:
        return value->whole == 0;
    case MODEL_WAIT:
    case MODEL_THINK_END:
    case MODEL_FINAL:
    case MODEL_REVISE:
        return !value->given;
    }
    return false;
}

/* Keys sorted, nothing else left out: equal specs are equal bytes, which the fingerprint of a pool relies on. */
static void model_json(const struct conf_value v[MODEL_KEYS], const struct conf_value answer[ANSWER_KEYS],
                       const char *options, struct buf *out)
{
    static const struct {
        const char *name;
        int key; /* -1: answer, -2: options */
    } fields[] = {
        {"answer", -1},
        {"backend", MODEL_BACKEND},
        {"final", MODEL_FINAL},
        {"max_tokens", MODEL_MAX_TOKENS},
        {"min_p", MODEL_MIN_P},
        {"name", MODEL_NAME},
        {"options", -2},
        {"path", MODEL_PATH},
        {"revise", MODEL_REVISE},
        {"seed", MODEL_SEED},
        {"step", MODEL_STEP},
        {"stop", MODEL_STOP},
        {"system", MODEL_SYSTEM},
        {"temperature", MODEL_TEMPERATURE},
        {"template", MODEL_TEMPLATE},
        {"think_end", MODEL_THINK_END},
        {"top_p", MODEL_TOP_P},
        {"url", MODEL_URL},
        {"wait", MODEL_WAIT},
    };
    json_begin(out, '{');
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        int key = fields[i].key;
        if (key >= 0 && key_left_out(key, &v[key]))
            continue;
        json_key(out, fields[i].name);
        if (key == -1)
            answer_json(answer, out);
        else if (key == -2)
            json_raw(out, slice_of(options));
        else if (sweep_model_keys[key].type == CONF_TEXTS)
            items_json(&v[key], false, out);
        else if (sweep_model_keys[key].type == CONF_TEXT)
            json_str(out, v[key].text);
        else if (key == MODEL_SEED)
            json_u64(out, v[key].whole);
        else
            json_f64(out, v[key].number);
    }
    json_end(out, '}');
}

static const struct kind *backend_find(struct sweep_reader *reader, const struct conf_value *value)
{
    struct conf_near near;
    conf_near_init(&near, value->text);
    for (const struct kind *kind = backend_kinds; kind->name != NULL; kind++) {
        if (strcmp(kind->name, value->text) == 0)
            return kind;
        conf_near_try(&near, kind->name);
    }
    conf_error(&reader->conf, value->node->mark, reader->error, ERR_NOT_FOUND, "'backend' cannot be '%.60s'%s",
               value->text, conf_near_text(&near));
    return NULL;
}

/* An empty stop or step would match everywhere; an empty path is a forgotten one. Only `system` and `final` may be
 * empty. */
static const struct conf_node *find_empty(const struct conf_value v[MODEL_KEYS])
{
    static const int texts[] = {MODEL_PATH, MODEL_URL,       MODEL_TEMPLATE, MODEL_STEP,
                                MODEL_WAIT, MODEL_THINK_END, MODEL_REVISE};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (v[texts[i]].given && v[texts[i]].text[0] == '\0')
            return v[texts[i]].node;
    const struct conf_node *item = v[MODEL_STOP].items;
    for (uint32_t i = 0; i < v[MODEL_STOP].items_len; i++, item = item->next)
        if (item->text[0] == '\0')
            return item;
    return NULL;
}

static int check_texts(struct sweep_reader *reader, const struct conf_node *node, const struct conf_value v[MODEL_KEYS])
{
    const struct conf_node *empty = find_empty(v);
    if (empty != NULL)
        return conf_error(&reader->conf, empty->mark, reader->error, ERR_RANGE,
                          "this text must not be empty; leave the key out for its default");
    if (strcmp(v[MODEL_BACKEND].text, "replay") == 0 && v[MODEL_PATH].text == NULL)
        return conf_error(&reader->conf, node->mark, reader->error, ERR_NOT_FOUND,
                          "backend 'replay' needs 'path': the file of recorded rollouts");
    struct error error = {""};
    if (v[MODEL_URL].text != NULL && http_url_check(v[MODEL_URL].text, &error) != 0)
        return conf_error(&reader->conf, v[MODEL_URL].node->mark, reader->error, ERR_SYNTAX, "'url': %s", error.text);
    return 0;
}

/* Which of its servers' models a worker needs for this one: the option `model` names it; one with an own url needs none. */
static char *offer_of(const struct kind *kind, const struct conf_value options[OPTIONS_MAX], const char *url)
{
    if ((backend_has(kind->name) & BACKEND_OFFERS) == 0 || (url != NULL && url[0] != '\0'))
        return xstrdup("");
    for (size_t i = 0; kind->options[i].name != NULL; i++)
        if (strcmp(kind->options[i].name, "model") == 0 && options[i].text != NULL && options[i].text[0] != '\0')
            return xstrdup(options[i].text);
    return xstrdup("*");
}

enum { STREAM_NEVER = 2 }; /* of the choices of option `stream` */

/* Servers are watched by streams that tell the likeliest tokens. */
static bool is_watched(const struct kind *kind, const struct conf_value options[OPTIONS_MAX])
{
    bool watched = (backend_has(kind->name) & BACKEND_KILLS) != 0;
    for (size_t i = 0; watched && kind->options != NULL && kind->options[i].name != NULL; i++) {
        if (strcmp(kind->options[i].name, "logprobs") == 0)
            watched = options[i].number >= 1;
        else if (strcmp(kind->options[i].name, "stream") == 0)
            watched = options[i].whole != STREAM_NEVER;
    }
    return watched;
}

static int fill_model(struct sweep_reader *reader, const struct conf_node *node, const struct conf_value v[MODEL_KEYS],
                      struct sweep_model *model)
{
    struct conf_value answer[ANSWER_KEYS], price[PRICE_KEYS], options[OPTIONS_MAX] = {{0}};
    const struct kind *kind = backend_find(reader, &v[MODEL_BACKEND]);
    if (kind == NULL)
        return ERR_NOT_FOUND;
    const struct conf_form option_form = {
        .what = "options", .options = kind->options, .option_values = options, .at = node->mark};
    const struct conf_form price_form = {.what = "price", .keys = price_keys, .values = price};
    int rc = conf_read(&reader->conf, v[MODEL_OPTIONS].node, &option_form, reader->error);
    if (rc == 0)
        rc = conf_read(&reader->conf, v[MODEL_PRICE].node, &price_form, reader->error);
    if (rc == 0)
        rc = read_answer(reader, v[MODEL_ANSWER].node, answer);
    if (rc == 0)
        rc = check_texts(reader, node, v);
    if (rc < 0)
        return rc;
    struct buf spec = {0}, options_json = {0}, answer_spec = {0};
    sweep_options_json(kind->options, options, &options_json);
    model_json(v, answer, options_json.data, &spec);
    buf_clear(&options_json);
    model->backend = xstrdup(kind->name);
    model->offer = offer_of(kind, options, v[MODEL_URL].text);
    model->spec = spec.data;
    answer_json(answer, &answer_spec);
    model->answer = answer_spec.data;
    struct buf origin = {0};
    buf_printf(&origin, "%s\n%s\n%s\n%s", kind->name, v[MODEL_PATH].text, v[MODEL_URL].text, model->offer);
    model->origin = origin.data;
    model->watched = is_watched(kind, options);
    model->thinks = v[MODEL_THINK_END].given;
    model->has_answer = strcmp(answer[ANSWER_KIND].text, "none") != 0;
    model->price_in_micro = sweep_micro(price[PRICE_INPUT].number);
    model->price_out_micro = sweep_micro(price[PRICE_OUTPUT].number);
    if (spec.len > LIMIT_SPEC)
        return conf_error(&reader->conf, node->mark, reader->error, ERR_LIMIT,
                          "model '%s' is %zu bytes as JSON; at most %d are allowed", model->name, spec.len, LIMIT_SPEC);
    return 0;
}

static void fill_numbers(const struct conf_value v[MODEL_KEYS], struct sweep_model *model)
{
    model->max_tokens = (uint32_t)v[MODEL_MAX_TOKENS].whole;
    model->template_tokens = (uint32_t)v[MODEL_TEMPLATE_TOKENS].whole;
    model->timeout_ms = (uint32_t)llround(v[MODEL_TIMEOUT].number * 1e3);
    model->slots = (uint32_t)v[MODEL_SLOTS].whole;
    model->seed = (uint32_t)v[MODEL_SEED].whole;
    model->greedy = v[MODEL_TEMPERATURE].number == 0;
}

static int read_model(struct sweep_reader *reader, const struct conf_node *node)
{
    struct conf_value v[MODEL_KEYS];
    struct sweep_spec *spec = reader->spec;
    const struct conf_form form = {.what = "model", .keys = sweep_model_keys, .values = v};
    struct sweep_model *model = &spec->models[spec->models_len];
    int rc = conf_read(&reader->conf, node, &form, reader->error);
    if (rc == 0)
        rc = sweep_name(reader, v[MODEL_NAME].node, "model", model->name);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < spec->models_len; i++)
        if (strcmp(spec->models[i].name, model->name) == 0)
            return conf_error(&reader->conf, v[MODEL_NAME].node->mark, reader->error, ERR_CONFLICT,
                              "two models are named '%s'; names must differ", model->name);
    spec->models_len++;
    fill_numbers(v, model);
    return fill_model(reader, node, v, model);
}

static void take(struct sweep_reader *reader, const struct conf_node *child, struct conf_node *into)
{
    struct conf_node *copy = conf_node_like(&reader->conf, child);
    copy->first = child->first;
    copy->last = child->last;
    copy->len = child->len;
    conf_append(into, copy);
}

static bool has_key(const struct conf_node *map, const char *key)
{
    for (const struct conf_node *child = map->first; child != NULL; child = child->next)
        if (strcmp(child->key, key) == 0)
            return true;
    return false;
}

/* The map of a model that is `like` one of those ahead of it, as if it were written out: *whole. */
static int write_out(struct sweep_reader *reader, const struct conf_node *node, const struct conf_node *const *ahead,
                     const struct conf_node **whole)
{
    const struct conf_node *like = node->kind == CONF_KIND_MAP ? conf_get(node, "like") : NULL;
    uint32_t base;
    *whole = node;
    if (like == NULL)
        return 0;
    if (like->kind != CONF_KIND_SCALAR)
        return conf_error(&reader->conf, like->mark, reader->error, ERR_SYNTAX, "'like' must be the name of a model");
    int rc = sweep_model_index(reader, like, &base);
    if (rc < 0)
        return rc;
    struct conf_node *map = conf_node_like(&reader->conf, node);
    for (const struct conf_node *child = node->first; child != NULL; child = child->next)
        if (child != like)
            take(reader, child, map);
    for (const struct conf_node *child = ahead[base]->first; child != NULL; child = child->next)
        if (strcmp(child->key, "name") != 0 && !has_key(node, child->key))
            take(reader, child, map);
    *whole = map;
    return 0;
}

int sweep_models(struct sweep_reader *reader, const struct conf_node *list)
{
    if (list->kind != CONF_KIND_LIST || list->len == 0)
        return conf_error(&reader->conf, list->mark, reader->error, ERR_SYNTAX,
                          "'models' must be a list of at least one model");
    if (list->len > LIMIT_MODELS)
        return conf_error(&reader->conf, list->mark, reader->error, ERR_LIMIT, "%u models; at most %d are allowed",
                          list->len, LIMIT_MODELS);
    reader->spec->models = xalloc(list->len * sizeof *reader->spec->models);
    const struct conf_node *whole[LIMIT_MODELS];
    int rc = 0;
    uint32_t i = 0;
    for (const struct conf_node *node = list->first; rc == 0 && node != NULL; node = node->next, i++) {
        rc = write_out(reader, node, whole, &whole[i]);
        if (rc == 0)
            rc = read_model(reader, whole[i]);
    }
    return rc;
}

int sweep_model_index(struct sweep_reader *reader, const struct conf_node *node, uint32_t *index)
{
    struct conf_near near;
    conf_near_init(&near, node->text);
    for (uint32_t i = 0; i < reader->spec->models_len; i++) {
        *index = i;
        if (strcmp(reader->spec->models[i].name, node->text) == 0)
            return 0;
        conf_near_try(&near, reader->spec->models[i].name);
    }
    return conf_error(&reader->conf, node->mark, reader->error, ERR_NOT_FOUND, "there is no model '%.64s'%s",
                      node->text, conf_near_text(&near));
}
