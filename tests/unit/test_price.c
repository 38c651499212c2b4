/* test_price.c - a price that follows the arm's budget, through the core: where it settles, and that it is a fact. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "broker/policy/kernel_stop.h"
#include "common/rng.h"
#include "play.h"

#include <math.h>
#include <stdio.h>

enum { OPT_PRICE, OPT_ADAPT = 5 }; /* rows of `value` */

struct world {
    uint32_t prompts, n, workers, credits;
    uint64_t budget;
    double price, adapt;
    bool strict;
    bool mixed; /* some prompts agree, some do not; else all rollouts do */
};

static bool alike(const struct send *task, struct event *event, struct buf *text)
{
    (void)task;
    (void)text;
    event->result.result = (struct result){.tokens_in = 3, .tokens_out = 7};
    event->result.class = 5;
    return true;
}

/* Answers by chance, of one likely answer and seven others; a few have none. */
static bool mixed(const struct send *task, struct event *event, struct buf *text)
{
    alike(task, event, text);
    const struct key *key = &task->key;
    uint64_t draw = rng_u64(7, RNG_TEST, key->prompt, key->item) >> 8, likely = 20 + key->prompt * 13 % 80;
    event->result.class = draw % 100 < likely ? 5 : draw % 101 == 0 ? 0 : 6 + draw % 7;
    return true;
}

static void put_arm_of(struct play *play, const struct world *w)
{
    double options[4][POLICY_OPTIONS_MAX] = {{0}};
    for (int i = 0; stop_value.options[i].name != NULL; i++)
        options[2][i] = stop_value.options[i].fallback;
    options[2][OPT_PRICE] = w->price;
    options[2][OPT_ADAPT] = w->adapt;
    fact_put(&play->definitions, &(struct fact){.type = FACT_arm,
                                                .arm = {.name = slice_of("a"),
                                                        .strategy = slice_of("sample"),
                                                        .allocator = slice_of("uniform"),
                                                        .stopper = slice_of("value"),
                                                        .selector = slice_of("majority"),
                                                        .n = w->n,
                                                        .verifier = NO_ID,
                                                        .strict = w->strict,
                                                        .lookahead = 8,
                                                        .rollouts = w->budget,
                                                        .options = {(const char *)options, sizeof options}}});
}

static void greet(struct play *play, const struct world *w)
{
    for (uint32_t i = 0; i < w->workers; i++)
        play_hello(play, PLAY_WORKER + i, "w", false, "sim", w->credits);
}

static void define(struct play *play, const struct world *w)
{
    put_prompts(play, w->prompts, 0);
    put_model(play, "m");
    put_sweep(play, "s", NO_ID, 0);
    put_arm_of(play, w);
    play_submit(play);
    assert_int_equal(play->update.code, 0);
}

static struct play begin(const struct world *w)
{
    struct play play = play_new(NULL);
    play.answer = w->mixed ? mixed : alike;
    greet(&play, w);
    define(&play, w);
    return play;
}

static struct play whole(const struct world *w)
{
    struct play play = begin(w);
    play_tasks(&play);
    assert_int_equal(core_sweep(play.core, 0).state, SWEEP_DONE);
    return play;
}

/* The facts of prices and decisions, as text. */
static struct buf prices(const struct play *play)
{
    struct buf said = {0};
    struct fact fact;
    for (size_t at = 0; at < play->facts.len;) {
        assert_int_equal(fact_get(buf_slice(&play->facts), &at, &fact), 0);
        if (fact.type == FACT_price || fact.type == FACT_decide)
            fact_print(&said, &fact);
    }
    return said;
}

/* Replays with every decision made again. */
static void audited(const struct play *play)
{
    struct core *core = core_new(&(struct core_options){.lease_ms = 1000});
    struct error error = {""};
    struct fact fact;
    core_audit_begin(core);
    for (size_t at = 0; at < play->facts.len;) {
        assert_int_equal(fact_get(buf_slice(&play->facts), &at, &fact), 0);
        if (core_audit_fact(core, &fact, &error) != 0)
            fail_msg("%s", error.text);
    }
    assert_int_equal(core_audit_end(core, &error), 0);
    assert_int_equal(core_check(core, &error), 0);
    core_free(&core);
}

static void dump_holds_the_price(const struct play *play)
{
    struct buf first = {0}, second = {0};
    struct core *core = core_new(&(struct core_options){.lease_ms = 1000});
    struct fact fact;
    core_dump(play->core, &first);
    for (size_t at = 0; at < first.len;) {
        assert_int_equal(fact_get(buf_slice(&first), &at, &fact), 0);
        assert_int_equal(core_apply(core, &fact), 0);
    }
    core_dump(core, &second);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.data, second.data, first.len);
    assert_true(core_arm(core, 0).price == core_arm(play->core, 0).price);
    core_free(&core);
    buf_clear(&first);
    buf_clear(&second);
}

/* What was set first behind so many decided prompts. */
static struct fact_price price_behind(const struct play *play, uint32_t decided)
{
    struct fact fact;
    for (size_t at = 0; at < play->facts.len;) {
        assert_int_equal(fact_get(buf_slice(&play->facts), &at, &fact), 0);
        if (fact.type == FACT_price && fact.price.decided >= decided)
            return fact.price;
    }
    fail_msg("no price behind %u prompts", decided);
    return (struct fact_price){0};
}

static void status_tells_the_price(const struct play *play)
{
    struct buf json = {0}, text = {0}, wanted = {0};
    core_status(play->core, "s", &json);
    status_text(play->core, "s", &text);
    buf_printf(&wanted, "price of one more rollout %.3g in arm a", core_arm(play->core, 0).price);
    assert_non_null(strstr(json.data, "\"price\":"));
    assert_non_null(strstr(text.data, wanted.data));
    buf_clear(&json);
    buf_clear(&text);
    buf_clear(&wanted);
}

/* All rollouts of all prompts agree, so k of a prompt are taken where the gain of one more, a closed form, is below the
 * price: with m left for each prompt, k <= m < k + 1, the price has to settle where k turns into k + 1. */
static void it_settles_where_spending_is_the_budget(void **state)
{
    (void)state;
    for (double start = 1e-8; start < 2; start *= 100) {
        struct world w = {.prompts = 1000,
                          .n = 64,
                          .workers = 2,
                          .credits = 8,
                          .budget = 4500,
                          .price = start,
                          .adapt = 1,
                          .strict = true};
        struct play play = whole(&w);
        assert_in_range(core_arm(play.core, 0).charged.rollouts, w.budget - w.budget / SPENT_STEPS, w.budget);
        struct fact_price half = price_behind(&play, w.prompts / 2), later = price_behind(&play, 3 * w.prompts / 4);
        double left = (double)w.budget * (1 - half.spent) / (w.prompts - half.decided);
        assert_true(fabs(log(later.price / flip_index((uint32_t)left, 0))) < .25);
        uint32_t late = 0; /* only a few of the last prompts may find the budget spent */
        for (uint32_t p = 0; p < w.prompts; p++)
            late += core_cell(play.core, 0, p).decided != DECIDED_STOPPER;
        assert_in_range(late, 0, w.prompts / SPENT_STEPS);
        play_clear(&play);
    }
}

/* Without `adapt` there is no price but the option's, whatever is spent. */
static void a_fixed_price_is_no_fact(void **state)
{
    (void)state;
    struct world w = {
        .prompts = 100, .n = 64, .workers = 2, .credits = 8, .budget = 450, .price = 1e-6, .strict = true};
    struct play play = whole(&w);
    struct buf said = prices(&play);
    assert_null(strstr(said.data, "price"));
    assert_true(core_arm(play.core, 0).price == 0);
    assert_int_equal(core_cell(play.core, 0, 99).decided, DECIDED_BUDGET); /* spent long before */
    buf_clear(&said);
    play_clear(&play);
}

static const struct world rough = {.prompts = 300,
                                   .n = 32,
                                   .workers = 1,
                                   .credits = 1,
                                   .budget = 1500,
                                   .price = 1e-6,
                                   .adapt = 1,
                                   .strict = true,
                                   .mixed = true};

static void strict_prices_are_those_of_any_fleet(void **state)
{
    (void)state;
    struct play one = whole(&rough);
    struct buf first = prices(&one);
    assert_non_null(strstr(first.data, "price"));
    for (uint32_t workers = 2; workers < 5; workers++) {
        struct world w = rough;
        w.workers = workers;
        w.credits = 3 * workers;
        struct play many = whole(&w);
        struct buf second = prices(&many);
        assert_string_equal(first.data, second.data);
        assert_int_equal(core_digest(one.core, 0), core_digest(many.core, 0));
        buf_clear(&second);
        play_clear(&many);
    }
    audited(&one);
    dump_holds_the_price(&one);
    status_tells_the_price(&one);
    buf_clear(&first);
    play_clear(&one);
}

/* Begins with what the facts say; the fleet is gone. */
static void restart(struct play *play, const struct world *w)
{
    struct play next = {
        .core = core_new(&(struct core_options){.lease_ms = 1000}), .now_ms = 1000, .answer = play->answer};
    struct fact fact;
    for (size_t at = 0; at < play->facts.len;) {
        assert_int_equal(fact_get(buf_slice(&play->facts), &at, &fact), 0);
        assert_int_equal(core_apply(next.core, &fact), 0);
    }
    buf_put(&next.facts, play->facts.data, play->facts.len);
    core_start(next.core, next.now_ms, true, &next.update);
    play_commit(&next);
    assert_true(core_arm(next.core, 0).price == core_arm(play->core, 0).price);
    assert_int_equal(core_arm(next.core, 0).charged.rollouts, core_arm(play->core, 0).charged.rollouts);
    play_clear(play);
    *play = next;
    greet(play, w);
}

/* Killed after so many answers, again and again. */
static struct play killed_after(const struct world *w, uint32_t answers)
{
    struct play play = begin(w);
    for (play.left = answers; play_tasks(&play) && play.left == 0; play.left = answers)
        restart(&play, w);
    assert_int_equal(core_sweep(play.core, 0).state, SWEEP_DONE);
    return play;
}

static void a_kill_changes_no_price(void **state)
{
    (void)state;
    struct play calm = whole(&rough);
    struct buf first = prices(&calm);
    for (uint32_t answers = 17; answers < 400; answers += 150) {
        struct world w = rough;
        w.workers = 3;
        w.credits = 4;
        struct play killed = killed_after(&w, answers);
        struct buf second = prices(&killed);
        assert_string_equal(first.data, second.data);
        audited(&killed);
        buf_clear(&second);
        play_clear(&killed);
    }
    buf_clear(&first);
    play_clear(&calm);
}

/* order: arrival: what was delivered before a kill is not asked about again at the price of later, so the audit agrees. */
static void arrival_audits_through_kills(void **state)
{
    (void)state;
    struct world w = rough;
    w.strict = false;
    w.workers = 3;
    w.credits = 4;
    for (uint32_t answers = 11; answers < 200; answers += 31) {
        struct play killed = killed_after(&w, answers);
        struct arm_info arm = core_arm(killed.core, 0);
        assert_in_range(arm.charged.rollouts, w.budget * 9 / 10, w.budget);
        audited(&killed);
        dump_holds_the_price(&killed);
        play_clear(&killed);
    }
}

/* More budget for the same sweep: the price falls, and the arm goes on with those that ended for want of it. */
static void a_larger_budget_lowers_it(void **state)
{
    (void)state;
    struct world w = {.prompts = 200,
                      .n = 64,
                      .workers = 2,
                      .credits = 8,
                      .budget = 200,
                      .price = 1e-6,
                      .adapt = 1e-3,
                      .strict = true};
    struct play play = whole(&w);
    assert_int_equal(core_cell(play.core, 0, 199).decided, DECIDED_BUDGET);
    double before = core_arm(play.core, 0).price;
    w.budget = 100000;
    define(&play, &w);
    play_tasks(&play);
    assert_int_equal(core_cell(play.core, 0, 199).decided, DECIDED_STOPPER);
    assert_true(core_arm(play.core, 0).price < before);
    audited(&play);
    play_clear(&play);
}

/* A larger n opens prompts again that had counted as decided: its periods begin anew, and the price follows at once. */
static void a_larger_n_begins_a_period(void **state)
{
    (void)state;
    for (int strict = 0; strict < 2; strict++) {
        struct world w = {.prompts = 300,
                          .n = 4,
                          .workers = 2,
                          .credits = 8,
                          .budget = 1200,
                          .price = 1e-6,
                          .adapt = 1,
                          .strict = strict != 0,
                          .mixed = true};
        struct play play = whole(&w);
        assert_int_equal(core_cell(play.core, 0, 0).decided, DECIDED_CAP);
        w.n = 64;
        w.budget = 6000;
        size_t before = play.facts.len;
        define(&play, &w);
        uint32_t open = core_arm(play.core, 0).prompts - core_arm(play.core, 0).decided, prices = 0, late = 0;
        play_tasks(&play);
        struct fact fact;
        for (size_t at = before; at < play.facts.len;) {
            assert_int_equal(fact_get(buf_slice(&play.facts), &at, &fact), 0);
            prices += fact.type == FACT_price;
        }
        for (uint32_t p = 0; p < w.prompts; p++)
            late += core_cell(play.core, 0, p).decided == DECIDED_BUDGET;
        assert_in_range(open, w.prompts / 2, w.prompts);
        assert_in_range(prices, SPENT_STEPS / 2, 3 * SPENT_STEPS);
        assert_in_range(late, 0, w.prompts / 16);
        audited(&play);
        dump_holds_the_price(&play);
        play_clear(&play);
    }
}

/* A sweep that was replaced before it got anything folds nothing of what comes, before a restart and after it. */
static void a_replaced_sweep_is_charged_nothing(void **state)
{
    (void)state;
    struct world w = rough;
    w.strict = false;
    struct play play = begin(&w);
    play.left = 0;
    play_tasks(&play); /* asks for rollouts and gets none */
    restart(&play, &w);
    w.price = 1e-3;
    define(&play, &w);
    play.left = UINT32_MAX;
    play_tasks(&play);
    assert_int_equal(core_sweep(play.core, 0).state, SWEEP_REPLACED);
    assert_int_equal(core_sweep(play.core, 1).state, SWEEP_DONE);
    restart(&play, &w);
    assert_int_equal(core_arm(play.core, 0).charged.rollouts, 0);
    play_clear(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_settles_where_spending_is_the_budget),
        cmocka_unit_test(a_fixed_price_is_no_fact),
        cmocka_unit_test(strict_prices_are_those_of_any_fleet),
        cmocka_unit_test(a_kill_changes_no_price),
        cmocka_unit_test(arrival_audits_through_kills),
        cmocka_unit_test(a_larger_budget_lowers_it),
        cmocka_unit_test(a_larger_n_begins_a_period),
        cmocka_unit_test(a_replaced_sweep_is_charged_nothing),
    };
    return cmocka_run_group_tests_name("price", tests, NULL, NULL);
}
