/* jail_wrap.c - the stronger tiers: the same limits and uid, around a sandbox that others wrote.
 *
 * The arguments are the policy (bubblewrap says so itself), so they stand here in one list each. gVisor gets no limit
 * of address space, for it maps far more than its program uses; the cgroup bounds it. */
#include "verifier/slot.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WORDS = 160 };

/* A command line under construction, in the child: static, because nothing else runs there or in the slot meanwhile. */
static const char *words[WORDS + 1];
static size_t words_len;
static char targets[8][256]; /* of symbolic links */

static void add_all(const char *const *more)
{
    while (*more != NULL && words_len < WORDS)
        words[words_len++] = *more++;
    words[words_len] = NULL;
}

#define ADD(...) add_all((const char *const[]){__VA_ARGS__, NULL})

/* The folders of the system: links stay links. */
static void add_folders(void)
{
    struct stat info;
    size_t links = 0;
    for (size_t i = 0; jail_folders[i] != NULL; i++) {
        const char *path = jail_folders[i];
        ssize_t len = -1;
        if (lstat(path, &info) != 0)
            continue;
        if (S_ISLNK(info.st_mode) && links < 8)
            len = readlink(path, targets[links], sizeof targets[0] - 1);
        if (len > 0)
            ADD("--symlink", targets[links++], path);
        else
            ADD("--ro-bind", path, path);
    }
}

/* A file that the command inherits, from its start, and its number as a word. */
static const char *pass(int fd, char *word)
{
    fcntl(fd, F_SETFD, 0);
    lseek(fd, 0, SEEK_SET);
    sprintf(word, "%d", fd);
    return word;
}

static void add_bwrap(const struct jail *jail, const struct jail_job *job)
{
    static char size[24], filter[12], program[12];
    sprintf(size, "%d", JAIL_TMP_MIB << 20);
    ADD("bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534",
        "--hostname", "sandbox", "--die-with-parent", "--new-session", "--clearenv");
    ADD("--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin", "--setenv", "HOME", "/tmp", "--setenv", "TMPDIR", "/tmp",
        "--setenv", "LANG", "C.UTF-8");
    add_folders();
    ADD("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--ro-bind-try", "/etc/alternatives",
        "/etc/alternatives", "--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/tmp", "--chdir", "/tmp",
        "--seccomp", pass(jail->filter_fd, filter));
    if (job->program >= 0)
        ADD("--perms", "0755", "--file", pass(job->program, program), "/tmp/program");
    ADD("--");
}

/* Around it are the native tier's namespaces and root, so it cannot show more of the host than they do. */
static void add_gvisor(void)
{
    ADD("runsc", "--root", "/tmp/.runsc", "--rootless", "--network=none", "--ignore-cgroups", "--platform=ptrace", "do",
        "--quiet", "--cwd", "/tmp", "--");
}

const char *jail_wrap(const struct jail *jail, const struct jail_job *job)
{
    static char *const environment[] = {"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin", "LANG=C.UTF-8", NULL};
    const bool bwrap = jail->tier == TIER_BWRAP;
    words_len = 0; /* the child before this one left its own */
    if (jail_take(job) != 0 || chdir("/") != 0)
        return "take its streams";
    if (!bwrap && jail_furnish(jail, job->program) != 0)
        return "mount /proc and /tmp";
    if (bwrap)
        add_bwrap(jail, job);
    else
        add_gvisor();
    add_all(job->argv);
    if (jail_drop(jail) != 0)
        return "give up privileges";
    if (jail_limit(job, !bwrap) != 0)
        return "set limits";
    execvpe(words[0], (char *const *)words, environment);
    return "start the command";
}
