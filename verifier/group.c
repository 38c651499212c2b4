/* group.c - see group.h.
 *
 * Each rollout of a group is a task of its own, with a lease, a price and a verdict of its own, and carries the texts of
 * all. The group is judged when the first of them is asked for; the others are answered from what that gave. So nothing but
 * the texts of a task differs from any other verifier, and a lost task is judged again at worst. */
#include "verifier/group.h"
#include "common/hash.h"
#include "verifier/check.h"
#include "verifier/doc.h"
#include "common/io/clock.h"
#include "verifier/judge.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 256, KEPT = 32 };

/* What a group was given: scores by ordinal, NaN where there is none. */
struct judged {
    uint64_t hash, used;
    double *scores; /* NULL: this place is free */
    uint32_t len;
    struct buf detail;
};

struct groups {
    void *judge;
    struct judged judged[KEPT];
    uint64_t uses;
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

static void group_close(void **state)
{
    struct groups *groups = *state;
    if (groups == NULL)
        return;
    if (groups->judge != NULL)
        engine_judge.close(&groups->judge);
    for (size_t i = 0; i < KEPT; i++) {
        free(groups->judged[i].scores);
        buf_clear(&groups->judged[i].detail);
    }
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

static uint64_t hash_of(const struct job *job)
{
    uint64_t hash = hash_bytes(job->record.data, job->record.len);
    for (uint32_t i = 0; i < job->group_len; i++)
        hash = hash_more(hash, job->group[i].data, job->group[i].len);
    return hash;
}

static struct judged *find(struct groups *groups, uint64_t hash, uint32_t len)
{
    for (size_t i = 0; i < KEPT; i++)
        if (groups->judged[i].scores != NULL && groups->judged[i].hash == hash && groups->judged[i].len == len)
            return &groups->judged[i];
    return NULL;
}

/* A place for one more: the one that was not used for the longest time. */
static struct judged *place(struct groups *groups)
{
    struct judged *oldest = &groups->judged[0];
    for (size_t i = 1; i < KEPT; i++)
        if (groups->judged[i].used < oldest->used)
            oldest = &groups->judged[i];
    free(oldest->scores);
    buf_clear(&oldest->detail);
    *oldest = (struct judged){0};
    return oldest;
}

/* Rollouts that failed have no text and take no part; one that is left alone has nobody to be compared with. */
static int judge(struct groups *groups, const struct job *job, uint64_t hash, struct judged **out, struct error *error)
{
    struct slice *texts = xalloc(job->group_len * sizeof *texts);
    uint32_t *places = xalloc(job->group_len * sizeof *places), len = 0;
    double *scores = xalloc(job->group_len * sizeof *scores), *given = xalloc(job->group_len * sizeof *given);
    struct buf detail = {0};
    for (uint32_t i = 0; i < job->group_len; i++) {
        scores[i] = NAN;
        if (job->group[i].len == 0)
            continue;
        places[len] = i;
        texts[len++] = job->group[i];
    }
    struct judge_group group = {job->record, texts, len, job->seed, job->timeout_ms};
    int rc = 0;
    if (len == 1)
        given[0] = 0.5;
    else if (len > 1)
        rc = judge_group(groups->judge, &group, given, &detail, error);
    for (uint32_t i = 0; i < len && rc == 0; i++)
        scores[places[i]] = given[i];
    free(texts);
    free(places);
    free(given);
    if (rc != 0) {
        free(scores);
        buf_clear(&detail);
        return rc;
    }
    *out = place(groups);
    **out = (struct judged){.hash = hash, .scores = scores, .len = job->group_len, .detail = detail};
    return 0;
}

static void answer(struct groups *groups, struct judged *judged, struct job *job)
{
    double score = judged->scores[job->ordinal];
    judged->used = ++groups->uses;
    job->verdict = isnan(score) ? (struct verdict){.outcome = OUTCOME_UNKNOWN}
                                : (struct verdict){.outcome = OUTCOME_SCORE, .score = score};
    buf_reset(&job->detail);
    buf_put(&job->detail, judged->detail.data, judged->detail.len);
    job->state = JOB_DONE;
}

/* The whole group, or every rollout of it would have it judged in vain. */
static void fail_group(struct job **jobs, size_t len, uint64_t hash, const struct error *error)
{
    for (size_t i = 0; i < len; i++)
        if (jobs[i]->state == JOB_RUNNING && jobs[i]->group_len > 0 && hash_of(jobs[i]) == hash) {
            jobs[i]->error = *error;
            jobs[i]->state = JOB_FAILED;
        }
}

/* One group at a time; what is answered already does not wait for the next. */
static int64_t group_advance(void *state, struct job **jobs, size_t len, int64_t now_ms)
{
    struct groups *groups = state;
    bool asked = false;
    (void)now_ms;
    for (size_t i = 0; i < len; i++) {
        struct job *job = jobs[i];
        if (job->state != JOB_RUNNING)
            continue;
        if (job->group_len == 0 || job->ordinal >= job->group_len) {
            error_set(&job->error, ERR_PROTOCOL, "judge: the broker sent no group of texts to compare");
            job->state = JOB_FAILED;
            continue;
        }
        uint64_t hash = hash_of(job);
        struct judged *judged = find(groups, hash, job->group_len);
        if (judged == NULL && asked)
            continue;
        if (judged == NULL) {
            asked = true;
            job->began_ms = clock_ms(); /* waiting for the groups before is not its time */
            struct error error;
            if (judge(groups, job, hash, &judged, &error) != 0) {
                fail_group(jobs, len, hash, &error);
                continue;
            }
        } else {
            job->began_ms = clock_ms();
        }
        answer(groups, judged, job);
    }
    return 0;
}

const struct engine engine_group = {
    .name = "group",
    .help = "compares all rollouts of a prompt",
    .batch = BATCH,
    .open = group_open,
    .advance = group_advance,
    .close = group_close,
};
