/* test_backends.c - replay, synthetic and exec: laws, determinism, hostile recordings and hostile
 * programs. */
#include "worker/backend.h"

#include "common/rng.h"
#include "worker/csv.h"
#include "worker/recording.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* --- helpers --- */

static void *open_good(const struct engine *engine, const char *spec)
{
    void *state;
    struct error error = {0};
    if (engine->open(slice_of(spec), &state, &error) != 0)
        fail_msg("open: %s", error.text);
    return state;
}

static void expect_open(const struct engine *engine, const char *spec, int code, const char *words)
{
    void *state;
    struct error error = {0};
    int rc = engine->open(slice_of(spec), &state, &error);
    if (rc != code || strstr(error.text, words) == NULL)
        fail_msg("wanted %d '%s', got %d '%s'", code, words, rc, error.text);
    assert_null(state);
}

static struct job job_of(const char *record, uint64_t seed)
{
    return (struct job){.record = slice_of(record), .seed = seed, .lease = 1};
}

static void job_clear(struct job *job)
{
    buf_clear(&job->out);
    buf_clear(&job->found);
}

/* Runs one job that needs no time. */
static void run(const struct engine *engine, void *state, struct job *job)
{
    job->state = JOB_RUNNING;
    job->error.text[0] = '\0';
    engine->advance(state, &job, 1, 0);
    assert_int_not_equal(job->state, JOB_RUNNING);
}

static void expect_done(const struct job *job)
{
    if (job->state != JOB_DONE)
        fail_msg("failed: %s", job->error.text);
}

static void expect_failed(const struct job *job, const char *words)
{
    if (job->state != JOB_FAILED || strstr(job->error.text, words) == NULL)
        fail_msg("wanted a failure with '%s': %d '%s'", words, job->state, job->error.text);
}

static const char *text_of(const struct buf *buf)
{
    return buf->len > 0 ? buf->data : "";
}

/* A temporary file; the caller unlinks path. */
static void file_of(char path[64], const char *suffix, const char *data, size_t len)
{
    sprintf(path, "/tmp/drover-backends-XXXXXX%s", suffix);
    int fd = mkstemps(path, (int)strlen(suffix));
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    close(fd);
}

/* --- CSV --- */

/* All records as "a|b;c|d;", or "! error". */
static void read_csv(const char *text, size_t len, size_t record_max, struct buf *out)
{
    struct csv csv;
    struct csv_record *record = xalloc(sizeof(*record));
    struct error error;
    int rc;
    buf_reset(out);
    buf_puts(out, "");
    csv_init(&csv, (struct slice){text, len}, record_max);
    while ((rc = csv_next(&csv, record, &error)) == 1) {
        for (size_t i = 0; i < record->len; i++) {
            buf_puts(out, i > 0 ? "|" : "");
            buf_put(out, record->cells[i].data, record->cells[i].len);
        }
        buf_puts(out, ";");
    }
    if (rc < 0)
        buf_printf(out, "! %s", error.text);
    csv_record_clear(record);
    free(record);
}

static void test_csv(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", ""},
        {"\n\r\n\n", ""},
        {"a", "a;"},
        {"a,b\n", "a|b;"},
        {"a,b\r\nc,d\r\n", "a|b;c|d;"},
        {"a,b\n\n,\n", "a|b;|;"},
        {"\xEF\xBB\xBF"
         "a,b\n1,2",
         "a|b;1|2;"},
        {"\"a\",\"b\"\n", "a|b;"},
        {"\"a,b\",c\n", "a,b|c;"},
        {"\"a\nb\",c\nd,e", "a\nb|c;d|e;"},
        {"\"say \"\"hi\"\"\",x\n", "say \"hi\"|x;"},
        {"\"\",\"\"\"\"\n", "|\";"},
        {"\"\"", ";"},
        {"a\rb,c\n", "a\rb|c;"},
        {"a\r", "a;"},
        {" a , b ", " a | b ;"},
        {"a\n\"b", "a;! line 2, column 1: a quote is opened and never closed"},
        {"a,b\n1,\"x\ny\nz", "a|b;! line 2, column 2: a quote is opened and never closed"},
        {"a\"b\n", "! line 1, column 1: a quote inside a cell that does not start with one"},
        {"\"a\"b\n", "! line 1, column 1: text behind a closing quote"},
        {"\"a\nb\"\r c\n", "! line 2, column 1: text behind a closing quote"},
        {"a,b\n1\n", "a|b;! line 2: 1 cells, and the first record has 2"},
        {"a,b\n\"1\n2\",3\n1,2,3", "a|b;1\n2|3;! line 4: 3 cells, and the first record has 2"},
    };
    struct buf out = {0};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        read_csv(cases[i].text, strlen(cases[i].text), 1000, &out);
        assert_string_equal(out.data, cases[i].want);
    }
    read_csv("a,b\n1,\0", 8, 1000, &out);
    assert_string_equal(out.data, "a|b;! line 2, column 2: a NUL byte");
    read_csv("abcd,efgh\n", 10, 9, &out);
    assert_string_equal(out.data, "abcd|efgh;");
    read_csv("abcd,efghi\n", 11, 9, &out);
    assert_string_equal(out.data, "! line 1: the record has more than 9 bytes");
    read_csv("\"abcdefghijklmnop", 17, 9, &out);
    assert_string_equal(out.data, "! line 1: the record has more than 9 bytes; is a quote not closed?");
    buf_reset(&out);
    for (int i = 0; i < CSV_CELLS_MAX; i++)
        buf_puts(&out, ",");
    struct buf result = {0};
    read_csv(out.data, out.len, 1 << 20, &result);
    assert_string_equal(result.data, "! line 1: more than 1024 columns");
    buf_clear(&result);
    buf_clear(&out);
}

/* --- replay --- */

static void *open_replay(const char *path, const char *options)
{
    char spec[1024];
    snprintf(spec, sizeof(spec), "{\"name\":\"m\",\"backend\":\"replay\",\"path\":\"%s\",\"options\":%s}", path,
             options);
    return open_good(&engine_replay, spec);
}

static void expect_recording(const char *suffix, const char *data, size_t len, const char *options, int code,
                             const char *words)
{
    char path[64], spec[1024];
    file_of(path, suffix, data, len);
    snprintf(spec, sizeof(spec), "{\"path\":\"%s\",\"options\":%s}", path, options);
    expect_open(&engine_replay, spec, code, words);
    unlink(path);
}

static void replay_at(void *state, const char *record, uint32_t ordinal, struct job *job)
{
    job->record = slice_of(record);
    job->ordinal = ordinal;
    run(&engine_replay, state, job);
}

static void test_replay_csv(void **unused)
{
    (void)unused;
    static const char data[] = "q,k,pred,ok,rm,tin,tout,ms,text\n"
                               "7,2,b,0,-1.5,10,20,300,\"two\nlines\"\n"
                               "7,0,a,1,2.5,11,,5,\"one \"\"word\"\" more\"\n"
                               "x y,5,,,,,,,\n"
                               "7,1,a,true,0,12,3,1.6,c\n";
    char path[64];
    struct job job = {0};
    file_of(path, ".csv", data, strlen(data));
    void *state =
        open_replay(path, "{\"columns\":{\"prompt\":\"q\",\"ordinal\":\"k\",\"answer\":\"pred\",\"correct\":\"ok\","
                          "\"reward\":\"rm\",\"tokens_in\":\"tin\",\"tokens_out\":\"tout\",\"latency_ms\":\"ms\"}}");
    replay_at(state, "{\"id\":7}", 0, &job);
    expect_done(&job);
    assert_string_equal(text_of(&job.out), "one \"word\" more");
    assert_string_equal(text_of(&job.found), "a");
    assert_int_equal(job.result.finish, FINISH_STOP);
    assert_int_equal(job.result.tokens_in, 11);
    assert_int_equal(job.result.tokens_out, 3); /* words */
    assert_int_equal(job.result.latency_ms, 5);
    assert_int_equal(job.result.features.have, 1u << FEATURE_CORRECT | 1u << FEATURE_REWARD);
    assert_true(job.result.features.v[FEATURE_CORRECT] == 1);
    assert_true(job.result.features.v[FEATURE_REWARD] == 2.5);
    replay_at(state, "{\"id\":\"7\"}", 1, &job);
    assert_string_equal(text_of(&job.out), "c");
    assert_int_equal(job.result.latency_ms, 2);
    replay_at(state, "{\"id\":7}", 2, &job);
    assert_string_equal(text_of(&job.out), "two\nlines");
    assert_int_equal(job.result.tokens_out, 20);
    replay_at(state, "{\"id\":7}", 3, &job);
    expect_done(&job);
    assert_int_equal(job.result.finish, FINISH_EXHAUSTED);
    assert_int_equal(job.out.len + job.found.len, 0);
    assert_int_equal(job.result.tokens_out, 0);
    replay_at(state, "{\"id\":\"x y\"}", 0, &job);
    expect_done(&job);
    assert_int_equal(job.found.len, 0); /* no vote */
    assert_int_equal(job.result.tokens_out, 1);
    assert_int_equal(job.result.features.have, 0);
    replay_at(state, "{\"id\":8}", 0, &job);
    expect_failed(&job, "no rollout of prompt '8'");
    replay_at(state, "[]", 0, &job);
    expect_failed(&job, "not an object");
    job.text = slice_of("path");
    replay_at(state, "{\"id\":7}", 0, &job);
    expect_failed(&job, "cannot be continued");
    job_clear(&job);
    engine_replay.close(&state);
    assert_null(state);
    unlink(path);
}

static void test_replay_cap(void **unused)
{
    (void)unused;
    static const char data[] = "prompt,text,answer,correct,tokens_out\n1,\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4,x,1,8\n";
    char path[64];
    struct job job = {.tokens_max = 3};
    file_of(path, ".csv", data, strlen(data));
    void *state = open_replay(path, "{}");
    replay_at(state, "{}", 0, &job); /* without an id: the first prompt is 1 */
    expect_done(&job);
    assert_int_equal(job.result.finish, FINISH_LENGTH);
    assert_int_equal(job.result.tokens_out, 3);
    assert_string_equal(text_of(&job.out), "\xC3\xA4");
    assert_int_equal(job.found.len, 0);
    assert_int_equal(job.result.features.have, 0);
    job_clear(&job);
    engine_replay.close(&state);
    unlink(path);
}

static void test_replay_jsonl(void **unused)
{
    (void)unused;
    static const char data[] = "{\"task\":\"a\",\"out\":\"x = 1\",\"score\":0.25,\"is\":true}\n"
                               "\n"
                               "{\"task\":3,\"out\":\"y\",\"score\":null,\"is\":null}\r\n"
                               "{\"task\":\"a\",\"out\":\"z\",\"score\":1e5,\"is\":false}";
    char path[64];
    struct job job = {0};
    file_of(path, ".jsonl", data, strlen(data));
    void *state = open_replay(path, "{\"columns\":{\"prompt\":\"task\",\"text\":\"out\","
                                    "\"reward\":\"score\",\"correct\":\"is\"}}");
    replay_at(state, "{\"id\":\"a\"}", 0, &job);
    expect_done(&job);
    assert_string_equal(text_of(&job.out), "x = 1");
    assert_true(job.result.features.v[FEATURE_REWARD] == 0.25);
    replay_at(state, "{\"id\":\"a\"}", 1, &job);
    assert_string_equal(text_of(&job.out), "z");
    assert_true(job.result.features.v[FEATURE_REWARD] == 1e5);
    assert_true(job.result.features.v[FEATURE_CORRECT] == 0);
    replay_at(state, "{\"id\":\"3\"}", 0, &job);
    assert_string_equal(text_of(&job.out), "y");
    assert_int_equal(job.result.features.have, 0);
    job_clear(&job);
    engine_replay.close(&state);
    unlink(path);
}

/* What `drover results` prints: numbers in objects of the line, seeds of 64 bits, failures, ends of pools, pools whose
 * rollouts were ended early, nodes of trees. */
static void test_replay_results(void **unused)
{
    (void)unused;
    static const char data[] =
        "{\"model\":\"m\",\"prompt\":\"7\",\"ordinal\":0,\"text\":\"x\",\"answer\":\"4\",\"finish\":\"length\",\"tokens_in\":3,"
        "\"tokens_out\":8,\"seed\":18446744073709551615,\"logprobs\":\"raw\",\"features\":{\"lp_mean\":-0.25},"
        "\"verdicts\":{\"right\":{\"outcome\":\"pass\",\"score\":1}},\"timing\":{\"latency_ms\":40,\"raced\":false}}\n"
        "{\"model\":\"m\",\"prompt\":\"7\",\"ordinal\":1,\"text\":null,\"answer\":null,\"finish\":\"failed\"}\n"
        "{\"model\":\"m\",\"prompt\":\"7\",\"ordinal\":2,\"text\":null,\"answer\":null,\"finish\":\"exhausted\"}\n"
        "{\"model\":\"m\",\"kill\":{\"window\":16},\"prompt\":\"7\",\"ordinal\":0,\"text\":\"part\",\"finish\":\"killed\"}\n"
        "{\"model\":\"m\",\"kill\":{\"window\":16},\"prompt\":\"7\",\"ordinal\":2,\"text\":\"y\",\"finish\":\"stop\"}\n"
        "{\"model\":\"m\",\"arm\":\"t\",\"n\":4,\"prompt\":\"7\",\"tree\":0,\"node\":0,\"text\":\"s\",\"finish\":\"step\"}\n";
    char path[64];
    struct job job = {0};
    file_of(path, ".jsonl", data, strlen(data));
    void *state = open_replay(path, "{}");
    replay_at(state, "{\"id\":7}", 0, &job);
    expect_done(&job);
    assert_int_equal(job.result.finish, FINISH_LENGTH);
    assert_int_equal(job.result.latency_ms, 40);
    assert_int_equal(job.result.logprob_mode, LOGPROB_RAW);
    assert_true(job.result.features.v[FEATURE_LP_MEAN] == -0.25);
    replay_at(state, "{\"id\":7}", 1, &job);
    expect_failed(&job, "recorded as failed");
    assert_true(job.final);
    replay_at(state, "{\"id\":7}", 2, &job);
    expect_done(&job);
    assert_int_equal(job.result.finish, FINISH_EXHAUSTED);
    job_clear(&job);
    engine_replay.close(&state);
    unlink(path);
}

static void test_replay_where(void **unused)
{
    (void)unused;
    static const char data[] = "prompt,run,text,latency_s\n1,a,one,0.0124\n1,b,two,1\n";
    char path[64];
    struct job job = {0};
    file_of(path, ".csv", data, strlen(data));
    void *state = open_replay(path, "{\"where\":{\"run\":\"a\"}}"),
         *other = open_replay(path, "{\"where\":{\"run\":\"b\"}}");
    replay_at(state, "{\"id\":1}", 0, &job);
    expect_done(&job);
    assert_string_equal(text_of(&job.out), "one");
    assert_int_equal(job.result.latency_ms, 12);
    replay_at(other, "{\"id\":1}", 0, &job);
    expect_done(&job);
    assert_string_equal(text_of(&job.out), "two");
    replay_at(other, "{\"id\":1}", 1, &job);
    assert_int_equal(job.result.finish, FINISH_EXHAUSTED);
    job_clear(&job);
    engine_replay.close(&state);
    engine_replay.close(&other);
    unlink(path);
}

static void test_replay_hostile(void **unused)
{
    (void)unused;
    static const struct {
        const char *suffix, *data, *options;
        int code;
        const char *words;
    } cases[] = {
        {".csv", "", "{}", ERR_NOT_FOUND, "is empty"},
        {".csv", "prompt,text\n", "{}", ERR_NOT_FOUND, "holds no rollouts"},
        {".csv", "a,b\n1,2\n", "{}", ERR_NOT_FOUND,
         "line 1: no column 'prompt' for 'prompt' (see options.columns); there are: a, b"},
        {".csv", "prompt,b\n1,2\n", "{\"columns\":{\"answer\":\"pred\"}}", ERR_NOT_FOUND,
         "no column 'pred' for 'answer'"},
        {".csv", "prompt,text\n1,\"torn\n2,x\n", "{}", ERR_SYNTAX,
         "line 2, column 2: a quote is opened and never closed"},
        {".csv", "prompt,ordinal\n1,one\n", "{}", ERR_SYNTAX, "line 2, column 'ordinal': 'one' is not a whole number"},
        {".csv", "prompt,ordinal\n1,1\n1,2\n1,1\n", "{}", ERR_CONFLICT,
         "line 4: prompt '1' has ordinal 1 already in line 2"},
        {".csv", "prompt,correct\n1,maybe\n", "{}", ERR_SYNTAX, "'maybe' is not 1, 0"},
        {".csv", "prompt,reward\n1,nan\n", "{}", ERR_SYNTAX, "'nan' is not a number"},
        {".csv", "prompt,reward\n1,0x10\n", "{}", ERR_SYNTAX, "'0x10' is not a number"},
        {".csv", "prompt,tokens_out\n1,-1\n", "{}", ERR_SYNTAX, "'-1' is not a number from 0"},
        {".csv", "prompt,tokens_out\n1,1e99\n", "{}", ERR_SYNTAX, "'1e99' is not a number from 0"},
        {".csv", "prompt,text\n,x\n", "{}", ERR_SYNTAX, "is not the id of a prompt"},
        {".jsonl", "", "{}", ERR_NOT_FOUND, "holds no rollouts"},
        {".jsonl", "{\"prompt\":1}\nprompt,2\n", "{}", ERR_SYNTAX, "line 2: no JSON"},
        {".jsonl", "[1]\n", "{}", ERR_SYNTAX, "line 1: JSON, but not an object"},
        {".jsonl", "{\"id\":1,\"x\":2}\n", "{}", ERR_NOT_FOUND, "there are: id, x"},
        {".jsonl", "{\"prompt\":[1]}\n", "{}", ERR_NOT_FOUND, "no column 'prompt'"},
        {".jsonl", "{\"prompt\":1,\"ordinal\":0}\n{\"prompt\":1}\n", "{}", ERR_NOT_FOUND,
         "line 2: no column 'ordinal'"},
        {".csv", "prompt\n1\n", "{\"where\":{\"run\":\"1\"}}", ERR_NOT_FOUND,
         "line 1: no column 'run'; there are: prompt"},
        {".jsonl", "{\"prompt\":1}\n", "{\"where\":{\"run\":\"1\"}}", ERR_NOT_FOUND,
         "no rollouts that pass the filter"},
        {".jsonl", "{\"prompt\":1}\n", "{\"where\":{\"run\":null}}", ERR_SYNTAX, "'where.run' is not text"},
        {".csv", "prompt,finish\n1,eaten\n", "{}", ERR_SYNTAX, "column 'finish': 'eaten' is not stop, length"},
        {".csv", "prompt\n1\n", "{\"format\":\"xml\"}", ERR_RANGE, "'format' is auto, csv or jsonl"},
        {".csv", "prompt\n1\n", "{\"columns\":{\"prompt\":5}}", ERR_SYNTAX, "'prompt' is not text"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_recording(cases[i].suffix, cases[i].data, strlen(cases[i].data), cases[i].options, cases[i].code,
                         cases[i].words);
    expect_recording(".csv", "prompt\n1\0\n", 10, "{}", ERR_SYNTAX, "line 2, column 1: a NUL byte");
    expect_recording(".jsonl", "{\"prompt\":\"\0\"}\n", 15, "{}", ERR_SYNTAX, "line 1: no JSON");
    size_t len = (32u << 20) + 100;
    char *big = xalloc(len);
    memset(big, 'x', len);
    memcpy(big, "prompt\n", 7);
    expect_recording(".csv", big, len, "{}", ERR_LIMIT, "line 2: the record has more than 33554432 bytes");
    memcpy(big, "{\"prompt\":1}\n", 13);
    expect_recording(".jsonl", big, len, "{}", ERR_LIMIT, "line 2: more than 33554432 bytes");
    free(big);
    expect_open(&engine_replay, "{\"path\":\"/nonexistent.csv\"}", ERR_NOT_FOUND, "cannot open recording");
    expect_open(&engine_replay, "{\"path\":\"/tmp\"}", ERR_IO, "not a regular file");
    expect_open(&engine_replay, "{}", ERR_NOT_FOUND, "names no recording");
    expect_open(&engine_replay, "nonsense", ERR_SYNTAX, "no JSON");
}

struct opener {
    char spec[128];
    int failed;
};

static void *open_and_close(void *arg)
{
    struct opener *opener = arg;
    for (int i = 0; i < 50; i++) {
        void *state;
        struct error error;
        struct job job = {.record = slice_of("{\"id\":1}")};
        struct job *jobs = &job;
        if (engine_replay.open(slice_of(opener->spec), &state, &error) != 0) {
            opener->failed++;
            continue;
        }
        engine_replay.advance(state, &jobs, 1, 0);
        opener->failed += job.state != JOB_DONE || job.out.len != 1;
        job_clear(&job);
        engine_replay.close(&state);
    }
    return NULL;
}

static void test_replay_is_shared(void **unused)
{
    (void)unused;
    char path[64];
    pthread_t threads[4];
    struct opener openers[4] = {0};
    file_of(path, ".csv", "prompt,text\n1,a\n", 16);
    /* While one holds the recording, others need no file. */
    void *held = open_replay(path, "{}");
    unlink(path);
    for (int i = 0; i < 4; i++) {
        snprintf(openers[i].spec, sizeof(openers[i].spec), "{\"path\":\"%s\",\"options\":{}}", path);
        assert_int_equal(pthread_create(&threads[i], NULL, open_and_close, &openers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(openers[i].failed, 0);
    }
    engine_replay.close(&held);
    expect_open(&engine_replay, openers[0].spec, ERR_NOT_FOUND, "cannot open recording");
}

static void test_replay_recorded_data(void **unused)
{
    (void)unused;
    char path[512], record[32];
    const char *data = getenv("DROVER_DATA");
    struct job job = {0};
    snprintf(path, sizeof(path), "%s/esc-gpt35-lastletters-500x40/last_letters_500x40.csv",
             data != NULL ? data : "../shared/data");
    if (access(path, R_OK) != 0) {
        print_message("# no recorded data (DROVER_DATA)\n");
        skip();
    }
    void *state = open_replay(path, "{\"columns\":{\"prompt\":\"question_id\",\"ordinal\":\"sample\","
                                    "\"answer\":\"pred\",\"correct\":\"correct\"}}");
    int right = 0, rows = 0;
    for (int q = 0; q < 500; q++) {
        for (uint32_t k = 0; k < 41; k++) {
            snprintf(record, sizeof(record), "{\"id\":%d}", q);
            replay_at(state, record, k, &job);
            expect_done(&job);
            assert_true((job.result.finish == FINISH_EXHAUSTED) == (k == 40));
            if (k == 40)
                continue;
            rows++;
            right += job.result.features.v[FEATURE_CORRECT] == 1;
        }
    }
    assert_int_equal(rows, 20000);
    print_message("# 20000 recorded rollouts, %d right\n", right);
    assert_true(right > 1000);
    job_clear(&job);
    engine_replay.close(&state);
}

/* --- synthetic --- */

static void *open_synthetic(const char *options)
{
    char spec[512];
    snprintf(spec, sizeof(spec), "{\"name\":\"s\",\"backend\":\"synthetic\",\"options\":%s}", options);
    return open_good(&engine_synthetic, spec);
}

static const char *last_line(const struct buf *text)
{
    const char *line = text->len > 0 ? strrchr(text->data, '\n') : NULL;
    return line != NULL ? line + 1 : text_of(text);
}

/* |count - n p| within five standard deviations. */
static void expect_binomial(int count, int n, double p)
{
    double sigma = sqrt(n * p * (1 - p)) + 1e-9;
    if (fabs(count - n * p) > 5 * sigma)
        fail_msg("%d of %d, expected %.1f +- %.1f", count, n, n * p, sigma);
}

enum { DRAWS = 20000 };

static void test_synthetic_laws(void **unused)
{
    (void)unused;
    void *state = open_synthetic("{\"success\":0.3,\"answers\":4,\"length_mean\":100,\"length_sigma\":0.5}");
    struct job job = job_of("{\"id\":1,\"answer\":\"42\"}", 0);
    int right = 0, wrong[4] = {0};
    double tokens = 0, lp[2] = {0};
    for (int i = 0; i < DRAWS; i++) {
        job.seed = rng_u64(7, RNG_TEST, (uint64_t)i, 0);
        run(&engine_synthetic, state, &job);
        expect_done(&job);
        assert_int_equal(job.result.finish, FINISH_STOP);
        const char *answer = last_line(&job.out);
        bool is_right = strcmp(answer, "42") == 0;
        right += is_right;
        if (!is_right) {
            assert_memory_equal(answer, "wrong-", 6);
            int k = atoi(answer + 6);
            assert_in_range(k, 0, 3);
            wrong[k]++;
        }
        tokens += job.result.tokens_out;
        assert_true(job.result.tokens_out >= 1);
        double mean = job.result.features.v[FEATURE_LP_MEAN];
        assert_true(mean < 0);
        assert_true(job.result.features.v[FEATURE_LP_SUM] == mean * job.result.tokens_out);
        lp[is_right] += mean;
    }
    expect_binomial(right, DRAWS, 0.3);
    for (int k = 0; k < 4; k++)
        expect_binomial(wrong[k], DRAWS - right, 0.25);
    /* Lognormal of mean 100 and sigma 0.5: standard deviation 100 sqrt(e^0.25 - 1) = 53. */
    assert_true(fabs(tokens / DRAWS - 100) < 5 * 53 / sqrt(DRAWS));
    assert_true(fabs(lp[1] / right + 0.6) < 0.02);
    assert_true(fabs(lp[0] / (DRAWS - right) + 0.9) < 0.02);
    job_clear(&job);
    engine_synthetic.close(&state);
}

static void test_synthetic_spread(void **unused)
{
    (void)unused;
    void *state = open_synthetic("{\"success\":0.4,\"success_spread\":1,\"length_sigma\":0}");
    struct job job = {0};
    char record[64];
    double sum = 0, squares = 0;
    int easy = 0, hard = 0;
    enum { PROMPTS = 1000, EACH = 100 };
    for (uint32_t p = 0; p < PROMPTS; p++) {
        int right = 0;
        snprintf(record, sizeof(record), "{\"id\":%u}", p);
        for (uint32_t i = 0; i < EACH; i++) {
            job.record = slice_of(record);
            job.prompt = p;
            job.seed = rng_u64(8, RNG_TEST, p, i);
            run(&engine_synthetic, state, &job);
            assert_int_equal(job.result.tokens_out, 64);
            right += strcmp(last_line(&job.out), "right") == 0;
        }
        double share = (double)right / EACH;
        sum += share;
        squares += share * share;
        easy += share > 0.6;
        hard += share < 0.2;
    }
    double mean = sum / PROMPTS, variance = squares / PROMPTS - mean * mean;
    /* Uniform in (0, 0.8): variance 0.0533, plus that of 100 draws, about 0.0019. */
    assert_true(fabs(mean - 0.4) < 5 * sqrt(0.0553 / PROMPTS));
    assert_true(fabs(variance - 0.0552) < 0.008);
    assert_in_range(easy, 180, 320);
    assert_in_range(hard, 180, 320);
    job_clear(&job);
    engine_synthetic.close(&state);
}

/* The same jobs one by one, in one batch, and in another order on another state. */
static void test_synthetic_is_deterministic(void **unused)
{
    (void)unused;
    enum { JOBS = 64 };
    struct job jobs[2][JOBS];
    struct job *pointers[JOBS];
    for (int round = 0; round < 2; round++) {
        void *state = open_synthetic("{\"success_spread\":0.5,\"fail_rate\":0.1}");
        for (int i = 0; i < JOBS; i++) {
            int at = round == 0 ? i : JOBS - 1 - i;
            jobs[round][at] = job_of(at % 3 == 0 ? "{\"id\":1}" : "{\"id\":2}", (uint64_t)at);
            jobs[round][at].prompt = at % 3 == 0;
            jobs[round][at].lease = (uint64_t)at + 5;
            pointers[i] = &jobs[round][at];
            if (round == 0)
                run(&engine_synthetic, state, &jobs[round][at]);
        }
        if (round == 1)
            engine_synthetic.advance(state, pointers, JOBS, 12345);
        engine_synthetic.close(&state);
    }
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(jobs[0][i].state, jobs[1][i].state);
        assert_string_equal(text_of(&jobs[0][i].out), text_of(&jobs[1][i].out));
        assert_memory_equal(&jobs[0][i].result, &jobs[1][i].result, sizeof(struct result));
        job_clear(&jobs[0][i]);
        job_clear(&jobs[1][i]);
    }
}

static void test_synthetic_texts(void **unused)
{
    (void)unused;
    void *state = open_synthetic("{\"text_bytes\":2000,\"length_mean\":50}");
    struct job job = job_of("{\"answer\":7}", 1);
    for (job.seed = 0; job.seed < 100; job.seed++) {
        run(&engine_synthetic, state, &job);
        assert_int_equal(job.out.len, 2000);
        assert_int_equal(strlen(job.out.data), 2000);
    }
    job.tokens_max = 1;
    run(&engine_synthetic, state, &job);
    assert_int_equal(job.result.finish, FINISH_LENGTH);
    assert_int_equal(job.result.tokens_out, 1);
    assert_int_equal(job.out.len, 2000);
    assert_null(strchr(job.out.data, '\n')); /* cut before the answer */
    job.record = slice_of("{");
    run(&engine_synthetic, state, &job);
    expect_failed(&job, "synthetic: the prompt's record is no JSON");
    job_clear(&job);
    engine_synthetic.close(&state);
}

static void test_synthetic_failures(void **unused)
{
    (void)unused;
    void *state = open_synthetic("{\"fail_rate\":0.2}");
    struct job job = job_of("{}", 5);
    int failed = 0;
    for (job.lease = 1; job.lease <= DRAWS; job.lease++) {
        run(&engine_synthetic, state, &job);
        failed += job.state == JOB_FAILED;
    }
    expect_binomial(failed, DRAWS, 0.2); /* of one rollout: another lease, another chance */
    job_clear(&job);
    engine_synthetic.close(&state);
}

static void test_synthetic_steps(void **unused)
{
    (void)unused;
    void *state = open_synthetic("{\"success\":1}");
    int lengths[8] = {0};
    for (uint64_t root = 0; root < 400; root++) {
        struct buf path = {0};
        struct job job = job_of("{\"answer\":\"ok\"}", root * 100);
        uint32_t steps = 0;
        job.step = true;
        do {
            job.text = buf_slice(&path);
            run(&engine_synthetic, state, &job);
            expect_done(&job);
            steps++;
            char line[32];
            size_t len = (size_t)snprintf(line, sizeof(line), "step %u of ", steps);
            if (job.result.finish == FINISH_STEP) {
                assert_memory_equal(job.out.data, line, len);
                assert_int_equal(job.out.data[job.out.len - 1], '\n');
            }
            buf_put(&path, job.out.data, job.out.len);
            job.seed++; /* another node has another seed */
            assert_true(steps <= 6);
        } while (job.result.finish == FINISH_STEP);
        assert_int_equal(job.result.finish, FINISH_STOP);
        assert_string_equal(last_line(&path), "ok");
        assert_in_range(steps, 3, 6);
        lengths[steps]++;
        buf_clear(&path);
        job_clear(&job);
    }
    for (int steps = 3; steps <= 6; steps++)
        expect_binomial(lengths[steps], 400, 0.25);
    engine_synthetic.close(&state);
}

static void test_synthetic_latency(void **unused)
{
    (void)unused;
    enum { JOBS = 64 };
    void *state = open_synthetic("{\"latency_ms\":100,\"latency_sigma\":0.5}");
    struct job jobs[JOBS], *pointers[JOBS];
    for (uint64_t i = 0; i < JOBS; i++) {
        jobs[i] = job_of("{}", i);
        jobs[i].timeout_ms = i == 0 ? 1 : 0;
        pointers[i] = &jobs[i];
    }
    int64_t now = 1000, wait = engine_synthetic.advance(state, pointers, JOBS, now);
    assert_int_equal(wait, 1); /* the timeout */
    int done = 0, rounds = 0, late = 0;
    for (; done < JOBS - 1; rounds++) {
        assert_true(rounds < JOBS);
        now += wait;
        wait = engine_synthetic.advance(state, pointers, JOBS, now);
        done = 0;
        for (int i = 0; i < JOBS; i++) {
            if (i == 5 && rounds == 0) {
                engine_synthetic.cancel(state, &jobs[i]);
                jobs[i].state = JOB_FAILED;
            }
            bool due = now - 1000 >= jobs[i].result.latency_ms;
            if (i != 5)
                assert_int_equal(jobs[i].state, due ? JOB_DONE : JOB_RUNNING);
            done += jobs[i].state == JOB_DONE;
        }
    }
    for (int i = 0; i < JOBS; i++)
        late += jobs[i].result.latency_ms > 100;
    assert_in_range(late, 15, 49); /* about half lie above the median */
    assert_int_equal(jobs[0].result.finish, FINISH_TIMEOUT);
    assert_int_equal(jobs[0].result.latency_ms, 1);
    for (int i = 0; i < JOBS; i++)
        job_clear(&jobs[i]);
    engine_synthetic.close(&state);
}

static void test_synthetic_spec(void **unused)
{
    (void)unused;
    expect_open(&engine_synthetic, "{\"options\":{\"success\":1.5}}", ERR_RANGE, "'success' is 1.5");
    expect_open(&engine_synthetic, "{\"options\":{\"answers\":0}}", ERR_RANGE, "'answers' is 0");
    expect_open(&engine_synthetic, "{\"options\":{\"answers\":1.5}}", ERR_SYNTAX, "not a whole number");
    expect_open(&engine_synthetic, "{\"options\":{\"text_bytes\":1e9}}", ERR_SYNTAX, "'text_bytes'");
    expect_open(&engine_synthetic, "{\"options\":{\"latency_ms\":\"1\"}}", ERR_SYNTAX, "'latency_ms'");
    expect_open(&engine_synthetic, "", ERR_SYNTAX, "synthetic: no JSON");
}

static void test_synthetic_speed(void **unused)
{
    (void)unused;
    enum { JOBS = 256, ROUNDS = 400 };
    void *state = open_synthetic("{\"text_bytes\":2000}");
    struct job *jobs = xalloc(JOBS * sizeof(*jobs)), *pointers[JOBS];
    char records[JOBS][64];
    struct timespec start, end;
    for (uint32_t i = 0; i < JOBS; i++) {
        snprintf(records[i], sizeof(records[i]), "{\"id\":%u,\"prompt\":\"what?\",\"answer\":\"5\"}", i);
        jobs[i] = job_of(records[i], 0);
        jobs[i].prompt = i;
        pointers[i] = &jobs[i];
    }
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (uint64_t i = 0; i < JOBS; i++) {
            jobs[i].seed = round << 32 | i;
            jobs[i].state = JOB_RUNNING;
        }
        engine_synthetic.advance(state, pointers, JOBS, 0);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double ns = (double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec);
    print_message("# synthetic: %.2f us per job of 2000 bytes\n", ns / 1000 / (JOBS * ROUNDS));
    for (uint32_t i = 0; i < JOBS; i++) {
        assert_int_equal(jobs[i].state, JOB_DONE);
        job_clear(&jobs[i]);
    }
    free(jobs);
    engine_synthetic.close(&state);
}

/* --- exec --- */

static void *open_exec(const char *script)
{
    struct buf spec = {0};
    buf_printf(&spec, "{\"options\":{\"command\":[\"sh\",\"-c\",\"%s\"]},\"temperature\":0.5}", script);
    void *state = open_good(&engine_exec, spec.data);
    buf_clear(&spec);
    return state;
}

/* Runs one job with a script that prints `reply` for each line. */
static void run_reply(const char *reply, struct job *job)
{
    struct buf script = {0};
    buf_puts(&script, "while read -r l; do echo '");
    for (const char *p = reply; *p != '\0'; p++)
        buf_printf(&script, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
    buf_puts(&script, "'; done");
    void *state = open_exec(script.data);
    run(&engine_exec, state, job);
    engine_exec.close(&state);
    assert_null(state);
    buf_clear(&script);
}

static void test_exec_good(void **unused)
{
    (void)unused;
    struct job job = job_of("{\"id\":1,\n\"prompt\":\"p\"}", 8);
    job.timeout_ms = 10000;
    run_reply("{\"text\":\"a b\",\"tokens_in\":3,\"tokens_out\":2}", &job);
    expect_done(&job);
    assert_string_equal(text_of(&job.out), "a b");
    assert_int_equal(job.found.len, 0);
    assert_int_equal(job.result.finish, FINISH_STOP);
    assert_int_equal(job.result.tokens_in, 3);
    assert_int_equal(job.result.tokens_out, 2);
    job.step = true;
    run_reply("{\"text\":\"x\",\"answer\":\"5\",\"tokens_in\":0,\"tokens_out\":0,\"finish\":\"step\","
              "\"features\":{\"lp_mean\":-0.5,\"reward\":2,\"other\":1},\"new\":[1]}",
              &job);
    expect_done(&job);
    assert_string_equal(text_of(&job.found), "5");
    assert_int_equal(job.result.finish, FINISH_STEP);
    assert_int_equal(job.result.features.have, 1u << FEATURE_LP_MEAN | 1u << FEATURE_REWARD);
    assert_true(job.result.features.v[FEATURE_LP_MEAN] == -0.5);
    job_clear(&job);
}

static void test_exec_question(void **unused)
{
    (void)unused;
    /* The program answers only the exact question. */
    void *state = open_exec("read -r l; case $l in "
                            "'{\\\"prompt\\\":{\\\"id\\\":1,\\\"prompt\\\":\\\"p\\\"},\\\"text\\\":"
                            "\\\"a\\\\nb\\\",\\\"seed\\\":4,\\\"ordinal\\\":3,\\\"max_tokens\\\":9,\\\"step\\\":true,"
                            "\\\"temperature\\\":0.5}') echo '{\\\"text\\\":\\\"\\\",\\\"tokens_in\\\":1,"
                            "\\\"tokens_out\\\":9}';; *) echo \\\"$l\\\" ;; esac");
    struct job job = job_of("{\"id\":1,\n\"prompt\":\"p\"}", 8);
    job.text = slice_of("a\nb");
    job.ordinal = 3;
    job.tokens_max = 9;
    job.step = true;
    run(&engine_exec, state, &job);
    expect_done(&job);
    assert_int_equal(job.out.len, 0);
    job_clear(&job);
    engine_exec.close(&state);
}

/* The cue and the attempts before, or where thinking ends: only where there is one. */
static void exec_is_asked(struct job *job, const char *more)
{
    struct buf script = {0};
    buf_puts(&script, "read -r l; case $l in *'\\\"temperature\\\":0.5");
    for (const char *p = more; *p != '\0'; p++)
        buf_printf(&script, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
    buf_puts(&script, "}') echo '{\\\"text\\\":\\\"x\\\",\\\"tokens_in\\\":1,\\\"tokens_out\\\":1}';; "
                      "*) echo \\\"$l\\\" ;; esac");
    void *state = open_exec(script.data);
    job->record = slice_of("{\"prompt\":\"p\"}");
    run(&engine_exec, state, job);
    expect_done(job);
    engine_exec.close(&state);
    buf_clear(&script);
    job_clear(job);
}

static void test_exec_cues(void **unused)
{
    (void)unused;
    const struct slice turns[] = {slice_of("a\n"), slice_of("b")};
    struct job plain = {0}, revise = {.cue = CUE_REVISE, .cue_text = slice_of("again"), .turns = turns, .turns_len = 2};
    struct job wait = {.cue = CUE_WAIT, .cue_text = slice_of("Wait"), .text = slice_of("hmWait"), .think = true};
    wait.spec = slice_of("{\"think_end\":\"</t>\"}");
    exec_is_asked(&plain, "");
    assert_int_equal(plain.result.finish, FINISH_STOP);
    exec_is_asked(&revise, ",\"cue\":\"again\",\"turns\":[\"a\\n\",\"b\"]");
    assert_int_equal(revise.result.finish, FINISH_STOP);
    exec_is_asked(&wait, ",\"cue\":\"Wait\",\"think_end\":\"</t>\"");
    assert_int_equal(wait.result.finish, FINISH_STEP); /* thinking that ended by itself may go on */
    run_reply("{\"text\":\"x\",\"tokens_in\":0,\"tokens_out\":0,\"finish\":\"step\"}", &wait);
    assert_int_equal(wait.result.finish, FINISH_STEP);
    run_reply("{\"text\":\"x\",\"tokens_in\":0,\"tokens_out\":0,\"finish\":\"length\"}", &wait);
    assert_int_equal(wait.result.finish, FINISH_LENGTH);
    job_clear(&wait);
    wait.spec = slice_of("{}");
    run_reply("{}", &wait);
    expect_failed(&wait, "does not say its `think_end`");
    job_clear(&wait);
}

static void test_exec_garbage(void **unused)
{
    (void)unused;
    static const struct {
        const char *reply, *words;
    } cases[] = {
        {"hello", "no JSON"},
        {"[]", "not an object"},
        {"{}", "no 'text'"},
        {"{\"text\":5,\"tokens_in\":1,\"tokens_out\":1}", "'text' is not text"},
        {"{\"text\":\"x\"}", "what is unknown cannot be charged"},
        {"{\"text\":\"x\",\"tokens_in\":1}", "what is unknown cannot be charged"},
        {"{\"text\":\"x\",\"tokens_in\":null,\"tokens_out\":1}", "what is unknown cannot be charged"},
        {"{\"text\":\"x\",\"tokens_in\":-1,\"tokens_out\":1}", "'tokens_in' is -1"},
        {"{\"text\":\"x\",\"tokens_in\":1,\"tokens_out\":6}", "generated 6 tokens and was allowed 5"},
        {"{\"text\":\"x\",\"tokens_in\":1,\"tokens_out\":1,\"finish\":\"step\"}", "'finish' is 'step'"},
        {"{\"text\":\"x\",\"tokens_in\":1,\"tokens_out\":1,\"features\":{\"reward\":\"a\"}}", "'reward'"},
        {"{\"error\":\"no such model\"}", "it says: no such model"},
    };
    struct job job = job_of("{}", 1);
    job.tokens_max = 5;
    job.timeout_ms = 10000;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        run_reply(cases[i].reply, &job);
        expect_failed(&job, cases[i].words);
        assert_int_equal(job.out.len, 0);
    }
    job.record = slice_of("no record");
    run_reply("{}", &job);
    expect_failed(&job, "no JSON");
    job_clear(&job);
}

#define USAGE "\\\"tokens_in\\\":1,\\\"tokens_out\\\":1"

/* Crash, then hang, then good: one state survives them all. $0 counts the starts in a file. */
static void test_exec_restarts(void **unused)
{
    (void)unused;
    char path[64], script[512];
    file_of(path, "", "", 0);
    snprintf(script, sizeof(script),
             "echo >>%s; n=$(wc -l <%s); read -r l; case $n in 1) exit 3;; 2) sleep 60;; esac; "
             "echo '{\\\"text\\\":\\\"'$n'\\\"," USAGE "}'",
             path, path);
    void *state = open_exec(script);
    struct job job = job_of("{}", 1);
    job.timeout_ms = 300;
    run(&engine_exec, state, &job);
    expect_failed(&job, "exec: sh: ");
    run(&engine_exec, state, &job);
    expect_failed(&job, "exec: sh: ");
    assert_true(job.result.latency_ms >= 250);
    job.timeout_ms = 10000;
    run(&engine_exec, state, &job);
    expect_done(&job);
    assert_string_equal(text_of(&job.out), "3");
    /* The third has ended after its one answer; that costs the next job nothing. */
    run(&engine_exec, state, &job);
    expect_done(&job);
    assert_string_equal(text_of(&job.out), "4");
    job_clear(&job);
    engine_exec.close(&state);
    unlink(path);
}

static void test_exec_spec(void **unused)
{
    (void)unused;
    expect_open(&engine_exec, "{}", ERR_NOT_FOUND, "'command' is missing");
    expect_open(&engine_exec, "{\"options\":{\"command\":[]}}", ERR_SYNTAX, "not a list of texts");
    expect_open(&engine_exec, "{\"options\":{\"command\":\"sh\"}}", ERR_SYNTAX, "not a list of texts");
    expect_open(&engine_exec, "{\"options\":{\"command\":[1]}}", ERR_SYNTAX, "not text");
    expect_open(&engine_exec, "{\"options\":{\"command\":[\"/nonexistent/program\"]}}", ERR_NOT_FOUND,
                "/nonexistent/program");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_csv),
        cmocka_unit_test(test_replay_csv),
        cmocka_unit_test(test_replay_cap),
        cmocka_unit_test(test_replay_jsonl),
        cmocka_unit_test(test_replay_hostile),
        cmocka_unit_test(test_replay_results),
        cmocka_unit_test(test_replay_where),
        cmocka_unit_test(test_replay_is_shared),
        cmocka_unit_test(test_replay_recorded_data),
        cmocka_unit_test(test_synthetic_laws),
        cmocka_unit_test(test_synthetic_spread),
        cmocka_unit_test(test_synthetic_is_deterministic),
        cmocka_unit_test(test_synthetic_texts),
        cmocka_unit_test(test_synthetic_failures),
        cmocka_unit_test(test_synthetic_steps),
        cmocka_unit_test(test_synthetic_latency),
        cmocka_unit_test(test_synthetic_spec),
        cmocka_unit_test(test_synthetic_speed),
        cmocka_unit_test(test_exec_good),
        cmocka_unit_test(test_exec_question),
        cmocka_unit_test(test_exec_cues),
        cmocka_unit_test(test_exec_garbage),
        cmocka_unit_test(test_exec_restarts),
        cmocka_unit_test(test_exec_spec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
