/* logprobs.h - reduces the log-probabilities of a rollout to its features, one token at a time.
 *
 * Tokens as sampled and the likeliest alternatives of a position are two independent streams: servers send them in
 * lists of their own. Memory: four bytes a token, and only when there are alternatives. */
#ifndef DROVER_LOGPROBS_H
#define DROVER_LOGPROBS_H

#include "common/rollout.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    LOGPROBS_TAIL = 16, /* tokens of FEATURE_ENT_TAIL */
    LOGPROBS_WINDOW =
        2048, /* tokens of a window of FEATURE_CONF_MIN, _BOTTOM10 and _TAIL, unless the pool says others */
};

struct logprobs {
    uint32_t top;    /* alternatives that were asked for, 0: none; set by the owner */
    uint32_t window; /* tokens of the windows of confidence, 0: LOGPROBS_WINDOW; set by the owner */

    /* of the tokens as sampled */
    uint64_t len;
    double sum, sum_sq, min;

    /* of the positions with alternatives */
    float *confidence; /* of each */
    size_t positions, confidence_cap;
    double window_sum; /* of the last window */
    float lowest;      /* mean of a whole window; INFINITY before there is one */
    double entropy_sum, entropy_tail[LOGPROBS_TAIL];
    double certainty_sum; /* of those whose whole distribution was known */
    size_t whole;

    /* of the position that is being read */
    uint32_t alternatives;
    double top_sum, top_min, mass, mass_log;
};

void logprobs_sampled(struct logprobs *logprobs, double logprob);
void logprobs_alternative(struct logprobs *logprobs, double logprob); /* in any order */
void logprobs_position_end(struct logprobs *logprobs);

/* A position whose whole distribution is known, in place of its alternatives; nats. */
struct distribution {
    double confidence, entropy; /* confidence: minus the mean log-probability of the likeliest tokens */
    double certainty;           /* divergence of the uniform distribution from it */
};
void logprobs_distribution(struct logprobs *logprobs, const struct distribution *distribution);

/* Whether the mean confidence of a whole window was below that, as it will be kept: single precision, so that a rollout is
 * ended exactly where a policy that reads FEATURE_CONF_MIN would find it below. */
bool logprobs_below(const struct logprobs *logprobs, double threshold);

/* Sets what the tokens so far tell; leaves features of another source alone. */
void logprobs_features(const struct logprobs *logprobs, struct features *features);

void logprobs_reset(struct logprobs *logprobs); /* keeps `top`, `window` and the memory */
void logprobs_clear(struct logprobs *logprobs);

#endif
