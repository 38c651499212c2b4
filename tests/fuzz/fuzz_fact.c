/* fuzz_fact.c - any bytes as a journal: each fact is applied or refused, and what was accepted can be checked and dumped.
 *
 * A first byte 0xff puts the definitions of the simulator's sweep in front, so that little input reaches deep. */
#include "broker/core/core.h"
#include "tests/sim/sweeps.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A few bytes may promise millions of prompts; that costs memory, and finds nothing more than a few prompts do. */
static bool too_large(const struct fact *fact)
{
    return fact->type == FACT_set && fact->set.len > 64;
}

/* submitted: as a submission, which may name an attachment that is there already; a journal does not. */
static int apply_all(struct core *core, struct slice facts, bool submitted)
{
    struct fact fact;
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < facts.len;) {
        rc = fact_get(facts, &at, &fact);
        if (rc != 0 && rc != ERR_PROTOCOL)
            abort();
        if (rc == 0 && too_large(&fact))
            return ERR_LIMIT;
        if (rc != 0)
            continue;
        rc = core_apply(core, &fact);
        if (submitted && fact.type == FACT_attachment)
            rc = 0;
        if (rc != 0 && rc != ERR_CORRUPT)
            abort();
    }
    return rc;
}

/* What a journal says is checked; that it adds up is not promised. */
static void look(const struct core *core)
{
    struct buf dump = {0};
    struct error error;
    core_check(core, &error);
    core_dump(core, &dump);
    buf_clear(&dump);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct core *core = core_new(&(struct core_options){.lease_ms = 100});
    struct slice facts = {(const char *)data, size};
    if (size > 0 && data[0] == 0xff) {
        struct buf definitions = {0};
        put_sweep(&definitions, 1, 0, true);
        if (apply_all(core, buf_slice(&definitions), true) != 0)
            abort();
        buf_clear(&definitions);
        facts = (struct slice){facts.data + 1, size - 1};
    }
    if (apply_all(core, facts, false) == 0)
        look(core);
    core_free(&core);
    return 0;
}
