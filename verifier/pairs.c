/* pairs.c - see pairs.h. */
#include "verifier/pairs.h"
#include "common/buf.h"

#include <math.h>
#include <stdlib.h>

size_t pairs_plan(size_t n, size_t rounds, struct pair *out)
{
    size_t len = 0, most = n / 2;
    if (rounds == 0 || rounds > most)
        rounds = most;
    for (size_t step = 1; step <= rounds; step++)
        for (size_t i = 0; i < n; i++)
            if (2 * step != n || i < step) /* opposite ones on the ring meet once */
                out[len++] = (struct pair){.a = i, .b = (i + step) % n};
    return len;
}

void pairs_rate(const struct pair *pairs, size_t len, size_t n, double *scores)
{
    double *played = xalloc(n * sizeof *played);
    for (size_t i = 0; i < n; i++)
        scores[i] = 0;
    for (size_t i = 0; i < len; i++) {
        scores[pairs[i].a] += pairs[i].win;
        scores[pairs[i].b] += 1 - pairs[i].win;
        played[pairs[i].a]++;
        played[pairs[i].b]++;
    }
    for (size_t i = 0; i < n; i++)
        scores[i] = played[i] > 0 ? scores[i] / played[i] : 0.5;
    free(played);
}

/* One round of the minorise-maximise update (Hunter 2004): strength = wins / sum over games of 1 / (own + other). */
static double update(const struct pair *pairs, size_t len, size_t n, double *strength, double *next)
{
    double moved = 0, logs = 0;
    double *wins = next, *weight = next + n;
    for (size_t i = 0; i < n; i++) {
        wins[i] = 0.5;
        weight[i] = 1 / (strength[i] + 1);
    }
    for (size_t i = 0; i < len; i++) {
        double share = 1 / (strength[pairs[i].a] + strength[pairs[i].b]);
        wins[pairs[i].a] += pairs[i].win;
        wins[pairs[i].b] += 1 - pairs[i].win;
        weight[pairs[i].a] += share;
        weight[pairs[i].b] += share;
    }
    for (size_t i = 0; i < n; i++) {
        next[i] = wins[i] / weight[i];
        logs += log(next[i]);
    }
    for (size_t i = 0; i < n; i++) {
        next[i] /= exp(logs / (double)n);
        moved = fmax(moved, fabs(next[i] - strength[i]) / strength[i]);
        strength[i] = next[i];
    }
    return moved;
}

void pairs_bradley_terry(const struct pair *pairs, size_t len, size_t n, double *scores)
{
    double *strength = xalloc(n * sizeof *strength), *next = xalloc(2 * n * sizeof *next);
    for (size_t i = 0; i < n; i++)
        strength[i] = 1;
    for (int round = 0; round < 200; round++)
        if (update(pairs, len, n, strength, next) < 1e-9)
            break;
    for (size_t i = 0; i < n; i++)
        scores[i] = strength[i] / (strength[i] + 1);
    free(strength);
    free(next);
}
