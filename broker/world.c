/* world.c - draws of prompts, rollouts and verdicts; see world.h. */
#include "broker/world.h"

#include "common/buf.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* What a number is drawn for: streams of their own. */
enum draw { DRAW_PROMPT, DRAW_ANSWER, DRAW_LENGTH, DRAW_FEATURE, DRAW_CLASS, DRAW_RATE, DRAW_VOTE, DRAW_LEVEL };

static struct dice dice_of(const struct world *world, enum draw what, uint64_t a, uint64_t b)
{
    return (struct dice){
        .seed = world->seed, .purpose = RNG_WORLD, .stream = (uint64_t)what << 56 ^ a << 24 ^ rng_mix(b)};
}

/* A verifier's own, for what b names: its number lies above the ordinals, before all is mixed. */
static struct dice dice_of_verifier(const struct world *world, enum draw what, uint32_t v, uint32_t prompt, uint64_t b)
{
    return dice_of(world, what, prompt, (uint64_t)v << 32 ^ b);
}

/* -- prompts -------------------------------------------------------------------------------------------------------- */

static const struct world_kind *kind_drawn(const struct world_law *law, struct dice *dice)
{
    double all = 0;
    for (size_t i = 0; i < law->kinds_len; i++)
        all += law->kinds[i].share;
    double at = all * dice_unit(dice);
    size_t i = 0;
    for (; i + 1 < law->kinds_len && at > law->kinds[i].share; i++)
        at -= law->kinds[i].share;
    return &law->kinds[i];
}

static void reach_from(struct world_prompt *prompt, double total, double sum)
{
    double reached = 0;
    for (uint32_t c = 0; c < prompt->classes; c++)
        prompt->reach[c] = reached += sum > 0 ? prompt->reach[c] * total / sum : 0;
}

/* All classes alike, the right one among them. */
static void draw_dirichlet(const struct world_kind *kind, const struct world_answers *answers, struct dice *dice,
                           struct world_prompt *prompt)
{
    double sum = 0;
    prompt->classes = answers->classes + 1;
    prompt->reach = xalloc(prompt->classes * sizeof *prompt->reach);
    for (uint32_t c = 0; c < prompt->classes; c++)
        sum += prompt->reach[c] = dice_gamma(dice, kind->concentration) + 1e-300;
    prompt->right = prompt->reach[0] / sum;
    reach_from(prompt, 1, sum);
}

static double weight_of(const struct world_answers *answers, struct dice *dice, uint32_t wrong)
{
    switch (answers->law) {
    case WRONG_EVEN:
        return 1;
    case WRONG_ZIPF:
        return 1.0 / wrong;
    case WRONG_DIRICHLET:
        return dice_gamma(dice, answers->concentration) + 1e-300;
    }
    return 0;
}

void world_spread(const struct world_answers *answers, struct dice *dice, struct world_prompt *prompt)
{
    double wrong = 1 - prompt->right, named = wrong * (1 - answers->junk - answers->blank), sum = 0;
    prompt->classes = answers->classes + 1;
    prompt->reach = xalloc(prompt->classes * sizeof *prompt->reach);
    for (uint32_t c = 1; c < prompt->classes; c++)
        sum += prompt->reach[c] = weight_of(answers, dice, c);
    double reached = prompt->reach[0] = prompt->right;
    for (uint32_t c = 1; c < prompt->classes; c++)
        prompt->reach[c] = reached += prompt->reach[c] / sum * named;
    prompt->blank = wrong * answers->blank;
}

static void draw_prompt(const struct world_law *law, struct dice *dice, struct world_prompt *prompt)
{
    const struct world_kind *kind = kind_drawn(law, dice);
    prompt->median = law->lengths.median * exp(law->lengths.between * dice_normal(dice));
    switch (kind->rates) {
    case RATES_BETA:
        prompt->right = dice_unit(dice) <= kind->zero ? 0 : dice_beta(dice, kind->alpha, kind->beta);
        break;
    case RATES_FIXED:
        prompt->right = kind->rate;
        break;
    case RATES_DIRICHLET:
        draw_dirichlet(kind, &law->answers, dice, prompt);
        return;
    }
    world_spread(&law->answers, dice, prompt);
}

static void find_mode(struct world_prompt *prompt)
{
    prompt->mode = 0;
    prompt->top = prompt->reach[0];
    for (uint32_t c = 1; c < prompt->classes; c++) {
        double p = prompt->reach[c] - prompt->reach[c - 1];
        if (p > prompt->top) {
            prompt->top = p;
            prompt->mode = c;
        }
    }
}

/* Two normal laws of unit deviation whose means differ by sqrt(2) z have an AUROC of Phi(z). */
static double separation(double auroc)
{
    double low = -8, high = 8;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (0.5 * erfc(-middle / sqrt(2)) < auroc)
            low = middle;
        else
            high = middle;
    }
    return sqrt(2) * low;
}

struct world *world_new(const struct world_law *law, uint32_t prompts, uint64_t seed)
{
    struct world *world = xalloc(sizeof *world);
    *world = (struct world){.seed = seed, .law = law, .prompts_len = prompts, .apart = separation(law->auroc)};
    world->prompts = xalloc((prompts + (size_t)1) * sizeof *world->prompts);
    for (uint32_t i = 0; i < prompts; i++) {
        struct dice dice = dice_of(world, DRAW_PROMPT, i, 0);
        if (law->draw != NULL)
            law->draw(law->source, i, &dice, &world->prompts[i]);
        else
            draw_prompt(law, &dice, &world->prompts[i]);
        find_mode(&world->prompts[i]);
    }
    return world;
}

void world_free(struct world **world)
{
    if (*world == NULL)
        return;
    for (uint32_t i = 0; i < (*world)->prompts_len; i++)
        free((*world)->prompts[i].reach);
    free((*world)->prompts);
    free(*world);
    *world = NULL;
}

/* -- rollouts ------------------------------------------------------------------------------------------------------- */

enum { JUNK = UINT32_MAX - 1, BLANK = UINT32_MAX };

static uint32_t class_at(const struct world_prompt *prompt, double u)
{
    uint32_t low = 0, high = prompt->classes;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (prompt->reach[middle] < u)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < prompt->classes)
        return low;
    return u <= prompt->reach[prompt->classes - 1] + prompt->blank ? BLANK : JUNK;
}

/* Junk is a class of its own. */
static uint64_t class_name(const struct world *world, uint32_t prompt, uint32_t ordinal, uint32_t class)
{
    if (class == BLANK)
        return 0;
    uint64_t which = class == JUNK ? (uint64_t)1 << 32 | ordinal : class;
    return rng_u64(world->seed, RNG_WORLD, (uint64_t)DRAW_CLASS << 56 ^ prompt, which) | 1;
}

/* About -0.5 nat a token, with a deviation of 0.1. */
static double lp_mean(const struct world *world, uint32_t prompt, uint32_t ordinal, bool right)
{
    struct dice dice = dice_of(world, DRAW_FEATURE, prompt, ordinal);
    double z = dice_normal(&dice) + (right ? world->apart : 0);
    return -0.5 + 0.1 * z;
}

static uint32_t class_drawn(const struct world *world, uint32_t prompt, uint32_t ordinal)
{
    struct dice dice = dice_of(world, DRAW_ANSWER, prompt, ordinal);
    return class_at(&world->prompts[prompt], dice_unit(&dice));
}

bool world_right(const struct world *world, uint32_t prompt, uint32_t ordinal)
{
    return class_drawn(world, prompt, ordinal) == 0;
}

bool world_mode(const struct world *world, uint32_t prompt, uint32_t ordinal)
{
    return class_drawn(world, prompt, ordinal) == world->prompts[prompt].mode;
}

struct world_rollout world_rollout(const struct world *world, uint32_t prompt, uint32_t ordinal)
{
    const struct world_prompt *p = &world->prompts[prompt];
    const struct world_lengths *lengths = &world->law->lengths;
    struct dice length = dice_of(world, DRAW_LENGTH, prompt, ordinal);
    uint32_t class = class_drawn(world, prompt, ordinal);
    struct world_rollout rollout = {.right = class == 0};
    rollout.class = class_name(world, prompt, ordinal, class);
    double tokens = p->median * exp(lengths->within * dice_normal(&length)) * (rollout.right ? lengths->right : 1);
    rollout.truncated = tokens > lengths->most;
    rollout.tokens = rollout.truncated ? lengths->most : tokens < 1 ? 1 : (uint32_t)(tokens + 0.5);
    rollout.lp_mean = lp_mean(world, prompt, ordinal, rollout.right);
    return rollout;
}

/* -- verdicts ------------------------------------------------------------------------------------------------------- */

/* Beta with this mean and intra-class correlation. */
static double draw_around(struct dice *dice, double mean, double icc)
{
    if (icc <= 0 || mean <= 0 || mean >= 1)
        return mean;
    if (icc >= 1)
        return dice_unit(dice) <= mean ? 1 : 0;
    double weight = (1 - icc) / icc;
    return dice_beta(dice, mean * weight, (1 - mean) * weight);
}

static double yes_rate(const struct world *world, const struct world_verifier *verifier, uint32_t prompt, bool right)
{
    return right ? verifier->tpr : verifier->fpr * pow(1 - world->prompts[prompt].right, verifier->link);
}

/* The verifier's taste is that of the class: more votes do not average it out. */
static struct verdict noisy(const struct world *world, uint32_t v, uint32_t prompt, uint32_t ordinal)
{
    const struct world_verifier *verifier = &world->law->verifiers[v];
    uint32_t drawn = class_drawn(world, prompt, ordinal);
    uint64_t class = drawn == BLANK ? ordinal : class_name(world, prompt, ordinal, drawn);
    struct dice taste = dice_of_verifier(world, DRAW_RATE, v, prompt, class);
    struct dice vote = dice_of_verifier(world, DRAW_VOTE, v, prompt, ordinal);
    double rate = draw_around(&taste, yes_rate(world, verifier, prompt, drawn == 0), verifier->icc);
    uint32_t yes = 0;
    for (uint32_t i = 0; i < verifier->votes; i++)
        yes += dice_unit(&vote) <= rate;
    return (struct verdict){2 * yes > verifier->votes ? OUTCOME_PASS : OUTCOME_FAIL, (double)yes / verifier->votes};
}

static double between(double low, double high, double share)
{
    return low + share * (high - low);
}

enum { TRIES = 64 };

/* By rejection; a law that lies far outside gives the nearer end. */
static double cut_normal(struct dice *dice, double mean, double deviation)
{
    double x = mean;
    for (int i = 0; i < TRIES; i++) {
        x = mean + deviation * dice_normal(dice);
        if (x >= 0 && x <= 1)
            return x;
    }
    return fmin(1, fmax(0, x));
}

static double reward(const struct world *world, uint32_t v, uint32_t prompt, uint32_t ordinal, bool right)
{
    const struct world_verifier *verifier = &world->law->verifiers[v];
    struct dice level = dice_of_verifier(world, DRAW_LEVEL, v, prompt, 0);
    struct dice draw = dice_of_verifier(world, DRAW_VOTE, v, prompt, ordinal);
    double mean = between(verifier->mean_low, verifier->mean_high, dice_unit(&level));
    double deviation = between(verifier->deviation_low, verifier->deviation_high, dice_unit(&level));
    if (!right && dice_unit(&draw) <= verifier->tail)
        return 1 / sqrt(dice_unit(&draw)); /* Pareto, exponent 2 */
    return cut_normal(&draw, mean + (right ? verifier->gap : 0), deviation);
}

/* Mass at 0 and at 1, as process reward models have it. */
static double bimodal(const struct world *world, uint32_t v, uint32_t prompt, uint32_t ordinal, bool right)
{
    struct dice draw = dice_of_verifier(world, DRAW_VOTE, v, prompt, ordinal);
    return draw_around(&draw, yes_rate(world, &world->law->verifiers[v], prompt, right), 0.8);
}

struct verdict world_verdict(const struct world *world, uint32_t verifier, uint32_t prompt, uint32_t ordinal)
{
    bool right = world_right(world, prompt, ordinal);
    switch (world->law->verifiers[verifier].verdicts) {
    case VERDICTS_EXACT:
        return (struct verdict){right ? OUTCOME_PASS : OUTCOME_FAIL, right};
    case VERDICTS_NOISY:
        return noisy(world, verifier, prompt, ordinal);
    case VERDICTS_REWARD:
        return (struct verdict){OUTCOME_SCORE, reward(world, verifier, prompt, ordinal, right)};
    case VERDICTS_BIMODAL:
        return (struct verdict){OUTCOME_SCORE, bimodal(world, verifier, prompt, ordinal, right)};
    }
    return (struct verdict){OUTCOME_UNKNOWN, 0};
}

struct item world_item(const struct world *world, uint32_t verifier, uint32_t prompt, uint32_t ordinal,
                       float features[2])
{
    struct world_rollout rollout = world_rollout(world, prompt, ordinal);
    struct verdict verdict = {OUTCOME_UNKNOWN, 0};
    if (verifier != NO_VERIFIER)
        verdict = world_verdict(world, verifier, prompt, ordinal);
    features[0] = (float)(rollout.lp_mean * rollout.tokens);
    features[1] = (float)rollout.lp_mean;
    return (struct item){.ordinal = ordinal,
                         .class = rollout.class,
                         .scored = outcome_known(verdict.outcome),
                         .passed = verdict.outcome == OUTCOME_PASS,
                         .score = verdict.score,
                         .truncated = rollout.truncated,
                         .tokens = rollout.tokens,
                         .have = WORLD_FEATURES,
                         .features = features};
}
