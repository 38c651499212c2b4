/* export_batch.c - drover export-batch: the requests of a sweep as OpenAI batch files, for services that answer in a day. What
 * comes back is read by `drover import-batch`, a worker; see cli/serve.c and worker/batch.h. */
#include "broker/compile.h"
#include "cli/cli.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/rng.h"
#include "worker/batch.h"
#include "worker/openai_spec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINES_MAX = 50000, BYTES_MAX = 100000000 }; /* of one file, as OpenAI takes it */

struct args {
    const char *file, *prefix, *server_model;
    const char *overrides[64];
    size_t overrides_len;
    bool force;
};

static const struct argp_option options[] = {
    {"out", 'o', "PREFIX", 0, "files are called PREFIX-MODEL-NNN.jsonl (default: batch)", 0},
    {"server-model", 'm', "NAME", 0, "the service's name for the model (default: option `model` of the model)", 0},
    {"force", 'f', NULL, 0, "write over files that are there", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *args = state->input;
    switch (key) {
    case 'o':
        args->prefix = arg;
        return 0;
    case 'm':
        args->server_model = arg;
        return 0;
    case 'f':
        args->force = true;
        return 0;
    case ARGP_KEY_ARG:
        if (args->file == NULL)
            args->file = arg;
        else if (args->overrides_len == sizeof args->overrides / sizeof args->overrides[0])
            argp_error(state, "at most 64 overrides");
        else
            args->overrides[args->overrides_len++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (args->file == NULL)
            argp_error(state, "which sweep? give its file");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

/* One model's files. */
struct out {
    const struct args *args;
    const struct sweep_spec *sweep;
    const struct sweep_model *model;
    const struct prompt_set *set;
    struct openai_spec spec;
    const struct dialect *dialect;
    FILE *file;
    char path[1100];
    uint32_t files, lines;
    size_t bytes;
};

static int close_file(struct out *out, struct error *error)
{
    if (out->file == NULL)
        return 0;
    bool bad = ferror(out->file) != 0;
    bad = fclose(out->file) != 0 || bad;
    out->file = NULL;
    if (bad)
        return error_set(error, ERR_IO, "cannot write %.300s: %s", out->path, strerror(errno));
    printf("%s %u requests\n", out->path, out->lines);
    return 0;
}

/* The file that has room for so many more bytes. */
static int file_for(struct out *out, size_t len, struct error *error)
{
    if (out->file != NULL && out->lines < LINES_MAX && out->bytes + len <= BYTES_MAX)
        return 0;
    int rc = close_file(out, error);
    if (rc != 0)
        return rc;
    snprintf(out->path, sizeof out->path, "%.900s-%s-%03u.jsonl", out->args->prefix, out->model->name, ++out->files);
    out->file = fopen(out->path, out->args->force ? "we" : "wxe");
    out->lines = 0;
    out->bytes = 0;
    if (out->file == NULL && errno == EEXIST)
        return error_set(error, ERR_CONFLICT,
                         "%.300s is there already: move it away, name others (--out), or write over it (--force)",
                         out->path);
    return out->file != NULL ? 0 : error_set(error, ERR_IO, "cannot write %.300s: %s", out->path, strerror(errno));
}

static int write_body(const struct out *out, const struct job *job, const char *id, struct buf *body,
                      struct error *error)
{
    struct buf prompt = {0};
    struct slice stops[STOPS_MAX];
    struct ask ask;
    int rc = openai_prompt(&out->spec, job, &prompt, error);
    if (rc == 0)
        rc = openai_possible(&out->spec, job, out->dialect, error);
    if (rc == 0) {
        openai_ask(&out->spec, job, buf_slice(&prompt), false, stops, &ask);
        ask.model = out->args->server_model != NULL ? slice_of(out->args->server_model) : out->spec.model;
        ask.id = id;
        out->dialect->write(&ask, body);
    }
    buf_clear(&prompt);
    return rc;
}

static int write_line(struct out *out, const struct prompt *prompt, uint32_t index, uint32_t ordinal,
                      struct error *error)
{
    struct buf key = {0}, body = {0}, line = {0};
    struct error why = {""};
    char id[REQUEST_ID + 1];
    uint64_t seed = rng_u64(compile_pool_seed(out->sweep, out->model), RNG_ROLLOUT, index, ordinal);
    struct job job = {.record = prompt->record, .seed = seed, .prompt = index, .ordinal = ordinal};
    buf_printf(&key, "%s/", out->sweep->name);
    batch_key(out->model->name, prompt->record, index, ordinal, &key);
    snprintf(id, sizeof id, "%016llx%016llx", (unsigned long long)hash_bytes(key.data, key.len),
             (unsigned long long)seed);
    struct attachments attached = prompt_attachments(out->set, prompt->record);
    int rc = write_body(out, &job, id, &body, &why);
    attachments_fill(&attached, &body);
    free(attached.at);
    if (rc != 0)
        error_set(error, rc, "prompt '%.100s': %.300s", prompt->id, why.text);
    if (rc == 0) {
        json_begin(&line, '{');
        json_key(&line, "custom_id");
        json_text(&line, buf_slice(&key));
        json_key(&line, "method");
        json_str(&line, "POST");
        json_key(&line, "url");
        json_str(&line, out->spec.chat ? out->dialect->chat_route : out->dialect->route);
        json_key(&line, "body");
        json_raw(&line, buf_slice(&body));
        json_end(&line, '}');
        buf_puts(&line, "\n");
        rc = file_for(out, line.len, error);
    }
    if (rc == 0 && fwrite(line.data, 1, line.len, out->file) == line.len) {
        out->lines++;
        out->bytes += line.len;
    }
    buf_clear(&key);
    buf_clear(&body);
    buf_clear(&line);
    return rc;
}

/* Most rollouts per prompt that the arms of a model may ask for; what no file can hold is named. */
static uint32_t rollouts_of(const struct sweep_spec *sweep, uint32_t model)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        const struct sweep_arm *arm = &sweep->arms[i];
        uint32_t leg = sweep_arm_leg(arm, model);
        if (leg == UINT32_MAX)
            continue;
        uint32_t reach = schedule_reach(&arm->schedule, leg, arm->n);
        if (arm->strategy.policy->trees != NULL)
            fprintf(stderr, "drover export-batch: arm '%s' goes step by step: it is left out\n", arm->name);
        else if (arm->bin.number > 0)
            fprintf(stderr, "drover export-batch: arm '%s' has the prompts that its pilot finds: it is left out\n",
                    arm->name);
        else if (sweep_arm_kill(arm).window > 0)
            fprintf(stderr, "drover export-batch: arm '%s' ends rollouts while they are generated: it is left out\n",
                    arm->name);
        else if (reach > n)
            n = reach;
    }
    return n;
}

static int write_model(struct out *out, uint32_t n, struct error *error)
{
    struct error why = {""};
    int rc = openai_spec_read(slice_of(out->model->spec), &out->spec, &why);
    if (rc == 0 && out->spec.model.len == 0 && out->args->server_model == NULL)
        rc = error_set(&why, ERR_NOT_FOUND,
                       "a batch needs the service's name for it: give option `model`, or --server-model NAME");
    if (rc != 0)
        return error_set(error, rc, "model '%s': %.400s", out->model->name, why.text);
    out->dialect = out->spec.dialect != NULL ? out->spec.dialect : &dialect_generic;
    for (uint32_t i = 0; i < out->set->len && rc == 0; i++)
        for (uint32_t ordinal = 0; ordinal < n && rc == 0; ordinal++)
            rc = write_line(out, &out->set->prompts[i], i, ordinal, error);
    int closed = close_file(out, rc == 0 ? error : NULL);
    return rc != 0 ? rc : closed;
}

static int export(const struct args *args, const struct sweep_input *input, const struct prompt_set *set,
                  struct error *error)
{
    bool any = false;
    int rc = 0;
    for (uint32_t i = 0; i < input->spec.models_len && rc == 0; i++) {
        struct out out = {.args = args, .sweep = &input->spec, .model = &input->spec.models[i], .set = set};
        uint32_t n = strcmp(out.model->backend, "openai") == 0 ? rollouts_of(&input->spec, i) : 0;
        if (n == 0)
            continue;
        any = true;
        rc = write_model(&out, n, error);
        openai_spec_clear(&out.spec);
    }
    return rc != 0 || any ? rc
                          : error_set(error, ERR_NOT_FOUND, "%.200s has no arm that samples a model of backend openai",
                                      args->file);
}

int cmd_export_batch(int argc, char **argv)
{
    const struct argp argp = {
        options,
        parse,
        "SWEEP.yaml [key=value ...]",
        "Write the requests of a sweep as OpenAI batch files: a line for each prompt and rollout of "
        "arms that sample a model of backend openai. `drover import-batch` takes what comes back.",
        0,
        0,
        0};
    struct args args = {.prefix = "batch"};
    struct sweep_input input;
    struct prompt_set set;
    struct error error = {""};
    parse_args("export-batch", &argp, argc, argv, &args);
    int rc = sweep_input_read(args.file, args.overrides, args.overrides_len, &input, &error);
    if (rc != 0)
        return complain("export-batch", rc, &error);
    rc = prompt_set_parse(&input.prompts, input.prompts_len, input.prompts_path, input.spec.group_by, &set, &error);
    input.prompts = NULL; /* the set's now */
    if (rc == 0) {
        rc = export(&args, &input, &set, &error);
        prompt_set_clear(&set);
    }
    sweep_input_clear(&input);
    return rc == 0 ? EXIT_OK : complain("export-batch", rc, &error);
}
