/* test_gpus.c - what nvidia-smi and the environment say, and how GPUs are dealt to servers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/gpus.h"

#include <string.h>

static const char smi[] = "0, GPU-aaaa1111-0, NVIDIA H200\n1, GPU-bbbb2222-0, NVIDIA H200\n"
                          "2, GPU-cccc3333-0, NVIDIA L4\r\n";

static void ids_are(const struct gpus *gpus, const char *wanted)
{
    struct buf got = {0};
    for (size_t i = 0; i < gpus->len; i++)
        buf_printf(&got, "%s%s=%s", i > 0 ? " " : "", gpus->gpu[i].id, gpus->gpu[i].name);
    buf_puts(&got, "");
    assert_string_equal(got.data, wanted);
    buf_clear(&got);
}

static void inventory(void **state)
{
    (void)state;
    static const struct {
        const char *csv, *visible, *ids;
    } rows[] = {
        {smi, NULL, "0=NVIDIA H200 1=NVIDIA H200 2=NVIDIA L4"},
        {smi, "2,0", "2=NVIDIA L4 0=NVIDIA H200"},
        {smi, " 1 ", "1=NVIDIA H200"},
        {smi, "", ""},
        {smi, "0,-1,2", "0=NVIDIA H200"},
        {smi, "GPU-cccc3333", "GPU-cccc3333=NVIDIA L4"},
        {"", "MIG-17/0", "MIG-17/0="},
        {"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", NULL, ""},
        {"", NULL, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gpus gpus;
        gpus_read(slice_of(rows[i].csv), rows[i].visible, &gpus);
        ids_are(&gpus, rows[i].ids);
    }
}

static void plans(void **state)
{
    (void)state;
    static const struct {
        const char *text, *groups, *devices;
    } rows[] = {
        {"auto", "[0][1][2]", "2x NVIDIA H200, 1x NVIDIA L4"},
        {"2", "[0][1]", "2x NVIDIA H200"},
        {"0,1;2", "[0,1][2]", "2x NVIDIA H200, 1x NVIDIA L4"},
        {"1;", "[1]", "1x NVIDIA H200"},
        {"0;0", "[0][0]", "2x NVIDIA H200"},
        {"none", "[]", "1x CPU"},
        {"cpu:3", "[][][]", "3x CPU"},
    };
    struct gpus gpus;
    gpus_read(slice_of(smi), NULL, &gpus);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gpu_plan plan;
        struct error error = {""};
        struct buf got = {0};
        if (gpus_plan(rows[i].text, &gpus, &plan, &error) != 0)
            fail_msg("%s: %s", rows[i].text, error.text);
        for (size_t k = 0; k < plan.len; k++)
            buf_printf(&got, "[%s]", plan.group[k]);
        assert_string_equal(got.data, rows[i].groups);
        assert_string_equal(plan.devices, rows[i].devices);
        buf_clear(&got);
    }
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
        int code;
    } rows[] = {
        {"4", "only 3 are there", ERR_NOT_FOUND},  {"0,7", "no GPU '7'", ERR_NOT_FOUND},
        {"0;;1", "an empty group", ERR_SYNTAX},    {"0,,1", "without a name", ERR_SYNTAX},
        {"all", "takes auto, none", ERR_SYNTAX},   {"", "takes auto, none", ERR_SYNTAX},
        {"cpu:0", "takes auto, none", ERR_SYNTAX}, {"cpu:65", "takes auto, none", ERR_SYNTAX},
        {"0", "--gpus none", ERR_RANGE},           {"cpu:3x", "takes auto, none", ERR_SYNTAX},
    };
    struct gpus gpus, none = {0};
    struct gpu_plan plan;
    struct error error = {""};
    gpus_read(slice_of(smi), NULL, &gpus);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(gpus_plan(rows[i].text, &gpus, &plan, &error), rows[i].code);
        if (strstr(error.text, rows[i].says) == NULL)
            fail_msg("%s: says '%s', not '%s'", rows[i].text, error.text, rows[i].says);
    }
    assert_int_equal(gpus_plan("auto", &none, &plan, &error), ERR_NOT_FOUND);
    assert_non_null(strstr(error.text, "--gpus none"));
    assert_int_equal(gpus_plan("0,1;2,3", &none, &plan, &error), 0); /* nothing is known: taken as they are */
    assert_string_equal(plan.devices, "4x GPU");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inventory),
        cmocka_unit_test(plans),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
