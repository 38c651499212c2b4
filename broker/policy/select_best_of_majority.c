/* select_best_of_majority.c - the answer with the best mean score among those that are frequent enough.
 *
 * Best-of-Majority (arXiv 2510.03199; rule from notes on the paper, not from its code): keep the answers whose share of
 * the rollouts reaches alpha, take the one with the largest mean score; when none is left, the majority. Best-of-N falls
 * for the lucky score of a rare answer, ever more often as N grows; a rare answer never gets that far here. The default
 * of alpha is ours: two rollouts, or the paper's .005 where that is more. */
#include "broker/policy/ballot.h"

#include <math.h>

enum { OPT_ALPHA, OPT_REWARD };

static const struct option_row options[] = {
    [OPT_ALPHA] = {.name = "alpha",
                   .type = OPTION_REAL,
                   .min = 0,
                   .max = 1,
                   .fallback = 0,
                   .help = "smallest share of the rollouts that an answer must have; 0: two of them, at least .005"},
    [OPT_REWARD] = {.name = "reward",
                    .type = OPTION_CHOICE,
                    .max = 1,
                    .choices = "mean|max",
                    .help = "what stands for an answer: the mean or the largest of its rollouts' scores"},
    {.name = NULL},
};

/* Fewest rollouts of an answer that is kept. */
static double least_count(const struct prompt_view *view)
{
    double alpha = view->options[OPT_ALPHA], n = view->stats->delivered;
    return alpha > 0 ? alpha * n : fmax(2, .005 * n);
}

static void best_of_majority_select(const struct prompt_view *view, struct ranking *out)
{
    const struct stats *stats = view->stats;
    double least = least_count(view);
    *out = (struct ranking){.winner = NO_ORDINAL};
    for (uint32_t i = 0; i < stats->classes_len; i++) {
        const struct class_stat *class = &stats->classes[i];
        if (class->count < least || class->scored == 0)
            continue;
        double reward = view->options[OPT_REWARD] > 0 ? class->score_best : class->weight / class->scored;
        if (out->winner == NO_ORDINAL || reward > out->confidence)
            *out = (struct ranking){class->first, reward};
    }
    fall_back_to_majority(view, out);
}

const struct selector select_best_of_majority = {
    .name = "best-of-majority",
    .help = "the best-scored of the answers that are frequent enough",
    .version = 1,
    .needs = NEED_ANSWER | NEED_VERIFIER,
    .min_n = 1,
    .options = options,
    .confidence = CONFIDENCE_SCORE,
    .select = best_of_majority_select,
};
