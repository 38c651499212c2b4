/* backend_candidates.c - fixed candidates that came with the prompts, only to be judged: reward-model benchmarks, texts of
 * another program.
 *
 * Record: `candidates`, a list of texts or of objects {"text": ..., "answer": ..., "label": ...}; or, as such benchmarks
 * have it, `chosen` and `rejected`, each a text or a list of texts. Ordinal k is candidate k (see candidates.h), and behind
 * the last one the pool is exhausted. Nothing is generated, so nothing is charged but rollouts.
 * The kind `label` of the verifiers reads the same lists. */
#include "worker/backend.h"

#include "common/candidates.h"
#include "worker/fields.h"

#include <string.h>

enum { BATCH = 256, IDLE_MS = 1000 };

static int candidates_open(struct slice spec, void **state, struct error *error)
{
    static int none; /* there is nothing to keep, but NULL would mean that it is not open */
    (void)spec;
    (void)error;
    *state = &none;
    return 0;
}

static void candidates_close(void **state)
{
    *state = NULL;
}

/* Where candidate `ordinal` stands; false: there are fewer. */
static bool place_of(const struct fields *record, const struct job *job, const char **key, size_t *i)
{
    if (fields_have(record, "candidates")) {
        *key = "candidates";
        *i = job->ordinal;
        return *i < fields_texts(record, *key);
    }
    size_t chosen = fields_texts(record, "chosen"), all = chosen + fields_texts(record, "rejected");
    if (job->ordinal >= all)
        return false;
    *i = candidate_turned(job->record, job->ordinal, all);
    *key = *i < chosen ? "chosen" : "rejected";
    *i -= *i < chosen ? 0 : chosen;
    return true;
}

static int give(const struct fields *record, struct job *job, struct error *error)
{
    const char *key;
    size_t i;
    if (!fields_have(record, "candidates") && !fields_have(record, "chosen"))
        return error_set(error, ERR_NOT_FOUND, "the record has neither 'candidates' nor 'chosen'");
    if (!place_of(record, job, &key, &i)) {
        job->result.finish = FINISH_EXHAUSTED;
        return 0;
    }
    const struct fields *object;
    if (!fields_text_at(record, key, i, &job->out, &object))
        return error_set(error, ERR_SYNTAX, "element %zu of '%s' is neither a text nor an object with 'text'", i, key);
    fields_text(object, "answer", &job->found);
    job->result.finish = FINISH_STOP;
    return 0;
}

static void job_run(struct job *job)
{
    struct fields *record = NULL;
    struct error what;
    buf_reset(&job->out);
    buf_reset(&job->found);
    job->result = (struct result){0};
    int rc = job->text.len > 0 ? error_set(&what, ERR_REFUSED, "candidates cannot be continued: use strategy sample")
                               : fields_parse(job->record, &record, &what);
    if (rc == 0)
        rc = give(record, job, &what);
    fields_free(&record);
    if (rc != 0)
        error_set(&job->error, rc, "candidates: %.400s", what.text);
    job->state = rc == 0 ? JOB_DONE : JOB_FAILED;
}

static int64_t candidates_advance(void *state, struct job **jobs, size_t len, int64_t now_ms)
{
    (void)state;
    (void)now_ms;
    for (size_t i = 0; i < len; i++)
        if (jobs[i]->state == JOB_RUNNING)
            job_run(jobs[i]);
    return IDLE_MS;
}

const struct engine engine_candidates = {
    .name = "candidates",
    .help = "fixed candidates that came with the prompts",
    .batch = BATCH,
    .open = candidates_open,
    .advance = candidates_advance,
    .close = candidates_close,
};
