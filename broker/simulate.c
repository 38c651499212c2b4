/* simulate.c - see simulate.h. */
#include "broker/simulate.h"

#include "broker/compile.h"
#include "broker/policy/oracle.h"
#include "broker/virtual.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -- one arm in one world ------------------------------------------------------------------------------------------- */

struct stage {
    const struct simulation_spec *spec;
    const struct world *world;
};

/* Lognormal around the median, a function of what the task is about. */
static int64_t takes_ms(const struct stage *stage, double seconds, const struct key *key)
{
    struct dice dice = {.seed = stage->world->seed,
                        .purpose = RNG_WORLD,
                        .stream = (uint64_t)0xFF << 56 ^ (uint64_t)key->kind << 48 ^ key->prompt,
                        .at = 2 * (uint64_t)key->item};
    double ms = 1e3 * seconds * exp(stage->spec->system.noise * dice_normal(&dice));
    double most = stage->spec->sweep.models[0].timeout_ms;
    return (int64_t)(ms < most ? ms : most);
}

static int64_t answer_verify(const struct stage *stage, const struct send *task, struct event *event)
{
    const struct world_verifier *verifier = &stage->spec->law.verifiers[task->key.verifier];
    int64_t ms = takes_ms(stage, verifier->seconds, &task->key);
    event->verdict.verdict = world_verdict(stage->world, task->key.verifier, task->key.prompt, task->key.item);
    event->verdict.latency_ms = (uint32_t)ms;
    return ms;
}

static int64_t answer(void *arg, const struct send *task, const struct ref *refs, uint32_t agent, struct event *event)
{
    const struct stage *stage = arg;
    const struct simulated_system *system = &stage->spec->system;
    (void)refs;
    (void)agent;
    if (task->key.kind == TASK_VERIFY)
        return answer_verify(stage, task, event);
    struct world_rollout rollout = world_rollout(stage->world, task->key.prompt, task->key.item);
    int64_t ms = takes_ms(stage, system->start_s + rollout.tokens / system->speed, &task->key);
    event->result.class = rollout.class;
    event->result.result = (struct result){
        .finish = rollout.truncated ? FINISH_LENGTH : FINISH_STOP,
        .tokens_in = stage->spec->law.lengths.prompt,
        .tokens_out = rollout.tokens,
        .latency_ms = (uint32_t)ms,
        .logprob_mode = LOGPROB_RAW,
        .features = {.have = WORLD_FEATURES,
                     .v = {[FEATURE_LP_SUM] = rollout.lp_mean * rollout.tokens, [FEATURE_LP_MEAN] = rollout.lp_mean}}};
    return ms;
}

static void put_definitions(const struct stage *stage, uint32_t arm, const struct core *core, struct buf *to)
{
    const struct sweep_spec *sweep = &stage->spec->sweep;
    const struct sweep_model *model = &sweep->models[0];
    fact_put(to, &(struct fact){.type = FACT_set, .set = {.digest = 1, .len = stage->world->prompts_len}});
    for (uint32_t p = 0; p < stage->world->prompts_len; p++)
        fact_put(to, &(struct fact){.type = FACT_prompt,
                                    .prompt = {.ref_commit = 1, .bytes = stage->spec->law.lengths.prompt}});
    fact_put(to, &(struct fact){.type = FACT_model,
                                .model = {.fingerprint = 1,
                                          .name = slice_of(model->name),
                                          .backend = slice_of(model->backend),
                                          .max_tokens = model->max_tokens,
                                          .timeout_ms = model->timeout_ms}});
    for (uint32_t v = 0; v < sweep->verifiers_len; v++)
        compile_verifier(&sweep->verifiers[v], v, core, to);
    fact_put(to, &(struct fact){.type = FACT_pool, .pool = {.fingerprint = 1, .seed = stage->world->seed}});
    fact_put(to, &(struct fact){.type = FACT_sweep,
                                .sweep = {.name = slice_of("simulation"), .seed = stage->world->seed, .truth = NO_ID}});
    compile_arm(&sweep->arms[arm], 0, 0, to);
}

static bool is_good(const struct simulation_spec *spec, const struct sweep_arm *arm,
                    const struct simulated_prompt *prompt)
{
    if (arm->select.policy->covers)
        return prompt->covered;
    return spec->goal == GOAL_MODE ? prompt->mode : prompt->right;
}

/* A rollout that was given up: it keeps its place, and has no answer. */
static bool given_up(const struct core *core, uint32_t p, uint32_t k)
{
    struct key key;
    struct rollout_info rollout;
    return core_delivered(core, 0, p, k, &key) && core_rollout(core, &key, &rollout) && rollout.state == ROLLOUT_FAILED;
}

static void read_prompt(const struct stage *stage, const struct core *core, uint32_t arm, uint32_t p,
                        struct simulated_prompt *prompt)
{
    struct cell_info cell = core_cell(core, 0, p);
    for (uint32_t k = 0; k < cell.stop; k++) {
        if (given_up(core, p, k))
            continue;
        struct world_rollout rollout = world_rollout(stage->world, p, k);
        prompt->covered = prompt->covered || rollout.right;
        prompt->tokens += stage->spec->law.lengths.prompt + (uint64_t)rollout.tokens;
    }
    prompt->rollouts = cell.stop;
    prompt->right = cell.winner != NO_ORDINAL && world_right(stage->world, p, cell.winner);
    prompt->mode = cell.winner != NO_ORDINAL && world_mode(stage->world, p, cell.winner);
    prompt->good = is_good(stage->spec, &stage->spec->sweep.arms[arm], prompt);
}

/* A sweep that is not over waits for something that never comes. */
static int check_over(const struct core *core, const char *name, struct error *error)
{
    struct sweep_info sweep = core_sweep(core, 0);
    if (sweep.state == SWEEP_DONE)
        return 0;
    struct buf why = {0};
    core_waits_for(core, 0, &why);
    error_set(error, ERR_REFUSED, "arm '%s' does not end in the simulation: it %s %s", name,
              sweep_state_text(sweep.state),
              sweep.reason[0] != '\0' ? sweep.reason
              : why.len > 0           ? why.data
                                      : "");
    buf_clear(&why);
    return ERR_REFUSED;
}

static void read_run(const struct stage *stage, const struct core *core, const struct virtual *fleet, uint32_t arm,
                     struct simulated_run *run)
{
    const struct simulated_system *system = &stage->spec->system;
    struct arm_info info = core_arm(core, 0);
    struct virtual_usage usage = virtual_usage(fleet, false);
    double slots_ms = (double)virtual_now_ms(fleet) * system->workers * system->slots;
    run->prompts = xalloc((stage->world->prompts_len + (size_t)1) * sizeof *run->prompts);
    for (uint32_t p = 0; p < stage->world->prompts_len; p++)
        read_prompt(stage, core, arm, p, &run->prompts[p]);
    run->verdicts = info.verdicts;
    run->deaths = usage.deaths + virtual_usage(fleet, true).deaths;
    run->charged_tokens = info.charged.tokens;
    run->burned_tokens = core_sweep(core, 0).burned.tokens;
    run->makespan_s = (double)virtual_now_ms(fleet) / 1e3;
    run->busy = slots_ms > 0 ? (double)usage.busy_ms / slots_ms : 0;
}

static struct virtual_faults faults_of(const struct simulated_system *system, uint64_t seed)
{
    return (struct virtual_faults){.seed = seed,
                                   .deaths_per_hour = system->deaths_per_hour,
                                   .noticed_ms = (int64_t)(1e3 * system->noticed_s),
                                   .back_ms = (int64_t)(1e3 * system->back_s),
                                   .late = system->late,
                                   .twice = system->twice};
}

int simulate_arm(const struct simulation_spec *spec, const struct world *world, uint32_t arm, struct simulated_run *run,
                 struct error *error)
{
    struct stage stage = {spec, world};
    const struct simulated_system *system = &spec->system;
    struct core *core = core_new(&(struct core_options){.lease_ms = VIRTUAL_LEASE_MS});
    struct virtual *fleet = virtual_new(core, &(struct virtual_options){.workers = system->workers,
                                                                        .slots = system->slots,
                                                                        .verifiers = system->verifiers,
                                                                        .verifier_slots = system->verifier_slots,
                                                                        .answer = answer,
                                                                        .arg = &stage,
                                                                        .faults = faults_of(system, world->seed)});
    struct buf definitions = {0};
    *run = (struct simulated_run){0};
    put_definitions(&stage, arm, core, &definitions);
    int rc = virtual_event(fleet, (struct event){.type = EVENT_SUBMIT, .submit.definitions = buf_slice(&definitions)},
                           NULL, error);
    if (rc == 0)
        rc = virtual_run(fleet);
    if (rc == 0)
        rc = check_over(core, spec->sweep.arms[arm].name, error);
    if (rc == 0)
        read_run(&stage, core, fleet, arm, run);
    buf_clear(&definitions);
    virtual_free(&fleet);
    core_free(&core);
    return rc;
}

void simulated_run_clear(struct simulated_run *run)
{
    free(run->prompts);
    *run = (struct simulated_run){0};
}

/* -- taking N of every prompt --------------------------------------------------------------------------------------- */

static bool selects_good(const struct simulation_spec *spec, const struct world *world, const struct sweep_arm *arm,
                         uint32_t prompt, const struct stats *stats, bool covered)
{
    struct ranking ranking = {.winner = NO_ORDINAL};
    struct simulated_prompt seen = {.covered = covered};
    if (!arm->select.policy->covers)
        arm->select.policy->select(&(struct prompt_view){.prompt = prompt,
                                                         .cap = stats->delivered,
                                                         .opened = stats->delivered,
                                                         .stats = stats,
                                                         .schedule = &arm->schedule,
                                                         .seed = world->seed,
                                                         .cost = 1,
                                                         .options = arm->select.options},
                                   &ranking);
    seen.right = ranking.winner != NO_ORDINAL && world_right(world, prompt, ranking.winner);
    seen.mode = ranking.winner != NO_ORDINAL && world_mode(world, prompt, ranking.winner);
    return is_good(spec, arm, &seen);
}

void simulate_uniform(const struct simulation_spec *spec, const struct world *world, uint32_t arm, uint32_t prompt,
                      const uint32_t *steps, uint32_t len, struct saving_cell *cells)
{
    const struct sweep_arm *of = &spec->sweep.arms[arm];
    float(*features)[2] = xalloc((steps[len - 1] + (size_t)1) * sizeof *features);
    struct stats stats;
    double tokens = 0;
    bool covered = false;
    stats_init(&stats, of->select.policy->items);
    for (uint32_t s = 0; s < len; s++) {
        while (stats.delivered < steps[s]) {
            uint32_t k = stats.delivered;
            struct item item = world_item(world, of->verifier, prompt, k, features[k]);
            tokens += spec->law.lengths.prompt + (double)item.tokens;
            covered = covered || world_right(world, prompt, k);
            stats_fold(&stats, &item);
        }
        bool good = selects_good(spec, world, of, prompt, &stats, covered);
        cells[s] = (struct saving_cell){.right = good, .rollouts = steps[s], .tokens = tokens};
    }
    stats_clear(&stats);
    free(features);
}

/* -- all arms in all worlds ----------------------------------------------------------------------------------------- */

/* What is gathered while arms run: of each world, and of each prompt of all worlds. */
struct gathered {
    double *good, *right, *covered, *mode, *rollouts, *tokens, *verdicts, *makespan_s, *busy, *overrun, *deaths;
    struct saving_cell *cells; /* [world * prompts] */
};

enum { SERIES = 11 };

static void series_new(struct gathered *g, uint32_t worlds)
{
    double **const all[SERIES] = {&g->good,     &g->right,      &g->covered, &g->mode,    &g->rollouts, &g->tokens,
                                  &g->verdicts, &g->makespan_s, &g->busy,    &g->overrun, &g->deaths};
    double *values = xalloc(SERIES * (size_t)worlds * sizeof *values);
    for (int i = 0; i < SERIES; i++)
        *all[i] = values + (size_t)i * worlds;
}

static void gather(struct gathered *g, uint32_t world, uint32_t prompts, const struct simulated_run *run)
{
    for (uint32_t p = 0; p < prompts; p++) {
        const struct simulated_prompt *one = &run->prompts[p];
        g->good[world] += (double)one->good;
        g->right[world] += (double)one->right;
        g->covered[world] += (double)one->covered;
        g->mode[world] += (double)one->mode;
        g->rollouts[world] += (double)one->rollouts;
        g->tokens[world] += (double)one->tokens;
        g->cells[(size_t)world * prompts + p] =
            (struct saving_cell){.right = one->good, .rollouts = one->rollouts, .tokens = (double)one->tokens};
    }
    double *const sums[] = {g->good, g->right, g->covered, g->mode, g->rollouts, g->tokens};
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++)
        sums[i][world] /= prompts;
    g->verdicts[world] = (double)run->verdicts / prompts;
    g->makespan_s[world] = run->makespan_s;
    g->busy[world] = run->busy;
    g->deaths[world] = (double)run->deaths;
    if (run->charged_tokens > 0)
        g->overrun[world] = (double)run->burned_tokens / (double)run->charged_tokens - 1;
}

static void summarise(const struct gathered *g, uint32_t worlds, uint64_t seed, struct simulated_arm *arm)
{
    const struct {
        const double *values;
        struct interval *to;
    } rows[] = {{g->good, &arm->good},         {g->right, &arm->right},           {g->covered, &arm->covered},
                {g->mode, &arm->mode},         {g->rollouts, &arm->rollouts},     {g->tokens, &arm->tokens},
                {g->verdicts, &arm->verdicts}, {g->makespan_s, &arm->makespan_s}, {g->busy, &arm->busy},
                {g->overrun, &arm->overrun},   {g->deaths, &arm->deaths}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        *rows[i].to = interval_of(rows[i].values, worlds, seed);
}

static bool adaptive(const struct sweep_arm *arm)
{
    const struct budget *budget = &arm->budget;
    return arm->stop.policy != &stop_none || (arm->allocate.policy != &allocate_uniform) ||
           budget->rollouts + budget->tokens + budget->slot_ms + budget->cost_micro > 0;
}

/* Coverage of the oracle with as many rollouts in each world, mean over worlds. */
static double rail_of(struct world *const *worlds, uint32_t len, const double *rollouts, bool fixed)
{
    double sum = 0;
    for (uint32_t w = 0; w < len; w++) {
        uint32_t prompts = worlds[w]->prompts_len;
        double *rates = xalloc((prompts + (size_t)1) * sizeof *rates), budget = rollouts[w] * prompts;
        for (uint32_t p = 0; p < prompts; p++)
            rates[p] = worlds[w]->prompts[p].right;
        sum += fixed ? oracle_static(rates, prompts, budget, NULL) : oracle_feedback(rates, prompts, budget);
        free(rates);
    }
    return sum / len;
}

/* The oracle is an expectation, an arm one outcome: three standard errors apart is no chance. */
static void hold_below(const struct simulation_spec *spec, struct world *const *worlds, const struct gathered *g,
                       const struct sweep_arm *of, struct simulated_arm *arm)
{
    double outcomes = (double)spec->prompts * spec->worlds;
    arm->rail_static = !adaptive(of);
    arm->rail = rail_of(worlds, spec->worlds, g->rollouts, arm->rail_static);
    double most = fmax(arm->covered.mean, arm->right.mean);
    arm->above = most > arm->rail + 3 * sqrt(fmax(arm->rail * (1 - arm->rail), 1e-4) / outcomes);
}

static uint32_t uniform_most(const struct sweep_spec *sweep)
{
    enum { MOST = 4096 };
    uint32_t most = 1;
    for (uint32_t a = 0; a < sweep->arms_len; a++)
        most = sweep->arms[a].n > most ? sweep->arms[a].n : most;
    return most < MOST ? most : MOST;
}

static struct saving saving_against_uniform(const struct simulation *s, struct world *const *worlds, uint32_t arm,
                                            const struct gathered *g)
{
    uint32_t steps[SAVING_STEPS_MAX], len = saving_steps(s->uniform_most, steps), prompts = s->spec->prompts;
    size_t all = (size_t)s->spec->worlds * prompts;
    struct saving_cell *cells = xalloc(all * len * sizeof *cells);
    for (size_t i = 0; i < all; i++)
        simulate_uniform(s->spec, worlds[i / prompts], arm, (uint32_t)(i % prompts), steps, len, &cells[i * len]);
    struct saving_input input = {.uniform = cells, .adaptive = g->cells, .prompts = all, .steps = len};
    struct saving saving = saving_of(&input, s->spec->seed);
    free(cells);
    return saving;
}

static int run_arm(struct simulation *s, struct world *const *worlds, uint32_t a, struct error *error)
{
    const struct simulation_spec *spec = s->spec;
    struct simulated_arm *arm = &s->arms[a];
    struct gathered g = {.cells = xalloc((size_t)spec->worlds * spec->prompts * sizeof *g.cells)};
    int rc = 0;
    series_new(&g, spec->worlds);
    for (uint32_t w = 0; rc == 0 && w < spec->worlds; w++) {
        struct simulated_run run;
        rc = simulate_arm(spec, worlds[w], a, &run, error);
        if (rc == 0)
            gather(&g, w, spec->prompts, &run);
        simulated_run_clear(&run);
    }
    if (rc == 0) {
        summarise(&g, spec->worlds, spec->seed, arm);
        hold_below(spec, worlds, &g, &spec->sweep.arms[a], arm);
        arm->saves = adaptive(&spec->sweep.arms[a]);
        if (arm->saves)
            arm->saving = saving_against_uniform(s, worlds, a, &g);
    }
    free(g.good);
    free(g.cells);
    return rc;
}

static void measure_mix(struct simulation *s, struct world *const *worlds)
{
    double all = (double)s->spec->worlds * s->spec->prompts;
    for (uint32_t w = 0; w < s->spec->worlds; w++)
        for (uint32_t p = 0; p < s->spec->prompts; p++) {
            const struct world_prompt *prompt = &worlds[w]->prompts[p];
            int bin = (int)(MIX_BINS * prompt->right);
            s->mix[bin < MIX_BINS ? bin : MIX_BINS - 1]++;
            s->never += prompt->right > 0 ? 0 : 1;
            s->aligned += prompt->mode == 0;
        }
    for (int bin = 0; bin < MIX_BINS; bin++)
        s->mix[bin] /= all;
    s->never /= all;
    s->aligned /= all;
}

static int check_size(const struct simulation_spec *spec, struct error *error)
{
    uint64_t prompts = (uint64_t)spec->prompts * spec->worlds, classes = prompts * (spec->law.answers.classes + 1);
    if (prompts > SIMULATE_PROMPTS_MAX || classes > SIMULATE_CLASSES_MAX)
        return error_set(error, ERR_LIMIT,
                         "%u prompts in %u worlds with %u wrong answers each are too many: at most %d prompts in all "
                         "worlds, and %d answers",
                         spec->prompts, spec->worlds, spec->law.answers.classes, SIMULATE_PROMPTS_MAX,
                         SIMULATE_CLASSES_MAX);
    return 0;
}

int simulation_run(const struct simulation_spec *spec, struct simulation *s, struct error *error)
{
    *s = (struct simulation){.spec = spec, .uniform_most = uniform_most(&spec->sweep)};
    int rc = check_size(spec, error);
    if (rc != 0)
        return rc;
    struct world **worlds = xalloc(spec->worlds * sizeof *worlds);
    s->arms = xalloc((spec->sweep.arms_len + (size_t)1) * sizeof *s->arms);
    for (uint32_t w = 0; w < spec->worlds; w++)
        worlds[w] = world_new(&spec->law, spec->prompts, rng_u64(spec->seed, RNG_WORLD, w, 0));
    measure_mix(s, worlds);
    for (uint32_t a = 0; rc == 0 && a < spec->sweep.arms_len; a++)
        rc = run_arm(s, worlds, a, error);
    for (uint32_t w = 0; w < spec->worlds; w++)
        world_free(&worlds[w]);
    free(worlds);
    return rc;
}

void simulation_clear(struct simulation *simulation)
{
    free(simulation->arms);
    *simulation = (struct simulation){0};
}

bool simulation_sound(const struct simulation *simulation)
{
    for (uint32_t a = 0; a < simulation->spec->sweep.arms_len; a++)
        if (simulation->arms[a].above)
            return false;
    return true;
}
