/* fields.h - typed reading of small JSON objects: specs, prompt records, lines of programs and
 * recordings.
 *
 * A key that is absent or null gives the fallback; one of another type is an error that names the
 * key. */
#ifndef DROVER_FIELDS_H
#define DROVER_FIELDS_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fields; /* one JSON object */

/* ERR_SYNTAX: not one JSON object; the error says where. Depth and numbers are limited by the
 * parser. */
int fields_parse(struct slice json, struct fields **fields, struct error *error);
void fields_free(struct fields **fields);

/* The object under key, borrowed; NULL when there is none. Every function here takes NULL for an
 * empty object. */
const struct fields *fields_object(const struct fields *fields, const char *key);

bool fields_have(const struct fields *fields, const char *key); /* and not null */
bool fields_null(const struct fields *fields, const char *key); /* there, and null */

/* The value under key as text: strings as they are, numbers and booleans as JSON writes them. False
 * when absent or null. ERR_SYNTAX never: lists and objects count as absent. */
bool fields_text(const struct fields *fields, const char *key, struct buf *out);

/* A string under key, borrowed. *text is left alone when absent. */
int fields_string(const struct fields *fields, const char *key, struct slice *text, struct error *error);

/* *value is left alone when absent. ERR_RANGE outside [min, max]. */
int fields_real(const struct fields *fields, const char *key, double min, double max, double *value,
                struct error *error);
int fields_count(const struct fields *fields, const char *key, uint64_t max, uint64_t *value, struct error *error);

/* A list of strings: NULL-terminated array to free, strings borrowed; *list is NULL when absent,
 * ERR_SYNTAX when empty or anything else. */
int fields_list(const struct fields *fields, const char *key, const char ***list, struct error *error);

/* Objects of the list under key: how many elements it has, and the one at i; NULL for an element of another type. */
size_t fields_len(const struct fields *fields, const char *key);
const struct fields *fields_item(const struct fields *fields, const char *key, size_t i);

/* Appends the value under key, of any type, as JSON on one line. False when absent or null. */
bool fields_json(const struct fields *fields, const char *key, struct buf *out);
/* Length of the list under key; a text there counts as a list of it; 0 when absent or anything else. */
size_t fields_texts(const struct fields *fields, const char *key);

/* Element i of that list: a text is appended to out, of an object its text `text`; *object is the object, borrowed, or
 * NULL. False for anything else. */
bool fields_text_at(const struct fields *fields, const char *key, size_t i, struct buf *out,
                    const struct fields **object);

/* Appends the object as JSON on one line. */
void fields_write(const struct fields *fields, struct buf *out);

/* A key that both objects have; NULL: none. */
const char *fields_common_key(const struct fields *a, const struct fields *b);

/* Key i, in the order of the text; NULL behind the last one. */
const char *fields_key(const struct fields *fields, size_t i);

/* Appends "a, b, c": the keys, for messages. */
void fields_keys(const struct fields *fields, struct buf *out);

#endif
