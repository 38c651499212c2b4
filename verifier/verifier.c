/* verifier.c - see verifier.h. */
#include "verifier/verifier.h"
#include "common/io/log.h"
#include "verifier/cache.h"
#include "verifier/check.h"
#include "verifier/group.h"
#include "verifier/outage.h"

#include <string.h>

static const struct engine *pick(struct slice spec)
{
    if (group_spec(spec))
        return &engine_group;
    const struct check *check = check_of(spec);
    return check != NULL && check->engine != NULL ? check->engine : &engine_check;
}

/* Only programs are handed whole records; one may stand inside a `switch`. The spec is JSON of our own, so a text in it
 * would have escaped quotes. */
static bool reads(struct slice spec)
{
    static const char program[] = "\"kind\":\"exec\"";
    return spec.len > 0 && memmem(spec.data, spec.len, program, sizeof program - 1) != NULL;
}

static void keep(struct job *job, struct slice spec)
{
    (void)spec; /* the job's own */
    cache_keep(job);
}

void verifier_share(const char *redis, const char *prefix)
{
    cache_share(redis, prefix);
}

void verifier_say(void)
{
    struct cache_counts counts = cache_counts();
    if (counts.asked > 0)
        log_line(0, "verifier verdicts=%llu known=%llu shared=%llu", (unsigned long long)counts.asked,
                 (unsigned long long)counts.known, (unsigned long long)counts.shared);
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
    options->reads = reads;
    options->known = cache_known;
    options->trouble = outage_text;
    options->finish = keep;
}
