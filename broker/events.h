/* events.h - what of the journal matters to outsiders, as JSON lines: rollouts, verdicts, decisions, states of sweeps.
 *
 * The stream is a function of the facts alone, so `drover events` and Redis carry the same lines, whoever makes them and
 * however often. Each line has a sequence number: the commit, and the place of its fact in the commit, from 1. Facts
 * speak of leases and ids; what these mean is learned from the commits before, so commits are taken in order from the
 * first one. doc/EVENTS.md lists the fields. */
#ifndef DROVER_EVENTS_H
#define DROVER_EVENTS_H

#include "broker/journal.h"

#include <stdbool.h>

struct events;

struct seq {
    uint64_t commit;
    uint32_t index;
};

/* "COMMIT-INDEX", or "COMMIT" alone for its beginning. False: it is neither. */
bool seq_parse(struct slice text, struct seq *seq);
void seq_put(struct buf *out, struct seq seq);
bool seq_before(struct seq a, struct seq b);

struct events_options {
    struct journal *journal; /* borrowed: records of prompts, texts of other commits */
    const char *sweep;       /* only events of the sweep with this name; NULL: of all */
    bool texts;              /* rollouts come with their text */
};

struct events *events_new(const struct events_options *options);
void events_free(struct events **events);

/* Number of the commit that it wants next. */
uint64_t events_next(const struct events *events);

/* Takes the next commit and calls put(arg, seq, line) for each event that is not before `from`; a line is a JSON object
 * without a line break. A non-zero return of put is returned, and the same commit is then wanted again. ERR_CORRUPT: the
 * facts do not follow from those before. */
int events_commit(struct events *events, struct slice facts, struct slice texts, struct seq from,
                  int (*put)(void *arg, struct seq seq, struct slice line), void *arg, struct error *error);

/* Takes all commits below `until` without a word. */
int events_skip(struct events *events, uint64_t until, struct error *error);

/* False: no commit so far told of the sweep of the options. */
bool events_found(const struct events *events);

/* Calls with the name of each sweep that the commits so far told of, once for each time it was replaced too. */
void events_sweeps(const struct events *events, void (*name)(void *arg, const char *name), void *arg);

#endif
