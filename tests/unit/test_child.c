/* Children that speak lines: the good, the slow, the dead and the loud. */
#include "common/io/child.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 20000 /* far more than a loaded machine needs */

static struct child *start_sh(const char *script)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    struct child *child;
    struct error error;
    if (child_start(argv, &child, &error) != 0)
        fail_msg("%s", error.text);
    return child;
}

/* One question to a fresh child; the sentence goes to error. */
static int ask_once(const char *script, const char *line, int64_t timeout_ms, struct buf *answer, struct error *error)
{
    struct child *child = start_sh(script);
    int code = child_ask(child, slice_of(line), answer, 1000, timeout_ms, error);
    struct error again;
    if (code != 0)
        assert_int_equal(child_ask(child, slice_of(line), answer, 1000, 10, &again), ERR_CLOSED);
    assert_int_equal(child_answers(child), code == 0);
    child_free(&child);
    assert_null(child);
    return code;
}

static void test_echo(void **state)
{
    (void)state;
    struct child *child = start_sh("exec cat");
    struct buf answer = {0};
    struct error error;
    for (int i = 0; i < 100; i++) {
        char line[32];
        snprintf(line, sizeof line, "line %d", i);
        assert_int_equal(child_ask(child, slice_of(line), &answer, 100, PATIENCE_MS, &error), 0);
        assert_string_equal(answer.data, line);
    }
    assert_int_equal(child_ask(child, (struct slice){0}, &answer, 100, PATIENCE_MS, &error), 0);
    assert_int_equal(answer.len, 0);
    assert_int_equal(child_answers(child), 101);
    child_free(&child);
    child_free(&child);
    buf_clear(&answer);
}

/* More than a pipe holds, while the child writes back before it has read everything. */
static void test_large(void **state)
{
    (void)state;
    struct child *child = start_sh("exec cat");
    struct buf line = {0}, answer = {0};
    struct error error;
    while (line.len < 3u << 20)
        buf_puts(&line, "0123456789abcdef");
    assert_int_equal(child_ask(child, buf_slice(&line), &answer, line.len, PATIENCE_MS, &error), 0);
    assert_int_equal(answer.len, line.len);
    assert_memory_equal(answer.data, line.data, line.len);
    assert_int_equal(child_ask(child, buf_slice(&line), &answer, line.len - 1, PATIENCE_MS, &error), ERR_LIMIT);
    child_free(&child);
    buf_clear(&line);
    buf_clear(&answer);
}

static void test_pieces(void **state)
{
    (void)state;
    struct buf answer = {0};
    struct error error;
    const char *script = "read x; printf 'a'; printf 'b'; printf '\\000c\\r\\n'; read x";
    assert_int_equal(ask_once(script, "q", PATIENCE_MS, &answer, &error), 0);
    assert_int_equal(answer.len, 4);
    assert_memory_equal(answer.data, "ab\0c", 4);
    buf_clear(&answer);
}

static void test_death(void **state)
{
    (void)state;
    struct buf answer = {0};
    struct error error;
    assert_int_equal(ask_once("exit 3", "q", PATIENCE_MS, &answer, &error), ERR_CLOSED);
    assert_non_null(strstr(error.text, "status 3"));
    assert_int_equal(ask_once("read x; kill -9 $$", "q", PATIENCE_MS, &answer, &error), ERR_CLOSED);
    assert_non_null(strstr(error.text, "signal 9"));
    assert_int_equal(ask_once("read x; printf half", "q", PATIENCE_MS, &answer, &error), ERR_CLOSED);
    assert_int_equal(answer.len, 0);
    buf_clear(&answer);
}

/* Writing to a dead child neither kills us with SIGPIPE nor leaves one behind. */
static void test_sigpipe(void **state)
{
    (void)state;
    assert_true(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    struct buf line = {0}, answer = {0};
    struct error error;
    while (line.len < 1u << 20)
        buf_puts(&line, "0123456789abcdef");
    struct child *child = start_sh("exec <&-; exit 0");
    assert_int_equal(child_ask(child, buf_slice(&line), &answer, 100, PATIENCE_MS, &error), ERR_CLOSED);
    sigset_t pending;
    sigpending(&pending);
    assert_false(sigismember(&pending, SIGPIPE));
    child_free(&child);
    buf_clear(&line);
    buf_clear(&answer);
}

static void test_timeout(void **state)
{
    (void)state;
    struct buf answer = {0};
    struct error error;
    assert_int_equal(ask_once("read x; read y", "q", 30, &answer, &error), ERR_TIMEOUT);
    assert_non_null(strstr(error.text, "30 ms"));
    assert_int_equal(ask_once("printf partial; read x; read y", "q", 30, &answer, &error) != 0, 1);
    buf_clear(&answer);
}

static void test_flood(void **state)
{
    (void)state;
    struct buf answer = {0};
    struct error error;
    assert_int_equal(ask_once("read x; exec cat /dev/zero", "q", PATIENCE_MS, &answer, &error), ERR_LIMIT);
    assert_int_equal(answer.len, 0);
    assert_int_equal(ask_once("read x; printf 'a\\nb\\n'; read y", "q", PATIENCE_MS, &answer, &error), ERR_PROTOCOL);
    buf_clear(&answer);
}

static void test_missing(void **state)
{
    (void)state;
    struct child *child;
    struct error error;
    const char *const none[] = {"/nonexistent/program", NULL};
    const char *const folder[] = {"/tmp", NULL};
    const char *const empty[] = {NULL};
    assert_int_equal(child_start(none, &child, &error), ERR_NOT_FOUND);
    assert_non_null(strstr(error.text, "/nonexistent/program"));
    assert_null(child);
    assert_int_equal(child_start(folder, &child, &error), ERR_NOT_FOUND);
    assert_int_equal(child_start(empty, &child, &error), ERR_NOT_FOUND);
}

/* What a child starts dies with it: a grandchild tells its number and waits forever. */
static void test_group(void **state)
{
    (void)state;
    struct child *child = start_sh("read x; sleep 1000 & echo $!; wait");
    struct buf answer = {0};
    struct error error;
    assert_int_equal(child_ask(child, slice_of("q"), &answer, 100, PATIENCE_MS, &error), 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/%.20s/stat", answer.data);
    assert_int_equal(access(path, F_OK), 0);
    child_free(&child);
    /* Somebody else reaps the grandchild; until then it is a zombie. */
    for (char zombie = 0; access(path, F_OK) == 0 && zombie != 'Z';) {
        FILE *file = fopen(path, "r");
        if (file == NULL || fscanf(file, "%*d %*s %c", &zombie) != 1)
            zombie = 0;
        if (file != NULL)
            fclose(file);
    }
    buf_clear(&answer);
}

/* Our other descriptors are not the child's, whether or not they were opened with close-on-exec. */
static void test_descriptors(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    struct child *child = start_sh("read x; test -e /proc/$$/fd/$x && echo open || echo closed");
    struct buf answer = {0};
    struct error error;
    char line[20];
    snprintf(line, sizeof line, "%d", fds[1]);
    assert_int_equal(child_ask(child, slice_of(line), &answer, 100, PATIENCE_MS, &error), 0);
    assert_string_equal(answer.data, "closed");
    child_free(&child);
    close(fds[0]);
    close(fds[1]);
    buf_clear(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),        cmocka_unit_test(test_large),   cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_death),       cmocka_unit_test(test_sigpipe), cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_flood),       cmocka_unit_test(test_missing), cmocka_unit_test(test_group),
        cmocka_unit_test(test_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
