/* program.h - how a process starts drover again. */
#ifndef DROVER_PROGRAM_H
#define DROVER_PROGRAM_H

#include <stdlib.h>

/* The running program's own file; out of a bundle (scripts/bundle), whose process is the loader, what the bundle says. */
static inline const char *program_path(void)
{
    const char *bundled = getenv("DROVER_PROGRAM");
    return bundled != NULL ? bundled : "/proc/self/exe";
}

#endif
