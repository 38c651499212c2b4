/* stop_deepconf.c - stop when the confident rollouts agree.
 *
 * Fu et al. 2025, "Deep think with confidence", online: a rollout's weight is its lowest confidence of a window
 * (`conf_min`). The first `warmup` rollouts set a threshold, the percentile that `keep` percent of them reach (linear
 * between ranks, as in the released code); rollouts below it cast no vote, those of the warm-up neither. Sampling stops
 * when one answer has `share` of the weight. With `kill` a rollout that falls below it is ended where it does, by whoever
 * generates it (kill.h): it would have cast no vote. */
#include "broker/policy/kill.h"
#include "broker/policy/lead.h"
#include "common/limits.h"

#include <math.h>

enum { OPT_WARMUP, OPT_KEEP, OPT_SHARE, OPT_KILL };

static const struct option_row options[] = {
    [OPT_WARMUP] = {.name = "warmup",
                    .type = OPTION_INT,
                    .min = 1,
                    .max = WARMUP_MAX,
                    .fallback = 16,
                    .help = "rollouts that set the threshold of confidence"},
    [OPT_KEEP] = {.name = "keep",
                  .type = OPTION_REAL,
                  .min = 0.1,
                  .max = 100,
                  .fallback = 10,
                  .help = "percent of them that reach it: 10 is aggressive, 90 careful"},
    [OPT_SHARE] = {.name = "share",
                   .type = OPTION_REAL,
                   .min = 0.501,
                   .max = 1,
                   .fallback = 0.95,
                   .help = "share of the kept rollouts' weight that one answer must have"},
    [OPT_KILL] = {.name = "kill",
                  .type = OPTION_INT,
                  .min = 0,
                  .max = LIMIT_MAX_TOKENS,
                  .fallback = 0,
                  .help =
                      "tokens of the windows; a rollout with one below the threshold is ended there; 0: none is, and "
                      "windows have 2048"},
    {.name = NULL},
};

static struct kill_rule deepconf_kill(const double *values)
{
    return (struct kill_rule){
        .window = (uint32_t)values[OPT_KILL], .warmup = (uint32_t)values[OPT_WARMUP], .keep = values[OPT_KEEP]};
}

/* Whether the warm-up is there; then what it says. */
static bool threshold_of(const struct prompt_view *view, struct warmup *warmup, double *threshold)
{
    const struct kill_rule rule = deepconf_kill(view->options);
    const struct stats *stats = view->stats;
    bool complete = false;
    warmup->len = 0;
    for (uint32_t i = 0; i < stats->delivered && !complete; i++)
        complete = warmup_add(warmup, &rule, &stats->items[i]);
    if (complete)
        *threshold = warmup_threshold(warmup, &rule);
    return complete;
}

/* The weight of a vote; 0: it casts none. */
static double vote_of(const struct item *item, double threshold)
{
    double weight;
    bool votes = item->class != 0 && item_feature(item, FEATURE_CONF_MIN, &weight) && weight >= threshold;
    return votes && weight > 0 ? weight : 0;
}

struct tally {
    double top, total, most; /* weight of the candidate, of all, of the heaviest vote */
};

/* If an answer has more than half of the weight it is the candidate (Boyer and Moore 1991); any other cannot stop. */
static struct tally tally_of(const struct stats *stats, double threshold)
{
    struct tally tally = {0};
    uint64_t candidate = 0;
    double lead = 0;
    for (uint32_t i = 0; i < stats->delivered; i++) {
        double vote = vote_of(&stats->items[i], threshold);
        lead += stats->items[i].class == candidate ? vote : -vote;
        if (lead < 0) {
            candidate = stats->items[i].class;
            lead = -lead;
        }
    }
    for (uint32_t i = 0; i < stats->delivered; i++) {
        double vote = vote_of(&stats->items[i], threshold);
        tally.total += vote;
        tally.top += stats->items[i].class == candidate ? vote : 0;
        tally.most = fmax(tally.most, vote);
    }
    return tally;
}

static bool deepconf_stop(const struct prompt_view *view)
{
    struct warmup warmup;
    double threshold;
    if (!threshold_of(view, &warmup, &threshold))
        return false;
    struct tally tally = tally_of(view->stats, threshold);
    return tally.total > 0 && tally.top >= view->options[OPT_SHARE] * tally.total;
}

/* As if none that comes were surer than the surest so far: votes of that weight until the share is reached. */
static uint32_t deepconf_room(const struct prompt_view *view)
{
    struct warmup warmup;
    double threshold, share = view->options[OPT_SHARE];
    if (!threshold_of(view, &warmup, &threshold))
        return room_until(view, (uint32_t)view->options[OPT_WARMUP] - warmup.len, 0);
    struct tally tally = tally_of(view->stats, threshold);
    double lacking = share * tally.total - tally.top, each = (1 - share) * tally.most;
    double need = lacking > 0 && each > 0 ? ceil(lacking / each) : 1;
    return room_until(view, (uint32_t)fmin(need, view->cap), 0);
}

const struct stopper stop_deepconf = {
    .name = "deepconf",
    .help = "stop when the confident rollouts agree",
    .version = 1,
    .needs = NEED_ANSWER,
    .min_n = 1,
    .options = options,
    .features = 1u << FEATURE_CONF_MIN,
    .items = true,
    .stop = deepconf_stop,
    .room = deepconf_room,
    .kill = deepconf_kill,
};
