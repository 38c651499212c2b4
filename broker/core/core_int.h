/* core_int.h - the core's own records. Only broker/core/ includes this.
 *
 * "derived": rebuilt from facts by core_start, no fact of its own. "volatile": of this process only. All else changes in
 * core_apply alone. Everything is addressed by small ids into arrays, so nothing depends on addresses. */
#ifndef DROVER_CORE_INT_H
#define DROVER_CORE_INT_H

#include "broker/core/core.h"
#include "broker/policy/bins.h"
#include "broker/policy/policy.h"
#include "broker/policy/schedule.h"
#include "common/attachment.h"
#include "common/options.h"
#include "common/limits.h"

#include <uthash.h>
#include <utlist.h>

/* What a budget counts. */
struct amounts {
    uint64_t rollouts, tokens, slot_ms, cost;
};

/* Prompt tokens of kept results: all, and those that a server found in its prefix cache. */
struct reading {
    uint64_t tokens, cached;
};

struct ring { /* queue of prompt ids */
    uint32_t *at;
    uint32_t head, len, cap;
};

enum row_state { ROW_NONE, ROW_LEASED, ROW_DONE, ROW_FAILED };
enum {
    ROW_RACED = 1,    /* flags: had two live attempts */
    ROW_PROMISED = 2, /* its first verdict is reserved in the payer's sweep */
};

/* One rollout of a pool, or one node of a tree. 64 bytes and its features; texts stay in the journal. */
struct row {
    uint64_t class;
    struct ref ref;
    uint32_t tokens_in, tokens_out, latency_ms, payer;
    uint32_t have;   /* bitmap of enum feature */
    float *features; /* owned: those that it has, lowest first */
    uint8_t state, finish, flags;
};

enum score_state { SCORE_NONE, SCORE_WANTED, SCORE_DONE }; /* WANTED is derived */

struct score {
    double score;
    uint8_t state, outcome;
};

struct prompt_row {
    struct ref ref;
    uint32_t bytes, group;
    uint32_t attached; /* of bytes: those that stand for attachments */
};

struct attachment_row {
    struct attachment_id id;
    struct ref ref;
    UT_hash_handle hh;
};

struct group {
    const char *name; /* the set's */
    uint32_t id;
    UT_hash_handle hh;
};

struct set {
    uint64_t digest;
    uint32_t len, filled;
    char *group_by;
    struct prompt_row *prompts;
    char **groups;
    uint32_t groups_len;
    struct group *by_name; /* hash: there may be as many groups as prompts */
};

struct model {
    uint64_t fingerprint;
    char *name, *backend;
    char *offer;       /* what a worker's servers must offer: a name, "*": anything; "": is not asked */
    struct slice spec; /* owned */
    uint32_t max_tokens, template_tokens, timeout_ms, slots;
    uint64_t price_in, price_out;
    struct reading read;
    int kind; /* volatile: bit in an agent's kinds */
};

struct verifier {
    uint64_t fingerprint;
    char *name, *check;
    struct slice spec; /* owned */
    uint32_t timeout_ms;
    uint64_t price;
    bool group; /* compares all rollouts of a prompt: is asked once they are all there, and sees them all */
    int kind;   /* volatile */
};

/* One prompt's rollouts in one pool. rows[0..issued) exist; [issued, want) wait for their first lease. */
struct stock {
    struct row *rows;
    struct score *scores; /* rows_cap x pool->planes_len */
    uint32_t issued, rows_cap;
    uint32_t want; /* derived: largest ordinal bound that some arm asked for */
};

struct pool {
    uint64_t fingerprint, seed;
    struct kill_rule kill;
    uint32_t set, model;
    uint32_t context, features;   /* derived: least context, and features, that its work needs of a server */
    struct stock *stocks;         /* one per prompt of the set */
    uint64_t *homes;              /* volatile: of each prompt, see warm.c; NULL: none yet, or no prefix cache */
    uint32_t *arms, arms_len;     /* arms that draw from it */
    uint32_t *planes, planes_len; /* verifiers whose verdicts its rows keep */
};

enum { NODES_MAX = 1024 * 256 }; /* of one tree: LIMIT_TREE_N x LIMIT_TREE_DEPTH */

struct tree {
    struct row *nodes;
    struct node_view *views; /* same length: what strategies see */
    struct score *scores;    /* 2 per node: of the arm's verifier, of the truth */
    uint64_t *homes;         /* volatile: agent that generated the node, and may hold its prefix */
    uint32_t nodes_len, nodes_cap;
    uint32_t unsettled;   /* nodes without result or, if needed, verdict */
    struct amounts spent; /* what the arm was charged for the others */
    void *record;
    uint32_t *finals, finals_len;
    bool finished;
};

/* One (arm, prompt). Small: there are arms x prompts of them. */
struct cell {
    uint32_t opened, delivered; /* delivered is derived, except under order: strict */
    uint32_t stop, winner;      /* once decided */
    uint32_t heap_at;           /* derived: place in the arm's heap, NO_ID: not in it */
    uint8_t decided;            /* enum decided */
    uint8_t settled;            /* derived: decided, and truth known */
    uint16_t queued;            /* derived: bit of each leg in whose ready ring it is */
    float confidence;
    uint32_t truths;     /* derived: verdicts of the truth still missing */
    struct stats *stats; /* derived: NULL before the first delivery and after the decision */
    struct tree *trees;  /* tree arms, once opened: arm->trees of them, NULL when settled */
};

struct task;

/* Work of an arm in one of its pools. Pools of different models find different agents, so each has its own queues. */
struct leg {
    struct ring ready;     /* derived: prompts of which its arm opened more than the pool has issued */
    uint32_t passed;       /* volatile: how often its oldest ready prompt was left to its home */
    struct task *generate; /* derived: waiting tasks of this pool that the arm pays for */
};

/* What makes an arm a part of an arm of bins: its pilot, or one bin. */
struct bin {
    char *of;        /* name of the arm of bins, "": is no part of one */
    uint32_t number; /* from 1; 0: the pilot */
    enum bins_by by;
    double above, up_to; /* of a prompt's value */
    uint32_t pilot;      /* arm; NO_ID: has none, or is it */
    uint32_t elsewhere;  /* prompts that are of other bins */
};

/* What one more rollout must be worth, and where its arm was when that was set. */
struct pricing {
    double price; /* 0: not yet */
    double spent; /* share of the arm's budget */
    uint32_t decided;
};

struct arm {
    uint32_t id, sweep, verifier, plane, n;
    struct schedule schedule;   /* which leg has which of its positions */
    uint32_t pools[LIMIT_LEGS]; /* of its legs, schedule.legs of them; a tree arm has one */
    struct leg *legs;
    char *name;
    const struct strategy *strategy;
    const struct allocator *allocator;
    const struct stopper *stopper;
    const struct selector *selector;
    struct answering answering;
    double options[4][POLICY_OPTIONS_MAX]; /* strategy, allocator, stopper, selector */
    uint32_t versions[4];                  /* of the policies that the sweep was submitted with */
    uint32_t trees;                        /* 0: samples a pool */
    size_t record_size;
    bool existing; /* has nothing generated: takes what its pool holds */
    bool strict;
    uint32_t lookahead;
    struct amounts caps, charged, reserved; /* 0 in caps: no cap */
    uint64_t verdicts;                      /* paid for */
    uint32_t *report_at, report_at_len;
    struct cell *cells;
    uint32_t prompts;            /* length of cells */
    uint32_t *heap, heap_len;    /* derived: prompts by gain per cost */
    double *gains;               /* derived: of each prompt */
    uint32_t spent;              /* derived: steps of its budget with which the gains were computed */
    struct ring fifo;            /* order: strict: opened and not folded, oldest first */
    uint64_t unfolded;           /* derived: opened - delivered over undecided cells */
    uint32_t decided;            /* cells */
    struct task *verify, *truth; /* derived: waiting tasks that this arm pays for, see also its legs */
    uint32_t verify_len;         /* derived: length of verify */
    uint64_t seed;               /* of its trees */
    char *prior;                 /* where its beliefs come from, "": it has none */
    struct pricing pricing;      /* of its stopper, where that follows the budget */
    float (*beliefs)[2];         /* of each prompt: Beta(a, b); NULL without a prior */
    uint32_t beliefs_len;        /* that the facts have told so far */
    struct bin bin;              /* of difficulty, see bin.c */
};

struct sweep {
    uint32_t id;
    char *name;
    uint64_t seed;
    uint32_t set, truth;
    struct amounts caps, accepted, reserved;
    struct amounts waste[WASTES]; /* burned and not kept; burned = accepted + these */
    struct amounts overrun;       /* what results used beyond their reservations: a fault, but spent */
    struct reading read;
    uint64_t deadline_s, started_s;
    bool count_accepted;
    uint8_t state;
    char *reason;
    struct slice source; /* owned: the sweep file */
    uint32_t *arms, arms_len;
    uint32_t undecided; /* cells */
    uint64_t truths;    /* derived: verdicts of the truth still missing */
    uint64_t judged;    /* derived: those that are there; like truths counted for each arm that shows the rollout */
    uint64_t verdicts;
    uint32_t leased; /* live leases paid by it */
    uint64_t failed; /* tasks given up */
    bool broke;      /* derived: the cap refused the last lease */
    char *refusal;   /* volatile: why an agent refused its work last */
};

enum lease_state { LEASE_LIVE, LEASE_LOST, LEASE_GHOST };

/* LIVE: reserved. LOST: settled at its full reservation, its result would still count. GHOST: settled likewise, its key
 * is closed; kept until its agent says what it really used. */
struct lease {
    uint64_t id, agent;
    struct task *task; /* NULL: ghost */
    uint32_t payer;    /* arm */
    uint8_t state, kind;
    bool held; /* volatile: the agent said in this epoch that it has it, or it was sent in this epoch */
    struct amounts reserved;
    struct lease *task_prev, *task_next;   /* of its task */
    struct lease *agent_prev, *agent_next; /* volatile: of its agent */
    UT_hash_handle hh;
};

enum task_state { TASK_WAITING, TASK_LEASED };

/* A piece of work that exists: leased, or waiting in its payer's list. Not-yet-issued rollouts are counters, not tasks. */
struct task {
    struct key key;
    uint32_t payer;  /* arm of its last lease */
    uint32_t lister; /* derived: arm in whose list it waits, and that pays for its next lease; NO_ID: nobody needs it */
    uint8_t state;
    uint64_t failed_by; /* volatile: agent on which it failed last, 0: none */
    uint64_t home;      /* volatile: agent that holds its prefix, 0: none */
    uint32_t attempts, failures, deaths;
    struct lease *leases;
    struct task *prev, *next; /* derived: in the lister's list while waiting */
    UT_hash_handle hh;
};

struct refusal {
    bool verify;
    uint32_t spec;
};

enum { RECENT = 32 };

struct recent {
    uint32_t pool, prompt;
};

/* volatile */
struct agent {
    uint64_t id;
    char name[65];
    bool verifier, draining, alone; /* alone: runs a suspect task, gets nothing else */
    bool runner;                    /* being offered suspect tasks only */
    uint64_t kinds;
    uint32_t credits, leased, failures;
    int64_t deadline_ms, benched_until_ms, since_ms;
    uint64_t tokens, done;
    struct refusal *refusals;
    uint32_t refusals_len;
    int64_t refused_ms;              /* the last of them; they are forgotten after a while */
    char failure[200];               /* why its last task failed */
    char trouble[LIMIT_TROUBLE + 1]; /* what it said last that its work waits for */
    char *devices;                   /* owned, as the offers' texts */
    struct server_offer *offers;
    uint32_t offers_len;
    struct recent recent[RECENT]; /* prompts that it got last */
    uint32_t recent_at;           /* so many ever */
    uint64_t alike;               /* equal for agents that serve the same */
    struct lease *leases;
    struct agent *prev, *next; /* in order of arrival */
    UT_hash_handle hh;
};

struct core {
    struct core_options options;
    uint64_t epoch, next_lease;
    struct set *sets;
    uint32_t sets_len;
    struct attachment_row *attachments; /* hash by id */
    struct model *models;
    uint32_t models_len;
    struct verifier *verifiers;
    uint32_t verifiers_len;
    struct pool *pools;
    uint32_t pools_len;
    struct sweep *sweeps;
    uint32_t sweeps_len;
    struct arm *arms;
    uint32_t arms_len;
    struct task *tasks;   /* hash by key */
    struct lease *leases; /* hash by id */
    struct agent *agents; /* hash by id, volatile */
    struct agent *fleet;  /* list, volatile */
    char *kinds[2][64];   /* volatile */
    int kinds_len[2];
    bool spared;                        /* volatile: a task was left for the agent that holds its prefix */
    bool left;                          /* volatile: so was a prompt, for its home */
    const struct agent *reserved;       /* volatile: is being run empty for a suspect task */
    uint32_t turn;                      /* volatile: sweep that is served first next */
    bool preferring;                    /* volatile: core_prefer was called, with */
    uint32_t preferred;                 /* volatile: this sweep */
    int64_t now_ms, unix_s, started_ms; /* volatile: of the event at hand */
    bool orphans_done;                  /* volatile: every lease of an earlier epoch was adopted or lost */
    struct update *update;              /* volatile: of the event at hand */
    bool live;                          /* derived state is kept up to date: core_start was called */
    uint32_t suspects;                  /* derived: waiting tasks that killed two workers */
    bool damaged;                       /* a fact took away more than there was: core_apply says ERR_CORRUPT */
    /* audit: the fact that the next decision must equal */
    bool audit;
    struct buf expected; /* decisions made and not yet seen in the journal */
    size_t expected_at;
};

/* core.c */
void emit(struct core *core, const struct fact *fact);    /* remember and apply */
void *grow_array(void *array, uint32_t len, size_t size); /* room for one more, zeroed */

/* ledger.c */
void amounts_add(struct amounts *to, const struct amounts *by);
void amounts_times(struct amounts *amounts, uint64_t factor);
/* Nothing may go below zero: damage, if it would. */
void amounts_sub(struct core *core, struct amounts *from, const struct amounts *by);
bool amounts_fit(const struct amounts *caps, const struct amounts *used, const struct amounts *more);
/* What a generation is charged besides its own tokens and time. */
enum charge {
    CHARGE_STEP,    /* nothing: it goes on behind what was charged */
    CHARGE_ATTEMPT, /* a rollout, of a prompt that was charged with the first attempt */
    CHARGE_PROMPT,  /* a rollout, and the prompt */
};
/* most: tokens that it may generate. */
struct amounts reserve_generate(const struct core *core, uint32_t pool, uint32_t prompt, enum charge charge,
                                uint32_t most);
struct amounts reserve_verify(const struct core *core, uint32_t verifier);
struct amounts cost_generate(const struct core *core, uint32_t model, enum charge charge, uint32_t tokens_in,
                             uint32_t tokens_out, uint32_t latency_ms);
struct amounts cost_row(const struct core *core, uint32_t model, enum charge charge, const struct row *row);
struct amounts cost_verify(const struct core *core, uint32_t verifier, uint32_t latency_ms);
struct amounts sweep_burned(const struct sweep *sweep);
bool sweep_affords(const struct sweep *sweep, const struct amounts *more);
bool arm_affords(const struct arm *arm, const struct amounts *more);
void promise_release(struct core *core, struct row *row); /* of the first verdict on a row */
/* May a verdict be asked for on a rollout that the payer pays; owner: its pool, or arm if that grows trees. */
bool promise_useful(const struct core *core, const struct arm *payer, uint32_t owner, uint32_t prompt);

/* leg.c: positions of a sampling arm are its rollouts in the order in which they count */
uint32_t arm_leg(const struct arm *arm, uint32_t pool); /* NO_ID: does not draw from it */
/* NO_POSITION: the arm never draws it. */
uint32_t arm_position(const struct arm *arm, uint32_t pool, uint32_t ordinal);
uint32_t arm_reach(const struct arm *arm, uint32_t pool, uint32_t positions); /* ordinals of the pool among the first */
struct key arm_key(const struct arm *arm, uint32_t prompt, uint32_t position);
/* NULL: is not issued. */
const struct row *arm_row(const struct core *core, const struct arm *arm, uint32_t prompt, uint32_t position);
bool arms_share(const struct arm *a, const struct arm *b);         /* a pool */
uint32_t key_pool(const struct core *core, const struct key *key); /* that its rollout is of, or its tree's prompt */

/* define.c: definitions */
int define_apply(struct core *core, const struct fact *fact);
struct attachment_row *attachment_of(const struct core *core, struct attachment_id id); /* NULL: not known */
void submit(struct core *core, const struct event *event);
struct belief arm_belief(const struct arm *arm, uint32_t prompt); /* {0, 0}: it has no prior */
void arm_free(struct arm *arm);

/* pool.c */
uint32_t pool_most(const struct core *core, uint32_t pool); /* tokens of one rollout, or of one node */
void row_clear(struct row *row);
/* Takes over what `from` holds of features as numbers of 4 or 8 bytes, one for each bit of have; false: so many are not
 * there. */
bool row_features(struct row *row, uint32_t have, struct slice from, size_t size);
float row_lp_mean(const struct row *row); /* 0: has none */
struct item row_item(const struct row *row, const struct score *score, uint32_t position, uint32_t leg);
/* Does the arm wait for its verifier's verdict on this rollout, and pay it? Not for one that a recorded pool does not have,
 * nor for one that was killed: that has no answer. Where its verifier is the truth too, the report asks about the latter. */
bool row_judged(const struct core *core, const struct arm *arm, const struct row *row);
struct row *key_row(const struct core *core, const struct key *key);     /* NULL when there is none */
struct score *key_score(const struct core *core, const struct key *key); /* of a TASK_VERIFY key */
void stock_reserve(struct pool *pool, struct stock *stock, uint32_t rows);
void pool_add_plane(struct pool *pool, uint32_t verifier);
void pool_widen(struct core *core, uint32_t pool, uint32_t planes_old); /* after planes were added */
uint32_t pool_plane(const struct pool *pool, uint32_t verifier);        /* NO_ID: none */
int voided_apply(struct core *core, const struct fact_voided *f);
uint32_t cell_wants(const struct cell *cell); /* positions that it asked for */
/* The confidence below which this rollout is ended; 0: it is not. A function of the warm-up, for arms with a kill rule ask
 * for what stands behind it when it is delivered. */
double stock_kill(const struct pool *pool, uint32_t prompt, uint32_t ordinal);
void stock_bound(struct core *core, uint32_t pool, uint32_t prompt,
                 uint32_t from); /* after a decision: lower want, void */
void arm_want(struct core *core, struct arm *arm, uint32_t prompt, uint32_t want);

/* cell.c: delivery and decisions of sampling arms */
/* What the arm reserves for one rollout of this prompt at most, its verdict included. */
struct amounts arm_unit(const struct core *core, const struct arm *arm, uint32_t prompt, uint32_t pool);
int open_apply(struct core *core, const struct fact_open *f);
int fold_apply(struct core *core, const struct fact_fold *f);
int decide_apply(struct core *core, const struct fact_decide *f);
void cell_advance(struct core *core, struct arm *arm, uint32_t prompt);
void arm_advance(struct core *core, struct arm *arm);                 /* strict window; end of a spent budget */
void cell_touch(struct core *core, struct arm *arm, uint32_t prompt); /* its gain may have changed */
void heap_build(struct core *core, struct arm *arm);
bool arm_open_next(struct core *core, struct arm *arm); /* order: arrival: true when something was opened */
/* Whether another arm of its sweep has rollouts of a pool of it generated; ended: or had, and is through. */
bool arm_fed(const struct core *core, const struct arm *arm, bool ended);
bool arm_may_open(const struct core *core, const struct arm *arm);
void cell_refold(struct core *core, struct arm *arm, uint32_t prompt); /* what was delivered before a restart */
int cell_restore(struct core *core, struct arm *arm, uint32_t prompt, uint32_t delivered);
void cell_want_truth(struct core *core, struct arm *arm, uint32_t prompt, uint32_t from, uint32_t to);
void cell_truth_done(struct core *core, struct arm *arm, uint32_t prompt);
void cell_settle(struct core *core, struct arm *arm, uint32_t prompt);
void ring_push(struct ring *ring, uint32_t value);
uint32_t ring_pop(struct ring *ring);

struct item cell_item(const struct core *core, const struct arm *arm, uint32_t prompt, uint32_t k);
void cell_decide(struct core *core, struct arm *arm, uint32_t prompt, enum decided why);

/* bin.c: arms of one bin of difficulty */
bool bin_valid(const struct fact_arm *f, const struct arm *arm); /* does what the fact says of a bin make sense? */
bool bin_same(const struct fact_arm *f, const struct arm *arm);
int bin_join(const struct core *core, const struct fact_arm *f,
             struct arm *arm); /* ERR_CORRUPT: its pilot is not there */
bool bin_is_pilot(const struct arm *arm);
bool bin_waits(const struct core *core, const struct arm *arm, uint32_t prompt); /* nobody knows yet whose it is */
void bin_place(struct core *core, struct arm *arm);                              /* every prompt that waits no more */
void bin_tell(struct core *core, const struct arm *pilot, uint32_t prompt);      /* it decided */
/* The pilot was charged for this rollout; verdict: for the arm's verdict on it, too. */
bool bin_paid(const struct core *core, const struct arm *arm, const struct key *key, bool *verdict);

/* price.c */
double arm_spent(const struct arm *arm); /* share of its budget that it was charged */
double arm_price(const struct arm *arm); /* 0: it follows no budget */
int price_apply(struct core *core, const struct fact_price *f);
void react_price(struct core *core, struct arm *arm);
void price_follow(struct core *core, struct arm *arm); /* the arm was charged, or has decided */
void price_again(struct core *core, struct arm *arm);  /* its n or budget may have grown */

/* tree.c */
int spawn_apply(struct core *core, const struct fact_spawn *f);
int note_apply(struct core *core, const struct fact_note *f);
int finish_apply(struct core *core, const struct fact_finish *f);
void tree_open(struct core *core, struct arm *arm, uint32_t prompt);
void tree_settle(struct core *core, struct arm *arm, uint32_t prompt, uint32_t tree, uint32_t node);
void tree_plan(struct core *core, struct arm *arm, uint32_t prompt, uint32_t tree);
void tree_resume(struct core *core, struct arm *arm, uint32_t prompt);
/* How a node is asked for; false: not of this arm. */
bool node_valid(const struct core *core, const struct arm *arm, const struct tree *tree, const struct node_view *node);
void tree_add(struct core *core, struct arm *arm, uint32_t prompt, struct tree *tree, const struct node_view *node);
/* Does the arm's verifier judge this node of it? Then that settles the node. */
bool node_judged(const struct core *core, const struct key *key);
/* In apply: a node of the tree is settled. */
void tree_spend(const struct core *core, const struct arm *arm, struct tree *tree, uint32_t node);
enum charge node_charge(const struct arm *arm, const struct node_view *node);
/* What is still reserved of the arm's own budget for an opened prompt, where the strategy says how much it takes at most. */
struct amounts trees_hold(const struct core *core, const struct arm *arm, uint32_t prompt);
void trees_free(const struct arm *arm, struct cell *cell);

/* task.c */
struct task *task_find(const struct core *core, const struct key *key);
struct task *task_want(struct core *core, const struct key *key, uint32_t payer); /* waiting, if new */
void task_wait(struct core *core, struct task *task);   /* into the list of an arm that pays */
bool task_pass(struct core *core, struct task *task);   /* to an arm that awaits it as the truth */
void task_relist(struct core *core, struct task *task); /* whoever needs it may have changed */
void task_unlist(struct core *core, struct task *task); /* out of it */
void task_close(struct core *core, struct task *task,
                uint64_t winner); /* live leases other than winner become ghosts */
bool key_open(const struct core *core, const struct key *key, uint32_t payer); /* may still get a result? */
int lease_apply(struct core *core, const struct fact_lease *f);
int result_apply(struct core *core, const struct fact_result *f);
int verdict_apply(struct core *core, const struct fact_verdict *f);
int fail_apply(struct core *core, const struct fact_fail *f);
int lost_apply(struct core *core, const struct fact_lost *f);
int give_up_apply(struct core *core, const struct fact_give_up *f);
int correct_apply(struct core *core, const struct fact_correct *f);
int forget_apply(struct core *core, const struct fact_forget *f);
int epoch_apply(struct core *core, const struct fact_epoch *f);
void lease_lose(struct core *core, struct lease *lease, enum lost why);
void lease_drop(struct core *core, struct lease *lease); /* out of all lists, freed */
void react_generated(struct core *core, const struct key *key);
void react_verified(struct core *core, const struct key *key);
void react_trouble(struct core *core, const struct task *task);
void arm_relist(struct core *core, const struct arm *arm, uint32_t prompt, uint32_t from, uint32_t to);
uint32_t group_len(const struct core *core, const struct arm *arm, uint32_t prompt); /* 0: some are still missing */
void arm_verify(struct core *core, struct arm *arm, uint32_t prompt, uint32_t from, uint32_t to);
struct amounts lease_needs(const struct core *core, const struct key *key, uint32_t payer);
void event_result(struct core *core, const struct event *event);
void event_verdict(struct core *core, const struct event *event);
void event_fail(struct core *core, const struct event *event);
void event_return(struct core *core, const struct event *event);
/* dump.c */
struct fact model_fact(const struct core *core, uint32_t model); /* definitions, as they stand */
struct fact verifier_fact(const struct core *core, uint32_t verifier);
struct fact sweep_fact(const struct core *core, uint32_t sweep);
struct fact arm_fact(const struct core *core, uint32_t arm);
int snapshot_apply(struct core *core, const struct fact *fact);

/* fleet.c */
struct agent *agent_find(const struct core *core, uint64_t id);
void event_hello(struct core *core, const struct event *event);
void event_heartbeat(struct core *core, const struct event *event);
void event_gone(struct core *core, const struct event *event);
void event_drain(struct core *core, const struct event *event);
void event_refuse(struct core *core, const struct event *event);
void fleet_tick(struct core *core);
bool agent_refuses(const struct agent *agent, bool verify, uint32_t spec);
void agent_forgive(struct agent *agent, bool verify, uint32_t spec); /* it may be asked for that again */
void agents_free(struct core *core);

/* offer.c */
struct demand {         /* of work, on the servers of a worker */
    int kind;           /* bit of the backend */
    struct slice model; /* as model.offer */
    uint32_t features, context;
};
uint32_t context_needed(uint32_t prompt_bytes, uint32_t max_tokens); /* of one server, at the least */
uint32_t features_needed(const struct arm *arm);
const char *feature_text(int feature);
struct demand pool_demand(const struct core *core, uint32_t pool);
bool agent_offers(const struct core *core, const struct agent *agent, uint32_t pool);
/* Says what no connected worker of the backend offers; false: one offers all, or none is connected. */
bool offers_lack(const struct core *core, uint32_t pool, struct buf *out);
/* ERR_REFUSED when the model is offered here, and what the arm needs of it is not. */
int offers_check(const struct core *core, const struct demand *demand, struct slice arm, struct error *error);
void offers_take(struct agent *agent, const struct event *event); /* from its HELLO */
void offers_clear(struct agent *agent);

/* warm.c */
struct agent *warm_home(const struct core *core, uint32_t pool, uint32_t prompt);       /* NULL: none */
void warm_note(struct core *core, uint32_t pool, uint32_t prompt, struct agent *agent); /* it gets a rollout of it */
/* A prompt that the agent got lately, and of which the arm has an ordinal of this leg that nobody has. */
bool warm_next(const struct core *core, const struct arm *arm, uint32_t leg, const struct agent *agent,
               uint32_t *prompt);

/* dispatch.c */
void dispatch(struct core *core);
uint64_t key_seed(const struct core *core, const struct key *key);
void event_control(struct core *core, const struct event *event);

struct send *send_add(struct core *core, enum send_type type, uint64_t agent, uint64_t lease);

#endif
