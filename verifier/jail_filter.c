/* jail_filter.c - the system calls that sandboxed programs do not get.
 *
 * A deny list: an allow list breaks with every release of an interpreter, and the kernel's own checks stand behind it.
 * What is denied is what most escapes of the last years began with (new namespaces, mounts, io_uring, bpf, keys) and
 * every kind of socket but a pair. clone3 hides its flags behind a pointer, so it does not exist: the C library then
 * falls back to clone, whose flags can be seen. */
#include "verifier/jail.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *const denied[] = {
    /* another view of the system */
    "unshare",
    "setns",
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "open_by_handle_at",
    "name_to_handle_at",
    "quotactl",
    "quotactl_fd",
    /* other processes */
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "kcmp",
    "pidfd_getfd",
    /* large and young parts of the kernel */
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "keyctl",
    "add_key",
    "request_key",
    "fanotify_init",
    "lookup_dcookie",
    "vmsplice",
    /* memory and queues that outlive a process or that limits do not see */
    "memfd_create",
    "memfd_secret",
    "shmget",
    "shmat",
    "msgget",
    "semget",
    "mq_open",
    "remap_file_pages",
    /* the machine */
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "swapon",
    "swapoff",
    "acct",
    "syslog",
    "settimeofday",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "iopl",
    "ioperm",
    "modify_ldt",
    "vhangup",
    "personality",
    "sethostname",
    "setdomainname",
    "nfsservctl",
    "uselib",
    /* the network */
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "accept4",
    NULL,
};

/* From <linux/tty.h> and friends: typing into a terminal, whatever descriptor is found. */
static const unsigned long denied_ioctls[] = {TIOCSTI, TIOCLINUX, TIOCSETD, TIOCCONS};

static const unsigned long denied_clones[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                              CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};

static int add_rules(scmp_filter_ctx filter)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && denied[i] != NULL; i++) {
        int call = seccomp_syscall_resolve_name(denied[i]);
        if (call >= 0) /* else it is unknown to this library, or belongs to another architecture */
            rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call, 0);
    }
    for (size_t i = 0; rc == 0 && i < sizeof denied_ioctls / sizeof denied_ioctls[0]; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                              SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, denied_ioctls[i]));
    for (size_t i = 0; rc == 0 && i < sizeof denied_clones / sizeof denied_clones[0]; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, denied_clones[i], denied_clones[i]));
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socketpair), 1, SCMP_A0(SCMP_CMP_NE, AF_UNIX));
    return rc;
}

int jail_filter_make(struct sock_fprog *filter)
{
    scmp_filter_ctx made = seccomp_init(SCMP_ACT_ALLOW);
    int fd = memfd_create("filter", MFD_CLOEXEC), rc = made == NULL || fd < 0 ? -errno : add_rules(made);
    if (rc == 0)
        rc = seccomp_export_bpf(made, fd);
    if (made != NULL)
        seccomp_release(made);
    off_t len = rc == 0 ? lseek(fd, 0, SEEK_END) : 0;
    if (len > 0) {
        filter->len = (unsigned short)((size_t)len / sizeof *filter->filter);
        filter->filter = xalloc((size_t)len);
        rc = pread(fd, filter->filter, (size_t)len, 0) == len ? 0 : -EIO;
    }
    if (rc == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    errno = -rc;
    return -1;
}
