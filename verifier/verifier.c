/* verifier.c - see verifier.h. */
#include "verifier/verifier.h"
#include "verifier/check.h"

#include <string.h>

static const struct engine *pick(struct slice spec)
{
    const struct check *check = check_of(spec);
    return check != NULL && check->engine != NULL ? check->engine : &engine_check;
}

void verifier_options(struct agent_options *options)
{
    static char kinds[512];
    kinds[0] = '\0';
    for (int i = 0; checks[i] != NULL; i++) {
        if (i > 0)
            strcat(kinds, ",");
        strcat(kinds, checks[i]->name);
    }
    options->verifier = true;
    options->kinds = kinds;
    options->pick = pick;
    options->finish = NULL;
}
