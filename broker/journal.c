/* journal.c - commits in LMDB; see journal.h. The only file that includes lmdb.h.
 *
 * Folder: data.mdb and lock.mdb are LMDB's; drover.lock is held by the writer and says its pid.
 * Trees: `facts` and `texts` (commit number -> checksum, payload) and `meta`. The file is checked
 * by lmdb_file.c before anything is followed in it. No transaction outlives a call: an open reader
 * would keep the writer from reusing pages. */
#include "broker/journal.h"

#include "broker/lmdb_file.h"
#include "common/hash.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lmdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
    HASH_LEN = 8,
    SCAN_BYTES = 1 << 20, /* copied out per read transaction of a scan */
    PATH_LEN = 4096,
};

static const uint64_t map_start_default = (uint64_t)1 << 30;
static const uint64_t map_max_default = (uint64_t)1 << 40;
static const char created_by[] = "drover";

struct journal {
    char *dir, *path; /* the folder, and data.mdb in it */
    int lock;         /* drover.lock of the writer; -1 for readers */
    bool read_only;
    MDB_env *env;
    MDB_dbi facts, texts;
    uint64_t map_max;
    uint64_t next; /* writer only */
    uint64_t id;
    pthread_rwlock_t map; /* held for reading by every read, so that the map is not moved under one of another thread */
};

/* --- errors --- */

static bool is_full(int rc)
{
    return rc == ENOSPC || rc == EDQUOT || rc == EFBIG;
}

static int fail(const struct journal *journal, int rc, const char *doing, struct error *error)
{
    if (is_full(rc))
        return error_set(error, ERR_DISK_FULL, "cannot %s '%s': %s", doing, journal->path, strerror(rc));
    if (rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_INVALID || rc == MDB_CURSOR_FULL ||
        rc == MDB_INCOMPATIBLE || rc == MDB_BAD_VALSIZE || rc == MDB_VERSION_MISMATCH)
        return error_set(error, ERR_CORRUPT, "cannot %s '%s': it is damaged (%s)", doing, journal->path,
                         mdb_strerror(rc));
    return error_set(error, ERR_IO, "cannot %s '%s': %s", doing, journal->path, mdb_strerror(rc));
}

static int damaged(const struct journal *journal, uint64_t commit, const char *what, struct error *error)
{
    return error_set(error, ERR_CORRUPT, "journal '%s': commit %" PRIu64 " %s - restore the folder from a copy",
                     journal->path, commit, what);
}

/* --- values --- */

static MDB_val key_of(uint64_t *commit)
{
    return (MDB_val){.mv_size = sizeof(*commit), .mv_data = commit};
}

static int put(MDB_txn *txn, MDB_dbi dbi, MDB_val key, struct slice payload, unsigned flags)
{
    MDB_val value = {.mv_size = HASH_LEN + payload.len};
    int rc = mdb_put(txn, dbi, &key, &value, flags | MDB_RESERVE);
    if (rc != 0)
        return rc;
    uint64_t hash = hash_bytes(payload.data, payload.len);
    memcpy(value.mv_data, &hash, HASH_LEN);
    if (payload.len > 0)
        memcpy((char *)value.mv_data + HASH_LEN, payload.data, payload.len);
    return 0;
}

static struct slice payload_of(const MDB_val *value)
{
    if (value->mv_size < HASH_LEN)
        return (struct slice){0};
    return (struct slice){(const char *)value->mv_data + HASH_LEN, value->mv_size - HASH_LEN};
}

static bool intact(uint64_t hash, struct slice payload)
{
    return hash == hash_bytes(payload.data, payload.len);
}

static uint64_t hash_of(const MDB_val *value)
{
    uint64_t hash = 0;
    if (value->mv_size >= HASH_LEN)
        memcpy(&hash, value->mv_data, HASH_LEN);
    return hash;
}

static bool value_intact(const MDB_val *value)
{
    return value->mv_size >= HASH_LEN && intact(hash_of(value), payload_of(value));
}

/* A reader's map is too small once the writer's has grown; the new size is in the file. */
static int begin_read(struct journal *journal, MDB_txn **txn)
{
    pthread_rwlock_rdlock(&journal->map);
    int rc = mdb_txn_begin(journal->env, NULL, MDB_RDONLY, txn);
    for (int i = 0; rc == MDB_MAP_RESIZED && i < 8; i++) {
        rc = mdb_env_set_mapsize(journal->env, 0);
        if (rc == 0)
            rc = mdb_txn_begin(journal->env, NULL, MDB_RDONLY, txn);
    }
    if (rc != 0)
        pthread_rwlock_unlock(&journal->map);
    return rc;
}

static void end_read(struct journal *journal, MDB_txn *txn)
{
    mdb_txn_abort(txn);
    pthread_rwlock_unlock(&journal->map);
}

/* Newest commit number of a tree, 0 when it is empty. */
static int last_key(MDB_txn *txn, MDB_dbi dbi, uint64_t *last)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    *last = 0;
    int rc = mdb_cursor_open(txn, dbi, &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    mdb_cursor_close(cursor);
    if (rc == MDB_NOTFOUND)
        return 0;
    if (rc == 0 && key.mv_size != sizeof(*last))
        return MDB_CORRUPTED;
    if (rc == 0)
        memcpy(last, key.mv_data, sizeof(*last));
    return rc;
}

/* --- the folder --- */

static int sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int rc = fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
    close(fd);
    return rc;
}

/* The folder's own entry must survive power loss too. */
static int sync_parent(const char *dir)
{
    char path[PATH_LEN];
    if (snprintf(path, sizeof(path), "%s/..", dir) >= (int)sizeof(path))
        return ENAMETOOLONG;
    return sync_folder(path);
}

static int check_folder(const struct journal *journal, struct error *error)
{
    struct stat st;
    struct statfs fs;
    const char *dir = journal->dir;
    if (strlen(dir) + 16 > PATH_LEN)
        return error_set(error, ERR_RANGE, "the name of the state folder is too long");
    if (!journal->read_only) {
        if (mkdir(dir, 0700) == 0) {
            int rc = sync_parent(dir);
            if (rc != 0)
                return error_set(error, is_full(rc) ? ERR_DISK_FULL : ERR_IO, "cannot create state folder '%s': %s",
                                 dir, strerror(rc));
        } else if (errno != EEXIST) {
            return error_set(error, is_full(errno) ? ERR_DISK_FULL : ERR_IO, "cannot create state folder '%s': %s%s",
                             dir, strerror(errno), errno == ENOENT ? ": create the folder above it first" : "");
        }
    }
    if (stat(dir, &st) != 0)
        return error_set(error, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot open state folder '%s': %s", dir,
                         strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return error_set(error, ERR_IO, "state folder '%s' is not a folder", dir);
    if (statfs(dir, &fs) != 0)
        return error_set(error, ERR_IO, "cannot look at state folder '%s': %s", dir, strerror(errno));
    const char *network = network_filesystem((long)fs.f_type);
    if (network != NULL)
        return error_set(error, ERR_REFUSED,
                         "state folder '%s' is on %s, where LMDB's locks and maps are not safe: "
                         "choose a folder on a local disk with --state",
                         dir, network);
    return 0;
}

static long lock_holder(const struct journal *journal)
{
    char text[32] = "";
    ssize_t got = pread(journal->lock, text, sizeof(text) - 1, 0);
    return got > 0 ? strtol(text, NULL, 10) : 0;
}

/* A killed process may be gone a moment before its lock: a child that it was starting dies later. */
static bool lock_wait(const struct journal *journal)
{
    for (int i = 0; i < 100; i++) {
        if (flock(journal->lock, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK)
            return false;
        long pid = lock_holder(journal);
        if (pid > 0 && (kill((pid_t)pid, 0) == 0 || errno != ESRCH))
            break;
        poll(NULL, 0, 10);
    }
    errno = EWOULDBLOCK;
    return false;
}

static int lock_busy(const struct journal *journal, struct error *error)
{
    long pid = lock_holder(journal);
    char who[48] = "another process";
    if (pid > 0)
        snprintf(who, sizeof(who), "pid %ld", pid);
    return error_set(error, ERR_LOCKED,
                     "state folder '%s' is in use by %s (a running drover): wait for it, stop it, or "
                     "choose another folder with --state",
                     journal->dir, who);
}

/* flock ends with the process however that dies, so a lock file left behind means nothing. */
static int take_lock(struct journal *journal, struct error *error)
{
    char path[PATH_LEN], pid[32];
    snprintf(path, sizeof(path), "%s/drover.lock", journal->dir);
    journal->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (journal->lock < 0)
        return error_set(error, is_full(errno) ? ERR_DISK_FULL : ERR_IO, "cannot open '%s': %s", path, strerror(errno));
    if (!lock_wait(journal)) {
        if (errno == EWOULDBLOCK)
            return lock_busy(journal, error);
        return error_set(error, ERR_IO, "cannot lock '%s': %s", path, strerror(errno));
    }
    int len = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    if (ftruncate(journal->lock, 0) != 0 || pwrite(journal->lock, pid, (size_t)len, 0) != len)
        return error_set(error, is_full(errno) ? ERR_DISK_FULL : ERR_IO, "cannot write '%s': %s", path,
                         strerror(errno));
    return 0;
}

/* What must hold before LMDB may map the file. A missing or empty one is a new journal. */
static int check_file(const struct journal *journal, struct error *error)
{
    struct stat st;
    int fd = open(journal->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        if (journal->read_only)
            return error_set(error, ERR_NOT_FOUND, "state folder '%s' holds no journal", journal->dir);
        return 0;
    }
    if (fd < 0)
        return error_set(error, errno == ELOOP ? ERR_CORRUPT : ERR_IO, "cannot open '%s': %s", journal->path,
                         errno == ELOOP ? "it is a symbolic link" : strerror(errno));
    int rc = 0;
    if (fstat(fd, &st) != 0)
        rc = error_set(error, ERR_IO, "cannot read '%s': %s", journal->path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = error_set(error, ERR_CORRUPT, "'%s' is not a regular file", journal->path);
    else if (st.st_size == 0 && journal->read_only)
        rc = error_set(error, ERR_NOT_FOUND, "state folder '%s' holds no journal yet", journal->dir);
    else if (st.st_size > 0)
        rc = lmdb_file_check_head(fd, journal->path, NULL, error);
    /* A writer beside us may have been writing its meta page just then. */
    for (int i = 0; rc == ERR_CORRUPT && journal->read_only && S_ISREG(st.st_mode) && i < 3; i++)
        rc = lmdb_file_check_head(fd, journal->path, NULL, error);
    close(fd);
    return rc;
}

/* --- opening --- */

static int env_create(struct journal *journal, uint64_t map_size)
{
    int rc = mdb_env_create(&journal->env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(journal->env, map_size);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(journal->env, 3);
    return rc;
}

/* A writer that was killed behind its meta page and before the number in the lock file leaves that number one behind,
 * and as long as readers keep the lock file, reading would miss the last commit. LMDB sets it right when the next writer
 * takes the dead one's mutex. */
static int catch_up(struct journal *journal)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(journal->env, NULL, 0, &txn);
    if (rc == 0)
        mdb_txn_abort(txn);
    return rc;
}

static int env_open(struct journal *journal, uint64_t map_size, struct error *error)
{
    /* NOTLS: a slot per transaction, not per thread, so that any thread may read. No flag touches
     * durability. */
    unsigned flags = MDB_NOTLS | (journal->read_only ? MDB_RDONLY : 0);
    int rc = env_create(journal, map_size);
    if (rc == 0)
        rc = mdb_env_open(journal->env, journal->dir, flags, 0600);
    if (journal->read_only && (rc == EACCES || rc == EPERM || rc == EROFS)) {
        /* No right to write the lock file: read without a slot. Reads last milliseconds and are
         * checked. */
        mdb_env_close(journal->env);
        journal->env = NULL;
        rc = env_create(journal, map_size);
        if (rc == 0)
            rc = mdb_env_open(journal->env, journal->dir, flags | MDB_NOLOCK, 0600);
    }
    if (rc != 0)
        return fail(journal, rc, "open", error);
    if (!journal->read_only && (rc = catch_up(journal)) != 0)
        return fail(journal, rc, "open", error);
    int dead;
    mdb_reader_check(journal->env, &dead); /* slots of killed readers keep pages from being reused */
    return 0;
}

/* Walks all pages of one snapshot, which the read transaction keeps from being overwritten. */
static int check_pages(struct journal *journal, struct error *error)
{
    int fd, rc = mdb_env_get_fd(journal->env, &fd);
    if (rc != 0)
        return fail(journal, rc, "open", error);
    rc = ERR_NOT_FOUND;
    for (int i = 0; rc == ERR_NOT_FOUND && i < 100; i++) {
        MDB_txn *txn;
        rc = begin_read(journal, &txn);
        if (rc != 0)
            return fail(journal, rc, "read", error);
        rc = lmdb_file_check_pages(fd, journal->path, mdb_txn_id(txn), error);
        end_read(journal, txn);
    }
    return rc == ERR_NOT_FOUND ? ERR_IO : rc;
}

static int check_format(struct journal *journal, MDB_txn *txn, MDB_dbi meta, struct error *error)
{
    MDB_val key = {.mv_size = 6, .mv_data = "format"}, value;
    char text[16] = "";
    int rc = mdb_get(txn, meta, &key, &value);
    if (rc == MDB_NOTFOUND)
        return error_set(error, ERR_CORRUPT, "'%s' is not a journal of drover", journal->path);
    if (rc != 0)
        return fail(journal, rc, "read", error);
    struct slice payload = payload_of(&value);
    if (!value_intact(&value) || payload.len == 0 || payload.len >= sizeof(text))
        return error_set(error, ERR_CORRUPT, "'%s' is damaged: its format number", journal->path);
    memcpy(text, payload.data, payload.len);
    if (strtol(text, NULL, 10) != JOURNAL_FORMAT)
        return error_set(error, ERR_VERSION,
                         "state folder '%s' holds a journal of format %s and this drover knows format "
                         "%d: use the release that wrote it, or another folder with --state",
                         journal->dir, text, JOURNAL_FORMAT);
    return 0;
}

/* What tells this journal from another whose commits have the same numbers. Releases before it was kept wrote none. */
static void read_id(struct journal *journal, MDB_txn *txn, MDB_dbi meta)
{
    MDB_val key = {.mv_size = 2, .mv_data = "id"}, value;
    if (mdb_get(txn, meta, &key, &value) == 0 && value_intact(&value) && payload_of(&value).len == sizeof journal->id)
        memcpy(&journal->id, payload_of(&value).data, sizeof journal->id);
}

static int put_id(struct journal *journal, MDB_txn *txn, MDB_dbi meta)
{
    while (journal->id == 0)
        if (getrandom(&journal->id, sizeof journal->id, 0) != sizeof journal->id)
            return errno;
    return put(txn, meta, (MDB_val){2, "id"}, (struct slice){(const char *)&journal->id, sizeof journal->id}, 0);
}

/* Numbers run from 1 without a gap exactly when the last equals the count, as keys are unique. */
static int check_numbers(struct journal *journal, MDB_txn *txn, struct error *error)
{
    uint64_t last, last_text;
    MDB_stat stat;
    int rc = last_key(txn, journal->facts, &last);
    if (rc == 0)
        rc = last_key(txn, journal->texts, &last_text);
    if (rc == 0)
        rc = mdb_stat(txn, journal->facts, &stat);
    if (rc != 0)
        return fail(journal, rc, "read", error);
    if (stat.ms_entries != last)
        return error_set(error, ERR_CORRUPT,
                         "journal '%s': %zu commits and the last is %" PRIu64
                         ": some are missing - restore the folder from a copy",
                         journal->path, stat.ms_entries, last);
    if (last_text > last)
        return damaged(journal, last_text, "has texts but no facts", error);
    journal->next = last + 1;
    return 0;
}

static int open_trees(struct journal *journal, MDB_txn *txn, struct error *error)
{
    MDB_dbi meta;
    int rc = mdb_dbi_open(txn, "meta", 0, &meta);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "facts", MDB_INTEGERKEY, &journal->facts);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "texts", MDB_INTEGERKEY, &journal->texts);
    if (rc == MDB_NOTFOUND || rc == MDB_INCOMPATIBLE)
        return error_set(error, ERR_CORRUPT, "'%s' is not a journal of drover", journal->path);
    if (rc != 0)
        return fail(journal, rc, "open", error);
    rc = check_format(journal, txn, meta, error);
    if (rc == 0)
        read_id(journal, txn, meta);
    return rc != 0 ? rc : check_numbers(journal, txn, error);
}

/* One transaction makes the trees, so a kill leaves either nothing or a journal. */
static int create_trees(struct journal *journal, struct error *error)
{
    MDB_txn *txn;
    MDB_dbi meta;
    char format[16];
    snprintf(format, sizeof(format), "%d", JOURNAL_FORMAT);
    int rc = mdb_txn_begin(journal->env, NULL, 0, &txn);
    if (rc != 0)
        return fail(journal, rc, "create", error);
    rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &meta);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "facts", MDB_CREATE | MDB_INTEGERKEY, &journal->facts);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "texts", MDB_CREATE | MDB_INTEGERKEY, &journal->texts);
    if (rc == 0)
        rc = put(txn, meta, (MDB_val){6, "format"}, slice_of(format), 0);
    if (rc == 0)
        rc = put(txn, meta, (MDB_val){10, "created-by"}, slice_of(created_by), 0);
    if (rc == 0)
        rc = put_id(journal, txn, meta);
    if (rc != 0)
        mdb_txn_abort(txn);
    else
        rc = mdb_txn_commit(txn);
    if (rc == 0)
        rc = sync_folder(journal->dir);
    journal->next = 1;
    return rc == 0 ? 0 : fail(journal, rc, "create", error);
}

static int open_or_create(struct journal *journal, struct error *error)
{
    MDB_txn *txn;
    MDB_dbi main_tree;
    MDB_stat stat;
    int rc = begin_read(journal, &txn);
    if (rc != 0)
        return fail(journal, rc, "read", error);
    rc = mdb_dbi_open(txn, NULL, 0, &main_tree);
    if (rc == 0)
        rc = mdb_stat(txn, main_tree, &stat);
    if (rc != 0) {
        rc = fail(journal, rc, "read", error);
    } else if (stat.ms_entries == 0) {
        end_read(journal, txn);
        if (journal->read_only)
            return error_set(error, ERR_NOT_FOUND, "state folder '%s' holds no journal yet", journal->dir);
        return create_trees(journal, error);
    } else {
        rc = open_trees(journal, txn, error);
    }
    if (rc != 0) {
        end_read(journal, txn);
        return rc;
    }
    rc = mdb_txn_commit(txn); /* keeps the trees' handles */
    pthread_rwlock_unlock(&journal->map);
    return rc == 0 ? 0 : fail(journal, rc, "read", error);
}

static uint64_t to_pages(uint64_t bytes)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

int journal_open(const char *dir, const struct journal_options *options, struct journal **journal, struct error *error)
{
    struct journal *j = xalloc(sizeof(*j));
    struct buf path = {0};
    buf_printf(&path, "%s/data.mdb", dir);
    j->dir = xstrdup(dir);
    j->path = path.data;
    j->lock = -1;
    pthread_rwlock_init(&j->map, NULL);
    j->read_only = options->read_only;
    j->map_max = to_pages(options->map_max > 0 ? options->map_max : map_max_default);
    uint64_t map_size = to_pages(options->map_start > 0 ? options->map_start : map_start_default);
    if (map_size > j->map_max)
        map_size = j->map_max;

    int rc = check_folder(j, error);
    if (rc == 0 && !j->read_only)
        rc = take_lock(j, error);
    if (rc == 0)
        rc = check_file(j, error);
    if (rc == 0)
        rc = env_open(j, map_size, error);
    if (rc == 0)
        rc = check_pages(j, error);
    if (rc == 0)
        rc = open_or_create(j, error);
    if (rc != 0)
        journal_close(&j);
    *journal = j;
    return rc;
}

void journal_close(struct journal **journal)
{
    struct journal *j = *journal;
    if (j == NULL)
        return;
    if (j->env != NULL)
        mdb_env_close(j->env);
    if (j->lock >= 0)
        close(j->lock); /* the lock last: LMDB is done with the file */
    pthread_rwlock_destroy(&j->map);
    free(j->dir);
    free(j->path);
    free(j);
    *journal = NULL;
}

uint64_t journal_next(const struct journal *journal)
{
    MDB_txn *txn;
    uint64_t last = 0;
    if (!journal->read_only)
        return journal->next;
    if (begin_read((struct journal *)journal, &txn) != 0)
        return journal->next;
    int rc = last_key(txn, journal->facts, &last);
    end_read((struct journal *)journal, txn);
    return rc == 0 ? last + 1 : journal->next;
}

uint64_t journal_id(const struct journal *journal)
{
    return journal->id;
}

uint64_t journal_bytes(const struct journal *journal)
{
    int fd;
    struct stat st;
    if (mdb_env_get_fd(journal->env, &fd) != 0 || fstat(fd, &st) != 0)
        return 0;
    return (uint64_t)st.st_size;
}

/* --- appending --- */

static int append_once(struct journal *journal, struct slice facts, struct slice texts)
{
    MDB_txn *txn;
    uint64_t commit = journal->next;
    int rc = mdb_txn_begin(journal->env, NULL, 0, &txn);
    if (rc != 0)
        return rc;
    rc = put(txn, journal->facts, key_of(&commit), facts, MDB_APPEND);
    if (rc == 0 && texts.len > 0)
        rc = put(txn, journal->texts, key_of(&commit), texts, MDB_APPEND);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn); /* frees txn also when it fails: then nothing of it counts */
}

static int grow_map(struct journal *journal)
{
    MDB_envinfo info;
    int rc = mdb_env_info(journal->env, &info);
    if (rc != 0)
        return rc;
    if (info.me_mapsize >= journal->map_max)
        return MDB_MAP_FULL;
    uint64_t size = (uint64_t)info.me_mapsize * 2;
    pthread_rwlock_wrlock(&journal->map);
    rc = mdb_env_set_mapsize(journal->env, size < journal->map_max ? size : journal->map_max);
    pthread_rwlock_unlock(&journal->map);
    return rc;
}

/* LMDB reports a write that came back short as EIO, which is what a disk does while it fills up.
 * Whether there is room for this commit is therefore asked of the filesystem: reserving blocks past
 * the end changes no byte of the file. */
static bool no_room(const struct journal *journal, size_t bytes)
{
    int fd;
    struct stat st;
    struct rlimit limit;
    if (mdb_env_get_fd(journal->env, &fd) != 0 || fstat(fd, &st) != 0)
        return false;
    uint64_t end = (uint64_t)st.st_size + to_pages(bytes) + 64 * to_pages(1);
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < end)
        return true;
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)end) == 0)
        return false;
    return is_full(errno);
}

int journal_append(struct journal *journal, struct slice facts, struct slice texts, struct error *error)
{
    assert(!journal->read_only);
    assert(facts.len > 0 || texts.len > 0);
    if (facts.len > UINT32_MAX - 64 || texts.len > UINT32_MAX - 64)
        return error_set(error, ERR_LIMIT, "a commit of more than 4 GiB");
    int rc = append_once(journal, facts, texts);
    while (rc == MDB_MAP_FULL) {
        rc = grow_map(journal);
        if (rc == MDB_MAP_FULL)
            return error_set(error, ERR_LIMIT, "journal '%s' has reached its limit of %" PRIu64 " bytes", journal->path,
                             journal->map_max);
        if (rc == 0)
            rc = append_once(journal, facts, texts);
    }
    if (rc == EIO && no_room(journal, facts.len + texts.len))
        rc = ENOSPC;
    if (rc != 0)
        return fail(journal, rc, "write", error);
    journal->next++;
    return 0;
}

/* --- reading --- */

struct entry {
    uint64_t commit, hash;
    size_t offset, len; /* of the payload, in the chunk's bytes */
};

struct chunk {
    struct buf bytes;
    struct entry *entries;
    size_t len, cap;
};

static void chunk_add(struct chunk *chunk, uint64_t commit, const MDB_val *value)
{
    struct slice payload = payload_of(value);
    if (chunk->len == chunk->cap) {
        chunk->cap = chunk->cap > 0 ? chunk->cap * 2 : 256;
        chunk->entries = xrealloc(chunk->entries, chunk->cap * sizeof(*chunk->entries));
    }
    chunk->entries[chunk->len++] = (struct entry){commit, hash_of(value), chunk->bytes.len, payload.len};
    buf_put(&chunk->bytes, payload.data, payload.len);
}

/* Copies commits from `from` on, about SCAN_BYTES of them. Ends at the first that is not the next.
 */
static int chunk_read(struct journal *journal, uint64_t from, struct chunk *chunk, struct error *error)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    uint64_t commit = from;
    MDB_val key = key_of(&commit), value;
    buf_reset(&chunk->bytes);
    chunk->len = 0;
    int rc = begin_read(journal, &txn);
    if (rc != 0)
        return fail(journal, rc, "read", error);
    rc = mdb_cursor_open(txn, journal->facts, &cursor);
    if (rc == 0) {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        while (rc == 0 && chunk->bytes.len < SCAN_BYTES) {
            uint64_t number = 0;
            if (key.mv_size == sizeof(number))
                memcpy(&number, key.mv_data, sizeof(number));
            if (number != from + chunk->len || value.mv_size < HASH_LEN) {
                rc = damaged(journal, from + chunk->len, "is missing", error);
                break;
            }
            chunk_add(chunk, number, &value);
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
        mdb_cursor_close(cursor);
    }
    end_read(journal, txn);
    if (rc == 0 || rc == MDB_NOTFOUND || rc == ERR_CORRUPT)
        return rc == MDB_NOTFOUND ? 0 : rc;
    return fail(journal, rc, "read", error);
}

static int chunk_visit(const struct journal *journal, const struct chunk *chunk,
                       int (*visit)(void *arg, uint64_t commit, struct slice facts), void *arg, struct error *error)
{
    for (size_t i = 0; i < chunk->len; i++) {
        const struct entry *entry = &chunk->entries[i];
        struct slice facts = {chunk->bytes.data + entry->offset, entry->len};
        if (!intact(entry->hash, facts))
            return damaged(journal, entry->commit, "does not match its checksum", error);
        int rc = visit(arg, entry->commit, facts);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int journal_scan(struct journal *journal, uint64_t from, int (*visit)(void *arg, uint64_t commit, struct slice facts),
                 void *arg, struct error *error)
{
    struct chunk chunk = {0};
    uint64_t commit = from > 0 ? from : 1;
    buf_grow(&chunk.bytes, 1); /* so that empty payloads have an address */
    int rc;
    do {
        /* The good part before a damaged commit is still shown. */
        int bad = chunk_read(journal, commit, &chunk, error);
        rc = chunk_visit(journal, &chunk, visit, arg, error);
        if (rc == 0)
            rc = bad;
        commit += chunk.len;
    } while (rc == 0 && chunk.len > 0);
    free(chunk.entries);
    buf_clear(&chunk.bytes);
    return rc;
}

int journal_text(struct journal *journal, struct text_ref ref, bool verify, struct buf *out, struct error *error)
{
    MDB_txn *txn;
    MDB_val key = key_of(&ref.commit), value;
    if (ref.commit == 0 && ref.len == 0)
        return 0;
    int rc = begin_read(journal, &txn);
    if (rc != 0)
        return fail(journal, rc, "read", error);
    rc = mdb_get(txn, journal->texts, &key, &value);
    if (rc == MDB_NOTFOUND) {
        rc = damaged(journal, ref.commit, "holds no texts", error);
    } else if (rc != 0) {
        rc = fail(journal, rc, "read", error);
    } else {
        struct slice payload = payload_of(&value);
        if (ref.offset > payload.len || ref.len > payload.len - ref.offset)
            rc = damaged(journal, ref.commit, "has no text where one is said to be", error);
        else if (verify && !value_intact(&value))
            rc = damaged(journal, ref.commit, "has texts that do not match their checksum", error);
        else
            buf_put(out, payload.data + ref.offset, ref.len);
    }
    end_read(journal, txn);
    return rc;
}

static int copy_value(struct journal *journal, MDB_txn *txn, MDB_dbi dbi, uint64_t commit, struct buf *out,
                      struct error *error)
{
    MDB_val key = key_of(&commit), value;
    buf_reset(out);
    int rc = mdb_get(txn, dbi, &key, &value);
    if (rc == MDB_NOTFOUND)
        return ERR_NOT_FOUND;
    if (rc != 0)
        return fail(journal, rc, "read", error);
    if (!value_intact(&value))
        return damaged(journal, commit, "does not match its checksum", error);
    buf_put(out, payload_of(&value).data, payload_of(&value).len);
    return 0;
}

int journal_commit(struct journal *journal, uint64_t commit, struct buf *facts, struct buf *texts, struct error *error)
{
    MDB_txn *txn;
    int rc = begin_read(journal, &txn);
    if (rc != 0)
        return fail(journal, rc, "read", error);
    rc = copy_value(journal, txn, journal->facts, commit, facts, error);
    if (rc == 0) {
        rc = copy_value(journal, txn, journal->texts, commit, texts, error);
        rc = rc == ERR_NOT_FOUND ? 0 : rc; /* a commit without texts */
    }
    end_read(journal, txn);
    return rc;
}
