/* events.c - see events.h. */
#include "broker/events.h"

#include "broker/core/read.h"
#include "broker/detail.h"
#include "broker/prompt_id.h"
#include "common/json.h"
#include "common/limits.h"
#include "common/text.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

/* -- what ids mean ---------------------------------------------------------------------------------------------------- */

struct name {
    char text[LIMIT_NAME + 1];
};

struct arm {
    struct name name;
    uint32_t sweep, n;
    struct schedule schedule; /* which leg has which of its rollouts */
    uint32_t pools[LIMIT_LEGS];
};

struct pool {
    uint32_t set, model;
    bool wanted; /* by an arm of the sweep of the options */
};

struct set {
    struct text_ref *refs; /* records of its prompts */
    uint32_t len, cap;
};

struct lease {
    uint64_t id;
    struct key key;
    uint32_t payer;
    bool lost;                 /* a result may still come, if no other attempt wins */
    bool ended;                /* stands in `ended` */
    struct lease *prev, *next; /* lost ones of one place */
    UT_hash_handle hh;
};

/* Where leases were lost. They go when another attempt has won there: nothing can name them any more. */
struct place {
    struct {
        uint32_t owner, prompt, tree;
    } id;
    struct lease *lost;
    UT_hash_handle hh;
};

/* A growing array whose ids count from 0. */
struct table {
    char *items;
    size_t size; /* of one */
    uint32_t len, cap;
};

/* Ids of prompts that were read last: reading one means parsing its record. */
enum { IDS = 1 << 14 };
struct id {
    uint32_t set, prompt;
    char *text;
};

struct events {
    struct events_options options;
    uint64_t next;
    uint32_t learned; /* facts of this commit that are known already: it is taken again */
    struct table sweeps, arms, pools, sets, models, verifiers;
    struct lease *leases, *last; /* last: that was looked for */
    struct place *places;
    struct buf ended; /* struct lease *: of the commit at hand, those that no later fact can name */
    struct id *ids;
    bool found, skip; /* skip: the event at hand is not one of the sweep of the options */
    struct slice texts;
    struct buf line, blob, text;
};

/* The item with this id: one more than there are makes a new one. NULL: such an id cannot be. */
static void *table_new(struct table *table, uint32_t id)
{
    if (id > table->len || id == UINT32_MAX)
        return NULL;
    if (id == table->cap) {
        table->cap = table->cap == 0 ? 16 : 2 * table->cap;
        table->items = xrealloc(table->items, table->cap * table->size);
    }
    char *item = table->items + id * table->size;
    if (id == table->len) {
        memset(item, 0, table->size);
        table->len++;
    }
    return item;
}

static void *table_at(const struct table *table, uint32_t id)
{
    return id < table->len ? table->items + id * table->size : NULL;
}

/* -- leases --------------------------------------------------------------------------------------------------------------- */

static struct lease *lease_of(struct events *events, uint64_t id)
{
    if (events->last == NULL || events->last->id != id)
        HASH_FIND(hh, events->leases, &id, sizeof id, events->last);
    return events->last;
}

static struct place *place_of(const struct events *events, struct place *wanted)
{
    struct place *place;
    HASH_FIND(hh, events->places, &wanted->id, sizeof wanted->id, place);
    return place;
}

static struct place *place_at(struct events *events, uint32_t owner, uint32_t prompt, uint32_t tree)
{
    struct place wanted = {.id = {owner, prompt, tree}};
    return place_of(events, &wanted);
}

static void lose(struct events *events, struct lease *lease)
{
    if (lease == NULL || lease->lost)
        return;
    struct place wanted = {.id = {lease->key.owner, lease->key.prompt, lease->key.tree}};
    struct place *place = place_of(events, &wanted);
    if (place == NULL) {
        place = xalloc(sizeof *place);
        place->id = wanted.id;
        HASH_ADD(hh, events->places, id, sizeof place->id, place);
    }
    lease->lost = true;
    DL_APPEND(place->lost, lease);
}

static void end(struct events *events, struct lease *lease)
{
    if (lease == NULL || lease->ended)
        return;
    lease->ended = true;
    buf_put(&events->ended, &lease, sizeof lease);
}

/* The task is closed: lost attempts at it cannot win any more. */
static void end_attempts(struct events *events, const struct key *key)
{
    struct place *place = place_at(events, key->owner, key->prompt, key->tree);
    struct lease *lease;
    DL_FOREACH (place == NULL ? NULL : place->lost, lease)
        if (lease->key.kind == key->kind && lease->key.item == key->item && lease->key.verifier == key->verifier)
            end(events, lease);
}

static void end_won(struct events *events, uint64_t id)
{
    struct lease *lease = lease_of(events, id);
    if (lease == NULL)
        return;
    end_attempts(events, &lease->key);
    end(events, lease);
}

static void end_voided(struct events *events, const struct fact_voided *f)
{
    struct place *place = place_at(events, f->pool, f->prompt, NO_ID);
    struct lease *lease;
    DL_FOREACH (place == NULL ? NULL : place->lost, lease)
        if (lease->key.item >= f->from)
            end(events, lease);
}

/* Of an epoch without fleet nobody is left who could report. */
static void end_all(struct events *events)
{
    struct lease *lease, *next;
    HASH_ITER (hh, events->leases, lease, next)
        end(events, lease);
}

static void note_end(struct events *events, const struct fact *fact)
{
    const struct fact_give_up *given_up = &fact->give_up;
    switch ((int)fact->type) {
    case FACT_epoch:
        if (fact->epoch.fleet_died)
            end_all(events);
        return;
    case FACT_result:
        end_won(events, fact->result.lease);
        return;
    case FACT_verdict:
        end_won(events, fact->verdict.lease);
        return;
    case FACT_fail:
        end(events, lease_of(events, fact->fail.lease));
        return;
    case FACT_lost:
        if (fact->lost.why == LOST_SILENT || fact->lost.why == LOST_GRACE)
            lose(events, lease_of(events, fact->lost.lease));
        else
            end(events, lease_of(events, fact->lost.lease));
        return;
    case FACT_correct:
        end(events, lease_of(events, fact->correct.lease));
        return;
    case FACT_forget:
        end(events, lease_of(events, fact->forget.lease));
        return;
    case FACT_give_up:
        end_attempts(events, &(struct key){given_up->kind, given_up->owner, given_up->prompt, given_up->tree,
                                           given_up->item, given_up->verifier});
        return;
    case FACT_voided:
        end_voided(events, &fact->voided);
        return;
    }
}

static void lease_free(struct events *events, struct lease *lease)
{
    if (lease->lost) {
        struct place *place = place_at(events, lease->key.owner, lease->key.prompt, lease->key.tree);
        DL_DELETE(place->lost, lease);
        if (place->lost == NULL) {
            HASH_DEL(events->places, place);
            free(place);
        }
    }
    HASH_DEL(events->leases, lease);
    free(lease);
}

/* Leases that ended with this commit are forgotten (`gone`), or it is taken again and they are needed. */
static void close_ended(struct events *events, bool gone)
{
    for (size_t at = 0; at < events->ended.len; at += sizeof(struct lease *)) {
        struct lease *lease;
        memcpy(&lease, events->ended.data + at, sizeof lease);
        lease->ended = false;
        if (gone)
            lease_free(events, lease);
    }
    events->last = NULL;
    buf_reset(&events->ended);
}

struct events *events_new(const struct events_options *options)
{
    struct events *events = xalloc(sizeof *events);
    *events = (struct events){.options = *options, .next = 1};
    events->sweeps.size = events->models.size = events->verifiers.size = sizeof(struct name);
    events->arms.size = sizeof(struct arm);
    events->pools.size = sizeof(struct pool);
    events->sets.size = sizeof(struct set);
    events->ids = xalloc(IDS * sizeof *events->ids);
    return events;
}

void events_free(struct events **events_ptr)
{
    struct events *events = *events_ptr;
    if (events == NULL)
        return;
    end_all(events);
    close_ended(events, true);
    buf_clear(&events->ended);
    for (uint32_t i = 0; i < events->sets.len; i++)
        free(((struct set *)table_at(&events->sets, i))->refs);
    for (size_t i = 0; i < IDS; i++)
        free(events->ids[i].text);
    struct table *tables[] = {&events->sweeps, &events->arms,   &events->pools,
                              &events->sets,   &events->models, &events->verifiers};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        free(tables[i]->items);
    free(events->ids);
    buf_clear(&events->line);
    buf_clear(&events->blob);
    buf_clear(&events->text);
    free(events);
    *events_ptr = NULL;
}

uint64_t events_next(const struct events *events)
{
    return events->next;
}

bool events_found(const struct events *events)
{
    return events->found;
}

void events_sweeps(const struct events *events, void (*name)(void *arg, const char *name), void *arg)
{
    for (uint32_t i = 0; i < events->sweeps.len; i++)
        name(arg, ((const struct name *)table_at(&events->sweeps, i))->text);
}

/* -- sequence numbers -------------------------------------------------------------------------------------------------- */

static bool digits(struct slice *text, uint64_t max, uint64_t *value)
{
    size_t at = 0;
    for (*value = 0; at < text->len && text->data[at] >= '0' && text->data[at] <= '9'; at++) {
        uint64_t digit = (uint64_t)(text->data[at] - '0');
        if (*value > (max - digit) / 10)
            return false;
        *value = *value * 10 + digit;
    }
    *text = (struct slice){text->data + at, text->len - at};
    return at > 0;
}

bool seq_parse(struct slice text, struct seq *seq)
{
    uint64_t index = 0;
    if (!digits(&text, UINT64_MAX, &seq->commit))
        return false;
    if (text.len > 0 && text.data[0] == '-') {
        text = (struct slice){text.data + 1, text.len - 1};
        if (!digits(&text, UINT32_MAX, &index))
            return false;
    }
    seq->index = (uint32_t)index;
    return text.len == 0;
}

void seq_put(struct buf *out, struct seq seq)
{
    buf_put_u64(out, seq.commit);
    buf_put(out, "-", 1);
    buf_put_u64(out, seq.index);
}

bool seq_before(struct seq a, struct seq b)
{
    return a.commit < b.commit || (a.commit == b.commit && a.index < b.index);
}

/* -- learning ----------------------------------------------------------------------------------------------------------- */

static bool set_name(struct name *name, struct slice text)
{
    if (name == NULL || text.len > LIMIT_NAME)
        return false;
    memcpy(name->text, text.data, text.len);
    name->text[text.len] = '\0';
    return true;
}

static bool is_wanted(const struct events *events, uint32_t sweep)
{
    const struct name *name = table_at(&events->sweeps, sweep);
    return events->options.sweep == NULL || (name != NULL && strcmp(name->text, events->options.sweep) == 0);
}

static bool learn_sweep(struct events *events, const struct fact_sweep *f)
{
    if (!set_name(table_new(&events->sweeps, f->id), f->name))
        return false;
    events->found |= is_wanted(events, f->id);
    return true;
}

/* Its pools, and in which order it draws from them. */
static bool learn_legs(const struct fact_arm *f, struct arm *arm)
{
    bool several = f->pools.len > 0;
    arm->pools[0] = f->pool;
    arm->schedule = (struct schedule){.rounds = f->rounds != 0, .legs = 1};
    if (!several)
        return true;
    if (f->pools.len > sizeof arm->pools || f->lens.len != f->pools.len || f->pools.len % sizeof *arm->pools != 0)
        return false;
    arm->schedule.legs = (uint32_t)(f->pools.len / sizeof *arm->pools);
    memcpy(arm->pools, f->pools.data, f->pools.len);
    memcpy(arm->schedule.len, f->lens.data, f->lens.len);
    return schedule_valid(&arm->schedule, f->n);
}

static bool learn_arm(struct events *events, const struct fact_arm *f)
{
    struct arm *arm = table_new(&events->arms, f->id);
    if (arm == NULL || table_at(&events->sweeps, f->sweep) == NULL || !learn_legs(f, arm) ||
        !set_name(&arm->name, f->name))
        return false;
    arm->sweep = f->sweep;
    arm->n = f->n;
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++) {
        struct pool *pool = table_at(&events->pools, arm->pools[leg]);
        if (pool == NULL)
            return false;
        pool->wanted |= is_wanted(events, f->sweep);
    }
    return true;
}

static bool learn_pool(struct events *events, const struct fact_pool *f)
{
    struct pool *pool = table_new(&events->pools, f->id);
    if (pool == NULL || table_at(&events->sets, f->set) == NULL || table_at(&events->models, f->model) == NULL)
        return false;
    pool->set = f->set;
    pool->model = f->model;
    return true;
}

static bool learn_prompt(struct events *events, const struct fact_prompt *f)
{
    struct set *set = table_at(&events->sets, f->set);
    if (set == NULL || set->len == LIMIT_PROMPTS)
        return false;
    if (set->len == set->cap) {
        set->cap = set->cap == 0 ? 64 : 2 * set->cap;
        set->refs = xrealloc(set->refs, set->cap * sizeof *set->refs);
    }
    set->refs[set->len++] = (struct text_ref){f->ref_commit, f->ref_offset, f->ref_len};
    return true;
}

static bool learn_lease(struct events *events, const struct fact_lease *f)
{
    if (lease_of(events, f->lease) != NULL)
        return false;
    struct lease *lease = xalloc(sizeof *lease);
    lease->id = f->lease;
    lease->key = (struct key){f->kind, f->owner, f->prompt, f->tree, f->item, f->verifier};
    lease->payer = f->payer;
    HASH_ADD(hh, events->leases, id, sizeof lease->id, lease);
    events->last = lease;
    return true;
}

static bool learn(struct events *events, const struct fact *fact)
{
    switch ((int)fact->type) {
    case FACT_set:
        return table_new(&events->sets, fact->set.id) != NULL;
    case FACT_prompt:
        return learn_prompt(events, &fact->prompt);
    case FACT_model:
        return set_name(table_new(&events->models, fact->model.id), fact->model.name);
    case FACT_verifier:
        return set_name(table_new(&events->verifiers, fact->verifier.id), fact->verifier.name);
    case FACT_pool:
        return learn_pool(events, &fact->pool);
    case FACT_sweep:
        return learn_sweep(events, &fact->sweep);
    case FACT_arm:
        return learn_arm(events, &fact->arm);
    case FACT_lease:
        return learn_lease(events, &fact->lease);
    }
    return true;
}

/* -- lines ----------------------------------------------------------------------------------------------------------------- */

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

static void put_text(struct buf *line, const char *key, struct slice value)
{
    json_key(line, key);
    json_text(line, value);
}

static void put_id(struct buf *line, const char *key, uint32_t id)
{
    json_key(line, key);
    if (id == NO_ID)
        json_none(line);
    else
        json_u64(line, id);
}

static const char *name_of(const struct table *names, uint32_t id)
{
    const struct name *name = table_at(names, id);
    return name == NULL ? NULL : name->text;
}

/* The word behind a stored number, whatever the number. */
static const char *word(const char *const *words, size_t len, uint8_t number)
{
    return number < len && words[number] != NULL ? words[number] : "unknown";
}

#define WORDS(name, TABLE)                                          \
    static const char *name(uint8_t number)                         \
    {                                                               \
        static const char *const words[] = {TABLE(ROW)};            \
        return word(words, sizeof words / sizeof words[0], number); \
    }
#define ROW(name, value, text) [value] = text,
WORDS(finish_word, FINISH_TABLE)
WORDS(outcome_word, OUTCOME_TABLE)
WORDS(decided_word, DECIDED_TABLE)
#undef ROW

static const char *const feature_names[FEATURES] = {
#define X(name, value, text, help) [name] = text,
    FEATURE_TABLE(X)
#undef X
};

static int corrupt(const struct events *events, const char *what, struct error *error)
{
    return error_set(error, ERR_CORRUPT, "commit %llu of the journal %s: the journal is damaged or of another version",
                     (unsigned long long)events->next, what);
}

/* What stands at ref: in the texts of the commit at hand, or elsewhere in the journal. */
static int fetch(struct events *events, struct text_ref ref, struct slice *out, struct error *error)
{
    if (ref.commit == events->next && events->texts.len >= ref.offset && events->texts.len - ref.offset >= ref.len) {
        *out = (struct slice){events->texts.data + ref.offset, ref.len};
        return 0;
    }
    buf_reset(&events->blob);
    if (events->options.journal == NULL)
        return corrupt(events, "points to a text elsewhere", error);
    int rc = journal_text(events->options.journal, ref, false, &events->blob, error);
    *out = buf_slice(&events->blob);
    return rc;
}

static int put_prompt(struct events *events, uint32_t set_id, uint32_t prompt, struct error *error)
{
    const struct set *set = table_at(&events->sets, set_id);
    if (set == NULL || prompt >= set->len)
        return corrupt(events, "names a prompt that is not there", error);
    struct id *id = &events->ids[(prompt + set_id * 7919u) % IDS];
    if (id->text == NULL || id->set != set_id || id->prompt != prompt) {
        struct slice record;
        struct buf text = {0};
        int rc = fetch(events, set->refs[prompt], &record, error);
        if (rc != 0)
            return rc;
        prompt_id(record, prompt, &text);
        free(id->text);
        *id = (struct id){set_id, prompt, text.data == NULL ? xstrdup("") : text.data};
    }
    put_str(&events->line, "prompt", id->text);
    return 0;
}

/* Which rollout: of a pool its ordinal, of a tree arm its node. */
static int put_place(struct events *events, const struct key *key, struct error *error)
{
    struct buf *line = &events->line;
    const struct arm *arm = key->tree == NO_ID ? NULL : table_at(&events->arms, key->owner);
    uint32_t id = arm == NULL ? key->owner : arm->pools[0];
    const struct pool *pool = table_at(&events->pools, id);
    if (pool == NULL || (key->tree != NO_ID && arm == NULL))
        return corrupt(events, "names a pool or arm that is not there", error);
    events->skip = arm == NULL ? !(pool->wanted || events->options.sweep == NULL) : !is_wanted(events, arm->sweep);
    if (events->skip)
        return 0;
    put_str(line, "model", name_of(&events->models, pool->model));
    put_u64(line, "pool", id);
    if (arm != NULL) {
        put_str(line, "arm", arm->name.text);
        put_u64(line, "n", arm->n);
    }
    int rc = put_prompt(events, pool->set, key->prompt, error);
    if (arm == NULL) {
        put_u64(line, "ordinal", key->item);
        return rc;
    }
    put_u64(line, "tree", key->tree);
    put_u64(line, "node", key->item);
    return rc;
}

/* The sweep that pays, and which rollout it is about. */
static int put_lease(struct events *events, uint64_t id, const struct lease **lease, struct error *error)
{
    *lease = lease_of(events, id);
    const struct arm *payer = *lease == NULL ? NULL : table_at(&events->arms, (*lease)->payer);
    if (payer == NULL)
        return corrupt(events, "names a lease that was not granted", error);
    put_str(&events->line, "sweep", name_of(&events->sweeps, payer->sweep));
    return put_place(events, &(*lease)->key, error);
}

static void put_features(struct buf *line, uint32_t have, struct slice values)
{
    json_key(line, "features");
    json_begin(line, '{');
    for (size_t i = 0, at = 0; i < FEATURES; i++) {
        double value;
        if ((have & 1u << i) == 0)
            continue;
        if (values.len - at < sizeof value)
            break;
        memcpy(&value, values.data + at, sizeof value);
        at += sizeof value;
        json_key(line, feature_names[i]);
        json_f64(line, value);
    }
    json_end(line, '}');
}

static int put_blob(struct events *events, struct text_ref ref, struct error *error)
{
    struct slice blob = {0}, answer = {0}, frame = {0};
    int rc = ref.commit == 0 ? 0 : fetch(events, ref, &blob, error);
    if (rc == 0 && ref.commit != 0 && !text_blob(blob, &answer, &frame))
        return corrupt(events, "holds a damaged text", error);
    if (rc != 0)
        return rc;
    json_key(&events->line, "answer");
    if (answer.len > 0)
        json_text(&events->line, answer);
    else
        json_none(&events->line);
    if (!events->options.texts)
        return 0;
    buf_reset(&events->text);
    if (ref.commit != 0 && text_unpack(frame, LIMIT_TEXT, &events->text) != 0)
        return corrupt(events, "holds a damaged text", error);
    put_text(&events->line, "text", buf_slice(&events->text));
    return 0;
}

static int put_rollout(struct events *events, const struct fact *fact, struct error *error)
{
    const struct fact_result *f = &fact->result;
    const struct lease *lease;
    struct buf *line = &events->line;
    int rc = put_lease(events, f->lease, &lease, error);
    if (rc != 0 || events->skip)
        return rc;
    put_str(line, "finish", finish_word(f->finish));
    put_u64(line, "tokens_in", f->tokens_in);
    put_u64(line, "tokens_cached", f->tokens_cached);
    put_u64(line, "tokens_out", f->tokens_out);
    put_u64(line, "latency_ms", f->latency_ms);
    put_features(line, f->have, f->features);
    return put_blob(events, (struct text_ref){f->ref_commit, f->ref_offset, f->ref_len}, error);
}

/* What the verifier told beside its verdict. */
static int put_detail(struct events *events, struct text_ref ref, struct error *error)
{
    struct slice frame;
    int rc = ref.commit == 0 ? 0 : fetch(events, ref, &frame, error);
    if (rc != 0 || ref.commit == 0)
        return rc;
    detail_put(frame, &events->line);
    return 0;
}

static int put_verdict(struct events *events, const struct fact *fact, struct error *error)
{
    const struct fact_verdict *f = &fact->verdict;
    const struct lease *lease;
    struct buf *line = &events->line;
    int rc = put_lease(events, f->lease, &lease, error);
    if (rc != 0 || events->skip)
        return rc;
    put_str(line, "verifier", name_of(&events->verifiers, lease->key.verifier));
    put_str(line, "outcome", outcome_word(f->outcome));
    json_key(line, "score");
    if (outcome_known((enum outcome)f->outcome))
        json_f64(line, f->score);
    else
        json_none(line);
    put_u64(line, "latency_ms", f->latency_ms);
    return put_detail(events, (struct text_ref){f->ref_commit, f->ref_offset, f->ref_len}, error);
}

static int put_failed(struct events *events, const struct fact *fact, struct error *error)
{
    const struct fact_give_up *f = &fact->give_up;
    struct key key = {f->kind, f->owner, f->prompt, f->tree, f->item, f->verifier};
    int rc = put_place(events, &key, error);
    if (rc != 0 || events->skip)
        return rc;
    if (f->kind == TASK_VERIFY)
        put_str(&events->line, "verifier", name_of(&events->verifiers, f->verifier));
    put_text(&events->line, "reason", f->reason);
    return 0;
}

static int put_voided(struct events *events, const struct fact *fact, struct error *error)
{
    const struct fact_voided *f = &fact->voided;
    const struct pool *pool = table_at(&events->pools, f->pool);
    if (pool == NULL)
        return corrupt(events, "names a pool that is not there", error);
    events->skip = events->options.sweep != NULL && !pool->wanted;
    if (events->skip)
        return 0;
    put_str(&events->line, "model", name_of(&events->models, pool->model));
    put_u64(&events->line, "pool", f->pool);
    int rc = put_prompt(events, pool->set, f->prompt, error);
    put_u64(&events->line, "from", f->from);
    return rc;
}

/* sweep, arm, n, prompt: of a decision about an (arm, prompt). */
static int put_cell(struct events *events, uint32_t arm_id, uint32_t prompt, struct error *error)
{
    const struct arm *arm = table_at(&events->arms, arm_id);
    const struct pool *pool = arm == NULL ? NULL : table_at(&events->pools, arm->pools[0]);
    if (arm == NULL || pool == NULL)
        return corrupt(events, "names an arm that is not there", error);
    events->skip = !is_wanted(events, arm->sweep);
    if (events->skip)
        return 0;
    put_str(&events->line, "sweep", name_of(&events->sweeps, arm->sweep));
    put_str(&events->line, "arm", arm->name.text);
    put_u64(&events->line, "n", arm->n);
    return put_prompt(events, pool->set, prompt, error);
}

/* Of an arm that draws from several models: whose its winner is, and which. */
static void put_drawn(struct events *events, const struct arm *arm, uint32_t winner)
{
    if (arm->schedule.legs == 1)
        return;
    struct drawn draw = schedule_draw(&arm->schedule, winner);
    put_id(&events->line, "winner_pool", winner == NO_POSITION ? NO_POSITION : arm->pools[draw.leg]);
    put_id(&events->line, "winner_ordinal", winner == NO_POSITION ? NO_POSITION : draw.ordinal);
}

static int put_decide(struct events *events, const struct fact *fact, struct error *error)
{
    const struct fact_decide *f = &fact->decide;
    struct buf *line = &events->line;
    int rc = put_cell(events, f->arm, f->prompt, error);
    if (rc != 0 || events->skip)
        return rc;
    put_u64(line, "rollouts", f->stop);
    put_id(line, "winner", f->winner);
    put_drawn(events, table_at(&events->arms, f->arm), f->winner);
    json_key(line, "confidence");
    json_f64(line, f->confidence);
    put_str(line, "why", decided_word(f->why));
    return 0;
}

static int put_price(struct events *events, const struct fact *fact, struct error *error)
{
    const struct fact_price *f = &fact->price;
    const struct arm *arm = table_at(&events->arms, f->arm);
    struct buf *line = &events->line;
    if (arm == NULL)
        return corrupt(events, "names an arm that is not there", error);
    events->skip = !is_wanted(events, arm->sweep);
    put_str(line, "sweep", name_of(&events->sweeps, arm->sweep));
    put_str(line, "arm", arm->name.text);
    put_u64(line, "n", arm->n);
    json_key(line, "price");
    json_f64(line, f->price);
    json_key(line, "spent");
    json_f64(line, f->spent);
    put_u64(line, "decided", f->decided);
    return 0;
}

static int put_tree(struct events *events, const struct fact *fact, struct error *error)
{
    const struct fact_finish *f = &fact->finish;
    struct buf *line = &events->line;
    int rc = put_cell(events, f->arm, f->prompt, error);
    if (rc != 0 || events->skip)
        return rc;
    put_u64(line, "tree", f->tree);
    json_key(line, "finals");
    json_begin(line, '[');
    for (size_t at = 0; at + sizeof(uint32_t) <= f->finals.len; at += sizeof(uint32_t)) {
        uint32_t node;
        memcpy(&node, f->finals.data + at, sizeof node);
        json_u64(line, node);
    }
    json_end(line, ']');
    return 0;
}

static int put_sweep(struct events *events, const struct fact *fact, struct error *error)
{
    const struct fact_sweep *f = &fact->sweep;
    const struct set *set = table_at(&events->sets, f->set);
    if (set == NULL)
        return corrupt(events, "names a set that is not there", error);
    events->skip = !is_wanted(events, f->id);
    put_text(&events->line, "sweep", f->name);
    put_u64(&events->line, "seed", f->seed);
    put_u64(&events->line, "prompts", set->len);
    return 0;
}

/* Of an arm that draws from several models: these, and in which order. */
static void put_legs(struct events *events, const struct arm *arm)
{
    struct buf *line = &events->line;
    if (arm == NULL || arm->schedule.legs == 1)
        return;
    json_key(line, "models");
    json_begin(line, '[');
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++) {
        const struct pool *pool = table_at(&events->pools, arm->pools[leg]);
        json_begin(line, '{');
        put_str(line, "model", name_of(&events->models, pool->model));
        put_u64(line, "pool", arm->pools[leg]);
        put_u64(line, "n", schedule_reach(&arm->schedule, leg, arm->n));
        json_end(line, '}');
    }
    json_end(line, ']');
    put_str(line, "schedule", arm->schedule.rounds ? "rounds" : "blocks");
}

static int put_arm(struct events *events, const struct fact *fact, struct error *error)
{
    const struct fact_arm *f = &fact->arm;
    struct buf *line = &events->line;
    const struct pool *pool = table_at(&events->pools, f->pool);
    if (pool == NULL)
        return corrupt(events, "names a pool that is not there", error);
    events->skip = !is_wanted(events, f->sweep);
    put_str(line, "sweep", name_of(&events->sweeps, f->sweep));
    put_text(line, "arm", f->name);
    put_str(line, "model", name_of(&events->models, pool->model));
    put_u64(line, "pool", f->pool);
    put_str(line, "verifier", name_of(&events->verifiers, f->verifier));
    put_u64(line, "n", f->n);
    put_legs(events, table_at(&events->arms, f->id));
    put_text(line, "strategy", f->strategy);
    put_text(line, "allocate", f->allocator);
    put_text(line, "stop", f->stopper);
    put_text(line, "select", f->selector);
    return 0;
}

static int put_state(struct events *events, const struct fact *fact, struct error *error)
{
    const struct fact_state *f = &fact->state;
    const char *name = name_of(&events->sweeps, f->sweep);
    if (name == NULL || f->state > SWEEP_REPLACED)
        return corrupt(events, "names a sweep or state that is not there", error);
    events->skip = !is_wanted(events, f->sweep);
    put_str(&events->line, "sweep", name);
    put_str(&events->line, "state", sweep_state_text((enum sweep_state)f->state));
    put_text(&events->line, "reason", f->reason);
    return 0;
}

static int put_broker(struct events *events, const struct fact *fact, struct error *error)
{
    (void)error;
    put_u64(&events->line, "epoch", fact->epoch.number);
    return 0;
}

static const struct row {
    enum fact_type type;
    const char *event; /* NULL: rollout, or node of a tree */
    int (*put)(struct events *events, const struct fact *fact, struct error *error);
} rows[] = {
    {FACT_epoch, "broker", put_broker},   {FACT_sweep, "sweep", put_sweep},    {FACT_arm, "arm", put_arm},
    {FACT_state, "state", put_state},     {FACT_result, NULL, put_rollout},    {FACT_verdict, "verdict", put_verdict},
    {FACT_give_up, "failed", put_failed}, {FACT_decide, "decide", put_decide}, {FACT_finish, "tree", put_tree},
    {FACT_voided, "voided", put_voided},  {FACT_price, "price", put_price},
};

static const char *rollout_or_node(struct events *events, uint64_t id)
{
    const struct lease *lease = lease_of(events, id);
    return lease != NULL && lease->key.tree != NO_ID ? "node" : "rollout";
}

/* Fills the line: false in *is_event when outsiders need not know of the fact. */
static int put_event(struct events *events, const struct fact *fact, struct seq seq, bool *is_event,
                     struct error *error)
{
    struct buf *line = &events->line;
    *is_event = false;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].type != fact->type)
            continue;
        buf_reset(line);
        events->skip = false;
        buf_puts(line, "{\"seq\":\"");
        seq_put(line, seq);
        buf_puts(line, "\"");
        put_str(line, "event", rows[i].event != NULL ? rows[i].event : rollout_or_node(events, fact->result.lease));
        int rc = rows[i].put(events, fact, error);
        json_end(line, '}');
        *is_event = !events->skip;
        return rc;
    }
    return 0;
}

/* -- commits --------------------------------------------------------------------------------------------------------------- */

/* One fact: learned the first time, told if it is an event and not before `from`. */
static int take(struct events *events, const struct fact *fact, struct seq seq, struct seq from,
                int (*put)(void *arg, struct seq seq, struct slice line), void *arg, struct error *error)
{
    bool is_event;
    if (seq.index > events->learned && !learn(events, fact))
        return corrupt(events, "holds a fact that does not follow from those before it", error);
    if (seq.index > events->learned)
        events->learned = seq.index;
    if (put == NULL || seq_before(seq, from))
        return 0;
    int rc = put_event(events, fact, seq, &is_event, error);
    return rc == 0 && is_event ? put(arg, seq, buf_slice(&events->line)) : rc;
}

/* Forgets last, so that all is there still when put gives up and the commit is taken again. */
int events_commit(struct events *events, struct slice facts, struct slice texts, struct seq from,
                  int (*put)(void *arg, struct seq seq, struct slice line), void *arg, struct error *error)
{
    struct fact fact;
    struct seq seq = {events->next, 0};
    int rc = 0;
    events->texts = texts;
    for (size_t at = 0; rc == 0 && at < facts.len;) {
        seq.index++;
        rc = fact_get(facts, &at, &fact) == 0 ? take(events, &fact, seq, from, put, arg, error)
                                              : corrupt(events, "holds what is no fact", error);
        if (rc == 0)
            note_end(events, &fact);
    }
    events->texts = (struct slice){0};
    close_ended(events, rc == 0);
    if (rc != 0)
        return rc;
    events->learned = 0;
    events->next++;
    return 0;
}

struct skip {
    struct events *events;
    uint64_t until;
    struct error *error;
};

static int skip_commit(void *arg, uint64_t commit, struct slice facts)
{
    struct skip *skip = arg;
    if (commit >= skip->until)
        return ERR_CLOSED;
    return events_commit(skip->events, facts, (struct slice){0}, (struct seq){0}, NULL, NULL, skip->error);
}

int events_skip(struct events *events, uint64_t until, struct error *error)
{
    struct skip skip = {events, until, error};
    if (events->next >= until)
        return 0;
    int rc = journal_scan(events->options.journal, events->next, skip_commit, &skip, error);
    return rc == ERR_CLOSED ? 0 : rc;
}
