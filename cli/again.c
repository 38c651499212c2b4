/* again.c - see again.h. */
#include "cli/again.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "common/io/log.h"
#include "common/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int begin(struct server *server, void *arg, uint32_t *sweep, struct error *error)
{
    const struct again *again = arg;
    struct buf note = {0};
    int rc = again->make(server, again->what, sweep, &note, error);
    if (rc == 0 && note.len > 0)
        log_line(0, "%s", note.data);
    buf_clear(&note);
    return rc;
}

static int ask_broker(const struct again *again, struct error *error)
{
    struct client *client;
    struct slice name;
    int rc = client_open(again->broker, &client, error);
    if (rc != 0)
        return rc;
    struct msg request = again->request(again->what);
    rc = client_ask(client, &request, &name, error);
    if (rc == 0)
        printf(again->local.json ? "{\"sweep\":\"%.*s\"}\n" : "%.*s\n", (int)name.len, name.data);
    client_close(&client);
    return rc;
}

static int serve_here(struct again *again)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    again->local.threads = 1;
    again->local.verifier_threads = cores < 1 ? 1 : (uint32_t)cores + 1; /* it may be programs that are run */
    again->local.begin = begin;
    again->local.arg = again;
    return run_local(&again->local);
}

/* A name that is misspelt makes no new state folder. */
static int there_is_a_journal(struct again *again, struct error *error)
{
    struct journal *journal;
    if (again->local.state == NULL)
        again->local.state = "drover-state";
    int rc = journal_open(again->local.state, &(struct journal_options){.read_only = true}, &journal, error);
    if (rc == 0)
        journal_close(&journal);
    return rc;
}

int again_run(struct again *again)
{
    struct error error = {""};
    char *yaml = NULL;
    size_t len = 0;
    int rc = one_place(again->local.state, &(struct broker_choice){.broker = again->broker}, &error), code = EXIT_OK;
    if (rc == 0 && again->broker == NULL)
        rc = there_is_a_journal(again, &error);
    if (rc == 0 && again->file != NULL)
        rc = file_read(again->file, LIMIT_SWEEP_FILE, &yaml, &len, &error);
    *again->yaml = (struct slice){yaml, len};
    if (rc != 0) {
        complain(again->local.command, rc, &error);
        code = EXIT_INPUT;
    } else if (again->broker == NULL) {
        code = serve_here(again);
    } else if ((rc = ask_broker(again, &error)) != 0) {
        code = complain(again->local.command, rc, &error);
    }
    free(yaml);
    return code;
}
