/* judging.h - what the judge's engine (judge.c) and its modes (judge_mode.c) share.
 *
 * A trial is one job: one text, or several candidates. It consists of asks: one judgement each, of one or more turns,
 * all in flight at once. What an ask is about and how its reply is read depends on the mode; so does what the asks of a
 * trial come to. */
#ifndef DROVER_JUDGING_H
#define DROVER_JUDGING_H

#include "common/io/agent.h"
#include "verifier/judge.h"
#include "verifier/pairs.h"
#include "verifier/question.h"
#include "verifier/remote.h"

#include <stdbool.h>

#define NONCE_LEN  8
#define POINTS_MIN 1.0
#define POINTS_MAX 10.0

struct trial;

/* One judgement. */
struct ask {
    struct trial *trial;
    uint32_t number; /* among those of its trial */
    uint32_t turn, aborts;
    size_t first, second; /* candidates that it is about: the text; a pair in its order; the first of a set */
    size_t *order;        /* set: which candidate stands at which place */
    struct buf prompt;    /* what the judge was asked */
    struct buf reply;     /* all its turns */
    size_t turn_at;       /* where its last turn begins */
    struct call *call;
    bool valid;
    double value;         /* votes: 0 or 1; yes: a probability; points; pairwise: 1 when the first is better, 1/2, 0 */
    double mass;          /* yes: probability of yes and no together */
    double *values;       /* set: of each candidate */
    bool kept;            /* by its meta score */
    double meta;          /* NAN: there is none */
    struct job *meta_job; /* while the meta score is asked for */
    struct buf meta_record;
};

struct judge;

struct trial {
    struct judge *judge;
    struct job *job; /* NULL: of a group, whose owner looks at `over` */
    struct question question;
    struct slice answer;
    struct slice *texts;
    size_t len;
    uint64_t seed;
    int64_t deadline_ms;
    char nonce[NONCE_LEN + 1];
    struct ask *asks;
    size_t asks_len, left; /* left: not finished */
    struct pair *pairs;    /* pairwise: two asks each */
    size_t pairs_len;
    uint64_t tokens_in, tokens_out;
    double *scores; /* one per candidate; NAN: no valid judgement */
    struct verdict verdict;
    struct buf detail;
    bool over, failed;
    struct error error;
    struct trial *prev, *next;
};

/* How servers differ where judges care. Fragments of JSON, with their commas. */
struct dialect {
    const char *name;
    const char *sampling; /* fields whose defaults would bend the distribution */
    const char *choice;   /* makes the reply yes or no */
    bool continues;       /* goes on with a reply that it began */
};

struct mode {
    const char *name, *template;
    enum { TEMPLATE_TEXT, TEMPLATE_OTHER, TEMPLATE_CANDIDATES } needs;
    bool one_token, groups;
    bool decides; /* above one half is a pass, unless told otherwise */
    /* Makes the asks: their number and what each is about. */
    void (*plan)(struct trial *trial);
    /* Reads the last turn, or the answer itself; sets valid and the value. */
    int (*read)(struct ask *ask, const struct json_t *answer, struct error *error);
    /* Fills scores, and the mode's part of the details. */
    void (*sum_up)(struct trial *trial);
};

extern const struct mode judge_modes[]; /* name NULL at the end */

struct judge {
    const struct mode *mode;
    const struct dialect *dialect;
    struct remote *remote;
    void *meta; /* state of engine_scorer; NULL: none */
    int epoll;  /* remote and meta behind one descriptor */
    char *model;
    struct buf template, token_ids; /* token_ids: of yes and no, with commas; empty: the likeliest are asked for */
    uint32_t k, max_tokens, wait, rounds;
    double temperature, threshold, keep;
    bool sum, bradley_terry;
    struct trial *trials;
};

/* The question of an ask, from the template. */
void ask_fill(struct ask *ask);

#endif
