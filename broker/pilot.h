/* pilot.h - what a few rollouts of each prompt tell of the laws behind them, and worlds drawn from that.
 *
 * Success rates: Beta, with a share that is never right where the counts ask for one (estimate.h), and each prompt's own
 * rate from its posterior. Wrong answers of a prompt: those seen, and others that were not, Dirichlet over a number of classes
 * and with a concentration that all prompts share. Tokens: lognormal around each prompt's own median, which
 * leans to that of all. */
#ifndef DROVER_PILOT_H
#define DROVER_PILOT_H

#include "broker/policy/estimate.h"
#include "broker/policy/predict.h"
#include "broker/world.h"
#include "common/err.h"

enum { PILOT_VERIFIERS = 4 };

/* Equal wrong answers of one prompt, with the verdicts on them. */
struct pilot_class {
    uint64_t class;
    uint32_t count, judged[PILOT_VERIFIERS], yes[PILOT_VERIFIERS];
};

struct pilot_prompt {
    uint32_t n, right;  /* judged rollouts */
    uint32_t blank;     /* wrong ones without an answer */
    double logs[2];     /* sums of ln tokens, of wrong and of right ones */
    double squares;     /* of ln tokens, all */
    uint64_t tokens_in; /* sum */
    struct pilot_class *wrong;
    uint32_t wrong_len;
};

/* Right and wrong rollouts that a verifier saw, and those that it accepted. */
struct pilot_verifier {
    char name[65];
    uint64_t seen[2], accepted[2];
};

struct pilot_place;

struct pilot {
    struct pilot_prompt *prompts; /* in order of their first rollout */
    uint32_t len, cap;
    struct pilot_place *places; /* hash of ids */
    struct pilot_verifier verifiers[PILOT_VERIFIERS];
    uint32_t verifiers_len;
};

struct pilot *pilot_new(void);
void pilot_free(struct pilot **pilot);

struct pilot_rollout {
    struct slice prompt, answer; /* its id; "": no answer */
    bool right;
    uint32_t tokens_in, tokens_out;
};
/* One rollout whose truth is known. Verdicts: by verifier of the pilot; -1: none, 0: rejected, 1: accepted. */
void pilot_add(struct pilot *pilot, const struct pilot_rollout *rollout, const int verdicts[PILOT_VERIFIERS]);

/* Index of a verifier, added if it is new; -1: there is no room. */
int pilot_verifier(struct pilot *pilot, struct slice name);

/* Rates at which it accepts right and wrong rollouts, and how alike it takes equal wrong answers of a prompt: the
 * intra-class correlation of its verdicts, by pairs; NAN without pairs. False: it saw none of one of both kinds. */
bool pilot_rates(const struct pilot *pilot, uint32_t verifier, struct error_rates *rates, double *icc);

/* -- laws --------------------------------------------------------------------------------------------------------- */

/* Shares of the wrong answers of a prompt: Dirichlet, the same concentration for each of so many classes. */
struct wrong_law {
    uint32_t classes;
    double concentration;
};

struct pilot_fit {
    struct rate_law law;
    struct wrong_law wrong;
    double blank;           /* share of the wrong rollouts without an answer */
    double within;          /* sigma of ln tokens of a prompt's rollouts */
    double shorter;         /* factor of the tokens of right ones */
    double length, between; /* of prompts: mean and sigma of ln tokens of their wrong rollouts */
    double tokens_in;
    uint32_t least, most; /* judged rollouts of a prompt */
    double mean;
};

/* From these prompts (indices, repeats allowed), or from all when pick is NULL and len is the pilot's. len > 0. */
struct pilot_fit pilot_fit(const struct pilot *pilot, const uint32_t *pick, uint32_t len);

/* A source of prompts for worlds. */
struct pilot_source {
    const struct pilot *pilot;
    const struct pilot_fit *fit;
    const uint32_t *pick; /* prompts to draw from, as for the fit; NULL: all */
    uint32_t len;
    bool mixed; /* each is drawn anew; false: prompt i of a world is the pilot's prompt i */
};
/* Makes the prompts, answers and lengths of a law those of the source, which must outlive it. */
void pilot_law(const struct pilot_source *source, struct world_law *law);
void pilot_draw(const void *source, uint32_t index, struct dice *dice, struct world_prompt *prompt);

#endif
