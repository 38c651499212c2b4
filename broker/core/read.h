/* read.h - what everybody outside broker/core/ may see of a core: plain records, copied out.
 *
 * Nothing here changes the core. Texts are borrowed and live until the core changes. Ids are those of
 * the core; every function expects ids that exist (below the count that belongs to them) and asserts
 * it. A rollout is addressed by its key (core.h); core_delivered gives the key of an arm's k-th
 * rollout, of samples and of trees alike. */
#ifndef DROVER_READ_H
#define DROVER_READ_H

#include "broker/core/core.h"
#include "broker/policy/bins.h"
#include "common/attachment.h"

#include <stdbool.h>
#include <stdint.h>

/* What budgets and ledgers count; money in millionths. In caps, 0 means no cap. */
struct spending {
    uint64_t rollouts, tokens, slot_ms, cost;
};

/* -- definitions ---------------------------------------------------------------------------------- */

struct sweep_info {
    uint32_t id, set, truth;             /* truth: verifier, NO_ID: none */
    const char *name, *reason, *refusal; /* reason: of its state; refusal: of the last agent; "": none */
    enum sweep_state state;
    uint64_t seed;
    struct slice source; /* the sweep file */
    struct spending caps, accepted, burned, reserved;
    struct spending waste[WASTES];  /* burned = accepted + these */
    bool count_accepted;            /* which of the two the caps mean */
    uint64_t deadline_s, started_s; /* deadline: seconds after the start, 0: none */
    uint64_t verdicts;              /* paid for */
    uint64_t read, cached;          /* prompt tokens of kept results; of these, from a server's prefix cache */
    uint64_t truths, judged;        /* verdicts of the truth, for each arm: still missing, there */
    uint64_t failed;                /* tasks given up for good */
    uint32_t leased;                /* tasks out with agents */
    uint32_t arms;                  /* see core_sweep_arm */
    uint32_t prompts;               /* of its set */
    uint64_t cells, decided;        /* (arm, prompt) pairs; prompts of all arms */
};

struct arm_info {
    uint32_t id, sweep;
    const struct schedule *schedule; /* which of its rollouts are of which leg; trees have one leg */
    const uint32_t *pools;           /* of its legs, schedule->legs of them */
    uint32_t model;                  /* of the first */
    uint32_t verifier, truth;        /* of the arm, of its sweep; NO_ID: none */
    const char *name;
    const struct strategy *strategy; /* each has a name */
    const struct allocator *allocator;
    const struct stopper *stopper;
    const struct selector *selector;
    const double *options[4]; /* of these four, POLICY_OPTIONS_MAX each, in the order of their rows */
    uint64_t seed;            /* of its sweep */
    uint32_t n, trees;        /* trees: independent trees per prompt, 0: samples from a pool */
    bool strict, oracle;      /* oracle: these two are the same */
    bool existing;            /* has nothing generated */
    struct answering answering;
    struct spending caps, charged, reserved;
    uint64_t verdicts; /* charged */
    uint32_t prompts, decided;
    uint64_t unfolded; /* opened and not delivered */
    const uint32_t *report_at;
    uint32_t report_at_len;
    double price;      /* of one more rollout, where it follows the arm's budget; 0: it does not */
    const char *prior; /* where its beliefs come from, "": it has none */
    const char *of;    /* arm of bins that it is a part of, "": none */
    uint32_t bin;      /* which of its bins, from 1; 0: its pilot */
    enum bins_by by;
    double above, up_to; /* values of the bin's prompts */
    uint32_t elsewhere;  /* decided prompts that are of other bins */
    bool whole;          /* stands for all its parts: never of the core, see report_curve.h */
};

/* The arm is of a bin, and this rollout, or the arm's verdict on it, was charged to its pilot. */
bool core_paid(const struct core *core, uint32_t arm, const struct key *key, bool *verdict);

/* What the arm's prior believes of the prompt; {0, 0} without one. */
struct belief core_belief(const struct core *core, uint32_t arm, uint32_t prompt);

struct pool_info {
    uint32_t id, set, model, prompts;
    uint64_t seed, fingerprint;
    struct kill_rule kill;
    const uint32_t *verifiers; /* whose verdicts its rollouts keep */
    uint32_t verifiers_len;
};

struct model_info {
    const char *name, *backend;
    struct slice spec; /* JSON */
    uint64_t fingerprint, price_in, price_out;
    uint64_t read, cached; /* as of a sweep, but of all that use it */
    uint32_t max_tokens, template_tokens, timeout_ms, slots;
};

struct verifier_info {
    const char *name, *kind;
    struct slice spec; /* JSON */
    uint64_t fingerprint, price;
    uint32_t timeout_ms;
    bool group;
};

struct prompt_info {
    struct ref ref; /* its record */
    uint32_t bytes, group;
    uint32_t attached; /* of bytes: those that stand for attachments */
};

uint64_t core_epoch(const struct core *core);
uint32_t core_sweeps(const struct core *core);
uint32_t core_sweep_find(const struct core *core, struct slice name); /* NO_ID: no such sweep */
struct sweep_info core_sweep(const struct core *core, uint32_t sweep);
const char *sweep_state_text(enum sweep_state state);

uint32_t core_sweep_arm(const struct core *core, uint32_t sweep, uint32_t i); /* id of its i-th arm */
struct arm_info core_arm(const struct core *core, uint32_t arm);
/* Appends the names of its models, as "small+large". */
void core_arm_models(const struct core *core, uint32_t arm, struct buf *out);
bool core_arm_draws(const struct core *core, uint32_t arm, uint32_t pool); /* trees draw from no pool */
/* How many ordinals of this pool are among what it was delivered of a prompt of the pool; 0 when it does not draw from
 * it. */
uint32_t core_arm_reach(const struct core *core, uint32_t arm, uint32_t pool, uint32_t prompt);

uint32_t core_pools(const struct core *core);
struct pool_info core_pool(const struct core *core, uint32_t pool);
uint32_t core_models(const struct core *core);
/* Appends the names of all that are not replaced, as in a list; how many, and the last one's id. */
uint32_t core_sweep_names(const struct core *core, struct buf *names, uint32_t *last);

struct model_info core_model(const struct core *core, uint32_t model);
uint32_t core_verifiers(const struct core *core);
struct verifier_info core_verifier(const struct core *core, uint32_t verifier);

uint32_t core_sets(const struct core *core);
uint64_t core_set_digest(const struct core *core, uint32_t set);
uint32_t core_set_prompts(const struct core *core, uint32_t set);
struct prompt_info core_prompt(const struct core *core, uint32_t set, uint32_t prompt);
bool core_attachment(const struct core *core, struct attachment_id id, struct ref *ref); /* false: not known */
uint32_t core_groups(const struct core *core, uint32_t set);
const char *core_group(const struct core *core, uint32_t set, uint32_t group);
const char *core_group_by(const struct core *core, uint32_t set); /* field that groups prompts, "" */

/* -- prompts and rollouts -------------------------------------------------------------------------- */

/* One (arm, prompt). */
struct cell_info {
    enum decided decided;
    uint32_t opened, delivered;
    uint32_t stop, winner; /* once decided; winner: k-th rollout, or NO_ORDINAL: abstains */
    float confidence;
    bool settled; /* decided, and every truth known */
    bool trees;   /* its trees are in memory */
};

struct cell_info core_cell(const struct core *core, uint32_t arm, uint32_t prompt);
const char *decided_text(enum decided decided);

enum rollout_state { ROLLOUT_OPEN, ROLLOUT_DONE, ROLLOUT_FAILED };

/* One rollout of a pool, or one node of a tree. */
struct rollout_info {
    enum rollout_state state; /* OPEN: no result yet; nothing below is set */
    enum finish finish;
    uint64_t class; /* of its answer, 0: none */
    struct ref ref; /* its text: u32 length of the answer, answer, text frame */
    uint32_t tokens_in, tokens_out, latency_ms;
    uint64_t cost;   /* at its model's price, without verdicts */
    bool raced;      /* had two live attempts */
    uint32_t parent; /* trees: node, NO_ORDINAL: the prompt; NO_ORDINAL for samples */
    enum cue cue;
    bool thinks; /* EXTENT_THINK */
};

/* Rollouts of one prompt that its pool has handed out: ordinals 0..count-1. */
uint32_t core_issued(const struct core *core, uint32_t pool, uint32_t prompt);

/* Nodes of one tree and its finals (end nodes, in delivery order, repeats allowed). 0 when not in memory. */
uint32_t core_tree_nodes(const struct core *core, uint32_t arm, uint32_t prompt, uint32_t tree);
uint32_t core_tree_finals(const struct core *core, uint32_t arm, uint32_t prompt, uint32_t tree,
                          const uint32_t **finals);

/* Key of the k-th delivered rollout of an (arm, prompt); of a tree arm: of the k-th final, tree by tree.
 * False when there is none. */
bool core_delivered(const struct core *core, uint32_t arm, uint32_t prompt, uint32_t k, struct key *key);

/* Delivered rollouts of an arm that were ended for their confidence, and what that saved: as if each had become as long as
 * those of its prompt that were not ended are on average. Looks at all of the arm's rollouts, if it has such a rule. */
struct killed {
    uint64_t rollouts, tokens; /* tokens: generated until then */
    double saved;              /* tokens, an estimate */
};
struct killed core_killed(const struct core *core, uint32_t arm);
struct killed core_killed_all(const struct core *core, uint32_t sweep); /* arms that share them count them each */

/* False when there is no such rollout or node. key->kind and key->verifier are not looked at. */
bool core_rollout(const struct core *core, const struct key *key, struct rollout_info *out);

/* What `verifier` said about this rollout or node: false when it has not (yet). */
bool core_verdict(const struct core *core, const struct key *key, uint32_t verifier, struct verdict *out);

/* The item that policies saw: the rollout at key, as delivered rollout `ordinal` of the arm. */
bool core_item(const struct core *core, uint32_t arm, const struct key *key, uint32_t ordinal, struct item *out);

/* Seed that was sent with the rollout, node or (with kind TASK_VERIFY) verdict at key. */
uint64_t core_seed(const struct core *core, const struct key *key);

/* -- fleet and queues ------------------------------------------------------------------------------- */

struct agent_info {
    uint64_t id;
    const char *name;
    bool verifier, draining, alone; /* alone: runs a task that killed two workers, and nothing else */
    uint64_t kinds;                 /* see core_kind_text */
    uint32_t credits, leased, failures, refusals;
    uint64_t tokens, done;
    int64_t benched_ms; /* gets no work for so long; 0: is not benched */
    int64_t silent_ms;  /* its announced heartbeat is overdue for so long; 0: is not */
    int64_t up_ms;
    const char *failure; /* why its last task failed, "": none did */
    const char *trouble; /* what its work waits for, as it told, "": nothing */
    const char *devices; /* as it told, "": it did not */
    const struct server_offer *offers;
    uint32_t offers_len;
};

/* In order of arrival. Times count up to the last event that the core saw. */
void core_agents(const struct core *core, void (*visit)(void *arg, const struct agent_info *agent), void *arg);
bool core_agent(const struct core *core, uint64_t id, struct agent_info *out); /* false: unknown */
/* Backend or verifier kind behind bit i of `kinds`; NULL: no such bit. */
const char *core_kind_text(const struct core *core, bool verifier, int bit);

/* Work of one sweep that nobody has. */
struct waiting {
    uint64_t generate, verify, truth;
};
struct waiting core_waiting(const struct core *core, uint32_t sweep);

/* -- status.c: what is there and what it waits for ----------------------------------------------------- */

/* JSON of committed state, of one sweep (by name) or of all (NULL). An unknown name gives an empty list.
 * Every sweep has `waits_for`, a sentence. */
void core_status(const struct core *core, const char *sweep, struct buf *json);
void core_workers(const struct core *core, struct buf *json);

/* The same for a terminal; control characters of names are replaced. */
void status_text(const struct core *core, const char *sweep, struct buf *out);
void workers_text(const struct core *core, struct buf *out);

/* A line on the share of prompt tokens that servers found in their prefix caches; none when there were none. */
void cached_text(uint64_t read, uint64_t cached, struct buf *out);
void killed_text(const struct killed *killed, struct buf *out); /* a line; nothing when there are none */
void killed_json(const struct killed *killed, struct buf *json);

/* Says what no connected worker offers of what the sweep's waiting work needs; false: nothing is missing so. */
bool core_unoffered(const struct core *core, uint32_t sweep, struct buf *why);

/* Appends the sentence alone. */
void core_waits_for(const struct core *core, uint32_t sweep, struct buf *out);

#endif
