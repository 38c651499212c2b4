/* test_simulate.c - worlds against their laws, and arms in them against closed forms and against themselves. */
#include "broker/policy/oracle.h"
#include "broker/policy/split.h"
#include "broker/simulate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define assert_near(a, b, eps) assert_true(fabs((a) - (b)) <= (eps))

static struct simulation_spec spec_of(const char *text)
{
    struct simulation_spec spec;
    struct error error = {""};
    int rc = simulation_spec_parse(slice_of(text), "test", NULL, 0, &spec, &error);
    if (rc != 0)
        print_error("%s\n", error.text);
    assert_int_equal(rc, 0);
    return spec;
}

static void refuses(const char *text, int code, const char *sentence)
{
    struct simulation_spec spec;
    struct error error = {""};
    assert_int_equal(simulation_spec_parse(slice_of(text), "test", NULL, 0, &spec, &error), code);
    if (strstr(error.text, sentence) == NULL)
        fail_msg("'%s' is not in '%s'", sentence, error.text);
}

/* -- worlds --------------------------------------------------------------------------------------------------------- */

#define PROMPTS 4000

static struct world *world_of(const struct simulation_spec *spec)
{
    return world_new(&spec->law, spec->prompts, spec->seed);
}

static void rates_follow_their_laws(void **state)
{
    (void)state;
    struct simulation_spec spec = spec_of("world: {prompts: 4000}\n"
                                          "laws: [{share: 3, alpha: 2, beta: 6, zero: 0.25}, {law: fixed, rate: 0.5}]\n"
                                          "arms: [{name: a, n: 1}]\n");
    struct world *world = world_of(&spec);
    double sum = 0, never = 0, fixed = 0;
    for (uint32_t p = 0; p < PROMPTS; p++) {
        double right = world->prompts[p].right;
        never += right > 0 ? 0 : 1;
        fixed += right >= 0.5 && right <= 0.5;
        sum += right;
    }
    assert_near(never / PROMPTS, 0.75 * 0.25, 0.02);
    assert_near(fixed / PROMPTS, 0.25, 0.02);
    assert_near(sum / PROMPTS, 0.75 * 0.75 * 0.25 + 0.25 * 0.5, 0.01);
    world_free(&world);
    simulation_spec_clear(&spec);
}

/* Shares of right, blank, unshared and agreeing answers, tokens of right ones, and the order of their lp_mean. */
static void rollouts_follow_their_laws(void **state)
{
    (void)state;
    struct simulation_spec spec = spec_of("world: {prompts: 4000}\n"
                                          "laws: [{law: fixed, rate: 0.4}]\n"
                                          "answers: {wrong: zipf, classes: 3, junk: 0.2, blank: 0.1}\n"
                                          "lengths: {median: 1000, between: 0, within: 0.5, right: 0.5, most: 100000}\n"
                                          "features: {lp_mean: 0.8}\n"
                                          "arms: [{name: a, n: 1}]\n");
    struct world *world = world_of(&spec);
    double right = 0, blank = 0, same = 0, logs[2] = {0}, above = 0, pairs = 0;
    for (uint32_t p = 0; p < PROMPTS; p++) {
        struct world_rollout a = world_rollout(world, p, 0), b = world_rollout(world, p, 1);
        right += a.right;
        blank += a.class == 0;
        same += a.class != 0 && a.class == b.class;
        logs[a.right] += log(a.tokens);
        above += a.right && !b.right && a.lp_mean > b.lp_mean;
        pairs += a.right && !b.right;
        assert_int_equal(a.right, world_right(world, p, 0));
        assert_true(a.class != 0 || !a.right);
    }
    double named = 0.6 * 0.7 / (1 + 1.0 / 2 + 1.0 / 3); /* of the likeliest wrong answer */
    assert_near(right / PROMPTS, 0.4, 0.025);
    assert_near(blank / PROMPTS, 0.06, 0.015);
    assert_near(same / PROMPTS, 0.16 + named * named * (1 + 1.0 / 4 + 1.0 / 9), 0.02);
    assert_near(exp(logs[true] / right), 500, 20);
    assert_near(exp(logs[false] / (PROMPTS - right)), 1000, 35);
    assert_near(above / pairs, 0.8, 0.04);
    world_free(&world);
    simulation_spec_clear(&spec);
}

/* Rates of a yes, and how often two equal wrong answers of a prompt both get one: p^2 + icc p (1 - p). */
static void verdicts_follow_their_laws(void **state)
{
    (void)state;
    struct simulation_spec spec = spec_of("world: {prompts: 4000}\n"
                                          "laws: [{law: fixed, rate: 0.5}]\n"
                                          "answers: {classes: 1}\n"
                                          "verifiers: [{name: v, kind: noisy, tpr: 0.75, fpr: 0.45, icc: 0.5},\n"
                                          "  {name: w, kind: noisy, fpr: 0.4, link: 1, icc: 0},\n"
                                          "  {name: r, kind: reward, gap: 0.2, tail: 0.3}, {name: e, kind: exact}]\n"
                                          "arms: [{name: a, n: 1}]\n");
    struct world *world = world_of(&spec);
    double yes[2] = {0}, len[2] = {0}, both = 0, pairs = 0, weak = 0, tails = 0, rewards[2] = {0}, cut[2] = {0};
    for (uint32_t p = 0; p < PROMPTS; p++) {
        bool right = world_right(world, p, 0), other = world_right(world, p, 1);
        bool passed = world_verdict(world, 0, p, 0).outcome == OUTCOME_PASS;
        double reward = world_verdict(world, 2, p, 0).score;
        len[right]++;
        yes[right] += passed;
        pairs += !right && !other;
        both += !right && !other && passed && world_verdict(world, 0, p, 1).outcome == OUTCOME_PASS;
        weak += !right && world_verdict(world, 1, p, 0).outcome == OUTCOME_PASS;
        tails += reward > 1;
        rewards[right] += reward > 1 ? 0 : reward;
        cut[right] += reward <= 1;
        assert_int_equal(world_verdict(world, 3, p, 0).outcome == OUTCOME_PASS, right);
    }
    assert_near(yes[true] / len[true], 0.75, 0.03);
    assert_near(yes[false] / len[false], 0.45, 0.035);
    assert_near(both / pairs, 0.45 * 0.45 + 0.5 * 0.45 * 0.55, 0.05);
    assert_near(weak / len[false], 0.4 * 0.5, 0.03);
    assert_near(tails / len[false], 0.3, 0.03);
    assert_true(rewards[true] / cut[true] > rewards[false] / cut[false] + 0.08);
    world_free(&world);
    simulation_spec_clear(&spec);
}

/* How two yes-or-noes go together, from -1 to 1. */
static double correlation(uint32_t a, uint32_t b, uint32_t both, uint32_t len)
{
    double p = (double)a / len, q = (double)b / len;
    return ((double)both / len - p * q) / sqrt(p * (1 - p) * q * (1 - q));
}

enum { JUDGES = 24, VOTES = 20000 };

/* What verifiers of one kind say of rollouts that are right one time in two. */
struct many {
    uint32_t yes[JUDGES], both[JUDGES][JUDGES], right[JUDGES], rights, longs[JUDGES], longer;
};

static struct many judge_all(const struct world *world)
{
    struct many m = {0};
    for (uint32_t k = 0; k < VOTES; k++) {
        uint32_t prompt = k % world->prompts_len, ordinal = k / world->prompts_len;
        struct world_rollout rollout = world_rollout(world, prompt, ordinal);
        bool said[JUDGES], longer = rollout.tokens > 1000;
        m.rights += rollout.right;
        m.longer += longer;
        for (uint32_t v = 0; v < JUDGES; v++) {
            said[v] = world_verdict(world, v, prompt, ordinal).score > 0.5;
            m.yes[v] += said[v];
            m.right[v] += said[v] && rollout.right;
            m.longs[v] += said[v] && longer;
            for (uint32_t w = 0; w < v; w++)
                m.both[v][w] += said[v] && said[w];
        }
    }
    return m;
}

/* Each says yes as often as the others, and its luck is neither that of the rollout nor of another verifier. */
static void many_verifiers_are_independent(void **state)
{
    (void)state;
    static const struct {
        const char *verifier;
        double rate;
    } rows[] = {
        {"kind: noisy, tpr: 0.6, fpr: 0.6, icc: 0", 0.6},
        {"kind: noisy, tpr: 0.6, fpr: 0.6, icc: 0.3", 0.6},
        {"kind: bimodal, tpr: 0.6, fpr: 0.6", 0.6},
        {"kind: reward, mean_low: 0.4, mean_high: 0.6, deviation_low: 0.1, deviation_high: 0.2, gap: 0", 0.5},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf text = {0};
        buf_puts(&text, "world: {prompts: 4000}\n"
                        "laws: [{law: fixed, rate: 0.5}]\n"
                        "answers: {junk: 1}\n" /* a class for each wrong rollout: verifiers' tastes average out */
                        "lengths: {median: 1000, between: 0, within: 0.5, right: 1, most: 100000}\n"
                        "arms: [{name: a, n: 1}]\n"
                        "verifiers:\n");
        for (int v = 0; v < JUDGES; v++)
            buf_printf(&text, "  - {name: v%d, %s}\n", v, rows[i].verifier);
        struct simulation_spec spec = spec_of(text.data);
        struct world *world = world_of(&spec);
        struct many m = judge_all(world);
        for (uint32_t v = 0; v < JUDGES; v++) {
            assert_near((double)m.yes[v] / VOTES, rows[i].rate, 0.03);
            assert_near(correlation(m.yes[v], m.rights, m.right[v], VOTES), 0, 0.05);
            assert_near(correlation(m.yes[v], m.longer, m.longs[v], VOTES), 0, 0.05);
            for (uint32_t w = 0; w < v; w++)
                assert_near(correlation(m.yes[v], m.yes[w], m.both[v][w], VOTES), 0, 0.05);
        }
        world_free(&world);
        simulation_spec_clear(&spec);
        buf_clear(&text);
    }
}

/* -- arms ----------------------------------------------------------------------------------------------------------- */

#define VERIFIED                        \
    "laws: [{alpha: 0.5, beta: 0.5}]\n" \
    "verifiers: [{name: exact, kind: exact}, {name: judge, kind: noisy, tpr: 0.8, fpr: 0.3, votes: 3}]\n"

/* Taking N of every prompt through the core, and folding N rollouts, is the same, prompt by prompt. */
static void the_core_decides_as_the_fold(void **state)
{
    (void)state;
    struct simulation_spec spec =
        spec_of("world: {prompts: 200}\n" VERIFIED
                "arms: [{name: vote, n: 7}, {name: best, n: 7, select: best, verifier: judge},\n"
                "  {name: log-odds, n: 7, select: weighted, verifier: judge},\n"
                "  {name: rpc, n: 7, select: rpc}, {name: soft, n: 7, select: soft-best, verifier: judge}]\n");
    struct world *world = world_of(&spec);
    const uint32_t n = 7;
    for (uint32_t a = 0; a < spec.sweep.arms_len; a++) {
        struct simulated_run run;
        struct error error;
        assert_int_equal(simulate_arm(&spec, world, a, &run, &error), 0);
        for (uint32_t p = 0; p < spec.prompts; p++) {
            struct saving_cell cell;
            simulate_uniform(&spec, world, a, p, &n, 1, &cell);
            assert_int_equal(run.prompts[p].good, cell.right > 0);
            assert_int_equal(run.prompts[p].rollouts, 7);
            assert_int_equal(run.prompts[p].tokens, (uint64_t)cell.tokens);
        }
        simulated_run_clear(&run);
    }
    world_free(&world);
    simulation_spec_clear(&spec);
}

/* Elimination with a verifier that is never wrong has a closed form, which no oracle is below. */
static void elimination_meets_its_closed_form(void **state)
{
    (void)state;
    struct simulation_spec spec = spec_of(
        "world: {prompts: 500, seeds: 8}\n" VERIFIED "arms: [{name: all, n: 16, select: first-pass, verifier: exact},\n"
        "  {name: drop, n: 16, allocate: elimination, select: first-pass, verifier: exact}]\n");
    struct simulation s;
    struct error error;
    assert_int_equal(simulation_run(&spec, &s, &error), 0);
    struct elimination theory = elimination_at(&(struct rate_law){.alpha = 0.5, .beta = 0.5}, 16);
    assert_near(s.arms[1].right.mean, theory.coverage, 0.015);
    assert_near(s.arms[1].rollouts.mean, theory.cost, 0.25);
    assert_near(s.arms[0].right.mean, s.arms[1].right.mean, 1e-12);
    assert_near(s.arms[0].rollouts.mean, 16, 1e-12);
    assert_near(s.arms[1].saving.rollouts, 16 / theory.cost, 0.5);
    assert_false(s.arms[0].saves);
    assert_true(s.arms[1].saving.rollouts_95.low < 16 / theory.cost &&
                16 / theory.cost < s.arms[1].saving.rollouts_95.high);
    for (int a = 0; a < 2; a++)
        assert_true(s.arms[a].covered.mean <= s.arms[a].rail + 0.01);
    assert_true(simulation_sound(&s));
    simulation_clear(&s);
    simulation_spec_clear(&spec);
}

/* What papers and closed forms say of stops and allocations comes out of the simulator too. */
static void anchors_hold(void **state)
{
    (void)state;
    struct simulation_spec spec =
        spec_of("world: {prompts: 2000, seeds: 2}\n"
                "laws: [{law: fixed, rate: 0.8}]\n"
                "answers: {wrong: even, classes: 1}\n"
                "arms: [{name: esc, n: 40, stop: {esc: {size: 5}}, select: {window: {size: 5}}}]\n");
    struct simulation s;
    struct error error;
    assert_int_equal(simulation_run(&spec, &s, &error), 0);
    assert_near(s.arms[0].rollouts.mean, 14.61, .35); /* Li et al. 2024, of windows of 5 up to 40, p = (.8, .2) */
    simulation_clear(&s);
    simulation_spec_clear(&spec);
    spec = spec_of(
        "world: {prompts: 300, seeds: 6, goal: mode}\n" /* most prompts easy */
        "laws: [{share: 0.6, law: fixed, rate: 0.95}, {share: 0.4, law: dirichlet, concentration: 0.3}]\n"
        "answers: {wrong: even, classes: 7}\n"
        "arms: [{name: flip, n: 256, allocate: flip, budget: {rollouts: 4800}}, {name: asc, n: 128, stop: beta}]\n");
    assert_int_equal(simulation_run(&spec, &s, &error), 0);
    assert_near(s.arms[0].rollouts.mean, 16, 1e-9);
    assert_true(s.arms[0].saving.rollouts > 3.5); /* 4.7, 4.0 to 5.6, in a prototype with other worlds */
    assert_near(s.arms[1].rollouts.mean, 21.4, 3);
    assert_true(simulation_sound(&s));
    simulation_clear(&s);
    simulation_spec_clear(&spec);
}

/* The fleet: slots that never idle while work is there, and a makespan that follows from them. */
static void a_fleet_takes_its_time(void **state)
{
    (void)state;
    struct simulation_spec spec = spec_of("world: {prompts: 40, seeds: 2}\n"
                                          "lengths: {median: 100, between: 0, within: 0, right: 1, prompt: 10}\n"
                                          "system: {workers: 2, slots: 5, speed: 100, start: 0.5, noise: 0}\n"
                                          "arms: [{name: a, n: 4}, {name: b, n: 4, stop: beta}]\n");
    struct simulation s;
    struct error error;
    assert_int_equal(simulation_run(&spec, &s, &error), 0);
    assert_near(s.arms[0].makespan_s.mean, 40 * 4 / 10 * 1.5, 1e-9);
    assert_near(s.arms[0].busy.mean, 1, 1e-9);
    assert_near(s.arms[0].tokens.mean, 4 * 110, 1e-9);
    assert_near(s.arms[0].overrun.mean, 0, 1e-9);
    assert_true(s.arms[1].overrun.mean >= 0);
    simulation_clear(&s);
    simulation_spec_clear(&spec);
}

/* A world that is easier than it says breaks the bound, and that is noticed. */
static void draw_liar(const void *source, uint32_t index, struct dice *dice, struct world_prompt *prompt)
{
    (void)source;
    (void)index;
    (void)dice;
    *prompt = (struct world_prompt){.right = 0.5, .classes = 2, .median = 10};
    world_spread(&(struct world_answers){.classes = 1}, dice, prompt);
    prompt->right = 0.1;
}

static void an_arm_above_its_bound_is_noticed(void **state)
{
    (void)state;
    struct simulation_spec spec = spec_of("world: {prompts: 300, seeds: 2}\n" VERIFIED
                                          "arms: [{name: a, n: 4}, {name: b, n: 4, allocate: elimination, "
                                          "select: first-pass, verifier: exact}]\n");
    spec.law.draw = draw_liar;
    struct simulation s;
    struct error error;
    assert_int_equal(simulation_run(&spec, &s, &error), 0);
    assert_true(s.arms[0].above);
    assert_true(s.arms[1].above);
    assert_true(s.arms[0].rail_static);
    assert_false(s.arms[1].rail_static);
    assert_false(simulation_sound(&s));
    simulation_clear(&s);
    simulation_spec_clear(&spec);
}

/* -- solving or judging --------------------------------------------------------------------------------------------- */

static void a_split_spends_its_budget(void **state)
{
    (void)state;
    const struct split_row rows[] = {{{1, 0}, .40}, {{4, 0}, .45}, {{8, 0}, .48}, {{16, 0}, .50}, {{4, 1}, .46},
                                     {{8, 1}, .49}, {{4, 3}, .47}, {{2, 3}, .44}, {{8, 2}, .49}};
    const double budgets[] = {4, 8, 16};
    const size_t len = sizeof rows / sizeof rows[0];
    assert_near(split_cost((struct split){16, 3}, .5), 40, 1e-12);
    assert_int_equal(split_best(rows, len, 1, 16, true)->split.solutions, 8);
    assert_int_equal(split_best(rows, len, 1, 24, true)->split.votes, 1); /* as good as (8, 2), and cheaper */
    assert_int_equal(split_best(rows, len, 1, 9, false)->split.solutions, 8);
    assert_null(split_best(rows, len, 1, 3, true));
    struct split_law law;
    assert_true(split_fit(rows, len, 1, budgets, 3, &law)); /* best: none, (4, 1), (8, 1) */
    assert_near(law.scale, sqrt(4 / pow(8, .57) * 8 / pow(16, .57)), 1e-12);
    assert_int_equal(split_at(&law, 16).solutions, (int)(law.scale * pow(16, .57) + .5));
    assert_int_equal(split_at(&law, 1).solutions, 1);
    assert_int_equal(split_at(&law, 1).votes, 0);
    law = (struct split_law){.scale = 1.5, .exponent = .57, .price = .25};
    assert_int_equal(split_at(&law, 64).solutions, 16);
    assert_int_equal(split_at(&law, 64).votes, 12); /* (64 / 16 - 1) / .25 */
    assert_false(split_fit(rows, 4, 1, budgets, 3, &law));
    assert_true(isinf(split_crossover(rows, len, 1, budgets, 3))); /* .49 against .50 */
    const double cheap[] = {4, 8, 12}; /* nothing at 4, .46 against .48 at 8, .49 against .48 at 12 */
    assert_near(split_crossover(rows, len, .5, cheap, 3), 12, 1e-12);
}

/* Success rates as on MATH, a judge with errors that belong to answers: what S solutions with V judgements reach. The
 * golden values are of a prototype with a few thousand prompts; of the law of its wrong answers nothing was kept, and
 * Zipf over 9 comes nearest. */
static void judging_pays_late_when_errors_belong_to_answers(void **state)
{
    (void)state;
    struct simulation_spec spec =
        spec_of("world: {prompts: 40000}\n"
                "laws: [{alpha: 0.27, beta: 0.41}]\n"
                "answers: {wrong: zipf, classes: 9}\n"
                "verifiers: [{name: v1, kind: noisy, tpr: 0.75, fpr: 0.45, icc: 0.5, votes: 1},\n"
                "  {name: v3, kind: noisy, tpr: 0.75, fpr: 0.45, icc: 0.5, votes: 3}]\n"
                "arms: [{name: vote, n: 32}, {name: once, n: 32, select: weighted, verifier: v1},\n"
                "  {name: thrice, n: 32, select: weighted, verifier: v3}]\n");
    static const uint32_t steps[] = {4, 8, 16, 32}, votes[] = {0, 1, 3};
    static const double golden[3][4] = {{.456, .479, .496, .505}, {.459, .487, .514, 0}, {0, 0, .518, 0}};
    struct split_row rows[12];
    struct world *world = world_of(&spec);
    for (uint32_t a = 0; a < 3; a++) {
        double right[4] = {0};
        for (uint32_t p = 0; p < spec.prompts; p++) {
            struct saving_cell cells[4];
            simulate_uniform(&spec, world, a, p, steps, 4, cells);
            for (int i = 0; i < 4; i++)
                right[i] += cells[i].right / spec.prompts;
        }
        for (int i = 0; i < 4; i++) {
            rows[4 * a + (uint32_t)i] = (struct split_row){{steps[i], votes[a]}, right[i]};
            if (golden[a][i] > 0)
                assert_near(right[i], golden[a][i], .011);
        }
    }
    const double budgets[] = {8, 16, 32, 64};
    struct split_law law;
    assert_true(split_fit(rows, 12, 1, budgets, 4, &law));
    for (int i = 0; i < 3; i++) { /* (4, 1), (8, 1), (16, 1): more solutions, not more votes */
        const struct split_row *best = split_best(rows, 12, 1, budgets[i], true);
        assert_int_equal(best->split.solutions, steps[i]);
        assert_int_equal(best->split.votes, 1);
    }
    assert_true(split_best(rows, 12, 1, 8, true)->accuracy < split_best(rows, 12, 1, 8, false)->accuracy);
    assert_true(split_best(rows, 12, 1, 64, true)->accuracy > split_best(rows, 12, 1, 64, false)->accuracy);
    assert_true(split_crossover(rows, 12, 1, budgets, 4) >= 32);
    world_free(&world);
    simulation_spec_clear(&spec);
}

static void files_are_checked(void **state)
{
    (void)state;
    refuses("world: {prompt: 5}\narms: [{name: a, n: 1}]\n", ERR_NOT_FOUND,
            "test:1:9: unknown key 'prompt' in the world");
    refuses("laws: []\narms: [{name: a, n: 1}]\n", ERR_SYNTAX, "'laws' must be a list");
    refuses("answers: {junk: 0.6, blank: 0.6}\narms: [{name: a, n: 1}]\n", ERR_RANGE, "more than 1 together");
    refuses("verifiers: [{name: v}, {name: v}]\narms: [{name: a, n: 1}]\n", ERR_CONFLICT,
            "two verifiers are named 'v'");
    refuses("world: {}\n", ERR_NOT_FOUND, "there are no arms");
    refuses("arms:\n- {name: a, n: 1, select: best}\n", ERR_REFUSED, "needs a verifier");
    refuses("arms:\n- {name: a, n: 8, select: borda}\n", ERR_REFUSED, "test:2:1: arm 'a' reads features");
    refuses("arms:\n- {name: a, n: 8, rollouts: existing}\n", ERR_REFUSED, "takes existing rollouts");
    refuses("verifiers: [{name: v}]\narms:\n- {name: a, n: 8, allocate: marginal-gain, verifier: v, prior: early}\n",
            ERR_REFUSED, "test:3:1: arm 'a' has a prior");
    refuses("verifiers: [{name: v}]\narms:\n- {name: a, n: 8, strategy: dvts, verifier: v}\n", ERR_REFUSED,
            "goes step by step");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_follow_their_laws),
        cmocka_unit_test(rollouts_follow_their_laws),
        cmocka_unit_test(verdicts_follow_their_laws),
        cmocka_unit_test(many_verifiers_are_independent),
        cmocka_unit_test(the_core_decides_as_the_fold),
        cmocka_unit_test(elimination_meets_its_closed_form),
        cmocka_unit_test(anchors_hold),
        cmocka_unit_test(a_fleet_takes_its_time),
        cmocka_unit_test(an_arm_above_its_bound_is_noticed),
        cmocka_unit_test(a_split_spends_its_budget),
        cmocka_unit_test(judging_pays_late_when_errors_belong_to_answers),
        cmocka_unit_test(files_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
