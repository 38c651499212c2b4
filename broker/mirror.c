/* mirror.c - see mirror.h. */
#include "broker/mirror.h"

#include "broker/events.h"
#include "common/io/clock.h"
#include "common/io/log.h"
#include "common/io/redis.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    ENTRY_BYTES = 1 << 20,  /* a longer commit becomes several entries */
    GATHER_BYTES = 1 << 18, /* fewer wait for the next commit, for a moment */
    GATHER_MS = 10,
    ANNOUNCE_MS = 5000,
    RETRY_MS_MIN = 100,
    RETRY_MS_MAX = 10000,
    STEADY_MS = 10000, /* a connection that held so long has earned a quick retry */
    FAREWELL_MS = 1000,
};

/* Takes over an absent stream, and says how far the one of this journal is. */
static const char sync_script[] = "if redis.call('EXISTS', KEYS[1]) == 0 then\n"
                                  "  redis.call('SET', KEYS[2], ARGV[1])\n"
                                  "  return '0-0'\n"
                                  "end\n"
                                  "local owner = redis.call('GET', KEYS[2])\n"
                                  "if owner and owner ~= ARGV[1] then return 'foreign' end\n"
                                  "redis.call('SET', KEYS[2], ARGV[1])\n"
                                  "local info = redis.call('XINFO', 'STREAM', KEYS[1])\n"
                                  "for i = 1, #info, 2 do\n"
                                  "  if info[i] == 'last-generated-id' then return info[i + 1] end\n"
                                  "end\n";

/* Adds an entry, unless the stream was emptied or replaced since we looked: what it lacks must go in first. */
static const char add_script[] = "if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 'lost' end\n"
                                 "if ARGV[2] == '1' and redis.call('XLEN', KEYS[1]) == 0 then return 'lost' end\n"
                                 "redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], ARGV[4], 'events', ARGV[5])\n"
                                 "return 'ok'\n";

struct mirror {
    /* shared */
    pthread_t thread;
    int wake; /* eventfd */
    _Atomic uint64_t committed;
    atomic_bool asleep, stopping;
    pthread_mutex_t lock;
    struct mirror_status status; /* under the lock, and so is sent: commits below it are in the stream */
    uint64_t sent;

    /* the thread's own */
    struct journal *journal;
    char address[256];
    struct buf stream, owner, broker, join; /* names of keys; what is told under the last */
    char id[17], max[24];
    uint64_t stream_max;
    bool texts;
    struct redis *redis;
    struct events *events;
    struct seq from;        /* events before it are in the stream */
    struct buf facts, text; /* of the commit at hand */
    struct buf entry;       /* lines of an entry that is being put together, or was not taken yet */
    struct seq entry_seq;   /* of its last line */
    bool firm;              /* the stream holds what we sent, unless it is lost */
    uint64_t counted;       /* commits below are counted as skipped, or were sent */
    uint32_t failures;
    int64_t connected_ms, announce_ms;
};

/* -- what others see -------------------------------------------------------------------------------------------------- */

static void tell(struct mirror *mirror, bool connected, const struct error *error)
{
    pthread_mutex_lock(&mirror->lock);
    bool changed = connected != mirror->status.connected;
    bool news = error != NULL && strcmp(error->text, mirror->status.why) != 0;
    mirror->status.connected = connected;
    if (error != NULL)
        snprintf(mirror->status.why, sizeof mirror->status.why, "%s", error->text);
    pthread_mutex_unlock(&mirror->lock);
    if (connected && changed)
        log_line(0, "redis=%s stream=%s from=%" PRIu64 "-%u", mirror->address, mirror->stream.data, mirror->from.commit,
                 mirror->from.index);
    else if (!connected && (changed || news))
        log_line(0, "%s; the broker goes on, and the stream catches up later", error->text);
}

static uint64_t committed(const struct mirror *mirror)
{
    return atomic_load(&mirror->committed);
}

static void count(struct mirror *mirror, uint64_t entries, uint64_t skipped)
{
    pthread_mutex_lock(&mirror->lock);
    mirror->status.entries += entries;
    mirror->status.skipped += skipped;
    mirror->sent = mirror->entry.len > 0 ? mirror->from.commit : events_next(mirror->events);
    pthread_mutex_unlock(&mirror->lock);
}

struct mirror_status mirror_status(struct mirror *mirror)
{
    pthread_mutex_lock(&mirror->lock);
    struct mirror_status status = mirror->status;
    status.behind = committed(mirror) + 1 - mirror->sent;
    pthread_mutex_unlock(&mirror->lock);
    return status;
}

/* -- asking ------------------------------------------------------------------------------------------------------------ */

/* A script over the stream and the key of its owner. */
static int ask_script(struct mirror *mirror, const char *script, const struct slice *args, size_t len,
                      struct slice *text, struct error *error)
{
    struct slice all[10] = {slice_of("EVAL"), slice_of(script), slice_of("2"), buf_slice(&mirror->stream),
                            buf_slice(&mirror->owner)};
    struct redis_reply reply;
    memcpy(all + 5, args, len * sizeof *args);
    int rc = redis_ask(mirror->redis, all, 5 + len, &reply, error);
    if (rc == 0 && reply.type != REDIS_TEXT)
        rc = error_set(error, ERR_PROTOCOL, "Redis at %s gives an answer that was not asked for", mirror->address);
    *text = reply.text;
    return rc;
}

static bool is(struct slice text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

/* -- where to go on ---------------------------------------------------------------------------------------------------- */

/* The stream ends with `last`. What was put together stays good if nothing changed meanwhile; if Redis has lost entries,
 * the journal is read again. */
static int go_to(struct mirror *mirror, struct seq last, struct error *error)
{
    struct seq next = {last.commit, last.index + 1};
    uint64_t end = committed(mirror), skipped = 0;
    uint64_t oldest = end > mirror->stream_max ? end - mirror->stream_max + 1 : 1;
    if (last.commit > end)
        return error_set(
            error, ERR_CONFLICT,
            "stream %s in Redis is ahead of this journal, which seems to be an old copy: delete the stream, or "
            "say another `redis_prefix`",
            mirror->stream.data);
    mirror->firm = false;
    if (mirror->entry.len > 0 && next.commit == mirror->from.commit && next.index == mirror->from.index)
        return 0;
    if (mirror->entry.len > 0 && !seq_before(last, mirror->entry_seq)) /* it was taken, and the answer was lost */
        buf_reset(&mirror->entry);
    if (next.commit < oldest) {
        uint64_t known = next.commit > mirror->counted ? next.commit : mirror->counted;
        skipped = oldest > known ? oldest - known : 0;
        mirror->counted = oldest > known ? oldest : known;
        next = (struct seq){oldest, 0};
    }
    bool lost = mirror->events != NULL && seq_before(next, mirror->from);
    if (lost || mirror->entry.len > 0)
        events_free(&mirror->events);
    buf_reset(&mirror->entry);
    if (mirror->events == NULL)
        mirror->events = events_new(&(struct events_options){.journal = mirror->journal, .texts = mirror->texts});
    mirror->from = next;
    int rc = events_skip(mirror->events, next.commit, error);
    count(mirror, 0, skipped);
    return rc;
}

static int synchronise(struct mirror *mirror, struct error *error)
{
    struct slice text;
    struct seq last;
    int rc = ask_script(mirror, sync_script, (struct slice[]){slice_of(mirror->id)}, 1, &text, error);
    if (rc != 0)
        return rc;
    if (is(text, "foreign"))
        return error_set(error, ERR_CONFLICT,
                         "stream %s in Redis is of another journal: `redis-cli DEL %s`, or say another `redis_prefix`",
                         mirror->stream.data, mirror->stream.data);
    if (!seq_parse(text, &last))
        return error_set(error, ERR_PROTOCOL, "Redis at %s gives an answer that was not asked for", mirror->address);
    return go_to(mirror, last, error);
}

static int announce(struct mirror *mirror, struct error *error)
{
    struct redis_reply reply;
    if (mirror->join.len == 0 || clock_ms() < mirror->announce_ms)
        return 0;
    mirror->announce_ms = clock_ms() + ANNOUNCE_MS;
    return redis_ask(mirror->redis,
                     (struct slice[]){slice_of("SET"), buf_slice(&mirror->broker), buf_slice(&mirror->join),
                                      slice_of("EX"), slice_of("15")},
                     5, &reply, error);
}

/* -- sending ----------------------------------------------------------------------------------------------------------- */

static int send_entry(struct mirror *mirror, struct error *error)
{
    struct slice text;
    struct buf id = {0};
    if (mirror->entry.len == 0)
        return 0;
    seq_put(&id, mirror->entry_seq);
    int rc = ask_script(mirror, add_script,
                        (struct slice[]){slice_of(mirror->id), slice_of(mirror->firm ? "1" : "0"),
                                         slice_of(mirror->max), buf_slice(&id), buf_slice(&mirror->entry)},
                        5, &text, error);
    buf_clear(&id);
    if (rc != 0)
        return rc;
    if (!is(text, "ok"))
        return error_set(error, ERR_CLOSED, "stream %s in Redis was emptied", mirror->stream.data);
    mirror->from = (struct seq){mirror->entry_seq.commit, mirror->entry_seq.index + 1};
    mirror->firm = true;
    buf_reset(&mirror->entry);
    if (mirror->entry.cap > 2 * ENTRY_BYTES) /* one with a long text */
        buf_clear(&mirror->entry);
    count(mirror, 1, 0);
    return 0;
}

struct sending {
    struct mirror *mirror;
    struct error *error;
};

static int put_line(void *arg, struct seq seq, struct slice line)
{
    struct sending *sending = arg;
    struct mirror *mirror = sending->mirror;
    if (mirror->entry.len > 0 && mirror->entry.len + line.len > ENTRY_BYTES) {
        int rc = send_entry(mirror, sending->error);
        if (rc != 0)
            return rc;
    }
    if (mirror->entry.len > 0)
        buf_puts(&mirror->entry, "\n");
    buf_put(&mirror->entry, line.data, line.len);
    mirror->entry_seq = seq;
    return 0;
}

/* Puts the next commit behind what is gathered. */
static int take_commit(struct mirror *mirror, struct error *error)
{
    struct sending sending = {mirror, error};
    struct seq from = mirror->from, last = mirror->entry_seq;
    size_t before = mirror->entry.len;
    int rc = journal_commit(mirror->journal, events_next(mirror->events), &mirror->facts, &mirror->text, error);
    if (rc == 0)
        rc = events_commit(mirror->events, buf_slice(&mirror->facts), buf_slice(&mirror->text), mirror->from, put_line,
                           &sending, error);
    if (rc != 0) { /* the commit is taken again as a whole; of those before it all stays that was not sent meanwhile */
        mirror->entry.len = seq_before(from, mirror->from) ? 0 : before;
        mirror->entry_seq = last;
    }
    return rc;
}

/* All commits that are there, several in one entry: each costs Redis and us what many lines do. */
static int send_commits(struct mirror *mirror, struct error *error)
{
    int rc = 0;
    while (rc == 0 && mirror->entry.len < GATHER_BYTES && events_next(mirror->events) <= committed(mirror))
        rc = take_commit(mirror, error);
    return rc == 0 ? send_entry(mirror, error) : rc;
}

static bool is_behind(const struct mirror *mirror)
{
    return mirror->entry.len > 0 || events_next(mirror->events) <= committed(mirror);
}

/* -- the thread -------------------------------------------------------------------------------------------------------- */

/* Sleeps until it is woken. Commits wake it only when they could be sent. */
static void rest(struct mirror *mirror, int64_t ms, bool for_commits)
{
    struct pollfd wake = {.fd = mirror->wake, .events = POLLIN};
    uint64_t value;
    atomic_store(&mirror->asleep, for_commits);
    if (!atomic_load(&mirror->stopping) && !(for_commits && is_behind(mirror)) && poll(&wake, 1, (int)ms) > 0) {
        ssize_t done = read(mirror->wake, &value, sizeof value);
        (void)done; /* what matters is that it cannot be read now */
    }
    atomic_store(&mirror->asleep, false);
}

static int64_t retry_ms(const struct mirror *mirror)
{
    uint32_t doublings = mirror->failures < 8 ? mirror->failures : 8;
    int64_t ms = (int64_t)RETRY_MS_MIN << doublings;
    return ms < RETRY_MS_MAX ? ms : RETRY_MS_MAX;
}

/* The connection is of no use: after a failure of Redis, and after one of ours, which must not repeat at once either. */
static void give_up(struct mirror *mirror, const struct error *error)
{
    redis_close(&mirror->redis);
    tell(mirror, false, error);
    if (mirror->connected_ms != 0 && clock_ms() - mirror->connected_ms > STEADY_MS)
        mirror->failures = 0;
    mirror->connected_ms = 0;
    rest(mirror, retry_ms(mirror), false);
    mirror->failures++;
}

static int begin(struct mirror *mirror, struct error *error)
{
    int rc = redis_open(mirror->address, &mirror->redis, error);
    mirror->announce_ms = 0;
    if (rc == 0)
        rc = announce(mirror, error);
    if (rc == 0)
        rc = synchronise(mirror, error);
    if (rc == 0) {
        mirror->connected_ms = clock_ms();
        tell(mirror, true, NULL);
    }
    return rc;
}

static int go_on(struct mirror *mirror, struct error *error)
{
    int rc = announce(mirror, error);
    if (rc == 0 && is_behind(mirror))
        rc = send_commits(mirror, error);
    count(mirror, 0, 0);
    if (rc != 0 || is_behind(mirror))
        return rc;
    rest(mirror, ANNOUNCE_MS, true);
    rest(mirror, GATHER_MS, false); /* for what comes behind the commit that woke it */
    return 0;
}

static void *follow(void *arg)
{
    struct mirror *mirror = arg;
    struct error error = {""};
    int64_t end = INT64_MAX;
    for (;;) {
        if (atomic_load(&mirror->stopping) && end == INT64_MAX)
            end = clock_ms() + FAREWELL_MS;
        if (end != INT64_MAX && (mirror->redis == NULL || !is_behind(mirror) || clock_ms() > end))
            return NULL;
        int rc = mirror->redis == NULL ? begin(mirror, &error) : go_on(mirror, &error);
        if (rc != 0)
            give_up(mirror, &error);
    }
}

struct mirror *mirror_new(const struct mirror_options *options)
{
    const struct cluster_conf *conf = options->conf;
    struct mirror *mirror = xalloc(sizeof *mirror);
    sigset_t all, before;
    mirror->journal = options->journal;
    mirror->stream_max = conf->redis_stream_max;
    mirror->sent = mirror->counted = 1;
    mirror->texts = conf->redis_texts;
    atomic_store(&mirror->committed, options->committed);
    snprintf(mirror->address, sizeof mirror->address, "%s", conf->redis);
    snprintf(mirror->id, sizeof mirror->id, "%016" PRIx64, journal_id(options->journal));
    snprintf(mirror->max, sizeof mirror->max, "%" PRIu64, mirror->stream_max);
    buf_printf(&mirror->stream, "%s:events", conf->redis_prefix);
    buf_printf(&mirror->owner, "%s:journal", conf->redis_prefix);
    buf_printf(&mirror->broker, "%s:broker", conf->redis_prefix);
    buf_put(&mirror->join, options->join.data, options->join.len);
    pthread_mutex_init(&mirror->lock, NULL);
    mirror->wake = eventfd(0, EFD_CLOEXEC);
    sigfillset(&all); /* signals are for the broker's own thread */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    if (mirror->wake < 0 || pthread_create(&mirror->thread, NULL, follow, mirror) != 0) {
        log_line(0, "no thread for Redis: %s", strerror(errno));
        exit(1);
    }
    pthread_setname_np(mirror->thread, "redis"); /* so that its share of the broker's CPU can be seen */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return mirror;
}

static void wake_up(struct mirror *mirror)
{
    const uint64_t one = 1;
    ssize_t done = write(mirror->wake, &one, sizeof one);
    (void)done; /* a counter that is full wakes too */
}

void mirror_committed(struct mirror *mirror, uint64_t commit)
{
    atomic_store(&mirror->committed, commit);
    if (atomic_exchange(&mirror->asleep, false))
        wake_up(mirror);
}

void mirror_free(struct mirror **mirror_ptr)
{
    struct mirror *mirror = *mirror_ptr;
    if (mirror == NULL)
        return;
    atomic_store(&mirror->stopping, true);
    wake_up(mirror);
    pthread_join(mirror->thread, NULL);
    redis_close(&mirror->redis);
    events_free(&mirror->events);
    close(mirror->wake);
    pthread_mutex_destroy(&mirror->lock);
    struct buf *bufs[] = {&mirror->stream, &mirror->owner, &mirror->broker, &mirror->join,
                          &mirror->facts,  &mirror->text,  &mirror->entry};
    for (size_t i = 0; i < sizeof bufs / sizeof bufs[0]; i++)
        buf_clear(bufs[i]);
    free(mirror);
    *mirror_ptr = NULL;
}
