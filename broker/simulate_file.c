/* simulate_file.c - the file of a simulation: laws, fleet, and arms in the sweep file's own words; see simulate.h. */
#include "broker/simulate.h"
#include "broker/sweep_parts.h"
#include "common/limits.h"

#include <stdlib.h>
#include <string.h>

#define REAL(key, low, high, by_default, of_unit, says)                                                             \
    {                                                                                                               \
        .name = (key), .type = CONF_REAL, .min = (low), .max = (high), .fallback = (by_default), .unit = (of_unit), \
        .help = (says)                                                                                              \
    }
#define COUNT(key, low, high, by_default, of_unit, says)                                                           \
    {                                                                                                              \
        .name = (key), .type = CONF_INT, .min = (low), .max = (high), .fallback = (by_default), .unit = (of_unit), \
        .help = (says)                                                                                             \
    }
#define CHOICE(key, of, by_default, says)                                                             \
    {                                                                                                 \
        .name = (key), .type = CONF_CHOICE, .choices = (of), .fallback = (by_default), .help = (says) \
    }
#define REAL_OF(values, key, low, high, by_default, says)                                                        \
    {                                                                                                            \
        .name = (key), .type = CONF_REAL, .min = (low), .max = (high), .fallback = (by_default), .help = (says), \
        .of = (values)                                                                                           \
    }
#define SECTION(key, says)                                               \
    {                                                                    \
        .name = (key), .type = CONF_NODE, .fallback = "", .help = (says) \
    }

enum {
    FILE_WORLD,
    FILE_LAWS,
    FILE_ANSWERS,
    FILE_LENGTHS,
    FILE_FEATURES,
    FILE_VERIFIERS,
    FILE_SYSTEM,
    FILE_ARMS,
    FILE_GRID,
    FILE_KEYS
};

static const struct conf_key file_keys[] = {
    SECTION("world", "how many prompts and worlds, and what counts"),
    SECTION("laws", "list of kinds of prompts"),
    SECTION("answers", "how wrong rollouts agree"),
    SECTION("lengths", "tokens of rollouts"),
    SECTION("features", "what features tell"),
    SECTION("verifiers", "list of verifiers, by their laws"),
    SECTION("system", "the fleet"),
    SECTION("arms", "list of arms, as in a sweep file"),
    SECTION("grid", "list of patterns of arms, as in a sweep file"),
    {0},
};

enum { WORLD_PROMPTS, WORLD_SEEDS, WORLD_SEED, WORLD_GOAL, WORLD_KEYS };

static const struct conf_key world_keys[] = {
    COUNT("prompts", 1, 1e6, "500", "prompts", "of each world"),
    COUNT("seeds", 1, SIMULATE_WORLDS_MAX, "20", "worlds", "drawn apart; intervals are over them"),
    COUNT("seed", 0, 18446744073709551615.0, "1", NULL, "all random numbers follow from it"),
    CHOICE("goal", "answer|mode", "answer", "what arms are for: the right answer, or the likeliest one"),
    {0},
};

enum { LAW_SHARE, LAW_LAW, LAW_ALPHA, LAW_BETA, LAW_ZERO, LAW_RATE, LAW_CONCENTRATION, LAW_KEYS };

static const struct conf_key law_keys[] = {
    REAL("share", 1e-9, 1e9, "1", "beside that of the others", "how many prompts are of this kind"),
    CHOICE("law", "beta|fixed|dirichlet", "beta", "how likely a rollout of a prompt is right"),
    REAL_OF("beta", "alpha", 0.001, 1e6, "0.5", "first parameter"),
    REAL_OF("beta", "beta", 0.001, 1e6, "0.5", "second parameter"),
    REAL_OF("beta", "zero", 0, 1, "0", "share of prompts that are never right"),
    REAL_OF("fixed", "rate", 0, 1, "0.95", "of every prompt"),
    REAL_OF("dirichlet", "concentration", 0.001, 1e6, "0.3", "of all answers of a prompt, the right one among them"),
    {0},
};

enum { ANSWERS_WRONG, ANSWERS_CLASSES, ANSWERS_CONCENTRATION, ANSWERS_JUNK, ANSWERS_BLANK, ANSWERS_KEYS };

static const struct conf_key answers_keys[] = {
    CHOICE("wrong", "even|zipf|dirichlet", "dirichlet", "law of the wrong answers of a prompt"),
    COUNT("classes", 1, WORLD_CLASSES_MAX, "8", NULL, "different wrong answers of a prompt"),
    REAL_OF("dirichlet", "concentration", 0.001, 1e6, "0.3", "of the wrong answers"),
    REAL("junk", 0, 1, "0", "share of the wrong rollouts", "whose answer no other rollout gives"),
    REAL("blank", 0, 1, "0", "share of the wrong rollouts", "that give no answer"),
    {0},
};

enum { LENGTHS_MEDIAN, LENGTHS_BETWEEN, LENGTHS_WITHIN, LENGTHS_RIGHT, LENGTHS_MOST, LENGTHS_PROMPT, LENGTHS_KEYS };

static const struct conf_key lengths_keys[] = {
    REAL("median", 1, 1e6, "300", "tokens", "of the rollouts of the middle prompt"),
    REAL("between", 0, 4, "0.5", NULL, "sigma of ln of the prompts' medians"),
    REAL("within", 0, 4, "0.5", NULL, "sigma of ln of the rollouts of a prompt"),
    REAL("right", 0.01, 100, "0.8", NULL, "factor for right rollouts"),
    COUNT("most", 1, LIMIT_MAX_TOKENS, "4096", "tokens", "max_tokens of the model"),
    COUNT("prompt", 1, 1e6, "100", "tokens", "of a prompt"),
    {0},
};

enum { FEATURES_LP_MEAN, FEATURES_KEYS };

static const struct conf_key features_keys[] = {
    REAL("lp_mean", 0.5, 0.9999, "0.7", NULL, "how often lp_mean of a right rollout is above that of a wrong one"),
    {0},
};

enum {
    V_NAME,
    V_KIND,
    V_TPR,
    V_FPR,
    V_ICC,
    V_LINK,
    V_VOTES,
    V_MEAN_LOW,
    V_MEAN_HIGH,
    V_DEV_LOW,
    V_DEV_HIGH,
    V_GAP,
    V_TAIL,
    V_SECONDS,
    V_KEYS
};

static const struct conf_key verifier_keys[] = {
    {.name = "name", .type = CONF_TEXT, .help = "name that arms use"},
    CHOICE("kind", "exact|noisy|reward|bimodal", "exact", "never wrong; votes; rewards; rewards near 0 or 1"),
    REAL_OF("noisy|bimodal", "tpr", 0, 1, "0.9", "mean probability of a yes to right rollouts"),
    REAL_OF("noisy|bimodal", "fpr", 0, 1, "0.1", "mean probability of a yes to wrong ones"),
    REAL_OF("noisy", "icc", 0, 1, "0.5", "how alike it takes equal answers of a prompt; 0: each rollout by itself"),
    REAL_OF("noisy|bimodal", "link", 0, 100, "0", "fpr falls as (1 - rate of the prompt) to this power"),
    {.name = "votes",
     .type = CONF_INT,
     .min = 1,
     .max = 1024,
     .fallback = "1",
     .help = "judgements of each rollout; the score is their mean",
     .of = "noisy"},
    REAL_OF("reward", "mean_low", -10, 10, "0.3", "lowest mean of a prompt"),
    REAL_OF("reward", "mean_high", -10, 10, "0.95", "highest mean of a prompt"),
    REAL_OF("reward", "deviation_low", 0.001, 10, "0.06", "lowest deviation of a prompt"),
    REAL_OF("reward", "deviation_high", 0.001, 10, "0.3", "highest deviation of a prompt"),
    REAL_OF("reward", "gap", -1, 1, "0.1", "what right rollouts have more"),
    REAL_OF("reward", "tail", 0, 1, "0", "share of wrong rollouts that it likes beyond all measure"),
    REAL("seconds", 0, 1e6, "1", "s", "that a verdict takes"),
    {0},
};

enum {
    SYSTEM_WORKERS,
    SYSTEM_SLOTS,
    SYSTEM_SPEED,
    SYSTEM_START,
    SYSTEM_NOISE,
    SYSTEM_VERIFIERS,
    SYSTEM_VERIFIER_SLOTS,
    SYSTEM_TIMEOUT,
    SYSTEM_DEATHS,
    SYSTEM_NOTICED,
    SYSTEM_BACK,
    SYSTEM_LATE,
    SYSTEM_TWICE,
    SYSTEM_KEYS
};

static const struct conf_key system_keys[] = {
    COUNT("workers", 1, 10000, "8", NULL, "workers"),
    COUNT("slots", 1, LIMIT_CREDITS, "4", NULL, "rollouts that a worker generates at a time"),
    REAL("speed", 0.001, 1e9, "50", "tokens/s", "of one slot"),
    REAL("start", 0, 1e6, "0.2", "s", "that a rollout takes before its first token"),
    REAL("noise", 0, 4, "0.1", NULL, "sigma of ln of times"),
    COUNT("verifiers", 1, 10000, "2", NULL, "verifier processes"),
    COUNT("verifier_slots", 1, LIMIT_CREDITS, "8", NULL, "verdicts that one makes at a time"),
    REAL("timeout", 0.001, 1e6, "3600", "s", "of one task"),
    REAL("deaths", 0, 1e4, "0", "an hour", "of each worker and verifier; its tasks are lost"),
    REAL("noticed", 0, 1e6, "20", "s", "after a death: its tasks go elsewhere"),
    REAL("back", 0, 1e6, "60", "s", "after a death: another one comes in its place"),
    REAL("late", 0, 1, "0", "share", "of the tasks of the dead whose results come after all"),
    REAL("twice", 0, 1, "0", "share", "of the results that come twice"),
    {0},
};

/* -- sections ------------------------------------------------------------------------------------------------------- */

static int read_map(struct sweep_reader *reader, const struct conf_node *node, const char *what,
                    const struct conf_key *keys, struct conf_value *values)
{
    const struct conf_form form = {.what = what, .keys = keys, .values = values};
    return conf_read(&reader->conf, node, &form, reader->error);
}

static int read_world(struct sweep_reader *reader, const struct conf_node *node, struct simulation_spec *spec)
{
    struct conf_value v[WORLD_KEYS];
    int rc = read_map(reader, node, "world", world_keys, v);
    if (rc != 0)
        return rc;
    spec->prompts = (uint32_t)v[WORLD_PROMPTS].whole;
    spec->worlds = (uint32_t)v[WORLD_SEEDS].whole;
    spec->seed = v[WORLD_SEED].whole;
    spec->goal = (enum simulated_goal)v[WORLD_GOAL].whole;
    return 0;
}

static int read_law(struct sweep_reader *reader, const struct conf_node *node, struct world_kind *kind)
{
    struct conf_value v[LAW_KEYS];
    int rc = read_map(reader, node, "law", law_keys, v);
    if (rc != 0)
        return rc;
    *kind = (struct world_kind){.share = v[LAW_SHARE].number,
                                .rates = (enum world_rates)v[LAW_LAW].whole,
                                .alpha = v[LAW_ALPHA].number,
                                .beta = v[LAW_BETA].number,
                                .zero = v[LAW_ZERO].number,
                                .rate = v[LAW_RATE].number,
                                .concentration = v[LAW_CONCENTRATION].number};
    return 0;
}

/* Elements of a list section; 0 for one that is absent. */
static int list_len(struct sweep_reader *reader, const struct conf_node *list, const char *name, uint32_t most,
                    uint32_t *len)
{
    *len = list == NULL ? 0 : list->len;
    if (list != NULL && (list->kind != CONF_KIND_LIST || list->len == 0))
        return conf_error(&reader->conf, list->mark, reader->error, ERR_SYNTAX, "'%s' must be a list of maps", name);
    if (*len > most)
        return conf_error(&reader->conf, list->mark, reader->error, ERR_LIMIT,
                          "'%s' has %u entries; at most %u are allowed", name, *len, most);
    return 0;
}

static int read_laws(struct sweep_reader *reader, const struct conf_node *list, struct simulation_spec *spec)
{
    enum { LAWS_MAX = 64 };
    uint32_t len;
    int rc = list_len(reader, list, "laws", LAWS_MAX, &len);
    if (rc != 0)
        return rc;
    spec->kinds = xalloc((len + (size_t)1) * sizeof *spec->kinds);
    spec->law.kinds = spec->kinds;
    spec->law.kinds_len = len > 0 ? len : 1;
    if (len == 0)
        return read_law(reader, NULL, &spec->kinds[0]);
    const struct conf_node *node = list->first;
    for (uint32_t i = 0; rc == 0 && i < len; i++, node = node->next)
        rc = read_law(reader, node, &spec->kinds[i]);
    return rc;
}

static int read_answers(struct sweep_reader *reader, const struct conf_node *node, struct world_answers *answers)
{
    struct conf_value v[ANSWERS_KEYS];
    int rc = read_map(reader, node, "answers", answers_keys, v);
    if (rc != 0)
        return rc;
    *answers = (struct world_answers){.law = (enum world_wrong)v[ANSWERS_WRONG].whole,
                                      .classes = (uint32_t)v[ANSWERS_CLASSES].whole,
                                      .concentration = v[ANSWERS_CONCENTRATION].number,
                                      .junk = v[ANSWERS_JUNK].number,
                                      .blank = v[ANSWERS_BLANK].number};
    if (answers->junk + answers->blank > 1)
        return conf_error(&reader->conf, node->mark, reader->error, ERR_RANGE,
                          "'junk' and 'blank' are shares of the wrong rollouts, and more than 1 together");
    return 0;
}

static int read_lengths(struct sweep_reader *reader, const struct conf_node *node, struct world_lengths *lengths)
{
    struct conf_value v[LENGTHS_KEYS];
    int rc = read_map(reader, node, "lengths", lengths_keys, v);
    if (rc != 0)
        return rc;
    *lengths = (struct world_lengths){.median = v[LENGTHS_MEDIAN].number,
                                      .between = v[LENGTHS_BETWEEN].number,
                                      .within = v[LENGTHS_WITHIN].number,
                                      .right = v[LENGTHS_RIGHT].number,
                                      .most = (uint32_t)v[LENGTHS_MOST].whole,
                                      .prompt = (uint32_t)v[LENGTHS_PROMPT].whole};
    return 0;
}

static int read_system(struct sweep_reader *reader, const struct conf_node *node, struct simulation_spec *spec)
{
    struct conf_value v[SYSTEM_KEYS];
    int rc = read_map(reader, node, "system", system_keys, v);
    if (rc != 0)
        return rc;
    spec->system = (struct simulated_system){.workers = (uint32_t)v[SYSTEM_WORKERS].whole,
                                             .slots = (uint32_t)v[SYSTEM_SLOTS].whole,
                                             .verifiers = (uint32_t)v[SYSTEM_VERIFIERS].whole,
                                             .verifier_slots = (uint32_t)v[SYSTEM_VERIFIER_SLOTS].whole,
                                             .speed = v[SYSTEM_SPEED].number,
                                             .start_s = v[SYSTEM_START].number,
                                             .noise = v[SYSTEM_NOISE].number,
                                             .deaths_per_hour = v[SYSTEM_DEATHS].number,
                                             .noticed_s = v[SYSTEM_NOTICED].number,
                                             .back_s = v[SYSTEM_BACK].number,
                                             .late = v[SYSTEM_LATE].number,
                                             .twice = v[SYSTEM_TWICE].number};
    if (spec->system.noticed_s > spec->system.back_s)
        return conf_error(&reader->conf, node->mark, reader->error, ERR_RANGE,
                          "'noticed' is later than 'back': an agent that comes back is noticed by that");
    spec->sweep.models[0].timeout_ms = (uint32_t)(1e3 * v[SYSTEM_TIMEOUT].number);
    return 0;
}

static int read_verifier(struct sweep_reader *reader, const struct conf_node *node, struct simulation_spec *spec,
                         uint32_t i)
{
    struct conf_value v[V_KEYS];
    struct world_verifier *law = &spec->verifiers[i];
    int rc = read_map(reader, node, "verifier", verifier_keys, v);
    if (rc == 0)
        rc = sweep_name(reader, v[V_NAME].node, "verifier", law->name);
    if (rc != 0)
        return rc;
    for (uint32_t k = 0; k < i; k++)
        if (strcmp(spec->verifiers[k].name, law->name) == 0)
            return conf_error(&reader->conf, v[V_NAME].node->mark, reader->error, ERR_CONFLICT,
                              "two verifiers are named '%s'; names must differ", law->name);
    law->verdicts = (enum world_verdicts)v[V_KIND].whole;
    law->tpr = v[V_TPR].number;
    law->fpr = v[V_FPR].number;
    law->icc = v[V_ICC].number;
    law->link = v[V_LINK].number;
    law->votes = (uint32_t)v[V_VOTES].whole;
    law->mean_low = v[V_MEAN_LOW].number;
    law->mean_high = v[V_MEAN_HIGH].number;
    law->deviation_low = v[V_DEV_LOW].number;
    law->deviation_high = v[V_DEV_HIGH].number;
    law->gap = v[V_GAP].number;
    law->tail = v[V_TAIL].number;
    law->seconds = v[V_SECONDS].number;
    return 0;
}

static int read_verifiers(struct sweep_reader *reader, const struct conf_node *list, struct simulation_spec *spec)
{
    uint32_t len;
    int rc = list_len(reader, list, "verifiers", LIMIT_VERIFIERS, &len);
    if (rc != 0)
        return rc;
    spec->verifiers = xalloc((len + (size_t)1) * sizeof *spec->verifiers);
    const struct conf_node *node = list == NULL ? NULL : list->first;
    for (uint32_t i = 0; rc == 0 && i < len; i++, node = node->next)
        rc = read_verifier(reader, node, spec, i);
    if (rc == 0)
        simulation_verifiers(spec, len);
    return rc;
}

/* -- what the sweep's own reader expects ---------------------------------------------------------------------------- */

void simulation_model(struct simulation_spec *spec)
{
    struct sweep_model *model = xalloc(sizeof *model);
    *model = (struct sweep_model){.name = "simulated",
                                  .backend = xstrdup("simulated"),
                                  .spec = xstrdup("{}"),
                                  .offer = xstrdup(""),
                                  .timeout_ms = 3600000,
                                  .has_answer = true};
    spec->sweep.models = model;
    spec->sweep.models_len = 1;
}

void simulation_verifiers(struct simulation_spec *spec, uint32_t len)
{
    spec->law.verifiers = spec->verifiers;
    spec->law.verifiers_len = len;
    spec->sweep.verifiers = xalloc((len + (size_t)1) * sizeof *spec->sweep.verifiers);
    spec->sweep.verifiers_len = len;
    for (uint32_t i = 0; i < len; i++) {
        struct sweep_verifier *verifier = &spec->sweep.verifiers[i];
        struct buf json = {0};
        buf_printf(&json, "{\"name\":\"%s\"}", spec->verifiers[i].name);
        *verifier = (struct sweep_verifier){.kind = xstrdup("simulated"), .spec = json.data, .timeout_ms = 3600000};
        memcpy(verifier->name, spec->verifiers[i].name, sizeof verifier->name);
    }
}

/* Rollouts of a world have two features. */
static int check_features(struct sweep_reader *reader, const struct sweep_arm *arm)
{
    const struct selector *selector = arm->select.policy;
    uint32_t needs = arm->allocate.policy->features | arm->stop.policy->features | selector->features;
    if (selector->wants != NULL)
        needs |= selector->wants(arm->select.options);
    if ((needs & ~WORLD_FEATURES) == 0)
        return 0;
    return conf_error(&reader->conf, (struct conf_mark){.line = arm->line, .column = 1}, reader->error, ERR_REFUSED,
                      "arm '%s' reads features of rollouts that a simulation has no law of; it has lp_mean and lp_sum",
                      arm->name);
}

static int check_existing(struct sweep_reader *reader, const struct sweep_arm *arm)
{
    if (!arm->existing && !arm->allocate.policy->existing)
        return 0;
    return conf_error(&reader->conf, (struct conf_mark){.line = arm->line, .column = 1}, reader->error, ERR_REFUSED,
                      "arm '%s' takes existing rollouts, and a world has none before it is simulated", arm->name);
}

static int check_prior(struct sweep_reader *reader, const struct sweep_arm *arm)
{
    if (arm->prior.from == NULL)
        return 0;
    return conf_error(&reader->conf, (struct conf_mark){.line = arm->line, .column = 1}, reader->error, ERR_REFUSED,
                      "arm '%s' has a prior, and nothing was sampled in a world before it is simulated", arm->name);
}

/* Each arm is simulated by itself. */
static int check_bins(struct sweep_reader *reader, const struct sweep_arm *arm)
{
    if (arm->bin.of[0] == '\0')
        return 0;
    return conf_error(
        &reader->conf, (struct conf_mark){.line = arm->line, .column = 1}, reader->error, ERR_REFUSED,
        "arm '%s' has a strategy for each bin, and each arm is simulated by itself: write the bins as arms",
        arm->bin.of);
}

static int read_arms(struct sweep_reader *reader, const struct conf_node *list)
{
    int rc = sweep_arms(reader, list, &(struct sweep_arm_defaults){.lookahead = 64});
    for (uint32_t i = 0; rc == 0 && i < reader->spec->arms_len; i++) {
        rc = check_features(reader, &reader->spec->arms[i]);
        if (rc == 0)
            rc = check_existing(reader, &reader->spec->arms[i]);
        if (rc == 0)
            rc = check_prior(reader, &reader->spec->arms[i]);
        if (rc == 0)
            rc = check_bins(reader, &reader->spec->arms[i]);
    }
    return rc;
}

static int read_file(struct sweep_reader *reader, struct simulation_spec *spec)
{
    struct conf_value v[FILE_KEYS], features[FEATURES_KEYS];
    int rc = read_map(reader, reader->conf.root, "simulation", file_keys, v);
    if (rc == 0)
        rc = read_world(reader, v[FILE_WORLD].node, spec);
    if (rc == 0)
        rc = read_laws(reader, v[FILE_LAWS].node, spec);
    if (rc == 0)
        rc = read_answers(reader, v[FILE_ANSWERS].node, &spec->law.answers);
    if (rc == 0)
        rc = read_lengths(reader, v[FILE_LENGTHS].node, &spec->law.lengths);
    if (rc == 0)
        rc = read_map(reader, v[FILE_FEATURES].node, "features", features_keys, features);
    if (rc == 0)
        rc = read_system(reader, v[FILE_SYSTEM].node, spec);
    if (rc == 0)
        rc = read_verifiers(reader, v[FILE_VERIFIERS].node, spec);
    if (rc != 0)
        return rc;
    spec->law.auroc = features[FEATURES_LP_MEAN].number;
    spec->sweep.models[0].max_tokens = spec->law.lengths.most;
    return read_arms(reader, v[FILE_ARMS].node);
}

/* As in a sweep file: those that reach into arms come after the grids. */
static int apply_overrides(struct sweep_reader *reader, const char *const *overrides, size_t len, bool of_arms)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < len; i++)
        if ((strncmp(overrides[i], "arms.", 5) == 0) == of_arms)
            rc = conf_override(&reader->conf, overrides[i], NULL, reader->error);
    return rc;
}

int simulation_spec_parse(struct slice text, const char *file, const char *const *overrides, size_t overrides_len,
                          struct simulation_spec *spec, struct error *error)
{
    struct sweep_reader reader = {.spec = &spec->sweep, .error = error};
    *spec = (struct simulation_spec){.sweep = {.truth = NO_INDEX}};
    simulation_model(spec);
    int rc = conf_parse(&reader.conf, text, file, error);
    if (rc == 0)
        rc = apply_overrides(&reader, overrides, overrides_len, false);
    if (rc == 0)
        rc = sweep_grids(&reader);
    if (rc == 0)
        rc = apply_overrides(&reader, overrides, overrides_len, true);
    if (rc == 0)
        rc = sweep_splits(&reader);
    if (rc == 0)
        rc = read_file(&reader, spec);
    conf_clear(&reader.conf);
    if (rc != 0)
        simulation_spec_clear(spec);
    return rc;
}

void simulation_spec_clear(struct simulation_spec *spec)
{
    free(spec->kinds);
    free(spec->verifiers);
    sweep_spec_clear(&spec->sweep);
    *spec = (struct simulation_spec){0};
}

void simulation_help(struct buf *out)
{
    static const struct {
        const char *title;
        const struct conf_key *keys;
    } sections[] = {
        {"sections", file_keys},   {"world", world_keys},       {"laws", law_keys},           {"answers", answers_keys},
        {"lengths", lengths_keys}, {"features", features_keys}, {"verifiers", verifier_keys}, {"system", system_keys},
    };
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        buf_printf(out, "%s%s:\n", i == 0 ? "" : "\n", sections[i].title);
        conf_print_keys(sections[i].keys, out);
    }
    buf_puts(out, "\narms, grid: as `drover help sweep` says\n");
}
