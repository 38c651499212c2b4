/* jail.c - the inside of a sandbox: a slot's namespaces and root, and how one program enters them.
 *
 * What is dear is made once per slot: user, network, host name and mount namespaces, a root that holds a read-only view
 * of the system's programs and nothing else, the seccomp filter. What programs must not share is made per program: pid,
 * mount and IPC namespaces, /proc, and a /tmp of limited size in memory. The program is process 1 of its pid namespace:
 * when it is gone, the kernel has ended everything that it started. */
#include "verifier/jail.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4u
#endif

#define PATH_INSIDE "/usr/local/bin:/usr/bin:/bin"

const char *const jail_folders[] = {"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", NULL};

/* What programs need of /etc: where libraries are, which alternative is chosen, what time it is. */
static const char *const files[] = {"/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/dev/null", "/dev/zero",
                                    "/dev/full",        "/dev/random",       "/dev/urandom",   NULL};

static char *const environment[] = {"PATH=" PATH_INSIDE, "HOME=/tmp", "TMPDIR=/tmp", "LANG=C.UTF-8", NULL};

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t written = write(fd, text, strlen(text));
    int why = errno;
    close(fd);
    errno = why;
    return written == (ssize_t)strlen(text) ? 0 : -1;
}

/* -- a slot --------------------------------------------------------------------------------------------------------- */

/* Without root: we become somebody who may do the rest, in a namespace where that harms nobody. Inside we are seen as
 * `nobody`, so that no program takes itself for root. */
static int enter_user_namespace(struct jail *jail)
{
    char map[64];
    const unsigned outside = geteuid(), group = getegid();
    if (unshare(CLONE_NEWUSER) != 0)
        return -1;
    jail->user_namespace = true;
    snprintf(map, sizeof map, "65534 %u 1", outside);
    if (write_file("/proc/self/setgroups", "deny") != 0 || write_file("/proc/self/uid_map", map) != 0)
        return -1;
    snprintf(map, sizeof map, "65534 %u 1", group);
    return write_file("/proc/self/gid_map", map);
}

/* Shows the host's path below the new root, which is the working folder. Links stay links: /bin is often one. */
static int show(const char *path)
{
    struct stat info;
    char target[256], inside[300];
    snprintf(inside, sizeof inside, ".%s", path);
    if (lstat(path, &info) != 0)
        return errno == ENOENT ? 0 : -1;
    if (S_ISLNK(info.st_mode)) {
        ssize_t len = readlink(path, target, sizeof target - 1);
        if (len < 0)
            return -1;
        target[len] = '\0';
        return symlink(target, inside);
    }
    if (S_ISDIR(info.st_mode) ? mkdir(inside, 0755) != 0 : mknod(inside, S_IFREG | 0644, 0) != 0)
        return -1;
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};
    if (!S_ISCHR(info.st_mode))
        attr.attr_set |= MOUNT_ATTR_NODEV;
    if (mount(path, inside, NULL, MS_BIND | MS_REC, NULL) != 0)
        return -1;
    return mount_setattr(AT_FDCWD, inside, AT_RECURSIVE, &attr, sizeof attr);
}

static int show_all(void)
{
    static const char *const folders[] = {"etc", "dev", "tmp", "proc", NULL};
    for (size_t i = 0; folders[i] != NULL; i++)
        if (mkdir(folders[i], 0755) != 0)
            return -1;
    for (size_t i = 0; jail_folders[i] != NULL; i++)
        if (show(jail_folders[i]) != 0)
            return -1;
    for (size_t i = 0; files[i] != NULL; i++)
        if (show(files[i]) != 0)
            return -1;
    return 0;
}

#define STEP(jail, name, call)                                    \
    do {                                                          \
        snprintf((jail)->step, sizeof(jail)->step, "%s", (name)); \
        if ((call) != 0)                                          \
            return -1;                                            \
    } while (0)

/* For gVisor, which does not start below a root of ours: an empty folder over all that programs have no use for. */
static int hide_others(void)
{
    static const char *const kept[] = {"dev", "proc", "sys", NULL};
    char path[300];
    struct dirent *entry;
    DIR *root = opendir("/");
    int rc = root == NULL ? -1 : 0;
    while (rc == 0 && (entry = readdir(root)) != NULL) {
        bool keep = entry->d_type != DT_DIR || entry->d_name[0] == '.';
        for (size_t i = 0; kept[i] != NULL; i++)
            keep |= strcmp(entry->d_name, kept[i]) == 0;
        for (size_t i = 0; jail_folders[i] != NULL; i++)
            keep |= strcmp(entry->d_name, jail_folders[i] + 1) == 0;
        snprintf(path, sizeof path, "/%s", entry->d_name);
        if (!keep)
            rc = mount("none", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, "size=4k,nr_inodes=2,mode=755");
    }
    if (root != NULL)
        closedir(root);
    return rc;
}

/* The new root is made on a file system in memory over /tmp, which every system has; nobody else sees it. */
static int prepare(struct jail *jail)
{
    if (geteuid() != 0)
        STEP(jail, "make a user namespace", enter_user_namespace(jail));
    STEP(jail, "make namespaces", unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC));
    STEP(jail, "name the sandbox's host", sethostname("sandbox", 7));
    STEP(jail, "make mounts private", mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    if (jail->tier == TIER_GVISOR) {
        STEP(jail, "hide the system's other folders", hide_others());
        return 0;
    }
    STEP(jail, "mount the new root", mount("root", "/tmp", "tmpfs", MS_NOSUID, "size=1m,nr_inodes=256,mode=755"));
    STEP(jail, "enter the new root", chdir("/tmp"));
    STEP(jail, "show the system's folders", show_all());
    /* A /proc can only be mounted by who still sees one: the old one waits under the new. */
    if (jail->user_namespace)
        STEP(jail, "keep the old /proc", mount("/proc", "./proc", NULL, MS_BIND | MS_REC, NULL));
    STEP(jail, "change the root", syscall(SYS_pivot_root, ".", "."));
    STEP(jail, "leave the old root", umount2(".", MNT_DETACH));
    STEP(jail, "make the root read-only", mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, NULL));
    return 0;
}

int jail_prepare(struct jail *jail, struct error *error)
{
    jail->landlock = jail_landlock_abi();
    jail->filter_fd = jail_filter_make(&jail->filter);
    if (jail->filter_fd < 0)
        return error_set(error, ERR_SYSTEM, "cannot make the seccomp filter: %s", strerror(errno));
    if (jail->tier == TIER_BWRAP || prepare(jail) == 0)
        return 0;
    const char *hint = jail->user_namespace || geteuid() == 0
                           ? "the kernel or a container around it forbids it"
                           : "run it as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone)";
    return error_set(error, ERR_SYSTEM, "cannot %s: %s; %s", jail->step, strerror(errno), hint);
}

/* -- one program ---------------------------------------------------------------------------------------------------- */

int jail_clone_flags(const struct jail *jail)
{
    return jail->tier == TIER_BWRAP ? 0 : CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC;
}

static int mount_own(const struct jail *jail)
{
    char options[96];
    snprintf(options, sizeof options, "size=%dm,nr_inodes=%d,mode=700,uid=%u,gid=%u", JAIL_TMP_MIB, JAIL_TMP_INODES,
             jail->user_namespace ? 65534 : (unsigned)jail->uid, jail->user_namespace ? 65534 : (unsigned)jail->uid);
    const char *part = jail->tier == TIER_GVISOR ? NULL : "subset=pid"; /* gVisor looks at the processor */
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, part) != 0)
        return -1;
    if (mount("tmp", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, options) != 0)
        return -1;
    return chdir("/tmp");
}

static int copy_program(int program)
{
    struct stat info;
    if (program < 0)
        return 0;
    int fd = open("/tmp/program", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    if (fd < 0 || fstat(program, &info) != 0)
        return -1;
    off_t at = 0;
    while (at < info.st_size)
        if (sendfile(fd, program, &at, (size_t)(info.st_size - at)) <= 0)
            return -1;
    return close(fd);
}

int jail_furnish(const struct jail *jail, int program)
{
    return mount_own(jail) != 0 ? -1 : copy_program(program);
}

static int limit(int what, rlim_t value)
{
    struct rlimit now;
    if (getrlimit((__rlimit_resource_t)what, &now) != 0)
        return -1;
    if (now.rlim_max != RLIM_INFINITY && now.rlim_max < value)
        value = now.rlim_max;
    return setrlimit((__rlimit_resource_t)what, &(struct rlimit){value, value});
}

int jail_limit(const struct jail_job *job, bool kernel)
{
    const rlim_t mib = 1 << 20;
    const struct {
        int what;
        rlim_t value;
    } rows[] = {
        {RLIMIT_CPU, job->cpu_s == 0 ? RLIM_INFINITY : job->cpu_s},
        {RLIMIT_NOFILE, kernel ? 1024 : JAIL_FILES},
        {RLIMIT_NPROC, JAIL_PIDS},
        {RLIMIT_FSIZE, kernel ? RLIM_INFINITY : JAIL_TMP_MIB * mib},
        {RLIMIT_CORE, 0},
        {RLIMIT_MEMLOCK, 0},
        {RLIMIT_MSGQUEUE, 0},
        {RLIMIT_SIGPENDING, 64},
        {RLIMIT_AS, kernel ? RLIM_INFINITY : job->memory_mib * mib}, /* last: ours must fit until exec */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (limit(rows[i].what, rows[i].value) != 0)
            return -1;
    return 0;
}

/* No identity but the slot's, no capability, and no way to gain any. A fresh death signal, because a change of uid
 * takes it away. */
int jail_drop(const struct jail *jail)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    if (!jail->user_namespace && geteuid() == 0 &&
        (setgroups(0, NULL) != 0 || setresgid(jail->uid, jail->uid, jail->uid) != 0 ||
         setresuid(jail->uid, jail->uid, jail->uid) != 0))
        return -1;
    if (syscall(SYS_capset, &header, none) != 0)
        return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_PDEATHSIG, SIGKILL);
}

int jail_take(const struct jail_job *job)
{
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigset_t none;
    setsid(); /* no terminal to type into */
    setpriority(PRIO_PROCESS, 0, JAIL_NICE);
    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &plain, NULL);
    sigemptyset(&none);
    for (int i = 0; i < 3; i++)
        if (dup2(job->streams[i], i) < 0)
            return -1;
    if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) != 0) /* all are marked so already: no mistake may matter here */
        return -1;
    return sigprocmask(SIG_SETMASK, &none, NULL);
}

const char *jail_enter(const struct jail *jail, const struct jail_job *job)
{
    if (jail_take(job) != 0)
        return "take its streams";
    if (jail_furnish(jail, job->program) != 0)
        return "mount /proc and /tmp";
    if (jail_drop(jail) != 0)
        return "give up privileges";
    if (jail_landlock_restrict(jail->landlock) != 0)
        return "set Landlock";
    if (jail_limit(job, false) != 0)
        return "set limits";
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &jail->filter) != 0)
        return "set the seccomp filter";
    execvpe(job->argv[0], (char *const *)job->argv, environment);
    return "start the command";
}
