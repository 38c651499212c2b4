/* options.h - one row per option of a policy, backend, verifier: type, range, default, help.
 *
 * The rows check what a sweep file says, print `drover help` pages, and end up in doc/. */
#ifndef DROVER_OPTIONS_H
#define DROVER_OPTIONS_H

enum option_type {
    OPTION_INT,    /* whole number                                    */
    OPTION_REAL,   /* finite number                                   */
    OPTION_BOOL,   /* true or false, value 1 or 0                     */
    OPTION_CHOICE, /* one of `choices`, value = its index             */
    OPTION_TEXT,   /* any text up to `max` bytes (backends, verifiers) */
    OPTION_LIST,   /* list of texts, at most 16                       */
    OPTION_MAP,    /* map of text to text, at most 16 keys            */
};

struct option_row {
    const char *name; /* NULL ends a table */
    enum option_type type;
    double min, max, fallback; /* numbers; fallback is the default */
    const char *choices;       /* OPTION_CHOICE: "a|b|c"; OPTION_TEXT: the default or NULL when required */
    const char *help;          /* one sentence with the unit */
};

#define POLICY_OPTIONS_MAX 16

/* A backend or verifier as a sweep file may name it; the code that runs it is in worker/ and verifier/. */
struct kind {
    const char *name, *help;
    const struct option_row *options;
};

/* What the core and sweep files must know of a backend. */
enum {
    BACKEND_STEPS = 1,   /* can continue a path step by step */
    BACKEND_OFFERS = 2,  /* its workers tell what their servers offer */
    BACKEND_KILLS = 8,   /* ends a rollout whose confidence falls, and has windows of any length */
    BACKEND_PREFIX = 4,  /* reads a prompt again cheaply where it was read before */
    BACKEND_THINKS = 16, /* stops at the end of thinking, and goes on behind inline cues */
    BACKEND_TURNS = 32,  /* can be shown earlier attempts with an instruction behind each */
};
unsigned backend_has(const char *name); /* these bits; 0 for an unknown one */

extern const struct kind backend_kinds[], verifier_kinds[]; /* name NULL at the end; common/kinds.c */

#endif
