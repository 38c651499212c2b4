/* worker.h - a process that generates: the agent around the table of backends. */
#ifndef DROVER_WORKER_H
#define DROVER_WORKER_H

#include "common/io/agent.h"

/* The worker's lines of agent_options: kinds, pick, finish. The text lives as long as the process. */
void worker_options(struct agent_options *options);

#endif
