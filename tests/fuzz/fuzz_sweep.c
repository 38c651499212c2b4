/* fuzz_sweep.c - a sweep file, and overrides after each NUL byte; the file is read as cluster.conf, too, and as arms over
 * rollouts that exist. */
#include "broker/sweep_file.h"
#include "common/cluster.h"

#include <stdlib.h>
#include <string.h>

#define OVERRIDES_MAX 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The model and verifier that the seeds name. */
static void read_arms(struct slice text)
{
    const struct sweep_model model = {.name = "m", .answer = (char[]){""}, .has_answer = true};
    const struct sweep_verifier verifier = {.name = "right"};
    const struct sweep_known known = {&model, &verifier, 1, 1};
    struct error error = {""};
    struct sweep_spec spec;
    struct buf trees = {0};
    int rc = sweep_arms_parse(text, "fuzz", &known, &spec, &trees, &error);
    if (rc < 0 ? error.text[0] == '\0' : spec.arms_len == 0)
        abort();
    for (uint32_t i = 0; rc == 0 && i < spec.arms_len; i++)
        if (spec.arms[i].strategy.policy->trees != NULL || spec.arms[i].models[0] != 0)
            abort();
    sweep_spec_clear(&spec);
    buf_clear(&trees);
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
    /* A copy without slack, so that a sanitizer sees the first byte read behind the end. */
    char *exact = memcpy(malloc(text_len > 0 ? text_len : 1), text, text_len);
    struct error error = {""};
    struct sweep_spec spec;
    if (sweep_spec_parse((struct slice){exact, text_len}, "fuzz", overrides, overrides_len, &spec, &error) < 0 &&
        error.text[0] == '\0')
        abort(); /* every refusal has its sentence */
    sweep_spec_clear(&spec);
    read_arms((struct slice){exact, text_len});
    struct cluster_conf conf;
    cluster_conf_parse((struct slice){exact, text_len}, "fuzz", &conf, &error);
    free(exact);
    free(text);
    return 0;
}
