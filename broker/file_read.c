/* file_read.c - whole files that people name, into memory; see sweep_file.h. */
#include "broker/sweep_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_regular(const char *path, int *fd, struct error *error)
{
    /* O_NONBLOCK: opening a FIFO without a writer would wait for ever. */
    *fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (*fd < 0) {
        int code = errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO;
        return error_set(error, code, "%s: cannot be opened: %s", path, strerror(errno));
    }
    struct stat info;
    if (fstat(*fd, &info) < 0)
        return error_set(error, ERR_IO, "%s: cannot be examined: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return error_set(error, ERR_REFUSED, "%s: is %s; name a regular file", path,
                         S_ISDIR(info.st_mode)    ? "a folder"
                         : S_ISFIFO(info.st_mode) ? "a FIFO"
                                                  : "no regular file");
    return 0;
}

/* Reads to the end rather than to a size: a file may grow meanwhile, and those of /proc say 0. */
static int read_all(int fd, const char *path, size_t max, struct buf *out, struct error *error)
{
    for (;;) {
        size_t want = out->cap - out->len > 65536 ? out->cap - out->len - 1 : 65536;
        ssize_t got = read(fd, buf_grow(out, want), want);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(error, ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
        out->len += (size_t)got;
        out->data[out->len] = '\0';
        if (out->len > max)
            return error_set(error, ERR_LIMIT, "%s: more than %zu bytes", path, max);
        if (got == 0)
            return 0;
    }
}

int file_read(const char *path, size_t max, char **text, size_t *len, struct error *error)
{
    struct buf out = {0};
    int fd = -1;
    *text = NULL;
    *len = 0;
    int rc = open_regular(path, &fd, error);
    if (rc == 0)
        rc = read_all(fd, path, max, &out, error);
    if (fd >= 0)
        close(fd);
    if (rc < 0) {
        buf_clear(&out);
        return rc;
    }
    *text = out.data;
    *len = out.len;
    return 0;
}
