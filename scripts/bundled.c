/* bundled.c - bin/drover of the bundle: starts lib/drover with the loader and the libraries beside it, so that it runs
 * whatever the system has. Static, because it must need nothing itself. See scripts/bundle. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

/* The path that this was started by, without links. */
static int find_self(char self[PATH_MAX])
{
    ssize_t len = readlink("/proc/self/exe", self, PATH_MAX - 1);
    if (len > 0) {
        self[len] = '\0';
        return 0;
    }
    const char *given = (const char *)getauxval(AT_EXECFN); /* no /proc */
    return given != NULL && realpath(given, self) != NULL ? 0 : -1;
}

int main(int argc, char **argv)
{
    char self[PATH_MAX], folder[PATH_MAX], loader[PATH_MAX + 32], program[PATH_MAX + 32];
    char **args = calloc((size_t)argc + 8, sizeof *args);
    size_t len = 0;
    if (find_self(self) != 0 || args == NULL) {
        fputs("drover: cannot tell where this bundle is\n", stderr);
        return 1;
    }
    snprintf(folder, sizeof folder, "%s", self);
    for (int up = 0; up < 2; up++) /* out of bin/ */
        if (strrchr(folder, '/') != NULL)
            *strrchr(folder, '/') = '\0';
    strncat(folder, "/lib", sizeof folder - strlen(folder) - 1);
    snprintf(loader, sizeof loader, "%s/ld.so", folder);
    snprintf(program, sizeof program, "%s/drover", folder);
    setenv("DROVER_PROGRAM", self, 1); /* for common/io/program.h */
    args[len++] = loader;
    args[len++] = "--inhibit-cache";
    args[len++] = "--library-path";
    args[len++] = folder;
    args[len++] = "--argv0";
    args[len++] = "drover";
    args[len++] = program;
    for (int i = 1; i < argc; i++)
        args[len++] = argv[i];
    execv(loader, args);
    perror(loader);
    return 1;
}
