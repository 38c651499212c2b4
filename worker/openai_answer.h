/* openai_answer.h - whether what a server said is a rollout, and what of it the job gets. Live servers and batch files say
 * the same things. */
#ifndef DROVER_OPENAI_ANSWER_H
#define DROVER_OPENAI_ANSWER_H

#include "worker/completion.h"
#include "worker/openai_spec.h"

struct openai_ending {
    bool own_step; /* the step's separator was looked for here, not by the server */
    bool stepped;  /* and found: the stream was cut behind it */
    bool killed;   /* the stream was cut because its confidence fell below the job's threshold */
    bool partial;  /* a stream that was not ended as it should */
    bool again;    /* out: another attempt may mend what is wrong */
};

/* Sets how the answer ended, and puts a stop where it belongs: cut off, or for a step behind the text. Thinking that came
 * to an end, whichever, is a step. ERR_PROTOCOL,
 * ERR_CLOSED: it is no answer; the error says why. */
int openai_judge(const struct openai_spec *spec, const struct job *job, struct completion *completion,
                 struct openai_ending *ending, enum finish *finish, struct error *error);

/* The tokens of what came so far, from their log-probabilities, when the server has not told them. */
void openai_count(struct completion *completion);

/* The choices of one answer as answers of their own, to[0] to to[choices_len - 1], which are to be cleared. What the prompt
 * used goes to the first. ERR_PROTOCOL when what each of them used is not known: usage tells only the sum. */
int openai_split(struct completion *completion, struct completion *to, struct error *error);

/* The tokens of a prompt and this answer behind it, a step that was judged: what stands in the list of them that the dialect
 * takes. tokens: what the prompt was sent as, empty: text. False when the ids do not spell the text: a stop that was cut
 * off within a token, or ids that were not told. */
bool openai_tokens(const struct openai_spec *spec, const struct completion *completion, const struct dialect *dialect,
                   struct slice prompt, struct slice tokens, struct buf *out);

/* Whether a path may go on behind this answer by its ids: an end token of the model's is not among them. */
bool openai_goes_on(const struct openai_spec *spec, const struct job *job, const struct completion *completion,
                    enum finish finish);

/* Fills text and result, the time apart. */
void openai_take(const struct completion *completion, const struct dialect *dialect, enum finish finish,
                 struct job *job);

#endif
