/* client.h - one connection of a client command to a broker: requests and replies, one at a time. */
#ifndef DROVER_CLIENT_H
#define DROVER_CLIENT_H

#include "common/err.h"
#include "common/msg.h"

#include <argp.h>

struct client;

/* --broker, --join, --conf; all but one may be NULL. */
struct broker_choice {
    const char *broker, *join, *conf;
};

/* What commands that read have in common: from where, and how it is printed. */
struct reading {
    const char *state; /* folder; NULL: as cluster.conf or a broker says */
    struct broker_choice choice;
    bool json;
};

/* Its options, as children of a command's own: --state, --broker, --join, --conf, --json; without the first for commands
 * that only a broker answers. The input of the child is a struct reading. */
extern const struct argp_child reading_children[], asking_children[];

/* Where the broker's clients connect: what --broker says, or --join (waiting 3 s for the file), or else the cluster.conf
 * conf, read as read_cluster_conf does. */
int client_find(const struct broker_choice *choice, char endpoint[static 256], struct error *error);

/* ERR_SYNTAX when both a state folder (NULL: none) and a broker are named. */
int one_place(const char *state, const struct broker_choice *choice, struct error *error);

/* ERR_CLOSED later, when nobody answers: connecting itself cannot fail. */
int client_open(const char *endpoint, struct client **client, struct error *error);
void client_close(struct client **client);

/* From now on so long for an answer. */
void client_patience(struct client *client, int64_t answer_ms);

/* Sends one request and waits for its reply: 3 s for a connection, 10 s for the answer (ERR_TIMEOUT). *text borrows from the client until the next
 * call. A negative code of the broker is returned with its sentence in error. */
int client_ask(struct client *client, const struct msg *request, struct slice *text, struct error *error);

/* One commit of the broker's journal; ERR_NOT_FOUND behind the last. */
int client_fetch(struct client *client, uint64_t commit, struct buf *facts, struct buf *texts, struct error *error);

#endif
