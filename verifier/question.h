/* question.h - a prompt's record as models that judge need it: one text, or messages. */
#ifndef DROVER_QUESTION_H
#define DROVER_QUESTION_H

#include "common/buf.h"
#include "common/err.h"

struct json_t;

struct question {
    struct json_t *doc;
    struct buf prompt;    /* `prompt`, or the texts of `messages` with their roles before them */
    struct buf reference; /* `answer`; empty: none */
};

/* ERR_SYNTAX: no JSON object, or neither prompt nor messages in it. The question is cleared then. */
int question_open(struct slice record, struct question *question, struct error *error);
void question_clear(struct question *question);

/* Appends the conversation as a JSON list: the prompt's messages and the text as the assistant's. */
void question_messages(const struct question *question, struct slice text, struct buf *out);

#endif
