/* archive.c - see archive.h. */
#include "cli/archive.h"
#include "broker/compile.h"
#include "broker/core/fact.h"
#include "broker/own_names.h"
#include "broker/prompt_id.h"
#include "broker/results.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/limits.h"
#include "common/msg.h"
#include "common/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

void archive_clear(struct archive *archive)
{
    for (uint32_t p = 0; p < archive->prompts_len; p++) {
        free(archive->prompts[p].id);
        free(archive->prompts[p].group);
        buf_clear(&archive->prompts[p].record);
    }
    for (uint32_t i = 0; i < archive->believers_len; i++) {
        free(archive->believers[i].belief_source);
        free(archive->believers[i].beliefs);
    }
    free(archive->believers);
    recording_free(&archive->recording);
    free(archive->prompts);
    free(archive->models);
    free(archive->verifiers);
    free(archive->stocks);
    free(archive->rows);
    free(archive->name);
    free(archive->group_by);
    free(archive->truth);
    *archive = (struct archive){0};
}

static char *copy_of(struct slice text)
{
    char *copy = xalloc(text.len + 1);
    if (text.len > 0)
        memcpy(copy, text.data, text.len);
    return copy;
}

/* --- prompts --- */

static struct archive_prompt *prompt_add(struct archive *archive, struct slice id)
{
    if ((archive->prompts_len & (archive->prompts_len - 1)) == 0) /* full at each power of two */
        archive->prompts =
            xrealloc(archive->prompts,
                     (archive->prompts_len == 0 ? 1 : 2 * (size_t)archive->prompts_len) * sizeof *archive->prompts);
    struct archive_prompt *prompt = &archive->prompts[archive->prompts_len++];
    *prompt = (struct archive_prompt){.id = copy_of(id)};
    return prompt;
}

/* Rollouts in the order of their lines: so prompts come in the order in which the data first names them. */
static int by_line(const void *a, const void *b)
{
    const struct recorded *x = *(const struct recorded *const *)a, *y = *(const struct recorded *const *)b;
    return (x->line > y->line) - (x->line < y->line);
}

static bool same(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

struct seen {
    struct slice id;
    UT_hash_handle hh;
};

/* One more prompt for each id that was not there yet. */
static void prompts_of_data(struct archive *archive)
{
    size_t len = recording_len(archive->recording), firsts = 0;
    const struct recorded **first = xalloc(len * sizeof *first);
    struct seen *seen = NULL, *nodes = xalloc(len * sizeof *nodes);
    for (size_t i = 0; i < len; i++) {
        const struct recorded *row = recording_at(archive->recording, i);
        if (i > 0 && same(row->prompt, row[-1].prompt) && same(row->model, row[-1].model)) {
            if (row->line < first[firsts - 1]->line)
                first[firsts - 1] = row;
        } else {
            first[firsts++] = row;
        }
    }
    qsort(first, firsts, sizeof *first, by_line);
    for (size_t i = 0; i < firsts; i++) {
        struct seen *found;
        HASH_FIND(hh, seen, first[i]->prompt.data, first[i]->prompt.len, found);
        if (found != NULL)
            continue;
        nodes[i].id = first[i]->prompt;
        HASH_ADD_KEYPTR(hh, seen, nodes[i].id.data, nodes[i].id.len, &nodes[i]);
        struct buf *record = &prompt_add(archive, nodes[i].id)->record;
        json_begin(record, '{');
        json_key(record, "id");
        json_text(record, nodes[i].id);
        json_end(record, '}');
    }
    HASH_CLEAR(hh, seen);
    free(nodes);
    free(first);
}

static int prompts_of_file(struct archive *archive, const struct archive_options *options, struct error *error)
{
    char *text;
    size_t len;
    struct prompt_set set;
    int rc = file_read(options->prompts, LIMIT_SUBMISSION, &text, &len, error);
    if (rc == 0)
        rc = prompt_set_parse(&text, len, options->prompts, options->group_by, &set, error);
    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < set.len; i++) {
        const struct prompt *from = &set.prompts[i];
        struct archive_prompt *prompt = prompt_add(archive, slice_of(from->id));
        prompt->group = from->group == NULL ? NULL : xstrdup(from->group);
        prompt->bytes = from->bytes;
        prompt->attached = from->attached;
        buf_put(&prompt->record, from->record.data, from->record.len);
    }
    if (options->group_by != NULL)
        archive->group_by = xstrdup(options->group_by);
    prompt_set_clear(&set);
    return 0;
}

/* --- verifiers --- */

static struct archive_verifier *verifier_find(const struct archive *archive, const char *name)
{
    for (uint32_t i = 0; i < archive->verifiers_len; i++)
        if (strcmp(archive->verifiers[i].name, name) == 0)
            return &archive->verifiers[i];
    return NULL;
}

static void verifier_add(struct archive *archive, const char *name, int index, enum feature feature)
{
    if (verifier_find(archive, name) != NULL)
        return;
    struct archive_verifier *verifier = &archive->verifiers[archive->verifiers_len++];
    *verifier = (struct archive_verifier){.index = index, .feature = feature, .timeout_ms = 1000};
    snprintf(verifier->name, sizeof verifier->name, "%s", name);
}

static void verifiers_of_recording(struct archive *archive)
{
    size_t named = recording_verifiers(archive->recording);
    uint32_t have = 0;
    archive->verifiers = xalloc((named + 2) * sizeof *archive->verifiers);
    for (size_t i = 0; i < named; i++)
        verifier_add(archive, recording_verifier(archive->recording, i), (int)i, 0);
    for (size_t i = 0; i < recording_len(archive->recording); i++)
        have |= recording_at(archive->recording, i)->features.have;
    if ((have >> FEATURE_CORRECT & 1) != 0)
        verifier_add(archive, "correct", -1, FEATURE_CORRECT);
    if ((have >> FEATURE_REWARD & 1) != 0)
        verifier_add(archive, "reward", -1, FEATURE_REWARD);
}

/* --- rollouts --- */

static void raise_to(uint32_t *value, uint32_t to)
{
    *value = to > *value ? to : *value;
}

/* Room for all that was recorded: a rollout that uses more than it reserved is a fault. */
static void model_widen(struct archive_model *model, const struct recorded *row)
{
    raise_to(&model->max_tokens, row->tokens_out);
    raise_to(&model->template_tokens, row->tokens_in);
    raise_to(&model->timeout_ms, row->latency_ms);
}

/* The models that the data names: rows come sorted by them. Data without names has one, `recorded`. */
static int models_of_data(struct archive *archive, struct error *error)
{
    archive->models = xalloc(LIMIT_MODELS * sizeof *archive->models);
    const struct recorded *last = NULL;
    for (size_t i = 0; i < recording_len(archive->recording); i++) {
        const struct recorded *row = recording_at(archive->recording, i);
        if (last == NULL || !same(last->model, row->model)) {
            if (archive->models_len == LIMIT_MODELS)
                return error_set(error, ERR_LIMIT, "more than %d models: filter them with --where", LIMIT_MODELS);
            struct archive_model *model = &archive->models[archive->models_len++];
            *model = (struct archive_model){.has_answer = true, .key = row->model};
            if (row->model.len > LIMIT_NAME)
                return error_set(error, ERR_LIMIT, "line %llu: the name of a model has more than %d bytes",
                                 (unsigned long long)row->line, LIMIT_NAME);
            if (row->model.len == 0)
                snprintf(model->name, sizeof model->name, "recorded");
            else
                memcpy(model->name, row->model.data, row->model.len);
        }
        model_widen(&archive->models[archive->models_len - 1], row);
        last = row;
    }
    return 0;
}

/* Answers as votes compare them; what has none is looked for in the text, if somebody said how. */
static int row_class(const struct archive *archive, const struct recorded *row, const struct extractor *extractor,
                     uint64_t *class)
{
    struct buf answer = {0};
    int rc = 0;
    if (recording_has_answers(archive->recording))
        answer_canonical(row->answer, &answer);
    else if (row->finish != FINISH_FAILED)
        rc = answer_extract(extractor, row->text, row->finish != FINISH_STOP, &answer);
    *class = answer_class(buf_slice(&answer));
    buf_clear(&answer);
    return rc;
}

static int rows_add(struct archive *archive, const struct extractor *extractor, struct error *error)
{
    size_t len = recording_len(archive->recording);
    int rc = extractor_check(extractor, error);
    archive->rows = xalloc(len * sizeof *archive->rows);
    archive->digest = hash_bytes("recorded", 8);
    for (size_t i = 0; i < len && rc == 0; i++) {
        const struct recorded *row = recording_at(archive->recording, i);
        archive->timed = archive->timed || row->latency_ms > 0;
        rc = row_class(archive, row, extractor, &archive->rows[i].class);
        archive->digest = hash_more(archive->digest, row->prompt.data, row->prompt.len);
        archive->digest = hash_more(archive->digest, &archive->rows[i].class, sizeof archive->rows[i].class);
    }
    return rc;
}

static void stocks_add(struct archive *archive)
{
    archive->strangers = recording_len(archive->recording);
    archive->stocks = xalloc((size_t)archive->models_len * archive->prompts_len * sizeof *archive->stocks + 1);
    for (uint32_t m = 0; m < archive->models_len; m++)
        for (uint32_t p = 0; p < archive->prompts_len; p++) {
            struct archive_stock *stock = &archive->stocks[(size_t)m * archive->prompts_len + p];
            stock->len = recording_find(archive->recording, archive->models[m].key, slice_of(archive->prompts[p].id),
                                        &stock->first);
            archive->strangers -= stock->len;
        }
}

/* --- a file --- */

/* Texts, and no answer in any of them: more likely nobody said how to find them. */
static bool is_unanswered(const struct archive *archive)
{
    uint64_t blank = answer_class((struct slice){0});
    size_t texts = 0;
    for (size_t i = 0; i < recording_len(archive->recording); i++) {
        if (archive->rows[i].class != blank)
            return false;
        texts += recording_at(archive->recording, i)->text.len > 0;
    }
    return texts > 0;
}

/* Ids that fit nowhere are a mistake in one of the two files. */
static int check_prompts(const struct archive *archive, const char *path, const char *prompts, struct error *error)
{
    size_t len = recording_len(archive->recording);
    if (len == 0 || archive->strangers < len)
        return 0;
    struct slice id = recording_at(archive->recording, 0)->prompt;
    return error_set(error, ERR_NOT_FOUND,
                     "no rollout of '%.200s' is of a prompt of '%.200s': the ids must be the same; one there is "
                     "'%.*s', one here '%.64s'",
                     path, prompts, (int)(id.len < 64 ? id.len : 64), id.data, archive->prompts[0].id);
}

/* Letters and digits of the file's name, up to its first dot. */
static char *name_of(const char *path)
{
    const char *base = strrchr(path, '/');
    char name[65] = "";
    size_t len = 0;
    for (base = base == NULL ? path : base + 1; *base != '\0' && *base != '.' && len < LIMIT_NAME; base++)
        name[len++] =
            strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", *base) != NULL ? *base : '-';
    return xstrdup(len > 0 ? name : "replay");
}

int archive_of_file(const char *path, const struct archive_options *options, struct archive *archive,
                    struct error *error)
{
    *archive = (struct archive){.seed = 1};
    int rc = recording_load(path, &options->recording, &archive->recording, error);
    if (rc != 0)
        return rc;
    struct slice sweep = recording_sweep(archive->recording);
    archive->name = sweep.len > 0 && sweep.len <= LIMIT_NAME ? copy_of(sweep) : name_of(path);
    verifiers_of_recording(archive);
    if (verifier_find(archive, "correct") != NULL)
        archive->truth = xstrdup("correct");
    rc = models_of_data(archive, error);
    if (rc == 0 && options->prompts != NULL)
        rc = prompts_of_file(archive, options, error);
    else if (rc == 0)
        prompts_of_data(archive);
    if (rc == 0)
        rc = rows_add(archive, &options->extractor, error);
    if (rc == 0)
        stocks_add(archive);
    archive->unanswered = rc == 0 && is_unanswered(archive);
    if (rc == 0 && options->prompts != NULL)
        rc = check_prompts(archive, path, options->prompts, error);
    return rc;
}

/* --- a sweep --- */

static int put_line(void *arg, struct slice line)
{
    buf_put(arg, line.data, line.len);
    return 0;
}

static int prompts_of_set(const struct core *core, struct journal *journal, uint32_t set, struct archive *archive,
                          struct error *error)
{
    int rc = 0;
    struct buf record = {0}, id = {0};
    for (uint32_t p = 0; p < core_set_prompts(core, set) && rc == 0; p++) {
        struct prompt_info info = core_prompt(core, set, p);
        buf_reset(&record);
        buf_reset(&id);
        if (info.ref.commit != 0)
            rc = journal_text(journal, (struct text_ref){info.ref.commit, info.ref.offset, info.ref.len}, false,
                              &record, error);
        prompt_id(buf_slice(&record), p, &id);
        struct archive_prompt *prompt = prompt_add(archive, buf_slice(&id));
        prompt->group = xstrdup(core_group(core, set, info.group));
        prompt->bytes = info.bytes;
        prompt->attached = info.attached;
        buf_put(&prompt->record, record.data, record.len);
    }
    buf_clear(&record);
    buf_clear(&id);
    archive->group_by = xstrdup(core_group_by(core, set));
    return rc;
}

static struct archive_model *model_find(const struct archive *archive, const char *name)
{
    for (uint32_t m = 0; m < archive->models_len; m++)
        if (strcmp(archive->models[m].name, name) == 0)
            return &archive->models[m];
    return NULL;
}

static void know_model(const struct core *core, uint32_t id, const char *name, struct archive *archive)
{
    static const char none[] = "\"answer\":{\"kind\":\"none\"";
    struct model_info from = core_model(core, id);
    struct archive_model *model = model_find(archive, name);
    if (model == NULL)
        return;
    model->has_answer = memmem(from.spec.data, from.spec.len, none, sizeof none - 1) == NULL;
    raise_to(&model->max_tokens, from.max_tokens);
    raise_to(&model->timeout_ms, from.timeout_ms);
    model->template_tokens = from.template_tokens;
    model->price_in = from.price_in;
    model->price_out = from.price_out;
}

static void know_verifier(const struct core *core, uint32_t id, struct archive *archive)
{
    struct verifier_info said = id == NO_ID ? (struct verifier_info){.name = ""} : core_verifier(core, id);
    struct archive_verifier *verifier = verifier_find(archive, said.name);
    if (verifier == NULL)
        return;
    verifier->group = said.group;
    verifier->timeout_ms = said.timeout_ms;
    verifier->price = said.price;
}

static void know_beliefs(const struct core *core, const struct sweep_info *sweep, struct archive *archive)
{
    archive->believers = xalloc(sweep->arms * sizeof *archive->believers + 1);
    for (uint32_t i = 0; i < sweep->arms; i++) {
        struct sweep_arm *believer = &archive->believers[archive->believers_len];
        struct arm_info arm = core_arm(core, core_sweep_arm(core, sweep->id, i));
        snprintf(believer->name, sizeof believer->name, "%s", arm.name);
        archive->believers_len += compile_known_beliefs(core, sweep, believer, NULL) == 0;
    }
}

/* An arm that has a prior needs beliefs that one of its name found. */
static int lend_beliefs(const struct archive *archive, struct sweep_arm *arm, struct error *error)
{
    for (uint32_t i = 0; i < archive->believers_len; i++) {
        const struct sweep_arm *believer = &archive->believers[i];
        if (strcmp(believer->name, arm->name) != 0)
            continue;
        size_t size = archive->prompts_len * sizeof *arm->beliefs;
        arm->belief_source = xstrdup(believer->belief_source);
        arm->beliefs = memcpy(xalloc(size), believer->beliefs, size);
        return 0;
    }
    return error_set(
        error, ERR_REFUSED,
        "arm '%s' has a prior, which is looked for when a sweep file is submitted: only an arm of that name "
        "in the sweep that is replayed can lend its beliefs",
        arm->name);
}

/* What the journal knows of the models and verifiers that the arms name. */
static void know_arms(const struct core *core, const struct sweep_info *sweep, struct archive *archive)
{
    struct own_names *names = own_names_new(core, sweep->id);
    for (uint32_t i = 0; i < sweep->arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, sweep->id, i));
        for (uint32_t leg = 0; leg < arm.schedule->legs; leg++)
            know_model(core, core_pool(core, arm.pools[leg]).model, own_name(names, arm.pools[leg]), archive);
        know_verifier(core, arm.verifier, archive);
    }
    own_names_free(&names);
    know_verifier(core, sweep->truth, archive);
}

int archive_of_sweep(const struct core *core, struct journal *journal, uint32_t sweep, struct archive *archive,
                     struct error *error)
{
    struct sweep_info info = core_sweep(core, sweep);
    struct recording_options options = {.format = RECORDING_JSONL, .models = true};
    struct buf lines = {0};
    *archive = (struct archive){.seed = info.seed, .name = xstrdup(info.name)};
    int rc = results_write(core, journal, sweep, RESULTS_FEATURES, put_line, &lines, error);
    if (rc == 0)
        rc = recording_parse(buf_slice(&lines), info.name, &options, &archive->recording, error);
    buf_clear(&lines);
    if (rc == 0) {
        verifiers_of_recording(archive);
        rc = models_of_data(archive, error);
    }
    if (rc != 0)
        return rc;
    know_arms(core, &info, archive);
    know_beliefs(core, &info, archive);
    if (info.truth != NO_ID)
        archive->truth = xstrdup(core_verifier(core, info.truth).name);
    rc = prompts_of_set(core, journal, info.set, archive, error);
    if (rc == 0)
        rc = rows_add(archive, &(struct extractor){.kind = EXTRACTOR_NONE}, error);
    if (rc == 0)
        stocks_add(archive);
    return rc;
}

/* --- arms --- */

static int no_verdicts(const struct archive *archive, const char *name, struct error *error)
{
    struct buf names = {0};
    for (uint32_t i = 0; i < archive->verifiers_len; i++)
        buf_printf(&names, "%s%s", i > 0 ? ", " : "", archive->verifiers[i].name);
    int rc = error_set(error, ERR_NOT_FOUND,
                       "there are no verdicts of '%.64s' among what was recorded, and nobody is asked here; there are: "
                       "%.200s (`drover reverify` has new ones made over a sweep)",
                       name, names.len > 0 ? names.data : "none");
    buf_clear(&names);
    return rc;
}

/* Index of a verifier of the spec among those of the archive. */
static int verifier_index(const struct archive *archive, const char *name, uint32_t *index, struct error *error)
{
    const struct archive_verifier *verifier = verifier_find(archive, name);
    if (verifier == NULL)
        return no_verdicts(archive, name, error);
    *index = (uint32_t)(verifier - archive->verifiers);
    return 0;
}

static bool draws(const struct archive *archive, const struct sweep_arm *arm, const struct recorded *row)
{
    for (uint32_t leg = 0; leg < arm->schedule.legs; leg++)
        if (same(archive->models[arm->models[leg]].key, row->model))
            return true;
    return false;
}

/* What the arm chooses by must be there, or it would choose by nothing. */
static int check_features(const struct archive *archive, const struct sweep_arm *arm, struct error *error)
{
    const struct selector *selector = arm->select.policy;
    uint32_t needs = arm->allocate.policy->features | arm->stop.policy->features | selector->features |
                     (selector->wants == NULL ? 0 : selector->wants(arm->select.options));
    for (size_t i = 0; needs != 0 && i < recording_len(archive->recording); i++) {
        const struct recorded *row = recording_at(archive->recording, i);
        uint32_t missing = needs & ~row->features.have;
        if (missing == 0 || row->finish == FINISH_FAILED || row->finish == FINISH_TIMEOUT || !draws(archive, arm, row))
            continue;
        const char *name = column_name((enum column)(COLUMN_FEATURE + __builtin_ctz(missing)));
        return error_set(error, ERR_NOT_FOUND,
                         "arm '%s' chooses by the feature %s, and the rollout of line %llu has none: name its column "
                         "(--columns %s=COLUMN), or give the arm another policy",
                         arm->name, name, (unsigned long long)row->line, name);
    }
    return 0;
}

int archive_arms(const struct archive *archive, struct slice text, const char *file, const char *truth,
                 struct sweep_spec *spec, struct buf *trees, struct error *error)
{
    struct sweep_model *models = xalloc(archive->models_len * sizeof *models);
    struct sweep_verifier *verifiers = xalloc(archive->verifiers_len * sizeof *verifiers + 1);
    for (uint32_t i = 0; i < archive->models_len; i++) {
        snprintf(models[i].name, sizeof models[i].name, "%s", archive->models[i].name);
        models[i].has_answer = archive->models[i].has_answer;
        models[i].answer = ""; /* whatever was recorded is what votes compare */
    }
    for (uint32_t i = 0; i < archive->verifiers_len; i++) {
        snprintf(verifiers[i].name, sizeof verifiers[i].name, "%s", archive->verifiers[i].name);
        verifiers[i].group = archive->verifiers[i].group;
    }
    int rc = sweep_arms_parse(text, file,
                              &(struct sweep_known){models, verifiers, archive->models_len, archive->verifiers_len},
                              spec, trees, error);
    free(models);
    free(verifiers);
    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < spec->arms_len && rc == 0; i++)
        if (sweep_arm_kill(&spec->arms[i]).window > 0)
            rc = error_set(
                error, ERR_REFUSED,
                "arm '%s' ends rollouts while they are generated (`kill`), and those of a recording are whole: "
                "leave `kill` out, and they cast no vote",
                spec->arms[i].name);
    for (uint32_t i = 0; i < spec->arms_len && rc == 0; i++)
        rc = check_features(archive, &spec->arms[i], error);
    for (uint32_t i = 0; i < spec->arms_len && rc == 0; i++)
        if (spec->arms[i].prior.from != NULL)
            rc = lend_beliefs(archive, &spec->arms[i], error);
    for (uint32_t i = 0; i < spec->arms_len && rc == 0; i++)
        if (spec->arms[i].verifier != UINT32_MAX)
            rc = verifier_index(archive, spec->verifiers[spec->arms[i].verifier].name, &spec->arms[i].verifier, error);
    if (truth == NULL && spec->truth != UINT32_MAX)
        truth = spec->verifiers[spec->truth].name;
    if (truth == NULL)
        truth = archive->truth;
    spec->truth = UINT32_MAX;
    if (rc == 0 && truth != NULL)
        rc = verifier_index(archive, truth, &spec->truth, error);
    if (spec->name[0] == '\0')
        spec->seed = archive->seed;
    if (rc != 0)
        sweep_spec_clear(spec);
    return rc;
}

/* --- definitions --- */

void archive_texts(struct archive *archive, uint64_t commit, struct buf *texts, struct ref **prompts)
{
    struct buf frame = {0};
    *prompts = xalloc(archive->prompts_len * sizeof **prompts);
    for (uint32_t p = 0; p < archive->prompts_len; p++) {
        const struct buf *record = &archive->prompts[p].record;
        (*prompts)[p] = (struct ref){commit, (uint32_t)texts->len, (uint32_t)record->len};
        buf_put(texts, record->data, record->len);
    }
    for (size_t i = 0; i < recording_len(archive->recording) && texts->len < UINT32_MAX - 2 * LIMIT_TEXT; i++) {
        const struct recorded *row = recording_at(archive->recording, i);
        size_t at = texts->len;
        buf_reset(&frame);
        text_pack(row->text, &frame);
        blob_put(texts, row->answer, buf_slice(&frame));
        archive->rows[i].ref = (struct ref){commit, (uint32_t)at, (uint32_t)(texts->len - at)};
    }
    buf_clear(&frame);
}

static void put_set(const struct archive *archive, const struct ref *prompts, struct buf *to)
{
    const char *group_by = archive->group_by == NULL ? "" : archive->group_by;
    fact_put(to, &(struct fact){
                     .type = FACT_set,
                     .set = {.digest = archive->digest, .len = archive->prompts_len, .group_by = slice_of(group_by)}});
    for (uint32_t p = 0; p < archive->prompts_len; p++) {
        const struct archive_prompt *prompt = &archive->prompts[p];
        struct ref ref = prompts == NULL ? (struct ref){0} : prompts[p];
        fact_put(to, &(struct fact){.type = FACT_prompt,
                                    .prompt = {.ref_commit = ref.commit,
                                               .ref_offset = ref.offset,
                                               .ref_len = ref.len,
                                               .bytes = prompt->bytes,
                                               .group = slice_of(prompt->group == NULL ? "" : prompt->group),
                                               .attached = prompt->attached}});
    }
}

/* A spec says what it is, for `drover journal`: nobody opens it. */
static void put_models(const struct archive *archive, struct buf *to)
{
    for (uint32_t i = 0; i < archive->models_len; i++) {
        const struct archive_model *model = &archive->models[i];
        struct buf spec = {0};
        json_begin(&spec, '{');
        json_key(&spec, "backend");
        json_str(&spec, "replay");
        json_key(&spec, "name");
        json_str(&spec, model->name);
        json_end(&spec, '}');
        fact_put(to,
                 &(struct fact){.type = FACT_model,
                                .model = {.id = i,
                                          .fingerprint = hash_more(archive->digest, model->name, strlen(model->name)),
                                          .name = slice_of(model->name),
                                          .backend = slice_of("replay"),
                                          .spec = buf_slice(&spec),
                                          .max_tokens = model->max_tokens,
                                          .template_tokens = model->template_tokens,
                                          .timeout_ms = model->timeout_ms > 0 ? model->timeout_ms : 1,
                                          .price_in = model->price_in,
                                          .price_out = model->price_out}});
        buf_clear(&spec);
    }
}

static void put_verifiers(const struct archive *archive, struct buf *to)
{
    for (uint32_t i = 0; i < archive->verifiers_len; i++) {
        const struct archive_verifier *verifier = &archive->verifiers[i];
        fact_put(to, &(struct fact){.type = FACT_verifier,
                                    .verifier = {.id = i,
                                                 .fingerprint = hash_more(archive->digest + 1, verifier->name,
                                                                          strlen(verifier->name)),
                                                 .name = slice_of(verifier->name),
                                                 .kind = slice_of("recorded"),
                                                 .timeout_ms = verifier->timeout_ms,
                                                 .price = verifier->price,
                                                 .group = verifier->group}});
    }
}

void archive_definitions(const struct archive *archive, const char *name, const struct sweep_spec *spec,
                         uint32_t arm_first, uint32_t arms_len, const struct ref *prompts, struct buf *definitions)
{
    put_set(archive, prompts, definitions);
    put_models(archive, definitions);
    put_verifiers(archive, definitions);
    for (uint32_t i = 0; i < archive->models_len; i++)
        fact_put(definitions, &(struct fact){.type = FACT_pool,
                                             .pool = {.id = i,
                                                      .fingerprint = hash_more(archive->digest + 2, &i, sizeof i),
                                                      .model = i,
                                                      .seed = spec->seed}});
    const struct budget *b = &spec->budget;
    fact_put(definitions, &(struct fact){.type = FACT_sweep,
                                         .sweep = {.name = slice_of(name),
                                                   .seed = spec->seed,
                                                   .truth = spec->truth,
                                                   .rollouts = b->rollouts,
                                                   .tokens = b->tokens,
                                                   .slot_ms = b->slot_ms,
                                                   .cost = b->cost_micro,
                                                   .deadline_s = b->deadline_s,
                                                   .accepted = b->accepted}});
    for (uint32_t i = 0; i < arms_len; i++) {
        const struct sweep_arm *arm = &spec->arms[arm_first + i];
        compile_arm(arm, arm->models[0], i, definitions);
        compile_beliefs(arm, i, archive->prompts_len, definitions);
    }
}

/* --- answers --- */

static const struct recorded *row_of(const struct archive *archive, const struct key *key)
{
    const struct archive_stock *stock = &archive->stocks[(size_t)key->owner * archive->prompts_len + key->prompt];
    return key->item < stock->len ? stock->first + key->item : NULL;
}

static void answer_rollout(const struct archive *archive, const struct recorded *row, struct event *event)
{
    if (row == NULL) {
        event->result.result = (struct result){.finish = FINISH_EXHAUSTED};
        return;
    }
    if (row->finish == FINISH_FAILED) {
        event->type = EVENT_FAIL;
        event->fail.tokens_in = row->tokens_in;
        event->fail.tokens_out = row->tokens_out;
        event->fail.latency_ms = row->latency_ms;
        event->fail.reason = slice_of("recorded as failed");
        event->fail.final = true;
        return;
    }
    const struct archive_row *more = &archive->rows[row - recording_at(archive->recording, 0)];
    event->result.class = more->class;
    event->result.ref = more->ref;
    event->result.result = (struct result){.finish = row->finish,
                                           .tokens_in = row->tokens_in,
                                           .tokens_out = row->tokens_out,
                                           .latency_ms = row->latency_ms,
                                           .logprob_mode = row->logprobs,
                                           .features = row->features};
}

static bool answer_verdict(const struct archive_verifier *verifier, const struct recorded *row, struct verdict *verdict)
{
    *verdict = (struct verdict){.outcome = OUTCOME_UNKNOWN};
    if (verifier->index < 0) {
        double value = row->features.v[verifier->feature];
        if ((row->features.have >> verifier->feature & 1) == 0)
            return false;
        enum outcome graded = value > 0 ? OUTCOME_PASS : OUTCOME_FAIL;
        *verdict = (struct verdict){verifier->feature == FEATURE_CORRECT ? graded : OUTCOME_SCORE, value};
        return true;
    }
    for (uint32_t i = 0; i < row->verdicts_len; i++) {
        if (row->verdicts[i].verifier != (uint32_t)verifier->index)
            continue;
        *verdict = row->verdicts[i].verdict;
        return true;
    }
    return false;
}

bool archive_answer(const struct archive *archive, const struct send *task, struct event *event)
{
    const struct recorded *row = row_of(archive, &task->key);
    if (task->key.kind == TASK_VERIFY)
        return answer_verdict(&archive->verifiers[task->key.verifier], row, &event->verdict.verdict);
    answer_rollout(archive, row, event);
    return true;
}
