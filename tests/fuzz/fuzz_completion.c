/* fuzz_completion.c - any bytes as an answer of an inference server: whole, and as a stream that comes in other pieces and
 * must say the same; and as its page of metrics. */
#include "common/sse.h"
#include "worker/completion.h"
#include "worker/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct stream {
    struct completion completion;
    struct buf events;
    int rc;
};

static int on_event(void *user, struct slice data)
{
    struct stream *stream = user;
    struct error error = {""};
    buf_put(&stream->events, data.data, data.len);
    buf_put(&stream->events, "\n", 1);
    stream->rc = completion_read(&stream->completion, data, &error);
    if (stream->rc != 0 && error.text[0] == '\0')
        abort(); /* an error says why */
    return stream->rc;
}

static void check(const struct completion *completion)
{
    for (size_t i = 0; i < completion->choices_len; i++) {
        const struct choice *choice = &completion->choices[i];
        struct features features = {0};
        logprobs_features(&choice->logprobs, &features);
        if (memchr(choice->finish, '\0', sizeof choice->finish) == NULL || isnan(choice->logprobs.sum))
            abort();
    }
}

static void feed(struct stream *stream, struct slice bytes, size_t piece)
{
    struct sse sse = {0};
    *stream = (struct stream){0};
    completion_init(&stream->completion, 1, 2);
    while (bytes.len > 0) {
        size_t len = bytes.len < piece ? bytes.len : piece;
        if (sse_feed(&sse, (struct slice){bytes.data, len}, on_event, stream) != 0)
            break;
        bytes = (struct slice){bytes.data + len, bytes.len - len};
    }
    check(&stream->completion);
    sse_clear(&sse);
}

static void stream_clear(struct stream *stream)
{
    completion_clear(&stream->completion);
    buf_clear(&stream->events);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice bytes = {(const char *)data, size};
    struct completion whole;
    struct stream once, pieces;
    for (size_t choices = 1; choices < 4; choices++) {
        completion_init(&whole, choices, 2);
        whole.cumulative = choices == 3;
        if (completion_read(&whole, bytes, NULL) == 0)
            (void)completion_read(&whole, bytes, NULL);
        check(&whole);
        completion_clear(&whole);
    }
    feed(&once, bytes, size + 1);
    feed(&pieces, bytes, 3);
    if (once.rc != pieces.rc || once.events.len != pieces.events.len ||
        (once.events.len > 0 && memcmp(once.events.data, pieces.events.data, once.events.len) != 0))
        abort();
    stream_clear(&once);
    stream_clear(&pieces);
    const char *const names[] = {"vllm:num_requests_waiting", "a", NULL};
    struct gauge_value value = metrics_find(bytes, names, 3);
    if (value.known && (isnan(value.sum) || isnan(value.max)))
        abort();
    return 0;
}
