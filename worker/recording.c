/* recording.c - see recording.h. */
#include "worker/recording.h"

#include "common/hash.h"
#include "common/limits.h"
#include "worker/batch_line.h"
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

enum { BLOCK = 1 << 20, LINE_MAX_BYTES = 8 * LIMIT_TEXT, NAMES_MAX = LIMIT_VERIFIERS };

static const uint64_t file_max = (uint64_t)4 << 30;

static const char *const default_names[COLUMNS] = {
#define X(name, text, help) [name] = (text),
    COLUMN_TABLE(X)
#undef X
#define X(name, value, text, help) [COLUMN_FEATURE + (name)] = (text),
        FEATURE_TABLE(X)
#undef X
};

const char *column_name(enum column column)
{
    return default_names[column];
}

static bool slice_is(struct slice slice, const char *text)
{
    return slice.len == strlen(text) && (slice.len == 0 || memcmp(slice.data, text, slice.len) == 0);
}

bool column_of(struct slice name, enum column *column)
{
    for (enum column c = 0; c < COLUMNS; c++) {
        if (!slice_is(name, default_names[c]))
            continue;
        *column = c;
        return true;
    }
    return false;
}

/* Rollouts sorted by model and prompt, and these sorted by hash. */
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
    char *verifiers[NAMES_MAX];
    size_t verifiers_len;
    struct slice sweep;
    uint64_t nodes, ended;
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
    size_t *filter_at;  /* the same of the filters */
    /* JSONL */
    size_t offset;
    uint64_t line;
    struct buf cells[COLUMNS];
    struct recording *recording; /* under construction */
    int ordered;                 /* rows have ordinals: -1 not known yet */
};

static const char *hint(const struct source *source)
{
    return source->options->hint != NULL ? source->options->hint : "options.columns";
}

static int bad_column(const struct source *source, uint64_t line, enum column column, const char *columns,
                      struct error *error)
{
    return error_set(error, ERR_NOT_FOUND,
                     "recording '%s', line %" PRIu64 ": no column '%.64s' for '%s' (see %s); there are: %.200s",
                     source->path, line, source->names[column], default_names[column], hint(source), columns);
}

static bool required(const struct source *source, enum column column)
{
    return column == COLUMN_PROMPT || source->options->columns[column] != NULL;
}

/* Cell of a column of the head; SIZE_MAX: it has none. ERR_CONFLICT: several, and which one counts nobody said. */
static int csv_cell(const struct source *source, const char *column, size_t *at, struct error *error)
{
    *at = SIZE_MAX;
    for (size_t i = 0; i < source->record->len; i++) {
        if (!slice_is(source->record->cells[i], column))
            continue;
        if (*at != SIZE_MAX)
            return error_set(error, ERR_CONFLICT,
                             "recording '%s', line %" PRIu64 ": cells %zu and %zu are both named '%.64s', so which one "
                             "counts is not known: rename one of them",
                             source->path, source->record->line, *at + 1, i + 1, column);
        *at = i;
    }
    return 0;
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
        rc = csv_cell(source, source->names[c], &source->at[c], error);
        if (rc == 0 && source->at[c] == SIZE_MAX && required(source, c))
            rc = bad_column(source, source->record->line, c, names.data, error);
    }
    for (size_t i = 0; i < source->options->filters_len && rc == 0; i++) {
        const char *column = source->options->filters[i].column;
        rc = csv_cell(source, column, &source->filter_at[i], error);
        if (rc == 0 && source->filter_at[i] == SIZE_MAX)
            rc = error_set(error, ERR_NOT_FOUND,
                           "recording '%s', line %" PRIu64 ": no column '%.64s'; there are: %.200s", source->path,
                           source->record->line, column, names.data);
    }
    buf_clear(&names);
    return rc;
}

static bool csv_passes(const struct source *source)
{
    for (size_t i = 0; i < source->options->filters_len; i++)
        if (!slice_is(source->record->cells[source->filter_at[i]], source->options->filters[i].value))
            return false;
    return true;
}

/* 1: a row; 0: the end. */
static int csv_row(struct source *source, struct row *row, struct error *error)
{
    struct error what;
    int rc;
    do
        rc = csv_next(&source->csv, source->record, &what);
    while (rc == 1 && !csv_passes(source));
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

/* What `drover results` writes stands in objects of the line. */
static const char *inner_of(enum column column)
{
    return column >= COLUMN_FEATURE ? "features" : column == COLUMN_LATENCY ? "timing" : NULL;
}

static int jsonl_cells(struct source *source, const struct fields *fields, struct row *row, struct error *error)
{
    for (enum column c = 0; c < COLUMNS; c++) {
        const char *inner = inner_of(c);
        buf_reset(&source->cells[c]);
        buf_grow(&source->cells[c], 0);
        row->have[c] = fields_text(fields, source->names[c], &source->cells[c]);
        if (!row->have[c] && inner != NULL && source->options->columns[c] == NULL)
            row->have[c] = fields_text(fields_object(fields, inner), source->names[c], &source->cells[c]);
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
    return 0;
}

static bool jsonl_passes(const struct source *source, const struct fields *fields)
{
    bool passes = true;
    for (size_t i = 0; i < source->options->filters_len && passes; i++) {
        struct buf value = {0};
        passes = fields_text(fields, source->options->filters[i].column, &value) &&
                 slice_is(buf_slice(&value), source->options->filters[i].value);
        buf_clear(&value);
    }
    return passes;
}

static void source_clear(struct source *source)
{
    if (source->record != NULL)
        csv_record_clear(source->record);
    free(source->record);
    free(source->filter_at);
    for (enum column c = 0; c < COLUMNS; c++)
        buf_clear(&source->cells[c]);
}

/* --- rows to rollouts --- */

/* Blocks are filled from the end, so that what is left is all there is to remember. */
static void *room(struct recording *recording, size_t len, size_t align)
{
    if (recording->left < len + align) {
        size_t size = len + align > BLOCK ? len + align : BLOCK;
        struct block *block = xrealloc(NULL, sizeof(*block) + size);
        block->next = recording->blocks;
        recording->blocks = block;
        recording->left = size;
    }
    recording->left = (recording->left - len) / align * align;
    return recording->blocks->bytes + recording->left;
}

static struct slice keep(struct recording *recording, struct slice text)
{
    if (text.len == 0)
        return (struct slice){"", 0};
    return (struct slice){memcpy(room(recording, text.len, 1), text.data, text.len), text.len};
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

static int read_correct(const struct source *source, const struct row *row, struct features *features,
                        struct error *error)
{
    static const char *const yes[] = {"1", "1.0", "true", "True", "TRUE"};
    static const char *const no[] = {"0", "0.0", "false", "False", "FALSE"};
    struct slice correct = row->cells[COLUMN_FEATURE + FEATURE_CORRECT];
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (slice_is(correct, yes[i]))
            feature_set(features, FEATURE_CORRECT, 1);
        if (slice_is(correct, no[i]))
            feature_set(features, FEATURE_CORRECT, 0);
    }
    if (!(features->have & (1u << FEATURE_CORRECT)))
        return bad_cell(source, row, COLUMN_FEATURE + FEATURE_CORRECT, "1, 0, true, false or empty", error);
    return 0;
}

static int read_features(const struct source *source, const struct row *row, struct features *features,
                         struct error *error)
{
    int rc = 0;
    for (enum column c = COLUMN_FEATURE; c < COLUMNS && rc == 0; c++) {
        enum feature feature = (enum feature)(c - COLUMN_FEATURE);
        double value;
        if (!row->have[c] || row->cells[c].len == 0)
            continue;
        if (feature == FEATURE_CORRECT)
            rc = read_correct(source, row, features, error);
        else if (to_number(row->cells[c], &value))
            feature_set(features, feature, value);
        else
            rc = bad_cell(source, row, c, "a number", error);
    }
    return rc;
}

static int read_finish(const struct source *source, const struct row *row, enum finish *finish, struct error *error)
{
    static const char *const words[] = {
#define X(name, value, text) [name] = (text),
        FINISH_TABLE(X)
#undef X
    };
    struct slice cell = row->cells[COLUMN_FINISH];
    *finish = FINISH_STOP;
    if (!row->have[COLUMN_FINISH] || cell.len == 0)
        return 0;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (!slice_is(cell, words[i]) || i == FINISH_STEP || i == FINISH_KILLED)
            continue;
        *finish = (enum finish)i;
        return 0;
    }
    return bad_cell(source, row, COLUMN_FINISH, "stop, length, timeout, failed, exhausted or empty", error);
}

/* latency_ms, else latency_s. */
static int read_latency(const struct source *source, const struct row *row, uint32_t *ms, struct error *error)
{
    double s;
    if (!row->have[COLUMN_LATENCY_S] || row->cells[COLUMN_LATENCY_S].len == 0 ||
        (row->have[COLUMN_LATENCY] && row->cells[COLUMN_LATENCY].len > 0))
        return read_u32(source, row, COLUMN_LATENCY, ms, error);
    if (!to_number(row->cells[COLUMN_LATENCY_S], &s) || s < 0 || s > 4e6)
        return bad_cell(source, row, COLUMN_LATENCY_S, "a number of seconds from 0 to 4000000", error);
    *ms = (uint32_t)(s * 1e3 + 0.5);
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

/* Keeps the texts of a rollout that is borrowed otherwise. */
static int take(struct source *source, const struct recorded *borrowed, bool ordered, struct error *error)
{
    struct recording *recording = source->recording;
    struct recorded rollout = *borrowed;
    if (source->ordered == -1)
        source->ordered = ordered;
    if (source->ordered != (int)ordered)
        return bad_column(source, rollout.line, COLUMN_ORDINAL, "(some lines have it)", error);
    if (rollout.text.len > LIMIT_TEXT)
        return error_set(error, ERR_LIMIT, "recording '%s', line %" PRIu64 ": the text has more than %d bytes",
                         source->path, rollout.line, LIMIT_TEXT);
    if (rollout.tokens_out == 0 && rollout.finish != FINISH_FAILED)
        rollout.tokens_out = 1; /* at least the end was generated */
    bool one = rollout.text.data == rollout.answer.data && rollout.text.len == rollout.answer.len;
    rollout.model = source->options->models ? keep(recording, rollout.model) : (struct slice){"", 0};
    rollout.prompt = keep(recording, rollout.prompt);
    rollout.answer = keep(recording, rollout.answer);
    rollout.text = one ? rollout.answer : keep(recording, rollout.text);
    if (recording->len == recording->cap) {
        recording->cap = recording->cap > 0 ? recording->cap * 2 : 1024;
        recording->rows = xrealloc(recording->rows, recording->cap * sizeof(*recording->rows));
    }
    recording->rows[recording->len++] = rollout;
    return 0;
}

/* All cells but those with texts. */
static int read_cells(const struct source *source, const struct row *row, struct recorded *rollout, struct error *error)
{
    int rc = read_ordinal(source, row, &rollout->ordinal, error);
    if (rc == 0)
        rc = read_u32(source, row, COLUMN_TOKENS_IN, &rollout->tokens_in, error);
    if (rc == 0)
        rc = read_u32(source, row, COLUMN_TOKENS_OUT, &rollout->tokens_out, error);
    if (rc == 0)
        rc = read_latency(source, row, &rollout->latency_ms, error);
    if (rc == 0)
        rc = read_finish(source, row, &rollout->finish, error);
    return rc == 0 ? read_features(source, row, &rollout->features, error) : rc;
}

/* A row, with what a line says beside its cells. */
static int row_add(struct source *source, const struct row *row, const struct recorded *more, struct error *error)
{
    struct recorded rollout = *more;
    rollout.line = row->line;
    if (row->cells[COLUMN_PROMPT].len == 0)
        return bad_cell(source, row, COLUMN_PROMPT, "the id of a prompt", error);
    if (row->have[COLUMN_ANSWER] && row->cells[COLUMN_ANSWER].len > LIMIT_ANSWER)
        return bad_cell(source, row, COLUMN_ANSWER, "an answer: it is too long", error);
    rollout.model = row->have[COLUMN_MODEL] ? row->cells[COLUMN_MODEL] : (struct slice){"", 0};
    rollout.prompt = row->cells[COLUMN_PROMPT];
    rollout.answer = row->have[COLUMN_ANSWER] ? row->cells[COLUMN_ANSWER] : (struct slice){"", 0};
    rollout.text = row->have[COLUMN_TEXT] ? row->cells[COLUMN_TEXT] : rollout.answer;
    rollout.tokens_out = words(rollout.text);
    int rc = read_cells(source, row, &rollout, error);
    if (rc != 0 || rollout.finish == FINISH_EXHAUSTED)
        return rc; /* it says that there is no such rollout */
    source->recording->has_answers |= row->have[COLUMN_ANSWER];
    return take(source, &rollout, row->have[COLUMN_ORDINAL], error);
}

/* --- lines of JSON --- */

static int line_error(const struct source *source, uint64_t line, int rc, const struct error *what, struct error *error)
{
    return error_set(error, rc, "recording '%s', line %" PRIu64 ": %.300s", source->path, line, what->text);
}

static int verifier_index(struct recording *recording, const char *name, uint32_t *index, struct error *error)
{
    size_t i = 0;
    while (i < recording->verifiers_len && strcmp(recording->verifiers[i], name) != 0)
        i++;
    if (i == NAMES_MAX || strlen(name) > LIMIT_NAME)
        return error_set(error, ERR_LIMIT,
                         "verdicts of more than %d verifiers, or of one with a name of more than %d bytes", NAMES_MAX,
                         LIMIT_NAME);
    if (i == recording->verifiers_len)
        recording->verifiers[recording->verifiers_len++] = xstrdup(name);
    *index = (uint32_t)i;
    return 0;
}

static int read_verdict(const struct fields *object, const char *name, struct verdict *verdict, struct error *error)
{
    static const char *const outcomes[OUTCOMES] = {
#define X(constant, value, text) [constant] = (text),
        OUTCOME_TABLE(X)
#undef X
    };
    struct slice outcome = {0};
    struct error what;
    if (object == NULL)
        return error_set(error, ERR_SYNTAX, "'verdicts.%.64s' is not an object", name);
    int rc = fields_string(object, "outcome", &outcome, &what);
    if (rc == 0)
        rc = fields_real(object, "score", -1e300, 1e300, &verdict->score, &what);
    if (rc != 0)
        return error_set(error, rc, "'verdicts.%.64s': %.200s", name, what.text);
    for (size_t i = 0; i < OUTCOMES; i++) {
        if (!slice_is(outcome, outcomes[i]))
            continue;
        verdict->outcome = (enum outcome)i;
        return 0;
    }
    return error_set(error, ERR_SYNTAX, "'verdicts.%.64s.outcome' is not pass, fail, score, timeout, unknown or error",
                     name);
}

/* What `drover results` says of the verifiers. */
static int read_verdicts(struct recording *recording, const struct fields *line, struct recorded *rollout,
                         struct error *error)
{
    const struct fields *verdicts = fields_object(line, "verdicts");
    struct recorded_verdict found[NAMES_MAX];
    uint32_t len = 0;
    int rc = 0;
    for (const char *name; rc == 0 && (name = fields_key(verdicts, len)) != NULL;) {
        if (len == NAMES_MAX)
            return error_set(error, ERR_LIMIT, "more than %d verdicts", NAMES_MAX);
        found[len] = (struct recorded_verdict){0};
        rc = verifier_index(recording, name, &found[len].verifier, error);
        if (rc == 0)
            rc = read_verdict(fields_object(verdicts, name), name, &found[len].verdict, error);
        len++;
    }
    if (rc == 0 && len > 0) {
        rollout->verdicts = memcpy(room(recording, len * sizeof(*found), _Alignof(struct recorded_verdict)), found,
                                   len * sizeof(*found));
        rollout->verdicts_len = len;
    }
    return rc;
}

static enum logprob_mode read_logprobs(const struct fields *line)
{
    struct slice word = {0};
    fields_string(line, "logprobs", &word, NULL);
    return word.data == NULL ? LOGPROB_NONE : strcmp(word.data, "raw") == 0 ? LOGPROB_RAW : LOGPROB_SAMPLED;
}

struct batch {
    struct source *source;
    uint64_t line;
    bool ordered;
};

static int take_choice(void *arg, const struct recorded *choice, struct error *error)
{
    struct batch *batch = arg;
    struct recorded rollout = *choice;
    rollout.line = batch->line;
    if (rollout.tokens_out == 0)
        rollout.tokens_out = words(rollout.text);
    return take(batch->source, &rollout, batch->ordered, error);
}

static int plain_line(struct source *source, const struct fields *fields, struct row *row, struct error *error)
{
    struct recorded more = {0};
    struct error what = {""};
    if (fields_have(fields, "tree") && fields_have(fields, "node")) {
        source->recording->nodes++;
        return 0;
    }
    if (fields_have(fields, "kill")) { /* of a pool that has the ordinals of the whole ones, too */
        source->recording->ended++;
        return 0;
    }
    int rc = jsonl_cells(source, fields, row, error);
    if (rc != 0)
        return rc;
    rc = read_verdicts(source->recording, fields, &more, &what);
    if (rc != 0)
        return line_error(source, row->line, rc, &what, error);
    more.logprobs = read_logprobs(fields);
    struct slice sweep = {0};
    if (source->recording->sweep.len == 0 && fields_string(fields, "sweep", &sweep, NULL) == 0)
        source->recording->sweep = keep(source->recording, sweep);
    return row_add(source, row, &more, error);
}

/* The take_choice of a batch names the line already where it fails. */
static int json_line(struct source *source, struct slice line, struct error *error)
{
    struct fields *fields;
    struct error what = {""};
    struct row row = {.line = source->line};
    if (line.len > LINE_MAX_BYTES)
        return error_set(error, ERR_LIMIT, "recording '%s', line %" PRIu64 ": more than %d bytes", source->path,
                         row.line, LINE_MAX_BYTES);
    int rc = fields_parse(line, &fields, &what);
    if (rc != 0)
        return line_error(source, row.line, rc, &what, error);
    if (!jsonl_passes(source, fields)) {
        rc = 0;
    } else if (batch_line(fields)) {
        struct batch batch = {.source = source, .line = row.line};
        rc = batch_line_read(fields, &batch.ordered, take_choice, &batch, &what);
        if (rc != 0 && strncmp(what.text, "recording ", 10) == 0)
            *error = what;
        else if (rc != 0)
            line_error(source, row.line, rc, &what, error);
    } else {
        rc = plain_line(source, fields, &row, error);
    }
    fields_free(&fields);
    return rc;
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
    int order = slice_order(a->model, b->model);
    if (order == 0)
        order = slice_order(a->prompt, b->prompt);
    if (order == 0)
        order = (a->ordinal > b->ordinal) - (a->ordinal < b->ordinal);
    return order != 0 ? order : (a->line > b->line) - (a->line < b->line);
}

static bool same_prompt(const struct recorded *a, const struct recorded *b)
{
    return slice_order(a->model, b->model) == 0 && slice_order(a->prompt, b->prompt) == 0;
}

/* A later attempt takes the place of one that failed: requests of batches are sent again. */
static void drop_failed(struct recording *recording)
{
    size_t kept = 0;
    for (size_t i = 0; i < recording->len; i++) {
        const struct recorded *row = &recording->rows[i];
        const struct recorded *last = kept == 0 ? NULL : &recording->rows[kept - 1];
        bool again =
            last != NULL && last->finish == FINISH_FAILED && last->ordinal == row->ordinal && same_prompt(last, row);
        kept -= again;
        recording->rows[kept++] = *row;
    }
    recording->len = kept;
}

static uint64_t group_hash(struct slice model, struct slice prompt)
{
    uint64_t hash = hash_bytes(prompt.data, prompt.len);
    return model.len > 0 ? hash_more(hash, model.data, model.len) : hash;
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
    if (ordered)
        drop_failed(recording);
    recording->groups = xalloc(recording->len * sizeof(*recording->groups));
    for (size_t i = 0; i < recording->len; i++) {
        const struct recorded *row = &recording->rows[i];
        struct group *group = &recording->groups[recording->groups_len];
        if (i == 0 || !same_prompt(row, row - 1)) {
            *group = (struct group){group_hash(row->model, row->prompt), i, 0};
            recording->groups_len++;
        } else if (ordered && row->ordinal == row[-1].ordinal) {
            return error_set(error, ERR_CONFLICT,
                             "recording '%s', line %" PRIu64 ": prompt '%.*s' has ordinal %" PRId64
                             " already in line %" PRIu64
                             "; if these are several runs in one file, take one of them with `where`",
                             path, row->line, (int)(row->prompt.len < 60 ? row->prompt.len : 60), row->prompt.data,
                             row->ordinal, row[-1].line);
        }
        recording->groups[recording->groups_len - 1].len++;
    }
    qsort(recording->groups, recording->groups_len, sizeof(*recording->groups), group_order);
    return 0;
}

size_t recording_find(const struct recording *recording, struct slice model, struct slice prompt,
                      const struct recorded **first)
{
    uint64_t hash = group_hash(model, prompt);
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
        if (slice_order((*first)->model, model) == 0 && slice_order((*first)->prompt, prompt) == 0)
            return group->len;
    }
    *first = NULL;
    return 0;
}

size_t recording_len(const struct recording *recording)
{
    return recording->len;
}

const struct recorded *recording_at(const struct recording *recording, size_t i)
{
    assert(i < recording->len);
    return &recording->rows[i];
}

size_t recording_verifiers(const struct recording *recording)
{
    return recording->verifiers_len;
}

const char *recording_verifier(const struct recording *recording, size_t i)
{
    assert(i < recording->verifiers_len);
    return recording->verifiers[i];
}

struct slice recording_sweep(const struct recording *recording)
{
    return recording->sweep;
}

uint64_t recording_nodes(const struct recording *recording)
{
    return recording->nodes;
}

uint64_t recording_ended(const struct recording *recording)
{
    return recording->ended;
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

static int read_csv(struct source *source, struct error *error)
{
    int rc = csv_head(source, error);
    while (rc == 0) {
        struct row row = {0};
        int more = csv_row(source, &row, error);
        if (more <= 0)
            return more;
        rc = row_add(source, &row, &(struct recorded){0}, error);
    }
    return rc;
}

static int read_jsonl(struct source *source, struct error *error)
{
    struct slice line;
    int rc = 0;
    while (rc == 0 && next_line(source, &line))
        rc = json_line(source, line, error);
    return rc;
}

static int read_all(struct source *source, struct error *error)
{
    const struct recording *recording = source->recording;
    int rc = is_csv(source->path, source->options->format) ? read_csv(source, error) : read_jsonl(source, error);
    if (rc == 0 && recording->len == 0 && source->options->filters_len > 0)
        rc = error_set(error, ERR_NOT_FOUND, "recording '%s' holds no rollouts that pass the filter", source->path);
    else if (rc == 0 && recording->len == 0)
        rc = error_set(error, ERR_NOT_FOUND, "recording '%s' holds no %srollouts", source->path,
                       recording->nodes > 0   ? "sampled "
                       : recording->ended > 0 ? "whole "
                                              : "");
    return rc == 0 ? index_rows(source->recording, source->path, source->ordered == 1, error) : rc;
}

int recording_parse(struct slice text, const char *name, const struct recording_options *options,
                    struct recording **recording, struct error *error)
{
    struct source source = {.path = name,
                            .options = options,
                            .text = text,
                            .filter_at = xalloc(options->filters_len * sizeof(size_t) + 1),
                            .recording = xalloc(sizeof(struct recording)),
                            .ordered = -1};
    for (enum column c = 0; c < COLUMNS; c++)
        source.names[c] = options->columns[c] != NULL ? options->columns[c] : default_names[c];
    source.recording->sweep = (struct slice){"", 0};
    int rc = read_all(&source, error);
    source_clear(&source);
    if (rc != 0)
        recording_free(&source.recording);
    *recording = source.recording;
    return rc;
}

int recording_load(const char *path, const struct recording_options *options, struct recording **recording,
                   struct error *error)
{
    struct buf text = {0};
    *recording = NULL;
    int rc = file_load(path, &text, error);
    if (rc == 0)
        rc = recording_parse(buf_slice(&text), path, options, recording, error);
    buf_clear(&text);
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
    for (size_t i = 0; i < r->verifiers_len; i++)
        free(r->verifiers[i]);
    free(r->rows);
    free(r->groups);
    free(r);
    *recording = NULL;
}
