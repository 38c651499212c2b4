/* compile.c - sweep file to definitions; see compile.h.
 *
 * Identity is by fingerprint: a pool is what its rollouts depend on (prompts, model without its name, seed), so that a
 * second sweep with the same pool reuses it; a model or verifier row is everything that its fact says. */
#include "broker/compile.h"
#include "broker/core/fact.h"
#include "common/hash.h"
#include "common/limits.h"

#include <stdio.h>
#include <string.h>

static uint64_t word(uint64_t hash, uint64_t value)
{
    return hash_more(hash, &value, sizeof value);
}

/* The spec's name takes no part: models may be renamed. */
static uint64_t spec_hash(const char *spec, const char *name)
{
    char key[80];
    snprintf(key, sizeof key, "\"name\":\"%s\",", name);
    const char *at = strstr(spec, key);
    size_t head = at == NULL ? strlen(spec) : (size_t)(at - spec);
    uint64_t hash = hash_bytes(spec, head);
    return at == NULL ? hash : hash_more(hash, at + strlen(key), strlen(at + strlen(key)));
}

static int put_set(const struct sweep_spec *spec, const struct prompt_set *set, uint64_t commit, uint64_t offset,
                   struct buf *to, struct error *error)
{
    if (offset + set->text_len > UINT32_MAX)
        return error_set(error, ERR_LIMIT, "the prompt file is larger than one commit may be (4 GiB)");
    struct slice group_by = {0};
    if (spec->group_by != NULL)
        group_by = slice_of(spec->group_by);
    fact_put(to,
             &(struct fact){.type = FACT_set, .set = {.digest = set->digest, .len = set->len, .group_by = group_by}});
    const char *groups[256];
    uint32_t groups_len = 0;
    for (uint32_t i = 0; i < set->len; i++) {
        const struct prompt *prompt = &set->prompts[i];
        const char *group = prompt->group == NULL ? "" : prompt->group;
        uint32_t g = 0;
        while (g < groups_len && strcmp(groups[g], group) != 0)
            g++;
        if (g == 256)
            return error_set(error, ERR_LIMIT, "group_by '%s' has more than 256 values: choose a coarser key of meta",
                             spec->group_by);
        if (g == groups_len)
            groups[groups_len++] = group;
        fact_put(to, &(struct fact){.type = FACT_prompt,
                                    .prompt = {.ref_commit = commit,
                                               .ref_offset = (uint32_t)offset,
                                               .ref_len = (uint32_t)prompt->record.len,
                                               .bytes = prompt->bytes,
                                               .group = slice_of(group)}});
        offset += prompt->record.len;
    }
    return 0;
}

static void put_models(const struct sweep_spec *spec, struct buf *to)
{
    for (uint32_t i = 0; i < spec->models_len; i++) {
        const struct sweep_model *m = &spec->models[i];
        uint64_t print = hash_bytes(m->spec, strlen(m->spec));
        print = word(word(word(print, m->max_tokens), m->template_tokens), m->timeout_ms);
        print = word(word(word(print, m->slots), m->price_in_micro), m->price_out_micro);
        fact_put(to, &(struct fact){.type = FACT_model,
                                    .model = {.id = i,
                                              .fingerprint = print,
                                              .name = slice_of(m->name),
                                              .backend = slice_of(m->backend),
                                              .spec = slice_of(m->spec),
                                              .max_tokens = m->max_tokens,
                                              .template_tokens = m->template_tokens,
                                              .timeout_ms = m->timeout_ms,
                                              .slots = m->slots,
                                              .price_in = m->price_in_micro,
                                              .price_out = m->price_out_micro,
                                              .offer = slice_of(m->offer)}});
    }
}

void compile_verifier(const struct sweep_verifier *v, uint32_t id, struct buf *to)
{
    uint64_t print = word(hash_bytes(v->spec, strlen(v->spec)), v->timeout_ms);
    fact_put(to, &(struct fact){.type = FACT_verifier,
                                .verifier = {.id = id,
                                             .fingerprint = word(print, v->price_micro),
                                             .name = slice_of(v->name),
                                             .kind = slice_of(v->kind),
                                             .spec = slice_of(v->spec),
                                             .timeout_ms = v->timeout_ms,
                                             .price = v->price_micro,
                                             .group = v->group}});
}

uint64_t compile_pool_seed(const struct sweep_spec *spec)
{
    return word(spec->seed, 0x706f6f6c);
}

static void put_pools(const struct sweep_spec *spec, const struct prompt_set *set, struct buf *to)
{
    for (uint32_t i = 0; i < spec->models_len; i++) {
        uint64_t print = word(word(spec_hash(spec->models[i].spec, spec->models[i].name), set->digest), spec->seed);
        fact_put(to,
                 &(struct fact){.type = FACT_pool,
                                .pool = {.id = i, .fingerprint = print, .model = i, .seed = compile_pool_seed(spec)}});
    }
}

static void put_sweep(const struct sweep_spec *spec, struct slice source, struct buf *to)
{
    const struct budget *b = &spec->budget;
    fact_put(to, &(struct fact){.type = FACT_sweep,
                                .sweep = {.name = slice_of(spec->name),
                                          .seed = spec->seed,
                                          .truth = spec->truth,
                                          .rollouts = b->rollouts,
                                          .tokens = b->tokens,
                                          .slot_ms = b->slot_ms,
                                          .cost = b->cost_micro,
                                          .deadline_s = b->deadline_s,
                                          .accepted = b->accepted,
                                          .source = source}});
}

void compile_arm(const struct sweep_arm *a, uint32_t id, struct buf *to)
{
    double options[4][POLICY_OPTIONS_MAX];
    memcpy(options[0], a->strategy.options, sizeof options[0]);
    memcpy(options[1], a->allocate.options, sizeof options[1]);
    memcpy(options[2], a->stop.options, sizeof options[2]);
    memcpy(options[3], a->select.options, sizeof options[3]);
    fact_put(to, &(struct fact){.type = FACT_arm,
                                .arm = {.id = id,
                                        .name = slice_of(a->name),
                                        .pool = a->model,
                                        .verifier = a->verifier,
                                        .n = a->n,
                                        .strategy = slice_of(a->strategy.policy->name),
                                        .strategy_version = a->strategy.policy->version,
                                        .allocator = slice_of(a->allocate.policy->name),
                                        .allocator_version = a->allocate.policy->version,
                                        .stopper = slice_of(a->stop.policy->name),
                                        .stopper_version = a->stop.policy->version,
                                        .selector = slice_of(a->select.policy->name),
                                        .selector_version = a->select.policy->version,
                                        .options = {(const char *)options, sizeof options},
                                        .strict = a->strict,
                                        .lookahead = a->lookahead,
                                        .rollouts = a->budget.rollouts,
                                        .tokens = a->budget.tokens,
                                        .slot_ms = a->budget.slot_ms,
                                        .cost = a->budget.cost_micro,
                                        .report_at = {(const char *)a->report_at, 4 * (size_t)a->report_at_len}}});
}

int compile(const struct sweep_spec *spec, const struct prompt_set *set, struct slice source, uint64_t commit,
            uint64_t offset, struct buf *to, struct error *error)
{
    int rc = put_set(spec, set, commit, offset, to, error);
    if (rc != 0)
        return rc;
    put_models(spec, to);
    for (uint32_t i = 0; i < spec->verifiers_len; i++)
        compile_verifier(&spec->verifiers[i], i, to);
    put_pools(spec, set, to);
    put_sweep(spec, source, to);
    for (uint32_t i = 0; i < spec->arms_len; i++)
        compile_arm(&spec->arms[i], i, to);
    return 0;
}

void compile_texts(const struct prompt_set *set, struct buf *texts)
{
    for (uint32_t i = 0; i < set->len; i++)
        buf_put(texts, set->prompts[i].record.data, set->prompts[i].record.len);
}
