/* test_prior.c - counts as people write them, as a submission carries them, and the beliefs that follow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "broker/policy/estimate.h"
#include "broker/prior.h"
#include "common/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *read_one(const char *text, struct prior_file *file)
{
    static struct error error;
    error = (struct error){""};
    int rc = prior_file_read(slice_of(text), "c.jsonl", "c.jsonl", "same", file, &error);
    assert_int_equal(rc == 0, error.text[0] == '\0');
    return error.text;
}

static void assert_count(const struct prior_count *count, const char *prompt, uint32_t passes, uint32_t n)
{
    assert_string_equal(count->prompt, prompt);
    assert_int_equal(count->passes, passes);
    assert_int_equal(count->n, n);
}

static void counts_and_rollouts(void **state)
{
    (void)state;
    struct prior_file file;
    assert_string_equal(read_one("{\"prompt\":\"a\",\"passes\":1,\"n\":4}\r\n"
                                 "\n"
                                 "{\"prompt\":7,\"passes\":0,\"n\":2,\"more\":[]}",
                                 &file),
                        "");
    assert_int_equal(file.len, 2);
    assert_count(&file.counts[0], "a", 1, 4);
    assert_count(&file.counts[1], "7", 0, 2);
    prior_file_clear(&file);

    /* One count for each prompt and model; verdicts of others, and those that decide nothing, are none. */
    assert_string_equal(
        read_one(
            "{\"prompt\":\"a\",\"model\":\"m\",\"verdicts\":{\"same\":{\"outcome\":\"pass\"}}}\n"
            "{\"prompt\":\"a\",\"model\":\"o\",\"seed\":14497348833385590975,\"verdicts\":{\"same\":{\"outcome\":\"fail\"}}}\n"
            "{\"prompt\":\"b\",\"model\":\"m\",\"verdicts\":{\"other\":{\"outcome\":\"pass\"}}}\n"
            "{\"prompt\":\"a\",\"model\":\"m\",\"verdicts\":{\"same\":{\"outcome\":\"timeout\"}}}\n"
            "{\"prompt\":\"a\",\"model\":\"m\",\"verdicts\":{\"same\":{\"outcome\":\"unknown\"}}}\n"
            "{\"prompt\":\"a\",\"model\":\"m\",\"verdicts\":{\"same\":{\"outcome\":\"score\",\"score\":1}}}\n",
            &file),
        "");
    assert_int_equal(file.len, 2);
    assert_count(&file.counts[0], "a", 1, 2);
    assert_count(&file.counts[1], "a", 0, 1);
    prior_file_clear(&file);

    /* Not those of a pool with a kill rule, of which some have no end, nor nodes of trees: as in a sweep. */
    assert_string_equal(
        read_one("{\"prompt\":\"a\",\"ordinal\":0,\"verdicts\":{\"same\":{\"outcome\":\"pass\"}}}\n"
                 "{\"prompt\":\"a\",\"ordinal\":0,\"kill\":{\"window\":12,\"warmup\":6,\"keep\":50},"
                 "\"verdicts\":{\"same\":{\"outcome\":\"fail\"}}}\n"
                 "{\"prompt\":\"a\",\"tree\":0,\"node\":3,\"verdicts\":{\"same\":{\"outcome\":\"pass\"}}}\n",
                 &file),
        "");
    assert_int_equal(file.len, 1);
    assert_count(&file.counts[0], "a", 1, 1);
    prior_file_clear(&file);
}

static void wrong_lines_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"", "holds no lines"},
        {"{\"prompt\":\"a\",\"verdicts\":{}}", "no line counts passes, or has a verdict of 'same'"},
        {"[1]", "c.jsonl:1: not a JSON object"},
        {"{\"prompt\":\"a\",\"passes\":1,\"n\":4}\n{", "c.jsonl:2: not a JSON object"},
        {"{\"prompt\":1.5,\"passes\":1,\"n\":4}", "c.jsonl:1: not a JSON object with the id"},
        {"{\"prompt\":\"a\",\"passes\":5,\"n\":4}", "at most n"},
        {"{\"prompt\":\"a\",\"passes\":0,\"n\":0}", "at least 1"},
        {"{\"prompt\":\"a\",\"passes\":-1,\"n\":4}", "at most n"},
        {"{\"prompt\":\"a\",\"n\":4}", "at most n"},
        {"{\"prompt\":\"a\",\"passes\":0.5,\"n\":4}", "whole numbers"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct prior_file file;
        const char *says = read_one(rows[i].text, &file);
        if (strstr(says, rows[i].says) == NULL)
            fail_msg("'%s' is refused with '%s', not '%s'", rows[i].text, says, rows[i].says);
    }
}

/* What the client puts ahead of the prompts is what the broker reads, whatever stands in the ids. */
static void there_and_back(void **state)
{
    (void)state;
    struct prior_file file;
    assert_string_equal(read_one("{\"prompt\":\"a \\\"\\n\\u00e4\",\"passes\":1,\"n\":4}\n"
                                 "{\"prompt\":\"b\",\"passes\":2,\"n\":1000000000}",
                                 &file),
                        "");
    struct buf text = {0};
    prior_file_put(&file, &text);
    buf_puts(&text, "{\"id\":\"b\",\"prompt\":\"p\"}\n");
    struct prompt_set set;
    struct error error;
    size_t len = text.len;
    assert_int_equal(prompt_set_parse(&text.data, len, "p.jsonl", NULL, &set, &error), 0);
    assert_int_equal(set.len, 1);
    assert_null(prior_files_find(&set.priors, "c.jsonl", "another"));
    const struct prior_file *found = prior_files_find(&set.priors, "c.jsonl", "same");
    assert_int_equal(found->len, 2);
    assert_count(&found->counts[0], file.counts[0].prompt, 1, 4);
    assert_count(&found->counts[1], "b", 2, 1000000000);
    prompt_set_clear(&set);
    prior_file_clear(&file);

    static const char *const damaged[] = {"prior:",
                                          "prior:[\"a\",1,2]",
                                          "prior:[\"f\",\"v\"]\nprior:[\"a\",3,2]",
                                          "prior:[\"f\",\"v\"]\nprior:[\"f\",\"v\"]",
                                          "prior:[1,\"v\"]",
                                          "prior:{}"};
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        char *wrong = xstrdup(damaged[i]);
        assert_int_equal(prompt_set_parse(&wrong, strlen(damaged[i]), "p.jsonl", NULL, &set, &error), ERR_SYNTAX);
        assert_non_null(strstr(error.text, "damaged"));
    }
}

/* Prompts from Beta(.5, 2), 40 rollouts each of the own model: the law comes out, and each posterior is near its rate. */
static void own_counts_give_the_posterior(void **state)
{
    (void)state;
    enum { PROMPTS = 400, N = 40 };
    struct prior_tally tallies[PROMPTS];
    struct estimate_count counts[PROMPTS];
    static float beliefs[PROMPTS + 1][2];
    for (uint32_t p = 0; p < PROMPTS; p++) {
        double theta = pow(rng_unit(rng_u64(1, RNG_TEST, p, 0)), 2); /* most are hard */
        tallies[p] = (struct prior_tally){.prompt = p, .n = N, .own = 1};
        for (uint32_t k = 1; k <= N; k++)
            tallies[p].passes += rng_unit(rng_u64(1, RNG_TEST, p, k)) < theta;
        counts[p] = (struct estimate_count){tallies[p].passes, N};
    }
    struct rate_law wanted = fit_rates(counts, PROMPTS), law = prior_law(tallies, PROMPTS);
    assert_true(law.alpha == wanted.alpha && law.beta == wanted.beta);
    prior_beliefs(&law, tallies, PROMPTS, 0.05, PROMPTS + 1, beliefs);
    for (uint32_t p = 0; p < PROMPTS; p++) {
        assert_true(fabs((double)beliefs[p][0] - law.alpha - tallies[p].passes) < 1e-4);
        assert_true(fabs((double)beliefs[p][1] - law.beta - (N - tallies[p].passes)) < 1e-4);
    }
    assert_true(fabs((double)beliefs[PROMPTS][0] - law.alpha) < 1e-6); /* without counts: the fit */
    for (uint32_t p = 0; p < PROMPTS; p++)
        tallies[p].own = 0;
    prior_beliefs(&law, tallies, PROMPTS, 0.25, PROMPTS, beliefs);
    for (uint32_t p = 0; p < PROMPTS; p++)
        assert_true(fabs((double)beliefs[p][0] - law.alpha - 0.25 * tallies[p].passes) < 1e-4);
}

/* However extreme the counts, beliefs are such that the core takes them. */
static void beliefs_stay_in_range(void **state)
{
    (void)state;
    float beliefs[2][2];
    const struct prior_tally tallies[] = {{0, 1000000000, 1000000000, 1}, {0, 1000000000, 1000000000, 1}, {1, 0, 1, 1}};
    struct rate_law law = prior_law(tallies, 3);
    prior_beliefs(&law, tallies, 3, 1, 2, beliefs);
    for (int i = 0; i < 4; i++) {
        assert_true(beliefs[i / 2][i % 2] >= BELIEF_MIN);
        assert_true(beliefs[i / 2][i % 2] <= BELIEF_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_and_rollouts),   cmocka_unit_test(wrong_lines_are_named),
        cmocka_unit_test(there_and_back),        cmocka_unit_test(own_counts_give_the_posterior),
        cmocka_unit_test(beliefs_stay_in_range),
    };
    return cmocka_run_group_tests_name("prior", tests, NULL, NULL);
}
