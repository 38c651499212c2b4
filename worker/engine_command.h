/* engine_command.h - what is wrong with the command of `--engine`, found before anything is started. */
#ifndef DROVER_ENGINE_COMMAND_H
#define DROVER_ENGINE_COMMAND_H

#include "common/err.h"

/* ERR_SYNTAX: no server could be told its port, as neither command nor url (NULL: none was given) leaves a place for it.
 * ERR_NOT_FOUND: its program is not on this machine. A command that is more to the shell than words passes: only the shell
 * knows what it runs. */
int engine_command_check(const char *command, const char *url, struct error *error);

#endif
