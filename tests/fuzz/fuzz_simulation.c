/* fuzz_simulation.c - the file of a simulation, and overrides after each NUL byte. What is taken can be drawn. */
#include "broker/simulate.h"

#include <stdlib.h>
#include <string.h>

#define OVERRIDES_MAX 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One prompt, one rollout, and the verdicts on it. */
static void draw(const struct simulation_spec *spec)
{
    struct world *world = world_new(&spec->law, 1, spec->seed);
    float features[2];
    struct item item = world_item(world, NO_VERIFIER, 0, 0, features);
    if (item.tokens == 0 || (world_right(world, 0, 0) && item.class == 0))
        abort();
    for (uint32_t v = 0; v < spec->law.verifiers_len; v++)
        world_verdict(world, v, 0, 0);
    world_free(&world);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = memcpy(xalloc(size + 1), data, size);
    const char *overrides[OVERRIDES_MAX];
    size_t overrides_len = 0, text_len = strlen(text);
    for (size_t at = text_len + 1; at < size && overrides_len < OVERRIDES_MAX;) {
        overrides[overrides_len++] = text + at;
        at += strlen(text + at) + 1;
    }
    struct error error = {""};
    struct simulation_spec spec;
    int rc = simulation_spec_parse((struct slice){text, text_len}, "fuzz", overrides, overrides_len, &spec, &error);
    if (rc == 0)
        draw(&spec);
    else if (error.text[0] == '\0')
        abort(); /* every refusal has its sentence */
    simulation_spec_clear(&spec);
    free(text);
    return 0;
}
