/* test_join.c - the join file: what is written is read back, what people get wrong is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/io/join_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/drover-join-XXXXXX";
static char path[64];

static int make_folder(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/join.yaml", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails when a temporary file was left */
}

static void written_is_read(void **state)
{
    (void)state;
    struct join join = {.agents = "tcp://10.1.2.3:5555", .clients = "ipc:///tmp/clients", .epoch = 7}, got;
    struct error error = {""};
    assert_int_equal(join_file_write(path, &join, NULL, &error), 0);
    assert_int_equal(join_file_read(path, &got, &error), 0);
    assert_string_equal(got.agents, join.agents);
    assert_string_equal(got.clients, join.clients);
    assert_int_equal(got.epoch, 7);
    join.epoch = 8; /* replaced, not appended */
    assert_int_equal(join_file_write(path, &join, "node7", &error), 0);
    assert_int_equal(join_file_wait(path, 0, &got, &error), 0);
    assert_int_equal(got.epoch, 8);
    assert_string_equal(got.agents, "tcp://node7:5555");
    assert_string_equal(got.clients, "ipc:///tmp/clients");
}

/* Whatever this machine's addresses are, others cannot connect to "all of them". */
static void everywhere_becomes_an_address(void **state)
{
    (void)state;
    struct join join = {.agents = "tcp://0.0.0.0:41", .clients = "tcp://[::]:42"}, got;
    struct error error = {""};
    assert_int_equal(join_file_write(path, &join, NULL, &error), 0);
    assert_int_equal(join_file_read(path, &got, &error), 0);
    assert_false(join_wildcard(got.agents));
    assert_non_null(strstr(got.agents, ":41"));
    assert_non_null(strstr(got.clients, ":42"));
    assert_int_equal(join_file_write(path, &join, "fe80::7", &error), 0);
    assert_int_equal(join_file_read(path, &got, &error), 0);
    assert_string_equal(got.clients, "tcp://[fe80::7]:42");
}

static void missing_is_told_apart(void **state)
{
    (void)state;
    struct join got;
    struct error error = {""};
    unlink(path);
    assert_int_equal(join_file_read(path, &got, &error), ERR_NOT_FOUND);
    assert_int_equal(join_file_wait(path, 1, &got, &error), ERR_NOT_FOUND);
    assert_non_null(strstr(error.text, "--join-file"));
    assert_int_equal(join_file_read(folder, &got, &error), ERR_IO);
    assert_int_equal(
        join_file_write("/tmp/drover-no-such-folder/join", &(struct join){.agents = "ipc://a"}, NULL, &error), ERR_IO);
}

static void malformed(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
        int code;
    } rows[] = {
        {"agents: tcp://a:1\n", "'clients'", ERR_NOT_FOUND},
        {"agents: tcp://a:1\nclients: tcp://a:2\nagnets: 3\n", "agnets", ERR_NOT_FOUND},
        {"agents: tcp://a:*\nclients: tcp://a:2\n", "j:1:9: 'agents' must be an address", ERR_SYNTAX},
        {"agents: tcp://0.0.0.0:1\nclients: tcp://a:2\n", "j:1:9: 'agents' must be an address", ERR_SYNTAX},
        {"agents: tcp://a:1\nclients: http://a:2\n", "j:2:10: 'clients' must be an address", ERR_SYNTAX},
        {"agents: tcp://a:1\nclients: tcp://a:2\nepoch: -1\n", "epoch", ERR_RANGE},
        {"\001\002\003", "j:1:1", ERR_SYNTAX},
        {"[", "j:", ERR_SYNTAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct join join;
        struct error error = {""};
        assert_int_equal(join_parse(slice_of(rows[i].text), "j", &join, &error), rows[i].code);
        if (strstr(error.text, rows[i].says) == NULL)
            fail_msg("%s: says '%s', not '%s'", rows[i].text, error.text, rows[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_is_read),
        cmocka_unit_test(everywhere_becomes_an_address),
        cmocka_unit_test(missing_is_told_apart),
        cmocka_unit_test(malformed),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
