/* jail_landlock.c - a second lock on files, the network and other processes, which needs no privilege.
 *
 * The root of a sandbox is read-only and holds nothing secret; should a mount go wrong, this stands behind it. Debian's
 * headers know the first version only, so the constants of later ones are here; an older kernel is asked for less. */
#include "verifier/jail.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ACCESS_EXECUTE    (1ull << 0)
#define ACCESS_WRITE_FILE (1ull << 1)
#define ACCESS_READ_FILE  (1ull << 2)
#define ACCESS_READ_DIR   (1ull << 3)
#define ACCESS_FILES_1    ((1ull << 13) - 1) /* ABI 1 */
#define ACCESS_REFER      (1ull << 13)       /* ABI 2 */
#define ACCESS_TRUNCATE   (1ull << 14)       /* ABI 3 */
#define ACCESS_TCP        3ull               /* ABI 4: bind, connect */
#define ACCESS_IOCTL_DEV  (1ull << 15)       /* ABI 5 */
#define SCOPE_ALL         3ull               /* ABI 6: abstract Unix sockets, signals */

#define CREATE_VERSION 1u
#define RULE_PATH      1

struct ruleset {
    uint64_t files, network, scope;
};

struct path_rule {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

int jail_landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);
    return abi > 0 ? (int)abi : 0;
}

static uint64_t files_of(int abi)
{
    return ACCESS_FILES_1 | (abi >= 2 ? ACCESS_REFER : 0) | (abi >= 3 ? ACCESS_TRUNCATE : 0) |
           (abi >= 5 ? ACCESS_IOCTL_DEV : 0);
}

static int allow(int rules, const char *path, uint64_t access)
{
    struct path_rule rule = {.allowed = access, .parent = open(path, O_PATH | O_CLOEXEC)};
    if (rule.parent < 0)
        return -1;
    long rc = syscall(SYS_landlock_add_rule, rules, RULE_PATH, &rule, 0);
    close(rule.parent);
    return (int)rc;
}

int jail_landlock_restrict(int abi)
{
    if (abi == 0)
        return 0;
    const uint64_t files = files_of(abi);
    struct ruleset ruleset = {files, abi >= 4 ? ACCESS_TCP : 0, abi >= 6 ? SCOPE_ALL : 0};
    size_t size = abi >= 6 ? sizeof ruleset : abi >= 4 ? 16 : 8;
    int rules = (int)syscall(SYS_landlock_create_ruleset, &ruleset, size, 0);
    if (rules < 0)
        return -1;
    int rc = allow(rules, "/", ACCESS_EXECUTE | ACCESS_READ_FILE | ACCESS_READ_DIR);
    if (rc == 0)
        rc = allow(rules, "/dev", ACCESS_WRITE_FILE | ACCESS_READ_FILE | ACCESS_READ_DIR);
    if (rc == 0)
        rc = allow(rules, "/tmp", files & ~ACCESS_IOCTL_DEV);
    if (rc == 0)
        rc = (int)syscall(SYS_landlock_restrict_self, rules, 0);
    close(rules);
    return rc;
}
