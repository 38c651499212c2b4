/* test_net.c - connections that come and go in one process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/io/net.h"

/* A port may be where a closed one was in memory, while ZeroMQ still puts that one away. */
static void ports_may_follow_each_other_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < 500; i++) {
        struct port *port;
        struct error error;
        assert_int_equal(port_dealer("tcp://127.0.0.1:9", 8, &port, &error), 0);
        assert_false(port_connected(port));
        port_close(&port, 0);
        assert_null(port);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ports_may_follow_each_other_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
