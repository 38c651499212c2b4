/* check_cascade.c - a cheap verifier first, and a costly one where the cheap one is not sure.
 *
 * Window early-exit: outside of [low, high] the cheap score stands, inside the costly one decides. `drover calibrate` gives
 * the window on labelled rollouts (quantiles of the cheap score around the threshold). Quantiles of the scores seen so far
 * were rejected: a verdict would depend on which rollouts this process got before, and so on the fleet. */
#include "common/json.h"
#include "verifier/alone.h"
#include "verifier/compose.h"

#include <stdlib.h>

enum { CHEAP, COSTLY };

struct cascade {
    double low, high;
    bool mean; /* inside, the score is the mean of both */
};

static int cascade_fill(void *own, const struct json_t *spec, struct error *error)
{
    const struct doc_range any = {-1e300, 1e300};
    struct cascade *cascade = own;
    cascade->low = 0.2;
    cascade->high = 0.8;
    int code = doc_option_real(spec, "low", any, &cascade->low, error);
    if (code == 0)
        code = doc_option_real(spec, "high", any, &cascade->high, error);
    if (code == 0)
        code = doc_option_bool(spec, "mean", &cascade->mean, error);
    if (code == 0 && cascade->low > cascade->high)
        code = error_set(error, ERR_RANGE, "option `low` is larger than `high`");
    return code;
}

/* A cheap verifier that says nothing leaves it to the costly one. */
static bool is_sure(const struct cascade *cascade, const struct verdict *cheap)
{
    return outcome_known(cheap->outcome) && (cheap->score < cascade->low || cheap->score > cascade->high);
}

static int cascade_next(const void *own, const struct check_input *input, const bool *there,
                        const struct finding *findings)
{
    (void)input;
    (void)there;
    if (!findings[CHEAP].asked)
        return CHEAP;
    return findings[COSTLY].asked || is_sure(own, &findings[CHEAP].verdict) ? COMPOSE_DONE : COSTLY;
}

/* A bare score beyond the window is an opinion: that is what the window is for. */
static struct verdict sure_verdict(const struct cascade *cascade, struct verdict cheap)
{
    if (cheap.outcome == OUTCOME_SCORE)
        cheap.outcome = cheap.score > cascade->high ? OUTCOME_PASS : OUTCOME_FAIL;
    return cheap;
}

static void cascade_decide(const void *own, const struct check_input *input, const struct finding *findings,
                           struct verdict *verdict, struct buf *detail)
{
    const struct cascade *cascade = own;
    const struct verdict *cheap = &findings[CHEAP].verdict, *costly = &findings[COSTLY].verdict;
    bool sure = !findings[COSTLY].asked;
    (void)input;
    *verdict = sure ? sure_verdict(cascade, *cheap) : *costly;
    if (!sure && cascade->mean && outcome_known(cheap->outcome) && outcome_known(costly->outcome))
        verdict->score = (cheap->score + costly->score) / 2;
    json_key(detail, "decided");
    json_str(detail, sure ? "cheap" : "costly");
    compose_finding_json("cheap", &findings[CHEAP], detail);
    if (!sure)
        compose_finding_json("costly", &findings[COSTLY], detail);
}

const struct composite composite_cascade = {
    .name = "cascade",
    .options = {[CHEAP] = "cheap", [COSTLY] = "costly"},
    .required = {true, true},
    .size = sizeof(struct cascade),
    .open = cascade_fill,
    .next = cascade_next,
    .decide = cascade_decide,
};

const struct check check_cascade = {
    .name = "cascade",
    .help = "a cheap verifier first, a costly one where its score lies in a window",
    .open = compose_open,
    .run = alone_run,
    .close = alone_close,
    .engine = &engine_compose,
};
