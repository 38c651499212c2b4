/* arm_text.c - see arm_text.h. */
#include "broker/arm_text.h"

#include <string.h>

static void put_value(const struct option_row *row, double value, struct buf *out)
{
    if (row->type == OPTION_BOOL) {
        buf_puts(out, value != 0 ? "true" : "false");
    } else if (row->type == OPTION_CHOICE) {
        const char *word = row->choices;
        for (double i = 0; i < value && strchr(word, '|') != NULL; i++)
            word = strchr(word, '|') + 1;
        buf_put(out, word, strcspn(word, "|"));
    } else {
        buf_printf(out, "%.10g", value);
    }
}

/* `beta`, or `{beta: {threshold: 0.9}}`; nothing for the default. */
static void put_policy(const char *key, const char *name, const char *fallback, const struct option_row *rows,
                       const double *values, struct buf *out)
{
    struct buf options = {0};
    for (int i = 0; rows != NULL && rows[i].name != NULL; i++) {
        if (values[i] == rows[i].fallback)
            continue;
        buf_printf(&options, "%s%s: ", options.len > 0 ? ", " : "", rows[i].name);
        put_value(&rows[i], values[i], &options);
    }
    if (options.len > 0)
        buf_printf(out, ", %s: {%s: {%s}}", key, name, options.data);
    else if (strcmp(name, fallback) != 0)
        buf_printf(out, ", %s: %s", key, name);
    buf_clear(&options);
}

static const char *model_of(const struct core *core, uint32_t pool)
{
    return core_model(core, core_pool(core, pool).model).name;
}

static void put_models(const struct core *core, const struct arm_info *arm, uint32_t pool, struct buf *out)
{
    const struct schedule *schedule = arm->schedule;
    if (schedule->legs == 1 && strcmp(model_of(core, arm->pools[0]), model_of(core, pool)) != 0)
        buf_printf(out, ", model: %s", model_of(core, arm->pools[0]));
    if (schedule->legs == 1)
        return;
    buf_puts(out, ", models: [");
    for (uint32_t leg = 0; leg < schedule->legs; leg++) {
        bool last = !schedule->rounds && leg + 1 == schedule->legs; /* block: it has what is left of n */
        uint32_t n = last ? schedule_reach(schedule, leg, arm->n) : schedule->len[leg];
        buf_printf(out, "%s{model: %s, n: %u}", leg > 0 ? ", " : "", model_of(core, arm->pools[leg]), n);
    }
    buf_printf(out, "], schedule: %s", schedule->rounds ? "rounds" : "blocks");
}

bool arm_text_can(const struct core *core, uint32_t id)
{
    struct arm_info arm = core_arm(core, id);
    return arm.prior[0] == '\0' && arm.caps.rollouts == 0 && arm.caps.tokens == 0 && arm.caps.slot_ms == 0 &&
           arm.caps.cost == 0;
}

void arm_text(const struct core *core, uint32_t id, const struct arm_context *context, struct buf *out)
{
    struct arm_info arm = core_arm(core, id);
    buf_printf(out, "n: %u", arm.n);
    put_models(core, &arm, context->pool, out);
    put_policy("strategy", arm.strategy->name, "sample", arm.strategy->options, arm.options[0], out);
    put_policy("allocate", arm.allocator->name, "uniform", arm.allocator->options, arm.options[1], out);
    put_policy("stop", arm.stopper->name, "none", arm.stopper->options, arm.options[2], out);
    put_policy("select", arm.selector->name, "majority", arm.selector->options, arm.options[3], out);
    if (arm.verifier == NO_ID && context->verifier != NO_ID)
        buf_puts(out, ", verifier: null");
    else if (arm.verifier != context->verifier)
        buf_printf(out, ", verifier: %s", core_verifier(core, arm.verifier).name);
    if (arm.answering.abstains)
        buf_printf(out, ", abstain: %.10g", arm.answering.abstain);
    if (arm.answering.top > 1)
        buf_printf(out, ", top: %u", arm.answering.top);
}
