/* test_cluster.c - cluster.conf: defaults, the annotated file, what is refused. Runs at the top of
 * the repository. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broker/sweep_file.h"
#include "common/cluster.h"
#include "common/limits.h"

#include <stdlib.h>
#include <string.h>

static void defaults(void **state)
{
    (void)state;
    struct cluster_conf conf;
    assert_int_equal(cluster_conf_parse((struct slice){NULL, 0}, "c", &conf, NULL), 0);
    assert_string_equal(conf.listen, "tcp://127.0.0.1:5555");
    assert_string_equal(conf.clients, "tcp://127.0.0.1:5556");
    assert_string_equal(conf.state, "drover-state");
    assert_false(conf.insecure);
    assert_int_equal(conf.heartbeat_busy_ms, 2000);
    assert_int_equal(conf.heartbeat_idle_ms, 10000);
    assert_int_equal(conf.lease_heartbeats, 3);
    assert_int_equal(conf.map_max_gib, 1024);
    assert_int_equal(conf.batch, 1024);
    assert_true(conf.short_slice);
    assert_string_equal(conf.redis, "");
    assert_string_equal(conf.redis_prefix, "drover");
    assert_int_equal(conf.redis_stream_max, 100000);
    assert_false(conf.redis_texts);
}

/* Its bytes are what the table prints, so no key can be missing or have another default. */
static void annotated_file_is_the_table(void **state)
{
    (void)state;
    char *text;
    size_t len;
    struct error error = {""};
    struct buf example = {0};
    struct cluster_conf empty, file;
    assert_int_equal(file_read("cluster.conf", LIMIT_SWEEP_FILE, &text, &len, &error), 0);
    cluster_conf_example(&example);
    assert_string_equal(text, example.data);
    assert_int_equal(cluster_conf_parse((struct slice){text, len}, "c", &file, &error), 0);
    assert_int_equal(cluster_conf_parse(slice_of(""), "c", &empty, &error), 0);
    assert_memory_equal(&file, &empty, sizeof file);
    buf_clear(&example);
    free(text);
}

static void values(void **state)
{
    (void)state;
    struct cluster_conf conf;
    struct error error = {""};
    const char *text = "listen: tcp://*:7000\nclients: ipc:///run/drover\ninsecure: true\n"
                       "heartbeat_busy: 0.05\nbatch: 1\nshort_slice: false\nstate: /var/x\n";
    assert_int_equal(cluster_conf_parse(slice_of(text), "c", &conf, &error), 0);
    assert_string_equal(conf.listen, "tcp://*:7000");
    assert_true(conf.insecure);
    assert_int_equal(conf.heartbeat_busy_ms, 50);
    assert_int_equal(conf.batch, 1);
    assert_false(conf.short_slice);
}

static void local_endpoints(void **state)
{
    (void)state;
    static const struct {
        const char *endpoint;
        int rc;
    } rows[] = {
        {"tcp://127.0.0.1:1", 0},
        {"tcp://127.9.9.9:65535", 0},
        {"tcp://localhost:80", 0},
        {"'tcp://[::1]:80'", 0},
        {"ipc:///tmp/x", 0},
        {"tcp://127.0.0.1:*", 0},
        {"'tcp://*:80'", ERR_REFUSED},
        {"tcp://10.0.0.1:80", ERR_REFUSED},
        {"tcp://127.evil.org:80", ERR_REFUSED},
        {"tcp://127.0.0.1.evil.org:80", ERR_REFUSED},
        {"tcp://localhost.evil.org:80", ERR_REFUSED},
        {"tcp://127.0.0.1", ERR_SYNTAX},
        {"tcp://127.0.0.1:", ERR_SYNTAX},
        {"tcp://127.0.0.1:70000", ERR_SYNTAX},
        {"tcp://127.0.0.1:80x", ERR_SYNTAX},
        {"tcp://:80", ERR_SYNTAX},
        {"udp://127.0.0.1:80", ERR_SYNTAX},
        {"ipc://", ERR_SYNTAX},
        {"''", ERR_SYNTAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cluster_conf conf;
        struct error error = {""};
        struct buf text = {0};
        buf_printf(&text, "listen: %s\n", rows[i].endpoint);
        int rc = cluster_conf_parse(buf_slice(&text), "c", &conf, &error);
        if (rc != rows[i].rc)
            fail_msg("%s: %d %s", rows[i].endpoint, rc, error.text);
        buf_clear(&text);
    }
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"listen: tcp://0.0.0.0:5555",
         "c:1:9: 'listen' can be reached from other machines and nothing is encrypted; use "
         "127.0.0.1, or say `insecure: true` on a network that you trust"},
        {"listen: 127.0.0.1:5555", "c:1:9: 'listen' must be tcp://ADDRESS:PORT or ipc://PATH, not '127.0.0.1:5555'"},
        {"clients: tcp://127.0.0.1:5555", "c:1:10: 'listen' and 'clients' are the same; give each a port of its own"},
        {"heartbeat_busy: 0.01", "c:1:17: 'heartbeat_busy' must be a number from 0.05 to 60 (seconds), not '0.01'"},
        {"hartbeat_busy: 1", "c:1:1: unknown key 'hartbeat_busy' in the cluster configuration; did "
                             "you mean 'heartbeat_busy'?"},
        {"redis: tcp://10.0.0.1:6379",
         "c:1:8: 'redis' can be reached from other machines and nothing is encrypted; use "
         "127.0.0.1, or say `insecure: true` on a network that you trust"},
        {"state: ''", "c:1:8: 'state' must name a folder"},
        {"insecure: maybe", "c:1:11: 'insecure' must be true or false, not 'maybe'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cluster_conf conf;
        struct error error = {""};
        assert_true(cluster_conf_parse(slice_of(rows[i].text), "c", &conf, &error) < 0);
        assert_string_equal(error.text, rows[i].message);
    }
}

static void help_lists_keys(void **state)
{
    (void)state;
    struct buf out = {0};
    cluster_conf_help(&out);
    assert_non_null(strstr(out.data, "  batch            a whole number from 1 to 65536 (messages)"));
    assert_non_null(strstr(out.data, "default tcp://127.0.0.1:5555"));
    buf_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults), cmocka_unit_test(annotated_file_is_the_table),
        cmocka_unit_test(values),   cmocka_unit_test(local_endpoints),
        cmocka_unit_test(refused),  cmocka_unit_test(help_lists_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
