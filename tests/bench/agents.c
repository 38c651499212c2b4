/* agents.c - many workers in one process that do no work: what is left is the broker.
 *
 * Speaks the agents' protocol over bare sockets and answers each task at once, one message per result, as workers do whose
 * tasks end at different times (--together: one message per answered frame). Measures the broker's process from outside:
 * rollouts acknowledged per second, CPU of all its threads from /proc, memory.
 *
 *   agents load   PID ENDPOINT [options]  rollouts/s and CPU per rollout, after a second of warming up
 *   agents finish PID ENDPOINT [options]  runs until --rollouts are acknowledged
 *   agents first  PID ENDPOINT [options]  CPU that the broker has used when the first task arrives
 *   agents hold   PID ENDPOINT [options]  takes tasks and keeps them; the broker's memory after --seconds
 *   agents idle   PID ENDPOINT [options]  heartbeats alone; share of a core over --seconds
 *
 * options: --workers 4 --verifiers 0 --credits 64 --seconds 5 --rollouts 0 --bytes 2000 --together */
#include "common/io/clock.h"
#include "common/limits.h"
#include "common/msg.h"
#include "common/rng.h"
#include "common/rollout.h"
#include "common/text.h"

#include <getopt.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <zmq.h>

enum { WORKERS_MAX = 1024, WARM_MS = 1000, GIVE_UP_MS = 60000 };
enum mode { MODE_LOAD, MODE_FINISH, MODE_FIRST, MODE_HOLD, MODE_IDLE };

struct worker {
    void *socket;
    uint64_t id;
    int64_t beat_ms;
    uint32_t busy_ms, idle_ms;
    struct buf out;
};

struct load {
    enum mode mode;
    long pid;
    const char *endpoint;
    uint32_t workers_len, verifiers, credits; /* verifiers: so many of the workers */
    uint64_t rollouts;
    double seconds;
    bool together;
    struct buf text; /* frame of every result */
    struct worker workers[WORKERS_MAX];
    zmq_pollitem_t items[WORKERS_MAX];
    uint64_t tasks, acks, duplicates;
};

/* -- the broker's process ------------------------------------------------------------------------------------------- */

/* Of all its threads, in nanoseconds as the scheduler counts them; /proc/PID/stat counts hundredths of seconds. */
static double cpu_s(const struct load *load)
{
    char path[64];
    double ns = 0;
    glob_t tasks = {0};
    snprintf(path, sizeof path, "/proc/%ld/task/*/schedstat", load->pid);
    if (glob(path, 0, NULL, &tasks) != 0) {
        fprintf(stderr, "agents: the broker is gone\n");
        exit(1);
    }
    for (size_t i = 0; i < tasks.gl_pathc; i++) {
        unsigned long long one = 0;
        FILE *file = fopen(tasks.gl_pathv[i], "r");
        if (file == NULL)
            continue;
        if (fscanf(file, "%llu", &one) == 1)
            ns += (double)one;
        fclose(file);
    }
    globfree(&tasks);
    return ns / 1e9;
}

static double memory_mb(const struct load *load)
{
    char path[64], line[256];
    unsigned long kb = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", load->pid);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        sscanf(line, "RssAnon: %lu", &kb); /* the mapped journal is the kernel's cache, not the broker's */
    if (file != NULL)
        fclose(file);
    return (double)kb / 1024;
}

/* -- speaking ------------------------------------------------------------------------------------------------------- */

static void flush(struct worker *worker)
{
    if (worker->out.len > 0)
        zmq_send(worker->socket, worker->out.data, worker->out.len, 0);
    buf_reset(&worker->out);
}

static void hello(struct load *load, struct worker *worker)
{
    char name[32];
    snprintf(name, sizeof name, "load-%u", (unsigned)(worker - load->workers));
    worker->beat_ms = clock_ms() + worker->busy_ms;
    msg_put(&worker->out, &(struct msg){.type = MSG_hello,
                                        .hello = {.version = PROTOCOL_VERSION,
                                                  .agent = worker->id,
                                                  .name = slice_of(name),
                                                  .verifier = worker - load->workers < load->verifiers,
                                                  .kinds = slice_of("synthetic,exact"),
                                                  .credits = load->credits,
                                                  .next_ms = worker->idle_ms,
                                                  .pid = (uint64_t)getpid()}});
    flush(worker);
}

static void beat(struct load *load, struct worker *worker, int64_t now)
{
    uint32_t next = load->mode == MODE_IDLE ? worker->idle_ms : worker->busy_ms;
    if (now < worker->beat_ms)
        return;
    worker->beat_ms = now + next;
    msg_put(&worker->out, &(struct msg){.type = MSG_heartbeat, .heartbeat = {.next_ms = next}});
    flush(worker);
}

static void answer(struct load *load, struct worker *worker, const struct msg_task *task)
{
    static const char answers[] = "abcdefghij";
    load->tasks++;
    if (load->mode == MODE_HOLD || load->mode == MODE_FIRST)
        return;
    if (task->verify) {
        msg_put(&worker->out, &(struct msg){.type = MSG_verdict,
                                            .verdict = {.lease = task->lease,
                                                        .outcome = task->seed % 2 ? OUTCOME_PASS : OUTCOME_FAIL,
                                                        .score = (double)(task->seed % 97) / 97,
                                                        .latency_ms = 1}});
        if (!load->together)
            flush(worker);
        return;
    }
    enum finish finish = task->step && task->seed / 16 % 4 != 0 ? FINISH_STEP : FINISH_STOP;
    msg_put(&worker->out, &(struct msg){.type = MSG_result,
                                        .result = {.lease = task->lease,
                                                   .finish = (uint8_t)finish,
                                                   .tokens_in = 10,
                                                   .tokens_out = 50,
                                                   .latency_ms = 1,
                                                   .answer = {answers + task->seed % 10, 1},
                                                   .frame = buf_slice(&load->text)}});
    if (!load->together)
        flush(worker);
}

static void on_frame(struct load *load, struct worker *worker, struct slice frame)
{
    struct msg msg;
    size_t offset = 0;
    while (offset < frame.len && msg_get(frame, &offset, &msg) == 0) {
        switch ((int)msg.type) {
        case MSG_welcome:
            worker->busy_ms = msg.welcome.busy_ms;
            worker->idle_ms = msg.welcome.idle_ms;
            break;
        case MSG_task:
            answer(load, worker, &msg.task);
            break;
        case MSG_ack:
            load->acks++;
            load->duplicates += msg.ack.duplicate;
            break;
        case MSG_who:
            hello(load, worker);
            break;
        }
    }
    flush(worker);
}

static void turn(struct load *load, int64_t wait_ms)
{
    zmq_msg_t msg;
    zmq_msg_init(&msg);
    zmq_poll(load->items, (int)load->workers_len, (long)wait_ms);
    int64_t now = clock_ms();
    for (uint32_t i = 0; i < load->workers_len; i++) {
        struct worker *worker = &load->workers[i];
        while ((load->items[i].revents & ZMQ_POLLIN) != 0 && zmq_msg_recv(&msg, worker->socket, ZMQ_DONTWAIT) >= 0)
            on_frame(load, worker, (struct slice){zmq_msg_data(&msg), zmq_msg_size(&msg)});
        beat(load, worker, now);
    }
    zmq_msg_close(&msg);
}

/* -- measuring ------------------------------------------------------------------------------------------------------ */

static void run_until(struct load *load, int64_t end, uint64_t acks)
{
    int64_t moved = clock_ms();
    uint64_t seen = load->acks;
    for (int64_t now = moved; now < end && load->acks < acks; now = clock_ms()) {
        turn(load, end - now < 100 ? end - now : 100);
        if (load->acks != seen)
            moved = now;
        seen = load->acks;
        if (now - moved > GIVE_UP_MS && load->mode == MODE_FINISH) {
            fprintf(stderr, "agents: no rollout for a minute\n");
            exit(1);
        }
    }
}

static void measure_rate(struct load *load)
{
    if (load->mode == MODE_LOAD)
        run_until(load, clock_ms() + WARM_MS, UINT64_MAX);
    uint64_t acks = load->acks, most = load->rollouts > 0 ? load->rollouts : UINT64_MAX;
    double cpu = cpu_s(load);
    int64_t begin = clock_ms();
    run_until(load, load->mode == MODE_LOAD ? begin + (int64_t)(1000 * load->seconds) : INT64_MAX, most);
    double s = (double)(clock_ms() - begin) / 1000, n = (double)(load->acks - acks);
    printf("rate=%.0f cpu_us=%.2f rollouts=%.0f duplicates=%llu memory_mb=%.1f\n", n / s, 1e6 * (cpu_s(load) - cpu) / n,
           n, (unsigned long long)load->duplicates, memory_mb(load));
}

static void measure_first(struct load *load)
{
    int64_t begin = clock_ms();
    while (load->tasks == 0 && clock_ms() - begin < GIVE_UP_MS)
        turn(load, 100);
    printf("cpu_s=%.2f tasks=%llu memory_mb=%.1f\n", cpu_s(load), (unsigned long long)load->tasks, memory_mb(load));
}

static void measure_hold(struct load *load)
{
    run_until(load, clock_ms() + (int64_t)(1000 * load->seconds), UINT64_MAX);
    printf("tasks=%llu memory_mb=%.1f\n", (unsigned long long)load->tasks, memory_mb(load));
}

static void measure_idle(struct load *load)
{
    run_until(load, clock_ms() + 2 * WARM_MS, UINT64_MAX);
    double cpu = cpu_s(load);
    run_until(load, clock_ms() + (int64_t)(1000 * load->seconds), UINT64_MAX);
    printf("share=%.3f%% workers=%u seconds=%.0f\n", 100 * (cpu_s(load) - cpu) / load->seconds, load->workers_len,
           load->seconds);
}

/* -- starting ------------------------------------------------------------------------------------------------------- */

/* Random bytes do not compress: the frame has the size that was asked for. */
static void make_text(struct load *load, size_t bytes)
{
    struct buf text = {0};
    for (size_t i = 0; i < bytes; i++) {
        char c = (char)(' ' + 1 + rng_u64(1, RNG_SYNTHETIC, 0, i) % 94);
        buf_put(&text, &c, 1);
    }
    char raw = TEXT_RAW;
    buf_put(&load->text, &raw, 1);
    buf_put(&load->text, text.data, text.len);
    buf_clear(&text);
}

static void connect_all(struct load *load)
{
    void *context = zmq_ctx_new();
    int hwm = 65536, linger = 0;
    zmq_ctx_set(context, ZMQ_MAX_SOCKETS, 2 * WORKERS_MAX);
    for (uint32_t i = 0; i < load->workers_len; i++) {
        struct worker *worker = &load->workers[i];
        worker->socket = zmq_socket(context, ZMQ_DEALER);
        zmq_setsockopt(worker->socket, ZMQ_SNDHWM, &hwm, sizeof hwm);
        zmq_setsockopt(worker->socket, ZMQ_RCVHWM, &hwm, sizeof hwm);
        zmq_setsockopt(worker->socket, ZMQ_LINGER, &linger, sizeof linger);
        if (zmq_connect(worker->socket, load->endpoint) != 0 ||
            getrandom(&worker->id, sizeof worker->id, 0) != (ssize_t)sizeof worker->id) {
            fprintf(stderr, "agents: cannot connect to %s\n", load->endpoint);
            exit(1);
        }
        worker->busy_ms = worker->idle_ms = 2000;
        load->items[i] = (zmq_pollitem_t){.socket = worker->socket, .events = ZMQ_POLLIN};
        hello(load, worker);
    }
}

static void usage(void)
{
    fprintf(
        stderr,
        "usage: agents load|finish|first|hold|idle PID ENDPOINT [--workers N] [--verifiers N] [--credits N] [--seconds S] "
        "[--rollouts N] [--bytes N] [--together]\n");
    exit(2);
}

static size_t parse(struct load *load, int argc, char **argv)
{
    static const struct option options[] = {
        {"workers", required_argument, NULL, 'w'},   {"credits", required_argument, NULL, 'c'},
        {"seconds", required_argument, NULL, 's'},   {"rollouts", required_argument, NULL, 'r'},
        {"bytes", required_argument, NULL, 'b'},     {"together", no_argument, NULL, 't'},
        {"verifiers", required_argument, NULL, 'v'}, {NULL, 0, NULL, 0},
    };
    static const char *const modes[] = {"load", "finish", "first", "hold", "idle"};
    size_t bytes = 2000;
    int option, mode = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        unsigned long value = optarg != NULL ? strtoul(optarg, NULL, 10) : 0;
        switch (option) {
        case 'w':
            load->workers_len = value < WORKERS_MAX ? (uint32_t)value : WORKERS_MAX;
            break;
        case 'v':
            load->verifiers = (uint32_t)value;
            break;
        case 'c':
            load->credits = (uint32_t)value;
            break;
        case 's':
            load->seconds = (double)value;
            break;
        case 'r':
            load->rollouts = value;
            break;
        case 'b':
            bytes = value;
            break;
        case 't':
            load->together = true;
            break;
        default:
            usage();
        }
    }
    if (argc - optind != 3)
        usage();
    while (mode < 5 && strcmp(argv[optind], modes[mode]) != 0)
        mode++;
    if (mode == 5)
        usage();
    load->mode = (enum mode)mode;
    load->pid = strtol(argv[optind + 1], NULL, 10);
    load->endpoint = argv[optind + 2];
    return bytes;
}

int main(int argc, char **argv)
{
    static struct load load = {.workers_len = 4, .credits = 64, .seconds = 5};
    make_text(&load, parse(&load, argc, argv));
    connect_all(&load);
    switch (load.mode) {
    case MODE_LOAD:
    case MODE_FINISH:
        measure_rate(&load);
        break;
    case MODE_FIRST:
        measure_first(&load);
        break;
    case MODE_HOLD:
        measure_hold(&load);
        break;
    case MODE_IDLE:
        measure_idle(&load);
        break;
    }
    return 0;
}
