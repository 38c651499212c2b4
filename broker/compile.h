/* compile.h - a checked sweep file and its prompts as definitions that the core can take. */
#ifndef DROVER_COMPILE_H
#define DROVER_COMPILE_H

#include "broker/core/read.h"
#include "broker/sweep_file.h"
#include "common/buf.h"

/* Appends facts with ids that count from 0 within this submission. Prompt records are taken to stand in the text of
 * `commit` from `offset` on, one after another. source: the sweep file, kept for `drover results`. core: what is known
 * already. ERR_LIMIT. */
int compile(const struct sweep_spec *spec, const struct prompt_set *set, const struct core *core, struct slice source,
            uint64_t commit, uint64_t offset, struct buf *definitions, struct error *error);

/* Seed of the pool of a model. */
uint64_t compile_pool_seed(const struct sweep_spec *spec, const struct sweep_model *model);

/* The pool that the core has of these prompts, the model at this index and the sweep's seed; NO_ID: none yet. */
uint32_t compile_pool(const struct sweep_spec *spec, uint32_t model, const struct prompt_set *set,
                      const struct core *core);

/* Whether what the core knows generates what the sweep file's model does, wherever their servers are and whatever random
 * numbers of its own either has. */
bool compile_same_model(const struct sweep_model *model, const struct model_info *known);

/* One definition, its references being ids of the submission. */
void compile_verifier(const struct sweep_verifier *verifier, uint32_t id, const struct core *core,
                      struct buf *definitions);
void compile_arm(const struct sweep_arm *arm, uint32_t pool, uint32_t id, struct buf *definitions);
/* What its prior found, behind it; nothing without one. */
void compile_beliefs(const struct sweep_arm *arm, uint32_t id, uint32_t prompts, struct buf *definitions);

/* The same of what the core has: it is found again by its fingerprint. The model of a pool has the pool's id. */
void compile_known_set(const struct core *core, uint32_t set, struct buf *definitions);
void compile_known_model(const struct core *core, uint32_t model, uint32_t id, struct buf *definitions);
void compile_known_verifier(const struct core *core, uint32_t verifier, uint32_t id, struct buf *definitions);
void compile_known_pool(const struct core *core, uint32_t pool, uint32_t id, struct buf *definitions);

/* Gives an arm that has a prior the beliefs of the sweep's arm of that name. ERR_REFUSED: it has none. */
int compile_known_beliefs(const struct core *core, const struct sweep_info *sweep, struct sweep_arm *arm,
                          struct error *error);

/* Appends the prompt records, in the order that compile assumes. */
void compile_texts(const struct prompt_set *set, struct buf *texts);

#endif
