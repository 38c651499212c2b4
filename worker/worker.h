/* worker.h - a process that generates: the agent around the table of backends. */
#ifndef DROVER_WORKER_H
#define DROVER_WORKER_H

#include "common/io/agent.h"

/* The worker's lines of agent_options: kinds, pick, finish. The text lives as long as the process. */
void worker_options(struct agent_options *options);

/* Its last line: how many paths it continued, and how many of them by token ids; none when there were none. */
void worker_say(void);

#endif
