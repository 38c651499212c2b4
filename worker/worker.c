/* worker.c - see worker.h. After a backend has finished, the answer is extracted here, where the text is. */
#include "worker/worker.h"
#include "common/answer.h"
#include "common/io/log.h"
#include "worker/backend.h"
#include "worker/cues.h"
#include "worker/fields.h"
#include "worker/token_memory.h"

#include <string.h>

static const struct engine *pick(struct slice spec)
{
    struct fields *fields;
    struct slice name = {0};
    const struct engine *found = NULL;
    if (fields_parse(spec, &fields, NULL) != 0)
        return NULL;
    if (fields_string(fields, "backend", &name, NULL) == 0)
        for (int i = 0; backends[i] != NULL && found == NULL; i++)
            if (strlen(backends[i]->name) == name.len && memcmp(backends[i]->name, name.data, name.len) == 0)
                found = backends[i];
    fields_free(&fields);
    return found;
}

/* Texts of the extractor, terminated; empty when absent. */
struct rule {
    struct extractor extractor;
    struct buf pattern, marker;
};

static int read_rule(const struct fields *answer, struct rule *rule)
{
    struct slice kind = {0}, pattern = {0}, marker = {0};
    int rc = fields_string(answer, "kind", &kind, NULL);
    if (rc == 0)
        rc = fields_string(answer, "pattern", &pattern, NULL);
    if (rc == 0)
        rc = fields_string(answer, "marker", &marker, NULL);
    if (rc != 0)
        return rc;
    buf_put(&rule->pattern, pattern.data, pattern.len);
    buf_put(&rule->marker, marker.data, marker.len);
    rule->extractor.pattern = rule->pattern.data;
    rule->extractor.marker = rule->marker.data;
    struct buf partial = {0};
    rule->extractor.partial = fields_text(answer, "partial", &partial) && strcmp(partial.data, "true") == 0;
    buf_clear(&partial);
    return extractor_kind_of(kind, &rule->extractor.kind) ? 0 : ERR_NOT_FOUND;
}

/* The answer belongs to the whole path, and only a finished one has it. */
static void extract(struct job *job, const struct fields *answer)
{
    struct rule rule = {0};
    if (read_rule(answer, &rule) == 0) {
        struct buf text = {0};
        buf_put(&text, job->text.data, job->text.len);
        buf_put(&text, job->out.data, job->out.len);
        bool truncated = job->result.finish == FINISH_LENGTH || job->result.finish == FINISH_TIMEOUT;
        answer_extract(&rule.extractor, buf_slice(&text), truncated, &job->found);
        buf_clear(&text);
    }
    buf_clear(&rule.pattern);
    buf_clear(&rule.marker);
}

/* A node's text is what stands behind its parent's: an inline cue, then what was generated. */
static void put_cue_before(struct job *job)
{
    if (!cue_inline(job->cue))
        return;
    struct buf text = {0};
    buf_put(&text, job->cue_text.data, job->cue_text.len);
    buf_put(&text, job->out.data, job->out.len);
    buf_clear(&job->out);
    job->out = text;
}

static void find_answer(struct job *job, struct slice spec)
{
    struct fields *fields;
    bool ended = job->result.finish == FINISH_STOP || job->result.finish == FINISH_LENGTH ||
                 job->result.finish == FINISH_TIMEOUT;
    if (!ended || job->think) { /* half a thought has no answer */
        buf_reset(&job->found);
        return;
    }
    if (job->found.len > 0) { /* the engine knows it (a recording): votes compare canonical forms */
        struct buf canonical = {0};
        answer_canonical(buf_slice(&job->found), &canonical);
        buf_clear(&job->found);
        job->found = canonical;
        return;
    }
    if (job->result.features.have & 1u << FEATURE_CORRECT || fields_parse(spec, &fields, NULL) != 0)
        return; /* recorded without an answer: no vote */
    const struct fields *answer = fields_object(fields, "answer");
    if (answer != NULL)
        extract(job, answer);
    fields_free(&fields);
}

static void finish(struct job *job, struct slice spec)
{
    find_answer(job, spec);
    put_cue_before(job);
}

/* The others look at texts at most. */
static bool reads(struct slice spec)
{
    const struct engine *engine = pick(spec);
    return engine == &engine_openai || engine == &engine_exec;
}

void worker_say(void)
{
    struct token_counts counts = token_memory_counts();
    if (counts.asked > 0)
        log_line(0, "worker paths=%llu by_ids=%llu ids_bytes=%zu", (unsigned long long)counts.asked,
                 (unsigned long long)counts.known, counts.bytes);
}

void worker_options(struct agent_options *options)
{
    static char kinds[512];
    kinds[0] = '\0';
    for (int i = 0; backends[i] != NULL; i++) {
        if (i > 0)
            strcat(kinds, ",");
        strcat(kinds, backends[i]->name);
    }
    options->verifier = false;
    options->kinds = kinds;
    options->pick = pick;
    options->reads = reads;
    options->finish = finish;
    options->cue = cue_text;
}
