/* prior.c - see prior.h. */
#include "broker/prior.h"
#include "broker/compile.h"
#include "broker/prompt_id.h"
#include "common/hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- beliefs from counts ---- */

static float belief_clamp(double value)
{
    return fminf(fmaxf((float)value, BELIEF_MIN), BELIEF_MAX);
}

struct rate_law prior_law(const struct prior_tally *tallies, size_t len)
{
    struct estimate_count *counts = xalloc(len * sizeof *counts);
    for (size_t i = 0; i < len; i++)
        counts[i] = (struct estimate_count){tallies[i].passes, tallies[i].n};
    struct rate_law law = fit_rates(counts, len);
    free(counts);
    return law;
}

void prior_beliefs(const struct rate_law *law, const struct prior_tally *tallies, size_t len, double strength,
                   uint32_t prompts, float (*beliefs)[2])
{
    double(*sums)[2] = xalloc(prompts * sizeof *sums);
    for (size_t i = 0; i < len; i++) {
        const struct prior_tally *tally = &tallies[i];
        double weight = tally->own ? 1 : strength;
        sums[tally->prompt][0] += weight * tally->passes;
        sums[tally->prompt][1] += weight * (tally->n - tally->passes);
    }
    for (uint32_t p = 0; p < prompts; p++) {
        beliefs[p][0] = belief_clamp(law->alpha + sums[p][0]);
        beliefs[p][1] = belief_clamp(law->beta + sums[p][1]);
    }
    free(sums);
}

/* ---- counts ---- */

bool prior_is_file(const char *from)
{
    size_t len = strlen(from);
    return strchr(from, '/') != NULL || (len > 6 && strcmp(from + len - 6, ".jsonl") == 0);
}

struct finding {
    const struct sweep_spec *spec;
    const struct sweep_arm *arm;
    const struct prompt_set *set;
    const struct core *core;
    struct journal *journal;
    struct buf tallies; /* struct prior_tally each */
    struct error *error;
};

static void tally_add(struct finding *f, uint32_t prompt, uint32_t passes, uint32_t n, bool own)
{
    struct prior_tally tally = {prompt, passes, n, own};
    if (n > 0)
        buf_put(&f->tallies, &tally, sizeof tally);
}

struct id_entry {
    uint64_t hash;
    uint32_t prompt;
};

static int by_hash(const void *a, const void *b)
{
    const struct id_entry *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->prompt > y->prompt) - (x->prompt < y->prompt);
}

/* The prompts of the new sweep, to be found by their ids. */
struct id_index {
    const struct prompt_set *set;
    struct id_entry *at;
};

static struct id_index index_new(const struct prompt_set *set)
{
    struct id_index index = {set, xalloc(set->len * sizeof *index.at)};
    for (uint32_t p = 0; p < set->len; p++)
        index.at[p] = (struct id_entry){hash_bytes(set->prompts[p].id, strlen(set->prompts[p].id)), p};
    qsort(index.at, set->len, sizeof *index.at, by_hash);
    return index;
}

static uint32_t index_find(const struct id_index *index, struct slice id)
{
    uint64_t hash = hash_bytes(id.data, id.len);
    uint32_t low = 0, high = index->set->len;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (index->at[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < index->set->len && index->at[low].hash == hash; low++) {
        const char *known = index->set->prompts[index->at[low].prompt].id;
        if (strlen(known) == id.len && memcmp(known, id.data, id.len) == 0)
            return index->at[low].prompt;
    }
    return NO_ID;
}

static void find_in_file(struct finding *f, const struct prior_file *file)
{
    struct id_index index = index_new(f->set);
    for (uint32_t i = 0; i < file->len; i++) {
        uint32_t prompt = index_find(&index, slice_of(file->counts[i].prompt));
        if (prompt != NO_ID)
            tally_add(f, prompt, file->counts[i].passes, file->counts[i].n, false);
    }
    free(index.at);
}

/* The prompts of a set of the core as prompts of the new sweep; NO_ID for those that it does not have. */
static int match_prompts(const struct finding *f, uint32_t set, uint32_t *to)
{
    uint32_t len = core_set_prompts(f->core, set);
    bool same = core_set_digest(f->core, set) == f->set->digest && len == f->set->len;
    struct id_index index = same ? (struct id_index){0} : index_new(f->set);
    struct buf record = {0}, id = {0};
    int rc = 0;
    for (uint32_t p = 0; rc == 0 && p < len; p++) {
        to[p] = p;
        if (same)
            continue;
        struct ref ref = core_prompt(f->core, set, p).ref;
        buf_reset(&record);
        buf_reset(&id);
        rc = journal_text(f->journal, (struct text_ref){ref.commit, ref.offset, ref.len}, false, &record, f->error);
        if (rc == 0)
            prompt_id(buf_slice(&record), p, &id);
        to[p] = rc == 0 ? index_find(&index, buf_slice(&id)) : NO_ID;
    }
    buf_clear(&record);
    buf_clear(&id);
    free(index.at);
    return rc;
}

/* What came in beyond is left out, as short ones come first. */
static uint32_t delivered_to(const struct core *core, uint32_t sweep, uint32_t pool, uint32_t prompt)
{
    uint32_t most = 0, arms = core_sweep(core, sweep).arms;
    for (uint32_t i = 0; i < arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, sweep, i));
        uint32_t delivered = core_arm_reach(core, arm.id, pool, prompt);
        most = delivered > most ? delivered : most;
    }
    return most;
}

struct prior_tally prior_count(const struct core *core, uint32_t sweep, uint32_t pool, uint32_t prompt,
                               uint32_t verifier)
{
    struct prior_tally tally = {.prompt = prompt};
    uint32_t len = delivered_to(core, sweep, pool, prompt);
    for (uint32_t k = 0; k < len; k++) {
        struct verdict verdict;
        if (!core_verdict(core, &(struct key){TASK_GENERATE, pool, prompt, NO_ID, k, NO_ID}, verifier, &verdict) ||
            !outcome_decides(verdict.outcome))
            continue;
        tally.n++;
        tally.passes += verdict.outcome == OUTCOME_PASS;
    }
    return tally;
}

/* Of the verifier with this name that the pool learned last; NO_ID: it knows none. */
static uint32_t verifier_of(const struct core *core, const struct pool_info *pool, const char *name)
{
    uint32_t found = NO_ID;
    for (uint32_t i = 0; i < pool->verifiers_len; i++)
        if (strcmp(core_verifier(core, pool->verifiers[i]).name, name) == 0 &&
            (found == NO_ID || pool->verifiers[i] > found))
            found = pool->verifiers[i];
    return found;
}

/* The arm is about to draw from this pool itself. */
static bool draws(const struct finding *f, uint32_t pool)
{
    for (uint32_t leg = 0; leg < f->arm->schedule.legs; leg++)
        if (pool == compile_pool(f->spec, f->arm->models[leg], f->set, f->core))
            return true;
    return false;
}

static bool own_model(const struct finding *f, const struct model_info *model)
{
    for (uint32_t leg = 0; leg < f->arm->schedule.legs; leg++)
        if (compile_same_model(&f->spec->models[f->arm->models[leg]], model))
            return true;
    return false;
}

static int find_in_pool(struct finding *f, uint32_t sweep, uint32_t id)
{
    struct pool_info pool = core_pool(f->core, id);
    struct model_info model = core_model(f->core, pool.model);
    uint32_t verifier = verifier_of(f->core, &pool, f->spec->verifiers[f->arm->verifier].name);
    if (verifier == NO_ID || draws(f, id) || pool.kill.window > 0)
        return 0; /* of a pool with a kill rule not all are whole, and the others are those of the model's own pool */
    bool own = own_model(f, &model);
    uint32_t *prompts = xalloc((pool.prompts + 1) * sizeof *prompts);
    int rc = match_prompts(f, pool.set, prompts);
    for (uint32_t p = 0; rc == 0 && p < pool.prompts; p++) {
        if (prompts[p] == NO_ID)
            continue;
        struct prior_tally tally = prior_count(f->core, sweep, id, p, verifier);
        tally_add(f, prompts[p], tally.passes, tally.n, own);
    }
    free(prompts);
    return rc;
}

bool prior_samples(const struct core *core, uint32_t sweep, uint32_t pool)
{
    for (uint32_t i = 0; i < core_sweep(core, sweep).arms; i++)
        if (core_arm_draws(core, core_sweep_arm(core, sweep, i), pool))
            return true;
    return false;
}

static int find_in_sweep(struct finding *f)
{
    uint32_t id = core_sweep_find(f->core, slice_of(f->arm->prior.from));
    if (id == NO_ID)
        return error_set(f->error, ERR_NOT_FOUND,
                         "arm '%s': its prior '%.100s' is no sweep of this state folder (and no file: the name of one "
                         "holds a '/' or ends in .jsonl)",
                         f->arm->name, f->arm->prior.from);
    int rc = 0;
    for (uint32_t pool = 0; rc == 0 && pool < core_pools(f->core); pool++)
        if (prior_samples(f->core, id, pool))
            rc = find_in_pool(f, id, pool);
    return rc;
}

static int find_tallies(struct finding *f)
{
    const struct sweep_prior *prior = &f->arm->prior;
    const char *verifier = f->spec->verifiers[f->arm->verifier].name;
    const struct prior_file *file = prior_files_find(&f->set->priors, prior->from, verifier);
    int rc = 0;
    if (!prior->file)
        rc = find_in_sweep(f);
    else if (file == NULL)
        rc = error_set(f->error, ERR_PROTOCOL, "arm '%s': the counts of '%.100s' did not come with the prompts",
                       f->arm->name, prior->from);
    else
        find_in_file(f, file);
    if (rc == 0 && f->tallies.len == 0)
        rc = error_set(
            f->error, ERR_NOT_FOUND,
            "arm '%s': its prior '%.100s' holds no verdict of '%s' on these prompts, but for rollouts that the "
            "arm draws itself: name another, or give the sweep another seed",
            f->arm->name, prior->from, verifier);
    return rc;
}

/* Of a sweep its name says it, as an arm keeps what it began with; of a file, what it holds. */
static char *source_text(const struct sweep_prior *prior, const struct buf *tallies)
{
    struct buf text = {0};
    buf_printf(&text, "%s %s", prior->file ? "file" : "sweep", prior->from);
    if (prior->file)
        buf_printf(&text, " %016llx", (unsigned long long)hash_bytes(tallies->data, tallies->len));
    buf_printf(&text, " strength %g", prior->strength);
    return text.data;
}

int priors_find(struct sweep_spec *spec, const struct prompt_set *set, const struct core *core, struct journal *journal,
                struct error *error)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < spec->arms_len; i++) {
        struct sweep_arm *arm = &spec->arms[i];
        struct finding f = {.spec = spec, .arm = arm, .set = set, .core = core, .journal = journal, .error = error};
        if (arm->prior.from == NULL)
            continue;
        rc = find_tallies(&f);
        if (rc == 0) {
            const struct prior_tally *tallies = (const struct prior_tally *)(const void *)f.tallies.data;
            size_t len = f.tallies.len / sizeof *tallies;
            struct rate_law law = prior_law(tallies, len);
            arm->beliefs = xalloc(set->len * sizeof *arm->beliefs);
            prior_beliefs(&law, tallies, len, arm->prior.strength, set->len, arm->beliefs);
            arm->belief_source = source_text(&arm->prior, &f.tallies);
        }
        buf_clear(&f.tallies);
    }
    return rc;
}
