/* checks.c - the table of checks, how one is opened, and the engine that runs them; see check.h. */
#include "verifier/check.h"

#include "common/hash.h"
#include "common/limits.h"
#include "verifier/doc.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NESTING_MAX 4

/* One a line, so that two that are added at once do not meet. */
/* clang-format off */
const struct check *const checks[] = {
    &check_exact,
    &check_numeric,
    &check_math,
    &check_countdown,
    &check_chain,
    &check_oracle_step,
    &check_noisy,
    &check_switch,
    &check_exec,
    &check_reward,
    &check_prm,
    &check_judge,
    &check_code,
    &check_label,
    &check_cascade,
    &check_hybrid,
    &check_mbr,
    NULL,
};
/* clang-format on */

static atomic_int_fast64_t room; /* of engines on all threads */

uint32_t check_room(void)
{
    int64_t tasks = atomic_load(&room);
    return tasks < 0 ? 0 : tasks > LIMIT_CREDITS ? LIMIT_CREDITS : (uint32_t)tasks;
}

void check_room_add(int64_t tasks)
{
    atomic_fetch_add(&room, tasks);
}

static const struct check *check_find(struct slice kind)
{
    for (size_t i = 0; checks[i] != NULL; i++)
        if (strlen(checks[i]->name) == kind.len && memcmp(checks[i]->name, kind.data, kind.len) == 0)
            return checks[i];
    return NULL;
}

/* Which check a parsed spec names. */
static int check_named(const struct json_t *doc, const struct check **check, struct error *error)
{
    struct slice kind;
    if (!doc_text(doc, "kind", &kind))
        return error_set(error, ERR_SYNTAX, "the verifier's spec has no kind");
    *check = check_find(kind);
    if (*check == NULL)
        return error_set(error, ERR_NOT_FOUND, "no verifier kind `%.64s`", kind.data);
    if (doc_spec_depth(doc, NESTING_MAX) > NESTING_MAX)
        return error_set(error, ERR_LIMIT, "verifiers are nested more than %d deep", NESTING_MAX);
    return 0;
}

const struct check *check_of(struct slice spec)
{
    struct json_t *doc;
    const struct check *check = NULL;
    struct slice kind;
    if (doc_parse(spec, &doc, NULL) == 0 && doc_text(doc, "kind", &kind))
        check = check_find(kind);
    doc_free(&doc);
    return check;
}

int check_open(struct slice spec, const struct check **check, void **state, struct error *error)
{
    *check = NULL;
    *state = NULL;
    if (spec.len > LIMIT_SPEC)
        return error_set(error, ERR_LIMIT, "the verifier's spec is longer than %d bytes", (int)LIMIT_SPEC);
    struct json_t *doc;
    struct error why;
    int code = doc_parse(spec, &doc, &why);
    if (code < 0)
        return error_set(error, code, "the verifier's spec is %s", why.text);
    const struct check *found = NULL;
    code = check_named(doc, &found, error);
    doc_free(&doc);
    if (code < 0)
        return code;
    assert(found != NULL);
    code = found->open(spec, state, error);
    if (code == 0)
        *check = found;
    return code;
}

/* Opened checks by the bytes of their spec, the longest unused one going first when the table is
 * full. */
#define OPENED_MAX 64

struct opened {
    uint64_t hash, used; /* used: the engine's count of look-ups when this one was last wanted */
    struct buf spec;
    const struct check *check;
    void *state;
};

struct check_engine {
    struct opened opened[OPENED_MAX];
    size_t len;
    uint64_t lookups;
};

static void opened_clear(struct opened *opened)
{
    opened->check->close(&opened->state);
    buf_clear(&opened->spec);
    *opened = (struct opened){0};
}

static void engine_close(void **state)
{
    struct check_engine *engine = *state;
    if (engine == NULL)
        return;
    for (size_t i = 0; i < engine->len; i++)
        opened_clear(&engine->opened[i]);
    free(engine);
    *state = NULL;
}

/* A place for one more opened check. */
static struct opened *opened_place(struct check_engine *engine)
{
    if (engine->len < OPENED_MAX)
        return &engine->opened[engine->len++];
    struct opened *oldest = &engine->opened[0];
    for (size_t i = 1; i < OPENED_MAX; i++)
        if (engine->opened[i].used < oldest->used)
            oldest = &engine->opened[i];
    opened_clear(oldest);
    return oldest;
}

static int opened_get(struct check_engine *engine, struct slice spec, struct opened **out, struct error *error)
{
    uint64_t hash = hash_bytes(spec.data, spec.len);
    engine->lookups++;
    for (size_t i = 0; i < engine->len; i++) {
        struct opened *opened = &engine->opened[i];
        if (opened->hash == hash && opened->spec.len == spec.len &&
            memcmp(opened->spec.data, spec.data, spec.len) == 0) {
            opened->used = engine->lookups;
            *out = opened;
            return 0;
        }
    }
    const struct check *check;
    void *state;
    int code = check_open(spec, &check, &state, error);
    if (code < 0)
        return code;
    struct opened *opened = opened_place(engine);
    *opened = (struct opened){.hash = hash, .used = engine->lookups, .check = check, .state = state};
    buf_put(&opened->spec, spec.data, spec.len);
    *out = opened;
    return 0;
}

/* What the agent opens it for is opened at once: a verifier that cannot work here is refused, it fails no task. */
static int engine_open(struct slice spec, void **state, struct error *error)
{
    struct opened *opened;
    *state = xalloc(sizeof(struct check_engine));
    int code = spec.len > 0 ? opened_get(*state, spec, &opened, error) : 0;
    if (code < 0)
        engine_close(state);
    return code;
}

static void job_run(struct check_engine *engine, struct job *job)
{
    struct check_input input = {
        .record = job->record,
        .attached = job->attached,
        .text = job->text,
        .group = job->group,
        .group_len = job->group_len,
        .answer = job->answer,
        .finished = job->finished,
        .ordinal = job->ordinal,
        .seed = job->seed,
        .timeout_ms = job->timeout_ms,
        .detail = &job->detail,
    };
    struct opened *opened;
    int code = opened_get(engine, job->spec, &opened, &job->error);
    if (code == 0)
        code = opened->check->run(opened->state, &input, &job->verdict, &job->error);
    job->state = code < 0 ? JOB_FAILED : JOB_DONE;
}

static int64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Runs jobs to their end, one after the other. A slow one (a child that hangs until its time is up)
 * must not hold back the finished ones before it: then the rest waits for the next call. */
static int64_t engine_advance(void *state, struct job **jobs, size_t len, int64_t now_ms)
{
    const int64_t turn_ms = 20;
    (void)now_ms; /* may be fake; this is about how long we really block */
    int64_t end = clock_ms() + turn_ms;
    for (size_t i = 0; i < len; i++) {
        if (jobs[i]->state != JOB_RUNNING)
            continue;
        jobs[i]->began_ms = clock_ms(); /* those before it do not count against its time */
        job_run(state, jobs[i]);
        if (clock_ms() >= end)
            break;
    }
    return 0;
}

const struct engine engine_check = {
    .name = "check",
    .help = "runs the checks of the table, any spec",
    .batch = 32,
    .open = engine_open,
    .advance = engine_advance,
    .close = engine_close,
};

const struct engine engine_check_slow = {
    .name = "check-slow",
    .help = "the same, one at a time: what takes seconds is not kept waiting behind another on the same thread",
    .batch = 1,
    .open = engine_open,
    .advance = engine_advance,
    .close = engine_close,
};
