/* Strategies that continue a text: thinking with a budget, turns of revisions. A scripted model answers each child. */
#include "broker/policy/particles.h"
#include "broker/policy/policy.h"
#include "common/limits.h"
#include "common/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

enum { NODES = 256, MAX_TOKENS = 4096 };

struct fixture {
    const struct strategy *strategy;
    struct node_view nodes[NODES];
    double options[POLICY_OPTIONS_MAX];
    uint32_t parents[LIMIT_TREE_N], finals[LIMIT_TREE_N], caps[LIMIT_TREE_N];
    uint8_t cues[LIMIT_TREE_N], extents[LIMIT_TREE_N];
    struct tree_view view;
    struct plan plan;
};

static void fixture_init(struct fixture *f, const struct strategy *strategy, uint32_t n)
{
    *f = (struct fixture){.strategy = strategy};
    for (int i = 0; strategy->options[i].name != NULL; i++)
        f->options[i] = strategy->options[i].fallback;
    f->view = (struct tree_view){
        .trees = 1, .n = n, .max_tokens = MAX_TOKENS, .nodes = f->nodes, .record = "", .options = f->options};
    f->plan = (struct plan){.parents = f->parents,
                            .caps = f->caps,
                            .cues = f->cues,
                            .extents = f->extents,
                            .finals = f->finals,
                            .cap = LIMIT_TREE_N};
}

/* As the core asks: what is not said is a step of max_tokens. */
static void plan(struct fixture *f)
{
    for (int i = 0; i < LIMIT_TREE_N; i++) {
        f->caps[i] = 0;
        f->cues[i] = CUE_NONE;
        f->extents[i] = EXTENT_STEP;
    }
    f->strategy->plan(&f->view, &f->plan);
    assert_true((f->plan.parents_len > 0) != (f->plan.finals_len > 0));
}

/* The next child that is not settled ends like this. */
static void settle(struct fixture *f, uint32_t child, enum finish finish, uint32_t tokens, uint64_t class)
{
    uint32_t parent = f->parents[child], node = f->view.nodes_len++;
    assert_true(node < NODES);
    f->nodes[node] = (struct node_view){.parent = parent,
                                        .depth = parent == NO_ORDINAL ? 1 : f->nodes[parent].depth + 1,
                                        .finish = finish,
                                        .cue = (enum cue)f->cues[child],
                                        .extent = (enum extent)f->extents[child],
                                        .cap = f->caps[child] == 0 ? MAX_TOKENS : f->caps[child],
                                        .class = class,
                                        .tokens = tokens};
    assert_true(tokens <= f->nodes[node].cap);
}

/* -- budget forcing -------------------------------------------------------------------------------------------------- */

enum { THINK, WAITS, ANSWER };

static void expect(const struct fixture *f, uint32_t parent, enum cue cue, enum extent extent, uint32_t cap)
{
    assert_int_equal(f->plan.parents_len, 1);
    assert_int_equal(f->parents[0], parent);
    assert_int_equal(f->cues[0], cue);
    assert_int_equal(f->extents[0], extent);
    assert_int_equal(f->caps[0], cap);
}

static void a_chain_by_hand(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &strategy_budget_forcing, 8);
    f.options[THINK] = 1000;
    f.options[WAITS] = 2;
    assert_int_equal(strategy_budget_forcing.trees(8, f.options), 8);
    plan(&f);
    expect(&f, NO_ORDINAL, CUE_NONE, EXTENT_THINK, 1000);
    settle(&f, 0, FINISH_STEP, 300, 0);
    plan(&f);
    expect(&f, 0, CUE_WAIT, EXTENT_THINK, 700);
    settle(&f, 0, FINISH_STOP, 100, 0); /* an end token ends thinking too */
    plan(&f);
    expect(&f, 1, CUE_WAIT, EXTENT_THINK, 600);
    settle(&f, 0, FINISH_STEP, 50, 0);
    plan(&f); /* no wait is left: the model has ended its thinking itself */
    expect(&f, 2, CUE_ANSWER, EXTENT_WHOLE, 1024);
    settle(&f, 0, FINISH_STOP, 20, 7);
    plan(&f);
    assert_int_equal(f.plan.finals_len, 1);
    assert_int_equal(f.finals[0], 3);
}

static void thinking_that_is_cut_is_told_to_answer(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &strategy_budget_forcing, 1);
    f.options[ANSWER] = 5000;
    plan(&f);
    expect(&f, NO_ORDINAL, CUE_NONE, EXTENT_THINK, MAX_TOKENS); /* of the model, where no budget is said */
    settle(&f, 0, FINISH_LENGTH, MAX_TOKENS, 0);
    plan(&f);
    expect(&f, 0, CUE_FINAL, EXTENT_WHOLE, MAX_TOKENS);
    settle(&f, 0, FINISH_LENGTH, MAX_TOKENS, 0);
    plan(&f);
    assert_int_equal(f.finals[0], 1);
}

static void a_chain_that_fails_ends(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &strategy_budget_forcing, 1);
    plan(&f);
    settle(&f, 0, FINISH_FAILED, 0, 0);
    plan(&f);
    assert_int_equal(f.plan.finals_len, 1);
    assert_int_equal(f.finals[0], 0);
}

/* The check of s1: whatever the model does, thinking keeps to its budget, and waits = min(R, early ends that leave some). */
static void any_model_keeps_to_the_budget(void **state)
{
    (void)state;
    static struct fixture f;
    for (uint64_t seed = 0; seed < 3000; seed++) {
        fixture_init(&f, &strategy_budget_forcing, 1);
        f.options[THINK] = (double)(rng_u64(seed, RNG_TEST, 0, 0) % 400); /* 0: the model's */
        f.options[WAITS] = (double)(rng_u64(seed, RNG_TEST, 1, 0) % 7);
        uint32_t budget = f.options[THINK] > 0 ? (uint32_t)f.options[THINK] : MAX_TOKENS, thought = 0, waits = 0,
                 early = 0;
        bool cut = false;
        for (plan(&f); f.plan.parents_len > 0; plan(&f)) {
            uint32_t cap = f.caps[0],
                     tokens = (uint32_t)(rng_u64(seed, RNG_TEST, 2, f.view.nodes_len) % (cap + cap / 4));
            bool thinks = f.extents[0] == EXTENT_THINK, length = tokens >= cap;
            assert_int_equal(f.parents[0], f.view.nodes_len == 0 ? NO_ORDINAL : f.view.nodes_len - 1);
            assert_false(thinks && cap > budget - thought);
            waits += f.cues[0] == CUE_WAIT;
            assert_false(f.cues[0] == CUE_FINAL && !cut);
            assert_false(f.cues[0] == CUE_ANSWER && cut);
            tokens = length ? cap : tokens;
            thought += thinks ? tokens : 0;
            early += thinks && !length && thought < budget;
            cut = thinks && length;
            settle(&f, 0, length ? FINISH_LENGTH : thinks ? FINISH_STEP : FINISH_STOP, tokens, 1);
        }
        assert_true(thought <= budget);
        assert_int_equal(waits, early < (uint32_t)f.options[WAITS] ? early : (uint32_t)f.options[WAITS]);
        assert_int_equal(f.finals[0], f.view.nodes_len - 1);
        assert_int_equal(f.view.nodes_len, 2 + waits);
    }
}

/* -- revisions -------------------------------------------------------------------------------------------------------- */

enum { TURNS, WIDTH, LAST, MEMORY, SETTLE };

static void score(struct fixture *f, double score)
{
    f->nodes[f->view.nodes_len - 1].scored = true;
    f->nodes[f->view.nodes_len - 1].score = score;
}

static void expect_turn(const struct fixture *f, uint32_t parent, uint32_t width)
{
    assert_int_equal(f->plan.parents_len, width);
    for (uint32_t i = 0; i < width; i++) {
        assert_int_equal(f->parents[i], parent);
        assert_int_equal(f->cues[i], parent == NO_ORDINAL ? CUE_NONE : CUE_REVISE);
        assert_int_equal(f->extents[i], EXTENT_WHOLE);
        assert_int_equal(f->caps[i], 0);
    }
}

static void trees_of_turns(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &strategy_revise, 24);
    assert_int_equal(strategy_revise.trees(24, f.options), 6);
    f.options[WIDTH] = 3;
    assert_int_equal(strategy_revise.trees(24, f.options), 2);
    assert_int_equal(strategy_revise.trees(20, f.options), 0);
    assert_int_equal(strategy_revise.memory(f.options), 4);
}

/* A plain chain goes on from its last attempt, even where that is worse. */
static void a_chain_of_attempts(void **state)
{
    (void)state;
    static struct fixture f;
    for (int last = 0; last < 2; last++) {
        fixture_init(&f, &strategy_revise, 4);
        f.options[LAST] = last;
        plan(&f);
        expect_turn(&f, NO_ORDINAL, 1);
        for (uint32_t turn = 0; turn < 3; turn++) {
            settle(&f, 0, turn == 1 ? FINISH_LENGTH : FINISH_STOP, 10, turn + 1);
            score(&f, 3.0 - turn);
            plan(&f);
            expect_turn(&f, turn, 1);
        }
        settle(&f, 0, FINISH_STOP, 10, 9);
        plan(&f);
        assert_int_equal(f.plan.finals_len, last ? 1 : 4);
        assert_int_equal(f.finals[0], last ? 3 : 0);
    }
}

static void a_failed_attempt_ends_a_chain(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &strategy_revise, 4);
    plan(&f);
    settle(&f, 0, FINISH_STOP, 10, 1);
    plan(&f);
    settle(&f, 0, FINISH_FAILED, 0, 0);
    plan(&f);
    assert_int_equal(f.plan.finals_len, 2); /* it keeps its place */
}

/* With a verifier: the best so far, which never gets worse; of equal ones the newest turn's first. */
static void the_best_so_far(void **state)
{
    (void)state;
    static struct fixture f;
    static const double scores[4][2] = {{.2, .5}, {.4, .3}, {.5, .5}, {.9, .1}};
    static const uint32_t parents[4] = {NO_ORDINAL, 1, 1, 4};
    fixture_init(&f, &strategy_revise, 8);
    f.options[WIDTH] = 2;
    for (uint32_t turn = 0; turn < 4; turn++) {
        plan(&f);
        expect_turn(&f, parents[turn], 2);
        for (uint32_t i = 0; i < 2; i++) {
            settle(&f, i, FINISH_STOP, 10, 1);
            score(&f, scores[turn][i]);
        }
    }
    plan(&f);
    assert_int_equal(f.plan.finals_len, 8);
}

static void any_scores_never_get_worse(void **state)
{
    (void)state;
    static struct fixture f;
    for (uint64_t seed = 0; seed < 1000; seed++) {
        fixture_init(&f, &strategy_revise, 24);
        f.options[TURNS] = 8;
        f.options[WIDTH] = 3;
        double best = -1;
        for (plan(&f); f.plan.parents_len > 0; plan(&f)) {
            double revised = f.parents[0] == NO_ORDINAL ? -1 : f.nodes[f.parents[0]].score;
            assert_true(revised >= best); /* of all before it */
            best = revised;
            for (uint32_t i = 0; i < 3; i++) {
                settle(&f, i, FINISH_STOP, 10, 1);
                score(&f, (double)(rng_u64(seed, RNG_TEST, f.view.nodes_len, 0) % 5));
            }
        }
        assert_int_equal(f.plan.finals_len, 24);
    }
}

/* Without one: the first attempt of the turn's most frequent answer; failed ones and those without an answer do not vote. */
static void the_most_frequent_answer(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &strategy_revise, 10);
    f.options[TURNS] = 2;
    f.options[WIDTH] = 5;
    const struct {
        uint64_t classes[5];
        uint32_t failed, chosen;
    } rows[] = {
        {{1, 2, 2, 3, 3}, 9, 1},   {{0, 0, 0, 0, 4}, 9, 4}, {{5, 5, 6, 6, 6}, 9, 2},
        {{7, 8, 9, 10, 11}, 0, 1}, {{0, 0, 0, 0, 0}, 0, 1},
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        f.view.nodes_len = 0;
        plan(&f);
        for (uint32_t i = 0; i < 5; i++)
            settle(&f, i, i == rows[r].failed ? FINISH_FAILED : FINISH_STOP, 10,
                   i == rows[r].failed ? 0 : rows[r].classes[i]);
        plan(&f);
        expect_turn(&f, rows[r].chosen, 5);
    }
}

static void a_settled_answer_ends_a_tree(void **state)
{
    (void)state;
    static struct fixture f;
    static const uint64_t classes[] = {1, 2, 2, 0, 0, 0, 3, 3, 3};
    fixture_init(&f, &strategy_revise, 9);
    f.options[TURNS] = 9;
    f.options[SETTLE] = 2;
    uint32_t turns = 0;
    for (plan(&f); f.plan.parents_len > 0; plan(&f))
        settle(&f, 0, FINISH_STOP, 10, classes[turns++]);
    assert_int_equal(turns, 9); /* no answer is not an answer that stays */
    f.view.nodes_len = 0;
    f.options[SETTLE] = 1;
    turns = 0;
    for (plan(&f); f.plan.parents_len > 0; plan(&f))
        settle(&f, 0, FINISH_STOP, 10, classes[turns++]);
    assert_int_equal(turns, 3);
    assert_int_equal(f.plan.finals_len, 3);
}

/* So does one that no later attempt betters: it is the tree's answer, turn after turn. */
static void a_kept_answer_settles(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, &strategy_revise, 16);
    f.options[TURNS] = 8;
    f.options[WIDTH] = 2;
    f.options[SETTLE] = 2;
    for (plan(&f); f.plan.parents_len > 0; plan(&f)) {
        for (uint32_t i = 0; i < 2; i++) {
            bool best = f.view.nodes_len == 1;
            settle(&f, i, FINISH_STOP, 10, best ? 5 : 6);
            score(&f, best ? .9 : .2);
        }
    }
    assert_int_equal(f.plan.finals_len, 6);
}

/* A damaged journal: any nodes, any record. Nothing is read or written beyond what there is. */
static void damaged(void **state)
{
    (void)state;
    static struct fixture f;
    static uint64_t record[4096], next[4096];
    const struct strategy *const all[] = {&strategy_budget_forcing, &strategy_revise, &strategy_dvts, &strategy_zip_rc,
                                          &strategy_particles};
    for (uint64_t seed = 0; seed < 2000; seed++) {
        const struct strategy *s = all[seed % 5];
        fixture_init(&f, s, 8);
        for (size_t i = 0; i < 4096; i++)
            record[i] = rng_u64(seed, RNG_TEST, 1, i);
        f.view.record = record;
        f.plan.record = next;
        struct particles particles = particles_of(record, 8);
        for (uint64_t i = 0; i < 8 && seed % 3 > 0; i++) { /* nearly right */
            const double odd[] = {NAN, INFINITY, -INFINITY, 0, -1e308, 1e308, .5, 2};
            particles.node[i] = (uint32_t)rng_u64(seed, RNG_TEST, 8, i) % 64;
            particles.log_weight[i] = odd[rng_u64(seed, RNG_TEST, 9, i) % 8];
            particles.score[i] = odd[rng_u64(seed, RNG_TEST, 10, i) % 8];
        }
        f.view.nodes_len = (uint32_t)(rng_u64(seed, RNG_TEST, 2, 0) % NODES);
        for (uint32_t i = 0; i < f.view.nodes_len; i++) {
            uint32_t parent = i == 0 || rng_u64(seed, RNG_TEST, 3, i) % 4 == 0
                                  ? NO_ORDINAL
                                  : (uint32_t)(rng_u64(seed, RNG_TEST, 4, i) % i);
            f.nodes[i] = (struct node_view){.parent = parent,
                                            .depth = parent == NO_ORDINAL ? 1 : f.nodes[parent].depth + 1,
                                            .finish = (enum finish)(rng_u64(seed, RNG_TEST, 5, i) % FINISHES),
                                            .extent = (enum extent)(rng_u64(seed, RNG_TEST, 6, i) % EXTENTS),
                                            .tokens = (uint32_t)rng_u64(seed, RNG_TEST, 7, i)};
        }
        s->plan(&f.view, &f.plan);
        assert_true(f.plan.parents_len <= LIMIT_TREE_N);
        assert_true(f.plan.finals_len <= LIMIT_TREE_N);
        for (uint32_t i = 0; i < f.plan.parents_len; i++)
            assert_true(f.parents[i] == NO_ORDINAL || f.parents[i] < f.view.nodes_len);
        for (uint32_t i = 0; i < f.plan.finals_len && f.plan.parents_len == 0; i++)
            assert_true(f.finals[i] < f.view.nodes_len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_by_hand),
        cmocka_unit_test(thinking_that_is_cut_is_told_to_answer),
        cmocka_unit_test(a_chain_that_fails_ends),
        cmocka_unit_test(any_model_keeps_to_the_budget),
        cmocka_unit_test(trees_of_turns),
        cmocka_unit_test(a_chain_of_attempts),
        cmocka_unit_test(a_failed_attempt_ends_a_chain),
        cmocka_unit_test(the_best_so_far),
        cmocka_unit_test(any_scores_never_get_worse),
        cmocka_unit_test(the_most_frequent_answer),
        cmocka_unit_test(a_settled_answer_ends_a_tree),
        cmocka_unit_test(a_kept_answer_settles),
        cmocka_unit_test(damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
