/* price.c - one price for all prompts of an arm, that makes its budget last for them.
 *
 * A stopper with `reprice` goes on while one more rollout is worth its price. The price is the multiplier of the arm's
 * budget, and is found by looking: a period ends when a 64th of the budget is charged or a 64th of the prompts decided,
 * whichever comes first (prompts alone would let a price that is far too low spend all within few periods, spending alone
 * would leave one that is far too high as it is). What the period charged, beside what was left when it began divided
 * evenly between the prompts that were undecided then, is its rate: above 1 the price rises, below 1 it falls. What is left
 * is shared anew in each period, so what was spent too much early is saved later. A larger n or budget takes shares back:
 * then a period begins where the arm is now.
 *
 * Each price is a fact, with the point at which it was set, and the next is decided where rollouts are folded: so it
 * replays and audits, and under order: strict it is the same on any fleet. */
#include "broker/core/core_int.h"

#include <math.h>

#define PERIOD (1.0 / SPENT_STEPS)

/* By the cap that is nearest; without any, n of every prompt is its budget. */
double arm_spent(const struct arm *arm)
{
    const struct amounts *caps = &arm->caps, *charged = &arm->charged;
    const bool capped = caps->rollouts + caps->tokens + caps->slot_ms + caps->cost > 0;
    const struct {
        uint64_t used, cap;
    } parts[] = {{charged->rollouts, capped ? caps->rollouts : (uint64_t)arm->n * arm->prompts},
                 {charged->tokens, caps->tokens},
                 {charged->slot_ms, caps->slot_ms},
                 {charged->cost, caps->cost}};
    double share = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].cap > 0 && (double)parts[i].used / (double)parts[i].cap > share)
            share = (double)parts[i].used / (double)parts[i].cap;
    return share;
}

double arm_price(const struct arm *arm)
{
    if (!stopper_reprices(arm->stopper, arm->options[2]))
        return 0;
    return arm->pricing.price > 0 ? arm->pricing.price : arm->stopper->reprice(arm->options[2], 0, 1);
}

int price_apply(struct core *core, const struct fact_price *f)
{
    if (f->arm >= core->arms_len || !isfinite(f->price) || f->price <= 0 || !isfinite(f->spent) || f->spent < 0)
        return ERR_CORRUPT;
    struct arm *arm = &core->arms[f->arm];
    if (f->decided > arm->prompts || !stopper_reprices(arm->stopper, arm->options[2]))
        return ERR_CORRUPT;
    arm->pricing = (struct pricing){f->price, f->spent, f->decided};
    return 0;
}

/* How many rollouts the stopper can still use has changed, which only counts where some are in flight. */
void react_price(struct core *core, struct arm *arm)
{
    for (uint32_t p = 0; p < arm->prompts; p++)
        if (arm->cells[p].decided == DECIDED_NOT && arm->cells[p].opened > arm->cells[p].delivered)
            cell_touch(core, arm, p);
}

/* How fast the period spent, over how fast would last. */
static double rate_of(const struct arm *arm, double spent, double decided)
{
    const struct pricing *since = &arm->pricing;
    double lasting = (1 - since->spent) * decided / ((double)arm->prompts - since->decided);
    return lasting > 0 ? spent / lasting : INFINITY;
}

static void price_set(struct core *core, const struct arm *arm, double price)
{
    emit(core,
         &(struct fact){.type = FACT_price,
                        .price = {.arm = arm->id, .price = price, .spent = arm_spent(arm), .decided = arm->decided}});
}

void price_again(struct core *core, struct arm *arm)
{
    const struct pricing *since = &arm->pricing;
    if (since->price > 0 && (arm_spent(arm) < since->spent || arm->decided < since->decided))
        price_set(core, arm, since->price);
}

void price_follow(struct core *core, struct arm *arm)
{
    if (!stopper_reprices(arm->stopper, arm->options[2]) || arm->decided == arm->prompts)
        return;
    const struct pricing *since = &arm->pricing;
    double spent = arm_spent(arm) - since->spent, decided = (double)arm->decided - since->decided;
    if (spent < PERIOD && decided < PERIOD * arm->prompts)
        return;
    price_set(core, arm, arm->stopper->reprice(arm->options[2], since->price, rate_of(arm, spent, decided)));
}
