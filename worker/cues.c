/* cues.c - see cues.h. */
#include "worker/cues.h"

#include "common/cue.h"
#include "worker/fields.h"

static void put(const struct fields *spec, const char *key, const char *otherwise, struct buf *out)
{
    if (!fields_text(spec, key, out))
        buf_puts(out, otherwise);
}

static void put_cue(const struct fields *spec, enum cue cue, struct buf *out)
{
    switch (cue) {
    case CUE_NONE:
        return;
    case CUE_WAIT:
        put(spec, "wait", CUE_WAIT_TEXT, out);
        return;
    case CUE_FINAL:
        put(spec, "think_end", "", out);
        put(spec, "final", CUE_FINAL_TEXT, out);
        return;
    case CUE_ANSWER:
        put(spec, "think_end", "", out);
        return;
    case CUE_REVISE:
        put(spec, "revise", CUE_REVISE_TEXT, out);
        return;
    }
}

int cue_text(struct slice json, enum cue cue, struct buf *out)
{
    struct fields *spec;
    int rc = fields_parse(json, &spec, NULL);
    if (rc == 0)
        put_cue(spec, cue, out);
    fields_free(&spec);
    return rc;
}

int cue_think_end(struct slice json, struct buf *out)
{
    return cue_text(json, CUE_ANSWER, out);
}

void cue_path(const struct job *job, struct buf *out)
{
    for (uint32_t i = 0; i < job->turns_len; i++) {
        buf_put(out, job->turns[i].data, job->turns[i].len);
        buf_put(out, job->cue_text.data, job->cue_text.len);
    }
    buf_put(out, job->text.data, job->text.len);
}
