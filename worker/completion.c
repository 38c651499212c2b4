/* completion.c - answers of inference servers, event by event; see completion.h.
 *
 * The reader knows at every moment in which place of the answer it is. A table says what a key means in its place: another
 * place, or a field. A list's elements are the place that the list's row names. yajl was measured at four times the
 * speed of a tree (jansson), and keeps nothing. */
#include "worker/completion.h"
#include "common/limits.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

enum { DEPTH_MAX = 64 };

enum place {
    NOWHERE, /* in something that does not matter */
    ROOT,
    CHOICES,
    CHOICE,
    MESSAGE,
    LOGPROBS,      /* choice.logprobs */
    SAMPLED_LIST,  /* [-0.1, ...] */
    TOPS,          /* [{token: -0.1, ...}, ...] */
    TOP,           /* {token: -0.1, ...} */
    POSITIONS,     /* [{logprob, top_logprobs}, ...] of chat and llama.cpp */
    POSITION,      /* {logprob, top_logprobs} */
    POSITION_TOPS, /* [{logprob}, ...] */
    POSITION_TOP,  /* {logprob} */
    META,          /* of SGLang */
    FINISH,        /* {type, matched} */
    TRIPLES,       /* [[-0.1, id, text], ...] */
    TRIPLE,
    TOP_TRIPLES, /* [[[-0.1, id, text], ...], ...] */
    TOP_TRIPLES_OF_ONE,
    TOP_TRIPLE,
    IDS,        /* [5, ...] of the tokens sampled */
    PROMPT_IDS, /* [3, ...] */
    SPELLINGS,  /* ["ab", ...] */
    USAGE,
    USAGE_DETAILS,
    ERROR,
};

enum field {
    NOTHING,
    TEXT,
    REASONING,
    INDEX,
    FINISH_REASON,
    STOP_TYPE,
    MATCH,
    STOPPING_WORD,
    SAMPLED,
    ALTERNATIVE,
    TOKEN_ID,
    PROMPT_ID,
    SPELLING, /* of one token */
    TOKENS_IN,
    TOKENS_OUT,
    TOKENS_CACHED,
    COMPLAINT,
    COMPLAINT_CODE,
    OBJECT,
    MESSAGE_TEXT, /* a complaint only when the object is "error" */
};

static const struct row {
    enum place place;
    const char *key;
    enum place into;  /* when the value is an object or a list */
    enum field field; /* when it is anything else */
} rows[] = {
    {ROOT, "choices", CHOICES, NOTHING},
    {ROOT, "usage", USAGE, NOTHING},
    {ROOT, "error", ERROR, COMPLAINT},
    {ROOT, "detail", NOWHERE, COMPLAINT},
    {ROOT, "object", NOWHERE, OBJECT},
    {ROOT, "message", NOWHERE, MESSAGE_TEXT},
    {ROOT, "code", NOWHERE, COMPLAINT_CODE},
    /* SGLang's /generate */
    {ROOT, "text", NOWHERE, TEXT},
    {ROOT, "index", NOWHERE, INDEX},
    {ROOT, "meta_info", META, NOTHING},
    {ROOT, "output_ids", NOWHERE, NOTHING}, /* may begin with tokens of the prompt; the triples do not */
    {META, "prompt_token_ids", PROMPT_IDS, NOTHING},
    {META, "prompt_tokens", NOWHERE, TOKENS_IN},
    {META, "completion_tokens", NOWHERE, TOKENS_OUT},
    {META, "cached_tokens", NOWHERE, TOKENS_CACHED},
    {META, "finish_reason", FINISH, FINISH_REASON},
    {META, "output_token_logprobs", TRIPLES, NOTHING},
    {META, "output_top_logprobs", TOP_TRIPLES, NOTHING},
    {FINISH, "type", NOWHERE, FINISH_REASON},
    {FINISH, "matched", NOWHERE, MATCH},
    /* llama.cpp's /completion */
    {ROOT, "content", NOWHERE, TEXT},
    {ROOT, "stop_type", NOWHERE, STOP_TYPE},
    {ROOT, "stopping_word", NOWHERE, STOPPING_WORD},
    {ROOT, "tokens_evaluated", NOWHERE, TOKENS_IN},
    {ROOT, "tokens_predicted", NOWHERE, TOKENS_OUT},
    {ROOT, "tokens_cached", NOWHERE, NOTHING}, /* the size of its cache afterwards, not a hit */
    {ROOT, "completion_probabilities", POSITIONS, NOTHING},
    /* completions and chat */
    {CHOICE, "text", NOWHERE, TEXT},
    {CHOICE, "index", NOWHERE, INDEX},
    {CHOICE, "message", MESSAGE, NOTHING},
    {CHOICE, "delta", MESSAGE, NOTHING},
    {CHOICE, "logprobs", LOGPROBS, NOTHING},
    {CHOICE, "finish_reason", NOWHERE, FINISH_REASON},
    {CHOICE, "stop_reason", NOWHERE, MATCH},
    {CHOICE, "matched_stop", NOWHERE, MATCH},
    {CHOICE, "token_ids", IDS, NOTHING},
    {CHOICE, "prompt_token_ids", PROMPT_IDS, NOTHING},
    {MESSAGE, "content", NOWHERE, TEXT},
    {MESSAGE, "reasoning", NOWHERE, REASONING},
    {MESSAGE, "reasoning_content", NOWHERE, REASONING},
    {LOGPROBS, "token_logprobs", SAMPLED_LIST, NOTHING},
    {LOGPROBS, "top_logprobs", TOPS, NOTHING},
    {LOGPROBS, "tokens", SPELLINGS, NOTHING},
    {LOGPROBS, "content", POSITIONS, NOTHING},
    {POSITION, "logprob", NOWHERE, SAMPLED},
    {POSITION, "id", NOWHERE, TOKEN_ID},
    {POSITION, "token", NOWHERE, SPELLING},
    {POSITION, "top_logprobs", POSITION_TOPS, NOTHING},
    {POSITION_TOP, "logprob", NOWHERE, ALTERNATIVE},
    {USAGE, "prompt_tokens", NOWHERE, TOKENS_IN},
    {USAGE, "completion_tokens", NOWHERE, TOKENS_OUT},
    {USAGE, "prompt_tokens_details", USAGE_DETAILS, NOTHING},
    {USAGE_DETAILS, "cached_tokens", NOWHERE, TOKENS_CACHED},
    {ERROR, "message", NOWHERE, COMPLAINT},
    {ERROR, "code", NOWHERE, COMPLAINT_CODE},
};

/* What the objects and lists in a list are. */
static const struct {
    enum place list, element;
} lists[] = {
    {CHOICES, CHOICE},
    {SAMPLED_LIST, NOWHERE},
    {IDS, NOWHERE},
    {PROMPT_IDS, NOWHERE},
    {SPELLINGS, NOWHERE},
    {TOPS, TOP},
    {POSITIONS, POSITION},
    {POSITION_TOPS, POSITION_TOP},
    {TRIPLES, TRIPLE},
    {TOP_TRIPLES, TOP_TRIPLES_OF_ONE},
    {TOP_TRIPLES_OF_ONE, TOP_TRIPLE},
};

/* [log-probability, id, text] */
static const enum field triple[] = {SAMPLED, TOKEN_ID, SPELLING};

struct reader {
    struct completion *completion;
    enum place stack[DEPTH_MAX];
    uint32_t seen[DEPTH_MAX]; /* bare values of this list so far */
    size_t depth;
    const struct row *row; /* of the last key; NULL: it does not matter */
    struct choice *choice; /* that texts go to */
    uint8_t indices[CHOICES_MAX];
    size_t indices_len, choice_number;
    bool scan;         /* only looks for the indices of the choices */
    bool object_error; /* "object": "error" */
    char message[sizeof((struct completion *)0)->complaint];
    struct error error;
    int rc;
};

static enum place here(const struct reader *reader)
{
    return reader->depth == 0 ? NOWHERE : reader->stack[reader->depth - 1];
}

static int fail(struct reader *reader, int rc, const char *why)
{
    reader->rc = error_set(&reader->error, rc, "%s", why);
    return 0; /* stops yajl */
}

/* -- values ----------------------------------------------------------------------------------------------------------- */

static void copy(char *to, size_t size, struct slice text)
{
    size_t len = text.len < size - 1 ? text.len : size - 1;
    memcpy(to, text.data, len);
    to[len] = '\0';
}

/* What a bare value means where it stands. */
static enum field field_here(struct reader *reader)
{
    enum place place = here(reader);
    switch (place) {
    case TOP:
        return ALTERNATIVE;
    case TRIPLE: {
        uint32_t at = reader->seen[reader->depth - 1]++;
        return at < sizeof triple / sizeof triple[0] ? triple[at] : NOTHING;
    }
    case TOP_TRIPLE:
        return reader->seen[reader->depth - 1]++ == 0 ? ALTERNATIVE : NOTHING;
    case SAMPLED_LIST:
        return SAMPLED;
    case IDS:
        return TOKEN_ID;
    case PROMPT_IDS:
        return PROMPT_ID;
    case SPELLINGS:
        return SPELLING;
    default:
        return reader->row != NULL ? reader->row->field : NOTHING;
    }
}

static int take_text(struct reader *reader, struct buf *out, struct slice text)
{
    if (out->len + text.len > LIMIT_TEXT)
        return fail(reader, ERR_LIMIT, "its text is longer than the limit (see `drover help limits`)");
    buf_put(out, text.data, text.len);
    return 1;
}

static int take_spelling(struct reader *reader, struct slice text)
{
    if (!reader->completion->wants_ids)
        return 1;
    reader->choice->spelt_len++;
    return take_text(reader, &reader->choice->spelt, text);
}

/* Ids are never looked at here: what a server says is sent back to it as it is. */
static int take_id(struct reader *reader, bool of_prompt, struct slice digits)
{
    struct buf *ids = of_prompt ? &reader->completion->prompt_ids : &reader->choice->ids;
    if (!reader->completion->wants_ids)
        return 1;
    for (size_t i = 0; i < digits.len; i++)
        if (digits.data[i] < '0' || digits.data[i] > '9')
            return fail(reader, ERR_PROTOCOL, "it holds a token id that is none");
    if (!of_prompt)
        reader->choice->ids_len++;
    if (ids->len > 0)
        buf_put(ids, ",", 1);
    return take_text(reader, ids, digits);
}

static void take_match(struct choice *choice, struct slice text)
{
    choice->matched = MATCHED_TEXT;
    copy(choice->stop, sizeof choice->stop, text);
}

static void take_complaint(struct reader *reader, struct slice text)
{
    reader->completion->complained = true;
    copy(reader->completion->complaint, sizeof reader->completion->complaint, text);
}

static void take_stop_type(struct choice *choice, struct slice text)
{
    copy(choice->finish, sizeof choice->finish, text);
    if (strcmp(choice->finish, "none") == 0)
        choice->finish[0] = '\0';
    if (strcmp(choice->finish, "eos") == 0)
        choice->matched = MATCHED_NONE;
}

static int on_string(void *opaque, const unsigned char *bytes, size_t len)
{
    struct reader *reader = opaque;
    struct choice *choice = reader->choice;
    struct slice text = {(const char *)bytes, len};
    enum field field = field_here(reader);
    if (reader->scan)
        return 1;
    switch (field) {
    case TEXT:
        return take_text(reader, &choice->text, text);
    case REASONING:
        return take_text(reader, &choice->reasoning, text);
    case FINISH_REASON:
        copy(choice->finish, sizeof choice->finish, text);
        return 1;
    case STOP_TYPE:
        take_stop_type(choice, text);
        return 1;
    case STOPPING_WORD:
        if (len > 0)
            take_match(choice, text);
        return 1;
    case MATCH:
        take_match(choice, text);
        return 1;
    case COMPLAINT:
        take_complaint(reader, text);
        return 1;
    case OBJECT:
        reader->object_error = len == 5 && memcmp(bytes, "error", 5) == 0;
        return 1;
    case MESSAGE_TEXT:
        copy(reader->message, sizeof reader->message, text);
        return 1;
    case SPELLING:
        return take_spelling(reader, text);
    case INDEX:
    case SAMPLED:
    case ALTERNATIVE:
    case TOKENS_IN:
    case TOKENS_OUT:
    case TOKENS_CACHED:
        return fail(reader, ERR_PROTOCOL, "it holds text where a number belongs");
    case COMPLAINT_CODE:
    case TOKEN_ID:
    case PROMPT_ID:
    case NOTHING:
        return 1;
    }
    return 1;
}

static int on_null(void *opaque)
{
    struct reader *reader = opaque;
    if (field_here(reader) == MATCH)
        reader->choice->matched = MATCHED_NONE; /* of a choice that has ended: see completion_read */
    return 1;
}

static int on_bool(void *opaque, int value)
{
    (void)value;
    field_here(opaque);
    return 1;
}

static int take_count(struct reader *reader, double value, bool *has, uint64_t *count)
{
    if (!(value >= 0 && value <= 4e9 && value == floor(value)))
        return fail(reader, ERR_PROTOCOL, "it holds a count of tokens that is none");
    *has = true;
    *count = (uint64_t)value;
    return 1;
}

/* Where texts go from now on. */
static int take_index(struct reader *reader, double value)
{
    if (!(value >= 0 && value < (double)reader->completion->choices_len && value == floor(value)))
        return fail(reader, ERR_PROTOCOL, "it holds a choice that was not asked for");
    if (reader->scan && reader->indices_len > 0)
        reader->indices[reader->indices_len - 1] = (uint8_t)value;
    return 1;
}

static int on_number(void *opaque, const char *digits, size_t len)
{
    struct reader *reader = opaque;
    struct completion *completion = reader->completion;
    enum field field = field_here(reader);
    if (field == NOTHING || (reader->scan && field != INDEX))
        return 1;
    if (field == TOKEN_ID || field == PROMPT_ID)
        return take_id(reader, field == PROMPT_ID, (struct slice){digits, len});
    char text[64];
    copy(text, sizeof text, (struct slice){digits, len});
    double value = strtod(text, NULL);
    if (!isfinite(value))
        return fail(reader, ERR_PROTOCOL, "it holds a number that is not finite");
    switch (field) {
    case INDEX:
        return take_index(reader, value);
    case SAMPLED:
        logprobs_sampled(&reader->choice->logprobs, value);
        return 1;
    case ALTERNATIVE:
        logprobs_alternative(&reader->choice->logprobs, value);
        return 1;
    case TOKENS_IN:
        return take_count(reader, value, &completion->has_in, &completion->tokens_in);
    case TOKENS_OUT:
        return take_count(reader, value, &completion->has_out, &completion->tokens_out);
    case TOKENS_CACHED:
        return take_count(reader, value, &completion->has_cached, &completion->tokens_cached);
    case MATCH:
        reader->choice->matched = MATCHED_NONE; /* the id of an end token */
        return 1;
    case COMPLAINT_CODE:
        completion->complaint_code = value;
        return 1;
    default:
        return 1;
    }
}

/* -- structure -------------------------------------------------------------------------------------------------------- */

static int enter(struct reader *reader, enum place place)
{
    if (reader->depth == DEPTH_MAX)
        return fail(reader, ERR_LIMIT, "it is nested too deeply");
    reader->stack[reader->depth] = place;
    reader->seen[reader->depth] = 0;
    reader->depth++;
    reader->row = NULL;
    return 1;
}

/* The place of an object or list that begins now. */
static enum place next_place(const struct reader *reader)
{
    enum place place = here(reader);
    if (reader->depth == 0)
        return ROOT;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (lists[i].list == place)
            return lists[i].element;
    return reader->row != NULL ? reader->row->into : NOWHERE;
}

/* A new choice: number `choice_number` of this answer. */
static int enter_choice(struct reader *reader)
{
    struct completion *completion = reader->completion;
    if (reader->scan && reader->indices_len < CHOICES_MAX)
        reader->indices[reader->indices_len++] = 0;
    size_t number = reader->choice_number++;
    size_t at = completion->choices_len > 1 && number < reader->indices_len ? reader->indices[number] : 0;
    reader->choice = &completion->choices[at];
    return 1;
}

/* A whole shape of everything so far begins: forget what earlier chunks told. */
static void forget(struct reader *reader, enum place place)
{
    struct choice *choice = reader->choice;
    if (reader->scan)
        return;
    if (place == PROMPT_IDS)
        buf_reset(&reader->completion->prompt_ids);
    if (place != ROOT || !reader->completion->cumulative)
        return;
    buf_reset(&choice->text);
    logprobs_reset(&choice->logprobs);
    buf_reset(&choice->ids);
    buf_reset(&choice->spelt);
    choice->ids_len = choice->spelt_len = 0;
}

static int on_map(void *opaque)
{
    struct reader *reader = opaque;
    enum place place = next_place(reader);
    if (place == CHOICE)
        enter_choice(reader);
    if (place == ERROR)
        reader->completion->complained = true;
    forget(reader, place);
    return enter(reader, place);
}

static int on_key(void *opaque, const unsigned char *key, size_t len)
{
    struct reader *reader = opaque;
    enum place place = here(reader);
    reader->row = NULL;
    if (place == NOWHERE || place == TOP)
        return 1;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].place == place && strlen(rows[i].key) == len && memcmp(rows[i].key, key, len) == 0)
            reader->row = &rows[i];
    return 1;
}

static int on_end(void *opaque)
{
    struct reader *reader = opaque;
    enum place place = here(reader);
    assert(reader->depth > 0);
    reader->depth--;
    reader->row = NULL;
    if (!reader->scan && (place == TOP || place == POSITION_TOPS || place == TOP_TRIPLES_OF_ONE))
        logprobs_position_end(&reader->choice->logprobs);
    return 1;
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_bool,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_map,
    .yajl_map_key = on_key,
    .yajl_end_map = on_end,
    .yajl_start_array = on_map,
    .yajl_end_array = on_end,
};

/* -- the whole -------------------------------------------------------------------------------------------------------- */

static int parse(struct reader *reader, struct slice json, struct error *error)
{
    yajl_handle handle = yajl_alloc(&callbacks, NULL, reader);
    assert(handle != NULL);
    reader->choice = &reader->completion->choices[0];
    yajl_status status = yajl_parse(handle, (const unsigned char *)json.data, json.len);
    if (status == yajl_status_ok)
        status = yajl_complete_parse(handle);
    size_t at = yajl_get_bytes_consumed(handle);
    yajl_free(handle);
    if (status == yajl_status_ok)
        return 0;
    if (status == yajl_status_client_canceled)
        return error_set(error, reader->rc, "%s", reader->error.text);
    return error_set(error, ERR_SYNTAX, "it is no JSON (byte %zu of %zu)", at, json.len);
}

int completion_read(struct completion *completion, struct slice json, struct error *error)
{
    struct reader *reader = xalloc(sizeof *reader);
    int rc = 0;
    reader->completion = completion;
    if (completion->choices_len > 1) { /* an index may stand behind the text that it is of */
        reader->scan = true;
        rc = parse(reader, json, error);
        reader->scan = false;
        reader->choice_number = reader->depth = 0;
    }
    if (rc == 0)
        rc = parse(reader, json, error);
    if (rc == 0 && reader->object_error)
        take_complaint(reader, slice_of(reader->message));
    free(reader);
    return rc;
}

void completion_init(struct completion *completion, size_t choices, uint32_t top)
{
    assert(choices > 0);
    assert(choices <= CHOICES_MAX);
    *completion = (struct completion){.choices = xalloc(choices * sizeof *completion->choices), .choices_len = choices};
    for (size_t i = 0; i < choices; i++)
        completion->choices[i].logprobs.top = top;
}

void completion_clear(struct completion *completion)
{
    for (size_t i = 0; i < completion->choices_len; i++) {
        buf_clear(&completion->choices[i].text);
        buf_clear(&completion->choices[i].reasoning);
        logprobs_clear(&completion->choices[i].logprobs);
        buf_clear(&completion->choices[i].ids);
        buf_clear(&completion->choices[i].spelt);
    }
    buf_clear(&completion->prompt_ids);
    free(completion->choices);
    *completion = (struct completion){0};
}
