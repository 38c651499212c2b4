/* err.c - error codes and sentences; see err.h. */
#include "common/err.h"

#include <stdarg.h>
#include <stdio.h>

int error_set(struct error *error, int code, const char *format, ...)
{
    if (error != NULL) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
    }
    return code;
}

const char *err_text(int code)
{
    switch (code) {
#define X(name, value, fault, text) \
    case value:                     \
        return text;
        ERR_TABLE(X)
#undef X
    }
    return "unknown error";
}
