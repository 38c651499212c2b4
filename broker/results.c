/* results.c - see results.h. */
#include "broker/results.h"

#include "broker/core/fact.h"
#include "broker/decisions.h"
#include "broker/detail.h"
#include "broker/own_names.h"
#include "broker/prompt_id.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/limits.h"
#include "common/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/* -- features: the core keeps one of them, the journal all ------------------------------------------- */

/* Of one result; found by where its text stands, which no two results share. */
struct recorded {
    uint64_t commit;
    uint32_t offset, have, reread, cached;
    uint8_t logprobs; /* enum logprob_mode */
    bool by_ids;
    size_t at; /* of its first feature in `values` */
};

/* Where the details of a verdict stand. While the journal is read, also verify leases that no verdict has ended. */
struct detail {
    uint64_t lease;
    struct key key;
    struct ref ref;
    UT_hash_handle hh, hh_lease;
};

struct recordings {
    struct recorded *items;
    size_t len, cap;
    struct buf values;       /* doubles */
    struct detail *by_lease; /* hash */
    struct detail *by_key;   /* hash */
};

static struct key key_of_lease(const struct fact_lease *f)
{
    struct key key;
    memset(&key, 0, sizeof key); /* its bytes are hashed */
    key.kind = f->kind;
    key.owner = f->owner;
    key.prompt = f->prompt;
    key.tree = f->tree;
    key.item = f->item;
    key.verifier = f->verifier;
    return key;
}

static void detail_begin(struct recordings *all, const struct fact_lease *f)
{
    if (f->kind != TASK_VERIFY)
        return;
    struct detail *detail = xalloc(sizeof *detail);
    detail->lease = f->lease;
    detail->key = key_of_lease(f);
    HASH_ADD(hh_lease, all->by_lease, lease, sizeof detail->lease, detail);
}

static void detail_end(struct recordings *all, const struct fact_verdict *f)
{
    struct detail *detail, *old;
    HASH_FIND(hh_lease, all->by_lease, &f->lease, sizeof f->lease, detail);
    if (detail == NULL)
        return;
    HASH_DELETE(hh_lease, all->by_lease, detail);
    detail->ref = (struct ref){f->ref_commit, f->ref_offset, f->ref_len};
    HASH_FIND(hh, all->by_key, &detail->key, sizeof detail->key, old);
    if (old != NULL) { /* it was voided, and asked for again */
        HASH_DEL(all->by_key, old);
        free(old);
    }
    if (detail->ref.commit == 0)
        free(detail);
    else
        HASH_ADD(hh, all->by_key, key, sizeof detail->key, detail);
}

static void recordings_clear(struct recordings *all)
{
    struct detail *detail, *next;
    HASH_ITER (hh_lease, all->by_lease, detail, next) {
        HASH_DELETE(hh_lease, all->by_lease, detail);
        free(detail);
    }
    HASH_ITER (hh, all->by_key, detail, next) {
        HASH_DEL(all->by_key, detail);
        free(detail);
    }
    free(all->items);
    buf_clear(&all->values);
}

static void record(struct recordings *all, const struct fact_result *f)
{
    if (f->ref_commit == 0)
        return;
    if (all->len == all->cap) {
        all->cap = all->cap == 0 ? 256 : 2 * all->cap;
        all->items = xrealloc(all->items, all->cap * sizeof *all->items);
    }
    size_t present = (size_t)__builtin_popcount(f->have & ((1u << FEATURES) - 1));
    all->items[all->len++] = (struct recorded){
        .commit = f->ref_commit,
        .offset = f->ref_offset,
        .have = f->features.len >= present * sizeof(double) ? f->have : 0,
        .reread = f->tokens_reread,
        .cached = f->tokens_cached,
        .logprobs = f->logprob_mode,
        .by_ids = f->by_ids != 0,
        .at = all->values.len / sizeof(double),
    };
    buf_put(&all->values, f->features.data, f->features.len / sizeof(double) * sizeof(double));
}

static int record_commit(void *arg, uint64_t commit, struct slice facts)
{
    struct fact fact;
    (void)commit;
    for (size_t at = 0; at < facts.len;) {
        int rc = fact_get(facts, &at, &fact);
        if (rc != 0)
            return ERR_CORRUPT;
        if (fact.type == FACT_result)
            record(arg, &fact.result);
        else if (fact.type == FACT_lease)
            detail_begin(arg, &fact.lease);
        else if (fact.type == FACT_verdict)
            detail_end(arg, &fact.verdict);
    }
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct recorded *x = a, *y = b;
    return x->commit != y->commit ? (x->commit > y->commit) - (x->commit < y->commit)
                                  : (x->offset > y->offset) - (x->offset < y->offset);
}

static const struct recorded *recorded_at(const struct recordings *all, struct ref ref)
{
    const struct recorded wanted = {.commit = ref.commit, .offset = ref.offset};
    return ref.commit == 0 || all->len == 0 ? NULL : bsearch(&wanted, all->items, all->len, sizeof wanted, by_place);
}

/* -- lines -------------------------------------------------------------------------------------------- */

struct writer {
    const struct core *core;
    struct journal *journal;
    struct sweep_info sweep;
    struct own_names *names;
    enum results_detail detail;
    struct decisions decisions; /* on the prompt at hand */
    uint32_t *bounds;           /* by verifier: its verdicts belong to ordinals below, of the prompt at hand */
    struct recordings recordings;
    uint8_t *checked; /* by commit: its texts passed their checksum */
    uint64_t commits;
    int (*put)(void *arg, struct slice line);
    void *arg;
    uint64_t *digest; /* instead of put */
    struct buf id, blob, text, line;
    struct error *error;
};

/* A commit's texts share one checksum, so the first read of each commit verifies it. */
static int fetch(struct writer *writer, struct ref ref, struct buf *out)
{
    bool known = ref.commit < writer->commits;
    bool verify = known && !writer->checked[ref.commit];
    int rc =
        journal_text(writer->journal, (struct text_ref){ref.commit, ref.offset, ref.len}, verify, out, writer->error);
    if (rc == 0 && known)
        writer->checked[ref.commit] = 1;
    return rc;
}

static int bad_text(const struct writer *writer, struct ref ref)
{
    return error_set(writer->error, ERR_CORRUPT, "the text at commit %llu, offset %u is damaged",
                     (unsigned long long)ref.commit, ref.offset);
}

/* Reads what stands behind a rollout's ref: answer and text. */
static int fetch_text(struct writer *writer, struct ref ref, struct slice *answer)
{
    buf_reset(&writer->blob);
    buf_reset(&writer->text);
    *answer = (struct slice){NULL, 0};
    if (ref.commit == 0)
        return 0;
    int rc = fetch(writer, ref, &writer->blob);
    if (rc != 0)
        return rc;
    struct slice frame;
    if (!text_blob(buf_slice(&writer->blob), answer, &frame))
        return bad_text(writer, ref);
    return text_unpack(frame, LIMIT_TEXT, &writer->text) == 0 ? 0 : bad_text(writer, ref);
}

static void put_str(struct buf *line, const char *key, const char *value)
{
    json_key(line, key);
    json_str(line, value);
}

static void put_u64(struct buf *line, const char *key, uint64_t value)
{
    json_key(line, key);
    json_u64(line, value);
}

/* An empty text is no text: null. */
static void put_text(struct buf *line, const char *key, struct slice value, bool present)
{
    json_key(line, key);
    if (present)
        json_text(line, value);
    else
        json_none(line);
}

static const char *finish_text(enum finish finish)
{
    switch (finish) {
#define X(name, value, text) \
    case name:               \
        return text;
        FINISH_TABLE(X)
#undef X
    }
    return "unknown";
}

static const char *cue_name(enum cue cue)
{
    switch (cue) {
#define X(name, value, text) \
    case name:               \
        return text;
        CUE_TABLE(X)
#undef X
    }
    return "unknown";
}

static const char *outcome_text(enum outcome outcome)
{
    switch (outcome) {
#define X(name, value, text) \
    case name:               \
        return text;
        OUTCOME_TABLE(X)
#undef X
    }
    return "unknown";
}

static const char *const feature_names[FEATURES] = {
#define X(name, value, text, help) [name] = text,
    FEATURE_TABLE(X)
#undef X
};

/* What the features that speak of log-probabilities are of. */
static void put_logprobs(const struct recorded *recorded, struct buf *line)
{
    if (recorded != NULL && recorded->logprobs != LOGPROB_NONE)
        put_str(line, "logprobs", recorded->logprobs == LOGPROB_RAW ? "raw" : "sampled");
}

static void put_features(const struct writer *writer, const struct recorded *recorded, struct buf *line)
{
    put_logprobs(recorded, line);
    json_key(line, "features");
    json_begin(line, '{');
    size_t at = recorded == NULL ? 0 : recorded->at;
    for (int i = 0; recorded != NULL && i < FEATURES; i++) {
        if ((recorded->have & 1u << i) == 0)
            continue;
        double value;
        memcpy(&value, writer->recordings.values.data + at++ * sizeof value, sizeof value);
        json_key(line, feature_names[i]);
        json_f64(line, value);
    }
    json_end(line, '}');
}

/* A digest leaves details out, as times may be part of them. */
static int put_detail(struct writer *writer, const struct key *key, uint32_t verifier, struct buf *line)
{
    struct key wanted = key_of_lease(&(struct fact_lease){.kind = TASK_VERIFY,
                                                          .owner = key->owner,
                                                          .prompt = key->prompt,
                                                          .tree = key->tree,
                                                          .item = key->item,
                                                          .verifier = verifier});
    struct detail *detail;
    HASH_FIND(hh, writer->recordings.by_key, &wanted, sizeof wanted, detail);
    if (detail == NULL || writer->digest != NULL)
        return 0;
    struct buf frame = {0};
    int rc = fetch(writer, detail->ref, &frame);
    if (rc == 0)
        detail_put(buf_slice(&frame), line);
    buf_clear(&frame);
    return rc;
}

static int put_verdict(struct writer *writer, const struct key *key, uint32_t verifier, struct buf *line)
{
    struct verdict verdict;
    if (!core_verdict(writer->core, key, verifier, &verdict))
        return 0;
    json_key(line, core_verifier(writer->core, verifier).name);
    json_begin(line, '{');
    put_str(line, "outcome", outcome_text(verdict.outcome));
    json_key(line, "score");
    if (outcome_known(verdict.outcome))
        json_f64(line, verdict.score);
    else
        json_none(line);
    int rc = put_detail(writer, key, verifier, line);
    json_end(line, '}');
    return rc;
}

/* A verdict belongs to the line if an arm of the sweep used it, or it is the truth. Others are there by
 * chance: of another sweep, of a rollout that a stop cut off in time, or of one that was ended early, which only a truth
 * judges. */
static bool belongs(const struct writer *writer, const struct key *key, const struct arm_info *arm, enum finish finish,
                    uint32_t verifier)
{
    if (arm != NULL)
        return verifier == arm->verifier || verifier == arm->truth;
    return key->item < writer->bounds[verifier] && (finish != FINISH_KILLED || verifier == writer->sweep.truth);
}

static int put_verdicts(struct writer *writer, const struct key *key, const struct arm_info *arm, enum finish finish,
                        struct buf *line)
{
    int rc = 0;
    json_key(line, "verdicts");
    json_begin(line, '{');
    for (uint32_t v = 0; v < core_verifiers(writer->core) && rc == 0; v++)
        if (belongs(writer, key, arm, finish, v))
            rc = put_verdict(writer, key, v, line);
    json_end(line, '}');
    return rc;
}

static void put_place(const struct key *key, const struct rollout_info *rollout, const struct arm_info *arm,
                      struct buf *line)
{
    if (arm == NULL) {
        put_u64(line, "ordinal", key->item);
        return;
    }
    put_u64(line, "tree", key->tree);
    put_u64(line, "node", key->item);
    json_key(line, "parent");
    if (rollout->parent == NO_ORDINAL)
        json_none(line);
    else
        json_u64(line, rollout->parent);
    if (rollout->cue != CUE_NONE)
        put_str(line, "cue", cue_name(rollout->cue));
}

/* Below the prompt, what a task read depends on which prefixes were warm. */
static bool reads_prompt(const struct rollout_info *rollout)
{
    return rollout->parent == NO_ORDINAL;
}

static void put_timing(const struct rollout_info *rollout, const struct recorded *recorded, struct buf *line)
{
    json_key(line, "timing");
    json_begin(line, '{');
    put_u64(line, "latency_ms", rollout->latency_ms);
    json_key(line, "raced");
    json_bool(line, rollout->raced);
    if (!reads_prompt(rollout))
        put_u64(line, "tokens_in", rollout->tokens_in);
    if (recorded != NULL)
        put_u64(line, "tokens_reread", recorded->reread);
    if (recorded != NULL && recorded->cached > 0)
        put_u64(line, "tokens_cached", recorded->cached);
    if (recorded != NULL && recorded->by_ids) {
        json_key(line, "by_ids");
        json_bool(line, true);
    }
    json_end(line, '}');
}

/* Tells the pool apart from that of the same model whose rollouts are whole. */
static void put_kill(struct kill_rule kill, struct buf *line)
{
    if (kill.window == 0)
        return;
    json_key(line, "kill");
    json_begin(line, '{');
    put_u64(line, "window", kill.window);
    put_u64(line, "warmup", kill.warmup);
    json_key(line, "keep");
    json_f64(line, kill.keep);
    json_end(line, '}');
}

/* Equal for equal answers of a sweep; 64 bits are more than a number of JSON holds. */
static void put_class(struct buf *line, uint64_t class)
{
    char text[17];
    json_key(line, "class");
    if (class == 0) {
        json_none(line);
        return;
    }
    snprintf(text, sizeof text, "%016llx", (unsigned long long)class);
    json_str(line, text);
}

/* One line; arm: of a node, NULL for a rollout of a pool. */
static int write_line(struct writer *writer, const struct key *key, const struct arm_info *arm, const char *model)
{
    struct rollout_info rollout;
    if (!core_rollout(writer->core, key, &rollout) || rollout.state == ROLLOUT_OPEN)
        return 0;
    struct slice answer;
    int rc = fetch_text(writer, rollout.ref, &answer);
    if (rc != 0)
        return rc;
    struct buf *line = &writer->line;
    const struct recorded *recorded = recorded_at(&writer->recordings, rollout.ref);
    buf_reset(line);
    json_begin(line, '{');
    put_str(line, "sweep", writer->sweep.name);
    put_str(line, "model", model);
    if (arm == NULL)
        put_kill(core_pool(writer->core, key->owner).kill, line);
    if (arm != NULL) {
        put_str(line, "arm", arm->name);
        put_u64(line, "n", arm->n);
    }
    put_text(line, "prompt", buf_slice(&writer->id), true);
    put_place(key, &rollout, arm, line);
    put_text(line, "text", buf_slice(&writer->text), rollout.ref.commit != 0);
    put_text(line, "answer", answer, answer.len > 0);
    put_str(line, "finish", finish_text(rollout.finish));
    if (reads_prompt(&rollout))
        put_u64(line, "tokens_in", rollout.tokens_in);
    put_u64(line, "tokens_out", rollout.tokens_out);
    put_u64(line, "seed", core_seed(writer->core, key));
    if (writer->detail >= RESULTS_FEATURES)
        put_features(writer, recorded, line);
    rc = put_verdicts(writer, key, arm, rollout.finish, line);
    if (rc != 0)
        return rc;
    if (writer->detail == RESULTS_DECISIONS) {
        put_class(line, rollout.class);
        decisions_put(&writer->decisions, key, line);
    }
    if (writer->digest != NULL) {
        *writer->digest = hash_more(*writer->digest, line->data, line->len);
        return 0;
    }
    put_timing(&rollout, recorded, line);
    json_end(line, '}');
    buf_puts(line, "\n");
    return writer->put(writer->arg, buf_slice(line));
}

/* -- order ---------------------------------------------------------------------------------------------- */

static int load_id(struct writer *writer, uint32_t set, uint32_t prompt)
{
    struct ref ref = core_prompt(writer->core, set, prompt).ref;
    buf_reset(&writer->id);
    buf_reset(&writer->blob);
    int rc = ref.commit == 0 ? 0 : fetch(writer, ref, &writer->blob);
    if (rc == 0)
        prompt_id(buf_slice(&writer->blob), prompt, &writer->id);
    return rc;
}

static struct arm_info arm_at(const struct writer *writer, uint32_t i)
{
    return core_arm(writer->core, core_sweep_arm(writer->core, writer->sweep.id, i));
}

static void raise_to(uint32_t *bound, uint32_t to)
{
    *bound = to > *bound ? to : *bound;
}

/* Longest prefix of this prompt that an arm of the sweep was delivered; sets the bounds of verdicts. */
static uint32_t delivered_to(struct writer *writer, uint32_t pool, uint32_t prompt)
{
    uint32_t most = 0;
    memset(writer->bounds, 0, core_verifiers(writer->core) * sizeof *writer->bounds);
    for (uint32_t i = 0; i < writer->sweep.arms; i++) {
        struct arm_info arm = arm_at(writer, i);
        uint32_t delivered = core_arm_reach(writer->core, arm.id, pool, prompt);
        raise_to(&most, delivered);
        if (delivered > 0 && arm.verifier != NO_ID)
            raise_to(&writer->bounds[arm.verifier], delivered);
    }
    if (writer->sweep.truth != NO_ID)
        writer->bounds[writer->sweep.truth] = most;
    return most;
}

static int write_pool(struct writer *writer, uint32_t id)
{
    struct pool_info pool = core_pool(writer->core, id);
    const char *model = own_name(writer->names, id);
    for (uint32_t p = 0; p < pool.prompts; p++) {
        uint32_t len = delivered_to(writer, id, p);
        int rc = len > 0 ? load_id(writer, pool.set, p) : 0;
        if (writer->detail == RESULTS_DECISIONS)
            decisions_of_pool(&writer->decisions, writer->core, writer->sweep.id, id, p);
        for (uint32_t k = 0; k < len && rc == 0; k++)
            rc = write_line(writer, &(struct key){TASK_GENERATE, id, p, NO_ID, k, NO_ID}, NULL, model);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int write_trees(struct writer *writer, const struct arm_info *arm)
{
    uint32_t set = core_pool(writer->core, arm->pools[0]).set;
    const char *model = own_name(writer->names, arm->pools[0]);
    for (uint32_t p = 0; p < arm->prompts; p++) {
        int rc = core_cell(writer->core, arm->id, p).trees ? load_id(writer, set, p) : 0;
        if (writer->detail == RESULTS_DECISIONS)
            decisions_of_tree(&writer->decisions, writer->core, arm->id, p);
        for (uint32_t t = 0; t < arm->trees && rc == 0; t++) {
            uint32_t len = core_tree_nodes(writer->core, arm->id, p, t);
            for (uint32_t n = 0; n < len && rc == 0; n++)
                rc = write_line(writer, &(struct key){TASK_GENERATE, arm->id, p, t, n, NO_ID}, arm, model);
        }
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int write_all(struct writer *writer)
{
    int rc = 0;
    if (writer->detail >= RESULTS_FEATURES) {
        rc = journal_scan(writer->journal, 1, record_commit, &writer->recordings, writer->error);
        if (writer->recordings.len > 0)
            qsort(writer->recordings.items, writer->recordings.len, sizeof(struct recorded), by_place);
    }
    for (uint32_t i = 0; i < core_pools(writer->core) && rc == 0; i++)
        rc = write_pool(writer, i);
    for (uint32_t i = 0; i < writer->sweep.arms && rc == 0; i++) {
        struct arm_info arm = arm_at(writer, i);
        if (arm.trees > 0)
            rc = write_trees(writer, &arm);
    }
    return rc;
}

static int run(struct writer *writer)
{
    writer->names = own_names_new(writer->core, writer->sweep.id);
    writer->commits = journal_next(writer->journal);
    writer->checked = xalloc(writer->commits);
    writer->bounds = xalloc(core_verifiers(writer->core) * sizeof *writer->bounds);
    int rc = write_all(writer);
    own_names_free(&writer->names);
    free(writer->checked);
    free(writer->bounds);
    recordings_clear(&writer->recordings);
    decisions_clear(&writer->decisions);
    buf_clear(&writer->id);
    buf_clear(&writer->blob);
    buf_clear(&writer->text);
    buf_clear(&writer->line);
    return rc;
}

int results_write(const struct core *core, struct journal *journal, uint32_t sweep, enum results_detail detail,
                  int (*put)(void *arg, struct slice line), void *arg, struct error *error)
{
    struct writer writer = {
        .core = core,
        .journal = journal,
        .sweep = core_sweep(core, sweep),
        .detail = detail,
        .put = put,
        .arg = arg,
        .error = error,
    };
    return run(&writer);
}

int results_digest(const struct core *core, struct journal *journal, uint32_t sweep, uint64_t *digest,
                   struct error *error)
{
    *digest = 0;
    struct writer writer = {
        .core = core,
        .journal = journal,
        .sweep = core_sweep(core, sweep),
        .detail = RESULTS_FEATURES,
        .digest = digest,
        .error = error,
    };
    return run(&writer);
}
