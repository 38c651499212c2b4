/* completion.h - reads what inference servers answer: whole bodies and chunks of streams, in every dialect's shape.
 *
 * One pass without a tree: texts go to the choice that they belong to, log-probabilities into its features, everything
 * that is not known is skipped. Shapes: completions and chat of OpenAI, vLLM and SGLang, `/generate` of SGLang,
 * `/completion` of llama.cpp; and the complaints of all of them. */
#ifndef DROVER_COMPLETION_H
#define DROVER_COMPLETION_H

#include "common/buf.h"
#include "common/err.h"
#include "worker/logprobs.h"

#include <stdbool.h>

enum { CHOICES_MAX = 64 };

/* What the server says of the text that ended a choice. */
enum matched {
    MATCHED_UNKNOWN, /* nothing */
    MATCHED_NONE,    /* the model ended it */
    MATCHED_TEXT,    /* a stop text: `stop` */
};

struct choice {
    struct buf text, reasoning;
    char finish[32]; /* in the server's words; "" while it goes on */
    enum matched matched;
    char stop[260];
    struct logprobs logprobs;
    struct buf ids, spelt;     /* of the tokens sampled, where completion.wants_ids: "5,6", and their texts in a row */
    size_t ids_len, spelt_len; /* tokens */
};

struct completion {
    struct choice *choices; /* choices_len of them, made by completion_init */
    size_t choices_len;
    bool cumulative; /* each chunk of a stream holds everything so far (SGLang's /generate) */

    bool has_in, has_out, has_cached; /* usage; zero is something else than unknown */
    uint64_t tokens_in, tokens_out, tokens_cached;
    bool wants_ids;        /* keep token ids and what they spell */
    struct buf prompt_ids; /* "3,4", where the server tells them */
    bool complained;       /* an error object, perhaps inside a stream that began well */
    char complaint[400];   /* what it says */
    double complaint_code; /* of HTTP when there is one, else 0 */
};

/* Room for so many choices; top: alternatives asked for per token. */
void completion_init(struct completion *completion, size_t choices, uint32_t top);

/* Takes one body or chunk. ERR_SYNTAX (no JSON), ERR_PROTOCOL (a choice that was not asked for, a number that is none),
 * ERR_LIMIT (a text longer than LIMIT_TEXT, nested too deeply). */
int completion_read(struct completion *completion, struct slice json, struct error *error);

void completion_clear(struct completion *completion);

#endif
