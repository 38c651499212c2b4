/* recording.c - see recording.h. */
#include "worker/recording.h"

#include "common/hash.h"
#include "common/limits.h"
#include "worker/csv.h"
#include "worker/fields.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 1 << 20, LINE_MAX_BYTES = LIMIT_PROMPT };

static const uint64_t file_max = (uint64_t)4 << 30;

static const char *const default_names[COLUMNS] = {
#define X(name, text, help) [name] = (text),
    COLUMN_TABLE(X)
#undef X
};

/* Rollouts sorted by prompt, and the prompts sorted by hash. */
struct group {
    uint64_t hash;
    size_t first, len;
};

struct block {
    struct block *next;
    char bytes[];
};

struct recording {
    struct recorded *rows;
    size_t len, cap;
    struct group *groups;
    size_t groups_len;
    struct block *blocks; /* hold all texts */
    size_t left;          /* bytes free in the newest block */
    bool has_answers;
};

/* --- reading rows --- */

/* One row: the cells of the columns that it has. */
struct row {
    uint64_t line;
    struct slice cells[COLUMNS];
    bool have[COLUMNS];
};

struct source {
    const char *path;
    const struct recording_options *options;
    struct slice text;
    const char *names[COLUMNS];
    /* CSV */
    struct csv csv;
    struct csv_record *record;
    size_t at[COLUMNS]; /* cell of each column; SIZE_MAX: absent */
    /* JSONL */
    size_t offset;
    uint64_t line;
    struct buf cells[COLUMNS];
};

static int bad_column(const struct source *source, uint64_t line, enum column column, const char *columns,
                      struct error *error)
{
    return error_set(error, ERR_NOT_FOUND,
                     "recording '%s', line %" PRIu64
                     ": no column '%.64s' for '%s' (see options.columns); there are: %.200s",
                     source->path, line, source->names[column], default_names[column], columns);
}

static bool required(const struct source *source, enum column column)
{
    return column == COLUMN_PROMPT || source->options->columns[column] != NULL;
}

static bool slice_is(struct slice slice, const char *text)
{
    return slice.len == strlen(text) && memcmp(slice.data, text, slice.len) == 0;
}

static int csv_head(struct source *source, struct error *error)
{
    struct error what;
    csv_init(&source->csv, source->text, LINE_MAX_BYTES);
    source->record = xalloc(sizeof(*source->record));
    int rc = csv_next(&source->csv, source->record, &what);
    if (rc < 0)
        return error_set(error, rc, "recording '%s', %.300s", source->path, what.text);
    if (rc == 0)
        return error_set(error, ERR_NOT_FOUND, "recording '%s' is empty", source->path);
    struct buf names = {0};
    for (size_t i = 0; i < source->record->len; i++)
        buf_printf(&names, "%s%.*s", i > 0 ? ", " : "", (int)source->record->cells[i].len,
                   source->record->cells[i].data);
    rc = 0;
    for (enum column c = 0; c < COLUMNS && rc == 0; c++) {
        source->at[c] = SIZE_MAX;
        for (size_t i = source->record->len; i-- > 0;)
            if (slice_is(source->record->cells[i], source->names[c]))
                source->at[c] = i;
        if (source->at[c] == SIZE_MAX && required(source, c))
            rc = bad_column(source, source->record->line, c, names.data, error);
    }
    buf_clear(&names);
    return rc;
}

static int csv_row(struct source *source, struct row *row, struct error *error)
{
    struct error what;
    int rc = csv_next(&source->csv, source->record, &what);
    if (rc < 0)
        return error_set(error, rc, "recording '%s', %.300s", source->path, what.text);
    row->line = source->record->line;
    for (enum column c = 0; c < COLUMNS; c++) {
        row->have[c] = source->at[c] != SIZE_MAX;
        if (rc == 1 && row->have[c])
            row->cells[c] = source->record->cells[source->at[c]];
    }
    return rc;
}

/* The next line that is not blank; false at the end. */
static bool next_line(struct source *source, struct slice *line)
{
    while (source->offset < source->text.len) {
        const char *start = source->text.data + source->offset;
        size_t left = source->text.len - source->offset;
        const char *end = memchr(start, '\n', left);
        *line = (struct slice){start, end != NULL ? (size_t)(end - start) : left};
        source->offset += line->len + (end != NULL);
        source->line++;
        for (size_t i = 0; i < line->len; i++)
            if (strchr(" \t\r", start[i]) == NULL || start[i] == '\0')
                return true;
    }
    return false;
}

static int jsonl_cells(struct source *source, const struct fields *fields, struct row *row, struct error *error)
{
    for (enum column c = 0; c < COLUMNS; c++) {
        buf_reset(&source->cells[c]);
        buf_grow(&source->cells[c], 0);
        row->have[c] = fields_text(fields, source->names[c], &source->cells[c]);
        row->cells[c] = buf_slice(&source->cells[c]);
        if (row->have[c] || !required(source, c))
            continue;
        if (fields_null(fields, source->names[c])) {
            row->have[c] = true; /* null is an empty cell */
            continue;
        }
        struct buf names = {0};
        buf_puts(&names, "");
        fields_keys(fields, &names);
        int rc = bad_column(source, row->line, c, names.data, error);
        buf_clear(&names);
        return rc;
    }
    return 1;
}

static int jsonl_row(struct source *source, struct row *row, struct error *error)
{
    struct slice line;
    struct fields *fields;
    struct error what;
    if (!next_line(source, &line))
        return 0;
    row->line = source->line;
    if (line.len > LINE_MAX_BYTES)
        return error_set(error, ERR_LIMIT, "recording '%s', line %" PRIu64 ": more than %d bytes", source->path,
                         row->line, LINE_MAX_BYTES);
    int rc = fields_parse(line, &fields, &what);
    if (rc != 0)
        return error_set(error, rc, "recording '%s', line %" PRIu64 ": %.300s", source->path, row->line, what.text);
    rc = jsonl_cells(source, fields, row, error);
    fields_free(&fields);
    return rc;
}

static void source_clear(struct source *source)
{
    if (source->record != NULL)
        csv_record_clear(source->record);
    free(source->record);
    for (enum column c = 0; c < COLUMNS; c++)
        buf_clear(&source->cells[c]);
}

/* --- rows to rollouts --- */

static struct slice keep(struct recording *recording, struct slice text)
{
    if (text.len == 0)
        return (struct slice){"", 0};
    if (recording->left < text.len) {
        size_t size = text.len > BLOCK ? text.len : BLOCK;
        struct block *block = xrealloc(NULL, sizeof(*block) + size);
        block->next = recording->blocks;
        recording->blocks = block;
        recording->left = size;
    }
    /* Blocks are filled from the end, so that what is left is all there is to remember. */
    recording->left -= text.len;
    char *to = recording->blocks->bytes + recording->left;
    memcpy(to, text.data, text.len);
    return (struct slice){to, text.len};
}

static int bad_cell(const struct source *source, const struct row *row, enum column column, const char *wanted,
                    struct error *error)
{
    return error_set(error, ERR_SYNTAX, "recording '%s', line %" PRIu64 ", column '%.64s': '%.*s' is not %s",
                     source->path, row->line, source->names[column],
                     (int)(row->cells[column].len < 60 ? row->cells[column].len : 60), row->cells[column].data, wanted);
}

/* A finite decimal number; strtod alone would also take hex, "nan" and leading spaces. */
static bool to_number(struct slice cell, double *value)
{
    char text[64], *end;
    if (cell.len == 0 || cell.len >= sizeof(text))
        return false;
    memcpy(text, cell.data, cell.len);
    text[cell.len] = '\0';
    if (strspn(text, "+-.0123456789eE") != cell.len)
        return false;
    *value = strtod(text, &end);
    return *end == '\0' && end != text && isfinite(*value);
}

static int read_u32(const struct source *source, const struct row *row, enum column column, uint32_t *value,
                    struct error *error)
{
    double number;
    if (!row->have[column] || row->cells[column].len == 0)
        return 0;
    if (!to_number(row->cells[column], &number) || number < 0 || number > UINT32_MAX - 1.0)
        return bad_cell(source, row, column, "a number from 0 to 4294967294", error);
    *value = (uint32_t)(number + 0.5);
    return 0;
}

static int read_ordinal(const struct source *source, const struct row *row, int64_t *value, struct error *error)
{
    double number;
    if (!row->have[COLUMN_ORDINAL])
        return 0;
    if (!to_number(row->cells[COLUMN_ORDINAL], &number) || number != floor(number) || fabs(number) > 9e15)
        return bad_cell(source, row, COLUMN_ORDINAL, "a whole number", error);
    *value = (int64_t)number;
    return 0;
}

static void feature_set(struct features *features, enum feature feature, double value)
{
    features->have |= 1u << feature;
    features->v[feature] = value;
}

static int read_features(const struct source *source, const struct row *row, struct features *features,
                         struct error *error)
{
    static const char *const yes[] = {"1", "1.0", "true", "True", "TRUE"};
    static const char *const no[] = {"0", "0.0", "false", "False", "FALSE"};
    double reward;
    struct slice correct = row->cells[COLUMN_CORRECT];
    if (row->have[COLUMN_REWARD] && row->cells[COLUMN_REWARD].len > 0) {
        if (!to_number(row->cells[COLUMN_REWARD], &reward))
            return bad_cell(source, row, COLUMN_REWARD, "a number", error);
        feature_set(features, FEATURE_REWARD, reward);
    }
    if (!row->have[COLUMN_CORRECT] || correct.len == 0)
        return 0;
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (slice_is(correct, yes[i]))
            feature_set(features, FEATURE_CORRECT, 1);
        if (slice_is(correct, no[i]))
            feature_set(features, FEATURE_CORRECT, 0);
    }
    if (!(features->have & (1u << FEATURE_CORRECT)))
        return bad_cell(source, row, COLUMN_CORRECT, "1, 0, true, false or empty", error);
    return 0;
}

static uint32_t words(struct slice text)
{
    uint32_t count = 0;
    bool inside = false;
    for (size_t i = 0; i < text.len; i++) {
        bool space = strchr(" \t\r\n\f\v", text.data[i]) != NULL;
        count += !space && !inside;
        inside = !space;
    }
    return count > 0 ? count : 1;
}

static int row_add(struct recording *recording, const struct source *source, const struct row *row, struct error *error)
{
    struct recorded rollout = {.line = row->line, .ordinal = 0};
    if (row->cells[COLUMN_PROMPT].len == 0)
        return bad_cell(source, row, COLUMN_PROMPT, "the id of a prompt", error);
    if (row->have[COLUMN_ANSWER] && row->cells[COLUMN_ANSWER].len > LIMIT_ANSWER)
        return bad_cell(source, row, COLUMN_ANSWER, "an answer: it is too long", error);
    struct slice answer = row->have[COLUMN_ANSWER] ? row->cells[COLUMN_ANSWER] : (struct slice){"", 0};
    struct slice text = row->have[COLUMN_TEXT] ? row->cells[COLUMN_TEXT] : answer;
    rollout.tokens_out = words(text);
    int rc = read_ordinal(source, row, &rollout.ordinal, error);
    if (rc == 0)
        rc = read_u32(source, row, COLUMN_TOKENS_IN, &rollout.tokens_in, error);
    if (rc == 0)
        rc = read_u32(source, row, COLUMN_TOKENS_OUT, &rollout.tokens_out, error);
    if (rc == 0)
        rc = read_u32(source, row, COLUMN_LATENCY, &rollout.latency_ms, error);
    if (rc == 0)
        rc = read_features(source, row, &rollout.features, error);
    if (rc != 0)
        return rc;
    if (rollout.tokens_out == 0)
        rollout.tokens_out = 1; /* at least the end was generated */
    rollout.prompt = keep(recording, row->cells[COLUMN_PROMPT]);
    rollout.answer = keep(recording, answer);
    rollout.text = row->have[COLUMN_TEXT] ? keep(recording, text) : rollout.answer;
    recording->has_answers |= row->have[COLUMN_ANSWER];
    if (recording->len == recording->cap) {
        recording->cap = recording->cap > 0 ? recording->cap * 2 : 1024;
        recording->rows = xrealloc(recording->rows, recording->cap * sizeof(*recording->rows));
    }
    recording->rows[recording->len++] = rollout;
    return 0;
}

/* --- the index --- */

static int slice_order(struct slice a, struct slice b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int row_order(const void *left, const void *right)
{
    const struct recorded *a = left, *b = right;
    int order = slice_order(a->prompt, b->prompt);
    if (order == 0)
        order = (a->ordinal > b->ordinal) - (a->ordinal < b->ordinal);
    return order != 0 ? order : (a->line > b->line) - (a->line < b->line);
}

static int group_order(const void *left, const void *right)
{
    const struct group *a = left, *b = right;
    int order = (a->hash > b->hash) - (a->hash < b->hash);
    return order != 0 ? order : (a->first > b->first) - (a->first < b->first);
}

static int index_rows(struct recording *recording, const char *path, bool ordered, struct error *error)
{
    qsort(recording->rows, recording->len, sizeof(*recording->rows), row_order);
    recording->groups = xalloc(recording->len * sizeof(*recording->groups));
    for (size_t i = 0; i < recording->len; i++) {
        const struct recorded *row = &recording->rows[i];
        struct group *group = &recording->groups[recording->groups_len];
        if (i == 0 || slice_order(row->prompt, row[-1].prompt) != 0) {
            *group = (struct group){hash_bytes(row->prompt.data, row->prompt.len), i, 0};
            recording->groups_len++;
        } else if (ordered && row->ordinal == row[-1].ordinal) {
            return error_set(error, ERR_CONFLICT,
                             "recording '%s', line %" PRIu64 ": prompt '%.*s' has ordinal %" PRId64
                             " already in line %" PRIu64 "; are these several runs in one file?",
                             path, row->line, (int)(row->prompt.len < 60 ? row->prompt.len : 60), row->prompt.data,
                             row->ordinal, row[-1].line);
        }
        recording->groups[recording->groups_len - 1].len++;
    }
    qsort(recording->groups, recording->groups_len, sizeof(*recording->groups), group_order);
    return 0;
}

size_t recording_find(const struct recording *recording, struct slice prompt, const struct recorded **first)
{
    uint64_t hash = hash_bytes(prompt.data, prompt.len);
    size_t low = 0, high = recording->groups_len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (recording->groups[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < recording->groups_len && recording->groups[low].hash == hash; low++) {
        const struct group *group = &recording->groups[low];
        *first = &recording->rows[group->first];
        if (slice_order((*first)->prompt, prompt) == 0)
            return group->len;
    }
    *first = NULL;
    return 0;
}

size_t recording_len(const struct recording *recording)
{
    return recording->len;
}

bool recording_has_answers(const struct recording *recording)
{
    return recording->has_answers;
}

/* --- the file --- */

static int read_fd(int fd, const char *path, struct buf *text, struct error *error)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return error_set(error, ERR_IO, "cannot read recording '%s': %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return error_set(error, ERR_IO, "recording '%s' is not a regular file", path);
    if ((uint64_t)st.st_size > file_max)
        return error_set(error, ERR_LIMIT, "recording '%s' has more than 4 GiB", path);
    size_t size = (size_t)st.st_size;
    char *to = buf_grow(text, size);
    while (text->len < size) {
        ssize_t got = read(fd, to + text->len, size - text->len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return error_set(error, ERR_IO, "cannot read recording '%s': %s", path,
                             got < 0 ? strerror(errno) : "it became shorter");
        text->len += (size_t)got;
    }
    return 0;
}

static int file_load(const char *path, struct buf *text, struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(error, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot open recording '%s': %s", path,
                         strerror(errno));
    int rc = read_fd(fd, path, text, error);
    close(fd);
    return rc;
}

static bool is_csv(const char *path, enum recording_format format)
{
    size_t len = strlen(path);
    if (format != RECORDING_AUTO)
        return format == RECORDING_CSV;
    return len >= 4 && strcmp(path + len - 4, ".csv") == 0;
}

static int read_rows(struct source *source, struct recording *recording, struct error *error)
{
    bool csv = is_csv(source->path, source->options->format), ordered = false;
    int rc = csv ? csv_head(source, error) : 0;
    while (rc == 0) {
        struct row row = {0};
        int more = csv ? csv_row(source, &row, error) : jsonl_row(source, &row, error);
        if (more <= 0) {
            rc = more;
            break;
        }
        if (recording->len == 0)
            ordered = row.have[COLUMN_ORDINAL];
        else if (ordered != row.have[COLUMN_ORDINAL])
            return bad_column(source, row.line, COLUMN_ORDINAL, "(some lines have it)", error);
        rc = row_add(recording, source, &row, error);
    }
    if (rc == 0 && recording->len == 0)
        return error_set(error, ERR_NOT_FOUND, "recording '%s' holds no rollouts", source->path);
    return rc == 0 ? index_rows(recording, source->path, ordered, error) : rc;
}

int recording_load(const char *path, const struct recording_options *options, struct recording **recording,
                   struct error *error)
{
    struct buf text = {0};
    struct source source = {.path = path, .options = options};
    struct recording *loaded = xalloc(sizeof(*loaded));
    for (enum column c = 0; c < COLUMNS; c++)
        source.names[c] = options->columns[c] != NULL ? options->columns[c] : default_names[c];
    int rc = file_load(path, &text, error);
    source.text = buf_slice(&text);
    if (rc == 0)
        rc = read_rows(&source, loaded, error);
    source_clear(&source);
    buf_clear(&text);
    if (rc != 0)
        recording_free(&loaded);
    *recording = loaded;
    return rc;
}

void recording_free(struct recording **recording)
{
    struct recording *r = *recording;
    if (r == NULL)
        return;
    while (r->blocks != NULL) {
        struct block *next = r->blocks->next;
        free(r->blocks);
        r->blocks = next;
    }
    free(r->rows);
    free(r->groups);
    free(r);
    *recording = NULL;
}
