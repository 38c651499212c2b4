/* conf.h - YAML that people write, as a small tree with marks, and the tables that check it.
 *
 * One document of maps, lists and scalars; no anchors, aliases, tags or repeated keys, at most
 * LIMIT_CONF_DEPTH deep. A scalar stays text until a key's row says what it is, so `12x` is never
 * a 12. cluster.conf, sweep files and the options of policies, backends and verifiers are read by
 * one function from rows that also print their help.
 *
 * Every error is "FILE:LINE:COLUMN: sentence", or "override 'KEY=VALUE': sentence" for what came
 * from the command line. A key without a value (`key:`, null, ~) counts as not given. */
#ifndef DROVER_CONF_H
#define DROVER_CONF_H

#include "common/buf.h"
#include "common/err.h"
#include "common/options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where something was written. */
struct conf_mark {
    uint32_t line, column; /* from 1; columns count characters */
    const char *override;  /* the override that it came from, or NULL */
};

enum conf_kind { CONF_KIND_NULL, CONF_KIND_SCALAR, CONF_KIND_LIST, CONF_KIND_MAP };

struct conf_node {
    enum conf_kind kind;
    bool plain; /* scalar without quotes: only these can be numbers, true, false */
    struct conf_mark mark;
    const char *key; /* in a map; else NULL */
    struct conf_mark key_mark;
    const char *text;        /* of a scalar or null, NUL-terminated, without NUL inside */
    struct conf_node *first; /* children, in the order of the file */
    struct conf_node *last;
    struct conf_node *next;  /* sibling */
    uint32_t len;            /* children */
    struct conf_node *owned; /* all nodes of one conf */
};

struct conf {
    const char *file;       /* for messages; borrowed */
    struct conf_node *root; /* never NULL after conf_parse; CONF_KIND_NULL for an empty file */
    struct conf_node *owned;
};

/* Parses text; file (and later overrides) must outlive conf. ERR_SYNTAX, ERR_LIMIT, ERR_CONFLICT
 * (duplicate key). conf_clear is due after failure too. */
int conf_parse(struct conf *conf, struct slice text, const char *file, struct error *error);
void conf_clear(struct conf *conf);

/* Applies "a.b.c=VALUE"; VALUE is YAML. An element of a list is addressed by its `name`, missing
 * maps are made. under (or NULL) is a key of the root that the path starts below. */
int conf_override(struct conf *conf, const char *override, const char *under, struct error *error);

/* Child of a map, or NULL; also NULL when map is NULL or no map, and for a null value. */
const struct conf_node *conf_get(const struct conf_node *map, const char *key);

/* New node owned by conf with the marks, key, kind and text of like, without its children. */
struct conf_node *conf_node_like(struct conf *conf, const struct conf_node *like);
void conf_append(struct conf_node *parent, struct conf_node *child);

/* Fills error with the sentence after the mark's place, and returns code. */
int conf_error(const struct conf *conf, struct conf_mark mark, struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* "; did you mean 'x'?" or "; known are a, b, c": tries candidates against a misspelt word. */
struct conf_near {
    const char *word;
    const char *best;
    size_t distance;
    char text[256]; /* what conf_near_text returns */
    size_t len;
};

void conf_near_init(struct conf_near *near, const char *word);
void conf_near_try(struct conf_near *near, const char *candidate);
const char *conf_near_text(struct conf_near *near);

enum conf_type {
    CONF_INT,    /* whole number, 1e6 allowed                      */
    CONF_REAL,   /* finite number                                  */
    CONF_BOOL,   /* true or false                                  */
    CONF_CHOICE, /* one of `choices`                               */
    CONF_TEXT,   /* any scalar, at most `max` bytes                */
    CONF_TEXTS,  /* one text or a list of at most 16               */
    CONF_MAP,    /* text to text, at most 16; keys from `choices` if there are any */
    CONF_NODE,   /* anything: code looks further                   */
};

/* One row per key of a file. */
struct conf_key {
    const char *name; /* NULL ends a table */
    enum conf_type type;
    double min, max;      /* of numbers; max of texts: bytes, 0: LIMIT_CONF_SCALAR */
    const char *fallback; /* the default as a file would say it; NULL: required; "": none */
    const char *choices;  /* "a|b|c" */
    const char *unit;     /* or NULL */
    const char *help;     /* one sentence */
    const char *of;       /* "a|b": counts only where the nearest choice above it is one of these; NULL: always */
};

struct conf_value {
    bool given;
    uint64_t whole;                /* CONF_INT >= 0; CONF_BOOL: 0 or 1; CONF_CHOICE: index */
    double number;                 /* CONF_INT, CONF_REAL; as whole for the others */
    const char *text;              /* CONF_TEXT, CONF_CHOICE: borrowed; NULL: none */
    const struct conf_node *node;  /* as written, or NULL */
    const struct conf_node *items; /* CONF_TEXTS, CONF_MAP: items_len nodes linked by next */
    uint32_t items_len;
};

/* What one map may hold: keys, and beside them the rows of a policy, backend or verifier. */
struct conf_form {
    const char *what;                 /* for messages: "arm", "model", "option" */
    const struct conf_key *keys;      /* or NULL */
    struct conf_value *values;        /* one per key */
    const struct option_row *options; /* or NULL */
    struct conf_value *option_values; /* one per row */
    struct conf_mark at;              /* to blame when a required key is missing and there is no map */
};

/* Reads map (NULL: everything takes its default) into the form's values. ERR_SYNTAX: not a map,
 * unknown key, wrong type; ERR_RANGE; ERR_NOT_FOUND: a required key is missing. Values borrow from
 * conf and from the rows. */
int conf_read(const struct conf *conf, const struct conf_node *map, const struct conf_form *form, struct error *error);

/* Reads one value as a key's row says. */
int conf_read_value(const struct conf *conf, const struct conf_node *node, const struct conf_key *key,
                    struct conf_value *value, struct error *error);

/* Help pages: every row with type, range, default, unit. */
void conf_print_keys(const struct conf_key *keys, struct buf *out);
void conf_print_options(const struct option_row *options, struct buf *out);

#endif
