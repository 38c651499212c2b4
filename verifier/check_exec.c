/* check_exec.c - a program of the user's: one JSON line with the question, one back with the
 * verdict.
 *
 * The program starts with the verifier and stays. Whatever goes wrong with it (a crash, a
 * hang, a line that is no verdict) is a failure of the task, never a verdict, and costs it its
 * life: after a broken exchange nobody knows which question its next line would answer. */
#include "common/io/child.h"
#include "common/json.h"
#include "common/limits.h"
#include "verifier/inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ARGS_MAX   16
#define REPLY_MAX  (4 * LIMIT_DETAIL) /* details that are a little too long cost no verdict */
#define QUOTED_MAX 80

struct exec {
    char *argv[ARGS_MAX + 1];
    struct child *child; /* NULL after a failure */
};

static void exec_close(void **state)
{
    struct exec *exec = *state;
    if (exec == NULL)
        return;
    child_free(&exec->child);
    for (size_t i = 0; exec->argv[i] != NULL; i++)
        free(exec->argv[i]);
    free(exec);
    *state = NULL;
}

static int exec_fill(struct exec *exec, const struct json_t *options, struct error *error)
{
    size_t len = doc_list_len(options, "command");
    if (len == 0 || len > ARGS_MAX)
        return error_set(error, ERR_SYNTAX, "option `command` must be a list of 1 to %d texts", ARGS_MAX);
    for (size_t i = 0; i < len; i++) {
        const char *arg;
        if (!doc_list_text(options, "command", i, &arg))
            return error_set(error, ERR_SYNTAX, "option `command` must hold texts only");
        exec->argv[i] = xstrdup(arg);
    }
    return 0;
}

static int exec_open(struct slice spec, void **state, struct error *error)
{
    struct json_t *doc;
    int code = doc_parse(spec, &doc, error);
    if (code < 0)
        return code;
    struct exec *exec = xalloc(sizeof *exec);
    void *opened = exec;
    code = exec_fill(exec, doc_object(doc, "options"), error);
    doc_free(&doc);
    if (code == 0) /* one that cannot start is no failure of a task */
        code = child_start((const char *const *)exec->argv, &exec->child, error);
    if (code < 0)
        exec_close(&opened);
    *state = opened;
    return code;
}

static int request_write(const struct check_input *input, struct buf *out, struct error *error)
{
    struct json_t *doc;
    struct slice prompt;
    int code = check_prompt(input->record, &doc, &prompt, error);
    if (code < 0)
        return code;
    struct buf record = {0}; /* written anew: on one line whatever the record looked like */
    doc_write(doc, &record);
    doc_free(&doc);
    json_begin(out, '{');
    json_key(out, "prompt");
    json_raw(out, buf_slice(&record));
    json_key(out, "text");
    json_text(out, input->text);
    json_key(out, "answer");
    json_text(out, input->answer);
    json_key(out, "finished");
    json_bool(out, input->finished);
    json_key(out, "seed");
    json_u64(out, input->seed);
    json_end(out, '}');
    attachments_fill(input->attached, out);
    buf_clear(&record);
    return 0;
}

static bool outcome_read(struct slice text, enum outcome *outcome)
{
    static const char *const names[] = {
#define X(value, number, name) [value] = name,
        OUTCOME_TABLE(X)
#undef X
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i]) == text.len && memcmp(names[i], text.data, text.len) == 0) {
            *outcome = (enum outcome)i;
            return true;
        }
    return false;
}

/* A score left out is 1 for pass and 0 for fail and timeout; `score` must have one; of unknown and error it does not
 * count. */
static bool score_read(const struct json_t *doc, struct verdict *verdict)
{
    verdict->score = verdict->outcome == OUTCOME_PASS;
    bool scored = doc_real(doc, "score", &verdict->score);
    if (!scored && (doc_has(doc, "score") || verdict->outcome == OUTCOME_SCORE))
        return false;
    if (!outcome_known(verdict->outcome))
        verdict->score = 0;
    return isfinite(verdict->score);
}

static bool reply_read(struct slice reply, struct verdict *verdict, struct buf *detail)
{
    struct json_t *doc;
    struct slice name;
    if (doc_parse(reply, &doc, NULL) < 0)
        return false;
    const struct json_t *said = doc_object(doc, "detail");
    bool good = doc_text(doc, "outcome", &name) && outcome_read(name, &verdict->outcome) && score_read(doc, verdict) &&
                (said != NULL || !doc_has(doc, "detail"));
    if (good && said != NULL)
        doc_write(said, detail);
    doc_free(&doc);
    return good;
}

static int fail_reply(const struct exec *exec, struct slice reply, struct error *error)
{
    char quoted[QUOTED_MAX + 1];
    size_t len = 0;
    for (size_t i = 0; i < reply.len && i < QUOTED_MAX; i++)
        if ((unsigned char)reply.data[i] >= ' ' && reply.data[i] != 0x7F)
            quoted[len++] = reply.data[i];
    quoted[len] = '\0';
    return error_set(error, ERR_PROTOCOL, "`%.100s` answered with something else than a verdict: %s", exec->argv[0],
                     quoted);
}

static int ask_once(struct exec *exec, struct slice request, uint32_t timeout_ms, struct buf *reply,
                    struct error *error)
{
    int code = 0;
    if (exec->child == NULL)
        code = child_start((const char *const *)exec->argv, &exec->child, error);
    if (code == 0)
        code = child_ask(exec->child, request, reply, REPLY_MAX, timeout_ms, error);
    return code;
}

/* A child that answered before and is gone now may have ended on its own between questions: a fresh
 * one is asked once. If the question is what kills it, the fresh one dies as well. */
static int ask(struct exec *exec, struct slice request, uint32_t timeout_ms, struct buf *reply, struct error *error)
{
    int code = ask_once(exec, request, timeout_ms, reply, error);
    if (code == ERR_CLOSED && child_answers(exec->child) > 0) {
        child_free(&exec->child);
        code = ask_once(exec, request, timeout_ms, reply, error);
    }
    return code;
}

static int exec_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    struct exec *exec = state;
    struct buf request = {0}, reply = {0};
    struct verdict read = {0};
    int code = request_write(input, &request, error);
    if (code == 0) {
        code = ask(exec, buf_slice(&request), input->timeout_ms, &reply, error);
        if (code == 0 && !reply_read(buf_slice(&reply), &read, input->detail))
            code = fail_reply(exec, buf_slice(&reply), error);
        if (code < 0)
            child_free(&exec->child);
    }
    if (code == 0)
        *verdict = read;
    buf_clear(&request);
    buf_clear(&reply);
    return code;
}

const struct check check_exec = {
    .name = "exec",
    .help = "a program that reads and writes JSON lines",
    .open = exec_open,
    .run = exec_run,
    .close = exec_close,
};
