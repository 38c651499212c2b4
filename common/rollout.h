/* rollout.h - plain records that generators and verifiers produce, and everything else reads. */
#ifndef DROVER_ROLLOUT_H
#define DROVER_ROLLOUT_H

#include <stdbool.h>
#include <stdint.h>

/* Why a generated segment ended. Numbers are stored: never reuse one. */
/* clang-format off */
#define FINISH_TABLE(X)                                                                            \
    X(FINISH_STOP, 0, "stop")       /* the model ended it, or a stop sequence did */               \
    X(FINISH_LENGTH, 1, "length")   /* token cap or context reached: the text is truncated */      \
    X(FINISH_STEP, 2, "step")       /* the step separator was reached: the path goes on */         \
    X(FINISH_TIMEOUT, 3, "timeout") /* the task's time was up */                                   \
    X(FINISH_FAILED, 4, "failed")   /* failed for good: keeps its place, has no answer */          \
    X(FINISH_EXHAUSTED, 5, "exhausted") /* a recorded pool holds no such rollout */                \
    X(FINISH_KILLED, 6, "killed")   /* its confidence fell below its pool's threshold: no answer */
/* clang-format on */

enum finish {
#define X(name, value, text) name = (value),
    FINISH_TABLE(X)
#undef X
};

#define FINISHES (FINISH_KILLED + 1)

/* What a generate task ends at, besides the end of the rollout and its token cap. Numbers are stored. */
enum extent {
    EXTENT_WHOLE, /* nothing else */
    EXTENT_STEP,  /* the step separator, which is kept in the text */
    EXTENT_THINK, /* the end of thinking: the model's text `think_end`, which is not part of the text; or its end token.
                   * Both are finish = step. */
    EXTENTS
};

/* Which text stands between a path and what is generated behind it. Models say the texts (worker/cues.h); broker and
 * core know numbers, and these are stored.
 *
 * WAIT, ANSWER and FINAL are inline: the text of the node begins with its cue, so the texts of a path, one behind the
 * other, are what the model saw behind the prompt. REVISE opens a turn: each node is a whole attempt, its text is the
 * attempt alone, and the instruction stands behind each attempt that the model is shown. */
/* clang-format off */
#define CUE_TABLE(X)                                                                               \
    X(CUE_NONE, 0, "none")                                                                         \
    X(CUE_WAIT, 1, "wait")     /* thinking goes on: the model's `wait` */                          \
    X(CUE_ANSWER, 2, "answer") /* the model ended its thinking: `think_end` */                     \
    X(CUE_FINAL, 3, "final")   /* its thinking was cut: `think_end` and then `final` */            \
    X(CUE_REVISE, 4, "revise") /* an earlier attempt is revised: `revise` */
/* clang-format on */

enum cue {
#define X(name, value, text) name = (value),
    CUE_TABLE(X)
#undef X
};

#define CUES (CUE_REVISE + 1)

static inline bool cue_inline(enum cue cue)
{
    return cue == CUE_WAIT || cue == CUE_ANSWER || cue == CUE_FINAL;
}

/* Scalars that a generator reduces its log-probabilities to; features travel, log-probabilities do not.
 * Nats, of the tokens as sampled, at temperature 1. A bitmap says which are present. Numbers are stored. */
/* clang-format off */
#define FEATURE_TABLE(X)                                                                           \
    X(FEATURE_LP_SUM, 0, "lp_sum", "sum of the tokens' log-probabilities")                         \
    X(FEATURE_LP_MEAN, 1, "lp_mean", "mean log-probability of a token")                            \
    X(FEATURE_NLL_VAR, 2, "nll_var", "variance of the tokens' negative log-probability")           \
    X(FEATURE_LP_MIN, 3, "lp_min", "smallest log-probability of a token")                          \
    X(FEATURE_ENT_MEAN, 4, "ent_mean", "mean entropy of the token distribution")                   \
    X(FEATURE_ENT_TAIL, 5, "ent_tail", "mean entropy over the last 16 tokens")                     \
    X(FEATURE_REWARD, 6, "reward", "reward recorded with the rollout")                             \
    X(FEATURE_CORRECT, 7, "correct", "correctness recorded with the rollout, 0 or 1")              \
    X(FEATURE_CONF_MEAN, 8, "conf_mean", "mean confidence: minus the mean of the top log-probabilities of a token") \
    X(FEATURE_CONF_TAIL, 9, "conf_tail", "mean confidence over the last 2048 tokens")              \
    X(FEATURE_CONF_BOTTOM10, 10, "conf_bottom10", "mean confidence of the lowest tenth of its windows") \
    X(FEATURE_CONF_MIN, 11, "conf_min", "lowest mean confidence of a window of 2048 tokens")       \
    X(FEATURE_SELF_CERT, 12, "self_cert", "mean divergence of the uniform from the token distribution, whole vocabulary") \
    X(FEATURE_LAST_TOKEN_LP, 13, "last_token_lp", "log-probability of a fixed token behind the last one") \
    X(FEATURE_LP_RATIO_SUM, 14, "lp_ratio_sum", "sum of ln of the ratio of two models' probabilities") \
    X(FEATURE_MARKERS, 15, "markers", "words that tell of doubt, in the text")                    \
    X(FEATURE_LATENT_NET, 16, "latent_net", "net change of the hidden state along the trajectory") \
    X(FEATURE_LATENT_SUM, 17, "latent_sum", "cumulative change of the hidden state along the trajectory") \
    X(FEATURE_LATENT_ALIGN, 18, "latent_align", "mean alignment of its steps with the net change") \
    X(FEATURE_FORESEEN_REWARD, 19, "foreseen_reward", "reward at the end of the path that the generator predicts") \
    X(FEATURE_FORESEEN_TOKENS, 20, "foreseen_tokens", "tokens up to that end that it predicts")
/* clang-format on */

enum feature {
#define X(name, value, text, help) name = (value),
    FEATURE_TABLE(X)
#undef X
        FEATURES
};

struct features {
    uint32_t have; /* bit (1 << enum feature) */
    double v[FEATURES];
};

/* What the log-probabilities behind the features are of. Servers differ, and weights of particles depend on it. */
enum logprob_mode {
    LOGPROB_NONE,    /* none were given */
    LOGPROB_RAW,     /* of the model, before temperature and truncation */
    LOGPROB_SAMPLED, /* of the distribution that was sampled from */
};

/* What one generate task produced, apart from its text. */
struct result {
    enum finish finish;
    uint32_t tokens_in;     /* tokens of prompt (and path, when re-read) */
    uint32_t tokens_out;    /* tokens generated, the end token included */
    uint32_t tokens_reread; /* path tokens evaluated again because no prefix was warm */
    uint32_t tokens_cached; /* of tokens_in: found in the server's prefix cache */
    uint32_t latency_ms;
    bool by_ids; /* the path that it continues was sent as the token ids that were sampled */
    enum logprob_mode logprob_mode;
    struct features features;
};

/* A verifier's outcome. FAIL and TIMEOUT are wrong, PASS is right; the others are settled but neither. ERROR is what
 * UNKNOWN is, with the verifier to blame. */
/* clang-format off */
#define OUTCOME_TABLE(X)                                                                           \
    X(OUTCOME_FAIL, 0, "fail")                                                                     \
    X(OUTCOME_PASS, 1, "pass")                                                                     \
    X(OUTCOME_UNKNOWN, 2, "unknown") /* cannot be told */                                          \
    X(OUTCOME_SCORE, 3, "score")     /* a number, and no opinion on right or wrong */              \
    X(OUTCOME_TIMEOUT, 4, "timeout") /* what was judged used up its time: wrong */                 \
    X(OUTCOME_ERROR, 5, "error")     /* the verifier could not judge it */
/* clang-format on */

enum outcome {
#define X(name, value, text) name = (value),
    OUTCOME_TABLE(X)
#undef X
};

#define OUTCOMES (OUTCOME_ERROR + 1)

/* Whether a verdict says anything: its score counts. */
static inline bool outcome_known(enum outcome outcome)
{
    return outcome != OUTCOME_UNKNOWN && outcome != OUTCOME_ERROR;
}

/* Whether it says right or wrong; then right is PASS. */
static inline bool outcome_decides(enum outcome outcome)
{
    return outcome == OUTCOME_PASS || outcome == OUTCOME_FAIL || outcome == OUTCOME_TIMEOUT;
}

struct verdict {
    enum outcome outcome;
    double score; /* in [0, 1] for checks; any finite number for reward models; 0 when unknown */
};

#endif
