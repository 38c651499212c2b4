/* openai_spec.h - a model of backend `openai` as a sweep file describes it, and what it makes of a job. */
#ifndef DROVER_OPENAI_SPEC_H
#define DROVER_OPENAI_SPEC_H

#include "common/io/agent.h"
#include "worker/dialect.h"
#include "worker/fields.h"

struct openai_spec {
    struct fields *json;  /* owns the texts */
    struct fields *extra; /* NULL: none */
    struct buf extra_json;
    bool chat;
    bool continue_text;            /* never by token ids */
    int stream;                    /* 0: when something can stop early, 1: always, 2: never */
    const struct dialect *dialect; /* NULL: as the server turns out to be */
    struct slice url, model, salt, key_file, key_env, ca_file, step, think_end;
    const char *template, *system;
    struct slice stops[STOPS_MAX - 1];
    size_t stops_len;
    double temperature, top_p, min_p, repetition_penalty;
    uint32_t top_k, tokens_max, per_request;
    int32_t logprobs;
};

/* ERR_SYNTAX, ERR_RANGE, ERR_NOT_FOUND: the error says which key. The spec is to be cleared whatever comes back. */
int openai_spec_read(struct slice json, struct openai_spec *spec, struct error *error);
void openai_spec_clear(struct openai_spec *spec);

/* What is put to the model: a text, or for chat a JSON list of messages, the path included. ERR_SYNTAX: the record does
 * not fit. */
int openai_prompt(const struct openai_spec *spec, const struct job *job, struct buf *out, struct error *error);

/* Whether a server of this dialect can do what spec and job ask for. ERR_REFUSED. */
int openai_possible(const struct openai_spec *spec, const struct job *job, const struct dialect *dialect,
                    struct error *error);

/* Most tokens of this job. */
uint32_t openai_tokens_max(const struct openai_spec *spec, const struct job *job);

/* Whether a path of this job may be continued by token ids, here or later: those of this answer are then asked for. */
bool openai_wants_ids(const struct openai_spec *spec, const struct job *job, const struct dialect *dialect);

/* The whole request; stops: room for STOPS_MAX, lives as long as ask. */
void openai_ask(const struct openai_spec *spec, const struct job *job, struct slice prompt, bool stream,
                struct slice *stops, struct ask *ask);

#endif
