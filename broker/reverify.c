/* reverify.c - see reverify.h.
 *
 * Everything that stands already is found by its fingerprint when the definitions are submitted, so only the verifiers and
 * the arms are new. A sweep of its own keeps budgets, state and report of the old one as they are. */
#include "broker/reverify.h"
#include "broker/compile.h"
#include "broker/core/fact.h"
#include "common/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OURS = 0, TRUTH = 1 }; /* ids of the verifiers in the submission */

/* The one in the file, else the one of that name that the journal learned last. */
static int put_verifier(const struct core *core, const struct sweep_spec *file, const char *name, uint32_t id,
                        bool *group, struct buf *to, struct error *error)
{
    for (uint32_t i = 0; file != NULL && i < file->verifiers_len; i++)
        if (strcmp(file->verifiers[i].name, name) == 0) {
            compile_verifier(&file->verifiers[i], id, core, to);
            *group = file->verifiers[i].group;
            return 0;
        }
    for (uint32_t i = core_verifiers(core); i-- > 0;) {
        struct verifier_info known = core_verifier(core, i);
        if (strcmp(known.name, name) != 0)
            continue;
        compile_known_verifier(core, i, id, to);
        *group = known.group;
        return 0;
    }
    return error_set(
        error, ERR_NOT_FOUND,
        "there is no verifier '%.64s': name one of the sweep's, or give a sweep file whose verifiers section "
        "has it (--file)",
        name);
}

/* A pool of the sweep, and the most rollouts that one of its prompts has. */
struct source {
    uint32_t pool, n;
};

static uint32_t longest(const struct core *core, uint32_t pool)
{
    uint32_t n = 0, prompts = core_pool(core, pool).prompts;
    for (uint32_t p = 0; p < prompts; p++) {
        uint32_t issued = core_issued(core, pool, p);
        n = issued > n ? issued : n;
    }
    return n < LIMIT_N ? n : LIMIT_N;
}

static bool known(const struct source *sources, uint32_t len, uint32_t pool)
{
    for (uint32_t i = 0; i < len; i++)
        if (sources[i].pool == pool)
            return true;
    return false;
}

/* Nodes of trees keep only the verdicts that they were grown with: arms that grow trees are left out. */
static int find_sources(const struct core *core, const struct sweep_info *sweep, struct source *sources, uint32_t *len,
                        struct error *error)
{
    bool trees = false;
    *len = 0;
    for (uint32_t i = 0; i < sweep->arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, sweep->id, i));
        trees = trees || arm.trees > 0;
        for (uint32_t leg = 0; arm.trees == 0 && leg < arm.schedule->legs; leg++) {
            struct source source = {arm.pools[leg], longest(core, arm.pools[leg])};
            if (source.n > 0 && !known(sources, *len, source.pool) && *len < LIMIT_MODELS)
                sources[(*len)++] = source;
        }
    }
    if (*len > 0)
        return 0;
    return error_set(
        error, ERR_CONFLICT, "sweep '%s' has no %srollouts to judge%s", sweep->name, trees ? "sampled " : "",
        trees ? ": nodes of trees keep the verdicts that they were grown with; `drover results` prints their "
                "texts, which the backend `candidates` can bring in again"
              : " yet");
}

void reverify_note(const struct core *core, uint32_t id, struct buf *note)
{
    struct sweep_info sweep = core_sweep(core, id);
    uint64_t leaves = 0;
    uint32_t arms = 0;
    for (uint32_t i = 0; i < sweep.arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, id, i));
        arms += arm.trees > 0;
        leaves += arm.trees > 0 ? (uint64_t)arm.n * arm.decided : 0;
    }
    if (arms > 0)
        buf_printf(
            note,
            "%u arm%s of '%s' that grow%s trees, with %llu finished rollouts, %s left out: nodes keep the verdicts "
            "that they were grown with",
            arms, arms == 1 ? "" : "s", sweep.name, arms == 1 ? "s" : "", (unsigned long long)leaves,
            arms == 1 ? "is" : "are");
}

/* report_at of the new arm: powers of two, and n. */
static uint32_t report_points(uint32_t n, uint32_t points[33])
{
    uint32_t len = 0;
    for (uint64_t at = 1; at < n; at *= 2)
        points[len++] = (uint32_t)at;
    points[len++] = n;
    return len;
}

static void put_arm(const struct core *core, const struct source *source, uint32_t id, struct buf *to)
{
    uint32_t points[33];
    struct sweep_arm arm = {
        .models = {id},
        .schedule = {.legs = 1},
        .verifier = OURS,
        .n = source->n,
        .strategy = {&strategy_sample, {0}},
        .allocate = {&allocate_existing, {0}},
        .stop = {&stop_none, {0}},
        .select = {&select_best, {0}},
        .report_at = points,
        .report_at_len = report_points(source->n, points),
    };
    /* One arm per pool: the model's name tells them apart, but for pools of which rollouts were ended. */
    struct pool_info pool = core_pool(core, source->pool);
    const char *model = core_model(core, pool.model).name;
    if (pool.kill.window == 0)
        snprintf(arm.name, sizeof arm.name, "%s", model);
    else
        snprintf(arm.name, sizeof arm.name, "%.48s-kill-%u", model, pool.id);
    compile_arm(&arm, id, id, to);
}

static int put_sweep(const struct sweep_info *sweep, const struct reverify_request *request, bool truth, struct buf *to,
                     struct error *error)
{
    char name[2 * LIMIT_NAME + 2];
    if (request->name != NULL)
        snprintf(name, sizeof name, "%s", request->name);
    else
        snprintf(name, sizeof name, "%s@%s", sweep->name, request->verifier);
    if (strlen(name) > LIMIT_NAME)
        return error_set(error, ERR_LIMIT, "the name '%s' is longer than %d bytes: give a shorter one (--name)", name,
                         LIMIT_NAME);
    fact_put(to, &(struct fact){.type = FACT_sweep,
                                .sweep = {.name = slice_of(name),
                                          .seed = sweep->seed,
                                          .truth = truth ? TRUTH : NO_ID,
                                          .source = sweep->source}});
    return 0;
}

int reverify_definitions(const struct core *core, const struct reverify_request *request, struct buf *to,
                         struct error *error)
{
    struct sweep_info sweep = core_sweep(core, request->sweep);
    struct source sources[LIMIT_MODELS];
    uint32_t len;
    const char *truth = request->truth != NULL ? request->truth
                        : sweep.truth != NO_ID ? core_verifier(core, sweep.truth).name
                                               : NULL;
    int rc = find_sources(core, &sweep, sources, &len, error);
    if (rc != 0)
        return rc;
    compile_known_set(core, sweep.set, to);
    for (uint32_t i = 0; i < len; i++)
        compile_known_model(core, core_pool(core, sources[i].pool).model, i, to);
    bool group = false, group_truth = false;
    rc = put_verifier(core, request->file, request->verifier, OURS, &group, to, error);
    if (rc == 0 && truth != NULL)
        rc = put_verifier(core, request->truth != NULL ? request->file : NULL, truth, TRUTH, &group_truth, to, error);
    if (rc == 0 && group_truth)
        rc = error_set(error, ERR_REFUSED, "'%.64s' compares rollouts with each other, and cannot tell which is right",
                       truth);
    for (uint32_t i = 0; i < len && rc == 0 && group; i++)
        if (sources[i].n > LIMIT_GROUP)
            rc = error_set(error, ERR_RANGE, "verifier '%.64s' compares at most %d rollouts, and a prompt has %u",
                           request->verifier, LIMIT_GROUP, sources[i].n);
    for (uint32_t i = 0; i < len && rc == 0; i++)
        compile_known_pool(core, sources[i].pool, i, to);
    if (rc == 0)
        rc = put_sweep(&sweep, request, truth != NULL, to, error);
    for (uint32_t i = 0; i < len && rc == 0; i++)
        put_arm(core, &sources[i], i, to);
    return rc;
}
