/* dialect.h - what inference servers have in common, and where they differ: one table, one file per dialect.
 *
 * A dialect writes requests and knows what its server can say; reading answers is completion.h's. Every sampling field is
 * written always: the defaults of servers differ, and some truncate the distribution. */
#ifndef DROVER_DIALECT_H
#define DROVER_DIALECT_H

#include "common/buf.h"
#include "common/rollout.h"

#include <stdbool.h>
#include <stdint.h>

enum { STOPS_MAX = 17, GAUGE_NAMES = 3, REQUEST_ID = 32 };

/* One request in words that every dialect can say. */
struct ask {
    bool chat;             /* messages; else a text, or tokens */
    bool stream;           /* answer in events */
    struct slice model;    /* the server's name for it */
    struct slice text;     /* !chat: prompt and path */
    struct slice tokens;   /* !chat: in place of the text, what stands in a JSON list of token ids; empty: the text */
    bool wants_ids;        /* !chat: the answer should tell the tokens that were read and generated */
    struct slice messages; /* chat: a JSON list */
    bool continues;        /* chat: the last message is a partial turn of the assistant */
    uint32_t n;            /* choices */
    uint32_t tokens_max;
    uint64_t seed; /* below 2^31 */
    double temperature, top_p, min_p, repetition_penalty;
    uint32_t top_k; /* 0: all */
    const struct slice *stops;
    size_t stops_len;
    bool keep_stop;     /* the stop text should be part of the answer */
    struct slice shown; /* of the stops: may be a special token, which servers do not tell unasked; empty: none */
    int32_t logprobs;   /* -1: none, 0: of the sampled tokens, more: and so many alternatives */
    const char *id;     /* REQUEST_ID characters, of this attempt */
    struct slice salt;  /* separates prefix caches; may be empty */
    struct slice extra; /* JSON object to merge in; may be empty */
};

/* How a prompt can be given as tokens. */
enum tokens {
    TOKENS_NOT,
    TOKENS_WHOLE, /* a list of ids: those of the prompt have to be known */
    TOKENS_MIXED, /* texts may stand among the ids */
};

enum gauge { GAUGE_WAITING, GAUGE_RUNNING, GAUGE_KV, GAUGES };

struct dialect {
    const char *name, *help;
    const char *owner;              /* `owned_by` in /v1/models; NULL: none that is known */
    const char *route, *chat_route; /* for texts, for messages */
    void (*write)(const struct ask *ask, struct buf *body);
    const char *gauges[GAUGES][GAUGE_NAMES]; /* of /metrics, newest name first */
    const char *abort_route;                 /* takes {"rid": id}; NULL: closing the connection is all there is */
    bool truncation;                         /* knows top_k, min_p and repetition_penalty */
    bool partial_turn;                       /* chat can continue a partial turn of the assistant */
    bool cumulative;                         /* chunks of a stream of `route` hold everything so far */
    bool many;                               /* may be asked for several choices at once */
    bool says_stop, chat_says_stop; /* `route`, `chat_route`: tells which stop text ended an answer, or includes it */
    enum tokens tokens;             /* of `route` */
    enum logprob_mode logprobs;
};

extern const struct dialect dialect_vllm, dialect_sglang, dialect_llamacpp, dialect_generic;

extern const struct dialect *const dialects[]; /* NULL at the end; the last row takes any server */

const struct dialect *dialect_find(struct slice name); /* NULL: none */

/* Helpers of the dialects' write functions. */
void ask_prompt(const struct ask *ask, struct buf *body);   /* the text, or [tokens] */
void ask_begin(const struct ask *ask, struct buf *body);    /* {"model": ..., and prompt or messages */
void ask_common(const struct ask *ask, struct buf *body);   /* max_tokens, temperature, top_p, n, seed, stop, stream */
void ask_stops(const struct ask *ask, struct buf *body);    /* "stop": [...], when there are any */
void ask_shown(const struct ask *ask, struct buf *body);    /* as vLLM and SGLang say it, when there is one */
void ask_logprobs(const struct ask *ask, struct buf *body); /* as OpenAI's two routes say it */
void ask_end(const struct ask *ask, struct buf *body);      /* extra, } */

/* The body, but for its end, of servers that take more than OpenAI's fields on its routes; these two differ in name only:
 * whether the stop text is kept, and the id of the request. */
void ask_all(const struct ask *ask, const char *keep_stop, const char *id, struct buf *body);

#endif
