/* pilot.c - counts of a pilot, laws fitted to them, posterior draws; see pilot.h. */
#include "broker/pilot.h"

#include "common/answer.h"
#include "common/hash.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/* Where a prompt stands. */
struct pilot_place {
    uint64_t id;
    uint32_t at;
    UT_hash_handle hh;
};

/* -- counts --------------------------------------------------------------------------------------------------------- */

struct pilot *pilot_new(void)
{
    return xalloc(sizeof(struct pilot));
}

void pilot_free(struct pilot **pilot)
{
    if (*pilot == NULL)
        return;
    for (uint32_t i = 0; i < (*pilot)->len; i++)
        free((*pilot)->prompts[i].wrong);
    struct pilot_place *place, *next;
    HASH_ITER (hh, (*pilot)->places, place, next) {
        HASH_DEL((*pilot)->places, place);
        free(place);
    }
    free((*pilot)->prompts);
    free(*pilot);
    *pilot = NULL;
}

static struct pilot_prompt *prompt_of(struct pilot *pilot, struct slice name)
{
    uint64_t id = hash_bytes(name.data, name.len);
    struct pilot_place *place;
    HASH_FIND(hh, pilot->places, &id, sizeof id, place);
    if (place != NULL)
        return &pilot->prompts[place->at];
    place = xalloc(sizeof *place);
    *place = (struct pilot_place){.id = id, .at = pilot->len};
    HASH_ADD(hh, pilot->places, id, sizeof place->id, place);
    if (pilot->len == pilot->cap) {
        pilot->cap = pilot->cap == 0 ? 256 : 2 * pilot->cap;
        pilot->prompts = xrealloc(pilot->prompts, pilot->cap * sizeof *pilot->prompts);
    }
    pilot->prompts[pilot->len] = (struct pilot_prompt){0};
    return &pilot->prompts[pilot->len++];
}

static struct pilot_class *class_of(struct pilot_prompt *prompt, uint64_t class)
{
    for (uint32_t i = 0; i < prompt->wrong_len; i++)
        if (prompt->wrong[i].class == class)
            return &prompt->wrong[i];
    if ((prompt->wrong_len & (prompt->wrong_len - 1)) == 0) /* full at each power of two */
        prompt->wrong =
            xrealloc(prompt->wrong, (prompt->wrong_len == 0 ? 1 : 2 * prompt->wrong_len) * sizeof *prompt->wrong);
    prompt->wrong[prompt->wrong_len] = (struct pilot_class){.class = class};
    return &prompt->wrong[prompt->wrong_len++];
}

void pilot_add(struct pilot *pilot, const struct pilot_rollout *rollout, const int verdicts[PILOT_VERIFIERS])
{
    struct pilot_prompt *prompt = prompt_of(pilot, rollout->prompt);
    double ln = log(rollout->tokens_out > 0 ? rollout->tokens_out : 1);
    uint64_t class = answer_class(rollout->answer);
    struct pilot_class *wrong = rollout->right || class == 0 ? NULL : class_of(prompt, class);
    prompt->n++;
    prompt->right += rollout->right;
    prompt->blank += !rollout->right && class == 0;
    prompt->logs[rollout->right] += ln;
    prompt->squares += ln * ln;
    prompt->tokens_in += rollout->tokens_in;
    if (wrong != NULL)
        wrong->count++;
    for (uint32_t v = 0; v < pilot->verifiers_len; v++) {
        if (verdicts[v] < 0)
            continue;
        pilot->verifiers[v].seen[rollout->right]++;
        pilot->verifiers[v].accepted[rollout->right] += verdicts[v] > 0;
        if (wrong == NULL)
            continue;
        wrong->judged[v]++;
        wrong->yes[v] += verdicts[v] > 0;
    }
}

int pilot_verifier(struct pilot *pilot, struct slice name)
{
    for (uint32_t v = 0; v < pilot->verifiers_len; v++)
        if (strlen(pilot->verifiers[v].name) == name.len && memcmp(pilot->verifiers[v].name, name.data, name.len) == 0)
            return (int)v;
    if (pilot->verifiers_len == PILOT_VERIFIERS || name.len >= sizeof pilot->verifiers[0].name)
        return -1;
    memcpy(pilot->verifiers[pilot->verifiers_len].name, name.data, name.len);
    return (int)pilot->verifiers_len++;
}

/* Of two equal wrong answers of a prompt both are accepted with p^2 + icc p (1 - p). */
static double class_correlation(const struct pilot *pilot, uint32_t verifier, double p)
{
    double both = 0, pairs = 0;
    for (uint32_t i = 0; i < pilot->len; i++)
        for (uint32_t c = 0; c < pilot->prompts[i].wrong_len; c++) {
            const struct pilot_class *class = &pilot->prompts[i].wrong[c];
            double judged = class->judged[verifier], yes = class->yes[verifier];
            pairs += judged * (judged - 1);
            both += yes * (yes - 1);
        }
    if (!(pairs > 0) || !(p > 0) || !(p < 1))
        return NAN;
    return fmin(1, fmax(0, (both / pairs - p * p) / (p * (1 - p))));
}

bool pilot_rates(const struct pilot *pilot, uint32_t verifier, struct error_rates *rates, double *icc)
{
    const struct pilot_verifier *of = &pilot->verifiers[verifier];
    if (of->seen[false] == 0 || of->seen[true] == 0)
        return false;
    *rates = (struct error_rates){(double)of->accepted[true] / (double)of->seen[true],
                                  (double)of->accepted[false] / (double)of->seen[false]};
    *icc = class_correlation(pilot, verifier, rates->false_pass);
    return true;
}

/* -- laws ----------------------------------------------------------------------------------------------------------- */

static const struct pilot_prompt *picked(const struct pilot *pilot, const uint32_t *pick, uint32_t i)
{
    return &pilot->prompts[pick == NULL ? i : pick[i]];
}

static struct rate_law fit_law(const struct pilot *pilot, const uint32_t *pick, uint32_t len)
{
    struct estimate_count *counts = xalloc(len * sizeof *counts);
    for (uint32_t i = 0; i < len; i++)
        counts[i] = (struct estimate_count){picked(pilot, pick, i)->right, picked(pilot, pick, i)->n};
    struct rate_law law = fit_rates_best(counts, len);
    free(counts);
    return law;
}

/* rises[n] = ln of a (a + 1) ... (a + n - 1). */
static void fill_rises(double *rises, uint32_t len, double a)
{
    rises[0] = 0;
    for (uint32_t n = 1; n < len; n++)
        rises[n] = rises[n - 1] + log(a + n - 1);
}

/* What a law of wrong answers is judged by, by counts: prompts may be a million, and laws are hundreds. */
struct partition {
    uint32_t room;    /* of each array: one more than the most rollouts of a prompt */
    double *counts;   /* [k]: answers that k wrong rollouts of a prompt gave */
    double *longer;   /* [c]: prompts with more than c different ones */
    double *named;    /* [k]: prompts with k wrong rollouts that have an answer */
    uint32_t longest; /* different answers of one prompt, at most */
};

static struct partition partition_of(const struct pilot *pilot, const uint32_t *pick, uint32_t len)
{
    struct partition all = {.room = 1};
    for (uint32_t i = 0; i < len; i++)
        all.room = picked(pilot, pick, i)->n + 1 > all.room ? picked(pilot, pick, i)->n + 1 : all.room;
    all.counts = xalloc(3 * (size_t)all.room * sizeof *all.counts);
    all.longer = all.counts + all.room;
    all.named = all.longer + all.room;
    for (uint32_t i = 0; i < len; i++) {
        const struct pilot_prompt *prompt = picked(pilot, pick, i);
        for (uint32_t c = 0; c < prompt->wrong_len; c++) {
            all.counts[prompt->wrong[c].count]++;
            all.longer[c]++;
        }
        all.named[prompt->n - prompt->right - prompt->blank]++;
        all.longest = prompt->wrong_len > all.longest ? prompt->wrong_len : all.longest;
    }
    return all;
}

/* How likely the named wrong rollouts of each prompt fall into classes as they did, when their shares are Dirichlet
 * with the same concentration for each of so many: ln, up to what no law changes. rises, sums: room for all->room. */
static double partition_likelihood(const struct partition *all, const struct wrong_law *law, double *rises,
                                   double *sums)
{
    double likelihood = 0;
    if (all->longest > law->classes)
        return -INFINITY;
    fill_rises(rises, all->room, law->concentration);
    fill_rises(sums, all->room, law->concentration * law->classes);
    for (uint32_t k = 0; k < all->room; k++)
        likelihood += all->counts[k] * rises[k] - all->named[k] * sums[k];
    for (uint32_t c = 0; c < all->longest; c++)
        likelihood += all->longer[c] * log(law->classes - c); /* whichever of those that are left */
    return likelihood;
}

/* Over a grid. Without a prompt that has two wrong rollouts all laws are alike, and the first stays. */
static struct wrong_law fit_wrong(const struct pilot *pilot, const uint32_t *pick, uint32_t len)
{
    static const uint32_t classes[] = {8, 1, 2, 3, 4, 5, 6, 12, 16, 32, 64, 128};
    enum { STEPS = 24 };
    struct wrong_law best = {.classes = classes[0], .concentration = 0.3};
    double highest = -INFINITY;
    struct partition all = partition_of(pilot, pick, len);
    double *rises = xalloc(2 * (size_t)all.room * sizeof *rises);
    for (size_t k = 0; k < sizeof classes / sizeof classes[0]; k++)
        for (int step = 0; step <= STEPS; step++) {
            struct wrong_law law = {classes[k], 0.005 * pow(4000, (double)step / STEPS)}; /* to 20 */
            double likelihood = partition_likelihood(&all, &law, rises, rises + all.room);
            if (likelihood > highest + 1e-9)
                best = law;
            highest = fmax(highest, likelihood);
        }
    free(rises);
    free(all.counts);
    return highest < 0 ? best : (struct wrong_law){classes[0], 0.3};
}

/* Right against wrong rollouts of the same prompt, and what both leave of the spread. */
static void fit_lengths(const struct pilot *pilot, const uint32_t *pick, uint32_t len, struct pilot_fit *fit)
{
    double apart = 0, weights = 0, squares = 0, freedom = 0, tokens_in = 0, rollouts = 0;
    for (uint32_t i = 0; i < len; i++) {
        const struct pilot_prompt *prompt = picked(pilot, pick, i);
        double right = prompt->right, wrong = prompt->n - prompt->right;
        rollouts += prompt->n;
        tokens_in += (double)prompt->tokens_in;
        squares += prompt->squares;
        squares -= right > 0 ? prompt->logs[true] * prompt->logs[true] / right : 0;
        squares -= wrong > 0 ? prompt->logs[false] * prompt->logs[false] / wrong : 0;
        freedom += prompt->n - (right > 0) - (wrong > 0);
        if (!(right > 0) || !(wrong > 0))
            continue;
        double weight = right * wrong / (right + wrong);
        apart += weight * (prompt->logs[true] / right - prompt->logs[false] / wrong);
        weights += weight;
    }
    fit->shorter = weights > 0 ? exp(apart / weights) : 1;
    fit->within = freedom > 0 ? sqrt(fmax(0, squares / freedom)) : 0;
    fit->tokens_in = rollouts > 0 ? tokens_in / rollouts : 0;
}

/* Mean ln tokens of a prompt's rollouts, were all of them wrong. */
static double length_of(const struct pilot_fit *fit, const struct pilot_prompt *prompt)
{
    return (prompt->logs[true] + prompt->logs[false] - prompt->right * log(fit->shorter)) / prompt->n;
}

/* How prompts differ in that, beyond the luck of their few rollouts. */
static void fit_between(const struct pilot *pilot, const uint32_t *pick, uint32_t len, struct pilot_fit *fit)
{
    double sum = 0, squares = 0, luck = 0, count = 0;
    for (uint32_t i = 0; i < len; i++) {
        const struct pilot_prompt *prompt = picked(pilot, pick, i);
        if (prompt->n == 0)
            continue;
        double length = length_of(fit, prompt);
        sum += length;
        squares += length * length;
        luck += fit->within * fit->within / prompt->n;
        count++;
    }
    fit->length = count > 0 ? sum / count : 0;
    fit->between = count > 0 ? sqrt(fmax(0, (squares - luck) / count - fit->length * fit->length)) : 0;
}

struct pilot_fit pilot_fit(const struct pilot *pilot, const uint32_t *pick, uint32_t len)
{
    struct pilot_fit fit = {.least = UINT32_MAX};
    double blank = 0, wrong = 0, rollouts = 0;
    assert(len > 0);
    for (uint32_t i = 0; i < len; i++) {
        const struct pilot_prompt *prompt = picked(pilot, pick, i);
        blank += prompt->blank;
        wrong += prompt->n - prompt->right;
        rollouts += prompt->n;
        fit.least = prompt->n < fit.least ? prompt->n : fit.least;
        fit.most = prompt->n > fit.most ? prompt->n : fit.most;
    }
    fit.law = fit_law(pilot, pick, len);
    fit.wrong = fit_wrong(pilot, pick, len);
    fit.blank = wrong > 0 ? blank / wrong : 0;
    fit.mean = rollouts / len;
    fit_lengths(pilot, pick, len, &fit);
    fit_between(pilot, pick, len, &fit);
    return fit;
}

/* -- posterior draws ------------------------------------------------------------------------------------------------ */

/* Never right with the posterior of that, if none was seen; else Beta. */
static double draw_right(const struct rate_law *law, const struct pilot_prompt *prompt, struct dice *dice)
{
    double wrong = prompt->n - prompt->right;
    if (prompt->right == 0 && law->zero > 0) {
        double seen = exp(lgamma(law->beta + wrong) + lgamma(law->alpha + law->beta) - lgamma(law->beta) -
                          lgamma(law->alpha + law->beta + wrong));
        double never = law->zero / (law->zero + (1 - law->zero) * seen);
        if (dice_unit(dice) <= never)
            return 0;
    }
    return dice_beta(dice, law->alpha + prompt->right, law->beta + wrong);
}

static double draw_blank(const struct pilot_fit *fit, const struct pilot_prompt *prompt, struct dice *dice)
{
    enum { WEIGHT = 2 }; /* of what all prompts have in common, in rollouts */
    double wrong = prompt->n - prompt->right;
    if (!(fit->blank > 0) || !(fit->blank < 1))
        return fit->blank;
    return dice_beta(dice, WEIGHT * fit->blank + prompt->blank, WEIGHT * (1 - fit->blank) + wrong - prompt->blank);
}

/* Dirichlet again: those that were seen by what was seen, the others by the law. A prompt may have more than the law. */
static void draw_wrong(const struct pilot_fit *fit, const struct pilot_prompt *of, double named, struct dice *dice,
                       struct world_prompt *prompt)
{
    uint32_t wrong = of->wrong_len > fit->wrong.classes ? of->wrong_len : fit->wrong.classes;
    double sum = 0;
    prompt->classes = wrong + 1;
    prompt->reach = xalloc(prompt->classes * sizeof *prompt->reach);
    for (uint32_t c = 0; c < wrong; c++) {
        double seen = c < of->wrong_len ? of->wrong[c].count : 0;
        sum += prompt->reach[c + 1] = dice_gamma(dice, fit->wrong.concentration + seen) + 1e-300;
    }
    double reached = prompt->reach[0] = prompt->right;
    for (uint32_t c = 1; c < prompt->classes; c++)
        prompt->reach[c] = reached += prompt->reach[c] / sum * named;
}

/* Between the prompt's own mean and that of all, by what each is known to. */
static double draw_length(const struct pilot_fit *fit, const struct pilot_prompt *prompt, struct dice *dice)
{
    double own = prompt->n / fmax(1e-12, fit->within * fit->within), all = 1 / fmax(1e-12, fit->between * fit->between);
    double mean = prompt->n > 0 ? (own * length_of(fit, prompt) + all * fit->length) / (own + all) : fit->length;
    return mean + dice_normal(dice) / sqrt(own + all);
}

void pilot_draw(const void *arg, uint32_t index, struct dice *dice, struct world_prompt *prompt)
{
    const struct pilot_source *source = arg;
    const struct pilot_fit *fit = source->fit;
    uint32_t at = index % source->len;
    if (source->mixed)
        at = (uint32_t)(dice_unit(dice) * source->len) % source->len;
    if (source->mixed && source->pick != NULL)
        at = source->pick[at];
    const struct pilot_prompt *of = &source->pilot->prompts[at];
    prompt->right = draw_right(&fit->law, of, dice);
    double wrong = 1 - prompt->right, blank = wrong * draw_blank(fit, of, dice);
    draw_wrong(fit, of, wrong - blank, dice, prompt);
    prompt->blank = blank;
    prompt->median = exp(draw_length(fit, of, dice));
}

void pilot_law(const struct pilot_source *source, struct world_law *law)
{
    law->draw = pilot_draw;
    law->source = source;
    law->lengths.within = source->fit->within;
    law->lengths.right = source->fit->shorter;
    law->lengths.prompt = (uint32_t)fmax(1, floor(source->fit->tokens_in + 0.5));
}
