/* probe.c - the least that a durable broker can cost here: a bare ROUTER and LMDB, nothing else.
 *
 * The broker thread drains its socket, puts every result into one transaction, commits it with LMDB's default flags and only
 * then answers, each answer being the acknowledgement and the next job. No scheduling, no decoding, no bookkeeping: what
 * drover needs beyond this is the price of being an orchestrator. The workers are one process of one thread.
 *
 * usage: probe DIR [WORKERS [CREDITS [SECONDS]]]; DIR must exist and is filled with a journal. */
#include "common/buf.h"
#include "common/io/clock.h"

#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zmq.h>

enum { JOB_BYTES = 1024, RESULT_BYTES = 2000, BATCH = 1024, WORKERS_MAX = 256, WARM_MS = 500 };

static void check(int rc, const char *what)
{
    if (rc == 0)
        return;
    fprintf(stderr, "probe: %s failed\n", what);
    exit(1);
}

static void *socket_new(void *context, int type)
{
    void *socket = zmq_socket(context, type);
    int hwm = 65536, linger = 0;
    zmq_setsockopt(socket, ZMQ_SNDHWM, &hwm, sizeof hwm);
    zmq_setsockopt(socket, ZMQ_RCVHWM, &hwm, sizeof hwm);
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    return socket;
}

/* Answers every job at once, for ever. */
static void work(const char *endpoint, int workers, int credits)
{
    static zmq_pollitem_t items[WORKERS_MAX];
    static char result[RESULT_BYTES];
    void *context = zmq_ctx_new();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    memset(result, 'r', sizeof result);
    for (int i = 0; i < workers; i++) {
        items[i] = (zmq_pollitem_t){.socket = socket_new(context, ZMQ_DEALER), .events = ZMQ_POLLIN};
        check(zmq_connect(items[i].socket, endpoint), "connect");
        for (int c = 0; c < credits; c++)
            zmq_send(items[i].socket, "", 0, 0); /* a credit */
    }
    zmq_msg_t job;
    zmq_msg_init(&job);
    while (zmq_poll(items, workers, -1) > 0)
        for (int i = 0; i < workers; i++)
            while ((items[i].revents & ZMQ_POLLIN) != 0 && zmq_msg_recv(&job, items[i].socket, ZMQ_DONTWAIT) >= 0)
                zmq_send(items[i].socket, result, sizeof result, 0);
}

struct store {
    MDB_env *env;
    MDB_dbi dbi;
    uint64_t next, commits;
};

static void store_open(struct store *store, const char *dir)
{
    MDB_txn *txn;
    check(mdb_env_create(&store->env), "mdb_env_create");
    check(mdb_env_set_mapsize(store->env, (size_t)64 << 30), "mdb_env_set_mapsize");
    check(mdb_env_open(store->env, dir, 0, 0600), "mdb_env_open");
    check(mdb_txn_begin(store->env, NULL, 0, &txn), "mdb_txn_begin");
    check(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &store->dbi), "mdb_dbi_open");
    check(mdb_txn_commit(txn), "mdb_txn_commit");
}

struct route {
    zmq_msg_t peer, payload;
};

static size_t collect(void *router, struct route *routes)
{
    size_t len = 0;
    while (len < BATCH && zmq_msg_recv(&routes[len].peer, router, ZMQ_DONTWAIT) >= 0)
        zmq_msg_recv(&routes[len++].payload, router, ZMQ_DONTWAIT);
    return len;
}

/* Number of results among what came. */
static uint64_t keep(struct store *store, struct route *routes, size_t len)
{
    MDB_txn *txn;
    uint64_t before = store->next;
    check(mdb_txn_begin(store->env, NULL, 0, &txn), "mdb_txn_begin");
    for (size_t i = 0; i < len; i++) {
        MDB_val key = {sizeof store->next, &store->next};
        MDB_val value = {zmq_msg_size(&routes[i].payload), zmq_msg_data(&routes[i].payload)};
        if (value.mv_size == 0)
            continue; /* a credit */
        check(mdb_put(txn, store->dbi, &key, &value, MDB_APPEND), "mdb_put");
        store->next++;
    }
    check(mdb_txn_commit(txn), "mdb_txn_commit");
    store->commits++;
    return store->next - before;
}

static double cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return 1e6 * (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void serve(void *router, struct store *store, int seconds)
{
    static struct route routes[BATCH];
    static char job[JOB_BYTES];
    int64_t begin = clock_ms() + WARM_MS, end = begin + 1000 * seconds, started = 0;
    uint64_t done = 0, commits = 0;
    double cpu = 0;
    zmq_pollitem_t item = {.socket = router, .events = ZMQ_POLLIN};
    for (size_t i = 0; i < BATCH; i++) {
        zmq_msg_init(&routes[i].peer);
        zmq_msg_init(&routes[i].payload);
    }
    memset(job, 'j', sizeof job);
    while (clock_ms() < end) {
        if (started == 0 && clock_ms() >= begin) {
            started = clock_ms();
            commits = store->commits;
            cpu = cpu_us();
            done = 0;
        }
        zmq_poll(&item, 1, 1000);
        size_t len = collect(router, routes);
        done += keep(store, routes, len);
        for (size_t i = 0; i < len; i++) {
            zmq_msg_send(&routes[i].peer, router, ZMQ_SNDMORE);
            zmq_send(router, job, sizeof job, 0);
        }
    }
    double s = (double)(clock_ms() - started) / 1000, n = (double)done;
    printf("rate=%.0f cpu_us=%.2f per_commit=%.1f\n", n / s, (cpu_us() - cpu) / n,
           n / (double)(store->commits - commits));
}

int main(int argc, char **argv)
{
    int workers = argc > 2 ? atoi(argv[2]) : 4, credits = argc > 3 ? atoi(argv[3]) : 64;
    int seconds = argc > 4 ? atoi(argv[4]) : 3, ready[2];
    char endpoint[256] = "";
    if (argc < 2 || workers < 1 || workers > WORKERS_MAX || credits < 1 || seconds < 1) {
        fprintf(stderr, "usage: probe DIR [WORKERS [CREDITS [SECONDS]]]\n");
        return 2;
    }
    check(pipe(ready), "pipe");
    pid_t child = fork(); /* before ZeroMQ starts its threads */
    if (child == 0) {
        if (read(ready[0], endpoint, sizeof endpoint) > 0)
            work(endpoint, workers, credits);
        return 1;
    }
    struct store store = {.next = 1};
    size_t len = sizeof endpoint;
    store_open(&store, argv[1]);
    void *router = socket_new(zmq_ctx_new(), ZMQ_ROUTER);
    check(zmq_bind(router, "tcp://127.0.0.1:*"), "bind");
    zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, endpoint, &len);
    check(write(ready[1], endpoint, sizeof endpoint) != sizeof endpoint, "write");
    serve(router, &store, seconds);
    kill(child, SIGKILL);
    mdb_env_close(store.env);
    return 0;
}
