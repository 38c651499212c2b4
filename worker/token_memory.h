/* token_memory.h - the token ids of prompts and paths that servers told this process, so that a path is continued with
 * the tokens that were sampled.
 *
 * Text that is tokenised again may become other tokens: the server's prefix cache misses, and log-probabilities are of
 * tokens that nobody drew. The least recently used are forgotten when there are more than LIMIT_TOKENS_KEPT bytes; what is
 * not known goes as text, so nothing is wrong without it. Any thread may call. */
#ifndef DROVER_TOKEN_MEMORY_H
#define DROVER_TOKEN_MEMORY_H

#include "common/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* Whose text: ids mean something to one model, and how they are written to one dialect. */
struct token_text {
    const char *dialect, *model; /* model: the server's name */
    struct slice prompt, path;   /* one behind the other */
};

struct token_counts {
    uint64_t asked, known; /* paths that were to be continued; those of which the ids were known */
    size_t bytes;
};

/* Appends what stands in the JSON list of the text's tokens; false: not known. */
bool token_memory_find(const struct token_text *text, struct buf *ids);

/* Longer ones than a quarter of the limit are not kept. */
void token_memory_keep(const struct token_text *text, struct slice ids);

struct token_counts token_memory_counts(void);
void token_memory_clear(void); /* counts too */

#endif
