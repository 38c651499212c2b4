/* sweep_arm.c - section `arms` of a sweep file; see sweep_file.h. */
#include "broker/prior.h"
#include "broker/sweep_parts.h"
#include "common/limits.h"

#include <stdlib.h>
#include <string.h>

enum {
    ARM_NAME,
    ARM_MODEL,
    ARM_MODELS,
    ARM_SCHEDULE,
    ARM_STRATEGY,
    ARM_ALLOCATE,
    ARM_STOP,
    ARM_SELECT,
    ARM_VERIFIER,
    ARM_N,
    ARM_REPORT_AT,
    ARM_ORDER,
    ARM_LOOKAHEAD,
    ARM_ROLLOUTS,
    ARM_ABSTAIN,
    ARM_TOP,
    ARM_BUDGET,
    ARM_PRIOR,
    ARM_KEYS
};

const struct conf_key sweep_arm_keys[] = {
    {.name = "name", .type = CONF_TEXT, .help = "name in reports"},
    {.name = "model",
     .type = CONF_TEXT,
     .fallback = "",
     .help = "name of a model; may be left out when there is only one"},
    {.name = "models",
     .type = CONF_NODE,
     .fallback = "",
     .help = "several of them, in place of model: a list of names, or of maps {model: NAME, n: N}"},
    {.name = "schedule",
     .type = CONF_CHOICE,
     .fallback = "rounds",
     .choices = "rounds|blocks",
     .help = "of models: n (default 1) rollouts of each, again and again; or first n of one, then of the next"},
    {.name = "strategy", .type = CONF_NODE, .fallback = "", .help = "default sample"},
    {.name = "allocate", .type = CONF_NODE, .fallback = "", .help = "default uniform"},
    {.name = "stop", .type = CONF_NODE, .fallback = "", .help = "default none"},
    {.name = "select", .type = CONF_NODE, .fallback = "", .help = "default majority"},
    {.name = "verifier", .type = CONF_TEXT, .fallback = "", .help = "name of a verifier"},
    {.name = "n",
     .type = CONF_INT,
     .min = 1,
     .max = LIMIT_N,
     .fallback = "",
     .unit = "rollouts per prompt",
     .help = "cap; required unless report_at or blocks of models tell it"},
    {.name = "report_at",
     .type = CONF_NODE,
     .fallback = "",
     .help = "ascending list of n at which the arm is evaluated; trees are grown for each"},
    {.name = "order",
     .type = CONF_CHOICE,
     .fallback = "arrival",
     .choices = "arrival|strict",
     .help = "as the sweep's"},
    {.name = "lookahead",
     .type = CONF_INT,
     .min = 1,
     .max = LIMIT_LOOKAHEAD,
     .fallback = "64",
     .unit = "rollouts",
     .help = "as the sweep's"},
    {.name = "rollouts",
     .type = CONF_CHOICE,
     .fallback = "new",
     .choices = "new|existing",
     .help = "existing: decides over those that are there already, and has none generated"},
    {.name = "abstain",
     .type = CONF_REAL,
     .min = -1e9,
     .max = 1e9,
     .fallback = "",
     .help = "answers nothing where the selector's confidence is below"},
    {.name = "top",
     .type = CONF_INT,
     .min = 1,
     .max = LIMIT_TOP,
     .fallback = "1",
     .unit = "answers",
     .help = "so many are submitted, and one of them must be right"},
    {.name = "budget", .type = CONF_NODE, .fallback = "", .help = "caps of this arm alone"},
    {.name = "prior",
     .type = CONF_NODE,
     .fallback = "",
     .help = "sweep of this state folder, or file, whose passes tell how hard each prompt is"},
    {0},
};

enum { PRIOR_FROM, PRIOR_STRENGTH, PRIOR_KEYS };

const struct conf_key sweep_prior_keys[] = {
    {.name = "from", .type = CONF_TEXT, .max = 4096, .help = "sweep, or file (with a '/' in it, or ending in .jsonl)"},
    {.name = "strength",
     .type = CONF_REAL,
     .min = 0.001,
     .max = 1,
     .fallback = "0.05",
     .unit = "rollouts",
     .help = "what one rollout of another model is worth"},
    {0},
};

static const struct conf_key n_key = {
    .name = "report_at", .type = CONF_INT, .min = 1, .max = LIMIT_N, .unit = "rollouts per prompt"};

static struct sweep_arm *arm_push(struct sweep_spec *spec, const struct sweep_arm *arm)
{
    if ((spec->arms_len & (spec->arms_len - 1)) == 0) /* full at each power of two */
        spec->arms = xrealloc(spec->arms, (spec->arms_len == 0 ? 1 : 2 * spec->arms_len) * sizeof *spec->arms);
    spec->arms[spec->arms_len] = *arm;
    if (arm->prior.from != NULL)
        spec->arms[spec->arms_len].prior.from = xstrdup(arm->prior.from);
    return &spec->arms[spec->arms_len++];
}

/* report_at: one number or an ascending list; NULL and 0 when it is not given. */
static int read_report_at(struct sweep_reader *reader, const struct conf_node *node, uint32_t **list, uint32_t *len)
{
    bool one = node != NULL && node->kind == CONF_KIND_SCALAR;
    *list = NULL;
    *len = 0;
    if (node == NULL)
        return 0;
    if (!one && (node->kind != CONF_KIND_LIST || node->len == 0))
        return conf_error(&reader->conf, node->mark, reader->error, ERR_SYNTAX,
                          "'report_at' must be a list of whole numbers");
    if (node->len > LIMIT_ARMS)
        return conf_error(&reader->conf, node->mark, reader->error, ERR_LIMIT,
                          "'report_at' has %u entries; at most %d are allowed", node->len, LIMIT_ARMS);
    uint32_t count = one ? 1 : node->len;
    const struct conf_node *item = one ? node : node->first;
    *list = xalloc(count * sizeof **list);
    for (; *len < count; (*len)++, item = item->next) {
        struct conf_value value;
        int rc = conf_read_value(&reader->conf, item, &n_key, &value, reader->error);
        if (rc < 0)
            return rc;
        if (*len > 0 && value.whole <= (*list)[*len - 1])
            return conf_error(&reader->conf, item->mark, reader->error, ERR_RANGE,
                              "'report_at' must be ascending, but %u stands before %u", (*list)[*len - 1],
                              (unsigned)value.whole);
        (*list)[*len] = (uint32_t)value.whole;
    }
    return 0;
}

/* The next n that the strategy can divide, else the last one before; 0: none. */
static uint32_t tree_n_near(const struct sweep_arm *arm)
{
    const struct strategy *strategy = arm->strategy.policy;
    for (uint32_t n = arm->n + 1; n <= LIMIT_TREE_N; n++)
        if (strategy->trees(n, arm->strategy.options) > 0)
            return n;
    for (uint32_t n = arm->n - 1; n > 0; n--)
        if (strategy->trees(n, arm->strategy.options) > 0)
            return n;
    return 0;
}

static int tree_n_error(struct sweep_reader *reader, struct conf_mark mark, const struct sweep_arm *arm)
{
    uint32_t near = tree_n_near(arm);
    if (near == 0)
        return conf_error(&reader->conf, mark, reader->error, ERR_RANGE,
                          "arm '%s': '%s' needs more than %d rollouts per prompt for what its options say; lower them",
                          arm->name, arm->strategy.policy->name, LIMIT_TREE_N);
    return conf_error(&reader->conf, mark, reader->error, ERR_RANGE,
                      "arm '%s': '%s' cannot divide n = %u as its options say; take another n, such as %u", arm->name,
                      arm->strategy.policy->name, arm->n, near);
}

static int check_tree_n(struct sweep_reader *reader, struct conf_mark mark, const struct sweep_arm *arm)
{
    const struct strategy *strategy = arm->strategy.policy;
    if (arm->n > LIMIT_TREE_N)
        return conf_error(&reader->conf, mark, reader->error, ERR_LIMIT,
                          "arm '%s': n = %u; '%s' grows trees of at most %d rollouts per prompt", arm->name, arm->n,
                          strategy->name, LIMIT_TREE_N);
    int rc = sweep_needs(reader, mark, arm);
    if (rc == 0 && strategy->trees(arm->n, arm->strategy.options) == 0)
        rc = tree_n_error(reader, mark, arm);
    return rc;
}

/* One arm per value: a tree for N = 4 is no part of a tree for N = 16. */
static int push_trees(struct sweep_reader *reader, const struct conf_value v[ARM_KEYS], const struct sweep_arm *pattern,
                      const uint32_t *list, uint32_t len)
{
    const struct conf_node *node = len > 0 ? v[ARM_REPORT_AT].node : v[ARM_N].node;
    const struct conf_node *item = node->kind == CONF_KIND_LIST ? node->first : node;
    uint32_t count = len > 0 ? len : 1;
    for (uint32_t i = 0; i < count; i++, item = item->next) {
        struct sweep_arm arm = *pattern;
        arm.n = len > 0 ? list[i] : pattern->n;
        if (v[ARM_N].given && arm.n > v[ARM_N].whole)
            return conf_error(&reader->conf, item->mark, reader->error, ERR_RANGE,
                              "arm '%s': report_at %u is more than n = %u", arm.name, arm.n, (unsigned)v[ARM_N].whole);
        int rc = check_tree_n(reader, item->mark, &arm);
        if (rc < 0)
            return rc;
        arm_push(reader->spec, &arm);
    }
    return 0;
}

/* Samples of N = 4 are the first of N = 16: one arm. Takes *list. */
static int push_samples(struct sweep_reader *reader, const struct conf_value v[ARM_KEYS], const struct conf_node *node,
                        struct sweep_arm *arm, uint32_t **list, uint32_t len)
{
    if (len > 0 && arm->n > 0 && (*list)[len - 1] > arm->n)
        return conf_error(&reader->conf, v[ARM_REPORT_AT].node->mark, reader->error, ERR_RANGE,
                          "arm '%s': report_at %u is more than n = %u", arm->name, (*list)[len - 1], arm->n);
    if (arm->n == 0)
        arm->n = (*list)[len - 1];
    int rc = sweep_legs_check(reader, node->mark, arm);
    if (rc == 0)
        rc = sweep_needs(reader, node->mark, arm);
    if (rc < 0)
        return rc;
    arm->report_at = *list;
    arm->report_at_len = len;
    *list = NULL;
    arm_push(reader->spec, arm);
    return 0;
}

static int push_arm(struct sweep_reader *reader, const struct conf_node *node, const struct conf_value v[ARM_KEYS],
                    struct sweep_arm *arm)
{
    uint32_t *list = NULL, len = 0;
    int rc = read_report_at(reader, v[ARM_REPORT_AT].node, &list, &len);
    if (rc < 0)
        goto out;
    if (arm->existing && arm->strategy.policy->trees != NULL) {
        rc = conf_error(&reader->conf, v[ARM_ROLLOUTS].node->mark, reader->error, ERR_REFUSED,
                        "arm '%s': '%s' grows trees of its own, so there are no existing rollouts for it; take sample",
                        arm->name, arm->strategy.policy->name);
        goto out;
    }
    if (v[ARM_N].given && arm->n > 0 && arm->n != v[ARM_N].whole) {
        rc = conf_error(&reader->conf, v[ARM_N].node->mark, reader->error, ERR_CONFLICT,
                        "arm '%s': n = %u, but its models have %u together; leave one of them away", arm->name,
                        (unsigned)v[ARM_N].whole, arm->n);
        goto out;
    }
    if (v[ARM_N].given)
        arm->n = (uint32_t)v[ARM_N].whole;
    if (len == 0 && arm->n == 0) {
        rc = conf_error(&reader->conf, node->mark, reader->error, ERR_NOT_FOUND, "arm '%s' needs 'n' or 'report_at'",
                        arm->name);
        goto out;
    }
    if (arm->strategy.policy->trees != NULL && arm->schedule.legs > 1)
        rc = sweep_legs_check(reader, node->mark, arm);
    else if (arm->strategy.policy->trees != NULL)
        rc = push_trees(reader, v, arm, list, len);
    else
        rc = push_samples(reader, v, node, arm, &list, len);
    if (rc == 0 && reader->spec->arms_len > LIMIT_ARMS)
        rc = conf_error(&reader->conf, node->mark, reader->error, ERR_LIMIT,
                        "more than %d arms, one counted for each report_at of a tree", LIMIT_ARMS);
out:
    free(list);
    return rc;
}

static int arm_references(struct sweep_reader *reader, const struct conf_node *node,
                          const struct conf_value v[ARM_KEYS], struct sweep_arm *arm)
{
    arm->verifier = NO_INDEX;
    int rc = sweep_name(reader, v[ARM_NAME].node, "arm", arm->name);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < reader->spec->arms_len; i++)
        if (strcmp(reader->spec->arms[i].name, arm->name) == 0 || strcmp(reader->spec->arms[i].bin.of, arm->name) == 0)
            return conf_error(&reader->conf, v[ARM_NAME].node->mark, reader->error, ERR_CONFLICT,
                              "two arms are named '%s', the other one on line %u; names must "
                              "differ",
                              arm->name, reader->spec->arms[i].line);
    arm->schedule.legs = 1;
    if (v[ARM_MODELS].given && v[ARM_MODEL].given)
        return conf_error(&reader->conf, v[ARM_MODEL].node->mark, reader->error, ERR_CONFLICT,
                          "arm '%s' has both 'model' and 'models'; leave one away", arm->name);
    if (v[ARM_SCHEDULE].given && !v[ARM_MODELS].given)
        return conf_error(&reader->conf, v[ARM_SCHEDULE].node->mark, reader->error, ERR_CONFLICT,
                          "arm '%s' has a 'schedule', but one model; name several with 'models'", arm->name);
    if (!v[ARM_MODEL].given && !v[ARM_MODELS].given && reader->spec->models_len > 1)
        return conf_error(&reader->conf, node->mark, reader->error, ERR_NOT_FOUND,
                          "arm '%s' needs 'model': there are %u models", arm->name, reader->spec->models_len);
    if (v[ARM_MODEL].given)
        rc = sweep_model_index(reader, v[ARM_MODEL].node, &arm->models[0]);
    if (rc == 0 && v[ARM_MODELS].given)
        rc = sweep_legs(reader, v[ARM_MODELS].node, v[ARM_SCHEDULE].whole == 0, arm);
    if (rc == 0 && v[ARM_VERIFIER].given)
        rc = sweep_verifier_index(reader, v[ARM_VERIFIER].node, &arm->verifier);
    return rc;
}

static bool bin_reads_prior(const struct sweep_arm *arm)
{
    return arm->bin.number > 0 && arm->bin.by == BY_PRIOR;
}

static int check_table(struct sweep_reader *reader, const struct conf_node *strategy, const struct sweep_arm *arm)
{
    if (strategy == NULL || strategy->kind != CONF_KIND_SCALAR || strcmp(strategy->text, "bins") != 0)
        return 0;
    return conf_error(&reader->conf, strategy->mark, reader->error, ERR_NOT_FOUND,
                      "arm '%s': 'bins' needs its table, like {bins: {table: [{up_to: 0.5, n: 16}, {n: 4}]}}",
                      arm->name);
}

/* What a bin may not do although an arm may. */
static int check_bin(struct sweep_reader *reader, const struct conf_node *node, const struct sweep_arm *arm)
{
    if (bin_reads_prior(arm) && arm->prior.from == NULL)
        return conf_error(&reader->conf, node->mark, reader->error, ERR_REFUSED,
                          "arm '%s': `by: prior` goes by what is known of its prompts; add `prior: SWEEP` or `prior: "
                          "FILE`",
                          arm->bin.of);
    if (arm->bin.number > 0 && arm->allocate.policy->spent)
        return conf_error(&reader->conf, node->mark, reader->error, ERR_REFUSED,
                          "arm '%s': '%s' goes by the share of the arm's budget that is spent, and a bin has none",
                          arm->name, arm->allocate.policy->name);
    return 0;
}

/* `prior: FROM`, or `prior: {from: FROM, strength: S}`. */
static int read_prior(struct sweep_reader *reader, const struct conf_node *node, struct sweep_arm *arm)
{
    struct conf_value v[PRIOR_KEYS] = {{0}};
    const struct conf_form form = {.what = "prior", .keys = sweep_prior_keys, .values = v};
    if (node == NULL)
        return 0;
    struct conf_node map = {.kind = CONF_KIND_MAP, .mark = node->mark}, from = *node;
    if (node->kind == CONF_KIND_SCALAR) {
        from.key = sweep_prior_keys[PRIOR_FROM].name;
        from.key_mark = node->mark;
        from.next = NULL;
        map.first = map.last = &from;
        map.len = 1;
        node = &map;
    }
    int rc = conf_read(&reader->conf, node, &form, reader->error);
    if (rc < 0)
        return rc;
    if (!arm->allocate.policy->prior && !arm->stop.policy->prior && !bin_reads_prior(arm))
        return conf_error(
            &reader->conf, node->mark, reader->error, ERR_REFUSED,
            "arm '%s' has a prior, but neither '%s' nor '%s' reads it; `drover help policies` tells which "
            "policies do",
            arm->name, arm->allocate.policy->name, arm->stop.policy->name);
    if (arm->verifier == NO_INDEX)
        return conf_error(&reader->conf, node->mark, reader->error, ERR_REFUSED,
                          "arm '%s' has a prior, which counts what its verifier passed; add `verifier: NAME`",
                          arm->name);
    arm->prior =
        (struct sweep_prior){xstrdup(v[PRIOR_FROM].text), prior_is_file(v[PRIOR_FROM].text), v[PRIOR_STRENGTH].number};
    return 0;
}

/* Coverage takes every rollout for an answer, and a tree's end nodes are not sampled from one law. */
static int check_answering(struct sweep_reader *reader, const struct conf_value v[ARM_KEYS],
                           const struct sweep_arm *arm)
{
    const char *key = v[ARM_TOP].given ? "top" : "abstain";
    const struct conf_node *node = v[ARM_TOP].given ? v[ARM_TOP].node : v[ARM_ABSTAIN].node;
    bool several = v[ARM_TOP].given && v[ARM_TOP].whole > 1;
    if (node == NULL)
        return 0;
    if (arm->select.policy->covers)
        return conf_error(&reader->conf, node->mark, reader->error, ERR_REFUSED,
                          "arm '%s': '%s' measures coverage, which every rollout counts for; take another selector, or "
                          "no '%s'",
                          arm->name, arm->select.policy->name, key);
    if (several && arm->strategy.policy->trees != NULL)
        return conf_error(&reader->conf, node->mark, reader->error, ERR_REFUSED,
                          "arm '%s': '%s' gives one answer; 'top' needs strategy sample", arm->name,
                          arm->strategy.policy->name);
    return 0;
}

static int check_abstain(struct sweep_reader *reader, const struct conf_value *abstain, const struct sweep_arm *arm)
{
    const char *what;
    if (!abstain->given || abstain->number <= policies_confidence_most(arm->select.policy, arm->select.options, &what))
        return 0;
    return conf_error(
        &reader->conf, abstain->node->mark, reader->error, ERR_RANGE,
        "arm '%s': 'abstain' is above every confidence that '%s' has, so it would never answer: that is %s", arm->name,
        arm->select.policy->name, what);
}

/* What reading an arm takes besides it. */
struct arms_reader {
    struct sweep_reader *reader;
    const struct sweep_arm_defaults *defaults;
};

static int read_arm(void *arg, const struct conf_node *node, const struct sweep_bin *bin)
{
    struct sweep_reader *reader = ((struct arms_reader *)arg)->reader;
    const struct sweep_arm_defaults *defaults = ((struct arms_reader *)arg)->defaults;
    struct conf_value v[ARM_KEYS] = {{0}};
    const struct conf_form form = {.what = "arm", .keys = sweep_arm_keys, .values = v};
    struct sweep_arm arm = {.line = node->mark.line};
    if (bin != NULL)
        arm.bin = *bin;
    int rc = conf_read(&reader->conf, node, &form, reader->error);
    if (rc == 0)
        rc = arm_references(reader, node, v, &arm);
    if (rc == 0)
        rc = check_table(reader, v[ARM_STRATEGY].node, &arm);
    if (rc == 0)
        rc = sweep_split_misplaced(reader, node);
    if (rc == 0)
        rc = sweep_budget(reader, v[ARM_BUDGET].node, true, &arm.budget);
    if (rc < 0)
        return rc;
    const struct sweep_policies policies = {v[ARM_STRATEGY].node, v[ARM_ALLOCATE].node, v[ARM_STOP].node,
                                            v[ARM_SELECT].node};
    rc = sweep_policies(reader, &policies, &arm);
    if (rc == 0)
        rc = check_answering(reader, v, &arm);
    if (rc == 0)
        rc = check_abstain(reader, &v[ARM_ABSTAIN], &arm);
    if (rc == 0)
        rc = read_prior(reader, v[ARM_PRIOR].node, &arm);
    if (rc == 0)
        rc = check_bin(reader, node, &arm);
    if (rc < 0) {
        free(arm.prior.from);
        return rc;
    }
    arm.strict = v[ARM_ORDER].given ? v[ARM_ORDER].whole == 1 : defaults->strict;
    arm.existing = v[ARM_ROLLOUTS].whole == 1;
    arm.answering = (struct answering){v[ARM_ABSTAIN].given, v[ARM_ABSTAIN].number, (uint32_t)v[ARM_TOP].whole};
    arm.lookahead = v[ARM_LOOKAHEAD].given ? (uint32_t)v[ARM_LOOKAHEAD].whole : defaults->lookahead;
    rc = push_arm(reader, node, v, &arm);
    free(arm.prior.from);
    return rc;
}

int sweep_arms(struct sweep_reader *reader, const struct conf_node *list, const struct sweep_arm_defaults *defaults)
{
    if (list == NULL)
        return conf_error(&reader->conf, reader->conf.root->mark, reader->error, ERR_NOT_FOUND,
                          "there are no arms; add a list `arms` or `grid`");
    if (list->kind != CONF_KIND_LIST || list->len == 0)
        return conf_error(&reader->conf, list->mark, reader->error, ERR_SYNTAX,
                          "'arms' must be a list of at least one arm");
    int rc = 0;
    struct arms_reader arms = {reader, defaults};
    for (const struct conf_node *node = list->first; rc == 0 && node != NULL; node = node->next)
        rc = sweep_bins_of(node) == NULL ? read_arm(&arms, node, NULL) : sweep_bins(reader, node, read_arm, &arms);
    return rc;
}
