/* Keeping, killing, forking and starting paths by what the generator foresees, by hand. */
#include "broker/policy/policy.h"
#include "common/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

enum { ALPHA, BETA, START, FORK, MAX_STEPS, NODES = 64, N = 4 };

struct fixture {
    struct node_view nodes[NODES];
    float features[NODES][2];
    double options[POLICY_OPTIONS_MAX];
    uint64_t record, next;
    uint32_t step; /* tokens of a step */
    uint32_t parents[LIMIT_TREE_N], finals[LIMIT_TREE_N];
    struct tree_view view;
    struct plan plan;
};

static void fixture_init(struct fixture *f, double alpha)
{
    *f = (struct fixture){.options = {alpha, 0, 2, 0, 40}, .step = 50};
    f->view = (struct tree_view){.trees = 1, .n = N, .nodes = f->nodes, .record = &f->record, .options = f->options};
    f->plan = (struct plan){.parents = f->parents, .finals = f->finals, .record = &f->next, .cap = LIMIT_TREE_N};
}

static void plan(struct fixture *f)
{
    strategy_zip_rc.plan(&f->view, &f->plan);
    f->record = f->next;
}

static void settle(struct fixture *f, enum finish finish, double right, double tokens)
{
    uint32_t i = f->view.nodes_len++;
    f->features[i][0] = (float)right;
    f->features[i][1] = (float)tokens;
    f->nodes[i] = (struct node_view){.parent = NO_ORDINAL,
                                     .depth = 1,
                                     .finish = finish,
                                     .tokens = f->step,
                                     .have = 1u << FEATURE_FORESEEN_REWARD | 1u << FEATURE_FORESEEN_TOKENS,
                                     .features = f->features[i]};
}

static bool goes_on(const struct fixture *f, uint32_t node)
{
    for (uint32_t i = 0; i < f->plan.parents_len; i++)
        if (f->parents[i] == node)
            return true;
    return false;
}

/* E[max] of .6 and .5 is .8: killing the second is right if and only if its tokens cost more than .2. */
static void the_second_must_pay(void **state)
{
    (void)state;
    static struct fixture f;
    const struct {
        double alpha;
        bool kept;
    } rows[] = {{.0019, true}, {.0021, false}};
    for (int i = 0; i < 2; i++) {
        fixture_init(&f, rows[i].alpha);
        plan(&f);
        assert_int_equal(f.plan.parents_len, 2); /* `start` of them */
        settle(&f, FINISH_STEP, .6, 100);
        settle(&f, FINISH_STEP, .5, 100);
        plan(&f);
        assert_true(goes_on(&f, 0));
        assert_int_equal(goes_on(&f, 1), rows[i].kept);
        assert_int_equal(f.plan.finals_len, 0);
    }
}

/* A fork is a second draw: .36 of a right one are left by the first. A start is worth the mean of the first steps. */
static void forks_and_starts(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, .0005);
    f.options[FORK] = 1;
    plan(&f);
    settle(&f, FINISH_STEP, .9, 100);
    settle(&f, FINISH_STEP, .1, 900);
    plan(&f);
    assert_int_equal(f.plan.parents_len, 2); /* .9 - .05, then .09 - .05, then .009 - .05 */
    assert_int_equal(f.parents[0], 0);
    assert_int_equal(f.parents[1], 0);
    fixture_init(&f, .0005);
    plan(&f);
    settle(&f, FINISH_STEP, .2, 800);
    settle(&f, FINISH_STEP, .6, 100);
    plan(&f);
    assert_int_equal(f.plan.parents_len, 1); /* a start: .4 * .4 - .25, not worth it */
    assert_int_equal(f.parents[0], 1);
    f.options[ALPHA] = .0001;
    f.view.nodes_len = 0;
    f.record = 2;
    settle(&f, FINISH_STEP, .2, 800);
    settle(&f, FINISH_STEP, .6, 100);
    plan(&f);
    assert_true(goes_on(&f, NO_ORDINAL));
    assert_int_equal(f.parents[0], 1);
}

/* The longest path is waited for: beta charges what it adds to the wait. */
static void waiting_costs(void **state)
{
    (void)state;
    static struct fixture f;
    for (int i = 0; i < 2; i++) {
        fixture_init(&f, 0);
        f.step = 1000; /* a start would take longest */
        f.options[BETA] = i == 0 ? .0009 : .0011;
        plan(&f);
        settle(&f, FINISH_STEP, .6, 100);
        settle(&f, FINISH_STEP, .5, 300); /* adds .2, and 200 to the wait */
        plan(&f);
        assert_int_equal(goes_on(&f, 1), i == 0);
    }
}

/* What has ended counts at no price; the last path is never killed; everything ends. */
static void the_end(void **state)
{
    (void)state;
    static struct fixture f;
    fixture_init(&f, .01);
    plan(&f);
    settle(&f, FINISH_STEP, .1, 1000);
    settle(&f, FINISH_FAILED, 0, 0);
    plan(&f);
    assert_int_equal(f.plan.parents_len, 1); /* not worth it, but there is nothing else */
    assert_int_equal(f.parents[0], 0);
    settle(&f, FINISH_STOP, .3, 0);
    plan(&f);
    assert_int_equal(f.plan.parents_len, 0);
    assert_int_equal(f.plan.finals_len, 1);
    assert_int_equal(f.finals[0], 2);

    fixture_init(&f, 0); /* nothing costs anything: n paths, and no more than n times max_steps nodes */
    f.options[MAX_STEPS] = 3;
    plan(&f);
    settle(&f, FINISH_STOP, .5, 0);
    settle(&f, FINISH_STEP, .5, 10);
    plan(&f);
    assert_int_equal(f.plan.parents_len, 3); /* the path, and two starts: forks are off */
    for (int round = 0; round < 40 && f.plan.parents_len > 0; round++) {
        uint32_t more = f.plan.parents_len;
        for (uint32_t i = 0; i < more; i++)
            settle(&f, FINISH_FAILED, 0, 0);
        plan(&f);
    }
    assert_int_equal(f.plan.parents_len, 0);
    assert_true(f.view.nodes_len <= N * 3);
    assert_int_equal(f.plan.finals_len, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_must_pay),
        cmocka_unit_test(forks_and_starts),
        cmocka_unit_test(waiting_costs),
        cmocka_unit_test(the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
