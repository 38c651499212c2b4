/* dry_run.c - what a sweep may cost at most, and what is there already. Nothing is started or written. */
#include "broker/compile.h"
#include "broker/core/text_table.h"
#include "broker/policy/kill.h"
#include "broker/server.h"
#include "cli/cli.h"
#include "common/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct estimate {
    uint64_t rollouts, tokens; /* at most */
    double money;              /* at most, in millionths of the price unit */
    uint64_t there;            /* rollouts that an earlier run decided for this arm */
    bool there_known;          /* false: what a broker has is not asked */
};

/* The caps of an arm, or of the sweep, bound what it takes. */
static struct estimate within_budget(const struct budget *budget, struct estimate e)
{
    if (budget->rollouts > 0 && budget->rollouts < e.rollouts) {
        e.tokens = e.tokens / e.rollouts * budget->rollouts;
        e.money = e.money / (double)e.rollouts * (double)budget->rollouts;
        e.rollouts = budget->rollouts;
    }
    if (budget->tokens > 0 && budget->tokens < e.tokens)
        e.tokens = budget->tokens;
    if (budget->cost_micro > 0)
        e.money = fmin(e.money, (double)budget->cost_micro);
    return e;
}

static void add(struct estimate *sum, struct estimate e)
{
    sum->rollouts += e.rollouts;
    sum->tokens += e.tokens;
    sum->money += e.money;
}

/* Tokens that one rollout may generate. A tree's cost depends on its depth: unless its strategy knows, one step is said. */
static uint64_t generated(const struct sweep_arm *arm, const struct sweep_model *model)
{
    const struct strategy *strategy = arm->strategy.policy;
    return strategy->extremes == NULL ? model->max_tokens
                                      : strategy->extremes(arm->strategy.options, model->max_tokens).tokens;
}

static struct estimate leg_estimate(const struct sweep_spec *spec, const struct sweep_arm *arm, uint32_t leg,
                                    const struct prompt_set *set)
{
    const struct sweep_model *model = &spec->models[arm->models[leg]];
    uint64_t n = schedule_reach(&arm->schedule, leg, arm->n);
    struct estimate e = {.rollouts = n * set->len};
    for (uint32_t p = 0; p < set->len; p++) {
        uint64_t in = n * (set->prompts[p].bytes + model->template_tokens), out = n * generated(arm, model);
        e.tokens += in + out;
        e.money += ((double)in * (double)model->price_in_micro + (double)out * (double)model->price_out_micro) / 1e6;
    }
    return e;
}

/* Of a verdict of the arm's verifier, and one of the truth. */
static double price_of_verdicts(const struct sweep_spec *spec, uint32_t verifier)
{
    double price = verifier == UINT32_MAX ? 0 : (double)spec->verifiers[verifier].price_micro;
    return spec->truth == UINT32_MAX || spec->truth == verifier
               ? price
               : price + (double)spec->verifiers[spec->truth].price_micro;
}

static struct estimate arm_estimate(const struct sweep_spec *spec, const struct sweep_arm *arm,
                                    const struct prompt_set *set)
{
    struct estimate e = {0};
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++)
        add(&e, leg_estimate(spec, arm, leg, set));
    e.money += (double)e.rollouts * price_of_verdicts(spec, arm->verifier);
    return within_budget(&arm->budget, e);
}

static uint64_t delivered_already(const struct core *core, const char *sweep, const struct sweep_arm *arm)
{
    uint32_t id = core == NULL ? NO_ID : core_sweep_find(core, slice_of(sweep));
    uint64_t there = 0;
    for (uint32_t i = 0; id != NO_ID && i < core_sweep(core, id).arms; i++) {
        struct arm_info info = core_arm(core, core_sweep_arm(core, id, i));
        if (strcmp(info.name, arm->name) != 0 || (info.trees > 0 && info.n != arm->n))
            continue;
        for (uint32_t p = 0; p < info.prompts; p++)
            there += core_cell(core, info.id, p).delivered;
    }
    return there;
}

static bool priced(const struct sweep_spec *spec)
{
    uint64_t prices = 0;
    for (uint32_t m = 0; m < spec->models_len; m++)
        prices |= spec->models[m].price_in_micro | spec->models[m].price_out_micro;
    for (uint32_t v = 0; v < spec->verifiers_len; v++)
        prices |= spec->verifiers[v].price_micro;
    return prices > 0;
}

static void row_text(struct text_table *table, const char *name, const char *n, const struct estimate *e, bool costs)
{
    text_cell(table, name);
    text_cell(table, n);
    text_cellf(table, "%llu", (unsigned long long)e->rollouts);
    text_cellf(table, "%llu", (unsigned long long)e->tokens);
    if (costs)
        text_cellf(table, "%.6g", e->money / 1e6);
    text_cellf(table, e->there_known ? "%llu" : "-", (unsigned long long)e->there);
}

static void put_u64(struct buf *json, const char *key, uint64_t value)
{
    json_key(json, key);
    json_u64(json, value);
}

static void put_estimate(struct buf *json, const struct estimate *e)
{
    put_u64(json, "rollouts_max", e->rollouts);
    put_u64(json, "tokens_max", e->tokens);
    json_key(json, "cost_max");
    json_f64(json, e->money / 1e6);
}

static void put_arm(struct buf *json, const struct sweep_arm *arm, const struct estimate *e)
{
    json_begin(json, '{');
    json_key(json, "arm");
    json_str(json, arm->name);
    put_u64(json, "n", arm->n);
    put_estimate(json, e);
    json_key(json, "rollouts_there");
    if (e->there_known)
        json_u64(json, e->there);
    else
        json_none(json);
    json_end(json, '}');
}

/* Both draw from one pool of this model; a tree arm has rollouts of its own. */
static bool together(const struct sweep_arm *a, const struct sweep_arm *b, uint32_t model)
{
    const struct kill_rule rules[2] = {sweep_arm_kill(a), sweep_arm_kill(b)};
    return a->strategy.policy->trees == NULL && b->strategy.policy->trees == NULL && sweep_arm_leg(a, model) != NO_ID &&
           sweep_arm_leg(b, model) != NO_ID && kill_same(&rules[0], &rules[1]);
}

static struct estimate more_of(struct estimate a, struct estimate b)
{
    return a.rollouts > b.rollouts ? a : b;
}

/* Of a model: what arm `first` and the later ones that share its pool buy. An arm that takes all n of every prompt draws
 * what one with a smaller n draws; one with a budget may draw it all behind that. */
static struct estimate pool_estimate(const struct sweep_spec *spec, uint32_t first, uint32_t model,
                                     const struct prompt_set *set)
{
    struct estimate most = {0}, even = {0}, moved = {0};
    for (uint32_t i = first; i < spec->arms_len; i++) {
        const struct sweep_arm *arm = &spec->arms[i];
        if (i > first && !together(&spec->arms[first], arm, model))
            continue;
        struct estimate all = leg_estimate(spec, arm, sweep_arm_leg(arm, model), set),
                        e = within_budget(&arm->budget, all);
        most = more_of(most, all);
        if (e.rollouts == all.rollouts)
            even = more_of(even, all);
        else
            add(&moved, e);
    }
    add(&moved, even);
    return moved.rollouts < most.rollouts ? moved : most;
}

/* Every rollout has at most one verdict of each verifier. */
static double verdicts_money(const struct sweep_spec *spec, const struct prompt_set *set, uint64_t rollouts)
{
    double money = 0;
    for (uint32_t v = 0; v < spec->verifiers_len; v++) {
        uint64_t judged = v == spec->truth ? rollouts : 0;
        for (uint32_t i = 0; i < spec->arms_len; i++)
            if (spec->arms[i].verifier == v)
                judged += arm_estimate(spec, &spec->arms[i], set).rollouts;
        money += (double)(judged < rollouts ? judged : rollouts) * (double)spec->verifiers[v].price_micro;
    }
    return money;
}

/* Arms that sample one model share its rollouts, unless they end others of them early. */
static struct estimate sweep_estimate(const struct sweep_spec *spec, const struct prompt_set *set)
{
    struct estimate total = {0};
    for (uint32_t m = 0; m < spec->models_len; m++) {
        for (uint32_t i = 0; i < spec->arms_len; i++) {
            bool counted = sweep_arm_leg(&spec->arms[i], m) == NO_ID;
            for (uint32_t k = 0; k < i && !counted; k++)
                counted = together(&spec->arms[k], &spec->arms[i], m);
            if (!counted)
                add(&total, pool_estimate(spec, i, m, set));
        }
    }
    total.money += verdicts_money(spec, set, total.rollouts);
    return total;
}

static int open_state(const char *state, struct core **core, struct error *error)
{
    struct journal *journal;
    char path[1100];
    *core = NULL;
    if (state == NULL)
        return 0;
    snprintf(path, sizeof path, "%s/data.mdb", state);
    if (access(path, F_OK) != 0)
        return 0;
    int rc = journal_open(state, &(struct journal_options){.read_only = true}, &journal, error);
    if (rc == 0) {
        rc = journal_core(journal, core, error);
        journal_close(&journal);
    }
    return rc;
}

static struct estimate arm_row(const struct sweep_spec *spec, const struct sweep_arm *arm, const struct prompt_set *set,
                               const struct core *core, bool known)
{
    struct estimate e = arm_estimate(spec, arm, set);
    e.there = delivered_already(core, spec->name, arm);
    e.there_known = known;
    return e;
}

static void put_text(const struct sweep_spec *spec, const struct prompt_set *set, const struct core *core, bool known,
                     struct buf *out)
{
    struct text_table table;
    bool costs = priced(spec);
    struct estimate total = within_budget(&spec->budget, sweep_estimate(spec, set));
    text_table_init(&table, costs ? "lrrrrr" : "lrrrr");
    text_heads(&table, costs ? "arm|n|rollouts|tokens|cost|there already" : "arm|n|rollouts|tokens|there already");
    for (uint32_t i = 0; i < spec->arms_len; i++) {
        char n[16];
        struct estimate e = arm_row(spec, &spec->arms[i], set, core, known);
        snprintf(n, sizeof n, "%u", spec->arms[i].n);
        row_text(&table, spec->arms[i].name, n, &e, costs);
    }
    row_text(&table, "whole sweep", "", &total, costs);
    buf_printf(out, "sweep %s: %u prompts, at most\n", spec->name, set->len);
    text_table_print(&table, 2, out);
    text_table_clear(&table);
    buf_puts(out, "arms of one model share its rollouts; a search by steps is counted with one step per rollout\n");
}

static void put_json(const struct sweep_spec *spec, const struct prompt_set *set, const struct core *core, bool known,
                     struct buf *json)
{
    struct estimate total = within_budget(&spec->budget, sweep_estimate(spec, set));
    json_begin(json, '{');
    json_key(json, "arms");
    json_begin(json, '[');
    for (uint32_t i = 0; i < spec->arms_len; i++) {
        struct estimate e = arm_row(spec, &spec->arms[i], set, core, known);
        put_arm(json, &spec->arms[i], &e);
    }
    json_end(json, ']');
    put_estimate(json, &total);
    json_end(json, '}');
    buf_puts(json, "\n");
}

int print_dry_run(const struct sweep_input *input, const char *state, bool json, struct error *error)
{
    struct prompt_set set;
    struct core *core = NULL;
    struct buf out = {0};
    char *prompts = xalloc(input->prompts_len + 1);
    memcpy(prompts, input->prompts, input->prompts_len);
    int rc = prompt_set_parse(&prompts, input->prompts_len, input->prompts_path, input->spec.group_by, &set, error);
    if (rc != 0)
        return rc;
    rc = open_state(state, &core, error);
    if (rc != 0) {
        prompt_set_clear(&set);
        return rc;
    }
    (json ? put_json : put_text)(&input->spec, &set, core, state != NULL, &out);
    rc = put_stdout(buf_slice(&out), error);
    buf_clear(&out);
    core_free(&core);
    prompt_set_clear(&set);
    return rc;
}
