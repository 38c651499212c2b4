/* reward.c - kind `reward`: one number per text from a reward model or a cross-encoder.
 *
 * Servers name one thing in many ways, and change the names: a row of `apis` says what each way sends, in the forms to
 * try one after the other; what they answer is read by one function (scorer.c), for every way answers a list of rows.
 * Raw scores are asked for: an activation over a single class is 1 for every text, a trap that the probe looks for. */
#include "common/json.h"
#include "verifier/alone.h"
#include "verifier/check.h"
#include "verifier/doc.h"
#include "verifier/fill.h"
#include "verifier/scorer.h"

#include <stdlib.h>
#include <string.h>

enum shape { SHAPE_INPUT, SHAPE_TEXT, SHAPE_PAIRS, SHAPE_QUERY, SHAPE_BODY };

struct form {
    const char *task; /* NULL: none is sent */
    enum shape shape;
};

static const struct api {
    const char *name, *route;
    bool one_prompt, probed;
    struct form forms[6];
    size_t forms_len;
} apis[] = {
    {"pooling",
     "/pooling",
     false,
     true,
     {{"classify", SHAPE_INPUT},
      {"token_classify", SHAPE_INPUT},
      {"reward", SHAPE_INPUT},
      {"encode", SHAPE_INPUT},
      {NULL, SHAPE_INPUT}},
     5},
    {"classify", "/classify", false, true, {{NULL, SHAPE_INPUT}, {NULL, SHAPE_TEXT}}, 2},
    {"score", "/score", false, false, {{NULL, SHAPE_PAIRS}}, 1},
    {"rerank", "/v1/rerank", true, false, {{NULL, SHAPE_QUERY}}, 1},
    {"generic", "/", false, false, {{NULL, SHAPE_BODY}}, 1},
};

struct reward {
    const struct api *api;
    struct buf template, body; /* empty: messages; body: of generic */
    char *task, *route, *path; /* task: the only one to try, NULL: all */
    bool activation;
};

/* -- opening ---------------------------------------------------------------------------------------------------------- */

static void reward_close(struct scorer *scorer)
{
    struct reward *reward = scorer->own;
    if (reward == NULL)
        return;
    buf_clear(&reward->template);
    buf_clear(&reward->body);
    free(reward->task);
    free(reward->route);
    free(reward->path);
    free(reward);
    scorer->own = NULL;
}

static int read_api(struct reward *reward, const char *name, struct error *error)
{
    for (size_t i = 0; i < sizeof apis / sizeof apis[0]; i++)
        if (strcmp(apis[i].name, name) == 0)
            reward->api = &apis[i];
    return reward->api != NULL ? 0 : error_set(error, ERR_SYNTAX, "option `api` cannot be '%.32s'", name);
}

/* What only one of the ways needs. */
static int check_form(const struct reward *reward, struct error *error)
{
    bool generic = reward->api->forms[0].shape == SHAPE_BODY;
    if (generic && (reward->body.len == 0 || reward->path == NULL))
        return error_set(error, ERR_NOT_FOUND,
                         "api generic needs `body`, the JSON to send with {prompt} and {text} in it, and `path`, where "
                         "the number is in the answer");
    if (!generic && (reward->body.len > 0 || reward->path != NULL))
        return error_set(error, ERR_CONFLICT, "options `body` and `path` belong to api generic, not to %s",
                         reward->api->name);
    return reward->path != NULL ? doc_path_check(reward->path, error) : 0;
}

static int reward_open(struct scorer *scorer, const struct json_t *spec, struct error *error)
{
    struct reward *reward = xalloc(sizeof *reward);
    const char *api = "pooling", *task = "auto", *route = NULL, *path = NULL, *template = NULL, *body = NULL;
    scorer->own = reward;
    const struct {
        const char *name, **text;
    } texts[] = {{"api", &api},   {"task", &task},         {"route", &route},
                 {"path", &path}, {"template", &template}, {"body", &body}};
    int code = 0;
    for (size_t i = 0; code == 0 && i < sizeof texts / sizeof texts[0]; i++)
        code = doc_option_text(spec, texts[i].name, texts[i].text, error);
    if (code == 0)
        code = doc_option_bool(spec, "activation", &reward->activation, error);
    if (code == 0)
        code = read_api(reward, api, error);
    if (code == 0 && template != NULL)
        code = fill_load(template, FILL_TEXT, &reward->template, error);
    if (code == 0 && body != NULL)
        code = fill_load(body, FILL_TEXT, &reward->body, error);
    if (code < 0)
        return code;
    reward->task = strcmp(task, "auto") != 0 ? xstrdup(task) : NULL;
    reward->route = route != NULL ? xstrdup(route) : NULL;
    reward->path = path != NULL ? xstrdup(path) : NULL;
    scorer->route = route != NULL ? reward->route : reward->api->route;
    scorer->same_prompt = reward->api->one_prompt;
    enum shape shape = reward->api->forms[0].shape;
    scorer->one_by_one = shape == SHAPE_BODY || (shape == SHAPE_INPUT && reward->template.len == 0);
    scorer->ready = !reward->api->probed;
    return check_form(reward, error);
}

/* -- requests --------------------------------------------------------------------------------------------------------- */

/* As it stands inside a JSON text. */
static void put_escaped(struct buf *out, struct slice text)
{
    struct buf quoted = {0};
    json_text(&quoted, text);
    buf_put(out, quoted.data + 1, quoted.len - 2);
    buf_clear(&quoted);
}

static int reward_prepare(struct item *item, struct error *error)
{
    const struct reward *reward = item->scorer->own;
    const struct job *job = item->job;
    struct fill fill = {.of = {[FILL_PROMPT] = buf_slice(&item->question.prompt),
                               [FILL_TEXT] = job->text,
                               [FILL_ANSWER] = job->answer,
                               [FILL_REFERENCE] = buf_slice(&item->question.reference)}};
    enum shape shape = reward->api->forms[0].shape;
    if (shape == SHAPE_BODY) {
        struct json_t *doc;
        fill.put = put_escaped;
        fill_put(buf_slice(&reward->body), &fill, &item->content);
        int code = doc_parse_any(buf_slice(&item->content), &doc, error);
        doc_free(&doc);
        return code < 0 ? error_set(error, ERR_SYNTAX, "option `body` is no JSON once it is filled in") : 0;
    }
    if (reward->template.len > 0)
        fill_put(buf_slice(&reward->template), &fill, &item->content);
    else if (shape == SHAPE_INPUT || shape == SHAPE_TEXT)
        question_messages(&item->question, job->text, &item->content);
    else
        buf_put(&item->content, job->text.data, job->text.len);
    return 0;
}

static void put_prompts(struct item *const *items, size_t len, struct buf *body)
{
    json_key(body, "text_1");
    json_begin(body, '[');
    for (size_t i = 0; i < len; i++)
        json_text(body, buf_slice(&items[i]->question.prompt));
    json_end(body, ']');
}

static void reward_write(const struct scorer *scorer, struct item *const *items, size_t len, struct buf *body)
{
    const struct reward *reward = scorer->own;
    const struct form *form = &reward->api->forms[scorer->form];
    const char *task = reward->task != NULL ? reward->task : form->task;
    static const char *const keys[] = {
        [SHAPE_INPUT] = "input", [SHAPE_TEXT] = "text", [SHAPE_PAIRS] = "text_2", [SHAPE_QUERY] = "documents"};
    if (form->shape == SHAPE_BODY) {
        buf_put(body, items[0]->content.data, items[0]->content.len);
        return;
    }
    json_begin(body, '{');
    if (scorer->model[0] != '\0') {
        json_key(body, "model");
        json_str(body, scorer->model);
    }
    if (task != NULL && strcmp(reward->api->name, "pooling") == 0) {
        json_key(body, "task");
        json_str(body, task);
    }
    if (form->shape == SHAPE_PAIRS)
        put_prompts(items, len, body);
    if (form->shape == SHAPE_QUERY) {
        json_key(body, "query");
        json_text(body, buf_slice(&items[0]->question.prompt));
    } else {
        json_key(body, "use_activation");
        json_bool(body, reward->activation);
    }
    scorer_put_contents(scorer, keys[form->shape], items, len, body);
    json_end(body, '}');
}

/* -- answers ---------------------------------------------------------------------------------------------------------- */

/* The number of a row: a number, a list of one, of several with a column, or of a row per token, where the last counts. */
static int number_of(const struct scorer *scorer, const struct json_t *row, double *number, struct error *error)
{
    const struct json_t *value = scorer_value(row);
    if (doc_is_list(doc_item(value, 0)))
        value = doc_item(value, doc_len(value) - 1);
    if (doc_len(value) > 1 && scorer->column < 0)
        return error_set(error, ERR_PROTOCOL,
                         "the server gives %zu numbers per text: say which one is the reward with `column`",
                         doc_len(value));
    if (doc_is_list(value) && (size_t)(scorer->column < 0 ? 0 : scorer->column) >= doc_len(value))
        return error_set(error, ERR_PROTOCOL, "the server gives %zu numbers per text; there is no column %d",
                         doc_len(value), scorer->column);
    return scorer_number(value, scorer->column, number) ? 0 : ERR_RANGE;
}

static int reward_read(struct scorer *scorer, const struct json_t *doc, struct item *const *items, size_t len,
                       struct error *error)
{
    const struct reward *reward = scorer->own;
    double numbers[SCORER_BATCH];
    int codes[SCORER_BATCH];
    for (size_t i = 0; i < len; i++) {
        const struct json_t *row = reward->path != NULL ? doc_at(doc, reward->path) : scorer_row(doc, i, len);
        if (row == NULL && reward->path != NULL)
            return error_set(error, ERR_PROTOCOL, "the answer has nothing at `%.64s`", reward->path);
        if (row == NULL)
            return error_set(error, ERR_PROTOCOL, "the server answered %zu rows, not one for each of %zu texts",
                             scorer_rows(doc), len);
        codes[i] = number_of(scorer, row, &numbers[i], error);
        if (codes[i] < 0 && codes[i] != ERR_RANGE)
            return codes[i];
    }
    for (size_t i = 0; i < len; i++)
        if (items[i] != NULL && codes[i] == 0)
            item_settle(items[i], numbers[i]);
        else if (items[i] != NULL)
            item_unjudged(items[i], "the server gives no finite number for this text");
    return 0;
}

/* -- the probe -------------------------------------------------------------------------------------------------------- */

static bool reward_probe(const struct scorer *scorer, struct buf *body)
{
    const struct reward *reward = scorer->own;
    static const char *const texts[] = {"2", "1 + 1 makes 3"};
    if (scorer->form >= reward->api->forms_len || (reward->task != NULL && scorer->form > 0))
        return false;
    struct item items[2] = {{0}}, *both[2] = {&items[0], &items[1]};
    struct job jobs[2] = {{0}};
    for (size_t i = 0; i < 2; i++) {
        struct error error;
        jobs[i].text = slice_of(texts[i]);
        items[i] = (struct item){.scorer = (struct scorer *)scorer, .job = &jobs[i]};
        int code = question_open(slice_of("{\"prompt\": \"What is 1 + 1?\"}"), &items[i].question, &error);
        if (code == 0)
            reward_prepare(&items[i], &error);
    }
    reward_write(scorer, both, scorer->one_by_one || scorer->batch == 1 ? 1 : 2, body);
    for (size_t i = 0; i < 2; i++) {
        question_clear(&items[i].question);
        buf_clear(&items[i].content);
    }
    return true;
}

static int reward_probed(struct scorer *scorer, const struct json_t *doc, struct error *error)
{
    size_t len = scorer_rows(doc), ones = 0;
    double number = 0;
    if (len == 0)
        return error_set(error, ERR_PROTOCOL, "the server's answer has no rows: is it a reward model?");
    for (size_t i = 0; i < len; i++) {
        const struct json_t *row = scorer_row(doc, i, len);
        int code = number_of(scorer, row, &number, error);
        if (code < 0 && code != ERR_RANGE)
            return code;
        ones += code == 0 && number == 1 && doc_len(scorer_value(row)) == 1;
    }
    if (ones == len)
        return error_set(error, ERR_PROTOCOL,
                         "the server answers exactly 1 for everything, as an activation over one class does: serve the "
                         "model without activation, or use api pooling");
    return 0;
}

const struct scorer_kind scorer_reward = {
    .open = reward_open,
    .close = reward_close,
    .prepare = reward_prepare,
    .write = reward_write,
    .read = reward_read,
    .probe = reward_probe,
    .probed = reward_probed,
};

static int open_alone(struct slice spec, void **state, struct error *error)
{
    return alone_open(&engine_scorer, spec, state, error);
}

const struct check check_reward = {
    .name = "reward",
    .help = "a number from a reward model over HTTP",
    .open = open_alone,
    .run = alone_run,
    .close = alone_close,
    .engine = &engine_scorer_wide,
    .cached = CACHED_ANYWHERE,
};
