/* test_particles.c - particle filtering against a chain whose posterior is known exactly. */
#include "broker/policy/particles.h"
#include "broker/policy/kernel.h"
#include "broker/policy/policy.h"
#include "common/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define assert_near(a, b, eps) assert_true(fabs((a) - (b)) <= (eps))

enum { WEIGHT, RESAMPLE, ESS, TAU, MAX_STEPS };
enum { ODDS, RATIO, R };
enum { SYSTEMATIC, MULTINOMIAL };
enum { N_MAX = 64, NODES_MAX = 512 };

struct fixture {
    double values[POLICY_OPTIONS_MAX];
    struct node_view nodes[NODES_MAX];
    int states[NODES_MAX];
    uint32_t parents[N_MAX], finals[N_MAX];
    double record[N_MAX * 4], next[N_MAX * 4];
    struct tree_view view;
    struct plan plan;
};

static void fixture_init(struct fixture *f, uint32_t n, uint64_t seed)
{
    memset(f, 0, sizeof(*f));
    const struct option_row *options = strategy_particles.options;
    for (size_t i = 0; options[i].name; i++)
        f->values[i] = options[i].fallback;
    assert_int_equal(strategy_particles.trees(n, f->values), 1);
    assert_true(strategy_particles.record_size(n, f->values) <= sizeof(f->record));
    f->view = (struct tree_view){
        .trees = 1, .n = n, .nodes = f->nodes, .record = f->record, .seed = seed, .options = f->values};
    f->plan = (struct plan){.parents = f->parents, .finals = f->finals, .record = f->next, .cap = n};
}

/* Plan, and take over the new record as the core does. */
static void plan(struct fixture *f)
{
    strategy_particles.plan(&f->view, &f->plan);
    assert_true((f->plan.parents_len == 0) != (f->plan.finals_len == 0));
    memcpy(f->record, f->next, sizeof(f->record));
}

static struct particles particles(struct fixture *f)
{
    return particles_of(f->record, f->view.n);
}

static void add(struct fixture *f, uint32_t parent, enum finish finish, double score)
{
    assert_true(f->view.nodes_len < NODES_MAX);
    f->nodes[f->view.nodes_len++] = (struct node_view){
        .parent = parent,
        .depth = parent == NO_ORDINAL ? 1 : f->nodes[parent].depth + 1,
        .finish = finish,
        .scored = score >= 0,
        .score = score >= 0 ? score : .99, /* not to be read unless scored */
    };
}

/* ---- the chain: pi (.5 .5), P ((.7 .3) (.4 .6)), scores (.9 .2), four steps ---- */

#define STEPS 4

static const double start[2] = {.5, .5}, move[2][2] = {{.7, .3}, {.4, .6}}, score[2] = {.9, .2};

static void chain_step(struct fixture *f, uint64_t run)
{
    uint32_t len = f->plan.parents_len;
    for (uint32_t i = 0; i < len; i++) {
        uint32_t parent = f->parents[i], node = f->view.nodes_len;
        const double *p = parent == NO_ORDINAL ? start : move[f->states[parent]];
        int state = rng_unit(rng_u64(run, RNG_TEST, 7, node)) >= p[0];
        f->states[node] = state;
        uint32_t depth = parent == NO_ORDINAL ? 1 : f->nodes[parent].depth + 1;
        add(f, parent, depth == STEPS ? FINISH_STOP : FINISH_STEP, score[state]);
    }
}

struct moments {
    double runs, z, zz, zx, zzx, zzxx, plain;
};

/* Many runs: the estimate of the normalising constant, and of P(x4 = 0) under the final weighted
 * set. */
static struct moments run_chain(uint32_t runs, int weight, int resample, double ess)
{
    struct moments m = {.runs = runs};
    struct fixture f;
    for (uint32_t run = 0; run < runs; run++) {
        fixture_init(&f, 8, run);
        f.values[WEIGHT] = weight;
        f.values[RESAMPLE] = resample;
        f.values[ESS] = ess;
        for (plan(&f); f.plan.parents_len > 0; plan(&f))
            chain_step(&f, run);
        assert_int_equal(f.view.nodes_len, 8 * STEPS);
        struct particles p = particles(&f);
        double z = exp(p.head->log_z), x = 0;
        assert_int_equal(p.head->steps, STEPS);
        weights_normalise(p.log_weight, 8);
        for (uint32_t i = 0; i < 8; i++)
            x += f.states[f.finals[i]] == 0 ? p.log_weight[i] : 0;
        m.z += z, m.zz += z * z, m.zx += z * x, m.zzx += z * z * x, m.zzxx += z * z * x * x;
        m.plain += x;
    }
    return m;
}

/* Exact Z and P(x4 = 0) by enumeration of the 16 paths. */
static void enumerate(const double g[2], double *z, double *x)
{
    double zero = 0;
    *z = 0;
    for (int path = 0; path < 1 << STEPS; path++) {
        double mass = 1;
        for (int t = 0; t < STEPS; t++) {
            int s = path >> t & 1;
            mass *= (t == 0 ? start[s] : move[path >> (t - 1) & 1][s]) * g[s];
        }
        *z += mass;
        zero += (path >> (STEPS - 1) & 1) == 0 ? mass : 0;
    }
    *x = zero / *z;
}

static void check_moments(const struct moments *m, double z, double x)
{
    double mean = m->z / m->runs;
    double se = sqrt((m->zz / m->runs - mean * mean) / m->runs);
    assert_near(mean, z, 4 * se);
    assert_true(se < .02 * z); /* the check means something */
    double ratio = m->zx / m->z;
    double residual = (m->zzxx - 2 * ratio * m->zzx + ratio * ratio * m->zz) / m->runs;
    double ratio_se = sqrt(residual / m->runs) / mean;
    assert_near(ratio, x, 4 * ratio_se);
    assert_true(ratio_se < .01);
}

static void chain_constants(void **state)
{
    (void)state;
    const double odds[2] = {9, .25};
    double z, x;
    enumerate(score, &z, &x);
    assert_near(z, 0.16002225, 1e-10);
    assert_near(x, .90138, 5e-6);
    enumerate(odds, &z, &x);
    assert_near(z, 1173.156, 5e-4);
    assert_near(x, .98804, 5e-6);
}

static void chain_r(void **state)
{
    (void)state;
    for (int resample = SYSTEMATIC; resample <= MULTINOMIAL; resample++) {
        struct moments m = run_chain(20000, R, resample, 1);
        check_moments(&m, 0.16002225, .90138);
        assert_near(m.plain / m.runs, .885, .006); /* the plain average is biased: it must not be used */
        m = run_chain(20000, R, resample, .5);
        check_moments(&m, 0.16002225, .90138);
        m = run_chain(20000, R, resample, 0); /* never resampled: importance sampling */
        check_moments(&m, 0.16002225, .90138);
    }
}

static void chain_odds(void **state)
{
    (void)state;
    for (int resample = SYSTEMATIC; resample <= MULTINOMIAL; resample++) {
        struct moments m = run_chain(20000, ODDS, resample, 1);
        check_moments(&m, 1173.156, .98804);
        m = run_chain(20000, ODDS, resample, .5);
        check_moments(&m, 1173.156, .98804);
    }
}

/* Ratios telescope: only the last score weighs. P(x4 = 0) = .5695 before weighting. */
static void chain_ratio(void **state)
{
    (void)state;
    double p = .5;
    for (int t = 1; t < STEPS; t++)
        p = p * move[0][0] + (1 - p) * move[1][0];
    double z = p * score[0] + (1 - p) * score[1];
    for (int gate = 0; gate < 2; gate++) {
        struct moments m = run_chain(20000, RATIO, SYSTEMATIC, gate ? .5 : 1);
        check_moments(&m, z, p * score[0] / z);
    }
}

/* ---- scripted steps ---- */

static void first_step_spawns_n(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 5, 1);
    plan(&f);
    assert_int_equal(f.plan.parents_len, 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(f.parents[i], NO_ORDINAL);
}

static void scripted(struct fixture *f, uint32_t n, int weight, double ess)
{
    fixture_init(f, n, 1);
    f->values[WEIGHT] = weight;
    f->values[ESS] = ess;
    plan(f);
}

/* Slot 0 stops after one step and competes on; slot 1 goes on for a second step. */
static void stopped_particle_weight(void **state)
{
    (void)state;
    const double expected[3] = {2 * log(.8 / .2), log(.8), 2 * log(.8)};
    const double other[3] = {log(.6 / .4) + log(.7 / .3), log(.7), log(.6) + log(.7)};
    for (int weight = ODDS; weight <= R; weight++) {
        struct fixture f;
        scripted(&f, 2, weight, 0);
        add(&f, NO_ORDINAL, FINISH_STOP, .8);
        add(&f, NO_ORDINAL, FINISH_STEP, .6);
        plan(&f);
        assert_int_equal(f.plan.parents_len, 1);
        assert_int_equal(f.parents[0], 1);
        add(&f, 1, FINISH_STOP, .7);
        plan(&f);
        assert_int_equal(f.plan.finals_len, 2);
        assert_int_equal(f.finals[0], 0);
        assert_int_equal(f.finals[1], 2);
        struct particles p = particles(&f);
        assert_near(p.log_weight[0], expected[weight], 1e-12);
        assert_near(p.log_weight[1], other[weight], 1e-12);
        assert_near(p.score[0], .8, 0);
        assert_near(p.score[1], .7, 0);
    }
}

/* Systematic resampling of weights (.25, .75, 0, 0): one and three children. */
static void survivors_keep_their_slots(void **state)
{
    (void)state;
    struct fixture f;
    scripted(&f, 4, R, 1);
    add(&f, NO_ORDINAL, FINISH_STEP, .3);
    add(&f, NO_ORDINAL, FINISH_STEP, .9);
    add(&f, NO_ORDINAL, FINISH_FAILED, .9);
    add(&f, NO_ORDINAL, FINISH_STEP, -1);
    plan(&f);
    const uint32_t expected[4] = {0, 1, 1, 1};
    assert_int_equal(f.plan.parents_len, 4);
    assert_memory_equal(f.parents, expected, sizeof(expected));
    struct particles p = particles(&f);
    assert_int_equal(p.head->resampled, 1);
    for (uint32_t i = 0; i < 4; i++)
        assert_true(p.log_weight[i] == 0);
}

/* Clones of a stopped particle cost nothing, and are reported once each. */
static void clones_of_stopped(void **state)
{
    (void)state;
    struct fixture f;
    scripted(&f, 4, ODDS, 1);
    add(&f, NO_ORDINAL, FINISH_STEP, 0);
    add(&f, NO_ORDINAL, FINISH_STOP, 1); /* clipped: odds of 1e7, not infinite */
    add(&f, NO_ORDINAL, FINISH_STEP, 0);
    add(&f, NO_ORDINAL, FINISH_STEP, 0);
    plan(&f);
    const uint32_t expected[4] = {1, 1, 1, 1};
    assert_int_equal(f.plan.finals_len, 4);
    assert_memory_equal(f.finals, expected, sizeof(expected));
    assert_true(isfinite(particles(&f).head->log_z));
}

static void all_failed(void **state)
{
    (void)state;
    struct fixture f;
    scripted(&f, 3, ODDS, 1);
    for (int i = 0; i < 3; i++)
        add(&f, NO_ORDINAL, FINISH_FAILED, -1);
    plan(&f);
    assert_int_equal(f.plan.finals_len, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(f.finals[i], i);
}

/* Above the gate weights are carried; below it they are used up. */
static void gate_carries_weights(void **state)
{
    (void)state;
    struct fixture f;
    scripted(&f, 2, R, .75); /* resample below 1.5 effective particles */
    add(&f, NO_ORDINAL, FINISH_STEP, .8);
    add(&f, NO_ORDINAL, FINISH_STEP, .4); /* 1.8 effective */
    plan(&f);
    struct particles p = particles(&f);
    assert_int_equal(p.head->resampled, 0);
    assert_near(p.log_weight[1], log(.4), 1e-15);
    add(&f, 0, FINISH_STEP, .8);
    add(&f, 1, FINISH_STEP, .4); /* (.64, .16): 1.47 */
    plan(&f);
    assert_int_equal(p.head->resampled, 1);
    assert_true(p.log_weight[1] == 0);
    assert_near(p.head->log_z, log((.64 + .16) / 2), 1e-12);
}

/* ess = 1 is the paper's form: equal weights, too, are resampled. */
static void gate_of_one_always_resamples(void **state)
{
    (void)state;
    struct fixture f;
    scripted(&f, 4, ODDS, 1);
    for (int i = 0; i < 4; i++)
        add(&f, NO_ORDINAL, FINISH_STEP, .5);
    plan(&f);
    assert_int_equal(particles(&f).head->resampled, 1);
}

static void steps_are_bounded(void **state)
{
    (void)state;
    struct fixture f;
    scripted(&f, 2, R, .5);
    f.values[MAX_STEPS] = 3;
    uint32_t rounds = 0;
    for (; f.plan.parents_len > 0; plan(&f), rounds++)
        for (uint32_t i = 0, len = f.plan.parents_len; i < len; i++)
            add(&f, f.parents[i], FINISH_STEP, .5);
    assert_int_equal(rounds, 3);
    assert_int_equal(f.plan.finals_len, 2);
    assert_int_equal(f.nodes[f.finals[0]].depth, 3);
}

static void temperature(void **state)
{
    (void)state;
    for (int weight = ODDS; weight <= R; weight++) {
        struct fixture f;
        scripted(&f, 2, weight, 0);
        f.values[TAU] = 2;
        add(&f, NO_ORDINAL, FINISH_STOP, .8);
        add(&f, NO_ORDINAL, FINISH_STOP, .8);
        plan(&f);
        assert_near(particles(&f).log_weight[0], log(weight == ODDS ? 4 : .8) / 2, 1e-12);
    }
}

/* A plan is a function of its view: asked twice it says the same, and leaves the view alone. */
static void plan_is_pure(void **state)
{
    (void)state;
    for (int resample = SYSTEMATIC; resample <= MULTINOMIAL; resample++) {
        struct fixture f, before;
        scripted(&f, 32, ODDS, 1);
        f.values[RESAMPLE] = resample;
        chain_step(&f, 3);
        before = f;
        strategy_particles.plan(&f.view, &f.plan);
        uint32_t parents[N_MAX];
        double next[N_MAX * 4];
        memcpy(parents, f.parents, sizeof(parents));
        memcpy(next, f.next, sizeof(next));
        memset(f.next, 0xee, strategy_particles.record_size(32, f.values));
        strategy_particles.plan(&f.view, &f.plan);
        assert_memory_equal(parents, f.parents, sizeof(parents));
        assert_memory_equal(next, f.next, strategy_particles.record_size(32, f.values));
        assert_memory_equal(before.record, f.record, sizeof(f.record));
        assert_memory_equal(before.nodes, f.nodes, sizeof(f.nodes));
        f.view.seed++; /* another tree draws other numbers */
        if (resample == MULTINOMIAL) {
            strategy_particles.plan(&f.view, &f.plan);
            assert_memory_not_equal(parents, f.parents, sizeof(parents));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_step_spawns_n),
        cmocka_unit_test(stopped_particle_weight),
        cmocka_unit_test(survivors_keep_their_slots),
        cmocka_unit_test(clones_of_stopped),
        cmocka_unit_test(all_failed),
        cmocka_unit_test(gate_carries_weights),
        cmocka_unit_test(gate_of_one_always_resamples),
        cmocka_unit_test(steps_are_bounded),
        cmocka_unit_test(temperature),
        cmocka_unit_test(plan_is_pure),
        cmocka_unit_test(chain_constants),
        cmocka_unit_test(chain_r),
        cmocka_unit_test(chain_odds),
        cmocka_unit_test(chain_ratio),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
