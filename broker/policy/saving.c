/* saving.c - isotonic curves, inverted, with a paired bootstrap; see saving.h. */
#include "broker/policy/saving.h"

#include "common/buf.h"
#include "common/rng.h"

#include <assert.h>
#include <stdlib.h>

void isotonic(double *values, size_t len)
{
    size_t *ends = xalloc((len + 1) * sizeof *ends); /* of the blocks so far, whose means rise */
    double *means = xalloc((len + 1) * sizeof *means);
    size_t blocks = 0;
    for (size_t i = 0; i < len; i++) {
        means[blocks] = values[i];
        ends[blocks++] = i + 1;
        while (blocks > 1 && means[blocks - 1] < means[blocks - 2]) {
            size_t start = blocks > 2 ? ends[blocks - 3] : 0;
            double left = (double)(ends[blocks - 2] - start), right = (double)(ends[blocks - 1] - ends[blocks - 2]);
            means[blocks - 2] = (means[blocks - 2] * left + means[blocks - 1] * right) / (left + right);
            ends[blocks - 2] = ends[blocks - 1];
            blocks--;
        }
    }
    for (size_t b = 0, i = 0; b < blocks; b++)
        while (i < ends[b])
            values[i++] = means[b];
    free(means);
    free(ends);
}

uint32_t saving_steps(uint32_t n, uint32_t steps[SAVING_STEPS_MAX])
{
    uint32_t len = 0;
    for (uint32_t power = 1; power < n && len < SAVING_STEPS_MAX - 2; power *= 2) {
        steps[len++] = power;
        if (power >= 2 && power + power / 2 < n)
            steps[len++] = power + power / 2;
    }
    steps[len++] = n;
    return len;
}

static void cell_add(struct saving_cell *sum, const struct saving_cell *cell)
{
    sum->right += cell->right;
    sum->rollouts += cell->rollouts;
    sum->tokens += cell->tokens;
    sum->cost += cell->cost;
}

/* Room for the sums of one sample of prompts. */
struct sums {
    struct saving_cell *uniform, adaptive;
    double *curve;
};

/* Sums over prompts: those of pick, or of all when it is NULL. */
static void sum_up(const struct saving_input *input, const size_t *pick, struct sums *sums)
{
    sums->adaptive = (struct saving_cell){0};
    for (size_t s = 0; s < input->steps; s++)
        sums->uniform[s] = (struct saving_cell){0};
    for (size_t i = 0; i < input->prompts; i++) {
        size_t p = pick == NULL ? i : pick[i];
        cell_add(&sums->adaptive, &input->adaptive[p]);
        for (size_t s = 0; s < input->steps; s++)
            cell_add(&sums->uniform[s], &input->uniform[p * input->steps + s]);
    }
}

static double between(double from, double to, double share)
{
    return from + share * (to - from);
}

/* Straight lines between the caps; the cheapest place where the curve is as high as the adaptive arm. */
static struct saving invert(const struct saving_input *input, struct sums *sums)
{
    const struct saving_cell *uniform = sums->uniform;
    double wanted = sums->adaptive.right, share = 1;
    struct saving saving = {.accuracy = wanted / (double)input->prompts};
    saving.difference = saving.accuracy - uniform[input->steps - 1].right / (double)input->prompts;
    for (size_t s = 0; s < input->steps; s++)
        sums->curve[s] = uniform[s].right;
    isotonic(sums->curve, input->steps);
    size_t at = 0;
    while (at < input->steps && sums->curve[at] < wanted)
        at++;
    if (at == 0)
        saving.place = wanted < sums->curve[0] ? SAVING_BELOW : SAVING_BETWEEN;
    else if (at == input->steps)
        saving.place = SAVING_BEYOND;
    else
        share = (wanted - sums->curve[at - 1]) / (sums->curve[at] - sums->curve[at - 1]);
    at = at == input->steps ? at - 1 : at;
    size_t from = at > 0 ? at - 1 : 0;
    saving.rollouts = between(uniform[from].rollouts, uniform[at].rollouts, share) / sums->adaptive.rollouts;
    saving.tokens = between(uniform[from].tokens, uniform[at].tokens, share) / sums->adaptive.tokens;
    saving.cost = between(uniform[from].cost, uniform[at].cost, share) / sums->adaptive.cost;
    return saving;
}

/* -- bootstrap ------------------------------------------------------------------------------------------------------ */

enum { RESAMPLES_MAX = 1000, RESAMPLES_MIN = 100, ADDITIONS_MAX = 200000000 };

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The middle 95% of them. */
static struct bounds middle_of(double *values, size_t len)
{
    qsort(values, len, sizeof *values, rising);
    return (struct bounds){values[len * 25 / 1000], values[len * 975 / 1000 - 1]};
}

static void bootstrap(const struct saving_input *input, uint64_t seed, struct sums *sums, struct saving *saving)
{
    size_t each = input->prompts * (input->steps + 1), resamples = ADDITIONS_MAX / each;
    resamples = resamples > RESAMPLES_MAX ? RESAMPLES_MAX : resamples < RESAMPLES_MIN ? RESAMPLES_MIN : resamples;
    size_t *pick = xalloc(input->prompts * sizeof *pick);
    double *difference = xalloc(4 * resamples * sizeof *difference), *rollouts = difference + resamples;
    double *tokens = rollouts + resamples, *cost = tokens + resamples;
    for (size_t r = 0; r < resamples; r++) {
        for (size_t i = 0; i < input->prompts; i++)
            pick[i] = rng_u64(seed, RNG_BOOTSTRAP, r, i) % input->prompts;
        sum_up(input, pick, sums);
        struct saving one = invert(input, sums);
        difference[r] = one.difference;
        rollouts[r] = one.rollouts;
        tokens[r] = one.tokens;
        cost[r] = one.cost;
    }
    saving->difference_95 = middle_of(difference, resamples);
    saving->rollouts_95 = middle_of(rollouts, resamples);
    saving->tokens_95 = middle_of(tokens, resamples);
    saving->cost_95 = middle_of(cost, resamples);
    free(difference);
    free(pick);
}

struct saving saving_of(const struct saving_input *input, uint64_t seed)
{
    assert(input->prompts > 0);
    assert(input->steps > 0);
    struct sums sums = {.uniform = xalloc(input->steps * sizeof *sums.uniform),
                        .curve = xalloc(input->steps * sizeof *sums.curve)};
    sum_up(input, NULL, &sums);
    struct saving saving = invert(input, &sums);
    bootstrap(input, seed, &sums, &saving);
    free(sums.curve);
    free(sums.uniform);
    return saving;
}
