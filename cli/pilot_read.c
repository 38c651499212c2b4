/* pilot_read.c - see pilot_read.h. */
#include "cli/pilot_read.h"

#include "broker/results.h"
#include "broker/own_names.h"
#include "broker/server.h"
#include "cli/cli.h"
#include "common/limits.h"
#include "worker/fields.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -- lines of results ----------------------------------------------------------------------------------------------- */

struct lines {
    const struct pilot_request *request;
    struct pilot_read *read;
    char model[65];
    struct buf prompt, answer, verifiers; /* verifiers: of the first line that the named truth has not judged */
    uint64_t line;
    struct error *error;
};

static int bad_line(const struct lines *lines, int code, const char *why)
{
    return error_set(lines->error, code, "pilot '%s', line %llu: %s", lines->request->pilot,
                     (unsigned long long)lines->line, why);
}

/* 1: passed, 0: failed, -1: neither. */
static int outcome_of(const struct fields *verdict)
{
    struct slice text = {0};
    struct error ignored;
    if (verdict == NULL || fields_string(verdict, "outcome", &text, &ignored) != 0 || text.data == NULL)
        return -1;
    if (text.len == 4 && memcmp(text.data, "pass", 4) == 0)
        return 1;
    bool wrong =
        (text.len == 4 && memcmp(text.data, "fail", 4) == 0) || (text.len == 7 && memcmp(text.data, "timeout", 7) == 0);
    return wrong ? 0 : -1;
}

/* A line of another model is an error: their laws differ. */
static int check_model(struct lines *lines, const struct fields *fields, bool *other)
{
    struct buf name = {0};
    int rc = 0;
    *other = false;
    if (!fields_text(fields, "model", &name))
        return 0;
    if (lines->request->model != NULL)
        *other = strcmp(lines->request->model, name.data) != 0;
    else if (lines->model[0] == '\0')
        snprintf(lines->model, sizeof lines->model, "%s", name.data);
    else if (strcmp(lines->model, name.data) != 0)
        rc = bad_line(lines, ERR_CONFLICT, "rollouts of two models stand here: name one of them with --model");
    buf_clear(&name);
    return rc;
}

/* Of the truth; looks for it where nobody named one: `correct`, or the only verifier that there is. */
static int right_of(struct lines *lines, const struct fields *fields, const struct fields *verdicts, int *right)
{
    struct buf text = {0};
    int rc = 0;
    *right = -1;
    if (lines->request->truth == NULL && fields_text(fields, "correct", &text)) {
        bool yes = strcmp(text.data, "1") == 0 || strcmp(text.data, "true") == 0;
        bool no = strcmp(text.data, "0") == 0 || strcmp(text.data, "false") == 0;
        *right = yes ? 1 : no ? 0 : -1;
    } else if (lines->read->truth[0] != '\0') {
        *right = outcome_of(fields_object(verdicts, lines->read->truth));
    } else if (verdicts != NULL) {
        fields_keys(verdicts, &text);
        if (text.len > 0 && (text.len > LIMIT_NAME || memchr(text.data, ',', text.len) != NULL))
            rc = bad_line(lines, ERR_NOT_FOUND, "there are several verifiers: which is the truth? --truth NAME");
        else if (text.len > 0)
            snprintf(lines->read->truth, sizeof lines->read->truth, "%s", text.data);
        *right = rc == 0 && text.len > 0 ? outcome_of(fields_object(verdicts, lines->read->truth)) : -1;
    }
    buf_clear(&text);
    return rc;
}

/* Verdicts of all that are not the truth. */
static void read_verdicts(struct lines *lines, const struct fields *verdicts, int found[PILOT_VERIFIERS])
{
    struct buf names = {0};
    char *rest;
    for (int v = 0; v < PILOT_VERIFIERS; v++)
        found[v] = -1;
    if (verdicts == NULL)
        return;
    buf_puts(&names, "");
    fields_keys(verdicts, &names);
    for (char *name = strtok_r(names.data, ", ", &rest); name != NULL; name = strtok_r(NULL, ", ", &rest)) {
        if (strcmp(name, lines->read->truth) == 0)
            continue;
        int v = pilot_verifier(lines->read->pilot, slice_of(name));
        if (v >= 0)
            found[v] = outcome_of(fields_object(verdicts, name));
    }
    buf_clear(&names);
}

static int read_counts(const struct lines *lines, const struct fields *fields, struct pilot_rollout *rollout,
                       double *ordinal)
{
    struct error why;
    double in = 0, out = 0;
    int rc = fields_real(fields, "tokens_in", 0, UINT32_MAX, &in, &why);
    if (rc == 0)
        rc = fields_real(fields, "tokens_out", 0, UINT32_MAX, &out, &why);
    if (rc == 0)
        rc = fields_real(fields, "ordinal", 0, UINT32_MAX, ordinal, &why);
    rollout->tokens_in = (uint32_t)in;
    rollout->tokens_out = (uint32_t)out;
    return rc == 0 ? 0 : bad_line(lines, rc, why.text);
}

static bool failed(const struct fields *fields)
{
    struct slice text = {0};
    struct error ignored;
    return fields_string(fields, "finish", &text, &ignored) == 0 && text.len == 6 &&
           memcmp(text.data, "failed", 6) == 0;
}

/* Of a pool with a kill rule not all are whole; nodes of trees are no independent rollouts. */
static bool is_sample(const struct fields *fields)
{
    return !fields_have(fields, "kill") && !fields_have(fields, "node");
}

static int read_rollout(struct lines *lines, const struct fields *fields)
{
    const struct fields *verdicts = fields_object(fields, "verdicts");
    struct pilot_rollout rollout = {0};
    double ordinal = 0;
    bool other;
    int right, found[PILOT_VERIFIERS];
    if (!is_sample(fields))
        return 0;
    int rc = check_model(lines, fields, &other);
    if (rc != 0 || other)
        return rc;
    rc = read_counts(lines, fields, &rollout, &ordinal);
    if (rc != 0 || (lines->request->rollouts > 0 && ordinal >= lines->request->rollouts))
        return rc;
    rc = right_of(lines, fields, verdicts, &right);
    if (rc != 0)
        return rc;
    if (right < 0 && failed(fields)) /* for good: nobody judges it, and it is certainly not right */
        right = 0;
    buf_reset(&lines->prompt);
    buf_reset(&lines->answer);
    if (!fields_text(fields, "prompt", &lines->prompt))
        return bad_line(lines, ERR_NOT_FOUND, "there is no 'prompt'");
    if (right < 0) {
        if (lines->read->skipped++ == 0 && verdicts != NULL)
            fields_keys(verdicts, &lines->verifiers);
        return 0;
    }
    if (fields_text(fields, "answer", &lines->answer))
        rollout.answer = buf_slice(&lines->answer);
    rollout.prompt = buf_slice(&lines->prompt);
    rollout.right = right == 1;
    read_verdicts(lines, verdicts, found);
    pilot_add(lines->read->pilot, &rollout, found);
    return 0;
}

static int read_line(void *arg, struct slice line)
{
    struct lines *lines = arg;
    struct fields *fields;
    struct error why;
    lines->line++;
    if (line.len > 0 && line.data[line.len - 1] == '\n')
        line.len--;
    if (line.len == 0)
        return 0;
    int rc = fields_parse(line, &fields, &why);
    if (rc != 0)
        return bad_line(lines, rc, why.text);
    rc = read_rollout(lines, fields);
    fields_free(&fields);
    return rc;
}

/* -- where lines come from ------------------------------------------------------------------------------------------ */

static int read_file(struct lines *lines)
{
    char *text;
    size_t len;
    int rc = file_read(lines->request->pilot, LIMIT_SUBMISSION, &text, &len, lines->error);
    if (rc != 0)
        return rc;
    for (size_t at = 0; rc == 0 && at < len;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t size = end == NULL ? len - at : (size_t)(end - text) - at + 1;
        rc = read_line(lines, (struct slice){text + at, size});
        at += size;
    }
    free(text);
    return rc;
}

/* The truth and the prices are the sweep's, where the command line does not say otherwise. */
static void take_sweep(const struct core *core, uint32_t sweep, struct lines *lines)
{
    struct sweep_info info = core_sweep(core, sweep);
    if (lines->request->truth == NULL && info.truth != NO_ID)
        snprintf(lines->read->truth, sizeof lines->read->truth, "%s", core_verifier(core, info.truth).name);
    struct own_names *names = own_names_new(core, sweep);
    for (uint32_t i = 0; i < info.arms; i++) {
        uint32_t pool = core_arm(core, core_sweep_arm(core, sweep, i)).pools[0];
        struct model_info model = core_model(core, core_pool(core, pool).model);
        if (lines->request->model != NULL && strcmp(lines->request->model, own_name(names, pool)) != 0)
            continue;
        lines->read->price_in = (double)model.price_in / 1e6;
        lines->read->price_out = (double)model.price_out / 1e6;
    }
    own_names_free(&names);
}

static int read_sweep(struct lines *lines)
{
    struct source source;
    struct core *core;
    uint32_t sweep;
    int rc = source_open(&lines->request->reading, &source, lines->error);
    if (rc != 0)
        return rc;
    rc = journal_core(source.journal, &core, lines->error);
    if (rc != 0) {
        source_close(&source);
        return rc;
    }
    rc = find_sweep(core, lines->request->pilot, &sweep, lines->error);
    if (rc != 0) {
        struct error why = *lines->error;
        error_set(lines->error, rc, "there is no file '%.200s' here, and %.300s", lines->request->pilot, why.text);
    } else {
        take_sweep(core, sweep, lines);
        rc = results_write(core, source.journal, sweep, RESULTS_PLAIN, read_line, lines, lines->error);
    }
    core_free(&core);
    source_close(&source);
    return rc;
}

int pilot_read(const struct pilot_request *request, struct pilot_read *read, struct error *error)
{
    *read = (struct pilot_read){.pilot = pilot_new(), .price_in = NAN, .price_out = NAN};
    struct lines lines = {.request = request, .read = read, .error = error};
    if (request->truth != NULL)
        snprintf(read->truth, sizeof read->truth, "%s", request->truth);
    int rc = access(request->pilot, F_OK) == 0 ? read_file(&lines) : read_sweep(&lines);
    if (rc == 0 && request->truth != NULL && read->pilot->len == 0 && lines.verifiers.len > 0)
        rc = error_set(error, ERR_NOT_FOUND, "no rollout of pilot '%.200s' has a verdict of '%.64s'; there are: %.200s",
                       request->pilot, request->truth, lines.verifiers.data);
    buf_clear(&lines.verifiers);
    buf_clear(&lines.prompt);
    buf_clear(&lines.answer);
    return rc;
}

/* -- options -------------------------------------------------------------------------------------------------------- */

bool pilot_option(int key, char *arg, struct pilot_request *request, struct argp_state *state)
{
    char *end;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &request->reading;
        return true;
    case PILOT_TRUTH:
        request->truth = arg;
        return true;
    case PILOT_MODEL:
        request->model = arg;
        return true;
    case PILOT_ROLLOUTS:
        request->rollouts = (uint32_t)strtoul(arg, &end, 10);
        if (end == arg || *end != '\0' || request->rollouts < 2 || request->rollouts > LIMIT_N)
            argp_error(state, "--rollouts takes a whole number from 2 to %d, not '%s'", LIMIT_N, arg);
        return true;
    }
    return false;
}
