/* policies.c - the four tables of policies and how a sweep file's names find them.
 *
 * Adding a policy touches its own file, its line here, and a test. Positions are never stored. */
#include "broker/policy/policy.h"

#include <math.h>
#include <string.h>

const struct strategy *const strategies[] = {
    &strategy_sample,    &strategy_dvts, &strategy_zip_rc, &strategy_budget_forcing, &strategy_revise,
    &strategy_particles, NULL,
};

const struct allocator *const allocators[] = {
    &allocate_uniform,
    &allocate_elimination,
    &allocate_bins,
    &allocate_existing,
    &allocate_flip,
    &allocate_blend,
    &allocate_marginal_gain,
    &allocate_expected_improvement,
    NULL,
};

const struct stopper *const stoppers[] = {
    &stop_none,      &stop_beta,     &stop_curtail,    &stop_esc,   &stop_ppr,
    &stop_dirichlet, &stop_optscale, &stop_saturation, &stop_flaws, &stop_deepconf,
    &stop_value,     &stop_cascade,  &stop_route,      &stop_agree, NULL,
};

const struct selector *const selectors[] = {
    &select_majority,
    &select_weighted,
    &select_best,
    &select_best_logprob,
    &select_first_pass,
    &select_window,
    &select_best_of_majority,
    &select_borda,
    &select_deepconf,
    &select_intrinsic,
    &select_laser,
    &select_implicit_prm,
    &select_soft_best,
    &select_pessimistic,
    &select_shortest_correct,
    &select_markers,
    &select_rpc,
    &select_latent,
    &select_log_odds,
    &select_foreseen,
    &select_two_stage,
    &select_last_model,
    &select_free_energy,
    &select_standard_score,
    NULL,
};

double policies_confidence_most(const struct selector *selector, const double *options, const char **what)
{
    static const struct {
        const char *what;
        double most;
    } ranges[] = {
        [CONFIDENCE_SHARE] = {"a share, from 0 to 1", 1},
        [CONFIDENCE_BELOW0] = {"a log-probability or minus an entropy, at most 0", 0},
        [CONFIDENCE_SCORE] = {"a score, any number", INFINITY},
    };
    enum confidence kind = selector->may_vote && options[0] > 0 ? CONFIDENCE_SHARE : selector->confidence;
    *what = ranges[kind].what;
    return ranges[kind].most;
}

void policies_select(const struct selector *selector, const struct answering *answering, const struct prompt_view *view,
                     struct ranking *out)
{
    *out = (struct ranking){.winner = NO_ORDINAL};
    if (view->stats->delivered == 0)
        return;
    selector->select(view, out);
    if (answering->abstains && out->confidence < answering->abstain)
        out->winner = NO_ORDINAL;
}

static bool alike(const struct item *a, const struct item *b)
{
    return a->class != 0 ? a->class == b->class : a->ordinal == b->ordinal;
}

/* Those whose answer is another one than the winner's. */
static void stats_others(const struct stats *stats, uint32_t winner, struct stats *others)
{
    const struct item *chosen = stats_item(stats, winner);
    stats_init(others, stats->keeps);
    for (uint32_t i = 0; i < stats->delivered; i++)
        if (!alike(chosen, &stats->items[i]))
            stats_fold(others, &stats->items[i]);
}

uint32_t policies_select_top(const struct selector *selector, const struct answering *answering,
                             const struct prompt_view *view, uint32_t *winners)
{
    struct ranking ranking;
    struct stats left[2]; /* the last two sets, one made from the other */
    struct prompt_view rest = *view;
    uint32_t len = 0;
    policies_select(selector, answering, view, &ranking);
    while (ranking.winner != NO_ORDINAL) {
        winners[len++] = ranking.winner;
        if (len >= answering->top)
            break;
        stats_others(rest.stats, ranking.winner, &left[len % 2]);
        if (len > 1)
            stats_clear(&left[(len - 1) % 2]);
        rest.stats = &left[len % 2];
        policies_select(selector, &(struct answering){0}, &rest, &ranking);
    }
    if (rest.stats != view->stats)
        stats_clear(&left[rest.stats - left]);
    return len;
}

bool policies_read_items(const struct allocator *allocator, const struct stopper *stopper,
                         const struct selector *selector)
{
    return allocator->items || stopper->items || selector->items;
}

bool stopper_reprices(const struct stopper *stopper, const double *options)
{
    return stopper->reprice != NULL && (stopper->needs_by(options) & NEED_BUDGET) != 0;
}

struct belief view_belief(const struct prompt_view *view, int a, int b)
{
    return view->prior.a > 0 ? view->prior : (struct belief){view->options[a], view->options[b]};
}

const struct strategy *strategy_find(const char *name)
{
    for (size_t i = 0; strategies[i]; i++)
        if (strcmp(strategies[i]->name, name) == 0)
            return strategies[i];
    return NULL;
}

const struct allocator *allocator_find(const char *name)
{
    for (size_t i = 0; allocators[i]; i++)
        if (strcmp(allocators[i]->name, name) == 0)
            return allocators[i];
    return NULL;
}

const struct stopper *stopper_find(const char *name)
{
    for (size_t i = 0; stoppers[i]; i++)
        if (strcmp(stoppers[i]->name, name) == 0)
            return stoppers[i];
    return NULL;
}

const struct selector *selector_find(const char *name)
{
    for (size_t i = 0; selectors[i]; i++)
        if (strcmp(selectors[i]->name, name) == 0)
            return selectors[i];
    return NULL;
}
