/* doc.h - reads the JSON that verifiers are handed: prompt records, their own specs, answers of
 * children.
 *
 * The one file of this folder that includes jansson. Accessors take any document, NULL too, and
 * find nothing in what is not an object; texts they give are borrowed from the document. */
#ifndef DROVER_DOC_H
#define DROVER_DOC_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

struct json_t; /* jansson's */

/* A JSON object; whole numbers beyond 64 bits are read as reals. ERR_SYNTAX. */
int doc_parse(struct slice json, struct json_t **doc, struct error *error);
void doc_free(struct json_t **doc);

/* The object below key; NULL when absent or of another type. */
const struct json_t *doc_object(const struct json_t *doc, const char *key);

/* The text below key; false when absent or of another type. */
bool doc_text(const struct json_t *doc, const char *key, struct slice *text);
bool doc_real(const struct json_t *doc, const char *key, double *value);
bool doc_flag(const struct json_t *doc, const char *key, bool *value);
bool doc_has(const struct json_t *doc, const char *key);

/* Appends a text as it is, a number as a person would write it; false for anything else. */
bool doc_scalar(const struct json_t *doc, const char *key, struct buf *out);

/* Calls `each` for every member that is a text; stops at the first negative return, which it
 * returns. ERR_SYNTAX for a member that is no text. */
int doc_each_text(const struct json_t *doc, int (*each)(void *, const char *key, struct slice text), void *data,
                  struct error *error);

/* Element i of the list below key; false past its end, when it is no text, or holds a NUL. */
bool doc_list_text(const struct json_t *doc, const char *key, size_t i, const char **text);
size_t doc_list_len(const struct json_t *doc, const char *key);

/* Any JSON value, objects and others, as servers answer it. ERR_SYNTAX. */
int doc_parse_any(struct slice json, struct json_t **doc, struct error *error);

/* The value that a path leads to, such as "data.0.score": keys of objects and places in lists. NULL when there is
 * none. */
#define DOC_PATH_MAX 256
const struct json_t *doc_at(const struct json_t *doc, const char *path);
/* ERR_SYNTAX: empty, too long, or with an empty part. */
int doc_path_check(const char *path, struct error *error);

/* The value below a key, of any type; NULL when absent. */
const struct json_t *doc_get(const struct json_t *doc, const char *key);
/* Of a list; 0 and NULL for anything else. */
size_t doc_len(const struct json_t *list);
const struct json_t *doc_item(const struct json_t *list, size_t i);
bool doc_is_list(const struct json_t *value);
bool doc_is_text(const struct json_t *value, struct slice *text);
bool doc_is_number(const struct json_t *value, double *number); /* finite */

/* Keys of an object; 0 for anything else. */
size_t doc_size(const struct json_t *doc);

/* The only key of an object, and what is below it; false for any other number of keys. */
bool doc_single(const struct json_t *doc, const char **key, const struct json_t **value);

/* Appends the JSON of what stands below key, of any type, on one line; null when absent. */
void doc_value(const struct json_t *doc, const char *key, struct buf *out);

/* Length of the list below key; a text there counts as a list of it; 0 for anything else. */
size_t doc_items(const struct json_t *doc, const char *key);

/* The truth value `name` (true, false, 1, 0) of the object that is element i of the list below key. */
bool doc_item_bool(const struct json_t *doc, const char *key, size_t i, const char *name, bool *value);

/* Appends the JSON of doc on one line. */
void doc_write(const struct json_t *doc, struct buf *out);

/* How many levels of specs doc has: 1 without inner specs; counts no further than max + 1. */
int doc_spec_depth(const struct json_t *doc, int max);

/* Options of a spec. An absent or null option leaves *value as it is. ERR_SYNTAX (type), ERR_RANGE.
 */
struct doc_range {
    double min, max;
};
int doc_option_real(const struct json_t *spec, const char *name, struct doc_range range, double *value,
                    struct error *error);
int doc_option_count(const struct json_t *spec, const char *name, struct doc_range range, uint32_t *value,
                     struct error *error);
/* A text without NUL; *text stays as it is when the option is absent or empty. */
int doc_option_text(const struct json_t *spec, const char *name, const char **text, struct error *error);
int doc_option_bool(const struct json_t *spec, const char *name, bool *value, struct error *error);

#endif
