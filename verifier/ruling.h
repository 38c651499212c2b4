/* ruling.h - what a judge decided, read strictly from what it wrote.
 *
 * A judge quotes what it judges, so a verdict that a candidate wrote into its text may stand in the judge's reply. The
 * built-in templates therefore give each question a word that nobody else knows (a nonce): only what follows its last
 * use counts, and there must be a verdict and nothing else. A template without the word is read by its last line, which
 * must end with the one verdict that it holds. Verdicts are written [[X]], \boxed{X}, or {"verdict": X}. Whatever is
 * none of this is no verdict; it is never guessed. */
#ifndef DROVER_RULING_H
#define DROVER_RULING_H

#include "common/buf.h"

#include <stdbool.h>

/* The verdict's own text, trimmed, borrowed from reply; nonce empty: the template has none. */
bool ruling_find(struct slice reply, struct slice nonce, struct slice *verdict);

/* yes or no, in any case. */
bool ruling_yes(struct slice verdict, bool *yes);

/* One of `choices`, such as "A|B|tie", in any case; its place in them. */
bool ruling_choice(struct slice verdict, const char *choices, int *choice);

/* A number from min to max, written in digits. */
bool ruling_points(struct slice verdict, double min, double max, double *points);

/* The object behind the last nonce, or on the last line: points of each of n candidates by the numbers 1..n that they
 * go by. All of them, or false. */
bool ruling_scores(struct slice reply, struct slice nonce, double min, double max, double *points, size_t n);

#endif
