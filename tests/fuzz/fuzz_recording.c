/* fuzz_recording.c - any bytes as recorded rollouts: the first byte says how they are read, the rest is the file. Every
 * row that was read is found again, and its numbers are numbers. */
#include "worker/recording.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_row(const struct recording *recording, size_t i)
{
    const struct recorded *row = recording_at(recording, i), *first;
    size_t len = recording_find(recording, row->model, row->prompt, &first);
    if (len == 0 || row < first || row >= first + len || row->prompt.len == 0)
        abort();
    if (row > first && row->ordinal < row[-1].ordinal)
        abort();
    if (row->finish == FINISH_STEP || row->finish == FINISH_EXHAUSTED ||
        (row->finish != FINISH_FAILED && row->tokens_out == 0))
        abort();
    for (int f = 0; f < FEATURES; f++)
        if ((row->features.have >> f & 1) != 0 && !isfinite(row->features.v[f]))
            abort();
    for (uint32_t v = 0; v < row->verdicts_len; v++)
        if (row->verdicts[v].verifier >= recording_verifiers(recording) ||
            row->verdicts[v].verdict.outcome >= OUTCOMES || !isfinite(row->verdicts[v].verdict.score))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct recording_filter filter = {"run", "1"};
    if (size == 0)
        return 0;
    struct recording_options options = {.format = (data[0] & 1) != 0 ? RECORDING_CSV : RECORDING_JSONL,
                                        .models = (data[0] & 2) != 0,
                                        .filters = &filter,
                                        .filters_len = (data[0] & 4) != 0};
    if ((data[0] & 8) != 0)
        options.columns[COLUMN_PROMPT] = "id";
    /* A copy without slack, so that a sanitizer sees the first byte read behind the end. */
    char *exact = memcpy(malloc(size > 1 ? size - 1 : 1), data + 1, size - 1);
    struct recording *recording;
    struct error error = {""};
    int rc = recording_parse((struct slice){exact, size - 1}, "fuzz", &options, &recording, &error);
    free(exact);
    if (rc != 0 ? error.text[0] == '\0' : recording_len(recording) == 0)
        abort();
    for (size_t i = 0; rc == 0 && i < recording_len(recording); i++)
        check_row(recording, i);
    recording_free(&recording);
    return 0;
}
