/* test_sweep_file.c - sweep files: a full one, defaults, grids, overrides, everything that is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broker/sweep_file.h"
#include "common/conf.h"
#include "common/limits.h"

#include <stdlib.h>
#include <string.h>

static int parse(const char *text, struct sweep_spec *spec, struct error *error)
{
    return sweep_spec_parse(slice_of(text), "s.yaml", NULL, 0, spec, error);
}

#define HEAD                               \
    "sweep: {name: s, prompts: p.jsonl}\n" \
    "models:\n- {name: m, backend: tinylm}\n"

static void minimal_file_has_defaults(void **state)
{
    (void)state;
    struct sweep_spec spec;
    struct error error = {""};
    assert_int_equal(parse(HEAD "arms: [{name: a, n: 8}]\n", &spec, &error), 0);
    assert_string_equal(spec.name, "s");
    assert_int_equal(spec.seed, 1);
    assert_string_equal(spec.prompts_path, "p.jsonl");
    assert_null(spec.group_by);
    assert_int_equal(spec.truth, UINT32_MAX);
    assert_int_equal(spec.budget.rollouts + spec.budget.tokens + spec.budget.slot_ms + spec.budget.cost_micro +
                         spec.budget.deadline_s,
                     0);
    assert_false(spec.budget.accepted);
    const struct sweep_model *model = &spec.models[0];
    assert_int_equal(model->max_tokens, 256);
    assert_int_equal(model->template_tokens, 16);
    assert_int_equal(model->timeout_ms, 600000);
    assert_int_equal(model->slots, 0);
    assert_true(model->has_answer);
    assert_string_equal(model->spec,
                        "{\"answer\":{\"kind\":\"last-line\",\"marker\":null,\"partial\":false,\"pattern\":null},"
                        "\"backend\":\"tinylm\",\"max_tokens\":256,\"min_p\":0,\"name\":\"m\",\"options\":{},"
                        "\"path\":null,\"step\":\"\\n\",\"stop\":[],\"system\":null,\"temperature\":1,"
                        "\"template\":null,\"top_p\":1,\"url\":null}");
    const struct sweep_arm *arm = &spec.arms[0];
    assert_int_equal(spec.arms_len, 1);
    assert_ptr_equal(arm->strategy.policy, &strategy_sample);
    assert_ptr_equal(arm->allocate.policy, &allocate_uniform);
    assert_ptr_equal(arm->stop.policy, &stop_none);
    assert_ptr_equal(arm->select.policy, &select_majority);
    assert_int_equal(arm->n, 8);
    assert_int_equal(arm->verifier, UINT32_MAX);
    assert_false(arm->strict);
    assert_int_equal(arm->lookahead, 64);
    assert_null(arm->report_at);
    assert_int_equal(arm->line, 4);
    sweep_spec_clear(&spec);
    assert_null(spec.arms);
}

static const char full[] = "# a full example\n"
                           "sweep:\n"
                           "  name: demo-1\n"
                           "  seed: 18446744073709551615\n"
                           "  prompts: ../p.jsonl\n"
                           "  truth: exact\n"
                           "  group_by: task\n"
                           "  order: strict\n"
                           "  lookahead: 32\n"
                           "  budget: {rollouts: 1e6, tokens: 2000000, seconds: 1.5, deadline: 3600, cost: 2.5, count: "
                           "accepted}\n"
                           "models:\n"
                           "  - name: tiny\n"
                           "    backend: tinylm\n"
                           "    path: m.tlm\n"
                           "    temperature: 0.7\n"
                           "    stop: \"\\n\\n\"\n"
                           "    max_tokens: 64\n"
                           "    template_tokens: 0\n"
                           "    answer: {kind: regex, pattern: \"= ([0-9]+)$\", partial: true}\n"
                           "    price: {input: 0.15, output: 0.6}\n"
                           "    timeout: 0.5\n"
                           "    slots: 8\n"
                           "  - name: law\n"
                           "    backend: synthetic\n"
                           "    answer: none\n"
                           "    options: {success: 0.25, answers: 4}\n"
                           "verifiers:\n"
                           "  - {name: exact, kind: exact, case: true}\n"
                           "  - name: noisy\n"
                           "    kind: noisy\n"
                           "    verifier: pick\n"
                           "    tpr: 0.8\n"
                           "    timeout: 5\n"
                           "    price: 0.001\n"
                           "  - name: pick\n"
                           "    kind: switch\n"
                           "    key: task\n"
                           "    cases: {sum: num, chain: exact}\n"
                           "    other: exact\n"
                           "  - {name: num, kind: numeric}\n"
                           "  - {name: prog, kind: exec, command: [./check, --fast], batch: 16, concurrency: 64,\n"
                           "     cache: false, version: two}\n"
                           "arms:\n"
                           "  - {name: base, model: tiny, n: 64, report_at: [1, 8, 64]}\n"
                           "  - name: early\n"
                           "    model: tiny\n"
                           "    n: 16\n"
                           "    stop: {beta: {threshold: 0.9}}\n"
                           "    allocate: elimination\n"
                           "    verifier: exact\n"
                           "    order: arrival\n"
                           "    lookahead: 7\n"
                           "    budget: {tokens: 5}\n"
                           "  - name: pf\n"
                           "    model: tiny\n"
                           "    strategy: particles\n"
                           "    verifier: noisy\n"
                           "    select: best\n"
                           "    report_at: [4, 16]\n";

static void full_sweep(void **state)
{
    (void)state;
    struct sweep_spec spec;
    struct error error = {""};
    assert_int_equal(parse(full, &spec, &error), 0);
    assert_string_equal(spec.name, "demo-1");
    assert_true(spec.seed == UINT64_MAX);
    assert_string_equal(spec.prompts_path, "../p.jsonl");
    assert_string_equal(spec.group_by, "task");
    assert_int_equal(spec.truth, 0);
    assert_int_equal(spec.budget.rollouts, 1000000);
    assert_int_equal(spec.budget.tokens, 2000000);
    assert_int_equal(spec.budget.slot_ms, 1500);
    assert_int_equal(spec.budget.deadline_s, 3600);
    assert_int_equal(spec.budget.cost_micro, 2500000);
    assert_true(spec.budget.accepted);
    assert_int_equal(spec.models_len, 2);
    const struct sweep_model *tiny = &spec.models[0], *law = &spec.models[1];
    assert_int_equal(tiny->max_tokens, 64);
    assert_int_equal(tiny->template_tokens, 0);
    assert_int_equal(tiny->timeout_ms, 500);
    assert_int_equal(tiny->slots, 8);
    assert_int_equal(tiny->price_in_micro, 150000);
    assert_int_equal(tiny->price_out_micro, 600000);
    assert_non_null(strstr(tiny->spec, "\"stop\":[\"\\n\\n\"]"));
    assert_non_null(strstr(tiny->spec, "{\"kind\":\"regex\",\"marker\":null,\"partial\":true,"
                                       "\"pattern\":\"= ([0-9]+)$\"}"));
    assert_string_equal(law->backend, "synthetic");
    assert_false(law->has_answer);
    assert_non_null(strstr(law->spec, "\"options\":{\"answers\":4,\"drift\":0,\"fail_rate\":0,\"latency_ms\":0,"
                                      "\"latency_sigma\":0,\"length_mean\":64,\"length_sigma\":0.5,"
                                      "\"success\":0.25,\"success_spread\":0,\"text_bytes\":0}"));
    sweep_spec_clear(&spec);
}

static void full_verifiers(void **state)
{
    (void)state;
    struct sweep_spec spec;
    assert_int_equal(parse(full, &spec, NULL), 0);
    assert_int_equal(spec.verifiers_len, 5);
    assert_string_equal(spec.verifiers[0].spec, "{\"inner\":{},\"kind\":\"exact\",\"name\":\"exact\","
                                                "\"options\":{\"case\":true}}");
    assert_string_equal(spec.verifiers[1].spec,
                        "{\"inner\":{\"pick\":{\"inner\":{\"exact\":{\"inner\":{},\"kind\":\"exact\",\"name\":"
                        "\"exact\",\"options\":{\"case\":true}},\"num\":{\"inner\":{},\"kind\":\"numeric\","
                        "\"name\":"
                        "\"num\",\"options\":{\"absolute\":0,\"tolerance\":1e-06}}},\"kind\":\"switch\",\"name\":"
                        "\"pick\",\"options\":{\"cases\":{\"chain\":\"exact\",\"sum\":\"num\"},\"key\":\"task\","
                        "\"other\":\"exact\"}}},\"kind\":\"noisy\",\"name\":\"noisy\",\"options\":{\"fpr\":0.1,"
                        "\"tpr\":0.8,\"verifier\":\"pick\"}}");
    assert_string_equal(spec.verifiers[4].spec,
                        "{\"batch\":16,\"cache\":false,\"concurrency\":64,\"inner\":{},\"kind\":\"exec\",\"name\":"
                        "\"prog\",\"options\":{\"command\":[\"./check\",\"--fast\"]},\"version\":\"two\"}");
    assert_string_equal(spec.verifiers[1].kind, "noisy");
    assert_int_equal(spec.verifiers[1].timeout_ms, 5000);
    assert_int_equal(spec.verifiers[1].price_micro, 1000);
    assert_int_equal(spec.verifiers[0].timeout_ms, 60000);
    sweep_spec_clear(&spec);
}

static void full_arms(void **state)
{
    (void)state;
    struct sweep_spec spec;
    assert_int_equal(parse(full, &spec, NULL), 0);
    assert_int_equal(spec.arms_len, 4);
    const struct sweep_arm *arm = spec.arms;
    assert_int_equal(arm[0].report_at_len, 3);
    assert_int_equal(arm[0].report_at[2], 64);
    assert_true(arm[0].strict);
    assert_int_equal(arm[0].lookahead, 32);
    assert_ptr_equal(arm[1].stop.policy, &stop_beta);
    assert_true(arm[1].stop.options[0] == 0.9);
    assert_ptr_equal(arm[1].allocate.policy, &allocate_elimination);
    assert_false(arm[1].strict);
    assert_int_equal(arm[1].lookahead, 7);
    assert_int_equal(arm[1].budget.tokens, 5);
    for (int i = 2; i < 4; i++) {
        assert_string_equal(arm[i].name, "pf");
        assert_ptr_equal(arm[i].strategy.policy, &strategy_particles);
        assert_int_equal(arm[i].n, i == 2 ? 4 : 16);
        assert_int_equal(arm[i].verifier, 1);
        assert_null(arm[i].report_at);
        assert_int_equal(arm[i].line, 54);
    }
    sweep_spec_clear(&spec);
}

static void grids_expand(void **state)
{
    (void)state;
    static const char text[] = HEAD "grid:\n"
                                    "- name: g-{stop}-{N}\n"
                                    "  over: {stop: [none, {beta: {threshold: 0.75}}], N: [4, 8]}\n"
                                    "  arm: {n: \"{N}\", stop: {stop}, report_at: [1, \"{N}\"]}\n"
                                    "- {name: \"t{T}\", over: {T: 2}, arm: {n: \"1{T}\"}}\n";
    static const char *const names[] = {"g-none-4", "g-none-8", "g-beta-4", "g-beta-8", "t2"};
    static const uint32_t n[] = {4, 8, 4, 99, 12};
    const char *const overrides[] = {"arms.g-beta-8.n=99", "arms.g-beta-8.report_at=~"};
    struct sweep_spec spec;
    struct error error = {""};
    assert_int_equal(sweep_spec_parse(slice_of(text), "s", overrides, 2, &spec, &error), 0);
    assert_int_equal(spec.arms_len, 5);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(spec.arms[i].name, names[i]);
        assert_int_equal(spec.arms[i].n, n[i]);
        assert_ptr_equal(spec.arms[i].stop.policy, i == 2 || i == 3 ? &stop_beta : &stop_none);
        assert_int_equal(spec.arms[i].line, i < 4 ? 5 : 8);
    }
    assert_true(spec.arms[2].stop.options[0] == 0.75);
    assert_int_equal(spec.arms[1].report_at[1], 8);
    sweep_spec_clear(&spec);
}

static void overrides_reach(void **state)
{
    (void)state;
    const char *const overrides[] = {"budget.tokens=1e6",
                                     "seed=5",
                                     "sweep.name=other",
                                     "arms.a.n=8",
                                     "arms.a.n=9",
                                     "models.m.temperature=0",
                                     "arms.a.stop={beta: {}}",
                                     "models.m.options="};
    struct sweep_spec spec;
    struct error error = {""};
    assert_int_equal(sweep_spec_parse(slice_of(HEAD "arms: [{name: a, n: 1}]"), "s", overrides, 8, &spec, &error), 0);
    assert_int_equal(spec.budget.tokens, 1000000);
    assert_int_equal(spec.seed, 5);
    assert_string_equal(spec.name, "other");
    assert_int_equal(spec.arms[0].n, 9);
    assert_ptr_equal(spec.arms[0].stop.policy, &stop_beta);
    assert_non_null(strstr(spec.models[0].spec, "\"temperature\":0,"));
    sweep_spec_clear(&spec);
    static const char *const wrong[][2] = {
        {"sede=5", "override 'sede=5': unknown key 'sede' in the sweep; did you mean 'seed'?"},
        {"arms.a.n=x", "override 'arms.a.n=x': 'n' must be a whole number from 1 to 65536 (rollouts "
                       "per prompt), not 'x'"},
        {"arms.b.n=1", "override 'arms.b.n=1': nothing in the list is named 'b'; did you mean 'a'?"},
    };
    for (size_t i = 0; i < 3; i++) {
        assert_true(sweep_spec_parse(slice_of(HEAD "arms: [{name: a, n: 1}]"), "s", &wrong[i][0], 1, &spec, &error) <
                    0);
        assert_string_equal(error.text, wrong[i][1]);
    }
}

struct wrong {
    const char *text, *message;
};

static void refuse_all(const struct wrong *rows, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        struct sweep_spec spec;
        struct error error = {""};
        int rc = parse(rows[i].text, &spec, &error);
        assert_string_equal(error.text, rows[i].message);
        assert_true(rc < 0);
        assert_null(spec.models);
    }
}

static void wrong_sections(void **state)
{
    (void)state;
    static const struct wrong rows[] = {
        {"", "s.yaml:1:1: the sweep file needs 'sweep': name, prompts and budget of the sweep"},
        {"# nothing\n", "s.yaml:1:1: the sweep file needs 'sweep': name, prompts and budget of the sweep"},
        {"sweep: {name: s, prompts: p}\nmodel: []\n",
         "s.yaml:2:1: unknown key 'model' in the sweep file; did you mean 'models'?"},
        {"sweep: {name: s, prompts: p}\nmodels: []\n", "s.yaml:2:9: 'models' must be a list of at least one model"},
        {"sweep: {name: s, prompts: p}\nmodels: {name: m}\n",
         "s.yaml:2:9: 'models' must be a list of at least one model"},
        {HEAD, "s.yaml:1:1: there are no arms; add a list `arms` or `grid`"},
        {HEAD "arms: []", "s.yaml:4:7: 'arms' must be a list of at least one arm"},
        {HEAD "arms: {a: {n: 1}}", "s.yaml:4:7: 'arms' must be a list of at least one arm"},
        {"sweep: {name: ../etc, prompts: p}\nmodels: [{name: m, backend: tinylm}]\n",
         "s.yaml:1:15: the sweep's name '../etc' must be of letters, digits, '.', '_' and '-', and "
         "not start with '.'"},
        {"sweep: {name: a/b, prompts: p}\nmodels: [{name: m, backend: tinylm}]\n",
         "s.yaml:1:15: the sweep's name 'a/b' must be of letters, digits, '.', '_' and '-', and "
         "not "
         "start with '.'"},
        {"sweep: {name: '', prompts: p}\nmodels: [{name: m, backend: tinylm}]\n",
         "s.yaml:1:15: the sweep's name '' must be of letters, digits, '.', '_' and '-', and not "
         "start with '.'"},
        {"sweep:\n  name: "
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n  prompts: p\n"
         "models: [{name: m, backend: tinylm}]\n",
         "s.yaml:2:9: the sweep's name has 65 bytes; at most 64 are allowed"},
        {"sweep: {name: s, prompts: ''}\nmodels: [{name: m, backend: tinylm}]\n",
         "s.yaml:1:27: 'prompts' must name a file"},
        {"sweep: {name: s}\nmodels: [{name: m, backend: tinylm}]\n",
         "s.yaml:1:8: the sweep needs 'prompts': JSONL file, one prompt a line; relative to the "
         "sweep file's folder"},
        {"sweep: {name: s, prompts: p, truth: x}\nmodels: [{name: m, backend: tinylm}]\n",
         "s.yaml:1:37: there is no verifier 'x'"},
        {"sweep: {name: s, prompts: p, budget: {tokens: 1e9x}}\nmodels: [{name: m, backend: "
         "tinylm}]\n",
         "s.yaml:1:47: 'tokens' must be a whole number from 0 to 1e+18 (0: no cap), not '1e9x'"},
        {"sweep: {name: s, prompts: p, budget: {cost: 1e-9}}\nmodels: [{name: m, backend: "
         "tinylm}]\n",
         "s.yaml:1:38: a cap below a thousandth of a second or a millionth of the price unit; "
         "raise "
         "it"},
    };
    refuse_all(rows, sizeof rows / sizeof rows[0]);
}

#define SWEEP "sweep: {name: s, prompts: p}\n"

static void wrong_models(void **state)
{
    (void)state;
    static const struct wrong rows[] = {
        {SWEEP "models: [{name: m}]",
         "s.yaml:2:10: the model needs 'backend': what runs it: see `drover help backends`"},
        {SWEEP "models: [{backend: tinylm}]", "s.yaml:2:10: the model needs 'name': what arms call "
                                              "it"},
        {SWEEP "models: [~]", "s.yaml:2:10: the model needs 'name': what arms call it"},
        {SWEEP "models: [m]", "s.yaml:2:10: the model must be a map of keys and values"},
        {SWEEP "models: [{name: m, backend: tinyml}]",
         "s.yaml:2:29: 'backend' cannot be 'tinyml'; did you mean 'tinylm'?"},
        {SWEEP "models: [{name: m, like: n}, {name: n, backend: tinylm}]", "s.yaml:2:26: there is no model 'n'"},
        {SWEEP "models: [{name: m, backend: tinylm}, {like: m}]",
         "s.yaml:2:38: the model needs 'name': what arms call it"},
        {SWEEP "models: [{name: m, backend: tinylm}, {name: n, like: m, sed: 1}]",
         "s.yaml:2:57: unknown key 'sed' in the model; did you mean 'seed'?"},
        {SWEEP "models: [{name: m, backend: tinylm}, {name: n, like: [m]}]",
         "s.yaml:2:54: 'like' must be the name of a model"},
        {SWEEP "models: [{name: m, backend: tinylm}, {name: m, backend: tinylm}]",
         "s.yaml:2:45: two models are named 'm'; names must differ"},
        {SWEEP "models: [{name: m, backend: tinylm, options: {success: 1}}]",
         "s.yaml:2:47: unknown key 'success' in the options; it takes none"},
        {SWEEP "models: [{name: m, backend: synthetic, options: {sucess: 1}}]",
         "s.yaml:2:50: unknown key 'sucess' in the options; did you mean 'success'?"},
        {SWEEP "models: [{name: m, backend: synthetic, options: {success: 2}}]",
         "s.yaml:2:59: 'success' must be a number from 0 to 1, not '2'"},
        {SWEEP "models: [{name: m, backend: exec}]",
         "s.yaml:2:10: the options needs 'command': program and arguments, run without a shell; "
         "speaks one JSON object per line"},
        {SWEEP "models: [{name: m, backend: replay}]",
         "s.yaml:2:10: backend 'replay' needs 'path': the file of recorded rollouts"},
        {SWEEP "models: [{name: m, backend: replay, path: x, options: {columns: {anser: a}}}]",
         "s.yaml:2:66: unknown key 'anser' in 'columns'; did you mean 'answer'?"},
        {SWEEP "models: [{name: m, backend: tinylm, answer: boxd}]",
         "s.yaml:2:45: 'answer' cannot be 'boxd'; did you mean 'boxed'?"},
        {SWEEP "models: [{name: m, backend: tinylm, step: ''}]",
         "s.yaml:2:43: this text must not be empty; leave the key out for its default"},
        {SWEEP "models: [{name: m, backend: tinylm, stop: [a, '']}]",
         "s.yaml:2:47: this text must not be empty; leave the key out for its default"},
        {SWEEP "models: [{name: m, backend: tinylm, temperature: .inf}]",
         "s.yaml:2:50: 'temperature' must be a number from 0 to 10, not '.inf'"},
        {SWEEP "models: [{name: m, backend: tinylm, price: 3}]",
         "s.yaml:2:44: the price must be a map of keys and values"},
        {SWEEP "models: [{name: m, backend: tinylm, max_tokens: 1.5}]",
         "s.yaml:2:49: 'max_tokens' must be a whole number from 1 to 1048576 (tokens), not '1.5'"},
    };
    refuse_all(rows, sizeof rows / sizeof rows[0]);
}

/* Messages of the extractor's own check are tested where it is. */
static void wrong_answers(void **state)
{
    (void)state;
    static const char *const texts[] = {SWEEP "models: [{name: m, backend: tinylm, answer: regex}]",
                                        SWEEP "models: [{name: m, backend: tinylm, answer: after-marker}]",
                                        SWEEP
                                        "models: [{name: m, backend: tinylm, answer: {kind: regex, pattern: '('}}]"};
    for (size_t i = 0; i < 3; i++) {
        struct sweep_spec spec;
        struct error error = {""};
        assert_true(parse(texts[i], &spec, &error) < 0);
        assert_memory_equal(error.text, "s.yaml:2:45: 'answer': ", 23);
    }
}

static void wrong_verifiers(void **state)
{
    (void)state;
    static const struct wrong rows[] = {
        {HEAD "verifiers: {}", "s.yaml:4:12: 'verifiers' must be a list of verifiers"},
        {HEAD "verifiers: [{name: v}]", "s.yaml:4:13: the verifier needs 'kind': what it does: see "
                                        "`drover help verifiers`; options of the kind stand beside "
                                        "it"},
        {HEAD "verifiers: [{name: v, kind: exat}]", "s.yaml:4:29: 'kind' cannot be 'exat'; did you mean 'exact'?"},
        {HEAD "verifiers: [{name: v, kind: exact, tolerance: 1}]",
         "s.yaml:4:36: unknown key 'tolerance' in the verifier; known are name, kind, timeout, "
         "price, batch, concurrency, cache, version, case"},
        {HEAD "verifiers: [{name: v, kind: exact, batch: 257}]",
         "s.yaml:4:43: 'batch' must be a whole number from 0 to 256 (items), not '257'"},
        {HEAD "verifiers: [{name: v, kind: exact, concurrency: 1025}]",
         "s.yaml:4:49: 'concurrency' must be a whole number from 0 to 1024 (requests), not '1025'"},
        {HEAD "verifiers: [{name: v, kind: exact}, {name: v, kind: exact}]",
         "s.yaml:4:44: two verifiers are named 'v'; names must differ"},
        {HEAD "verifiers: [{name: v, kind: noisy}]",
         "s.yaml:4:13: the verifier needs 'verifier': name of the verifier whose verdicts get "
         "noise"},
        {HEAD "verifiers: [{name: v, kind: noisy, verifier: w}]",
         "s.yaml:4:46: there is no verifier 'w'; did you mean 'v'?"},
        {HEAD "verifiers: [{name: v, kind: noisy, verifier: v}]",
         "s.yaml:4:46: verifier 'v' would contain itself; name another one here"},
        {HEAD "verifiers:\n- {name: a, kind: noisy, verifier: b}\n"
              "- {name: b, kind: switch, key: k, cases: {x: a}}\n",
         "s.yaml:6:46: verifier 'a' would contain itself; name another one here"},
        {HEAD "verifiers:\n- {name: a, kind: noisy, verifier: b}\n"
              "- {name: b, kind: noisy, verifier: c}\n- {name: c, kind: noisy, verifier: d}\n"
              "- {name: d, kind: noisy, verifier: e}\n- {name: e, kind: exact}\n",
         "s.yaml:5:36: more than 4 verifiers inside each other"},
        {HEAD "verifiers: [{name: v, kind: switch, key: k}]",
         "s.yaml:4:13: the verifier needs 'cases': value of that key to the name of a verifier"},
    };
    refuse_all(rows, sizeof rows / sizeof rows[0]);
}

static void wrong_arms(void **state)
{
    (void)state;
    static const struct wrong rows[] = {
        {HEAD "arms: [{name: a}]", "s.yaml:4:8: arm 'a' needs 'n' or 'report_at'"},
        {HEAD "arms: [{n: 1}]", "s.yaml:4:8: the arm needs 'name': name in reports"},
        {HEAD "arms: [{name: a, n: 1, alocate: uniform}]",
         "s.yaml:4:24: unknown key 'alocate' in the arm; did you mean 'allocate'?"},
        {HEAD "arms: [{name: a, n: 1, stop: bta}]", "s.yaml:4:30: 'stop' cannot be 'bta'; did you mean 'beta'?"},
        {HEAD "arms: [{name: a, n: 1, stop: {beta: {treshold: 1}}}]",
         "s.yaml:4:38: unknown key 'treshold' in the policy 'beta'; did you mean 'threshold'?"},
        {HEAD "arms: [{name: a, n: 1, stop: [beta]}]",
         "s.yaml:4:30: 'stop' must be a name, or one name with its options like {none: {...}}"},
        {HEAD "arms: [{name: a, n: 1, model: n}]", "s.yaml:4:31: there is no model 'n'; did you mean 'm'?"},
        {HEAD "arms: [{name: a, n: 1, verifier: n}]", "s.yaml:4:34: there is no verifier 'n'"},
        {HEAD "arms:\n- {name: a, n: 1}\n- {name: a, n: 2}",
         "s.yaml:6:10: two arms are named 'a', the other one on line 5; names must differ"},
        {HEAD "arms: [{name: a, n: 70000}]",
         "s.yaml:4:21: 'n' must be a whole number from 1 to 65536 (rollouts per prompt), not "
         "'70000'"},
        {HEAD "arms: [{name: a, n: 1, budget: {count: burned}}]",
         "s.yaml:4:33: unknown key 'count' in the budget; did you mean 'cost'?"},
        {HEAD "arms: [{name: a, report_at: [4, 4]}]",
         "s.yaml:4:33: 'report_at' must be ascending, but 4 stands before 4"},
        {HEAD "arms: [{name: a, n: 2, report_at: [1, 4]}]", "s.yaml:4:35: arm 'a': report_at 4 is more than n = 2"},
        {HEAD "arms: [{name: a, report_at: []}]", "s.yaml:4:29: 'report_at' must be a list of whole numbers"},
        {SWEEP "models: [{name: m, backend: tinylm}, {name: n, backend: tinylm}]\n"
               "arms: [{name: a, n: 1}]",
         "s.yaml:3:8: arm 'a' needs 'model': there are 2 models"},
    };
    refuse_all(rows, sizeof rows / sizeof rows[0]);
}

#define PAIR                                                                                    \
    SWEEP "models: [{name: m, backend: tinylm, path: m}, {name: n, backend: tinylm, path: n}, " \
          "{name: o, backend: tinylm, path: o, answer: boxed}, {name: p, backend: tinylm, path: m, temperature: 2}]\n"

static void joined_arms(void **state)
{
    (void)state;
    struct sweep_spec spec;
    struct error error = {""};
    const char *text = PAIR "arms:\n"
                            "- {name: a, n: 5, models: [n, {model: m, n: 3}]}\n"
                            "- {name: b, models: [{model: m, n: 2}, {model: n, n: 7}], schedule: blocks}\n"
                            "- {name: c, models: [{model: m, n: 2}, n], schedule: blocks, report_at: [1, 4]}\n"
                            "- {name: d, model: n, n: 1}\n";
    if (parse(text, &spec, &error) != 0)
        fail_msg("%s", error.text);
    const struct sweep_arm *a = &spec.arms[0], *b = &spec.arms[1], *c = &spec.arms[2], *d = &spec.arms[3];
    assert_true(schedule_equal(&a->schedule, &(struct schedule){.rounds = true, .legs = 2, .len = {1, 3}}));
    assert_int_equal(a->models[0], 1);
    assert_int_equal(a->models[1], 0);
    assert_true(schedule_equal(&b->schedule, &(struct schedule){.legs = 2, .len = {2}}));
    assert_int_equal(b->n, 9);
    assert_true(schedule_equal(&c->schedule, &b->schedule));
    assert_int_equal(c->n, 4);
    assert_int_equal(d->schedule.legs, 1);
    assert_int_equal(d->models[0], 1);
    assert_int_equal(sweep_arm_leg(a, 0), 1);
    assert_int_equal(sweep_arm_leg(d, 0), UINT32_MAX);
    sweep_spec_clear(&spec);
}

/* Cues stand in the spec of a model whose file says them, and change nothing in that of any other. */
static void models_with_cues(void **state)
{
    (void)state;
    struct sweep_spec spec;
    assert_int_equal(parse("sweep: {name: s, prompts: p.jsonl}\nmodels:\n"
                           "- {name: plain, backend: synthetic}\n"
                           "- {name: thinks, backend: synthetic, think_end: </think>, wait: Hmm, final: \"\"}\n"
                           "arms: [{name: a, n: 8, model: plain}]\n",
                           &spec, NULL),
                     0);
    const char *const keys[] = {"final", "revise", "think_end", "wait"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_null(strstr(spec.models[0].spec, keys[i]));
    assert_non_null(strstr(spec.models[1].spec, "\"final\":\"\","));
    assert_non_null(strstr(spec.models[1].spec, "\"think_end\":\"</think>\","));
    assert_non_null(strstr(spec.models[1].spec, "\"wait\":\"Hmm\"}"));
    assert_null(strstr(spec.models[1].spec, "revise"));
    assert_false(spec.models[0].thinks);
    assert_true(spec.models[1].thinks);
    sweep_spec_clear(&spec);
}

/* A model that is like another one is what it would be if all were written out. */
static void models_alike(void **state)
{
    (void)state;
    struct sweep_spec spec;
    struct error error = {""};
    const char *text = SWEEP "models:\n"
                             "- {name: cold, backend: tinylm, path: w, temperature: 0.2, stop: [a, b], max_tokens: 9}\n"
                             "- {name: warm, like: cold, temperature: 0.8, seed: 1}\n"
                             "- {name: hot, like: warm, temperature: 1.5, seed: 2, price: {input: 3}}\n"
                             "- {name: same, backend: tinylm, path: w, temperature: 1.5, stop: [a, b], max_tokens: 9,\n"
                             "   seed: 2, price: {input: 3}}\n"
                             "arms: [{name: a, models: [cold, warm, hot], n: 9}]\n";
    const char *const overrides[] = {"models.cold.max_tokens=7"};
    int rc = sweep_spec_parse(slice_of(text), "s.yaml", overrides, 1, &spec, &error);
    if (rc != 0)
        fail_msg("%s", error.text);
    const struct sweep_model *warm = &spec.models[1], *hot = &spec.models[2], *same = &spec.models[3];
    assert_string_equal(warm->name, "warm");
    assert_non_null(strstr(warm->spec, "\"temperature\":0.8"));
    assert_int_equal(warm->max_tokens, 7); /* as the other one is told to be */
    assert_int_equal(same->max_tokens, 9);
    assert_int_equal(hot->price_in_micro, 3000000);
    assert_int_equal(hot->seed, 2);
    sweep_spec_clear(&spec);
    assert_int_equal(sweep_spec_parse(slice_of(text), "s.yaml", NULL, 0, &spec, &error), 0);
    const char *a = strstr(spec.models[2].spec, "\"options\""), *b = strstr(spec.models[3].spec, "\"options\"");
    assert_string_equal(a, b); /* behind the name */
    sweep_spec_clear(&spec);
}

static void wrong_joins(void **state)
{
    (void)state;
    static const struct wrong rows[] = {
        {PAIR "arms: [{name: a, n: 4, models: [m, n], model: m}]",
         "s.yaml:3:47: arm 'a' has both 'model' and 'models'; leave one away"},
        {PAIR "arms: [{name: a, n: 4, model: m, schedule: blocks}]",
         "s.yaml:3:44: arm 'a' has a 'schedule', but one model; name several with 'models'"},
        {PAIR "arms: [{name: a, n: 4, models: [m]}]",
         "s.yaml:3:32: arm 'a': 'models' must be a list of 2 to 16 models; one alone is a `model`"},
        {PAIR "arms: [{name: a, n: 4, models: m}]",
         "s.yaml:3:32: arm 'a': 'models' must be a list of 2 to 16 models; one alone is a `model`"},
        {PAIR "arms: [{name: a, n: 4, models: [m, x]}]", "s.yaml:3:36: there is no model 'x'; did you mean 'm'?"},
        {PAIR "arms: [{name: a, n: 4, models: [m, {model: n, m: 2}]}]",
         "s.yaml:3:47: unknown key 'm' in the models; did you mean 'n'?"},
        {PAIR "arms: [{name: a, n: 4, models: [m, n, m]}]",
         "s.yaml:3:39: arm 'a' names model 'm' twice; give it one place, with a larger n"},
        {PAIR "arms: [{name: a, n: 4, models: [m, p]}]",
         "s.yaml:3:36: arm 'a': models 'm' and 'p' differ in sampling only and would draw with the same random numbers; "
         "give one of them another `seed`"},
        {PAIR "arms: [{name: a, n: 4, models: [m, o]}]",
         "s.yaml:3:36: arm 'a': models 'm' and 'o' find their answers in other ways, so equal ones would not meet; give "
         "both the same `answer`, such as final"},
        {PAIR "arms: [{name: a, n: 4, models: [m, n], schedule: blocks}]",
         "s.yaml:3:33: arm 'a': in blocks each model but the last needs its n, as in {model: m, n: 4}"},
        {PAIR "arms: [{name: a, n: 4, models: [{model: m, n: 4}, n], schedule: blocks}]",
         "s.yaml:3:8: arm 'a': n = 4 ends before every model had its turn; raise it, or lower the n of its models"},
        {PAIR "arms: [{name: a, n: 3, models: [{model: m, n: 3}, n]}]",
         "s.yaml:3:8: arm 'a': n = 3 ends before every model had its turn; raise it, or lower the n of its models"},
        {PAIR "arms: [{name: a, n: 3, models: [{model: m, n: 2}, {model: n, n: 2}], schedule: blocks}]",
         "s.yaml:3:21: arm 'a': n = 3, but its models have 4 together; leave one of them away"},
        {PAIR "arms: [{name: a, n: 4, models: [m, n], strategy: dvts}]",
         "s.yaml:3:8: arm 'a': 'dvts' grows trees with one model; name it with `model`, or take sample"},
        {PAIR "arms: [{name: a, n: 4, model: m, stop: cascade}]",
         "s.yaml:3:8: arm 'a': 'cascade' is for arms that draw from several models; add `models: [...]`"},
        {PAIR "arms: [{name: a, n: 4, models: [m, n], stop: route}]",
         "s.yaml:3:8: arm 'a': 'route' decides between one model and the next; add `schedule: blocks`"},
        {PAIR "arms: [{name: a, n: 4, models: [{model: m, n: 1}, n], schedule: blocks, stop: {cascade: {by: mean}}}]",
         "s.yaml:3:8: arm 'a': 'cascade' needs a verifier; add `verifier: NAME`"},
    };
    refuse_all(rows, sizeof rows / sizeof rows[0]);
}

#define BINS_OF(table)                                                                  \
    SWEEP "models: [{name: m, backend: tinylm}, {name: n, backend: tinylm, seed: 2}]\n" \
          "verifiers: [{name: v, kind: exact}, {name: w, kind: numeric}]\n"             \
          "arms: [{name: b, model: m, verifier: v, stop: beta, n: 9, strategy: {bins: " table "}}]"

/* A bin has the keys of its arm where it says nothing else, `verifier:` without a name included. */
static void bins_become_arms(void **state)
{
    (void)state;
    struct sweep_spec spec;
    struct error error = {""};
    int rc =
        parse(BINS_OF("{pilot: 3, table: [{up_to: 0.2, n: 32, models: [m, n]}, {up_to: 0.5, verifier: , stop: none}, "
                      "{strategy: dvts, stop: none, n: 8, verifier: w}]}"),
              &spec, &error);
    if (rc != 0)
        fail_msg("%s", error.text);
    static const struct {
        const char *name;
        uint32_t n, bin, verifier, legs;
        bool beta, trees;
    } wanted[] = {{"b.pilot", 3, 0, 0, 1, false, false},
                  {"b.1", 32, 1, 0, 2, true, false},
                  {"b.2", 9, 2, UINT32_MAX, 1, false, false},
                  {"b.3", 8, 3, 1, 1, false, true}};
    assert_int_equal(spec.arms_len, 4);
    for (uint32_t i = 0; i < 4; i++) {
        const struct sweep_arm *arm = &spec.arms[i];
        assert_string_equal(arm->name, wanted[i].name);
        assert_string_equal(arm->bin.of, "b");
        assert_int_equal(arm->n, wanted[i].n);
        assert_int_equal(arm->bin.number, wanted[i].bin);
        assert_int_equal(arm->verifier, wanted[i].verifier);
        assert_int_equal(arm->schedule.legs, wanted[i].legs);
        assert_int_equal(arm->stop.policy == &stop_beta, wanted[i].beta);
        assert_int_equal(arm->strategy.policy->trees != NULL, wanted[i].trees);
        assert_true(i < 2 || (arm->bin.above > spec.arms[i - 1].bin.above && arm->bin.up_to > arm->bin.above));
    }
    sweep_spec_clear(&spec);
}

static void wrong_bins(void **state)
{
    (void)state;
    static const struct wrong rows[] = {
        {HEAD "arms: [{name: b, n: 4, strategy: bins}]",
         "s.yaml:4:34: arm 'b': 'bins' needs its table, like {bins: {table: [{up_to: 0.5, n: 16}, {n: 4}]}}"},
        {HEAD "arms: [{n: 4, strategy: {bins: {table: [{n: 1}]}}}]", "s.yaml:4:8: an arm of bins needs a 'name'"},
        {BINS_OF("{table: [{n: 4}]}"), "s.yaml:4:84: arm 'b': 'table' must be a list of 2 to 16 bins"},
        {BINS_OF("{pilots: 4, table: []}"), "s.yaml:4:77: unknown key 'pilots' in the bins; did you mean 'pilot'?"},
        {BINS_OF("{table: [{n: 4}, {n: 4}]}"),
         "s.yaml:4:85: arm 'b': bin 1 needs 'up_to', its largest value; only the last has none"},
        {BINS_OF("{table: [{up_to: 0.5}, {up_to: 1}]}"),
         "s.yaml:4:100: arm 'b': the last bin has all that is above the others, and no 'up_to'"},
        {BINS_OF("{table: [{up_to: 1.5}, {}]}"),
         "s.yaml:4:93: arm 'b': 'up_to' is 1.5, but without `by: score` bins go by a share, from 0 to 1"},
        {BINS_OF("{table: [{up_to: 0.5}, {up_to: 0.5}, {}]}"),
         "s.yaml:4:107: arm 'b': 'up_to' must rise from bin to bin, but 0.5 stands behind 0.5"},
        {BINS_OF("{table: [{up_to: 0.5, budget: {tokens: 5}}, {}]}"),
         "s.yaml:4:98: arm 'b': neither an arm of bins nor a bin has 'budget': each bin has its n, and the sweep's budget "
         "caps them all"},
        {BINS_OF("{table: [{up_to: 0.5, order: strict}, {}]}"),
         "s.yaml:4:98: arm 'b': 'order' holds for all bins: write it beside 'strategy'"},
        {BINS_OF("{table: [{up_to: 0.5}, {allocate: blend}]}"),
         "s.yaml:4:99: arm 'b.2': 'blend' goes by the share of the arm's budget that is spent, and a bin has none"},
        {BINS_OF("{by: prior, table: [{up_to: 0.5}, {}]}"),
         "s.yaml:4:96: arm 'b': `by: prior` goes by what is known of its prompts; add `prior: SWEEP` or `prior: FILE`"},
        {HEAD
         "verifiers: [{name: v, kind: exact}, {name: w, kind: numeric}]\n"
         "arms: [{name: b, verifier: v, n: 9, prior: x, strategy: {bins: {by: prior, table: [{up_to: 0.5}, {verifier: "
         "w}]}}}]",
         "s.yaml:5:83: arm 'b': with `by: prior` all bins have one model and one verifier, since the prior counts what that "
         "verifier passed of that model"},
        {HEAD "arms: [{name: b, n: 4, strategy: {bins: {table: [{up_to: 0.5}, {}]}}}]",
         "s.yaml:4:8: arm 'b': a verifier judges the pilot of its bins; add `verifier: NAME`, or tell bins by `by: agreement`"},
        {HEAD
         "arms: [{name: b, n: 4, strategy: {bins: {by: agreement, table: [{up_to: 0.5}, {}]}}}, {name: b.1, n: 1}]",
         "s.yaml:4:94: two arms are named 'b.1', the other one on line 4; names must differ"},
        {HEAD "arms: [{name: b, n: 4, strategy: {bins: {by: agreement, table: [{up_to: 0.5}, {}]}}}, {name: b, n: 1}]",
         "s.yaml:4:94: two arms are named 'b', the other one on line 4; names must differ"},
        {HEAD
         "arms: [{name: b, n: 4, report_at: [1, 4], strategy: {bins: {by: agreement, table: [{up_to: 0.5}, {}]}}}]",
         "s.yaml:4:24: arm 'b': neither an arm of bins nor a bin has 'report_at': each bin has its n, and the sweep's "
         "budget caps them all"},
    };
    refuse_all(rows, sizeof rows / sizeof rows[0]);
}

static void confidences_that_are_never_reached(void **state)
{
    (void)state;
    static const struct wrong rows[] = {
        {HEAD "arms: [{name: a, n: 4, abstain: 60}]",
         "s.yaml:4:33: arm 'a': 'abstain' is above every confidence that 'majority' has, so it would never answer: that is a "
         "share, from 0 to 1"},
        {HEAD "arms: [{name: a, n: 4, select: {laser: {vote: true}}, abstain: 1.5}]",
         "s.yaml:4:64: arm 'a': 'abstain' is above every confidence that 'laser' has, so it would never answer: that is a "
         "share, from 0 to 1"},
        {HEAD "arms: [{name: a, n: 4, select: best-logprob, abstain: 0.6}]",
         "s.yaml:4:55: arm 'a': 'abstain' is above every confidence that 'best-logprob' has, so it would never answer: that "
         "is a log-probability or minus an entropy, at most 0"},
    };
    refuse_all(rows, sizeof rows / sizeof rows[0]);
    struct sweep_spec spec;
    struct error error = {""};
    const char *fine = HEAD "arms: [{name: a, n: 4, abstain: 1}, {name: b, n: 4, select: free-energy, abstain: 60},"
                            "{name: c, n: 4, select: {laser: {vote: false}}, abstain: 60}]";
    sweep_spec_parse(slice_of(fine), "s.yaml", NULL, 0, &spec, &error);
    assert_string_equal(error.text, "");
    sweep_spec_clear(&spec);
}

static void wrong_needs(void **state)
{
    (void)state;
    static const struct wrong rows[] = {
        {HEAD "arms: [{name: a, n: 4, select: best}]",
         "s.yaml:4:8: arm 'a': 'best' needs a verifier; add `verifier: NAME`"},
        {HEAD "arms: [{name: a, n: 4, stop: {value: {gain: passes}}}]",
         "s.yaml:4:8: arm 'a': 'value' needs a verifier; add `verifier: NAME`"},
        {HEAD "arms: [{name: a, n: 4, stop: {value: {gain: scores}}}]",
         "s.yaml:4:8: arm 'a': 'value' needs a verifier; add `verifier: NAME`"},
        {SWEEP "models: [{name: m, backend: tinylm, answer: none}]\nverifiers: [{name: v, kind: exact}]\n"
               "arms: [{name: a, n: 4, select: best, verifier: v, stop: value}]",
         "s.yaml:4:8: arm 'a': 'value' needs answers, but model 'm' says `answer: none`"},
        {SWEEP "models: [{name: m, backend: tinylm, answer: none}]\narms: [{name: a, n: 4}]",
         "s.yaml:3:8: arm 'a': 'majority' needs answers, but model 'm' says `answer: none`"},
        {SWEEP "models: [{name: m, backend: replay, path: x}]\nverifiers: [{name: v, kind: exact}]\n"
               "arms: [{name: a, n: 4, strategy: particles, verifier: v}]",
         "s.yaml:4:21: arm 'a': 'particles' goes step by step, which backend 'replay' of model 'm' "
         "cannot do; take tinylm, synthetic, exec or openai"},
        {SWEEP "models: [{name: m, backend: tinylm}, {name: o, backend: tinylm, seed: 2}]\n"
               "arms: [{name: a, models: [m, o], n: 4, stop: {deepconf: {kill: 64}}}]",
         "s.yaml:3:8: arm 'a': 'deepconf' with `kill` compares the confidences of one model's rollouts: take one model, or "
         "leave out `kill`"},
        {SWEEP "models: [{name: m, backend: synthetic}]\narms: [{name: a, n: 4, stop: {deepconf: {kill: 64}}}]",
         "s.yaml:3:8: arm 'a': 'deepconf' with `kill` ends rollouts while they are generated, which backend 'synthetic' "
         "of model 'm' cannot do; take tinylm or openai, or leave out `kill`"},
        {SWEEP "models: [{name: m, backend: openai}]\narms: [{name: a, n: 4, stop: {deepconf: {kill: 64}}}]",
         "s.yaml:3:8: arm 'a': 'deepconf' with `kill` watches rollouts while they are generated: model 'm' needs the option "
         "`logprobs` of at least 1 (20 is usual), and no `stream: never`"},
        {HEAD "verifiers: [{name: v, kind: exact}]\n"
              "arms: [{name: a, report_at: [4, 2000], strategy: particles, verifier: v}]",
         "s.yaml:5:33: arm 'a': n = 2000; 'particles' grows trees of at most 1024 rollouts per "
         "prompt"},
        {HEAD "verifiers: [{name: v, kind: exact}]\n"
              "arms: [{name: a, n: 2, report_at: [2, 4], strategy: particles, verifier: v}]",
         "s.yaml:5:39: arm 'a': report_at 4 is more than n = 2"},
        {HEAD "verifiers: [{name: v, kind: exact}]\n"
              "arms: [{name: a, n: 5, strategy: {dvts: {width: 4}}, verifier: v}]",
         "s.yaml:5:21: arm 'a': 'dvts' cannot divide n = 5 as its options say; take another n, such as "
         "8"},
        {HEAD "verifiers: [{name: v, kind: exact}]\n"
              "arms: [{name: a, n: 4, strategy: {revise: {turns: 256, width: 64}}}]",
         "s.yaml:5:21: arm 'a': 'revise' needs more than 1024 rollouts per prompt for what its options say; lower "
         "them"},
        {HEAD "verifiers: [{name: v, kind: exact}, {name: j, kind: noisy, verifier: v}]\n"
              "arms: [{name: a, verifier: j, allocate: {solve-verify: {budget: 16}}}]",
         "s.yaml:5:28: 'solve-verify' asks its verifier several times about a rollout, which 'j' cannot be: name one "
         "of kind judge, with mode votes or points"},
        {HEAD "arms: [{name: a, allocate: solve-verify}]",
         "s.yaml:4:28: 'solve-verify' needs its budget, like {solve-verify: {budget: [8, 16]}}"},
        {HEAD "arms: [{name: a, allocate: {solve-verify: {}}}]",
         "s.yaml:4:43: the policy 'solve-verify' needs 'budget': of a prompt, in rollouts; a list makes an arm of "
         "each: NAME.8, NAME.16"},
    };
    refuse_all(rows, sizeof rows / sizeof rows[0]);
}

static void wrong_grids(void **state)
{
    (void)state;
    static const struct wrong rows[] = {
        {HEAD "grid: {}", "s.yaml:4:7: 'grid' must be a list of grids"},
        {HEAD "grid: [{name: x, arm: {n: 1}}]", "s.yaml:4:8: the grid needs 'over': map of keys to lists of values"},
        {HEAD "grid: [{name: x, over: {N: []}, arm: {n: 1}}]", "s.yaml:4:28: 'N' must be a list of at least one value"},
        {HEAD "grid: [{name: x, over: [], arm: {n: 1}}]",
         "s.yaml:4:24: 'over' must be a map of 1 to 16 keys to lists of values"},
        {HEAD "grid: [{name: x, over: {N: [1]}, arm: {name: y, n: 1}}]",
         "s.yaml:4:40: 'arm' of a grid must be a map of keys, without a 'name'"},
        {HEAD "grid: [{name: 'x{M}', over: {N: [1]}, arm: {n: 1}}]",
         "s.yaml:4:15: {M} is not a key of this grid's 'over'; did you mean 'N'?"},
        {HEAD "grid: [{name: 'x{N', over: {N: [1]}, arm: {n: 1}}]", "s.yaml:4:15: a '{' without its '}'"},
        {HEAD "grid: [{name: 'x{N}', over: {N: [[1]]}, arm: {n: 1}}]",
         "s.yaml:4:34: {N} stands inside a text, so its values must be texts or numbers"},
        {HEAD "grid: [{name: x, over: {N: [{beta: {min: '{N}'}}]}, arm: {n: 1, stop: {N}}}]",
         "s.yaml:4:42: 'min' must be a whole number from 0 to 65536, not the text '{N}' (leave out "
         "the quotes)"},
        {HEAD "grid: [{name: x, over: {N: [1, 2]}, arm: {n: '{N}'}}]",
         "s.yaml:4:15: two arms are named 'x', the other one on line 4; names must differ"},
        {HEAD "grid: [{name: 'x{N}', over: {N: [1, x]}, arm: {n: '{N}'}}]",
         "s.yaml:4:37: 'n' must be a whole number from 1 to 65536 (rollouts per prompt), not 'x'"},
        {HEAD "grid: [{name: 'x{N}', over: {N: [a/b]}, arm: {n: 1}}]",
         "s.yaml:4:15: the arm's name 'xa/b' must be of letters, digits, '.', '_' and '-', and not "
         "start with '.'"},
    };
    refuse_all(rows, sizeof rows / sizeof rows[0]);
}

/* Small files that would become large. */
static void large_grids(void **state)
{
    (void)state;
    struct buf text = {0};
    struct sweep_spec spec;
    struct error error = {""};
    buf_puts(&text, HEAD "grid:\n- name: 'x{a}{b}{c}'\n  over:\n");
    for (char key = 'a'; key <= 'c'; key++)
        buf_printf(&text, "    %c: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]\n", key);
    buf_puts(&text, "  arm: {n: 1}\n");
    assert_int_equal(parse(text.data, &spec, &error), ERR_LIMIT);
    assert_string_equal(error.text, "s.yaml:7:5: this grid makes more than 1024 arms; at most 1024 "
                                    "are allowed");
    buf_reset(&text);
    buf_puts(&text, HEAD "grid:\n- name: 'x{a}{b}'\n  over:\n");
    for (char key = 'a'; key <= 'b'; key++)
        buf_printf(&text, "    %c: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]\n", key);
    buf_puts(&text, "  arm:\n    report_at: [1");
    for (int i = 2; i < 30000; i++)
        buf_printf(&text, ", %d", i);
    buf_puts(&text, "]\n");
    assert_int_equal(parse(text.data, &spec, &error), ERR_LIMIT);
    assert_string_equal(error.text, "s.yaml:5:3: this grid's arms are too large together; make it smaller");
    buf_clear(&text);
}

static void help_has_every_section(void **state)
{
    (void)state;
    struct buf out = {0};
    sweep_file_help(&out);
    assert_non_null(strstr(out.data, "\nsweep.budget:\n"));
    assert_non_null(strstr(out.data, "  max_tokens       a whole number from 1 to 1048576 (tokens)"));
    assert_non_null(strstr(out.data, "default \\n"));
    buf_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(minimal_file_has_defaults),
        cmocka_unit_test(full_sweep),
        cmocka_unit_test(full_verifiers),
        cmocka_unit_test(full_arms),
        cmocka_unit_test(grids_expand),
        cmocka_unit_test(overrides_reach),
        cmocka_unit_test(wrong_sections),
        cmocka_unit_test(wrong_models),
        cmocka_unit_test(wrong_answers),
        cmocka_unit_test(wrong_verifiers),
        cmocka_unit_test(wrong_arms),
        cmocka_unit_test(joined_arms),
        cmocka_unit_test(models_with_cues),
        cmocka_unit_test(models_alike),
        cmocka_unit_test(wrong_joins),
        cmocka_unit_test(confidences_that_are_never_reached),
        cmocka_unit_test(wrong_needs),
        cmocka_unit_test(bins_become_arms),
        cmocka_unit_test(wrong_bins),
        cmocka_unit_test(wrong_grids),
        cmocka_unit_test(large_grids),
        cmocka_unit_test(help_has_every_section),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
