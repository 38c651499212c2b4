/* sweep_grid.c - `grid` sections become arms before arms are read, so that both are checked by the
 * same code.
 *
 * A grid is a pattern of an arm: each "{key}" in it stands for one value of `over.key`, for every
 * combination of values, the last key varying fastest. */
#include "broker/sweep_grid.h"
#include "broker/sweep_parts.h"
#include "common/limits.h"

#include <stdlib.h>
#include <string.h>

enum { GRID_NAME, GRID_OVER, GRID_ARM, GRID_KEYS };

const struct conf_key sweep_grid_keys[] = {
    {.name = "name", .type = CONF_TEXT, .help = "name of the arms, with {key} where a value goes"},
    {.name = "over", .type = CONF_NODE, .help = "map of keys to lists of values"},
    {.name = "arm", .type = CONF_NODE, .help = "keys of an arm; \"{key}\" stands for a value"},
    {0},
};

#define COPIED_MAX (64u << 20) /* bytes that all grids of a file may make: a pattern can be large, too */

/* One key of `over` and the value that it has in the arm being made. */
struct axis {
    const char *key;
    const struct conf_node *list; /* or one scalar */
    const struct conf_node *now;
};

struct grid {
    struct sweep_reader *reader;
    const struct conf_node *node;
    struct axis axes[GRID_AXES_MAX];
    size_t axes_len;
};

static const struct conf_node *axis_first(const struct axis *axis)
{
    return axis->list->kind == CONF_KIND_LIST ? axis->list->first : axis->list;
}

static const struct conf_node *axis_next(const struct axis *axis)
{
    return axis->list->kind == CONF_KIND_LIST ? axis->now->next : NULL;
}

static int unknown_axis(const struct grid *grid, struct conf_mark mark, const char *key)
{
    struct conf_near near;
    conf_near_init(&near, key);
    for (size_t i = 0; i < grid->axes_len; i++)
        conf_near_try(&near, grid->axes[i].key);
    return conf_error(&grid->reader->conf, mark, grid->reader->error, ERR_NOT_FOUND,
                      "{%.40s} is not a key of this grid's 'over'%s", key, conf_near_text(&near));
}

static const struct axis *axis_find(const struct grid *grid, struct slice key)
{
    for (size_t i = 0; i < grid->axes_len; i++)
        if (strlen(grid->axes[i].key) == key.len && memcmp(grid->axes[i].key, key.data, key.len) == 0)
            return &grid->axes[i];
    return NULL;
}

/* What a value is called inside a text: itself, or the one key of a policy with options. */
static const char *value_label(const struct conf_node *value)
{
    if (value->kind == CONF_KIND_SCALAR)
        return value->text;
    return value->kind == CONF_KIND_MAP && value->len == 1 ? value->first->key : NULL;
}

static int too_large(const struct grid *grid, struct conf_mark mark)
{
    return conf_error(&grid->reader->conf, mark, grid->reader->error, ERR_LIMIT,
                      "this grid's arms are too large together; make it smaller");
}

/* Appends text with each {key} replaced. */
static int replace_keys(const struct grid *grid, const struct conf_node *node, struct buf *out)
{
    for (const char *at = node->text; *at != '\0';) {
        size_t plain = strcspn(at, "{");
        buf_put(out, at, plain);
        at += plain;
        if (*at == '\0')
            break;
        const char *close = strchr(at, '}');
        if (close == NULL)
            return conf_error(&grid->reader->conf, node->mark, grid->reader->error, ERR_SYNTAX,
                              "a '{' without its '}'");
        char key[65] = "";
        size_t len = (size_t)(close - at - 1);
        memcpy(key, at + 1, len < sizeof key ? len : sizeof key - 1);
        const struct axis *axis = axis_find(grid, (struct slice){at + 1, len});
        if (axis == NULL)
            return unknown_axis(grid, node->mark, key);
        const char *label = value_label(axis->now);
        if (label == NULL)
            return conf_error(&grid->reader->conf, axis->now->mark, grid->reader->error, ERR_SYNTAX,
                              "{%s} stands inside a text, so its values must be texts or numbers", axis->key);
        if (out->len + strlen(label) > LIMIT_CONF_SCALAR)
            return too_large(grid, node->mark);
        buf_puts(out, label);
        at = close + 1;
    }
    return 0;
}

/* The axis that a node as a whole stands for: "{key}", or {key} without quotes, which YAML reads as
 * a map. */
static const struct axis *axis_of_node(const struct grid *grid, const struct conf_node *node)
{
    if (node->kind == CONF_KIND_MAP && node->len == 1 && node->first->kind == CONF_KIND_NULL)
        return axis_find(grid, slice_of(node->first->key));
    size_t len = node->kind == CONF_KIND_SCALAR ? strlen(node->text) : 0;
    if (len < 3 || node->text[0] != '{' || node->text[len - 1] != '}')
        return NULL;
    return axis_find(grid, (struct slice){node->text + 1, len - 2});
}

/* Copy of node with values in place of keys, except within a value: one could stand for itself.
 * Depth is bounded by the file's. */
static int copy_node(const struct grid *grid, const struct conf_node *node, bool within_value, struct conf_node **out)
{
    struct conf *conf = &grid->reader->conf;
    const struct axis *axis = within_value ? NULL : axis_of_node(grid, node);
    const struct conf_node *like = axis == NULL ? node : axis->now;
    grid->reader->copied += sizeof *node + (like->text == NULL ? 0 : strlen(like->text));
    if (grid->reader->copied > COPIED_MAX)
        return too_large(grid, grid->node->mark);
    struct conf_node *copy = conf_node_like(conf, like);
    *out = copy;
    free((char *)copy->key);
    copy->key = node->key == NULL ? NULL : xstrdup(node->key);
    copy->key_mark = node->key_mark;
    within_value = within_value || axis != NULL;
    if (!within_value && node->kind == CONF_KIND_SCALAR && strchr(node->text, '{') != NULL) {
        struct buf text = {0};
        buf_puts(&text, "");
        int rc = replace_keys(grid, node, &text);
        grid->reader->copied += text.len;
        free((char *)copy->text);
        copy->text = text.data;
        copy->plain = true;
        return rc;
    }
    for (const struct conf_node *child = like->first; child != NULL; child = child->next) {
        struct conf_node *child_copy;
        int rc = copy_node(grid, child, within_value, &child_copy);
        if (rc < 0)
            return rc;
        conf_append(copy, child_copy);
    }
    return 0;
}

static int make_arm(struct grid *grid, const struct conf_node *name, const struct conf_node *arm,
                    struct conf_node *arms)
{
    struct conf_node *copy, *name_copy;
    int rc = copy_node(grid, arm, false, &copy);
    if (rc == 0)
        rc = copy_node(grid, name, false, &name_copy);
    if (rc < 0)
        return rc;
    copy->mark = grid->node->mark;
    conf_append(copy, name_copy);
    conf_append(arms, copy);
    return 0;
}

static int read_axes(struct grid *grid, const struct conf_node *over)
{
    struct sweep_reader *reader = grid->reader;
    size_t max = sizeof grid->axes / sizeof grid->axes[0];
    if (over->kind != CONF_KIND_MAP || over->len == 0 || over->len > max)
        return conf_error(&reader->conf, over->mark, reader->error, ERR_SYNTAX,
                          "'over' must be a map of 1 to %zu keys to lists of values", max);
    uint64_t product = 1;
    for (const struct conf_node *list = over->first; list != NULL; list = list->next) {
        bool one = list->kind == CONF_KIND_SCALAR;
        if (!one && (list->kind != CONF_KIND_LIST || list->len == 0))
            return conf_error(&reader->conf, list->mark, reader->error, ERR_SYNTAX,
                              "'%.60s' must be a list of at least one value", list->key);
        grid->axes[grid->axes_len++] = (struct axis){.key = list->key, .list = list};
        product *= one ? 1 : list->len;
        if (product > LIMIT_ARMS)
            return conf_error(&reader->conf, over->mark, reader->error, ERR_LIMIT,
                              "this grid makes more than %d arms; at most %d are allowed", LIMIT_ARMS, LIMIT_ARMS);
    }
    return 0;
}

/* Moves to the next combination, the last axis fastest; false after the last one. */
static bool next_combination(struct grid *grid)
{
    for (size_t i = grid->axes_len; i-- > 0;) {
        grid->axes[i].now = axis_next(&grid->axes[i]);
        if (grid->axes[i].now != NULL)
            return true;
        grid->axes[i].now = axis_first(&grid->axes[i]);
    }
    return false;
}

/* The first combination. */
static int grid_begin(struct sweep_reader *reader, const struct conf_node *node, struct conf_value values[GRID_KEYS],
                      struct grid *grid)
{
    const struct conf_form form = {.what = "grid", .keys = sweep_grid_keys, .values = values};
    *grid = (struct grid){.reader = reader, .node = node};
    int rc = conf_read(&reader->conf, node, &form, reader->error);
    if (rc == 0)
        rc = read_axes(grid, values[GRID_OVER].node);
    for (size_t i = 0; i < grid->axes_len; i++)
        grid->axes[i].now = axis_first(&grid->axes[i]);
    return rc;
}

static int expand(struct sweep_reader *reader, const struct conf_node *node, struct conf_node *arms)
{
    struct conf_value values[GRID_KEYS];
    struct grid grid;
    int rc = grid_begin(reader, node, values, &grid);
    if (rc < 0)
        return rc;
    const struct conf_node *arm = values[GRID_ARM].node;
    const struct conf_node *name = conf_get(arm, "name");
    if (arm->kind != CONF_KIND_MAP || name != NULL)
        return conf_error(&reader->conf, name == NULL ? arm->mark : name->key_mark, reader->error, ERR_SYNTAX,
                          "'arm' of a grid must be a map of keys, without a 'name'");
    do {
        if (arms->len >= LIMIT_ARMS)
            return conf_error(&reader->conf, node->mark, reader->error, ERR_LIMIT, "more than %d arms, grids expanded",
                              LIMIT_ARMS);
        rc = make_arm(&grid, values[GRID_NAME].node, arm, arms);
    } while (rc == 0 && next_combination(&grid));
    return rc;
}

int sweep_grids(struct sweep_reader *reader)
{
    struct conf_node *root = reader->conf.root;
    const struct conf_node *grids = conf_get(root, "grid");
    if (grids == NULL)
        return 0;
    if (grids->kind != CONF_KIND_LIST)
        return conf_error(&reader->conf, grids->mark, reader->error, ERR_SYNTAX, "'grid' must be a list of grids");
    struct conf_node *arms = NULL;
    for (struct conf_node *child = root->first; child != NULL; child = child->next)
        if (strcmp(child->key, "arms") == 0)
            arms = child;
    if (arms == NULL) {
        arms = conf_node_like(&reader->conf, grids);
        free((char *)arms->key);
        arms->key = xstrdup("arms");
        conf_append(root, arms);
    }
    if (arms->kind == CONF_KIND_NULL)
        arms->kind = CONF_KIND_LIST;
    if (arms->kind != CONF_KIND_LIST)
        return 0; /* refused where arms are read */
    int rc = 0;
    for (const struct conf_node *node = grids->first; rc == 0 && node != NULL; node = node->next)
        rc = expand(reader, node, arms);
    return rc;
}

/* -- the values behind the arms, for reports --------------------------------------------------------------------------- */

static int visit_grid(struct sweep_reader *reader, const struct conf_node *node, uint32_t number,
                      void (*visit)(void *arg, const struct grid_arm *arm), void *arg)
{
    struct conf_value values[GRID_KEYS];
    struct grid grid;
    struct buf name = {0};
    int rc = grid_begin(reader, node, values, &grid);
    while (rc == 0) {
        struct grid_arm made = {.grid = number, .len = (uint32_t)grid.axes_len};
        buf_reset(&name);
        buf_puts(&name, "");
        rc = replace_keys(&grid, values[GRID_NAME].node, &name);
        for (size_t i = 0; i < grid.axes_len; i++) {
            made.keys[i] = grid.axes[i].key;
            made.values[i] = value_label(grid.axes[i].now);
        }
        made.name = name.data;
        if (rc == 0)
            visit(arg, &made);
        if (!next_combination(&grid))
            break;
    }
    buf_clear(&name);
    return rc;
}

int sweep_grid_visit(struct slice source, void (*visit)(void *arg, const struct grid_arm *arm), void *arg)
{
    struct error error;
    struct sweep_reader reader = {.error = &error};
    uint32_t number = 0;
    int rc = conf_parse(&reader.conf, source, "sweep", &error);
    const struct conf_node *grids = rc == 0 ? conf_get(reader.conf.root, "grid") : NULL;
    if (grids != NULL && grids->kind == CONF_KIND_LIST)
        for (const struct conf_node *node = grids->first; rc == 0 && node != NULL; node = node->next)
            rc = visit_grid(&reader, node, number++, visit, arg);
    conf_clear(&reader.conf);
    return rc;
}
