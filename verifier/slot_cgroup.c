/* slot_cgroup.c - a slot's limits on memory and processes, where this process may make cgroups.
 *
 * rlimits count per process or per uid; only a cgroup bounds what all processes of a program take together, files in
 * /tmp included. Version 1, 2 and both at once are found in the wild; each controller is looked for where it is. A slot
 * is named after its launcher, and an empty one of a launcher that was killed is removed by the next. */
#include "verifier/jail.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX   "drover-"
#define SLOT_MIB 16 /* what the slot's own process may need besides */

/* The folder of a controller's cgroup that this process is in; version 0 when there is none. */
static int own_folder(const char *controller, char *path, size_t size)
{
    char line[512], unified[256] = "";
    int version = 0;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file != NULL && version == 0 && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *names = strchr(line, ':'), *where = names == NULL ? NULL : strchr(names + 1, ':');
        if (where == NULL)
            continue;
        *where++ = '\0';
        if (strcmp(names + 1, controller) == 0) {
            snprintf(path, size, "/sys/fs/cgroup/%s%.200s", controller, where);
            version = 1;
        } else if (names[1] == '\0') {
            snprintf(unified, sizeof unified, "%.200s", where);
        }
    }
    if (file != NULL)
        fclose(file);
    if (version == 0 && unified[0] != '\0' && access("/sys/fs/cgroup/cgroup.controllers", R_OK) == 0) {
        snprintf(path, size, "/sys/fs/cgroup%.200s", unified);
        version = 2;
    }
    return version;
}

static int put(const char *folder, const char *file, const char *text)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t written = write(fd, text, strlen(text));
    close(fd);
    return written < 0 ? -1 : 0;
}

static bool has(const char *folder, const char *file)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return access(path, W_OK) == 0;
}

/* Removes what a killed launcher left: rmdir refuses a cgroup that is in use. */
static void sweep_old(const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        bool ours = strncmp(entry->d_name, PREFIX, strlen(PREFIX)) == 0;
        int launcher = ours ? atoi(entry->d_name + strlen(PREFIX)) : 0;
        if (launcher > 0 && kill(launcher, 0) != 0 && errno == ESRCH)
            unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
    }
    if (dir != NULL)
        closedir(dir);
}

static bool make_one(struct slot_cgroup *cgroup, const char *controller, const char *file, const char *name, char *path,
                     size_t size)
{
    char own[260];
    cgroup->version = own_folder(controller, own, sizeof own);
    if (cgroup->version == 0) {
        snprintf(cgroup->why, sizeof cgroup->why, "no %s controller is mounted in /sys/fs/cgroup", controller);
        return false;
    }
    sweep_old(own);
    if (cgroup->version == 2)
        put(own, "cgroup.subtree_control", "+pids +memory"); /* may fail: the file below tells */
    snprintf(path, size, "%s/%s", own, name);
    if (mkdir(path, 0755) != 0 && errno != EEXIST) {
        snprintf(cgroup->why, sizeof cgroup->why, "cannot make a cgroup in %.90s: %s", own, strerror(errno));
        return false;
    }
    if (has(path, file))
        return true;
    snprintf(cgroup->why, sizeof cgroup->why, "the %s controller is not delegated to %.80s", controller, own);
    return false;
}

void slot_cgroup_make(struct slot_cgroup *cgroup, int launcher, unsigned slot, unsigned pids_max)
{
    char name[48], text[24];
    *cgroup = (struct slot_cgroup){.limit = -1, .events = -1};
    snprintf(name, sizeof name, PREFIX "%d-%u", launcher, slot);
    snprintf(text, sizeof text, "%u", pids_max + 1); /* the slot's own process is in it too */
    bool made = make_one(cgroup, "pids", "pids.max", name, cgroup->pids, sizeof cgroup->pids) &&
                make_one(cgroup, "memory", "cgroup.procs", name, cgroup->memory, sizeof cgroup->memory) &&
                has(cgroup->memory, cgroup->version == 1 ? "memory.limit_in_bytes" : "memory.max");
    if (made && put(cgroup->pids, "pids.max", text) == 0)
        return;
    if (cgroup->why[0] == '\0')
        snprintf(cgroup->why, sizeof cgroup->why, "the memory controller is not delegated");
    slot_cgroup_remove(cgroup);
    cgroup->version = 0;
}

static int open_in(const char *folder, const char *file, int flags)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return open(path, flags | O_CLOEXEC);
}

bool slot_cgroup_enter(struct slot_cgroup *cgroup)
{
    bool two = cgroup->version == 2;
    if (cgroup->version == 0)
        return true;
    if (put(cgroup->pids, "cgroup.procs", "0") != 0 || put(cgroup->memory, "cgroup.procs", "0") != 0)
        return false;
    if (two)
        put(cgroup->memory, "memory.swap.max", "0"); /* absent without swap */
    cgroup->limit = open_in(cgroup->memory, two ? "memory.max" : "memory.limit_in_bytes", O_WRONLY);
    cgroup->events = open_in(cgroup->memory, two ? "memory.events" : "memory.oom_control", O_RDONLY);
    return cgroup->limit >= 0 && cgroup->events >= 0;
}

bool slot_cgroup_limit(struct slot_cgroup *cgroup, uint32_t memory_mib)
{
    char text[32];
    if (cgroup->version == 0 || cgroup->limit_mib == memory_mib)
        return true;
    int len = snprintf(text, sizeof text, "%llu", ((unsigned long long)memory_mib + SLOT_MIB) << 20);
    if (write(cgroup->limit, text, (size_t)len) < 0)
        return false;
    cgroup->limit_mib = memory_mib;
    return true;
}

uint64_t slot_cgroup_kills(const struct slot_cgroup *cgroup)
{
    char text[512];
    ssize_t len = cgroup->version == 0 ? 0 : pread(cgroup->events, text, sizeof text - 1, 0);
    text[len > 0 ? len : 0] = '\0';
    const char *at = strstr(text, "oom_kill ");
    return at == NULL ? 0 : strtoull(at + 9, NULL, 10);
}

void slot_cgroup_remove(struct slot_cgroup *cgroup)
{
    if (cgroup->pids[0] != '\0')
        rmdir(cgroup->pids);
    if (cgroup->memory[0] != '\0')
        rmdir(cgroup->memory);
}
