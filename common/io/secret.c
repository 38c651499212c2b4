/* secret.c - keys of servers; see secret.h. */
#include "common/io/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { SECRET_MAX = 8192, PART_MIN = 4 };

static int read_file(const char *path, struct buf *out, struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(error, ERR_NOT_FOUND, "cannot read the key file %.200s: %s", path, strerror(errno));
    ssize_t got = read(fd, buf_grow(out, SECRET_MAX + 2), SECRET_MAX + 1);
    close(fd);
    if (got < 0)
        return error_set(error, ERR_IO, "cannot read the key file %.200s: %s", path, strerror(errno));
    out->len = (size_t)got;
    return 0;
}

int secret_read(const char *file, const char *variable, struct buf *key, struct error *error)
{
    buf_reset(key);
    bool from_file = file != NULL && file[0] != '\0';
    const char *name = from_file ? file : variable, *value = NULL;
    if (name == NULL || name[0] == '\0')
        return 0;
    if (from_file) {
        int rc = read_file(file, key, error);
        if (rc != 0)
            return rc;
    } else {
        value = getenv(variable);
        if (value == NULL)
            return error_set(error, ERR_NOT_FOUND,
                             "the environment variable %.100s, which should hold a key, is not set", variable);
        buf_puts(key, value);
    }
    while (key->len > 0 && strchr(" \t\r\n", key->data[key->len - 1]) != NULL)
        key->len--;
    if (key->len > SECRET_MAX)
        return error_set(error, ERR_LIMIT, "the key in %.200s has more than %d bytes", name, SECRET_MAX);
    bool good = key->len > 0;
    for (size_t i = 0; i < key->len; i++)
        good = good && key->data[i] > ' ' && key->data[i] < 127;
    if (!good)
        return error_set(error, ERR_SYNTAX, "%.200s does not hold a key: one line of printable characters, no spaces",
                         name);
    *buf_grow(key, 1) = '\0';
    prctl(PR_SET_DUMPABLE, 0); /* what is left of a crash would hold it */
    return 0;
}

void secret_hide(char *text, const char *key)
{
    size_t len = key == NULL ? 0 : strlen(key);
    if (len == 0)
        return;
    for (char *at = text; (at = strstr(at, key)) != NULL;) {
        size_t mark = len < 3 ? len : 3; /* never longer than what it replaces */
        memcpy(at, "***", mark);
        memmove(at + mark, at + len, strlen(at + len) + 1);
        at += mark;
    }
    size_t end = strlen(text);
    for (size_t part = len - 1 < end ? len - 1 : end; part >= PART_MIN; part--) {
        if (memcmp(text + end - part, key, part) != 0)
            continue;
        strcpy(text + end - part, "***");
        return;
    }
}

void secret_clear(struct buf *key)
{
    if (key->data != NULL)
        explicit_bzero(key->data, key->cap);
    buf_clear(key);
}
