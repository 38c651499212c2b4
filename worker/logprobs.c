/* logprobs.c - features of a rollout; see logprobs.h and the feature table of common/rollout.h.
 *
 * Confidence is that of "Deep Think with Confidence" (Fu et al. 2025): of a token, minus the mean log-probability of the
 * k likeliest; of a group, the mean over a sliding window (2048 tokens), or over the whole when that is shorter; of a
 * rollout, the lowest group, the mean of the lowest tenth of the groups, or the last window. */
#include "worker/logprobs.h"
#include "common/buf.h"

#include <math.h>
#include <stdlib.h>

void logprobs_sampled(struct logprobs *logprobs, double logprob)
{
    logprobs->sum += logprob;
    logprobs->sum_sq += logprob * logprob;
    if (logprobs->len == 0 || logprob < logprobs->min)
        logprobs->min = logprob;
    logprobs->len++;
}

void logprobs_alternative(struct logprobs *logprobs, double logprob)
{
    double p = exp(logprob);
    logprobs->top_sum += logprob;
    if (logprobs->alternatives == 0 || logprob < logprobs->top_min)
        logprobs->top_min = logprob;
    logprobs->mass += p;
    logprobs->mass_log += p > 0 ? p * logprob : 0;
    logprobs->alternatives++;
}

/* Entropy of the alternatives, with what they leave over as one more. */
static double entropy(const struct logprobs *logprobs)
{
    double rest = 1 - logprobs->mass;
    return -logprobs->mass_log - (rest > 1e-12 ? rest * log(rest) : 0);
}

static size_t window_of(const struct logprobs *logprobs)
{
    return logprobs->window > 0 ? logprobs->window : LOGPROBS_WINDOW;
}

/* The window that ends with the newest confidence, which is not counted yet. */
static void take_window(struct logprobs *logprobs)
{
    size_t window = window_of(logprobs), at = logprobs->positions;
    logprobs->window_sum += logprobs->confidence[at];
    if (at == 0)
        logprobs->lowest = INFINITY;
    if (at >= window)
        logprobs->window_sum -= logprobs->confidence[at - window];
    if (at + 1 < window)
        return;
    float mean = (float)(logprobs->window_sum / (double)window);
    logprobs->lowest = mean < logprobs->lowest ? mean : logprobs->lowest;
}

bool logprobs_below(const struct logprobs *logprobs, double threshold)
{
    return logprobs->positions > 0 && (double)logprobs->lowest < threshold;
}

static void take_position(struct logprobs *logprobs, double confidence, double nats)
{
    if (logprobs->positions == logprobs->confidence_cap) {
        logprobs->confidence_cap = logprobs->confidence_cap == 0 ? 256 : 2 * logprobs->confidence_cap;
        logprobs->confidence = xrealloc(logprobs->confidence, logprobs->confidence_cap * sizeof *logprobs->confidence);
    }
    logprobs->confidence[logprobs->positions] = (float)confidence;
    take_window(logprobs);
    logprobs->entropy_sum += nats;
    logprobs->entropy_tail[logprobs->positions % LOGPROBS_TAIL] = nats;
    logprobs->positions++;
}

void logprobs_distribution(struct logprobs *logprobs, const struct distribution *distribution)
{
    take_position(logprobs, distribution->confidence, distribution->entropy);
    logprobs->certainty_sum += distribution->certainty;
    logprobs->whole++;
}

void logprobs_position_end(struct logprobs *logprobs)
{
    uint32_t len = logprobs->alternatives;
    double sum = logprobs->top_sum;
    if (len > 0 && logprobs->top > 0) {
        if (len == logprobs->top + 1) { /* the sampled token was not among them, and was added: it is the least */
            sum -= logprobs->top_min;
            len--;
        }
        take_position(logprobs, -sum / len, entropy(logprobs));
    }
    logprobs->alternatives = 0;
    logprobs->top_sum = logprobs->top_min = logprobs->mass = logprobs->mass_log = 0;
}

static void set(struct features *features, enum feature feature, double value)
{
    features->v[feature] = value;
    features->have |= 1u << feature;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void confidence_features(const struct logprobs *logprobs, struct features *features)
{
    size_t len = logprobs->positions, window = len < window_of(logprobs) ? len : window_of(logprobs);
    size_t groups_len = len - window + 1;
    double *groups = xalloc(groups_len * sizeof *groups), sum = 0, all = 0, low = 0;
    for (size_t i = 0; i < len; i++) {
        all += logprobs->confidence[i];
        sum += logprobs->confidence[i];
        if (i >= window)
            sum -= logprobs->confidence[i - window];
        if (i + 1 >= window)
            groups[i + 1 - window] = sum / (double)window;
    }
    set(features, FEATURE_CONF_MEAN, all / (double)len);
    set(features, FEATURE_CONF_TAIL, groups[groups_len - 1]);
    qsort(groups, groups_len, sizeof *groups, compare);
    size_t lowest = groups_len / 10 > 0 ? groups_len / 10 : 1;
    for (size_t i = 0; i < lowest; i++)
        low += groups[i];
    set(features, FEATURE_CONF_BOTTOM10, low / (double)lowest);
    set(features, FEATURE_CONF_MIN, groups[0]);
    free(groups);
}

void logprobs_features(const struct logprobs *logprobs, struct features *features)
{
    if (logprobs->len > 0) {
        double mean = logprobs->sum / (double)logprobs->len;
        double variance = logprobs->sum_sq / (double)logprobs->len - mean * mean;
        set(features, FEATURE_LP_SUM, logprobs->sum);
        set(features, FEATURE_LP_MEAN, mean);
        set(features, FEATURE_NLL_VAR, variance > 0 ? variance : 0);
        set(features, FEATURE_LP_MIN, logprobs->min);
    }
    if (logprobs->positions == 0)
        return;
    size_t tail = logprobs->positions < LOGPROBS_TAIL ? logprobs->positions : LOGPROBS_TAIL;
    double sum = 0;
    for (size_t i = 0; i < tail; i++)
        sum += logprobs->entropy_tail[i];
    set(features, FEATURE_ENT_MEAN, logprobs->entropy_sum / (double)logprobs->positions);
    set(features, FEATURE_ENT_TAIL, sum / (double)tail);
    if (logprobs->whole == logprobs->positions)
        set(features, FEATURE_SELF_CERT, logprobs->certainty_sum / (double)logprobs->whole);
    confidence_features(logprobs, features);
}

void logprobs_reset(struct logprobs *logprobs)
{
    struct logprobs empty = {.top = logprobs->top,
                             .window = logprobs->window,
                             .confidence = logprobs->confidence,
                             .confidence_cap = logprobs->confidence_cap};
    *logprobs = empty;
}

void logprobs_clear(struct logprobs *logprobs)
{
    free(logprobs->confidence);
    *logprobs = (struct logprobs){0};
}
