/* own_names.c - see own_names.h. */
#include "broker/own_names.h"
#include "broker/compile.h"

#include <stdlib.h>

struct own_names {
    const struct core *core;
    struct sweep_spec spec; /* empty where the file is not one that is read: of `reselect`, or of another release */
};

struct own_names *own_names_new(const struct core *core, uint32_t sweep)
{
    struct own_names *names = xalloc(sizeof *names);
    struct sweep_info info = core_sweep(core, sweep);
    struct error error;
    names->core = core;
    if (sweep_spec_parse(info.source, info.name, NULL, 0, &names->spec, &error) != 0)
        names->spec = (struct sweep_spec){0};
    names->spec.seed = info.seed;
    return names;
}

void own_names_free(struct own_names **names)
{
    if (*names == NULL)
        return;
    sweep_spec_clear(&(*names)->spec);
    free(*names);
    *names = NULL;
}

const char *own_name(const struct own_names *names, uint32_t id)
{
    struct pool_info pool = core_pool(names->core, id);
    struct model_info known = core_model(names->core, pool.model);
    for (uint32_t i = 0; i < names->spec.models_len; i++) {
        const struct sweep_model *model = &names->spec.models[i];
        if (compile_pool_seed(&names->spec, model) == pool.seed && compile_same_model(model, &known))
            return model->name;
    }
    return known.name;
}
