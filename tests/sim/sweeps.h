/* sweeps.h - what the simulator submits: one or two sweeps over one pool, drawn from the seed, and how they grow. Some
 * arms join a second pool, of a model with longer rollouts. */
#ifndef DROVER_TESTS_SIM_SWEEPS_H
#define DROVER_TESTS_SIM_SWEEPS_H

#include "broker/core/core.h"
#include "broker/policy/bins.h"
#include "common/rng.h"

#include <math.h>
#include <string.h>

enum {
    PROMPTS = 4,
    MAX_TOKENS = 20,
    DEAR_TOKENS = 30, /* of the second model */
    TEMPLATE_TOKENS = 2,
    BYTES_FIRST = 10,
    VERIFIERS = 3,
    PANEL = 2,
    PANEL_N = 3,
    SWEEPS = 2,
    DEAR_POOL = 1,
    KILL_POOL = 2
};

/* What one seed says of one sweep. */
struct draft {
    bool strict, accepted, truth, competes;
    int middle; /* row of middles */
    uint32_t truth_verifier, n, n_plain;
    bool plain_strict, search, particles;
    uint64_t rollouts, tokens, slot_ms, cost, deadline_s; /* caps of the sweep */
    uint64_t own, own_search;                             /* rollouts that the middle arm, the search arm may charge */
    bool grows, late_arm;
    uint32_t n_more;
    bool again;  /* an arm that only judges what exists */
    bool prior;  /* the middle arm goes by beliefs about its prompts, where it eliminates */
    bool prices; /* the middle arm's stopper has a price that follows its budget */
    bool kills;  /* an arm whose rollouts are ended early, over a pool of its own */
    bool bins, bin_passes, bin_trees, bin_strict; /* an arm of bins: how hard prompts are, what the easy ones get */
    const char *loops;                            /* strategy of an arm that continues its texts; NULL: there is none */
    bool panel;                                   /* an arm whose verifier, PANEL, compares its PANEL_N rollouts */
    bool joins;                                   /* an arm over both pools: */
    bool rounds, turned, join_strict, join_competes, join_existing;
    uint32_t join_n, join_len[2], join_verifier;
    enum {
        JOIN_PLAIN,
        JOIN_FLIP,
        JOIN_PRIOR
    } join_kind;                  /* what its prompts compete by, if not as join_competes says */
    uint64_t own_join, own_kills; /* rollouts that these arms may charge */
    bool reselects;               /* the sweep only decides over what the first one has, and once more in the end */
};

static uint64_t draft_bits(uint64_t seed, uint32_t sweep, uint64_t what)
{
    return rng_u64(seed, RNG_TEST, 2 + (uint64_t)sweep, what) >> 8;
}

static struct draft draft_sweep(uint64_t seed, uint32_t sweep)
{
    uint64_t at = 0;
#define DRAW(n) ((uint32_t)(draft_bits(seed, sweep, at++) % (n)))
    struct draft d = {.strict = DRAW(2)};
    d.accepted = DRAW(2);
    d.truth = DRAW(4) != 0;
    d.middle = (int)DRAW(5);
    uint32_t cap = DRAW(9), room = DRAW(1000);
    d.truth_verifier = sweep == 0 ? 0 : DRAW(2);
    d.competes = d.middle == 1 || d.middle == 4;
    d.n = 5 + DRAW(4);
    d.n_plain = 3 + DRAW(6);
    d.plain_strict = DRAW(2);
    d.search = sweep == 0 || DRAW(3) == 0;
    d.particles = DRAW(2);
    d.rollouts = cap == 1 ? 20 + room % 40 : 0;
    d.tokens = cap == 2 ? 400 + room : 0;
    d.cost = cap == 3 ? 60 + room % 100 : 0;
    d.slot_ms = cap == 4 ? 9000 + 20 * room : 0;
    d.deadline_s = cap == 5 ? 1 + room % 2 : 0;
    d.own = cap == 6 || cap == 7 ? 9 + room % 12 : 0;
    d.own_search = cap == 7 ? 5 + room % 12 : 0;
    d.grows = DRAW(3) == 0;
    d.late_arm = DRAW(2);
    d.n_more = 1 + DRAW(4);
    d.again = DRAW(3) == 0;
    d.panel = DRAW(3) == 0;
    d.joins = DRAW(2);
    d.rounds = DRAW(2);
    d.turned = DRAW(2);
    d.join_strict = DRAW(2);
    d.join_competes = DRAW(4) == 0;
    d.join_existing = DRAW(6) == 0;
    d.join_n = 5 + DRAW(4);
    d.join_len[0] = 1 + DRAW(3);
    d.join_len[1] = 1 + DRAW(2);
    d.join_verifier = d.join_competes || DRAW(2) ? 1 : NO_ID;
#undef DRAW
    uint64_t bins = rng_u64(seed, RNG_TEST, 15, sweep);
    d.bins = bins % 3 == 0;
    d.bin_passes = bins >> 8 & 1;
    d.bin_trees = bins >> 9 & 1;
    d.bin_strict = bins >> 10 & 1;
    static const char *const loops[] = {"revise", "budget-forcing", NULL, NULL};
    d.loops = loops[rng_u64(seed, RNG_TEST, 16, sweep) % 4];
    d.kills = rng_u64(seed, RNG_TEST, 14, sweep) % 3 == 0;
    d.prices = d.own > 0 && rng_u64(seed, RNG_TEST, 17, sweep) % 2;
    d.prior = d.middle == 1 && rng_u64(seed, RNG_TEST, 12, sweep) % 2;
    uint64_t bits = rng_u64(seed, RNG_TEST, 15, sweep);
    if (d.joins && !d.join_existing && bits % 3 > 0) {
        d.join_kind = bits % 3 == 1 ? JOIN_FLIP : JOIN_PRIOR;
        d.join_verifier = d.join_kind == JOIN_PRIOR ? 1 : NO_ID;
        d.join_competes = true;
    }
    d.own_join = (bits >> 8) % 3 == 0 ? 7 + (bits >> 16) % 14 : 0;
    d.own_kills = (bits >> 24) % 4 == 0 ? 5 + (bits >> 32) % 14 : 0;
    d.reselects = sweep > 0 && (bits >> 40) % 3 == 0;
    if (d.reselects) {
        d.rollouts = d.tokens = d.cost = d.slot_ms = d.deadline_s = 0;
        d.grows = true;
        d.n_more = 0;
    }
    return d;
}

/* Are its decisions the same on any fleet, whatever happens? */
static inline bool draft_promises(const struct draft *d)
{
    if (d->rollouts + d->tokens + d->cost + d->slot_ms + d->deadline_s + d->own_search > 0 || d->again || d->reselects)
        return false;
    if (d->joins && (d->join_existing || ((d->join_competes || d->own_join > 0) && (!d->join_strict || d->grows))))
        return false;
    if (d->kills && d->own_kills > 0 && (!d->plain_strict || d->grows))
        return false;
    bool shared = d->own > 0 || d->competes; /* prompts compete: their order matters */
    return !shared || (d->strict && !d->grows);
}

static void default_options(double *to, const struct option_row *options)
{
    for (int i = 0; options != NULL && options[i].name != NULL; i++)
        to[i] = options[i].fallback;
}

struct arm_draft {
    const char *name, *strategy, *allocator, *stopper, *selector;
    uint32_t n, verifier;
    bool strict;
    uint64_t rollouts;
    bool existing, prior;
    bool kills;
};

/* What an arm is of the arm of bins; number 0 is the pilot. */
struct bin_draft {
    bool part, passes;
    uint8_t number;
};

/* A window is a token, so that every rollout has a whole one. */
static const struct kill_rule sim_kill = {.window = 1, .warmup = 2, .keep = 50};

/* What is believed to speak against a prompt, beside one pass. */
static uint64_t belief_against(uint64_t seed, uint32_t prompt)
{
    return 1 + rng_u64(seed, RNG_TEST, 13, prompt) % 8;
}

/* In parts of one prompt each. */
static void put_beliefs(struct buf *to, uint32_t arm, uint64_t seed)
{
    for (uint32_t p = 0; p < PROMPTS; p++) {
        float belief[2] = {1, (float)belief_against(seed, p)};
        fact_put(to,
                 &(struct fact){.type = FACT_prior,
                                .prior = {.arm = arm, .from = p, .beliefs = {(const char *)belief, sizeof belief}}});
    }
}

struct legs_draft {
    uint32_t pools[2], lens[2], legs; /* legs: 0: the first pool alone */
    bool rounds;
};

static void put_arm_of(struct buf *to, uint32_t id, const struct arm_draft *a, const struct legs_draft *legs,
                       struct bin_draft bin)
{
    double options[4][POLICY_OPTIONS_MAX] = {0};
    default_options(options[0], strategy_find(a->strategy)->options);
    default_options(options[1], allocator_find(a->allocator)->options);
    default_options(options[2], stopper_find(a->stopper)->options);
    default_options(options[3], selector_find(a->selector)->options);
    if (strcmp(a->stopper, "value") == 0) /* `adapt` */
        options[2][5] = 1;
    if (a->kills) /* as the options of deepconf stand */
        memcpy(options[2], (const double[]){sim_kill.warmup, sim_kill.keep, 0.9, sim_kill.window}, 4 * sizeof(double));
    fact_put(to, &(struct fact){.type = FACT_arm,
                                .arm = {.id = id,
                                        .name = slice_of(a->name),
                                        .strategy = slice_of(a->strategy),
                                        .allocator = slice_of(a->allocator),
                                        .stopper = slice_of(a->stopper),
                                        .selector = slice_of(a->selector),
                                        .n = a->n,
                                        .verifier = a->verifier,
                                        .strict = a->strict,
                                        .existing = a->existing,
                                        .pool = legs->pools[0],
                                        .rounds = legs->rounds,
                                        .pools = {(const char *)legs->pools, legs->legs * sizeof *legs->pools},
                                        .lens = {(const char *)legs->lens, legs->legs * sizeof *legs->lens},
                                        .abstains = id % 3 == 1,
                                        .abstain = 0.4,
                                        .top = id % 4 == 2 ? 3 : 0,
                                        .lookahead = 5,
                                        .rollouts = a->rollouts,
                                        .prior = slice_of(a->prior ? "drawn" : ""),
                                        .of = slice_of(bin.part ? "binned" : ""),
                                        .bin = bin.number,
                                        .by = bin.passes ? BY_PASSES : BY_AGREEMENT,
                                        .above = bin.number == 2 ? 0.5 : -INFINITY,
                                        .up_to = bin.number == 2 ? INFINITY : 0.5,
                                        .options = {(const char *)options, sizeof options}}});
}

static void put_arm_over(struct buf *to, uint32_t id, const struct arm_draft *a, const struct legs_draft *legs)
{
    put_arm_of(to, id, a, legs, (struct bin_draft){0});
}

static void put_arm(struct buf *to, uint32_t id, const struct arm_draft *a)
{
    put_arm_over(to, id, a, &(struct legs_draft){.pools = {a->kills ? KILL_POOL : 0}});
}

/* Half of all histories are of a backend with a prefix cache. */
static const char *sim_backend(uint64_t seed)
{
    return rng_u64(seed, RNG_TEST, 11, 0) % 2 ? "openai" : "sim";
}

static void put_world(struct buf *to, uint64_t seed)
{
    fact_put(to, &(struct fact){.type = FACT_set, .set = {.digest = 7, .len = PROMPTS}});
    for (uint32_t p = 0; p < PROMPTS; p++)
        fact_put(to, &(struct fact){
                         .type = FACT_prompt,
                         .prompt = {
                             .ref_commit = 1, .ref_offset = p, .ref_len = 1, .bytes = BYTES_FIRST + p, .attached = p}});
    for (uint64_t i = 0; i < 4; i++) /* two of them are the same */
        fact_put(to, &(struct fact){.type = FACT_attachment, .attachment = {.high = i / 2, .ref_commit = 1}});
    fact_put(to, &(struct fact){.type = FACT_model,
                                .model = {.fingerprint = 11,
                                          .name = slice_of("m"),
                                          .backend = slice_of(sim_backend(seed)),
                                          .max_tokens = MAX_TOKENS,
                                          .template_tokens = TEMPLATE_TOKENS,
                                          .timeout_ms = 1000,
                                          .offer = slice_of("m")}});
    fact_put(to, &(struct fact){.type = FACT_model,
                                .model = {.id = 1,
                                          .fingerprint = 12,
                                          .name = slice_of("dear"),
                                          .backend = slice_of(sim_backend(seed)),
                                          .max_tokens = DEAR_TOKENS,
                                          .template_tokens = TEMPLATE_TOKENS,
                                          .timeout_ms = 1500,
                                          .price_out = 100000,
                                          .offer = slice_of("m")}});
    for (uint32_t v = 0; v < VERIFIERS; v++)
        fact_put(to, &(struct fact){.type = FACT_verifier,
                                    .verifier = {.id = v,
                                                 .fingerprint = 21 + v,
                                                 .name = slice_of(v == 0       ? "truth"
                                                                  : v == PANEL ? "panel"
                                                                               : "judge"),
                                                 .kind = slice_of("sim"),
                                                 .timeout_ms = 500,
                                                 .price = 3,
                                                 .group = v == PANEL}});
    fact_put(to, &(struct fact){.type = FACT_pool, .pool = {.fingerprint = 31, .seed = seed}});
    fact_put(to,
             &(struct fact){.type = FACT_pool, .pool = {.id = DEAR_POOL, .fingerprint = 32, .model = 1, .seed = seed}});
    fact_put(to, &(struct fact){.type = FACT_pool,
                                .pool = {.id = KILL_POOL,
                                         .fingerprint = 33,
                                         .seed = seed,
                                         .kill_window = sim_kill.window,
                                         .kill_warmup = sim_kill.warmup,
                                         .kill_keep = sim_kill.keep}});
}

/* An arm over both pools, in rounds or in blocks. */
static void put_joined(struct buf *to, uint32_t id, uint64_t seed, const struct draft *d, uint32_t more)
{
    struct arm_draft arm = {.name = "joined",
                            .strategy = "sample",
                            .allocator = d->join_kind == JOIN_FLIP    ? "flip"
                                         : d->join_kind == JOIN_PRIOR ? "marginal-gain"
                                         : d->join_competes           ? "elimination"
                                                                      : "uniform",
                            .stopper = d->join_kind != JOIN_PLAIN  ? "none"
                                       : d->join_competes          ? "beta"
                                       : d->join_verifier != NO_ID ? "none"
                                       : d->rounds                 ? "agree"
                                                                   : "cascade",
                            .selector = d->join_kind == JOIN_FLIP   ? "majority"
                                        : d->join_verifier != NO_ID ? "best"
                                        : d->rounds                 ? "two-stage"
                                                                    : "last-model",
                            .n = d->join_n + more,
                            .verifier = d->join_verifier,
                            .strict = d->join_strict,
                            .rollouts = d->own_join * (more > 0 ? 3 : 1),
                            .existing = d->join_existing || d->reselects,
                            .prior = d->join_kind == JOIN_PRIOR};
    struct legs_draft legs = {.pools = {d->turned, !d->turned},
                              .lens = {d->join_len[0], d->rounds ? d->join_len[1] : 0},
                              .legs = 2,
                              .rounds = d->rounds};
    put_arm_over(to, id, &arm, &legs);
    if (arm.prior)
        put_beliefs(to, id, seed);
}

static void put_kills(struct buf *to, uint32_t id, const struct draft *d, uint32_t more)
{
    put_arm(to, id,
            &(struct arm_draft){.name = "kills",
                                .strategy = "sample",
                                .allocator = "uniform",
                                .stopper = "deepconf",
                                .selector = "majority",
                                .n = d->n + more,
                                .verifier = d->accepted ? 1 : NO_ID,
                                .strict = d->plain_strict,
                                .rollouts = d->own_kills * (more > 0 ? 3 : 1),
                                .existing = d->reselects,
                                .kills = true});
}

/* New decisions over what the first sweep has. */
static void put_reselection(struct buf *to, uint64_t seed, const struct draft *d)
{
    uint32_t arms = 0;
    put_arm(to, arms++,
            &(struct arm_draft){"over", "sample", d->truth ? "elimination" : "uniform", "beta", "best", 9, 1, d->strict,
                                0, true, false, false});
    put_arm(to, arms++,
            &(struct arm_draft){"vote", "sample", "uniform", "none", "majority", d->n, NO_ID, false, 0, true, false,
                                false});
    if (d->joins)
        put_joined(to, arms++, seed, d, 0);
    if (d->kills)
        put_kills(to, arms++, d, 0);
}

/* A pilot, and two bins: the hard prompts draw more from its pool, the easy ones less, or grow trees. */
static void put_bins(struct buf *to, uint32_t *arms, const struct draft *d, uint32_t more)
{
    struct arm_draft parts[3] = {
        {.name = "binned.pilot", .n = 2},
        {.name = "binned.1", .n = 5 + more},
        {.name = "binned.2", .n = 3 + more},
    };
    for (uint8_t i = 0; i < 3; i++) {
        parts[i].strategy = "sample";
        parts[i].allocator = i == 1 && d->bin_passes ? "elimination" : "uniform";
        parts[i].stopper = i == 2 ? "beta" : "none";
        parts[i].selector = "majority";
    }
    if (d->bin_trees) {
        parts[2].strategy = "dvts";
        parts[2].stopper = "none";
        parts[2].n = 4;
    }
    for (uint8_t i = 0; i < 3; i++) {
        parts[i].strict = d->bin_strict;
        parts[i].verifier = d->bin_passes || (i == 2 && d->bin_trees) ? 1 : NO_ID;
        put_arm_of(to, (*arms)++, &parts[i], &(struct legs_draft){{0}, {0}, 0, false},
                   (struct bin_draft){true, d->bin_passes, i});
    }
}

/* The definitions of a sweep, before or after it grew: three arms over one pool, one of which searches trees. */
static inline void put_sweep(struct buf *to, uint64_t seed, uint32_t id, bool grown)
{
    static const struct {
        const char *allocator, *stopper, *selector;
        uint32_t verifier;
    } middles[5] = {{"uniform", "beta", "majority", NO_ID},
                    {"elimination", "none", "first-pass", 1},
                    {"uniform", "none", "best", 1},
                    {"uniform", "beta", "weighted", 1},
                    {"blend", "none", "majority", NO_ID}};
    struct draft d = draft_sweep(seed, id);
    uint64_t times = grown && d.grows ? 3 : 1;
    uint32_t more = grown && d.grows ? d.n_more : 0, arms = 0;
    put_world(to, seed);
    fact_put(to, &(struct fact){.type = FACT_sweep,
                                .sweep = {.name = slice_of(id == 0 ? "first" : "second"),
                                          .seed = seed,
                                          .truth = d.truth ? d.truth_verifier : NO_ID,
                                          .rollouts = times * d.rollouts,
                                          .tokens = times * d.tokens,
                                          .slot_ms = times * d.slot_ms,
                                          .cost = times * d.cost,
                                          .deadline_s = times * d.deadline_s,
                                          .accepted = d.accepted}});
    if (d.reselects) {
        put_reselection(to, seed, &d);
        return;
    }
    put_arm(to, arms++,
            &(struct arm_draft){"middle", "sample", d.prior ? "marginal-gain" : middles[d.middle].allocator,
                                d.prices ? "value" : middles[d.middle].stopper, middles[d.middle].selector, d.n + more,
                                middles[d.middle].verifier, d.strict, times * d.own, false, d.prior, false});
    if (d.prior)
        put_beliefs(to, 0, seed);
    put_arm(to, arms++,
            &(struct arm_draft){"plain", "sample", "uniform", d.plain_strict ? "beta" : "none", "majority",
                                d.n_plain + more, NO_ID, d.plain_strict, 0, false, false, false});
    if (d.search)
        put_arm(to, arms++,
                &(struct arm_draft){"search", d.particles ? "particles" : "dvts", "uniform", "none",
                                    d.particles ? "best" : "majority", 4, 1, false, times * d.own_search, false, false,
                                    false});
    if (d.bins)
        put_bins(to, &arms, &d, more);
    if (d.panel)
        put_arm(to, arms++,
                &(struct arm_draft){"panel", "sample", "uniform", "none", "best", PANEL_N, PANEL, false, 0, false,
                                    false, false});
    if (d.again && !d.particles)
        put_arm(
            to, arms++,
            &(struct arm_draft){"again", "sample", "existing", "none", "best", 9, 1, false, 0, false, false, false});
    if (d.again && d.particles) /* decides over what exists, in its window or as it comes */
        put_arm(to, arms++,
                &(struct arm_draft){"over", "sample", d.truth ? "elimination" : "uniform", d.truth ? "beta" : "none",
                                    "best", 9, 1, d.plain_strict, 0, true, false, false});
    if (d.joins)
        put_joined(to, arms++, seed, &d, more);
    if (d.kills)
        put_kills(to, arms++, &d, more);
    if (d.loops != NULL)
        put_arm(to, arms++,
                &(struct arm_draft){.name = "loops",
                                    .strategy = d.loops,
                                    .allocator = "uniform",
                                    .stopper = "none",
                                    .selector = d.accepted ? "best" : "majority",
                                    .n = 4,
                                    .verifier = d.accepted ? 1 : NO_ID,
                                    .rollouts = times * d.own_search});
    if (d.late_arm && more > 0)
        put_arm(to, arms++,
                &(struct arm_draft){"late", "sample", "uniform", "none", "best", 5, 1, false, 0, false, false, false});
}

#endif
