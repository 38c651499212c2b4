/* prior_file.h - counts of passes that a file holds, as people write them and as a submission carries them.
 *
 * A person's file is JSONL: {"prompt": ID, "passes": K, "n": N}, or what `drover results` prints, whose verdicts of one
 * verifier are counted for each prompt and model, but for nodes of trees and rollouts under a kill rule. The client
 * reads it and puts the counts ahead of the prompts, for the broker may be elsewhere: a line that names the file and the
 * verifier, and behind it one for each count. */
#ifndef DROVER_PRIOR_FILE_H
#define DROVER_PRIOR_FILE_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Of the rollouts of one prompt by one model, `passes` of n passed; n > 0. */
struct prior_count {
    char *prompt; /* its id */
    uint32_t passes, n;
};

struct prior_file {
    char *name, *verifier; /* name: as the sweep file writes it */
    struct prior_count *counts;
    uint32_t len, cap;
};

struct prior_files {
    struct prior_file *at;
    uint32_t len;
};

/* Reads text as a person wrote it. path: for messages, "PATH:LINE: sentence". ERR_SYNTAX; ERR_NOT_FOUND: nothing in it is
 * a verdict of that verifier. Lines without one are skipped. */
int prior_file_read(struct slice text, const char *path, const char *name, const char *verifier,
                    struct prior_file *file, struct error *error);
void prior_file_clear(struct prior_file *file);

/* The lines ahead of the prompts. */
void prior_file_put(const struct prior_file *file, struct buf *out);
bool prior_line_is(struct slice line);
bool prior_line_take(struct prior_files *files, struct slice line); /* false: it is damaged */
void prior_files_clear(struct prior_files *files);

/* NULL: there is none. */
const struct prior_file *prior_files_find(const struct prior_files *files, const char *name, const char *verifier);

#endif
