/* servers.c - the registry of inference servers, one watching thread each, and the choice between them; see servers.h.
 *
 * Everything of a server that engines read is behind one lock; what a probe found is replaced as a whole and kept until
 * the end, so that a lane's texts stay valid. */
#include "worker/servers.h"
#include "common/hash.h"
#include "common/io/clock.h"
#include "common/io/log.h"
#include "common/io/secret.h"
#include "worker/metrics.h"
#include "worker/server_probe.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
    LIMIT_START = 64,
    LIMIT_MAX = 1024,
    LIMIT_BLIND = 256, /* of a server without a queue gauge */
    LIMIT_BACK = 16,   /* of one that was down */
    FAILURES_MAX = 5,  /* in a row, then it is taken for down */
    SCRAPE_MS = 1000,
    IDLE_SCRAPE_MS = 5000,
    SCRAPE_TIMEOUT_MS = 3000,
    RETRY_MS = 250, /* between looks at a server that is down, doubled up to: */
    RETRY_MAX_MS = 5000,
    GATE_MAX_MS = 60000,
    OVERLOADS_MS = 10000, /* overloads closer than that are one */
    RETRIES_START = 10,
    RETRIES_MAX = 64,
    RETRIES_A_SECOND = 4, /* few requests shall not mean that none is tried again */
    SPILL = 32,           /* requests that a prompt's home may hold more than another */
};

enum server_state { SERVER_NEW, SERVER_UP, SERVER_DOWN, SERVER_REMOVED };

struct upstream {
    char *url, *ca_file;
    struct buf key;
    char *key_from; /* file or variable, NULL: none */
    const struct dialect *forced;
    bool only_named;
    uint32_t slots_max;
    uint64_t hash;
    pthread_t thread;

    /* under the lock */
    enum server_state state;
    bool probe; /* find out again what it can do */
    struct server_facts *facts;
    uint32_t in_flight, failures;
    double limit, latency_ms;    /* latency: a moving mean, 0: unknown */
    double good;                 /* the limit before it was overloaded, 0: it was not */
    bool without_ids;            /* it refuses them */
    bool slow_start;             /* nothing was ever too much for it */
    bool hot;                    /* the limit was reached since the last look */
    char told[300];              /* the trouble that was logged last, "": it is over */
    int64_t cut_ms, gate_ms;     /* when the limit was last lowered; no requests before */
    int64_t overload_ms;         /* when it last said that it was too much */
    double retries;              /* requests that may be sent to it again: a tenth of those sent at first */
    int64_t retries_ms;          /* when time was last added */
    int64_t left, left_until_ms; /* requests that its quota still allows, until when */
    char why[300];               /* it is not up */
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_once_t once;
    struct upstream *servers[SERVERS_MAX];
    size_t len;
    atomic_bool stop;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT};

/* Hundreds of connections, and those that are kept for later: the soft limit of 1024 files is little. */
static void raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

static void registry_init(void)
{
    raise_files();
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&registry.changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* Under the lock. */
static void wait_changed(int64_t timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&registry.changed, &registry.lock, &until);
}

/* -- how much a server gets ------------------------------------------------------------------------------------------- */

static double clamp_limit(const struct upstream *server, double limit)
{
    double most = server->slots_max;
    return limit < 1 ? 1 : limit > most ? most : limit;
}

static void lower(struct upstream *server, double limit, int64_t now_ms)
{
    server->slow_start = false;
    server->cut_ms = now_ms;
    server->limit = clamp_limit(server, limit);
}

/* Additive increase, multiplicative decrease, on what the server says of itself. A queue of w means that w of ours are too
 * many, but others use it too, so no cut goes below the half. A queue of an eighth is wanted: it fills places that become
 * free until the next request is there. Who sees the queue may grow fast, for it is cut back a second later. */
static void follow(struct upstream *server, struct gauge_value waiting, struct gauge_value kv, uint32_t in_flight,
                   int64_t now_ms)
{
    double slack = server->limit > 8 ? server->limit / 8 : 1;
    bool queues = waiting.known && waiting.sum > slack;
    if (queues || (kv.known && kv.max > 0.9)) {
        double half = server->limit / 2, fits = queues ? in_flight - waiting.sum + slack : 0.9 * server->limit;
        lower(server, fits > half ? fits : half, now_ms);
    } else if (server->hot && !(waiting.known && waiting.sum > 0) && now_ms - server->cut_ms >= SCRAPE_MS) {
        double more = server->limit / (!waiting.known ? 8 : server->slow_start ? 1 : 2);
        double limit = server->limit + (more > 1 ? more : 1);
        server->limit = clamp_limit(server, waiting.known || limit < LIMIT_BLIND ? limit : LIMIT_BLIND);
    }
    server->hot = false;
}

/* -- the watching thread ---------------------------------------------------------------------------------------------- */

static void scrape(struct upstream *server, const struct server_access *access)
{
    struct buf page = {0};
    const struct dialect *dialect = server->facts->dialect;
    struct gauge_value waiting = {0}, kv = {0};
    pthread_mutex_lock(&registry.lock);
    uint32_t in_flight = server->in_flight; /* when the server is asked */
    pthread_mutex_unlock(&registry.lock);
    if (dialect->gauges[GAUGE_WAITING][0] != NULL &&
        server_fetch(access, "/metrics", (struct slice){0}, SCRAPE_TIMEOUT_MS, &page, NULL) == 200) {
        waiting = metrics_find(buf_slice(&page), dialect->gauges[GAUGE_WAITING], GAUGE_NAMES);
        kv = metrics_find(buf_slice(&page), dialect->gauges[GAUGE_KV], GAUGE_NAMES);
    }
    pthread_mutex_lock(&registry.lock);
    follow(server, waiting, kv, in_flight > server->in_flight ? in_flight : server->in_flight, clock_ms());
    pthread_mutex_unlock(&registry.lock);
    buf_clear(&page);
}

static void came_up(struct upstream *server, struct server_facts *facts)
{
    struct buf line = {0};
    pthread_mutex_lock(&registry.lock);
    bool again = facts == NULL;
    if (!again) {
        facts->older = server->facts;
        server->facts = facts;
        server->without_ids = false;
        server->limit = clamp_limit(server, LIMIT_START);
        server->slow_start = true;
    } else {
        server->limit = clamp_limit(server, LIMIT_BACK);
    }
    server->told[0] = '\0';
    server->failures = 0;
    server->gate_ms = 0;
    if (server->state != SERVER_REMOVED && !server->probe) /* else it was added again meanwhile, and may be another */
        server->state = SERVER_UP;
    server_facts_print(server->facts, &line);
    pthread_cond_broadcast(&registry.changed);
    pthread_mutex_unlock(&registry.lock);
    if (again)
        log_line(0, "server url=%s is up again", server->url);
    else
        log_line(0, "server url=%s %s", server->url, line.data);
    buf_clear(&line);
}

/* Numbers aside, such as a port or the time that an attempt took. */
static bool same_trouble(const char *a, const char *b)
{
    static const char digits[] = "0123456789";
    for (;; a++, b++) {
        a += strspn(a, digits);
        b += strspn(b, digits);
        if (*a != *b || *a == '\0')
            return *a == *b;
    }
}

/* Looks at a server that is not up; whether it is now. */
static bool try_up(struct upstream *server, const struct server_access *access)
{
    struct error error = {""};
    struct server_facts *facts = NULL;
    bool up = server_healthy(access, &error);
    pthread_mutex_lock(&registry.lock);
    bool probe = up && server->probe;
    server->probe = server->probe && !up;
    pthread_mutex_unlock(&registry.lock);
    if (probe) {
        facts = xalloc(sizeof *facts);
        up = server_probe(access, server->forced, facts, &error) == 0;
    }
    if (up) {
        came_up(server, facts);
        return true;
    }
    free(facts);
    secret_hide(error.text, access->key);
    pthread_mutex_lock(&registry.lock);
    server->probe = server->probe || probe;
    memcpy(server->why, error.text, sizeof server->why);
    server->why[sizeof server->why - 1] = '\0';
    bool tell = !same_trouble(server->told, server->why) && !atomic_load(&registry.stop);
    memcpy(server->told, server->why, sizeof server->told);
    pthread_cond_broadcast(&registry.changed);
    pthread_mutex_unlock(&registry.lock);
    if (tell)
        log_line(0, "server url=%s is not ready, waiting for it: %s", server->url, error.text);
    return false;
}

static void *watch_main(void *arg)
{
    struct upstream *server = arg;
    struct server_access access = {.http = http_new(),
                                   .url = server->url,
                                   .key = server->key.len > 0 ? server->key.data : NULL,
                                   .key_from = server->key_from,
                                   .ca_file = server->ca_file,
                                   .stop = &registry.stop};
    int64_t retry_ms = RETRY_MS, wait_ms;
    pthread_mutex_lock(&registry.lock);
    while (!atomic_load(&registry.stop)) {
        enum server_state state = server->state;
        wait_ms = server->in_flight > 0 ? SCRAPE_MS : IDLE_SCRAPE_MS;
        pthread_mutex_unlock(&registry.lock);
        if (state == SERVER_UP) {
            scrape(server, &access);
            retry_ms = RETRY_MS;
        } else if (state != SERVER_REMOVED && !try_up(server, &access)) {
            wait_ms = retry_ms;
            retry_ms = 2 * retry_ms < RETRY_MAX_MS ? 2 * retry_ms : RETRY_MAX_MS;
        }
        pthread_mutex_lock(&registry.lock);
        for (int64_t until = clock_ms() + wait_ms; !atomic_load(&registry.stop) && clock_ms() < until;) {
            enum server_state before = server->state;
            wait_changed(until - clock_ms());
            bool woken =
                server->state != before || (server->state == SERVER_UP && wait_ms > SCRAPE_MS && server->in_flight > 0);
            if (woken)
                break;
        }
    }
    pthread_mutex_unlock(&registry.lock);
    http_free(&access.http);
    return NULL;
}

/* -- the registry ----------------------------------------------------------------------------------------------------- */

/* Under the lock. */
static struct upstream *find(struct slice url)
{
    for (size_t i = 0; i < registry.len; i++)
        if (strlen(registry.servers[i]->url) == url.len && memcmp(registry.servers[i]->url, url.data, url.len) == 0)
            return registry.servers[i];
    return NULL;
}

/* "http://host:1/" and "http://host:1/v1" are how people write http://host:1. */
static struct slice base_of(const char *url)
{
    struct slice base = slice_of(url);
    while (base.len > 0 && base.data[base.len - 1] == '/')
        base.len--;
    if (base.len > 3 && memcmp(base.data + base.len - 3, "/v1", 3) == 0)
        base.len -= 3;
    return base;
}

static void server_free(struct upstream *server)
{
    while (server->facts != NULL) {
        struct server_facts *older = server->facts->older;
        free(server->facts);
        server->facts = older;
    }
    secret_clear(&server->key);
    free(server->key_from);
    free(server->url);
    free(server->ca_file);
    free(server);
}

static int server_new(const struct servers_options *options, struct upstream **out, struct error *error)
{
    struct upstream *server = xalloc(sizeof *server);
    struct slice base = base_of(options->url);
    const char *dialect = options->dialect == NULL ? "" : options->dialect;
    int rc = http_url_check(options->url, error);
    if (rc == 0)
        rc = secret_read(options->key_file, options->key_env, &server->key, error);
    if (rc == 0 && dialect[0] != '\0' && strcmp(dialect, "auto") != 0) {
        server->forced = dialect_find(slice_of(dialect));
        if (server->forced == NULL)
            rc = error_set(error, ERR_NOT_FOUND, "'%.40s' is no dialect; known are vllm, sglang, llamacpp, generic",
                           dialect);
    }
    server->url = xalloc(base.len + 1);
    memcpy(server->url, base.data, base.len);
    if (options->ca_file != NULL && options->ca_file[0] != '\0')
        server->ca_file = xstrdup(options->ca_file);
    if (server->key.len > 0)
        server->key_from =
            xstrdup(options->key_file != NULL && options->key_file[0] != '\0' ? options->key_file : options->key_env);
    server->only_named = options->only_named;
    server->slots_max = options->slots_max > 0 ? options->slots_max : LIMIT_MAX;
    server->hash = hash_bytes(server->url, base.len);
    server->probe = true;
    server->limit = clamp_limit(server, LIMIT_START);
    server->retries = RETRIES_START;
    strcpy(server->why, "it was not asked yet");
    *out = server;
    if (rc != 0) {
        server_free(server);
        *out = NULL;
    }
    return rc;
}

/* Signals are for the agent's thread. */
static int start_quiet(pthread_t *thread, struct upstream *server)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(thread, NULL, watch_main, server);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

int servers_add(const struct servers_options *options, struct error *error)
{
    struct upstream *server, *known;
    pthread_once(&registry.once, registry_init);
    int rc = server_new(options, &server, error);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&registry.lock);
    atomic_store(&registry.stop, false);
    known = find(slice_of(server->url));
    if (known != NULL) {
        if (!options->only_named) { /* named by a model before it was given to the worker, or started anew */
            known->only_named = false;
            known->state = SERVER_DOWN;
            known->probe = true;
        }
        pthread_cond_broadcast(&registry.changed);
    } else if (registry.len == SERVERS_MAX) {
        rc = error_set(error, ERR_LIMIT, "more than %d inference servers", SERVERS_MAX);
    } else {
        registry.servers[registry.len++] = server;
        int started = start_quiet(&server->thread, server);
        assert(started == 0);
        (void)started;
        server = NULL;
    }
    pthread_mutex_unlock(&registry.lock);
    if (server != NULL)
        server_free(server);
    return rc;
}

void servers_remove(const char *url)
{
    pthread_mutex_lock(&registry.lock);
    struct upstream *server = find(base_of(url));
    if (server != NULL)
        server->state = SERVER_REMOVED;
    pthread_mutex_unlock(&registry.lock);
}

static size_t count_state(enum server_state state)
{
    size_t count = 0;
    for (size_t i = 0; i < registry.len; i++)
        count += registry.servers[i]->state == state;
    return count;
}

size_t servers_len(void)
{
    pthread_mutex_lock(&registry.lock);
    size_t len = registry.len - count_state(SERVER_REMOVED);
    pthread_mutex_unlock(&registry.lock);
    return len;
}

size_t servers_wait(int64_t timeout_ms)
{
    pthread_once(&registry.once, registry_init);
    pthread_mutex_lock(&registry.lock);
    int64_t until = clock_ms() + timeout_ms;
    size_t up = count_state(SERVER_UP);
    while (up + count_state(SERVER_REMOVED) < registry.len && clock_ms() < until) {
        wait_changed(until - clock_ms());
        up = count_state(SERVER_UP);
    }
    pthread_mutex_unlock(&registry.lock);
    return up;
}

bool servers_trouble(char *text, size_t size)
{
    bool any = false;
    text[0] = '\0';
    pthread_mutex_lock(&registry.lock);
    for (size_t i = 0; i < registry.len && !any; i++) {
        const struct upstream *server = registry.servers[i];
        any = server->state != SERVER_UP && server->state != SERVER_REMOVED && server->told[0] != '\0';
        if (any)
            snprintf(text, size, "%s: %s", server->url, server->why);
    }
    pthread_mutex_unlock(&registry.lock);
    return any;
}

static uint32_t features_of(const struct server_facts *facts)
{
    uint32_t sampled = 1u << FEATURE_LP_SUM | 1u << FEATURE_LP_MEAN | 1u << FEATURE_NLL_VAR | 1u << FEATURE_LP_MIN;
    uint32_t top = 1u << FEATURE_ENT_MEAN | 1u << FEATURE_ENT_TAIL | 1u << FEATURE_CONF_MEAN | 1u << FEATURE_CONF_TAIL |
                   1u << FEATURE_CONF_BOTTOM10 | 1u << FEATURE_CONF_MIN;
    return (facts->logprobs ? sampled : 0) | (facts->alternatives ? top : 0);
}

size_t servers_offers(struct offer *offers, size_t max)
{
    size_t len = 0;
    pthread_mutex_lock(&registry.lock);
    for (size_t i = 0; i < registry.len; i++) {
        const struct upstream *server = registry.servers[i];
        for (size_t j = 0; server->state == SERVER_UP && j < server->facts->models_len && len < max; j++)
            offers[len++] = (struct offer){.model = server->facts->models[j].name,
                                           .context = server->facts->models[j].context,
                                           .features = features_of(server->facts),
                                           .server = server->url};
    }
    pthread_mutex_unlock(&registry.lock);
    return len;
}

size_t servers_room(void)
{
    double room = 0;
    pthread_mutex_lock(&registry.lock);
    for (size_t i = 0; i < registry.len; i++) {
        const struct upstream *server = registry.servers[i];
        if (server->state == SERVER_UP) /* a queue from before its limit was lowered takes nothing from the others */
            room += server->limit > server->in_flight ? server->limit : server->in_flight;
    }
    pthread_mutex_unlock(&registry.lock);
    return (size_t)room;
}

void servers_stop(void)
{
    pthread_once(&registry.once, registry_init);
    pthread_mutex_lock(&registry.lock);
    atomic_store(&registry.stop, true);
    pthread_cond_broadcast(&registry.changed);
    pthread_mutex_unlock(&registry.lock);
    for (size_t i = 0; i < registry.len; i++) {
        pthread_join(registry.servers[i]->thread, NULL);
        server_free(registry.servers[i]);
    }
    registry.len = 0;
}

/* -- choosing --------------------------------------------------------------------------------------------------------- */

/* The server's name of the model that a query asks for; NULL: it does not serve it. */
static const char *model_of(const struct server_facts *facts, struct slice model)
{
    if (model.len == 0)
        return facts->models[0].name;
    for (size_t i = 0; i < facts->models_len; i++)
        if (strlen(facts->models[i].name) == model.len && memcmp(facts->models[i].name, model.data, model.len) == 0)
            return facts->models[i].name;
    return NULL;
}

static bool named(const struct upstream *server, const struct server_query *query)
{
    if (query->url.len == 0)
        return !server->only_named;
    return strlen(server->url) == query->url.len && memcmp(server->url, query->url.data, query->url.len) == 0;
}

static bool serves(const struct upstream *server, const struct server_query *query)
{
    return server->facts != NULL && model_of(server->facts, query->model) != NULL &&
           (query->dialect == NULL || query->dialect == server->facts->dialect);
}

static bool has_room(const struct upstream *server, const struct server_query *query, int64_t now_ms)
{
    bool quota = server->left > 0 || now_ms >= server->left_until_ms;
    return server->in_flight + 1 <= server->limit && now_ms >= server->gate_ms && quota &&
           (!query->again || server->retries >= 1);
}

static void add_retries(struct upstream *server, double more)
{
    server->retries = server->retries + more < RETRIES_MAX ? server->retries + more : RETRIES_MAX;
}

/* Trouble that all requests have shall not become a multiple of them. */
static void earn_retries(struct upstream *server, int64_t now_ms)
{
    if (server->retries_ms > 0)
        add_retries(server, RETRIES_A_SECOND * (double)(now_ms - server->retries_ms) / 1000);
    server->retries_ms = now_ms;
}

struct candidates {
    struct upstream *home; /* the prompt's own, whether it has room or not */
    struct upstream *best; /* the one that would answer soonest, of those with room */
    uint64_t home_rank;
    double best_score, latency_min;
    size_t up, waited_for;
};

static void look(struct candidates *found, struct upstream *server, const struct server_query *query, int64_t now_ms)
{
    if (!named(server, query) || server->state == SERVER_REMOVED)
        return;
    if (server->state != SERVER_UP) {
        found->waited_for += server->facts == NULL || serves(server, query);
        return;
    }
    if (!serves(server, query))
        return;
    found->up++;
    uint64_t rank = hash_more(server->hash, &query->affinity, sizeof query->affinity);
    if (found->home == NULL || rank > found->home_rank) {
        found->home = server;
        found->home_rank = rank;
    }
    double latency = server->latency_ms > 0 ? server->latency_ms : found->latency_min;
    double score = (latency > 0 ? latency : 1) * (server->in_flight + 1) / server->limit;
    earn_retries(server, now_ms);
    if (!has_room(server, query, now_ms) || (server == query->avoid && found->best != NULL))
        return;
    if (found->best == NULL || found->best == query->avoid || score < found->best_score) {
        found->best = server;
        found->best_score = score;
    }
}

/* Rendezvous hashing gives each prompt a home; it is left when the home has no room, is much slower than others, or
 * holds many more requests. */
static struct upstream *choose(const struct candidates *found, const struct server_query *query, int64_t now_ms)
{
    struct upstream *home = found->home, *best = found->best;
    if (home == NULL || home == query->avoid || !has_room(home, query, now_ms))
        return best;
    bool slow = home->latency_ms > 3 * found->latency_min && found->latency_min > 0;
    bool crowded = home->in_flight > best->in_flight + best->in_flight / 2 + SPILL;
    return slow || crowded ? best : home;
}

static enum pick refuse(const struct server_query *query, const struct candidates *found, struct error *error)
{
    const struct upstream *first = NULL;
    for (size_t i = 0; i < registry.len && first == NULL; i++)
        if (named(registry.servers[i], query) && registry.servers[i]->state != SERVER_REMOVED &&
            registry.servers[i]->state != SERVER_UP)
            first = registry.servers[i];
    if (found->waited_for > 0 && first != NULL) {
        error_set(error, ERR_CLOSED, "no server of this worker is up; %.100s: %.250s", first->url, first->why);
        return PICK_DOWN;
    }
    error_set(error, ERR_NOT_FOUND, "no server of this worker serves the model '%.*s'%s%s",
              (int)(query->model.len < 100 ? query->model.len : 100),
              query->model.data != NULL ? query->model.data : "", query->dialect != NULL ? " in the dialect " : "",
              query->dialect != NULL ? query->dialect->name : "");
    return PICK_NOWHERE;
}

enum pick servers_pick(const struct server_query *query, int64_t now_ms, struct server_lane *lane, struct error *error)
{
    struct candidates found = {0};
    enum pick pick = PICK_TAKEN;
    struct server_query based = *query;
    based.url = query->url.len > 0 ? base_of(query->url.data) : query->url;
    pthread_mutex_lock(&registry.lock);
    for (size_t i = 0; i < registry.len; i++) {
        double latency = registry.servers[i]->state == SERVER_UP ? registry.servers[i]->latency_ms : 0;
        if (latency > 0 && (found.latency_min == 0 || latency < found.latency_min))
            found.latency_min = latency;
    }
    for (size_t i = 0; i < registry.len; i++)
        look(&found, registry.servers[i], &based, now_ms);
    struct upstream *server = found.up > 0 ? choose(&found, &based, now_ms) : NULL;
    if (found.up == 0) {
        pick = refuse(&based, &found, error);
    } else if (server == NULL) {
        if (found.home != NULL)
            found.home->hot = true;
        pick = PICK_FULL;
    } else {
        server->in_flight++;
        server->left -= server->left > 0;
        add_retries(server, query->again ? -1 : 0.1);
        server->hot = server->hot || server->in_flight + 1 > server->limit;
        if (server->in_flight == 1)
            pthread_cond_broadcast(&registry.changed); /* look at its metrics more often */
        *lane = (struct server_lane){.server = server,
                                     .dialect = server->facts->dialect,
                                     .url = server->url,
                                     .model = model_of(server->facts, query->model),
                                     .ca_file = server->ca_file,
                                     .key = server->key.len > 0 ? server->key.data : NULL,
                                     .logprobs = server->facts->logprobs,
                                     .ids = server->facts->ids && !server->without_ids};
    }
    pthread_mutex_unlock(&registry.lock);
    return pick;
}

bool server_join(struct upstream *server)
{
    pthread_mutex_lock(&registry.lock);
    bool room = server->in_flight + 1 <= server->limit;
    server->in_flight += room;
    server->hot = server->hot || server->in_flight + 1 > server->limit;
    pthread_mutex_unlock(&registry.lock);
    return room;
}

void server_without_ids(struct upstream *server)
{
    pthread_mutex_lock(&registry.lock);
    bool news = !server->without_ids;
    server->without_ids = true;
    pthread_mutex_unlock(&registry.lock);
    if (news)
        log_line(0, "server url=%s refuses token ids: paths are continued as text", server->url);
}

/* A quota as it was when a request came in: what is in flight may have been taken from it since, or not, and a slow answer
 * knows less than a fast one that came before it. So it only ever falls until it is renewed. */
static void heed(struct upstream *server, const struct http_quota *quota, uint64_t each, int64_t now_ms)
{
    if (!quota->told)
        return;
    int64_t left = quota->left / (each > 0 ? (int64_t)each : 1) - server->in_flight;
    if (now_ms < server->left_until_ms && server->left < left)
        return;
    server->left = left > 0 ? left : 0;
    server->left_until_ms = now_ms + (quota->reset_ms < GATE_MAX_MS ? quota->reset_ms : GATE_MAX_MS) + 1;
}

void server_done(struct upstream *server, const struct server_outcome *outcome, int64_t now_ms)
{
    bool opened = false;
    pthread_mutex_lock(&registry.lock);
    assert(server->in_flight > 0);
    server->in_flight--;
    heed(server, &outcome->requests, 1, now_ms);
    heed(server, &outcome->tokens, outcome->tokens_max, now_ms);
    if (outcome->retry_after_ms >= 0 && outcome->overload) {
        int64_t wait_ms = outcome->retry_after_ms < GATE_MAX_MS ? outcome->retry_after_ms : GATE_MAX_MS;
        server->gate_ms = now_ms + wait_ms > server->gate_ms ? now_ms + wait_ms : server->gate_ms;
    }
    if (outcome->overload && now_ms - server->overload_ms > OVERLOADS_MS)
        server->good = server->limit;
    if (outcome->overload)
        server->overload_ms = now_ms;
    if (outcome->overload && now_ms - server->cut_ms >= SCRAPE_MS / 2)
        lower(server, server->limit / 2, now_ms);
    if (outcome->transport) {
        opened = ++server->failures == FAILURES_MAX && server->state == SERVER_UP;
        if (opened) { /* the circuit breaker: closed again by a healthy answer */
            server->state = SERVER_DOWN;
            strcpy(server->why, "its connections failed");
            pthread_cond_broadcast(&registry.changed);
        }
    } else if (!outcome->cancelled && !outcome->overload) {
        server->failures = 0;
        double ms = (double)outcome->total_ms + 1;
        server->latency_ms = server->latency_ms == 0 ? ms : 0.9 * server->latency_ms + 0.1 * ms;
        if (server->limit < server->good / 2) /* a storm is over: as fast as answers come, up to the half of before */
            server->limit = clamp_limit(server, server->limit + 1);
    }
    pthread_mutex_unlock(&registry.lock);
    if (opened)
        log_line(0, "server url=%s failed %d times in a row: no requests until it is healthy", server->url,
                 FAILURES_MAX);
}
