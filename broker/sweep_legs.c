/* sweep_legs.c - key `models` of an arm: the models that it draws from, and in which order. */
#include "broker/sweep_parts.h"
#include "common/limits.h"

#include <string.h>

enum { LEG_MODEL, LEG_N, LEG_KEYS };

static const struct conf_key leg_keys[] = {
    {.name = "model", .type = CONF_TEXT, .help = "name of a model"},
    {.name = "n",
     .type = CONF_INT,
     .min = 1,
     .max = LIMIT_N,
     .fallback = "",
     .unit = "rollouts per prompt",
     .help = "in its block, or in each round"},
    {0},
};

/* `small`, or `{model: small, n: 4}`. *n: 0 when it is not given. */
static int read_leg(struct sweep_reader *reader, const struct conf_node *node, uint32_t *model, uint32_t *n)
{
    struct conf_value v[LEG_KEYS] = {{0}};
    const struct conf_form form = {.what = "models", .keys = leg_keys, .values = v};
    *n = 0;
    if (node->kind == CONF_KIND_SCALAR)
        return sweep_model_index(reader, node, model);
    int rc = conf_read(&reader->conf, node, &form, reader->error);
    if (rc < 0)
        return rc;
    *n = v[LEG_N].given ? (uint32_t)v[LEG_N].whole : 0;
    return sweep_model_index(reader, v[LEG_MODEL].node, model);
}

/* One model at two temperatures says nearly the same from the same random numbers: no second opinion. */
static int check_apart(struct sweep_reader *reader, const struct conf_node *node, const struct sweep_arm *arm,
                       const struct sweep_model *a, const struct sweep_model *b)
{
    if (a == b)
        return conf_error(&reader->conf, node->mark, reader->error, ERR_CONFLICT,
                          "arm '%s' names model '%s' twice; give it one place, with a larger n", arm->name, a->name);
    bool alike = a->origin != NULL && b->origin != NULL && strcmp(a->origin, b->origin) == 0;
    if (!alike || a->seed != b->seed || a->greedy || b->greedy)
        return 0;
    return conf_error(&reader->conf, node->mark, reader->error, ERR_CONFLICT,
                      "arm '%s': models '%s' and '%s' differ in sampling only and would draw with the same random "
                      "numbers; give one of them another `seed`",
                      arm->name, a->name, b->name);
}

/* Votes count equal answers, so they must have been found alike. */
static int check_alike(struct sweep_reader *reader, const struct conf_node *node, const struct sweep_arm *arm,
                       uint32_t leg)
{
    const struct sweep_model *models = reader->spec->models;
    const struct sweep_model *first = &models[arm->models[0]], *this = &models[arm->models[leg]];
    int rc = 0;
    for (uint32_t i = 0; i < leg && rc == 0; i++)
        rc = check_apart(reader, node, arm, &models[arm->models[i]], this);
    if (rc < 0)
        return rc;
    if (strcmp(first->answer, this->answer) == 0)
        return 0;
    return conf_error(&reader->conf, node->mark, reader->error, ERR_CONFLICT,
                      "arm '%s': models '%s' and '%s' find their answers in other ways, so equal ones would not meet; "
                      "give both the same `answer`, such as final",
                      arm->name, first->name, this->name);
}

/* Lengths of blocks or rounds. n of the last block may stand there, or with the arm. */
static int take_len(struct sweep_reader *reader, const struct conf_node *node, struct sweep_arm *arm, uint32_t leg,
                    uint32_t n)
{
    struct schedule *schedule = &arm->schedule;
    bool last = leg + 1 == schedule->legs;
    if (schedule->rounds)
        schedule->len[leg] = n > 0 ? n : 1;
    else if (!last && n == 0)
        return conf_error(&reader->conf, node->mark, reader->error, ERR_NOT_FOUND,
                          "arm '%s': in blocks each model but the last needs its n, as in {model: %s, n: 4}", arm->name,
                          reader->spec->models[arm->models[leg]].name);
    else if (!last)
        schedule->len[leg] = n;
    if (!schedule->rounds)
        arm->n += n;
    if (last && n == 0)
        arm->n = 0;
    return 0;
}

int sweep_legs(struct sweep_reader *reader, const struct conf_node *list, bool rounds, struct sweep_arm *arm)
{
    if (list->kind != CONF_KIND_LIST || list->len < 2 || list->len > LIMIT_LEGS)
        return conf_error(&reader->conf, list->mark, reader->error, ERR_SYNTAX,
                          "arm '%s': 'models' must be a list of 2 to %d models; one alone is a `model`", arm->name,
                          LIMIT_LEGS);
    arm->schedule = (struct schedule){.rounds = rounds, .legs = list->len};
    arm->n = 0;
    uint32_t leg = 0, n;
    int rc = 0;
    for (const struct conf_node *node = list->first; rc == 0 && node != NULL; node = node->next, leg++) {
        rc = read_leg(reader, node, &arm->models[leg], &n);
        if (rc == 0)
            rc = check_alike(reader, node, arm, leg);
        if (rc == 0)
            rc = take_len(reader, node, arm, leg, n);
    }
    return rc;
}

int sweep_legs_check(struct sweep_reader *reader, struct conf_mark mark, const struct sweep_arm *arm)
{
    if (arm->schedule.legs > 1 && arm->strategy.policy->trees != NULL)
        return conf_error(&reader->conf, mark, reader->error, ERR_REFUSED,
                          "arm '%s': '%s' grows trees with one model; name it with `model`, or take sample", arm->name,
                          arm->strategy.policy->name);
    if (schedule_valid(&arm->schedule, arm->n))
        return 0;
    return conf_error(&reader->conf, mark, reader->error, ERR_RANGE,
                      "arm '%s': n = %u ends before every model had its turn; raise it, or lower the n of its models",
                      arm->name, arm->n);
}

uint32_t sweep_arm_leg(const struct sweep_arm *arm, uint32_t model)
{
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++)
        if (arm->models[leg] == model)
            return leg;
    return UINT32_MAX;
}
