/* simulate.h - arms of a sweep file in worlds with known laws: the broker's core and policies under a fleet in virtual
 * time.
 *
 * Only what generates, judges and carries is made up; what decides is what decides in production. All arms meet the same
 * prompts, rollouts and verdicts (world.h). Each arm has a core, and so a fleet, of its own. */
#ifndef DROVER_SIMULATE_H
#define DROVER_SIMULATE_H

#include "broker/policy/saving.h"
#include "broker/report_curve.h"
#include "broker/sweep_file.h"
#include "broker/world.h"

/* Worlds; prompts of all worlds; their classes of answers, all together. */
enum { SIMULATE_WORLDS_MAX = 1000, SIMULATE_PROMPTS_MAX = 1000000, SIMULATE_CLASSES_MAX = 100000000 };

/* The fleet. */
struct simulated_system {
    uint32_t workers, slots, verifiers, verifier_slots;
    double speed;                              /* tokens a second of one slot */
    double start_s;                            /* that every rollout takes before its first token */
    double noise;                              /* sigma of ln of times */
    double deaths_per_hour, noticed_s, back_s; /* of each agent; after a death */
    double late, twice;                        /* shares of the answers of the dead, of all answers */
};

enum simulated_goal { GOAL_ANSWER, GOAL_MODE }; /* the winner is right; is the likeliest answer */

struct simulation_spec {
    uint64_t seed;
    uint32_t prompts, worlds;
    enum simulated_goal goal;
    struct world_law law;
    struct world_kind *kinds;         /* law.kinds; owned */
    struct world_verifier *verifiers; /* law.verifiers; owned */
    struct simulated_system system;
    struct sweep_spec sweep; /* arms, the model, verifiers by name */
};

/* text: the file's bytes; file: its name, for messages "FILE:LINE:COLUMN: sentence". overrides: "key=value". */
int simulation_spec_parse(struct slice text, const char *file, const char *const *overrides, size_t overrides_len,
                          struct simulation_spec *spec, struct error *error);
void simulation_spec_clear(struct simulation_spec *spec);
/* Every key with its type, range, default and help. */
void simulation_help(struct buf *out);

/* What the readers of arms expect beside laws: one model, and a verifier of the sweep for each of spec->verifiers. */
void simulation_model(struct simulation_spec *spec);
void simulation_verifiers(struct simulation_spec *spec, uint32_t len);

/* -- one arm in one world ----------------------------------------------------------------------------------------- */

struct simulated_prompt {
    bool good, covered, right, mode; /* good: what the arm is for, by goal and selector */
    uint32_t rollouts;               /* that the decision saw */
    uint64_t tokens;                 /* read and generated for them */
};

struct simulated_run {
    struct simulated_prompt *prompts;
    uint64_t verdicts, burned_tokens, charged_tokens, deaths;
    double makespan_s, busy; /* busy: share of the workers' slot time */
};

/* ERR_REFUSED when the core takes no such arm or cannot end it; the sentence says why. On failure nothing is owned. */
int simulate_arm(const struct simulation_spec *spec, const struct world *world, uint32_t arm, struct simulated_run *run,
                 struct error *error);
void simulated_run_clear(struct simulated_run *run);

/* What taking N of every prompt would give, for each of these N, by the arm's selector and verifier: cells[step]. */
void simulate_uniform(const struct simulation_spec *spec, const struct world *world, uint32_t arm, uint32_t prompt,
                      const uint32_t *steps, uint32_t len, struct saving_cell *cells);

/* -- all arms in all worlds --------------------------------------------------------------------------------------- */

/* Means over worlds of what is per prompt, with 95% intervals over worlds; makespan_s and shares are per world. */
struct simulated_arm {
    struct interval good, right, covered, mode;
    struct interval rollouts, tokens, verdicts;
    struct interval deaths;                    /* of agents */
    struct interval makespan_s, busy, overrun; /* overrun: tokens burned beyond those charged, as a share of them */
    bool saves;                                /* it does not take all n of every prompt */
    struct saving saving;                      /* if so: against taking N of every prompt, at equal `good` */
    double rail;      /* most coverage that any allocation could reach with its rollouts, knowing every rate */
    bool rail_static; /* ... with counts fixed before any result: the arm's are */
    bool above;       /* it covers more, by more than sampling error: something is wrong */
};

enum { MIX_BINS = 5 };

struct simulation {
    const struct simulation_spec *spec; /* borrowed */
    struct simulated_arm *arms;         /* as many as spec has */
    double mix[MIX_BINS];               /* share of prompts by how likely a rollout is right, in fifths */
    double never, aligned;              /* never right; whose likeliest answer is right */
    uint32_t uniform_most;              /* largest N of the arms that savings are measured against */
};

/* ERR_LIMIT: more prompts or classes than above. ERR_REFUSED: as simulate_arm. simulation_clear is due in any case. */
int simulation_run(const struct simulation_spec *spec, struct simulation *simulation, struct error *error);
void simulation_clear(struct simulation *simulation);
bool simulation_sound(const struct simulation *simulation); /* no arm is above its rail */

void simulation_text(const struct simulation *simulation, struct buf *out);
void simulation_json(const struct simulation *simulation, struct buf *out);

#endif
