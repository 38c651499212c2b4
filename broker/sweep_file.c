/* sweep_file.c - a sweep file from text to records: its sections, `sweep`, budgets, names; see
 * sweep_file.h.
 *
 * Order: overrides, then grids become arms, then overrides of arms (so `arms.NAME.n=8` also reaches
 * an arm that a grid made), then every section is read. */
#include "broker/sweep_file.h"
#include "broker/sweep_parts.h"
#include "common/limits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AMOUNT_MAX 1e12 /* of a budget: its thousandths and millionths fit in 64 bits */

enum { FILE_SWEEP, FILE_MODELS, FILE_VERIFIERS, FILE_ARMS, FILE_GRID, FILE_KEYS };

static const struct conf_key file_keys[] = {
    {.name = "sweep", .type = CONF_NODE, .help = "name, prompts and budget of the sweep"},
    {.name = "models", .type = CONF_NODE, .help = "list of models"},
    {.name = "verifiers", .type = CONF_NODE, .fallback = "", .help = "list of verifiers"},
    {.name = "arms", .type = CONF_NODE, .fallback = "", .help = "list of arms"},
    {.name = "grid", .type = CONF_NODE, .fallback = "", .help = "list of patterns of arms"},
    {0},
};

enum {
    SWEEP_NAME,
    SWEEP_SEED,
    SWEEP_PROMPTS,
    SWEEP_TRUTH,
    SWEEP_GROUP_BY,
    SWEEP_ORDER,
    SWEEP_LOOKAHEAD,
    SWEEP_BUDGET,
    SWEEP_KEYS
};

static const struct conf_key sweep_keys[] = {
    {.name = "name", .type = CONF_TEXT, .help = "identity of the sweep in its state folder"},
    {.name = "seed",
     .type = CONF_INT,
     .max = 18446744073709551615.0,
     .fallback = "1",
     .help = "all random numbers follow from it"},
    {.name = "prompts",
     .type = CONF_TEXT,
     .help = "JSONL file, one prompt a line; relative to the sweep file's folder"},
    {.name = "truth",
     .type = CONF_TEXT,
     .fallback = "",
     .help = "verifier that says what is right; free of charge, and hidden from policies"},
    {.name = "group_by",
     .type = CONF_TEXT,
     .max = 256,
     .fallback = "",
     .help = "key of the prompts' meta that reports are split by"},
    {.name = "order",
     .type = CONF_CHOICE,
     .fallback = "arrival",
     .choices = "arrival|strict",
     .help = "strict: allocation decides alike on any number of workers; default of the arms"},
    {.name = "lookahead",
     .type = CONF_INT,
     .min = 1,
     .max = LIMIT_LOOKAHEAD,
     .fallback = "64",
     .unit = "rollouts",
     .help = "how far order: strict runs ahead; default of the arms"},
    {.name = "budget",
     .type = CONF_NODE,
     .fallback = "",
     .help = "caps: rollouts, tokens, seconds, deadline, cost, count"},
    {0},
};

enum { BUDGET_ROLLOUTS, BUDGET_TOKENS, BUDGET_SECONDS, BUDGET_DEADLINE, BUDGET_COST, BUDGET_COUNT, BUDGET_KEYS };

/* `count` is last: an arm's budget counts what the arm is charged, so arms take the rows before it.
 */
#define BUDGET_ROWS                                                                                                \
    {.name = "rollouts", .type = CONF_INT, .max = 1e15, .fallback = "0", .unit = "0: no cap", .help = "rollouts"}, \
        {.name = "tokens",                                                                                         \
         .type = CONF_INT,                                                                                         \
         .max = 1e18,                                                                                              \
         .fallback = "0",                                                                                          \
         .unit = "0: no cap",                                                                                      \
         .help = "tokens, read and generated"},                                                                    \
        {.name = "seconds",                                                                                        \
         .type = CONF_REAL,                                                                                        \
         .max = AMOUNT_MAX,                                                                                        \
         .fallback = "0",                                                                                          \
         .unit = "0: no cap",                                                                                      \
         .help = "seconds of slots, each counted by itself"},                                                      \
        {.name = "deadline",                                                                                       \
         .type = CONF_INT,                                                                                         \
         .max = 1e9,                                                                                               \
         .fallback = "0",                                                                                          \
         .unit = "seconds, 0: none",                                                                               \
         .help = "wall-clock time after the start of the sweep"},                                                  \
    {                                                                                                              \
        .name = "cost", .type = CONF_REAL, .max = AMOUNT_MAX, .fallback = "0", .unit = "0: no cap",                \
        .help = "money, in the unit of the models' prices"                                                         \
    }

static const struct conf_key sweep_budget_keys[] = {
    BUDGET_ROWS,
    {.name = "count",
     .type = CONF_CHOICE,
     .fallback = "burned",
     .choices = "burned|accepted",
     .help = "what caps count: all that was spent, or what was kept"},
    {0},
};

static const struct conf_key arm_budget_keys[] = {BUDGET_ROWS, {0}};

/* ---- names, budgets ---- */

int sweep_name_check(const char *what, const char *name, struct error *error)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t len = strlen(name);
    if (len > LIMIT_NAME)
        return error_set(error, ERR_LIMIT, "the %s's name has %zu bytes; at most %d are allowed", what, len,
                         LIMIT_NAME);
    if (len == 0 || name[0] == '.' || strspn(name, allowed) != len)
        return error_set(error, ERR_SYNTAX,
                         "the %s's name '%s' must be of letters, digits, '.', '_' and '-', and not start with '.'",
                         what, name);
    return 0;
}

int sweep_name(struct sweep_reader *reader, const struct conf_node *node, const char *what, char name[65])
{
    struct error error = {""};
    int rc = sweep_name_check(what, node->text, &error);
    if (rc != 0)
        return conf_error(&reader->conf, node->mark, reader->error, rc, "%s", error.text);
    memcpy(name, node->text, strlen(node->text) + 1);
    return 0;
}

int sweep_budget(struct sweep_reader *reader, const struct conf_node *node, bool of_arm, struct budget *budget)
{
    struct conf_value v[BUDGET_KEYS] = {{0}};
    const struct conf_form form = {.what = "budget", .keys = of_arm ? arm_budget_keys : sweep_budget_keys, .values = v};
    int rc = conf_read(&reader->conf, node, &form, reader->error);
    if (rc < 0)
        return rc;
    *budget = (struct budget){
        .rollouts = v[BUDGET_ROLLOUTS].whole,
        .tokens = v[BUDGET_TOKENS].whole,
        .slot_ms = (uint64_t)llround(v[BUDGET_SECONDS].number * 1e3),
        .cost_micro = sweep_micro(v[BUDGET_COST].number),
        .deadline_s = v[BUDGET_DEADLINE].whole,
        .accepted = v[BUDGET_COUNT].whole == 1,
    };
    /* 0 means no cap, so a cap that rounds to 0 would lift what it should limit. */
    if ((v[BUDGET_SECONDS].number > 0 && budget->slot_ms == 0) ||
        (v[BUDGET_COST].number > 0 && budget->cost_micro == 0))
        return conf_error(&reader->conf, node->mark, reader->error, ERR_RANGE,
                          "a cap below a thousandth of a second or a millionth of the price "
                          "unit; raise it");
    return 0;
}

/* ---- nodes that sections make of others ---- */

void sweep_node_take(struct conf *conf, const struct conf_node *node, struct conf_node *to)
{
    struct conf_node *copy = conf_node_like(conf, node);
    copy->first = node->first;
    copy->last = node->last;
    copy->len = node->len;
    conf_append(to, copy);
}

void sweep_node_text(struct conf *conf, const struct conf_node *like, const char *key, const char *text,
                     struct conf_node *to)
{
    struct conf_node *node = conf_node_like(conf, like);
    free((char *)node->key);
    free((char *)node->text);
    node->kind = CONF_KIND_SCALAR;
    node->plain = true;
    node->key = xstrdup(key);
    node->text = xstrdup(text);
    conf_append(to, node);
}

/* ---- the file ---- */

static char *text_or_null(const struct conf_value *value)
{
    return value->text == NULL ? NULL : xstrdup(value->text);
}

static int read_sweep(struct sweep_reader *reader, const struct conf_node *node, struct sweep_arm_defaults *defaults)
{
    struct conf_value v[SWEEP_KEYS];
    struct sweep_spec *spec = reader->spec;
    const struct conf_form form = {.what = "sweep", .keys = sweep_keys, .values = v};
    int rc = conf_read(&reader->conf, node, &form, reader->error);
    if (rc == 0)
        rc = sweep_name(reader, v[SWEEP_NAME].node, "sweep", spec->name);
    if (rc == 0)
        rc = sweep_budget(reader, v[SWEEP_BUDGET].node, false, &spec->budget);
    if (rc == 0 && v[SWEEP_TRUTH].given)
        rc = sweep_verifier_index(reader, v[SWEEP_TRUTH].node, &spec->truth);
    if (rc == 0 && v[SWEEP_TRUTH].given && spec->verifiers[spec->truth].group)
        rc = conf_error(&reader->conf, v[SWEEP_TRUTH].node->mark, reader->error, ERR_REFUSED,
                        "'%s' compares rollouts with each other, and cannot tell which is right: name another truth",
                        spec->verifiers[spec->truth].name);
    if (rc < 0)
        return rc;
    if (v[SWEEP_PROMPTS].text[0] == '\0')
        return conf_error(&reader->conf, v[SWEEP_PROMPTS].node->mark, reader->error, ERR_RANGE,
                          "'prompts' must name a file");
    spec->seed = v[SWEEP_SEED].whole;
    spec->prompts_path = text_or_null(&v[SWEEP_PROMPTS]);
    spec->group_by = text_or_null(&v[SWEEP_GROUP_BY]);
    defaults->strict = v[SWEEP_ORDER].whole == 1;
    defaults->lookahead = (uint32_t)v[SWEEP_LOOKAHEAD].whole;
    return 0;
}

static int read_file(struct sweep_reader *reader)
{
    struct conf_value v[FILE_KEYS];
    struct sweep_arm_defaults defaults = {0};
    const struct conf_form form = {.what = "sweep file", .keys = file_keys, .values = v};
    int rc = conf_read(&reader->conf, reader->conf.root, &form, reader->error);
    if (rc == 0)
        rc = sweep_models(reader, v[FILE_MODELS].node);
    if (rc == 0)
        rc = sweep_verifiers(reader, v[FILE_VERIFIERS].node);
    if (rc == 0)
        rc = read_sweep(reader, v[FILE_SWEEP].node, &defaults);
    if (rc == 0)
        rc = sweep_arms(reader, v[FILE_ARMS].node, &defaults);
    return rc;
}

/* "budget.tokens=5" means "sweep.budget.tokens=5": what is no section is a key of `sweep`. */
static const char *override_section(const char *override)
{
    size_t len = strcspn(override, ".=");
    for (const struct conf_key *key = file_keys; key->name != NULL; key++)
        if (strlen(key->name) == len && memcmp(key->name, override, len) == 0)
            return NULL;
    return "sweep";
}

/* Applies the overrides that reach into single arms, or all others. */
static int apply_overrides(struct sweep_reader *reader, const char *const *overrides, size_t len, bool of_arms)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < len; i++)
        if ((strncmp(overrides[i], "arms.", 5) == 0) == of_arms)
            rc = conf_override(&reader->conf, overrides[i], override_section(overrides[i]), reader->error);
    return rc;
}

int sweep_spec_parse(struct slice text, const char *file, const char *const *overrides, size_t overrides_len,
                     struct sweep_spec *spec, struct error *error)
{
    struct sweep_reader reader = {.spec = spec, .error = error};
    *spec = (struct sweep_spec){.truth = NO_INDEX};
    int rc = conf_parse(&reader.conf, text, file, error);
    if (rc == 0)
        rc = apply_overrides(&reader, overrides, overrides_len, false);
    if (rc == 0)
        rc = sweep_grids(&reader);
    if (rc == 0)
        rc = apply_overrides(&reader, overrides, overrides_len, true);
    if (rc == 0)
        rc = sweep_splits(&reader);
    if (rc == 0)
        rc = read_file(&reader);
    conf_clear(&reader.conf);
    if (rc < 0)
        sweep_spec_clear(spec);
    return rc;
}

/* ---- arms alone ---- */

/* A list of arms, or the keys of one, are put where the section would be. */
static void wrap_arms(struct conf *conf)
{
    struct conf_node *root = conf->root;
    bool one = root->kind == CONF_KIND_MAP && conf_get(root, "arms") == NULL && conf_get(root, "grid") == NULL;
    if (!one && root->kind != CONF_KIND_LIST)
        return;
    struct conf_node *file = conf_node_like(conf, root), *list = root;
    file->kind = CONF_KIND_MAP;
    if (one) {
        list = conf_node_like(conf, root);
        list->kind = CONF_KIND_LIST;
        conf_append(list, root);
    }
    free((char *)list->key);
    list->key = xstrdup("arms");
    conf_append(file, list);
    conf->root = file;
}

static void know(struct sweep_spec *spec, const struct sweep_known *known)
{
    spec->models = xalloc(known->models_len * sizeof *spec->models);
    for (; spec->models_len < known->models_len; spec->models_len++) {
        const struct sweep_model *model = &known->models[spec->models_len];
        spec->models[spec->models_len] = (struct sweep_model){
            .backend = xstrdup(""), .answer = xstrdup(model->answer), .has_answer = model->has_answer};
        memcpy(spec->models[spec->models_len].name, model->name, sizeof model->name);
    }
    uint32_t own = spec->verifiers_len;
    spec->verifiers = xrealloc(spec->verifiers, ((size_t)own + known->verifiers_len) * sizeof *spec->verifiers);
    for (uint32_t i = 0; i < known->verifiers_len; i++) {
        bool hidden = false;
        for (uint32_t k = 0; k < own; k++)
            hidden = hidden || strcmp(spec->verifiers[k].name, known->verifiers[i].name) == 0;
        if (hidden)
            continue;
        spec->verifiers[spec->verifiers_len] = (struct sweep_verifier){.group = known->verifiers[i].group};
        memcpy(spec->verifiers[spec->verifiers_len++].name, known->verifiers[i].name, sizeof spec->verifiers->name);
    }
}

static bool grows(const struct conf_node *arm)
{
    const struct conf_node *strategy = conf_get(arm, "strategy");
    const char *word = strategy == NULL                                       ? NULL
                       : strategy->kind == CONF_KIND_MAP && strategy->len > 0 ? strategy->first->key
                                                                              : strategy->text;
    const struct strategy *known = word == NULL ? NULL : strategy_find(word);
    return known != NULL && known->trees != NULL;
}

/* An arm of bins does where one of its bins does. */
static bool grows_trees(const struct conf_node *arm)
{
    const struct conf_node *table = conf_get(sweep_bins_of(arm), "table");
    bool grown = grows(arm);
    for (const struct conf_node *bin = table == NULL ? NULL : table->first; bin != NULL; bin = bin->next)
        grown = grown || grows(bin);
    return grown;
}

/* Takes arms that grow trees out of the list and notes their names. */
static void drop_trees(struct conf_node *list, struct buf *trees)
{
    struct conf_node **at = &list->first;
    list->last = NULL;
    while (*at != NULL) {
        const struct conf_node *arm = *at, *name = conf_get(arm, "name");
        if (!grows_trees(arm)) {
            list->last = *at;
            at = &(*at)->next;
            continue;
        }
        buf_printf(trees, "%s%s", trees->len > 0 ? ", " : "", name == NULL || name->text == NULL ? "?" : name->text);
        *at = arm->next;
        list->len--;
    }
}

static int read_arms(struct sweep_reader *reader, const struct sweep_known *known, struct buf *trees)
{
    struct conf_key keys[FILE_KEYS + 1];
    struct conf_value v[FILE_KEYS];
    struct sweep_arm_defaults defaults = {.lookahead = 64};
    memcpy(keys, file_keys, sizeof keys);
    keys[FILE_SWEEP].fallback = keys[FILE_MODELS].fallback = "";
    const struct conf_form form = {.what = "file of arms", .keys = keys, .values = v};
    int rc = conf_read(&reader->conf, reader->conf.root, &form, reader->error);
    if (rc == 0)
        rc = sweep_verifiers(reader, v[FILE_VERIFIERS].node);
    if (rc < 0)
        return rc;
    know(reader->spec, known);
    if (v[FILE_SWEEP].node != NULL)
        rc = read_sweep(reader, v[FILE_SWEEP].node, &defaults);
    struct conf_node *list = (struct conf_node *)v[FILE_ARMS].node;
    if (list != NULL && list->kind == CONF_KIND_LIST)
        drop_trees(list, trees);
    if (rc == 0 && trees->len > 0 && list->len == 0)
        return error_set(reader->error, ERR_NOT_FOUND,
                         "%s: every arm grows trees of its own (%.200s), for which there are no rollouts",
                         reader->conf.file, trees->data);
    return rc == 0 ? sweep_arms(reader, list, &defaults) : rc;
}

int sweep_arms_parse(struct slice text, const char *file, const struct sweep_known *known, struct sweep_spec *spec,
                     struct buf *trees, struct error *error)
{
    struct sweep_reader reader = {.spec = spec, .error = error};
    *spec = (struct sweep_spec){.truth = NO_INDEX};
    int rc = conf_parse(&reader.conf, text, file, error);
    if (rc == 0) {
        wrap_arms(&reader.conf);
        rc = sweep_grids(&reader);
    }
    if (rc == 0)
        rc = sweep_splits(&reader);
    if (rc == 0)
        rc = read_arms(&reader, known, trees);
    conf_clear(&reader.conf);
    if (rc < 0)
        sweep_spec_clear(spec);
    return rc;
}

void sweep_spec_clear(struct sweep_spec *spec)
{
    for (uint32_t i = 0; i < spec->models_len; i++) {
        free(spec->models[i].backend);
        free(spec->models[i].offer);
        free(spec->models[i].spec);
        free(spec->models[i].answer);
        free(spec->models[i].origin);
    }
    for (uint32_t i = 0; i < spec->verifiers_len; i++) {
        free(spec->verifiers[i].kind);
        free(spec->verifiers[i].spec);
    }
    for (uint32_t i = 0; i < spec->arms_len; i++) {
        free(spec->arms[i].report_at);
        free(spec->arms[i].prior.from);
        free(spec->arms[i].belief_source);
        free(spec->arms[i].beliefs);
    }
    free(spec->models);
    free(spec->verifiers);
    free(spec->arms);
    free(spec->prompts_path);
    free(spec->group_by);
    *spec = (struct sweep_spec){0};
}

void sweep_file_help(struct buf *out)
{
    static const struct {
        const char *title;
        const struct conf_key *keys;
    } sections[] = {
        {"sections", file_keys},
        {"sweep", sweep_keys},
        {"sweep.budget", sweep_budget_keys},
        {"models", sweep_model_keys},
        {"verifiers", sweep_verifier_keys},
        {"arms", sweep_arm_keys},
        {"arms.prior", sweep_prior_keys},
        {"arms.strategy.bins", sweep_bins_keys},
        {"arms.allocate.solve-verify", sweep_split_keys},
        {"grid", sweep_grid_keys},
    };
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        buf_printf(out, "%s%s:\n", i == 0 ? "" : "\n", sections[i].title);
        conf_print_keys(sections[i].keys, out);
    }
}
