/* join.c - the join file as text; see join.h. */
#include "common/join.h"
#include "common/cluster.h"
#include "common/conf.h"

#include <stdio.h>
#include <string.h>

enum { KEY_AGENTS, KEY_CLIENTS, KEY_EPOCH, KEYS };

static const struct conf_key keys[] = {
    {.name = "agents", .type = CONF_TEXT, .max = 255, .help = "Where workers and verifiers connect."},
    {.name = "clients", .type = CONF_TEXT, .max = 255, .help = "Where submit, status, ... connect."},
    {.name = "epoch", .type = CONF_INT, .min = 0, .max = 1e15, .fallback = "0", .help = "Of the broker that wrote it."},
    {0},
};

static int read_endpoint(const struct conf *tree, const struct conf_value *value, const char *name, char to[256],
                         struct error *error)
{
    size_t len = strlen(value->text);
    if (!endpoint_valid(value->text) || value->text[len - 1] == '*' || join_wildcard(value->text))
        return conf_error(tree, value->node->mark, error, ERR_SYNTAX,
                          "'%s' must be an address to connect to, tcp://HOST:PORT or ipc://PATH, not '%.100s'", name,
                          value->text);
    memcpy(to, value->text, len + 1); /* the table's max */
    return 0;
}

int join_parse(struct slice text, const char *file, struct join *join, struct error *error)
{
    struct conf tree;
    struct conf_value v[KEYS];
    const struct conf_form form = {.what = "join file", .keys = keys, .values = v};
    *join = (struct join){0};
    int rc = conf_parse(&tree, text, file, error);
    if (rc == 0)
        rc = conf_read(&tree, tree.root, &form, error);
    if (rc == 0)
        rc = read_endpoint(&tree, &v[KEY_AGENTS], "agents", join->agents, error);
    if (rc == 0)
        rc = read_endpoint(&tree, &v[KEY_CLIENTS], "clients", join->clients, error);
    if (rc == 0)
        join->epoch = v[KEY_EPOCH].whole;
    conf_clear(&tree);
    return rc;
}

void join_print(const struct join *join, struct buf *out)
{
    buf_printf(out,
               "# Written by drover broker; workers, verifiers and clients read it with --join FILE.\n"
               "agents: %s\nclients: %s\nepoch: %llu\n",
               join->agents, join->clients, (unsigned long long)join->epoch);
}

bool join_wildcard(const char *endpoint)
{
    static const char *const any[] = {"tcp://0.0.0.0:", "tcp://[::]:", "tcp://*:"};
    for (size_t i = 0; i < sizeof any / sizeof any[0]; i++)
        if (strncmp(endpoint, any[i], strlen(any[i])) == 0)
            return true;
    return false;
}

int join_endpoint(const char *endpoint, const char *host, char out[static 256], struct error *error)
{
    const char *port = strrchr(endpoint, ':');
    bool bare = host != NULL && host[0] != '[' && strchr(host, ':') != NULL; /* an IPv6 address */
    int len = host == NULL || strncmp(endpoint, "tcp://", 6) != 0
                  ? snprintf(out, 256, "%s", endpoint)
                  : snprintf(out, 256, "tcp://%s%s%s%s", bare ? "[" : "", host, bare ? "]" : "", port);
    if (len > 255)
        return error_set(error, ERR_LIMIT, "an address of the join file has more than 255 bytes: %.100s", out);
    return 0;
}
