/* dry_run.c - what a sweep may cost at most, and what is there already. Nothing is started or written. */
#include "broker/compile.h"
#include "broker/policy/kill.h"
#include "broker/server.h"
#include "cli/cli.h"
#include "common/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct estimate {
    uint64_t rollouts, tokens; /* at most */
    uint64_t there;            /* rollouts that an earlier run decided for this arm */
    bool there_known;          /* false: what a broker has is not asked */
};

/* The caps of an arm, or of the sweep, bound what it takes. */
static struct estimate within_budget(const struct budget *budget, struct estimate e)
{
    if (budget->rollouts > 0 && budget->rollouts < e.rollouts) {
        e.tokens = e.tokens / e.rollouts * budget->rollouts;
        e.rollouts = budget->rollouts;
    }
    if (budget->tokens > 0 && budget->tokens < e.tokens)
        e.tokens = budget->tokens;
    return e;
}

/* A tree's cost depends on its depth: what is said is one step of each rollout. */
static struct estimate leg_estimate(const struct sweep_spec *spec, const struct sweep_arm *arm, uint32_t leg,
                                    const struct prompt_set *set)
{
    const struct sweep_model *model = &spec->models[arm->models[leg]];
    uint64_t n = schedule_reach(&arm->schedule, leg, arm->n);
    struct estimate e = {.rollouts = n * set->len};
    for (uint32_t p = 0; p < set->len; p++)
        e.tokens += n * (set->prompts[p].bytes + model->template_tokens + model->max_tokens);
    return e;
}

static struct estimate arm_estimate(const struct sweep_spec *spec, const struct sweep_arm *arm,
                                    const struct prompt_set *set)
{
    struct estimate e = {0};
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++) {
        struct estimate one = leg_estimate(spec, arm, leg, set);
        e.rollouts += one.rollouts;
        e.tokens += one.tokens;
    }
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

static void print_arm(struct buf *out, const struct sweep_arm *arm, const struct estimate *e, bool json)
{
    if (!json) {
        char there[24] = "-";
        if (e->there_known)
            snprintf(there, sizeof there, "%llu", (unsigned long long)e->there);
        buf_printf(out, "%-24s %6u %12llu %14llu %13s\n", arm->name, arm->n, (unsigned long long)e->rollouts,
                   (unsigned long long)e->tokens, there);
        return;
    }
    json_begin(out, '{');
    json_key(out, "arm");
    json_str(out, arm->name);
    json_key(out, "n");
    json_u64(out, arm->n);
    json_key(out, "rollouts_max");
    json_u64(out, e->rollouts);
    json_key(out, "tokens_max");
    json_u64(out, e->tokens);
    json_key(out, "rollouts_there");
    if (e->there_known)
        json_u64(out, e->there);
    else
        json_none(out);
    json_end(out, '}');
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
        if (e.rollouts == all.rollouts) {
            even = more_of(even, all);
        } else {
            moved.rollouts += e.rollouts;
            moved.tokens += e.tokens;
        }
    }
    moved.rollouts += even.rollouts;
    moved.tokens += even.tokens;
    return moved.rollouts < most.rollouts ? moved : most;
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
            struct estimate e = counted ? (struct estimate){0} : pool_estimate(spec, i, m, set);
            total.rollouts += e.rollouts;
            total.tokens += e.tokens;
        }
    }
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
    if (json)
        buf_puts(&out, "{\"arms\":[");
    else
        buf_printf(&out, "sweep %s: %u prompts, at most\n%-24s %6s %12s %14s %13s\n", input->spec.name, set.len, "arm",
                   "n", "rollouts", "tokens", "there already");
    for (uint32_t i = 0; i < input->spec.arms_len; i++) {
        const struct sweep_arm *arm = &input->spec.arms[i];
        struct estimate e = arm_estimate(&input->spec, arm, &set);
        e.there = delivered_already(core, input->spec.name, arm);
        e.there_known = state != NULL;
        print_arm(&out, arm, &e, json);
    }
    struct estimate total = within_budget(&input->spec.budget, sweep_estimate(&input->spec, &set));
    if (json)
        buf_printf(&out, "],\"rollouts_max\":%llu,\"tokens_max\":%llu}\n", (unsigned long long)total.rollouts,
                   (unsigned long long)total.tokens);
    else
        buf_printf(&out,
                   "%-24s %6s %12llu %14llu\narms of one model share its rollouts; a search arm is counted with one "
                   "step per rollout\n",
                   "whole sweep", "", (unsigned long long)total.rollouts, (unsigned long long)total.tokens);
    rc = put_stdout(buf_slice(&out), error);
    buf_clear(&out);
    core_free(&core);
    prompt_set_clear(&set);
    return rc;
}
