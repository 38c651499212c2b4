/* check_oracle.c - an exact process reward for the demo's two tasks, with noise on demand.
 *
 * It says whether a prefix can still be finished correctly: the upper bound that learned process
 * reward models are measured against. The rules of what may follow are those of the training data
 * (larger operand first, results 1 to 99). */
#include "common/hash.h"
#include "common/rng.h"
#include "verifier/inner.h"
#include "verifier/puzzle.h"

#include <stdlib.h>
#include <string.h>

#define SEARCH_NUMBERS 6 /* more would take seconds; 10 bits each fill a word */
#define DEAD_SLOTS     8192

/* A state of the search from which its target is known to be out of reach. Newer ones overwrite
 * older ones. */
struct dead {
    uint64_t numbers; /* sorted, 10 bits each; 0: empty */
    int64_t target;
};

struct oracle {
    double noise, low, high;
    uint64_t name; /* hash: two oracles of one seed err independently */
    struct dead dead[DEAD_SLOTS];
};

static int oracle_open(struct slice spec, void **state, struct error *error)
{
    const struct doc_range unit = {0, 1};
    struct json_t *doc;
    int code = doc_parse(spec, &doc, error);
    if (code < 0)
        return code;
    struct oracle *oracle = xalloc(sizeof *oracle);
    struct slice name = {0};
    oracle->low = 0.02;
    oracle->high = 0.98;
    doc_text(doc, "name", &name);
    oracle->name = hash_bytes(name.data, name.len);
    code = doc_option_real(doc, "noise", unit, &oracle->noise, error);
    if (code == 0)
        code = doc_option_real(doc, "low", unit, &oracle->low, error);
    if (code == 0)
        code = doc_option_real(doc, "high", unit, &oracle->high, error);
    doc_free(&doc);
    if (code == 0)
        *state = oracle;
    else
        free(oracle);
    return code;
}

/* Numbers of a state, descending. */
struct state {
    uint32_t len;
    int64_t numbers[SEARCH_NUMBERS];
};

static void state_insert(struct state *state, int64_t number)
{
    uint32_t at = state->len++;
    for (; at > 0 && state->numbers[at - 1] < number; at--)
        state->numbers[at] = state->numbers[at - 1];
    state->numbers[at] = number;
}

/* Every number has three digits at most; the length is in the key as its leading 1. */
static uint64_t state_key(const struct state *state)
{
    uint64_t key = 1;
    for (uint32_t i = 0; i < state->len; i++)
        key = key << 10 | (uint64_t)state->numbers[i];
    return key;
}

static bool reach(struct oracle *oracle, const struct state *state, int64_t target);

/* Whether the target is within reach after numbers i and j of state, i the larger, were put
 * together. */
static bool reach_from_pair(struct oracle *oracle, const struct state *state, uint32_t i, uint32_t j, int64_t target)
{
    static const char ops[] = "+-*/";
    struct state rest = {0};
    for (uint32_t k = 0; k < state->len; k++)
        if (k != i && k != j)
            rest.numbers[rest.len++] = state->numbers[k];
    for (const char *op = ops; *op != '\0'; op++) {
        struct state next = rest;
        int64_t result;
        if (!puzzle_apply(*op, state->numbers[i], state->numbers[j], &result) || result < 1 || result > 99)
            continue;
        state_insert(&next, result);
        if (reach(oracle, &next, target))
            return true;
    }
    return false;
}

/* At most six numbers: the depth is bounded, and so is the work (some milliseconds). */
static bool reach(struct oracle *oracle, const struct state *state, int64_t target)
{
    if (state->len == 1)
        return state->numbers[0] == target;
    uint64_t key = state_key(state);
    struct dead *dead = &oracle->dead[rng_mix(key ^ rng_mix((uint64_t)target)) % DEAD_SLOTS];
    if (dead->numbers == key && dead->target == target)
        return false;
    for (uint32_t i = 0; i < state->len; i++)
        for (uint32_t j = i + 1; j < state->len; j++)
            if (reach_from_pair(oracle, state, i, j, target))
                return true;
    *dead = (struct dead){key, target};
    return false;
}

static bool prefix_live(struct oracle *oracle, const struct puzzle *puzzle, struct slice text)
{
    struct puzzle_left left;
    if (!puzzle_prefix(puzzle, text, &left))
        return false;
    if (puzzle->kind == PUZZLE_CHAIN)
        return true;
    struct state state = {0};
    for (uint32_t i = 0; i < left.len; i++)
        state_insert(&state, left.numbers[i]);
    return reach(oracle, &state, puzzle->target);
}

static struct verdict oracle_judge(struct oracle *oracle, const struct check_input *input, struct slice prompt)
{
    struct puzzle puzzle;
    if (!puzzle_parse(prompt, &puzzle) || (puzzle.kind == PUZZLE_COUNTDOWN && puzzle.len > SEARCH_NUMBERS))
        return verdict_unknown;
    bool live = input->finished ? puzzle_solved(&puzzle, input->text) : prefix_live(oracle, &puzzle, input->text);
    if (rng_unit(rng_u64(input->seed, RNG_VERIFIER, 0, oracle->name)) < oracle->noise)
        live = !live;
    return (struct verdict){.outcome = live ? OUTCOME_PASS : OUTCOME_FAIL, .score = live ? oracle->high : oracle->low};
}

static int oracle_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    struct json_t *doc;
    struct slice prompt;
    int code = check_prompt(input->record, &doc, &prompt, error);
    if (code < 0)
        return code;
    *verdict = oracle_judge(state, input, prompt);
    doc_free(&doc);
    return 0;
}

static void oracle_close(void **state)
{
    free(*state);
    *state = NULL;
}

const struct check check_oracle_step = {
    .name = "oracle-step",
    .help = "whether a countdown or chain prefix can still be finished correctly, with noise",
    .open = oracle_open,
    .run = oracle_run,
    .close = oracle_close,
};
