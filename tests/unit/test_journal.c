/* test_journal.c - the journal against restarts, kills, truncation, flipped bytes, foreign files
 * and a full disk. */
#include "broker/journal.h"

#include "broker/lmdb_file.h"
#include "common/hash.h"
#include "common/rng.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static const struct journal_options writer = {.map_start = 1 << 20};
static const struct journal_options reader = {.read_only = true};

/* --- helpers --- */

struct place {
    char dir[64], data[96];
};

static int place_setup(void **state)
{
    struct place *place = xalloc(sizeof(*place));
    strcpy(place->dir, "/tmp/drover-journal-XXXXXX");
    if (mkdtemp(place->dir) == NULL)
        return -1;
    snprintf(place->data, sizeof(place->data), "%s/data.mdb", place->dir);
    *state = place;
    return 0;
}

static void place_empty(const char *dir)
{
    DIR *list = opendir(dir);
    char path[512];
    for (struct dirent *entry; list != NULL && (entry = readdir(list)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        unlink(path);
    }
    if (list != NULL)
        closedir(list);
}

static int place_teardown(void **state)
{
    struct place *place = *state;
    place_empty(place->dir);
    umount(place->dir); /* when the full disk's test failed; else nothing is mounted there */
    rmdir(place->dir);
    free(place);
    return 0;
}

static struct journal *open_good(const char *dir, const struct journal_options *options)
{
    struct journal *journal;
    struct error error = {0};
    int rc = journal_open(dir, options, &journal, &error);
    if (rc != 0)
        fail_msg("journal_open: %d %s", rc, error.text);
    return journal;
}

static void expect_refused(const char *dir, const struct journal_options *options, int code, const char *words)
{
    struct journal *journal;
    struct error error = {0};
    int rc = journal_open(dir, options, &journal, &error);
    if (rc != code || strstr(error.text, words) == NULL)
        fail_msg("wanted %d with '%s', got %d '%s'", code, words, rc, error.text);
    assert_null(journal);
}

/* Facts of commit n: its number and 0..600 bytes that follow from it, so that any reader can check
 * them. */
static void facts_of(uint64_t commit, struct buf *out)
{
    buf_reset(out);
    buf_printf(out, "%llu:", (unsigned long long)commit);
    size_t len = rng_u64(1, RNG_TEST, commit, 0) % 600;
    for (size_t i = 0; i < len; i++)
        buf_put(out, &(char){(char)('a' + rng_mix(commit + i) % 26)}, 1);
}

static void texts_of(uint64_t commit, struct buf *out)
{
    buf_reset(out);
    if (commit % 3 == 0)
        return;
    size_t len = 1 + rng_u64(2, RNG_TEST, commit, 0) % 6000;
    for (size_t i = 0; i < len; i++)
        buf_put(out, &(char){(char)('A' + rng_mix(commit * 7 + i) % 26)}, 1);
}

static int append_next(struct journal *journal, struct error *error)
{
    struct buf facts = {0}, texts = {0};
    facts_of(journal_next(journal), &facts);
    texts_of(journal_next(journal), &texts);
    int rc = journal_append(journal, buf_slice(&facts), buf_slice(&texts), error);
    buf_clear(&facts);
    buf_clear(&texts);
    return rc;
}

static void append_many(struct journal *journal, int count)
{
    struct error error = {0};
    for (int i = 0; i < count; i++)
        if (append_next(journal, &error) != 0)
            fail_msg("append: %s", error.text);
}

enum { WRONG_VALUE = 99 };

/* Visits; 99 when facts or numbers are not what was appended. */
static int visit_check(void *arg, uint64_t commit, struct slice facts)
{
    uint64_t *seen = arg;
    struct buf want = {0};
    facts_of(commit, &want);
    int rc =
        commit == *seen + 1 && want.len == facts.len && memcmp(want.data, facts.data, facts.len) == 0 ? 0 : WRONG_VALUE;
    buf_clear(&want);
    *seen = commit;
    return rc;
}

/* Reads everything, texts verified. 0, an error code, or WRONG_VALUE. */
static int read_all(struct journal *journal, uint64_t *commits, struct error *error)
{
    struct buf want = {0}, got = {0};
    *commits = 0;
    int rc = journal_scan(journal, 1, visit_check, commits, error);
    for (uint64_t c = 1; rc == 0 && c <= *commits; c++) {
        texts_of(c, &want);
        if (want.len == 0)
            continue;
        buf_reset(&got);
        rc = journal_text(journal, (struct text_ref){c, 0, (uint32_t)want.len}, true, &got, error);
        if (rc == 0 && (got.len != want.len || memcmp(got.data, want.data, got.len) != 0))
            rc = WRONG_VALUE;
    }
    buf_clear(&want);
    buf_clear(&got);
    return rc;
}

static void expect_all(struct journal *journal, uint64_t commits)
{
    uint64_t seen;
    struct error error = {0};
    int rc = read_all(journal, &seen, &error);
    if (rc != 0)
        fail_msg("read_all: %d %s", rc, error.text);
    assert_int_equal(seen, commits);
}

/* What a child found; it dies by a signal when the journal let it, or exits 1 where a sanitizer
 * catches that. */
enum { CHILD_SAME = 0, CHILD_ERROR = 10, CHILD_WRONG = 11, CHILD_PREFIX = 12 };

static int child_read(const char *dir, const struct journal_options *options, uint64_t commits)
{
    struct journal *journal;
    struct error error = {0};
    uint64_t seen = 0;
    int rc = journal_open(dir, options, &journal, &error);
    if (rc == 0)
        rc = read_all(journal, &seen, &error);
    if (rc == 0 && !options->read_only && append_next(journal, &error) != 0)
        rc = ERR_IO;
    journal_close(&journal);
    if (rc == WRONG_VALUE || (rc != 0 && error.text[0] == '\0'))
        return CHILD_WRONG;
    if (rc != 0)
        return CHILD_ERROR;
    return seen == commits ? CHILD_SAME : CHILD_PREFIX;
}

/* A child that does not outlive a test that failed before it let the child go. */
static pid_t fork_child(void)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

static int wait_for(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status))
        return -WTERMSIG(status);
    return WEXITSTATUS(status);
}

static int read_in_child(const char *dir, const struct journal_options *options, uint64_t commits)
{
    pid_t pid = fork_child();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(child_read(dir, options, commits));
    return wait_for(pid);
}

static void load_file(const char *path, struct buf *out)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    char *to = buf_grow(out, (size_t)st.st_size);
    assert_int_equal(read(fd, to, (size_t)st.st_size), st.st_size);
    out->len = (size_t)st.st_size;
    close(fd);
}

static void store_file(const char *path, const char *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    close(fd);
}

/* --- the plain life --- */

static void test_round_trip(void **state)
{
    const struct place *place = *state;
    struct journal *journal = open_good(place->dir, &writer);
    struct error error = {0};
    struct stat st;
    assert_int_equal(journal_next(journal), 1);
    expect_all(journal, 0);
    append_many(journal, 100);
    assert_int_equal(journal_next(journal), 101);
    expect_all(journal, 100);
    assert_true(journal_bytes(journal) > 100 * 300);
    assert_int_equal(stat(place->data, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    journal_close(&journal);
    assert_null(journal);
    journal_close(&journal);

    journal = open_good(place->dir, &writer);
    assert_int_equal(journal_next(journal), 101);
    append_many(journal, 1);
    expect_all(journal, 101);
    journal_close(&journal);
    assert_int_equal(error.text[0], '\0');
}

static int visit_count(void *arg, uint64_t commit, struct slice facts)
{
    uint64_t *seen = arg;
    (void)facts;
    seen[0]++;
    seen[1] = commit;
    return commit == seen[2] ? 7 : 0;
}

static void test_scan(void **state)
{
    const struct place *place = *state;
    struct journal *journal = open_good(place->dir, &writer);
    struct error error = {0};
    append_many(journal, 50);
    uint64_t seen[3] = {0, 0, 0};
    assert_int_equal(journal_scan(journal, 41, visit_count, seen, &error), 0);
    assert_int_equal(seen[0], 10);
    assert_int_equal(seen[1], 50);
    uint64_t stop[3] = {0, 0, 20};
    assert_int_equal(journal_scan(journal, 0, visit_count, stop, &error), 7);
    assert_int_equal(stop[0], 20);
    uint64_t past[3] = {0, 0, 0};
    assert_int_equal(journal_scan(journal, 51, visit_count, past, &error), 0);
    assert_int_equal(past[0], 0);
    journal_close(&journal);
}

/* Facts of more than a chunk, empty facts, and texts of megabytes. */
static void test_sizes(void **state)
{
    const struct place *place = *state;
    struct journal *journal = open_good(place->dir, &writer);
    struct error error = {0};
    size_t len = 3u << 20;
    char *big = xalloc(len);
    memset(big, 'x', len);
    assert_int_equal(journal_append(journal, (struct slice){big, len}, (struct slice){0}, &error), 0);
    assert_int_equal(journal_append(journal, (struct slice){0}, (struct slice){big, len}, &error), 0);
    assert_int_equal(journal_append(journal, slice_of("f"), (struct slice){0}, &error), 0);
    uint64_t seen[3] = {0};
    assert_int_equal(journal_scan(journal, 1, visit_count, seen, &error), 0);
    assert_int_equal(seen[0], 3);
    struct buf out = {0};
    assert_int_equal(journal_text(journal, (struct text_ref){2, 5, (uint32_t)len - 5}, true, &out, &error), 0);
    assert_int_equal(out.len, len - 5);
    buf_clear(&out);
    free(big);
    journal_close(&journal);
}

static void test_text_refs(void **state)
{
    const struct place *place = *state;
    struct journal *journal = open_good(place->dir, &writer);
    struct error error = {0};
    struct buf out = {0};
    assert_int_equal(journal_append(journal, slice_of("a"), slice_of("hello world"), &error), 0);
    assert_int_equal(journal_append(journal, slice_of("b"), (struct slice){0}, &error), 0);
    assert_int_equal(journal_text(journal, (struct text_ref){1, 6, 5}, true, &out, &error), 0);
    assert_int_equal(journal_text(journal, (struct text_ref){1, 0, 5}, false, &out, &error), 0);
    assert_int_equal(journal_text(journal, (struct text_ref){1, 11, 0}, false, &out, &error), 0);
    assert_int_equal(journal_text(journal, (struct text_ref){0, 0, 0}, false, &out, &error), 0);
    assert_string_equal(out.data, "worldhello");
    static const struct text_ref bad[] = {
        {1, 6, 6}, {1, 12, 0}, {1, UINT32_MAX, UINT32_MAX}, {2, 0, 0}, {3, 0, 1}, {0, 0, 1}, {UINT64_MAX, 0, 1},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(journal_text(journal, bad[i], false, &out, &error), ERR_CORRUPT);
    assert_string_equal(out.data, "worldhello");
    buf_clear(&out);
    journal_close(&journal);
}

static void test_map_grows(void **state)
{
    const struct place *place = *state;
    struct journal_options tiny = {.map_start = 64 << 10, .map_max = 4 << 20};
    struct journal *journal = open_good(place->dir, &tiny);
    struct error error = {0};
    int rc;
    while ((rc = append_next(journal, &error)) == 0)
        ;
    uint64_t commits = journal_next(journal) - 1;
    assert_int_equal(rc, ERR_LIMIT);
    assert_non_null(strstr(error.text, "limit of 4194304 bytes"));
    assert_true(commits > 500);
    expect_all(journal, commits);
    journal_close(&journal);
    journal = open_good(place->dir, &writer); /* its map starts smaller than the file is */
    expect_all(journal, commits);
    append_many(journal, 10);
    journal_close(&journal);
}

/* --- two processes --- */

static void test_second_writer(void **state)
{
    const struct place *place = *state;
    int ready[2], done[2];
    char byte, words[64];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(done), 0);
    pid_t pid = fork_child();
    if (pid == 0) {
        struct journal *journal = open_good(place->dir, &writer);
        append_many(journal, 3);
        if (write(ready[1], "x", 1) != 1 || read(done[0], &byte, 1) != 1)
            _exit(1);
        journal_close(&journal);
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    snprintf(words, sizeof(words), "is in use by pid %ld (a running drover)", (long)pid);
    expect_refused(place->dir, &writer, ERR_LOCKED, words);
    struct journal *journal = open_good(place->dir, &reader);
    expect_all(journal, 3);
    journal_close(&journal);
    assert_int_equal(write(done[1], "x", 1), 1);
    assert_int_equal(wait_for(pid), 0);
    journal = open_good(place->dir, &writer);
    expect_all(journal, 3);
    journal_close(&journal);
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(done[i]);
    }
}

/* The reader is opened first, then the writer's map doubles several times. */
static void test_reader_beside_writer(void **state)
{
    const struct place *place = *state;
    int go[2], done[2];
    char byte;
    struct journal *first = open_good(place->dir, &(struct journal_options){.map_start = 64 << 10});
    append_many(first, 5);
    journal_close(&first);
    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(done), 0);
    pid_t pid = fork_child();
    if (pid == 0) {
        struct journal *journal = open_good(place->dir, &(struct journal_options){.map_start = 64 << 10});
        while (read(go[0], &byte, 1) == 1 && byte == 'a') {
            append_many(journal, 100);
            if (write(done[1], "x", 1) != 1)
                _exit(1);
        }
        journal_close(&journal);
        _exit(0);
    }
    struct journal_options small = {.read_only = true, .map_start = 64 << 10};
    struct journal *journal = open_good(place->dir, &small);
    expect_all(journal, 5);
    for (uint64_t round = 1; round <= 5; round++) {
        assert_int_equal(write(go[1], "a", 1), 1);
        assert_int_equal(read(done[0], &byte, 1), 1);
        assert_int_equal(journal_next(journal), 5 + round * 100 + 1);
        expect_all(journal, 5 + round * 100);
    }
    assert_int_equal(write(go[1], "q", 1), 1);
    assert_int_equal(wait_for(pid), 0);
    journal_close(&journal);
    for (int i = 0; i < 2; i++) {
        close(go[i]);
        close(done[i]);
    }
}

/* Readers open, walk and scan without pause while the writer commits: whatever they see is whole.
 */
static void test_reader_races_writer(void **state)
{
    const struct place *place = *state;
    struct journal *journal = open_good(place->dir, &writer);
    append_many(journal, 10);
    journal_close(&journal);
    pid_t pid = fork_child();
    if (pid == 0) {
        journal = open_good(place->dir, &writer);
        append_many(journal, 400);
        journal_close(&journal);
        _exit(0);
    }
    uint64_t seen = 0;
    while (seen < 410) {
        struct error error = {0};
        int status;
        journal = open_good(place->dir, &reader);
        int rc = read_all(journal, &seen, &error);
        journal_close(&journal);
        if (rc != 0)
            fail_msg("after %d commits: %d %s", (int)seen, rc, error.text);
        if (seen < 410 && waitpid(pid, &status, WNOHANG) != 0)
            break;
    }
    if (seen == 410)
        assert_int_equal(wait_for(pid), 0);
    journal = open_good(place->dir, &reader);
    expect_all(journal, 410);
    journal_close(&journal);
}

static void test_reader_needs_a_journal(void **state)
{
    const struct place *place = *state;
    char missing[96];
    snprintf(missing, sizeof(missing), "%s/missing", place->dir);
    expect_refused(missing, &reader, ERR_NOT_FOUND, "missing");
    expect_refused(place->dir, &reader, ERR_NOT_FOUND, "holds no journal");
    store_file(place->data, "", 0);
    expect_refused(place->dir, &reader, ERR_NOT_FOUND, "holds no journal");
}

static void test_read_only_folder(void **state)
{
    const struct place *place = *state;
    if (geteuid() != 0) {
        print_message("# needs root, to become somebody without rights\n");
        skip();
    }
    struct journal *journal = open_good(place->dir, &writer);
    append_many(journal, 20);
    journal_close(&journal);
    char path[96];
    assert_int_equal(chmod(place->dir, 0555), 0);
    assert_int_equal(chmod(place->data, 0444), 0);
    snprintf(path, sizeof(path), "%s/lock.mdb", place->dir);
    for (int round = 0; round < 2; round++) { /* with a lock file of another's, and without one */
        pid_t pid = fork_child();
        if (pid == 0)
            _exit(setgid(65534) == 0 && setuid(65534) == 0 ? child_read(place->dir, &reader, 20) : 9);
        assert_int_equal(wait_for(pid), CHILD_SAME);
        unlink(path);
    }
    assert_int_equal(chmod(place->dir, 0700), 0);
}

/* --- damage --- */

static void test_truncation(void **state)
{
    const struct place *place = *state;
    struct journal *journal = open_good(place->dir, &writer);
    struct buf whole = {0};
    append_many(journal, 60);
    journal_close(&journal);
    load_file(place->data, &whole);
    assert_true(whole.len > 40 * 4096);
    int refused = 0;
    for (size_t len = 1; len < whole.len; len += len % 4096 == 0 ? 1 : 4095) {
        store_file(place->data, whole.data, len);
        const struct journal_options *options = len % 2 == 0 ? &writer : &reader;
        int found = read_in_child(place->dir, options, 60);
        if (found != CHILD_ERROR && found != CHILD_SAME)
            fail_msg("truncated to %zu bytes: %d", len, found);
        refused += found == CHILD_ERROR;
    }
    assert_true(refused > 40);
    store_file(place->data, whole.data, whole.len);
    assert_int_equal(read_in_child(place->dir, &reader, 60), CHILD_SAME);
    buf_clear(&whole);
}

/* A flip may be noticed or harmless; it may not change a fact, hide a commit, or kill. */
static void flip_and_read(const struct place *place, const struct buf *whole, size_t at, unsigned char bits,
                          uint64_t commits, int counts[2])
{
    int fd = open(place->data, O_WRONLY);
    char byte = (char)(whole->data[at] ^ (char)bits);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    int found = read_in_child(place->dir, &reader, commits);
    if (found != CHILD_ERROR && found != CHILD_SAME)
        fail_msg("byte %zu of %zu ^ %02x: %d", at, whole->len, bits, found);
    counts[found == CHILD_ERROR]++;
    byte = whole->data[at];
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

static void test_flipped_bytes(void **state)
{
    const struct place *place = *state;
    struct journal *journal = open_good(place->dir, &writer);
    struct buf whole = {0};
    append_many(journal, 40);
    journal_close(&journal);
    load_file(place->data, &whole);
    int counts[2] = {0};
    /* The heads of pages and the ends of leaves, where LMDB keeps what it follows, and a sample of
     * the rest. */
    for (size_t at = 0; at < 2 * 4096; at += 4096)
        for (size_t i = 0; i < 152; i++)
            flip_and_read(place, &whole, at + i, i % 2 == 0 ? 0x01 : 0x81, 40, counts);
    for (size_t page = 2; page < whole.len / 4096; page++) {
        for (size_t i = 0; i < 24; i += 1 + page % 2)
            flip_and_read(place, &whole, page * 4096 + i, 1u << (i + page) % 8, 40, counts);
        for (size_t i = 0; i < 6; i++) {
            size_t at = page * 4096 + rng_u64(5, RNG_TEST, page, i) % 4096;
            flip_and_read(place, &whole, at, 1u << i, 40, counts);
        }
    }
    print_message("# flipped bytes: %d noticed, %d harmless\n", counts[1], counts[0]);
    assert_true(counts[1] > 300);
    buf_clear(&whole);
}

/* The same for a writer, which also follows the free list. */
static void test_flipped_bytes_writer(void **state)
{
    const struct place *place = *state;
    struct journal *journal = open_good(place->dir, &writer);
    struct buf whole = {0};
    append_many(journal, 30);
    journal_close(&journal);
    load_file(place->data, &whole);
    for (int i = 0; i < 300; i++) {
        size_t page = rng_u64(6, RNG_TEST, (uint64_t)i, 0) % (whole.len / 4096);
        size_t in = rng_u64(6, RNG_TEST, (uint64_t)i, 1) % (i % 2 == 0 ? 32 : 4096);
        size_t at = page * 4096 + in;
        char old = whole.data[at];
        whole.data[at] = (char)(old ^ (char)(1u << i % 8));
        store_file(place->data, whole.data, whole.len);
        int found = read_in_child(place->dir, &writer, 30);
        if (found != CHILD_ERROR && found != CHILD_SAME)
            fail_msg("byte %zu: %d", at, found);
        whole.data[at] = old;
    }
    buf_clear(&whole);
}

static void test_damaged_value_is_named(void **state)
{
    const struct place *place = *state;
    struct journal *journal = open_good(place->dir, &writer);
    struct error error = {0};
    struct buf whole = {0};
    for (int i = 0; i < 9; i++) {
        char facts[32];
        snprintf(facts, sizeof(facts), "FACT-%d-FACT", i + 1);
        assert_int_equal(journal_append(journal, slice_of(facts), slice_of("TEXT"), &error), 0);
    }
    journal_close(&journal);
    load_file(place->data, &whole);
    for (size_t i = 0; i + 11 < whole.len; i++) /* every old copy too: which one counts is LMDB's affair */
        if (memcmp(whole.data + i, "FACT-5-FACT", 11) == 0)
            whole.data[i] = 'f';
        else if (memcmp(whole.data + i, "TEXT", 4) == 0)
            whole.data[i] = 't';
    store_file(place->data, whole.data, whole.len);
    journal = open_good(place->dir, &writer);
    uint64_t seen[3] = {0};
    assert_int_equal(journal_scan(journal, 1, visit_count, seen, &error), ERR_CORRUPT);
    assert_int_equal(seen[0], 4);
    assert_non_null(strstr(error.text, "commit 5 does not match its checksum"));
    struct buf out = {0};
    assert_int_equal(journal_text(journal, (struct text_ref){2, 0, 4}, true, &out, &error), ERR_CORRUPT);
    assert_non_null(strstr(error.text, "commit 2"));
    journal_close(&journal);
    buf_clear(&out);
    buf_clear(&whole);
}

/* --- foreign files --- */

static void test_foreign_files(void **state)
{
    const struct place *place = *state;
    store_file(place->data, "", 0); /* a kill right after creation: a new journal */
    struct journal *journal = open_good(place->dir, &writer);
    append_many(journal, 1);
    journal_close(&journal);

    static const char text[] = "this is a shopping list\n";
    store_file(place->data, text, sizeof(text));
    expect_refused(place->dir, &writer, ERR_CORRUPT, "not a journal of drover");
    char *zeros = xalloc(5 * 4096);
    store_file(place->data, zeros, 5 * 4096);
    expect_refused(place->dir, &writer, ERR_CORRUPT, "not a journal of drover");
    free(zeros);
    unlink(place->data);
    assert_int_equal(symlink("/etc/passwd", place->data), 0);
    expect_refused(place->dir, &writer, ERR_CORRUPT, "symbolic link");
    unlink(place->data);
    assert_int_equal(mkfifo(place->data, 0600), 0);
    expect_refused(place->dir, &writer, ERR_CORRUPT, "not a regular file");
    unlink(place->data);
    expect_refused("/dev/null", &writer, ERR_IO, "is not a folder");
    expect_refused("/nonexistent/x", &writer, ERR_IO, "cannot create");
}

/* Writes value under key into the named tree (NULL: the main one), as some other program would. */
static void lmdb_put(const char *dir, const char *tree, const char *key, const void *value, size_t len)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val k = {strlen(key), (void *)key}, v = {len, (void *)value};
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 4), 0);
    assert_int_equal(mdb_env_open(env, dir, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, tree, tree != NULL ? MDB_CREATE : 0, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void test_other_lmdb(void **state)
{
    const struct place *place = *state;
    lmdb_put(place->dir, NULL, "a", "b", 1);
    expect_refused(place->dir, &writer, ERR_CORRUPT, "not a journal of drover");
    expect_refused(place->dir, &reader, ERR_CORRUPT, "not a journal of drover");
    lmdb_put(place->dir, "meta", "x", "y", 1);
    expect_refused(place->dir, &writer, ERR_CORRUPT, "not a journal of drover");
}

static void test_other_version(void **state)
{
    const struct place *place = *state;
    struct journal *journal = open_good(place->dir, &writer);
    append_many(journal, 2);
    journal_close(&journal);
    char value[9];
    uint64_t hash = hash_bytes("2", 1);
    memcpy(value, &hash, 8);
    value[8] = '2';
    lmdb_put(place->dir, "meta", "format", value, sizeof(value));
    expect_refused(place->dir, &writer, ERR_VERSION, "format 2");
    expect_refused(place->dir, &reader, ERR_VERSION, "use the release that wrote it");
    value[8] = '3';
    lmdb_put(place->dir, "meta", "format", value, sizeof(value));
    expect_refused(place->dir, &writer, ERR_CORRUPT, "format number");
}

static void test_network_filesystems(void **state)
{
    (void)state;
    assert_string_equal(network_filesystem(0x6969), "NFS");
    assert_string_equal(network_filesystem((long)0xFF534D42), "CIFS");
    assert_string_equal(network_filesystem((long)(int32_t)0xFF534D42), "CIFS");
    assert_string_equal(network_filesystem(0x0BD00BD0), "Lustre");
    assert_null(network_filesystem(0xEF53));     /* ext4 */
    assert_null(network_filesystem(0x01021994)); /* tmpfs */
    assert_null(network_filesystem(0x65735546)); /* FUSE */
}

/* --- kills and full disks --- */

enum { KILLS = 50 };

/* Appends until killed and says each number once it is durable. */
static void write_until_killed(const char *dir, int out)
{
    struct journal *journal;
    struct error error = {0};
    if (journal_open(dir, &writer, &journal, &error) != 0)
        _exit(1);
    for (;;) {
        uint64_t commit = journal_next(journal);
        if (append_next(journal, &error) != 0 || write(out, &commit, 8) != 8)
            _exit(2);
    }
}

static void kill_cycles(const struct place *place)
{
    uint64_t acknowledged = 0, before = 1; /* before: the next number when the cycle began */
    for (uint64_t cycle = 0; cycle < KILLS; cycle++) {
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t pid = fork_child();
        if (pid == 0)
            write_until_killed(place->dir, pipes[1]);
        close(pipes[1]);
        uint64_t commit;
        assert_int_equal(read(pipes[0], &commit, 8), 8); /* it writes */
        acknowledged = commit;
        /* Waiting is the test: the kill must come at a moment that nothing here chose. */
        int us = (int)(rng_u64(9, RNG_TEST, cycle, 0) % 12000);
        struct timespec pause = {0, us * 1000};
        nanosleep(&pause, NULL);
        kill(pid, SIGKILL);
        assert_int_equal(wait_for(pid), -SIGKILL);
        while (read(pipes[0], &commit, 8) == 8)
            acknowledged = commit;
        close(pipes[0]);
        struct journal *journal = open_good(place->dir, &writer);
        uint64_t next = journal_next(journal);
        /* One commit at most may be durable and not acknowledged yet. */
        uint64_t known = acknowledged + 1 > before ? acknowledged + 1 : before;
        if (next < known || next > known + 1)
            fail_msg("cycle %d: %d acknowledged, next is %d", (int)cycle, (int)acknowledged, (int)next);
        if (cycle % 10 == 9)
            expect_all(journal, next - 1);
        struct error error = {0};
        if (append_next(journal, &error) != 0)
            fail_msg("cycle %d: %s", (int)cycle, error.text);
        before = next + 1;
        journal_close(&journal);
    }
    print_message("# %d kills, %d commits acknowledged\n", KILLS, (int)acknowledged);
}

static void test_kill(void **state)
{
    kill_cycles(*state);
}

/* What LMDB keeps in the lock file outlives the writer then: killed between its meta page and the number there, it
 * leaves a number that is one behind. */
static void test_kill_beside_a_reader(void **state)
{
    const struct place *place = *state;
    struct journal *journal = open_good(place->dir, &writer);
    int pipes[2];
    char byte;
    journal_close(&journal);
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork_child();
    if (pid == 0) {
        struct error error = {0};
        int rc = journal_open(place->dir, &reader, &journal, &error);
        _exit(rc == 0 && write(pipes[1], "", 1) == 1 && pause() != 0);
    }
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    kill_cycles(place);
    kill(pid, SIGKILL);
    assert_int_equal(wait_for(pid), -SIGKILL);
    close(pipes[0]);
    close(pipes[1]);
}

/* Appends until the disk is full; then the same append again and again fails the same way, and
 * reading still works. */
static uint64_t fill_disk(struct journal *journal)
{
    struct error error = {0};
    int rc = 0;
    for (int i = 0; i < 5000 && rc == 0; i++)
        rc = append_next(journal, &error);
    if (rc != ERR_DISK_FULL)
        fail_msg("wanted a full disk, got %d %s", rc, error.text);
    uint64_t next = journal_next(journal);
    for (int i = 0; i < 3; i++)
        assert_int_equal(append_next(journal, &error), ERR_DISK_FULL);
    assert_int_equal(journal_next(journal), next);
    expect_all(journal, next - 1);
    return next;
}

static void test_file_size_limit(void **state)
{
    const struct place *place = *state;
    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    for (rlim_t extra = 0; extra < 9000; extra += 1234) { /* limits between pages: short writes */
        struct journal *journal = open_good(place->dir, &writer);
        low = (struct rlimit){journal_bytes(journal) + 100000 + extra, old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
        uint64_t next = fill_disk(journal);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        append_many(journal, 5);
        expect_all(journal, next + 4);
        journal_close(&journal);
    }
    signal(SIGXFSZ, handler);
}

static void test_full_disk(void **state)
{
    const struct place *place = *state;
    if (geteuid() != 0 || mount("tmpfs", place->dir, "tmpfs", 0, "size=1m") != 0) {
        print_message("# needs the right to mount a small tmpfs\n");
        skip();
    }
    char ballast[96];
    snprintf(ballast, sizeof(ballast), "%s/ballast", place->dir);
    char *zeros = xalloc(300000);
    store_file(ballast, zeros, 300000);
    free(zeros);
    struct journal *journal = open_good(place->dir, &writer);
    uint64_t next = fill_disk(journal);
    assert_int_equal(unlink(ballast), 0);
    append_many(journal, 5);
    expect_all(journal, next + 4);
    next = fill_disk(journal);
    journal_close(&journal);
    journal = open_good(place->dir, &reader);
    expect_all(journal, next - 1);
    journal_close(&journal);
    place_empty(place->dir);
    assert_int_equal(umount(place->dir), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown)
    const struct CMUnitTest tests[] = {
        T(test_round_trip),
        T(test_scan),
        T(test_sizes),
        T(test_text_refs),
        T(test_map_grows),
        T(test_second_writer),
        T(test_reader_beside_writer),
        T(test_reader_races_writer),
        T(test_reader_needs_a_journal),
        T(test_read_only_folder),
        T(test_truncation),
        T(test_flipped_bytes),
        T(test_flipped_bytes_writer),
        T(test_damaged_value_is_named),
        T(test_foreign_files),
        T(test_other_lmdb),
        T(test_other_version),
        T(test_network_filesystems),
        T(test_kill),
        T(test_kill_beside_a_reader),
        T(test_file_size_limit),
        T(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
