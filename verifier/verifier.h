/* verifier.h - a process that verifies: the agent around the table of checks. */
#ifndef DROVER_VERIFIER_H
#define DROVER_VERIFIER_H

#include "common/io/agent.h"

/* The verifier's lines of agent_options: kinds, pick. The text lives as long as the process. */
void verifier_options(struct agent_options *options);

/* Verdicts are shared with other verifiers through this Redis: see cache.h. Before the agent runs. */
void verifier_share(const char *redis, const char *prefix);

/* One line in the log about verdicts that the cache gave. */
void verifier_say(void);

#endif
