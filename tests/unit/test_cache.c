/* test_cache.c - verdicts that are given again: only the same question, only where the seed does not matter. */
#include "verifier/cache.h"
#include "verifier/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

/* A spec of the first kind in the table that is cached so. */
static const char *spec_of(enum cached cached, const char *more)
{
    static char spec[200];
    for (size_t i = 0; checks[i] != NULL; i++)
        if (checks[i]->cached == cached) {
            snprintf(spec, sizeof spec, "{\"kind\":\"%s\",\"name\":\"v\"%s}", checks[i]->name, more);
            return spec;
        }
    fail_msg("the table has no such kind");
    return NULL;
}

static struct job job_of(const char *spec, const char *text)
{
    return (struct job){.spec = slice_of(spec),
                        .record = slice_of("{\"prompt\":\"p\"}"),
                        .text = slice_of(text),
                        .answer = slice_of("a"),
                        .finished = true,
                        .verdict = {OUTCOME_UNKNOWN, -1}};
}

static void judged(struct job *job, enum outcome outcome, double score, const char *detail)
{
    job->state = JOB_DONE;
    job->verdict = (struct verdict){outcome, score};
    buf_puts(&job->detail, detail);
    cache_keep(job);
    buf_clear(&job->detail);
}

static bool known(struct job job)
{
    bool found = cache_known(&job);
    buf_clear(&job.detail);
    return found;
}

static int clear(void **state)
{
    (void)state;
    cache_clear();
    return 0;
}

static void the_same_question_has_the_same_verdict(void **state)
{
    (void)state;
    const char *spec = spec_of(CACHED_ANYWHERE, "");
    struct job first = job_of(spec, "text"), again = job_of(spec, "text");
    again.seed = 7;
    assert_false(known(first));
    judged(&first, OUTCOME_SCORE, .25, "{\"steps\":[1]}");
    assert_true(cache_known(&again));
    assert_int_equal(again.verdict.outcome, OUTCOME_SCORE);
    assert_true(again.verdict.score == .25);
    assert_string_equal(again.detail.data, "{\"steps\":[1]}");
    buf_clear(&again.detail);
    struct cache_counts counts = cache_counts();
    assert_int_equal(counts.asked, 2);
    assert_int_equal(counts.known, 1);
    assert_int_equal(counts.shared, 0);
}

static void a_server_that_moved_says_the_same(void **state)
{
    (void)state;
    char spec[200], moved[200];
    snprintf(spec, sizeof spec, "%s", spec_of(CACHED_ANYWHERE, ",\"options\":{\"urls\":[\"http://a:1\"]}"));
    snprintf(moved, sizeof moved, "%s", spec_of(CACHED_ANYWHERE, ",\"options\":{\"urls\":[\"http://b:2\"]}"));
    struct job first = job_of(spec, "moved");
    judged(&first, OUTCOME_SCORE, 0.25, "");
    assert_true(known(job_of(moved, "moved")));
}

static void another_question_is_another(void **state)
{
    (void)state;
    const char *spec = spec_of(CACHED_ANYWHERE, "");
    struct job first = job_of(spec, "ab"), other;
    judged(&first, OUTCOME_PASS, 1, "");
    assert_false(known(job_of(spec, "a")));
    other = job_of(spec, "ab");
    other.answer = slice_of("b");
    assert_false(known(other));
    other = job_of(spec, "ab");
    other.finished = false;
    assert_false(known(other));
    other = job_of(spec, "ab");
    other.timeout_ms = 7; /* it might take longer */
    assert_false(known(other));
    other = job_of(spec, "a"); /* the same bytes, cut elsewhere */
    other.answer = slice_of("ba");
    assert_false(known(other));
    char version[200];
    snprintf(version, sizeof version, "%s", spec_of(CACHED_ANYWHERE, ",\"version\":\"2\""));
    assert_false(known(job_of(version, "ab")));
    assert_true(known(job_of(spec_of(CACHED_ANYWHERE, ""), "ab")));
}

static void what_may_be_the_machine_s_fault_is_not_kept(void **state)
{
    (void)state;
    const char *spec = spec_of(CACHED_ANYWHERE, "");
    const enum outcome outcomes[] = {OUTCOME_UNKNOWN, OUTCOME_TIMEOUT, OUTCOME_ERROR};
    for (size_t i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++) {
        struct job job = job_of(spec, "text");
        judged(&job, outcomes[i], 0, "");
        assert_false(known(job_of(spec, "text")));
    }
}

static void only_where_it_is_wanted(void **state)
{
    (void)state;
    char refused[200];
    snprintf(refused, sizeof refused, "%s", spec_of(CACHED_ANYWHERE, ",\"cache\":false"));
    struct job job = job_of(refused, "text");
    judged(&job, OUTCOME_PASS, 1, "");
    assert_false(known(job_of(refused, "text")));
    char cheap[200];
    snprintf(cheap, sizeof cheap, "%s", spec_of(CACHED_NOT, ""));
    job = job_of(cheap, "text");
    judged(&job, OUTCOME_PASS, 1, "");
    assert_false(known(job_of(cheap, "text")));
    assert_int_equal(cache_counts().asked, 0);
}

static void programs_that_were_run_are_not_run_again(void **state)
{
    (void)state;
    const char *spec = "{\"kind\":\"code\",\"name\":\"v\"}";
    struct job job = job_of(spec, "print(1)");
    judged(&job, OUTCOME_PASS, 1, "{\"cpu_ms\":9}");
    assert_true(known(job_of(spec, "print(1)")));
    job = job_of(spec, "print(1)");
    job.record = slice_of("{\"prompt\":\"p\",\"tests\":[1]}");
    assert_false(known(job));
    assert_false(known(job_of("{\"kind\":\"code\",\"name\":\"v\",\"options\":{\"memory\":64}}", "print(1)")));
}

/* Far more than it holds: what was used last stays, memory is bounded. */
static void old_ones_go_first(void **state)
{
    (void)state;
    const char *spec = spec_of(CACHED_ANYWHERE, "");
    char text[32];
    for (int i = 0; i < 40000; i++) {
        snprintf(text, sizeof text, "text %d", i);
        struct job job = job_of(spec, text);
        judged(&job, OUTCOME_PASS, 1, "");
        assert_true(known(job_of(spec, text)));
    }
    int left = 0;
    for (int i = 0; i < 40000; i++) {
        snprintf(text, sizeof text, "text %d", i);
        left += known(job_of(spec, text));
    }
    assert_in_range(left, 4000, 8192);
}

static void a_redis_that_is_away_costs_a_check(void **state)
{
    (void)state;
    const char *spec = spec_of(CACHED_ANYWHERE, "");
    cache_share("ipc:///nowhere/redis", "drover");
    struct job job = job_of(spec, "text");
    assert_false(known(job));
    judged(&job, OUTCOME_PASS, 1, "");
    assert_true(known(job_of(spec, "text")));
}

#define T(name) cmocka_unit_test_setup_teardown(name, clear, clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_same_question_has_the_same_verdict),
        T(a_server_that_moved_says_the_same),
        T(another_question_is_another),
        T(what_may_be_the_machine_s_fault_is_not_kept),
        T(only_where_it_is_wanted),
        T(programs_that_were_run_are_not_run_again),
        T(old_ones_go_first),
        T(a_redis_that_is_away_costs_a_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
