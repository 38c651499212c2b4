/* test_compile.c - what makes two pools, models and verifiers the same, and what a core that has them already keeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broker/compile.h"
#include "broker/core/core.h"
#include "broker/core/fact.h"
#include "common/place.h"

#include <stdlib.h>
#include <string.h>

static void assert_blank(const char *spec, const char *wanted)
{
    struct buf out = {0};
    place_blank(slice_of(spec), &out);
    assert_string_equal(out.data == NULL ? "" : out.data, wanted);
    buf_clear(&out);
}

static void places_are_blanked_wherever_they_stand(void **state)
{
    (void)state;
    assert_blank(
        "{\"a\":[\"url\",{\"url\":\"x\"}],\"options\":{\"key_env\":\"K\",\"model\":\"m\",\"urls\":[\"h\",\"i\"]},"
        "\"url\":\"http://h\"}",
        "{\"a\":[\"url\",{\"url\":\"x\"}],\"options\":{\"key_env\":null,\"model\":\"m\",\"urls\":null},"
        "\"url\":null}");
    assert_blank(
        "{\"inner\":{\"url\":{\"inner\":{},\"options\":{\"key_file\":\"a\\\"}\",\"x\":1}}},\"kind\":\"switch\","
        "\"options\":{\"cases\":{\"urls\":\"url\"},\"url\":\"is no option\"}}",
        "{\"inner\":{\"url\":{\"inner\":{},\"options\":{\"key_file\":null,\"x\":1}}},\"kind\":\"switch\","
        "\"options\":{\"cases\":{\"urls\":\"url\"},\"url\":\"is no option\"}}");
}

static void what_is_no_spec_stays_as_it_is(void **state)
{
    (void)state;
    const char *const texts[] = {
        "",   "{}",           "{",          "{\"url\":\"h\"",       "{\"url",
        "[]", "{\"url\":1}x", "{\"a\" :1}", "{\"url\":\"\\\\\\\"}", "{\"options\":1,\"url\":1}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_blank(texts[i], texts[i]);
    char deep[4000] = "";
    for (int i = 0; i < 300; i++)
        strcat(deep, "{\"inner\":{\"");
    assert_blank(deep, deep);
}

#define HEAD "sweep: {name: s, prompts: p.jsonl}\n"
#define SWEEP(name, url, key, temperature)                                                               \
    HEAD "models:\n- {name: " name ", backend: openai, url: 'http://" url "', temperature: " temperature \
         ", options: {key_file: " key "}}\n"                                                             \
         "verifiers: [{name: v, kind: reward, urls: ['http://" url "'], key_file: " key "}]\n"           \
         "arms: [{name: a, n: 8, verifier: v}]\n"

/* The definitions of a sweep over one prompt, as somebody who knows this core compiles them. */
static void define(const char *yaml, const struct core *core, struct buf *to)
{
    struct sweep_spec spec;
    struct prompt_set set;
    struct error error = {""};
    assert_int_equal(sweep_spec_parse(slice_of(yaml), "s.yaml", NULL, 0, &spec, &error), 0);
    char *prompts = xstrdup("{\"id\":\"a\",\"prompt\":\"1+1=\",\"answer\":\"2\"}\n");
    assert_int_equal(prompt_set_parse(&prompts, strlen(prompts), "p.jsonl", spec.group_by, &set, &error), 0);
    buf_reset(to);
    assert_int_equal(compile(&spec, &set, core, slice_of(yaml), 1, 0, to, &error), 0);
    prompt_set_clear(&set);
    sweep_spec_clear(&spec);
}

/* Another byte here, and pools of journals that exist are not found again. An option that is added later is left out while
 * it has its default. */
static void specs_of_models_stay_equal_to_those_of_earlier_releases(void **state)
{
    (void)state;
    struct sweep_spec spec;
    struct error error = {""};
    const char *yaml = HEAD "models: [{name: m, backend: openai}]\narms: [{name: a, n: 8}]\n";
    assert_int_equal(sweep_spec_parse(slice_of(yaml), "s.yaml", NULL, 0, &spec, &error), 0);
    assert_string_equal(
        spec.models[0].spec,
        "{\"answer\":{\"kind\":\"last-line\",\"marker\":null,\"partial\":false,\"pattern\":null},\"backend\":\"openai\","
        "\"max_tokens\":256,\"min_p\":0,\"name\":\"m\",\"options\":{\"api\":\"completions\",\"ca_file\":null,"
        "\"dialect\":\"auto\",\"extra\":null,\"key_env\":null,\"key_file\":null,\"logprobs\":0,\"model\":null,"
        "\"repetition_penalty\":1,\"salt\":null,\"stream\":\"auto\",\"top_k\":0},\"path\":null,\"step\":\"\\n\",\"stop\":"
        "[],\"system\":null,\"temperature\":1,\"template\":null,\"top_p\":1,\"url\":null}");
    sweep_spec_clear(&spec);
}

/* Fingerprints of the model, verifier and pool. */
struct prints {
    uint64_t model, verifier, pool;
};

static struct prints prints_of(const struct buf *definitions)
{
    struct prints prints = {0};
    struct fact fact;
    for (size_t at = 0; at < definitions->len;) {
        assert_int_equal(fact_get(buf_slice(definitions), &at, &fact), 0);
        if (fact.type == FACT_model)
            prints.model = fact.model.fingerprint;
        else if (fact.type == FACT_verifier)
            prints.verifier = fact.verifier.fingerprint;
        else if (fact.type == FACT_pool)
            prints.pool = fact.pool.fingerprint;
    }
    return prints;
}

static struct core *empty(void)
{
    return core_new(&(struct core_options){.lease_ms = 1000});
}

static void assert_prints(const char *yaml, const struct core *core, struct prints wanted)
{
    struct buf to = {0};
    define(yaml, core, &to);
    struct prints got = prints_of(&to);
    assert_int_equal(got.model, wanted.model);
    assert_int_equal(got.verifier, wanted.verifier);
    assert_int_equal(got.pool, wanted.pool);
    buf_clear(&to);
}

static void servers_that_move_change_no_identity(void **state)
{
    (void)state;
    struct core *core = empty();
    struct buf to = {0};
    define(SWEEP("m", "a:1", "old", "1"), core, &to);
    struct prints prints = prints_of(&to);
    assert_prints(SWEEP("m", "b:2", "new", "1"), core, prints);
    struct buf other = {0};
    define(SWEEP("m", "a:1", "old", "0.5"), core, &other);
    assert_int_not_equal(prints_of(&other).pool, prints.pool);
    assert_int_not_equal(prints_of(&other).model, prints.model);
    buf_clear(&other);
    buf_clear(&to);
    core_free(&core);
}

/* Applies definitions with the fingerprints that an earlier release would have given them. */
static void apply_with_old_prints(struct core *core, const struct buf *definitions)
{
    struct fact fact;
    for (size_t at = 0; at < definitions->len;) {
        assert_int_equal(fact_get(buf_slice(definitions), &at, &fact), 0);
        if (fact.type == FACT_model)
            fact.model.fingerprint = 101;
        else if (fact.type == FACT_verifier)
            fact.verifier.fingerprint = 102;
        else if (fact.type == FACT_pool)
            fact.pool.fingerprint = 103;
        assert_int_equal(core_apply(core, &fact), 0);
    }
}

/* A model that draws with other random numbers is another pool, and its rollouts are of the same kind. */
static void a_seed_of_its_own_makes_no_other_model(void **state)
{
    (void)state;
    static const struct {
        const char *keys;
        bool same;
    } rows[] = {{"", true},
                {", seed: 7", true},
                {", seed: 7, system: '\"seed\":7,'", false},
                {", seed: 7, step: '\"seed\":7,'", false},
                {", seed: 7, options: {extra: '{\"seed\":1,\"step\":2}'}", false},
                {", temperature: 0.5", false}};
    struct core *core = empty();
    struct buf to = {0};
    define(HEAD "models: [{name: m, backend: openai, seed: 12}]\narms: [{name: a, n: 8}]\n", core, &to);
    apply_with_old_prints(core, &to);
    struct model_info known = core_model(core, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sweep_spec spec;
        struct error error = {""};
        buf_reset(&to);
        buf_printf(&to, HEAD "models: [{name: other, backend: openai%s}]\narms: [{name: a, n: 8}]\n", rows[i].keys);
        assert_int_equal(sweep_spec_parse(buf_slice(&to), "s.yaml", NULL, 0, &spec, &error), 0);
        assert_int_equal(compile_same_model(&spec.models[0], &known), rows[i].same);
        sweep_spec_clear(&spec);
    }
    buf_clear(&to);
    core_free(&core);
}

static void what_an_earlier_release_wrote_keeps_its_fingerprints(void **state)
{
    (void)state;
    struct core *core = empty();
    struct buf to = {0};
    define(SWEEP("m", "a:1", "old", "1"), core, &to);
    apply_with_old_prints(core, &to);
    const struct prints old = {101, 102, 103};
    assert_prints(SWEEP("m", "a:1", "old", "1"), core, old);
    assert_prints(SWEEP("m", "b:2", "new", "1"), core, old);
    assert_prints(SWEEP("renamed", "b:2", "new", "1"), core, old);
    buf_clear(&to);
    core_free(&core);
}

/* A known model is written again where only its place is another, and nothing of it changes but that. */
static void a_move_is_a_fact(void **state)
{
    (void)state;
    struct core *core = empty();
    struct buf to = {0};
    define(SWEEP("m", "a:1", "old", "1"), core, &to);
    apply_with_old_prints(core, &to);
    define(SWEEP("renamed", "b:2", "new", "1"), core, &to);
    struct update update = {0};
    core_start(core, 1000, true, &update);
    core_step(core, &(struct event){.type = EVENT_SUBMIT, .submit.definitions = buf_slice(&to)}, &update);
    assert_int_equal(update.code, 0);
    assert_int_equal(core_models(core), 1);
    assert_int_equal(core_verifiers(core), 1);
    assert_int_equal(core_pools(core), 1);
    struct model_info model = core_model(core, 0);
    assert_string_equal(model.name, "m");
    assert_int_equal(model.fingerprint, 101);
    assert_non_null(memmem(model.spec.data, model.spec.len, "http://b:2", 10));
    assert_non_null(memmem(model.spec.data, model.spec.len, "\"name\":\"m\"", 10));
    struct verifier_info verifier = core_verifier(core, 0);
    assert_non_null(memmem(verifier.spec.data, verifier.spec.len, "http://b:2", 10));
    assert_int_equal(verifier.fingerprint, 102);
    struct buf facts = {0};
    core_dump(core, &facts);
    struct core *copy = empty();
    struct fact fact;
    for (size_t at = 0; at < facts.len;) {
        assert_int_equal(fact_get(buf_slice(&facts), &at, &fact), 0);
        assert_int_equal(core_apply(copy, &fact), 0);
    }
    assert_non_null(memmem(core_model(copy, 0).spec.data, core_model(copy, 0).spec.len, "http://b:2", 10));
    fact = (struct fact){.type = FACT_model, .model = {.id = 0, .fingerprint = 5}};
    assert_int_equal(core_apply(copy, &fact), ERR_CORRUPT);
    fact = (struct fact){.type = FACT_verifier, .verifier = {.id = 0, .fingerprint = 5}};
    assert_int_equal(core_apply(copy, &fact), ERR_CORRUPT);
    update_clear(&update);
    buf_clear(&facts);
    buf_clear(&to);
    core_free(&copy);
    core_free(&core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_are_blanked_wherever_they_stand),
        cmocka_unit_test(what_is_no_spec_stays_as_it_is),
        cmocka_unit_test(specs_of_models_stay_equal_to_those_of_earlier_releases),
        cmocka_unit_test(servers_that_move_change_no_identity),
        cmocka_unit_test(what_an_earlier_release_wrote_keeps_its_fingerprints),
        cmocka_unit_test(a_seed_of_its_own_makes_no_other_model),
        cmocka_unit_test(a_move_is_a_fact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
