/* check_noisy.c - another check, made to err at known rates: what an imperfect verifier would say.
 */
#include "common/hash.h"
#include "common/rng.h"
#include "verifier/inner.h"

#include <stdlib.h>

struct noisy {
    struct inner inner;
    double tpr, fpr;
    uint64_t name; /* hash: two noisy verifiers of one seed err independently, a nested one too */
};

/* What a draw is for. */
enum { DRAW_OUTCOME = 1, DRAW_SCORE = 2 };

static void noisy_close(void **state)
{
    struct noisy *noisy = *state;
    if (noisy != NULL)
        inner_close(&noisy->inner);
    free(noisy);
    *state = NULL;
}

static int noisy_fill(struct noisy *noisy, const struct json_t *doc, struct error *error)
{
    const struct doc_range unit = {0, 1};
    struct slice inner, name = {0};
    noisy->tpr = 0.9;
    noisy->fpr = 0.1;
    doc_text(doc, "name", &name);
    noisy->name = hash_bytes(name.data, name.len);
    int code = doc_option_real(doc, "tpr", unit, &noisy->tpr, error);
    if (code == 0)
        code = doc_option_real(doc, "fpr", unit, &noisy->fpr, error);
    if (code < 0)
        return code;
    if (!doc_text(doc_object(doc, "options"), "verifier", &inner))
        return error_set(error, ERR_SYNTAX, "option `verifier` must name a verifier");
    return inner_open(doc, inner.data, &noisy->inner, error);
}

static int noisy_open(struct slice spec, void **state, struct error *error)
{
    struct json_t *doc;
    int code = doc_parse(spec, &doc, error);
    if (code < 0)
        return code;
    void *noisy = xalloc(sizeof(struct noisy));
    code = noisy_fill(noisy, doc, error);
    doc_free(&doc);
    if (code < 0)
        noisy_close(&noisy);
    *state = noisy;
    return code;
}

/* The score agrees with the outcome (above one half: pass) and is otherwise uniform, so that
 * best-of-n can rank. */
static int noisy_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    const struct noisy *noisy = state;
    struct verdict truth;
    int code = inner_run(&noisy->inner, input, &truth, error);
    if (code < 0)
        return code;
    if (!outcome_decides(truth.outcome)) {
        *verdict = verdict_unknown;
        return 0;
    }
    double rate = truth.outcome == OUTCOME_PASS ? noisy->tpr : noisy->fpr;
    bool pass = rng_unit(rng_u64(input->seed, RNG_VERIFIER, DRAW_OUTCOME, noisy->name)) < rate;
    double u = rng_unit(rng_u64(input->seed, RNG_VERIFIER, DRAW_SCORE, noisy->name));
    verdict->outcome = pass ? OUTCOME_PASS : OUTCOME_FAIL;
    verdict->score = pass ? 0.5 + u / 2 : u / 2;
    return 0;
}

const struct check check_noisy = {
    .name = "noisy",
    .help = "another verifier with a given rate of true and false passes",
    .open = noisy_open,
    .run = noisy_run,
    .close = noisy_close,
};
