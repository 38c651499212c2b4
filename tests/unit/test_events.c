/* test_events.c - the stream of events: one per fact that matters, in order, from any place, the same every time. */
#include "broker/events.h"
#include "common/rng.h"
#include "tests/unit/play.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

enum { PROMPTS = 4 };

static bool answer(const struct send *task, struct event *event, struct buf *blob)
{
    uint64_t bits = rng_mix(task->seed);
    if (task->key.kind == TASK_VERIFY) {
        event->verdict.verdict = (struct verdict){bits % 2 == 0 ? OUTCOME_PASS : OUTCOME_UNKNOWN, .5};
        return true;
    }
    if (task->key.tree == NO_ID && task->key.prompt == 2 && task->key.item == 1)
        return false; /* fails for good */
    const unsigned char head[4] = {2, 0, 0, 0};
    buf_put(blob, head, sizeof head);
    buf_puts(blob, "42");
    text_pack(slice_of("so 42\n"), blob);
    event->result.class = 1 + bits % 3;
    event->result.result = (struct result){.finish = task->step && bits % 10 < 6 ? FINISH_STEP : FINISH_STOP,
                                           .tokens_out = 3,
                                           .features = {1u << FEATURE_LP_MEAN, {[FEATURE_LP_MEAN] = -.25}}};
    return true;
}

struct run {
    struct play play;
    char dir[64];
};

static void run_new(struct run *run)
{
    struct error error;
    struct journal *journal;
    strcpy(run->dir, "/tmp/drover-events-XXXXXX");
    assert_non_null(mkdtemp(run->dir));
    assert_int_equal(journal_open(run->dir, &(struct journal_options){.map_start = 1 << 20}, &journal, &error), 0);
    run->play = play_new(journal);
    run->play.answer = answer;
    put_prompts(&run->play, PROMPTS, 0);
    put_model(&run->play, "m");
    put_sweep(&run->play, "s", 0, 0);
    put_arm(&run->play, 0, (struct arm_text){"vote", "sample", "uniform", "none", "majority", 6, NO_ID, NULL, 0});
    put_arm(&run->play, 1, (struct arm_text){"tree", "particles", "uniform", "none", "best", 4, 1, NULL, 0});
    play_submit(&run->play);
    play_hello(&run->play, PLAY_WORKER, "w", false, "sim", 4);
    play_hello(&run->play, PLAY_VERIFIER, "v", true, "check", 4);
    play_tasks(&run->play);
}

static void run_clear(struct run *run)
{
    char command[100];
    journal_close(&run->play.journal);
    play_clear(&run->play);
    snprintf(command, sizeof command, "rm -r '%s'", run->dir);
    assert_int_equal(system(command), 0);
}

struct lines {
    struct buf all;
    struct seq last, first;
    uint32_t len, end; /* end: put refuses this line */
};

static int put_line(void *arg, struct seq seq, struct slice line)
{
    struct lines *lines = arg;
    if (++lines->len == lines->end)
        return ERR_CLOSED;
    assert_true(lines->len == 1 || seq_before(lines->last, seq));
    if (lines->len == 1)
        lines->first = seq;
    lines->last = seq;
    buf_put(&lines->all, line.data, line.len);
    buf_puts(&lines->all, "\n");
    return 0;
}

/* Until the journal ends; a refused line is tried again, as it is when Redis was away. */
static struct lines lines_of(const struct run *run, struct events_options options, struct seq from, uint32_t refuse)
{
    struct lines lines = {.end = refuse};
    struct buf facts = {0}, texts = {0};
    struct error error = {""};
    options.journal = run->play.journal;
    struct events *events = events_new(&options);
    assert_int_equal(events_skip(events, from.commit, &error), 0);
    while (journal_commit(run->play.journal, events_next(events), &facts, &texts, &error) == 0) {
        struct seq behind = lines.len == 0 ? from : (struct seq){lines.last.commit, lines.last.index + 1};
        int rc = events_commit(events, buf_slice(&facts), buf_slice(&texts), behind, put_line, &lines, &error);
        if (rc == ERR_CLOSED) {
            lines.end = 0;
            lines.len--;
        } else if (rc != 0) {
            fail_msg("%s", error.text);
        }
    }
    events_free(&events);
    buf_clear(&facts);
    buf_clear(&texts);
    return lines;
}

static uint32_t facts_of(const struct run *run, enum fact_type type)
{
    struct fact fact;
    uint32_t found = 0;
    for (size_t at = 0; at < run->play.facts.len;) {
        assert_int_equal(fact_get(buf_slice(&run->play.facts), &at, &fact), 0);
        found += fact.type == type;
    }
    return found;
}

static uint32_t count(const struct lines *lines, const char *text)
{
    uint32_t found = 0;
    for (const char *at = lines->all.data; (at = strstr(at, text)) != NULL; at++)
        found++;
    return found;
}

static void one_line_per_fact_that_matters(void **state)
{
    (void)state;
    struct run run;
    run_new(&run);
    struct lines lines = lines_of(&run, (struct events_options){0}, (struct seq){0}, 0);
    assert_int_equal(count(&lines, "\"event\":\"rollout\"") + count(&lines, "\"event\":\"node\""),
                     facts_of(&run, FACT_result));
    assert_true(count(&lines, "\"event\":\"node\"") > 0);
    assert_int_equal(count(&lines, "\"event\":\"verdict\""), facts_of(&run, FACT_verdict));
    assert_int_equal(count(&lines, "\"event\":\"decide\""), facts_of(&run, FACT_decide));
    assert_int_equal(count(&lines, "\"event\":\"failed\""), 1);
    assert_int_equal(count(&lines, "\"event\":\"tree\""), facts_of(&run, FACT_finish));
    assert_non_null(strstr(lines.all.data, "{\"seq\":\"1-1\",\"event\":\"broker\",\"epoch\":1}\n"));
    assert_non_null(strstr(lines.all.data, "\"event\":\"rollout\",\"sweep\":\"s\",\"model\":\"m\",\"pool\":0,"
                                           "\"prompt\":\"p0\",\"ordinal\":0,\"finish\":\"stop\""));
    assert_non_null(strstr(lines.all.data, "\"features\":{\"lp_mean\":-0.25},\"answer\":\"42\"}\n"));
    assert_non_null(strstr(lines.all.data, "\"outcome\":\"unknown\",\"score\":null"));
    assert_non_null(
        strstr(lines.all.data, "\"event\":\"state\",\"sweep\":\"s\",\"state\":\"done\",\"reason\":\"\"}\n"));
    assert_null(strstr(lines.all.data, "\"text\""));
    buf_clear(&lines.all);
    lines = lines_of(&run, (struct events_options){.texts = true}, (struct seq){0}, 0);
    assert_int_equal(count(&lines, ",\"answer\":\"42\",\"text\":\"so 42\\n\"}\n"), facts_of(&run, FACT_result));
    buf_clear(&lines.all);
    run_clear(&run);
}

static void any_place_gives_the_rest_of_the_same(void **state)
{
    (void)state;
    struct run run;
    run_new(&run);
    struct lines all = lines_of(&run, (struct events_options){0}, (struct seq){0}, 0);
    for (uint64_t commit = 1; commit <= journal_next(run.play.journal); commit++) {
        struct seq from = {commit, commit % 7};
        struct lines rest = lines_of(&run, (struct events_options){0}, from, 0);
        assert_true(rest.len <= all.len);
        assert_true(rest.len == 0 || !seq_before(rest.first, from));
        assert_string_equal(rest.len == 0 ? "" : rest.all.data, all.all.data + all.all.len - rest.all.len);
        if (rest.len < all.len && rest.len > 0) { /* and the line before it is before it */
            const char *line = all.all.data + all.all.len - rest.all.len - 1;
            while (line > all.all.data && line[-1] != '\n')
                line--;
            struct seq before;
            const char *text = line + strlen("{\"seq\":\"");
            assert_true(seq_parse((struct slice){text, (size_t)(strchr(text, '"') - text)}, &before));
            assert_true(seq_before(before, from));
        }
        buf_clear(&rest.all);
    }
    buf_clear(&all.all);
    run_clear(&run);
}

static void a_refused_line_is_given_again(void **state)
{
    (void)state;
    struct run run;
    run_new(&run);
    struct lines all = lines_of(&run, (struct events_options){0}, (struct seq){0}, 0);
    for (uint32_t refuse = 1; refuse <= all.len; refuse++) {
        struct lines again = lines_of(&run, (struct events_options){0}, (struct seq){0}, refuse);
        assert_string_equal(again.all.data, all.all.data);
        buf_clear(&again.all);
    }
    buf_clear(&all.all);
    run_clear(&run);
}

static void one_sweep_alone(void **state)
{
    (void)state;
    struct run run;
    run_new(&run);
    struct lines all = lines_of(&run, (struct events_options){0}, (struct seq){0}, 0);
    struct lines mine = lines_of(&run, (struct events_options){.sweep = "s"}, (struct seq){0}, 0);
    struct lines none = lines_of(&run, (struct events_options){.sweep = "t"}, (struct seq){0}, 0);
    assert_string_equal(mine.all.data, all.all.data);
    assert_int_equal(none.len, 1); /* the broker's start is everybody's */
    buf_clear(&all.all);
    buf_clear(&mine.all);
    buf_clear(&none.all);
    run_clear(&run);
}

static int put_nothing(void *arg, struct seq seq, struct slice line)
{
    (void)arg;
    (void)seq;
    (void)line;
    return 0;
}

static void what_does_not_follow_is_refused(void **state)
{
    (void)state;
    const struct fact bad[] = {
        {.type = FACT_sweep, .sweep = {.id = 3}},
        {.type = FACT_prompt, .prompt = {.set = 1}},
        {.type = FACT_pool},
        {.type = FACT_arm},
        {.type = FACT_state, .state = {.sweep = 1}},
        {.type = FACT_result, .result = {.lease = 9}},
        {.type = FACT_verdict, .verdict = {.lease = 9}},
        {.type = FACT_decide, .decide = {.arm = 1}},
        {.type = FACT_voided, .voided = {.pool = 1}},
        {.type = FACT_give_up, .give_up = {.owner = 5, .tree = NO_ID}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buf facts = {0};
        struct error error = {""};
        struct events *events = events_new(&(struct events_options){0});
        fact_put(&facts, &bad[i]);
        assert_int_equal(
            events_commit(events, buf_slice(&facts), (struct slice){0}, (struct seq){0}, put_nothing, NULL, &error),
            ERR_CORRUPT);
        assert_non_null(strstr(error.text, "commit 1 of the journal"));
        events_free(&events);
        buf_clear(&facts);
    }
}

static int commit_facts(struct events *events, const struct fact *facts, size_t len)
{
    struct buf run = {0};
    struct error error;
    for (size_t i = 0; i < len; i++)
        fact_put(&run, &facts[i]);
    int rc = events_commit(events, buf_slice(&run), slice_of("{}"), (struct seq){0}, put_nothing, NULL, &error);
    buf_clear(&run);
    return rc;
}

/* A commit about lease 1 of the first rollout, after `then`. */
static int result_after(const struct fact *then, size_t len)
{
    const struct fact world[] = {
        {.type = FACT_set, .set = {.len = 2}},
        {.type = FACT_prompt, .prompt = {.ref_commit = 1, .ref_len = 2}},
        {.type = FACT_prompt, .prompt = {.ref_commit = 1, .ref_len = 2}},
        {.type = FACT_model},
        {.type = FACT_pool},
        {.type = FACT_sweep},
        {.type = FACT_arm},
        {.type = FACT_lease, .lease = {.lease = 1, .tree = NO_ID, .verifier = NO_ID}},
        {.type = FACT_lost, .lost = {.lease = 1, .why = LOST_SILENT}},
        {.type = FACT_voided, .voided = {.from = 9}}, /* reads the names of the prompts, which no later commit can */
        {.type = FACT_voided, .voided = {.prompt = 1, .from = 9}},
    };
    const struct fact result = {.type = FACT_result, .result = {.lease = 1}};
    struct events *events = events_new(&(struct events_options){0});
    assert_int_equal(commit_facts(events, world, sizeof world / sizeof world[0]), 0);
    assert_int_equal(commit_facts(events, then, len), 0);
    int rc = commit_facts(events, &result, 1);
    events_free(&events);
    return rc;
}

/* A lease that was lost counts until somebody else has brought the result; then it is forgotten. */
static void lost_leases_are_kept_while_they_may_win(void **state)
{
    (void)state;
    const struct fact again[] = {
        {.type = FACT_lease, .lease = {.lease = 2, .tree = NO_ID, .verifier = NO_ID}},
        {.type = FACT_lease, .lease = {.lease = 3, .tree = NO_ID, .item = 1, .verifier = NO_ID}},
        {.type = FACT_result, .result = {.lease = 3}},
        {.type = FACT_voided, .voided = {.prompt = 1}},
        {.type = FACT_voided, .voided = {.from = 1}},
        {.type = FACT_result, .result = {.lease = 2}},
    };
    const struct fact given_up = {.type = FACT_give_up, .give_up = {.tree = NO_ID, .verifier = NO_ID}};
    const struct fact voided = {.type = FACT_voided};
    assert_int_equal(result_after(again, 5), 0); /* the others are about something else */
    assert_int_equal(result_after(again, 6), ERR_CORRUPT);
    assert_int_equal(result_after(&given_up, 1), ERR_CORRUPT);
    assert_int_equal(result_after(&voided, 1), ERR_CORRUPT);
}

static void sequence_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
        struct seq seq;
    } cases[] = {
        {"12-3", true, {12, 3}},
        {"12", true, {12, 0}},
        {"18446744073709551615-4294967295", true, {UINT64_MAX, UINT32_MAX}},
        {"18446744073709551616", false, {0}},
        {"1-4294967296", false, {0}},
        {"", false, {0}},
        {"-1", false, {0}},
        {"1-", false, {0}},
        {"1-2-3", false, {0}},
        {" 1", false, {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct seq seq = {0};
        struct buf text = {0};
        assert_int_equal(seq_parse(slice_of(cases[i].text), &seq), cases[i].good);
        if (!cases[i].good)
            continue;
        assert_true(seq.commit == cases[i].seq.commit && seq.index == cases[i].seq.index);
        seq_put(&text, seq);
        assert_memory_equal(text.data, cases[i].text, strlen(cases[i].text));
        buf_clear(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_line_per_fact_that_matters),
        cmocka_unit_test(any_place_gives_the_rest_of_the_same),
        cmocka_unit_test(a_refused_line_is_given_again),
        cmocka_unit_test(one_sweep_alone),
        cmocka_unit_test(what_does_not_follow_is_refused),
        cmocka_unit_test(sequence_numbers),
        cmocka_unit_test(lost_leases_are_kept_while_they_may_win),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
