/* simulate_print.c - a simulation as text and as JSON; see simulate.h. */
#include "broker/simulate.h"

#include "broker/core/text_table.h"
#include "common/json.h"

/* -- text ----------------------------------------------------------------------------------------------------------- */

static void mix_text(const struct simulation *s, struct buf *out)
{
    buf_puts(out, "prompts by how likely a rollout is right, in fifths:");
    for (int b = 0; b < MIX_BINS; b++)
        buf_printf(out, " %.2f", s->mix[b]);
    buf_printf(out, "\nnever right: %.2f; the right answer is the likeliest one of %.2f\n", s->never, s->aligned);
}

static void cell_range(struct text_table *table, const struct interval *interval)
{
    text_cellf(table, "%.4f", interval->mean);
    text_cellf(table, "%.4f-%.4f", interval->low, interval->high);
}

/* Two tables, since one would be wider than most terminals. */
static void quality_text(const struct simulation *s, struct buf *out)
{
    struct text_table table;
    text_table_init(&table, "lrrrrrr");
    text_heads(&table, "arm|n|right|95%|covered|at most|mode");
    for (uint32_t a = 0; a < s->spec->sweep.arms_len; a++) {
        const struct simulated_arm *arm = &s->arms[a];
        text_cell(&table, s->spec->sweep.arms[a].name);
        text_cellf(&table, "%u", s->spec->sweep.arms[a].n);
        cell_range(&table, &arm->right);
        text_cellf(&table, "%.4f", arm->covered.mean);
        text_cellf(&table, "%.4f", arm->rail);
        text_cellf(&table, "%.4f", arm->mode.mean);
    }
    text_table_print(&table, 2, out);
    text_table_clear(&table);
    buf_puts(out, "right: winners that are; covered: prompts with a right rollout; at most: what an\n"
                  "allocation of as many rollouts could cover that knows every rate; mode:\n"
                  "winners that are the likeliest answer\n\n");
}

static void effort_text(const struct simulation *s, struct buf *out)
{
    struct text_table table;
    text_table_init(&table, "lrrrrrr");
    text_heads(&table, "arm|rollouts|tokens|verdicts|makespan s|busy|overrun");
    for (uint32_t a = 0; a < s->spec->sweep.arms_len; a++) {
        const struct simulated_arm *arm = &s->arms[a];
        text_cell(&table, s->spec->sweep.arms[a].name);
        text_cellf(&table, "%.2f", arm->rollouts.mean);
        text_cellf(&table, "%.0f", arm->tokens.mean);
        text_cellf(&table, "%.2f", arm->verdicts.mean);
        text_cellf(&table, "%.1f", arm->makespan_s.mean);
        text_cellf(&table, "%.2f", arm->busy.mean);
        text_cellf(&table, "%.1f%%", 100 * arm->overrun.mean);
    }
    text_table_print(&table, 2, out);
    text_table_clear(&table);
    buf_puts(out, "rollouts, tokens, verdicts: of a prompt; overrun: tokens burned beyond those\n"
                  "that counted\n");
}

static void cell_saving(struct text_table *table, const struct saving *saving, double ratio, struct bounds bounds)
{
    static const char *const places[] = {
        [SAVING_BETWEEN] = "", [SAVING_BELOW] = "at most ", [SAVING_BEYOND] = "at least "};
    text_cellf(table, "%s%.2f", places[saving->place], ratio);
    text_cellf(table, "%.2f-%.2f", bounds.low, bounds.high);
}

static void savings_text(const struct simulation *s, struct buf *out)
{
    struct text_table table;
    bool any = false;
    text_table_init(&table, "lrrrrr");
    text_heads(&table,
               s->spec->goal == GOAL_MODE ? "arm|mode|rollouts|95%|tokens|95%" : "arm|right|rollouts|95%|tokens|95%");
    for (uint32_t a = 0; a < s->spec->sweep.arms_len; a++) {
        const struct saving *saving = &s->arms[a].saving;
        if (!s->arms[a].saves)
            continue;
        any = true;
        text_cell(&table, s->spec->sweep.arms[a].name);
        text_cellf(&table, "%.4f", s->arms[a].good.mean);
        cell_saving(&table, saving, saving->rollouts, saving->rollouts_95);
        cell_saving(&table, saving, saving->tokens, saving->tokens_95);
    }
    if (any) {
        buf_printf(
            out,
            "\nsaved at equal accuracy: what taking N of every prompt needs, N up to %u,\nover what the arm took\n",
            s->uniform_most);
        text_table_print(&table, 2, out);
    }
    text_table_clear(&table);
}

static void rails_text(const struct simulation *s, struct buf *out)
{
    for (uint32_t a = 0; a < s->spec->sweep.arms_len; a++)
        if (s->arms[a].above)
            buf_printf(out,
                       "arm '%s' covers %.4f, more than the %.4f that an allocation of as many rollouts could cover "
                       "that knows every rate: the arm's policy, the simulator or the bound is wrong\n",
                       s->spec->sweep.arms[a].name, s->arms[a].covered.mean, s->arms[a].rail);
}

void simulation_text(const struct simulation *s, struct buf *out)
{
    const struct simulated_system *system = &s->spec->system;
    buf_printf(out, "%u prompts in each of %u worlds, seed %llu; %u workers of %u slots, %.6g tokens/s\n",
               s->spec->prompts, s->spec->worlds, (unsigned long long)s->spec->seed, system->workers, system->slots,
               system->speed);
    mix_text(s, out);
    buf_puts(out, "\n");
    quality_text(s, out);
    effort_text(s, out);
    savings_text(s, out);
    rails_text(s, out);
}

/* -- JSON ----------------------------------------------------------------------------------------------------------- */

static void put_f64(struct buf *json, const char *key, double value)
{
    json_key(json, key);
    json_f64(json, value);
}

static void put_u64(struct buf *json, const char *key, uint64_t value)
{
    json_key(json, key);
    json_u64(json, value);
}

static void put_interval(struct buf *json, const char *key, const struct interval *interval)
{
    json_key(json, key);
    json_begin(json, '{');
    put_f64(json, "mean", interval->mean);
    put_f64(json, "low", interval->low);
    put_f64(json, "high", interval->high);
    json_end(json, '}');
}

static void put_ratio(struct buf *json, const char *key, double value, struct bounds bounds)
{
    put_interval(json, key, &(struct interval){value, bounds.low, bounds.high});
}

static void put_saving(struct buf *json, const struct saving *saving)
{
    static const char *const places[] = {
        [SAVING_BETWEEN] = "between", [SAVING_BELOW] = "below", [SAVING_BEYOND] = "beyond"};
    json_key(json, "saving");
    json_begin(json, '{');
    put_ratio(json, "rollouts", saving->rollouts, saving->rollouts_95);
    put_ratio(json, "tokens", saving->tokens, saving->tokens_95);
    json_key(json, "place");
    json_str(json, places[saving->place]);
    json_end(json, '}');
}

static void put_arm(struct buf *json, const struct sweep_arm *of, const struct simulated_arm *arm)
{
    json_begin(json, '{');
    json_key(json, "arm");
    json_str(json, of->name);
    put_u64(json, "n", of->n);
    put_interval(json, "right", &arm->right);
    put_interval(json, "covered", &arm->covered);
    put_interval(json, "mode", &arm->mode);
    put_interval(json, "rollouts", &arm->rollouts);
    put_interval(json, "tokens", &arm->tokens);
    put_interval(json, "verdicts", &arm->verdicts);
    put_interval(json, "makespan_s", &arm->makespan_s);
    put_interval(json, "busy", &arm->busy);
    put_interval(json, "overrun", &arm->overrun);
    put_interval(json, "deaths", &arm->deaths);
    put_f64(json, "oracle", arm->rail);
    json_key(json, "oracle_kind");
    json_str(json, arm->rail_static ? "static" : "feedback");
    json_key(json, "above_oracle");
    json_bool(json, arm->above);
    if (arm->saves)
        put_saving(json, &arm->saving);
    json_end(json, '}');
}

void simulation_json(const struct simulation *s, struct buf *json)
{
    json_begin(json, '{');
    put_u64(json, "prompts", s->spec->prompts);
    put_u64(json, "seeds", s->spec->worlds);
    put_u64(json, "seed", s->spec->seed);
    json_key(json, "goal");
    json_str(json, s->spec->goal == GOAL_MODE ? "mode" : "answer");
    json_key(json, "prompt_mix");
    json_begin(json, '{');
    json_key(json, "fifths");
    json_begin(json, '[');
    for (int b = 0; b < MIX_BINS; b++)
        json_f64(json, s->mix[b]);
    json_end(json, ']');
    put_f64(json, "never", s->never);
    put_f64(json, "aligned", s->aligned);
    json_end(json, '}');
    put_u64(json, "uniform_most", s->uniform_most);
    json_key(json, "arms");
    json_begin(json, '[');
    for (uint32_t a = 0; a < s->spec->sweep.arms_len; a++)
        put_arm(json, &s->spec->sweep.arms[a], &s->arms[a]);
    json_end(json, ']');
    json_end(json, '}');
}
