/* bin.c - arms of one bin of difficulty: a prompt becomes theirs when a pilot, or a prior, has told how hard it is.
 *
 * An arm of bins (Snell et al. 2024, section 3) is several arms here: a pilot that samples a few rollouts of every prompt,
 * and one arm for each bin, with a strategy, an n and a selector of its own. All wait for the pilot's decision about a
 * prompt. Then one of them opens it, and the others decide at once that it is elsewhere: nothing opened, nothing charged.
 * The bin is a function of the pilot's delivered prefix, so it is the same on any fleet; it stays for good, as a pilot is
 * never opened again. What the pilot paid for is not charged once more to an arm of a bin that draws from its pool. */
#include "broker/core/core_int.h"

#include <stdlib.h>
#include <string.h>

static bool same(struct slice slice, const char *text)
{
    return slice.len == strlen(text) && (slice.len == 0 || memcmp(slice.data, text, slice.len) == 0);
}

/* A budget of one bin could end where the others go on, so there is none. */
bool bin_valid(const struct fact_arm *f, const struct arm *arm)
{
    bool capped = f->rollouts > 0 || f->tokens > 0 || f->slot_ms > 0 || f->cost > 0;
    if (f->of.len == 0)
        return f->bin == 0;
    if (f->of.len > LIMIT_NAME || f->by > BY_PRIOR || capped || arm->allocator->spent)
        return false;
    if (f->bin == 0)
        return arm->strategy->trees == NULL && arm->schedule.legs == 1 && arm->stopper == &stop_none &&
               (arm->allocator == &allocate_uniform || arm->allocator->existing);
    return f->above < f->up_to && (f->by != BY_PRIOR || f->prior.len > 0);
}

bool bin_same(const struct fact_arm *f, const struct arm *arm)
{
    const struct bin *bin = &arm->bin;
    return same(f->of, bin->of) && f->bin == bin->number && f->by == (uint8_t)bin->by && f->above == bin->above &&
           f->up_to == bin->up_to && (!bin_is_pilot(arm) || f->n == arm->n);
}

int bin_join(const struct core *core, const struct fact_arm *f, struct arm *arm)
{
    const struct sweep *sweep = &core->sweeps[arm->sweep];
    arm->bin =
        (struct bin){.number = f->bin, .by = (enum bins_by)f->by, .above = f->above, .up_to = f->up_to, .pilot = NO_ID};
    bool needs = f->bin > 0 && f->by != BY_PRIOR;
    for (uint32_t i = 0; needs && i < sweep->arms_len; i++) {
        const struct arm *other = &core->arms[sweep->arms[i]];
        if (bin_is_pilot(other) && same(f->of, other->bin.of))
            arm->bin.pilot = other->id;
    }
    if (needs && arm->bin.pilot == NO_ID)
        return ERR_CORRUPT;
    arm->bin.of = xalloc(f->of.len + 1);
    if (f->of.len > 0)
        memcpy(arm->bin.of, f->of.data, f->of.len);
    return 0;
}

bool bin_is_pilot(const struct arm *arm)
{
    return arm->bin.number == 0 && arm->bin.of[0] != '\0';
}

bool bin_waits(const struct core *core, const struct arm *arm, uint32_t prompt)
{
    if (arm->bin.number == 0)
        return false;
    if (arm->bin.pilot == NO_ID)
        return arm->beliefs_len < arm->prompts;
    return core->arms[arm->bin.pilot].cells[prompt].decided == DECIDED_NOT;
}

static double value_of(const struct core *core, const struct arm *arm, uint32_t prompt)
{
    if (arm->bin.pilot == NO_ID) {
        struct belief belief = arm_belief(arm, prompt);
        return belief.a / (belief.a + belief.b);
    }
    const struct arm *pilot = &core->arms[arm->bin.pilot];
    uint32_t len = pilot->cells[prompt].stop;
    struct item *items = xalloc((len + (size_t)1) * sizeof *items);
    for (uint32_t k = 0; k < len; k++)
        items[k] = cell_item(core, pilot, prompt, k);
    double value = bins_value(arm->bin.by, items, len);
    free(items);
    return value;
}

static void place(struct core *core, struct arm *arm, uint32_t prompt)
{
    const struct cell *cell = &arm->cells[prompt];
    if (cell->decided != DECIDED_NOT || cell->opened > 0 || bin_waits(core, arm, prompt))
        return;
    double value = value_of(core, arm, prompt);
    if (value > arm->bin.above && value <= arm->bin.up_to)
        cell_touch(core, arm, prompt);
    else
        cell_decide(core, arm, prompt, DECIDED_ELSEWHERE);
}

void bin_place(struct core *core, struct arm *arm)
{
    for (uint32_t p = 0; arm->bin.number > 0 && p < arm->prompts; p++)
        place(core, arm, p);
}

/* An arm without a heap is placed when it gets one. */
void bin_tell(struct core *core, const struct arm *pilot, uint32_t prompt)
{
    const struct sweep *sweep = &core->sweeps[pilot->sweep];
    for (uint32_t i = 0; bin_is_pilot(pilot) && i < sweep->arms_len; i++) {
        struct arm *arm = &core->arms[sweep->arms[i]];
        if (arm->bin.number == 0 || arm->bin.pilot != pilot->id || arm->heap == NULL)
            continue;
        place(core, arm, prompt);
        arm_advance(core, arm);
    }
}

bool bin_paid(const struct core *core, const struct arm *arm, const struct key *key, bool *verdict)
{
    *verdict = false;
    if (arm->bin.pilot == NO_ID || arm->trees > 0)
        return false;
    const struct arm *pilot = &core->arms[arm->bin.pilot];
    if (arm_position(pilot, key->owner, key->item) >= pilot->cells[key->prompt].stop)
        return false;
    *verdict = pilot->verifier == arm->verifier;
    return true;
}
