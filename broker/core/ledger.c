/* ledger.c - amounts, reservations, caps (DESIGN: spent + reserved <= budget in every committed state).
 *
 * Whole numbers only: tokens, milliseconds, millionths of the price unit. So sums are exact in any order. */
#include "broker/core/core_int.h"

#include <assert.h>

void amounts_add(struct amounts *to, const struct amounts *by)
{
    to->rollouts += by->rollouts;
    to->tokens += by->tokens;
    to->slot_ms += by->slot_ms;
    to->cost += by->cost;
}

void amounts_sub(struct amounts *from, const struct amounts *by)
{
    assert(from->rollouts >= by->rollouts);
    assert(from->tokens >= by->tokens);
    assert(from->slot_ms >= by->slot_ms);
    assert(from->cost >= by->cost);
    from->rollouts -= by->rollouts;
    from->tokens -= by->tokens;
    from->slot_ms -= by->slot_ms;
    from->cost -= by->cost;
}

static bool fits(uint64_t cap, uint64_t used, uint64_t more)
{
    return cap == 0 || more == 0 || (used <= cap && more <= cap - used);
}

bool amounts_fit(const struct amounts *caps, const struct amounts *used, const struct amounts *more)
{
    return fits(caps->rollouts, used->rollouts, more->rollouts) &&
           fits(caps->tokens, used->tokens, more->tokens) &&
           fits(caps->slot_ms, used->slot_ms, more->slot_ms) &&
           fits(caps->cost, used->cost, more->cost);
}

/* Price of tokens: prices are millionths per million tokens; rounded up so that a reservation covers its parts. */
static uint64_t price(const struct model *model, uint64_t in, uint64_t out)
{
    return (in * model->price_in + out * model->price_out + 999999) / 1000000;
}

struct amounts reserve_generate(const struct core *core, const struct arm *arm, uint32_t prompt, bool root)
{
    const struct pool *pool = &core->pools[arm->pool];
    const struct model *model = &core->models[pool->model];
    /* A token is at least one byte, so the prompt's bytes bound its tokens. Only a child of the prompt pays for it. */
    uint64_t in = root ? core->sets[pool->set].prompts[prompt].bytes + (uint64_t)model->template_tokens : 0;
    return (struct amounts){
        .rollouts = root ? 1 : 0,
        .tokens = in + model->max_tokens,
        .slot_ms = model->timeout_ms,
        .cost = price(model, in, model->max_tokens),
    };
}

struct amounts reserve_verify(const struct core *core, uint32_t verifier)
{
    return (struct amounts){.slot_ms = core->verifiers[verifier].timeout_ms,
                            .cost = core->verifiers[verifier].price};
}

struct amounts cost_generate(const struct core *core, uint32_t model, bool root, uint32_t tokens_in,
                             uint32_t tokens_out, uint32_t latency_ms)
{
    uint64_t in = root ? tokens_in : 0;
    return (struct amounts){.rollouts = root ? 1 : 0,
                            .tokens = in + tokens_out,
                            .slot_ms = latency_ms,
                            .cost = price(&core->models[model], in, tokens_out)};
}

struct amounts cost_verify(const struct core *core, uint32_t verifier, uint32_t latency_ms)
{
    return (struct amounts){.slot_ms = latency_ms, .cost = core->verifiers[verifier].price};
}

bool sweep_affords(const struct sweep *sweep, const struct amounts *more)
{
    struct amounts used = sweep->count_accepted ? sweep->accepted : sweep->burned;
    amounts_add(&used, &sweep->reserved);
    return amounts_fit(&sweep->caps, &used, more);
}

bool arm_affords(const struct arm *arm, const struct amounts *more)
{
    struct amounts used = arm->charged;
    amounts_add(&used, &arm->reserved);
    return amounts_fit(&arm->caps, &used, more);
}

/* A generation for a verifying arm reserves its first verdict too, so that no rollout is left unverified for want of
 * budget. The row carries that promise until a verify lease takes it over. */
void promise_release(struct core *core, struct row *row)
{
    if ((row->flags & ROW_PROMISED) == 0)
        return;
    const struct arm *arm = &core->arms[row->payer];
    struct amounts promised = reserve_verify(core, arm->verifier);
    amounts_sub(&core->sweeps[arm->sweep].reserved, &promised);
    row->flags &= (uint8_t)~ROW_PROMISED;
}
