/* forecast.h - which arm to run, and what it will give and cost, from a pilot of a few rollouts of each prompt.
 *
 * Candidates are arms of a sweep file: votes of N, stops, allocations, and what verifiers allow. Each is simulated
 * (simulate.h) in worlds that are drawn from the pilot: prompts resampled, laws fitted again, rates and answers of each
 * prompt from their posterior. So an interval holds what the pilot leaves open and the luck of the run itself. No N goes
 * beyond ten times the pilot's: further the tail of a fitted law would decide. */
#ifndef DROVER_FORECAST_H
#define DROVER_FORECAST_H

#include "broker/pilot.h"
#include "broker/policy/split.h"
#include "broker/simulate.h"

enum forecast_unit { UNIT_ROLLOUTS, UNIT_TOKENS, UNIT_COST };
enum { UNITS = UNIT_COST + 1, FORECAST_PROMPTS_MIN = 10, FORECAST_DECADE = 10, FORECAST_N_MAX = 4096 };

/* A verifier that arms may ask. */
struct forecast_verifier {
    char name[65];
    struct error_rates rates;
    double icc; /* how alike it takes equal wrong answers */
};

struct forecast_options {
    double target; /* accuracy, NAN: the budget counts */
    double budget; /* of all prompts together, NAN: none */
    enum forecast_unit unit;
    uint32_t prompts; /* new prompts of the pilot's kind; 0: for the pilot's own */
    uint32_t worlds;
    uint64_t seed;
    const char *right_by;                /* verifier whose passes are the pilot's right rollouts; "": as recorded */
    const char *truth;                   /* verifier that knows, if arms may ask it; NULL: they may not */
    double judgement;                    /* price of a judgement, in rollouts */
    double price_in, price_out;          /* of a million tokens */
    struct forecast_verifier *verifiers; /* borrowed */
    uint32_t verifiers_len;
    void (*progress)(uint32_t done, uint32_t worlds); /* told after each of them; NULL: nobody is */
};

/* Of a prompt, over worlds: mean and the middle 95% of a normal law. */
struct forecast_candidate {
    const struct sweep_arm *arm;
    const char *text; /* the arm in a sweep file's words */
    struct interval accuracy, cost[UNITS], rollouts;
    uint32_t chosen; /* worlds whose own numbers would have chosen it */
    double half_accuracy[2],
        half_cost[2]; /* on the harder and the easier half of the prompts; in the forecast's unit */
};

struct forecast_split {
    uint32_t verifier; /* of the options */
    bool known;
    struct split_law law;
    double crossover; /* budget in rollouts, INFINITY: none within reach */
    double ceiling;   /* accuracy that repeating until it accepts never passes */
    uint32_t repeats; /* worthwhile ones when a false answer costs as much as a right one gains; UINT32_MAX: no end */
};

#define NO_CANDIDATE UINT32_MAX

struct forecast {
    const struct pilot *pilot;
    struct forecast_options options;
    struct pilot_fit fit;
    uint32_t prompts, n_most;
    struct simulation_spec spec;
    char **texts; /* of the candidates; owned */
    struct forecast_candidate *candidates;
    uint32_t len;
    uint32_t best;      /* NO_CANDIDATE: none reaches the target, or fits the budget */
    uint32_t highest;   /* the most accurate */
    double chance;      /* share of the worlds in which the best one reached the target or kept to the budget */
    uint32_t halves[2]; /* what the harder and the easier half alone would choose */
    struct forecast_split splits[PILOT_VERIFIERS + 1];
};

/* The pilot and what the options borrow must outlive it. ERR_REFUSED: the pilot is too small to tell. */
struct forecast *forecast_new(const struct pilot *pilot, const struct forecast_options *options, struct error *error);
void forecast_free(struct forecast **forecast);

void forecast_text(const struct forecast *forecast, struct buf *out);
void forecast_json(const struct forecast *forecast, struct buf *out);

#endif
