/* sweep_bins.c - `strategy: {bins: ...}` of an arm: a pilot, and for each bin of difficulty an arm of its own.
 *
 * The keys of the arm hold for every bin that does not say otherwise. So each bin is written out as an arm would be, and is
 * read as one: whatever an arm may do, a bin may. */
#include "broker/sweep_parts.h"
#include "common/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BINS_BY, BINS_PILOT, BINS_TABLE, BINS_KEYS };

const struct conf_key sweep_bins_keys[] = {
    {.name = "by",
     .type = CONF_CHOICE,
     .fallback = "passes",
     .choices = "passes|score|agreement|prior",
     .help = "what tells how easy a prompt is: of its pilot the share that passes, the mean score, the share of the "
             "leading answer; or the mean of the arm's prior"},
    {.name = "pilot",
     .type = CONF_INT,
     .min = 1,
     .max = LIMIT_N,
     .fallback = "4",
     .unit = "rollouts",
     .help = "of the arm's model, of every prompt, judged by the arm's verifier; with `by: prior` there is none"},
    {.name = "table",
     .type = CONF_NODE,
     .help = "list of bins, the hardest first: up_to (its largest value), and keys of an arm in place of this arm's"},
    {0},
};

static const struct conf_key up_to_key = {
    .name = "up_to", .type = CONF_REAL, .min = -1e9, .max = 1e9, .help = "largest value of the bin"};

/* Keys that make sense for the whole arm alone, or for neither it nor its bins. */
static const char *const whole_keys[] = {"name", "order", "lookahead", "rollouts", NULL};
static const char *const no_keys[] = {"budget", "report_at", NULL};

struct table {
    struct sweep_reader *reader;
    const struct conf_node *arm, *list;
    enum bins_by by;
    uint32_t pilot;
    char name[65];
};

static bool among(const char *const *keys, const char *key)
{
    for (; *keys != NULL; keys++)
        if (strcmp(*keys, key) == 0)
            return true;
    return false;
}

const struct conf_node *sweep_bins_of(const struct conf_node *arm)
{
    const struct conf_node *strategy = conf_get(arm, "strategy");
    if (strategy == NULL || strategy->kind != CONF_KIND_MAP || strategy->len != 1 ||
        strcmp(strategy->first->key, "bins") != 0)
        return NULL;
    return strategy->first;
}

/* A bin that names its models has no use for the arm's, in whichever of the two ways they are named. */
static bool overridden(const struct conf_node *bin, const char *key)
{
    bool models = strcmp(key, "model") == 0 || strcmp(key, "models") == 0 || strcmp(key, "schedule") == 0;
    for (const struct conf_node *node = bin->first; node != NULL; node = node->next)
        if (strcmp(node->key, key) == 0)
            return true; /* without a value: the bin has none */
    return (models && (conf_get(bin, "model") != NULL || conf_get(bin, "models") != NULL));
}

static struct conf_node *arm_like(struct table *table, const struct conf_node *like, const char *suffix)
{
    struct conf *conf = &table->reader->conf;
    struct conf_node *arm = conf_node_like(conf, like);
    struct buf name = {0};
    arm->kind = CONF_KIND_MAP;
    buf_printf(&name, "%s.%s", table->name, suffix);
    sweep_node_text(conf, conf_get(table->arm, "name"), "name", name.data, arm);
    buf_clear(&name);
    return arm;
}

static int check_keys(const struct table *table, const struct conf_node *map, bool bin)
{
    for (const struct conf_node *node = map->first; node != NULL; node = node->next) {
        if (among(no_keys, node->key))
            return conf_error(&table->reader->conf, node->key_mark, table->reader->error, ERR_REFUSED,
                              "arm '%s': neither an arm of bins nor a bin has '%s': each bin has its n, and the "
                              "sweep's budget caps them all",
                              table->name, node->key);
        if (bin && among(whole_keys, node->key))
            return conf_error(&table->reader->conf, node->key_mark, table->reader->error, ERR_REFUSED,
                              "arm '%s': '%s' holds for all bins: write it beside 'strategy'", table->name, node->key);
    }
    return 0;
}

/* Every prompt gets the same few rollouts; selecting among them is nobody's business. */
static int read_pilot(struct table *table, sweep_arm_reader *read, void *arg)
{
    static const char *const keys[] = {"model", "verifier", "order", "lookahead", "rollouts", NULL};
    struct conf *conf = &table->reader->conf;
    const struct conf_node *models = conf_get(table->arm, "models");
    struct conf_node *pilot = arm_like(table, table->arm, "pilot");
    char n[16];
    if (table->by != BY_AGREEMENT && conf_get(table->arm, "verifier") == NULL)
        return conf_error(conf, table->arm->mark, table->reader->error, ERR_REFUSED,
                          "arm '%s': a verifier judges the pilot of its bins; add `verifier: NAME`, or tell bins by "
                          "`by: agreement`",
                          table->name);
    if (models != NULL)
        return conf_error(conf, models->key_mark, table->reader->error, ERR_REFUSED,
                          "arm '%s': its pilot samples one model: name that with 'model', and others in the table",
                          table->name);
    for (const struct conf_node *node = table->arm->first; node != NULL; node = node->next)
        if (among(keys, node->key))
            sweep_node_take(conf, node, pilot);
    snprintf(n, sizeof n, "%u", table->pilot);
    sweep_node_text(conf, table->arm, "n", n, pilot);
    sweep_node_text(conf, table->arm, "select", table->by == BY_AGREEMENT ? "majority" : "best", pilot);
    struct sweep_bin bin = {.by = table->by};
    memcpy(bin.of, table->name, sizeof bin.of);
    return read(arg, pilot, &bin);
}

static int read_bin(struct table *table, const struct conf_node *node, struct sweep_bin *bin, sweep_arm_reader *read,
                    void *arg)
{
    struct conf *conf = &table->reader->conf;
    char suffix[16];
    snprintf(suffix, sizeof suffix, "%u", bin->number);
    struct conf_node *arm = arm_like(table, node, suffix);
    for (const struct conf_node *key = table->arm->first; key != NULL; key = key->next)
        if (strcmp(key->key, "name") != 0 && strcmp(key->key, "strategy") != 0 && !overridden(node, key->key))
            sweep_node_take(conf, key, arm);
    for (const struct conf_node *key = node->first; key != NULL; key = key->next)
        if (strcmp(key->key, "up_to") != 0)
            sweep_node_take(conf, key, arm);
    return read(arg, arm, bin);
}

/* Where the bin ends: the last one has no end. */
static int read_edge(const struct table *table, const struct conf_node *node, struct sweep_bin *bin)
{
    const struct conf_node *up_to = conf_get(node, "up_to");
    struct sweep_reader *reader = table->reader;
    struct conf_value value;
    bin->above = bin->number == 1 ? -INFINITY : bin->up_to;
    bin->up_to = INFINITY;
    if (node->next == NULL && up_to == NULL)
        return 0;
    if (up_to == NULL)
        return conf_error(&reader->conf, node->mark, reader->error, ERR_NOT_FOUND,
                          "arm '%s': bin %u needs 'up_to', its largest value; only the last has none", table->name,
                          bin->number);
    if (node->next == NULL)
        return conf_error(&reader->conf, up_to->key_mark, reader->error, ERR_REFUSED,
                          "arm '%s': the last bin has all that is above the others, and no 'up_to'", table->name);
    int rc = conf_read_value(&reader->conf, up_to, &up_to_key, &value, reader->error);
    if (rc == 0 && table->by != BY_SCORE && !(value.number >= 0 && value.number <= 1))
        rc = conf_error(&reader->conf, up_to->mark, reader->error, ERR_RANGE,
                        "arm '%s': 'up_to' is %g, but without `by: score` bins go by a share, from 0 to 1", table->name,
                        value.number);
    if (rc == 0 && !(value.number > bin->above))
        rc = conf_error(&reader->conf, up_to->mark, reader->error, ERR_RANGE,
                        "arm '%s': 'up_to' must rise from bin to bin, but %g stands behind %g", table->name,
                        value.number, bin->above);
    bin->up_to = value.number;
    return rc;
}

static int read_table(struct table *table, sweep_arm_reader *read, void *arg)
{
    struct sweep_bin bin = {.by = table->by};
    int rc = 0;
    memcpy(bin.of, table->name, sizeof bin.of);
    for (const struct conf_node *node = table->list->first; rc == 0 && node != NULL; node = node->next) {
        bin.number++;
        if (node->kind != CONF_KIND_MAP)
            return conf_error(&table->reader->conf, node->mark, table->reader->error, ERR_SYNTAX,
                              "arm '%s': bin %u must be a map, like {up_to: 0.5, n: 8}", table->name, bin.number);
        rc = check_keys(table, node, true);
        if (rc == 0)
            rc = read_edge(table, node, &bin);
        if (rc == 0)
            rc = read_bin(table, node, &bin, read, arg);
    }
    return rc;
}

/* A prior counts what a verifier passed of a model, so bins that differ in these would not mean the same by a value. */
static int check_priors(const struct table *table, uint32_t first)
{
    const struct sweep_spec *spec = table->reader->spec;
    for (uint32_t i = first + 1; table->by == BY_PRIOR && i < spec->arms_len; i++)
        if (spec->arms[i].verifier != spec->arms[first].verifier ||
            spec->arms[i].models[0] != spec->arms[first].models[0])
            return conf_error(&table->reader->conf, table->list->mark, table->reader->error, ERR_REFUSED,
                              "arm '%s': with `by: prior` all bins have one model and one verifier, since the prior "
                              "counts what that verifier passed of that model",
                              table->name);
    return 0;
}

static int check_name(const struct table *table)
{
    const struct sweep_reader *reader = table->reader;
    for (uint32_t i = 0; i < reader->spec->arms_len; i++)
        if (strcmp(reader->spec->arms[i].name, table->name) == 0 ||
            strcmp(reader->spec->arms[i].bin.of, table->name) == 0)
            return conf_error(&reader->conf, conf_get(table->arm, "name")->mark, reader->error, ERR_CONFLICT,
                              "two arms are named '%s', the other one on line %u; names must differ", table->name,
                              reader->spec->arms[i].line);
    return 0;
}

int sweep_bins(struct sweep_reader *reader, const struct conf_node *arm, sweep_arm_reader *read, void *arg)
{
    struct conf_value v[BINS_KEYS] = {{0}};
    const struct conf_form form = {.what = "bins", .keys = sweep_bins_keys, .values = v};
    const struct conf_node *name = conf_get(arm, "name");
    uint32_t first = reader->spec->arms_len;
    struct table table = {.reader = reader, .arm = arm};
    if (name == NULL || name->kind != CONF_KIND_SCALAR)
        return conf_error(&reader->conf, arm->mark, reader->error, ERR_NOT_FOUND, "an arm of bins needs a 'name'");
    int rc = sweep_name(reader, name, "arm", table.name);
    if (rc == 0)
        rc = conf_read(&reader->conf, sweep_bins_of(arm), &form, reader->error);
    if (rc < 0)
        return rc;
    table.list = v[BINS_TABLE].node;
    table.by = (enum bins_by)v[BINS_BY].whole;
    table.pilot = (uint32_t)v[BINS_PILOT].whole;
    if (table.list->kind != CONF_KIND_LIST || table.list->len < 2 || table.list->len > LIMIT_BINS)
        return conf_error(&reader->conf, table.list->mark, reader->error, ERR_SYNTAX,
                          "arm '%s': 'table' must be a list of 2 to %d bins", table.name, LIMIT_BINS);
    rc = check_name(&table);
    if (rc == 0)
        rc = check_keys(&table, arm, false);
    if (rc == 0 && table.by != BY_PRIOR)
        rc = read_pilot(&table, read, arg);
    if (rc == 0)
        rc = read_table(&table, read, arg);
    return rc == 0 ? check_priors(&table, first) : rc;
}
