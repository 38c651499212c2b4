/* reselect.c - see reselect.h.
 *
 * As for reverify.c, everything that stands already is found by its fingerprint, so that only arms are new. A sweep of
 * its own keeps the decisions, budgets and state of the old one as they are. */
#include "broker/reselect.h"
#include "broker/compile.h"
#include "broker/core/fact.h"
#include "broker/own_names.h"
#include "common/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Pools that arms of the sweep sample from, and the verifiers of the journal, by name. First the pool of each model,
 * with what arms may know of that: the one whose rollouts are whole, if there is one. Behind these the other pools of
 * the models, for arms with a rule that ended rollouts. */
struct known {
    uint32_t pools[LIMIT_MODELS], all;
    struct sweep_model models[LIMIT_MODELS];
    uint32_t *verifiers; /* ids */
    struct sweep_verifier *rows;
    uint32_t pools_len, verifiers_len;
    struct own_names *names; /* of the models, in the sweep's own words */
};

static bool knows_pool(const struct known *known, uint32_t pool)
{
    for (uint32_t i = 0; i < known->all; i++)
        if (known->pools[i] == pool)
            return true;
    return known->all == LIMIT_MODELS;
}

static bool knows_model(const struct known *known, const char *name)
{
    for (uint32_t i = 0; i < known->pools_len; i++)
        if (strcmp(known->models[i].name, name) == 0)
            return true;
    return false;
}

/* Unless the model has a pool already. */
static void know_model(const struct core *core, uint32_t pool, struct known *known)
{
    static const char none[] = "\"answer\":{\"kind\":\"none\"", behind[] = ",\"backend\":";
    struct model_info info = core_model(core, core_pool(core, pool).model);
    struct sweep_model *model = &known->models[known->pools_len];
    const char *name = own_name(known->names, pool);
    if (knows_model(known, name))
        return;
    snprintf(model->name, sizeof model->name, "%s", name);
    model->has_answer = memmem(info.spec.data, info.spec.len, none, sizeof none - 1) == NULL;
    const char *end = memmem(info.spec.data, info.spec.len, behind, sizeof behind - 1); /* keys are sorted */
    struct buf answer = {0};
    buf_printf(&answer, "%.*s", end == NULL ? 0 : (int)(end - info.spec.data), info.spec.data);
    model->answer = answer.data;
    known->pools[known->pools_len++] = pool;
    known->all = known->pools_len;
}

/* Pools with whole rollouts first: they are what arms without a rule mean by a model. */
static void know_pools(const struct core *core, const struct sweep_info *sweep, struct known *known)
{
    enum { WHOLE, MODELS, OTHERS, PASSES };
    for (int pass = 0; pass < PASSES; pass++)
        for (uint32_t i = 0; i < sweep->arms; i++) {
            struct arm_info arm = core_arm(core, core_sweep_arm(core, sweep->id, i));
            for (uint32_t leg = 0; arm.trees == 0 && leg < arm.schedule->legs; leg++) {
                uint32_t pool = arm.pools[leg];
                if (knows_pool(known, pool) || (pass == WHOLE && core_pool(core, pool).kill.window > 0))
                    continue;
                if (pass == OTHERS)
                    known->pools[known->all++] = pool;
                else
                    know_model(core, pool, known);
            }
        }
}

/* Index of the pool that the arm decides over. */
static int pool_of(const struct core *core, const struct known *known, const struct sweep_arm *arm, uint32_t *index,
                   struct error *error)
{
    struct kill_rule rule = sweep_arm_kill(arm);
    *index = arm->models[0];
    for (uint32_t i = 0; rule.window > 0 && i < known->all; i++) {
        struct pool_info pool = core_pool(core, known->pools[i]);
        if (strcmp(own_name(known->names, pool.id), known->models[arm->models[0]].name) != 0 ||
            pool.kill.window != rule.window || pool.kill.warmup != rule.warmup || pool.kill.keep != rule.keep)
            continue;
        *index = i;
        return 0;
    }
    return rule.window == 0
               ? 0
               : error_set(error, ERR_CONFLICT,
                           "arm '%s' ends rollouts while they are generated (`kill`), and the sweep has none "
                           "that were ended by its rule: leave `kill` out",
                           arm->name);
}

/* A verifier hides those of its name that come later. */
static void know_verifier(const struct core *core, uint32_t id, struct known *known)
{
    struct verifier_info info = core_verifier(core, id);
    for (uint32_t i = 0; i < known->verifiers_len; i++)
        if (strcmp(known->rows[i].name, info.name) == 0)
            return;
    struct sweep_verifier *row = &known->rows[known->verifiers_len];
    snprintf(row->name, sizeof row->name, "%s", info.name);
    row->group = info.group;
    known->verifiers[known->verifiers_len++] = id;
}

static struct known known_new(const struct core *core, const struct sweep_info *sweep)
{
    uint32_t verifiers = core_verifiers(core);
    struct known known = {.names = own_names_new(core, sweep->id),
                          .verifiers = xalloc(verifiers * sizeof *known.verifiers),
                          .rows = xalloc(verifiers * sizeof *known.rows)};
    if (sweep->truth != NO_ID)
        know_verifier(core, sweep->truth, &known);
    for (uint32_t i = 0; i < sweep->arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, sweep->id, i));
        if (arm.verifier != NO_ID)
            know_verifier(core, arm.verifier, &known);
    }
    for (uint32_t v = verifiers; v-- > 0;)
        know_verifier(core, v, &known);
    know_pools(core, sweep, &known);
    return known;
}

static void known_clear(struct known *known)
{
    own_names_free(&known->names);
    free(known->verifiers);
    free(known->rows);
    for (uint32_t i = 0; i < known->pools_len; i++)
        free(known->models[i].answer);
}

/* Ids of the submission for what its arms name: NO_ID until it is put. */
struct ids {
    uint32_t *verifiers;
    uint32_t next;
};

/* Index of the verifier among those of the submission; put at its first use. */
static uint32_t put_verifier(const struct core *core, const struct known *known, const struct sweep_spec *spec,
                             uint32_t index, struct ids *ids, struct buf *to)
{
    const struct sweep_verifier *verifier = &spec->verifiers[index];
    if (ids->verifiers[index] != NO_ID)
        return ids->verifiers[index];
    ids->verifiers[index] = ids->next++;
    if (verifier->kind != NULL) {
        compile_verifier(verifier, ids->verifiers[index], core, to);
        return ids->verifiers[index];
    }
    uint32_t i = 0;
    while (strcmp(known->rows[i].name, verifier->name) != 0)
        i++;
    compile_known_verifier(core, known->verifiers[i], ids->verifiers[index], to);
    return ids->verifiers[index];
}

/* The truth of the sweep, then what the arms name, whose indices become ids of the submission. */
static uint32_t put_verifiers(const struct core *core, const struct sweep_info *sweep, const struct known *known,
                              struct sweep_spec *spec, struct buf *to)
{
    struct ids ids = {.verifiers = xalloc(spec->verifiers_len * sizeof *ids.verifiers + 1)};
    uint32_t truth = NO_ID;
    for (uint32_t i = 0; i < spec->verifiers_len; i++)
        ids.verifiers[i] = NO_ID;
    if (sweep->truth != NO_ID) {
        truth = ids.next++;
        compile_known_verifier(core, sweep->truth, truth, to);
        for (uint32_t i = 0; i < spec->verifiers_len; i++)
            if (spec->verifiers[i].kind == NULL &&
                strcmp(spec->verifiers[i].name, core_verifier(core, sweep->truth).name) == 0)
                ids.verifiers[i] = truth;
    }
    for (uint32_t i = 0; i < spec->arms_len; i++)
        if (spec->arms[i].verifier != UINT32_MAX)
            spec->arms[i].verifier = put_verifier(core, known, spec, spec->arms[i].verifier, &ids, to);
    free(ids.verifiers);
    return truth;
}

static int put_sweep(const struct sweep_info *sweep, const struct reselect_request *request, const char *arm,
                     uint32_t truth, struct buf *to, struct error *error)
{
    char name[2 * LIMIT_NAME + 2];
    int rc = request->name != NULL ? sweep_name_check("sweep", request->name, error) : 0;
    if (rc != 0)
        return rc;
    if (request->name != NULL)
        snprintf(name, sizeof name, "%s", request->name);
    else
        snprintf(name, sizeof name, "%s@%s", sweep->name, arm);
    if (strlen(name) > LIMIT_NAME)
        return error_set(error, ERR_LIMIT, "the name '%s' is longer than %d bytes: give a shorter one (--name)", name,
                         LIMIT_NAME);
    if (strcmp(name, sweep->name) == 0)
        return error_set(error, ERR_REFUSED,
                         "the new decisions are a sweep of their own: give it another name than '%s' (--name)", name);
    fact_put(to, &(struct fact){
                     .type = FACT_sweep,
                     .sweep = {.name = slice_of(name), .seed = sweep->seed, .truth = truth, .source = request->yaml}});
    return 0;
}

static int put_all(const struct core *core, const struct sweep_info *sweep, const struct known *known,
                   const struct reselect_request *request, struct sweep_spec *spec, struct buf *to, struct error *error)
{
    compile_known_set(core, sweep->set, to);
    for (uint32_t i = 0; i < known->all; i++)
        compile_known_model(core, core_pool(core, known->pools[i]).model, i, to);
    uint32_t truth = put_verifiers(core, sweep, known, spec, to);
    for (uint32_t i = 0; i < known->all; i++)
        compile_known_pool(core, known->pools[i], i, to);
    const struct sweep_arm *first = &spec->arms[0];
    int rc = put_sweep(sweep, request, first->bin.of[0] == '\0' ? first->name : first->bin.of, truth, to, error);
    for (uint32_t i = 0; i < spec->arms_len && rc == 0; i++) {
        if (spec->arms[i].prior.from != NULL)
            rc = compile_known_beliefs(core, sweep, &spec->arms[i], error);
        uint32_t pool = 0;
        if (rc == 0)
            rc = pool_of(core, known, &spec->arms[i], &pool, error);
        spec->arms[i].existing = true;
        compile_arm(&spec->arms[i], pool, i, to);
        compile_beliefs(&spec->arms[i], i, sweep->prompts, to);
    }
    return rc;
}

static void put_note(const struct core *core, const struct sweep_info *sweep, const struct buf *trees, struct buf *note)
{
    struct buf old = {0};
    for (uint32_t i = 0; i < sweep->arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, sweep->id, i));
        if (arm.trees > 0)
            buf_printf(&old, "%s%s n=%u", old.len > 0 ? ", " : "", arm.name, arm.n);
    }
    if (old.len > 0)
        buf_printf(note, "rollouts of arms of '%s' that grow trees are left out (%s)", sweep->name, old.data);
    if (trees->len > 0)
        buf_printf(note, "%snew arms that grow trees are left out (%s)", note->len > 0 ? "; " : "", trees->data);
    buf_clear(&old);
}

int reselect_definitions(const struct core *core, const struct reselect_request *request, struct buf *to,
                         struct buf *note, struct error *error)
{
    struct sweep_info sweep = core_sweep(core, request->sweep);
    struct known known = known_new(core, &sweep);
    struct sweep_spec spec = {0};
    struct buf trees = {0};
    int rc = 0;
    if (known.pools_len == 0)
        rc = error_set(error, ERR_CONFLICT,
                       "sweep '%s' has no sampled rollouts: all of its arms grow trees, whose nodes only their own "
                       "strategy can use",
                       sweep.name);
    if (rc == 0)
        rc = sweep_arms_parse(request->yaml, request->file,
                              &(struct sweep_known){known.models, known.rows, known.pools_len, known.verifiers_len},
                              &spec, &trees, error);
    if (rc == 0) {
        rc = put_all(core, &sweep, &known, request, &spec, to, error);
        put_note(core, &sweep, &trees, note);
        sweep_spec_clear(&spec);
    }
    buf_clear(&trees);
    known_clear(&known);
    return rc;
}
