/* engine_command.c - see engine_command.h. */
#include "worker/engine_command.h"
#include "common/buf.h"

#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The next word, as the shell reads plain and quoted ones. False: it is none, or the shell would do more with it. */
static bool next_word(const char **at, struct buf *word)
{
    char quote = '\0';
    buf_reset(word);
    *at += strspn(*at, " \t\n");
    const char *c = *at;
    for (; *c != '\0' && (quote != '\0' || strchr(" \t\n", *c) == NULL); c++) {
        if (*c == quote)
            quote = '\0';
        else if (quote == '\0' && (*c == '\'' || *c == '"'))
            quote = *c;
        else if (strchr(quote == '\'' ? "" : quote == '"' ? "$`\\" : "$`\\|&;<>()*?[]{}#~!", *c) != NULL)
            return false;
        else
            buf_put(word, c, 1);
    }
    *at = c;
    return quote == '\0' && word->len > 0;
}

/* NAME=value before a command. */
static bool assignment(const char *word)
{
    size_t name = strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");
    return name > 0 && word[name] == '=';
}

/* The shell knows its own words, and where it looks for others. */
static bool shell_knows(char *word)
{
    pid_t pid;
    int status = 0;
    char *argv[] = {"sh", "-c", "command -v -- \"$1\" >/dev/null 2>&1", "sh", word, NULL};
    if (posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) != 0 || waitpid(pid, &status, 0) != pid)
        return true; /* a machine without a shell fails later, with its own words */
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool there(char *word)
{
    return strchr(word, '/') != NULL ? access(word, X_OK) == 0 : shell_knows(word);
}

int engine_command_check(const char *command, const char *url, struct error *error)
{
    if (url == NULL && strstr(command, "{port}") == NULL)
        return error_set(
            error, ERR_SYNTAX,
            "the command of --engine has no {port}, so the server cannot be told where to listen: write "
            "{port} where the port belongs ('... --port {port}'), or say where it listens with --engine-url");
    struct buf word = {0};
    int rc = 0;
    while (next_word(&command, &word)) {
        if (assignment(word.data) || strcmp(word.data, "exec") == 0)
            continue;
        if (!there(word.data))
            rc = error_set(error, ERR_NOT_FOUND,
                           "there is no program '%.200s' on this machine that could be run, as the command of --engine "
                           "says: install it, or name it with its folder",
                           word.data);
        break;
    }
    buf_clear(&word);
    return rc;
}
