/* journal.c - measures the journal: journal [FOLDER [COMMITS_TO_SCAN]].
 *
 * Durable appends at batches of 1, 64 and 256 texts of 2,000 bytes (with 100 bytes of facts each),
 * then a scan of many small commits as at resume, opening (which walks every page) included. FOLDER
 * decides which disk. */
#include "broker/journal.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TEXT_LEN = 2000, FACTS_LEN = 100, SECONDS = 2 };

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void must(int rc, const struct error *error)
{
    if (rc == 0)
        return;
    fprintf(stderr, "bench/journal: %s\n", error->text);
    exit(1);
}

static void append(struct journal *journal, const char *bytes, size_t facts, size_t texts)
{
    struct error error;
    must(journal_append(journal, (struct slice){bytes, facts}, (struct slice){bytes, texts}, &error), &error);
}

static void measure_appends(struct journal *journal, size_t batch)
{
    char *bytes = xalloc(batch * TEXT_LEN);
    uint64_t size = journal_bytes(journal), commits = 0;
    memset(bytes, 'x', batch * TEXT_LEN);
    double start = seconds(), now = start;
    while (now - start < SECONDS) {
        append(journal, bytes, batch * FACTS_LEN, batch * TEXT_LEN);
        commits++;
        now = seconds();
    }
    double rate = (double)commits / (now - start);
    printf("append batch=%zu commits_per_s=%.0f texts_per_s=%.0f bytes_per_text=%.0f\n", batch, rate,
           rate * (double)batch, (double)(journal_bytes(journal) - size) / (double)(commits * batch));
    free(bytes);
}

static int visit(void *arg, uint64_t commit, struct slice facts)
{
    uint64_t *sums = arg;
    sums[0] += commit > 0;
    sums[1] += facts.len;
    return 0;
}

static void measure_scan(const char *dir, bool read_only)
{
    struct journal *journal;
    struct error error;
    uint64_t sums[2] = {0, 0};
    struct journal_options options = {.read_only = read_only};
    double start = seconds();
    must(journal_open(dir, &options, &journal, &error), &error);
    double opened = seconds();
    must(journal_scan(journal, 1, visit, sums, &error), &error);
    double end = seconds();
    printf("scan commits=%" PRIu64 " open_ms=%.0f scan_ms=%.0f commits_per_s=%.0f file_mb=%.0f\n", sums[0],
           (opened - start) * 1e3, (end - opened) * 1e3, (double)sums[0] / (end - opened),
           (double)journal_bytes(journal) / 1e6);
    journal_close(&journal);
}

static void remove_folder(const char *dir)
{
    char path[512];
    static const char *const names[] = {"data.mdb", "lock.mdb", "drover.lock"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

int main(int argc, char **argv)
{
    char dir[400];
    struct journal *journal;
    struct error error;
    static const size_t batches[] = {1, 64, 256};
    static char facts[FACTS_LEN];
    uint64_t scans = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    snprintf(dir, sizeof(dir), "%s/drover-bench-XXXXXX", argc > 1 ? argv[1] : "/tmp");
    if (mkdtemp(dir) == NULL) {
        perror(dir);
        return 1;
    }
    must(journal_open(dir, &(struct journal_options){0}, &journal, &error), &error);
    for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++)
        measure_appends(journal, batches[i]);
    for (uint64_t i = 0; i < scans; i++)
        append(journal, facts, sizeof(facts), 0);
    journal_close(&journal);
    measure_scan(dir, false);
    measure_scan(dir, true);
    remove_folder(dir);
    return 0;
}
