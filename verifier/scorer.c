/* scorer.c - the engine behind reward models; see scorer.h. */
#include "verifier/scorer.h"
#include "common/io/clock.h"
#include "common/json.h"
#include "common/limits.h"
#include "verifier/check.h"
#include "verifier/doc.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum { LINGER_MS = 15, BATCH = 16, HELD = 1024, PROBE_MS_MIN = 100 };

/* Texts that one request asks about; those that were cancelled are NULL. */
struct batch {
    struct scorer *scorer;
    struct call *call;
    struct item *items[SCORER_BATCH];
    size_t len, left;
};

/* -- items ------------------------------------------------------------------------------------------------------------ */

static void batch_free(struct batch *batch)
{
    remote_drop(batch->scorer->remote, &batch->call);
    free(batch);
}

static void batch_leave(struct item *item)
{
    struct batch *batch = item->batch;
    item->batch = NULL;
    if (batch == NULL)
        return;
    for (size_t i = 0; i < batch->len; i++)
        if (batch->items[i] == item)
            batch->items[i] = NULL;
    if (--batch->left == 0 && batch->call != NULL)
        batch_free(batch); /* nobody waits for its answer; one that is being read is freed by its reader */
}

static void item_free(struct item *item)
{
    struct scorer *scorer = item->scorer;
    batch_leave(item);
    remote_drop(scorer->remote, &item->call);
    DL_DELETE(scorer->items, item);
    item->job->engine_data = NULL;
    question_clear(&item->question);
    buf_clear(&item->content);
    free(item->row_at);
    free(item);
}

void item_settle(struct item *item, double score)
{
    struct job *job = item->job;
    double threshold = item->scorer->threshold;
    job->verdict.outcome = isnan(threshold) ? OUTCOME_SCORE : score > threshold ? OUTCOME_PASS : OUTCOME_FAIL;
    job->verdict.score = score;
    job->state = JOB_DONE;
    item_free(item);
}

void item_unjudged(struct item *item, const char *why)
{
    struct job *job = item->job;
    job->verdict = (struct verdict){.outcome = OUTCOME_ERROR};
    buf_reset(&job->detail);
    json_begin(&job->detail, '{');
    json_key(&job->detail, "error");
    json_str(&job->detail, why);
    json_end(&job->detail, '}');
    job->state = JOB_DONE;
    item_free(item);
}

void item_fail(struct item *item, const struct error *error)
{
    item->job->error = *error;
    item->job->state = JOB_FAILED;
    item_free(item);
}

void item_ready(struct item *item)
{
    item->state = ITEM_WAITING;
}

static void item_new(struct scorer *scorer, struct job *job, int64_t now)
{
    struct item *item = xalloc(sizeof *item);
    struct error error;
    item->scorer = scorer;
    item->job = job;
    item->state = ITEM_WAITING;
    item->since_ms = now;
    item->deadline_ms = now + job->timeout_ms;
    job->engine_data = item;
    DL_APPEND(scorer->items, item);
    int code = question_open(job->record, &item->question, &error);
    if (code == 0)
        code = scorer->kind->prepare(item, &error);
    if (code < 0)
        item_fail(item, &error);
}

static void fail_all(struct scorer *scorer, const struct error *error)
{
    while (scorer->items != NULL)
        item_fail(scorer->items, error);
}

/* -- reading ---------------------------------------------------------------------------------------------------------- */

static const struct json_t *rows_of(const struct json_t *doc)
{
    static const char *const keys[] = {"data", "results"};
    for (size_t i = 0; !doc_is_list(doc) && i < sizeof keys / sizeof keys[0]; i++)
        if (doc_is_list(doc_get(doc, keys[i])))
            return doc_get(doc, keys[i]);
    return doc_is_list(doc) ? doc : NULL;
}

size_t scorer_rows(const struct json_t *doc)
{
    return doc_len(rows_of(doc));
}

const struct json_t *scorer_row(const struct json_t *doc, size_t i, size_t len)
{
    const struct json_t *rows = rows_of(doc), *found = NULL;
    double index;
    if (doc_len(rows) != len)
        return NULL;
    if (!doc_is_number(doc_get(doc_item(rows, 0), "index"), &index))
        return doc_item(rows, i);
    for (size_t k = 0; k < len; k++) {
        const struct json_t *row = doc_item(rows, k);
        if (!doc_is_number(doc_get(row, "index"), &index) || index != (double)i)
            continue;
        if (found != NULL)
            return NULL;
        found = row;
    }
    return found;
}

const struct json_t *scorer_value(const struct json_t *row)
{
    static const char *const keys[] = {"score", "relevance_score", "data", "probs", "embedding", "reward"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (doc_has(row, keys[i]))
            return doc_get(row, keys[i]);
    return doc_size(row) == 0 ? row : NULL;
}

bool scorer_number(const struct json_t *value, int32_t column, double *number)
{
    size_t len = doc_len(value);
    if (!doc_is_list(value))
        return doc_is_number(value, number);
    size_t at = column < 0 ? len - 1 : (size_t)column;
    return len > 0 && at < len && doc_is_number(doc_item(value, at), number);
}

/* -- asking ----------------------------------------------------------------------------------------------------------- */

void scorer_put_contents(const struct scorer *scorer, const char *key, struct item *const *items, size_t len,
                         struct buf *body)
{
    if (scorer->one_by_one) {
        json_key(body, "messages");
        json_raw(body, buf_slice(&items[0]->content));
        return;
    }
    json_key(body, key);
    json_begin(body, '[');
    for (size_t i = 0; i < len; i++)
        if (items[i]->row_at != NULL)
            json_raw(body, buf_slice(&items[i]->content)); /* token ids */
        else
            json_text(body, buf_slice(&items[i]->content));
    json_end(body, ']');
}

/* The texts of a request whose answer is of no use wait again, each for one of its own; one that was alone is through. */
static void ask_apart(struct batch *batch, const struct remote_reply *reply, const struct error *error)
{
    bool alone = batch->len == 1;
    for (size_t i = 0; i < batch->len; i++) {
        struct item *item = batch->items[i];
        if (item == NULL)
            continue;
        item->batch = NULL;
        if (alone && (reply->status == 400 || reply->status == 413 || reply->status == 422)) {
            item_unjudged(item, error->text);
        } else if (alone) {
            item_fail(item, error);
        } else {
            item->state = ITEM_WAITING;
            item->alone = true;
        }
    }
}

static void on_batch(void *user, const struct remote_reply *reply)
{
    struct batch *batch = user;
    struct scorer *scorer = batch->scorer;
    struct error error = reply->error;
    struct item *items[SCORER_BATCH];
    batch->call = NULL;
    for (size_t i = 0; i < batch->len; i++)
        items[i] = batch->items[i];
    int code = ERR_PROTOCOL;
    if (reply->doc != NULL)
        code = scorer->kind->read(scorer, reply->doc, items, batch->len, &error);
    if (code < 0)
        ask_apart(batch, reply, &error);
    free(batch);
}

static bool fits(const struct scorer *scorer, const struct item *head, const struct item *item)
{
    return item->state == ITEM_WAITING && (!item->alone || item == head) &&
           (!scorer->same_prompt ||
            (head->question.prompt.len == item->question.prompt.len &&
             memcmp(head->question.prompt.data, item->question.prompt.data, item->question.prompt.len) == 0));
}

static void batch_send(struct scorer *scorer, struct item *const *items, size_t len)
{
    struct batch *batch = xalloc(sizeof *batch);
    struct buf body = {0};
    int64_t deadline = 0;
    batch->scorer = scorer;
    batch->len = batch->left = len;
    for (size_t i = 0; i < len; i++) {
        batch->items[i] = items[i];
        items[i]->batch = batch;
        items[i]->state = ITEM_ASKED;
        deadline = items[i]->deadline_ms > deadline ? items[i]->deadline_ms : deadline;
    }
    scorer->kind->write(scorer, items, len, &body);
    batch->call = remote_ask(
        scorer->remote,
        &(struct remote_request){
            .route = scorer->route, .body = &body, .deadline_ms = deadline, .done = on_batch, .user = batch});
}

static struct item *first_waiting(const struct scorer *scorer)
{
    for (struct item *item = scorer->items; item != NULL; item = item->next)
        if (item->state == ITEM_WAITING)
            return item;
    return NULL;
}

/* Sends the next request if it is time; *due: when it will be. */
static bool send_next(struct scorer *scorer, int64_t now, int64_t *due)
{
    struct item *items[SCORER_BATCH], *head = first_waiting(scorer);
    size_t len = 0, most = scorer->one_by_one ? 1 : scorer->batch;
    *due = INT64_MAX;
    if (head == NULL || !scorer->ready || remote_room(scorer->remote) == 0)
        return false;
    if (head->alone)
        most = 1;
    for (struct item *item = head; item != NULL && len < most; item = item->next)
        if (fits(scorer, head, item))
            items[len++] = item;
    *due = head->since_ms + LINGER_MS;
    if (len < most && now < *due && remote_len(scorer->remote) > 0)
        return false;
    batch_send(scorer, items, len);
    return true;
}

/* -- the probe -------------------------------------------------------------------------------------------------------- */

static void on_probe(void *user, const struct remote_reply *reply)
{
    struct scorer *scorer = user;
    scorer->probe = NULL;
    scorer->trouble = reply->error;
    if (reply->doc != NULL && scorer->kind->probed(scorer, reply->doc, &scorer->trouble) == 0) {
        scorer->ready = true;
        return;
    }
    if (reply->status == 0)
        return; /* transport or overload: it is asked again as long as someone waits */
    struct buf none = {0};
    scorer->form += reply->refused;
    if (reply->refused && scorer->kind->probe(scorer, &none)) {
        buf_clear(&none);
        return;
    }
    scorer->form = 0;
    fail_all(scorer, &scorer->trouble);
}

/* Whether it asked. */
static bool probe(struct scorer *scorer, int64_t now)
{
    struct buf body = {0};
    if (scorer->ready || scorer->probe != NULL || scorer->items == NULL)
        return false;
    if (scorer->kind->probe == NULL) {
        scorer->ready = true;
        return false;
    }
    bool has = scorer->kind->probe(scorer, &body);
    assert(has);
    (void)has;
    int64_t left = scorer->items->prev->deadline_ms - now;                /* of the one that came last */
    int64_t deadline = now + (left > 4 * PROBE_MS_MIN ? left / 4 : left); /* a server that stalls is not all there is */
    scorer->probe = remote_ask(
        scorer->remote,
        &(struct remote_request){
            .route = scorer->route, .body = &body, .deadline_ms = deadline, .done = on_probe, .user = scorer});
    return true;
}

/* -- the engine ------------------------------------------------------------------------------------------------------- */

static void scorer_close(void **state)
{
    struct scorer *scorer = *state;
    if (scorer == NULL)
        return;
    *state = NULL;
    while (scorer->items != NULL)
        item_free(scorer->items);
    if (scorer->remote != NULL)
        remote_drop(scorer->remote, &scorer->probe);
    remote_free(&scorer->remote);
    scorer->kind->close(scorer);
    free(scorer->model);
    free(scorer);
}

static int scorer_fill(struct scorer *scorer, const struct json_t *spec, struct error *error)
{
    const struct doc_range any = {-1e300, 1e300}, columns = {-1, 65536};
    const char *model = "";
    double batch = 0, column = -1;
    scorer->threshold = NAN;
    doc_real(spec, "batch", &batch); /* checked where the sweep file is read */
    scorer->batch = batch >= 1 && batch <= SCORER_BATCH ? (uint32_t)batch : BATCH;
    int code = remote_open(spec, &scorer->remote, error);
    if (code == 0)
        code = doc_option_text(spec, "model", &model, error);
    if (code == 0)
        code = doc_option_real(spec, "threshold", any, &scorer->threshold, error);
    if (code == 0)
        code = doc_option_real(spec, "column", columns, &column, error);
    scorer->model = xstrdup(model);
    scorer->column = (int32_t)column;
    return code < 0 ? code : scorer->kind->open(scorer, spec, error);
}

static int scorer_open(struct slice spec, void **state, struct error *error)
{
    struct json_t *doc;
    struct slice kind = {"", 0};
    int code = doc_parse(spec, &doc, error);
    *state = NULL;
    if (code < 0)
        return code;
    doc_text(doc, "kind", &kind);
    struct scorer *scorer = xalloc(sizeof *scorer);
    scorer->kind = strcmp(kind.data, "prm") == 0 ? &scorer_prm : &scorer_reward;
    *state = scorer;
    code = scorer_fill(scorer, doc, error);
    doc_free(&doc);
    if (code < 0)
        scorer_close(state);
    return code;
}

/* Ends what has used up its time; when the next one will have. */
static int64_t expire(struct scorer *scorer, int64_t now)
{
    struct item *item, *next;
    int64_t first = INT64_MAX;
    DL_FOREACH_SAFE (scorer->items, item, next) {
        if (now < item->deadline_ms) {
            first = item->deadline_ms < first ? item->deadline_ms : first;
            continue;
        }
        struct error error;
        error_set(&error, ERR_TIMEOUT, "the reward model at %.150s did not answer within %u ms; %.200s",
                  remote_where(scorer->remote), item->job->timeout_ms,
                  scorer->trouble.text[0] != '\0' ? scorer->trouble.text : remote_trouble(scorer->remote));
        item_fail(item, &error);
    }
    return first;
}

static int64_t scorer_advance(void *state, struct job **jobs, size_t len, int64_t now_ms)
{
    struct scorer *scorer = state;
    int64_t due, wait, first, now = clock_ms();
    bool asked;
    (void)now_ms; /* may be fake; sockets are not */
    for (size_t i = 0; i < len; i++)
        if (jobs[i]->state == JOB_RUNNING && jobs[i]->engine_data == NULL)
            item_new(scorer, jobs[i], now);
    do { /* answers make room for more requests, and those have to be started */
        wait = remote_turn(scorer->remote);
        now = clock_ms();
        first = expire(scorer, now);
        asked = probe(scorer, now);
        while (send_next(scorer, now, &due))
            asked = true;
    } while (asked);
    if (first - now < wait)
        wait = first - now;
    if (due - now < wait)
        wait = due - now;
    return wait > 0 ? wait : 0;
}

static void scorer_cancel(void *state, struct job *job)
{
    (void)state;
    if (job->engine_data != NULL)
        item_free(job->engine_data);
}

static int scorer_fd(void *state)
{
    return remote_fd(((struct scorer *)state)->remote);
}

const struct engine engine_scorer = {
    .name = "scorer",
    .help = "asks reward models over HTTP, many texts at a time",
    .batch = HELD,
    .open = scorer_open,
    .advance = scorer_advance,
    .cancel = scorer_cancel,
    .fd = scorer_fd,
    .close = scorer_close,
};

static int64_t scorer_room(const struct scorer *scorer)
{
    int64_t tasks = (int64_t)remote_width(scorer->remote) * (scorer->one_by_one ? 1 : scorer->batch);
    return tasks < 1 ? 1 : tasks < HELD ? tasks : HELD;
}

static int scorer_open_wide(struct slice spec, void **state, struct error *error)
{
    int code = scorer_open(spec, state, error);
    if (code == 0)
        check_room_add(scorer_room(*state));
    return code;
}

static void scorer_close_wide(void **state)
{
    if (*state != NULL)
        check_room_add(-scorer_room(*state));
    scorer_close(state);
}

const struct engine engine_scorer_wide = {
    .name = "scorer",
    .help = "asks reward models over HTTP, many texts at a time",
    .batch = HELD,
    .open = scorer_open_wide,
    .advance = scorer_advance,
    .cancel = scorer_cancel,
    .fd = scorer_fd,
    .close = scorer_close_wide,
};
