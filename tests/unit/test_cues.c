/* What stands between a path and what is generated behind it, as specs of models say it. */
#include "common/cue.h"
#include "worker/cues.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void says(const char *spec, enum cue cue, const char *text)
{
    struct buf out = {0};
    assert_int_equal(cue_text(slice_of(spec), cue, &out), 0);
    assert_string_equal(out.len == 0 ? "" : out.data, text);
    buf_clear(&out);
}

static void defaults(void **state)
{
    (void)state;
    const char *plain = "{\"name\":\"m\",\"think_end\":\"</think>\"}";
    says(plain, CUE_NONE, "");
    says(plain, CUE_WAIT, "Wait");
    says(plain, CUE_ANSWER, "</think>");
    says(plain, CUE_FINAL, "</think>\nFinal Answer:");
    says(plain, CUE_REVISE, CUE_REVISE_TEXT);
    says("{}", CUE_ANSWER, "");
}

static void the_models_own(void **state)
{
    (void)state;
    const char *spec = "{\"wait\":\" Hmm\",\"think_end\":\"<end>\",\"final\":\"\",\"revise\":\"Again.\\n\"}";
    says(spec, CUE_WAIT, " Hmm");
    says(spec, CUE_FINAL, "<end>");
    says(spec, CUE_REVISE, "Again.\n");
}

static void no_object(void **state)
{
    (void)state;
    struct buf out = {0};
    assert_true(cue_text(slice_of("[1]"), CUE_WAIT, &out) < 0);
    assert_int_equal(out.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(the_models_own),
        cmocka_unit_test(no_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
