/* compile.c - sweep file to definitions; see compile.h.
 *
 * Identity is by fingerprint: a pool is what its rollouts depend on (prompts, model without its name, seed), so that a
 * second sweep with the same pool reuses it; a model or verifier row is everything that its fact says. Where servers are
 * is no part of either (common/place.h). Fingerprints of earlier releases covered that too. So what the core has already
 * is compared by what it says, and keeps the fingerprint that it has. */
#include "broker/compile.h"
#include "broker/core/fact.h"
#include "broker/policy/kill.h"
#include "common/hash.h"
#include "common/limits.h"
#include "common/place.h"

#include <stdio.h>
#include <string.h>

static uint64_t word(uint64_t hash, uint64_t value)
{
    return hash_more(hash, &value, sizeof value);
}

/* The part of a spec before its name, and that behind it. */
struct halves {
    struct slice head, tail;
};

static struct halves split_at_name(struct slice spec, const char *name)
{
    char key[80];
    size_t len = (size_t)snprintf(key, sizeof key, "\"name\":\"%s\",", name);
    const char *at = memmem(spec.data, spec.len, key, len);
    if (at == NULL)
        return (struct halves){.head = spec};
    size_t head = (size_t)(at - spec.data);
    return (struct halves){{spec.data, head}, {at + len, spec.len - head - len}};
}

static uint64_t blank_hash(struct slice spec)
{
    struct buf blank = {0};
    place_blank(spec, &blank);
    uint64_t hash = hash_bytes(blank.data, blank.len);
    buf_clear(&blank);
    return hash;
}

/* The spec's name takes no part: models may be renamed. */
static uint64_t spec_hash(struct slice spec, const char *name)
{
    struct buf blank = {0};
    place_blank(spec, &blank);
    struct halves halves = split_at_name(buf_slice(&blank), name);
    uint64_t hash = hash_bytes(halves.head.data, halves.head.len);
    if (halves.tail.len > 0)
        hash = hash_more(hash, halves.tail.data, halves.tail.len);
    buf_clear(&blank);
    return hash;
}

/* Their data stands behind the records; see compile_texts. */
static void put_attachments(const struct prompt_set *set, uint64_t commit, uint64_t offset, struct buf *to)
{
    for (const struct set_attachment *a = set->attachments; a != NULL; a = a->hh.next) {
        if (a->known)
            continue;
        fact_put(to, &(struct fact){.type = FACT_attachment,
                                    .attachment = {.high = a->attachment.id.high,
                                                   .low = a->attachment.id.low,
                                                   .ref_commit = commit,
                                                   .ref_offset = (uint32_t)offset,
                                                   .ref_len = (uint32_t)a->attachment.data.len}});
        offset += a->attachment.data.len;
    }
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
                                               .group = slice_of(group),
                                               .attached = prompt->attached}});
        offset += prompt->record.len;
    }
    put_attachments(set, commit, offset, to);
    return 0;
}

static bool equal(struct slice spec, const char *text)
{
    return spec.len == strlen(text) && memcmp(spec.data, text, spec.len) == 0;
}

/* What a submission's pools are of: one for each model, which has its rollouts whole, and behind these one for each other
 * rule that arms of a model have. */
struct pools {
    struct pool_of {
        uint32_t model;
        struct kill_rule kill;
    } at[LIMIT_MODELS + LIMIT_ARMS];
    uint32_t len;
};

static uint32_t pool_at(struct pools *pools, uint32_t model, struct kill_rule kill)
{
    uint32_t i = 0;
    while (i < pools->len && !(pools->at[i].model == model && kill_same(&pools->at[i].kill, &kill)))
        i++;
    if (i == pools->len)
        pools->at[pools->len++] = (struct pool_of){model, kill};
    return i;
}

static void list_pools(const struct sweep_spec *spec, struct pools *pools)
{
    pools->len = 0;
    for (uint32_t i = 0; i < spec->models_len; i++)
        pool_at(pools, i, (struct kill_rule){0});
    for (uint32_t i = 0; i < spec->arms_len; i++)
        pool_at(pools, spec->arms[i].models[0], sweep_arm_kill(&spec->arms[i]));
}

/* The pool that the core has of these prompts, this model, rule and seed; NO_ID: none. Journals of earlier releases may
 * have several that differ in where the model is: then the one that is where it was, if any. */
static uint32_t find_pool(const struct sweep_spec *spec, const struct sweep_model *m, const struct kill_rule *kill,
                          const struct prompt_set *set, const struct core *core)
{
    uint64_t wanted = spec_hash(slice_of(m->spec), m->name);
    uint32_t found = NO_ID;
    for (uint32_t i = 0; i < core_pools(core); i++) {
        struct pool_info pool = core_pool(core, i);
        if (pool.seed != compile_pool_seed(spec, m) || core_set_digest(core, pool.set) != set->digest ||
            !kill_same(&pool.kill, kill))
            continue;
        struct model_info model = core_model(core, pool.model);
        if (found == NO_ID ? spec_hash(model.spec, model.name) == wanted : equal(model.spec, m->spec))
            found = i;
    }
    return found;
}

uint32_t compile_pool(const struct sweep_spec *spec, uint32_t model, const struct prompt_set *set,
                      const struct core *core)
{
    return find_pool(spec, &spec->models[model], &(struct kill_rule){0}, set, core);
}

/* Appends a model's spec without its own seed. No option has this key, and in texts the quotes are escaped. */
static void put_unseeded(struct slice spec, struct buf *to)
{
    static const char key[] = "\"seed\":";
    const char *end = spec.data + spec.len, *at = memmem(spec.data, spec.len, key, sizeof key - 1);
    const char *behind = at == NULL ? NULL : memchr(at, ',', (size_t)(end - at));
    if (behind == NULL)
        at = behind = end;
    else
        behind++;
    buf_put(to, spec.data, (size_t)(at - spec.data));
    buf_put(to, behind, (size_t)(end - behind));
}

bool compile_same_model(const struct sweep_model *model, const struct model_info *known)
{
    struct buf specs[2] = {{0}};
    put_unseeded(slice_of(model->spec), &specs[0]);
    put_unseeded(known->spec, &specs[1]);
    bool same = spec_hash(buf_slice(&specs[0]), model->name) == spec_hash(buf_slice(&specs[1]), known->name);
    buf_clear(&specs[0]);
    buf_clear(&specs[1]);
    return same;
}

/* Arms of two models that generate the same would share the rollouts of one. */
static int check_twins(const struct sweep_spec *spec, struct error *error)
{
    for (uint32_t i = 0; i < spec->models_len; i++)
        for (uint32_t k = 0; k < i; k++) {
            const struct sweep_model *a = &spec->models[k], *b = &spec->models[i];
            if (spec_hash(slice_of(a->spec), a->name) == spec_hash(slice_of(b->spec), b->name))
                return error_set(
                    error, ERR_CONFLICT,
                    "models '%.64s' and '%.64s' generate the same: they differ in nothing but name, price, "
                    "limits or where their servers are; have the arms name one of them, or, if what is "
                    "served is not the same, tell it with options (`model`, `salt`)",
                    a->name, b->name);
        }
    return 0;
}

static uint64_t model_print(const struct sweep_model *m)
{
    uint64_t print = blank_hash(slice_of(m->spec));
    print = word(word(word(print, m->max_tokens), m->template_tokens), m->timeout_ms);
    return word(word(word(print, m->slots), m->price_in_micro), m->price_out_micro);
}

/* A pool keeps the model that it has, under its name: only where that is may be new. */
static void put_model(const struct sweep_model *m, uint32_t id, const struct model_info *known, struct buf *to)
{
    struct buf spec = {0};
    struct halves halves = split_at_name(slice_of(m->spec), m->name);
    buf_put(&spec, halves.head.data, halves.head.len);
    if (halves.tail.len > 0)
        buf_printf(&spec, "\"name\":\"%s\",", known == NULL ? m->name : known->name);
    buf_put(&spec, halves.tail.data, halves.tail.len);
    fact_put(to, &(struct fact){.type = FACT_model,
                                .model = {.id = id,
                                          .fingerprint = known == NULL ? model_print(m) : known->fingerprint,
                                          .name = slice_of(known == NULL ? m->name : known->name),
                                          .backend = slice_of(m->backend),
                                          .spec = buf_slice(&spec),
                                          .max_tokens = m->max_tokens,
                                          .template_tokens = m->template_tokens,
                                          .timeout_ms = m->timeout_ms,
                                          .slots = m->slots,
                                          .price_in = m->price_in_micro,
                                          .price_out = m->price_out_micro,
                                          .offer = slice_of(m->offer)}});
    buf_clear(&spec);
}

static void put_models(const struct sweep_spec *spec, const struct prompt_set *set, const struct core *core,
                       struct buf *to)
{
    for (uint32_t i = 0; i < spec->models_len; i++) {
        uint32_t pool = compile_pool(spec, i, set, core);
        struct model_info known;
        if (pool != NO_ID)
            known = core_model(core, core_pool(core, pool).model);
        put_model(&spec->models[i], i, pool == NO_ID ? NULL : &known, to);
    }
}

static uint64_t verifier_print(struct slice spec, uint32_t timeout_ms, uint64_t price_micro)
{
    return word(word(blank_hash(spec), timeout_ms), price_micro);
}

void compile_verifier(const struct sweep_verifier *v, uint32_t id, const struct core *core, struct buf *to)
{
    uint64_t print = verifier_print(slice_of(v->spec), v->timeout_ms, v->price_micro), kept = print;
    bool found = false;
    for (uint32_t i = 0; i < core_verifiers(core); i++) {
        struct verifier_info known = core_verifier(core, i);
        if (verifier_print(known.spec, known.timeout_ms, known.price) != print ||
            (found && !equal(known.spec, v->spec)))
            continue;
        kept = known.fingerprint;
        found = true;
    }
    fact_put(to, &(struct fact){.type = FACT_verifier,
                                .verifier = {.id = id,
                                             .fingerprint = kept,
                                             .name = slice_of(v->name),
                                             .kind = slice_of(v->kind),
                                             .spec = slice_of(v->spec),
                                             .timeout_ms = v->timeout_ms,
                                             .price = v->price_micro,
                                             .group = v->group}});
}

uint64_t compile_pool_seed(const struct sweep_spec *spec, const struct sweep_model *m)
{
    uint64_t seed = word(spec->seed, 0x706f6f6c);
    return m->seed == 0 ? seed : word(seed, m->seed);
}

static uint64_t pool_print(const struct sweep_spec *spec, const struct pool_of *pool, const struct prompt_set *set)
{
    const struct sweep_model *m = &spec->models[pool->model];
    uint64_t print = word(word(spec_hash(slice_of(m->spec), m->name), set->digest), spec->seed);
    if (pool->kill.window == 0)
        return print;
    print = word(word(print, pool->kill.window), pool->kill.warmup);
    return hash_more(print, &pool->kill.keep, sizeof pool->kill.keep);
}

static void put_pools(const struct sweep_spec *spec, const struct pools *pools, const struct prompt_set *set,
                      const struct core *core, struct buf *to)
{
    for (uint32_t i = 0; i < pools->len; i++) {
        const struct pool_of *pool = &pools->at[i];
        uint32_t known = find_pool(spec, &spec->models[pool->model], &pool->kill, set, core);
        uint64_t print = known != NO_ID ? core_pool(core, known).fingerprint : pool_print(spec, pool, set);
        fact_put(to, &(struct fact){.type = FACT_pool,
                                    .pool = {.id = i,
                                             .fingerprint = print,
                                             .model = pool->model,
                                             .seed = compile_pool_seed(spec, &spec->models[pool->model]),
                                             .kill_window = pool->kill.window,
                                             .kill_warmup = pool->kill.warmup,
                                             .kill_keep = pool->kill.keep}});
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

void compile_arm(const struct sweep_arm *a, uint32_t pool, uint32_t id, struct buf *to)
{
    double options[4][POLICY_OPTIONS_MAX];
    memcpy(options[0], a->strategy.options, sizeof options[0]);
    memcpy(options[1], a->allocate.options, sizeof options[1]);
    memcpy(options[2], a->stop.options, sizeof options[2]);
    memcpy(options[3], a->select.options, sizeof options[3]);
    size_t several = a->schedule.legs > 1 ? a->schedule.legs : 0;
    fact_put(to, &(struct fact){.type = FACT_arm,
                                .arm = {.id = id,
                                        .name = slice_of(a->name),
                                        .pool = pool,
                                        .rounds = a->schedule.rounds,
                                        .pools = {(const char *)a->models, several * sizeof *a->models},
                                        .lens = {(const char *)a->schedule.len, several * sizeof *a->schedule.len},
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
                                        .existing = a->existing,
                                        .prior = slice_of(a->belief_source == NULL ? "" : a->belief_source),
                                        .abstains = a->answering.abstains,
                                        .abstain = a->answering.abstain,
                                        .top = a->answering.top,
                                        .of = slice_of(a->bin.of),
                                        .bin = (uint8_t)a->bin.number,
                                        .by = (uint8_t)a->bin.by,
                                        .above = a->bin.above,
                                        .up_to = a->bin.up_to,
                                        .lookahead = a->lookahead,
                                        .rollouts = a->budget.rollouts,
                                        .tokens = a->budget.tokens,
                                        .slot_ms = a->budget.slot_ms,
                                        .cost = a->budget.cost_micro,
                                        .report_at = {(const char *)a->report_at, 4 * (size_t)a->report_at_len}}});
}

void compile_beliefs(const struct sweep_arm *a, uint32_t id, uint32_t prompts, struct buf *to)
{
    for (uint32_t from = 0, len; a->beliefs != NULL && from < prompts; from += len) {
        len = prompts - from < PRIOR_CHUNK ? prompts - from : PRIOR_CHUNK;
        fact_put(to, &(struct fact){.type = FACT_prior,
                                    .prior = {.arm = id,
                                              .from = from,
                                              .beliefs = {(const char *)a->beliefs[from], len * sizeof *a->beliefs}}});
    }
}

int compile(const struct sweep_spec *spec, const struct prompt_set *set, const struct core *core, struct slice source,
            uint64_t commit, uint64_t offset, struct buf *to, struct error *error)
{
    struct pools pools;
    int rc = check_twins(spec, error);
    if (rc == 0)
        rc = put_set(spec, set, commit, offset, to, error);
    if (rc != 0)
        return rc;
    list_pools(spec, &pools);
    put_models(spec, set, core, to);
    for (uint32_t i = 0; i < spec->verifiers_len; i++)
        compile_verifier(&spec->verifiers[i], i, core, to);
    put_pools(spec, &pools, set, core, to);
    put_sweep(spec, source, to);
    for (uint32_t i = 0; i < spec->arms_len; i++) {
        const struct sweep_arm *arm = &spec->arms[i];
        compile_arm(arm, pool_at(&pools, arm->models[0], sweep_arm_kill(arm)), i, to);
        compile_beliefs(arm, i, set->len, to);
    }
    return 0;
}

/* --- what the core has already, under ids of a submission --- */

void compile_known_set(const struct core *core, uint32_t set, struct buf *to)
{
    uint32_t len = core_set_prompts(core, set);
    fact_put(to, &(struct fact){.type = FACT_set,
                                .set = {.digest = core_set_digest(core, set),
                                        .len = len,
                                        .group_by = slice_of(core_group_by(core, set))}});
    for (uint32_t p = 0; p < len; p++) {
        struct prompt_info prompt = core_prompt(core, set, p);
        fact_put(to, &(struct fact){.type = FACT_prompt,
                                    .prompt = {.ref_commit = prompt.ref.commit,
                                               .ref_offset = prompt.ref.offset,
                                               .ref_len = prompt.ref.len,
                                               .bytes = prompt.bytes,
                                               .group = slice_of(core_group(core, set, prompt.group)),
                                               .attached = prompt.attached}});
    }
}

void compile_known_model(const struct core *core, uint32_t model, uint32_t id, struct buf *to)
{
    struct model_info known = core_model(core, model);
    fact_put(to, &(struct fact){.type = FACT_model,
                                .model = {.id = id,
                                          .fingerprint = known.fingerprint,
                                          .name = slice_of(known.name),
                                          .backend = slice_of(known.backend),
                                          .spec = known.spec}});
}

void compile_known_verifier(const struct core *core, uint32_t verifier, uint32_t id, struct buf *to)
{
    struct verifier_info known = core_verifier(core, verifier);
    fact_put(to, &(struct fact){.type = FACT_verifier,
                                .verifier = {.id = id,
                                             .fingerprint = known.fingerprint,
                                             .name = slice_of(known.name),
                                             .kind = slice_of(known.kind),
                                             .spec = known.spec,
                                             .timeout_ms = known.timeout_ms,
                                             .price = known.price,
                                             .group = known.group}});
}

void compile_known_pool(const struct core *core, uint32_t pool, uint32_t id, struct buf *to)
{
    struct pool_info known = core_pool(core, pool);
    fact_put(to, &(struct fact){.type = FACT_pool,
                                .pool = {.id = id,
                                         .fingerprint = known.fingerprint,
                                         .model = id,
                                         .seed = known.seed,
                                         .kill_window = known.kill.window,
                                         .kill_warmup = known.kill.warmup,
                                         .kill_keep = known.kill.keep}});
}

int compile_known_beliefs(const struct core *core, const struct sweep_info *sweep, struct sweep_arm *arm,
                          struct error *error)
{
    for (uint32_t i = 0; i < sweep->arms; i++) {
        struct arm_info known = core_arm(core, core_sweep_arm(core, sweep->id, i));
        if (strcmp(known.name, arm->name) != 0 || known.prior[0] == '\0')
            continue;
        arm->belief_source = xstrdup(known.prior);
        arm->beliefs = xalloc(known.prompts * sizeof *arm->beliefs);
        for (uint32_t p = 0; p < known.prompts; p++) {
            struct belief belief = core_belief(core, known.id, p);
            arm->beliefs[p][0] = (float)belief.a;
            arm->beliefs[p][1] = (float)belief.b;
        }
        return 0;
    }
    return error_set(
        error, ERR_REFUSED,
        "arm '%s' has a prior, which is looked for when a sweep file is submitted: only an arm of that name "
        "in the sweep can lend its beliefs",
        arm->name);
}

void compile_texts(const struct prompt_set *set, struct buf *texts)
{
    for (uint32_t i = 0; i < set->len; i++)
        buf_put(texts, set->prompts[i].record.data, set->prompts[i].record.len);
    for (const struct set_attachment *a = set->attachments; a != NULL; a = a->hh.next)
        if (!a->known)
            buf_put(texts, a->attachment.data.data, a->attachment.data.len);
}
