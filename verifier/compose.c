/* compose.c - asks what a composite wants asked; see compose.h.
 *
 * Each job becomes an errand: a job of its own that is handed to the engine of one inner verifier, then perhaps to that of
 * the other. */
#include "verifier/compose.h"

#include "common/io/clock.h"
#include "common/json.h"
#include "common/limits.h"
#include "verifier/alone.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define JOBS_MAX   256
#define DETAIL_MAX (LIMIT_DETAIL / 4) /* of one finding inside of the whole */

static const struct composite *const composites[] = {&composite_cascade, &composite_hybrid, NULL};

struct errand {
    struct job *outer, inner;
    int which; /* the inner verifier that has it */
    int64_t end_ms;
    struct finding findings[COMPOSE_MAX];
};

/* An inner verifier and what it was asked. */
struct desk {
    const struct engine *engine; /* NULL: the sweep file names none */
    void *state;
    struct buf spec;
    struct job *jobs[JOBS_MAX]; /* of errands */
    size_t len;
};

struct compose {
    const struct composite *kind;
    void *own;
    struct desk desks[COMPOSE_MAX];
    bool there[COMPOSE_MAX];
    int epoll; /* of the desks' descriptors */
};

static void compose_close(void **state)
{
    struct compose *compose = *state;
    if (compose == NULL)
        return;
    for (int i = 0; i < COMPOSE_MAX; i++) {
        struct desk *desk = &compose->desks[i];
        if (desk->state != NULL)
            desk->engine->close(&desk->state);
        buf_clear(&desk->spec);
    }
    if (compose->epoll >= 0)
        close(compose->epoll);
    free(compose->own);
    free(compose);
    *state = NULL;
}

static const struct composite *find_composite(const struct json_t *spec)
{
    struct slice kind;
    if (!doc_text(spec, "kind", &kind))
        return NULL;
    for (size_t i = 0; composites[i] != NULL; i++)
        if (strlen(composites[i]->name) == kind.len && memcmp(composites[i]->name, kind.data, kind.len) == 0)
            return composites[i];
    return NULL;
}

static int watch(struct compose *compose, const struct desk *desk, struct error *error)
{
    struct epoll_event event = {.events = EPOLLIN};
    if (desk->engine->fd == NULL)
        return 0;
    int rc = epoll_ctl(compose->epoll, EPOLL_CTL_ADD, desk->engine->fd(desk->state), &event);
    return rc == 0 ? 0 : error_set(error, ERR_SYSTEM, "an inner verifier cannot be waited for: epoll refused it");
}

static int open_desk(struct compose *compose, const struct json_t *spec, int i, struct error *error)
{
    const char *option = compose->kind->options[i];
    struct desk *desk = &compose->desks[i];
    struct slice name;
    if (option == NULL)
        return 0;
    if (!doc_text(doc_object(spec, "options"), option, &name) || name.len == 0)
        return compose->kind->required[i] ? error_set(error, ERR_SYNTAX, "option `%s` must name a verifier", option)
                                          : 0;
    const struct json_t *inner = doc_object(doc_object(spec, "inner"), name.data);
    if (inner == NULL)
        return error_set(error, ERR_NOT_FOUND, "no verifier `%.64s` in the spec", name.data);
    doc_write(inner, &desk->spec);
    const struct check *check = check_of(buf_slice(&desk->spec));
    desk->engine = check != NULL && check->engine != NULL ? check->engine : &engine_check;
    compose->there[i] = true;
    int code = desk->engine->open(buf_slice(&desk->spec), &desk->state, error);
    return code < 0 ? code : watch(compose, desk, error);
}

static int engine_open(struct slice spec, void **state, struct error *error)
{
    struct json_t *doc;
    *state = NULL;
    int code = doc_parse(spec, &doc, error);
    if (code < 0)
        return code;
    struct compose *compose = xalloc(sizeof *compose);
    *state = compose;
    compose->kind = find_composite(doc);
    compose->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (compose->kind == NULL)
        code = error_set(error, ERR_NOT_FOUND, "the spec names no verifier that asks others");
    else if (compose->epoll < 0)
        code = error_set(error, ERR_SYSTEM, "no descriptor is left for epoll; raise `ulimit -n`");
    if (code == 0) {
        compose->own = xalloc(compose->kind->size);
        code = compose->kind->open(compose->own, doc, error);
    }
    for (int i = 0; i < COMPOSE_MAX && code == 0; i++)
        code = open_desk(compose, doc, i, error);
    doc_free(&doc);
    if (code < 0)
        compose_close(state);
    return code;
}

static struct check_input input_of(const struct job *job)
{
    return (struct check_input){.record = job->record,
                                .attached = job->attached,
                                .text = job->text,
                                .answer = job->answer,
                                .finished = job->finished,
                                .seed = job->seed,
                                .timeout_ms = job->timeout_ms};
}

static void errand_free(struct errand *errand)
{
    errand->outer->engine_data = NULL;
    for (int i = 0; i < COMPOSE_MAX; i++)
        buf_clear(&errand->findings[i].detail);
    buf_clear(&errand->inner.detail);
    free(errand);
}

static void settle(const struct compose *compose, struct errand *errand)
{
    struct job *outer = errand->outer;
    const struct check_input input = input_of(outer);
    json_begin(&outer->detail, '{');
    compose->kind->decide(compose->own, &input, errand->findings, &outer->verdict, &outer->detail);
    json_end(&outer->detail, '}');
    outer->state = JOB_DONE;
    errand_free(errand);
}

/* Puts the errand on the next desk, with the time that is left of the whole; or comes to the end. */
static void go_on(struct compose *compose, struct errand *errand)
{
    const struct check_input input = input_of(errand->outer);
    int which = compose->kind->next(compose->own, &input, compose->there, errand->findings);
    if (which == COMPOSE_DONE) {
        settle(compose, errand);
        return;
    }
    struct desk *desk = &compose->desks[which];
    int64_t now = clock_ms(), left = errand->end_ms - now;
    errand->which = which;
    errand->inner = *errand->outer;
    errand->inner.spec = buf_slice(&desk->spec);
    errand->inner.timeout_ms = left < 1 ? 1 : (uint32_t)left;
    errand->inner.began_ms = now;
    errand->inner.detail = (struct buf){0};
    errand->inner.engine_data = NULL;
    desk->jobs[desk->len++] = &errand->inner;
}

static struct errand *errand_of(struct job *inner)
{
    return (struct errand *)((char *)inner - offsetof(struct errand, inner));
}

static void begin(struct compose *compose, struct job *job)
{
    struct errand *errand = xalloc(sizeof *errand);
    errand->outer = job;
    errand->end_ms = clock_ms() + job->timeout_ms;
    job->began_ms = clock_ms();
    job->engine_data = errand;
    go_on(compose, errand);
}

/* What an inner verifier found; one that broke breaks the whole. */
static void finish(struct compose *compose, struct errand *errand)
{
    struct finding *finding = &errand->findings[errand->which];
    if (errand->inner.state == JOB_FAILED) {
        errand->outer->error = errand->inner.error;
        errand->outer->state = JOB_FAILED;
        errand_free(errand);
        return;
    }
    finding->asked = true;
    finding->verdict = errand->inner.verdict;
    finding->detail = errand->inner.detail;
    errand->inner.detail = (struct buf){0};
    go_on(compose, errand);
}

/* Moves what stands on one desk. Returns when it wants to be called again; INT64_MAX: nothing is there. */
static int64_t move(struct compose *compose, struct desk *desk, int64_t now_ms)
{
    if (desk->len == 0)
        return INT64_MAX;
    size_t len = desk->len < desk->engine->batch ? desk->len : desk->engine->batch;
    int64_t wait = desk->engine->advance(desk->state, desk->jobs, len, now_ms);
    struct job *ended[JOBS_MAX];
    size_t ended_len = 0, kept = 0;
    for (size_t i = 0; i < desk->len; i++)
        if (desk->jobs[i]->state == JOB_RUNNING)
            desk->jobs[kept++] = desk->jobs[i];
        else
            ended[ended_len++] = desk->jobs[i];
    desk->len = kept;
    for (size_t i = 0; i < ended_len; i++)
        finish(compose, errand_of(ended[i]));
    return ended_len > 0 ? 0 : wait; /* the next desk has new work, or this one room for more */
}

static int64_t engine_advance(void *state, struct job **jobs, size_t len, int64_t now_ms)
{
    struct compose *compose = state;
    int64_t wait = INT64_MAX;
    for (size_t i = 0; i < len; i++)
        if (jobs[i]->state == JOB_RUNNING && jobs[i]->engine_data == NULL)
            begin(compose, jobs[i]);
    for (int i = 0; i < COMPOSE_MAX; i++) {
        int64_t own = move(compose, &compose->desks[i], now_ms);
        wait = own < wait ? own : wait;
    }
    return wait == INT64_MAX ? 0 : wait;
}

static void engine_cancel(void *state, struct job *job)
{
    struct compose *compose = state;
    struct errand *errand = job->engine_data;
    if (errand == NULL)
        return;
    struct desk *desk = &compose->desks[errand->which];
    size_t kept = 0;
    for (size_t i = 0; i < desk->len; i++)
        if (desk->jobs[i] != &errand->inner)
            desk->jobs[kept++] = desk->jobs[i];
    desk->len = kept;
    if (desk->engine->cancel != NULL)
        desk->engine->cancel(desk->state, &errand->inner);
    errand_free(errand);
}

static int engine_fd(void *state)
{
    return ((struct compose *)state)->epoll;
}

const struct engine engine_compose = {
    .name = "compose",
    .help = "asks other verifiers, one after the other",
    .batch = JOBS_MAX,
    .open = engine_open,
    .advance = engine_advance,
    .cancel = engine_cancel,
    .fd = engine_fd,
    .close = compose_close,
};

int compose_open(struct slice spec, void **state, struct error *error)
{
    return alone_open(&engine_compose, spec, state, error);
}

void compose_finding_json(const char *key, const struct finding *finding, struct buf *out)
{
    static const char *const names[] = {
#define X(value, number, name) [value] = name,
        OUTCOME_TABLE(X)
#undef X
    };
    json_key(out, key);
    json_begin(out, '{');
    json_key(out, "outcome");
    json_str(out, names[finding->verdict.outcome]);
    json_key(out, "score");
    json_f64(out, finding->verdict.score);
    if (finding->detail.len > 0 && finding->detail.len <= DETAIL_MAX) {
        json_key(out, "detail");
        json_raw(out, buf_slice(&finding->detail));
    }
    json_end(out, '}');
}
