/* cluster.c - cluster.conf from one table of keys; see cluster.h. */
#include "common/cluster.h"
#include "common/conf.h"
#include "common/limits.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    KEY_LISTEN,
    KEY_CLIENTS,
    KEY_STATE,
    KEY_INSECURE,
    KEY_HEARTBEAT_BUSY,
    KEY_HEARTBEAT_IDLE,
    KEY_LEASE_HEARTBEATS,
    KEY_MAP_MAX_GIB,
    KEY_BATCH,
    KEY_SHORT_SLICE,
    KEY_REDIS,
    KEY_REDIS_PREFIX,
    KEY_REDIS_STREAM_MAX,
    KEY_REDIS_TEXTS,
    KEY_REDIS_VERDICTS,
    KEYS
};

static const struct conf_key keys[] = {
    {.name = "listen",
     .type = CONF_TEXT,
     .max = 255,
     .fallback = "tcp://127.0.0.1:5555",
     .help = "Where workers and verifiers connect: tcp://ADDRESS:PORT or ipc://PATH."},
    {.name = "clients",
     .type = CONF_TEXT,
     .max = 255,
     .fallback = "tcp://127.0.0.1:5556",
     .help = "Where submit, status and the other client commands connect."},
    {.name = "state",
     .type = CONF_TEXT,
     .max = 1023,
     .fallback = "drover-state",
     .help = "Folder of the journal, on a local disk."},
    {.name = "insecure",
     .type = CONF_BOOL,
     .fallback = "false",
     .help = "Allows addresses that other machines reach. Who reaches them can submit work."},
    {.name = "heartbeat_busy",
     .type = CONF_REAL,
     .min = 0.05,
     .max = 60,
     .fallback = "2",
     .unit = "seconds",
     .help = "Time between the heartbeats of an agent that has tasks."},
    {.name = "heartbeat_idle",
     .type = CONF_REAL,
     .min = 0.05,
     .max = 600,
     .fallback = "10",
     .unit = "seconds",
     .help = "Time between the heartbeats of an agent without tasks."},
    {.name = "lease_heartbeats",
     .type = CONF_INT,
     .min = 1,
     .max = 100,
     .fallback = "3",
     .unit = "heartbeats",
     .help = "Heartbeats missed in a row before an agent counts as lost and its tasks reopen."},
    {.name = "map_max_gib",
     .type = CONF_INT,
     .min = 1,
     .max = 65536,
     .fallback = "1024",
     .unit = "GiB",
     .help = "Most that the journal may grow to."},
    {.name = "batch",
     .type = CONF_INT,
     .min = 1,
     .max = 65536,
     .fallback = "1024",
     .unit = "messages",
     .help = "Messages that one commit covers at most."},
    {.name = "short_slice",
     .type = CONF_BOOL,
     .fallback = "true",
     .help = "Asks the kernel for short time slices, so a busy machine delays commits less."},
    {.name = "redis",
     .type = CONF_TEXT,
     .max = 255,
     .fallback = "",
     .help = "A Redis that is told what is committed: tcp://ADDRESS:PORT or ipc://PATH; empty: none."},
    {.name = "redis_prefix",
     .type = CONF_TEXT,
     .max = 64,
     .fallback = "drover",
     .help = "Begins the names of keys in Redis: PREFIX:events and others. One for each state folder."},
    {.name = "redis_stream_max",
     .type = CONF_INT,
     .min = 1,
     .max = 1e9,
     .fallback = "100000",
     .unit = "commits",
     .help = "About so many entries stay in the stream; each is a commit."},
    {.name = "redis_texts",
     .type = CONF_BOOL,
     .fallback = "false",
     .help = "Rollouts come with their text in the stream."},
    {.name = "redis_verdicts",
     .type = CONF_BOOL,
     .fallback = "false",
     .help = "Verifiers share verdicts through Redis: trust whoever can write there, they could forge them."},
    {0},
};

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* PORT of tcp://ADDRESS:PORT, or NULL when the endpoint is malformed; `*` lets the system choose.
 */
static const char *tcp_port(const char *endpoint)
{
    const char *host = endpoint + strlen("tcp://"), *colon = strrchr(host, ':');
    if (colon == NULL || colon == host)
        return NULL;
    const char *port = colon + 1;
    size_t len = strspn(port, "0123456789");
    bool number = len > 0 && len <= 5 && port[len] == '\0';
    unsigned value = 0;
    if (number)
        sscanf(port, "%u", &value);
    return strcmp(port, "*") == 0 || (number && value <= 65535) ? port : NULL;
}

bool endpoint_valid(const char *text)
{
    return starts(text, "tcp://") ? tcp_port(text) != NULL : starts(text, "ipc://") && text[strlen("ipc://")] != '\0';
}

static bool is_local(const char *endpoint)
{
    unsigned a, b, c, d;
    char rest;
    if (!starts(endpoint, "tcp://"))
        return true;
    const char *host = endpoint + strlen("tcp://");
    if (starts(host, "localhost:") || starts(host, "[::1]:"))
        return true;
    return sscanf(host, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &rest) == 5 && rest == ':' && a == 127 && b < 256 &&
           c < 256 && d < 256;
}

static int check_endpoint(const struct conf *tree, const struct conf_value *value, const char *name, bool insecure,
                          struct error *error)
{
    const char *text = value->text;
    if (value->node == NULL)
        return 0;
    if (!endpoint_valid(text))
        return conf_error(tree, value->node->mark, error, ERR_SYNTAX,
                          "'%s' must be tcp://ADDRESS:PORT or ipc://PATH, not '%.100s'", name, text);
    if (!insecure && !is_local(text))
        return conf_error(tree, value->node->mark, error, ERR_REFUSED,
                          "'%s' can be reached from other machines and nothing is encrypted; use "
                          "127.0.0.1, or say `insecure: true` on a network that you trust",
                          name);
    return 0;
}

static void text_put(char *to, size_t size, const char *text)
{
    size_t len = strlen(text);
    assert(len < size); /* the table's max */
    memcpy(to, text, len + 1);
}

static void fill(const struct conf_value v[KEYS], struct cluster_conf *conf)
{
    *conf = (struct cluster_conf){
        .insecure = v[KEY_INSECURE].whole != 0,
        .heartbeat_busy_ms = (uint32_t)lround(v[KEY_HEARTBEAT_BUSY].number * 1e3),
        .heartbeat_idle_ms = (uint32_t)lround(v[KEY_HEARTBEAT_IDLE].number * 1e3),
        .lease_heartbeats = (uint32_t)v[KEY_LEASE_HEARTBEATS].whole,
        .map_max_gib = v[KEY_MAP_MAX_GIB].whole,
        .batch = (uint32_t)v[KEY_BATCH].whole,
        .short_slice = v[KEY_SHORT_SLICE].whole != 0,
        .redis_stream_max = v[KEY_REDIS_STREAM_MAX].whole,
        .redis_texts = v[KEY_REDIS_TEXTS].whole != 0,
        .redis_verdicts = v[KEY_REDIS_VERDICTS].whole != 0,
    };
    text_put(conf->listen, sizeof conf->listen, v[KEY_LISTEN].text);
    text_put(conf->clients, sizeof conf->clients, v[KEY_CLIENTS].text);
    text_put(conf->state, sizeof conf->state, v[KEY_STATE].text);
    text_put(conf->redis, sizeof conf->redis, v[KEY_REDIS].text == NULL ? "" : v[KEY_REDIS].text);
    text_put(conf->redis_prefix, sizeof conf->redis_prefix, v[KEY_REDIS_PREFIX].text);
}

static int check(const struct conf *tree, const struct conf_value v[KEYS], struct error *error)
{
    bool insecure = v[KEY_INSECURE].whole != 0;
    int rc = check_endpoint(tree, &v[KEY_LISTEN], "listen", insecure, error);
    if (rc == 0)
        rc = check_endpoint(tree, &v[KEY_CLIENTS], "clients", insecure, error);
    if (rc == 0 && v[KEY_REDIS].text != NULL && v[KEY_REDIS].text[0] != '\0')
        rc = check_endpoint(tree, &v[KEY_REDIS], "redis", insecure, error);
    if (rc < 0)
        return rc;
    const struct conf_node *either = v[KEY_CLIENTS].node != NULL ? v[KEY_CLIENTS].node : v[KEY_LISTEN].node;
    if (strcmp(v[KEY_LISTEN].text, v[KEY_CLIENTS].text) == 0)
        return conf_error(tree, either->mark, error, ERR_CONFLICT,
                          "'listen' and 'clients' are the same; give each a port of its own");
    if (v[KEY_STATE].text[0] == '\0')
        return conf_error(tree, v[KEY_STATE].node->mark, error, ERR_RANGE, "'state' must name a folder");
    return 0;
}

int cluster_conf_parse(struct slice text, const char *file, struct cluster_conf *conf, struct error *error)
{
    struct conf tree;
    struct conf_value v[KEYS];
    const struct conf_form form = {.what = "cluster configuration", .keys = keys, .values = v};
    *conf = (struct cluster_conf){0};
    int rc = conf_parse(&tree, text, file, error);
    if (rc == 0)
        rc = conf_read(&tree, tree.root, &form, error);
    if (rc == 0)
        rc = check(&tree, v, error);
    if (rc == 0)
        fill(v, conf);
    conf_clear(&tree);
    return rc;
}

void cluster_conf_help(struct buf *out)
{
    conf_print_keys(keys, out);
}

void cluster_conf_example(struct buf *out)
{
    buf_puts(out, "# cluster.conf - settings of one cluster, read by every drover command.\n"
                  "#\n"
                  "# Each value here is the default: keep the lines that you change. `drover help "
                  "cluster.conf` lists the ranges.\n");
    for (const struct conf_key *key = keys; key->name != NULL; key++) {
        buf_printf(out, "\n# %s\n", key->help);
        if (key->unit != NULL)
            buf_printf(out, "# From %.10g to %.10g %s.\n", key->min, key->max, key->unit);
        buf_printf(out, "%s: %s\n", key->name, key->fallback[0] == '\0' ? "\"\"" : key->fallback);
    }
}
