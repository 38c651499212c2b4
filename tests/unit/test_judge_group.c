/* Groups of candidates before a judge of this process, who reads numbers and prefers the larger one. */
#include "common/io/clock.h"
#include "verifier/check.h"
#include "verifier/doc.h"
#include "verifier/group.h"
#include "verifier/judge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000, REQUEST_MAX = 1 << 16, COUNT_MAX = 16, GROUPS = 64, MEMBERS = 3, SLOW_MS = 200 };

static int listener;
static uint16_t port;
static atomic_int asked, sets_asked, slow_ms;
static atomic_bool broken;

/* -- the judge ---------------------------------------------------------------------------------------------------------- */

static bool read_request(int fd, char *text)
{
    size_t len = 0;
    while (len + 1 < REQUEST_MAX) {
        ssize_t got = recv(fd, text + len, REQUEST_MAX - 1 - len, 0);
        if (got <= 0)
            return false;
        len += (size_t)got;
        text[len] = '\0';
        const char *end = strstr(text, "\r\n\r\n"), *said = strstr(text, "Content-Length: ");
        if (end != NULL && said != NULL && len >= (size_t)(end - text) + 4 + (size_t)atol(said + 16))
            return true;
    }
    return false;
}

/* The numbers between the fences, in their order, and the word that makes the fences. */
static size_t read_candidates(const char *request, char *nonce, double *numbers)
{
    size_t len = 0;
    const char *at = strstr(request, "lines that begin with ");
    if (at == NULL)
        return 0;
    memcpy(nonce, at + strlen("lines that begin with "), 8);
    nonce[8] = '\0';
    char fence[32];
    snprintf(fence, sizeof fence, "%s begin", nonce);
    for (at = strstr(request, fence); at != NULL && len < COUNT_MAX; at = strstr(at + 1, fence))
        numbers[len++] = strtod(strstr(at, "\\n") + 2, NULL);
    return len;
}

static void rule(const char *request, char *out, size_t size)
{
    char nonce[9] = "";
    double numbers[COUNT_MAX];
    size_t len = read_candidates(request, nonce, numbers);
    size_t used = (size_t)snprintf(out, size, "why\\nVerdict %s: ", nonce);
    if (strstr(request, "[[A]]") != NULL && len == 2) {
        /* by position when they are close */
        snprintf(out + used, size - used, "[[%s]]", numbers[0] + 1 > numbers[1] ? "A" : "B");
        return;
    }
    used += (size_t)snprintf(out + used, size - used, "{");
    for (size_t i = 0; i < len; i++)
        used += (size_t)snprintf(out + used, size - used, "%s\\\"%zu\\\": %g", i > 0 ? ", " : "", i + 1, numbers[i]);
    snprintf(out + used, size - used, "}");
}

static void answer(int fd, const char *request)
{
    char verdict[1024], body[2048], head[128];
    rule(request, verdict, sizeof verdict);
    asked++;
    sets_asked += strstr(request, "checklist") != NULL;
    poll(NULL, 0, slow_ms); /* it thinks */
    int len = broken ? snprintf(body, sizeof body, "{\"message\": \"no such model\"}")
                     : snprintf(body, sizeof body,
                                "{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},"
                                "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3}}",
                                verdict);
    snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n", broken ? "404 Not Found" : "200 OK", len);
    send(fd, head, strlen(head), MSG_NOSIGNAL);
    send(fd, body, (size_t)len, MSG_NOSIGNAL);
}

static void *connection_main(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char *request = malloc(REQUEST_MAX);
    while (request != NULL && read_request(fd, request))
        answer(fd, request);
    free(request);
    close(fd);
    return NULL;
}

static void *accept_main(void *arg)
{
    (void)arg;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, connection_main, (void *)(intptr_t)fd), 0);
        pthread_detach(thread);
    }
}

static int begin(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    pthread_t thread;
    (void)state;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 64) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) != 0)
        return -1;
    port = ntohs(address.sin_port);
    return pthread_create(&thread, NULL, accept_main, NULL);
}

/* -- groups ------------------------------------------------------------------------------------------------------------- */

static void *open_engine(const struct engine *kind, const char *options)
{
    char spec[512];
    void *engine;
    struct error error;
    snprintf(spec, sizeof spec, "{\"kind\":\"judge\",\"options\":{\"urls\":[\"http://127.0.0.1:%u\"],%s}}", port,
             options);
    if (kind->open(slice_of(spec), &engine, &error) != 0)
        fail_msg("%s", error.text);
    return engine;
}

static void *open_judge(const char *options)
{
    return open_engine(&engine_judge, options);
}

/* Once, and waits for what it waits for. */
static void advance(const struct engine *kind, void *engine, struct job **jobs, size_t len)
{
    int64_t wait = kind->advance(engine, jobs, len, 0);
    poll(&(struct pollfd){.fd = kind->fd(engine), .events = POLLIN}, 1, wait < 20 ? (int)wait : 20);
}

static int judge(void *engine, const char *const *texts, size_t len, double *scores, struct buf *detail,
                 struct error *error)
{
    struct slice slices[COUNT_MAX];
    for (size_t i = 0; i < len; i++)
        slices[i] = slice_of(texts[i]);
    const struct judge_group group = {.record = slice_of("{\"prompt\":\"Say a large number.\"}"),
                                      .texts = slices,
                                      .len = len,
                                      .seed = 5,
                                      .timeout_ms = PATIENCE_MS};
    struct trial *trial;
    int code = judge_group(engine, &group, &trial, error);
    if (code < 0)
        return code;
    while (!judge_group_over(trial))
        advance(&engine_judge, engine, NULL, 0);
    return judge_group_end(&trial, scores, detail, error);
}

static const char *const numbers[] = {"3", "9", "1", "6", "5.5"};

/* All ten pairs in both orders; 6 and 5.5 tie, for the judge goes by position there. */
static void test_pairwise(void **state)
{
    static const double wanted[] = {0.25, 1, 0, 0.625, 0.625};
    double scores[5];
    struct buf detail = {0};
    struct error error;
    (void)state;
    void *engine = open_judge("\"mode\":\"pairwise\"");
    int before = asked;
    assert_int_equal(judge(engine, numbers, 5, scores, &detail, &error), 0);
    assert_int_equal(asked - before, 20);
    for (size_t i = 0; i < 5; i++)
        assert_true(scores[i] == wanted[i]);
    assert_non_null(strstr(detail.data, "\"tokens_out\":60"));
    buf_clear(&detail);
    engine_judge.close(&engine);
}

static void test_rounds(void **state)
{
    double scores[5];
    struct buf detail = {0};
    struct error error;
    (void)state;
    void *engine = open_judge("\"mode\":\"pairwise\",\"rounds\":1,\"rank\":\"bradley-terry\"");
    int before = asked;
    assert_int_equal(judge(engine, numbers, 5, scores, &detail, &error), 0);
    assert_int_equal(asked - before, 10); /* five neighbours, both orders */
    assert_true(scores[1] > scores[3] && scores[3] > scores[2]);
    assert_true(scores[3] > scores[0] && scores[4] > scores[2]);
    buf_clear(&detail);
    engine_judge.close(&engine);
}

/* Whatever order a judgement saw them in, points come back to their candidates. */
static void test_set(void **state)
{
    double scores[5];
    struct buf detail = {0};
    struct error error;
    (void)state;
    void *engine = open_judge("\"mode\":\"set\",\"k\":7");
    assert_int_equal(judge(engine, numbers, 5, scores, &detail, &error), 0);
    for (size_t i = 0; i < 5; i++)
        assert_true(fabs(scores[i] - strtod(numbers[i], NULL)) < 1e-9);
    buf_clear(&detail);
    engine_judge.close(&engine);
    engine = open_judge("\"mode\":\"set\",\"k\":2"); /* 11 points: no judgement is valid */
    assert_int_equal(judge(engine, (const char *const[]){"11", "3"}, 2, scores, &detail, &error), 0);
    assert_true(isnan(scores[0]) && isnan(scores[1]));
    assert_non_null(strstr(detail.data, "\"points\":[null,null]"));
    buf_clear(&detail);
    engine_judge.close(&engine);
}

static void test_refused(void **state)
{
    double scores[5];
    struct buf detail = {0};
    struct error error;
    (void)state;
    void *engine = open_judge("\"mode\":\"set\"");
    assert_int_equal(judge(engine, numbers, 1, scores, &detail, &error), ERR_RANGE);
    broken = true;
    assert_int_equal(judge(engine, numbers, 5, scores, &detail, &error), ERR_CLOSED);
    assert_non_null(strstr(error.text, "no such model"));
    broken = false;
    assert_int_equal(judge(engine, numbers, 5, scores, &detail, &error), 0);
    buf_clear(&detail);
    engine_judge.close(&engine);
    engine = open_judge("\"mode\":\"votes\"");
    assert_int_equal(judge(engine, numbers, 2, scores, &detail, &error), ERR_RANGE);
    assert_int_equal(detail.len, 0);
    engine_judge.close(&engine);
}

/* Jobs that are cancelled, and an engine that is closed, while requests are in flight. */
static void test_cancel(void **state)
{
    (void)state;
    static const char record[] = "{\"prompt\":\"p\",\"meta\":{\"candidates\":[\"4\",\"8\"]}}";
    void *engine = open_judge("\"mode\":\"pairwise\"");
    struct job jobs[4], *all[4];
    for (size_t i = 0; i < 4; i++) {
        jobs[i] = (struct job){.record = slice_of(record), .text = slice_of("6"), .timeout_ms = PATIENCE_MS};
        all[i] = &jobs[i];
    }
    engine_judge.advance(engine, all, 4, 0);
    engine_judge.cancel(engine, &jobs[1]);
    assert_null(jobs[1].engine_data);
    engine_judge.cancel(engine, &jobs[2]);
    all[1] = &jobs[3];
    for (int left = 2; left > 0;) {
        engine_judge.advance(engine, all, 2, 0);
        left = (jobs[0].state == JOB_RUNNING) + (jobs[3].state == JOB_RUNNING);
    }
    for (size_t i = 0; i < 4; i += 3) {
        assert_int_equal(jobs[i].state, JOB_DONE);
        assert_int_equal(jobs[i].verdict.outcome, OUTCOME_SCORE);
        assert_true(jobs[i].verdict.score == 0.5);
        buf_clear(&jobs[i].detail);
    }
    jobs[0] = (struct job){.record = slice_of(record), .text = slice_of("6"), .timeout_ms = PATIENCE_MS};
    engine_judge.advance(engine, all, 1, 0);
    engine_judge.close(&engine);
    assert_null(engine);
}

/* -- the engine that has groups judged ---------------------------------------------------------------------------------- */

struct members {
    char texts[GROUPS][MEMBERS][64]; /* as long as three numbers may be */
    struct slice slices[GROUPS][MEMBERS];
    struct job jobs[GROUPS * MEMBERS], *all[GROUPS * MEMBERS];
};

/* Jobs of all members of the first `groups` groups: candidate m of group g says g + 1 and m. */
static void members_fill(struct members *members, size_t groups)
{
    static const char record[] = "{\"prompt\":\"Say a large number.\"}";
    for (size_t i = 0; i < groups * MEMBERS; i++) {
        size_t g = i / MEMBERS, m = i % MEMBERS;
        snprintf(members->texts[g][m], sizeof members->texts[g][m], "%zu.%zu %zu", 2 + m, g / 10, g);
        members->slices[g][m] = slice_of(members->texts[g][m]);
        members->all[i] = &members->jobs[i];
        members->jobs[i] = (struct job){.record = slice_of(record),
                                        .text = members->slices[g][m],
                                        .group = members->slices[g],
                                        .group_len = MEMBERS,
                                        .ordinal = (uint32_t)m,
                                        .timeout_ms = PATIENCE_MS};
    }
}

static size_t running(const struct members *members, size_t len)
{
    size_t left = 0;
    for (size_t i = 0; i < len; i++)
        left += members->jobs[i].state == JOB_RUNNING;
    return left;
}

/* Judges so many groups at once; how long it took. */
static int64_t judge_groups(void *engine, size_t groups)
{
    struct members *members = xalloc(sizeof *members);
    size_t len = groups * MEMBERS;
    int64_t began = clock_ms();
    members_fill(members, groups);
    while (running(members, len) > 0)
        advance(&engine_group, engine, members->all, len);
    int64_t took = clock_ms() - began;
    for (size_t i = 0; i < len; i++) {
        struct job *job = &members->jobs[i];
        assert_int_equal(job->state, JOB_DONE);
        assert_int_equal(job->verdict.outcome, OUTCOME_SCORE);
        assert_true(fabs(job->verdict.score - strtod(job->text.data, NULL)) < 1e-9);
        assert_null(job->engine_data);
        buf_clear(&job->detail);
    }
    free(members);
    return took;
}

/* One thread has as many groups in flight as the server takes requests, and asks once for each of them. */
static void test_groups_at_once(void **state)
{
    (void)state;
    void *engine = open_engine(&engine_group, "\"mode\":\"set\",\"concurrency\":64");
    slow_ms = SLOW_MS;
    int before = sets_asked; /* requests of jobs that were cancelled above may still come */
    int64_t one = judge_groups(engine, 1);
    assert_int_equal(sets_asked - before, 1);
    assert_true(one >= SLOW_MS);
    assert_int_equal(check_room(), 64 * MEMBERS);
    before = sets_asked;
    int64_t many = judge_groups(engine, GROUPS);
    slow_ms = 0;
    assert_in_range(sets_asked - before, GROUPS - 1, GROUPS); /* the first was judged above */
    if (many > GROUPS * SLOW_MS / 4)
        fail_msg("%d groups took %lld ms, one took %lld ms", GROUPS, (long long)many, (long long)one);
    engine_group.close(&engine);
    assert_int_equal(check_room(), 0);
}

/* A group that waits for those before does not use up its time. */
static void test_groups_in_turn(void **state)
{
    struct members *members = xalloc(sizeof *members);
    const size_t len = (size_t)20 * MEMBERS;
    (void)state;
    void *engine = open_engine(&engine_group, "\"mode\":\"set\",\"concurrency\":1");
    slow_ms = 100;
    members_fill(members, 20);
    for (size_t i = 0; i < len; i++)
        members->jobs[i].timeout_ms = 1500; /* 20 take 2000 */
    while (running(members, len) > 0)
        advance(&engine_group, engine, members->all, len);
    slow_ms = 0;
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(members->jobs[i].state, JOB_DONE);
        buf_clear(&members->jobs[i].detail);
    }
    engine_group.close(&engine);
    free(members);
}

/* Members leave one by one; the group goes on for those that stay, and ends with the last. */
static void test_groups_cancelled(void **state)
{
    struct members *members = xalloc(sizeof *members);
    (void)state;
    void *engine = open_engine(&engine_group, "\"mode\":\"set\",\"concurrency\":2");
    slow_ms = SLOW_MS;
    members_fill(members, 4); /* two are asked for, two wait */
    engine_group.advance(engine, members->all, 4 * MEMBERS, 0);
    for (size_t i = 0; i < 4 * MEMBERS; i++)
        if (i != 1 && i != 2 * MEMBERS + 2) /* one of the first group, one of the third */
            engine_group.cancel(engine, &members->jobs[i]);
    struct job *left[] = {&members->jobs[1], &members->jobs[2 * MEMBERS + 2]};
    while (left[0]->state == JOB_RUNNING || left[1]->state == JOB_RUNNING)
        advance(&engine_group, engine, left, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(left[i]->state, JOB_DONE);
        assert_true(fabs(left[i]->verdict.score - strtod(left[i]->text.data, NULL)) < 1e-9);
        buf_clear(&left[i]->detail);
    }
    members_fill(members, 3);
    engine_group.advance(engine, members->all, 3 * MEMBERS, 0);
    engine_group.close(&engine); /* while it is asked */
    slow_ms = 0;
    for (size_t i = 0; i < 3 * MEMBERS; i++)
        buf_clear(&members->jobs[i].detail);
    free(members);
}

/* All members fail with their group, and it is judged anew for who asks again; nothing else fails with it. */
static void test_groups_failed(void **state)
{
    struct members *members = xalloc(sizeof *members);
    (void)state;
    void *engine = open_engine(&engine_group, "\"mode\":\"set\"");
    members_fill(members, 2);
    members->jobs[0].group_len = members->jobs[1].group_len = members->jobs[2].group_len = 0;
    broken = true;
    while (running(members, 2 * MEMBERS) > 0)
        advance(&engine_group, engine, members->all, 2 * MEMBERS);
    broken = false;
    for (size_t i = 0; i < 2 * MEMBERS; i++) {
        assert_int_equal(members->jobs[i].state, JOB_FAILED);
        assert_non_null(strstr(members->jobs[i].error.text, i < MEMBERS ? "no group of texts" : "no such model"));
        buf_clear(&members->jobs[i].detail);
    }
    judge_groups(engine, 2);
    engine_group.close(&engine);
    free(members);
}

/* Failed rollouts take no part; one that is left alone has a score, for it was compared with nobody. */
static void test_groups_with_failures(void **state)
{
    struct members *members = xalloc(sizeof *members);
    (void)state;
    void *engine = open_engine(&engine_group, "\"mode\":\"set\"");
    members_fill(members, 2);
    members->slices[0][1] = (struct slice){"", 0};
    members->slices[1][0] = members->slices[1][2] = (struct slice){"", 0};
    while (running(members, 2 * MEMBERS) > 0)
        advance(&engine_group, engine, members->all, 2 * MEMBERS);
    static const double wanted[] = {2, -1, 4, -1, 0.5, -1};
    for (size_t i = 0; i < 2 * MEMBERS; i++) {
        assert_int_equal(members->jobs[i].verdict.outcome, wanted[i] < 0 ? OUTCOME_UNKNOWN : OUTCOME_SCORE);
        assert_true(wanted[i] < 0 || fabs(members->jobs[i].verdict.score - wanted[i]) < 1e-9);
        buf_clear(&members->jobs[i].detail);
    }
    engine_group.close(&engine);
    free(members);
}

static void test_bad_specs(void **state)
{
    (void)state;
    static const struct {
        const char *options;
        int code;
    } cases[] = {
        {"\"mode\":\"nope\"", ERR_SYNTAX},
        {"\"dialect\":\"nope\"", ERR_SYNTAX},
        {"\"k\":0", ERR_RANGE},
        {"\"k\":1.5", ERR_RANGE},
        {"\"meta\":\"m\"", ERR_NOT_FOUND},
        {"\"mode\":\"yes\",\"token_ids\":[\"1\"]", ERR_SYNTAX},
        {"\"dialect\":\"vllm\",\"token_ids\":[\"1\"]", ERR_SYNTAX},
        {"\"mode\":\"yes\",\"dialect\":\"vllm\",\"token_ids\":[\"1\",\"-2\"]", ERR_SYNTAX},
        {"\"template\":\"no such file\"", ERR_NOT_FOUND},
        {"\"mode\":\"pairwise\",\"template\":\"{text}\"", ERR_SYNTAX},
        {"\"mode\":\"set\",\"template\":\"{text}\"", ERR_SYNTAX},
        {"\"key_env\":\"DROVER_TEST_NO_SUCH_KEY\"", ERR_NOT_FOUND},
        {"\"key_file\":\"/dev/null\"", ERR_SYNTAX},
        {"\"urls\":[\"ftp://x\"]", ERR_SYNTAX},
        {"\"urls\":[\"http://u:p@x\"]", ERR_SYNTAX},
        {"\"urls\":[]", ERR_SYNTAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char spec[512];
        void *engine;
        struct error error;
        snprintf(spec, sizeof spec, "{\"kind\":\"judge\",\"options\":{\"urls\":[\"http://127.0.0.1:1\"],%s}}",
                 cases[i].options);
        if (engine_judge.open(slice_of(spec), &engine, &error) != cases[i].code)
            fail_msg("%s: %s", spec, error.text);
        assert_null(engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairwise),
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_groups_at_once),
        cmocka_unit_test(test_groups_in_turn),
        cmocka_unit_test(test_groups_cancelled),
        cmocka_unit_test(test_groups_failed),
        cmocka_unit_test(test_groups_with_failures),
        cmocka_unit_test(test_bad_specs),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
