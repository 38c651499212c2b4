/* test_dvts.c - diverse verifier tree search equals n / width greedy searches that know nothing of
 * each other. */
#include "broker/policy/policy.h"
#include "common/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { WIDTH, MAX_STEPS };
enum { M_MAX = 8, NODES_MAX = 512 };

struct tree {
    double values[POLICY_OPTIONS_MAX];
    struct node_view nodes[NODES_MAX];
    uint32_t parents[M_MAX], finals[M_MAX];
    struct tree_view view;
    struct plan plan;
    bool done;
};

static void tree_init(struct tree *t, uint32_t index, uint32_t n, uint32_t width)
{
    memset(t, 0, sizeof(*t));
    const struct option_row *options = strategy_dvts.options;
    for (size_t i = 0; options[i].name; i++)
        t->values[i] = options[i].fallback;
    t->values[WIDTH] = width;
    assert_int_equal(strategy_dvts.record_size(n, t->values), 0);
    t->view = (struct tree_view){
        .tree = index, .trees = strategy_dvts.trees(n, t->values), .n = n, .nodes = t->nodes, .options = t->values};
    t->plan = (struct plan){.parents = t->parents, .finals = t->finals, .cap = M_MAX};
}

static void plan(struct tree *t)
{
    strategy_dvts.plan(&t->view, &t->plan);
    assert_true((t->plan.parents_len == 0) != (t->plan.finals_len == 0));
    t->done = t->plan.finals_len > 0;
}

static void add(struct tree *t, uint32_t parent, enum finish finish, double score)
{
    assert_true(t->view.nodes_len < NODES_MAX);
    t->nodes[t->view.nodes_len++] = (struct node_view){
        .parent = parent,
        .depth = parent == NO_ORDINAL ? 1 : t->nodes[parent].depth + 1,
        .finish = finish,
        .scored = score >= 0,
        .score = score >= 0 ? score : .99, /* not to be read unless scored */
    };
}

/* What the generator says: a function of tree, depth and place among its siblings. Coarse scores
 * make ties. */
static uint64_t law(uint64_t seed, uint32_t tree, uint32_t depth, uint32_t sibling)
{
    return rng_u64(seed, RNG_TEST, tree, (uint64_t)depth << 32 | sibling);
}

static double law_score(uint64_t bits)
{
    return bits % 7 == 0 ? -1 : (double)(bits >> 8 & 3) / 4;
}

static enum finish law_finish(uint64_t bits)
{
    uint64_t kind = bits >> 20 & 15;
    return kind == 0 ? FINISH_STOP : kind == 1 ? FINISH_FAILED : kind == 2 ? FINISH_LENGTH : FINISH_STEP;
}

static void step(struct tree *t, uint64_t seed)
{
    for (uint32_t i = 0, len = t->plan.parents_len; i < len; i++) {
        uint32_t parent = t->parents[i];
        uint32_t depth = parent == NO_ORDINAL ? 1 : t->nodes[parent].depth + 1;
        uint64_t bits = law(seed, t->view.tree, depth, i);
        add(t, parent, law_finish(bits), law_score(bits));
    }
    plan(t);
}

/* A greedy search written the plain way; returns the number of levels it needed. */
static uint32_t greedy_levels(uint64_t seed, uint32_t tree, uint32_t width, uint32_t max_steps)
{
    for (uint32_t depth = 1;; depth++) {
        double best_score = -3;
        enum finish best = FINISH_FAILED;
        for (uint32_t i = 0; i < width; i++) {
            uint64_t bits = law(seed, tree, depth, i);
            double score = law_finish(bits) == FINISH_FAILED ? -2 : law_score(bits);
            if (score > best_score) {
                best_score = score;
                best = law_finish(bits);
            }
        }
        if (best != FINISH_STEP || depth == max_steps)
            return depth;
    }
}

static void equals_separate_greedy_runs(void **state)
{
    (void)state;
    enum { TREES = 3, M = 4 };
    for (uint64_t seed = 0; seed < 2000; seed++) {
        struct tree trees[TREES];
        for (uint32_t i = 0; i < TREES; i++) {
            tree_init(&trees[i], i, TREES * M, M);
            assert_int_equal(trees[i].view.trees, TREES);
            plan(&trees[i]);
        }
        /* any order of progress: a random tree moves next */
        for (uint32_t left = TREES, turn = 0; left > 0; turn++) {
            struct tree *t = &trees[rng_u64(seed, RNG_TEST, 99, turn) % TREES];
            if (t->done)
                continue;
            step(t, seed);
            left -= t->done;
        }
        for (uint32_t i = 0; i < TREES; i++) {
            uint32_t levels = greedy_levels(seed, i, M, 40);
            assert_int_equal(trees[i].view.nodes_len, levels * M);
            assert_int_equal(trees[i].plan.finals_len, M);
            for (uint32_t k = 0; k < M; k++)
                assert_int_equal(trees[i].finals[k], (levels - 1) * M + k);
        }
    }
}

static void order_does_not_matter(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct tree ab[2], ba[2];
        for (uint32_t i = 0; i < 2; i++) {
            tree_init(&ab[i], i, 8, 4);
            tree_init(&ba[i], i, 8, 4);
            plan(&ab[i]);
            plan(&ba[i]);
        }
        for (uint32_t i = 0; i < 2; i++) {
            while (!ab[i].done)
                step(&ab[i], seed);
            while (!ba[1 - i].done)
                step(&ba[1 - i], seed);
        }
        for (uint32_t i = 0; i < 2; i++) {
            assert_int_equal(ab[i].view.nodes_len, ba[i].view.nodes_len);
            assert_memory_equal(ab[i].nodes, ba[i].nodes, sizeof(ab[i].nodes));
            assert_memory_equal(ab[i].finals, ba[i].finals, sizeof(ab[i].finals));
        }
    }
}

static void multiples_only(void **state)
{
    (void)state;
    const double values[] = {4, 40};
    assert_int_equal(strategy_dvts.trees(4, values), 1);
    assert_int_equal(strategy_dvts.trees(64, values), 16);
    assert_int_equal(strategy_dvts.trees(6, values), 0);
    assert_int_equal(strategy_dvts.trees(2, values), 0);
}

/* One level, then: which node do the children continue? NO_ORDINAL: the tree is finished. */
static uint32_t continued(const struct node_view *level, uint32_t width)
{
    struct tree t;
    tree_init(&t, 0, width, width);
    plan(&t);
    assert_int_equal(t.plan.parents_len, width);
    for (uint32_t i = 0; i < width; i++) {
        assert_int_equal(t.parents[i], NO_ORDINAL);
        add(&t, NO_ORDINAL, level[i].finish, level[i].score);
    }
    plan(&t);
    if (t.done)
        return NO_ORDINAL;
    for (uint32_t i = 1; i < width; i++)
        assert_int_equal(t.parents[i], t.parents[0]);
    return t.parents[0];
}

static void ranks(void **state)
{
    (void)state;
    const struct node_view tie[] = {{.finish = FINISH_STEP, .score = .4},
                                    {.finish = FINISH_STEP, .score = .6},
                                    {.finish = FINISH_STEP, .score = .6}};
    assert_int_equal(continued(tie, 3), 1);
    const struct node_view failed[] = {{.finish = FINISH_FAILED, .score = .9},
                                       {.finish = FINISH_STEP, .score = -1},
                                       {.finish = FINISH_STEP, .score = 0}};
    assert_int_equal(continued(failed, 3), 2); /* a score of 0 beats none, none beats failed */
    assert_int_equal(continued(failed, 2), 1);
    assert_int_equal(continued(failed, 1), NO_ORDINAL);
    const struct node_view finished[] = {{.finish = FINISH_STEP, .score = .5}, {.finish = FINISH_STOP, .score = .7}};
    assert_int_equal(continued(finished, 2), NO_ORDINAL);
    const struct node_view worse[] = {{.finish = FINISH_STEP, .score = .7}, {.finish = FINISH_STOP, .score = .7}};
    assert_int_equal(continued(worse, 2), 0);
}

static void steps_are_bounded(void **state)
{
    (void)state;
    struct tree t;
    tree_init(&t, 0, 2, 2);
    t.values[MAX_STEPS] = 3;
    for (plan(&t); !t.done; plan(&t))
        for (uint32_t i = 0; i < 2; i++)
            add(&t, t.parents[i], FINISH_STEP, .5);
    assert_int_equal(t.view.nodes_len, 6);
    assert_int_equal(t.finals[0], 4);
    assert_int_equal(t.finals[1], 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_separate_greedy_runs),
        cmocka_unit_test(order_does_not_matter),
        cmocka_unit_test(multiples_only),
        cmocka_unit_test(ranks),
        cmocka_unit_test(steps_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
