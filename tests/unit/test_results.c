/* test_results.c - exported lines: order, contents, equal bytes for equal runs, damaged journals. */
#include "broker/prompt_id.h"
#include "broker/results.h"
#include "common/limits.h"
#include "common/rng.h"
#include "tests/unit/play.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

enum { PROMPTS = 5 };

static uint32_t slowness;     /* what differs between equal runs */
static struct slice detail;   /* behind every verdict, as a verifier sent it */
static bool detail_is_packed; /* in a text frame, as it should be */

/* The blob behind a ref: u32 length of the answer, the answer, a text frame. */
static void put_blob(struct buf *blob, const char *answer, const char *text)
{
    size_t len = strlen(answer);
    const unsigned char head[4] = {(unsigned char)len, (unsigned char)(len >> 8), 0, 0};
    buf_put(blob, head, sizeof head);
    buf_puts(blob, answer);
    text_pack(slice_of(text), blob);
}

static bool answer(const struct send *task, struct event *event, struct buf *blob)
{
    uint64_t bits = rng_mix(task->seed);
    if (task->key.kind == TASK_VERIFY) {
        event->verdict.verdict = (struct verdict){bits % 5 == 0   ? OUTCOME_UNKNOWN
                                                  : bits % 2 == 0 ? OUTCOME_PASS
                                                                  : OUTCOME_FAIL,
                                                  (double)(bits % 2)};
        if (detail_is_packed)
            text_pack(detail, blob);
        else
            buf_put(blob, detail.data, detail.len);
        return true;
    }
    if (task->key.tree == NO_ID && task->key.prompt == 2 && task->key.item == 1)
        return false; /* fails for good */
    char word[40], text[80];
    snprintf(word, sizeof word, "%s%u", bits % 7 == 0 ? "\xc3\xa9\"\n" : "a", (unsigned)(bits % 3));
    snprintf(text, sizeof text, "rollout %llx says %s", (unsigned long long)task->seed, word);
    put_blob(blob, bits % 6 == 0 ? "" : word, text);
    event->result.class = bits % 6 == 0 ? 0 : 1 + bits % 3;
    event->result.result = (struct result){
        .finish = task->step && bits % 10 < 6 ? FINISH_STEP : FINISH_STOP,
        .tokens_in = 8 + (task->key.tree != NO_ID && task->refs_len > 0 ? slowness : 0),
        .tokens_out = 1 + (uint32_t)(bits >> 8) % 20,
        .tokens_reread = slowness,
        .tokens_cached = slowness,
        .logprob_mode = task->key.prompt == 3 ? LOGPROB_SAMPLED : LOGPROB_RAW,
        .latency_ms = 5 + slowness,
        .features = {1u << FEATURE_LP_MEAN | 1u << FEATURE_ENT_TAIL,
                     {[FEATURE_LP_MEAN] = -.25, [FEATURE_ENT_TAIL] = 1.5}},
    };
    return true;
}

struct run {
    struct play play;
    struct core *core;
    char dir[64];
};

static void run_new(struct run *run, uint32_t credits, uint32_t slow)
{
    struct error error;
    strcpy(run->dir, "/tmp/drover-results-XXXXXX");
    assert_non_null(mkdtemp(run->dir));
    struct journal *journal;
    slowness = slow;
    assert_int_equal(journal_open(run->dir, &(struct journal_options){.map_start = 1 << 20}, &journal, &error), 0);
    run->play = play_new(journal);
    run->play.answer = answer;
    put_prompts(&run->play, PROMPTS, 0);
    put_model(&run->play, "m");
    put_sweep(&run->play, "s", 0, 0);
    put_arm(&run->play, 0, (struct arm_text){"vote", "sample", "uniform", "none", "majority", 12, NO_ID, NULL, 0});
    put_arm(&run->play, 1, (struct arm_text){"best", "sample", "uniform", "none", "best", 2, 1, NULL, 0});
    put_arm(&run->play, 2, (struct arm_text){"tree", "particles", "uniform", "none", "best", 4, 1, NULL, 0});
    put_arm(&run->play, 3, (struct arm_text){"drop", "sample", "elimination", "none", "first-pass", 12, 1, NULL, 0});
    play_submit(&run->play);
    play_hello(&run->play, PLAY_WORKER, "w", false, "sim", credits);
    play_hello(&run->play, PLAY_VERIFIER, "v", true, "check", credits);
    play_tasks(&run->play);
    run->core = play_replay(&run->play);
}

static void run_clear(struct run *run)
{
    char command[100];
    journal_close(&run->play.journal);
    play_clear(&run->play);
    core_free(&run->core);
    snprintf(command, sizeof command, "rm -r '%s'", run->dir);
    assert_int_equal(system(command), 0);
}

struct lines {
    struct buf all, stable; /* stable: without timing */
    uint32_t len, end;      /* end: put refuses this line */
};

static int put_line(void *arg, struct slice line)
{
    struct lines *lines = arg;
    char *text = strndup(line.data, line.len), *timing = strstr(text, ",\"timing\":{");
    assert_int_equal(line.data[line.len - 1], '\n');
    assert_non_null(timing);
    buf_put(&lines->all, line.data, line.len);
    buf_put(&lines->stable, text, (size_t)(timing - text));
    buf_puts(&lines->stable, "\n");
    free(text);
    return ++lines->len == lines->end ? ERR_CLOSED : 0;
}

static void lines_clear(struct lines *lines)
{
    buf_clear(&lines->all);
    buf_clear(&lines->stable);
}

static struct lines lines_of(const struct run *run, enum results_detail more)
{
    struct lines lines = {0};
    struct error error = {""};
    if (results_write(run->core, run->play.journal, 0, more, put_line, &lines, &error) != 0)
        fail_msg("%s", error.text);
    return lines;
}

static void one_line_per_delivered_rollout(void **state)
{
    (void)state;
    struct run run;
    run_new(&run, 4, 0);
    struct lines lines = lines_of(&run, RESULTS_PLAIN);
    uint32_t expected = 0;
    for (uint32_t p = 0; p < PROMPTS; p++) {
        uint32_t vote = core_cell(run.core, 0, p).delivered, best = core_cell(run.core, 1, p).delivered;
        expected += vote > best ? vote : best;
        for (uint32_t t = 0; t < core_arm(run.core, 2).trees; t++)
            expected += core_tree_nodes(run.core, 2, p, t);
    }
    assert_int_equal(core_sweep(run.core, 0).state, SWEEP_DONE);
    assert_int_equal(lines.len, expected);
    const char *first = "{\"sweep\":\"s\",\"model\":\"m\",\"prompt\":\"p0\",\"ordinal\":0,\"text\":\"rollout ";
    assert_memory_equal(lines.all.data, first, strlen(first));
    assert_non_null(strstr(lines.all.data, "\"arm\":\"tree\",\"n\":4,\"prompt\":\"p0\",\"tree\":0,\"node\":0,"
                                           "\"parent\":null"));
    assert_non_null(strstr(lines.all.data, "\"ordinal\":1,\"text\":null,\"answer\":null,\"finish\":\"failed\""));
    assert_non_null(strstr(lines.all.data, "{\"outcome\":\"unknown\",\"score\":null}"));
    assert_null(strstr(lines.all.data, "features"));
    char seed[60];
    struct key key;
    assert_true(core_delivered(run.core, 0, 0, 0, &key));
    snprintf(seed, sizeof seed, "\"seed\":%llu,", (unsigned long long)core_seed(run.core, &key));
    assert_non_null(strstr(lines.all.data, seed));
    snprintf(seed, sizeof seed, "\"text\":\"rollout %llx says", (unsigned long long)core_seed(run.core, &key));
    assert_non_null(strstr(lines.all.data, seed)); /* the text of the task that carried this seed */
    lines_clear(&lines);
    run_clear(&run);
}

static void equal_runs_give_equal_bytes(void **state)
{
    (void)state;
    struct run one, two;
    struct error error;
    uint64_t digests[2];
    run_new(&one, 1, 0);
    run_new(&two, 40, 3);
    struct lines a = lines_of(&one, RESULTS_FEATURES), b = lines_of(&two, RESULTS_FEATURES);
    assert_int_equal(a.len, b.len);
    assert_string_equal(a.stable.data, b.stable.data);
    assert_string_not_equal(a.all.data, b.all.data);
    assert_non_null(strstr(a.all.data, "\"logprobs\":\"sampled\",\"features\":{"));
    assert_non_null(strstr(a.all.data, "\"logprobs\":\"raw\",\"features\":{\"lp_mean\":-0.25,\"ent_tail\":1.5}"));
    assert_non_null(
        strstr(b.all.data, "\"timing\":{\"latency_ms\":8,\"raced\":false,\"tokens_reread\":3,\"tokens_cached\":3}"));
    assert_int_equal(results_digest(one.core, one.play.journal, 0, &digests[0], &error), 0);
    assert_int_equal(results_digest(two.core, two.play.journal, 0, &digests[1], &error), 0);
    assert_true(digests[0] == digests[1]);
    assert_true(digests[0] != 0);
    lines_clear(&a);
    lines_clear(&b);
    run_clear(&one);
    run_clear(&two);
}

static void put_may_end_it(void **state)
{
    (void)state;
    struct run run;
    struct error error;
    run_new(&run, 4, 0);
    struct lines lines = {.end = 3};
    assert_int_equal(results_write(run.core, run.play.journal, 0, RESULTS_PLAIN, put_line, &lines, &error), ERR_CLOSED);
    assert_int_equal(lines.len, 3);
    lines_clear(&lines);
    run_clear(&run);
}

/* A journal of as many commits whose texts are this, over and over. */
static void write_from(const struct run *run, struct slice text)
{
    struct error error = {""};
    struct buf texts = {0};
    struct lines lines = {0};
    struct journal *journal;
    char dir[64] = "/tmp/drover-results-XXXXXX", command[100];
    while (texts.len < 4096)
        buf_put(&texts, text.data, text.len);
    assert_non_null(mkdtemp(dir));
    assert_int_equal(journal_open(dir, &(struct journal_options){.map_start = 1 << 20}, &journal, &error), 0);
    for (uint64_t c = 1; c < journal_next(run->play.journal); c++)
        assert_int_equal(journal_append(journal, (struct slice){NULL, 0}, buf_slice(&texts), &error), 0);
    assert_int_equal(results_write(run->core, journal, 0, RESULTS_PLAIN, put_line, &lines, &error), ERR_CORRUPT);
    assert_non_null(strstr(error.text, "commit"));
    journal_close(&journal);
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    assert_int_equal(system(command), 0);
    buf_clear(&texts);
    lines_clear(&lines);
}

/* Texts that are no rollouts: an answer longer than all of it, an unknown codec, a frame that is cut. */
static void damaged_texts_are_named(void **state)
{
    (void)state;
    struct run run;
    run_new(&run, 4, 0);
    write_from(&run, (struct slice){"\xff", 1});
    write_from(&run, (struct slice){"\x03\x00\x00\x00", 4});
    write_from(&run, (struct slice){"\x00\x00\x00\x00\x07", 5});
    run_clear(&run);
}

/* Whether the line of this rollout or node has this text. */
static bool line_has(const struct lines *lines, const char *where, const char *text)
{
    for (const char *line = lines->all.data; *line != '\0'; line += strcspn(line, "\n") + 1) {
        char *one = strndup(line, strcspn(line, "\n"));
        bool here = strstr(one, where) != NULL, has = strstr(one, text) != NULL;
        free(one);
        if (here)
            return has;
    }
    fail_msg("no line has '%s'", where);
    return false;
}

/* Of the positions up to k that end in this node, or are this rollout, the first. */
static uint32_t first_at(const struct core *core, uint32_t arm, uint32_t prompt, uint32_t k, const struct key *key)
{
    struct key other;
    for (uint32_t i = 0; i < k; i++)
        if (core_delivered(core, arm, prompt, i, &other) && other.tree == key->tree && other.item == key->item)
            return i;
    return k;
}

/* What each arm made of every rollout is what the core decided. */
static void decisions_are_those_of_the_core(void **state)
{
    (void)state;
    struct run run;
    run_new(&run, 4, 0);
    struct lines lines = lines_of(&run, RESULTS_DECISIONS), plain = lines_of(&run, RESULTS_FEATURES);
    const char *const names[] = {"vote", "best", "tree", "drop"};
    assert_int_equal(lines.len, plain.len);
    assert_null(strstr(plain.all.data, "\"decisions\""));
    for (uint32_t a = 0; a < 4; a++)
        for (uint32_t p = 0; p < PROMPTS; p++) {
            struct cell_info cell = core_cell(run.core, a, p);
            struct key key;
            for (uint32_t k = 0; core_delivered(run.core, a, p, k, &key); k++) {
                char where[100], decision[200], selected[40];
                if (a == 2) /* one node may end several paths: the first is told */
                    snprintf(where, sizeof where, "\"prompt\":\"p%u\",\"tree\":%u,\"node\":%u,", p, key.tree, key.item);
                else
                    snprintf(where, sizeof where, "\"prompt\":\"p%u\",\"ordinal\":%u,", p, k);
                char winner[12] = "null";
                if (cell.winner != NO_ORDINAL)
                    snprintf(winner, sizeof winner, "%u", cell.winner);
                snprintf(decision, sizeof decision,
                         "{\"arm\":\"%s\",\"n\":%u,\"position\":%u,\"used\":%s,\"decided\":\"%s\",\"stop\":%u,"
                         "\"winner\":%s,",
                         names[a], core_arm(run.core, a).n, first_at(run.core, a, p, k, &key),
                         first_at(run.core, a, p, k, &key) < cell.stop ? "true" : "false", decided_text(cell.decided),
                         cell.stop, winner);
                assert_true(line_has(&lines, where, decision));
                snprintf(selected, sizeof selected, "\"%s\"", names[a]);
                if (k == cell.winner)
                    assert_true(line_has(&lines, where, selected));
            }
        }
    /* Of the two arms that cover, or take the majority, one rollout of a prompt is selected. */
    uint32_t votes = 0;
    for (const char *at = lines.all.data; (at = strstr(at, "\"selected\":[\"vote\"")) != NULL; at++)
        votes++;
    assert_int_equal(votes, PROMPTS);
    assert_true(strstr(lines.all.data, "\"class\":\"0000000000000001\"") != NULL);
    assert_true(strstr(lines.all.data, "\"class\":null") != NULL);
    lines_clear(&lines);
    lines_clear(&plain);
    run_clear(&run);
}

/* How the detail of every verdict is shown. */
static void expect_detail(struct slice told, bool packed, const char *shown)
{
    struct run run;
    detail = told;
    detail_is_packed = packed;
    run_new(&run, 4, 0);
    struct lines lines = lines_of(&run, RESULTS_FEATURES);
    uint32_t newlines = 0;
    for (size_t i = 0; i < lines.all.len; i++)
        newlines += lines.all.data[i] == '\n';
    assert_int_equal(newlines, lines.len); /* a line stays a line */
    if (shown == NULL)
        assert_null(strstr(lines.all.data, "\"detail\""));
    else if (strstr(lines.all.data, shown) == NULL)
        fail_msg("'%s' is not shown", shown);
    lines_clear(&lines);
    run_clear(&run);
    detail = (struct slice){0};
    detail_is_packed = false;
}

/* The broker stores details unread; whatever a verifier sent, every line stays JSON. */
static void details_are_shown_or_quoted(void **state)
{
    (void)state;
    static const char good[] = "{\"steps\": [0.5, 1],\n \"why\": \"\\u00e9\"}";
    char deep[200];
    memset(deep, '[', sizeof deep);
    memcpy(deep, "{\"a\":", 5);
    memset(deep + 100, ']', 95);
    deep[195] = '}';
    expect_detail(slice_of(good), true, ",\"detail\":{\"steps\":[0.5,1],\"why\":\"\xc3\xa9\"}}");
    expect_detail(slice_of("{}"), true, ",\"detail\":{}}");
    expect_detail(slice_of("no \"JSON\"\n}"), true, ",\"detail\":\"no \\\"JSON\\\"\\n}\"}");
    expect_detail(slice_of("{\"a\":1}}"), true, ",\"detail\":\"{\\\"a\\\":1}}\"}");
    expect_detail(slice_of("{\"a\":1,\"a\":2}"), true, ",\"detail\":\"{\\\"a\\\":1,\\\"a\\\":2}\"}");
    expect_detail(slice_of("{\"a\":1e999}"), true, ",\"detail\":\"{\\\"a\\\":1e999}\"}");
    expect_detail(slice_of("[1]"), true, ",\"detail\":\"[1]\"}");
    expect_detail(slice_of("{\"a\":\"\xff\"}"), true, ",\"detail\":\"{\\\"a\\\":\\\"\\ufffd\\\"}\"}");
    expect_detail((struct slice){deep, 196}, true, ",\"detail\":\"{\\\"a\\\":[[[");
    expect_detail((struct slice){"\0\0\0", 3}, true, ",\"detail\":\"\\u0000\\u0000\\u0000\"}");
    expect_detail(slice_of("\x07 no frame"), false, NULL);
    struct buf bomb = {0}, huge = {0}; /* unpacks to more than details may be */
    while (huge.len <= LIMIT_DETAIL)
        buf_puts(&huge, "0123456789abcdef");
    text_pack(buf_slice(&huge), &bomb);
    expect_detail(buf_slice(&bomb), false, NULL);
    buf_clear(&huge);
    buf_clear(&bomb);
}

static void ids_of_prompts(void **state)
{
    (void)state;
    static const struct {
        const char *record, *id;
    } cases[] = {
        {"{\"id\":\"x\\u0007\",\"prompt\":\"\"}", "x\a"},
        {"{\"id\":12}", "12"},
        {"{\"prompt\":\"\"}", "4"},
        {"{\"id\":null}", "4"},
        {"not json", "4"},
        {"", "4"},
        {"[1]", "4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf id = {0};
        prompt_id(slice_of(cases[i].record), 3, &id);
        assert_string_equal(id.data, cases[i].id);
        buf_clear(&id);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_line_per_delivered_rollout),
        cmocka_unit_test(equal_runs_give_equal_bytes),
        cmocka_unit_test(put_may_end_it),
        cmocka_unit_test(damaged_texts_are_named),
        cmocka_unit_test(decisions_are_those_of_the_core),
        cmocka_unit_test(details_are_shown_or_quoted),
        cmocka_unit_test(ids_of_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
