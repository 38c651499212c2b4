/* archive.h - recorded rollouts as what a sweep can be defined over, and the answers to its tasks.
 *
 * Two sources: a file of rollouts that anybody recorded, and a sweep of a journal. What generated and what judged is
 * not there any more; names, prices and limits are, as far as the source knows them. */
#ifndef DROVER_ARCHIVE_H
#define DROVER_ARCHIVE_H

#include "broker/core/read.h"
#include "broker/journal.h"
#include "broker/sweep_file.h"
#include "common/answer.h"
#include "worker/recording.h"

struct archive_prompt {
    char *id, *group;
    struct buf record; /* a line of JSON */
    uint32_t bytes, attached;
};

struct archive_model {
    char name[65];
    struct slice key; /* its name in the recording: may be empty */
    bool has_answer;
    uint32_t max_tokens, template_tokens, timeout_ms;
    uint64_t price_in, price_out;
};

struct archive_verifier {
    char name[65];
    int index; /* of the recording's verifiers; FEATURE: the column of that feature */
    enum feature feature;
    bool group;
    uint32_t timeout_ms;
    uint64_t price;
};

/* What belongs to one rollout of the recording, in its order. */
struct archive_row {
    uint64_t class;
    struct ref ref; /* once texts were put */
};

/* Rollouts of one prompt and model. */
struct archive_stock {
    const struct recorded *first;
    size_t len;
};

struct archive {
    struct recording *recording;
    struct archive_prompt *prompts;
    struct archive_model *models;
    struct archive_verifier *verifiers;
    uint32_t prompts_len, models_len, verifiers_len;
    struct archive_stock *stocks; /* [model * prompts_len + prompt] */
    struct archive_row *rows;
    struct sweep_arm *believers; /* arms of the sweep that have a prior: names and beliefs */
    uint32_t believers_len;
    char *name, *group_by, *truth; /* truth: NULL: none */
    uint64_t seed, digest;
    bool timed;       /* some rollout has a latency */
    bool unanswered;  /* of a file: its rollouts have texts, and none has an answer, or one that was found */
    size_t strangers; /* of a file: rollouts of prompts that the prompt file does not have, so no arm gets them */
};

struct archive_options {
    struct recording_options recording;
    const char *prompts;        /* prompt file with the ids of the data, or NULL: prompts are what the data names */
    const char *group_by;       /* key of its meta, or NULL */
    struct extractor extractor; /* for data without answers */
};

/* The errors of recording_load and prompt_set_parse; ERR_LIMIT: more models than a sweep may have; ERR_NOT_FOUND: no
 * rollout is of a prompt of the prompt file. archive_clear is due after failure, too. */
int archive_of_file(const char *path, const struct archive_options *options, struct archive *archive,
                    struct error *error);
/* The sampled rollouts that arms of a sweep were delivered, and their verdicts. core: of the journal, settled. */
int archive_of_sweep(const struct core *core, struct journal *journal, uint32_t sweep, struct archive *archive,
                     struct error *error);
void archive_clear(struct archive *archive);

/* Arms of a file over the archive's models and verifiers; see sweep_arms_parse. truth: NULL: as file or archive say.
 * Their indices of verifiers, and that of the truth, become those of the archive. ERR_NOT_FOUND: no verdicts of a
 * verifier. */
int archive_arms(const struct archive *archive, struct slice text, const char *file, const char *truth,
                 struct sweep_spec *spec, struct buf *trees, struct error *error);

/* Appends all texts, as commit `commit` will hold them behind `texts`: prompts and rollouts then have places there. */
void archive_texts(struct archive *archive, uint64_t commit, struct buf *texts, struct ref **prompts);

/* Definitions of a sweep with these arms, as EVENT_SUBMIT takes them into an empty core: ids of models, verifiers and
 * prompts are then the indices here. prompts: where their records stand, NULL: nowhere. */
void archive_definitions(const struct archive *archive, const char *name, const struct sweep_spec *spec,
                         uint32_t arm_first, uint32_t arms_len, const struct ref *prompts, struct buf *definitions);

/* Answers a task as the recording says: false: it holds no such verdict, and the answer is unknown. */
bool archive_answer(const struct archive *archive, const struct send *task, struct event *event);

#endif
