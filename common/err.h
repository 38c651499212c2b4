/* err.h - every error code of drover, and the sentence that goes with one.
 *
 * Fallible functions return 0 or a negative code from ERR_TABLE. Code that reads what people or peers wrote
 * also fills a struct error: what, where, why, what to do, in one sentence. */
#ifndef DROVER_ERR_H
#define DROVER_ERR_H

/* name, value, whose fault, text */
#define ERR_TABLE(X)                                                  \
    X(ERR_SYNTAX, -1, USER, "malformed input")                        \
    X(ERR_RANGE, -2, USER, "value out of range")                      \
    X(ERR_LIMIT, -3, USER, "a limit is exceeded")                     \
    X(ERR_NOT_FOUND, -4, USER, "not found")                           \
    X(ERR_CONFLICT, -5, USER, "conflicts with what is already there") \
    X(ERR_LOCKED, -6, USER, "in use by another process")              \
    X(ERR_REFUSED, -7, USER, "refused")                               \
    X(ERR_PROTOCOL, -10, PEER, "a peer broke the protocol")           \
    X(ERR_VERSION, -11, PEER, "incompatible version")                 \
    X(ERR_CLOSED, -12, PEER, "the peer is gone")                      \
    X(ERR_TIMEOUT, -13, PEER, "no answer in time")                    \
    X(ERR_CORRUPT, -20, US, "stored data is damaged")                 \
    X(ERR_DISK_FULL, -21, US, "no space left on the disk")            \
    X(ERR_IO, -22, US, "input or output failed")                      \
    X(ERR_SYSTEM, -23, US, "the system refused a call")

enum err {
#define X(name, value, fault, text) name = (value),
    ERR_TABLE(X)
#undef X
};

struct error {
    char text[512];
};

/* Fills error (which may be NULL) with the formatted sentence and returns code. */
int error_set(struct error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The table's text for a code; "unknown error" for others. */
const char *err_text(int code);

#endif
