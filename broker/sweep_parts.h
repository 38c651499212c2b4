/* sweep_parts.h - what the files that read a sweep file share with each other, and with the readers of files that hold
 * arms in its words. */
#ifndef DROVER_SWEEP_PARTS_H
#define DROVER_SWEEP_PARTS_H

#include "broker/sweep_file.h"
#include "common/conf.h"

/* Passed along while one file is read. */
struct sweep_reader {
    struct conf conf;
    struct sweep_spec *spec; /* under construction; cleared by the caller on failure */
    struct error *error;
    size_t copied; /* bytes that grids have made; bounded */
};

#define NO_INDEX UINT32_MAX

/* Copies a name of letters, digits, '.', '_', '-', not starting with '.'. ERR_SYNTAX, ERR_LIMIT. */
int sweep_name(struct sweep_reader *reader, const struct conf_node *node, const char *what, char name[65]);

/* Caps; of_arm: without `count`, since an arm's caps count what the arm is charged. */
int sweep_budget(struct sweep_reader *reader, const struct conf_node *node, bool of_arm, struct budget *budget);

/* Sections `models` and `verifiers`. */
int sweep_models(struct sweep_reader *reader, const struct conf_node *list);
int sweep_verifiers(struct sweep_reader *reader, const struct conf_node *list);

/* Index of a model or verifier; ERR_NOT_FOUND with the nearest name. */
int sweep_model_index(struct sweep_reader *reader, const struct conf_node *node, uint32_t *index);
int sweep_verifier_index(struct sweep_reader *reader, const struct conf_node *node, uint32_t *index);

/* The four policies of an arm, as written; NULL for those that are not given. */
struct sweep_policies {
    const struct conf_node *strategy, *allocate, *stop, *select;
};

/* Fills the choices of arm. */
int sweep_policies(struct sweep_reader *reader, const struct sweep_policies *written, struct sweep_arm *arm);
/* Whether the arm has what its policies need: verifier, answers, steps, n. */
int sweep_needs(struct sweep_reader *reader, struct conf_mark mark, const struct sweep_arm *arm);

/* Key `models`: fills models and schedule of the arm, and n if blocks tell it (else 0). */
int sweep_legs(struct sweep_reader *reader, const struct conf_node *list, bool rounds, struct sweep_arm *arm);
/* Once n is known: do its legs make sense with it and with the strategy? */
int sweep_legs_check(struct sweep_reader *reader, struct conf_mark mark, const struct sweep_arm *arm);

/* Values that arms take from the sweep. */
struct sweep_arm_defaults {
    bool strict;
    uint32_t lookahead;
};

/* Section `arms`, after models and verifiers. */
int sweep_arms(struct sweep_reader *reader, const struct conf_node *list, const struct sweep_arm_defaults *defaults);

/* Reads one arm; bin: what it is of an arm of bins, NULL: nothing. */
typedef int sweep_arm_reader(void *arg, const struct conf_node *arm, const struct sweep_bin *bin);

/* The options of an arm of bins, NULL: it is none. */
const struct conf_node *sweep_bins_of(const struct conf_node *arm);
/* Has the pilot and each bin of such an arm read. */
int sweep_bins(struct sweep_reader *reader, const struct conf_node *arm, sweep_arm_reader *read, void *arg);

/* Appends a copy whose children are the node's: both only read them. */
void sweep_node_take(struct conf *conf, const struct conf_node *node, struct conf_node *to);
/* Appends a scalar with the marks of another node. */
void sweep_node_text(struct conf *conf, const struct conf_node *like, const char *key, const char *text,
                     struct conf_node *to);

/* Arms with `allocate: {solve-verify: ...}` get n, and judges that are asked so often. Before arms and verifiers are read. */
int sweep_splits(struct sweep_reader *reader);
/* Refuses an arm that still asks for it. */
int sweep_split_misplaced(struct sweep_reader *reader, const struct conf_node *arm);

/* Replaces section `grid` by arms at the end of section `arms`. */
int sweep_grids(struct sweep_reader *reader);

/* Millionths, rounded to nearest. */
uint64_t sweep_micro(double amount);

/* Value of one option as JSON, and all of them as an object with sorted keys. */
void sweep_options_json(const struct option_row *options, const struct conf_value *values, struct buf *out);

/* Rows of the sections, for help pages. */
extern const struct conf_key sweep_model_keys[], sweep_verifier_keys[], sweep_grid_keys[], sweep_arm_keys[],
    sweep_prior_keys[], sweep_bins_keys[], sweep_split_keys[];

#endif
