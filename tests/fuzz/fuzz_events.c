/* fuzz_events.c - any bytes as the facts of a commit: they become events, or are refused. */
#include "broker/events.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int put(void *arg, struct seq seq, struct slice line)
{
    (void)arg;
    (void)seq;
    if (line.len < 2 || line.data[0] != '{' || line.data[line.len - 1] != '}' || memchr(line.data, '\n', line.len))
        abort();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct events *events = events_new(&(struct events_options){.texts = true});
    struct error error;
    int rc = events_commit(events, (struct slice){(const char *)data, size}, (struct slice){"{\"id\":\"a\"}", 10},
                           (struct seq){0}, put, NULL, &error);
    if (rc != 0 && rc != ERR_CORRUPT)
        abort();
    events_free(&events);
    return 0;
}
