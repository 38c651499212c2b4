/* sweep_policy.c - the policies of an arm: a name, or a map of one name to its options; see
 * sweep_file.h. */
#include "broker/sweep_parts.h"
#include "common/limits.h"

#include <assert.h>
#include <string.h>

#define POLICIES_MAX 64

/* What the four kinds of policies have in common. */
struct row {
    const char *name;
    const struct option_row *options;
    uint32_t needs, min_n;
    const void *policy;
};

/* One table of policies as rows, and the key that chooses from it. */
struct menu {
    const char *key, *fallback;
    struct row rows[POLICIES_MAX];
    size_t len;
};

static void menu_add(struct menu *menu, struct row row)
{
    assert(menu->len < POLICIES_MAX);
    menu->rows[menu->len++] = row;
}

static void menu_strategies(struct menu *menu)
{
    *menu = (struct menu){.key = "strategy", .fallback = "sample"};
    for (const struct strategy *const *p = strategies; *p != NULL; p++)
        menu_add(menu, (struct row){(*p)->name, (*p)->options, (*p)->needs, (*p)->min_n, *p});
}

static void menu_allocators(struct menu *menu)
{
    *menu = (struct menu){.key = "allocate", .fallback = "uniform"};
    for (const struct allocator *const *p = allocators; *p != NULL; p++)
        menu_add(menu, (struct row){(*p)->name, (*p)->options, (*p)->needs, (*p)->min_n, *p});
}

static void menu_stoppers(struct menu *menu)
{
    *menu = (struct menu){.key = "stop", .fallback = "none"};
    for (const struct stopper *const *p = stoppers; *p != NULL; p++)
        menu_add(menu, (struct row){(*p)->name, (*p)->options, (*p)->needs, (*p)->min_n, *p});
}

static void menu_selectors(struct menu *menu)
{
    *menu = (struct menu){.key = "select", .fallback = "majority"};
    for (const struct selector *const *p = selectors; *p != NULL; p++)
        menu_add(menu, (struct row){(*p)->name, (*p)->options, (*p)->needs, (*p)->min_n, *p});
}

static const struct row *menu_find(const struct menu *menu, const char *name, struct conf_near *near)
{
    conf_near_init(near, name);
    for (size_t i = 0; i < menu->len; i++) {
        if (strcmp(menu->rows[i].name, name) == 0)
            return &menu->rows[i];
        conf_near_try(near, menu->rows[i].name);
    }
    return NULL;
}

static int read_options(struct sweep_reader *reader, const struct row *row, const struct conf_node *map,
                        double values[POLICY_OPTIONS_MAX])
{
    struct conf_value read[POLICY_OPTIONS_MAX] = {{0}};
    struct buf what = {0};
    buf_printf(&what, "policy '%s'", row->name);
    const struct conf_form form = {.what = what.data, .options = row->options, .option_values = read};
    size_t len = 0;
    while (row->options != NULL && row->options[len].name != NULL)
        len++;
    assert(len <= POLICY_OPTIONS_MAX);
    int rc = conf_read(&reader->conf, map, &form, reader->error);
    for (size_t i = 0; i < len; i++)
        values[i] = read[i].number;
    buf_clear(&what);
    return rc;
}

/* node: `beta`, or `{beta: {threshold: 0.9}}`, or NULL. */
static int choose(struct sweep_reader *reader, const struct menu *menu, const struct conf_node *node,
                  const void **policy, double values[POLICY_OPTIONS_MAX])
{
    const char *name = menu->fallback;
    const struct conf_node *options = NULL;
    struct conf_mark mark = reader->conf.root->mark;
    if (node != NULL && node->kind == CONF_KIND_SCALAR) {
        name = node->text;
        mark = node->mark;
    } else if (node != NULL && node->kind == CONF_KIND_MAP && node->len == 1) {
        options = node->first;
        name = options->key;
        mark = options->key_mark;
    } else if (node != NULL) {
        return conf_error(&reader->conf, node->mark, reader->error, ERR_SYNTAX,
                          "'%s' must be a name, or one name with its options like {%s: {...}}", menu->key,
                          menu->fallback);
    }
    struct conf_near near;
    const struct row *row = menu_find(menu, name, &near);
    if (row == NULL)
        return conf_error(&reader->conf, mark, reader->error, ERR_NOT_FOUND, "'%s' cannot be '%.60s'%s", menu->key,
                          name, conf_near_text(&near));
    *policy = row->policy;
    return read_options(reader, row, options, values);
}

int sweep_policies(struct sweep_reader *reader, const struct sweep_policies *written, struct sweep_arm *arm)
{
    struct menu menu;
    const void *policy = NULL;
    menu_strategies(&menu);
    int rc = choose(reader, &menu, written->strategy, &policy, arm->strategy.options);
    arm->strategy.policy = policy;
    if (rc == 0) {
        menu_allocators(&menu);
        rc = choose(reader, &menu, written->allocate, &policy, arm->allocate.options);
        arm->allocate.policy = policy;
    }
    if (rc == 0) {
        menu_stoppers(&menu);
        rc = choose(reader, &menu, written->stop, &policy, arm->stop.options);
        arm->stop.policy = policy;
    }
    if (rc == 0) {
        menu_selectors(&menu);
        rc = choose(reader, &menu, written->select, &policy, arm->select.options);
        arm->select.policy = policy;
    }
    return rc;
}

struct kill_rule sweep_arm_kill(const struct sweep_arm *arm)
{
    const struct stopper *stopper = arm->stop.policy;
    struct kill_rule rule = {0};
    if (arm->strategy.policy->trees == NULL && arm->schedule.legs == 1 && stopper->kill != NULL)
        rule = stopper->kill(arm->stop.options);
    return rule.window > 0 ? rule : (struct kill_rule){0};
}

/* Strategies that make a model think on, or show it what it wrote before. */
static int check_loops(struct sweep_reader *reader, struct conf_mark mark, const struct sweep_arm *arm,
                       const struct row *row)
{
    const struct sweep_model *model = &reader->spec->models[arm->models[0]];
    unsigned has = backend_has(model->backend);
    if ((row->needs & NEED_THINKS) != 0 && (has & BACKEND_THINKS) == 0)
        return conf_error(&reader->conf, mark, reader->error, ERR_REFUSED,
                          "arm '%s': '%s' makes a model think on, which backend '%s' of model '%s' cannot do",
                          arm->name, row->name, model->backend, model->name);
    if ((row->needs & NEED_THINKS) != 0 && !model->thinks)
        return conf_error(&reader->conf, mark, reader->error, ERR_REFUSED,
                          "arm '%s': '%s' must know how model '%s' ends its thinking; add its key `think_end`, such as "
                          "\"</think>\"",
                          arm->name, row->name, model->name);
    if ((row->needs & NEED_TURNS) != 0 && (has & BACKEND_TURNS) == 0)
        return conf_error(
            &reader->conf, mark, reader->error, ERR_REFUSED,
            "arm '%s': '%s' shows a model its earlier attempts, which backend '%s' of model '%s' cannot do", arm->name,
            row->name, model->backend, model->name);
    return 0;
}

/* Features are not looked at here: whether a server gives log-probabilities is known where workers are, see
 * broker/core/offer.c. */
static int check_needs(struct sweep_reader *reader, struct conf_mark mark, const struct sweep_arm *arm,
                       const struct row *row)
{
    const struct sweep_model *model = &reader->spec->models[arm->models[0]]; /* its other legs find answers alike */
    if ((row->needs & (NEED_LEGS | NEED_BLOCKS)) != 0 && arm->schedule.legs == 1)
        return conf_error(&reader->conf, mark, reader->error, ERR_REFUSED,
                          "arm '%s': '%s' is for arms that draw from several models; add `models: [...]`", arm->name,
                          row->name);
    if ((row->needs & NEED_BLOCKS) != 0 && arm->schedule.rounds)
        return conf_error(&reader->conf, mark, reader->error, ERR_REFUSED,
                          "arm '%s': '%s' decides between one model and the next; add `schedule: blocks`", arm->name,
                          row->name);
    if ((row->needs & NEED_VERIFIER) != 0 && arm->verifier == NO_INDEX)
        return conf_error(&reader->conf, mark, reader->error, ERR_REFUSED,
                          "arm '%s': '%s' needs a verifier; add `verifier: NAME`", arm->name, row->name);
    if ((row->needs & NEED_ANSWER) != 0 && !model->has_answer)
        return conf_error(&reader->conf, mark, reader->error, ERR_REFUSED,
                          "arm '%s': '%s' needs answers, but model '%s' says `answer: none`", arm->name, row->name,
                          model->name);
    if ((row->needs & NEED_STEPS) != 0 && (backend_has(model->backend) & BACKEND_STEPS) == 0)
        return conf_error(&reader->conf, mark, reader->error, ERR_REFUSED,
                          "arm '%s': '%s' goes step by step, which backend '%s' of model '%s' "
                          "cannot do; take tinylm, synthetic, exec or openai",
                          arm->name, row->name, model->backend, model->name);
    int rc = check_loops(reader, mark, arm, row);
    if (rc != 0)
        return rc;
    if ((row->needs & NEED_PRIOR) != 0 && arm->prior.from == NULL)
        return conf_error(&reader->conf, mark, reader->error, ERR_REFUSED,
                          "arm '%s': '%s' goes by what is known of its prompts; add `prior: SWEEP` or `prior: FILE`",
                          arm->name, row->name);
    const struct budget *caps = &arm->budget;
    if ((row->needs & NEED_BUDGET) != 0 && caps->rollouts + caps->tokens + caps->slot_ms + caps->cost_micro == 0)
        return conf_error(&reader->conf, mark, reader->error, ERR_REFUSED,
                          "arm '%s': '%s' with `adapt` makes the arm's own budget last for all prompts, and it has "
                          "none; add `budget: {rollouts: COUNT}` to the arm",
                          arm->name, row->name);
    if (arm->n < row->min_n)
        return conf_error(&reader->conf, mark, reader->error, ERR_RANGE,
                          "arm '%s': '%s' needs an n of at least %u, not %u", arm->name, row->name, row->min_n, arm->n);
    return 0;
}

/* Thinking that is longer than a rollout of the model may be. */
static int check_most(struct sweep_reader *reader, struct conf_mark mark, const struct sweep_arm *arm)
{
    const struct strategy *strategy = arm->strategy.policy;
    const struct sweep_model *model = &reader->spec->models[arm->models[0]];
    uint32_t most = strategy->most == NULL ? 0 : strategy->most(arm->strategy.options);
    if (most <= model->max_tokens)
        return 0;
    return conf_error(&reader->conf, mark, reader->error, ERR_RANGE,
                      "arm '%s': '%s' asks for %u tokens at once, but the max_tokens of model '%s' is %u; raise that",
                      arm->name, strategy->name, most, model->name, model->max_tokens);
}

/* A verifier of groups is asked when all n rollouts of a prompt are there, so nothing may stop before, and the groups of
 * arms that share its verdicts must be the same. */
static int check_group(struct sweep_reader *reader, struct conf_mark mark, const struct sweep_arm *arm)
{
    const struct sweep_spec *spec = reader->spec;
    if (arm->verifier == NO_INDEX || !spec->verifiers[arm->verifier].group)
        return 0;
    const char *verifier = spec->verifiers[arm->verifier].name;
    const struct budget *caps = &arm->budget;
    bool waits = arm->strategy.policy == &strategy_sample && arm->stop.policy == &stop_none && !arm->strict &&
                 (arm->allocate.policy == &allocate_uniform || arm->allocate.policy->existing) &&
                 caps->rollouts + caps->tokens + caps->slot_ms + caps->cost_micro == 0;
    if (arm->schedule.legs > 1)
        return conf_error(&reader->conf, mark, reader->error, ERR_REFUSED,
                          "arm '%s': verifier '%s' compares the rollouts of a prompt with each other, which it can do "
                          "for one model only",
                          arm->name, verifier);
    if (!waits)
        return conf_error(&reader->conf, mark, reader->error, ERR_REFUSED,
                          "arm '%s': verifier '%s' compares all n rollouts of a prompt, so the arm must sample, with "
                          "allocate uniform, stop none, order arrival, and no budget of its own",
                          arm->name, verifier);
    if (arm->n > LIMIT_GROUP)
        return conf_error(&reader->conf, mark, reader->error, ERR_RANGE,
                          "arm '%s': verifier '%s' compares at most %d rollouts, not %u", arm->name, verifier,
                          LIMIT_GROUP, arm->n);
    for (uint32_t i = 0; i < spec->arms_len; i++)
        if (spec->arms[i].verifier == arm->verifier && spec->arms[i].models[0] == arm->models[0] &&
            spec->arms[i].n != arm->n)
            return conf_error(
                &reader->conf, mark, reader->error, ERR_REFUSED,
                "arms '%s' and '%s' share the verdicts of '%s', which compares all n rollouts of a prompt: "
                "give both the same n, or one of them a verifier of another name",
                spec->arms[i].name, arm->name, verifier);
    return 0;
}

/* Over known pools (which have no backend here) nothing is generated. */
static int check_kill(struct sweep_reader *reader, struct conf_mark mark, const struct sweep_arm *arm)
{
    const struct sweep_model *model = &reader->spec->models[arm->models[0]];
    const struct stopper *stopper = arm->stop.policy;
    if (arm->schedule.legs > 1 && stopper->kill != NULL && stopper->kill(arm->stop.options).window > 0)
        return conf_error(
            &reader->conf, mark, reader->error, ERR_REFUSED,
            "arm '%s': '%s' with `kill` compares the confidences of one model's rollouts: take one model, or "
            "leave out `kill`",
            arm->name, stopper->name);
    if (sweep_arm_kill(arm).window == 0 || model->watched || model->backend[0] == '\0')
        return 0;
    if ((backend_has(model->backend) & BACKEND_KILLS) != 0)
        return conf_error(&reader->conf, mark, reader->error, ERR_REFUSED,
                          "arm '%s': '%s' with `kill` watches rollouts while they are generated: model '%s' needs the "
                          "option `logprobs` of at least 1 (20 is usual), and no `stream: never`",
                          arm->name, stopper->name, model->name);
    return conf_error(&reader->conf, mark, reader->error, ERR_REFUSED,
                      "arm '%s': '%s' with `kill` ends rollouts while they are generated, which backend '%s' of model "
                      "'%s' cannot do; take tinylm or openai, or leave out `kill`",
                      arm->name, stopper->name, model->backend, model->name);
}

int sweep_needs(struct sweep_reader *reader, struct conf_mark mark, const struct sweep_arm *arm)
{
    const struct strategy *s = arm->strategy.policy;
    const struct allocator *a = arm->allocate.policy;
    const struct stopper *p = arm->stop.policy;
    const struct selector *c = arm->select.policy;
    uint32_t stop_needs = p->needs | (p->needs_by == NULL ? 0 : p->needs_by(arm->stop.options));
    const struct row rows[] = {
        {s->name, s->options, s->needs | (s->needs_by == NULL ? 0 : s->needs_by(arm->strategy.options)), s->min_n, s},
        {a->name, a->options, a->needs | (a->needs_by == NULL ? 0 : a->needs_by(arm->allocate.options)), a->min_n, a},
        {p->name, p->options, stop_needs, p->min_n, p},
        {c->name, c->options, c->needs, c->min_n, c},
    };
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof rows / sizeof rows[0]; i++)
        rc = check_needs(reader, mark, arm, &rows[i]);
    if (rc == 0)
        rc = check_most(reader, mark, arm);
    if (rc == 0)
        rc = check_kill(reader, mark, arm);
    return rc == 0 ? check_group(reader, mark, arm) : rc;
}
