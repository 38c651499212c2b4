/* schedule.c - see schedule.h. Legs are few, so everything is a walk over them. */
#include "broker/policy/schedule.h"

/* Positions of one round, or of all blocks but the last. */
static uint32_t period(const struct schedule *s)
{
    uint32_t sum = 0;
    for (uint32_t leg = 0; leg + (s->rounds ? 0 : 1) < s->legs; leg++)
        sum += s->len[leg];
    return sum;
}

bool schedule_valid(const struct schedule *s, uint32_t n)
{
    if (s->legs == 0 || s->legs > LIMIT_LEGS)
        return false;
    for (uint32_t leg = 0; s->legs > 1 && leg + (s->rounds ? 0 : 1) < s->legs; leg++)
        if (s->len[leg] == 0 || s->len[leg] > LIMIT_N)
            return false;
    return s->legs == 1 || (s->rounds ? period(s) <= n : period(s) < n);
}

bool schedule_equal(const struct schedule *a, const struct schedule *b)
{
    bool equal = a->rounds == b->rounds && a->legs == b->legs;
    for (uint32_t leg = 0; equal && a->legs > 1 && leg < a->legs; leg++)
        equal = a->len[leg] == b->len[leg];
    return equal;
}

struct drawn schedule_draw(const struct schedule *s, uint32_t position)
{
    if (s->legs == 1)
        return (struct drawn){0, position};
    uint32_t round = s->rounds ? position / period(s) : 0, leg = 0;
    uint32_t at = s->rounds ? position % period(s) : position;
    for (; leg + 1 < s->legs && at >= s->len[leg]; leg++)
        at -= s->len[leg];
    return (struct drawn){leg, round * s->len[leg] + at};
}

uint32_t schedule_position(const struct schedule *s, uint32_t leg, uint32_t ordinal)
{
    if (s->legs == 1)
        return ordinal;
    uint32_t from = 0;
    for (uint32_t i = 0; i < leg; i++)
        from += s->len[i];
    if (s->rounds)
        return ordinal / s->len[leg] * period(s) + from + ordinal % s->len[leg];
    return leg + 1 == s->legs || ordinal < s->len[leg] ? from + ordinal : NO_POSITION;
}

uint32_t schedule_reach(const struct schedule *s, uint32_t leg, uint32_t positions)
{
    if (s->legs == 1)
        return positions;
    uint32_t whole = s->rounds ? positions / period(s) * s->len[leg] : 0;
    uint32_t rest = s->rounds ? positions % period(s) : positions;
    for (uint32_t i = 0; i < leg; i++)
        rest = rest > s->len[i] ? rest - s->len[i] : 0;
    bool open = !s->rounds && leg + 1 == s->legs;
    return whole + (open || rest < s->len[leg] ? rest : s->len[leg]);
}

uint32_t schedule_end(const struct schedule *s, uint32_t position)
{
    if (s->legs > 1 && s->rounds)
        return (position / period(s) + 1) * period(s);
    uint32_t end = 0;
    for (uint32_t leg = 0; leg + 1 < s->legs; leg++) {
        end += s->len[leg];
        if (position < end)
            return end;
    }
    return NO_POSITION;
}
