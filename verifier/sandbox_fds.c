/* sandbox_fds.c - messages that carry descriptors between a verifier, its launcher and their slots. */
#include "verifier/slot.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

ssize_t fds_send(int socket, const void *data, size_t len, const int *fds, size_t fds_len)
{
    char control[CMSG_SPACE(SLOT_FDS * sizeof(int))] = {0};
    struct iovec part = {(void *)data, len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fds_len > 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(fds_len * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fds_len * sizeof(int));
        memcpy(CMSG_DATA(header), fds, fds_len * sizeof(int));
    }
    ssize_t sent;
    do
        sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent;
}

ssize_t fds_recv(int socket, void *data, size_t len, int *fds, size_t fds_max, size_t *fds_len)
{
    char control[CMSG_SPACE(SLOT_FDS * sizeof(int))];
    struct iovec part = {data, len};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(fds_max * sizeof(int))};
    ssize_t got;
    do
        got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    struct cmsghdr *header = got < 0 ? NULL : CMSG_FIRSTHDR(&message);
    *fds_len = 0;
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        *fds_len = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(header), *fds_len * sizeof(int));
    }
    return got;
}
