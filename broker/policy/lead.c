/* lead.c - see lead.h. */
#include "broker/policy/lead.h"

struct lead lead_of(const struct stats *stats)
{
    return (struct lead){
        .a = stats->classes_len > 0 ? stats->classes[stats->top].count : 0,
        .b = stats->classes_len > 1 ? stats->classes[stats->second].count : 0,
    };
}

uint32_t rollouts_left(const struct prompt_view *view)
{
    return view->cap > view->stats->delivered ? view->cap - view->stats->delivered : 0;
}

uint32_t room_until(const struct prompt_view *view, uint32_t votes, uint32_t answers_min)
{
    const struct stats *stats = view->stats;
    uint32_t need = votes > 0 ? votes : 1;
    if (answers_min > stats->voters && answers_min - stats->voters > need)
        need = answers_min - stats->voters;
    uint32_t left = rollouts_left(view);
    return need < left ? need : left;
}
