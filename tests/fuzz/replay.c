/* replay.c - runs one fuzz target over its seed corpus: `replay_fuzz_NAME CORPUS` feeds it every
 * file of CORPUS/NAME.
 *
 * Prints TAP. A crash or a sanitizer's report ends the process before "ok" is printed. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int feed(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return -1;
    size_t cap = 1 << 16, len = 0, got;
    char *data = malloc(cap);
    while (data != NULL && (got = fread(data + len, 1, cap - len, file)) > 0) {
        len += got;
        if (len == cap)
            data = realloc(data, cap *= 2);
    }
    fclose(file);
    if (data == NULL)
        return -1;
    char *exact = malloc(len > 0 ? len : 1); /* no slack behind it: overruns are seen */
    if (exact != NULL) {
        memcpy(exact, data, len);
        LLVMFuzzerTestOneInput((const uint8_t *)exact, len);
    }
    free(exact);
    free(data);
    return exact == NULL ? -1 : 0;
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/'), *name = slash == NULL ? argv[0] : slash + 1;
    static const char prefix[] = "replay_fuzz_";
    if (strncmp(name, prefix, strlen(prefix)) == 0)
        name += strlen(prefix);
    char folder[4096], path[8192];
    struct dirent **entries;
    int fed = 0, failed = 0;
    snprintf(folder, sizeof folder, "%s/%s", argc > 1 ? argv[1] : "tests/fuzz/corpus", name);
    int len = scandir(folder, &entries, visible, alphasort);
    printf("1..1\n");
    fflush(stdout);
    for (int i = 0; i < len; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (feed(path) == 0)
            fed++;
        else
            failed++;
        free(entries[i]);
    }
    if (len >= 0)
        free(entries);
    printf("%sok 1 - %s: %d seeds%s\n", fed > 0 && failed == 0 ? "" : "not ", name, fed,
           len < 0      ? ", the folder is missing"
           : failed > 0 ? ", some could not be read"
                        : "");
    return fed > 0 && failed == 0 ? 0 : 1;
}
