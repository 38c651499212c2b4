/* scorer.h - verifiers that ask a reward model for numbers: what kinds of them give to the engine that asks.
 *
 * The engine gathers jobs into requests of up to `batch` texts: a request goes out when it is full, when nothing else
 * is in flight, or when its first text has waited for a moment. A request that the server refuses, or answers with
 * something that does not fit, is asked again text by text, so that one bad text fails alone. Before the first request a
 * probe finds out which of several forms the server understands. */
#ifndef DROVER_SCORER_H
#define DROVER_SCORER_H

#include "common/buf.h"
#include "common/io/agent.h"
#include "verifier/question.h"
#include "verifier/remote.h"

#define SCORER_BATCH 256 /* texts of one request at most */

struct scorer;

enum item_state {
    ITEM_PREPARING, /* something must be asked about it first */
    ITEM_WAITING,
    ITEM_ASKED,
};

/* One job while the engine has it. */
struct item {
    struct scorer *scorer;
    struct job *job;
    struct question question;
    struct buf content; /* as the server gets it: a text, messages, or token ids; the kind knows */
    size_t rows;        /* prm: steps of the text */
    size_t *row_at;     /* prm, when the server gives a row per token: which ones count */
    size_t tokens;      /* prm, same: how many rows there must be */
    enum item_state state;
    bool alone; /* shares no request */
    int64_t since_ms, deadline_ms;
    struct batch *batch; /* asked */
    struct call *call;   /* preparing */
    struct item *prev, *next;
};

/* What differs between kinds. Functions that return int give 0 or a code with a sentence. */
struct scorer_kind {
    int (*open)(struct scorer *scorer, const struct json_t *spec, struct error *error);
    void (*close)(struct scorer *scorer);
    /* Fills content; may settle the job at once. */
    int (*prepare)(struct item *item, struct error *error);
    void (*write)(const struct scorer *scorer, struct item *const *items, size_t len, struct buf *body);
    /* Settles every job, or none of them and returns why the answer does not fit. Cancelled ones are NULL. */
    int (*read)(struct scorer *scorer, const struct json_t *doc, struct item *const *items, size_t len,
                struct error *error);
    /* The request of the form number scorer->form that tells whether the server understands it; false: there is no
     * such form. NULL: nothing is to be found out. */
    bool (*probe)(const struct scorer *scorer, struct buf *body);
    int (*probed)(struct scorer *scorer, const struct json_t *doc, struct error *error);
};

struct scorer {
    const struct scorer_kind *kind;
    struct remote *remote;
    void *own; /* of the kind */
    char *model;
    const char *route; /* of the requests; the kind may change it with the form */
    double threshold;  /* pass above it; NAN: no opinion */
    int32_t column;    /* which number of a row; -1: not said */
    uint32_t batch;
    bool one_by_one;    /* requests of one text only */
    bool same_prompt;   /* the texts of one request answer one prompt */
    struct item *items; /* in the order in which they came */
    /* what the server understands */
    bool ready;
    uint32_t form;
    struct call *probe;
    struct error trouble; /* why the last probe failed */
};

extern const struct scorer_kind scorer_reward, scorer_prm;

/* For kinds: the verdict of a number, and of a text that the server cannot judge. The item is gone afterwards. */
void item_settle(struct item *item, double score);
void item_unjudged(struct item *item, const char *why);
void item_fail(struct item *item, const struct error *error);
/* Prepared after all. */
void item_ready(struct item *item);

/* Which row of a list of answers belongs to text i: by its `index` when it has one, else by place. NULL: the rows are
 * not one for each text. */
const struct json_t *scorer_row(const struct json_t *doc, size_t i, size_t len);
/* How many rows an answer has, for messages. */
size_t scorer_rows(const struct json_t *doc);
/* What a row says, whatever the server calls it. */
const struct json_t *scorer_value(const struct json_t *row);
/* Number `column` of a list (-1: the last), or the number itself. False: it is none, or not finite. */
bool scorer_number(const struct json_t *value, int32_t column, double *number);

/* Appends "input": [contents] or "messages": content. */
void scorer_put_contents(const struct scorer *scorer, const char *key, struct item *const *items, size_t len,
                         struct buf *body);

#endif
