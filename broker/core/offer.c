/* offer.c - do connected workers offer what the work of a pool needs: its model, a context that is long enough, features?
 *
 * Workers say with HELLO what their servers offer. That is volatile, as the fleet is, and no fact speaks of it: it only
 * decides who is asked, and what is refused at submit because nobody here could do it. */
#include "broker/core/core_int.h"
#include "broker/core/text_table.h"

#include <stdlib.h>
#include <string.h>

/* How far an agent's best offer goes. */
enum fit { FIT_NONE, FIT_MODEL, FIT_CONTEXT, FIT_ALL };

const char *feature_text(int feature)
{
    static const char *const names[FEATURES] = {
#define X(name, value, text, help) [name] = text,
        FEATURE_TABLE(X)
#undef X
    };
    return names[feature];
}

/* No tokenizer makes tokens of more bytes than this from a whole prompt: a shorter context cannot be enough. */
enum { TOKEN_BYTES = 8 };

uint32_t context_needed(uint32_t prompt_bytes, uint32_t max_tokens)
{
    uint64_t tokens = (uint64_t)prompt_bytes / TOKEN_BYTES + max_tokens;
    return tokens < UINT32_MAX ? (uint32_t)tokens : UINT32_MAX;
}

uint32_t features_needed(const struct arm *arm)
{
    const struct selector *selector = arm->selector;
    uint32_t wants = selector->wants == NULL ? 0 : selector->wants(arm->options[3]);
    return arm->strategy->features | arm->allocator->features | arm->stopper->features | selector->features | wants;
}

static bool names(struct slice model, const struct server_offer *offer)
{
    bool any = model.len == 1 && model.data[0] == '*';
    return any || (model.len == offer->model.len && memcmp(model.data, offer->model.data, model.len) == 0);
}

static enum fit offer_fit(const struct server_offer *offer, const struct demand *demand)
{
    if (!names(demand->model, offer))
        return FIT_NONE;
    if (offer->context > 0 && offer->context < demand->context)
        return FIT_MODEL;
    return (offer->features & demand->features) == demand->features ? FIT_ALL : FIT_CONTEXT;
}

/* An agent that offers nothing was not asked: it refuses what it cannot serve. */
static enum fit agent_fit(const struct agent *agent, const struct demand *demand, const struct server_offer **best)
{
    enum fit fit = FIT_NONE;
    *best = NULL;
    if (demand->model.len == 0 || agent->offers_len == 0)
        return FIT_ALL;
    for (uint32_t i = 0; i < agent->offers_len; i++) {
        enum fit one = offer_fit(&agent->offers[i], demand);
        if (*best != NULL && one <= fit)
            continue;
        fit = one;
        *best = &agent->offers[i];
    }
    return fit;
}

struct demand pool_demand(const struct core *core, uint32_t id)
{
    const struct pool *pool = &core->pools[id];
    const struct model *model = &core->models[pool->model];
    return (struct demand){model->kind, slice_of(model->offer), pool->features, pool->context};
}

bool agent_offers(const struct core *core, const struct agent *agent, uint32_t pool)
{
    const struct server_offer *best;
    if (agent->offers_len == 0)
        return true;
    struct demand demand = pool_demand(core, pool);
    return agent_fit(agent, &demand, &best) == FIT_ALL;
}

/* -- what is missing ------------------------------------------------------------------------------------------------ */

/* The best that connected workers of the backend offer; FIT_ALL when there are none. */
static enum fit fleet_fit(const struct core *core, const struct demand *demand, const struct server_offer **best)
{
    enum fit fit = FIT_NONE;
    bool any = false;
    *best = NULL;
    for (const struct agent *agent = core->fleet; agent != NULL; agent = agent->next) {
        if (agent->verifier || demand->kind < 0 || (agent->kinds >> demand->kind & 1) == 0)
            continue;
        const struct server_offer *offer;
        enum fit one = agent_fit(agent, demand, &offer);
        if (any && one <= fit)
            continue;
        any = true;
        fit = one;
        *best = offer;
    }
    return any ? fit : FIT_ALL;
}

static void say_models(const struct core *core, struct buf *out)
{
    enum { MOST = 8 };
    const struct server_offer *said[MOST];
    int len = 0;
    for (const struct agent *agent = core->fleet; agent != NULL; agent = agent->next)
        for (uint32_t i = 0; i < agent->offers_len && len < MOST; i++) {
            bool again = false;
            for (int k = 0; k < len; k++)
                again = again || names(said[k]->model, &agent->offers[i]);
            if (again)
                continue;
            buf_printf(out, "%s%.*s", len > 0 ? ", " : "", (int)agent->offers[i].model.len,
                       agent->offers[i].model.data);
            said[len++] = &agent->offers[i];
        }
}

static void say_features(uint32_t missing, struct buf *out)
{
    const char *comma = "";
    for (int i = 0; i < FEATURES; i++) {
        if ((missing & 1u << i) == 0)
            continue;
        buf_printf(out, "%s%s", comma, feature_text(i));
        comma = ", ";
    }
}

/* What the best offer lacks, and in whose server. */
static void say_lack(enum fit fit, const struct demand *demand, const struct server_offer *best, struct buf *out)
{
    const struct slice *model = &best->model, *server = &best->server;
    if (fit == FIT_MODEL) {
        buf_printf(out,
                   "prompt and max_tokens need a context of %u tokens at the least, and the longest that a connected "
                   "worker offers for model '%.*s' has %u (%.*s): lower max_tokens, or start the server with more",
                   demand->context, (int)model->len, model->data, best->context, (int)server->len, server->data);
        return;
    }
    say_features(demand->features & ~best->features, out);
    buf_printf(out, " is needed, which no connected worker gives for model '%.*s' (%.*s)", (int)model->len, model->data,
               (int)server->len, server->data);
}

static const char *who_needs(const struct core *core, const struct pool *pool)
{
    for (uint32_t i = 0; i < pool->arms_len; i++)
        if (features_needed(&core->arms[pool->arms[i]]) != 0)
            return core->arms[pool->arms[i]].name;
    return "";
}

bool offers_lack(const struct core *core, uint32_t pool, struct buf *out)
{
    const struct server_offer *best;
    struct demand demand = pool_demand(core, pool);
    enum fit fit = fleet_fit(core, &demand, &best);
    if (fit == FIT_ALL)
        return false;
    if (fit == FIT_NONE) {
        buf_printf(out, "no connected worker offers model '%s'; they offer ",
                   core->models[core->pools[pool].model].offer);
        say_models(core, out);
        return true;
    }
    if (fit == FIT_CONTEXT)
        buf_printf(out, "arm '%s': ", who_needs(core, &core->pools[pool]));
    say_lack(fit, &demand, best, out);
    return true;
}

int offers_check(const struct core *core, const struct demand *demand, struct slice arm, struct error *error)
{
    const struct server_offer *best;
    enum fit fit = fleet_fit(core, demand, &best);
    if (fit == FIT_ALL || fit == FIT_NONE) /* who offers the model may still come */
        return 0;
    struct buf why = {0};
    say_lack(fit, demand, best, &why);
    int rc = error_set(error, ERR_REFUSED, "arm '%.*s': %s", (int)(arm.len < 64 ? arm.len : 64), arm.data, why.data);
    buf_clear(&why);
    return rc;
}

/* -- what agents say ------------------------------------------------------------------------------------------------ */

void offers_clear(struct agent *agent)
{
    for (uint32_t i = 0; i < agent->offers_len; i++) {
        free((char *)agent->offers[i].model.data);
        free((char *)agent->offers[i].server.data);
    }
    free(agent->offers);
    free(agent->devices);
    agent->offers = NULL;
    agent->devices = NULL;
    agent->offers_len = 0;
}

/* Names from outside end up on terminals. */
static struct slice plain(struct slice text)
{
    struct buf out = {0};
    text_plain(text, &out);
    buf_puts(&out, "");
    return buf_slice(&out);
}

static uint64_t more(uint64_t hash, const void *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * 0x100000001b3u; /* FNV-1a */
    return hash;
}

void offers_take(struct agent *agent, const struct event *event)
{
    offers_clear(agent);
    agent->devices = (char *)plain(event->hello.devices).data;
    agent->alike = more(0xcbf29ce484222325u, &agent->kinds, sizeof agent->kinds);
    agent->offers = xalloc(event->hello.offers_len * sizeof *agent->offers);
    for (size_t i = 0; i < event->hello.offers_len; i++) {
        const struct server_offer *told = &event->hello.offers[i];
        struct server_offer *offer = &agent->offers[agent->offers_len++];
        *offer = (struct server_offer){plain(told->model), plain(told->server), told->context, told->features};
        agent->alike = more(agent->alike, offer->model.data, offer->model.len + 1);
        agent->alike = more(agent->alike, &offer->context, sizeof offer->context);
        agent->alike = more(agent->alike, &offer->features, sizeof offer->features);
    }
}
