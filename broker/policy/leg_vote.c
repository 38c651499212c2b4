/* leg_vote.c - see leg_vote.h. */
#include "broker/policy/leg_vote.h"

#include <stdlib.h>
#include <string.h>

/* By leg, then answer, then position. */
static int by_answer(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->leg != y->leg)
        return x->leg < y->leg ? -1 : 1;
    if (x->class != y->class)
        return x->class < y->class ? -1 : 1;
    return (x->ordinal > y->ordinal) - (x->ordinal < y->ordinal);
}

static void run_counts(const struct item *run, uint32_t len, struct leg_vote *vote, uint32_t *first)
{
    if (run->class == 0 || len < vote->count || (len == vote->count && run->ordinal > *first))
        return;
    vote->class = run->class;
    vote->count = len;
    *first = run->ordinal;
}

uint32_t leg_votes(const struct stats *stats, struct leg_vote votes[LIMIT_LEGS])
{
    uint32_t first[LIMIT_LEGS] = {0}, legs = 0, len = stats->delivered;
    struct item *items = xalloc((len + 1) * sizeof *items);
    memset(votes, 0, LIMIT_LEGS * sizeof *votes);
    if (len > 0)
        memcpy(items, stats->items, len * sizeof *items);
    for (uint32_t i = 0; i < len; i++) {
        legs += votes[items[i].leg].rollouts++ == 0;
        if (items[i].failed)
            items[i].class = 0;
    }
    qsort(items, len, sizeof *items, by_answer);
    for (uint32_t i = 0, end; i < len; i = end) {
        for (end = i + 1; end < len && items[end].leg == items[i].leg && items[end].class == items[i].class; end++)
            continue;
        run_counts(&items[i], end - i, &votes[items[i].leg], &first[items[i].leg]);
    }
    free(items);
    return legs;
}

uint32_t leg_votes_top(const struct stats *stats, const struct leg_vote votes[LIMIT_LEGS], uint32_t *legs)
{
    uint32_t top = NO_ORDINAL;
    *legs = 0;
    for (uint32_t c = 0; c < stats->classes_len; c++) {
        uint32_t leads = 0;
        for (uint32_t leg = 0; leg < LIMIT_LEGS; leg++)
            leads += votes[leg].class == stats->classes[c].class;
        if (leads < *legs || leads == 0 || (leads == *legs && stats->classes[c].count <= stats->classes[top].count))
            continue;
        top = c;
        *legs = leads;
    }
    return top;
}
