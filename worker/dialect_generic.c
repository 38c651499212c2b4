/* dialect_generic.c - any server with OpenAI's routes: their fields and nothing else. What such a server leaves out is
 * not guessed: it is known not to have it. */
#include "worker/dialect.h"

static void generic_write(const struct ask *ask, struct buf *body)
{
    ask_begin(ask, body);
    ask_common(ask, body);
    ask_logprobs(ask, body);
    ask_end(ask, body);
}

const struct dialect dialect_generic = {
    .name = "generic",
    .help = "any server with OpenAI's routes",
    .route = "/v1/completions",
    .chat_route = "/v1/chat/completions",
    .write = generic_write,
    .many = true,
    .gauges = {{NULL}, {NULL}, {NULL}},
    .logprobs = LOGPROB_RAW,
};
