/* openai_answer.c - see openai_answer.h. What is not told is not guessed: an answer without its usage is none. */
#include "worker/openai_answer.h"
#include "common/json.h"
#include "worker/cues.h"

#include <string.h>

static bool ends_with(const struct buf *text, struct slice end)
{
    return end.len == 0 || (end.len <= text->len && memcmp(text->data + text->len - end.len, end.data, end.len) == 0);
}

/* The text ended with one of the stops: this one? */
static bool stopped_by(const struct choice *choice, struct slice stop)
{
    if (choice->matched == MATCHED_TEXT)
        return strlen(choice->stop) == stop.len && memcmp(choice->stop, stop.data, stop.len) == 0;
    return choice->matched == MATCHED_UNKNOWN && ends_with(&choice->text, stop);
}

static bool cut_end(struct buf *text, struct slice end)
{
    if (end.len == 0 || !ends_with(text, end))
        return false;
    text->len -= end.len;
    text->data[text->len] = '\0';
    return true;
}

/* Cuts off a stop, as all servers do without being asked not to; puts a step's separator where it belongs. */
static int judge_stop(const struct openai_spec *spec, const struct job *job, struct choice *choice,
                      const struct openai_ending *ending, enum finish *finish, struct error *error)
{
    *finish = job->think ? FINISH_STEP : FINISH_STOP;
    if (job->think)
        cut_end(&choice->text, spec->think_end);
    if (!job->step)
        return 0;
    if (ending->stepped || stopped_by(choice, spec->step)) {
        if (!ends_with(&choice->text, spec->step))
            buf_put(&choice->text, spec->step.data, spec->step.len);
        *finish = FINISH_STEP;
        return 0;
    }
    for (size_t i = 0; i < spec->stops_len; i++)
        if (stopped_by(choice, spec->stops[i]) && cut_end(&choice->text, spec->stops[i]))
            return 0;
    if (choice->matched == MATCHED_UNKNOWN && !ending->own_step)
        return error_set(error, ERR_PROTOCOL,
                         "the server does not tell what ended its answer, so steps cannot be told from ends");
    return 0;
}

static int judge_finish(const struct openai_spec *spec, const struct job *job, struct choice *choice,
                        struct openai_ending *ending, enum finish *finish, struct error *error)
{
    static const char *const stops[] = {"stop",          "eos",        "word",          "eos_token",
                                        "stop_sequence", "tool_calls", "function_call", "content_filter"};
    const char *word = choice->finish;
    if (ending->killed) {
        *finish = FINISH_KILLED;
        return 0;
    }
    if (ending->stepped)
        return judge_stop(spec, job, choice, ending, finish, error);
    if (strcmp(word, "length") == 0 || strcmp(word, "limit") == 0) {
        *finish = FINISH_LENGTH;
        return 0;
    }
    for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++)
        if (strcmp(word, stops[i]) == 0)
            return judge_stop(spec, job, choice, ending, finish, error);
    ending->again = true;
    if (word[0] == '\0')
        return error_set(error, ERR_CLOSED, "the answer breaks off");
    return error_set(error, ERR_CLOSED, "the server ended the answer with '%s'", word);
}

void openai_count(struct completion *completion)
{
    const struct logprobs *logprobs = &completion->choices[0].logprobs;
    if (completion->has_out || logprobs->len == 0)
        return;
    completion->has_out = true;
    completion->tokens_out = logprobs->len;
}

static int judge_usage(const struct openai_spec *spec, const struct job *job, struct completion *completion,
                       struct openai_ending *ending, struct error *error)
{
    uint32_t most = openai_tokens_max(spec, job);
    bool cut = ending->stepped || ending->killed;
    if (cut)
        openai_count(completion);
    if (!completion->has_in || !completion->has_out) {
        ending->again = ending->partial && !cut; /* the usage is what was lost */
        return error_set(error, ERR_PROTOCOL,
                         "the server does not tell the tokens that it used: what is unknown cannot be charged");
    }
    if (completion->tokens_out > most)
        return error_set(error, ERR_PROTOCOL, "the server generated %llu tokens and was allowed %u",
                         (unsigned long long)completion->tokens_out, most);
    if (completion->tokens_cached > completion->tokens_in)
        completion->tokens_cached = completion->tokens_in;
    return 0;
}

/* Thinking that was taken out of the text is not where it stood: nothing can be put behind it word for word. */
static int judge_whole(const struct job *job, const struct choice *choice, struct error *error)
{
    if (choice->reasoning.len == 0 || (!job->think && !cue_inline(job->cue)))
        return 0;
    return error_set(
        error, ERR_PROTOCOL,
        "the server takes the thinking out of its answers, so it cannot go on: start it without a reasoning "
        "parser, or use option `api: completions`");
}

int openai_judge(const struct openai_spec *spec, const struct job *job, struct completion *completion,
                 struct openai_ending *ending, enum finish *finish, struct error *error)
{
    ending->again = false;
    int whole = judge_whole(job, &completion->choices[0], error);
    if (whole != 0)
        return whole;
    int rc = judge_finish(spec, job, &completion->choices[0], ending, finish, error);
    return rc != 0 ? rc : judge_usage(spec, job, completion, ending, error);
}

int openai_split(struct completion *completion, struct completion *to, struct error *error)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < completion->choices_len; i++)
        sum += completion->choices[i].logprobs.len;
    if (completion->has_out && sum != completion->tokens_out)
        return error_set(error, ERR_PROTOCOL,
                         "%zu choices used %llu tokens and have %llu log-probabilities: what each of them used is "
                         "unknown, so leave out the option `per_request`",
                         completion->choices_len, (unsigned long long)completion->tokens_out, (unsigned long long)sum);
    for (size_t i = 0; i < completion->choices_len; i++) {
        completion_init(&to[i], 1, 0);
        to[i].choices[0] = completion->choices[i];
        to[i].has_in = completion->has_in;
        to[i].has_out = completion->has_out;
        to[i].tokens_out = completion->choices[i].logprobs.len;
    }
    to[0].tokens_in = completion->tokens_in;
    to[0].tokens_cached = completion->tokens_cached;
    memset(completion->choices, 0, completion->choices_len * sizeof *completion->choices); /* they went to `to` */
    return 0;
}

/* A server that does not keep stops tells no ids of them: then the step's separator goes behind the ids, as text. */
static bool spells(const struct choice *choice, struct slice behind)
{
    const struct buf *text = &choice->text, *spelt = &choice->spelt;
    return choice->ids_len > 0 && choice->ids_len == choice->spelt_len && spelt->len + behind.len == text->len &&
           ends_with(text, behind) && (spelt->len == 0 || memcmp(text->data, spelt->data, spelt->len) == 0);
}

bool openai_tokens(const struct openai_spec *spec, const struct completion *completion, const struct dialect *dialect,
                   struct slice prompt, struct slice tokens, struct buf *out)
{
    const struct choice *choice = &completion->choices[0];
    bool mixed = dialect->tokens == TOKENS_MIXED;
    bool whole = spells(choice, slice_of("")), behind = !whole && mixed && spells(choice, spec->step);
    if ((!whole && !behind) || (tokens.len == 0 && !mixed && completion->prompt_ids.len == 0))
        return false;
    if (tokens.len > 0)
        json_raw(out, tokens);
    else if (mixed)
        json_text(out, prompt);
    else
        json_raw(out, buf_slice(&completion->prompt_ids));
    json_raw(out, buf_slice(&choice->ids));
    if (behind)
        json_text(out, spec->step);
    return true;
}

bool openai_goes_on(const struct openai_spec *spec, const struct job *job, const struct completion *completion,
                    enum finish finish)
{
    if (job->think)
        return finish == FINISH_LENGTH ||
               (finish == FINISH_STEP && stopped_by(&completion->choices[0], spec->think_end));
    return finish == FINISH_STEP;
}

void openai_take(const struct completion *completion, const struct dialect *dialect, enum finish finish,
                 struct job *job)
{
    const struct choice *choice = &completion->choices[0];
    struct result *result = &job->result;
    if (choice->reasoning.len > 0) { /* what the server took out of the text, where it was */
        buf_puts(&job->out, "<think>");
        buf_put(&job->out, choice->reasoning.data, choice->reasoning.len);
        buf_puts(&job->out, "</think>");
    }
    buf_put(&job->out, choice->text.data, choice->text.len);
    result->finish = finish;
    result->tokens_in = (uint32_t)completion->tokens_in;
    result->tokens_out = (uint32_t)completion->tokens_out;
    result->tokens_cached = (uint32_t)completion->tokens_cached;
    logprobs_features(&choice->logprobs, &result->features);
    result->logprob_mode = result->features.have != 0 ? dialect->logprobs : LOGPROB_NONE;
}
