/* Libraries that are loaded at first use, so that neither the program's start nor its memory pays for what few runs need.
 *
 *     #define FUNCTIONS(X) X(sf_open_virtual) X(sf_close)
 *     typedef struct library { void *handle; FUNCTIONS(PITH_LIBRARY_MEMBER) } library;
 *     static const char *const names[] = {FUNCTIONS(PITH_LIBRARY_NAME) NULL};
 *     library l;
 *     PITH_TRY(pith_library_open(ctx, what, "libsndfile.so.1", "libsndfile1", names, &l));
 *     … l.sf_close(…) … pith_library_close(&l); */
#ifndef PITH_LIBRARY_H
#define PITH_LIBRARY_H

#include "base/base.h"

#define PITH_LIBRARY_MEMBER(name) __typeof__(&name) name;
#define PITH_LIBRARY_NAME(name) #name,

/** Load `file`.  library: a struct as above, its handle and a pointer for each of `names` (NULL ends them), in their order.
 *  @return PITH_E_UNSUPPORTED: not installed, or without one of them; the sentence begins with `what` and names the Debian
 *  package to install */
pith_status pith_library_open(pith_ctx *ctx, const char *what, const char *file, const char *package, const char *const *names, void *library);
/** Its functions are not used any more; the library itself stays loaded.  The handle becomes NULL; one that is NULL is
 *  allowed. */
void pith_library_close(void *library);

#endif
