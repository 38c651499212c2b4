/* ledger.c - amounts, reservations, caps (spent + reserved <= budget in every committed state).
 *
 * Whole numbers only: tokens, milliseconds, millionths of the price unit. So sums are exact in any order. */
#include "broker/core/core_int.h"

void amounts_add(struct amounts *to, const struct amounts *by)
{
    to->rollouts += by->rollouts;
    to->tokens += by->tokens;
    to->slot_ms += by->slot_ms;
    to->cost += by->cost;
}

static uint64_t take(struct core *core, uint64_t from, uint64_t by)
{
    core->damaged = core->damaged || by > from;
    return from - by;
}

void amounts_times(struct amounts *amounts, uint64_t factor)
{
    amounts->rollouts *= factor;
    amounts->tokens *= factor;
    amounts->slot_ms *= factor;
    amounts->cost *= factor;
}

void amounts_sub(struct core *core, struct amounts *from, const struct amounts *by)
{
    from->rollouts = take(core, from->rollouts, by->rollouts);
    from->tokens = take(core, from->tokens, by->tokens);
    from->slot_ms = take(core, from->slot_ms, by->slot_ms);
    from->cost = take(core, from->cost, by->cost);
}

static bool fits(uint64_t cap, uint64_t used, uint64_t more)
{
    return cap == 0 || more == 0 || (used <= cap && more <= cap - used);
}

bool amounts_fit(const struct amounts *caps, const struct amounts *used, const struct amounts *more)
{
    return fits(caps->rollouts, used->rollouts, more->rollouts) && fits(caps->tokens, used->tokens, more->tokens) &&
           fits(caps->slot_ms, used->slot_ms, more->slot_ms) && fits(caps->cost, used->cost, more->cost);
}

/* Price of tokens: prices are millionths per million tokens; rounded up so that a reservation covers its parts. */
static uint64_t price(const struct model *model, uint64_t in, uint64_t out)
{
    __extension__ typedef unsigned __int128 wide; /* a million tokens at a high price need more than 64 bits */
    wide sum = (wide)in * model->price_in + (wide)out * model->price_out + 999999;
    return (uint64_t)(sum / 1000000);
}

struct amounts reserve_generate(const struct core *core, uint32_t pool_id, uint32_t prompt, enum charge charge,
                                uint32_t most)
{
    const struct pool *pool = &core->pools[pool_id];
    const struct model *model = &core->models[pool->model];
    /* A token is at least one byte, so the prompt's bytes bound its tokens. Only a child of the prompt pays for it. */
    bool reads = charge == CHARGE_PROMPT;
    uint64_t in = reads ? core->sets[pool->set].prompts[prompt].bytes + (uint64_t)model->template_tokens : 0;
    return (struct amounts){
        .rollouts = charge != CHARGE_STEP,
        .tokens = in + most,
        .slot_ms = model->timeout_ms,
        .cost = price(model, in, most),
    };
}

struct amounts reserve_verify(const struct core *core, uint32_t verifier)
{
    return (struct amounts){.slot_ms = core->verifiers[verifier].timeout_ms, .cost = core->verifiers[verifier].price};
}

struct amounts cost_generate(const struct core *core, uint32_t model, enum charge charge, uint32_t tokens_in,
                             uint32_t tokens_out, uint32_t latency_ms)
{
    uint64_t in = charge == CHARGE_PROMPT ? tokens_in : 0;
    return (struct amounts){.rollouts = charge != CHARGE_STEP,
                            .tokens = in + tokens_out,
                            .slot_ms = latency_ms,
                            .cost = price(&core->models[model], in, tokens_out)};
}

/* A recorded pool that has no such rollout generated nothing. */
struct amounts cost_row(const struct core *core, uint32_t model, enum charge charge, const struct row *row)
{
    if (row->finish == FINISH_EXHAUSTED)
        return (struct amounts){0};
    return cost_generate(core, model, charge, row->tokens_in, row->tokens_out, row->latency_ms);
}

struct amounts cost_verify(const struct core *core, uint32_t verifier, uint32_t latency_ms)
{
    return (struct amounts){.slot_ms = latency_ms, .cost = core->verifiers[verifier].price};
}

struct amounts sweep_burned(const struct sweep *sweep)
{
    struct amounts burned = sweep->accepted;
    for (int w = 0; w < WASTES; w++)
        amounts_add(&burned, &sweep->waste[w]);
    return burned;
}

bool sweep_affords(const struct sweep *sweep, const struct amounts *more)
{
    struct amounts used = sweep->count_accepted ? sweep->accepted : sweep_burned(sweep);
    amounts_add(&used, &sweep->reserved);
    return amounts_fit(&sweep->caps, &used, more);
}

bool core_budget_ok(const struct core *core)
{
    for (uint32_t i = 0; i < core->sweeps_len; i++) {
        const struct sweep *sweep = &core->sweeps[i];
        struct amounts used = sweep->count_accepted ? sweep->accepted : sweep_burned(sweep);
        const struct amounts *caps = &sweep->caps, *over = &sweep->overrun;
        amounts_add(&used, &sweep->reserved);
        if ((caps->rollouts > 0 && used.rollouts > caps->rollouts + over->rollouts) ||
            (caps->tokens > 0 && used.tokens > caps->tokens + over->tokens) ||
            (caps->slot_ms > 0 && used.slot_ms > caps->slot_ms + over->slot_ms) ||
            (caps->cost > 0 && used.cost > caps->cost + over->cost))
            return false;
    }
    return true;
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
    struct sweep *sweep = &core->sweeps[arm->sweep];
    struct amounts promised = reserve_verify(core, arm->verifier);
    amounts_sub(core, &sweep->reserved, &promised);
    sweep->broke = false;
    row->flags &= (uint8_t)~ROW_PROMISED;
}

/* Not once the sweep is over, nor when every arm of it that names this verifier has decided the prompt. */
bool promise_useful(const struct core *core, const struct arm *payer, uint32_t owner, uint32_t prompt)
{
    uint8_t state = core->sweeps[payer->sweep].state;
    if (payer->verifier == NO_ID || state == SWEEP_DONE || state == SWEEP_CANCELLED)
        return false;
    if (payer->trees > 0)
        return true;
    const struct pool *pool = &core->pools[owner];
    for (uint32_t i = 0; i < pool->arms_len; i++) {
        const struct arm *arm = &core->arms[pool->arms[i]];
        if (arm->trees == 0 && arm->sweep == payer->sweep && arm->verifier == payer->verifier &&
            arm->cells[prompt].decided == DECIDED_NOT)
            return true;
    }
    return false;
}
