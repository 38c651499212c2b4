/* fuzz_prompts.c - prompts as JSONL. */
#include "broker/sweep_file.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size > 0 ? size : 1);
    struct prompt_set set;
    struct error error = {""};
    if (size > 0)
        memcpy(text, data, size);
    if (prompt_set_parse(&text, size, "fuzz", "task", &set, &error) < 0 && error.text[0] == '\0')
        abort(); /* every refusal has its sentence */
    for (uint32_t i = 0; i < set.len; i++)
        if (set.prompts[i].id == NULL || set.prompts[i].record.len == 0)
            abort();
    prompt_set_clear(&set);
    return 0;
}
