/* For tests of readers that call what they read "file". */
#ifndef PITH_TEST_SAYS_H
#define PITH_TEST_SAYS_H

#include "test.h"

/* The sentence names the file and has `part` in it. */
static inline void assert_says(pith_ctx *ctx, const char *part)
{
    if (strncmp(pith_error(ctx), "file", 4) != 0 || !strstr(pith_error(ctx), part)) fail_msg("\"%s\" does not say \"%s\"", pith_error(ctx), part);
}

#endif
