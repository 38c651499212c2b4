/* prm.c - kind `prm`: a score for each step of a text, from a process reward model.
 *
 * The text is cut at its separator and a tag stands behind each step; the model gives a row per tag. Some servers ignore
 * that setting and give a row per token instead, with an answer that looks alike. So a probe with two steps must come
 * back with two rows; if it does not and the tag's token id is known, texts are put into tokens by the server first and
 * the rows of the tags are picked out; otherwise the verifier refuses to work. */
#include "common/json.h"
#include "verifier/alone.h"
#include "verifier/check.h"
#include "verifier/doc.h"
#include "verifier/fill.h"
#include "verifier/scorer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_MAX = 4096, TOKENS_MAX = 1 << 20 };

/* How the scores of steps become one. */
static double reduce_last(const double *steps, size_t len)
{
    return steps[len - 1];
}

static double reduce_min(const double *steps, size_t len)
{
    double least = steps[0];
    for (size_t i = 1; i < len; i++)
        least = fmin(least, steps[i]);
    return least;
}

static double reduce_prod(const double *steps, size_t len)
{
    double all = 1;
    for (size_t i = 0; i < len; i++)
        all *= steps[i];
    return all;
}

static double reduce_mean(const double *steps, size_t len)
{
    double sum = 0;
    for (size_t i = 0; i < len; i++)
        sum += steps[i];
    return sum / (double)len;
}

static const struct {
    const char *name;
    double (*reduce)(const double *steps, size_t len);
} reducers[] = {{"last", reduce_last}, {"min", reduce_min}, {"prod", reduce_prod}, {"mean", reduce_mean}};

static const char *const tasks[] = {"token_classify", "reward", "encode", NULL};
#define TASKS (sizeof tasks / sizeof tasks[0])

struct prm {
    struct buf template; /* empty: messages */
    char *step, *tag, *task, *route;
    double token; /* id of the tag; -1: not known */
    double (*reduce)(const double *steps, size_t len);
    bool per_token; /* the server gives a row for each token */
};

/* -- opening ---------------------------------------------------------------------------------------------------------- */

static void prm_close(struct scorer *scorer)
{
    struct prm *prm = scorer->own;
    if (prm == NULL)
        return;
    buf_clear(&prm->template);
    free(prm->step);
    free(prm->tag);
    free(prm->task);
    free(prm->route);
    free(prm);
    scorer->own = NULL;
}

static int prm_open(struct scorer *scorer, const struct json_t *spec, struct error *error)
{
    struct prm *prm = xalloc(sizeof *prm);
    const char *step = "\n\n", *tag = "<extra_0>", *task = "auto", *route = "/pooling", *template = NULL;
    const char *reduce = "last";
    const struct doc_range ids = {-1, 1e9};
    scorer->own = prm;
    const struct {
        const char *name, **text;
    } texts[] = {{"step", &step},   {"step_tag", &tag},      {"task", &task},
                 {"route", &route}, {"template", &template}, {"reduce", &reduce}};
    int code = 0;
    for (size_t i = 0; code == 0 && i < sizeof texts / sizeof texts[0]; i++)
        code = doc_option_text(spec, texts[i].name, texts[i].text, error);
    prm->token = -1;
    if (code == 0)
        code = doc_option_real(spec, "step_token", ids, &prm->token, error);
    if (code == 0 && template != NULL)
        code = fill_load(template, FILL_TEXT, &prm->template, error);
    if (code < 0)
        return code;
    for (size_t i = 0; i < sizeof reducers / sizeof reducers[0]; i++)
        if (strcmp(reducers[i].name, reduce) == 0)
            prm->reduce = reducers[i].reduce;
    if (prm->reduce == NULL)
        return error_set(error, ERR_SYNTAX, "option `reduce` cannot be '%.32s'", reduce);
    prm->step = xstrdup(step);
    prm->tag = xstrdup(tag);
    prm->route = xstrdup(route);
    prm->task = strcmp(task, "auto") != 0 ? xstrdup(task) : NULL;
    scorer->route = prm->route;
    scorer->one_by_one = prm->template.len == 0;
    return 0;
}

/* -- steps ------------------------------------------------------------------------------------------------------------ */

static bool is_blank(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (memchr(" \t\r\n", text.data[i], 4) == NULL)
            return false;
    return true;
}

/* A text that holds the tag itself would get rows of its own making: the tag is left out of it. */
static void put_untagged(struct slice text, struct slice tag, struct buf *out)
{
    for (;;) {
        const char *at = text.len > 0 ? memmem(text.data, text.len, tag.data, tag.len) : NULL;
        size_t len = at != NULL ? (size_t)(at - text.data) : text.len;
        buf_put(out, text.data, len);
        if (at == NULL)
            return;
        text = (struct slice){at + tag.len, text.len - len - tag.len};
    }
}

/* The tag without the blanks that may stand around it for the text's sake. */
static struct slice bare(const char *tag)
{
    struct slice text = {tag + strspn(tag, " \n"), 0};
    text.len = strlen(text.data);
    while (text.len > 0 && (text.data[text.len - 1] == ' ' || text.data[text.len - 1] == '\n'))
        text.len--;
    return text.len > 0 ? text : slice_of(tag);
}

/* Removing the tag can make another one out of its halves: so again until none is left. */
static void clean(struct slice text, const char *tag, struct buf *out)
{
    struct buf before = {0};
    put_untagged(text, bare(tag), out);
    while (before.len != out->len) {
        buf_reset(&before);
        buf_put(&before, out->data, out->len);
        buf_reset(out);
        put_untagged(buf_slice(&before), bare(tag), out);
    }
    buf_clear(&before);
}

/* Every step with the tag behind it; how many there are. */
static size_t put_steps(const struct prm *prm, struct slice text, struct buf *out)
{
    size_t steps = 0, separator = strlen(prm->step);
    while (text.len > 0) {
        const char *at = memmem(text.data, text.len, prm->step, separator);
        size_t len = at != NULL ? (size_t)(at - text.data) : text.len;
        struct slice step = {text.data, len};
        if (!is_blank(step)) {
            buf_put(out, step.data, step.len);
            buf_puts(out, prm->tag);
            steps++;
        }
        len += at != NULL ? separator : 0;
        text = (struct slice){text.data + len, text.len - len};
    }
    return steps;
}

static void prm_content(const struct prm *prm, struct item *item, struct slice text)
{
    struct buf plain = {0}, tagged = {0};
    clean(text, prm->tag, &plain);
    item->rows = put_steps(prm, buf_slice(&plain), &tagged);
    const struct fill fill = {.of = {[FILL_PROMPT] = buf_slice(&item->question.prompt),
                                     [FILL_TEXT] = buf_slice(&tagged),
                                     [FILL_REFERENCE] = buf_slice(&item->question.reference)}};
    if (prm->template.len > 0)
        fill_put(buf_slice(&prm->template), &fill, &item->content);
    else
        question_messages(&item->question, buf_slice(&tagged), &item->content);
    buf_clear(&plain);
    buf_clear(&tagged);
}

/* -- a row per token -------------------------------------------------------------------------------------------------- */

/* Ids instead of the text, and which of them are tags. */
static int take_tokens(struct item *item, const struct json_t *doc, struct error *error)
{
    const struct prm *prm = item->scorer->own;
    const struct json_t *tokens = doc_get(doc, "tokens");
    size_t len = doc_len(tokens), found = 0;
    if (len == 0 || len > TOKENS_MAX)
        return error_set(error, ERR_PROTOCOL, "/tokenize gives no list of tokens");
    item->row_at = xalloc(item->rows * sizeof *item->row_at);
    item->tokens = len;
    for (size_t i = 0; i < len; i++) {
        double id;
        if (!doc_is_number(doc_item(tokens, i), &id))
            return error_set(error, ERR_PROTOCOL, "/tokenize gives something else than token ids");
        if (id != prm->token)
            continue;
        if (found < item->rows)
            item->row_at[found] = i;
        found++;
    }
    if (found != item->rows)
        return error_set(error, ERR_PROTOCOL, "token %.0f (`step_token`) stands %zu times in a text of %zu steps",
                         prm->token, found, item->rows);
    buf_reset(&item->content);
    doc_write(tokens, &item->content);
    return 0;
}

static void on_tokens(void *user, const struct remote_reply *reply)
{
    struct item *item = user;
    struct error error = reply->error;
    item->call = NULL;
    if (reply->doc == NULL || take_tokens(item, reply->doc, &error) < 0)
        item_fail(item, &error);
    else
        item_ready(item);
}

static void ask_tokens(struct item *item)
{
    struct buf body = {0};
    const struct prm *prm = item->scorer->own;
    json_begin(&body, '{');
    if (item->scorer->model[0] != '\0') {
        json_key(&body, "model");
        json_str(&body, item->scorer->model);
    }
    json_key(&body, prm->template.len > 0 ? "prompt" : "messages");
    if (prm->template.len > 0) {
        json_text(&body, buf_slice(&item->content));
    } else {
        json_raw(&body, buf_slice(&item->content));
        json_key(&body, "add_generation_prompt");
        json_bool(&body, false);
    }
    json_end(&body, '}');
    item->state = ITEM_PREPARING;
    item->call = remote_ask(
        item->scorer->remote,
        &(struct remote_request){
            .route = "/tokenize", .body = &body, .deadline_ms = item->deadline_ms, .done = on_tokens, .user = item});
}

/* -- requests --------------------------------------------------------------------------------------------------------- */

static int prm_prepare(struct item *item, struct error *error)
{
    const struct prm *prm = item->scorer->own;
    prm_content(prm, item, item->job->text);
    if (item->rows > STEPS_MAX)
        return error_set(error, ERR_LIMIT, "the text has more than %d steps", STEPS_MAX);
    if (item->rows == 0)
        item_settle(item, 0); /* nothing was done yet */
    else if (prm->per_token)
        ask_tokens(item);
    return 0;
}

static void prm_write(const struct scorer *scorer, struct item *const *items, size_t len, struct buf *body)
{
    const struct prm *prm = scorer->own;
    const char *task = prm->task != NULL ? prm->task : tasks[scorer->form];
    json_begin(body, '{');
    if (scorer->model[0] != '\0') {
        json_key(body, "model");
        json_str(body, scorer->model);
    }
    if (task != NULL) {
        json_key(body, "task");
        json_str(body, task);
    }
    scorer_put_contents(scorer, "input", items, len, body);
    json_end(body, '}');
}

/* -- answers ---------------------------------------------------------------------------------------------------------- */

static void put_detail(struct job *job, const double *steps, size_t len)
{
    json_begin(&job->detail, '{');
    json_key(&job->detail, "steps");
    json_begin(&job->detail, '[');
    for (size_t i = 0; i < len; i++)
        json_f64(&job->detail, steps[i]);
    json_end(&job->detail, ']');
    json_end(&job->detail, '}');
}

/* Of a prefix the last step is what is new. */
static void settle(struct item *item, const struct json_t *rows)
{
    const struct scorer *scorer = item->scorer;
    const struct prm *prm = scorer->own;
    double *steps = xalloc(item->rows * sizeof *steps);
    bool good = true;
    for (size_t i = 0; i < item->rows && good; i++)
        good = scorer_number(doc_item(rows, item->row_at != NULL ? item->row_at[i] : i), scorer->column, &steps[i]);
    if (!good) {
        item_unjudged(item, "the server gives no finite number for a step of this text");
    } else {
        put_detail(item->job, steps, item->rows);
        item_settle(item, (item->job->finished ? prm->reduce : reduce_last)(steps, item->rows));
    }
    free(steps);
}

static int prm_read(struct scorer *scorer, const struct json_t *doc, struct item *const *items, size_t len,
                    struct error *error)
{
    (void)scorer;
    for (size_t i = 0; i < len; i++) {
        const struct json_t *row = scorer_row(doc, i, len);
        if (row == NULL)
            return error_set(error, ERR_PROTOCOL, "the server answered %zu rows, not one for each of %zu texts",
                             scorer_rows(doc), len);
        if (items[i] == NULL)
            continue;
        size_t rows = doc_len(scorer_value(row)), want = items[i]->row_at != NULL ? items[i]->tokens : items[i]->rows;
        if (rows != want)
            return error_set(error, ERR_PROTOCOL, "the server gives %zu scores for a text of %zu %s", rows, want,
                             items[i]->row_at != NULL ? "tokens" : "steps");
    }
    for (size_t i = 0; i < len; i++)
        if (items[i] != NULL)
            settle(items[i], scorer_value(scorer_row(doc, i, len)));
    return 0;
}

/* -- the probe -------------------------------------------------------------------------------------------------------- */

static bool prm_probe(const struct scorer *scorer, struct buf *body)
{
    const struct prm *prm = scorer->own;
    struct item item = {.scorer = (struct scorer *)scorer}, *one = &item;
    struct error error;
    struct buf text = {0};
    if (scorer->form >= TASKS || (prm->task != NULL && scorer->form > 0))
        return false;
    if (question_open(slice_of("{\"prompt\": \"What is 1 + 1 + 1?\"}"), &item.question, &error) < 0)
        return false;
    buf_printf(&text, "1 + 1 = 2%s2 + 1 = 3", prm->step);
    prm_content(prm, &item, buf_slice(&text));
    prm_write(scorer, &one, 1, body);
    question_clear(&item.question);
    buf_clear(&item.content);
    buf_clear(&text);
    return true;
}

static int prm_probed(struct scorer *scorer, const struct json_t *doc, struct error *error)
{
    struct prm *prm = scorer->own;
    const struct json_t *value = scorer_value(scorer_row(doc, 0, 1));
    if (!doc_is_list(value))
        return error_set(error, ERR_PROTOCOL,
                         "the server does not answer a score per step: is it a process reward model?");
    if (doc_len(value) == 2)
        return 0;
    if (prm->token < 0)
        return error_set(error, ERR_PROTOCOL,
                         "the server gives %zu scores for two steps, so it does not score steps but perhaps every "
                         "token: set `step_token` to the id of %.32s, or start the server with STEP pooling",
                         doc_len(value), prm->tag);
    prm->per_token = true;
    scorer->one_by_one = false; /* ids can share a request, whatever they came from */
    for (struct item *item = scorer->items; item != NULL; item = item->next)
        if (item->state == ITEM_WAITING && item->row_at == NULL)
            ask_tokens(item);
    return 0;
}

const struct scorer_kind scorer_prm = {
    .open = prm_open,
    .close = prm_close,
    .prepare = prm_prepare,
    .write = prm_write,
    .read = prm_read,
    .probe = prm_probe,
    .probed = prm_probed,
};

static int open_alone(struct slice spec, void **state, struct error *error)
{
    return alone_open(&engine_scorer, spec, state, error);
}

const struct check check_prm = {
    .name = "prm",
    .help = "a score per step from a process reward model over HTTP",
    .open = open_alone,
    .run = alone_run,
    .close = alone_close,
    .engine = &engine_scorer_wide,
    .cached = CACHED_ANYWHERE,
};
