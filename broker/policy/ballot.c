/* ballot.c - weighted votes; see ballot.h. */
#include "broker/policy/ballot.h"

#include "broker/policy/kernel.h"
#include "common/rng.h"

#include <math.h>
#include <stdlib.h>

static bool number_of(const struct item *item, int number, double *value)
{
    if (number == BALLOT_SCORE) {
        *value = item->score;
        return item->scored;
    }
    if (number == BALLOT_TOKENS) {
        *value = item->tokens;
        return true;
    }
    return item_feature(item, (enum feature)number, value);
}

struct ballots ballots_new(const struct stats *stats, int number, uint32_t need, bool voters)
{
    struct ballots ballots = {.at = xalloc((stats->delivered + (size_t)1) * sizeof *ballots.at)};
    for (uint32_t i = 0; i < stats->delivered; i++) {
        const struct item *item = &stats->items[i];
        double value;
        if (item->failed || (voters && item->class == 0) || (item->have & need) != need ||
            !number_of(item, number, &value))
            continue;
        ballots.at[ballots.len++] = (struct ballot){item->class, item->ordinal, item->leg, value};
    }
    return ballots;
}

void ballots_clear(struct ballots *ballots)
{
    free(ballots->at);
    *ballots = (struct ballots){0};
}

static void standardise(const struct ballots *ballots, uint32_t leg, bool all)
{
    double sum = 0, squares = 0, len = 0;
    for (uint32_t i = 0; i < ballots->len; i++) {
        if (!all && ballots->at[i].leg != leg)
            continue;
        sum += ballots->at[i].weight;
        len++;
    }
    for (uint32_t i = 0; i < ballots->len; i++)
        if (all || ballots->at[i].leg == leg)
            squares += (ballots->at[i].weight - sum / len) * (ballots->at[i].weight - sum / len);
    for (uint32_t i = 0; i < ballots->len; i++)
        if (all || ballots->at[i].leg == leg)
            ballots->at[i].weight = squares > 0 ? (ballots->at[i].weight - sum / len) / sqrt(squares / len) : 0;
}

void ballots_standardise(struct ballots *ballots)
{
    standardise(ballots, 0, true);
}

void ballots_standardise_legs(struct ballots *ballots)
{
    for (uint32_t leg = 0; leg < LIMIT_LEGS; leg++)
        standardise(ballots, leg, false);
}

static int by_weight(const void *a, const void *b)
{
    const struct ballot *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    return (x->ordinal > y->ordinal) - (x->ordinal < y->ordinal);
}

static int by_class(const void *a, const void *b)
{
    const struct ballot *x = a, *y = b;
    if (x->class != y->class)
        return x->class < y->class ? -1 : 1;
    return (x->ordinal > y->ordinal) - (x->ordinal < y->ordinal);
}

void ballots_sort(struct ballots *ballots)
{
    qsort(ballots->at, ballots->len, sizeof *ballots->at, by_weight);
}

/* The ballots of one answer, counted. */
struct tally {
    uint32_t first, heaviest; /* ordinals */
    double sum;
};

/* Counts the answer that begins at `from`; index after its last ballot. */
static uint32_t tally_class(const struct ballots *ballots, uint32_t from, struct tally *tally)
{
    const struct ballot *heaviest = &ballots->at[from];
    uint32_t i = from;
    *tally = (struct tally){.first = heaviest->ordinal};
    for (; i < ballots->len && ballots->at[i].class == ballots->at[from].class; i++) {
        tally->sum += ballots->at[i].weight;
        if (ballots->at[i].weight > heaviest->weight)
            heaviest = &ballots->at[i];
    }
    tally->heaviest = heaviest->ordinal;
    return i;
}

void ballots_count(struct ballots *ballots, struct ranking *out)
{
    struct tally top = {.first = NO_ORDINAL, .heaviest = NO_ORDINAL}, tally;
    double positive = 0;
    qsort(ballots->at, ballots->len, sizeof *ballots->at, by_class);
    for (uint32_t i = 0; i < ballots->len;) {
        bool answered = ballots->at[i].class != 0;
        i = tally_class(ballots, i, &tally);
        if (!answered)
            continue;
        positive += fmax(tally.sum, 0);
        if (top.first == NO_ORDINAL || tally.sum > top.sum || (tally.sum >= top.sum && tally.first < top.first))
            top = tally;
    }
    *out = (struct ranking){.winner = top.heaviest, .confidence = top.sum > 0 ? top.sum / positive : 0};
}

void ballots_best(const struct ballots *ballots, struct ranking *out)
{
    *out = (struct ranking){.winner = NO_ORDINAL};
    for (uint32_t i = 0; i < ballots->len; i++)
        if (out->winner == NO_ORDINAL || ballots->at[i].weight > out->confidence)
            *out = (struct ranking){ballots->at[i].ordinal, ballots->at[i].weight};
}

void ballots_choose(struct ballots *ballots, bool votes, struct ranking *out)
{
    if (votes)
        ballots_count(ballots, out);
    else
        ballots_best(ballots, out);
}

void ballots_draw(const struct ballots *ballots, const struct prompt_view *view, struct ranking *out)
{
    double *weights = xalloc((ballots->len + (size_t)1) * sizeof *weights), best = -INFINITY, chosen = -INFINITY;
    *out = (struct ranking){.winner = NO_ORDINAL};
    for (uint32_t i = 0; i < ballots->len; i++) {
        const struct ballot *ballot = &ballots->at[i];
        weights[i] = ballot->weight;
        double u = fmax(rng_unit(rng_u64(view->seed, RNG_SELECT, view->prompt, ballot->ordinal)), 0x1p-54);
        double key = ballot->weight - log(-log(u));
        if (key > best) {
            best = key;
            chosen = ballot->weight;
            out->winner = ballot->ordinal;
        }
    }
    if (out->winner != NO_ORDINAL)
        out->confidence = exp(chosen - log_sum_exp(weights, ballots->len));
    free(weights);
}

void fall_back_to_majority(const struct prompt_view *view, struct ranking *out)
{
    if (out->winner == NO_ORDINAL)
        select_majority.select(view, out);
}
