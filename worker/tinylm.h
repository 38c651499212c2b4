/* tinylm.h - the embedded language model: reads a TLM1 file, evaluates it, draws tokens.
 *
 * A llama-architecture decoder (RMSNorm, rotary positions, SwiGLU) over single characters, in fp32.
 * The same file, tokens and seed give the same bytes on any x86-64 with AVX2, whatever else is in
 * the batch: every sum has one order, exp, log, sin and cos are our own, and nothing is contracted
 * or reassociated by the compiler.
 *
 * A struct tinylm belongs to one thread. Check tinylm_supported() before anything else. */
#ifndef DROVER_TINYLM_H
#define DROVER_TINYLM_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    TINYLM_BATCH_MAX = 32, /* rows of one tinylm_step */
    TINYLM_PAD = 0,        /* never drawn, no text */
    TINYLM_BOS = 1,        /* starts every sequence, never drawn, no text */
    TINYLM_EOS = 2,        /* ends a sequence, no text */
};

struct tinylm;     /* a model, its working memory, and the prefixes it remembers */
struct tinylm_row; /* one sequence: its tokens and the keys and values that they left */

/* Inline, so that the answer itself needs no AVX2. */
static inline bool tinylm_supported(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

/* Reads and checks the whole file. Remembers prefixes in at most prefix_bytes (0: none).
 * ERR_NOT_FOUND: no such file. ERR_IO: it cannot be read. ERR_CORRUPT: not a TLM1 file, or a
 * damaged one. ERR_LIMIT: a size in it is outside of what this reader takes. The sentence names the
 * file. */
int tinylm_open(const char *path, size_t prefix_bytes, struct tinylm **lm, struct error *error);
void tinylm_close(struct tinylm **lm); /* after all of its rows */

/* Most tokens of a sequence, TINYLM_BOS included. */
uint32_t tinylm_context(const struct tinylm *lm);

/* Tokens of text, one a byte. ERR_RANGE, with the place, for a character that the vocabulary lacks.
 */
int tinylm_encode(const struct tinylm *lm, struct slice text, uint16_t *tokens, struct error *error);

/* The character of a token; -1 for one without text. */
int tinylm_char(const struct tinylm *lm, uint16_t token);

/* A row that holds tokens[0..len), 1 <= len <= context. All but the last are evaluated now, except
 * those that a remembered prefix covers; *warm says how many it did (at most len - 1). */
struct tinylm_row *tinylm_row_new(struct tinylm *lm, const uint16_t *tokens, uint32_t len, uint32_t *warm);
/* Remembers the row's prefix, so that a continuation need not evaluate it again. */
void tinylm_row_keep(struct tinylm *lm, const struct tinylm_row *row);
void tinylm_row_free(struct tinylm *lm, struct tinylm_row **row);
uint32_t tinylm_row_len(const struct tinylm_row *row); /* tokens, TINYLM_BOS included */

struct tinylm_sampling {
    double temperature; /* >= 0; below 0.001 takes the likeliest token */
    double top_p;       /* in [0, 1]: smallest set of likeliest tokens with that much probability */
    double min_p;       /* in [0, 1]: drops tokens below this share of the likeliest one's probability */
};

/* One token of one row. */
struct tinylm_draw {
    struct tinylm_row *row; /* no longer than the context */
    const struct tinylm_sampling *sampling;
    uint64_t seed, position; /* the draw is a pure function of the row's tokens and these two */

    uint16_t token;    /* out: drawn, and appended to the row */
    double logprob;    /* out: nats, at temperature 1 and untruncated, whatever the sampling is */
    double entropy;    /* out: nats, of that same distribution */
    double confidence; /* out: minus the mean log-probability of its 20 likeliest tokens */
    double certainty;  /* out: nats, the mean over the vocabulary of ln(1 / (V p)): 0 when it is uniform */
    bool failed;       /* out: the model gave numbers that are not finite; nothing was drawn */
};

/* Draws one token for each of len <= TINYLM_BATCH_MAX rows, all different. */
void tinylm_step(struct tinylm *lm, struct tinylm_draw *draws, size_t len);

#endif
