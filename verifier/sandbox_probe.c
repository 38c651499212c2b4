/* sandbox_probe.c - `verifier --probe`: what this node can do, by doing it. */
#include "verifier/sandbox.h"

#include <stdio.h>
#include <unistd.h>

static void row(struct buf *out, const char *what, bool yes, const char *why)
{
    buf_printf(out, "%-10s %-4s %s\n", what, yes ? "yes" : "no", why);
}

static void put_facts(const struct sandbox_facts *facts, struct buf *out)
{
    char text[200];
    snprintf(text, sizeof text,
             facts->user_namespace ? "programs run as uid %u in a user namespace, like this process"
                                   : "each sandbox has its own, from %u",
             facts->uid);
    row(out, "uid", !facts->user_namespace, text);
    snprintf(text, sizeof text, facts->landlock > 0 ? "ABI %u" : "this kernel has none", facts->landlock);
    row(out, "landlock", facts->landlock > 0, text);
    snprintf(text, sizeof text, "version %u: limits a program's memory and processes together", facts->cgroup);
    row(out, "cgroup", facts->cgroup > 0, facts->cgroup > 0 ? text : facts->cgroup_why);
}

static void try_python(struct sandbox *sandbox, struct buf *out)
{
    static const char *const argv[] = {"python3", "-I", "-S", "-c", "pass", NULL};
    const struct sandbox_job job = {.argv = argv, .cpu_s = 10, .wall_ms = 10000, .memory_mib = 512, .quiet = true};
    struct sandbox_pipes pipes;
    struct sandbox_end end = {.ending = ENDING_BROKEN};
    struct error error;
    char text[240] = "starts in the native sandbox";
    int code = sandbox_start(sandbox, &job, &pipes, &error);
    if (code == 0) {
        code = sandbox_end(sandbox, END_WAIT, &end, &error);
        close(pipes.in);
        close(pipes.out);
    }
    bool good = code == 0 && end.ending == ENDING_EXIT && end.code == 0;
    if (!good)
        snprintf(text, sizeof text, "%.220s", code < 0 ? error.text : end.text[0] != '\0' ? end.text : "it fails");
    row(out, "python3", good, text);
}

void sandbox_probe(struct buf *out)
{
    static const char *const helps[TIERS] = {
#define X(value, name, help) [value] = help,
        TIER_TABLE(X)
#undef X
    };
    struct sandbox_facts native = {0}, facts;
    struct sandbox *sandboxes[TIERS] = {0};
    struct error error;
    for (int tier = 0; tier < TIERS; tier++) {
        int code = sandbox_open((enum tier)tier, &sandboxes[tier], &facts, &error);
        row(out, tier_names[tier], code == 0,
            code == 0                ? helps[tier]
            : facts.error[0] != '\0' ? facts.error
                                     : error.text);
        if (tier == TIER_NATIVE)
            native = facts;
    }
    put_facts(&native, out);
    if (sandboxes[TIER_NATIVE] != NULL)
        try_python(sandboxes[TIER_NATIVE], out);
    for (int tier = 0; tier < TIERS; tier++)
        sandbox_close(&sandboxes[tier]);
}
