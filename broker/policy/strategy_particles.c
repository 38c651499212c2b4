/* strategy_particles.c - particle filtering over steps: one tree of n particles.
 *
 * Puri et al. 2025, "A probabilistic inference approach to inference-time scaling of LLMs using
 * particle-based Monte Carlo methods", algorithm 1: prior = the model, likelihood of "good so far"
 * = the score r of the prefix. Two departures, both with fewer duplicates: resampling is
 * systematic, and it waits until the effective sample size falls below ess * n, carrying
 * log-weights until then. ess = 1 and resample = multinomial is the paper's form.
 *
 * After the last step nothing is resampled: the rollouts are the n end nodes as they stand, and the
 * record holds their weights. */
#include "broker/policy/particles.h"
#include "broker/policy/kernel.h"
#include "broker/policy/policy.h"
#include "common/limits.h"
#include "common/rng.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define SCORE_EPS 1e-7

enum { OPT_WEIGHT, OPT_RESAMPLE, OPT_ESS, OPT_TAU, OPT_MAX_STEPS };
enum { WEIGHT_ODDS, WEIGHT_RATIO, WEIGHT_R };
enum { RESAMPLE_SYSTEMATIC, RESAMPLE_MULTINOMIAL };

static const struct option_row options[] = {
    [OPT_WEIGHT] = {.name = "weight",
                    .type = OPTION_CHOICE,
                    .min = 0,
                    .max = 2,
                    .fallback = WEIGHT_ODDS,
                    .choices = "odds|ratio|r",
                    .help = "weight of a step: r/(1-r), r over the previous r (for value models), or r"},
    [OPT_RESAMPLE] = {.name = "resample",
                      .type = OPTION_CHOICE,
                      .min = 0,
                      .max = 1,
                      .fallback = RESAMPLE_SYSTEMATIC,
                      .choices = "systematic|multinomial",
                      .help = "how ancestors are drawn"},
    [OPT_ESS] = {.name = "ess",
                 .type = OPTION_REAL,
                 .min = 0,
                 .max = 1,
                 .fallback = 0.5,
                 .help = "resample below this share of effective particles; 1: at every step"},
    [OPT_TAU] = {.name = "tau",
                 .type = OPTION_REAL,
                 .min = 0.01,
                 .max = 100,
                 .fallback = 1,
                 .help = "temperature of the weights"},
    [OPT_MAX_STEPS] = {.name = "max_steps",
                       .type = OPTION_INT,
                       .min = 1,
                       .max = LIMIT_TREE_DEPTH,
                       .fallback = 40,
                       .help = "most steps of a path"},
    {.name = NULL},
};

size_t particles_size(uint32_t n)
{
    return sizeof(struct particles_head) + n * (2 * sizeof(double) + sizeof(uint32_t));
}

struct particles particles_of(void *record, uint32_t n)
{
    struct particles_head *head = record;
    double *numbers = (double *)(head + 1);
    return (struct particles){
        .head = head,
        .log_weight = numbers,
        .score = numbers + n,
        .node = (uint32_t *)(numbers + 2 * (size_t)n),
    };
}

static uint32_t particles_trees(uint32_t n, const double *values)
{
    (void)values;
    return n > 0 ? 1 : 0;
}

static size_t particles_record_size(uint32_t n, const double *values)
{
    (void)values;
    return particles_size(n);
}

static bool is_live(const struct tree_view *view, uint32_t node)
{
    if (node == NO_ORDINAL)
        return true;
    return view->nodes[node].finish == FINISH_STEP && view->nodes[node].depth < (uint32_t)view->options[OPT_MAX_STEPS];
}

static uint32_t live_count(const struct tree_view *view, const struct particles *p)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i < view->n; i++)
        live += is_live(view, p->node[i]);
    return live;
}

/* The score of a step as a likelihood. One that failed or could not be judged has next to none. */
static double likelihood(const struct node_view *node)
{
    if (node->finish == FINISH_FAILED || !node->scored)
        return SCORE_EPS;
    return fmin(fmax(node->score, SCORE_EPS), 1 - SCORE_EPS);
}

/* Log of what one step multiplies a weight by. A stopped particle competes on with its final score:
 * its odds (or r) count again at every step, as in the released code; its ratio is 1, as r stays.
 */
static double log_factor(const struct tree_view *view, double r, double before)
{
    double tau = view->options[OPT_TAU];
    switch ((int)view->options[OPT_WEIGHT]) {
    case WEIGHT_RATIO:
        return log(r / before) / tau;
    case WEIGHT_R:
        return log(r) / tau;
    }
    return log(r / (1 - r)) / tau;
}

/* The newest nodes belong to the particles that were live, in slot order. */
static void fold_step(const struct tree_view *view, struct particles *p)
{
    uint32_t live = live_count(view, p);
    uint32_t next = view->nodes_len - (live < view->nodes_len ? live : view->nodes_len);
    double before = log_sum_exp(p->log_weight, view->n);
    for (uint32_t i = 0; i < view->n; i++) {
        double r = p->score[i];
        if (is_live(view, p->node[i]) && next < view->nodes_len) {
            p->node[i] = next++;
            r = likelihood(&view->nodes[p->node[i]]);
        }
        p->log_weight[i] += log_factor(view, r, p->score[i]);
        p->score[i] = r;
    }
    p->head->steps++;
    p->head->log_z += log_sum_exp(p->log_weight, view->n) - before;
}

static void draw_counts(const struct tree_view *view, struct particles *p, uint32_t *counts)
{
    uint32_t n = view->n;
    uint64_t step = p->head->steps;
    weights_normalise(p->log_weight, n);
    if ((int)view->options[OPT_RESAMPLE] == RESAMPLE_SYSTEMATIC) {
        double u = rng_unit(rng_u64(view->seed, RNG_RESAMPLE, step, 0));
        resample_systematic(p->log_weight, n, u, counts);
        return;
    }
    weights_cumulate(p->log_weight, n);
    memset(counts, 0, n * sizeof(*counts));
    for (uint32_t i = 0; i < n; i++) {
        double u = rng_unit(rng_u64(view->seed, RNG_RESAMPLE, step, i));
        counts[resample_pick(p->log_weight, n, u)]++;
    }
}

/* Every ancestor that survives keeps its slot; its further children fill the slots of those that
 * died, in order. */
static void resample(const struct tree_view *view, struct particles *p, uint32_t *counts)
{
    draw_counts(view, p, counts);
    uint32_t vacant = 0;
    for (uint32_t i = 0; i < view->n; i++) {
        for (uint32_t child = 1; child < counts[i]; child++) {
            while (counts[vacant] != 0)
                vacant++;
            assert(vacant < view->n);
            p->node[vacant] = p->node[i];
            p->score[vacant] = p->score[i];
            vacant++;
        }
    }
    for (uint32_t i = 0; i < view->n; i++)
        p->log_weight[i] = 0;
    p->head->resampled++;
}

static bool must_resample(const struct tree_view *view, const struct particles *p)
{
    double share = view->options[OPT_ESS];
    return share >= 1 || effective_size(p->log_weight, view->n) < share * view->n;
}

static void start(const struct tree_view *view, struct particles *p)
{
    *p->head = (struct particles_head){0};
    for (uint32_t i = 0; i < view->n; i++) {
        p->node[i] = NO_ORDINAL;
        p->score[i] = 1;
        p->log_weight[i] = 0;
    }
}

/* A record of a damaged journal may say anything: then of nodes and numbers that there are. */
static void repair(const struct tree_view *view, struct particles *p)
{
    for (uint32_t i = 0; i < view->n; i++) {
        if (p->node[i] != NO_ORDINAL && p->node[i] >= view->nodes_len)
            p->node[i] = view->nodes_len - 1;
        if (!isfinite(p->log_weight[i]))
            p->log_weight[i] = 0;
        if (!(p->score[i] > 0 && p->score[i] <= 1))
            p->score[i] = SCORE_EPS;
    }
}

static void particles_plan(const struct tree_view *view, struct plan *plan)
{
    assert(plan->cap >= view->n);
    plan->parents_len = plan->finals_len = 0;
    memmove(plan->record, view->record, particles_size(view->n));
    struct particles p = particles_of(plan->record, view->n);
    if (view->nodes_len == 0) {
        start(view, &p);
    } else {
        repair(view, &p);
        fold_step(view, &p);
        if (live_count(view, &p) > 0 && must_resample(view, &p))
            resample(view, &p, plan->finals); /* finals: room for n counts, still unused */
    }
    for (uint32_t i = 0; i < view->n; i++)
        if (is_live(view, p.node[i]))
            plan->parents[plan->parents_len++] = p.node[i];
    if (plan->parents_len > 0)
        return;
    memcpy(plan->finals, p.node, view->n * sizeof(*p.node));
    plan->finals_len = view->n;
}

const struct strategy strategy_particles = {
    .name = "particles",
    .help = "particle filtering: n paths grow step by step and are resampled by the verifier's score",
    .version = 1,
    .needs = NEED_VERIFIER | NEED_STEPS,
    .min_n = 1,
    .options = options,
    .trees = particles_trees,
    .record_size = particles_record_size,
    .plan = particles_plan,
};
