/* question.c - see question.h. */
#include "verifier/question.h"
#include "common/json.h"
#include "verifier/doc.h"

/* A message's content: a text, or the texts among its parts. */
static void put_content(const struct json_t *content, struct buf *out)
{
    struct slice text;
    if (doc_is_text(content, &text))
        buf_put(out, text.data, text.len);
    for (size_t i = 0; i < doc_len(content); i++)
        if (doc_text(doc_item(content, i), "text", &text))
            buf_put(out, text.data, text.len);
}

static void flatten(const struct json_t *messages, struct buf *out)
{
    for (size_t i = 0; i < doc_len(messages); i++) {
        struct slice role = {"user", 4};
        doc_text(doc_item(messages, i), "role", &role);
        buf_puts(out, i > 0 ? "\n\n" : "");
        buf_put(out, role.data, role.len);
        buf_puts(out, ": ");
        put_content(doc_get(doc_item(messages, i), "content"), out);
    }
}

int question_open(struct slice record, struct question *question, struct error *error)
{
    struct error why;
    struct slice prompt;
    *question = (struct question){0};
    int code = doc_parse(record, &question->doc, &why);
    if (code < 0)
        return error_set(error, code, "the prompt record is %.200s", why.text);
    if (doc_text(question->doc, "prompt", &prompt))
        buf_put(&question->prompt, prompt.data, prompt.len);
    else
        flatten(doc_get(question->doc, "messages"), &question->prompt);
    doc_scalar(question->doc, "answer", &question->reference);
    if (question->prompt.len > 0)
        return 0;
    question_clear(question);
    return error_set(error, ERR_SYNTAX, "the prompt record has neither prompt nor messages");
}

void question_clear(struct question *question)
{
    doc_free(&question->doc);
    buf_clear(&question->prompt);
    buf_clear(&question->reference);
}

static void put_message(struct buf *out, const char *role, struct slice text)
{
    json_begin(out, '{');
    json_key(out, "role");
    json_str(out, role);
    json_key(out, "content");
    json_text(out, text);
    json_end(out, '}');
}

void question_messages(const struct question *question, struct slice text, struct buf *out)
{
    const struct json_t *messages = doc_get(question->doc, "messages");
    json_begin(out, '[');
    for (size_t i = 0; i < doc_len(messages); i++) {
        struct buf one = {0};
        doc_write(doc_item(messages, i), &one);
        json_raw(out, buf_slice(&one));
        buf_clear(&one);
    }
    if (doc_len(messages) == 0)
        put_message(out, "user", buf_slice(&question->prompt));
    put_message(out, "assistant", text);
    json_end(out, ']');
}
