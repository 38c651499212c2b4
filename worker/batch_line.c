/* batch_line.c - see batch_line.h. */
#include "worker/batch_line.h"
#include "worker/completion.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool batch_line(const struct fields *line)
{
    return fields_have(line, "custom_id") && (fields_object(line, "response") != NULL || fields_have(line, "error"));
}

/* Digits to the end, at most nine of them. */
static bool whole(const char *text, int64_t *value)
{
    size_t len = strlen(text);
    if (len == 0 || len > 9 || strspn(text, "0123456789") != len)
        return false;
    *value = strtol(text, NULL, 10);
    return true;
}

/* Parts of a custom_id; place: room for the id of a prompt that had none, "#INDEX" there. */
static bool read_id(struct slice id, struct recorded *rollout, char place[16])
{
    const char *model = memchr(id.data, '/', id.len);
    const char *prompt = model == NULL ? NULL : strchr(model + 1, '/');
    const char *ordinal = strrchr(id.data, '/');
    int64_t index;
    rollout->prompt = id;
    if (prompt == NULL || prompt == model + 1 || ordinal <= prompt + 1 || !whole(ordinal + 1, &rollout->ordinal))
        return false;
    rollout->model = (struct slice){model + 1, (size_t)(prompt - model - 1)};
    rollout->prompt = (struct slice){prompt + 1, (size_t)(ordinal - prompt - 1)};
    if (rollout->prompt.len > 1 && rollout->prompt.len < 11 && prompt[1] == '#') {
        memcpy(place, prompt + 2, rollout->prompt.len - 1);
        place[rollout->prompt.len - 1] = '\0';
        if (whole(place, &index)) { /* such prompts are numbered from 1 */
            int len = snprintf(place, 16, "%lld", (long long)index + 1);
            rollout->prompt = (struct slice){place, (size_t)len};
        }
    }
    return true;
}

/* Alternatives that stand beside the first token of a chat's answer. */
static uint32_t alternatives(const struct fields *body)
{
    const struct fields *choice = fields_item(body, "choices", 0);
    const struct fields *token = fields_item(fields_object(choice, "logprobs"), "content", 0);
    size_t len = fields_len(token, "top_logprobs");
    return len <= 20 ? (uint32_t)len : 0;
}

static int read_finish(const char *word, enum finish *finish, struct error *error)
{
    if (word[0] == '\0')
        return error_set(error, ERR_PROTOCOL, "a choice does not say how it ended ('finish_reason')");
    *finish = strcmp(word, "length") == 0 || strcmp(word, "limit") == 0 ? FINISH_LENGTH : FINISH_STOP;
    return 0;
}

static uint32_t u32(uint64_t value)
{
    return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX - 1;
}

/* Tokens of choice i of len. */
static uint32_t tokens_of(const struct completion *completion, size_t i, size_t len)
{
    uint64_t sum = 0;
    for (size_t c = 0; c < len; c++)
        sum += completion->choices[c].logprobs.len;
    if (completion->choices[i].logprobs.len > 0 && (!completion->has_out || sum == completion->tokens_out))
        return u32(completion->choices[i].logprobs.len);
    return u32(completion->tokens_out / len + (i < completion->tokens_out % len));
}

struct taker {
    int (*take)(void *arg, const struct recorded *rollout, struct error *error);
    void *arg;
};

static int take_choices(const struct completion *completion, struct recorded *rollout, const struct taker *taker,
                        struct error *error)
{
    size_t len = completion->choices_len;
    while (len > 0 && completion->choices[len - 1].finish[0] == '\0' && completion->choices[len - 1].text.len == 0)
        len--;
    if (len == 0)
        return error_set(error, ERR_PROTOCOL, "the answer has no choices");
    if (completion->complained)
        return error_set(error, ERR_PROTOCOL, "the answer is a complaint: %.300s", completion->complaint);
    rollout->tokens_in = u32(completion->tokens_in);
    int rc = 0;
    for (size_t i = 0; i < len && rc == 0; i++) {
        const struct choice *choice = &completion->choices[i];
        struct buf text = {0};
        if (choice->reasoning.len > 0)
            buf_printf(&text, "<think>%s</think>", choice->reasoning.data);
        buf_put(&text, choice->text.data, choice->text.len);
        rollout->text = buf_slice(&text);
        rollout->tokens_out = tokens_of(completion, i, len);
        rollout->features = (struct features){0};
        logprobs_features(&choice->logprobs, &rollout->features);
        rollout->logprobs = rollout->features.have != 0 ? LOGPROB_SAMPLED : LOGPROB_NONE;
        rc = read_finish(choice->finish, &rollout->finish, error);
        if (rc == 0)
            rc = taker->take(taker->arg, rollout, error);
        buf_clear(&text);
    }
    return rc;
}

static int take_body(const struct fields *response, struct recorded *rollout, const struct taker *taker,
                     struct error *error)
{
    const struct fields *body = fields_object(response, "body");
    size_t len = fields_len(body, "choices");
    struct buf json = {0};
    if (body == NULL || !fields_json(response, "body", &json))
        return error_set(error, ERR_SYNTAX, "'response' has no 'body'");
    if (len > CHOICES_MAX) {
        buf_clear(&json);
        return error_set(error, ERR_LIMIT, "%zu choices; at most %d are read", len, CHOICES_MAX);
    }
    struct completion completion;
    completion_init(&completion, len > 0 ? len : 1, alternatives(body));
    int rc = completion_read(&completion, buf_slice(&json), error);
    if (rc == 0)
        rc = take_choices(&completion, rollout, taker, error);
    completion_clear(&completion);
    buf_clear(&json);
    return rc;
}

int batch_line_read(const struct fields *line, bool *ordered,
                    int (*take)(void *arg, const struct recorded *rollout, struct error *error), void *arg,
                    struct error *error)
{
    const struct fields *response = fields_object(line, "response");
    struct recorded rollout = {.finish = FINISH_FAILED};
    struct slice id = {0};
    uint64_t status = 200;
    char place[16];
    int rc = fields_string(line, "custom_id", &id, error);
    if (rc == 0)
        rc = fields_count(response, "status_code", 999, &status, error);
    if (rc != 0)
        return rc;
    if (id.len == 0)
        return error_set(error, ERR_SYNTAX, "'custom_id' is empty");
    *ordered = read_id(id, &rollout, place);
    if (fields_have(line, "error") || status != 200)
        return take(arg, &rollout, error);
    return take_body(response, &rollout, &(struct taker){take, arg}, error);
}
