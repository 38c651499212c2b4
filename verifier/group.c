/* group.c - see group.h.
 *
 * Each rollout of a group is a task of its own, with a lease, a price and a verdict of its own. The group is judged when
 * the first of them comes, in the judge's own event loop, so that hundreds of groups are in flight on one thread; the
 * others wait for the same judgements, or are answered from what those gave. So nothing but the texts of a task differs
 * from any other verifier, and a lost task is judged again at worst. */
#include "verifier/group.h"
#include "common/hash.h"
#include "common/io/clock.h"
#include "common/limits.h"
#include "verifier/check.h"
#include "verifier/doc.h"
#include "verifier/judge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum { BATCH = LIMIT_CREDITS, KEPT = 32 };

/* A group while it is judged, and for a while afterwards. */
struct judged {
    uint64_t hash;
    uint32_t len;
    uint32_t waiting; /* jobs that are not answered yet */
    bool begun;
    const struct job *first; /* that it began with, whose time the judgements are; NULL: that one is gone */
    struct trial *trial;     /* begun, and NULL: it is over */
    uint32_t *places;        /* ordinals of the trial's candidates */
    uint32_t places_len;
    int code; /* what became of it */
    struct error error;
    double *scores; /* by ordinal; NAN where there is none */
    struct buf detail;
    struct judged *prev, *next;
};

struct groups {
    void *judge;
    struct judged *list; /* the one that was used last in front */
    uint32_t len_max;    /* of the groups that came */
    int64_t room;        /* tasks that this engine has made room for */
};

bool group_spec(struct slice spec)
{
    struct json_t *doc;
    struct slice kind = {0}, mode = {0};
    if (doc_parse(spec, &doc, NULL) != 0)
        return false;
    bool group = doc_text(doc, "kind", &kind) && strcmp(kind.data, "judge") == 0 &&
                 doc_text(doc_object(doc, "options"), "mode", &mode) &&
                 (strcmp(mode.data, "pairwise") == 0 || strcmp(mode.data, "set") == 0);
    doc_free(&doc);
    return group;
}

static void judged_free(struct groups *groups, struct judged *judged)
{
    DL_DELETE(groups->list, judged);
    if (judged->trial != NULL)
        judge_group_drop(&judged->trial);
    free(judged->places);
    free(judged->scores);
    buf_clear(&judged->detail);
    free(judged);
}

static void group_close(void **state)
{
    struct groups *groups = *state;
    if (groups == NULL)
        return;
    while (groups->list != NULL)
        judged_free(groups, groups->list);
    check_room_add(-groups->room);
    if (groups->judge != NULL)
        engine_judge.close(&groups->judge);
    free(groups);
    *state = NULL;
}

static int group_open(struct slice spec, void **state, struct error *error)
{
    struct groups *groups = xalloc(sizeof *groups);
    *state = groups;
    int rc = engine_judge.open(spec, &groups->judge, error);
    if (rc != 0)
        group_close(state);
    return rc;
}

/* -- judging ---------------------------------------------------------------------------------------------------------- */

/* For the tasks of as many groups as the judge can have in flight. How large groups are, and how many judgements one
 * takes, is known when it comes. */
static void make_room(struct groups *groups, uint32_t len, size_t asks)
{
    if (len <= groups->len_max)
        return;
    groups->len_max = len;
    int64_t in_flight = (int64_t)(judge_width(groups->judge) / asks), room = (in_flight < 1 ? 1 : in_flight) * len;
    room = room < BATCH ? room : BATCH;
    check_room_add(room - groups->room);
    groups->room = room;
}

/* Rollouts that failed have no text and take no part; one that is left alone has nobody to be compared with. */
static void judge(struct groups *groups, struct judged *judged, struct job *job)
{
    judged->begun = true;
    judged->first = job;
    job->began_ms = clock_ms();
    struct slice *texts = xalloc(job->group_len * sizeof *texts);
    judged->places = xalloc(job->group_len * sizeof *judged->places);
    judged->scores = xalloc(job->group_len * sizeof *judged->scores);
    for (uint32_t i = 0; i < job->group_len; i++) {
        judged->scores[i] = NAN;
        if (job->group[i].len == 0)
            continue;
        texts[judged->places_len] = job->group[i];
        judged->places[judged->places_len++] = i;
    }
    const struct judge_group group = {job->record, texts, judged->places_len, job->seed, job->timeout_ms};
    if (group.len == 1)
        judged->scores[judged->places[0]] = 0.5;
    else if (group.len > 1)
        judged->code = judge_group(groups->judge, &group, &judged->trial, &judged->error);
    if (judged->trial != NULL)
        make_room(groups, job->group_len, judge_group_asks(judged->trial));
    free(texts);
}

static void settle(struct judged *judged)
{
    double *given = xalloc(judged->places_len * sizeof *given);
    judged->code = judge_group_end(&judged->trial, given, &judged->detail, &judged->error);
    for (uint32_t i = 0; i < judged->places_len && judged->code == 0; i++)
        judged->scores[judged->places[i]] = given[i];
    free(given);
}

/* -- jobs ------------------------------------------------------------------------------------------------------------- */

static uint64_t hash_of(const struct job *job)
{
    uint64_t hash = hash_bytes(job->record.data, job->record.len);
    for (uint32_t i = 0; i < job->group_len; i++)
        hash = hash_more(hash, job->group[i].data, job->group[i].len);
    return hash;
}

static struct judged *find(const struct groups *groups, uint64_t hash, uint32_t len)
{
    struct judged *judged;
    DL_FOREACH (groups->list, judged)
        if (judged->hash == hash && judged->len == len)
            return judged;
    return NULL;
}

/* The job waits for its group. */
static void join(struct groups *groups, struct job *job)
{
    if (job->group_len == 0 || job->ordinal >= job->group_len) {
        error_set(&job->error, ERR_PROTOCOL, "judge: the broker sent no group of texts to compare");
        job->state = JOB_FAILED;
        return;
    }
    uint64_t hash = hash_of(job);
    struct judged *judged = find(groups, hash, job->group_len);
    if (judged == NULL) {
        judged = xalloc(sizeof *judged);
        *judged = (struct judged){.hash = hash, .len = job->group_len};
    } else {
        DL_DELETE(groups->list, judged);
    }
    DL_PREPEND(groups->list, judged);
    judged->waiting++;
    job->engine_data = judged;
}

/* The judgements took the time of one job of the group. */
static void answer(struct job *job)
{
    struct judged *judged = job->engine_data;
    double score = judged->scores[job->ordinal];
    job->engine_data = NULL;
    judged->waiting--;
    if (judged->first == job)
        judged->first = NULL;
    else
        job->began_ms = clock_ms();
    job->error = judged->error;
    job->verdict = isnan(score) ? (struct verdict){.outcome = OUTCOME_UNKNOWN}
                                : (struct verdict){.outcome = OUTCOME_SCORE, .score = score};
    buf_reset(&job->detail);
    buf_put(&job->detail, judged->detail.data, judged->detail.len);
    job->state = judged->code < 0 ? JOB_FAILED : JOB_DONE;
}

/* What failed is judged anew for who asks again; of the others the last ones are kept. */
static void forget(struct groups *groups)
{
    struct judged *judged, *next;
    size_t kept = 0;
    DL_FOREACH_SAFE (groups->list, judged, next)
        if (judged->waiting == 0 && (judged->code < 0 || kept++ >= KEPT))
            judged_free(groups, judged);
}

/* Begins groups while the judge takes more: waiting for those before is not a group's time. */
static bool begin(struct groups *groups, struct job **jobs, size_t len)
{
    bool any = false;
    for (size_t i = 0; i < len && judge_room(groups->judge) > 0; i++) {
        struct judged *judged = jobs[i]->engine_data;
        if (judged == NULL || judged->begun)
            continue;
        judge(groups, judged, jobs[i]);
        any = true;
    }
    return any;
}

static int64_t group_advance(void *state, struct job **jobs, size_t len, int64_t now_ms)
{
    struct groups *groups = state;
    struct judged *judged;
    int64_t wait;
    for (size_t i = 0; i < len; i++)
        if (jobs[i]->state == JOB_RUNNING && jobs[i]->engine_data == NULL)
            join(groups, jobs[i]);
    begin(groups, jobs, len);
    do /* answers make room for more */
        wait = engine_judge.advance(groups->judge, NULL, 0, now_ms);
    while (begin(groups, jobs, len));
    DL_FOREACH (groups->list, judged)
        if (judged->trial != NULL && judge_group_over(judged->trial))
            settle(judged);
    for (size_t i = 0; i < len; i++) {
        judged = jobs[i]->engine_data;
        if (judged != NULL && judged->begun && judged->trial == NULL)
            answer(jobs[i]);
    }
    forget(groups);
    return wait;
}

/* Judgements that nobody waits for any more are not asked for any longer. */
static void group_cancel(void *state, struct job *job)
{
    struct groups *groups = state;
    struct judged *judged = job->engine_data;
    if (judged == NULL)
        return;
    job->engine_data = NULL;
    if (judged->first == job)
        judged->first = NULL;
    if (--judged->waiting == 0 && (!judged->begun || judged->trial != NULL))
        judged_free(groups, judged);
}

static int group_fd(void *state)
{
    return engine_judge.fd(((struct groups *)state)->judge);
}

const struct engine engine_group = {
    .name = "group",
    .help = "compares all rollouts of a prompt",
    .batch = BATCH,
    .open = group_open,
    .advance = group_advance,
    .cancel = group_cancel,
    .fd = group_fd,
    .close = group_close,
};
