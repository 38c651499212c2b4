/* stats.c - statistics of a delivered prefix, one rollout at a time.
 *
 * Everything a policy asks for is kept as a number or an index, so that a decision costs O(1). Only
 * looking up a class scans, and so does a top weight that shrank. Sums run in ordinal order: replay
 * gives the same bits. */
#include "broker/policy/policy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool item_feature(const struct item *item, enum feature feature, double *value)
{
    if (item->failed || (item->have >> feature & 1) == 0)
        return false;
    *value = (double)item->features[__builtin_popcount(item->have & ((1u << feature) - 1))];
    return true;
}

void stats_init(struct stats *stats, bool keeps)
{
    *stats = (struct stats){
        .top = NO_ORDINAL,
        .second = NO_ORDINAL,
        .top_weight = NO_ORDINAL,
        .first_pass = NO_ORDINAL,
        .best = NO_ORDINAL,
        .first_answer = NO_ORDINAL,
        .keeps = keeps,
    };
}

void stats_clear(struct stats *stats)
{
    free(stats->classes);
    free(stats->items);
    stats_init(stats, stats->keeps);
}

static void *copy_of(const void *from, size_t size)
{
    void *to = size == 0 ? NULL : xalloc(size);
    if (size > 0)
        memcpy(to, from, size);
    return to;
}

const struct item *stats_item(const struct stats *stats, uint32_t ordinal)
{
    uint32_t from = 0, to = stats->delivered; /* ordinals rise, and may have gaps */
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (stats->items[middle].ordinal == ordinal)
            return &stats->items[middle];
        if (stats->items[middle].ordinal < ordinal)
            from = middle + 1;
        else
            to = middle;
    }
    return NULL;
}

void stats_copy(struct stats *to, const struct stats *from)
{
    *to = *from;
    to->classes_cap = from->classes_len;
    to->classes = copy_of(from->classes, from->classes_len * sizeof *to->classes);
    to->items_cap = from->keeps ? from->delivered : 0;
    to->items = copy_of(from->items, to->items_cap * sizeof *to->items);
}

/* Index of the class, added when it is new. Classes come in the order of their first ordinal. */
static uint32_t class_of(struct stats *stats, const struct item *item)
{
    for (uint32_t i = 0; i < stats->classes_len; i++)
        if (stats->classes[i].class == item->class)
            return i;
    if (stats->classes_len == stats->classes_cap) {
        stats->classes_cap = stats->classes_cap ? 2 * stats->classes_cap : 4;
        stats->classes = xrealloc(stats->classes, stats->classes_cap * sizeof(*stats->classes));
    }
    uint32_t index = stats->classes_len++;
    stats->classes[index] = (struct class_stat){
        .class = item->class,
        .first = item->ordinal,
        .score_best = -INFINITY,
    };
    return index;
}

/* Larger count first; the lower index has the lower first ordinal. */
static bool count_beats(const struct stats *stats, uint32_t a, uint32_t b)
{
    if (b == NO_ORDINAL)
        return true;
    if (stats->classes[a].count != stats->classes[b].count)
        return stats->classes[a].count > stats->classes[b].count;
    return a < b;
}

/* A count grew by one: only this class can move, and only upwards. */
static void fold_count(struct stats *stats, uint32_t index)
{
    stats->classes[index].count++;
    if (index == stats->top)
        return;
    if (count_beats(stats, index, stats->top)) {
        stats->second = stats->top;
        stats->top = index;
    } else if (index != stats->second && count_beats(stats, index, stats->second)) {
        stats->second = index;
    }
}

static bool weight_beats(const struct stats *stats, uint32_t a, uint32_t b)
{
    if (b == NO_ORDINAL)
        return true;
    if (stats->classes[a].weight != stats->classes[b].weight)
        return stats->classes[a].weight > stats->classes[b].weight;
    return a < b;
}

/* Scores may be negative (reward models), so the leader can fall back: then all are compared. */
static void fold_weight(struct stats *stats, uint32_t index, const struct item *item)
{
    struct class_stat *class = &stats->classes[index];
    double before = class->weight;
    if (item->scored) {
        class->scored++;
        class->weight += item->score;
        if (item->score > class->score_best)
            class->score_best = item->score;
    }
    if (index != stats->top_weight) {
        if (weight_beats(stats, index, stats->top_weight))
            stats->top_weight = index;
    } else if (class->weight < before) {
        for (uint32_t i = 0; i < stats->classes_len; i++)
            if (weight_beats(stats, i, stats->top_weight))
                stats->top_weight = i;
    }
}

static void fold_score(struct stats *stats, const struct item *item)
{
    stats->scored++;
    stats->score_sum += item->score;
    stats->score_sumsq += item->score * item->score;
    if (stats->best == NO_ORDINAL || item->score > stats->score_best) {
        stats->best = item->ordinal;
        stats->score_best = item->score;
    }
    if (!item->passed)
        return;
    stats->passes++;
    if (stats->first_pass == NO_ORDINAL)
        stats->first_pass = item->ordinal;
}

static void fold_answer(struct stats *stats, const struct item *item)
{
    stats->voters++;
    if (stats->first_answer == NO_ORDINAL)
        stats->first_answer = item->ordinal;
    uint32_t index = class_of(stats, item);
    fold_count(stats, index);
    fold_weight(stats, index, item);
}

static void keep_item(struct stats *stats, const struct item *item)
{
    if (stats->delivered == stats->items_cap) {
        stats->items_cap = stats->items_cap ? 2 * stats->items_cap : 8;
        stats->items = xrealloc(stats->items, stats->items_cap * sizeof *stats->items);
    }
    stats->items[stats->delivered] = *item;
}

void stats_fold(struct stats *stats, const struct item *item)
{
    if (stats->keeps)
        keep_item(stats, item);
    stats->delivered++;
    if (item->failed) {
        stats->failed++;
        return;
    }
    stats->tokens += item->tokens;
    if (item->class != 0)
        fold_answer(stats, item);
    if (item->scored)
        fold_score(stats, item);
}
