/* sweep_split.c - `allocate: {solve-verify: ...}`: a budget of a prompt becomes so many solutions, and judgements of each.
 *
 * The split follows from the budget alone (policy/split.h), so it is worked out before arms and verifiers are read: the arm
 * gets its n, and a judge that is asked so often stands beside the one that was named. What runs, what is reserved and what
 * is shared is then that of any arm. */
#include "broker/policy/split.h"
#include "broker/sweep_parts.h"
#include "common/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SPLIT_BUDGET, SPLIT_LAMBDA, SPLIT_SCALE, SPLIT_POWER, SPLIT_CROSSOVER, SPLIT_KEYS };

const struct conf_key sweep_split_keys[] = {
    {.name = "budget",
     .type = CONF_NODE,
     .help = "of a prompt, in rollouts; a list makes an arm of each: NAME.8, NAME.16"},
    {.name = "lambda",
     .type = CONF_REAL,
     .min = 1e-6,
     .max = 1e6,
     .fallback = "1",
     .unit = "rollouts",
     .help = "what one judgement costs"},
    {.name = "scale",
     .type = CONF_REAL,
     .min = 0.01,
     .max = 100,
     .fallback = "1",
     .help = "of a budget C, scale C^exponent rollouts are solutions; the rest goes into judging them"},
    {.name = "exponent", .type = CONF_REAL, .min = 0, .max = 1, .fallback = "0.57", .help = "see scale"},
    {.name = "crossover",
     .type = CONF_REAL,
     .max = 1e6,
     .fallback = "8",
     .unit = "rollouts",
     .help = "budgets below it are spent on solutions alone, and a plain vote decides"},
    {0},
};

static const struct conf_key budget_key = {
    .name = "budget", .type = CONF_REAL, .min = 1, .max = LIMIT_N, .unit = "rollouts", .help = "of a prompt"};

/* One arm while it is split. */
struct splitting {
    struct sweep_reader *reader;
    const struct conf_node *arm, *options, *judge; /* judge: its node among the verifiers */
    struct conf_node *arms, *verifiers;
    struct split_law law;
    double crossover;
};

static struct conf_node *child(struct conf_node *map, const char *key)
{
    for (struct conf_node *node = map->first; node != NULL; node = node->next)
        if (strcmp(node->key, key) == 0)
            return node;
    return NULL;
}

static const struct conf_node *split_of(const struct conf_node *arm)
{
    const struct conf_node *allocate = conf_get(arm, "allocate");
    bool one = allocate != NULL && allocate->kind == CONF_KIND_MAP && allocate->len == 1;
    return one && strcmp(allocate->first->key, "solve-verify") == 0 ? allocate->first : NULL;
}

static bool is(const struct conf_node *map, const char *key, const char *text)
{
    const struct conf_node *node = conf_get(map, key);
    return node != NULL && node->kind == CONF_KIND_SCALAR && strcmp(node->text, text) == 0;
}

/* Option of the judge that says how often it is asked about one rollout; NULL: it can be asked once. A noisy verifier of
 * simulations has one; that of sweeps judges as another one does. */
static const char *votes_key(const struct conf_node *judge)
{
    if (is(judge, "kind", "noisy") && conf_get(judge, "verifier") == NULL)
        return "votes";
    bool several = conf_get(judge, "mode") == NULL || is(judge, "mode", "votes") || is(judge, "mode", "points");
    return is(judge, "kind", "judge") && several ? "k" : NULL;
}

static uint32_t votes_most(const struct conf_node *judge)
{
    return is(judge, "kind", "noisy") ? 1024 : 64;
}

/* Judgements of one verdict, and what the verdict costs, as the judge's own entry says. */
static double number_of(const struct conf_node *map, const char *key, double fallback)
{
    const struct conf_node *node = key == NULL ? NULL : conf_get(map, key);
    return node != NULL && node->kind == CONF_KIND_SCALAR ? strtod(node->text, NULL) : fallback;
}

static void put_number(struct conf *conf, const struct conf_node *like, const char *key, double value,
                       struct conf_node *to)
{
    char text[32];
    snprintf(text, sizeof text, "%.10g", value);
    sweep_node_text(conf, like, key, text, to);
}

/* The judge that is asked so often: it itself, or a copy of it, priced as often. */
static void put_judge(struct splitting *s, uint32_t votes, struct buf *name)
{
    struct conf *conf = &s->reader->conf;
    const char *key = votes_key(s->judge);
    double own = number_of(s->judge, key, 1), price = number_of(s->judge, "price", 0);
    buf_puts(name, conf_get(s->judge, "name")->text);
    if (own >= votes && own <= votes)
        return;
    buf_printf(name, "-x%u", votes);
    for (const struct conf_node *node = s->verifiers->first; node != NULL; node = node->next)
        if (is(node, "name", name->data) && node->mark.line == s->judge->mark.line &&
            node->mark.column == s->judge->mark.column)
            return; /* a copy for another budget; one of the file would be its namesake, which is refused */
    struct conf_node *copy = conf_node_like(conf, s->judge);
    for (const struct conf_node *node = s->judge->first; node != NULL; node = node->next)
        if (strcmp(node->key, "name") != 0 && strcmp(node->key, "price") != 0 && strcmp(node->key, key) != 0)
            sweep_node_take(conf, node, copy);
    sweep_node_text(conf, s->judge, "name", name->data, copy);
    put_number(conf, s->judge, key, votes, copy);
    if (price > 0)
        put_number(conf, s->judge, "price", price * votes / own, copy);
    conf_append(s->verifiers, copy);
}

/* Without judgements the whole budget is solutions. */
static struct split split_for(const struct splitting *s, double budget)
{
    struct split split = split_at(&s->law, budget);
    if (budget < s->crossover || split.votes == 0)
        split = (struct split){.solutions = (uint32_t)budget};
    return split;
}

static void put_arm(struct splitting *s, double budget, const struct split split, bool one)
{
    static const char *const own[] = {"name", "allocate", "verifier", "select", NULL};
    struct conf *conf = &s->reader->conf;
    struct conf_node *arm = conf_node_like(conf, s->arm);
    struct buf text = {0};
    buf_puts(&text, conf_get(s->arm, "name")->text);
    if (!one)
        buf_printf(&text, ".%.6g", budget);
    sweep_node_text(conf, s->arm, "name", text.data, arm);
    for (const struct conf_node *node = s->arm->first; node != NULL; node = node->next) {
        bool kept = true;
        for (int i = 0; own[i] != NULL; i++)
            kept = kept && strcmp(node->key, own[i]) != 0;
        if (kept)
            sweep_node_take(conf, node, arm);
    }
    put_number(conf, s->arm, "n", split.solutions, arm);
    if (split.votes > 0) {
        buf_reset(&text);
        put_judge(s, split.votes, &text);
        sweep_node_text(conf, s->arm, "verifier", text.data, arm);
        if (conf_get(s->arm, "select") != NULL)
            sweep_node_take(conf, conf_get(s->arm, "select"), arm);
        else
            sweep_node_text(conf, s->arm, "select", "weighted", arm);
    }
    buf_clear(&text);
    conf_append(s->arms, arm);
}

static int put_arms(struct splitting *s, const struct conf_node *budgets)
{
    struct sweep_reader *reader = s->reader;
    bool one = budgets->kind == CONF_KIND_SCALAR;
    if (!one && (budgets->kind != CONF_KIND_LIST || budgets->len == 0))
        return conf_error(&reader->conf, budgets->mark, reader->error, ERR_SYNTAX,
                          "'budget' of solve-verify must be a number of rollouts, or a list of such");
    for (const struct conf_node *node = one ? budgets : budgets->first; node != NULL; node = one ? NULL : node->next) {
        struct conf_value value;
        int rc = conf_read_value(&reader->conf, node, &budget_key, &value, reader->error);
        if (rc < 0)
            return rc;
        const struct split split = split_for(s, value.number);
        if (split.votes > votes_most(s->judge))
            return conf_error(
                &reader->conf, node->mark, reader->error, ERR_RANGE,
                "a budget of %g has '%.64s' judge each of %u solutions %u times, and it can %u times: raise "
                "'lambda' or 'scale', or lower the budget",
                value.number, conf_get(s->judge, "name")->text, split.solutions, split.votes, votes_most(s->judge));
        if (s->arms->len >= LIMIT_ARMS)
            return conf_error(&reader->conf, node->mark, reader->error, ERR_LIMIT,
                              "more than %d arms, one counted for each budget", LIMIT_ARMS);
        put_arm(s, value.number, split, one);
    }
    return 0;
}

static int find_judge(struct splitting *s)
{
    struct sweep_reader *reader = s->reader;
    const struct conf_node *verifier = conf_get(s->arm, "verifier");
    if (verifier == NULL || verifier->kind != CONF_KIND_SCALAR)
        return conf_error(&reader->conf, s->arm->mark, reader->error, ERR_NOT_FOUND,
                          "'solve-verify' needs a judge; add `verifier: NAME`");
    for (struct conf_node *node = s->verifiers == NULL ? NULL : s->verifiers->first; node != NULL; node = node->next)
        if (is(node, "name", verifier->text))
            s->judge = node;
    if (s->judge == NULL)
        return conf_error(&reader->conf, verifier->mark, reader->error, ERR_NOT_FOUND,
                          "'solve-verify' makes its judge of an entry in this file's 'verifiers', and none is named "
                          "'%.64s'",
                          verifier->text);
    if (votes_key(s->judge) == NULL)
        return conf_error(
            &reader->conf, verifier->mark, reader->error, ERR_REFUSED,
            "'solve-verify' asks its verifier several times about a rollout, which '%.64s' cannot be: name "
            "one of kind judge, with mode votes or points",
            verifier->text);
    return 0;
}

int sweep_split_misplaced(struct sweep_reader *reader, const struct conf_node *arm)
{
    const struct conf_node *allocate = conf_get(arm, "allocate"), *options = split_of(arm);
    if (options == NULL && !is(arm, "allocate", "solve-verify"))
        return 0;
    return conf_error(
        &reader->conf, allocate->mark, reader->error, ERR_REFUSED,
        "'solve-verify' makes arms of an arm by its 'budget', so it is written like {solve-verify: {budget: "
        "[8, 16]}}, and not in a bin");
}

static int split_arm(struct splitting *s)
{
    static const char *const no_keys[] = {"n", "report_at", "models", NULL};
    struct sweep_reader *reader = s->reader;
    struct conf_value v[SPLIT_KEYS] = {{0}};
    const struct conf_form form = {.what = "policy 'solve-verify'", .keys = sweep_split_keys, .values = v};
    const struct conf_node *name = conf_get(s->arm, "name");
    int rc = conf_read(&reader->conf, s->options, &form, reader->error);
    if (rc == 0 && (name == NULL || name->kind != CONF_KIND_SCALAR))
        rc = conf_error(&reader->conf, s->arm->mark, reader->error, ERR_NOT_FOUND,
                        "the arm needs 'name': name in reports");
    for (int i = 0; rc == 0 && no_keys[i] != NULL; i++)
        if (conf_get(s->arm, no_keys[i]) != NULL)
            rc = conf_error(&reader->conf, conf_get(s->arm, no_keys[i])->key_mark, reader->error, ERR_CONFLICT,
                            "'solve-verify' finds n from its budget, for one model: leave '%s' out", no_keys[i]);
    if (rc == 0)
        rc = find_judge(s);
    if (rc < 0)
        return rc;
    s->law = (struct split_law){v[SPLIT_SCALE].number, v[SPLIT_POWER].number, v[SPLIT_LAMBDA].number};
    s->crossover = v[SPLIT_CROSSOVER].number;
    return put_arms(s, v[SPLIT_BUDGET].node);
}

int sweep_splits(struct sweep_reader *reader)
{
    struct conf_node *arms = reader->conf.root->kind == CONF_KIND_MAP ? child(reader->conf.root, "arms") : NULL;
    if (arms == NULL || arms->kind != CONF_KIND_LIST)
        return 0;
    struct conf_node *node = arms->first, *next;
    arms->first = arms->last = NULL;
    arms->len = 0;
    int rc = 0;
    for (; rc == 0 && node != NULL; node = next) {
        struct splitting s = {.reader = reader, .arm = node, .options = split_of(node), .arms = arms};
        next = node->next;
        node->next = NULL;
        s.verifiers = child(reader->conf.root, "verifiers");
        if (s.options == NULL && is(node, "allocate", "solve-verify"))
            rc = conf_error(&reader->conf, conf_get(node, "allocate")->mark, reader->error, ERR_SYNTAX,
                            "'solve-verify' needs its budget, like {solve-verify: {budget: [8, 16]}}");
        else if (s.options == NULL)
            conf_append(arms, node);
        else
            rc = split_arm(&s);
    }
    return rc;
}
