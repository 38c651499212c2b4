/* client.c - drover submit, status, workers, pause, resume, cancel, drain: requests to a broker. */
#include "cli/client.h"
#include "cli/cli.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/io/clock.h"
#include "common/io/join_file.h"
#include "common/io/log.h"
#include "common/io/net.h"
#include "common/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_MS = 3000, ANSWER_MS = 10000, OPTION_DRY_RUN = 1000 };

struct client {
    struct port *port;
    char endpoint[256];
    int64_t answer_ms;
    struct buf reply;
};

int one_place(const char *state, const struct broker_choice *choice, struct error *error)
{
    const char *other = choice->broker != NULL ? "--broker" : "--join";
    if (state == NULL || (choice->broker == NULL && choice->join == NULL))
        return 0;
    return error_set(error, ERR_SYNTAX,
                     "--state reads the folder on this machine, and %s asks a broker, which has its own: give one",
                     other);
}

int client_find(const struct broker_choice *choice, char endpoint[static 256], struct error *error)
{
    struct cluster_conf conf;
    struct join join;
    if (choice->broker != NULL && choice->join != NULL)
        return error_set(error, ERR_SYNTAX, "--broker and --join both say where the broker is: give one");
    int rc = choice->join != NULL ? join_file_wait(choice->join, CONNECT_MS, &join, error)
                                  : read_cluster_conf(choice->conf, &conf, error);
    if (rc == 0)
        snprintf(endpoint, 256, "%s",
                 choice->join != NULL     ? join.clients
                 : choice->broker != NULL ? choice->broker
                                          : conf.clients);
    return rc;
}

int client_open(const char *endpoint, struct client **client, struct error *error)
{
    *client = xalloc(sizeof **client);
    snprintf((*client)->endpoint, sizeof(*client)->endpoint, "%s", endpoint);
    (*client)->answer_ms = ANSWER_MS;
    int rc = port_dealer(endpoint, 64, &(*client)->port, error);
    if (rc != 0)
        client_close(client);
    return rc;
}

void client_close(struct client **client)
{
    if (*client == NULL)
        return;
    port_close(&(*client)->port, 0);
    buf_clear(&(*client)->reply);
    free(*client);
    *client = NULL;
}

void client_patience(struct client *client, int64_t answer_ms)
{
    client->answer_ms = answer_ms;
}

static int no_answer(const struct client *client, struct error *error)
{
    return error_set(
        error, ERR_TIMEOUT,
        "no broker answers at %s: is it running, and is the address right (--broker)? A `drover run` has none: "
        "read its state folder with `drover report --state DIR`",
        client->endpoint);
}

static int send_request(struct client *client, const struct msg *request, int64_t until, struct error *error)
{
    struct buf frame = {0};
    msg_put(&frame, request);
    int rc;
    while ((rc = port_send(client->port, (struct slice){0}, buf_slice(&frame))) == ERR_LIMIT && clock_ms() < until) {
        port_wait(&client->port, 1, NULL, 0, 20); /* wakes when it is connected */
        port_connected(client->port);
    }
    buf_clear(&frame);
    return rc == 0 ? 0 : no_answer(client, error);
}

static int ask(struct client *client, const struct msg *request, struct msg *reply, struct error *error)
{
    int rc = send_request(client, request, clock_ms() + CONNECT_MS, error);
    int64_t until = clock_ms() + client->answer_ms;
    if (rc != 0)
        return rc;
    struct slice peer, frame;
    while ((rc = port_recv(client->port, &peer, &frame)) == ERR_NOT_FOUND) {
        int64_t left = until - clock_ms();
        if (left <= 0)
            return no_answer(client, error);
        port_wait(&client->port, 1, NULL, 0, left);
        port_connected(client->port);
    }
    size_t offset = 0;
    buf_reset(&client->reply);
    buf_put(&client->reply, frame.data, frame.len);
    if (rc != 0 || !record_frame_valid(buf_slice(&client->reply)) ||
        msg_get(buf_slice(&client->reply), &offset, reply) != 0)
        return error_set(error, ERR_PROTOCOL, "what answers at %s is no drover broker of this version",
                         client->endpoint);
    if (reply->type == MSG_epoch) /* so begins what agents are told */
        return error_set(error, ERR_PROTOCOL,
                         "%s is where the broker's workers and verifiers connect (`listen` of its cluster.conf): give "
                         "the address for clients (`clients`)",
                         client->endpoint);
    return 0;
}

int client_ask(struct client *client, const struct msg *request, struct slice *text, struct error *error)
{
    struct msg reply;
    int rc = ask(client, request, &reply, error);
    if (rc != 0)
        return rc;
    if (reply.type != MSG_reply)
        return error_set(error, ERR_PROTOCOL, "the broker gave an answer that was not asked for");
    *text = reply.reply.text;
    if (reply.reply.note.len > 0)
        log_line(0, "%.*s", (int)(reply.reply.note.len < 1000 ? reply.reply.note.len : 1000), reply.reply.note.data);
    if (reply.reply.code != 0)
        return error_set(error, (int)reply.reply.code, "%.*s", (int)(text->len < 500 ? text->len : 500), text->data);
    return 0;
}

int client_fetch(struct client *client, uint64_t commit, struct buf *facts, struct buf *texts, struct error *error)
{
    struct msg reply;
    uint64_t at = 0;
    buf_reset(facts);
    buf_reset(texts);
    do {
        int rc = ask(client, &(struct msg){.type = MSG_fetch, .fetch = {commit, at}}, &reply, error);
        if (rc != 0)
            return rc;
        const struct msg_commit *page = &reply.commit;
        if (reply.type == MSG_reply)
            return error_set(error, (int)reply.reply.code, "%.*s",
                             (int)(reply.reply.text.len < 500 ? reply.reply.text.len : 500), reply.reply.text.data);
        if (reply.type != MSG_commit || page->number != commit || page->offset != at ||
            (page->data.len == 0 && at < page->size) || page->data.len > page->size - at)
            return error_set(error, ERR_PROTOCOL, "the broker gave an answer that was not asked for");
        buf_put(at < page->facts_len ? facts : texts, page->data.data, page->data.len);
        at += page->data.len;
    } while (at < reply.commit.size);
    return 0;
}

/* -- commands ------------------------------------------------------------------------------------------------------- */

struct client_args {
    struct reading reading;
    const char *subject, *wanted; /* wanted: what is said when the subject is missing; NULL: it may be */
    const char *overrides[256];
    size_t overrides_len;
    bool dry_run, submits, takes_subject;
};

static const struct argp_option submit_options[] = {
    {"dry-run", OPTION_DRY_RUN, NULL, 0,
     "print what the sweep may cost at most; nothing is submitted. A broker that is named is asked whether it would take it",
     0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct client_args *args = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &args->reading;
        return 0;
    case OPTION_DRY_RUN:
        args->dry_run = true;
        return 0;
    case ARGP_KEY_ARG:
        if (args->subject == NULL && args->takes_subject)
            args->subject = arg;
        else if (args->submits && strchr(arg, '\n') != NULL) /* they travel as lines */
            argp_error(state, "an override cannot hold a line break: change the sweep file instead");
        else if (args->submits && strchr(arg, '=') != NULL && args->overrides_len < 256)
            args->overrides[args->overrides_len++] = arg;
        else
            surplus(state, arg);
        return 0;
    case ARGP_KEY_END:
        if (args->subject == NULL && args->wanted != NULL)
            argp_error(state, "%s", args->wanted);
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static int connect_broker(const struct client_args *args, struct client **client, struct error *error)
{
    char endpoint[256];
    int rc = client_find(&args->reading.choice, endpoint, error);
    return rc != 0 ? rc : client_open(endpoint, client, error);
}

static int upload(struct client *client, const struct sweep_input *input, uint64_t digest, struct error *error)
{
    struct slice text;
    size_t at = 0;
    int rc;
    do {
        size_t len = input->prompts_len - at < LIMIT_CHUNK ? input->prompts_len - at : LIMIT_CHUNK;
        rc = client_ask(
            client,
            &(struct msg){.type = MSG_chunk, .chunk = {digest, at, input->prompts_len, {input->prompts + at, len}}},
            &text, error);
        at += len;
    } while (rc == 0 && at < input->prompts_len);
    return rc;
}

/* Hands it over; under --dry-run the broker only says whether it would take it. */
static int submit(const struct client_args *args, const struct sweep_input *input, struct error *error)
{
    struct client *client;
    struct slice name;
    struct buf overrides = {0};
    uint64_t digest = hash_bytes(input->prompts, input->prompts_len);
    int rc = connect_broker(args, &client, error);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < args->overrides_len; i++)
        buf_printf(&overrides, "%s\n", args->overrides[i]);
    rc = upload(client, input, digest, error);
    const struct slice file = slice_of(args->subject), yaml = {input->yaml, input->yaml_len},
                       prompts_file = slice_of(input->prompts_path);
    struct msg request = {.type = MSG_submit, .submit = {digest, file, yaml, buf_slice(&overrides), prompts_file}};
    if (args->dry_run)
        request =
            (struct msg){.type = MSG_examine, .examine = {digest, file, yaml, buf_slice(&overrides), prompts_file}};
    /* It reads all prompts before it answers: a second for each megabyte is far more than that takes. */
    client_patience(client, ANSWER_MS + (int64_t)(input->prompts_len / 1000));
    if (rc == 0)
        rc = client_ask(client, &request, &name, error);
    if (rc == 0 && !args->dry_run)
        printf(args->reading.json ? "{\"sweep\":\"%.*s\"}\n" : "%.*s\n", (int)name.len, name.data);
    buf_clear(&overrides);
    client_close(&client);
    return rc;
}

int cmd_submit(int argc, char **argv)
{
    const struct argp argp = {submit_options,
                              parse,
                              "SWEEP.yaml [key=value ...]",
                              "Hand a sweep and its prompts to a broker; prints its name.",
                              asking_children,
                              0,
                              0};
    struct client_args args = {.submits = true, .takes_subject = true, .wanted = "which sweep? give its file"};
    struct sweep_input input;
    struct error error = {""};
    parse_args("submit", &argp, argc, argv, &args);
    int rc = sweep_input_read(args.subject, args.overrides, args.overrides_len, &input, &error);
    if (rc == 0) {
        const struct broker_choice *choice = &args.reading.choice;
        bool asked = choice->broker != NULL || choice->join != NULL || choice->conf != NULL;
        if (!args.dry_run || asked)
            rc = submit(&args, &input, &error);
        if (rc == 0 && args.dry_run)
            rc = print_dry_run(&input, NULL, args.reading.json, &error);
        if (rc == 0 && args.dry_run && !asked)
            fputs("drover submit: no broker was asked (--broker, --join): whether its workers can serve this was not "
                  "checked\n",
                  stderr);
        sweep_input_clear(&input);
    }
    return rc == 0 ? EXIT_OK : complain("submit", rc, &error);
}

static void word_json(const char *subject, struct slice word, struct buf *json)
{
    json_begin(json, '{');
    json_key(json, "name");
    json_str(json, subject);
    json_key(json, "state");
    json_text(json, word);
    json_end(json, '}');
    buf_puts(json, "\n");
}

/* One request, whose reply is printed as it is; a reply of one word behind the name of its subject. */
static int request_command(const char *name, const char *args_doc, const char *doc, struct client_args *args, int argc,
                           char **argv, void (*fill)(const struct client_args *, struct msg *))
{
    const struct argp argp = {NULL, parse, args_doc, doc, asking_children, 0, 0};
    struct client *client = NULL;
    struct error error = {""};
    struct buf out = {0};
    struct msg request;
    struct slice text;
    parse_args(name, &argp, argc, argv, args);
    fill(args, &request);
    bool named = request.type == MSG_control || request.type == MSG_drain_agent;
    int rc = connect_broker(args, &client, &error);
    if (rc == 0)
        rc = client_ask(client, &request, &text, &error);
    if (rc == 0 && args->reading.json && (text.len == 0 || text.data[0] != '{')) /* one word about the subject */
        word_json(args->subject, text, &out);
    else if (rc == 0 && text.len > 0)
        buf_printf(&out, "%s%s%.*s\n", named ? args->subject : "", named ? ": " : "", (int)text.len, text.data);
    if (rc == 0)
        rc = put_stdout(buf_slice(&out), &error);
    buf_clear(&out);
    client_close(&client);
    return rc == 0 ? EXIT_OK : complain(name, rc, &error);
}

static void fill_status(const struct client_args *args, struct msg *msg)
{
    *msg = (struct msg){.type = MSG_status};
    msg->status.json = args->reading.json;
    if (args->subject != NULL)
        msg->status.sweep = slice_of(args->subject);
}

int cmd_status(int argc, char **argv)
{
    return request_command("status", "[SWEEP]", "What sweeps have done, have spent, and wait for.",
                           &(struct client_args){.takes_subject = true}, argc, argv, fill_status);
}

static void fill_workers(const struct client_args *args, struct msg *msg)
{
    *msg = (struct msg){.type = MSG_workers, .workers = {.json = args->reading.json}};
}

int cmd_workers(int argc, char **argv)
{
    return request_command("workers", "", "Workers and verifiers that are connected.", &(struct client_args){0}, argc,
                           argv, fill_workers);
}

static void fill_control(const struct client_args *args, struct msg *msg, enum sweep_state state)
{
    *msg = (struct msg){.type = MSG_control, .control = {slice_of(args->subject), (uint8_t)state}};
}

static void fill_pause(const struct client_args *args, struct msg *msg)
{
    fill_control(args, msg, SWEEP_PAUSED);
}

static void fill_resume(const struct client_args *args, struct msg *msg)
{
    fill_control(args, msg, SWEEP_RUNNING);
}

static void fill_cancel(const struct client_args *args, struct msg *msg)
{
    fill_control(args, msg, SWEEP_CANCELLED);
}

static void fill_drain(const struct client_args *args, struct msg *msg)
{
    *msg = (struct msg){.type = MSG_drain_agent, .drain_agent = {slice_of(args->subject)}};
}

#define SUBJECT(question)                           \
    &(struct client_args)                           \
    {                                               \
        .takes_subject = true, .wanted = (question) \
    }

int cmd_pause(int argc, char **argv)
{
    return request_command("pause", "SWEEP", "Grant no more tasks of a sweep; what is in flight finishes.",
                           SUBJECT("which sweep? give its name"), argc, argv, fill_pause);
}

int cmd_resume(int argc, char **argv)
{
    return request_command("resume", "SWEEP", "Go on with a paused, faulty or cancelled sweep.",
                           SUBJECT("which sweep? give its name"), argc, argv, fill_resume);
}

int cmd_cancel(int argc, char **argv)
{
    return request_command("cancel", "SWEEP", "Stop a sweep and what of it is in flight. Results stay.",
                           SUBJECT("which sweep? give its name"), argc, argv, fill_cancel);
}

int cmd_drain(int argc, char **argv)
{
    return request_command("drain", "NAME", "Have a worker or verifier give back its tasks and leave.",
                           SUBJECT("which worker or verifier? give its name"), argc, argv, fill_drain);
}
