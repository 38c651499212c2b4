/* prior_file.c - see prior_file.h. */
#include "broker/prior_file.h"
#include "common/json.h"
#include "common/limits.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

static const char sign[] = "prior:";

/* ---- as a person wrote it ---- */

/* Counts of one prompt and model, whose lines may stand anywhere in the file. */
struct tally {
    char *key;
    uint32_t at; /* in the counts */
    UT_hash_handle hh;
};

struct reading {
    struct prior_file *file;
    struct tally *tallies; /* hash, by prompt and model */
    const char *path, *verifier;
    uint32_t line;
    struct buf verifiers; /* of the first line with verdicts */
    struct error *error;
};

static int wrong(const struct reading *r, const char *what)
{
    return error_set(r->error, ERR_SYNTAX, "%s:%u: %s", r->path, r->line, what);
}

static void count_add(struct prior_file *file, const char *prompt, uint32_t passes, uint32_t n)
{
    if (file->len == file->cap) {
        file->cap = file->cap == 0 ? 64 : 2 * file->cap;
        file->counts = xrealloc(file->counts, file->cap * sizeof *file->counts);
    }
    file->counts[file->len++] = (struct prior_count){xstrdup(prompt), passes, n};
}

/* Results hold seeds, which are larger than jansson's whole numbers: all numbers are read as real ones. */
static bool whole(const json_t *json, double least, double most, uint32_t *value)
{
    double number = json_number_value(json);
    if (!json_is_number(json) || !(number >= least && number <= most) || number != floor(number))
        return false;
    *value = (uint32_t)number;
    return true;
}

/* An id as text; an empty one when it is none. */
static const char *id_of(const json_t *json, char number[32])
{
    double value = json_real_value(json);
    number[0] = '\0';
    if (json_is_string(json))
        return json_string_value(json);
    if (json_is_real(json) && value == floor(value) && fabs(value) < 1e15)
        snprintf(number, 32, "%.0f", value);
    return number;
}

static int take_count(const struct reading *r, const json_t *record, const char *prompt)
{
    uint32_t passes, n;
    if (!whole(json_object_get(record, "n"), 1, 1000000000, &n) ||
        !whole(json_object_get(record, "passes"), 0, n, &passes))
        return wrong(r, "a count needs whole numbers `n`, at least 1, and `passes`, at most n");
    count_add(r->file, prompt, passes, n);
    return 0;
}

/* Of a pool with a kill rule not all are whole; nodes of trees are no independent rollouts. */
static bool is_sample(const json_t *record)
{
    return json_object_get(record, "kill") == NULL && json_object_get(record, "node") == NULL;
}

static void put_names(json_t *verdicts, struct buf *names)
{
    for (void *at = json_object_iter(verdicts); at != NULL; at = json_object_iter_next(verdicts, at))
        buf_printf(names, "%s%.64s", names->len > 0 ? ", " : "", json_object_iter_key(at));
}

/* One rollout, as `drover results` prints it. Verdicts that decide nothing are not counted. */
static int take_rollout(struct reading *r, const json_t *record, const char *prompt)
{
    if (r->verifiers.len == 0)
        put_names(json_object_get(record, "verdicts"), &r->verifiers);
    const char *outcome = json_string_value(
        json_object_get(json_object_get(json_object_get(record, "verdicts"), r->verifier), "outcome"));
    const char *model = json_string_value(json_object_get(record, "model"));
    bool pass = outcome != NULL && strcmp(outcome, "pass") == 0;
    if (!is_sample(record) || outcome == NULL ||
        (!pass && strcmp(outcome, "fail") != 0 && strcmp(outcome, "timeout") != 0))
        return 0;
    struct buf key = {0};
    struct tally *tally;
    buf_printf(&key, "%zu:%s%s", strlen(prompt), prompt, model == NULL ? "" : model);
    HASH_FIND_STR(r->tallies, key.data, tally);
    if (tally == NULL) {
        tally = xalloc(sizeof *tally);
        tally->key = key.data;
        tally->at = r->file->len;
        HASH_ADD_KEYPTR(hh, r->tallies, tally->key, key.len, tally);
        count_add(r->file, prompt, 0, 0);
    } else
        buf_clear(&key);
    r->file->counts[tally->at].n++;
    r->file->counts[tally->at].passes += pass;
    return 0;
}

static int take_line(struct reading *r, struct slice line)
{
    char number[32];
    json_t *record = json_loadb(line.data, line.len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, NULL);
    const char *prompt = id_of(json_object_get(record, "prompt"), number);
    int rc;
    if (!json_is_object(record) || prompt[0] == '\0')
        rc = wrong(
            r,
            "not a JSON object with the id of a `prompt`, as a count {\"prompt\": ID, \"passes\": K, \"n\": N} or a line of `drover "
            "results` is");
    else if (json_object_get(record, "verdicts") != NULL)
        rc = take_rollout(r, record, prompt);
    else
        rc = take_count(r, record, prompt);
    json_decref(record);
    return rc;
}

static bool is_blank(struct slice line)
{
    for (size_t i = 0; i < line.len; i++)
        if (strchr(" \t\r", line.data[i]) == NULL)
            return false;
    return true;
}

static int take_lines(struct reading *r, struct slice text)
{
    int rc = 0;
    for (const char *at = text.data, *end = at + text.len; rc == 0 && at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at)), *stop = newline == NULL ? end : newline;
        struct slice line = {at, (size_t)(stop - at)};
        r->line++;
        if (!is_blank(line))
            rc = take_line(r, line);
        at = stop + 1;
    }
    return rc;
}

static int nothing_counts(const struct reading *r)
{
    const char *there = r->verifiers.len > 0 ? r->verifiers.data : "none";
    if (r->line == 0)
        return error_set(r->error, ERR_NOT_FOUND, "%s: the file holds no lines", r->path);
    if (r->verifier[0] == '\0')
        return error_set(r->error, ERR_NOT_FOUND,
                         "%s: no line counts passes, and whose verdicts count is not said (--verifier NAME); there are "
                         "those of: %.200s",
                         r->path, there);
    return error_set(r->error, ERR_NOT_FOUND,
                     "%s: no line counts passes, or has a verdict of '%s' that decides; there are those of: %.200s",
                     r->path, r->verifier, there);
}

int prior_file_read(struct slice text, const char *path, const char *name, const char *verifier,
                    struct prior_file *file, struct error *error)
{
    struct reading r = {.file = file, .path = path, .verifier = verifier, .error = error};
    struct tally *tally, *next;
    *file = (struct prior_file){.name = xstrdup(name), .verifier = xstrdup(verifier)};
    int rc = take_lines(&r, text);
    HASH_ITER (hh, r.tallies, tally, next) {
        HASH_DEL(r.tallies, tally);
        free(tally->key);
        free(tally);
    }
    if (rc == 0 && file->len == 0)
        rc = nothing_counts(&r);
    buf_clear(&r.verifiers);
    if (rc != 0)
        prior_file_clear(file);
    return rc;
}

void prior_file_clear(struct prior_file *file)
{
    for (uint32_t i = 0; i < file->len; i++)
        free(file->counts[i].prompt);
    free(file->counts);
    free(file->name);
    free(file->verifier);
    *file = (struct prior_file){0};
}

/* ---- ahead of the prompts ---- */

void prior_file_put(const struct prior_file *file, struct buf *out)
{
    buf_puts(out, sign);
    json_begin(out, '[');
    json_str(out, file->name);
    json_str(out, file->verifier);
    json_end(out, ']');
    buf_puts(out, "\n");
    for (uint32_t i = 0; i < file->len; i++) {
        buf_puts(out, sign);
        json_begin(out, '[');
        json_str(out, file->counts[i].prompt);
        json_u64(out, file->counts[i].passes);
        json_u64(out, file->counts[i].n);
        json_end(out, ']');
        buf_puts(out, "\n");
    }
}

bool prior_line_is(struct slice line)
{
    return line.len >= sizeof sign - 1 && memcmp(line.data, sign, sizeof sign - 1) == 0;
}

static bool take_head(struct prior_files *files, const char *name, const char *verifier)
{
    if (name == NULL || verifier == NULL || files->len == LIMIT_ARMS || prior_files_find(files, name, verifier) != NULL)
        return false;
    files->at = xrealloc(files->at, (files->len + 1) * sizeof *files->at);
    files->at[files->len++] = (struct prior_file){.name = xstrdup(name), .verifier = xstrdup(verifier)};
    return true;
}

static bool take_array(struct prior_files *files, const json_t *array)
{
    const char *text = json_string_value(json_array_get(array, 0));
    uint32_t passes, n;
    if (json_array_size(array) == 2)
        return take_head(files, text, json_string_value(json_array_get(array, 1)));
    if (json_array_size(array) != 3 || files->len == 0 || text == NULL ||
        !whole(json_array_get(array, 2), 1, 1000000000, &n) || !whole(json_array_get(array, 1), 0, n, &passes))
        return false;
    count_add(&files->at[files->len - 1], text, passes, n);
    return true;
}

bool prior_line_take(struct prior_files *files, struct slice line)
{
    json_t *array = json_loadb(line.data + sizeof sign - 1, line.len - (sizeof sign - 1), 0, NULL);
    bool good = json_is_array(array) && take_array(files, array);
    json_decref(array);
    return good;
}

void prior_files_clear(struct prior_files *files)
{
    for (uint32_t i = 0; i < files->len; i++)
        prior_file_clear(&files->at[i]);
    free(files->at);
    *files = (struct prior_files){0};
}

const struct prior_file *prior_files_find(const struct prior_files *files, const char *name, const char *verifier)
{
    for (uint32_t i = 0; i < files->len; i++)
        if (strcmp(files->at[i].name, name) == 0 && strcmp(files->at[i].verifier, verifier) == 0)
            return &files->at[i];
    return NULL;
}
