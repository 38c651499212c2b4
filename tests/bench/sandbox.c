/* sandbox.c - starts of an interpreter that does nothing, in a sandbox and without one, in turns.
 *
 * usage: sandbox [ROUNDS [STARTS [THREADS]]]. Each round prints both rates and the CPU time of a start, all processes
 * that take part in it together; the last line has the ratios over all rounds. On a busy machine only the CPU time says
 * something. Both sides are as nice as a sandbox is, and each start is a session of its own, as there: schedulers share
 * by session. */
#include "common/io/clock.h"
#include "verifier/jail.h"

#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS_MAX = 64 };

static const char *const argv[] = {"/usr/bin/python3", "-I", "-S", "-c", "pass", NULL};
static atomic_int left;

static void check(int rc, const char *what, const struct error *error)
{
    if (rc == 0)
        return;
    fprintf(stderr, "sandbox: %s%s%s\n", what, error == NULL ? "" : ": ", error == NULL ? "" : error->text);
    exit(1);
}

static void *bare(void *unused)
{
    char *const environment[] = {NULL};
    int status;
    pid_t pid;
    posix_spawnattr_t own_session;
    posix_spawnattr_init(&own_session);
    posix_spawnattr_setflags(&own_session, POSIX_SPAWN_SETSID);
    while (atomic_fetch_sub(&left, 1) > 0) {
        check(posix_spawn(&pid, argv[0], NULL, &own_session, (char *const *)argv, environment), "cannot start python3",
              NULL);
        check(waitpid(pid, &status, 0) != pid || status != 0, "python3 fails", NULL);
    }
    return unused;
}

static void *sandboxed(void *slot)
{
    const struct sandbox_job job = {.argv = argv, .cpu_s = 10, .wall_ms = 20000, .memory_mib = 512, .quiet = true};
    struct sandbox *sandbox = slot;
    struct sandbox_pipes pipes;
    struct sandbox_end end;
    struct error error;
    while (atomic_fetch_sub(&left, 1) > 0) {
        check(sandbox_start(sandbox, &job, &pipes, &error), "cannot start", &error);
        check(sandbox_end(sandbox, END_WAIT, &end, &error), "cannot end", &error);
        check(end.ending != ENDING_EXIT || end.code != 0, end.text, NULL);
        close(pipes.in);
        close(pipes.out);
    }
    return NULL;
}

struct cost {
    double seconds, cpu;
};

/* CPU time of all processes that were waited for. */
static double cpu_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void measure(void *(*side)(void *), struct sandbox **slots, int threads, int starts, struct cost *cost)
{
    pthread_t thread[THREADS_MAX];
    int64_t begin = clock_ms();
    left = starts;
    for (int i = 0; i < threads; i++)
        check(pthread_create(&thread[i], NULL, side, slots[i]), "cannot start a thread", NULL);
    for (int i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    cost->seconds += (double)(clock_ms() - begin) / 1e3;
}

/* A launcher for each round: the CPU time of slots is known once they are gone. */
static void round_of(int threads, int starts, struct cost costs[2])
{
    struct sandbox *slots[THREADS_MAX] = {NULL};
    struct error error;
    double before = cpu_s();
    measure(bare, slots, threads, starts, &costs[0]);
    costs[0].cpu += cpu_s() - before;
    check(sandbox_launcher_start(&error), "no launcher", &error);
    for (int i = 0; i < threads; i++)
        check(sandbox_open(TIER_NATIVE, &slots[i], NULL, &error), "no sandbox", &error);
    before = cpu_s();
    measure(sandboxed, slots, threads, starts, &costs[1]);
    for (int i = 0; i < threads; i++)
        sandbox_close(&slots[i]);
    sandbox_launcher_stop();
    costs[1].cpu += cpu_s() - before;
}

static void print(const struct cost costs[2], int starts)
{
    printf("bare %.1f/s, %.1f ms of CPU; sandboxed %.1f/s, %.1f ms", starts / costs[0].seconds,
           1e3 * costs[0].cpu / starts, starts / costs[1].seconds, 1e3 * costs[1].cpu / starts);
}

int main(int argc, char **args)
{
    int rounds = argc > 1 ? atoi(args[1]) : 5, starts = argc > 2 ? atoi(args[2]) : 150;
    int threads = argc > 3 ? atoi(args[3]) : (int)sysconf(_SC_NPROCESSORS_ONLN) + 1;
    struct cost total[2] = {{0}};
    check(rounds < 1 || starts < 1 || threads < 1 || threads > THREADS_MAX, "threads: 1 to 64, the rest at least 1",
          NULL);
    setpriority(PRIO_PROCESS, 0, JAIL_NICE);
    for (int i = 0; i < rounds; i++) {
        struct cost costs[2] = {{0}};
        round_of(threads, starts, costs);
        print(costs, starts);
        puts("");
        fflush(stdout);
        for (int side = 0; side < 2; side++) {
            total[side].seconds += costs[side].seconds;
            total[side].cpu += costs[side].cpu;
        }
    }
    print(total, rounds * starts);
    printf(": %.0f %% of the rate, %.2f times the CPU\n", 100 * total[0].seconds / total[1].seconds,
           total[1].cpu / total[0].cpu);
    return 0;
}
