/* test_launcher.c - servers that a worker starts: they come back, they are given up, nothing outlives the worker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/io/clock.h"
#include "worker/launcher.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000 };

static char folder[] = "/tmp/drover-launcher-XXXXXX";

/* What the launcher told. */
static struct {
    pthread_mutex_t lock;
    int started, died, gone, hopeless;
    char url[300];
} told = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void changed(void *arg, const char *url, enum launcher_event event)
{
    (void)arg;
    pthread_mutex_lock(&told.lock);
    *(event == LAUNCHER_STARTED ? &told.started : event == LAUNCHER_DIED ? &told.died : &told.gone) += 1;
    snprintf(told.url, sizeof told.url, "%s", url);
    pthread_mutex_unlock(&told.lock);
}

static void hopeless(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&told.lock);
    told.hopeless++;
    pthread_mutex_unlock(&told.lock);
}

static bool reached(const int *count, int wanted)
{
    pthread_mutex_lock(&told.lock);
    bool there = *count >= wanted;
    pthread_mutex_unlock(&told.lock);
    return there;
}

/* The words on the last line of a file, once there is a whole one. */
static bool last_line(const char *name, char line[256])
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    bool found = false;
    while (file != NULL && fgets(line, 256, file) != NULL)
        found = strchr(line, '\n') != NULL;
    if (file != NULL)
        fclose(file);
    return found;
}

#define UNTIL(condition)                                                         \
    for (int64_t end = clock_ms() + PATIENCE_MS; !(condition); poll(NULL, 0, 5)) \
        if (clock_ms() > end)                                                    \
    fail_msg("waited in vain for: %s", #condition)

static struct launcher *start(const char *command, const char *gpus, int64_t pause_ms)
{
    struct gpus none = {.known = false};
    static struct gpu_plan plan;
    struct launcher *launcher;
    struct error error = {""};
    told.started = told.died = told.gone = told.hopeless = 0;
    assert_int_equal(gpus_plan(gpus, &none, &plan, &error), 0);
    const struct launcher_options options = {.command = command,
                                             .url = "http://127.0.0.1:{port}",
                                             .plan = &plan,
                                             .log_dir = folder,
                                             .name = "w",
                                             .pause_ms = pause_ms,
                                             .changed = changed,
                                             .hopeless = hopeless};
    if (launcher_start(&options, &launcher, &error) != 0)
        fail_msg("%s", error.text);
    return launcher;
}

static bool gone(pid_t pid)
{
    char path[32], state = 'Z';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (file != NULL && fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = 'Z';
    if (file != NULL)
        fclose(file);
    return state == 'Z';
}

/* Each server has its port, its GPUs and its log, and comes back when it dies. */
static void comes_back(void **state)
{
    (void)state;
    struct launcher *launcher =
        start("echo $$ {port} {gpus} {index} $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER; exec sleep 1000", "3,1;2", 1);
    char line[256], gpus[32], seen[32], order[32];
    int pid, port, index;
    UNTIL(last_line("w-0.log", line) && last_line("w-1.log", line));
    assert_int_equal(told.started, 2);
    assert_true(last_line("w-0.log", line));
    assert_int_equal(sscanf(line, "%d %d %31s %d %31s %31s", &pid, &port, gpus, &index, seen, order), 6);
    assert_string_equal(gpus, "3,1");
    assert_string_equal(seen, "3,1");
    assert_string_equal(order, "PCI_BUS_ID");
    assert_int_equal(index, 0);
    kill(pid, SIGKILL);
    UNTIL(reached(&told.started, 3));
    int again;
    UNTIL(last_line("w-0.log", line) && sscanf(line, "%d", &again) == 1 && again != pid);
    assert_int_equal(told.died, 1);
    assert_int_equal(told.gone, 0);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d", port);
    assert_string_equal(told.url, url); /* the same address, for nobody took it */
    launcher_stop(&launcher);
    assert_null(launcher);
    assert_true(gone(again));
}

/* What a server started in its group ends with it, even when it takes no notice of SIGTERM. */
static void ends_the_group(void **state)
{
    (void)state;
    struct launcher *launcher = start("trap '' TERM; sleep 1000 & echo $$ $!; trap 'exit 0' TERM; wait", "none", 1);
    char line[256];
    int pid, other;
    UNTIL(last_line("w-0.log", line) && sscanf(line, "%d %d", &pid, &other) == 2 && kill(other, 0) == 0);
    launcher_stop(&launcher);
    assert_true(gone(pid));
    UNTIL(gone(other));
}

static void is_given_up(void **state)
{
    (void)state;
    struct launcher *launcher = start("echo cannot; exit 7", "cpu:2", 1);
    UNTIL(reached(&told.hopeless, 1));
    launcher_stop(&launcher);
    assert_int_equal(told.started, 16);
    assert_int_equal(told.died, 14);
    assert_true(told.gone >= 2); /* the last death of each, and any change of address */
    assert_int_equal(told.hopeless, 1);
    char line[256];
    assert_true(last_line("w-1.log", line));
    assert_string_equal(line, "cannot\n");
}

/* kill -9 of the worker. */
static void dies_with_the_worker(void **state)
{
    (void)state;
    char line[256];
    int pid, other;
    pid_t worker = fork();
    if (worker == 0) {
        start("sleep 1000 & echo $$ $!; wait", "cpu:3", 1);
        pause();
        _exit(0);
    }
    UNTIL(last_line("w-2.log", line) && sscanf(line, "%d %d", &pid, &other) == 2 && kill(other, 0) == 0);
    kill(worker, SIGKILL);
    waitpid(worker, NULL, 0);
    UNTIL(gone(pid) && gone(other));
}

static void no_log_no_server(void **state)
{
    (void)state;
    struct gpu_plan plan = {.len = 1};
    struct launcher *launcher;
    struct error error = {""};
    const struct launcher_options options = {.command = "true",
                                             .url = "http://127.0.0.1:{port}",
                                             .plan = &plan,
                                             .log_dir = "/tmp/drover-no-such-folder",
                                             .name = "w",
                                             .changed = changed};
    assert_int_equal(launcher_start(&options, &launcher, &error), ERR_SYSTEM);
    assert_null(launcher);
    assert_non_null(strstr(error.text, "/tmp/drover-no-such-folder/w-0.log"));
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int empty_folder(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/w-%d.log", folder, i);
        unlink(path);
    }
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(comes_back, empty_folder),
        cmocka_unit_test_teardown(ends_the_group, empty_folder),
        cmocka_unit_test_teardown(is_given_up, empty_folder),
        cmocka_unit_test_teardown(dies_with_the_worker, empty_folder),
        cmocka_unit_test(no_log_no_server),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
