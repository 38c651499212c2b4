/* sweep_file.h - a sweep file (YAML) and its prompts (JSONL) as checked plain records.
 *
 * Everything a person may get wrong is found here, before anything starts: unknown keys (with the nearest valid one),
 * wrong types, ranges, references to models or verifiers that do not exist, policies that lack what they need. */
#ifndef DROVER_SWEEP_FILE_H
#define DROVER_SWEEP_FILE_H

#include "broker/policy/bins.h"
#include "broker/policy/schedule.h"
#include "broker/prior_file.h"
#include "common/attachment.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

/* A cap on each unit; 0 means no cap. Money in millionths of the price unit. */
struct budget {
    uint64_t rollouts, tokens, slot_ms, cost_micro;
    uint64_t deadline_s; /* wall-clock seconds after the start of the sweep; 0 none */
    bool accepted;       /* `count: accepted`: only kept rollouts count; false: everything burned does */
};

struct sweep_model {
    char name[65];
    char *backend;            /* row of backend_kinds */
    char *spec;               /* canonical JSON (sorted keys): name, backend, path, url, template, system, temperature,
                               * top_p, min_p, stop, step (separator), max_tokens, answer{kind,pattern,...}, options{} */
    char *offer;              /* what servers of workers must offer: a name, "*": anything; "": is not asked */
    uint32_t max_tokens;      /* of one rollout, or of one step of a tree */
    uint32_t template_tokens; /* tokens that the template adds at most */
    uint32_t timeout_ms;      /* of one task */
    uint32_t slots;           /* jobs that one worker runs at a time; 0: the backend's default */
    uint64_t price_in_micro, price_out_micro; /* per million tokens, in millionths of the price unit */
    char *answer;                             /* its extractor, as in spec */
    char *origin;                             /* equal for models that differ in sampling only; NULL: not known */
    uint32_t seed;                            /* of its own random numbers; 0: the sweep's */
    bool greedy;                              /* temperature 0: needs none */
    bool has_answer;                          /* an extractor other than none */
    bool thinks;                              /* says how its thinking ends */
    bool watched; /* confidences are seen while a rollout is generated, so that it can be ended for them */
};

struct sweep_verifier {
    char name[65];
    char *kind; /* row of verifier_kinds */
    char *
        spec; /* canonical JSON: name, kind, options{}, inner{} (nested specs by name); batch, cache, concurrency, version
               * where the file says them */
    uint32_t timeout_ms;
    uint64_t price_micro; /* per verdict, in millionths */
    bool group;           /* compares all rollouts of a prompt */
};

struct policy_choice_strategy {
    const struct strategy *policy;
    double options[POLICY_OPTIONS_MAX];
};
struct policy_choice_allocator {
    const struct allocator *policy;
    double options[POLICY_OPTIONS_MAX];
};
struct policy_choice_stopper {
    const struct stopper *policy;
    double options[POLICY_OPTIONS_MAX];
};
struct policy_choice_selector {
    const struct selector *policy;
    double options[POLICY_OPTIONS_MAX];
};

/* Where an arm's beliefs about its prompts come from, see prior.h. */
struct sweep_prior {
    char *from; /* NULL: it has none; a file when it holds a '/' or ends in .jsonl, else a sweep of the state folder */
    bool file;
    double strength; /* what a rollout of another model is worth, in rollouts of the arm's own; 0 < strength <= 1 */
};

/* What an arm is of an arm of bins: `NAME.pilot`, or `NAME.1`, `NAME.2` and so on. */
struct sweep_bin {
    char of[65];     /* NAME; "": is no part of one */
    uint32_t number; /* from 1; 0: the pilot */
    enum bins_by by;
    double above, up_to;
};

/* One arm as the core runs it: a tree arm with `report_at: [4, 16]` became two, of equal name; one of bins became its
 * pilot and its bins. */
struct sweep_arm {
    char name[65];
    struct sweep_bin bin;
    uint32_t models[LIMIT_LEGS]; /* indices, one for each leg; trees have one */
    struct schedule schedule;
    uint32_t verifier; /* index, or UINT32_MAX */
    uint32_t n;        /* rollouts per prompt at most */
    struct policy_choice_strategy strategy;
    struct policy_choice_allocator allocate;
    struct policy_choice_stopper stop;
    struct policy_choice_selector select;
    bool strict;   /* order: strict */
    bool existing; /* has nothing generated: decides over what its pool holds */
    struct answering answering;
    uint32_t lookahead;   /* grants that may be unfolded, order: strict */
    struct budget budget; /* of this arm; counts what it is charged */
    uint32_t *report_at;  /* where sampling arms are evaluated, ascending; NULL: powers of two up to n, and n */
    uint32_t report_at_len;
    uint32_t line; /* of the sweep file, for messages */
    struct sweep_prior prior;
    char *belief_source; /* what makes two priors the same; NULL: not found yet, or there is none */
    float (*beliefs)[2]; /* of each prompt, as priors_find found them; else NULL */
};

/* Which of the arm's rollouts are ended while they are generated; window 0: none. */
struct kill_rule sweep_arm_kill(const struct sweep_arm *arm);

struct sweep_spec {
    char name[65];
    uint64_t seed;
    char *prompts_path; /* as written; relative to the sweep file's folder */
    char *group_by;     /* key of meta, or NULL */
    uint32_t truth;     /* index of a verifier, or UINT32_MAX */
    struct budget budget;
    struct sweep_model *models;
    uint32_t models_len;
    struct sweep_verifier *verifiers;
    uint32_t verifiers_len;
    struct sweep_arm *arms;
    uint32_t arms_len;
};

/* text: the file's bytes; file: its name for messages. overrides: "key=value" with dotted paths such as
 * "arms.NAME.n=8" or "budget.tokens=1000000", later ones win. Fills error as "FILE:LINE:COLUMN: sentence". */
int sweep_spec_parse(struct slice text, const char *file, const char *const *overrides, size_t overrides_len,
                     struct sweep_spec *spec, struct error *error);
void sweep_spec_clear(struct sweep_spec *spec);
/* Which of its legs draws from this model; UINT32_MAX: none does. */
uint32_t sweep_arm_leg(const struct sweep_arm *arm, uint32_t model);

/* What arms over rollouts that exist may name. Of a model: name, answer and has_answer; of a verifier: name and group. */
struct sweep_known {
    const struct sweep_model *models;
    const struct sweep_verifier *verifiers;
    uint32_t models_len, verifiers_len;
};

/* Whether a `what` may have this name: letters, digits, '.', '_', '-', not starting with '.'. ERR_SYNTAX, ERR_LIMIT. */
int sweep_name_check(const char *what, const char *name, struct error *error);

/* Arms that sample, over models that are known: text is a sweep file (whose `models` are not looked at), its sections
 * `arms` or `grid` alone, a list of arms, or the keys of one. spec gets the known models, and as verifiers those of the
 * text, with a kind, then the known ones of other names, without. Without section `sweep`, seed is 0, and there is no
 * name and no truth. Names of arms that grow trees are appended to trees, with commas, and left out. The errors of
 * sweep_spec_parse; ERR_NOT_FOUND: no arm is left. */
int sweep_arms_parse(struct slice text, const char *file, const struct sweep_known *known, struct sweep_spec *spec,
                     struct buf *trees, struct error *error);

/* Every key of a sweep file with its type, range, default and help. */
void sweep_file_help(struct buf *out);

struct prompt {
    struct slice record; /* the line's bytes, within the file's text */
    char *id;
    char *group;       /* value of meta[group_by], or NULL */
    uint32_t bytes;    /* of the prompt text or of all messages together: bounds its tokens */
    uint32_t attached; /* of these: what stands for attachments, of whose length tokens do not depend */
};

struct set_attachment {
    struct attachment attachment;
    bool known; /* stored already: for whoever stores them */
    UT_hash_handle hh;
};

struct prompt_set {
    struct prompt *prompts;
    uint32_t len;
    char *text;          /* owns all records */
    const char *records; /* where they begin in it */
    size_t text_len;
    uint64_t digest;                    /* xxh3 over the records, in order, with what is attached in its place */
    struct set_attachment *attachments; /* hash by id, in the order of the file */
    struct prior_files priors;          /* counts that came ahead of the prompts */
};

/* Takes over *text (malloc'ed), also on failure. Each line is one JSON object with a unique `id` (text or whole
 * number; default: the line number), `prompt` (text) or `messages` (list), optional `answer`, `meta`. Blank lines are
 * skipped. Ahead of them may stand lines with attachments (attachment.h) and counts (prior_file.h), which are not counted.
 * Fills error as "FILE:LINE: sentence". */
int prompt_set_parse(char **text, size_t len, const char *file, const char *group_by, struct prompt_set *set,
                     struct error *error);
void prompt_set_clear(struct prompt_set *set);

/* What is attached to a record of the set; the caller frees ->at. */
struct attachments prompt_attachments(const struct prompt_set *set, struct slice record);

/* Whole file into malloc'ed memory (NUL-terminated). Refuses folders, FIFOs, devices and more than max bytes. */
int file_read(const char *path, size_t max, char **text, size_t *len, struct error *error);

#endif
