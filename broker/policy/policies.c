/* policies.c - the four tables of policies and how a sweep file's names find them.
 *
 * Adding a policy touches its own file, its line here, and a test. Positions are never stored. */
#include "broker/policy/policy.h"

#include <string.h>

const struct strategy *const strategies[] = {
    &strategy_sample,
    &strategy_dvts,
    &strategy_particles,
    NULL,
};

const struct allocator *const allocators[] = {
    &allocate_uniform,
    &allocate_elimination,
    &allocate_existing,
    &allocate_flip,
    &allocate_blend,
    &allocate_marginal_gain,
    &allocate_expected_improvement,
    NULL,
};

const struct stopper *const stoppers[] = {
    &stop_none,     &stop_beta,       &stop_curtail, &stop_esc,      &stop_ppr,   &stop_dirichlet,
    &stop_optscale, &stop_saturation, &stop_flaws,   &stop_deepconf, &stop_value, NULL,
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
    NULL,
};

bool policies_read_items(const struct allocator *allocator, const struct stopper *stopper,
                         const struct selector *selector)
{
    return allocator->items || stopper->items || selector->items;
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
